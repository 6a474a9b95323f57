//! The profile as a value: header, spans, VRAM samples.

use std::fmt;
use std::marker::PhantomData;

use schemars::JsonSchema;
use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::figures::{Bound, Origin, Prediction, Skipped, Unit};
use crate::lane::{Lane, OpKind};
use crate::units::{Bytes, Nanos, plain};

/// The first field of every profile.
pub const PROFILE_FORMAT: &str = "vramplan/profile/1";

/// Spans, VRAM samples, components, and blocks of one component that are read at most. A list is refused at the first
/// element too many, so that a small file cannot ask for much memory.
const MOST_SPANS: usize = 4_000_000;
const MOST_SAMPLES: usize = 2 * MOST_SPANS;
const MOST_COMPONENTS: usize = 1_000;
const MOST_BLOCKS: usize = 100_000;

/// Everything recorded in one run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// Always `vramplan/profile/1`.
    pub format: String,
    /// What ran, where, and what was predicted.
    pub header: Header,
    /// Intervals, sorted by start, then lane.
    #[serde(deserialize_with = "at_most::<_, _, MOST_SPANS>")]
    pub spans: Vec<Span>,
    /// Bytes of the slab in use over time; each sample holds until the next.
    #[serde(deserialize_with = "at_most::<_, _, MOST_SAMPLES>")]
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
    /// Of several devices, which: `ranks 0-3 of 4, tensor parallel over NVLink`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rank: Option<String>,
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
    #[serde(deserialize_with = "at_most::<_, _, MOST_COMPONENTS>")]
    pub components: Vec<ComponentHeader>,
    /// What only a real run knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub measured: Option<Measured>,
    /// The text of the plan that ran: from it a report knows what was predicted of every block and copy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<String>,
}

/// What only a run on a device knows, besides its spans.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Measured {
    /// The newest version of CUDA that the driver supports.
    pub driver: String,
    /// What stood for a use of a block: `gemm`, `spin` or `touch`, and why.
    pub compute: String,
    /// Where the bytes of the weights came from.
    pub weights: String,
    /// How far a time may be off: resolution of the clock, rounding, and the largest correction of an order that
    /// was certain.
    #[serde(serialize_with = "plain")]
    pub clock_error: Nanos,
    /// Every how many passes operations were timed; spans of the others are left out but for the last use.
    pub sample: u32,
    /// Time of each pass, by component, from marks at its end; verification included.
    #[serde(serialize_with = "plain_lists")]
    pub passes: Vec<Vec<Nanos>>,
    /// The pass time with operations timed and without, medians of the same run, where both were measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overhead: Option<Overhead>,
    /// How passes were issued, by component.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub graphs: Vec<Issued>,
    /// What copies come from, and how that was chosen.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub host_memory: String,
    /// Operations of one steady pass of all components.
    pub operations: u64,
    /// The host's time to issue one operation, in the median pass.
    #[serde(serialize_with = "plain")]
    pub issue_per_operation: Nanos,
    /// The host's time to allocate page-locked memory and fill it.
    #[serde(serialize_with = "plain")]
    pub fill: Nanos,
    /// Page-locked memory.
    #[serde(serialize_with = "plain")]
    pub locked: Bytes,
    /// Device memory that vramplan allocated: the slab, and what verification and products need.
    #[serde(serialize_with = "plain")]
    pub allocated: Bytes,
    /// Device memory in use by anyone before vramplan allocated, as the driver counts: its context and other
    /// processes.
    #[serde(serialize_with = "plain")]
    pub driver_before: Bytes,
    /// The most device memory in use at the end of any pass that was looked at, as the driver counts.
    #[serde(serialize_with = "plain")]
    pub driver_peak: Bytes,
    /// Passes of which every byte was compared with the host's before its use.
    pub verified_passes: u32,
    /// Of all verified bytes; equal for every plan of the same model and weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
}

/// How the passes between the first and the last were issued: through streams, operation by operation, or as graphs of
/// several passes. Spans of graphs come from nodes that record events inside them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Issued {
    /// Why so.
    pub why: String,
    /// Passes that a graph holds; 0 where passes went through streams.
    pub passes_per_launch: u32,
    /// How often a graph was launched.
    pub launches: u32,
    /// The mean pass of a trial through streams, where one was run.
    #[serde(default, skip_serializing_if = "Option::is_none", serialize_with = "plain_if")]
    pub streams: Option<Nanos>,
    /// The mean pass of a trial through graphs.
    #[serde(default, skip_serializing_if = "Option::is_none", serialize_with = "plain_if")]
    pub graph: Option<Nanos>,
}

/// What profiling itself costs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Overhead {
    /// The median pass with its operations timed.
    #[serde(serialize_with = "plain")]
    pub timed: Nanos,
    /// The median pass without.
    #[serde(serialize_with = "plain")]
    pub untimed: Nanos,
}

/// A component as a profile knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ComponentHeader {
    /// The component's name.
    pub name: String,
    /// Passes that were to run.
    pub passes: u32,
    /// Passes after which its plan repeats; more than 1 where blocks take turns staying.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub turns: u32,
    /// Ids of its uses without the component's name, in order of execution; spans refer to them by index.
    /// The root, where it computes or holds bytes, is the use named `root`.
    #[serde(deserialize_with = "at_most::<_, _, MOST_BLOCKS>")]
    pub blocks: Vec<String>,
    /// What its uses are, and the bound speaks of; blocks where nothing is said.
    #[serde(default, skip_serializing_if = "is_block")]
    pub unit: Unit,
    /// Bytes of each use, streamed or not.
    #[serde(serialize_with = "plain_list", deserialize_with = "at_most::<_, _, MOST_BLOCKS>")]
    pub bytes: Vec<Bytes>,
    /// Of each use, the last part of its compute, in which collectives hold the host's link; empty where none does.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "at_most::<_, _, MOST_BLOCKS>"
    )]
    pub on_link: Vec<Nanos>,
    /// What the plan predicted, where it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prediction: Option<Prediction>,
    /// What no schedule can beat, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bound: Option<Bound>,
    /// What its plan leaves out of some passes, and predicts of that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skipped: Option<Skipped>,
}

impl ComponentHeader {
    /// Whether a pass leaves blocks out.
    pub fn leaves_out(&self, pass: u32) -> bool {
        let passes = self.skipped.as_ref().map_or(&[][..], |skipped| &skipped.passes);
        passes.iter().any(|range| range.contains(pass))
    }
}

fn one() -> u32 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands out references")]
fn is_one(turns: &u32) -> bool {
    *turns == 1
}

fn is_block(unit: &Unit) -> bool {
    *unit == Unit::Block
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

#[expect(clippy::ref_option, reason = "serde hands a reference to the field")]
fn plain_if<S: serde::Serializer>(time: &Option<Nanos>, serializer: S) -> Result<S::Ok, S::Error> {
    time.map(Nanos::get).serialize(serializer)
}

fn plain_lists<S: serde::Serializer>(
    times: &[Vec<Nanos>],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let plain = |times: &Vec<Nanos>| times.iter().map(|time| time.get()).collect::<Vec<u64>>();
    serializer.collect_seq(times.iter().map(plain))
}

fn plain_list<S: serde::Serializer>(sizes: &[Bytes], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(sizes.iter().map(|size| size.get()))
}

/// Reads a list of no more than `MOST` elements.
fn at_most<'de, T, D, const MOST: usize>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    deserializer.deserialize_seq(AtMost::<T, MOST>(PhantomData))
}

struct AtMost<T, const MOST: usize>(PhantomData<T>);

impl<'de, T: Deserialize<'de>, const MOST: usize> Visitor<'de> for AtMost<T, MOST> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of at most {MOST} elements")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<T>, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = list.next_element()? {
            if values.len() == MOST {
                return Err(A::Error::invalid_length(MOST + 1, &self));
            }
            values.push(value);
        }
        Ok(values)
    }
}

impl Measured {
    /// The steady time of one pass of every component: the median after the first, or the mean of what graphs
    /// launched, whose barriers count. None where no pass ran.
    pub fn steady(&self) -> Option<Nanos> {
        let mut sum = Nanos::ZERO;
        for (n, passes) in self.passes.iter().enumerate() {
            let steady = if passes.len() > 1 { passes.get(1..)? } else { passes };
            let graphs = self.graphs.get(n).filter(|issued| issued.launches > 0);
            let time = match graphs {
                Some(issued) => {
                    let launched =
                        issued.launches.saturating_mul(issued.passes_per_launch) as usize;
                    let launched = steady.get(..launched).unwrap_or(steady);
                    let all: u64 = launched.iter().map(|time| time.get()).sum();
                    Nanos::new(all.checked_div(launched.len() as u64)?)
                }
                None => {
                    let mut sorted = steady.to_vec();
                    sorted.sort_unstable();
                    *sorted.get(sorted.len().checked_sub(1)? / 2)?
                }
            };
            sum = sum.saturating_add(time);
        }
        (!self.passes.is_empty()).then_some(sum)
    }

    /// Device memory that came into use with the run, as the driver counts.
    pub fn driver_used(&self) -> Bytes {
        self.driver_peak.saturating_sub(self.driver_before)
    }
}

impl Issued {
    /// One line: how, and why so.
    pub fn told(&self) -> String {
        let mut text = match self.launches {
            0 => "through streams".to_owned(),
            1 => format!("{} passes as one graph", self.passes_per_launch),
            launches => {
                format!("as graphs of {} passes, {launches} launches", self.passes_per_launch)
            }
        };
        if !self.why.is_empty() {
            text.push_str(&format!(" ({})", self.why));
        }
        if let (Some(streams), Some(graph)) = (self.streams, self.graph) {
            let (streams, graph) = (streams.human(), graph.human());
            text.push_str(&format!(
                "; a pass of the trial took {streams} through streams, {graph} in graphs"
            ));
        }
        text
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steady_passes_are_medians_or_what_graphs_took_with_their_barriers() {
        let nanos = |times: &[u64]| times.iter().map(|&time| Nanos::new(time)).collect::<Vec<_>>();
        let mut measured =
            Measured { passes: vec![nanos(&[90, 10, 12, 50])], ..Measured::default() };
        assert_eq!(measured.steady(), Some(Nanos::new(12)));
        measured.graphs = vec![Issued { passes_per_launch: 2, launches: 1, ..Issued::default() }];
        assert_eq!(measured.steady(), Some(Nanos::new(11)));
        measured.passes.push(nanos(&[7]));
        assert_eq!(measured.steady(), Some(Nanos::new(18)), "components follow one another");
        assert_eq!(Measured::default().steady(), None);
        measured.passes.push(Vec::new());
        assert_eq!(measured.steady(), None, "a component that never ran a pass");
    }

    #[test]
    fn a_list_is_refused_at_the_first_element_too_many() {
        let read = |json: &str| {
            at_most::<u8, _, 3>(&mut serde_json::Deserializer::from_str(json))
                .map_err(|error| error.to_string())
        };
        assert_eq!(read("[1,2,3]"), Ok(vec![1, 2, 3]));
        let error = read("[1,2,3,4,").expect_err("a refusal");
        assert!(error.contains("length 4, expected a list of at most 3 elements"), "{error}");
    }
}
