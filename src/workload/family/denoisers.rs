//! Says what the weights of diffusion transformers see.

use super::Stream::{Image, Joint, Nothing, One, Text};
use super::Width::{Input, Output, OutputThird};
use super::{Attention, Family, Grid};

const fn joint(pattern: &'static str) -> Attention {
    Attention { pattern, queries: Joint, keys: Joint, width: Output }
}

const fn own(pattern: &'static str, stream: super::Stream) -> Attention {
    Attention { pattern, queries: stream, keys: stream, width: Output }
}

const fn cross(pattern: &'static str) -> Attention {
    Attention { pattern, queries: Image, keys: Text, width: Output }
}

/// One token per square of 16 pixels: the autoencoder's 8, then patches of 2.
const IMAGE: Grid = Grid::Patches { pixels: 16, frames: None };
/// The same, and four frames to a group after the first.
const VIDEO: Grid = Grid::Patches { pixels: 16, frames: Some(4) };

pub(super) static FAMILIES: &[Family] = &[
    Family {
        classes: &["Flux2Transformer2DModel", "flux2"],
        grid: IMAGE,
        text: 512,
        passes: 50,
        weights: &[
            ("*modulation*", One),
            ("time_guidance_embed.*", One),
            ("norm_out.*", One),
            ("context_embedder.*", Text),
            ("transformer_blocks.*.attn.add_*", Text),
            ("transformer_blocks.*.attn.to_add_out.*", Text),
            ("transformer_blocks.*.ff_context.*", Text),
            ("single_transformer_blocks.*", Joint),
            ("*", Image),
        ],
        // Query, key, value and the two halves of the gate in one weight; attention is as wide as the input.
        attention: &[
            Attention {
                pattern: "single_transformer_blocks.*.attn.to_qkv_mlp_proj.weight",
                queries: Joint,
                keys: Joint,
                width: Input,
            },
            joint("transformer_blocks.*.attn.to_q.weight"),
        ],
        experts_used: None,
    },
    Family {
        classes: &["FluxTransformer2DModel", "flux"],
        grid: IMAGE,
        text: 512,
        passes: 28,
        weights: &[
            ("time_text_embed.*", One),
            ("norm_out.*", One),
            ("*.norm.linear.weight", One),
            ("*.norm1.linear.weight", One),
            ("*.norm1_context.linear.weight", One),
            ("context_embedder.*", Text),
            ("transformer_blocks.*.attn.add_*", Text),
            ("transformer_blocks.*.attn.to_add_out.*", Text),
            ("transformer_blocks.*.ff_context.*", Text),
            ("single_transformer_blocks.*", Joint),
            // The names of Black Forest Labs, which GGUF files keep.
            ("time_in.*", One),
            ("vector_in.*", One),
            ("guidance_in.*", One),
            ("*adaLN_modulation*", One),
            ("*_mod.lin.weight", One),
            ("*modulation.lin.weight", One),
            ("txt_in.*", Text),
            ("double_blocks.*.txt_*", Text),
            ("single_blocks.*", Joint),
            ("*", Image),
        ],
        attention: &[
            joint("transformer_blocks.*.attn.to_q.weight"),
            joint("single_transformer_blocks.*.attn.to_q.weight"),
            Attention {
                pattern: "double_blocks.*.img_attn.qkv.weight",
                queries: Joint,
                keys: Joint,
                width: OutputThird,
            },
            Attention {
                pattern: "single_blocks.*.linear1.weight",
                queries: Joint,
                keys: Joint,
                width: Input,
            },
        ],
        experts_used: None,
    },
    Family {
        classes: &["QwenImageTransformer2DModel", "qwen_image"],
        grid: IMAGE,
        text: 256,
        passes: 50,
        weights: &[
            ("time_text_embed.*", One),
            ("norm_out.*", One),
            ("*_mod.1.weight", One),
            ("txt_in.*", Text),
            ("transformer_blocks.*.attn.add_*", Text),
            ("transformer_blocks.*.attn.to_add_out.*", Text),
            ("transformer_blocks.*.txt_mlp.*", Text),
            ("*", Image),
        ],
        attention: &[joint("transformer_blocks.*.attn.to_q.weight")],
        experts_used: None,
    },
    Family {
        classes: &["ZImageTransformer2DModel", "lumina2"],
        grid: IMAGE,
        text: 256,
        passes: 8,
        weights: &[
            ("*adaLN_modulation*", One),
            ("t_embedder.*", One),
            ("cap_embedder.*", Text),
            ("context_refiner.*", Text),
            ("noise_refiner.*", Image),
            ("layers.*", Joint),
            // The last layer runs over the joint sequence; the image is cut out of its result.
            ("all_final_layer.*", Joint),
            ("final_layer.*", Joint),
            ("*", Image),
        ],
        attention: &[
            own("noise_refiner.*.attention.to_q.weight", Image),
            own("context_refiner.*.attention.to_q.weight", Text),
            joint("layers.*.attention.to_q.weight"),
        ],
        experts_used: None,
    },
    Family {
        classes: &["WanTransformer3DModel", "wan"],
        grid: VIDEO,
        text: 512,
        passes: 50,
        weights: &[
            ("condition_embedder.text_embedder.*", Text),
            ("condition_embedder.image_embedder.*", Nothing),
            ("condition_embedder.*", One),
            ("*attn2.to_k*", Text),
            ("*attn2.to_v*", Text),
            ("*attn2.add_*", Nothing),
            // The names of the original repository, which GGUF files keep.
            ("time_embedding.*", One),
            ("time_projection.*", One),
            ("text_embedding.*", Text),
            ("*cross_attn.k.weight", Text),
            ("*cross_attn.v.weight", Text),
            ("*modulation", Nothing),
            ("*", Image),
        ],
        attention: &[
            own("blocks.*.attn1.to_q.weight", Image),
            cross("blocks.*.attn2.to_q.weight"),
            own("blocks.*.self_attn.q.weight", Image),
            cross("blocks.*.cross_attn.q.weight"),
        ],
        experts_used: None,
    },
    Family {
        classes: &["SD3Transformer2DModel", "sd3"],
        grid: IMAGE,
        // 77 tokens of CLIP and 256 of T5.
        text: 333,
        passes: 28,
        weights: &[
            ("time_text_embed.*", One),
            ("norm_out.*", One),
            ("*.norm1.linear.weight", One),
            ("*.norm1_context.linear.weight", One),
            ("context_embedder.*", Text),
            ("transformer_blocks.*.attn.add_*", Text),
            ("transformer_blocks.*.attn.to_add_out.*", Text),
            ("transformer_blocks.*.ff_context.*", Text),
            ("*", Image),
        ],
        attention: &[
            joint("transformer_blocks.*.attn.to_q.weight"),
            own("transformer_blocks.*.attn2.to_q.weight", Image),
        ],
        experts_used: None,
    },
    Family {
        classes: &["HunyuanVideoTransformer3DModel", "hyvid"],
        grid: VIDEO,
        text: 256,
        passes: 50,
        weights: &[
            ("context_embedder.time_text_embed.*", One),
            ("context_embedder.*norm_out*", One),
            ("context_embedder.*", Text),
            ("time_text_embed.*", One),
            ("norm_out.*", One),
            ("*.norm.linear.weight", One),
            ("*.norm1.linear.weight", One),
            ("*.norm1_context.linear.weight", One),
            ("transformer_blocks.*.attn.add_*", Text),
            ("transformer_blocks.*.attn.to_add_out.*", Text),
            ("transformer_blocks.*.ff_context.*", Text),
            ("single_transformer_blocks.*", Joint),
            ("*", Image),
        ],
        attention: &[
            joint("transformer_blocks.*.attn.to_q.weight"),
            joint("single_transformer_blocks.*.attn.to_q.weight"),
            own("context_embedder.*.attn.to_q.weight", Text),
        ],
        experts_used: None,
    },
    Family {
        classes: &["LTXVideoTransformer3DModel", "ltxv"],
        grid: Grid::Patches { pixels: 32, frames: Some(8) },
        text: 128,
        passes: 50,
        weights: &[
            ("time_embed.*", One),
            ("caption_projection.*", Text),
            ("*attn2.to_k*", Text),
            ("*attn2.to_v*", Text),
            ("*", Image),
        ],
        attention: &[
            own("transformer_blocks.*.attn1.to_q.weight", Image),
            cross("transformer_blocks.*.attn2.to_q.weight"),
        ],
        experts_used: None,
    },
    Family {
        classes: &["MochiTransformer3DModel", "mochi"],
        grid: Grid::Patches { pixels: 16, frames: Some(6) },
        text: 256,
        passes: 64,
        weights: &[
            ("time_embed.pooler.*", Text),
            ("time_embed.caption_proj.*", Text),
            ("time_embed.*", One),
            ("norm_out.*", One),
            ("*.norm1.linear.weight", One),
            ("*.norm1_context.linear*", One),
            ("transformer_blocks.*.attn1.add_*", Text),
            ("transformer_blocks.*.attn1.to_add_out.*", Text),
            ("transformer_blocks.*.ff_context.*", Text),
            ("*", Image),
        ],
        attention: &[joint("transformer_blocks.*.attn1.to_q.weight")],
        experts_used: None,
    },
    Family {
        classes: &["CogVideoXTransformer3DModel"],
        grid: VIDEO,
        text: 226,
        passes: 50,
        weights: &[
            ("patch_embed.text_proj.*", Text),
            ("patch_embed.*", Image),
            ("time_embedding.*", One),
            ("*.norm1.linear.weight", One),
            ("*.norm2.linear.weight", One),
            ("norm_out.*", One),
            ("transformer_blocks.*", Joint),
            ("*", Image),
        ],
        attention: &[joint("transformer_blocks.*.attn1.to_q.weight")],
        experts_used: None,
    },
];
