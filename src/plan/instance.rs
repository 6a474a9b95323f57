//! Turns a manifest's component, its compute times, a device and a budget into the numbers that planning needs.

use crate::device::DeviceSpec;
use crate::error::Infeasible;
use crate::model::{Component, Manifest, TensorSpec, Weights};
use crate::units::{Bytes, Nanos};
use crate::workload::ComponentCosts;

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
}

/// The tensors of a block or root, in the order of a copy.
pub fn parts_of(weights: &Weights) -> Vec<BlockPart> {
    let part = |tensor: &TensorSpec| BlockPart {
        name: tensor.name().to_owned(),
        bytes: tensor.bytes().unwrap_or_default(),
    };
    weights.tensors().iter().map(part).collect()
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
    ) -> Result<Self, Infeasible> {
        let mut uses = Vec::new();
        if !costs.root.time.is_zero() {
            let block = super::spec::ROOT.to_owned();
            let (bytes, compute) = (Bytes::ZERO, costs.root.time);
            uses.push(Use { block, bytes, compute, parts: Vec::new() });
        }
        for (block, cost) in component.blocks(manifest).iter().zip(&costs.blocks) {
            let bytes = block.bytes();
            let parts = parts_of(&block.kind.weights);
            uses.push(Use { block: block.local_id(), bytes, compute: cost.time, parts });
        }
        let alignment = device.alignment;
        let root = component.root.bytes().align_up(alignment);
        let needs = smallest(&uses, alignment).saturating_add(root);
        if needs > weights {
            return Err(Infeasible {
                needed: needs,
                available: weights,
                shortfall: needs.saturating_sub(weights),
                smallest_budget: needs,
                because: component.name.clone(),
            });
        }
        let budget = weights.saturating_sub(root);
        Ok(Self { uses, budget, device: device.clone() })
    }

    /// Equal blocks on [`DeviceSpec::reference`]: one byte per nanosecond, no latency. For examples and tests.
    pub fn equal(count: u64, bytes: u64, compute: u64, budget: u64) -> Self {
        let made = |n| Use {
            block: format!("blocks.{n}"),
            bytes: Bytes::new(bytes),
            compute: Nanos::new(compute),
            parts: Vec::new(),
        };
        let budget = Bytes::new(budget);
        Self { uses: (0..count).map(made).collect(), budget, device: DeviceSpec::reference() }
    }

    /// The bytes that a use takes in the slab.
    pub fn aligned(&self, n: usize) -> Bytes {
        self.uses[n].bytes.align_up(self.device.alignment)
    }
}

/// The least that whole-block plans need: one slot for the largest block (or all of them, if that is less).
fn smallest(uses: &[Use], alignment: u64) -> Bytes {
    uses.iter().map(|u| u.bytes.align_up(alignment)).max().unwrap_or_default()
}
