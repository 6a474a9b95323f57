//! What holds on the simulator, on the stand-in and on a real GPU.

use std::collections::BTreeSet;

use vramplan::backend::cuda::{Choice, Cuda, Options, Pattern, Verify, Work};
use vramplan::backend::sim::Sim;
use vramplan::backend::{Backend, Discard, Recorder};
use vramplan::lane::{Lane, OpKind};
use vramplan::plan::{Granularity, Plan};
use vramplan::profile::{Measured, Span, VramSample};
use vramplan::program::image::HostMemory;
use vramplan::units::Nanos;
use vramplan::workload::{Copies, Skip};

use crate::driver::{self, Session};
use crate::models;

/// Keeps everything, in order of span.
#[derive(Default)]
pub struct Kept {
    pub spans: Vec<Span>,
    pub vram: Vec<VramSample>,
}

impl Recorder for Kept {
    fn span(&mut self, span: &Span) {
        self.spans.push(span.clone());
    }

    fn vram(&mut self, sample: VramSample) {
        self.vram.push(sample);
    }
}

const PATTERN: Pattern = Pattern { seed: 3 };

pub fn options() -> Options {
    Options { work: Work::Spin, verify: Verify::Every, ..Options::default() }
}

/// Runs a plan on the GPU.
pub fn on_gpu(session: &Session, plan: &Plan, options: Options) -> (Kept, Measured) {
    let (program, images) = models::lowered(plan);
    let gpu = session.gpu();
    let mut kept = Kept::default();
    let measured = {
        let cuda = Cuda::new(std::rc::Rc::clone(&gpu), &images, &PATTERN, options);
        cuda.run(&program, &mut kept).expect("a run");
        cuda.measured()
    };
    let (made, live) = gpu.live();
    assert!(made > 0 && live == 0, "{live} of {made} owners are left");
    kept.spans.sort_by_key(|span| (span.start, span.lane, span.end));
    (kept, measured)
}

fn in_simulator(plan: &Plan) -> Kept {
    let (program, _) = models::lowered(plan);
    let mut kept = Kept::default();
    Sim::default().run(&program, &mut kept).expect("a simulation");
    kept.spans.sort_by_key(|span| (span.start, span.lane, span.end));
    kept
}

/// What ran, whenever.
pub fn operations(kept: &Kept) -> BTreeSet<(Lane, OpKind, u32, u32, Option<u32>, u64)> {
    let what = |s: &Span| (s.lane, s.op, s.pass, s.block, s.piece, s.bytes.get());
    kept.spans.iter().map(what).collect()
}

#[test]
fn the_same_operations_run_everywhere() {
    let session = driver::session();
    for percent in [40, 70, 100] {
        let plan = models::plan(percent);
        let (gpu, measured) = on_gpu(&session, &plan, options());
        let sim = in_simulator(&plan);
        assert_eq!(gpu.spans.len(), sim.spans.len());
        assert_eq!(operations(&gpu), operations(&sim));
        assert_eq!(measured.verified_passes, plan.components[0].passes);
        assert_eq!(measured.passes[0].len(), plan.components[0].passes as usize);
    }
    session.assert_no_leaks();
}

#[test]
fn components_that_follow_one_another_compute_on_their_own_bytes() {
    let session = driver::session();
    for percent in [40, 160] {
        let plan = models::pipeline(percent);
        let pieces = plan.components.iter().flat_map(|one| &one.blocks).flat_map(|b| &b.pieces);
        assert_eq!(pieces.into_iter().all(|piece| piece.kept), percent > 100);
        // Every byte is compared before its use, in both generations.
        let (gpu, measured) = on_gpu(&session, &plan, options());
        assert_eq!(operations(&gpu), operations(&in_simulator(&plan)));
        assert_eq!(measured.passes.len(), 4, "two components, twice");
    }
}

#[test]
fn blocks_that_take_turns_compute_on_their_own_bytes() {
    let session = driver::session();
    let digest = |plan: &Plan| on_gpu(&session, plan, options()).1;
    let fixed = digest(&models::plan(60)).digest.expect("a digest");
    let mut turning = 0;
    for percent in [40, 60, 80] {
        let mut request = models::request(percent);
        // Copies far longer than compute: a fixed set copies more than turns need.
        request.device.h2d.rate = vramplan::units::Rate::new(2_000_000_000);
        request.granularity = Granularity::Rotating;
        let mut plan = request.plan().expect("a plan");
        turning += usize::from(plan.components[0].turns > 1);
        plan.components[0].passes = 2 * plan.components[0].turns + 1;
        let (gpu, measured) = on_gpu(&session, &plan, options());
        assert_eq!(operations(&gpu), operations(&in_simulator(&plan)));
        assert_eq!(measured.verified_passes, plan.components[0].passes);
        assert_eq!(measured.digest.expect("a digest"), fixed);
    }
    assert!(turning > 0, "taking turns wins somewhere");
    session.assert_no_leaks();
}

#[test]
fn uses_that_passes_leave_out_neither_copy_nor_compute() {
    let session = driver::session();
    let (_, whole) = on_gpu(&session, &models::plan(40), options());
    for copies in [Copies::Cancelled, Copies::Kept] {
        let mut request = models::request(40);
        let passes = ["1", "3"].map(|range| range.parse().expect("a pass")).to_vec();
        let blocks = ["double_blocks.2", "single_blocks.1"];
        let blocks = blocks.map(|block| format!("transformer.{block}")).to_vec();
        request.workload.skips.push(Skip { blocks, passes, copies });
        let plan = request.plan().expect("a plan");
        let (gpu, measured) = on_gpu(&session, &plan, options());
        assert_eq!(operations(&gpu), operations(&in_simulator(&plan)));
        let left = gpu.spans.iter().filter(|s| s.op == OpKind::Copy && s.bytes.is_zero());
        assert_eq!(left.count() > 0, copies == Copies::Cancelled);
        assert_eq!(measured.verified_passes, plan.components[0].passes);
        assert_eq!(measured.digest, whole.digest, "every block ran in some pass");
        let (program, images) = models::lowered(&plan);
        let graph = Options { graph: Choice::On, ..options() };
        let cuda = Cuda::new(session.gpu(), &images, &PATTERN, graph);
        let error = cuda.run(&program, &mut Discard::default()).expect_err("passes that differ");
        assert_eq!(error.to_string(), "--graph on: passes leave blocks out");
    }
    session.assert_no_leaks();
}

#[test]
fn dependencies_and_lanes_hold_in_measured_times() {
    let session = driver::session();
    let plan = models::plan(50);
    let (program, _) = models::lowered(&plan);
    let (kept, _) = on_gpu(&session, &plan, options());
    for lane in Lane::ALL {
        let on = kept.spans.iter().filter(|span| span.lane == lane);
        let mut free = Nanos::ZERO;
        for span in on {
            assert!(span.start >= free, "{lane}: two at a time");
            free = span.end;
        }
    }
    // Every use starts after the copies of its block for its pass, or of the first for what stays.
    for used in kept.spans.iter().filter(|span| span.op == OpKind::Compute) {
        for (piece, place) in program.phases[0].places[used.block as usize].iter().enumerate() {
            let pass = if place.resident { 0 } else { used.pass };
            let of = |s: &&Span| {
                s.op == OpKind::Copy
                    && (s.block, s.piece, s.pass) == (used.block, u32::try_from(piece).ok(), pass)
            };
            let copy = kept.spans.iter().find(of).expect("a copy");
            assert!(copy.end <= used.start);
        }
    }
    assert!(kept.vram.iter().all(|sample| sample.in_use <= program.slab));
    assert!(kept.vram.is_sorted_by_key(|sample| sample.at));
}

#[test]
fn every_policy_and_budget_computes_on_the_same_bytes() {
    let session = driver::session();
    let mut digests = BTreeSet::new();
    let mut names = BTreeSet::new();
    for percent in [40, 60, 80] {
        for (name, plan) in models::policies(percent) {
            let (_, measured) = on_gpu(&session, &plan, options());
            digests.insert(measured.digest.expect("a digest"));
            names.insert(name);
        }
    }
    assert_eq!(digests.len(), 1, "one model, one digest");
    assert!(names.len() >= 10, "{names:?}");
    session.assert_no_leaks();
}

#[test]
fn without_a_manifest_the_digest_is_the_same() {
    let session = driver::session();
    let plan = models::plan(60);
    let (_, with) = on_gpu(&session, &plan, options());
    let (program, _) = models::lowered(&plan);
    let images = vramplan::program::image::images(&plan, None).expect("opaque blocks");
    let cuda = Cuda::new(session.gpu(), &images, &PATTERN, options());
    cuda.run(&program, &mut Discard::default()).expect("a run");
    assert_eq!(cuda.measured().digest, with.digest);
    let other = Pattern { seed: 4 };
    let cuda = Cuda::new(session.gpu(), &images, &other, options());
    cuda.run(&program, &mut Discard::default()).expect("a run");
    assert_ne!(cuda.measured().digest, with.digest);
}

#[test]
fn touch_reads_and_sampling_leaves_out() {
    let session = driver::session();
    let plan = models::plan(60);
    let touch = Options { work: Work::Touch, sample: 2, ..options() };
    let (kept, measured) = on_gpu(&session, &plan, touch);
    let passes = plan.components[0].passes;
    assert_eq!(measured.sample, 2);
    assert!(measured.overhead.is_some());
    for pass in 0..passes {
        let on = kept.spans.iter().filter(|s| s.pass == pass && s.op == OpKind::Compute);
        let all = plan.components[0].blocks.len();
        assert_eq!(on.count(), if pass % 2 == 0 { all } else { 1 }, "pass {pass}");
    }
    let untimed = Options { sample: 0, ..options() };
    let (kept, measured) = on_gpu(&session, &plan, untimed);
    assert!(kept.spans.is_empty());
    assert_eq!(measured.passes[0].len(), passes as usize, "pass times are there all the same");
}

/// Times of events come as milliseconds in 24 bits, each pass anew.
pub const ROUNDING: u64 = 100;

#[test]
fn the_stand_ins_times_are_the_simulators() {
    let Some(session) = driver::stand_in_session() else { return };
    for percent in [40, 60, 80] {
        for (name, mut plan) in models::policies(percent) {
            let (_, images) = models::lowered(&plan);
            let pieces = images[0].blocks.iter().flat_map(|block| &block.pieces);
            // Copies from ordinary memory hold the host, which the program does not say. Host waits cost nothing
            // where the host has no clock.
            if pieces.clone().any(|piece| piece.memory == HostMemory::Pageable) {
                continue;
            }
            for sync in &mut plan.components[0].host_syncs {
                sync.cost = Nanos::ZERO;
            }
            let (gpu, measured) =
                on_gpu(&session, &plan, Options { verify: Verify::No, ..options() });
            let sim = in_simulator(&plan);
            let end = |kept: &Kept| kept.spans.iter().map(|span| span.end.get()).max();
            let (measured_end, predicted) = (end(&gpu), end(&sim));
            let off = measured_end.expect("an end").abs_diff(predicted.expect("an end"));
            assert!(off <= ROUNDING, "{name} at {percent} %: off by {off} ns");
            for (a, b) in gpu
                .spans
                .iter()
                .filter(|s| s.lane == Lane::Compute)
                .zip(sim.spans.iter().filter(|s| s.lane == Lane::Compute))
            {
                assert_eq!((a.block, a.pass), (b.block, b.pass), "{name}");
                assert!(a.start.get().abs_diff(b.start.get()) <= ROUNDING, "{name}: {a:?} {b:?}");
            }
            assert!(measured.clock_error.get() <= 500 + ROUNDING, "{}", measured.clock_error);
        }
    }
}

#[test]
fn nothing_is_allocated_or_waited_for_inside_a_pass() {
    let Some(session) = driver::stand_in_session() else { return };
    let plan = models::plan(50);
    let counted = [
        "cuMemAlloc_v2",
        "cuMemHostAlloc",
        "cuEventCreate",
        "cuStreamCreateWithPriority",
        "cuStreamSynchronize",
    ];
    let mut calls = Vec::new();
    for passes in [4, 12] {
        let mut plan = plan.clone();
        plan.components[0].passes = passes;
        let before: Vec<u64> =
            counted.iter().map(|call| session.get(&format!("calls:{call}"))).collect();
        on_gpu(&session, &plan, Options { verify: Verify::No, ..options() });
        let after = counted.iter().map(|call| session.get(&format!("calls:{call}")));
        calls.push(after.zip(before).map(|(after, before)| after - before).collect::<Vec<_>>());
    }
    assert_eq!(calls[0], calls[1], "{counted:?} do not grow with the passes");
}

#[test]
fn one_copy_per_piece() {
    let Some(session) = driver::stand_in_session() else { return };
    let plan = models::plan(50);
    let (program, _) = models::lowered(&plan);
    let before = session.get("calls:cuMemcpyHtoDAsync_v2");
    let (kept, _) = on_gpu(&session, &plan, Options { verify: Verify::No, ..options() });
    let copies = kept.spans.iter().filter(|span| span.op == OpKind::Copy).count() as u64;
    assert_eq!(session.get("calls:cuMemcpyHtoDAsync_v2") - before, copies);
    assert!(program.phases[0].places.iter().any(|pieces| pieces.len() > 1), "blocks are split");
}

/// Asks once too often.
struct Stops(std::cell::Cell<u32>);

impl Recorder for Stops {
    fn span(&mut self, _: &Span) {}

    fn vram(&mut self, _: VramSample) {}

    fn interrupted(&self) -> bool {
        self.0.set(self.0.get() + 1);
        self.0.get() > 20
    }
}

#[test]
fn the_simulator_can_be_stopped_too() {
    let (program, _) = models::lowered(&models::plan(50));
    let error = Sim::default().run(&program, &mut Stops(0.into())).expect_err("stopped");
    assert_eq!(error.to_string(), "run failed: interrupted in transformer");
}

#[test]
fn streams_that_run_late_change_nothing() {
    let Some(session) = driver::stand_in_session() else { return };
    let plan = models::plan(40);
    let (_, calm) = on_gpu(&session, &plan, options());
    session.set("real_delay_us", 30);
    let (_, shaken) = on_gpu(&session, &plan, options());
    assert_eq!((shaken.digest, shaken.passes), (calm.digest, calm.passes));
}

#[test]
fn a_program_without_its_waits_is_caught() {
    let Some(session) = driver::stand_in_session() else { return };
    session.set("copy_delay_us", 3_000);
    let (mut program, images) = models::lowered(&models::plan(40));
    for op in program.phases[0].schedule.ops.iter_mut().filter(|op| op.kind == OpKind::Compute) {
        op.waits.clear();
    }
    let cuda = Cuda::new(session.gpu(), &images, &PATTERN, options());
    let error = cuda.run(&program, &mut Discard::default()).expect_err("bytes that had not come");
    assert_eq!(error.exit_code(), 6);
    assert!(error.to_string().contains("are not the host's"), "{error}");
}
