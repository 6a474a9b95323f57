//! Turns runs into a short Markdown page for pull requests and issues: verdict, key figures, policies.

use super::measured;
use super::predicted::predictions;
use super::rates::{Rates, gigabytes};
use super::runs::differences;
use super::text::is_hidden;
use super::view::{BEATEN_BY_NONE, SUMMED, View, signed_percent};
use super::{Extras, PolicyRow};
use crate::figures::Origin;
use crate::profile::Summary;
use crate::units::Nanos;

/// `summary.md`.
pub(super) fn markdown(views: &[View<'_>], planned: Option<&View<'_>>, extras: &Extras) -> String {
    let Some(main) = views.first() else { return String::new() };
    let header = &main.profile.header;
    let mut out = format!("# {} on {}\n\n", cell(&header.model), cell(&header.device));
    let told = planned.map(|planned| predictions(main, planned)).unwrap_or_default();
    for line in extras.verdict.iter().chain(&main.verdict()).chain(&told) {
        out.push_str(&format!("- {}\n", cell(line)));
    }
    out.push_str(&figures(views));
    out.push_str(&policies(main, extras));
    out.push_str(&measured::markdown(main, cell));
    out.push_str(&rates(&Rates::of_run(main.profile), main.summary.origin));
    out
}

/// Rates of copies by size.
pub(super) fn rates(rates: &Rates, origin: Origin) -> String {
    if rates.classes.is_empty() {
        return String::new();
    }
    let mut out = format!(
        "\n| copies ({origin}) | size | count | bytes | median GB/s | quartiles | range |\n\
         |---|---:|---:|---:|---:|---:|---:|\n"
    );
    for class in &rates.classes {
        let [slowest, low, median, high, fastest] = class.rates.map(gigabytes);
        out.push_str(&format!(
            "| {} | {} | {} | {} | {median} | {low}\u{2013}{high} | {slowest}\u{2013}{fastest} |\n",
            cell(rates.sort(class)),
            class.size(),
            class.count,
            class.bytes.human()
        ));
    }
    out
}

/// Components with rows of their own at most.
const MOST_COMPONENTS: usize = 20;

/// One row per figure, one column per run.
fn figures(views: &[View<'_>]) -> String {
    let Some(main) = views.first() else { return String::new() };
    let mut out = String::from("\n| figure |");
    let mut rule = String::from("|---|");
    for (index, view) in views.iter().enumerate() {
        out.push_str(&format!(" run {} ({}) |", index + 1, view.summary.origin));
        rule.push_str("---:|");
    }
    out.push_str(&format!("\n{rule}\n"));
    let mut row = |name: &str, figure: &dyn Fn(&View<'_>) -> String| {
        out.push_str(&format!("| {name} |"));
        for view in views {
            out.push_str(&format!(" {} |", figure(view)));
        }
        out.push('\n');
    };
    row("model, device", &|view| cell(&format!("{}, {}", view.summary.model, view.summary.device)));
    if views.len() > 1 {
        row("differs from run 1 in", &|view| differences(main.profile, view.profile).join(", "));
    }
    let components = &main.summary.components;
    for (index, component) in components.iter().enumerate().take(MOST_COMPONENTS) {
        let name = cell(&component.name);
        let of = if components.len() > 1 { format!(" of {name}") } else { String::new() };
        row(&format!("steady pass{of}"), &|view| {
            steady(view, index).map_or("n/a".into(), Nanos::human)
        });
        row(&format!("error{of}, % of predicted pass"), &|view| predicted(view, index));
    }
    row("makespan", &|view| view.summary.makespan.human());
    row("H2D copy time hidden under compute, % of H2D busy", &|view| {
        view.summary.overlap_fraction.percent()
    });
    row("exposed copy", &|view| view.summary.exposed.human());
    row("stall, % of makespan", &stall);
    row("copied to the device", &|view| view.summary.bytes_h2d.human());
    row("peak VRAM (reserve + slab)", &|view| view.summary.peak.human());
    row("headroom (budget − peak)", &|view| headroom(&view.summary));
    out
}

/// The steady pass of a component; none where no whole pass ran.
fn steady(view: &View<'_>, component: usize) -> Option<Nanos> {
    let component = view.summary.components.get(component)?;
    (component.whole > 0).then_some(component.steady)
}

fn predicted(view: &View<'_>, component: usize) -> String {
    let prediction = view.header(component).and_then(|header| header.prediction);
    let both = prediction.zip(steady(view, component));
    both.map_or("n/a".into(), |(one, steady)| signed_percent(steady, one.pass))
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

fn policies(view: &View<'_>, extras: &Extras) -> String {
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
    out.push_str(&format!("\nThe bound is the pass time that {BEATEN_BY_NONE}.\n"));
    if view.summary.components.len() > 1 {
        out.push_str(&format!("\n{SUMMED}\n"));
    }
    out
}

/// Text that stays within its cell and is not markup.
pub(super) fn cell(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        let c = match c {
            '\n' | '\r' | '\t' => ' ',
            c if is_hidden(c) => '\u{fffd}',
            c => c,
        };
        if matches!(c, '|' | '<' | '>' | '*' | '_' | '`' | '[' | ']' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_bring_no_markup_and_nothing_unseen() {
        assert_eq!(cell("a|b\nc\u{1b}[2J\u{202e}d\u{85}"), "a\\|b c\u{fffd}\\[2J\u{fffd}d\u{fffd}");
    }
}
