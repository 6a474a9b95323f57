//! Turns the points of a sweep into figures about policies: gaps to the bound, quotients of times.

use super::points::{Cell, Point};
use crate::plan::Unit;
use crate::units::{Fraction, Nanos};

/// Quotients of times, gathered: how many, their geometric mean, the least and the largest.
#[derive(Default)]
pub struct Quotients {
    logs: Vec<f64>,
}

impl Quotients {
    /// Adds a quotient, where both times are there.
    #[expect(
        clippy::cast_precision_loss,
        reason = "a quotient for reading, of times below 2^53 ns"
    )]
    pub fn add(&mut self, time: Option<Nanos>, by: Option<Nanos>) {
        if let (Some(time), Some(by)) = (time, by) {
            self.logs.push((time.get() as f64 / by.get().max(1) as f64).ln());
        }
    }

    /// The geometric mean.
    #[expect(clippy::cast_precision_loss, reason = "a count of points")]
    pub fn mean(&self) -> Option<f64> {
        let sum: f64 = self.logs.iter().sum();
        (!self.logs.is_empty()).then(|| (sum / self.logs.len() as f64).exp())
    }

    /// The least and the largest.
    pub fn range(&self) -> Option<(f64, f64)> {
        let least = self.logs.iter().copied().reduce(f64::min)?;
        let most = self.logs.iter().copied().reduce(f64::max)?;
        Some((least.exp(), most.exp()))
    }
}

/// What one policy comes to over all points.
pub struct Total {
    /// Its name.
    pub policy: &'static str,
    /// Its unit.
    pub unit: Unit,
    /// Points at which one of its settings fits.
    pub fits: usize,
    /// Its best settings over our plans of the same unit.
    pub best: Quotients,
    /// What its engine ships, where that fits, over our plans of the same unit.
    pub shipped: Quotients,
}

/// Of our plans of one unit: how far above the bound.
pub struct Gaps<'a> {
    /// The unit.
    pub unit: Unit,
    /// On average, in parts per million.
    pub mean: u64,
    /// At most.
    pub most: Fraction,
    /// Where that is.
    pub at: &'a Point,
}

/// What the points come to.
pub struct Summary<'a> {
    /// Per unit of our plans.
    pub gaps: Vec<Gaps<'a>>,
    /// The best peer over our plan of blocks.
    pub over_blocks: Quotients,
    /// The best peer over our plan of its unit.
    pub over_own_unit: Quotients,
    /// What engines ship, where it fits, over our plan of the same unit.
    pub shipped: Quotients,
    /// Per policy that is not ours.
    pub totals: Vec<Total>,
}

impl<'a> Summary<'a> {
    /// Of points with details.
    pub fn of(points: &'a [Point]) -> Self {
        let gaps = Unit::ALL.into_iter().filter_map(|unit| gaps(points, unit)).collect();
        let (mut over_blocks, mut over_own_unit, mut shipped) =
            <(Quotients, Quotients, Quotients)>::default();
        for point in points {
            let ours = |unit| point.ours(unit).and_then(|ours| ours.best);
            if let Some(peer) = point.best_peer() {
                over_blocks.add(peer.best, ours(Unit::Block));
                over_own_unit.add(peer.best, ours(peer.unit));
            }
            for cell in point.cells.iter().filter(|cell| !cell.engine.is_empty()) {
                shipped.add(cell.shipped(), ours(cell.unit));
            }
        }
        Self { gaps, over_blocks, over_own_unit, shipped, totals: totals(points) }
    }
}

fn gaps(points: &[Point], unit: Unit) -> Option<Gaps<'_>> {
    let gap = |point: &Point| point.ours(unit).and_then(Cell::gap);
    let known: Vec<(Fraction, &Point)> =
        points.iter().filter_map(|point| Some((gap(point)?, point))).collect();
    let mean = known.iter().map(|(gap, _)| gap.ppm()).sum::<u64>() / (known.len() as u64).max(1);
    let &(most, at) = known.iter().max_by_key(|(gap, _)| *gap)?;
    Some(Gaps { unit, mean, most, at })
}

fn totals(points: &[Point]) -> Vec<Total> {
    let mut totals: Vec<Total> = Vec::new();
    for point in points {
        for cell in point.cells.iter().filter(|cell| !cell.is_ours()) {
            let known = totals.iter().position(|total| total.policy == cell.policy);
            let n = known.unwrap_or_else(|| {
                let (best, shipped) = (Quotients::default(), Quotients::default());
                totals.push(Total { policy: cell.policy, unit: cell.unit, fits: 0, best, shipped });
                totals.len() - 1
            });
            let ours = point.ours(cell.unit).and_then(|ours| ours.best);
            totals[n].fits += usize::from(cell.best.is_some());
            totals[n].best.add(cell.best, ours);
            totals[n].shipped.add(cell.shipped(), ours);
        }
    }
    totals
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotients_have_a_geometric_mean_and_ends() {
        let mut quotients = Quotients::default();
        assert_eq!(quotients.mean(), None);
        let nanos = |n| Some(Nanos::new(n));
        quotients.add(nanos(200), nanos(100));
        quotients.add(nanos(800), nanos(100));
        quotients.add(None, nanos(100));
        assert!((quotients.mean().expect("two") - 4.0).abs() < 1e-9);
        let (least, most) = quotients.range().expect("two");
        assert!((least - 2.0).abs() < 1e-9 && (most - 8.0).abs() < 1e-9);
    }
}
