//! Turns tensors and the tokens that pass through them into operations.
//!
//! ```text
//! product       [out, in]           2 · out · in · tokens(weight)
//! convolution   [out, in, d, h, w]  2 · out · in · d · h · w · positions of the result
//! attention     at its query weight 4 · queries · keys · width            scores and weighted sum, no mask
//! experts       e of n used         the share e / n of the above, rounded up
//! packed 4-bit  u8, i32             two and eight weights per element
//! ```
//!
//! A multiply-add counts as two. Norms, activations, softmax and biases are left out: they are bound by memory, and
//! below one per cent of the operations. All counts are per sample; the batch multiplies them.

use std::collections::{BTreeMap, BTreeSet};

use super::family::{Attention, Family, Stream, Width};
use super::tokens::Tokens;
use crate::model::{Dtype, TensorSpec};

/// What one use of some weights costs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Work {
    /// Operations by the element type that they run in; saturating.
    pub flops: BTreeMap<Dtype, u128>,
    /// Bytes of the weights that are multiplied.
    pub bytes: u64,
    /// Bytes of experts that the tokens are too few to reach; part of `bytes`.
    pub idle_bytes: u64,
    /// Elements alive at the widest place: the largest `2 · (in + out) · tokens` of a weight.
    pub live: u128,
    /// Whether experts were met whose used share is not known.
    pub unknown_experts: bool,
}

/// The work of tensors whose names begin with `prefix` inside their component, each for itself.
pub(super) fn works(
    family: &Family,
    tokens: &Tokens,
    prefix: &str,
    tensors: &[TensorSpec],
) -> Vec<Work> {
    let experts = separate_experts(tensors);
    let of = |tensor: &TensorSpec| {
        let name = format!("{prefix}{}", tensor.name());
        of_tensor(family, tokens, &name, tensor, experts)
    };
    tensors.iter().map(of).collect()
}

fn of_tensor(
    family: &Family,
    tokens: &Tokens,
    name: &str,
    tensor: &TensorSpec,
    experts: u64,
) -> Work {
    let mut work = Work::default();
    let Some((out, inner)) = factors(tensor) else { return work };
    let stream = family.stream(name);
    let seen = tokens.of(stream, name);
    if seen == 0 {
        return work;
    }
    let mut flops = product(&[2, out, inner, u128::from(seen)]);
    work.bytes = tensor.bytes().unwrap_or_default().get();
    if let Some(all) = expert_count(tensor, name, experts) {
        let used = family.experts_used.unwrap_or(all).min(all).max(1);
        work.unknown_experts = family.experts_used.is_none();
        flops = product(&[flops, u128::from(used)]).div_ceil(u128::from(all));
        let reached = seen.saturating_mul(used).min(all);
        work.idle_bytes = work.bytes.saturating_sub(share(work.bytes, reached, all));
    }
    add(&mut work.flops, tensor.dtype(), flops);
    if stream != Stream::One {
        let outer = u128::from(tensor.shape().first().copied().unwrap_or(1));
        let channels = u128::from(tensor.shape().get(1).copied().unwrap_or(1));
        let alive = u128::from(tokens.alive(stream, name));
        work.live = product(&[2, outer + channels, alive]);
    }
    if let Some(attention) = family.attention(name) {
        let flops = attended(attention, tokens, name, tensor.shape());
        add(&mut work.flops, attention_dtype(tensor.dtype()), flops);
    }
    work
}

impl Work {
    /// The work of all together.
    pub fn sum(works: &[Self]) -> Self {
        let mut all = Self::default();
        works.iter().for_each(|work| all.add(work));
        all
    }

    fn add(&mut self, other: &Self) {
        other.flops.iter().for_each(|(&dtype, &flops)| add(&mut self.flops, dtype, flops));
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.idle_bytes = self.idle_bytes.saturating_add(other.idle_bytes);
        self.live = self.live.max(other.live);
        self.unknown_experts |= other.unknown_experts;
    }

    /// All operations; saturating.
    pub fn total(&self) -> u128 {
        self.flops.values().fold(0, |sum, &flops| sum.saturating_add(flops))
    }
}

/// Outer dimension and the product of the rest; `None` for what is no matrix: fewer than two dimensions above 1.
fn factors(tensor: &TensorSpec) -> Option<(u128, u128)> {
    let (&out, rest) = tensor.shape().split_first()?;
    let packed = packed(tensor.dtype());
    let wide = tensor.shape().iter().filter(|&&dim| dim > 1).count();
    // bitsandbytes keeps a packed matrix as a column of bytes, `[n, 1]`.
    let column = packed > 1 && wide == 1 && !rest.is_empty();
    if wide < 2 && !column {
        return None;
    }
    let inner = rest.iter().fold(1u128, |all, &dim| all.saturating_mul(u128::from(dim)));
    Some((u128::from(out), inner.saturating_mul(packed)))
}

/// Weights in one element: 4-bit weights come two to a byte (bitsandbytes, NVFP4) or eight to a word (GPTQ, AWQ).
fn packed(dtype: Dtype) -> u128 {
    match dtype {
        Dtype::U8 => 2,
        Dtype::I32 => 8,
        _ => 1,
    }
}

/// A tensor has fewer than 2⁶⁴ elements and tokens stay below 2⁶⁴, so this saturates only on hostile sizes.
fn product(factors: &[u128]) -> u128 {
    factors.iter().fold(1u128, |all, &factor| all.saturating_mul(factor))
}

fn add(flops: &mut BTreeMap<Dtype, u128>, dtype: Dtype, more: u128) {
    let sum = flops.entry(dtype).or_default();
    *sum = sum.saturating_add(more);
}

/// Attention runs in 16 bits unless the weights are single precision; no engine does it in 8 bits by default.
fn attention_dtype(weights: Dtype) -> Dtype {
    if weights == Dtype::F32 { Dtype::F32 } else { Dtype::Bf16 }
}

fn attended(attention: &Attention, tokens: &Tokens, name: &str, shape: &[u64]) -> u128 {
    let share = tokens.share();
    let width = match attention.width {
        // Divided by rows, the weight shows the heads of this rank; by its inputs it does not.
        Width::Input => attention.width_of(shape) / share.heads.max(1),
        Width::Output | Width::OutputThird => attention.width_of(shape),
    };
    let keys = u128::from(tokens.everywhere(attention.keys, name));
    if attention.is_exchanged() {
        let queries = u128::from(tokens.everywhere(attention.queries, name));
        let all = product(&[4, queries, keys, u128::from(width)]);
        return all.div_ceil(u128::from(share.tokens.max(1)));
    }
    product(&[4, u128::from(tokens.of(attention.queries, name)), keys, u128::from(width)])
}

const EXPERT: &str = "experts.";

/// How many experts stand side by side as tensors of their own (`experts.3.w1.weight`).
fn separate_experts(tensors: &[TensorSpec]) -> u64 {
    let index = |tensor: &TensorSpec| {
        let name = tensor.name();
        let rest = &name[name.find(EXPERT)? + EXPERT.len()..];
        rest.split('.').next()?.parse::<u64>().ok()
    };
    tensors.iter().filter_map(index).collect::<BTreeSet<_>>().len() as u64
}

/// The number of experts among which an expert's weight is one, or which are stacked in it (GGUF `_exps`, and
/// `experts.gate_up_proj` in newer transformers).
fn expert_count(tensor: &TensorSpec, name: &str, separate: u64) -> Option<u64> {
    let stacked = separate == 0 && name.contains(EXPERT) && tensor.shape().len() == 3;
    if stacked || name.contains("_exps.") {
        return tensor.shape().first().copied();
    }
    (separate > 0 && name.contains(EXPERT) && !name.contains("shared_expert")).then_some(separate)
}

fn share(bytes: u64, part: u64, whole: u64) -> u64 {
    let share = (u128::from(bytes) * u128::from(part)).div_ceil(u128::from(whole.max(1)));
    u64::try_from(share).unwrap_or(bytes)
}
