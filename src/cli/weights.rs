//! Turns a checkpoint on disk into the bytes of a plan's blocks.
//!
//! Positioned reads into page-locked memory, from several threads: reading a mapped file by faulting its pages was
//! four times slower where it was measured (ggml-org/llama.cpp#28223: 450 s against 104 s for 102 GiB).

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use crate::backend::cuda::{Stretch, Weights};
use crate::error::{Error, Problem, Result};
use crate::plan::ROOT;
use crate::program::image::{BlockImage, ComponentImage};
use crate::scan::{FoundComponent, Stored};

/// A checkpoint whose files are open.
pub struct Checkpoint {
    path: String,
    files: Vec<(String, File)>,
    /// By component and full name: the file, the first byte, the size.
    tensors: BTreeMap<(String, String), (usize, u64, u64)>,
}

/// The bytes before the header of a safetensors file: its length.
const PREFIX: u64 = 8;

impl Checkpoint {
    /// Opens a checkpoint and checks that it has the bytes of all tensors.
    pub fn open(path: &str, images: &[ComponentImage]) -> Result<Self> {
        let (base, found) = super::scan::open_checkpoint(Path::new(path))?;
        let mut own = Self { path: path.to_owned(), files: Vec::new(), tensors: BTreeMap::new() };
        for component in &found.components {
            if images.iter().any(|image| image.component == component.name) {
                own.add(&base, component)?;
            }
        }
        for image in images {
            for block in &image.blocks {
                if block.tensors.is_empty() && block.bytes > 0 {
                    let place = format!("{}.{}", image.component, block.block);
                    let problem = Problem::new(place, "no tensors", "a block of named tensors");
                    return Err(Error::input(path, problem));
                }
                for tensor in &block.tensors {
                    own.place(&image.component, block, &tensor.name)?;
                }
            }
        }
        Ok(own)
    }

    /// The path it was opened by.
    pub fn path(&self) -> &str {
        &self.path
    }

    fn add(&mut self, base: &Path, component: &FoundComponent) -> Result<()> {
        let first = self.files.len();
        let mut starts = Vec::new();
        for name in &component.files {
            let path = base.join(name);
            let shown = path.display().to_string();
            let failed = |source| Error::Read { file: shown.clone(), source };
            let file = File::open(&path).map_err(failed)?;
            let size = file.metadata().map_err(failed)?.len();
            let start = match component.data_start {
                Some(start) => start,
                None => {
                    let mut length = [0; 8];
                    read_at(&file, &mut length, 0).map_err(failed)?;
                    PREFIX.saturating_add(u64::from_le_bytes(length))
                }
            };
            starts.push((start, size));
            self.files.push((shown, file));
        }
        for Stored { spec, range, file } in &component.tensors {
            let Some(&(start, size)) = starts.get(*file) else { continue };
            let (from, bytes) = (start.saturating_add(range.start), range.end - range.start);
            if from.saturating_add(bytes) > size {
                let found = format!("a file of {size} bytes");
                let expected = format!(
                    "{} for {:?}; a header alone runs with --weights pattern",
                    from + bytes,
                    spec.name()
                );
                let (shown, _) = &self.files[first + file];
                return Err(Error::input(shown.clone(), Problem::new("size", found, expected)));
            }
            let key = (component.name.clone(), spec.name().to_owned());
            self.tensors.insert(key, (first + file, from, bytes));
        }
        Ok(())
    }

    fn place(
        &self,
        component: &str,
        block: &BlockImage,
        tensor: &str,
    ) -> Result<(usize, u64, u64)> {
        let name = match block.block.as_str() {
            ROOT => tensor.to_owned(),
            id => format!("{id}.{tensor}"),
        };
        let key = (component.to_owned(), name);
        self.tensors.get(&key).copied().ok_or_else(|| {
            let problem = Problem::new(key.0, format!("no tensor {:?}", key.1), "that tensor");
            Error::input(self.path.clone(), problem)
        })
    }
}

impl Weights for Checkpoint {
    fn read(&self, from: Stretch<'_>, into: &mut [u8]) -> Result<()> {
        let Stretch { component, block, offset } = from;
        let end = offset.saturating_add(into.len() as u64);
        for tensor in &block.tensors {
            let from = tensor.range.start.max(offset);
            let to = tensor.range.end.min(end);
            if from >= to {
                continue;
            }
            let (file, at, _) = self.place(component, block, &tensor.name)?;
            let index = |at: u64| usize::try_from(at - offset).unwrap_or(usize::MAX);
            let Some(part) = into.get_mut(index(from)..index(to)) else { continue };
            let (shown, file) = &self.files[file];
            read_at(file, part, at + (from - tensor.range.start)).map_err(|source| {
                Error::Read { file: format!("{} of {shown}", tensor.name), source }
            })?;
        }
        Ok(())
    }
}

/// Reads from a position without moving the file's own, so that threads may share it.
#[cfg(unix)]
fn read_at(file: &File, into: &mut [u8], at: u64) -> std::io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, into, at)
}

/// Reads from a position; every read states its own.
#[cfg(windows)]
fn read_at(file: &File, into: &mut [u8], at: u64) -> std::io::Result<()> {
    let (mut into, mut at) = (into, at);
    while !into.is_empty() {
        let read = std::os::windows::fs::FileExt::seek_read(file, into, at)?;
        if read == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        into = &mut std::mem::take(&mut into)[read..];
        at += read as u64;
    }
    Ok(())
}
