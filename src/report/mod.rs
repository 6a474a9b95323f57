//! Turns recorded profiles into files for people and programs; each exporter is a pure function from values to bytes.
//!
//! ```text
//! Profile ─▶ View (figures, stalls, windows) ─┬▶ report.html                 everything, one self-contained page
//! Extras (other policies, other budgets) ─────┤▶ timeline.svg/png, vram.svg/png, sweep.svg/png
//!                                             ├▶ summary.json, summary.md    the figures
//!                                             ├▶ spans.csv, vram.csv         every span, every sample
//!                                             ├▶ rates.csv/svg/png           rates of copies by size
//!                                             ├▶ predicted.csv/svg/png       each block and copy against the plan
//!                                             └▶ trace.json.gz               for Perfetto, HTA, TensorBoard
//! ```
//!
//! A trace of another profiler becomes a [`Foreign`] answer: text, JSON, a page of its own.
//!
//! A report needs neither model nor GPU, and the same values always give the same bytes.

mod axis;
mod boundaries;
mod comparison;
mod extras;
mod foreign;
mod frontier;
mod held;
mod html;
mod lists;
mod logscale;
mod markdown;
mod measured;
mod plot;
mod predicted;
mod rates;
mod runs;
mod skipped;
mod slices;
mod summary;
mod text;
mod trace;
mod verdict;
mod view;

pub use comparison::{Change, Comparison, comparisons};
pub use extras::{BoundPoint, BoundaryRow, Extras, PolicyRow, SweepRow};
pub use foreign::{Foreign, ForeignAnswer};
pub use predicted::{PairAnswer, PredictedAnswer, SideAnswer, predictions};
pub use slices::Window;
pub use summary::Answer;
pub use text::{screen, screens, wrapped};
pub use trace::{trace, trace_with};
pub use view::{Against, Busy, PassWindow, View};

use crate::error::{Error, Result};
use crate::profile::{self, Profile};
use predicted::Predicted;
use rates::Rates;

/// A file of a report: a name without folders, and what goes into it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Artifact {
    /// `report.html`, say.
    pub name: String,
    /// Its contents.
    pub bytes: Vec<u8>,
}

impl Artifact {
    fn new(name: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Self {
        Self { name: name.into(), bytes: bytes.into() }
    }
}

/// Renders every file of a report on these runs. The first is the main one; the others are compared with it, and
/// their own files begin with `run2-`, `run3-`, ….
pub fn render(profiles: &[Profile]) -> Result<Vec<Artifact>> {
    render_with(profiles, &Extras::default())
}

/// [`render`], with what a study knows beyond the runs.
pub fn render_with(profiles: &[Profile], extras: &Extras) -> Result<Vec<Artifact>> {
    if profiles.is_empty() {
        return Err(Error::usage("a report needs at least one profile"));
    }
    let views: Vec<View<'_>> = profiles.iter().map(View::of).collect();
    let given = extras.planned.as_ref().map(View::of);
    let planned = given.as_ref().or_else(|| runs::planned(&views));
    let mut files = vec![
        Artifact::new("report.html", html::page(&views, planned, extras)),
        Artifact::new("summary.json", summary::json(&views, planned)?),
        Artifact::new("summary.md", markdown::markdown(&views, planned, extras)),
    ];
    for (index, view) in views.iter().enumerate() {
        let prefix = if index == 0 { String::new() } else { format!("run{}-", index + 1) };
        let planned = planned.filter(|_| index == 0);
        files.extend(of_run(view, planned, &prefix)?);
    }
    if let Some(told) = views.first().zip(planned).and_then(|(run, plan)| Predicted::of(run, plan))
    {
        let (svg, png) = plot::predicted(&told)?;
        files.push(Artifact::new("predicted.svg", svg));
        files.push(Artifact::new("predicted.png", png));
        files.push(Artifact::new("predicted.csv", told.csv()?));
    }
    if let Some((svg, png)) = plot::sweep(&views[0], extras)? {
        files.push(Artifact::new("sweep.svg", svg));
        files.push(Artifact::new("sweep.png", png));
    }
    Ok(files)
}

/// The files of one run, each beginning with `prefix`.
fn of_run(view: &View<'_>, planned: Option<&View<'_>>, prefix: &str) -> Result<Vec<Artifact>> {
    let name = |name: &str| format!("{prefix}{name}");
    let (timeline, vram) = (plot::timeline(view, planned)?, plot::vram(view)?);
    let trace = trace::trace_gz(view.profile, planned.map(|view| view.profile))?;
    let mut files = vec![
        Artifact::new(name("timeline.svg"), timeline.0),
        Artifact::new(name("timeline.png"), timeline.1),
        Artifact::new(name("vram.svg"), vram.0),
        Artifact::new(name("vram.png"), vram.1),
        Artifact::new(name("vram.csv"), profile::vram_csv(view.profile)?),
        Artifact::new(name("spans.csv"), profile::spans_csv(view.profile)?),
        Artifact::new(name("trace.json.gz"), trace),
    ];
    let rates = Rates::of_run(view.profile);
    if let Some((svg, png)) = plot::rates(&rates, view.summary.origin)? {
        files.push(Artifact::new(name("rates.svg"), svg));
        files.push(Artifact::new(name("rates.png"), png));
        files.push(Artifact::new(name("rates.csv"), rates.csv()?));
    }
    Ok(files)
}

#[cfg(test)]
mod tests;
