//! Turns text such as `0.6` or `60%` into an exact share and back.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{AmountVisitor, UnitError, parse_scaled};

/// A dimensionless share in parts per million, so that arithmetic with it stays exact. Reads `0.6` and `60%`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fraction(u64);

impl Fraction {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// One, that is 100 %.
    pub const WHOLE: Self = Self(1_000_000);

    /// Wraps parts per million.
    pub const fn from_ppm(ppm: u64) -> Self {
        Self(ppm)
    }

    /// `part` of `whole`, rounded down; zero when `whole` is zero.
    pub fn of(part: u64, whole: u64) -> Self {
        if whole == 0 {
            return Self::ZERO;
        }
        let ppm = u128::from(part) * u128::from(Self::WHOLE.0) / u128::from(whole);
        Self(u64::try_from(ppm).unwrap_or(u64::MAX))
    }

    /// Parts per million.
    pub const fn ppm(self) -> u64 {
        self.0
    }

    /// This share of an integer, rounded down, saturating.
    pub fn share_of(self, value: u64) -> u64 {
        let share = u128::from(value) * u128::from(self.0) / u128::from(Self::WHOLE.0);
        u64::try_from(share).unwrap_or(u64::MAX)
    }

    /// Rounded for reading: per cent with one decimal.
    pub fn percent(self) -> String {
        let tenths = (self.0 + 500) / 1_000;
        format!("{}.{} %", tenths / 10, tenths % 10)
    }
}

const FRACTION_EXPECTED: &str = "a share, such as 0.6 or 60%";

impl FromStr for Fraction {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let units: &[(&str, u128)] = &[("", 1_000_000), ("%", 10_000)];
        parse_scaled(text, units, FRACTION_EXPECTED).map(Self)
    }
}

impl fmt::Display for Fraction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = format!("{:06}", self.0 % Self::WHOLE.0);
        let digits = digits.trim_end_matches('0');
        let digits = if digits.is_empty() { "0" } else { digits };
        f.pad(&format!("{}.{digits}", self.0 / Self::WHOLE.0))
    }
}

impl<'de> Deserialize<'de> for Fraction {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer
            .deserialize_any(AmountVisitor { from_integer: None, expected: FRACTION_EXPECTED })
    }
}

impl Serialize for Fraction {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // The nearest double to at most six decimals prints as those decimals again.
        let value: f64 = self.to_string().parse().map_err(serde::ser::Error::custom)?;
        serializer.serialize_f64(value)
    }
}

impl schemars::JsonSchema for Fraction {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Fraction".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": FRACTION_EXPECTED,
            "type": ["number", "string"],
            "minimum": 0,
        })
    }
}
