//! Turns what a plan says of blocks that passes leave out into a line for people and an object for programs.

use serde_json::{Value, json};

use super::verdict::counted;
use crate::plan::ComponentPlan;
use crate::units::Nanos;

/// What leaving blocks out saves of their compute, and what the copies make of it.
pub fn line(component: &ComponentPlan) -> Option<(&'static str, String)> {
    let skipped = component.skipped.as_ref()?;
    let saved = skipped.whole.saturating_sub(skipped.planned);
    let mut text = format!(
        "{} of blocks left out, {} of compute; that takes {} off the {} that all passes would take",
        counted(skipped.uses, "use"),
        skipped.compute.human(),
        saved.human(),
        skipped.whole.human(),
    );
    let in_vain = skipped.kept.saturating_sub(skipped.cancelled);
    if !skipped.bytes.is_zero() {
        text.push_str(&format!("; {} are not copied", skipped.bytes.human()));
    }
    if in_vain > Nanos::ZERO {
        text.push_str(&format!(
            "; all passes take {} with these copies cancelled, {} with them kept",
            skipped.cancelled.human(),
            skipped.kept.human()
        ));
    }
    if !component.bound.run.is_zero() {
        text.push_str(&format!("; no schedule takes less than {}", component.bound.run.human()));
    }
    Some(("skips", text))
}

/// The same for programs.
pub fn answer(component: &ComponentPlan) -> Option<Value> {
    let skipped = component.skipped.as_ref()?;
    Some(json!({
        "passes": skipped.passes,
        "uses": skipped.uses,
        "compute_ns": skipped.compute.get(),
        "cancelled_bytes": skipped.bytes.get(),
        "planned_ns": skipped.planned.get(),
        "whole_ns": skipped.whole.get(),
        "cancelled_ns": skipped.cancelled.get(),
        "kept_ns": skipped.kept.get(),
        "run_bound_ns": component.bound.run.get(),
    }))
}
