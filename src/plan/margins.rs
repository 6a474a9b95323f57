//! Turns a plan's schedule into what binds it and how far it is from being otherwise: the slack of its copies, the
//! budget from which offloading costs nothing, what the next GiB buys.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::layout::ComponentInput;
use super::op::Op;
use super::schedule::Schedule;
use super::spec::{ComponentPlan, Granularity, Piece, Residency};
use super::timing::Steady;
use crate::device::DeviceSpec;
use crate::error::Result;
use crate::lane::{Lane, OpKind};
use crate::units::{Bytes, Fraction, Nanos};

/// What sets the time of a steady pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Binding {
    /// Compute runs without a gap.
    Compute,
    /// The link runs without a gap, most of that time at its rate.
    Copy,
    /// The link runs without a gap, most of that time in the latency of copies.
    Latency,
    /// The disk runs without a gap: what neither VRAM nor the host holds is read in every pass.
    Disk,
    /// Neither does: copies wait for memory, and computes for copies.
    Memory,
    /// Neither does: the host waits for both.
    Host,
}

/// What binds a plan, and how far it is from being otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Margins {
    /// What sets the time of a steady pass.
    pub binding: Binding,
    /// The least time from the arrival of a copy to its use, over all passes but the first: what the copy may be
    /// late without any stall. None where nothing streams.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slack: Option<Nanos>,
    /// The VRAM from which on a pass takes no longer than its compute, to within a thousandth and 64 MiB.
    /// None where it was not looked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zero_slowdown: Option<Bytes>,
    /// How much shorter a pass is with one GiB more. None where it was not looked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_gib: Option<Nanos>,
}

/// A time that differs from another by no more than this does not differ: a thousandth, below what any estimate of
/// a block's compute can tell apart.
pub const SAME: Fraction = Fraction::from_ppm(1_000);

/// Whether a time is at most another, to within [`SAME`].
pub fn reaches(time: Nanos, goal: Nanos) -> bool {
    time.get() <= goal.get().saturating_add(SAME.share_of(goal.get()))
}

/// Above so many uses further budgets are not planned: they would take longer than the plan itself.
const MANY_USES: usize = 300;

/// Budgets are told apart to this.
const STEP: u64 = 64 << 20;

/// What sets a pass that is repeated.
pub(super) fn binding(schedule: &Schedule, device: &DeviceSpec, steady: &Steady) -> Binding {
    let pass = steady.pass.ceil();
    let busy = |lane: Lane| steady.busy[lane.index()];
    if reaches(pass, busy(Lane::Compute)) {
        return Binding::Compute;
    }
    let copies = Nanos::new(schedule.mean_per_pass(|op| match op.lane {
        Lane::H2d => op.duration.get(),
        _ => 0,
    }));
    // What collectives hold of the link, copies do not have.
    let held = Nanos::new(schedule.mean_per_pass(|op| op.on_link.get()));
    if reaches(pass, busy(Lane::H2d).saturating_add(held)) {
        let moving = |op: &Op| match op.kind {
            OpKind::Copy => device.h2d.rate.time_for(op.bytes).get(),
            _ => 0,
        };
        let moving = Nanos::new(schedule.mean_per_pass(moving));
        let waiting = copies.saturating_sub(moving);
        return if waiting > moving { Binding::Latency } else { Binding::Copy };
    }
    if reaches(pass, busy(Lane::Disk)) {
        return Binding::Disk;
    }
    let host = schedule.ops.iter().any(|op| op.lane == Lane::Host);
    if host { Binding::Host } else { Binding::Memory }
}

/// Writes to each streamed piece how long before its use it arrives; gives the least.
pub(super) fn set_slack(
    plan: &mut ComponentPlan,
    schedule: &Schedule,
    slack: &[Option<Nanos>],
) -> Option<Nanos> {
    fn stream(piece: &mut Piece) -> Option<&mut Option<Nanos>> {
        match &mut piece.residency {
            Residency::Streamed(stream) => Some(&mut stream.slack),
            Residency::Resident => None,
        }
    }
    let pieces = plan.blocks.iter_mut().flat_map(|block| &mut block.pieces);
    pieces.filter_map(stream).for_each(|slack| *slack = None);
    for (op, slack) in schedule.ops.iter().zip(slack) {
        let piece = op.piece.and_then(|piece| plan.blocks.get_mut(op.block)?.pieces.get_mut(piece));
        if let Some(known) = piece.and_then(stream).filter(|_| op.kind == OpKind::Copy) {
            *known = known.iter().chain(slack).min().copied();
        }
    }
    slack.iter().flatten().min().copied()
}

impl ComponentInput {
    /// Plans other budgets and adds what they tell to a plan of this one. Leaves plans of very many uses alone.
    pub fn with_margins(
        &self,
        mut plan: ComponentPlan,
        granularity: Granularity,
    ) -> Result<ComponentPlan> {
        // Over several tiers a plan takes many times as long to find, and the next GiB could go to either.
        let tiered = plan.host.is_some_and(|host| !host.ring.is_zero());
        if self.instance.uses.len() > MANY_USES || tiered {
            return Ok(plan);
        }
        let compute = plan.bound.compute;
        let under = |budget: Bytes| -> Result<Nanos> {
            let mut input = self.clone();
            input.instance.budget = budget;
            Ok(input.plan(granularity)?.prediction.pass)
        };
        let own = plan.prediction.pass;
        let more = self.instance.budget.saturating_add(Bytes::new(1 << 30));
        let next = if reaches(own, compute) { own } else { under(more)? };
        // The least multiple of the step under which a pass is its compute; with everything resident it is.
        let all: Bytes = (0..self.instance.uses.len()).map(|n| self.instance.aligned(n)).sum();
        let mut low = self.instance.smallest().get().div_ceil(STEP);
        let mut high = all.get().div_ceil(STEP);
        while low < high {
            let middle = u64::midpoint(low, high);
            let free = reaches(under(Bytes::new(middle * STEP))?, compute);
            if free { high = middle } else { low = middle + 1 }
        }
        let beside =
            self.weights().saturating_sub(self.instance.budget).saturating_add(self.reserve);
        if let Some(margins) = &mut plan.margins {
            margins.next_gib = Some(own.saturating_sub(next));
            margins.zero_slowdown = Some(beside.saturating_add(Bytes::new(low * STEP)));
        }
        Ok(plan)
    }
}
