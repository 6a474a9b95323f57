//! Turns stages into the starts and ends of their operations, event by event: integer nanoseconds, no threads, no
//! clock.
//!
//! The model: each lane runs one operation at a time, in order of issue. An operation starts at the first instant
//! at which its lane is free and everything it waits for has ended. It lasts as long as the schedule says, unless
//! lanes slow each other down ([`Beside`]), or the [`Observer`] sets another pace. While a use's collectives are on the
//! host's link ([`Op::on_link`](super::op::Op::on_link)) copies pause where they are, and go on after:
//!
//! ```text
//! compute   ████████▒▒▒████████▒▒▒      ▒ collectives on the host's link, at the end of each use
//! h2d       ██████    ███  ████   █
//! ```
//!
//! Events are taken in order of time, then of lane ([`Lane::ALL`]); completions come before starts. State is a
//! handful of counters per lane, so memory does not depend on the number of passes.
//!
//! The simulator is this with a recorder. [`timing`](super::timing) uses it where its recurrence does not hold: that
//! knows how long an operation takes before it knows what runs beside it.

mod lanes;

use super::numbering::Numbering;
use super::schedule::Schedule;
use super::stage::{Enter, Stage};
use crate::device::DeviceSpec;
use crate::lane::Lane;
use crate::units::Fraction;
use lanes::{Lanes, Part, Running};

/// How lanes slow each other down.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Beside {
    /// While a copy runs, compute proceeds at `1 / (1 + contention)` of its speed.
    pub contention: Fraction,
    /// While something computes, copies proceed at `1 / (1 + copy_contention)` of theirs.
    pub copy_contention: Fraction,
}

impl Beside {
    /// As a device's lanes do.
    pub fn on(device: &DeviceSpec) -> Self {
        Self { contention: device.contention, copy_contention: device.copy_contention }
    }

    /// Whether anything of that schedule takes longer beside something else than alone.
    pub fn changes(self, schedule: &Schedule) -> bool {
        self != Self::default() || schedule.ops.iter().any(|op| !op.on_link.is_zero())
    }
}

/// What is executed: a schedule, repeated, after the stages before it.
#[derive(Debug, Clone, Copy)]
pub struct Repeated<'a> {
    /// The operations of a pass.
    pub schedule: &'a Schedule,
    /// Passes to run.
    pub passes: u32,
    /// By operation: what it waits for in the first pass, among the stages before; nothing where there is no entry.
    pub enters: &'a [Enter],
}

impl<'a> From<&'a Stage> for Repeated<'a> {
    fn from(stage: &'a Stage) -> Self {
        Self { schedule: &stage.schedule, passes: stage.passes, enters: &stage.enters }
    }
}

impl Repeated<'_> {
    /// Whether it begins only when everything before it has ended.
    pub fn is_apart(&self) -> bool {
        self.enters.iter().all(|enter| *enter == Enter::Everything)
    }
}

/// An operation in one of the passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Which {
    /// Which stage.
    pub stage: usize,
    /// Index into its schedule's operations.
    pub op: usize,
    /// From 0.
    pub pass: u32,
}

/// An operation that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// Which.
    pub which: Which,
    /// Where it ran.
    pub lane: Lane,
    /// Its first nanosecond.
    pub start: u64,
    /// The one after its last.
    pub end: u64,
    /// What ended at its start and had kept it waiting; none where it was its own lane.
    pub waited_for: Option<Which>,
}

/// Somebody who is told what happens, in order of time.
pub trait Observer {
    /// The pace of an operation, by its number on its lane in its stage: its duration is multiplied by it.
    fn pace(&self, _lane: Lane, _stage: usize, _number: u64) -> Fraction {
        Fraction::WHOLE
    }

    /// An operation starts.
    fn started(&mut self, _which: Which, _at: u64) {}

    /// An operation has ended.
    fn ended(&mut self, _done: &Ended) {}

    /// Everything of a stage and of those before it has ended, and nothing of what follows has begun where that waits
    /// for all of it.
    fn over(&mut self, _stage: usize, _at: u64) {}

    /// Whether to stop: asked at every event.
    fn interrupted(&self) -> bool {
        false
    }
}

/// Why an execution came to no end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Halt {
    /// The observer asked for it, in this stage.
    Interrupted(usize),
    /// It would last longer than 2^64 ns.
    TooLong,
    /// These wait for what never ends.
    Stuck(Vec<(Lane, Which)>),
}

/// Executes stages one after the other.
pub fn execute(
    stages: &[Repeated],
    beside: Beside,
    observer: &mut impl Observer,
) -> Result<(), Halt> {
    Execution::new(stages, beside).run(observer)
}

struct Execution<'a> {
    stages: &'a [Repeated<'a>],
    parts: Vec<Part>,
    lanes: Lanes,
    now: u64,
    /// Stages of which everything has ended.
    over: usize,
}

impl<'a> Execution<'a> {
    fn new(stages: &'a [Repeated<'a>], beside: Beside) -> Self {
        let parts = Part::all(stages);
        Self { stages, parts, lanes: Lanes::new(beside), now: 0, over: 0 }
    }

    /// Runs all stages.
    fn run(mut self, observer: &mut impl Observer) -> Result<(), Halt> {
        for lane in Lane::ALL {
            self.lanes.settle(lane, &self.parts);
        }
        loop {
            if observer.interrupted() {
                return Err(Halt::Interrupted(self.over));
            }
            self.start_what_can(observer);
            if !self.advance(observer)? {
                break;
            }
            self.end_stages(observer);
        }
        let stuck = Lane::ALL.into_iter().filter_map(|lane| Some((lane, self.lanes.next(lane)?)));
        let stuck: Vec<(Lane, Which)> = stuck.collect();
        if stuck.is_empty() { Ok(()) } else { Err(Halt::Stuck(stuck)) }
    }

    fn end_stages(&mut self, observer: &mut impl Observer) {
        while self.over < self.stages.len() {
            let next = self.parts.get(self.over + 1);
            let ended = match next {
                Some(next) => self.lanes.have_ended(&next.before),
                None => self.lanes.waiting().is_none() && !self.lanes.runs(),
            };
            if !ended {
                return;
            }
            observer.over(self.over, self.now);
            self.over += 1;
        }
    }

    /// Whether an operation of a stage's first pass has nothing left to wait for among the stages before, and the
    /// one whose end it waited for.
    fn may_enter(&self, next: Which) -> (bool, Option<Which>) {
        let stage = &self.stages[next.stage];
        match stage.enters.get(next.op).filter(|_| next.pass == 0) {
            Some(Enter::Everything) => {
                (self.lanes.have_ended(&self.parts[next.stage].before), None)
            }
            Some(&Enter::Op { stage, op, passes_back }) => {
                let pass = self.parts[stage].passes.checked_sub(1 + passes_back);
                let target = pass.map(|pass| Which { stage, op, pass });
                let Some((target, (lane, number))) =
                    target.and_then(|target| Some((target, self.number(target)?)))
                else {
                    return (true, None);
                };
                let now = self.lanes.ended_now(lane, number, self.now);
                (self.lanes.has_ended(lane, number), now.then_some(target))
            }
            Some(Enter::Nothing) | None => (true, None),
        }
    }

    /// An operation's lane, and its number there over the whole run; none where it is not part of that pass.
    fn number(&self, Which { stage, op, pass }: Which) -> Option<(Lane, u64)> {
        let lane = self.stages[stage].schedule.ops[op].lane;
        let part = &self.parts[stage];
        Some((lane, part.before[lane.index()] + part.numbering.number(op, lane, pass)?))
    }

    /// Starts, lane by lane, every next operation that has nothing left to wait for.
    fn start_what_can(&mut self, observer: &mut impl Observer) {
        for lane in Lane::ALL {
            let Some(next) = self.lanes.next(lane) else { continue };
            let Which { stage, op, pass } = next;
            let schedule = self.stages[stage].schedule;
            let op = &schedule.ops[op];
            let (mut ready, mut waited_for) = self.may_enter(next);
            for wait in op.waits.iter().filter(|wait| wait.passes_back <= pass) {
                let target = Which { op: wait.op, pass: pass - wait.passes_back, ..next };
                let Some((on, number)) = self.number(target) else { continue };
                if !self.lanes.has_ended(on, number) {
                    ready = false;
                    break;
                }
                if waited_for.is_none() && self.lanes.ended_now(on, number, self.now) {
                    waited_for = Some(target);
                }
            }
            if !ready {
                continue;
            }
            // Where the lane itself became free only now, the lane is what it waited for.
            let waited_for = waited_for.filter(|_| self.lanes.free_since(lane) < self.now);
            let numbering: &Numbering = &self.parts[stage].numbering;
            let number = numbering.number(next.op, lane, pass).unwrap_or(0);
            let pace = observer.pace(lane, stage, number);
            let duration = pace.share_of(schedule.duration(op, pass).get());
            let held = pace.share_of(op.on_link.get());
            let running = Running::new(next, self.now, waited_for).lasting(duration, held);
            self.lanes.start(lane, running);
            observer.started(next, self.now);
        }
    }

    /// Moves time to the next end and completes what ends then; false when nothing runs.
    fn advance(&mut self, observer: &mut impl Observer) -> Result<bool, Halt> {
        let Some(next) = self.lanes.next_end(self.now) else { return Ok(false) };
        let next = u64::try_from(next).ok().filter(|&next| next < u64::MAX);
        let next = next.ok_or(Halt::TooLong)?;
        self.lanes.progress(next - self.now);
        self.now = next;
        for lane in Lane::ALL {
            let Some(done) = self.lanes.complete(lane, self.now) else { continue };
            let Running { which, start, waited_for, .. } = done;
            observer.ended(&Ended { which, lane, start, end: self.now, waited_for });
            self.lanes.settle(lane, &self.parts);
        }
        Ok(true)
    }
}
