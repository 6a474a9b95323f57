//! Operations per second of the simulator, and that its time is linear in the passes.

#![expect(clippy::expect_used, reason = "a benchmark that cannot go on has failed")]

use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use vramplan::backend::sim::Sim;
use vramplan::backend::{Backend, Discard};
use vramplan::plan::{Granularity, Plan, Request, Unit};
use vramplan::program::{Program, lower};
use vramplan::units::Bytes;
use vramplan::{device, model, workload};

fn main() {
    divan::main();
}

fn request(model: &str, device: &str, gib: u64) -> Request {
    let manifest = model::builtin::load(model).expect("a model").expect("sound");
    let workload = workload::builtin::load(model).expect("a workload").expect("sound");
    let main = manifest.main_component().expect("a component").name.clone();
    Request {
        components: vec![main],
        workload,
        device: device::builtin::load(device).expect("a device").expect("sound"),
        vram: Bytes::new(gib << 30),
        granularity: Granularity::Tensor,
        unit: Unit::Block,
        host: None,
        holds: Default::default(),
        generations: 1,
        rank: None,
        manifest,
    }
}

fn flux(passes: u32) -> (Plan, Program) {
    let mut plan = request("flux1-dev", "rtx-4090", 12).plan().expect("a plan");
    plan.components[0].passes = passes;
    let program = lower(&plan).expect("a program");
    (plan, program)
}

/// Operations per second over so many passes of FLUX.1-dev; the rate must not fall with the passes.
#[divan::bench(args = [100, 1_000, 10_000])]
fn simulate(bencher: Bencher, passes: u32) {
    let (_, program) = flux(passes);
    let mut counts = Discard::default();
    Sim::default().run(&program, &mut counts).expect("a run");
    bencher.counter(ItemsCount::new(counts.operations)).bench(|| {
        let mut counts = Discard::default();
        Sim::default().run(black_box(&program), &mut counts).expect("a run");
        counts
    });
}

/// One plan, from manifest to prediction.
#[divan::bench(args = ["flux1-dev", "wan2.2-t2v-a14b", "llama-3-8b"])]
fn plan(bencher: Bencher, model: &str) {
    let gib = if model == "wan2.2-t2v-a14b" { 24 } else { 12 };
    let request = request(model, "rtx-4090", gib);
    bencher.bench(|| black_box(&request).plan().expect("a plan"));
}

/// The proof that a program is safe.
#[divan::bench]
fn check(bencher: Bencher) {
    let (_, program) = flux(28);
    bencher.bench(|| vramplan::program::check::check(black_box(&program)).expect("safe"));
}
