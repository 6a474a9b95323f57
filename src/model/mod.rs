//! Turns a manifest file into the model it describes: components, blocks in order of execution, tensors, bytes.
//!
//! A [`Manifest`] says what the weights are; it knows no device, no budget and no decision. Kinds of block are
//! stated once, and a component lists its blocks run-length, in order of execution:
//!
//! ```text
//! kinds:       transformer_blocks ─ tensors [name, dtype, shape] …      single_transformer_blocks ─ …
//! components:  transformer ─ root ─ 19 × transformer_blocks ─ 38 × single_transformer_blocks
//! block ids:   transformer.transformer_blocks.0 … transformer.single_transformer_blocks.37
//! ```
//!
//! Reading a manifest [validates](Manifest::validate) it whole and reports every problem at once; the
//! [`graph`] module adds the declared edges and refuses cycles.

pub mod builtin;
mod dtype;
pub mod graph;
mod main_component;
mod manifest;
mod phases;

pub use dtype::Dtype;
pub use main_component::LANGUAGE_MODEL;
pub use manifest::{
    BlockRef, Component, Edge, Kind, MANIFEST_FORMAT, Manifest, Segment, TensorSpec, Weights,
};
pub use phases::{Phase, phase_of, told_by as phases_told_by};
