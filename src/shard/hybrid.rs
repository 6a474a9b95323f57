//! Turns a manifest into the part of every tensor that one rank keeps, as FSDP2 cuts them.
//!
//! A tensor is cut along its first dimension into equal parts, the last ones smaller where it does not divide
//! (`torch.chunk`), down to nothing. What lies outside the block lists stays whole on every rank: engines shard the
//! blocks (vLLM-Omni's `_hsdp_shard_conditions`), and a root that is gathered for its use is gathered for the run.

use std::collections::BTreeSet;

use super::{Kind, Whole, refused};
use crate::error::Result;
use crate::model::{TensorSpec, Weights};
use crate::units::Bytes;
use crate::workload::Share;

/// The manifest with the part of every block that this rank keeps.
pub(super) fn divide(whole: &Whole, ranks: u64, number: u64) -> Result<crate::model::Manifest> {
    let mut manifest = whole.manifest.clone();
    let used: BTreeSet<String> =
        whole.components().flat_map(|c| &c.blocks).map(|segment| segment.kind.clone()).collect();
    for name in used {
        let Some(kind) = manifest.kinds.get_mut(&name) else { continue };
        match &mut kind.weights {
            Weights::Bytes(bytes) => *bytes = Bytes::new(Share::part(bytes.get(), ranks, number)),
            Weights::Tensors(tensors) => {
                for tensor in tensors.iter_mut() {
                    if !cut(tensor, ranks, number) {
                        return Err(unit_refused(whole, &name, tensor, ranks));
                    }
                }
            }
        }
    }
    Ok(manifest)
}

/// Cuts a tensor to this rank's part; false where parts do not fill whole storage units of its type.
fn cut(tensor: &mut TensorSpec, ranks: u64, number: u64) -> bool {
    match tensor.2.first_mut() {
        Some(rows) => *rows = Share::part(*rows, ranks, number),
        // A scalar is with the first rank.
        None if number > 0 => tensor.2.push(0),
        None => {}
    }
    tensor.bytes().is_some()
}

fn unit_refused(whole: &Whole, kind: &str, tensor: &TensorSpec, ranks: u64) -> crate::error::Error {
    let (elements, _) = tensor.dtype().unit();
    let name = tensor.name();
    let why = format!(
        "{name} of {kind} is stored in units of {elements} elements, which its parts do not fill"
    );
    let fits = |ranks: u32| {
        let whole = whole.manifest.kinds.get(kind).map(|kind| kind.weights.tensors());
        let parts = |tensor: &TensorSpec| {
            (0..u64::from(ranks)).all(|number| cut(&mut tensor.clone(), u64::from(ranks), number))
        };
        whole.unwrap_or_default().iter().all(parts)
    };
    refused(u32::try_from(ranks).unwrap_or(u32::MAX), Kind::Hsdp, &why, fits)
}

/// The largest block: what must be whole on a device while it computes.
pub(super) fn largest(whole: &Whole) -> Bytes {
    let blocks = whole.components().flat_map(|component| component.blocks(whole.manifest));
    blocks.map(|block| block.bytes()).max().unwrap_or_default()
}
