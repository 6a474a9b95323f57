//! Any file, as GGUF: refused, or tensors that lie inside the file without overlap.

#![no_main]

use std::io::Cursor;

use libfuzzer_sys::fuzz_target;
use vramplan::scan::{Opened, read_gguf_header};

fuzz_target!(|data: &[u8]| {
    let size = data.len() as u64 + 256;
    let opened = Opened { reader: Box::new(Cursor::new(data.to_vec())), size };
    let Ok(gguf) = read_gguf_header("f", opened) else { return };
    let total: u64 = gguf.tensors.iter().map(|tensor| tensor.range.end - tensor.range.start).sum();
    assert!(total <= size);
});
