//! Turns the times at which streamed bytes are live into offsets in the window.
//!
//! A place is held from the end of the use that a copy waits for until the end of the use that releases it: both
//! are certain by order alone, so the offsets are safe whatever the times. The offsets of a unit may differ from
//! pass to pass, in turn, as slots do when their number does not divide that of the streamed units.

use super::flow::{Arc, signed};

/// Passes after which offsets must have begun to repeat; otherwise one offset per unit is kept for all passes.
const PASSES: i64 = 48;

/// One unit's bytes and when they are live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Live {
    pub(super) bytes: u64,
    pub(super) from: i64,
    pub(super) until: i64,
}

impl Live {
    pub(super) fn of(arc: &Arc, bytes: u64) -> Self {
        Self { bytes, from: arc.gate, until: signed(arc.until) }
    }
}

/// The bytes of a window, and by unit its offsets in it, pass after pass in turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Placed {
    pub(super) bytes: u64,
    pub(super) at: Vec<Vec<u64>>,
}

/// Places where units fit while they are live; `count` uses make a pass.
pub(super) fn fitted(lives: &[Live], count: i64) -> Placed {
    match repeating(lives, count) {
        Some(placed) if placed.bytes <= most_live(lives, count) => placed,
        Some(placed) => {
            let fixed = fixed(lives, count);
            if fixed.bytes < placed.bytes { fixed } else { placed }
        }
        None => fixed(lives, count),
    }
}

/// The most bytes that are live at once.
fn most_live(lives: &[Live], count: i64) -> u64 {
    let index = |at: i64| usize::try_from(at).unwrap_or(0);
    // Over two passes, since a unit's bytes may come in the pass before its own: gains and losses by use.
    let mut change = vec![0i128; index(2 * count + 1)];
    for live in lives {
        change[index(live.from + 1 + count)] += i128::from(live.bytes);
        change[index(live.until + 1 + count)] -= i128::from(live.bytes);
    }
    let mut sum = 0;
    for at in &mut change {
        sum += *at;
        *at = sum;
    }
    let pass = index(count);
    let most = (0..pass).map(|n| change[n] + change[n + pass]).max().unwrap_or(0);
    u64::try_from(most).unwrap_or(u64::MAX)
}

/// What is held: offset, end, the use that releases it, the unit.
type Held = (u64, u64, i64, usize);

/// First fit in order of time, until the offsets repeat.
fn repeating(lives: &[Live], count: i64) -> Option<Placed> {
    let mut order: Vec<usize> = (0..lives.len()).collect();
    order.sort_by_key(|&n| (lives[n].from.rem_euclid(count), n));
    let mut held: Vec<Held> = Vec::new();
    let mut offsets: Vec<Vec<u64>> = vec![Vec::new(); lives.len()];
    let mut seen: Vec<Vec<(u64, usize, i64)>> = Vec::new();
    // One round of uses after another; what serves the first pass may come in the round before it.
    for round in -1..PASSES {
        if round > 0 {
            let boundary = round * count;
            held.retain(|&(.., release, _)| release >= boundary);
            let state = held.iter().map(|&(at, _, release, unit)| (at, unit, release - boundary));
            let state: Vec<(u64, usize, i64)> = state.collect();
            if let Some(first) = seen.iter().position(|known| *known == state) {
                return Some(cycle(lives, &offsets, first + 1, seen.len() + 1));
            }
            seen.push(state);
        }
        for &n in &order {
            let live = &lives[n];
            let pass = round - live.from.div_euclid(count);
            if pass >= 0 {
                offsets[n].push(hold(&mut held, n, live, pass * count));
            }
        }
    }
    None
}

/// Puts a unit at the lowest place that is free when it comes.
fn hold(held: &mut Vec<Held>, unit: usize, live: &Live, shift: i64) -> u64 {
    let now = live.from + shift;
    held.retain(|&(.., release, _)| release > now);
    let mut at = 0;
    for &(start, end, ..) in held.iter() {
        if at + live.bytes <= start {
            break;
        }
        at = at.max(end);
    }
    let place = held.partition_point(|&(start, ..)| start < at);
    held.insert(place, (at, at + live.bytes, live.until + shift, unit));
    at
}

/// The offsets of the passes `first..end`, which repeat.
fn cycle(lives: &[Live], offsets: &[Vec<u64>], first: usize, end: usize) -> Placed {
    let mut at: Vec<Vec<u64>> = Vec::with_capacity(lives.len());
    let mut bytes = 0;
    for (live, all) in lives.iter().zip(offsets) {
        // The pass after the boundary may have been placed before it; all of `first..end` have.
        let mut own: Vec<u64> = all.get(first..end.min(all.len())).unwrap_or(&[]).to_vec();
        own.iter().for_each(|at| bytes = bytes.max(at + live.bytes));
        if own.windows(2).all(|pair| pair[0] == pair[1]) {
            own.truncate(1);
        }
        at.push(own);
    }
    Placed { bytes, at }
}

/// One offset per unit for all passes: the largest first, each as low as it fits.
fn fixed(lives: &[Live], count: i64) -> Placed {
    let mut order: Vec<usize> = (0..lives.len()).collect();
    order.sort_by_key(|&n| (std::cmp::Reverse(lives[n].bytes), n));
    let mut placed: Vec<(usize, u64)> = Vec::new();
    let mut at = vec![vec![0]; lives.len()];
    let mut bytes = 0;
    for n in order {
        let mut taken: Vec<(u64, u64)> = placed
            .iter()
            .filter(|(other, _)| meet(&lives[n], &lives[*other], count))
            .map(|&(other, at)| (at, at + lives[other].bytes))
            .collect();
        taken.sort_unstable();
        let mut offset = 0;
        for (start, end) in taken {
            if offset + lives[n].bytes <= start {
                break;
            }
            offset = offset.max(end);
        }
        placed.push((n, offset));
        at[n] = vec![offset];
        bytes = bytes.max(offset + lives[n].bytes);
    }
    Placed { bytes, at }
}

/// Whether two units are ever live at the same time, in whatever passes.
fn meet(a: &Live, b: &Live, count: i64) -> bool {
    (-1..=1).any(|pass| {
        let shift = pass * count;
        a.from < b.until + shift && b.from + shift < a.until
    })
}

/// Equal buffers of the largest unit, used in turn; how many there are is at most the number of units.
pub(super) fn buffers(lives: &[Live], count: usize) -> Placed {
    let slots = count.clamp(1, lives.len().max(1));
    let slot = lives.iter().map(|live| live.bytes).max().unwrap_or(0);
    let repeat = slots / gcd(lives.len().max(1), slots);
    let offsets = |rank: usize| {
        let slot_of = |pass: usize| ((pass * lives.len() + rank) % slots) as u64;
        (0..repeat).map(|pass| slot_of(pass) * slot).collect()
    };
    let bytes = if lives.is_empty() { 0 } else { slot * slots as u64 };
    Placed { bytes, at: (0..lives.len()).map(offsets).collect() }
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}
