//! Turns a bound's instants into candidates in which a part of every block streams.
//!
//! The shares of all blocks follow from one number, the bytes that stream in a pass ([`matching`]): what must, and
//! what makes room for the window. That number is searched for each way to lay the shares out in the window.

use super::super::choice::{Choice, Evaluated, Layout};
use super::super::cycle::Ratio;
use super::super::instance::Instance;
use super::super::matching::{self, share};
use super::super::placement;
use super::Gaps;
use crate::units::Bytes;

/// Totals that are tried first; then as many around the best of them, [`ROUNDS`] times.
const TOTALS: u64 = 16;

/// How often the neighbourhood of the best total is searched more finely. Each makes the step sixteen times
/// smaller: the last is 1/4096 of a few blocks, some rows of a tensor.
const ROUNDS: usize = 2;

/// The window is at most so many times the largest block.
const MOST_WINDOW: u64 = 4;

/// A way to bring in the streamed tail of a block. Which is best is not for a rule to say: each is evaluated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// In at most so many copies around the window. One is cheapest in latency; more let a copy begin as soon as
    /// a part of its place is free.
    Copies(u64),
    /// From the two ends of the window in turn, in one copy or two.
    Ends,
}

/// The ways to be tried.
const WAYS: [Way; 5] = [Way::Ends, Way::Copies(1), Way::Copies(2), Way::Copies(4), Way::Copies(8)];

/// Above so many uses a copy is a small part of the window, and two ways are enough.
const MANY_USES: usize = 300;

/// Totals times uses that are evaluated: keeps plans of a hundred thousand blocks within seconds.
const MOST_WORK: u64 = 40_000;

/// The best candidate of each way.
pub fn candidates(instance: &Instance, gaps: &Gaps) -> Vec<Evaluated> {
    let many = instance.uses.len() > MANY_USES;
    let ways = if many { &WAYS[..2] } else { &WAYS[..] };
    let mut found: Vec<Evaluated> = Vec::new();
    for &way in ways {
        // Where a way reaches the bound, another can only copy less.
        let least = found.iter().filter(|found| found.pass <= gaps.least).map(|f| f.streamed).min();
        found.extend(Search::of(instance, gaps, way).best(least));
    }
    found
}

/// A candidate for each of some windows, from the smallest to the largest.
pub fn windows(instance: &Instance, gaps: &Gaps) -> Vec<Evaluated> {
    let ways = WAYS.iter().take(if instance.uses.len() > MANY_USES { 1 } else { WAYS.len() });
    let searches = ways.map(|&way| Search::of(instance, gaps, way));
    let found = searches.flat_map(|search| {
        let tried = search.coarse();
        tried.into_iter().filter_map(move |window| search.evaluate(window))
    });
    found.collect()
}

/// The best candidate of all ways that leaves room for such a window.
pub fn roomier(instance: &Instance, gaps: &Gaps, window: u64) -> Option<Evaluated> {
    let found = WAYS.iter().filter_map(|&way| Search::of(instance, gaps, way).evaluate(window));
    found.filter(|found| found.places.window >= window / 16 * 15).min_by_key(Evaluated::key)
}

/// The search for the best total in one way.
struct Search<'a> {
    instance: &'a Instance,
    gaps: &'a Gaps,
    way: Way,
    /// Bytes that cannot stay.
    missing: u64,
    /// The largest window.
    span: u64,
    best: Option<(u64, Evaluated)>,
}

impl<'a> Search<'a> {
    fn of(instance: &'a Instance, gaps: &'a Gaps, way: Way) -> Self {
        let total = gaps.total.get();
        let missing = total.saturating_sub(instance.budget.get());
        let largest = instance.uses.iter().map(|used| used.bytes.get()).max().unwrap_or(0);
        let span = MOST_WINDOW.saturating_mul(largest).min(total - missing);
        Self { instance, gaps, way, missing, span, best: None }
    }

    fn steps(&self) -> u64 {
        (MOST_WORK / self.instance.uses.len().max(1) as u64).clamp(4, TOTALS)
    }

    /// The windows that are tried first. Small ones are told apart more finely: there a little more or less
    /// matters most.
    fn coarse(&self) -> Vec<u64> {
        let steps = self.steps();
        (0..=steps).map(|n| share(self.span, n * n, steps * steps)).collect()
    }

    /// The best total, of those that stream less than `below`.
    fn best(mut self, below: Option<Bytes>) -> Option<Evaluated> {
        let steps = self.steps();
        let mut tried = self.coarse();
        for _ in 0..=ROUNDS {
            for &window in &tried {
                let reached = self.best.as_ref().filter(|(_, known)| known.pass <= self.gaps.least);
                let most = reached.map(|(_, known)| known.streamed).into_iter().chain(below).min();
                // At the bound nothing but fewer bytes is better.
                if most.is_none_or(|most| self.missing + window < most.get()) {
                    self.consider(window);
                }
            }
            let Some((best, _)) = self.best else { break };
            let low = tried.iter().copied().filter(|&window| window < best).max().unwrap_or(0);
            let high = tried.iter().copied().filter(|&window| window > best).min();
            let high = high.unwrap_or(self.span);
            tried = (1..steps).map(|n| low + share(high - low, n, steps)).collect();
        }
        self.best.map(|(_, found)| found)
    }

    /// Evaluates the candidate that leaves room for about such a window.
    fn consider(&mut self, window: u64) {
        let known = self.best.as_ref().map(|(_, known)| known.pass);
        let Some(found) = self.evaluate_below(window, known) else { return };
        if self.best.as_ref().is_none_or(|(_, known)| found.key() < known.key()) {
            self.best = Some((window, found));
        }
    }

    fn evaluate(&self, window: u64) -> Option<Evaluated> {
        self.evaluate_below(window, None)
    }

    fn evaluate_below(&self, window: u64, known: Option<Ratio>) -> Option<Evaluated> {
        let instance = self.instance;
        let total = self.missing.saturating_add(window);
        let wanted = matching::streamed_bytes(instance, &self.gaps.gaps, total);
        let tails = matching::tails(instance, &wanted);
        let most = if let Way::Copies(most) = self.way { most } else { 1 };
        let uses = instance.uses.iter().zip(&tails);
        let copies = uses.map(|(used, &tail)| matching::copies(used, tail, most)).collect();
        let choice = Choice { copies, layout: Layout::Ring, window: Bytes::ZERO };
        let choice = choice.with_window_left(instance)?;
        let choice = match self.way {
            Way::Copies(_) => choice,
            Way::Ends => {
                let copies = placement::divide(instance, &tails, choice.window.get());
                Choice { copies, layout: Layout::Ends, ..choice }
            }
        };
        choice.evaluate_below(instance, known)
    }
}
