//! Turns starts and ends into the state of each lane: what runs, what is next, how much has ended.

use super::{Beside, Repeated, Which};
use crate::lane::Lane;
use crate::plan::numbering::Numbering;
use crate::units::Fraction;

const LANES: usize = Lane::ALL.len();

/// A stage as the lanes walk it.
#[derive(Debug)]
pub(super) struct Part {
    pub numbering: Numbering,
    pub passes: u32,
    /// By lane: operations of the stages before.
    pub before: [u64; LANES],
}

impl Part {
    /// The parts of all stages.
    pub fn all(stages: &[Repeated]) -> Vec<Self> {
        let mut before = [0; LANES];
        let part = |stage: &Repeated| {
            let numbering = Numbering::new(stage.schedule, stage.passes);
            let part = Self { numbering, passes: stage.passes, before };
            for lane in Lane::ALL {
                before[lane.index()] += part.numbering.total(lane);
            }
            part
        };
        stages.iter().map(part).collect()
    }
}

/// An operation that runs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Running {
    pub which: Which,
    pub start: u64,
    pub waited_for: Option<Which>,
    /// Work left, in units of which a nanosecond at full speed does [`Lanes::full`] of its lane.
    left: u128,
    /// The last of it, during which it holds the host's link.
    held: u128,
}

impl Running {
    pub fn new(which: Which, start: u64, waited_for: Option<Which>) -> Self {
        Self { which, start, waited_for, left: 0, held: 0 }
    }

    /// It lasts so long at full speed, and so much of that at its end holds the host's link.
    pub fn lasting(self, duration: u64, held: u64) -> Self {
        Self { left: u128::from(duration), held: u128::from(held.min(duration)), ..self }
    }

    /// Work left until it ends, or begins to hold the link.
    fn next(&self) -> u128 {
        if self.left > self.held { self.left - self.held } else { self.left }
    }
}

/// Where a lane is in its list of operations.
#[derive(Debug, Clone, Copy, Default)]
struct Cursor {
    stage: usize,
    pass: u32,
    position: usize,
    /// The next operation; none at the end of the run.
    next: Option<Which>,
    /// Operations that have ended.
    ended: u64,
    /// When the last one ended; the start of the run before that.
    free_since: u64,
}

/// The state of all lanes.
#[derive(Debug)]
pub(super) struct Lanes {
    cursors: [Cursor; LANES],
    running: [Option<Running>; LANES],
    /// By lane: work that a nanosecond does at full speed; beside what slows it down it does [`Fraction::WHOLE`].
    full: [u128; LANES],
}

impl Lanes {
    /// Lanes that slow each other down so much.
    pub fn new(beside: Beside) -> Self {
        let full = Lane::ALL.map(|lane| {
            let slowdown = match lane {
                Lane::Compute => beside.contention,
                Lane::H2d | Lane::D2h => beside.copy_contention,
                Lane::Disk | Lane::Host => Fraction::ZERO,
            };
            u128::from(Fraction::WHOLE.ppm()) + u128::from(slowdown.ppm())
        });
        Self { cursors: [Cursor::default(); LANES], running: [None; LANES], full }
    }

    /// Finds the next operation of a lane, over the end of a pass or a stage if need be.
    pub fn settle(&mut self, lane: Lane, parts: &[Part]) {
        let cursor = &mut self.cursors[lane.index()];
        cursor.next = None;
        while let Some(part) = parts.get(cursor.stage) {
            while cursor.pass < part.passes && part.numbering.uses(lane) {
                let on_lane = part.numbering.on_lane(lane, cursor.pass);
                if let Some(&op) = on_lane.get(cursor.position) {
                    cursor.next = Some(Which { stage: cursor.stage, op, pass: cursor.pass });
                    return;
                }
                cursor.pass += 1;
                cursor.position = 0;
            }
            cursor.stage += 1;
            (cursor.pass, cursor.position) = (0, 0);
        }
    }

    /// The next operation of a lane that runs nothing.
    pub fn next(&self, lane: Lane) -> Option<Which> {
        self.cursors[lane.index()].next.filter(|_| self.running[lane.index()].is_none())
    }

    /// A lane that still has something to run.
    pub fn waiting(&self) -> Option<Lane> {
        Lane::ALL.into_iter().find(|lane| self.cursors[lane.index()].next.is_some())
    }

    /// Whether any lane runs anything.
    pub fn runs(&self) -> bool {
        self.running.iter().any(Option::is_some)
    }

    /// Whether an operation has ended.
    pub fn has_ended(&self, lane: Lane, number: u64) -> bool {
        self.cursors[lane.index()].ended > number
    }

    /// Whether all lanes have ended so many operations.
    pub fn have_ended(&self, numbers: &[u64; LANES]) -> bool {
        self.cursors.iter().zip(numbers).all(|(cursor, &number)| cursor.ended >= number)
    }

    /// Whether it ended at this very instant.
    pub fn ended_now(&self, lane: Lane, number: u64, now: u64) -> bool {
        let cursor = &self.cursors[lane.index()];
        cursor.ended == number + 1 && cursor.free_since == now
    }

    /// Since when the lane has been free.
    pub fn free_since(&self, lane: Lane) -> u64 {
        self.cursors[lane.index()].free_since
    }

    pub fn start(&mut self, lane: Lane, running: Running) {
        let full = self.full[lane.index()];
        let (left, held) = (running.left * full, running.held * full);
        self.running[lane.index()] = Some(Running { left, held, ..running });
    }

    /// Whether collectives hold the host's link.
    fn is_link_held(&self) -> bool {
        let running = self.running[Lane::Compute.index()].as_ref();
        running.is_some_and(|running| running.left <= running.held && running.held > 0)
    }

    /// Work per nanosecond: all of it, except for compute while a copy runs, and for copies while something computes or
    /// holds their link.
    fn speed(&self, lane: Lane) -> u128 {
        let runs =
            |others: &[Lane]| others.iter().any(|other| self.running[other.index()].is_some());
        let slowed = match lane {
            Lane::H2d | Lane::D2h if self.is_link_held() => return 0,
            Lane::Compute => runs(&[Lane::H2d, Lane::D2h]) && !self.is_link_held(),
            Lane::H2d | Lane::D2h => runs(&[Lane::Compute]),
            Lane::Disk | Lane::Host => false,
        };
        if slowed { u128::from(Fraction::WHOLE.ppm()) } else { self.full[lane.index()] }
    }

    /// The first instant at which something ends or begins to hold the link.
    pub fn next_end(&self, now: u64) -> Option<u128> {
        let running = Lane::ALL.into_iter().filter_map(|lane| {
            let running = self.running[lane.index()].as_ref()?;
            match (running.next(), self.speed(lane)) {
                (0, _) => Some(u128::from(now)),
                (_, 0) => None,
                (left, speed) => Some(u128::from(now) + left.div_ceil(speed)),
            }
        });
        running.min()
    }

    /// Lets what runs proceed for so long.
    pub fn progress(&mut self, nanos: u64) {
        // All of them as they are now: what one lane has left sets the speed of others.
        let speeds = Lane::ALL.map(|lane| self.speed(lane));
        for (running, speed) in self.running.iter_mut().zip(speeds) {
            if let Some(running) = running {
                running.left = running.left.saturating_sub(speed * u128::from(nanos));
            }
        }
    }

    /// Takes an operation off its lane when its work is done.
    pub fn complete(&mut self, lane: Lane, now: u64) -> Option<Running> {
        let done = self.running[lane.index()].filter(|running| running.left == 0)?;
        self.running[lane.index()] = None;
        let cursor = &mut self.cursors[lane.index()];
        cursor.ended += 1;
        cursor.free_since = now;
        cursor.position += 1;
        Some(done)
    }
}
