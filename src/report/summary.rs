//! Turns runs into one JSON object: the main run's figures at the top, its stalls, and the other runs' figures.

use serde::Serialize;

use super::View;
use super::comparison::{Comparison, comparisons};
use super::predicted::{Predicted, PredictedAnswer};
use crate::error::{Error, Result};
use crate::lane::Lane;
use crate::profile::{Cause, SizeRates, Summary, by_cause, copy_rates};
use crate::units::{Nanos, plain};

/// What the `report` command answers and `summary.json` holds.
#[derive(Debug, Serialize)]
pub struct Answer<'a> {
    /// The main run's figures.
    #[serde(flatten)]
    pub summary: &'a Summary,
    /// Its stall per cause; sums to `stall_ns`.
    pub stalls_by_cause: Vec<CauseRow>,
    /// Its stall per block, costliest first; sums to `stall_ns`.
    pub stalls_by_block: Vec<BlockRow>,
    /// Rates of its copies by lane and size.
    pub copy_rates: Vec<SizeRates<Lane>>,
    /// What was predicted of every block and copy, where that is known.
    pub predicted: Option<PredictedAnswer>,
    /// The figures of the other runs.
    pub other_runs: Vec<&'a Summary>,
    /// The other runs against this one.
    pub comparisons: Vec<Comparison>,
}

/// The stalls of one cause.
#[derive(Debug, Serialize)]
pub struct CauseRow {
    /// Why.
    pub cause: Cause,
    /// Uses that came late.
    pub late_uses: u64,
    /// How late, together.
    #[serde(rename = "stall_ns", serialize_with = "plain")]
    pub stall: Nanos,
}

/// The stalls of one block.
#[derive(Debug, Serialize)]
pub struct BlockRow {
    /// The block's full id.
    pub block: String,
    /// Uses that came late.
    pub late_uses: u64,
    /// How late, together.
    #[serde(rename = "stall_ns", serialize_with = "plain")]
    pub stall: Nanos,
    /// The latest of them.
    #[serde(rename = "worst_ns", serialize_with = "plain")]
    pub worst: Nanos,
    /// The cause that cost most.
    pub cause: Cause,
}

impl<'a> Answer<'a> {
    /// The answer for these runs, the first of which was planned to be like `planned`; `None` for none.
    pub fn of(views: &'a [View<'a>], planned: Option<&View<'_>>) -> Option<Self> {
        let (main, others) = views.split_first()?;
        let causes = by_cause(&main.stalls).into_iter();
        let blocks = main.blocks.iter().map(|one| BlockRow {
            block: main.profile.block_id(one.component, one.block),
            late_uses: one.count,
            stall: one.total,
            worst: one.worst.late_by,
            cause: one.main_cause(),
        });
        Some(Self {
            summary: &main.summary,
            stalls_by_cause: causes
                .map(|(cause, late_uses, stall)| CauseRow { cause, late_uses, stall })
                .collect(),
            stalls_by_block: blocks.collect(),
            copy_rates: copy_rates(main.profile),
            predicted: planned.and_then(|other| Some(Predicted::of(main, other)?.answer())),
            other_runs: others.iter().map(|view| &view.summary).collect(),
            comparisons: comparisons(views),
        })
    }
}

/// `summary.json`.
pub(super) fn json(views: &[View<'_>], planned: Option<&View<'_>>) -> Result<Vec<u8>> {
    let mut json = serde_json::to_vec_pretty(&Answer::of(views, planned))
        .map_err(|error| Error::Internal(format!("cannot write JSON: {error}")))?;
    json.push(b'\n');
    Ok(json)
}
