//! Says what the weights of text encoders and language models see.

use super::Stream::{Context, Nothing, One, Text};
use super::Width::{Input, Output};
use super::{Attention, Family, Grid};

/// A text encoder attends to its own tokens.
const fn encoder(pattern: &'static str) -> Attention {
    Attention { pattern, queries: Text, keys: Text, width: Output }
}

/// A decoder attends to its context, of which its own tokens are the end.
const fn decoder(pattern: &'static str, width: super::Width) -> Attention {
    Attention { pattern, queries: Text, keys: Context, width }
}

const TEXT: Grid = Grid::Text { most: None };

/// Prompts without pictures leave the vision tower alone; all else sees every token, the output head too.
const DECODER_WEIGHTS: &[(&str, super::Stream)] = &[
    ("*visual.*", Nothing),
    ("*vision_tower.*", Nothing),
    ("*vision_model.*", Nothing),
    ("*multi_modal_projector.*", Nothing),
    ("*", Text),
];

/// Names of transformers, then of GGUF. Grouped queries share keys: the width is that of the query projection. A
/// fused projection does not tell its heads apart; there attention is taken as wide as the input. GPT-2 stores its
/// weights transposed, inputs first.
const DECODER_ATTENTION: &[Attention] = &[
    decoder("*self_attn.q_proj.weight", Output),
    decoder("*self_attn.qkv_proj.weight", Input),
    decoder("*attn.c_attn.weight", Output),
    decoder("blk.*.attn_q.weight", Output),
    decoder("blk.*.attn_qkv.weight", Input),
];

const fn decoders(classes: &'static [&'static str], experts_used: Option<u64>) -> Family {
    Family {
        classes,
        grid: TEXT,
        text: 1,
        passes: 128,
        weights: DECODER_WEIGHTS,
        attention: DECODER_ATTENTION,
        experts_used,
    }
}

pub(super) static FAMILIES: &[Family] = &[
    Family {
        classes: &["T5EncoderModel", "UMT5EncoderModel", "t5", "t5encoder"],
        grid: TEXT,
        text: 512,
        passes: 1,
        weights: &[("*", Text)],
        attention: &[encoder("*SelfAttention.q.weight"), encoder("enc.blk.*.attn_q.weight")],
        experts_used: None,
    },
    Family {
        classes: &["CLIPTextModel", "CLIPTextModelWithProjection"],
        // CLIP's position table has 77 rows; pipelines pad and cut every prompt to that.
        grid: Grid::Text { most: Some(77) },
        text: 77,
        passes: 1,
        weights: &[("text_projection.weight", One), ("*", Text)],
        attention: &[encoder("*self_attn.q_proj.weight")],
        experts_used: None,
    },
    // `num_experts_per_tok` of the published configurations. GGUF calls Mixtral `llama`.
    decoders(&["MixtralForCausalLM", "llama"], Some(2)),
    decoders(&["Qwen2MoeForCausalLM", "qwen2moe"], Some(4)),
    decoders(&["Qwen3MoeForCausalLM", "qwen3moe"], Some(8)),
    decoders(
        &[
            "*ForCausalLM",
            "*LMHeadModel",
            "*ForConditionalGeneration",
            "qwen2",
            "qwen2vl",
            "qwen3",
            "mistral*",
            "gemma*",
            "phi*",
            "gpt2",
        ],
        None,
    ),
];
