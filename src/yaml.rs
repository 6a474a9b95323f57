//! Turns YAML text into values and values into YAML text; the only module that knows the YAML library.
//!
//! Reading refuses unknown fields (the types say so), duplicate keys, several documents, alias bombs and
//! documents larger than [`MAX_NODES`]; every error carries file, line and column. Writing is deterministic.

use serde::de::DeserializeOwned;
use serde::{Serialize, Serializer};

use crate::error::{Error, Problem, Result};

/// Nodes (scalars, lists and maps) that one document may hold. A plan of 10,000 blocks with eight pieces each
/// stays below it; a YAML bomb does not.
pub const MAX_NODES: usize = 4_000_000;

/// Text that one document may hold, all scalars together.
const MAX_SCALAR_BYTES: usize = 256 << 20;

/// Reads one document. `file` is only for messages.
pub fn from_str<T: DeserializeOwned>(file: &str, text: &str) -> Result<T> {
    let options = serde_yaml::options! {
        budget: serde_yaml::budget! {
            max_nodes: MAX_NODES,
            max_events: 4 * MAX_NODES,
            max_total_scalar_bytes: MAX_SCALAR_BYTES,
            max_aliases: 0,
        },
        with_snippet: false,
    };
    serde_yaml::from_str_with_options(text, options).map_err(|error| {
        let place = error.location().map_or_else(
            || "document".to_owned(),
            |at| format!("line {} column {}", at.line(), at.column()),
        );
        let message = error.without_snippet().to_string();
        Error::input(file, problem_from(place, &message))
    })
}

/// Reads one document and everything that is wrong with what it says, all problems at once.
pub fn checked<T: DeserializeOwned>(
    file: &str,
    text: &str,
    problems: impl Fn(&T) -> Vec<Problem>,
) -> Result<T> {
    let value: T = from_str(file, text)?;
    let problems = problems(&value);
    if problems.is_empty() {
        return Ok(value);
    }
    Err(Error::Input { file: file.to_owned(), problems })
}

/// Splits the library's message, whose own location suffix would repeat ours.
fn problem_from(place: String, message: &str) -> Problem {
    let first = message.lines().next().unwrap_or(message);
    let text = first.split(" at line ").next().unwrap_or(first).trim();
    if let Some(plain) = plain(text) {
        return Problem::new(place, plain.0, plain.1);
    }
    match text.split_once(", expected ") {
        Some((found, expected)) => {
            Problem::new(place, found.trim_start_matches("found ").to_owned(), expected)
        }
        None => Problem::new(place, text, "a valid document of this format"),
    }
}

/// What the library says in words of its own, in ours: found and expected.
fn plain(text: &str) -> Option<(&'static str, &'static str)> {
    const SAID: [(&str, &str, &str); 8] = [
        ("invalid u32", "no such number", "an integer from 0 to 4294967295"),
        ("invalid u64", "no such number", "an integer from 0 to 18446744073709551615"),
        ("invalid boolean", "no truth value", "true or false"),
        (
            "untagged enum",
            "a value of another form",
            "one of the forms that `vramplan schema` lists",
        ),
        ("budget breached: Aliases", "an alias", "a document without anchors and aliases"),
        ("budget breached", "a document too large or too deep", "at most 4 million nodes"),
        ("duplicate mapping key", "a key a second time", "every key once"),
        ("multiple", "several documents", "one document"),
    ];
    let known = SAID.iter().find(|(said, ..)| text.contains(said));
    known.map(|&(_, found, expected)| (found, expected))
}

/// Writes one document, preceded by comment lines that say what it is.
pub fn to_string<T: Serialize>(comments: &[String], value: &T) -> Result<String> {
    let options = serde_yaml::ser_options! {
        compact_list_indent: false,
        folded_wrap_chars: 100_000,
        min_fold_chars: 100_000,
        prefer_block_scalars: false,
    };
    let mut text = String::new();
    for line in comments {
        text.push_str("# ");
        text.push_str(line);
        text.push('\n');
    }
    serde_yaml::to_fmt_writer_with_options(&mut text, value, options)
        .map_err(|error| Error::Internal(format!("cannot write YAML: {error}")))?;
    Ok(text)
}

/// Writes a list on one line: `[3072, 3072]`. Other formats see a plain list.
pub fn flow_seq<T: Serialize, S: Serializer>(
    value: &T,
    serializer: S,
) -> std::result::Result<S::Ok, S::Error> {
    serde_yaml::FlowSeq(value).serialize(serializer)
}

/// Writes a map on one line: `{rate: 25GB/s, latency: 15us}`. Other formats see a plain map.
pub fn flow_map<T: Serialize, S: Serializer>(
    value: &T,
    serializer: S,
) -> std::result::Result<S::Ok, S::Error> {
    serde_yaml::FlowMap(value).serialize(serializer)
}

/// Writes a list of maps with each map on a line of its own.
pub fn flow_maps<T: Serialize, S: Serializer>(
    values: &[T],
    serializer: S,
) -> std::result::Result<S::Ok, S::Error> {
    serializer.collect_seq(values.iter().map(serde_yaml::FlowMap))
}

/// Writes a list of lists with each inner list on a line of its own.
pub fn flow_seqs<T: Serialize, S: Serializer>(
    values: &[T],
    serializer: S,
) -> std::result::Result<S::Ok, S::Error> {
    serializer.collect_seq(values.iter().map(serde_yaml::FlowSeq))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn problem(text: &str) -> String {
        from_str::<BTreeMap<String, u64>>("x.yaml", text).expect_err(text).to_string()
    }

    #[test]
    fn errors_carry_the_place() {
        assert!(problem("a: 1\nb: x\n").contains("line 2 column 4"), "{}", problem("a: 1\nb: x\n"));
        assert!(problem("a: 1\na: 2\n").contains("line 2"), "{}", problem("a: 1\na: 2\n"));
        assert!(problem("a: 1\n---\nb: 2\n").starts_with("x.yaml: "));
    }

    #[test]
    fn alias_bombs_are_refused_at_the_first_alias() {
        let bomb = "a: &a [x, x]\nb: [*a, *a]\n";
        let error = from_str::<serde_json::Value>("x.yaml", bomb).expect_err("a bomb");
        assert_eq!(error.exit_code(), 3);
    }

    #[test]
    fn deep_nesting_is_refused() {
        let deep = "[".repeat(20_000);
        assert!(from_str::<serde_json::Value>("x.yaml", &deep).is_err());
    }
}
