//! Turns the points of a sweep into tables for people: a frontier, a list, a summary on screen or as Markdown.

use std::fmt::Write as _;

use super::axes::{Axes, Size};
use super::points::{Cell, Point, is_ours};
use super::summary::{Quotients, Summary, Total};
use crate::cli::verdict;
use crate::plan::{Policy, Unit};
use crate::units::{Nanos, Rate};

/// Policies that have a column each; of more, the first and the best of the others are shown.
const MAX_COLUMNS: usize = 6;

/// Points of a list that are shown; the CSV has all.
const MAX_ROWS: usize = 48;

fn shown(time: Option<Nanos>) -> String {
    time.map_or("-".to_owned(), Nanos::human)
}

/// Pass time against VRAM, for points of one line.
pub fn frontier(policies: &[Policy], points: &[Point]) -> String {
    let mut text = format!("  {:>10}", "VRAM");
    let all = policies.len() <= MAX_COLUMNS;
    let columns = if all { policies } else { &policies[..1] };
    let width = |policy: &Policy| policy.name.len().max(9) + 2;
    for policy in columns {
        let _ = write!(text, "{:>1$}", policy.name, width(policy));
    }
    let others = if all { "" } else { "  best other" };
    let _ = writeln!(text, "{:>11}{others}", "bound");
    for point in points {
        let _ = write!(text, "  {:>10}", point.vram.human());
        for (policy, cell) in columns.iter().zip(&point.cells) {
            let _ = write!(text, "{:>1$}", shown(cell.best), width(policy));
        }
        let _ = write!(text, "{:>11}", shown(point.bound));
        if let Some((pass, name)) = best_other(point, columns.len()).filter(|_| !all) {
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

/// Beside our plan of blocks what others do; theirs may be of finer units, ours of those are in the CSV.
fn best_other(point: &Point, columns: usize) -> Option<(Nanos, &'static str)> {
    let others = point.cells.iter().skip(columns).filter(|cell| !cell.engine.is_empty());
    others.filter_map(|cell| Some((cell.best?, cell.policy))).min()
}

/// The first of many points, one row each.
pub fn list(points: &[Point]) -> String {
    let model = points.iter().map(|point| point.model.len()).max().unwrap_or(0).max(5);
    let device = points.iter().map(|point| point.device.len()).max().unwrap_or(0).max(6);
    let first = points.first().and_then(|point| point.cells.first());
    let policy = first.map_or("", |cell| cell.policy);
    let column = policy.len().max(9) + 2;
    let mut text =
        format!("  {:<model$}  {:<device$}{:>10}{:>8}", "model", "device", "size", "ranks");
    let _ = writeln!(text, "{:>12}{policy:>column$}{:>11}  best of engines", "VRAM", "bound");
    for point in points.iter().take(MAX_ROWS) {
        let size = point.size.map_or("-".to_owned(), |size| size.to_string());
        let ranks = point
            .rank
            .as_ref()
            .map_or("-".to_owned(), |rank| format!("{} {}", rank.of, rank.shard));
        let first = point.cells.first().and_then(|cell| cell.best);
        let _ = write!(
            text,
            "  {:<model$}  {:<device$}{size:>10}{ranks:>8}{:>12}{:>column$}{:>11}",
            point.model,
            point.device,
            point.vram.human(),
            shown(first),
            shown(point.bound),
        );
        if let Some(peer) = point.best_peer() {
            let _ = write!(text, "  {} {}", shown(peer.best), peer.policy);
        }
        text.push('\n');
    }
    if points.len() > MAX_ROWS {
        let _ = writeln!(text, "  and {} more: -o FILE.csv has all", points.len() - MAX_ROWS);
    }
    text.push_str("\n  - does not fit; bound: no schedule of blocks is faster\n");
    text
}

/// Per cent with two decimals: gaps are small.
fn per_cent(ppm: u64) -> String {
    let hundredths = (ppm + 50) / 100;
    format!("{}.{:02} %", hundredths / 100, hundredths % 100)
}

/// `1.31 (1.02 to 2.00)`.
fn quotient(quotients: &Quotients) -> String {
    match (quotients.mean(), quotients.range()) {
        (Some(mean), Some((least, most))) => format!("{mean:.2} ({least:.2} to {most:.2})"),
        _ => "-".to_owned(),
    }
}

/// What the axes were, and how many points they make.
pub fn counts(points: &[Point]) -> String {
    let distinct = |of: &dyn Fn(&Point) -> String| {
        points.iter().map(of).collect::<std::collections::BTreeSet<_>>().len()
    };
    let counted = |count: usize, noun: &str| verdict::counted(count as u64, noun);
    let mut parts = vec![
        counted(distinct(&|point| point.model.clone()), "model"),
        counted(distinct(&|point| point.device.clone()), "device"),
        counted(
            distinct(&|point| match point.share {
                Some(share) => share.to_string(),
                None => point.vram.to_string(),
            }),
            "budget",
        ),
    ];
    for (count, noun) in [
        (distinct(&|point| point.size.map_or(String::new(), |size| size.to_string())), "size"),
        (
            distinct(&|point| {
                point.rank.as_ref().map_or(String::new(), |rank| rank.of.to_string())
            }),
            "number of ranks",
        ),
    ] {
        if count > 1 {
            parts.push(if noun == "size" {
                counted(count, noun)
            } else {
                format!("{count} numbers of ranks")
            });
        }
    }
    format!(
        "{}: {}; steady times per pass, estimated",
        counted(points.len(), "point"),
        parts.join(", ")
    )
}

/// The sentences that head both texts.
fn findings(points: &[Point], summary: &Summary) -> Vec<String> {
    let mut lines = vec![counts(points)];
    for gaps in &summary.gaps {
        let at = gaps.at;
        let budget = match at.share {
            Some(share) => format!("{} of weights", share.0.percent()),
            None => at.vram.human(),
        };
        lines.push(format!(
            "our plans, unit {}: {} above the bound on average, at most {} ({} on {}, {budget})",
            gaps.unit,
            per_cent(gaps.mean),
            per_cent(gaps.most.ppm()),
            at.model,
            at.device,
        ));
    }
    let quotients = [
        ("best peer ÷ our plan of blocks", &summary.over_blocks),
        ("best peer ÷ our plan of its unit", &summary.over_own_unit),
        ("what engines ship, where it fits, ÷ our plan of the same unit", &summary.shipped),
    ];
    for (what, quotients) in quotients {
        lines.push(format!("{what}: geometric mean {}", quotient(quotients)));
    }
    lines
}

/// The summary on a screen.
pub fn summary(points: &[Point], summary: &Summary) -> String {
    let mut text = String::new();
    for line in findings(points, summary) {
        for part in verdict::wrapped(&line) {
            let _ = writeln!(text, "{part}");
        }
    }
    let _ = writeln!(
        text,
        "\n  {:<24}{:>6}{:>6} {:>24} {:>24}",
        "policy", "unit", "fits", "best ÷ ours", "shipped ÷ ours"
    );
    for Total { policy, unit, fits, best, shipped } in &summary.totals {
        let (best, shipped) = (quotient(best), quotient(shipped));
        let _ = writeln!(text, "  {policy:<24}{unit:>6}{fits:>6} {best:>24} {shipped:>24}");
    }
    text.push_str(
        "\n  geometric means over the points where it fits, least and largest in brackets\n",
    );
    text
}

/// The summary and every point as Markdown.
pub fn markdown(axes: &Axes, policies: &[Policy], points: &[Point], summary: &Summary) -> String {
    let mut text = String::from("# Policies over models, devices and budgets\n\n");
    for line in findings(points, summary) {
        let _ = writeln!(text, "- {line}");
    }
    let command = command(axes, policies);
    let _ = writeln!(
        text,
        "\nMade by `{command} --summary FILE.md`; with `-o FILE.csv` it has every figure.\n"
    );
    text.push_str("The bound is for schedules that hold a policy's unit while it computes. A policy is at the best of its settings\nthat fits, and beside it at what its engine ships, where that fits.\n\n");
    text.push_str("| policy | unit | fits | best ÷ ours (least to largest) | shipped ÷ ours |\n|---|---|---:|---|---|\n");
    for Total { policy, unit, fits, best, shipped } in &summary.totals {
        let (best, shipped) = (quotient(best), quotient(shipped));
        let _ = writeln!(text, "| {policy} | {unit} | {fits} | {best} | {shipped} |");
    }
    text.push_str("\n| model | device | budget | bound | ours | gap | best peer | ÷ ours |\n|---|---|---:|---:|---:|---:|---|---:|\n");
    for point in points {
        let ours = point.ours(Unit::Block);
        let mut over = Quotients::default();
        let peer = point.best_peer();
        over.add(peer.and_then(|peer| peer.best), ours.and_then(|ours| ours.best));
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} | {} | {} |",
            model_of(point),
            device_of(point),
            point.share.map_or(point.vram.human(), |share| share.0.percent()),
            shown(point.bound.filter(|_| ours.is_some_and(|ours| ours.best.is_some()))),
            shown(ours.and_then(|ours| ours.best)),
            ours.and_then(Cell::gap).map_or("-".to_owned(), |gap| per_cent(gap.ppm())),
            peer.map_or("-".to_owned(), named),
            over.mean().map_or("-".to_owned(), |mean| format!("{mean:.3}")),
        );
    }
    text
}

fn named(cell: &Cell) -> String {
    let parameters = cell.detail.as_ref().map_or("", |detail| detail.parameters.as_str());
    format!("{} {parameters}", cell.policy)
}

fn model_of(point: &Point) -> String {
    match point.size {
        Some(size) => format!("{} {size}", point.model),
        None => point.model.clone(),
    }
}

fn device_of(point: &Point) -> String {
    match &point.rank {
        Some(rank) => format!("{} × {} {}", rank.of, point.device, rank.shard),
        None => point.device.clone(),
    }
}

/// The command that makes the same points, without its outputs.
fn command(axes: &Axes, policies: &[Policy]) -> String {
    let mut parts = vec!["vramplan sweep".to_owned()];
    parts.extend(axes.models.iter().cloned());
    parts.push(format!("--device {}", axes.device.join(",")));
    let list = |flag: &str, values: Vec<String>| match values.is_empty() {
        true => None,
        false => Some(format!("--{flag} {}", values.join(","))),
    };
    parts.extend(list("vram", axes.vram.iter().map(|budgets| budgets.to_string()).collect()));
    parts.extend(list("weights", axes.weights.iter().map(ToString::to_string).collect()));
    parts.extend(list("size", axes.size.iter().map(Size::to_string).collect()));
    parts.extend(list("ranks", axes.ranks.iter().map(u32::to_string).collect()));
    parts.extend(axes.shard.iter().map(|kind| format!("--shard {kind}")));
    parts.extend(axes.link.iter().map(|link| format!("--link {link}")));
    parts.extend(axes.selection.flags());
    if policies.len() < Policy::all().len() {
        let names = policies.iter().map(|policy| policy.name).filter(|name| !is_ours(name));
        parts.extend(list("policies", names.map(str::to_owned).collect()));
    }
    parts.join(" ")
}

/// What heads a frontier: the model, the device, and which rank it is.
pub fn heading(points: &[Point], device: &str, h2d: Option<Rate>) -> String {
    let Some(point) = points.first() else { return String::new() };
    let model = model_of(point);
    let mut text = format!("{model} on {device}; steady time per pass, estimated\n");
    if let (Some(rank), Some(rate)) = (&point.rank, h2d) {
        let line = format!("{}; copies at {} per rank while all copy", rank.named(), rate.human());
        let _ = writeln!(text, "{line}");
    }
    text.push('\n');
    text
}
