//! The `compare` command: every policy at its best setting under one budget, against our plan and the bound.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::inputs::RequestArgs;
use super::{Terminal, verdict};
use crate::error::{Error, Result};
use crate::plan::{Plan, Policy, Request};
use crate::units::Nanos;

/// Compare policies under the same budget.
///
/// Each policy gets the best of its settings that fits (most residents, one to three slots) unless its parameters
/// are given: name:key=value:key=value, several separated by commas. `vramplan policies` lists them. Pass times
/// are exact for the estimated compute times.
#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  vramplan compare flux1-dev --device rtx-4090 --vram 12GiB --policies hybrid,leading,spread:r=30"
)]
pub struct Args {
    #[command(flatten)]
    request: RequestArgs,
    /// VRAM to plan for: a size such as 12GiB, or a share of the card such as 90%.
    #[arg(long, value_name = "SIZE")]
    vram: String,
    /// Policies, separated by commas; all of them by default.
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    policies: Vec<String>,
}

/// One policy's plan, if it has one.
pub struct Row {
    /// The policy.
    pub policy: Policy,
    /// Its best plan that fits.
    pub plan: Option<Plan>,
}

pub fn run(args: &Args, terminal: &mut Terminal) -> Result<()> {
    let (_, request) = args.request.load_under(&args.vram, terminal)?;
    let rows = rows(&request, &policies(&args.policies)?)?;
    if rows.iter().all(|row| row.plan.is_none()) {
        return Err(Error::usage("none of these policies has a setting that fits the budget"));
    }
    terminal.answer(&answer(&rows), &text(&request, &rows))
}

/// The policies named, or all.
pub fn policies(names: &[String]) -> Result<Vec<Policy>> {
    if names.is_empty() {
        return Ok(Policy::all());
    }
    names.iter().map(|name| Policy::parse(name)).collect()
}

/// Plans by each policy under one budget.
pub fn rows(request: &Request, policies: &[Policy]) -> Result<Vec<Row>> {
    let row = |policy: &Policy| Ok(Row { policy: policy.clone(), plan: request.plan_by(policy)? });
    policies.iter().map(row).collect()
}

/// Steady time of one pass over every planned component.
pub fn pass_of(plan: &Plan) -> Nanos {
    plan.components.iter().map(|component| component.prediction.pass).sum()
}

/// The bound on it for any schedule.
pub fn bound_of(plan: &Plan) -> Nanos {
    plan.components.iter().map(|component| component.bound.any_schedule).sum()
}

/// A plan's parameters, component by component.
pub fn parameters_of(plan: &Plan) -> String {
    let parameters = plan.components.iter().map(Policy::parameters);
    parameters.collect::<Vec<_>>().join(" | ")
}

/// The JSON answer.
pub fn answer(rows: &[Row]) -> Value {
    let bound = rows.iter().filter_map(|row| row.plan.as_ref()).map(bound_of).next();
    let policies: Vec<Value> = rows
        .iter()
        .map(|row| {
            let plan = row.plan.as_ref();
            let peak = plan.map(|p| p.components.iter().map(|c| c.prediction.peak.get()).max());
            let bytes = |p: &Plan| -> u64 {
                p.components.iter().map(|c| c.prediction.bytes_per_pass.get()).sum()
            };
            json!({
                "policy": row.policy.name,
                "parameters": plan.map(parameters_of),
                "pass_ns": plan.map(|plan| pass_of(plan).get()),
                "peak_bytes": peak.flatten(),
                "bytes_per_pass": plan.map(bytes),
                "fits": plan.is_some(),
                "engine_flags": Value::Null,
            })
        })
        .collect();
    json!({ "policies": policies, "bound_ns": bound.map(Nanos::get), "origin": "estimated" })
}

fn text(request: &Request, rows: &[Row]) -> String {
    let mut text = format!(
        "{} on {} with {} of VRAM; times per pass, estimated\n\n",
        request.manifest.model,
        request.device.name,
        request.vram.human()
    );
    let _ = writeln!(
        text,
        "  {:<10}{:>11}{:>12}{:>12}{:>12}  setting",
        "policy", "pass", "to bound", "H2D/pass", "peak"
    );
    for row in rows {
        let name = row.policy.name;
        let Some(plan) = &row.plan else {
            let _ = writeln!(text, "  {name:<10}{:>11}", "does not fit");
            continue;
        };
        let first = plan.components.iter();
        let bytes = first.clone().map(|c| c.prediction.bytes_per_pass).sum::<crate::units::Bytes>();
        let peak = first.map(|c| c.prediction.peak).max().unwrap_or_default();
        let _ = writeln!(
            text,
            "  {name:<10}{:>11}{:>12}{:>12}{:>12}  {}",
            pass_of(plan).human(),
            verdict::slower(pass_of(plan), bound_of(plan)),
            bytes.human(),
            peak.human(),
            parameters_of(plan),
        );
    }
    if let Some(plan) = rows.iter().find_map(|row| row.plan.as_ref()) {
        let _ =
            writeln!(text, "\n  no schedule takes less than {} per pass", bound_of(plan).human());
    }
    text
}
