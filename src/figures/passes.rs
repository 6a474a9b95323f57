//! Turns the words for some passes of many (`4`, `5-27`, `5-27/2`) into a set, and back.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Passes from one to another, every so many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PassRange {
    /// The first.
    pub first: u32,
    /// The last that may be meant.
    pub last: u32,
    /// 1 for every pass in between.
    pub every: u32,
}

impl PassRange {
    /// Whether it means that pass.
    pub fn contains(self, pass: u32) -> bool {
        (self.first..=self.last).contains(&pass)
            && (pass - self.first).is_multiple_of(self.every.max(1))
    }

    /// How many of the first so many passes it means.
    pub fn count(self, passes: u32) -> u64 {
        let last = self.last.min(passes.saturating_sub(1));
        let steps = last.checked_sub(self.first).filter(|_| passes > 0);
        steps.map_or(0, |steps| u64::from(steps / self.every.max(1)) + 1)
    }

    /// Whether both mean a pass.
    pub fn meets(self, other: Self) -> bool {
        let (rare, often) = if self.count(u32::MAX) < other.count(u32::MAX) {
            (self, other)
        } else {
            (other, self)
        };
        let step = rare.every.max(1) as usize;
        (rare.first..=rare.last).step_by(step).any(|pass| often.contains(pass))
    }
}

impl fmt::Display for PassRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.first == self.last, self.every) {
            (true, _) => write!(f, "{}", self.first),
            (false, 1) => write!(f, "{}-{}", self.first, self.last),
            (false, every) => write!(f, "{}-{}/{every}", self.first, self.last),
        }
    }
}

impl FromStr for PassRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refused =
            || format!("found {text:?}, expected passes from 0 such as 4, 5-27 or 5-27/2");
        let number = |text: &str| -> Result<u32, String> {
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse().ok().filter(|_| digits).ok_or_else(refused)
        };
        let (range, every) = match text.split_once('/') {
            Some((range, every)) => (range, number(every)?),
            None => (text, 1),
        };
        let (first, last) = match range.split_once('-') {
            Some((first, last)) => (number(first)?, number(last)?),
            None => (number(range)?, number(range)?),
        };
        let sound = first <= last && every > 0;
        if sound { Ok(Self { first, last, every }) } else { Err(refused()) }
    }
}

impl Serialize for PassRange {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.first == self.last {
            return serializer.serialize_u32(self.first);
        }
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PassRange {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Pass(u32),
            Range(String),
        }
        match Written::deserialize(d)? {
            Written::Pass(pass) => Ok(Self { first: pass, last: pass, every: 1 }),
            Written::Range(text) => text.parse().map_err(serde::de::Error::custom),
        }
    }
}

impl JsonSchema for PassRange {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "PassRange".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "a pass counted from 0, or a range of them, every so many: 4, 5-27, 5-27/2",
            "anyOf": [
                {"type": "integer", "minimum": 0},
                {"type": "string", "pattern": "^[0-9]+(-[0-9]+)?(/[1-9][0-9]*)?$"},
            ],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_passes_are_read_as_they_are_written() {
        for (text, passes) in [("4", vec![4]), ("2-4", vec![2, 3, 4]), ("1-6/2", vec![1, 3, 5])] {
            let range: PassRange = text.parse().expect(text);
            assert_eq!(range.to_string(), text);
            assert_eq!((0..10).filter(|&pass| range.contains(pass)).collect::<Vec<_>>(), passes);
            assert_eq!(range.count(3), passes.iter().filter(|pass| **pass < 3).count() as u64);
            assert_eq!(range.count(10), passes.len() as u64);
        }
        for text in ["", "-", "4-2", "1-", "+1", "1-3/0", "1/x", "4294967296", "1 - 2"] {
            assert!(text.parse::<PassRange>().is_err(), "{text:?}");
        }
    }
}
