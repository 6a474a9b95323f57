//! Turns digests that the device computed right before each use into "every byte was right", or into the block, the
//! pass and the bytes that were not.

use std::rc::Rc;

use super::arena::{Arena, chunks};
use super::digest::CHUNK;
use super::gpu::Gpu;
use super::kernels::Kernels;
use super::memory::{Device, DeviceMemory, PinnedMemory};
use super::steps::offset;
use super::stream::Stream;
use crate::error::{Error, Result};
use crate::program::Phase;
use crate::program::image::ComponentImage;

/// Which passes have every byte compared with the host's before its use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verify {
    /// None.
    No,
    /// The last one: the others run undisturbed.
    Last,
    /// All.
    Every,
}

/// Room for the digests of all chunks of the passes in flight, on the device and on the host.
pub(super) struct Verifier {
    device: DeviceMemory,
    host: PinnedMemory,
    rows: u32,
    count: usize,
    /// By block: its first chunk.
    first: Vec<usize>,
}

const WORD: u64 = size_of::<u64>() as u64;

impl Verifier {
    /// Allocates for so many passes in flight.
    pub fn new(gpu: &Rc<Gpu>, image: &ComponentImage, rows: u32) -> Result<Self> {
        let mut count = 0;
        let mut first = Vec::with_capacity(image.blocks.len());
        for block in &image.blocks {
            first.push(count);
            let ranges = block.pieces.iter().flat_map(|piece| &piece.ranges);
            count += ranges.map(|range| chunks(range.end - range.start)).sum::<usize>();
        }
        let bytes = u64::from(rows) * count as u64 * WORD;
        let device = DeviceMemory::new(gpu, bytes)?;
        let host = PinnedMemory::new(gpu, bytes, false, false)?;
        Ok(Self { device, host, rows, count, first })
    }

    /// Bytes of device memory that digests of so many passes take.
    pub fn device_bytes(image: &ComponentImage, rows: u32) -> u64 {
        let ranges = image.blocks.iter().flat_map(|b| &b.pieces).flat_map(|piece| &piece.ranges);
        let count: usize = ranges.map(|range| chunks(range.end - range.start)).sum();
        u64::from(rows) * count as u64 * WORD
    }

    fn row(&self, row: u32) -> u64 {
        u64::from(row % self.rows.max(1)) * self.count as u64 * WORD
    }

    /// Begins a pass, whose digests have this row: all sums are zero.
    pub fn begin(&self, stream: &Stream, row: u32) -> Result<()> {
        let bytes = usize::try_from(self.count as u64 * WORD).unwrap_or(usize::MAX);
        Ok(stream.fill(self.device.start().plus(self.row(row)), 0, bytes.max(1))?)
    }

    /// Digests a block where it lies in this pass.
    pub fn digest(
        &self,
        kernels: &Kernels,
        stream: &Stream,
        (phase, image): (&Phase, &ComponentImage),
        (block, pass, row): (usize, u32, u32),
        slab: Device,
    ) -> Result<()> {
        let mut chunk = self.first[block];
        for (piece, place) in image.blocks[block].pieces.iter().zip(&phase.places[block]) {
            let mut at = slab.plus(offset(place, pass));
            for range in &piece.ranges {
                let bytes = range.end - range.start;
                let out = self.device.start().plus(self.row(row) + chunk as u64 * WORD);
                kernels.digest(stream, (at, bytes), range.start, out)?;
                at = at.plus(bytes);
                chunk += chunks(bytes);
            }
        }
        Ok(())
    }

    /// Ends a pass: the sums go to the host.
    #[expect(unsafe_code, reason = "copies between two allocations that this struct owns")]
    pub fn end(&self, stream: &Stream, row: u32) -> Result<()> {
        if self.count == 0 {
            return Ok(());
        }
        let row = self.row(row);
        let to = self.host.address().wrapping_add(usize::try_from(row).unwrap_or(usize::MAX));
        let bytes = usize::try_from(self.count as u64 * WORD).unwrap_or(usize::MAX);
        // SAFETY: one row of each allocation; it is looked at after the stream has been waited for, and written
        // again only after that.
        unsafe { stream.to_host(to, self.device.start().plus(row), bytes)? };
        Ok(())
    }

    /// Compares a pass that has ended. Gives the digest of each block as the device saw it; none of those that it left
    /// out.
    pub fn compare(
        &self,
        (phase, image, arena): (&Phase, &ComponentImage, &Arena),
        (pass, row): (u32, u32),
    ) -> Result<Vec<Option<u64>>> {
        let start = usize::try_from(self.row(row)).unwrap_or(usize::MAX);
        let row = self.host.bytes().get(start..).unwrap_or_default();
        let seen = row.chunks_exact(8).take(self.count);
        let seen: Vec<u64> = seen
            .map(|word| word.iter().rev().fold(0, |sum, &byte| sum << 8 | u64::from(byte)))
            .collect();
        let runs = |block: usize| phase.schedule.mask.of(block, pass).is_none();
        let ends = self.first.iter().skip(1).chain([&self.count]);
        let mut digests = Vec::with_capacity(self.first.len());
        for (block, (&from, &to)) in self.first.iter().zip(ends).enumerate() {
            let of_block = seen.get(from..to).unwrap_or_default();
            if !runs(block) {
                digests.push(None);
                continue;
            }
            let own = arena.digests.get(from..to).unwrap_or_default();
            let wrong = of_block.iter().zip(own).position(|(seen, own)| seen != own);
            if let Some(wrong) = wrong {
                let both = (of_block[wrong], own[wrong]);
                return Err(self.mismatch(phase, image, pass, from + wrong, both));
            }
            digests.push(Some(of_block.iter().fold(0u64, |sum, digest| sum.wrapping_add(*digest))));
        }
        Ok(digests)
    }

    #[cold]
    fn mismatch(
        &self,
        phase: &Phase,
        image: &ComponentImage,
        pass: u32,
        wrong: usize,
        (seen, own): (u64, u64),
    ) -> Error {
        let block = self.first.partition_point(|&first| first <= wrong).saturating_sub(1);
        let mut chunk = self.first[block];
        let mut named = format!("{}.{}", phase.component, phase.blocks[block]);
        for (n, piece) in image.blocks[block].pieces.iter().enumerate() {
            for range in &piece.ranges {
                let count = chunks(range.end - range.start);
                if (chunk..chunk + count).contains(&wrong) {
                    let from = range.start + (wrong - chunk) as u64 * CHUNK;
                    let to = (from + CHUNK).min(range.end);
                    let slab = offset(&phase.places[block][n], pass);
                    named.push_str(&format!(
                        ", pass {pass}, offset {from} (to {to}) of the block, piece {n} at {slab} in the slab"
                    ));
                }
                chunk += count;
            }
        }
        Error::Run(format!(
            "{named}: the bytes on the device are not the host's (digest {seen:016x}, expected {own:016x})"
        ))
    }
}
