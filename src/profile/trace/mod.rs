//! Turns the trace of another profiler into figures: what its copies hid behind kernels, what they did not, and why.
//!
//! ```text
//! PyTorch JSON ─chrome─┐                         ┌─ busy, overlap, idle per device
//!                      ├─▶ Trace ─figures─▶ Figures ─ copies by size and host memory
//! Nsight SQLite ─nsys──┘   (rows)                └─ what was left out
//! ```
//!
//! A [`Trace`] holds the GPU's own rows only, one of 40 bytes per kernel, copy and memset, sorted by device and start.
//! Time is whole nanoseconds from the decimal text on. Nothing is dropped in silence: rows that cannot be used, and
//! everything that is no GPU work, are counted in [`LeftOut`].

pub mod blocks;
mod builder;
mod chrome;
mod decimal;
mod fields;
mod figures;
mod fit;
mod frame;
mod nsys;
mod sweep;

use std::collections::BTreeMap;

pub use builder::{Builder, Raw};
pub use chrome::read_chrome;
pub use figures::{CopyGroup, Figures, Hidden, SizeClass, Stream, figures};
pub use fit::{Fit, fit};
pub use nsys::read_nsys;
use serde::Serialize;

use crate::figures::Origin;
use crate::units::{Bytes, Nanos};

/// What a row of the GPU did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A kernel that is not NCCL's.
    Compute,
    /// A kernel whose name matches `^nccl.*Kernel`: communication between GPUs.
    Nccl,
    /// A copy from host to device.
    Htod,
    /// A copy from device to host.
    Dtoh,
    /// A copy within the device.
    Dtod,
    /// A copy from one device to another.
    Ptop,
    /// A page of unified memory that moved, or a copy whose direction is not said.
    OtherCopy,
    /// Filling memory with a value.
    Memset,
}

impl Kind {
    /// Every kind, in the order of tables.
    pub const ALL: [Self; 8] = [
        Self::Compute,
        Self::Nccl,
        Self::Htod,
        Self::Dtoh,
        Self::Dtod,
        Self::Ptop,
        Self::OtherCopy,
        Self::Memset,
    ];

    /// The position in [`Kind::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }

    /// Whether it is a kernel of any sort.
    pub const fn is_kernel(self) -> bool {
        matches!(self, Self::Compute | Self::Nccl)
    }

    /// Whether it is a copy of any direction.
    pub const fn is_copy(self) -> bool {
        matches!(self, Self::Htod | Self::Dtoh | Self::Dtod | Self::Ptop | Self::OtherCopy)
    }

    /// For tables and JSON keys.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Compute => "compute",
            Self::Nccl => "nccl",
            Self::Htod => "htod",
            Self::Dtoh => "dtoh",
            Self::Dtod => "dtod",
            Self::Ptop => "ptop",
            Self::OtherCopy => "other_copy",
            Self::Memset => "memset",
        }
    }

    /// A kernel by its name: the rule of HolisticTraceAnalysis for communication, `^nccl.*Kernel`.
    pub fn of_kernel(name: &str) -> Self {
        let nccl = name.strip_prefix("nccl").is_some_and(|rest| rest.contains("Kernel"));
        if nccl { Self::Nccl } else { Self::Compute }
    }
}

/// The host's side of a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Memory {
    /// Page-locked.
    Pinned,
    /// Ordinary: the driver stages it, and the copy cannot be asynchronous to the host.
    Pageable,
    /// Managed, or not said (ROCm says `Host` for both).
    Unknown,
}

impl Memory {
    /// For tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pinned => "pinned",
            Self::Pageable => "pageable",
            Self::Unknown => "unknown",
        }
    }
}

/// Which profiler wrote a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// Chrome trace events in JSON, as the PyTorch profiler (Kineto) writes them.
    ChromeJson,
    /// The SQLite export of Nsight Systems.
    NsightSqlite,
}

impl Format {
    /// For people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ChromeJson => "PyTorch/Kineto JSON",
            Self::NsightSqlite => "Nsight Systems SQLite",
        }
    }
}

/// What a device is called, where the trace says so.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct GpuInfo {
    /// Its name.
    pub name: Option<String>,
    /// Its memory.
    pub memory: Option<Bytes>,
}

/// One interval on one stream of a GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    start: u64,
    end: u64,
    bytes: u64,
    /// Links the row to the call that launched it; zero where not said.
    pub correlation: u64,
    label: u32,
    lane: u32,
}

/// Stands for a size that the trace does not say.
const NO_BYTES: u64 = u64::MAX;

impl Row {
    /// Start, since the first row of the trace.
    pub const fn start(&self) -> Nanos {
        Nanos::new(self.start)
    }

    /// End, since the first row of the trace; never before the start.
    pub const fn end(&self) -> Nanos {
        Nanos::new(self.end)
    }

    /// End minus start.
    pub const fn duration(&self) -> Nanos {
        Nanos::new(self.end - self.start)
    }

    /// Bytes moved or set, where the trace says so.
    pub const fn bytes(&self) -> Option<Bytes> {
        if self.bytes == NO_BYTES { None } else { Some(Bytes::new(self.bytes)) }
    }
}

/// What a row is, shared by all rows of one name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Label {
    /// What it does.
    pub kind: Kind,
    /// The host's side of a copy.
    pub memory: Memory,
    /// The name in the trace, cut after [`LONGEST_NAME`] bytes.
    pub name: Box<str>,
}

/// Bytes of a name that are kept.
pub const LONGEST_NAME: usize = 4096;

/// A stream of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct LaneOf {
    /// The device's index.
    pub device: i64,
    /// The stream's number.
    pub stream: i64,
}

/// A call on the host that put work on a GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Launch {
    /// Links the call to its rows.
    pub correlation: u64,
    /// When, in nanoseconds since the first row; below zero for calls before it.
    pub start: i64,
    /// The thread that called.
    pub thread: u64,
}

/// A named range, of a host thread or of a GPU's timeline.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Annotation {
    /// The thread, or the device for a range on the GPU's timeline.
    pub on: Place,
    /// Start, in nanoseconds since the first row; below zero for what began before it.
    pub start: i64,
    /// End.
    pub end: i64,
    /// Index into [`Trace::annotation_names`].
    pub name: u32,
}

/// Where an annotation stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// A thread of the host.
    Thread(u64),
    /// A device.
    Device(i64),
}

/// Why a row of the GPU is not in the figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// An event that is no object of keys and values.
    Unreadable,
    /// An event longer than is read.
    TooLong,
    /// No start or no duration, or none that is a number.
    NoTime,
    /// The end lies before the start.
    NegativeDuration,
    /// A time that does not fit 64 bits of nanoseconds.
    OutOfRange,
    /// A start at zero or before while all others are more than a day later: the profiler ran out of buffers.
    ZeroStart,
    /// No device is named.
    NoDevice,
    /// GPU work as a pair of begin and end events, which no known profiler writes.
    BeginEnd,
    /// More rows than are kept.
    TooMany,
}

impl Reason {
    /// For people.
    pub const fn explain(self) -> &'static str {
        match self {
            Self::Unreadable => "are no JSON object",
            Self::TooLong => "are longer than is read",
            Self::NoTime => "have no start or no duration",
            Self::NegativeDuration => "end before they start",
            Self::OutOfRange => "have a time beyond 64 bits of nanoseconds",
            Self::ZeroStart => "start at time zero, more than a day before all others",
            Self::NoDevice => "name no device",
            Self::BeginEnd => "are begin and end events, not whole ones",
            Self::TooMany => "are more than is kept",
        }
    }
}

/// What is not in the figures, and how much of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct LeftOut {
    /// GPU rows that could not be used, by reason: each makes the figures wrong by what it did.
    pub rows: BTreeMap<Reason, u64>,
    /// The first of them: where in the file, and what is wrong.
    pub first: Option<String>,
    /// Events that are no GPU work, by category.
    pub other_events: BTreeMap<String, u64>,
    /// Calls that launched GPU work of which the trace has no row: the profiler lost it, or it ran after the end.
    pub launches_without_row: u64,
    /// GPU rows whose launch is not in the trace; zero where the trace has no launches at all.
    pub rows_without_launch: u64,
    /// Rows that stand twice: same device, stream, name, times and correlation. They are in the figures.
    pub repeated_rows: u64,
    /// Times with digits below a nanosecond, rounded to the nearest one.
    pub rounded_times: u64,
    /// Names that were cut.
    pub cut_names: u64,
    /// Copies whose size the trace does not say: in the times, not in bytes or rates.
    pub copies_without_bytes: u64,
}

/// The GPU's rows of one trace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    /// Who wrote it.
    pub format: Format,
    /// Devices that the trace describes or that have rows.
    pub devices: BTreeMap<i64, GpuInfo>,
    /// Sorted by device, start, end, stream.
    rows: Vec<Row>,
    labels: Vec<Label>,
    lanes: Vec<LaneOf>,
    /// Launching calls, sorted by correlation; kept on request.
    pub launches: Vec<Launch>,
    /// Named ranges, sorted by place and start; kept on request.
    pub annotations: Vec<Annotation>,
    /// What the ranges are called.
    pub annotation_names: Vec<Box<str>>,
    /// What is not in the figures.
    pub left_out: LeftOut,
    /// Why the end of the trace is missing; absent for a whole one.
    pub cut: Option<String>,
    /// Where its times come from: measured, unless it is our own export of a simulated run.
    pub origin: Origin,
}

impl Trace {
    /// All rows, sorted by device, start, end, stream.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// The rows of one device, by start.
    pub fn rows_of(&self, device: i64) -> &[Row] {
        let from = self.rows.partition_point(|row| self.lane(row).device < device);
        let to = self.rows.partition_point(|row| self.lane(row).device <= device);
        &self.rows[from..to]
    }

    /// Devices that have rows.
    pub fn used_devices(&self) -> Vec<i64> {
        let mut found: Vec<i64> = Vec::new();
        let mut from = 0;
        while let Some(row) = self.rows.get(from) {
            let device = self.lane(row).device;
            found.push(device);
            from += self.rows_of(device).len();
        }
        found
    }

    /// What a row is.
    pub fn label(&self, row: &Row) -> &Label {
        &self.labels[row.label as usize]
    }

    /// Where a row ran.
    pub fn lane(&self, row: &Row) -> LaneOf {
        self.lanes[row.lane as usize]
    }

    /// The number of a row's label: equal numbers, equal labels.
    pub fn label_number(&self, row: &Row) -> u32 {
        row.label
    }
}

/// What a reader keeps beyond the GPU's rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Keep {
    /// Named ranges of the host and of the GPU's timeline: needed to find a model's blocks.
    pub annotations: bool,
}
