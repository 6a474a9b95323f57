//! Turns the rows of a trace into CSV, one line per row, by device and start. Times are integer nanoseconds since the
//! first row of the trace.

use std::collections::BTreeMap;

use csv::Writer;
use serde_json::Value;

use crate::error::{Error, Result};
use crate::profile::trace::{Figures, Trace};

const COLUMNS: [&str; 10] = [
    "device",
    "stream",
    "kind",
    "host_memory",
    "start_ns",
    "end_ns",
    "duration_ns",
    "bytes",
    "correlation",
    "name",
];

/// The rows as CSV with a header line; a size that the trace does not say is empty.
pub(super) fn rows_csv(trace: &Trace) -> Result<Vec<u8>> {
    let failed = |error: csv::Error| Error::Internal(format!("cannot write CSV: {error}"));
    let mut writer = Writer::from_writer(Vec::new());
    writer.write_record(COLUMNS).map_err(failed)?;
    for row in trace.rows() {
        let (label, lane) = (trace.label(row), trace.lane(row));
        let record = [
            lane.device.to_string(),
            lane.stream.to_string(),
            label.kind.name().to_owned(),
            if label.kind.is_copy() { label.memory.name().to_owned() } else { String::new() },
            row.start().get().to_string(),
            row.end().get().to_string(),
            row.duration().get().to_string(),
            row.bytes().map(|bytes| bytes.get().to_string()).unwrap_or_default(),
            row.correlation.to_string(),
            label.name.to_string(),
        ];
        writer.write_record(record).map_err(failed)?;
    }
    writer.into_inner().map_err(|error| Error::Internal(format!("cannot write CSV: {error}")))
}

/// Every figure that is a time as CSV with a header line: device, figure, nanoseconds.
pub(super) fn figures_csv(devices: &BTreeMap<i64, Figures>) -> Result<Vec<u8>> {
    let failed = |error: csv::Error| Error::Internal(format!("cannot write CSV: {error}"));
    let mut writer = Writer::from_writer(Vec::new());
    writer.write_record(["device", "figure", "ns"]).map_err(failed)?;
    for (device, figures) in devices {
        let value = serde_json::to_value(figures)
            .map_err(|error| Error::Internal(format!("cannot write JSON: {error}")))?;
        let Value::Object(fields) = value else { continue };
        for (name, value) in fields {
            let Some(figure) = name.strip_suffix("_ns") else { continue };
            if let Some(time) = value.as_u64() {
                let row = [device.to_string(), figure.to_owned(), time.to_string()];
                writer.write_record(row).map_err(failed)?;
            }
        }
    }
    writer.into_inner().map_err(|error| Error::Internal(format!("cannot write CSV: {error}")))
}
