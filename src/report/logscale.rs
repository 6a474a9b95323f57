//! Turns positive values into places on a logarithmic axis, in integers: the same place on every machine.

use super::axis::Tick;
use crate::units::Nanos;

/// Steps per doubling.
const STEPS: u64 = 1 << 12;

/// The binary logarithm in steps of 1/4096, rounded down; zero for zero.
fn log2(value: u64) -> u64 {
    let Some(power) = value.checked_ilog2() else { return 0 };
    // The mantissa as a number from 1 to 2 with 63 bits behind the point; its square's carry is the next bit.
    let mut mantissa = u128::from(value) << (63 - power);
    let mut log = u64::from(power);
    for _ in 0..STEPS.trailing_zeros() {
        mantissa = (mantissa * mantissa) >> 63;
        let carry = mantissa >> 64 != 0;
        if carry {
            mantissa >>= 1;
        }
        log = 2 * log + u64::from(carry);
    }
    log
}

/// An axis from one time to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LogScale {
    low: u64,
    high: u64,
}

impl LogScale {
    /// An axis that holds all of these times but zero, with some room; from 1 ns to 10 ns for none.
    pub(super) fn around(times: impl Iterator<Item = Nanos>) -> Self {
        let (low, high) = times
            .map(Nanos::get)
            .filter(|&time| time > 0)
            .fold((u64::MAX, 0), |(low, high), time| (low.min(time), high.max(time)));
        if high == 0 {
            return Self { low: 1, high: 10 };
        }
        Self { low: (low / 4 * 3).max(1), high: high.saturating_add(high / 3).max(10) }
    }

    /// The ends.
    pub(super) fn ends(&self) -> (Nanos, Nanos) {
        (Nanos::new(self.low), Nanos::new(self.high))
    }

    /// Where a time lies on `width` units; times outside lie at the ends.
    pub(super) fn place(&self, time: Nanos, width: u32) -> u32 {
        let from = log2(self.low);
        let at = log2(time.get().clamp(self.low, self.high)) - from;
        let whole = (log2(self.high) - from).max(1);
        u32::try_from(at * u64::from(width) / whole).unwrap_or(width)
    }

    /// Round times within: 1, 2 and 5 of every power of ten, or only the powers where those were more than `most`.
    pub(super) fn ticks(&self, most: usize) -> Vec<Tick<Nanos>> {
        let of = |factors: &[u64]| -> Vec<u64> {
            let powers = (0..20u32).filter_map(|power| 10u64.checked_pow(power));
            let all =
                powers.flat_map(|power| factors.iter().map(move |one| power.saturating_mul(*one)));
            all.filter(|at| (self.low..=self.high).contains(at)).collect()
        };
        let fine = of(&[1, 2, 5]);
        let chosen = if fine.len() > most { of(&[1]) } else { fine };
        let label = |at: u64| {
            let units = [(1_000_000_000, "s"), (1_000_000, "ms"), (1_000, "us"), (1, "ns")];
            let (unit, name) = units.into_iter().find(|(unit, _)| at >= *unit).unwrap_or((1, "ns"));
            format!("{} {name}", at / unit)
        };
        chosen.into_iter().map(|at| Tick { at: Nanos::new(at), label: label(at) }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_ratios_are_equal_ways() {
        let scale = LogScale { low: 1_000, high: 1_000_000 };
        let place = |time: u64| scale.place(Nanos::new(time), 300);
        assert_eq!([1_000, 10_000, 100_000, 1_000_000].map(place), [0, 100, 200, 300]);
        assert_eq!([1, 2_000_000].map(place), [0, 300]);
        assert_eq!((log2(8), log2(0), log2(u64::MAX)), (3 * STEPS, 0, 64 * STEPS - 1));
    }

    #[test]
    fn ticks_are_round_and_few() {
        let scale = LogScale::around([Nanos::new(900_000), Nanos::new(30_000_000)].into_iter());
        let labels = |most| {
            scale.ticks(most).into_iter().map(|tick| tick.label).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(labels(9), "1 ms 2 ms 5 ms 10 ms 20 ms");
        assert_eq!(labels(3), "1 ms 10 ms");
        assert_eq!(LogScale::around(std::iter::empty()), LogScale { low: 1, high: 10 });
        let widest = LogScale::around([Nanos::new(1), Nanos::new(u64::MAX)].into_iter());
        assert_eq!(widest.place(Nanos::new(u64::MAX), 100), 100);
    }
}
