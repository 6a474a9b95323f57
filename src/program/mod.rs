//! Turns a plan into a [`Program`]: operations in order of issue, what each waits for, and the bytes it touches.
//!
//! A program is the only input of a backend, and every backend executes the same one. It is written once per
//! component and repeated per pass, so its size does not grow with the number of passes. Components run one
//! after the other as phases; a phase begins when everything of the one before has ended, with an empty slab.
//!
//! ```text
//! Plan ── lower ──▶ Program { slab, phases: [ Phase { passes, schedule: [op, op, …], places } ] }
//!                      │
//!                      ├─ check: every use after its copy, no byte reused before its release   (no timing)
//!                      └─ backend: sim, cuda
//! ```

pub mod check;
pub mod image;
mod numbering;

use std::collections::BTreeMap;

use crate::device::DeviceSpec;
use crate::error::Result;
pub use crate::plan::Wait;
use crate::plan::{ComponentPlan, HostMemory, Piece, Plan, Residency, Schedule};
use crate::units::Bytes;
pub use numbering::Numbering;

/// Everything a backend needs to run a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// The one allocation that all phases use.
    pub slab: Bytes,
    /// Components in order of use.
    pub phases: Vec<Phase>,
}

/// One component in use: the operations of a pass, repeated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Phase {
    /// The component's name.
    pub component: String,
    /// Passes to run.
    pub passes: u32,
    /// Ids of the uses in order of execution; operations refer to them by index.
    pub blocks: Vec<String>,
    /// The operations of a pass in order of issue.
    pub schedule: Schedule,
    /// By use and piece: where its bytes lie.
    pub places: Vec<Vec<Place>>,
    /// Pinned host memory that reads from disk go through.
    pub ring: Bytes,
}

/// Where a piece lies in the slab.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Offsets, one per pass, used in turn.
    pub at: Vec<u64>,
    /// How many bytes.
    pub bytes: Bytes,
    /// Whether the bytes stay from the first pass to the last.
    pub resident: bool,
    /// The later use of the same pass until whose end they stay, by index; none for their own.
    pub held_until: Option<usize>,
    /// Offsets in the ring of pinned host memory, one per pass, used in turn; none where it does not come from disk.
    pub host_at: Vec<u64>,
}

impl Place {
    /// The first byte and the byte after the last, in that pass.
    pub fn range(&self, pass: u32) -> (u64, u64) {
        self.turn(&self.at, pass)
    }

    /// The same in the ring of pinned host memory; none where it does not come from disk.
    pub fn host_range(&self, pass: u32) -> Option<(u64, u64)> {
        (!self.host_at.is_empty()).then(|| self.turn(&self.host_at, pass))
    }

    fn turn(&self, offsets: &[u64], pass: u32) -> (u64, u64) {
        let at = offsets.get(pass as usize % offsets.len().max(1)).copied().unwrap_or(0);
        (at, at.saturating_add(self.bytes.get()))
    }

    fn of(piece: &Piece, index: &BTreeMap<&str, usize>) -> Self {
        let (resident, held) = match &piece.residency {
            Residency::Resident => (true, None),
            Residency::Streamed(stream) => (false, stream.held_until.as_deref()),
        };
        let held_until = held.and_then(|held| index.get(held).copied());
        let host_at = piece.staged.as_ref().map_or(Vec::new(), |staged| staged.at.clone());
        Self { at: piece.at.clone(), bytes: piece.bytes, resident, held_until, host_at }
    }
}

impl Phase {
    /// Lowers the plan of one component.
    pub fn of(component: &ComponentPlan, device: &DeviceSpec) -> Result<Self> {
        let names = component.blocks.iter().enumerate();
        let index: BTreeMap<&str, usize> =
            names.map(|(n, block)| (block.block.as_str(), n)).collect();
        let places = component
            .blocks
            .iter()
            .map(|block| block.pieces.iter().map(|piece| Place::of(piece, &index)).collect());
        let mut places: Vec<Vec<Place>> = places.collect();
        let ring = own_staging(component, device, &mut places);
        Ok(Self {
            component: component.name.clone(),
            passes: component.passes,
            blocks: component.blocks.iter().map(|block| block.block.clone()).collect(),
            schedule: Schedule::of(component, device)?,
            places,
            ring,
        })
    }
}

/// Gives every piece from disk without a place in the ring one of its own behind it; gives the bytes of all.
fn own_staging(component: &ComponentPlan, device: &DeviceSpec, places: &mut [Vec<Place>]) -> Bytes {
    let mut ring = component.host.map_or(Bytes::ZERO, |host| host.ring);
    for (block, places) in component.blocks.iter().zip(places) {
        for (piece, place) in block.pieces.iter().zip(places) {
            if piece.home() == HostMemory::Disk && place.host_at.is_empty() {
                let at = ring.align_up(device.alignment);
                place.host_at = vec![at.get()];
                ring = at.saturating_add(piece.bytes);
            }
        }
    }
    ring
}

/// Lowers a plan. Fails on references that name no use and on waits that could never end; that the program is
/// safe is proved by [`check::check`].
pub fn lower(plan: &Plan) -> Result<Program> {
    let phases: Result<Vec<Phase>> =
        plan.components.iter().map(|component| Phase::of(component, &plan.device)).collect();
    let slab = plan.components.iter().map(|component| component.slab.bytes).max();
    Ok(Program { slab: slab.unwrap_or_default(), phases: phases? })
}
