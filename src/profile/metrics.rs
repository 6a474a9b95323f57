//! Turns a [`Profile`] into the figures that summarise it, all of them integers.
//!
//! ```text
//! compute  ░░░░███ 0 ███···███ 1 ███░░░███ 2 ███     █ busy   ░ stall   · other idle
//! h2d      ██████████████   █████████████
//!          └── exposed ┘└ overlap ┘
//! ```
//!
//! * makespan = first start to last end, over all lanes
//! * busy of a lane = union of its spans; of copies without their pauses for collectives ([`held`]); overlap = compute busy ∩ h2d busy; exposed = h2d busy − overlap
//! * stall = compute idle because the next use waits for an H2D copy; the rest of idle is other idle
//! * makespan = compute busy + cold-start stall + steady stall + idle for the host + other idle (the [`Ledger`])
//! * pass time = last compute end of the pass − last compute end of the one before (for a component's first pass:
//!   − the last compute end of the component before, or 0)

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};

use super::{ComponentHeader, Intervals, Profile, Span, held};
use crate::figures::Origin;
use crate::lane::Lane;
use crate::units::{Bytes, Fraction, Nanos, plain};

/// The figures of one run. The JSON keys carry the unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// The model's name.
    pub model: String,
    /// The device's name.
    pub device: String,
    /// Of several devices, which.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rank: Option<String>,
    /// `sim` or `cuda`.
    pub backend: String,
    /// Where every time below comes from.
    pub origin: Origin,
    /// The clock that stamped the spans.
    pub clock: String,
    /// False when the run was cut short; figures cover what ran.
    pub complete: bool,
    /// First start to last end.
    #[serde(rename = "makespan_ns", serialize_with = "plain")]
    pub makespan: Nanos,
    /// Pass times, in order of use of the components.
    pub components: Vec<ComponentSummary>,
    /// Union of compute spans.
    #[serde(rename = "compute_busy_ns", serialize_with = "plain")]
    pub compute_busy: Nanos,
    /// Union of host-to-device copies.
    #[serde(rename = "h2d_busy_ns", serialize_with = "plain")]
    pub h2d_busy: Nanos,
    /// Union of device-to-host copies.
    #[serde(rename = "d2h_busy_ns", serialize_with = "plain")]
    pub d2h_busy: Nanos,
    /// Union of reads from storage.
    #[serde(rename = "disk_busy_ns", serialize_with = "plain")]
    pub disk_busy: Nanos,
    /// Time when compute and H2D copies are both busy.
    #[serde(rename = "overlap_ns", serialize_with = "plain")]
    pub overlap: Nanos,
    /// H2D copy time not hidden under compute.
    #[serde(rename = "exposed_ns", serialize_with = "plain")]
    pub exposed: Nanos,
    /// Overlap as a share of H2D busy time.
    pub overlap_fraction: Fraction,
    /// Compute idle because its next use waits for a copy.
    #[serde(rename = "stall_ns", serialize_with = "plain")]
    pub stall: Nanos,
    /// Makespan minus compute busy.
    #[serde(rename = "idle_ns", serialize_with = "plain")]
    pub idle: Nanos,
    /// Where the makespan went; sums to it.
    pub ledger: Ledger,
    /// Reserve plus slab: held from before the first pass to the end.
    #[serde(rename = "peak_bytes", serialize_with = "plain")]
    pub peak: Bytes,
    /// Reserve plus the highest sampled use of the slab.
    #[serde(rename = "in_use_peak_bytes", serialize_with = "plain")]
    pub in_use_peak: Bytes,
    /// VRAM given.
    #[serde(rename = "budget_bytes", serialize_with = "plain")]
    pub budget: Bytes,
    /// Budget minus peak; zero when the peak is over the budget.
    #[serde(rename = "headroom_bytes", serialize_with = "plain")]
    pub headroom: Bytes,
    /// Bytes copied to the device.
    #[serde(rename = "bytes_h2d", serialize_with = "plain")]
    pub bytes_h2d: Bytes,
    /// Bytes copied back to the host.
    #[serde(rename = "bytes_d2h", serialize_with = "plain")]
    pub bytes_d2h: Bytes,
    /// Lanes that ran anything, in the order of [`Lane::ALL`].
    pub lanes: Vec<LaneSummary>,
}

/// Pass times of one component.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ComponentSummary {
    /// The component's name.
    pub name: String,
    /// Time of each pass that computed anything.
    #[serde(rename = "pass_ns", serialize_with = "plain_list")]
    pub passes: Vec<Nanos>,
    /// Lower median of the passes after the first; of all passes where there is only one. Passes that were cut short or
    /// leave blocks out do not count where others ran. Where blocks take turns staying, passes differ by plan: the mean of the last whole
    /// rounds of turns, rounded up, where the run has one after its first pass.
    #[serde(rename = "steady_pass_ns", serialize_with = "plain")]
    pub steady: Nanos,
    /// The quartiles of the same passes as `steady`: half of them lie between.
    #[serde(rename = "steady_quartiles_ns", serialize_with = "plain_pair")]
    pub quartiles: (Nanos, Nanos),
    /// Passes that computed as much as the fullest one: all of them, unless the run was cut short or they leave blocks
    /// out.
    #[serde(rename = "whole_passes")]
    pub whole: u64,
    /// When its first pass may start: the last compute end of the component before, or 0.
    #[serde(rename = "start_ns", serialize_with = "plain")]
    pub start: Nanos,
}

/// Where the makespan went. The parts sum to it exactly.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Ledger {
    /// Compute busy.
    #[serde(rename = "compute_busy_ns", serialize_with = "plain")]
    pub compute: Nanos,
    /// Stall in the first pass of each component.
    #[serde(rename = "stall_cold_ns", serialize_with = "plain")]
    pub stall_cold: Nanos,
    /// Stall in all later passes.
    #[serde(rename = "stall_steady_ns", serialize_with = "plain")]
    pub stall_steady: Nanos,
    /// Compute idle because its next use waits for the host.
    #[serde(rename = "idle_host_ns", serialize_with = "plain")]
    pub idle_host: Nanos,
    /// Every other idle instant of compute, the time after its last use included.
    #[serde(rename = "idle_other_ns", serialize_with = "plain")]
    pub idle_other: Nanos,
}

impl Ledger {
    /// The sum of the parts: the makespan.
    pub fn total(&self) -> Nanos {
        [self.compute, self.stall_cold, self.stall_steady, self.idle_host, self.idle_other]
            .into_iter()
            .sum()
    }
}

/// What one lane did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LaneSummary {
    /// Which.
    pub lane: Lane,
    /// Spans on it.
    pub spans: u64,
    /// Union of its spans.
    #[serde(rename = "busy_ns", serialize_with = "plain")]
    pub busy: Nanos,
    /// Busy as a share of the makespan.
    pub utilisation: Fraction,
    /// Bytes moved.
    #[serde(serialize_with = "plain")]
    pub bytes: Bytes,
}

fn plain_list<S: Serializer>(times: &[Nanos], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(times.iter().map(|time| time.get()))
}

fn plain_pair<S: Serializer>(pair: &(Nanos, Nanos), serializer: S) -> Result<S::Ok, S::Error> {
    plain_list(&[pair.0, pair.1], serializer)
}

/// A wait of compute before one of its spans: from the end of the compute before to the start of this one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Gap<'a> {
    /// The compute span that starts after the wait.
    pub span: &'a Span,
    /// When compute became free.
    pub from: Nanos,
}

impl Gap<'_> {
    /// How long compute waited.
    pub(crate) fn length(&self) -> Nanos {
        self.span.start.saturating_sub(self.from)
    }

    /// Whether what it waited for runs on this lane.
    pub(crate) fn is_for(&self, lane: Lane) -> bool {
        self.span.waited_for.is_some_and(|cause| cause.lane == lane)
    }
}

/// First start and last end over all spans; both 0 for a profile without spans.
pub fn extent(profile: &Profile) -> (Nanos, Nanos) {
    let start = profile.spans.iter().map(|span| span.start).min().unwrap_or(Nanos::ZERO);
    let end = profile.spans.iter().map(|span| span.end).max().unwrap_or(Nanos::ZERO);
    (start, end)
}

/// Every wait of compute, in order of time.
pub(crate) fn gaps(profile: &Profile) -> Vec<Gap<'_>> {
    let mut computes: Vec<&Span> =
        profile.spans.iter().filter(|span| span.lane == Lane::Compute).collect();
    computes.sort_by_key(|span| (span.start, span.end));
    let mut free = extent(profile).0;
    let mut found = Vec::new();
    for span in computes {
        if span.start > free {
            found.push(Gap { span, from: free });
        }
        free = free.max(span.end);
    }
    found
}

/// When the lane was busy: copies that pause are not.
pub fn busy(profile: &Profile, lane: Lane) -> Intervals {
    let of_lane = profile.spans.iter().filter(|span| span.lane == lane);
    let spans = Intervals::union(of_lane.map(|span| (span.start, span.end)));
    match lane {
        Lane::H2d | Lane::D2h => spans.without(&held(profile)),
        Lane::Compute | Lane::Disk | Lane::Host => spans,
    }
}

fn moved(profile: &Profile, lane: Lane) -> Bytes {
    profile.spans.iter().filter(|span| span.lane == lane).map(|span| span.bytes).sum()
}

/// Summarises a run; see the module for every formula.
pub fn summary(profile: &Profile) -> Summary {
    let header = &profile.header;
    let (first, last) = extent(profile);
    let makespan = last.saturating_sub(first);
    let compute = busy(profile, Lane::Compute);
    let h2d = busy(profile, Lane::H2d);
    let overlap = compute.intersect(&h2d).total();
    let ledger = ledger(profile, makespan, compute.total());
    let highest = profile.vram.iter().map(|sample| sample.in_use).max().unwrap_or(Bytes::ZERO);
    let peak = header.reserve.saturating_add(header.slab);
    Summary {
        model: header.model.clone(),
        device: header.device.clone(),
        rank: header.rank.clone(),
        backend: header.backend.clone(),
        origin: header.origin,
        clock: header.clock.clone(),
        complete: header.complete,
        makespan,
        components: components(profile),
        compute_busy: compute.total(),
        h2d_busy: h2d.total(),
        d2h_busy: busy(profile, Lane::D2h).total(),
        disk_busy: busy(profile, Lane::Disk).total(),
        overlap,
        exposed: h2d.total().saturating_sub(overlap),
        overlap_fraction: Fraction::of(overlap.get(), h2d.total().get()),
        stall: ledger.stall_cold.saturating_add(ledger.stall_steady),
        idle: makespan.saturating_sub(compute.total()),
        ledger,
        peak,
        in_use_peak: header.reserve.saturating_add(highest),
        budget: header.budget,
        headroom: header.budget.saturating_sub(peak),
        bytes_h2d: moved(profile, Lane::H2d),
        bytes_d2h: moved(profile, Lane::D2h),
        lanes: lanes(profile, makespan),
    }
}

fn ledger(profile: &Profile, makespan: Nanos, compute: Nanos) -> Ledger {
    let mut ledger = Ledger { compute, ..Ledger::default() };
    for gap in gaps(profile) {
        let part = match () {
            () if gap.is_for(Lane::H2d) && gap.span.pass == 0 => &mut ledger.stall_cold,
            () if gap.is_for(Lane::H2d) => &mut ledger.stall_steady,
            () if gap.is_for(Lane::Host) => &mut ledger.idle_host,
            () => continue,
        };
        *part = part.saturating_add(gap.length());
    }
    ledger.idle_other = makespan.saturating_sub(ledger.total());
    ledger
}

fn lanes(profile: &Profile, makespan: Nanos) -> Vec<LaneSummary> {
    let of_lane = |lane: Lane| {
        let spans = profile.spans.iter().filter(|span| span.lane == lane).count() as u64;
        let busy = busy(profile, lane).total();
        let utilisation = Fraction::of(busy.get(), makespan.get());
        LaneSummary { lane, spans, busy, utilisation, bytes: moved(profile, lane) }
    };
    Lane::ALL.into_iter().map(of_lane).filter(|lane| lane.spans > 0).collect()
}

fn components(profile: &Profile) -> Vec<ComponentSummary> {
    let count = profile.header.components.len();
    // A map, not a table: the pass numbers of a file are not to be trusted with memory.
    let mut ends: Vec<BTreeMap<u32, (Nanos, u64)>> = vec![BTreeMap::new(); count];
    for span in profile.spans.iter().filter(|span| span.lane == Lane::Compute) {
        let Some(passes) = ends.get_mut(span.component as usize) else { continue };
        let (end, uses) = passes.entry(span.pass).or_default();
        *end = (*end).max(span.end);
        *uses += 1;
    }
    let mut clock = Nanos::ZERO;
    let named = profile.header.components.iter().zip(ends);
    named
        .map(|(component, ends)| {
            let start = clock;
            let fullest = fullest(profile, component, &ends);
            let mut passes = Vec::new();
            let mut whole = Vec::new();
            for (pass, (end, uses)) in ends {
                let time = end.saturating_sub(clock);
                passes.push(time);
                let is_whole = uses >= fullest && !component.leaves_out(pass);
                whole.extend(is_whole.then_some(time));
                clock = clock.max(end);
            }
            let counted = if whole.is_empty() { &passes } else { &whole };
            let later = later(counted);
            ComponentSummary {
                name: component.name.clone(),
                steady: mean_of_turns(counted, component.turns)
                    .unwrap_or_else(|| at_share(&later, 2)),
                quartiles: (at_share(&later, 4), upper_quartile(&later)),
                whole: whole.len() as u64,
                passes,
                start,
            }
        })
        .collect()
}

/// The computes of a whole pass: those of the fullest. Where a run was cut short in its only pass, one per block.
fn fullest(
    profile: &Profile,
    component: &ComponentHeader,
    passes: &BTreeMap<u32, (Nanos, u64)>,
) -> u64 {
    if profile.header.complete {
        return 0;
    }
    let most = passes.values().map(|(_, uses)| *uses).max().unwrap_or(0);
    if passes.len() == 1 { most.max(component.blocks.len() as u64) } else { most }
}

/// The mean of the last whole rounds of turns, the first pass left out; none without turns or such a round.
fn mean_of_turns(passes: &[Nanos], turns: u32) -> Option<Nanos> {
    let later = passes.get(1..).filter(|_| turns > 1)?;
    let rounds = later.len() / turns as usize * turns as usize;
    let last = later.get(later.len() - rounds..).filter(|last| !last.is_empty())?;
    let sum: u128 = last.iter().map(|pass| u128::from(pass.get())).sum();
    u64::try_from(sum.div_ceil(last.len() as u128)).ok().map(Nanos::new)
}

/// The passes after the first, sorted; the first where there is no other.
fn later(passes: &[Nanos]) -> Vec<Nanos> {
    let mut later = passes.get(1..).filter(|later| !later.is_empty()).unwrap_or(passes).to_vec();
    later.sort_unstable();
    later
}

/// The value below which one of so many parts of the sorted values lies: 2 for the lower median.
fn at_share(sorted: &[Nanos], parts: usize) -> Nanos {
    sorted.get(sorted.len().saturating_sub(1) / parts).copied().unwrap_or(Nanos::ZERO)
}

/// As far from the end as the lower quartile is from the start.
fn upper_quartile(sorted: &[Nanos]) -> Nanos {
    let last = sorted.len().saturating_sub(1);
    sorted.get(last - last / 4).copied().unwrap_or(Nanos::ZERO)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::fixture;
    use proptest::prelude::*;

    #[test]
    fn the_small_run_has_the_figures_one_can_count_in_its_picture() {
        let summary = summary(&fixture::small());
        let json = serde_json::to_string_pretty(&summary).expect("a summary");
        expect_test::expect_file!["../../tests/golden/profile/small.summary.json"]
            .assert_eq(&(json + "\n"));
    }

    #[test]
    fn a_profile_without_spans_is_all_zero() {
        let mut profile = fixture::small();
        profile.spans.clear();
        profile.vram.clear();
        let summary = summary(&profile);
        assert_eq!((summary.makespan, summary.ledger.total()), (Nanos::ZERO, Nanos::ZERO));
        assert_eq!(summary.components[0].passes, []);
        assert_eq!(summary.in_use_peak, profile.header.reserve);
    }

    #[test]
    fn passes_that_take_turns_are_averaged_over_whole_rounds() {
        let passes = [90, 4, 1, 2, 6, 2, 4].map(Nanos::new);
        assert_eq!(mean_of_turns(&passes, 3), Some(Nanos::new(4)), "19 in six passes, rounded up");
        assert_eq!(mean_of_turns(&passes, 4), Some(Nanos::new(4)), "14 in the last four");
        assert_eq!(mean_of_turns(&passes, 7), None);
        assert_eq!(mean_of_turns(&passes, 1), None);
    }

    #[test]
    fn a_pass_that_was_cut_short_is_not_the_steady_one() {
        let mut profile = fixture::small();
        profile.spans.retain(|span| (span.pass, span.block) <= (2, 0));
        profile.header.complete = false;
        let component = &summary(&profile).components[0];
        assert_eq!((component.passes.len(), component.whole), (3, 2));
        assert_eq!(component.steady, component.passes[1]);
        profile.spans.retain(|span| (span.pass, span.block) <= (0, 1));
        assert_eq!(summary(&profile).components[0].whole, 0);
    }

    #[test]
    fn a_missing_pass_is_left_out_and_time_goes_on() {
        let mut profile = fixture::small();
        profile.spans.retain(|span| span.pass != 1);
        let passes = &summary(&profile).components[0].passes;
        assert_eq!(passes.len(), 2);
        assert_eq!(
            passes.iter().copied().sum::<Nanos>(),
            fixture::small().spans.last().expect("spans").end
        );
    }

    proptest! {
        #[test]
        fn the_ledger_and_the_copies_sum_exactly(profile in fixture::any()) {
            let summary = summary(&profile);
            prop_assert_eq!(summary.ledger.total(), summary.makespan);
            prop_assert_eq!(summary.overlap.saturating_add(summary.exposed), summary.h2d_busy);
            prop_assert_eq!(summary.idle.saturating_add(summary.compute_busy), summary.makespan);
            prop_assert!(summary.stall <= summary.idle);
            prop_assert!(summary.overlap <= summary.compute_busy);
        }

        #[test]
        fn pass_times_sum_to_the_last_compute_end(profile in fixture::any()) {
            let computes = profile.spans.iter().filter(|span| span.lane == Lane::Compute);
            let last = computes.map(|span| span.end).max().unwrap_or(Nanos::ZERO);
            let all = summary(&profile).components.into_iter().flat_map(|one| one.passes);
            prop_assert_eq!(all.sum::<Nanos>(), last);
        }
    }
}
