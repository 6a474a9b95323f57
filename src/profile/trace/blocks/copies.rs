//! Turns copies to the device that repeat as often as a list has blocks into the kernel time of a block.
//!
//! ```text
//! copies    ▒a▒▒▒b▒ ▒a▒▒▒b▒ ▒a▒▒▒b▒         sizes that repeat: the weights of one block after the other
//! kernels      ▐▐▐▌▐▌  ▐▐▐▌▐▌  ▐▐▐▌▐▌       whatever their names
//! time      │───────│───────│               from a block's first copy to the next block's: one block's kernels
//! ```
//!
//! An engine that streams its weights copies the same sizes for every block, even where kernels differ from block to
//! block. Between the first copies of two successive blocks it computes one block: the same one where it copies and
//! computes in turn, an earlier one where it copies ahead. So which block a time belongs to cannot be told, and every
//! block of a list is given the median of its list. Copies below 64 KiB (inputs, norms) are passed over.
//!
//! The sequence must stand exactly as often as the list has blocks; or, where its bytes are those of a block of the list,
//! at least as often: passes that follow each other without another copy between then make one long run.

use super::{BlockTime, ListShape};
use crate::profile::trace::{Kind, Row, Trace};
use crate::units::Nanos;

/// Copies smaller than this are no weights worth a plan.
const SMALLEST: u64 = 64 << 10;

/// Copies of one block at most, and comparisons made at most.
const LONGEST: usize = 2_048;
const MOST_STEPS: usize = 200_000_000;

/// Fewer repetitions than this happen by chance.
const FEWEST: u64 = 4;

/// The kernel time between blocks, by list.
pub(super) struct Between {
    /// What every block of the list is given.
    pub blocks: Vec<BlockTime>,
    /// Kernel time that lies between copies of blocks.
    pub inside: Nanos,
}

/// Finds every list; an error says why one cannot be told.
pub(super) fn find(trace: &Trace, device: i64, lists: &[ListShape]) -> Result<Between, String> {
    let copies: Vec<&Row> = trace
        .rows_of(device)
        .iter()
        .filter(|row| trace.label(row).kind == Kind::Htod)
        .filter(|row| row.bytes().is_some_and(|bytes| bytes.get() >= SMALLEST))
        .collect();
    let busy = Busy::of(trace, device);
    let mut found = Between { blocks: Vec::new(), inside: Nanos::ZERO };
    for list in lists {
        let windows = windows(&copies, list).ok_or_else(|| {
            format!("no sequence of copies repeats as the blocks of {} do", list.list)
        })?;
        let times: Vec<Nanos> = windows.iter().map(|(from, to)| busy.between(*from, *to)).collect();
        let idle = times.iter().filter(|time| time.is_zero()).count();
        if idle * 2 > times.len() {
            return Err(format!(
                "the copies of {} repeat, but no kernels run between them: weights were loaded, not streamed",
                list.list
            ));
        }
        found.inside = times.iter().copied().fold(found.inside, Nanos::saturating_add);
        found.blocks.push(time(list, &times));
    }
    Ok(found)
}

fn time(list: &ListShape, times: &[Nanos]) -> BlockTime {
    // The first warms up.
    let mut warm = times.get(1..).filter(|warm| warm.len() >= 2).unwrap_or(times).to_vec();
    warm.sort_unstable();
    let at = |index: usize| warm.get(index).copied().unwrap_or(Nanos::ZERO);
    let last = warm.len().saturating_sub(1);
    // The time after a pass's last copy has no end that copies show: there is one time less than uses.
    let uses = (times.len() as u64).div_ceil(list.count.max(1));
    BlockTime { uses, median: at(last / 2), range: (at(0), at(last)) }
}

/// From the first copy of a block to that of the next, for all blocks of all passes.
fn windows(copies: &[&Row], list: &ListShape) -> Option<Vec<(u64, u64)>> {
    if list.count < FEWEST {
        return None;
    }
    let count = usize::try_from(list.count).ok()?;
    let sizes: Vec<u64> = copies.iter().map(|row| row.bytes).collect();
    let most = (sizes.len() / count).min(LONGEST).min(MOST_STEPS / sizes.len().max(1));
    let mut best: Option<(u64, Vec<(u64, u64)>)> = None;
    for period in 1..=most {
        let mut covered = 0;
        let mut windows = Vec::new();
        for (start, repeats) in runs(&sizes, period, count) {
            let bytes: u64 = sizes[start..start + period].iter().sum();
            let same = list.bytes.is_some_and(|block| is_near(bytes, block));
            if !same && (repeats != count || repeats_itself(&sizes[start..start + period])) {
                continue;
            }
            covered += bytes.saturating_mul(repeats as u64);
            let firsts = (0..repeats).map(|block| copies[start + block * period].start);
            let firsts: Vec<u64> = firsts.collect();
            windows.extend(firsts.windows(2).map(|pair| (pair[0], pair[1])));
        }
        if !windows.is_empty() && best.as_ref().is_none_or(|(most, _)| covered > *most) {
            best = Some((covered, windows));
        }
    }
    best.map(|(_, windows)| windows)
}

/// Whether what is copied of a block is the block: to a hundredth, for norms and biases may stay.
fn is_near(copied: u64, block: u64) -> bool {
    copied.abs_diff(block) <= block / 100
}

/// Whether a sequence is a shorter one several times over: then it may be several blocks.
fn repeats_itself(sizes: &[u64]) -> bool {
    let length = sizes.len();
    let is_period = |part: &usize| (*part..length).all(|at| sizes[at] == sizes[at - part]);
    (1..=length / 2).filter(|part| length.is_multiple_of(*part)).any(|part| is_period(&part))
}

/// Where sequences of this period begin that stand at least `count` times, and how often they do.
fn runs(sizes: &[u64], period: usize, count: usize) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut length = 0;
    for at in 0..=sizes.len().saturating_sub(period) {
        if at + period < sizes.len() && sizes[at] == sizes[at + period] {
            length += 1;
            continue;
        }
        let repeats = length / period + 1;
        if repeats >= count {
            found.push((at - length, repeats));
        }
        length = 0;
    }
    found
}

/// When any kernel of a device ran.
struct Busy {
    /// Start and end of every stretch, and the time before it.
    stretches: Vec<(u64, u64, u64)>,
}

impl Busy {
    fn of(trace: &Trace, device: i64) -> Self {
        let mut stretches: Vec<(u64, u64, u64)> = Vec::new();
        for row in super::kernels(trace, device) {
            match stretches.last_mut() {
                Some(last) if row.start <= last.1 => last.1 = last.1.max(row.end),
                _ => {
                    let before =
                        stretches.last().map_or(0, |(from, to, before)| before + to - from);
                    stretches.push((row.start, row.end, before));
                }
            }
        }
        Self { stretches }
    }

    /// Kernel time before an instant.
    fn before(&self, at: u64) -> u64 {
        let next = self.stretches.partition_point(|(start, ..)| *start < at);
        let last = next.checked_sub(1).and_then(|index| self.stretches.get(index));
        last.map_or(0, |(start, end, before)| before + end.min(&at).saturating_sub(*start))
    }

    fn between(&self, from: u64, to: u64) -> Nanos {
        Nanos::new(self.before(to).saturating_sub(self.before(from)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_may_be_longer_than_a_list() {
        let pass = [7, 5, 7, 5, 7, 5, 9];
        assert_eq!(runs(&pass, 2, 3), [(0, 3)]);
        let twice = [7, 5].repeat(6);
        assert_eq!(runs(&twice, 2, 3), [(0, 6)]);
        assert!(runs(&pass, 2, 4).is_empty());
        assert!(runs(&[], 1, 4).is_empty());
    }

    #[test]
    fn several_blocks_are_not_one() {
        assert!(repeats_itself(&[7, 5, 7, 5]) && repeats_itself(&[3, 3]));
        assert!(!repeats_itself(&[7, 5, 7]) && !repeats_itself(&[3]));
    }

    #[test]
    fn kernel_time_is_counted_once_and_cut_at_the_ends() {
        let busy = Busy { stretches: vec![(10, 20, 0), (30, 50, 10)] };
        let between = |from, to| busy.between(from, to).get();
        assert_eq!(
            [between(0, 10), between(0, 15), between(15, 40), between(45, 99)],
            [0, 5, 15, 5]
        );
    }
}
