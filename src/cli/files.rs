//! Reads input files within limits and writes output files whole or not at all.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use crate::error::{Error, Problem, Result};

/// The largest text file that is read whole. Far above any plan; a wrong path to a checkpoint stops here.
const MAX_TEXT: u64 = 512 << 20;

/// Reads a text file.
pub fn read_text(path: &Path) -> Result<String> {
    let file = path.display().to_string();
    let failed = |source| Error::Read { file: file.clone(), source };
    let mut text = Vec::new();
    let opened = File::open(path).map_err(failed)?;
    opened.take(MAX_TEXT + 1).read_to_end(&mut text).map_err(failed)?;
    if text.len() as u64 > MAX_TEXT {
        let expected = format!("at most {} MiB of text", MAX_TEXT >> 20);
        return Err(Error::input(file, Problem::new("size", "more", expected)));
    }
    String::from_utf8(text).map_err(|error| {
        let place = format!("byte {}", error.utf8_error().valid_up_to());
        Error::input(path.display().to_string(), Problem::new(place, "no UTF-8", "text in UTF-8"))
    })
}

/// Writes a file whole or not at all: to a temporary neighbour first, then renamed. Makes missing folders.
pub fn write_file(path: &Path, contents: &[u8]) -> Result<()> {
    let failed = |source| Error::Write { file: path.display().to_string(), source };
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    let temporary = neighbour(path);
    let written = File::create(&temporary)
        .and_then(|mut file| file.write_all(contents).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&temporary, path));
    written.map_err(|error| {
        let _ = fs::remove_file(&temporary);
        failed(error)
    })
}

/// A name beside `path` that no other process of ours uses.
fn neighbour(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{}.tmp", std::process::id()));
    path.with_file_name(name)
}
