//! Turns a built-in model, a device and a policy into simulated times and the VRAM that its weights take.

use vramplan::backend::sim::Sim;
use vramplan::backend::{Backend, Recorder};
use vramplan::device::{self, DeviceSpec};
use vramplan::lane::Lane;
use vramplan::model::{self, Manifest};
use vramplan::plan::{
    ComponentInput, ComponentPlan, Granularity, Policy, ROOT, Request, Unit, bound,
};
use vramplan::profile::{Span, VramSample};
use vramplan::program::{Phase, Program, check};
use vramplan::units::{Bytes, Nanos, Rate};
use vramplan::workload::{self, Passes, Workload};

/// A model, what is computed with it, and on what.
#[derive(Clone)]
pub struct Case {
    pub manifest: Manifest,
    pub workload: Workload,
    pub device: DeviceSpec,
}

pub fn case(model: &str, device: &str) -> Case {
    let manifest = model::builtin::load(model).expect("built in").expect("sound");
    let workload = workload::for_model(&manifest).expect("a workload");
    let device = device::builtin::load(device).expect("built in").expect("sound");
    Case { manifest, workload, device }
}

impl Case {
    /// The names of all components, in order of use.
    pub fn components(&self) -> Vec<String> {
        let order = ["text_encoder", "text_encoder_2", "transformer", "transformer_2", "vae"];
        let known = order.iter().filter(|name| self.manifest.component(name).is_some());
        known.map(|&name| name.to_owned()).collect()
    }

    /// Weights of all components.
    pub fn weights(&self) -> Bytes {
        let components = self.manifest.components.iter();
        components.map(|component| component.total_bytes(&self.manifest)).sum()
    }

    /// VRAM that is not for weights while a component is in use: estimated.
    pub fn reserve(&self, component: &str) -> Bytes {
        let component = self.manifest.component(component).expect("known");
        self.workload.reserve_of(&self.manifest, component).expect("sound").total()
    }

    pub fn passes(mut self, passes: u32) -> Self {
        self.workload.passes = Passes::Main(passes);
        self
    }

    /// The time of one use of each block of these; overrides the estimate.
    pub fn compute(mut self, blocks: &str, each: Nanos) -> Self {
        self.workload.compute.insert(blocks.to_owned(), each);
        self
    }

    /// A component with room for all of it.
    pub fn input(&self, component: &str) -> ComponentInput {
        let request = Request {
            manifest: self.manifest.clone(),
            components: vec![component.to_owned()],
            workload: self.workload.clone(),
            device: self.device.clone(),
            vram: Bytes::new(1 << 40),
            granularity: Granularity::Tensor,
            unit: Unit::Block,
            host: None,
            holds: Default::default(),
            generations: 1,
            rank: None,
        };
        request.prepare().expect("there is room").remove(0).input
    }
}

/// The same component with leaf modules in place of blocks, for policies of blocks: those of the root too.
pub fn leaves(input: &ComponentInput) -> ComponentInput {
    let mut leaves = input.at(Unit::Leaf).into_owned();
    leaves.unit = Unit::Block;
    for used in &mut leaves.instance.uses {
        // What is called the root would stay.
        if used.block == ROOT {
            used.block = "outside.first".to_owned();
        }
    }
    leaves.instance.uses.retain(|used| !used.bytes.is_zero());
    leaves
}

/// The plan of a policy at a given setting.
pub fn plan(policy: &str, input: &ComponentInput) -> ComponentPlan {
    let bounds = bound::bound(&input.instance);
    let explored = Policy::parse(policy).expect("a policy").explore(input).expect("a setting");
    explored.best(input, &bounds).expect("a plan").expect("there is room").plan
}

/// What the simulator says of a plan.
pub struct Run {
    pub makespan: Nanos,
    /// From the end of the first pass to that of the last, by pass; all of it where there is only one.
    pub pass: f64,
    /// From the start to the end of the first pass.
    pub first_pass: Nanos,
}

impl Run {
    pub fn seconds(&self) -> f64 {
        seconds(self.makespan)
    }
}

#[derive(Default)]
struct Ends {
    ends: Vec<Nanos>,
    last: Nanos,
}

impl Recorder for Ends {
    fn span(&mut self, span: &Span) {
        self.last = self.last.max(span.end);
        if span.lane == Lane::Compute {
            let pass = span.pass as usize;
            self.ends.resize(self.ends.len().max(pass + 1), Nanos::ZERO);
            self.ends[pass] = self.ends[pass].max(span.end);
        }
    }

    fn vram(&mut self, _: VramSample) {}
}

/// Runs a plan, proved safe, in the simulator.
pub fn simulate(plan: &ComponentPlan, device: &DeviceSpec) -> Run {
    let phase = Phase::of(plan, device).expect("a phase");
    let program = Program { slab: plan.slab.bytes, phases: vec![phase] };
    check::check(&program).expect("a safe program");
    let mut ends = Ends::default();
    Sim::default().run(&program, &mut ends).expect("a run to the end");
    let (first, last) = (ends.ends[0], *ends.ends.last().expect("a pass"));
    let pass = match ends.ends.len() {
        1 => seconds(ends.last),
        passes => (seconds(last) - seconds(first)) / (passes - 1) as f64,
    };
    Run { makespan: ends.last, pass, first_pass: first }
}

/// A policy's run.
pub fn run(policy: &str, input: &ComponentInput) -> Run {
    simulate(&plan(policy, input), &input.instance.device)
}

/// Compute of all passes, in seconds: what a run takes whose weights are there already.
pub fn compute(input: &ComponentInput) -> f64 {
    f64::from(input.passes) * plan("resident", input).prediction.pass.get() as f64 / 1e9
}

/// A device on which copies between ordinary memory and VRAM sustain this rate, either way.
pub fn with_pageable(device: &DeviceSpec, rate: Rate) -> DeviceSpec {
    let mut device = device.clone();
    device.pageable.as_mut().expect("a rate").rate = rate;
    device
}

/// What it takes to bring a whole component in from ordinary memory, and later back: simulated as one group of all of
/// its blocks, loaded and written back with nothing overlapped. Its own compute is left out.
pub fn swap(input: &ComponentInput) -> f64 {
    let whole = ComponentInput { passes: 1, ..input.clone() };
    let group = format!("diffusers-block:g={}", input.instance.uses.len());
    run(&group, &whole).seconds() - compute(&whole)
}

pub fn seconds(time: Nanos) -> f64 {
    time.get() as f64 / 1e9
}

pub fn gib(bytes: Bytes) -> f64 {
    bytes.get() as f64 / (1u64 << 30) as f64
}

pub fn gigabytes(bytes: Bytes) -> f64 {
    bytes.get() as f64 / 1e9
}

/// The first so many blocks stay, as if they lay outside the lists.
pub fn first_stay(count: usize, input: &ComponentInput) -> ComponentInput {
    let mut input = input.clone();
    let blocks = input.instance.uses.iter_mut().filter(|used| !used.bytes.is_zero());
    for used in blocks.take(count) {
        input.root = input.root.saturating_add(used.bytes);
        (used.bytes, used.parts) = (Bytes::ZERO, Vec::new());
    }
    input
}

/// A rate in GB/s.
pub fn rate(gigabytes_per_second: f64) -> Rate {
    format!("{:.0}B/s", gigabytes_per_second * 1e9).parse().expect("a rate")
}

/// A time in seconds, to the nanosecond.
pub fn nanos(seconds: f64) -> Nanos {
    format!("{:.0}ns", seconds * 1e9).parse().expect("a time")
}
