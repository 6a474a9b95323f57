//! Turns a [`Schedule`] into its times, exactly and without simulating: steady pass, first pass, makespan.
//!
//! The steady pass time is the **maximum cycle ratio** of the event graph. Nodes are the operations of a pass;
//! an arc runs from each operation to those that wait for it and to the next on its lane, and carries how many
//! passes it spans (0 inside a pass, 1 from the last operation of a lane to its first in the next pass, more for
//! waits into earlier passes). Every round trip through the graph that spans `s` passes and takes `d` forces the
//! pass time to be at least `d / s`; the largest such ratio is reached (max-plus theory: Baccelli, Cohen,
//! Olsder, Quadrat, *Synchronization and Linearity*, 1992, ch. 2-3).
//!
//! ```text
//! two slots, four equal blocks all streamed, copy 3, compute 2:
//!   copy 0 ─▶ copy 1 ─▶ copy 2 ─▶ copy 3 ─(next pass)─▶ copy 0      12 per pass  ◀ largest: copy-bound
//!   compute 0 ─▶ … ─▶ compute 3 ─(next pass)─▶ compute 0             8 per pass
//!   copy 2 ─▶ compute 2 ─▶ copy 0 of the next pass ─▶ … ─▶ copy 2    slot reuse
//! ```
//!
//! The steady pass is one in which every block runs; uses that passes leave out ([`Mask`](super::Mask)) count in the run.
//!
//! Where blocks take turns staying, the graph has the operations of all turns, and a pass is its share of them.
//!
//! [`super::cycle`] finds it, starting from the busiest lane. All integers.
//!
//! Where lanes slow each other down ([`Beside`]) how long an operation takes depends on what runs beside it, and neither
//! holds. There the schedule is executed event by event ([`super::execution`], as the simulator does), and a steady
//! pass is the mean of eight after eight others.

mod beside;

use super::cycle::{Graph, Ratio};
use super::execution::{Beside, Repeated};
use super::schedule::Schedule;
use super::stage::Enter;
use crate::error::Result;
use crate::lane::{Lane, OpKind};
use crate::units::Nanos;

/// The event graph of the steady passes of all turns, one after the other, and how long its busiest lane is busy in
/// them. What follows is the first turn again.
fn event_graph(schedule: &Schedule) -> (Graph, u128) {
    let ops = &schedule.ops;
    let turns = schedule.turns();
    let count = ops.len() * turns as usize;
    let mut graph = Graph::with_capacity(count, 3 * count);
    // What happens only in the first pass has no part in the steady state.
    let mut node = Vec::with_capacity(count);
    for turn in 0..turns {
        node.extend(
            ops.iter().map(|op| op.when.in_turn(turn).then(|| graph.node(op.duration.get()))),
        );
    }
    let mut busiest = 0;
    for lane in Lane::ALL {
        let on_lane = || (0..count).filter(|&n| ops[n % ops.len()].lane == lane);
        let nodes: Vec<usize> = on_lane().filter_map(|n| node[n]).collect();
        for pair in nodes.windows(2) {
            graph.arc(pair[0], pair[1], 0);
        }
        if let (Some(&first), Some(&last)) = (nodes.first(), nodes.last()) {
            graph.arc(last, first, 1);
        }
        let steady = on_lane().filter(|&n| node[n].is_some());
        busiest = busiest.max(steady.map(|n| u128::from(ops[n % ops.len()].duration.get())).sum());
    }
    for (n, to) in node.iter().enumerate() {
        let Some(to) = *to else { continue };
        let turn = u32::try_from(n / ops.len()).unwrap_or(0);
        for wait in &ops[n % ops.len()].waits {
            // Rounds of all turns back, and the turn of that round.
            let rounds = wait.passes_back.saturating_sub(turn).div_ceil(turns);
            let target = (turn + rounds * turns - wait.passes_back) as usize;
            if let Some(from) = node[target * ops.len() + wait.op] {
                graph.arc(from, to, rounds);
            }
        }
    }
    (graph, busiest)
}

/// The least time per pass with which the schedule can be repeated: the long-run mean of its execution.
pub fn steady_pass(schedule: &Schedule) -> Ratio {
    let (graph, busiest) = event_graph(schedule);
    graph.steady_from(Ratio::per_pass(busiest)).over(u128::from(schedule.turns()))
}

/// A pass that is repeated.
#[derive(Debug, Clone, Copy)]
pub struct Steady {
    /// Its time.
    pub pass: Ratio,
    /// By lane: how long it is busy in it.
    pub busy: [Nanos; Lane::ALL.len()],
}

/// The steady pass of a schedule whose lanes slow each other down so much.
pub fn steady(schedule: &Schedule, beside: Beside) -> Result<Steady> {
    if beside.changes(schedule) {
        let (pass, busy) = beside::steady(schedule, beside)?;
        return Ok(Steady { pass, busy });
    }
    let busy = |lane: Lane| {
        let own = |op: &super::op::Op| if op.lane == lane { op.duration.get() } else { 0 };
        Nanos::new(schedule.mean_per_pass(own))
    };
    Ok(Steady { pass: steady_pass(schedule), busy: Lane::ALL.map(busy) })
}

/// What stages that follow one another take, where lanes slow each other down so much. Each begins at the end of the
/// last use before it; the makespan of the last includes what ends after its last use.
pub fn executed(stages: &[Repeated], beside: Beside) -> Result<Vec<Unrolled>> {
    match stages.iter().any(|stage| beside.changes(stage.schedule)) {
        true => beside::unroll(stages, beside),
        false => Ok(unroll_stages(stages)),
    }
}

/// Times of a run of some passes from a cold start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unrolled {
    /// End of the first pass' last compute.
    pub first_pass: Nanos,
    /// End of the last pass' last operation.
    pub makespan: Nanos,
    /// Time that H2D copies run.
    pub copy_busy: Nanos,
    /// Part of it during which compute runs.
    pub overlap: Nanos,
    /// Compute idle because its next use waits for a copy.
    pub stall: Nanos,
    /// By operation: the least time from the end of a copy to the start of what it is for. The first pass counts
    /// only where there is no other.
    pub slack: Vec<Option<Nanos>>,
}

/// Runs the recurrence `start = max(end before on the lane, ends waited for)` over all passes: O(operations).
pub fn unroll(schedule: &Schedule, passes: u32) -> Unrolled {
    unroll_stages(&[Repeated { schedule, passes, enters: &[] }]).pop().unwrap_or_default()
}

/// The same over stages that follow one another.
pub fn unroll_stages(stages: &[Repeated]) -> Vec<Unrolled> {
    let mut run = Run::default();
    for stage in stages {
        run.stage(stage.schedule, stage.passes, stage.enters);
    }
    run.finish()
}

/// Ends of the operations of a stage's last passes.
struct Ends {
    passes: u32,
    /// By row of passes and operation: the pass and the end.
    rows: Vec<Vec<Option<(u32, u64)>>>,
}

impl Ends {
    /// Rows for what waits reach back to, inside the stage and from the stages after it.
    fn new(schedule: &Schedule, passes: u32) -> Self {
        let waits = schedule.ops.iter().flat_map(|op| &op.waits);
        let back = waits.map(|wait| wait.passes_back).max().unwrap_or(0).max(1);
        Self { passes, rows: vec![vec![None; schedule.ops.len()]; back as usize + 1] }
    }

    fn row(&self, pass: u32) -> usize {
        pass as usize % self.rows.len()
    }

    /// The end of an operation so many passes before the last; none where it was not part of that pass, or where
    /// that is further back than anything is kept (it ended before what is kept began).
    fn before_last(&self, op: usize, passes_back: u32) -> Option<u64> {
        self.of(op, (self.passes - 1).checked_sub(passes_back)?)
    }

    /// The end of an operation in that pass, where it is kept.
    fn of(&self, op: usize, pass: u32) -> Option<u64> {
        self.rows[self.row(pass)][op].filter(|known| known.0 == pass).map(|known| known.1)
    }

    fn set(&mut self, op: usize, pass: u32, end: u64) {
        let row = self.row(pass);
        self.rows[row][op] = Some((pass, end));
    }
}

/// A run so far.
#[derive(Default)]
struct Run {
    ends: Vec<Ends>,
    lane_end: [u64; Lane::ALL.len()],
    totals: Totals,
    done: Vec<Unrolled>,
}

impl Run {
    fn stage(&mut self, schedule: &Schedule, passes: u32, enters: &[Enter]) {
        let before = self.lane_end.into_iter().max().unwrap_or(0);
        if enters.iter().all(|enter| *enter == Enter::Everything) {
            self.lane_end.fill(before);
        }
        let start = self.lane_end[Lane::Compute.index()];
        self.totals.next_stage();
        self.ends.push(Ends::new(schedule, passes));
        let mut slack = vec![None; schedule.ops.len()];
        let mut first_pass = 0;
        for pass in 0..passes {
            self.pass(schedule, pass, (enters, before), &mut slack);
            if pass == 0 {
                first_pass = self.lane_end[Lane::Compute.index()] - start;
            }
        }
        self.done.push(Unrolled {
            first_pass: Nanos::new(first_pass),
            makespan: Nanos::new(self.lane_end[Lane::Compute.index()] - start),
            slack,
            ..Unrolled::default()
        });
    }

    fn pass(
        &mut self,
        schedule: &Schedule,
        pass: u32,
        (enters, before): (&[Enter], u64),
        slack: &mut [Option<Nanos>],
    ) {
        let ops = &schedule.ops;
        let (earlier, own) = self.ends.split_at_mut(self.done.len());
        let own = &mut own[0];
        let passes = own.passes;
        for (n, op) in ops.iter().enumerate() {
            if !op.when.includes(pass, passes) {
                continue;
            }
            let free = self.lane_end[op.lane.index()];
            let (mut start, mut by_copy) = (free, false);
            match enters.get(n).filter(|_| pass == 0) {
                Some(Enter::Everything) => start = start.max(before),
                Some(&Enter::Op { stage, op, passes_back }) => {
                    start = start.max(earlier[stage].before_last(op, passes_back).unwrap_or(0));
                }
                Some(Enter::Nothing) | None => {}
            }
            for wait in op.waits.iter().filter(|wait| wait.passes_back <= pass) {
                let end = own.of(wait.op, pass - wait.passes_back).unwrap_or(0);
                if end > start {
                    (start, by_copy) = (end, ops[wait.op].kind == OpKind::Copy);
                }
            }
            let runs = !schedule.is_left_out(op, pass);
            if op.kind == OpKind::Compute && runs && (pass > 0 || passes == 1) {
                for wait in op.waits.iter().filter(|wait| wait.passes_back <= pass) {
                    if let Some(end) = own.of(wait.op, pass - wait.passes_back) {
                        let before = Nanos::new(start.saturating_sub(end));
                        let known = slack[wait.op].get_or_insert(before);
                        *known = before.min(*known);
                    }
                }
            }
            let duration = if runs { op.duration.get() } else { 0 };
            let end = start.saturating_add(duration);
            let stalled = if by_copy { start - free } else { 0 };
            self.totals.add(self.done.len(), op.lane, (start, end, 0), stalled);
            own.set(n, pass, end);
            self.lane_end[op.lane.index()] = end;
        }
    }

    fn finish(mut self) -> Vec<Unrolled> {
        let end = self.lane_end.into_iter().max().unwrap_or(0);
        let left = end - self.lane_end[Lane::Compute.index()];
        self.totals.write(&mut self.done, left);
        self.done
    }
}

/// Sums over a stage, by whose copies and computes they are.
#[derive(Default)]
struct Sums {
    copy_busy: u64,
    overlap: u64,
    stall: u64,
}

/// Sums over a run. Operations arrive lane by lane in order of start, though not in order between lanes.
#[derive(Default)]
struct Totals {
    stages: Vec<Sums>,
    /// Compute and copy intervals that later ones may still overlap; computes with the time at their end in which they
    /// hold the link, copies with their stage.
    computes: std::collections::VecDeque<(u64, u64, u64)>,
    copies: std::collections::VecDeque<(u64, u64, usize)>,
}

/// Computes remembered at most where no copy has met them: a component that copies nothing may run for long.
const REMEMBERED: usize = 1 << 16;

impl Totals {
    fn next_stage(&mut self) {
        self.stages.push(Sums::default());
    }

    /// An operation has ended; so much at its end held the link.
    fn add(&mut self, stage: usize, lane: Lane, at: (u64, u64, u64), stalled: u64) {
        let (start, end, held) = at;
        match lane {
            Lane::Compute => {
                self.stages[stage].stall += stalled;
                self.computes.push_back((start, end, held));
            }
            Lane::H2d => {
                self.stages[stage].copy_busy += end - start;
                self.copies.push_back((start, end, stage));
            }
            Lane::D2h | Lane::Disk | Lane::Host => return,
        }
        self.settle();
        if self.copies.is_empty() && self.computes.len() > REMEMBERED {
            self.computes.pop_front();
        }
    }

    /// Adds the sums to what is known of stages; so much is left to run after the last use of all.
    fn write(&self, stages: &mut [Unrolled], left: u64) {
        if let Some(last) = stages.last_mut() {
            last.makespan = last.makespan.saturating_add(Nanos::new(left));
        }
        for (stage, sums) in stages.iter_mut().zip(&self.stages) {
            stage.copy_busy = Nanos::new(sums.copy_busy);
            stage.overlap = Nanos::new(sums.overlap);
            stage.stall = Nanos::new(sums.stall);
        }
    }

    /// Meets the oldest compute with the oldest copy; the one that ends first meets nothing more.
    fn settle(&mut self) {
        while let (Some(&compute), Some(&copy)) = (self.computes.front(), self.copies.front()) {
            // A copy that pauses neither runs nor is hidden.
            let (start, end, held) = compute;
            let common = |from: u64, to: u64| to.min(copy.1).saturating_sub(from.max(copy.0));
            let sums = &mut self.stages[copy.2];
            sums.overlap += common(start, end - held);
            sums.copy_busy -= common(end - held, end);
            if compute.1 <= copy.1 {
                self.computes.pop_front();
            } else {
                self.copies.pop_front();
            }
        }
    }
}
