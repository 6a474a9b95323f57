//! Names the element types that checkpoints store and the bytes that a number of elements takes.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Declares every element type once: name, elements per storage unit, bytes per storage unit.
macro_rules! dtypes {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $elements:literal, $bytes:literal;)*) => {
        /// The element type of a tensor.
        ///
        /// The plain types are those of safetensors. The others are the storage units of GGUF (ggml's
        /// block-quantised types): a unit holds a fixed number of elements in a fixed number of bytes.
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
        )]
        pub enum Dtype {
            $($(#[$doc])* #[serde(rename = $name)] $variant,)*
        }

        impl Dtype {
            /// Every type, in the order of declaration.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The name in manifests.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// Elements per storage unit and bytes per storage unit.
            pub const fn unit(self) -> (u64, u64) {
                match self { $(Self::$variant => ($elements, $bytes),)* }
            }
        }
    };
}

dtypes! {
    /// Truth values, a byte each.
    Bool = "bool", 1, 1;
    /// Unsigned bytes; also how engines store packed 4-bit weights, two to a byte.
    U8 = "u8", 1, 1;
    /// Signed bytes.
    I8 = "i8", 1, 1;
    /// 8-bit float, 4 exponent bits.
    F8E4M3 = "f8_e4m3", 1, 1;
    /// 8-bit float, 5 exponent bits.
    F8E5M2 = "f8_e5m2", 1, 1;
    /// 8-bit power-of-two scale (MX formats).
    F8E8M0 = "f8_e8m0", 1, 1;
    /// 8-bit float, 4 exponent bits, no negative zero.
    F8E4M3Fnuz = "f8_e4m3fnuz", 1, 1;
    /// 8-bit float, 5 exponent bits, no negative zero.
    F8E5M2Fnuz = "f8_e5m2fnuz", 1, 1;
    /// 4-bit float, two to a byte.
    F4 = "f4", 2, 1;
    /// 6-bit float, 2 exponent bits, four in three bytes.
    F6E2M3 = "f6_e2m3", 4, 3;
    /// 6-bit float, 3 exponent bits, four in three bytes.
    F6E3M2 = "f6_e3m2", 4, 3;
    /// 16-bit integers.
    I16 = "i16", 1, 2;
    /// 16-bit unsigned integers.
    U16 = "u16", 1, 2;
    /// IEEE half precision.
    F16 = "f16", 1, 2;
    /// bfloat16.
    Bf16 = "bf16", 1, 2;
    /// 32-bit integers; also eight packed 4-bit weights (GPTQ, AWQ).
    I32 = "i32", 1, 4;
    /// 32-bit unsigned integers.
    U32 = "u32", 1, 4;
    /// Single precision.
    F32 = "f32", 1, 4;
    /// Complex single precision.
    C64 = "c64", 1, 8;
    /// 64-bit integers.
    I64 = "i64", 1, 8;
    /// 64-bit unsigned integers.
    U64 = "u64", 1, 8;
    /// Double precision.
    F64 = "f64", 1, 8;
    /// ggml, 4-bit, one scale per 32.
    Q4_0 = "q4_0", 32, 18;
    /// ggml, 4-bit, scale and minimum per 32.
    Q4_1 = "q4_1", 32, 20;
    /// ggml, 5-bit, one scale per 32.
    Q5_0 = "q5_0", 32, 22;
    /// ggml, 5-bit, scale and minimum per 32.
    Q5_1 = "q5_1", 32, 24;
    /// ggml, 8-bit, one scale per 32.
    Q8_0 = "q8_0", 32, 34;
    /// ggml, 8-bit, scale and sum per 32.
    Q8_1 = "q8_1", 32, 36;
    /// ggml k-quant, 2-bit.
    Q2K = "q2_k", 256, 84;
    /// ggml k-quant, 3-bit.
    Q3K = "q3_k", 256, 110;
    /// ggml k-quant, 4-bit.
    Q4K = "q4_k", 256, 144;
    /// ggml k-quant, 5-bit.
    Q5K = "q5_k", 256, 176;
    /// ggml k-quant, 6-bit.
    Q6K = "q6_k", 256, 210;
    /// ggml k-quant, 8-bit (intermediate results).
    Q8K = "q8_k", 256, 292;
    /// ggml i-quant, 2.06 bits.
    Iq2Xxs = "iq2_xxs", 256, 66;
    /// ggml i-quant, 2.31 bits.
    Iq2Xs = "iq2_xs", 256, 74;
    /// ggml i-quant, 2.5 bits.
    Iq2S = "iq2_s", 256, 82;
    /// ggml i-quant, 3.06 bits.
    Iq3Xxs = "iq3_xxs", 256, 98;
    /// ggml i-quant, 3.44 bits.
    Iq3S = "iq3_s", 256, 110;
    /// ggml i-quant, 1.56 bits.
    Iq1S = "iq1_s", 256, 50;
    /// ggml i-quant, 1.75 bits.
    Iq1M = "iq1_m", 256, 56;
    /// ggml i-quant, 4.5 bits, non-linear, 32 elements.
    Iq4Nl = "iq4_nl", 32, 18;
    /// ggml i-quant, 4.25 bits, non-linear.
    Iq4Xs = "iq4_xs", 256, 136;
    /// ggml ternary, 1.69 bits.
    Tq1_0 = "tq1_0", 256, 54;
    /// ggml ternary, 2.06 bits.
    Tq2_0 = "tq2_0", 256, 66;
    /// ggml microscaling float, 4-bit.
    Mxfp4 = "mxfp4", 32, 17;
    /// ggml, NVIDIA's 4-bit float, one 8-bit scale per 16.
    Nvfp4 = "nvfp4", 64, 36;
    /// ggml, 1-bit, one scale per 128.
    Q1_0 = "q1_0", 128, 18;
    /// ggml, 2-bit, one scale per 64.
    Q2_0 = "q2_0", 64, 18;
}

impl Dtype {
    /// The bytes that `elements` take; `None` when they do not fill whole storage units or the size overflows.
    pub fn bytes_for(self, elements: u64) -> Option<u64> {
        let (per_unit, unit_bytes) = self.unit();
        if !elements.is_multiple_of(per_unit) {
            return None;
        }
        (elements / per_unit).checked_mul(unit_bytes)
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Dtype {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .iter()
            .copied()
            .find(|dtype| dtype.name().eq_ignore_ascii_case(text))
            .ok_or_else(|| format!("unknown element type {text:?}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_follow_the_storage_units() {
        assert_eq!(Dtype::Bf16.bytes_for(3072 * 3072), Some(18_874_368));
        assert_eq!(Dtype::Q4K.bytes_for(256), Some(144));
        assert_eq!(Dtype::Q4K.bytes_for(255), None);
        assert_eq!(Dtype::F4.bytes_for(10), Some(5));
        assert_eq!(Dtype::F64.bytes_for(u64::MAX), None);
    }

    #[test]
    fn names_read_back() {
        for &dtype in Dtype::ALL {
            assert_eq!(dtype.name().parse(), Ok(dtype));
        }
    }
}
