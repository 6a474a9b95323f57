//! The `grid` command: our plans and every policy over models × devices × budgets, with what they are above the bound.

use std::fmt::Write as _;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::compare::{self, Row, Settings};
use super::host::HostArgs;
use super::inputs::{RequestArgs, Selection};
use super::{Terminal, files};
use crate::error::{Error, Result};
use crate::plan::{Policy, Unit};
use crate::units::{Bytes, Fraction, Nanos};

/// Compare policies over models, devices and budgets.
///
/// A budget is a share of the main component's weights, beside the reserve of the model's default workload. Writes
/// every figure as CSV and a summary as Markdown: gaps to the bound, and how much longer every policy takes than
/// our plan of the same unit, at its best setting and at what its engine ships.
#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  vramplan grid flux1-dev qwen-image --device rtx-4090,rtx-3060 --weights 25%,50%,75%,90% -o reports/grid"
)]
pub struct Args {
    /// Built-in models (see `vramplan models`), manifest files or checkpoints.
    #[arg(required = true)]
    models: Vec<String>,
    /// Built-in devices (see `vramplan devices`) or device files, separated by commas.
    #[arg(long, value_name = "LIST", value_delimiter = ',', required = true)]
    device: Vec<String>,
    /// Budgets for weights as shares of them, separated by commas.
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "25%,50%,75%,90%")]
    weights: Vec<Fraction>,
    /// Policies, separated by commas; all of them by default.
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    policies: Vec<String>,
    /// The folder for grid.csv and grid.md.
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,
}

/// One policy at one point of the grid.
struct Cell {
    policy: &'static str,
    engine: &'static str,
    unit: Unit,
    parameters: String,
    bound: Nanos,
    best: Option<Nanos>,
    /// What the engine ships, where that fits.
    shipped: Option<Nanos>,
}

/// All policies for one model, device and budget.
struct Point {
    model: String,
    device: String,
    share: Fraction,
    vram: Bytes,
    cells: Vec<Cell>,
}

pub fn run(args: &Args, terminal: &mut Terminal) -> Result<()> {
    let policies = policies(&args.policies)?;
    let points = points(args, &policies, terminal)?;
    let text = summary(args, &points);
    if let Some(folder) = &args.output {
        files::write_file(&folder.join("grid.csv"), &csv(&points)?)?;
        files::write_file(&folder.join("grid.md"), markdown(args, &points).as_bytes())?;
    }
    terminal.answer(&answer(&points), &text)
}

/// The policies asked for, ours always among them: the others are measured by it.
fn policies(names: &[String]) -> Result<Vec<Policy>> {
    let asked = compare::policies(names)?;
    let ours = Policy::all().into_iter().filter(|policy| is_ours(policy.name));
    let others = asked.into_iter().filter(|policy| !is_ours(policy.name));
    Ok(ours.chain(others).collect())
}

fn is_ours(policy: &str) -> bool {
    policy.starts_with("hybrid")
}

fn points(args: &Args, policies: &[Policy], terminal: &mut Terminal) -> Result<Vec<Point>> {
    let count = args.models.len() * args.device.len() * args.weights.len();
    let progress = terminal.progress(count as u64, "planning the grid");
    let mut points = Vec::with_capacity(count);
    for model in &args.models {
        for device in &args.device {
            let (selection, host) = (Selection::default(), HostArgs::default());
            let (model_name, device_name) = (model.clone(), device.clone());
            let request = RequestArgs { model: model_name, device: device_name, host, selection };
            let prepared = request.load(terminal)?;
            let unlimited = prepared.under(Bytes::new(u64::MAX >> 1));
            let reserve = unlimited.workload.reserve.total();
            let total: Bytes = unlimited.prepare()?.iter().map(|prepared| prepared.total).sum();
            let mut settings = Settings::default();
            for &share in &args.weights {
                let vram = reserve.saturating_add(Bytes::new(share.share_of(total.get())));
                let cells = match compare::rows(&prepared.under(vram), policies, &mut settings) {
                    Ok(rows) => rows.iter().map(Cell::of).collect(),
                    Err(Error::Infeasible(_)) => Vec::new(),
                    Err(error) => return Err(error),
                };
                let (model, device) = (model.clone(), device.clone());
                points.push(Point { model, device, share, vram, cells });
                progress.inc(1);
            }
        }
    }
    progress.finish_and_clear();
    Ok(points)
}

impl Cell {
    fn of(row: &Row) -> Self {
        let spec = row.policy.spec();
        let fits = |settings: &&[crate::plan::Setting]| settings.iter().all(|setting| setting.fits);
        let shipped = row.shipped.as_deref().filter(fits).map(compare::pass);
        Self {
            policy: spec.name,
            engine: spec.engine,
            unit: spec.unit(),
            parameters: row.best.as_deref().map(compare::parameters).unwrap_or_default(),
            bound: row.bound,
            best: row.pass(),
            shipped,
        }
    }

    /// How far above what no schedule of its unit can beat.
    fn gap(&self) -> Option<Fraction> {
        let above = self.best?.saturating_sub(self.bound);
        Some(Fraction::of(above.get(), self.bound.get()))
    }
}

impl Point {
    /// Our plan of a unit.
    fn ours(&self, unit: Unit) -> Option<&Cell> {
        self.cells.iter().find(|cell| is_ours(cell.policy) && cell.unit == unit)
    }

    /// The fastest policy of an engine, at its best setting.
    fn best_peer(&self) -> Option<&Cell> {
        let peers = self.cells.iter().filter(|cell| !cell.engine.is_empty());
        peers.filter(|cell| cell.best.is_some()).min_by_key(|cell| (cell.best, cell.policy))
    }
}

/// Quotients of times, gathered: how many, their geometric mean, the least and the largest.
#[derive(Default)]
struct Quotients {
    logs: Vec<f64>,
}

impl Quotients {
    #[expect(
        clippy::cast_precision_loss,
        reason = "a quotient for reading, of times below 2^53 ns"
    )]
    fn add(&mut self, time: Option<Nanos>, by: Option<Nanos>) {
        if let (Some(time), Some(by)) = (time, by) {
            self.logs.push((time.get() as f64 / by.get().max(1) as f64).ln());
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "a count of grid points")]
    fn mean(&self) -> Option<f64> {
        let sum: f64 = self.logs.iter().sum();
        (!self.logs.is_empty()).then(|| (sum / self.logs.len() as f64).exp())
    }

    fn range(&self) -> Option<(f64, f64)> {
        let least = self.logs.iter().copied().reduce(f64::min)?;
        let most = self.logs.iter().copied().reduce(f64::max)?;
        Some((least.exp(), most.exp()))
    }

    /// `1.31 (1.02 to 2.00)`.
    fn shown(&self) -> String {
        match (self.mean(), self.range()) {
            (Some(mean), Some((least, most))) => format!("{mean:.2} ({least:.2} to {most:.2})"),
            _ => "-".to_owned(),
        }
    }
}

/// What one policy comes to over the grid.
struct Total {
    policy: &'static str,
    unit: Unit,
    fits: usize,
    best: Quotients,
    shipped: Quotients,
}

fn totals(points: &[Point]) -> Vec<Total> {
    let mut totals: Vec<Total> = Vec::new();
    for point in points {
        for cell in point.cells.iter().filter(|cell| !is_ours(cell.policy)) {
            let n = totals.iter().position(|total| total.policy == cell.policy);
            let n = n.unwrap_or_else(|| {
                let (best, shipped) = (Quotients::default(), Quotients::default());
                totals.push(Total { policy: cell.policy, unit: cell.unit, fits: 0, best, shipped });
                totals.len() - 1
            });
            let ours = point.ours(cell.unit).and_then(|ours| ours.best);
            totals[n].fits += usize::from(cell.best.is_some());
            totals[n].best.add(cell.best, ours);
            totals[n].shipped.add(cell.shipped, ours);
        }
    }
    totals
}

/// Mean and largest gap of our plans of a unit, and where the largest is.
fn gaps(points: &[Point], unit: Unit) -> Option<(u64, Fraction, &Point)> {
    let gap = |point: &Point| point.ours(unit).and_then(Cell::gap);
    let known = points.iter().filter_map(|point| Some((gap(point)?, point)));
    let known: Vec<(Fraction, &Point)> = known.collect();
    let mean = known.iter().map(|(gap, _)| gap.ppm()).sum::<u64>() / (known.len() as u64).max(1);
    let &(most, at) = known.iter().max_by_key(|(gap, _)| *gap)?;
    Some((mean, most, at))
}

/// Per cent with two decimals: gaps are small.
fn per_cent(ppm: u64) -> String {
    let hundredths = (ppm + 50) / 100;
    format!("{}.{:02} %", hundredths / 100, hundredths % 100)
}

/// The sentences that head both texts.
fn findings(args: &Args, points: &[Point]) -> Vec<String> {
    let mut lines = vec![format!(
        "{} points: {} models, {} devices, {} budgets; steady times per pass, estimated",
        points.len(),
        args.models.len(),
        args.device.len(),
        args.weights.len(),
    )];
    for unit in Unit::ALL {
        if let Some((mean, most, at)) = gaps(points, unit) {
            lines.push(format!(
                "our plans, unit {unit}: {} above the bound on average, at most {} ({} on {}, {} of weights)",
                per_cent(mean),
                per_cent(most.ppm()),
                at.model,
                at.device,
                at.share.percent(),
            ));
        }
    }
    let (mut best, mut own, mut shipped) = <(Quotients, Quotients, Quotients)>::default();
    for point in points {
        let ours = |unit| point.ours(unit).and_then(|ours| ours.best);
        if let Some(peer) = point.best_peer() {
            best.add(peer.best, ours(Unit::Block));
            own.add(peer.best, ours(peer.unit));
        }
        for cell in point.cells.iter().filter(|cell| !cell.engine.is_empty()) {
            shipped.add(cell.shipped, ours(cell.unit));
        }
    }
    lines.push(format!("best peer ÷ our plan of blocks: geometric mean {}", best.shown()));
    lines.push(format!("best peer ÷ our plan of its unit: geometric mean {}", own.shown()));
    lines.push(format!(
        "what engines ship, where it fits, ÷ our plan of the same unit: geometric mean {}",
        shipped.shown()
    ));
    lines
}

fn summary(args: &Args, points: &[Point]) -> String {
    let mut text = String::new();
    for line in findings(args, points) {
        for part in super::verdict::wrapped(&line) {
            let _ = writeln!(text, "{part}");
        }
    }
    let _ = writeln!(
        text,
        "\n  {:<24}{:>6}{:>6}{:>22}{:>22}",
        "policy", "unit", "fits", "best ÷ ours", "shipped ÷ ours"
    );
    for total in totals(points) {
        let (best, shipped) = (total.best.shown(), total.shipped.shown());
        let _ = writeln!(
            text,
            "  {:<24}{:>6}{:>6}{best:>22}{shipped:>22}",
            total.policy, total.unit, total.fits
        );
    }
    text.push_str(
        "\n  geometric means over the points where it fits, least and largest in brackets\n",
    );
    text
}

fn markdown(args: &Args, points: &[Point]) -> String {
    let mut text = String::from("# Policies over models, devices and budgets\n\n");
    for line in findings(args, points) {
        let _ = writeln!(text, "- {line}");
    }
    let command = format!(
        "vramplan grid {} --device {} --weights {}",
        args.models.join(" "),
        args.device.join(","),
        args.weights
            .iter()
            .map(|share| share.percent().replace(".0 ", ""))
            .collect::<Vec<_>>()
            .join(","),
    );
    let _ = writeln!(text, "\nMade by `{command} -o DIR`; `grid.csv` has every figure.\n");
    text.push_str("The bound is for schedules that hold a policy's unit while it computes. A policy is at the best of its settings\nthat fits, and beside it at what its engine ships, where that fits.\n\n");
    text.push_str("| policy | unit | fits | best ÷ ours (least to largest) | shipped ÷ ours |\n|---|---|---:|---|---|\n");
    for total in totals(points) {
        let (best, shipped) = (total.best.shown(), total.shipped.shown());
        let Total { policy, unit, fits, .. } = total;
        let _ = writeln!(text, "| {policy} | {unit} | {fits} | {best} | {shipped} |");
    }
    text.push_str("\n| model | device | weights | bound | ours | gap | best peer | ÷ ours |\n|---|---|---:|---:|---:|---:|---|---:|\n");
    for point in points {
        let ours = point.ours(Unit::Block);
        let shown = |time: Option<Nanos>| time.map_or("-".to_owned(), Nanos::human);
        let mut quotient = Quotients::default();
        let peer = point.best_peer();
        quotient.add(peer.and_then(|peer| peer.best), ours.and_then(|ours| ours.best));
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} | {} | {} |",
            point.model,
            point.device,
            point.share.percent(),
            shown(ours.map(|ours| ours.bound)),
            shown(ours.and_then(|ours| ours.best)),
            ours.and_then(Cell::gap).map_or("-".to_owned(), |gap| per_cent(gap.ppm())),
            peer.map_or("-".to_owned(), |peer| format!("{} {}", peer.policy, peer.parameters)),
            quotient.mean().map_or("-".to_owned(), |mean| format!("{mean:.3}")),
        );
    }
    text
}

fn csv(points: &[Point]) -> Result<Vec<u8>> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let failed = |error: csv::Error| Error::Internal(format!("cannot write CSV: {error}"));
    let head = [
        "model",
        "device",
        "weights_share",
        "vram_bytes",
        "policy",
        "unit",
        "parameters",
        "pass_ns",
        "shipped_pass_ns",
        "bound_ns",
        "origin",
    ];
    writer.write_record(head).map_err(failed)?;
    let time = |time: Option<Nanos>| time.map_or(String::new(), |time| time.get().to_string());
    for point in points {
        for cell in &point.cells {
            let row = [
                point.model.clone(),
                point.device.clone(),
                point.share.to_string(),
                point.vram.get().to_string(),
                cell.policy.to_owned(),
                cell.unit.to_string(),
                cell.parameters.clone(),
                time(cell.best),
                time(cell.shipped),
                cell.bound.get().to_string(),
                "estimated".to_owned(),
            ];
            writer.write_record(row).map_err(failed)?;
        }
    }
    writer.into_inner().map_err(|error| Error::Internal(format!("cannot write CSV: {error}")))
}

fn answer(points: &[Point]) -> Value {
    let cell = |cell: &Cell| {
        json!({
            "policy": cell.policy,
            "unit": cell.unit,
            "parameters": cell.parameters,
            "pass_ns": cell.best.map(Nanos::get),
            "default_pass_ns": cell.shipped.map(Nanos::get),
            "bound_ns": cell.bound.get(),
            "gap": cell.gap(),
        })
    };
    let point = |point: &Point| {
        json!({
            "model": point.model,
            "device": point.device,
            "weights_share": point.share,
            "vram_bytes": point.vram.get(),
            "policies": point.cells.iter().map(cell).collect::<Vec<_>>(),
        })
    };
    let gap = |unit: Unit| {
        gaps(points, unit)
            .map(|(mean, most, _)| json!({ "mean": Fraction::from_ppm(mean), "most": most }))
    };
    json!({
        "points": points.iter().map(point).collect::<Vec<_>>(),
        "gap": Unit::ALL.map(|unit| (unit.to_string(), gap(unit))).into_iter().collect::<std::collections::BTreeMap<_, _>>(),
        "origin": "estimated",
    })
}
