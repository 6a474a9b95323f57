//! Turns the blocks that some passes leave out into a mask on a schedule, its cost, and plans that make use of it.
//!
//! A use that is left out takes no time. Its copies take none either where they are cancelled; where they are kept,
//! they are made in vain. Nothing else changes: the operations stay, wait and are waited for.
//!
//! ```text
//! every block          h2d      │1 ██│2 ██│3 ██│1 ██│2 ██│3 ██│
//!                      compute       │1 █ │2 █ │3 █ │1 █ │2 █ │3 █
//! 2 left out, cancelled h2d     │1 ██│3 ██│1 ██│3 ██│
//!                      compute       │1 █ │3 █ │1 █ │3 █
//! 2 left out, kept     h2d      │1 ██│2 ██│3 ██│1 ██│2 ██│3 ██│    the link still sets the pass
//!                      compute       │1 █ │    │3 █ │1 █ │    │3 █
//! ```
//!
//! So a program that is safe when every block runs is safe whichever are left out, also where that is decided while it
//! runs: a copy that is not made only leaves older bytes in a place that nobody else may read.
//!
//! # The least time of a run
//!
//! Compute is a bound, and so is the link: the bytes of a block stay from one use to the next or cross the link
//! again. How many can stay is a matter of intervals between uses under a capacity, which is `budget − bytes` of the
//! block in use at each instant; the most bytes are saved by giving up, whenever there is too much, those whose next
//! use is furthest (Belady, *A study of replacement algorithms for a virtual-storage computer*, 1966; with bytes for
//! pages the exchange argument holds for any capacity over time).

use std::collections::BTreeMap;
use std::sync::Arc;

use super::bound::fastest;
use super::instance::Instance;
use super::layout::{ComponentInput, executed};
use super::op::Op;
use super::schedule::Schedule;
use super::spec::{ComponentPlan, Granularity, Residency};
use super::{ROOT, planner};
use crate::device::DeviceSpec;
use crate::error::{Problem, Result};
use crate::figures::{PassRange, Skipped};
use crate::lane::OpKind;
use crate::units::{Bytes, Nanos};
use crate::workload::{Copies, Skip, contradictions, in_range};

/// Sets of blocks that are tried as residents for running more often than others.
const MOST_FAVOURED: usize = 4;

/// Uses over all passes up to which other plans are tried: each is run through.
const MOST_WEIGHED: u64 = 300_000;

/// Parts of such a set, all of them first, that are tried.
const FAVOURED_PARTS: usize = 4;

/// Uses over all passes up to which the least bytes of a run are counted; of longer runs only the compute is a bound.
const MOST_USES: u64 = 2_000_000;

/// Which passes leave out which uses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mask {
    /// By use, and then by pass; uses with the same passes share them. Empty where no pass leaves anything out.
    by_use: Vec<Option<Arc<[Option<Copies>]>>>,
}

impl Mask {
    /// The mask of a plan.
    pub fn of_plan(plan: &ComponentPlan) -> Self {
        let uses = plan.blocks.iter().map(|block| block.block.as_str());
        Self::new(uses, &plan.skips, plan.passes)
    }

    /// The mask of uses with these names: blocks, or parts of them.
    fn new<'a>(uses: impl Iterator<Item = &'a str>, skips: &[Skip], passes: u32) -> Self {
        if skips.is_empty() {
            return Self::default();
        }
        let mut known = BTreeMap::<String, Vec<usize>>::new();
        for (n, skip) in skips.iter().enumerate() {
            for block in skip.blocks.iter().flat_map(|name| in_range(name)) {
                known.entry(block).or_default().push(n);
            }
        }
        let mut shared = BTreeMap::<Vec<usize>, Arc<[Option<Copies>]>>::new();
        let mut of = |name: &str| -> Option<Arc<[Option<Copies>]>> {
            // A part of a block is left out with it: `blocks.3.attn.to_q` with `blocks.3`.
            let ends = name.match_indices('.').map(|(at, _)| at).chain([name.len()]);
            let named = ends.filter_map(|end| known.get(&name[..end])).flatten().copied();
            let named: Vec<usize> = named.collect();
            (!named.is_empty()).then(|| {
                let by_pass = || by_pass(named.iter().map(|&n| &skips[n]), passes);
                Arc::clone(shared.entry(named.clone()).or_insert_with(by_pass))
            })
        };
        Self { by_use: uses.map(&mut of).collect() }
    }

    /// What becomes of its copies where that pass leaves out a use; none where it runs.
    pub fn of(&self, use_of: usize, pass: u32) -> Option<Copies> {
        self.by_use.get(use_of)?.as_ref()?.get(pass as usize).copied().flatten()
    }

    /// Whether no pass leaves anything out.
    pub fn is_empty(&self) -> bool {
        self.by_use.iter().all(Option::is_none)
    }

    /// Passes that leave out a use.
    fn passes(&self, use_of: usize) -> u64 {
        let by_pass = self.by_use.get(use_of).and_then(Option::as_ref);
        by_pass.map_or(0, |by_pass| by_pass.iter().flatten().count() as u64)
    }

    /// How much a plan leaves out: uses, and their compute.
    pub(super) fn left_out(&self, plan: &ComponentPlan) -> Skipped {
        let mut sums = Skipped::default();
        for (n, block) in plan.blocks.iter().enumerate() {
            let times = self.passes(n);
            sums.uses += times;
            sums.compute = sums.compute.saturating_add(block.compute.saturating_mul(times));
        }
        sums
    }
}

/// By pass: what these skips say of one use.
fn by_pass<'a>(skips: impl Iterator<Item = &'a Skip>, passes: u32) -> Arc<[Option<Copies>]> {
    let mut by_pass = vec![None; passes as usize];
    for skip in skips {
        for range in &skip.passes {
            let last = range.last.min(passes.saturating_sub(1));
            for pass in (range.first..=last).step_by(range.every.max(1) as usize) {
                if let Some(left_out) = by_pass.get_mut(pass as usize) {
                    left_out.get_or_insert(skip.copies);
                }
            }
        }
    }
    by_pass.into()
}

impl Schedule {
    /// Whether an operation does nothing in that pass, since the use that it is for is left out.
    pub fn is_left_out(&self, op: &Op, pass: u32) -> bool {
        let use_of = match self.mask.of(op.block, pass.saturating_add(op.ahead)) {
            None => return false,
            Some(copies) => copies,
        };
        match op.kind {
            OpKind::Copy | OpKind::Read => use_of == Copies::Cancelled && !op.lasts,
            OpKind::Compute | OpKind::WriteBack | OpKind::HostSync => true,
        }
    }

    /// How long an operation takes in that pass, undisturbed.
    pub fn duration(&self, op: &Op, pass: u32) -> Nanos {
        if self.is_left_out(op, pass) { Nanos::ZERO } else { op.duration }
    }

    /// Bytes that it moves in that pass.
    pub fn bytes(&self, op: &Op, pass: u32) -> Bytes {
        if self.is_left_out(op, pass) { Bytes::ZERO } else { op.bytes }
    }
}

impl ComponentPlan {
    /// The same plan for another number of passes: what it leaves out of those that it has. What bounds the whole run is
    /// not known then.
    pub fn run_for(&mut self, passes: u32) {
        if passes == self.passes {
            return;
        }
        self.passes = passes;
        self.bound.run = Nanos::ZERO;
        for skip in &mut self.skips {
            skip.passes.retain(|range| range.first < passes);
            for range in &mut skip.passes {
                range.last = range.last.min(passes - 1);
            }
        }
        self.skips.retain(|skip| !skip.passes.is_empty());
    }

    /// What leaving blocks out saves and costs; none where no pass does.
    pub(super) fn leaving_out(
        &self,
        schedule: &Schedule,
        device: &DeviceSpec,
    ) -> Result<Option<Skipped>> {
        if schedule.mask.is_empty() {
            return Ok(None);
        }
        let with = |copies: Option<Copies>| -> Result<Nanos> {
            let skips = self
                .skips
                .iter()
                .filter_map(|skip| copies.map(|copies| Skip { copies, ..skip.clone() }));
            let skips: Vec<Skip> = skips.collect();
            let other = Self { skips, ..self.clone() };
            Ok(executed(&other, device)?.1.makespan)
        };
        let mut bytes = Bytes::ZERO;
        for (n, block) in self.blocks.iter().enumerate() {
            let cancelled = |pass: &u32| schedule.mask.of(n, *pass) == Some(Copies::Cancelled);
            let times = (0..self.passes).filter(cancelled).count() as u64;
            let streams = |piece: &&super::Piece| match &piece.residency {
                Residency::Streamed(stream) => stream.loads.is_empty(),
                Residency::Resident => false,
            };
            let each: Bytes = block.pieces.iter().filter(streams).map(|piece| piece.bytes).sum();
            bytes = bytes.saturating_add(each.saturating_mul(times));
        }
        let mut passes: Vec<PassRange> =
            self.skips.iter().flat_map(|skip| skip.passes.iter().copied()).collect();
        passes.sort_unstable();
        passes.dedup();
        Ok(Some(Skipped {
            passes,
            bytes,
            planned: executed(self, device)?.1.makespan,
            whole: with(None)?,
            cancelled: with(Some(Copies::Cancelled))?,
            kept: with(Some(Copies::Kept))?,
            ..schedule.mask.left_out(self)
        }))
    }
}

/// What is wrong with what a plan says of blocks that are left out.
pub(super) fn problems(place: &str, plan: &ComponentPlan) -> Vec<Problem> {
    let mut problems = contradictions(&plan.skips);
    let real = Mask::of_plan(plan);
    let stated = plan.skipped.as_ref();
    if stated.is_some() == real.is_empty() {
        let found = if stated.is_some() { "figures" } else { "no figures" };
        let expected = "figures where passes leave blocks out, and only there";
        problems.push(Problem::new("skipped", found, expected));
    }
    if let Some(stated) = stated.filter(|_| !real.is_empty()) {
        let left_out = real.left_out(plan);
        if (stated.uses, stated.compute) != (left_out.uses, left_out.compute) {
            let found = format!("{} uses, {} of compute", stated.uses, stated.compute.human());
            let (uses, compute) = (left_out.uses, left_out.compute.human());
            let expected = format!("{uses} uses, {compute}, as skips say");
            problems.push(Problem::new("skipped", found, expected));
        }
        if stated.passes.iter().any(|range| range.last >= plan.passes) {
            let expected = format!("passes 0 to {}", plan.passes.saturating_sub(1));
            problems.push(Problem::new("skipped.passes", "later passes", expected));
        }
        if plan.bound.run > stated.planned {
            let found = plan.bound.run.human();
            let expected = format!("at most what is planned, {}", stated.planned.human());
            problems.push(Problem::new("bound.run", found, expected));
        }
    }
    let names = || plan.blocks.iter().map(|block| block.block.as_str());
    for (n, skip) in plan.skips.iter().enumerate() {
        for (field, empty) in
            [("blocks", skip.blocks.is_empty()), ("passes", skip.passes.is_empty())]
        {
            if empty {
                let place = format!("skips[{n}].{field}");
                problems.push(Problem::new(place, "an empty list", "at least one"));
            }
        }
        for range in skip.passes.iter().filter(|range| range.last >= plan.passes) {
            let expected = format!("passes 0 to {}", plan.passes.saturating_sub(1));
            problems.push(Problem::new(format!("skips[{n}].passes"), range.to_string(), expected));
        }
        for block in skip.blocks.iter().flat_map(|name| in_range(name)) {
            let own = |name: &str| {
                name.strip_prefix(block.as_str())
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
            };
            if block == ROOT || !names().any(own) {
                let expected = "the id of a block of this component";
                problems.push(Problem::new(format!("skips[{n}].blocks"), block, expected));
            }
        }
    }
    problems.into_iter().map(|p| Problem { place: format!("{place}.{}", p.place), ..p }).collect()
}

impl ComponentInput {
    fn mask(&self) -> Mask {
        let uses = self.instance.uses.iter().map(|used| used.block.as_str());
        Mask::new(uses, &self.skips, self.passes)
    }

    /// The best of a plan and of those that keep what runs more often, by the time of all passes.
    pub(super) fn favouring(
        &self,
        plan: ComponentPlan,
        granularity: Granularity,
    ) -> Result<ComponentPlan> {
        let mask = self.mask();
        let runs = u64::from(self.passes).saturating_mul(self.instance.uses.len() as u64);
        if mask.is_empty() || plan.window.bytes.is_zero() || runs > MOST_WEIGHED {
            return Ok(plan);
        }
        let left_out: Vec<u64> = (0..self.instance.uses.len()).map(|n| mask.passes(n)).collect();
        let mut rarest = left_out.clone();
        rarest.sort_unstable();
        rarest.dedup();
        rarest.pop();
        let mut best = plan;
        for &most in rarest.iter().take(MOST_FAVOURED) {
            let often: Vec<usize> = (0..left_out.len()).filter(|&n| left_out[n] <= most).collect();
            // Where not all of them fit, some evenly among them do.
            for parts in (1..=FAVOURED_PARTS).rev() {
                let count = often.len() * parts / FAVOURED_PARTS;
                let mut stays = vec![false; left_out.len()];
                (0..count).for_each(|k| stays[often[k * often.len() / count]] = true);
                let Some(other) = self.keeping(&stays, granularity)? else { continue };
                if other.prediction.makespan < best.prediction.makespan {
                    best = other;
                }
            }
        }
        Ok(best)
    }

    /// The best plan in which these uses stay whole; none where they leave no room for the others.
    fn keeping(&self, stays: &[bool], granularity: Granularity) -> Result<Option<ComponentPlan>> {
        let mut others = Instance::clone(&self.instance);
        for n in (0..stays.len()).filter(|&n| stays[n]) {
            let Some(left) = others.budget.checked_sub(self.instance.aligned(n)) else {
                return Ok(None);
            };
            others.budget = left;
            (others.uses[n].bytes, others.uses[n].parts) = (Bytes::ZERO, Vec::new());
        }
        let build = |found: &super::Evaluated| {
            Schedule::of(&super::lay_out(self, "hybrid", found), &self.instance.device)
        };
        match planner::choose(&others, granularity, self.passes, &build)? {
            Some(found) => self.planned("hybrid", &found).map(Some),
            None => Ok(None),
        }
    }

    /// The time of all passes that no schedule can beat; 0 where none leaves anything out.
    pub(super) fn least_run(&self) -> Nanos {
        let mask = self.mask();
        if mask.is_empty() {
            return Nanos::ZERO;
        }
        let uses = &self.instance.uses;
        let runs = |n: usize| u64::from(self.passes).saturating_sub(mask.passes(n));
        let compute = (0..uses.len()).map(|n| uses[n].compute.saturating_mul(runs(n))).sum();
        if (0..uses.len()).map(runs).sum::<u64>() > MOST_USES {
            return compute;
        }
        let order = (0..self.passes).flat_map(|pass| {
            let mask = &mask;
            (0..uses.len()).filter(move |&n| mask.of(n, pass).is_none())
        });
        let order: Vec<usize> = order.filter(|&n| !uses[n].bytes.is_zero()).collect();
        let sizes: Vec<u64> = uses.iter().map(|used| used.bytes.get()).collect();
        let copied = least_copied(&order, &sizes, self.instance.budget.get());
        let copied = Bytes::new(copied).saturating_add(self.root);
        // What ranks exchange over the link, copies do not have.
        let held = (0..uses.len()).map(|n| uses[n].on_link.saturating_mul(runs(n)));
        let held = held.fold(Nanos::ZERO, Nanos::saturating_add);
        compute.max(fastest(&self.instance.device.h2d, copied).saturating_add(held))
    }
}

/// The least bytes that are copied for uses in this order, of so many bytes each, from an empty memory of `budget`.
fn least_copied(order: &[usize], sizes: &[u64], budget: u64) -> u64 {
    let mut next = vec![usize::MAX; order.len()];
    let mut seen = vec![usize::MAX; sizes.len()];
    for (n, &used) in order.iter().enumerate().rev() {
        next[n] = seen[used];
        seen[used] = n;
    }
    // What is there of each block, by its next use: the furthest goes first.
    let mut there = BTreeMap::<(usize, usize), u64>::new();
    let (mut total, mut copied) = (0u64, 0u64);
    for (n, &used) in order.iter().enumerate() {
        let own = there.remove(&(n, used)).unwrap_or(0);
        copied = copied.saturating_add(sizes[used] - own);
        total -= own;
        let room = budget.saturating_sub(sizes[used]);
        while total > room {
            let Some((key, bytes)) = there.pop_last() else { break };
            let gone = bytes.min(total - room);
            total -= gone;
            if gone < bytes {
                there.insert(key, bytes - gone);
            }
        }
        if next[n] != usize::MAX {
            there.insert((next[n], used), sizes[used]);
            total += sizes[used];
        }
    }
    copied
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_furthest_next_use_gives_way() {
        // Two of three blocks fit: 1 gives way to 2, and comes again when 0 is no longer needed.
        assert_eq!(least_copied(&[0, 1, 2, 0, 1, 2], &[10; 3], 20), 30 + 10);
        // Everything fits: each is copied once.
        assert_eq!(least_copied(&[0, 1, 2, 0, 1, 2], &[10; 3], 30), 30);
        // Nothing but the block in use fits.
        assert_eq!(least_copied(&[0, 1, 0, 1], &[10; 2], 10), 40);
        // Half of one stays.
        assert_eq!(least_copied(&[0, 1, 0, 1], &[10; 2], 15), 20 + 5 + 5);
    }

    /// All orders of eviction by whole units of a byte, the slow way.
    #[test]
    fn no_way_to_keep_bytes_copies_less() {
        fn least(order: &[usize], sizes: &[u64], budget: u64, there: &[u64]) -> u64 {
            let Some((&used, rest)) = order.split_first() else { return 0 };
            let copied = sizes[used] - there[used];
            let mut best = u64::MAX;
            // Every amount of the others that may be left beside the one in use.
            let mut kept = vec![0; sizes.len()];
            loop {
                kept[used] = sizes[used];
                if kept.iter().sum::<u64>() <= budget {
                    best = best.min(least(rest, sizes, budget, &kept));
                }
                kept[used] = 0;
                let bump = (0..kept.len()).find(|&n| n != used && kept[n] < there[n]);
                let Some(bump) = bump else { break };
                kept[bump] += 1;
                kept[..bump].fill(0);
            }
            copied + best
        }
        let mut state = 7u64;
        for _ in 0..60 {
            let mut draw = |below: u64| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 33) % below
            };
            let sizes: Vec<u64> = (0..3).map(|_| 1 + draw(3)).collect();
            let order: Vec<usize> = (0..6).map(|_| usize::try_from(draw(3)).expect("3")).collect();
            let budget = 3 + draw(4);
            let slow = least(&order, &sizes, budget, &[0; 3]);
            assert_eq!(least_copied(&order, &sizes, budget), slow, "{order:?} {sizes:?} {budget}");
        }
    }
}
