//! Turns a policy's plan into the host memory that its engine takes for it, as its allocator locks it.
//!
//! Our own plans lock one arena in pages. Engines ask per block or per tensor, most of them through PyTorch, which rounds
//! each request to a power of two; some keep a copy of what stays in VRAM, too. Memory while weights are loaded is
//! not counted, for anyone. What is read, not measured, says so (`inferred`).

use super::catalogue::Spec;
use crate::plan::spec::{BlockPlan, ComponentPlan, HostMemory, Part, Residency};
use crate::plan::tiers::{Allocator, HostNeed};
use crate::plan::unit::Piece as Unit;
use crate::units::Bytes;

/// What one request for host memory is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Request {
    /// All of it.
    Arena,
    /// A block: one flat buffer.
    Block,
    /// A tensor.
    Tensor,
}

/// How an engine holds weights on the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Store {
    request: Request,
    allocator: Allocator,
    /// Whether it keeps a copy of what stays in VRAM.
    residents: bool,
    /// Whether the whole component lies on the host while others are in use.
    whole: bool,
    /// Whether this was inferred rather than read.
    inferred: bool,
}

impl Store {
    const fn of(request: Request, allocator: Allocator) -> Self {
        Self { request, allocator, residents: false, whole: false, inferred: false }
    }

    const fn and_residents(self) -> Self {
        Self { residents: true, ..self }
    }

    const fn inferred(self) -> Self {
        Self { inferred: true, ..self }
    }
}

/// The store of a policy's engine.
fn store(policy: &str) -> Store {
    use Allocator::{LargeInPlace, Pages, PowerOfTwo};
    let torch = Store::of(Request::Tensor, PowerOfTwo);
    match policy {
        // Flat buffers per layer and dtype, registered in place (sgl-project/sglang#39021); the copy of resident layers
        // is kept (sgl-project/sglang#40599 is about dropping it).
        "sglang-layerwise" | "sglang-leading" | "sglang-strided" => {
            Store::of(Request::Block, LargeInPlace).and_residents()
        }
        // Flat pinned buffers per block.
        "vllm-omni" => Store::of(Request::Block, PowerOfTwo).and_residents(),
        "vllm-omni-model" | "diffusers-model" => {
            Store { whole: true, ..Store::of(Request::Tensor, Pages) }
        }
        // One pinned arena; per tensor in the manager of early 2026.
        "fastvideo" => Store::of(Request::Arena, Pages).and_residents(),
        "fastvideo-first" | "diffusers-stream" | "diffusers-record" => torch.and_residents(),
        // Registered in place.
        "comfy-lowvram" => Store::of(Request::Tensor, Pages),
        // One flat pinned copy per block.
        "musubi-ring" => Store::of(Request::Block, PowerOfTwo).inferred(),
        // 1.9 times what is asked for, from this rounding (vllm-project/vllm#56410).
        "vllm-group" => torch,
        "nunchaku" | "lightx2v-block" | "lightx2v-phase" | "torchoffload-lru" | "zero3" => {
            torch.and_residents().inferred()
        }
        "flexgen" | "musubi-classic" | "cachedit" | "mmgp" => torch.inferred(),
        _ => Store::of(Request::Arena, Pages),
    }
}

impl Spec {
    /// Whether the host memory of its engine was inferred rather than read.
    pub fn host_inferred(&self) -> bool {
        store(self.name).inferred
    }
}

/// What a policy's engine takes of the host. `units` are what the policy brings in and releases as one.
pub(super) fn need(policy: &str, plan: &ComponentPlan, units: &[Unit]) -> HostNeed {
    let store = store(policy);
    let mut sum = Sum { store, pinned: Bytes::ZERO, locked: Bytes::ZERO, pageable: Bytes::ZERO };
    if store.whole {
        sum.pageable = plan.blocks.iter().map(|block| block.bytes).sum();
    }
    if units.len() == plan.blocks.len() {
        let streams = |n: usize| !plan.blocks[n].streamed_bytes().is_zero();
        // Only lists that stream are on the host at all.
        let lists: Vec<usize> = units
            .iter()
            .enumerate()
            .filter(|&(n, _)| streams(n))
            .filter_map(|(_, unit)| unit.list)
            .collect();
        let from = plan.blocks.iter().find_map(first_home).unwrap_or_default();
        for (block, unit) in plan.blocks.iter().zip(units) {
            let listed = unit.list.is_some_and(|list| lists.contains(&list));
            let all = store.residents && listed;
            sum.add(block, unit, all, first_home(block).unwrap_or(from));
        }
    } else {
        // Our own plans have no units. Without a budget for the host all of a component lies in one arena; with one,
        // what is kept is what the pieces say.
        sum.pinned = plan.blocks.iter().map(|block| block.bytes).sum();
        if let Some(used) = plan.host {
            let (pinned, locked, pageable) = (used.pinned, used.locked, used.pageable);
            sum = Sum { store, pinned, locked, pageable };
        }
    }
    let locked = match store.request {
        Request::Arena if sum.locked.is_zero() => store.allocator.locked(sum.pinned),
        _ => sum.locked,
    };
    HostNeed {
        pinned: sum.pinned,
        locked,
        pageable: sum.pageable,
        allocator: store.allocator,
        keeps_residents: store.residents || units.is_empty() && plan.host.is_none(),
    }
}

fn first_home(block: &BlockPlan) -> Option<HostMemory> {
    let streamed = |piece: &&crate::plan::Piece| piece.residency != Residency::Resident;
    block.pieces.iter().find(streamed).map(crate::plan::Piece::home)
}

struct Sum {
    store: Store,
    pinned: Bytes,
    locked: Bytes,
    pageable: Bytes,
}

impl Sum {
    /// Adds what of a block lies on the host: what streams, or `all` of it.
    fn add(&mut self, block: &BlockPlan, unit: &Unit, all: bool, from: HostMemory) {
        let kept = if all { block.bytes } else { block.streamed_bytes() };
        if kept.is_zero() {
            return;
        }
        if from == HostMemory::Pageable {
            self.pageable = self.pageable.saturating_add(kept);
            return;
        }
        self.pinned = self.pinned.saturating_add(kept);
        let allocator = self.store.allocator;
        let locked = match self.store.request {
            Request::Arena => Bytes::ZERO,
            Request::Tensor if !unit.tensors.is_empty() => {
                let tensors = unit.tensors.iter().filter(|t| all || streams(block, &t.name));
                tensors.map(|tensor| allocator.locked(tensor.bytes)).sum()
            }
            Request::Block | Request::Tensor => allocator.locked(kept),
        };
        self.locked = self.locked.saturating_add(locked);
    }
}

/// Whether a tensor of a block streams.
fn streams(block: &BlockPlan, tensor: &str) -> bool {
    let named = |part: &Part| match part {
        Part::All | Part::Rest => true,
        Part::Tensors(slices) => slices.iter().any(|slice| slice.tensor == tensor),
    };
    let mut streamed = block.pieces.iter().filter(|p| p.residency != Residency::Resident);
    streamed.any(|piece| named(&piece.part))
}
