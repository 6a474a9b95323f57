//! Turns a program into spans on lanes: the simulator, and (from a later version on) real CUDA copies.
//!
//! A [`Backend`] executes a [`Program`] and tells a [`Recorder`] what happened, in order of time. The recorder
//! decides what to keep, so a backend's memory does not grow with the run.

pub mod cuda;
pub mod sim;

use crate::error::Result;
use crate::profile::{Header, PROFILE_FORMAT, Profile, Span, VramSample};
use crate::program::Program;

/// Something that runs programs.
pub trait Backend {
    /// `sim` or `cuda`.
    fn name(&self) -> &'static str;

    /// Runs a program to its end, or fails; what ran until then has been recorded.
    fn run(&self, program: &Program, recorder: &mut dyn Recorder) -> Result<()>;
}

/// Something that is told what happened.
pub trait Recorder {
    /// An operation has ended.
    fn span(&mut self, span: &Span);

    /// From this instant on so many bytes of the slab are in use.
    fn vram(&mut self, sample: VramSample);
}

/// Keeps everything; a profile is made of it.
#[derive(Debug, Default)]
pub struct Recording {
    spans: Vec<Span>,
    vram: Vec<VramSample>,
}

impl Recorder for Recording {
    fn span(&mut self, span: &Span) {
        self.spans.push(span.clone());
    }

    fn vram(&mut self, sample: VramSample) {
        match self.vram.last_mut() {
            Some(last) if last.at == sample.at => *last = sample,
            _ => self.vram.push(sample),
        }
    }
}

/// Keeps nothing but the end of the last operation.
#[derive(Debug, Default, Clone, Copy)]
pub struct Discard {
    /// Operations that ended.
    pub operations: u64,
    /// The end of the last one.
    pub makespan: crate::units::Nanos,
}

impl Recorder for Discard {
    fn span(&mut self, span: &Span) {
        self.operations += 1;
        self.makespan = self.makespan.max(span.end);
    }

    fn vram(&mut self, _: VramSample) {}
}

/// Runs a program and keeps everything. A failed run still gives its profile, marked incomplete.
pub fn record(backend: &dyn Backend, program: &Program, header: Header) -> (Profile, Result<()>) {
    let mut recording = Recording::default();
    let outcome = backend.run(program, &mut recording);
    let mut spans = recording.spans;
    spans.sort_by_key(|span| (span.start, span.lane, span.end));
    let header = Header { complete: outcome.is_ok(), ..header };
    let profile =
        Profile { format: PROFILE_FORMAT.to_owned(), header, spans, vram: recording.vram };
    (profile, outcome)
}
