//! Turns the header of a safetensors file into its stored tensors, reading nothing behind it.
//!
//! ```text
//! byte 0        8                          8 + n                      end of file
//! ├─ n: u64 LE ─┼─ JSON, name → dtype, shape, data_offsets ─┼─ data, without holes ─┤
//! ```
//!
//! Two tensors may have the very same bytes: they are tied, and counted once later. Any other overlap, and any
//! hole, is an error, as is a file that ends before or after its data.

use std::fmt;
use std::io::Read;

use serde::de::{Error as _, IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::folder::Opened;
use super::json::{self, UniqueMap, Within};
use super::stored::{Problems, Stored, check_count, check_name, tensor_place};
use super::{MAX_HEADER, MAX_TENSORS};
use crate::error::{Error, Problem, Result};
use crate::model::{Dtype, TensorSpec};

/// The format's names of element types.
const DTYPES: &[(&str, Dtype)] = &[
    ("BOOL", Dtype::Bool),
    ("U8", Dtype::U8),
    ("I8", Dtype::I8),
    ("F8_E5M2", Dtype::F8E5M2),
    ("F8_E4M3", Dtype::F8E4M3),
    ("F8_E8M0", Dtype::F8E8M0),
    ("F8_E4M3FNUZ", Dtype::F8E4M3Fnuz),
    ("F8_E5M2FNUZ", Dtype::F8E5M2Fnuz),
    ("F4", Dtype::F4),
    ("F6_E2M3", Dtype::F6E2M3),
    ("F6_E3M2", Dtype::F6E3M2),
    ("I16", Dtype::I16),
    ("U16", Dtype::U16),
    ("F16", Dtype::F16),
    ("BF16", Dtype::Bf16),
    ("I32", Dtype::I32),
    ("U32", Dtype::U32),
    ("F32", Dtype::F32),
    ("C64", Dtype::C64),
    ("F64", Dtype::F64),
    ("I64", Dtype::I64),
    ("U64", Dtype::U64),
];

/// Dimensions that a tensor may have; no framework allows more.
const MAX_RANK: usize = 64;

/// Bytes before the JSON: its length.
const PREFIX: u64 = 8;

/// Reads the header of a safetensors file. `file` is only for messages.
pub fn read_header(file: &str, opened: Opened) -> Result<Vec<Stored>> {
    let Opened { mut reader, size } = opened;
    let length = header_length(file, &mut reader, size)?;
    let mut text = Vec::new();
    let read = reader.take(length).read_to_end(&mut text);
    read.map_err(|source| Error::Read { file: file.to_owned(), source })?;
    if (text.len() as u64) < length {
        return Err(ends_early(file, PREFIX + text.len() as u64, PREFIX + length));
    }
    if text.first() != Some(&b'{') {
        let found = text.first().map_or("no byte".to_owned(), |byte| format!("byte {byte:#04x}"));
        let problem = Problem::new("header byte 8", found, "'{', the start of the header's JSON");
        return Err(Error::input(file, problem));
    }
    let Header(entries) = json::parse(file, Within::Header(PREFIX), &text)?;
    drop(text);
    check_entries(file, entries, size - PREFIX - length)
}

/// Reads the length of the JSON and compares it with the file before anything is allocated by it.
fn header_length(file: &str, reader: &mut dyn Read, size: u64) -> Result<u64> {
    if size < PREFIX {
        return Err(ends_early(file, size, PREFIX));
    }
    let mut prefix = [0; 8];
    reader
        .read_exact(&mut prefix)
        .map_err(|source| Error::Read { file: file.to_owned(), source })?;
    let length = u64::from_le_bytes(prefix);
    let refuse = |expected: String| {
        let found = format!("a header length of {length} bytes");
        Err(Error::input(file, Problem::new("header byte 0", found, expected)))
    };
    if length > MAX_HEADER {
        return refuse(format!("at most {MAX_HEADER}"));
    }
    if length > size - PREFIX {
        return refuse(format!("at most {}, the rest of the file", size - PREFIX));
    }
    Ok(length)
}

fn ends_early(file: &str, size: u64, needed: u64) -> Error {
    let found = format!("the end of the file after {size} bytes");
    let expected = format!("at least {needed} bytes");
    Error::input(file, Problem::new(format!("header byte {size}"), found, expected))
}

/// The header's JSON: its tensors, its metadata read and left.
struct Header(Vec<(String, Entry)>);

/// One tensor of the header. Fields unknown to us are left alone, as the format's own reader does.
#[derive(Deserialize)]
#[serde(expecting = "an object with dtype, shape and data_offsets")]
struct Entry {
    dtype: String,
    shape: Shape,
    data_offsets: [u64; 2],
}

/// A value of the header's object: a tensor, or the metadata under its reserved name.
struct HeaderVisitor;

impl<'de> Visitor<'de> for HeaderVisitor {
    type Value = Header;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object of tensors")
    }

    fn visit_map<A: serde::de::MapAccess<'de>>(
        self,
        mut map: A,
    ) -> std::result::Result<Header, A::Error> {
        let mut seen = std::collections::BTreeSet::new();
        let mut entries = Vec::new();
        while let Some(name) = map.next_key::<String>()? {
            if !seen.insert(name.clone()) {
                let message = format!("key {name:?} a second time, expected every key once");
                return Err(A::Error::custom(message));
            }
            if name == "__metadata__" {
                map.next_value::<UniqueMap<String>>()?;
            } else if entries.len() == MAX_TENSORS {
                let message = format!("more tensors, expected at most {MAX_TENSORS}");
                return Err(A::Error::custom(message));
            } else {
                entries.push((name, map.next_value()?));
            }
        }
        Ok(Header(entries))
    }
}

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        deserializer.deserialize_map(HeaderVisitor)
    }
}

/// A shape of at most [`MAX_RANK`] dimensions, so that a header cannot blow up in memory.
struct Shape(Vec<u64>);

struct ShapeVisitor;

impl<'de> Visitor<'de> for ShapeVisitor {
    type Value = Shape;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of dimensions")
    }

    fn visit_seq<A: SeqAccess<'de>>(
        self,
        mut list: A,
    ) -> std::result::Result<Self::Value, A::Error> {
        let mut shape = Vec::new();
        while shape.len() < MAX_RANK {
            match list.next_element()? {
                Some(dimension) => shape.push(dimension),
                None => return Ok(Shape(shape)),
            }
        }
        if list.next_element::<IgnoredAny>()?.is_some() {
            let message = format!("more dimensions, expected at most {MAX_RANK}");
            return Err(A::Error::custom(message));
        }
        Ok(Shape(shape))
    }
}

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        deserializer.deserialize_seq(ShapeVisitor)
    }
}

/// Checks every entry alone, then all of them against each other and against the `data` bytes of the file.
fn check_entries(file: &str, entries: Vec<(String, Entry)>, data: u64) -> Result<Vec<Stored>> {
    check_count(file, "header", entries.len() as u64)?;
    let mut problems = Problems::default();
    let mut tensors = Vec::with_capacity(entries.len());
    for (name, entry) in entries {
        check_name(&name, &mut problems);
        tensors.extend(check_entry(name, entry, data, &mut problems));
    }
    // A tensor left out would only show as a hole.
    problems.finish(file)?;
    let mut problems = Problems::default();
    check_layout(&tensors, data, &mut problems);
    problems.finish(file)?;
    Ok(tensors)
}

fn check_entry(name: String, entry: Entry, data: u64, problems: &mut Problems) -> Option<Stored> {
    let place = || tensor_place(&name);
    let Entry { dtype: dtype_name, shape: Shape(shape), data_offsets: [start, end] } = entry;
    let Some(dtype) = DTYPES.iter().find(|(known, _)| *known == dtype_name).map(|&(_, d)| d) else {
        let cut: String = dtype_name.chars().take(40).collect();
        let names: Vec<&str> = DTYPES.iter().map(|&(known, _)| known).collect();
        let expected = format!("one of {}", names.join(", "));
        problems.add(place(), format!("dtype {cut:?}"), expected);
        return None;
    };
    if end < start || end > data {
        let found = format!("data_offsets [{start}, {end}]");
        let expected = format!("offsets that run forward and end within the {data} bytes of data");
        problems.add(place(), found, expected);
        return None;
    }
    let spec = TensorSpec(name, dtype, shape);
    let place = || tensor_place(spec.name());
    let shown = format!("{dtype_name} {:?}", spec.shape());
    match spec.bytes() {
        None => {
            problems.add(place(), shown, "a shape of whole bytes whose size fits 64 bits");
            None
        }
        Some(bytes) if bytes.get() != end - start => {
            let found = format!("{} bytes at data_offsets [{start}, {end}]", end - start);
            problems.add(place(), found, format!("{} bytes for {shown}", bytes.get()));
            None
        }
        Some(_) => Some(Stored { spec, range: start..end, file: 0 }),
    }
}

/// Refuses holes, overlaps and data that nothing names. The very same range twice is a tie, not an overlap.
fn check_layout(tensors: &[Stored], data: u64, problems: &mut Problems) {
    let mut order: Vec<&Stored> = tensors.iter().collect();
    order.sort_by(|a, b| {
        let key = |t: &Stored| (t.range.start, t.range.end);
        key(a).cmp(&key(b)).then_with(|| a.spec.name().cmp(b.spec.name()))
    });
    let mut last: Option<&Stored> = None;
    let mut covered = 0;
    for tensor in order {
        let range = &tensor.range;
        let tied = last.is_some_and(|last| last.range == *range);
        if !tied && range.start != covered {
            let found = format!("data_offsets [{}, {}]", range.start, range.end);
            let expected = match last {
                Some(last) if range.start < covered => {
                    format!(
                        "no overlap with {}, which ends at {covered}",
                        tensor_place(last.spec.name())
                    )
                }
                _ => format!("a start at {covered}, without a hole"),
            };
            problems.add(tensor_place(tensor.spec.name()), found, expected);
        }
        if range.end > covered || last.is_none() {
            last = Some(tensor);
        }
        covered = covered.max(range.end);
    }
    if covered != data {
        let found = format!("{data} bytes of data");
        problems.add("file size", found, format!("{covered}, the end of the last tensor"));
    }
}
