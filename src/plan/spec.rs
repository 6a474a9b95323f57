//! Turns plan text into a [`Plan`] and back: the residency plan as a file.
//!
//! One line per block says what stays, what streams, where each byte lies in the slab, and what its copy waits
//! for. A block that is whole on one side takes the short form; one that is split lists its pieces.
//!
//! ```yaml
//! - {block: transformer_blocks.0, bytes: 679662592, compute: 13ms, resident: all, at: 0}
//! - {block: transformer_blocks.1, bytes: 679662592, compute: 13ms, streamed: all, at: [0, 679662592],
//!    issue_after: single_transformer_blocks.36@-1, evict_after: use}
//! ```
//!
//! What comes from disk is read into a ring of pinned host memory first: `host_at` is its place there, `read_after` the
//! copy that must have ended before the read may start (`blocks.3#1@-1`: of piece 1 of that block, a pass before).
//!
//! Offsets count from the start of the slab. `at` with several offsets gives one per pass, used in turn: with
//! two slots and an odd number of streamed blocks a block alternates between the slots.
//!
//! Where blocks take turns staying, the plan repeats after `turns` passes, and `loads` says in which of them a piece
//! is copied, each with the use that frees its place. In the others its bytes are those of the pass before, where
//! they were:
//!
//! ```yaml
//! - {block: blocks.3, bytes: 436224000, compute: 1ms, streamed: all, at: [0, 0, 436224000],
//!    evict_after: use, loads: {0: blocks.1, 2: blocks.2}}
//! ```

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::device::DeviceSpec;
use crate::error::Result;
use crate::figures::{Bound, Prediction, Skipped, Together};
use crate::lane::Lane;
use crate::shard::RankOf;
use crate::units::{Bytes, Nanos};
use crate::workload::Skip;
use crate::yaml;

use super::fields::{BlockFields, OneOrMany};
use super::margins::Margins;
use super::refs::{Entry, UseRef};
use super::slice::Slice;
use super::tiers::{HostUse, Staging};
use super::unit::Unit;

/// The first line of every plan.
pub const PLAN_FORMAT: &str = "vramplan/plan/1";

/// The name under which a component's root appears among its uses.
pub const ROOT: &str = "root";

/// What stays, what streams and when, for the components of one model under one budget.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Always `vramplan/plan/1`.
    pub format: String,
    /// The model's name.
    pub model: String,
    /// What the plan was made from.
    #[serde(serialize_with = "yaml::flow_map")]
    pub digests: Digests,
    /// The finest unit the planner was allowed to split.
    pub granularity: Granularity,
    /// Of several ranks, those that the plan is for: it then speaks of what one of them holds and copies.
    #[serde(default, skip_serializing_if = "Option::is_none", serialize_with = "flow_rank")]
    pub rank: Option<RankOf>,
    /// VRAM given, and how it is divided.
    #[serde(serialize_with = "yaml::flow_map")]
    pub budget: Budget,
    /// How often the components are used in turn; planned for, and run.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub generations: u32,
    /// Components in order of use; each is a phase. Its pieces say what their first copies wait for; where they say
    /// nothing, the phase begins when the one before has ended.
    pub components: Vec<ComponentPlan>,
    /// What the components take together, and what passing from one to the next costs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pipeline: Option<Together>,
    /// The device that the predicted times are for, as planned with.
    pub device: DeviceSpec,
}

fn flow_rank<S: Serializer>(
    rank: &Option<RankOf>,
    serializer: S,
) -> std::result::Result<S::Ok, S::Error> {
    yaml::flow_map(rank, serializer)
}

/// Digests of the inputs, so that a changed manifest or device is noticed; of a rank's own, where it is one of several.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Digests {
    /// Of the manifest's canonical text.
    pub manifest: String,
    /// Of the device spec's canonical text.
    pub device: String,
    /// Of the workload's canonical text.
    pub workload: String,
}

/// The finest unit that may be resident in part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Granularity {
    /// Blocks stay or stream whole; which do is the same in every pass.
    Block,
    /// Blocks stay or stream whole, and may take turns staying.
    Rotating,
    /// A part of a block may stay while the rest streams: some tensors, and of one tensor some rows.
    Tensor,
}

/// VRAM given = reserve + weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// Given.
    pub vram: Bytes,
    /// Kept for context, activations and workspace.
    pub reserve: Bytes,
    /// Left for weights; no slab is larger.
    pub weights: Bytes,
    /// Host memory for the weights of all components; none where the host was not planned for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<Bytes>,
}

/// The plan of one component.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ComponentPlan {
    /// The component's name.
    pub name: String,
    /// The planner's own (`hybrid`, `resident`) or a peer's policy with its parameters.
    pub policy: String,
    /// What is brought in, used and released as one: what the entries of `blocks` are, and the bound speaks of.
    #[serde(default)]
    pub unit: Unit,
    /// Passes that the makespan is for.
    pub passes: u32,
    /// VRAM kept for what is not weights while it is in use, where that is not the budget's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reserve: Option<Bytes>,
    /// Passes after which the plan repeats: more than 1 where blocks take turns staying.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub turns: u32,
    /// Blocks that some passes leave out. Where it is one of several its passes count from its own first.
    #[serde(default, skip_serializing_if = "Vec::is_empty", serialize_with = "yaml::flow_maps")]
    pub skips: Vec<Skip>,
    /// VRAM reserved for streamed bytes.
    #[serde(serialize_with = "yaml::flow_map")]
    pub window: Window,
    /// How many uses ahead a copy may be issued.
    pub prefetch: u32,
    /// The one allocation, and how it is divided.
    #[serde(serialize_with = "yaml::flow_map")]
    pub slab: Slab,
    /// What the plan predicts; its pass is one that leaves nothing out.
    pub prediction: Prediction,
    /// What leaving blocks out saves and costs; none where no pass does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skipped: Option<Skipped>,
    /// What binds it, and how far it is from being otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub margins: Option<Margins>,
    /// What no schedule can beat.
    pub bound: Bound,
    /// Host memory for its weights; none where the host was not planned for, and holds everything.
    #[serde(default, skip_serializing_if = "Option::is_none", serialize_with = "flow_host")]
    pub host: Option<HostUse>,
    /// Waits of the host thread; our own plans need none.
    #[serde(default, skip_serializing_if = "Vec::is_empty", serialize_with = "yaml::flow_maps")]
    pub host_syncs: Vec<HostSync>,
    /// Every use in order of execution; the root, where there is one, comes first under the name `root`.
    #[serde(serialize_with = "yaml::flow_maps")]
    pub blocks: Vec<BlockPlan>,
}

fn flow_host<S: Serializer>(
    host: &Option<HostUse>,
    serializer: S,
) -> std::result::Result<S::Ok, S::Error> {
    yaml::flow_map(host, serializer)
}

fn one() -> u32 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands out references")]
fn is_one(turns: &u32) -> bool {
    *turns == 1
}

/// VRAM reserved for streamed bytes: in slots when they are equal, in bytes always.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// All of it.
    pub bytes: Bytes,
    /// Equal slots; 0 when nothing streams, or when the streamed pieces are not equal whole blocks.
    pub slots: u32,
}

/// The one device allocation: root, residents, window, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Slab {
    /// All of it.
    pub bytes: Bytes,
    /// Resident bytes, root included, each piece rounded up to the alignment.
    pub resident: Bytes,
    /// The window.
    pub window: Bytes,
}

/// A wait of the host thread before it issues more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HostSync {
    /// Directly before this use is issued …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// … or between the copies that are issued before this use and the use itself: blocking copies, and copies
    /// that are queued on the compute stream …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arrival: Option<String>,
    /// … or directly after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// Lanes whose operations issued so far must have ended.
    pub waits: Vec<Lane>,
    /// What the synchronisation itself costs the host.
    #[serde(default)]
    pub cost: Nanos,
}

/// One use of a block: how large it is, how long it computes, and its pieces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "BlockFields", into = "BlockFields")]
pub struct BlockPlan {
    /// The block's id without its component, or `root`.
    pub block: String,
    /// Its size.
    pub bytes: Bytes,
    /// The time of one use.
    pub compute: Nanos,
    /// The part of it at its end in which ranks exchange over the host's link; copies pause meanwhile.
    pub on_link: Nanos,
    /// Its pieces, which together are all of it, in the order of their copies.
    pub pieces: Vec<Piece>,
}

/// A contiguous part of a block that moves with one copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Which tensors.
    pub part: Part,
    /// Its size.
    pub bytes: Bytes,
    /// Its offsets in the slab, one per pass, used in turn; a resident piece has one.
    pub at: Vec<u64>,
    /// What must have ended before its first copy; none for everything of the components before.
    pub enters_after: Option<Entry>,
    /// Resident, and no other component ever takes its bytes: copied in the first generation only.
    pub kept: bool,
    /// Whether it stays.
    pub residency: Residency,
    /// Its place in the ring of pinned host memory, where it comes from disk.
    pub staged: Option<Staging>,
}

impl Piece {
    /// A piece whose first copy waits for everything of the components before; not in the ring.
    pub fn new(part: Part, bytes: Bytes, at: Vec<u64>, residency: Residency) -> Self {
        Self { part, bytes, at, enters_after: None, kept: false, residency, staged: None }
    }

    /// One that stays.
    pub fn resident(part: Part, bytes: Bytes, at: u64) -> Self {
        Self::new(part, bytes, vec![at], Residency::Resident)
    }

    /// The host memory that it comes from. What stays comes from disk where it has a place in the ring, else from
    /// pinned memory.
    pub fn home(&self) -> HostMemory {
        match &self.residency {
            Residency::Streamed(stream) => stream.from,
            Residency::Resident if self.staged.is_some() => HostMemory::Disk,
            Residency::Resident => HostMemory::Pinned,
        }
    }
}

/// Whether a piece stays in VRAM while its component is in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Residency {
    /// Stays, once copied.
    Resident,
    /// Is brought in for each use.
    Streamed(Stream),
}

/// How a streamed piece comes and goes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stream {
    /// The use that must have ended before the copy may start; none when its place is free anyway.
    pub issue_after: Option<UseRef>,
    /// The use directly before which the host issues the copy; none for its own use.
    pub issue_before: Option<UseRef>,
    /// When its bytes are released.
    pub evict_after: Evict,
    /// A later use of the same pass until whose end its bytes stay; none for its own use.
    pub held_until: Option<String>,
    /// Copies it comes in, back to back and of equal size, each paying the link's latency; 0 for a single one.
    pub copies: u32,
    /// Where the copy comes from.
    pub from: HostMemory,
    /// Predicted: the least time from its arrival to its use, over all passes but the first.
    pub slack: Option<Nanos>,
    /// The turns in which it is copied, each with the use that must have ended before; empty where it is copied in
    /// every pass. Where it is not copied in the first pass of all, it comes with the residents.
    pub loads: Loads,
}

/// By turn (pass modulo [`ComponentPlan::turns`]): the use that must have ended before the copy may start; none when
/// its place is free anyway.
pub type Loads = BTreeMap<u32, Option<UseRef>>;

/// When a streamed piece's bytes are released.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Evict {
    /// At the end of its use.
    #[default]
    Use,
    /// At the end of a copy back to the host that follows its use.
    WriteBack,
    /// At the end of such a copy that takes its turn among the copies to the device: both share one stream.
    Exchange,
}

/// Host memory that a copy comes from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum HostMemory {
    /// Page-locked.
    #[default]
    Pinned,
    /// Ordinary.
    Pageable,
    /// Read from storage into pinned memory for each use.
    Disk,
}

/// Tensors of a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// All of them.
    All,
    /// Those that no other piece of the block names.
    Rest,
    /// These, whole or some of their rows, by their names inside the block.
    Tensors(Vec<Slice>),
}

impl JsonSchema for Part {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Part".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "all of the block, the rest that no other piece names, or a list of tensors and row ranges (attn.to_q.weight[0..1536])",
            "anyOf": [
                {"enum": ["all", "rest"]},
                {"type": "array", "items": {"type": "string"}},
            ],
        })
    }
}

impl Serialize for Part {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        match self {
            Self::All => serializer.serialize_str("all"),
            Self::Rest => serializer.serialize_str("rest"),
            Self::Tensors(slices) => serializer.collect_seq(slices),
        }
    }
}

impl<'de> Deserialize<'de> for Part {
    fn deserialize<D: Deserializer<'de>>(d: D) -> std::result::Result<Self, D::Error> {
        match OneOrMany::<String>::deserialize(d)? {
            OneOrMany::Many(names) => {
                let slices = names.iter().map(|name| name.parse());
                let slices: std::result::Result<Vec<Slice>, String> = slices.collect();
                slices.map(Self::Tensors).map_err(serde::de::Error::custom)
            }
            OneOrMany::One(word) if word == "all" => Ok(Self::All),
            OneOrMany::One(word) if word == "rest" => Ok(Self::Rest),
            OneOrMany::One(word) => Err(serde::de::Error::custom(format!(
                "found {word:?}, expected all, rest or a list of tensor names"
            ))),
        }
    }
}

impl ComponentPlan {
    /// VRAM kept for what is not weights while it is in use.
    pub fn reserve_of(&self, budget: &Budget) -> Bytes {
        self.reserve.unwrap_or(budget.reserve)
    }
}

impl BlockPlan {
    /// Whether every byte of it stays.
    pub fn is_resident(&self) -> bool {
        self.pieces.iter().all(|piece| piece.residency == Residency::Resident)
    }

    /// Whether it takes turns staying.
    pub fn takes_turns(&self) -> bool {
        let turns = |piece: &Piece| match &piece.residency {
            Residency::Streamed(stream) => !stream.loads.is_empty(),
            Residency::Resident => false,
        };
        self.pieces.iter().any(turns)
    }

    /// The bytes that are brought in for each use, or for some of them.
    pub fn streamed_bytes(&self) -> Bytes {
        let streamed = |piece: &&Piece| piece.residency != Residency::Resident;
        self.pieces.iter().filter(streamed).map(|piece| piece.bytes).sum()
    }
}

impl Plan {
    /// The one allocation: as large as its largest component needs it.
    pub fn slab(&self) -> Bytes {
        self.components.iter().map(|component| component.slab.bytes).max().unwrap_or_default()
    }

    /// The highest use of VRAM over all components: the slab, and what the component in use keeps for itself beyond
    /// what it takes of the slab's end.
    pub fn peak(&self) -> Bytes {
        let slab = self.slab();
        let vram = self.budget.vram;
        let of = |component: &ComponentPlan| {
            let whole = slab.saturating_add(component.reserve_of(&self.budget));
            if component.reserve.is_some() { whole.min(vram) } else { whole }
        };
        self.components.iter().map(of).max().unwrap_or(slab)
    }

    /// Reads a plan and checks that it says something: ids, sums, offsets. Whether it is *safe* is for the
    /// program's checker. `file` is only for messages.
    pub fn from_yaml(file: &str, text: &str) -> Result<Self> {
        yaml::checked(file, text, super::validate::problems)
    }

    /// Writes the plan, headed by comments on how to read it.
    pub fn to_yaml(&self) -> Result<String> {
        let comments = [
            "Residency plan. Sizes in bytes, offsets from the start of the slab; times predicted,",
            "for the device below. streamed: copied for every use, once issue_after has ended",
            "(@-1: in the previous pass); several offsets in `at` are used in turn, one per pass.",
        ];
        let rotating = [
            "loads: copied only in these passes of every `turns`, once the use named has ended; in the",
            "others the bytes of the pass before are used again, where they are.",
        ];
        let turns = self.components.iter().any(|component| component.turns > 1);
        let comments = comments.into_iter().chain(rotating.into_iter().filter(|_| turns));
        let comments: Vec<String> = comments.map(str::to_owned).collect();
        yaml::to_string(&comments, self)
    }
}
