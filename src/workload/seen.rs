//! Turns a component and a workload into how many tokens each weight sees: what a real product is measured with.

use super::Workload;
use super::family::{self, Family, Grid, Stream};
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

/// An attention among tokens that ranks have divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exchanged {
    /// Image tokens of the whole batch.
    pub image: u64,
    /// Text tokens beside them, which every rank has.
    pub text: u64,
    /// The width of all heads together.
    pub width: u64,
}

impl Seen {
    /// Resolves a workload's sizes for a component. Fails on sizes that its class cannot divide into tokens.
    pub fn new(manifest: &Manifest, component: &Component, workload: &Workload) -> Result<Self> {
        let family = family::of_component(component);
        let (tokens, _) = resolve(family, workload, manifest, component)?;
        Ok(Self { family, tokens, batch: workload.batch })
    }

    /// What ranks that divide the image tokens exchange for the attention that this weight opens: none where they
    /// exchange nothing. `name` inside the component, block included.
    pub fn exchanged(&self, name: &str, shape: &[u64]) -> Option<Exchanged> {
        let attention = self.family.attention(name).filter(|attention| attention.is_exchanged())?;
        let joint = attention.queries == Stream::Joint;
        let text = if joint { self.tokens.of(Stream::Text, name) } else { 0 };
        Some(Exchanged {
            image: self.tokens.image().saturating_mul(self.batch),
            text: text.saturating_mul(self.batch),
            width: attention.width_of(shape),
        })
    }

    /// Image tokens of one sample.
    pub fn image(&self) -> u64 {
        self.tokens.image()
    }

    /// Text tokens of one sample.
    pub fn text(&self) -> u64 {
        self.tokens.of(Stream::Text, "")
    }

    /// Samples computed at once.
    pub fn batch(&self) -> u64 {
        self.batch
    }

    /// Whether the class is known, and divides a picture into a sequence of tokens.
    pub fn is_sequence(&self) -> bool {
        matches!(self.family.grid, Grid::Patches { .. })
    }

    /// The tokens of the whole batch that multiply a weight; `name` inside the component, block included.
    pub fn tokens(&self, name: &str) -> u64 {
        self.tokens.of(self.family.stream(name), name).saturating_mul(self.batch)
    }
}
