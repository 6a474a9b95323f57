//! Turns a choice of what streams into a component's plan: offsets in the slab, slots, waits, and what it predicts.
//!
//! ```text
//! slab   [ root ][ resident ][ resident ] … [ window, see `placement` ]
//!          0       in order of execution
//! ```

use super::bound::{self, Bounds};
use super::choice::Evaluated;
use super::execution::{Beside, Repeated};
use super::instance::{BlockPart, Instance, Run, Use};
use super::margins::{self, Margins};
use super::placement::Placed;
use super::planner;
use super::planner::rotating::{self, Rotation, Turning};
use super::refs::UseRef;
use super::schedule::Schedule;
use super::spec::{
    BlockPlan, ComponentPlan, Granularity, Part, Piece, ROOT, Residency, Slab, Stream, Window,
};
use super::tiers::HostBudget;
use super::timing;
use super::unit::Unit;
use crate::device::DeviceSpec;
use crate::error::{Error, Infeasible, Memory, Result};
use crate::figures::{Bound, Prediction};
use crate::units::{Bytes, Fraction, Nanos};
use crate::workload::Skip;

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
    /// Blocks that some passes leave out.
    pub skips: Vec<Skip>,
}

impl ComponentInput {
    /// The plan that the planner finds best; infeasible when not even one block fits, or the host is too small.
    pub fn plan(&self, granularity: Granularity) -> Result<ComponentPlan> {
        match &self.host {
            _ if !self.instance.on_link().is_zero() => self.plan_around_collectives(granularity),
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
        let plan = self.planned(if everything { "resident" } else { "hybrid" }, &found)?;
        let plan = self.favouring(plan, granularity)?;
        match granularity {
            Granularity::Rotating => self.rotated(plan),
            Granularity::Block | Granularity::Tensor => Ok(plan),
        }
    }

    /// The best plan in which blocks take turns staying, where it is better than the given one.
    fn rotated(&self, mut fixed: ComponentPlan) -> Result<ComponentPlan> {
        let bounds = self.bounds_at(Granularity::Rotating);
        fixed.bound = bounds.against(fixed.prediction.pass);
        let least = fixed.bound.any_schedule;
        if fixed.window.bytes.is_zero() || fixed.prediction.pass <= least {
            return Ok(fixed);
        }
        let Some(rotation) = rotating::best(&self.instance) else { return Ok(fixed) };
        let mut plan = lay_out_rotation(self, &rotation);
        plan.foresee(self.device(), self.reserve)?;
        plan.bound = bounds.against(plan.prediction.pass);
        Ok(if self.key(&plan) < self.key(&fixed) { plan } else { fixed })
    }

    /// What plans are compared by: with few passes the time of all of them, then that of one, then what is copied,
    /// then the window.
    pub(super) fn key(&self, plan: &ComponentPlan) -> (Nanos, Nanos, Bytes, Bytes) {
        let p = &plan.prediction;
        let few = self.passes <= planner::FEW_PASSES;
        let makespan = if few { p.makespan } else { Nanos::ZERO };
        (makespan, p.pass, p.bytes_per_pass, plan.window.bytes)
    }

    /// The steady pass time of that plan, without making it.
    pub fn pass(&self, granularity: Granularity) -> Result<Nanos> {
        let few = self.passes <= planner::FEW_PASSES;
        let beside = self.device().is_contended() || !self.instance.on_link().is_zero();
        if few || self.host.is_some() || beside {
            // What contention and the host do, and what few passes prefer, shows in a plan only.
            return self.plan(granularity).map(|plan| plan.prediction.pass);
        }
        let none = |_: &Evaluated| Err(Error::Internal("a schedule for many passes".to_owned()));
        let found = planner::choose(&self.instance, granularity, self.passes, &none)?;
        let none = || Error::Infeasible(self.infeasible(self.smallest(), self.weights()));
        found.map(|found| found.pass.ceil()).ok_or_else(none)
    }

    /// The same component with so many bytes for weights; none where not even one unit fits.
    pub fn with_weights(&self, weights: Bytes) -> Option<Self> {
        let needed = self.smallest().max(self.root.align_up(self.device().alignment));
        let root = self.root.align_up(self.device().alignment);
        let mut input = self.clone();
        input.instance.budget = weights.saturating_sub(root);
        (needed <= weights).then_some(input)
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
        Bounds { run: self.least_run(), ..bound::bound_on(&self.instance, tier) }
    }

    /// The same, with what bounds plans of whole blocks at that granularity.
    pub(super) fn bounds_at(&self, granularity: Granularity) -> Bounds {
        let bounds = self.bounds();
        match granularity {
            Granularity::Rotating => Bounds { granularity: bounds.rotating, ..bounds },
            Granularity::Block | Granularity::Tensor => bounds,
        }
    }

    /// Whether nothing needs to stream.
    pub fn everything_fits(&self) -> bool {
        self.whole() <= self.weights()
    }

    /// What a slab needs that holds all of it.
    pub fn whole(&self) -> Bytes {
        let uses = 0..self.instance.uses.len();
        let all: Bytes = uses.map(|n| self.instance.aligned(n)).sum();
        all.saturating_add(self.root.align_up(self.device().alignment))
    }

    /// The same component with a slab of so many bytes; nothing is left for blocks where the root takes them all.
    #[must_use]
    pub fn within(&self, slab: Bytes) -> Self {
        let root = self.root.align_up(self.device().alignment);
        let budget = slab.saturating_sub(root);
        Self { instance: Instance { budget, ..self.instance.clone() }, ..self.clone() }
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
            skips: Vec::new(),
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
    let choice = &found.choice;
    let (mut blocks, first) = root_block(input);
    let root = input.root.align_up(instance.device.alignment);
    let stays: Bytes = (first..instance.uses.len()).map(|n| choice.resident(instance, n)).sum();
    let resident = root.saturating_add(stays);
    let (mut at, mut placed) = (root, 0);
    for n in first..instance.uses.len() {
        let used = &instance.uses[n];
        let mut pieces = Vec::new();
        pieces.extend(resident_piece(used, &choice.copies[n], at));
        at = at.saturating_add(choice.resident(instance, n));
        for &run in &choice.copies[n] {
            let place = found.places.placed(placed);
            pieces.push(streamed_piece(instance, used, run, &place, resident));
            placed += 1;
        }
        let block = used.block.clone();
        let Use { bytes, compute, on_link, .. } = *used;
        blocks.push(BlockPlan { block, bytes, compute, on_link, pieces });
    }
    let window = Window { bytes: Bytes::new(found.places.window), slots: slots(instance, found) };
    let plan = component(input, policy, resident, window);
    ComponentPlan { prefetch: prefetch(instance, found), blocks, ..plan }
}

/// Gives every block its places and its loads. Prediction and bound are left zero.
fn lay_out_rotation(input: &ComponentInput, found: &Rotation) -> ComponentPlan {
    let instance = &input.instance;
    let (mut blocks, first) = root_block(input);
    let root = input.root.align_up(instance.device.alignment);
    let stays = |n: &usize| found.blocks[*n].is_none();
    let stays = (first..instance.uses.len()).filter(stays).map(|n| instance.aligned(n));
    let resident = root.saturating_add(stays.sum());
    let mut at = root;
    for (n, used) in instance.uses.iter().enumerate().skip(first) {
        let (places, residency) = match &found.blocks[n] {
            None => {
                let place = at.get();
                at = at.saturating_add(instance.aligned(n));
                (vec![place], Residency::Resident)
            }
            Some(turning) => turns_of(instance, turning, resident),
        };
        let piece = Piece::new(Part::All, used.bytes, places, residency);
        let (block, pieces) = (used.block.clone(), vec![piece]);
        let Use { bytes, compute, on_link, .. } = *used;
        blocks.push(BlockPlan { block, bytes, compute, on_link, pieces });
    }
    let window = Window { bytes: found.window, slots: found.slots };
    let plan = component(input, "rotating", resident, window);
    ComponentPlan { prefetch: found.prefetch, turns: found.turns, blocks, ..plan }
}

/// Where a block that takes turns staying lies, and when it is loaded.
fn turns_of(instance: &Instance, turning: &Turning, window: Bytes) -> (Vec<u64>, Residency) {
    let mut at: Vec<u64> = turning.at.iter().map(|at| window.get() + at).collect();
    if at.iter().all(|&place| place == at[0]) {
        at.truncate(1);
    }
    let before = |(&turn, &(user, passes_back)): (&u32, &(usize, u32))| {
        let block = instance.uses[user].block.clone();
        (turn, Some(UseRef { block, passes_back }))
    };
    let loads = turning.loads.iter().map(before).collect();
    (at, Residency::Streamed(Stream { loads, ..Stream::default() }))
}

/// The root as the first of the blocks, and the first use that is not its.
fn root_block(input: &ComponentInput) -> (Vec<BlockPlan>, usize) {
    let instance = &input.instance;
    let mut blocks = Vec::with_capacity(instance.uses.len() + 1);
    // With leaf units the root's are uses like others.
    let computes = instance.uses.first().filter(|u| u.block == ROOT && u.bytes.is_zero());
    if computes.is_some() || !input.root.is_zero() {
        let time = |of: fn(&Use) -> Nanos| computes.map_or(Nanos::ZERO, of);
        let (compute, on_link) = (time(|root| root.compute), time(|root| root.on_link));
        let residency = Residency::Resident;
        let piece = Piece::new(Part::All, input.root, vec![0], residency);
        let (block, bytes, pieces) = (ROOT.to_owned(), input.root, vec![piece]);
        blocks.push(BlockPlan { block, bytes, compute, on_link, pieces });
    }
    (blocks, usize::from(computes.is_some()))
}

/// A plan without blocks yet.
fn component(
    input: &ComponentInput,
    policy: &str,
    resident: Bytes,
    window: Window,
) -> ComponentPlan {
    let bytes = resident.saturating_add(window.bytes);
    ComponentPlan {
        name: input.name.clone(),
        policy: policy.to_owned(),
        unit: input.unit,
        passes: input.passes,
        reserve: None,
        turns: 1,
        skips: input.skips.clone(),
        prefetch: 0,
        slab: Slab { bytes, resident, window: window.bytes },
        window,
        prediction: Prediction::default(),
        skipped: None,
        margins: None,
        host: None,
        bound: Bound::default(),
        host_syncs: Vec::new(),
        blocks: Vec::new(),
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
    Some(Piece::resident(part, bytes, at.get()))
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
    let at = placed.at.iter().map(|at| window.get() + at).collect();
    Piece::new(part, run.bytes(), at, Residency::Streamed(stream))
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
    let ahead = pieces.iter().zip(found.places.after()).map(|(piece, after)| match *after {
        Some((user, back)) => (piece.user + uses * back as usize).saturating_sub(user + 1),
        None => uses.saturating_sub(1),
    });
    u32::try_from(ahead.max().unwrap_or(0)).unwrap_or(u32::MAX)
}

impl ComponentPlan {
    /// Writes what executing the plan will cost, what binds it and the slack of every copy, as [`timing`] tells.
    pub fn foresee(&mut self, device: &DeviceSpec, reserve: Bytes) -> Result<()> {
        let (schedule, unrolled) = executed(self, device)?;
        let steady = timing::steady(&schedule, Beside::on(device))?;
        let pass = steady.pass.ceil();
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
        self.skipped = self.leaving_out(&schedule, device)?;
        let slack = margins::set_slack(self, &schedule, &unrolled.slack);
        let binding = margins::binding(&schedule, device, &steady);
        let known = self.margins.take();
        let zero_slowdown = known.as_ref().and_then(|known| known.zero_slowdown);
        let next_gib = known.and_then(|known| known.next_gib);
        self.margins = Some(Margins { binding, slack, zero_slowdown, next_gib });
        Ok(())
    }
}

/// The schedule of a plan, and its times.
pub(super) fn executed(
    plan: &ComponentPlan,
    device: &DeviceSpec,
) -> Result<(Schedule, timing::Unrolled)> {
    let schedule = Schedule::of(plan, device)?;
    let alone = Repeated { schedule: &schedule, passes: plan.passes, enters: &[] };
    let mut times = timing::executed(&[alone], Beside::on(device))?;
    Ok((schedule, times.pop().unwrap_or_default()))
}
