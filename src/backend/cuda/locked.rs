//! Turns a choice into the kind of page-locked memory that this machine copies from fastest.
//!
//! Write-combined memory is not cached by the host: some machines copy from it faster, all read it slowly, so it is
//! only ever written. The two are compared by copies of one size into the slab, before weights are there.

use std::rc::Rc;

use super::gpu::Gpu;
use super::memory::{DeviceMemory, PinnedMemory};
use super::probe::rate;
use super::stream::{Event, Priority, Stream};
use super::{Choice, clock, median};
use crate::error::Result;
use crate::units::{Nanos, Rate};

/// Bytes of one copy at most.
const LARGEST: u64 = 64 << 20;

/// Copies that count, after one that does not.
const COPIES: usize = 5;

/// Write-combined memory must be faster by one part in so many: it is worse in everything else.
const WORTH: u64 = 50;

/// Whether to use write-combined memory, and what the profile says about it.
pub(super) fn choose(
    gpu: &Rc<Gpu>,
    choice: Choice,
    slab: &DeviceMemory,
    bytes: u64,
) -> Result<(bool, String)> {
    let bytes = bytes.min(LARGEST);
    match choice {
        Choice::On => return Ok((true, "page-locked, write-combined".to_owned())),
        Choice::Auto if bytes > 0 => {}
        Choice::Auto | Choice::Off => return Ok((false, "page-locked".to_owned())),
    }
    let [plain, combined] = [copied(gpu, slab, bytes, false)?, copied(gpu, slab, bytes, true)?];
    let better = combined.get() / (WORTH + 1) * WORTH > plain.get();
    let (plain, combined) = (plain.human(), combined.human());
    let kind = if better { "page-locked, write-combined" } else { "page-locked" };
    Ok((better, format!("{kind} (copies at {plain} from cached, {combined} from write-combined)")))
}

/// The rate of copies from one kind of memory.
#[expect(unsafe_code, reason = "copies from memory that is waited for before it goes")]
fn copied(gpu: &Rc<Gpu>, slab: &DeviceMemory, bytes: u64, write_combined: bool) -> Result<Rate> {
    let host = PinnedMemory::new(gpu, bytes, false, write_combined)?;
    let length = usize::try_from(bytes).unwrap_or(usize::MAX);
    let (start, end) = (Event::new(gpu, true)?, Event::new(gpu, true)?);
    let stream = Stream::new(gpu, Priority::Greatest)?;
    let mut times = Vec::new();
    for n in 0..=COPIES {
        stream.record(&start)?;
        // SAFETY: both ends hold so many bytes; the stream is waited for below.
        let copied = unsafe { stream.to_device(slab.start(), host.address(), length) };
        let recorded = stream.record(&end);
        stream.synchronise()?;
        copied.and(recorded)?;
        let (time, _) = clock::between(&start, &end)?;
        if n > 0 {
            times.push(Nanos::new(time));
        }
    }
    Ok(rate(bytes, median(times)))
}
