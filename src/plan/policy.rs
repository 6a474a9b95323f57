//! Turns a policy's name and parameters into a plan under the same budget, for comparison with the planner's.
//!
//! A policy here is a geometry of residency as data: which blocks stay, when so many do. All of them run with the
//! same event-gated slots as our own plans, so they differ in nothing but where the residents lie:
//!
//! ```text
//! ten blocks, six resident     leading  ██████····      trailing  ····██████      spread  ██·█·██·█·
//! ```
//!
//! What named engines do beyond that (when they issue, what they wait for) is for a later version to model; these
//! geometries are lower bounds on their times, not imitations of them.

use super::choice::Choice;
use super::layout::ComponentInput;
use super::planner;
use super::spec::ComponentPlan;
use crate::error::{Error, Result};
use crate::suggest;

/// Which blocks stay, when `r` of them do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Geometry {
    /// Whatever the planner finds best.
    Hybrid,
    /// All of them.
    Resident,
    /// None of them.
    Streamed,
    /// The first.
    Leading,
    /// The last.
    Trailing,
    /// Those between evenly spaced streamed ones.
    Spread,
}

/// Name, geometry and meaning of every policy.
pub const POLICIES: &[(&str, Geometry, &str)] = &[
    (
        "hybrid",
        Geometry::Hybrid,
        "vramplan's own: which blocks stay and how many slots, chosen by exact evaluation",
    ),
    ("resident", Geometry::Resident, "everything stays: the fastest there is, where it fits"),
    ("streamed", Geometry::Streamed, "no block stays"),
    ("leading", Geometry::Leading, "the first r blocks stay; r=N (best of all that fit)"),
    ("trailing", Geometry::Trailing, "the last r blocks stay; r=N (best of all that fit)"),
    (
        "spread",
        Geometry::Spread,
        "r blocks stay, streamed ones evenly spaced; r=N (best of all that fit)",
    ),
];

/// A geometry, and those of its parameters that are given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Its name.
    pub name: &'static str,
    geometry: Geometry,
    resident: Option<usize>,
}

impl Policy {
    /// Every policy at its best setting.
    pub fn all() -> Vec<Self> {
        let best = |&(name, geometry, _): &(&'static str, Geometry, &str)| Self {
            name,
            geometry,
            resident: None,
        };
        POLICIES.iter().map(best).collect()
    }

    /// Reads `name:key=value:key=value`; a bare name means its best setting that fits.
    pub fn parse(text: &str) -> Result<Self> {
        let mut parts = text.split(':');
        let name = parts.next().unwrap_or_default();
        let Some(&(name, geometry, _)) = POLICIES.iter().find(|&&(known, ..)| known == name) else {
            let known: Vec<String> = POLICIES.iter().map(|&(name, ..)| name.to_owned()).collect();
            return Err(suggest::unknown("policy", name, &known));
        };
        let mut policy = Self { name, geometry, resident: None };
        for part in parts {
            policy.set(part)?;
        }
        Ok(policy)
    }

    fn set(&mut self, parameter: &str) -> Result<()> {
        let (key, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let number: Option<u32> = value.parse().ok();
        let fits =
            matches!(self.geometry, Geometry::Leading | Geometry::Trailing | Geometry::Spread);
        match (key, number) {
            ("r", Some(count)) if fits => self.resident = Some(count as usize),
            _ => {
                let meaning = POLICIES.iter().find(|&&(name, ..)| name == self.name);
                let meaning = meaning.map_or("", |&(.., meaning)| meaning);
                let name = self.name;
                return Err(Error::usage(format!(
                    "policy {name} cannot take {parameter:?}; {name}: {meaning}"
                )));
            }
        }
        Ok(())
    }

    /// The plan at the given or best setting; none when no setting fits the budget.
    pub fn plan(&self, input: &ComponentInput) -> Result<Option<ComponentPlan>> {
        if self.geometry == Geometry::Hybrid {
            return input.plan(super::Granularity::Tensor).map(Some);
        }
        let mut best: Option<ComponentPlan> = None;
        for choice in self.choices(input) {
            let Some(found) = choice.evaluate(&input.instance) else { continue };
            let plan = input.planned(self.name, &found)?;
            let key = |plan: &ComponentPlan| (plan.prediction.pass, plan.prediction.peak);
            if best.as_ref().is_none_or(|known| key(&plan) < key(known)) {
                best = Some(plan);
            }
        }
        Ok(best)
    }

    /// The parameters that a plan of this policy has.
    pub fn parameters(plan: &ComponentPlan) -> String {
        let resident = plan.blocks.iter().filter(|block| block.is_resident()).count();
        let root = usize::from(plan.blocks.first().is_some_and(|b| b.block == super::ROOT));
        match plan.window.bytes.is_zero() {
            true => String::new(),
            false => format!("r={}", resident - root),
        }
    }

    /// Choices to compare: every number of residents that fits; the window takes what they leave.
    fn choices(&self, input: &ComponentInput) -> Vec<Choice> {
        let instance = &input.instance;
        let blocks = planner::blocks_of(instance);
        let counts = match (self.geometry, self.resident) {
            (Geometry::Resident, _) => blocks.len()..=blocks.len(),
            (Geometry::Streamed, _) => 0..=0,
            (_, Some(resident)) => resident..=resident,
            (_, None) => 0..=blocks.len(),
        };
        counts.filter_map(|resident| self.choice(instance, &blocks, resident)).collect()
    }

    fn choice(
        &self,
        instance: &super::Instance,
        blocks: &[usize],
        resident: usize,
    ) -> Option<Choice> {
        let streamed = blocks.len().checked_sub(resident)?;
        let mut streams = vec![false; instance.uses.len()];
        let chosen: Vec<usize> = match self.geometry {
            Geometry::Leading => blocks[resident..].to_vec(),
            Geometry::Trailing => blocks[..streamed].to_vec(),
            _ => planner::evenly(blocks, streamed).collect(),
        };
        chosen.into_iter().for_each(|n| streams[n] = true);
        Choice::whole(instance, &streams)
    }
}
