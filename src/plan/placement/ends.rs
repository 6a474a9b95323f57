//! Turns pieces into places that grow from the two ends of the window in turn, one block from each.
//!
//! ```text
//! window   |a─────────────▶r────▶         |      block j comes from the left; what of block j+1 does not reach
//!          |           ◀────r◀───────────a|      into it (a) is copied while j computes, the rest (r) after that
//! ```
//!
//! Where two blocks fit side by side this is a double buffer. Where less fits, only the bytes in the middle are
//! used in turn by both, and they are all that a copy has to wait for; nothing is wasted, whatever the sizes. For
//! equal blocks it reaches the bound but for latency: the window of `b′` blocks' streamed bytes in `theory`,
//! section 4, with `b′ − 1` of them fetched ahead.

use std::collections::VecDeque;

use super::{Before, Layout, Placement, Streamed, later};
use crate::plan::instance::{Instance, Run};

/// Places pieces, in order of use, from both ends of a window of so many bytes. None when the window cannot hold
/// all of a block at once.
pub fn ends(pieces: &[Streamed], window: u64, alignment: u64) -> Option<Placement> {
    // From the right end, pieces begin at multiples of the alignment only if the end is one.
    let window = window - window % alignment.max(1);
    let blocks: Vec<&[Streamed]> = pieces.chunk_by(|a, b| a.user == b.user).collect();
    let bytes = |block: &[Streamed]| block.iter().map(|piece| piece.bytes).sum::<u64>();
    if blocks.iter().any(|block| bytes(block) > window) {
        return None;
    }
    // With an odd number of blocks each comes from the other end in the next pass.
    let layout = |pass: usize| -> Layout {
        let turns = blocks.iter().enumerate().flat_map(|(n, block)| {
            let left = (pass * blocks.len() + n).is_multiple_of(2);
            let mut filled = 0;
            block.iter().map(move |piece| {
                let before = filled;
                filled += piece.bytes;
                if left { before } else { window - filled }
            })
        });
        turns.collect()
    };
    let passes = 1 + blocks.len() % 2;
    let layouts: Vec<Layout> = (0..passes).map(layout).collect();
    let after = waits(pieces, &layouts)?;
    Some(Placement::new(pieces, layouts, after))
}

/// What each piece waits for: over all places, the latest use whose bytes it takes. None where that would be its own.
fn waits(pieces: &[Streamed], layouts: &[Layout]) -> Option<Vec<Option<Before>>> {
    let mut after: Vec<Option<Before>> = vec![None; pieces.len()];
    let mut live: VecDeque<(u64, u64, usize, usize)> = VecDeque::new();
    // At most two blocks are there at once: after two passes every place has had its former holder.
    for round in 0..layouts.len() + 2 {
        for (n, piece) in pieces.iter().enumerate() {
            let from = layouts[round % layouts.len()][n];
            let to = from + piece.bytes;
            let overlapped = live.iter().rposition(|&(a, b, ..)| a < to && from < b);
            if let Some(last) = overlapped {
                let (_, _, user, then) = live[last];
                live.drain(..=last);
                let back = round - then;
                if back == 0 && user == piece.user {
                    return None;
                }
                let wait = (user, u32::try_from(back).unwrap_or(u32::MAX));
                after[n] = Some(later(after[n], wait));
            }
            live.push_back((from, to, piece.user, round));
        }
    }
    Some(after)
}

/// Divides the streamed tail of each block into what fits beside the block before and the rest. `tails` has where
/// the tail of each use begins; a use whose tail is empty stays.
pub fn divide(instance: &Instance, tails: &[u64], window: u64) -> Vec<Vec<Run>> {
    let alignment = instance.device.alignment.max(1);
    let window = window - window % alignment;
    let streamed: Vec<usize> =
        (0..tails.len()).filter(|&n| tails[n] < instance.uses[n].bytes.get()).collect();
    let mut copies = vec![Vec::new(); tails.len()];
    let taken = |runs: &[Run]| -> u64 {
        runs.iter().map(|run| run.bytes().align_up(alignment).get()).sum()
    };
    // Twice around: the first block follows the last, whose division is known only then.
    let mut beside = 0;
    for &n in streamed.iter().chain(&streamed) {
        let used = &instance.uses[n];
        let all = Run { from: tails[n], to: used.bytes.get() };
        let free = window.saturating_sub(beside);
        let cut = used.cut_before(all.from.saturating_add(free));
        copies[n] = if all.bytes().align_up(alignment).get() <= free || cut <= all.from {
            vec![all]
        } else {
            vec![Run { to: cut, ..all }, Run { from: cut, ..all }]
        };
        beside = taken(&copies[n]);
    }
    copies
}

#[cfg(test)]
mod tests {
    use super::super::Placed;
    use super::*;

    fn piece(user: usize, bytes: u64) -> Streamed {
        Streamed { user, bytes, copy: bytes }
    }

    fn all(places: &Placement) -> Vec<Placed> {
        (0..places.after.len()).map(|n| places.placed(n)).collect()
    }

    #[test]
    fn two_blocks_side_by_side_are_a_double_buffer() {
        let pieces = [piece(0, 10), piece(1, 8), piece(2, 10), piece(3, 6)];
        let places = ends(&pieces, 20, 1).expect("fits");
        let of = |at, after| Placed { at: vec![at], after: Some(after) };
        assert_eq!(all(&places), [of(0, (2, 1)), of(12, (3, 1)), of(0, (0, 0)), of(14, (1, 0))]);
    }

    #[test]
    fn bytes_in_the_middle_wait_for_the_block_before() {
        let pieces = [piece(0, 4), piece(0, 6), piece(1, 4), piece(1, 6)];
        let places = ends(&pieces, 14, 1).expect("fits");
        let of = |at, after| Placed { at: vec![at], after: Some(after) };
        assert_eq!(all(&places), [of(0, (0, 1)), of(4, (1, 1)), of(10, (1, 1)), of(4, (0, 0))]);
        assert_eq!(places.window, 14);
    }

    #[test]
    fn an_odd_number_of_blocks_changes_ends_from_pass_to_pass() {
        let pieces = [piece(0, 4), piece(1, 4), piece(2, 4)];
        let places = ends(&pieces, 8, 1).expect("fits");
        assert_eq!(places.placed(1), Placed { at: vec![4, 0], after: Some((2, 1)) });
        assert_eq!(ends(&pieces, 3, 1), None);
    }

    #[test]
    fn what_does_not_fit_beside_the_block_before_is_a_copy_of_its_own() {
        let mut instance = Instance::equal(3, 100, 10, 0);
        for used in &mut instance.uses {
            let row = crate::units::Bytes::new(10);
            let bytes = crate::units::Bytes::new(100);
            used.parts = vec![crate::plan::BlockPart::rows("t", bytes, row)];
        }
        // Tails of 60 in a window of 95: 35 are free beside the block before, 30 in whole rows.
        let copies = divide(&instance, &[40; 3], 95);
        assert_eq!(copies[1], [Run { from: 40, to: 70 }, Run { from: 70, to: 100 }]);
        assert_eq!(divide(&instance, &[40; 3], 120)[1], [Run { from: 40, to: 100 }]);
        assert_eq!(divide(&instance, &[40, 100, 40], 95)[1], []);
    }
}
