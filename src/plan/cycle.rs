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

    /// The same time spread over so many passes.
    pub fn over(self, passes: u128) -> Self {
        Self { passes: self.passes * passes.max(1), ..self }
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
    arcs: Vec<Arc>,
}

/// `to` starts after `from`.
#[derive(Debug, Clone, Copy)]
struct Arc {
    from: u32,
    to: u32,
    /// Passes spanned.
    span: u32,
    /// From the end of one to the end of the other, at least.
    cost: u64,
}

/// No arc, no node.
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
        let cost = self.durations[to].saturating_add(delay);
        self.arcs.push(Arc { from: index(from), to: index(to), span: passes, cost });
    }

    /// The maximum cycle ratio; zero without cycles.
    pub fn steady(self) -> Ratio {
        self.steady_from(Ratio { nanos: 0, passes: 1 })
    }

    /// The maximum cycle ratio, at least the one given.
    pub fn steady_from(self, least: Ratio) -> Ratio {
        Newton::of(self).solve(least)
    }

    /// The same, and the instant at which each operation ends when the pass is repeated with it (in units of a
    /// nanosecond over the ratio's passes, from an arbitrary zero).
    pub fn ends_from(self, least: Ratio) -> (Ratio, Vec<i128>) {
        let mut newton = Newton::of(self);
        let ratio = newton.solve(least);
        (ratio, newton.reach())
    }
}

/// The search for the ratio, and its buffers.
struct Newton {
    graph: Graph,
    /// All costs together: no path without a cycle takes longer.
    longest: u128,
    most_span: u32,
    /// By node: the arc that its longest path ends with.
    chosen: Vec<u32>,
    /// By node: the walk that has come through it last.
    seen: Vec<u32>,
    /// Longest paths, in the words that the last guess needed.
    short: Paths<i64>,
    long: Paths<i128>,
    is_short: bool,
}

/// Longest paths under a guess.
#[derive(Default)]
struct Paths<T> {
    /// By arc.
    weights: Vec<T>,
    /// By node.
    reach: Vec<T>,
}

impl Newton {
    fn of(mut graph: Graph) -> Self {
        // In order of the operation that waits, a sweep follows every arc of a pass at once.
        if !graph.arcs.is_sorted_by_key(|arc| arc.to) {
            graph.arcs.sort_by_key(|arc| arc.to);
        }
        let count = graph.durations.len();
        let durations = graph.durations.iter().map(|&nanos| u128::from(nanos));
        let costs = graph.arcs.iter().map(|arc| u128::from(arc.cost));
        Self {
            longest: durations.chain(costs).sum(),
            most_span: graph.arcs.iter().map(|arc| arc.span).max().unwrap_or(0),
            chosen: vec![NONE; count],
            seen: vec![NONE; count],
            short: Paths::default(),
            long: Paths::default(),
            is_short: true,
            graph,
        }
    }

    fn solve(&mut self, least: Ratio) -> Ratio {
        let mut ratio = least;
        while let Some(better) = self.beats(ratio) {
            ratio = better;
        }
        ratio
    }

    /// The ratio of a cycle that beats a guess, if there is one.
    fn beats(&mut self, guess: Ratio) -> Option<Ratio> {
        self.chosen.fill(NONE);
        // A sweep lengthens paths by no more than all arcs together, and after as many sweeps as there are
        // operations what still grows has shown a cycle: with room for that, short words cannot overflow.
        let count = self.chosen.len() as u128;
        let swept = self.longest.saturating_mul(guess.passes).saturating_mul(count + 2);
        let back = guess.nanos.saturating_mul(u128::from(self.most_span));
        self.is_short = swept.max(back) < 1 << 61;
        if self.is_short {
            let mut paths = std::mem::take(&mut self.short);
            let better = self.sweep(guess, &mut paths);
            self.short = paths;
            better
        } else {
            let mut paths = std::mem::take(&mut self.long);
            let better = self.sweep(guess, &mut paths);
            self.long = paths;
            better
        }
    }

    /// Lengthens paths until no arc does, or until they close a cycle that beats the guess.
    fn sweep<T>(&mut self, guess: Ratio, paths: &mut Paths<T>) -> Option<Ratio>
    where
        T: Copy + Ord + std::ops::Add<Output = T> + TryFrom<i128> + Default,
    {
        let signed = |value: u128| i128::try_from(value).unwrap_or(i128::MAX);
        let (nanos, passes) = (signed(guess.nanos), signed(guess.passes));
        let word = |value: i128| T::try_from(value).unwrap_or_default();
        let Paths { weights, reach } = paths;
        weights.clear();
        weights.extend(
            self.graph
                .arcs
                .iter()
                .map(|arc| word(i128::from(arc.cost) * passes - i128::from(arc.span) * nanos)),
        );
        reach.clear();
        reach.extend(self.graph.durations.iter().map(|&own| word(i128::from(own) * passes)));
        loop {
            let mut changed = false;
            for (index, (arc, &weight)) in self.graph.arcs.iter().zip(&*weights).enumerate() {
                let end = reach[arc.from as usize] + weight;
                if end > reach[arc.to as usize] {
                    reach[arc.to as usize] = end;
                    self.chosen[arc.to as usize] = u32::try_from(index).unwrap_or(NONE);
                    changed = true;
                }
            }
            if !changed {
                return None;
            }
            if let Some(ratio) = self.best_cycle().filter(|&ratio| ratio > guess) {
                return Some(ratio);
            }
        }
    }

    /// The largest ratio among the cycles that the chosen arcs close.
    fn best_cycle(&mut self) -> Option<Ratio> {
        let Self { graph, chosen, seen, .. } = self;
        seen.fill(NONE);
        let mut best: Option<Ratio> = None;
        for start in 0..chosen.len() {
            let mark = u32::try_from(start).unwrap_or(NONE);
            let mut n = start;
            while seen[n] == NONE && chosen[n] != NONE {
                seen[n] = mark;
                n = graph.arcs[chosen[n] as usize].from as usize;
            }
            if seen[n] != mark || chosen[n] == NONE {
                continue;
            }
            let (mut nanos, mut passes, entry) = (0u128, 0u128, n);
            loop {
                let arc = graph.arcs[chosen[n] as usize];
                nanos += u128::from(arc.cost);
                passes += u128::from(arc.span);
                n = arc.from as usize;
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

    /// Longest paths under the last guess.
    fn reach(&self) -> Vec<i128> {
        match self.is_short {
            true => self.short.reach.iter().map(|&end| i128::from(end)).collect(),
            false => self.long.reach.clone(),
        }
    }
}
