//! Turns the figures of a run into the page's tables: ledger, stalls, passes, lanes.

use super::markup::{Cell, Column, Kind, escape, paragraph, section, table, table_with_rest};
use crate::profile::{ComponentSummary, best_rate, by_cause, rate};
use crate::report::view::{View, mib, ms, signed_percent};
use crate::units::{Fraction, Nanos};

/// Rows of a table at most; what is left out is counted, and is in the CSV.
const MOST_ROWS: usize = 300;

/// Where the makespan went: a bar and the table behind it, which sums.
pub(super) fn ledger(view: &View<'_>) -> String {
    let ledger = &view.summary.ledger;
    let parts = [
        ("compute busy", "compute", ledger.compute),
        ("stall, cold start (first pass)", "cold", ledger.stall_cold),
        ("stall, steady (later passes)", "stall", ledger.stall_steady),
        ("idle, waiting for the host", "host", ledger.idle_host),
        ("other idle", "idle", ledger.idle_other),
    ];
    let makespan = view.summary.makespan;
    let mut bar = String::from(
        "<svg class=\"chart bar\" viewBox=\"0 0 1000 34\" preserveAspectRatio=\"none\" role=\"img\" \
         aria-label=\"Share of the makespan per part; the table below has the numbers\">",
    );
    let mut x = 0u64;
    for (name, class, time) in parts {
        let width = Fraction::of(time.get(), makespan.get()).share_of(1000);
        if width > 0 {
            bar.push_str(&format!(
                "<rect class=\"{class}\" x=\"{x}\" y=\"0\" width=\"{width}\" height=\"34\"><title>{}: {}</title></rect>",
                escape(name),
                time.human()
            ));
        }
        x += width;
    }
    bar.push_str("</svg>\n");
    let row = |name: &str, time: Nanos| {
        let share = view.of_makespan(time);
        vec![Cell::text(name), Cell::number(ms(time), time.get()), Cell::number(share, time.get())]
    };
    let mut rows: Vec<_> = parts.iter().map(|(name, _, time)| row(name, *time)).collect();
    rows.push(row("sum = makespan", ledger.total()));
    let columns = [
        Column("part", Kind::Head),
        Column("ms", Kind::Number),
        Column("% of makespan", Kind::Number),
    ];
    let origin = view.summary.origin;
    let caption = format!("Where the makespan went ({origin}); the parts sum to it exactly");
    section("ledger", "Ledger", &(bar + &table(&caption, false, &columns, &rows)))
}

/// Stalls per block with cause and advice, and per cause.
pub(super) fn stalls(view: &View<'_>) -> String {
    if view.stalls.is_empty() {
        let text = "Compute never waited for a copy.";
        return section("stalls", "Stalls", &paragraph("note", text));
    }
    let total = view.summary.stall;
    let share = |time: Nanos| Fraction::of(time.get(), total.get()).percent();
    let causes: Vec<_> = by_cause(&view.stalls)
        .into_iter()
        .map(|(cause, count, time)| {
            vec![
                Cell::text(cause.name()),
                Cell::number(count.to_string(), count),
                Cell::number(ms(time), time.get()),
                Cell::number(share(time), time.get()),
                Cell::text(view.advice(cause)),
            ]
        })
        .collect();
    let columns = [
        Column("cause", Kind::Head),
        Column("late uses", Kind::Number),
        Column("ms", Kind::Number),
        Column("% of stall", Kind::Number),
        Column("what would help", Kind::Text),
    ];
    let mut body = table("Stall per cause", false, &columns, &causes);
    body.push_str(&stalls_per_block(view, &share));
    section("stalls", "Stalls", &body)
}

fn stalls_per_block(view: &View<'_>, share: &dyn Fn(Nanos) -> String) -> String {
    let best = best_rate(view.profile);
    let rows: Vec<_> = view
        .blocks
        .iter()
        .take(MOST_ROWS)
        .map(|block| {
            let worst = &block.worst;
            vec![
                Cell::text(view.block_name(block.component, block.block)),
                Cell::number(block.count.to_string(), block.count),
                Cell::number(ms(block.total), block.total.get()),
                Cell::number(share(block.total), block.total.get()),
                Cell::number(ms(worst.late_by), worst.late_by.get()),
                Cell::number(worst.pass.to_string(), u64::from(worst.pass)),
                Cell::number(ms(worst.needed_at), worst.needed_at.get()),
                Cell::number(ms(worst.arrived_at), worst.arrived_at.get()),
                Cell::number(mib(worst.bytes), worst.bytes.get()),
                Cell::number(worst.rate.human(), worst.rate.get()),
                Cell::text(block.main_cause().name()),
            ]
        })
        .collect();
    let columns = [
        Column("block", Kind::Head),
        Column("late uses", Kind::Number),
        Column("total ms", Kind::Number),
        Column("% of stall", Kind::Number),
        Column("worst ms", Kind::Number),
        Column("in pass", Kind::Number),
        Column("needed at ms", Kind::Number),
        Column("arrived at ms", Kind::Number),
        Column("copied MiB", Kind::Number),
        Column("at rate", Kind::Number),
        Column("main cause", Kind::Text),
    ];
    let caption = format!(
        "Stall per block, over all passes; the right half describes the worst use. Best rate of any copy in this run: {} ({})",
        best.human(),
        view.summary.origin
    );
    let rest = view.blocks.get(MOST_ROWS..).filter(|rest| !rest.is_empty()).map(|rest| {
        let time: Nanos = rest.iter().map(|one| one.total).sum();
        let uses: u64 = rest.iter().map(|one| one.count).sum();
        let many = if rest.len() == 1 { "block" } else { "blocks" };
        vec![
            Cell::text(format!("and {} more {many}", rest.len())),
            Cell::number(uses.to_string(), uses),
            Cell::number(ms(time), time.get()),
            Cell::number(share(time), time.get()),
        ]
    });
    table_with_rest(&caption, true, &columns, &rows, rest.as_deref())
}

fn left_out(count: usize, what: &str) -> String {
    match count.saturating_sub(MOST_ROWS) {
        0 => String::new(),
        more => paragraph("note", &format!("{more} more {what} are not listed here.")),
    }
}

/// Pass times against prediction; passes of equal time share a row.
pub(super) fn passes(view: &View<'_>, planned: Option<&View<'_>>) -> String {
    let mut rows = Vec::new();
    let components = view.summary.components.iter().zip(&view.profile.header.components);
    for (component, header) in components {
        let prediction = header.prediction.as_ref();
        for (first, last, time) in runs_of_equal(component) {
            let cut = !view.summary.complete
                && component.whole < component.passes.len() as u64
                && last + 1 == component.passes.len();
            let mut passes = (first..=last).filter_map(|pass| u32::try_from(pass).ok());
            let less = passes.any(|pass| header.leaves_out(pass));
            // Of passes beside those that leave blocks out, the planned run says what to expect.
            let index = view.summary.components.iter().position(|one| one.name == component.name);
            let own = planned.zip(index).and_then(|(planned, index)| {
                planned.summary.components.get(index)?.passes.get(first).copied()
            });
            let steady = prediction.map(|one| if first == 0 { one.first_pass } else { one.pass });
            let predicted = if header.skipped.is_some() { own } else { steady };
            let predicted = predicted.filter(|_| !cut);
            let named = match first == last {
                true if cut => format!("{first}, cut short"),
                true if less => format!("{first}, blocks left out"),
                true => first.to_string(),
                false if less => format!("{first}\u{2013}{last}, blocks left out"),
                false => format!("{first}\u{2013}{last}"),
            };
            rows.push(vec![
                Cell::text(component.name.clone()),
                Cell::number(named, first as u64),
                Cell::number(ms(time), time.get()),
                predicted.map_or(Cell::text("n/a"), |time| Cell::number(ms(time), time.get())),
                Cell::text(predicted.map_or("n/a".into(), |other| signed_percent(time, other))),
            ]);
        }
    }
    let count = rows.len();
    rows.truncate(MOST_ROWS);
    let columns = [
        Column("component", Kind::Head),
        Column("pass", Kind::Number),
        Column("ms", Kind::Number),
        Column("predicted ms", Kind::Number),
        Column("error, % of predicted", Kind::Number),
    ];
    let caption = format!(
        "Pass times ({}) against the plan's prediction (estimated); passes of equal time share a row",
        view.summary.origin
    );
    section(
        "passes",
        "Passes",
        &(table(&caption, false, &columns, &rows) + &left_out(count, "rows")),
    )
}

/// Runs of passes with the same time; the first pass always stands alone, for it has its own prediction.
fn runs_of_equal(component: &ComponentSummary) -> Vec<(usize, usize, Nanos)> {
    let mut runs: Vec<(usize, usize, Nanos)> = Vec::new();
    for (pass, &time) in component.passes.iter().enumerate() {
        match runs.last_mut() {
            Some(run) if pass > 1 && run.2 == time => run.1 = pass,
            _ => runs.push((pass, pass, time)),
        }
    }
    runs
}

/// What every lane did.
pub(super) fn lanes(view: &View<'_>) -> String {
    let row = |lane: &crate::profile::LaneSummary| {
        let moves = !lane.bytes.is_zero();
        let mean = rate(lane.bytes, lane.busy);
        vec![
            Cell::text(lane.lane.name()),
            Cell::number(lane.spans.to_string(), lane.spans),
            Cell::number(ms(lane.busy), lane.busy.get()),
            Cell::number(lane.utilisation.percent(), lane.utilisation.ppm()),
            Cell::text(if moves { lane.bytes.human() } else { "\u{2013}".into() }),
            Cell::text(if moves { mean.human() } else { "\u{2013}".into() }),
        ]
    };
    let rows: Vec<_> = view.summary.lanes.iter().map(row).collect();
    let columns = [
        Column("lane", Kind::Head),
        Column("spans", Kind::Number),
        Column("busy ms", Kind::Number),
        Column("busy, % of makespan", Kind::Number),
        Column("bytes", Kind::Number),
        Column("bytes \u{f7} busy", Kind::Number),
    ];
    let caption = format!("What each lane did ({})", view.summary.origin);
    section("lanes", "Lanes", &table(&caption, false, &columns, &rows))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::{BlockStalls, fixture};

    #[test]
    fn blocks_beyond_the_last_row_are_summed_in_one() {
        let profile = fixture::small();
        let mut view = View::of(&profile);
        let one: BlockStalls = view.blocks[0].clone();
        view.blocks = vec![one; MOST_ROWS];
        assert!(!stalls(&view).contains("more block"));
        view.blocks.extend(View::of(&profile).blocks);
        let total: Nanos = view.blocks[MOST_ROWS..].iter().map(|one| one.total).sum();
        let more = view.blocks.len() - MOST_ROWS;
        let page = stalls(&view);
        assert!(page.contains(&format!("<th scope=\"row\">and {more} more blocks</th>")), "{page}");
        assert!(page.contains(&format!(">{}</td>", ms(total))));
    }

    #[test]
    fn passes_of_equal_time_share_a_row_but_the_first_stands_alone() {
        let times = [9, 9, 9, 7, 7].map(Nanos::new);
        let component = ComponentSummary {
            name: "a".into(),
            passes: times.to_vec(),
            steady: Nanos::new(9),
            whole: 5,
            start: Nanos::ZERO,
            quartiles: (Nanos::ZERO, Nanos::ZERO),
        };
        let runs: Vec<_> = runs_of_equal(&component).iter().map(|run| (run.0, run.1)).collect();
        assert_eq!(runs, [(0, 0), (1, 2), (3, 4)]);
    }
}
