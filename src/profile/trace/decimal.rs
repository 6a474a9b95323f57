//! Turns the decimal text of a time in microseconds into whole nanoseconds, without a float on the way.
//!
//! A double holds microseconds since 1970 to a quarter of a microsecond only; the text holds them exactly. Digits
//! below a nanosecond are rounded to the nearest one, half up, and reported.

/// The longest number of digits that is read; a double prints at most 17 that mean anything.
const MOST_DIGITS: usize = 36;

/// A time in nanoseconds, and whether the text said just that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Time {
    /// Nanoseconds.
    pub nanos: i64,
    /// False where digits below a nanosecond were rounded.
    pub exact: bool,
}

/// Reads microseconds such as `1695835542514261`, `4203669604595.407`, `-1.5` or `1e-05`, with or without quotes.
/// `None` for anything else, and for what does not fit 64 bits of nanoseconds.
pub(super) fn microseconds(text: &str) -> Option<Time> {
    let text = text.trim_matches('"').trim();
    let (negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if whole.len() + fraction.len() > MOST_DIGITS || (whole.is_empty() && fraction.is_empty()) {
        return None;
    }
    let mut digits: i128 = 0;
    for digit in whole.bytes().chain(fraction.bytes()) {
        if !digit.is_ascii_digit() {
            return None;
        }
        digits = digits * 10 + i128::from(digit - b'0');
    }
    if negative {
        digits = -digits;
    }
    let shift = exponent.checked_add(3)?.checked_sub(i32::try_from(fraction.len()).ok()?)?;
    scaled(digits, shift)
}

/// `digits` times ten to the `shift`.
fn scaled(digits: i128, shift: i32) -> Option<Time> {
    if digits == 0 {
        return Some(Time { nanos: 0, exact: true });
    }
    let power = |of: u32| 10i128.checked_pow(of);
    if shift >= 0 {
        let nanos = digits.checked_mul(power(shift.unsigned_abs())?)?;
        return Some(Time { nanos: i64::try_from(nanos).ok()?, exact: true });
    }
    let Some(divisor) = power(shift.unsigned_abs()) else {
        return Some(Time { nanos: 0, exact: false });
    };
    let rounded = digits.checked_add(divisor / 2)?.div_euclid(divisor);
    let exact = digits.rem_euclid(divisor) == 0;
    Some(Time { nanos: i64::try_from(rounded).ok()?, exact })
}

/// Reads an integer, with or without quotes, or behind a word as in `stream 7`.
pub(super) fn integer(text: &str) -> Option<i64> {
    let text = text.trim_matches('"').trim();
    text.parse().ok().or_else(|| text.rsplit_once(' ')?.1.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> Option<(i64, bool)> {
        microseconds(text).map(|time| (time.nanos, time.exact))
    }

    #[test]
    fn every_digit_of_a_time_counts() {
        assert_eq!(read("1695835542514261"), Some((1_695_835_542_514_261_000, true)));
        // As a double of microseconds this one would end in .40686.
        assert_eq!(read("4203669604595.407"), Some((4_203_669_604_595_407, true)));
        assert_eq!(read("\"12.5\""), Some((12_500, true)));
        assert_eq!(read("-0.001"), Some((-1, true)));
        assert_eq!(read("1e-05"), Some((0, false)));
        assert_eq!(read("1.7e3"), Some((1_700_000, true)));
        assert_eq!(read("0.0005"), Some((1, false)));
        assert_eq!(read("0.00049"), Some((0, false)));
        assert_eq!(read("7.1230"), Some((7_123, true)));
    }

    #[test]
    fn what_is_no_time_is_none() {
        for text in ["", ".", "-", "1.2.3", "0x1f", "NaN", "1e", "1e999999999999", "null", "1 2"] {
            assert_eq!(read(text), None, "{text}");
        }
        assert_eq!(read("18446744073709551615"), None);
        assert_eq!(read(&"9".repeat(40)), None);
        assert_eq!(read("1e-999"), Some((0, false)));
        assert_eq!(read("1e99"), None);
    }

    #[test]
    fn streams_may_stand_behind_a_word() {
        assert_eq!(integer("7"), Some(7));
        assert_eq!(integer("\"stream 7\""), Some(7));
        assert_eq!(integer("\"-1\""), Some(-1));
        assert_eq!(integer("\"PyTorch Profiler\""), None);
    }

    proptest! {
        #[test]
        fn whole_nanoseconds_survive(nanos in i64::MIN / 4..i64::MAX / 4) {
            let sign = if nanos < 0 { "-" } else { "" };
            let size = nanos.unsigned_abs();
            let text = format!("{sign}{}.{:03}", size / 1_000, size % 1_000);
            prop_assert_eq!(read(&text), Some((nanos, true)));
        }

        #[test]
        fn no_text_panics(text: String) {
            let _ = (microseconds(&text), integer(&text));
        }
    }
}
