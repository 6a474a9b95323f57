//! Turns rows sorted by start into the time that each combination of kinds was busy, in one walk and no memory.
//!
//! ```text
//! compute  ████ ███████                 A kind is busy until the latest end of its rows so far. Between two starts
//! htod       ██████    ██               only such ends change who is busy, so the walk stops there and adds the
//!          │c│b│h│ c  │h│ idle          time to the combination (c: compute, b: both, h: htod).
//! ```
//!
//! What a copy hid is the time that kernels ran between its start and its end: the walk's total of kernel time at its
//! end minus that at its start.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::Kind;

/// Number of kinds.
pub(super) const KINDS: usize = Kind::ALL.len();

/// A set of kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Set(pub u8);

impl Set {
    pub(super) const NONE: Self = Self(0);

    pub(super) fn of(kinds: impl IntoIterator<Item = Kind>) -> Self {
        Self(kinds.into_iter().fold(0, |set, kind| set | 1 << kind.index()))
    }

    pub(super) fn kernels() -> Self {
        Self::of(Kind::ALL.into_iter().filter(|kind| kind.is_kernel()))
    }

    pub(super) fn copies() -> Self {
        Self::of(Kind::ALL.into_iter().filter(|kind| kind.is_copy()))
    }

    pub(super) fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

/// Kernel time under one copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Under<T> {
    /// What the copy was given as.
    pub copy: T,
    /// Time that any kernel ran meanwhile.
    pub kernel: u64,
    /// Time that a compute kernel ran meanwhile.
    pub compute: u64,
}

/// A walk over the rows of one device.
#[derive(Debug)]
pub(super) struct Sweep<T> {
    now: u64,
    /// Until when each kind is busy.
    ends: [u64; KINDS],
    /// Time of each combination.
    times: Vec<u64>,
    kernel: u64,
    compute: u64,
    /// Copies in progress by end, with the totals at their start.
    open: BinaryHeap<Reverse<(u64, T, u64, u64)>>,
}

impl<T: Ord + Copy> Sweep<T> {
    /// A walk that begins at this instant.
    pub(super) fn new(start: u64) -> Self {
        Self {
            now: start,
            ends: [0; KINDS],
            times: vec![0; 1 << KINDS],
            kernel: 0,
            compute: 0,
            open: BinaryHeap::new(),
        }
    }

    /// Goes on to a row, which starts no earlier than the one before; gives the copies that ended until then.
    pub(super) fn row(
        &mut self,
        kind: Kind,
        time: (u64, u64),
        copy: Option<T>,
        mut ended: impl FnMut(Under<T>),
    ) {
        self.close(time.0, &mut ended);
        self.advance(time.0);
        let end = &mut self.ends[kind.index()];
        *end = (*end).max(time.1);
        if let Some(copy) = copy {
            self.open.push(Reverse((time.1, copy, self.kernel, self.compute)));
        }
    }

    /// Ends the walk at the last end; gives the copies still in progress and the time of each combination.
    pub(super) fn finish(mut self, last: u64, mut ended: impl FnMut(Under<T>)) -> Vec<(Set, u64)> {
        self.close(last, &mut ended);
        self.advance(last);
        let sets = (0u8..=u8::MAX).map(Set);
        sets.zip(self.times).filter(|(_, time)| *time > 0).collect()
    }

    fn close(&mut self, until: u64, ended: &mut impl FnMut(Under<T>)) {
        while let Some(&Reverse((end, copy, kernel, compute))) = self.open.peek() {
            if end > until {
                return;
            }
            self.open.pop();
            self.advance(end);
            ended(Under { copy, kernel: self.kernel - kernel, compute: self.compute - compute });
        }
    }

    fn advance(&mut self, to: u64) {
        while self.now < to {
            let (mut set, mut next) = (Set::NONE, to);
            for (index, &end) in self.ends.iter().enumerate() {
                if end > self.now {
                    set.0 |= 1 << index;
                    next = next.min(end);
                }
            }
            let time = next - self.now;
            self.times[usize::from(set.0)] += time;
            if set.meets(Set::kernels()) {
                self.kernel += time;
            }
            if set.meets(Set::of([Kind::Compute])) {
                self.compute += time;
            }
            self.now = next;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::Intervals;
    use crate::units::Nanos;
    use proptest::prelude::*;

    fn rows() -> impl Strategy<Value = Vec<(u64, u64, Kind)>> {
        let row = (0u64..80, 0u64..30, 0usize..KINDS);
        let row = row.prop_map(|(start, length, kind)| (start, start + length, Kind::ALL[kind]));
        prop::collection::vec(row, 1..25).prop_map(|mut rows| {
            rows.sort_unstable();
            rows
        })
    }

    fn union(rows: &[(u64, u64, Kind)], set: Set) -> Intervals {
        let of_set = rows.iter().filter(|row| Set::of([row.2]).meets(set));
        Intervals::union(of_set.map(|row| (Nanos::new(row.0), Nanos::new(row.1))))
    }

    proptest! {
        /// Two algorithms: this walk, and unions that are intersected.
        #[test]
        fn the_walk_agrees_with_unions_and_intersections(rows in rows()) {
            let mut sweep = Sweep::new(rows[0].0);
            let mut under = Vec::new();
            for (index, row) in rows.iter().enumerate() {
                sweep.row(row.2, (row.0, row.1), Some(index), |one| under.push(one));
            }
            let last = rows.iter().map(|row| row.1).max().expect("a row");
            let times = sweep.finish(last, |one| under.push(one));
            let total: u64 = times.iter().map(|(_, time)| time).sum();
            prop_assert_eq!(total, last - rows[0].0);
            let busy = |a: Set, b: Set| -> u64 {
                times.iter().filter(|(set, _)| set.meets(a) && set.meets(b)).map(|(_, time)| time).sum()
            };
            let sets = [Set::kernels(), Set::copies(), Set::of([Kind::Htod]), Set::of([Kind::Nccl])];
            for a in sets {
                for b in sets {
                    let both = union(&rows, a).intersect(&union(&rows, b)).total().get();
                    prop_assert_eq!(busy(a, b), both);
                }
            }
            prop_assert_eq!(under.len(), rows.len());
            for one in under {
                let row = rows[one.copy];
                let of = |set: Set| union(&rows, set).intersect(&union(&[row], Set(u8::MAX))).total().get();
                prop_assert_eq!(one.kernel, of(Set::kernels()));
                prop_assert_eq!(one.compute, of(Set::of([Kind::Compute])));
            }
        }
    }
}
