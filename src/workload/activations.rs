//! Turns a component and its tokens into an estimate of the VRAM that activations take.
//!
//! ```text
//! activations ≈ fixed + batch · 2 bytes · max over the blocks' weights of 2 · (in + out) · tokens(weight)
//! ```
//!
//! The widest place of a transformer block is its feed-forward: the residual and its normed copy are as wide as the
//! weight's input, and two copies of the intermediate (before and after the activation, or gate and value) as wide as
//! its output. Elements are 16 bits; scores of attention are never stored whole. An estimate: engines that compile,
//! split sequences or compute norms in single precision differ, so measure where it is tight.

use std::collections::BTreeSet;

use super::Workload;
use super::family;
use super::flops::{Work, works};
use super::tokens::resolve;
use crate::error::Result;
use crate::model::{Component, Manifest};
use crate::units::Bytes;

/// What does not grow with the tokens: latents, embeddings, and the slack of a caching allocator. ComfyUI keeps 0.8 GiB
/// free for the same purpose (`minimum_inference_memory` in its `model_management.py`); rounded up to whole MiB.
pub const FIXED: Bytes = Bytes::new(820 << 20);

/// Indices up to which equal blocks are told apart; no network of feature maps has more levels.
const MOST_LEVELS: u64 = 16;

/// Bytes of an activation: bf16 or fp16.
const ELEMENT: u128 = 2;

/// The activations of `component` at their highest, for the whole batch. An estimate.
///
/// # Errors
///
/// Sizes that the component's class cannot divide into tokens.
pub fn activations_estimate(
    manifest: &Manifest,
    component: &Component,
    workload: &Workload,
) -> Result<Bytes> {
    let family = family::of_component(component);
    let (tokens, _) = resolve(family, workload, manifest, component)?;
    let mut widest = 0;
    let mut seen = BTreeSet::new();
    for block in component.blocks(manifest) {
        // Equal blocks are equally wide, except on feature maps, where the level follows from the (small) index.
        if seen.insert((block.list, block.kind_name, block.index.min(MOST_LEVELS))) {
            let prefix = format!("{}.", block.local_id());
            let tensors = block.kind.weights.tensors();
            widest = widest.max(Work::sum(&works(family, &tokens, &prefix, tensors)).live);
        }
    }
    let live = widest.saturating_mul(ELEMENT).saturating_mul(u128::from(workload.batch));
    let live = Bytes::new(u64::try_from(live).unwrap_or(u64::MAX));
    Ok(FIXED.saturating_add(live))
}

/// `activations` of a workload of `from` tokens for one of `to` tokens: [`FIXED`] stays, the rest grows in
/// proportion. Less than [`FIXED`] is taken as it is: whoever wrote it knew better.
pub fn scaled(activations: Bytes, from: u128, to: u128) -> Bytes {
    let Some(growing) = activations.checked_sub(FIXED) else { return activations };
    if from == to || from == 0 {
        return activations;
    }
    let grown = u128::from(growing.get()).saturating_mul(to).div_ceil(from);
    let grown = Bytes::new(u64::try_from(grown).unwrap_or(u64::MAX));
    FIXED.saturating_add(grown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_as_wide_as_twice_its_widest_weight() {
        let text = "{format: vramplan/manifest/1, model: m, kinds: {b: {tensors: \
                    [[q, bf16, [64, 64]], [ff, bf16, [1024, 256]]]}}, components: \
                    [{name: c, root: {bytes: 0}, blocks: [{list: l, kind: b, count: 9}]}]}";
        let manifest = Manifest::from_yaml("m", text).expect("a sound manifest");
        let text = "{format: vramplan/workload/1, passes: 1, batch: 3, tokens: {text: 4096}, \
                    reserve: {context: 0}}";
        let workload = Workload::from_yaml("w", text).expect("a sound workload");
        let estimate = activations_estimate(&manifest, &manifest.components[0], &workload);
        let live = 3 * 2 * 2 * (1024 + 256) * 4096;
        assert_eq!(estimate.expect("sound"), FIXED.saturating_add(Bytes::new(live)));
    }

    #[test]
    fn only_what_grows_with_tokens_is_scaled() {
        let mib = |n: u64| Bytes::new(n << 20);
        assert_eq!(scaled(mib(1820), 4, 1), mib(820 + 250));
        assert_eq!(scaled(mib(1820), 1, 3), mib(820 + 3000));
        assert_eq!(scaled(mib(100), 1, 3), mib(100));
        assert_eq!(scaled(mib(1820), 7, 7), mib(1820));
    }
}
