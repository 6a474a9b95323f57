//! Turns the rows of one device into its figures, all of them integers.
//!
//! * window = last end − first start, over kernels, copies and memsets
//! * busy of a kind = length of the union of its rows over all streams; sum = their plain sum, concurrent time twice
//! * `kernel_and_htod` = (union of kernels) ∩ (union of HtoD copies): copy time hidden behind any kernel;
//!   `compute_and_htod` the same without NCCL's kernels, which wait for other GPUs rather than compute
//! * exposed = HtoD busy − hidden; idle = window − union of everything
//! * the partition's parts sum to the window
//!
//! A row is the half-open interval from its start to its end, so one of no length is busy for no time.

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};

use super::sweep::{KINDS, Set, Sweep, Under};
use super::{Kind, Memory, Row, Trace};
use crate::profile::rate;
use crate::units::{Bytes, Fraction, Nanos, Rate, plain};

/// What one device did. JSON keys carry the unit; `htod` and the like are the traces' own words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Figures {
    /// The device's name, where the trace says it.
    pub name: Option<String>,
    /// First start to last end.
    #[serde(rename = "window_ns", serialize_with = "plain")]
    pub window: Nanos,
    /// Any kernel busy.
    #[serde(rename = "kernel_busy_ns", serialize_with = "plain")]
    pub kernel_busy: Nanos,
    /// Kernels that are not NCCL's busy.
    #[serde(rename = "compute_kernel_busy_ns", serialize_with = "plain")]
    pub compute_busy: Nanos,
    /// NCCL's kernels busy.
    #[serde(rename = "nccl_kernel_busy_ns", serialize_with = "plain")]
    pub nccl_busy: Nanos,
    /// Copies to the device busy.
    #[serde(rename = "htod_busy_ns", serialize_with = "plain")]
    pub htod_busy: Nanos,
    /// Copies to the host busy.
    #[serde(rename = "dtoh_busy_ns", serialize_with = "plain")]
    pub dtoh_busy: Nanos,
    /// Copies within the device busy.
    #[serde(rename = "dtod_busy_ns", serialize_with = "plain")]
    pub dtod_busy: Nanos,
    /// Copies of any direction busy.
    #[serde(rename = "memcpy_any_busy_ns", serialize_with = "plain")]
    pub memcpy_busy: Nanos,
    /// Memsets busy.
    #[serde(rename = "memset_busy_ns", serialize_with = "plain")]
    pub memset_busy: Nanos,
    /// Kernel durations added up.
    #[serde(rename = "kernel_sum_ns", serialize_with = "plain")]
    pub kernel_sum: Nanos,
    /// HtoD durations added up.
    #[serde(rename = "htod_sum_ns", serialize_with = "plain")]
    pub htod_sum: Nanos,
    /// HtoD copy time behind any kernel.
    #[serde(rename = "kernel_and_htod_ns", serialize_with = "plain")]
    pub kernel_and_htod: Nanos,
    /// HtoD copy time behind compute kernels.
    #[serde(rename = "compute_and_htod_ns", serialize_with = "plain")]
    pub compute_and_htod: Nanos,
    /// DtoH copy time behind any kernel.
    #[serde(rename = "kernel_and_dtoh_ns", serialize_with = "plain")]
    pub kernel_and_dtoh: Nanos,
    /// Copy time of any direction behind any kernel.
    #[serde(rename = "kernel_and_memcpy_any_ns", serialize_with = "plain")]
    pub kernel_and_memcpy: Nanos,
    /// Compute kernels and NCCL's at once.
    #[serde(rename = "compute_and_nccl_ns", serialize_with = "plain")]
    pub compute_and_nccl: Nanos,
    /// HtoD busy minus what any kernel hid.
    #[serde(rename = "htod_exposed_ns", serialize_with = "plain")]
    pub htod_exposed: Nanos,
    /// `kernel_and_htod` as a share of HtoD busy.
    #[serde(rename = "htod_hidden_fraction")]
    pub hidden_by_kernels: Fraction,
    /// `compute_and_htod` as a share of HtoD busy.
    #[serde(rename = "htod_hidden_fraction_compute")]
    pub hidden_by_compute: Fraction,
    /// Anything busy.
    #[serde(rename = "gpu_busy_ns", serialize_with = "plain")]
    pub busy: Nanos,
    /// Nothing busy.
    #[serde(rename = "idle_ns", serialize_with = "plain")]
    pub idle: Nanos,
    /// No kernel busy.
    #[serde(rename = "no_kernel_ns", serialize_with = "plain")]
    pub no_kernel: Nanos,
    /// Rows of each sort: `kernel`, `htod`, …
    pub counts: BTreeMap<&'static str, u64>,
    /// Bytes of copies, as far as the trace says them.
    #[serde(serialize_with = "plain_map")]
    pub bytes: BTreeMap<&'static str, Bytes>,
    /// Exclusive states over the window; they sum to it.
    #[serde(rename = "partition_ns", serialize_with = "plain_map")]
    pub partition: BTreeMap<String, Nanos>,
    /// HtoD copies by how much of them kernels hid.
    pub htod_copies: BTreeMap<Hidden, u64>,
    /// HtoD time on streams that also ran kernels: such a copy cannot overlap the kernels of its stream.
    #[serde(rename = "htod_on_kernel_streams_ns", serialize_with = "plain")]
    pub htod_on_kernel_streams: Nanos,
    /// Neighbours on one stream of which the later starts before the earlier ends: programmatic dependent launch, or
    /// noise of the profiler's clock.
    pub same_stream_overlapping_neighbours: u64,
    /// Copies by direction, host memory and size.
    pub copies: Vec<CopyGroup>,
    /// What each stream did.
    pub streams: BTreeMap<String, Stream>,
}

/// How much of a copy ran under kernels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Hidden {
    /// All of it.
    FullyHidden,
    /// Some of it.
    PartlyHidden,
    /// None of it.
    Exposed,
    /// It has no length.
    ZeroDuration,
}

impl Hidden {
    fn of(duration: u64, hidden: u64) -> Self {
        match () {
            () if duration == 0 => Self::ZeroDuration,
            () if hidden == 0 => Self::Exposed,
            () if hidden == duration => Self::FullyHidden,
            () => Self::PartlyHidden,
        }
    }
}

/// Copies of one direction, host memory and size.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CopyGroup {
    /// Direction.
    pub direction: Kind,
    /// The host's side.
    pub memory: Memory,
    /// How large.
    pub size: SizeClass,
    /// How many.
    pub count: u64,
    /// Their bytes.
    #[serde(serialize_with = "plain")]
    pub bytes: Bytes,
    /// Their durations added up.
    #[serde(rename = "time_ns", serialize_with = "plain")]
    pub time: Nanos,
    /// Of that, time that any kernel ran meanwhile.
    #[serde(rename = "hidden_ns", serialize_with = "plain")]
    pub hidden: Nanos,
    /// Of that, time that a compute kernel ran meanwhile.
    #[serde(rename = "hidden_by_compute_ns", serialize_with = "plain")]
    pub hidden_by_compute: Nanos,
    /// Bytes over time; zero where either is unknown.
    #[serde(rename = "bytes_per_s", serialize_with = "plain")]
    pub rate: Rate,
    /// The slowest copy's rate.
    #[serde(rename = "slowest_bytes_per_s", serialize_with = "plain")]
    pub slowest: Rate,
    /// The fastest copy's rate.
    #[serde(rename = "fastest_bytes_per_s", serialize_with = "plain")]
    pub fastest: Rate,
}

/// How large a copy is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum SizeClass {
    /// Not said.
    #[serde(rename = "unknown")]
    Unknown,
    /// Below 64 KiB: latency is most of it.
    #[serde(rename = "<64KiB")]
    Tiny,
    /// Below 1 MiB.
    #[serde(rename = "64KiB-1MiB")]
    Small,
    /// Below 16 MiB.
    #[serde(rename = "1-16MiB")]
    Medium,
    /// Below 256 MiB.
    #[serde(rename = "16-256MiB")]
    Large,
    /// All above.
    #[serde(rename = ">=256MiB")]
    Huge,
}

impl SizeClass {
    /// The class of a size.
    pub const fn of(size: Option<Bytes>) -> Self {
        let Some(size) = size else { return Self::Unknown };
        match size.get() {
            0..0x1_0000 => Self::Tiny,
            0x1_0000..0x10_0000 => Self::Small,
            0x10_0000..0x100_0000 => Self::Medium,
            0x100_0000..0x1000_0000 => Self::Large,
            _ => Self::Huge,
        }
    }

    /// For tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Tiny => "<64 KiB",
            Self::Small => "64 KiB-1 MiB",
            Self::Medium => "1-16 MiB",
            Self::Large => "16-256 MiB",
            Self::Huge => ">=256 MiB",
        }
    }
}

/// What one stream did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Stream {
    /// Any kernel busy.
    #[serde(rename = "kernel_busy_ns", serialize_with = "plain")]
    pub kernel: Nanos,
    /// Copies to the device busy.
    #[serde(rename = "htod_busy_ns", serialize_with = "plain")]
    pub htod: Nanos,
    /// Copies to the host busy.
    #[serde(rename = "dtoh_busy_ns", serialize_with = "plain")]
    pub dtoh: Nanos,
    /// Copies within the device busy.
    #[serde(rename = "dtod_busy_ns", serialize_with = "plain")]
    pub dtod: Nanos,
    /// All other copies busy.
    #[serde(rename = "other_copy_busy_ns", serialize_with = "plain")]
    pub other_copy: Nanos,
    /// Memsets busy.
    #[serde(rename = "memset_busy_ns", serialize_with = "plain")]
    pub memset: Nanos,
    /// Rows.
    pub rows: u64,
}

fn plain_map<K: Serialize, V: Copy + Into<u64>, S: Serializer>(
    values: &BTreeMap<K, V>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(values.iter().map(|(key, value)| (key, (*value).into())))
}

/// The figures of every device that has rows.
pub fn figures(trace: &Trace) -> BTreeMap<i64, Figures> {
    trace.used_devices().into_iter().map(|device| (device, of_device(trace, device))).collect()
}

fn of_device(trace: &Trace, device: i64) -> Figures {
    let rows = trace.rows_of(device);
    let first = rows.first().map_or(0, |row| row.start);
    let last = rows.iter().map(|row| row.end).max().unwrap_or(first);
    let mut counts = Counts::default();
    let mut streams: BTreeMap<i64, StreamWalk> = BTreeMap::new();
    let mut sweep = Sweep::new(first);
    for (index, row) in rows.iter().enumerate() {
        let label = trace.label(row);
        let copy = label.kind.is_copy().then_some(index);
        let ended = |under| counts.copy_ended(trace, rows, under);
        sweep.row(label.kind, (row.start, row.end), copy, ended);
        counts.row(label.kind, row);
        streams.entry(trace.lane(row).stream).or_default().row(label.kind, row);
    }
    let times = sweep.finish(last, |under| counts.copy_ended(trace, rows, under));
    let info = trace.devices.get(&device);
    assemble(info.and_then(|info| info.name.clone()), last - first, &times, counts, streams)
}

fn assemble(
    name: Option<String>,
    window: u64,
    times: &[(Set, u64)],
    counts: Counts,
    streams: BTreeMap<i64, StreamWalk>,
) -> Figures {
    let both = |a: Set, b: Set| {
        let sum = times.iter().filter(|(set, _)| set.meets(a) && set.meets(b));
        Nanos::new(sum.map(|(_, time)| time).sum())
    };
    let busy = |set: Set| both(set, set);
    let (kernels, copies) = (Set::kernels(), Set::copies());
    let of = |kind: Kind| Set::of([kind]);
    let (htod, window) = (of(Kind::Htod), Nanos::new(window));
    let (any, kernel_busy, htod_busy) = (busy(Set(u8::MAX)), busy(kernels), busy(htod));
    let (hidden, by_compute) = (both(kernels, htod), both(of(Kind::Compute), htod));
    let on_kernel_streams = streams.values().filter(|one| !one.busy.kernel.is_zero());
    let mut figures = Figures {
        name,
        window,
        kernel_busy,
        compute_busy: busy(of(Kind::Compute)),
        nccl_busy: busy(of(Kind::Nccl)),
        htod_busy,
        dtoh_busy: busy(of(Kind::Dtoh)),
        dtod_busy: busy(of(Kind::Dtod)),
        memcpy_busy: busy(copies),
        memset_busy: busy(of(Kind::Memset)),
        kernel_sum: [Kind::Compute, Kind::Nccl]
            .map(|kind| counts.sums[kind.index()])
            .into_iter()
            .sum(),
        htod_sum: counts.sums[Kind::Htod.index()],
        kernel_and_htod: hidden,
        compute_and_htod: by_compute,
        kernel_and_dtoh: both(kernels, of(Kind::Dtoh)),
        kernel_and_memcpy: both(kernels, copies),
        compute_and_nccl: both(of(Kind::Compute), of(Kind::Nccl)),
        htod_exposed: htod_busy.saturating_sub(hidden),
        hidden_by_kernels: Fraction::of(hidden.get(), htod_busy.get()),
        hidden_by_compute: Fraction::of(by_compute.get(), htod_busy.get()),
        busy: any,
        idle: window.saturating_sub(any),
        no_kernel: window.saturating_sub(kernel_busy),
        counts: counts.counts,
        bytes: counts.bytes,
        partition: partition(times),
        htod_copies: counts.hidden,
        htod_on_kernel_streams: on_kernel_streams.map(|one| one.busy.htod).sum(),
        same_stream_overlapping_neighbours: streams.values().map(|one| one.overlapping).sum(),
        copies: counts.groups.into_values().collect(),
        streams: streams.into_iter().map(|(id, one)| (id.to_string(), one.busy)).collect(),
    };
    for group in &mut figures.copies {
        group.rate = rate(group.bytes, group.time);
    }
    figures
}

/// Combinations of `kernel`, `memcpy` and `memset`, the kinds within each put together.
fn partition(times: &[(Set, u64)]) -> BTreeMap<String, Nanos> {
    let parts = [
        (Set::kernels(), "kernel"),
        (Set::copies(), "memcpy"),
        (Set::of([Kind::Memset]), "memset"),
    ];
    let mut found: BTreeMap<String, Nanos> = BTreeMap::new();
    for &(set, time) in times {
        let names: Vec<&str> =
            parts.iter().filter(|(part, _)| part.meets(set)).map(|(_, name)| *name).collect();
        let name = if names.is_empty() { "idle".to_owned() } else { names.join("+") };
        let sum = found.entry(name).or_default();
        *sum = sum.saturating_add(Nanos::new(time));
    }
    found
}

/// What is counted row by row.
#[derive(Default)]
struct Counts {
    counts: BTreeMap<&'static str, u64>,
    bytes: BTreeMap<&'static str, Bytes>,
    sums: [Nanos; KINDS],
    hidden: BTreeMap<Hidden, u64>,
    groups: BTreeMap<(Kind, Memory, SizeClass), CopyGroup>,
}

impl Counts {
    fn row(&mut self, kind: Kind, row: &Row) {
        let name = if kind.is_kernel() { "kernel" } else { kind.name() };
        *self.counts.entry(name).or_insert(0) += 1;
        let sum = &mut self.sums[kind.index()];
        *sum = sum.saturating_add(row.duration());
        if kind.is_copy() {
            let bytes = self.bytes.entry(name).or_default();
            *bytes = bytes.saturating_add(row.bytes().unwrap_or_default());
        }
    }

    fn copy_ended(&mut self, trace: &Trace, rows: &[Row], under: Under<usize>) {
        let row = &rows[under.copy];
        let label = trace.label(row);
        if label.kind == Kind::Htod {
            let hidden = Hidden::of(row.duration().get(), under.kernel);
            *self.hidden.entry(hidden).or_insert(0) += 1;
        }
        let size = SizeClass::of(row.bytes());
        let group = self.groups.entry((label.kind, label.memory, size)).or_insert(CopyGroup {
            direction: label.kind,
            memory: label.memory,
            size,
            count: 0,
            bytes: Bytes::ZERO,
            time: Nanos::ZERO,
            hidden: Nanos::ZERO,
            hidden_by_compute: Nanos::ZERO,
            rate: Rate::ZERO,
            slowest: Rate::ZERO,
            fastest: Rate::ZERO,
        });
        let bytes = row.bytes().unwrap_or_default();
        group.count += 1;
        group.bytes = group.bytes.saturating_add(bytes);
        group.time = group.time.saturating_add(row.duration());
        group.hidden = group.hidden.saturating_add(Nanos::new(under.kernel));
        group.hidden_by_compute = group.hidden_by_compute.saturating_add(Nanos::new(under.compute));
        let speed = rate(bytes, row.duration());
        if !speed.is_zero() {
            group.fastest = group.fastest.max(speed);
            group.slowest = if group.slowest.is_zero() { speed } else { group.slowest.min(speed) };
        }
    }
}

/// A walk over the rows of one stream.
#[derive(Default)]
struct StreamWalk {
    busy: Stream,
    /// Until when each part of [`Stream`] is busy.
    ends: [u64; 6],
    /// The end of the row before.
    before: u64,
    overlapping: u64,
}

impl StreamWalk {
    fn row(&mut self, kind: Kind, row: &Row) {
        let (part, busy) = match kind {
            Kind::Compute | Kind::Nccl => (0, &mut self.busy.kernel),
            Kind::Htod => (1, &mut self.busy.htod),
            Kind::Dtoh => (2, &mut self.busy.dtoh),
            Kind::Dtod => (3, &mut self.busy.dtod),
            Kind::Ptop | Kind::OtherCopy => (4, &mut self.busy.other_copy),
            Kind::Memset => (5, &mut self.busy.memset),
        };
        // Rows come by start, so what is new of this one lies behind the latest end so far.
        let new = row.end.saturating_sub(row.start.max(self.ends[part]));
        *busy = busy.saturating_add(Nanos::new(new));
        self.ends[part] = self.ends[part].max(row.end);
        self.overlapping += u64::from(self.busy.rows > 0 && row.start < self.before);
        self.before = row.end;
        self.busy.rows += 1;
    }
}
