//! Turns a trace into the compute time of a model's blocks: from ranges that name them, from kernels that repeat, or from
//! copies that do.
//!
//! ```text
//! ranges    │ blocks.0   │ blocks.1   │ blocks.2   │       calls inside a range launch its kernels
//! kernels   ▐norm▐gemm▐gemm▐norm▐gemm▐gemm▐norm▐gemm▐gemm  or: the same kernels, as often as the list has blocks
//! ```
//!
//! The time of a use is the union of its kernels: what the GPU must compute, without the gaps in which it waited for
//! the host or for a copy. That is what a plan needs, whatever this engine did about its copies.

mod annotated;
mod copies;
mod repeats;

use std::collections::BTreeMap;

use super::{Row, Trace};
use crate::units::Nanos;

/// A block list to be found, in order of execution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListShape {
    /// Its name: `transformer_blocks`.
    pub list: String,
    /// The class of its blocks, where the manifest says it.
    pub class: Option<String>,
    /// How many blocks.
    pub count: u64,
    /// The bytes of one block, where all have the same.
    pub bytes: Option<u64>,
}

/// How blocks were found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Found {
    /// Ranges of the host or of the GPU's timeline name them.
    Annotations,
    /// Kernels repeat as often as the list has blocks.
    RepeatingKernels,
    /// Copies to the device do: the blocks of a list share one time.
    RepeatingCopies,
}

impl Found {
    /// For sentences: found by ….
    pub const fn by(self) -> &'static str {
        match self {
            Self::Annotations => "ranges that name them",
            Self::RepeatingKernels => "kernels that repeat",
            Self::RepeatingCopies => "copies that repeat (the blocks of a list share the median)",
        }
    }
}

/// What was found for one block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockTime {
    /// Uses that had kernels.
    pub uses: u64,
    /// Lower median of their times; the first use, which warms up, left out where there are three or more.
    pub median: Nanos,
    /// The shortest and the longest of the same uses.
    pub range: (Nanos, Nanos),
}

/// The blocks of every list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockTimes {
    /// How they were found.
    pub found: Found,
    /// On which device.
    pub device: i64,
    /// By list (index into what was asked for) and block.
    pub blocks: BTreeMap<(usize, u64), BlockTime>,
    /// Kernel time inside blocks, over all uses.
    pub inside: Nanos,
    /// Kernel time of the device.
    pub kernels: Nanos,
}

impl BlockTimes {
    /// Uses of the block that was used most often: passes in the trace.
    pub fn passes(&self) -> u64 {
        self.blocks.values().map(|block| block.uses).max().unwrap_or(0)
    }
}

/// Finds the blocks of these lists on one device; an honest refusal says what was looked for.
pub fn block_times(trace: &Trace, device: i64, lists: &[ListShape]) -> Result<BlockTimes, String> {
    let by_range = annotated::find(trace, device, lists);
    if by_range.len() as u64 == total(lists) {
        return Ok(times(trace, device, Found::Annotations, by_range));
    }
    let by_kernels = match repeats::find(trace, device, lists) {
        Ok(uses) => return Ok(times(trace, device, Found::RepeatingKernels, uses)),
        Err(why) => why,
    };
    match copies::find(trace, device, lists) {
        Ok(between) => Ok(shared(trace, device, lists, &between)),
        Err(by_copies) => Err(format!(
            "ranges name {} of {} blocks (`<list>.<index>` or `nn.Module: <class>_<index>`, with launches inside), \
             {by_kernels}, and {by_copies}",
            by_range.len(),
            total(lists)
        )),
    }
}

/// Every block of a list has the list's time.
fn shared(
    trace: &Trace,
    device: i64,
    lists: &[ListShape],
    between: &copies::Between,
) -> BlockTimes {
    let each = lists.iter().zip(&between.blocks).enumerate();
    let blocks = each.flat_map(|(number, (list, time))| {
        (0..list.count).map(move |block| ((number, block), *time))
    });
    BlockTimes {
        found: Found::RepeatingCopies,
        device,
        blocks: blocks.collect(),
        inside: between.inside,
        kernels: union(kernels(trace, device).into_iter()),
    }
}

fn total(lists: &[ListShape]) -> u64 {
    lists.iter().map(|list| list.count).sum()
}

/// The uses of each block, each a list of kernels by start.
type Uses<'a> = BTreeMap<(usize, u64), Vec<Vec<&'a Row>>>;

fn times(trace: &Trace, device: i64, found: Found, uses: Uses<'_>) -> BlockTimes {
    let mut inside = Nanos::ZERO;
    let mut blocks = BTreeMap::new();
    for (block, uses) in uses {
        let all: Vec<Nanos> = uses.iter().map(|rows| union(rows.iter().copied())).collect();
        inside = all.iter().copied().fold(inside, Nanos::saturating_add);
        let mut warm = all.get(1..).filter(|warm| warm.len() >= 2).unwrap_or(&all).to_vec();
        warm.sort_unstable();
        let (Some(&least), Some(&most)) = (warm.first(), warm.last()) else { continue };
        let median = warm[(warm.len() - 1) / 2];
        let time = BlockTime { uses: all.len() as u64, median, range: (least, most) };
        blocks.insert(block, time);
    }
    let kernels = union(kernels(trace, device).into_iter());
    BlockTimes { found, device, blocks, inside, kernels }
}

/// The kernels of a device, by start.
fn kernels(trace: &Trace, device: i64) -> Vec<&Row> {
    let rows = trace.rows_of(device).iter();
    rows.filter(|row| trace.label(row).kind.is_kernel()).collect()
}

/// Time that any of these rows, sorted by start, ran.
fn union<'a>(rows: impl Iterator<Item = &'a Row>) -> Nanos {
    let (mut total, mut until) = (0, 0);
    for row in rows {
        total += row.end.saturating_sub(row.start.max(until));
        until = until.max(row.end);
    }
    Nanos::new(total)
}

#[cfg(test)]
mod tests;
