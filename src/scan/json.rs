//! Turns JSON text into values, refusing what the usual reader lets pass: keys that stand twice.

use std::collections::BTreeSet;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{DeserializeOwned, Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::error::{Error, Problem, Result};

/// A JSON object whose keys are all different, in the order of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UniqueMap<V>(pub Vec<(String, V)>);

impl<V> Default for UniqueMap<V> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

struct MapVisitor<V>(PhantomData<V>);

impl<'de, V: Deserialize<'de>> Visitor<'de> for MapVisitor<V> {
    type Value = UniqueMap<V>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(
        self,
        mut map: A,
    ) -> std::result::Result<Self::Value, A::Error> {
        let mut seen = BTreeSet::new();
        let mut entries = Vec::new();
        while let Some(key) = map.next_key::<String>()? {
            if !seen.insert(key.clone()) {
                return Err(A::Error::custom(format!(
                    "key {key:?} a second time, expected every key once"
                )));
            }
            entries.push((key, map.next_value()?));
        }
        Ok(UniqueMap(entries))
    }
}

impl<'de, V: Deserialize<'de>> Deserialize<'de> for UniqueMap<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        deserializer.deserialize_map(MapVisitor(PhantomData))
    }
}

/// Where a JSON text stands, for places in messages.
#[derive(Debug, Clone, Copy)]
pub enum Within {
    /// A file of its own: line and column.
    File,
    /// The header of a binary file, which begins at this byte.
    Header(u64),
}

/// Reads one JSON value. `file` is only for messages.
pub fn parse<T: DeserializeOwned>(file: &str, within: Within, bytes: &[u8]) -> Result<T> {
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            let at = error.valid_up_to() as u64;
            let place = match within {
                Within::File => format!("byte {at}"),
                Within::Header(start) => format!("header byte {}", start + at),
            };
            return Err(Error::input(file, Problem::new(place, "no UTF-8", "text in UTF-8")));
        }
    };
    serde_json::from_str(text).map_err(|error| {
        let place = match within {
            Within::File => format!("line {} column {}", error.line(), error.column()),
            Within::Header(start) => {
                let before: usize =
                    text.split_inclusive('\n').take(error.line().max(1) - 1).map(str::len).sum();
                let at = (before + error.column().max(1) - 1) as u64;
                format!("header byte {}", start + at)
            }
        };
        Error::input(file, problem(place, &error.to_string()))
    })
}

/// Splits the library's message, whose own position would repeat ours.
fn problem(place: String, message: &str) -> Problem {
    let text = message.rsplit_once(" at line ").map_or(message, |(text, _)| text);
    match text.rsplit_once(", expected ") {
        Some((found, expected)) => Problem::new(place, found, expected),
        None => match text.strip_prefix("expected ") {
            Some(expected) => Problem::new(place, "something else", expected),
            None => Problem::new(place, text, "valid JSON of this format"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    fn message(within: Within, text: &[u8]) -> String {
        parse::<UniqueMap<u64>>("x.json", within, text).expect_err("bad JSON").to_string()
    }

    #[test]
    fn order_of_the_file_is_kept() {
        let map: UniqueMap<u64> = parse("x", Within::File, br#"{"b": 1, "a": 2}"#).unwrap();
        assert_eq!(map.0, [("b".to_owned(), 1), ("a".to_owned(), 2)]);
    }

    #[test]
    fn a_key_that_stands_twice_is_refused_with_its_place() {
        expect![[
            r#"x.json: line 2 column 4: found key "a" a second time, expected every key once"#
        ]]
        .assert_eq(&message(Within::File, b"{\"a\": 1,\n \"a\": 2}"));
    }

    #[test]
    fn places_in_a_header_count_from_the_start_of_the_file() {
        expect!["x.json: header byte 14: found EOF while parsing a value, expected valid JSON of this format"]
            .assert_eq(&message(Within::Header(8), b"{\n\"a\": "));
        expect!["x.json: header byte 10: found no UTF-8, expected text in UTF-8"]
            .assert_eq(&message(Within::Header(8), b"{\"\xff\": 1}"));
    }

    #[test]
    fn depth_is_bounded() {
        let deep = format!("{{\"a\": {}", "[".repeat(1 << 20));
        assert!(parse::<UniqueMap<serde_json::Value>>("x", Within::File, deep.as_bytes()).is_err());
    }
}
