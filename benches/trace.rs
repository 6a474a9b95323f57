//! Bytes per second of the trace readers, from uncompressed JSON to figures.

#![expect(clippy::expect_used, reason = "a benchmark that cannot go on has failed")]

use std::io::{Read, Write};

use divan::counter::BytesCount;
use divan::{Bencher, black_box};
use vramplan::profile::trace::{Keep, figures, read_chrome};

#[path = "../tests/trace/generate.rs"]
mod generate;
use generate::Generated;

fn main() {
    divan::main();
}

fn text(megabytes: usize) -> Vec<u8> {
    let mut one = Vec::new();
    Generated::new(100).read_to_end(&mut one).expect("text");
    let mut text = Vec::new();
    let steps = megabytes * 100_000_000 / one.len();
    Generated::new(steps as u64).read_to_end(&mut text).expect("text");
    text
}

/// Reading and figures; at least 150 MB/s, so that 1 GB takes less than 7 s.
#[divan::bench(args = [10, 100, 1_000], sample_count = 3, sample_size = 1)]
fn plain(bencher: Bencher, megabytes: usize) {
    let text = text(megabytes);
    bencher.counter(BytesCount::new(text.len())).bench(|| {
        let trace = read_chrome("bench.json", black_box(text.as_slice()), Keep::default());
        figures(&trace.expect("a trace"))
    });
}

/// The same from gzip, counted in bytes of text.
#[divan::bench(args = [100], sample_count = 3, sample_size = 1)]
fn gzip(bencher: Bencher, megabytes: usize) {
    let text = text(megabytes);
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    packed.write_all(&text).expect("packed");
    let packed = packed.finish().expect("packed");
    bencher.counter(BytesCount::new(text.len())).bench(|| {
        let trace = read_chrome("bench.json.gz", black_box(packed.as_slice()), Keep::default());
        figures(&trace.expect("a trace"))
    });
}
