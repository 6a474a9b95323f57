//! Turns weights into host memory from which pieces are copied: one page-locked arena per component.
//!
//! A piece lies in one stretch of the arena, its ranges of the block's image one after another, so that it moves with
//! one copy. What a policy streams from ordinary memory lies in ordinary memory. Filling runs on all processors; the
//! digests that verification compares are computed on the way.

use std::ops::Range;
use std::rc::Rc;
use std::sync::{Mutex, PoisonError};

use super::digest::{CHUNK, digest, mix};
use super::gpu::Gpu;
use super::memory::PinnedMemory;
use crate::error::{Error, Result};
use crate::program::image::{BlockImage, ComponentImage, HostMemory};
use crate::units::Bytes;

/// Where the bytes of weights come from. Called from several threads.
pub trait Weights: Sync {
    /// Writes the bytes of a stretch, as many as `into` holds.
    fn read(&self, from: Stretch<'_>, into: &mut [u8]) -> Result<()>;
}

/// Where bytes of weights begin.
#[derive(Debug, Clone, Copy)]
pub struct Stretch<'a> {
    /// The component's name.
    pub component: &'a str,
    /// The block.
    pub block: &'a BlockImage,
    /// The first byte's place in the block's image.
    pub offset: u64,
}

/// Weights made up from a seed, the same for every plan of a model: values near ±0.01 in the 16-bit formats, so that
/// matrix products neither overflow nor meet zeros that save power.
#[derive(Debug, Clone, Copy)]
pub struct Pattern {
    /// Other seeds give other weights.
    pub seed: u64,
}

impl Weights for Pattern {
    fn read(&self, from: Stretch<'_>, into: &mut [u8]) -> Result<()> {
        let name = |text: &str| text.bytes().fold(0u64, |sum, byte| mix(sum ^ u64::from(byte)));
        let key = mix(self.seed ^ name(from.component)) ^ name(&from.block.block);
        let mut at = from.offset;
        let mut rest = into;
        while !rest.is_empty() {
            let word = mix(key ^ (at / 8)) & 0x83FF_83FF_83FF_83FF | 0x3C00_3C00_3C00_3C00;
            let skip = usize::try_from(at % 8).unwrap_or(0);
            let bytes = &word.to_le_bytes()[skip..];
            let now = bytes.len().min(rest.len());
            let (filled, after) = rest.split_at_mut(now);
            filled.copy_from_slice(&bytes[..now]);
            (rest, at) = (after, at + now as u64);
        }
        Ok(())
    }
}

/// Memory is locked in whole pages (x86-64 Linux).
pub(super) const PAGE: u64 = 4 << 10;

/// Every piece begins at a multiple of this, as allocations on the device do.
const ALIGNMENT: u64 = 256;

/// What one thread fills at a time: a multiple of [`CHUNK`], large enough for a disk.
const PORTION: u64 = 16 << 20;

/// Where a piece lies in host memory.
#[derive(Debug, Clone, Copy)]
pub(super) struct HostPlace {
    memory: HostMemory,
    at: u64,
}

/// How an arena is made.
#[derive(Debug, Clone, Copy)]
pub(super) struct Making {
    /// Whether verification will need digests.
    pub digests: bool,
    /// Whether page-locked memory is write-combined: the host only ever writes it, in order.
    pub write_combined: bool,
}

/// The host memory of one component.
pub(super) struct Arena {
    pinned: PinnedMemory,
    pageable: Vec<u8>,
    /// The first byte of `pageable`, for copies that the device makes.
    pageable_start: *mut u8,
    /// By block and piece.
    pub places: Vec<Vec<HostPlace>>,
    /// Digests of all chunks: by block, piece, range and position. Empty unless asked for.
    pub digests: Vec<u64>,
    /// Page-locked memory that it takes.
    pub locked: Bytes,
}

/// The chunks of a range.
pub(super) fn chunks(bytes: u64) -> usize {
    usize::try_from(bytes.div_ceil(CHUNK)).unwrap_or(usize::MAX)
}

impl Arena {
    /// Allocates and fills. Pieces that are read from disk for each use take no place.
    pub fn new(
        gpu: &Rc<Gpu>,
        component: &ComponentImage,
        weights: &dyn Weights,
        making: Making,
    ) -> Result<Self> {
        let (mut pinned, mut pageable, mut none, mut count) = (0u64, 0u64, 0u64, 0usize);
        let mut places = Vec::with_capacity(component.blocks.len());
        for block in &component.blocks {
            let mut of_block = Vec::with_capacity(block.pieces.len());
            for piece in &block.pieces {
                let bytes = piece.bytes();
                let end = match piece.memory {
                    HostMemory::Pinned => &mut pinned,
                    HostMemory::Pageable => &mut pageable,
                    HostMemory::Disk => &mut none,
                };
                let at = *end;
                *end = (at + bytes).next_multiple_of(ALIGNMENT);
                of_block.push(HostPlace { memory: piece.memory, at });
                count += piece.ranges.iter().map(|r| chunks(r.end - r.start)).sum::<usize>();
            }
            places.push(of_block);
        }
        let pinned = pinned.next_multiple_of(PAGE);
        let memory = PinnedMemory::new(gpu, pinned, false, making.write_combined).map_err(|failure| {
            let component = &component.component;
            let asked = Bytes::new(pinned).human();
            Error::Run(format!(
                "{asked} of page-locked memory for {component} were refused: {failure}; free host memory, \
                 or raise the limit on locked memory (ulimit -l)"
            ))
        })?;
        let pageable = usize::try_from(pageable).unwrap_or(usize::MAX);
        let mut arena = Self {
            pinned: memory,
            pageable: vec![0; pageable],
            pageable_start: std::ptr::null_mut(),
            places,
            digests: vec![0; if making.digests { count } else { 0 }],
            locked: Bytes::new(pinned),
        };
        arena.fill(component, weights, making.write_combined)?;
        arena.pageable_start = arena.pageable.as_mut_ptr();
        Ok(arena)
    }

    /// The address of a piece; of one from disk, which has no place here, none.
    pub fn address(&self, place: HostPlace) -> *mut u8 {
        let base = match place.memory {
            HostMemory::Pinned => self.pinned.address(),
            HostMemory::Pageable => self.pageable_start,
            HostMemory::Disk => return std::ptr::null_mut(),
        };
        base.wrapping_add(usize::try_from(place.at).unwrap_or(usize::MAX))
    }

    /// Fills both memories in parallel. After an error nothing of the arena is used.
    fn fill(
        &mut self,
        component: &ComponentImage,
        weights: &dyn Weights,
        write_combined: bool,
    ) -> Result<()> {
        let jobs = {
            let mut pinned = Cutter::new(self.pinned.bytes_mut());
            let mut pageable = Cutter::new(&mut self.pageable);
            let mut digests = self.digests.as_mut_slice();
            let mut jobs = Vec::new();
            for (block, places) in component.blocks.iter().zip(&self.places) {
                for (piece, place) in block.pieces.iter().zip(places) {
                    let (mut memory, aside) = match place.memory {
                        HostMemory::Pinned => (Some(&mut pinned), write_combined),
                        HostMemory::Pageable => (Some(&mut pageable), false),
                        // Read for each use; here only for what digests are compared with.
                        HostMemory::Disk if digests.is_empty() => continue,
                        HostMemory::Disk => (None, true),
                    };
                    if let Some(memory) = &mut memory {
                        memory.skip_to(place.at);
                    }
                    for range in &piece.ranges {
                        for portion in portions(range) {
                            let length = portion.end - portion.start;
                            let count = chunks(length).min(digests.len());
                            let (own, after) = std::mem::take(&mut digests).split_at_mut(count);
                            digests = after;
                            let into = memory.as_mut().map(|memory| memory.take(length));
                            let offset = portion.start;
                            jobs.push(Job { block, offset, length, into, aside, digests: own });
                        }
                    }
                }
            }
            jobs
        };
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let queue = Mutex::new((jobs.into_iter(), None));
        let work = || {
            loop {
                let next = {
                    let mut queue = queue.lock().unwrap_or_else(PoisonError::into_inner);
                    if queue.1.is_some() { None } else { queue.0.next() }
                };
                let Some(job) = next else { return };
                if let Err(error) = job.run(&component.component, weights) {
                    queue.lock().unwrap_or_else(PoisonError::into_inner).1.get_or_insert(error);
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..threads {
                scope.spawn(work);
            }
            work();
        });
        let (_, failed) = queue.into_inner().unwrap_or_else(PoisonError::into_inner);
        failed.map_or(Ok(()), Err)
    }
}

/// A range in portions that one thread fills.
fn portions(range: &Range<u64>) -> impl Iterator<Item = Range<u64>> + use<> {
    let Range { start, end } = *range;
    let step = usize::try_from(PORTION).unwrap_or(usize::MAX);
    (start..end).step_by(step).map(move |at| at..(at + PORTION).min(end))
}

/// What one thread fills at a time.
struct Job<'a> {
    block: &'a BlockImage,
    offset: u64,
    length: u64,
    /// Where the bytes are to stay; none where only their digests are wanted.
    into: Option<&'a mut [u8]>,
    /// Whether they are read into ordinary memory first: write-combined memory is slow to read again.
    aside: bool,
    digests: &'a mut [u64],
}

impl Job<'_> {
    fn run(mut self, component: &str, weights: &dyn Weights) -> Result<()> {
        let from = Stretch { component, block: self.block, offset: self.offset };
        let aside = if self.aside { usize::try_from(self.length).unwrap_or(0) } else { 0 };
        let mut aside = vec![0; aside];
        let bytes = match &mut self.into {
            Some(into) if aside.is_empty() => &mut **into,
            _ => &mut aside[..],
        };
        weights.read(from, bytes)?;
        let step = usize::try_from(CHUNK).unwrap_or(usize::MAX);
        let starts = (self.offset..).step_by(step);
        for ((chunk, at), out) in bytes.chunks(step).zip(starts).zip(self.digests) {
            *out = digest(chunk, at);
        }
        if let Some(into) = self.into.filter(|into| into.len() == aside.len()) {
            into.copy_from_slice(&aside);
        }
        Ok(())
    }
}

/// Cuts memory into stretches from its front.
struct Cutter<'a> {
    rest: &'a mut [u8],
    at: u64,
}

impl<'a> Cutter<'a> {
    fn new(memory: &'a mut [u8]) -> Self {
        Self { rest: memory, at: 0 }
    }

    fn skip_to(&mut self, at: u64) {
        let gap = at.saturating_sub(self.at);
        self.take(gap);
    }

    fn take(&mut self, bytes: u64) -> &'a mut [u8] {
        let length = usize::try_from(bytes).unwrap_or(usize::MAX).min(self.rest.len());
        let (taken, rest) = std::mem::take(&mut self.rest).split_at_mut(length);
        (self.rest, self.at) = (rest, self.at + bytes);
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pattern_is_the_same_however_it_is_cut() {
        let block = BlockImage { block: "b.0".into(), bytes: 100, pieces: vec![], tensors: vec![] };
        let pattern = Pattern { seed: 7 };
        let stretch = |component, offset| Stretch { component, block: &block, offset };
        let mut whole = [0; 100];
        pattern.read(stretch("t", 0), &mut whole).expect("made up");
        for (from, to) in [(0, 100), (3, 50), (13, 14), (64, 99)] {
            let mut part = vec![0; to - from];
            pattern.read(stretch("t", from as u64), &mut part).expect("made up");
            assert_eq!(part, whole[from..to]);
        }
        let mut other = [0; 100];
        pattern.read(stretch("u", 0), &mut other).expect("made up");
        assert_ne!(other, whole);
    }

    #[test]
    fn portions_keep_to_chunks() {
        let found: Vec<_> = portions(&(5..5 + 2 * PORTION + 9)).collect();
        assert_eq!(found.len(), 3);
        assert_eq!(found[1].start - 5, PORTION);
        assert_eq!(found[2].end, 5 + 2 * PORTION + 9);
        assert!(PORTION.is_multiple_of(CHUNK));
    }
}
