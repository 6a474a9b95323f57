//! What others published: the only figures here that were typed in by hand. All of them are *published*; what a row of
//! the report compares with them is simulated.
//!
//! Threads and files were read in stored copies of November 2026. Where such a copy is cut off, nothing is quoted from
//! the rest.

/// Where figures were published.
pub struct Source {
    pub name: &'static str,
    pub url: &'static str,
    pub date: &'static str,
    pub setting: &'static str,
}

pub const VLLM_OMNI_1486: Source = Source {
    name: "vLLM-Omni #1486",
    url: "https://github.com/vllm-project/vllm-omni/pull/1486",
    date: "2026-02-25, merged 2026-04-06; the table was read in #2732, which repeats it word for word",
    setting: "RTX 4090, 24 GB; 1024 x 1024, 50 steps; `--enable-layerwise-offload`",
};

/// VRAM without and with layerwise offload. vLLM-Omni divides its peaks by 1024³ (`_record_peak_memory` in its
/// `diffusion_model_runner.py`: memory that PyTorch's allocator has *reserved*), so its GB are GiB.
pub struct Vram {
    pub model: &'static str,
    pub without: f64,
    pub with: f64,
}

pub const KLEIN: Vram = Vram { model: "flux2-klein-4b", without: 19.7, with: 13.8 };
pub const Z_IMAGE: Vram = Vram { model: "z-image", without: 22.7, with: 15.5 };

pub const SGLANG_31538: Source = Source {
    name: "SGLang #31538",
    url: "https://github.com/sgl-project/sglang/pull/31538",
    date: "2026-07-17",
    setting: "Qwen-Image on one RTX 5090, 32 GB; `--dit-layerwise-offload` with prefetch p and r resident layers",
};

/// A row of SGLang's table. Its GB are GiB: the scheduler divides the allocator's peak by 1024³ before it logs it.
pub struct Denoise {
    pub policy: &'static str,
    /// Peak VRAM and the time of all steps; none where the run ended with "OOM @ denoise step 0".
    pub peak_and_seconds: Option<(f64, f64)>,
}

pub const QWEN_P1: Denoise =
    Denoise { policy: "sglang-layerwise:p=1", peak_and_seconds: Some((5.43, 56.60)) };
pub const QWEN_P16: Denoise =
    Denoise { policy: "sglang-layerwise:p=16", peak_and_seconds: Some((24.47, 56.12)) };
pub const QWEN_P20: Denoise = Denoise { policy: "sglang-layerwise:p=20", peak_and_seconds: None };
pub const QWEN_R30: Denoise =
    Denoise { policy: "sglang-leading:p=1:r=30", peak_and_seconds: Some((24.47, 36.68)) };
pub const QWEN_R34: Denoise =
    Denoise { policy: "sglang-leading:p=1:r=34", peak_and_seconds: Some((25.11, 33.97)) };
pub const QWEN_R38: Denoise = Denoise { policy: "sglang-leading:p=1:r=38", peak_and_seconds: None };

pub const SGLANG_16150: Source = Source {
    name: "SGLang #16150",
    url: "https://github.com/sgl-project/sglang/pull/16150",
    date: "2025-12-30",
    setting: "Qwen-Image on a GPU of 80 GB that is not named, text encoder offloaded; without and with \
              `--dit-layerwise-offload`",
};

/// Peak VRAM in GiB and seconds of the whole run, without and with.
pub const QWEN_80GB: [(f64, f64); 2] = [(45.85, 15.45), (8.51, 74.85)];

pub const SGLANG_15511: Source = Source {
    name: "SGLang #15511",
    url: "https://github.com/sgl-project/sglang/pull/15511",
    date: "2025-12-20; the list of step times was read in an article of the author's that quotes the dump",
    setting: "Wan2.2 T2V A14B on eight H100, 720 x 1280, 81 frames, 27 steps with guidance, Ulysses degree 8; \
              `dit_cpu_offload` against `--dit-layerwise-offload`",
};

/// Milliseconds of every denoising step: whole transformers swapped, and streamed by layers. The experts change at
/// step 19; step 1 also pays for compilation and for the set-up of collectives, in both runs.
pub const WAN_SWAPPED: [f64; 27] = [
    35999.07, 3261.48, 3270.54, 3267.86, 3260.40, 3263.02, 3268.03, 3264.52, 3264.64, 3267.19,
    3268.56, 3268.10, 3266.78, 3268.04, 3264.27, 3271.01, 3267.67, 3266.11, 31282.59, 3263.56,
    3262.30, 3262.32, 3261.83, 3264.72, 3265.31, 3267.53, 3261.95,
];
pub const WAN_STREAMED: [f64; 27] = [
    7717.70, 3275.04, 3280.25, 3282.28, 3292.90, 3286.51, 3273.56, 3271.60, 3275.59, 3291.91,
    3293.93, 3289.39, 3298.06, 3300.41, 3305.02, 3299.30, 3302.02, 3299.04, 3291.04, 3296.62,
    3290.26, 3302.19, 3295.94, 3297.33, 3297.71, 3295.03, 3290.19,
];
/// Index of the step at which the experts change.
pub const WAN_BOUNDARY: usize = 18;
/// Seconds of the whole denoising stage.
pub const WAN_STAGE: [f64; 2] = [149.6943, 94.2283];

pub const FASTVIDEO_966: Source = Source {
    name: "FastVideo #966",
    url: "https://github.com/hao-ai-lab/FastVideo/pull/966",
    date: "2025-12-27",
    setting: "Wan2.2 on four GPUs that are not named (sp=4), 720 x 1280, 81 frames, FSDP disabled; number of steps \
              not stated",
};

/// Seconds that the change of experts costs, before and after; both given as "~".
pub const FASTVIDEO_BOUNDARY: [f64; 2] = [25.0, 2.0];
/// Seconds from end to end, before and after.
pub const FASTVIDEO_WHOLE: [f64; 2] = [457.98, 424.46];

pub const SGLANG_25517: Source = Source {
    name: "SGLang #25517",
    url: "https://github.com/sgl-project/sglang/pull/25517",
    date: "2026-05-17",
    setting: "text encoders alone, one call each: resident, `layerwise_offload` and `cpu_offload` of the whole encoder",
};

/// Milliseconds of one call of a model's text encoders.
pub struct Encoders {
    pub model: &'static str,
    pub device: &'static str,
    pub name: &'static str,
    pub resident: f64,
    pub layerwise: f64,
    pub whole: f64,
}

pub const FLUX_4090: Encoders = Encoders {
    model: "flux1-dev",
    device: "rtx-4090",
    name: "FLUX.1-dev, CLIP and T5, RTX 4090",
    resident: 57.15,
    layerwise: 485.35,
    whole: 552.67,
};
pub const QWEN_4090: Encoders = Encoders {
    model: "qwen-image",
    device: "rtx-4090",
    name: "Qwen-Image, RTX 4090",
    resident: 105.83,
    layerwise: 664.80,
    whole: 926.31,
};
pub const FLUX_H100: Encoders = Encoders {
    model: "flux1-dev",
    device: "h100",
    name: "FLUX.1-dev, CLIP and T5, H100",
    resident: 24.11,
    layerwise: 196.22,
    whole: 225.56,
};

pub const CACHE_DIT: Source = Source {
    name: "cache-dit OFFLOAD.md",
    url: "https://github.com/vipshop/cache-dit/blob/c32ad63a5052e05d1c548ad3d0198147f5d935ad/docs/user_guide/OFFLOAD.md",
    date: "2026; the columns up to 33 s stand in earlier versions of the file (261a6cf), so they were measured with \
           earlier code than the last two",
    setting: "FLUX.1-dev on an L20, 48 GB, 28 steps at 1024 x 1024; memory \"includes the reserved allocated cache by \
              torch\"",
};

/// A column of cache-dit's table: GiB (all given as "~") and seconds of the whole pipeline.
pub struct Column {
    pub name: &'static str,
    pub gib: f64,
    pub seconds: f64,
}

pub const FLUX_RESIDENT: Column = Column { name: "without offload", gib: 38.0, seconds: 23.4 };
pub const FLUX_SEQUENTIAL: Column =
    Column { name: "diffusers, sequential offload", gib: 1.0, seconds: 335.0 };
pub const FLUX_MODEL: Column =
    Column { name: "diffusers, model offload", gib: 25.0, seconds: 56.0 };
pub const FLUX_SYNC: Column = Column { name: "layerwise", gib: 1.0, seconds: 49.0 };
pub const FLUX_T1: Column = Column { name: "T=1", gib: 4.0, seconds: 41.0 };
pub const FLUX_P4: Column = Column { name: "T=1, P=4", gib: 8.0, seconds: 33.0 };
pub const FLUX_T4_P8: Column = Column { name: "T=4, P=8", gib: 14.0, seconds: 26.0 };
pub const FLUX_T4_P32: Column =
    Column { name: "T=4, P=32, B=4, prefetch limit", gib: 16.0, seconds: 24.6 };
