//! Turns a manifest into one rank's under tensor parallelism: matrices divided by output rows or by inputs.
//!
//! ```text
//! x ─▶ [ q k v: rows ÷ K ] ─▶ heads ÷ K ─▶ [ o: inputs ÷ K ] ─▶ all-reduce ─▶ [ up: rows ÷ K ] ─▶ [ down: inputs ÷ K ] ─▶ all-reduce
//! ```
//!
//! The table names modules as diffusers, transformers, the models' own repositories and GGUF do; it follows the
//! parallel linear layers of SGLang (`multimodal_gen/runtime/models/dits`) and vLLM(-Omni). A bias goes with the rows
//! of its matrix; one of a matrix divided by its inputs, norms, modulation and whatever the table does not name are on
//! every rank. FLUX.1's single blocks are divided as SGLang does; vLLM-Omni keeps their feed-forward on every rank.
//! Token embeddings and output heads of language models are divided by vocabulary, where that is even.

use super::{Kind, Whole, refused};
use crate::error::{Error, Result};
use crate::model::{Component, Dtype, Manifest, TensorSpec, Weights};
use crate::units::Bytes;
use crate::workload::{self, matches};

/// Along which dimension a matrix is divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// Output rows: the first dimension.
    Rows,
    /// Inputs: the second dimension; partial results are summed.
    Inputs,
}

/// What holds an attention's heads, by the number of projections in one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Heads {
    /// No heads in it.
    None,
    /// Queries, keys or values.
    One,
    /// All three.
    Three,
    /// All three and more; as wide as its input.
    Input,
}

/// Modules of blocks whose matrix is divided; the first match decides. A name matches its end, after a dot.
const MODULES: &[(&str, Cut, Heads)] = &[
    // To the heads.
    ("to_q", Cut::Rows, Heads::One),
    ("to_k", Cut::Rows, Heads::One),
    ("to_v", Cut::Rows, Heads::One),
    ("add_q_proj", Cut::Rows, Heads::One),
    ("add_k_proj", Cut::Rows, Heads::One),
    ("add_v_proj", Cut::Rows, Heads::One),
    ("q_proj", Cut::Rows, Heads::One),
    ("k_proj", Cut::Rows, Heads::One),
    ("v_proj", Cut::Rows, Heads::One),
    ("attn_q", Cut::Rows, Heads::One),
    ("attn_k", Cut::Rows, Heads::One),
    ("attn_v", Cut::Rows, Heads::One),
    ("SelfAttention.q", Cut::Rows, Heads::One),
    ("SelfAttention.k", Cut::Rows, Heads::One),
    ("SelfAttention.v", Cut::Rows, Heads::One),
    ("self_attn.q", Cut::Rows, Heads::One),
    ("self_attn.k", Cut::Rows, Heads::One),
    ("self_attn.v", Cut::Rows, Heads::One),
    ("cross_attn.q", Cut::Rows, Heads::One),
    ("cross_attn.k", Cut::Rows, Heads::One),
    ("cross_attn.v", Cut::Rows, Heads::One),
    ("to_qkv", Cut::Rows, Heads::Three),
    ("attn.qkv", Cut::Rows, Heads::Three),
    ("img_attn.qkv", Cut::Rows, Heads::Three),
    ("txt_attn.qkv", Cut::Rows, Heads::Three),
    ("qkv_proj", Cut::Rows, Heads::None),
    ("attn_qkv", Cut::Rows, Heads::None),
    // To the heads and into a feed-forward at once: FLUX.2, and FLUX.1 under its own names.
    ("to_qkv_mlp_proj", Cut::Rows, Heads::Input),
    ("linear1", Cut::Rows, Heads::Input),
    // Into a feed-forward.
    ("gate_proj", Cut::Rows, Heads::None),
    ("up_proj", Cut::Rows, Heads::None),
    ("gate_up_proj", Cut::Rows, Heads::None),
    ("net.0.proj", Cut::Rows, Heads::None),
    ("proj_mlp", Cut::Rows, Heads::None),
    ("linear_in", Cut::Rows, Heads::None),
    ("w1", Cut::Rows, Heads::None),
    ("w3", Cut::Rows, Heads::None),
    ("fc1", Cut::Rows, Heads::None),
    ("wi", Cut::Rows, Heads::None),
    ("wi_0", Cut::Rows, Heads::None),
    ("wi_1", Cut::Rows, Heads::None),
    ("ffn_gate", Cut::Rows, Heads::None),
    ("ffn_up", Cut::Rows, Heads::None),
    ("ffn.0", Cut::Rows, Heads::None),
    ("img_mlp.0", Cut::Rows, Heads::None),
    ("txt_mlp.0", Cut::Rows, Heads::None),
    // Back from either.
    ("to_out.0", Cut::Inputs, Heads::None),
    ("to_out", Cut::Inputs, Heads::None),
    ("to_add_out", Cut::Inputs, Heads::None),
    ("o_proj", Cut::Inputs, Heads::None),
    ("out_proj", Cut::Inputs, Heads::None),
    ("attn_output", Cut::Inputs, Heads::None),
    ("attn.proj", Cut::Inputs, Heads::None),
    ("img_attn.proj", Cut::Inputs, Heads::None),
    ("txt_attn.proj", Cut::Inputs, Heads::None),
    ("SelfAttention.o", Cut::Inputs, Heads::None),
    ("self_attn.o", Cut::Inputs, Heads::None),
    ("cross_attn.o", Cut::Inputs, Heads::None),
    ("down_proj", Cut::Inputs, Heads::None),
    ("net.2", Cut::Inputs, Heads::None),
    ("proj_out", Cut::Inputs, Heads::None),
    ("linear_out", Cut::Inputs, Heads::None),
    ("linear2", Cut::Inputs, Heads::None),
    ("w2", Cut::Inputs, Heads::None),
    ("fc2", Cut::Inputs, Heads::None),
    ("wo", Cut::Inputs, Heads::None),
    ("ffn_down", Cut::Inputs, Heads::None),
    ("ffn.2", Cut::Inputs, Heads::None),
    ("img_mlp.2", Cut::Inputs, Heads::None),
    ("txt_mlp.2", Cut::Inputs, Heads::None),
];

/// Tables of language models that are divided by vocabulary (vLLM's `VocabParallelEmbedding`, `ParallelLMHead`).
const VOCABULARY: &[&str] =
    &["*embed_tokens.weight", "*lm_head.weight", "token_embd.weight", "output.weight"];

/// Norms of single heads: their length is the width of one.
const HEAD_NORMS: &[&str] =
    &["*norm_q.weight", "*norm_k.weight", "*q_norm.weight", "*k_norm.weight", "*query_norm.scale"];

/// Width of a head by class, where no norm of the block shows it: `attention_head_dim`, `d_kv` or hidden size ÷ heads
/// in the published configurations of diffusers and transformers.
const HEAD_WIDTHS: &[(&str, u64)] = &[
    ("WanTransformer3DModel", 128),
    ("wan", 128),
    ("HunyuanVideoTransformer3DModel", 128),
    ("MochiTransformer3DModel", 128),
    ("LTXVideoTransformer3DModel", 64),
    ("CogVideoXTransformer3DModel", 64),
    ("SD3Transformer2DModel", 64),
    ("T5EncoderModel", 64),
    ("UMT5EncoderModel", 64),
    ("CLIPTextModel*", 64),
];

/// How the matrix of that name is divided, if it is: `attn.to_q.weight` by rows.
pub fn cut_of(name: &str) -> Option<Cut> {
    rule(name).map(|(cut, _)| cut)
}

fn rule(name: &str) -> Option<(Cut, Heads)> {
    let (module, _) = name.rsplit_once('.')?;
    let ends = |end: &str| {
        module.strip_suffix(end).is_some_and(|before| before.is_empty() || before.ends_with('.'))
    };
    MODULES.iter().find(|(end, ..)| ends(end)).map(|&(_, cut, heads)| (cut, heads))
}

/// The manifest of any one rank, and the bytes of the planned components that every rank has.
pub(super) fn divide(whole: &Whole, ranks: u32) -> Result<(Manifest, Bytes)> {
    let mut manifest = whole.manifest.clone();
    let mut replicated = Bytes::ZERO;
    for component in whole.components() {
        let kinds = kinds(component);
        for name in &kinds {
            let Some(kind) = whole.manifest.kinds.get(name) else { continue };
            let divided = divided(whole, component, name, &kind.weights, ranks)?;
            let blocks = component.blocks(whole.manifest);
            let count = blocks.iter().filter(|block| block.kind_name == name).count() as u64;
            replicated =
                replicated.saturating_add(shared(&kind.weights, &divided).saturating_mul(count));
            if let Some(kind) = manifest.kinds.get_mut(name) {
                kind.weights = divided;
            }
        }
        let root = divided_root(component, ranks);
        replicated = replicated.saturating_add(shared(&component.root, &root));
        if let Some(own) = manifest.components.iter_mut().find(|own| own.name == component.name) {
            own.root = root;
        }
    }
    Ok((manifest, replicated))
}

/// The kinds of a component's blocks, each once, in order.
fn kinds(component: &Component) -> Vec<String> {
    let mut kinds: Vec<String> = Vec::new();
    for segment in &component.blocks {
        if !kinds.contains(&segment.kind) {
            kinds.push(segment.kind.clone());
        }
    }
    kinds
}

/// The bytes of tensors that stay whole.
fn shared(before: &Weights, after: &Weights) -> Bytes {
    let pairs = before.tensors().iter().zip(after.tensors());
    let whole = pairs.filter(|(before, after)| before.shape() == after.shape());
    match before {
        Weights::Bytes(bytes) => *bytes,
        Weights::Tensors(_) => whole.map(|(before, _)| before.bytes().unwrap_or_default()).sum(),
    }
}

/// The weights of a kind of block, divided.
fn divided(
    whole: &Whole,
    component: &Component,
    kind: &str,
    weights: &Weights,
    ranks: u32,
) -> Result<Weights> {
    let fits = |ranks: u32| problem(component, kind, weights, ranks).is_none();
    if let Some(why) = problem(component, kind, weights, ranks) {
        // All kinds have to divide for a number of ranks to work.
        let others = |ranks: u32| {
            kinds(component).iter().all(|name| match whole.manifest.kinds.get(name) {
                Some(kind) => problem(component, name, &kind.weights, ranks).is_none(),
                None => true,
            })
        };
        let never = !(2..=8).any(fits);
        return Err(match never {
            true => Error::Usage {
                message: format!("--shard tp: {why}"),
                hint: Some("take --shard hsdp, which divides any tensor".to_owned()),
            },
            false => refused(ranks, Kind::Tp, &why, others),
        });
    }
    let cut = |tensor: &TensorSpec| {
        let mut tensor = tensor.clone();
        if let Some(at) = dimension(&tensor, weights.tensors()) {
            tensor.2[at] /= u64::from(ranks.max(1));
        }
        tensor
    };
    Ok(Weights::Tensors(weights.tensors().iter().map(cut).collect()))
}

/// Which dimension of a tensor is divided: of a matrix by its rule, of a bias or a scale per row with its matrix.
fn dimension(tensor: &TensorSpec, block: &[TensorSpec]) -> Option<usize> {
    let (cut, _) = rule(tensor.name())?;
    if is_matrix(tensor) {
        return Some(if cut == Cut::Rows { 0 } else { 1 });
    }
    let (module, _) = tensor.name().rsplit_once('.')?;
    let matrix = block.iter().find(|other| {
        other.name().rsplit_once('.').is_some_and(|(of, leaf)| of == module && leaf == "weight")
    })?;
    let per_row = tensor.shape().first() == matrix.shape().first();
    (cut == Cut::Rows && per_row && is_matrix(matrix)).then_some(0)
}

fn is_matrix(tensor: &TensorSpec) -> bool {
    tensor.name().ends_with(".weight") && tensor.shape().len() == 2 && tensor.shape()[1] > 1
}

/// Why weights do not divide among so many ranks, if they do not.
fn problem(component: &Component, kind: &str, weights: &Weights, ranks: u32) -> Option<String> {
    let tensors = weights.tensors();
    let ranks = u64::from(ranks.max(1));
    if tensors.iter().all(|tensor| dimension(tensor, tensors).is_none()) {
        return Some(format!("nothing is known of how to divide {kind} of {}", component.name));
    }
    // Heads first: they say most.
    let uneven = tensors.iter().find_map(|tensor| {
        let (_, held) = rule(tensor.name())?;
        let heads = head_count(component, tensors, tensor, held)?;
        let name = tensor.name();
        (heads % ranks != 0)
            .then(|| format!("the {heads} heads of {name} in {kind} do not divide evenly"))
    });
    uneven.or_else(|| tensors.iter().find_map(|tensor| misfit(kind, tensor, tensors, ranks)))
}

/// Why one tensor does not divide, heads apart.
fn misfit(kind: &str, tensor: &TensorSpec, block: &[TensorSpec], ranks: u64) -> Option<String> {
    rule(tensor.name())?;
    let name = tensor.name();
    if packed(tensor) {
        return Some(format!("{name} of {kind} is packed and does not show its rows"));
    }
    let at = dimension(tensor, block)?;
    let length = tensor.shape()[at];
    let what = if at == 0 { "rows" } else { "inputs" };
    if !length.is_multiple_of(ranks) {
        return Some(format!("the {length} {what} of {name} in {kind} do not divide evenly"));
    }
    let (unit, _) = tensor.dtype().unit();
    let part = length / ranks;
    let inner = if at == 1 { part } else { tensor.shape().get(1).copied()? };
    (inner % unit != 0).then(|| {
        format!(
            "{part} of the {length} {what} of {name} in {kind} do not fill units of {unit} elements"
        )
    })
}

/// Whether a weight keeps its elements in words or in a flat column, so that no dimension counts rows.
fn packed(tensor: &TensorSpec) -> bool {
    let words = matches!(tensor.dtype(), Dtype::I32 | Dtype::U32);
    let column = tensor.dtype() == Dtype::U8 && tensor.shape().get(1) == Some(&1);
    let leaf = tensor.name().rsplit_once('.').map_or("", |(_, leaf)| leaf);
    (words || column) && ["weight", "qweight"].contains(&leaf)
}

/// The heads that a projection has, where the width of one is known.
fn head_count(
    component: &Component,
    block: &[TensorSpec],
    tensor: &TensorSpec,
    held: Heads,
) -> Option<u64> {
    let rows = match held {
        Heads::None => return None,
        _ if !is_matrix(tensor) => return None,
        Heads::One => tensor.shape().first().copied()?,
        Heads::Three => tensor.shape().first().copied()? / 3,
        Heads::Input => tensor.shape().get(1).copied()?,
    };
    let width = head_width(component, block)?;
    rows.is_multiple_of(width).then_some(rows / width)
}

/// The width of a head: as the norms of the block show it, else as its class has it.
fn head_width(component: &Component, block: &[TensorSpec]) -> Option<u64> {
    let class = component.class.as_deref().unwrap_or_default();
    let by_class = HEAD_WIDTHS.iter().find(|(pattern, _)| matches(pattern, class));
    let norm = block
        .iter()
        .find(|tensor| HEAD_NORMS.iter().any(|pattern| matches(pattern, tensor.name())));
    let shown = norm.filter(|norm| norm.shape().len() == 1).and_then(|norm| norm.shape().first());
    by_class.map(|&(_, width)| width).or(shown.copied()).filter(|&width| width > 0)
}

/// The heads of every projection of a component, by name, where they are known.
pub(super) fn heads(whole: &Whole, component: &Component) -> Vec<(String, u64)> {
    let mut found = Vec::new();
    for name in kinds(component) {
        let Some(kind) = whole.manifest.kinds.get(&name) else { continue };
        let tensors = kind.weights.tensors();
        for tensor in tensors {
            let held = rule(tensor.name()).map_or(Heads::None, |(_, heads)| heads);
            let heads = head_count(component, tensors, tensor, held);
            found.extend(heads.map(|heads| (format!("{} in {name}", tensor.name()), heads)));
        }
    }
    found
}

/// What lies outside the blocks: tables of language models divided by vocabulary, all else whole.
fn divided_root(component: &Component, ranks: u32) -> Weights {
    let Weights::Tensors(tensors) = &component.root else { return component.root.clone() };
    let decodes = workload::decodes(component) == Some(true);
    let cut = |tensor: &TensorSpec| {
        let mut tensor = tensor.clone();
        if decodes && is_vocabulary(&tensor) && tensor.shape()[0].is_multiple_of(u64::from(ranks)) {
            tensor.2[0] /= u64::from(ranks);
        }
        tensor
    };
    Weights::Tensors(tensors.iter().map(cut).collect())
}

/// Whether a tensor of a language model's root is a table with a row per word.
pub(super) fn is_vocabulary(tensor: &TensorSpec) -> bool {
    tensor.shape().len() == 2 && VOCABULARY.iter().any(|pattern| matches(pattern, tensor.name()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_are_told_by_the_end_of_their_name() {
        for (name, expected) in [
            ("attn.to_q.weight", Some(Cut::Rows)),
            ("attn.to_out.0.bias", Some(Cut::Inputs)),
            ("ff_context.net.0.proj.weight", Some(Cut::Rows)),
            ("ff.net.2.weight", Some(Cut::Inputs)),
            ("layer.1.DenseReluDense.wo.weight", Some(Cut::Inputs)),
            ("experts.3.w2.weight", Some(Cut::Inputs)),
            ("norm1.linear.weight", None),
            ("img_mod.1.weight", None),
            ("attn.norm_q.weight", None),
            ("adaLN_modulation.0.weight", None),
            ("xto_q.weight", None),
            ("to_q", None),
        ] {
            assert_eq!(cut_of(name), expected, "{name}");
        }
    }
}
