//! Turns a profile into everything that more than one output shows: figures, stalls, pass windows, comparisons.

use super::slices::Window;
use crate::lane::Lane;
use crate::profile::{
    self, BlockStalls, ComponentHeader, Intervals, Profile, Span, Stall, Summary,
};
use crate::units::{Fraction, Nanos};

/// What a bound on the pass time means; the method section says more.
pub(super) const BEATEN_BY_NONE: &str =
    "no schedule that holds one of its units while it computes beats";

/// What the times of policies and sweeps are where several components run.
pub(super) const SUMMED: &str =
    "Pass times of policies and budgets are sums of one pass of each component.";

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
    /// How busy the two main lanes are in steady passes.
    pub busy: Busy,
}

/// How busy compute and the link are in the steady passes of the main component, or in the whole run where it has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Busy {
    /// Passes that were looked at; 0 for the whole run.
    pub passes: u64,
    /// Their time.
    pub length: Nanos,
    /// When computes ran.
    pub compute: Nanos,
    /// When copies to the device ran.
    pub h2d: Nanos,
    /// When collectives held their link.
    pub held: Nanos,
}

impl Busy {
    fn of(profile: &Profile, steady: &[PassWindow], whole: Window) -> Self {
        let windows = steady.iter().map(|one| (one.window.start, one.window.end));
        let only = match steady.is_empty() {
            true => Intervals::union([(whole.start, whole.end)]),
            false => Intervals::union(windows),
        };
        let of = |lane: Lane| profile::busy(profile, lane).intersect(&only).total();
        Self {
            passes: steady.len() as u64,
            length: only.total(),
            compute: of(Lane::Compute),
            h2d: of(Lane::H2d),
            held: profile::held(profile).intersect(&only).total(),
        }
    }

    /// What the shares are of, for sentences.
    pub fn base(&self) -> &'static str {
        if self.passes == 0 { "the run" } else { "a steady pass" }
    }

    /// A time as a share of the passes.
    pub fn share(&self, time: Nanos) -> Fraction {
        Fraction::of(time.get(), self.length.get())
    }

    /// Whether the link is the limit: it is busy so nearly always that only fewer bytes would help.
    pub fn link_binds(&self) -> bool {
        let link = self.link();
        !self.h2d.is_zero()
            && link >= self.compute
            && self.share(link) >= Fraction::from_ppm(950_000)
    }

    /// When the link was not idle: nothing copies while collectives hold it.
    pub fn link(&self) -> Nanos {
        self.h2d.saturating_add(self.held)
    }

    /// A time per pass.
    pub fn per_pass(&self, time: Nanos) -> Nanos {
        Nanos::new(time.get() / self.passes.max(1))
    }
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
        let whole = Window { start, end };
        let passes = pass_windows(&summary);
        let main = main(&summary);
        let header = profile.header.components.get(main);
        let runs_all = |one: &&PassWindow| {
            let pass = u32::try_from(one.pass).unwrap_or(u32::MAX);
            !header.is_some_and(|header| header.leaves_out(pass))
        };
        let of_main = of_component(&passes, main);
        let steady: Vec<PassWindow> = typical(&of_main).iter().filter(runs_all).copied().collect();
        let busy = Busy::of(profile, &steady, whole);
        Self { profile, blocks: profile::by_block(&stalls), stalls, whole, passes, busy, summary }
    }

    /// The component that takes most of the time: its index, or 0.
    pub fn main(&self) -> usize {
        main(&self.summary)
    }

    /// The window shown first: of the passes of the main component in which anything moves, the one that comes closest
    /// to its steady time; its first pass where none does, for that is when everything was loaded.
    pub fn steady_window(&self) -> (String, Window) {
        let main = self.main();
        let steady = self.summary.components.get(main).map(|component| component.steady);
        let steady = steady.map_or(0, Nanos::get);
        let of_main = of_component(&self.passes, main);
        let moves: Vec<&Span> =
            self.profile.spans.iter().filter(|span| span.lane != Lane::Compute).collect();
        let moving = |one: &&PassWindow| {
            let inside = |span: &&Span| span.start < one.window.end && span.end > one.window.start;
            moves.iter().any(inside)
        };
        let mut candidates: Vec<&PassWindow> = typical(&of_main).iter().collect();
        candidates.sort_by_key(|one| one.window.length().abs_diff(steady));
        match candidates.into_iter().find(moving).or(of_main.first()) {
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
}

fn main(summary: &Summary) -> usize {
    let total = |index: &usize| {
        let passes = &summary.components[*index].passes;
        (passes.iter().copied().sum::<Nanos>(), std::cmp::Reverse(*index))
    };
    (0..summary.components.len()).max_by_key(total).unwrap_or(0)
}

fn of_component(passes: &[PassWindow], component: usize) -> Vec<PassWindow> {
    passes.iter().copied().filter(|one| one.component == component).collect()
}

/// The passes of a component that show its steady state. The first starts cold, and the last copies nothing ahead:
/// others are typical, where there are any.
fn typical(passes: &[PassWindow]) -> &[PassWindow] {
    match passes.len() {
        0 | 1 => &[],
        count @ (2 | 3) => &passes[1..count],
        count => &passes[1..count - 1],
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

/// How a time compares with another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Against {
    /// To within 0.05 % of the reference.
    Equal,
    /// More: `12.3 %`, or `3.4 times` where it is over 200 % more.
    Above(String),
    /// Less, per cent.
    Below(String),
    /// The reference is zero.
    Unknown,
}

impl Against {
    /// Compares `actual` with `reference`.
    pub fn of(actual: Nanos, reference: Nanos) -> Self {
        let (actual, reference) = (u128::from(actual.get()), u128::from(reference.get()));
        if reference == 0 {
            return Self::Unknown;
        }
        let apart = actual.abs_diff(reference);
        let tenths =
            |part: u128, of_whole: u128| (part * of_whole * 10 + reference / 2) / reference;
        let text = |tenths: u128| format!("{}.{}", tenths / 10, tenths % 10);
        match () {
            () if apart * 2_000 <= reference => Self::Equal,
            () if actual < reference => Self::Below(text(tenths(apart, 100)) + " %"),
            () if apart > 2 * reference => Self::Above(text(tenths(actual, 1)) + " times"),
            () => Self::Above(text(tenths(apart, 100)) + " %"),
        }
    }

    /// `12.3 % over the 4 ms`, `3.4 times the 4 ms` or `1.2 % under the 4 ms`.
    pub fn words(&self, reference: Nanos) -> String {
        let time = reference.human();
        match self {
            Self::Equal => format!("the {time}"),
            Self::Above(text) if text.ends_with('s') => format!("{text} the {time}"),
            Self::Above(text) => format!("{text} over the {time}"),
            Self::Below(text) => format!("{text} under the {time}"),
            Self::Unknown => "n/a".to_owned(),
        }
    }
}

/// `actual` against `reference` for columns: `+12.3 %`, `−1.2 %`, `3.4 times`; `n/a` for a reference of zero.
pub fn signed_percent(actual: Nanos, reference: Nanos) -> String {
    match Against::of(actual, reference) {
        Against::Equal => "0.0 %".to_owned(),
        Against::Above(text) if text.ends_with('s') => text,
        Against::Above(text) => format!("+{text}"),
        Against::Below(text) => format!("\u{2212}{text}"),
        Against::Unknown => "n/a".to_owned(),
    }
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

    #[test]
    fn the_window_shown_first_is_a_steady_pass() {
        let profile = fixture::small();
        let (name, window) = View::of(&profile).steady_window();
        assert_eq!((name.as_str(), window.length()), ("pass 1", 175_000_000));
    }

    #[test]
    fn a_run_that_copies_only_at_first_opens_there() {
        let mut profile = fixture::small();
        profile.spans.retain(|span| span.lane == Lane::Compute || span.pass == 0);
        assert_eq!(View::of(&profile).steady_window().0, "pass 0");
    }

    #[test]
    fn percentages_round_to_the_nearest_and_keep_their_sign() {
        let check = |actual, reference, text: &str| {
            assert_eq!(signed_percent(Nanos::new(actual), Nanos::new(reference)), text);
        };
        check(1_013, 1_000, "+1.3 %");
        check(987, 1_000, "\u{2212}1.3 %");
        check(10_006, 10_000, "+0.1 %");
        check(5, 5, "0.0 %");
        check(10_005, 10_000, "0.0 %");
        check(3_000, 1_000, "+200.0 %");
        check(3_400, 1_000, "3.4 times");
        check(u64::MAX, 1, "18446744073709551615.0 times");
        check(5, 0, "n/a");
        assert_eq!(
            (ms(Nanos::new(1_234_567)), mib(Bytes::new(3 << 19))),
            ("1.235".into(), "1.5".into())
        );
    }
}
