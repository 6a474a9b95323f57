//! Turns a program into spans on lanes: the simulator, or real copies and kernels on a CUDA device.
//!
//! A [`Backend`] executes a [`Program`] and tells a [`Recorder`] what happened, in order of time. The recorder
//! decides what to keep, so a backend's memory does not grow with the run.

pub mod cuda;
pub mod sim;

use crate::error::Result;
use crate::profile::{Header, PROFILE_FORMAT, Profile, Span, VramSample, WaitedFor};
use crate::program::{Phase, Program};

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

    /// A pass has ended; backends that run in real time say so.
    fn passed(&mut self, _: &Passed) {}

    /// Whether the run should stop: asked before each pass, or more often.
    fn interrupted(&self) -> bool {
        false
    }
}

/// A pass that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Passed {
    /// Its number in its component.
    pub pass: u32,
    /// Passes that the component runs.
    pub passes: u32,
    /// How long it took.
    pub time: crate::units::Nanos,
}

/// Keeps everything; a profile is made of it.
#[derive(Debug, Default)]
pub struct Recording {
    spans: Vec<Span>,
    vram: Vec<VramSample>,
}

/// Keeps everything, and tells somebody how far the run is.
struct Watched<'a> {
    recording: Recording,
    watch: &'a mut dyn Watch,
}

/// Somebody who watches a run, and may stop it.
pub trait Watch {
    /// A pass has ended.
    fn passed(&mut self, _: &Passed) {}

    /// Whether the run should stop.
    fn interrupted(&self) -> bool {
        false
    }
}

/// Nobody.
#[derive(Debug, Clone, Copy)]
pub struct Unwatched;

impl Watch for Unwatched {}

impl Recorder for Watched<'_> {
    fn span(&mut self, span: &Span) {
        self.recording.span(span);
    }

    fn vram(&mut self, sample: VramSample) {
        self.recording.vram(sample);
    }

    fn passed(&mut self, passed: &Passed) {
        self.watch.passed(passed);
    }

    fn interrupted(&self) -> bool {
        self.watch.interrupted()
    }
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

/// An operation as a span names it that waited for it.
fn cause(phase: &Phase, component: u32, op: usize, pass: u32) -> WaitedFor {
    let op = &phase.schedule.ops[op];
    WaitedFor {
        lane: op.lane,
        component,
        block: index(op.block),
        piece: op.piece.map(index),
        pass: pass + op.ahead,
    }
}

fn index(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
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
    record_watched(backend, program, header, &mut Unwatched)
}

/// [`record`], while somebody watches.
pub fn record_watched(
    backend: &dyn Backend,
    program: &Program,
    header: Header,
    watch: &mut dyn Watch,
) -> (Profile, Result<()>) {
    let mut watched = Watched { recording: Recording::default(), watch };
    let outcome = backend.run(program, &mut watched);
    let recording = watched.recording;
    let mut spans = recording.spans;
    spans.sort_by_key(|span| (span.start, span.lane, span.end));
    let header = Header { complete: outcome.is_ok(), ..header };
    let profile =
        Profile { format: PROFILE_FORMAT.to_owned(), header, spans, vram: recording.vram };
    (profile, outcome)
}
