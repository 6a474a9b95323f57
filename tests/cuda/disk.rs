//! Pieces that are read from disk for each use: the same operations, the same bytes, and no run that hangs.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use vramplan::backend::Backend;
use vramplan::backend::cuda::{Choice, Cuda, Options, Pattern, Stretch, Verify, Weights};
use vramplan::backend::sim::Sim;
use vramplan::error::{Error, Result};
use vramplan::lane::{Lane, OpKind};
use vramplan::plan::{Allocator, Plan};
use vramplan::program::image::{ComponentImage, HostMemory};
use vramplan::program::{Enter, Program, check};
use vramplan::units::Bytes;

use crate::conformance::{Kept, on_gpu, operations, options};
use crate::driver;
use crate::models;

/// The pattern, with a count of what is asked for; one read of these may fail.
struct Disk {
    pattern: Pattern,
    reads: AtomicU64,
    bytes: AtomicU64,
    fails: u64,
    /// What was read, in order: component, block, offset, and the address it was read to.
    seen: Mutex<Vec<(String, String, u64, u64)>>,
}

impl Disk {
    fn new(fails: u64) -> Self {
        let pattern = Pattern { seed: 3 };
        let (reads, bytes) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { pattern, reads, bytes, fails, seen: Mutex::default() }
    }
}

impl Weights for Disk {
    fn read(&self, from: Stretch<'_>, into: &mut [u8]) -> Result<()> {
        let read = self.reads.fetch_add(1, Ordering::Relaxed) + 1;
        if read == self.fails {
            let source = std::io::Error::other("the disk is gone");
            return Err(Error::Read { file: "a checkpoint".to_owned(), source });
        }
        self.bytes.fetch_add(into.len() as u64, Ordering::Relaxed);
        let (component, block) = (from.component.to_owned(), from.block.block.clone());
        let seen = (component, block, from.offset, into.as_ptr() as u64);
        self.seen.lock().expect("a list").push(seen);
        self.pattern.read(from, into)
    }
}

#[test]
fn pieces_from_disk_compute_on_the_same_bytes() {
    let session = driver::session();
    for percent in [40, 60] {
        let plan = models::plan_from_disk(percent);
        let (program, _) = models::lowered(&plan);
        let (kept, measured) = on_gpu(&session, &plan, options());
        let mut simulated = Kept::default();
        Sim::default().run(&program, &mut simulated).expect("a simulation");
        assert_eq!(operations(&kept), operations(&simulated));
        assert!(kept.spans.iter().any(|span| span.op == OpKind::Read));
        let (_, pinned) = on_gpu(&session, &models::plan(percent), options());
        assert_eq!(measured.digest, pinned.digest);
    }
    session.assert_no_leaks();
}

#[test]
fn every_use_reads_again() {
    let session = driver::session();
    let plan = models::plan_from_disk(40);
    let (program, images) = models::lowered(&plan);
    let disk = Disk::new(0);
    let unverified = Options { verify: Verify::No, ..options() };
    let mut kept = Kept::default();
    {
        let cuda = Cuda::new(session.gpu(), &images, &disk, unverified);
        cuda.run(&program, &mut kept).expect("a run");
    }
    let read = kept.spans.iter().filter(|span| span.op == OpKind::Read);
    let read: u64 = read.map(|span| span.bytes.get()).sum();
    let pieces = images[0].blocks.iter().flat_map(|block| &block.pieces);
    let once = pieces.filter(|piece| piece.memory != HostMemory::Disk).map(|piece| piece.bytes());
    assert_eq!(disk.bytes.load(Ordering::Relaxed), once.sum::<u64>() + read);
    session.assert_no_leaks();
}

#[test]
fn late_streams_and_late_reads_change_nothing() {
    let Some(session) = driver::stand_in_session() else { return };
    let plan = models::plan_from_disk(40);
    let (_, calm) = on_gpu(&session, &plan, options());
    session.set("real_delay_us", 100);
    let (_, shaken) = on_gpu(&session, &plan, options());
    assert_eq!(shaken.digest, calm.digest);
}

#[test]
fn a_read_that_fails_ends_the_run_and_is_told() {
    let session = driver::session();
    let plan = models::plan_on_host(40, 50);
    let (program, images) = models::lowered(&plan);
    let whole = Disk::new(0);
    let unverified = Options { verify: Verify::No, ..options() };
    let run = |disk: &Disk| {
        let mut kept = Kept::default();
        let cuda = Cuda::new(session.gpu(), &images, disk, unverified);
        let outcome = cuda.run(&program, &mut kept);
        (outcome, kept)
    };
    run(&whole).0.expect("a run");
    let reads = whole.reads.load(Ordering::Relaxed);
    // In the last pass.
    let (outcome, kept) = run(&Disk::new(reads - 1));
    let error = outcome.expect_err("a disk that is gone");
    assert_eq!(error.exit_code(), 3, "{error}");
    assert!(error.to_string().contains("the disk is gone"), "{error}");
    let passes = plan.components[0].passes;
    assert!(kept.spans.iter().all(|span| span.pass + 1 < passes || span.op != OpKind::Compute));
    assert!(!kept.spans.is_empty(), "what ran before is kept");
    session.assert_no_leaks();
}

#[test]
fn any_read_may_fail() {
    let Some(session) = driver::stand_in_session() else { return };
    let plan = with_two();
    let (program, images) = models::lowered(&plan);
    let unverified = Options { verify: Verify::No, ..options() };
    let run = |disk: &Disk| {
        let cuda = Cuda::new(session.gpu(), &images, disk, unverified);
        cuda.run(&program, &mut Kept::default())
    };
    let whole = Disk::new(0);
    run(&whole).expect("a run");
    let reads = whole.seen.lock().expect("a list").len() as u64;
    let filled = reads - expected(&program, &images).len() as u64;
    for nth in [filled + 1, filled + 2, (filled + reads) / 2, reads - 1, reads] {
        let error = run(&Disk::new(nth)).expect_err("a disk that is gone");
        assert_eq!(error.exit_code(), 3, "{nth} of {reads}: {error}");
        session.assert_no_leaks();
    }
}

#[test]
fn no_fault_leaves_the_reader_or_a_stream_waiting() {
    let Some(session) = driver::stand_in_session() else { return };
    let plan = with_two();
    let (program, images) = models::lowered(&plan);
    let calls = [
        "cuStreamWaitValue32_v2",
        "cuStreamWriteValue32_v2",
        "cuMemcpyHtoDAsync_v2",
        "cuLaunchKernel",
        "cuEventSynchronize",
        "cuMemHostAlloc",
    ];
    for call in calls {
        for (nth, status) in [(1, 1), (7, 719)] {
            session.reset();
            session.fault(call, nth, status);
            {
                let pattern = Pattern { seed: 3 };
                let cuda = Cuda::new(session.gpu(), &images, &pattern, options());
                match cuda.run(&program, &mut Kept::default()) {
                    Ok(()) => assert!(session.get(&format!("calls:{call}")) < nth, "{call} {nth}"),
                    Err(error) => assert_eq!(error.exit_code(), 6, "{call} {nth}: {error}"),
                }
            }
            session.assert_no_leaks();
        }
    }
}

#[test]
fn what_cannot_be_read_is_refused_before_anything_is_allocated() {
    let Some(session) = driver::stand_in_session() else { return };
    let mut plan = models::plan_from_disk(40);
    let (mut program, mut images) = models::lowered(&plan);
    let refused = |program: &_, images: &[_], graph| {
        let pattern = Pattern { seed: 3 };
        let cuda = Cuda::new(session.gpu(), images, &pattern, Options { graph, ..options() });
        let error = cuda.run(program, &mut Kept::default()).expect_err("a refusal");
        error.to_string()
    };
    let forced = refused(&program, &images, Choice::On);
    assert_eq!(forced, "--graph on: pieces are read from disk");
    session.reset();
    // A ring that is smaller than what is read into it.
    program.phases[0].ring = Bytes::new(program.phases[0].ring.get() - 1);
    let text = refused(&program, &images, Choice::Off);
    assert!(text.contains("a piece from disk lies outside of its ring of"), "{text}");
    assert_eq!(session.get("made:device memory"), 0);
    plan.components[0].passes = 2;
    (program, _) = models::lowered(&plan);
    let pieces = images[0].blocks.iter_mut().flat_map(|block| &mut block.pieces);
    for piece in pieces.filter(|piece| piece.memory == HostMemory::Disk) {
        piece.returns = true;
    }
    let text = refused(&program, &images, Choice::Off);
    assert!(text.contains("pieces from disk are never copied back"), "{text}");
    assert_eq!(session.get("made:host memory"), 0);
}

/// Two components under one host budget: the second waits for all of the first, reads included.
fn with_two() -> Plan {
    let each = [20, 30, 40, 50, 60].into_iter().filter_map(|host| {
        let mut request = models::boundary_request(50, (3, 2), 1);
        models::on_host(&mut request, host);
        request.plan().ok()
    });
    let reads = |plan: &Plan| {
        let read = |op: &vramplan::plan::Op| op.kind == OpKind::Read;
        let phases = models::lowered(plan).0.phases;
        phases.iter().all(|phase| phase.schedule.ops.iter().any(read))
    };
    let mut plan = { each }.find(reads).expect("both read from disk");
    for piece in plan.components[1].blocks.iter_mut().flat_map(|block| &mut block.pieces) {
        piece.enters_after = None;
    }
    plan
}

/// The reads of a program in its order: component, block, offset in the block, offset in the ring.
fn expected(program: &Program, images: &[ComponentImage]) -> Vec<(String, String, u64, u64)> {
    let mut reads = Vec::new();
    for phase in &program.phases {
        let image = &images[phase.of];
        for pass in 0..phase.passes {
            let ops = phase.schedule.ops.iter().filter(|op| op.kind == OpKind::Read);
            for op in ops.filter(|op| op.when.includes(pass, phase.passes)) {
                let (block, piece) = (&image.blocks[op.block], op.piece.expect("a piece"));
                let place = &phase.places[op.block][piece];
                let (mut at, _) = place.host_range(pass + op.ahead).expect("a place in the ring");
                for range in &block.pieces[piece].ranges {
                    let (component, block) = (image.component.clone(), block.block.clone());
                    reads.push((component, block, range.start, at));
                    at += range.end - range.start;
                }
            }
        }
    }
    reads
}

#[test]
fn the_ring_is_the_plans() {
    let session = driver::session();
    let mut rings = 0;
    let plans = [
        models::plan_on_host(40, 30),
        models::plan_on_host(40, 50),
        models::plan_on_host(60, 70),
        with_two(),
        models::plan_from_disk(40),
    ];
    for plan in plans {
        let (program, images) = models::lowered(&plan);
        let disk = Disk::new(0);
        let unverified = Options { verify: Verify::No, ..options() };
        if session.is_stand_in() {
            session.reset();
        }
        let measured = {
            let cuda = Cuda::new(session.gpu(), &images, &disk, unverified);
            cuda.run(&program, &mut Kept::default()).expect("a run");
            cuda.measured()
        };
        // What is locked is what the plan says, to a page.
        if let Some(planned) = plan.components.iter().map(|c| c.host).collect::<Option<Vec<_>>>() {
            let planned: Bytes = planned.iter().map(|host| host.locked).sum();
            assert_eq!(measured.locked, planned);
            rings += 1;
        }
        let ring = |of: usize| {
            let phase = program.phases.iter().find(|phase| phase.of == of).expect("a phase");
            Allocator::Pages.locked(phase.ring)
        };
        if session.is_stand_in() {
            // Besides there are numbers, and a gate while kernels are warmed up.
            let peak = session.get("pinned_peak");
            assert!(
                (measured.locked.get()..measured.locked.get() + 4_096).contains(&peak),
                "{peak}"
            );
        }
        // Reads come in the plan's order, each to the plan's offset of its component's ring.
        let seen = disk.seen.into_inner().expect("a list");
        let expected = expected(&program, &images);
        let mut starts: BTreeMap<String, u64> = BTreeMap::new();
        for (found, planned) in seen[seen.len() - expected.len()..].iter().zip(&expected) {
            assert_eq!((&found.0, &found.1, found.2), (&planned.0, &planned.1, planned.2));
            let start = *starts.entry(planned.0.clone()).or_insert(found.3 - planned.3);
            assert_eq!(found.3, start + planned.3, "{planned:?}");
            let of = images.iter().position(|image| image.component == planned.0).expect("one");
            assert!(planned.3 < ring(of).get());
        }
    }
    assert!(rings >= 4, "plans with rings");
    session.assert_no_leaks();
}

#[test]
fn a_ring_shared_by_all_pieces_brings_the_same_bytes() {
    let session = driver::session();
    let (_, pinned) = on_gpu(&session, &models::plan(40), options());
    for host in [30, 50, 70] {
        let plan = models::plan_on_host(40, host);
        let (program, _) = models::lowered(&plan);
        let (kept, measured) = on_gpu(&session, &plan, options());
        let mut simulated = Kept::default();
        Sim::default().run(&program, &mut simulated).expect("a simulation");
        assert_eq!(operations(&kept), operations(&simulated));
        assert_eq!(measured.digest, pinned.digest, "{host} %");
        assert!(measured.locked < pinned.locked, "{host} %: what is on disk is not locked");
    }
    session.assert_no_leaks();
}

#[test]
fn reads_follow_the_boundaries() {
    let Some(session) = driver::stand_in_session() else { return };
    let apart = with_two();
    let mut together = models::boundary(40, (3, 3), 2);
    models::onto_disk(&mut together);
    for (plan, entered) in [(&apart, Enter::Everything), (&together, Enter::Nothing)] {
        let (program, _) = models::lowered(plan);
        let phase = &program.phases[1];
        let read = phase.schedule.ops.iter().position(|op| op.kind == OpKind::Read);
        let enter = phase.enters[read.expect("reads")];
        assert_eq!(enter == Enter::Everything, entered == Enter::Everything, "{enter:?}");
        let mut digests = Vec::new();
        for delay in [0, 100] {
            session.reset();
            session.set("real_delay_us", delay);
            let (kept, measured) = on_gpu(&session, plan, options());
            assert!(kept.spans.iter().any(|s| s.lane == Lane::Disk && s.component == 1));
            digests.push(measured.digest);
        }
        assert_eq!(digests[0], digests[1]);
    }
}

/// The pattern, with how many kernels had been run when a component was read.
struct Watched(Mutex<Vec<(String, u64)>>);

impl Weights for Watched {
    fn read(&self, from: Stretch<'_>, into: &mut [u8]) -> Result<()> {
        let read = (from.component.to_owned(), driver::kernels_run());
        self.0.lock().expect("a list").push(read);
        Pattern { seed: 3 }.read(from, into)
    }
}

#[test]
fn reads_that_wait_for_everything_do() {
    let Some(session) = driver::stand_in_session() else { return };
    let plan = with_two();
    let (program, images) = models::lowered(&plan);
    session.set("kernel_delay_us", 1_000);
    let watched = Watched(Mutex::default());
    {
        let unverified = Options { verify: Verify::No, ..options() };
        let cuda = Cuda::new(session.gpu(), &images, &watched, unverified);
        cuda.run(&program, &mut Kept::default()).expect("a run");
    }
    let first = &program.phases[0];
    let used = first.schedule.ops.iter().filter(|op| op.kind == OpKind::Compute);
    let uses = used.filter(|op| op.duration.get() > 0).count() as u64 * u64::from(first.passes);
    let count = expected(&program, &images).iter().filter(|read| read.0 == "transformer_2").count();
    let seen = watched.0.into_inner().expect("a list");
    let of_second: Vec<u64> =
        seen.iter().filter(|(of, _)| of == "transformer_2").map(|&(_, run)| run).collect();
    for run in &of_second[of_second.len() - count..] {
        assert!(*run >= uses, "{run} of {uses} uses of the first had ended");
    }
}

/// The pattern, from a disk that takes its time.
struct Slow(std::time::Duration);

impl Weights for Slow {
    fn read(&self, from: Stretch<'_>, into: &mut [u8]) -> Result<()> {
        std::thread::sleep(self.0);
        Pattern { seed: 3 }.read(from, into)
    }
}

/// Whether streamed pieces of different blocks take the same bytes of the ring.
fn shares(program: &Program) -> bool {
    let places = program.phases[0].places.iter().enumerate();
    let places = places.flat_map(|(block, places)| places.iter().map(move |place| (block, place)));
    let streamed = places.filter(|(_, place)| !place.resident);
    let ranges = streamed.filter_map(|(block, place)| Some((block, place.host_range(0)?)));
    let ranges: Vec<(usize, (u64, u64))> = ranges.collect();
    ranges.iter().any(|(a, (from, to))| {
        ranges.iter().any(|(b, (start, end))| a != b && start < to && from < end)
    })
}

#[test]
fn a_ring_without_its_waits_is_refused_and_caught() {
    let Some(session) = driver::stand_in_session() else { return };
    let plans = [20, 25, 30, 35, 40, 45, 50].map(|host| models::plan_on_host(40, host));
    let lowered = plans.iter().map(models::lowered);
    let (mut program, images) = { lowered }.find(|(program, _)| shares(program)).expect("a ring");
    program.phases[0].passes = 3;
    let run = |program: &Program, (streams, reads): (u64, u64)| {
        session.reset();
        session.set("copy_delay_us", streams);
        let slow = Slow(std::time::Duration::from_micros(reads));
        let cuda = Cuda::new(session.gpu(), &images, &slow, options());
        cuda.run(program, &mut Kept::default())
    };
    // Streams that are slower than the disk, and the other way round.
    let (late_copies, late_reads) = ((8_000, 0), (0, 10_000));
    for delays in [late_copies, late_reads] {
        run(&program, delays).expect("with them every byte is right");
    }
    for (kind, delays) in [(OpKind::Read, late_copies), (OpKind::Copy, late_reads)] {
        let mut without = program.clone();
        let reads: Vec<bool> =
            program.phases[0].schedule.ops.iter().map(|op| op.kind == OpKind::Read).collect();
        for op in without.phases[0].schedule.ops.iter_mut().filter(|op| op.kind == kind) {
            // Reads of their places, copies of their reads.
            op.waits.retain(|wait| kind == OpKind::Copy && !reads[wait.op]);
        }
        assert!(check::check(&without).is_err(), "{kind:?}");
        let outcome = run(&without, delays);
        let error = outcome.map_err(|error| error.to_string()).expect_err(kind.name());
        assert!(error.contains("are not the host's"), "{kind:?}: {error}");
        session.assert_no_leaks();
    }
}
