//! Turns the text of one JSON object into its keys and values, each as it stands in the text.
//!
//! A general parser builds every nested value, checks every number and copies every string, of which a trace's figures
//! need eight fields in one event of ten. Here a value's end is found by its brackets and quotes, and what lies inside
//! is only read where it is used. Keys and separators of the object itself are checked.

use std::borrow::Cow;

use super::frame::State;

/// The object does not read `{"key": value, …}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed {
    /// Where in the object.
    pub at: usize,
}

/// A walk over the fields of an object.
pub(super) struct Fields<'a> {
    bytes: &'a [u8],
    at: usize,
    first: bool,
}

/// A key without its quotes, and a value as it stands.
pub(super) type Field<'a> = (&'a [u8], &'a [u8]);

impl<'a> Fields<'a> {
    /// The fields of an object, brackets included.
    pub(super) fn of(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, first: true }
    }

    fn skip_space(&mut self) -> Option<u8> {
        while let Some(byte) = self.bytes.get(self.at) {
            if !byte.is_ascii_whitespace() {
                return Some(*byte);
            }
            self.at += 1;
        }
        None
    }

    fn take(&mut self, wanted: u8) -> Result<(), Malformed> {
        if self.skip_space() != Some(wanted) {
            return Err(Malformed { at: self.at });
        }
        self.at += 1;
        Ok(())
    }

    fn value(&mut self) -> Result<&'a [u8], Malformed> {
        let malformed = Malformed { at: self.at };
        let first = self.skip_space().ok_or(malformed)?;
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let mut state = State::begin(first).map_err(|_| malformed)?;
        let length = state.scan(rest, &mut 0).ok_or(malformed)?;
        self.at += length;
        Ok(&rest[..length])
    }

    /// The next field; `None` after the last.
    pub(super) fn next(&mut self) -> Result<Option<Field<'a>>, Malformed> {
        if self.first {
            self.take(b'{')?;
        }
        match self.skip_space() {
            Some(b'}') => return Ok(None),
            Some(b',') if !self.first => self.at += 1,
            _ if self.first => {}
            _ => return Err(Malformed { at: self.at }),
        }
        self.first = false;
        if self.skip_space() != Some(b'"') {
            return Err(Malformed { at: self.at });
        }
        let key = self.value()?;
        self.take(b':')?;
        let value = self.value()?;
        Ok(Some((&key[1..key.len() - 1], value)))
    }
}

/// A JSON string's text, other values as they are written. Bytes that are no UTF-8 become the replacement character:
/// names from C++ need not be any.
pub(super) fn text(raw: &[u8]) -> Cow<'_, str> {
    let inner = raw.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\""));
    match inner {
        None => String::from_utf8_lossy(raw),
        Some(inner) if !inner.contains(&b'\\') => String::from_utf8_lossy(inner),
        Some(inner) => match serde_json::from_str(&String::from_utf8_lossy(raw)) {
            Ok(text) => Cow::Owned(text),
            Err(_) => String::from_utf8_lossy(inner),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fields(text: &str) -> Result<Vec<(String, String)>, Malformed> {
        let mut walk = Fields::of(text.as_bytes());
        let mut found = Vec::new();
        while let Some((key, value)) = walk.next()? {
            let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
            found.push((text(key), text(value)));
        }
        Ok(found)
    }

    #[test]
    fn keys_and_values_come_as_they_stand() {
        let found = fields(r#" { "a" : 1.50, "b": {"c": [1, "}"]} ,"d":"x\"y","e":null}"#);
        let pairs = [("a", "1.50"), ("b", r#"{"c": [1, "}"]}"#), ("d", r#""x\"y""#), ("e", "null")];
        assert_eq!(found, Ok(pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).into()));
        assert_eq!(fields("{}"), Ok(Vec::new()));
    }

    #[test]
    fn what_is_no_object_is_malformed() {
        for text in [
            "",
            "[",
            "{",
            "{1: 2}",
            "{\"a\" 1}",
            "{\"a\": }",
            "{\"a\": 1 \"b\": 2}",
            "{,}",
            "{\"a\": 1,}",
            "{\"a\": \"b",
        ] {
            assert!(fields(text).is_err(), "{text}");
        }
    }

    #[test]
    fn strings_are_decoded_however_they_are_written() {
        assert_eq!(text(br#""a\u00e9\"b""#), "aé\"b");
        assert_eq!(text(b"\"a\xffb\""), "a\u{fffd}b");
        assert_eq!(text(b"12"), "12");
        // No JSON, but what is meant can be seen.
        assert_eq!(text(br#""C:\xx""#), r"C:\xx");
    }

    proptest! {
        #[test]
        fn objects_of_a_real_writer_are_read_whole(map: std::collections::BTreeMap<String, (u32, String, Vec<bool>)>) {
            let json = serde_json::to_string(&map).expect("json");
            let mut walk = Fields::of(json.as_bytes());
            let mut found = std::collections::BTreeMap::new();
            while let Some((key, value)) = walk.next().expect("a field") {
                let key = format!("\"{}\"", String::from_utf8_lossy(key));
                let value = serde_json::from_slice(value).expect("a value");
                found.insert(text(key.as_bytes()).into_owned(), value);
            }
            prop_assert_eq!(found, map);
        }

        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            let mut walk = Fields::of(&bytes);
            while let Ok(Some((_, value))) = walk.next() {
                let _ = text(value);
            }
        }
    }
}
