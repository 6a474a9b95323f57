//! Injected faults: each a clear error, and nothing leaks.

use std::cell::Cell;

use expect_test::expect;
use vramplan::backend::cuda::{Choice, Cuda, Gpu, Options, Pattern, Stretch, Verify, Weights};
use vramplan::backend::{Backend, Passed, Recorder};
use vramplan::error::{Error, Result};
use vramplan::profile::{Span, VramSample};

use crate::conformance::{Kept, options};
use crate::driver::{self, Session};
use crate::models;

/// Runs our plan; gives what was recorded and how it ended.
fn run(session: &Session, options: Options) -> (Kept, Result<()>) {
    let plan = models::plan(50);
    let (program, images) = models::lowered(&plan);
    let mut kept = Kept::default();
    let pattern = Pattern { seed: 3 };
    let outcome = Gpu::open(0, true).and_then(|gpu| {
        let cuda = Cuda::new(gpu, &images, &pattern, options);
        cuda.check_budget(plan.budget.vram, program.slab)?;
        cuda.run(&program, &mut kept)
    });
    session.assert_no_leaks();
    (kept, outcome)
}

fn message(outcome: Result<()>, code: u8) -> String {
    let error = outcome.expect_err("a failure");
    assert_eq!(error.exit_code(), code, "{error}");
    error.to_string()
}

#[test]
fn every_call_may_fail() {
    let Some(session) = driver::stand_in_session() else { return };
    let calls = [
        "cuDeviceGetCount",
        "cuDevicePrimaryCtxRetain",
        "cuCtxSetCurrent",
        "cuMemGetInfo_v2",
        "cuMemAlloc_v2",
        "cuMemHostAlloc",
        "cuMemcpyHtoDAsync_v2",
        "cuMemcpyDtoHAsync_v2",
        "cuMemsetD8Async",
        "cuStreamCreateWithPriority",
        "cuCtxGetStreamPriorityRange",
        "cuStreamSynchronize",
        "cuStreamWaitEvent",
        "cuEventCreate",
        "cuEventRecord",
        "cuEventSynchronize",
        "cuEventElapsedTime",
        "cuModuleLoadData",
        "cuModuleGetFunction",
        "cuLaunchKernel",
    ];
    for call in calls {
        for (nth, status) in [(1, 1), (2, 999), (9, 700)] {
            session.reset();
            session.fault(call, nth, status);
            let (_, outcome) = run(&session, options());
            let left = session.get(&format!("calls:{call}")) < nth;
            match outcome {
                Err(error) => {
                    assert!(matches!(error.exit_code(), 5 | 6), "{call} {nth}: {error}");
                    let named = call.trim_end_matches("_v2").trim_end_matches("WithPriority");
                    assert!(error.to_string().contains(named), "{call}: {error}");
                }
                // A look at free memory after the run is no reason to fail.
                Ok(()) => assert!(left || call == "cuMemGetInfo_v2", "{call} {nth} went unseen"),
            }
        }
    }
}

#[test]
fn memory_that_is_not_there() {
    let Some(session) = driver::stand_in_session() else { return };
    session.set("taken", (1 << 30) - (32 << 20));
    let (_, outcome) = run(&session, options());
    expect!["run failed: the plan's budget is 69.1 MiB (4.1 MiB of it the slab), but 31.0 MiB of the 1.0 GiB of vramplan stand-in (no GPU) are free now; free memory, or plan with --vram 31MiB"].assert_eq(&message(outcome, 6));

    // Another process is faster than we are: free when asked, gone when allocated.
    session.reset();
    session.fault("cuMemAlloc_v2", 2, 2);
    let (_, outcome) = run(&session, options());
    expect!["run failed: the slab of 4.1 MiB does not fit, 1023.0 MiB are free now: cuMemAlloc: CUDA_ERROR_OUT_OF_MEMORY (out of memory)"].assert_eq(&message(outcome, 6));

    session.reset();
    session.set("pinned_limit", 1 << 20);
    let (_, outcome) = run(&session, options());
    expect!["run failed: 8.1 MiB of page-locked memory for transformer were refused: cuMemHostAlloc: CUDA_ERROR_OUT_OF_MEMORY (out of memory); free host memory, or raise the limit on locked memory (ulimit -l)"].assert_eq(&message(outcome, 6));
}

#[test]
fn what_ran_before_a_fault_is_kept() {
    let Some(session) = driver::stand_in_session() else { return };
    let (whole, outcome) = run(&session, options());
    outcome.expect("a run");
    // Half of the launches in.
    let launches = session.get("calls:cuLaunchKernel");
    for status in [1, 700] {
        session.reset();
        session.fault("cuLaunchKernel", launches * 2 / 3, status);
        let (kept, outcome) = run(&session, options());
        let text = message(outcome, 6);
        let place = "compute of transformer.";
        assert!(text.contains(place) && text.contains("pass 3: cuLaunchKernel"), "{text}");
        assert_eq!(text.contains("start vramplan again"), status == 700, "{text}");
        assert!(!kept.spans.is_empty() && kept.spans.len() < whole.spans.len());
    }
}

#[test]
fn a_wrong_byte_is_found_and_named() {
    let Some(session) = driver::stand_in_session() else { return };
    let (kept, _) = run(&session, options());
    let copies = kept.spans.iter().filter(|s| !s.bytes.is_zero()).count() as u64;
    session.reset();
    session.set("flip", copies / 2);
    let (_, outcome) = run(&session, options());
    let text = message(outcome, 6);
    expect!["run failed: transformer.double_blocks.1, pass 2, offset 655360 (to 663985) of the block, piece 0 at 3480064 in the slab: the bytes on the device are not the host's (digest 50b99473adc2d277, expected c7b34f09a725aec7)"].assert_eq(&text);
    session.reset();
    session.set("flip", copies / 2);
    let (_, outcome) = run(&session, Options { verify: Verify::No, ..options() });
    outcome.expect("nobody looked");
}

#[test]
fn a_gpu_that_is_not_there() {
    let session = driver::session();
    let error = Gpu::open(7, true).expect_err("one GPU");
    assert_eq!(error.exit_code(), 2);
    assert!(error.to_string().starts_with("--gpu 7: this machine has "), "{error}");
    if session.is_stand_in() {
        let error = Gpu::open(0, false).expect_err("no GPU");
        expect![[r#"the cuda backend is not available: the driver library found is a test's "vramplan stand-in (no GPU)", not a GPU's"#]].assert_eq(&error.to_string());
        session.fault("cuInit", 1, 100);
        let error = Gpu::open(0, true).expect_err("no GPU");
        expect!["the cuda backend is not available: cuInit: CUDA_ERROR_NO_DEVICE (no CUDA-capable device is detected)"].assert_eq(&error.to_string());
    }
}

/// Weights whose second half cannot be read.
struct HalfGone {
    read: std::sync::atomic::AtomicU64,
}

impl Weights for HalfGone {
    fn read(&self, from: Stretch<'_>, into: &mut [u8]) -> Result<()> {
        let before = self.read.fetch_add(into.len() as u64, std::sync::atomic::Ordering::Relaxed);
        if before < 1 << 20 {
            return Ok(());
        }
        let source = std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
        Err(Error::Read { file: format!("{} of a disk", from.block.block), source })
    }
}

#[test]
fn a_half_filled_arena_runs_nothing() {
    let session = driver::session();
    let (program, images) = models::lowered(&models::plan(50));
    let weights = HalfGone { read: 0.into() };
    let mut kept = Kept::default();
    {
        let cuda = Cuda::new(session.gpu(), &images, &weights, options());
        let error = cuda.run(&program, &mut kept).expect_err("half");
        assert_eq!(error.exit_code(), 3);
        assert!(error.to_string().contains("of a disk"), "{error}");
    }
    assert!(kept.spans.is_empty());
    session.assert_no_leaks();
}

/// Stops after some passes.
struct Impatient {
    kept: Kept,
    asked: Cell<u32>,
    passed: u32,
}

impl Recorder for Impatient {
    fn span(&mut self, span: &Span) {
        self.kept.span(span);
    }

    fn vram(&mut self, sample: VramSample) {
        self.kept.vram(sample);
    }

    fn passed(&mut self, _: &Passed) {
        self.passed += 1;
    }

    fn interrupted(&self) -> bool {
        self.asked.set(self.asked.get() + 1);
        self.asked.get() > 3
    }
}

#[test]
fn an_interrupted_run_keeps_what_was_issued() {
    let session = driver::session();
    for (graph, passes) in [(Choice::Off, 5), (Choice::On, 40)] {
        let mut plan = models::plan(50);
        plan.components[0].passes = passes;
        let (program, images) = models::lowered(&plan);
        let pattern = Pattern { seed: 3 };
        let mut recorder = Impatient { kept: Kept::default(), asked: Cell::new(0), passed: 0 };
        let text = {
            let options = Options { graph, ..options() };
            let cuda = Cuda::new(session.gpu(), &images, &pattern, options);
            cuda.run(&program, &mut recorder).expect_err("interrupted").to_string()
        };
        let issued = text.strip_prefix("run failed: interrupted after ");
        let issued =
            issued.and_then(|rest| rest.split_once(&format!(" of {passes} passes of transformer")));
        let issued: u32 = issued.expect("how many").0.parse().expect("a number");
        assert!(issued >= 3 && issued < passes && (graph == Choice::On || issued == 3), "{text}");
        assert_eq!(recorder.passed, issued);
        let last = recorder.kept.spans.iter().map(|span| span.pass).max();
        assert!(last >= Some(issued - 1), "{last:?}");
        session.assert_no_leaks();
    }
}
