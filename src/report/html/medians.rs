//! Turns the spans of a run into the median time of each block's compute and copies.

use std::collections::BTreeMap;

use crate::lane::Lane;
use crate::profile::Profile;
use crate::units::Nanos;

/// By component and block: compute of a use, copies of a use after the first pass; `None` where there was none.
pub(super) fn block_medians(profile: &Profile) -> BTreeMap<(u32, u32), [Option<Nanos>; 2]> {
    let mut uses: BTreeMap<(u32, u32), [BTreeMap<u32, Nanos>; 2]> = BTreeMap::new();
    for span in &profile.spans {
        let part = match span.lane {
            Lane::Compute => 0,
            Lane::H2d if span.pass > 0 => 1,
            _ => continue,
        };
        let of_block = uses.entry((span.component, span.block)).or_default();
        let time = of_block[part].entry(span.pass).or_default();
        *time = time.saturating_add(span.duration());
    }
    let median = |passes: BTreeMap<u32, Nanos>| {
        let mut times: Vec<Nanos> = passes.into_values().collect();
        times.sort_unstable();
        times.get(times.len().saturating_sub(1) / 2).copied()
    };
    uses.into_iter().map(|(block, parts)| (block, parts.map(median))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::fixture;

    #[test]
    fn medians_are_per_use_and_copies_of_the_cold_start_do_not_count() {
        let medians = block_medians(&fixture::small());
        let ms = |time: Option<Nanos>| time.map(|time| time.get() / 1_000_000);
        // Blocks 0 and 1 stream, block 2 stays, see the fixture's picture.
        assert_eq!(medians.len(), 3);
        assert_eq!(ms(medians[&(0, 0)][0]), Some(50));
        assert!(medians[&(0, 0)][1].is_some() && medians[&(0, 2)][1].is_none());
    }
}
