//! Turns a [`Profile`] into JSON, plain or compressed, and such bytes back into a checked profile.
//!
//! Reading is strict: unknown fields are refused, and everything that cannot be right is reported at once (see
//! `check`). Compressed input is recognised by its first two bytes, not by its name, is never inflated beyond
//! [`MAX_PROFILE`], and ends where its first member ends: what follows would be data that no report shows. Writing is
//! deterministic: no clock goes into the gzip header.

use std::io::{BufRead, BufReader, Read, Write};

use flate2::bufread::GzDecoder;
use flate2::{Compression, GzBuilder};

use super::{Profile, check};
use crate::error::{Error, Problem, Result};

/// The largest profile that is read, in bytes of JSON: more than a million spans.
pub const MAX_PROFILE: u64 = 256 << 20;

const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// Reads and checks a profile, plain or gzip. `file` is only for messages.
pub fn read(file: &str, reader: impl Read) -> Result<Profile> {
    read_limited(file, reader, MAX_PROFILE)
}

fn read_limited(file: &str, reader: impl Read, limit: u64) -> Result<Profile> {
    let failed = |source| Error::Read { file: file.to_owned(), source };
    let mut buffered = BufReader::new(reader);
    let compressed = buffered.fill_buf().map_err(failed)?.starts_with(&GZIP_MAGIC);
    // One byte more than allowed tells "too large" from "just fits".
    let json = if compressed {
        inflate(file, buffered, limit + 1)?
    } else {
        let mut json = Vec::new();
        buffered.take(limit + 1).read_to_end(&mut json).map_err(failed)?;
        json
    };
    if json.len() as u64 > limit {
        let expected = format!("at most {limit} bytes of JSON");
        return Err(Error::input(file, Problem::new("size", "more", expected)));
    }
    let profile = parse(file, &json)?;
    match check::problems(&profile) {
        problems if problems.is_empty() => Ok(profile),
        problems => Err(Error::Input { file: file.to_owned(), problems }),
    }
}

/// The first `limit` bytes of one gzip member. What follows a member that ends within them is refused.
fn inflate(file: &str, compressed: impl BufRead, limit: u64) -> Result<Vec<u8>> {
    let whole = "a whole gzip file of one member, and nothing after it";
    let broken = |source: std::io::Error| {
        Error::input(file, Problem::new("gzip", source.to_string(), whole))
    };
    let mut json = Vec::new();
    let mut decoder = GzDecoder::new(compressed);
    decoder.by_ref().take(limit).read_to_end(&mut json).map_err(broken)?;
    if (json.len() as u64) < limit {
        let after = decoder.into_inner().fill_buf().map_err(broken)?.len();
        if after > 0 {
            return Err(Error::input(file, Problem::new("gzip", "more data after its end", whole)));
        }
    }
    Ok(json)
}

fn parse(file: &str, json: &[u8]) -> Result<Profile> {
    serde_json::from_slice(json).map_err(|error| {
        let place = format!("line {} column {}", error.line(), error.column());
        let message = error.to_string();
        let found = message.split(" at line ").next().unwrap_or(&message);
        Error::input(file, Problem::new(place, found, "a profile (`vramplan schema profile`)"))
    })
}

/// The profile as JSON: the header on one line, then one span and one sample per line.
pub fn write(profile: &Profile) -> Result<Vec<u8>> {
    let Profile { format, header, spans, vram } = profile;
    let mut out = Vec::new();
    out.extend_from_slice(b"{\"format\":");
    json(&mut out, format)?;
    out.extend_from_slice(b",\n\"header\":");
    json(&mut out, header)?;
    out.extend_from_slice(b",\n\"spans\":[");
    lines(&mut out, spans)?;
    out.extend_from_slice(b"],\n\"vram\":[");
    lines(&mut out, vram)?;
    out.extend_from_slice(b"]}\n");
    Ok(out)
}

fn lines<T: serde::Serialize>(out: &mut Vec<u8>, values: &[T]) -> Result<()> {
    for (index, value) in values.iter().enumerate() {
        out.extend_from_slice(if index == 0 { b"\n" } else { b",\n" });
        json(out, value)?;
    }
    Ok(())
}

fn json<T: serde::Serialize>(out: &mut Vec<u8>, value: &T) -> Result<()> {
    serde_json::to_writer(out, value)
        .map_err(|error| Error::Internal(format!("cannot write JSON: {error}")))
}

/// [`write()`], compressed; the same profile gives the same bytes.
pub fn write_gz(profile: &Profile) -> Result<Vec<u8>> {
    gzip(&write(profile)?)
}

/// Compresses without name and time, so that equal input gives equal bytes.
pub(crate) fn gzip(bytes: &[u8]) -> Result<Vec<u8>> {
    let failed = |error| Error::Internal(format!("cannot compress: {error}"));
    let mut encoder = GzBuilder::new().mtime(0).write(Vec::new(), Compression::default());
    encoder.write_all(bytes).map_err(failed)?;
    encoder.finish().map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::fixture;
    use proptest::prelude::*;

    fn refusal(bytes: &[u8]) -> String {
        let error = read("run.json", bytes).expect_err("a refusal");
        assert_eq!(error.exit_code(), 3, "{error}");
        error.to_string()
    }

    #[test]
    fn the_file_of_the_small_run() {
        let json = write(&fixture::small()).expect("json");
        expect_test::expect_file!["../../tests/golden/profile/small.json"]
            .assert_eq(&String::from_utf8(json).expect("text"));
    }

    #[test]
    fn what_is_no_profile_is_refused_with_its_place() {
        let json = String::from_utf8(write(&fixture::small()).expect("json")).expect("text");
        assert!(refusal(b"").contains("line 1 column 0"), "{}", refusal(b""));
        let extra = json.replace("\"seed\":7", "\"seed\":7,\"colour\":1");
        assert!(refusal(extra.as_bytes()).contains("unknown field `colour`"));
        let cut = &json[..json.len() / 2];
        assert!(refusal(cut.as_bytes()).contains("EOF"));
        let other = json.replace("profile/1", "plan/1");
        assert!(refusal(other.as_bytes()).contains("format: found \"vramplan/plan/1\""));
    }

    #[test]
    fn damaged_and_inflating_gzip_is_refused_within_the_limit() {
        let whole = write_gz(&fixture::small()).expect("gzip");
        assert!(refusal(&whole[..whole.len() / 2]).contains("gzip"));
        let bomb = gzip(&vec![b' '; 4 << 20]).expect("gzip");
        assert!(bomb.len() < 8 << 10);
        let error = read_limited("bomb.json.gz", bomb.as_slice(), 1 << 20).expect_err("too large");
        assert!(error.to_string().contains("at most 1048576 bytes"), "{error}");
    }

    #[test]
    fn what_follows_a_profile_is_refused() {
        let plain = write(&fixture::small()).expect("json");
        let packed = write_gz(&fixture::small()).expect("gzip");
        let twice = |bytes: &[u8]| [bytes, bytes].concat();
        assert!(refusal(&twice(&packed)).contains("gzip: found more data after its end"));
        assert!(refusal(&[packed.as_slice(), b"x"].concat()).contains("after its end"));
        assert!(refusal(&twice(&plain)).contains("trailing characters"));
        assert!(refusal(&gzip(&twice(&plain)).expect("gzip")).contains("trailing characters"));
    }

    #[test]
    fn deep_nesting_is_refused() {
        let deep = format!("{{\"format\":{}", "[".repeat(200_000));
        assert!(refusal(deep.as_bytes()).contains("line 1"));
    }

    proptest! {
        #[test]
        fn profiles_survive_their_file(profile in fixture::any()) {
            for bytes in [write(&profile), write_gz(&profile)] {
                let bytes = bytes.expect("bytes");
                prop_assert_eq!(read("run.json", bytes.as_slice()).expect("the same"), profile.clone());
            }
        }

        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            let _ = read("x", bytes.as_slice());
        }
    }
}
