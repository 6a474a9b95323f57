//! Turns a bound's instants into how much of every block to stream: last in, first out.
//!
//! Between the ends of two uses the link brings in bytes that must take the place of others. The best to give up
//! are those whose next use is furthest away: what was used last. So walk the uses in order with a stack: a used
//! block goes on top, and what crosses the link until the next use ends is taken off the top.
//!
//! ```text
//! end of use    0      1      2      3        crossing between ends: 30 each, blocks of 40
//! stack         0:40   1:40   2:40   3:40     taken off the top, then what lies below
//!               └30    └30    └30    └30      streamed: 30 of every block, resident: 10
//! ```
//!
//! With bytes that can be split at will this reaches the bound (theory: section 4). Blocks can be cut between rows
//! and between tensors only, so [`tails`] cuts where it is nearest and hands the error on to the next block. What
//! streams is always the tail of a block laid flat: one run of bytes on the host, and at most one tensor is cut.

use super::instance::{Instance, Run, Use};
use crate::units::Bytes;

/// Laps after which the stack no longer changes from lap to lap.
const LAPS: usize = 3;

/// Bytes of each use that stream, so that `total` of them do in a pass. `gaps[n]` is the time from the end of
/// use `n` to the end of the next; the link is taken to run at an even rate over the pass.
pub fn streamed_bytes(instance: &Instance, gaps: &[u64], total: u64) -> Vec<u64> {
    let sizes: Vec<u64> = instance.uses.iter().map(|used| used.bytes.get()).collect();
    shares(&sizes, gaps, total)
}

/// The same for anything of these sizes that is used in turn, and comes in over a path of an even rate.
pub fn shares(sizes: &[u64], gaps: &[u64], total: u64) -> Vec<u64> {
    let pass: u128 = gaps.iter().map(|&gap| u128::from(gap)).sum::<u128>().max(1);
    let mut left = vec![0u64; sizes.len()];
    let mut version = vec![0usize; sizes.len()];
    let mut streamed = vec![0u64; sizes.len()];
    let mut stack: Vec<(usize, usize)> = Vec::new();
    for _ in 0..LAPS {
        let (mut elapsed, mut crossed) = (0u128, 0u64);
        for (n, &size) in sizes.iter().enumerate() {
            // Used again: what was taken since its last use is what had to be streamed.
            streamed[n] = size - left[n].min(size);
            left[n] = size;
            version[n] += 1;
            stack.push((n, version[n]));
            elapsed += u128::from(gaps[n]);
            let until = u64::try_from(u128::from(total) * elapsed / pass).unwrap_or(u64::MAX);
            let mut needed = until - crossed;
            crossed = until;
            while needed > 0 {
                let Some(&(top, of)) = stack.last() else { break };
                let stale = version[top] != of;
                let taken = if stale { 0 } else { needed.min(left[top]) };
                left[top] -= taken;
                needed -= taken;
                if stale || left[top] == 0 {
                    stack.pop();
                }
            }
        }
    }
    streamed
}

/// For each use where the tail begins that streams, so that its bytes come near `wanted`; what is missing or too
/// much is added to the next use's share. Copies that would take less time than the link's latency are not worth
/// it: their bytes are handed on, too.
pub fn tails(instance: &Instance, wanted: &[u64]) -> Vec<u64> {
    let link = &instance.device.h2d;
    // Twice the latency, since every copy takes it once.
    let least = link.latency.saturating_mul(2);
    let mut error = 0i128;
    let mut tails = Vec::with_capacity(wanted.len());
    for (used, &wanted) in instance.uses.iter().zip(wanted) {
        let whole = used.bytes.get();
        let target = (i128::from(wanted) + error).clamp(0, i128::from(whole));
        let target = u64::try_from(target).unwrap_or(0);
        let kept = if link.time_for(Bytes::new(target)) < least {
            whole
        } else {
            used.cut_near(whole - target)
        };
        error += i128::from(wanted) - i128::from(whole - kept);
        // An error larger than a block is not an error of rounding; it would only wander.
        error = error.clamp(-i128::from(whole), i128::from(whole));
        tails.push(kept);
    }
    tails
}

/// Cuts the streamed tail of a use into at most `most` copies of about equal bytes: between two tensors where one
/// ends near, else between two rows.
pub fn copies(used: &Use, tail: u64, most: u64) -> Vec<Run> {
    let (end, mut from) = (used.bytes.get(), tail);
    let mut runs = Vec::new();
    for n in 1..most {
        let to = used.cut_near(tail + share(end - tail, n, most));
        if from < to && to < end {
            runs.push(Run { from, to });
            from = to;
        }
    }
    runs.extend((from < end).then_some(Run { from, to: end }));
    runs
}

/// `of · part / whole`, without overflow.
pub fn share(of: u64, part: u64, whole: u64) -> u64 {
    u64::try_from(u128::from(of) * u128::from(part) / u128::from(whole.max(1))).unwrap_or(of)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_blocks_stream_equal_shares() {
        let instance = Instance::equal(4, 40, 10, 100);
        assert_eq!(streamed_bytes(&instance, &[10; 4], 120), [30; 4]);
        assert_eq!(streamed_bytes(&instance, &[10; 4], 160), [40; 4]);
    }

    #[test]
    fn a_long_gap_takes_from_the_blocks_below() {
        let instance = Instance::equal(4, 40, 10, 100);
        // Everything crosses after use 1, before use 2 ends: 1 gives all it has, then 0, then 3.
        assert_eq!(streamed_bytes(&instance, &[0, 40, 0, 0], 100), [40, 40, 0, 20]);
    }

    #[test]
    fn rounding_errors_are_handed_on() {
        let mut instance = Instance::equal(4, 40, 10, 100);
        let halves = |used: &mut Use| {
            let half = |name| super::super::BlockPart::whole(name, Bytes::new(20));
            used.parts = vec![half("a"), half("b")];
        };
        instance.uses.iter_mut().for_each(halves);
        // Wanted 30 of 40: all of the first, 10 less of the second, and again.
        assert_eq!(tails(&instance, &[30; 4]), [0, 20, 0, 20]);
    }

    #[test]
    fn rows_are_cut_where_it_is_nearest() {
        let mut instance = Instance::equal(1, 40, 10, 100);
        instance.device.alignment = 1;
        let used = &mut instance.uses[0];
        let matrix = super::super::BlockPart::rows("w", Bytes::new(30), Bytes::new(6));
        used.parts = vec![super::super::BlockPart::whole("bias", Bytes::new(10)), matrix];
        assert_eq!([0, 4, 6, 12, 14, 33].map(|at| used.cut_near(at)), [0, 0, 10, 10, 16, 34]);
        let used = &instance.uses[0];
        assert_eq!(copies(used, 16, 2), [Run { from: 16, to: 28 }, Run { from: 28, to: 40 }]);
        let slices: Vec<String> =
            used.slices(Run { from: 4, to: 28 }).iter().map(ToString::to_string).collect();
        assert_eq!(slices[1..], ["w[0..3]"]);
    }
}
