//! Turns names into an order that people expect: `blocks.2` before `blocks.10`.

use std::cmp::Ordering;

/// Compares two names, runs of digits by their value. Total: names that differ are never equal.
///
/// ```
/// use vramplan::scan::natural_compare;
/// assert!(natural_compare("blocks.2.w", "blocks.10.w").is_lt());
/// ```
pub fn compare(a: &str, b: &str) -> Ordering {
    let (mut left, mut right) = (a.as_bytes(), b.as_bytes());
    while let (Some(&l), Some(&r)) = (left.first(), right.first()) {
        let order = if l.is_ascii_digit() && r.is_ascii_digit() {
            let (x, y) = (digits(&mut left), digits(&mut right));
            x.len().cmp(&y.len()).then_with(|| x.cmp(y))
        } else {
            (left, right) = (&left[1..], &right[1..]);
            l.cmp(&r)
        };
        if order.is_ne() {
            return order;
        }
    }
    // What is left, then the spelling (leading zeros).
    left.len().cmp(&right.len()).then_with(|| a.cmp(b))
}

/// Cuts the leading run of digits off `text` and gives it without its leading zeros.
fn digits<'a>(text: &mut &'a [u8]) -> &'a [u8] {
    let end = text.iter().position(|c| !c.is_ascii_digit()).unwrap_or(text.len());
    let (run, rest) = text.split_at(end);
    *text = rest;
    let zeros = run.iter().position(|&c| c != b'0').unwrap_or(run.len());
    &run[zeros..]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn digits_count_by_value() {
        let mut names = ["a.10", "a.9.b", "a.2", "b", "a.02", "a", "a.9"];
        names.sort_by(|a, b| compare(a, b));
        assert_eq!(names, ["a", "a.02", "a.2", "a.9", "a.9.b", "a.10", "b"]);
    }

    proptest! {
        #[test]
        fn it_is_a_total_order(a in "[a01.]{0,6}", b in "[a01.]{0,6}", c in "[a01.]{0,6}") {
            prop_assert_eq!(compare(&a, &b), compare(&b, &a).reverse());
            prop_assert_eq!(compare(&a, &b).is_eq(), a == b);
            if compare(&a, &b).is_le() && compare(&b, &c).is_le() {
                prop_assert!(compare(&a, &c).is_le());
            }
        }
    }
}
