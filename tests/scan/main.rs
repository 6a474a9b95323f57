//! Checkpoints small enough to write here, scanned: what must be found, and what must be refused.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests fail by panicking"
)]
#![allow(clippy::cast_possible_truncation, reason = "the checkpoints are small")]

#[path = "../common/mod.rs"]
mod common;

mod builtin;
mod command;
mod folders;
mod gguf;
mod lists;
mod safetensors;

use std::io::Cursor;

use vramplan::scan::{self, Checkpoint, Choices, MemoryFolder, Opened, Scanned, Source};

fn opened(bytes: Vec<u8>) -> Opened {
    let size = bytes.len() as u64;
    Opened { reader: Box::new(Cursor::new(bytes)), size }
}

fn read(folder: &MemoryFolder, file: Option<&str>) -> vramplan::error::Result<Checkpoint> {
    scan::read(&Source { folder, folder_name: "Tiny-Model", file })
}

fn scanned(folder: &MemoryFolder, choices: &Choices) -> Scanned {
    read(folder, None).unwrap().manifest(choices).unwrap()
}

/// The order of execution of the first component, run-length: `transformer_blocks*2 single_transformer_blocks*3`.
fn order(scanned: &Scanned) -> String {
    let segments = scanned.manifest.components[0].blocks.iter();
    let mut runs: Vec<(&str, u64)> = Vec::new();
    for segment in segments {
        match runs.last_mut().filter(|(list, _)| *list == segment.list) {
            Some((_, count)) => *count += segment.count,
            None => runs.push((&segment.list, segment.count)),
        }
    }
    runs.iter().map(|(list, count)| format!("{list}*{count}")).collect::<Vec<_>>().join(" ")
}

fn message(result: vramplan::error::Result<impl Sized>) -> String {
    let error = result.err().expect("this is refused");
    assert_eq!(error.exit_code(), 3, "{error}");
    error.to_string()
}
