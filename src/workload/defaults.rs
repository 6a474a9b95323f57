//! Turns a manifest without a workload into the workload that most people would mean, and flags into changes of one.

use std::collections::BTreeMap;

use super::activations::{FIXED, activations_estimate, scaled};
use super::family::{self, Family, Grid};
use super::tokens::{DEFAULT_SIDE, resolve};
use super::{Passes, Reserve, WORKLOAD_FORMAT, Workload, builtin};
use crate::error::{Error, Result};
use crate::model::{Component, LANGUAGE_MODEL, Manifest};
use crate::units::Bytes;

/// A CUDA context with the kernels of an engine loaded; 300 to 600 MiB on current drivers.
const CONTEXT: Bytes = Bytes::new(500 << 20);
/// Workspaces of cuBLAS, cuDNN and attention kernels.
const WORKSPACE: Bytes = Bytes::new(256 << 20);
/// Frames and size of a default video: the 480p setting of the Wan models, which others accept too.
const VIDEO: (u64, u64, u64) = (81, 480, 832);
/// Denoisers that nothing is known of: the tokens of FLUX.1 at 1024², and its number of steps.
const UNKNOWN_DENOISER: (u64, u32) = (4096 + 512, 28);

/// What the flags of the command line change in a workload; `None` leaves it as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overrides {
    /// `--passes`: of the whole run; split in the workload's proportions where components take turns.
    pub passes: Option<u32>,
    /// `--height`, pixels.
    pub height: Option<u64>,
    /// `--width`, pixels.
    pub width: Option<u64>,
    /// `--frames`.
    pub frames: Option<u64>,
    /// `--text-tokens`.
    pub text_tokens: Option<u64>,
    /// `--tokens`: of the planned component's main stream (`image` for denoisers, `text` for language models).
    pub tokens: Option<u64>,
    /// `--batch`.
    pub batch: Option<u64>,
    /// The reserve, which is then not scaled.
    pub reserve: Option<Reserve>,
}

impl Overrides {
    fn sizes(&self) -> [(&'static str, Option<u64>); 3] {
        [("--height", self.height), ("--width", self.width), ("--frames", self.frames)]
    }
}

/// The workload to start from: the built-in one of the manifest's model, else [`default_for`] its class.
///
/// # Errors
///
/// Only a broken built-in workload.
pub fn for_model(manifest: &Manifest) -> Result<Workload> {
    builtin::load(&manifest.model).unwrap_or_else(|| Ok(default_for(manifest)))
}

/// The workload of a model that has none of its own, by the class of its main component.
///
/// Pictures of 1024², videos of 81 frames of 480 × 832, language models decoding one token per pass; passes as the
/// pipeline's default; the reserve an estimate (without a cache of keys and values: give a reserve for long contexts).
pub fn default_for(manifest: &Manifest) -> Workload {
    let mut workload = Workload {
        format: WORKLOAD_FORMAT.to_owned(),
        passes: Passes::Main(1),
        batch: 1,
        tokens: BTreeMap::new(),
        height: None,
        width: None,
        frames: None,
        reserve: Reserve {
            context: CONTEXT,
            activations: FIXED,
            workspace: WORKSPACE,
            ..Reserve::default()
        },
        reserves: BTreeMap::new(),
        order: Vec::new(),
        compute: BTreeMap::new(),
        skips: Vec::new(),
    };
    let Some(main) = manifest.main_component() else { return workload };
    let family = family::of_component(main);
    workload.passes = Passes::Main(family.passes);
    match family.grid {
        Grid::Patches { frames: Some(group), .. } => {
            let (frames, height, width) = VIDEO;
            workload.frames = Some((frames - 1) / group * group + 1);
            (workload.height, workload.width) = (Some(height), Some(width));
            workload.tokens.insert("text".to_owned(), family.text);
        }
        Grid::Patches { frames: None, .. } | Grid::Levels { .. } => {
            (workload.height, workload.width) = (Some(DEFAULT_SIDE), Some(DEFAULT_SIDE));
            workload.tokens.insert("text".to_owned(), family.text);
        }
        Grid::Text { .. } => {
            workload.tokens.insert("text".to_owned(), family.text);
        }
        Grid::Unknown => {
            let denoiser = main.name != LANGUAGE_MODEL && manifest.components.len() > 1;
            let (tokens, passes) = if denoiser { UNKNOWN_DENOISER } else { (1, 128) };
            workload.passes = Passes::Main(passes);
            workload.tokens.insert("tokens".to_owned(), tokens);
        }
    }
    if let Ok(activations) = activations_estimate(manifest, main, &workload) {
        workload.reserve.activations = activations;
    }
    workload
}

impl Workload {
    /// This workload with the flags applied, as seen from the planned `component`.
    ///
    /// A given size beats the tokens that the workload states. Where tokens or batch change, activations change with
    /// them (an estimate, see [`activations_estimate`]) unless a reserve is given.
    ///
    /// # Errors
    ///
    /// A flag that means nothing for the model, sizes that its class cannot divide, and values out of range.
    pub fn with_overrides(
        self,
        overrides: &Overrides,
        manifest: &Manifest,
        component: &Component,
    ) -> Result<Self> {
        let family = family::of_component(component);
        check_flags(overrides, manifest, component, family)?;
        let before = load(&self, manifest, component).ok();
        let mut workload = self;
        if let Some(passes) = overrides.passes {
            workload.passes = spread(&workload.passes, passes);
        }
        if overrides.sizes().iter().any(|(_, size)| size.is_some()) {
            workload.tokens.remove("image");
            workload.tokens.remove("tokens");
        }
        workload.height = overrides.height.or(workload.height);
        workload.width = overrides.width.or(workload.width);
        workload.frames = overrides.frames.or(workload.frames);
        workload.batch = overrides.batch.unwrap_or(workload.batch);
        if let Some(tokens) = overrides.tokens {
            if !family.is_known() {
                workload.tokens.clear();
            }
            workload.tokens.insert(family.main_stream().to_owned(), tokens);
        }
        if let Some(text) = overrides.text_tokens {
            workload.tokens.insert("text".to_owned(), text);
        }
        let problems = workload.validate();
        if !problems.is_empty() {
            let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
            return Err(Error::usage(format!("workload: {}", problems.join("; "))));
        }
        let after = load(&workload, manifest, component)?;
        match (overrides.reserve, before) {
            (Some(reserve), _) => {
                workload.reserve = reserve;
                let names = manifest.components.iter().map(|component| component.name.clone());
                workload.reserves = names.map(|name| (name, reserve)).collect();
            }
            (None, Some(before)) => {
                let activations = &mut workload.reserve.activations;
                *activations = scaled(*activations, before, after);
            }
            (None, None) => {}
        }
        Ok(workload)
    }
}

/// Tokens of the whole batch.
fn load(workload: &Workload, manifest: &Manifest, component: &Component) -> Result<u128> {
    let family = family::of_component(component);
    let (tokens, _) = resolve(family, workload, manifest, component)?;
    Ok(u128::from(tokens.total()) * u128::from(workload.batch))
}

/// Refuses flags that would be ignored.
fn check_flags(
    overrides: &Overrides,
    manifest: &Manifest,
    component: &Component,
    family: &Family,
) -> Result<()> {
    let of = |c: &Component| family::of_component(c);
    let main = manifest.main_component().map_or(family, of);
    let refuse = |flag: &str, why: &str| {
        let class = component.class.as_deref().unwrap_or("no class");
        let message = format!("{flag} means nothing for {} ({class})", component.name);
        Err(Error::Usage { message, hint: Some(why.to_owned()) })
    };
    let pictured = manifest.components.iter().any(|c| !matches!(of(c).grid, Grid::Text { .. }));
    for (flag, size) in overrides.sizes() {
        if size.is_some() && !pictured {
            return refuse(flag, "a language model takes --tokens");
        }
    }
    let filmed = |f: &Family| f.frames().is_some() || !f.is_known();
    if overrides.frames.is_some_and(|frames| frames > 1) && !filmed(main) && !filmed(family) {
        return refuse("--frames", "the model makes pictures, not videos");
    }
    if overrides.tokens.is_some() {
        if matches!(family.grid, Grid::Levels { .. }) {
            return refuse("--tokens", "its work follows from --height and --width");
        }
        let sized = overrides.sizes().iter().any(|(_, size)| size.is_some());
        if sized && !matches!(family.grid, Grid::Text { .. }) {
            return refuse("--tokens beside a size", "give the tokens or the size, not both");
        }
    }
    Ok(())
}

/// `total` passes in the proportions of `passes`, at least one each.
fn spread(passes: &Passes, total: u32) -> Passes {
    let Passes::ByComponent(by_name) = passes else { return Passes::Main(total) };
    let all: u64 = by_name.values().map(|&passes| u64::from(passes)).sum();
    let (mut walked, mut dealt) = (0u64, 0u64);
    let mut deal = |own: u32| {
        walked += u64::from(own);
        let upto = u64::from(total) * walked / all.max(1);
        let part = u32::try_from(upto.saturating_sub(dealt)).unwrap_or(total);
        dealt = upto;
        part.max(1)
    };
    Passes::ByComponent(by_name.iter().map(|(name, &own)| (name.clone(), deal(own))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(components: &[(&str, &str)]) -> Manifest {
        let mut text = "format: vramplan/manifest/1\nmodel: m\ncomponents:\n".to_owned();
        for (name, class) in components {
            text += &format!("  - {{name: {name}, class: {class}, root: {{bytes: 1}}}}\n");
        }
        Manifest::from_yaml("m", &text).expect("a sound manifest")
    }

    fn flux() -> Manifest {
        manifest(&[("transformer", "FluxTransformer2DModel"), ("text_encoder", "T5EncoderModel")])
    }

    fn apply(manifest: &Manifest, component: &str, overrides: &Overrides) -> Result<Workload> {
        let component = manifest.component(component).expect("a component");
        default_for(manifest).with_overrides(overrides, manifest, component)
    }

    #[test]
    fn every_family_has_a_default_that_it_accepts() {
        for class in [
            "FluxTransformer2DModel",
            "WanTransformer3DModel",
            "LTXVideoTransformer3DModel",
            "MochiTransformer3DModel",
            "UNet2DConditionModel",
            "AutoencoderKL",
            "T5EncoderModel",
            "LlamaForCausalLM",
            "Mystery",
        ] {
            let manifest = manifest(&[("model", class)]);
            let workload = default_for(&manifest);
            assert_eq!(workload.validate(), Vec::new(), "{class}");
            let component = &manifest.components[0];
            assert!(activations_estimate(&manifest, component, &workload).is_ok(), "{class}");
        }
    }

    #[test]
    fn activations_follow_tokens_and_batch_unless_the_reserve_is_given() {
        let manifest = flux();
        let mut workload = default_for(&manifest);
        workload.reserve.activations = FIXED.saturating_add(Bytes::new(3 << 20));
        let transformer = &manifest.components[0];
        // 1024 + 512 of 4096 + 512 tokens: a third.
        let smaller = Overrides { height: Some(512), width: Some(512), ..Overrides::default() };
        let result = workload.clone().with_overrides(&smaller, &manifest, transformer);
        let activations = result.expect("sound").reserve.activations;
        assert_eq!(activations, FIXED.saturating_add(Bytes::new(1 << 20)));
        let batch = Overrides { batch: Some(4), ..Overrides::default() };
        let result = workload.clone().with_overrides(&batch, &manifest, transformer);
        let activations = result.expect("sound").reserve.activations;
        assert_eq!(activations, FIXED.saturating_add(Bytes::new(12 << 20)));
        let reserve = Some(Reserve::default());
        let given = Overrides { reserve, ..batch };
        let result = workload.with_overrides(&given, &manifest, transformer);
        assert_eq!(result.expect("sound").reserve, Reserve::default());
    }

    #[test]
    fn plain_tokens_mean_the_main_stream_of_the_planned_component() {
        let tokens = Overrides { tokens: Some(77), ..Overrides::default() };
        let manifest = flux();
        let of = |component: &str| apply(&manifest, component, &tokens).expect("sound").tokens;
        assert_eq!(of("transformer"), [("image".into(), 77), ("text".into(), 512)].into());
        assert_eq!(of("text_encoder"), [("text".into(), 77)].into());
    }

    #[test]
    fn flags_that_would_be_ignored_are_refused() {
        let language = manifest(&[("model", "LlamaForCausalLM")]);
        let height = Overrides { height: Some(512), ..Overrides::default() };
        let frames = Overrides { frames: Some(5), ..Overrides::default() };
        let both = Overrides { tokens: Some(5), width: Some(512), ..Overrides::default() };
        let none = Overrides { batch: Some(0), ..Overrides::default() };
        let flux = flux();
        for (manifest, component, overrides) in [
            (&language, "model", &height),
            (&flux, "transformer", &frames),
            (&flux, "transformer", &both),
            (&flux, "transformer", &none),
        ] {
            assert!(apply(manifest, component, overrides).is_err(), "{overrides:?}");
        }
        assert!(apply(&flux, "text_encoder", &height).is_ok(), "the picture of its pipeline");
    }

    #[test]
    fn passes_are_split_in_the_workloads_proportions() {
        let by = |a: u32, b: u32| Passes::ByComponent([("a".into(), a), ("b".into(), b)].into());
        assert_eq!(spread(&by(26, 14), 20), by(13, 7));
        assert_eq!(spread(&by(26, 14), 40), by(26, 14));
        assert_eq!(spread(&by(26, 14), 1), by(1, 1));
        assert_eq!(spread(&Passes::Main(28), 3), Passes::Main(3));
    }
}
