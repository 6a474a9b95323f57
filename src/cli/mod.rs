//! Turns arguments into calls of the library, and its answers into text or JSON; all file and terminal I/O lives here.
//!
//! One file per subcommand, each with its arguments and a `run`. `--format` is global: `text` is for people,
//! `json` prints exactly one object on stdout. Warnings, progress and errors go to stderr.

mod files;
mod report;
mod scan;
mod skips;
mod terminal;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::error::Result;
mod assumed;
mod boundaries;
mod check;
mod compare;
mod cuda;
mod derive;
mod host;
mod inputs;
mod lists;
mod measured;
mod pipeline;
mod plan;
mod probe;
mod ranks;
mod run;
mod study;
mod sweep;
mod trace;
mod verdict;
mod watch;
mod weights;
pub use files::{read_text, write_file};
pub use terminal::{Format, Terminal};

#[derive(Parser)]
#[command(name = "vramplan", version, about, max_term_width = 100)]
struct Cli {
    /// How answers are printed: text for people, one JSON object on stdout for programs.
    #[arg(long, global = true, value_enum, default_value_t = Format::Text)]
    format: Format,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Scan(scan::Args),
    Probe(probe::Args),
    Plan(plan::Args),
    Check(check::Args),
    Run(run::Args),
    Report(report::Args),
    Compare(compare::Args),
    Sweep(sweep::Args),
    Trace(trace::Args),
    Study(study::Args),
    Models(lists::ModelsArgs),
    Devices(lists::DevicesArgs),
    Policies(lists::PoliciesArgs),
    Schema(lists::SchemaArgs),
    Completions(lists::CompletionsArgs),
}

/// Runs the program with these arguments and gives its exit code.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    let mut terminal = Terminal::new(cli.format);
    match run(&cli.command, &mut terminal) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            terminal.error(&error);
            ExitCode::from(error.exit_code())
        }
    }
}

fn run(command: &Command, terminal: &mut Terminal) -> Result<()> {
    match command {
        Command::Scan(args) => scan::run(args, terminal),
        Command::Probe(args) => probe::run(args, terminal),
        Command::Plan(args) => plan::run(args, terminal),
        Command::Check(args) => check::run(args, terminal),
        Command::Run(args) => run::run(args, terminal),
        Command::Report(args) => report::run(args, terminal),
        Command::Compare(args) => compare::run(args, terminal),
        Command::Sweep(args) => sweep::run(args, terminal),
        Command::Trace(args) => trace::run(args, terminal),
        Command::Study(args) => study::run(args, terminal),
        Command::Models(args) => lists::models(args, terminal),
        Command::Devices(args) => lists::devices(args, terminal),
        Command::Policies(args) => lists::policies(args, terminal),
        Command::Schema(args) => lists::schema(args, terminal),
        Command::Completions(args) => lists::completions(args, terminal),
    }
}
