//! Invariants of plan, program and simulator over random instances: memory never exceeded, bounds never beaten,
//! prediction equals simulation, and no needless wait.

#![expect(clippy::expect_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;

use proptest::prelude::*;
use vramplan::backend::sim::Sim;
use vramplan::backend::{Backend, Recorder};
use vramplan::figures::Prediction;
use vramplan::lane::{Lane, OpKind};
use vramplan::plan::{
    Beside, BlockPart, Choice, ComponentInput, ComponentPlan, Granularity, Instance, Piece,
    Residency, Schedule, Unit, UseRef, planner, timing,
};
use vramplan::profile::{Span, VramSample};
use vramplan::program::{Phase, Program, check};
use vramplan::units::{Bytes, Fraction, Nanos};

/// What a run shows, taken from its spans without the library's own metrics.
#[derive(Default)]
struct Observed {
    spans: Vec<Span>,
    in_use_peak: u64,
}

impl Recorder for Observed {
    fn span(&mut self, span: &Span) {
        self.spans.push(span.clone());
    }

    fn vram(&mut self, sample: VramSample) {
        self.in_use_peak = self.in_use_peak.max(sample.in_use.get());
    }
}

impl Observed {
    fn on(&self, lane: Lane) -> Vec<&Span> {
        let mut spans: Vec<&Span> = self.spans.iter().filter(|span| span.lane == lane).collect();
        spans.sort_by_key(|span| span.start);
        spans
    }

    fn makespan(&self) -> u64 {
        self.spans.iter().map(|span| span.end.get()).max().unwrap_or(0)
    }

    /// The end of the last compute of a pass.
    fn pass_end(&self, pass: u32) -> u64 {
        let computes = self.spans.iter().filter(|s| s.lane == Lane::Compute && s.pass == pass);
        computes.map(|span| span.end.get()).max().unwrap_or(0)
    }

    fn overlap(&self) -> u64 {
        let computes = self.on(Lane::Compute);
        let common =
            |a: &Span, b: &Span| a.end.min(b.end).saturating_sub(a.start.max(b.start)).get();
        let copies = self.on(Lane::H2d);
        copies.iter().map(|copy| computes.iter().map(|c| common(c, copy)).sum::<u64>()).sum()
    }

    /// Compute idle whose end is the end of a copy that the next use waited for.
    fn stall(&self) -> u64 {
        let computes = self.on(Lane::Compute);
        let mut before = 0;
        let mut stall = 0;
        for span in computes {
            if span.waited_for.is_some_and(|waited| waited.lane == Lane::H2d) {
                stall += span.start.get() - before;
            }
            before = span.end.get();
        }
        stall
    }
}

fn program(plan: &ComponentPlan, instance: &Instance) -> Program {
    let phase = Phase::of(plan, &instance.device).expect("a phase");
    Program { slab: plan.slab.bytes, phases: vec![phase] }
}

fn run(program: &Program, sim: Sim) -> Observed {
    let mut observed = Observed::default();
    sim.run(program, &mut observed).expect("a run to the end");
    observed
}

/// Random blocks, a budget between the smallest that works and everything, latency and alignment of all kinds.
fn inputs() -> impl Strategy<Value = ComponentInput> {
    let uses = prop::collection::vec((1u64..1_000, 0u64..2_000), 1..12);
    (uses, 0u64..1_000, 0u64..50, 0u32..9, 1u32..9, 0u64..300).prop_map(
        |(uses, tightness, latency, alignment, passes, root)| {
            let mut instance = Instance::equal(uses.len() as u64, 1, 1, 0);
            instance.device.h2d.latency = Nanos::new(latency);
            instance.device.alignment = 1 << alignment;
            for (slot, (bytes, compute)) in instance.uses.iter_mut().zip(uses) {
                slot.bytes = Bytes::new(bytes);
                slot.compute = Nanos::new(compute);
            }
            let aligned = (0..instance.uses.len()).map(|n| instance.aligned(n).get());
            let (least, all) = aligned.fold((0, 0), |(max, sum), size| (size.max(max), sum + size));
            instance.budget = Bytes::new(least + (all - least) * tightness / 1_000);
            let root = Bytes::new(root);
            let reserve = Bytes::new(7);
            ComponentInput {
                name: "model".into(),
                root,
                root_parts: Vec::new(),
                instance,
                passes,
                reserve,
                unit: Unit::Block,
                host: None,
                skips: Vec::new(),
            }
        },
    )
}

/// The same with every block cut into tensors, some of rows, to be planned by tensors.
fn split_inputs() -> impl Strategy<Value = ComponentInput> {
    (inputs(), prop::collection::vec((1u64..9, any::<bool>()), 12)).prop_map(|(mut input, cuts)| {
        for (used, (cuts, rows)) in input.instance.uses.iter_mut().zip(cuts) {
            let whole = used.bytes.get();
            let part = |n: u64| {
                let bytes = Bytes::new(whole * (n + 1) / cuts - whole * n / cuts);
                let row = if rows { Bytes::new(1) } else { bytes };
                BlockPart::rows(format!("t{n}"), bytes, row)
            };
            used.parts = (0..cuts).map(part).collect();
        }
        input
    })
}

/// A plan changed in one place.
#[derive(Debug, Clone, Copy)]
enum Mutation {
    /// A copy waits for nothing.
    Dropped,
    /// A copy waits for an earlier use.
    Earlier(usize),
    /// A copy is issued after a later use.
    Later(usize),
    /// A copy goes where another one goes.
    Moved(usize),
}

fn mutations() -> impl Strategy<Value = Mutation> {
    prop_oneof![
        Just(Mutation::Dropped),
        (1usize..4).prop_map(Mutation::Earlier),
        (1usize..4).prop_map(Mutation::Later),
        (0usize..40).prop_map(Mutation::Moved),
    ]
}

/// Applies a mutation to one streamed piece; none where the plan streams nothing.
fn mutated(plan: &ComponentPlan, mutation: Mutation, pick: usize) -> Option<ComponentPlan> {
    let mut plan = plan.clone();
    let names: Vec<String> = plan.blocks.iter().map(|block| block.block.clone()).collect();
    let count = names.len();
    let places: Vec<Vec<u64>> =
        plan.blocks.iter().flat_map(|b| &b.pieces).map(|p| p.at.clone()).collect();
    let pieces = plan.blocks.iter_mut().flat_map(|block| &mut block.pieces);
    let mut streamed: Vec<&mut Piece> =
        pieces.filter(|p| p.residency != Residency::Resident).collect();
    let chosen = pick % streamed.len().max(1);
    let piece = streamed.get_mut(chosen)?;
    let Residency::Streamed(stream) = &mut piece.residency else { return None };
    let at = |target: &UseRef| {
        let block = names.iter().position(|name| *name == target.block).expect("a block");
        target.passes_back as usize * count + count - 1 - block
    };
    let to = |back: usize| UseRef {
        block: names[count - 1 - back % count].clone(),
        passes_back: u32::try_from(back / count).expect("a few passes"),
    };
    match (mutation, stream.issue_after.clone()) {
        (Mutation::Dropped, _) => stream.issue_after = None,
        (Mutation::Earlier(by), Some(target)) => stream.issue_after = Some(to(at(&target) + by)),
        (Mutation::Later(by), Some(target)) => {
            stream.issue_after = Some(to(at(&target).checked_sub(by)?));
        }
        (Mutation::Moved(other), _) => piece.at = places[other % places.len()].clone(),
        (_, None) => return None,
    }
    Some(plan)
}

/// What goes wrong in a run: bytes taken while they are in use, or used before they are there. Knows the plan's
/// places and the spans' times, nothing of schedules.
fn violation(plan: &ComponentPlan, seen: &Observed) -> Option<String> {
    let computes: BTreeMap<(u32, u32), (u64, u64)> = seen
        .on(Lane::Compute)
        .iter()
        .map(|span| ((span.block, span.pass), (span.start.get(), span.end.get())))
        .collect();
    let copies = seen.on(Lane::H2d);
    let mut held: Vec<(u64, u64, u64, u64)> = Vec::new();
    for copy in &copies {
        let piece = &plan.blocks[copy.block as usize].pieces[copy.piece? as usize];
        let resident = piece.residency == Residency::Resident;
        let at = piece.at[copy.pass as usize % piece.at.len()];
        // Its bytes are used until the next copy of the same piece brings them again.
        let next =
            copies.iter().filter(|other| (other.block, other.piece) == (copy.block, copy.piece));
        let next = next.map(|other| other.pass).filter(|&pass| pass > copy.pass).min();
        let last = next.map_or(plan.passes - 1, |next| next - 1);
        for pass in copy.pass..=last {
            let (start, _) = *computes.get(&(copy.block, pass))?;
            if copy.end.get() > start {
                return Some(format!(
                    "block {} computes at {start}, its copy ends later",
                    copy.block
                ));
            }
            if piece.at[pass as usize % piece.at.len()] != at {
                return Some(format!("block {} moves without a copy", copy.block));
            }
        }
        let end = computes.get(&(copy.block, last))?.1;
        let until = if resident { u64::MAX } else { end };
        let own = (at, at + piece.bytes.get(), copy.start.get(), until);
        let clash = held.iter().find(|&&(from, to, begin, until)| {
            from < own.1 && own.0 < to && begin < own.3 && own.2 < until
        });
        if let Some(clash) = clash {
            return Some(format!("{own:?} takes bytes of {clash:?}"));
        }
        held.push(own);
    }
    let pieces = plan.blocks.iter().enumerate().flat_map(|(n, block)| {
        (0..block.pieces.len())
            .filter(move |&k| !block.pieces[k].bytes.is_zero())
            .map(move |k| (n, k))
    });
    for (block, piece) in pieces {
        let first = |copy: &&&Span| {
            (copy.block as usize, copy.piece.map(|n| n as usize), copy.pass)
                == (block, Some(piece), 0)
        };
        if copies.iter().find(first).is_none() {
            return Some(format!("block {block} computes in the first pass on nothing"));
        }
    }
    None
}

/// Blocks of one size or two, whose copies mostly take longer than their compute: where taking turns may win.
fn turning_inputs() -> impl Strategy<Value = ComponentInput> {
    let sizes = (prop::collection::vec(any::<bool>(), 3..11), 50u64..1_000, 1u64..4);
    (inputs(), sizes, 0u64..300, 0u64..1_000).prop_map(
        |(mut input, (large, size, times), compute, tightness)| {
            input.instance.uses = Instance::equal(large.len() as u64, 1, compute, 0).uses;
            for (used, large) in input.instance.uses.iter_mut().zip(large) {
                used.bytes = Bytes::new(if large { size * times } else { size });
            }
            let uses = 0..input.instance.uses.len();
            let aligned = uses.map(|n| input.instance.aligned(n).get());
            let (least, all) = aligned.fold((0, 0), |(max, sum), size| (size.max(max), sum + size));
            input.instance.budget = Bytes::new(least + (all - least) * tightness / 1_000);
            input
        },
    )
}

/// A change to a plan in which blocks take turns.
#[derive(Debug, Clone, Copy)]
enum Turned {
    /// A load less.
    Dropped,
    /// A load comes a turn later.
    Delayed,
    /// A load waits for nothing.
    Hasty,
    /// In one turn a block lies where another does.
    Moved(usize),
}

fn turned(plan: &ComponentPlan, change: Turned, pick: usize) -> Option<ComponentPlan> {
    let mut plan = plan.clone();
    let turns = plan.turns;
    let places: Vec<Vec<u64>> =
        plan.blocks.iter().flat_map(|b| &b.pieces).map(|p| p.at.clone()).collect();
    let pieces = plan.blocks.iter_mut().flat_map(|block| &mut block.pieces);
    let mut turning: Vec<&mut Piece> = pieces
        .filter(|p| matches!(&p.residency, Residency::Streamed(stream) if !stream.loads.is_empty()))
        .collect();
    let chosen = pick % turning.len().max(1);
    let piece = turning.get_mut(chosen)?;
    let Residency::Streamed(stream) = &mut piece.residency else { return None };
    let keys: Vec<u32> = stream.loads.keys().copied().collect();
    let turn = keys[pick / 7 % keys.len()];
    match change {
        Turned::Dropped if keys.len() > 1 => drop(stream.loads.remove(&turn)),
        Turned::Delayed if !stream.loads.contains_key(&((turn + 1) % turns)) => {
            let after = stream.loads.remove(&turn)?;
            stream.loads.insert((turn + 1) % turns, after);
        }
        Turned::Hasty => drop(stream.loads.insert(turn, None)),
        Turned::Moved(other) => {
            let other = &places[other % places.len()];
            let place = other[turn as usize % other.len()];
            if piece.at.len() == 1 {
                piece.at = vec![piece.at[0]; turns as usize];
            }
            let at = turn as usize;
            if piece.at[at] == place {
                return None;
            }
            piece.at[at] = place;
        }
        Turned::Dropped | Turned::Delayed => return None,
    }
    Some(plan)
}

#[test]
fn what_the_checker_must_refuse_of_turns_shows_in_runs() {
    let instance = Instance::equal(7, 100, 5, 450);
    let mut plan = vramplan::plan::plan_instance(&instance, Granularity::Rotating).expect("a plan");
    assert!(plan.turns > 1, "taking turns wins");
    plan.passes = 2 * plan.turns + 3;
    assert_eq!(violation(&plan, &run(&program(&plan, &instance), Sim::default())), None);
    for change in [Turned::Dropped, Turned::Delayed, Turned::Hasty, Turned::Moved(2)] {
        let mut shown = 0;
        for pick in 0..60 {
            let Some(plan) = turned(&plan, change, pick) else { continue };
            let program = program(&plan, &instance);
            let refused = check::check(&program).is_err();
            assert!(refused, "{change:?} of {pick}");
            let sim = Sim { jitter: Fraction::from_ppm(990_000), seed: 1, ..Sim::default() };
            shown += usize::from(violation(&plan, &run(&program, sim)).is_some());
        }
        assert!(shown >= 3, "only {shown} of {change:?} show: the test sees too little");
    }
}

#[test]
fn what_the_checker_must_refuse_shows_in_runs() {
    let mut instance = Instance::equal(6, 100, 40, 250);
    instance.uses.iter_mut().for_each(|used| {
        used.parts = vec![BlockPart::rows("w", used.bytes, Bytes::new(1))];
    });
    let plan = vramplan::plan::plan_instance(&instance, Granularity::Tensor).expect("a plan");
    assert_eq!(violation(&plan, &run(&program(&plan, &instance), Sim::default())), None);
    let mut shown = 0;
    for pick in 0..12 {
        for mutation in [Mutation::Dropped, Mutation::Earlier(2), Mutation::Moved(0)] {
            let Some(plan) = mutated(&plan, mutation, pick) else { continue };
            let program = program(&plan, &instance);
            let wrong = violation(&plan, &run(&program, Sim::default())).is_some();
            assert!(!wrong || check::check(&program).is_err(), "{mutation:?} of {pick}");
            shown += usize::from(wrong);
        }
    }
    assert!(shown >= 6, "only {shown} of the changes show: the test sees too little");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, max_global_rejects: 10_000, ..ProptestConfig::default() })]

    #[test]
    fn a_plan_is_safe_fits_and_does_what_it_predicts(input in split_inputs(), tensors: bool) {
        let granularity = if tensors { Granularity::Tensor } else { Granularity::Block };
        let plan = input.plan(granularity).expect("the budget holds the largest block");
        let Prediction { pass, first_pass, makespan, overlap, stall, .. } = plan.prediction;
        let program = program(&plan, &input.instance);
        prop_assert!(check::check(&program).is_ok(), "{:?}", check::check(&program));

        let root = input.root.align_up(input.instance.device.alignment);
        prop_assert!(plan.slab.bytes <= input.instance.budget.saturating_add(root));
        prop_assert!(pass >= plan.bound.any_schedule);
        prop_assert!(tensors || pass >= plan.bound.granularity);
        prop_assert!(plan.bound.granularity >= plan.bound.any_schedule);

        let seen = run(&program, Sim::default());
        prop_assert!(seen.in_use_peak <= plan.slab.bytes.get());
        prop_assert_eq!(seen.makespan(), makespan.get());
        prop_assert_eq!(seen.pass_end(0), first_pass.get());
        prop_assert_eq!(seen.stall(), stall.get());
        let busy: u64 = seen.on(Lane::H2d).iter().map(|s| s.end.get() - s.start.get()).sum();
        prop_assert_eq!(Fraction::of(seen.overlap(), busy), overlap);
    }

    #[test]
    fn what_is_accepted_is_safe_however_long_things_take(
        input in split_inputs(),
        tensors: bool,
        mutation in mutations(),
        pick in 0usize..100,
    ) {
        let granularity = if tensors { Granularity::Tensor } else { Granularity::Block };
        let plan = ComponentInput { passes: 7, ..input.clone() }.plan(granularity).expect("fits");
        for plan in [Some(plan.clone()), mutated(&plan, mutation, pick)].into_iter().flatten() {
            if Schedule::of(&plan, &input.instance.device).is_err() {
                continue;
            }
            let program = program(&plan, &input.instance);
            let accepted = check::check(&program).is_ok();
            // A run is one order of events: many are tried, of durations almost anything.
            for (seed, ppm) in (0..12).zip([0, 300_000, 990_000].into_iter().cycle()) {
                let jitter = Fraction::from_ppm(ppm);
                let seen = run(&program, Sim { jitter, seed, ..Sim::default() });
                let violation = violation(&plan, &seen);
                prop_assert!(!accepted || violation.is_none(), "{mutation:?}: {violation:?}");
            }
        }
    }

    #[test]
    fn the_predicted_pass_is_the_simulated_long_run_mean(input in split_inputs(), tensors: bool) {
        // The critical cycle may span several passes; over many, the mean settles to within one pass of start-up.
        let input = ComponentInput { passes: 200, ..input };
        let granularity = if tensors { Granularity::Tensor } else { Granularity::Block };
        let plan = input.plan(granularity).expect("the budget holds the largest block");
        let seen = run(&program(&plan, &input.instance), Sim::default());
        let mean = (seen.pass_end(199) - seen.pass_end(99)) as f64 / 100.0;
        let pass = plan.prediction.pass.get() as f64;
        prop_assert!((mean - pass).abs() <= 0.02 * pass + 1.0, "mean {mean}, predicted {pass}");
        prop_assert!(mean <= pass, "the prediction is never optimistic");
    }

    #[test]
    fn lanes_never_overlap_and_uses_follow_their_copies(input in inputs(), jitter in 0u64..500_000, seed: u64) {
        let plan = input.plan(Granularity::Block).expect("the budget holds the largest block");
        let sim = Sim { jitter: Fraction::from_ppm(jitter), seed, ..Sim::default() };
        let seen = run(&program(&plan, &input.instance), sim);
        for lane in Lane::ALL {
            for pair in seen.on(lane).windows(2) {
                prop_assert!(pair[0].end <= pair[1].start);
            }
        }
        for copy in seen.spans.iter().filter(|span| span.op == OpKind::Copy) {
            let of = |s: &&Span| s.op == OpKind::Compute && (s.block, s.pass) == (copy.block, copy.pass);
            let used = seen.spans.iter().find(of).expect("every copy serves a use");
            prop_assert!(copy.end <= used.start);
        }
    }

    #[test]
    fn blocks_that_take_turns_are_safe_and_predicted(input in turning_inputs()) {
        let mut plan = input.plan(Granularity::Rotating).expect("the budget holds the largest block");
        let fixed = input.plan(Granularity::Block).expect("the budget holds the largest block");
        prop_assert!(input.passes <= 4 || plan.prediction.pass <= fixed.prediction.pass);
        prop_assert!(plan.prediction.pass >= plan.bound.granularity);
        prop_assert!(plan.bound.granularity >= plan.bound.any_schedule);
        if let Some(found) = planner::rotating::best(&input.instance).filter(|_| plan.turns > 1) {
            prop_assert_eq!(found.pass.ceil(), plan.prediction.pass);
        }
        // Over whole rounds of turns the mean settles to the prediction.
        let rounds = 240 / plan.turns;
        for passes in [input.passes, 2 * rounds * plan.turns] {
            plan.passes = passes;
            plan.foresee(&input.instance.device, input.reserve).expect("times");
            let program = program(&plan, &input.instance);
            prop_assert!(check::check(&program).is_ok(), "{:?}", check::check(&program));
            let seen = run(&program, Sim::default());
            prop_assert_eq!(violation(&plan, &seen), None);
            prop_assert!(seen.in_use_peak <= plan.slab.bytes.get());
            let Prediction { first_pass, makespan, stall, .. } = plan.prediction;
            prop_assert_eq!(seen.makespan(), makespan.get());
            prop_assert_eq!(seen.pass_end(0), first_pass.get());
            prop_assert_eq!(seen.stall(), stall.get());
            if passes > input.passes {
                let (half, all) = (rounds * plan.turns, 2 * rounds * plan.turns);
                let mean = (seen.pass_end(all - 1) - seen.pass_end(half - 1)) as f64 / f64::from(half);
                let pass = plan.prediction.pass.get() as f64;
                prop_assert!((mean - pass).abs() <= 0.02 * pass + 1.0, "mean {mean}, predicted {pass}");
                prop_assert!(mean <= pass, "the prediction is never optimistic");
                let copied = |s: &&Span| s.op == OpKind::Copy && (half..all).contains(&s.pass);
                let bytes: u64 = seen.spans.iter().filter(copied).map(|s| s.bytes.get()).sum();
                let mean = bytes.div_ceil(u64::from(half));
                prop_assert_eq!(mean, plan.prediction.bytes_per_pass.get());
            }
        }
    }

    #[test]
    fn changed_turns_are_refused_or_harmless(
        input in turning_inputs(),
        change in prop_oneof![
            Just(Turned::Dropped),
            Just(Turned::Delayed),
            Just(Turned::Hasty),
            (0usize..20).prop_map(Turned::Moved),
        ],
        pick in 0usize..1_000,
    ) {
        let mut plan = input.plan(Granularity::Rotating).expect("fits");
        prop_assume!(plan.turns > 1);
        plan.passes = 2 * plan.turns + 3;
        for plan in [Some(plan.clone()), turned(&plan, change, pick)].into_iter().flatten() {
            let program = program(&plan, &input.instance);
            let accepted = check::check(&program).is_ok();
            for (seed, ppm) in (0..6).zip([0, 300_000, 990_000].into_iter().cycle()) {
                let jitter = Fraction::from_ppm(ppm);
                let seen = run(&program, Sim { jitter, seed, ..Sim::default() });
                let violation = violation(&plan, &seen);
                prop_assert!(!accepted || violation.is_none(), "{change:?}: {violation:?}");
            }
        }
        if let Some(changed) = turned(&plan, change, pick).filter(|_| !matches!(change, Turned::Hasty)) {
            let refused = check::check(&program(&changed, &input.instance)).is_err();
            prop_assert!(refused, "{change:?} went unnoticed");
        }
    }

    #[test]
    fn same_seed_same_run(input in inputs(), seed: u64) {
        let plan = input.plan(Granularity::Block).expect("the budget holds the largest block");
        let program = program(&plan, &input.instance);
        let sim = Sim { jitter: Fraction::from_ppm(200_000), seed, ..Sim::default() };
        prop_assert_eq!(run(&program, sim).spans, run(&program, sim).spans);
    }

    #[test]
    fn contention_slows_compute_by_what_copies_take(input in inputs()) {
        let plan = input.plan(Granularity::Block).expect("the budget holds the largest block");
        let program = program(&plan, &input.instance);
        let beside = Beside { contention: Fraction::from_ppm(500_000), ..Beside::default() };
        let seen = run(&program, Sim { beside, ..Sim::default() });
        let compute: u64 = seen.on(Lane::Compute).iter().map(|s| s.end.get() - s.start.get()).sum();
        let alone: u64 = plan.blocks.iter().map(|b| b.compute.get()).sum::<u64>() * u64::from(plan.passes);
        // Of the overlapped time a third (0.5 / 1.5) is slowdown; each use rounds up to whole nanoseconds.
        let slack = seen.spans.len() as u64;
        prop_assert!((compute - alone).abs_diff(seen.overlap() / 3) <= slack);
    }

    #[test]
    fn contention_slows_copies_by_what_computes_take(input in inputs()) {
        let plan = input.plan(Granularity::Block).expect("the budget holds the largest block");
        let program = program(&plan, &input.instance);
        let copies = |seen: &Observed| -> u64 {
            seen.on(Lane::H2d).iter().map(|s| s.end.get() - s.start.get()).sum()
        };
        let alone = copies(&run(&program, Sim::default()));
        let beside = Beside { copy_contention: Fraction::from_ppm(500_000), ..Beside::default() };
        let seen = run(&program, Sim { beside, ..Sim::default() });
        let slack = seen.spans.len() as u64;
        prop_assert!((copies(&seen) - alone).abs_diff(seen.overlap() / 3) <= slack);
    }

    #[test]
    fn every_wait_of_a_copy_is_needed(input in inputs(), pick: prop::sample::Index) {
        // Equal blocks take turns in slots; of unequal ones some wait may be covered by an earlier copy's.
        let mut input = ComponentInput { passes: 30, ..input };
        for used in &mut input.instance.uses {
            used.bytes = Bytes::new(100);
        }
        let (size, count) = (input.instance.aligned(0).get(), input.instance.uses.len());
        input.instance.budget = Bytes::new(size * (1 + pick.index(count) as u64));
        let plan = input.plan(Granularity::Block).expect("the budget holds the largest block");
        let mut program = program(&plan, &input.instance);
        let ops = &mut program.phases[0].schedule.ops;
        let waiting: Vec<usize> = (0..ops.len())
            .filter(|&n| ops[n].kind == OpKind::Copy && !ops[n].waits.is_empty())
            .collect();
        prop_assume!(!waiting.is_empty());
        let op = waiting[pick.index(waiting.len())];
        ops[op].waits.clear();
        prop_assert!(check::check(&program).is_err(), "a race went unnoticed");
    }

    #[test]
    fn every_wait_of_a_use_is_needed(input in inputs(), pick: prop::sample::Index) {
        let plan = input.plan(Granularity::Block).expect("the budget holds the largest block");
        let mut program = program(&plan, &input.instance);
        let ops = &mut program.phases[0].schedule.ops;
        let waiting: Vec<usize> = (0..ops.len())
            .filter(|&n| ops[n].kind == OpKind::Compute && !ops[n].waits.is_empty())
            .collect();
        prop_assume!(!waiting.is_empty());
        let op = waiting[pick.index(waiting.len())];
        ops[op].waits.clear();
        // The first use may be covered by a later wait only if it has none of its own: it has, so this must show.
        prop_assert!(check::check(&program).is_err(), "a use of absent bytes went unnoticed");
    }

    #[test]
    fn no_choice_of_the_same_shape_is_faster(input in inputs(), flips in prop::collection::vec(any::<bool>(), 12), slots in 1u32..4) {
        // The bound holds for every choice, not only for the planner's.
        let mut streams: Vec<bool> = (0..input.instance.uses.len()).map(|n| flips[n]).collect();
        streams[0] = true;
        let mut input = input;
        let size = |n: usize| input.instance.aligned(n).get();
        let largest = (0..streams.len()).filter(|&n| streams[n]).map(size).max().unwrap_or(0);
        let stays: u64 = (0..streams.len()).filter(|&n| !streams[n]).map(size).sum();
        input.instance.budget = Bytes::new(stays + largest * u64::from(slots));
        let choice = Choice::whole(&input.instance, &streams).expect("residents fit");
        let found = choice.evaluate(&input.instance).expect("a slot fits");
        let plan = input.planned("given", &found).expect("a plan");
        prop_assert_eq!(found.pass.ceil(), plan.prediction.pass);
        prop_assert!(plan.prediction.pass >= plan.bound.granularity);
        let schedule = Schedule::of(&plan, &input.instance.device).expect("a schedule");
        prop_assert_eq!(timing::steady_pass(&schedule).ceil(), plan.prediction.pass);
        prop_assert!(check::check(&program(&plan, &input.instance)).is_ok());
    }
}
