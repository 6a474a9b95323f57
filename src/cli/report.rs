//! `report`: turns recorded profiles into a folder of files and a summary.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::{Terminal, check, files, run as run_command, write_file};
use crate::backend::sim::Sim;
use crate::digest::digest;
use crate::error::{Error, Problem, Result};
use crate::plan::Plan;
use crate::profile::{self, Profile};
use crate::report::{self, Answer, Change, Extras, View};
use crate::units::Fraction;

/// Turn recorded runs into an HTML page, plots, CSV and a trace.
///
/// report.html is one file that needs no network; trace.json.gz opens in ui.perfetto.dev.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  vramplan report run.json.gz -o report\n  \
                  vramplan report before.json.gz after.json.gz --fail-if-slower\n  \
                  vramplan report old.json.gz --plan plan.yaml")]
pub struct Args {
    /// Profiles (.json or .json.gz); the first is reported, the others are compared with it.
    #[arg(required = true, value_name = "PROFILE")]
    profiles: Vec<PathBuf>,
    /// Where the files go; made if missing.
    #[arg(short, long, value_name = "DIR", default_value = "report")]
    output: PathBuf,
    /// The plan of the first profile, for profiles that do not hold it themselves: what it predicts of every block and
    /// copy is compared with the run.
    #[arg(long, value_name = "PLAN")]
    plan: Option<PathBuf>,
    /// Exit with 7 when a later run's steady pass is slower than the first one's, beyond noise and 1 %.
    #[arg(long)]
    fail_if_slower: bool,
}

/// Reads every profile before writing anything, so that a bad one leaves no half report.
pub fn run(args: &Args, terminal: &mut Terminal) -> Result<()> {
    if args.fail_if_slower && args.profiles.len() < 2 {
        return Err(Error::usage(
            "--fail-if-slower needs a second profile to compare with the first",
        ));
    }
    let profiles: Vec<Profile> =
        args.profiles.iter().map(|path| read(path)).collect::<Result<_>>()?;
    let planned = planned(args, &profiles[0], terminal)?;
    let extras = Extras { planned, ..Extras::default() };
    let files = report::render_with(&profiles, &extras)?;
    for file in &files {
        write_file(&args.output.join(&file.name), &file.bytes)?;
    }
    let views: Vec<View<'_>> = profiles.iter().map(View::of).collect();
    let planned = extras.planned.as_ref().map(View::of);
    let answer =
        Answer::of(&views, planned.as_ref()).ok_or_else(|| Error::usage("no profile given"))?;
    for view in views.iter().filter(|view| !view.summary.complete) {
        terminal.warn(&format!("the run of {} was cut short", view.summary.model));
    }
    let mut text = report::screens(&views);
    if let Some(planned) = &planned {
        for line in report::predictions(&views[0], planned) {
            text.push_str(&report::wrapped(&line));
        }
    }
    text.push_str(&format!("\n{} files in {}:\n", files.len(), args.output.display()));
    text.push_str(&format!("  {}\n", args.output.join("report.html").display()));
    text.push_str(
        "  and summary.json, summary.md, trace.json.gz, plots (SVG, PNG) and their numbers (CSV)\n",
    );
    terminal.answer(&answer, &text)?;
    let unknown = answer.comparisons.iter().find(|one| one.change == Change::TooFewPasses);
    if args.fail_if_slower && (answer.comparisons.is_empty() || unknown.is_some()) {
        let why =
            unknown.map_or("the runs have no component in common".into(), |one| one.sentence());
        return Err(Error::usage(format!("--fail-if-slower cannot tell: {why}")));
    }
    let slower = answer.comparisons.iter().find(|one| one.change == Change::Slower);
    match slower.filter(|_| args.fail_if_slower) {
        Some(one) => Err(Error::Slower(one.sentence())),
        None => Ok(()),
    }
}

/// The run that the first profile's plan predicts: the plan as given or as the profile holds it, simulated without
/// jitter.
fn planned(args: &Args, main: &Profile, terminal: &mut Terminal) -> Result<Option<Profile>> {
    let (file, text) = match (&args.plan, &main.header.plan) {
        (Some(path), _) => (path.display().to_string(), files::read_text(path)?),
        (None, Some(text)) => ("the profile's plan".to_owned(), text.clone()),
        (None, None) => return Ok(None),
    };
    let mut plan = Plan::from_yaml(&file, &text)?;
    let same = |plan: &Plan| Ok::<bool, Error>(digest(&plan.to_yaml()?) == main.header.plan_digest);
    if !same(&plan)? {
        // `run --passes` runs the same plan for another number of passes.
        run_command::with_passes_of(&mut plan, main)?;
    }
    if !same(&plan)? {
        let found = format!("another plan than the profile's, {}", main.header.plan_digest);
        let expected = "the plan that ran: give it with --plan, or leave --plan out";
        return Err(Error::input(file, Problem::new("its digest", found, expected)));
    }
    let (program, _) = check::verified(&file, &plan)?;
    let sim = Sim { jitter: Fraction::default(), ..Sim::on(&plan.device) };
    let (profile, outcome) = run_command::simulate(&plan, &program, sim)?;
    match outcome {
        Ok(()) => Ok(Some(profile)),
        Err(error) => {
            terminal
                .warn(&format!("no prediction per block: the plan cannot be simulated: {error}"));
            Ok(None)
        }
    }
}

fn read(path: &Path) -> Result<Profile> {
    let name = path.display().to_string();
    let file = File::open(path).map_err(|source| Error::Read { file: name.clone(), source })?;
    profile::read(&name, file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Format;
    use crate::profile::fixture;

    fn report(folder: &Path, files: &[&str]) -> Result<()> {
        let profiles = files.iter().map(|file| folder.join(file)).collect();
        let args = Args { profiles, output: folder.join("out"), plan: None, fail_if_slower: false };
        run(&args, &mut Terminal::new(Format::Json))
    }

    #[test]
    fn plain_and_compressed_profiles_become_a_folder_of_files() {
        let folder = tempfile::tempdir().expect("a folder");
        let small = fixture::small();
        let put = |name: &str, bytes: Vec<u8>| write_file(&folder.path().join(name), &bytes);
        put("a.json", profile::write(&small).expect("json")).expect("written");
        put("b.json.gz", profile::write_gz(&small).expect("gzip")).expect("written");
        report(folder.path(), &["a.json", "b.json.gz"]).expect("a report");
        let out = std::fs::read_dir(folder.path().join("out")).expect("the folder");
        assert_eq!(out.count(), 26);
    }

    #[test]
    fn a_bad_profile_leaves_nothing_behind() {
        let folder = tempfile::tempdir().expect("a folder");
        let good = profile::write(&fixture::small()).expect("json");
        write_file(&folder.path().join("good.json"), &good).expect("written");
        write_file(&folder.path().join("bad.json"), b"{}").expect("written");
        let error = report(folder.path(), &["good.json", "bad.json"]).expect_err("a refusal");
        assert_eq!(error.exit_code(), 3);
        assert!(error.to_string().contains("bad.json"), "{error}");
        assert!(!folder.path().join("out").exists());
        let error = report(folder.path(), &["missing.json"]).expect_err("a refusal");
        assert_eq!(error.exit_code(), 3);
    }
}
