//! Turns runs into a short Markdown page for pull requests and issues: verdict, key figures, policies.

use super::view::{View, signed_percent};
use super::{Extras, PolicyRow};
use crate::figures::Origin;
use crate::profile::Summary;
use crate::units::Nanos;

/// `summary.md`.
pub(super) fn markdown(views: &[View<'_>], extras: &Extras) -> String {
    let Some(main) = views.first() else { return String::new() };
    let header = &main.profile.header;
    let mut out = format!("# {} on {}\n\n", cell(&header.model), cell(&header.device));
    for line in extras.verdict.iter().chain(&main.verdict()) {
        out.push_str(&format!("- {}\n", cell(line)));
    }
    out.push_str(&figures(views));
    out.push_str(&policies(extras));
    out
}

/// One row per figure, one column per run.
fn figures(views: &[View<'_>]) -> String {
    let mut out = String::from("\n| figure |");
    let mut rule = String::from("|---|");
    for (index, view) in views.iter().enumerate() {
        out.push_str(&format!(" run {} ({}) |", index + 1, view.summary.origin));
        rule.push_str("---:|");
    }
    out.push_str(&format!("\n{rule}\n"));
    type Figure = (&'static str, fn(&View<'_>) -> String);
    let rows: [Figure; 10] = [
        ("model, device", |view| cell(&format!("{}, {}", view.summary.model, view.summary.device))),
        ("steady pass", |view| steady(view).human()),
        ("error, % of predicted pass", predicted),
        ("makespan", |view| view.summary.makespan.human()),
        ("H2D copy time hidden under compute, % of H2D busy", |view| {
            view.summary.overlap_fraction.percent()
        }),
        ("exposed copy", |view| view.summary.exposed.human()),
        ("stall, % of makespan", stall),
        ("copied to the device", |view| view.summary.bytes_h2d.human()),
        ("peak VRAM (reserve + slab)", |view| view.summary.peak.human()),
        ("headroom (budget − peak)", |view| headroom(&view.summary)),
    ];
    for (name, figure) in rows {
        out.push_str(&format!("| {name} |"));
        for view in views {
            out.push_str(&format!(" {} |", figure(view)));
        }
        out.push('\n');
    }
    out
}

fn steady(view: &View<'_>) -> Nanos {
    view.summary.components.get(view.main()).map_or(Nanos::ZERO, |component| component.steady)
}

fn predicted(view: &View<'_>) -> String {
    let prediction = view.header(view.main()).and_then(|header| header.prediction);
    prediction.map_or("n/a".into(), |one| signed_percent(steady(view), one.pass))
}

fn stall(view: &View<'_>) -> String {
    format!("{} ({})", view.summary.stall.human(), view.of_makespan(view.summary.stall))
}

fn headroom(summary: &Summary) -> String {
    match summary.budget.checked_sub(summary.peak) {
        Some(headroom) => format!("{} of {}", headroom.human(), summary.budget.human()),
        None => format!("none, over {}", summary.budget.human()),
    }
}

fn policies(extras: &Extras) -> String {
    if extras.policies.is_empty() {
        return String::new();
    }
    let origin = extras.origin.unwrap_or(Origin::Estimated);
    let mut out = format!(
        "\n| policy ({origin}) | setting | pass | against the bound | peak | copied per pass | fits |\n\
         |---|---|---:|---:|---:|---:|---|\n"
    );
    for PolicyRow { policy, parameters, pass, peak, bytes_per_pass, fits } in &extras.policies {
        let above = extras.bound.map_or("n/a".into(), |bound| signed_percent(*pass, bound));
        out.push_str(&format!(
            "| {} | {} | {} | {above} | {} | {} | {} |\n",
            cell(policy),
            cell(parameters),
            pass.human(),
            peak.human(),
            bytes_per_pass.human(),
            if *fits { "yes" } else { "no" }
        ));
    }
    out
}

/// Text that stays within its cell and is not markup.
fn cell(text: &str) -> String {
    let one_line = text.replace(['\n', '\r'], " ");
    let mut out = String::with_capacity(one_line.len());
    for c in one_line.chars() {
        if matches!(c, '|' | '<' | '>' | '*' | '_' | '`' | '[' | ']' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
    out
}
