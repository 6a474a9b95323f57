//! Turns the lines of a sweep into its points: what every policy takes under every budget, planned in parallel.
//!
//! Nothing but the budget changes along a line, so costs and settings are made once for it. Points are planned on
//! every core and come back in order; no answer depends on which was planned first.

use indicatif::ProgressBar;
use rayon::prelude::*;

use super::axes::{Line, Share, Size};
use crate::cli::compare::{self, Row, Settings};
use crate::error::{Error, Infeasible, Result};
use crate::plan::{ComponentInput, Policy, Request, Setting, Unit, bound};
use crate::shard::RankOf;
use crate::units::{Bytes, Fraction, Nanos};

/// What a sweep has planned at one point.
pub struct Point {
    /// The model as named.
    pub model: String,
    /// The device as named.
    pub device: String,
    /// The picture, where it was an axis.
    pub size: Option<Size>,
    /// Which of several ranks the point is of.
    pub rank: Option<RankOf>,
    /// The budget.
    pub vram: Bytes,
    /// The share of weights it was asked for as.
    pub share: Option<Share>,
    /// What no schedule of blocks can beat; none when nothing fits.
    pub bound: Option<Nanos>,
    /// By policy.
    pub cells: Vec<Cell>,
    /// Whether nothing needs to stream.
    pub everything_fits: bool,
}

/// One policy at one point.
pub struct Cell {
    /// Its name.
    pub policy: &'static str,
    /// Its engine; empty for our own and for what no engine ships.
    pub engine: &'static str,
    /// What it holds while it computes.
    pub unit: Unit,
    /// Whether its engine runs such a model; known where it is compared.
    pub serves: bool,
    /// The steady time of a pass at its best setting; none where none fits.
    pub best: Option<Nanos>,
    /// What only a summary needs.
    pub detail: Option<Detail>,
}

/// What is known of a policy where it is compared, not only timed.
pub struct Detail {
    /// Its best setting.
    pub parameters: String,
    /// What no schedule of its unit takes less than.
    pub bound: Nanos,
    /// What the engine ships, where that fits.
    pub shipped: Option<Nanos>,
}

/// How much is found out about every policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Its pass time.
    Times,
    /// Its setting, what its engine ships, and the bound of its unit, too.
    Details,
}

/// A line with what its points share.
struct Prepared<'a> {
    line: &'a Line,
    inputs: Vec<ComponentInput>,
    settings: Settings,
    serves: Vec<bool>,
}

/// What is missing least of, where no line has any plan even under its largest budget.
fn nothing_fits(lines: &[Line]) -> Result<Option<Infeasible>> {
    let mut least: Option<Infeasible> = None;
    for line in lines {
        let Some(vram) = line.budgets.iter().map(|&(vram, _)| vram).max() else { continue };
        match (Request { vram, ..line.request.clone() }).prepare() {
            Ok(_) => return Ok(None),
            Err(Error::Infeasible(answer)) => {
                let named = format!("{} on {}: {}", line.model, line.device, answer.because);
                let because = if lines.len() > 1 { named } else { answer.because.clone() };
                let answer = Infeasible { because, ..answer };
                if least.as_ref().is_none_or(|known| answer.shortfall < known.shortfall) {
                    least = Some(answer);
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(least)
}

/// Plans every policy at every point, in the order of the lines and their budgets.
///
/// # Errors
///
/// Infeasible, with the smallest budget that works, where nothing fits at any point.
pub fn points(
    lines: &[Line],
    policies: &[Policy],
    depth: Depth,
    progress: &ProgressBar,
) -> Result<Vec<Point>> {
    if let Some(answer) = nothing_fits(lines)? {
        return Err(Error::Infeasible(answer));
    }
    let mut prepared = Vec::with_capacity(lines.len());
    for line in lines {
        let unlimited = Request { vram: Bytes::new(u64::MAX >> 1), ..line.request.clone() };
        let inputs = compare::inputs(&unlimited)?;
        let settings = Settings::of(policies, &inputs)?;
        let serves =
            policies.iter().map(|policy| compare::serves(policy.spec().serves(), &unlimited));
        prepared.push(Prepared { line, inputs, settings, serves: serves.collect() });
    }
    let work: Vec<(&Prepared, Bytes, Option<Share>)> = prepared
        .iter()
        .flat_map(|line| line.line.budgets.iter().map(move |&(vram, share)| (line, vram, share)))
        .collect();
    let planned: Vec<Result<Point>> = work
        .par_iter()
        .map(|&(line, vram, share)| {
            let point = line.point(policies, vram, share, depth);
            progress.inc(1);
            point
        })
        .collect();
    progress.finish_and_clear();
    // In order, so that of several errors the same is told every time.
    planned.into_iter().collect()
}

impl Prepared<'_> {
    fn point(
        &self,
        policies: &[Policy],
        vram: Bytes,
        share: Option<Share>,
        depth: Depth,
    ) -> Result<Point> {
        let Line { model, device, size, request, .. } = self.line;
        let weights = vram.checked_sub(request.workload.reserve.total());
        let inputs: Option<Vec<ComponentInput>> = weights.and_then(|weights| {
            self.inputs.iter().map(|input| input.with_weights(weights)).collect()
        });
        let mut point = Point {
            model: model.clone(),
            device: device.clone(),
            size: *size,
            rank: request.rank.as_ref().map(|rank| rank.of.clone()),
            vram,
            share,
            bound: None,
            cells: policies.iter().map(Cell::none).collect(),
            everything_fits: false,
        };
        let Some(inputs) = inputs else { return Ok(point) };
        point.everything_fits = inputs.iter().all(ComponentInput::everything_fits);
        match depth {
            Depth::Times => {
                let passes = self.settings.best_passes(&inputs)?;
                point.cells.iter_mut().zip(passes).for_each(|(cell, pass)| cell.best = pass);
                let bounds = inputs.iter().map(|input| bound::bound(&input.instance).any_schedule);
                point.bound = Some(bounds.sum());
            }
            Depth::Details => {
                let rows = compare::rows_of(&inputs, policies, &self.settings, &self.serves)?;
                point.cells = rows.iter().map(Cell::of).collect();
                let blocks = rows.iter().find(|row| row.policy.spec().unit() == Unit::Block);
                point.bound = blocks.map(|row| row.bound);
            }
        }
        Ok(point)
    }
}

impl Cell {
    /// A policy that fits nowhere at a point.
    fn none(policy: &Policy) -> Self {
        let spec = policy.spec();
        Self {
            policy: spec.name,
            engine: spec.engine,
            unit: spec.unit(),
            serves: true,
            best: None,
            detail: None,
        }
    }

    fn of(row: &Row) -> Self {
        let fits = |settings: &&[Setting]| settings.iter().all(|setting| setting.fits);
        let detail = Detail {
            parameters: row.best.as_deref().map(compare::parameters).unwrap_or_default(),
            bound: row.bound,
            shipped: row.shipped.as_deref().filter(fits).map(compare::pass),
        };
        Self {
            best: row.pass(),
            serves: row.serves,
            detail: Some(detail),
            ..Self::none(&row.policy)
        }
    }

    /// How far above what no schedule of its unit can beat, where that is known.
    pub fn gap(&self) -> Option<Fraction> {
        let bound = self.detail.as_ref()?.bound;
        let above = self.best?.saturating_sub(bound);
        Some(Fraction::of(above.get(), bound.get()))
    }

    /// What its engine ships, where that fits, was asked for, and runs such a model.
    pub fn shipped(&self) -> Option<Nanos> {
        self.detail.as_ref()?.shipped.filter(|_| self.serves)
    }

    /// Whether it is our own planner's.
    pub fn is_ours(&self) -> bool {
        is_ours(self.policy)
    }
}

/// Whether a policy is our own planner's.
pub fn is_ours(policy: &str) -> bool {
    policy.starts_with("hybrid")
}

impl Point {
    /// Our plan of a unit.
    pub fn ours(&self, unit: Unit) -> Option<&Cell> {
        self.cells.iter().find(|cell| cell.is_ours() && cell.unit == unit)
    }

    /// The fastest policy of an engine, at its best setting.
    pub fn best_peer(&self) -> Option<&Cell> {
        let peers = self.cells.iter().filter(|cell| !cell.engine.is_empty());
        peers.filter(|cell| cell.best.is_some()).min_by_key(|cell| (cell.best, cell.policy))
    }
}
