//! Turns a window of a run into a static picture of its lanes and its VRAM; the script redraws both when it may.
//!
//! ```text
//! compute  ███ 1 ███   ███ 2 ███        one row per lane that ran
//! h2d      ▒▒▒▒▒ 2 ▒▒▒▒
//! stalls             ╳╳                 waits of compute for a copy
//!          └─┴─┴─┴─┴─┴─┴─┴─┘ ms
//! VRAM     ▁▂▅▅▅▃▅▅▅▅▅▅ ┄┄ budget, peak, reserve
//! ```

use super::boundaries;
use super::markup::escape;
use crate::report::axis::{bytes_ticks, time_ticks};
use crate::report::held;
use crate::report::lists::Lists;
use crate::report::predicted::ghosts;
use crate::report::slices::{Window, envelope, merged_away, slices, stall_slices};
use crate::report::view::View;
use crate::units::{Bytes, Nanos};

/// Width of the static pictures, and of the column of lane names in them. `report.js` has the same.
const WIDTH: u32 = 1000;
const GUTTER: u32 = 76;
const PLOT: u32 = WIDTH - GUTTER - 12;
const ROW: u32 = 34;
const PITCH: u32 = 42;
/// Height of what shows the planned lane behind a row.
const GHOST: u32 = 36;
/// Height of what shows that collectives hold the link, below a row.
const HELD: u32 = 5;
const MEMORY: u32 = 150;

/// The lanes within a window, and how many spans have no mark of their own.
pub(super) fn lanes(
    view: &View<'_>,
    planned: Option<&View<'_>>,
    name: &str,
    window: Window,
) -> (String, u64) {
    let rows = rows(view);
    let height = rows * PITCH + 26;
    let mut out = format!(
        "<svg id=\"gantt\" class=\"chart zooms\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" \
         aria-labelledby=\"gantt-t\"><title id=\"gantt-t\">Timeline of {}: one row per lane, and stalls</title>\
         <g class=\"plot\">",
        escape(name)
    );
    let column = window.column(u64::from(PLOT));
    let mut merged = 0;
    let lists: Vec<Lists> = view.profile.header.components.iter().map(Lists::of).collect();
    for (row, lane) in (0u32..).zip(&view.summary.lanes) {
        let y = row * PITCH;
        out.push_str(&row_name(y, lane.lane.name()));
        if let Some(planned) = planned {
            // A little lower, so that what is as planned still shows.
            let ghosts = ghosts(view, planned, lane.lane, column);
            out.push_str(&strips(&ghosts, window, ("ghost", y + ROW + 6 - GHOST, GHOST)));
        }
        let held = held::held(view.profile, lane.lane, column);
        out.push_str(&strips(&held, window, ("held", y + ROW + 1, HELD)));
        let on_lane = slices(view.profile, lane.lane, window, column);
        merged += merged_away(&on_lane);
        for slice in &on_lane {
            let span = &view.profile.spans[slice.span];
            let block = view.block_name(span.component, span.block);
            let label = match slice.count {
                1 => format!("{block}, pass {}", span.pass),
                count => format!("{count} spans, the longest {block}, pass {}", span.pass),
            };
            let lists = lists.get(span.component as usize);
            let shade = lists.map_or(0, |lists| lists.shade(span.block));
            let texts = match lists {
                Some(lists) if slice.count == 1 => lists.label(span.block),
                _ => (String::new(), ""),
            };
            let class = (lane.lane.name(), format!("{} l{shade}", lane.lane.name()));
            let at = (slice.start, slice.end);
            let up = (y, slice.fill(ROW));
            out.push_str(&mark(window, up, at, (class.0, &class.1), &label, (&texts.0, texts.1)));
        }
    }
    let y = (rows - 1) * PITCH;
    out.push_str(&row_name(y, "stalls"));
    for slice in stall_slices(&view.stalls, window, column) {
        let stall = slice.stall;
        let block = view.block_name(stall.component, stall.block);
        let what = format!("{block}, pass {}, {}", stall.pass, stall.cause.name());
        let label = match slice.count {
            1 => what,
            count => format!("{count} stalls from {what}"),
        };
        let (at, up) = ((stall.needed_at, slice.end), (y, slice.fill(ROW)));
        out.push_str(&mark(window, up, at, ("stall", "stall"), &label, ("", "")));
    }
    out.push_str(&time_axis(window, rows * PITCH));
    let inside =
        |at: Nanos| (at > window.start && at < window.end).then(|| GUTTER + window.place(at, PLOT));
    out.push_str(&boundaries::lines(view, &inside, (0, rows * PITCH)));
    out.push_str("</g></svg>\n");
    (out, merged)
}

/// Intervals as rectangles of a class, from such a height on and so tall.
fn strips(
    intervals: &[(Nanos, Nanos)],
    window: Window,
    (class, y, height): (&str, u32, u32),
) -> String {
    let mut out = String::new();
    for &(start, end) in intervals {
        if start >= window.end || end <= window.start {
            continue;
        }
        let x = GUTTER + window.place(start, PLOT);
        let width = (GUTTER + window.place_end(end, PLOT)).saturating_sub(x).max(1);
        out.push_str(&format!(
            "<rect class=\"{class}\" x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\"/>"
        ));
    }
    out
}

/// One row per lane that ran, and one for stalls.
fn rows(view: &View<'_>) -> u32 {
    u32::try_from(view.summary.lanes.len()).unwrap_or(0) + 1
}

fn row_name(y: u32, name: &str) -> String {
    format!(
        "<text class=\"lane\" x=\"{}\" y=\"{}\" text-anchor=\"end\">{name}</text>",
        GUTTER - 8,
        y + ROW / 2 + 5
    )
}

/// One rectangle, at least one unit wide, that stands on its row's floor, with the first of its texts that fits.
/// `up` is the row's top and how much of the row it fills, `class` that of its text and its own.
fn mark(
    window: Window,
    up: (u32, u32),
    at: (Nanos, Nanos),
    class: (&str, &str),
    label: &str,
    texts: (&str, &str),
) -> String {
    let x = GUTTER + window.place(at.0, PLOT);
    let width = (GUTTER + window.place_end(at.1, PLOT)).saturating_sub(x).max(1);
    let thin = if width < 4 { " thin" } else { "" };
    let time = at.1.saturating_sub(at.0).human();
    let mut out = format!(
        "<rect class=\"{}{thin}\" x=\"{x}\" y=\"{}\" width=\"{width}\" height=\"{}\"><title>{}, {time}</title></rect>",
        class.1,
        up.0 + ROW - up.1,
        up.1,
        escape(label)
    );
    let fits = |text: &&str| !text.is_empty() && width as usize > 13 * text.chars().count() / 2 + 4;
    if let Some(text) = [texts.0, texts.1].into_iter().find(fits) {
        let (x, y) = (x + width / 2, up.0 + ROW / 2 + 4);
        out.push_str(&format!(
            "<text class=\"on-{}\" x=\"{x}\" y=\"{y}\" text-anchor=\"middle\">{}</text>",
            class.0,
            escape(text)
        ));
    }
    out
}

fn time_axis(window: Window, y: u32) -> String {
    let mut out = format!("<path class=\"axis\" d=\"M{GUTTER} {y}h{PLOT}\"/>");
    for tick in time_ticks(window.start, window.end, 9) {
        let x = GUTTER + window.place(tick.at, PLOT);
        let anchor = if x + 30 > WIDTH { "end" } else { "middle" };
        out.push_str(&format!(
            "<path class=\"axis\" d=\"M{x} {y}v5\"/><text class=\"tick\" x=\"{x}\" y=\"{}\" text-anchor=\"{anchor}\">{}</text>",
            y + 19,
            tick.label
        ));
    }
    out
}

/// VRAM in use within a window: reserve below, the slab's bytes in use on it, lines for budget and peak.
pub(super) fn memory(view: &View<'_>, name: &str, window: Window) -> String {
    let header = &view.profile.header;
    let peak = view.summary.peak;
    let top = Bytes::new(header.budget.max(peak).get() / 100)
        .saturating_mul(108)
        .saturating_add(Bytes::new(1));
    let up = |size: Bytes| {
        let height = u128::from(size.min(top).get()) * u128::from(MEMORY) / u128::from(top.get());
        MEMORY - u32::try_from(height).unwrap_or(MEMORY) + 4
    };
    let mut out = format!(
        "<svg id=\"vram\" class=\"chart\" viewBox=\"0 0 {WIDTH} {}\" role=\"img\" aria-labelledby=\"vram-t\">\
         <title id=\"vram-t\">VRAM in use over {}, against reserve, peak and budget</title><g class=\"plot\">",
        MEMORY + 30,
        escape(name)
    );
    for tick in bytes_ticks(top, 5) {
        let y = up(tick.at);
        out.push_str(&format!(
            "<path class=\"grid\" d=\"M{GUTTER} {y}h{PLOT}\"/><text class=\"tick\" x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>",
            GUTTER - 8, y + 4, tick.label
        ));
    }
    out.push_str(&area(view, window, &up));
    let floor = up(header.reserve);
    out.push_str(&format!(
        "<rect class=\"reserve\" x=\"{GUTTER}\" y=\"{floor}\" width=\"{PLOT}\" height=\"{}\"/>",
        MEMORY + 4 - floor
    ));
    let headroom = view.summary.headroom.human();
    let budget = format!("headroom {headroom} of budget {}", header.budget.human());
    out.push_str(&level(up(peak), "peak", &format!("peak {}", peak.human()), true));
    out.push_str(&level(up(header.budget), "budget", &budget, false));
    out.push_str(&time_axis(window, MEMORY + 4));
    out.push_str("</g></svg>\n");
    out
}

fn area(view: &View<'_>, window: Window, up: &dyn Fn(Bytes) -> u32) -> String {
    let reserve = view.profile.header.reserve;
    let mut path = format!("M{GUTTER} {}", up(reserve));
    for (at, in_use) in envelope(&view.profile.vram, window, window.column(u64::from(PLOT))) {
        let x = GUTTER + window.place(at, PLOT);
        path.push_str(&format!("H{x}V{}", up(reserve.saturating_add(in_use))));
    }
    path.push_str(&format!("H{}V{}Z", GUTTER + PLOT, up(reserve)));
    format!("<path class=\"inuse\" d=\"{path}\"/>")
}

/// A horizontal line with its name; peak and budget are often close, so one name stands left and one right.
fn level(y: u32, class: &str, label: &str, left: bool) -> String {
    let (x, anchor) = if left { (GUTTER + 6, "start") } else { (GUTTER + PLOT - 6, "end") };
    let text = if left { y + 14 } else { y.saturating_sub(4).max(10) };
    format!(
        "<path class=\"{class}\" d=\"M{GUTTER} {y}h{PLOT}\"/><text class=\"level\" x=\"{x}\" y=\"{text}\" text-anchor=\"{anchor}\">{label}</text>"
    )
}

/// The whole run in miniature: one line per lane, with the shown window marked.
pub(super) fn minimap(view: &View<'_>, shown: Window) -> String {
    let rows = rows(view);
    let height = rows * 9 + 4;
    let mut out = format!(
        "<svg id=\"minimap\" class=\"chart\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-labelledby=\"mini-t\">\
         <title id=\"mini-t\">The whole run with the shown window marked</title>"
    );
    let mut bar = |y: u32, start: Nanos, end: Nanos, fill: u32, class: &str| {
        let x = GUTTER + view.whole.place(start, PLOT);
        let width = (GUTTER + view.whole.place_end(end, PLOT)).saturating_sub(x).max(1);
        out.push_str(&format!(
            "<rect class=\"{class}\" x=\"{x}\" y=\"{}\" width=\"{width}\" height=\"{fill}\"/>",
            y + 7 - fill
        ));
    };
    let column = view.whole.column(u64::from(PLOT));
    for (row, lane) in (0u32..).zip(&view.summary.lanes) {
        for slice in slices(view.profile, lane.lane, view.whole, column) {
            bar(row * 9 + 2, slice.start, slice.end, slice.fill(7), lane.lane.name());
        }
    }
    for slice in stall_slices(&view.stalls, view.whole, column) {
        bar((rows - 1) * 9 + 2, slice.stall.needed_at, slice.end, slice.fill(7), "stall");
    }
    // As rectangles, which the script moves with the others.
    for one in boundaries::shown(view) {
        let x = GUTTER + view.whole.place(one.at, PLOT);
        out.push_str(&format!(
            "<rect class=\"boundary\" x=\"{x}\" y=\"0\" width=\"1\" height=\"{height}\"/>"
        ));
    }
    let x = GUTTER + view.whole.place(shown.start, PLOT);
    let width = (GUTTER + view.whole.place(shown.end, PLOT)).saturating_sub(x).max(2);
    out.push_str(&format!(
        "<text class=\"tick\" x=\"{}\" y=\"16\" text-anchor=\"end\">whole run</text>\
         <rect id=\"brush\" x=\"{x}\" y=\"0\" width=\"{width}\" height=\"{height}\"/></svg>\n",
        GUTTER - 8
    ));
    out
}
