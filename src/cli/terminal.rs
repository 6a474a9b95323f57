//! Turns answers into bytes on stdout and remarks into lines on stderr.

use std::io::{ErrorKind, IsTerminal, Write};
use std::path::Path;

use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::error::{Error, Result};

/// How answers are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// One JSON object on stdout.
    Json,
}

/// Where answers, remarks and progress go.
pub struct Terminal {
    format: Format,
}

impl Terminal {
    /// A terminal that answers in this format.
    pub fn new(format: Format) -> Self {
        Self { format }
    }

    /// The format asked for.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Answers: the text for people, or the value as one JSON object for programs.
    ///
    /// A reader that closes the pipe early (`| head`) is not an error.
    pub fn answer<T: Serialize>(&mut self, value: &T, text: &str) -> Result<()> {
        match self.format {
            Format::Text => self.raw(text.as_bytes()),
            Format::Json => {
                let mut json = serde_json::to_vec(value)
                    .map_err(|error| Error::Internal(format!("cannot write JSON: {error}")))?;
                json.push(b'\n');
                self.raw(&json)
            }
        }
    }

    /// Writes bytes to stdout as they are.
    pub fn raw(&mut self, bytes: &[u8]) -> Result<()> {
        let mut stdout = std::io::stdout().lock();
        match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
            Err(error) if error.kind() != ErrorKind::BrokenPipe => {
                Err(Error::Write { file: "standard output".into(), source: error })
            }
            _ => Ok(()),
        }
    }

    /// Writes a file, or to stdout where its name is `-`; says whether it was a file.
    ///
    /// Stdout carries one thing: `-` does not go together with a JSON answer.
    pub fn deliver(&mut self, path: &Path, contents: &[u8]) -> Result<bool> {
        if path.as_os_str() != "-" {
            super::files::write_file(path, contents)?;
            return Ok(true);
        }
        if self.format == Format::Json {
            let message = "-o - and --format json would both answer on standard output";
            return Err(Error::usage(message));
        }
        self.raw(contents)?;
        Ok(false)
    }

    /// Prints a warning to stderr.
    pub fn warn(&mut self, message: &str) {
        let _ = writeln!(std::io::stderr(), "warning: {message}");
    }

    /// Prints an error and its hint to stderr.
    pub fn error(&mut self, error: &Error) {
        let mut stderr = std::io::stderr();
        let _ = writeln!(stderr, "error: {error}");
        if let Some(hint) = error.hint() {
            let _ = writeln!(stderr, "hint: {hint}");
        }
    }

    /// A progress bar of `length` steps on stderr; hidden where stderr is no terminal.
    pub fn progress(&self, length: u64, message: &'static str) -> ProgressBar {
        if !std::io::stderr().is_terminal() {
            return ProgressBar::hidden();
        }
        let bar = ProgressBar::new(length).with_message(message);
        match ProgressStyle::with_template("{msg} [{wide_bar}] {pos}/{len}") {
            Ok(style) => bar.with_style(style),
            Err(_) => bar,
        }
    }
}
