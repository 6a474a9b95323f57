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
//! Phases follow one another over the same slab and the same lanes: a copy of the next component into bytes of this
//! one is held against the last uses of this one, and what is kept for a later generation must still be there. Each
//! component has a ring of its own, which its later generations find as the one before left it.
//!
//! Uses that passes leave out are walked as if they ran: leaving one out changes no wait, and a copy that is not made
//! leaves older bytes in a place that nobody else may read. So the proof holds whichever are left out.
//!
//! The offsets of a piece repeat after a few passes, and so do the turns in which it is copied and the state of the
//! slab; walking two rounds of them (and the first and last pass, which differ) proves it for any number of passes.

mod ring;

use std::collections::BTreeMap;

use super::{Enter, Numbering, Phase, Program};
use crate::error::Problem;
use crate::lane::{Lane, OpKind};
use crate::plan::{Op, ROOT};

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
    phase: usize,
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
    /// The phase that copied it, and the component whose bytes they are.
    phase: usize,
    of: usize,
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
    let mut walk = Walk::new(program);
    for phase in 0..program.phases.len() {
        walk.phase(phase);
    }
    walk.problems.truncate(MAX_PROBLEMS);
    if walk.problems.is_empty() { Ok(walk.proof) } else { Err(walk.problems) }
}

/// A phase that is walked, or has been.
struct Walked {
    passes: u32,
    numbering: Numbering,
    /// Operations of each lane before this phase.
    before: Clock,
    /// Clocks at the end of each operation, for the last few passes.
    ends: Vec<Vec<Clock>>,
}

impl Walked {
    fn row(&self, pass: u32) -> usize {
        pass as usize % self.ends.len()
    }
}

struct Walk<'a> {
    program: &'a Program,
    walked: Vec<Walked>,
    lane_ends: [Clock; Lane::ALL.len()],
    slab: BTreeMap<u64, Cell>,
    /// The rings of pinned host memory, by component and offset.
    rings: BTreeMap<(usize, u64), ring::Staged>,
    /// Of the phase walked: pieces that stay until the end of each use that is not their own, as block and piece.
    held: Vec<Vec<(usize, usize)>>,
    proof: Proof,
    problems: Vec<Problem>,
}

impl<'a> Walk<'a> {
    fn new(program: &'a Program) -> Self {
        Self {
            program,
            walked: Vec::new(),
            lane_ends: Default::default(),
            slab: BTreeMap::new(),
            rings: BTreeMap::new(),
            held: Vec::new(),
            proof: Proof { operations: 0, passes: 0 },
            problems: Vec::new(),
        }
    }

    /// The passes of a phase that are walked; none, with a problem, where they would be too many.
    fn passes(&mut self, phase: &Phase) -> Option<(u32, usize)> {
        let ops = &phase.schedule.ops;
        let back = ops.iter().flat_map(|op| &op.waits).map(|w| w.passes_back).max().unwrap_or(0);
        let places = phase.places.iter().flatten();
        let counts = places.flat_map(|place| [place.at.len(), place.host_at.len().max(1)]);
        let turns = u64::from(phase.schedule.turns());
        let repeat = counts.fold(turns, |all, count| lcm(all, count as u64));
        // The last pass takes its turn among the offsets as it does in the whole run.
        let turn = u64::from(phase.passes.saturating_sub(1)) % repeat;
        let enough = repeat.saturating_mul(2).saturating_add(u64::from(back) + 2);
        let enough = enough.next_multiple_of(repeat).saturating_add(turn + 1);
        let count = self.problems.len();
        if enough > u64::from(MAX_PASSES) {
            let found = format!("offsets that repeat after {repeat} passes");
            let expected =
                format!("offsets that repeat after at most {} passes", MAX_PASSES / 3 - 16);
            self.problems.push(Problem::new(&phase.component, found, expected));
        }
        let work = enough.min(u64::from(phase.passes)).saturating_mul(ops.len() as u64);
        if work > MAX_OPERATIONS {
            let found = format!("{work} operations until the slab's state repeats");
            let expected = format!("at most {MAX_OPERATIONS}: fewer offsets per piece");
            self.problems.push(Problem::new(&phase.component, found, expected));
        }
        let passes = phase.passes.min(u32::try_from(enough).unwrap_or(MAX_PASSES).min(MAX_PASSES));
        (self.problems.len() == count).then_some((passes, back as usize + 2))
    }

    fn phase(&mut self, index: usize) {
        let phase = &self.program.phases[index];
        if self.problems.len() >= MAX_PROBLEMS {
            return;
        }
        let (passes, rows) = self.passes(phase).unwrap_or((0, 1));
        let before = self.everything();
        self.walked.push(Walked {
            passes,
            numbering: Numbering::new(&phase.schedule, passes),
            before,
            ends: vec![vec![Clock::default(); phase.schedule.ops.len()]; rows],
        });
        self.held = held(phase);
        for pass in 0..passes {
            for (n, op) in phase.schedule.ops.iter().enumerate() {
                let own = &self.walked[index];
                let Some(number) = own.numbering.number(n, op.lane, pass) else { continue };
                let lane = op.lane.index();
                let number = own.before[lane] + number;
                let start = self.clock_at_start((n, op), pass);
                let event =
                    Event { lane, number, phase: index, block: op.block, pass: pass + op.ahead };
                match op.kind {
                    OpKind::Copy => {
                        self.leave_ring(op, event, &start);
                        self.write(op, event, &start);
                    }
                    OpKind::Compute => {
                        self.activate(event, &start);
                        self.read(op, event, &start);
                        self.hold(op, event);
                        self.keep_root(event);
                    }
                    OpKind::WriteBack => self.read(op, event, &start),
                    OpKind::Read => self.enter_ring(op, event, &start),
                    OpKind::HostSync => {}
                }
                let mut end = start;
                end[lane] = number + 1;
                self.lane_ends[lane] = end;
                let own = &mut self.walked[index];
                let row = own.row(pass);
                own.ends[row][n] = end;
                self.proof.operations += 1;
                if self.problems.len() >= MAX_PROBLEMS {
                    return;
                }
            }
        }
        self.proof.passes += passes;
    }

    /// The clock at which everything walked so far has ended.
    fn everything(&self) -> Clock {
        let mut clock = Clock::default();
        for (lane, end) in self.lane_ends.iter().enumerate() {
            clock[lane] = end[lane];
        }
        clock
    }

    /// Everything that has surely ended when an operation starts.
    fn clock_at_start(&self, (n, op): (usize, &Op), pass: u32) -> Clock {
        let index = self.walked.len() - 1;
        let phase = &self.program.phases[index];
        let own = &self.walked[index];
        let mut clock = self.lane_ends[op.lane.index()];
        for wait in op.waits.iter().filter(|wait| wait.passes_back <= pass) {
            let target = pass - wait.passes_back;
            let lane = phase.schedule.ops[wait.op].lane;
            if own.numbering.number(wait.op, lane, target).is_some() {
                later(&mut clock, &own.ends[own.row(target)][wait.op]);
            }
        }
        match phase.enters.get(n).filter(|_| pass == 0) {
            Some(Enter::Everything) => later(&mut clock, &own.before),
            Some(&Enter::Op { stage, op, passes_back }) => {
                let (of, other) = (&self.program.phases[stage], &self.walked[stage]);
                let lane = of.schedule.ops[op].lane;
                let target = other.passes.checked_sub(1 + passes_back);
                // What is further back than anything kept is held to have proved nothing.
                let target = target.filter(|_| (passes_back as usize) < other.ends.len());
                let target =
                    target.filter(|&pass| other.numbering.number(op, lane, pass).is_some());
                if let Some(target) = target {
                    later(&mut clock, &other.ends[other.row(target)][op]);
                }
            }
            Some(Enter::Nothing) | None => {}
        }
        clock
    }

    fn name(&self, phase: usize, block: usize, pass: u32) -> String {
        let phase = &self.program.phases[phase];
        let id = phase.blocks.get(block).map_or("?", String::as_str);
        format!("{}.{id} in pass {pass}", phase.component)
    }

    fn problem(&mut self, place: String, found: String, expected: &str) {
        let problem = Problem::new(place, found, expected);
        if !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }

    /// A copy: nobody may still use what it overwrites.
    fn write(&mut self, op: &Op, event: Event, start: &Clock) {
        let phase = &self.program.phases[event.phase];
        let piece = op.piece.unwrap_or(0);
        let place = &phase.places[op.block][piece];
        let range = place.range(event.pass);
        let copy = self.name(event.phase, op.block, event.pass);
        let copy = format!("copy of {copy} into bytes {}..{}", range.0, range.1);
        let slab_end = self.program.slab.get();
        if range.1 > slab_end {
            let found = format!("an end past the slab of {slab_end} bytes");
            self.problem(copy, found, "a place inside the slab");
            return;
        }
        self.overwrite(&copy, range, event, start);
        let cell = Cell {
            end: range.1,
            phase: event.phase,
            of: phase.of,
            block: op.block,
            piece,
            pass: event.pass,
            resident: place.resident,
            writer: event,
            readers: Vec::new(),
        };
        self.slab.insert(range.0, cell);
    }

    /// What lay in these bytes is gone: of this phase nothing that stays, and nothing that is still used.
    fn overwrite(&mut self, by: &str, (from, to): (u64, u64), event: Event, start: &Clock) {
        for cell in self.take(from, to) {
            let owner = self.name(cell.phase, cell.block, cell.pass);
            if cell.resident && cell.phase == event.phase {
                let found = format!("resident bytes of {owner}");
                self.problem(by.to_owned(), found, "bytes that nothing resident holds");
            }
            let mut users = std::iter::once(&cell.writer).chain(&cell.readers);
            if let Some(user) = users.find(|user| !user.before(start)).copied() {
                let user = self.name(user.phase, user.block, user.pass);
                let found = format!("a start that does not wait for the use of {user}");
                self.problem(by.to_owned(), found, "a wait for the last use of these bytes");
            }
        }
    }

    /// The activations of a phase take the end of the slab while it computes: nothing else may lie there.
    fn activate(&mut self, event: Event, start: &Clock) {
        let phase = &self.program.phases[event.phase];
        let Some(from) = phase.lent_from.filter(|&from| from < self.program.slab.get()) else {
            return;
        };
        let lent = self.slab.get_mut(&from).filter(|cell| cell.of == usize::MAX);
        if let Some(cell) = lent.filter(|cell| cell.phase == event.phase) {
            cell.readers = vec![event];
            return;
        }
        let to = self.program.slab.get();
        let by = format!("activations of {} in bytes {from}..{to}", phase.component);
        self.overwrite(&by, (from, to), event, start);
        let cell = Cell {
            end: to,
            phase: event.phase,
            of: usize::MAX,
            block: event.block,
            piece: 0,
            pass: event.pass,
            resident: true,
            writer: event,
            readers: vec![event],
        };
        self.slab.insert(from, cell);
    }

    /// A use or a write-back: all bytes of the block must be there, surely copied before it starts.
    fn read(&mut self, op: &Op, event: Event, start: &Clock) {
        let program = self.program;
        let phase = &program.phases[event.phase];
        for (piece, place) in phase.places[op.block].iter().enumerate() {
            if place.bytes.is_zero() {
                continue;
            }
            let (from, to) = place.range(event.pass);
            let pass = place.copied_in(event.pass);
            let held = self.slab.get_mut(&from).filter(|cell| {
                let same = (cell.of, cell.block, cell.piece, cell.pass)
                    == (phase.of, op.block, piece, pass);
                // What another phase copied counts only where it stays over generations.
                cell.end == to && same && (cell.phase == event.phase || cell.resident)
            });
            let (present, certain) = match held {
                Some(cell) => {
                    cell.readers.push(event);
                    (true, cell.writer.before(start))
                }
                None => (false, false),
            };
            if !certain {
                let place = self.name(event.phase, op.block, event.pass);
                let place = format!("use of {place}");
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
            let phase = &self.program.phases[event.phase];
            let place = &phase.places[block][piece];
            let (from, to) = place.range(event.pass);
            let pass = place.copied_in(event.pass);
            let held = self.slab.get_mut(&from).filter(|cell| {
                let same = (cell.phase, cell.block, cell.piece, cell.pass)
                    == (event.phase, block, piece, pass);
                cell.end == to && same
            });
            match held {
                Some(cell) => cell.readers.push(event),
                None => {
                    let place = self.name(event.phase, op.block, event.pass);
                    let place = format!("use of {place}");
                    let held = self.name(event.phase, block, event.pass);
                    let found = format!("other bytes, or none, in {from}..{to}");
                    let expected = format!("those of {held}, held until then");
                    self.problem(place, found, &expected);
                }
            }
        }
    }

    /// What lies outside the block lists and stays is in use by every use.
    fn keep_root(&mut self, event: Event) {
        let program = self.program;
        let phase = &program.phases[event.phase];
        if event.block == 0 || phase.blocks.first().is_none_or(|first| first != ROOT) {
            return;
        }
        for (piece, place) in phase.places[0].iter().enumerate() {
            if !place.resident || place.bytes.is_zero() {
                continue;
            }
            let (from, to) = place.range(0);
            let own = (phase.of, 0, piece, to);
            let cell = self.slab.get_mut(&from);
            match cell.filter(|cell| (cell.of, cell.block, cell.piece, cell.end) == own) {
                // Of uses that follow one another the last stands for all.
                Some(cell) => match cell.readers.last_mut() {
                    Some(last) if last.lane == event.lane => *last = event,
                    _ => cell.readers.push(event),
                },
                None => {
                    let place = self.name(event.phase, event.block, event.pass);
                    let found = format!("other bytes, or none, in {from}..{to}");
                    self.problem(format!("use of {place}"), found, "those of the root, which stay");
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

/// The later of two clocks, lane by lane.
fn later(clock: &mut Clock, other: &Clock) {
    for (own, other) in clock.iter_mut().zip(other) {
        *own = (*own).max(*other);
    }
}

fn lcm(a: u64, b: u64) -> u64 {
    let (mut x, mut y) = (a, b.max(1));
    while y != 0 {
        (x, y) = (y, x % y);
    }
    (a / x).saturating_mul(b.max(1))
}
