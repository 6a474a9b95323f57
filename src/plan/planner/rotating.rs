//! Turns an instance of whole blocks into plans in which blocks take turns staying, where no fixed set does as well.
//!
//! A fixed set of residents copies every other block in every pass. If a block that has just been used makes room
//! for the next missing one, some block that was missing is there a pass later, and one copy less is due: of `n`
//! equal blocks with room for `m`, `s = n − m` are missing at any time, and `n·s / (n−1)` copies per pass are enough
//! (Belady's MIN on a loop), where a fixed set needs `s + 1` or more.
//!
//! MIN copies one block after the other and then none for long. What hides copies under compute is to spread them:
//!
//! ```text
//! uses     0  1  2  3  4  5  6  7 │ 8  9 …            n = 8 blocks, m = 5 places, s = 3
//! loads    ●        ●      ●      │●       ●     ●    u(k) = ⌊k · P·n / K⌋: K loads in P passes
//! evicted  the block of load k+s leaves after its use a pass before, at u(k+s) − n, and load k takes its place
//! ```
//!
//! Right before load `k` the missing blocks are those of the loads `k … k+s−1`, so any ascending `u` with
//! `u(k+s) − n ≤ u(k) − d` is a plan: it copies a block once the one used `d` uses before has made room, and needs
//! `K ≥ s·P·n / (n−d)`. The plan repeats after `P` passes, or later where the places take longer to repeat. Every
//! `P` and some `K` are evaluated exactly, for each way to divide the budget into places by size of block.
//!
//! ```
//! use vramplan::plan::{Granularity, Instance, plan_instance, planner::rotating};
//! // Eight blocks, room for six, copy 1,000, compute 50: the best fixed set takes 3 · (1,000 + 50).
//! let instance = Instance::equal(8, 1_000, 50, 6 * 1_000);
//! assert_eq!(plan_instance(&instance, Granularity::Block)?.prediction.pass.get(), 3_150);
//! // Two are missing at any time: 16 copies in 7 passes, each after the use before its own; 8 · (2 · 1,000 + 7 · 50) / 7.
//! let rotation = rotating::best(&instance).unwrap();
//! assert_eq!(rotation.pass.ceil().get(), 2_686);
//! # Ok::<(), vramplan::error::Error>(())
//! ```

use std::collections::BTreeMap;

use super::super::cycle::{Graph, Ratio};
use super::super::instance::Instance;
use super::super::placement::Before;
use super::whole;
use crate::units::Bytes;

/// Passes after which loads repeat, at most: with more, spreads differ by less than a copy in a pass.
const MOST_PASSES: usize = 16;

/// Passes after which a plan repeats, places included, at most.
pub const MOST_TURNS: u32 = 64;

/// Counts of loads that are tried for a number of passes and a class of blocks, where there is one class or more.
const COUNTS: [usize; 2] = [16, 5];

/// Uses in all evaluated passes together: what the search may cost, whatever the sizes and their number.
const MOST_WORK: usize = 400_000;

/// A plan in which blocks take turns staying.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rotation {
    /// Passes after which it repeats.
    pub turns: u32,
    /// Its time per pass.
    pub pass: Ratio,
    /// Bytes copied per pass, as a ratio.
    pub streamed: Ratio,
    /// Bytes of the places that blocks take turns in.
    pub window: Bytes,
    /// How many places that is, where all are of one size; else 0.
    pub slots: u32,
    /// The most uses that lie between the one that frees a place and the one that needs it.
    pub prefetch: u32,
    /// By use: where its block lies and when it is loaded; none where it always stays.
    pub blocks: Vec<Option<Turning>>,
}

/// A block that takes turns staying.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Turning {
    /// Its offset in the window, by turn.
    pub at: Vec<u64>,
    /// The turns in which it is loaded, and the use that frees its place.
    pub loads: BTreeMap<u32, Before>,
}

/// The best rotation; none where blocks are of too many sizes, or none is found.
pub fn best(instance: &Instance) -> Option<Rotation> {
    let classes = classes(instance)?;
    let mut search = Search { instance, classes: &classes, left: MOST_WORK, best: None };
    let mut divisions = Vec::new();
    divide(&classes, instance.budget.get(), &mut Vec::new(), &mut divisions);
    // What repeats sooner first: it is read more easily, and the rest is tried as far as the work allows.
    for passes in 1..=MOST_PASSES {
        divisions.iter().for_each(|places| search.try_places(places, passes));
    }
    search.best
}

/// Blocks of one size in the slab.
struct Class {
    size: u64,
    /// Their uses, in order.
    uses: Vec<usize>,
}

fn classes(instance: &Instance) -> Option<Vec<Class>> {
    let same = |uses: Vec<usize>| {
        let size = instance.aligned(*uses.first()?).get();
        let equal = uses.iter().all(|&n| instance.aligned(n).get() == size);
        equal.then_some(Class { size, uses })
    };
    whole::size_classes(instance).into_iter().map(same).collect()
}

/// Numbers of places by class: as many of the last as the others leave room for.
fn divide(classes: &[Class], room: u64, taken: &mut Vec<usize>, found: &mut Vec<Vec<usize>>) {
    let Some(class) = classes.get(taken.len()) else { return };
    let fit = usize::try_from(room / class.size).unwrap_or(usize::MAX).min(class.uses.len());
    let last = taken.len() + 1 == classes.len();
    for places in if last { fit..=fit } else { 1..=fit } {
        taken.push(places);
        if last && places > 0 {
            found.push(taken.clone());
        }
        divide(classes, room - places as u64 * class.size, taken, found);
        taken.pop();
    }
}

/// When a class is loaded: by load, its place among the class' uses of all turns.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Loads {
    at: Vec<usize>,
    /// Blocks that are missing at any time.
    missing: usize,
}

impl Loads {
    /// So many loads evenly over the uses of so many passes; none where a load would come before its place is free.
    fn spread(members: usize, places: usize, passes: usize, count: usize) -> Option<Self> {
        let uses = passes * members;
        let at: Vec<usize> = (0..count).map(|k| k * uses / count).collect();
        let loads = Self { at, missing: members - places };
        let free = |k: usize| loads.nth(k + loads.missing, uses) < loads.at[k] + members;
        (0..count).all(free).then_some(loads)
    }

    /// The k-th load, counted on over the end of the turns.
    fn nth(&self, k: usize, uses: usize) -> usize {
        self.at.get(k % self.at.len().max(1)).map_or(0, |at| at + k / self.at.len() * uses)
    }
}

/// A load: its use and the one that frees its place, both counted from the start of the first turn.
#[derive(Debug, Clone, Copy)]
struct Load {
    used: i64,
    after: i64,
}

struct Search<'a> {
    instance: &'a Instance,
    classes: &'a [Class],
    /// Uses that may still be evaluated.
    left: usize,
    best: Option<Rotation>,
}

impl Search<'_> {
    /// Tries numbers of loads for so many places by class.
    fn try_places(&mut self, places: &[usize], passes: usize) {
        let counts = self.classes.iter().zip(places);
        let counts: Vec<Vec<usize>> = counts
            .map(|(class, &places)| counts_of(class.uses.len(), places, passes, self.classes))
            .collect();
        let ways: usize = counts.iter().map(Vec::len).product();
        for mut way in 0..ways {
            let mut chosen = Vec::with_capacity(counts.len());
            for counts in &counts {
                chosen.push(counts[way % counts.len()]);
                way /= counts.len();
            }
            // What repeats sooner has been tried.
            if chosen.iter().fold(passes, |all, &count| gcd(all, count)) == 1 {
                self.try_loads(places, passes, &chosen);
            }
        }
    }

    /// Evaluates the rotation with so many loads of each class in so many passes.
    fn try_loads(&mut self, places: &[usize], passes: usize, counts: &[usize]) {
        let link = &self.instance.device.h2d;
        let copies = self.classes.iter().zip(counts).map(|(class, &count)| {
            let bytes = self.instance.uses[class.uses[0]].bytes;
            count as u128 * u128::from(link.time_for(bytes).get())
        });
        let least = Ratio::per_pass(copies.sum()).over(passes as u128);
        let uses = passes * self.instance.uses.len();
        let hopeless = self.best.as_ref().is_some_and(|best| best.pass <= least);
        if hopeless || self.left < uses {
            return;
        }
        let spread =
            self.classes.iter().zip(places).zip(counts).map(|((class, &places), &count)| {
                Loads::spread(class.uses.len(), places, passes, count)
            });
        let Some(loads) = spread.collect::<Option<Vec<Loads>>>() else { return };
        self.left -= uses;
        let sequence = self.sequence(passes, &loads);
        let pass = steady(self.instance, passes, &sequence);
        let bytes = sequence.iter().map(|load| self.bytes_of(load.used)).sum();
        let streamed = Ratio::per_pass(bytes).over(passes as u128);
        let known = self.best.as_ref().map(|best| (best.pass, best.streamed));
        if known.is_none_or(|known| (pass, streamed) < known) {
            let found = self.placed(passes, &loads, &sequence);
            self.best =
                found.map(|found| Rotation { pass, streamed, ..found }).or(self.best.take());
        }
    }

    fn bytes_of(&self, used: i64) -> u128 {
        let count = self.instance.uses.len();
        let user = usize::try_from(used).unwrap_or(0) % count.max(1);
        u128::from(self.instance.uses[user].bytes.get())
    }

    /// The loads of all classes in order of use. Copies run in that order, so each also waits for what the ones
    /// before it waited for.
    fn sequence(&self, passes: usize, loads: &[Loads]) -> Vec<Load> {
        let count = self.instance.uses.len();
        let mut sequence = Vec::new();
        for (class, loads) in self.classes.iter().zip(loads) {
            let members = class.uses.len();
            let used = |n: usize| signed(n / members * count + class.uses[n % members]);
            sequence.extend((0..loads.at.len()).map(|k| Load {
                used: used(loads.at[k]),
                after: used(loads.nth(k + loads.missing, passes * members)) - signed(count),
            }));
        }
        sequence.sort_by_key(|load| load.used);
        let period = signed(passes * count);
        let mut latest = i64::MIN;
        for round in 0..2 {
            for load in &mut sequence {
                latest = latest.max(load.after + round * period);
                load.after = if round == 1 { latest - period } else { load.after };
            }
        }
        sequence
    }

    /// Gives every block its place in every turn; none where places take too long to repeat.
    fn placed(&self, passes: usize, loads: &[Loads], sequence: &[Load]) -> Option<Rotation> {
        let count = self.instance.uses.len();
        let held = self.classes.iter().zip(loads).map(|(class, loads)| held(class, passes, loads));
        let held: Vec<Held> = held.collect::<Option<_>>()?;
        let turns = held.iter().try_fold(1usize, |all, held| lcm(all, held.turns))?;
        let mut blocks: Vec<Option<Turning>> = vec![None; count];
        let (mut window, mut slots) = (0u64, 0u64);
        for (class, held) in self.classes.iter().zip(&held) {
            for (member, places) in held.places.iter().enumerate().filter(|(_, p)| !p.is_empty()) {
                let at = (0..turns).map(|t| window + places[t % held.turns] as u64 * class.size);
                let turning = Turning { at: at.collect(), ..Turning::default() };
                blocks[class.uses[member]] = Some(turning);
            }
            window += held.count as u64 * class.size;
            slots += held.count as u64;
        }
        let mut ahead = 0;
        for lap in 0..turns / passes {
            for load in sequence {
                let used = usize::try_from(load.used).ok()?;
                let (turn, user) = (used / count, used % count);
                let back = signed(turn) - load.after.div_euclid(signed(count));
                let after = usize::try_from(load.after.rem_euclid(signed(count))).ok()?;
                let turn = u32::try_from(lap * passes + turn).ok()?;
                let before = (after, u32::try_from(back).ok()?);
                blocks[user].as_mut()?.loads.insert(turn, before);
                ahead = ahead.max(load.used - load.after - 1);
            }
        }
        let one_size = held.iter().filter(|held| held.count > 0).count() == 1;
        Some(Rotation {
            turns: u32::try_from(turns).ok().filter(|&turns| turns <= MOST_TURNS)?,
            pass: Ratio::per_pass(0),
            streamed: Ratio::per_pass(0),
            window: Bytes::new(window),
            slots: u32::try_from(slots).ok().filter(|_| one_size).unwrap_or(0),
            prefetch: u32::try_from(ahead).unwrap_or(u32::MAX),
            blocks,
        })
    }
}

/// Numbers of loads worth trying, from the fewest that the places allow.
fn counts_of(members: usize, places: usize, passes: usize, classes: &[Class]) -> Vec<usize> {
    let missing = members - places;
    if missing == 0 {
        return vec![0];
    }
    let fewest = (missing * passes * members).div_ceil(members - 1);
    // A fixed set of residents beside two places copies this many.
    let most = (passes * (missing + 2)).min(passes * members);
    let tried = COUNTS[usize::from(classes.len() > 1)];
    let step = (most.saturating_sub(fewest) / tried).max(1);
    (fewest..=most).step_by(step).collect()
}

/// Which places the blocks of a class lie in.
struct Held {
    /// Passes after which that repeats.
    turns: usize,
    /// By block and turn; empty where the block always stays.
    places: Vec<Vec<usize>>,
    /// Places that blocks take turns in.
    count: usize,
}

/// Follows the places from load to load until all blocks lie where they did.
fn held(class: &Class, passes: usize, loads: &Loads) -> Option<Held> {
    let members = class.uses.len();
    let uses = passes * members;
    let mut turning = vec![false; members];
    loads.at.iter().for_each(|&at| turning[at % members] = true);
    let mut place: Vec<Option<usize>> = vec![None; members];
    let missing: Vec<usize> = (0..loads.missing).map(|k| loads.nth(k, uses) % members).collect();
    let there = (0..members).filter(|n| turning[*n] && !missing.contains(n));
    let mut count = 0;
    for (n, block) in there.enumerate() {
        (place[block], count) = (Some(n), n + 1);
    }
    let start = place.clone();
    let mut places: Vec<Vec<usize>> = vec![Vec::new(); members];
    for lap in 1..=MOST_TURNS as usize / passes {
        let mut next = 0;
        for at in 0..uses {
            let block = at % members;
            if loads.at.get(next) == Some(&at) {
                let evicted = loads.nth(next + loads.missing, uses) % members;
                let freed = place[evicted].take();
                place[block] = freed;
                next += 1;
            }
            if turning[block] {
                places[block].push(place[block]?);
            }
        }
        if place == start {
            return Some(Held { turns: lap * passes, places, count });
        }
    }
    None
}

/// The time per pass: the event graph of so many passes, which repeat.
fn steady(instance: &Instance, passes: usize, sequence: &[Load]) -> Ratio {
    let count = instance.uses.len();
    let link = &instance.device.h2d;
    let nodes = passes * count + sequence.len();
    let mut graph = Graph::with_capacity(nodes, 2 * nodes);
    let (mut computes, mut copies) = (Vec::with_capacity(nodes), Vec::with_capacity(nodes));
    let (mut busy, mut computing) = (0u128, 0u128);
    let used_at = |k: usize| sequence.get(k).and_then(|load| usize::try_from(load.used).ok());
    for at in 0..passes * count {
        let used = &instance.uses[at % count];
        if used_at(copies.len()) == Some(at) {
            let copy = link.time_for(used.bytes).get();
            busy += u128::from(copy);
            copies.push(graph.node(copy));
        }
        computing += u128::from(used.compute.get());
        computes.push(graph.node(used.compute.get()));
    }
    let mut next = 0;
    for at in 0..computes.len() {
        if used_at(next) == Some(at) {
            follow(&mut graph, &copies, next);
            let period = signed(computes.len());
            let laps = -sequence[next].after.div_euclid(period);
            let after = usize::try_from(sequence[next].after.rem_euclid(period)).unwrap_or(0);
            graph.arc(computes[after], copies[next], u32::try_from(laps).unwrap_or(0));
            next += 1;
        }
        follow(&mut graph, &computes, at);
        if next > 0 && used_at(next - 1) == Some(at) {
            graph.arc(copies[next - 1], computes[at], 0);
        }
    }
    graph.steady_from(Ratio::per_pass(busy.max(computing))).over(passes as u128)
}

/// An operation runs after the one before it on its lane, the first after the last of the turns before.
fn follow(graph: &mut Graph, lane: &[usize], n: usize) {
    match n.checked_sub(1) {
        Some(before) => graph.arc(lane[before], lane[n], 0),
        None => graph.arc(lane[lane.len() - 1], lane[0], 1),
    }
}

fn signed(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

fn lcm(a: usize, b: usize) -> Option<usize> {
    (a / gcd(a, b)).checked_mul(b)
}
