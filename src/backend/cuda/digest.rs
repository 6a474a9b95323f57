//! Turns bytes of a block's image into 64 bits, the same on the host and on the device, whatever way the bytes were
//! cut into pieces.
//!
//! The image is read as little-endian words `w(j)` of four bytes; its digest is `Σ w(j) · k(j) mod 2^64`, where `k(j)`
//! is an odd number that depends on the position alone (SplitMix64's finaliser, Steele et al. 2014). This is multilinear
//! hashing (Carter and Wegman 1979; Lemire and Kaser 2014):
//!
//! * it is linear, so stretches may be digested in any order and added up, even if a word lies in two of them;
//! * a change of one word is always found, since `k(j)` is odd and the change is below 2^32;
//! * bytes that differ otherwise (of another block, of the last pass, half written) agree by accident about once in 2^32.

/// Bytes whose digests are compared at once; a mismatch is located to such a stretch.
pub(super) const CHUNK: u64 = 64 << 10;

/// The multiplier of the word at this position of the image.
pub(super) fn key(position: u64) -> u64 {
    mix(position) | 1
}

/// SplitMix64: the position's place in its sequence, finalised.
pub(super) fn mix(position: u64) -> u64 {
    let mut z = position.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// The digest of bytes that lie at this offset of their image.
pub(super) fn digest(bytes: &[u8], offset: u64) -> u64 {
    // The bytes before the first whole word, the whole words, the bytes after the last.
    let head = usize::try_from(offset.wrapping_neg() % 4).unwrap_or(0).min(bytes.len());
    let (head, rest) = bytes.split_at(head);
    let first = offset + head.len() as u64;
    let words = rest.chunks_exact(4);
    let tail = words.remainder();
    let last = first + (rest.len() - tail.len()) as u64;
    let mut sum = scattered(head, offset).wrapping_add(scattered(tail, last));
    for (position, word) in (first / 4..).zip(words) {
        let word = u32::from_le_bytes([word[0], word[1], word[2], word[3]]);
        sum = sum.wrapping_add(u64::from(word).wrapping_mul(key(position)));
    }
    sum
}

/// The digest of bytes that make no whole word.
fn scattered(bytes: &[u8], offset: u64) -> u64 {
    (offset..).zip(bytes).fold(0, |sum, (at, &byte)| {
        let value = u64::from(byte) << (8 * (at % 4));
        sum.wrapping_add(value.wrapping_mul(key(at / 4)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_digest_of_four_bytes() {
        // 0x04030201 · (SplitMix64 of seed 0, first output, made odd).
        assert_eq!(mix(0), 0xE220_A839_7B1D_CDAF);
        let expected = 0x0403_0201u64.wrapping_mul(0xE220_A839_7B1D_CDAF);
        assert_eq!(digest(&[1, 2, 3, 4], 0), expected);
    }

    proptest! {
        #[test]
        fn stretches_add_up(bytes in prop::collection::vec(any::<u8>(), 0..200), cut in 0usize..200, at in 0u64..50) {
            let cut = cut.min(bytes.len());
            let (left, right) = bytes.split_at(cut);
            let sum = digest(left, at).wrapping_add(digest(right, at + cut as u64));
            prop_assert_eq!(sum, digest(&bytes, at));
        }

        #[test]
        fn every_changed_byte_is_found(mut bytes in prop::collection::vec(any::<u8>(), 1..64), at in 0u64..50, flip in 1u8..) {
            let before = digest(&bytes, at);
            let middle = bytes.len() / 2;
            bytes[middle] ^= flip;
            prop_assert_ne!(before, digest(&bytes, at));
        }
    }
}
