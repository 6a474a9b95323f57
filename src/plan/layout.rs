//! Turns a choice of what streams into a component's plan: offsets in the slab, slots, waits, and what it predicts.
//!
//! ```text
//! slab   [ root ][ resident ][ resident ] … [ slot 0 ][ slot 1 ][ slot 2 ]
//!          0       in order of execution      window: streamed block k takes slot k mod slots, counted over all
//!                                             passes, once the use that had it before has ended
//! ```

use super::bound;
use super::instance::{BlockPart, Instance};
use super::planner::{self, Choice};
use super::schedule::Schedule;
use super::spec::{
    BlockPlan, ComponentPlan, Part, Piece, ROOT, Residency, Slab, Stream, UseRef, Window,
};
use super::timing;
use crate::device::DeviceSpec;
use crate::error::{Error, Infeasible, Result};
use crate::figures::{Bound, Prediction};
use crate::units::{Bytes, Fraction, Nanos};

/// A component to be planned.
#[derive(Debug, Clone)]
pub struct ComponentInput {
    /// Its name.
    pub name: String,
    /// Bytes outside its block lists, which always stay.
    pub root: Bytes,
    /// The tensors outside its block lists.
    pub root_parts: Vec<BlockPart>,
    /// Its blocks, and what they may hold.
    pub instance: Instance,
    /// Passes over it.
    pub passes: u32,
    /// VRAM that is not for weights; part of the peak.
    pub reserve: Bytes,
}

impl ComponentInput {
    /// The plan that the planner finds best; infeasible when not even one slot fits.
    pub fn plan(&self) -> Result<ComponentPlan> {
        let build = |choice: &Choice| Schedule::of(&lay_out(self, "hybrid", choice), self.device());
        let Some(choice) = planner::choose(&self.instance, &build)? else {
            return Err(Error::Infeasible(self.infeasible()));
        };
        self.planned(if choice.slots == 0 { "resident" } else { "hybrid" }, &choice)
    }

    /// The plan that a given choice makes, with its prediction and bound.
    pub fn planned(&self, policy: &str, choice: &Choice) -> Result<ComponentPlan> {
        let mut plan = lay_out(self, policy, choice);
        plan.prediction = predict(&plan, self.device(), self.reserve)?;
        plan.bound = bound_of(&self.instance, plan.prediction.pass);
        Ok(plan)
    }

    fn device(&self) -> &DeviceSpec {
        &self.instance.device
    }

    fn infeasible(&self) -> Infeasible {
        let root = self.root.align_up(self.device().alignment);
        let uses = 0..self.instance.uses.len();
        let block = uses.map(|n| self.instance.aligned(n)).max().unwrap_or_default();
        let needed = root.saturating_add(block);
        let available = self.instance.budget.saturating_add(root);
        Infeasible {
            needed,
            available,
            shortfall: needed.saturating_sub(available),
            smallest_budget: needed.saturating_add(self.reserve),
            because: self.name.clone(),
        }
    }
}

/// Plans an instance alone: no root, no reserve, 20 passes. For examples and tests.
pub fn plan_instance(instance: &Instance) -> Result<ComponentPlan> {
    let input = ComponentInput {
        name: "model".to_owned(),
        root: Bytes::ZERO,
        root_parts: Vec::new(),
        instance: instance.clone(),
        passes: 20,
        reserve: Bytes::ZERO,
    };
    input.plan()
}

/// Gives every piece its place and every copy its wait. Prediction and bound are left zero.
pub fn lay_out(input: &ComponentInput, policy: &str, choice: &Choice) -> ComponentPlan {
    let instance = &input.instance;
    let mut blocks = Vec::with_capacity(instance.uses.len() + 1);
    let mut next = input.root.align_up(instance.device.alignment);
    let computes = instance.uses.first().filter(|first| first.block == ROOT);
    if computes.is_some() || !input.root.is_zero() {
        let compute = computes.map_or(Nanos::ZERO, |root| root.compute);
        blocks.push(block(ROOT, input.root, compute, vec![0], Residency::Resident));
    }
    let first = usize::from(computes.is_some());
    for n in (first..instance.uses.len()).filter(|&n| !choice.streams[n]) {
        next = next.saturating_add(instance.aligned(n));
    }
    let (resident, mut at) = (next, input.root.align_up(instance.device.alignment));
    let window = Window {
        bytes: choice.slot_bytes(instance).saturating_mul(u64::from(choice.slots)),
        slots: choice.slots,
    };
    let ring = Ring::new(instance, choice, resident);
    for (n, used) in instance.uses.iter().enumerate().skip(first) {
        let (offsets, residency) = match ring.rank(n) {
            Some(rank) => (ring.offsets(rank), Residency::Streamed(ring.stream(instance, rank))),
            None => (vec![at.get()], Residency::Resident),
        };
        if residency == Residency::Resident {
            at = at.saturating_add(instance.aligned(n));
        }
        blocks.push(block(&used.block, used.bytes, used.compute, offsets, residency));
    }
    ComponentPlan {
        name: input.name.clone(),
        policy: policy.to_owned(),
        passes: input.passes,
        prefetch: ring.prefetch(instance),
        slab: Slab { bytes: resident.saturating_add(window.bytes), resident, window: window.bytes },
        window,
        prediction: Prediction::default(),
        bound: Bound::default(),
        host_syncs: Vec::new(),
        blocks,
    }
}

fn block(id: &str, bytes: Bytes, compute: Nanos, at: Vec<u64>, residency: Residency) -> BlockPlan {
    let piece = Piece { part: Part::All, bytes, at, residency };
    BlockPlan { block: id.to_owned(), bytes, compute, pieces: vec![piece] }
}

/// The window as equal slots used in turn.
struct Ring {
    /// Uses that stream, in order.
    streamed: Vec<usize>,
    slots: usize,
    slot_bytes: u64,
    base: u64,
}

impl Ring {
    fn new(instance: &Instance, choice: &Choice, base: Bytes) -> Self {
        Self {
            streamed: (0..choice.streams.len()).filter(|&n| choice.streams[n]).collect(),
            slots: choice.slots as usize,
            slot_bytes: choice.slot_bytes(instance).get(),
            base: base.get(),
        }
    }

    /// The position of a use among those that stream.
    fn rank(&self, n: usize) -> Option<usize> {
        self.streamed.binary_search(&n).ok()
    }

    /// The slots that a streamed block takes, pass after pass, until they repeat.
    fn offsets(&self, rank: usize) -> Vec<u64> {
        let count = self.streamed.len();
        let repeat = self.slots / gcd(count, self.slots);
        let slot = |pass: usize| (pass * count + rank) % self.slots;
        (0..repeat).map(|pass| self.base + slot(pass) as u64 * self.slot_bytes).collect()
    }

    /// The use that has the same slot before: `slots` streamed blocks earlier, maybe in the previous pass.
    fn before(&self, rank: usize) -> (usize, u32) {
        match rank.checked_sub(self.slots) {
            Some(before) => (self.streamed[before], 0),
            None => (self.streamed[rank + self.streamed.len() - self.slots], 1),
        }
    }

    fn stream(&self, instance: &Instance, rank: usize) -> Stream {
        let (before, passes_back) = self.before(rank);
        let block = instance.uses[before].block.clone();
        Stream { issue_after: Some(UseRef { block, passes_back }), ..Stream::default() }
    }

    /// The most uses that lie between the one that frees a slot and the one that needs it.
    fn prefetch(&self, instance: &Instance) -> u32 {
        let uses = instance.uses.len();
        let ahead = (0..self.streamed.len()).map(|rank| {
            let (before, back) = self.before(rank);
            (self.streamed[rank] + uses * back as usize).saturating_sub(before + 1)
        });
        u32::try_from(ahead.max().unwrap_or(0)).unwrap_or(u32::MAX)
    }
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// How often the slowdown by contention is fed back into the times that cause it.
const CONTENTION_ROUNDS: u32 = 8;

/// What executing the plan will cost. Exact for the model of [`timing`]; with contention the slowdown is spread
/// evenly over all uses, which is an approximation.
pub fn predict(plan: &ComponentPlan, device: &DeviceSpec, reserve: Bytes) -> Result<Prediction> {
    let mut schedule = Schedule::of(plan, device)?;
    let mut unrolled = timing::unroll(&schedule, plan.passes);
    let compute: Nanos = plan.blocks.iter().map(|block| block.compute).sum();
    let busy = compute.saturating_mul(u64::from(plan.passes));
    if device.contention > Fraction::ZERO {
        for _ in 0..CONTENTION_ROUNDS {
            schedule = slowed(plan, device, &unrolled, busy)?;
            unrolled = timing::unroll(&schedule, plan.passes);
        }
    }
    Ok(Prediction {
        pass: timing::steady_pass(&schedule).ceil(),
        first_pass: unrolled.first_pass,
        makespan: unrolled.makespan,
        overlap: Fraction::of(unrolled.overlap.get(), unrolled.copy_busy.get()),
        stall: unrolled.stall,
        bytes_per_pass: schedule.bytes_per_pass(),
        peak: plan.slab.bytes.saturating_add(reserve),
    })
}

/// The schedule with every compute longer by what copies take from it: `overlap · contention / (1 + contention)`
/// of the overlapped time is slowdown.
fn slowed(
    plan: &ComponentPlan,
    device: &DeviceSpec,
    unrolled: &timing::Unrolled,
    busy: Nanos,
) -> Result<Schedule> {
    let whole = Fraction::WHOLE.ppm();
    let contention = device.contention.ppm();
    let slowdown = Fraction::of(contention, whole.saturating_add(contention));
    let share = Fraction::of(slowdown.share_of(unrolled.overlap.get()), busy.get());
    let mut slower = plan.clone();
    for block in &mut slower.blocks {
        let extra = share.share_of(block.compute.get());
        block.compute = block.compute.saturating_add(Nanos::new(extra));
    }
    Schedule::of(&slower, device)
}

/// The instance's bounds, and the distance of a pass time to what no schedule can beat.
fn bound_of(instance: &Instance, pass: Nanos) -> Bound {
    let bounds = bound::bound(instance);
    let above = pass.saturating_sub(bounds.any_schedule);
    let binding = if bounds.any_schedule > bounds.compute { "copy" } else { "compute" };
    Bound {
        compute: bounds.compute,
        copy: bounds.copy,
        granularity: bounds.granularity,
        any_schedule: bounds.any_schedule,
        gap: Fraction::of(above.get(), bounds.any_schedule.get()),
        binding: binding.to_owned(),
    }
}
