//! Stories of the planner: corners of what can be asked, closed forms, and room against jitter.

#![expect(clippy::expect_used, reason = "a test that cannot go on has failed")]

use vramplan::backend::sim::Sim;
use vramplan::backend::{Backend, Discard};
use vramplan::error::Error;
use vramplan::plan::{
    Binding, BlockPart, Choice, ComponentInput, Evict, Granularity, Instance, Plan, Residency,
    Stream, Unit, UseRef, plan_instance,
};
use vramplan::program::{check, lower};
use vramplan::units::{Bytes, Fraction, Nanos};

const BOTH: [Granularity; 2] = [Granularity::Block, Granularity::Tensor];

/// Makes every block a matrix of rows of so many bytes.
fn with_rows(mut instance: Instance, row: u64) -> Instance {
    for used in &mut instance.uses {
        used.parts = vec![BlockPart::rows("w", used.bytes, Bytes::new(row))];
    }
    instance
}

fn input(instance: Instance) -> ComponentInput {
    ComponentInput {
        name: "model".into(),
        root: Bytes::ZERO,
        root_parts: Vec::new(),
        instance,
        unit: Unit::Block,
        host: None,
        skips: Vec::new(),
        passes: 20,
        reserve: Bytes::ZERO,
    }
}

/// Plans at both granularities and proves the plans safe.
fn passes(instance: &Instance) -> [u64; 2] {
    BOTH.map(|granularity| {
        let plan = plan_instance(instance, granularity).expect("a plan");
        assert!(plan.prediction.pass >= plan.bound.any_schedule, "below the bound");
        assert!(plan.slab.bytes <= instance.budget, "beyond the budget");
        let slab = plan.slab.bytes;
        let file = Plan { components: vec![plan], ..empty(instance, slab) };
        check::check(&lower(&file).expect("a program")).expect("safe");
        file.components[0].prediction.pass.get()
    })
}

fn empty(instance: &Instance, weights: Bytes) -> Plan {
    Plan {
        format: vramplan::plan::PLAN_FORMAT.into(),
        model: "m".into(),
        digests: vramplan::plan::Digests {
            manifest: String::new(),
            device: String::new(),
            workload: String::new(),
        },
        granularity: Granularity::Tensor,
        generations: 1,
        pipeline: None,
        rank: None,
        budget: vramplan::plan::Budget { vram: weights, reserve: Bytes::ZERO, weights, host: None },
        components: Vec::new(),
        device: instance.device.clone(),
    }
}

#[test]
fn one_block_alone_fits_or_does_not() {
    assert_eq!(passes(&Instance::equal(1, 100, 7, 100)), [7, 7]);
    let small = Instance::equal(1, 100, 7, 99);
    for granularity in BOTH {
        let refused = plan_instance(&small, granularity);
        let Err(Error::Infeasible(answer)) = refused else { panic!("{refused:?}") };
        assert_eq!((answer.needed.get(), answer.shortfall.get()), (100, 1));
    }
}

#[test]
fn blocks_that_compute_nothing_are_bound_by_the_link() {
    // Room for two of four: with all compute zero the bound is n·D/(n−1), and rows reach it.
    let instance = with_rows(Instance::equal(4, 300, 0, 600), 1);
    let [whole, split] = passes(&instance);
    assert_eq!(split, 800, "4 · 600 / 3");
    assert_eq!(whole, 900, "three of four through one place");
}

#[test]
fn blocks_without_bytes_only_compute() {
    let mut instance = with_rows(Instance::equal(6, 100, 50, 300), 1);
    for n in [1, 4] {
        instance.uses[n].bytes = Bytes::ZERO;
        instance.uses[n].parts.clear();
    }
    let [whole, split] = passes(&instance);
    assert!(split <= whole && split >= 300, "{split} {whole}");
    instance.uses.iter_mut().for_each(|used| used.bytes = Bytes::ZERO);
    instance.uses.iter_mut().for_each(|used| used.parts.clear());
    assert_eq!(passes(&instance), [300, 300]);
}

#[test]
fn latency_far_above_transfer_keeps_copies_few() {
    let mut instance = with_rows(Instance::equal(8, 100, 10, 500), 1);
    instance.device.h2d.latency = Nanos::new(1_000_000);
    let plan = plan_instance(&instance, Granularity::Tensor).expect("a plan");
    let copies = plan.blocks.iter().flat_map(|block| &block.pieces);
    let copies = copies.filter(|piece| piece.residency != Residency::Resident);
    // Four of eight stay beside one place; every copy less is a millisecond less.
    assert_eq!(copies.count(), 4);
    assert_eq!(plan.margins.expect("margins").binding, Binding::Latency);
    passes(&instance);
}

#[test]
fn a_block_larger_than_the_budget_is_refused_with_the_smallest_that_works() {
    let mut instance = Instance::equal(3, 100, 10, 250);
    instance.uses[1].bytes = Bytes::new(400);
    let refused = plan_instance(&instance, Granularity::Tensor);
    let Err(Error::Infeasible(answer)) = refused else { panic!("{refused:?}") };
    assert_eq!(answer.smallest_budget.get(), 400);
}

#[test]
fn blocks_that_take_turns_beat_every_fixed_set() {
    // Eight blocks, room for six, copy 1,000, compute 50. The best fixed set copies three through one place, 3 · 1,050;
    // in turns two are missing at any time, and 8 · (2 · 1,000 + 7 · 50) / 7 is enough.
    let instance = Instance::equal(8, 1_000, 50, 6 * 1_000);
    let plan = |granularity| plan_instance(&instance, granularity).expect("a plan");
    assert_eq!(plan(Granularity::Block).prediction.pass.get(), 3_150);
    let turns = plan(Granularity::Rotating);
    assert_eq!((turns.policy.as_str(), turns.prediction.pass.get()), ("rotating", 2_686));
    // Nothing that moves whole blocks takes less than 8 · (2 · 1,000 + 50) / 7.
    assert_eq!(turns.bound.granularity.get(), 2_343);
    let text = Plan { components: vec![turns.clone()], ..empty(&instance, instance.budget) };
    let text = text.to_yaml().expect("text");
    assert_eq!(Plan::from_yaml("p", &text).expect("what we write, we read").components, [turns]);

    // Where compute hides the copies of a fixed set, it stays.
    let hidden = Instance::equal(8, 100, 500, 600);
    let plan = plan_instance(&hidden, Granularity::Rotating).expect("a plan");
    assert_eq!((plan.turns, plan.policy.as_str()), (1, "hybrid"));
}

#[test]
fn turns_that_cannot_be_are_refused_with_what_is_wrong() {
    let instance = Instance::equal(4, 100, 1, 300);
    let plan = plan_instance(&instance, Granularity::Rotating).expect("a plan");
    let turns = plan.turns;
    assert!(turns > 1);
    let good = Plan { components: vec![plan], ..empty(&instance, instance.budget) };
    let problems = |change: &dyn Fn(&mut Plan)| {
        let mut plan = good.clone();
        change(&mut plan);
        let read = Plan::from_yaml("p", &plan.to_yaml().expect("text"));
        let Err(Error::Input { problems, .. }) = read else { panic!("{read:?}") };
        problems[0].to_string()
    };
    let stream = |plan: &mut Plan, change: &dyn Fn(&mut Stream)| {
        let pieces = plan.components[0].blocks.iter_mut().flat_map(|block| &mut block.pieces);
        let mut streams = pieces.filter_map(|piece| match &mut piece.residency {
            Residency::Streamed(stream) if !stream.loads.is_empty() => Some(stream),
            _ => None,
        });
        change(streams.next().expect("one that takes turns"));
    };
    let found = [
        problems(&|plan| plan.components[0].turns = 65),
        problems(&|plan| stream(plan, &|s| drop(s.loads.insert(turns, None)))),
        problems(&|plan| stream(plan, &|s| s.evict_after = Evict::WriteBack)),
        problems(&|plan| {
            let block = "blocks.9".to_owned();
            stream(plan, &|s| {
                let after = UseRef { block: block.clone(), passes_back: 0 };
                s.loads.values_mut().for_each(|known| *known = Some(after.clone()));
            });
        }),
        problems(&|plan| {
            let pieces = plan.components[0].blocks.iter_mut().flat_map(|block| &mut block.pieces);
            let mut moving = pieces.filter(|piece| piece.at.len() > 1);
            moving.next().expect("one that moves").at.push(0);
        }),
        problems(&|plan| {
            let pieces = plan.components[0].blocks.iter_mut().flat_map(|block| &mut block.pieces);
            for piece in pieces.filter(|piece| piece.at.len() > 1) {
                if let Residency::Streamed(stream) = &mut piece.residency {
                    stream.loads.retain(|&turn, _| turn == 0);
                }
            }
        }),
    ];
    let expected = [
        "turns: found 65, expected 1 to 64",
        "expected turns below",
        "expected loads alone",
        "found \"blocks.9\", expected the id of a block",
        "one for each turn",
        "or a load in this turn",
    ];
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.contains(expected), "{found}");
    }
}

#[test]
fn the_zero_slowdown_budget_is_the_closed_form() {
    // Ten equal blocks of w = 1 GiB at 1 byte/ns, C = 5 s: nothing is lost from W − C·(n−2)/n on (theory, section 0).
    let instance = with_rows(Instance::equal(10, 1 << 30, 500_000_000, 4 << 30), 1 << 12);
    let input = input(instance);
    let plan = input.plan(Granularity::Tensor).expect("a plan");
    let plan = input.with_margins(plan, Granularity::Tensor).expect("margins");
    let margins = plan.margins.expect("margins");
    let closed = (10u64 << 30) - 5_000_000_000 * 8 / 10;
    let found = margins.zero_slowdown.expect("a budget").get();
    assert!(found.abs_diff(closed) <= 128 << 20, "{found} {closed}");
    // The bound falls by n/(n−1) nanoseconds per byte.
    let next = margins.next_gib.expect("a time").get();
    assert!(next.abs_diff((1 << 30) / 9 * 10) < 10_000_000, "{next}");
    assert_eq!(margins.binding, Binding::Copy);
}

/// The mean makespan under jitter of 10 %, in nanoseconds.
fn jittered(instance: &Instance, choice: Choice) -> u64 {
    let found = choice.evaluate(instance).expect("fits");
    let plan = input(instance.clone()).planned("given", &found).expect("a plan");
    let program =
        lower(&Plan { components: vec![plan], ..empty(instance, instance.budget) }).expect("sound");
    let runs = (0..20).map(|seed| {
        let mut counts = Discard::default();
        let sim = Sim { jitter: Fraction::from_ppm(100_000), seed, ..Sim::default() };
        sim.run(&program, &mut counts).expect("a run");
        counts.makespan.get()
    });
    runs.sum::<u64>() / 20
}

#[test]
fn at_balance_one_more_slot_is_worth_having_and_is_taken() {
    let slots = |compute: u64, slots: u64| {
        let instance = Instance::equal(20, 1_000, compute, 1_000 * slots);
        let choice = Choice::whole(&instance, &[true; 20]).expect("fits");
        jittered(&instance, choice)
    };
    let gain = |compute: u64| slots(compute, 2) as f64 / slots(compute, 3) as f64;
    assert!(gain(1_000) > 1.01, "at balance: {}", gain(1_000));
    assert!(gain(1_400) < gain(1_000), "off balance: {}", gain(1_400));

    // Of forty blocks 38 are missing, or 36 of 40 with room to choose: a third slot costs nothing just below balance.
    let window = |compute: u64| {
        let instance = Instance::equal(40, 1_000, compute, 3_000);
        plan_instance(&instance, Granularity::Block).expect("a plan").window.bytes.get()
    };
    assert_eq!((window(1_050), window(1_300)), (3_000, 2_000));
}

#[test]
fn few_passes_are_planned_by_their_makespan() {
    // Twelve blocks of which half fit. In the long run parts of all stream through a small window; a single pass
    // copies everything once, whatever stays, so what counts is how far copies may run ahead.
    let instance = with_rows(Instance::equal(12, 1_000, 900, 6_000), 10);
    let makespan = |planned: u32, run: u32| {
        let input = ComponentInput { passes: planned, ..input(instance.clone()) };
        let mut plan = input.plan(Granularity::Tensor).expect("a plan");
        plan.passes = run;
        plan.foresee(&instance.device, Bytes::ZERO).expect("times");
        plan.prediction.makespan.get()
    };
    for passes in 1..=4 {
        let (few, many) = (makespan(passes, passes), makespan(20, passes));
        assert!(few <= many, "{passes} passes: {few}, planned for many {many}");
    }
    // One pass cannot end before the last byte has come and the last block has computed.
    assert!(makespan(1, 1) <= 12 * 1_000 + 900 + 100, "{}", makespan(1, 1));
}

#[test]
fn contention_both_ways_is_predicted_to_the_nanosecond() {
    for (compute, contention, copies) in
        [(40, 0, 300_000), (100, 0, 300_000), (60, 200_000, 200_000), (300, 200_000, 50_000)]
    {
        let mut instance = Instance::equal(20, 100_000, compute * 1_000, 1_000_000);
        instance.device.contention = Fraction::from_ppm(contention);
        instance.device.copy_contention = Fraction::from_ppm(copies);
        let plan = ComponentInput { passes: 40, ..input(instance.clone()) };
        let plan = plan.plan(Granularity::Block).expect("fits");
        let whole = empty(&instance, instance.budget);
        let file = Plan { components: vec![plan.clone()], ..whole };
        let program = lower(&file).expect("sound");
        let mut seen = Discard::default();
        Sim::on(&instance.device).run(&program, &mut seen).expect("a run");
        let (told, seen) = (plan.prediction.makespan.get(), seen.makespan.get());
        assert_eq!(told, seen, "{compute}");
        let mut alone = plan.clone();
        (instance.device.contention, instance.device.copy_contention) = Default::default();
        alone.foresee(&instance.device, Bytes::ZERO).expect("a schedule");
        assert!(alone.prediction.makespan.get() < told, "{compute}: contention costs nothing");
    }
}

/// In a single pass every byte is copied once, and a plan is good that never lets the link wait: here none may take
/// longer than all copies and the last use. (With 15 bytes less than this the planner once took 13 % more.)
#[test]
fn a_single_pass_is_planned_for_itself() {
    let mut instance = Instance::equal(6, 1, 1, 0);
    let uses = [(1_282, 373), (961, 135), (157, 124), (1_441, 823), (433, 644), (1_283, 100)];
    for (used, (bytes, compute)) in instance.uses.iter_mut().zip(uses) {
        (used.bytes, used.compute) = (Bytes::new(bytes), Nanos::new(compute));
    }
    instance.device.alignment = 16;
    let all: u64 = uses.iter().map(|(bytes, _)| bytes).sum();
    for budget in [4_319, 4_320, 4_335, 4_600, 5_000] {
        instance.budget = Bytes::new(budget);
        let plan = ComponentInput { passes: 1, ..input(instance.clone()) };
        let plan = plan.plan(Granularity::Block).expect("fits");
        assert_eq!(plan.prediction.makespan.get(), all + 100, "{budget}");
    }
}
