//! Turns named ranges into the kernels of blocks: by the launch that lies inside the range, or by the range on the GPU's
//! own timeline.

use std::collections::BTreeMap;

use super::{ListShape, Uses, kernels};
use crate::profile::trace::{Annotation, Place, Trace};

/// A range that names a block: where, and its index among all ranges as the number of the use.
struct Named<'a> {
    range: &'a Annotation,
    block: (usize, u64),
}

/// The kernels of each use of each block that ranges name; blocks without any kernel are absent.
pub(super) fn find<'a>(trace: &'a Trace, device: i64, lists: &[ListShape]) -> Uses<'a> {
    let names: Vec<Option<(usize, u64)>> =
        trace.annotation_names.iter().map(|name| block_of(name, lists)).collect();
    let mut by_place: BTreeMap<Place, Vec<Named<'_>>> = BTreeMap::new();
    for range in &trace.annotations {
        if let Some(Some(block)) = names.get(range.name as usize) {
            by_place.entry(range.on).or_default().push(Named { range, block: *block });
        }
    }
    let by_launch = collect(trace, device, &by_place, true);
    if by_launch.is_empty() { collect(trace, device, &by_place, false) } else { by_launch }
}

fn collect<'a>(
    trace: &'a Trace,
    device: i64,
    by_place: &BTreeMap<Place, Vec<Named<'_>>>,
    by_launch: bool,
) -> Uses<'a> {
    let mut uses: BTreeMap<(usize, u64), BTreeMap<i64, Vec<_>>> = BTreeMap::new();
    for row in kernels(trace, device) {
        let at = match by_launch {
            true => launch(trace, row.correlation),
            false => i64::try_from(row.start).ok().map(|start| (Place::Device(device), start)),
        };
        let Some((place, at)) = at else { continue };
        let Some(ranges) = by_place.get(&place) else { continue };
        if let Some(named) = innermost(ranges, at) {
            let of_block = uses.entry(named.block).or_default();
            of_block.entry(named.range.start).or_default().push(row);
        }
    }
    let in_order = |uses: BTreeMap<i64, Vec<_>>| uses.into_values().collect();
    uses.into_iter().map(|(block, uses)| (block, in_order(uses))).collect()
}

/// Where and when the call with this correlation was made.
fn launch(trace: &Trace, correlation: u64) -> Option<(Place, i64)> {
    let at = trace.launches.partition_point(|launch| launch.correlation < correlation);
    let launch = trace.launches.get(at).filter(|one| one.correlation == correlation)?;
    (correlation != 0).then_some((Place::Thread(launch.thread), launch.start))
}

/// Ranges looked at, from the one that began last: a block's range holds few others that name blocks.
const DEPTH: usize = 8;

/// The range that began last and holds this instant.
fn innermost<'a, 'b>(ranges: &'b [Named<'a>], at: i64) -> Option<&'b Named<'a>> {
    let after = ranges.partition_point(|named| named.range.start <= at);
    ranges[..after].iter().rev().take(DEPTH).find(|named| at <= named.range.end)
}

/// The block that a range's name means: `<list>.<index>` as a whole path, or the class and number of a module.
fn block_of(name: &str, lists: &[ListShape]) -> Option<(usize, u64)> {
    let by_path = lists.iter().enumerate().find_map(|(number, list)| {
        let index = index_after(name, &list.list)?;
        (index < list.count).then_some((number, index))
    });
    by_path.or_else(|| by_class(name.strip_prefix("nn.Module: ").unwrap_or(name), lists))
}

/// The number behind `list.` where the path ends with it.
fn index_after(name: &str, list: &str) -> Option<u64> {
    let inside_word = |c: char| c.is_alphanumeric() || c == '_';
    name.match_indices(list).find_map(|(at, _)| {
        let starts = name[..at].chars().next_back().is_none_or(|c| !inside_word(c));
        let rest = name[at + list.len()..].strip_prefix('.')?;
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let ends = rest[digits..].chars().next().is_none_or(|c| !inside_word(c) && c != '.');
        (starts && ends).then(|| rest[..digits].parse().ok())?
    })
}

/// The profiler numbers modules by class, in order of first use: lists of one class share the count.
fn by_class(name: &str, lists: &[ListShape]) -> Option<(usize, u64)> {
    let (class, number) = name.rsplit_once('_')?;
    let mut number: u64 = number.parse().ok()?;
    for (index, list) in lists.iter().enumerate() {
        if list.class.as_deref() != Some(class) {
            continue;
        }
        match number.checked_sub(list.count) {
            None => return Some((index, number)),
            Some(rest) => number = rest,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_mean_blocks_only_as_whole_paths() {
        let list = |list: &str, class: &str, count| ListShape {
            list: list.into(),
            class: Some(class.into()),
            count,
            bytes: None,
        };
        let lists = [list("blocks", "Block", 3), list("single_blocks", "Block", 2)];
        let cases = [
            ("blocks.2", Some((0, 2))),
            ("transformer.blocks.0", Some((0, 0))),
            ("forward (blocks.1)", Some((0, 1))),
            ("single_blocks.1", Some((1, 1))),
            ("blocks.3", None),
            ("blocks.1.attn", None),
            ("blocks.x", None),
            ("my_blocks.1", None),
            ("nn.Module: Block_2", Some((0, 2))),
            ("nn.Module: Block_4", Some((1, 1))),
            ("nn.Module: Block_5", None),
            ("nn.Module: Linear_0", None),
        ];
        for (name, block) in cases {
            assert_eq!(block_of(name, &lists), block, "{name}");
        }
    }
}
