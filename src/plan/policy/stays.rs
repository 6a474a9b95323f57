//! Turns a resident selector into which units stream, list by list.

use super::recipe::{Lists, Recipe, Stays};
use crate::plan::Unit;
use crate::plan::unit::Piece;

/// Units that follow one another under one manager: one list, or all of them chained.
pub(super) fn rings(recipe: &Recipe, units: &[Piece]) -> Vec<Vec<usize>> {
    let in_list = |n: &usize| !units[*n].is_root() && !units[*n].bytes.is_zero();
    match recipe.lists {
        _ if recipe.unit == Unit::Leaf => {
            vec![(0..units.len()).filter(|&n| !units[n].bytes.is_zero()).collect()]
        }
        Lists::Chained => vec![(0..units.len()).filter(in_list).collect()],
        Lists::Each | Lists::First => {
            let mut rings: Vec<Vec<usize>> = Vec::new();
            for n in (0..units.len()).filter(in_list) {
                let list = units[n].list.unwrap_or(0);
                rings.resize_with(rings.len().max(list + 1), Vec::new);
                rings[list].push(n);
            }
            rings.truncate(if recipe.lists == Lists::First { 1 } else { usize::MAX });
            rings
        }
    }
}

/// By unit: whether it is brought in for each use.
pub(super) fn streams(recipe: &Recipe, units: &[Piece], rings: &[Vec<usize>]) -> Vec<bool> {
    let mut streams = vec![false; units.len()];
    for ring in rings {
        for (k, &n) in ring.iter().enumerate() {
            streams[n] = leaves(recipe.stays, k, ring, units);
        }
    }
    match recipe.stays {
        Stays::Largest(count) => keep_largest(&mut streams, units, count),
        Stays::Strided(_) | Stays::Spread(_) => {
            for ring in rings {
                spread(recipe.stays, ring, &mut streams);
            }
        }
        _ => {}
    }
    if recipe.root_streams && units.first().is_some_and(|u| u.is_root() && !u.bytes.is_zero()) {
        streams[0] = true;
    }
    streams
}

/// Whether the `k`-th of a ring does not stay.
fn leaves(stays: Stays, k: usize, ring: &[usize], units: &[Piece]) -> bool {
    let count = ring.len();
    match stays {
        Stays::Nothing | Stays::Share(_) | Stays::Largest(_) => true,
        Stays::Everything | Stays::Strided(_) | Stays::Spread(_) => false,
        Stays::Leading(first) => k >= first,
        Stays::GroupHeads { group, streamed } => k % group.max(1) + streamed >= group.max(1),
        Stays::Middle(ends) => k < ends || k + ends >= count,
        Stays::Spans { count: kept, bins } => {
            let bins = bins.clamp(1, count.max(1));
            // The bin of k among equal ones, and how far into it k is.
            let bin = (k * bins + bins - 1) / count;
            let bin = if bin * count / bins > k { bin - 1 } else { bin };
            let of_bin = kept / bins + usize::from(bin < kept % bins);
            k - bin * count / bins >= of_bin
        }
        Stays::Smaller(bytes) => units[ring[k]].bytes.get() >= bytes,
    }
}

fn keep_largest(streams: &mut [bool], units: &[Piece], count: usize) {
    let mut by_size: Vec<usize> = (0..units.len()).filter(|&n| streams[n]).collect();
    by_size.sort_by_key(|&n| (std::cmp::Reverse(units[n].bytes), n));
    by_size.into_iter().take(count).for_each(|n| streams[n] = false);
}

fn spread(stays: Stays, ring: &[usize], streams: &mut [bool]) {
    let count = ring.len();
    match stays {
        Stays::Strided(resident) => {
            let streamed = count.saturating_sub(resident);
            for k in 0..streamed {
                // Python's round: halves go to the even neighbour.
                let (whole, rest) = (k * count / streamed, k * count % streamed);
                let up = 2 * rest > streamed || (2 * rest == streamed && whole % 2 == 1);
                streams[ring[(whole + usize::from(up)).min(count - 1)]] = true;
            }
        }
        Stays::Spread(streamed) => {
            let streamed = streamed.min(count);
            for k in 0..streamed {
                streams[ring[(2 * k + 1) * count / (2 * streamed)]] = true;
            }
        }
        _ => {}
    }
}

/// Of a unit's tensors, those that stay when a share of each unit does: a tensor whose middle lies within the last
/// `share` per cent of the unit's bytes (FlexGen's `init_weight_list`). An indivisible unit is one tensor.
pub(super) fn share_of(unit: &Piece, share: u64) -> Vec<bool> {
    let whole = u128::from(unit.bytes.get());
    let mut before = 0u128;
    let one = [unit.bytes];
    let sizes: Vec<u64> = match unit.tensors.is_empty() {
        true => one.iter().map(|bytes| bytes.get()).collect(),
        false => unit.tensors.iter().map(|tensor| tensor.bytes.get()).collect(),
    };
    let stays = |size: u64| {
        let middle = 2 * before + u128::from(size);
        before += u128::from(size);
        100 * middle >= 2 * whole * u128::from(100 - share.min(100)) && share > 0
    };
    sizes.into_iter().map(stays).collect()
}
