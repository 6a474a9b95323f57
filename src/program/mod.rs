//! Turns a plan into a [`Program`]: operations in order of issue, what each waits for, and the bytes it touches.
//!
//! A program is the only input of a backend, and every backend executes the same one. It is written once per
//! component and repeated per pass, so its size does not grow with the number of passes. Components run one
//! after the other as phases, once per generation; lanes run on from one to the next, and what the first pass of a
//! phase waits for is said operation by operation ([`Enter`]).
//!
//! ```text
//! Plan ── lower ──▶ Program { slab, phases: [ Phase { passes, schedule: [op, op, …], places } ] }
//!                      │
//!                      ├─ check: every use after its copy, no byte reused before its release   (no timing)
//!                      └─ backend: sim, cuda
//! ```

pub mod check;
pub mod image;

use std::collections::BTreeMap;

use crate::device::DeviceSpec;
use crate::error::{Error, Result};
use crate::plan::{ComponentPlan, HostMemory, Piece, Plan, Residency, Schedule, Stage, stages};
pub use crate::plan::{Enter, Numbering, Wait, execution};
use crate::units::Bytes;

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
    /// Index of the component in the plan; phases of later generations share it.
    pub of: usize,
    /// By operation: what it waits for in the first pass, among the phases before.
    pub enters: Vec<Enter>,
    /// By operation: resident bytes that are free once it has ended in the last pass; kept until the phase ends where
    /// the next one waits for all of it.
    pub leaves: Vec<Bytes>,
    /// The part of the slab that its activations take, from its first use to its last: from here to the slab's end.
    pub lent_from: Option<u64>,
    /// Pinned host memory that reads from disk go through: the component's own, in every generation.
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
    /// The turns in which it is copied, ascending, and how many turns there are; none where it is copied in every pass.
    pub loads: Option<(Vec<u32>, u32)>,
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

    /// The pass, at or before this one, whose copy brought the bytes that a use finds there.
    pub fn copied_in(&self, pass: u32) -> u32 {
        match &self.loads {
            _ if self.resident => 0,
            None => pass,
            Some((loads, turns)) => {
                let loaded = |pass: &u32| loads.binary_search(&(pass % (*turns).max(1))).is_ok();
                (pass.saturating_sub(*turns)..=pass).rev().find(loaded).unwrap_or(0)
            }
        }
    }

    fn of(piece: &Piece, index: &BTreeMap<&str, usize>, turns: u32) -> Self {
        let (resident, held, loads) = match &piece.residency {
            Residency::Resident => (true, None, None),
            Residency::Streamed(stream) => {
                let loads: Vec<u32> = stream.loads.keys().copied().collect();
                let loads = Some((loads, turns)).filter(|(loads, _)| !loads.is_empty());
                (false, stream.held_until.as_deref(), loads)
            }
        };
        let held_until = held.and_then(|held| index.get(held).copied());
        let host_at = piece.staged.as_ref().map_or(Vec::new(), |staged| staged.at.clone());
        Self { at: piece.at.clone(), bytes: piece.bytes, resident, loads, held_until, host_at }
    }
}

impl Phase {
    /// Lowers the plan of one component alone.
    pub fn of(component: &ComponentPlan, device: &DeviceSpec) -> Result<Self> {
        let mut stages = stages(std::slice::from_ref(component), 1, device)?;
        match stages.pop() {
            Some(stage) => Ok(Self::of_stage(component, stage, component.name.clone(), device)),
            None => Err(Error::usage("a plan without a generation")),
        }
    }

    /// Whether it begins only when everything before it has ended.
    pub fn is_apart(&self) -> bool {
        self.enters.iter().all(|enter| *enter == Enter::Everything)
    }

    fn of_stage(
        component: &ComponentPlan,
        stage: Stage,
        name: String,
        device: &DeviceSpec,
    ) -> Self {
        let names = component.blocks.iter().enumerate();
        let index: BTreeMap<&str, usize> =
            names.map(|(n, block)| (block.block.as_str(), n)).collect();
        let place = |piece| Place::of(piece, &index, component.turns);
        let blocks = component.blocks.iter();
        let places = blocks.map(|block| block.pieces.iter().map(place).collect());
        let mut places: Vec<Vec<Place>> = places.collect();
        let ring = own_staging(component, device, &mut places);
        Self {
            component: name,
            passes: stage.passes,
            blocks: component.blocks.iter().map(|block| block.block.clone()).collect(),
            schedule: stage.schedule,
            places,
            of: stage.component,
            enters: stage.enters,
            leaves: stage.leaves,
            lent_from: None,
            ring,
        }
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
    let slab = plan.slab();
    let phases = stages(&plan.components, plan.generations, &plan.device)?.into_iter();
    let phases = phases.map(|stage| {
        let component = &plan.components[stage.component];
        // What a phase's activations need beyond the rest of the budget, they take from the slab's end.
        let own = plan.budget.vram.saturating_sub(component.reserve_of(&plan.budget));
        let name = match stage.generation {
            0 => component.name.clone(),
            before => format!("{}#{}", component.name, before + 1),
        };
        let lent_from = (own < slab).then_some(own.get());
        Phase { lent_from, ..Phase::of_stage(component, stage, name, &plan.device) }
    });
    Ok(Program { slab, phases: phases.collect() })
}
