//! The command that a later version fills: it exists, and says that it does nothing yet.

use std::path::PathBuf;

use crate::error::{Error, Result};

/// Analyse the overlap in a foreign trace (not in this version).
#[derive(clap::Args)]
#[command(after_help = "Example:\n  vramplan trace profile.json.gz -o analysis")]
pub struct TraceArgs {
    /// A PyTorch profiler (Kineto) JSON file or an Nsight Systems SQLite export.
    file: PathBuf,
    /// The folder for the analysis.
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,
}

pub fn trace(args: &TraceArgs) -> Result<()> {
    let TraceArgs { file, output: _ } = args;
    let message = format!("reading {} comes with a later version", file.display());
    Err(Error::Backend { what: "trace", message })
}
