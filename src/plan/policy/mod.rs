//! Turns a policy's name and parameters into a plan under a budget: the field's systems beside our own planner.
//!
//! A policy is data, not a branch of anything. The catalogue gives each name its parameters, flags and recipe; one
//! builder turns every recipe into a [`ComponentPlan`](super::ComponentPlan), which lowers to the same program,
//! passes the same checker and gets its time from the same exact evaluation as our own plans.
//!
//! ```text
//! sglang-strided:p=1:r=30 ── catalogue ──▶ Recipe ── units, stays, flow, place ──▶ ComponentPlan
//! sglang-strided          ── search: every setting's slab and a floor for its time; exact times, best first
//! ```

mod build;
mod catalogue;
mod flow;
mod place;
mod recipe;
mod recipes;
mod search;
mod stays;
mod store;
#[cfg(test)]
mod tests;
mod together;

pub use catalogue::{POLICIES, Parameter, Range, Serves, Shape, Spec};
pub use search::{Explored, Setting};

use crate::error::{Error, Result};
use crate::suggest;

/// A policy, and those of its parameters that are given.
#[derive(Debug, Clone)]
pub struct Policy {
    /// Its name.
    pub name: &'static str,
    spec: &'static Spec,
    given: Vec<Option<u64>>,
    /// What the engine ships, instead of the best.
    shipped: bool,
}

impl Policy {
    fn of(spec: &'static Spec) -> Self {
        let given = vec![None; spec.parameters.len()];
        Self { name: spec.name, spec, given, shipped: false }
    }

    /// Every policy at its best setting.
    pub fn all() -> Vec<Self> {
        POLICIES.iter().map(Self::of).collect()
    }

    /// The policies of one engine, at their best settings.
    pub fn of_engine(engine: &str) -> Result<Vec<Self>> {
        let of: Vec<Self> = POLICIES
            .iter()
            .filter(|s| s.engine == engine && !engine.is_empty())
            .map(Self::of)
            .collect();
        if !of.is_empty() {
            return Ok(of);
        }
        let mut known: Vec<String> = Vec::new();
        for spec in POLICIES.iter().filter(|spec| !spec.engine.is_empty()) {
            if !known.iter().any(|name| name == spec.engine) {
                known.push(spec.engine.to_owned());
            }
        }
        Err(suggest::unknown("engine", engine, &known))
    }

    /// What it is.
    pub fn spec(&self) -> &'static Spec {
        self.spec
    }

    /// Reads `name`, `name:default` or `name:key=value:key=value`. A bare name means its best setting that fits;
    /// parameters that are not given are searched.
    pub fn parse(text: &str) -> Result<Self> {
        let mut parts = text.split(':');
        let name = parts.next().unwrap_or_default();
        let Some(spec) = POLICIES.iter().find(|spec| spec.name == name) else {
            let known: Vec<String> = POLICIES.iter().map(|spec| spec.name.to_owned()).collect();
            return Err(suggest::unknown("policy", name, &known));
        };
        let mut policy = Self::of(spec);
        for part in parts {
            match part {
                "default" => policy.shipped = true,
                _ => policy.set(part)?,
            }
        }
        if policy.shipped && policy.given.iter().any(Option::is_some) {
            return Err(Error::usage(format!(
                "policy {text:?}: default, and parameters beside it"
            )));
        }
        Ok(policy)
    }

    fn set(&mut self, part: &str) -> Result<()> {
        let (key, value) = part.split_once('=').unwrap_or((part, ""));
        let name = self.name;
        let Some(n) = self.spec.parameters.iter().position(|p| p.key == key) else {
            if self.spec.parameters.is_empty() {
                let message = format!("policy {name} has no parameters, found {part:?}");
                return Err(Error::usage(message));
            }
            let known: Vec<String> =
                self.spec.parameters.iter().map(|p| p.key.to_owned()).collect();
            return Err(suggest::unknown(&format!("parameter of {name}"), key, &known));
        };
        if self.given[n].is_some() {
            return Err(Error::usage(format!("policy {name}: {key} is given twice")));
        }
        let parameter = &self.spec.parameters[n];
        let value = parameter.read(value).map_err(|expected| {
            Error::usage(format!(
                "policy {name}: found {part:?}, expected {key}={expected} ({})",
                parameter.meaning
            ))
        })?;
        self.given[n] = Some(value);
        Ok(())
    }
}

impl Parameter {
    /// The value, or what was expected.
    fn read(&self, text: &str) -> std::result::Result<u64, String> {
        let (least, most) = match self.range {
            Range::Blocks(least) => (least, u64::from(u32::MAX)),
            Range::Leaves | Range::OfGroup => (0, u64::from(u32::MAX)),
            Range::PerCent => (0, 100),
            Range::Some(least, most, _) => (least, most),
        };
        let share = text.parse::<crate::units::Fraction>();
        let value = match (self.range, share) {
            // A share is a number of per cent, or reads as one: 0.4, 40%.
            (Range::PerCent, Ok(share)) if text.contains(['.', '%']) => Some(share.ppm() / 10_000),
            _ => text.parse().ok(),
        };
        value.filter(|value| (least..=most).contains(value)).ok_or_else(|| match self.range {
            Range::Blocks(least) => format!("a number of blocks from {least}"),
            _ if most == u64::from(u32::MAX) => format!("a number from {least}"),
            _ => format!("a number from {least} to {most}"),
        })
    }

    /// The largest value that a component has room for.
    fn most(&self, shape: &Shape) -> u64 {
        match self.range {
            Range::Blocks(_) | Range::OfGroup => shape.blocks,
            Range::Leaves => shape.leaves,
            Range::PerCent => 100,
            Range::Some(_, most, _) => most,
        }
    }
}
