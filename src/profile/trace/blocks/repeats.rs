//! Turns a sequence of kernels that repeats as often as a list has blocks into the kernels of each block.
//!
//! ```text
//! names        e  a b b  a b b  a b b  f        period 3
//! same as the  ·  · · ·  = = =  = = =  ·        a run of 6 = 3 · (3 blocks − 1): three blocks, from its start
//! one before
//! ```
//!
//! A run of matches of length m at distance p is a sequence repeated ⌊m / p⌋ + 1 times. It is taken for a list only when
//! that is exactly the list's number of blocks, so neither a multiple nor a part of the period can pass for it.

use super::{ListShape, Uses, kernels};
use crate::profile::trace::{Row, Trace};

/// Kernels of one block at most, and comparisons made at most.
const LONGEST: usize = 4_096;
const MOST_STEPS: usize = 400_000_000;

/// Fewer repetitions than this happen by chance.
const FEWEST: u64 = 4;

/// Where a list was found: the first kernel of each pass, and kernels per block.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Match {
    period: usize,
    starts: Vec<usize>,
}

/// The kernels of each use of each block; an error says why a list cannot be told.
pub(super) fn find<'a>(
    trace: &'a Trace,
    device: i64,
    lists: &[ListShape],
) -> Result<Uses<'a>, String> {
    let rows = main_stream(trace, device);
    let names: Vec<u32> = rows.iter().map(|row| row.label).collect();
    let mut uses = Uses::new();
    for (number, list) in lists.iter().enumerate() {
        if list.count < FEWEST {
            return Err(format!("{} has too few blocks to be told by repetition", list.list));
        }
        if lists.iter().filter(|other| other.count == list.count).count() > 1 {
            return Err(format!("several lists have {} blocks each", list.count));
        }
        let found = longest(&names, &rows, list.count).ok_or_else(|| {
            format!("no sequence of kernels repeats {} times, as {} does", list.count, list.list)
        })?;
        for start in &found.starts {
            for block in 0..list.count {
                let from = start + usize::try_from(block).unwrap_or(0) * found.period;
                let of_use = rows[from..from + found.period].to_vec();
                uses.entry((number, block)).or_default().push(of_use);
            }
        }
    }
    Ok(uses)
}

/// The kernels of the stream that ran kernels longest, by start.
fn main_stream(trace: &Trace, device: i64) -> Vec<&Row> {
    let all = kernels(trace, device);
    let mut times = std::collections::BTreeMap::new();
    for row in &all {
        *times.entry(row.lane).or_insert(0u64) += row.end - row.start;
    }
    let longest = times.iter().max_by_key(|(lane, time)| (**time, std::cmp::Reverse(**lane)));
    let lane = longest.map(|(lane, _)| *lane);
    all.into_iter().filter(|row| Some(row.lane) == lane).collect()
}

/// Of all periods at which a sequence stands this often, the one whose kernels ran longest.
fn longest(names: &[u32], rows: &[&Row], count: u64) -> Option<Match> {
    let count = usize::try_from(count).ok()?;
    let most = (names.len() / count).min(LONGEST).min(MOST_STEPS / names.len().max(1));
    let candidates = (1..=most).map(|period| Match { period, starts: runs(names, period, count) });
    let time = |found: &Match| -> u64 {
        let of_start = |start: &usize| {
            rows[*start..start + count * found.period]
                .iter()
                .map(|row| row.end - row.start)
                .sum::<u64>()
        };
        found.starts.iter().map(of_start).sum()
    };
    let found = candidates.filter(|found| !found.starts.is_empty());
    found.max_by_key(|found| (time(found), std::cmp::Reverse(found.period)))
}

/// Where sequences of this period begin that stand `count` times, no more and no less.
fn runs(names: &[u32], period: usize, count: usize) -> Vec<usize> {
    let mut found = Vec::new();
    let mut length = 0;
    for at in 0..=names.len().saturating_sub(period) {
        let same = at + period < names.len() && names[at] == names[at + period];
        if same {
            length += 1;
            continue;
        }
        if length / period + 1 == count {
            found.push(at - length);
        }
        length = 0;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_counted_exactly() {
        // e abb abb abb abb f, twice.
        let pass = [9, 1, 2, 2, 1, 2, 2, 1, 2, 2, 1, 2, 2, 8];
        let names = [pass, pass].concat();
        assert_eq!(runs(&names, 3, 4), [1, 15]);
        assert!(runs(&names, 3, 3).is_empty());
        assert!(runs(&names, 3, 5).is_empty());
        // Twice the period stands half as often.
        assert_eq!(runs(&names, 6, 2), [1, 15]);
        assert_eq!(runs(&names, 14, 2), [0]);
        assert!(runs(&[], 3, 4).is_empty());
    }
}
