//! Turns tensor names into block lists: `transformer_blocks.7.attn.to_q.weight` is a tensor of block 7.
//!
//! A path is a block list when what follows it is an index, the indices run from 0 without a gap, and every
//! block holds names deeper than one leaf. So `net.0.weight`, a chain of single operations, is none. Where
//! lists nest, the outermost wins: `encoder.block.3.layer.1` belongs to block 3 of `encoder.block`.

use std::collections::{BTreeMap, BTreeSet};

use super::stored::Stored;
use crate::model::TensorSpec;

/// Indices inside one name that are looked at. The deepest real names have five.
const MAX_NESTING: usize = 8;

/// The highest index of a block that is believed.
const MAX_INDEX: u64 = 1_000_000;

/// A component's tensors, cut up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// What lies outside the lists, in natural order.
    pub root: Vec<TensorSpec>,
    /// The lists by first appearance in natural order.
    pub lists: Vec<BlockList>,
}

/// A block list: blocks by index, each with its tensors in natural order, named inside the block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockList {
    /// The list's path, `encoder.block` say.
    pub path: String,
    /// The blocks.
    pub blocks: Vec<Vec<TensorSpec>>,
}

/// What follows a path: indices, and whether names below each go deeper than one leaf.
type Candidates<'a> = BTreeMap<&'a str, BTreeMap<u64, bool>>;

/// Every place where a name could be cut: path, index and the rest.
fn cuts(name: &str) -> impl Iterator<Item = (&str, u64, &str)> {
    let dots = name.match_indices('.').map(|(at, _)| at);
    dots.filter_map(move |at| {
        let (path, rest) = (&name[..at], &name[at + 1..]);
        let (digits, rest) = rest.split_once('.')?;
        let plain = digits.bytes().all(|c| c.is_ascii_digit())
            && (digits == "0" || !digits.starts_with('0'));
        let index = digits.parse().ok().filter(|&index| plain && index < MAX_INDEX)?;
        (!path.is_empty() && !rest.is_empty()).then_some((path, index, rest))
    })
    .take(MAX_NESTING)
}

fn candidates<'a>(names: impl Iterator<Item = &'a str>) -> Candidates<'a> {
    let mut found = Candidates::new();
    for name in names {
        for (path, index, rest) in cuts(name) {
            *found.entry(path).or_default().entry(index).or_default() |= rest.contains('.');
        }
    }
    found
}

/// Indices that run from 0 without a gap.
fn contiguous(blocks: &BTreeMap<u64, bool>) -> bool {
    blocks.keys().zip(0..).all(|(&index, expected)| index == expected)
}

/// The paths that may be named as lists: those whose indices run from 0 without a gap.
pub fn possible<'a>(names: impl Iterator<Item = &'a str>) -> BTreeSet<&'a str> {
    let found = candidates(names);
    found.into_iter().filter(|(_, blocks)| contiguous(blocks)).map(|(path, _)| path).collect()
}

/// Which paths are lists.
#[derive(Debug, Clone, Copy)]
pub enum Wanted<'a> {
    /// What the names show; the paths given are lists even where a checkpoint has but one block of them.
    Detected(&'a BTreeSet<&'a str>),
    /// These and no others.
    Only(&'a BTreeSet<&'a str>),
}

/// Cuts tensors, given in natural order, into root and lists; with them the named lists that have gaps.
pub fn cut<'a>(tensors: &[&'a Stored], wanted: Wanted) -> (Cut, Vec<&'a str>) {
    let names = || tensors.iter().map(|tensor| tensor.spec.name());
    let mut gaps = Vec::new();
    let mut accepted: BTreeSet<&str> = BTreeSet::new();
    for (path, blocks) in candidates(names()) {
        let named = match wanted {
            Wanted::Detected(paths) | Wanted::Only(paths) => paths.contains(path),
        };
        let detected = matches!(wanted, Wanted::Detected(_))
            && blocks.len() >= 2
            && blocks.values().all(|&deep| deep);
        if !(named || detected) {
            continue;
        }
        if contiguous(&blocks) {
            accepted.insert(path);
        } else if named {
            gaps.push(path);
        }
    }
    let mut lists: Vec<BlockList> = Vec::new();
    let mut number: BTreeMap<&str, usize> = BTreeMap::new();
    let mut root = Vec::new();
    for tensor in tensors {
        let TensorSpec(name, dtype, shape) = &tensor.spec;
        let Some((path, index, rest)) = cuts(name).find(|(path, ..)| accepted.contains(path))
        else {
            root.push(tensor.spec.clone());
            continue;
        };
        let list = *number.entry(path).or_insert_with(|| {
            lists.push(BlockList { path: path.to_owned(), blocks: Vec::new() });
            lists.len() - 1
        });
        let blocks = &mut lists[list].blocks;
        // Indices below MAX_INDEX fit any usize.
        let index = usize::try_from(index).unwrap_or(usize::MAX);
        if blocks.len() <= index {
            blocks.resize_with(index + 1, Vec::new);
        }
        blocks[index].push(TensorSpec(rest.to_owned(), *dtype, shape.clone()));
    }
    (Cut { root, lists }, gaps)
}
