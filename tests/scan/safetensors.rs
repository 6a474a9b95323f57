//! Safetensors headers: sound ones read back, hostile ones are refused with place, found and expected.

use std::cell::Cell;
use std::io::Read;
use std::rc::Rc;

use expect_test::{Expect, expect};
use proptest::prelude::*;
use vramplan::model::Dtype;
use vramplan::scan::{MAX_HEADER, Opened, read_safetensors_header};

use super::common::{bf16, safetensors, with_length};
use super::{message, opened};

/// The error for a file of this JSON and so many bytes of data.
fn refused(json: &str, data: usize, expected: Expect) {
    let mut file = with_length(json);
    file.resize(file.len() + data, 0);
    expected.assert_eq(&message(read_safetensors_header("f", opened(file))));
}

fn tensor(dtype: &str, shape: &str, offsets: &str) -> String {
    format!(r#"{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}"#)
}

#[test]
fn every_dtype_of_the_format_is_read_at_its_size() {
    let sizes = [
        ("BOOL", 1, 1),
        ("U8", 1, 1),
        ("I8", 1, 1),
        ("F8_E5M2", 1, 1),
        ("F8_E4M3", 1, 1),
        ("F8_E8M0", 1, 1),
        ("F8_E4M3FNUZ", 1, 1),
        ("F8_E5M2FNUZ", 1, 1),
        ("F4", 2, 1),
        ("F6_E2M3", 4, 3),
        ("F6_E3M2", 4, 3),
        ("I16", 1, 2),
        ("U16", 1, 2),
        ("F16", 1, 2),
        ("BF16", 1, 2),
        ("I32", 1, 4),
        ("U32", 1, 4),
        ("F32", 1, 4),
        ("C64", 1, 8),
        ("F64", 1, 8),
        ("I64", 1, 8),
        ("U64", 1, 8),
    ];
    for (name, elements, bytes) in sizes {
        let file = safetensors(&[("t".into(), name, vec![3, elements], 3 * bytes)]);
        let read = read_safetensors_header("f", opened(file)).unwrap();
        assert_eq!(read[0].spec.bytes().unwrap().get(), 3 * bytes, "{name}");
        assert_eq!(read[0].spec.dtype().name(), name.to_lowercase());
        let wrong = safetensors(&[("t".into(), name, vec![3, elements], 3 * bytes + 1)]);
        assert!(read_safetensors_header("f", opened(wrong)).is_err(), "{name}");
    }
}

#[test]
fn scalars_and_empty_tensors_are_tensors() {
    let file = safetensors(&[bf16("s", &[]), bf16("e", &[0, 7]), bf16("f", &[0])]);
    let read = read_safetensors_header("f", opened(file)).unwrap();
    let bytes: Vec<u64> = read.iter().map(|t| t.spec.bytes().unwrap().get()).collect();
    assert_eq!(bytes, [2, 0, 0]);
}

#[test]
fn lengths_that_cannot_be_are_refused_before_anything_is_read() {
    let length = |length: u64, size: u64| {
        let read = Rc::new(Cell::new(0));
        let reader = Box::new(Endless { start: length.to_le_bytes(), read: Rc::clone(&read) });
        let text = message(read_safetensors_header("f", Opened { reader, size }));
        assert!(read.get() <= 8, "{} bytes were read", read.get());
        text
    };
    expect!["f: header byte 0: found a header length of 9223372036854775808 bytes, expected at most 100000000"]
        .assert_eq(&length(1 << 63, 1 << 40));
    expect![
        "f: header byte 0: found a header length of 100000001 bytes, expected at most 100000000"
    ]
    .assert_eq(&length(MAX_HEADER + 1, 1 << 40));
    expect!["f: header byte 0: found a header length of 20 bytes, expected at most 12, the rest of the file"]
        .assert_eq(&length(20, 20));
    expect!["f: header byte 7: found the end of the file after 7 bytes, expected at least 8 bytes"]
        .assert_eq(&length(0, 7));
}

/// A reader that never ends and counts what was taken.
struct Endless {
    start: [u8; 8],
    read: Rc<Cell<usize>>,
}

impl Read for Endless {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        for slot in &mut *buffer {
            *slot = self.start.get(self.read.get()).copied().unwrap_or(b' ');
            self.read.set(self.read.get() + 1);
        }
        Ok(buffer.len())
    }
}

#[test]
fn json_that_is_none_is_refused() {
    refused(
        "",
        0,
        expect!["f: header byte 8: found no byte, expected '{', the start of the header's JSON"],
    );
    refused(
        "[]",
        0,
        expect!["f: header byte 8: found byte 0x5b, expected '{', the start of the header's JSON"],
    );
    refused(
        "{\"a\":",
        0,
        expect![
            "f: header byte 12: found EOF while parsing a value, expected valid JSON of this format"
        ],
    );
    refused(
        "{} {}",
        0,
        expect!["f: header byte 11: found trailing characters, expected valid JSON of this format"],
    );
    refused(
        r#"{"a":7}"#,
        0,
        expect![
            "f: header byte 13: found invalid type: integer `7`, expected an object with dtype, shape and data_offsets"
        ],
    );
    let mut file = with_length("{\"\u{20}\":1}");
    file[10] = 0xff;
    expect!["f: header byte 10: found no UTF-8, expected text in UTF-8"]
        .assert_eq(&message(read_safetensors_header("f", opened(file))));
}

#[test]
fn a_name_that_stands_twice_is_refused() {
    let one = tensor("U8", "[1]", "[0,1]");
    refused(
        &format!(r#"{{"a":{one},"a":{one}}}"#),
        1,
        expect![[r#"f: header byte 63: found key "a" a second time, expected every key once"#]],
    );
    refused(
        r#"{"__metadata__":{"k":"v","k":"w"}}"#,
        0,
        expect![[r#"f: header byte 35: found key "k" a second time, expected every key once"#]],
    );
}

#[test]
fn tensors_that_contradict_themselves_are_refused_all_at_once() {
    let entries = [
        ("dtype", tensor("BF17", "[1]", "[0,2]")),
        ("size", tensor("BF16", "[2,2]", "[2,9]")),
        ("backwards", tensor("U8", "[1]", "[9,8]")),
        ("outside", tensor("U8", "[9]", "[9,18]")),
        ("overflow", tensor("U8", "[4294967296,4294967296,2]", "[0,0]")),
        ("odd", tensor("F4", "[3]", "[0,2]")),
    ];
    let json: Vec<String> =
        entries.iter().map(|(name, entry)| format!("{name:?}:{entry}")).collect();
    refused(
        &format!("{{{}}}", json.join(",")),
        12,
        expect![[r#"
        f: 6 problems
          tensor "dtype": found dtype "BF17", expected one of BOOL, U8, I8, F8_E5M2, F8_E4M3, F8_E8M0, F8_E4M3FNUZ, F8_E5M2FNUZ, F4, F6_E2M3, F6_E3M2, I16, U16, F16, BF16, I32, U32, F32, C64, F64, I64, U64
          tensor "size": found 7 bytes at data_offsets [2, 9], expected 8 bytes for BF16 [2, 2]
          tensor "backwards": found data_offsets [9, 8], expected offsets that run forward and end within the 12 bytes of data
          tensor "outside": found data_offsets [9, 18], expected offsets that run forward and end within the 12 bytes of data
          tensor "overflow": found U8 [4294967296, 4294967296, 2], expected a shape of whole bytes whose size fits 64 bits
          tensor "odd": found F4 [3], expected a shape of whole bytes whose size fits 64 bits"#]],
    );
}

#[test]
fn layouts_that_cannot_be_are_refused() {
    let two = |a: &str, b: &str| {
        format!(r#"{{"a":{},"b":{}}}"#, tensor("U8", "[4]", a), tensor("U8", "[4]", b))
    };
    refused(
        &two("[0,4]", "[2,6]"),
        6,
        expect![[
            r#"f: tensor "b": found data_offsets [2, 6], expected no overlap with tensor "a", which ends at 4"#
        ]],
    );
    refused(
        &two("[0,4]", "[5,9]"),
        9,
        expect![[
            r#"f: tensor "b": found data_offsets [5, 9], expected a start at 4, without a hole"#
        ]],
    );
    refused(
        &two("[0,4]", "[4,8]"),
        9,
        expect!["f: file size: found 9 bytes of data, expected 8, the end of the last tensor"],
    );
    let inside =
        format!(r#"{{"a":{},"b":{}}}"#, tensor("U8", "[8]", "[0,8]"), tensor("U8", "[2]", "[2,4]"));
    refused(
        &inside,
        8,
        expect![[
            r#"f: tensor "b": found data_offsets [2, 4], expected no overlap with tensor "a", which ends at 8"#
        ]],
    );
}

#[test]
fn the_same_bytes_under_two_names_are_a_tie_and_no_overlap() {
    let json = format!(
        r#"{{"a":{0},"b":{0},"c":{1}}}"#,
        tensor("U8", "[4]", "[0,4]"),
        tensor("U8", "[1]", "[4,5]")
    );
    let mut file = with_length(&json);
    file.resize(file.len() + 5, 0);
    assert_eq!(read_safetensors_header("f", opened(file)).unwrap().len(), 3);
}

#[test]
fn names_and_shapes_have_limits() {
    refused(
        &format!(r#"{{"":{}}}"#, tensor("U8", "[1]", "[0,1]")),
        1,
        expect![[r#"f: tensor "": found a name of 0 bytes, expected 1 to 1024 bytes"#]],
    );
    let long = "x".repeat(1025);
    let file = [with_length(&format!(r#"{{"{long}":{}}}"#, tensor("U8", "[1]", "[0,1]"))), vec![0]]
        .concat();
    assert!(
        message(read_safetensors_header("f", opened(file)))
            .ends_with("found a name of 1025 bytes, expected 1 to 1024 bytes")
    );
    let deep = format!("[{}1]", "1,".repeat(64));
    let file =
        [with_length(&format!(r#"{{"a":{}}}"#, tensor("U8", &deep, "[0,1]"))), vec![0]].concat();
    assert!(
        message(read_safetensors_header("f", opened(file)))
            .ends_with("found more dimensions, expected at most 64")
    );
}

proptest! {
    #[test]
    fn what_is_written_reads_back(
        tensors in prop::collection::btree_map("[a-z0-9._\"\\\\é]{1,12}", prop::collection::vec(0u64..5, 0..4), 0..12)
    ) {
        let entries: Vec<_> = tensors.iter().map(|(name, shape)| bf16(name.clone(), shape)).collect();
        let read = read_safetensors_header("f", opened(safetensors(&entries))).unwrap();
        prop_assert_eq!(read.len(), entries.len());
        for (tensor, (name, _, shape, bytes)) in read.iter().zip(&entries) {
            prop_assert_eq!(tensor.spec.name(), name);
            prop_assert_eq!(tensor.spec.shape(), shape);
            prop_assert_eq!(tensor.spec.dtype(), Dtype::Bf16);
            prop_assert_eq!(tensor.range.end - tensor.range.start, *bytes);
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), length in 0u64..64) {
        let _ = read_safetensors_header("f", opened(bytes.clone()));
        let _ = read_safetensors_header("f", opened([&length.to_le_bytes()[..], &bytes].concat()));
    }

    #[test]
    fn a_corrupted_file_is_refused_or_still_consistent(
        at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<prop::sample::Index>()
    ) {
        let sound = safetensors(&[bf16("a.0.b.w", &[2, 3]), bf16("a.1.b.w", &[2, 3]), bf16("c", &[4])]);
        let mut flipped = sound.clone();
        let at = at.index(flipped.len());
        flipped[at] = byte;
        let data = 2 * (6 + 6 + 4);
        if let Ok(tensors) = read_safetensors_header("f", opened(flipped)) {
            let ends: Vec<u64> = tensors.iter().map(|t| t.range.end).collect();
            prop_assert_eq!(ends.iter().max(), Some(&data));
            prop_assert!(tensors.iter().all(|t| t.spec.bytes().unwrap().get() == t.range.end - t.range.start));
        }
        let cut = cut.index(sound.len());
        prop_assert!(read_safetensors_header("f", opened(sound[..cut].to_vec())).is_err());
    }
}
