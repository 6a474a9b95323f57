//! Turns several runs and several policies into tables and a chart that stand side by side.

use super::markup::{Cell, Column, Kind, escape, paragraph, section, table};
use super::medians::block_medians;
use crate::figures::Origin;
use crate::report::axis::time_ticks;
use crate::report::comparison::comparisons;
use crate::report::runs::makespans;
use crate::report::slices::Window;
use crate::report::text::shortened;
use crate::report::view::{SUMMED, View, mib, ms, signed_percent};
use crate::report::{Extras, PolicyRow};
use crate::units::Nanos;

/// The main run beside the others; nothing for a single run.
pub(super) fn runs(views: &[View<'_>]) -> String {
    let [main, _, ..] = views else { return String::new() };
    let row = |(index, view): (usize, &View<'_>)| {
        let (summary, header) = (&view.summary, &view.profile.header);
        vec![
            Cell::text(format!("{}. {}", index + 1, header.model)),
            Cell::text(match &header.rank {
                Some(rank) => format!("{}, {rank}", header.device),
                None => header.device.clone(),
            }),
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
    let mut body = table("Every run given, the first one reported above", true, &columns, &rows);
    for comparison in comparisons(views) {
        body.push_str(&paragraph("note", &comparison.sentence()));
    }
    body.push_str(&blocks(views));
    section("runs", "Runs compared", &body)
}

/// Blocks compared at most.
const MOST_BLOCKS: usize = 300;

/// The second run's blocks against the first's, where both have the same blocks: what was predicted against what was
/// measured, where the second is a simulation of the same plan.
fn blocks(views: &[View<'_>]) -> String {
    let [main, other, ..] = views else { return String::new() };
    let ids = |view: &View<'_>| {
        let components = view.profile.header.components.iter();
        components.map(|one| (one.name.clone(), one.blocks.clone())).collect::<Vec<_>>()
    };
    if ids(main) != ids(other) {
        return String::new();
    }
    let (a, b) = (block_medians(main.profile), block_medians(other.profile));
    let cells = |time: Option<Nanos>| match time {
        Some(time) => Cell::number(ms(time), time.get()),
        None => Cell::text("none"),
    };
    let against = |a: Option<Nanos>, b: Option<Nanos>| match (a, b) {
        (Some(a), Some(b)) => Cell::number(signed_percent(b, a), b.get().abs_diff(a.get())),
        _ => Cell::text("n/a"),
    };
    let row = |(&(component, block), times): (&(u32, u32), &[Option<Nanos>; 2])| {
        let theirs = b.get(&(component, block)).copied().unwrap_or_default();
        vec![
            Cell::text(main.block_name(component, block)),
            cells(times[0]),
            cells(theirs[0]),
            against(times[0], theirs[0]),
            cells(times[1]),
            cells(theirs[1]),
            against(times[1], theirs[1]),
        ]
    };
    let rows: Vec<_> = a.iter().take(MOST_BLOCKS).map(row).collect();
    let columns = [
        Column("block", Kind::Head),
        Column("compute ms, run 1", Kind::Number),
        Column("run 2", Kind::Number),
        Column("difference", Kind::Number),
        Column("copies ms, run 1", Kind::Number),
        Column("run 2", Kind::Number),
        Column("difference", Kind::Number),
    ];
    let caption = format!(
        "Median time per use of each block: run 1 ({}) against run 2 ({}); copies without the first pass",
        main.summary.origin, other.summary.origin
    );
    table(&caption, true, &columns, &rows)
}

fn steady(view: &View<'_>) -> Nanos {
    view.summary.components.get(view.main()).map_or(Nanos::ZERO, |component| component.steady)
}

/// Where the times of policies and budgets come from.
pub(super) fn origin(extras: &Extras) -> Origin {
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
pub(super) fn summed(view: &View<'_>) -> String {
    if view.summary.components.len() > 1 { paragraph("note", SUMMED) } else { String::new() }
}

/// Width of a chart that also fits a narrow page, and the part of it between names and numbers.
const WIDTH: u32 = 640;
const NAMES: u32 = 130;
const BARS: u32 = 380;

fn policy_bars(extras: &Extras) -> String {
    let longest = extras.policies.iter().map(|row| row.pass).max().unwrap_or(Nanos::ZERO);
    let window =
        Window { start: Nanos::ZERO, end: longest.max(extras.bound.unwrap_or(Nanos::ZERO)) };
    let count = u32::try_from(extras.policies.len()).unwrap_or(u32::MAX).min(200);
    let bottom = count * 26 + 22;
    let mut out = format!(
        "<div class=\"scroll\"><svg class=\"chart small\" viewBox=\"0 0 {WIDTH} {}\" role=\"img\" \
         aria-label=\"Pass time per policy; the table below has the numbers\">",
        bottom + 26
    );
    for (index, row) in (0..count).zip(&extras.policies) {
        out.push_str(&policy_bar(extras, row, window, index * 26 + 20));
    }
    if let Some(bound) = extras.bound {
        let x = NAMES + window.place(bound, BARS);
        out.push_str(&format!(
            "<path class=\"budget\" d=\"M{x} 14V{bottom}\"/><text class=\"level\" x=\"{x}\" y=\"11\" \
             text-anchor=\"middle\">bound {}</text>",
            bound.human()
        ));
    }
    for tick in time_ticks(window.start, window.end, 4) {
        let x = NAMES + window.place(tick.at, BARS);
        out.push_str(&format!(
            "<text class=\"tick\" x=\"{x}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
            bottom + 18,
            tick.label
        ));
    }
    out.push_str("</svg></div>\n");
    out
}

fn policy_bar(extras: &Extras, row: &PolicyRow, window: Window, y: u32) -> String {
    let width = window.place(row.pass, BARS).max(1);
    let own = extras.chosen.as_deref() == Some(row.policy.as_str());
    let class = match (row.fits, own) {
        (false, _) => "misfit",
        (true, true) => "compute",
        (true, false) => "other",
    };
    let note = if row.fits { "" } else { ", no fit" };
    let (pass, peak) = (row.pass.human(), row.peak.human());
    let title = format!("{} ({}): {pass} per pass, peak {peak}{note}", row.policy, row.parameters);
    format!(
        "<text class=\"lane\" x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>\
         <rect class=\"{class}\" x=\"{NAMES}\" y=\"{y}\" width=\"{width}\" height=\"18\"><title>{}</title></rect>\
         <text class=\"tick\" x=\"{}\" y=\"{}\">{}{note}</text>",
        NAMES - 8,
        y + 14,
        escape(&shortened(&row.policy, 17)),
        escape(&title),
        NAMES + width + 6,
        y + 14,
        row.pass.human()
    )
}
