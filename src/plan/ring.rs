//! Turns streamed pieces in order of use and a window into places, waits and the event graph of a pass.
//!
//! The window is a ring of bytes. Pieces are placed one after the other, in the order of their copies, which is
//! the order of their use; a piece that does not fit before the end of the ring goes to its start. Allocation and
//! release are both in copy order, so the ring never fragments; what it wastes is less than a piece at the wrap.
//!
//! ```text
//! window   |--- a ---|-- b --|---- c ----|~~~~|      d does not fit into the rest: it goes to the start and waits
//!          |--- d ---|                               for the use of a, the last piece it overlaps
//! ```
//!
//! Where the ring continues from pass to pass, a piece's places repeat after a few passes; where that takes too
//! long, every pass begins at the start of the ring again.

use std::collections::VecDeque;

use super::cycle::{Graph, Ratio};
use super::instance::Instance;

/// Passes after which places must repeat for the ring to run on from pass to pass.
const MOST_PLACES: usize = 12;

/// A piece that is copied for every use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Streamed {
    /// The use it is for.
    pub user: usize,
    /// Bytes it takes in the window, aligned.
    pub bytes: u64,
    /// The time of its copy.
    pub copy: u64,
}

/// A use, and how many passes before.
pub type Before = (usize, u32);

/// Where a piece lies, and what frees those bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// Offsets in the window, one per pass, used in turn.
    pub at: Vec<u64>,
    /// The use that must have ended before the copy may start; none where nothing else ever lies there.
    pub after: Option<Before>,
}

/// All pieces in their places.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ring {
    /// By piece, in the order given.
    pub placed: Vec<Placed>,
    /// The bytes that are really used: the highest end.
    pub window: u64,
}

/// Places pieces, in order of use, in a window of so many bytes. None when a piece would have to wait for its own
/// use, because the window cannot hold all of a block at once.
pub fn place(pieces: &[Streamed], window: u64) -> Option<Ring> {
    if pieces.iter().any(|piece| piece.bytes > window) {
        return None;
    }
    let starts = starts(pieces, window).unwrap_or_else(|| vec![0]);
    let layouts: Vec<Vec<u64>> =
        starts.iter().map(|&start| offsets(pieces, window, start).0).collect();
    let after = waits(pieces, &layouts)?;
    let end = |(piece, at): (&Streamed, &u64)| at + piece.bytes;
    let highest = layouts.iter().filter_map(|at| pieces.iter().zip(at).map(end).max()).max();
    let placed = (0..pieces.len()).map(|n| {
        let mut at: Vec<u64> = layouts.iter().map(|layout| layout[n]).collect();
        if at.iter().all(|&place| place == at[0]) {
            at.truncate(1);
        }
        Placed { at, after: after[n] }
    });
    Some(Ring { placed: placed.collect(), window: highest.unwrap_or(0) })
}

/// The offsets of one pass that begins at `start`, and where the next one would.
fn offsets(pieces: &[Streamed], window: u64, start: u64) -> (Vec<u64>, u64) {
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

/// What each piece waits for: over all places, the latest use whose bytes it takes.
fn waits(pieces: &[Streamed], layouts: &[Vec<u64>]) -> Option<Vec<Option<Before>>> {
    let mut after: Vec<Option<Before>> = vec![None; pieces.len()];
    let mut live: VecDeque<(u64, u64, usize, usize)> = VecDeque::new();
    // Until the ring has been filled and lapped, then once more over every layout.
    let pass: u64 = pieces.iter().map(|piece| piece.bytes).sum::<u64>().max(1);
    let highest = pieces.iter().zip(&layouts[0]).map(|(piece, at)| at + piece.bytes).max();
    let laps = usize::try_from(highest.unwrap_or(0) / pass).unwrap_or(usize::MAX).min(MOST_PLACES);
    for round in 0..layouts.len() * (laps + 3) {
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
                let known = after[n];
                let wait = (user, u32::try_from(back).unwrap_or(u32::MAX));
                // Fewer passes back is later; within a pass, the later use.
                let later = |(user, back): Before| (std::cmp::Reverse(back), user);
                if known.is_none_or(|known| later(wait) > later(known)) {
                    after[n] = Some(wait);
                }
            }
            live.push_back((from, to, piece.user, round));
        }
    }
    Some(explicit(after))
}

/// Copies run in order, so each also waits for what the ones before it waited for. Saying so costs nothing and
/// keeps a plan safe in a runtime that issues copies on several streams.
fn explicit(mut after: Vec<Option<Before>>) -> Vec<Option<Before>> {
    let mut latest: Option<(i64, usize)> = None;
    for round in 0..2i64 {
        for wait in &mut after {
            let own = wait.map(|(user, back)| (round - i64::from(back), user));
            latest = latest.max(own);
            if round == 1 {
                let back = |pass: i64| u32::try_from(round - pass).unwrap_or(0);
                *wait = latest.map(|(pass, user)| (user, back(pass)));
            }
        }
    }
    after
}

/// The pass time of pieces in their places: the event graph of copies and computes, without building a plan.
///
/// Equal to the time of the plan that is made of them; a property test holds the two together.
pub fn steady(instance: &Instance, pieces: &[Streamed], ring: &Ring) -> Ratio {
    let uses = &instance.uses;
    let mut graph =
        Graph::with_capacity(uses.len() + pieces.len(), 2 * (uses.len() + pieces.len()));
    let (mut next, mut busy, mut compute) = (0, 0u128, 0u128);
    let mut computes = Vec::with_capacity(uses.len());
    let mut copies = Vec::with_capacity(pieces.len());
    for (n, used) in uses.iter().enumerate() {
        while next < pieces.len() && pieces[next].user == n {
            busy += u128::from(pieces[next].copy);
            copies.push(graph.node(pieces[next].copy));
            next += 1;
        }
        compute += u128::from(used.compute.get());
        let node = graph.node(used.compute.get());
        // Copies run in order, so the last of a use's pieces brings the rest along.
        if next > 0 && pieces[next - 1].user == n {
            graph.arc(copies[next - 1], node, 0);
        }
        computes.push(node);
    }
    for chain in [&copies, &computes] {
        for pair in chain.windows(2) {
            graph.arc(pair[0], pair[1], 0);
        }
        if let (Some(&first), Some(&last)) = (chain.first(), chain.last()) {
            graph.arc(last, first, 1);
        }
    }
    for (placed, &copy) in ring.placed.iter().zip(&copies) {
        if let Some((user, back)) = placed.after {
            graph.arc(computes[user], copy, back);
        }
    }
    graph.steady_from(Ratio::per_pass(busy.max(compute))).0
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pieces(sizes: &[u64]) -> Vec<Streamed> {
        let of = |(user, &bytes): (usize, &u64)| Streamed { user, bytes, copy: bytes };
        sizes.iter().enumerate().map(of).collect()
    }

    #[test]
    fn equal_pieces_rotate_through_slots() {
        let ring = place(&pieces(&[10; 3]), 25).expect("fits");
        assert_eq!(ring.window, 20);
        assert_eq!(ring.placed[0], Placed { at: vec![0, 10], after: Some((1, 1)) });
        assert_eq!(ring.placed[1], Placed { at: vec![10, 0], after: Some((2, 1)) });
        assert_eq!(ring.placed[2], Placed { at: vec![0, 10], after: Some((0, 0)) });
    }

    #[test]
    fn a_block_that_does_not_fit_at_once_is_refused() {
        let same = |bytes| Streamed { user: 0, bytes, copy: 1 };
        assert_eq!(place(&[same(6), same(6)], 11), None);
        assert!(place(&[same(6), same(6)], 12).is_some());
        assert_eq!(place(&pieces(&[12]), 11), None);
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
            let ring = place(&pieces, window).expect("one piece per use always fits");
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
