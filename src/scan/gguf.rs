//! Turns the header of a GGUF file into its architecture and stored tensors, reading nothing behind it.
//!
//! ```text
//! "GGUF" version u32 │ tensors u64 │ values u64 │ key, type, value … │ name, shape, type, offset … │ pad │ data
//! ```
//!
//! Versions 2 and 3, little-endian. Every count is compared with the bytes that are left before anything is
//! allocated by it. Offsets must be multiples of the alignment and leave neither holes nor overlaps, which is
//! what llama.cpp asks too.

use std::collections::BTreeSet;
use std::io::{self, BufReader, Read};

use super::folder::Opened;
use super::stored::{Problems, Stored, check_count, check_name, tensor_place};
use super::{MAX_HEADER, natural};
use crate::error::{Error, Problem, Result};
use crate::model::{Dtype, TensorSpec};

/// The format's numbers of element types (ggml's `ggml_type`).
const TYPES: &[(u32, Dtype)] = &[
    (0, Dtype::F32),
    (1, Dtype::F16),
    (2, Dtype::Q4_0),
    (3, Dtype::Q4_1),
    (6, Dtype::Q5_0),
    (7, Dtype::Q5_1),
    (8, Dtype::Q8_0),
    (9, Dtype::Q8_1),
    (10, Dtype::Q2K),
    (11, Dtype::Q3K),
    (12, Dtype::Q4K),
    (13, Dtype::Q5K),
    (14, Dtype::Q6K),
    (15, Dtype::Q8K),
    (16, Dtype::Iq2Xxs),
    (17, Dtype::Iq2Xs),
    (18, Dtype::Iq3Xxs),
    (19, Dtype::Iq1S),
    (20, Dtype::Iq4Nl),
    (21, Dtype::Iq3S),
    (22, Dtype::Iq2S),
    (23, Dtype::Iq4Xs),
    (24, Dtype::I8),
    (25, Dtype::I16),
    (26, Dtype::I32),
    (27, Dtype::I64),
    (28, Dtype::F64),
    (29, Dtype::Iq1M),
    (30, Dtype::Bf16),
    (34, Dtype::Tq1_0),
    (35, Dtype::Tq2_0),
    (39, Dtype::Mxfp4),
    (40, Dtype::Nvfp4),
    (41, Dtype::Q1_0),
    (42, Dtype::Q2_0),
];

/// Bytes per value of the fixed-size value types 0 to 12; 0 where the size varies.
const VALUE_SIZES: [u64; 13] = [1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8];
const VALUE_U16: u32 = 2;
const VALUE_U32: u32 = 4;
const VALUE_STRING: u32 = 8;
const VALUE_ARRAY: u32 = 9;

/// The smallest key with its value, and the smallest tensor entry, bytes: what a count is compared with.
const SMALLEST_VALUE: u64 = 8 + 4 + 1;
const SMALLEST_TENSOR: u64 = 8 + 4 + 4 + 8;

/// Dimensions that ggml allows.
const MAX_RANK: u32 = 4;

/// The alignment of the data where the file does not say, bytes.
const DEFAULT_ALIGNMENT: u64 = 32;

/// The longest key or name that is kept, bytes: the format's own limit for keys.
const MAX_KEY: u64 = 65_535;

/// What a GGUF header says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gguf {
    /// Where the data begins, in bytes from the start of the file.
    pub data_start: u64,
    /// `general.architecture`.
    pub architecture: String,
    /// `split.count`: files that the model was split into; 1 for a whole one.
    pub split_count: u64,
    /// The tensors in the order of the file.
    pub tensors: Vec<Stored>,
}

/// Reads the header of a GGUF file. `file` is only for messages.
pub fn read_header(file: &str, opened: Opened) -> Result<Gguf> {
    let mut cursor = Cursor::new(file, opened);
    check_version(&mut cursor)?;
    let tensor_count = cursor.count("the number of tensors", SMALLEST_TENSOR)?;
    let value_count = cursor.count("the number of values", SMALLEST_VALUE)?;
    check_count(file, "header byte 8", tensor_count)?;
    let values = read_values(&mut cursor, value_count)?;
    let mut entries = Vec::new();
    let mut names = BTreeSet::new();
    for _ in 0..tensor_count {
        let at = cursor.at;
        let entry = read_entry(&mut cursor)?;
        if !names.insert(entry.name.clone()) {
            return cursor.refuse(at, format!("{} a second time", tensor_place(&entry.name)), ONCE);
        }
        entries.push(entry);
    }
    let data_start = cursor.at.checked_next_multiple_of(values.alignment).unwrap_or(u64::MAX);
    let data = cursor.size.saturating_sub(data_start);
    let tensors = check_entries(file, entries, values.alignment, data)?;
    let Some(architecture) = values.architecture else {
        let problem = Problem::new("header", "no general.architecture", "that key with a string");
        return Err(Error::input(file, problem));
    };
    Ok(Gguf { architecture, split_count: values.split_count, tensors, data_start })
}

const ONCE: &str = "every name once";

fn check_version(cursor: &mut Cursor) -> Result<()> {
    let magic: [u8; 4] = cursor.array()?;
    if &magic != b"GGUF" {
        let found = format!("magic {:?}", magic.escape_ascii().to_string());
        return cursor.refuse(0, found, "\"GGUF\"");
    }
    let version = cursor.u32()?;
    match version {
        2 | 3 => Ok(()),
        1 => cursor.refuse(4, "version 1", "version 2 or 3; version 1 is from 2023, convert it"),
        _ if version & 0xffff == 0 => {
            let found = format!("version {} in big-endian order", version.swap_bytes());
            cursor.refuse(4, found, "a little-endian file")
        }
        _ => cursor.refuse(4, format!("version {version}"), "version 2 or 3"),
    }
}

/// The header's bytes, with a position for messages and an end that no length may pass.
struct Cursor<'a> {
    file: &'a str,
    reader: BufReader<Box<dyn Read>>,
    at: u64,
    size: u64,
}

impl<'a> Cursor<'a> {
    fn new(file: &'a str, opened: Opened) -> Self {
        let Opened { reader, size } = opened;
        Self { file, reader: BufReader::with_capacity(1 << 16, reader), at: 0, size }
    }

    /// Bytes that a header may still have.
    fn left(&self) -> u64 {
        self.size.min(MAX_HEADER).saturating_sub(self.at)
    }

    fn refuse<T>(
        &self,
        at: u64,
        found: impl Into<String>,
        expected: impl Into<String>,
    ) -> Result<T> {
        let problem = Problem::new(format!("header byte {at}"), found, expected);
        Err(Error::input(self.file, problem))
    }

    /// Refuses what would reach past the end, before it is read.
    fn need(&self, bytes: u64, what: &str) -> Result<()> {
        if bytes <= self.left() {
            return Ok(());
        }
        let limit = if self.size > MAX_HEADER { "the longest header" } else { "the file" };
        let expected = format!("at most {}, the rest of {limit}", self.left());
        self.refuse(self.at, format!("{what} of {bytes} bytes"), expected)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        self.need(N as u64, "a field")?;
        let mut bytes = [0; N];
        self.reader.read_exact(&mut bytes).map_err(|error| self.failed(error))?;
        self.at += N as u64;
        Ok(bytes)
    }

    fn failed(&self, error: io::Error) -> Error {
        if error.kind() == io::ErrorKind::UnexpectedEof {
            let place = format!("header byte {}", self.at);
            let problem = Problem::new(place, "the end of the file", "the rest of the header");
            return Error::input(self.file, problem);
        }
        Error::Read { file: self.file.to_owned(), source: error }
    }

    fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// A count of things that each take at least `smallest` bytes.
    fn count(&mut self, what: &str, smallest: u64) -> Result<u64> {
        let at = self.at;
        let count = self.u64()?;
        let most = self.left() / smallest.max(1);
        if count > most {
            let expected = format!("at most {most}, which fill the rest");
            return self.refuse(at, format!("{what} {count}"), expected);
        }
        Ok(count)
    }

    fn skip(&mut self, bytes: u64) -> Result<()> {
        self.need(bytes, "a value")?;
        let mut skipped = self.reader.by_ref().take(bytes);
        let count = io::copy(&mut skipped, &mut io::sink()).map_err(|error| self.failed(error))?;
        self.at += count;
        if count < bytes {
            return Err(self.failed(io::ErrorKind::UnexpectedEof.into()));
        }
        Ok(())
    }

    fn skip_string(&mut self) -> Result<()> {
        let length = self.u64()?;
        self.need(length, "a string")?;
        self.skip(length)
    }

    fn string(&mut self) -> Result<String> {
        let length = self.u64()?;
        self.need(length, "a string")?;
        if length > MAX_KEY {
            let expected = format!("a key or name of at most {MAX_KEY}");
            return self.refuse(self.at, format!("a string of {length} bytes"), expected);
        }
        let mut bytes = Vec::new();
        let read = self.reader.by_ref().take(length).read_to_end(&mut bytes);
        read.map_err(|error| self.failed(error))?;
        if (bytes.len() as u64) < length {
            return Err(self.failed(io::ErrorKind::UnexpectedEof.into()));
        }
        match String::from_utf8(bytes) {
            Ok(text) => {
                self.at += length;
                Ok(text)
            }
            Err(error) => {
                let at = self.at + error.utf8_error().valid_up_to() as u64;
                self.refuse(at, "no UTF-8", "a key or name in UTF-8")
            }
        }
    }
}

/// The values that matter here.
struct Values {
    architecture: Option<String>,
    alignment: u64,
    split_count: u64,
}

fn read_values(cursor: &mut Cursor, count: u64) -> Result<Values> {
    let mut values = Values { architecture: None, alignment: DEFAULT_ALIGNMENT, split_count: 1 };
    let mut keys = BTreeSet::new();
    for _ in 0..count {
        let at = cursor.at;
        let key = cursor.string()?;
        if !keys.insert(key.clone()) {
            return cursor.refuse(at, format!("key {key:?} a second time"), "every key once");
        }
        let type_at = cursor.at;
        let kind = cursor.u32()?;
        match (key.as_str(), kind) {
            ("general.architecture", VALUE_STRING) => values.architecture = Some(cursor.string()?),
            ("general.alignment", VALUE_U32) => {
                let at = cursor.at;
                values.alignment = u64::from(cursor.u32()?);
                if !values.alignment.is_power_of_two() {
                    let found = format!("alignment {}", values.alignment);
                    return cursor.refuse(at, found, "a power of two");
                }
            }
            ("split.count", VALUE_U16) => {
                values.split_count = u64::from(u16::from_le_bytes(cursor.array()?)).max(1);
            }
            ("general.architecture" | "general.alignment" | "split.count", _) => {
                let found = format!("value type {kind} for {key}");
                return cursor.refuse(type_at, found, "the type that the format gives it");
            }
            _ => skip_value(cursor, kind, type_at)?,
        }
    }
    Ok(values)
}

fn skip_value(cursor: &mut Cursor, kind: u32, type_at: u64) -> Result<()> {
    if kind == VALUE_STRING {
        return cursor.skip_string();
    }
    if kind != VALUE_ARRAY {
        let size = value_size(cursor, kind, type_at)?;
        return cursor.skip(size);
    }
    let type_at = cursor.at;
    match cursor.u32()? {
        VALUE_ARRAY => {
            cursor.refuse(type_at, "an array of arrays", "an array of numbers or strings")
        }
        VALUE_STRING => {
            for _ in 0..cursor.count("an array length of", 8)? {
                cursor.skip_string()?;
            }
            Ok(())
        }
        element => {
            let size = value_size(cursor, element, type_at)?;
            let count = cursor.count("an array length of", size)?;
            cursor.skip(count.saturating_mul(size))
        }
    }
}

fn value_size(cursor: &Cursor, kind: u32, at: u64) -> Result<u64> {
    match VALUE_SIZES.get(kind as usize) {
        Some(&size) if size > 0 => Ok(size),
        _ => cursor.refuse(at, format!("value type {kind}"), "one of 0 to 12"),
    }
}

/// One tensor of the header, unchecked; the shape still has its innermost dimension first.
struct Entry {
    name: String,
    shape: Vec<u64>,
    kind: u32,
    offset: u64,
}

fn read_entry(cursor: &mut Cursor) -> Result<Entry> {
    let name = cursor.string()?;
    let at = cursor.at;
    let rank = cursor.u32()?;
    if rank > MAX_RANK {
        let found = format!("{rank} dimensions of {}", tensor_place(&name));
        return cursor.refuse(at, found, format!("at most {MAX_RANK}"));
    }
    let shape = (0..rank).map(|_| cursor.u64()).collect::<Result<_>>()?;
    Ok(Entry { name, shape, kind: cursor.u32()?, offset: cursor.u64()? })
}

/// Checks every tensor alone, then their layout against each other and the `data` bytes of the file.
fn check_entries(
    file: &str,
    entries: Vec<Entry>,
    alignment: u64,
    data: u64,
) -> Result<Vec<Stored>> {
    let mut problems = Problems::default();
    let mut tensors = Vec::with_capacity(entries.len());
    for entry in entries {
        check_name(&entry.name, &mut problems);
        tensors.extend(check_entry(entry, alignment, data, &mut problems));
    }
    problems.finish(file)?;
    let mut problems = Problems::default();
    check_layout(&tensors, alignment, &mut problems);
    problems.finish(file)?;
    Ok(tensors)
}

fn check_entry(entry: Entry, alignment: u64, data: u64, problems: &mut Problems) -> Option<Stored> {
    let Entry { name, mut shape, kind, offset } = entry;
    let place = tensor_place(&name);
    let Some(&(_, dtype)) = TYPES.iter().find(|(number, _)| *number == kind) else {
        problems.add(place, format!("tensor type {kind}"), "a type of ggml that is in use");
        return None;
    };
    let row = shape.first().copied().unwrap_or(1);
    if !row.is_multiple_of(dtype.unit().0) {
        let expected = format!("rows of whole {dtype} units of {} elements", dtype.unit().0);
        problems.add(place, format!("rows of {row} elements"), expected);
        return None;
    }
    shape.reverse();
    let spec = TensorSpec(name, dtype, shape);
    let Some(bytes) = spec.bytes() else {
        let found = format!("{dtype} {:?}", spec.shape());
        problems.add(place, found, "a shape whose size fits 64 bits");
        return None;
    };
    if !offset.is_multiple_of(alignment) {
        problems.add(place, format!("offset {offset}"), format!("a multiple of {alignment}"));
        return None;
    }
    match offset.checked_add(bytes.get()).filter(|&end| end <= data) {
        Some(end) => Some(Stored { spec, range: offset..end, file: 0 }),
        None => {
            let found = format!("{} bytes at offset {offset}", bytes.get());
            problems.add(place, found, format!("an end within the {data} bytes of data"));
            None
        }
    }
}

fn check_layout(tensors: &[Stored], alignment: u64, problems: &mut Problems) {
    let mut order: Vec<&Stored> = tensors.iter().collect();
    order.sort_by(|a, b| {
        let key = |t: &Stored| (t.range.start, t.range.end);
        key(a).cmp(&key(b)).then_with(|| natural::compare(a.spec.name(), b.spec.name()))
    });
    let mut last: Option<&Stored> = None;
    for tensor in order {
        let start = tensor.range.start;
        let free = last.map_or(0, |t| t.range.end);
        // A file of nothing but padding up to 2^64 cannot be, so the addition holds.
        let next = free.checked_next_multiple_of(alignment).unwrap_or(u64::MAX);
        if start != next {
            let expected = match last {
                Some(last) if start < free => {
                    format!(
                        "no overlap with {}, which ends at {free}",
                        tensor_place(last.spec.name())
                    )
                }
                _ => format!("{next}, without a hole"),
            };
            problems.add(tensor_place(tensor.spec.name()), format!("offset {start}"), expected);
        }
        if last.is_none_or(|last| tensor.range.end >= last.range.end) {
            last = Some(tensor);
        }
    }
}
