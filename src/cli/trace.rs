//! `trace`: turns the trace of another profiler into what its copies hid.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use rusqlite::limits::Limit;
use rusqlite::{Connection, OpenFlags, config::DbConfig};

use super::derive::{self, Derived};
use super::{Terminal, write_file};
use crate::error::{Error, Problem, Result};
use crate::profile::trace::{Keep, Trace, read_chrome, read_nsys};
use crate::report::{self, Foreign};

/// Say what the copies in a foreign trace hid behind kernels.
///
/// Reads PyTorch profiler (Kineto) JSON, plain or gzip, and the SQLite export of Nsight Systems. A trace that is cut
/// is answered as far as it goes, with exit code 3. With --workload or --device-out it becomes what a plan is made from:
/// then `plan` says what this engine could have had on the same GPU.
#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  vramplan trace profile.json.gz\n  vramplan trace profile.sqlite -o analysis\n  \
                  vramplan trace profile.json.gz --workload flux1-dev -o measured.yaml --device-out gpu.yaml\n  \
                  nsys export --type sqlite profile.nsys-rep   makes the SQLite file"
)]
pub struct Args {
    /// A PyTorch profiler (Kineto) JSON file or an Nsight Systems SQLite export.
    file: PathBuf,
    /// A folder for the page, its figures and pictures; with --workload, the workload file.
    #[arg(short, long, value_name = "DIR|FILE")]
    output: Option<PathBuf>,
    /// Find the blocks of this model in the trace and write their times as a workload file.
    #[arg(long, value_name = "MODEL", requires = "output")]
    workload: Option<String>,
    /// The component whose blocks are sought; the denoiser or language model by default.
    #[arg(long, value_name = "NAME", requires = "workload")]
    component: Option<String>,
    /// Write a device spec with the link speeds that the copies show.
    #[arg(long, value_name = "FILE")]
    device_out: Option<PathBuf>,
    /// What the device spec says of compute and host memory; by default the built-in device of the same name.
    #[arg(long, value_name = "D", requires = "device_out")]
    device: Option<String>,
    /// The GPU of the trace that a workload or a device spec is made from.
    #[arg(long, value_name = "N")]
    gpu: Option<i64>,
}

/// Reads, answers, and says with the exit code whether the trace was whole.
pub fn run(args: &Args, terminal: &mut Terminal) -> Result<()> {
    if args.workload.is_some() || args.device_out.is_some() {
        return derive(args, terminal);
    }
    let name = args.file.display().to_string();
    let trace = read(&name, &args.file, Keep::default())?;
    let foreign = Foreign::of(&name, &trace);
    let mut text = foreign.screen();
    if let Some(folder) = &args.output {
        let files = foreign.render()?;
        for file in &files {
            write_file(&folder.join(&file.name), &file.bytes)?;
        }
        let names: Vec<&str> = files.iter().map(|file| file.name.as_str()).collect();
        let written = format!("in {}: {}", folder.display(), names.join(", "));
        text.push('\n');
        text.push_str(&report::wrapped(&written));
    }
    if terminal.format() == super::Format::Json {
        for warning in foreign.warnings() {
            terminal.warn(&warning);
        }
    }
    terminal.answer(&foreign.answer(), &text)?;
    match &trace.cut {
        Some(why) => Err(partial(&name, why, trace.rows().len())),
        None => Ok(()),
    }
}

/// Writes what a plan is made from; a trace that is cut will not do, for its last use may be half a use.
fn derive(args: &Args, terminal: &mut Terminal) -> Result<()> {
    let name = args.file.display().to_string();
    let manifest =
        args.workload.as_ref().map(|model| derive::model(model, terminal)).transpose()?;
    let trace = read(&name, &args.file, Keep { annotations: manifest.is_some() })?;
    for warning in Foreign::of(&name, &trace).warnings() {
        terminal.warn(&warning);
    }
    if let Some(why) = &trace.cut {
        return Err(partial(&name, why, trace.rows().len()));
    }
    let device = derive::device_of(&name, &trace, args.gpu)?;
    let mut derived = Derived { device, ..Derived::default() };
    let mut files: Vec<(&Path, String)> = Vec::new();
    if let (Some(manifest), Some(path)) = (&manifest, &args.output) {
        let component = args.component.as_deref();
        let (text, measured) = derive::workload(&name, &trace, device, manifest, component)?;
        derived.workload = Some(measured);
        files.push((path, text));
    }
    if let Some(path) = &args.device_out {
        let (text, links) = derive::device_spec(&name, &trace, device, args.device.as_deref())?;
        derived.link = Some(links);
        files.push((path, text));
    }
    for (path, text) in &files {
        write_file(path, text.as_bytes())?;
    }
    let workload = args.output.as_deref().filter(|_| manifest.is_some());
    let next = derive::next_step(workload, args.device_out.as_deref(), args.workload.as_deref());
    terminal.answer(&derived, &(derived.text() + &next))
}

/// The exit code of an answer that does not cover the whole file.
fn partial(name: &str, why: &str, rows: usize) -> Error {
    let expected = format!("a whole trace; the answer covers the {rows} GPU rows before");
    Error::input(name, Problem::new("the file", why, expected))
}

const SQLITE: &[u8] = b"SQLite format 3\0";

/// Reads a trace of either format, told apart by its first bytes.
fn read(name: &str, path: &Path, keep: Keep) -> Result<Trace> {
    let failed = |source| Error::Read { file: name.to_owned(), source };
    let mut file = File::open(path).map_err(failed)?;
    let mut start = Vec::new();
    file.by_ref().take(64).read_to_end(&mut start).map_err(failed)?;
    if start.starts_with(SQLITE) {
        let database = open(path).map_err(|error| {
            let found = format!("a database that does not open ({error})");
            let expected = "an export that no other program has open for writing";
            Error::input(name, Problem::new("the file", found, expected))
        })?;
        return read_nsys(name, &database, keep);
    }
    let is_text = start.starts_with(&[0x1f, 0x8b])
        || start
            .iter()
            .find(|byte| !byte.is_ascii_whitespace())
            .is_some_and(|byte| b"{[\xef".contains(byte));
    if !is_text {
        return Err(no_trace(name, path, &start));
    }
    read_chrome(name, start.as_slice().chain(file), keep)
}

fn no_trace(name: &str, path: &Path, start: &[u8]) -> Error {
    let found = match start.len() {
        0 => "an empty file".to_owned(),
        _ if path.extension().is_some_and(|ext| ext == "nsys-rep" || ext == "qdrep") => {
            "a recording of Nsight Systems (convert it: nsys export --type sqlite FILE)".to_owned()
        }
        _ => format!(
            "a file that begins {:?}",
            String::from_utf8_lossy(&start[..start.len().min(16)])
        ),
    };
    let expected = "PyTorch profiler JSON (plain or gzip) or a Nsight Systems SQLite export";
    Error::input(name, Problem::new("the file", found, expected))
}

/// The longest value that is read from a database.
const LONGEST_VALUE: i32 = 64 << 20;

/// Opens a database so that reading it can neither change it nor run what is stored in it.
fn open(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let database = Connection::open_with_flags(path, flags)?;
    database.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    database.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    database.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_VIEW, false)?;
    database.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false)?;
    database.set_limit(Limit::SQLITE_LIMIT_LENGTH, LONGEST_VALUE)?;
    Ok(database)
}
