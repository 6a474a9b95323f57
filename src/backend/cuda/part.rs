//! Turns a phase into a part of a run: its steps, the numbers of its operations on their lanes, the events they record.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Instant;

use super::executor::{Prepared, Run, STREAMS, Settings};
use super::gpu::{Gpu, Outcome};
use super::repeat::Repeat;
use super::steps::{Step, steps};
use super::stream::Event;
use crate::error::Result;
use crate::lane::{Lane, OpKind};
use crate::program::image::{ComponentImage, HostMemory};
use crate::program::{Enter, Numbering, Phase};

pub(super) const LANES: usize = Lane::ALL.len();

/// By lane: operations.
pub(super) type Counts = [u64; LANES];

/// The events of one operation in one of the passes in flight.
pub(super) struct Pair {
    /// Recorded before it, after its waits, where it is timed.
    pub start: Option<Event>,
    /// Recorded after it, where it is timed or something waits for it.
    pub end: Option<Event>,
}

/// An event for some lanes.
pub(super) type ByLane = [Option<Event>; LANES];

/// In which passes of a phase a lane runs something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Used {
    /// In none.
    Never,
    /// In the first alone.
    First,
    /// In others too.
    Always,
}

/// What the phases after a phase wait for in it.
#[derive(Debug, Default)]
pub(super) struct Exits {
    /// By operation: the most passes before the last in which a stream waits for it.
    pub streams: BTreeMap<usize, u32>,
    /// The same for reads from disk.
    pub reads: BTreeMap<usize, u32>,
    /// Whether a read of the next phase waits for everything.
    pub all: bool,
    /// The last phase that waits for something in it.
    pub until: usize,
}

/// By phase: what those after it wait for.
pub(super) fn exits(phases: &[Prepared<'_>]) -> Vec<Exits> {
    let mut exits: Vec<Exits> = phases.iter().map(|_| Exits::default()).collect();
    for (n, with) in phases.iter().enumerate() {
        for (op, enter) in with.phase.schedule.ops.iter().zip(&with.phase.enters) {
            let read = op.kind == OpKind::Read;
            match *enter {
                Enter::Op { stage, op, passes_back } if stage < n => {
                    let of = &mut exits[stage];
                    let by = if read { &mut of.reads } else { &mut of.streams };
                    let back = by.entry(op).or_default();
                    *back = passes_back.max(*back);
                    of.until = n;
                }
                Enter::Everything if read && n > 0 => exits[n - 1].all = true,
                _ => {}
            }
        }
    }
    exits
}

/// A phase that is about to run, or runs.
pub(super) struct Part {
    pub steps: Vec<Step>,
    pub numbering: Numbering,
    /// By row of passes and operation.
    pub events: Vec<Vec<Pair>>,
    /// By row of passes and lane: which of the run's marks ends the pass.
    pub marks: Vec<[Option<usize>; LANES]>,
    /// By row of passes and operation: when the host waited.
    pub host_times: Vec<Vec<Option<(Instant, Instant)>>>,
    /// By lane.
    pub used: [Used; LANES],
    /// Where compute began, in a phase that waits for everything before it.
    pub start: Option<Event>,
    /// Launches of several passes at once, where that was chosen.
    pub repeat: Option<Repeat>,
    /// Whether copies and reads of the first pass may be issued before that pass is.
    pub may_be_early: bool,
    /// By operation: whether that was done.
    pub early: Vec<bool>,
}

impl Part {
    /// Makes the events of a phase, or takes those of parts that are over.
    pub fn new(run: &mut Run<'_>, part: usize) -> Result<Self> {
        let with = &run.phases[part];
        let (phase, settings) = (with.phase, run.settings);
        let exits = &run.exits[part];
        let steps = steps(phase, with.image, with.arena, exits);
        let ops = &phase.schedule.ops;
        let back = ops.iter().flat_map(|op| &op.waits).map(|wait| wait.passes_back);
        let exits = exits.streams.values().chain(exits.reads.values()).copied();
        let back = back.chain(exits).max().unwrap_or(0);
        // A wait reaches so many passes back; times are read `in_flight` passes later. No wait reaches back over the
        // first pass.
        let rows = back.saturating_add(1).min(phase.passes.max(1)).max(settings.in_flight);
        let may_be_early = !phase.is_apart() && !holds_host(phase, with.image);
        let may_be_early = may_be_early && (part == 0 || !run.exits[part - 1].all);
        let numbering = Numbering::new(&phase.schedule, phase.passes);
        let used = Lane::ALL.map(|lane| used(phase, &numbering, lane));
        let mut events = Vec::new();
        for _ in 0..rows {
            let timing = settings.sample > 0;
            let pairs = steps.iter().map(|step| run.pool.pair(step.lane, timing, step.awaited));
            events.push(pairs.collect::<Outcome<_>>()?);
        }
        let rows = events.len();
        let host_times = vec![vec![None; steps.len()]; rows];
        let early = vec![false; steps.len()];
        let repeat = with.repeat;
        let mut made = Self {
            steps,
            numbering,
            events,
            marks: vec![Default::default(); rows],
            host_times,
            used,
            start: None,
            repeat: None,
            may_be_early,
            early,
        };
        made.repeat = repeat.map(|length| Repeat::new(run, (part, &made), length)).transpose()?;
        Ok(made)
    }

    /// The row of a pass.
    pub fn row(&self, pass: u32) -> usize {
        pass as usize % self.events.len().max(1)
    }

    /// The row of a pass' digests: passes by streams have theirs, those of launches too.
    pub fn digest_row(&self, settings: Settings, pass: u32) -> u32 {
        let launched = self.repeat.as_ref().and_then(|repeat| repeat.row_of(pass));
        launched.map_or(pass % settings.in_flight, |row| settings.in_flight + row)
    }

    /// The events of an operation in a pass.
    pub fn pair(&self, op: usize, pass: u32) -> &Pair {
        let repeated = self.repeat.as_ref().and_then(|repeat| repeat.pair(op, pass));
        repeated.unwrap_or_else(|| &self.events[self.row(pass)][op])
    }

    /// Whether an operation is timed in a pass: all of a timed pass; of every other one the last use, so that every
    /// pass has its time.
    pub fn is_timed(&self, settings: Settings, op: usize, pass: u32) -> bool {
        let last = || self.steps[op + 1..].iter().all(|step| step.lane != Lane::Compute);
        let ends = || self.steps[op].lane == Lane::Compute && last();
        settings.sample > 0 && (settings.timed(pass) || ends())
    }
}

/// Whether issuing the first pass may hold the host: synchronisations, and copies from ordinary memory.
fn holds_host(phase: &Phase, image: &ComponentImage) -> bool {
    let mut pieces = image.blocks.iter().flat_map(|block| &block.pieces);
    phase.schedule.ops.iter().any(|op| op.kind == OpKind::HostSync)
        || pieces.any(|piece| piece.memory == HostMemory::Pageable)
}

/// In which passes a lane is used. Verification works on the compute lane in every pass.
fn used(phase: &Phase, numbering: &Numbering, lane: Lane) -> Used {
    // Middle passes repeat after the turns; the last is like none of them.
    let passes = phase.passes;
    let later = (1..passes.min(phase.schedule.turns() + 2)).chain((1..passes).last());
    let runs = |pass: u32| !numbering.on_lane(lane, pass).is_empty();
    match () {
        () if lane == Lane::Compute || later.clone().any(runs) => Used::Always,
        () if passes > 0 && runs(0) => Used::First,
        () => Used::Never,
    }
}

/// Events that nothing uses.
pub(super) struct Pool {
    gpu: Rc<Gpu>,
    timed: Vec<Event>,
    plain: Vec<Event>,
}

impl Pool {
    pub fn new(gpu: &Rc<Gpu>) -> Self {
        Self { gpu: Rc::clone(gpu), timed: Vec::new(), plain: Vec::new() }
    }

    /// An event of a part that is over, or a new one.
    pub fn take(&mut self, timing: bool) -> Outcome<Event> {
        let spare = if timing { self.timed.pop() } else { self.plain.pop() };
        spare.map_or_else(|| Event::new(&self.gpu, timing), Ok)
    }

    /// The events that an operation may need: two with times, or one that others wait for.
    pub fn pair(&mut self, lane: Lane, timing: bool, awaited: bool) -> Outcome<Pair> {
        let on_stream = STREAMS.contains(&lane);
        let mut event = |needed: bool| (needed && on_stream).then(|| self.take(timing)).transpose();
        Ok(Pair { start: event(timing)?, end: event(timing || awaited)? })
    }

    /// An event for each lane that runs something in every pass.
    pub fn by_lane(&mut self, used: [Used; LANES], timing: bool) -> Outcome<ByLane> {
        let mut events = ByLane::default();
        for lane in STREAMS.into_iter().filter(|lane| used[lane.index()] == Used::Always) {
            events[lane.index()] = Some(self.take(timing)?);
        }
        Ok(events)
    }

    /// The part is over: all that was recorded has been reached, and what waits for it has what it needs.
    pub fn put_all(&mut self, part: Part) {
        let Part { events, start, repeat, .. } = part;
        let pairs = events.into_iter().flatten();
        let pairs = pairs.flat_map(|Pair { start, end }| [start, end]).chain([start]).flatten();
        let of_graphs = repeat.map(Repeat::into_events).unwrap_or_default();
        for event in pairs.chain(of_graphs) {
            let spare = if event.timing { &mut self.timed } else { &mut self.plain };
            spare.push(event);
        }
    }
}
