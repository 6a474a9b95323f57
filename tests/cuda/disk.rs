//! Pieces that are read from disk for each use: the same operations, the same bytes, and no run that hangs.

use std::sync::atomic::{AtomicU64, Ordering};

use vramplan::backend::Backend;
use vramplan::backend::cuda::{Choice, Cuda, Options, Pattern, Stretch, Verify, Weights};
use vramplan::backend::sim::Sim;
use vramplan::error::{Error, Result};
use vramplan::lane::OpKind;
use vramplan::program::image::HostMemory;

use crate::conformance::{Kept, on_gpu, operations, options};
use crate::driver;
use crate::models;

/// The pattern, with a count of what is asked for; one read of these may fail.
struct Disk {
    pattern: Pattern,
    reads: AtomicU64,
    bytes: AtomicU64,
    fails: u64,
}

impl Disk {
    fn new(fails: u64) -> Self {
        let pattern = Pattern { seed: 3 };
        Self { pattern, reads: AtomicU64::new(0), bytes: AtomicU64::new(0), fails }
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
        assert!(measured.locked < pinned.locked, "what is on disk is not locked");
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
    let plan = models::plan_from_disk(40);
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
fn no_fault_leaves_the_reader_or_a_stream_waiting() {
    let Some(session) = driver::stand_in_session() else { return };
    let plan = models::plan_from_disk(40);
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
    // Reads in another order than copies.
    let reads = |ops: &[vramplan::plan::Op]| {
        let reads = ops.iter().enumerate().filter(|(_, op)| op.kind == OpKind::Read);
        reads.map(|(n, _)| n).collect::<Vec<_>>()
    };
    let at = reads(&program.phases[0].schedule.ops);
    for op in &mut program.phases[0].schedule.ops {
        for wait in &mut op.waits {
            if wait.op == at[0] {
                wait.op = at[1];
            } else if wait.op == at[1] {
                wait.op = at[0];
            }
        }
    }
    let text = refused(&program, &images, Choice::Off);
    assert!(text.contains("are copied in another order than they are read"), "{text}");
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
