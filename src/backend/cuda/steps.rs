//! Turns a phase of a program into steps: what the host does for each operation, looked up once, so that issuing it is
//! a handful of driver calls.

use super::arena::Arena;
use super::part::Exits;
use crate::lane::{Lane, OpKind};
use crate::program::image::{ComponentImage, HostMemory};
use crate::program::{Phase, Place, Wait};

/// What is done for one operation.
pub(super) struct Step {
    /// Where it runs.
    pub lane: Lane,
    /// The use it belongs to.
    pub block: usize,
    /// What it does.
    pub action: Action,
    /// Operations of other lanes in the same phase that must have ended.
    pub waits: Vec<Wait>,
    /// Whether operations of other lanes, or of later phases, wait for it.
    pub awaited: bool,
    /// Whether reads from disk wait for it.
    pub counted: bool,
}

/// What an operation does on the device.
pub(super) enum Action {
    /// Copies to the device.
    Copy(Vec<Transfer>),
    /// Reads a piece from disk.
    Read(usize),
    /// Copies to the host.
    Return(Vec<Transfer>),
    /// Uses the block.
    Compute,
    /// Holds the host.
    HostSync,
}

/// One copy.
pub(super) struct Transfer {
    /// The piece it belongs to.
    pub piece: usize,
    /// Its first byte in host memory, where it has a place of its own there.
    pub host: *mut u8,
    /// Whether it comes from the ring that reads from disk go to.
    pub from_ring: bool,
    /// Its first byte in the piece.
    pub offset: u64,
    /// How many bytes.
    pub bytes: usize,
}

impl Transfer {
    /// Bytes of the piece before it.
    pub fn skipped(&self) -> usize {
        usize::try_from(self.offset).unwrap_or(usize::MAX)
    }
}

/// The steps of a phase, in order of issue, with what later phases wait for.
pub(super) fn steps(
    phase: &Phase,
    image: &ComponentImage,
    arena: &Arena,
    exits: &Exits,
) -> Vec<Step> {
    let ops = &phase.schedule.ops;
    let mut steps = Vec::with_capacity(ops.len());
    for op in ops {
        let piece = op.piece.unwrap_or(0);
        let action = match op.kind {
            OpKind::Copy => Action::Copy(transfers(image, arena, op.block, std::iter::once(piece))),
            OpKind::Read => Action::Read(piece),
            OpKind::WriteBack => {
                let pieces = image.blocks[op.block].pieces.iter().enumerate();
                let back = pieces.filter(|(_, piece)| piece.returns).map(|(n, _)| n);
                Action::Return(transfers(image, arena, op.block, back))
            }
            OpKind::Compute => Action::Compute,
            OpKind::HostSync => Action::HostSync,
        };
        let elsewhere =
            |wait: &&Wait| ops[wait.op].lane != op.lane && ops[wait.op].lane != Lane::Host;
        let waits = op.waits.iter().filter(elsewhere).copied().collect();
        let n = steps.len();
        let (awaited, counted) = (exits.streams.contains_key(&n), exits.reads.contains_key(&n));
        steps.push(Step { lane: op.lane, block: op.block, action, waits, awaited, counted });
    }
    for n in 0..steps.len() {
        for wait in steps[n].waits.clone() {
            match steps[n].action {
                Action::Read(_) => steps[wait.op].counted = true,
                _ => steps[wait.op].awaited = true,
            }
        }
    }
    steps
}

/// The copies that bring pieces of a block in, or back.
fn transfers(
    image: &ComponentImage,
    arena: &Arena,
    block: usize,
    pieces: impl Iterator<Item = usize>,
) -> Vec<Transfer> {
    let mut transfers = Vec::new();
    for piece in pieces {
        let of = &image.blocks[block].pieces[piece];
        let start = arena.address(arena.places[block][piece]);
        // As many nearly equal copies as the plan counts on; the first ones take a byte more.
        let bytes = of.bytes();
        let copies = u64::from(of.copies.max(1)).min(bytes.max(1));
        let (each, more) = (bytes / copies, bytes % copies);
        let mut offset = 0;
        for n in 0..copies {
            let length = usize::try_from(each + u64::from(n < more)).unwrap_or(usize::MAX);
            let host = start.wrapping_add(usize::try_from(offset).unwrap_or(usize::MAX));
            let from_ring = of.memory == HostMemory::Disk;
            transfers.push(Transfer { piece, host, from_ring, offset, bytes: length });
            offset += length as u64;
        }
    }
    transfers
}

/// The slab's offset of a piece in a pass.
pub(super) fn offset(place: &Place, pass: u32) -> u64 {
    place.range(pass).0
}
