//! Turns several runs, several policies and several budgets into tables and charts that stand side by side.

use super::markup::{Cell, Column, Kind, escape, paragraph, section, table};
use crate::figures::Origin;
use crate::report::Extras;
use crate::report::axis::{bytes_ticks, time_ticks};
use crate::report::frontier::{Series, series};
use crate::report::runs::makespans;
use crate::report::slices::Window;
use crate::report::view::{SUMMED, View, mib, ms, signed_percent};
use crate::units::{Bytes, Nanos};

/// The main run beside the others; nothing for a single run.
pub(super) fn runs(views: &[View<'_>]) -> String {
    let [main, _, ..] = views else { return String::new() };
    let row = |(index, view): (usize, &View<'_>)| {
        let (summary, header) = (&view.summary, &view.profile.header);
        vec![
            Cell::text(format!("{}. {}", index + 1, header.model)),
            Cell::text(header.device.clone()),
            Cell::text(summary.origin.to_string()),
            Cell::number(header.budget.human(), header.budget.get()),
            Cell::number(summary.peak.human(), summary.peak.get()),
            Cell::number(ms(steady(view)), steady(view).get()),
            Cell::number(ms(summary.makespan), summary.makespan.get()),
            Cell::text(makespans(main, view)),
            Cell::number(summary.overlap_fraction.percent(), summary.overlap_fraction.ppm()),
            Cell::number(ms(summary.stall), summary.stall.get()),
        ]
    };
    let rows: Vec<_> = views.iter().enumerate().map(row).collect();
    let columns = [
        Column("run", Kind::Head),
        Column("device", Kind::Text),
        Column("origin", Kind::Text),
        Column("budget", Kind::Number),
        Column("peak", Kind::Number),
        Column("steady pass ms", Kind::Number),
        Column("makespan ms", Kind::Number),
        Column("against run 1's makespan", Kind::Text),
        Column("hidden, % of H2D busy", Kind::Number),
        Column("stall ms", Kind::Number),
    ];
    section(
        "runs",
        "Runs compared",
        &table("Every run given, the first one reported above", true, &columns, &rows),
    )
}

fn steady(view: &View<'_>) -> Nanos {
    view.summary.components.get(view.main()).map_or(Nanos::ZERO, |component| component.steady)
}

fn origin(extras: &Extras) -> Origin {
    extras.origin.unwrap_or(Origin::Estimated)
}

/// Policies under one budget: bars with the bound drawn through them, and the table behind.
pub(super) fn policies(view: &View<'_>, extras: &Extras) -> String {
    if extras.policies.is_empty() {
        return String::new();
    }
    let origin = origin(extras);
    let chosen = |policy: &str| extras.chosen.as_deref() == Some(policy);
    let rows: Vec<_> = extras
        .policies
        .iter()
        .map(|row| {
            let name = if chosen(&row.policy) {
                format!("{} \u{2605}", row.policy)
            } else {
                row.policy.clone()
            };
            let above = extras.bound.map_or("n/a".into(), |bound| signed_percent(row.pass, bound));
            vec![
                Cell::text(name),
                Cell::text(row.parameters.clone()),
                Cell::number(ms(row.pass), row.pass.get()),
                Cell::text(above),
                Cell::number(mib(row.peak), row.peak.get()),
                Cell::number(mib(row.bytes_per_pass), row.bytes_per_pass.get()),
                Cell::text(if row.fits { "yes" } else { "no" }),
            ]
        })
        .collect();
    let columns = [
        Column("policy", Kind::Head),
        Column("setting", Kind::Text),
        Column("pass ms", Kind::Number),
        Column("above the bound, %", Kind::Number),
        Column("peak MiB", Kind::Number),
        Column("MiB per pass", Kind::Number),
        Column("fits", Kind::Text),
    ];
    let caption = format!(
        "Every policy at its best setting under {} ({origin}); \u{2605} is the run above",
        view.profile.header.budget.human()
    );
    let body = policy_bars(extras) + &table(&caption, true, &columns, &rows) + &summed(view);
    section("policies", "Policies", &body)
}

/// What a pass time is where several components run.
fn summed(view: &View<'_>) -> String {
    if view.summary.components.len() > 1 { paragraph("note", SUMMED) } else { String::new() }
}

fn policy_bars(extras: &Extras) -> String {
    let longest = extras.policies.iter().map(|row| row.pass).max().unwrap_or(Nanos::ZERO);
    let window =
        Window { start: Nanos::ZERO, end: longest.max(extras.bound.unwrap_or(Nanos::ZERO)) };
    let (left, plot) = (210u32, 680u32);
    let count = u32::try_from(extras.policies.len()).unwrap_or(u32::MAX).min(200);
    let bottom = count * 26 + 22;
    let mut out = format!(
        "<div class=\"scroll\"><svg class=\"chart\" viewBox=\"0 0 1000 {}\" role=\"img\" \
         aria-label=\"Pass time per policy; the table below has the numbers\">",
        bottom + 26
    );
    for (index, row) in (0..count).zip(&extras.policies) {
        let y = index * 26 + 20;
        let width = window.place(row.pass, plot).max(1);
        let own = extras.chosen.as_deref() == Some(row.policy.as_str());
        let class = if !row.fits {
            "misfit"
        } else if own {
            "compute"
        } else {
            "other"
        };
        let note = if row.fits { "" } else { ", does not fit" };
        out.push_str(&format!(
            "<text class=\"lane\" x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>\
             <rect class=\"{class}\" x=\"{left}\" y=\"{y}\" width=\"{width}\" height=\"18\"/>\
             <text class=\"tick\" x=\"{}\" y=\"{}\">{}{note}</text>",
            left - 8,
            y + 14,
            escape(&row.policy),
            left + width + 6,
            y + 14,
            row.pass.human()
        ));
    }
    if let Some(bound) = extras.bound {
        let x = left + window.place(bound, plot);
        out.push_str(&format!(
            "<path class=\"budget\" d=\"M{x} 14V{bottom}\"/><text class=\"level\" x=\"{x}\" y=\"11\" \
             text-anchor=\"middle\">bound {}</text>",
            bound.human()
        ));
    }
    for tick in time_ticks(window.start, window.end, 6) {
        let x = left + window.place(tick.at, plot);
        out.push_str(&format!(
            "<text class=\"tick\" x=\"{x}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
            bottom + 18,
            tick.label
        ));
    }
    out.push_str("</svg></div>\n");
    out
}

const LEFT: u32 = 90;
const PLOT: u32 = 860;
const HEIGHT: u32 = 300;

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
    let longest = points().map(|point| point.1).max().unwrap_or_default();
    let across = Window { start: Nanos::new(low.get()), end: Nanos::new(high.get()) };
    let up = Window {
        start: Nanos::ZERO,
        end: Nanos::new((longest.get() / 100).saturating_mul(105).saturating_add(1)),
    };
    let at = |vram: Bytes, pass: Nanos| {
        (LEFT + across.place(Nanos::new(vram.get()), PLOT), 10 + HEIGHT - up.place(pass, HEIGHT))
    };
    let mut out = format!(
        "<div class=\"scroll\"><svg class=\"chart\" viewBox=\"0 0 1000 {}\" role=\"img\" aria-label=\"Pass time \
         against VRAM budget per policy; the table below has the numbers\">",
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
    for tick in bytes_ticks(high, 12).iter().filter(|tick| tick.at >= low) {
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

fn sweep_line(index: usize, line: &Series, at: &dyn Fn(Bytes, Nanos) -> (u32, u32)) -> String {
    let class = if line.is_bound { "s-bound".to_owned() } else { format!("s-{}", index % 7) };
    let mut path = String::new();
    let mut marks = String::new();
    for (step, &(vram, pass)) in line.points.iter().enumerate() {
        let (x, y) = at(vram, pass);
        path.push_str(&format!("{}{x} {y}", if step == 0 { "M" } else { "L" }));
        let title = format!("{}, {}: {}", line.name, vram.human(), pass.human());
        if !line.is_bound {
            marks.push_str(&format!(
                "<circle class=\"{class}\" cx=\"{x}\" cy=\"{y}\" r=\"3\"><title>{}</title></circle>",
                escape(&title)
            ));
        }
    }
    format!("<path class=\"line {class}\" d=\"{path}\"/>{marks}")
}

fn sweep_legend(lines: &[Series]) -> String {
    let mut out = String::from("<ul class=\"legend\">");
    for (index, line) in lines.iter().enumerate() {
        let class = if line.is_bound { "s-bound".to_owned() } else { format!("s-{}", index % 7) };
        out.push_str(&format!(
            "<li><svg width=\"26\" height=\"12\" aria-hidden=\"true\"><path class=\"line {class}\" d=\"M0 6h26\"/></svg> {}</li>",
            escape(&line.name)
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
