//! Turns the spans of a [`Profile`] into CSV, one row per span, in the profile's order.
//!
//! Times are integer nanoseconds since the start of the run. `block` carries the name, not an index;
//! `waited_for` is `lane/component.block/pass` of the operation whose end let this one start, empty where its own
//! lane was the last.

use csv::Writer;

use super::{Profile, Span};
use crate::error::{Error, Result};

const COLUMNS: [&str; 11] = [
    "lane",
    "op",
    "component",
    "block",
    "piece",
    "pass",
    "start_ns",
    "end_ns",
    "duration_ns",
    "bytes",
    "waited_for",
];

/// The spans as CSV with a header line.
pub fn spans_csv(profile: &Profile) -> Result<Vec<u8>> {
    let failed = |error: csv::Error| Error::Internal(format!("cannot write CSV: {error}"));
    let mut writer = Writer::from_writer(Vec::new());
    writer.write_record(COLUMNS).map_err(failed)?;
    for span in &profile.spans {
        writer.write_record(row(profile, span)).map_err(failed)?;
    }
    writer.into_inner().map_err(|error| Error::Internal(format!("cannot write CSV: {error}")))
}

/// The samples of VRAM in use as CSV with a header line: from `at_ns` on, so many bytes of the slab are in use.
pub fn vram_csv(profile: &Profile) -> Result<Vec<u8>> {
    let failed = |error: csv::Error| Error::Internal(format!("cannot write CSV: {error}"));
    let mut writer = Writer::from_writer(Vec::new());
    writer.write_record(["at_ns", "in_use_bytes"]).map_err(failed)?;
    for sample in &profile.vram {
        let row = [sample.at.get().to_string(), sample.in_use.get().to_string()];
        writer.write_record(row).map_err(failed)?;
    }
    writer.into_inner().map_err(|error| Error::Internal(format!("cannot write CSV: {error}")))
}

fn row(profile: &Profile, span: &Span) -> [String; 11] {
    let component = profile.header.components.get(span.component as usize);
    let block = component.and_then(|component| component.blocks.get(span.block as usize));
    let waited_for = span.waited_for.map(|cause| {
        let id = profile.block_id(cause.component, cause.block);
        format!("{}/{id}/{}", cause.lane, cause.pass)
    });
    [
        span.lane.to_string(),
        span.op.name().to_owned(),
        component.map_or("?", |component| component.name.as_str()).to_owned(),
        block.map_or("?", String::as_str).to_owned(),
        span.piece.map(|piece| piece.to_string()).unwrap_or_default(),
        span.pass.to_string(),
        span.start.get().to_string(),
        span.end.get().to_string(),
        span.duration().get().to_string(),
        span.bytes.get().to_string(),
        waited_for.unwrap_or_default(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::fixture;

    #[test]
    fn the_small_run_as_a_table() {
        let csv = String::from_utf8(spans_csv(&fixture::small()).expect("rows")).expect("text");
        expect_test::expect_file!["../../tests/golden/profile/small.spans.csv"].assert_eq(&csv);
    }

    #[test]
    fn names_with_commas_and_quotes_survive() {
        let mut profile = fixture::small();
        profile.header.components[0].blocks[0] = "a,\"b\"\nc".into();
        let csv = spans_csv(&profile).expect("rows");
        let mut reader = csv::Reader::from_reader(csv.as_slice());
        let rows: Vec<csv::StringRecord> =
            reader.records().map(|row| row.expect("a row")).collect();
        assert_eq!(rows.len(), profile.spans.len());
        assert_eq!(&rows[0][3], "a,\"b\"\nc");
    }
}
