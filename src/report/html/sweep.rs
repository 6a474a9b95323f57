//! Turns a sweep into the page's frontier: pass time against VRAM, a line per policy and the bound, and their numbers.

use super::compare::{origin, summed};
use super::markup::{Cell, Column, Kind, escape, paragraph, section, table};
use crate::report::Extras;
use crate::report::axis::{bytes_ticks, time_ticks};
use crate::report::frontier::{Series, axis_note, series, times};
use crate::report::slices::Window;
use crate::report::view::{View, ms};
use crate::units::{Bytes, Nanos};

const WIDTH: u32 = 640;
const LEFT: u32 = 74;
const PLOT: u32 = 540;
const HEIGHT: u32 = 280;

/// Pass time against VRAM: the frontier of every policy, the bound, and the reported budget.
pub(super) fn sweep(view: &View<'_>, extras: &Extras) -> String {
    let lines = series(extras);
    if lines.is_empty() {
        return String::new();
    }
    let budget = view.profile.header.budget;
    let points = || lines.iter().flat_map(|line| &line.points);
    let low = points().map(|point| point.0).min().unwrap_or_default().min(budget);
    let high = points().map(|point| point.0).max().unwrap_or_default().max(budget);
    let across = Window { start: Nanos::new(low.get()), end: Nanos::new(high.get()) };
    let up = times(&lines);
    let at = |vram: Bytes, pass: Nanos| {
        (LEFT + across.place(Nanos::new(vram.get()), PLOT), 10 + HEIGHT - up.place(pass, HEIGHT))
    };
    let mut out = format!(
        "<div class=\"scroll\"><svg class=\"chart small\" viewBox=\"0 0 {WIDTH} {}\" role=\"img\" \
         aria-label=\"Pass time against VRAM budget per policy; the table below has the numbers\">",
        HEIGHT + 60
    );
    out.push_str(&sweep_axes(low, high, up, &at));
    let (x, _) = at(budget, Nanos::ZERO);
    let anchor = if x > LEFT + PLOT - 130 { "end" } else { "start" };
    let beside = if anchor == "end" { x - 6 } else { x + 6 };
    out.push_str(&format!(
        "<path class=\"budget\" d=\"M{x} 10V{}\"/><text class=\"level\" x=\"{beside}\" y=\"22\" text-anchor=\"{anchor}\">budget {}</text>",
        HEIGHT + 10,
        budget.human()
    ));
    for (index, line) in lines.iter().enumerate() {
        out.push_str(&sweep_line(index, line, &at));
    }
    out.push_str("</svg></div>\n");
    out.push_str(&axis_note(up).map_or(String::new(), |note| paragraph("note", &note)));
    out.push_str(&sweep_legend(&lines));
    out.push_str(&summed(view));
    out.push_str(&sweep_table(extras, &lines));
    section("sweep", "Pass time against VRAM", &out)
}

fn sweep_axes(
    low: Bytes,
    high: Bytes,
    up: Window,
    at: &dyn Fn(Bytes, Nanos) -> (u32, u32),
) -> String {
    let mut out = String::new();
    for tick in time_ticks(up.start, up.end, 6) {
        let (_, y) = at(low, tick.at);
        out.push_str(&format!(
            "<path class=\"grid\" d=\"M{LEFT} {y}h{PLOT}\"/><text class=\"tick\" x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>",
            LEFT - 8, y + 4, tick.label
        ));
    }
    for tick in bytes_ticks(high, 8).iter().filter(|tick| tick.at >= low) {
        let (x, y) = at(tick.at, Nanos::ZERO);
        out.push_str(&format!(
            "<path class=\"axis\" d=\"M{x} {y}v5\"/><text class=\"tick\" x=\"{x}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
            y + 19, tick.label
        ));
    }
    let middle = LEFT + PLOT / 2;
    out.push_str(&format!(
        "<text class=\"tick\" x=\"{middle}\" y=\"{}\" text-anchor=\"middle\">VRAM budget</text>",
        HEIGHT + 50
    ));
    out
}

fn class(index: usize, line: &Series) -> String {
    if line.is_bound { "s-bound".to_owned() } else { format!("s-{}", index % 7) }
}

/// Stroke width: a line below others is wider, so that all of them show.
fn stroke(line: &Series) -> u32 {
    2 + 2 * line.under.min(3)
}

fn sweep_line(index: usize, line: &Series, at: &dyn Fn(Bytes, Nanos) -> (u32, u32)) -> String {
    let class = class(index, line);
    let mut path = String::new();
    let mut marks = String::new();
    for (step, &(vram, pass)) in line.points.iter().enumerate() {
        let (x, y) = at(vram, pass);
        path.push_str(&format!("{}{x} {y}", if step == 0 { "M" } else { "L" }));
        let title = format!("{}, {}: {}", line.name, vram.human(), pass.human());
        if !line.is_bound {
            marks.push_str(&mark(index, &class, (x, y), 3 + line.under.min(3), &title));
        }
    }
    let width = stroke(line);
    format!("<path class=\"line {class}\" stroke-width=\"{width}\" d=\"{path}\"/>{marks}")
}

/// A circle, square, diamond or cross in turn, so that lines are told apart without colour.
fn mark(index: usize, class: &str, at: (u32, u32), r: u32, title: &str) -> String {
    let (x, y, d) = (at.0, at.1, 2 * r);
    let path = match index % 4 {
        0 => format!("M{} {y}a{r} {r} 0 1 0 {d} 0a{r} {r} 0 1 0 -{d} 0z", x.saturating_sub(r)),
        1 => format!("M{} {}h{d}v{d}h-{d}z", x.saturating_sub(r), y.saturating_sub(r)),
        2 => format!("M{x} {}l{r} {r}l-{r} {r}l-{r} -{r}z", y.saturating_sub(r)),
        _ => format!("M{x} {}v{d}M{} {y}h{d}", y.saturating_sub(r), x.saturating_sub(r)),
    };
    format!("<path class=\"mark {class}\" d=\"{path}\"><title>{}</title></path>", escape(title))
}

fn sweep_legend(lines: &[Series]) -> String {
    let mut out = String::from("<ul class=\"legend\">");
    for (index, line) in lines.iter().enumerate() {
        let class = class(index, line);
        let mark =
            if line.is_bound { String::new() } else { mark(index, &class, (20, 9), 4, &line.name) };
        out.push_str(&format!(
            "<li><svg width=\"40\" height=\"18\" aria-hidden=\"true\"><path class=\"line {class}\" stroke-width=\"{}\" \
             d=\"M0 9h40\"/>{mark}</svg> {}</li>",
            stroke(line),
            escape(&line.label())
        ));
    }
    out.push_str("</ul>\n");
    out
}

fn sweep_table(extras: &Extras, lines: &[Series]) -> String {
    let rows: Vec<_> = lines
        .iter()
        .flat_map(|line| {
            line.points.iter().map(move |&(vram, pass)| {
                vec![
                    Cell::text(line.name.clone()),
                    Cell::number(vram.human(), vram.get()),
                    Cell::number(ms(pass), pass.get()),
                ]
            })
        })
        .collect();
    let columns = [
        Column("policy", Kind::Head),
        Column("VRAM budget", Kind::Number),
        Column("pass ms", Kind::Number),
    ];
    let missing = extras.sweep.iter().filter(|row| row.pass.is_none()).count();
    let note = format!("{missing} pairs of policy and budget do not fit and have no row.");
    let origin = origin(extras);
    format!(
        "<details><summary>The numbers</summary>{}{}</details>\n",
        table(&format!("Steady pass time per budget ({origin})"), true, &columns, &rows),
        paragraph("note", &note)
    )
}
