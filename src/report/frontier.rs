//! Turns the rows of a sweep into one line per policy and the bound's line, with the time axis that shows them apart.

use super::Extras;
use super::axis::time_ticks;
use super::slices::Window;
use super::view::Against;
use crate::units::{Bytes, Nanos};

/// A line of the frontier chart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Series {
    /// The policy's name, or that of the bound.
    pub name: String,
    /// Whether no schedule can be below it.
    pub is_bound: bool,
    /// Steady pass time at each budget where it fits, by increasing VRAM.
    pub points: Vec<(Bytes, Nanos)>,
    /// How many later lines lie on this one, mostly: it is drawn wider, so that it still shows below them.
    pub under: u32,
    /// Which earlier line it lies on, in words; empty where it stands alone.
    pub twin: String,
}

impl Series {
    fn new(name: String, is_bound: bool, points: Vec<(Bytes, Nanos)>) -> Self {
        Self { name, is_bound, points, under: 0, twin: String::new() }
    }

    /// For legends.
    pub(super) fn label(&self) -> String {
        if self.twin.is_empty() {
            self.name.clone()
        } else {
            format!("{} ({})", self.name, self.twin)
        }
    }

    /// Budgets at which both have a time, and at how many of them it is the same.
    fn common(&self, other: &Self) -> (usize, usize) {
        let of = |vram: Bytes| other.points.iter().find(|point| point.0 == vram);
        let both = self.points.iter().filter_map(|point| Some((point.1, of(point.0)?.1)));
        let both: Vec<(Nanos, Nanos)> = both.collect();
        let same = both.iter().filter(|(a, b)| Against::of(*a, *b) == Against::Equal || a == b);
        (same.count(), both.len())
    }
}

/// Finds lines that lie on each other at most of the budgets they share.
fn find_twins(lines: &mut [Series]) {
    for index in 1..lines.len() {
        let (before, rest) = lines.split_at_mut(index);
        let Some(line) = rest.first_mut() else { continue };
        let found = before.iter_mut().map(|other| (line.common(other), other));
        let mut on: Vec<((usize, usize), &mut Series)> =
            found.filter(|((same, of), _)| *same > 0 && same * 2 >= *of).collect();
        on.sort_by_key(|((same, _), _)| std::cmp::Reverse(*same));
        if let Some(((same, of), other)) = on.first() {
            let at = if same == of { String::new() } else { format!(" at {same} of {of} budgets") };
            line.twin = format!("coincides with {}{at}", other.name);
        }
        for (_, other) in on {
            other.under += 1;
        }
    }
}

/// The time axis: from zero, unless all times are so close that most of the height would be empty.
pub(super) fn times(lines: &[Series]) -> Window {
    let passes = || lines.iter().flat_map(|line| &line.points).map(|point| point.1.get());
    let (low, high) = (passes().min().unwrap_or(0), passes().max().unwrap_or(0));
    let margin = ((high - low) / 10).max(high / 100);
    let end = Nanos::new(high.saturating_add(margin).saturating_add(1));
    if low < high / 2 {
        return Window { start: Nanos::ZERO, end };
    }
    // A little below the lowest time, at a tick.
    let start = Nanos::new(low.saturating_sub(margin));
    let step = time_ticks(start, end, 6);
    let step = step.windows(2).next().map_or(1, |pair| pair[1].at.get() - pair[0].at.get());
    Window { start: Nanos::new(start.get() / step.max(1) * step.max(1)), end }
}

/// What a reader must know about a time axis that does not start at zero.
pub(super) fn axis_note(times: Window) -> Option<String> {
    let start = times.start.human();
    (!times.start.is_zero()).then(|| format!("The time axis starts at {start}, not at zero."))
}

/// The lines in order of first appearance, the bound last.
pub(super) fn series(extras: &Extras) -> Vec<Series> {
    let mut lines: Vec<Series> = Vec::new();
    for row in &extras.sweep {
        let Some(pass) = row.pass else { continue };
        match lines.iter_mut().find(|line| line.name == row.policy) {
            Some(line) => line.points.push((row.vram, pass)),
            None => {
                let points = vec![(row.vram, pass)];
                lines.push(Series::new(row.policy.clone(), false, points));
            }
        }
    }
    for line in &mut lines {
        line.points.sort_unstable();
    }
    if !lines.is_empty() && !extras.bounds.is_empty() {
        let mut points: Vec<_> = extras.bounds.iter().map(|one| (one.vram, one.pass)).collect();
        points.sort_unstable();
        lines.push(Series::new("bound".into(), true, points));
    }
    find_twins(&mut lines);
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::SweepRow;

    fn lines(rows: &[(&str, [u64; 3])]) -> Vec<Series> {
        let rows = rows.iter().flat_map(|(policy, passes)| {
            passes.iter().zip(1u64..).map(|(&pass, vram)| SweepRow {
                policy: (*policy).into(),
                vram: Bytes::new(vram << 30),
                pass: Some(Nanos::new(pass * 1_000_000)),
            })
        });
        series(&Extras { sweep: rows.collect(), ..Extras::default() })
    }

    #[test]
    fn lines_that_hide_each_other_say_so() {
        let lines =
            lines(&[("a", [9, 8, 7]), ("b", [9, 8, 7]), ("c", [5, 8, 7]), ("d", [9, 6, 5])]);
        let labels: Vec<String> = lines.iter().map(Series::label).collect();
        expect_test::expect![[r#"
            a
            b (coincides with a)
            c (coincides with a at 2 of 3 budgets)
            d"#]]
        .assert_eq(&labels.join("\n"));
        assert_eq!(lines.iter().map(|line| line.under).collect::<Vec<_>>(), [2, 1, 0, 0]);
    }

    #[test]
    fn the_time_axis_wastes_no_height() {
        let axis = |passes| {
            let window = times(&lines(&[("a", passes)]));
            (window.start.get(), window.end.get() / 1_000, axis_note(window).is_some())
        };
        assert_eq!(axis([900, 850, 800]), (750_000_000, 910_000, true));
        assert_eq!(axis([900, 300, 100]), (0, 980_000, false));
        assert_eq!(axis([500, 500, 500]), (494_000_000, 505_000, true));
        assert_eq!(times(&[]), Window { start: Nanos::ZERO, end: Nanos::new(1) });
    }
}
