//! Blocks found by ranges, by repetition, and not at all.

use super::*;
use crate::profile::trace::{Builder, Format, Kind, Memory, Place, Raw};

/// Kernels of one block: name and length in ns.
const BLOCK: [(&str, i64); 3] = [("norm", 10), ("gemm", 100), ("gemm", 100)];

fn lists(counts: &[u64]) -> Vec<ListShape> {
    let name = |index: usize| format!("blocks{index}");
    let counts = counts.iter().enumerate();
    counts
        .map(|(index, &count)| ListShape {
            list: name(index),
            class: None,
            count,
            bytes: Some(300 << 20),
        })
        .collect()
}

/// Copies of one block: two that are weights and a norm that is small.
const COPIES: [u64; 3] = [200 << 20, 100 << 20, 16 << 10];

struct Run {
    builder: Builder,
    clock: i64,
    correlation: u64,
}

impl Run {
    fn new() -> Self {
        Self { builder: Builder::new(Format::ChromeJson), clock: 0, correlation: 0 }
    }

    /// A kernel, 5 ns after the one before, launched 1000 ns earlier by thread 1.
    fn kernel(&mut self, name: &str, length: i64) {
        self.correlation += 1;
        let start = self.clock + 5;
        self.clock = start + length;
        self.builder.launch(self.correlation, start - 1_000, 1);
        self.builder.row(&Raw {
            device: 0,
            stream: 7,
            kind: Kind::of_kernel(name),
            memory: Memory::Unknown,
            name,
            start,
            end: self.clock,
            bytes: None,
            correlation: self.correlation,
        });
    }

    /// A copy to the device of 90 ns.
    fn copy(&mut self, bytes: u64) {
        let start = self.clock + 5;
        self.clock = start + 90;
        self.builder.row(&Raw {
            device: 0,
            stream: 9,
            kind: Kind::Htod,
            memory: Memory::Pinned,
            name: "Memcpy HtoD (Pinned -> Device)",
            start,
            end: self.clock,
            bytes: Some(bytes),
            correlation: 0,
        });
    }

    /// A pass that copies and computes in turn, with kernels that no two blocks share.
    fn streamed(&mut self, count: u64, length: i64) {
        for block in 0..count {
            COPIES.iter().for_each(|bytes| self.copy(*bytes));
            self.correlation += 1;
            let name = format!("kernel_{block}_{}", self.correlation);
            self.kernel(&name, length);
        }
    }

    /// A pass over so many blocks; the last kernel is `slower` ns longer.
    fn pass(&mut self, list: &str, count: u64, slower: i64, named: bool) {
        for block in 0..count {
            let from = self.clock;
            for (index, (name, length)) in BLOCK.iter().enumerate() {
                self.kernel(name, length + if index == 2 { slower } else { 0 });
            }
            if named {
                let name = format!("model.{list}.{block}");
                self.builder.annotation(Place::Thread(1), &name, from - 999, self.clock - 1_000);
            }
        }
    }
}

#[test]
fn ranges_name_blocks_and_gaps_do_not_count() {
    let mut run = Run::new();
    for slower in [500, 0, 2, 4] {
        run.kernel("embed", 50);
        run.pass("blocks0", 3, slower, true);
    }
    let found = block_times(&run.builder.finish(), 0, &lists(&[3])).expect("blocks");
    assert_eq!((found.found, found.passes()), (Found::Annotations, 4));
    // 210 ns of kernels and the median of 0, 2 and 4; the first pass warmed up, gaps of 5 ns are no compute.
    let block = found.blocks[&(0, 1)];
    assert_eq!((block.median.get(), block.range.1.get()), (212, 214));
    assert_eq!(found.kernels.get() - found.inside.get(), 4 * 50);
}

#[test]
fn kernels_that_repeat_as_often_as_a_list_has_blocks_are_its_blocks() {
    let mut run = Run::new();
    for _ in 0..3 {
        run.kernel("embed", 50);
        run.pass("", 5, 0, false);
        run.kernel("between", 7);
        for _ in 0..8 {
            run.kernel("single", 40);
            run.kernel("gate", 3);
        }
        run.kernel("head", 9);
    }
    let trace = run.builder.finish();
    let found = block_times(&trace, 0, &lists(&[5, 8])).expect("blocks");
    assert_eq!((found.found, found.passes()), (Found::RepeatingKernels, 3));
    assert_eq!(found.blocks.len(), 13);
    assert_eq!((found.blocks[&(0, 4)].median.get(), found.blocks[&(1, 0)].median.get()), (210, 43));
    let why = block_times(&trace, 0, &lists(&[5, 9])).expect_err("no list of nine");
    assert!(why.contains("no sequence of kernels repeats 9 times, as blocks1 does"), "{why}");
    let why = block_times(&trace, 0, &lists(&[5, 5])).expect_err("two lists of five");
    assert!(why.contains("several lists have 5 blocks each"), "{why}");
    assert!(block_times(&trace, 0, &lists(&[3])).is_err());
}

#[test]
fn copies_that_repeat_are_blocks_though_no_kernels_do() {
    let mut run = Run::new();
    for _ in 0..3 {
        run.copy(777 << 20);
        run.kernel("embed", 50);
        run.streamed(6, 300);
        run.kernel("head", 70);
    }
    let trace = run.builder.finish();
    let found = block_times(&trace, 0, &lists(&[6])).expect("blocks");
    assert_eq!((found.found, found.passes(), found.blocks.len()), (Found::RepeatingCopies, 3, 6));
    assert!(found.blocks.values().all(|block| block.median.get() == 300));
    // After the last copy of a pass nothing says where its block ends: five of six blocks lie between copies.
    assert_eq!(found.inside.get(), 3 * 5 * 300);
    let why = block_times(&trace, 0, &lists(&[7])).expect_err("no list of seven");
    assert!(why.ends_with("no sequence of copies repeats as the blocks of blocks0 do"), "{why}");
}

#[test]
fn passes_without_another_copy_between_are_told_by_the_bytes_of_a_block() {
    let mut run = Run::new();
    run.streamed(24, 300);
    let trace = run.builder.finish();
    let found = block_times(&trace, 0, &lists(&[6])).expect("four passes");
    assert_eq!((found.found, found.passes()), (Found::RepeatingCopies, 4));
    let other = ListShape { bytes: Some(50 << 20), ..lists(&[6]).remove(0) };
    assert!(block_times(&trace, 0, &[other]).is_err(), "no block of these bytes");
}

#[test]
fn weights_that_are_only_loaded_say_nothing_of_compute() {
    let mut run = Run::new();
    for _ in 0..6 {
        COPIES.iter().for_each(|bytes| run.copy(*bytes));
    }
    run.kernel("head", 9);
    let why = block_times(&run.builder.finish(), 0, &lists(&[6])).expect_err("a load");
    assert!(why.contains("weights were loaded, not streamed"), "{why}");
}

#[test]
fn some_named_blocks_are_not_enough() {
    let mut run = Run::new();
    run.pass("blocks0", 2, 0, true);
    let why = block_times(&run.builder.finish(), 0, &lists(&[3])).expect_err("one is missing");
    assert!(why.starts_with("ranges name 2 of 3 blocks"), "{why}");
}
