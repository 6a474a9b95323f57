//! The `report` command.

use super::Terminal;
use crate::error::{Error, Result};

/// To be replaced.
#[derive(clap::Args)]
pub struct Args {}

pub fn run(_args: &Args, _terminal: &mut Terminal) -> Result<()> {
    Err(Error::Internal("not written yet".into()))
}

pub fn figures(_p: &crate::profile::Profile) -> String { String::new() }
