//! Turns a bound's instants into candidates in which a part of every block streams.
//!
//! The shares of all blocks follow from one number, the bytes that stream in a pass ([`matching`]). That number is
//! searched, each time for one, two, four and eight copies per block, and the best of them is improved by moving
//! single tensors between memory and window.

use super::super::choice::{Choice, Evaluated, Group};
use super::super::instance::Instance;
use super::super::matching::{self, Share};
use super::Gaps;
use crate::units::Bytes;

/// Totals that are tried first; then as many again around the best of them.
const TOTALS: u64 = 16;

/// The window is at most so many times the largest block.
const MOST_WINDOW: u64 = 4;

/// Copies per block that are tried. One is cheapest in latency; more let a copy begin as soon as a part of its
/// place is free. Which is better is not for a rule to say: each is evaluated.
const COPIES: [u64; 4] = [1, 2, 4, 8];

/// Above so many uses a copy is a small part of the window, and one per block is enough.
const MANY_USES: usize = 1_000;

/// Totals times uses that are evaluated: keeps plans of a hundred thousand blocks within seconds.
const MOST_WORK: u64 = 40_000;

/// Operations that the local search may evaluate: a few hundred plans of FLUX's size, a hundredth of a second.
const SEARCH_WORK: usize = 50_000;

/// A candidate and what it was made of.
struct Split {
    shares: Vec<Share>,
    copies: u64,
    found: Evaluated,
}

/// The best candidate, for totals of streamed bytes from what must stream to four largest blocks more.
pub fn candidates(instance: &Instance, gaps: &Gaps, least_pass: u128) -> Vec<Evaluated> {
    let total = gaps.total.get();
    let missing = total.saturating_sub(instance.budget.get());
    let largest = instance.uses.iter().map(|used| used.bytes.get()).max().unwrap_or(0);
    let span = (MOST_WINDOW.saturating_mul(largest)).min(total - missing);
    let totals = (MOST_WORK / instance.uses.len().max(1) as u64).clamp(4, TOTALS);
    let coarse: Vec<u64> = (0..=totals).map(|n| share(span, n * n, totals * totals)).collect();
    let mut best: Option<Split> = None;
    let copies = if instance.uses.len() > MANY_USES { &COPIES[..1] } else { &COPIES[..] };
    for &copies in copies {
        let mut own: Option<(u64, Split)> = None;
        let mut consider = |extra: u64| {
            let split = of_total(instance, gaps, missing + extra, copies);
            keep_better(&mut own, split.map(|split| (extra, split)), |(_, split)| split);
            own.as_ref().map(|(extra, _)| *extra)
        };
        let mut around = None;
        for &extra in &coarse {
            around = consider(extra);
        }
        if let Some(around) = around {
            let low = coarse.iter().rev().find(|&&extra| extra < around).copied().unwrap_or(0);
            let high = coarse.iter().find(|&&extra| extra > around).copied().unwrap_or(span);
            for n in 1..totals {
                consider(low + share(high - low, n, totals));
            }
        }
        keep_better(&mut best, own.map(|(_, split)| split), |split| split);
    }
    let best = best.map(|best| improved(instance, best, least_pass).found);
    best.into_iter().collect()
}

fn keep_better<T>(best: &mut Option<T>, other: Option<T>, split: impl Fn(&T) -> &Split) {
    let Some(other) = other else { return };
    if best.as_ref().is_none_or(|known| split(&other).found.key() < split(known).found.key()) {
        *best = Some(other);
    }
}

fn share(of: u64, part: u64, whole: u64) -> u64 {
    u64::try_from(u128::from(of) * u128::from(part) / u128::from(whole.max(1))).unwrap_or(of)
}

/// The candidate that streams about so many bytes.
fn of_total(instance: &Instance, gaps: &Gaps, total: u64, copies: u64) -> Option<Split> {
    let wanted = matching::streamed_bytes(instance, &gaps.gaps, total);
    of_shares(instance, matching::round_to_parts(instance, &wanted), copies)
}

/// The candidate in which these parts stream, each block's share in at most so many copies.
fn of_shares(instance: &Instance, shares: Vec<Share>, copies: u64) -> Option<Split> {
    let groups = instance.uses.iter().zip(&shares).map(|(used, share)| {
        if share.bytes == 0 {
            return Vec::new();
        }
        if used.parts.is_empty() {
            return vec![Group { parts: None, bytes: used.bytes }];
        }
        let groups = matching::groups(&used.parts, share, copies);
        let whole = groups.len() == 1 && share.parts.len() == used.parts.len();
        let group = |parts: Vec<usize>| {
            let bytes = parts.iter().map(|&n| used.parts[n].bytes).sum();
            Group { parts: (!whole).then_some(parts), bytes }
        };
        groups.into_iter().map(group).collect()
    });
    let choice = Choice { groups: groups.collect(), window: Bytes::ZERO };
    let found = choice.with_window_left(instance)?.evaluate(instance)?;
    Some(Split { shares, copies, found })
}

/// Local search: a tensor more stays, one more streams, or two of different blocks change places.
fn improved(instance: &Instance, start: Split, least_pass: u128) -> Split {
    let mut best = start;
    let nodes = best.found.ring.placed.len() + instance.uses.len();
    let mut left = SEARCH_WORK / nodes.max(1);
    let mut found = true;
    while found
        && left > 0
        && best.found.pass.ceil().get() > u64::try_from(least_pass).unwrap_or(u64::MAX)
    {
        found = false;
        let changes: Vec<_> = exchanges(instance, &best.shares).collect();
        for (from, to) in changes {
            let mut shares = best.shares.clone();
            if let Some((block, part)) = from {
                toggle(instance, &mut shares, block, part);
            }
            if let Some((block, part)) = to {
                toggle(instance, &mut shares, block, part);
            }
            left = left.saturating_sub(1);
            let other = of_shares(instance, shares, best.copies);
            if let Some(other) = other.filter(|other| other.found.key() < best.found.key()) {
                best = other;
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

fn toggle(instance: &Instance, shares: &mut [Share], block: usize, part: usize) {
    let bytes = instance.uses[block].parts[part].bytes.get();
    let share = &mut shares[block];
    match share.parts.binary_search(&part) {
        Ok(at) => {
            share.parts.remove(at);
            share.bytes -= bytes;
        }
        Err(at) => {
            share.parts.insert(at, part);
            share.bytes += bytes;
        }
    }
}

/// A tensor of a block.
type Tensor = (usize, usize);

/// Changes to try: single tensors first, then a streamed one against a resident one of about its size, blocks near
/// each other first. Of equal tensors of a block one stands for all.
fn exchanges(
    instance: &Instance,
    shares: &[Share],
) -> impl Iterator<Item = (Option<Tensor>, Option<Tensor>)> {
    let distinct = |block: usize, streamed: bool| -> Vec<Tensor> {
        let parts = &instance.uses[block].parts;
        let mut sizes: Vec<(u64, usize)> = (0..parts.len())
            .filter(|n| shares[block].parts.binary_search(n).is_ok() == streamed)
            .map(|n| (parts[n].bytes.get(), n))
            .collect();
        sizes.sort_unstable_by(|a, b| b.cmp(a));
        sizes.dedup_by_key(|(size, _)| *size);
        // Small tensors change nothing that can be measured.
        let largest = sizes.first().map_or(0, |&(size, _)| size);
        sizes
            .into_iter()
            .filter(|&(size, _)| size * 16 > largest)
            .map(|(_, n)| (block, n))
            .collect()
    };
    let count = shares.len();
    let leaving: Vec<Vec<Tensor>> = (0..count).map(|block| distinct(block, true)).collect();
    let coming: Vec<Vec<Tensor>> = (0..count).map(|block| distinct(block, false)).collect();
    let single: Vec<_> = leaving.iter().flatten().map(|&t| (Some(t), None)).collect();
    let more: Vec<_> = coming.iter().flatten().map(|&t| (None, Some(t))).collect();
    let size = |(block, part): Tensor| instance.uses[block].parts[part].bytes.get();
    let mut pairs = Vec::new();
    for distance in 1..count.min(64) {
        for block in 0..count {
            for &out in &leaving[block] {
                let near = |&&other: &&Tensor| size(other).abs_diff(size(out)) * 4 <= size(out);
                let other = coming[(block + distance) % count].iter().find(near);
                pairs.extend(other.map(|&other| (Some(out), Some(other))));
            }
        }
    }
    single.into_iter().chain(more).chain(pairs)
}
