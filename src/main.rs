//! Parses the command line, calls the library, prints the error and its hint, and sets the exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    vramplan::cli::main(std::env::args_os())
}
