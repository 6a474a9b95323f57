//! Turns lists of tensors into small checkpoints: what the tests and benchmarks scan.

#![allow(dead_code, reason = "each test program uses a part")]

use std::fmt::Write as _;

/// A tensor to store: name, element type as the format spells it, shape, bytes.
pub type Entry = (String, &'static str, Vec<u64>, u64);

/// A bf16 tensor.
pub fn bf16(name: impl Into<String>, shape: &[u64]) -> Entry {
    (name.into(), "BF16", shape.to_vec(), 2 * shape.iter().product::<u64>())
}

/// The header of a safetensors file with these tensors one after another, and the whole file's size.
pub fn safetensors_header(entries: &[Entry]) -> (Vec<u8>, u64) {
    let mut json = String::from("{\"__metadata__\":{\"format\":\"pt\"}");
    let mut end = 0;
    for (name, dtype, shape, bytes) in entries {
        let start = end;
        end += bytes;
        write!(json, ",{name:?}:{{\"dtype\":{dtype:?},\"shape\":{shape:?},").unwrap();
        write!(json, "\"data_offsets\":[{start},{end}]}}").unwrap();
    }
    json.push('}');
    json.push_str(&" ".repeat(json.len().next_multiple_of(8) - json.len()));
    let header = with_length(&json);
    let size = header.len() as u64 + end;
    (header, size)
}

/// A whole safetensors file, its data zeros.
pub fn safetensors(entries: &[Entry]) -> Vec<u8> {
    let (mut file, size) = safetensors_header(entries);
    file.resize(size as usize, 0);
    file
}

/// JSON after its length.
pub fn with_length(json: &str) -> Vec<u8> {
    let mut header = (json.len() as u64).to_le_bytes().to_vec();
    header.extend(json.as_bytes());
    header
}

/// A shard index.
pub fn index(placed: &[(&str, &str)]) -> String {
    let lines: Vec<String> =
        placed.iter().map(|(tensor, shard)| format!("{tensor:?}:{shard:?}")).collect();
    format!("{{\"metadata\":{{}},\"weight_map\":{{{}}}}}", lines.join(","))
}

/// A GGUF file in the making. Fields are written as they are, so that tests can lie.
#[derive(Clone)]
pub struct Gguf {
    pub magic: [u8; 4],
    pub version: u32,
    pub tensor_count: Option<u64>,
    pub value_count: Option<u64>,
    pub values: Vec<Vec<u8>>,
    pub tensors: Vec<GgufTensor>,
    pub data: u64,
}

/// A tensor of a GGUF file, innermost dimension first.
#[derive(Clone)]
pub struct GgufTensor {
    pub name: String,
    pub shape: Vec<u64>,
    pub kind: u32,
    pub offset: u64,
}

pub const GGUF_F32: u32 = 0;
pub const GGUF_Q4_K: u32 = 12;

impl Gguf {
    /// Two blocks of 256 f32 values after an embedding, sound in every way.
    pub fn sound() -> Self {
        let tensor = |(n, name): (usize, &str)| GgufTensor {
            name: name.to_owned(),
            shape: vec![128, 2],
            kind: GGUF_F32,
            offset: 1024 * n as u64,
        };
        let names = ["token_embd.weight", "blk.0.attn_q.weight", "blk.1.attn_q.weight"];
        Self {
            magic: *b"GGUF",
            version: 3,
            tensor_count: None,
            value_count: None,
            values: vec![
                string_value("general.architecture", "llama"),
                u32_value("llama.block_count", 2),
                array_value("tokenizer.ggml.tokens", 8, 2, &[text("a"), text("b")].concat()),
            ],
            tensors: names.into_iter().enumerate().map(tensor).collect(),
            data: 3072,
        }
    }

    /// The file.
    pub fn bytes(&self) -> Vec<u8> {
        let mut file = self.magic.to_vec();
        file.extend(self.version.to_le_bytes());
        file.extend(self.tensor_count.unwrap_or(self.tensors.len() as u64).to_le_bytes());
        file.extend(self.value_count.unwrap_or(self.values.len() as u64).to_le_bytes());
        file.extend(self.values.concat());
        for GgufTensor { name, shape, kind, offset } in &self.tensors {
            file.extend(text(name));
            file.extend((shape.len() as u32).to_le_bytes());
            file.extend(shape.iter().flat_map(|d| d.to_le_bytes()));
            file.extend(kind.to_le_bytes());
            file.extend(offset.to_le_bytes());
        }
        let data_start = file.len().next_multiple_of(32);
        file.resize(data_start + self.data as usize, 0);
        file
    }
}

/// A length and its bytes.
pub fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat()
}

/// A key, a value type and the value's bytes.
pub fn value(key: &str, kind: u32, bytes: &[u8]) -> Vec<u8> {
    [&text(key)[..], &kind.to_le_bytes(), bytes].concat()
}

pub fn string_value(key: &str, content: &str) -> Vec<u8> {
    value(key, 8, &text(content))
}

pub fn u32_value(key: &str, content: u32) -> Vec<u8> {
    value(key, 4, &content.to_le_bytes())
}

pub fn array_value(key: &str, element: u32, count: u64, bytes: &[u8]) -> Vec<u8> {
    value(key, 9, &[&element.to_le_bytes()[..], &count.to_le_bytes(), bytes].concat())
}
