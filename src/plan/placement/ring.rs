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

use super::{Before, Layout, Placement, Streamed, later};

/// Passes after which places must repeat for the ring to run on from pass to pass.
const MOST_PLACES: usize = 8;

/// Passes of which a window may hold all copies; a plan can name so many passes back.
const MOST_LAPS: u64 = 12;

/// Places pieces, in order of use, around a window of so many bytes. None when the window cannot hold all of a
/// block at once.
pub fn ring(pieces: &[Streamed], window: u64) -> Option<Placement> {
    if pieces.iter().any(|piece| piece.bytes > window) {
        return None;
    }
    // A window that holds the copies of many passes is no better than a smaller one.
    let pass: u64 = pieces.iter().map(|piece| piece.bytes).sum();
    let window = window.min(pass.saturating_mul(MOST_LAPS));
    let starts = starts(pieces, window).unwrap_or_else(|| vec![0]);
    let layouts: Vec<Layout> =
        starts.iter().map(|&start| offsets(pieces, window, start).collect()).collect();
    let after = waits(pieces, window, &layouts)?;
    Some(Placement::new(pieces, layouts, after))
}

/// What each piece waits for: over all layouts, the latest use whose bytes it takes. None where that would be its
/// own.
///
/// Laid out on a tape that runs on from window to window, a piece at `[s, e)` takes the bytes of every earlier one
/// that begins before `e − window`. Pieces begin in order, so one pointer finds the last of them.
fn waits(pieces: &[Streamed], window: u64, layouts: &[Layout]) -> Option<Vec<Option<Before>>> {
    let count = pieces.len();
    let pass: u64 = pieces.iter().map(|piece| piece.bytes).sum::<u64>().max(1);
    // Until the window has been filled, then once over every layout.
    let laps = usize::try_from(window / pass).unwrap_or(usize::MAX).saturating_add(1);
    let mut after = vec![None; count];
    let mut placed: Vec<(u64, usize, usize)> = Vec::with_capacity((layouts.len() + laps) * count);
    let (mut lap, mut tape, mut gone) = (0u64, 0u64, 0usize);
    for round in 0..layouts.len() + laps {
        for (n, (piece, at)) in pieces.iter().zip(&layouts[round % layouts.len()]).enumerate() {
            // The next place on the tape that lies at this offset.
            if lap + at < tape {
                lap += window;
            }
            let (start, end) = (lap + at, lap + at + piece.bytes);
            while placed.get(gone).is_some_and(|&(other, ..)| other + window < end) {
                gone += 1;
            }
            if let Some(&(_, user, of)) = gone.checked_sub(1).and_then(|last| placed.get(last)) {
                if of == round && user == piece.user {
                    return None;
                }
                let back = u32::try_from(round - of).unwrap_or(u32::MAX);
                after[n] = Some(later(after[n], (user, back)));
            }
            placed.push((start, piece.user, round));
            tape = end;
        }
    }
    Some(after)
}

/// The offsets of one pass that begins at `start`.
fn offsets(pieces: &[Streamed], window: u64, start: u64) -> impl Iterator<Item = u64> {
    let mut next = start;
    pieces.iter().map(move |piece| {
        let at = if next + piece.bytes > window { 0 } else { next };
        next = at + piece.bytes;
        at
    })
}

/// Where the passes begin, once that repeats; none when it takes more than [`MOST_PLACES`] passes.
fn starts(pieces: &[Streamed], window: u64) -> Option<Vec<u64>> {
    let mut seen = vec![0];
    for _ in 0..2 * MOST_PLACES {
        let last = seen[seen.len() - 1];
        let end = |(piece, at): (&Streamed, u64)| at + piece.bytes;
        let next = pieces.iter().zip(offsets(pieces, window, last)).last().map_or(last, end);
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
        assert_eq!(ring.placed(0), Placed { at: vec![0, 10], after: Some((1, 1)) });
        assert_eq!(ring.placed(1), Placed { at: vec![10, 0], after: Some((2, 1)) });
        assert_eq!(ring.placed(2), Placed { at: vec![0, 10], after: Some((0, 0)) });
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
            let placed: Vec<Placed> = (0..count).map(|n| ring.placed(n)).collect();
            let period: usize = placed.iter().map(|placed| placed.at.len()).max().expect("some");
            let place_of = |copy: usize| {
                let placed = &placed[copy % count];
                let at = placed.at[(copy / count) % placed.at.len()];
                (at, at + pieces[copy % count].bytes)
            };
            // Copies run in order, so what an earlier one waited for has ended for the later ones, too.
            let mut done = None;
            for copy in 0..count * (2 * period + 4) {
                let (from, to) = place_of(copy);
                prop_assert!(to <= window);
                let waited = placed[copy % count].after;
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
