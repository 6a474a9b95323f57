//! Turns a plan into the list of what is wrong with what it says: ids, sums and offsets, no timing.

use std::collections::{BTreeMap, BTreeSet};

use super::refs::{Entry, UseRef};
use super::slice::Slice;
use super::spec::{
    BlockPlan, ComponentPlan, Evict, PLAN_FORMAT, Part, Piece, Plan, ROOT, Residency,
};
use crate::error::Problem;
use crate::shard::{self, RankOf};
use crate::units::Bytes;
use crate::workload;

/// Generations that one plan may be for.
const MAX_GENERATIONS: u32 = 64;

/// Offsets that a piece may take turns in; the planner uses a dozen at most.
const MAX_PLACES: usize = 64;

/// Passes after which a plan repeats, at most.
const MAX_TURNS: u32 = super::planner::MOST_TURNS;

/// Everything that is wrong, in the order of the file; empty when the plan is consistent.
pub(super) fn problems(plan: &Plan) -> Vec<Problem> {
    let mut problems = Vec::new();
    let budget = plan.budget;
    if plan.format != PLAN_FORMAT {
        problems.push(Problem::new("format", format!("{:?}", plan.format), PLAN_FORMAT));
    }
    if budget.reserve.checked_add(budget.weights) != Some(budget.vram) {
        let found = format!("{} + {}", budget.reserve, budget.weights);
        let expected = format!("vram = {}", budget.vram);
        problems.push(Problem::new("budget.reserve + budget.weights", found, expected));
    }
    if let Some(rank) = &plan.rank {
        check_rank(rank, &mut problems);
    }
    if plan.components.is_empty() {
        problems.push(Problem::new("components", "an empty list", "at least one component"));
    }
    problems.extend(
        plan.device
            .validate()
            .into_iter()
            .map(|problem| Problem { place: format!("device.{}", problem.place), ..problem }),
    );
    problems.extend(super::tiers::over_budget(plan));
    if !(1..=MAX_GENERATIONS).contains(&plan.generations) {
        let expected = format!("1 to {MAX_GENERATIONS}");
        problems.push(Problem::new("generations", plan.generations.to_string(), expected));
    }
    let mut names = BTreeSet::new();
    for (n, component) in plan.components.iter().enumerate() {
        if !names.insert(&component.name) {
            let found = format!("{:?} a second time", component.name);
            problems.push(Problem::new(
                format!("components[{n}].name"),
                found,
                "a name of its own",
            ));
        }
        check_component(&format!("components[{n}]"), plan, component, &mut problems);
    }
    check_entries(plan, &mut problems);
    problems
}

/// What pieces wait for among the components before exists.
fn check_entries(plan: &Plan, problems: &mut Vec<Problem>) {
    let named = plan.components.iter().flat_map(|component| {
        let blocks = component.blocks.iter().map(|block| block.block.as_str());
        blocks.map(|block| (component.name.as_str(), block))
    });
    let known: BTreeSet<(&str, &str)> = named.collect();
    for (c, component) in plan.components.iter().enumerate() {
        for (b, block) in component.blocks.iter().enumerate() {
            for (p, piece) in block.pieces.iter().enumerate() {
                let Some(Entry::Use { component, of }) = &piece.enters_after else { continue };
                if !known.contains(&(component.as_str(), of.block.as_str())) {
                    let place = format!("components[{c}].blocks[{b}].pieces[{p}].enters_after");
                    let found = format!("{component}.{of}");
                    let expected = "start, or a use of a component of this plan";
                    problems.push(Problem::new(place, found, expected));
                }
            }
        }
    }
}

fn check_rank(rank: &RankOf, problems: &mut Vec<Problem>) {
    if shard::check_ranks(rank.of).is_err() {
        let expected = format!("1 to {}", shard::MAX_RANKS);
        problems.push(Problem::new("rank.of", rank.of.to_string(), expected));
    }
    let rising = rank.numbers.windows(2).all(|pair| pair[0] < pair[1]);
    let last = rank.numbers.last().is_some_and(|&last| last < rank.of);
    if !rising || !last {
        let expected = format!("at least one, rising, below {}", rank.of);
        problems.push(Problem::new("rank.numbers", format!("{:?}", rank.numbers), expected));
    }
}

fn check_component(
    place: &str,
    plan: &Plan,
    component: &ComponentPlan,
    problems: &mut Vec<Problem>,
) {
    let slab = component.slab;
    let mut require = |holds: bool, field: &str, found: String, expected: String| {
        if !holds {
            problems.push(Problem::new(format!("{place}.{field}"), found, expected));
        }
    };
    let (passes, most) = (component.passes, workload::MAX_PASSES);
    let expected = format!("1 to {most}");
    require((1..=most).contains(&passes), "passes", passes.to_string(), expected);
    let turns = component.turns;
    let expected = format!("1 to {MAX_TURNS}");
    require((1..=MAX_TURNS).contains(&turns), "turns", turns.to_string(), expected);
    let peak = component.prediction.peak;
    let reserve = component.reserve_of(&plan.budget);
    let real = slab.bytes.saturating_add(reserve);
    let expected = format!("slab + reserve = {real}");
    require(peak == real, "prediction.peak", peak.to_string(), expected);
    let slots = component.window.slots;
    let even = slots == 0 || component.window.bytes.get().is_multiple_of(u64::from(slots));
    let found = format!("{slots} of {} bytes", component.window.bytes.get());
    require(even, "window.slots", found, "0, or equal slots of the window".into());
    let overlap = component.prediction.overlap;
    let share = overlap <= crate::units::Fraction::WHOLE;
    require(share, "prediction.overlap", overlap.to_string(), "a share of at most 1".into());
    let sum = slab.resident.saturating_add(slab.window);
    // Among others a component's bytes may lie apart.
    let fits = if plan.pipeline.is_some() { sum <= slab.bytes } else { sum == slab.bytes };
    require(fits, "slab", format!("{sum}"), format!("bytes = {}", slab.bytes));
    let weights = plan.budget.vram.saturating_sub(reserve);
    let found = slab.bytes.to_string();
    require(slab.bytes <= weights, "slab.bytes", found, format!("at most {weights}"));
    let same = component.window.bytes == slab.window;
    let found = component.window.bytes.to_string();
    require(same, "window.bytes", found, format!("slab.window = {}", slab.window));
    require(!component.blocks.is_empty(), "blocks", "an empty list".into(), "uses".into());
    let mut names = BTreeSet::new();
    for (n, block) in component.blocks.iter().enumerate() {
        let field = format!("blocks[{n}]");
        let own = names.insert(block.block.as_str());
        let found = format!("{:?} a second time", block.block);
        require(own, &format!("{field}.block"), found, "an id of its own".into());
        let root = block.block == ROOT;
        let found = "root".to_owned();
        require(!root || n == 0, &field, found, "the root before every block".into());
    }
    for (n, sync) in component.host_syncs.iter().enumerate() {
        let targets = [&sync.before, &sync.arrival, &sync.after];
        let named: Vec<&String> = targets.into_iter().flatten().collect();
        let target = named.len() == 1 && names.contains(named[0].as_str());
        let found = format!("before, arrival, after: {targets:?}");
        let expected = "one of them, the id of a block of this component".to_owned();
        require(target, &format!("host_syncs[{n}]"), found, expected);
    }
    problems.extend(super::tiers::problems(place, component, plan.device.alignment));
    problems.extend(super::skips::problems(place, component));
    for (n, block) in component.blocks.iter().enumerate() {
        let place = format!("{place}.blocks[{n}]");
        check_block(&place, &names, plan.device.alignment, block, slab.bytes, problems);
        for (n, piece) in block.pieces.iter().enumerate() {
            check_loads(&format!("{place}.pieces[{n}]"), &names, component.turns, piece, problems);
        }
    }
}

fn check_block(
    place: &str,
    names: &BTreeSet<&str>,
    alignment: u64,
    block: &BlockPlan,
    slab: Bytes,
    problems: &mut Vec<Problem>,
) {
    let sum = block.pieces.iter().try_fold(Bytes::ZERO, |sum, p| sum.checked_add(p.bytes));
    if sum != Some(block.bytes) {
        let found = sum.map_or("more than 2^64".to_owned(), |sum| sum.to_string());
        let expected = format!("bytes = {}", block.bytes);
        problems.push(Problem::new(format!("{place}: sum of pieces"), found, expected));
    }
    if block.on_link > block.compute {
        let found = format!("{} ns", block.on_link.get());
        let expected = format!("a part of compute, at most {} ns", block.compute.get());
        problems.push(Problem::new(format!("{place}.on_link"), found, expected));
    }
    let mut named = BTreeMap::new();
    for (n, piece) in block.pieces.iter().enumerate() {
        let place = format!("{place}.pieces[{n}]");
        let whole = piece.part == Part::All;
        if whole && block.pieces.len() > 1 {
            problems.push(Problem::new(&place, "all, beside other pieces", "names of tensors"));
        }
        let rests = block.pieces.iter().filter(|piece| piece.part == Part::Rest).count();
        if piece.part == Part::Rest && (rests > 1 || block.pieces.len() == 1) {
            let expected = "rest once, beside pieces that name tensors";
            problems.push(Problem::new(&place, "rest", expected));
        }
        if let Part::Tensors(slices) = &piece.part {
            check_slices(&place, slices, &mut named, problems);
        }
        check_offsets(&place, alignment, piece, slab, problems);
        check_uses(&place, names, piece, problems);
    }
}

/// No row of a tensor is in two pieces. `named` has the ranges of rows that each tensor of the block has so far,
/// by their start; all of a tensor is the longest range there is.
fn check_slices<'a>(
    place: &str,
    slices: &'a [Slice],
    named: &mut BTreeMap<(&'a str, u64), u64>,
    problems: &mut Vec<Problem>,
) {
    if slices.is_empty() || slices.iter().any(|slice| slice.tensor.is_empty()) {
        problems.push(Problem::new(place, "no tensor, or one without a name", "names of tensors"));
    }
    for slice in slices {
        let (from, to) = slice.rows.unwrap_or((0, u64::MAX));
        let tensor = slice.tensor.as_str();
        let before = named.range((tensor, 0)..(tensor, to)).next_back();
        if before.is_some_and(|(_, &end)| end > from) {
            let found = format!("{:?} a second time", slice.to_string());
            problems.push(Problem::new(place, found, "every row of a tensor in one piece"));
        }
        let end = named.entry((tensor, from)).or_insert(to);
        *end = to.max(*end);
    }
}

fn check_offsets(
    place: &str,
    alignment: u64,
    piece: &Piece,
    slab: Bytes,
    problems: &mut Vec<Problem>,
) {
    if piece.at.len() > MAX_PLACES {
        let found = format!("{} offsets", piece.at.len());
        let expected = format!("at most {MAX_PLACES}");
        problems.push(Problem::new(format!("{place}.at"), found, expected));
    }
    if piece.residency == Residency::Resident && piece.at.len() != 1 {
        let found = format!("{} offsets", piece.at.len());
        problems.push(Problem::new(format!("{place}.at"), found, "one, for a resident piece"));
    }
    for &at in &piece.at {
        if !at.is_multiple_of(alignment) {
            let expected = format!("a multiple of {alignment}");
            problems.push(Problem::new(format!("{place}.at"), at.to_string(), expected));
        }
        if at.checked_add(piece.bytes.get()).is_none_or(|end| end > slab.get()) {
            let found = format!("{} bytes at {at}", piece.bytes.get());
            let expected = format!("an end within the slab of {} bytes", slab.get());
            problems.push(Problem::new(format!("{place}.at"), found, expected));
        }
    }
}

/// A piece that takes turns staying says where it lies in every turn, and moves only when it is copied.
fn check_loads(
    place: &str,
    names: &BTreeSet<&str>,
    turns: u32,
    piece: &Piece,
    problems: &mut Vec<Problem>,
) {
    let Residency::Streamed(stream) = &piece.residency else { return };
    if stream.loads.is_empty() {
        return;
    }
    let mut found = |field: &str, found: String, expected: String| {
        problems.push(Problem::new(format!("{place}.{field}"), found, expected));
    };
    for (&turn, after) in &stream.loads {
        if turn >= turns {
            found("loads", format!("turn {turn}"), format!("turns below {turns}, see turns"));
        }
        let unknown = after.as_ref().filter(|after| !names.contains(after.block.as_str()));
        if let Some(after) = unknown {
            let expected = "the id of a block of this component".to_owned();
            found("loads", format!("{:?}", after.block), expected);
        }
    }
    let beside = stream.issue_after.is_some() || stream.issue_before.is_some();
    if beside || stream.held_until.is_some() || stream.evict_after != Evict::Use {
        let fields =
            "issue_after, issue_before, held_until or a write-back beside loads".to_owned();
        found("loads", fields, "loads alone: each names what its copy waits for".to_owned());
    }
    if piece.at.len() != 1 && piece.at.len() != turns as usize {
        let expected = format!("one, or {turns}: one for each turn");
        found("at", format!("{} offsets", piece.at.len()), expected);
        return;
    }
    let at = |turn: u32| piece.at[turn as usize % piece.at.len()];
    let moved = (0..turns).find(|&turn| {
        at(turn) != at((turn + turns - 1) % turns) && !stream.loads.contains_key(&turn)
    });
    if let Some(turn) = moved {
        let expected = "the offset of the turn before, or a load in this turn".to_owned();
        found("at", format!("another offset in turn {turn}, which has no load"), expected);
    }
}

fn check_uses(place: &str, names: &BTreeSet<&str>, piece: &Piece, problems: &mut Vec<Problem>) {
    let Residency::Streamed(stream) = &piece.residency else { return };
    let block = |target: &Option<UseRef>| target.as_ref().map(|target| target.block.clone());
    let named = [
        ("issue_after", block(&stream.issue_after)),
        ("issue_before", block(&stream.issue_before)),
        ("held_until", stream.held_until.clone()),
    ];
    for (field, block) in named {
        let Some(block) = block else { continue };
        if !names.contains(block.as_str()) {
            let expected = "the id of a block of this component";
            problems.push(Problem::new(format!("{place}.{field}"), format!("{block:?}"), expected));
        }
    }
}
