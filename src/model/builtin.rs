//! Names the manifests that ship inside the binary; each was made by `vramplan scan` from a real checkpoint.

use super::Manifest;
use crate::error::Result;

/// Name and text of every built-in manifest, sorted by name.
pub const MANIFESTS: &[(&str, &str)] = &[];

/// The names, sorted.
pub fn names() -> impl Iterator<Item = &'static str> {
    MANIFESTS.iter().map(|&(name, _)| name)
}

/// The built-in manifest of that name.
pub fn load(name: &str) -> Option<Result<Manifest>> {
    let &(name, text) = MANIFESTS.iter().find(|&&(known, _)| known == name)?;
    Some(Manifest::from_yaml(name, text))
}
