//! Turns intervals that may overlap into sets of instants, so that time is counted once.
//!
//! ```text
//! spans      ███   ████            half-open: [start, end)
//!              ███    ███
//! union      █████ ███████        what a lane was busy
//! other           ███████    ██
//! intersect        ██████         when both were busy: overlap
//! ```

use crate::units::Nanos;

/// Disjoint, sorted, non-touching half-open intervals of nanoseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Intervals(Vec<(u64, u64)>);

impl Intervals {
    /// The union of `[start, end)` pairs in any order; empty and backward pairs count nothing.
    pub fn union(pairs: impl IntoIterator<Item = (Nanos, Nanos)>) -> Self {
        let mut sorted: Vec<(u64, u64)> =
            pairs.into_iter().map(|(start, end)| (start.get(), end.get())).collect();
        sorted.retain(|(start, end)| start < end);
        sorted.sort_unstable();
        let mut merged: Vec<(u64, u64)> = Vec::with_capacity(sorted.len());
        for (start, end) in sorted {
            match merged.last_mut() {
                Some(last) if start <= last.1 => last.1 = last.1.max(end),
                _ => merged.push((start, end)),
            }
        }
        Self(merged)
    }

    /// The instants that lie in both sets.
    pub fn intersect(&self, other: &Self) -> Self {
        let (mut left, mut right) = (0, 0);
        let mut both = Vec::new();
        while let (Some(a), Some(b)) = (self.0.get(left), other.0.get(right)) {
            let (start, end) = (a.0.max(b.0), a.1.min(b.1));
            if start < end {
                both.push((start, end));
            }
            // Only the interval that ends first can meet nothing further.
            if a.1 <= b.1 {
                left += 1;
            } else {
                right += 1;
            }
        }
        Self(both)
    }

    /// The instants of this set that do not lie in the other.
    pub fn without(&self, other: &Self) -> Self {
        let mut left = Vec::with_capacity(self.0.len());
        let mut next = 0;
        for &(mut start, end) in &self.0 {
            while other.0.get(next).is_some_and(|taken| taken.1 <= start) {
                next += 1;
            }
            let mut at = next;
            while let Some(taken) = other.0.get(at).filter(|taken| taken.0 < end) {
                if start < taken.0 {
                    left.push((start, taken.0));
                }
                start = start.max(taken.1);
                at += 1;
            }
            if start < end {
                left.push((start, end));
            }
        }
        Self(left)
    }

    /// How much of `[start, end)` lies in the set.
    pub fn covered(&self, start: Nanos, end: Nanos) -> Nanos {
        let (start, end) = (start.get(), end.get());
        let first = self.0.partition_point(|one| one.1 <= start);
        let inside = self.0[first..].iter().take_while(|one| one.0 < end);
        Nanos::new(inside.map(|one| one.1.min(end) - one.0.max(start)).sum())
    }

    /// The length of the set, in nanoseconds.
    pub fn total(&self) -> Nanos {
        Nanos::new(self.0.iter().map(|(start, end)| end - start).sum())
    }

    /// The intervals as `(start, end)`.
    pub fn iter(&self) -> impl Iterator<Item = (Nanos, Nanos)> + '_ {
        self.0.iter().map(|&(start, end)| (Nanos::new(start), Nanos::new(end)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn set(pairs: &[(u64, u64)]) -> Intervals {
        Intervals::union(pairs.iter().map(|&(a, b)| (Nanos::new(a), Nanos::new(b))))
    }

    #[test]
    fn touching_and_overlapping_pairs_become_one() {
        assert_eq!(set(&[(5, 8), (0, 3), (3, 4), (7, 9)]).0, [(0, 4), (5, 9)]);
        assert_eq!(set(&[(4, 4), (9, 2)]).0, []);
    }

    #[test]
    fn what_is_taken_out_is_not_in_what_is_left() {
        let of = |pairs: &[(u64, u64)]| {
            Intervals::union(pairs.iter().map(|&(a, b)| (Nanos::new(a), Nanos::new(b))))
        };
        let set = of(&[(0, 10), (20, 30), (40, 50)]);
        let taken = of(&[(2, 4), (8, 22), (24, 25), (30, 60)]);
        let left = set.without(&taken);
        assert_eq!(left, of(&[(0, 2), (4, 8), (22, 24), (25, 30)]));
        assert_eq!(left.total(), Nanos::new(13));
        assert_eq!(set.intersect(&taken).total().get() + left.total().get(), set.total().get());
        assert_eq!(taken.covered(Nanos::new(3), Nanos::new(24)), Nanos::new(1 + 14));
        assert_eq!(taken.covered(Nanos::new(60), Nanos::new(99)), Nanos::ZERO);
        assert_eq!(set.without(&Intervals::default()), set);
    }

    #[test]
    fn a_common_border_is_no_overlap() {
        assert_eq!(set(&[(0, 5)]).intersect(&set(&[(5, 9)])).total(), Nanos::ZERO);
        assert_eq!(set(&[(0, 5), (6, 9)]).intersect(&set(&[(4, 7)])).0, [(4, 5), (6, 7)]);
    }

    fn pairs() -> impl Strategy<Value = Vec<(u64, u64)>> {
        prop::collection::vec((0u64..60, 0u64..60), 0..12)
    }

    fn holds(pairs: &[(u64, u64)], instant: u64) -> bool {
        pairs.iter().any(|&(start, end)| start <= instant && instant < end)
    }

    proptest! {
        #[test]
        fn totals_count_every_instant_once(a in pairs(), b in pairs()) {
            let count = |test: &dyn Fn(u64) -> bool| (0..60).filter(|&t| test(t)).count() as u64;
            let (left, right) = (set(&a), set(&b));
            prop_assert_eq!(left.total().get(), count(&|t| holds(&a, t)));
            prop_assert_eq!(
                left.intersect(&right).total().get(),
                count(&|t| holds(&a, t) && holds(&b, t))
            );
            prop_assert_eq!(left.intersect(&right), right.intersect(&left));
            prop_assert!(left.0.windows(2).all(|pair| pair[0].1 < pair[1].0));
        }
    }
}
