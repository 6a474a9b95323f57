//! Turns a workload's sizes into the tokens of one sample, by the rules of a component's class.
//!
//! A patch grid gives `((F − 1) / f + 1) · (H / p) · (W / p)` image tokens. Sizes that do not divide are refused and
//! the sizes around them named: engines disagree (some cut the picture, some pad it, some stop), so any rounding here
//! would count work that some engine does not do. Given token counts beat sizes.

use std::collections::BTreeMap;

use super::Workload;
use super::family::{Family, Grid, Stream};
use crate::error::{Error, Result};
use crate::model::{Component, Manifest};

/// Pixels assumed on each side of a picture where neither size nor tokens are given.
pub(super) const DEFAULT_SIDE: u64 = 1024;

/// Pixels on a side and frames per token assumed for classes we do not know: the commonest patch and the commonest
/// compression of video autoencoders (see the family table).
const UNKNOWN_PIXELS: u64 = 16;
const UNKNOWN_FRAMES: u64 = 4;

/// The tokens of one sample.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tokens {
    image: u64,
    text: u64,
    context: u64,
    every: u64,
    map: Option<Map>,
    share: Share,
}

/// What one of several ranks computes of a component.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// Ranks that divide the image tokens; text tokens are computed by all of them. An attention among divided
    /// tokens is divided by its heads.
    pub tokens: u64,
    /// Which of them this one is, from 0.
    pub rank: u64,
    /// Ranks that divide the heads of an attention whose width no divided weight shows.
    pub heads: u64,
}

impl Share {
    /// All of it.
    pub const WHOLE: Self = Self { tokens: 1, rank: 0, heads: 1 };

    /// This rank's part of so many things in order: equal parts, the last ones smaller where they do not divide.
    pub fn part(count: u64, ranks: u64, rank: u64) -> u64 {
        let each = count.div_ceil(ranks.max(1));
        count.saturating_sub(each.saturating_mul(rank)).min(each)
    }
}

/// The feature maps of a UNet or an autoencoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Map {
    height: u64,
    width: u64,
    frames: u64,
    frame_group: u64,
    levels: u32,
}

/// The streams that a workload file may name.
pub(super) const STREAMS: [&str; 4] = ["image", "text", "context", "tokens"];

/// Resolves sizes to tokens; also says what had to be assumed.
pub(super) fn resolve(
    family: &Family,
    workload: &Workload,
    manifest: &Manifest,
    component: &Component,
) -> Result<(Tokens, Vec<String>)> {
    let mut warnings = Vec::new();
    let given = |stream: &str| workload.tokens.get(stream).copied();
    let text = match (family.grid, given("text")) {
        (Grid::Text { most: Some(most) }, text) => text.unwrap_or(family.text).min(most),
        (_, Some(text)) => text,
        (Grid::Unknown, None) => 0,
        (_, None) => family.text,
    };
    let side = |size: Option<u64>, name: &str, warnings: &mut Vec<String>| {
        size.unwrap_or_else(|| {
            let of = &component.name;
            warnings.push(format!("{of}: no {name} given, {DEFAULT_SIDE} pixels assumed"));
            DEFAULT_SIDE
        })
    };
    let mut map = None;
    let image = match (family.grid, given("image")) {
        (Grid::Levels { pixels, frames }, _) => {
            let height = divided(side(workload.height, "height", &mut warnings), pixels, "height")?;
            let width = divided(side(workload.width, "width", &mut warnings), pixels, "width")?;
            let group = frames.unwrap_or(1);
            let frames = groups(workload.frames, group)?;
            let levels = levels(manifest, component);
            let found = Map { height, width, frames, frame_group: group, levels };
            map = Some(found);
            // What the denoiser sees: a UNet's first level, what an autoencoder decodes from.
            found.positions(if pixels > 1 { 0 } else { levels.saturating_sub(1) })
        }
        (Grid::Patches { .. }, Some(image)) => image,
        (Grid::Patches { pixels, frames }, None) => {
            let height = divided(side(workload.height, "height", &mut warnings), pixels, "height")?;
            let width = divided(side(workload.width, "width", &mut warnings), pixels, "width")?;
            let groups = groups(workload.frames, frames.unwrap_or(1))?;
            groups.saturating_mul(height).saturating_mul(width)
        }
        (Grid::Text { .. }, _) => 0,
        (Grid::Unknown, image) => image.unwrap_or(0),
    };
    let given_sum = workload.tokens.iter().filter(|(name, _)| *name != "context");
    let every = match (given_sum.map(|(_, &tokens)| tokens).sum(), workload.height, workload.width)
    {
        (0, Some(height), Some(width)) => {
            let frames = workload.frames.unwrap_or(1).div_ceil(UNKNOWN_FRAMES);
            let area =
                height.div_ceil(UNKNOWN_PIXELS).saturating_mul(width.div_ceil(UNKNOWN_PIXELS));
            frames.saturating_mul(area)
        }
        (sum, ..) => sum.max(1),
    };
    let context = given("context").unwrap_or(text).max(text);
    Ok((Tokens { image, text, context, every, map, share: Share::WHOLE }, warnings))
}

/// How many whole parts of `pixels` a side has.
fn divided(side: u64, pixels: u64, name: &str) -> Result<u64> {
    if side.is_multiple_of(pixels) {
        return Ok(side / pixels);
    }
    let (below, above) = (side / pixels * pixels, side.next_multiple_of(pixels));
    let nearest = if below == 0 { above.to_string() } else { format!("{below} or {above}") };
    Err(Error::Usage {
        message: format!("{name} {side} is not a multiple of {pixels} pixels, one token"),
        hint: Some(format!("take a {name} of {nearest}; engines treat other sizes differently")),
    })
}

/// Groups of frames: the first frame alone, then `group` at a time.
fn groups(frames: Option<u64>, group: u64) -> Result<u64> {
    let frames = frames.unwrap_or(1);
    let after_first = frames.saturating_sub(1);
    if after_first.is_multiple_of(group) {
        return Ok(after_first / group + 1);
    }
    let below = after_first / group * group + 1;
    Err(Error::Usage {
        message: format!("{frames} frames are not 1 more than a multiple of {group}"),
        hint: Some(format!("take {below} or {} frames", below + group)),
    })
}

/// The levels of a network of feature maps: one more than the highest index of its down or up blocks.
fn levels(manifest: &Manifest, component: &Component) -> u32 {
    let blocks = component.blocks(manifest);
    let lists = blocks.iter().map(|block| format!("{}.", block.local_id()));
    let root = component.root.tensors().iter().map(|tensor| tensor.name().to_owned());
    let indices = lists.chain(root).filter_map(|name| {
        let up = index_after(&name, "up_blocks.");
        up.or_else(|| index_after(&name, "down_blocks.").filter(|_| !name.starts_with("encoder.")))
    });
    indices.max().map_or(1, |highest| highest.saturating_add(1).min(32))
}

/// The number that follows `marker` in a name.
fn index_after(name: &str, marker: &str) -> Option<u32> {
    let rest = &name[name.find(marker)? + marker.len()..];
    rest.split('.').next()?.parse().ok()
}

impl Map {
    /// Positions of one frame at a level: each halves height and width, rounded up as strided convolutions do.
    fn area(&self, level: u32) -> u64 {
        let at = |size: u64| size.div_ceil(1 << level.min(31));
        at(self.height).saturating_mul(at(self.width))
    }

    /// Frames at a level: time is stretched by two per level from the deepest up, until every frame is there.
    fn frames_at(&self, level: u32) -> u64 {
        let all = (self.frames.saturating_sub(1)).saturating_mul(self.frame_group) + 1;
        let above = self.levels.saturating_sub(1 + level).min(31);
        self.frames.saturating_mul(1 << above).min(all)
    }

    fn positions(&self, level: u32) -> u64 {
        self.area(level).saturating_mul(self.frames_at(level))
    }

    /// The level of the result of the weight of that name.
    fn level_of(&self, name: &str) -> u32 {
        let deepest = self.levels.saturating_sub(1);
        let level = if let Some(down) = index_after(name, "down_blocks.") {
            down.saturating_add(u32::from(name.contains("downsamplers.")))
        } else if let Some(up) = index_after(name, "up_blocks.") {
            let level = deepest.saturating_sub(up);
            level.saturating_sub(u32::from(name.contains("upsamplers.")))
        } else if ["mid_block", "decoder.conv_in", "quant_conv"].iter().any(|p| name.contains(p)) {
            deepest
        } else {
            0
        };
        level.min(deepest)
    }
}

impl Tokens {
    /// The same as one of several ranks sees them.
    pub fn shared(self, share: Share) -> Self {
        Self { share, ..self }
    }

    /// What of it this rank computes.
    pub fn share(&self) -> Share {
        self.share
    }

    /// Image tokens of one sample, those of other ranks too.
    pub fn image(&self) -> u64 {
        self.image
    }

    /// The tokens of one sample that an attention asks or answers with, those of other ranks too.
    pub fn everywhere(&self, stream: Stream, name: &str) -> u64 {
        Self { share: Share::WHOLE, ..self.clone() }.of(stream, name)
    }

    /// The tokens of one sample that a weight of that name and stream sees, on this rank.
    pub fn of(&self, stream: Stream, name: &str) -> u64 {
        let image = Share::part(self.image, self.share.tokens, self.share.rank);
        match stream {
            Stream::Image => image,
            Stream::Text => self.text,
            Stream::Joint => image.saturating_add(self.text),
            Stream::Context => self.context,
            Stream::One => 1,
            Stream::Map => self.map.map_or(self.image, |map| map.positions(map.level_of(name))),
            Stream::Every => self.every,
            Stream::Nothing => 0,
        }
    }

    /// The tokens of one sample that are in memory at once: all, but video autoencoders decode a group of frames at
    /// a time (diffusers' Wan and Qwen decoders loop over latent frames).
    pub fn alive(&self, stream: Stream, name: &str) -> u64 {
        match (stream, self.map) {
            (Stream::Map, Some(map)) => {
                let level = map.level_of(name);
                map.area(level).saturating_mul(map.frames_at(level).min(map.frame_group))
            }
            _ => self.of(stream, name),
        }
    }

    /// All tokens of one sample; what activations grow with.
    pub fn total(&self) -> u64 {
        self.image.saturating_add(self.text).max(self.every).max(1)
    }

    /// The counts by stream, for reports; streams without tokens, or that no weight sees, are left out.
    pub fn by_stream(&self, family: &Family) -> BTreeMap<String, u64> {
        if !family.is_known() {
            return BTreeMap::from([("tokens".to_owned(), self.every)]);
        }
        let mut streams = BTreeMap::new();
        if self.image > 0 {
            streams.insert("image".to_owned(), self.image);
        }
        if self.text > 0 && family.reads_text() {
            streams.insert("text".to_owned(), self.text);
        }
        if self.context > self.text && matches!(family.grid, Grid::Text { .. }) {
            streams.insert("context".to_owned(), self.context);
        }
        streams
    }
}

#[cfg(test)]
mod tests {
    use super::super::family;
    use super::*;

    fn tokens(class: &str, sizes: &str) -> Result<Tokens> {
        let text =
            format!("{{format: vramplan/workload/1, passes: 1, reserve: {{context: 0}}, {sizes}}}");
        let workload = Workload::from_yaml("w", &text).expect("a sound workload");
        let text = "{format: vramplan/manifest/1, model: m, kinds: {b: {bytes: 1}}, components: \
                    [{name: c, root: {bytes: 0}, blocks: [{list: decoder.up_blocks, kind: b, count: 4}]}]}";
        let manifest = Manifest::from_yaml("m", text).expect("a sound manifest");
        let component = &manifest.components[0];
        Ok(resolve(family::of(Some(class)), &workload, &manifest, component)?.0)
    }

    fn check(class: &str, sizes: &str, image: u64, text: u64) {
        let tokens = tokens(class, sizes).expect(sizes);
        assert_eq!((tokens.image, tokens.text), (image, text), "{class} {sizes}");
    }

    #[test]
    fn sizes_become_tokens_by_class() {
        check("FluxTransformer2DModel", "height: 512, width: 1024", 32 * 64, 512);
        check(
            "FluxTransformer2DModel",
            "height: 512, width: 512, tokens: {image: 7, text: 3}",
            7,
            3,
        );
        check("WanTransformer3DModel", "height: 720, width: 1280, frames: 81", 21 * 45 * 80, 512);
        check(
            "LTXVideoTransformer3DModel",
            "height: 512, width: 704, frames: 161",
            21 * 16 * 22,
            128,
        );
        check("CLIPTextModel", "tokens: {text: 512}", 0, 77);
        check("LlamaForCausalLM", "tokens: {text: 2048}", 0, 2048);
    }

    #[test]
    fn sizes_that_do_not_divide_are_refused_with_the_sizes_around_them() {
        let error = tokens("WanTransformer3DModel", "height: 1080, width: 1920, frames: 81");
        let error = error.expect_err("1080 is not a multiple of 16");
        assert_eq!(error.exit_code(), 2);
        assert!(error.hint().expect("a hint").contains("1072 or 1088"), "{error}");
        let error = tokens("WanTransformer3DModel", "height: 720, width: 1280, frames: 80");
        let error = error.expect_err("79 is not a multiple of 4");
        assert!(error.hint().expect("a hint").contains("77 or 81"), "{error}");
    }

    #[test]
    fn feature_maps_double_from_the_deepest_level_up() {
        let tokens = tokens("AutoencoderKL", "height: 1024, width: 1024").expect("sound sizes");
        let at = |name: &str| tokens.of(Stream::Map, name);
        assert_eq!(at("decoder.mid_block.resnets.0.conv1.weight"), 128 * 128);
        assert_eq!(at("decoder.up_blocks.0.resnets.0.conv1.weight"), 128 * 128);
        assert_eq!(at("decoder.up_blocks.0.upsamplers.0.conv.weight"), 256 * 256);
        assert_eq!(at("decoder.up_blocks.3.resnets.0.conv1.weight"), 1024 * 1024);
        assert_eq!(at("decoder.conv_out.weight"), 1024 * 1024);
    }

    #[test]
    fn a_unet_halves_its_maps_on_the_way_down() {
        // Four levels by the highest index of its lists; maps of 64 at the first.
        let tokens = tokens("UNet2DConditionModel", "height: 512, width: 520").expect("sound");
        let at = |name: &str| tokens.of(Stream::Map, name);
        assert_eq!(at("conv_in.weight"), 64 * 65);
        assert_eq!(at("down_blocks.1.resnets.0.conv1.weight"), 32 * 33);
        assert_eq!(at("down_blocks.1.downsamplers.0.conv.weight"), 16 * 17);
        assert_eq!(at("mid_block.resnets.0.conv1.weight"), 8 * 9);
        assert_eq!(at("up_blocks.0.upsamplers.0.conv.weight"), 16 * 17);
    }

    #[test]
    fn videos_are_decoded_a_group_of_frames_at_a_time() {
        let tokens = tokens("AutoencoderKLWan", "height: 512, width: 512, frames: 81");
        let tokens = tokens.expect("sound sizes");
        let counts = |name: &str| (tokens.of(Stream::Map, name), tokens.alive(Stream::Map, name));
        assert_eq!(counts("decoder.mid_block.resnets.0.conv1.weight"), (21 * 64 * 64, 4 * 64 * 64));
        assert_eq!(counts("decoder.conv_out.weight"), (81 * 512 * 512, 4 * 512 * 512));
    }
}
