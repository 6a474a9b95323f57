//! Turns a number of steps into the text of a PyTorch trace, in the proportions of real ones: some nine events of the
//! host for every row of the GPU, one copy for eight kernels, half of it under a kernel.

use std::fmt::Write as _;
use std::io::Read;

/// A trace that is written while it is read, so that its text is never in memory.
pub struct Generated {
    steps: u64,
    step: u64,
    text: String,
    used: usize,
}

/// GPU rows of one step: eight kernels and a copy.
pub const ROWS_PER_STEP: u64 = 9;

/// Time of one step in microseconds.
const STEP: u64 = 1_000;

impl Generated {
    /// A trace of so many steps.
    pub fn new(steps: u64) -> Self {
        let head = "{\"schemaVersion\": 1, \"deviceProperties\": [{\"id\": 0, \"name\": \"A generated GPU\", \
             \"totalGlobalMem\": 25757220864}],\n\"distributedInfo\": {\"rank\": 0},\n\"traceEvents\": [\n";
        Self { steps, step: 0, text: head.to_owned(), used: 0 }
    }

    fn refill(&mut self) {
        self.text.clear();
        self.used = 0;
        if self.step > self.steps {
            return;
        }
        if self.step == self.steps {
            self.text.push_str("{\"ph\": \"M\", \"name\": \"process_name\", \"pid\": 7, \"tid\": 0, \"ts\": 0, \"args\": {\"name\": \"python\"}}\n]}\n");
        } else {
            step(&mut self.text, self.step);
        }
        self.step += 1;
    }
}

impl Read for Generated {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.used == self.text.len() {
            self.refill();
        }
        let rest = &self.text.as_bytes()[self.used..];
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        self.used += count;
        Ok(count)
    }
}

/// One step: kernel k runs from 100·k to 100·k + 90 us, the copy from 740 to 840, half of it under the last kernel.
fn step(out: &mut String, step: u64) {
    let base = 1_365_627_862_757_000 + step * STEP;
    for one in 0..ROWS_PER_STEP {
        let correlation = step * ROWS_PER_STEP + one + 1;
        let at = base + 100 * one;
        for op in 0..6 {
            let _ = write!(
                out,
                "{{\n    \"ph\": \"X\", \"cat\": \"cpu_op\", \"name\": \"aten::addmm\", \"pid\": 6583, \"tid\": 6583,\n    \
                 \"ts\": {}.{:03}, \"dur\": 57.843,\n    \"args\": {{\n      \"External id\": {correlation},\"Record function id\": 0, \
                 \"Concrete Inputs\": [\"\", \"0\", \"{op}\"], \"Input type\": [\"float\", \"Scalar\"], \
                 \"Input Dims\": [[512, 3072], [], []], \"Ev Idx\": {correlation}\n    }}\n  }},\n",
                at - 60 + op,
                op * 7
            );
        }
        let call = if one == 8 { "cudaMemcpyAsync" } else { "cudaLaunchKernel" };
        let _ = write!(
            out,
            "{{\n    \"ph\": \"X\", \"cat\": \"cuda_runtime\", \"name\": \"{call}\", \"pid\": 6583, \"tid\": 6583,\n    \"ts\": {}.250, \
             \"dur\": 6.125,\n    \"args\": {{\n      \"External id\": {correlation}, \"cbid\": 211, \"correlation\": {correlation}\n    }}\n  }},\n  \
             {{\n    \"ph\": \"s\", \"id\": {correlation}, \"pid\": 6583, \"tid\": 6583, \"ts\": {}.250,\n    \"cat\": \"ac2g\", \"name\": \"ac2g\"\n  }},\n",
            at - 40,
            at - 40
        );
        if one == 8 {
            let _ = write!(
                out,
                "{{\n    \"ph\": \"X\", \"cat\": \"gpu_memcpy\", \"name\": \"Memcpy HtoD (Pinned -> Device)\", \"pid\": 0, \"tid\": 20,\n    \
                 \"ts\": {}.000, \"dur\": 100.000,\n    \"args\": {{\n      \"External id\": {correlation}, \"device\": 0, \"context\": 1, \"stream\": 20, \
                 \"correlation\": {correlation}, \"bytes\": 2500000, \"memory bandwidth (GB/s)\": 25.0\n    }}\n  }},\n",
                base + 740
            );
        } else {
            let _ = write!(
                out,
                "{{\n    \"ph\": \"X\", \"cat\": \"kernel\", \"name\": \"void cutlass::Kernel<cutlass_80_tensorop_bf16_s16816gemm_relu_bf16_128x{one}>(Params)\", \
                 \"pid\": 0, \"tid\": 7,\n    \"ts\": {at}.000, \"dur\": 90.000,\n    \"args\": {{\n      \"External id\": {correlation}, \"queued\": 0, \"device\": 0, \
                 \"context\": 1, \"stream\": 7, \"correlation\": {correlation}, \"registers per thread\": 90, \"shared memory\": 49152, \
                 \"blocks per SM\": 0.5925926, \"warps per SM\": 2.37, \"grid\": [64, 1, 1], \"block\": [128, 1, 1], \
                 \"est. achieved occupancy %\": 4\n    }}\n  }},\n"
            );
        }
    }
}
