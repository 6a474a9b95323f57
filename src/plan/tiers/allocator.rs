//! Turns requests for pinned memory into the bytes that an allocator really locks.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units::Bytes;

/// The page that memory is locked in on x86-64 Linux.
pub const PAGE: u64 = 4_096;

/// How an allocator of pinned memory rounds a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Allocator {
    /// To whole pages: `cuMemHostAlloc`, or memory that is registered in place. Ours: one arena for what is kept, one
    /// for the ring.
    Pages,
    /// To the next power of two: `pin_memory` of PyTorch, whose `CachingHostAllocator` takes `PowerOf2Ceil(size)` of
    /// every request. Measured on PyTorch 2.13.0 (1.125 GiB locks 2 GiB, wtdcode/vllm-backport#67) and 2.7.0
    /// (LMCache#1147); `pinned_max_round_threshold_mb` turns it off above a size (pytorch#171662), by default nothing does.
    PowerOfTwo,
    /// Registered in place from 64 MiB on, below it to the next power of two: SGLang since sgl-project/sglang#39021.
    LargeInPlace,
}

/// The request from which on SGLang registers memory in place (`_pinned_empty`, sgl-project/sglang#39021).
const IN_PLACE: u64 = 64 << 20;

impl Allocator {
    /// What is locked for one request.
    pub fn locked(self, request: Bytes) -> Bytes {
        match self {
            _ if request.is_zero() => Bytes::ZERO,
            Self::Pages => request.align_up(PAGE),
            Self::LargeInPlace if request.get() >= IN_PLACE => request.align_up(PAGE),
            Self::PowerOfTwo | Self::LargeInPlace => {
                let size = request.get().checked_next_power_of_two().unwrap_or(u64::MAX);
                Bytes::new(size).align_up(PAGE)
            }
        }
    }

    /// How it rounds, for people.
    pub fn noun(self) -> &'static str {
        match self {
            Self::Pages => "4 KiB pages",
            Self::PowerOfTwo => "powers of two",
            Self::LargeInPlace => "4 KiB pages from 64 MiB on, else powers of two",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_round_as_their_allocator_does() {
        let gib = |size: u64| Bytes::new(size << 30);
        let odd = Bytes::new((1 << 30) + 1);
        assert_eq!(Allocator::Pages.locked(odd).get(), (1 << 30) + PAGE);
        assert_eq!(Allocator::PowerOfTwo.locked(odd), gib(2));
        assert_eq!(Allocator::PowerOfTwo.locked(gib(2)), gib(2));
        assert_eq!(Allocator::PowerOfTwo.locked(Bytes::ZERO), Bytes::ZERO);
        assert_eq!(Allocator::LargeInPlace.locked(odd), Allocator::Pages.locked(odd));
        assert_eq!(Allocator::LargeInPlace.locked(Bytes::new(33 << 20)).get(), 64 << 20);
        // Five requests of 1.20 GiB locked 10.01 GiB (sglang#39021): 2 GiB each, and small ones beside them.
        let five = Allocator::PowerOfTwo.locked(Bytes::new(1_288_490_189)).saturating_mul(5);
        assert_eq!(five, gib(10));
    }
}
