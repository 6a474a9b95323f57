//! Turns rows as a reader finds them into a sorted [`Trace`], and counts what cannot be used.

use std::collections::BTreeMap;

use crate::figures::Origin;

use super::{
    Annotation, Format, GpuInfo, Kind, LONGEST_NAME, Label, LaneOf, Launch, LeftOut, Memory,
    NO_BYTES, Place, Reason, Row, Trace,
};

/// Rows that are kept at most: 2.5 GiB of them.
const MOST_ROWS: usize = 1 << 26;

/// Distinct names and categories that are kept at most; a hostile file must not fill memory with them.
const MOST_NAMES: usize = 1 << 20;
const MOST_CATEGORIES: usize = 200;

/// Rows before the first one by more than this are stamps that the profiler never filled in.
const A_DAY: u64 = 86_400_000_000_000;

/// Zero of the time that a reader gives, as it is kept: an order-preserving shift of signed to unsigned.
const ZERO: u64 = 1 << 63;

/// A row as a reader finds it.
#[derive(Debug, Clone, Copy)]
pub struct Raw<'a> {
    /// The device's index.
    pub device: i64,
    /// The stream's number.
    pub stream: i64,
    /// What it does.
    pub kind: Kind,
    /// The host's side of a copy.
    pub memory: Memory,
    /// Its name.
    pub name: &'a str,
    /// Start in nanoseconds, on the trace's clock.
    pub start: i64,
    /// End in nanoseconds.
    pub end: i64,
    /// Bytes moved or set.
    pub bytes: Option<u64>,
    /// Links it to its launch; zero where not said.
    pub correlation: u64,
}

/// Collects rows.
#[derive(Debug)]
pub struct Builder {
    format: Format,
    devices: BTreeMap<i64, GpuInfo>,
    rows: Vec<Row>,
    labels: Vec<Label>,
    by_label: BTreeMap<(Kind, Memory), BTreeMap<Box<str>, u32>>,
    lanes: Vec<LaneOf>,
    by_lane: BTreeMap<LaneOf, u32>,
    launches: Vec<Launch>,
    annotations: Vec<Annotation>,
    annotation_names: Vec<Box<str>>,
    by_annotation: BTreeMap<Box<str>, u32>,
    left_out: LeftOut,
    cut: Option<String>,
    origin: Origin,
}

/// Adds to a list that grows by a sixteenth, not by doubling: what is kept is most of what is used.
fn push<T>(list: &mut Vec<T>, value: T) {
    if list.len() == list.capacity() {
        list.reserve_exact(list.len() / 16 + 1024);
    }
    list.push(value);
}

/// A name cut to what is kept, at a character.
fn cut_name(name: &str) -> (&str, bool) {
    if name.len() <= LONGEST_NAME {
        return (name, false);
    }
    let end = (0..=LONGEST_NAME).rev().find(|&at| name.is_char_boundary(at)).unwrap_or(0);
    (&name[..end], true)
}

fn shifted(time: i64) -> u64 {
    time.cast_unsigned() ^ ZERO
}

impl Builder {
    /// Nothing yet.
    pub fn new(format: Format) -> Self {
        Self {
            format,
            devices: BTreeMap::new(),
            rows: Vec::new(),
            labels: Vec::new(),
            by_label: BTreeMap::new(),
            lanes: Vec::new(),
            by_lane: BTreeMap::new(),
            launches: Vec::new(),
            annotations: Vec::new(),
            annotation_names: Vec::new(),
            by_annotation: BTreeMap::new(),
            left_out: LeftOut::default(),
            cut: None,
            origin: Origin::Measured,
        }
    }

    /// Says where the times come from; a profiler's are measured.
    pub fn origin(&mut self, origin: Origin) {
        self.origin = origin;
    }

    /// What the trace says of a device.
    pub fn device(&mut self, device: i64, info: GpuInfo) {
        if self.devices.len() < MOST_CATEGORIES {
            self.devices.insert(device, info);
        }
    }

    /// Adds a row, or counts why not.
    pub fn row(&mut self, raw: &Raw<'_>) {
        if raw.end < raw.start {
            let backward = || {
                format!("{:?} ends {} ns before it starts", raw.name, raw.start.abs_diff(raw.end))
            };
            return self.refuse(Reason::NegativeDuration, backward);
        }
        if self.rows.len() >= MOST_ROWS {
            return self.refuse(Reason::TooMany, || format!("{MOST_ROWS} rows are kept"));
        }
        let label = self.label(raw);
        let of = LaneOf { device: raw.device, stream: raw.stream };
        let next = u32::try_from(self.lanes.len()).unwrap_or(u32::MAX);
        let lane = *self.by_lane.entry(of).or_insert_with(|| {
            self.lanes.push(of);
            next
        });
        self.left_out.copies_without_bytes += u64::from(raw.kind.is_copy() && raw.bytes.is_none());
        let row = Row {
            start: shifted(raw.start),
            end: shifted(raw.end),
            bytes: raw.bytes.map_or(NO_BYTES, |bytes| bytes.min(NO_BYTES - 1)),
            correlation: raw.correlation,
            label,
            lane,
        };
        push(&mut self.rows, row);
    }

    fn label(&mut self, raw: &Raw<'_>) -> u32 {
        let (name, cut) = cut_name(raw.name);
        self.left_out.cut_names += u64::from(cut);
        let name = if self.labels.len() < MOST_NAMES { name } else { "(one of too many names)" };
        let of_kind = self.by_label.entry((raw.kind, raw.memory)).or_default();
        if let Some(&known) = of_kind.get(name) {
            return known;
        }
        let number = u32::try_from(self.labels.len()).unwrap_or(u32::MAX);
        of_kind.insert(name.into(), number);
        self.labels.push(Label { kind: raw.kind, memory: raw.memory, name: name.into() });
        number
    }

    /// Adds a call that launched work.
    pub fn launch(&mut self, correlation: u64, start: i64, thread: u64) {
        if self.launches.len() < MOST_ROWS {
            push(&mut self.launches, Launch { correlation, start, thread });
        }
    }

    /// Adds a named range; one that ends before it starts is left out.
    pub fn annotation(&mut self, on: Place, name: &str, start: i64, end: i64) {
        if end < start || self.annotations.len() >= MOST_ROWS {
            return;
        }
        let name: Box<str> = cut_name(name).0.into();
        let number = match self.by_annotation.get(&name) {
            Some(&known) => known,
            None if self.annotation_names.len() >= MOST_NAMES => return,
            None => {
                let number = u32::try_from(self.annotation_names.len()).unwrap_or(u32::MAX);
                self.annotation_names.push(name.clone());
                self.by_annotation.insert(name, number);
                number
            }
        };
        let range = Annotation { on, start, end, name: number };
        push(&mut self.annotations, range);
    }

    /// Counts a GPU row that cannot be used; the first one is kept in words.
    pub fn refuse(&mut self, reason: Reason, words: impl FnOnce() -> String) {
        *self.left_out.rows.entry(reason).or_insert(0) += 1;
        if self.left_out.first.is_none() {
            let words: String = words().chars().take(200).collect();
            self.left_out.first = Some(words);
        }
    }

    /// Counts an event that is no GPU work.
    pub fn other(&mut self, category: &str) {
        if let Some(count) = self.left_out.other_events.get_mut(category) {
            *count += 1;
            return;
        }
        let full = self.left_out.other_events.len() >= MOST_CATEGORIES;
        let name = if full { "(other)" } else { cut_name(category).0 };
        *self.left_out.other_events.entry(name.to_owned()).or_insert(0) += 1;
    }

    /// Counts a time that had to be rounded.
    pub fn rounded(&mut self) {
        self.left_out.rounded_times += 1;
    }

    /// Says that the end of the trace is missing.
    pub fn cut(&mut self, why: String) {
        self.cut = Some(why);
    }

    /// Rows so far.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is no row yet.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Rows refused so far.
    pub fn refused(&self) -> u64 {
        self.left_out.rows.values().sum()
    }

    /// Sorts the rows and moves time's zero to the first of them.
    pub fn finish(mut self) -> Trace {
        self.drop_unfilled();
        self.rows.shrink_to(self.rows.len() + self.rows.len() / 16);
        let lanes = &self.lanes;
        let order = |row: &Row| {
            let lane = lanes[row.lane as usize];
            (lane.device, row.start, row.end, lane.stream, row.label, row.correlation)
        };
        self.rows.sort_unstable_by_key(order);
        self.left_out.repeated_rows =
            self.rows.windows(2).filter(|pair| order(&pair[0]) == order(&pair[1])).count() as u64;
        let zero = self.rows.iter().map(|row| row.start).min().unwrap_or(ZERO);
        for row in &mut self.rows {
            (row.start, row.end) = (row.start - zero, row.end - zero);
        }
        // The host is at work before the first row: its times are below zero then.
        let zero = (zero ^ ZERO).cast_signed();
        for launch in &mut self.launches {
            launch.start = launch.start.saturating_sub(zero);
        }
        for range in &mut self.annotations {
            range.start = range.start.saturating_sub(zero);
            range.end = range.end.saturating_sub(zero);
        }
        self.launches.sort_unstable();
        self.annotations.sort_unstable_by(|a, b| {
            (a.on, a.start, b.end, a.name).cmp(&(b.on, b.start, a.end, b.name))
        });
        self.match_launches();
        for lane in &self.lanes {
            self.devices.entry(lane.device).or_default();
        }
        Trace {
            format: self.format,
            devices: self.devices,
            rows: self.rows,
            labels: self.labels,
            lanes: self.lanes,
            launches: self.launches,
            annotations: self.annotations,
            annotation_names: self.annotation_names,
            left_out: self.left_out,
            cut: self.cut,
            origin: self.origin,
        }
    }

    /// Leaves out rows at time zero where all real ones are more than a day later.
    fn drop_unfilled(&mut self) {
        let real = self.rows.iter().map(|row| row.start).filter(|&start| start > ZERO).min();
        let Some(real) = real else { return };
        let before = self.rows.len();
        self.rows.retain(|row| row.start > ZERO || real - row.start <= A_DAY);
        for _ in self.rows.len()..before {
            self.refuse(Reason::ZeroStart, || "a row at time zero or before".into());
        }
    }

    /// Counts launches without rows and rows without launches, by correlation.
    fn match_launches(&mut self) {
        if self.launches.is_empty() {
            return;
        }
        let mut seen = vec![false; self.launches.len()];
        for row in self.rows.iter().filter(|row| row.correlation != 0) {
            let from = self.launches.partition_point(|one| one.correlation < row.correlation);
            match self.launches.get(from).filter(|one| one.correlation == row.correlation) {
                Some(_) => seen[from] = true,
                None => self.left_out.rows_without_launch += 1,
            }
        }
        let mut without = 0;
        for (index, launch) in self.launches.iter().enumerate() {
            let first = index == 0 || self.launches[index - 1].correlation != launch.correlation;
            without += u64::from(first && !seen[index]);
        }
        self.left_out.launches_without_row = without;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(name: &str, start: i64, end: i64) -> Raw<'_> {
        Raw {
            device: 0,
            stream: 7,
            kind: Kind::of_kernel(name),
            memory: Memory::Unknown,
            name,
            start,
            end,
            bytes: None,
            correlation: 0,
        }
    }

    fn build(rows: &[Raw<'_>]) -> Trace {
        let mut builder = Builder::new(Format::ChromeJson);
        for row in rows {
            builder.row(row);
        }
        builder.finish()
    }

    #[test]
    fn rows_are_sorted_and_time_begins_with_the_first() {
        let trace = build(&[raw("b", 500, 900), raw("a", -100, 50)]);
        let times: Vec<_> =
            trace.rows().iter().map(|row| (row.start().get(), row.end().get())).collect();
        assert_eq!(times, [(0, 150), (600, 1_000)]);
        assert_eq!(&*trace.label(&trace.rows()[0]).name, "a");
    }

    #[test]
    fn rows_that_the_profiler_never_stamped_are_left_out() {
        let late = 1_695_835_542_514_261_000;
        let trace = build(&[raw("lost", 0, 0), raw("kept", late, late + 5)]);
        assert_eq!((trace.rows().len(), trace.left_out.rows[&Reason::ZeroStart]), (1, 1));
        // A trace whose clock begins at its own start is whole.
        assert_eq!(build(&[raw("first", 0, 4), raw("second", 5, 9)]).rows().len(), 2);
    }

    #[test]
    fn backward_rows_and_repeated_ones_are_counted() {
        let trace = build(&[raw("a", 9, 5), raw("b", 1, 2), raw("b", 1, 2)]);
        assert_eq!(trace.left_out.rows[&Reason::NegativeDuration], 1);
        assert_eq!(trace.left_out.first.as_deref(), Some("\"a\" ends 4 ns before it starts"));
        assert_eq!((trace.rows().len(), trace.left_out.repeated_rows), (2, 1));
    }

    #[test]
    fn launches_and_rows_are_compared() {
        let mut builder = Builder::new(Format::ChromeJson);
        for (correlation, start) in [(1, 10), (1, 20), (3, 30)] {
            builder.row(&Raw { correlation, ..raw("graph", start, start + 5) });
        }
        for correlation in [1, 1, 2] {
            builder.launch(correlation, 5, 0);
        }
        let left_out = builder.finish().left_out;
        // One launch may give many rows (a CUDA graph); launch 2 has none, row 3 no launch.
        assert_eq!((left_out.launches_without_row, left_out.rows_without_launch), (1, 1));
    }

    #[test]
    fn long_names_are_cut_at_a_character() {
        let name = "é".repeat(LONGEST_NAME);
        let trace = build(&[raw(&name, 0, 1)]);
        assert_eq!(trace.label(&trace.rows()[0]).name.len(), LONGEST_NAME);
        assert_eq!(trace.left_out.cut_names, 1);
        let odd = format!("x{name}");
        assert_eq!(build(&[raw(&odd, 0, 1)]).labels[0].name.len(), LONGEST_NAME - 1);
    }

    #[test]
    fn nccl_is_told_apart_by_its_name() {
        assert_eq!(Kind::of_kernel("ncclDevKernel_AllReduce_Sum_f16_RING_LL"), Kind::Nccl);
        assert_eq!(Kind::of_kernel("ncclLocalOp"), Kind::Compute);
        assert_eq!(Kind::of_kernel("my_ncclKernel"), Kind::Compute);
    }
}
