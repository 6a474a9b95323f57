//! Turns text such as `16GiB`, `18.7ms` or `25GB/s` into exact integers and back.
//!
//! Every amount in vramplan is one of five integer types: [`Bytes`], [`Nanos`], [`Rate`] (bytes per second),
//! [`FlopRate`] (floating-point operations per second) and [`Fraction`] (parts per million). Nothing is a bare
//! float, so sums are exact and the same on every machine. Two notations exist and are never mixed:
//!
//! * [`std::fmt::Display`] is *exact*: what it prints, the parser reads back to the same integer. Files use it.
//! * `human()` is *rounded for reading* and must never be written where a program reads.
//!
//! Memory uses binary prefixes (GiB), rates and operations decimal ones (GB/s, TFLOP/s), as the field does.
//!
//! ```
//! use vramplan::units::{Bytes, Nanos, Rate};
//! let size: Bytes = "1.5GiB".parse().unwrap();
//! assert_eq!(size.get(), 1_610_612_736);
//! assert_eq!(size.to_string(), "1536MiB");
//! assert_eq!(Bytes::new(679_662_592).to_string(), "679662592");
//! assert_eq!(Bytes::new(679_662_592).human(), "648.2 MiB");
//! // t(x) = ceil(x / rate): a copy never ends before its last byte.
//! let rate: Rate = "25GB/s".parse().unwrap();
//! assert_eq!(rate.time_for(Bytes::new(679_662_592)), Nanos::new(27_186_504));
//! ```

mod decimal;
mod fraction;

use std::fmt;
use std::iter::Sum;
use std::str::FromStr;

use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use decimal::{exact_decimal, human_decimal};
pub use fraction::Fraction;

/// Why a text is not an amount: what was found and what was expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitError {
    /// The text as given.
    pub found: String,
    /// What would have been accepted.
    pub expected: &'static str,
}

impl fmt::Display for UnitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "found {:?}, expected {}", self.found, self.expected)
    }
}

impl std::error::Error for UnitError {}

/// Reads `<decimal><unit>` exactly: the value times the unit's size, fractions of the smallest unit cut off.
fn parse_scaled(
    text: &str,
    units: &[(&str, u128)],
    expected: &'static str,
) -> Result<u64, UnitError> {
    let bad = || UnitError { found: text.to_owned(), expected };
    let trimmed = text.trim();
    let end = trimmed.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at(end);
    let scale = units
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(unit.trim()))
        .map(|&(_, scale)| scale)
        .ok_or_else(bad)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    // 18 digits after the point are finer than any unit here; more are only a way to make us overflow.
    if whole.is_empty() || whole.len() > 20 || fraction.len() > 18 || fraction.contains('.') {
        return Err(bad());
    }
    let digits: u128 = format!("{whole}{fraction}").parse().map_err(|_| bad())?;
    let divisor = 10u128.pow(u32::try_from(fraction.len()).map_err(|_| bad())?);
    let value = digits.checked_mul(scale).ok_or_else(bad)? / divisor;
    u64::try_from(value).map_err(|_| bad())
}

/// Reads an amount from a YAML or JSON scalar: a string with its unit, or a plain non-negative integer.
struct AmountVisitor<T> {
    from_integer: Option<fn(u64) -> T>,
    expected: &'static str,
}

impl<T: FromStr<Err = UnitError>> Visitor<'_> for AmountVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expected)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<T, E> {
        match self.from_integer {
            Some(make) => Ok(make(value)),
            None => value.to_string().parse().map_err(E::custom),
        }
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<T, E> {
        match u64::try_from(value) {
            Ok(value) => self.visit_u64(value),
            Err(_) => {
                Err(E::custom(UnitError { found: value.to_string(), expected: self.expected }))
            }
        }
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<T, E> {
        // Only shares are written as decimals; half a byte is a mistake, not something to round.
        let found = format!("{value}");
        match self.from_integer {
            Some(_) => Err(E::custom(UnitError { found, expected: self.expected })),
            // A YAML reader hands us `0.6` as a float; its shortest text is what the person wrote.
            None => found.parse().map_err(E::custom),
        }
    }
}

macro_rules! amount {
    ($(#[$doc:meta])* $name:ident, units: $units:expr, expected: $expected:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(u64);

        impl $name {
            /// Zero.
            pub const ZERO: Self = Self(0);

            /// Wraps an integer that is already in this type's unit.
            pub const fn new(value: u64) -> Self {
                Self(value)
            }

            /// The integer in this type's unit.
            pub const fn get(self) -> u64 {
                self.0
            }

            /// Whether nothing is there.
            pub const fn is_zero(self) -> bool {
                self.0 == 0
            }

            /// Sum, or `None` on overflow.
            pub fn checked_add(self, other: Self) -> Option<Self> {
                self.0.checked_add(other.0).map(Self)
            }

            /// Difference, or `None` when it would be negative.
            pub fn checked_sub(self, other: Self) -> Option<Self> {
                self.0.checked_sub(other.0).map(Self)
            }

            /// Product with a count, or `None` on overflow.
            pub fn checked_mul(self, count: u64) -> Option<Self> {
                self.0.checked_mul(count).map(Self)
            }

            /// Sum that stops at the largest value; for totals that are only compared with a limit.
            pub fn saturating_add(self, other: Self) -> Self {
                Self(self.0.saturating_add(other.0))
            }

            /// Difference, zero where it would be negative.
            pub fn saturating_sub(self, other: Self) -> Self {
                Self(self.0.saturating_sub(other.0))
            }

            /// Product with a count that stops at the largest value.
            pub fn saturating_mul(self, count: u64) -> Self {
                Self(self.0.saturating_mul(count))
            }
        }

        impl From<$name> for u64 {
            fn from(amount: $name) -> u64 {
                amount.0
            }
        }

        impl Sum for $name {
            fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
                iter.fold(Self(0), Self::saturating_add)
            }
        }

        impl FromStr for $name {
            type Err = UnitError;

            fn from_str(text: &str) -> Result<Self, UnitError> {
                parse_scaled(text, $units, $expected).map(Self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_any(AmountVisitor {
                    from_integer: Some(Self),
                    expected: $expected,
                })
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let text = self.to_string();
                match text.parse::<u64>() {
                    Ok(value) => serializer.serialize_u64(value),
                    Err(_) => serializer.serialize_str(&text),
                }
            }
        }

        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({
                    "description": $expected,
                    "type": ["integer", "string"],
                    "minimum": 0,
                })
            }
        }
    };
}

/// Writes an amount as a plain integer; for files that programs read, such as profiles.
pub fn plain<T: Copy + Into<u64>, S: Serializer>(
    amount: &T,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64((*amount).into())
}

const KIB: u128 = 1 << 10;
const MIB: u128 = 1 << 20;
const GIB: u128 = 1 << 30;
const TIB: u128 = 1 << 40;

amount!(
    /// An amount of memory in bytes. Reads `679662592`, `700MB` (10⁶) and `16GiB` (2³⁰); a fraction of a byte is cut off.
    Bytes,
    units: &[
        ("", 1), ("B", 1), ("KiB", KIB), ("MiB", MIB), ("GiB", GIB), ("TiB", TIB),
        ("kB", 1_000), ("MB", 1_000_000), ("GB", 1_000_000_000), ("TB", 1_000_000_000_000),
    ],
    expected: "a size in bytes, such as 679662592, 700MB or 16GiB"
);

amount!(
    /// A duration or a time since the start of a run, in nanoseconds. Reads `15us`, `18.7ms`; a fraction of a
    /// nanosecond is cut off.
    Nanos,
    units: &[("", 1), ("ns", 1), ("us", 1_000), ("µs", 1_000), ("ms", 1_000_000), ("s", 1_000_000_000)],
    expected: "a time, such as 18700000, 15us, 18.7ms or 2s"
);

amount!(
    /// A transfer rate in bytes per second. Reads `25GB/s` (10⁹) and `24GiB/s` (2³⁰).
    Rate,
    units: &[
        ("", 1), ("B/s", 1), ("kB/s", 1_000), ("MB/s", 1_000_000), ("GB/s", 1_000_000_000),
        ("TB/s", 1_000_000_000_000), ("KiB/s", KIB), ("MiB/s", MIB), ("GiB/s", GIB), ("TiB/s", TIB),
    ],
    expected: "a rate, such as 25000000000 (bytes per second), 25GB/s or 1.8TB/s"
);

amount!(
    /// Floating-point operations per second; a multiply-add counts as two. Reads `165TFLOP/s`.
    FlopRate,
    units: &[
        ("", 1), ("FLOP/s", 1), ("MFLOP/s", 1_000_000), ("GFLOP/s", 1_000_000_000),
        ("TFLOP/s", 1_000_000_000_000), ("PFLOP/s", 1_000_000_000_000_000),
    ],
    expected: "operations per second, such as 165TFLOP/s"
);

/// Divides and rounds up; `None` when the divisor is zero or the result does not fit.
fn div_ceil_u128(numerator: u128, divisor: u64) -> Option<u64> {
    if divisor == 0 {
        return None;
    }
    u64::try_from(numerator.div_ceil(u128::from(divisor))).ok()
}

impl Bytes {
    /// The next multiple of `alignment`, saturating; `alignment` 0 and 1 leave the size as it is.
    pub fn align_up(self, alignment: u64) -> Self {
        if alignment <= 1 {
            return self;
        }
        self.0.checked_next_multiple_of(alignment).map_or(Self(u64::MAX), Self)
    }

    /// Rounded for reading: binary prefix, one decimal.
    pub fn human(self) -> String {
        let scaled = |unit: u128, name: &str| {
            let tenths = (u128::from(self.0) * 10 + unit / 2) / unit;
            format!("{}.{} {name}", tenths / 10, tenths % 10)
        };
        match u128::from(self.0) {
            v if v >= TIB => scaled(TIB, "TiB"),
            v if v >= GIB => scaled(GIB, "GiB"),
            v if v >= MIB => scaled(MIB, "MiB"),
            v if v >= KIB => scaled(KIB, "KiB"),
            v => format!("{v} B"),
        }
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = u128::from(self.0);
        let text = match value {
            0 => "0".to_owned(),
            v if v % GIB == 0 => format!("{}GiB", v / GIB),
            v if v % MIB == 0 => format!("{}MiB", v / MIB),
            v => v.to_string(),
        };
        f.pad(&text)
    }
}

impl Nanos {
    /// Rounded for reading: four digits, in the unit that leaves one to three of them before the point.
    pub fn human(self) -> String {
        const UNITS: [(u64, &str); 3] = [(1_000, "us"), (1_000_000, "ms"), (1_000_000_000, "s")];
        if self.0 < 1_000 {
            return format!("{} ns", self.0);
        }
        // A value that rounds to 1000 of a unit is 1 of the next.
        for (n, (unit, name)) in UNITS.into_iter().enumerate() {
            for (below, decimals) in [(10, 3u32), (100, 2), (1_000, 1)] {
                let scale = 10u128.pow(decimals);
                let scaled =
                    (u128::from(self.0) * scale * 2 + u128::from(unit)) / (2 * u128::from(unit));
                let last = n + 1 == UNITS.len() && below == 1_000;
                if scaled < below * scale || last {
                    let digits = decimals as usize;
                    return format!("{}.{:0digits$} {name}", scaled / scale, scaled % scale);
                }
            }
        }
        unreachable!("the last unit takes every value")
    }
}

impl fmt::Display for Nanos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let decimal = |unit: u64, digits: usize, name: &str| {
            let fraction = format!("{:0digits$}", self.0 % unit);
            let fraction = fraction.trim_end_matches('0');
            let point = if fraction.is_empty() { "" } else { "." };
            format!("{}{point}{fraction}{name}", self.0 / unit)
        };
        let text = match self.0 {
            0 => "0".to_owned(),
            v if v >= 1_000_000 => decimal(1_000_000, 6, "ms"),
            v if v >= 1_000 => decimal(1_000, 3, "us"),
            v => format!("{v}ns"),
        };
        f.pad(&text)
    }
}

impl Rate {
    /// The time that `size` takes at this rate, rounded up; saturates at the largest time (also at rate zero).
    pub fn time_for(self, size: Bytes) -> Nanos {
        // Below 18 GB in 64 bits, which is several times faster; planning divides a lot.
        match size.0.checked_mul(1_000_000_000).filter(|_| self.0 > 0) {
            Some(numerator) => Nanos(numerator.div_ceil(self.0)),
            None => {
                let numerator = u128::from(size.0) * 1_000_000_000;
                div_ceil_u128(numerator, self.0).map_or(Nanos(u64::MAX), Nanos)
            }
        }
    }

    /// Rounded for reading, decimal prefix.
    pub fn human(self) -> String {
        human_decimal(self.0, "B/s")
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&exact_decimal(self.0, "B/s"))
    }
}

impl FlopRate {
    /// The time that `operations` take at this rate, rounded up; saturates at the largest time.
    pub fn time_for(self, operations: u64) -> Nanos {
        let numerator = u128::from(operations) * 1_000_000_000;
        div_ceil_u128(numerator, self.0).map_or(Nanos(u64::MAX), Nanos)
    }

    /// This rate times a share of it.
    pub fn scaled(self, share: Fraction) -> Self {
        let value =
            u128::from(self.0) * u128::from(share.ppm()) / u128::from(Fraction::WHOLE.ppm());
        Self(u64::try_from(value).unwrap_or(u64::MAX))
    }

    /// Rounded for reading, decimal prefix.
    pub fn human(self) -> String {
        human_decimal(self.0, "FLOP/s")
    }
}

impl fmt::Display for FlopRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&exact_decimal(self.0, "FLOP/s"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check_bytes(text: &str, expected: Option<u64>) {
        assert_eq!(text.parse::<Bytes>().ok().map(Bytes::get), expected, "{text:?}");
    }

    #[test]
    fn sizes_are_read_exactly() {
        check_bytes("0", Some(0));
        check_bytes("12GiB", Some(12 << 30));
        check_bytes("12 gib", Some(12 << 30));
        check_bytes("11.5GiB", Some(23 << 29));
        check_bytes("700MB", Some(700_000_000));
        check_bytes("0.1KiB", Some(102));
        check_bytes("17179869184GiB", None);
        check_bytes("99999999999999999999999GiB", None);
        check_bytes("-1GiB", None);
        check_bytes("1.2.3MB", None);
        check_bytes(".5MB", None);
        check_bytes("1e9", None);
        check_bytes("12XB", None);
        check_bytes("", None);
    }

    #[test]
    fn times_and_rates_are_read_exactly() {
        assert_eq!("18.7ms".parse(), Ok(Nanos::new(18_700_000)));
        assert_eq!("15us".parse(), Ok(Nanos::new(15_000)));
        assert_eq!("1008GB/s".parse(), Ok(Rate::new(1_008_000_000_000)));
        assert_eq!("165TFLOP/s".parse(), Ok(FlopRate::new(165_000_000_000_000)));
        assert_eq!("60%".parse(), Ok(Fraction::from_ppm(600_000)));
        assert!("25GB".parse::<Rate>().is_err());
        assert!("NaN".parse::<Fraction>().is_err());
    }

    #[test]
    fn reading_forms_round() {
        assert_eq!(Nanos::new(1_234_567_890).human(), "1.235 s");
        assert_eq!(Nanos::new(27_186_504).human(), "27.19 ms");
        assert_eq!(Nanos::new(751_360_166).human(), "751.4 ms");
        assert_eq!(Nanos::new(999_960_000).human(), "1.000 s");
        assert_eq!(Nanos::new(9_999_600).human(), "10.00 ms");
        assert_eq!(Nanos::new(12_345_678_901_234).human(), "12345.7 s");
        assert_eq!(Bytes::new(12 << 30).human(), "12.0 GiB");
        assert_eq!(Rate::new(31_500_000_000).human(), "31.5 GB/s");
        assert_eq!(Fraction::from_ppm(11_000).percent(), "1.1 %");
    }

    proptest! {
        #[test]
        fn the_exact_form_reads_back(value: u64) {
            prop_assert_eq!(Bytes::new(value).to_string().parse(), Ok(Bytes::new(value)));
            prop_assert_eq!(Nanos::new(value).to_string().parse(), Ok(Nanos::new(value)));
            prop_assert_eq!(Rate::new(value).to_string().parse(), Ok(Rate::new(value)));
            prop_assert_eq!(FlopRate::new(value).to_string().parse(), Ok(FlopRate::new(value)));
        }

        #[test]
        fn a_share_survives_its_file_form(ppm in 0u64..10_000_000) {
            let share = Fraction::from_ppm(ppm);
            let json = serde_json::to_string(&share).expect("a number");
            prop_assert_eq!(serde_json::from_str::<Fraction>(&json).ok(), Some(share));
        }

        #[test]
        fn no_text_panics(text in "\\PC*") {
            let _ = (text.parse::<Bytes>(), text.parse::<Nanos>(), text.parse::<Fraction>());
        }
    }
}
