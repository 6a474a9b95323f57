//! Turns each wait of compute for a copy into a [`Stall`] with its cause, and sums them per block.
//!
//! ```text
//! compute  ██ 4 ██┊░░ late by ░░┊██ 5 ██
//! h2d      …██ 3 ██┊███████ 5 ██┊            needed at ┊   arrived at ┊
//! ```
//!
//! The cause is the first that holds:
//!
//! 1. *cold start*: the use belongs to the first pass, before which nothing could be copied ahead;
//! 2. *window full*: the copy could only start once a compute had freed its bytes;
//! 3. *slow copy*: one of its copies ran at less than three quarters of the rate of another copy of this run that is no
//!    larger (larger copies are faster, if anything: latency weighs less);
//! 4. *copy longer than compute*: the copy itself takes longer than the use before it computes, so not even a
//!    copy that starts on time could hide under it;
//! 5. *queued*: an earlier copy held the lane until this one started;
//! 6. *issued late*: the lane and the window were free, and yet the copy started only then, or it waited for the host;
//! 7. *unknown*.
//!
//! Every stall has one cause, so the sums over causes and over blocks are the total stall.

use std::collections::BTreeMap;

use serde::Serialize;

use super::held::{held, moving};
use super::metrics::{Gap, gaps};
use super::{Intervals, Profile, Span, WaitedFor};
use crate::lane::Lane;
use crate::units::{Bytes, Nanos, Rate, plain};

/// Why a copy came late.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// First pass: nothing could be copied ahead of it.
    ColdStart,
    /// The copy waited for a compute to free its bytes in the window.
    WindowFull,
    /// The copy ran far below the rate that this run shows.
    SlowCopy,
    /// The copy takes longer than the compute it would hide under.
    LongCopy,
    /// An earlier copy held the lane.
    Queued,
    /// The host issued the copy late.
    IssuedLate,
    /// Nothing in the profile says why.
    Unknown,
}

impl Cause {
    /// Every cause, in the order in which they are tried.
    pub const ALL: [Self; 7] = [
        Self::ColdStart,
        Self::WindowFull,
        Self::SlowCopy,
        Self::LongCopy,
        Self::Queued,
        Self::IssuedLate,
        Self::Unknown,
    ];

    /// For tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ColdStart => "cold start",
            Self::WindowFull => "window full",
            Self::SlowCopy => "slow copy",
            Self::LongCopy => "copy longer than compute",
            Self::Queued => "queued behind a copy",
            Self::IssuedLate => "issued late",
            Self::Unknown => "unknown",
        }
    }

    /// What would help.
    pub const fn advice(self) -> &'static str {
        match self {
            Self::ColdStart => "paid once per run; more passes make it matter less",
            Self::WindowFull => "give the window more bytes or slots",
            Self::SlowCopy => {
                "look for pageable memory, other traffic on the link or a far NUMA node"
            }
            Self::LongCopy => "keep more of this block resident, or quantise it",
            Self::Queued => "spread residents so that streamed blocks do not follow each other",
            Self::IssuedLate => {
                "issue copies ahead of compute, without waiting on the host between them"
            }
            Self::Unknown => "look at the trace around this use",
        }
    }
}

/// One wait of compute for a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Stall {
    /// Index of the component.
    pub component: u32,
    /// Index of the block that was used late.
    pub block: u32,
    /// The pass of the use.
    pub pass: u32,
    /// When compute was free for it.
    #[serde(rename = "needed_at_ns", serialize_with = "plain")]
    pub needed_at: Nanos,
    /// When the last copy it waited for had ended.
    #[serde(rename = "arrived_at_ns", serialize_with = "plain")]
    pub arrived_at: Nanos,
    /// How long compute waited: its start minus `needed_at`.
    #[serde(rename = "late_by_ns", serialize_with = "plain")]
    pub late_by: Nanos,
    /// H2D bytes of this use.
    #[serde(serialize_with = "plain")]
    pub bytes: Bytes,
    /// Those bytes over the time their copies ran, in bytes per second; zero where nothing was copied.
    #[serde(rename = "bytes_per_s", serialize_with = "plain")]
    pub rate: Rate,
    /// Why.
    pub cause: Cause,
}

/// All stalls of one block, over the passes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BlockStalls {
    /// Index of the component.
    pub component: u32,
    /// Index of the block.
    pub block: u32,
    /// Uses that came late.
    pub count: u64,
    /// Sum of how late they were.
    #[serde(rename = "total_ns", serialize_with = "plain")]
    pub total: Nanos,
    /// The longest of them.
    pub worst: Stall,
    /// Stall per cause, causes without any left out.
    #[serde(serialize_with = "causes")]
    pub causes: BTreeMap<Cause, Nanos>,
}

impl BlockStalls {
    /// The cause that cost most; the one tried first where several cost the same.
    pub fn main_cause(&self) -> Cause {
        let most = self.causes.values().max();
        let found = self.causes.iter().find(|(_, time)| Some(*time) == most);
        found.map_or(Cause::Unknown, |(cause, _)| *cause)
    }
}

fn causes<S: serde::Serializer>(
    causes: &BTreeMap<Cause, Nanos>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(causes.iter().map(|(cause, time)| (cause, time.get())))
}

/// The highest rate of any H2D copy in this run, in bytes per second; zero without copies.
pub fn best_rate(profile: &Profile) -> Rate {
    let copies = profile.spans.iter().filter(|span| span.lane == Lane::H2d);
    copies.map(|span| rate(span.bytes, span.duration())).max().unwrap_or(Rate::ZERO)
}

/// Bytes over time, rounded down; zero for no time.
pub fn rate(bytes: Bytes, time: Nanos) -> Rate {
    let per_second =
        (u128::from(bytes.get()) * 1_000_000_000).checked_div(u128::from(time.get())).unwrap_or(0);
    Rate::new(u64::try_from(per_second).unwrap_or(u64::MAX))
}

/// Every stall, in order of time; their sum is the summary's stall.
pub fn stalls(profile: &Profile) -> Vec<Stall> {
    let copies = Copies::of(profile);
    let waits = gaps(profile).into_iter().filter(|gap| gap.is_for(Lane::H2d));
    waits.map(|gap| copies.explain(&gap)).collect()
}

/// Sums stalls per block, the costliest block first.
pub fn by_block(stalls: &[Stall]) -> Vec<BlockStalls> {
    let mut blocks: BTreeMap<(u32, u32), BlockStalls> = BTreeMap::new();
    for &stall in stalls {
        let sums = blocks.entry((stall.component, stall.block)).or_insert_with(|| BlockStalls {
            component: stall.component,
            block: stall.block,
            count: 0,
            total: Nanos::ZERO,
            worst: stall,
            causes: BTreeMap::new(),
        });
        sums.count += 1;
        sums.total = sums.total.saturating_add(stall.late_by);
        if stall.late_by > sums.worst.late_by {
            sums.worst = stall;
        }
        let cause = sums.causes.entry(stall.cause).or_default();
        *cause = cause.saturating_add(stall.late_by);
    }
    let mut sorted: Vec<BlockStalls> = blocks.into_values().collect();
    sorted.sort_by_key(|sums| std::cmp::Reverse(sums.total));
    sorted
}

/// Sums stalls per cause, in the order of [`Cause::ALL`]; causes without any are left out.
pub fn by_cause(stalls: &[Stall]) -> Vec<(Cause, u64, Nanos)> {
    let of_cause = |cause: Cause| {
        let mine = || stalls.iter().filter(move |stall| stall.cause == cause);
        (cause, mine().count() as u64, mine().map(|stall| stall.late_by).sum())
    };
    Cause::ALL.into_iter().map(of_cause).filter(|(_, count, _)| *count > 0).collect()
}

/// Which use a span belongs to: component, block, pass.
type Use = (u32, u32, u32);

/// The H2D lane and the computes, looked up by use.
struct Copies<'a> {
    lane: Vec<&'a Span>,
    by_use: BTreeMap<Use, Vec<usize>>,
    computes: Vec<&'a Span>,
    /// Sizes of copies with the best rate of any copy up to that size, both increasing.
    best: Vec<(Bytes, Rate)>,
    /// When collectives held the link.
    held: Intervals,
}

impl<'a> Copies<'a> {
    fn of(profile: &'a Profile) -> Self {
        let on = |lane: Lane| {
            let mut spans: Vec<&Span> =
                profile.spans.iter().filter(|span| span.lane == lane).collect();
            spans.sort_by_key(|span| (span.start, span.end));
            spans
        };
        let lane = on(Lane::H2d);
        let mut by_use: BTreeMap<Use, Vec<usize>> = BTreeMap::new();
        for (index, span) in lane.iter().enumerate() {
            by_use.entry((span.component, span.block, span.pass)).or_default().push(index);
        }
        let held = held(profile);
        let best = best_by_size(&lane, &held);
        Self { lane, by_use, computes: on(Lane::Compute), best, held }
    }

    /// Whether a copy ran at less than three quarters of the rate of another one that is no larger.
    fn is_slow(&self, index: usize) -> bool {
        let copy = self.lane[index];
        let up_to = self.best.partition_point(|(bytes, _)| *bytes <= copy.bytes);
        let best = up_to.checked_sub(1).and_then(|at| self.best.get(at));
        let own = rate(copy.bytes, moving(copy, &self.held));
        best.is_some_and(|(_, best)| own.get() < best.get() / 4 * 3)
    }

    fn of_use(&self, wanted: Use) -> &[usize] {
        self.by_use.get(&wanted).map_or(&[], Vec::as_slice)
    }

    /// The copy that compute names as what it waited for.
    fn find(&self, cause: &WaitedFor) -> Option<usize> {
        let of_use = self.of_use((cause.component, cause.block, cause.pass));
        let named = of_use.iter().find(|&&index| self.lane[index].piece == cause.piece);
        named.or(of_use.last()).copied()
    }

    fn explain(&self, gap: &Gap<'_>) -> Stall {
        let span = gap.span;
        let copy = span.waited_for.and_then(|cause| self.find(&cause));
        // What was late is the waited-for copy's use; mostly, but not always, the compute's own.
        let late_use = copy.map_or((span.component, span.block, span.pass), |index| {
            let copy = self.lane[index];
            (copy.component, copy.block, copy.pass)
        });
        let pieces = self.of_use(late_use);
        let bytes: Bytes = pieces.iter().map(|&index| self.lane[index].bytes).sum();
        let time: Nanos = pieces.iter().map(|&index| moving(self.lane[index], &self.held)).sum();
        Stall {
            component: span.component,
            block: span.block,
            pass: span.pass,
            needed_at: gap.from,
            arrived_at: copy.map_or(span.start, |index| self.lane[index].end),
            late_by: gap.length(),
            bytes,
            rate: rate(bytes, time),
            cause: self.cause(gap, copy, late_use, time),
        }
    }

    fn cause(&self, gap: &Gap<'_>, copy: Option<usize>, late_use: Use, time: Nanos) -> Cause {
        if gap.span.pass == 0 {
            return Cause::ColdStart;
        }
        let Some(copy) = copy else { return Cause::Unknown };
        let (first, freed) = self.chain(copy, late_use);
        if freed {
            return Cause::WindowFull;
        }
        if self.of_use(late_use).iter().any(|&piece| self.is_slow(piece)) {
            return Cause::SlowCopy;
        }
        let before = self.computes.partition_point(|span| span.start < gap.span.start);
        // What a copy can hide under is compute that leaves it the link.
        let hides_under =
            before.checked_sub(1).map(|index| moving(self.computes[index], &self.held));
        if hides_under.is_some_and(|compute| time > compute) {
            return Cause::LongCopy;
        }
        let touches = |index: usize| self.lane[index - 1].end >= self.lane[first].start;
        if first > 0 && touches(first) {
            return Cause::Queued;
        }
        // Nothing but the host can have kept a copy from a free lane and a free window.
        let waited = self.lane[first].waited_for.map(|cause| cause.lane);
        if matches!(waited, None | Some(Lane::Host)) { Cause::IssuedLate } else { Cause::Unknown }
    }

    /// Walks from a copy back over the pieces of the same use that ran just before it: the first of them, and
    /// whether any on the way waited for a compute.
    fn chain(&self, mut index: usize, late_use: Use) -> (usize, bool) {
        loop {
            let span = self.lane[index];
            if span.waited_for.is_some_and(|cause| cause.lane == Lane::Compute) {
                return (index, true);
            }
            let Some(before) = index.checked_sub(1) else { return (index, false) };
            let earlier = self.lane[before];
            let same = (earlier.component, earlier.block, earlier.pass) == late_use;
            if !same || earlier.end < span.start {
                return (index, false);
            }
            index = before;
        }
    }
}

/// The best rate of the copies up to each size; sizes that bring no better one are left out.
fn best_by_size(copies: &[&Span], held: &Intervals) -> Vec<(Bytes, Rate)> {
    let mut sizes: Vec<(Bytes, Rate)> =
        copies.iter().map(|copy| (copy.bytes, rate(copy.bytes, moving(copy, held)))).collect();
    sizes.sort_unstable();
    let mut best: Vec<(Bytes, Rate)> = Vec::new();
    for (bytes, rate) in sizes {
        if best.last().is_none_or(|last| rate > last.1) {
            best.push((bytes, rate));
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::{fixture, summary};
    use proptest::prelude::*;

    #[test]
    fn the_small_run_stalls_where_its_picture_says() {
        let profile = fixture::small();
        let stalls = stalls(&profile);
        let seen: Vec<_> = stalls
            .iter()
            .map(|one| (one.pass, one.block, one.late_by.get() / 1_000_000, one.cause.name()))
            .collect();
        expect_test::expect![[r#"
            [
                (
                    0,
                    0,
                    40,
                    "cold start",
                ),
                (
                    0,
                    1,
                    20,
                    "cold start",
                ),
                (
                    1,
                    1,
                    25,
                    "slow copy",
                ),
            ]
        "#]]
        .assert_debug_eq(&seen);
    }

    #[test]
    fn a_copy_that_waited_for_a_compute_is_a_full_window() {
        let mut profile = fixture::small();
        let freed = WaitedFor { lane: Lane::Compute, component: 0, block: 2, piece: None, pass: 0 };
        let late = profile.spans.iter_mut().find(|span| fixture::is_copy(span, 1, 1));
        late.expect("the late copy").waited_for = Some(freed);
        assert_eq!(stalls(&profile).last().expect("a stall").cause, Cause::WindowFull);
    }

    #[test]
    fn a_short_copy_behind_another_is_queued() {
        let mut profile = fixture::small();
        let late = profile.spans.iter_mut().find(|span| fixture::is_copy(span, 1, 1));
        let late = late.expect("the late copy");
        // The lane was held by another copy for all but the last 10 ms.
        let (start, end) = (late.start, late.end);
        late.start = end.saturating_sub(Nanos::new(10_000_000));
        let held = late.start;
        let mut other = late.clone();
        (other.start, other.end, other.block) = (start, held, 2);
        profile.spans.push(other);
        assert_eq!(stalls(&profile).last().expect("a stall").cause, Cause::Queued);
    }

    #[test]
    fn a_copy_far_below_the_runs_own_rate_is_slow() {
        let mut profile = fixture::small();
        let late = profile.spans.iter_mut().find(|span| fixture::is_copy(span, 1, 1));
        // Equal blocks, but this copy takes twice as long as the shortest.
        late.expect("the late copy").bytes = Bytes::new(1);
        assert_ne!(stalls(&profile).last().expect("a stall").cause, Cause::SlowCopy);
        let mut profile = fixture::small();
        let shortest = profile.spans.iter_mut().find(|span| fixture::is_copy(span, 0, 0));
        let shortest = shortest.expect("the first copy");
        shortest.end = shortest.start.saturating_add(Nanos::new(1_000_000));
        assert_eq!(stalls(&profile).last().expect("a stall").cause, Cause::SlowCopy);
    }

    #[test]
    fn a_copy_that_no_compute_is_long_enough_for_is_long() {
        // Copies of 60 ms, all of one rate, under computes of 50 ms, in a window that never fills.
        let profile = fixture::build(&[fixture::Recipe {
            blocks: (0..3).map(|index| format!("blocks.{index}")).collect(),
            passes: 3,
            slots: 9,
            bytes: 1_000_000_000,
            compute: &|_, _| 50_000_000,
            copy: &|_, _| 60_000_000,
            stays: &|_| false,
        }]);
        let stalls = stalls(&profile);
        let later: Vec<Cause> =
            stalls.iter().filter(|one| one.pass > 0).map(|one| one.cause).collect();
        assert_eq!(later, [Cause::LongCopy; 6]);
    }

    #[test]
    fn a_short_copy_on_a_free_lane_was_issued_late() {
        let mut profile = fixture::small();
        let late = profile.spans.iter_mut().find(|span| fixture::is_copy(span, 1, 1));
        let late = late.expect("the late copy");
        late.start = late.end.saturating_sub(Nanos::new(10_000_000));
        assert_eq!(stalls(&profile).last().expect("a stall").cause, Cause::IssuedLate);
        let late = profile.spans.iter_mut().find(|span| fixture::is_copy(span, 1, 1));
        let disk = WaitedFor { lane: Lane::Disk, component: 0, block: 1, piece: None, pass: 1 };
        late.expect("the late copy").waited_for = Some(disk);
        assert_eq!(stalls(&profile).last().expect("a stall").cause, Cause::Unknown);
    }

    #[test]
    fn rates_are_exact_and_no_time_is_no_rate() {
        assert_eq!(rate(Bytes::new(25), Nanos::new(1)).get(), 25_000_000_000);
        assert_eq!(rate(Bytes::new(25), Nanos::ZERO), Rate::ZERO);
    }

    proptest! {
        #[test]
        fn stalls_sum_to_the_summary_by_block_and_by_cause(profile in fixture::any()) {
            let stalls = stalls(&profile);
            let total = summary(&profile).stall;
            prop_assert_eq!(stalls.iter().map(|one| one.late_by).sum::<Nanos>(), total);
            prop_assert_eq!(by_block(&stalls).iter().map(|one| one.total).sum::<Nanos>(), total);
            prop_assert_eq!(by_cause(&stalls).iter().map(|one| one.2).sum::<Nanos>(), total);
            for block in by_block(&stalls) {
                prop_assert_eq!(block.causes.values().copied().sum::<Nanos>(), block.total);
            }
        }
    }
}
