//! Turns copies into the rates that each size of copy reaches: bytes over duration, by powers of two of the size.
//!
//! ```text
//! 128-256 MiB  ├───[ ┃ ]──┤    slowest, quartiles around the median, fastest
//! ```
//!
//! A small copy is mostly latency, so one rate for all sizes says little. Copies of no length have no rate: they are
//! counted and their bytes are summed, but they are in no median.

use std::collections::BTreeMap;

use serde::Serialize;

use super::held::{held, moving};
use super::{Profile, rate};
use crate::lane::Lane;
use crate::units::{Bytes, Nanos, Rate, plain};

/// The copies of one sort whose sizes lie between two powers of two.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SizeRates<K> {
    /// What the copies have in common: their lane, say.
    #[serde(rename = "copies")]
    pub of: K,
    /// The least size of the class, a power of two; zero for copies of nothing.
    #[serde(rename = "from_bytes", serialize_with = "plain")]
    pub from: Bytes,
    /// How many.
    pub count: u64,
    /// Their bytes.
    #[serde(serialize_with = "plain")]
    pub bytes: Bytes,
    /// Their durations added up.
    #[serde(rename = "time_ns", serialize_with = "plain")]
    pub time: Nanos,
    /// Rates in bytes per second: the slowest, the lower quartile, the lower median, the upper quartile, the fastest.
    #[serde(rename = "bytes_per_s", serialize_with = "five")]
    pub rates: [Rate; 5],
}

fn five<S: serde::Serializer>(rates: &[Rate; 5], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(rates.iter().map(|rate| rate.get()))
}

impl<K> SizeRates<K> {
    /// `128-256 MiB`.
    pub fn size(&self) -> String {
        let from = self.from.get();
        if from == 0 {
            return "0 B".to_owned();
        }
        let units = [(1u64 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
        let (unit, name) = units.into_iter().find(|(unit, _)| from >= *unit).unwrap_or((1, "B"));
        let least = u128::from(from / unit);
        format!("{least}\u{2013}{} {name}", least * 2)
    }

    /// The median rate.
    pub fn median(&self) -> Rate {
        self.rates[2]
    }
}

/// A class while it is filled.
#[derive(Default)]
struct Class {
    count: u64,
    bytes: Bytes,
    time: Nanos,
    rates: Vec<Rate>,
}

/// Sorts copies by what they have in common and by size, classes without any left out.
pub fn by_size<K: Ord + Copy>(
    copies: impl Iterator<Item = (K, Bytes, Nanos)>,
) -> Vec<SizeRates<K>> {
    let mut classes: BTreeMap<(K, u64), Class> = BTreeMap::new();
    for (of, bytes, time) in copies {
        let from = bytes.get().checked_ilog2().map_or(0, |power| 1u64 << power);
        let class = classes.entry((of, from)).or_default();
        class.count += 1;
        class.bytes = class.bytes.saturating_add(bytes);
        class.time = class.time.saturating_add(time);
        let speed = rate(bytes, time);
        class.rates.extend((!speed.is_zero()).then_some(speed));
    }
    let made = classes.into_iter().map(|((of, from), mut class)| {
        class.rates.sort_unstable();
        let last = class.rates.len().saturating_sub(1);
        let at = |index: usize| class.rates.get(index).copied().unwrap_or(Rate::ZERO);
        let rates = [at(0), at(last / 4), at(last / 2), at(last - last / 4), at(last)];
        let (count, bytes, time) = (class.count, class.bytes, class.time);
        SizeRates { of, from: Bytes::new(from), count, bytes, time, rates }
    });
    made.collect()
}

/// The copies of a run by lane and size.
pub fn copy_rates(profile: &Profile) -> Vec<SizeRates<Lane>> {
    // Copies that a pass leaves out move nothing.
    let copies = profile.spans.iter().filter(|span| !span.bytes.is_zero());
    let copies = copies.filter(|span| matches!(span.lane, Lane::H2d | Lane::D2h));
    let held = held(profile);
    by_size(copies.map(|span| (span.lane, span.bytes, moving(span, &held))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::fixture;

    #[test]
    fn the_small_run_copies_one_size_at_three_rates() {
        // 1 GB in 40, 70 and 95 ms, see the fixture's picture.
        let classes = copy_rates(&fixture::small());
        assert_eq!(classes.len(), 1);
        let class = &classes[0];
        assert_eq!((class.size().as_str(), class.count), ("512\u{2013}1024 MiB", 7));
        let gigabytes = class.rates.map(|rate| rate.get() / 1_000_000_000);
        assert_eq!(gigabytes, [10, 14, 25, 25, 25]);
        assert_eq!(class.bytes, Bytes::new(7_000_000_000));
    }

    #[test]
    fn classes_are_powers_of_two_and_sorts_stay_apart() {
        let copy = |of: u8, bytes: u64, time: u64| (of, Bytes::new(bytes), Nanos::new(time));
        let copies =
            [copy(1, 4095, 4), copy(1, 4096, 4), copy(1, 8191, 8), copy(2, 4096, 1), copy(1, 0, 5)];
        let classes = by_size(copies.into_iter());
        let seen: Vec<_> = classes.iter().map(|one| (one.of, one.size(), one.count)).collect();
        let wanted = [
            (1, "0 B".to_owned(), 1),
            (1, "2\u{2013}4 KiB".to_owned(), 1),
            (1, "4\u{2013}8 KiB".to_owned(), 2),
            (2, "4\u{2013}8 KiB".to_owned(), 1),
        ];
        assert_eq!(seen, wanted);
    }

    #[test]
    fn a_copy_of_no_length_counts_and_has_no_rate() {
        let copies = [(0, Bytes::new(64), Nanos::ZERO), (0, Bytes::new(64), Nanos::new(2))];
        let class = &by_size(copies.into_iter())[0];
        assert_eq!((class.count, class.rates), (2, [Rate::new(32_000_000_000); 5]));
        assert_eq!(
            by_size([(0, Bytes::new(u64::MAX), Nanos::ZERO)].into_iter())[0].median(),
            Rate::ZERO
        );
    }
}
