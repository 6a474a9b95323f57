//! Turns two runs into a verdict that knows the noise: faster, slower, or no difference that can be told.
//!
//! Compared are the steady pass times of each component. The difference counts when it is larger than both
//!
//! * the noise: half the interquartile range of the passes of one run plus half that of the other, and
//! * the tolerance: one per cent of the first run's pass.
//!
//! A measured run with fewer than three passes after the first shows no noise, so nothing can be told from it.

use serde::Serialize;

use super::view::{Against, View, signed_percent};
use crate::figures::Origin;
use crate::profile::ComponentSummary;
use crate::units::{Nanos, plain};

/// Differences below this share of the first run's pass are not worth a verdict: a hundredth.
const TOLERANCE: u64 = 100;

/// Passes after the first that show the noise of a measured run.
const FEWEST: usize = 3;

/// What can be said of a component's pass time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// No difference beyond noise and tolerance.
    Same,
    /// Faster than the first run.
    Faster,
    /// Slower than the first run.
    Slower,
    /// Too few passes were measured.
    TooFewPasses,
}

/// One component in two runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Comparison {
    /// Number of the second run; the first is 1.
    pub run: usize,
    /// The component's name.
    pub component: String,
    /// Whether all passes are compared, since some leave blocks out, and not a steady one.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub whole: bool,
    /// Steady pass of the first run.
    #[serde(rename = "base_pass_ns", serialize_with = "plain")]
    pub base: Nanos,
    /// Steady pass of the other.
    #[serde(rename = "pass_ns", serialize_with = "plain")]
    pub other: Nanos,
    /// Half the interquartile ranges of both, added.
    #[serde(rename = "noise_ns", serialize_with = "plain")]
    pub noise: Nanos,
    /// What follows.
    pub change: Change,
}

impl Comparison {
    fn of(
        run: usize,
        base: (&ComponentSummary, Origin),
        other: (&ComponentSummary, Origin),
    ) -> Self {
        let half = |one: &ComponentSummary| {
            one.quartiles.1.saturating_sub(one.quartiles.0).get().div_ceil(2)
        };
        let noise = Nanos::new(half(base.0).saturating_add(half(other.0)));
        let (was, is) = (base.0.steady, other.0.steady);
        let least = noise.max(Nanos::new(was.get() / TOLERANCE));
        let few = |one: (&ComponentSummary, Origin)| {
            one.1 == Origin::Measured && one.0.passes.len() <= FEWEST
        };
        let change = match () {
            () if few(base) || few(other) => Change::TooFewPasses,
            () if was.get().abs_diff(is.get()) <= least.get() => Change::Same,
            () if is < was => Change::Faster,
            () => Change::Slower,
        };
        let component = base.0.name.clone();
        Self { run, component, whole: false, base: was, other: is, noise, change }
    }

    /// Of all passes together: what is left to compare where some leave blocks out. Runs of different length tell
    /// nothing.
    fn of_all(
        run: usize,
        base: (&ComponentSummary, Origin),
        other: (&ComponentSummary, Origin),
    ) -> Self {
        let all = |(one, origin): (&ComponentSummary, Origin)| {
            let steady = one.passes.iter().copied().sum();
            (ComponentSummary { steady, ..one.clone() }, origin)
        };
        let (was, is) = (all(base), all(other));
        let same = base.0.passes.len() == other.0.passes.len();
        let told = Self::of(run, (&was.0, was.1), (&is.0, is.1));
        let change = if same { told.change } else { Change::TooFewPasses };
        Self { whole: true, change, ..told }
    }

    /// A sentence with the numbers.
    pub fn sentence(&self) -> String {
        let verdict = match self.change {
            Change::Same => "no difference beyond noise and the tolerance of 1 %",
            Change::Faster => "faster, beyond noise and tolerance",
            Change::Slower => "slower, beyond noise and tolerance",
            Change::TooFewPasses if self.whole => {
                "runs of different length, some passes of which leave blocks out, cannot be compared"
            }
            Change::TooFewPasses => "too few passes to tell",
        };
        let percent = match Against::of(self.other, self.base) {
            Against::Equal => "the same".to_owned(),
            _ => signed_percent(self.other, self.base),
        };
        let noise = match self.noise.is_zero() {
            true => "none".to_owned(),
            false => self.noise.human(),
        };
        format!(
            "Run {}, {}: {} {} against {} of run 1 ({percent}), noise {noise}: {verdict}.",
            self.run,
            self.component,
            if self.whole { "all passes" } else { "steady pass" },
            self.other.human(),
            self.base.human()
        )
    }
}

/// Every other run against the first, for each component that both ran.
pub fn comparisons(views: &[View<'_>]) -> Vec<Comparison> {
    let Some((base, others)) = views.split_first() else { return Vec::new() };
    let mut found = Vec::new();
    for (run, other) in (2..).zip(others) {
        for one in &base.summary.components {
            let same = other.summary.components.iter().find(|other| other.name == one.name);
            if let Some(same) =
                same.filter(|same| !same.passes.is_empty() && !one.passes.is_empty())
            {
                let pair = ((one, base.summary.origin), (same, other.summary.origin));
                let skips = |view: &View<'_>| {
                    let mut headers = view.profile.header.components.iter();
                    headers.any(|header| header.name == one.name && header.skipped.is_some())
                };
                found.push(match skips(base) || skips(other) {
                    true => Comparison::of_all(run, pair.0, pair.1),
                    false => Comparison::of(run, pair.0, pair.1),
                });
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::fixture;

    fn component(passes: &[u64]) -> ComponentSummary {
        let mut later: Vec<Nanos> =
            passes[1..].iter().map(|ms| Nanos::new(ms * 1_000_000)).collect();
        later.sort_unstable();
        let last = later.len() - 1;
        ComponentSummary {
            name: "transformer".into(),
            passes: passes.iter().map(|ms| Nanos::new(ms * 1_000_000)).collect(),
            steady: later[last / 2],
            quartiles: (later[last / 4], later[last - last / 4]),
            whole: passes.len() as u64,
            start: Nanos::ZERO,
        }
    }

    fn change(base: &[u64], other: &[u64], origin: Origin) -> Change {
        Comparison::of(2, (&component(base), origin), (&component(other), origin)).change
    }

    #[test]
    fn a_difference_counts_only_beyond_noise_and_tolerance() {
        let measured = |base: &[u64], other: &[u64]| change(base, other, Origin::Measured);
        let quiet = [900, 500, 500, 501, 500, 500];
        assert_eq!(measured(&quiet, &[900, 504, 504, 504, 504, 504]), Change::Same);
        assert_eq!(measured(&quiet, &[900, 520, 520, 521, 520, 520]), Change::Slower);
        assert_eq!(measured(&quiet, &[900, 480, 481, 480, 480, 480]), Change::Faster);
        // The same difference in runs that scatter is none.
        let noisy = [900, 480, 520, 500, 470, 530];
        assert_eq!(measured(&noisy, &[900, 500, 540, 520, 490, 550]), Change::Same);
        assert_eq!(measured(&quiet, &[900, 700, 700]), Change::TooFewPasses);
        assert_eq!(change(&[9, 500], &[9, 700], Origin::Simulated), Change::Slower);
    }

    #[test]
    fn a_run_is_the_same_as_itself() {
        let small = fixture::small();
        let found = comparisons(&[View::of(&small), View::of(&small)]);
        assert_eq!((found.len(), found[0].change), (1, Change::Same));
        assert!(found[0].sentence().contains("(the same)"), "{}", found[0].sentence());
        assert!(comparisons(&[View::of(&small)]).is_empty());
    }
}
