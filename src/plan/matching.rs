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
//! With bytes that can be split at will this reaches the bound (theory: section 4); tensors cannot, so
//! [`round_to_parts`] picks tensors and hands the error on to the next block.

use super::instance::Instance;

/// Laps after which the stack no longer changes from lap to lap.
const LAPS: usize = 3;

/// Bytes of each use that stream, so that `total` of them do in a pass. `gaps[n]` is the time from the end of
/// use `n` to the end of the next; the link is taken to run at an even rate over the pass.
pub fn streamed_bytes(instance: &Instance, gaps: &[u64], total: u64) -> Vec<u64> {
    let uses = &instance.uses;
    let pass: u128 = gaps.iter().map(|&gap| u128::from(gap)).sum::<u128>().max(1);
    let mut left = vec![0u64; uses.len()];
    let mut version = vec![0usize; uses.len()];
    let mut streamed = vec![0u64; uses.len()];
    let mut stack: Vec<(usize, usize)> = Vec::new();
    for _ in 0..LAPS {
        let (mut elapsed, mut crossed) = (0u128, 0u64);
        for (n, used) in uses.iter().enumerate() {
            // Used again: what was taken since its last use is what had to be streamed.
            streamed[n] = used.bytes.get() - left[n].min(used.bytes.get());
            left[n] = used.bytes.get();
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

/// For each use the parts that stream, by index, so that their bytes come near `wanted`; what is missing or too
/// much is added to the next use's share. Blocks without parts stream whole or not at all.
pub fn round_to_parts(instance: &Instance, wanted: &[u64]) -> Vec<Share> {
    let mut error = 0i128;
    let mut shares = Vec::with_capacity(wanted.len());
    for (used, &wanted) in instance.uses.iter().zip(wanted) {
        let whole = used.bytes.get();
        let target = (i128::from(wanted) + error).clamp(0, i128::from(whole));
        let target_bytes = u64::try_from(target).unwrap_or(0);
        let share = match used.parts.is_empty() {
            true if whole > 0 && target_bytes >= whole.div_ceil(2) => Share::whole(whole),
            true => Share::default(),
            false => choose(&used.parts, target_bytes),
        };
        error += i128::from(wanted) - i128::from(share.bytes);
        // An error larger than a block is not an error of rounding; it would only wander.
        error = error.clamp(-i128::from(whole), i128::from(whole));
        shares.push(share);
    }
    shares
}

/// What streams of one block.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Share {
    /// Indices of the parts that stream, ascending; empty for a block without parts.
    pub parts: Vec<usize>,
    /// Their bytes.
    pub bytes: u64,
}

impl Share {
    fn whole(bytes: u64) -> Self {
        Self { parts: Vec::new(), bytes }
    }
}

/// Parts that come near a target: the largest first while they fit, then the one that brings it nearest.
///
/// Parts below a hundredth of the block stay, unless all of it streams: they are not worth a copy.
fn choose(parts: &[super::BlockPart], target: u64) -> Share {
    let whole: u64 = parts.iter().map(|part| part.bytes.get()).sum();
    if target >= whole {
        return Share { parts: (0..parts.len()).collect(), bytes: whole };
    }
    let mut order: Vec<usize> =
        (0..parts.len()).filter(|&n| parts[n].bytes.get() >= whole / 100).collect();
    order.sort_by_key(|&n| (std::cmp::Reverse(parts[n].bytes), n));
    let mut share = Share::default();
    let mut rest = Vec::new();
    for n in order {
        let size = parts[n].bytes.get();
        if share.bytes + size <= target {
            share.bytes += size;
            share.parts.push(n);
        } else {
            rest.push(n);
        }
    }
    let missing = target - share.bytes;
    // Too much by less than what is missing now is nearer.
    let nearest = rest.into_iter().min_by_key(|&n| (parts[n].bytes.get().abs_diff(missing), n));
    if let Some(n) = nearest.filter(|&n| parts[n].bytes.get().abs_diff(missing) < missing) {
        share.bytes += parts[n].bytes.get();
        share.parts.push(n);
    }
    share.parts.sort_unstable();
    share
}

/// Cuts a share into at most `most` groups of parts with about equal bytes.
pub fn groups(parts: &[super::BlockPart], share: &Share, most: u64) -> Vec<Vec<usize>> {
    let count = most.clamp(1, share.parts.len().max(1) as u64);
    let mut groups: Vec<Vec<usize>> = Vec::new();
    let (mut group, mut filled) = (Vec::new(), 0u64);
    for &n in &share.parts {
        let size = parts[n].bytes.get();
        let boundary = u128::from(share.bytes) * (groups.len() as u128 + 1) / u128::from(count);
        // Cut where the boundary is nearer before this part than after it.
        let over = (u128::from(filled) + u128::from(size)).saturating_sub(boundary);
        let under = boundary.saturating_sub(u128::from(filled));
        if !group.is_empty() && over > under {
            groups.push(std::mem::take(&mut group));
        }
        group.push(n);
        filled += size;
    }
    if !group.is_empty() {
        groups.push(group);
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Bytes;

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
        for used in &mut instance.uses {
            let part =
                |name: &str| super::super::BlockPart { name: name.into(), bytes: Bytes::new(20) };
            used.parts = vec![part("a"), part("b")];
        }
        let shares = round_to_parts(&instance, &[30; 4]);
        let bytes: Vec<u64> = shares.iter().map(|share| share.bytes).collect();
        assert_eq!(bytes.iter().sum::<u64>(), 120, "{bytes:?}");
        assert!(bytes.iter().all(|&bytes| bytes == 20 || bytes == 40));
    }
}
