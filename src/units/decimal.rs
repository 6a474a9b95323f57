//! Turns integers into text with decimal prefixes, exact or rounded for reading.

const DECIMAL: [(u64, &str); 4] =
    [(1_000_000_000_000, "T"), (1_000_000_000, "G"), (1_000_000, "M"), (1_000, "k")];

/// The shortest exact form with a decimal prefix, at most one digit after the point.
pub(super) fn exact_decimal(value: u64, unit: &str) -> String {
    for (scale, prefix) in DECIMAL.into_iter().filter(|&(scale, _)| value >= scale) {
        if prefix == "k" && unit == "FLOP/s" {
            break;
        }
        if value.is_multiple_of(scale) {
            return format!("{}{prefix}{unit}", value / scale);
        }
        if value.is_multiple_of(scale / 10) {
            return format!("{}.{}{prefix}{unit}", value / scale, value % scale / (scale / 10));
        }
    }
    value.to_string()
}

pub(super) fn human_decimal(value: u64, unit: &str) -> String {
    let (scale, prefix) = DECIMAL.into_iter().find(|&(scale, _)| value >= scale).unwrap_or((1, ""));
    let tenths = (u128::from(value) * 10 + u128::from(scale) / 2) / u128::from(scale);
    format!("{}.{} {prefix}{unit}", tenths / 10, tenths % 10)
}
