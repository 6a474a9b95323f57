//! Turns a component and a workload into how many tokens each weight sees: what a real product is measured with.

use super::Workload;
use super::family::{self, Family};
use super::tokens::{Tokens, resolve};
use crate::error::Result;
use crate::model::{Component, Manifest};

/// The tokens of a workload, by weight.
#[derive(Debug, Clone)]
pub struct Seen {
    family: &'static Family,
    tokens: Tokens,
    batch: u64,
}

impl Seen {
    /// Resolves a workload's sizes for a component. Fails on sizes that its class cannot divide into tokens.
    pub fn new(manifest: &Manifest, component: &Component, workload: &Workload) -> Result<Self> {
        let family = family::of_component(component);
        let (tokens, _) = resolve(family, workload, manifest, component)?;
        Ok(Self { family, tokens, batch: workload.batch })
    }

    /// The tokens of the whole batch that multiply a weight; `name` inside the component, block included.
    pub fn tokens(&self, name: &str) -> u64 {
        self.tokens.of(self.family.stream(name), name).saturating_mul(self.batch)
    }
}
