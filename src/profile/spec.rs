//! The profile as a value: header, spans, VRAM samples.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::figures::{Bound, Origin, Prediction};
use crate::lane::{Lane, OpKind};
use crate::units::{Bytes, Nanos, plain};

/// The first field of every profile.
pub const PROFILE_FORMAT: &str = "vramplan/profile/1";

/// Everything recorded in one run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// Always `vramplan/profile/1`.
    pub format: String,
    /// What ran, where, and what was predicted.
    pub header: Header,
    /// Intervals, sorted by start, then lane.
    pub spans: Vec<Span>,
    /// Bytes of the slab in use over time; each sample holds until the next.
    pub vram: Vec<VramSample>,
}

/// What ran, where, and what was predicted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// The model's name.
    pub model: String,
    /// Digest of the plan file's content.
    pub plan_digest: String,
    /// `sim` or `cuda`.
    pub backend: String,
    /// The device's name.
    pub device: String,
    /// Simulated or measured.
    pub origin: Origin,
    /// Where times come from: `simulated`, `cuda_event`, …
    pub clock: String,
    /// Seed of simulated jitter and of the contents of weights.
    pub seed: u64,
    /// The version of vramplan that recorded it.
    pub tool_version: String,
    /// False when the run failed or was interrupted; figures then cover what ran.
    pub complete: bool,
    /// VRAM given.
    #[serde(serialize_with = "plain")]
    pub budget: Bytes,
    /// Part of it kept for context, activations and workspace.
    #[serde(serialize_with = "plain")]
    pub reserve: Bytes,
    /// The one allocation that holds residents and window; reserve + slab is the peak.
    #[serde(serialize_with = "plain")]
    pub slab: Bytes,
    /// The part of the slab that holds streamed bytes.
    #[serde(serialize_with = "plain")]
    pub window: Bytes,
    /// Components in order of use.
    pub components: Vec<ComponentHeader>,
}

/// A component as a profile knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ComponentHeader {
    /// The component's name.
    pub name: String,
    /// Passes that were to run.
    pub passes: u32,
    /// Ids of its uses without the component's name, in order of execution; spans refer to them by index.
    /// The root, where it computes or holds bytes, is the use named `root`.
    pub blocks: Vec<String>,
    /// Bytes of each use, streamed or not.
    #[serde(serialize_with = "plain_list")]
    pub bytes: Vec<Bytes>,
    /// What the plan predicted, where it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prediction: Option<Prediction>,
    /// What no schedule can beat, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bound: Option<Bound>,
}

/// One interval on one lane.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Span {
    /// Where it ran.
    pub lane: Lane,
    /// What it did.
    pub op: OpKind,
    /// Index into [`Header::components`].
    pub component: u32,
    /// Index into [`ComponentHeader::blocks`].
    pub block: u32,
    /// Which piece of the block moved; absent for compute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub piece: Option<u32>,
    /// Pass it belongs to, from 0. A copy belongs to the pass that uses it.
    pub pass: u32,
    /// Start, since the start of the run.
    #[serde(serialize_with = "plain")]
    pub start: Nanos,
    /// End, since the start of the run.
    #[serde(serialize_with = "plain")]
    pub end: Nanos,
    /// Bytes moved; 0 for compute.
    #[serde(default, skip_serializing_if = "no_bytes", serialize_with = "plain")]
    pub bytes: Bytes,
    /// The operation on another lane whose end let this one start; absent where its own lane was the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waited_for: Option<WaitedFor>,
}

/// The operation that another one waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WaitedFor {
    /// Its lane.
    pub lane: Lane,
    /// Its component.
    pub component: u32,
    /// Its block.
    pub block: u32,
    /// Its piece; absent for compute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub piece: Option<u32>,
    /// Its pass.
    pub pass: u32,
}

/// Bytes of the slab in use from an instant on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VramSample {
    /// When.
    #[serde(serialize_with = "plain")]
    pub at: Nanos,
    /// Bytes in use: residents from the start of their copy on, streamed bytes until the end of their use.
    #[serde(serialize_with = "plain")]
    pub in_use: Bytes,
}

fn no_bytes(size: &Bytes) -> bool {
    size.is_zero()
}

fn plain_list<S: serde::Serializer>(sizes: &[Bytes], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(sizes.iter().map(|size| size.get()))
}

impl Span {
    /// End minus start; zero for a span that ends before it starts.
    pub fn duration(&self) -> Nanos {
        self.end.saturating_sub(self.start)
    }
}

impl Profile {
    /// The full id of a block, `transformer.transformer_blocks.7` say; `?` for an index out of range.
    pub fn block_id(&self, component: u32, block: u32) -> String {
        let Some(header) = self.header.components.get(component as usize) else {
            return "?".to_owned();
        };
        let local = header.blocks.get(block as usize).map_or("?", String::as_str);
        format!("{}.{local}", header.name)
    }
}
