//! Turns a policy and a component into its settings with what each needs and takes, and finds the best that fits.
//!
//! Nothing but the budget changes from one budget to the next, so settings are built once: their slab is known at
//! once, their time has a floor (the busiest lane), and only those whose floor could still win are evaluated
//! exactly. The answer is that of evaluating them all.

use std::sync::OnceLock;

use super::build::build;
use super::catalogue::{Range, Shape};
use super::recipe::Recipe;
use super::{Parameter, Policy, store};
use crate::error::{Error, Result};
use crate::lane::Lane;
use crate::plan::bound::Bounds;
use crate::plan::layout::ComponentInput;
use crate::plan::op::When;
use crate::plan::schedule::Schedule;
use crate::plan::unit::{self, Piece, Unit};
use crate::plan::{Beside, ComponentPlan, Granularity, HostNeed, timing};
use crate::units::{Bytes, Nanos};

/// Values of one parameter that are tried before the neighbourhood of the best is.
const MAX_VALUES: u64 = 72;

/// A policy at a setting, planned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// Its parameters: `p=1:r=30`; empty where there are none.
    pub parameters: String,
    /// The flags or the call that set it in its engine.
    pub flags: Option<String>,
    /// The plan.
    pub plan: ComponentPlan,
    /// Whether it fits the budget.
    pub fits: bool,
    /// What its engine takes of the host.
    pub host: HostNeed,
}

/// A setting and what is known of it.
#[derive(Debug, Clone)]
struct Entry {
    values: Vec<u64>,
    /// The time of its busiest lane: it takes no less.
    floor: Nanos,
    bytes: Bytes,
    slab: Bytes,
    host: HostNeed,
    /// Its exact time, once some search has asked for it.
    pass: OnceLock<Nanos>,
}

impl Entry {
    /// What the search prefers least of: time, bytes streamed, slab.
    fn key(&self) -> (Nanos, Bytes, Bytes) {
        (self.pass.get().copied().unwrap_or(self.floor), self.bytes, self.slab)
    }
}

/// The settings of a policy for one component, whatever the budget.
#[derive(Debug, Clone)]
pub struct Explored {
    policy: Policy,
    shape: Shape,
    /// What the policy brings in and releases as one; none for the planner's own.
    units: Vec<Piece>,
    entries: Vec<Entry>,
}

impl Policy {
    /// What a component offers its parameters.
    pub fn shape(input: &ComponentInput) -> Shape {
        let blocks = unit::units(input, Unit::Block);
        let real = || blocks.iter().filter(|block| !block.is_root() && !block.bytes.is_zero());
        let mut lists: Vec<u64> = Vec::new();
        for list in real().filter_map(|block| block.list) {
            lists.resize(lists.len().max(list + 1), 0);
            lists[list] += 1;
        }
        Shape {
            blocks: real().count() as u64,
            longest: lists.iter().copied().max().unwrap_or(0),
            lists: lists.iter().filter(|&&count| count > 0).count() as u64,
            largest: real().map(|block| block.bytes).max().unwrap_or_default(),
            root: input.root,
            leaves: unit::units(input, Unit::Leaf).len() as u64,
        }
    }

    /// Builds every setting that is worth trying. Fails on given values that the component has no room for.
    pub fn explore(&self, input: &ComponentInput) -> Result<Explored> {
        let shape = Self::shape(input);
        let recipe = self.spec.recipe.is_some();
        let units = if recipe { unit::units(input, self.spec.unit()) } else { Vec::new() };
        let mut explored = Explored { policy: self.clone(), shape, units, entries: Vec::new() };
        let mut tried: Vec<Vec<u64>> = vec![Vec::new()];
        for (n, parameter) in self.spec.parameters.iter().enumerate() {
            let most = parameter.most(&shape);
            let shipped =
                if self.shipped { (self.spec.default)(&shape).get(n).copied() } else { None };
            let given = self.given[n].or(shipped);
            if let Some(value) = given.filter(|&value| value > most) {
                let (name, key) = (self.name, parameter.key);
                return Err(Error::usage(format!(
                    "policy {name}: found {key}={value}, expected at most {most} in {}",
                    input.name
                )));
            }
            let candidates = |before: &[u64]| match given {
                Some(value) => vec![value],
                None => candidates(parameter.range, &shape, before),
            };
            let longer = tried.iter().flat_map(|before| {
                candidates(before).into_iter().map(|value| [&before[..], &[value]].concat())
            });
            tried = longer.collect();
        }
        if self.spec.recipe.is_some() {
            for values in tried {
                explored.add(input, values)?;
            }
        }
        explored.sort();
        Ok(explored)
    }
}

/// The values of a parameter that are tried first, given the values of those before it.
fn candidates(range: Range, shape: &Shape, before: &[u64]) -> Vec<u64> {
    let spaced = |least: u64, most: u64| {
        let count = (most.saturating_sub(least) + 1).min(MAX_VALUES);
        let mut values: Vec<u64> = (0..count)
            .map(|n| least + n * (most - least) / count.saturating_sub(1).max(1))
            .collect();
        values.dedup();
        values
    };
    match range {
        Range::Blocks(least) => spaced(least.min(shape.blocks), shape.blocks),
        Range::Leaves => spaced(0, shape.leaves),
        Range::PerCent => (0..=100).collect(),
        Range::Some(_, _, tried) => tried.to_vec(),
        Range::OfGroup => {
            let group = before.last().copied().unwrap_or(0);
            let few = [
                1,
                2,
                3,
                group / 2,
                group * 3 / 4,
                group.saturating_sub(2),
                group.saturating_sub(1),
            ];
            let mut values: Vec<u64> =
                few.into_iter().filter(|&n| n > 0 && n <= group.max(1)).collect();
            values.sort_unstable();
            values.dedup();
            values
        }
    }
}

impl Explored {
    fn recipe(&self, values: &[u64]) -> Option<Recipe> {
        self.policy.spec.recipe.map(|recipe| recipe(values, &self.shape))
    }

    fn build(&self, input: &ComponentInput, values: &[u64]) -> Result<ComponentPlan> {
        let recipe = self.recipe(values).unwrap_or(Recipe::RESIDENT);
        debug_assert_eq!(recipe.unit, self.policy.spec.unit(), "{}", self.policy.name);
        Ok(build(input, &self.units, &self.name(values), &recipe))
    }

    /// The policy with its parameters: `sglang-strided:p=1:r=30`.
    fn name(&self, values: &[u64]) -> String {
        match self.parameters(values) {
            parameters if parameters.is_empty() => self.policy.name.to_owned(),
            parameters => format!("{}:{parameters}", self.policy.name),
        }
    }

    fn parameters(&self, values: &[u64]) -> String {
        let keyed = self.policy.spec.parameters.iter().zip(values);
        let keyed: Vec<String> = keyed.map(|(p, value)| format!("{}={value}", p.key)).collect();
        keyed.join(":")
    }

    fn add(&mut self, input: &ComponentInput, values: Vec<u64>) -> Result<()> {
        let plan = self.build(input, &values)?;
        let schedule = Schedule::of(&plan, &input.instance.device)?;
        let busy = |lane: Lane| {
            let on = schedule.ops.iter().filter(|op| op.lane == lane && op.when != When::First);
            on.map(|op| op.duration).sum::<Nanos>()
        };
        let floor = Lane::ALL.into_iter().map(busy).max().unwrap_or_default();
        let (bytes, slab) = (schedule.bytes_per_pass(), plan.slab.bytes);
        let host = store::need(self.policy.name, &plan, &self.units);
        self.entries.push(Entry { values, floor, bytes, slab, host, pass: OnceLock::new() });
        Ok(())
    }

    /// Lowest floor first, so that a search can stop early.
    fn sort(&mut self) {
        self.entries.sort_by_key(|entry| (entry.floor, entry.bytes, entry.slab));
    }

    /// The smallest slab of any setting; none for the planner's own.
    pub fn smallest(&self) -> Option<Bytes> {
        self.entries.iter().map(|entry| entry.slab).min()
    }

    /// The least host memory of those settings that VRAM has room for, as their engine takes it; none where VRAM has
    /// room for none.
    pub fn least_host(&self, input: &ComponentInput) -> Option<Bytes> {
        let fits = self.entries.iter().filter(|entry| entry.slab <= input.weights());
        fits.map(|entry| entry.host.bytes()).min()
    }

    /// The position and pass time of the best setting within so many bytes for weights, and the host's budget.
    fn search(&self, input: &ComponentInput, available: Bytes) -> Result<Option<usize>> {
        let mut best: Option<usize> = None;
        for n in 0..self.entries.len() {
            let on_host = input.host.as_ref().is_none_or(|host| self.entries[n].host.fits(host));
            if self.entries[n].slab > available || !on_host {
                continue;
            }
            let leader = best.map(|best| self.entries[best].key());
            if leader.is_some_and(|leader| self.entries[n].floor > leader.0) {
                break;
            }
            if leader.is_some_and(|leader| self.entries[n].key() >= leader) {
                continue;
            }
            if self.entries[n].pass.get().is_none() {
                let plan = self.build(input, &self.entries[n].values)?;
                let schedule = Schedule::of(&plan, &input.instance.device)?;
                // Whoever is first: all compute the same.
                let steady = timing::steady(&schedule, Beside::on(&input.instance.device))?;
                let _ = self.entries[n].pass.set(steady.pass.ceil());
            }
            if leader.is_none_or(|leader| self.entries[n].key() < leader) {
                best = Some(n);
            }
        }
        Ok(best)
    }

    /// The least pass time of all settings that fit, every one evaluated.
    #[cfg(test)]
    pub(super) fn exhaustive(&self, input: &ComponentInput) -> Option<Nanos> {
        let fits = self.entries.iter().filter(|entry| entry.slab <= input.weights());
        let pass = |entry: &Entry| {
            let plan = self.build(input, &entry.values).ok()?;
            let schedule = Schedule::of(&plan, &input.instance.device).ok()?;
            Some(timing::steady_pass(&schedule).ceil())
        };
        fits.filter_map(pass).min()
    }

    /// Values between the ones tried, next to the best: only where a parameter has more than were tried.
    fn refine(&mut self, input: &ComponentInput, best: usize) -> Result<bool> {
        let found = self.entries[best].values.clone();
        let mut added = false;
        for n in self.wide() {
            let most = self.policy.spec.parameters[n].most(&self.shape);
            let step = most / (MAX_VALUES - 1) + 1;
            for value in found[n].saturating_sub(step)..=found[n].saturating_add(step).min(most) {
                let mut values = found.clone();
                values[n] = value;
                if !self.entries.iter().any(|entry| entry.values == values) {
                    self.add(input, values)?;
                    added = true;
                }
            }
        }
        self.sort();
        Ok(added)
    }

    /// The searched parameters of which not all values were tried at first.
    fn wide(&self) -> Vec<usize> {
        let wide = |(n, parameter): (usize, &Parameter)| {
            let many = parameter.most(&self.shape) >= MAX_VALUES;
            let ranged = matches!(parameter.range, Range::Blocks(_) | Range::Leaves);
            let searched = self.policy.given[n].is_none() && !self.policy.shipped;
            (many && ranged && searched).then_some(n)
        };
        self.policy.spec.parameters.iter().enumerate().filter_map(wide).collect()
    }

    /// The best setting within so many bytes. What was found for other budgets is remembered, but has no part in the
    /// answer: values between those tried at first are looked at for this budget alone.
    fn found(&self, input: &ComponentInput, available: Bytes) -> Result<Option<Entry>> {
        let Some(best) = self.search(input, available)? else { return Ok(None) };
        if self.wide().is_empty() {
            return Ok(Some(self.entries[best].clone()));
        }
        let mut finer = self.clone();
        finer.refine(input, best)?;
        let best = finer.search(input, available)?;
        Ok(best.map(|best| finer.entries[best].clone()))
    }

    /// The pass time of the best setting that fits the input's budget.
    pub fn best_pass(&self, input: &ComponentInput) -> Result<Option<Nanos>> {
        if self.is_own() {
            return input.at(self.unit()).pass(Granularity::Tensor).map(Some);
        }
        let found = self.found(input, input.weights())?;
        Ok(found.and_then(|entry| entry.pass.get().copied()))
    }

    /// The best setting that fits the input's budget.
    pub fn best(&self, input: &ComponentInput, bounds: &Bounds) -> Result<Option<Setting>> {
        if self.is_own() {
            let plan = input.at(self.unit()).plan(Granularity::Tensor)?;
            return Ok(Some(self.own(plan)));
        }
        match self.found(input, input.weights())? {
            Some(entry) => self.setting(input, &entry.values, bounds).map(Some),
            None => Ok(None),
        }
    }

    /// Whether it is our own planner.
    pub(super) fn is_own(&self) -> bool {
        self.policy.spec.recipe.is_none()
    }

    /// What it brings in, uses and releases as one.
    pub(super) fn unit(&self) -> Unit {
        self.policy.spec.unit()
    }

    /// A plan of our own as a setting.
    pub(super) fn own(&self, plan: ComponentPlan) -> Setting {
        let parameters = own_parameters(&plan);
        let host = store::need(self.policy.name, &plan, &[]);
        Setting { parameters, flags: None, plan, fits: true, host }
    }

    /// What the engine ships, whether or not it fits; none for our own.
    pub fn shipped(&self, input: &ComponentInput, bounds: &Bounds) -> Result<Option<Setting>> {
        if self.policy.spec.engine.is_empty() {
            return Ok(None);
        }
        let shipped = Policy { shipped: true, ..Policy::of(self.policy.spec) };
        let values = (self.policy.spec.default)(&self.shape);
        if values.len() == self.policy.spec.parameters.len() {
            return self.setting(input, &values, bounds).map(Some);
        }
        // Where the engine itself fills the budget, its default is what it finds.
        shipped.explore(input)?.best(input, bounds)
    }

    /// The setting of least memory: what to show of a policy that does not fit.
    pub fn least(&self, input: &ComponentInput, bounds: &Bounds) -> Result<Option<Setting>> {
        let least = self.entries.iter().min_by_key(|entry| (entry.slab, entry.floor));
        least.map(|entry| self.setting(input, &entry.values, bounds)).transpose()
    }

    fn setting(&self, input: &ComponentInput, values: &[u64], bounds: &Bounds) -> Result<Setting> {
        let mut plan = self.build(input, values)?;
        plan.foresee(&input.instance.device, input.reserve)?;
        plan.bound = bounds.against(plan.prediction.pass);
        let flags = (self.policy.spec.flags)(values, &self.shape);
        let host = store::need(self.policy.name, &plan, &self.units);
        let on_host = input.host.as_ref().is_none_or(|budget| host.fits(budget));
        Ok(Setting {
            parameters: self.parameters(values),
            flags: (!flags.is_empty()).then_some(flags),
            fits: plan.slab.bytes <= input.weights() && on_host,
            plan,
            host,
        })
    }
}

/// What our own plan chose: how many blocks stay whole, and the window.
fn own_parameters(plan: &ComponentPlan) -> String {
    let blocks = || plan.blocks.iter().filter(|block| block.block != crate::plan::ROOT);
    let stay = blocks().filter(|block| block.is_resident()).count();
    let parts = blocks().filter(|block| block.pieces.len() > 1).count();
    let window = plan.window.bytes.human().replace(' ', "");
    match (plan.window.slots, parts) {
        _ if plan.window.bytes.is_zero() => String::new(),
        (0, 0) => format!("r={stay}:window={window}"),
        (0, parts) => format!("r={stay}:split={parts}:window={window}"),
        (slots, _) => format!("r={stay}:slots={slots}"),
    }
}
