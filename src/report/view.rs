//! Turns a profile into everything that more than one output shows: figures, stalls, pass windows, sentences.

use super::slices::Window;
use crate::profile::{self, BlockStalls, ComponentHeader, Profile, Stall, Summary};
use crate::units::{Fraction, Nanos};

/// A profile with its derived figures, computed once.
pub struct View<'a> {
    /// What was recorded.
    pub profile: &'a Profile,
    /// Its figures.
    pub summary: Summary,
    /// Every wait for a copy, in order of time.
    pub stalls: Vec<Stall>,
    /// The same per block, costliest first.
    pub blocks: Vec<BlockStalls>,
    /// First start to last end.
    pub whole: Window,
    /// Every pass that computed, in order of time.
    pub passes: Vec<PassWindow>,
}

/// When one pass ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PassWindow {
    /// Index of the component.
    pub component: usize,
    /// Pass, from 0.
    pub pass: usize,
    /// From the last compute end of the pass before to its own.
    pub window: Window,
}

impl<'a> View<'a> {
    /// Derives the figures of a profile.
    pub fn of(profile: &'a Profile) -> Self {
        let summary = profile::summary(profile);
        let stalls = profile::stalls(profile);
        let (start, end) = profile::extent(profile);
        Self {
            profile,
            blocks: profile::by_block(&stalls),
            stalls,
            whole: Window { start, end },
            passes: pass_windows(&summary),
            summary,
        }
    }

    /// The component that takes most of the time: its index, or 0.
    pub fn main(&self) -> usize {
        let total = |index: &usize| {
            let passes = &self.summary.components[*index].passes;
            (passes.iter().copied().sum::<Nanos>(), std::cmp::Reverse(*index))
        };
        (0..self.summary.components.len()).max_by_key(total).unwrap_or(0)
    }

    /// The window shown first: the pass of the main component that comes closest to its steady time.
    pub fn steady_window(&self) -> (String, Window) {
        let main = self.main();
        let steady = self.summary.components.get(main).map(|component| component.steady);
        let steady = steady.map_or(0, Nanos::get);
        let of_main: Vec<&PassWindow> =
            self.passes.iter().filter(|one| one.component == main).collect();
        // The first pass starts cold and the last copies nothing ahead: others are typical, where there are any.
        let typical = match of_main.len() {
            0..=2 => of_main.last().map_or(&[][..], std::slice::from_ref),
            3 => &of_main[1..],
            count => &of_main[1..count - 1],
        };
        match typical.iter().min_by_key(|one| one.window.length().abs_diff(steady)) {
            Some(found) => (self.pass_name(found), found.window),
            None => ("the whole run".to_owned(), self.whole),
        }
    }

    /// `pass 3` or, where several components ran, `transformer pass 3`.
    pub fn pass_name(&self, one: &PassWindow) -> String {
        match self.summary.components.get(one.component) {
            Some(component) if self.summary.components.len() > 1 => {
                format!("{} pass {}", component.name, one.pass)
            }
            _ => format!("pass {}", one.pass),
        }
    }

    /// The header of a component.
    pub fn header(&self, component: usize) -> Option<&'a ComponentHeader> {
        self.profile.header.components.get(component)
    }

    /// The id of a block without the component where there is only one.
    pub fn block_name(&self, component: u32, block: u32) -> String {
        if self.profile.header.components.len() > 1 {
            return self.profile.block_id(component, block);
        }
        let header = self.profile.header.components.get(component as usize);
        header.and_then(|one| one.blocks.get(block as usize)).cloned().unwrap_or_else(|| "?".into())
    }

    /// A time as a share of the makespan.
    pub fn of_makespan(&self, time: Nanos) -> String {
        Fraction::of(time.get(), self.summary.makespan.get()).percent()
    }

    /// The verdict: what a reader should know if they read nothing else, most important first.
    pub fn verdict(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if !self.summary.complete {
            lines.push("The run was cut short: figures cover what ran.".to_owned());
        }
        lines.extend(self.pass_verdict());
        lines.push(self.overlap_verdict());
        lines.push(self.memory_verdict());
        lines.push(self.binding_verdict());
        lines
    }

    fn pass_verdict(&self) -> Option<String> {
        let main = self.main();
        let component = self.summary.components.get(main)?;
        let header = self.header(main)?;
        let origin = self.summary.origin;
        let mut line = format!(
            "A steady pass of {} takes {} ({origin})",
            component.name,
            component.steady.human()
        );
        if let Some(bound) = &header.bound {
            let above = signed_percent(component.steady, bound.any_schedule);
            let least = bound.any_schedule.human();
            line += &format!("; {above} over the {least} that no schedule beats (estimated)");
        }
        if let Some(prediction) = &header.prediction {
            let error = signed_percent(component.steady, prediction.pass);
            let pass = prediction.pass.human();
            line += &format!("; {error} over the {pass} that its plan predicted (estimated)");
        }
        Some(line + ".")
    }

    fn overlap_verdict(&self) -> String {
        let summary = &self.summary;
        if summary.h2d_busy.is_zero() {
            return "Nothing was copied to the device.".to_owned();
        }
        format!(
            "{} of H2D copy time is hidden under compute, {} are exposed; compute stalls for {} of the \
             makespan: {} in the cold start, {} later.",
            summary.overlap_fraction.percent(),
            summary.exposed.human(),
            self.of_makespan(summary.stall),
            summary.ledger.stall_cold.human(),
            summary.ledger.stall_steady.human()
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

    /// What would make it faster. Perfect overlap cannot go below the busier of the two lanes.
    fn binding_verdict(&self) -> String {
        let summary = &self.summary;
        let (compute, copy) = (summary.compute_busy, summary.h2d_busy);
        let (compute_text, copy_text) = (compute.human(), copy.human());
        if copy > compute {
            return format!(
                "The link binds: H2D is busy {copy_text}, compute {compute_text}. Perfect overlap cannot beat \
                 the {copy_text}; keep more resident or quantise."
            );
        }
        let later = summary.ledger.stall_steady;
        if later.get() <= compute.get() / 100 {
            return format!(
                "Compute binds: it is busy {compute_text} and stalls {} after the cold start; more VRAM \
                 would not make a steady pass noticeably faster.",
                later.human()
            );
        }
        let causes = profile::by_cause(&self.stalls);
        let after_start = causes.iter().filter(|(cause, ..)| *cause != profile::Cause::ColdStart);
        let advice = after_start.max_by_key(|(_, _, time)| *time).map_or(String::new(), |most| {
            format!(" Most of it is \u{201c}{}\u{201d}: {}.", most.0.name(), most.0.advice())
        });
        format!(
            "Compute could bind (busy {compute_text}, H2D {copy_text}) but stalls {} after the cold start.{advice}",
            later.human()
        )
    }
}

fn pass_windows(summary: &Summary) -> Vec<PassWindow> {
    let mut windows = Vec::new();
    for (component, one) in summary.components.iter().enumerate() {
        let mut start = one.start;
        for (pass, &time) in one.passes.iter().enumerate() {
            let end = start.saturating_add(time);
            windows.push(PassWindow { component, pass, window: Window { start, end } });
            start = end;
        }
    }
    windows
}

/// `actual` over `reference` minus one, per cent with sign and one decimal; `n/a` for a reference of zero.
pub fn signed_percent(actual: Nanos, reference: Nanos) -> String {
    let (actual, reference) = (i128::from(actual.get()), i128::from(reference.get()));
    if reference == 0 {
        return "n/a".to_owned();
    }
    let thousandths = (actual - reference) * 1_000;
    let half = if thousandths < 0 { -reference / 2 } else { reference / 2 };
    let tenths = (thousandths + half) / reference;
    let sign = if tenths < 0 { "\u{2212}" } else { "+" };
    format!("{sign}{}.{} %", tenths.abs() / 10, tenths.abs() % 10)
}

/// Milliseconds with three decimals, for columns of numbers.
pub fn ms(time: Nanos) -> String {
    let us = (u128::from(time.get()) + 500) / 1_000;
    format!("{}.{:03}", us / 1_000, us % 1_000)
}

/// Mebibytes with one decimal, for columns of numbers.
pub fn mib(size: crate::units::Bytes) -> String {
    let tenths = (u128::from(size.get()) * 10 + (1 << 19)) >> 20;
    format!("{}.{}", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::fixture;
    use crate::units::Bytes;

    fn verdict(profile: &Profile) -> String {
        View::of(profile).verdict().join("\n") + "\n"
    }

    #[test]
    fn the_verdict_of_the_small_run() {
        expect_test::expect![[r#"
            A steady pass of transformer takes 150.0 ms (simulated); +1.4 % over the 148.0 ms that no schedule beats (estimated); +0.0 % over the 150.0 ms that its plan predicted (estimated).
            76.7 % of H2D copy time is hidden under compute, 85.00 ms are exposed; compute stalls for 15.9 % of the makespan: 60.00 ms in the cold start, 25.00 ms later.
            Peak VRAM is 3.7 GiB (slab + reserve) of a budget of 4.2 GiB: 476.8 MiB headroom.
            Compute could bind (busy 450.0 ms, H2D 365.0 ms) but stalls 25.00 ms after the cold start. Most of it is “copy longer than compute”: keep more of this block resident, or quantise it.
        "#]].assert_eq(&verdict(&fixture::small()));
    }

    #[test]
    fn the_verdict_says_when_the_link_binds_and_the_budget_breaks() {
        let mut profile = fixture::large();
        profile.header.budget = Bytes::new(1 << 30);
        profile.header.complete = false;
        expect_test::expect![[r#"
            The run was cut short: figures cover what ran.
            A steady pass of transformer takes 773.3 ms (simulated).
            97.8 % of H2D copy time is hidden under compute, 461.5 ms are exposed; compute stalls for 2.1 % of the makespan: 333.0 ms in the cold start, 128.5 ms later.
            Peak VRAM is 6.5 GiB (slab + reserve), over the budget of 1.0 GiB by 5.5 GiB.
            Compute binds: it is busy 21.51 s and stalls 128.5 ms after the cold start; more VRAM would not make a steady pass noticeably faster.
        "#]].assert_eq(&verdict(&profile));
    }

    #[test]
    fn the_window_shown_first_is_a_steady_pass() {
        let profile = fixture::small();
        let (name, window) = View::of(&profile).steady_window();
        assert_eq!((name.as_str(), window.length()), ("pass 2", 150_000_000));
    }

    #[test]
    fn percentages_round_to_the_nearest_and_keep_their_sign() {
        let check = |actual, reference, text: &str| {
            assert_eq!(signed_percent(Nanos::new(actual), Nanos::new(reference)), text);
        };
        check(1_013, 1_000, "+1.3 %");
        check(987, 1_000, "\u{2212}1.3 %");
        check(10_006, 10_000, "+0.1 %");
        check(5, 5, "+0.0 %");
        check(5, 0, "n/a");
        assert_eq!(
            (ms(Nanos::new(1_234_567)), mib(Bytes::new(3 << 19))),
            ("1.235".into(), "1.5".into())
        );
    }
}
