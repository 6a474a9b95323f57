//! Turns a trace and its figures into one self-contained page: a timeline per device that zooms, and the tables behind
//! it. Without a script the timeline stands still and everything else is there.

use super::text::thousandths;
use super::{Foreign, MOST_DEVICES, data, lanes, verdict, window_rows};
use crate::profile::trace::{CopyGroup, Figures, Kind, Trace};
use crate::report::axis::time_ticks;
use crate::report::html::markup::{
    Cell, Column, Kind as Column_, escape, json_in_script, paragraph, section, table,
};
use crate::report::html::{STYLE, foreign_end, rates};
use crate::report::rates::{Rates, gigabytes};
use crate::report::view::ms;
use crate::units::{Fraction, Nanos};

/// The page.
pub(super) fn page(foreign: &Foreign<'_>) -> String {
    let title = format!("Copies and kernels in {}", foreign.file);
    let data = json_in_script(&data::data(foreign, MOST_DEVICES));
    let nonce = format!("{:016x}", xxhash_rust::xxh3::xxh3_64((title.clone() + &data).as_bytes()));
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; base-uri 'none'; \
         form-action 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>{} \u{2013} vramplan</title>\n\
         <style nonce=\"{nonce}\">\n{STYLE}</style>\n</head>\n<body>\n{}\
         <header><div><h1>{}</h1><p class=\"sub\">{} \u{b7} {} GPU rows \u{b7} times <b class=\"origin\">{}</b></p></div>\
         <button id=\"theme\" type=\"button\" hidden>Dark / light</button></header>\n<main>\n",
        escape(&title),
        crate::report::html::PATTERNS,
        escape(&title),
        foreign.trace.format.name(),
        foreign.trace.rows().len(),
        foreign.trace.origin,
    );
    // Pictures of many devices are coarser, so that the page stays small.
    let step = u32::try_from(foreign.devices.len().div_ceil(3)).unwrap_or(1).clamp(1, 5);
    for (id, figures) in foreign.devices.iter().take(MOST_DEVICES) {
        out.push_str(&device(foreign.trace, *id, figures, step));
    }
    out.push_str(&left_out(foreign));
    out.push_str("</main>\n");
    out.push_str(&foreign_end(&data, &nonce));
    out
}

fn device(trace: &Trace, id: i64, figures: &Figures, step: u32) -> String {
    let lines = verdict::verdict(figures);
    let mut body = String::from("<div class=\"verdict\" role=\"note\" aria-label=\"Verdict\">\n");
    for (index, line) in lines.iter().enumerate() {
        body.push_str(&paragraph(if index == 0 { "first" } else { "more" }, line));
    }
    body.push_str("</div>\n");
    body.push_str(&controls(id, figures));
    body.push_str(&timeline(trace, id, figures, step));
    body.push_str(&format!(
        "<output id=\"detail{id}\" class=\"detail\" aria-live=\"polite\" hidden></output>\n"
    ));
    body.push_str(&window(figures));
    body.push_str(&copies(figures));
    let rated = rates::chart_and_table(&Rates::of_trace(trace, id), trace.origin);
    if !rated.is_empty() {
        body.push_str("<h3>Copy rate by size</h3>\n");
        body.push_str(&rated);
    }
    let name = figures.name.as_ref().map_or(String::new(), |name| format!(": {name}"));
    section(&format!("gpu{id}"), &format!("GPU {id}{name}"), &body)
}

const WIDTH: u32 = 1000;
const GUTTER: u32 = 96;
const PLOT: u32 = WIDTH - GUTTER - 12;
const ROW: u32 = 34;
const PITCH: u32 = 42;

/// Shown by the script only.
fn controls(id: i64, figures: &Figures) -> String {
    let button = |what: &str, text: &str| {
        format!("<button type=\"button\" id=\"{what}{id}\">{text}</button>\n")
    };
    format!(
        "<div class=\"controls\" id=\"controls{id}\" hidden>\n{}{}{}{}{}<span class=\"keys\">Drag to pan. In the focused \
         timeline: \u{2190} \u{2192} next mark, \u{2191} \u{2193} other lane, + \u{2212} zoom, Shift + \u{2190} \u{2192} pan, \
         0 whole trace, Esc lets go</span></div>\n<p class=\"note\" id=\"shown{id}\">Shown: the whole trace, {}; \
         every column as high as it is busy.</p>\n",
        button("left", "\u{2039} Earlier"),
        button("right", "Later \u{203a}"),
        button("in", "Zoom in"),
        button("out", "Zoom out"),
        button("all", "Whole trace"),
        figures.window.human()
    )
}

/// Every column of every lane: how long its rows ran in it.
fn timeline(trace: &Trace, id: i64, figures: &Figures, step: u32) -> String {
    let window = lanes::window(trace, id, figures.window);
    let used = lanes::lanes(trace, id);
    let height = u32::try_from(used.len()).unwrap_or(0) * PITCH + 26;
    let mut out = format!(
        "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Timeline of GPU {id}\"><svg id=\"lanes{id}\" \
         class=\"chart zooms\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-labelledby=\"t{id}\">\
         <title id=\"t{id}\">Timeline of GPU {id}: a bar is as high as its column of time is busy; the table below has the sums</title><g class=\"plot\">"
    );
    for (row, (lane, rows)) in (0u32..).zip(&used) {
        out.push_str(&format!(
            "<text class=\"lane\" x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>",
            GUTTER - 8,
            row * PITCH + ROW / 2 + 5,
            lane.name
        ));
        let columns = lanes::columns(rows, window, PLOT / step, ROW);
        for (column, wide, tall) in widened(&columns) {
            out.push_str(&format!(
                "<rect class=\"{} thin\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{tall}\"/>",
                lane.class,
                GUTTER + column * step,
                row * PITCH + ROW - tall,
                wide * step
            ));
        }
    }
    let y = height - 26;
    out.push_str(&format!("<path class=\"axis\" d=\"M{GUTTER} {y}h{PLOT}\"/>"));
    for tick in time_ticks(Nanos::ZERO, figures.window, 9) {
        let x = GUTTER + window.place(tick.at.saturating_add(window.start), PLOT);
        let anchor = if x + 30 > WIDTH { "end" } else { "middle" };
        out.push_str(&format!(
            "<path class=\"axis\" d=\"M{x} {y}v5\"/><text class=\"tick\" x=\"{x}\" y=\"{}\" text-anchor=\"{anchor}\">{}</text>",
            y + 19,
            tick.label
        ));
    }
    out.push_str("</g></svg></div>\n");
    out
}

/// Neighbouring columns of one height as one bar: first column, columns, height.
fn widened(columns: &[(u32, u32)]) -> Vec<(u32, u32, u32)> {
    let mut bars: Vec<(u32, u32, u32)> = Vec::new();
    for &(column, tall) in columns {
        match bars.last_mut() {
            Some((from, wide, same)) if *from + *wide == column && *same == tall => *wide += 1,
            _ => bars.push((column, 1, tall)),
        }
    }
    bars
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
    let rows = window_rows(figures).map(|(name, time)| row(name, time));
    let columns = [
        Column("what", Column_::Head),
        Column("ms", Column_::Number),
        Column("% of window", Column_::Number),
    ];
    table("Where the window went; kinds overlap, busy and idle do not", true, &columns, &rows)
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
        true,
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
