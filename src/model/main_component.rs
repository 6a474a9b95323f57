//! Turns a manifest into the one component that dominates its run: the denoiser, or the language model.

use super::{Component, Manifest};

/// Names under which pipelines keep their denoiser.
const DENOISER_NAMES: [&str; 2] = ["transformer", "unet"];
/// Parts of denoisers' class names.
const DENOISER_CLASSES: [&str; 3] = ["Transformer2D", "Transformer3D", "UNet"];
/// The name of the only component of a checkpoint that is no pipeline.
pub const LANGUAGE_MODEL: &str = "model";

impl Manifest {
    /// The component that dominates: the denoiser by name, then by class; else the language model `model`; else
    /// the largest (the first of equals). `None` only without components, which validation refuses.
    pub fn main_component(&self) -> Option<&Component> {
        let named = |name: &str| self.components.iter().find(|c| c.name == name);
        let denoises = |component: &&Component| {
            let class = component.class.as_deref().unwrap_or_default();
            DENOISER_CLASSES.iter().any(|part| class.contains(part))
        };
        DENOISER_NAMES
            .into_iter()
            .find_map(named)
            .or_else(|| self.components.iter().find(denoises))
            .or_else(|| named(LANGUAGE_MODEL))
            .or_else(|| self.components.iter().rev().max_by_key(|c| c.total_bytes(self)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Components as `name:class:bytes`.
    fn check(components: &[&str], expected: &str) {
        let mut text = "format: vramplan/manifest/1\nmodel: m\ncomponents:\n".to_owned();
        for component in components {
            let mut parts = component.split(':');
            let mut next = || parts.next().expect("three parts");
            let (name, class, bytes) = (next(), next(), next());
            text += &format!("  - {{name: {name}, class: {class}, root: {{bytes: {bytes}}}}}\n");
        }
        let manifest = Manifest::from_yaml("m", &text).expect("a sound manifest");
        assert_eq!(manifest.main_component().map(|c| c.name.as_str()), Some(expected));
    }

    #[test]
    fn the_denoiser_comes_first_then_the_language_model_then_the_largest() {
        check(&["text_encoder:T5:9", "transformer:X:1", "transformer_2:X:5"], "transformer");
        check(&["text_encoder:T5:9", "unet:X:1"], "unet");
        check(&["text_encoder:T5:9", "dit:FooTransformer2DModel:1", "model:X:5"], "dit");
        check(&["other:X:9", "model:LlamaForCausalLM:1"], "model");
        check(&["a:X:1", "b:X:3", "c:X:3"], "b");
    }
}
