//! Turns RGB pixels into a PNG: signature, header, one compressed image, end. No clock, no metadata.

use std::io::Write;

use flate2::write::ZlibEncoder;
use flate2::{Compression, Crc};

use crate::error::{Error, Result};

/// Encodes `width` × `height` pixels of three bytes, row by row from the top.
pub(super) fn encode(width: u32, height: u32, pixels: &[u8]) -> Result<Vec<u8>> {
    let failed = |error: std::io::Error| Error::Internal(format!("cannot write PNG: {error}"));
    let mut png = b"\x89PNG\r\n\x1a\n".to_vec();
    let mut header = [width.to_be_bytes(), height.to_be_bytes()].concat();
    // 8 bits per channel, RGB, deflate, the standard filters, not interlaced.
    header.extend_from_slice(&[8, 2, 0, 0, 0]);
    chunk(&mut png, *b"IHDR", &header)?;
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    for row in pixels.chunks_exact(width as usize * 3) {
        // Flat areas compress best when each row is stored as it is.
        encoder.write_all(&[0]).map_err(failed)?;
        encoder.write_all(row).map_err(failed)?;
    }
    chunk(&mut png, *b"IDAT", &encoder.finish().map_err(failed)?)?;
    chunk(&mut png, *b"IEND", &[])?;
    Ok(png)
}

fn chunk(png: &mut Vec<u8>, kind: [u8; 4], body: &[u8]) -> Result<()> {
    let length = u32::try_from(body.len())
        .map_err(|_| Error::Internal("a picture is larger than PNG allows".into()))?;
    let mut crc = Crc::new();
    crc.update(&kind);
    crc.update(body);
    png.extend_from_slice(&length.to_be_bytes());
    png.extend_from_slice(&kind);
    png.extend_from_slice(body);
    png.extend_from_slice(&crc.sum().to_be_bytes());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_red_pixel_is_a_whole_file() {
        let png = encode(1, 1, &[255, 0, 0]).expect("a picture");
        assert_eq!(&png[8..16], b"\0\0\0\x0dIHDR");
        // The check sums that every decoder knows for this header and for the empty end.
        assert_eq!(&png[29..33], &[0x90, 0x77, 0x53, 0xde]);
        assert_eq!(&png[png.len() - 12..], b"\0\0\0\0IEND\xaeB`\x82");
    }
}
