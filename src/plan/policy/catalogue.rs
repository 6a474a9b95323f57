//! Turns a policy's name into its data: parameters, the recipe they make, the flags that set it in its engine.
//!
//! What each system does was read in its code, documentation and threads; where its behaviour is inferred rather
//! than read, the meaning says "uncertain". Everything else in this folder knows recipes, not names.

use super::recipes;
use crate::plan::Unit;
use crate::units::Bytes;

/// What parameters depend on: the component's blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Blocks of all lists.
    pub blocks: u64,
    /// Blocks of the longest list.
    pub longest: u64,
    /// Block lists.
    pub lists: u64,
    /// The largest block.
    pub largest: Bytes,
    /// Everything outside the lists.
    pub root: Bytes,
    /// Leaf modules.
    pub leaves: u64,
}

/// The values that a parameter may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Range {
    /// Blocks of the component, from so many; all are searched.
    Blocks(u64),
    /// Leaf modules; all are searched.
    Leaves,
    /// Per cent; all are searched.
    PerCent,
    /// Of the parameter before it; a few are searched.
    OfGroup,
    /// Anything from the first to the second; those listed are searched.
    Some(u64, u64, &'static [u64]),
}

/// A parameter of a policy.
#[derive(Debug, Clone, Copy)]
pub struct Parameter {
    /// Its name.
    pub key: &'static str,
    /// Its values.
    pub range: Range,
    /// What it sets.
    pub meaning: &'static str,
}

/// A policy as data.
#[derive(Debug, Clone, Copy)]
pub struct Spec {
    /// Its name.
    pub name: &'static str,
    /// The engine it is from; empty for our own.
    pub engine: &'static str,
    /// What it does, in one line.
    pub meaning: &'static str,
    /// Its parameters, in the order of their values.
    pub parameters: &'static [Parameter],
    /// What the engine ships.
    pub(super) default: fn(&Shape) -> Vec<u64>,
    /// The recipe of a setting; none for the planner's own.
    pub(super) recipe: Option<fn(&[u64], &Shape) -> super::recipe::Recipe>,
    /// The flags or the call that set it; empty for our own.
    pub(super) flags: fn(&[u64], &Shape) -> String,
}

/// The models that an engine runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Serves {
    /// Denoisers of images and video.
    Denoisers,
    /// Language models.
    LanguageModels,
    /// Any model in PyTorch.
    Any,
    /// Denoisers of these classes, by how their names begin.
    Classes(&'static [&'static str]),
}

impl Spec {
    /// What its engine runs. For other models its rule is only that: a rule.
    pub fn serves(&self) -> Serves {
        match (self.name, self.engine) {
            // A node for Wan alone; the others of its engine take any denoiser.
            ("kijai", _) => Serves::Classes(&["Wan"]),
            // Models that it has quantised kernels for.
            ("nunchaku", _) => Serves::Classes(&["FluxTransformer", "QwenImage", "ZImage"]),
            (_, "" | "accelerate" | "deepspeed" | "torch-offload") => Serves::Any,
            (_, "vllm" | "flexgen") => Serves::LanguageModels,
            _ => Serves::Denoisers,
        }
    }

    /// Whether whole components swap places: the old one is copied back to ordinary memory, the next fetched from it.
    pub fn swaps(&self) -> bool {
        matches!(self.name, "diffusers-model" | "vllm-omni-model")
    }

    /// Whether what it does was inferred in part, rather than read.
    pub fn uncertain(&self) -> bool {
        self.meaning.contains("uncertain")
    }

    /// What it brings in and releases as one.
    pub fn unit(&self) -> Unit {
        match self.name {
            "hybrid-leaf" | "accelerate-sequential" | "zero3" | "comfy-lowvram" => Unit::Leaf,
            "hybrid-phase" | "lightx2v-phase" => Unit::Phase,
            _ => Unit::Block,
        }
    }
}

const fn parameter(key: &'static str, range: Range, meaning: &'static str) -> Parameter {
    Parameter { key, range, meaning }
}

/// Blocks that a host fetches ahead: beyond a few nothing is gained, so only a few are searched.
const P: Parameter =
    parameter("p", Range::Some(1, 100_000, &[1, 2, 3, 4, 8]), "blocks fetched ahead");
const R: Parameter = parameter("r", Range::Blocks(0), "blocks that stay");
const K: Parameter = parameter("k", Range::Blocks(0), "blocks that stay");

fn nothing(_: &Shape) -> Vec<u64> {
    Vec::new()
}

fn no_flags(_: &[u64], _: &Shape) -> String {
    String::new()
}

/// Every policy, the planner's own first.
pub const POLICIES: &[Spec] = &[
    Spec {
        name: "hybrid",
        engine: "",
        meaning: "vramplan's own plan: what stays, what streams and when, chosen by exact evaluation",
        parameters: &[],
        default: nothing,
        recipe: None,
        flags: no_flags,
    },
    Spec {
        name: "hybrid-phase",
        engine: "",
        meaning: "the same with phases of blocks brought in and released as one, where the manifest states them",
        parameters: &[],
        default: nothing,
        recipe: None,
        flags: no_flags,
    },
    Spec {
        name: "hybrid-leaf",
        engine: "",
        meaning: "the same with leaf modules brought in and released as one, those of the root too",
        parameters: &[],
        default: nothing,
        recipe: None,
        flags: no_flags,
    },
    Spec {
        name: "resident",
        engine: "",
        meaning: "everything stays: the fastest there is, where it fits",
        parameters: &[],
        default: nothing,
        recipe: Some(|_, _| recipes::RESIDENT),
        flags: no_flags,
    },
    Spec {
        name: "sync",
        engine: "",
        meaning: "every block is loaded when its turn comes, with nothing overlapped",
        parameters: &[],
        default: nothing,
        recipe: Some(|_, _| recipes::SYNC),
        flags: no_flags,
    },
    Spec {
        name: "sglang-layerwise",
        engine: "sglang",
        meaning: "window of p blocks ahead; copies wait for all compute issued before them",
        parameters: &[P],
        default: |_| vec![1],
        recipe: Some(|v, _| recipes::sglang(v[0])),
        flags: |v, _| format!("--dit-layerwise-offload --dit-offload-prefetch-size {}", v[0]),
    },
    Spec {
        name: "sglang-leading",
        engine: "sglang",
        meaning: "the same with the first r blocks of each list resident; r=0 ships; r and peak \
                  uncertain for two lists",
        parameters: &[P, R],
        default: |_| vec![1, 0],
        recipe: Some(|v, _| recipes::sglang_leading(v[0], v[1])),
        flags: |v, _| sglang_flags(v, "leading"),
    },
    Spec {
        name: "sglang-strided",
        engine: "sglang",
        meaning: "the same with r blocks of each list resident, streamed ones evenly spaced",
        parameters: &[P, R],
        default: |_| vec![1, 0],
        recipe: Some(|v, _| recipes::sglang_strided(v[0], v[1])),
        flags: |v, _| sglang_flags(v, "strided"),
    },
    Spec {
        name: "vllm-omni",
        engine: "vllm-omni",
        meaning: "window of two blocks through all lists; nothing to set",
        parameters: &[],
        default: nothing,
        recipe: Some(|_, _| recipes::VLLM_OMNI),
        flags: |_, _| "--enable-layerwise-offload".to_owned(),
    },
    Spec {
        name: "vllm-omni-model",
        engine: "vllm-omni",
        meaning: "whole components swap places; this one stays while it is in use",
        parameters: &[],
        default: nothing,
        recipe: Some(|_, _| recipes::RESIDENT),
        flags: |_, _| "--enable-cpu-offload".to_owned(),
    },
    Spec {
        name: "fastvideo",
        engine: "fastvideo",
        meaning: "window of two over the first list, its first r resident, other lists stay; peak \
                  uncertain, since the host may run ahead",
        parameters: &[R],
        default: |_| vec![0],
        recipe: Some(|v, _| recipes::fastvideo(v[0])),
        flags: |v, _| {
            format!("dit_layerwise_offload=True FASTVIDEO_LAYERWISE_RESIDENT_BLOCKS={}", v[0])
        },
    },
    Spec {
        name: "fastvideo-first",
        engine: "fastvideo",
        meaning: "the manager of early 2026: window of two per list, nothing fetched for the next pass",
        parameters: &[],
        default: nothing,
        recipe: Some(|_, _| recipes::FASTVIDEO_FIRST),
        flags: |_, _| "dit_layerwise_offload=True (before the hooks)".to_owned(),
    },
    Spec {
        name: "diffusers-block",
        engine: "diffusers",
        meaning: "groups of g blocks, loaded and copied back with nothing overlapped; the root too",
        parameters: &[parameter(
            "g",
            Range::Some(1, 100_000, &[1, 2, 3, 4, 6, 8, 12, 16, 24, 32]),
            "blocks in a group",
        )],
        default: |_| vec![1],
        recipe: Some(|v, _| recipes::diffusers_block(v[0])),
        flags: |v, _| diffusers_flags(v[0], ""),
    },
    Spec {
        name: "diffusers-stream",
        engine: "diffusers",
        meaning: "window of two, the host waits twice per block; the root comes and goes every pass",
        parameters: &[],
        default: nothing,
        recipe: Some(|_, _| recipes::DIFFUSERS_STREAM),
        flags: |_, _| diffusers_flags(1, ", use_stream=True"),
    },
    Spec {
        name: "diffusers-record",
        engine: "diffusers",
        meaning: "the same with one wait per block; peak uncertain, since freed bytes lag",
        parameters: &[],
        default: nothing,
        recipe: Some(|_, _| recipes::DIFFUSERS_RECORD),
        flags: |_, _| diffusers_flags(1, ", use_stream=True, record_stream=True"),
    },
    Spec {
        name: "diffusers-model",
        engine: "diffusers",
        meaning: "whole components swap places; this one stays while it is in use",
        parameters: &[],
        default: nothing,
        recipe: Some(|_, _| recipes::RESIDENT),
        flags: |_, _| "pipe.enable_model_cpu_offload()".to_owned(),
    },
    Spec {
        name: "accelerate-sequential",
        engine: "accelerate",
        meaning: "every leaf module is loaded when its turn comes, from ordinary memory",
        parameters: &[],
        default: nothing,
        recipe: Some(|_, _| recipes::ACCELERATE),
        flags: |_, _| "pipe.enable_sequential_cpu_offload()".to_owned(),
    },
    Spec {
        name: "flexgen",
        engine: "flexgen",
        meaning: "the same share of every block stays; all streams meet after every block",
        parameters: &[parameter("share", Range::PerCent, "per cent of each block that stay")],
        default: |_| vec![100],
        recipe: Some(|v, _| recipes::flexgen(v[0])),
        flags: |v, _| {
            format!("--percent {} {} 100 0 100 0 --pin-weight true", v[0], 100 - v[0].min(100))
        },
    },
    Spec {
        name: "kijai",
        engine: "comfy",
        meaning: "the last k blocks come on the compute stream and are copied back",
        parameters: &[
            parameter("k", Range::Blocks(0), "blocks that swap"),
            parameter("f", Range::Some(0, 40, &[0]), "blocks fetched ahead, on the same stream"),
        ],
        // The node's default is 20, clamped to the number of blocks.
        default: |shape| vec![20.min(shape.blocks), 0],
        recipe: Some(|v, shape| recipes::kijai(v[0], v[1], shape.blocks)),
        flags: |v, _| {
            format!("WanVideoBlockSwap: blocks_to_swap={}, prefetch_blocks={}", v[0], v[1])
        },
    },
    Spec {
        name: "comfy-lowvram",
        engine: "comfy",
        meaning: "the largest r leaf modules stay (as many as fit), others take turns on s streams",
        parameters: &[
            parameter("s", Range::Some(1, 64, &[2, 3, 4]), "streams, with one buffer each"),
            parameter("r", Range::Leaves, "leaf modules that stay; the engine finds it"),
        ],
        default: |_| vec![2],
        recipe: Some(|v, _| recipes::comfy(v[0], v[1])),
        flags: |v, _| format!("--async-offload {}", v[0]),
    },
    Spec {
        name: "musubi-classic",
        engine: "musubi",
        meaning: "n blocks are exchanged in place with what computes later, both ways on one stream; \
                  uncertain for unequal blocks and several lists",
        parameters: &[
            parameter("n", Range::Blocks(0), "blocks that swap"),
            parameter("pin", Range::Some(0, 1, &[1]), "1: from pinned memory"),
        ],
        default: |_| vec![0, 0],
        recipe: Some(|v, shape| recipes::musubi_classic(v[0], v[1] == 1, shape.blocks)),
        flags: |v, _| {
            let pinned = if v[1] == 1 { " --use_pinned_memory_for_block_swap" } else { "" };
            format!("--blocks_to_swap {}{pinned}", v[0])
        },
    },
    Spec {
        name: "musubi-ring",
        engine: "musubi",
        meaning: "n evenly spaced blocks stream through a ring of b buffers, gated by their release; \
                  n and rings for several lists uncertain",
        parameters: &[
            parameter("n", Range::Blocks(0), "blocks that stream"),
            parameter("b", Range::Some(1, 100_000, &[2, 3, 4]), "buffers of the ring"),
        ],
        default: |_| vec![0, 2],
        recipe: Some(|v, _| recipes::musubi_ring(v[0], v[1])),
        flags: |v, _| {
            let ring = format!("--block_swap_h2d_only --block_swap_ring_size {}", v[1]);
            format!("--blocks_to_swap {} {ring} --use_pinned_memory_for_block_swap", v[0])
        },
    },
    Spec {
        name: "mmgp",
        engine: "mmgp",
        meaning: "k evenly spaced blocks of each list stay; the device is synchronised per streamed \
                  block; the same k for every list is uncertain",
        parameters: &[K],
        // Profiles 1 to 4 give a transformer 1200 MB: what is left of it after the root and two blocks.
        default: |shape| {
            let left = Bytes::new(1_200_000_000).saturating_sub(shape.root);
            let blocks = left.get() / shape.largest.get().max(1);
            vec![blocks.saturating_sub(2).min(shape.longest)]
        },
        recipe: Some(|v, shape| recipes::mmgp(v[0], shape.lists)),
        flags: |v, shape| {
            let blocks = shape.largest.saturating_mul(v[0] + 2).saturating_add(shape.root);
            let megabytes = blocks.get().div_ceil(1_000_000);
            format!("offload.profile(pipe, budgets={{\"transformer\": {megabytes}}})")
        },
    },
    Spec {
        name: "nunchaku",
        engine: "nunchaku",
        meaning: "the first k blocks of each list stay, two buffers take turns; uncertain for two lists",
        parameters: &[parameter("k", Range::Blocks(1), "blocks that stay")],
        default: |_| vec![1],
        recipe: Some(|v, _| recipes::nunchaku(v[0])),
        flags: |v, _| format!("set_offload(True, num_blocks_on_gpu={}, use_pin_memory=True)", v[0]),
    },
    Spec {
        name: "vllm-group",
        engine: "vllm",
        meaning: "the last n of every g blocks stream through s slots; peak uncertain for unequal blocks",
        parameters: &[
            parameter("g", Range::Blocks(0), "blocks in a group; 0 is off, as shipped"),
            parameter("n", Range::OfGroup, "of them stream"),
            parameter("s", Range::Some(1, 100_000, &[1, 2, 3]), "slots"),
        ],
        default: |_| vec![0, 1, 1],
        recipe: Some(|v, _| recipes::vllm_group(v[0], v[1], v[2])),
        flags: |v, _| {
            let group = format!("--offload-group-size {} --offload-num-in-group {}", v[0], v[1]);
            format!("{group} --offload-prefetch-step {}", v[2])
        },
    },
    Spec {
        name: "cachedit",
        engine: "cache-dit",
        meaning: "p blocks stay in b spans, min(4t, 8) are fetched ahead, without limit all; peak uncertain",
        parameters: &[
            parameter("t", Range::Some(1, 100_000, &[1, 2]), "transfer buckets"),
            parameter("p", Range::Blocks(0), "persistent buckets"),
            parameter("b", Range::Some(1, 100_000, &[1, 2, 4, 8]), "persistent bins"),
            parameter("limit", Range::Some(0, 1, &[1]), "1: prefetch limit"),
        ],
        default: |_| vec![1, 0, 1, 0],
        recipe: Some(|v, shape| recipes::cachedit(v[0], v[1], v[2], v[3] == 1, shape.blocks)),
        flags: |v, _| {
            let limit = if v[3] == 1 { " --layerwise-prefetch-limit" } else { "" };
            let stay = format!("--layerwise-persistent-buckets {}", v[1]);
            let bins = format!("--layerwise-persistent-bins {}{limit}", v[2]);
            let first = "--layerwise-offload --layerwise-async-transfer";
            format!("{first} --layerwise-transfer-buckets {} {stay} {bins}", v[0])
        },
    },
    Spec {
        name: "lightx2v-block",
        engine: "lightx2v",
        meaning: "two buffers per list; the host waits for both streams after every block",
        parameters: &[],
        default: nothing,
        recipe: Some(|_, _| recipes::LIGHTX2V_BLOCK),
        flags: |_, _| "{\"cpu_offload\": true, \"offload_granularity\": \"block\"}".to_owned(),
    },
    Spec {
        name: "lightx2v-phase",
        engine: "lightx2v",
        meaning: "one buffer per phase of a block; the host waits for both streams after every phase",
        parameters: &[],
        default: nothing,
        recipe: Some(|_, _| recipes::LIGHTX2V_PHASE),
        flags: |_, _| "{\"cpu_offload\": true, \"offload_granularity\": \"phase\"}".to_owned(),
    },
    Spec {
        name: "torchoffload-lru",
        engine: "torch-offload",
        meaning: "the last r blocks used and the next f; what a scan never hits again",
        parameters: &[
            parameter("r", Range::Some(1, 100_000, &[1, 2]), "least recently used blocks kept"),
            parameter("f", Range::Some(1, 100_000, &[1, 2, 3]), "blocks fetched ahead"),
            parameter("c", Range::Some(0, 1, &[0, 1]), "1: cyclic"),
        ],
        default: |_| vec![1, 2, 0],
        recipe: Some(|v, shape| recipes::torchoffload(v[0], v[1], v[2] == 1, shape.blocks)),
        flags: |v, _| {
            let cyclic = if v[2] == 1 { ", cyclic=True" } else { "" };
            format!("num_resident_blocks={}, num_prefetch_blocks={}{cyclic}", v[0], v[1])
        },
    },
    Spec {
        name: "zero3",
        engine: "deepspeed",
        meaning: "parameters come in buckets of b elements; small ones stay; two bytes per element assumed",
        parameters: &[parameter(
            "b",
            Range::Some(1, 1_000_000_000, &[50_000_000, 200_000_000, 1_000_000_000]),
            "elements of a bucket",
        )],
        default: |_| vec![50_000_000],
        recipe: Some(|v, _| recipes::zero3(v[0])),
        flags: |v, _| format!("stage 3, offload_param: cpu, stage3_prefetch_bucket_size: {}", v[0]),
    },
];

fn sglang_flags(v: &[u64], policy: &str) -> String {
    let base = format!("--dit-layerwise-offload --dit-offload-prefetch-size {}", v[0]);
    let residents = format!("--dit-layerwise-resident-layers {}", v[1]);
    format!("{base} {residents} --dit-layerwise-residency-policy {policy}")
}

fn diffusers_flags(group: u64, more: &str) -> String {
    let call = "transformer.enable_group_offload(onload_device=\"cuda\"";
    format!("{call}, offload_type=\"block_level\", num_blocks_per_group={group}{more})")
}
