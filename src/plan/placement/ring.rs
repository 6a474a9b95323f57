//! Turns pieces into places that follow one another around the window: a ring of bytes.
//!
//! Pieces are placed one after the other, in the order of their copies, which is the order of their use; a piece
//! that does not fit before the end of the ring goes to its start. Allocation and release are both in copy order,
//! so the ring never fragments; what it wastes is less than a piece at the wrap.
//!
//! ```text
//! window   |--- a ---|-- b --|---- c ----|~~~~|      d does not fit into the rest: it goes to the start and waits
//!          |--- d ---|                               for the use of a, the last piece it overlaps
//! ```
//!
//! Where the ring continues from pass to pass, a piece's places repeat after a few passes; where that takes too
//! long, every pass begins at the start of the ring again.

use super::{Layout, MOST_PLACES, Placement, Streamed, placement};

/// Places pieces, in order of use, around a window of so many bytes. None when the window cannot hold all of a
/// block at once.
pub fn ring(pieces: &[Streamed], window: u64) -> Option<Placement> {
    if pieces.iter().any(|piece| piece.bytes > window) {
        return None;
    }
    let starts = starts(pieces, window).unwrap_or_else(|| vec![0]);
    let layouts: Vec<Layout> =
        starts.iter().map(|&start| offsets(pieces, window, start).0).collect();
    placement(pieces, &layouts)
}

/// The offsets of one pass that begins at `start`, and where the next one would.
fn offsets(pieces: &[Streamed], window: u64, start: u64) -> (Layout, u64) {
    let mut next = start;
    let offsets = pieces.iter().map(|piece| {
        let at = if next + piece.bytes > window { 0 } else { next };
        next = at + piece.bytes;
        at
    });
    (offsets.collect(), next)
}

/// Where the passes begin, once that repeats; none when it takes more than [`MOST_PLACES`] passes.
fn starts(pieces: &[Streamed], window: u64) -> Option<Vec<u64>> {
    let mut seen = vec![0];
    for _ in 0..2 * MOST_PLACES {
        let last = seen[seen.len() - 1];
        let next = offsets(pieces, window, last).1;
        // Where nothing fits behind, the next pass begins at the start of the ring.
        let fits = pieces.first().is_none_or(|first| next + first.bytes <= window);
        let next = if fits { next } else { 0 };
        if let Some(first) = seen.iter().position(|&start| start == next) {
            let cycle = seen.split_off(first);
            return Some(cycle).filter(|cycle| cycle.len() <= MOST_PLACES);
        }
        seen.push(next);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::{Placed, Streamed};
    use super::*;
    use proptest::prelude::*;

    fn pieces(sizes: &[u64]) -> Vec<Streamed> {
        let of = |(user, &bytes): (usize, &u64)| Streamed { user, bytes, copy: bytes };
        sizes.iter().enumerate().map(of).collect()
    }

    #[test]
    fn equal_pieces_rotate_through_slots() {
        let ring = ring(&pieces(&[10; 3]), 25).expect("fits");
        assert_eq!(ring.window, 20);
        assert_eq!(ring.placed[0], Placed { at: vec![0, 10], after: Some((1, 1)) });
        assert_eq!(ring.placed[1], Placed { at: vec![10, 0], after: Some((2, 1)) });
        assert_eq!(ring.placed[2], Placed { at: vec![0, 10], after: Some((0, 0)) });
    }

    #[test]
    fn a_block_that_does_not_fit_at_once_is_refused() {
        let same = |bytes| Streamed { user: 0, bytes, copy: 1 };
        assert_eq!(ring(&[same(6), same(6)], 11), None);
        assert!(ring(&[same(6), same(6)], 12).is_some());
        assert_eq!(ring(&pieces(&[12]), 11), None);
    }

    proptest! {
        /// Between the wait and the next use nothing that lies in the same bytes is still needed.
        #[test]
        fn no_piece_overlaps_what_is_still_to_be_used(
            sizes in prop::collection::vec(1u64..40, 1..20),
            extra in 0u64..80,
        ) {
            let pieces = pieces(&sizes);
            let window = sizes.iter().max().expect("some") + extra;
            let ring = ring(&pieces, window).expect("one piece per use always fits");
            prop_assert!(ring.window <= window);
            let count = pieces.len();
            let period: usize = ring.placed.iter().map(|placed| placed.at.len()).max().expect("some");
            let place_of = |copy: usize| {
                let placed = &ring.placed[copy % count];
                let at = placed.at[(copy / count) % placed.at.len()];
                (at, at + pieces[copy % count].bytes)
            };
            // Copies run in order, so what an earlier one waited for has ended for the later ones, too.
            let mut done = None;
            for copy in 0..count * (2 * period + 4) {
                let (from, to) = place_of(copy);
                prop_assert!(to <= window);
                let waited = ring.placed[copy % count].after;
                let waited = waited.and_then(|(user, back)| {
                    Some((copy / count).checked_sub(back as usize)? * count + user)
                });
                done = done.max(waited);
                for other in copy.saturating_sub(2 * count)..copy {
                    let (a, b) = place_of(other);
                    let overlaps = a < to && from < b;
                    prop_assert!(!overlaps || done.is_some_and(|done| other <= done), "copy {} over {}", copy, other);
                }
            }
        }
    }
}
