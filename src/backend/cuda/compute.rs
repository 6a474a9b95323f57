//! Turns one use of a block into work on the device.

use super::executor::Prepared;
use super::gemm::Gemm;
use super::steps::offset;
use super::stream::Stream;
use crate::error::Result;
use crate::units::Nanos;

/// One use of a block.
#[derive(Clone, Copy)]
pub(super) struct Use<'a> {
    pub with: &'a Prepared<'a>,
    pub stream: &'a Stream,
    pub block: usize,
    pub pass: u32,
}

/// What stands for a use of a block.
pub(super) enum Compute {
    /// A kernel that lasts as long as the plan says.
    Spin,
    /// Reads every byte of the block once.
    Touch,
    /// Multiplies every matrix of the block with activations.
    Gemm(Box<Gemm>),
}

impl Compute {
    /// Device memory that it takes besides the slab.
    pub fn bytes(&self) -> u64 {
        match self {
            Self::Spin | Self::Touch => 0,
            Self::Gemm(gemm) => gemm.bytes,
        }
    }

    /// Issues one use that lasts so long in the plan.
    pub fn issue(&self, of: Use<'_>, time: Nanos) -> Result<()> {
        let Use { with, stream, block, pass } = of;
        match self {
            Self::Spin if time.is_zero() => Ok(()),
            Self::Spin => Ok(with.kernels.spin(stream, time)?),
            Self::Touch => {
                for place in &with.phase.places[block] {
                    let data = with.slab.plus(offset(place, pass));
                    with.kernels.touch(stream, data, place.bytes.get())?;
                }
                Ok(())
            }
            Self::Gemm(gemm) => gemm.issue(of),
        }
    }
}
