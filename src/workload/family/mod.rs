//! Turns a component's class into what its weights see: a table, as data, from tensor names to token streams.
//!
//! ```text
//! class ──of()──▶ Family ─ grid:      how height, width, frames and text become tokens
//!                        ─ weights:   name pattern → stream           first match wins; no match: nothing
//!                        ─ attention: name pattern → queries, keys, width; each match opens one attention
//! ```
//!
//! Names are those inside the component (`transformer_blocks.3.attn.to_q.weight`); `*` stands for any text. The
//! tables follow the forward functions of diffusers and transformers (the class names are theirs), the
//! models' own repositories (the original names inside GGUF files) and llama.cpp's `gguf-py/gguf/constants.py`.

mod convolutions;
mod denoisers;
mod language;

use crate::model::{Component, TensorSpec};

/// Which tokens of one sample pass through a weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stream {
    /// The image or video.
    Image,
    /// The prompt, or the tokens of a language model.
    Text,
    /// Image and text in one sequence.
    Joint,
    /// What a language model attends to: given as `context`, else its text tokens.
    Context,
    /// One vector per sample: time embedding, modulation, pooled text.
    One,
    /// The positions of a feature map, whose size follows from the weight's name.
    Map,
    /// Every token of the workload; for classes we do not know.
    Every,
    /// No product: lookups, tables, and weights that the task does not use.
    Nothing,
}

/// Where the summed width of all attention heads is read off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Width {
    /// Outer dimension of the matching weight: a query projection.
    Output,
    /// Inner dimension: a fused projection of a block whose attention is as wide as its input.
    Input,
    /// A third of the outer dimension: query, key and value fused.
    OutputThird,
}

/// An attention: `4 · queries · keys · width` operations, two products of `2 · queries · keys · width`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Attention {
    /// The weight that opens it.
    pub pattern: &'static str,
    /// Tokens that ask.
    pub queries: Stream,
    /// Tokens that answer; all of them, also where a causal mask hides some, as dense kernels' counts do.
    pub keys: Stream,
    /// The width of all heads together.
    pub width: Width,
}

impl Attention {
    /// The width of all heads together, as the shape of the weight that opens it shows it.
    pub fn width_of(&self, shape: &[u64]) -> u64 {
        let outer = shape.first().copied().unwrap_or(0);
        match self.width {
            Width::Output => outer,
            Width::Input => shape.get(1).copied().unwrap_or(0),
            Width::OutputThird => outer / 3,
        }
    }

    /// Whether ranks that divide image tokens have to exchange some for it: image tokens answer image tokens. Text
    /// answers without, as every rank has it.
    pub fn is_exchanged(&self) -> bool {
        let image = |stream| matches!(stream, Stream::Image | Stream::Joint);
        image(self.queries) && image(self.keys)
    }
}

/// How sizes become tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Grid {
    /// One token per square of `pixels`, per group of `frames` frames (the first frame is a group of its own).
    Patches { pixels: u64, frames: Option<u64> },
    /// A feature map that starts with one position per square of `pixels`, halved from level to level.
    Levels { pixels: u64, frames: Option<u64> },
    /// Text alone, at most so many tokens.
    Text { most: Option<u64> },
    /// A class we do not know.
    Unknown,
}

/// What is known of a family of classes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Family {
    /// Classes (diffusers, transformers) and GGUF architectures; `*` stands for any text.
    pub classes: &'static [&'static str],
    /// How sizes become tokens.
    pub grid: Grid,
    /// Text tokens where nothing is given: the prompt length that the pipeline pads to, or its limit.
    pub text: u64,
    /// Passes where nothing is given: the pipeline's default number of steps.
    pub passes: u32,
    /// Name pattern to stream; the first match decides.
    pub weights: &'static [(&'static str, Stream)],
    /// Attentions.
    pub attention: &'static [Attention],
    /// Experts that each token uses, for mixtures of experts; `None` where not known.
    pub experts_used: Option<u64>,
}

/// Names that are never a factor of a product: lookups, tables and the scales of quantised weights.
const NEVER: &[&str] = &[
    "*embed_tokens.weight",
    "*token_embd.weight",
    "*wte.weight",
    "*wpe.weight",
    "*token_embedding.weight",
    "*position_embedding.weight",
    "*word_embeddings.weight",
    "*position_embeddings.weight",
    "shared.weight",
    "*relative_attention_bias.weight",
    "*attn_rel_b.weight",
    "*scale_shift_table",
    "*pos_embed",
    "*rope_freqs.weight",
    "*.bias",
    "*_scale",
    "*_scale_inv",
    "*.scales",
    "*.qzeros",
    "*.g_idx",
    "*.absmax",
    "*.quant_map",
];

/// Output heads of language models.
const HEADS: &[&str] = &["*lm_head.weight", "output.weight"];
/// Tables of token embeddings that serve as head where there is none.
const TABLES: &[&str] = &["*embed_tokens.weight", "token_embd.weight", "*wte.weight"];

/// The family of classes that nothing is known of: every weight sees every token, no attention is counted.
static UNKNOWN: Family = Family {
    classes: &[],
    grid: Grid::Unknown,
    text: 0,
    passes: 1,
    weights: &[("*", Stream::Every)],
    attention: &[],
    experts_used: None,
};

/// The family of a class or GGUF architecture; one that knows nothing for others.
pub(super) fn of(class: Option<&str>) -> &'static Family {
    let Some(class) = class else { return &UNKNOWN };
    [denoisers::FAMILIES, convolutions::FAMILIES, language::FAMILIES]
        .into_iter()
        .flatten()
        .find(|family| family.classes.iter().any(|pattern| matches(pattern, class)))
        .unwrap_or(&UNKNOWN)
}

/// Block lists that tell the family of a checkpoint without a class: a bare file has no configuration beside it.
const TELLING_LISTS: &[(&str, &str)] = &[
    ("double_blocks", "flux"),
    ("model.layers", "LlamaForCausalLM"),
    ("encoder.block", "T5EncoderModel"),
    ("transformer.h", "GPT2LMHeadModel"),
    ("context_refiner", "ZImageTransformer2DModel"),
];

/// The family of a component: by its class, or where it has none by the names of its block lists.
pub(super) fn of_component(component: &Component) -> &'static Family {
    let has = |list: &str| component.blocks.iter().any(|segment| segment.list == list);
    let told = || TELLING_LISTS.iter().find(|(list, _)| has(list)).map(|&(_, class)| class);
    of(component.class.as_deref().or_else(told))
}

/// Whether a component is a language model that decodes: it attends to a context of its own making. None where
/// nothing is known of its class.
pub fn decodes(component: &Component) -> Option<bool> {
    let family = of_component(component);
    let context = family.attention.iter().any(|attention| attention.keys == Stream::Context);
    family.is_known().then_some(context)
}

impl Family {
    /// What the weight of that name sees.
    pub fn stream(&self, name: &str) -> Stream {
        if NEVER.iter().any(|pattern| matches(pattern, name)) {
            return Stream::Nothing;
        }
        let rule = self.weights.iter().find(|(pattern, _)| matches(pattern, name));
        rule.map_or(Stream::Nothing, |&(_, stream)| stream)
    }

    /// The attention that the weight of that name opens.
    pub fn attention(&self, name: &str) -> Option<&Attention> {
        self.attention.iter().find(|attention| matches(attention.pattern, name))
    }

    /// Whether anything is known of the class.
    pub fn is_known(&self) -> bool {
        self.grid != Grid::Unknown
    }

    /// The table of a language model's root that is also its output head where it has no head of its own.
    pub fn tied_head<'a>(&self, root: &'a [TensorSpec]) -> Option<&'a TensorSpec> {
        let among = |names: &[&str], tensor: &TensorSpec| {
            names.iter().any(|pattern| matches(pattern, tensor.name()))
        };
        let decodes = self.attention.iter().any(|attention| attention.keys == Stream::Context);
        let headed = root.iter().any(|tensor| among(HEADS, tensor));
        let tables = root.iter().find(|tensor| among(TABLES, tensor));
        tables.filter(|_| decodes && !headed)
    }

    /// Whether any weight sees text.
    pub fn reads_text(&self) -> bool {
        self.weights.iter().any(|(_, stream)| matches!(stream, Stream::Text | Stream::Joint))
    }

    /// The stream that a plain number of tokens means.
    pub fn main_stream(&self) -> &'static str {
        match self.grid {
            Grid::Text { .. } => "text",
            Grid::Unknown => "tokens",
            Grid::Patches { .. } | Grid::Levels { .. } => "image",
        }
    }

    /// Frames per group of a video, `None` where the class knows no frames.
    pub fn frames(&self) -> Option<u64> {
        match self.grid {
            Grid::Patches { frames, .. } | Grid::Levels { frames, .. } => frames,
            Grid::Text { .. } | Grid::Unknown => None,
        }
    }
}

/// Whether `text` is `pattern`, where `*` stands for any text, also none. Linear in both, by taking each literal
/// part at its first place after the part before.
pub fn matches(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut text) = text.strip_prefix(first) else { return false };
    let (middle, last) = rest.rsplit_once('*').unwrap_or(("", rest));
    for part in middle.split('*') {
        let Some(at) = text.find(part) else { return false };
        text = &text[at + part.len()..];
    }
    text.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_stand_for_any_text() {
        for (pattern, text, expected) in [
            ("a.b", "a.b", true),
            ("a.b", "a.bc", false),
            ("*", "", true),
            ("a*", "a", true),
            ("a*a", "a", false),
            ("a*b*c", "axxbyyc", true),
            ("a*b*c", "axxcyyb", false),
            ("*attn2.to_k*", "blocks.3.attn2.to_k.weight", true),
            ("transformer_blocks*", "single_transformer_blocks.1", false),
            ("**x**", "x", true),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn classes_find_their_family() {
        for (class, pixels, frames) in [
            ("FluxTransformer2DModel", 16, None),
            ("flux", 16, None),
            ("WanTransformer3DModel", 16, Some(4)),
            ("LTXVideoTransformer3DModel", 32, Some(8)),
        ] {
            assert_eq!(of(Some(class)).grid, Grid::Patches { pixels, frames }, "{class}");
        }
        assert_eq!(of(Some("CLIPTextModel")).grid, Grid::Text { most: Some(77) });
        assert_eq!(of(Some("MixtralForCausalLM")).experts_used, Some(2));
        assert_eq!(of(Some("Qwen3ForCausalLM")).grid, Grid::Text { most: None });
        assert!(!of(Some("Mystery")).is_known() && !of(None).is_known());
    }

    #[test]
    fn a_component_without_a_class_is_told_by_its_lists() {
        let family = |class: &str, list: &str| {
            let text = format!(
                "{{format: vramplan/manifest/1, model: m, kinds: {{b: {{bytes: 1}}}}, components: \
                 [{{name: c, {class}root: {{bytes: 1}}, blocks: [{{list: {list}, kind: b, count: 1}}]}}]}}"
            );
            let manifest = crate::model::Manifest::from_yaml("m", &text).expect(&text);
            of_component(&manifest.components[0])
        };
        assert_eq!(family("", "double_blocks"), of(Some("FluxTransformer2DModel")));
        assert_eq!(family("", "model.layers").main_stream(), "text");
        assert!(!family("class: Mystery, ", "double_blocks").is_known(), "a class is believed");
        assert!(!family("", "blocks").is_known());
        for (_, class) in TELLING_LISTS {
            assert!(of(Some(class)).is_known(), "{class}");
        }
    }

    #[test]
    fn every_attention_is_opened_by_a_weight_that_is_multiplied() {
        let families = [denoisers::FAMILIES, convolutions::FAMILIES, language::FAMILIES];
        for family in families.into_iter().flatten() {
            for attention in family.attention {
                let name = attention.pattern.replace('*', "0");
                assert_ne!(family.stream(&name), Stream::Nothing, "{:?} {name}", family.classes);
            }
        }
    }
}
