//! Components that follow one another: lanes run on, what the plan hides is hidden, and every wait that is needed for
//! it is there.

use std::collections::BTreeSet;

use vramplan::backend::Backend;
use vramplan::backend::cuda::{Choice, Cuda, Options, Pattern, Verify};
use vramplan::backend::sim::Sim;
use vramplan::lane::{Lane, OpKind};
use vramplan::plan::Plan;
use vramplan::profile::{Measured, Span};
use vramplan::program::image::ComponentImage;
use vramplan::program::{Enter, Program, check};
use vramplan::units::Nanos;

use crate::conformance::{Kept, ROUNDING, on_gpu, options};
use crate::driver::{self, Session};
use crate::models;

const PATTERN: Pattern = Pattern { seed: 3 };

fn in_simulator(program: &Program) -> Kept {
    let mut kept = Kept::default();
    Sim::default().run(program, &mut kept).expect("a simulation");
    kept.spans.sort_by_key(|span| (span.start, span.lane, span.end));
    kept
}

/// Phase, lane, what, pass, block, piece and bytes of an operation.
type Operation = (u32, Lane, OpKind, u32, u32, Option<u32>, u64);

/// What ran, whenever.
fn operations(kept: &Kept) -> BTreeSet<Operation> {
    let what = |s: &Span| (s.component, s.lane, s.op, s.pass, s.block, s.piece, s.bytes.get());
    kept.spans.iter().map(what).collect()
}

/// Bytes that were copied for a phase before the last use of the phase before it had ended.
fn early(kept: &Kept, phase: u32) -> u64 {
    let before = kept.spans.iter().filter(|s| s.op == OpKind::Compute && s.component + 1 == phase);
    let end = before.map(|span| span.end).max().expect("uses");
    let early = kept.spans.iter().filter(|s| s.lane == Lane::H2d && s.component == phase);
    early.filter(|span| span.start < end).map(|span| span.bytes.get()).sum()
}

/// By lane, the spans in order of time.
fn on(kept: &Kept, lane: Lane) -> Vec<&Span> {
    kept.spans.iter().filter(|span| span.lane == lane).collect()
}

fn with(graph: Choice) -> Options {
    Options { graph, ..options() }
}

#[test]
fn what_a_plan_hides_at_a_boundary_is_hidden() {
    let session = driver::session();
    for (graph, passes) in [(Choice::Off, (5, 4)), (Choice::On, (31, 26))] {
        let plan = models::boundary(60, passes, 1);
        let (program, _) = models::lowered(&plan);
        let entries = &program.phases[1].enters;
        assert!(entries.iter().any(|enter| matches!(enter, Enter::Op { .. })));
        let simulated = in_simulator(&program);
        let planned = early(&simulated, 1);
        assert!(planned > 0, "the plan hides some of it");
        // Every byte is compared before its use.
        let (verified, measured) = on_gpu(&session, &plan, with(graph));
        assert_eq!(operations(&verified), operations(&simulated));
        assert_eq!(measured.verified_passes, passes.0 + passes.1);
        assert_eq!(measured.passes.len(), 2);
        assert!(early(&verified, 1) > 0);
        for issued in &measured.graphs {
            assert_eq!(issued.launches > 0, graph == Choice::On, "{issued:?}");
        }
        if session.is_stand_in() {
            let timed = Options { verify: Verify::No, ..with(graph) };
            let (kept, measured) = on_gpu(&session, &plan, timed);
            assert_eq!(early(&kept, 1), planned, "as much as planned");
            assert_no_correction(&session, &measured);
        }
    }
    session.assert_no_leaks();
}

#[test]
fn no_lane_runs_two_operations_at_once_over_phases() {
    let session = driver::session();
    for graph in [Choice::Off, Choice::On] {
        let plan = models::boundary(60, (12, 11), 3);
        let (kept, measured) = on_gpu(&session, &plan, with(graph));
        for lane in Lane::ALL {
            let spans = on(&kept, lane);
            assert!(spans.windows(2).all(|two| two[0].end <= two[1].start), "{lane}");
            let order: Vec<(u32, u32)> = spans.iter().map(|s| (s.component, s.block)).collect();
            assert!(order.is_sorted_by_key(|(phase, _)| *phase), "{lane}: phases in their order");
        }
        // Passes follow one another on the compute lane: their times add up to its end.
        let sum: u64 = measured.passes.iter().flatten().map(|time| time.get()).sum();
        let end = on(&kept, Lane::Compute).last().expect("uses").end.get();
        assert!(sum.abs_diff(end) <= end / 20, "{sum} {end}");
        let slab = models::lowered(&plan).0.slab;
        assert!(kept.vram.iter().all(|sample| sample.in_use <= slab));
        assert!(kept.vram.is_sorted_by_key(|sample| sample.at));
        assert!(kept.vram.last().expect("samples").in_use.is_zero());
    }
}

/// A span that began before what it waits for had ended would have been moved there, by more than rounding.
fn assert_no_correction(session: &Session, measured: &Measured) {
    let most = Nanos::new(500 + ROUNDING);
    assert!(!session.is_stand_in() || measured.clock_error <= most, "{}", measured.clock_error);
}

/// The stand-in's times against the simulator's, span by span.
fn assert_same_times(session: &Session, plan: &Plan, options: Options, what: &str) {
    let (program, _) = models::lowered(plan);
    let (gpu, measured) = on_gpu(session, plan, Options { verify: Verify::No, ..options });
    assert_no_correction(session, &measured);
    let sim = in_simulator(&program);
    assert_eq!(gpu.spans.len(), sim.spans.len(), "{what}");
    for lane in [Lane::Compute, Lane::H2d] {
        for (a, b) in on(&gpu, lane).into_iter().zip(on(&sim, lane)) {
            let of = |s: &Span| (s.component, s.block, s.piece, s.pass);
            assert_eq!(of(a), of(b), "{what}");
            assert!(a.start.get().abs_diff(b.start.get()) <= ROUNDING, "{what}: {a:?} {b:?}");
            assert_eq!(a.waited_for.is_some(), b.waited_for.is_some(), "{what}: {a:?} {b:?}");
        }
    }
    let peak = |kept: &Kept| kept.vram.iter().map(|sample| sample.in_use).max();
    assert_eq!(peak(&gpu), peak(&sim), "{what}");
}

#[test]
fn the_stand_ins_times_are_the_simulators_over_phases() {
    let Some(session) = driver::stand_in_session() else { return };
    // All streamed, part resident, all resident; kept over generations; phases of one pass.
    let cases = [
        (40, (5, 4), 1),
        (60, (5, 4), 2),
        (90, (6, 3), 1),
        (110, (4, 4), 2),
        (160, (4, 3), 3),
        (60, (1, 1), 3),
        (130, (1, 2), 2),
        (160, (1, 1), 4),
        (100, (3, 1), 4),
    ];
    for (percent, passes, generations) in cases {
        let plan = models::boundary(percent, passes, generations);
        let what = format!("{percent} %, {passes:?} passes, {generations} times");
        assert_same_times(&session, &plan, options(), &what);
    }
    session.assert_no_leaks();
}

#[test]
fn copies_are_not_held_up_by_passes_that_are_not_issued() {
    let Some(session) = driver::stand_in_session() else { return };
    // All of both components stays: copies of the second come while the first
    // passes compute, though the host is only ever one pass ahead.
    let plan = models::boundary(160, (20, 3), 2);
    let (program, _) = models::lowered(&plan);
    for in_flight in [1, 2, 3] {
        let ahead = Options { in_flight, ..options() };
        assert_same_times(&session, &plan, ahead, &format!("{in_flight} in flight"));
    }
    let (kept, _) = on_gpu(&session, &plan, Options { verify: Verify::No, ..options() });
    let first = on(&kept, Lane::H2d).into_iter().find(|span| span.component == 1);
    let first = first.expect("a copy of the second").start;
    let used = on(&kept, Lane::Compute);
    let early = used.iter().filter(|s| s.component == 0 && s.start > first && s.pass < 18);
    assert!(early.count() > 0, "copied long before the last pass");
    assert!(program.phases[1].enters.contains(&Enter::Nothing));
    // With graphs too: nothing of it is part of a launch.
    let (kept, _) = on_gpu(&session, &plan, with(Choice::On));
    let first = on(&kept, Lane::H2d).into_iter().find(|span| span.component == 1);
    let uses = on(&kept, Lane::Compute).into_iter();
    let last = { uses }.rfind(|span| span.component == 0 && span.pass < 18);
    assert!(first.expect("a copy").start < last.expect("a use").start);
}

/// The plan as if its second component said nothing of the first.
fn apart(plan: &mut Plan) {
    for piece in plan.components[1].blocks.iter_mut().flat_map(|block| &mut block.pieces) {
        piece.enters_after = None;
    }
}

#[test]
fn what_says_nothing_waits_for_everything() {
    let session = driver::session();
    let mut plan = models::boundary(60, (5, 4), 2);
    apart(&mut plan);
    let (program, images) = models::lowered(&plan);
    assert!(program.phases[1].is_apart() && program.phases[3].is_apart());
    for graph in [Choice::Off, Choice::On] {
        let mut longer = plan.clone();
        longer.components.iter_mut().for_each(|component| component.passes = 24);
        let plan = if graph == Choice::On { &longer } else { &plan };
        let (kept, _) = on_gpu(&session, plan, with(graph));
        assert_eq!((early(&kept, 1), early(&kept, 3)), (0, 0));
        assert_eq!(operations(&kept), operations(&in_simulator(&models::lowered(plan).0)));
    }
    if session.is_stand_in() {
        assert_same_times(&session, &plan, options(), "apart");
    }
    // One piece that says nothing among others that do.
    let mut mixed = program.clone();
    let whole = models::lowered(&models::boundary(60, (5, 4), 2)).0;
    mixed.phases[1].enters.clone_from(&whole.phases[1].enters);
    let copies = mixed.phases[1].schedule.ops.iter().enumerate();
    let copy = copies.filter(|(_, op)| op.kind == OpKind::Copy).nth(2).expect("copies").0;
    mixed.phases[1].enters[copy] = Enter::Everything;
    assert!(check::check(&mixed).is_ok());
    run(&session, &mixed, &images, options()).expect("every byte is right");
}

/// A read is not on a stream: the thread that reads has to wait for what streams do. Later generations read into the ring
/// that the copies of earlier ones come from.
#[test]
fn reads_of_what_says_nothing_wait_for_everything() {
    let session = driver::session();
    let mut plan = models::plan_on_host(30, 20);
    plan.generations = 3;
    plan.components[0].passes = 2;
    let (program, images) = models::lowered(&plan);
    let reads = program.phases[1].schedule.ops.iter().filter(|op| op.kind == OpKind::Read);
    assert!(reads.count() > 2 && program.phases[1].is_apart());
    if session.is_stand_in() {
        session.reset();
        session.set("kernel_delay_us", 500);
    }
    run(&session, &program, &images, options()).expect("every byte is right");
}

#[test]
fn entries_may_name_passes_before_the_last() {
    let session = driver::session();
    // Copies into bytes that nobody else takes, and reads, which touch none, may wait for whatever comes before.
    let copies = models::boundary(160, (24, 3), 2);
    let mut reads = models::boundary(40, (24, 3), 1);
    models::onto_disk_from(&mut reads, 1);
    let passes = [(Choice::Off, 3, 20), (Choice::On, 3, 20), (Choice::On, 9, 14)];
    for (plan, lane) in [(&copies, Lane::H2d), (&reads, Lane::Disk)] {
        for (graph, passes_back, target) in passes {
            let (mut program, images) = models::lowered(plan);
            let ops = &program.phases[0].schedule.ops;
            let op = ops.iter().rposition(|op| op.kind == OpKind::Compute).expect("a use");
            let phase = &mut program.phases[1];
            let mut changed = 0;
            for (enter, what) in phase.enters.iter_mut().zip(&phase.schedule.ops) {
                if what.lane == lane && (lane == Lane::Disk || *enter == Enter::Nothing) {
                    *enter = Enter::Op { stage: 0, op, passes_back };
                    changed += 1;
                }
            }
            assert!(changed > 0 && check::check(&program).is_ok(), "{lane}");
            if session.is_stand_in() {
                session.reset();
                session.set("real_delay_us", 20);
            }
            let mut kept = Kept::default();
            let measured = {
                let cuda = Cuda::new(session.gpu(), &images, &PATTERN, with(graph));
                cuda.run(&program, &mut kept).expect("every byte is right");
                cuda.measured()
            };
            assert_no_correction(&session, &measured);
            let issued = &measured.graphs[0];
            let launched = 1..=issued.launches * issued.passes_per_launch;
            assert_eq!(launched.contains(&target), graph == Choice::On, "{issued:?}");
            let uses = kept.spans.iter().filter(|s| (s.component, s.pass) == (0, target));
            let used = uses.filter(|span| span.op == OpKind::Compute).map(|span| span.end).max();
            let entering = kept.spans.iter().filter(|s| s.component == 1 && s.lane == lane);
            let first = entering.map(|span| span.start).min();
            assert!(used.is_some() && first >= used, "{lane} {graph:?}: {first:?} {used:?}");
        }
    }
    session.assert_no_leaks();
}

fn run(
    session: &Session,
    program: &Program,
    images: &[ComponentImage],
    options: Options,
) -> vramplan::error::Result<Kept> {
    let mut kept = Kept::default();
    let cuda = Cuda::new(session.gpu(), images, &PATTERN, options);
    cuda.run(program, &mut kept).map(|()| kept)
}

#[test]
fn a_boundary_without_its_waits_is_refused_and_caught() {
    let Some(session) = driver::stand_in_session() else { return };
    for (graph, passes) in [(Choice::Off, (3, 3)), (Choice::On, (24, 22))] {
        let (program, images) = models::lowered(&models::boundary(60, passes, 1));
        session.reset();
        session.set("kernel_delay_us", 500);
        run(&session, &program, &images, with(graph)).expect("with them every byte is right");
        let mut without = program.clone();
        for enter in &mut without.phases[1].enters {
            *enter = Enter::Nothing;
        }
        assert!(check::check(&without).is_err());
        let caught = run(&session, &without, &images, with(graph)).map(|_| ());
        let error = caught.expect_err("bytes that were overwritten");
        assert!(error.to_string().contains("are not the host's"), "{graph:?}: {error}");
        assert!(error.to_string().contains("transformer."), "of the first: {error}");
        session.assert_no_leaks();
    }
}

#[test]
fn every_wait_of_a_boundary_is_needed_or_implied() {
    let plan = models::boundary(60, (3, 3), 1);
    let (program, _) = models::lowered(&plan);
    let (mut refused, mut named) = (0, 0);
    for op in 0..program.phases[1].enters.len() {
        if !matches!(program.phases[1].enters[op], Enter::Op { .. }) {
            continue;
        }
        named += 1;
        let mut without = program.clone();
        without.phases[1].enters[op] = Enter::Nothing;
        refused += u32::from(check::check(&without).is_err());
    }
    // A wait for an earlier use than that of a copy before it on the lane is implied by that.
    assert!(refused > 0 && refused <= named, "{refused} of {named}");
}

#[test]
fn late_streams_change_nothing_at_a_boundary() {
    let Some(session) = driver::stand_in_session() else { return };
    for (graph, passes, generations) in [(Choice::Off, (3, 2), 3), (Choice::On, (22, 22), 2)] {
        let plan = models::boundary(60, passes, generations);
        session.reset();
        let (_, calm) = on_gpu(&session, &plan, with(graph));
        session.set("real_delay_us", 50);
        let (_, shaken) = on_gpu(&session, &plan, with(graph));
        assert_eq!((shaken.digest, shaken.passes), (calm.digest, calm.passes));
    }
}

#[test]
fn events_are_used_again_over_generations() {
    let Some(session) = driver::stand_in_session() else { return };
    for graph in [Choice::Off, Choice::On] {
        let passes = if graph == Choice::On { (22, 22) } else { (3, 3) };
        let made = [7, 14].map(|generations| {
            session.reset();
            let plan = Plan { generations, ..models::boundary(60, passes, 7) };
            on_gpu(&session, &plan, Options { verify: Verify::No, ..with(graph) });
            (session.get("calls:cuEventCreate"), session.get("calls:cuStreamCreateWithPriority"))
        });
        assert_eq!(made[0], made[1], "{graph:?}: events and streams do not grow with generations");
    }
}

#[test]
fn graphs_are_tried_before_the_first_pass() {
    let Some(session) = driver::stand_in_session() else { return };
    let plan = models::boundary(60, (22, 22), 2);
    let (kept, measured) = on_gpu(&session, &plan, with(Choice::Auto));
    assert_eq!(operations(&kept), operations(&in_simulator(&models::lowered(&plan).0)));
    assert_eq!(measured.graphs.len(), 4);
    assert!(measured.graphs.iter().all(|issued| issued.streams.is_some()));
    assert_eq!(measured.graphs[0], measured.graphs[2], "later uses follow the first");
}

#[test]
fn a_component_that_cannot_have_a_graph_goes_without() {
    let session = driver::session();
    let plan = models::boundary(60, (24, 1), 1);
    let (_, measured) = on_gpu(&session, &plan, with(Choice::On));
    assert!(measured.graphs[0].launches > 0 && measured.graphs[1].launches == 0);
    assert!(measured.graphs[1].why.starts_with("no graph: passes repeat only"), "{measured:?}");
}

#[test]
fn every_call_may_fail_at_a_boundary() {
    let Some(session) = driver::stand_in_session() else { return };
    let plan = models::boundary(60, (2, 2), 2);
    let (program, images) = models::lowered(&plan);
    let calls = [
        "cuMemcpyHtoDAsync_v2",
        "cuStreamWaitEvent",
        "cuEventRecord",
        "cuEventSynchronize",
        "cuEventElapsedTime",
        "cuLaunchKernel",
        "cuEventCreate",
    ];
    for call in calls {
        session.reset();
        run(&session, &program, &images, options()).expect("a run");
        let count = session.get(&format!("calls:{call}"));
        for (nth, status) in [(count / 4, 1), (count / 2, 719), (count - 1, 1)] {
            session.reset();
            session.fault(call, nth.max(1), status);
            let error = run(&session, &program, &images, options()).map(|_| ());
            let error = error.expect_err("a fault");
            assert_eq!(error.exit_code(), 6, "{call} {nth}: {error}");
            session.assert_no_leaks();
        }
    }
}

/// Stops in the second component.
struct Stops {
    kept: Kept,
    passed: u32,
}

impl vramplan::backend::Recorder for Stops {
    fn span(&mut self, span: &Span) {
        self.kept.span(span);
    }

    fn vram(&mut self, sample: vramplan::profile::VramSample) {
        self.kept.vram(sample);
    }

    fn passed(&mut self, _: &vramplan::backend::Passed) {
        self.passed += 1;
    }

    fn interrupted(&self) -> bool {
        self.passed > 4
    }
}

#[test]
fn a_run_that_is_stopped_behind_a_boundary_is_whole_until_there() {
    let session = driver::session();
    let plan = models::boundary(60, (4, 6), 1);
    let (program, images) = models::lowered(&plan);
    let mut recorder = Stops { kept: Kept::default(), passed: 0 };
    let text = {
        let cuda = Cuda::new(session.gpu(), &images, &PATTERN, options());
        cuda.run(&program, &mut recorder).expect_err("stopped").to_string()
    };
    assert!(text.contains(" of 6 passes of transformer_2"), "{text}");
    let uses = recorder.kept.spans.iter().filter(|span| span.op == OpKind::Compute);
    let of_first = uses.clone().filter(|span| span.component == 0).count();
    assert_eq!(of_first, 4 * program.phases[0].blocks.len());
    assert!(uses.count() > of_first);
    assert_eq!(recorder.kept.vram.last().map(|sample| sample.in_use.get()), Some(0));
    assert!(recorder.kept.spans.iter().all(|span| span.end >= Nanos::ZERO));
    session.assert_no_leaks();
}
