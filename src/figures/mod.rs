//! Names the figures that plans, profiles and reports share, and where each came from.

mod passes;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use passes::PassRange;

use crate::units::{Bytes, Fraction, Nanos};

/// Where a number came from; every figure shown says one of these.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// From the maker's documentation.
    Datasheet,
    /// From a formula over datasheet figures.
    Estimated,
    /// Stated by the user, in a workload file say.
    Given,
    /// From the simulator.
    Simulated,
    /// From a device.
    Measured,
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Datasheet => "datasheet",
            Self::Estimated => "estimated",
            Self::Given => "given",
            Self::Simulated => "simulated",
            Self::Measured => "measured",
        })
    }
}

/// What is brought in, used and released as one. A schedule holds all of a unit while it computes.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// A block.
    #[default]
    Block,
    /// A part of a block that computes at a stretch, as the manifest states: self-attention, feed-forward. The
    /// root stays.
    Phase,
    /// A leaf module: the tensors that share all of their name but its last part. Those of the root, too.
    Leaf,
}

impl std::fmt::Display for Unit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Block => "block",
            Self::Phase => "phase",
            Self::Leaf => "leaf",
        })
    }
}

impl Unit {
    /// Every unit, the coarsest first.
    pub const ALL: [Self; 3] = [Self::Block, Self::Phase, Self::Leaf];

    /// The unit and its article, for sentences.
    pub fn noun(self) -> &'static str {
        match self {
            Self::Block => "a block",
            Self::Phase => "a phase of a block",
            Self::Leaf => "a leaf module",
        }
    }
}

/// What a plan says its execution will cost, per component. Estimated, until a run measures it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Prediction {
    /// Steady time of one pass: the least period with which the plan can be repeated, rounded up.
    pub pass: Nanos,
    /// Time of the first pass, cold start included.
    pub first_pass: Nanos,
    /// Time of all passes, cold start included.
    pub makespan: Nanos,
    /// Share of H2D copy time hidden under compute, over the whole run.
    pub overlap: Fraction,
    /// Compute idle because its next use waits for a copy, over the whole run.
    pub stall: Nanos,
    /// H2D bytes of one steady pass.
    pub bytes_per_pass: Bytes,
    /// Bytes that one steady pass reads from disk.
    #[serde(default, skip_serializing_if = "no_bytes")]
    pub disk_per_pass: Bytes,
    /// Highest VRAM use: slab plus reserve.
    pub peak: Bytes,
}

/// What leaving blocks out of some passes saves, over the whole run of a component by itself. Estimated, until a run
/// measures it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Skipped {
    /// The passes that leave anything out, from 0.
    pub passes: Vec<PassRange>,
    /// Uses of blocks that are left out.
    pub uses: u64,
    /// Their compute, one after the other.
    pub compute: Nanos,
    /// The bytes of copies that are not made.
    pub bytes: Bytes,
    /// Time of all passes as planned.
    pub planned: Nanos,
    /// Time of all passes if they left nothing out.
    pub whole: Nanos,
    /// Time of all passes with every copy for these uses cancelled.
    pub cancelled: Nanos,
    /// Time of all passes with every such copy made all the same.
    pub kept: Nanos,
}

/// What the components of a plan take together, in order of use. Estimated, until a run measures it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Together {
    /// Time of the first generation, from an empty slab.
    pub first: Nanos,
    /// Time of one more generation of a stream of them: the third minus the second.
    pub generation: Nanos,
    /// Time of all generations planned for.
    pub makespan: Nanos,
    /// What passing from a component to the next costs, in order.
    pub boundaries: Vec<Boundary>,
}

/// What passing from one component to the next costs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Boundary {
    /// The component that goes.
    pub from: String,
    /// The component that comes.
    pub to: String,
    /// Its first pass, from the end of the last use before, minus what a pass takes once it is there.
    pub cost: Nanos,
    /// What the link demands: the time of the bytes that must arrive, minus the time that it is idle in the last pass
    /// of the component before; zero where that is negative. The same of the disk where bytes come from there, if
    /// longer.
    pub demand: Nanos,
    /// Bytes that its first pass brings besides what every pass of it brings.
    pub bytes: Bytes,
}

/// Times that no schedule can beat which holds a whole block while it computes, per steady pass, and the
/// distance to them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Bound {
    /// All compute of a pass, one use after the other.
    pub compute: Nanos,
    /// The bytes that cannot stay, over the link.
    pub copy: Nanos,
    /// The bytes that neither VRAM nor the host's budget can hold, from disk; 0 without such a budget.
    #[serde(default, skip_serializing_if = "no_time")]
    pub disk: Nanos,
    /// The largest known time that no plan of this granularity can beat.
    pub granularity: Nanos,
    /// The largest known time that no such schedule can beat, whatever it keeps and copies.
    pub any_schedule: Nanos,
    /// The same for all passes together where some leave blocks out, cold start included; 0 where none does.
    #[serde(default, skip_serializing_if = "no_time")]
    pub run: Nanos,
    /// Predicted pass over `any_schedule`, minus one.
    pub gap: Fraction,
    /// What binds: `compute`, `copy` or `disk`.
    pub binding: String,
}

// What serde asks whether to leave out is passed by reference.
fn no_time(time: &Nanos) -> bool {
    time.is_zero()
}

fn no_bytes(bytes: &Bytes) -> bool {
    bytes.is_zero()
}
