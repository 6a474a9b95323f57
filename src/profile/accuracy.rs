//! Turns a run and the run that its plan predicts into what differs, block by block and copy by copy.
//!
//! * the time of a block is the median over the passes of what its computes of one pass take together; the time of a
//!   copy is the median of its own durations. Both leave out the first pass where a later one has it, too.
//! * deviation = |measured − predicted| ÷ predicted
//! * MAPE (mean absolute percentage error) = mean of the deviations, every block and every copy counted once
//!
//! Medians are lower ones, so every figure is a time that was seen.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{ComponentHeader, Profile};
use crate::lane::Lane;
use crate::units::{Bytes, Fraction, Nanos, plain};

/// A block's compute or one copy: how long it was to take, and how long it took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Pair {
    /// Index of the component.
    pub component: u32,
    /// Index of the block.
    pub block: u32,
    /// Which piece of the block moved; absent for compute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub piece: Option<u32>,
    /// Bytes moved; zero for compute.
    #[serde(serialize_with = "plain")]
    pub bytes: Bytes,
    /// Passes of the run that show it.
    pub passes: u64,
    /// The median of the run that the plan predicts.
    #[serde(rename = "predicted_ns", serialize_with = "plain")]
    pub predicted: Nanos,
    /// The median of the run.
    #[serde(rename = "actual_ns", serialize_with = "plain")]
    pub actual: Nanos,
}

impl Pair {
    /// How far the run is from the prediction, as a share of the prediction; nothing where no time was predicted.
    pub fn deviation(&self) -> Option<Fraction> {
        let apart = u128::from(self.actual.get().abs_diff(self.predicted.get())) * 1_000_000;
        let predicted = u128::from(self.predicted.get());
        let ppm = (apart + predicted / 2).checked_div(predicted)?;
        Some(Fraction::from_ppm(u64::try_from(ppm).unwrap_or(u64::MAX)))
    }
}

/// All computes, or all copies.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Side {
    /// In order of component, block and piece.
    pub pairs: Vec<Pair>,
    /// Computes or copies that only one of the two runs has.
    pub unmatched: u64,
}

impl Side {
    /// The mean of all deviations; nothing without pairs.
    pub fn mape(&self) -> Option<Fraction> {
        let found = self.pairs.iter().filter_map(Pair::deviation);
        let (sum, count) = found
            .fold((0u128, 0u128), |(sum, count), one| (sum + u128::from(one.ppm()), count + 1));
        let mean = (sum + count / 2).checked_div(count)?;
        Some(Fraction::from_ppm(u64::try_from(mean).unwrap_or(u64::MAX)))
    }

    /// The pair that deviates most; the first of several.
    pub fn worst(&self) -> Option<&Pair> {
        let most = self.pairs.iter().filter_map(Pair::deviation).max()?;
        self.pairs.iter().find(|pair| pair.deviation() == Some(most))
    }
}

/// What was predicted of every block and copy, against what a run shows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Accuracy {
    /// Computes.
    pub computes: Side,
    /// Copies to the device.
    pub copies: Side,
}

/// Component, block and, for copies, piece.
type Key = (u32, u32, Option<u32>);

/// Times of one key by pass, and its bytes.
#[derive(Default)]
struct Seen {
    by_pass: BTreeMap<u32, Nanos>,
    bytes: Bytes,
}

impl Seen {
    /// The lower median of the passes after the first, or the first where there is no other.
    fn median(&self) -> (Nanos, u64) {
        let later = self.by_pass.iter().filter(|(pass, _)| **pass > 0).map(|(_, time)| *time);
        let mut times: Vec<Nanos> = later.collect();
        if times.is_empty() {
            times.extend(self.by_pass.values());
        }
        times.sort_unstable();
        let median = times.get(times.len().saturating_sub(1) / 2).copied().unwrap_or_default();
        (median, times.len() as u64)
    }
}

fn seen(profile: &Profile, lane: Lane) -> BTreeMap<Key, Seen> {
    let mut found: BTreeMap<Key, Seen> = BTreeMap::new();
    for span in profile.spans.iter().filter(|span| span.lane == lane) {
        let piece = if lane == Lane::Compute { None } else { span.piece };
        let seen = found.entry((span.component, span.block, piece)).or_default();
        let time = seen.by_pass.entry(span.pass).or_default();
        *time = time.saturating_add(span.duration());
        seen.bytes = span.bytes;
    }
    found
}

fn side(run: &Profile, planned: &Profile, lane: Lane) -> Side {
    let (mut ours, theirs) = (seen(run, lane), seen(planned, lane));
    let mut side = Side::default();
    for (key, predicted) in theirs {
        let Some(actual) = ours.remove(&key) else {
            side.unmatched += 1;
            continue;
        };
        let (component, block, piece) = key;
        let (time, passes) = actual.median();
        side.pairs.push(Pair {
            component,
            block,
            piece,
            bytes: actual.bytes,
            passes,
            predicted: predicted.median().0,
            actual: time,
        });
    }
    side.unmatched += ours.len() as u64;
    side
}

/// Compares a run with the run that its plan predicts; nothing where they have not the same components and blocks.
pub fn accuracy(run: &Profile, planned: &Profile) -> Option<Accuracy> {
    let uses = |one: &ComponentHeader| (one.name.clone(), one.blocks.clone());
    let all = |profile: &Profile| profile.header.components.iter().map(uses).collect::<Vec<_>>();
    (all(run) == all(planned)).then(|| Accuracy {
        computes: side(run, planned, Lane::Compute),
        copies: side(run, planned, Lane::H2d),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::fixture;

    fn slower(profile: &mut Profile, lane: Lane, block: u32, by: u64) {
        for span in &mut profile.spans {
            if (span.lane, span.block) == (lane, block) {
                span.end = span.end.saturating_add(Nanos::new(by));
            }
        }
    }

    #[test]
    fn a_run_is_what_it_was_planned_to_be() {
        let small = fixture::small();
        let accuracy = accuracy(&small, &small).expect("the same blocks");
        assert_eq!((accuracy.computes.pairs.len(), accuracy.copies.pairs.len()), (3, 3));
        assert_eq!(accuracy.computes.mape(), Some(Fraction::from_ppm(0)));
        assert_eq!(accuracy.copies.unmatched, 0);
    }

    #[test]
    fn deviations_are_shares_of_the_prediction_and_the_largest_has_a_name() {
        let planned = fixture::small();
        let mut run = fixture::small();
        // Computes of 50 ms: one 5 ms longer, one 10 ms; copies of 40 ms and more: one 20 ms longer.
        slower(&mut run, Lane::Compute, 0, 5_000_000);
        slower(&mut run, Lane::Compute, 1, 10_000_000);
        slower(&mut run, Lane::H2d, 2, 20_000_000);
        let accuracy = accuracy(&run, &planned).expect("the same blocks");
        // (10 % + 20 % + 0) ÷ 3 and (0 + 0 + 50 %) ÷ 3.
        assert_eq!(accuracy.computes.mape(), Some(Fraction::from_ppm(100_000)));
        assert_eq!(accuracy.computes.worst().map(|pair| pair.block), Some(1));
        assert_eq!(accuracy.copies.mape(), Some(Fraction::from_ppm(166_667)));
        let worst = accuracy.copies.worst().expect("copies");
        assert_eq!((worst.block, worst.piece, worst.passes), (2, Some(0), 1));
    }

    #[test]
    fn the_cold_start_counts_only_where_there_is_nothing_else() {
        let planned = fixture::small();
        let mut run = fixture::small();
        for span in run.spans.iter_mut().filter(|span| span.pass == 0) {
            span.end = span.end.saturating_add(Nanos::new(7_000_000));
        }
        let accuracy = accuracy(&run, &planned).expect("the same blocks");
        assert_eq!(accuracy.computes.mape(), Some(Fraction::from_ppm(0)));
        let off = accuracy.copies.pairs.iter().filter(|pair| pair.actual != pair.predicted);
        // Block 2 stays: it is copied in the first pass only.
        assert_eq!(off.map(|pair| pair.block).collect::<Vec<_>>(), [2]);
    }

    #[test]
    fn what_only_one_of_them_has_is_counted_and_other_blocks_are_no_match() {
        let planned = fixture::small();
        let mut run = fixture::small();
        run.spans.retain(|span| span.lane == Lane::Compute || span.block != 2);
        let found = accuracy(&run, &planned).expect("the same blocks");
        assert_eq!((found.copies.unmatched, found.copies.pairs.len()), (1, 2));
        run.header.components[0].blocks[0] = "other.0".into();
        assert_eq!(accuracy(&run, &planned), None);
    }
}
