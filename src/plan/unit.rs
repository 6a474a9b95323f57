//! Turns a component into the units that are brought in and released as one: blocks, phases of blocks, leaf modules.
//!
//! The compute of a block is divided among its units as its tensors' own estimates stand to each other
//! ([`parts_of`](super::instance::parts_of)).

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::ROOT;
use super::instance::{BlockPart, Use};
use super::layout::ComponentInput;
pub use crate::figures::Unit;
use crate::units::{Bytes, Nanos};

/// The name of the leaf that holds a block's own tensors, those of no module in it. No module is called so.
pub const OWN: &str = "_own_";

impl ComponentInput {
    /// The same component with these units as uses: what is planned and bounded then holds a unit, not a block,
    /// while it computes. With leaf units nothing of the root has to stay.
    pub fn at(&self, unit: Unit) -> Cow<'_, Self> {
        if unit == self.unit {
            return Cow::Borrowed(self);
        }
        let mut input = Self { unit, ..self.clone() };
        let streams = |piece: &Piece| unit == Unit::Leaf || !piece.is_root();
        let uses = units(self, unit).into_iter().map(|piece| Use {
            bytes: if streams(&piece) { piece.bytes } else { Bytes::ZERO },
            parts: if streams(&piece) { piece.tensors } else { Vec::new() },
            block: piece.name,
            compute: piece.compute,
            on_link: piece.on_link,
        });
        input.instance.uses = uses.collect();
        if unit == Unit::Leaf {
            input.instance.budget = self.weights();
            (input.root, input.root_parts) = (Bytes::ZERO, Vec::new());
        }
        Cow::Owned(input)
    }
}

/// A unit of a component.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Piece {
    /// Its name in the plan: the block's, or the block's with a part appended.
    pub(super) name: String,
    pub(super) bytes: Bytes,
    pub(super) compute: Nanos,
    /// The part of it in which its collectives hold the host's link.
    pub(super) on_link: Nanos,
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
            on_link: computes.map_or(Nanos::ZERO, |root| root.on_link),
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
            on_link: used.on_link,
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
    let stored = block.tensors.iter().map(|tensor| tensor.bytes).sum::<Bytes>();
    if unit == Unit::Block || stored != block.bytes || block.bytes.is_zero() {
        pieces.push(block);
        return;
    }
    let mut parts: Vec<(String, usize, Vec<BlockPart>)> = Vec::new();
    for tensor in &block.tensors {
        let (name, phase) = match unit {
            Unit::Phase => (format!("phase{}", tensor.phase), tensor.phase),
            _ => (tensor.name.rsplit_once('.').map_or("", |(module, _)| module).to_owned(), 0),
        };
        match parts.iter_mut().find(|(known, ..)| *known == name) {
            Some((.., tensors)) => tensors.push(tensor.clone()),
            None => parts.push((name, phase, vec![tensor.clone()])),
        }
    }
    parts.sort_by_key(|&(_, phase, _)| phase);
    // Where the compute of the block is not divided among its tensors, bytes divide it.
    let divided = block.tensors.iter().any(|tensor| !tensor.compute.is_zero());
    let weight = |tensors: &[BlockPart]| -> u128 {
        let weight = |t: &BlockPart| if divided { t.compute.get() } else { t.bytes.get() };
        tensors.iter().map(|tensor| u128::from(weight(tensor))).sum()
    };
    let all = weight(&block.tensors).max(1);
    let (mut before, mut spent) = (0, (0, 0));
    for (n, (part, phase, tensors)) in parts.into_iter().enumerate() {
        let bytes: Bytes = tensors.iter().map(|tensor| tensor.bytes).sum();
        before += weight(&tensors);
        let share = |whole: Nanos| {
            let until = u128::from(whole.get()) * before / all;
            u64::try_from(until).unwrap_or(u64::MAX)
        };
        let until = (share(block.compute), share(block.on_link));
        // The root keeps its name for the first of its parts: plans know it by that.
        let name = match (block.is_root() && n == 0, part.is_empty()) {
            (true, _) => ROOT.to_owned(),
            (_, true) => format!("{}.{OWN}", block.name),
            _ => format!("{}.{part}", block.name),
        };
        let compute = Nanos::new(until.0 - spent.0);
        let on_link = Nanos::new(until.1 - spent.1).min(compute);
        pieces.push(Piece { name, bytes, compute, on_link, tensors, list: block.list, phase });
        spent = until;
    }
}
