//! Turns a program into real copies and kernels on an NVIDIA GPU, and their events into spans.
//!
//! ```text
//! Program ─┐
//! images  ─┼─▶ slab (one allocation), arena (page-locked) per component ─▶ passes ─▶ spans, digests, pass times
//! weights ─┘
//! ```
//!
//! | file | turns |
//! |---|---|
//! | `driver` | the driver library into a table of functions |
//! | `gpu`, `memory`, `stream`, `module` | handles into owners that give back what they hold |
//! | `arena` | weights into page-locked memory, one stretch per piece |
//! | `steps`, `executor` | operations into driver calls, in order of issue |
//! | `clock`, `read` | events into spans |
//! | `digest`, `verify` | bytes on the device into a comparison with the host's |
//! | `kernels` | PTX carried in the binary into `spin`, `touch`, `digest` |
//! | `blas`, `gemm`, `compute` | a use of a block into matrix products, where cuBLASLt is there |
//! | `probe` | this machine's GPU into a device spec |
//!
//! The driver library is found when it is needed, so the program starts on machines without one. What is missing is
//! an [`Error::Backend`]; nothing here panics.

mod arena;
mod blas;
mod clock;
mod compute;
mod digest;
mod driver;
mod executor;
mod gemm;
mod gpu;
mod kernels;
mod memory;
mod module;
pub mod probe;
mod read;
mod steps;
mod stream;
mod verify;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use self::arena::Arena;
use self::blas::Blas;
use self::compute::Compute;
use self::executor::{Prepared, Run, Settings};
use self::gemm::Gemm;
use self::kernels::Kernels;
use self::memory::DeviceMemory;
use self::read::Reader;
use self::stream::{Priority, Stream};
use self::verify::Verifier;
use super::{Backend, Discard, Recorder};
use crate::error::{Error, Result};
use crate::profile::{Measured, Overhead};
use crate::program::image::ComponentImage;
use crate::program::{Phase, Program};
use crate::units::{Bytes, Nanos};

pub use arena::{Pattern, Weights};
pub use gpu::Gpu;
pub use kernels::PTX;

/// What stands for a use of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// [`Work::Gemm`] where cuBLASLt and the tensors are there, else [`Work::Spin`].
    Best,
    /// Every matrix of the block multiplies activations of the workload's tokens.
    Gemm,
    /// A kernel that lasts as long as the plan says.
    Spin,
    /// A kernel that reads every byte of the block once.
    Touch,
}

/// How a program is executed.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// What stands for a use of a block.
    pub work: Work,
    /// Whether every byte is compared with the host's before its use.
    pub verify: bool,
    /// Every how many passes operations are timed; 0 for never, 1 for always.
    pub sample: u32,
    /// Whether some passes are run again without timing, to see what timing costs.
    pub overhead: bool,
    /// Passes that the host issues ahead of the device, at least 1.
    pub in_flight: u32,
    /// Device memory that is not for weights: activations, workspace and digests must fit into it.
    pub reserve: Bytes,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            work: Work::Best,
            verify: false,
            sample: 1,
            overhead: false,
            in_flight: 2,
            reserve: Bytes::new(u64::MAX),
        }
    }
}

/// Passes that are run again without timing.
const UNTIMED_PASSES: u32 = 6;

/// A GPU that runs programs with these weights.
pub struct Cuda<'a> {
    gpu: Rc<Gpu>,
    images: &'a [ComponentImage],
    weights: &'a dyn Weights,
    options: Options,
    measured: RefCell<Measured>,
}

impl<'a> Cuda<'a> {
    /// Runs programs on `gpu` with weights whose pieces are those of `images`.
    pub fn new(
        gpu: Rc<Gpu>,
        images: &'a [ComponentImage],
        weights: &'a dyn Weights,
        options: Options,
    ) -> Self {
        Self { gpu, images, weights, options, measured: RefCell::default() }
    }

    /// What the run measured besides its spans; complete once the run has ended.
    pub fn measured(&self) -> Measured {
        self.measured.borrow().clone()
    }

    /// Refuses a budget that is more than what is free on the device now, with the numbers.
    pub fn check_budget(&self, budget: Bytes, slab: Bytes) -> Result<()> {
        let (free, total) = self.gpu.memory_now()?;
        if budget <= free {
            return Ok(());
        }
        Err(Error::Run(format!(
            "the plan's budget is {} ({} of it the slab), but {} of the {} of {} are free now; free memory, or plan \
             with --vram {}MiB",
            budget.human(),
            slab.human(),
            free.human(),
            total.human(),
            self.gpu.name(),
            free.get() >> 20,
        )))
    }

    /// What is not weights must fit into what the plan leaves for it.
    fn check_reserve(&self, extra: Bytes) -> Result<()> {
        if extra <= self.options.reserve {
            return Ok(());
        }
        let (needed, reserve) = (extra.human(), self.options.reserve.human());
        Err(Error::Usage {
            message: format!(
                "activations, workspace and digests take {needed}, the plan's reserve is {reserve}"
            ),
            hint: Some("plan with a larger --reserve, or run with --compute spin".to_owned()),
        })
    }

    fn in_use(&self) -> Result<Bytes> {
        let (free, total) = self.gpu.memory_now()?;
        Ok(total.saturating_sub(free))
    }

    fn settings(&self) -> Settings {
        Settings { in_flight: self.options.in_flight.max(1), sample: self.options.sample }
    }

    /// Everything that is allocated before the first pass.
    fn prepare<'p>(&self, program: &'p Program) -> Result<Made<'p>>
    where
        'a: 'p,
    {
        if program.phases.len() != self.images.len() {
            let message = "the images are those of another plan".to_owned();
            return Err(Error::Internal(message));
        }
        let kernels = Kernels::new(&self.gpu)?;
        let before = self.in_use()?;
        let slab = self.slab(program)?;
        let start = clock::host_now();
        let arena = |image| Arena::new(&self.gpu, image, self.weights, self.options.verify);
        let arenas = self.images.iter().map(arena).collect::<Result<Vec<_>>>()?;
        let fill = clock::since(start);
        let rows = self.settings().in_flight;
        let verifier = |image| {
            let wanted = self.options.verify;
            wanted.then(|| Verifier::new(&self.gpu, image, rows)).transpose()
        };
        let verifiers = self.images.iter().map(verifier).collect::<Result<Vec<_>>>()?;
        let mut extra: u64 = match self.options.verify {
            true => self.images.iter().map(|image| Verifier::device_bytes(image, rows)).sum(),
            false => 0,
        };
        let (compute, why) = self.compute(program)?;
        extra += compute.iter().map(Compute::bytes).sum::<u64>();
        self.check_reserve(Bytes::new(extra))?;
        let mut measured = self.measured.borrow_mut();
        measured.driver = self.gpu.driver_version();
        measured.compute = why;
        measured.sample = self.options.sample;
        measured.fill = fill;
        measured.locked = arenas.iter().map(|arena| arena.locked).sum();
        measured.allocated = program.slab.saturating_add(Bytes::new(extra));
        measured.driver_before = before;
        measured.driver_peak = self.in_use()?;
        drop(measured);
        Ok(Made { program, kernels, slab, arenas, verifiers, compute })
    }

    /// The one allocation for weights, filled with what is no weight.
    fn slab(&self, program: &Program) -> Result<DeviceMemory> {
        let slab = DeviceMemory::new(&self.gpu, program.slab.get()).map_err(|failure| {
            let now = self.gpu.memory_now();
            let free = now.map_or_else(|_| "?".to_owned(), |(free, _)| free.human());
            let what = if failure.is_out_of_memory() { "does not fit" } else { "was refused" };
            let slab = program.slab.human();
            Error::Run(format!("the slab of {slab} {what}, {free} are free now: {failure}"))
        })?;
        let stream = Stream::new(&self.gpu, Priority::Least)?;
        let bytes = usize::try_from(program.slab.get().max(1)).unwrap_or(usize::MAX);
        stream.fill(slab.start(), 0xFF, bytes)?;
        stream.synchronise()?;
        Ok(slab)
    }

    /// What stands for compute, per phase, and what the profile says about it.
    fn compute(&self, program: &Program) -> Result<(Vec<Compute>, String)> {
        let all = |make: fn() -> Compute| program.phases.iter().map(|_| make()).collect();
        let spin = |why: &str| (all(|| Compute::Spin), format!("spin{why}"));
        match self.options.work {
            Work::Spin => return Ok(spin("")),
            Work::Touch => return Ok((all(|| Compute::Touch), "touch".to_owned())),
            Work::Best | Work::Gemm => {}
        }
        let forced = self.options.work == Work::Gemm;
        let tensors = |image: &ComponentImage| {
            let mut tensors = image.blocks.iter().flat_map(|block| &block.tensors);
            tensors.any(|tensor| tensor.tokens > 0)
        };
        let missing = match self.images.iter().all(tensors) {
            false => "the plan names no tensors; give --model".to_owned(),
            true => match Blas::open(&self.gpu)? {
                Ok(blas) => return self.products(program, blas),
                Err(missing) => format!("no cuBLASLt: {missing}"),
            },
        };
        match forced {
            true => Err(driver::unavailable(format!("--compute gemm: {missing}"))),
            false => Ok(spin(&format!(" ({missing})"))),
        }
    }

    fn products(&self, program: &Program, blas: Blas) -> Result<(Vec<Compute>, String)> {
        let name = blas.name;
        let blas = Rc::new(blas);
        let mut computes = Vec::new();
        let mut flops = 0u64;
        for (phase, image) in program.phases.iter().zip(self.images) {
            let gemm = Gemm::new(&self.gpu, &blas, phase, image)?;
            flops = flops.saturating_add(gemm.flops);
            computes.push(Compute::Gemm(Box::new(gemm)));
        }
        Ok((computes, format!("gemm ({name}, {flops} operations per pass)")))
    }

    /// Uses every block once where nothing counts: libraries load their code at its first launch.
    fn warm_up(&self, made: &Made<'_>) -> Result<()> {
        let stream = Stream::new(&self.gpu, Priority::Least)?;
        for (n, phase) in made.program.phases.iter().enumerate() {
            let prepared = made.prepared(&self.gpu, (n, phase, &self.images[n]), self.settings());
            if let Compute::Gemm(gemm) = &made.compute[n] {
                for block in 0..phase.blocks.len() {
                    gemm.issue(&prepared, &stream, block, 0)?;
                }
            }
        }
        Ok(stream.synchronise()?)
    }

    /// Runs a phase; gives when it ended.
    fn phase(
        &self,
        made: &Made<'_>,
        n: usize,
        start: Nanos,
        recorder: &mut dyn Recorder,
    ) -> Result<(Nanos, Digests)> {
        let phase = &made.program.phases[n];
        let prepared = made.prepared(&self.gpu, (n, phase, &self.images[n]), self.settings());
        let mut run = Run::new(&prepared)?;
        let component = u32::try_from(n).unwrap_or(u32::MAX);
        let mut reader = Reader::new(&run, &made.arenas[n], component, start);
        let outcome = run.run(&mut reader, recorder);
        let mut measured = self.measured.borrow_mut();
        measured.driver_peak = measured.driver_peak.max(self.in_use().unwrap_or_default());
        let error = reader.error.saturating_add(clock::RESOLUTION);
        measured.clock_error = measured.clock_error.max(error);
        measured.passes.push(reader.passes.clone());
        measured.verified_passes += reader.verified;
        let operations = phase.schedule.ops.len() as u64;
        let issue = median(run.issue.clone()).get() / operations.max(1);
        measured.operations += operations;
        measured.issue_per_operation = measured.issue_per_operation.max(Nanos::new(issue));
        if measured.overhead.is_none() && self.options.sample > 1 {
            measured.overhead = sampled_overhead(&reader.passes, self.settings());
        }
        drop(measured);
        let digests = std::mem::take(&mut reader.digests);
        let end = reader.finish(recorder);
        outcome.map(|()| (end, digests))
    }

    /// Runs some passes of the first phase again without timing.
    fn untimed(&self, made: &Made<'_>) -> Result<()> {
        let Some(phase) = made.program.phases.first() else { return Ok(()) };
        let phase = Phase { passes: phase.passes.min(UNTIMED_PASSES), ..phase.clone() };
        let settings = Settings { sample: 0, ..self.settings() };
        let prepared = made.prepared(&self.gpu, (0, &phase, &self.images[0]), settings);
        let mut run = Run::new(&prepared)?;
        let mut reader = Reader::new(&run, &made.arenas[0], 0, Nanos::ZERO);
        run.run(&mut reader, &mut Discard::default())?;
        let mut measured = self.measured.borrow_mut();
        let steady = |passes: &[Nanos]| passes.iter().skip(1).copied().collect::<Vec<_>>();
        let timed = measured.passes.first().map(|passes| median(steady(passes)));
        let untimed = median(steady(&reader.passes));
        measured.overhead = timed.map(|timed| Overhead { timed, untimed });
        Ok(())
    }
}

/// What was made before the first pass. Dropped in this order: what uses memory before the memory.
struct Made<'p> {
    program: &'p Program,
    compute: Vec<Compute>,
    verifiers: Vec<Option<Verifier>>,
    arenas: Vec<Arena>,
    kernels: Kernels,
    slab: DeviceMemory,
}

/// Of each block of a component, what the device saw.
type Digests = Vec<u64>;

impl Made<'_> {
    fn prepared<'r>(
        &'r self,
        gpu: &'r Rc<Gpu>,
        (n, phase, image): (usize, &'r Phase, &'r ComponentImage),
        settings: Settings,
    ) -> Prepared<'r> {
        Prepared {
            gpu,
            kernels: &self.kernels,
            phase,
            image,
            arena: &self.arenas[n],
            slab: self.slab.start(),
            compute: &self.compute[n],
            verifier: self.verifiers[n].as_ref(),
            settings,
        }
    }
}

impl Backend for Cuda<'_> {
    fn name(&self) -> &'static str {
        "cuda"
    }

    fn run(&self, program: &Program, recorder: &mut dyn Recorder) -> Result<()> {
        *self.measured.borrow_mut() = Measured::default();
        let made = self.prepare(program)?;
        self.warm_up(&made)?;
        let mut now = Nanos::ZERO;
        let mut seen: BTreeMap<String, u64> = BTreeMap::new();
        for n in 0..program.phases.len() {
            let (end, digests) = self.phase(&made, n, now, recorder)?;
            // Uses of parts of a block add up to the block.
            for (of, digest) in
                self.images[n].blocks.iter().zip(digests).filter(|(b, _)| b.bytes > 0)
            {
                let id = format!("{}.{}", self.images[n].component, of.block);
                let sum = seen.entry(id).or_default();
                *sum = sum.wrapping_add(digest);
            }
            now = end;
        }
        if self.options.verify {
            let line = |(block, sum): (&String, &u64)| format!("{block} {sum:016x}\n");
            let lines: String = seen.iter().map(line).collect();
            self.measured.borrow_mut().digest = Some(crate::digest::digest(&lines));
        }
        match self.options.overhead && self.options.sample > 0 {
            true => self.untimed(&made),
            false => Ok(()),
        }
    }
}

/// The lower median; zero of nothing.
fn median(mut times: Vec<Nanos>) -> Nanos {
    times.sort_unstable();
    let middle = times.len().saturating_sub(1) / 2;
    times.get(middle).copied().unwrap_or_default()
}

/// What timing costs, from the passes of one run of which only some were timed. The first and the last pass, whose
/// work is another, do not count.
fn sampled_overhead(passes: &[Nanos], settings: Settings) -> Option<Overhead> {
    let steady = (0u32..).zip(passes).skip(1).take(passes.len().saturating_sub(2));
    let (timed, untimed): (Vec<_>, Vec<_>) = steady.partition(|(pass, _)| settings.timed(*pass));
    let times = |passes: Vec<(u32, &Nanos)>| passes.into_iter().map(|(_, &time)| time).collect();
    (!timed.is_empty() && !untimed.is_empty())
        .then(|| Overhead { timed: median(times(timed)), untimed: median(times(untimed)) })
}
