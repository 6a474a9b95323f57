//! Turns paths inside one folder into readers; the command line implements it for the file system.

use std::collections::BTreeMap;
use std::io::{self, Cursor, Read};

use super::MAX_HEADER;
use crate::error::{Error, Problem, Result};

/// A file about to be read, and how long it is.
pub struct Opened {
    /// The file from its beginning.
    pub reader: Box<dyn Read>,
    /// Its length in bytes.
    pub size: u64,
}

/// A folder with a checkpoint. Paths are relative, with `/` between their parts; the empty path is the folder.
pub trait Folder {
    /// Opens a regular file.
    fn open(&self, path: &str) -> io::Result<Opened>;

    /// The names of the regular files of a folder, sorted. A folder that is not there is `NotFound`.
    fn list(&self, path: &str) -> io::Result<Vec<String>>;

    /// The path as messages show it.
    fn shown(&self, path: &str) -> String;
}

/// A folder in memory, for tests and fuzzing. Its files may be longer than their bytes, as sparse files are.
#[derive(Debug, Clone, Default)]
pub struct MemoryFolder {
    files: BTreeMap<String, (Vec<u8>, u64)>,
}

impl MemoryFolder {
    /// An empty folder.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a file.
    pub fn with(self, path: &str, bytes: impl Into<Vec<u8>>) -> Self {
        let bytes = bytes.into();
        let size = bytes.len() as u64;
        self.with_sparse(path, bytes, size)
    }

    /// Adds a file of `size` bytes that begins with `bytes`; what follows must never be read.
    pub fn with_sparse(mut self, path: &str, bytes: impl Into<Vec<u8>>, size: u64) -> Self {
        self.files.insert(path.to_owned(), (bytes.into(), size));
        self
    }
}

impl Folder for MemoryFolder {
    fn open(&self, path: &str) -> io::Result<Opened> {
        let (bytes, size) = self.files.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(Opened { reader: Box::new(Cursor::new(bytes.clone())), size: *size })
    }

    fn list(&self, path: &str) -> io::Result<Vec<String>> {
        let inside = if path.is_empty() { String::new() } else { format!("{path}/") };
        let below: Vec<&str> =
            self.files.keys().filter_map(|name| name.strip_prefix(&inside)).collect();
        if below.is_empty() {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(below.into_iter().filter(|name| !name.contains('/')).map(str::to_owned).collect())
    }

    fn shown(&self, path: &str) -> String {
        path.to_owned()
    }
}

/// A path inside a sub-folder; the empty sub-folder is the folder itself.
pub fn join(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") }
}

/// The error for a file that cannot be read.
pub fn unreadable(folder: &dyn Folder, path: &str, source: io::Error) -> Error {
    Error::Read { file: folder.shown(path), source }
}

/// Opens a file.
pub fn open(folder: &dyn Folder, path: &str) -> Result<Opened> {
    folder.open(path).map_err(|error| unreadable(folder, path, error))
}

/// Reads a small text file whole: a configuration or an index, of at most [`MAX_HEADER`] bytes.
pub fn read_whole(folder: &dyn Folder, path: &str) -> Result<Vec<u8>> {
    let Opened { reader, size } = open(folder, path)?;
    let mut bytes = Vec::new();
    let read = reader.take(MAX_HEADER + 1).read_to_end(&mut bytes);
    read.map_err(|error| unreadable(folder, path, error))?;
    if bytes.len() as u64 > MAX_HEADER {
        let found = format!("{size} bytes");
        let expected = format!("at most {MAX_HEADER} bytes of JSON");
        return Err(Error::input(folder.shown(path), Problem::new("size", found, expected)));
    }
    Ok(bytes)
}
