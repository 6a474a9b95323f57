//! Turns a phase of a program into driver calls in its order of issue, and the events they record into spans.
//!
//! ```text
//! host     issue pass 0 │ issue pass 1 │ read pass 0, issue pass 2 │ read pass 1 …      never waits inside a pass
//! streams  compute, h2d, d2h: one each, in order; what the program waits for across them is an event
//! ```
//!
//! The host runs at most [`Settings::in_flight`] passes ahead; before it goes further it waits for the end of the
//! oldest one and reads its times, so events are used again and memory does not grow with the run. Inside a pass it
//! allocates nothing, calls nothing back and waits for nothing, except where the program itself says that the host
//! does.

use std::rc::Rc;
use std::time::Instant;

use super::arena::Arena;
use super::clock;
use super::compute::Compute;
use super::disk::{Disk, Reads, Staging};
use super::gpu::{Gpu, Outcome};
use super::kernels::Kernels;
use super::memory::Device;
use super::read::Reader;
use super::repeat::Repeat;
use super::steps::{Step, steps};
use super::stream::{Event, Priority, Stream};
use super::verify::{Verifier, Verify};
use crate::backend::{Passed, Recorder};
use crate::error::{Error, Result};
use crate::lane::Lane;
use crate::program::image::ComponentImage;
use crate::program::{Numbering, Phase};
use crate::units::Nanos;

/// Lanes that are streams of the device.
pub(super) const STREAMS: [Lane; 3] = [Lane::Compute, Lane::H2d, Lane::D2h];

/// How a program is executed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Settings {
    /// Passes that the host issues ahead, at least 1.
    pub in_flight: u32,
    /// Every how many passes operations are timed; 0 for never.
    pub sample: u32,
    /// Which passes have their bytes compared.
    pub verify: Verify,
}

impl Settings {
    /// Whether the operations of a pass are timed.
    pub fn timed(self, pass: u32) -> bool {
        self.sample > 0 && pass.is_multiple_of(self.sample)
    }
}

/// What a phase needs that is made before the first pass.
pub(super) struct Prepared<'a> {
    pub gpu: &'a Rc<Gpu>,
    pub kernels: &'a Kernels,
    pub phase: &'a Phase,
    pub image: &'a ComponentImage,
    pub arena: &'a Arena,
    pub slab: Device,
    pub compute: &'a Compute,
    pub verifier: Option<&'a Verifier>,
    pub settings: Settings,
    /// Passes of one launch, where graphs are launched.
    pub repeat: Option<u32>,
    /// What reads from disk, and the ring it reads into, where pieces are.
    pub disk: Option<(&'a Disk<'a>, &'a Staging)>,
}

/// The marks of a pass, by lane.
pub(super) type Marks<'a> = [Option<&'a Event>; Lane::ALL.len()];

/// The events of one operation in one of the passes in flight.
pub(super) struct Pair {
    /// Recorded before it, after its waits, where it is timed.
    pub start: Option<Event>,
    /// Recorded after it, where it is timed or something waits for it.
    pub end: Option<Event>,
}

/// A phase that runs.
pub(super) struct Run<'a> {
    pub with: &'a Prepared<'a>,
    pub steps: Vec<Step>,
    pub numbering: Numbering,
    streams: [Option<Stream>; Lane::ALL.len()],
    /// By row of passes and operation.
    pub events: Vec<Vec<Pair>>,
    /// By row of passes and lane: the end of everything issued for the pass before.
    pub marks: Vec<[Option<Event>; Lane::ALL.len()]>,
    /// By row of passes and operation: when the host waited.
    pub host_times: Vec<Vec<Option<(Instant, Instant)>>>,
    /// By lane, how many operations of each other lane it has waited for.
    pub known: [[u64; Lane::ALL.len()]; Lane::ALL.len()],
    /// Launches of several passes at once, where that was chosen.
    pub repeat: Option<Repeat>,
    /// Whether what is issued becomes part of a graph instead of running.
    pub capturing: bool,
    /// Reads from disk, where there are any.
    pub reads: Option<Reads<'a>>,
    /// When the origin was reached, by the host's clock.
    pub host_origin: Instant,
    /// Time that the host took to issue each pass.
    pub issue: Vec<Nanos>,
}

impl<'a> Run<'a> {
    /// Makes streams and events.
    pub fn new(with: &'a Prepared<'a>) -> Result<Self> {
        let phase = with.phase;
        let steps = steps(phase, with.image, with.arena);
        let ops = &phase.schedule.ops;
        let back = ops.iter().flat_map(|op| &op.waits).map(|wait| wait.passes_back).max();
        // A wait reaches so many passes back; times are read `in_flight` passes later.
        let rows = back.unwrap_or(0).saturating_add(1).max(with.settings.in_flight);
        let mut events = Vec::new();
        let mut host_times = Vec::new();
        for _ in 0..rows {
            let timing = with.settings.sample > 0;
            let pairs = steps.iter().map(|step| pair(with, step, timing, step.awaited));
            events.push(pairs.collect::<Outcome<_>>()?);
            host_times.push(vec![None; steps.len()]);
        }
        let mut streams: [Option<Stream>; Lane::ALL.len()] = Default::default();
        for lane in STREAMS {
            // Copies go first where the device can choose: a late copy stalls everything after it.
            let urgent = if lane == Lane::Compute { Priority::Least } else { Priority::Greatest };
            if lane == Lane::Compute || steps.iter().any(|step| step.lane == lane) {
                streams[lane.index()] = Some(Stream::new(with.gpu, urgent)?);
            }
        }
        let mut marks = Vec::new();
        for _ in 0..=rows {
            let mut row: [Option<Event>; Lane::ALL.len()] = Default::default();
            for lane in STREAMS.into_iter().filter(|lane| streams[lane.index()].is_some()) {
                row[lane.index()] = Some(Event::new(with.gpu, true)?);
            }
            marks.push(row);
        }
        let mut run = Self {
            with,
            steps,
            numbering: Numbering::new(&phase.schedule, phase.passes),
            streams,
            events,
            marks,
            host_times,
            known: Default::default(),
            repeat: None,
            capturing: false,
            reads: None,
            host_origin: clock::host_now(),
            issue: Vec::new(),
        };
        run.repeat = with.repeat.map(|length| Repeat::new(&run, length)).transpose()?;
        Ok(run)
    }

    /// The stream of a lane that has one.
    pub fn stream(&self, lane: Lane) -> Option<&Stream> {
        self.streams[lane.index()].as_ref()
    }

    /// Runs all passes; what has ended is recorded, also when something fails later.
    pub fn run(&mut self, reader: &mut Reader<'_>, recorder: &mut dyn Recorder) -> Result<()> {
        let Some((disk, staging)) = self.with.disk else {
            return self.run_passes(reader, recorder);
        };
        let (jobs, asked) = std::sync::mpsc::channel();
        let size = (self.events.len(), self.steps.len());
        self.reads = Some(Reads::new((disk, staging), jobs, size));
        std::thread::scope(|scope| {
            scope.spawn(move || disk.serve(&asked));
            let outcome = self.run_passes(reader, recorder);
            if let Some(reads) = &mut self.reads {
                reads.close();
            }
            disk.stop();
            outcome
        })
    }

    fn run_passes(&mut self, reader: &mut Reader<'_>, recorder: &mut dyn Recorder) -> Result<()> {
        let (mut issued, mut failed) = (0, None);
        let ready = self.capture_all().and_then(|()| self.begin());
        let passes = if ready.is_ok() { self.with.phase.passes } else { 0 };
        while issued < passes && failed.is_none() {
            if recorder.interrupted() {
                let component = &self.with.phase.component;
                let message =
                    format!("interrupted after {issued} of {passes} passes of {component}");
                failed = Some(Error::Run(message));
                break;
            }
            match self.advance(issued, reader, recorder) {
                Ok(next) => issued = next,
                Err(error) => {
                    failed = Some(error);
                    // What waits for reads would wait for ever.
                    if let Some(reads) = &self.reads {
                        reads.staging.abandon();
                        issued = reader.next_pass();
                    }
                }
            }
        }
        for pass in reader.next_pass()..issued {
            if let Err(error) = self.finish(reader, pass, recorder) {
                failed.get_or_insert(error);
                break;
            }
        }
        // Whatever happened, nothing may still run when the memory it uses is freed.
        for stream in self.streams.iter().flatten() {
            if let Err(failure) = stream.synchronise() {
                failed.get_or_insert(failure.into());
            }
        }
        ready.and(failed.map_or(Ok(()), Err))
    }

    /// Issues a pass, or a launch of several; gives the one after it.
    fn advance(
        &mut self,
        pass: u32,
        reader: &mut Reader<'_>,
        recorder: &mut dyn Recorder,
    ) -> Result<u32> {
        if self.repeat.as_ref().is_some_and(|repeat| repeat.begins(pass)) {
            return self.launch(pass, reader, recorder);
        }
        while reader.next_pass() + self.with.settings.in_flight <= pass {
            self.finish(reader, reader.next_pass(), recorder)?;
        }
        self.resume(pass)?;
        self.issue(pass)?;
        Ok(pass + 1)
    }

    /// Lets all streams start from one point, the origin.
    fn begin(&mut self) -> Result<()> {
        let origin = self.marks[0][Lane::Compute.index()].as_ref();
        let (Some(origin), Some(compute)) = (origin, &self.streams[Lane::Compute.index()]) else {
            return Ok(());
        };
        compute.record(origin)?;
        origin.synchronise()?;
        self.host_origin = clock::host_now();
        for lane in STREAMS.into_iter().filter(|lane| *lane != Lane::Compute) {
            let (mark, stream) = (&self.marks[0][lane.index()], &self.streams[lane.index()]);
            if let (Some(mark), Some(stream)) = (mark, stream) {
                stream.wait(origin)?;
                stream.record(mark)?;
            }
        }
        Ok(())
    }

    /// Waits for a pass, reads it, tells the recorder.
    pub fn finish(
        &mut self,
        reader: &mut Reader<'_>,
        pass: u32,
        recorder: &mut dyn Recorder,
    ) -> Result<()> {
        let time = reader.read(self, pass, recorder)?;
        recorder.passed(&Passed { pass, passes: self.with.phase.passes, time });
        Ok(())
    }

    /// Fails where a read from disk has failed: what was copied since is not what it should be.
    pub fn check_reads(&self) -> Result<()> {
        let failure = self.reads.as_ref().and_then(|reads| reads.disk.failure());
        failure.map_or(Ok(()), Err)
    }

    /// The row of a pass.
    pub fn row(&self, pass: u32) -> usize {
        pass as usize % self.events.len()
    }

    /// The marks around a pass: before its first operation, after its last.
    pub fn marks_of(&self, pass: u32) -> (Marks<'_>, Marks<'_>) {
        let before = pass.checked_sub(1);
        let from = match before.and_then(|before| self.bound_after(before)) {
            Some(bound) => self.streams.each_ref().map(|stream| stream.as_ref().map(|_| bound)),
            None => before.map_or_else(
                || self.marks[0].each_ref().map(Option::as_ref),
                |before| self.mark_after(before),
            ),
        };
        (from, self.mark_after(pass))
    }

    /// The marks of the end of a pass.
    fn mark_after(&self, pass: u32) -> Marks<'_> {
        let own = &self.marks[(pass as usize + 1) % self.marks.len()];
        let repeated = self.repeat.as_ref().and_then(|repeat| repeat.mark(pass));
        repeated.unwrap_or(own).each_ref().map(Option::as_ref)
    }

    /// Where all streams met between a pass and the next, if they did.
    pub fn bound_after(&self, pass: u32) -> Option<&Event> {
        self.repeat.as_ref()?.bound_after(pass)
    }

    /// What is recorded outside of a graph once a pass, and maybe more, has ended.
    pub fn reached_with(&self, pass: u32) -> Option<&Event> {
        self.repeat.as_ref()?.reached_with(pass)
    }

    /// The events of an operation in a pass.
    pub fn pair(&self, n: usize, pass: u32) -> &Pair {
        let repeated = self.repeat.as_ref().and_then(|repeat| repeat.pair(n, pass));
        repeated.unwrap_or_else(|| &self.events[self.row(pass)][n])
    }

    /// Every lane is taken to have waited for everything of the passes before.
    pub fn know_all_before(&mut self, pass: u32) {
        let of = |lane, pass| self.numbering.on_lane(lane, pass).len() as u64;
        let counts = Lane::ALL.map(|lane| (0..pass).map(|pass| of(lane, pass)).sum());
        self.known = [counts; Lane::ALL.len()];
    }

    /// Whether an operation is timed in a pass: all of a timed pass; of every other one the last use, so that every
    /// pass has its time.
    pub fn is_timed(&self, op: usize, pass: u32) -> bool {
        let settings = self.with.settings;
        let last = || self.steps[op + 1..].iter().all(|step| step.lane != Lane::Compute);
        let ends = || self.steps[op].lane == Lane::Compute && last();
        settings.sample > 0 && (settings.timed(pass) || ends())
    }
}

/// The events that an operation may need: two with times, or one that others wait for.
pub(super) fn pair(with: &Prepared<'_>, step: &Step, timing: bool, awaited: bool) -> Outcome<Pair> {
    let on_stream = STREAMS.contains(&step.lane);
    let event =
        |needed: bool| (needed && on_stream).then(|| Event::new(with.gpu, timing)).transpose();
    Ok(Pair { start: event(timing)?, end: event(timing || awaited)? })
}
