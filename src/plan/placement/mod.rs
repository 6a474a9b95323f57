//! Turns streamed pieces in order of use and a window into places, waits and the event graph of a pass.
//!
//! There are two ways to lay pieces out. In a **ring** ([`ring()`]) they follow one another around the window, so
//! copies may run ahead by as many uses as fit. From **two ends** ([`ends()`]) blocks take turns, and each grows
//! towards the other until they overlap; that wastes nothing where about two blocks fit, whatever their sizes.
//! Either way the waits follow from the places alone (`waits`): a copy waits for the last use of whatever lies
//! where it goes.

mod ends;
mod ring;

use std::collections::VecDeque;

use super::cycle::{Graph, Ratio};
use super::instance::Instance;

pub use ends::{divide, ends};
pub use ring::ring;

/// Passes after which places must repeat.
pub const MOST_PLACES: usize = 12;

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
pub struct Placement {
    /// By piece, in the order given.
    pub placed: Vec<Placed>,
    /// The bytes that are really used: the highest end.
    pub window: u64,
}

/// Where the pieces of one pass lie, by piece.
type Layout = Vec<u64>;

/// The placement in which passes take turns in these layouts. None when a piece would have to wait for its own use,
/// because the window cannot hold all of a block at once.
fn placement(pieces: &[Streamed], layouts: &[Layout]) -> Option<Placement> {
    let after = waits(pieces, layouts)?;
    let end = |(piece, at): (&Streamed, &u64)| at + piece.bytes;
    let highest = layouts.iter().filter_map(|at| pieces.iter().zip(at).map(end).max()).max();
    let placed = (0..pieces.len()).map(|n| {
        let mut at: Vec<u64> = layouts.iter().map(|layout| layout[n]).collect();
        if at.iter().all(|&place| place == at[0]) {
            at.truncate(1);
        }
        Placed { at, after: after[n] }
    });
    Some(Placement { placed: placed.collect(), window: highest.unwrap_or(0) })
}

/// What each piece waits for: over all places, the latest use whose bytes it takes.
fn waits(pieces: &[Streamed], layouts: &[Layout]) -> Option<Vec<Option<Before>>> {
    let mut after: Vec<Option<Before>> = vec![None; pieces.len()];
    let mut live: VecDeque<(u64, u64, usize, usize)> = VecDeque::new();
    // Until the window has been filled and lapped, then once more over every layout.
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
pub fn steady(instance: &Instance, pieces: &[Streamed], places: &Placement) -> Ratio {
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
    for (placed, &copy) in places.placed.iter().zip(&copies) {
        if let Some((user, back)) = placed.after {
            graph.arc(computes[user], copy, back);
        }
    }
    graph.steady_from(Ratio::per_pass(busy.max(compute))).0
}
