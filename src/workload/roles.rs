//! Turns components into their part in a pipeline: who encodes, who denoises, who decodes, and in which order.

use super::family::{self, Grid, decodes};
use super::{Reserve, Workload, activations_estimate};
use crate::error::{Error, Result};
use crate::model::{Component, Manifest};
use crate::suggest;

/// What a component does in its pipeline. Their order is the order of use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Turns a prompt into embeddings.
    Encoder,
    /// Does most of the work: a denoiser, or a language model.
    Main,
    /// Turns latents into pictures.
    Decoder,
}

impl Role {
    /// The name that stands for all components of this role: `encoders`, `dit`, `decoders`.
    pub fn group(self) -> &'static str {
        match self {
            Self::Encoder => "encoders",
            Self::Main => "dit",
            Self::Decoder => "decoders",
        }
    }

    /// All of them, in order of use.
    pub const ALL: [Self; 3] = [Self::Encoder, Self::Main, Self::Decoder];

    /// The role of a component: by its class, and where that says nothing whether it dominates the model.
    pub fn of(manifest: &Manifest, component: &Component) -> Self {
        let main = manifest.main_component().is_some_and(|main| main.name == component.name);
        match family::of_component(component).grid {
            _ if main => Self::Main,
            Grid::Patches { .. } => Self::Main,
            // A denoiser of feature maps is the main component; another is an autoencoder.
            Grid::Levels { .. } => Self::Decoder,
            Grid::Text { .. } if decodes(component) == Some(true) && !piped(manifest) => Self::Main,
            Grid::Text { .. } => Self::Encoder,
            Grid::Unknown if component.name.contains("encoder") => Self::Encoder,
            Grid::Unknown if component.name.contains("vae") => Self::Decoder,
            Grid::Unknown => Self::Main,
        }
    }
}

/// Whether any component makes pictures, so that language models beside it only encode.
fn piped(manifest: &Manifest) -> bool {
    let pictured = |grid| matches!(grid, Grid::Patches { .. } | Grid::Levels { .. });
    manifest.components.iter().any(|one| pictured(family::of_component(one).grid))
}

impl Workload {
    /// All components in order of use: as the workload says, else text encoders, denoisers, decoders.
    ///
    /// # Errors
    ///
    /// An order that names a component that does not exist, or one twice, or leaves one out.
    pub fn ordered<'a>(&self, manifest: &'a Manifest) -> Result<Vec<&'a Component>> {
        let mut components: Vec<&Component> = manifest.components.iter().collect();
        if self.order.is_empty() {
            components.sort_by_key(|component| Role::of(manifest, component));
            return Ok(components);
        }
        let known: Vec<String> = components.iter().map(|one| one.name.clone()).collect();
        let mut ordered: Vec<&Component> = Vec::with_capacity(known.len());
        for name in &self.order {
            let Some(component) = manifest.component(name) else {
                return Err(suggest::unknown("component in the workload's order", name, &known));
            };
            if ordered.iter().any(|one| one.name == *name) {
                return Err(Error::usage(format!("the workload's order names {name} twice")));
            }
            ordered.push(component);
        }
        match known.iter().find(|name| !self.order.contains(name)) {
            Some(name) => Err(Error::usage(format!("the workload's order leaves out {name}"))),
            None => Ok(ordered),
        }
    }

    /// VRAM that is not for weights while a component is in use.
    ///
    /// # Errors
    ///
    /// Sizes that the component's class cannot divide into tokens.
    pub fn reserve_of(&self, manifest: &Manifest, component: &Component) -> Result<Reserve> {
        if let Some(reserve) = self.reserves.get(&component.name) {
            return Ok(*reserve);
        }
        if Role::of(manifest, component) == Role::Main {
            return Ok(self.reserve);
        }
        let activations = activations_estimate(manifest, component, self)?;
        Ok(Reserve { activations, ..self.reserve })
    }
}

#[cfg(test)]
mod tests {
    use super::super::{builtin, default_for};
    use super::*;
    use crate::model;

    #[test]
    fn built_in_pipelines_encode_denoise_and_decode() {
        for (name, expected) in [
            ("flux1-dev", "text_encoder text_encoder_2 | transformer | vae"),
            ("wan2.2-t2v-a14b", "text_encoder | transformer transformer_2 | vae"),
            ("qwen-image", "text_encoder | transformer | vae"),
            ("z-image", "text_encoder | transformer | vae"),
            ("flux2-klein-4b", "text_encoder | transformer | vae"),
        ] {
            let manifest = model::builtin::load(name).expect(name).expect("a sound manifest");
            let workload = builtin::load(name).expect(name).expect("a sound workload");
            let ordered = workload.ordered(&manifest).expect("an order");
            let groups = Role::ALL.map(|role| {
                let of = ordered.iter().filter(|one| Role::of(&manifest, one) == role);
                of.map(|one| one.name.as_str()).collect::<Vec<_>>().join(" ")
            });
            assert_eq!(groups.join(" | "), expected);
        }
        let llama = model::builtin::load("llama-3-8b").expect("known").expect("sound");
        assert_eq!(Role::of(&llama, &llama.components[0]), Role::Main);
    }

    #[test]
    fn an_order_names_every_component_once() {
        let manifest = model::builtin::load("z-image").expect("known").expect("sound");
        let order = |names: &[&str]| {
            let order = names.iter().map(|&name| name.to_owned()).collect();
            let workload = Workload { order, ..default_for(&manifest) };
            workload.ordered(&manifest).map(|all| all.len()).map_err(|error| error.to_string())
        };
        assert_eq!(order(&["vae", "transformer", "text_encoder"]), Ok(3));
        assert!(order(&["vae", "transformer"]).expect_err("short").contains("leaves out"));
        assert!(order(&["vae", "vae", "transformer"]).expect_err("twice").contains("twice"));
        assert!(order(&["vea"]).expect_err("unknown").contains("vea"));
    }
}
