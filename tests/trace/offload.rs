//! Turns a number of passes into the text of a PyTorch trace of an engine that streams its weights in the shape of a real
//! one: per layer one large copy, a norm, the output projection, a norm, three of the feed-forward's matrices, a norm, all
//! from pinned memory, then the layer's kernels; between passes an input of 784 bytes and the head's weights.

use std::fmt::Write as _;

/// Layers, and the copies of each in bytes.
pub const LAYERS: u64 = 12;
pub const COPIES: [u64; 8] =
    [201_326_592, 8_192, 67_108_864, 16_384, 167_772_160, 167_772_160, 167_772_160, 16_384];

/// The head's weights.
pub const HEAD: u64 = 525_336_576;

/// Kernel time of a layer, in microseconds: two kernels of names that no other layer's have.
pub const KERNELS: [u64; 2] = [700, 390];

/// Copies take so many bytes per microsecond, which is 25 GB/s, and 10 us each before the first byte.
const RATE: u64 = 25_000;
const LATENCY: u64 = 10;

struct Writer {
    text: String,
    clock: u64,
    correlation: u64,
}

impl Writer {
    fn row(&mut self, category: &str, name: &str, length: u64, bytes: Option<u64>) {
        self.correlation += 1;
        let bytes = bytes.map_or(String::new(), |bytes| format!(", \"bytes\": {bytes}"));
        let _ = writeln!(
            self.text,
            "{{\"ph\": \"X\", \"cat\": \"{category}\", \"name\": \"{name}\", \"pid\": 0, \"tid\": 7, \"ts\": {}.000, \"dur\": {length}, \
             \"args\": {{\"device\": 0, \"stream\": 7, \"correlation\": {}{bytes}}}}},",
            self.clock, self.correlation
        );
        self.clock += length + 2;
    }

    fn copy(&mut self, bytes: u64) {
        let length = LATENCY + bytes / RATE;
        self.row("gpu_memcpy", "Memcpy HtoD (Pinned -> Device)", length, Some(bytes));
    }
}

/// The whole text.
pub fn offload(passes: u64) -> String {
    let head = "{\"deviceProperties\": [{\"id\": 0, \"name\": \"NVIDIA H100 80GB HBM3\", \"totalGlobalMem\": 85045018624}],\n\
                \"traceEvents\": [\n";
    let mut out = Writer { text: head.to_owned(), clock: 1_000, correlation: 0 };
    for pass in 0..passes {
        out.copy(784);
        out.row("kernel", "embedding", 20, None);
        for layer in 0..LAYERS {
            COPIES.iter().for_each(|bytes| out.copy(*bytes));
            for (number, length) in KERNELS.into_iter().enumerate() {
                // As a compiler names them: no two alike.
                let name = format!("triton_fused_{number}_{}", pass * LAYERS + layer);
                out.row("kernel", &name, length, None);
            }
        }
        out.copy(HEAD);
        out.row("kernel", "lm_head", 150, None);
    }
    out.text
        + "{\"ph\": \"M\", \"name\": \"process_name\", \"pid\": 0, \"tid\": 0, \"args\": {\"name\": \"GPU 0\"}}\n]}\n"
}
