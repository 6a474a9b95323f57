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

#![expect(unsafe_code, reason = "starts copies; what they demand stands beside them")]

use std::rc::Rc;
use std::time::Instant;

use super::arena::Arena;
use super::clock;
use super::compute::Compute;
use super::gpu::{Gpu, Outcome};
use super::kernels::Kernels;
use super::memory::Device;
use super::read::Reader;
use super::steps::{Action, Step, offset, steps};
use super::stream::{Event, Priority, Stream};
use super::verify::Verifier;
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
}

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
    steps: Vec<Step>,
    numbering: Numbering,
    streams: [Option<Stream>; Lane::ALL.len()],
    /// By row of passes and operation.
    pub events: Vec<Vec<Pair>>,
    /// By row of passes and lane: the end of everything issued for the pass before.
    pub marks: Vec<[Option<Event>; Lane::ALL.len()]>,
    /// By row of passes and operation: when the host waited.
    pub host_times: Vec<Vec<Option<(Instant, Instant)>>>,
    /// By lane, how many operations of each other lane it has waited for.
    known: [[u64; Lane::ALL.len()]; Lane::ALL.len()],
    /// When the origin was reached, by the host's clock.
    pub host_origin: Instant,
    /// Time that the host took to issue each pass.
    pub issue: Vec<Nanos>,
}

impl<'a> Run<'a> {
    /// Makes streams and events.
    pub fn new(with: &'a Prepared<'a>) -> Result<Self> {
        let phase = with.phase;
        let steps = steps(phase, with.image, with.arena)?;
        let ops = &phase.schedule.ops;
        let back = ops.iter().flat_map(|op| &op.waits).map(|wait| wait.passes_back).max();
        // A wait reaches so many passes back; times are read `in_flight` passes later.
        let rows = back.unwrap_or(0).saturating_add(1).max(with.settings.in_flight);
        let mut events = Vec::new();
        let mut host_times = Vec::new();
        for _ in 0..rows {
            events.push(steps.iter().map(|step| pair(with, step)).collect::<Outcome<_>>()?);
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
        Ok(Self {
            with,
            steps,
            numbering: Numbering::new(&phase.schedule, phase.passes),
            streams,
            events,
            marks,
            host_times,
            known: Default::default(),
            host_origin: clock::host_now(),
            issue: Vec::new(),
        })
    }

    /// Runs all passes; what has ended is recorded, also when something fails later.
    pub fn run(&mut self, reader: &mut Reader<'_>, recorder: &mut dyn Recorder) -> Result<()> {
        self.begin()?;
        let passes = self.with.phase.passes;
        let mut failed = None;
        let mut issued = 0;
        while issued < passes {
            if recorder.interrupted() {
                let message = format!(
                    "interrupted after {issued} of {passes} passes of {}",
                    self.with.phase.component
                );
                failed = Some(Error::Run(message));
                break;
            }
            let room = issued.checked_sub(self.with.settings.in_flight);
            let step = room.map_or(Ok(()), |oldest| self.finish(reader, oldest, recorder));
            if let Err(error) = step.and_then(|()| self.issue(issued)) {
                failed = Some(error);
                break;
            }
            issued += 1;
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
        failed.map_or(Ok(()), Err)
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
    fn finish(
        &mut self,
        reader: &mut Reader<'_>,
        pass: u32,
        recorder: &mut dyn Recorder,
    ) -> Result<()> {
        let time = reader.read(self, pass, recorder)?;
        recorder.passed(&Passed { pass, passes: self.with.phase.passes, time });
        Ok(())
    }

    /// The row of a pass.
    pub fn row(&self, pass: u32) -> usize {
        pass as usize % self.events.len()
    }

    /// The marks around a pass: before its first operation, after its last.
    pub fn marks_of(
        &self,
        pass: u32,
    ) -> (&[Option<Event>; Lane::ALL.len()], &[Option<Event>; Lane::ALL.len()]) {
        let count = self.marks.len();
        (&self.marks[pass as usize % count], &self.marks[(pass as usize + 1) % count])
    }

    /// Whether an operation is timed in a pass: all of a timed pass; of every other one the last use, so that every
    /// pass has its time.
    pub fn is_timed(&self, op: usize, pass: u32) -> bool {
        let settings = self.with.settings;
        let last = || self.steps[op + 1..].iter().all(|step| step.lane != Lane::Compute);
        let ends = || self.steps[op].lane == Lane::Compute && last();
        settings.sample > 0 && (settings.timed(pass) || ends())
    }

    /// Issues all operations of a pass.
    fn issue(&mut self, pass: u32) -> Result<()> {
        let start = clock::host_now();
        let with = self.with;
        let passes = with.phase.passes;
        let compute = &self.streams[Lane::Compute.index()];
        if let (Some(verifier), Some(compute)) = (with.verifier, compute) {
            verifier.begin(compute, pass)?;
        }
        for (n, op) in with.phase.schedule.ops.iter().enumerate() {
            if op.when.includes(pass, passes) {
                self.issue_op(n, pass, pass + op.ahead).map_err(|error| {
                    let block = &with.phase.blocks[op.block];
                    let place = format!(
                        "{} of {}.{block}, pass {pass}",
                        op.kind.name(),
                        with.phase.component
                    );
                    match error {
                        Error::Run(message) => Error::Run(format!("{place}: {message}")),
                        other => other,
                    }
                })?;
            }
        }
        let compute = &self.streams[Lane::Compute.index()];
        if let (Some(verifier), Some(compute)) = (with.verifier, compute) {
            verifier.end(compute, pass)?;
        }
        let (_, ends) = self.marks_of(pass);
        for (mark, stream) in ends.iter().zip(&self.streams) {
            if let (Some(mark), Some(stream)) = (mark, stream) {
                stream.record(mark)?;
            }
        }
        self.issue.push(clock::since(start));
        Ok(())
    }

    fn issue_op(&mut self, n: usize, pass: u32, serves: u32) -> Result<()> {
        if matches!(self.steps[n].action, Action::HostSync) {
            return self.host_sync(n, pass);
        }
        self.issue_waits(n, pass)?;
        let with = self.with;
        let step = &self.steps[n];
        let Some(stream) = &self.streams[step.lane.index()] else { return Ok(()) };
        let places = &with.phase.places[step.block];
        if let (Action::Compute, Some(verifier)) = (&step.action, with.verifier) {
            let what = (with.phase, with.image);
            verifier.digest(with.kernels, stream, what, (step.block, pass), with.slab)?;
        }
        let timed = self.is_timed(n, pass);
        let Pair { start, end } = &self.events[self.row(pass)][n];
        if let (Some(start), true) = (start, timed) {
            stream.record(start)?;
        }
        match &step.action {
            Action::Copy(transfers) => {
                for part in transfers {
                    let to = with.slab.plus(offset(&places[part.piece], serves) + part.offset);
                    // SAFETY: the arena outlives the run, which ends with a wait for all streams, and nothing writes
                    // it but returns of the same piece; the program's proof covers the slab.
                    unsafe { stream.to_device(to, part.host, part.bytes)? };
                }
            }
            Action::Return(transfers) => {
                for part in transfers {
                    let from = with.slab.plus(offset(&places[part.piece], serves) + part.offset);
                    // SAFETY: as above; the bytes that return are those that came.
                    unsafe { stream.to_host(part.host, from, part.bytes)? };
                }
            }
            Action::Compute => {
                let time = with.phase.schedule.ops[n].duration;
                with.compute.issue(with, stream, step.block, pass, time)?;
            }
            Action::HostSync => {}
        }
        if let (Some(end), true) = (end, timed || step.awaited) {
            stream.record(end)?;
        }
        Ok(())
    }

    /// The stream waits for what the operation waits for on other streams, unless it already has.
    fn issue_waits(&mut self, n: usize, pass: u32) -> Result<()> {
        let lane = self.steps[n].lane.index();
        for at in 0..self.steps[n].waits.len() {
            let Some((op, row, number)) = self.target(n, at, pass) else { continue };
            let other = self.steps[op].lane.index();
            if self.known[lane][other] > number {
                continue;
            }
            let event = &self.events[row][op].end;
            if let (Some(stream), Some(event)) = (&self.streams[lane], event) {
                stream.wait(event)?;
            }
            self.known[lane][other] = number + 1;
        }
        Ok(())
    }

    /// What a wait is for in this pass: the operation, its row, its number on its lane; none where it is void.
    fn target(&self, n: usize, at: usize, pass: u32) -> Option<(usize, usize, u64)> {
        let wait = self.steps[n].waits[at];
        let target = pass.checked_sub(wait.passes_back)?;
        let number = self.numbering.number(wait.op, self.steps[wait.op].lane, target)?;
        Some((wait.op, self.row(target), number))
    }

    /// The host waits, as the policy says it does; what is issued later is ordered by that.
    fn host_sync(&mut self, n: usize, pass: u32) -> Result<()> {
        let start = clock::host_now();
        for at in 0..self.steps[n].waits.len() {
            let Some((op, row, number)) = self.target(n, at, pass) else { continue };
            if let Some(event) = &self.events[row][op].end {
                event.synchronise()?;
            }
            let other = self.steps[op].lane.index();
            for known in &mut self.known {
                known[other] = known[other].max(number + 1);
            }
        }
        let row = self.row(pass);
        self.host_times[row][n] = Some((start, clock::host_now()));
        Ok(())
    }
}

/// The events that an operation may need.
fn pair(with: &Prepared<'_>, step: &Step) -> Outcome<Pair> {
    let timing = with.settings.sample > 0;
    let on_stream = STREAMS.contains(&step.lane);
    let event =
        |needed: bool| (needed && on_stream).then(|| Event::new(with.gpu, timing)).transpose();
    Ok(Pair { start: event(timing)?, end: event(timing || step.awaited)? })
}
