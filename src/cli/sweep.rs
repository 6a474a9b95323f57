//! The `sweep` command: pass time against VRAM, per policy.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::str::FromStr;

use serde_json::{Value, json};

use super::compare::{self, Settings};
use super::inputs::{Prepared, RequestArgs};
use super::{Terminal, files};
use crate::error::{Error, Result};
use crate::plan::{ComponentInput, Policy, bound};
use crate::units::{Bytes, Nanos};

/// Budgets that one sweep may have.
const MAX_BUDGETS: u64 = 10_000;

/// Show pass time against VRAM: what each GiB buys.
#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  vramplan sweep flux1-dev --device rtx-4090 --vram 6GiB..24GiB/1GiB -o sweep.csv"
)]
pub struct Args {
    #[command(flatten)]
    request: RequestArgs,
    /// Budgets, FIRST..LAST/STEP, such as 6GiB..24GiB/1GiB.
    #[arg(long, value_name = "RANGE")]
    vram: Range,
    /// Policies, separated by commas; all of them by default.
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    policies: Vec<String>,
    /// Where to write the figures as CSV.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Budgets from a first to a last in equal steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    first: Bytes,
    last: Bytes,
    step: Bytes,
}

impl FromStr for Range {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let expected = "FIRST..LAST/STEP, such as 6GiB..24GiB/1GiB";
        let parts = text.split_once("..").and_then(|(first, rest)| {
            let (last, step) = rest.split_once('/')?;
            Some((first, last, step))
        });
        let (first, last, step) = parts.ok_or_else(|| format!("expected {expected}"))?;
        let size = |text: &str| text.parse::<Bytes>().map_err(|error| error.to_string());
        let range = Self { first: size(first)?, last: size(last)?, step: size(step)? };
        if range.step.is_zero() || range.first > range.last {
            return Err(format!("expected {expected}, with first at most last and a step"));
        }
        if (range.last.get() - range.first.get()) / range.step.get() >= MAX_BUDGETS {
            return Err(format!("expected at most {MAX_BUDGETS} budgets"));
        }
        Ok(range)
    }
}

impl Range {
    /// The budgets, ascending; both ends when the step divides their distance.
    pub fn budgets(self) -> impl Iterator<Item = Bytes> {
        let steps = (self.last.get() - self.first.get()) / self.step.get();
        (0..=steps).map(move |n| Bytes::new(self.first.get() + n * self.step.get()))
    }
}

/// All policies at one budget.
pub struct Point {
    /// The budget.
    pub vram: Bytes,
    /// What no schedule can beat; none when nothing fits.
    pub bound: Option<Nanos>,
    /// Pass time by policy; none where it does not fit.
    pub passes: Vec<Option<Nanos>>,
    /// Whether nothing streams in the first policy's plan.
    pub everything_fits: bool,
}

pub fn run(args: &Args, terminal: &mut Terminal) -> Result<()> {
    let prepared = args.request.load(terminal)?;
    let policies = compare::policies(&args.policies)?;
    let budgets: Vec<Bytes> = args.vram.budgets().collect();
    if let Some(&largest) = budgets.last() {
        // Where not even the largest budget holds anything, the answer is the smallest that would.
        super::plan::refusing(prepared.under(largest).prepare().map(drop), terminal)?;
    }
    let points = points(&prepared, &policies, &budgets, &mut Settings::default(), terminal)?;
    let mut text = text(&policies, &points);
    if let Some(path) = &args.output {
        files::write_file(path, &csv(&policies, &points)?)?;
        let _ = writeln!(text, "\nfigures written to {}", path.display());
    }
    let device = &prepared.device().name;
    let head = format!("{} on {device}; steady time per pass, estimated\n\n", args.request.model);
    terminal.answer(&answer(&policies, &points), &(head + &text))
}

/// Plans every policy at every budget. Settings are built once; from one budget to the next only the choice among
/// them changes.
pub fn points(
    prepared: &Prepared,
    policies: &[Policy],
    budgets: &[Bytes],
    settings: &mut Settings,
    terminal: &Terminal,
) -> Result<Vec<Point>> {
    let progress = terminal.progress(budgets.len() as u64, "planning budgets");
    let mut points = Vec::with_capacity(budgets.len());
    for &vram in budgets {
        let inputs = match compare::inputs(&prepared.under(vram)) {
            Ok(inputs) => inputs,
            Err(Error::Infeasible(_)) => {
                let passes = vec![None; policies.len()];
                points.push(Point { vram, bound: None, passes, everything_fits: false });
                progress.inc(1);
                continue;
            }
            Err(error) => return Err(error),
        };
        let bound = inputs.iter().map(|input| bound::bound(&input.instance).any_schedule).sum();
        let passes = settings.best_passes(policies, &inputs)?;
        let everything_fits = inputs.iter().all(ComponentInput::everything_fits);
        points.push(Point { vram, bound: Some(bound), passes, everything_fits });
        progress.inc(1);
    }
    progress.finish_and_clear();
    Ok(points)
}

/// The JSON answer.
pub fn answer(policies: &[Policy], points: &[Point]) -> Value {
    let points: Vec<Value> = points
        .iter()
        .map(|point| {
            let by_policy = policies.iter().zip(&point.passes).map(
                |(policy, pass)| json!({ "policy": policy.name, "pass_ns": pass.map(Nanos::get) }),
            );
            json!({
                "vram_bytes": point.vram.get(),
                "bound_ns": point.bound.map(Nanos::get),
                "policies": by_policy.collect::<Vec<_>>(),
            })
        })
        .collect();
    json!({ "points": points, "origin": "estimated" })
}

/// Policies that have a column each; of more, the first and the best of the others are shown.
const MAX_COLUMNS: usize = 6;

fn text(policies: &[Policy], points: &[Point]) -> String {
    let mut text = format!("  {:>10}", "VRAM");
    let all = policies.len() <= MAX_COLUMNS;
    let columns = if all { policies } else { &policies[..1] };
    let width = |policy: &Policy| policy.name.len().max(9) + 2;
    for policy in columns {
        let _ = write!(text, "{:>1$}", policy.name, width(policy));
    }
    let others = if all { "" } else { "  best other" };
    let _ = writeln!(text, "{:>11}{others}", "bound");
    let shown = |time: Option<Nanos>| time.map_or("-".to_owned(), Nanos::human);
    for point in points {
        let _ = write!(text, "  {:>10}", point.vram.human());
        for (policy, &pass) in columns.iter().zip(&point.passes) {
            let _ = write!(text, "{:>1$}", shown(pass), width(policy));
        }
        let _ = write!(text, "{:>11}", shown(point.bound));
        // Beside our plan of blocks what others do; theirs may be of finer units, ours of those are in the CSV.
        let others = policies.iter().zip(&point.passes).skip(columns.len());
        let others = others.filter(|(policy, _)| !policy.spec().engine.is_empty());
        let best = others.filter_map(|(policy, &pass)| Some((pass?, policy.name))).min();
        if let Some((pass, name)) = best.filter(|_| !all) {
            let _ = write!(text, "{:>12} {name}", pass.human());
        }
        text.push('\n');
    }
    text.push_str("\n  - does not fit; bound: no schedule of blocks is faster\n");
    if !all {
        text.push_str("  -o FILE or --format json for every policy\n");
    }
    text
}

/// The figures as CSV: one row per budget and policy, the bound as a policy of its own.
pub fn csv(policies: &[Policy], points: &[Point]) -> Result<Vec<u8>> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let failed = |error: csv::Error| Error::Internal(format!("cannot write CSV: {error}"));
    writer.write_record(["vram_bytes", "policy", "pass_ns", "origin"]).map_err(failed)?;
    for point in points {
        let named = policies.iter().map(|policy| policy.name).zip(point.passes.iter().copied());
        for (name, pass) in named.chain(std::iter::once(("bound", point.bound))) {
            let pass = pass.map_or(String::new(), |pass| pass.get().to_string());
            let vram = point.vram.get().to_string();
            writer.write_record([vram.as_str(), name, &pass, "estimated"]).map_err(failed)?;
        }
    }
    writer.into_inner().map_err(|error| Error::Internal(format!("cannot write CSV: {error}")))
}
