//! Turns "operation n of pass t" into "the k-th operation of its lane", so that waiting is comparing two counts.
//!
//! Lanes run in order of issue, so an operation has ended exactly when its lane has completed more operations
//! than its number. Passes come in a few shapes (the first, the last, and a middle one for each turn of the plan), so
//! a number is computed, never stored: a run of a million passes needs no more memory than one of three.

use super::op::Op;
use super::schedule::Schedule;
use crate::lane::Lane;

const LANES: usize = Lane::ALL.len();

/// The operations of one shape of pass.
#[derive(Debug, Clone)]
struct Shape {
    /// By operation: its position among those of its lane; none when it is not part of the pass.
    position: Vec<Option<u64>>,
    /// By lane: the operations in order of issue.
    on_lane: [Vec<usize>; LANES],
}

impl Shape {
    fn of(ops: &[Op], pass: u32, passes: u32) -> Self {
        let mut shape = Self { position: vec![None; ops.len()], on_lane: Default::default() };
        for (n, op) in ops.iter().enumerate().filter(|(_, op)| op.when.includes(pass, passes)) {
            let lane = &mut shape.on_lane[op.lane.index()];
            shape.position[n] = Some(lane.len() as u64);
            lane.push(n);
        }
        shape
    }

    fn count(&self, lane: Lane) -> u64 {
        self.on_lane[lane.index()].len() as u64
    }
}

/// Numbers of operations on their lanes, over all passes of a schedule.
#[derive(Debug, Clone)]
pub struct Numbering {
    passes: u32,
    first: Shape,
    /// By turn.
    middle: Vec<Shape>,
    /// By turn and lane: operations of the turns before; one row more for all of them.
    before: Vec<[u64; LANES]>,
    last: Shape,
}

impl Numbering {
    /// Numbers the operations of a schedule that runs for so many passes.
    pub fn new(schedule: &Schedule, passes: u32) -> Self {
        let ops = &schedule.ops;
        let turns = schedule.turns();
        // A middle pass is neither the first nor the last, whether or not this run has one.
        let middle = (0..turns).map(|turn| Shape::of(ops, turns + turn, u32::MAX));
        let middle: Vec<Shape> = middle.collect();
        let mut before = vec![[0; LANES]];
        for (turn, shape) in middle.iter().enumerate() {
            let mut counts = before[turn];
            Lane::ALL.iter().for_each(|&lane| counts[lane.index()] += shape.count(lane));
            before.push(counts);
        }
        let last = Shape::of(ops, passes.saturating_sub(1), passes);
        Self { passes, first: Shape::of(ops, 0, passes), middle, before, last }
    }

    fn shape(&self, pass: u32) -> &Shape {
        match pass {
            0 => &self.first,
            pass if pass + 1 == self.passes => &self.last,
            pass => &self.middle[pass as usize % self.middle.len()],
        }
    }

    /// The operations of a pass on a lane, in order of issue.
    pub fn on_lane(&self, lane: Lane, pass: u32) -> &[usize] {
        &self.shape(pass).on_lane[lane.index()]
    }

    /// Whether a lane runs anything at all.
    pub fn uses(&self, lane: Lane) -> bool {
        let ends = [&self.first, &self.last].into_iter();
        ends.chain(&self.middle).any(|shape| shape.count(lane) > 0)
    }

    /// How many operations a lane runs in all.
    pub fn total(&self, lane: Lane) -> u64 {
        match self.passes {
            0 => 0,
            1 => self.first.count(lane),
            passes => {
                let middle = self.middle_before(lane, passes - 1) - self.middle_before(lane, 1);
                self.first.count(lane) + middle + self.last.count(lane)
            }
        }
    }

    /// The operation's number on its lane, from 0; none where it is not part of that pass.
    pub fn number(&self, op: usize, lane: Lane, pass: u32) -> Option<u64> {
        let position = self.shape(pass).position[op]?;
        let before = match pass {
            0 => 0,
            pass => {
                self.first.count(lane) + self.middle_before(lane, pass)
                    - self.middle_before(lane, 1)
            }
        };
        Some(before + position)
    }

    /// Operations on a lane before a pass, were all passes middle ones.
    fn middle_before(&self, lane: Lane, pass: u32) -> u64 {
        let turns = self.middle.len();
        let all = self.before[turns][lane.index()];
        u64::from(pass) / turns as u64 * all + self.before[pass as usize % turns][lane.index()]
    }
}
