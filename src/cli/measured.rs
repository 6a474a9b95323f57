//! Turns the settings that `compare` found into runs on a GPU: one table of predicted against measured times, and one
//! digest, since every policy computes on the same bytes.

use std::fmt::Write as _;
use std::path::Path;
use std::rc::Rc;

use serde_json::{Value, json};

use super::compare::{self, Row};
use super::cuda::{self, GpuArgs, Source};
use super::{Terminal, check, files, plan as plans};
use crate::backend::cuda::{Gpu, Verify};
use crate::error::{Error, Result};
use crate::figures::Origin;
use crate::plan::{Plan, Request};
use crate::profile::{self, Profile};
use crate::units::{Bytes, Nanos};

/// How our own plan is called in the table, and in [`Row`]s.
const OURS: (&str, &str) = ("ours", "hybrid");

/// A policy that was run.
struct Run {
    policy: String,
    parameters: String,
    predicted: Nanos,
    measured: Option<Figures>,
    /// Why it did not run to its end.
    failed: Option<Error>,
}

/// What a run on the GPU gave.
struct Figures {
    pass: Nanos,
    used: Bytes,
    allocated: Bytes,
    digest: Option<String>,
}

/// Executes our plan and every policy's best setting, prints one table; fails where digests differ or a run failed.
pub fn measure(
    args: &GpuArgs,
    model: &str,
    (request, rows): (&Request, &[Row]),
    folder: Option<&Path>,
    terminal: &mut Terminal,
) -> Result<()> {
    let gpu = cuda::open(args, &request.device, terminal)?;
    let tensors = Some((&request.manifest, &request.workload));
    let source = Source { model: Some(model), tensors, seed: 0 };
    let bench = Bench { args, gpu: &gpu, source, folder };
    let ours = plans::refusing(request.plan(), terminal)?;
    let mut runs = vec![bench.run(OURS.0, String::new(), &ours, terminal)?];
    for row in rows.iter().filter(|row| row.policy.spec().name != OURS.1) {
        let Some(best) = &row.best else { continue };
        let components = best.iter().map(|setting| setting.plan.clone()).collect();
        let plan = request.assemble(components)?;
        let parameters = compare::parameters(best);
        runs.push(bench.run(row.policy.name, parameters, &plan, terminal)?);
    }
    let answer = answer(&runs, rows, &gpu);
    let text = text(&runs, request, &gpu);
    if let Some(folder) = folder {
        let json = serde_json::to_vec_pretty(&answer)
            .map_err(|error| Error::Internal(format!("cannot write JSON: {error}")))?;
        files::write_file(&folder.join("compare.json"), &json)?;
        files::write_file(&folder.join("compare.md"), markdown(&runs, request, &gpu).as_bytes())?;
    }
    terminal.answer(&answer, &text)?;
    verdict(runs)
}

struct Bench<'a> {
    args: &'a GpuArgs,
    gpu: &'a Rc<Gpu>,
    source: Source<'a>,
    folder: Option<&'a Path>,
}

impl Bench<'_> {
    /// Runs one plan. The last pass has its bytes compared, the others run undisturbed.
    fn run(
        &self,
        policy: &str,
        parameters: String,
        plan: &Plan,
        terminal: &mut Terminal,
    ) -> Result<Run> {
        let predicted = compare::pass_of(plan);
        let mut run =
            Run { policy: policy.to_owned(), parameters, predicted, measured: None, failed: None };
        let (program, _) = check::verified(&format!("the plan of {policy}"), plan)?;
        let of = (plan, &program);
        match cuda::execute_on(self.args, self.gpu, of, &self.source, Verify::Last, terminal) {
            Ok((profile, outcome)) => {
                self.keep(policy, &profile)?;
                run.measured = figures(&profile).filter(|_| outcome.is_ok());
                run.failed = outcome.err();
            }
            Err(error) => run.failed = Some(error),
        }
        if let Some(error) = &run.failed {
            terminal.warn(&format!("{policy}: {error}"));
        }
        Ok(run)
    }

    fn keep(&self, policy: &str, profile: &Profile) -> Result<()> {
        let Some(folder) = self.folder else { return Ok(()) };
        files::write_file(&folder.join(format!("{policy}.json.gz")), &profile::write_gz(profile)?)
    }
}

fn figures(profile: &Profile) -> Option<Figures> {
    let measured = profile.header.measured.as_ref()?;
    // Without the last pass, which verification slows down, where others are left.
    let mut undisturbed = measured.clone();
    for passes in &mut undisturbed.passes {
        if passes.len() > 2 {
            passes.pop();
        }
    }
    Some(Figures {
        pass: undisturbed.steady()?,
        used: measured.driver_used(),
        allocated: measured.allocated,
        digest: measured.digest.clone(),
    })
}

impl Run {
    fn digest(&self) -> Option<&str> {
        self.measured.as_ref()?.digest.as_deref()
    }

    /// By how much the measured pass is off the predicted one.
    fn off(&self) -> String {
        let Some(figures) = &self.measured else { return "-".to_owned() };
        signed(figures.pass, self.predicted)
    }
}

/// `+0.3 %`: a time against another one.
fn signed(time: Nanos, base: Nanos) -> String {
    let (sign, difference) = match time.checked_sub(base) {
        Some(more) => ('+', more),
        None => ('-', base.saturating_sub(time)),
    };
    let tenths = u128::from(difference.get()) * 2_000 / u128::from(base.get().max(1));
    let tenths = tenths.div_ceil(2);
    format!("{sign}{}.{} %", tenths / 10, tenths % 10)
}

/// What kind of times the runs gave.
fn origin(gpu: &Gpu) -> Origin {
    if gpu.is_stand_in() { Origin::Simulated } else { Origin::Measured }
}

/// A digest's end: enough to see that it is another one.
fn short(digest: &str) -> &str {
    digest.get(digest.len().saturating_sub(8)..).unwrap_or(digest)
}

fn answer(runs: &[Run], rows: &[Row], gpu: &Gpu) -> Value {
    let each = |run: &Run| {
        let figures = run.measured.as_ref();
        json!({
            "policy": run.policy,
            "parameters": run.parameters,
            "predicted_pass_ns": run.predicted.get(),
            "measured_pass_ns": figures.map(|figures| figures.pass.get()),
            "driver_peak_bytes": figures.map(|figures| figures.used.get()),
            "allocated_bytes": figures.map(|figures| figures.allocated.get()),
            "digest": run.digest(),
            "failed": run.failed.as_ref().map(ToString::to_string),
        })
    };
    let mut answer = compare::answer(rows);
    answer["device"] = json!(gpu.name());
    answer["measured_origin"] = json!(origin(gpu));
    answer["measured"] = runs.iter().map(each).collect();
    answer
}

fn cells(run: &Run) -> [String; 5] {
    let figures = run.measured.as_ref();
    [
        run.predicted.human(),
        figures.map_or("failed".to_owned(), |figures| figures.pass.human()),
        run.off(),
        figures.map_or("-".to_owned(), |figures| figures.used.human()),
        run.digest().map_or("-", short).to_owned(),
    ]
}

fn title(request: &Request, gpu: &Gpu) -> String {
    let (model, vram) = (&request.manifest.model, request.vram.human());
    format!("{model} on {} with {vram} of VRAM", gpu.name())
}

fn text(runs: &[Run], request: &Request, gpu: &Gpu) -> String {
    let mut text = title(request, gpu);
    let _ = writeln!(
        text,
        "\nsteady pass: predicted by the plan, and {} on the GPU\n\n  {:<22}{:>10}{:>10}{:>9}{:>11}{:>10}",
        origin(gpu),
        "policy",
        "predicted",
        "measured",
        "off",
        "VRAM used",
        "digest"
    );
    for run in runs {
        let [predicted, measured, off, used, digest] = cells(run);
        let policy = &run.policy;
        let _ = writeln!(
            text,
            "  {policy:<22}{predicted:>10}{measured:>10}{off:>9}{used:>11}{digest:>10}"
        );
    }
    text.push_str("\n  VRAM used: what the driver counted more than before the run\n");
    if let Some(digest) = common(runs) {
        let _ = writeln!(text, "  every run computed on the same bytes: {digest}");
    }
    text
}

fn markdown(runs: &[Run], request: &Request, gpu: &Gpu) -> String {
    let mut text = format!("# {}\n\n", title(request, gpu));
    let origin = origin(gpu);
    let _ = writeln!(
        text,
        "| policy | setting | predicted pass | pass ({origin}) | off | VRAM used, by the driver | digest |\n\
         |---|---|---:|---:|---:|---:|---|"
    );
    for run in runs {
        let [predicted, measured, off, used, digest] = cells(run);
        let (policy, setting) = (&run.policy, run.parameters.replace('|', "\\|"));
        let _ = writeln!(
            text,
            "| {policy} | {setting} | {predicted} | {measured} | {off} | {used} | {digest} |"
        );
    }
    text
}

/// The digest of all runs, where they have one and the same.
fn common(runs: &[Run]) -> Option<&str> {
    let first = runs.first()?.digest()?;
    runs.iter().all(|run| run.digest() == Some(first)).then_some(first)
}

/// Every policy must have run, and on the same bytes.
fn verdict(runs: Vec<Run>) -> Result<()> {
    let seen = runs.iter().filter_map(|run| Some((run.policy.as_str(), run.digest()?)));
    let seen: Vec<(&str, &str)> = seen.collect();
    if let Some((_, first)) = seen.first()
        && let Some((policy, other)) = seen.iter().find(|(_, digest)| digest != first)
    {
        let message = format!("{policy} computed on other bytes: {other}, expected {first}");
        return Err(Error::Run(message));
    }
    let all = runs.len();
    let mut failed = runs.into_iter().filter(|run| run.failed.is_some());
    let Some(Run { policy, failed: Some(error), .. }) = failed.next() else { return Ok(()) };
    match failed.count() + 1 {
        1 => Err(Error::Run(format!("{policy}, one of {all}: {error}"))),
        count => Err(Error::Run(format!("{count} of {all}, {policy} first: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(policy: &str, digest: Option<&str>, failed: Option<Error>) -> Run {
        let figures = |digest: &str| Figures {
            pass: Nanos::new(1_003_000),
            used: Bytes::new(1 << 30),
            allocated: Bytes::new(1 << 30),
            digest: Some(digest.to_owned()),
        };
        Run {
            policy: policy.to_owned(),
            parameters: String::new(),
            predicted: Nanos::new(1_000_000),
            measured: digest.map(figures),
            failed,
        }
    }

    #[test]
    fn one_digest_and_no_failure_is_demanded() {
        assert!(verdict(vec![run("ours", Some("a"), None), run("sync", Some("a"), None)]).is_ok());
        let other = verdict(vec![run("ours", Some("a"), None), run("sync", Some("b"), None)]);
        let other = other.expect_err("another digest");
        assert_eq!(other.exit_code(), 6);
        assert_eq!(other.to_string(), "run failed: sync computed on other bytes: b, expected a");
        let failed = Some(Error::Run("no memory".to_owned()));
        let failed = verdict(vec![run("ours", Some("a"), None), run("sync", None, failed)]);
        let text = failed.expect_err("a failure").to_string();
        assert_eq!(text, "run failed: sync, one of 2: run failed: no memory");
    }

    #[test]
    fn times_are_compared_with_their_sign() {
        assert_eq!(run("ours", Some("a"), None).off(), "+0.3 %");
        assert_eq!(signed(Nanos::new(985), Nanos::new(1_000)), "-1.5 %");
        assert_eq!(run("ours", None, None).off(), "-");
    }
}
