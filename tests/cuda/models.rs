//! A small model of real shapes, and plans of it.

#![allow(dead_code, reason = "tests and benchmark use a part each")]

use vramplan::device::{DeviceSpec, Link};
use vramplan::model::Manifest;
use vramplan::plan::{
    ComponentInput, Granularity, HostBudget, HostMemory, Plan, Policy, Request, Residency, Unit,
    bound,
};
use vramplan::program::image::{ComponentImage, images};
use vramplan::program::{self, Program};
use vramplan::units::{Bytes, Nanos, Rate};
use vramplan::workload::{Passes, Workload};

/// Two lists of blocks with matrices, biases and odd sizes, and a root.
const MANIFEST: &str = "
format: vramplan/manifest/1
model: small
kinds:
  double:
    tensors:
      - [attn.to_q.weight, bf16, [192, 192]]
      - [attn.to_q.bias, bf16, [192]]
      - [attn.scale, f32, [3]]
      - [ff.up.weight, bf16, [768, 192]]
      - [ff.down.weight, bf16, [192, 768]]
      - [mask, u8, [37]]
  single:
    tensors:
      - [proj_in.weight, bf16, [960, 192]]
      - [norm.weight, bf16, [191]]
      - [proj_out.weight, bf16, [192, 960]]
components:
  - name: transformer
    root: {tensors: [[x_embedder.weight, bf16, [192, 64]], [x_embedder.bias, bf16, [192]]]}
    blocks:
      - {list: double_blocks, kind: double, count: 5}
      - {list: single_blocks, kind: single, count: 7}
";

/// Its workload, as a file.
pub const WORKLOAD: &str = "
format: vramplan/workload/1
passes: 5
tokens: {image: 64}
reserve: {context: 1MiB, activations: 64MiB, workspace: 0}
compute:
  transformer.double_blocks.*: 40us
  transformer.single_blocks.*: 25us
";

pub fn manifest() -> Manifest {
    Manifest::from_yaml("small", MANIFEST).expect("a manifest")
}

/// The stand-in as a device spec; slow enough a link that copies matter.
pub fn device() -> DeviceSpec {
    let mut device = DeviceSpec::reference();
    device.name = "vramplan stand-in (no GPU)".into();
    device.vram = Bytes::new(1 << 30);
    device.alignment = 256;
    let rate = |link: &mut Link, rate, latency| {
        (link.rate, link.latency) = (Rate::new(rate), Nanos::new(latency));
    };
    rate(&mut device.h2d, 25_000_000_000, 10_000);
    rate(&mut device.d2h, 24_000_000_000, 11_000);
    let pageable = device.pageable.as_mut().expect("a rate");
    rate(pageable, 6_000_000_000, 30_000);
    device
}

/// A request for the model under a budget for weights, in percent of all of them.
pub fn request(percent: u64) -> Request {
    request_for(manifest(), percent)
}

fn request_for(manifest: Manifest, percent: u64) -> Request {
    let workload = Workload::from_yaml("small", WORKLOAD).expect("a workload");
    let all = manifest.components[0].total_bytes(&manifest).get();
    let weights = Bytes::new(all * percent / 100 + (8 << 10));
    Request {
        components: vec!["transformer".into()],
        vram: weights.saturating_add(workload.reserve.total()),
        workload,
        device: device(),
        granularity: Granularity::Tensor,
        unit: Unit::Block,
        host: None,
        holds: Default::default(),
        generations: 1,
        rank: None,
        manifest,
    }
}

/// Our plan.
pub fn plan(percent: u64) -> Plan {
    request(percent).plan().expect("a plan")
}

/// A second denoiser that takes over, and again: two generations of both.
pub fn pipeline(percent: u64) -> Plan {
    let request = request_for(both(), percent);
    let components = vec!["transformer".into(), "transformer_2".into()];
    Request { components, generations: 2, ..request }.plan().expect("a plan")
}

/// The model with its second denoiser.
pub fn both() -> Manifest {
    let second = MANIFEST.to_owned()
        + "  - name: transformer_2
    root: {tensors: [[x_embedder.weight, bf16, [192, 64]]]}
    blocks:
      - {list: single_blocks, kind: single, count: 6}
";
    Manifest::from_yaml("small", &second).expect("a manifest")
}

/// Two denoisers of so many passes each, the second after the first, so many times, under a budget in percent of the
/// first one's weights.
pub fn boundary(percent: u64, passes: (u32, u32), generations: u32) -> Plan {
    boundary_request(percent, passes, generations).plan().expect("a plan")
}

/// A request for it.
pub fn boundary_request(percent: u64, passes: (u32, u32), generations: u32) -> Request {
    let mut request = request_for(both(), percent);
    request.components = vec!["transformer".into(), "transformer_2".into()];
    let passes = [("transformer", passes.0), ("transformer_2", passes.1)];
    let passes = passes.map(|(name, passes)| (name.to_owned(), passes));
    request.workload.passes = Passes::ByComponent(passes.into());
    let used = Nanos::new(25_000);
    request.workload.compute.insert("transformer_2.single_blocks.*".into(), used);
    Request { generations, ..request }
}

/// A plan whose pieces come from disk where so many percent of the weights do not fit the host.
pub fn plan_on_host(percent: u64, host: u64) -> Plan {
    let mut request = request(percent);
    on_host(&mut request, host);
    request.plan().expect("a plan")
}

/// The model may take so many percent of its weights of host memory.
pub fn on_host(request: &mut Request, percent: u64) {
    let all: u64 =
        request.manifest.components.iter().map(|c| c.total_bytes(&request.manifest).get()).sum();
    let bytes = Bytes::new(all * percent / 100);
    request.device.disk = Some(disk());
    request.host = Some(HostBudget { bytes, lockable: bytes });
}

fn disk() -> Link {
    Link { rate: Rate::new(3_000_000_000), latency: Nanos::new(80_000), points: vec![] }
}

/// Our plan, with every second streamed piece read from disk for each use.
pub fn plan_from_disk(percent: u64) -> Plan {
    let mut plan = plan(percent);
    onto_disk(&mut plan);
    plan
}

/// Every second streamed piece is read from disk for each use.
pub fn onto_disk(plan: &mut Plan) {
    onto_disk_from(plan, 0);
}

/// The same for this component and those after it.
pub fn onto_disk_from(plan: &mut Plan, component: usize) {
    plan.device.disk = Some(disk());
    let blocks =
        plan.components[component..].iter_mut().flat_map(|component| &mut component.blocks);
    let pieces = blocks.flat_map(|block| &mut block.pieces);
    let streamed = pieces.filter_map(|piece| match &mut piece.residency {
        Residency::Streamed(stream) => Some(stream),
        Residency::Resident => None,
    });
    for stream in streamed.step_by(2) {
        stream.from = HostMemory::Disk;
    }
}

/// Every policy at its best setting under a budget, by its name; those that fit.
pub fn policies(percent: u64) -> Vec<(String, Plan)> {
    let request = request(percent);
    let inputs: Vec<ComponentInput> =
        request.prepare().expect("it fits").into_iter().map(|prepared| prepared.input).collect();
    let bounds = bound::bound(&inputs[0].instance);
    let each = |policy: Policy| {
        let explored = policy.explore(&inputs[0]).expect("settings");
        let setting = explored.best(&inputs[0], &bounds).expect("a search")?;
        let plan = request.assemble(vec![setting.plan]).expect("a plan");
        Some((policy.spec().name.to_owned(), plan))
    };
    Policy::all().into_iter().filter_map(each).collect()
}

/// The program of a plan and the images of its blocks.
pub fn lowered(plan: &Plan) -> (Program, Vec<ComponentImage>) {
    let program = program::lower(plan).expect("a program");
    assert!(program::check::check(&program).is_ok(), "a safe program");
    let manifest = if plan.components.len() > 1 { both() } else { manifest() };
    let images = images(plan, Some(&manifest)).expect("its tensors");
    (program, images)
}

/// The same blocks, 250 of them: about 500 operations per pass.
pub fn wide(percent: u64) -> Request {
    let text = MANIFEST.replace("count: 5", "count: 110").replace("count: 7", "count: 140");
    let mut request = request_for(Manifest::from_yaml("wide", &text).expect("a manifest"), percent);
    request.workload.passes = Passes::Main(20);
    request
}

/// [`lowered`], for any manifest.
pub fn lowered_for(plan: &Plan, manifest: &Manifest) -> (Program, Vec<ComponentImage>) {
    let program = program::lower(plan).expect("a program");
    let images = images(plan, Some(manifest)).expect("its tensors");
    (program, images)
}
