//! Turns an event graph into its maximum cycle ratio: the least time per pass with which it can be repeated.
//!
//! Nodes are operations with a duration, in an order such that arcs inside a pass run forward. An arc carries how
//! many passes it spans. Newton's method: guess a time per pass, look for a cycle that takes longer than the guess
//! allows, take its ratio as the next guess, until no cycle does. Exact in integers.
//!
//! ```
//! use vramplan::plan::cycle::Graph;
//! // Two operations after each other, and back to the first in the next pass: 3 + 4 per pass.
//! let mut graph = Graph::default();
//! let a = graph.node(3);
//! let b = graph.node(4);
//! graph.arc(a, b, 0);
//! graph.arc(b, a, 1);
//! // A second round trip of 4 + 5 that spans two passes is shorter: 4.5 per pass.
//! let c = graph.node(5);
//! graph.arc(b, c, 1);
//! graph.arc(c, b, 1);
//! assert_eq!(graph.steady().ceil().get(), 7);
//! ```

use std::cmp::Ordering;
use std::ops::{Add, Mul, Sub};

use crate::units::Nanos;

/// A time per pass as an exact ratio: `nanos` in `passes`.
#[derive(Debug, Clone, Copy)]
pub struct Ratio {
    nanos: u128,
    passes: u128,
}

impl Ratio {
    /// So many nanoseconds in each pass.
    pub fn per_pass(nanos: u128) -> Self {
        Self { nanos, passes: 1 }
    }

    /// The nanoseconds and the passes of which it is the quotient.
    pub fn parts(self) -> (u128, u128) {
        (self.nanos, self.passes)
    }

    /// Rounded up to whole nanoseconds, saturating.
    pub fn ceil(self) -> Nanos {
        Nanos::new(u64::try_from(self.nanos.div_ceil(self.passes)).unwrap_or(u64::MAX))
    }
}

impl PartialEq for Ratio {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Ratio {}

impl PartialOrd for Ratio {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Ratio {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.nanos * other.passes).cmp(&(other.nanos * self.passes))
    }
}

/// Operations and what follows what.
#[derive(Debug, Clone, Default)]
pub struct Graph {
    durations: Vec<u64>,
    /// Arcs as (to, from, passes spanned, delay), in any order until they are sorted.
    arcs: Vec<(u32, u32, u32, u64)>,
}

/// Instants, wide enough for a graph.
trait Time: Copy + PartialOrd + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self> {
    /// A time; what does not fit was not to be asked for.
    fn of(nanos: u128) -> Self;
    /// The same in 128 bits.
    fn wide(self) -> i128;
}

impl Time for i64 {
    fn of(nanos: u128) -> Self {
        Self::try_from(nanos).unwrap_or(Self::MAX)
    }

    fn wide(self) -> i128 {
        i128::from(self)
    }
}

impl Time for i128 {
    fn of(nanos: u128) -> Self {
        Self::try_from(nanos).unwrap_or(Self::MAX)
    }

    fn wide(self) -> i128 {
        self
    }
}

/// A set of arcs in which every node has at most one predecessor.
type Chosen = Vec<u32>;

/// No arc chosen.
const NONE: u32 = u32::MAX;

impl Graph {
    /// An empty graph with room for so many nodes and arcs.
    pub fn with_capacity(nodes: usize, arcs: usize) -> Self {
        Self { durations: Vec::with_capacity(nodes), arcs: Vec::with_capacity(arcs) }
    }

    /// Adds an operation that takes so many nanoseconds.
    pub fn node(&mut self, nanos: u64) -> usize {
        self.durations.push(nanos);
        self.durations.len() - 1
    }

    /// `to` starts after `from` of so many passes before. Arcs that span no pass must run forward.
    pub fn arc(&mut self, from: usize, to: usize, passes: u32) {
        self.delayed_arc(from, to, passes, 0);
    }

    /// The same, with at least so many nanoseconds from the end of one to the start of the other.
    pub fn delayed_arc(&mut self, from: usize, to: usize, passes: u32, delay: u64) {
        debug_assert!(passes > 0 || from < to, "an arc inside a pass that runs backward");
        let index = |node: usize| u32::try_from(node).unwrap_or(NONE);
        self.arcs.push((index(to), index(from), passes, delay));
    }

    /// The maximum cycle ratio; zero without cycles.
    pub fn steady(self) -> Ratio {
        self.steady_from(Ratio { nanos: 0, passes: 1 }).0
    }

    /// The maximum cycle ratio, at least the one given, and the instant at which each operation ends when the
    /// pass is repeated with it (in units of a nanosecond over the ratio's passes, from an arbitrary zero).
    pub fn steady_from(mut self, least: Ratio) -> (Ratio, Vec<i128>) {
        self.arcs.sort_unstable();
        let mut ratio = least;
        let mut reach = vec![0i128; self.durations.len()];
        while let Some(better) = self.beats(ratio, &mut reach) {
            ratio = better;
        }
        (ratio, reach)
    }

    /// Longest paths under a guess; the ratio of a cycle that beats it, if there is one.
    ///
    /// In 64 bits where no path can leave them, which is almost always, else in 128.
    fn beats(&self, guess: Ratio, reach: &mut [i128]) -> Option<Ratio> {
        let all: u128 = self.durations.iter().map(|&own| u128::from(own)).sum();
        let of_arc = |&(to, _, _, delay): &(u32, u32, u32, u64)| {
            u128::from(self.durations[to as usize]) + u128::from(delay)
        };
        let along: u128 = self.arcs.iter().map(of_arc).sum();
        let spans: u128 = self.arcs.iter().map(|&(_, _, span, _)| u128::from(span)).sum();
        // Between two looks for a cycle every arc is followed once, and before that no path repeats a node.
        let up = all.saturating_add(along).saturating_mul(guess.passes).saturating_mul(2);
        let down = spans.saturating_mul(guess.nanos);
        match up.saturating_add(down) < 1 << 62 {
            true => self.relax::<i64>(guess, reach),
            false => self.relax::<i128>(guess, reach),
        }
    }

    fn relax<T: Time>(&self, guess: Ratio, reach: &mut [i128]) -> Option<Ratio> {
        let (nanos, passes) = (T::of(guess.nanos), T::of(guess.passes));
        let scaled = |nanos: u64| T::of(u128::from(nanos)) * passes;
        let mut chosen: Chosen = vec![NONE; self.durations.len()];
        let mut ends: Vec<T> = self.durations.iter().map(|&own| scaled(own)).collect();
        let weight = |&(to, _, span, delay): &(u32, u32, u32, u64)| {
            let own = scaled(self.durations[to as usize]) + scaled(delay);
            own - T::of(u128::from(span)) * nanos
        };
        let weights: Vec<T> = self.arcs.iter().map(weight).collect();
        loop {
            let mut changed = false;
            for (index, (&(to, from, ..), &weight)) in self.arcs.iter().zip(&weights).enumerate() {
                let end = ends[from as usize] + weight;
                if end > ends[to as usize] {
                    ends[to as usize] = end;
                    chosen[to as usize] = u32::try_from(index).unwrap_or(NONE);
                    changed = true;
                }
            }
            if !changed {
                reach.iter_mut().zip(ends).for_each(|(reach, end)| *reach = end.wide());
                return None;
            }
            if let Some(ratio) = self.best_cycle(&chosen).filter(|&ratio| ratio > guess) {
                return Some(ratio);
            }
        }
    }

    /// The largest ratio among the cycles that the chosen arcs close.
    fn best_cycle(&self, chosen: &Chosen) -> Option<Ratio> {
        let count = self.durations.len();
        let mut seen = vec![NONE; count];
        let mut best: Option<Ratio> = None;
        for start in 0..count {
            let mark = u32::try_from(start).unwrap_or(NONE);
            let mut n = start;
            while seen[n] == NONE && chosen[n] != NONE {
                seen[n] = mark;
                n = self.arcs[chosen[n] as usize].1 as usize;
            }
            if seen[n] != mark || chosen[n] == NONE {
                continue;
            }
            let (mut nanos, mut passes, entry) = (0u128, 0u128, n);
            loop {
                let (_, from, span, delay) = self.arcs[chosen[n] as usize];
                nanos += u128::from(self.durations[n]) + u128::from(delay);
                passes += u128::from(span);
                n = from as usize;
                if n == entry {
                    break;
                }
            }
            if passes > 0 {
                best = best.max(Some(Ratio { nanos, passes }));
            }
        }
        best
    }
}
