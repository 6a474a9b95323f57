//! Turns "which bytes stream" into pieces, a window and a pass time: what the planner's candidates are made of.

use super::cycle::Ratio;
use super::instance::{Instance, Run};
use super::placement::{self, Placement, Streamed};
use crate::units::Bytes;

/// How streamed pieces lie in the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// One after the other, around it.
    Ring,
    /// Blocks in turn from its two ends.
    Ends,
}

/// Which bytes stream, and the most that the window may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// By use: the copies that bring its streamed bytes, in order; none where the block stays.
    pub copies: Vec<Vec<Run>>,
    /// How they lie in the window.
    pub layout: Layout,
    /// Bytes that the window may take at most.
    pub window: Bytes,
}

/// A choice with its consequences.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evaluated {
    /// The choice.
    pub choice: Choice,
    /// Its pieces in their places.
    pub places: Placement,
    /// Its pass time.
    pub pass: Ratio,
    /// Bytes copied in one steady pass.
    pub streamed: Bytes,
}

impl Choice {
    /// Everything stays.
    pub fn all_resident(instance: &Instance) -> Self {
        let copies = vec![Vec::new(); instance.uses.len()];
        Self { copies, layout: Layout::Ring, window: Bytes::ZERO }
    }

    /// Whole blocks stream; the window takes what the residents leave. None when residents alone do not fit.
    pub fn whole(instance: &Instance, streams: &[bool]) -> Option<Self> {
        let whole = |n: usize| vec![Run { from: 0, to: instance.uses[n].bytes.get() }];
        let copies = (0..streams.len()).map(|n| if streams[n] { whole(n) } else { Vec::new() });
        let choice = Self { copies: copies.collect(), ..Self::all_resident(instance) };
        choice.with_window_left(instance)
    }

    /// The same with a window of all that the residents leave.
    pub fn with_window_left(self, instance: &Instance) -> Option<Self> {
        let resident: Bytes = (0..self.copies.len()).map(|n| self.resident(instance, n)).sum();
        let window = instance.budget.checked_sub(resident)?;
        Some(Self { window, ..self })
    }

    /// Bytes of a use that stay, aligned.
    pub fn resident(&self, instance: &Instance, n: usize) -> Bytes {
        let streamed: Bytes = self.copies[n].iter().map(|run| run.bytes()).sum();
        instance.uses[n].bytes.saturating_sub(streamed).align_up(instance.device.alignment)
    }

    /// The pieces, in order of use.
    pub fn pieces(&self, instance: &Instance) -> Vec<Streamed> {
        let link = &instance.device.h2d;
        let mut pieces = Vec::with_capacity(self.copies.len());
        for (user, runs) in self.copies.iter().enumerate() {
            pieces.extend(runs.iter().map(|run| Streamed {
                user,
                bytes: run.bytes().align_up(instance.device.alignment).get(),
                copy: link.time_for(run.bytes()).get(),
            }));
        }
        pieces
    }

    /// Places the pieces and computes the pass time; none when the window cannot hold a block at once.
    pub fn evaluate(self, instance: &Instance) -> Option<Evaluated> {
        self.evaluate_below(instance, None)
    }

    /// The same, and none where the copies alone take longer than a pass already known: most candidates of a
    /// copy-bound instance are told apart by that, at a fraction of the cost.
    pub fn evaluate_below(self, instance: &Instance, known: Option<Ratio>) -> Option<Evaluated> {
        let pieces = self.pieces(instance);
        let busy: u128 = pieces.iter().map(|piece| u128::from(piece.copy)).sum();
        if known.is_some_and(|known| Ratio::per_pass(busy) > known) {
            return None;
        }
        let window = self.window.get();
        let places = match self.layout {
            Layout::Ring => placement::ring(&pieces, window),
            Layout::Ends => placement::ends(&pieces, window, instance.device.alignment),
        }?;
        let pass = placement::steady(instance, &pieces, &places);
        let streamed = self.copies.iter().flatten().map(|run| run.bytes()).sum();
        Some(Evaluated { choice: self, places, pass, streamed })
    }
}

impl Evaluated {
    /// What is compared: shorter passes first, then fewer bytes copied, then a smaller window.
    pub fn key(&self) -> (Ratio, Bytes, u64) {
        (self.pass, self.streamed, self.places.window)
    }
}
