//! Turns a laid out plan and the homes of its copies into one that says where every byte comes from, and the ring.
//!
//! ```text
//! pass 0   reads of what stays, chunk by chunk around the ring, then as every pass
//! every    read k ──▶ copy k: reads go around the ring in the order of the copies, each waiting for the copy that
//!                     last took its place
//! ```

use std::collections::{BTreeMap, VecDeque};

use super::shares::{Homes, chunks};
use super::{Allocator, CopyRef, HostBudget, HostUse, Staging};
use crate::plan::instance::{Run, Use};
use crate::plan::layout::ComponentInput;
use crate::plan::placement::{self, Streamed};
use crate::plan::spec::{BlockPlan, ComponentPlan, HostMemory, Part, Piece, ROOT, Residency};
use crate::units::{Bytes, Nanos};

/// Cuts that are tried to find one at which a piece may begin in the slab.
const TRIES: usize = 512;

/// Gives every piece its home and its place in a ring of so many bytes; none where the ring is too small. What
/// stays is read from disk in chunks of at most half the ring.
pub(super) fn stage(
    input: &ComponentInput,
    mut plan: ComponentPlan,
    homes: &Homes,
    host: &HostBudget,
    ring: u64,
) -> Option<ComponentPlan> {
    let alignment = input.instance.device.alignment.max(1);
    let mut from = homes.from.iter().flatten();
    for piece in plan.blocks.iter_mut().flat_map(|block| &mut block.pieces) {
        if let Residency::Streamed(stream) = &mut piece.residency {
            stream.from = *from.next()?;
        }
    }
    let half = (ring / 2 / alignment * alignment).max(alignment);
    split_residents(input, &mut plan, half);
    let used = stage_residents(&mut plan, ring, alignment)?;
    let used = used.max(stage_streams(&mut plan, ring, alignment)?);
    plan.host = Some(used_of(&plan, alignment, host.bytes, Bytes::new(used)));
    Some(plan)
}

/// What a plan's pieces need of the host.
pub(in crate::plan) fn used_of(
    plan: &ComponentPlan,
    alignment: u64,
    budget: Bytes,
    ring: Bytes,
) -> HostUse {
    let (mut pinned, mut pageable, mut disk) = (Bytes::ZERO, Bytes::ZERO, Bytes::ZERO);
    for piece in plan.blocks.iter().flat_map(|block| &block.pieces) {
        let kept = piece.bytes.align_up(alignment);
        match piece.home() {
            HostMemory::Pinned => pinned = pinned.saturating_add(kept),
            HostMemory::Pageable => pageable = pageable.saturating_add(kept),
            HostMemory::Disk if piece.residency == Residency::Resident => {}
            HostMemory::Disk => disk = disk.saturating_add(piece.bytes),
        }
    }
    let allocator = Allocator::Pages;
    let locked = allocator.locked(pinned).saturating_add(allocator.locked(ring));
    HostUse { budget, pinned, pageable, disk, ring, locked, allocator }
}

/// Cuts what stays into chunks of at most so many bytes, each at a place where a piece may begin.
fn split_residents(input: &ComponentInput, plan: &mut ComponentPlan, most: u64) {
    let root = Use {
        block: ROOT.to_owned(),
        bytes: input.root,
        compute: Nanos::ZERO,
        on_link: Nanos::ZERO,
        parts: input.root_parts.clone(),
    };
    let uses = input.instance.uses.iter();
    let by_name: BTreeMap<&str, &Use> = uses.map(|used| (used.block.as_str(), used)).collect();
    for block in &mut plan.blocks {
        let own = (!input.root.is_zero() && block.block == ROOT).then_some(&root);
        let Some(used) = own.or_else(|| by_name.get(block.block.as_str()).copied()) else {
            continue;
        };
        let stored: Bytes = used.parts.iter().map(|part| part.bytes).sum();
        if stored == used.bytes {
            split(used, block, most, input.instance.device.alignment.max(1));
        }
    }
}

/// Cuts the resident piece of a block; it is what lies before the streamed tail.
fn split(used: &Use, block: &mut BlockPlan, most: u64, alignment: u64) {
    let Some(n) = block.pieces.iter().position(|p| p.residency == Residency::Resident) else {
        return;
    };
    let whole = Run { from: 0, to: block.pieces[n].bytes.get() };
    let runs = aligned_chunks(used, whole, most, alignment);
    if runs.len() < 2 {
        return;
    }
    let at = block.pieces[n].at.first().copied().unwrap_or(0);
    let resident =
        |run: Run| Piece::resident(Part::Tensors(used.slices(run)), run.bytes(), at + run.from);
    let pieces: Vec<Piece> = runs.into_iter().map(resident).collect();
    block.pieces.splice(n..=n, pieces);
}

/// Chunks that begin at multiples of the alignment. Where a cut is none, the next ones before it are tried, then
/// those after it.
fn aligned_chunks(used: &Use, run: Run, most: u64, alignment: u64) -> Vec<Run> {
    if alignment == 1 {
        return chunks(used, run, most);
    }
    let fits = |cut: u64| cut.is_multiple_of(alignment);
    let (mut from, mut runs) = (run.from, Vec::new());
    while run.to - from > most {
        let mut cut = used.cut_before(from + most);
        for _ in 0..TRIES {
            if cut <= from || fits(cut) {
                break;
            }
            cut = used.cut_before(cut - 1);
        }
        if cut <= from || !fits(cut) {
            cut = used.cut_after(from + most);
            for _ in 0..TRIES {
                if cut >= run.to || fits(cut) {
                    break;
                }
                cut = used.cut_after(cut + 1);
            }
        }
        if cut >= run.to || !fits(cut) {
            break;
        }
        runs.push(Run { from, to: cut });
        from = cut;
    }
    runs.push(Run { from, to: run.to });
    runs
}

/// Places what stays around the ring, once. Gives the bytes of the ring that are used.
fn stage_residents(plan: &mut ComponentPlan, ring: u64, alignment: u64) -> Option<u64> {
    let mut live: VecDeque<(u64, u64, CopyRef)> = VecDeque::new();
    let (mut next, mut highest) = (0u64, 0u64);
    for block in &mut plan.blocks {
        for (n, piece) in block.pieces.iter_mut().enumerate() {
            if piece.residency != Residency::Resident || piece.bytes.is_zero() {
                continue;
            }
            let bytes = piece.bytes.align_up(alignment).get();
            if bytes > ring {
                return None;
            }
            let at = if next + bytes > ring { 0 } else { next };
            next = at + bytes;
            highest = highest.max(next);
            let overlapped = live.iter().rposition(|&(from, to, _)| from < next && at < to);
            let after = overlapped.and_then(|last| live.drain(..=last).next_back());
            let own = CopyRef { block: block.block.clone(), piece: n, passes_back: 0 };
            live.push_back((at, next, own));
            piece.staged = Some(Staging { at: vec![at], after: after.map(|(.., copy)| copy) });
        }
    }
    Some(highest)
}

/// Places what comes from disk in every pass. Gives the bytes of the ring that are used.
fn stage_streams(plan: &mut ComponentPlan, ring: u64, alignment: u64) -> Option<u64> {
    let mut names: Vec<CopyRef> = Vec::new();
    let mut reads: Vec<Streamed> = Vec::new();
    for block in &plan.blocks {
        for (piece, what) in block.pieces.iter().enumerate() {
            let streams = what.residency != Residency::Resident;
            if streams && what.home() == HostMemory::Disk {
                let bytes = what.bytes.align_up(alignment).get();
                reads.push(Streamed { user: reads.len(), bytes, copy: 0 });
                names.push(CopyRef { block: block.block.clone(), piece, passes_back: 0 });
            }
        }
    }
    if reads.is_empty() {
        return Some(0);
    }
    let places = placement::ring(&reads, ring)?;
    let mut placed = (0..reads.len()).map(|read| places.placed(read));
    for block in &mut plan.blocks {
        for piece in &mut block.pieces {
            let streams = piece.residency != Residency::Resident;
            if streams && piece.home() == HostMemory::Disk {
                let place = placed.next()?;
                let after = place.after.and_then(|(read, passes_back)| {
                    Some(CopyRef { passes_back, ..names.get(read)?.clone() })
                });
                piece.staged = Some(Staging { at: place.at, after });
            }
        }
    }
    Some(places.window)
}
