//! The `plan` command: a model, a device and a budget become a plan.

use std::path::PathBuf;

use clap::ValueEnum;
use serde::Serialize;
use serde_json::{Value, json};

use super::inputs::RequestArgs;
use super::{Format, Terminal, pipeline, ranks, skips, verdict};
use crate::error::{Error, Infeasible, Memory, Result};
use crate::plan::bound::Bounds;
use crate::plan::{
    ComponentInput, ComponentPlan, Explored, Granularity, HostBudget, HostUse, Plan, Policy, ROOT,
    Request, Unit,
};
use crate::units::Bytes;

/// Plan what stays in VRAM and what streams.
///
/// Reads the model's manifest, estimates the compute time of every block, chooses which blocks stay, and states
/// the pass time, the VRAM peak, and a time that no schedule of blocks can beat. Exits with 4 when the budget is too small,
/// naming the smallest that works.
#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  vramplan plan flux1-dev --device rtx-4090 --vram 12GiB -o plan.yaml"
)]
pub struct Args {
    #[command(flatten)]
    request: RequestArgs,
    /// VRAM to plan for: a size such as 12GiB, or a share of the card such as 90%.
    #[arg(long, value_name = "SIZE")]
    vram: String,
    /// The finest unit that may be resident in part.
    #[arg(long, value_enum, default_value_t = GranularityArg::Tensor)]
    granularity: GranularityArg,
    /// What is brought in, used and released as one.
    #[arg(long, value_enum, default_value_t = UnitArg::Block)]
    unit: UnitArg,
    /// Plan by another policy, at its best setting that fits: name:key=value:key=value, see `vramplan policies`.
    #[arg(long, value_name = "POLICY", conflicts_with_all = ["granularity", "unit"])]
    policy: Option<String>,
    /// Where to write the plan; `-` for standard output.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum GranularityArg {
    /// Blocks stay or stream whole; which do is the same in every pass.
    Block,
    /// Blocks stay or stream whole, and take turns staying where that is faster.
    Rotating,
    /// Some tensors of a block may stay while the others stream.
    Tensor,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum UnitArg {
    /// Whole blocks, as most engines do.
    Block,
    /// Phases of blocks (attention, feed-forward), where the manifest states them.
    Phase,
    /// Leaf modules, those outside the block lists too.
    Leaf,
}

pub fn run(args: &Args, terminal: &mut Terminal) -> Result<()> {
    let unit = match args.unit {
        UnitArg::Block => Unit::Block,
        UnitArg::Phase => Unit::Phase,
        UnitArg::Leaf => Unit::Leaf,
    };
    let granularity = match args.granularity {
        GranularityArg::Block => Granularity::Block,
        GranularityArg::Rotating => Granularity::Rotating,
        GranularityArg::Tensor => Granularity::Tensor,
    };
    let (prepared, request) = args.request.load_under(&args.vram, terminal)?;
    let others = prepared.others_under(request.vram);
    let mut planned = Vec::with_capacity(1 + others.len());
    for request in std::iter::once(request).chain(others) {
        let request = Request { granularity, unit, ..request };
        let plan = match &args.policy {
            Some(policy) => refusing(by_policy(policy, &request), terminal)?,
            None => plan_or_refuse(&request, terminal)?,
        };
        planned.push((plan, request));
    }
    let mut text = String::new();
    for (plan, request) in &planned {
        text.push_str(&verdict::plan(plan, request)?);
        text.push_str(if planned.len() > 1 { "\n" } else { "" });
    }
    text.push_str(&ranks::slowest(planned.iter().map(|(plan, _)| plan)));
    if !ranks::deliver(args.output.as_deref(), &planned, &mut text, terminal)? {
        return Ok(());
    }
    terminal.answer(&ranks::answer(&planned)?, &text)
}

#[derive(Serialize)]
struct Refusal<'a> {
    feasible: bool,
    #[serde(flatten)]
    answer: &'a Infeasible,
}

/// Plans, and passes on what had to be assumed.
pub fn plan_or_refuse(request: &Request, terminal: &mut Terminal) -> Result<Plan> {
    let planned = request.prepare().and_then(|prepared| {
        for warning in prepared.iter().flat_map(|prepared| &prepared.costs.warnings) {
            terminal.warn(warning);
        }
        request.plan()
    });
    refusing(planned, terminal)
}

/// The plan of a policy's best setting; infeasible where none of its settings fits.
fn by_policy(name: &str, request: &Request) -> Result<Plan> {
    let policy = Policy::parse(name)?;
    if !request.holds.is_empty() || request.generations > 1 {
        let message = "--policy: other systems plan each component by itself, once";
        let hint = Some("leave out =HOLD in --components, and --generations".to_owned());
        return Err(Error::Usage { message: message.to_owned(), hint });
    }
    let inputs: Vec<ComponentInput> =
        request.prepare()?.into_iter().map(|prepared| prepared.input).collect();
    let explored: Vec<Explored> =
        inputs.iter().map(|input| policy.explore(input)).collect::<Result<_>>()?;
    let bounds = inputs.iter().map(|input| input.at(policy.spec().unit()).bounds());
    let bounds: Vec<Bounds> = bounds.collect();
    let together = Explored::best_together(&explored, &inputs, &bounds)?;
    if let Some(settings) = together {
        // Several components have a reserve each.
        let reserve = |input: &ComponentInput| request.is_pipeline().then_some(input.reserve);
        let plans = settings.into_iter().zip(&inputs);
        let plans =
            plans.map(|(setting, input)| ComponentPlan { reserve: reserve(input), ..setting.plan });
        return request.assemble(plans.collect());
    }
    Err(Error::Infeasible(refusal(name, request, &explored, &inputs, &bounds)?))
}

/// Why none of a policy's settings fits: one component's, or all of them on one host.
fn refusal(
    name: &str,
    request: &Request,
    explored: &[Explored],
    inputs: &[ComponentInput],
    bounds: &[Bounds],
) -> Result<Infeasible> {
    for ((explored, input), bounds) in explored.iter().zip(inputs).zip(bounds) {
        if explored.best(input, bounds)?.is_none() {
            if let Some(refusal) = host_refusal(name, input, explored) {
                return Ok(refusal);
            }
            let needed = explored.smallest().unwrap_or_default();
            let available = request.vram.saturating_sub(input.reserve);
            return Ok(Infeasible {
                needed,
                available,
                shortfall: needed.saturating_sub(available),
                smallest_budget: needed.saturating_add(input.reserve),
                because: format!("{name} for {}", input.name),
                memory: Memory::Vram,
            });
        }
    }
    let least = explored.iter().zip(inputs).filter_map(|(one, input)| one.least_host(input));
    let needed: Bytes = least.sum();
    let because = format!("{name} for all components, as its engine locks it,");
    Ok(on_host(needed, request.host.as_ref(), because))
}

/// Where VRAM has room for a setting, and the host for none of those.
fn host_refusal(name: &str, input: &ComponentInput, explored: &Explored) -> Option<Infeasible> {
    let (needed, host) = (explored.least_host(input)?, input.host?);
    let because = format!("{name} for {}, as its engine locks it,", input.name);
    Some(on_host(needed, Some(&host), because))
}

/// The answer where a host does not hold so much, or may not lock it.
fn on_host(needed: Bytes, host: Option<&HostBudget>, because: String) -> Infeasible {
    let available = host.map_or(Bytes::ZERO, |host| match needed > host.bytes {
        true => host.bytes,
        false => host.lockable,
    });
    let (shortfall, memory) = (needed.saturating_sub(available), Memory::Host);
    Infeasible { needed, available, shortfall, smallest_budget: needed, because, memory }
}

/// A budget that is too small is an answer, for programs too: JSON on stdout besides the error.
pub fn refusing<T>(outcome: Result<T>, terminal: &mut Terminal) -> Result<T> {
    if let (Err(Error::Infeasible(answer)), Format::Json) = (&outcome, terminal.format()) {
        terminal.answer(&Refusal { feasible: false, answer }, "")?;
    }
    outcome
}

/// The JSON answer.
pub fn answer(plan: &Plan, request: &Request) -> Result<Value> {
    let prepared = request.prepare()?;
    let components: Vec<Value> = plan
        .components
        .iter()
        .zip(&prepared)
        .map(|(component, prepared)| component_answer(component, prepared.costs.flops_per_pass()))
        .collect();
    let together = plan.pipeline.as_ref().map(|together| pipeline::answer(plan, together));
    Ok(json!({
        "feasible": true,
        "model": plan.model,
        "device": plan.device.name,
        "granularity": plan.granularity,
        "rank": plan.rank,
        "origin": "estimated",
        "components": components,
        "budget_bytes": plan.budget.vram.get(),
        "weights_budget_bytes": plan.budget.weights.get(),
        "reserve_bytes": plan.budget.reserve.get(),
        "peak_bytes": plan.peak().get(),
        "pipeline": together,
    }))
}

fn host_answer(host: HostUse) -> Value {
    json!({
        "budget_bytes": host.budget.get(),
        "pinned_bytes": host.pinned.get(),
        "locked_bytes": host.locked.get(),
        "pageable_bytes": host.pageable.get(),
        "disk_bytes": host.disk.get(),
        "ring_bytes": host.ring.get(),
        "allocator": host.allocator,
    })
}

fn component_answer(plan: &ComponentPlan, flops_per_pass: u64) -> Value {
    let blocks = plan.blocks.iter().filter(|block| block.block != ROOT);
    let resident: Vec<String> = blocks
        .filter(|block| block.is_resident())
        .map(|block| format!("{}.{}", plan.name, block.block))
        .collect();
    json!({
        "name": plan.name,
        "policy": plan.policy,
        "unit": plan.unit,
        "resident": resident,
        "passes": plan.passes,
        "pass_ns": plan.prediction.pass.get(),
        "first_pass_ns": plan.prediction.first_pass.get(),
        "makespan_ns": plan.prediction.makespan.get(),
        "stall_ns": plan.prediction.stall.get(),
        "overlap": plan.prediction.overlap,
        "peak_bytes": plan.prediction.peak.get(),
        "slab_bytes": plan.slab.bytes.get(),
        "margins": plan.margins,
        "lower_bound_ns": plan.bound.granularity.get(),
        "any_schedule_bound_ns": plan.bound.any_schedule.get(),
        "compute_bound_ns": plan.bound.compute.get(),
        "gap": plan.bound.gap,
        "bytes_per_pass": plan.prediction.bytes_per_pass.get(),
        "disk_bytes_per_pass": plan.prediction.disk_per_pass.get(),
        "disk_bound_ns": plan.bound.disk.get(),
        "host": plan.host.map(host_answer),
        "flops_per_pass": flops_per_pass,
        "window_bytes": plan.window.bytes.get(),
        "slots": plan.window.slots,
        "prefetch": plan.prefetch,
        "turns": plan.turns,
        "skipped": skips::answer(plan),
    })
}
