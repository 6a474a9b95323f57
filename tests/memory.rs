//! Counts allocations: a simulation that keeps no spans needs no more memory for a million passes than for ten, and a
//! reader of traces needs little more than the rows that it keeps.

#![expect(clippy::expect_used, reason = "a test that cannot go on has failed")]
#![expect(
    unsafe_code,
    reason = "a global allocator that counts can only be written in unsafe code"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

#[path = "trace/generate.rs"]
mod generate;

use generate::{Generated, ROWS_PER_STEP};
use vramplan::backend::sim::Sim;
use vramplan::backend::{Backend, Discard};
use vramplan::plan::{Granularity, Instance, plan_instance};
use vramplan::profile::trace::{Keep, figures, read_chrome};
use vramplan::program::{Phase, Program};

/// The system's allocator, with the bytes in use and the most that ever were.
struct Counting;

static IN_USE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: all functions pass their arguments on unchanged; counting touches no memory but the counters.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = IN_USE.fetch_add(layout.size(), Relaxed) + layout.size();
        PEAK.fetch_max(now, Relaxed);
        // SAFETY: the caller's promise on `layout` is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // Large blocks grow in place, by moving pages: old and new are never both there.
        let now = IN_USE.fetch_add(size, Relaxed) + size - layout.size();
        IN_USE.fetch_sub(layout.size(), Relaxed);
        PEAK.fetch_max(now, Relaxed);
        // SAFETY: `pointer` came from `alloc` above with this layout; the caller's promise on `size` is passed on.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: `pointer` came from `alloc` above with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The most bytes that a run of so many passes adds to what was in use before, and its operations.
fn run(passes: u32) -> (usize, u64) {
    let instance = Instance::equal(40, 100, 60, 1_000);
    let mut plan = plan_instance(&instance, Granularity::Block).expect("a plan");
    plan.passes = passes;
    let device = Instance::equal(1, 1, 1, 1).device;
    let phase = Phase { places: Vec::new(), ..Phase::of(&plan, &device).expect("a phase") };
    let program = Program { slab: plan.slab.bytes, phases: vec![phase] };
    let before = IN_USE.load(Relaxed);
    PEAK.store(before, Relaxed);
    let mut counts = Discard::default();
    Sim::default().run(&program, &mut counts).expect("a run to the end");
    (PEAK.load(Relaxed) - before, counts.operations)
}

// One test, because two at a time would count each other's bytes.
#[test]
fn memory_is_bounded_by_what_is_kept() {
    simulation();
    traces();
}

fn simulation() {
    let (few, operations) = run(10);
    assert!(few > 0 && operations > 400);
    let (many, operations) = run(20_000);
    assert!(operations > 1_000_000);
    assert_eq!(few, many);
}

/// A trace of 120 MB of text, read while it is written: the peak is at most 1.2 times the rows and launches kept,
/// beside the buffers.
fn traces() {
    let steps = 12_000;
    let before = IN_USE.load(Relaxed);
    PEAK.store(before, Relaxed);
    let trace = read_chrome("x.json", Generated::new(steps), Keep::default()).expect("a trace");
    let figures = figures(&trace);
    let peak = PEAK.load(Relaxed) - before;
    assert_eq!(trace.rows().len() as u64, steps * ROWS_PER_STEP);
    let one = &figures[&0];

    assert_eq!(one.htod_busy.get(), steps * 100_000);
    assert_eq!(one.kernel_busy.get(), steps * 8 * 90_000);
    let kept = size_of_val(trace.rows()) + size_of_val(trace.launches.as_slice());
    let buffers = 1 << 20;
    assert!(peak <= kept + kept / 5 + buffers, "peak {peak}, kept {kept}");
}
