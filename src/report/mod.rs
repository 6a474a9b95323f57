//! Turns recorded profiles into files for people and programs; each exporter is a pure function from values to bytes.
//!
//! ```text
//! Profile ─▶ View (figures, stalls, windows) ─┬▶ report.html                 everything, one self-contained page
//! Extras (other policies, other budgets) ─────┤▶ timeline.svg/png, vram.svg/png, sweep.svg/png
//!                                             ├▶ summary.json, summary.md    the figures
//!                                             ├▶ spans.csv                   every span
//!                                             └▶ trace.json.gz               for Perfetto, HTA, TensorBoard
//! ```
//!
//! A trace of another profiler becomes a [`Foreign`] answer: text, JSON, a page of its own.
//!
//! A report needs neither model nor GPU, and the same values always give the same bytes.

mod axis;
mod comparison;
mod extras;
mod foreign;
mod frontier;
mod html;
mod lists;
mod markdown;
mod measured;
mod plot;
mod runs;
mod slices;
mod summary;
mod text;
mod trace;
mod verdict;
mod view;

pub use comparison::{Change, Comparison, comparisons};
pub use extras::{BoundPoint, Extras, PolicyRow, SweepRow};
pub use foreign::{Foreign, ForeignAnswer};
pub use slices::Window;
pub use summary::Answer;
pub use text::{screen, screens};
pub use trace::{trace, trace_with};
pub use view::{Against, Busy, PassWindow, View};

use crate::error::{Error, Result};
use crate::profile::{self, Profile};

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
    let mut files = vec![
        Artifact::new("report.html", html::page(&views, extras)),
        Artifact::new("summary.json", summary::json(&views)?),
        Artifact::new("summary.md", markdown::markdown(&views, extras)),
    ];
    for (index, view) in views.iter().enumerate() {
        let prefix = if index == 0 { String::new() } else { format!("run{}-", index + 1) };
        let name = |name: &str| format!("{prefix}{name}");
        let planned = runs::planned(&views).filter(|_| index == 0).map(|view| view.profile);
        let (svg, png) = plot::timeline(view)?;
        files.push(Artifact::new(name("timeline.svg"), svg));
        files.push(Artifact::new(name("timeline.png"), png));
        let (svg, png) = plot::vram(view)?;
        files.push(Artifact::new(name("vram.svg"), svg));
        files.push(Artifact::new(name("vram.png"), png));
        files.push(Artifact::new(name("spans.csv"), profile::spans_csv(view.profile)?));
        files.push(Artifact::new(name("trace.json.gz"), trace::trace_gz(view.profile, planned)?));
    }
    if let Some((svg, png)) = plot::sweep(&views[0], extras)? {
        files.push(Artifact::new("sweep.svg", svg));
        files.push(Artifact::new("sweep.png", png));
    }
    Ok(files)
}

#[cfg(test)]
mod tests;
