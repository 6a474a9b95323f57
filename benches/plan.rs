//! How long planning takes: whole plans of a thousand and of a hundred thousand blocks, one evaluation, one bound.

#![expect(clippy::expect_used, reason = "a benchmark that cannot go on has failed")]

use divan::{Bencher, black_box};
use vramplan::plan::{BlockPart, Choice, Evaluated, Granularity, Instance, bound, plan_instance};
use vramplan::units::{Bytes, Nanos};

fn main() {
    divan::main();
}

/// Blocks of two sizes in turn, six matrices each, half of them fitting, copies and compute near balance.
fn blocks(count: u64) -> Instance {
    let mut instance = Instance::equal(count, 0, 0, 0);
    instance.device.h2d.latency = Nanos::new(15_000);
    instance.device.alignment = 256;
    for (n, used) in instance.uses.iter_mut().enumerate() {
        let matrix = if n % 3 == 0 { 12_000_000 } else { 5_000_000 };
        let part = |k| BlockPart::rows(format!("w{k}"), Bytes::new(matrix), Bytes::new(10_000));
        used.parts = (0..6).map(part).collect();
        used.bytes = Bytes::new(6 * matrix);
        used.compute = Nanos::new(4 * matrix);
    }
    let total: u64 = instance.uses.iter().map(|used| used.bytes.get()).sum();
    instance.budget = Bytes::new(total / 2);
    instance
}

/// From instance to plan, prediction and bound.
#[divan::bench(args = [57, 1_000, 100_000], sample_count = 3, sample_size = 1)]
fn tensors(bencher: Bencher, count: u64) {
    let instance = blocks(count);
    bencher.bench(|| plan_instance(black_box(&instance), Granularity::Tensor).expect("a plan"));
}

/// The same in whole blocks.
#[divan::bench(args = [57, 1_000, 100_000], sample_count = 3, sample_size = 1)]
fn whole_blocks(bencher: Bencher, count: u64) {
    let instance = blocks(count);
    bencher.bench(|| plan_instance(black_box(&instance), Granularity::Block).expect("a plan"));
}

/// One candidate: places, waits and exact pass time; every second block streams whole.
#[divan::bench(args = [57, 1_000, 10_000])]
fn evaluation(bencher: Bencher, count: usize) {
    let instance = blocks(count as u64);
    let streams: Vec<bool> = (0..count).map(|n| n % 5 != 0).collect();
    let choice = Choice::whole(&instance, &streams).expect("residents fit");
    let evaluate = |choice: Choice| -> Evaluated { choice.evaluate(&instance).expect("fits") };
    bencher.with_inputs(|| choice.clone()).bench_values(evaluate);
}

/// What no schedule can beat.
#[divan::bench(args = [57, 1_000, 100_000])]
fn bounds(bencher: Bencher, count: u64) {
    let instance = blocks(count);
    bencher.bench(|| bound::bound(black_box(&instance)));
}
