//! Turns a trace and its figures into a short Markdown page for pull requests and issues.

use super::{Foreign, verdict, window_rows};
use crate::report::markdown::{cell, rates};
use crate::report::rates::Rates;
use crate::report::view::ms;
use crate::units::Fraction;

/// `summary.md`.
pub(super) fn markdown(foreign: &Foreign<'_>) -> String {
    let trace = foreign.trace;
    let mut out = format!(
        "# Copies and kernels in {}\n\n{}, {} GPU rows, times {}.\n",
        cell(foreign.file),
        trace.format.name(),
        trace.rows().len(),
        trace.origin
    );
    for (id, figures) in &foreign.devices {
        let name = figures.name.as_ref().map_or(String::new(), |name| format!(": {}", cell(name)));
        out.push_str(&format!("\n## GPU {id}{name}\n\n"));
        for line in verdict::verdict(figures) {
            out.push_str(&format!("- {}\n", cell(&line)));
        }
        out.push_str("\n| what | ms | % of window |\n|---|---:|---:|\n");
        for (name, time) in window_rows(figures) {
            let share = Fraction::of(time.get(), figures.window.get()).percent();
            out.push_str(&format!("| {name} | {} | {share} |\n", ms(time)));
        }
        out.push_str(&rates(&Rates::of_trace(trace, *id), trace.origin));
    }
    let warnings = foreign.warnings();
    if !warnings.is_empty() {
        out.push_str("\n## What was left out\n\n");
        for warning in warnings {
            out.push_str(&format!("- {}\n", cell(&warning)));
        }
    }
    out
}
