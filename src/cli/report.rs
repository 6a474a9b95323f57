//! `report`: turns recorded profiles into a folder of files and a summary.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::{Terminal, write_file};
use crate::error::{Error, Result};
use crate::profile::{self, Profile};
use crate::report::{self, Answer, Change, View};

/// Turn recorded runs into an HTML page, plots, CSV and a trace.
///
/// report.html is one file that needs no network; trace.json.gz opens in ui.perfetto.dev.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  vramplan report run.json.gz -o report\n  \
                  vramplan report before.json.gz after.json.gz --fail-if-slower")]
pub struct Args {
    /// Profiles (.json or .json.gz); the first is reported, the others are compared with it.
    #[arg(required = true, value_name = "PROFILE")]
    profiles: Vec<PathBuf>,
    /// Where the files go; made if missing.
    #[arg(short, long, value_name = "DIR", default_value = "report")]
    output: PathBuf,
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
    let files = report::render(&profiles)?;
    for file in &files {
        write_file(&args.output.join(&file.name), &file.bytes)?;
    }
    let views: Vec<View<'_>> = profiles.iter().map(View::of).collect();
    let answer = Answer::of(&views).ok_or_else(|| Error::usage("no profile given"))?;
    for view in views.iter().filter(|view| !view.summary.complete) {
        terminal.warn(&format!("the run of {} was cut short", view.summary.model));
    }
    let mut text = report::screens(&views);
    text.push_str(&format!("\n{} files in {}:\n", files.len(), args.output.display()));
    text.push_str(&format!("  {}\n", args.output.join("report.html").display()));
    text.push_str(
        "  and summary.json, summary.md, spans.csv, trace.json.gz, timeline and vram plots\n",
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
        let args = Args { profiles, output: folder.join("out"), fail_if_slower: false };
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
        assert_eq!(out.count(), 15);
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
