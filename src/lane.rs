//! Names the exclusive timeline resources, and what runs on them: at most one operation at any instant on a lane.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A resource that runs one operation at a time, in the order of issue.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Lane {
    /// The GPU's compute units, seen as one queue of blocks.
    Compute,
    /// The copy engine from host to device.
    H2d,
    /// The copy engine from device to host.
    D2h,
    /// Storage to host memory.
    Disk,
    /// The host thread that issues operations; it only ever runs synchronisations.
    Host,
}

impl Lane {
    /// Every lane, in the order of timelines and tables.
    pub const ALL: [Self; 5] = [Self::Compute, Self::H2d, Self::D2h, Self::Disk, Self::Host];

    /// The position in [`Lane::ALL`], for arrays with one entry per lane.
    pub const fn index(self) -> usize {
        match self {
            Self::Compute => 0,
            Self::H2d => 1,
            Self::D2h => 2,
            Self::Disk => 3,
            Self::Host => 4,
        }
    }

    /// The name in files and tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Compute => "compute",
            Self::H2d => "h2d",
            Self::D2h => "d2h",
            Self::Disk => "disk",
            Self::Host => "host",
        }
    }
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What an operation does.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum OpKind {
    /// Storage to host memory.
    Read,
    /// Host to device.
    Copy,
    /// One use of a block.
    Compute,
    /// Device to host, because the host copy is stale.
    WriteBack,
    /// The host waits before it issues more.
    HostSync,
}

impl OpKind {
    /// The name in files and tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Copy => "copy",
            Self::Compute => "compute",
            Self::WriteBack => "write_back",
            Self::HostSync => "host_sync",
        }
    }
}
