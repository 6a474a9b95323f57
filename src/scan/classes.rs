//! Names, per class, the block lists in order of execution and the tensors that are tied. A table, no code.
//!
//! Classes are those of `config.json` (`_class_name` in diffusers, `architectures` in transformers) and GGUF's
//! `general.architecture`. Lists that a checkpoint does not have are skipped, so one row serves spellings of
//! several releases. Sources: the `forward` of each class in diffusers 0.36 and transformers 4 and 5, llama.cpp.

/// A stretch of the order of execution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// The blocks of one list; the second word is their class, empty where it varies.
    List(&'static str, &'static str),
    /// Block 0 of each list, then block 1 of each, as `resnets.0, attentions.0, resnets.1` in a UNet's middle.
    Alternate(&'static [&'static str]),
}

/// What is known of some classes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// Class names; a `*` at the end stands for any ending.
    pub classes: &'static [&'static str],
    /// The order of execution.
    pub order: &'static [Turn],
    /// Tensors that are another one: (left out, kept).
    pub tied: &'static [(&'static str, &'static str)],
    /// `down_blocks` feed `up_blocks` across the chain.
    pub long_skips: bool,
}

impl Rule {
    const NONE: Self = Self { classes: &[], order: &[], tied: &[], long_skips: false };

    /// The paths of every list that the rule names.
    pub fn paths(&self) -> impl Iterator<Item = &'static str> {
        self.order
            .iter()
            .flat_map(|turn| match turn {
                List(path, _) => std::slice::from_ref(path),
                Alternate(paths) => paths,
            })
            .copied()
    }

    /// The class of the blocks of a list, where the rule knows it.
    pub fn block_class(&self, list: &str) -> Option<&'static str> {
        self.order.iter().find_map(|turn| match turn {
            List(path, class) if *path == list && !class.is_empty() => Some(*class),
            _ => None,
        })
    }
}

/// The rule for a class; exact names go before patterns.
pub fn rule(class: &str, gguf: bool) -> Option<&'static Rule> {
    let table = if gguf { GGUF } else { CLASSES };
    let matches = |pattern: &&str| match pattern.strip_suffix('*') {
        Some(start) => class.starts_with(start),
        None => class == *pattern,
    };
    let exact = table.iter().find(|rule| rule.classes.contains(&class));
    exact.or_else(|| table.iter().find(|rule| rule.classes.iter().any(matches)))
}

use Turn::{Alternate, List};

/// Classes of diffusers and transformers.
pub const CLASSES: &[Rule] = &[
    Rule {
        classes: &["FluxTransformer2DModel"],
        order: &[
            List("transformer_blocks", "FluxTransformerBlock"),
            List("single_transformer_blocks", "FluxSingleTransformerBlock"),
        ],
        ..Rule::NONE
    },
    Rule {
        classes: &["Flux2Transformer2DModel"],
        order: &[
            List("transformer_blocks", "Flux2TransformerBlock"),
            List("single_transformer_blocks", "Flux2SingleTransformerBlock"),
        ],
        ..Rule::NONE
    },
    Rule {
        classes: &["ChromaTransformer2DModel"],
        order: &[
            List("distilled_guidance_layer.layers", ""),
            List("transformer_blocks", "ChromaTransformerBlock"),
            List("single_transformer_blocks", "ChromaSingleTransformerBlock"),
        ],
        ..Rule::NONE
    },
    Rule {
        classes: &["WanTransformer3DModel", "WanVACETransformer3DModel"],
        order: &[List("vace_blocks", ""), List("blocks", "WanTransformerBlock")],
        ..Rule::NONE
    },
    Rule {
        classes: &["QwenImageTransformer2DModel"],
        order: &[List("transformer_blocks", "QwenImageTransformerBlock")],
        ..Rule::NONE
    },
    Rule {
        classes: &["ZImageTransformer2DModel"],
        order: &[
            List("noise_refiner", "ZImageTransformerBlock"),
            List("context_refiner", "ZImageTransformerBlock"),
            List("layers", "ZImageTransformerBlock"),
        ],
        ..Rule::NONE
    },
    Rule {
        classes: &["Lumina2Transformer2DModel"],
        order: &[
            List("context_refiner", "Lumina2TransformerBlock"),
            List("noise_refiner", "Lumina2TransformerBlock"),
            List("layers", "Lumina2TransformerBlock"),
        ],
        ..Rule::NONE
    },
    Rule {
        classes: &["SD3Transformer2DModel"],
        order: &[List("transformer_blocks", "")],
        ..Rule::NONE
    },
    Rule {
        classes: &["HunyuanVideoTransformer3DModel"],
        order: &[
            List("context_embedder.token_refiner.refiner_blocks", ""),
            List("transformer_blocks", "HunyuanVideoTransformerBlock"),
            List("single_transformer_blocks", "HunyuanVideoSingleTransformerBlock"),
        ],
        ..Rule::NONE
    },
    Rule {
        classes: &["HunyuanVideo15Transformer3DModel"],
        order: &[
            List("context_embedder.token_refiner.refiner_blocks", ""),
            List("transformer_blocks", ""),
        ],
        ..Rule::NONE
    },
    Rule {
        classes: &["MochiTransformer3DModel"],
        order: &[List("transformer_blocks", "MochiTransformerBlock")],
        ..Rule::NONE
    },
    Rule {
        classes: &["CogVideoXTransformer3DModel"],
        order: &[List("transformer_blocks", "CogVideoXBlock")],
        ..Rule::NONE
    },
    Rule {
        classes: &[
            "LTXVideoTransformer3DModel",
            "LTX2VideoTransformer3DModel",
            "AllegroTransformer3DModel",
            "CogView4Transformer2DModel",
            "CosmosTransformer3DModel",
            "PixArtTransformer2DModel",
            "SanaTransformer2DModel",
        ],
        order: &[List("transformer_blocks", "")],
        ..Rule::NONE
    },
    Rule {
        classes: &["AuraFlowTransformer2DModel"],
        order: &[List("joint_transformer_blocks", ""), List("single_transformer_blocks", "")],
        ..Rule::NONE
    },
    Rule {
        classes: &["HiDreamImageTransformer2DModel"],
        order: &[List("double_stream_blocks", ""), List("single_stream_blocks", "")],
        ..Rule::NONE
    },
    Rule {
        classes: &["UNet2DConditionModel", "UNet2DModel", "UNet3DConditionModel"],
        order: &[
            List("down_blocks", ""),
            Alternate(&["mid_block.resnets", "mid_block.attentions"]),
            List("up_blocks", ""),
        ],
        long_skips: true,
        ..Rule::NONE
    },
    Rule {
        classes: &["AutoencoderTiny"],
        order: &[List("encoder.layers", ""), List("decoder.layers", "")],
        ..Rule::NONE
    },
    Rule {
        classes: &["Autoencoder*", "AsymmetricAutoencoderKL", "VQModel"],
        order: &[
            List("encoder.down_blocks", ""),
            Alternate(&["encoder.mid_block.resnets", "encoder.mid_block.attentions"]),
            Alternate(&["decoder.mid_block.resnets", "decoder.mid_block.attentions"]),
            List("decoder.up_blocks", ""),
        ],
        ..Rule::NONE
    },
    Rule {
        classes: &["UMT5*"],
        order: &[List("encoder.block", "UMT5Block"), List("decoder.block", "UMT5Block")],
        tied: T5_TIED,
        ..Rule::NONE
    },
    Rule {
        classes: &["T5*", "MT5*"],
        order: &[List("encoder.block", "T5Block"), List("decoder.block", "T5Block")],
        tied: T5_TIED,
        ..Rule::NONE
    },
    Rule {
        classes: &["CLIP*", "Siglip*", "ChineseCLIP*"],
        order: &[
            List("vision_model.encoder.layers", ""),
            List("text_model.encoder.layers", "CLIPEncoderLayer"),
            List("encoder.layers", "CLIPEncoderLayer"),
        ],
        ..Rule::NONE
    },
    Rule {
        classes: &["Qwen2_5_VL*", "Qwen2VL*", "Qwen3VL*"],
        order: &[
            List("model.visual.blocks", ""),
            List("visual.blocks", ""),
            List("model.language_model.layers", ""),
            List("language_model.layers", ""),
            List("model.layers", ""),
        ],
        ..Rule::NONE
    },
    Rule {
        classes: &["Mistral3*", "Llava*", "Gemma3ForConditionalGeneration", "PaliGemma*"],
        order: &[
            List("model.vision_tower.transformer.layers", ""),
            List("model.vision_tower.vision_model.encoder.layers", ""),
            List("vision_tower.transformer.layers", ""),
            List("vision_tower.vision_model.encoder.layers", ""),
            List("model.language_model.layers", ""),
            List("language_model.model.layers", ""),
        ],
        ..Rule::NONE
    },
    Rule {
        classes: &["Llama*"],
        order: &[List("model.layers", "LlamaDecoderLayer"), List("layers", "LlamaDecoderLayer")],
        ..Rule::NONE
    },
    Rule {
        classes: &[
            "Qwen2*",
            "Qwen3*",
            "Mistral*",
            "Mixtral*",
            "Gemma*",
            "Phi3*",
            "Olmo*",
            "Deepseek*",
        ],
        order: &[List("model.layers", ""), List("layers", "")],
        ..Rule::NONE
    },
    Rule {
        classes: &["GPT2*"],
        order: &[List("transformer.h", "GPT2Block"), List("h", "GPT2Block")],
        ..Rule::NONE
    },
];

const T5_TIED: &[(&str, &str)] = &[
    ("encoder.embed_tokens.weight", "shared.weight"),
    ("decoder.embed_tokens.weight", "shared.weight"),
];

/// Output embeddings and the input embeddings that they are, where a checkpoint says `tie_word_embeddings`.
pub const TIED_EMBEDDINGS: &[(&str, &str)] = &[
    ("lm_head.weight", "model.embed_tokens.weight"),
    ("lm_head.weight", "model.language_model.embed_tokens.weight"),
    ("lm_head.weight", "transformer.wte.weight"),
    ("lm_head.weight", "shared.weight"),
];

/// Architectures of GGUF. All of llama.cpp's language models call their list `blk`.
pub const GGUF: &[Rule] = &[
    Rule {
        classes: &["flux"],
        order: &[List("double_blocks", ""), List("single_blocks", "")],
        ..Rule::NONE
    },
    Rule { classes: &["wan"], order: &[List("blocks", "")], ..Rule::NONE },
    Rule {
        classes: &["qwen_image", "ltxv"],
        order: &[List("transformer_blocks", "")],
        ..Rule::NONE
    },
    Rule { classes: &["sd3"], order: &[List("joint_blocks", "")], ..Rule::NONE },
    Rule {
        classes: &["*"],
        order: &[List("v.blk", ""), List("enc.blk", ""), List("blk", ""), List("dec.blk", "")],
        ..Rule::NONE
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn no_class_and_no_list_stands_twice() {
        for table in [CLASSES, GGUF] {
            let mut classes = BTreeSet::new();
            for rule in table {
                let mut lists = BTreeSet::new();
                assert!(rule.classes.iter().all(|class| classes.insert(class)), "{rule:?}");
                assert!(rule.paths().all(|path| lists.insert(path)), "{rule:?}");
            }
        }
    }

    #[test]
    fn the_narrower_pattern_wins() {
        let first = |class| rule(class, false).and_then(|rule| rule.paths().next());
        assert_eq!(first("Qwen2_5_VLForConditionalGeneration"), Some("model.visual.blocks"));
        assert_eq!(first("Qwen2ForCausalLM"), Some("model.layers"));
        assert_eq!(first("AutoencoderTiny"), Some("encoder.layers"));
        assert_eq!(
            first("Mistral3ForConditionalGeneration"),
            first("LlavaForConditionalGeneration")
        );
        assert_eq!(first("NobodysModel"), None);
        assert_eq!(rule("flux", true).and_then(|rule| rule.paths().next()), Some("double_blocks"));
        assert!(rule("llama", true).is_some_and(|rule| rule.paths().any(|path| path == "blk")));
    }
}
