//! Names the manifests that ship inside the binary; each was made by `vramplan scan` from a real checkpoint.

use super::Manifest;
use crate::error::Result;

/// Name and text of every built-in manifest, sorted by name.
pub const MANIFESTS: &[(&str, &str)] = &[
    ("flux1-dev", include_str!("../../plans/models/flux1-dev.yaml")),
    ("flux2-klein-4b", include_str!("../../plans/models/flux2-klein-4b.yaml")),
    ("llama-3-8b", include_str!("../../plans/models/llama-3-8b.yaml")),
    ("llama-3-8b-q4_k_m", include_str!("../../plans/models/llama-3-8b-q4_k_m.yaml")),
    ("qwen-image", include_str!("../../plans/models/qwen-image.yaml")),
    ("wan2.2-t2v-a14b", include_str!("../../plans/models/wan2.2-t2v-a14b.yaml")),
    ("z-image", include_str!("../../plans/models/z-image.yaml")),
];

/// The names, sorted.
pub fn names() -> impl Iterator<Item = &'static str> {
    MANIFESTS.iter().map(|&(name, _)| name)
}

/// The built-in manifest of that name.
pub fn load(name: &str) -> Option<Result<Manifest>> {
    let &(name, text) = MANIFESTS.iter().find(|&&(known, _)| known == name)?;
    Some(Manifest::from_yaml(name, text))
}
