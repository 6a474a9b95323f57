//! Turns a range of integers into round tick marks with labels, all ticks of one axis in one unit.

use crate::units::{Bytes, Nanos};

/// One tick: where, and what it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tick<T> {
    /// The value it marks.
    pub at: T,
    /// With unit.
    pub label: String,
}

/// The smallest of 1, 2, 5 times a power of ten that divides `length` into at most `most` steps.
fn decimal_step(length: u64, most: u64) -> u64 {
    let least = length.div_ceil(most.max(1)).max(1);
    let mut power = 1u64;
    loop {
        for factor in [1, 2, 5] {
            let step = power.saturating_mul(factor);
            if step >= least {
                return step;
            }
        }
        power = power.saturating_mul(10);
    }
}

/// A multiple of `step` in units of `unit`, with just the decimals that `step` needs.
fn decimal_label(value: u64, step: u64, unit: u64, name: &str) -> String {
    let mut digits = 0usize;
    let mut scale = 1u64;
    while digits < 9 && !step.saturating_mul(scale).is_multiple_of(unit) {
        digits += 1;
        scale *= 10;
    }
    let scaled = u128::from(value) * u128::from(scale) / u128::from(unit);
    let (whole, rest) = (scaled / u128::from(scale), scaled % u128::from(scale));
    match digits {
        0 => format!("{whole} {name}"),
        _ => format!("{whole}.{rest:0digits$} {name}"),
    }
}

/// Ticks of a time axis: at most `most` steps, in s, ms, us or ns as the end of the range suggests.
pub fn time_ticks(start: Nanos, end: Nanos, most: u64) -> Vec<Tick<Nanos>> {
    let step = decimal_step(end.get().saturating_sub(start.get()), most);
    let (unit, name) = match end.get() {
        10_000_000_000.. => (1_000_000_000, "s"),
        1_000_000.. => (1_000_000, "ms"),
        1_000.. => (1_000, "us"),
        _ => (1, "ns"),
    };
    steps(start.get(), end.get(), step)
        .map(|at| Tick { at: Nanos::new(at), label: decimal_label(at, step, unit, name) })
        .collect()
}

/// Ticks of an axis from 0 in a unit of the caller's: at most `most` steps.
pub fn decimal_ticks(end: u64, most: u64, unit: u64, name: &str) -> Vec<Tick<u64>> {
    let step = decimal_step(end, most);
    steps(0, end, step).map(|at| Tick { at, label: decimal_label(at, step, unit, name) }).collect()
}

/// Ticks of a memory axis from 0: at most `most` steps of a power of two.
pub fn bytes_ticks(end: Bytes, most: u64) -> Vec<Tick<Bytes>> {
    let step =
        end.get().div_ceil(most.max(1)).max(1).checked_next_power_of_two().unwrap_or(1 << 63);
    let unit: u64 = if end.get() >= 1 << 30 { 1 << 30 } else { 1 << 20 };
    let name = if unit == 1 << 30 { "GiB" } else { "MiB" };
    // Binary fractions of a unit end after a few decimals; below 1/8 they are cut.
    let label = |at: u64| match (at % unit, step % unit) {
        (_, 0) => format!("{} {name}", at / unit),
        (rest, _) => {
            let thousandths = u128::from(rest) * 1_000 / u128::from(unit);
            let text = format!("{}.{thousandths:03}", at / unit);
            format!("{} {name}", text.trim_end_matches('0').trim_end_matches('.'))
        }
    };
    steps(0, end.get(), step).map(|at| Tick { at: Bytes::new(at), label: label(at) }).collect()
}

fn steps(start: u64, end: u64, step: u64) -> impl Iterator<Item = u64> {
    let first = start.div_ceil(step);
    (first..=end / step).map(move |index| index * step)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn labels(start: u64, end: u64, most: u64) -> String {
        let ticks = time_ticks(Nanos::new(start), Nanos::new(end), most);
        ticks.into_iter().map(|tick| tick.label).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn ticks_are_round_and_in_one_unit() {
        assert_eq!(labels(0, 535_000_000, 6), "0 ms 100 ms 200 ms 300 ms 400 ms 500 ms");
        assert_eq!(labels(210_000_000, 385_000_000, 4), "250 ms 300 ms 350 ms");
        assert_eq!(labels(0, 1_500_000, 4), "0.0 ms 0.5 ms 1.0 ms 1.5 ms");
        assert_eq!(labels(0, 28_000_000_000, 4), "0 s 10 s 20 s");
        assert_eq!(labels(5, 5, 4), "5 ns");
    }

    #[test]
    fn memory_ticks_are_powers_of_two() {
        let of = |end: u64, most: u64| {
            let ticks = bytes_ticks(Bytes::new(end), most).into_iter();
            ticks.map(|tick| tick.label).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(of(12 << 30, 4), "0 GiB 4 GiB 8 GiB 12 GiB");
        assert_eq!(of(3 << 29, 3), "0 GiB 0.5 GiB 1 GiB 1.5 GiB");
        assert_eq!(of(300 << 20, 3), "0 MiB 128 MiB 256 MiB");
    }

    proptest! {
        #[test]
        fn there_are_never_too_many_ticks(start: u64, length in 0u64..1 << 40, most in 1u64..20) {
            let start = start >> 4;
            let ticks = time_ticks(Nanos::new(start), Nanos::new(start + length), most);
            prop_assert!(ticks.len() as u64 <= most + 1);
            prop_assert!(ticks.iter().all(|tick| tick.at.get() >= start));
            prop_assert!(ticks.windows(2).all(|pair| pair[0].label != pair[1].label));
        }

        #[test]
        fn memory_axes_begin_at_zero_and_stay_short(end: u64, most in 1u64..20) {
            let ticks = bytes_ticks(Bytes::new(end), most);
            prop_assert_eq!(ticks.first().map(|tick| tick.at), Some(Bytes::ZERO));
            prop_assert!(ticks.len() as u64 <= most + 1);
        }
    }
}
