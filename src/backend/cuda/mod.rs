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
//! | `prepare` | a program into all that is made once |
//! | `executor` | phases into a run; **start here** for who waits for what |
//! | `part`, `steps`, `waits`, `issue` | operations into driver calls, in order of issue |
//! | `repeat`, `graph`, `trial` | several passes into one launch, where that is faster |
//! | `disk` | reads from disk into the plan's rings, which copies come from |
//! | `locked` | a choice into the kind of page-locked memory that copies fastest |
//! | `clock`, `marks`, `read` | events into spans |
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
mod disk;
mod driver;
mod executor;
mod gemm;
mod gpu;
mod graph;
mod issue;
mod kernels;
mod locked;
mod marks;
mod memory;
mod module;
mod part;
mod prepare;
pub mod probe;
mod read;
mod repeat;
mod steps;
mod stream;
mod trial;
mod verify;
mod waits;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use self::disk::Disk;
use self::executor::{Prepared, Run, Settings};
use self::prepare::Made;
use self::read::Reader;
use super::{Backend, Discard, Recorder};
use crate::error::{Error, Result};
use crate::profile::{Issued, Measured, Overhead};
use crate::program::image::ComponentImage;
use crate::program::{Phase, Program};
use crate::units::{Bytes, Nanos};

pub use arena::{Pattern, Stretch, Weights};
pub use gpu::Gpu;
pub use kernels::PTX;
pub use verify::Verify;

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

/// Whether to do something that is faster on some machines and for some plans.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// Measure both ways first, keep the better, say so.
    Auto,
    /// Do it, or fail.
    On,
    /// Leave it.
    Off,
}

/// How a program is executed.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// What stands for a use of a block.
    pub work: Work,
    /// Which passes have every byte compared with the host's before its use.
    pub verify: Verify,
    /// Every how many passes operations are timed; 0 for never, 1 for always.
    pub sample: u32,
    /// Whether some passes are run again without timing, to see what timing costs.
    pub overhead: bool,
    /// Passes that the host issues ahead of the device, at least 1.
    pub in_flight: u32,
    /// Device memory that is not for weights: activations, workspace and digests must fit into it.
    pub reserve: Bytes,
    /// Whether the passes between the first and the last are launched as graphs.
    pub graph: Choice,
    /// Whether page-locked memory is write-combined.
    pub write_combined: Choice,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            work: Work::Best,
            verify: Verify::No,
            sample: 1,
            overhead: false,
            in_flight: 2,
            reserve: Bytes::new(u64::MAX),
            graph: Choice::Off,
            write_combined: Choice::Off,
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
        Settings {
            in_flight: self.options.in_flight.max(1),
            sample: self.options.sample,
            verify: self.options.verify,
        }
    }

    /// Refuses programs that this machine cannot execute, before anything is allocated.
    pub fn check_program(&self, program: &Program) -> Result<()> {
        let used = program.phases.iter().map(|phase| phase.of + 1).max().unwrap_or(0);
        if used != self.images.len() {
            let message = "the images are those of another plan".to_owned();
            return Err(Error::Internal(message));
        }
        let mut phases = self.phases(program);
        phases.try_for_each(|(phase, image)| disk::check(&self.gpu, phase, image))
    }

    /// The phases of a program, each with its component's image; later generations share it.
    fn phases<'p>(
        &'p self,
        program: &'p Program,
    ) -> impl Iterator<Item = (&'p Phase, &'p ComponentImage)> + use<'p> {
        program.phases.iter().map(|phase| (phase, &self.images[phase.of]))
    }

    /// Runs phases, the reader from disk beside them; gives what was found.
    fn execute<T>(
        &self,
        made: &Made<'_>,
        phases: &[(usize, &Phase, Option<u32>)],
        settings: Settings,
        run: impl FnOnce(&mut Run<'_>) -> Result<T>,
    ) -> Result<T> {
        let staging = made.staging.as_ref();
        let disk = staging.map(|staging| Disk::new(staging, self.images, self.weights));
        let phases = phases.iter().map(|&(n, phase, repeat)| {
            let prepared = made.prepared(&self.gpu, (n, phase, &self.images[phase.of]));
            Prepared { repeat, ..prepared }
        });
        let phases: Vec<Prepared<'_>> = phases.collect();
        run(&mut Run::new(&self.gpu, settings, &phases, disk.as_ref())?)
    }

    /// Runs all phases; gives what the device saw of each, by block.
    fn execute_all(&self, made: &Made<'_>, recorder: &mut dyn Recorder) -> Result<Vec<Digests>> {
        let (repeats, issued): (Vec<_>, Vec<_>) = self.choose(made, recorder)?.into_iter().unzip();
        let phases = made.program.phases.iter().enumerate().zip(&repeats);
        let phases: Vec<_> = phases.map(|((n, phase), repeat)| (n, phase, *repeat)).collect();
        self.execute(made, &phases, self.settings(), |run| {
            let mut reader = Reader::new(self.gpu.is_stand_in());
            let outcome = run.run(&mut reader, recorder);
            self.note(made, run, &reader, issued);
            reader.finish(recorder);
            outcome.map(|()| reader.digests)
        })
    }

    /// Keeps what a run measured.
    fn note(&self, made: &Made<'_>, run: &Run<'_>, reader: &Reader, issued: Vec<Issued>) {
        let mut measured = self.measured.borrow_mut();
        measured.driver_peak = measured.driver_peak.max(self.in_use().unwrap_or_default());
        measured.clock_error = reader.error().saturating_add(clock::RESOLUTION);
        measured.verified_passes = reader.verified;
        measured.passes.clone_from(&reader.passes);
        let phases = made.program.phases.iter().zip(issued).zip(&run.launched).zip(&run.issue);
        for (((phase, issued), &(passes_per_launch, launches)), times) in phases {
            measured.graphs.push(Issued { passes_per_launch, launches, ..issued });
            let operations = phase.schedule.ops.len() as u64;
            let issue = median(times.clone()).get() / operations.max(1);
            measured.operations += operations;
            measured.issue_per_operation = measured.issue_per_operation.max(Nanos::new(issue));
        }
        if self.options.sample > 1 {
            let streams = run.launched.iter().map(|&(_, launches)| launches == 0);
            let mut phases = reader.passes.iter().zip(streams).filter(|(_, streams)| *streams);
            measured.overhead =
                phases.find_map(|(passes, _)| sampled_overhead(passes, self.settings()));
        }
    }

    /// Runs some passes of the first phase again without timing.
    fn untimed(&self, made: &Made<'_>) -> Result<()> {
        let Some(first) = made.program.phases.first() else { return Ok(()) };
        let graph = self.measured.borrow().graphs.first().map(|first| first.passes_per_launch);
        let repeat = graph.filter(|&length| length > 0);
        let enough = repeat.map_or(UNTIMED_PASSES, |length| 2 * length + 2);
        let phase = Phase { passes: first.passes.min(enough), ..first.clone() };
        let settings = Settings { sample: 0, ..self.settings() };
        let passes = self.execute(made, &[(0, &phase, repeat)], settings, |run| {
            let mut reader = Reader::new(self.gpu.is_stand_in());
            run.run(&mut reader, &mut Discard::default())?;
            Ok(reader.passes.pop().unwrap_or_default())
        })?;
        let mut measured = self.measured.borrow_mut();
        // The barriers of launches are part of what is compared.
        let steady = |passes: &[Nanos]| match repeat {
            Some(_) => repeat::mean_between(passes),
            None => median(passes.iter().skip(1).copied().collect()),
        };
        let timed = measured.passes.first().map(|passes| steady(passes));
        let untimed = steady(&passes);
        measured.overhead = timed.map(|timed| Overhead { timed, untimed });
        Ok(())
    }
}

/// Of each block of a component, what the device saw.
type Digests = Vec<u64>;

impl Backend for Cuda<'_> {
    fn name(&self) -> &'static str {
        "cuda"
    }

    fn run(&self, program: &Program, recorder: &mut dyn Recorder) -> Result<()> {
        *self.measured.borrow_mut() = Measured::default();
        self.check_program(program)?;
        let made = self.prepare(program)?;
        self.warm_up(&made)?;
        let mut seen: BTreeMap<String, u64> = BTreeMap::new();
        for (phase, digests) in program.phases.iter().zip(self.execute_all(&made, recorder)?) {
            // Uses of parts of a block add up to the block.
            let image = &self.images[phase.of];
            for (of, digest) in image.blocks.iter().zip(digests).filter(|(b, _)| b.bytes > 0) {
                let id = format!("{}.{}", image.component, of.block);
                let sum = seen.entry(id).or_default();
                *sum = sum.wrapping_add(digest);
            }
        }
        if self.options.verify != Verify::No {
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
