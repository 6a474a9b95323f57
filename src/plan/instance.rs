//! Turns a manifest's component, its compute times, a device and a budget into the numbers that planning needs.

use super::slice::Slice;
use crate::device::DeviceSpec;
use crate::model::{Component, Dtype, Manifest, Phase, TensorSpec, Weights, phase_of};
use crate::units::{Bytes, Nanos};
use crate::workload::{ComponentCosts, UseCost};

/// A planning problem: uses in order of execution, the bytes they may hold, the link they come over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// One pass, in order. A use without bytes is pure compute.
    pub uses: Vec<Use>,
    /// Bytes that the blocks may hold at any instant: the weights budget less the root.
    pub budget: Bytes,
    /// The device: its link to the host and the alignment of offsets.
    pub device: DeviceSpec,
}

/// One use of a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Use {
    /// The block's id without its component.
    pub block: String,
    /// Its size.
    pub bytes: Bytes,
    /// The time of one use.
    pub compute: Nanos,
    /// The part of it in which its collectives hold the host's link.
    pub on_link: Nanos,
    /// What it may be split into, in the order of a copy: its tensors. Empty for an indivisible block.
    pub parts: Vec<BlockPart>,
}

/// A tensor of a block, as planning sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockPart {
    /// Its name inside the block.
    pub name: String,
    /// Its size.
    pub bytes: Bytes,
    /// The size of one row: where it may be cut. Its whole size where it may not.
    pub row: Bytes,
    /// Its share of the block's compute.
    pub compute: Nanos,
    /// The phase of the block that uses it.
    pub phase: usize,
}

impl BlockPart {
    /// A tensor that is used as a whole.
    pub fn whole(name: impl Into<String>, bytes: Bytes) -> Self {
        Self { name: name.into(), bytes, row: bytes, compute: Nanos::ZERO, phase: 0 }
    }

    /// A tensor that may be cut between any two rows of so many bytes.
    pub fn rows(name: impl Into<String>, bytes: Bytes, row: Bytes) -> Self {
        Self { row, ..Self::whole(name, bytes) }
    }

    /// A tensor of a manifest.
    fn of(tensor: &TensorSpec) -> Self {
        let bytes = tensor.bytes().unwrap_or_default();
        let rows = if has_rows(tensor) { tensor.shape().first().copied().unwrap_or(1) } else { 1 };
        // Where rows do not fill whole storage units the tensor stays in one piece.
        let whole = rows > 0 && bytes.get().is_multiple_of(rows);
        let row = if whole { Bytes::new(bytes.get() / rows) } else { bytes };
        Self::rows(tensor.name(), bytes, row)
    }
}

/// Whether the outermost dimension counts outputs, so that the tensor can be used a range of rows at a time: a
/// product gives a range of its columns, a bias or a norm a range of its elements.
///
/// Weights packed into a flat `[n, 1]` or into 32-bit words (GPTQ, AWQ pack along the inputs) do not show their
/// rows; they stay whole.
fn has_rows(tensor: &TensorSpec) -> bool {
    let words = matches!(tensor.dtype(), Dtype::I32 | Dtype::U32 | Dtype::I64 | Dtype::U64);
    !words && tensor.shape().get(1).is_none_or(|&inner| inner > 1)
}

/// The tensors of a block or root, in the order of a copy, and the compute of one use divided among them: as their
/// own estimates stand to each other, or where nothing is estimated as their bytes do.
pub fn parts_of(weights: &Weights, phases: &[Phase], cost: &UseCost) -> Vec<BlockPart> {
    let mut parts: Vec<BlockPart> = weights.tensors().iter().map(BlockPart::of).collect();
    let estimated = cost.by_tensor.iter().any(|time| !time.is_zero());
    let weight = |n: usize, part: &BlockPart| match estimated {
        true => cost.by_tensor.get(n).map_or(0, |time| time.get()),
        false => part.bytes.get(),
    };
    let all: u128 = parts.iter().enumerate().map(|(n, part)| u128::from(weight(n, part))).sum();
    let (mut before, mut spent) = (0u128, 0u64);
    for (n, part) in parts.iter_mut().enumerate() {
        before += u128::from(weight(n, part));
        let until = u128::from(cost.time.get()) * before / all.max(1);
        let until = u64::try_from(until).unwrap_or(cost.time.get());
        part.compute = Nanos::new(until - spent);
        part.phase = phase_of(phases, &part.name);
        spent = until;
    }
    parts
}

/// Bytes `from..to` of a block laid flat, its tensors one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// The first byte.
    pub from: u64,
    /// The byte after the last.
    pub to: u64,
}

impl Run {
    /// Its size.
    pub fn bytes(self) -> Bytes {
        Bytes::new(self.to.saturating_sub(self.from))
    }
}

impl Use {
    /// The place nearest to `target` where the block may be cut: between two rows of a tensor, between two
    /// tensors, before or after all of it.
    pub fn cut_near(&self, target: u64) -> u64 {
        let (low, high) = self.cuts_around(target);
        if target - low <= high - target { low } else { high }
    }

    /// The last place not after `target` where the block may be cut.
    pub fn cut_before(&self, target: u64) -> u64 {
        self.cuts_around(target).0
    }

    /// The first place not before `target` where the block may be cut.
    pub fn cut_after(&self, target: u64) -> u64 {
        self.cuts_around(target).1
    }

    /// The places to cut on both sides of `target`; both are `target` where it is one.
    fn cuts_around(&self, target: u64) -> (u64, u64) {
        let target = target.min(self.bytes.get());
        let mut start = 0;
        for part in &self.parts {
            let end = start + part.bytes.get();
            if target < end {
                let row = part.row.get().max(1);
                let low = start + (target - start) / row * row;
                return (low, if low == target { low } else { (low + row).min(end) });
            }
            start = end;
        }
        let indivisible = self.parts.is_empty() && target > 0 && target < self.bytes.get();
        if indivisible { (0, self.bytes.get()) } else { (target, target) }
    }

    /// The tensors, or ranges of their rows, that lie in a run.
    pub fn slices(&self, run: Run) -> Vec<Slice> {
        let mut start = 0;
        let mut slices = Vec::new();
        for part in &self.parts {
            let end = start + part.bytes.get();
            let (from, to) = (run.from.max(start), run.to.min(end));
            let row = part.row.get().max(1);
            if from < to {
                let whole = (from, to) == (start, end);
                let rows = (!whole).then(|| ((from - start) / row, (to - start) / row));
                slices.push(Slice { tensor: part.name.clone(), rows });
            }
            start = end;
        }
        slices
    }
}

impl Instance {
    /// The blocks of a component under what the budget leaves after its root.
    ///
    /// The root always stays. Its compute is part of every pass, before the first block, so it becomes a use
    /// without bytes; where it computes nothing there is no such use.
    pub fn of(
        manifest: &Manifest,
        component: &Component,
        costs: &ComponentCosts,
        device: &DeviceSpec,
        weights: Bytes,
    ) -> Self {
        let mut uses = Vec::new();
        if !costs.root.time.is_zero() {
            let block = super::spec::ROOT.to_owned();
            let (bytes, compute, on_link) = (Bytes::ZERO, costs.root.time, costs.root.on_link);
            uses.push(Use { block, bytes, compute, on_link, parts: Vec::new() });
        }
        for (block, cost) in component.blocks(manifest).iter().zip(&costs.blocks) {
            let bytes = block.bytes();
            let parts = parts_of(&block.kind.weights, &block.kind.phases, cost);
            let (compute, on_link) = (cost.time, cost.on_link);
            uses.push(Use { block: block.local_id(), bytes, compute, on_link, parts });
        }
        let root = component.root.bytes().align_up(device.alignment);
        Self { uses, budget: weights.saturating_sub(root), device: device.clone() }
    }

    /// Equal blocks on [`DeviceSpec::reference`]: one byte per nanosecond, no latency. For examples and tests.
    pub fn equal(count: u64, bytes: u64, compute: u64, budget: u64) -> Self {
        let made = |n| Use {
            block: format!("blocks.{n}"),
            bytes: Bytes::new(bytes),
            compute: Nanos::new(compute),
            on_link: Nanos::ZERO,
            parts: Vec::new(),
        };
        let budget = Bytes::new(budget);
        Self { uses: (0..count).map(made).collect(), budget, device: DeviceSpec::reference() }
    }

    /// The time of a pass in which collectives hold the host's link.
    pub fn on_link(&self) -> Nanos {
        self.uses.iter().map(|used| used.on_link).fold(Nanos::ZERO, Nanos::saturating_add)
    }

    /// The least that plans need: room for the largest use.
    pub fn smallest(&self) -> Bytes {
        (0..self.uses.len()).map(|n| self.aligned(n)).max().unwrap_or_default()
    }

    /// The bytes that a use takes in the slab.
    pub fn aligned(&self, n: usize) -> Bytes {
        self.uses[n].bytes.align_up(self.device.alignment)
    }
}
