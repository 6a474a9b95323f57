//! Invariants of runs whose passes leave blocks out, over random instances and random subsets: every block that runs
//! finds its bytes, prediction equals simulation, leaving out never makes a run longer, the bound is never beaten.

#![expect(clippy::expect_used, reason = "a test that cannot go on has failed")]

mod observed;

use observed::run;
use proptest::prelude::*;
use vramplan::backend::sim::Sim;
use vramplan::figures::PassRange;
use vramplan::lane::Lane;
use vramplan::plan::{
    BlockPart, ComponentInput, ComponentPlan, Granularity, Instance, POLICIES, Policy, Unit,
};
use vramplan::profile::Span;
use vramplan::program::{Phase, Program, check};
use vramplan::units::{Bytes, Fraction, Nanos};
use vramplan::workload::{Copies, Skip};

fn program(plan: &ComponentPlan, input: &ComponentInput) -> Program {
    let phase = Phase::of(plan, &input.instance.device).expect("a phase");
    Program { slab: plan.slab.bytes, phases: vec![phase] }
}

fn skip() -> impl Strategy<Value = Skip> {
    let passes = (0u32..8, 0u32..8, 1u32..4);
    let copies = prop_oneof![Just(Copies::Cancelled), Just(Copies::Kept)];
    (prop::collection::vec(0usize..9, 1..6), passes, copies).prop_map(|(blocks, passes, copies)| {
        let (first, more, every) = passes;
        let blocks = blocks.into_iter().map(|n| format!("b.{n}")).collect();
        Skip { blocks, passes: vec![PassRange { first, last: first + more, every }], copies }
    })
}

/// Blocks of equal or unequal size, some cut into tensors, and blocks that passes leave out, all copies treated alike.
fn inputs() -> impl Strategy<Value = ComponentInput> {
    let uses = prop::collection::vec((1u64..1_000, 1u64..2_000, 1u64..5), 2..9);
    let skips = prop::collection::vec(skip(), 1..4);
    (uses, 0u64..900, 2u32..12, 0u64..300, skips).prop_map(
        |(uses, tightness, passes, root, mut skips)| {
            let mut instance = Instance::equal(uses.len() as u64, 1, 1, 0);
            instance.device.alignment = 16;
            instance.device.h2d.latency = Nanos::new(5);
            let names = |n: usize| format!("b.{n}");
            for (n, (slot, (bytes, compute, cuts))) in
                instance.uses.iter_mut().zip(&uses).enumerate()
            {
                slot.block = names(n);
                (slot.bytes, slot.compute) = (Bytes::new(*bytes), Nanos::new(*compute));
                let part = |n: u64| {
                    let bytes = Bytes::new(bytes * (n + 1) / cuts - bytes * n / cuts);
                    BlockPart::rows(format!("t{n}"), bytes, Bytes::new(1))
                };
                slot.parts = (0..*cuts).map(part).collect();
            }
            let aligned = (0..uses.len()).map(|n| instance.aligned(n).get());
            let (least, all) = aligned.fold((0, 0), |(max, sum), size| (size.max(max), sum + size));
            instance.budget = Bytes::new(least + (all - least) * tightness / 1_000);
            let copies = skips[0].copies;
            for skip in &mut skips {
                skip.blocks.retain(|name| (0..uses.len()).any(|n| names(n) == *name));
                skip.copies = copies;
            }
            skips.retain(|skip| !skip.blocks.is_empty());
            ComponentInput {
                name: "model".into(),
                root: Bytes::new(root),
                root_parts: Vec::new(),
                instance,
                unit: Unit::Block,
                passes,
                reserve: Bytes::new(7),
                host: None,
                skips,
            }
        },
    )
}

/// What a plan leaves out, read from its text alone.
fn is_left_out(plan: &ComponentPlan, block: usize, pass: u32) -> Option<Copies> {
    let name = &plan.blocks[block].block;
    let mut skips = plan.skips.iter();
    let found = skips.find(|skip| {
        skip.blocks.contains(name) && skip.passes.iter().any(|range| range.contains(pass))
    });
    found.map(|skip| skip.copies)
}

/// Holds every use that runs against a map of the slab that only copies of this run have written.
fn assert_bytes_are_there(plan: &ComponentPlan, phase: &Phase, spans: &[Span]) {
    let copies: Vec<&Span> =
        spans.iter().filter(|s| s.lane == Lane::H2d && !s.bytes.is_zero()).collect();
    let range =
        |span: &Span, piece: usize| phase.places[span.block as usize][piece].range(span.pass);
    for used in spans.iter().filter(|span| span.lane == Lane::Compute) {
        let block = used.block as usize;
        if is_left_out(plan, block, used.pass).is_some() {
            assert_eq!(used.start, used.end, "a use that is left out takes no time");
            continue;
        }
        assert_eq!(used.end.saturating_sub(used.start), plan.blocks[block].compute);
        for (piece, place) in phase.places[block].iter().enumerate() {
            if place.bytes.is_zero() {
                continue;
            }
            let (from, to) = place.range(used.pass);
            let pass = place.copied_in(used.pass);
            let own = |copy: &&&Span| {
                (copy.block as usize, copy.piece.map(|p| p as usize), copy.pass)
                    == (block, Some(piece), pass)
            };
            let arrived = copies.iter().find(own).expect("copied for a use that runs");
            assert!(arrived.end <= used.start, "a use before its bytes");
            let over = copies.iter().filter(|copy| {
                let (at, end) = range(copy, copy.piece.expect("a piece") as usize);
                at < to && from < end && copy.start >= arrived.end && copy.start < used.end
            });
            assert_eq!(over.count(), 0, "bytes that a use needs are overwritten");
        }
    }
}

fn bytes_of(spans: &[Span]) -> u64 {
    spans.iter().filter(|span| span.lane == Lane::H2d).map(|span| span.bytes.get()).sum()
}

fn without(plan: &ComponentPlan) -> ComponentPlan {
    ComponentPlan { skips: Vec::new(), ..plan.clone() }
}

fn assert_sound(plan: &ComponentPlan, input: &ComponentInput, seed: u64) {
    let lowered = program(plan, input);
    check::check(&lowered).expect("safe");
    let observed = run(&lowered, Sim::default());
    assert_eq!(Nanos::new(observed.end()), plan.prediction.makespan, "predicted = simulated");
    assert!(observed.peak <= plan.slab.bytes.get());
    assert_bytes_are_there(plan, &lowered.phases[0], &observed.spans);
    let jittered =
        run(&lowered, Sim { seed, jitter: Fraction::from_ppm(400_000), ..Sim::default() });
    assert!(jittered.peak <= plan.slab.bytes.get());
    let whole = run(&program(&without(plan), input), Sim::default());
    match &plan.skipped {
        None => assert!(plan.skips.is_empty() || observed.spans.len() == whole.spans.len()),
        Some(skipped) => {
            assert_eq!(skipped.whole, Nanos::new(whole.end()));
            assert!(skipped.cancelled <= skipped.kept && skipped.kept <= skipped.whole);
            assert_eq!(bytes_of(&whole.spans) - bytes_of(&observed.spans), skipped.bytes.get());
            let uses = observed.spans.iter().filter(|s| s.lane == Lane::Compute);
            let gone = uses.filter(|s| is_left_out(plan, s.block as usize, s.pass).is_some());
            assert_eq!(gone.count() as u64, skipped.uses);
            let copies = plan.skips.first().map(|skip| skip.copies);
            let own = if copies == Some(Copies::Kept) { skipped.kept } else { skipped.cancelled };
            assert_eq!(own, plan.prediction.makespan);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn what_runs_finds_its_bytes_whatever_is_left_out(input in inputs(), seed in any::<u64>()) {
        for granularity in [Granularity::Tensor, Granularity::Block, Granularity::Rotating] {
            let plan = input.plan(granularity).expect("fits");
            assert_sound(&plan, &input, seed);
            let run = plan.bound.run;
            prop_assert!(run <= plan.prediction.makespan, "{run} beaten");
            // A plan that knows what is left out is never slower than one that does not.
            let unaware = ComponentInput { skips: Vec::new(), ..input.clone() };
            let mut unaware = unaware.plan(granularity).expect("fits");
            unaware.skips = input.skips.clone();
            unaware.foresee(&input.instance.device, input.reserve).expect("a schedule");
            prop_assert!(granularity == Granularity::Rotating
                || plan.prediction.makespan <= unaware.prediction.makespan);
        }
    }

    /// Which uses are left out may be known only while they run: any other subset is as safe.
    #[test]
    fn another_subset_is_as_safe(
        input in inputs(), other in prop::collection::vec(skip(), 1..5), seed in any::<u64>(),
    ) {
        let mut plan = input.plan(Granularity::Tensor).expect("fits");
        plan.skips = other;
        let lowered = program(&plan, &input);
        for jitter in [0, 300_000] {
            let sim = Sim { seed, jitter: Fraction::from_ppm(jitter), ..Sim::default() };
            let observed = run(&lowered, sim);
            prop_assert!(observed.peak <= plan.slab.bytes.get());
            if jitter == 0 {
                assert_bytes_are_there(&plan, &lowered.phases[0], &observed.spans);
            }
        }
    }
}

#[test]
fn policies_of_other_systems_leave_out_the_same() {
    let mut instance = Instance::equal(12, 300, 100, 0);
    instance.device.d2h = instance.device.h2d.clone();
    instance.device.pageable = Some(instance.device.h2d.clone());
    for (n, used) in instance.uses.iter_mut().enumerate() {
        used.block = format!("b.{n}");
        used.parts = vec![BlockPart::rows("w", Bytes::new(300), Bytes::new(1))];
    }
    instance.budget = Bytes::new(300 * 9);
    let skips = |copies| {
        let passes = vec![PassRange { first: 2, last: 7, every: 2 }];
        vec![Skip { blocks: vec!["b.3".into(), "b.4".into(), "b.11".into()], passes, copies }]
    };
    let input = |copies| ComponentInput {
        name: "model".into(),
        root: Bytes::ZERO,
        root_parts: Vec::new(),
        instance: instance.clone(),
        unit: Unit::Block,
        passes: 9,
        reserve: Bytes::ZERO,
        host: None,
        skips: skips(copies),
    };
    let mut seen = 0;
    for spec in POLICIES {
        for copies in [Copies::Cancelled, Copies::Kept] {
            let input = input(copies);
            let policy = Policy::parse(spec.name).expect("a name");
            let explored = policy.explore(&input).expect("explored");
            let bounds = input.at(spec.unit()).bounds();
            let Some(best) = explored.best(&input, &bounds).expect("a setting") else { continue };
            let plan = best.plan;
            let lowered = program(&plan, &input);
            check::check(&lowered).unwrap_or_else(|problems| panic!("{}: {problems:?}", spec.name));
            let simulated = Nanos::new(run(&lowered, Sim::default()).end());
            assert_eq!(simulated, plan.prediction.makespan, "{}", spec.name);
            let skipped = plan.skipped.expect("some passes leave blocks out");
            assert!(skipped.cancelled <= skipped.kept, "{}", spec.name);
            seen += 1;
        }
    }
    assert!(seen > 40, "{seen}");
}

#[test]
fn a_skipped_pass_costs_what_one_can_count() {
    // Two of three blocks of 100 bytes fit; compute 10, copies 100: a pass is three copies.
    let mut instance = Instance::equal(3, 100, 10, 200);
    for (n, used) in instance.uses.iter_mut().enumerate() {
        used.block = format!("b.{n}");
    }
    let plan = |copies| {
        let skips = vec![Skip {
            blocks: vec!["b.1-2".into()],
            passes: vec![PassRange { first: 1, last: 1, every: 1 }],
            copies,
        }];
        let input = ComponentInput {
            name: "model".into(),
            root: Bytes::ZERO,
            root_parts: Vec::new(),
            instance: instance.clone(),
            unit: Unit::Block,
            passes: 3,
            reserve: Bytes::ZERO,
            host: None,
            skips,
        };
        input.plan(Granularity::Block).expect("fits")
    };
    let plan = plan(Copies::Cancelled);
    let skipped = plan.skipped.as_ref().expect("passes leave blocks out");
    assert_eq!((skipped.uses, skipped.compute), (2, Nanos::new(20)));
    // b.0 stays through pass 1 in any case; one of the two others is copied in passes 0 and 2, the other stays or not:
    // 0: three copies, 2: at least one. The bound counts bytes: 100 for each, 300 + 100.
    assert_eq!(plan.bound.run, Nanos::new(400));
    assert!(plan.prediction.makespan >= Nanos::new(410), "{}", plan.prediction.makespan);
}
