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
//! Newton's method finds it: start from the busiest lane, look for a cycle that the guess does not cover, take
//! its ratio as the next guess. All integers; a handful of rounds in practice.

use std::cmp::Ordering;

use super::schedule::{Schedule, When};
use crate::lane::{Lane, OpKind};
use crate::units::Nanos;

/// A time per pass as an exact ratio: `nanos` in `passes`.
#[derive(Debug, Clone, Copy)]
pub struct Ratio {
    nanos: u128,
    passes: u128,
}

impl Ratio {
    /// Rounded up to whole nanoseconds, saturating.
    pub fn ceil(self) -> Nanos {
        Nanos::new(u64::try_from(self.nanos.div_ceil(self.passes)).unwrap_or(u64::MAX))
    }
}

impl PartialEq for Ratio {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Ratio {}

impl PartialOrd for Ratio {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Ratio {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.nanos * other.passes).cmp(&(other.nanos * self.passes))
    }
}

/// The event graph of one steady pass, in order of issue.
struct EventGraph {
    duration: Vec<u64>,
    /// Arcs into each node: from which node, over how many passes.
    into: Vec<Vec<(usize, u32)>>,
}

impl EventGraph {
    fn of(schedule: &Schedule) -> Self {
        let ops = &schedule.ops;
        // What happens only in the first pass has no part in the steady state.
        let steady: Vec<usize> = (0..ops.len()).filter(|&n| ops[n].when != When::First).collect();
        let mut node = vec![None; ops.len()];
        for (n, &op) in steady.iter().enumerate() {
            node[op] = Some(n);
        }
        let mut into = vec![Vec::new(); steady.len()];
        for lane in Lane::ALL {
            let on_lane: Vec<usize> =
                (0..steady.len()).filter(|&n| ops[steady[n]].lane == lane).collect();
            for (position, &n) in on_lane.iter().enumerate() {
                match position.checked_sub(1) {
                    Some(before) => into[n].push((on_lane[before], 0)),
                    None => into[n].push((on_lane[on_lane.len() - 1], 1)),
                }
            }
        }
        for (n, &op) in steady.iter().enumerate() {
            for wait in &ops[op].waits {
                if let Some(from) = node[wait.op] {
                    into[n].push((from, wait.passes_back));
                }
            }
        }
        let duration = steady.iter().map(|&op| ops[op].duration.get()).collect();
        Self { duration, into }
    }

    /// Longest paths under a guess; the ratio of a cycle that beats it, if there is one.
    fn better_than(&self, guess: Ratio) -> Option<Ratio> {
        let count = self.duration.len();
        let signed = |value: u128| i128::try_from(value).unwrap_or(i128::MAX);
        let (nanos, passes) = (signed(guess.nanos), signed(guess.passes));
        let mut reach = vec![0i128; count];
        let mut via = vec![usize::MAX; count];
        loop {
            let mut changed = false;
            for n in 0..count {
                let own = i128::from(self.duration[n]) * passes;
                for (arc, &(from, span)) in self.into[n].iter().enumerate() {
                    let along = reach[from] + own - i128::from(span) * nanos;
                    if along > reach[n] {
                        reach[n] = along;
                        via[n] = arc;
                        changed = true;
                    }
                }
            }
            if !changed {
                return None;
            }
            if let Some(ratio) = self.cycle_along(&via).filter(|&ratio| ratio > guess) {
                return Some(ratio);
            }
        }
    }

    /// The largest ratio among the cycles that the chosen arcs close.
    fn cycle_along(&self, via: &[usize]) -> Option<Ratio> {
        let count = self.duration.len();
        let mut seen = vec![usize::MAX; count];
        let mut best: Option<Ratio> = None;
        for start in 0..count {
            let mut n = start;
            while seen[n] == usize::MAX && via[n] != usize::MAX {
                seen[n] = start;
                n = self.into[n][via[n]].0;
            }
            if seen[n] != start || via[n] == usize::MAX {
                continue;
            }
            let (mut nanos, mut passes, entry) = (0u128, 0u128, n);
            loop {
                let (from, span) = self.into[n][via[n]];
                nanos += u128::from(self.duration[n]);
                passes += u128::from(span);
                n = from;
                if n == entry {
                    break;
                }
            }
            if passes > 0 {
                best = best.max(Some(Ratio { nanos, passes }));
            }
        }
        best
    }
}

/// The least time per pass with which the schedule can be repeated: the long-run mean of its execution.
pub fn steady_pass(schedule: &Schedule) -> Ratio {
    let graph = EventGraph::of(schedule);
    let busy = |lane: Lane| {
        let on_lane = schedule.ops.iter().filter(|op| op.lane == lane && op.when != When::First);
        on_lane.map(|op| u128::from(op.duration.get())).sum::<u128>()
    };
    let nanos = Lane::ALL.into_iter().map(busy).max().unwrap_or(0);
    let mut ratio = Ratio { nanos, passes: 1 };
    while let Some(better) = graph.better_than(ratio) {
        ratio = better;
    }
    ratio
}

/// Times of a run of some passes from a cold start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
}

/// Runs the recurrence `start = max(end before on the lane, ends waited for)` over all passes: O(operations).
pub fn unroll(schedule: &Schedule, passes: u32) -> Unrolled {
    let ops = &schedule.ops;
    let back = ops.iter().flat_map(|op| &op.waits).map(|wait| wait.passes_back).max().unwrap_or(0);
    let depth = back as usize + 1;
    let mut ends: Vec<Vec<Option<u64>>> = vec![vec![None; ops.len()]; depth];
    let mut lane_end = [0u64; Lane::ALL.len()];
    let mut totals = Totals::default();
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
            let end = start.saturating_add(op.duration.get());
            totals.add(op.lane, start, end, if by_copy { start - free } else { 0 });
            ends[row][n] = Some(end);
            lane_end[op.lane.index()] = end;
        }
        if pass == 0 {
            totals.first_pass = lane_end[Lane::Compute.index()];
        }
    }
    totals.finish(lane_end.into_iter().max().unwrap_or(0))
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

    fn finish(self, makespan: u64) -> Unrolled {
        Unrolled {
            first_pass: Nanos::new(self.first_pass),
            makespan: Nanos::new(makespan),
            copy_busy: Nanos::new(self.copy_busy),
            overlap: Nanos::new(self.overlap),
            stall: Nanos::new(self.stall),
        }
    }
}
