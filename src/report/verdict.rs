//! Turns a run into its verdict: the sentences a reader should know if they read nothing else, most important first.

use super::boundaries::Crossing;
use super::held;
use super::view::{Against, Busy, View};
use crate::figures::Origin;
use crate::profile::{self, Cause, ComponentHeader, ComponentSummary};
use crate::units::{Fraction, Nanos};

/// Components that get a sentence each; the rest are counted.
const NAMED: usize = 8;

impl View<'_> {
    /// The verdict.
    pub fn verdict(&self) -> Vec<String> {
        if self.profile.spans.is_empty() {
            let cut = if self.summary.complete { "" } else { " The run was cut short." };
            let mut lines = vec![format!("Nothing ran: the profile has no spans.{cut}")];
            lines.push(self.memory_verdict());
            return lines;
        }
        let mut lines = Vec::new();
        lines.extend(self.one_of_several());
        lines.extend(self.cut_short());
        lines.extend(self.pass_verdicts());
        lines.extend(self.skips());
        let crossings = Crossing::all(self);
        lines.extend(crossings.iter().take(NAMED).map(|one| one.sentence(self)));
        lines.push(self.overlap_verdict());
        lines.push(self.memory_verdict());
        lines.push(self.binding_verdict());
        lines
    }

    /// Which rank ran.
    fn one_of_several(&self) -> Option<String> {
        let rank = self.profile.header.rank.as_ref()?;
        let pauses = match held::is_held(self.profile) {
            true => " and pause while collectives hold their link",
            false => "",
        };
        Some(format!(
            "This is one of several devices: {rank}. Its compute includes its collectives, its copies run at its share \
             of the host{pauses}; waits for slower ranks are not in it."
        ))
    }

    /// What ran of a run that did not end as planned.
    fn cut_short(&self) -> Option<String> {
        if self.summary.complete {
            return None;
        }
        let whole: u64 = self.summary.components.iter().map(|one| one.whole).sum();
        let planned: u64 =
            self.profile.header.components.iter().map(|one| u64::from(one.passes)).sum();
        Some(format!(
            "The run was cut short after {whole} of {planned} passes: figures cover what ran."
        ))
    }

    fn pass_verdicts(&self) -> Vec<String> {
        let components = &self.summary.components;
        let named = components.iter().zip(&self.profile.header.components);
        let mut lines: Vec<String> =
            named.take(NAMED).map(|(one, header)| self.pass_verdict(one, header)).collect();
        if let Some(more) = components.len().checked_sub(NAMED).filter(|more| *more > 0) {
            lines.push(format!("And {more} more components."));
        }
        if components.len() > 1 {
            lines.insert(0, self.whole_verdict());
        }
        lines
    }

    /// The headline of a run of several components.
    fn whole_verdict(&self) -> String {
        let components = &self.summary.components;
        let named = components.iter().take(NAMED).map(|one| match one.passes.len() {
            0 => format!("{} none", one.name),
            count => format!("{} {count}", one.name),
        });
        let mut named = named.collect::<Vec<_>>().join(", ");
        if components.len() > NAMED {
            named += ", \u{2026}";
        }
        format!(
            "The whole run of {} components takes {} ({}); passes: {named}.",
            components.len(),
            self.summary.makespan.human(),
            self.summary.origin
        )
    }

    fn pass_verdict(&self, component: &ComponentSummary, header: &ComponentHeader) -> String {
        let (name, origin) = (&component.name, self.summary.origin);
        let Some(first) = component.passes.first() else {
            return format!("{name} computed nothing.");
        };
        let steady = component.steady;
        // Only a whole later pass is steady.
        if component.passes.len() == 1 || component.whole < 2 {
            let cut = component.whole == 0 && !self.summary.complete;
            let what = if cut { "The beginning of a pass" } else { "The first pass" };
            let line = format!(
                "{what} of {name}, cold start included, takes {} ({origin})",
                first.human()
            );
            let predicted = header.prediction.as_ref().filter(|_| component.whole > 0);
            return line
                + &predicted.map_or(String::new(), |one| as_predicted(*first, one.first_pass))
                + ".";
        }
        let every = header.skipped.is_some();
        let what = if every { "A pass that runs every block" } else { "A steady pass" };
        let mut line = format!("{what} of {name} takes {} ({origin})", steady.human());
        let mut wrong = String::new();
        if let Some(bound) = &header.bound {
            let least = bound.any_schedule;
            match Against::of(steady, least) {
                Against::Equal => {
                    let noun = header.unit.noun();
                    line += &format!(
                        ", which is the bound: no schedule that holds {noun} while it computes beats it (estimated)"
                    );
                }
                Against::Below(_) => {
                    wrong = format!(
                        " The pass is below the bound its plan states, {}: computes or copies were faster here than the plan takes them to be.",
                        least.human()
                    )
                }
                Against::Unknown => {}
                above @ Against::Above(_) => {
                    let words = above.words(least);
                    let noun = header.unit.noun();
                    line += &format!(
                        "; {words} that no schedule that holds {noun} while it computes beats (estimated)"
                    );
                }
            }
        }
        // Passes beside those that leave blocks out are not steady; the whole run is what is predicted of them.
        if let Some(prediction) = header.prediction.as_ref().filter(|_| header.skipped.is_none()) {
            line += &as_predicted(steady, prediction.pass);
        }
        line + "." + &wrong
    }

    fn overlap_verdict(&self) -> String {
        let summary = &self.summary;
        if summary.h2d_busy.is_zero() {
            return "Nothing was copied to the device.".to_owned();
        }
        let time = |time: Nanos| if time.is_zero() { "none".to_owned() } else { time.human() };
        format!(
            "{} of H2D copy time is hidden under compute, {} are exposed; compute stalls for {} of the \
             makespan: {} in the cold start, {} later.",
            summary.overlap_fraction.percent(),
            summary.exposed.human(),
            self.of_makespan(summary.stall),
            time(summary.ledger.stall_cold),
            time(summary.ledger.stall_steady)
        )
    }

    fn memory_verdict(&self) -> String {
        let summary = &self.summary;
        let (peak, budget) = (summary.peak.human(), summary.budget.human());
        match summary.budget.checked_sub(summary.peak) {
            Some(headroom) => format!(
                "Peak VRAM is {peak} (slab + reserve) of a budget of {budget}: {} headroom.",
                headroom.human()
            ),
            None => format!(
                "Peak VRAM is {peak} (slab + reserve), over the budget of {budget} by {}.",
                summary.peak.saturating_sub(summary.budget).human()
            ),
        }
    }

    /// Whether a simulated component computes longer than its uses take alone: its device has contention.
    fn is_slowed(&self) -> bool {
        let header = &self.profile.header;
        let alone = match header.components.as_slice() {
            [one] => one.bound.as_ref().map(|bound| bound.compute),
            _ => None,
        };
        let pass = self.busy.per_pass(self.busy.compute).get();
        let slower = |alone: Nanos| pass > alone.get().saturating_add(alone.get() / 100);
        header.origin == Origin::Simulated && self.busy.passes > 0 && alone.is_some_and(slower)
    }

    /// What would make it faster, from how busy the lanes are in steady passes.
    fn binding_verdict(&self) -> String {
        let busy = &self.busy;
        let base = self.base();
        let [compute, h2d] = [busy.compute, busy.h2d].map(|time| busy.share(time).percent());
        if busy.link_binds() {
            let least = busy.per_pass(busy.link()).human();
            let held = match busy.held.is_zero() {
                true => String::new(),
                false => format!(", collectives hold it {}", busy.share(busy.held).percent()),
            };
            return format!(
                "The link binds: H2D is busy {h2d} of {base}{held}, compute {compute}. With these bytes streamed, \
                 the link takes {least} of {base}; keep more bytes resident or quantise."
            );
        }
        if busy.share(busy.compute) >= Fraction::from_ppm(985_000) {
            let what = match self.is_slowed() {
                true => {
                    "copies beside it slow it down, so fewer bytes streamed would make it faster"
                }
                false => "more VRAM would not make it noticeably faster",
            };
            return format!("Compute binds: it is busy {compute} of {base}, H2D {h2d}; {what}.");
        }
        let after_start = |cause: &Cause| *cause != Cause::ColdStart || busy.passes == 0;
        let causes = profile::by_cause(&self.stalls).into_iter();
        let most = causes.filter(|(cause, ..)| after_start(cause)).max_by_key(|(.., time)| *time);
        let host = self.summary.ledger.idle_host;
        let idle = format!("Neither lane binds: compute is busy {compute} of {base}, H2D {h2d}.");
        match most {
            Some((cause, _, time)) if time >= host => format!(
                "{idle} Most of the stall is \u{201c}{}\u{201d}: {}.",
                cause.name(),
                self.advice(cause)
            ),
            _ if !host.is_zero() => {
                format!("{idle} Compute waits for the host for {}.", host.human())
            }
            _ => idle,
        }
    }

    /// What shares of busy time are of: a steady pass of the main component, or the run.
    fn base(&self) -> String {
        let base = self.busy.base();
        match self.summary.components.get(self.main()) {
            Some(main) if self.busy.passes > 0 && self.summary.components.len() > 1 => {
                format!("{base} of {}", main.name)
            }
            _ => base.to_owned(),
        }
    }

    /// What would help against stalls of a cause: while the link is busy, nothing but fewer bytes.
    pub fn advice(&self, cause: Cause) -> String {
        let Busy { h2d, .. } = self.busy;
        let (share, base) = (self.busy.share(h2d).percent(), self.base());
        match cause {
            Cause::WindowFull | Cause::LongCopy | Cause::Queued if self.busy.link_binds() => {
                format!("keep more bytes resident (the link is busy {share} of {base})")
            }
            Cause::WindowFull => {
                format!("{} (the link is busy only {share} of {base})", cause.advice())
            }
            _ => cause.advice().to_owned(),
        }
    }
}

/// The end of a sentence on a pass: how far its plan was off.
pub(super) fn as_predicted(actual: Nanos, predicted: Nanos) -> String {
    match Against::of(actual, predicted) {
        Against::Equal => ", as its plan predicted".to_owned(),
        Against::Unknown => String::new(),
        other => format!("; {} that its plan predicted (estimated)", other.words(predicted)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lane::Lane;
    use crate::profile::{Profile, fixture};
    use crate::units::Bytes;

    fn verdict(profile: &Profile) -> String {
        View::of(profile).verdict().join("\n") + "\n"
    }

    /// Copies of 60 ms under computes of 50 ms: the link never rests.
    fn link_bound(slots: usize) -> Profile {
        fixture::build(&[fixture::Recipe {
            blocks: (0..4).map(|index| format!("blocks.{index}")).collect(),
            passes: 6,
            slots,
            bytes: 1_000_000_000,
            compute: &|_, _| 50_000_000,
            copy: &|_, _| 60_000_000,
            stays: &|_| false,
        }])
    }

    #[test]
    fn the_verdict_of_the_small_run() {
        expect_test::expect![[r#"
            A steady pass of transformer takes 150.0 ms (simulated); 1.4 % over the 148.0 ms that no schedule that holds a block while it computes beats (estimated), as its plan predicted.
            76.7 % of H2D copy time is hidden under compute, 85.00 ms are exposed; compute stalls for 15.9 % of the makespan: 60.00 ms in the cold start, 25.00 ms later.
            Peak VRAM is 3.7 GiB (slab + reserve) of a budget of 4.2 GiB: 476.8 MiB headroom.
            Neither lane binds: compute is busy 92.3 % of a steady pass, H2D 47.7 %. Most of the stall is “slow copy”: look for pageable memory, other traffic on the link or a far NUMA node.
        "#]].assert_eq(&verdict(&fixture::small()));
    }

    #[test]
    fn the_verdict_says_when_compute_binds_and_the_budget_breaks() {
        let mut profile = fixture::large();
        profile.header.budget = Bytes::new(1 << 30);
        expect_test::expect![[r#"
            A steady pass of transformer takes 773.3 ms (simulated).
            97.8 % of H2D copy time is hidden under compute, 461.5 ms are exposed; compute stalls for 2.1 % of the makespan: 333.0 ms in the cold start, 128.5 ms later.
            Peak VRAM is 6.5 GiB (slab + reserve), over the budget of 1.0 GiB by 5.5 GiB.
            Compute binds: it is busy 99.4 % of a steady pass, H2D 94.4 %; more VRAM would not make it noticeably faster.
        "#]].assert_eq(&verdict(&profile));
    }

    #[test]
    fn a_busy_link_is_not_helped_by_a_larger_window() {
        let busy = link_bound(2);
        let view = View::of(&busy);
        assert!(view.busy.link_binds(), "{:?}", view.busy);
        assert!(
            view.advice(Cause::WindowFull)
                .starts_with("keep more bytes resident (the link is busy")
        );
        assert!(verdict(&busy).contains("The link binds"), "{}", verdict(&busy));
        assert!(
            verdict(&busy)
                .contains("With these bytes streamed, the link takes 240.0 ms of a steady pass")
        );
        let idle = link_bound(1);
        let view = View::of(&idle);
        assert!(!view.busy.link_binds(), "{:?}", view.busy);
        assert!(
            view.advice(Cause::WindowFull)
                .starts_with("give the window more bytes or slots (the link")
        );
        assert!(verdict(&idle).contains("Neither lane binds"), "{}", verdict(&idle));
    }

    #[test]
    fn a_pass_at_its_bound_says_so_and_one_below_it_is_doubted() {
        let with = |least: u64, predicted: u64| {
            let mut profile = fixture::small();
            let header = &mut profile.header.components[0];
            if let Some(bound) = &mut header.bound {
                bound.any_schedule = Nanos::new(least);
            }
            if let Some(prediction) = &mut header.prediction {
                prediction.pass = Nanos::new(predicted);
            }
            View::of(&profile).verdict()[0].clone() + "\n"
        };
        expect_test::expect![[r#"
            A steady pass of transformer takes 150.0 ms (simulated), which is the bound: no schedule that holds a block while it computes beats it (estimated), as its plan predicted.
            A steady pass of transformer takes 150.0 ms (simulated); 1.4 % over the 148.0 ms that no schedule that holds a block while it computes beats (estimated); 6.3 % under the 160.0 ms that its plan predicted (estimated).
            A steady pass of transformer takes 150.0 ms (simulated); 3.8 times the 40.00 ms that no schedule that holds a block while it computes beats (estimated); 50.0 % over the 100.0 ms that its plan predicted (estimated).
            A steady pass of transformer takes 150.0 ms (simulated); 7.5 times the 20.00 ms that its plan predicted (estimated). The pass is below the bound its plan states, 151.0 ms: computes or copies were faster here than the plan takes them to be.
        "#]].assert_eq(
            &[
                with(150_000_000, 150_050_000),
                with(148_000_000, 160_000_000),
                with(40_000_000, 100_000_000),
                with(151_000_000, 20_000_000),
            ]
            .concat(),
        );
    }

    #[test]
    fn a_run_that_ended_early_shows_no_steady_pass_that_was_none() {
        let mut profile = fixture::small();
        profile.header.complete = false;
        let mut told =
            verdict(&profile).lines().next().map_or(String::new(), |line| line.to_owned() + "\n");
        for last in [(1, 0), (0, 0)] {
            profile.spans.retain(|span| (span.pass, span.block) <= last);
            told.extend(verdict(&profile).lines().take(2).map(|line| line.to_owned() + "\n"));
        }
        profile.spans.retain(|span| span.lane == Lane::H2d);
        told.extend(verdict(&profile).lines().take(2).map(|line| line.to_owned() + "\n"));
        profile.spans.clear();
        told += &verdict(&profile);
        expect_test::expect![[r#"
            The run was cut short after 3 of 3 passes: figures cover what ran.
            The run was cut short after 1 of 3 passes: figures cover what ran.
            The first pass of transformer, cold start included, takes 210.0 ms (simulated); 5.0 % over the 200.0 ms that its plan predicted (estimated).
            The run was cut short after 0 of 3 passes: figures cover what ran.
            The beginning of a pass of transformer, cold start included, takes 90.00 ms (simulated).
            The run was cut short after 0 of 3 passes: figures cover what ran.
            transformer computed nothing.
            Nothing ran: the profile has no spans. The run was cut short.
            Peak VRAM is 3.7 GiB (slab + reserve) of a budget of 4.2 GiB: 476.8 MiB headroom.
        "#]].assert_eq(&told);
    }

    #[test]
    fn every_component_and_the_whole_are_named() {
        let recipe = |compute: &'static dyn Fn(u32, u32) -> u64| fixture::Recipe {
            blocks: vec!["blocks.0".into(), "blocks.1".into()],
            passes: 3,
            slots: 2,
            bytes: 1_000,
            compute,
            copy: &|_, _| 1_000_000,
            stays: &|_| false,
        };
        let profile = fixture::build(&[recipe(&|_, _| 5_000_000), recipe(&|_, _| 2_000_000)]);
        expect_test::expect![[r#"
            The whole run of 2 components takes 44.00 ms (simulated); passes: transformer 3, after1 3.
            A steady pass of transformer takes 10.00 ms (simulated).
            A steady pass of after1 takes 4.000 ms (simulated).
            transformer → after1 costs 1.000 ms (simulated): its first pass takes 5.000 ms, a usual one 4.000 ms; of 2.0 KiB copied for it 0 B came while the component before computed.
            83.3 % of H2D copy time is hidden under compute, 2.000 ms are exposed; compute stalls for 4.5 % of the makespan: 2.000 ms in the cold start, none later.
            Peak VRAM is 953.7 MiB (slab + reserve) of a budget of 1.4 GiB: 476.8 MiB headroom.
            Compute binds: it is busy 100.0 % of a steady pass of transformer, H2D 15.0 %; more VRAM would not make it noticeably faster.
        "#]].assert_eq(&verdict(&profile));
    }
}
