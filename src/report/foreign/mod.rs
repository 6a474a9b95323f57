//! Turns the trace of another profiler into an answer, a screen of text, a page and a table of its rows.

mod csv;
mod page;
mod text;
mod verdict;

use std::collections::BTreeMap;

use serde::Serialize;

use super::Artifact;
use crate::error::{Error, Result};
use crate::figures::Origin;
use crate::profile::trace::{Figures, Format, LeftOut, Trace, figures};

/// A trace with its figures, computed once.
pub struct Foreign<'a> {
    /// The file as the user named it.
    pub file: &'a str,
    /// What was read.
    pub trace: &'a Trace,
    /// The figures per device.
    pub devices: BTreeMap<i64, Figures>,
}

/// The answer of `trace` as JSON.
#[derive(Debug, Serialize)]
pub struct ForeignAnswer<'a> {
    /// The file as the user named it.
    pub file: &'a str,
    /// Which profiler wrote it.
    pub format: Format,
    /// Where every time below comes from.
    pub origin: Origin,
    /// False where the end of the trace is missing, or rows could not be used.
    pub complete: bool,
    /// Why the end is missing.
    pub cut: Option<&'a str>,
    /// GPU rows that the figures are of.
    pub rows: u64,
    /// The figures, by device index.
    pub devices: BTreeMap<String, &'a Figures>,
    /// What follows from them, by device index.
    pub verdict: BTreeMap<String, Vec<String>>,
    /// What is not in the figures.
    pub left_out: &'a LeftOut,
    /// The same in words, each of which may make the figures wrong.
    pub warnings: Vec<String>,
}

impl<'a> Foreign<'a> {
    /// Computes the figures.
    pub fn of(file: &'a str, trace: &'a Trace) -> Self {
        Self { file, trace, devices: figures(trace) }
    }

    /// The answer for programs.
    pub fn answer(&self) -> ForeignAnswer<'_> {
        let cut = self.trace.cut.as_deref();
        let by_device = || self.devices.iter().map(|(id, figures)| (id.to_string(), figures));
        ForeignAnswer {
            file: self.file,
            format: self.trace.format,
            origin: self.trace.origin,
            complete: cut.is_none() && self.trace.left_out.rows.is_empty(),
            cut,
            rows: self.trace.rows().len() as u64,
            devices: by_device().collect(),
            verdict: by_device().map(|(id, one)| (id, verdict::verdict(one))).collect(),
            left_out: &self.trace.left_out,
            warnings: self.warnings(),
        }
    }

    /// One screen per device.
    pub fn screen(&self) -> String {
        text::screen(self)
    }

    /// Whatever may make the figures wrong, in sentences.
    pub fn warnings(&self) -> Vec<String> {
        verdict::warnings(self.trace)
    }

    /// Every file of a report on it.
    pub fn render(&self) -> Result<Vec<Artifact>> {
        let failed = |error| Error::Internal(format!("cannot write JSON: {error}"));
        let mut json = serde_json::to_vec_pretty(&self.answer()).map_err(failed)?;
        json.push(b'\n');
        Ok(vec![
            Artifact::new("report.html", page::page(self)),
            Artifact::new("summary.json", json),
            Artifact::new("spans.csv", csv::rows_csv(self.trace)?),
        ])
    }
}
