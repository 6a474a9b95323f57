//! Turns an instance into candidates in which blocks stay or stream whole.
//!
//! ```text
//! ten blocks, four streamed    ·  █  ·  █  ·  ·  █  ·  █  ·    each copy hides under the compute between
//! ```
//!
//! Starts: evenly spread; spread by size class, since which class streams decides both how much is copied and how
//! large the window must be; spread by compute time (error diffusion); the shares of the split plan, rounded to
//! whole blocks. Each for windows of one to four largest blocks. A local search improves the best of them.

use std::collections::{BTreeMap, BTreeSet};

use super::super::choice::{Choice, Evaluated};
use super::super::instance::Instance;
use super::super::matching;
use super::Gaps;
use crate::units::Bytes;

/// More splits by size class than this are not enumerated.
const MOST_SPLITS: u64 = 4_096;

/// Above so many uses the starts by size class, of which there may be thousands, are left out.
const MANY_USES: usize = 1_000;

/// Evaluations of the local search, times uses: keeps a plan of a thousand blocks within a tenth of a second.
const SEARCH_WORK: usize = 60_000;

/// Blocks that are tried the other way, all rounds together, where a plan is for few passes.
const MOST_FLIPS: usize = 200;

/// Windows to leave room for, in halves of the largest block.
const WINDOW_HALVES: [u64; 5] = [2, 3, 4, 6, 8];

/// The best of the starts.
pub fn start(instance: &Instance, gaps: &Gaps) -> Option<Evaluated> {
    let mut best: Option<Evaluated> = None;
    for streams in starts(instance, gaps) {
        let known = best.as_ref().map(|known| known.pass);
        let found = Choice::whole(instance, &streams)
            .and_then(|choice| choice.evaluate_below(instance, known));
        let better = |known: &Evaluated| found.as_ref().is_some_and(|f| f.key() < known.key());
        if best.as_ref().is_none_or(better) {
            best = found.or(best);
        }
    }
    best
}

/// The best start, improved, and the best of those that stream no more than each of them does.
pub fn varied(instance: &Instance, gaps: &Gaps) -> Vec<Evaluated> {
    let starts: Vec<Evaluated> = evaluated(instance, gaps).collect();
    let mut found: Vec<Evaluated> = Vec::new();
    for most in starts.iter().map(|start| start.streamed).collect::<BTreeSet<_>>() {
        let fewer = starts.iter().filter(|start| start.streamed <= most);
        found.extend(fewer.min_by_key(|start| start.key()).cloned());
    }
    found.dedup();
    let best = start(instance, gaps).map(|start| improved(instance, start));
    found.into_iter().chain(best).collect()
}

/// Nothing stays: in a single pass no byte is needed twice, and the more room copies have the earlier they begin.
pub fn streaming(instance: &Instance) -> Option<Evaluated> {
    let streams: Vec<bool> = instance.uses.iter().map(|used| !used.bytes.is_zero()).collect();
    evaluate(instance, &streams)
}

/// Improves a choice of whole blocks by another measure than the steady pass: one block after the other stays instead
/// of streaming, or streams instead of staying, as long as that helps.
pub fn improved_by<T: Ord>(
    instance: &Instance,
    best: (T, Evaluated),
    measure: &dyn Fn(&Evaluated) -> crate::error::Result<T>,
) -> crate::error::Result<(T, Evaluated)> {
    let mut best = best;
    let whole = |n: usize| -> Option<bool> {
        let streamed: Bytes = best.1.choice.copies[n].iter().map(|run| run.bytes()).sum();
        match streamed {
            none if none.is_zero() => Some(false),
            all if all == instance.uses[n].bytes => Some(true),
            _ => None,
        }
    };
    let streams: Option<Vec<bool>> = (0..instance.uses.len()).map(whole).collect();
    let Some(mut streams) = streams else { return Ok(best) };
    let blocks = blocks_of(instance);
    let (mut tries, mut since) = (0, 0);
    for &n in blocks.iter().cycle() {
        if since == blocks.len() || tries == MOST_FLIPS {
            break;
        }
        (tries, since) = (tries + 1, since + 1);
        streams[n] = !streams[n];
        let better = match evaluate(instance, &streams) {
            Some(other) => Some((measure(&other)?, other)).filter(|(time, _)| *time < best.0),
            None => None,
        };
        match better {
            Some(better) => (best, since) = (better, 0),
            None => streams[n] = !streams[n],
        }
    }
    Ok(best)
}

/// The best of the starts that leave room for such a window.
pub fn roomier(instance: &Instance, gaps: &Gaps, window: u64) -> Option<Evaluated> {
    let roomy = |found: &Evaluated| found.choice.window.get() >= window;
    evaluated(instance, gaps).filter(roomy).min_by_key(Evaluated::key)
}

fn evaluated(instance: &Instance, gaps: &Gaps) -> impl Iterator<Item = Evaluated> {
    starts(instance, gaps).into_iter().filter_map(|streams| evaluate(instance, &streams))
}

/// Which blocks stream, by start.
fn starts(instance: &Instance, gaps: &Gaps) -> Vec<Vec<bool>> {
    let mut starts = by_class(instance);
    let largest = instance.uses.iter().map(|used| used.bytes.get()).max().unwrap_or(0);
    let missing = gaps.total.saturating_sub(instance.budget).get();
    for halves in WINDOW_HALVES {
        let total = missing.saturating_add(largest.saturating_mul(halves) / 2);
        starts.push(by_compute(instance, total));
        starts.push(by_matching(instance, gaps, total));
    }
    starts
}

fn evaluate(instance: &Instance, streams: &[bool]) -> Option<Evaluated> {
    Choice::whole(instance, streams)?.evaluate(instance)
}

/// Uses that have bytes, in order.
pub fn blocks_of(instance: &Instance) -> Vec<usize> {
    (0..instance.uses.len()).filter(|&n| !instance.uses[n].bytes.is_zero()).collect()
}

/// So many of these uses, evenly spaced: the middle of each of `count` equal stretches.
pub fn evenly(uses: &[usize], count: usize) -> impl Iterator<Item = usize> {
    (0..count).map(move |n| uses[(2 * n + 1) * uses.len() / (2 * count)])
}

/// Uses with bytes, by aligned size.
pub fn size_classes(instance: &Instance) -> Vec<Vec<usize>> {
    let mut classes: BTreeMap<Bytes, Vec<usize>> = BTreeMap::new();
    for n in blocks_of(instance) {
        classes.entry(instance.aligned(n)).or_default().push(n);
    }
    let splits = classes.values().fold(1u64, |n, class| n.saturating_mul(class.len() as u64 + 1));
    let few = instance.uses.len() <= MANY_USES;
    if classes.len() <= 3 && (classes.len() <= 1 || few) && splits <= MOST_SPLITS {
        return classes.into_values().collect();
    }
    vec![blocks_of(instance)]
}

/// For windows of one to four slots: streamed counts per class of which none can be lowered.
fn by_class(instance: &Instance) -> Vec<Vec<bool>> {
    let classes = size_classes(instance);
    let mut starts = Vec::new();
    for slots in 1..=4 {
        let mut counts = vec![0; classes.len()];
        add_splits(instance, &classes, slots, &mut counts, 0, &mut starts);
    }
    starts
}

/// Walks the counts of all classes but the last; of the last class as few stream as fit.
fn add_splits(
    instance: &Instance,
    classes: &[Vec<usize>],
    slots: u64,
    counts: &mut Vec<usize>,
    class: usize,
    starts: &mut Vec<Vec<bool>>,
) {
    let Some(members) = classes.get(class) else { return };
    if class + 1 < classes.len() {
        for count in 0..=members.len() {
            counts[class] = count;
            add_splits(instance, classes, slots, counts, class + 1, starts);
        }
        counts[class] = 0;
        return;
    }
    let streams_for = |count: usize| {
        let mut streams = vec![false; instance.uses.len()];
        let counts = counts[..class].iter().copied().chain([count]);
        for (class, count) in classes.iter().zip(counts) {
            evenly(class, count).for_each(|n| streams[n] = true);
        }
        streams
    };
    // From one streamed block of the class on, each more leaves more room.
    let fits = |count: usize| leaves_slots(instance, &streams_for(count), slots);
    let (mut low, mut high) = (1, members.len() + 1);
    while low < high {
        let middle = low.midpoint(high);
        if fits(middle) { high = middle } else { low = middle + 1 }
    }
    let fewest = if fits(0) { Some(0) } else { Some(low).filter(|&low| low <= members.len()) };
    starts.extend(fewest.map(streams_for));
}

/// Whether the residents leave room for so many of the largest streamed block.
fn leaves_slots(instance: &Instance, streams: &[bool], slots: u64) -> bool {
    let sizes = |streamed: bool| {
        (0..streams.len()).filter(move |&n| streams[n] == streamed).map(|n| instance.aligned(n))
    };
    let window = sizes(true).max().unwrap_or_default().saturating_mul(slots);
    let resident: Bytes = sizes(false).sum();
    resident.saturating_add(window) <= instance.budget
}

/// Error diffusion on compute time: each block's compute pays for copies, and a block streams once its copy is
/// half paid for. The price is searched so that about `total` bytes stream.
fn by_compute(instance: &Instance, total: u64) -> Vec<bool> {
    let copy: Vec<i128> = instance
        .uses
        .iter()
        .map(|u| i128::from(instance.device.h2d.time_for(u.bytes).get()))
        .collect();
    let diffused = |price: i128| {
        let mut paid = 0i128;
        let mut streams = vec![false; instance.uses.len()];
        let mut bytes = 0u64;
        for (n, used) in instance.uses.iter().enumerate() {
            paid += i128::from(used.compute.get()) * price / 1_000;
            if !used.bytes.is_zero() && 2 * paid >= copy[n] {
                streams[n] = true;
                bytes = bytes.saturating_add(used.bytes.get());
                paid -= copy[n];
            }
        }
        (streams, bytes)
    };
    // Thousandths; above a million every block streams in any case that matters.
    let (mut low, mut high) = (0i128, 1_000_000_000i128);
    while high - low > 1 {
        let middle = (low + high) / 2;
        if diffused(middle).1 >= total {
            high = middle;
        } else {
            low = middle;
        }
    }
    diffused(high).0
}

/// The shares of the split plan, each block rounded to all or nothing and the error handed on.
fn by_matching(instance: &Instance, gaps: &Gaps, total: u64) -> Vec<bool> {
    let wanted = matching::streamed_bytes(instance, &gaps.gaps, total);
    let mut error = 0i128;
    let streams = instance.uses.iter().zip(wanted).map(|(used, wanted)| {
        let whole = i128::from(used.bytes.get());
        error += i128::from(wanted);
        let streams = whole > 0 && 2 * error >= whole;
        error -= if streams { whole } else { 0 };
        streams
    });
    streams.collect()
}

/// Local search: let one block stay, let one stream, or exchange two; take what is better until nothing is.
pub fn improved(instance: &Instance, start: Evaluated) -> Evaluated {
    let blocks = blocks_of(instance);
    let mut left = SEARCH_WORK / instance.uses.len().max(1);
    let mut best = start;
    let mut found = true;
    while found && left > 0 {
        found = false;
        let streams: Vec<bool> =
            best.choice.copies.iter().map(|copies| !copies.is_empty()).collect();
        for moved in moves(&blocks, &streams) {
            let mut changed = streams.clone();
            moved.into_iter().flatten().for_each(|n| changed[n] = !changed[n]);
            left = left.saturating_sub(1);
            let better = Choice::whole(instance, &changed)
                .and_then(|choice| choice.evaluate_below(instance, Some(best.pass)))
                .filter(|other| other.key() < best.key());
            if let Some(better) = better {
                best = better;
                found = true;
                break;
            }
            if left == 0 {
                break;
            }
        }
    }
    best
}

/// Every single change, then exchanges of a streamed block with a resident one, near ones first.
fn moves<'a>(
    blocks: &'a [usize],
    streams: &'a [bool],
) -> impl Iterator<Item = [Option<usize>; 2]> + 'a {
    let single = blocks.iter().map(|&n| [Some(n), None]);
    let pairs = (1..blocks.len()).flat_map(move |distance| {
        let pair = move |n: usize| [blocks[n], blocks[(n + distance) % blocks.len()]];
        (0..blocks.len()).map(pair)
    });
    let exchanges =
        pairs.filter(|&[a, b]| streams[a] && !streams[b]).map(|[a, b]| [Some(a), Some(b)]);
    single.chain(exchanges)
}
