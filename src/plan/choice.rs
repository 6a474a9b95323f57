//! Turns "which bytes stream" into pieces, a window and a pass time: what the planner's candidates are made of.

use super::cycle::Ratio;
use super::instance::Instance;
use super::ring::{self, Ring, Streamed};
use crate::units::Bytes;

/// What one copy brings in: some parts of a block, or all of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Indices of the block's parts, ascending; none for the whole block.
    pub parts: Option<Vec<usize>>,
    /// Their bytes.
    pub bytes: Bytes,
}

/// Which bytes stream, and the most that the window may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// By use: the copies that bring its streamed bytes, in order; none where the block stays.
    pub groups: Vec<Vec<Group>>,
    /// Bytes that the window may take at most.
    pub window: Bytes,
}

/// A choice with its consequences.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evaluated {
    /// The choice.
    pub choice: Choice,
    /// Its pieces in their places.
    pub ring: Ring,
    /// Its pass time.
    pub pass: Ratio,
    /// Bytes copied in one steady pass.
    pub streamed: Bytes,
}

impl Choice {
    /// Everything stays.
    pub fn all_resident(instance: &Instance) -> Self {
        Self { groups: vec![Vec::new(); instance.uses.len()], window: Bytes::ZERO }
    }

    /// Whole blocks stream; the window takes what the residents leave. None when residents alone do not fit.
    pub fn whole(instance: &Instance, streams: &[bool]) -> Option<Self> {
        let group = |n: usize| vec![Group { parts: None, bytes: instance.uses[n].bytes }];
        let groups = (0..streams.len()).map(|n| if streams[n] { group(n) } else { Vec::new() });
        Self { groups: groups.collect(), window: Bytes::ZERO }.with_window_left(instance)
    }

    /// The same with a window of all that the residents leave.
    pub fn with_window_left(self, instance: &Instance) -> Option<Self> {
        let resident: Bytes = (0..self.groups.len()).map(|n| self.resident(instance, n)).sum();
        let window = instance.budget.checked_sub(resident)?;
        Some(Self { window, ..self })
    }

    /// Bytes of a use that stay, aligned.
    pub fn resident(&self, instance: &Instance, n: usize) -> Bytes {
        let streamed: Bytes = self.groups[n].iter().map(|group| group.bytes).sum();
        instance.uses[n].bytes.saturating_sub(streamed).align_up(instance.device.alignment)
    }

    /// The pieces, in order of use.
    pub fn pieces(&self, instance: &Instance) -> Vec<Streamed> {
        let link = &instance.device.h2d;
        let of = |(user, groups): (usize, &Vec<Group>)| {
            let piece = |group: &Group| Streamed {
                user,
                bytes: group.bytes.align_up(instance.device.alignment).get(),
                copy: link.time_for(group.bytes).get(),
            };
            groups.iter().map(piece).collect::<Vec<_>>()
        };
        self.groups.iter().enumerate().flat_map(of).collect()
    }

    /// Places the pieces and computes the pass time; none when the window cannot hold a block at once.
    pub fn evaluate(self, instance: &Instance) -> Option<Evaluated> {
        let pieces = self.pieces(instance);
        let ring = ring::place(&pieces, self.window.get())?;
        let pass = ring::steady(instance, &pieces, &ring);
        let streamed = self.groups.iter().flatten().map(|group| group.bytes).sum();
        Some(Evaluated { choice: self, ring, pass, streamed })
    }
}

impl Evaluated {
    /// What is compared: shorter passes first, then fewer bytes copied, then a smaller window.
    pub fn key(&self) -> (Ratio, Bytes, u64) {
        (self.pass, self.streamed, self.ring.window)
    }
}
