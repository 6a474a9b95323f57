//! Turns a program into a proof that it is safe, or into the list of what may go wrong.
//!
//! Nothing here knows a duration. What is certain to happen before what follows from two facts alone: a lane
//! runs its operations in order of issue, and an operation starts after those it waits for. That gives every
//! operation a *vector clock*: how many operations of each lane have surely ended when it starts.
//!
//! ```text
//! h2d      copy a ──▶ copy b ─────────▶ copy c into a's bytes      certain: compute a before copy c, because
//! compute        └──▶ compute a ──▶ compute b  ▲                   copy c waits for it. Without that wait the
//!                         └────────────────────┘                   lanes would race, whatever the timings say.
//! ```
//!
//! The checker walks the passes in order of issue with a map of the slab: which piece each byte belongs to, who
//! wrote it, who read it. It proves that
//!
//! 1. every use finds all of its block's bytes, copied before it starts;
//! 2. every copy goes into bytes whose last user has ended, and never over a resident;
//! 3. no byte lies outside the slab, and no two live pieces share one; so live bytes never exceed the slab;
//! 4. the same of the ring of pinned host memory (`ring`): every copy from it finds what was read for it, and no read
//!    goes into bytes whose copy has not ended.
//!
//! The offsets of a piece repeat after a few passes, and so does the state of the slab; walking two rounds of
//! them (and the first and last pass, which differ) proves it for any number of passes.

mod ring;

use std::collections::BTreeMap;

use super::numbering::Numbering;
use super::{Phase, Program};
use crate::error::Problem;
use crate::lane::{Lane, OpKind};
use crate::plan::Op;

/// The most passes that are walked; plans whose offsets take longer to repeat are refused.
const MAX_PASSES: u32 = 4_096;

/// The most operations that are walked, over all passes of a phase.
const MAX_OPERATIONS: u64 = 20_000_000;

/// The most problems reported; one broken wait shows in every pass.
const MAX_PROBLEMS: usize = 20;

/// What has been proved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Proof {
    /// Operations walked.
    pub operations: u64,
    /// Passes walked, over all phases.
    pub passes: u32,
}

/// By lane: how many operations have surely ended.
type Clock = [u64; Lane::ALL.len()];

/// An operation as others see it: its lane and its number there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Event {
    lane: usize,
    number: u64,
    block: usize,
    pass: u32,
}

impl Event {
    /// Whether it has surely ended by a clock.
    fn before(self, clock: &Clock) -> bool {
        clock[self.lane] > self.number
    }
}

/// A stretch of the slab that belongs to one piece.
#[derive(Debug, Clone)]
struct Cell {
    end: u64,
    block: usize,
    piece: usize,
    /// The pass that uses what was copied; of a resident piece, the first.
    pass: u32,
    resident: bool,
    writer: Event,
    readers: Vec<Event>,
}

/// Proves a program safe, or lists what may go wrong.
pub fn check(program: &Program) -> Result<Proof, Vec<Problem>> {
    let mut proof = Proof { operations: 0, passes: 0 };
    let mut problems = Vec::new();
    for phase in &program.phases {
        let mut walk = Walk::new(phase, program.slab.get());
        walk.run();
        proof.operations += walk.operations;
        proof.passes += walk.passes;
        problems.append(&mut walk.problems);
    }
    problems.truncate(MAX_PROBLEMS);
    if problems.is_empty() { Ok(proof) } else { Err(problems) }
}

struct Walk<'a> {
    phase: &'a Phase,
    slab_end: u64,
    passes: u32,
    numbering: Numbering,
    /// Clocks at the end of each operation, for the last few passes.
    ends: Vec<Vec<Clock>>,
    lane_ends: [Clock; Lane::ALL.len()],
    slab: BTreeMap<u64, Cell>,
    /// The ring of pinned host memory.
    ring: BTreeMap<u64, ring::Staged>,
    /// Pieces that stay until the end of each use that is not their own, as block and piece.
    held: Vec<Vec<(usize, usize)>>,
    operations: u64,
    problems: Vec<Problem>,
}

impl<'a> Walk<'a> {
    fn new(phase: &'a Phase, slab_end: u64) -> Self {
        let ops = &phase.schedule.ops;
        let back = ops.iter().flat_map(|op| &op.waits).map(|w| w.passes_back).max().unwrap_or(0);
        let places = phase.places.iter().flatten();
        let turns = places.flat_map(|place| [place.at.len(), place.host_at.len().max(1)]);
        let repeat = turns.fold(1u64, |all, turns| lcm(all, turns as u64));
        let enough = repeat.saturating_mul(2).saturating_add(u64::from(back) + 2);
        let mut problems = Vec::new();
        if enough > u64::from(MAX_PASSES) {
            let found = format!("offsets that repeat after {repeat} passes");
            let expected =
                format!("offsets that repeat after at most {} passes", MAX_PASSES / 2 - 16);
            problems.push(Problem::new(&phase.component, found, expected));
        }
        let work = enough.min(u64::from(phase.passes)).saturating_mul(ops.len() as u64);
        if work > MAX_OPERATIONS {
            let found = format!("{work} operations until the slab's state repeats");
            let expected = format!("at most {MAX_OPERATIONS}: fewer offsets per piece");
            problems.push(Problem::new(&phase.component, found, expected));
        }
        let passes = phase.passes.min(u32::try_from(enough).unwrap_or(MAX_PASSES).min(MAX_PASSES));
        Self {
            phase,
            slab_end,
            passes,
            numbering: Numbering::new(&phase.schedule, passes),
            ends: vec![vec![Clock::default(); ops.len()]; back as usize + 1],
            lane_ends: Default::default(),
            slab: BTreeMap::new(),
            ring: BTreeMap::new(),
            held: held(phase),
            operations: 0,
            problems,
        }
    }

    fn run(&mut self) {
        let phase = self.phase;
        if !self.problems.is_empty() {
            return;
        }
        for pass in 0..self.passes {
            for (n, op) in phase.schedule.ops.iter().enumerate() {
                let Some(number) = self.numbering.number(n, op.lane, pass) else { continue };
                let start = self.clock_at_start(op, pass);
                let lane = op.lane.index();
                let serves = pass + op.ahead;
                let event = Event { lane, number, block: op.block, pass: serves };
                match op.kind {
                    OpKind::Copy => {
                        self.leave_ring(op, event, &start);
                        self.write(op, event, &start);
                    }
                    OpKind::Compute => {
                        self.read(op, event, &start);
                        self.hold(op, event);
                    }
                    OpKind::WriteBack => self.read(op, event, &start),
                    OpKind::Read => self.enter_ring(op, event, &start),
                    OpKind::HostSync => {}
                }
                let mut end = start;
                end[lane] = number + 1;
                self.lane_ends[lane] = end;
                let row = pass as usize % self.ends.len();
                self.ends[row][n] = end;
                self.operations += 1;
                if self.problems.len() >= MAX_PROBLEMS {
                    return;
                }
            }
        }
    }

    /// Everything that has surely ended when an operation starts.
    fn clock_at_start(&self, op: &Op, pass: u32) -> Clock {
        let mut clock = self.lane_ends[op.lane.index()];
        for wait in op.waits.iter().filter(|wait| wait.passes_back <= pass) {
            let target = pass - wait.passes_back;
            let lane = self.phase.schedule.ops[wait.op].lane;
            if self.numbering.number(wait.op, lane, target).is_none() {
                continue;
            }
            let known = &self.ends[target as usize % self.ends.len()][wait.op];
            for (own, other) in clock.iter_mut().zip(known) {
                *own = (*own).max(*other);
            }
        }
        clock
    }

    fn name(&self, block: usize, pass: u32) -> String {
        let id = self.phase.blocks.get(block).map_or("?", String::as_str);
        format!("{}.{id} in pass {pass}", self.phase.component)
    }

    fn problem(&mut self, place: String, found: String, expected: &str) {
        let problem = Problem::new(place, found, expected);
        if !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }

    /// A copy: nobody may still use what it overwrites.
    fn write(&mut self, op: &Op, event: Event, start: &Clock) {
        let piece = op.piece.unwrap_or(0);
        let place = &self.phase.places[op.block][piece];
        let (from, to) = place.range(event.pass);
        let resident = place.resident;
        let copy = format!("copy of {} into bytes {from}..{to}", self.name(op.block, event.pass));
        if to > self.slab_end {
            let found = format!("an end past the slab of {} bytes", self.slab_end);
            self.problem(copy, found, "a place inside the slab");
            return;
        }
        for cell in self.take(from, to) {
            let owner = self.name(cell.block, cell.pass);
            if cell.resident {
                let found = format!("resident bytes of {owner}");
                self.problem(copy.clone(), found, "bytes that nothing resident holds");
            }
            let mut users = std::iter::once(&cell.writer).chain(&cell.readers);
            if let Some(user) = users.find(|user| !user.before(start)).copied() {
                let user = self.name(user.block, user.pass);
                let found = format!("a start that does not wait for the use of {user}");
                self.problem(copy.clone(), found, "a wait for the last use of these bytes");
            }
        }
        let cell = Cell {
            end: to,
            block: op.block,
            piece,
            pass: event.pass,
            resident,
            writer: event,
            readers: Vec::new(),
        };
        self.slab.insert(from, cell);
    }

    /// A use or a write-back: all bytes of the block must be there, surely copied before it starts.
    fn read(&mut self, op: &Op, event: Event, start: &Clock) {
        let phase = self.phase;
        for (piece, place) in phase.places[op.block].iter().enumerate() {
            if place.bytes.is_zero() {
                continue;
            }
            let (from, to) = place.range(event.pass);
            let pass = if place.resident { 0 } else { event.pass };
            let held = self.slab.get_mut(&from).filter(|cell| {
                cell.end == to && (cell.block, cell.piece, cell.pass) == (op.block, piece, pass)
            });
            let (present, certain) = match held {
                Some(cell) => {
                    cell.readers.push(event);
                    (true, cell.writer.before(start))
                }
                None => (false, false),
            };
            if !certain {
                let place = format!("use of {}", self.name(op.block, event.pass));
                let found = match present {
                    true => format!("a start that does not wait for the copy into {from}..{to}"),
                    false => format!("other bytes, or none, in {from}..{to}"),
                };
                self.problem(place, found, "all bytes of the block, copied before the use");
            }
        }
    }

    /// A use until whose end other blocks' bytes stay: they must be there still.
    fn hold(&mut self, op: &Op, event: Event) {
        for (block, piece) in self.held[op.block].clone() {
            let (from, to) = self.phase.places[block][piece].range(event.pass);
            let held = self.slab.get_mut(&from).filter(|cell| {
                cell.end == to && (cell.block, cell.piece, cell.pass) == (block, piece, event.pass)
            });
            match held {
                Some(cell) => cell.readers.push(event),
                None => {
                    let place = format!("use of {}", self.name(op.block, event.pass));
                    let held = self.name(block, event.pass);
                    let found = format!("other bytes, or none, in {from}..{to}");
                    let expected = format!("those of {held}, held until then");
                    self.problem(place, found, &expected);
                }
            }
        }
    }

    /// Removes `from..to` from the map; what reaches over the edges stays there, cut.
    fn take(&mut self, from: u64, to: u64) -> Vec<Cell> {
        let first = self.slab.range(..from).next_back().filter(|(_, cell)| cell.end > from);
        let begin = first.map_or(from, |(&at, _)| at);
        let starts: Vec<u64> = self.slab.range(begin..to).map(|(&at, _)| at).collect();
        let mut taken = Vec::new();
        for at in starts {
            let Some(cell) = self.slab.remove(&at) else { continue };
            if at < from {
                self.slab.insert(at, Cell { end: from, ..cell.clone() });
            }
            if cell.end > to {
                self.slab.insert(to, cell.clone());
            }
            taken.push(cell);
        }
        taken
    }
}

/// By use: the pieces of other uses that stay until its end.
fn held(phase: &Phase) -> Vec<Vec<(usize, usize)>> {
    let mut held = vec![Vec::new(); phase.places.len()];
    for (block, places) in phase.places.iter().enumerate() {
        for (piece, place) in places.iter().enumerate().filter(|(_, p)| !p.bytes.is_zero()) {
            let until = place.held_until.filter(|&until| until != block);
            if let Some(held) = until.and_then(|until| held.get_mut(until)) {
                held.push((block, piece));
            }
        }
    }
    held
}

fn lcm(a: u64, b: u64) -> u64 {
    let (mut x, mut y) = (a, b.max(1));
    while y != 0 {
        (x, y) = (y, x % y);
    }
    (a / x).saturating_mul(b.max(1))
}
