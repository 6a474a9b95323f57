//! Turns a component into the units that a policy brings in and releases: blocks, phases of blocks, leaf modules.
//!
//! The compute of a block is shared among its units in proportion to their bytes: products cost in proportion to
//! the weights they multiply by, and what has no weights (attention scores) is spread with them.

use std::collections::BTreeMap;

use super::recipe::Unit;
use crate::plan::ROOT;
use crate::plan::instance::BlockPart;
use crate::plan::layout::ComponentInput;
use crate::units::{Bytes, Nanos};

/// Words in tensor names by which the phases of a block are told apart, in their order of execution: LightX2V
/// splits blocks into self-attention, cross-attention and feed-forward.
pub(super) const PHASES: [&[&str]; 3] = [
    &[],
    &["attn2", "cross_attn", "cross_attention"],
    &["ffn", "mlp", "ff", "ff_context", "feed_forward", "proj_mlp", "proj_out"],
];

/// What a policy brings in and releases as one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Piece {
    /// Its name in the plan: the block's, or the block's with a part appended.
    pub(super) name: String,
    pub(super) bytes: Bytes,
    pub(super) compute: Nanos,
    /// Its tensors, in the order of a copy; empty where it is indivisible.
    pub(super) tensors: Vec<BlockPart>,
    /// Number of its list, in the order of execution; none for the root.
    pub(super) list: Option<usize>,
    /// Number of its phase.
    pub(super) phase: usize,
}

impl Piece {
    /// Copies it takes when every tensor has its own.
    pub(super) fn copies(&self) -> u32 {
        let stored = self.tensors.iter().filter(|tensor| !tensor.bytes.is_zero()).count();
        u32::try_from(stored.max(1)).unwrap_or(u32::MAX)
    }

    pub(super) fn is_root(&self) -> bool {
        self.list.is_none()
    }
}

/// The units of one pass in order of execution; the root first, where there is one.
pub(super) fn units(input: &ComponentInput, unit: Unit) -> Vec<Piece> {
    let instance = &input.instance;
    let mut lists: BTreeMap<&str, usize> = BTreeMap::new();
    let mut pieces = Vec::new();
    let computes = instance.uses.first().filter(|first| first.block == ROOT);
    if computes.is_some() || !input.root.is_zero() {
        let root = Piece {
            name: ROOT.to_owned(),
            bytes: input.root,
            compute: computes.map_or(Nanos::ZERO, |root| root.compute),
            tensors: input.root_parts.clone(),
            list: None,
            phase: 0,
        };
        add(&mut pieces, root, if unit == Unit::Leaf { Unit::Leaf } else { Unit::Block });
    }
    for used in instance.uses.iter().skip(usize::from(computes.is_some())) {
        let list = used.block.rsplit_once('.').map_or(used.block.as_str(), |(list, _)| list);
        let next = lists.len();
        let block = Piece {
            name: used.block.clone(),
            bytes: used.bytes,
            compute: used.compute,
            tensors: used.parts.clone(),
            list: Some(*lists.entry(list).or_insert(next)),
            phase: 0,
        };
        add(&mut pieces, block, unit);
    }
    pieces
}

/// Adds a block, split as asked; what cannot be split goes in whole.
fn add(pieces: &mut Vec<Piece>, block: Piece, unit: Unit) {
    let mut parts: Vec<(String, usize, Vec<BlockPart>)> = Vec::new();
    let stored = block.tensors.iter().map(|tensor| tensor.bytes).sum::<Bytes>();
    if unit == Unit::Block || stored != block.bytes || block.bytes.is_zero() {
        pieces.push(block);
        return;
    }
    for tensor in &block.tensors {
        let (name, phase) = match unit {
            Unit::Phase => (format!("phase{}", phase_of(&tensor.name)), phase_of(&tensor.name)),
            _ => (tensor.name.rsplit_once('.').map_or("", |(module, _)| module).to_owned(), 0),
        };
        match parts.iter_mut().find(|(known, ..)| *known == name) {
            Some((.., tensors)) => tensors.push(tensor.clone()),
            None => parts.push((name, phase, vec![tensor.clone()])),
        }
    }
    parts.sort_by_key(|&(_, phase, _)| phase);
    let (mut before, mut spent) = (0u128, 0u64);
    for (n, (part, phase, tensors)) in parts.into_iter().enumerate() {
        let bytes: Bytes = tensors.iter().map(|tensor| tensor.bytes).sum();
        before += u128::from(bytes.get());
        let until = u128::from(block.compute.get()) * before / u128::from(block.bytes.get());
        let until = u64::try_from(until).unwrap_or(u64::MAX);
        // The root keeps its name for the first of its parts: plans know it by that.
        let name = match (block.is_root() && n == 0, part.is_empty()) {
            (true, _) => ROOT.to_owned(),
            (_, true) => format!("{}.self", block.name),
            _ => format!("{}.{part}", block.name),
        };
        let compute = Nanos::new(until - spent);
        pieces.push(Piece { name, bytes, compute, tensors, list: block.list, phase });
        spent = until;
    }
}

/// The phase of a block, from 0, in which a tensor is used.
pub fn phase_of(tensor: &str) -> usize {
    let named = |words: &[&str]| tensor.split('.').any(|part| words.contains(&part));
    PHASES.iter().rposition(|words| named(words)).unwrap_or(0)
}
