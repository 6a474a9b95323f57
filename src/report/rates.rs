//! Turns the copies of a run or a trace into series of rates by size, for a chart, a table and a CSV file.

use std::collections::BTreeMap;

use csv::Writer;

use super::axis::{Tick, decimal_ticks};
use crate::error::{Error, Result};
use crate::lane::Lane;
use crate::profile::trace::{Kind, Memory, Trace};
use crate::profile::{Profile, SizeRates, by_size, copy_rates};
use crate::units::{Bytes, Rate};

/// Rates by size of the copies of several sorts.
pub(super) struct Rates {
    /// What the sorts are called and the lane whose colour they have, by number.
    pub sorts: Vec<(String, Lane)>,
    /// By sort and size.
    pub classes: Vec<SizeRates<usize>>,
}

impl Rates {
    /// The copies of a run by direction.
    pub(super) fn of_run(profile: &Profile) -> Self {
        let name = |lane: &Lane| match lane {
            Lane::D2h => ("D2H".to_owned(), Lane::D2h),
            _ => ("H2D".to_owned(), Lane::H2d),
        };
        Self::sorted(copy_rates(profile), name)
    }

    /// The copies of one device of a trace by direction and host memory; only those whose size is known.
    pub(super) fn of_trace(trace: &Trace, device: i64) -> Self {
        let rows = trace.rows_of(device).iter();
        let copies = rows.filter_map(|row| {
            let label = trace.label(row);
            let host = matches!(label.kind, Kind::Htod | Kind::Dtoh);
            Some(((label.kind, label.memory), row.bytes()?, row.duration())).filter(|_| host)
        });
        let name = |(kind, memory): &(Kind, Memory)| {
            let (word, lane) = match kind {
                Kind::Dtoh => ("DtoH", Lane::D2h),
                _ => ("HtoD", Lane::H2d),
            };
            let from = if *memory == Memory::Unknown { "" } else { memory.name() };
            (format!("{word} {from}").trim_end().to_owned(), lane)
        };
        Self::sorted(by_size(copies), name)
    }

    fn sorted<K: Ord + Copy>(
        classes: Vec<SizeRates<K>>,
        name: impl Fn(&K) -> (String, Lane),
    ) -> Self {
        let mut numbers: BTreeMap<K, usize> = BTreeMap::new();
        for class in &classes {
            let next = numbers.len();
            numbers.entry(class.of).or_insert(next);
        }
        let mut sorts: Vec<(usize, (String, Lane))> =
            numbers.iter().map(|(of, number)| (*number, name(of))).collect();
        sorts.sort_by_key(|(number, _)| *number);
        let numbered = classes.into_iter().map(|class| SizeRates {
            of: numbers.get(&class.of).copied().unwrap_or(0),
            from: class.from,
            count: class.count,
            bytes: class.bytes,
            time: class.time,
            rates: class.rates,
        });
        Self {
            classes: numbered.collect(),
            sorts: sorts.into_iter().map(|(_, sort)| sort).collect(),
        }
    }

    /// What a class's copies are called.
    pub(super) fn sort(&self, class: &SizeRates<usize>) -> &str {
        self.sorts.get(class.of).map_or("", |(name, _)| name.as_str())
    }

    /// One class in words.
    pub(super) fn words(&self, class: &SizeRates<usize>) -> String {
        let [slowest, low, median, high, fastest] = class.rates.map(gigabytes);
        let count = match class.count {
            1 => {
                return format!("{} {}: one copy at {median} GB/s", self.sort(class), class.size());
            }
            count => count,
        };
        format!(
            "{} {}: median {median} GB/s, half of the {count} copies {low} to {high}, all {slowest} to {fastest}",
            self.sort(class),
            class.size()
        )
    }

    /// The classes with a rate, and the powers of two from the smallest of them to the largest.
    pub(super) fn drawn(&self) -> (Vec<&SizeRates<usize>>, Vec<u32>) {
        let drawn: Vec<_> = self.classes.iter().filter(|one| !one.median().is_zero()).collect();
        let powers = || drawn.iter().filter_map(|class| class.from.get().checked_ilog2());
        let range = powers().min().zip(powers().max());
        let powers = range.map(|(first, last)| (first..=last).collect());
        (drawn, powers.unwrap_or_default())
    }

    /// The top of a chart's axis and its ticks.
    pub(super) fn axis(&self) -> (Rate, Vec<Tick<u64>>) {
        let fastest = self.classes.iter().map(|one| one.rates[4].get()).max().unwrap_or(0);
        let top = fastest.saturating_add(fastest / 12).max(1);
        (Rate::new(top), decimal_ticks(top, 6, 1_000_000_000, "GB/s"))
    }

    /// `rates.csv`: one row per sort and size.
    pub(super) fn csv(&self) -> Result<Vec<u8>> {
        let failed = |error: csv::Error| Error::Internal(format!("cannot write CSV: {error}"));
        let mut writer = Writer::from_writer(Vec::new());
        let columns = [
            "copies",
            "from_bytes",
            "count",
            "bytes",
            "time_ns",
            "slowest_bytes_per_s",
            "lower_quartile_bytes_per_s",
            "median_bytes_per_s",
            "upper_quartile_bytes_per_s",
            "fastest_bytes_per_s",
        ];
        writer.write_record(columns).map_err(failed)?;
        for class in &self.classes {
            let mut row = vec![self.sort(class).to_owned()];
            let numbers = [class.from.get(), class.count, class.bytes.get(), class.time.get()];
            row.extend(
                numbers.into_iter().chain(class.rates.map(Rate::get)).map(|n| n.to_string()),
            );
            writer.write_record(row).map_err(failed)?;
        }
        writer.into_inner().map_err(|error| Error::Internal(format!("cannot write CSV: {error}")))
    }
}

/// The lower end of a class, for an axis.
pub(super) fn power_label(power: u32) -> String {
    let size = Bytes::new(1u64.checked_shl(power).unwrap_or(u64::MAX));
    size.human().replace(".0 ", " ")
}

/// Decimal gigabytes per second with two decimals.
pub(super) fn gigabytes(rate: Rate) -> String {
    let hundredths = (u128::from(rate.get()) + 5_000_000) / 10_000_000;
    format!("{}.{:02}", hundredths / 100, hundredths % 100)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::fixture;

    #[test]
    fn the_small_run_in_words_and_rows() {
        let rates = Rates::of_run(&fixture::small());
        let words: Vec<String> = rates.classes.iter().map(|one| rates.words(one)).collect();
        expect_test::expect!["H2D 512–1024 MiB: median 25.00 GB/s, half of the 7 copies 14.29 to 25.00, all 10.53 to 25.00"].assert_eq(&words.join("\n"));
        let csv = String::from_utf8(rates.csv().expect("rows")).expect("text");
        expect_test::expect![[r#"
            copies,from_bytes,count,bytes,time_ns,slowest_bytes_per_s,lower_quartile_bytes_per_s,median_bytes_per_s,upper_quartile_bytes_per_s,fastest_bytes_per_s
            H2D,536870912,7,7000000000,365000000,10526315789,14285714285,25000000000,25000000000,25000000000
        "#]].assert_eq(&csv);
        assert_eq!(rates.drawn().1, [29]);
    }

    #[test]
    fn nothing_copied_nothing_drawn() {
        let mut profile = fixture::small();
        profile.spans.retain(|span| span.lane == Lane::Compute);
        let rates = Rates::of_run(&profile);
        assert!(rates.drawn().0.is_empty() && rates.drawn().1.is_empty());
        assert_eq!(rates.axis().0.get(), 1);
        assert_eq!(power_label(29), "512 MiB");
    }
}
