//! The commands that a later version fills: they exist, and say that they do nothing yet.

use std::path::PathBuf;

use crate::error::{Error, Result};

/// Measure this machine's GPU into a device spec (not in this version).
#[derive(clap::Args)]
#[command(after_help = "Example:\n  vramplan probe --gpu 0 -o my-gpu.yaml")]
pub struct ProbeArgs {
    /// The GPU's index.
    #[arg(long, value_name = "N", default_value_t = 0)]
    gpu: u32,
    /// Where to write the device spec.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub fn probe(args: &ProbeArgs) -> Result<()> {
    let ProbeArgs { gpu, output: _ } = args;
    let message = format!(
        "measuring GPU {gpu} comes with a later version; `vramplan devices` lists the built-in specs"
    );
    Err(Error::Backend { what: "probe", message })
}
