//! Turns the plan of several components into one screen: how each is held, what it takes, what each boundary costs.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::verdict::{self, counted};
use crate::figures::Together;
use crate::plan::{ComponentPlan, Plan, ROOT, Residency};
use crate::units::Bytes;

/// How a component is held, in a word.
pub fn held(component: &ComponentPlan) -> &'static str {
    let pieces = || component.blocks.iter().flat_map(|block| &block.pieces);
    let resident = |wanted: fn(&crate::plan::Piece) -> bool| pieces().all(wanted);
    if resident(|piece| piece.kept || piece.bytes.is_zero()) {
        return "resident";
    }
    if resident(|piece| piece.residency == Residency::Resident) {
        return "phase";
    }
    let mut blocks = component.blocks.iter().filter(|block| block.block != ROOT);
    let whole = blocks.all(|block| block.is_resident() || block.streamed_bytes() == block.bytes);
    if whole { "block" } else { "stream" }
}

/// Bytes of a component that no other takes, so that later generations need not copy them.
fn kept(component: &ComponentPlan) -> Bytes {
    let pieces = component.blocks.iter().flat_map(|block| &block.pieces);
    pieces.filter(|piece| piece.kept).map(|piece| piece.bytes).sum()
}

/// The table of components and boundaries.
pub fn table(plan: &Plan, together: &Together) -> String {
    let mut text = format!(
        "  {:<14}{:>10} {:<8}{:>6}{:>9}{:>10}{:>10}{:>9}\n",
        "component", "weights", "held", "passes", "pass", "first", "all", "peak"
    );
    for component in &plan.components {
        let weights: Bytes = component.blocks.iter().map(|block| block.bytes).sum();
        let p = &component.prediction;
        let _ = writeln!(
            text,
            "  {:<14}{:>10} {:<8}{:>6}{:>9}{:>10}{:>10}{:>9}",
            component.name,
            weights.human(),
            held(component),
            component.passes,
            p.pass.human(),
            p.first_pass.human(),
            p.makespan.human(),
            p.peak.human(),
        );
    }
    text.push('\n');
    for line in &lines(plan, together) {
        verdict::write_line(&mut text, line);
    }
    text
}

/// What the components take together, in words.
fn lines(plan: &Plan, together: &Together) -> Vec<(&'static str, String)> {
    let mut lines: Vec<(&'static str, String)> = Vec::new();
    let several = match plan.generations {
        1 => String::new(),
        n => {
            format!("; {} take {}", counted(u64::from(n), "generation"), together.makespan.human())
        }
    };
    lines.push((
        "cost",
        format!(
            "{} for one generation from an empty slab, {} for one more of a stream{several}",
            together.first.human(),
            together.generation.human()
        ),
    ));
    for (n, boundary) in together.boundaries.iter().enumerate() {
        let line = format!(
            "{} to {} costs {}; {} come for its first pass, of which the link cannot hide {} in the pass before",
            boundary.from,
            boundary.to,
            boundary.cost.human(),
            boundary.bytes.human(),
            boundary.demand.human(),
        );
        lines.push((if n == 0 { "boundary" } else { "" }, line));
    }
    let kept: Vec<String> = plan
        .components
        .iter()
        .filter(|component| !kept(component).is_zero())
        .map(|component| format!("{} of {}", kept(component).human(), component.name))
        .collect();
    if !kept.is_empty() {
        let line = format!("{}: no other component takes these bytes", kept.join(", "));
        lines.push(("stays", line));
    }
    let peak = plan.peak();
    lines.push((
        "memory",
        format!(
            "slab {}; highest use with each component's own reserve {} of {}",
            plan.slab().human(),
            peak.human(),
            plan.budget.vram.human()
        ),
    ));
    lines
}

/// What the components take together, for programs.
pub fn answer(plan: &Plan, together: &Together) -> Value {
    let boundaries: Vec<Value> = together
        .boundaries
        .iter()
        .map(|boundary| {
            json!({
                "from": boundary.from,
                "to": boundary.to,
                "cost_ns": boundary.cost.get(),
                "demand_ns": boundary.demand.get(),
                "bytes": boundary.bytes.get(),
            })
        })
        .collect();
    let components: Vec<Value> = plan
        .components
        .iter()
        .map(|component| {
            json!({
                "name": component.name,
                "held": held(component),
                "kept_bytes": kept(component).get(),
                "reserve_bytes": component.reserve_of(&plan.budget).get(),
            })
        })
        .collect();
    json!({
        "generations": plan.generations,
        "first_generation_ns": together.first.get(),
        "generation_ns": together.generation.get(),
        "makespan_ns": together.makespan.get(),
        "boundaries": boundaries,
        "components": components,
    })
}
