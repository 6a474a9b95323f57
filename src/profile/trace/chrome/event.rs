//! Turns the text of one event into the fields that figures need, and says what kind of work it is.

use super::super::decimal::{Time, integer, microseconds};
use super::super::fields::{Fields, Malformed};
use super::super::{Kind, Memory};

/// An event; every field as it stands, because every field has been seen in several types.
#[derive(Default)]
pub(super) struct Event<'a> {
    pub phase: &'a [u8],
    pub category: &'a [u8],
    pub name: &'a [u8],
    pub start: Option<&'a [u8]>,
    pub duration: Option<&'a [u8]>,
    pub process: &'a [u8],
    pub thread: &'a [u8],
    pub args: &'a [u8],
}

impl<'a> Event<'a> {
    /// The fields, up to where it is clear that the event is no use; says what it is.
    pub(super) fn read(bytes: &'a [u8]) -> Result<(Self, Work), Malformed> {
        let mut event = Self::default();
        let mut fields = Fields::of(bytes);
        let mut work = Work::Other;
        while let Some((key, value)) = fields.next()? {
            match key {
                b"ph" => event.phase = value,
                b"cat" => {
                    event.category = value;
                    work = Work::of(value);
                    // Its arguments, most of the text, need not be looked at.
                    if matches!(work, Work::Other) {
                        break;
                    }
                }
                b"name" => event.name = value,
                b"ts" => event.start = Some(value),
                b"dur" => event.duration = Some(value),
                b"pid" => event.process = value,
                b"tid" => event.thread = value,
                b"args" => event.args = value,
                _ => {}
            }
        }
        Ok((event, work))
    }
}

/// What is used of an event's arguments.
#[derive(Default)]
pub(super) struct Args {
    pub device: Option<i64>,
    pub stream: Option<i64>,
    pub correlation: u64,
    pub bytes: Option<u64>,
}

impl Args {
    /// The arguments that are there and can be read.
    pub(super) fn read(bytes: &[u8]) -> Self {
        let mut args = Self::default();
        let mut fields = Fields::of(bytes);
        while let Ok(Some((key, value))) = fields.next() {
            let unsigned = || number(value).and_then(|number| u64::try_from(number).ok());
            match key {
                b"device" => args.device = number(value),
                b"stream" => args.stream = number(value),
                b"correlation" => args.correlation = unsigned().unwrap_or(0),
                b"bytes" => args.bytes = unsigned(),
                _ => {}
            }
        }
        args
    }
}

pub(super) fn number(raw: &[u8]) -> Option<i64> {
    integer(std::str::from_utf8(raw).ok()?)
}

pub(super) fn time(raw: &[u8]) -> Option<Time> {
    microseconds(std::str::from_utf8(raw).ok()?)
}

/// What a category stands for.
#[derive(Clone, Copy)]
pub(super) enum Work {
    Kernel,
    Copy,
    Memset,
    Call,
    Range,
    GpuRange,
    Python,
    Other,
}

impl Work {
    /// By the category as it stands, in quotes.
    fn of(category: &[u8]) -> Self {
        let quoted = category.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\""));
        let category = quoted.unwrap_or(category);
        let is = |name: &str| category.eq_ignore_ascii_case(name.as_bytes());
        match () {
            () if is("kernel") => Self::Kernel,
            () if is("gpu_memcpy") || is("memcpy") => Self::Copy,
            () if is("gpu_memset") || is("memset") => Self::Memset,
            () if is("cuda_runtime") || is("cuda_driver") || is("runtime") => Self::Call,
            () if is("user_annotation") => Self::Range,
            () if is("gpu_user_annotation") => Self::GpuRange,
            () if is("python_function") => Self::Python,
            () => Self::Other,
        }
    }
}

/// The direction and the host's side of a copy, from a name such as `Memcpy HtoD (Pinned -> Device)`.
pub(super) fn copy(name: &str) -> (Kind, Memory) {
    let word = name.split_ascii_whitespace().nth(1).unwrap_or("");
    let is = |short: &str, long: &str| word.eq_ignore_ascii_case(short) || name.contains(long);
    let kind = match () {
        () if is("HtoD", "HostToDevice") => Kind::Htod,
        () if is("DtoH", "DeviceToHost") => Kind::Dtoh,
        () if is("DtoD", "DeviceToDevice") => Kind::Dtod,
        () if is("PtoP", "PeerToPeer") => Kind::Ptop,
        () => Kind::OtherCopy,
    };
    let memory = match () {
        () if name.contains("Pageable") => Memory::Pageable,
        () if name.contains("Pinned") => Memory::Pinned,
        () => Memory::Unknown,
    };
    (kind, memory)
}

/// Whether a call of the driver's interface puts a row on the GPU.
pub(in crate::profile::trace) fn launches(call: &str) -> bool {
    (call.contains("LaunchKernel") || call.contains("LaunchCooperative"))
        || (call.contains("Memcpy") || call.contains("Memset")) && call.contains("Async")
}
