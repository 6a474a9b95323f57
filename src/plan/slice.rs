//! Turns the text of a tensor, or of a range of its rows, into a [`Slice`] and back: `attn.to_q.weight[0..1536]`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A tensor of a block, or some of its rows.
///
/// Rows count the outermost dimension. They are stored one after the other, so a range of them is a range of
/// bytes; in a matrix of `[outputs, inputs]` they are the weights of a range of outputs, and the product by the
/// whole is the products by its ranges side by side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slice {
    /// The tensor's name inside its block.
    pub tensor: String,
    /// The first row and the row after the last; none for all of it.
    pub rows: Option<(u64, u64)>,
}

impl Slice {
    /// All of a tensor.
    pub fn whole(tensor: impl Into<String>) -> Self {
        Self { tensor: tensor.into(), rows: None }
    }
}

/// Divides `name[a..b]`; none where the text does not end like that.
fn rows(text: &str) -> Option<(&str, &str)> {
    text.strip_suffix(']')?.rsplit_once('[').filter(|(_, range)| range.contains(".."))
}

impl fmt::Display for Slice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.rows {
            Some((from, to)) => write!(f, "{}[{from}..{to}]", self.tensor),
            // A name that reads like a range of another tensor is told apart.
            None if rows(&self.tensor).is_some() => write!(f, "{}[..]", self.tensor),
            None => f.write_str(&self.tensor),
        }
    }
}

impl FromStr for Slice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some((tensor, range)) = rows(text) else { return Ok(Self::whole(text)) };
        if range == ".." {
            return Ok(Self::whole(tensor));
        }
        let expected = || {
            format!("found {text:?}, expected a tensor or some of its rows, such as {tensor}[0..8]")
        };
        let (from, to) = range.split_once("..").ok_or_else(expected)?;
        // Signs are no part of a row's number.
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if !digits(from) || !digits(to) {
            return Err(expected());
        }
        match (from.parse(), to.parse()) {
            (Ok(from), Ok(to)) if from < to => {
                Ok(Self { tensor: tensor.to_owned(), rows: Some((from, to)) })
            }
            _ => Err(expected()),
        }
    }
}

impl Serialize for Slice {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Slice {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Slice, String> {
        text.parse()
    }

    #[test]
    fn what_is_written_is_read_back() {
        let some = Slice { tensor: "a.weight".into(), rows: Some((3, 10)) };
        for slice in
            [some, Slice::whole("a.weight"), Slice::whole("odd[0..2]"), Slice::whole("x[3]")]
        {
            assert_eq!(read(&slice.to_string()), Ok(slice));
        }
        assert_eq!(Slice::whole("odd[0..2]").to_string(), "odd[0..2][..]");
    }

    #[test]
    fn empty_and_backward_ranges_are_refused() {
        for text in ["a[3..3]", "a[4..3]", "a[..3]", "a[1..x]", "a[-1..2]", "a[+1..2]"] {
            assert!(read(text).is_err_and(|why| why.contains("a[0..8]")), "{text}");
        }
    }
}
