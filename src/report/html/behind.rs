//! Turns the shown pass and the VRAM in use into the tables that stand behind the timeline and the memory chart.

use super::markup::{Cell, Column, Kind, paragraph, table};
use crate::profile::{Arrival, arrivals};
use crate::report::slices::Window;
use crate::report::view::{View, mib, ms};
use crate::units::{Bytes, Nanos};

/// Rows of a table at most; the CSV files have all.
const MOST_ROWS: usize = 300;

/// Every use of the shown pass with its copies: when it was needed, when it came, how much earlier.
pub(super) fn uses(view: &View<'_>, name: &str, window: Window) -> String {
    let inside =
        |one: &Arrival<'_>| one.consumer.start < window.end && one.consumer.end > window.start;
    let found: Vec<_> = arrivals(view.profile).into_iter().filter(inside).collect();
    let rows: Vec<_> = found.iter().take(MOST_ROWS).map(|one| row(view, one)).collect();
    if rows.is_empty() {
        return String::new();
    }
    let columns = [
        Column("block", Kind::Head),
        Column("pass", Kind::Number),
        Column("needed at ms", Kind::Number),
        Column("computes from ms", Kind::Number),
        Column("for ms", Kind::Number),
        Column("copied MiB", Kind::Number),
        Column("copy from ms", Kind::Number),
        Column("copy to ms", Kind::Number),
        Column("slack ms", Kind::Number),
    ];
    let caption = format!(
        "Every use of {name} and its copies ({}). Slack is how much earlier than needed the last byte came; below \
         zero, compute waited for it",
        view.summary.origin
    );
    let mut body = table(&caption, true, &columns, &rows);
    if found.len() > MOST_ROWS {
        let text = format!("{} more uses are in spans.csv.", found.len() - MOST_ROWS);
        body.push_str(&paragraph("note", &text));
    }
    format!(
        "<details><summary>The shown pass as a table, with the slack of every copy</summary>\n{body}</details>\n"
    )
}

fn row(view: &View<'_>, one: &Arrival<'_>) -> Vec<Cell> {
    let time = |time: Nanos| Cell::number(ms(time), time.get());
    let span = one.consumer;
    let bytes: Bytes = one.copies.iter().map(|copy| copy.bytes).sum();
    let first = one.copies.iter().map(|copy| copy.start).min();
    let none = || Cell::text("\u{2013}");
    vec![
        Cell::text(view.block_name(span.component, span.block)),
        Cell::number(span.pass.to_string(), u64::from(span.pass)),
        time(one.needed_at),
        time(span.start),
        time(span.duration()),
        if one.copies.is_empty() { none() } else { Cell::number(mib(bytes), bytes.get()) },
        first.map_or_else(none, time),
        one.arrived_at().map_or_else(none, time),
        one.slack().map_or_else(none, slack),
    ]
}

/// A signed time; sorted by how early it is.
fn slack(slack: i64) -> Cell {
    let sign = if slack < 0 { "\u{2212}" } else { "" };
    let text = format!("{sign}{}", ms(Nanos::new(slack.unsigned_abs())));
    // An order-preserving shift of signed to unsigned.
    Cell::number(text, slack.cast_unsigned() ^ (1 << 63))
}

/// The highest use of VRAM in every pass.
pub(super) fn memory(view: &View<'_>) -> String {
    let samples = &view.profile.vram;
    let reserve = view.profile.header.reserve;
    let highest = |window: Window| {
        let from = samples.partition_point(|sample| sample.at <= window.start);
        let inside = samples.get(from.saturating_sub(1)..).unwrap_or_default().iter();
        let inside = inside.take_while(|sample| sample.at < window.end);
        inside.map(|sample| (sample.in_use, std::cmp::Reverse(sample.at))).max()
    };
    let rows: Vec<_> = view
        .passes
        .iter()
        .take(MOST_ROWS)
        .map(|one| {
            let (in_use, at) = highest(one.window)
                .map_or((Bytes::ZERO, one.window.start), |(bytes, at)| (bytes, at.0));
            let total = reserve.saturating_add(in_use);
            vec![
                Cell::text(view.pass_name(one)),
                Cell::number(mib(in_use), in_use.get()),
                Cell::number(mib(total), total.get()),
                Cell::number(ms(at.max(one.window.start)), at.get()),
            ]
        })
        .collect();
    if rows.is_empty() {
        return String::new();
    }
    let columns = [
        Column("pass", Kind::Head),
        Column("slab in use, MiB", Kind::Number),
        Column("with reserve, MiB", Kind::Number),
        Column("first at ms", Kind::Number),
    ];
    let caption = format!(
        "Highest use of VRAM in every pass ({}): the slab holds {}, the budget is {}",
        view.summary.origin,
        view.profile.header.slab.human(),
        view.profile.header.budget.human()
    );
    let table = table(&caption, false, &columns, &rows);
    format!("<details><summary>VRAM per pass as a table</summary>\n{table}</details>\n")
}
