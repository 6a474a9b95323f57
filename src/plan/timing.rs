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
//! Where blocks take turns staying, the graph has the operations of all turns, and a pass is its share of them.
//!
//! [`super::cycle`] finds it, starting from the busiest lane. All integers.

use super::cycle::{Graph, Ratio};
use super::op::When;
use super::schedule::Schedule;
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

/// Times of a run of some passes from a cold start.
#[derive(Debug, Clone, PartialEq, Eq)]
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
    let ops = &schedule.ops;
    let back = ops.iter().flat_map(|op| &op.waits).map(|wait| wait.passes_back).max().unwrap_or(0);
    let depth = back as usize + 1;
    let mut ends: Vec<Vec<Option<u64>>> = vec![vec![None; ops.len()]; depth];
    let mut lane_end = [0u64; Lane::ALL.len()];
    let mut totals = Totals::default();
    let mut slack: Vec<Option<Nanos>> = vec![None; ops.len()];
    // Where no pass but the first copies anything, nothing later overlaps what has computed.
    let copies_go_on = ops.iter().any(|op| op.lane == Lane::H2d && op.when != When::First);
    for pass in 0..passes {
        let row = pass as usize % depth;
        ends[row].fill(None);
        for (n, op) in ops.iter().enumerate() {
            if !op.when.includes(pass, passes) {
                continue;
            }
            let free = lane_end[op.lane.index()];
            let (mut start, mut by_copy) = (free, false);
            for wait in op.waits.iter().filter(|wait| wait.passes_back <= pass) {
                let row = (pass - wait.passes_back) as usize % depth;
                let end = ends[row][wait.op].unwrap_or(0);
                if end > start {
                    (start, by_copy) = (end, ops[wait.op].kind == OpKind::Copy);
                }
            }
            if op.kind == OpKind::Compute && (pass > 0 || passes == 1) {
                for wait in op.waits.iter().filter(|wait| wait.passes_back <= pass) {
                    let row = (pass - wait.passes_back) as usize % depth;
                    if let Some(end) = ends[row][wait.op] {
                        let before = Nanos::new(start.saturating_sub(end));
                        let known = slack[wait.op].get_or_insert(before);
                        *known = before.min(*known);
                    }
                }
            }
            let end = start.saturating_add(op.duration.get());
            totals.add(op.lane, start, end, if by_copy { start - free } else { 0 });
            ends[row][n] = Some(end);
            lane_end[op.lane.index()] = end;
        }
        if pass == 0 {
            totals.first_pass = lane_end[Lane::Compute.index()];
        }
        if !copies_go_on {
            totals.computes.clear();
        }
    }
    totals.finish(lane_end.into_iter().max().unwrap_or(0), slack)
}

/// Sums over a run. Operations arrive lane by lane in order of start, though not in order between lanes.
#[derive(Default)]
struct Totals {
    first_pass: u64,
    copy_busy: u64,
    overlap: u64,
    stall: u64,
    /// Compute and copy intervals that later ones may still overlap.
    computes: std::collections::VecDeque<(u64, u64)>,
    copies: std::collections::VecDeque<(u64, u64)>,
}

impl Totals {
    fn add(&mut self, lane: Lane, start: u64, end: u64, stalled: u64) {
        match lane {
            Lane::Compute => {
                self.stall += stalled;
                self.computes.push_back((start, end));
            }
            Lane::H2d => {
                self.copy_busy += end - start;
                self.copies.push_back((start, end));
            }
            Lane::D2h | Lane::Disk | Lane::Host => return,
        }
        self.settle();
    }

    /// Meets the oldest compute with the oldest copy; the one that ends first meets nothing more.
    fn settle(&mut self) {
        while let (Some(&compute), Some(&copy)) = (self.computes.front(), self.copies.front()) {
            let common = compute.1.min(copy.1).saturating_sub(compute.0.max(copy.0));
            self.overlap += common;
            if compute.1 <= copy.1 {
                self.computes.pop_front();
            } else {
                self.copies.pop_front();
            }
        }
    }

    fn finish(self, makespan: u64, slack: Vec<Option<Nanos>>) -> Unrolled {
        Unrolled {
            first_pass: Nanos::new(self.first_pass),
            makespan: Nanos::new(makespan),
            copy_busy: Nanos::new(self.copy_busy),
            overlap: Nanos::new(self.overlap),
            stall: Nanos::new(self.stall),
            slack,
        }
    }
}
