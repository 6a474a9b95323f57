//! Turns a manifest, a workload, a device and a budget into a plan: the entry point of planning.

use std::collections::BTreeMap;

use super::instance::{Instance, parts_of};
use super::layout::ComponentInput;
use super::pipeline::{Hold, Member, Pipeline, Planned};
use super::spec::{Budget, ComponentPlan, Digests, Granularity, PLAN_FORMAT, Plan};
use super::tiers::HostBudget;
use super::unit::Unit;
use crate::device::DeviceSpec;
use crate::digest::digest;
use crate::error::{Error, Infeasible, Result};
use crate::model::{Component, Manifest};
use crate::shard::{Rank, RankOf};
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
    /// How components are to be held, by name; as the planner finds best where nothing is said.
    pub holds: BTreeMap<String, Hold>,
    /// How often the components are used in turn.
    pub generations: u32,
    /// Which of several ranks the model, workload and device are of, and what each use costs it; none for one device
    /// by itself.
    pub rank: Option<RankCosts>,
}

/// A rank of several, beside its model, workload and device.
#[derive(Debug, Clone)]
pub struct RankCosts {
    /// What a plan says of it.
    pub of: RankOf,
    /// By component, in the order of the request.
    pub costs: Vec<ComponentCosts>,
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
    /// The same request for a rank.
    pub fn of_rank(&self, rank: Rank) -> Self {
        let Rank { manifest, workload, device, costs, of } = rank;
        Self {
            manifest,
            workload,
            device,
            rank: Some(RankCosts { of, costs }),
            components: self.components.clone(),
            holds: self.holds.clone(),
            ..*self
        }
    }

    /// Whether components are planned as one, with their own reserves and holds.
    pub fn is_pipeline(&self) -> bool {
        self.components.len() > 1 || !self.holds.is_empty() || self.generations > 1
    }

    /// What a host budget cannot be planned beside yet is refused, not left out.
    fn check_host(&self) -> Result<()> {
        let beside = match self.host {
            None => return Ok(()),
            Some(_) if self.granularity == Granularity::Rotating => "rotating granularity",
            Some(_) if self.rank.is_some() => "several ranks, which share the host",
            Some(_) => return Ok(()),
        };
        Err(Error::Usage {
            message: format!("found a host budget beside {beside}: these are not planned together"),
            hint: Some("leave out --host and --disk, or what stands beside them".into()),
        })
    }

    /// VRAM that is not for weights while a component is in use.
    fn reserve_of(&self, component: &Component) -> Result<Bytes> {
        match self.is_pipeline() {
            true => Ok(self.workload.reserve_of(&self.manifest, component)?.total()),
            false => Ok(self.workload.reserve.total()),
        }
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
        self.check_host()?;
        self.check_passes()?;
        let main = self.manifest.main_component().map(|main| main.name.as_str());
        let mut prepared = Vec::with_capacity(self.components.len());
        let mut worst: Option<Infeasible> = None;
        for (n, name) in self.components.iter().enumerate() {
            let component = self.component(name)?;
            let reserve = self.reserve_of(component)?;
            let weights = self.vram.saturating_sub(reserve);
            let below = reserve.saturating_sub(self.vram);
            let costs = match self.rank.as_ref().and_then(|rank| rank.costs.get(n)) {
                Some(costs) => costs.clone(),
                None => workload::costs(&self.manifest, component, &self.workload, &self.device)?,
            };
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
                reserve,
                host: self.host,
                skips: self.workload.skips_of(&self.manifest, component)?,
            };
            // What at least one unit needs beside a root that stays; what leaf units need is not less than the
            // root, of which they are part.
            let root = component.root.bytes().align_up(self.device.alignment);
            let needed = input.at(self.unit).smallest().max(root);
            if needed > weights || !below.is_zero() {
                let answer = input.infeasible(needed, weights);
                let shortfall = answer.shortfall.saturating_add(below);
                let answer = Infeasible { shortfall, ..answer };
                if worst.as_ref().is_none_or(|worst| worst.smallest_budget < answer.smallest_budget)
                {
                    worst = Some(answer);
                }
            }
            let total = component.total_bytes(&self.manifest);
            prepared.push(Prepared { input, costs, total });
        }
        match worst {
            None => Ok(prepared),
            Some(answer) => Err(Error::Infeasible(answer)),
        }
    }

    /// The plan that the planner finds best: for a component alone, or for all of them together.
    pub fn plan(&self) -> Result<Plan> {
        if self.is_pipeline() {
            let planned = self.pipeline()?.plan_with_margins()?;
            return self.assemble_pipeline(planned);
        }
        let prepared = self.prepare()?;
        let inputs: Vec<ComponentInput> =
            prepared.iter().map(|p| p.input.at(self.unit).into_owned()).collect();
        let plan = |input: &ComponentInput| {
            input.with_margins(input.plan(self.granularity)?, self.granularity)
        };
        self.assemble(inputs.iter().map(plan).collect::<Result<_>>()?)
    }

    /// The components as a pipeline.
    pub fn pipeline(&self) -> Result<Pipeline> {
        let known: Vec<&String> = self.components.iter().collect();
        if let Some(name) = self.holds.keys().find(|name| !known.contains(name)) {
            return Err(Error::usage(format!("{name:?} is to be held, but not planned")));
        }
        let member = |prepared: Prepared| {
            let hold = self.holds.get(&prepared.input.name).copied().unwrap_or_default();
            Member { input: prepared.input, hold }
        };
        Ok(Pipeline {
            members: self.prepare()?.into_iter().map(member).collect(),
            vram: self.vram,
            generations: self.generations,
            granularity: self.granularity,
            unit: self.unit,
            host: self.host,
        })
    }

    /// The plan file of a planned pipeline.
    pub fn assemble_pipeline(&self, planned: Planned) -> Result<Plan> {
        let plan = self.assemble(planned.components)?;
        Ok(Plan { generations: self.generations, pipeline: Some(planned.together), ..plan })
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
            rank: self.rank.as_ref().map(|rank| rank.of.clone()),
            generations: 1,
            pipeline: None,
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
