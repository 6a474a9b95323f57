//! The `compare` command: every policy at its best setting under one budget, against our plan and the bound.

use std::fmt::Write as _;
use std::path::PathBuf;

use rayon::prelude::*;
use serde_json::{Value, json};

use super::boundaries::Boundaries;
use super::cuda::GpuArgs;
use super::inputs::RequestArgs;
use super::run::BackendArg;
use super::{Terminal, measured, verdict};
use crate::error::{Error, Result};
use crate::model::Component;
use crate::plan::bound::Bounds;
use crate::plan::{ComponentInput, Explored, Plan, Policy, Request, Serves, Setting, Unit};
use crate::units::{Bytes, Fraction, Nanos};
use crate::workload::{self, Role};

/// Compare policies under the same budget.
///
/// Every policy gets the best of its settings that fits, found by exact evaluation, and beside it what its engine
/// ships. Parameters can be given, name:key=value:key=value, and name:default is what ships; several policies are
/// separated by commas. `vramplan policies` lists them. Pass times are exact for the estimated compute times.
///
/// With --backend cuda every one of them, and our plan, is executed on the GPU: predicted beside measured times, and
/// a digest of every byte that was used, which must be the same for all.
#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  vramplan compare flux1-dev --device rtx-4090 --vram 12GiB --policies hybrid,sglang-strided,musubi-ring:b=2\n  vramplan compare flux1-dev --device rtx-4090 --vram 12GiB --best-for sglang\n  vramplan compare flux1-dev --device my-gpu.yaml --vram 12GiB --passes 8 --backend cuda -o compared"
)]
pub struct Args {
    #[command(flatten)]
    request: RequestArgs,
    /// VRAM to plan for: a size such as 12GiB, or a share of the card such as 90%.
    #[arg(long, value_name = "SIZE")]
    vram: String,
    /// Policies, separated by commas; all of them by default.
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    policies: Vec<String>,
    /// Only this engine's policies, its best setting and flags first: sglang, diffusers, musubi, …
    #[arg(long, value_name = "ENGINE", conflicts_with = "policies")]
    best_for: Option<String>,
    /// What times come from: the plans' own predictions, or runs on a GPU.
    #[arg(long, value_enum, default_value_t = BackendArg::Sim)]
    backend: BackendArg,
    /// Where to keep the measured table and a profile of every run.
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,
    #[command(flatten)]
    on: GpuArgs,
}

/// One policy under one budget: a setting per component.
pub struct Row {
    /// The policy.
    pub policy: Policy,
    /// Its best setting that fits.
    pub best: Option<Vec<Setting>>,
    /// What its engine ships.
    pub shipped: Option<Vec<Setting>>,
    /// The smallest budget that one of its settings fits; none for the planner's own.
    pub smallest: Option<Bytes>,
    /// The least host memory that one of its settings takes, of those that VRAM has room for.
    pub least_host: Option<Bytes>,
    /// Whether the host has that much, though not all of it may be locked.
    pub locks_too_much: bool,
    /// What no schedule takes less than that holds one of the policy's units while it computes.
    pub bound: Nanos,
    /// Whether the policy's engine runs such a model at all.
    pub serves: bool,
}

pub fn run(args: &Args, terminal: &mut Terminal) -> Result<()> {
    let policies = match &args.best_for {
        Some(engine) => Policy::of_engine(engine)?,
        None => policies(&args.policies)?,
    };
    let given = args.on.given().or(args.output.as_ref().map(|_| "-o"));
    if let (BackendArg::Sim, Some(option)) = (args.backend, given) {
        return Err(Error::usage(format!("{option} is for --backend cuda")));
    }
    let (_, request) = args.request.load_under(&args.vram, terminal)?;
    let request = super::inputs::of_whole_passes(request, terminal);
    if request.generations > 1 {
        terminal.warn("--generations: what is compared is one generation from an empty slab");
    }
    let rows = super::plan::refusing(all(&request, &policies), terminal)?;
    if args.backend == BackendArg::Cuda {
        let folder = args.output.as_deref();
        return measured::measure(
            &args.on,
            &args.request.model,
            (&request, &rows),
            folder,
            terminal,
        );
    }
    let mut text = match &args.best_for {
        Some(engine) => best_for(engine, &rows) + &text(&request, &rows),
        None => text(&request, &rows),
    };
    let mut answer = answer(&rows);
    if request.components.len() > 1 && request.host.is_none() {
        let boundaries = super::plan::refusing(Boundaries::of(&request, &rows), terminal)?;
        text.push_str(&boundaries.text());
        answer["pipeline"] = boundaries.answer();
    }
    terminal.answer(&answer, &text)
}

/// Settings and rows of policies under one budget.
fn all(request: &Request, policies: &[Policy]) -> Result<Vec<Row>> {
    let settings = Settings::of(policies, &inputs(request)?)?;
    rows(request, policies, &settings)
}

/// The policies named, or all.
pub fn policies(names: &[String]) -> Result<Vec<Policy>> {
    if names.is_empty() {
        return Ok(Policy::all());
    }
    names.iter().map(|name| Policy::parse(name)).collect()
}

/// The components to plan under a budget.
pub fn inputs(request: &Request) -> Result<Vec<ComponentInput>> {
    Ok(request.prepare()?.into_iter().map(|prepared| prepared.input).collect())
}

/// Plans by each policy under one budget; `settings` are those of the same policies for the same components.
pub fn rows(request: &Request, policies: &[Policy], settings: &Settings) -> Result<Vec<Row>> {
    let serves = policies.iter().map(|policy| serves(policy.spec().serves(), request));
    rows_of(&inputs(request)?, policies, settings, &serves.collect::<Vec<_>>())
}

/// The same for components at hand; `serves` says by policy whether its engine runs such a model.
pub fn rows_of(
    inputs: &[ComponentInput],
    policies: &[Policy],
    settings: &Settings,
    serves: &[bool],
) -> Result<Vec<Row>> {
    let of_unit = |unit: Unit| -> Vec<Bounds> {
        let used = policies.iter().any(|policy| policy.spec().unit() == unit);
        let inputs = inputs.iter().filter(|_| used);
        inputs.map(|input| input.at(unit).bounds()).collect()
    };
    let by_unit = Unit::ALL.map(|unit| (unit, of_unit(unit)));
    let row = |(n, policy): (usize, &Policy)| {
        let mut shipped = Some(Vec::new());
        let (mut smallest, mut least_host) = (Some(Bytes::ZERO), Some(Bytes::ZERO));
        let own = by_unit.iter().find(|(unit, _)| *unit == policy.spec().unit());
        let bounds = own.map(|(_, bounds)| &bounds[..]).unwrap_or_default();
        for ((explored, input), bounds) in settings.by_policy[n].iter().zip(inputs).zip(bounds) {
            collect(&mut shipped, explored.shipped(input, bounds)?);
            let least = explored.smallest().map(|slab| slab.saturating_add(input.reserve));
            smallest = smallest.zip(least).map(|(known, least)| known.max(least));
            let on_host = explored.least_host(input);
            least_host = least_host.zip(on_host).map(|(sum, own)| sum.saturating_add(own));
        }
        let best = Explored::best_together(&settings.by_policy[n], inputs, bounds)?;
        let host = inputs.first().and_then(|input| input.host);
        if let (Some(host), Some(settings)) = (host, shipped.as_mut()) {
            // What an engine ships has to fit the host over all components.
            let locked: Bytes = settings.iter().map(|setting| setting.host.locked).sum();
            let fits = host_bytes(settings) <= host.bytes && locked <= host.lockable;
            settings.iter_mut().for_each(|setting| setting.fits &= fits);
        }
        let locks_too_much = host.zip(least_host).is_some_and(|(host, least)| least <= host.bytes);
        let bound = bounds.iter().map(|bounds| bounds.any_schedule).sum();
        let (policy, serves) = (policy.clone(), serves[n]);
        Ok(Row { policy, best, shipped, smallest, least_host, locks_too_much, bound, serves })
    };
    // In order, so that of several errors the same is told every time.
    let rows: Vec<Result<Row>> = policies.par_iter().enumerate().map(row).collect();
    rows.into_iter().collect()
}

/// Whether an engine that runs such models runs this one; yes where nothing is known of it.
pub fn serves(serves: Serves, request: &Request) -> bool {
    let components =
        || request.components.iter().filter_map(|name| request.manifest.component(name));
    let mut decodes = components().filter_map(workload::decodes);
    match serves {
        Serves::Classes(classes) => {
            let of_class = |component: &Component| {
                let class = component.class.as_deref().unwrap_or_default();
                classes.iter().any(|known| class.starts_with(known))
            };
            let is_main = |one: &&Component| Role::of(&request.manifest, one) == Role::Main;
            components().filter(is_main).all(of_class)
        }
        Serves::Any => true,
        Serves::LanguageModels => !decodes.any(|decodes| !decodes),
        Serves::Denoisers => !decodes.any(|decodes| decodes),
    }
}

/// The settings of policies, by policy and component; built once for all budgets.
pub struct Settings {
    by_policy: Vec<Vec<Explored>>,
}

impl Settings {
    /// Builds the settings.
    pub fn of(policies: &[Policy], inputs: &[ComponentInput]) -> Result<Self> {
        let each = |policy: &Policy| inputs.iter().map(|input| policy.explore(input)).collect();
        let explored: Vec<Result<Vec<Explored>>> = policies.par_iter().map(each).collect();
        Ok(Self { by_policy: explored.into_iter().collect::<Result<_>>()? })
    }

    /// By policy, the steady time of one pass at its best setting; none where none fits.
    pub fn best_passes(&self, inputs: &[ComponentInput]) -> Result<Vec<Option<Nanos>>> {
        let pass = |components: &Vec<Explored>| {
            let mut sum = Some(Nanos::ZERO);
            for (explored, input) in components.iter().zip(inputs) {
                let pass = explored.best_pass(input)?;
                sum = sum.zip(pass).map(|(sum, pass)| sum.saturating_add(pass));
            }
            Ok(sum)
        };
        self.by_policy.iter().map(pass).collect()
    }
}

/// One more component's setting; none as soon as one has none.
fn collect(settings: &mut Option<Vec<Setting>>, setting: Option<Setting>) {
    match (settings.as_mut(), setting) {
        (Some(known), Some(setting)) => known.push(setting),
        _ => *settings = None,
    }
}

/// Steady time of one pass over every planned component.
pub fn pass_of(plan: &Plan) -> Nanos {
    plan.components.iter().map(|component| component.prediction.pass).sum()
}

/// The bound on it for any schedule.
pub fn bound_of(plan: &Plan) -> Nanos {
    plan.components.iter().map(|component| component.bound.any_schedule).sum()
}

impl Row {
    /// Steady time of one pass at the best setting.
    pub fn pass(&self) -> Option<Nanos> {
        self.best.as_deref().map(pass)
    }

    fn reason(&self) -> Option<String> {
        let needed = self.smallest.filter(|_| self.best.is_none())?;
        if let Some(host) = self.least_host {
            let takes = host.human();
            let locked = if self.locks_too_much { ", locked" } else { "" };
            return Some(format!(
                "of the settings that VRAM has room for none fits the host; the least that one takes \
                 there is {takes}{locked}"
            ));
        }
        Some(format!("no setting fits; the smallest budget that one does is {}", needed.human()))
    }
}

/// Steady time of one pass over every component.
pub fn pass(settings: &[Setting]) -> Nanos {
    settings.iter().map(|setting| setting.plan.prediction.pass).sum()
}

/// The highest VRAM use over the components, which follow one another.
pub fn peak(settings: &[Setting]) -> Bytes {
    settings.iter().map(|setting| setting.plan.prediction.peak).max().unwrap_or_default()
}

/// Bytes copied in one steady pass of each component.
pub fn bytes_per_pass(settings: &[Setting]) -> Bytes {
    settings.iter().map(|setting| setting.plan.prediction.bytes_per_pass).sum()
}

/// Host memory that the settings take as their engine's allocator locks it, over all components.
pub fn host_bytes(settings: &[Setting]) -> Bytes {
    settings.iter().map(|setting| setting.host.bytes()).sum()
}

/// What an engine takes of the host, as JSON.
fn host(row: &Row, settings: &[Setting]) -> Value {
    let sum = |of: fn(&Setting) -> Bytes| settings.iter().map(of).sum::<Bytes>().get();
    let first = settings.first().map(|setting| setting.host);
    json!({
        "pinned_bytes": sum(|setting| setting.host.pinned),
        "locked_bytes": sum(|setting| setting.host.locked),
        "pageable_bytes": sum(|setting| setting.host.pageable),
        "disk_bytes": sum(|setting| setting.plan.prediction.disk_per_pass),
        "allocator": first.map(|host| host.allocator),
        "keeps_residents": first.map(|host| host.keeps_residents),
        "inferred": row.policy.spec().host_inferred(),
    })
}

/// The parameters, component by component.
pub fn parameters(settings: &[Setting]) -> String {
    joined(settings, settings.iter().map(|setting| setting.parameters.as_str()))
}

fn flags(settings: &[Setting]) -> Option<String> {
    let flags: Option<Vec<&str>> =
        settings.iter().map(|setting| setting.flags.as_deref()).collect();
    flags.map(|flags| joined(settings, flags.into_iter()))
}

/// What is the same for all components once, else each beside the component's name.
fn joined<'a>(settings: &[Setting], parts: impl Iterator<Item = &'a str>) -> String {
    let parts: Vec<&str> = parts.collect();
    if parts.iter().all(|part| *part == parts[0]) {
        return parts.first().copied().unwrap_or_default().to_owned();
    }
    let named = settings.iter().zip(parts);
    let named = named.map(|(setting, part)| format!("{}: {part}", setting.plan.name));
    named.collect::<Vec<_>>().join(BETWEEN)
}

/// Between what is said of one component and of the next.
const BETWEEN: &str = " | ";

/// The JSON answer.
pub fn answer(rows: &[Row]) -> Value {
    let policies: Vec<Value> = rows
        .iter()
        .map(|row| {
            let best = row.best.as_deref();
            let above = |pass: Nanos| pass.saturating_sub(row.bound).get();
            let gap = row.pass().map(|pass| Fraction::of(above(pass), row.bound.get()));
            let shipped = row.shipped.as_deref().map(|settings| {
                json!({
                    "parameters": parameters(settings),
                    "pass_ns": pass(settings).get(),
                    "peak_bytes": peak(settings).get(),
                    "bytes_per_pass": bytes_per_pass(settings).get(),
                    "fits": settings.iter().all(|setting| setting.fits),
                    "engine_flags": flags(settings),
                })
            });
            let engine = Some(row.policy.spec().engine).filter(|engine| !engine.is_empty());
            json!({
                "policy": row.policy.name,
                "engine": engine,
                "unit": row.policy.spec().unit(),
                "parameters": best.map(parameters),
                "pass_ns": row.pass().map(Nanos::get),
                "peak_bytes": best.map(|best| peak(best).get()),
                "bytes_per_pass": best.map(|best| bytes_per_pass(best).get()),
                "host": best.map(|best| host(row, best)),
                "bound_ns": row.bound.get(),
                "gap": gap,
                "fits": best.is_some(),
                "reason": row.reason(),
                "smallest_budget_bytes": row.smallest.map(Bytes::get),
                "least_host_bytes": row.least_host.map(Bytes::get),
                "engine_runs_model": row.serves,
                "uncertain": row.policy.spec().uncertain(),
                "engine_flags": best.and_then(flags).filter(|_| row.serves),
                "default": shipped,
            })
        })
        .collect();
    let of_blocks = rows.iter().find(|row| row.policy.spec().unit() == Unit::Block);
    let bound = of_blocks.map(|row| row.bound.get());
    json!({ "policies": policies, "bound_ns": bound, "origin": "estimated" })
}

/// The best setting of one engine, to be copied.
fn best_for(engine: &str, rows: &[Row]) -> String {
    let fitting = rows.iter().filter_map(|row| Some((row.pass()?, row)));
    let Some((time, row)) = fitting.min_by_key(|&(pass, _)| pass) else {
        let host = rows.iter().filter_map(|row| row.least_host).min();
        let least = rows.iter().filter_map(|row| row.smallest).min().unwrap_or_default();
        let needed = match host {
            Some(host) => format!("VRAM has room, the host needs {}", host.human()),
            None => format!("the smallest budget is {}", least.human()),
        };
        return format!("{engine}: nothing fits; {needed}\n\n");
    };
    let settings = row.best.as_deref().unwrap_or_default();
    let of = if settings.len() > 1 { "for one pass of each component" } else { "per pass" };
    let mut text = format!("{engine}: {} at {} {of}\n", row.policy.name, time.human());
    if row.serves {
        // Where components differ each has a line of its own: no engine takes them in one call.
        for line in flags(settings).unwrap_or_default().split(BETWEEN).flat_map(verdict::wrapped) {
            let _ = writeln!(text, "  {line}");
        }
    } else {
        text.push_str("  the engine does not run such a model: there is nothing to set\n");
    }
    text.push('\n');
    text
}

fn text(request: &Request, rows: &[Row]) -> String {
    let mut text = format!(
        "{} on {} with {} of VRAM\n{}{}\ntimes {}, estimated; each policy at its best setting\n\n",
        request.manifest.model,
        request.device.name,
        request.vram.human(),
        super::ranks::heading(request),
        verdict::wrapped(&super::assumed::line(request)).join("\n"),
        if request.components.len() > 1 { "of one pass of each component" } else { "per pass" },
    );
    let columns = ("pass", "to bound", "H2D", "peak", "host", "default");
    let _ = writeln!(
        text,
        "  {:<22}{:>10}{:>12}{:>10}{:>10}{:>10}{:>11}  setting",
        "policy", columns.0, columns.1, columns.2, columns.3, columns.4, columns.5
    );
    let mut sorted: Vec<&Row> = rows.iter().collect();
    sorted.sort_by_key(|row| row.pass().unwrap_or(Nanos::new(u64::MAX)));
    for row in &sorted {
        text.push_str(line(row).trim_end());
        text.push('\n');
    }
    text.push('\n');
    for unit in Unit::ALL {
        let bound = rows.iter().find(|row| row.policy.spec().unit() == unit).map(|row| row.bound);
        if let Some(bound) = bound {
            let (mark, noun, bound) = (mark(unit), unit.noun(), bound.human());
            let _ = writeln!(
                text,
                "  {mark}: no schedule that holds {noun} while it computes is faster than {bound}"
            );
        }
    }
    text.push_str("  default: what the engine ships; *: does not fit this budget\n");
    text.push_str(
        "  host: what streams, and what its engine keeps beside it, as its allocator locks it\n",
    );
    if rows.iter().any(|row| row.policy.spec().uncertain()) {
        text.push_str("  ?: inferred in part, `vramplan policies` says what\n");
    }
    if rows.iter().any(|row| !row.serves) {
        text.push_str("  †: the engine does not run such a model; its rule, applied to this one\n");
    }
    text.push('\n');
    for row in sorted {
        let flags = row.best.as_deref().and_then(flags).filter(|_| row.serves);
        for (n, part) in flags.iter().flat_map(|flags| verdict::wrapped(flags)).enumerate() {
            let name = if n == 0 { row.policy.name } else { "" };
            let _ = writeln!(text, "  {name:<22}{part}");
        }
    }
    text
}

/// What a policy's unit is, in a letter.
fn mark(unit: Unit) -> char {
    match unit {
        Unit::Block => 'b',
        Unit::Phase => 'p',
        Unit::Leaf => 'l',
    }
}

fn line(row: &Row) -> String {
    let unit = mark(row.policy.spec().unit());
    let doubt = if row.policy.spec().uncertain() { "?" } else { "" };
    let foreign = if row.serves { "" } else { "†" };
    let name = format!("{} {unit}{doubt}{foreign}", row.policy.name);
    let shipped = row.shipped.as_deref().map_or("-".to_owned(), |settings| {
        let fits = settings.iter().all(|setting| setting.fits);
        format!("{}{}", pass(settings).human(), if fits { "" } else { "*" })
    });
    let Some(settings) = row.best.as_deref() else {
        let needs = match row.least_host.filter(|_| row.smallest.is_some()) {
            Some(host) if row.locks_too_much => format!("must lock {} of host", host.human()),
            Some(host) => format!("needs {} of host", host.human()),
            None => format!("needs {}", row.smallest.unwrap_or_default().human()),
        };
        return format!("  {name:<22}{:>10}{:>12}{needs:>30}{shipped:>11}", "no", "-");
    };
    let pass = pass(settings);
    let gap = verdict::slower(pass, row.bound);
    format!(
        "  {name:<22}{:>10}{gap:>12}{:>10}{:>10}{:>10}{shipped:>11}  {}",
        pass.human(),
        bytes_per_pass(settings).human(),
        peak(settings).human(),
        host_bytes(settings).human(),
        parameters(settings),
    )
}
