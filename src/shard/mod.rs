//! Turns a model, its workload and its device into those of one of several ranks: what each GPU of a host holds,
//! computes, copies and exchanges.
//!
//! ```text
//! Shard { ranks, kind, link } ── divide ──▶ Rank { manifest, workload, device, costs }   one per kind of rank
//!
//!        weights on a rank        computes                  exchanges, per block and pass
//! tp     1/K of the matrices      1/K of products, heads    an all-reduce per matrix divided by its inputs
//! sp     all                      1/K of image tokens       q, k, v and the result of every attention
//! hsdp   1/K of every tensor      all, on its own samples   an all-gather of the block before its use
//! dp     all                      all, on its own samples   nothing
//! ```
//!
//! Everything after this is planning one GPU as ever: a rank has a manifest, a workload, a device and costs. Ranks
//! run in lock-step, so what the host gives all of them together is divided evenly ([`host`]); where ranks differ
//! each is planned by itself, and all wait for the slowest.
//!
//! # What the engines do
//!
//! * **tp** as SGLang's and vLLM-Omni's parallel linear layers: projections to heads and into a feed-forward by
//!   output rows, those back by inputs; modulation, norms, embeddings of denoisers and everything outside the blocks
//!   is on every rank ([`tensor`] names the matrices).
//! * **sp** as Ulysses in both: weights and text on every rank, image tokens divided, heads inside attention.
//! * **hsdp** as PyTorch's FSDP2, on which vLLM-Omni's HSDP is built: every tensor is cut along its first dimension
//!   as `torch.chunk` cuts; "sharded parameters are copied host-to-device before all-gather" (`CPUOffloadPolicy`),
//!   so 1/K of a block crosses the host's link per rank, and the whole block must be on the device while it computes.
//!   Here the gather runs before the block computes, with one gathered block in the reserve; engines that gather the
//!   next block meanwhile (FSDP2's prefetch, vLLM-Omni's distributed layerwise offload with two buffers) trade a
//!   second one for that time.
//!
//! # The model of collectives
//!
//! A collective lasts `latency + bytes / rate` of the link it takes, `bytes` being what a rank sends or receives
//! ([`collective`]), and adds to the compute of its block: NVLink leaves the host's link alone. Over PCI Express it
//! holds that link, and copies pause meanwhile and go on after, as chunked copies do that give way to collectives
//! (ChunkFlow, arXiv 2605.11335). All of a block are taken together, at the end of its use; a gather before the block
//! computes lies as far from the one before it, so a pass has the same intervals on the link, shifted by one compute.

pub mod collective;
pub mod host;
mod hybrid;
mod sequence;
pub mod tensor;

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::device::{DeviceSpec, Link};
use crate::error::{Error, Result};
use crate::model::{Component, Manifest};
use crate::suggest;
use crate::units::{Bytes, Nanos, Rate};
use crate::workload::{self, ComponentCosts, Share, Workload};

/// Ranks that may be asked for. Far above any host.
pub const MAX_RANKS: u32 = 1_024;

/// How ranks divide the work.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Tensor parallel: each rank has some rows or inputs of the matrices.
    Tp,
    /// Sequence parallel: each rank has some of the image tokens, and all weights.
    Sp,
    /// Sharded data parallel: each rank keeps a part of every tensor and gathers a block before it computes.
    Hsdp,
    /// Data parallel: each rank has all weights and samples of its own.
    Dp,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Tp, Self::Sp, Self::Hsdp, Self::Dp];

    /// In full.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Tp => "tensor parallel",
            Self::Sp => "sequence parallel",
            Self::Hsdp => "sharded data parallel",
            Self::Dp => "data parallel",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Tp => "tp",
            Self::Sp => "sp",
            Self::Hsdp => "hsdp",
            Self::Dp => "dp",
        })
    }
}

impl FromStr for Kind {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let names = Self::ALL.map(|kind| kind.to_string());
        let found = Self::ALL.into_iter().zip(&names).find(|(_, name)| *name == text);
        found.map(|(kind, _)| kind).ok_or_else(|| suggest::unknown("way to shard", text, &names))
    }
}

/// What ranks exchange over.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Interconnect {
    /// Links of their own: the device spec's `peer`.
    Nvlink,
    /// The link to the host, which copies need, too.
    Pcie,
}

impl fmt::Display for Interconnect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Nvlink => "NVLink",
            Self::Pcie => "PCI Express",
        })
    }
}

impl FromStr for Interconnect {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "nvlink" => Ok(Self::Nvlink),
            "pcie" => Ok(Self::Pcie),
            _ => {
                let known = ["nvlink", "pcie"].map(str::to_owned);
                Err(suggest::unknown("link between ranks", text, &known))
            }
        }
    }
}

/// How many ranks there are, how they divide the work, and what they exchange over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    /// How many.
    pub ranks: u32,
    /// How they divide the work.
    pub kind: Kind,
    /// What they exchange over; none for NVLink where the device spec has it, else PCI Express.
    pub link: Option<Interconnect>,
}

/// What a plan says of the rank that it is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RankOf {
    /// How the ranks divide the work.
    pub shard: Kind,
    /// How many there are.
    pub of: u32,
    /// Those that this plan is for, from 0: all that hold and compute the same.
    pub numbers: Vec<u32>,
    /// What they exchange over; none where they exchange nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<Interconnect>,
    /// The time of the collectives of one pass over every component, part of the blocks' compute.
    #[serde(default)]
    pub collectives: Nanos,
    /// Weights of the planned components that every rank has.
    #[serde(default)]
    pub replicated: Bytes,
    /// The rate of copies to this rank while all ranks copy and none exchanges anything.
    pub h2d: Rate,
}

impl RankOf {
    /// `ranks 0-3 of 4, tensor parallel over NVLink`.
    pub fn named(&self) -> String {
        let numbers = match self.numbers.as_slice() {
            [only] => format!("rank {only}"),
            [first, .., last] => format!("ranks {first}-{last}"),
            [] => "no rank".to_owned(),
        };
        let over = self.link.map_or(String::new(), |link| format!(" over {link}"));
        format!("{numbers} of {}, {}{over}", self.of, self.shard.meaning())
    }
}

/// A rank's own, to be planned as any single device is.
#[derive(Debug, Clone)]
pub struct Rank {
    /// What it keeps in host memory and copies.
    pub manifest: Manifest,
    /// The workload; its reserve is the rank's.
    pub workload: Workload,
    /// The device, with its share of what the host gives.
    pub device: DeviceSpec,
    /// By component, in the order asked for: what each use costs, collectives included.
    pub costs: Vec<ComponentCosts>,
    /// What a plan says of it.
    pub of: RankOf,
}

/// What is to be divided.
#[derive(Debug, Clone, Copy)]
pub struct Whole<'a> {
    /// The model.
    pub manifest: &'a Manifest,
    /// The components that are planned.
    pub components: &'a [String],
    /// The workload of all ranks together (`tp`, `sp`), or of each (`hsdp`, `dp`).
    pub workload: &'a Workload,
    /// One of the devices.
    pub device: &'a DeviceSpec,
    /// Whether the reserve is as the user gave it, and stays.
    pub reserve_given: bool,
}

impl Whole<'_> {
    fn components(&self) -> impl Iterator<Item = &Component> {
        self.components.iter().filter_map(|name| self.manifest.component(name))
    }
}

impl Shard {
    /// The ranks that differ, in order; one where all are alike. A single rank is what is to be divided, unchanged.
    ///
    /// # Errors
    ///
    /// No rank or too many; shapes and heads that do not divide, with the nearest number of ranks that does; NVLink
    /// on a device that has none; components for which a way to shard means nothing.
    pub fn divide(&self, whole: &Whole) -> Result<Vec<Rank>> {
        check_ranks(self.ranks)?;
        let link = self.interconnect(whole.device)?;
        let mut alike: Vec<(Vec<u32>, Parts)> = Vec::new();
        for number in 0..self.ranks {
            let parts = self.parts(whole, number)?;
            match alike.iter_mut().find(|(_, known)| *known == parts) {
                Some((numbers, _)) => numbers.push(number),
                None => alike.push((numbers_of(number), parts)),
            }
            // These divide evenly or not at all: every rank is like the first.
            if matches!(self.kind, Kind::Tp | Kind::Dp) {
                alike.iter_mut().for_each(|(numbers, _)| *numbers = (0..self.ranks).collect());
                break;
            }
        }
        alike.into_iter().map(|(numbers, parts)| self.rank(whole, link, numbers, parts)).collect()
    }

    /// What the ranks exchange over, if the device has it.
    fn interconnect(&self, device: &DeviceSpec) -> Result<Interconnect> {
        match (self.link, &device.peer) {
            (Some(Interconnect::Nvlink), None) => Err(Error::Usage {
                message: format!("--link nvlink: the spec of {} has no peer link", device.name),
                hint: Some(
                    "take --link pcie, or add peer: {rate, latency} to a device file".to_owned(),
                ),
            }),
            (Some(link), _) => Ok(link),
            (None, Some(_)) => Ok(Interconnect::Nvlink),
            (None, None) => Ok(Interconnect::Pcie),
        }
    }

    /// What one rank stores and what it computes.
    fn parts(&self, whole: &Whole, number: u32) -> Result<Parts> {
        let (ranks, number) = (u64::from(self.ranks), u64::from(number));
        let mut parts = Parts {
            stored: whole.manifest.clone(),
            share: Share::WHOLE,
            gathered: Bytes::ZERO,
            replicated: Bytes::ZERO,
        };
        if ranks == 1 {
            return Ok(parts);
        }
        match self.kind {
            Kind::Tp => {
                (parts.stored, parts.replicated) = tensor::divide(whole, self.ranks)?;
                parts.share.heads = ranks;
            }
            Kind::Sp => {
                sequence::check(whole, self.ranks)?;
                // Only the length of the part makes a difference.
                parts.share = sequence::share(whole, ranks, number)?;
                parts.replicated = whole.components().map(|c| c.total_bytes(whole.manifest)).sum();
            }
            Kind::Hsdp => {
                parts.stored = hybrid::divide(whole, ranks, number)?;
                parts.gathered = hybrid::largest(whole);
                parts.replicated = whole.components().map(|component| component.root.bytes()).sum();
            }
            Kind::Dp => {
                parts.replicated = whole.components().map(|c| c.total_bytes(whole.manifest)).sum();
            }
        }
        Ok(parts)
    }

    fn rank(
        &self,
        whole: &Whole,
        link: Interconnect,
        numbers: Vec<u32>,
        parts: Parts,
    ) -> Result<Rank> {
        let device = host::shared(whole.device, self.ranks);
        let h2d = device.h2d.rate;
        // A gathered block computes whole; divided matrices as they are divided.
        let computed = if self.kind == Kind::Hsdp { whole.manifest } else { &parts.stored };
        let over = match (link, &device.peer) {
            (Interconnect::Nvlink, Some(peer)) => peer.clone(),
            // Starting a collective takes no less time over the slower link.
            (_, peer) => {
                let peer = peer.as_ref().map_or(Nanos::ZERO, |peer| peer.latency);
                Link { latency: device.h2d.latency.max(peer), ..device.h2d.clone() }
            }
        };
        let mut costs = Vec::new();
        let mut spent = Nanos::ZERO;
        for name in whole.components {
            let missing = || Error::usage(format!("{} has no component {name:?}", computed.model));
            let component = computed.component(name).ok_or_else(missing)?;
            let mut own = workload::costs_of_share(
                computed,
                component,
                whole.workload,
                &device,
                parts.share,
            )?;
            let times = collective::times(self, whole, component, computed, &over)?;
            spent = times.iter().fold(spent, |sum, &time| sum.saturating_add(time));
            for (cost, time) in own.blocks.iter_mut().zip(times) {
                cost.time = cost.time.saturating_add(time);
                cost.on_link = if link == Interconnect::Pcie { time } else { Nanos::ZERO };
            }
            costs.push(own);
        }
        let mut workload = whole.workload.clone();
        workload.reserve.gathered = parts.gathered;
        if self.kind == Kind::Sp && !whole.reserve_given {
            let activations = &mut workload.reserve.activations;
            *activations = sequence::activations(whole, parts.share, *activations)?;
        }
        let of = RankOf {
            shard: self.kind,
            of: self.ranks,
            numbers,
            link: (!spent.is_zero()).then_some(link),
            collectives: spent,
            replicated: parts.replicated,
            h2d,
        };
        Ok(Rank { manifest: parts.stored, workload, device, costs, of })
    }
}

/// What tells one rank from another.
#[derive(Debug, PartialEq, Eq)]
struct Parts {
    stored: Manifest,
    share: Share,
    gathered: Bytes,
    replicated: Bytes,
}

fn numbers_of(number: u32) -> Vec<u32> {
    vec![number]
}

/// Refuses numbers of ranks that no host has.
pub fn check_ranks(ranks: u32) -> Result<()> {
    if (1..=MAX_RANKS).contains(&ranks) {
        return Ok(());
    }
    Err(Error::Usage {
        message: format!("{ranks} ranks, expected 1 to {MAX_RANKS}"),
        hint: Some(format!("take --ranks {}", ranks.clamp(1, MAX_RANKS))),
    })
}

/// The number of ranks nearest to `ranks` that is fine, fewer before more; one always is.
fn nearest(ranks: u32, fine: impl Fn(u32) -> bool) -> u32 {
    let found = (1..ranks).flat_map(|away| {
        let fewer = ranks.checked_sub(away).filter(|&fewer| fewer >= 1);
        [fewer, ranks.checked_add(away)]
    });
    found.flatten().find(|&other| other == 1 || fine(other)).unwrap_or(1)
}

/// The refusal of a number of ranks.
fn refused(ranks: u32, kind: Kind, why: &str, fine: impl Fn(u32) -> bool) -> Error {
    Error::Usage {
        message: format!("--ranks {ranks} --shard {kind}: {why}"),
        hint: Some(format!("the nearest that works is --ranks {}", nearest(ranks, fine))),
    }
}
