//! Turns the rows of one device into lanes: busy columns for a picture, and no more marks than a page can hold.

use crate::lane::Lane;
use crate::profile::trace::{Kind, Row, Trace};
use crate::report::slices::Window;
use crate::units::Nanos;

/// A row of a timeline.
pub(super) struct LaneOf {
    /// What it is called.
    pub name: &'static str,
    /// The class of the style sheet that draws it.
    pub class: &'static str,
    /// The lane whose colour it has in pictures; none for grey.
    pub colour: Option<Lane>,
    kinds: &'static [Kind],
}

const LANES: [LaneOf; 6] = [
    LaneOf {
        name: "compute",
        class: "compute",
        colour: Some(Lane::Compute),
        kinds: &[Kind::Compute],
    },
    LaneOf { name: "NCCL", class: "disk", colour: Some(Lane::Disk), kinds: &[Kind::Nccl] },
    LaneOf { name: "HtoD", class: "h2d", colour: Some(Lane::H2d), kinds: &[Kind::Htod] },
    LaneOf { name: "DtoH", class: "d2h", colour: Some(Lane::D2h), kinds: &[Kind::Dtoh] },
    LaneOf {
        name: "other copies",
        class: "host",
        colour: Some(Lane::Host),
        kinds: &[Kind::Dtod, Kind::Ptop, Kind::OtherCopy],
    },
    LaneOf { name: "memset", class: "reserve", colour: None, kinds: &[Kind::Memset] },
];

/// The lanes that a device has rows on, each with its rows by start.
pub(super) fn lanes(trace: &Trace, device: i64) -> Vec<(&'static LaneOf, Vec<&Row>)> {
    let rows = trace.rows_of(device);
    let of = |lane: &'static LaneOf| {
        let mine = rows.iter().filter(|row| lane.kinds.contains(&trace.label(row).kind));
        (lane, mine.collect::<Vec<_>>())
    };
    LANES.iter().map(of).filter(|(_, rows)| !rows.is_empty()).collect()
}

/// First start to last end of a device.
pub(super) fn window(trace: &Trace, device: i64, length: Nanos) -> Window {
    let start = trace.rows_of(device).first().map_or(Nanos::ZERO, Row::start);
    Window { start, end: start.saturating_add(length) }
}

/// Busy height per column of `plot`, of at most `tall`, empty columns left out. Rows come by start; time is counted
/// once.
pub(super) fn columns(rows: &[&Row], window: Window, plot: u32, tall: u32) -> Vec<(u32, u32)> {
    let mut busy = vec![0u64; plot as usize + 1];
    let edge = |column: u32| {
        let part = u128::from(window.length()) * u128::from(column) / u128::from(plot.max(1));
        window.start.get() + u64::try_from(part).unwrap_or(0)
    };
    let mut done = window.start;
    for row in rows {
        let (start, end) = (row.start().max(done), row.end());
        done = done.max(end);
        if start >= end {
            continue;
        }
        let (first, last) = (window.place(start, plot), window.place(end, plot));
        for column in first..=last.min(plot) {
            let (from, to) = (edge(column).max(start.get()), edge(column + 1).min(end.get()));
            if let Some(sum) = busy.get_mut(column as usize) {
                *sum += to.saturating_sub(from);
            }
        }
    }
    let whole = window.column(u64::from(plot)).get().max(1);
    let height = |busy: u64| {
        let part = u128::from(tall) * u128::from(busy) / u128::from(whole);
        u32::try_from(part).unwrap_or(tall).clamp(1, tall)
    };
    let used = (0u32..).zip(busy).filter(|(_, busy)| *busy > 0);
    used.map(|(column, busy)| (column, height(busy))).collect()
}

/// Rows that start within one column of time.
pub(super) struct Mark<'a> {
    /// The first of them.
    pub row: &'a Row,
    /// Their last end.
    pub end: Nanos,
    /// How many they are.
    pub count: u64,
    /// How long any of them ran.
    pub busy: Nanos,
}

/// The rows of a lane; those that start less than `column` apart share a mark.
pub(super) fn marks<'a>(rows: &[&'a Row], column: Nanos) -> Vec<Mark<'a>> {
    let mut merged: Vec<Mark<'a>> = Vec::new();
    for &row in rows {
        match merged.last_mut() {
            Some(last) if row.start() < last.row.start().saturating_add(column) => {
                let new = row.end().saturating_sub(row.start().max(last.end));
                last.busy = last.busy.saturating_add(new);
                last.end = last.end.max(row.end());
                last.count += 1;
            }
            _ => merged.push(Mark { row, end: row.end(), count: 1, busy: row.duration() }),
        }
    }
    merged
}
