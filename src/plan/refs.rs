//! Turns the names by which pieces refer to uses into values and back: of the same component, or of one before it.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What must have ended before the first copy of a piece in its component's phase: `start`, or the use of a
/// component before, in the last pass of it that there was (`transformer.blocks.39`, `transformer.blocks.39@-1` for
/// the pass before the last).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// Nothing: its bytes are free from the start.
    Start,
    /// The last use of what was there.
    Use {
        /// The component.
        component: String,
        /// The use, counted from the component's last pass.
        of: UseRef,
    },
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start => f.write_str("start"),
            Self::Use { component, of } => write!(f, "{component}.{of}"),
        }
    }
}

impl FromStr for Entry {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "start" {
            return Ok(Self::Start);
        }
        let Some((component, of)) = text.split_once('.') else {
            return Err(format!(
                "found {text:?}, expected start or a use of a component before such as vae.root"
            ));
        };
        Ok(Self::Use { component: component.to_owned(), of: of.parse()? })
    }
}

impl Serialize for Entry {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Entry {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Entry {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Entry".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "start, or a use of a component before, in its last pass (transformer.blocks.39)",
            "type": "string",
        })
    }
}

/// A use of a block in the same pass, or so many passes back: `blocks.3`, `blocks.3@-1`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UseRef {
    /// The block's id without its component, or `root`.
    pub block: String,
    /// 0 for the same pass, 1 for the previous one.
    pub passes_back: u32,
}

impl fmt::Display for UseRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.passes_back {
            0 => f.write_str(&self.block),
            back => write!(f, "{}@-{back}", self.block),
        }
    }
}

impl FromStr for UseRef {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some((block, back)) = text.rsplit_once("@-") else {
            return Ok(Self { block: text.to_owned(), passes_back: 0 });
        };
        match back.parse() {
            Ok(passes_back @ 1..=16) => Ok(Self { block: block.to_owned(), passes_back }),
            _ => Err(format!(
                "found {text:?}, expected a use such as blocks.3 or blocks.3@-1 (to @-16)"
            )),
        }
    }
}

impl Serialize for UseRef {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for UseRef {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for UseRef {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "UseRef".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "a use in the same pass (blocks.3) or in an earlier one (blocks.3@-1)",
            "type": "string",
        })
    }
}
