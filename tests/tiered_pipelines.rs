//! Invariants of pipelines whose components share a host budget: every tier within its budget at any instant, whatever
//! the timing; prediction equals simulation; never slower than the same plans one after the other.

#![expect(clippy::expect_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod observed;

use std::collections::BTreeMap;

use observed::run;
use proptest::prelude::*;
use vramplan::backend::sim::Sim;
use vramplan::error::Error;
use vramplan::lane::OpKind;
use vramplan::plan::pipeline::{Hold, Member, Pipeline};
use vramplan::plan::{
    BlockPart, Budget, ComponentInput, Digests, Granularity, HostBudget, Instance, PLAN_FORMAT,
    Plan, Unit,
};
use vramplan::profile::Span;
use vramplan::program::{self, Program, check};
use vramplan::units::{Bytes, Fraction, Nanos, Rate};

/// Blocks of some 10 to 300 KB, so that pages of 4 KiB are small.
fn input() -> impl Strategy<Value = ComponentInput> {
    let blocks = prop::collection::vec((10_000u64..300_000, 1_000u64..200_000), 1..6);
    (blocks, 0u64..1_000, 0u64..40_000, 1u32..5).prop_map(|(blocks, vram, root, passes)| {
        let mut instance = Instance::equal(blocks.len() as u64, 1, 1, 0);
        instance.device.alignment = 64;
        instance.device.h2d.latency = Nanos::new(500);
        if let Some(disk) = &mut instance.device.disk {
            (disk.rate, disk.latency) = (Rate::new(400_000_000), Nanos::new(2_000));
        }
        for (used, (bytes, compute)) in instance.uses.iter_mut().zip(blocks) {
            let bytes = bytes / 64 * 64;
            (used.bytes, used.compute) = (Bytes::new(bytes), Nanos::new(compute));
            used.parts = vec![BlockPart::rows("t", used.bytes, Bytes::new(64))];
        }
        let aligned = (0..instance.uses.len()).map(|n| instance.aligned(n).get());
        let (least, all) = aligned.fold((0, 0), |(max, sum), size| (size.max(max), sum + size));
        instance.budget = Bytes::new(least + (all - least) * vram / 1_000);
        ComponentInput {
            name: "model".into(),
            root: Bytes::new(root / 64 * 64),
            root_parts: Vec::new(),
            instance,
            passes,
            reserve: Bytes::ZERO,
            unit: Unit::Block,
            host: None,
            skips: Vec::new(),
        }
    })
}

fn pipelines() -> impl Strategy<Value = Pipeline> {
    let holds =
        prop::sample::select(vec![Hold::Auto, Hold::Auto, Hold::Auto, Hold::Resident, Hold::Phase]);
    let members = prop::collection::vec((input(), holds), 1..4);
    let unit = prop::sample::select(vec![Unit::Block, Unit::Leaf]);
    (members, 1u32..4, 0u64..300_000, 50u64..1_100, 300u64..1_000, unit).prop_map(
        |(members, generations, more, host, lockable, unit)| {
            let mut members: Vec<Member> =
                members.into_iter().map(|(input, hold)| Member { input, hold }).collect();
            for (n, member) in members.iter_mut().enumerate() {
                member.input.name = format!("c{n}");
            }
            let needs = members.iter().map(|member| member.input.weights().get());
            let vram = needs.max().unwrap_or(0) + more;
            let whole: u64 = members.iter().map(|member| member.input.whole().get()).sum();
            let bytes = whole * host / 1_000;
            Pipeline {
                members,
                vram: Bytes::new(vram),
                generations,
                granularity: Granularity::Tensor,
                unit,
                host: Some(HostBudget {
                    bytes: Bytes::new(bytes),
                    lockable: Bytes::new(bytes * lockable / 1_000),
                }),
            }
        },
    )
}

fn planned(pipeline: &Pipeline) -> Option<Plan> {
    let planned = match pipeline.plan() {
        Ok(planned) => planned,
        Err(Error::Infeasible(answer)) => {
            assert!(answer.needed > answer.available, "{answer:?}");
            return None;
        }
        Err(other) => panic!("{other}"),
    };
    let none = || String::new();
    let (vram, host) = (pipeline.vram, pipeline.host.map(|host| host.bytes));
    Some(Plan {
        format: PLAN_FORMAT.to_owned(),
        model: "m".into(),
        digests: Digests { manifest: none(), device: none(), workload: none() },
        granularity: Granularity::Tensor,
        rank: None,
        budget: Budget { vram, reserve: Bytes::ZERO, weights: vram, host },
        generations: pipeline.generations,
        components: planned.components,
        pipeline: Some(planned.together),
        device: pipeline.members[0].input.instance.device.clone(),
    })
}

/// Holds every read from disk against the copies out of the bytes of the ring that it goes to, by time alone.
fn ring_clash(program: &Program, spans: &[Span]) -> Option<String> {
    type Staged = (u64, u64, (u32, u32, Option<u32>, u32), Option<u64>);
    let mut order: Vec<&Span> = spans.iter().collect();
    order.sort_by_key(|span| (span.start, span.op != OpKind::Read));
    let mut rings: BTreeMap<usize, Vec<Staged>> = BTreeMap::new();
    for span in order {
        let phase = &program.phases[span.component as usize];
        let Some(piece) = span.piece else { continue };
        let place = &phase.places[span.block as usize][piece as usize];
        let Some((from, to)) = place.host_range(span.pass) else { continue };
        let own = (span.component, span.block, span.piece, span.pass);
        let ring = rings.entry(phase.of).or_default();
        match span.op {
            OpKind::Read => {
                if to > phase.ring.get() {
                    return Some(format!("{span:?} past the ring"));
                }
                for staged in ring.iter().filter(|staged| staged.0 < to && from < staged.1) {
                    if staged.3.is_none_or(|copied| copied > span.start.get()) {
                        return Some(format!("{span:?} over {staged:?}"));
                    }
                }
                ring.retain(|staged| staged.0 >= to || from >= staged.1);
                ring.push((from, to, own, None));
            }
            OpKind::Copy => match ring.iter_mut().find(|staged| staged.2 == own) {
                Some(staged) => staged.3 = Some(span.end.get()),
                None => return Some(format!("{span:?} of what was not read")),
            },
            _ => {}
        }
    }
    None
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn every_tier_holds_what_it_is_given(pipeline in pipelines(), seed: u64) {
        let Some(plan) = planned(&pipeline) else { return Ok(()) };
        let text = plan.to_yaml().expect("text");
        // Among what is held against the plan: the sums of every component's host memory, and the budget.
        prop_assert_eq!(&Plan::from_yaml("plan", &text).expect("a sound plan"), &plan);
        let program = program::lower(&plan).expect("a program");
        if let Err(problems) = check::check(&program) {
            return Err(TestCaseError::fail(format!("{problems:?}\n{text}")));
        }
        let host = plan.components.iter().filter_map(|component| component.host);
        let locked: u64 = host.map(|used| used.locked.get()).sum();
        prop_assert!(locked <= pipeline.host.expect("a host").lockable.get());
        for jitter in [0, 400_000] {
            let sim = Sim { jitter: Fraction::from_ppm(jitter), seed, ..Sim::default() };
            let observed = run(&program, sim);
            prop_assert!(observed.peak <= program.slab.get());
            prop_assert_eq!(ring_clash(&program, &observed.spans), None);
            if jitter == 0 {
                let together = plan.pipeline.as_ref().expect("a pipeline");
                prop_assert_eq!(observed.end(), together.makespan.get());
            }
        }
    }

    #[test]
    fn together_is_never_slower_than_one_after_the_other(pipeline in pipelines()) {
        let Some(plan) = planned(&pipeline) else { return Ok(()) };
        let apart = plan.components.iter().map(|component| {
            let mut alone = component.clone();
            for piece in alone.blocks.iter_mut().flat_map(|block| &mut block.pieces) {
                (piece.enters_after, piece.kept) = (None, false);
            }
            alone.foresee(&plan.device, Bytes::ZERO).expect("a schedule");
            alone.prediction.makespan.get()
        });
        let together = plan.pipeline.as_ref().expect("a pipeline");
        prop_assert!(together.first.get() <= apart.sum::<u64>());
    }
}
