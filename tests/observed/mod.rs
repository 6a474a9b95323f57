//! Turns a simulated run into what it shows: spans and the highest use of the slab, without the library's own metrics.

#![allow(dead_code, reason = "each test program uses a part")]

use vramplan::backend::sim::Sim;
use vramplan::backend::{Backend, Recorder};
use vramplan::lane::{Lane, OpKind};
use vramplan::profile::{Span, VramSample};
use vramplan::program::Program;

/// What a run shows.
#[derive(Default)]
pub struct Observed {
    /// Everything that ran.
    pub spans: Vec<Span>,
    /// The highest use of the slab.
    pub peak: u64,
}

impl Recorder for Observed {
    fn span(&mut self, span: &Span) {
        self.spans.push(span.clone());
    }

    fn vram(&mut self, sample: VramSample) {
        self.peak = self.peak.max(sample.in_use.get());
    }
}

impl Observed {
    /// The end of the last operation.
    pub fn end(&self) -> u64 {
        self.spans.iter().map(|span| span.end.get()).max().unwrap_or(0)
    }

    /// The end of the last compute of a pass.
    pub fn pass_end(&self, pass: u32) -> u64 {
        let computes = self.spans.iter().filter(|s| s.lane == Lane::Compute && s.pass == pass);
        computes.map(|span| span.end.get()).max().unwrap_or(0)
    }

    /// What did this.
    pub fn of_kind(&self, kind: OpKind) -> impl Iterator<Item = &Span> {
        self.spans.iter().filter(move |span| span.op == kind)
    }
}

/// Runs a program to its end.
pub fn run(program: &Program, sim: Sim) -> Observed {
    let mut observed = Observed::default();
    sim.run(program, &mut observed).expect("a run to the end");
    observed
}
