//! Turns a stream of bytes into the JSON values of its outermost object or array, one at a time.
//!
//! ```text
//! {"deviceProperties": […], "traceEvents": [ {…}, {…}, {…} ]}
//!                      └─┘                   └─┘  └─┘  └─┘    values: found by brackets and quotes alone
//! ```
//!
//! Memory is one buffer that holds the longest value asked for, however long the stream. What a value says is for
//! its reader to judge: a value here is only balanced, so a stream that is cut short still gives every value before.

use std::io::Read;

use memchr::memchr2;

/// Bytes asked for at a time.
const CHUNK: usize = 256 << 10;

/// Why there is no further value.
#[derive(Debug)]
pub(super) enum Stop {
    /// The stream ends.
    End,
    /// The stream cannot be read on: its compressed form is cut or damaged.
    Broken(std::io::Error),
    /// A byte that cannot stand here.
    Unexpected(u8),
    /// Brackets within brackets, more of them than any profiler writes.
    TooDeep,
}

/// Brackets that may be open at once within one value; real events have some five.
const DEEPEST: u64 = 256;

/// A value, or the reason why it was passed over.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Value<'a> {
    /// Its bytes.
    Whole(&'a [u8]),
    /// It is longer than was asked for; so many bytes were skipped.
    TooLong(u64),
}

/// Bytes read but not yet used.
pub(super) struct Frames<R> {
    reader: R,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// Bytes of the stream before `buffer[start]`.
    offset: u64,
}

impl<R: Read> Frames<R> {
    pub(super) fn new(reader: R) -> Self {
        Self { reader, buffer: vec![0; 2 * CHUNK], start: 0, end: 0, offset: 0 }
    }

    /// Where in the stream the next byte stands.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    fn consume(&mut self, count: usize) {
        self.start += count;
        self.offset += count as u64;
    }

    /// Reads more behind what is there; the unused bytes move to the front first.
    fn fill(&mut self) -> Result<(), Stop> {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.buffer.len() - self.end < CHUNK {
            self.buffer.resize(self.buffer.len() * 2, 0);
        }
        loop {
            match self.reader.read(&mut self.buffer[self.end..]) {
                Ok(0) => return Err(Stop::End),
                Ok(count) => {
                    self.end += count;
                    return Ok(());
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Stop::Broken(error)),
            }
        }
    }

    /// The next byte that is no white space, not yet consumed.
    pub(super) fn peek(&mut self) -> Result<u8, Stop> {
        loop {
            let unused = &self.buffer[self.start..self.end];
            if let Some(at) = unused.iter().position(|byte| !byte.is_ascii_whitespace()) {
                let byte = unused[at];
                self.consume(at);
                return Ok(byte);
            }
            self.consume(unused.len());
            self.fill()?;
        }
    }

    /// Consumes the next byte that is no white space, if it is this one.
    pub(super) fn take(&mut self, wanted: u8) -> Result<bool, Stop> {
        let found = self.peek()? == wanted;
        if found {
            self.consume(1);
        }
        Ok(found)
    }

    /// Consumes this byte or stops.
    pub(super) fn expect(&mut self, wanted: u8) -> Result<(), Stop> {
        let byte = self.peek()?;
        if byte != wanted {
            return Err(Stop::Unexpected(byte));
        }
        self.consume(1);
        Ok(())
    }

    /// The next value, if it has at most `longest` bytes; zero skips it.
    pub(super) fn value(&mut self, longest: usize) -> Result<Value<'_>, Stop> {
        let mut state = State::begin(self.peek()?)?;
        let (mut scanned, mut dropped) = (0, 0u64);
        loop {
            let unused = &self.buffer[self.start..self.end];
            if let Some(length) = state.scan(unused, &mut scanned) {
                let from = self.start;
                self.consume(length);
                if dropped > 0 || length > longest {
                    return Ok(Value::TooLong(dropped + length as u64));
                }
                return Ok(Value::Whole(&self.buffer[from..from + length]));
            }
            if state.depth > DEEPEST {
                return Err(Stop::TooDeep);
            }
            if scanned > longest || dropped > 0 {
                let count = scanned.min(self.end - self.start);
                self.consume(count);
                dropped += count as u64;
                scanned -= count;
            }
            match self.fill() {
                // A number may end with the stream; nothing else may.
                Err(Stop::End) if state.is_scalar() && self.end > self.start => {
                    let from = self.start;
                    self.consume(self.end - from);
                    return Ok(Value::Whole(&self.buffer[from..self.end]));
                }
                other => other?,
            }
        }
    }
}

/// How far the end of a value has been sought.
pub(super) struct State {
    depth: u64,
    in_string: bool,
    scalar: bool,
}

impl State {
    pub(super) fn begin(first: u8) -> Result<Self, Stop> {
        match first {
            b'{' | b'[' | b'"' => Ok(Self { depth: 0, in_string: false, scalar: false }),
            b'-' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => {
                Ok(Self { depth: 0, in_string: false, scalar: true })
            }
            other => Err(Stop::Unexpected(other)),
        }
    }

    fn is_scalar(&self) -> bool {
        self.scalar
    }

    /// Goes on from `at`, which may lie beyond the bytes there are after an escape. The value's length once known.
    pub(super) fn scan(&mut self, bytes: &[u8], at: &mut usize) -> Option<usize> {
        if self.scalar {
            let ends =
                |byte: &u8| matches!(byte, b',' | b']' | b'}' | b':') || byte.is_ascii_whitespace();
            let length = bytes.get(*at..)?.iter().position(ends).map(|found| *at + found);
            *at = bytes.len();
            return length;
        }
        while *at < bytes.len() {
            if self.in_string {
                match memchr2(b'"', b'\\', &bytes[*at..]) {
                    None => *at = bytes.len(),
                    Some(found) if bytes[*at + found] == b'\\' => *at += found + 2,
                    Some(found) => {
                        *at += found + 1;
                        self.in_string = false;
                        if self.depth == 0 {
                            return Some(*at);
                        }
                    }
                }
                continue;
            }
            let (mut depth, mut end) = (self.depth, None);
            for (index, byte) in bytes[*at..].iter().enumerate() {
                match byte {
                    b'"' => {
                        self.in_string = true;
                        end = Some(index);
                        break;
                    }
                    b'{' | b'[' => {
                        depth += 1;
                        if depth > DEEPEST {
                            // Whoever asks sees by the depth why there is no end.
                            self.depth = depth;
                            *at = bytes.len();
                            return None;
                        }
                    }
                    b'}' | b']' => {
                        depth = depth.saturating_sub(1);
                        if depth == 0 {
                            end = Some(index);
                            break;
                        }
                    }
                    _ => {}
                }
            }
            self.depth = depth;
            match end {
                None => *at = bytes.len(),
                Some(index) => {
                    *at += index + 1;
                    if !self.in_string {
                        return Some(*at);
                    }
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Gives one byte at a time, so that every value lies across the border of a read.
    struct Drip<'a>(&'a [u8]);

    impl Read for Drip<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let Some((first, rest)) = self.0.split_first() else { return Ok(0) };
            buffer[0] = *first;
            self.0 = rest;
            Ok(1)
        }
    }

    /// The values of a list, as text.
    fn list(reader: impl Read, longest: usize) -> (Vec<String>, Option<Stop>) {
        let mut frames = Frames::new(reader);
        let mut found = Vec::new();
        let mut next = || -> Result<bool, Stop> {
            match frames.value(longest)? {
                Value::Whole(bytes) => found.push(String::from_utf8_lossy(bytes).into_owned()),
                Value::TooLong(count) => found.push(format!("<{count}>")),
            }
            frames.take(b',')
        };
        let stop = loop {
            match next() {
                Ok(true) => {}
                Ok(false) => break None,
                Err(stop) => break Some(stop),
            }
        };
        (found, stop)
    }

    #[test]
    fn values_are_found_whatever_they_hold() {
        let text = br#" {"a": "}\"]\\"} , [1, [2, {}]] , "x\\" , -1.5e3 , true ]"#;
        let wanted = [r#"{"a": "}\"]\\"}"#, "[1, [2, {}]]", r#""x\\""#, "-1.5e3", "true"];
        assert_eq!(list(text.as_slice(), 100).0, wanted);
        assert_eq!(list(Drip(text), 100).0, wanted);
    }

    #[test]
    fn values_that_are_too_long_are_skipped_with_their_length() {
        let long = format!("[{}], {{}} ]", "1, ".repeat(300_000));
        let (found, _) = list(long.as_bytes(), 1_000);
        assert_eq!(found, ["<900002>", "{}"]);
        let (found, _) = list(Drip(br#"{"a": "bcd\"ef"}, 7]"#), 5);
        assert_eq!(found, ["<16>", "7"]);
    }

    #[test]
    fn brackets_within_brackets_have_an_end() {
        let nested = |deep: usize| format!("{}{}, 7]", "[".repeat(deep), "]".repeat(deep));
        let most = usize::try_from(DEEPEST).expect("a small number");
        assert_eq!(list(nested(most).as_bytes(), 10_000).0.len(), 2);
        for text in [nested(most + 1), nested(2 * CHUNK), "[".repeat(most + 1)] {
            for longest in [0, 10_000] {
                let (found, stop) = list(text.as_bytes(), longest);
                assert!(found.is_empty() && matches!(stop, Some(Stop::TooDeep)));
            }
        }
        assert!(matches!(list(Drip(nested(most + 1).as_bytes()), 9).1, Some(Stop::TooDeep)));
    }

    #[test]
    fn a_stream_that_is_cut_gives_what_stood_before() {
        let (found, stop) = list(br#"{"a": 1}, {"b": "#.as_slice(), 100);
        assert_eq!(found, [r#"{"a": 1}"#]);
        assert!(matches!(stop, Some(Stop::End)));
        let (_, stop) = list(b"{}, }".as_slice(), 100);
        assert!(matches!(stop, Some(Stop::Unexpected(b'}'))));
    }

    proptest! {
        #[test]
        fn reads_of_any_size_find_the_same(text in r#"([\[\]{}",:\\a1 ]){0,60}"#, longest in 0usize..30) {
            let whole = list(text.as_bytes(), longest);
            let drip = list(Drip(text.as_bytes()), longest);
            prop_assert_eq!(&whole.0, &drip.0);
            prop_assert_eq!(whole.1.is_some(), drip.1.is_some());
        }
    }
}
