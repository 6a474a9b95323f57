//! Turns an instance into times that no schedule can beat, so that every plan states how far it is from them.
//!
//! Let `C` be the compute of a pass, `W` the bytes of all uses, `B` the bytes they may hold, `c_i` and `w_i` one
//! use's compute and bytes, and `D = (W − B) / rate`.
//!
//! * Compute: one use runs after the other, so a pass takes at least `C`.
//! * One lap: when use `i` has ended, at most `B − w_i` bytes of the others are there; before use `i−1` of the
//!   next lap starts, all of them must have been. So `W − B` bytes cross the link while neither `i` nor `i−1`
//!   computes: a pass takes at least `D + c_i + c_(i−1)`.
//! * Chained laps of `n−1` uses: `n` windows laid end to end span `n−1` passes, so a pass takes at least
//!   `(n·D + C) / (n−1)`. For equal blocks this is reached (theory: `T* = max(C, n(D + c)/(n−1))`).
//! * Whole blocks only: resident bytes plus the largest streamed block fit in `B`, so at least `W − B + w_min`
//!   bytes are copied in every pass, in at least `⌈(W − B + w_min) / w_max⌉` copies.
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
//! The proofs are in the comments above; windows of other lengths, chained in the best way, give a tighter bound
//! that a later planner adds here. What is here is valid for any schedule, and tight for equal blocks.

use super::instance::Instance;
use crate::units::{Bytes, Nanos};

/// Times of one pass that cannot be beaten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// All compute, one use after the other.
    pub compute: Nanos,
    /// The bytes that cannot stay, over the link.
    pub copy: Nanos,
    /// No plan that keeps or streams whole blocks is faster.
    pub granularity: Nanos,
    /// No schedule whatever is faster.
    pub any_schedule: Nanos,
}

/// The bounds of an instance.
pub fn bound(instance: &Instance) -> Bounds {
    let compute: Nanos = instance.uses.iter().map(|u| u.compute).sum();
    let total: Bytes = instance.uses.iter().map(|u| u.bytes).sum();
    let missing = total.saturating_sub(instance.budget);
    if missing.is_zero() {
        let none = Nanos::ZERO;
        return Bounds { compute, copy: none, granularity: compute, any_schedule: compute };
    }
    // The fastest the link ever is: without latency, since a schedule may cut its copies as it likes.
    let copy = fastest(instance, missing);
    let any_schedule =
        compute.max(one_lap(instance, copy)).max(chained_laps(instance, compute, copy));
    let granularity = any_schedule.max(whole_blocks(instance, missing));
    Bounds { compute, copy, granularity, any_schedule }
}

/// The least time in which the link can move so many bytes, cut into copies in any way.
fn fastest(instance: &Instance, bytes: Bytes) -> Nanos {
    let by_rate = instance.device.h2d.rate.time_for(bytes);
    // On a measured curve some size may beat the stated rate; scale the best point seen.
    let by_points = instance.device.h2d.points.iter().filter(|(size, _)| !size.is_zero());
    let scaled = by_points.map(|&(size, time)| {
        let whole = u128::from(time.get()) * u128::from(bytes.get()) / u128::from(size.get());
        Nanos::new(u64::try_from(whole).unwrap_or(u64::MAX))
    });
    scaled.fold(by_rate, Nanos::min)
}

fn one_lap(instance: &Instance, copy: Nanos) -> Nanos {
    let uses = &instance.uses;
    let pairs = (0..uses.len()).filter(|_| uses.len() > 1).map(|n| {
        let before = if n == 0 { uses.len() - 1 } else { n - 1 };
        uses[n].compute.saturating_add(uses[before].compute)
    });
    let single = uses.first().map(|only| only.compute).filter(|_| uses.len() == 1);
    copy.saturating_add(pairs.chain(single).max().unwrap_or_default())
}

fn chained_laps(instance: &Instance, compute: Nanos, copy: Nanos) -> Nanos {
    let count = instance.uses.len() as u128;
    if count < 2 {
        return Nanos::ZERO;
    }
    let sum = count * u128::from(copy.get()) + u128::from(compute.get());
    Nanos::new(u64::try_from(sum.div_ceil(count - 1)).unwrap_or(u64::MAX))
}

/// Bytes and copies that every stationary plan of whole blocks needs, over the link.
fn whole_blocks(instance: &Instance, missing: Bytes) -> Nanos {
    let sizes = || instance.uses.iter().map(|u| u.bytes).filter(|size| !size.is_zero());
    let (Some(smallest), Some(largest)) = (sizes().min(), sizes().max()) else {
        return Nanos::ZERO;
    };
    let least = missing.saturating_add(smallest);
    let copies = least.get().div_ceil(largest.get());
    let bytes = least.max(smallest.saturating_mul(copies));
    let latency = if instance.device.h2d.points.is_empty() {
        instance.device.h2d.latency
    } else {
        Nanos::ZERO
    };
    fastest(instance, bytes).saturating_add(latency.saturating_mul(copies))
}
