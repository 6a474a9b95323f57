//! Turns a run and what its plan predicts into the figures of a prediction: per block, per copy, on average, at worst.

use std::collections::BTreeMap;

use csv::Writer;
use serde::Serialize;

use super::slices::in_columns;
use super::view::{View, signed_percent};
use crate::error::{Error, Result};
use crate::figures::Origin;
use crate::lane::Lane;
use crate::profile::{Accuracy, Pair, Side, accuracy};
use crate::units::{Fraction, Nanos, plain};

/// A run, the run that its plan predicts, and how they differ.
pub(super) struct Predicted<'a> {
    /// The run.
    pub run: &'a View<'a>,
    /// What was predicted.
    pub planned: &'a View<'a>,
    /// How they differ.
    pub accuracy: Accuracy,
}

/// What `summary.json` says of it.
#[derive(Debug, Serialize)]
pub struct PredictedAnswer {
    /// Where the predicted times come from.
    pub predicted_origin: Origin,
    /// Where the run's times come from.
    pub actual_origin: Origin,
    /// Compute, per block.
    pub computes: SideAnswer,
    /// Copies to the device, each by itself.
    pub copies: SideAnswer,
}

/// All computes or all copies.
#[derive(Debug, Serialize)]
pub struct SideAnswer {
    /// How many there are in both runs.
    pub count: u64,
    /// How many only one of them has.
    pub unmatched: u64,
    /// Mean of |actual − predicted| ÷ predicted.
    pub mean_absolute_error: Option<Fraction>,
    /// The one that is furthest off, as a share of its prediction.
    pub largest: Option<PairAnswer>,
    /// All of them.
    pub pairs: Vec<PairAnswer>,
}

/// One block's compute or one copy.
#[derive(Debug, Serialize)]
pub struct PairAnswer {
    /// The block's full id.
    pub block: String,
    /// Which piece of it moved; absent for compute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub piece: Option<u32>,
    /// What was predicted.
    #[serde(rename = "predicted_ns", serialize_with = "plain")]
    pub predicted: Nanos,
    /// The median of the run.
    #[serde(rename = "actual_ns", serialize_with = "plain")]
    pub actual: Nanos,
    /// How far it is off.
    pub error: Option<Fraction>,
}

impl<'a> Predicted<'a> {
    /// Compares them; nothing where they have not the same blocks.
    pub(super) fn of(run: &'a View<'a>, planned: &'a View<'a>) -> Option<Self> {
        let accuracy = accuracy(run.profile, planned.profile)?;
        Some(Self { run, planned, accuracy })
    }

    /// Both sides with what one of them is called.
    pub(super) fn sides(&self) -> [(&'static str, &Side); 2] {
        [("compute", &self.accuracy.computes), ("copy", &self.accuracy.copies)]
    }

    /// `transformer_blocks.3` or `transformer_blocks.3, piece 1`.
    pub(super) fn name(&self, pair: &Pair) -> String {
        let block = self.run.block_name(pair.component, pair.block);
        match pair.piece {
            Some(piece) if self.pieces(pair) > 1 => format!("{block}, piece {piece}"),
            _ => block,
        }
    }

    fn pieces(&self, pair: &Pair) -> usize {
        let same = |other: &&Pair| (other.component, other.block) == (pair.component, pair.block);
        let list = &self.accuracy.copies.pairs;
        let from =
            list.partition_point(|one| (one.component, one.block) < (pair.component, pair.block));
        list.get(from..).unwrap_or_default().iter().take_while(same).count()
    }

    /// A sentence on the computes and one on the copies.
    pub(super) fn sentences(&self) -> Vec<String> {
        let sentence = |(what, side): (&str, &Side)| {
            let (mean, worst) = (side.mape()?, side.worst()?);
            let many = if what == "copy" { "copies" } else { "blocks' compute" };
            let count = side.pairs.len();
            let off = match worst.deviation()?.ppm() {
                0 => ", each exactly as predicted".to_owned(),
                _ => format!(
                    "; furthest is {}: {} against {} ({})",
                    self.name(worst),
                    worst.actual.human(),
                    worst.predicted.human(),
                    signed_percent(worst.actual, worst.predicted)
                ),
            };
            Some(format!(
                "Predicted against {}, {count} {many}: {} off on average (MAPE){off}.",
                self.run.summary.origin,
                mean.percent(),
            ))
        };
        self.sides().into_iter().filter_map(sentence).collect()
    }

    /// For `summary.json`.
    pub(super) fn answer(&self) -> PredictedAnswer {
        let side = |side: &Side| SideAnswer {
            count: side.pairs.len() as u64,
            unmatched: side.unmatched,
            mean_absolute_error: side.mape(),
            largest: side.worst().map(|pair| self.pair(pair)),
            pairs: side.pairs.iter().map(|pair| self.pair(pair)).collect(),
        };
        PredictedAnswer {
            predicted_origin: self.planned.summary.origin,
            actual_origin: self.run.summary.origin,
            computes: side(&self.accuracy.computes),
            copies: side(&self.accuracy.copies),
        }
    }

    fn pair(&self, pair: &Pair) -> PairAnswer {
        PairAnswer {
            block: self.run.profile.block_id(pair.component, pair.block),
            piece: pair.piece,
            predicted: pair.predicted,
            actual: pair.actual,
            error: pair.deviation(),
        }
    }

    /// `predicted.csv`: one row per block's compute and per copy.
    pub(super) fn csv(&self) -> Result<Vec<u8>> {
        let failed = |error: csv::Error| Error::Internal(format!("cannot write CSV: {error}"));
        let mut writer = Writer::from_writer(Vec::new());
        let columns =
            ["what", "block", "piece", "bytes", "passes", "predicted_ns", "actual_ns", "error"];
        writer.write_record(columns).map_err(failed)?;
        for (what, side) in self.sides() {
            for pair in &side.pairs {
                let row = [
                    what.to_owned(),
                    self.run.profile.block_id(pair.component, pair.block),
                    pair.piece.map(|piece| piece.to_string()).unwrap_or_default(),
                    pair.bytes.get().to_string(),
                    pair.passes.to_string(),
                    pair.predicted.get().to_string(),
                    pair.actual.get().to_string(),
                    pair.deviation().map(|one| one.to_string()).unwrap_or_default(),
                ];
                writer.write_record(row).map_err(failed)?;
            }
        }
        writer.into_inner().map_err(|error| Error::Internal(format!("cannot write CSV: {error}")))
    }
}

/// What was predicted of every block and copy against a run, in sentences; none where the two have not the same blocks.
pub fn predictions(run: &View<'_>, planned: &View<'_>) -> Vec<String> {
    Predicted::of(run, planned).map(|told| told.sentences()).unwrap_or_default()
}

/// When the planned run's lane was busy, each of its passes moved to where the run's own began, so that what differs
/// within a pass shows whatever came before; spans that start less than `column` apart are one.
pub(super) fn ghosts(
    run: &View<'_>,
    planned: &View<'_>,
    lane: Lane,
    column: Nanos,
) -> Vec<(Nanos, Nanos)> {
    let starts = |view: &View<'_>| -> BTreeMap<(usize, usize), u64> {
        let passes = view.passes.iter();
        passes.map(|one| ((one.component, one.pass), one.window.start.get())).collect()
    };
    let (ours, theirs) = (starts(run), starts(planned));
    let moved = |at: Nanos, pass: (usize, usize)| {
        let (own, planned) = ours.get(&pass).zip(theirs.get(&pass))?;
        Some(Nanos::new(at.get().saturating_add(*own).saturating_sub(*planned)))
    };
    let spans = planned.profile.spans.iter().filter(|span| span.lane == lane);
    let mut found: Vec<(Nanos, Nanos)> = spans
        .filter_map(|span| {
            let pass = (span.component as usize, span.pass as usize);
            Some((moved(span.start, pass)?, moved(span.end, pass)?))
        })
        .collect();
    found.sort_unstable();
    in_columns(found, column)
}

/// Pairs that a chart shows at most: those that are furthest off.
const MOST_MARKS: usize = 600;

/// What a chart shows of a side, and how many pairs it leaves out.
pub(super) fn marks(side: &Side) -> (Vec<&Pair>, usize) {
    let timed = |pair: &&Pair| !pair.predicted.is_zero() && !pair.actual.is_zero();
    let mut chosen: Vec<&Pair> = side.pairs.iter().filter(timed).collect();
    let left_out = chosen.len().saturating_sub(MOST_MARKS);
    if left_out > 0 {
        chosen.sort_by_key(|pair| std::cmp::Reverse(pair.deviation()));
        chosen.truncate(MOST_MARKS);
    }
    (chosen, left_out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::fixture;

    #[test]
    fn the_sentences_name_what_is_furthest_off() {
        let (run, planned) = (fixture::off(), fixture::small());
        let (run, planned) = (View::of(&run), View::of(&planned));
        expect_test::expect![[r#"
            Predicted against simulated, 3 blocks' compute: 10.0 % off on average (MAPE); furthest is blocks.1: 60.00 ms against 50.00 ms (+20.0 %).
            Predicted against simulated, 3 copies: 16.7 % off on average (MAPE); furthest is blocks.2: 60.00 ms against 40.00 ms (+50.0 %).
        "#]].assert_eq(&(predictions(&run, &planned).join("\n") + "\n"));
        expect_test::expect![[r#"
            Predicted against simulated, 3 blocks' compute: 0.0 % off on average (MAPE), each exactly as predicted.
            Predicted against simulated, 3 copies: 0.0 % off on average (MAPE), each exactly as predicted.
        "#]]
            .assert_eq(&(predictions(&planned, &planned).join("\n") + "\n"));
        let told = Predicted::of(&run, &planned).expect("the same blocks");
        let csv = String::from_utf8(told.csv().expect("rows")).expect("text");
        expect_test::expect![[r#"
            what,block,piece,bytes,passes,predicted_ns,actual_ns,error
            compute,transformer.blocks.0,,0,2,50000000,55000000,0.1
            compute,transformer.blocks.1,,0,2,50000000,60000000,0.2
            compute,transformer.blocks.2,,0,2,50000000,50000000,0.0
            copy,transformer.blocks.0,0,1000000000,2,40000000,40000000,0.0
            copy,transformer.blocks.1,0,1000000000,2,40000000,40000000,0.0
            copy,transformer.blocks.2,0,1000000000,1,40000000,60000000,0.5
        "#]]
        .assert_eq(&csv);
    }

    #[test]
    fn every_pass_of_the_plan_lies_where_the_runs_own_pass_does() {
        let planned = fixture::small();
        let mut run = fixture::small();
        // The same run, from the second pass on 7 ms later.
        for span in run.spans.iter_mut().filter(|span| span.pass > 0) {
            span.start = span.start.saturating_add(Nanos::new(7_000_000));
            span.end = span.end.saturating_add(Nanos::new(7_000_000));
        }
        let last = run.spans.iter_mut().rfind(|span| span.pass == 0 && span.lane == Lane::Compute);
        let last = last.expect("a compute");
        last.end = last.end.saturating_add(Nanos::new(7_000_000));
        let (run, planned) = (View::of(&run), View::of(&planned));
        let of = |lane: Lane| -> Vec<(Nanos, Nanos)> {
            let spans = run.profile.spans.iter().filter(|span| span.lane == lane && span.pass > 0);
            spans.map(|span| (span.start, span.end)).collect()
        };
        for lane in [Lane::Compute, Lane::H2d] {
            let ghosts = ghosts(&run, &planned, lane, Nanos::new(1));
            assert!(of(lane).iter().all(|span| ghosts.contains(span)), "{lane}: {ghosts:?}");
        }
        assert_eq!(ghosts(&run, &planned, Lane::Compute, Nanos::new(u64::MAX)).len(), 1);
    }

    #[test]
    fn a_chart_leaves_out_what_is_nearest() {
        let (run, planned) = (fixture::off(), fixture::small());
        let (run, planned) = (View::of(&run), View::of(&planned));
        let mut side = Predicted::of(&run, &planned).expect("the same blocks").accuracy.computes;
        let near = side.pairs[2];
        side.pairs.extend(std::iter::repeat_n(near, MOST_MARKS));
        let (shown, left_out) = marks(&side);
        assert_eq!((shown.len(), left_out), (MOST_MARKS, 3));
        assert_eq!(shown[0].block, 1);
    }
}
