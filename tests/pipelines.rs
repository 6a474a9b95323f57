//! Invariants of pipelines over random components: memory never exceeded in any phase or generation, predicted times
//! equal to simulated ones, no component slower for being planned with others, and no needless or missing entry.

#![expect(clippy::expect_used, clippy::panic, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;

use proptest::prelude::*;
use vramplan::backend::sim::Sim;
use vramplan::backend::{Backend, Recorder};
use vramplan::device;
use vramplan::error::Error;
use vramplan::lane::{Lane, OpKind};
use vramplan::model::{self, Manifest};
use vramplan::plan::pipeline::{Hold, Member, Pipeline, Planned};
use vramplan::plan::{
    Budget, ComponentInput, Digests, Entry, Granularity, Instance, PLAN_FORMAT, Plan, Request, Unit,
};
use vramplan::profile::{Span, VramSample};
use vramplan::program::{self, Enter, Program, check};
use vramplan::units::{Bytes, Fraction, Nanos};
use vramplan::workload;

const VRAM: u64 = 6_000;

#[derive(Default)]
struct Observed {
    spans: Vec<Span>,
    peak: u64,
    last: u64,
}

impl Recorder for Observed {
    fn span(&mut self, span: &Span) {
        self.spans.push(span.clone());
    }

    fn vram(&mut self, sample: VramSample) {
        self.last = sample.in_use.get();
        self.peak = self.peak.max(self.last);
    }
}

fn run(program: &Program, sim: Sim) -> Observed {
    let mut observed = Observed::default();
    sim.run(program, &mut observed).expect("a run to the end");
    observed
}

/// A component of some blocks, a root, a reserve of its own.
fn member() -> impl Strategy<Value = Member> {
    // A use of no time, jittered or not, would leave open what comes first at an instant.
    let uses = prop::collection::vec((0u64..1_500, 100u64..1_500), 1..7);
    (uses, 0u64..300, 1u32..5, 0u64..2_000, 0usize..12).prop_map(
        |(uses, root, passes, reserve, hold)| {
            let mut instance = Instance::equal(uses.len() as u64, 1, 1, 0);
            instance.device.alignment = 16;
            instance.device.h2d.latency = Nanos::new(5);
            for (slot, (bytes, compute)) in instance.uses.iter_mut().zip(uses) {
                slot.bytes = Bytes::new(bytes);
                slot.compute = Nanos::new(compute);
            }
            let input = ComponentInput {
                host: None,
                skips: Vec::new(),
                name: "model".into(),
                root: Bytes::new(root),
                root_parts: Vec::new(),
                instance,
                passes,
                reserve: Bytes::new(reserve),
                unit: Unit::Block,
            };
            // Mostly left to the planner.
            let hold = Hold::ALL.get(hold).map_or(Hold::Auto, |(_, hold)| *hold);
            Member { input, hold }
        },
    )
}

fn pipelines() -> impl Strategy<Value = Pipeline> {
    (prop::collection::vec(member(), 1..5), 1u32..4).prop_map(|(mut members, generations)| {
        for (n, member) in members.iter_mut().enumerate() {
            member.input.name = format!("c{n}");
        }
        Pipeline {
            members,
            vram: Bytes::new(VRAM),
            generations,
            granularity: Granularity::Block,
            unit: Unit::Block,
            host: None,
        }
    })
}

fn file(pipeline: &Pipeline, planned: &Planned) -> Plan {
    let none = || String::new();
    Plan {
        format: PLAN_FORMAT.to_owned(),
        model: "m".into(),
        digests: Digests { manifest: none(), device: none(), workload: none() },
        granularity: Granularity::Block,
        rank: None,
        budget: Budget {
            vram: pipeline.vram,
            reserve: Bytes::ZERO,
            weights: pipeline.vram,
            host: None,
        },
        generations: pipeline.generations,
        components: planned.components.clone(),
        pipeline: Some(planned.together.clone()),
        device: pipeline.members[0].input.instance.device.clone(),
    }
}

/// The plan, where everything can be held as asked.
fn planned(pipeline: &Pipeline) -> Option<Plan> {
    match pipeline.plan() {
        Ok(planned) => Some(file(pipeline, &planned)),
        Err(Error::Infeasible(answer)) => {
            assert!(answer.needed > answer.available, "{answer:?}");
            None
        }
        Err(other) => panic!("{other}"),
    }
}

/// By phase and pass: the end of the last compute.
fn ends(observed: &Observed) -> BTreeMap<(u32, u32), u64> {
    let mut ends = BTreeMap::new();
    for span in observed.spans.iter().filter(|span| span.lane == Lane::Compute) {
        let end: &mut u64 = ends.entry((span.component, span.pass)).or_default();
        *end = span.end.get().max(*end);
    }
    ends
}

/// Bytes that hold something: from where to where, whose they are, and until when they were used last.
type Cell = (u64, u64, (usize, u32, usize), u64);

/// Holds every copy of a run against every use of the bytes before it, by time alone: an independent observer that
/// knows only where bytes lie.
fn clashes(program: &Program, observed: &Observed) -> Option<String> {
    let mut spans: Vec<&Span> = observed.spans.iter().collect();
    spans.sort_by_key(|span| (span.start, span.op == OpKind::Compute));
    let mut cells: Vec<Cell> = Vec::new();
    for span in spans {
        let phase = &program.phases[span.component as usize];
        let block = span.block as usize;
        let id = |piece: usize| (phase.of, span.block, piece);
        match (span.op, span.piece) {
            (OpKind::Copy, Some(piece)) => {
                let piece = piece as usize;
                let (from, to) = phase.places[block][piece].range(span.pass);
                let taken = cells.iter().filter(|cell| cell.0 < to && from < cell.1);
                for cell in taken {
                    if cell.3 > span.start.get() {
                        return Some(format!("{span:?} over {cell:?}"));
                    }
                }
                cells.retain(|cell| cell.0 >= to || from >= cell.1);
                cells.push((from, to, id(piece), span.end.get()));
            }
            (OpKind::Compute, _) => {
                for (piece, place) in phase.places[block].iter().enumerate() {
                    if place.bytes.is_zero() {
                        continue;
                    }
                    let (from, to) = place.range(span.pass);
                    let own = cells.iter_mut().find(|cell| (cell.0, cell.1) == (from, to));
                    match own.filter(|cell| cell.2 == id(piece) && cell.3 <= span.start.get()) {
                        Some(cell) => cell.3 = span.end.get(),
                        None => return Some(format!("{span:?} without {from}..{to}")),
                    }
                }
                // The root is in use until the last block ends.
                let root = phase.places.first().filter(|_| phase.blocks[0] == "root");
                for place in root.into_iter().flatten() {
                    let (from, to) = place.range(span.pass);
                    let cell = cells.iter_mut().find(|cell| (cell.0, cell.1) == (from, to));
                    cell.into_iter().for_each(|cell| cell.3 = cell.3.max(span.end.get()));
                }
            }
            _ => {}
        }
    }
    None
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn what_is_predicted_is_simulated(pipeline in pipelines()) {
        let Some(plan) = planned(&pipeline) else { return Ok(()) };
        let program = program::lower(&plan).expect("a program");
        if let Err(problems) = check::check(&program) {
            return Err(TestCaseError::fail(format!("{problems:?}")));
        }
        let text = plan.to_yaml().expect("text");
        prop_assert_eq!(&Plan::from_yaml("plan", &text).expect("a sound plan"), &plan);
        let observed = run(&program, Sim::default());
        let last = observed.spans.iter().map(|span| span.end.get()).max().unwrap_or(0);
        let together = plan.pipeline.as_ref().expect("a pipeline");
        prop_assert_eq!(last, together.makespan.get());
        let ends = ends(&observed);
        let mut before = 0;
        for (n, prediction) in plan.predictions().expect("predictions").iter().enumerate() {
            let phase = &program.phases[n];
            let component = u32::try_from(n).expect("few");
            prop_assert_eq!(ends[&(component, 0)] - before, prediction.first_pass.get());
            before = ends[&(component, phase.passes - 1)];
        }
    }

    #[test]
    fn lanes_that_slow_each_other_down_are_predicted(
        pipeline in pipelines(), contention in 0u64..400_000, copies in 0u64..400_000, on_link in 0u64..100,
    ) {
        let mut pipeline = pipeline;
        for member in &mut pipeline.members {
            let instance = &mut member.input.instance;
            instance.device.contention = Fraction::from_ppm(contention);
            instance.device.copy_contention = Fraction::from_ppm(copies);
            for used in &mut instance.uses {
                used.on_link = Nanos::new(used.compute.get() * on_link / 100);
            }
        }
        let Some(plan) = planned(&pipeline) else { return Ok(()) };
        let program = program::lower(&plan).expect("a program");
        prop_assert!(check::check(&program).is_ok());
        let observed = run(&program, Sim::on(&plan.device));
        let last = observed.spans.iter().map(|span| span.end.get()).max().unwrap_or(0);
        prop_assert_eq!(last, plan.pipeline.as_ref().expect("a pipeline").makespan.get());
        let ends = ends(&observed);
        let mut before = 0;
        for (n, prediction) in plan.predictions().expect("predictions").iter().enumerate() {
            let component = u32::try_from(n).expect("few");
            prop_assert_eq!(ends[&(component, 0)] - before, prediction.first_pass.get());
            before = ends[&(component, program.phases[n].passes - 1)];
        }
    }

    #[test]
    fn memory_is_never_exceeded(pipeline in pipelines(), seed: u64) {
        let Some(plan) = planned(&pipeline) else { return Ok(()) };
        let program = program::lower(&plan).expect("a program");
        for (component, member) in plan.components.iter().zip(&pipeline.members) {
            let end = component.slab.bytes.saturating_add(member.input.reserve);
            prop_assert!(end.get() <= VRAM, "{} ends at {end}", component.name);
            prop_assert_eq!(component.prediction.peak, end);
        }
        prop_assert!(plan.peak().get() <= VRAM);
        for jitter in [0, 400_000] {
            let sim = Sim { jitter: Fraction::from_ppm(jitter), seed, ..Sim::default() };
            let observed = run(&program, sim);
            prop_assert!(observed.peak <= program.slab.get());
            prop_assert_eq!(clashes(&program, &observed), None);
        }
    }

    #[test]
    fn together_is_never_slower_than_apart(pipeline in pipelines()) {
        let Some(plan) = planned(&pipeline) else { return Ok(()) };
        let apart: Option<u64> = pipeline.members.iter().map(|member| {
            let room = Bytes::new(VRAM).saturating_sub(member.input.reserve);
            let input = member.input.within(room);
            let plan = input.plan(Granularity::Block).ok()?;
            Some(plan.prediction.makespan.get())
        }).sum();
        let asked = pipeline.members.iter().any(|member| member.hold != Hold::Auto);
        let Some(apart) = apart.filter(|_| !asked) else { return Ok(()) };
        let together = plan.pipeline.as_ref().expect("a pipeline");
        prop_assert!(together.first.get() <= apart || pipeline.generations > 1, "{} together, {apart} apart", together.first);
        prop_assert!(together.makespan.get() <= apart * u64::from(pipeline.generations));
    }

    #[test]
    fn every_entry_is_needed_or_covered(pipeline in pipelines(), pick: prop::sample::Index) {
        let Some(plan) = planned(&pipeline) else { return Ok(()) };
        let mut program = program::lower(&plan).expect("a program");
        let waiting: Vec<(usize, usize)> = program.phases.iter().enumerate().flat_map(|(p, phase)| {
            let entries = phase.enters.iter().enumerate();
            entries.filter(|(_, enter)| matches!(enter, Enter::Op { .. })).map(move |(n, _)| (p, n))
        }).collect();
        prop_assume!(!waiting.is_empty());
        let (phase, op) = waiting[pick.index(waiting.len())];
        program.phases[phase].enters[op] = Enter::Nothing;
        // Without it, either the order of copies covers it, or the race is seen; never a run that clashes unseen.
        if check::check(&program).is_ok() {
            for seed in 0..8 {
                let sim = Sim { jitter: Fraction::from_ppm(900_000), seed, ..Sim::default() };
                prop_assert_eq!(clashes(&program, &run(&program, sim)), None);
            }
        }
    }
}

/// Three components of ten blocks each; room for one and a bit.
fn chain(vram: u64, generations: u32) -> Pipeline {
    let member = |name: &str| {
        let mut instance = Instance::equal(10, 100, 50, 0);
        instance.device.alignment = 1;
        let input = ComponentInput {
            host: None,
            skips: Vec::new(),
            name: name.into(),
            root: Bytes::ZERO,
            root_parts: Vec::new(),
            instance,
            passes: 3,
            reserve: Bytes::ZERO,
            unit: Unit::Block,
        };
        Member { input, hold: Hold::Auto }
    };
    Pipeline {
        members: vec![member("a"), member("b"), member("c")],
        vram: Bytes::new(vram),
        generations,
        granularity: Granularity::Block,
        unit: Unit::Block,
        host: None,
    }
}

#[test]
fn the_next_component_arrives_while_the_last_pass_computes() {
    let plan = planned(&chain(1_000, 1)).expect("fits");
    // The last pass of a takes 500 and its copies nothing: half of b arrives meanwhile, the rest is ahead of its use
    // by then, since a copy of 100 follows a compute of 50 in each step: 5 blocks · 50 are left at the end.
    let together = plan.pipeline.as_ref().expect("a pipeline");
    for boundary in &together.boundaries {
        assert_eq!(boundary.bytes, Bytes::new(1_000));
        assert_eq!(boundary.demand, Nanos::new(500), "1000 bytes less an idle pass of 500");
        assert!(boundary.cost <= boundary.demand, "{boundary:?}");
    }
    let apart = 3 * (1_050 + 2 * 500);
    assert!(together.first.get() < apart, "{} against {apart}", together.first);
}

#[test]
fn who_fits_beside_the_others_stays_over_generations() {
    let plan = planned(&chain(3_000, 2)).expect("fits");
    assert!(plan.components.iter().all(|component| {
        component.blocks.iter().flat_map(|block| &block.pieces).all(|piece| piece.kept)
    }));
    let together = plan.pipeline.as_ref().expect("a pipeline");
    assert_eq!(together.generation, Nanos::new(3 * 3 * 500), "pure compute");
    assert!(together.first > together.generation);
}

#[test]
fn contradictory_holds_are_refused_with_numbers() {
    let mut pipeline = chain(1_500, 1);
    pipeline.members[0].hold = Hold::Resident;
    pipeline.members[1].hold = Hold::Resident;
    match pipeline.plan() {
        Err(Error::Infeasible(answer)) => {
            assert_eq!((answer.needed, answer.available), (Bytes::new(2_000), Bytes::new(1_500)));
            assert!(answer.because.contains("a, b"), "{}", answer.because);
        }
        other => panic!("{other:?}"),
    }
    let mut pipeline = chain(900, 1);
    pipeline.members[2].hold = Hold::Phase;
    match pipeline.plan() {
        Err(Error::Infeasible(answer)) => {
            assert_eq!(answer.smallest_budget, Bytes::new(1_000));
            assert!(answer.because.contains("c as a whole"), "{}", answer.because);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn entries_read_as_they_are_written() {
    for text in ["start", "a.blocks.3", "a.blocks.3@-1"] {
        assert_eq!(text.parse::<Entry>().expect(text).to_string(), text);
    }
    assert!("blocks".parse::<Entry>().is_err());
}

fn built_in(name: &str) -> Manifest {
    model::builtin::load(name).expect(name).expect("a sound manifest")
}

/// The boundary between the two denoisers of Wan2.2 costs no more than the link demands.
#[test]
fn wans_boundary_costs_what_the_link_demands() {
    for (card, height, width) in
        [("24GiB", 720, 1280), ("48GiB", 720, 1280), ("24GiB", 480, 832), ("12GiB", 480, 832)]
    {
        let manifest = built_in("wan2.2-t2v-a14b");
        let mut workload =
            workload::builtin::load("wan2.2-t2v-a14b").expect("known").expect("sound");
        (workload.height, workload.width) = (Some(height), Some(width));
        let request = Request {
            host: None,
            components: vec!["transformer".into(), "transformer_2".into()],
            workload,
            device: device::builtin::load("rtx-4090").expect("known").expect("sound"),
            vram: card.parse().expect("a size"),
            granularity: Granularity::Tensor,
            unit: Unit::Block,
            holds: BTreeMap::new(),
            generations: 1,
            rank: None,
            manifest,
        };
        let plan = request.plan().expect("fits");
        let boundary = &plan.pipeline.as_ref().expect("a pipeline").boundaries[0];
        assert!(boundary.cost <= boundary.demand, "{card}: {boundary:?}");
        assert!(check::check(&program::lower(&plan).expect("a program")).is_ok());
    }
}

#[test]
fn contention_in_a_pipeline_is_predicted_to_the_nanosecond() {
    for (contention, copies) in [(200_000, 0), (0, 300_000), (300_000, 300_000)] {
        let mut pipeline = chain(1_700, 2);
        for member in &mut pipeline.members {
            let device = &mut member.input.instance.device;
            device.contention = Fraction::from_ppm(contention);
            device.copy_contention = Fraction::from_ppm(copies);
        }
        let plan = planned(&pipeline).expect("fits");
        let program = program::lower(&plan).expect("a program");
        let observed = run(&program, Sim::on(&plan.device));
        let ran = observed.spans.iter().map(|span| span.end.get()).max().unwrap_or(0);
        let told = plan.pipeline.as_ref().expect("a pipeline").makespan.get();
        assert_eq!(told, ran, "{contention} {copies}");
        let alone = run(&program, Sim::default());
        let alone = alone.spans.iter().map(|span| span.end.get()).max().unwrap_or(0);
        assert!(alone < ran, "contention costs nothing");
    }
}
