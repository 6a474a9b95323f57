//! Turns the rows of a sweep into one line per policy, and the bound's line.

use super::Extras;
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
                lines.push(Series { name: row.policy.clone(), is_bound: false, points });
            }
        }
    }
    for line in &mut lines {
        line.points.sort_unstable();
    }
    if !lines.is_empty() && !extras.bounds.is_empty() {
        let mut points: Vec<_> = extras.bounds.iter().map(|one| (one.vram, one.pass)).collect();
        points.sort_unstable();
        lines.push(Series { name: "bound".into(), is_bound: true, points });
    }
    lines
}
