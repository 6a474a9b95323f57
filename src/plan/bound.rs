//! Turns an instance into times that no schedule can beat, so that every plan states how far it is from them.
//!
//! Let `C` be the compute of a pass, `W` the bytes of all uses, `B` the bytes they may hold, `c_i` and `w_i` one
//! use's compute and bytes, and `D = (W − B) / rate`.
//!
//! * Compute: one use runs after the other, so a pass takes at least `C`.
//! * Windows: when use `i` has ended, at most `B − w_i` bytes of other blocks are there. Before a later use `k`
//!   starts, all of `i+1 … k` must have been there. So at least `S(i…k) − B` bytes cross the link between the two,
//!   `S` counting both ends, and from the end of `i` to the end of `k` passes at least
//!   `max((S(i…k) − B) / rate, compute strictly between) + c_k`.
//! * Chained windows: windows can be laid end to end around the pass. The best chain is a maximum cycle ratio
//!   ([`super::cycle`]) on one node per use and an arc per window; no schedule whatever is faster. One lap of `n−1`
//!   uses alone gives `D + c_i + c_(i−1)`; `n` of them in a row give `(n·D + C) / (n−1)`, which equal blocks reach
//!   (theory: `T* = max(C, n(D + c)/(n−1))`).
//! * Collectives: where ranks exchange over the host's link, no byte crosses it meanwhile. Those of the uses strictly
//!   between `i` and `k` lie inside the window, so it takes the copies and them: with `X` for those of a pass, `n` laps
//!   take `n·D + (n − 2)·X + C`.
//! * Tiers: with `H` bytes of host memory at most `B + H` distinct bytes are at hand without the disk, so both kinds of
//!   window hold for the disk with `B + H` in the place of `B` and its rate in that of the link ([`bound_on`]). A
//!   window takes as long as the slower of the two.
//! * Whole blocks only: resident bytes plus the largest streamed block fit in `B`, so at least `W − B + w_min`
//!   bytes are copied in every pass, in at least `⌈(W − B + w_min) / w_max⌉` copies. Where blocks take turns
//!   staying, the laps of before with whole copies: `(n·t(W − B) + C) / (n−1)`.
//!
//! ```
//! use vramplan::plan::{Instance, bound};
//! // Ten equal blocks of 100 bytes at 1 byte/ns, 20 ns of compute each, room for six of them.
//! let instance = Instance::equal(10, 100, 20, 600);
//! let bound = bound::bound(&instance);
//! assert_eq!(bound.compute.get(), 200);
//! assert_eq!(bound.copy.get(), 400);                     // D
//! assert_eq!(bound.any_schedule.get(), 467);             // ceil(10 · (400 + 20) / 9)
//! assert_eq!(bound.granularity.get(), 500);              // five whole copies in every pass
//! ```
//!
//! Above [`MOST_NODES`] uses only some of them may begin and end a window. Fewer windows cannot make a bound
//! invalid, only looser; the closed form of the `n`-fold lap is kept beside them, which uses all.

use super::cycle::{Graph, Ratio};
use super::instance::Instance;
use crate::device::Link;
use crate::figures::Bound;
use crate::units::{Bytes, Fraction, Nanos};

/// Uses that may begin or end a window; the graph has the square of it in arcs.
pub const MOST_NODES: usize = 300;

/// Times of one pass that cannot be beaten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// All compute, one use after the other.
    pub compute: Nanos,
    /// The bytes that cannot stay, over the link.
    pub copy: Nanos,
    /// The bytes that neither VRAM nor the host can hold, from disk.
    pub disk: Nanos,
    /// Whether the disk sets what no schedule can beat.
    pub by_disk: bool,
    /// No plan that keeps or streams whole blocks is faster, where the same ones stay in every pass.
    pub granularity: Nanos,
    /// No plan that keeps or streams whole blocks is faster, whichever stay from pass to pass.
    pub rotating: Nanos,
    /// No schedule whatever is faster.
    pub any_schedule: Nanos,
    /// Nor is any for all passes together, where some leave blocks out.
    pub run: Nanos,
}

impl Bounds {
    /// As a plan states them: with the distance of its pass time to what no schedule can beat.
    pub fn against(&self, pass: Nanos) -> Bound {
        let above = pass.saturating_sub(self.any_schedule);
        let binding = match self.any_schedule > self.compute {
            true if self.by_disk => "disk",
            true => "copy",
            false => "compute",
        };
        Bound {
            compute: self.compute,
            copy: self.copy,
            disk: self.disk,
            granularity: self.granularity,
            any_schedule: self.any_schedule,
            run: self.run,
            gap: Fraction::of(above.get(), self.any_schedule.get()),
            binding: binding.to_owned(),
        }
    }
}

/// The tier below host memory: how much the host holds, and the disk that the rest comes from.
#[derive(Debug, Clone, Copy)]
pub struct HostTier<'a> {
    /// Host memory for weights.
    pub bytes: Bytes,
    /// Reads from disk.
    pub disk: &'a Link,
}

/// The bounds of an instance, the host holding everything.
pub fn bound(instance: &Instance) -> Bounds {
    bound_on(instance, None)
}

/// The bounds of an instance on a host that holds so much.
pub fn bound_on(instance: &Instance, host: Option<HostTier>) -> Bounds {
    let compute: Nanos = instance.uses.iter().map(|u| u.compute).sum();
    let total: Bytes = instance.uses.iter().map(|u| u.bytes).sum();
    let missing = total.saturating_sub(instance.budget);
    let none = Nanos::ZERO;
    if missing.is_zero() {
        return Bounds {
            compute,
            copy: none,
            disk: none,
            by_disk: false,
            granularity: compute,
            rotating: compute,
            any_schedule: compute,
            run: none,
        };
    }
    // The fastest the link ever is: without latency, since a schedule may cut its copies as it likes.
    let link = &instance.device.h2d;
    let copy = fastest(link, missing);
    let windows = Windows::of(instance).solve().0.ceil();
    let on_link = instance.on_link();
    let without = compute.max(windows).max(chained_laps(instance, compute, copy, on_link));
    let (mut any_schedule, mut disk) = (without, none);
    if let Some(tier) = host {
        disk = fastest(tier.disk, missing.saturating_sub(tier.bytes));
        if !disk.is_zero() {
            let windows = Windows::on(instance, host).solve().0.ceil();
            any_schedule = without.max(windows).max(chained_laps(instance, compute, disk, none));
        }
    }
    let by_disk = any_schedule > without;
    let granularity = any_schedule.max(whole_blocks(instance, missing));
    let rotating = any_schedule.max(whole_laps(instance, missing));
    Bounds { compute, copy, disk, by_disk, granularity, rotating, any_schedule, run: none }
}

/// The least time in which a link can move so many bytes, cut into copies in any way.
pub(super) fn fastest(link: &Link, bytes: Bytes) -> Nanos {
    let by_rate = link.rate.time_for(bytes);
    // On a measured curve some size may beat the stated rate; scale the best point seen.
    let by_points = link.points.iter().filter(|(size, _)| !size.is_zero());
    let scaled = by_points.map(|&(size, time)| {
        let whole = u128::from(time.get()) * u128::from(bytes.get()) / u128::from(size.get());
        Nanos::new(u64::try_from(whole).unwrap_or(u64::MAX))
    });
    scaled.fold(by_rate, Nanos::min)
}

fn chained_laps(instance: &Instance, compute: Nanos, copy: Nanos, on_link: Nanos) -> Nanos {
    let count = instance.uses.len() as u128;
    if count < 2 {
        return Nanos::ZERO;
    }
    let held = (count - 2) * u128::from(on_link.get());
    let sum = count * u128::from(copy.get()) + held + u128::from(compute.get());
    Nanos::new(u64::try_from(sum.div_ceil(count - 1)).unwrap_or(u64::MAX))
}

/// What every plan that keeps or streams whole blocks copies at least in a pass, and in what time.
pub(super) fn least_of_whole_blocks(instance: &Instance) -> (Bytes, Nanos) {
    let total: Bytes = instance.uses.iter().map(|u| u.bytes).sum();
    let missing = total.saturating_sub(instance.budget);
    let sizes = instance.uses.iter().map(|u| u.bytes).filter(|size| !size.is_zero());
    let smallest = sizes.min().unwrap_or_default();
    (missing.saturating_add(smallest), whole_blocks(instance, missing))
}

/// Bytes and copies that every stationary plan of whole blocks needs, over the link.
fn whole_blocks(instance: &Instance, missing: Bytes) -> Nanos {
    let smallest = instance.uses.iter().map(|u| u.bytes).filter(|size| !size.is_zero()).min();
    smallest.map_or(Nanos::ZERO, |smallest| {
        let copies = whole_copies(instance, missing.saturating_add(smallest));
        copies.saturating_add(instance.on_link())
    })
}

/// What every plan of whole blocks needs: when a block's use ends, blocks that are neither there nor on their way
/// have at least the missing bytes, and until the same block is used again all of them are copied. `n` such laps of
/// `n − 1` blocks fill `n − 1` passes.
fn whole_laps(instance: &Instance, missing: Bytes) -> Nanos {
    let blocks = || instance.uses.iter().filter(|used| !used.bytes.is_zero());
    let count = blocks().count() as u128;
    if count < 2 {
        return Nanos::ZERO;
    }
    let compute: u128 = blocks().map(|used| u128::from(used.compute.get())).sum();
    let held: u128 = blocks().map(|used| u128::from(used.on_link.get())).sum();
    let copies = u128::from(whole_copies(instance, missing).get());
    let sum = count * copies + (count - 2) * held + compute;
    Nanos::new(u64::try_from(sum.div_ceil(count - 1)).unwrap_or(u64::MAX))
}

/// The least time in which the link can move whole blocks of at least so many bytes.
fn whole_copies(instance: &Instance, least: Bytes) -> Nanos {
    let sizes = || instance.uses.iter().map(|u| u.bytes).filter(|size| !size.is_zero());
    let (Some(smallest), Some(largest)) = (sizes().min(), sizes().max()) else {
        return Nanos::ZERO;
    };
    let copies = least.get().div_ceil(largest.get());
    let bytes = least.max(smallest.saturating_mul(copies));
    let latency = if instance.device.h2d.points.is_empty() {
        instance.device.h2d.latency
    } else {
        Nanos::ZERO
    };
    fastest(&instance.device.h2d, bytes).saturating_add(latency.saturating_mul(copies))
}

/// The uses that begin and end windows, and sums over what lies before each.
pub(super) struct Windows<'a> {
    instance: &'a Instance,
    host: Option<HostTier<'a>>,
    /// Chosen uses, ascending.
    pub nodes: Vec<usize>,
    /// Bytes, compute and collectives on the link of all uses before each, over two laps.
    bytes: Vec<u128>,
    compute: Vec<u128>,
    held: Vec<u128>,
}

impl<'a> Windows<'a> {
    pub fn of(instance: &'a Instance) -> Self {
        Self::on(instance, None)
    }

    pub fn on(instance: &'a Instance, host: Option<HostTier<'a>>) -> Self {
        let count = instance.uses.len();
        let nodes = match count {
            ..=MOST_NODES => (0..count).collect(),
            // Neighbours in pairs, so that windows of almost a whole lap are among the chosen.
            _ => (0..MOST_NODES / 2)
                .map(|n| n * count / (MOST_NODES / 2))
                .flat_map(|n| [n, n + 1])
                .collect(),
        };
        let sums = |of: &dyn Fn(usize) -> u64| {
            let mut sums = Vec::with_capacity(2 * count + 1);
            let mut sum = 0u128;
            sums.push(sum);
            for n in (0..count).chain(0..count) {
                sum += u128::from(of(n));
                sums.push(sum);
            }
            sums
        };
        let bytes = sums(&|n| instance.uses[n].bytes.get());
        let compute = sums(&|n| instance.uses[n].compute.get());
        let held = sums(&|n| instance.uses[n].on_link.get());
        Self { instance, host, nodes, bytes, compute, held }
    }

    /// The least time from the end of use `i` to the start of use `k` (less than a lap later, counted on), and
    /// whether copies or reads set it.
    fn window(&self, i: usize, k: usize) -> (u64, bool) {
        let limit = |sum: u128| u64::try_from(sum).unwrap_or(u64::MAX);
        let inside = limit(self.compute[k] - self.compute[i + 1]);
        let needed = self.bytes[k + 1] - self.bytes[i];
        let missing = needed.saturating_sub(u128::from(self.instance.budget.get()));
        let missing = Bytes::new(limit(missing));
        let held = limit(self.held[k] - self.held[i + 1]);
        let copy = match fastest(&self.instance.device.h2d, missing).get() {
            0 => 0,
            copy => copy.saturating_add(held),
        };
        let read = |tier: HostTier| fastest(tier.disk, missing.saturating_sub(tier.bytes)).get();
        let copy = copy.max(self.host.map_or(0, read));
        (copy.max(inside), copy > inside)
    }

    /// The best chain of windows, and the instants at which uses end in it: longest paths around the pass.
    pub fn solve(&self) -> (Ratio, Vec<i128>) {
        let (count, chosen) = (self.instance.uses.len(), self.nodes.len());
        let mut graph = Graph::with_capacity(chosen, 4 * chosen);
        for &n in &self.nodes {
            graph.node(self.instance.uses[n].compute.get());
        }
        for (from, &i) in self.nodes.iter().enumerate() {
            for step in 1..chosen.max(2) {
                let (to, laps) = ((from + step) % chosen, (from + step) / chosen);
                let (least, by_copies) = self.window(i, self.nodes[to] + laps * count);
                // Windows that compute alone fills are covered by the chain of neighbours.
                if by_copies || step == 1 {
                    graph.delayed_arc(from, to, u32::from(laps > 0), least);
                }
            }
        }
        graph.ends_from(Ratio::per_pass(0))
    }
}
