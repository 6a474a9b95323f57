//! Turns times of copies over sizes into `latency + bytes ÷ rate`, and says how well that fits.

use super::{Sample, rate};
use crate::device::Link;
use crate::units::{Bytes, Fraction, Nanos, Rate};

/// A size that was copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Point {
    /// Bytes of one copy.
    pub bytes: u64,
    /// The median time of one copy.
    pub time: Nanos,
    /// How far the samples lie apart.
    pub spread: Fraction,
}

impl Point {
    pub(super) fn of(bytes: u64, sample: Sample) -> Self {
        Self { bytes, time: sample.time, spread: sample.spread }
    }

    /// Its bytes over its time.
    pub fn rate(&self) -> Rate {
        rate(self.bytes, self.time)
    }
}

/// Times over sizes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Curve {
    /// By rising size.
    pub points: Vec<Point>,
    /// Of the fit.
    pub latency: Nanos,
    /// Of the fit.
    pub rate: Rate,
    /// The largest deviation of a point from the fit, as a share of the point's time.
    pub residual: Fraction,
}

impl Curve {
    /// The line that is closest to the points in shares of their times: least squares, each weighted by 1 ÷ time².
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a fit of measurements; results are clamped to what integers hold"
    )]
    pub(super) fn fit(points: Vec<Point>) -> Self {
        let (mut s, mut sx, mut sxx, mut sy, mut sxy) = (0.0, 0.0, 0.0, 0.0, 0.0);
        for point in points.iter().filter(|point| !point.time.is_zero()) {
            let (x, y) = (point.bytes as f64, point.time.get() as f64);
            let weight = 1.0 / (y * y);
            s += weight;
            sx += weight * x;
            sxx += weight * x * x;
            sy += weight * y;
            sxy += weight * x * y;
        }
        let determinant = s * sxx - sx * sx;
        let (latency, slope) = match determinant > 0.0 {
            true => ((sxx * sy - sx * sxy) / determinant, (s * sxy - sx * sy) / determinant),
            false => (0.0, 0.0),
        };
        let largest = points.last().map_or(Rate::ZERO, Point::rate);
        let rate = match slope > 0.0 {
            true => Rate::new((1e9 / slope).round() as u64),
            false => largest,
        };
        let latency = Nanos::new(latency.max(0.0).round() as u64);
        let off = |point: &Point| {
            let fitted = latency.saturating_add(rate.time_for(Bytes::new(point.bytes)));
            let off = fitted.get().abs_diff(point.time.get());
            Fraction::of(off, point.time.get().max(1))
        };
        let residual = points.iter().map(off).max().unwrap_or_default();
        Self { points, latency, rate, residual }
    }

    /// The spread of its worst point.
    pub fn spread(&self) -> Fraction {
        self.points.iter().map(|point| point.spread).max().unwrap_or_default()
    }

    /// As a device spec states it: the fit, and the points, which beat it between their ends.
    pub fn link(&self) -> Link {
        let mut points: Vec<(Bytes, Nanos)> = Vec::with_capacity(self.points.len());
        for point in &self.points {
            // A larger copy that seems to be faster is noise.
            let least = points.last().map_or(Nanos::ZERO, |&(_, time)| time);
            points.push((Bytes::new(point.bytes), point.time.max(least)));
        }
        Link { rate: self.rate, latency: self.latency, points }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(bytes: u64, time: u64) -> Point {
        Point { bytes, time: Nanos::new(time), spread: Fraction::ZERO }
    }

    #[test]
    fn a_line_is_found_again() {
        let sizes = [4_096, 65_536, 1 << 20, 16 << 20, 256 << 20];
        let rate = Rate::new(25_000_000_000);
        let time = |bytes| 9_000 + rate.time_for(Bytes::new(bytes)).get();
        let curve = Curve::fit(sizes.into_iter().map(|size| point(size, time(size))).collect());
        assert!(curve.latency.get().abs_diff(9_000) <= 1, "{}", curve.latency);
        assert!(curve.rate.get().abs_diff(rate.get()) < 1_000_000, "{}", curve.rate);
        assert!(curve.residual.ppm() < 100, "{}", curve.residual);
    }

    #[test]
    fn noise_makes_no_falling_curve_and_no_panic() {
        let curve =
            Curve::fit(vec![point(4_096, 3_000), point(8_192, 2_900), point(1 << 20, 50_000)]);
        let link = curve.link();
        assert_eq!(link.points[1].1, Nanos::new(3_000));
        assert!(curve.residual > Fraction::ZERO);
        assert_eq!(Curve::fit(Vec::new()).rate, Rate::ZERO);
        assert_eq!(Curve::fit(vec![point(100, 0)]).latency, Nanos::ZERO);
    }
}
