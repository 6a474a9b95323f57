//! Turns workload text into a validated [`Workload`] and back.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::skips::Skip;
use crate::error::{Problem, Result};
use crate::units::{Bytes, Nanos};
use crate::yaml;

/// Passes that a component may have: a million decoded tokens.
pub const MAX_PASSES: u32 = 1_000_000;

/// The first line of every workload file.
pub const WORKLOAD_FORMAT: &str = "vramplan/workload/1";

/// What is computed: how often, on how much, and what VRAM it needs besides weights.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Workload {
    /// Always `vramplan/workload/1`.
    pub format: String,
    /// Passes over the component that dominates, or over each component by name.
    pub passes: Passes,
    /// Samples computed at once.
    #[serde(default = "one")]
    pub batch: u64,
    /// Tokens by stream (`image`, `text`, …); beats what height, width and frames give.
    #[serde(
        default,
        skip_serializing_if = "BTreeMap::is_empty",
        serialize_with = "yaml::flow_map"
    )]
    pub tokens: BTreeMap<String, u64>,
    /// Pixels, for image and video models.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub height: Option<u64>,
    /// Pixels, for image and video models.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub width: Option<u64>,
    /// Frames, for video models.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frames: Option<u64>,
    /// VRAM that is not for weights.
    #[serde(default, serialize_with = "yaml::flow_map")]
    pub reserve: Reserve,
    /// The same while a component is in use, by its name; where nothing is said `reserve` is that of denoisers and
    /// language models, and others get its context and workspace with an estimate of their own activations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub reserves: BTreeMap<String, Reserve>,
    /// Components in order of use; where nothing is said text encoders, denoisers, then decoders.
    #[serde(default, skip_serializing_if = "Vec::is_empty", serialize_with = "yaml::flow_seq")]
    pub order: Vec<String>,
    /// Given or measured time per use, by block id or a pattern with `*`; beats every estimate.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub compute: BTreeMap<String, Nanos>,
    /// Blocks that some passes leave out.
    #[serde(default, skip_serializing_if = "Vec::is_empty", serialize_with = "yaml::flow_maps")]
    pub skips: Vec<Skip>,
}

fn one() -> u64 {
    1
}

/// Passes: one number for every component, or a number by component.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Passes {
    /// For the component that dominates; the others run once.
    Main(u32),
    /// By component name; components not named run once.
    ByComponent(BTreeMap<String, u32>),
}

/// VRAM kept for what is not weights.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Reserve {
    /// The CUDA context and loaded kernels.
    #[serde(default)]
    pub context: Bytes,
    /// Activations at their highest.
    #[serde(default)]
    pub activations: Bytes,
    /// Workspace of libraries.
    #[serde(default)]
    pub workspace: Bytes,
    /// A block gathered from several ranks while it computes.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub gathered: Bytes,
}

fn is_zero(size: &Bytes) -> bool {
    size.is_zero()
}

impl Reserve {
    /// Every part of it.
    fn parts(&self) -> [Bytes; 4] {
        [self.context, self.activations, self.workspace, self.gathered]
    }

    /// The sum, saturating.
    pub fn total(&self) -> Bytes {
        self.parts().into_iter().sum()
    }
}

impl Workload {
    /// Reads and validates a workload. `file` is only for messages.
    pub fn from_yaml(file: &str, text: &str) -> Result<Self> {
        yaml::checked(file, text, Self::validate)
    }

    /// Writes the workload.
    pub fn to_yaml(&self) -> Result<String> {
        yaml::to_string(&[], self)
    }

    /// The passes of a component; `is_main` says whether it is the one that dominates.
    pub fn passes_of(&self, component: &str, is_main: bool) -> u32 {
        match &self.passes {
            Passes::Main(passes) => {
                if is_main {
                    *passes
                } else {
                    1
                }
            }
            Passes::ByComponent(by_name) => by_name.get(component).copied().unwrap_or(1),
        }
    }

    /// Everything that is wrong with the workload; empty when it is sound.
    pub fn validate(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut require = |holds: bool, place: &str, found: String, expected: &str| {
            if !holds {
                problems.push(Problem::new(place, found, expected));
            }
        };
        let format = format!("{:?}", self.format);
        require(self.format == WORKLOAD_FORMAT, "format", format, WORKLOAD_FORMAT);
        let passes: Vec<u32> = match &self.passes {
            Passes::Main(passes) => vec![*passes],
            Passes::ByComponent(by_name) => by_name.values().copied().collect(),
        };
        require(!passes.is_empty(), "passes", "no component".into(), "passes by component");
        for passes in passes {
            let sound = (1..=MAX_PASSES).contains(&passes);
            require(sound, "passes", passes.to_string(), "1 to 1000000");
        }
        require((1..=1 << 20).contains(&self.batch), "batch", self.batch.to_string(), "1 to 2^20");
        let sizes = [("height", self.height), ("width", self.width), ("frames", self.frames)];
        for (name, size) in sizes {
            let Some(size) = size else { continue };
            require((1..=1 << 20).contains(&size), name, size.to_string(), "1 to 2^20");
        }
        for (stream, &tokens) in &self.tokens {
            let place = format!("tokens.{stream}");
            require((1..=1 << 32).contains(&tokens), &place, tokens.to_string(), "1 to 2^32");
        }
        for reserve in self.reserves.values().chain([&self.reserve]) {
            let parts = reserve.parts();
            let total = parts.iter().try_fold(Bytes::ZERO, |sum, &part| sum.checked_add(part));
            let found = "more than 2^64 bytes".into();
            require(total.is_some(), "reserve", found, "a total that fits 64 bits");
        }
        for (n, skip) in self.skips.iter().enumerate() {
            for (field, empty) in
                [("blocks", skip.blocks.is_empty()), ("passes", skip.passes.is_empty())]
            {
                let place = format!("skips[{n}].{field}");
                require(!empty, &place, "an empty list".into(), "at least one");
            }
        }
        problems
    }
}
