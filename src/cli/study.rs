//! The `study` command: plan, check, run, compare, sweep and report in one go.

use std::fmt::Write as _;
use std::path::PathBuf;

use serde_json::json;

use super::boundaries::Boundaries;
use super::compare::{self, Row, Settings, bound_of, pass_of};
use super::inputs::RequestArgs;
use super::sweep::{self, Point};
use super::{Format, Terminal, check, files, plan as plan_command, run as run_command, verdict};
use crate::backend::sim::Sim;
use crate::error::{Error, Result};
use crate::plan::{Plan, Policy, Request, Unit};
use crate::profile;
use crate::report::{self, BoundPoint, BoundaryRow, Extras, PolicyRow, SweepRow};
use crate::units::{Bytes, Nanos};

/// Budgets that the sweep of a study has.
const BUDGETS: u64 = 24;

/// Plan, check, run, compare, sweep and report in one go.
///
/// Ends with a one-screen verdict: what fits, what to set, what it costs, the bound, the gap. Writes the plan, the
/// profile, the figures and a report that opens in a browser.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  vramplan study flux1-dev --device rtx-4090 --vram 12GiB")]
pub struct Args {
    #[command(flatten)]
    request: RequestArgs,
    /// VRAM to plan for: a size such as 12GiB, or a share of the card such as 90%.
    #[arg(long, value_name = "SIZE")]
    vram: String,
    /// The folder for everything; MODEL-DEVICE-VRAM by default.
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,
}

pub fn run(args: &Args, terminal: &mut Terminal) -> Result<()> {
    let (_, request) = args.request.load_under(&args.vram, terminal)?;
    let plan = plan_command::plan_or_refuse(&request, terminal)?;
    let (program, proof) = check::verified("the plan just made", &plan)?;
    let (profile, outcome) = run_command::simulate(&plan, &program, Sim::on(&plan.device))?;
    outcome?;
    // The study is about blocks, as engines run them; `compare` has our plans of finer units, too.
    let policies = Policy::all().into_iter().filter(|policy| {
        let spec = policy.spec();
        spec.unit() == Unit::Block || !spec.engine.is_empty()
    });
    let policies: Vec<Policy> = policies.collect();
    let whole = super::inputs::of_whole_passes(request.clone(), terminal);
    let settings = Settings::of(&policies, &compare::inputs(&whole)?)?;
    let rows = compare::rows(&whole, &policies, &settings)?;
    let budgets = budgets(&whole)?;
    let progress = terminal.progress(budgets.len() as u64, "planning budgets");
    let names = (args.request.model.as_str(), args.request.device.as_str());
    let points = sweep::along(names, &whole, &policies, &budgets, &progress)?;
    let yaml = plan.to_yaml()?;
    let boundaries = match plan.pipeline {
        Some(_) if plan.components.len() > 1 => Boundaries::of(&whole, &rows)?.rows(),
        _ => Vec::new(),
    };
    let extras = extras(&plan, &rows, &policies, &points, yaml.clone(), boundaries);

    let folder = args.output.clone().unwrap_or_else(|| folder_of(args, request.vram));
    let mut outputs = vec![
        ("plan.yaml".to_owned(), yaml.into_bytes()),
        ("profile.json.gz".to_owned(), profile::write_gz(&profile)?),
        ("sweep.csv".to_owned(), sweep::csv(&points)?),
    ];
    let artifacts = report::render_with(std::slice::from_ref(&profile), &extras)?;
    outputs.extend(artifacts.into_iter().map(|artifact| (artifact.name, artifact.bytes)));
    for (name, bytes) in &outputs {
        files::write_file(&folder.join(name), bytes)?;
    }

    let mut text = verdict::plan(&plan, &request)?;
    let ran = (proof.operations, profile::summary(&profile).makespan);
    add_rest(&mut text, &plan, &rows, &points, ran, &folder);
    let mut answer = plan_command::answer(&plan, &request)?;
    if let Some(answer) = answer.as_object_mut() {
        answer.insert("checked_operations".into(), json!(proof.operations));
        answer.insert("run".into(), json!(profile::summary(&profile)));
        answer.insert("compare".into(), compare::answer(&rows));
        answer.insert("sweep".into(), sweep::answer(&points));
        answer.insert("folder".into(), json!(folder.display().to_string()));
        let names: Vec<&String> = outputs.iter().map(|(name, _)| name).collect();
        answer.insert("files".into(), json!(names));
    }
    match terminal.format() {
        Format::Json => terminal.answer(&answer, ""),
        Format::Text => terminal.raw(text.as_bytes()),
    }
}

/// Budgets around the question: from the smallest that works to where everything fits.
fn budgets(request: &Request) -> Result<Vec<Bytes>> {
    let reserve = request.workload.reserve.total();
    let least = match (Request { vram: reserve, ..request.clone() }).prepare() {
        Err(Error::Infeasible(answer)) => answer.smallest_budget,
        Err(error) => return Err(error),
        Ok(_) => reserve,
    };
    let whole = request.prepare()?.iter().map(|prepared| prepared.total).max().unwrap_or_default();
    let most = whole.saturating_add(request.workload.reserve.total()).max(request.vram);
    // A round step that gives about so many budgets, each a multiple of it, so that figures are easy to read.
    let span = most.saturating_sub(least).get();
    let step = [1u64, 2, 4, 8].map(|n| n << 28).into_iter().find(|step| span / step < BUDGETS);
    let step = step.unwrap_or((span / BUDGETS).next_multiple_of(1 << 30).max(1 << 30));
    let first = least.get().next_multiple_of(step);
    let mut budgets: Vec<Bytes> = (0..)
        .map(|n| Bytes::new(first + n * step))
        .take_while(|&b| b.get() < most.get() + step)
        .collect();
    budgets.push(request.vram);
    budgets.sort_unstable();
    budgets.dedup();
    Ok(budgets)
}

fn folder_of(args: &Args, vram: Bytes) -> PathBuf {
    let stem = |name: &str| {
        let name =
            std::path::Path::new(name).file_stem().map(|stem| stem.to_string_lossy().into_owned());
        name.unwrap_or_else(|| "model".to_owned())
    };
    let (model, device) = (stem(&args.request.model), stem(&args.request.device));
    PathBuf::from(format!("{model}-{device}-{}", vram.human().replace(".0 ", "").replace(' ', "")))
}

fn extras(
    plan: &Plan,
    rows: &[Row],
    policies: &[Policy],
    points: &[Point],
    plan_yaml: String,
    boundaries: Vec<BoundaryRow>,
) -> Extras {
    let policy_rows = rows.iter().filter_map(|row| {
        let settings = row.best.as_deref()?;
        Some(PolicyRow {
            policy: row.policy.name.to_owned(),
            parameters: compare::parameters(settings),
            pass: row.pass()?,
            peak: compare::peak(settings),
            bytes_per_pass: compare::bytes_per_pass(settings),
            fits: true,
        })
    });
    let charted = charted(rows);
    let mut policy_rows: Vec<PolicyRow> = policy_rows.collect();
    policy_rows.sort_by_key(|row| (row.policy != "hybrid", row.pass));
    let sweep_rows = points.iter().flat_map(|point| {
        let passes = policies.iter().zip(&point.cells).zip(&charted).filter(|(_, shown)| **shown);
        passes.map(|((policy, cell), _)| SweepRow {
            policy: policy.name.to_owned(),
            vram: point.vram,
            pass: cell.best,
        })
    });
    let bounds = points
        .iter()
        .filter_map(|point| point.bound.map(|pass| BoundPoint { vram: point.vram, pass }));
    Extras {
        verdict: Vec::new(),
        policies: policy_rows,
        sweep: sweep_rows.collect(),
        chosen: Some("hybrid".to_owned()),
        boundaries,
        bound: Some(bound_of(plan)),
        bounds: bounds.collect(),
        origin: None,
        plan_yaml: Some(plan_yaml),
        planned: None,
    }
}

/// By row: whether it has a line in the chart of the sweep. Ours, and of every engine its best at this budget,
/// unless that takes more than twice as long as ours: the lines below would be one. `sweep.csv` has all.
fn charted(rows: &[Row]) -> Vec<bool> {
    let ours = rows.first().and_then(Row::pass).unwrap_or_default();
    let is_best = |row: &Row| {
        let engine = row.policy.spec().engine;
        let rivals = rows.iter().filter(|rival| rival.policy.spec().engine == engine);
        let best = rivals.filter_map(|rival| Some((rival.pass()?, rival.policy.name))).min();
        let near =
            |(pass, name): (Nanos, &str)| name == row.policy.name && pass <= ours.saturating_mul(2);
        !engine.is_empty() && best.is_some_and(near)
    };
    rows.iter().enumerate().map(|(n, row)| n == 0 || is_best(row)).collect()
}

/// From which budget on a steady pass costs nothing more than with everything resident.
fn more(plan: &Plan, points: &[Point]) -> String {
    let compute = plan.components.iter().map(|c| c.bound.compute).sum::<Nanos>();
    // One part in a thousand is below what any of the estimates can tell apart.
    let free = |point: &&Point| {
        let pass = point.cells.first().and_then(|cell| cell.best);
        pass.is_some_and(|pass| pass.get() <= compute.get() + compute.get() / 1_000)
    };
    let all = points.iter().find(|point| point.everything_fits).map(|point| point.vram.human());
    let free = points.iter().find(free).map(|point| point.vram.human());
    match (free, all) {
        (Some(free), Some(all)) if free != all => format!(
            "of the budgets tried, from {free} on a steady pass takes no longer than with everything \
             resident, which needs {all}"
        ),
        (_, Some(all)) => {
            format!(
                "of the budgets tried, only from {all} on, with everything resident, is it free"
            )
        }
        _ => "no budget tried is free of cost".to_owned(),
    }
}

/// How the best of the others compares.
fn others(plan: &Plan, rows: &[Row]) -> Option<String> {
    let ours = pass_of(plan);
    // Of engines that run such a model; of the others only the rule could be had.
    let others = rows.iter().filter(|row| row.policy.name != "hybrid" && row.serves);
    let others = others.filter_map(|row| Some((row.policy.name, row.pass()?)));
    let (name, pass) = others.min_by_key(|&(_, pass)| pass)?;
    let of = if plan.components.len() > 1 { " for one pass of each component" } else { "" };
    // One part in two thousand is below what any of the estimates can tell apart.
    if pass.get() <= ours.get() + ours.get() / 2_000 {
        return Some(format!("{name} is as fast at this budget: {}{of}", pass.human()));
    }
    let slower = verdict::slower(pass, ours);
    let pass = pass.human();
    let flags = "`compare` prints its flags";
    Some(format!("next best at this budget: {name}, {pass} ({slower}){of}; {flags}"))
}

/// What the plan alone does not say: the other policies, what more memory buys, where the files are.
fn add_rest(
    text: &mut String,
    plan: &Plan,
    rows: &[Row],
    points: &[Point],
    (operations, ran): (u64, Nanos),
    folder: &std::path::Path,
) {
    if let Some(others) = others(plan, rows) {
        verdict::write_line(text, &("others", others));
    }
    verdict::write_line(text, &("more", more(plan, points)));
    let told = match &plan.pipeline {
        Some(together) => together.makespan,
        None => plan.components.iter().map(|component| component.prediction.makespan).sum(),
    };
    let as_predicted = match ran == told {
        true => "is as predicted".to_owned(),
        false => format!("takes {}, where {} is predicted", ran.human(), told.human()),
    };
    let checked = format!(
        "{operations} operations are safe by their order alone; the simulated run {as_predicted}"
    );
    verdict::write_line(text, &("checked", checked));
    let _ = writeln!(text, "  files    {}/report.html opens in a browser", folder.display());
}
