//! Turns the phases of a program into driver calls in its order of issue, and the events they record into spans.
//!
//! Streams are made once for the whole run, so lanes run on from one component to the next: what the plan hides at a
//! boundary is hidden on the device.
//!
//! ```text
//! host     issue a, last pass │ copies of b, as far as they can │ read a │ issue b, first pass │ …
//! h2d      a3 ██ b0 ███ b1 ███ b2 ██ b3 ███         b1 takes the bytes of a1: h2d waits for that use's event alone
//! compute  a1 ██ a2 ██ a3 ███  b0 ██ b1 ██ …
//! ```
//!
//! | what | is | from when to when |
//! |---|---|---|
//! | [`Run`] | streams, marks, passes in flight | the run |
//! | [`Prepared`] | what a phase needs that was made before: image, arena, compute, room for digests | the run |
//! | [`Part`] | a phase's steps, numbers on their lanes, events, graphs | made [`AHEAD`] phases before it is issued, gone when its last pass has been read; its events are used again |
//! | [`Reader`] | times of all lanes, in one timeline | the run |
//! | [`Disk`] | one reader thread, one ring per component | the run |
//!
//! Who waits for what:
//!
//! * **An operation** waits for what the program says, by an event of the operation it waits for; what its stream has
//!   waited for already, or what the host has seen end, is left out ([`Run::known`]).
//! * **The first pass of a phase** waits besides for what the program says of the phases before ([`Enter`]): for the
//!   event of one operation, for all of them (the last mark on every other stream), or for nothing. Events that
//!   a later phase waits for have a row of their own in every pass that it may name, and live as long as their part.
//! * **A phase that begins afresh** ([`Phase::is_apart`]: policies of other systems) has its compute stream wait for
//!   everything first; that instant is marked, and its first pass counts from there.
//! * **A read from disk** waits, on the reader's thread, for counts that streams write; a copy of what was read waits
//!   for a count that the reader writes. Both are the waits of the program (see `disk`).
//! * **A graph** holds passes between the first and the last of one phase. The first pass of a phase, which enters, and
//!   the last, which most entries wait for, are always issued by streams, so that entries are events outside of graphs.
//!   Where an entry names an operation of a pass inside a launch, it waits for the event at the end of that launch,
//!   which is recorded outside: later than it needs to, never too early.
//! * **The host** runs at most [`Settings::in_flight`] passes or launches ahead, over phases too; before it goes
//!   further it waits for the oldest, reads its times and compares its digests. So that this holds nobody up, copies
//!   and reads of the next phases' first passes are issued as soon as nothing that comes before them on their lane is
//!   left to issue and all they wait for has been issued (`ahead`). Inside a pass the host allocates nothing, calls
//!   nothing back and waits for nothing, except where the program itself says that it does (`HostSync`, which comes in
//!   its place in the program's order).
//!
//! Every lane is issued in the program's order; only lanes among each other may be ahead. Digests of `--verify` are
//! computed on the compute stream directly before the use, wherever the copy came in time.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Instant;

use super::arena::Arena;
use super::clock;
use super::compute::Compute;
use super::disk::Disk;
use super::gpu::Gpu;
use super::kernels::Kernels;
use super::memory::Device;
use super::part::{Counts, Exits, LANES, Part, Pool, exits};
use super::read::Reader;
use super::stream::{Event, Priority, Stream};
use super::verify::{Verifier, Verify};
use crate::backend::{Passed, Recorder};
use crate::error::{Error, Result};
use crate::lane::Lane;
use crate::program::image::ComponentImage;
use crate::program::{Numbering, Phase};
use crate::units::Nanos;

#[cfg(doc)]
use crate::program::Enter;

/// Lanes that are streams of the device.
pub(super) const STREAMS: [Lane; 3] = [Lane::Compute, Lane::H2d, Lane::D2h];

/// Phases that are made before they are issued, and whose copies may be issued early.
pub(super) const AHEAD: usize = 2;

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
    /// Passes of one launch, where graphs are launched.
    pub repeat: Option<u32>,
}

/// An operation in a pass of a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct At {
    pub part: usize,
    pub op: usize,
    pub pass: u32,
}

/// What was issued at once and is not read yet: a pass, or a launch of several.
struct Unit {
    part: usize,
    first: u32,
    passes: u32,
    launched: bool,
}

/// A program that runs.
pub(super) struct Run<'a> {
    pub phases: &'a [Prepared<'a>],
    pub settings: Settings,
    streams: [Option<Stream>; LANES],
    /// The parts that are made and not over, and how many are over.
    parts: VecDeque<Part>,
    over: usize,
    pub pool: Pool,
    /// By phase and lane: operations of the phases before.
    pub before: Vec<Counts>,
    /// By phase: what the phases after it wait for.
    pub exits: Vec<Exits>,
    /// By lane: events at the end of passes, used in turn, and which is next.
    pub marks: [Vec<Event>; LANES],
    pub next_mark: [usize; LANES],
    /// Where all times count from.
    pub origin: Event,
    units: VecDeque<Unit>,
    /// By lane: operations that were issued.
    pub issued: Counts,
    /// By lane, how many operations of each other lane it has waited for.
    pub known: [Counts; LANES],
    /// Whether what is issued becomes part of a graph instead of running.
    pub capturing: bool,
    /// Reads from disk, where there are any.
    pub disk: Option<&'a Disk<'a>>,
    /// When the origin was reached, by the host's clock.
    pub host_origin: Instant,
    /// By phase: time that the host took to issue each pass.
    pub issue: Vec<Vec<Nanos>>,
    /// By phase: passes of a launch, and launches.
    pub launched: Vec<(u32, u32)>,
}

impl<'a> Run<'a> {
    /// Makes streams, and the parts of the first phases.
    pub fn new(
        gpu: &Rc<Gpu>,
        settings: Settings,
        phases: &'a [Prepared<'a>],
        disk: Option<&'a Disk<'a>>,
    ) -> Result<Self> {
        let mut streams: [Option<Stream>; LANES] = Default::default();
        let mut marks: [Vec<Event>; LANES] = Default::default();
        for lane in STREAMS {
            // Copies go first where the device can choose: a late copy stalls everything after it.
            let urgent = if lane == Lane::Compute { Priority::Least } else { Priority::Greatest };
            let mut ops = phases.iter().flat_map(|with| &with.phase.schedule.ops);
            if lane == Lane::Compute || ops.any(|op| op.lane == lane) {
                streams[lane.index()] = Some(Stream::new(gpu, urgent)?);
                // Of passes in flight, of those that are issued early, of the one that is issued, and of the last one
                // that was read.
                for _ in 0..settings.in_flight as usize + AHEAD + 2 {
                    marks[lane.index()].push(Event::new(gpu, true)?);
                }
            }
        }
        let mut counts = Counts::default();
        let mut before = Vec::with_capacity(phases.len());
        for with in phases {
            before.push(counts);
            let numbering = Numbering::new(&with.phase.schedule, with.phase.passes);
            Lane::ALL.iter().for_each(|&lane| counts[lane.index()] += numbering.total(lane));
        }
        let mut run = Self {
            phases,
            settings,
            streams,
            parts: VecDeque::new(),
            over: 0,
            pool: Pool::new(gpu),
            before,
            exits: exits(phases),
            marks,
            next_mark: Default::default(),
            origin: Event::new(gpu, true)?,
            units: VecDeque::new(),
            issued: Counts::default(),
            known: Default::default(),
            capturing: false,
            disk,
            host_origin: clock::host_now(),
            issue: vec![Vec::new(); phases.len()],
            launched: vec![(0, 0); phases.len()],
        };
        run.make_parts(AHEAD)?;
        Ok(run)
    }

    /// Makes the parts up to this phase.
    fn make_parts(&mut self, last: usize) -> Result<()> {
        while self.over + self.parts.len() <= last.min(self.phases.len().saturating_sub(1)) {
            let next = self.over + self.parts.len();
            if next >= self.phases.len() {
                break;
            }
            let part = Part::new(self, next)?;
            self.parts.push_back(part);
            self.capture_all(next)?;
        }
        Ok(())
    }

    /// The stream of a lane that has one.
    pub fn stream(&self, lane: Lane) -> Option<&Stream> {
        self.streams[lane.index()].as_ref()
    }

    /// A part that is made and not over.
    pub fn part(&self, part: usize) -> &Part {
        &self.parts[part - self.over]
    }

    pub fn part_mut(&mut self, part: usize) -> &mut Part {
        &mut self.parts[part - self.over]
    }

    /// Whether every pass of a phase has been read.
    pub fn is_over(&self, part: usize) -> bool {
        part < self.over
    }

    /// Runs all phases; what has ended is recorded, also when something fails later.
    pub fn run(&mut self, reader: &mut Reader, recorder: &mut dyn Recorder) -> Result<()> {
        let Some(disk) = self.disk else { return self.run_passes(reader, recorder) };
        std::thread::scope(|scope| {
            scope.spawn(move || disk.serve());
            let outcome = self.run_passes(reader, recorder);
            disk.stop();
            outcome
        })
    }

    fn run_passes(&mut self, reader: &mut Reader, recorder: &mut dyn Recorder) -> Result<()> {
        let issued = self.begin().and_then(|()| self.issue_all(reader, recorder));
        let mut failed = match issued {
            Ok(interrupted) => interrupted,
            Err(error) => {
                // What waits for reads would wait for ever.
                if let Some(disk) = self.disk {
                    disk.abandon();
                    self.units.clear();
                }
                Some(error)
            }
        };
        while !self.units.is_empty() {
            if let Err(error) = self.finish_oldest(reader, recorder) {
                failed.get_or_insert(error);
                break;
            }
        }
        // Whatever happened, nothing may still run when the memory it uses is freed.
        if let Some(disk) = self.disk.filter(|_| failed.is_some()) {
            disk.abandon();
        }
        for stream in self.streams.iter().flatten() {
            if let Err(failure) = stream.synchronise() {
                failed.get_or_insert(failure.into());
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// Issues everything; gives an error where somebody asks it to stop, after which what was issued is still read.
    fn issue_all(
        &mut self,
        reader: &mut Reader,
        recorder: &mut dyn Recorder,
    ) -> Result<Option<Error>> {
        for part in 0..self.phases.len() {
            self.make_parts(part + AHEAD)?;
            let Phase { component, passes, .. } = self.phases[part].phase;
            let mut pass = 0;
            while pass < *passes {
                if recorder.interrupted() {
                    let message =
                        format!("interrupted after {pass} of {passes} passes of {component}");
                    return Ok(Some(Error::Run(message)));
                }
                pass = self.advance(part, pass, reader, recorder)?;
                self.run_ahead(part)?;
            }
        }
        Ok(None)
    }

    /// Issues a pass, or a launch of several; gives the one after it.
    fn advance(
        &mut self,
        part: usize,
        pass: u32,
        reader: &mut Reader,
        recorder: &mut dyn Recorder,
    ) -> Result<u32> {
        let launched = self.part(part).repeat.as_ref().is_some_and(|repeat| repeat.begins(pass));
        while self.must_read((part, pass), launched) {
            self.finish_oldest(reader, recorder)?;
        }
        let passes = if launched {
            self.launch(part, pass)?
        } else {
            if pass == 0 {
                self.begin_afresh(part)?;
            }
            self.resume(part, pass)?;
            self.issue(part, pass)?;
            1
        };
        self.units.push_back(Unit { part, first: pass, passes, launched });
        Ok(pass + passes)
    }

    /// Whether something must be read before this is issued: too much is in flight, or its events are not read.
    fn must_read(&self, (part, pass): (usize, u32), launched: bool) -> bool {
        let own = self.part(part);
        let of_part = || self.units.iter().filter(|unit| unit.part == part);
        let in_flight = self.settings.in_flight;
        let same_row = |unit: &Unit| {
            let same_digests = unit.first % in_flight == pass % in_flight;
            !unit.launched && (same_digests || own.row(unit.first) == own.row(pass))
        };
        self.units.len() >= in_flight as usize
            || launched && of_part().filter(|unit| unit.launched).count() > 1
            || !launched && of_part().any(same_row)
    }

    /// Waits for what was issued first, reads it, tells the recorder.
    fn finish_oldest(&mut self, reader: &mut Reader, recorder: &mut dyn Recorder) -> Result<()> {
        let Some(Unit { part, first, passes: count, .. }) = self.units.pop_front() else {
            return Ok(());
        };
        let passes = self.phases[part].phase.passes;
        for pass in first..first + count {
            let read = reader.read(self, (part, pass), recorder);
            // What follows counts from a pass that is not known.
            let time = read.inspect_err(|_| self.units.clear())?;
            recorder.passed(&Passed { pass, passes, time });
        }
        if first + count == passes {
            self.retire();
        }
        Ok(())
    }

    /// The oldest part is over: its events are for others to use.
    fn retire(&mut self) {
        if let Some(part) = self.parts.pop_front() {
            self.over += 1;
            self.pool.put_all(part);
        }
    }

    /// Lets all streams start from one point, the origin.
    fn begin(&mut self) -> Result<()> {
        let Some(compute) = self.stream(Lane::Compute) else { return Ok(()) };
        compute.record(&self.origin)?;
        self.origin.synchronise()?;
        self.host_origin = clock::host_now();
        for lane in STREAMS.into_iter().filter(|lane| *lane != Lane::Compute) {
            if let Some(stream) = self.stream(lane) {
                stream.wait(&self.origin)?;
            }
        }
        Ok(())
    }

    /// Where a phase begins when everything before has ended, compute waits for that, and its instant is marked.
    fn begin_afresh(&mut self, part: usize) -> Result<()> {
        if part == 0 || !self.phases[part].phase.is_apart() {
            return Ok(());
        }
        self.await_everything(part, Lane::Compute)?;
        let start = self.pool.take(true)?;
        if let Some(compute) = self.stream(Lane::Compute) {
            compute.record(&start)?;
        }
        self.part_mut(part).start = Some(start);
        Ok(())
    }

    /// Fails where a read from disk has failed: what was copied since is not what it should be.
    pub fn check_reads(&self) -> Result<()> {
        self.disk.and_then(Disk::failure).map_or(Ok(()), Err)
    }

    /// An operation's lane and its number there, over all phases; none where it is not part of that pass.
    pub fn number(&self, at: At) -> Option<(Lane, u64)> {
        let lane = self.phases[at.part].phase.schedule.ops[at.op].lane;
        let own = self.part(at.part).numbering.number(at.op, lane, at.pass)?;
        Some((lane, self.before[at.part][lane.index()] + own))
    }
}
