//! Turns manifest text into a validated [`Manifest`] and back.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Dtype;
use super::graph;
use super::phases::{self, Phase};
use crate::error::{Problem, Result};
use crate::units::Bytes;
use crate::yaml;

/// The first line of every manifest.
pub const MANIFEST_FORMAT: &str = "vramplan/manifest/1";

/// Blocks that a component may have. Far above any model; below what exhausts memory on a hostile `count`.
const MAX_BLOCKS: u64 = 200_000;

/// What a model is: kinds of block, and components with their blocks in order of execution.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Always `vramplan/manifest/1`.
    pub format: String,
    /// The model's name, `flux1-dev` say.
    pub model: String,
    /// The pipeline class the checkpoint names, where it is a pipeline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pipeline: Option<String>,
    /// Kinds of block by name; every block refers to one.
    #[serde(default)]
    pub kinds: BTreeMap<String, Kind>,
    /// Components in the order of the pipeline.
    pub components: Vec<Component>,
}

/// A kind of block: its tensors, or its size alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "KindFields", into = "KindFields")]
pub struct Kind {
    /// The block's class, where known.
    pub class: Option<String>,
    /// What it holds.
    pub weights: Weights,
    /// What of it computes at a stretch, in order of execution; empty where that is not known.
    pub phases: Vec<Phase>,
}

/// A kind as its file fields; exactly one of `bytes` and `tensors` is there.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct KindFields {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    class: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty", serialize_with = "yaml::flow_maps")]
    phases: Vec<Phase>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    bytes: Option<Bytes>,
    #[serde(default, skip_serializing_if = "Option::is_none", serialize_with = "optional_tensors")]
    tensors: Option<Vec<TensorSpec>>,
}

fn optional_tensors<S: serde::Serializer>(
    tensors: &Option<Vec<TensorSpec>>,
    serializer: S,
) -> std::result::Result<S::Ok, S::Error> {
    yaml::flow_seqs(tensors.as_deref().unwrap_or_default(), serializer)
}

impl TryFrom<KindFields> for Kind {
    type Error = String;

    fn try_from(fields: KindFields) -> std::result::Result<Self, String> {
        let weights = match (fields.bytes, fields.tensors) {
            (Some(bytes), None) => Weights::Bytes(bytes),
            (None, Some(tensors)) => Weights::Tensors(tensors),
            (Some(_), Some(_)) => return Err("found both, expected either bytes or tensors".into()),
            (None, None) => return Err("found neither, expected either bytes or tensors".into()),
        };
        Ok(Self { class: fields.class, weights, phases: fields.phases })
    }
}

impl From<Kind> for KindFields {
    fn from(kind: Kind) -> Self {
        let Kind { class, weights, phases } = kind;
        let (bytes, tensors) = match weights {
            Weights::Bytes(bytes) => (Some(bytes), None),
            Weights::Tensors(tensors) => (None, Some(tensors)),
        };
        Self { class, phases, bytes, tensors }
    }
}

/// Weights as tensors (which may be split among memories) or as one indivisible number of bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Weights {
    /// One indivisible piece of this size.
    Bytes(Bytes),
    /// Tensors in the order in which they lie in a copy.
    Tensors(#[serde(serialize_with = "yaml::flow_seqs")] Vec<TensorSpec>),
}

impl Weights {
    /// No weights at all.
    pub const NONE: Self = Self::Bytes(Bytes::ZERO);

    /// The sum over the tensors. Saturates; [`Manifest::validate`] has refused what would.
    pub fn bytes(&self) -> Bytes {
        match self {
            Self::Bytes(bytes) => *bytes,
            Self::Tensors(tensors) => tensors.iter().map(|t| t.bytes().unwrap_or_default()).sum(),
        }
    }

    /// The tensors, none for an opaque piece.
    pub fn tensors(&self) -> &[TensorSpec] {
        match self {
            Self::Bytes(_) => &[],
            Self::Tensors(tensors) => tensors,
        }
    }
}

/// A tensor: name inside its block or root, element type, shape. Written as `[name, dtype, [shape]]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TensorSpec(pub String, pub Dtype, pub Vec<u64>);

impl TensorSpec {
    /// The name inside the block, `attn.to_q.weight` say.
    pub fn name(&self) -> &str {
        &self.0
    }

    /// The element type.
    pub fn dtype(&self) -> Dtype {
        self.1
    }

    /// The dimensions, outermost first; none for a scalar.
    pub fn shape(&self) -> &[u64] {
        &self.2
    }

    /// The size, `None` when it overflows or does not fill whole storage units of its type.
    pub fn bytes(&self) -> Option<Bytes> {
        let elements = self.2.iter().try_fold(1u64, |product, &dim| product.checked_mul(dim))?;
        self.1.bytes_for(elements).map(Bytes::new)
    }
}

/// A part of a pipeline: text encoder, transformer, VAE.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Component {
    /// The component's name, `transformer` say; no dots.
    pub name: String,
    /// Its class, `FluxTransformer2DModel` say; compute estimates and orders of execution hang on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// Everything outside the block lists.
    pub root: Weights,
    /// Blocks in order of execution, run-length.
    #[serde(default, serialize_with = "yaml::flow_maps")]
    pub blocks: Vec<Segment>,
    /// Dependencies beyond the chain, such as long skips; block ids without the component's name.
    #[serde(default, skip_serializing_if = "Vec::is_empty", serialize_with = "yaml::flow_maps")]
    pub edges: Vec<Edge>,
}

/// A run of equal blocks. Several segments may name one list; its indices run on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Segment {
    /// The block list's path inside the component, `transformer_blocks` say.
    pub list: String,
    /// The name of a kind.
    pub kind: String,
    /// How many blocks.
    pub count: u64,
}

/// A dependency between two blocks of a component: `to` needs what `from` computed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Edge {
    /// The earlier block, `down_blocks.0` say.
    pub from: String,
    /// The later block.
    pub to: String,
}

/// A block of a component, resolved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockRef<'a> {
    /// The list it belongs to.
    pub list: &'a str,
    /// Its index in that list.
    pub index: u64,
    /// The name of its kind.
    pub kind_name: &'a str,
    /// Its kind.
    pub kind: &'a Kind,
}

impl BlockRef<'_> {
    /// The id inside the component, `transformer_blocks.7` say.
    pub fn local_id(&self) -> String {
        format!("{}.{}", self.list, self.index)
    }

    /// The size of the block.
    pub fn bytes(&self) -> Bytes {
        self.kind.weights.bytes()
    }
}

impl Component {
    /// The blocks in order of execution. Segments with an unknown kind yield nothing (validation refuses them).
    pub fn blocks<'a>(&'a self, manifest: &'a Manifest) -> Vec<BlockRef<'a>> {
        let mut next: BTreeMap<&str, u64> = BTreeMap::new();
        let mut blocks = Vec::new();
        for segment in &self.blocks {
            let Some(kind) = manifest.kinds.get(&segment.kind) else { continue };
            let index = next.entry(&segment.list).or_default();
            for _ in 0..segment.count {
                blocks.push(BlockRef {
                    list: &segment.list,
                    index: *index,
                    kind_name: &segment.kind,
                    kind,
                });
                *index += 1;
            }
        }
        blocks
    }

    /// Root and blocks together.
    pub fn total_bytes(&self, manifest: &Manifest) -> Bytes {
        let blocks: Bytes = self.blocks(manifest).iter().map(BlockRef::bytes).sum();
        self.root.bytes().saturating_add(blocks)
    }

    /// Tensors of root and blocks together; an opaque piece counts as one.
    pub fn tensor_count(&self, manifest: &Manifest) -> u64 {
        let count = |weights: &Weights| match weights {
            Weights::Bytes(bytes) => u64::from(!bytes.is_zero()),
            Weights::Tensors(tensors) => tensors.len() as u64,
        };
        let blocks = self.blocks(manifest);
        count(&self.root) + blocks.iter().map(|block| count(&block.kind.weights)).sum::<u64>()
    }
}

impl Manifest {
    /// Reads and validates a manifest. `file` is only for messages.
    pub fn from_yaml(file: &str, text: &str) -> Result<Self> {
        yaml::checked(file, text, Self::validate)
    }

    /// Writes the manifest.
    pub fn to_yaml(&self) -> Result<String> {
        yaml::to_string(&[], self)
    }

    /// The component of that name.
    pub fn component(&self, name: &str) -> Option<&Component> {
        self.components.iter().find(|component| component.name == name)
    }

    /// Everything that is wrong with the manifest, in its order; empty when it is sound.
    pub fn validate(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if self.format != MANIFEST_FORMAT {
            problems.push(Problem::new("format", format!("{:?}", self.format), MANIFEST_FORMAT));
        }
        if self.components.is_empty() {
            problems.push(Problem::new("components", "an empty list", "at least one component"));
        }
        check_name("model", &self.model, &mut problems);
        for (name, kind) in &self.kinds {
            check_name("kinds", name, &mut problems);
            check_weights(&format!("kinds.{name}"), &kind.weights, &mut problems);
            let tensors = kind.weights.tensors();
            phases::check(&format!("kinds.{name}"), &kind.phases, tensors, &mut problems);
        }
        let mut names = BTreeSet::new();
        for (n, component) in self.components.iter().enumerate() {
            let place = format!("components[{n}]");
            if !names.insert(&component.name) {
                let found = format!("{:?} a second time", component.name);
                problems.push(Problem::new(format!("{place}.name"), found, "a name of its own"));
            }
            self.check_component(&place, component, &mut problems);
        }
        problems
    }

    fn check_component(&self, place: &str, component: &Component, problems: &mut Vec<Problem>) {
        let name = &component.name;
        check_name(&format!("{place}.name"), name, problems);
        if name.contains('.') || name.contains(char::is_whitespace) {
            let expected = "a name without dots and blanks";
            problems.push(Problem::new(format!("{place}.name"), format!("{name:?}"), expected));
        }
        check_weights(&format!("{place}.root"), &component.root, problems);
        let mut count = 0u64;
        for (n, segment) in component.blocks.iter().enumerate() {
            let place = format!("{place}.blocks[{n}]");
            if !self.kinds.contains_key(&segment.kind) {
                let expected = format!("one of {}", known_names(self.kinds.keys()));
                let found = format!("{:?}", segment.kind);
                problems.push(Problem::new(format!("{place}.kind"), found, expected));
            }
            check_name(&format!("{place}.list"), &segment.list, problems);
            if segment.list.contains('@') {
                let found = format!("{:?}", segment.list);
                problems.push(Problem::new(format!("{place}.list"), found, "a path without @"));
            }
            if segment.count == 0 {
                problems.push(Problem::new(format!("{place}.count"), "0", "at least 1"));
            }
            count = count.saturating_add(segment.count);
        }
        if count > MAX_BLOCKS {
            let expected = format!("at most {MAX_BLOCKS}");
            problems.push(Problem::new(
                format!("{place}.blocks"),
                format!("{count} blocks"),
                expected,
            ));
        } else if problems.is_empty() {
            let sizes: Vec<u64> =
                component.blocks(self).iter().map(|block| block.bytes().get()).collect();
            let total =
                sizes.iter().try_fold(component.root.bytes().get(), |a, &b| a.checked_add(b));
            if total.is_none() {
                let found = "more than 2^64 bytes";
                problems.push(Problem::new(place, found, "a total that fits 64 bits"));
            }
            problems.extend(graph::check(place, component, self));
        }
    }
}

/// Names appear in every file and message; the longest that checkpoints have is 200 bytes.
const MAX_NAME: usize = 1_024;

fn check_name(place: &str, name: &str, problems: &mut Vec<Problem>) {
    if name.is_empty() || name.len() > MAX_NAME || name.contains(char::is_control) {
        let shown: String = name.chars().take(40).collect();
        let found = format!("{shown:?} of {} bytes", name.len());
        let expected = format!("1 to {MAX_NAME} bytes without control characters");
        problems.push(Problem::new(place, found, expected));
    }
}

/// At most five names, for messages.
fn known_names<'a>(names: impl ExactSizeIterator<Item = &'a String>) -> String {
    let more = names.len().saturating_sub(5);
    let mut shown: Vec<String> = names.take(5).cloned().collect();
    if more > 0 {
        shown.push(format!("{more} more"));
    }
    if shown.is_empty() {
        "the kinds, of which there are none".to_owned()
    } else {
        shown.join(", ")
    }
}

fn check_weights(place: &str, weights: &Weights, problems: &mut Vec<Problem>) {
    let mut total = Some(0u64);
    let mut names = BTreeSet::new();
    for (n, tensor) in weights.tensors().iter().enumerate() {
        let place = || format!("{place}.tensors[{n}]");
        // Plans write uses of earlier passes with an @.
        let readable = !tensor.name().is_empty() && !tensor.name().contains('@');
        if !readable || !names.insert(tensor.name()) {
            let found = format!("name {:?}", tensor.name());
            problems.push(Problem::new(place(), found, "a name of its own, without @"));
        }
        match tensor.bytes() {
            Some(bytes) => total = total.and_then(|sum| sum.checked_add(bytes.get())),
            None => {
                let found = format!("{} {:?}", tensor.dtype(), tensor.shape());
                let expected = "a shape of whole storage units whose size fits 64 bits";
                problems.push(Problem::new(place(), found, expected));
            }
        }
    }
    if total.is_none() {
        let expected = "a total that fits 64 bits";
        problems.push(Problem::new(place, "tensors of more than 2^64 bytes", expected));
    }
}
