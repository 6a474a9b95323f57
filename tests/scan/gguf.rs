//! GGUF headers: sound ones read back, hostile ones are refused with place, found and expected.

use expect_test::{Expect, expect};
use proptest::prelude::*;
use vramplan::model::Dtype;
use vramplan::scan::{Opened, read_gguf_header};

use super::common::{
    GGUF_Q4_K, Gguf, GgufTensor, array_value, string_value, text, u32_value, value,
};
use super::{message, opened};

fn refused(change: impl FnOnce(&mut Gguf), expected: Expect) {
    let mut file = Gguf::sound();
    change(&mut file);
    expected.assert_eq(&message(read_gguf_header("f", opened(file.bytes()))));
}

#[test]
fn versions_2_and_3_are_read_outermost_dimension_first() {
    for version in [2, 3] {
        let mut file = Gguf { version, ..Gguf::sound() };
        file.tensors.push(GgufTensor {
            name: "output.weight".into(),
            shape: vec![512, 3],
            kind: GGUF_Q4_K,
            offset: 3072,
        });
        file.data += 864;
        let read = read_gguf_header("f", opened(file.bytes())).unwrap();
        assert_eq!(read.architecture, "llama");
        let last = &read.tensors[3];
        assert_eq!((last.spec.dtype(), last.spec.shape()), (Dtype::Q4K, &[3, 512][..]));
        assert_eq!(last.range, 3072..3936);
    }
}

#[test]
fn every_type_in_use_has_its_number() {
    let known: Vec<u32> = (0..=50)
        .filter(|&kind| {
            let mut file = Gguf::sound();
            file.tensors.truncate(1);
            file.tensors[0] = GgufTensor { shape: vec![256], kind, ..file.tensors[0].clone() };
            read_gguf_header("f", opened(file.bytes())).is_ok()
        })
        .collect();
    let gaps = [4, 5, 31, 32, 33, 36, 37, 38];
    assert_eq!(known, (0..=42).filter(|kind| !gaps.contains(kind)).collect::<Vec<_>>());
}

#[test]
fn other_files_and_versions_are_refused() {
    refused(
        |f| f.magic = *b"GGML",
        expect![[r#"f: header byte 0: found magic "GGML", expected "GGUF""#]],
    );
    refused(
        |f| f.version = 1,
        expect![
            "f: header byte 4: found version 1, expected version 2 or 3; version 1 is from 2023, convert it"
        ],
    );
    refused(
        |f| f.version = 4,
        expect!["f: header byte 4: found version 4, expected version 2 or 3"],
    );
    refused(
        |f| f.version = 3u32.swap_bytes(),
        expect![
            "f: header byte 4: found version 3 in big-endian order, expected a little-endian file"
        ],
    );
}

#[test]
fn absurd_counts_are_refused_before_anything_is_allocated() {
    refused(
        |f| f.tensor_count = Some(1 << 63),
        expect![
            "f: header byte 8: found the number of tensors 9223372036854775808, expected at most 142, which fill the rest"
        ],
    );
    refused(
        |f| f.value_count = Some(u64::MAX),
        expect![
            "f: header byte 16: found the number of values 18446744073709551615, expected at most 261, which fill the rest"
        ],
    );
    refused(
        |f| f.values[2] = array_value("a", 8, 1 << 61, &[]),
        expect![
            "f: header byte 119: found an array length of 2305843009213693952, expected at most 408, which fill the rest"
        ],
    );
    refused(
        |f| f.values[2] = array_value("a", 11, 1 << 61, &[]),
        expect![
            "f: header byte 119: found an array length of 2305843009213693952, expected at most 408, which fill the rest"
        ],
    );
    let header =
        [&b"GGUF"[..], &3u32.to_le_bytes(), &2_000_000u64.to_le_bytes(), &0u64.to_le_bytes()];
    let reader = Box::new(std::io::Cursor::new(header.concat()));
    expect!["f: header byte 8: found 2000000 tensors, expected at most 1000000"]
        .assert_eq(&message(read_gguf_header("f", Opened { reader, size: 1 << 40 })));
}

#[test]
fn values_that_cannot_be_are_refused() {
    let long = [&(1u64 << 62).to_le_bytes()[..], b"x"].concat();
    refused(
        |f| f.values[1] = long,
        expect![
            "f: header byte 77: found a string of 4611686018427387904 bytes, expected at most 3315, the rest of the file"
        ],
    );
    refused(
        |f| f.values[1] = value("k", 13, &[0; 8]),
        expect!["f: header byte 78: found value type 13, expected one of 0 to 12"],
    );
    refused(
        |f| f.values[1] = array_value("k", 9, 1, &[0; 8]),
        expect![
            "f: header byte 82: found an array of arrays, expected an array of numbers or strings"
        ],
    );
    refused(
        |f| f.values[1] = array_value("k", 77, 1, &[0; 8]),
        expect!["f: header byte 82: found value type 77, expected one of 0 to 12"],
    );
    refused(
        |f| f.values[1] = f.values[0].clone(),
        expect![[
            r#"f: header byte 69: found key "general.architecture" a second time, expected every key once"#
        ]],
    );
    let no_text = [&1u64.to_le_bytes()[..], &[0xff], &4u32.to_le_bytes(), &[0; 4]].concat();
    refused(
        |f| f.values[1] = no_text,
        expect!["f: header byte 77: found no UTF-8, expected a key or name in UTF-8"],
    );
    refused(
        |f| f.values[0] = u32_value("general.architecture", 7),
        expect![
            "f: header byte 52: found value type 4 for general.architecture, expected the type that the format gives it"
        ],
    );
    refused(
        |f| f.values[0] = string_value("general.name", "x"),
        expect!["f: header: found no general.architecture, expected that key with a string"],
    );
    for alignment in [0, 24] {
        let mut file = Gguf::sound();
        file.values[1] = u32_value("general.alignment", alignment);
        let text = message(read_gguf_header("f", opened(file.bytes())));
        assert!(
            text.ends_with(&format!("found alignment {alignment}, expected a power of two")),
            "{text}"
        );
    }
}

#[test]
fn tensors_that_contradict_themselves_are_refused() {
    refused(
        |f| f.tensors[1].shape = vec![1; 5],
        expect![[
            r#"f: header byte 249: found 5 dimensions of tensor "blk.0.attn_q.weight", expected at most 4"#
        ]],
    );
    refused(
        |f| f.tensors[1].name = f.tensors[0].name.clone(),
        expect![[
            r#"f: header byte 222: found tensor "token_embd.weight" a second time, expected every name once"#
        ]],
    );
    refused(
        |f| f.tensors[1].kind = 31,
        expect![[
            r#"f: tensor "blk.0.attn_q.weight": found tensor type 31, expected a type of ggml that is in use"#
        ]],
    );
    refused(
        |f| f.tensors[1].kind = GGUF_Q4_K,
        expect![[
            r#"f: tensor "blk.0.attn_q.weight": found rows of 128 elements, expected rows of whole q4_k units of 256 elements"#
        ]],
    );
    refused(
        |f| f.tensors[1].shape = vec![1 << 40, 1 << 40],
        expect![[
            r#"f: tensor "blk.0.attn_q.weight": found f32 [1099511627776, 1099511627776], expected a shape whose size fits 64 bits"#
        ]],
    );
    refused(
        |f| f.tensors[1].offset = 1025,
        expect![[
            r#"f: tensor "blk.0.attn_q.weight": found offset 1025, expected a multiple of 32"#
        ]],
    );
    refused(
        |f| f.tensors[1].offset = 992,
        expect![[r#"
            f: 2 problems
              tensor "blk.0.attn_q.weight": found offset 992, expected no overlap with tensor "token_embd.weight", which ends at 1024
              tensor "blk.1.attn_q.weight": found offset 2048, expected 2016, without a hole"#]],
    );
    refused(
        |f| f.tensors[1].offset = 0,
        expect![[r#"
            f: 2 problems
              tensor "token_embd.weight": found offset 0, expected no overlap with tensor "blk.0.attn_q.weight", which ends at 1024
              tensor "blk.1.attn_q.weight": found offset 2048, expected 1024, without a hole"#]],
    );
    refused(
        |f| f.tensors[2].offset = 4096,
        expect![[
            r#"f: tensor "blk.1.attn_q.weight": found 1024 bytes at offset 4096, expected an end within the 3072 bytes of data"#
        ]],
    );
    refused(
        |f| f.tensors[2].offset = u64::MAX - 31,
        expect![[
            r#"f: tensor "blk.1.attn_q.weight": found 1024 bytes at offset 18446744073709551584, expected an end within the 3072 bytes of data"#
        ]],
    );
}

#[test]
fn alignment_of_the_file_counts() {
    let mut file = Gguf::sound();
    file.values[1] = u32_value("general.alignment", 2048);
    assert!(
        message(read_gguf_header("f", opened(file.bytes())))
            .contains("expected a multiple of 2048")
    );
}

#[test]
fn a_header_that_ends_early_is_refused_wherever_it_ends() {
    let sound = Gguf::sound().bytes();
    for cut in 0..sound.len() - 1 {
        assert!(read_gguf_header("f", opened(sound[..cut].to_vec())).is_err(), "cut at {cut}");
    }
    // The file shrank after its size was asked.
    let reader = Box::new(std::io::Cursor::new(sound[..100].to_vec()));
    let shrunk = Opened { reader, size: sound.len() as u64 };
    assert!(message(read_gguf_header("f", shrunk)).contains("found the end of the file"));
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = read_gguf_header("f", opened(bytes.clone()));
        let start = [&b"GGUF"[..], &3u32.to_le_bytes(), &2u64.to_le_bytes(), &2u64.to_le_bytes()];
        let _ = read_gguf_header("f", opened([&start.concat()[..], &bytes].concat()));
    }

    #[test]
    fn a_corrupted_file_is_refused_or_still_consistent(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut file = Gguf::sound().bytes();
        let at = at.index(file.len() - 3072);
        file[at] = byte;
        if let Ok(read) = read_gguf_header("f", opened(file)) {
            for tensor in &read.tensors {
                prop_assert_eq!(tensor.spec.bytes().unwrap().get(), tensor.range.end - tensor.range.start);
                prop_assert!(tensor.range.end <= 3072);
            }
            let total: u64 = read.tensors.iter().map(|t| t.range.end - t.range.start).sum();
            prop_assert!(total <= 3072);
        }
    }

    #[test]
    fn what_is_written_reads_back(names in prop::collection::btree_set("[a-z0-9._é]{1,12}", 0..9), key in "[a-z]{1,9}") {
        let mut file = Gguf::sound();
        let tensor = |(n, name): (usize, &String)| GgufTensor {
            name: name.clone(), shape: vec![n as u64, 3], kind: 0, offset: 0,
        };
        file.tensors = names.iter().enumerate().map(tensor).collect();
        let mut end: u64 = 0;
        for tensor in &mut file.tensors {
            tensor.offset = end.next_multiple_of(32);
            end = tensor.offset + 4 * tensor.shape.iter().product::<u64>();
        }
        file.data = end;
        file.values.push(value(&key, 8, &text("v")));
        let read = read_gguf_header("f", opened(file.bytes())).unwrap();
        prop_assert_eq!(read.tensors.len(), names.len());
        for (tensor, name) in read.tensors.iter().zip(&names) {
            prop_assert_eq!(tensor.spec.name(), name);
        }
    }
}
