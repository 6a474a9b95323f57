//! Says what the weights of networks of feature maps see: UNets and autoencoders.
//!
//! A convolution `[out, in, h, w]` is a product at every position of its result; how many there are follows from
//! the level at which the weight stands (`down_blocks.1` works on maps halved once), see `tokens`.

use super::Stream::{Map, Nothing, One, Text};
use super::Width::{Output, OutputThird};
use super::{Attention, Family, Grid};

const fn own(pattern: &'static str, width: super::Width) -> Attention {
    Attention { pattern, queries: Map, keys: Map, width }
}

pub(super) static FAMILIES: &[Family] = &[
    Family {
        classes: &["UNet2DConditionModel"],
        grid: Grid::Levels { pixels: 8, frames: None },
        text: 77,
        passes: 50,
        weights: &[
            ("time_embedding.*", One),
            ("add_embedding.*", One),
            ("*time_emb_proj.weight", One),
            ("*attn2.to_k.weight", Text),
            ("*attn2.to_v.weight", Text),
            ("*", Map),
        ],
        attention: &[
            own("*attn1.to_q.weight", Output),
            Attention { pattern: "*attn2.to_q.weight", queries: Map, keys: Text, width: Output },
        ],
        experts_used: None,
    },
    Family {
        // Decoding alone: making a picture or a video from text never encodes one.
        classes: &["Autoencoder*", "AsymmetricAutoencoder*"],
        grid: Grid::Levels { pixels: 1, frames: Some(4) },
        text: 1,
        passes: 1,
        weights: &[("encoder.*", Nothing), ("quant_conv.*", Nothing), ("*", Map)],
        attention: &[
            own("decoder.mid_block.attentions.*.to_q.weight", Output),
            own("decoder.mid_block.attentions.*.to_qkv.weight", OutputThird),
        ],
        experts_used: None,
    },
];
