//! Turns Chrome trace events, as the PyTorch profiler (Kineto) writes them, into a [`Trace`].
//!
//! Read: plain or gzip; an object with `traceEvents` or a bare list; categories in any case (`Kernel` until 2021,
//! `kernel` since); times as numbers or in quotes; a stream as `args.stream` or as a thread `stream 7`; copies without
//! byte counts (ROCm). GPU work is every X event of category `kernel`, `gpu_memcpy`, `memcpy`, `gpu_memset`, `memset`.
//! Ranges such as `gpu_user_annotation` are none: they begin before their first kernel and end after their last.
//!
//! The text is split by brackets first and each event read alone, so memory does not grow with the file, a file that
//! is cut gives every event before the cut, and an event that cannot be read costs only itself.

mod event;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};

pub(super) use event::launches;
use event::{Args, Event, Work, copy, number, time};
use flate2::bufread::MultiGzDecoder;
use serde::Deserialize;

use super::builder::{Builder, Raw};
use super::fields::{Malformed, text};
use super::frame::{Frames, Stop, Value};
use super::{Format, GpuInfo, Keep, Kind, Memory, Place, Reason, Trace};
use crate::error::{Error, Problem, Result};
use crate::figures::Origin;
use crate::units::Bytes;

/// Bytes of one event, and of one value beside the events, that are read at most.
const LONGEST_EVENT: usize = 16 << 20;
const LONGEST_VALUE: usize = 4 << 20;

/// Threads that are told apart.
const MOST_THREADS: usize = 1 << 16;

const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// The entry that our own exports have.
#[derive(Deserialize)]
struct Own {
    origin: Origin,
}

/// An entry of `deviceProperties`.
#[derive(Deserialize)]
struct Properties {
    id: i64,
    #[serde(default)]
    name: Option<String>,
    #[serde(rename = "totalGlobalMem", default)]
    memory: Option<u64>,
}

/// Reads a trace, plain or gzip, in memory that grows only with what is kept. `file` is only for messages.
///
/// A trace that is cut or damaged comes back with [`Trace::cut`] set and everything before it; one without any GPU row
/// is an error.
pub fn read_chrome(file: &str, reader: impl Read, keep: Keep) -> Result<Trace> {
    let failed = |source| Error::Read { file: file.to_owned(), source };
    let mut buffered = BufReader::with_capacity(64 << 10, reader);
    if buffered.fill_buf().map_err(failed)?.starts_with(&GZIP_MAGIC) {
        Reader::new(MultiGzDecoder::new(buffered), keep).read(file)
    } else {
        Reader::new(buffered, keep).read(file)
    }
}

struct Reader<R> {
    frames: Frames<R>,
    builder: Builder,
    keep: Keep,
    threads: Threads,
    found_events: bool,
    events: u64,
}

impl<R: Read> Reader<R> {
    fn new(reader: R, keep: Keep) -> Self {
        Self {
            frames: Frames::new(reader),
            builder: Builder::new(Format::ChromeJson),
            keep,
            threads: Threads::default(),
            found_events: false,
            events: 0,
        }
    }

    fn read(mut self, file: &str) -> Result<Trace> {
        let stop = self.document();
        let at = self.frames.offset();
        if let Err(stop) = stop {
            self.stopped(file, stop, at)?;
        } else if !self.found_events {
            let problem =
                Problem::new("the outermost object", "no traceEvents", "a list of trace events");
            return Err(Error::input(file, problem));
        }
        if self.builder.is_empty() {
            return Err(self.nothing(file));
        }
        Ok(self.builder.finish())
    }

    /// The outermost value, up to its end.
    fn document(&mut self) -> std::result::Result<(), Stop> {
        // A byte order mark is no part of the text.
        if self.frames.peek()? == 0xef {
            for byte in [0xef, 0xbb, 0xbf] {
                self.frames.expect(byte)?;
            }
        }
        if self.frames.peek()? == b'[' {
            return self.list();
        }
        self.frames.expect(b'{')?;
        if self.frames.take(b'}')? {
            return Ok(());
        }
        loop {
            let key = match self.frames.value(LONGEST_VALUE)? {
                Value::Whole(key) => String::from_utf8_lossy(key).into_owned(),
                Value::TooLong(_) => String::new(),
            };
            self.frames.expect(b':')?;
            match key.as_str() {
                "\"traceEvents\"" if self.frames.peek()? == b'[' => self.list()?,
                "\"deviceProperties\"" => self.properties()?,
                "\"vramplan\"" => self.own()?,
                _ => {
                    self.frames.value(0)?;
                }
            }
            if !self.frames.take(b',')? {
                return self.frames.expect(b'}');
            }
        }
    }

    /// What our own exports say of themselves: whether their times were measured.
    fn own(&mut self) -> std::result::Result<(), Stop> {
        let Value::Whole(bytes) = self.frames.value(LONGEST_VALUE)? else { return Ok(()) };
        if let Ok(Own { origin }) = serde_json::from_slice(bytes) {
            self.builder.origin(origin);
        }
        Ok(())
    }

    fn properties(&mut self) -> std::result::Result<(), Stop> {
        let Value::Whole(bytes) = self.frames.value(LONGEST_VALUE)? else { return Ok(()) };
        // What devices are called is worth having, but no reason to fail.
        let list: Vec<Properties> = serde_json::from_slice(bytes).unwrap_or_default();
        for one in list {
            let info = GpuInfo { name: one.name, memory: one.memory.map(Bytes::new) };
            self.builder.device(one.id, info);
        }
        Ok(())
    }

    /// The list of events, up to its end.
    fn list(&mut self) -> std::result::Result<(), Stop> {
        self.found_events = true;
        self.frames.expect(b'[')?;
        if self.frames.take(b']')? {
            return Ok(());
        }
        loop {
            self.frames.peek()?;
            let at = self.frames.offset();
            let value = self.frames.value(LONGEST_EVENT)?;
            self.events += 1;
            match value {
                Value::Whole(bytes) => {
                    let mut sink = Sink {
                        builder: &mut self.builder,
                        threads: &mut self.threads,
                        keep: self.keep,
                        at,
                    };
                    sink.event(bytes);
                }
                Value::TooLong(bytes) => {
                    let words = || format!("the event at byte {at} has {bytes} bytes");
                    self.builder.refuse(Reason::TooLong, words);
                }
            }
            if !self.frames.take(b',')? {
                return self.frames.expect(b']');
            }
            // Some writers leave a comma after the last event.
            if self.frames.take(b']')? {
                return Ok(());
            }
        }
    }

    /// What to make of a stream that does not go on: an error before any event, a partial answer after.
    fn stopped(&mut self, file: &str, stop: Stop, at: u64) -> Result<()> {
        let expected = "a JSON object with traceEvents, or a list of trace events";
        let why = match stop {
            Stop::Broken(source) if at == 0 && self.events == 0 => {
                return Err(Error::Read { file: file.to_owned(), source });
            }
            Stop::Broken(source) => {
                format!("its data is cut or damaged after {at} bytes of text ({source})")
            }
            Stop::End => format!("it ends after {at} bytes of text, before its last bracket"),
            Stop::Unexpected(byte) => {
                let seen = char::from(byte).escape_default();
                format!("byte {at} is '{seen}', which cannot stand there")
            }
            Stop::TooDeep => {
                format!("the value at byte {at} is nested more deeply than any profiler writes")
            }
        };
        if self.events == 0 {
            return Err(Error::input(file, Problem::new(format!("byte {at}"), why, expected)));
        }
        self.builder.cut(why);
        Ok(())
    }

    /// The error for a trace without GPU rows.
    fn nothing(self, file: &str) -> Error {
        let (events, refused) = (self.events, self.builder.refused());
        let trace = self.builder.finish();
        let mut kinds: Vec<_> = trace.left_out.other_events.iter().collect();
        kinds.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        let kinds: Vec<String> =
            kinds.iter().take(4).map(|(name, count)| format!("{name} ({count})")).collect();
        let mut found = format!("{events} events and no usable GPU row");
        if !kinds.is_empty() {
            found.push_str(&format!("; most are {}", kinds.join(", ")));
        }
        if refused > 0 {
            found.push_str(&format!("; {refused} rows cannot be used"));
        }
        if let Some(why) = trace.left_out.first.as_ref().or(trace.cut.as_ref()) {
            found.push_str(&format!(" ({why})"));
        }
        let expected = "X events of category kernel, gpu_memcpy or gpu_memset: record with activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]";
        Error::input(file, Problem::new("traceEvents", found, expected))
    }
}

/// Where one event goes.
struct Sink<'a> {
    builder: &'a mut Builder,
    threads: &'a mut Threads,
    keep: Keep,
    at: u64,
}

impl Sink<'_> {
    fn event(&mut self, bytes: &[u8]) {
        match Event::read(bytes) {
            Ok((event, work)) => self.sort(&event, work),
            Err(Malformed { at }) => {
                let at = self.at + at as u64;
                let words = || format!("byte {at} is not where the event's next field begins");
                self.builder.refuse(Reason::Unreadable, words);
            }
        }
    }

    fn sort(&mut self, event: &Event<'_>, work: Work) {
        let whole = event.phase == b"\"X\"";
        match work {
            Work::Kernel | Work::Copy | Work::Memset if whole => return self.row(event, work),
            Work::Kernel | Work::Copy | Work::Memset if event.phase == b"\"B\"" => {
                let at = self.at;
                return self.builder.refuse(Reason::BeginEnd, || format!("the event at byte {at}"));
            }
            Work::Call if whole => self.call(event),
            Work::Range | Work::GpuRange | Work::Python if whole && self.keep.annotations => {
                self.range(event, work);
            }
            _ => {}
        }
        match event.category {
            b"" if event.phase == b"\"M\"" => self.builder.other("metadata"),
            b"" => self.builder.other("no category"),
            named => self.builder.other(&text(named)),
        }
    }

    /// Start and end in nanoseconds.
    fn times(&mut self, event: &Event<'_>) -> std::result::Result<(i64, i64), Reason> {
        let read = |raw: Option<&[u8]>| {
            let raw = raw.ok_or(Reason::NoTime)?;
            let number = raw.iter().any(u8::is_ascii_digit);
            time(raw).ok_or(if number { Reason::OutOfRange } else { Reason::NoTime })
        };
        let (start, length) = (read(event.start)?, read(event.duration)?);
        if !start.exact || !length.exact {
            self.builder.rounded();
        }
        let end = start.nanos.checked_add(length.nanos).ok_or(Reason::OutOfRange)?;
        Ok((start.nanos, end))
    }

    fn row(&mut self, event: &Event<'_>, work: Work) {
        let at = self.at;
        let name = text(event.name);
        let words = || {
            let short: String = name.chars().take(60).collect();
            format!("{short:?} at byte {at}")
        };
        let (start, end) = match self.times(event) {
            Ok(times) => times,
            Err(reason) => return self.builder.refuse(reason, words),
        };
        let args = Args::read(event.args);
        let Some(device) = args.device.or_else(|| number(event.process)) else {
            return self.builder.refuse(Reason::NoDevice, words);
        };
        let (kind, memory) = match work {
            Work::Copy => copy(&name),
            Work::Memset => (Kind::Memset, Memory::Unknown),
            _ => (Kind::of_kernel(&name), Memory::Unknown),
        };
        self.builder.row(&Raw {
            device,
            stream: args.stream.or_else(|| number(event.thread)).unwrap_or(-1),
            kind,
            memory,
            name: &name,
            start,
            end,
            bytes: args.bytes,
            correlation: args.correlation,
        });
    }

    fn call(&mut self, event: &Event<'_>) {
        if !launches(&text(event.name)) {
            return;
        }
        let correlation = Args::read(event.args).correlation;
        let start = event.start.and_then(time);
        if let Some(start) = start.filter(|_| correlation != 0) {
            let thread = self.threads.number(event.process, event.thread);
            self.builder.launch(correlation, start.nanos, thread);
        }
    }

    fn range(&mut self, event: &Event<'_>, work: Work) {
        let name = text(event.name);
        if matches!(work, Work::Python) && !name.starts_with("nn.Module: ") {
            return;
        }
        let Ok((start, end)) = self.times(event) else { return };
        let place = match work {
            Work::GpuRange => number(event.process).map(Place::Device),
            _ => Some(Place::Thread(self.threads.number(event.process, event.thread))),
        };
        if let Some(place) = place {
            self.builder.annotation(place, &name, start, end);
        }
    }
}

/// Numbers for threads. Ids are compared as text, for one file writes them with and without quotes.
#[derive(Default)]
struct Threads {
    numbers: BTreeMap<String, u64>,
    /// The one asked for last, as it stood: mostly the next one too.
    last: (Vec<u8>, Vec<u8>, u64),
}

impl Threads {
    fn number(&mut self, process: &[u8], thread: &[u8]) -> u64 {
        if self.last.0 == process && self.last.1 == thread && !process.is_empty() {
            return self.last.2;
        }
        let id = format!("{}/{}", text(process), text(thread));
        let next = self.numbers.len() as u64;
        let number = match self.numbers.get(&id) {
            Some(&known) => known,
            None if self.numbers.len() >= MOST_THREADS => u64::MAX,
            None => *self.numbers.entry(id).or_insert(next),
        };
        self.last = (process.to_vec(), thread.to_vec(), number);
        number
    }
}

#[cfg(test)]
mod tests;
