//! Turns every policy's components into a whole run: what each engine pays where one component follows another.
//!
//! Peers begin a component when the one before has ended: everything of the one before is released, then the first pass
//! of the next one loads what it needs. Engines that swap whole components copy the old one back to ordinary memory
//! first and fetch the next one from there (diffusers' `enable_model_cpu_offload`: `.to("cpu")`, `.to("cuda")`).

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::compare::Row;
use crate::device::DeviceSpec;
use crate::error::Result;
use crate::figures::Together;
use crate::plan::{ComponentPlan, Request, Setting};
use crate::report::BoundaryRow;
use crate::units::{Bytes, Nanos, Rate};

/// A whole run by one policy.
struct Whole {
    name: String,
    total: Nanos,
    /// By boundary, in order of use.
    costs: Vec<Nanos>,
}

/// Whole runs of one generation, from an empty slab; ours first.
pub struct Boundaries {
    together: Together,
    names: Vec<String>,
    runs: Vec<Whole>,
    /// The rate of ordinary memory, where an engine swaps through it.
    ordinary: Option<Rate>,
}

impl Boundaries {
    /// Of every policy that fits and whose engine runs the model.
    pub fn of(request: &Request, rows: &[Row]) -> Result<Self> {
        let single = Request { generations: 1, ..request.clone() };
        let planned = single.pipeline()?.plan()?;
        let costs = planned.together.boundaries.iter().map(|boundary| boundary.cost);
        let ours = Whole {
            name: "vramplan, together".to_owned(),
            total: planned.together.first,
            costs: costs.collect(),
        };
        let peers = rows.iter().filter(|row| row.serves).filter_map(|row| {
            let settings = row.best.as_deref()?;
            Some(apart(row, settings, &request.device))
        });
        let mut runs: Vec<Whole> = peers.collect();
        runs.sort_by_key(|run| run.total);
        runs.insert(0, ours);
        let names = planned.components.iter().map(|component| component.name.clone());
        let swaps =
            rows.iter().any(|row| row.serves && row.best.is_some() && row.policy.spec().swaps());
        let ordinary = request.device.pageable.as_ref().map(|link| link.rate).filter(|_| swaps);
        Ok(Self { names: names.collect(), together: planned.together, runs, ordinary })
    }

    /// For a report; the first row is what the link demands.
    pub fn rows(&self) -> Vec<BoundaryRow> {
        let named = |costs: &mut dyn Iterator<Item = Nanos>| -> Vec<(String, Nanos)> {
            let names = self.together.boundaries.iter();
            let names = names.map(|one| format!("{} \u{2192} {}", one.from, one.to));
            names.zip(costs).collect()
        };
        let demands = &mut self.together.boundaries.iter().map(|boundary| boundary.demand);
        let (policy, total) = ("beyond an idle link".to_owned(), None);
        let demanded = BoundaryRow { policy, total, costs: named(demands) };
        let run = |run: &Whole| BoundaryRow {
            policy: run.name.clone(),
            total: Some(run.total),
            costs: named(&mut run.costs.iter().copied()),
        };
        std::iter::once(demanded).chain(self.runs.iter().map(run)).collect()
    }

    /// For programs.
    pub fn answer(&self) -> Value {
        let runs: Vec<Value> = self
            .runs
            .iter()
            .map(|run| {
                let costs: Vec<u64> = run.costs.iter().map(|cost| cost.get()).collect();
                json!({
                    "policy": run.name,
                    "total_ns": run.total.get(),
                    "boundary_cost_ns": costs,
                })
            })
            .collect();
        let boundaries: Vec<Value> = self
            .together
            .boundaries
            .iter()
            .map(|boundary| {
                json!({
                    "from": boundary.from,
                    "to": boundary.to,
                    "demand_ns": boundary.demand.get(),
                    "bytes": boundary.bytes.get(),
                })
            })
            .collect();
        json!({ "components": self.names, "boundaries": boundaries, "runs": runs })
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut text =
            "\n  one generation from an empty slab; a boundary costs the first pass of the \
                        next\n  component less its usual pass, and what goes back to the host \
                        before it\n\n"
                .to_owned();
        let labels: Vec<String> = (0..self.together.boundaries.len()).map(label).collect();
        let heads: String = labels.iter().map(|label| format!("{label:>11}")).collect();
        let _ = writeln!(text, "  {:<24}{:>11}{heads}", "policy", "whole run");
        let line = |name: &str, total: String, costs: &mut dyn Iterator<Item = Nanos>| {
            let costs: String = costs.map(|cost| format!("{:>11}", cost.human())).collect();
            format!("  {name:<24}{total:>11}{costs}\n")
        };
        let demands = self.together.boundaries.iter().map(|boundary| boundary.demand);
        text.push_str(&line("beyond an idle link", "-".to_owned(), &mut demands.clone()));
        for run in &self.runs {
            let costs = &mut run.costs.iter().copied();
            text.push_str(&line(&run.name, run.total.human(), costs));
        }
        text.push('\n');
        for (label, boundary) in labels.iter().zip(&self.together.boundaries) {
            let _ = writeln!(text, "  {label}: {} to {}", boundary.from, boundary.to);
        }
        text.push_str(
            "  beyond an idle link: what the bytes of the next component take beyond the time that the\n  link is idle in \
             the pass before; behind its own first pass more can be hidden\n",
        );
        if let Some(rate) = self.ordinary {
            let _ = writeln!(
                text,
                "  whole components are swapped through ordinary memory at {}, the device spec's; published\n  swaps were \
                 slower: reports/published.md",
                rate.human()
            );
        }
        text
    }
}

/// `A to B` by number: `1st`, `2nd`, …
fn label(n: usize) -> String {
    match n {
        0 => "1st".to_owned(),
        1 => "2nd".to_owned(),
        2 => "3rd".to_owned(),
        n => format!("{}th", n + 1),
    }
}

/// Components one after the other, each from an empty slab.
fn apart(row: &Row, settings: &[Setting], device: &DeviceSpec) -> Whole {
    let swaps = row.policy.spec().swaps();
    // Beyond what the same bytes take from pinned memory.
    let slower = |bytes: Bytes| {
        let pinned = device.h2d.time_for(bytes);
        let ordinary = device.pageable.as_ref().map_or(pinned, |link| link.time_for(bytes));
        ordinary.saturating_sub(pinned)
    };
    let weights = |plan: &ComponentPlan| plan.blocks.iter().map(|block| block.bytes).sum::<Bytes>();
    let back = |plan: &ComponentPlan| {
        let link = device.pageable.as_ref().unwrap_or(&device.d2h);
        link.time_for(weights(plan))
    };
    let mut total = Nanos::ZERO;
    let mut costs = Vec::new();
    for (n, setting) in settings.iter().enumerate() {
        let plan = &setting.plan;
        let mut extra = if swaps { slower(weights(plan)) } else { Nanos::ZERO };
        if let Some(before) = n.checked_sub(1).and_then(|n| settings.get(n)).filter(|_| swaps) {
            extra = extra.saturating_add(back(&before.plan));
        }
        let p = &plan.prediction;
        let usual = if plan.passes == 1 { plan.bound.compute } else { p.pass };
        total = total.saturating_add(p.makespan).saturating_add(extra);
        if n > 0 {
            costs.push(p.first_pass.saturating_sub(usual).saturating_add(extra));
        }
    }
    Whole { name: row.policy.name.to_owned(), total, costs }
}
