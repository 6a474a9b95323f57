//! The `run` command: a plan is executed by a backend, and what happened becomes a profile.

use std::path::PathBuf;

use clap::ValueEnum;

use super::watch::Stop;
use super::{Terminal, check, cuda, files};
use crate::backend::sim::Sim;
use crate::backend::{self, Backend, Unwatched, Watch};
use crate::digest::digest;
use crate::error::{Error, Result};
use crate::figures::Origin;
use crate::plan::Plan;
use crate::profile::{self, ComponentHeader, Header, Profile};
use crate::program::{Phase, Program};
use crate::report::{self, View};
use crate::shard::RankOf;
use crate::units::{Fraction, Nanos};

/// Execute a plan and record a profile.
///
/// The simulator is the default and needs nothing; it reproduces the plan's prediction to the nanosecond unless jitter
/// is simulated. The plan is checked before it runs.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  vramplan run plan.yaml -o run.json.gz")]
pub struct Args {
    /// The plan file.
    plan: PathBuf,
    /// What executes it.
    #[arg(long, value_enum, default_value_t = BackendArg::Sim)]
    backend: BackendArg,
    /// Passes of every component, instead of the plan's.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    passes: Option<u32>,
    /// Seed of simulated jitter.
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Largest deviation of simulated durations, such as 5%, instead of the device's.
    #[arg(long, value_name = "SHARE")]
    jitter: Option<Fraction>,
    /// Where to write the profile: .json or .json.gz.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    cuda: cuda::CudaArgs,
}

/// What executes programs.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum BackendArg {
    /// Deterministic discrete-event simulation.
    Sim,
    /// Real copies on a GPU.
    Cuda,
}

pub fn run(args: &Args, terminal: &mut Terminal) -> Result<()> {
    let file = args.plan.display().to_string();
    let mut plan = Plan::from_yaml(&file, &files::read_text(&args.plan)?)?;
    match (args.backend, args.cuda.given()) {
        (BackendArg::Sim, Some(option)) => {
            return Err(Error::usage(format!("{option} is for --backend cuda")));
        }
        (BackendArg::Cuda, _) if plan.rank.is_some() => {
            return Err(Error::Usage {
                message: "--backend cuda runs one device; the plan is of a rank among several"
                    .to_owned(),
                hint: Some("simulate it, or plan without --ranks".to_owned()),
            });
        }
        (BackendArg::Cuda, _) if args.jitter.is_some() => {
            return Err(Error::usage("--jitter is for --backend sim"));
        }
        _ => {}
    }
    if let Some(passes) = args.passes {
        with_passes(&mut plan, passes)?;
    }
    if args.jitter.is_some_and(|jitter| jitter >= Fraction::WHOLE) {
        return Err(Error::usage(
            "--jitter: found 1 or more, expected a share below 1, such as 5%",
        ));
    }
    let (program, _) = check::verified(&file, &plan)?;
    let (profile, outcome) = match args.backend {
        BackendArg::Sim => {
            let jitter = args.jitter.unwrap_or(plan.device.jitter);
            let sim = Sim { jitter, seed: args.seed, ..Sim::on(&plan.device) };
            simulate_watched(&plan, &program, sim, &mut Stop::new())?
        }
        BackendArg::Cuda => cuda::execute(&args.cuda, &plan, &program, args.seed, terminal)?,
    };
    let mut written = false;
    if let Some(path) = &args.output {
        let gzip = path.extension().is_some_and(|extension| extension == "gz");
        let bytes = if gzip { profile::write_gz(&profile)? } else { profile::write(&profile)? };
        written = terminal.deliver(path, &bytes)?;
    }
    outcome?;
    let mut text = report::screen(&View::of(&profile));
    text.push_str(&cuda::told(&profile));
    if let Some(path) = args.output.as_ref().filter(|_| written) {
        text.push_str(&format!("\nprofile written to {}\n", path.display()));
    }
    if args.output.is_some() && !written {
        return Ok(());
    }
    terminal.answer(&profile::summary(&profile), &text)
}

/// Spans that one profile may hold; about a gigabyte while it is made.
const MAX_SPANS: u64 = 4_000_000;

/// Refuses runs that no profile holds.
pub fn check_spans(spans: u64) -> Result<()> {
    if spans <= MAX_SPANS {
        return Ok(());
    }
    Err(Error::Usage {
        message: format!("the run would record {spans} spans, a profile holds {MAX_SPANS}"),
        hint: Some("give fewer --passes: later passes only repeat earlier ones".to_owned()),
    })
}

/// Runs a program in the simulator.
pub fn simulate(plan: &Plan, program: &Program, sim: Sim) -> Result<(Profile, Result<()>)> {
    simulate_watched(plan, program, sim, &mut Unwatched)
}

fn simulate_watched(
    plan: &Plan,
    program: &Program,
    sim: Sim,
    watch: &mut dyn Watch,
) -> Result<(Profile, Result<()>)> {
    let spans = |phase: &Phase| phase.schedule.ops.len() as u64 * u64::from(phase.passes);
    check_spans(program.phases.iter().map(spans).sum())?;
    let header = Header { backend: sim.name().to_owned(), ..header(plan, program, sim.seed)? };
    Ok(backend::record_watched(&sim, program, header, watch))
}

/// The plan for another number of passes; predictions follow.
fn with_passes(plan: &mut Plan, passes: u32) -> Result<()> {
    if plan.pipeline.is_some() {
        let message = "--passes: what a pipeline's components wait for among each other depends on \
                       their passes";
        let hint = Some("plan it for other passes: vramplan plan … --passes N".to_owned());
        return Err(Error::Usage { message: message.to_owned(), hint });
    }
    for component in &mut plan.components {
        component.run_for(passes);
        component.foresee(&plan.device, plan.budget.reserve)?;
    }
    Ok(())
}

/// The plan with the passes that a profile says it ran, by component.
pub fn with_passes_of(plan: &mut Plan, profile: &Profile) -> Result<()> {
    for (component, ran) in plan.components.iter_mut().zip(&profile.header.components) {
        component.run_for(ran.passes);
        component.foresee(&plan.device, plan.budget.reserve)?;
    }
    Ok(())
}

/// What a profile says about its plan; as simulated.
pub fn header(plan: &Plan, program: &Program, seed: u64) -> Result<Header> {
    let predictions = plan.predictions()?;
    let components = program.phases.iter().zip(predictions).map(|(phase, prediction)| {
        let component = &plan.components[phase.of];
        let on_link: Vec<Nanos> = component.blocks.iter().map(|block| block.on_link).collect();
        ComponentHeader {
            name: phase.component.clone(),
            passes: component.passes,
            turns: component.turns,
            blocks: phase.blocks.clone(),
            unit: component.unit,
            bytes: component.blocks.iter().map(|block| block.bytes).collect(),
            on_link: if on_link.iter().any(|time| !time.is_zero()) { on_link } else { Vec::new() },
            prediction: Some(prediction),
            bound: Some(component.bound.clone()),
            skipped: component.skipped.clone(),
        }
    });
    let text = plan.to_yaml()?;
    Ok(Header {
        model: plan.model.clone(),
        plan_digest: digest(&text),
        backend: "sim".to_owned(),
        device: plan.device.name.clone(),
        rank: plan.rank.as_ref().map(RankOf::named),
        origin: Origin::Simulated,
        clock: "simulated".to_owned(),
        seed,
        tool_version: env!("CARGO_PKG_VERSION").to_owned(),
        complete: false,
        budget: plan.budget.vram,
        reserve: plan.peak().saturating_sub(program.slab),
        slab: program.slab,
        window: plan.components.iter().map(|c| c.window.bytes).max().unwrap_or_default(),
        components: components.collect(),
        measured: None,
        plan: Some(text),
    })
}
