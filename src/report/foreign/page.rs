//! Turns a trace and its figures into one self-contained page without a script: a timeline per device and the tables
//! behind it.

use super::text::{gigabytes, thousandths};
use super::{Foreign, verdict};
use crate::profile::trace::{CopyGroup, Figures, Kind, Row, Trace};
use crate::report::axis::time_ticks;
use crate::report::html::STYLE;
use crate::report::html::markup::{
    Cell, Column, Kind as Column_, escape, paragraph, section, table,
};
use crate::report::slices::Window;
use crate::report::view::ms;
use crate::units::{Fraction, Nanos};

/// The rows of a timeline, and the classes of the style sheet that draw them.
const LANES: [(&str, &str, &[Kind]); 6] = [
    ("compute", "compute", &[Kind::Compute]),
    ("NCCL", "disk", &[Kind::Nccl]),
    ("HtoD", "h2d", &[Kind::Htod]),
    ("DtoH", "d2h", &[Kind::Dtoh]),
    ("other copies", "host", &[Kind::Dtod, Kind::Ptop, Kind::OtherCopy]),
    ("memset", "reserve", &[Kind::Memset]),
];

/// Devices with a section of their own.
const MOST_DEVICES: usize = 16;

/// The page.
pub(super) fn page(foreign: &Foreign<'_>) -> String {
    let title = format!("Copies and kernels in {}", foreign.file);
    let nonce = format!("{:016x}", xxhash_rust::xxh3::xxh3_64(title.as_bytes()));
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; base-uri 'none'; \
         form-action 'none'; style-src 'nonce-{nonce}'\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>{} \u{2013} vramplan</title>\n\
         <style nonce=\"{nonce}\">\n{STYLE}</style>\n</head>\n<body>\n{}\
         <header><div><h1>{}</h1><p class=\"sub\">{} \u{b7} {} GPU rows \u{b7} times <b class=\"origin\">{}</b></p></div></header>\n<main>\n",
        escape(&title),
        crate::report::html::PATTERNS,
        escape(&title),
        foreign.trace.format.name(),
        foreign.trace.rows().len(),
        foreign.trace.origin,
    );
    for (id, figures) in foreign.devices.iter().take(MOST_DEVICES) {
        out.push_str(&device(foreign.trace, *id, figures));
    }
    out.push_str(&left_out(foreign));
    out.push_str("</main>\n</body>\n</html>\n");
    out
}

fn device(trace: &Trace, id: i64, figures: &Figures) -> String {
    let lines = verdict::verdict(figures);
    let mut body = String::from("<div class=\"verdict\" role=\"note\" aria-label=\"Verdict\">\n");
    for (index, line) in lines.iter().enumerate() {
        body.push_str(&paragraph(if index == 0 { "first" } else { "more" }, line));
    }
    body.push_str("</div>\n");
    body.push_str(&timeline(trace, id, figures));
    body.push_str(&window(figures));
    body.push_str(&copies(figures));
    let name = figures.name.as_ref().map_or(String::new(), |name| format!(": {name}"));
    section(&format!("gpu{id}"), &format!("GPU {id}{name}"), &body)
}

const WIDTH: u32 = 1000;
const GUTTER: u32 = 96;
const PLOT: u32 = WIDTH - GUTTER - 12;
const ROW: u32 = 26;
const PITCH: u32 = 32;

/// One column of one row: how long its rows ran in it.
fn timeline(trace: &Trace, id: i64, figures: &Figures) -> String {
    let rows = trace.rows_of(id);
    let start = rows.first().map_or(Nanos::ZERO, Row::start);
    let window = Window { start, end: start.saturating_add(figures.window) };
    let used = LANES
        .iter()
        .filter(|(_, _, kinds)| rows.iter().any(|row| kinds.contains(&trace.label(row).kind)));
    let used: Vec<_> = used.collect();
    let height = u32::try_from(used.len()).unwrap_or(0) * PITCH + 26;
    let mut out = format!(
        "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Timeline of GPU {id}\"><svg class=\"chart\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-labelledby=\"t{id}\">\
         <title id=\"t{id}\">Timeline of GPU {id}: a bar is as high as its column of time is busy; the table below has the sums</title>"
    );
    for (row, (name, class, kinds)) in (0u32..).zip(&used) {
        out.push_str(&format!(
            "<text class=\"lane\" x=\"{}\" y=\"{}\" text-anchor=\"end\">{name}</text>",
            GUTTER - 8,
            row * PITCH + ROW / 2 + 5
        ));
        let of_lane = rows.iter().filter(|row| kinds.contains(&trace.label(row).kind));
        for (column, busy) in columns(of_lane, window) {
            let tall = u64::from(ROW) * busy / window.column(u64::from(PLOT)).get().max(1);
            let tall = u32::try_from(tall).unwrap_or(ROW).clamp(1, ROW);
            out.push_str(&format!(
                "<rect class=\"{class} thin\" x=\"{}\" y=\"{}\" width=\"1\" height=\"{tall}\"/>",
                GUTTER + column,
                row * PITCH + ROW - tall
            ));
        }
    }
    let y = height - 26;
    out.push_str(&format!("<path class=\"axis\" d=\"M{GUTTER} {y}h{PLOT}\"/>"));
    for tick in time_ticks(Nanos::ZERO, figures.window, 9) {
        let x = GUTTER + window.place(tick.at.saturating_add(start), PLOT);
        let anchor = if x + 30 > WIDTH { "end" } else { "middle" };
        out.push_str(&format!(
            "<path class=\"axis\" d=\"M{x} {y}v5\"/><text class=\"tick\" x=\"{x}\" y=\"{}\" text-anchor=\"{anchor}\">{}</text>",
            y + 19,
            tick.label
        ));
    }
    out.push_str("</svg></div>\n");
    out
}

/// Busy nanoseconds per column, columns without any left out. Rows come by start; time is counted once.
fn columns<'a>(rows: impl Iterator<Item = &'a Row>, window: Window) -> Vec<(u32, u64)> {
    let mut busy = vec![0u64; PLOT as usize + 1];
    let edge = |column: u32| {
        let part = u128::from(window.length()) * u128::from(column) / u128::from(PLOT);
        window.start.get() + u64::try_from(part).unwrap_or(0)
    };
    let mut done = window.start;
    for row in rows {
        let (start, end) = (row.start().max(done), row.end());
        done = done.max(end);
        if start >= end {
            continue;
        }
        let (first, last) = (window.place(start, PLOT), window.place(end, PLOT));
        for column in first..=last.min(PLOT) {
            let (from, to) = (edge(column).max(start.get()), edge(column + 1).min(end.get()));
            if let Some(sum) = busy.get_mut(column as usize) {
                *sum += to.saturating_sub(from);
            }
        }
    }
    (0u32..).zip(busy).filter(|(_, busy)| *busy > 0).collect()
}

fn window(figures: &Figures) -> String {
    let share = |time: Nanos, of: Nanos| Fraction::of(time.get(), of.get());
    let row = |name: &str, time: Nanos| {
        let of = share(time, figures.window);
        vec![
            Cell::text(name),
            Cell::number(ms(time), time.get()),
            Cell::number(of.percent(), of.ppm()),
        ]
    };
    let rows = [
        row("kernels busy", figures.kernel_busy),
        row("of it NCCL", figures.nccl_busy),
        row("HtoD copies busy", figures.htod_busy),
        row("of it behind any kernel", figures.kernel_and_htod),
        row("of it behind compute kernels", figures.compute_and_htod),
        row("of it exposed", figures.htod_exposed),
        row("DtoH copies busy", figures.dtoh_busy),
        row("DtoD copies busy", figures.dtod_busy),
        row("memsets busy", figures.memset_busy),
        row("anything busy", figures.busy),
        row("idle", figures.idle),
        row("window = busy + idle", figures.window),
    ];
    let columns = [
        Column("what", Column_::Head),
        Column("ms", Column_::Number),
        Column("% of window", Column_::Number),
    ];
    table("Where the window went; kinds overlap, busy and idle do not", false, &columns, &rows)
}

fn copies(figures: &Figures) -> String {
    if figures.copies.is_empty() {
        return String::new();
    }
    let row = |group: &CopyGroup| {
        let hidden = Fraction::of(group.hidden.get(), group.time.get());
        let rate = |rate: crate::units::Rate| match rate.is_zero() {
            true => Cell::text("n/a"),
            false => Cell::number(gigabytes(rate), rate.get()),
        };
        vec![
            Cell::text(group.direction.name()),
            Cell::text(match group.direction {
                Kind::Htod | Kind::Dtoh => group.memory.name(),
                _ => "",
            }),
            Cell::text(group.size.name()),
            Cell::number(group.count.to_string(), group.count),
            Cell::number(thousandths(group.bytes.get(), 1_000_000), group.bytes.get()),
            Cell::number(ms(group.time), group.time.get()),
            Cell::number(hidden.percent(), hidden.ppm()),
            rate(group.rate),
            rate(group.slowest),
            rate(group.fastest),
        ]
    };
    let rows: Vec<_> = figures.copies.iter().map(row).collect();
    let columns = [
        Column("copy", Column_::Head),
        Column("host memory", Column_::Text),
        Column("size", Column_::Text),
        Column("count", Column_::Number),
        Column("GB", Column_::Number),
        Column("ms", Column_::Number),
        Column("hidden, % of ms", Column_::Number),
        Column("GB/s", Column_::Number),
        Column("slowest", Column_::Number),
        Column("fastest", Column_::Number),
    ];
    table(
        "Copies by direction, host memory and size; GB/s is bytes over time, decimal",
        false,
        &columns,
        &rows,
    )
}

fn left_out(foreign: &Foreign<'_>) -> String {
    let mut body = String::from("<ul>\n");
    for warning in foreign.warnings() {
        body.push_str(&format!("<li>{}</li>\n", escape(&warning)));
    }
    for (category, count) in &foreign.trace.left_out.other_events {
        body.push_str(&format!(
            "<li>{count} events of category {}: no GPU work</li>\n",
            escape(category)
        ));
    }
    if foreign.devices.len() > MOST_DEVICES {
        let more = foreign.devices.len() - MOST_DEVICES;
        body.push_str(&format!("<li>{more} more devices: summary.json has them</li>\n"));
    }
    body.push_str("<li>Every row that counts stands in spans.csv.</li>\n</ul>\n");
    section("left-out", "What was left out", &body)
}
