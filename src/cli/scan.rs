//! The `scan` command: checkpoint headers in, manifest out.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::Terminal;
use crate::error::{Error, Result};
use crate::scan::{self, Checkpoint, Choices, Folder, Opened, Scanned, Source, Summary};
use crate::suggest;

/// Read the headers of a checkpoint and write the manifest of its model.
///
/// PATH is a .safetensors or .gguf file, a shard index (*.safetensors.index.json), or the folder of a
/// transformers model, of a diffusers component or of a diffusers pipeline. Only headers are read.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  vramplan scan ~/models/FLUX.1-dev -o flux.yaml")]
pub struct Args {
    /// The checkpoint.
    path: PathBuf,
    /// Where the manifest goes; `-` is standard output. Without it, only what was found is printed.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Block lists in order of execution, where it is not known or known better; others follow.
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    order: Vec<String>,
    /// The paths that are block lists, and no others, in every component that has one of them.
    #[arg(long, value_name = "PATH", value_delimiter = ',')]
    lists: Vec<String>,
    /// The model's name; otherwise that of the folder or file.
    #[arg(long)]
    name: Option<String>,
}

/// What programs read.
#[derive(Serialize)]
struct Answer {
    #[serde(flatten)]
    summary: Summary,
    /// The manifest's file, where one was written.
    manifest: Option<String>,
}

pub fn run(args: &Args, terminal: &mut Terminal) -> Result<()> {
    let Args { path, output, order, lists, name } = args;
    let choices = Choices { order: order.clone(), lists: lists.clone(), name: name.clone() };
    let scanned = scan_path(path, &choices)?;
    for warning in &scanned.warnings {
        terminal.warn(warning);
    }
    let written = match output {
        None => None,
        Some(file) => {
            let yaml = scanned.manifest.to_yaml()?;
            if !terminal.deliver(file, yaml.as_bytes())? {
                return Ok(());
            }
            Some(file.display().to_string())
        }
    };
    let summary = Summary::of(&scanned);
    let mut text = summary.table();
    if let Some(file) = &written {
        text.push_str(&format!("\nmanifest: {file}\n"));
    }
    terminal.answer(&Answer { summary, manifest: written }, &text)
}

/// Scans the checkpoint at a path; every command that takes a MODEL comes here with what is no manifest.
pub fn scan_path(path: &Path, choices: &Choices) -> Result<Scanned> {
    let (_, checkpoint) = open_checkpoint(path)?;
    if let Some(unknown) = checkpoint.unknown_name(choices) {
        return Err(suggest::unknown(unknown.what, &unknown.name, &unknown.known));
    }
    checkpoint.manifest(choices)
}

/// Reads the headers of the checkpoint at a path; gives the folder that its files lie in, too.
pub fn open_checkpoint(path: &Path) -> Result<(PathBuf, Checkpoint)> {
    let unreadable = |source| Error::Read { file: path.display().to_string(), source };
    let metadata = fs::metadata(path).map_err(unreadable)?;
    let file =
        if metadata.is_dir() { None } else { path.file_name().and_then(|name| name.to_str()) };
    let base = match file {
        None => path.to_owned(),
        Some(_) => path.parent().map(Path::to_owned).unwrap_or_default(),
    };
    let absolute = fs::canonicalize(or_here(&base)).map_err(unreadable)?;
    let folder_name =
        absolute.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let folder = Disk { base };
    let source = Source { folder: &folder, folder_name: &folder_name, file };
    let checkpoint = scan::read(&source)?;
    Ok((folder.base, checkpoint))
}

/// The empty path means the working folder.
fn or_here(path: &Path) -> &Path {
    if path.as_os_str().is_empty() { Path::new(".") } else { path }
}

/// A folder of the file system.
struct Disk {
    base: PathBuf,
}

impl Folder for Disk {
    fn open(&self, path: &str) -> io::Result<Opened> {
        let path = self.base.join(path);
        // Asked before opening: opening a pipe would wait for its writer.
        let metadata = fs::metadata(&path)?;
        if !metadata.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        Ok(Opened { reader: Box::new(File::open(&path)?), size: metadata.len() })
    }

    fn list(&self, path: &str) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(or_here(&self.base.join(path)))? {
            let entry = entry?;
            // Links are followed: that is how download caches lay out a model.
            let regular = fs::metadata(entry.path()).is_ok_and(|metadata| metadata.is_file());
            if let (true, Ok(name)) = (regular, entry.file_name().into_string()) {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    fn shown(&self, path: &str) -> String {
        let shown = if path.is_empty() { self.base.clone() } else { self.base.join(path) };
        shown.display().to_string()
    }
}
