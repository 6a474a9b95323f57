//! What `run --backend cuda` takes beyond a plan, and how it becomes a run on a GPU.

use std::path::PathBuf;

use clap::ValueEnum;

use super::inputs::{self, Selection};
use super::watch::Console;
use super::weights::Checkpoint;
use super::{Terminal, run};
use crate::backend;
use crate::backend::cuda::{Cuda, Gpu, Options, Pattern, Weights, Work};
use crate::digest::digest;
use crate::error::{Error, Problem, Result};
use crate::figures::Origin;
use crate::model::Manifest;
use crate::plan::Plan;
use crate::profile::{Header, Profile};
use crate::program::image::{ComponentImage, images};
use crate::program::{Phase, Program};
use crate::workload::Seen;

/// Set by tests only: the driver that stands in for a GPU may be used.
const ALLOW_STAND_IN: &str = "VRAMPLAN_ALLOW_STANDIN";

/// Passes that the host issues ahead of the device.
const IN_FLIGHT: u32 = 2;

/// Options of a run on a GPU.
#[derive(clap::Args)]
#[command(next_help_heading = "With --backend cuda")]
pub struct CudaArgs {
    /// The GPU's index.
    #[arg(long, value_name = "N", default_value_t = 0)]
    gpu: u32,
    /// The plan's model: a built-in one, a manifest, or the checkpoint; names the tensors of each block.
    #[arg(long, value_name = "MODEL")]
    model: Option<String>,
    /// The bytes of the weights: the checkpoint's, or made up from --seed.
    ///
    /// Without it, those of --model where that is a checkpoint, else made up.
    #[arg(long, value_enum)]
    weights: Option<WeightsArg>,
    /// What stands for a use of a block.
    #[arg(long, value_enum, default_value_t = WorkArg::Best)]
    compute: WorkArg,
    /// Compare every byte on the device with the host's right before its use.
    #[arg(long)]
    verify: bool,
    /// Time the operations of every Nth pass only; 0 for none.
    #[arg(long, value_name = "N", default_value_t = 1)]
    sample: u32,
    /// Run some passes again without timing them, to see what timing costs.
    #[arg(long)]
    overhead: bool,
    /// Refuse a plan that was made for another device, instead of warning.
    #[arg(long)]
    strict: bool,
    /// A workload file instead of the model's default, for the tokens of matrix products.
    #[arg(long, value_name = "FILE")]
    workload: Option<PathBuf>,
    /// Tokens of the main stream, for the same.
    #[arg(long, value_name = "N")]
    tokens: Option<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum WeightsArg {
    /// Those of the checkpoint that --model names.
    Checkpoint,
    /// Made up from the seed, the same for every plan of a model.
    Pattern,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum WorkArg {
    /// Gemm where cuBLASLt and --model are there, else spin; the profile says which.
    Best,
    /// Every matrix of the block multiplies an activation of the workload's tokens.
    Gemm,
    /// A kernel that lasts as long as the plan says.
    Spin,
    /// A kernel that reads every byte of the block once.
    Touch,
}

impl From<WorkArg> for Work {
    fn from(work: WorkArg) -> Self {
        match work {
            WorkArg::Best => Self::Best,
            WorkArg::Gemm => Self::Gemm,
            WorkArg::Spin => Self::Spin,
            WorkArg::Touch => Self::Touch,
        }
    }
}

impl CudaArgs {
    /// The first option that differs from its default: what the simulator would ignore.
    pub fn given(&self) -> Option<&'static str> {
        let given = [
            (self.gpu != 0, "--gpu"),
            (self.model.is_some(), "--model"),
            (self.weights.is_some(), "--weights"),
            (self.compute != WorkArg::Best, "--compute"),
            (self.verify, "--verify"),
            (self.sample != 1, "--sample"),
            (self.overhead, "--overhead"),
            (self.strict, "--strict"),
            (self.workload.is_some(), "--workload"),
            (self.tokens.is_some(), "--tokens"),
        ];
        given.into_iter().find(|(given, _)| *given).map(|(_, name)| name)
    }
}

/// Whether the tests' stand-in for a driver may be used.
pub fn stand_in_allowed() -> bool {
    std::env::var_os(ALLOW_STAND_IN).is_some_and(|value| value == "1")
}

/// Runs a program on a GPU.
pub fn execute(
    args: &CudaArgs,
    plan: &Plan,
    program: &Program,
    seed: u64,
    terminal: &mut Terminal,
) -> Result<(Profile, Result<()>)> {
    let gpu = Gpu::open(args.gpu, stand_in_allowed())?;
    check_device(plan, &gpu, args.strict, terminal)?;
    let model = args.model.as_deref();
    let manifest = model.map(|name| inputs::load_model(name, terminal)).transpose()?;
    if let Some(manifest) = &manifest {
        check_manifest(plan, manifest)?;
    }
    let mut images = images(plan, manifest.as_ref())?;
    if let Some(manifest) = &manifest {
        see_tokens(args, plan, manifest, &mut images)?;
    }
    let pattern = Pattern { seed };
    let checkpoint = checkpoint(args, &images)?;
    let weights: &dyn Weights = match &checkpoint {
        Some(checkpoint) => checkpoint,
        None => &pattern,
    };
    let options = Options {
        work: args.compute.into(),
        verify: args.verify,
        sample: args.sample,
        overhead: args.overhead,
        in_flight: IN_FLIGHT,
        reserve: plan.budget.reserve,
    };
    run::check_spans(recorded_spans(program, args.sample))?;
    let header = header(plan, program, &gpu, seed)?;
    let cuda = Cuda::new(gpu, &images, weights, options);
    cuda.check_budget(plan.budget.vram, program.slab)?;
    let mut console = Console::new(terminal, program);
    let (mut profile, outcome) = backend::record_watched(&cuda, program, header, &mut console);
    console.finish();
    let mut measured = cuda.measured();
    measured.weights = match &checkpoint {
        Some(checkpoint) => format!("checkpoint {}", checkpoint.path()),
        None => format!("pattern of seed {seed}"),
    };
    profile.header.measured = Some(measured);
    Ok((profile, outcome))
}

/// A plan made for another device is not wrong, but its times are not this one's.
fn check_device(plan: &Plan, gpu: &Gpu, strict: bool, terminal: &mut Terminal) -> Result<()> {
    let total = gpu.total_memory()?;
    let planned = &plan.device;
    let mut differences = Vec::new();
    if planned.name != gpu.name() {
        differences.push(format!("{:?}, this is {:?}", planned.name, gpu.name()));
    }
    // Drivers keep a part of what the datasheet says.
    let near = |a: u64, b: u64| a.abs_diff(b) <= a.max(b) / 16;
    if !near(planned.vram.get(), total.get()) {
        differences.push(format!(
            "{} of VRAM, this one has {}",
            planned.vram.human(),
            total.human()
        ));
    }
    if differences.is_empty() {
        return Ok(());
    }
    let message = format!("the plan was made for {}", differences.join("; "));
    match strict {
        true => Err(Error::Usage {
            message,
            hint: Some("plan with this GPU's spec: vramplan probe -o gpu.yaml".to_owned()),
        }),
        false => {
            terminal.warn(&format!("{message}; predicted times are those of the former"));
            Ok(())
        }
    }
}

/// The model must be the one that was planned, to the last tensor.
fn check_manifest(plan: &Plan, manifest: &Manifest) -> Result<()> {
    let found = digest(&manifest.to_yaml()?);
    if found == plan.digests.manifest {
        return Ok(());
    }
    let expected =
        format!("{}, what was planned; plan again from this model", plan.digests.manifest);
    let problem = Problem::new("digest of its manifest", found, expected);
    Err(Error::input(manifest.model.clone(), problem))
}

/// Says how many tokens multiply each weight.
fn see_tokens(
    args: &CudaArgs,
    plan: &Plan,
    manifest: &Manifest,
    images: &mut [ComponentImage],
) -> Result<()> {
    let selection = Selection {
        components: plan.components.iter().map(|component| component.name.clone()).collect(),
        workload: args.workload.clone(),
        tokens: args.tokens,
        ..Selection::default()
    };
    let workload = selection.workload(manifest, &selection.components(manifest)?)?;
    for image in images {
        let Some(component) = manifest.component(&image.component) else { continue };
        let seen = Seen::new(manifest, component, &workload)?;
        for block in &mut image.blocks {
            let prefix = match block.block.as_str() {
                crate::plan::ROOT => String::new(),
                id => format!("{id}."),
            };
            for tensor in &mut block.tensors {
                tensor.tokens = seen.tokens(&format!("{prefix}{}", tensor.name));
            }
        }
    }
    Ok(())
}

/// The checkpoint's bytes, where they are asked for or there.
fn checkpoint(args: &CudaArgs, images: &[ComponentImage]) -> Result<Option<Checkpoint>> {
    let named = args.model.as_deref().filter(|name| inputs::is_checkpoint(name));
    match (args.weights, named) {
        (Some(WeightsArg::Pattern), _) | (None, None) => Ok(None),
        (Some(WeightsArg::Checkpoint), None) => Err(Error::usage(
            "--weights checkpoint: --model names no checkpoint, expected the path of one",
        )),
        (_, Some(path)) => Ok(Some(Checkpoint::open(path, images)?)),
    }
}

/// Spans that a run records: all of timed passes, one of each other.
fn recorded_spans(program: &Program, sample: u32) -> u64 {
    let of = |phase: &Phase| {
        let passes = u64::from(phase.passes);
        let timed = if sample == 0 { 0 } else { passes.div_ceil(u64::from(sample)) };
        (phase.schedule.ops.len() as u64).saturating_mul(timed).saturating_add(passes)
    };
    program.phases.iter().map(of).sum()
}

fn header(plan: &Plan, program: &Program, gpu: &Gpu, seed: u64) -> Result<Header> {
    let origin = if gpu.is_stand_in() { Origin::Simulated } else { Origin::Measured };
    Ok(Header {
        backend: "cuda".to_owned(),
        device: gpu.name().to_owned(),
        origin,
        clock: "cuda_event".to_owned(),
        ..run::header(plan, program, seed)?
    })
}

/// What `run` says about the measurement, for people.
pub fn told(profile: &Profile) -> String {
    use std::fmt::Write as _;
    let Some(measured) = &profile.header.measured else { return String::new() };
    let mut text = String::new();
    let _ = writeln!(text, "\ncompute        {}", measured.compute);
    let _ = writeln!(text, "weights        {}", measured.weights);
    let (locked, fill) = (measured.locked.human(), measured.fill.human());
    let _ = writeln!(text, "page-locked    {locked}, allocated and filled in {fill}");
    let (own, peak) = (measured.allocated.human(), measured.driver_peak);
    let used = peak.saturating_sub(measured.driver_before).human();
    let _ = writeln!(
        text,
        "device memory  {own} allocated; by the driver {used} more than before, {} in use by all",
        peak.human()
    );
    let error = measured.clock_error.human();
    let _ = writeln!(text, "clock          {}, off by at most {error}", profile.header.clock);
    let issue = measured.issue_per_operation.human();
    let _ =
        writeln!(text, "host           {issue} to issue one of {} operations", measured.operations);
    if let Some(cost) = measured.overhead {
        let (timed, untimed) = (cost.timed.human(), cost.untimed.human());
        let _ = writeln!(text, "profiling      median pass {timed} with times, {untimed} without");
    }
    if let Some(digest) = &measured.digest {
        let passes = measured.verified_passes;
        let _ = writeln!(text, "verified       every byte of {passes} passes; {digest}");
    }
    if measured.sample > 1 {
        let _ = writeln!(
            text,
            "sampled        every {}th pass has spans: overlap and stalls above are theirs",
            measured.sample
        );
    }
    text
}
