//! Turns two runs into what they have in common: where they differ, a percentage between them says little by itself.

use super::view::{Against, View, signed_percent};
use crate::figures::Origin;
use crate::profile::Profile;

/// In what the conditions of a run differ from those of the main one, most important first.
pub(super) fn differences(main: &Profile, other: &Profile) -> Vec<&'static str> {
    let (a, b) = (&main.header, &other.header);
    let passes = |profile: &Profile| {
        let components = profile.header.components.iter();
        components.map(|one| (one.name.clone(), one.passes)).collect::<Vec<_>>()
    };
    let all = [
        ("model", a.model != b.model),
        ("device", a.device != b.device),
        ("rank", a.rank != b.rank),
        ("budget", a.budget != b.budget),
        ("plan digest", a.plan_digest != b.plan_digest),
        ("components or passes", passes(main) != passes(other)),
        ("reserve", a.reserve != b.reserve),
        ("backend", a.backend != b.backend),
        ("origin of times", a.origin != b.origin),
        ("seed", a.seed != b.seed),
        ("completeness", a.complete != b.complete),
    ];
    all.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect()
}

/// The run that shows what the first one was planned to be: the first simulation of the same plan among the others.
pub(super) fn planned<'a, 'b>(views: &'b [View<'a>]) -> Option<&'b View<'a>> {
    let (main, others) = views.split_first()?;
    let digest = &main.profile.header.plan_digest;
    others.iter().find(|other| {
        let header = &other.profile.header;
        header.origin == Origin::Simulated && header.plan_digest == *digest
    })
}

/// The makespan of a run against the main one's, never bare where their conditions differ.
pub(super) fn makespans(main: &View<'_>, other: &View<'_>) -> String {
    let percent = signed_percent(other.summary.makespan, main.summary.makespan);
    match differences(main.profile, other.profile) {
        same if same.is_empty() => percent,
        others => format!("{percent}; not alike: other {}", others.join(", ")),
    }
}

/// A sentence on another run, for a screen.
pub(super) fn sentence(number: usize, main: &View<'_>, other: &View<'_>) -> String {
    let header = &other.profile.header;
    let makespan = other.summary.makespan;
    let against = Against::of(makespan, main.summary.makespan);
    let mut line = format!(
        "Run {number}: {} on {}, budget {}, makespan {} ({})",
        header.model,
        header.device,
        header.budget.human(),
        makespan.human(),
        other.summary.origin
    );
    line += &match against {
        Against::Equal => ", the same as run 1".to_owned(),
        Against::Unknown => String::new(),
        other => format!(", {} of run 1", other.words(main.summary.makespan)),
    };
    let differs = differences(main.profile, other.profile);
    if !differs.is_empty() {
        line += &format!(". It differs from run 1 in {}", differs.join(", "));
    }
    line + "."
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::fixture;
    use crate::units::Bytes;

    #[test]
    fn unlike_runs_are_called_unlike() {
        let main = fixture::small();
        let mut other = fixture::small();
        assert_eq!(makespans(&View::of(&main), &View::of(&other)), "0.0 %");
        other.spans.retain(|span| span.pass < 2);
        other.header.plan_digest = "other".into();
        other.header.device = "Other GPU".into();
        other.header.budget = Bytes::new(5 << 30);
        let (a, b) = (View::of(&main), View::of(&other));
        expect_test::expect!["−28.0 %; not alike: other device, budget, plan digest"]
            .assert_eq(&makespans(&a, &b));
        expect_test::expect!["Run 2: toy on Other GPU, budget 5.0 GiB, makespan 385.0 ms (simulated), 28.0 % under the 535.0 ms of run 1. It differs from run 1 in device, budget, plan digest."].assert_eq(&sentence(2, &a, &b));
    }
}
