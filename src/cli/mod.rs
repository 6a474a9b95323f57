//! Turns arguments into calls of the library, and its answers into text or JSON; all file and terminal I/O lives here.
//!
//! One file per subcommand, each with its arguments and a `run`. `--format` is global: `text` is for people,
//! `json` prints exactly one object on stdout. Warnings, progress and errors go to stderr.

mod files;
mod report;
mod scan;
mod suggest;
mod terminal;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::error::Result;
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
    Report(report::Args),
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
        Command::Report(args) => report::run(args, terminal),
    }
}
