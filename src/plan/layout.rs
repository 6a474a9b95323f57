//! Turns a choice of what streams into a component's plan: offsets in the slab, slots, waits, and what it predicts.
//!
//! ```text
//! slab   [ root ][ resident ][ resident ] … [ window, see `placement` ]
//!          0       in order of execution
//! ```

use super::bound::{self, Bounds};
use super::choice::Evaluated;
use super::instance::{BlockPart, Instance, Run, Use};
use super::margins::{self, Margins};
use super::placement::Placed;
use super::planner;
use super::schedule::Schedule;
use super::spec::{
    BlockPlan, ComponentPlan, Granularity, Part, Piece, ROOT, Residency, Slab, Stream, UseRef,
    Window,
};
use super::tiers::HostBudget;
use super::timing;
use super::unit::Unit;
use crate::device::DeviceSpec;
use crate::error::{Error, Infeasible, Memory, Result};
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
    /// Its uses, and what they may hold.
    pub instance: Instance,
    /// What its uses are.
    pub unit: Unit,
    /// Passes over it.
    pub passes: u32,
    /// VRAM that is not for weights; part of the peak.
    pub reserve: Bytes,
    /// Host memory for its weights; none for as much as it takes.
    pub host: Option<HostBudget>,
}

impl ComponentInput {
    /// The plan that the planner finds best; infeasible when not even one block fits, or the host is too small.
    pub fn plan(&self, granularity: Granularity) -> Result<ComponentPlan> {
        match &self.host {
            Some(host) => self.plan_on(granularity, host),
            None => self.plan_in_vram(granularity),
        }
    }

    /// The same with the host holding everything.
    pub(super) fn plan_in_vram(&self, granularity: Granularity) -> Result<ComponentPlan> {
        let build =
            |found: &Evaluated| Schedule::of(&lay_out(self, "hybrid", found), self.device());
        let found = planner::choose(&self.instance, granularity, self.passes, &build)?;
        let found = found
            .ok_or_else(|| Error::Infeasible(self.infeasible(self.smallest(), self.weights())))?;
        let everything = found.streamed.is_zero();
        self.planned(if everything { "resident" } else { "hybrid" }, &found)
    }

    /// The plan that a given choice makes, with its prediction and bound.
    pub fn planned(&self, policy: &str, found: &Evaluated) -> Result<ComponentPlan> {
        let mut plan = lay_out(self, policy, found);
        plan.foresee(self.device(), self.reserve)?;
        plan.bound = self.bounds().against(plan.prediction.pass);
        Ok(plan)
    }

    /// What no plan of its units can beat, in VRAM and on the host.
    pub fn bounds(&self) -> Bounds {
        let tier = self.host.as_ref().and_then(|host| host.tier(self.device()));
        bound::bound_on(&self.instance, tier)
    }

    /// Whether nothing needs to stream.
    pub fn everything_fits(&self) -> bool {
        let uses = 0..self.instance.uses.len();
        let all: Bytes = uses.map(|n| self.instance.aligned(n)).sum();
        all <= self.instance.budget
    }

    /// An instance alone: no root, no reserve, 20 passes.
    pub(super) fn alone(instance: &Instance) -> Self {
        Self {
            name: "model".to_owned(),
            root: Bytes::ZERO,
            root_parts: Vec::new(),
            instance: instance.clone(),
            unit: Unit::Block,
            passes: 20,
            reserve: Bytes::ZERO,
            host: None,
        }
    }

    fn device(&self) -> &DeviceSpec {
        &self.instance.device
    }

    /// Bytes that the slab may have: those for the uses, and the root's.
    pub fn weights(&self) -> Bytes {
        self.instance.budget.saturating_add(self.root.align_up(self.device().alignment))
    }

    /// The least that its slab needs.
    pub fn smallest(&self) -> Bytes {
        self.root.align_up(self.device().alignment).saturating_add(self.instance.smallest())
    }

    /// What to answer when a slab of so many bytes is needed, and fewer are there.
    pub fn infeasible(&self, needed: Bytes, available: Bytes) -> Infeasible {
        Infeasible {
            needed,
            available,
            shortfall: needed.saturating_sub(available),
            smallest_budget: needed.saturating_add(self.reserve),
            because: self.name.clone(),
            memory: Memory::Vram,
        }
    }
}

/// Plans an instance alone: no root, no reserve, 20 passes. For examples and tests.
pub fn plan_instance(instance: &Instance, granularity: Granularity) -> Result<ComponentPlan> {
    ComponentInput::alone(instance).plan(granularity)
}

/// Gives every piece its place and every copy its wait. Prediction and bound are left zero.
pub fn lay_out(input: &ComponentInput, policy: &str, found: &Evaluated) -> ComponentPlan {
    let instance = &input.instance;
    let alignment = instance.device.alignment;
    let choice = &found.choice;
    let mut blocks = Vec::with_capacity(instance.uses.len() + 1);
    // With leaf units the root's are uses like others.
    let computes = instance.uses.first().filter(|u| u.block == ROOT && u.bytes.is_zero());
    if computes.is_some() || !input.root.is_zero() {
        let compute = computes.map_or(Nanos::ZERO, |root| root.compute);
        let piece = Piece {
            part: Part::All,
            bytes: input.root,
            at: vec![0],
            residency: Residency::Resident,
            staged: None,
        };
        blocks.push(BlockPlan {
            block: ROOT.to_owned(),
            bytes: input.root,
            compute,
            pieces: vec![piece],
        });
    }
    let first = usize::from(computes.is_some());
    let root = input.root.align_up(alignment);
    let stays: Bytes = (first..instance.uses.len()).map(|n| choice.resident(instance, n)).sum();
    let resident = root.saturating_add(stays);
    let (mut at, mut placed) = (root, found.places.placed.iter());
    for n in first..instance.uses.len() {
        let used = &instance.uses[n];
        let mut pieces = Vec::new();
        pieces.extend(resident_piece(used, &choice.copies[n], at));
        at = at.saturating_add(choice.resident(instance, n));
        for (&run, placed) in choice.copies[n].iter().zip(&mut placed) {
            pieces.push(streamed_piece(instance, used, run, placed, resident));
        }
        let block = used.block.clone();
        blocks.push(BlockPlan { block, bytes: used.bytes, compute: used.compute, pieces });
    }
    let window = Bytes::new(found.places.window);
    ComponentPlan {
        name: input.name.clone(),
        policy: policy.to_owned(),
        unit: input.unit,
        passes: input.passes,
        prefetch: prefetch(instance, found),
        slab: Slab { bytes: resident.saturating_add(window), resident, window },
        window: Window { bytes: window, slots: slots(instance, found) },
        prediction: Prediction::default(),
        margins: None,
        host: None,
        bound: Bound::default(),
        host_syncs: Vec::new(),
        blocks,
    }
}

/// What of a block does not stream.
fn resident_piece(used: &Use, copies: &[Run], at: Bytes) -> Option<Piece> {
    let streamed: Bytes = copies.iter().map(|run| run.bytes()).sum();
    let bytes = used.bytes.saturating_sub(streamed);
    if !copies.is_empty() && bytes.is_zero() {
        return None;
    }
    let part = if copies.is_empty() { Part::All } else { Part::Rest };
    let residency = Residency::Resident;
    Some(Piece { part, bytes, at: vec![at.get()], residency, staged: None })
}

fn streamed_piece(
    instance: &Instance,
    used: &Use,
    run: Run,
    placed: &Placed,
    window: Bytes,
) -> Piece {
    let part = match run.bytes() == used.bytes {
        true => Part::All,
        false => Part::Tensors(used.slices(run)),
    };
    let issue_after = placed.after.map(|(user, passes_back)| UseRef {
        block: instance.uses[user].block.clone(),
        passes_back,
    });
    let stream = Stream { issue_after, ..Stream::default() };
    Piece {
        part,
        bytes: run.bytes(),
        at: placed.at.iter().map(|at| window.get() + at).collect(),
        residency: Residency::Streamed(stream),
        staged: None,
    }
}

/// The window in slots, where every streamed piece is a whole block of the same size; else 0.
fn slots(instance: &Instance, found: &Evaluated) -> u32 {
    let pieces = found.choice.pieces(instance);
    let Some(first) = pieces.first() else { return 0 };
    let runs = || {
        found
            .choice
            .copies
            .iter()
            .enumerate()
            .flat_map(|(n, runs)| runs.iter().map(move |run| (n, run)))
    };
    let whole = runs().all(|(n, run)| run.bytes() == instance.uses[n].bytes);
    if !whole || pieces.iter().any(|piece| piece.bytes != first.bytes) {
        return 0;
    }
    u32::try_from(found.places.window / first.bytes.max(1)).unwrap_or(u32::MAX)
}

/// The most uses that lie between the one that frees a piece's place and the one that needs it.
fn prefetch(instance: &Instance, found: &Evaluated) -> u32 {
    let uses = instance.uses.len();
    let pieces = found.choice.pieces(instance);
    let ahead = pieces.iter().zip(&found.places.placed).map(|(piece, placed)| match placed.after {
        Some((user, back)) => (piece.user + uses * back as usize).saturating_sub(user + 1),
        None => uses.saturating_sub(1),
    });
    u32::try_from(ahead.max().unwrap_or(0)).unwrap_or(u32::MAX)
}

/// How often the slowdown by contention is fed back into the times that cause it.
const CONTENTION_ROUNDS: u32 = 8;

impl ComponentPlan {
    /// Writes what executing the plan will cost, what binds it and the slack of every copy. Exact for the model of
    /// [`timing`]; with contention the slowdown is spread evenly over all uses, which is an approximation.
    pub fn foresee(&mut self, device: &DeviceSpec, reserve: Bytes) -> Result<()> {
        let (schedule, unrolled) = executed(self, device)?;
        let pass = timing::steady_pass(&schedule).ceil();
        self.prediction = Prediction {
            pass,
            first_pass: unrolled.first_pass,
            makespan: unrolled.makespan,
            overlap: Fraction::of(unrolled.overlap.get(), unrolled.copy_busy.get()),
            stall: unrolled.stall,
            bytes_per_pass: schedule.bytes_per_pass(),
            disk_per_pass: schedule.read_per_pass(),
            peak: self.slab.bytes.saturating_add(reserve),
        };
        let slack = margins::set_slack(self, &schedule, &unrolled.slack);
        let binding = margins::binding(&schedule, device, pass);
        let known = self.margins.take();
        let zero_slowdown = known.as_ref().and_then(|known| known.zero_slowdown);
        let next_gib = known.and_then(|known| known.next_gib);
        self.margins = Some(Margins { binding, slack, zero_slowdown, next_gib });
        Ok(())
    }
}

/// The schedule of a plan, and its times. Contention is fed back until it settles.
fn executed(plan: &ComponentPlan, device: &DeviceSpec) -> Result<(Schedule, timing::Unrolled)> {
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
    Ok((schedule, unrolled))
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
