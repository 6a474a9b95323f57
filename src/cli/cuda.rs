//! What `run --backend cuda` takes beyond a plan, and how it becomes a run on a GPU.

use std::path::PathBuf;
use std::rc::Rc;

use clap::ValueEnum;

use super::inputs::{self, Selection};
use super::watch::Console;
use super::weights::Checkpoint;
use super::{Terminal, run};
use crate::backend;
use crate::backend::cuda::{Choice, Cuda, Gpu, Options, Pattern, Verify, Weights, Work};
use crate::device::DeviceSpec;
use crate::digest::digest;
use crate::error::{Error, Problem, Result};
use crate::figures::Origin;
use crate::model::Manifest;
use crate::plan::Plan;
use crate::profile::{Header, Profile};
use crate::program::image::{ComponentImage, HostMemory, images};
use crate::program::{Phase, Program};
use crate::workload::{Seen, Workload};

/// Set by tests only: the driver that stands in for a GPU may be used.
const ALLOW_STAND_IN: &str = "VRAMPLAN_ALLOW_STANDIN";

/// Passes that the host issues ahead of the device.
const IN_FLIGHT: u32 = 2;

/// Options of a run on a GPU.
#[derive(clap::Args)]
#[command(next_help_heading = "With --backend cuda")]
pub struct CudaArgs {
    #[command(flatten)]
    on: GpuArgs,
    /// Compare every byte on the device with the host's right before its use.
    #[arg(long)]
    verify: bool,
    /// The plan's model: a built-in one, a manifest, or the checkpoint; names the tensors of each block.
    #[arg(long, value_name = "MODEL")]
    model: Option<String>,
    /// A workload file instead of the model's default, for the tokens of matrix products.
    #[arg(long, value_name = "FILE")]
    workload: Option<PathBuf>,
    /// Tokens of the main stream, for the same.
    #[arg(long, value_name = "N")]
    tokens: Option<u64>,
}

/// Options of every run on a GPU, whatever plans it.
#[derive(clap::Args)]
pub struct GpuArgs {
    /// The GPU's index.
    #[arg(long, value_name = "N", default_value_t = 0)]
    gpu: u32,
    /// The bytes of the weights: the checkpoint's, or made up from --seed.
    ///
    /// Without it, those of the model where that is a checkpoint, else made up.
    #[arg(long, value_enum)]
    weights: Option<WeightsArg>,
    /// What stands for a use of a block.
    #[arg(long, value_enum, default_value_t = WorkArg::Best)]
    compute: WorkArg,
    /// Time the operations of every Nth pass only; 0 for none.
    #[arg(long, value_name = "N", default_value_t = 1)]
    sample: u32,
    /// Run some passes again without timing them, to see what timing costs.
    #[arg(long)]
    overhead: bool,
    /// Refuse a plan that was made for another device, instead of warning.
    #[arg(long)]
    strict: bool,
    /// Launch the passes between the first and the last as CUDA graphs; auto tries both ways first.
    #[arg(long, value_enum, default_value_t = ChoiceArg::Auto)]
    graph: ChoiceArg,
    /// Copy from write-combined memory; auto measures both kinds first.
    #[arg(long, value_enum, default_value_t = ChoiceArg::Auto)]
    write_combined: ChoiceArg,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ChoiceArg {
    /// What measures faster here; the profile says which, and by how much.
    Auto,
    /// Always; fails where it cannot be.
    On,
    /// Never.
    Off,
}

impl From<ChoiceArg> for Choice {
    fn from(choice: ChoiceArg) -> Self {
        match choice {
            ChoiceArg::Auto => Self::Auto,
            ChoiceArg::On => Self::On,
            ChoiceArg::Off => Self::Off,
        }
    }
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

impl GpuArgs {
    /// The first option that differs from its default: what would be ignored without a GPU.
    pub fn given(&self) -> Option<&'static str> {
        let given = [
            (self.gpu != 0, "--gpu"),
            (self.weights.is_some(), "--weights"),
            (self.compute != WorkArg::Best, "--compute"),
            (self.sample != 1, "--sample"),
            (self.overhead, "--overhead"),
            (self.strict, "--strict"),
            (self.graph != ChoiceArg::Auto, "--graph"),
            (self.write_combined != ChoiceArg::Auto, "--write-combined"),
        ];
        given.into_iter().find(|(given, _)| *given).map(|(_, name)| name)
    }
}

impl CudaArgs {
    /// The first option that differs from its default: what the simulator would ignore.
    pub fn given(&self) -> Option<&'static str> {
        let given = [
            (self.model.is_some(), "--model"),
            (self.verify, "--verify"),
            (self.workload.is_some(), "--workload"),
            (self.tokens.is_some(), "--tokens"),
        ];
        let own = given.into_iter().find(|(given, _)| *given).map(|(_, name)| name);
        self.on.given().or(own)
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
    let gpu = open(&args.on, &plan.device, terminal)?;
    let model = args.model.as_deref();
    let manifest = model.map(|name| inputs::load_model(name, terminal)).transpose()?;
    let workload = match &manifest {
        Some(manifest) => {
            check_manifest(plan, manifest)?;
            Some(workload(args, plan, manifest)?)
        }
        None => None,
    };
    let source = Source { model, tensors: manifest.as_ref().zip(workload.as_ref()), seed };
    let verify = if args.verify { Verify::Every } else { Verify::No };
    execute_on(&args.on, &gpu, (plan, program), &source, verify, terminal)
}

/// What a run knows of its model besides the plan.
pub struct Source<'a> {
    /// What the user named; a checkpoint's weights are there.
    pub model: Option<&'a str>,
    /// The tensors of each block, and the tokens that multiply them.
    pub tensors: Option<(&'a Manifest, &'a Workload)>,
    /// Of weights that are made up.
    pub seed: u64,
}

/// Opens the GPU and says where it is not the one that was planned for.
pub fn open(args: &GpuArgs, planned: &DeviceSpec, terminal: &mut Terminal) -> Result<Rc<Gpu>> {
    let gpu = Gpu::open(args.gpu, stand_in_allowed())?;
    check_device(planned, &gpu, args.strict, terminal)?;
    Ok(gpu)
}

/// Runs a program on a GPU that is open.
pub fn execute_on(
    args: &GpuArgs,
    gpu: &Rc<Gpu>,
    (plan, program): (&Plan, &Program),
    source: &Source<'_>,
    verify: Verify,
    terminal: &Terminal,
) -> Result<(Profile, Result<()>)> {
    let seed = source.seed;
    let mut images = images(plan, source.tensors.map(|(manifest, _)| manifest))?;
    if let Some((manifest, workload)) = source.tensors {
        see_tokens(manifest, workload, &mut images)?;
    }
    let pattern = Pattern { seed };
    let checkpoint = checkpoint(args, source, &images)?;
    let weights: &dyn Weights = match &checkpoint {
        Some(checkpoint) => checkpoint,
        None => &pattern,
    };
    let options = Options {
        work: args.compute.into(),
        verify,
        sample: args.sample,
        overhead: args.overhead,
        in_flight: IN_FLIGHT,
        reserve: plan.budget.reserve,
        graph: args.graph.into(),
        write_combined: args.write_combined.into(),
    };
    run::check_spans(recorded_spans(program, args.sample))?;
    let header = header(plan, program, gpu, seed)?;
    let cuda = Cuda::new(Rc::clone(gpu), &images, weights, options);
    cuda.check_program(program)?;
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
fn check_device(
    planned: &DeviceSpec,
    gpu: &Gpu,
    strict: bool,
    terminal: &mut Terminal,
) -> Result<()> {
    let total = gpu.total_memory()?;
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

/// The workload of a plan that is run by its file: the model's own, unless another is given.
fn workload(args: &CudaArgs, plan: &Plan, manifest: &Manifest) -> Result<Workload> {
    let selection = Selection {
        components: plan.components.iter().map(|component| component.name.clone()).collect(),
        workload: args.workload.clone(),
        tokens: args.tokens,
        ..Selection::default()
    };
    selection.workload(manifest, &selection.components(manifest)?)
}

/// Says how many tokens multiply each weight.
fn see_tokens(
    manifest: &Manifest,
    workload: &Workload,
    images: &mut [ComponentImage],
) -> Result<()> {
    for image in images {
        let Some(component) = manifest.component(&image.component) else { continue };
        let seen = Seen::new(manifest, component, workload)?;
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
fn checkpoint(
    args: &GpuArgs,
    source: &Source<'_>,
    images: &[ComponentImage],
) -> Result<Option<Checkpoint>> {
    let named = source.model.filter(|name| inputs::is_checkpoint(name));
    let blocks = images.iter().flat_map(|image| &image.blocks);
    let mut pieces = blocks.flat_map(|block| &block.pieces);
    let from_disk = pieces.any(|piece| piece.memory == HostMemory::Disk);
    match (args.weights, named) {
        (Some(WeightsArg::Pattern), _) | (None, None) if from_disk => Err(Error::usage(
            "the plan reads pieces from disk for each use, and there is no checkpoint to read; name it with --model",
        )),
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
    let _ = writeln!(text, "host memory    {locked} {}, filled in {fill}", measured.host_memory);
    for issued in &measured.graphs {
        let _ = writeln!(text, "issued         {}", issued.told());
    }
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
