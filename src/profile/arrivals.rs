//! Turns copies into when they arrived, against when compute was free for the use they are for.
//!
//! ```text
//! compute  ██ 4 ██████┊██ 5 ██        5 is needed where 4 ends
//! h2d      █ 5 █┊ slack               its copy came so much earlier; later, and compute stalls
//! ```

use std::collections::BTreeMap;

use super::{Profile, Span};
use crate::lane::Lane;
use crate::units::Nanos;

/// A use of a block and the copies that brought it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrival<'a> {
    /// The compute that uses the bytes.
    pub consumer: &'a Span,
    /// When compute was free for it: the end of the compute before, or the start of the run.
    pub needed_at: Nanos,
    /// Its copies to the device, by start; none for what is resident.
    pub copies: Vec<&'a Span>,
}

impl Arrival<'_> {
    /// The last end of its copies.
    pub fn arrived_at(&self) -> Option<Nanos> {
        self.copies.iter().map(|copy| copy.end).max()
    }

    /// How much earlier than needed its last byte came, in nanoseconds: below zero, compute waited for it.
    pub fn slack(&self) -> Option<i64> {
        let (needed, arrived) = (self.needed_at.get(), self.arrived_at()?.get());
        let apart = i64::try_from(needed.abs_diff(arrived)).unwrap_or(i64::MAX);
        Some(if arrived > needed { -apart } else { apart })
    }
}

/// Every compute in order of time, with the copies that it used.
pub fn arrivals(profile: &Profile) -> Vec<Arrival<'_>> {
    let mut copies: BTreeMap<(u32, u32, u32), Vec<&Span>> = BTreeMap::new();
    let mut computes: Vec<&Span> = Vec::new();
    for span in &profile.spans {
        match span.lane {
            Lane::Compute => computes.push(span),
            Lane::H2d => {
                copies.entry((span.component, span.block, span.pass)).or_default().push(span);
            }
            _ => {}
        }
    }
    computes.sort_by_key(|span| (span.start, span.end));
    let mut free = super::extent(profile).0;
    let made = computes.into_iter().map(|consumer| {
        let key = (consumer.component, consumer.block, consumer.pass);
        let needed_at = free;
        free = free.max(consumer.end);
        Arrival { consumer, needed_at, copies: copies.get(&key).cloned().unwrap_or_default() }
    });
    made.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::{fixture, stalls};

    #[test]
    fn the_small_run_has_the_slack_of_its_picture() {
        let profile = fixture::small();
        let slack: Vec<_> = arrivals(&profile)
            .iter()
            .map(|one| {
                (one.consumer.pass, one.consumer.block, one.slack().map(|ns| ns / 1_000_000))
            })
            .collect();
        let first = [(0, 0, Some(-40)), (0, 1, Some(-20)), (0, 2, Some(10)), (1, 0, Some(20))];
        assert_eq!(slack[..4], first);
        // Block 1 of pass 1 comes 25 ms late; block 2 stays.
        assert_eq!(slack[4..6], [(1, 1, Some(-25)), (1, 2, None)]);
    }

    proptest::proptest! {
        #[test]
        fn what_comes_late_is_what_stalls(profile in fixture::any()) {
            let late = arrivals(&profile);
            for stall in stalls(&profile) {
                let of = |one: &&Arrival<'_>| {
                    (one.consumer.component, one.consumer.block, one.consumer.pass) == (stall.component, stall.block, stall.pass)
                };
                let one = late.iter().find(of).expect("its use");
                proptest::prop_assert_eq!(one.needed_at, stall.needed_at);
                proptest::prop_assert_eq!(one.slack(), Some(-i64::try_from(stall.late_by.get()).expect("a time")));
            }
        }
    }
}
