//! The `sweep` command: pass time against VRAM, over lists of models, devices, sizes, ranks and policies.
//!
//! ```text
//! lists ── axes ──▶ lines ── points, in parallel ──▶ [Point] ──▶ frontier | list | CSV | JSON
//!                                                       └ summary ─▶ gaps, quotients ─▶ screen, Markdown
//! ```

mod axes;
mod points;
mod summary;
mod text;

use std::path::PathBuf;

use indicatif::ProgressBar;
use serde_json::{Map, Value, json};

use super::{Terminal, compare, files};
use crate::error::{Error, Result};
use crate::plan::{Policy, Request};
use crate::units::{Bytes, Fraction, Nanos};
use axes::{Axes, Line};
pub use points::Point;
use points::{Cell, Depth, is_ours};
use summary::Summary;

/// Show what each GiB buys, over models, devices, sizes and ranks.
///
/// Plans every policy at its best setting under every budget, on all cores. A comma separates what is to be
/// combined: every model with every device, size, number of ranks and budget. With --summary policies are compared:
/// gaps to the bound, and how much longer each takes than our plan of the same unit, at its best setting and at what
/// its engine ships. Exits with 4 where nothing fits any budget.
#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  vramplan sweep flux1-dev --device rtx-4090 --vram 6GiB..24GiB/1GiB -o sweep.csv\n  vramplan sweep flux1-dev qwen-image --device rtx-4090,rtx-3060 --weights 25%,50%,75%,90% --summary grid.md\n  vramplan sweep wan2.2-t2v-a14b --device h100 --vram 20GiB,40GiB --ranks 1,2,4,8 --shard tp --size 832x480,1280x720"
)]
pub struct Args {
    #[command(flatten)]
    axes: Axes,
    /// Policies, separated by commas; all of them by default.
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    policies: Vec<String>,
    /// Where to write every point as CSV.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Compare the policies with our plans, which are then among them, and write the comparison as Markdown.
    #[arg(long, value_name = "FILE")]
    summary: Option<PathBuf>,
}

pub fn run(args: &Args, terminal: &mut Terminal) -> Result<()> {
    let policies = policies(&args.policies, args.summary.is_some())?;
    let lines = args.axes.lines(terminal)?;
    let depth = if args.summary.is_some() { Depth::Details } else { Depth::Times };
    let count: usize = lines.iter().map(|line| line.budgets.len()).sum();
    let progress = terminal.progress(count as u64, "planning");
    let points = points::points(&lines, &policies, depth, &progress);
    let points = super::plan::refusing(points, terminal)?;
    let mut text = match lines.as_slice() {
        [line] => {
            let h2d = line.request.rank.as_ref().map(|rank| rank.of.h2d);
            text::heading(&points, &line.request.device.name, h2d)
                + &text::frontier(&policies, &points)
        }
        _ => format!("{}\n\n{}", text::counts(&points), text::list(&points)),
    };
    if let Some(path) = &args.summary {
        let summary = Summary::of(&points);
        let markdown = text::markdown(&args.axes, &policies, &points, &summary);
        files::write_file(path, markdown.as_bytes())?;
        text = text::summary(&points, &summary);
        text.push_str(&format!("\ncomparison written to {}\n", path.display()));
    }
    if let Some(path) = &args.output {
        files::write_file(path, &csv(&points)?)?;
        text.push_str(&format!("\nfigures written to {}\n", path.display()));
    }
    terminal.answer(&answer(&points), &text)
}

/// The policies asked for; where they are compared, ours first and always: the others are measured by them.
fn policies(names: &[String], compared: bool) -> Result<Vec<Policy>> {
    let asked = compare::policies(names)?;
    if !compared {
        return Ok(asked);
    }
    let ours = Policy::all().into_iter().filter(|policy| is_ours(policy.name));
    let others = asked.into_iter().filter(|policy| !is_ours(policy.name));
    Ok(ours.chain(others).collect())
}

/// The points of one request under several budgets, for a study.
pub fn along(
    name: (&str, &str),
    request: &Request,
    policies: &[Policy],
    budgets: &[Bytes],
    progress: &ProgressBar,
) -> Result<Vec<Point>> {
    let line = Line {
        model: name.0.to_owned(),
        device: name.1.to_owned(),
        size: None,
        request: request.clone(),
        budgets: budgets.iter().map(|&vram| (vram, None)).collect(),
    };
    points::points(&[line], policies, Depth::Times, progress)
}

/// The JSON answer.
pub fn answer(points: &[Point]) -> Value {
    let gaps: Map<String, Value> = Summary::of(points)
        .gaps
        .iter()
        .map(|gaps| {
            let value = json!({ "mean": Fraction::from_ppm(gaps.mean), "most": gaps.most });
            (gaps.unit.to_string(), value)
        })
        .collect();
    json!({
        "points": points.iter().map(point_answer).collect::<Vec<_>>(),
        "gap": gaps,
        "origin": "estimated",
    })
}

fn point_answer(point: &Point) -> Value {
    let cell = |cell: &Cell| {
        let mut answer = json!({
            "policy": cell.policy,
            "unit": cell.unit,
            "pass_ns": cell.best.map(Nanos::get),
        });
        if let (Some(detail), Some(answer)) = (&cell.detail, answer.as_object_mut()) {
            answer.insert("parameters".into(), json!(detail.parameters));
            answer.insert("default_pass_ns".into(), json!(detail.shipped.map(Nanos::get)));
            answer.insert("bound_ns".into(), json!(detail.bound.get()));
            answer.insert("gap".into(), json!(cell.gap()));
        }
        answer
    };
    json!({
        "model": point.model,
        "device": point.device,
        "width": point.size.map(|size| size.width),
        "height": point.size.map(|size| size.height),
        "rank": point.rank,
        "vram_bytes": point.vram.get(),
        "weights_share": point.share.map(|share| share.0),
        "bound_ns": point.bound.map(Nanos::get),
        "everything_fits": point.everything_fits,
        "policies": point.cells.iter().map(cell).collect::<Vec<_>>(),
    })
}

/// Columns of the CSV, with their units; what does not apply to a row is empty.
const HEAD: [&str; 16] = [
    "model",
    "device",
    "width_px",
    "height_px",
    "ranks",
    "shard",
    "weights_share",
    "vram_bytes",
    "policy",
    "unit",
    "parameters",
    "pass_ns",
    "shipped_pass_ns",
    "bound_ns",
    "blocks_bound_ns",
    "origin",
];

/// The figures as CSV: one row per point and policy. Parameters, what engines ship and the bound of each unit are there
/// where policies are compared.
pub fn csv(points: &[Point]) -> Result<Vec<u8>> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let failed = |error: csv::Error| Error::Internal(format!("cannot write CSV: {error}"));
    writer.write_record(HEAD).map_err(failed)?;
    let time = |time: Option<Nanos>| time.map_or(String::new(), |time| time.get().to_string());
    let pixels = |side: Option<u64>| side.map_or(String::new(), |side| side.to_string());
    for point in points {
        let rank = point.rank.as_ref();
        let of_point = [
            point.model.clone(),
            point.device.clone(),
            pixels(point.size.map(|size| size.width)),
            pixels(point.size.map(|size| size.height)),
            rank.map_or_else(|| "1".to_owned(), |rank| rank.of.to_string()),
            rank.map_or_else(String::new, |rank| rank.shard.to_string()),
            point.share.map_or_else(String::new, |share| share.0.to_string()),
            point.vram.get().to_string(),
        ];
        for cell in &point.cells {
            let detail = cell.detail.as_ref();
            let of_cell = [
                cell.policy.to_owned(),
                cell.unit.to_string(),
                detail.map_or_else(String::new, |detail| detail.parameters.clone()),
                time(cell.best),
                time(cell.shipped()),
                time(detail.map(|detail| detail.bound)),
                time(point.bound),
                "estimated".to_owned(),
            ];
            writer.write_record(of_point.iter().chain(&of_cell)).map_err(failed)?;
        }
    }
    writer.into_inner().map_err(|error| Error::Internal(format!("cannot write CSV: {error}")))
}
