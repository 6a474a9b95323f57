//! Turns the trace of another profiler into an answer, a screen of text, a page and a table of its rows.

mod csv;
mod data;
mod lanes;
mod markdown;
mod page;
mod text;
mod verdict;

use std::collections::BTreeMap;

use serde::Serialize;

use super::plot::foreign::{PLOT, Picture, PictureLane, TALL};
use super::rates::Rates;
use super::slices::Window;
use super::{Artifact, plot};
use crate::error::{Error, Result};
use crate::figures::Origin;
use crate::profile::trace::{Figures, Format, LeftOut, Trace, figures};
use crate::units::Nanos;

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
        let mut files = vec![
            Artifact::new("report.html", page::page(self)),
            Artifact::new("summary.json", json),
            Artifact::new("summary.md", markdown::markdown(self)),
            Artifact::new("spans.csv", csv::rows_csv(self.trace)?),
            Artifact::new("figures.csv", csv::figures_csv(&self.devices)?),
        ];
        for (id, figures) in self.devices.iter().take(MOST_DEVICES) {
            // A trace of one device, which most are, needs no number in its files' names.
            let prefix = if self.devices.len() > 1 { format!("gpu{id}-") } else { String::new() };
            files.extend(self.of_device(*id, figures, &prefix)?);
        }
        Ok(files)
    }

    /// The files of one device, each beginning with `prefix`.
    fn of_device(&self, id: i64, figures: &Figures, prefix: &str) -> Result<Vec<Artifact>> {
        let name = |name: &str| format!("{prefix}{name}");
        let (svg, png) = plot::foreign(&self.picture(id, figures))?;
        let mut files = vec![
            Artifact::new(name("timeline.svg"), svg),
            Artifact::new(name("timeline.png"), png),
        ];
        let rates = Rates::of_trace(self.trace, id);
        if let Some((svg, png)) = plot::rates(&rates, self.trace.origin)? {
            files.push(Artifact::new(name("rates.svg"), svg));
            files.push(Artifact::new(name("rates.png"), png));
            files.push(Artifact::new(name("rates.csv"), rates.csv()?));
        }
        Ok(files)
    }

    fn picture(&self, id: i64, figures: &Figures) -> Picture {
        let window = lanes::window(self.trace, id, figures.window);
        let device = figures.name.as_ref().map_or(String::new(), |name| format!(": {name}"));
        let rows = lanes::lanes(self.trace, id).into_iter();
        let lanes = rows.map(|(lane, rows)| PictureLane {
            name: lane.name,
            colour: lane.colour,
            columns: lanes::columns(&rows, window, PLOT, TALL),
        });
        Picture {
            title: format!("GPU {id}{device}"),
            note: format!(
                "times {}; {} of HtoD copy time behind kernels; every column as high as it is busy",
                self.trace.origin,
                figures.hidden_by_kernels.percent()
            ),
            lanes: lanes.collect(),
            window: Window { start: Nanos::ZERO, end: figures.window },
        }
    }
}

/// Devices with pictures and a section of their own.
const MOST_DEVICES: usize = 16;

/// Where the window went, for tables.
fn window_rows(figures: &Figures) -> [(&'static str, Nanos); 12] {
    [
        ("kernels busy", figures.kernel_busy),
        ("of it NCCL", figures.nccl_busy),
        ("HtoD copies busy", figures.htod_busy),
        ("of it behind any kernel", figures.kernel_and_htod),
        ("of it behind compute kernels", figures.compute_and_htod),
        ("of it exposed", figures.htod_exposed),
        ("DtoH copies busy", figures.dtoh_busy),
        ("DtoD copies busy", figures.dtod_busy),
        ("memsets busy", figures.memset_busy),
        ("anything busy", figures.busy),
        ("idle", figures.idle),
        ("window = busy + idle", figures.window),
    ]
}
