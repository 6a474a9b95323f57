//! Turns an [`Instance`] into the choice of what stays, by exact evaluation of many candidates.
//!
//! If everything fits, everything stays. Otherwise:
//!
//! * **Tensors** (`split`): a part of every block streams, as much as the bound's instants say
//!   (`plan::matching`), rounded to tensors. One free parameter, the bytes that stream, is searched.
//! * **Whole blocks** (`whole`): several ways to spread the streamed blocks over the pass, then a local search.
//! * **Whole blocks in turn** (`rotating`): which blocks stay changes from pass to pass, with copies evenly spread.
//!
//! Every candidate is placed in its window and evaluated exactly ([`super::placement`]); the best is the one with the
//! shortest pass, then the fewest bytes copied, then the smallest window. Where copies and compute balance, a larger
//! window that costs nothing is preferred (`robust`). With few passes the makespan decides, cold start included.

mod robust;
pub mod rotating;
mod split;
mod whole;

use super::bound::{self, HostTier, Windows};
use super::choice::{Choice, Evaluated};
use super::cycle::Ratio;
use super::instance::Instance;
use super::schedule::Schedule;
use super::spec::Granularity;
use super::timing;
use crate::error::Result;
use crate::units::{Bytes, Nanos};

pub use rotating::MOST_TURNS;
pub use whole::{blocks_of, evenly};

/// With at most so many passes the cold start weighs as much as the steady pass, and the makespan decides.
pub const FEW_PASSES: u32 = 4;

/// The best choice found; none when no choice fits. `schedule` builds the operations of a choice, for makespans.
pub fn choose(
    instance: &Instance,
    granularity: Granularity,
    passes: u32,
    schedule: &dyn Fn(&Evaluated) -> Result<Schedule>,
) -> Result<Option<Evaluated>> {
    let everything = Choice::all_resident(instance).with_window_left(instance);
    if let Some(everything) = everything.and_then(|choice| choice.evaluate(instance)) {
        return Ok(Some(everything));
    }
    let gaps = Gaps::of(instance);
    let mut candidates = match granularity {
        Granularity::Block | Granularity::Rotating => Vec::new(),
        Granularity::Tensor => split::candidates(instance, &gaps),
    };
    // With few passes every candidate counts; else whole blocks are looked at only where they could be better.
    let could_win = passes <= FEW_PASSES
        || !candidates.iter().any(|split| beats_whole_blocks(instance, &gaps, split));
    if let Some(start) = could_win.then(|| whole::start(instance, &gaps)).flatten() {
        // Where parts of blocks do better than whole ones already, there is no point in improving these.
        let beaten = candidates.iter().any(|split| split.key() <= start.key());
        candidates.push(if beaten { start } else { whole::improved(instance, start) });
    }
    if passes > FEW_PASSES {
        let best = candidates.into_iter().min_by_key(Evaluated::key);
        return Ok(best.map(|best| robust::with_room(instance, &gaps, best)));
    }
    // What is best in the long run need not be in the short one: every window is a candidate.
    candidates.extend(whole::varied(instance, &gaps));
    candidates.extend(whole::streaming(instance));
    if granularity == Granularity::Tensor {
        candidates.extend(split::windows(instance, &gaps));
    }
    let makespan = |candidate: &Evaluated| -> Result<Nanos> {
        Ok(timing::unroll(&schedule(candidate)?, passes).makespan)
    };
    let mut best: Option<(Nanos, Evaluated)> = None;
    for candidate in candidates {
        let makespan = makespan(&candidate)?;
        let key = (makespan, candidate.key());
        if best.as_ref().is_none_or(|(known, other)| key < (*known, other.key())) {
            best = Some((makespan, candidate));
        }
    }
    let Some(best) = best else { return Ok(None) };
    whole::improved_by(instance, best, &makespan).map(|(_, candidate)| Some(candidate))
}

/// Choices for a planner that has more to weigh than the link: everything resident where that fits, else the best
/// for each way to lay out the window, and one for each of many windows.
pub fn candidates(instance: &Instance, granularity: Granularity) -> Vec<Evaluated> {
    let everything = Choice::all_resident(instance).with_window_left(instance);
    if let Some(everything) = everything.and_then(|choice| choice.evaluate(instance)) {
        return vec![everything];
    }
    let gaps = Gaps::of(instance);
    let mut found = whole::varied(instance, &gaps);
    if granularity == Granularity::Tensor {
        found.extend(split::candidates(instance, &gaps));
        found.extend(split::windows(instance, &gaps));
    }
    found
}

/// Whether no plan of whole blocks is better: it takes longer, or nothing is faster and it copies more.
fn beats_whole_blocks(instance: &Instance, gaps: &Gaps, split: &Evaluated) -> bool {
    let (bytes, time) = bound::least_of_whole_blocks(instance);
    split.pass < Ratio::per_pass(u128::from(time.get()))
        || (split.pass <= gaps.least && split.streamed < bytes)
}

/// The instants at which uses end in the bound's best chain of windows.
pub(super) struct Gaps {
    /// By use: the time from its end to the end of the next, in units of `1 / passes` nanoseconds.
    pub gaps: Vec<u64>,
    /// Bytes of all uses together.
    pub total: Bytes,
    /// The bound itself.
    pub least: Ratio,
}

impl Gaps {
    fn of(instance: &Instance) -> Self {
        Self::on(instance, None)
    }

    /// The same on a host that holds so much.
    pub fn on(instance: &Instance, host: Option<HostTier>) -> Self {
        let windows = Windows::on(instance, host);
        let (ratio, ends) = windows.solve();
        let (nanos, passes) = ratio.parts();
        let passes = i128::try_from(passes).unwrap_or(1);
        let nanos = i128::try_from(nanos).unwrap_or(i128::MAX);
        let nodes = &windows.nodes;
        let count = instance.uses.len();
        let mut gaps = vec![0u64; count];
        for (n, &from) in nodes.iter().enumerate() {
            let (to, lap) = match nodes.get(n + 1) {
                Some(&to) => (to, 0),
                None => (nodes[0] + count, nanos),
            };
            let next = ends.get(n + 1).or(ends.first()).copied().unwrap_or(0) + lap;
            // Between chosen uses: compute as it is, the rest spread evenly.
            let between = (from + 1..=to).map(|k| instance.uses[k % count].compute.get());
            let computes: Vec<i128> = between.map(|c| i128::from(c) * passes).collect();
            let slack = (next - ends[n] - computes.iter().sum::<i128>()).max(0);
            let steps = i128::try_from(computes.len()).unwrap_or(1).max(1);
            for (k, compute) in computes.into_iter().enumerate() {
                gaps[(from + k) % count] =
                    u64::try_from(compute + slack / steps).unwrap_or(u64::MAX);
            }
        }
        let total = instance.uses.iter().map(|used| used.bytes).sum();
        let compute = instance.uses.iter().map(|used| u128::from(used.compute.get())).sum();
        Self { gaps, total, least: ratio.max(Ratio::per_pass(compute)) }
    }
}
