//! Turns a manifest, a workload, a device and a budget into a plan: the entry point of planning.

use super::instance::{Instance, parts_of};
use super::layout::ComponentInput;
use super::spec::{Budget, ComponentPlan, Digests, Granularity, PLAN_FORMAT, Plan};
use super::tiers::{self, HostBudget};
use super::unit::Unit;
use crate::device::DeviceSpec;
use crate::digest::digest;
use crate::error::{Error, Infeasible, Result};
use crate::model::{Component, Manifest};
use crate::suggest;
use crate::units::{Bytes, Nanos};
use crate::workload::{self, ComponentCosts, Passes, Workload};

/// What is to be planned.
#[derive(Debug, Clone)]
pub struct Request {
    /// The model.
    pub manifest: Manifest,
    /// The components to plan, by name, in order of use.
    pub components: Vec<String>,
    /// What is computed, and what VRAM it needs besides weights.
    pub workload: Workload,
    /// The device.
    pub device: DeviceSpec,
    /// VRAM given.
    pub vram: Bytes,
    /// The finest unit that may be resident in part.
    pub granularity: Granularity,
    /// What is brought in, used and released as one.
    pub unit: Unit,
    /// Host memory for the weights of all components; none for as much as they take.
    pub host: Option<HostBudget>,
}

/// A component ready to be planned, with what was estimated about it.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// What the planner takes, with blocks as uses.
    pub input: ComponentInput,
    /// Operations and times per use.
    pub costs: ComponentCosts,
    /// Root and blocks together.
    pub total: Bytes,
}

impl Request {
    /// What is left for weights once the reserve is taken off; the whole shortfall when nothing is left.
    fn weights(&self) -> std::result::Result<Bytes, Bytes> {
        let reserve = self.workload.reserve.total();
        self.vram.checked_sub(reserve).ok_or(reserve.saturating_sub(self.vram))
    }

    fn component(&self, name: &str) -> Result<&Component> {
        let missing = || Error::usage(format!("{} has no component {name:?}", self.manifest.model));
        self.manifest.component(name).ok_or_else(missing)
    }

    /// Passes are for components that exist.
    fn check_passes(&self) -> Result<()> {
        let Passes::ByComponent(by_name) = &self.workload.passes else { return Ok(()) };
        let unknown = by_name.keys().find(|name| self.manifest.component(name).is_none());
        let Some(name) = unknown else { return Ok(()) };
        let known: Vec<String> =
            self.manifest.components.iter().map(|component| component.name.clone()).collect();
        Err(suggest::unknown("component in the workload's passes", name, &known))
    }

    /// The components' costs and instances; infeasible when one of them cannot be planned under the budget.
    ///
    /// Of several that do not fit, the answer is for the one that needs most.
    pub fn prepare(&self) -> Result<Vec<Prepared>> {
        self.check_passes()?;
        let main = self.manifest.main_component().map(|main| main.name.as_str());
        let (weights, below) = match self.weights() {
            Ok(weights) => (weights, Bytes::ZERO),
            Err(below) => (Bytes::ZERO, below),
        };
        let mut prepared = Vec::with_capacity(self.components.len());
        let mut worst: Option<Infeasible> = None;
        for name in &self.components {
            let component = self.component(name)?;
            let costs = workload::costs(&self.manifest, component, &self.workload, &self.device)?;
            let passes = self.workload.passes_of(name, Some(name.as_str()) == main);
            let copies = self.device.h2d.time_for(component.total_bytes(&self.manifest));
            check_magnitude(name, costs.time_per_pass().max(copies), passes)?;
            let instance = Instance::of(&self.manifest, component, &costs, &self.device, weights);
            let input = ComponentInput {
                name: name.clone(),
                root: component.root.bytes(),
                root_parts: parts_of(&component.root, &[], &costs.root),
                instance,
                unit: Unit::Block,
                passes,
                reserve: self.workload.reserve.total(),
                host: self.host,
            };
            // What at least one unit needs beside a root that stays; what leaf units need is not less than the
            // root, of which they are part.
            let root = component.root.bytes().align_up(self.device.alignment);
            let needed = input.at(self.unit).smallest().max(root);
            if needed > weights || !below.is_zero() {
                let answer = input.infeasible(needed, weights);
                if worst.as_ref().is_none_or(|worst| worst.needed < answer.needed) {
                    worst = Some(answer);
                }
            }
            let total = component.total_bytes(&self.manifest);
            prepared.push(Prepared { input, costs, total });
        }
        match worst {
            None => Ok(prepared),
            Some(answer) => {
                let reserve = self.workload.reserve.total();
                Err(Error::Infeasible(Infeasible {
                    shortfall: answer.shortfall.saturating_add(below),
                    smallest_budget: answer.needed.saturating_add(reserve),
                    ..answer
                }))
            }
        }
    }

    /// The plan that the planner finds best for every component.
    pub fn plan(&self) -> Result<Plan> {
        let prepared = self.prepare()?;
        let inputs: Vec<ComponentInput> =
            prepared.iter().map(|p| p.input.at(self.unit).into_owned()).collect();
        let plans = match &self.host {
            Some(host) => tiers::plan_all(&inputs, self.granularity, host)?,
            None => {
                inputs.iter().map(|input| input.plan(self.granularity)).collect::<Result<_>>()?
            }
        };
        let plans = plans.into_iter().zip(&inputs);
        let plans: Result<Vec<ComponentPlan>> =
            plans.map(|(plan, input)| input.with_margins(plan, self.granularity)).collect();
        self.assemble(plans?)
    }

    /// Puts components' plans together, with the digests of what they were made from.
    pub fn assemble(&self, components: Vec<ComponentPlan>) -> Result<Plan> {
        let reserve = self.workload.reserve.total();
        Ok(Plan {
            format: PLAN_FORMAT.to_owned(),
            model: self.manifest.model.clone(),
            digests: Digests {
                manifest: digest(&self.manifest.to_yaml()?),
                device: digest(&self.device.to_yaml()?),
                workload: digest(&self.workload.to_yaml()?),
            },
            granularity: self.granularity,
            budget: Budget {
                vram: self.vram,
                reserve,
                weights: self.vram.saturating_sub(reserve),
                host: self.host.map(|host| host.bytes),
            },
            components,
            device: self.device.clone(),
        })
    }
}

/// Times are 64-bit nanoseconds; a run of years is a wrong unit somewhere.
fn check_magnitude(name: &str, pass: Nanos, passes: u32) -> Result<()> {
    let longest = u64::MAX >> 8;
    if pass.get().checked_mul(u64::from(passes)).is_none_or(|run| run > longest) {
        let years = longest / (365 * 24 * 3_600 * 1_000_000_000);
        let pass = pass.human();
        return Err(Error::usage(format!(
            "{name}: {passes} passes of {pass} are more than {years} years; check the workload's \
             times and the device's rates"
        )));
    }
    Ok(())
}
