//! Turns a way to shard into what ranks exchange for each block, and how long that takes.
//!
//! Bytes are what one rank sends, which is what it receives; activations have 16 bits. `K` ranks:
//!
//! | collective | bytes per rank | where |
//! |---|---|---|
//! | all-reduce of `n` bytes | `2 · n · (K−1) / K` | `tp`: result of every matrix divided by its inputs; token embeddings |
//! | all-to-all of `n` bytes on each rank | `n · (K−1) / K` | `sp`: q, k, v before an attention, its result after |
//! | all-gather into `n` bytes | `n · (K−1) / K` | `hsdp`: a block; `sp`: the heads of text in a joint attention; `tp`: logits |
//!
//! The factors are those by which NCCL's tests turn times into bus bandwidth (`doc/PERFORMANCE.md` of nccl-tests);
//! no algorithm moves less over links of the same rate each way, multicast in the switch apart.

use super::tensor::{self, Cut};
use super::{Kind, Shard, Whole};
use crate::device::Link;
use crate::error::Result;
use crate::model::{Component, Manifest, TensorSpec};
use crate::units::{Bytes, Nanos};
use crate::workload::Seen;

/// Bytes of an activation: bf16 or fp16.
const ELEMENT: u64 = 2;

/// The exchanges of one block or root: how many bytes each rank sends in each.
type Exchanges = Vec<u64>;

/// By block, the time of its collectives in one pass; what the root exchanges is added to the last block, whose
/// results it works on. `computed` has the shapes of one rank.
pub(super) fn times(
    shard: &Shard,
    whole: &Whole,
    component: &Component,
    computed: &Manifest,
    over: &Link,
) -> Result<Vec<Nanos>> {
    let blocks = component.blocks(computed);
    let mut times = vec![Nanos::ZERO; blocks.len()];
    if shard.ranks <= 1 || shard.kind == Kind::Dp {
        return Ok(times);
    }
    let seen = Seen::new(whole.manifest, component, whole.workload)?;
    let ranks = u64::from(shard.ranks);
    let lasts = |exchanges: Exchanges| -> Nanos {
        exchanges.into_iter().map(|bytes| over.time_for(Bytes::new(bytes))).sum()
    };
    for (block, time) in blocks.iter().zip(&mut times) {
        let prefix = format!("{}.", block.local_id());
        let tensors = block.kind.weights.tensors();
        *time = lasts(match shard.kind {
            Kind::Tp => reduced(&seen, &prefix, tensors, ranks),
            Kind::Sp => attended(&seen, &prefix, tensors, ranks),
            Kind::Hsdp => vec![sent(block.bytes().get(), ranks)],
            Kind::Dp => Exchanges::new(),
        });
    }
    if let (Kind::Tp, Some(last)) = (shard.kind, times.last_mut()) {
        let before = whole.manifest.component(&component.name).unwrap_or(component);
        *last = last.saturating_add(lasts(vocabulary(&seen, before, component, ranks)));
    }
    Ok(times)
}

/// `bytes · (K−1) / K`, rounded up.
fn sent(bytes: u64, ranks: u64) -> u64 {
    let part = (u128::from(bytes) * u128::from(ranks - 1)).div_ceil(u128::from(ranks));
    u64::try_from(part).unwrap_or(u64::MAX)
}

/// An all-reduce per matrix that is divided by its inputs.
fn reduced(seen: &Seen, prefix: &str, tensors: &[TensorSpec], ranks: u64) -> Exchanges {
    let rows = |tensor: &TensorSpec| tensor.shape().first().copied().unwrap_or(0);
    let summed = tensors.iter().filter(|tensor| {
        let matrix = tensor.shape().len() == 2 && tensor.name().ends_with(".weight");
        matrix && tensor::cut_of(tensor.name()) == Some(Cut::Inputs)
    });
    let bytes = summed.map(|tensor| {
        let tokens = seen.tokens(&format!("{prefix}{}", tensor.name()));
        sent(tokens.saturating_mul(rows(tensor)).saturating_mul(2 * ELEMENT), ranks)
    });
    bytes.filter(|&bytes| bytes > 0).collect()
}

/// Ulysses: q, k and v are exchanged before an attention and its result after; text is there, but its result has to
/// be gathered from all heads.
fn attended(seen: &Seen, prefix: &str, tensors: &[TensorSpec], ranks: u64) -> Exchanges {
    let mut exchanges = Exchanges::new();
    for tensor in tensors {
        let name = format!("{prefix}{}", tensor.name());
        let Some(attention) = seen.exchanged(&name, tensor.shape()) else { continue };
        let row = attention.width.saturating_mul(ELEMENT);
        let image = sent(attention.image.div_ceil(ranks).saturating_mul(row), ranks);
        exchanges.extend([image; 4]);
        let text = sent(attention.text.saturating_mul(row), ranks);
        exchanges.extend((text > 0).then_some(text));
    }
    exchanges
}

/// Of a language model whose tables are divided: an all-reduce of embeddings, an all-gather of logits.
fn vocabulary(seen: &Seen, before: &Component, after: &Component, ranks: u64) -> Exchanges {
    let pairs = before.root.tensors().iter().zip(after.root.tensors());
    let divided = pairs
        .filter(|(before, after)| tensor::is_vocabulary(before) && before.shape() != after.shape());
    let bytes = divided.map(|(before, _)| {
        let (words, width) = (before.shape()[0], before.shape()[1]);
        // A head is multiplied and sees tokens; an embedding is looked up, one row for each of them.
        let head = seen.tokens(before.name());
        match head {
            0 => {
                let tokens = seen.text().saturating_mul(seen.batch());
                sent(tokens.saturating_mul(width).saturating_mul(2 * ELEMENT), ranks)
            }
            tokens => sent(tokens.saturating_mul(words).saturating_mul(ELEMENT), ranks),
        }
    });
    bytes.filter(|&bytes| bytes > 0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rank_sends_all_parts_but_its_own() {
        assert_eq!([sent(100, 2), sent(100, 4), sent(7, 3), sent(0, 8)], [50, 75, 5, 0]);
    }
}
