//! Turns streamed pieces in order of use and a window into places, waits and the event graph of a pass.
//!
//! There are two ways to lay pieces out. In a **ring** ([`ring()`]) they follow one another around the window, so
//! copies may run ahead by as many uses as fit. From **two ends** ([`ends()`]) blocks take turns, and each grows
//! towards the other until they overlap; that wastes nothing where about two blocks fit, whatever their sizes.
//! Either way a copy waits for the last use of whatever lies where it goes.

mod ends;
mod ring;

use super::cycle::{Graph, Ratio};
use super::instance::Instance;

pub use ends::{divide, ends};
pub use ring::ring;

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
    /// Where the pieces lie, in layouts that passes take turns in.
    layouts: Vec<Layout>,
    /// By piece, in the order given: what frees its bytes.
    after: Vec<Option<Before>>,
    /// The bytes that are really used: the highest end.
    pub window: u64,
}

/// Where the pieces of one pass lie, by piece.
type Layout = Vec<u64>;

impl Placement {
    /// Passes take turns in these layouts, given what each piece waits for by its place alone.
    fn new(pieces: &[Streamed], layouts: Vec<Layout>, mut after: Vec<Option<Before>>) -> Self {
        make_explicit(&mut after);
        let end = |(piece, at): (&Streamed, &u64)| at + piece.bytes;
        let highest = layouts.iter().filter_map(|at| pieces.iter().zip(at).map(end).max()).max();
        Self { layouts, after, window: highest.unwrap_or(0) }
    }

    /// By piece: what frees its bytes.
    pub fn after(&self) -> &[Option<Before>] {
        &self.after
    }

    /// A piece in its places, in the order given.
    pub fn placed(&self, n: usize) -> Placed {
        let mut at: Vec<u64> = self.layouts.iter().map(|layout| layout[n]).collect();
        if at.iter().all(|&place| place == at[0]) {
            at.truncate(1);
        }
        Placed { at, after: self.after[n] }
    }
}

/// The later of two waits: fewer passes back, and within a pass the later use.
fn later(known: Option<Before>, other: Before) -> Before {
    let when = |(user, back): Before| (std::cmp::Reverse(back), user);
    known.map_or(other, |known| if when(known) >= when(other) { known } else { other })
}

/// Copies run in order, so each also waits for what the ones before it waited for. Saying so costs nothing and
/// keeps a plan safe in a runtime that issues copies on several streams.
fn make_explicit(after: &mut [Option<Before>]) {
    let mut latest: Option<(i64, usize)> = None;
    for round in 0..2i64 {
        for wait in after.iter_mut() {
            let own = wait.map(|(user, back)| (round - i64::from(back), user));
            latest = latest.max(own);
            if round == 1 {
                let back = |pass: i64| u32::try_from(round - pass).unwrap_or(0);
                *wait = latest.map(|(pass, user)| (user, back(pass)));
            }
        }
    }
}

/// The pass time of pieces in their places: the event graph of copies and computes, without building a plan.
///
/// Equal to the time of the plan that is made of them; a property test holds the two together.
pub fn steady(instance: &Instance, pieces: &[Streamed], places: &Placement) -> Ratio {
    let uses = &instance.uses;
    let nodes = uses.len() + pieces.len();
    let mut graph = Graph::with_capacity(nodes, 2 * nodes);
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
        computes.push(graph.node(used.compute.get()));
    }
    // By the operation that waits, in order: the graph is sorted as it is made.
    let mut next = 0;
    for (n, &node) in computes.iter().enumerate() {
        while next < pieces.len() && pieces[next].user == n {
            follow(&mut graph, &copies, next);
            if let Some((user, back)) = places.after[next] {
                graph.arc(computes[user], copies[next], back);
            }
            next += 1;
        }
        follow(&mut graph, &computes, n);
        // Copies run in order, so the last of a use's pieces brings the rest along.
        if next > 0 && pieces[next - 1].user == n {
            graph.arc(copies[next - 1], node, 0);
        }
    }
    graph.steady_from(Ratio::per_pass(busy.max(compute)))
}

/// An operation runs after the one before it on its lane, the first after the last of the pass before.
fn follow(graph: &mut Graph, lane: &[usize], n: usize) {
    match n.checked_sub(1) {
        Some(before) => graph.arc(lane[before], lane[n], 0),
        None => graph.arc(lane[lane.len() - 1], lane[0], 1),
    }
}
