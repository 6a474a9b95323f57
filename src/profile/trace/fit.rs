//! Turns the copies of a trace into the speed of a link: a rate and a latency.
//!
//! rate = median of bytes over time of the copies of at least 16 MiB (of 1 MiB where none is larger); latency = median
//! time that copies below 64 KiB take beyond bytes over rate. Both are the GPU's own times: what the host adds to issue
//! a copy is not in them. Medians, because a trace has copies that met others on the link.

use super::{Kind, Memory, Trace};
use crate::profile::rate;
use crate::units::{Bytes, Fraction, Nanos, Rate};

/// A link as its copies show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Fit {
    /// Bytes per second of large copies.
    #[serde(serialize_with = "crate::units::plain")]
    pub rate: Rate,
    /// Time of a copy beyond its bytes; absent without small copies.
    pub latency: Option<Nanos>,
    /// Copies that the rate is from.
    pub large: u64,
    /// Copies that the latency is from.
    pub small: u64,
    /// Median of |time − fit| over time, over all copies of the link.
    pub error: Fraction,
}

const LARGE: Bytes = Bytes::new(16 << 20);
const MEDIUM: Bytes = Bytes::new(1 << 20);
const SMALL: Bytes = Bytes::new(64 << 10);

/// Fits the copies of one direction and host memory on one device; `None` where none is large enough to say.
pub fn fit(trace: &Trace, device: i64, kind: Kind, memory: Option<Memory>) -> Option<Fit> {
    let mut copies: Vec<(Bytes, Nanos)> = Vec::new();
    for row in trace.rows_of(device) {
        let label = trace.label(row);
        let wanted = label.kind == kind && memory.is_none_or(|memory| memory == label.memory);
        if let (true, Some(bytes), false) = (wanted, row.bytes(), row.duration().is_zero()) {
            copies.push((bytes, row.duration()));
        }
    }
    of_copies(&copies)
}

fn of_copies(copies: &[(Bytes, Nanos)]) -> Option<Fit> {
    let rates = |least: Bytes| -> Vec<Rate> {
        let large = copies.iter().filter(|(bytes, _)| *bytes >= least);
        large.map(|(bytes, time)| rate(*bytes, *time)).collect()
    };
    let large = [LARGE, MEDIUM].map(rates).into_iter().find(|rates| !rates.is_empty())?;
    let count = large.len() as u64;
    let rate = median(large)?;
    let small = copies.iter().filter(|(bytes, _)| *bytes < SMALL);
    let beyond: Vec<Nanos> =
        small.map(|(bytes, time)| time.saturating_sub(rate.time_for(*bytes))).collect();
    let small = beyond.len() as u64;
    let latency = median(beyond);
    let error = |(bytes, time): &(Bytes, Nanos)| {
        let fitted = rate.time_for(*bytes).saturating_add(latency.unwrap_or_default());
        Fraction::of(fitted.get().abs_diff(time.get()), time.get())
    };
    let error = median(copies.iter().map(error).collect()).unwrap_or_default();
    Some(Fit { rate, latency, large: count, small, error })
}

/// The lower median.
fn median<T: Ord + Copy>(mut values: Vec<T>) -> Option<T> {
    values.sort_unstable();
    values.get(values.len().checked_sub(1)? / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_found_in_its_copies_though_some_met_others() {
        let link = |bytes: u64| (Bytes::new(bytes), Nanos::new(15_000 + bytes / 25));
        let mut copies: Vec<_> =
            [4 << 10, 8 << 10, 32 << 10, 64 << 20, 256 << 20, 256 << 20].map(link).into();
        copies.push((Bytes::new(64 << 20), Nanos::new(9_000_000)));
        let fit = of_copies(&copies).expect("a fit");
        let off = fit.rate.get().abs_diff(25_000_000_000);
        assert!(off < 250_000_000, "{}", fit.rate);
        assert_eq!(fit.latency.map(|latency| latency.get() / 100), Some(149));
        assert_eq!((fit.large, fit.small), (4, 3));
        assert!(fit.error < Fraction::from_ppm(10_000));
    }

    #[test]
    fn small_copies_alone_say_nothing_of_the_rate() {
        assert_eq!(of_copies(&[(Bytes::new(4096), Nanos::new(1_000))]), None);
        assert_eq!(of_copies(&[]), None);
    }
}
