//! Turns reads from disk into a ring of page-locked slots that the copies come from.
//!
//! ```text
//! host    issue read 7 ─▶ job ─▶ reader: wait for slot and for what the read waits for, read, ready = 8
//! h2d     … wait until ready ≥ 8 ─▶ copy ─▶ taken = 8
//! ```
//!
//! The host thread that issues never waits for a read: the copy's stream waits for a number in mapped memory that the
//! reader writes, and the reader waits for numbers that streams write. Numbers only rise, so nobody misses one. A
//! failed or abandoned run sets `ready` as high as it goes: the streams run out and the error is told.

#![expect(unsafe_code, reason = "hands slots of owned memory to one reader at a time")]

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, Sender};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::arena::{Stretch, Weights};
use super::clock;
use super::driver::unavailable;
use super::gpu::Gpu;
use super::memory::{Device, PinnedMemory};
use super::stream::Stream;
use crate::error::{Error, Result};
use crate::lane::{Lane, OpKind};
use crate::program::Phase;
use crate::program::image::{ComponentImage, HostMemory, PieceImage};
use crate::units::Bytes;

/// Slots of the ring: one is copied from, one is read into, two are ahead.
const SLOTS: u32 = 4;

/// The numbers in mapped memory: one per lane, then `ready` and `taken`.
const READY: usize = Lane::ALL.len();
const TAKEN: usize = READY + 1;
const NUMBERS: usize = TAKEN + 1;

/// Numbers are compared as signed differences.
const HIGHEST: u32 = i32::MAX as u32;

/// How long the reader sleeps between looks at a number.
const NAP: Duration = Duration::from_micros(20);

/// The ring and the numbers of a component; made before the first pass.
pub(super) struct Staging {
    slots: PinnedMemory,
    numbers: PinnedMemory,
    seen_by_device: Device,
    slot: u64,
}

/// Refuses what cannot be read, before anything is allocated.
pub(super) fn check(gpu: &Gpu, phase: &Phase, image: &ComponentImage) -> Result<()> {
    if !phase.schedule.ops.iter().any(|op| op.kind == OpKind::Read) {
        return Ok(());
    }
    let missing = |missing| format!("the plan reads from disk for each use, and {missing}");
    gpu.driver.value().map_err(|reason| unavailable(missing(reason)))?;
    let ops = &phase.schedule.ops;
    if image.blocks.iter().flat_map(|block| &block.pieces).any(unreadable) {
        let component = &phase.component;
        return Err(Error::usage(format!("{component}: pieces from disk are never copied back")));
    }
    // The n-th copy from the ring takes what the n-th read brought.
    let mut reads = Vec::new();
    let mut copies = Vec::new();
    for (n, op) in ops.iter().enumerate() {
        match op.kind {
            OpKind::Read => reads.push(n),
            OpKind::Copy => copies.extend(read_of(phase, n)),
            _ => {}
        }
    }
    if reads == copies {
        return Ok(());
    }
    Err(Error::usage(format!(
        "{}: pieces are copied in another order than they are read from disk; the cuda backend reads ahead in a ring \
         and cannot; keep them in host memory (from: pinned)",
        phase.component
    )))
}

/// A piece from disk whose bytes would have to go back there.
fn unreadable(piece: &PieceImage) -> bool {
    piece.memory == HostMemory::Disk && piece.returns
}

/// The read that a copy waits for.
pub(super) fn read_of(phase: &Phase, copy: usize) -> Option<usize> {
    let ops = &phase.schedule.ops;
    let waits = ops[copy].waits.iter().filter(|wait| wait.passes_back == 0);
    waits.map(|wait| wait.op).find(|&op| ops[op].kind == OpKind::Read)
}

impl Staging {
    /// A ring for the largest piece that is read from disk; none where none is.
    pub fn new(gpu: &Rc<Gpu>, image: &ComponentImage) -> Result<Option<Self>> {
        let pieces = image.blocks.iter().flat_map(|block| &block.pieces);
        let from_disk = pieces.filter(|piece| piece.memory == HostMemory::Disk);
        let Some(slot) = from_disk.map(|piece| piece.bytes()).max() else { return Ok(None) };
        let slot = slot.next_multiple_of(4 << 10);
        let slots = PinnedMemory::new(gpu, slot * u64::from(SLOTS), false, false)?;
        let mut numbers = PinnedMemory::new(gpu, 4 * NUMBERS as u64, true, false)?;
        numbers.bytes_mut().fill(0);
        let seen_by_device = numbers.device_address()?;
        Ok(Some(Self { slots, numbers, seen_by_device, slot }))
    }

    /// Page-locked memory that it takes.
    pub fn locked(&self) -> Bytes {
        Bytes::new(self.slot * u64::from(SLOTS))
    }

    /// Where the n-th read brings its piece.
    pub fn address(&self, read: u32) -> *mut u8 {
        let at = u64::from(read % SLOTS) * self.slot;
        self.slots.address().wrapping_add(usize::try_from(at).unwrap_or(usize::MAX))
    }

    fn number(&self, which: usize) -> &AtomicU32 {
        // SAFETY: aligned, inside an allocation that lives as long as `self`; the device writes whole numbers.
        unsafe { AtomicU32::from_ptr(self.numbers.address().cast::<u32>().wrapping_add(which)) }
    }

    fn device(&self, which: usize) -> Device {
        self.seen_by_device.plus(4 * which as u64)
    }

    /// The stream goes on when the n-th read is there.
    pub fn await_read(&self, stream: &Stream, read: u32) -> Result<()> {
        stream.wait_value(self.device(READY), read + 1)
    }

    /// The stream says that the n-th read's slot is free.
    pub fn taken(&self, stream: &Stream, read: u32) -> Result<()> {
        stream.write_value(self.device(TAKEN), read + 1)
    }

    /// The stream says how many operations of its lane have ended.
    pub fn ended(&self, stream: &Stream, lane: Lane, count: u32) -> Result<()> {
        stream.write_value(self.device(lane.index()), count)
    }

    /// Before a phase all numbers are zero.
    pub fn reset(&self) {
        for which in 0..NUMBERS {
            self.number(which).store(0, Ordering::Release);
        }
    }

    /// Lets every stream go on, whatever it waits for.
    pub fn abandon(&self) {
        self.number(READY).store(HIGHEST, Ordering::Release);
    }
}

/// One read that was issued.
pub(super) struct Job {
    /// Its number.
    pub read: u32,
    /// What is read.
    pub block: usize,
    pub piece: usize,
    /// By lane, how many of its operations must have ended.
    pub after: Vec<(Lane, u32)>,
}

/// What the issuing thread and the reader share.
pub(super) struct Disk<'a> {
    image: &'a ComponentImage,
    weights: &'a dyn Weights,
    numbers: [&'a AtomicU32; NUMBERS],
    slots: Slots,
    stop: AtomicBool,
    failed: Mutex<Option<Error>>,
    /// By read: its start and end, until they are taken.
    times: Mutex<BTreeMap<u32, (Instant, Instant)>>,
}

/// The ring, for the reader.
struct Slots {
    start: *mut u8,
    slot: u64,
}

// SAFETY: the address of page-locked memory that outlives the reader; a slot is written by the reader alone between
// `taken` and `ready`, and read by the device alone between `ready` and `taken`.
unsafe impl Send for Slots {}
// SAFETY: as above; only the one reader writes through it.
unsafe impl Sync for Slots {}

impl<'a> Disk<'a> {
    pub fn new(staging: &'a Staging, image: &'a ComponentImage, weights: &'a dyn Weights) -> Self {
        staging.reset();
        Self {
            image,
            weights,
            numbers: std::array::from_fn(|which| staging.number(which)),
            slots: Slots { start: staging.slots.address(), slot: staging.slot },
            stop: AtomicBool::new(false),
            failed: Mutex::new(None),
            times: Mutex::new(BTreeMap::new()),
        }
    }

    /// Reads what is asked for, in order, until nobody asks any more. Runs on a thread of its own.
    pub fn serve(&self, jobs: &Receiver<Job>) {
        while let Ok(job) = jobs.recv() {
            if !self.until(&job) || self.has_failed() {
                continue;
            }
            let start = clock::host_now();
            if let Err(error) = self.read(&job) {
                self.failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                self.numbers[READY].store(HIGHEST, Ordering::Release);
                continue;
            }
            let times = (start, clock::host_now());
            let mut all = self.times.lock().unwrap_or_else(PoisonError::into_inner);
            all.insert(job.read, times);
            drop(all);
            // Whoever abandoned the run has set it as high as it goes.
            let next = job.read + 1;
            let ready = self.numbers[READY];
            let _ = ready.compare_exchange(job.read, next, Ordering::AcqRel, Ordering::Acquire);
        }
    }

    /// Waits until a job may begin; false where the run is over.
    fn until(&self, job: &Job) -> bool {
        let free = (TAKEN, (job.read + 1).saturating_sub(SLOTS));
        let after = job.after.iter().map(|&(lane, count)| (lane.index(), count));
        for (which, least) in after.chain([free]) {
            while self.numbers[which].load(Ordering::Acquire) < least {
                if self.stop.load(Ordering::Relaxed) {
                    return false;
                }
                nap();
            }
        }
        !self.stop.load(Ordering::Relaxed)
    }

    fn read(&self, job: &Job) -> Result<()> {
        let block = &self.image.blocks[job.block];
        let at = u64::from(job.read % SLOTS) * self.slots.slot;
        let at = usize::try_from(at).unwrap_or(usize::MAX);
        let mut into = {
            let length = usize::try_from(self.slots.slot).unwrap_or(0);
            // SAFETY: one slot of owned memory, which no copy reads and nobody else writes until it is `ready`.
            unsafe { std::slice::from_raw_parts_mut(self.slots.start.wrapping_add(at), length) }
        };
        for range in &block.pieces[job.piece].ranges {
            let length = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
            let (now, rest) = into.split_at_mut(length.min(into.len()));
            into = rest;
            let component = &self.image.component;
            self.weights.read(Stretch { component, block, offset: range.start }, now)?;
        }
        Ok(())
    }

    fn has_failed(&self) -> bool {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// The first read that failed.
    pub fn failure(&self) -> Option<Error> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// When a read ran; those before it are forgotten.
    pub fn times(&self, read: u32) -> Option<(Instant, Instant)> {
        let mut times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
        let mut from_here = times.split_off(&read);
        let found = from_here.remove(&read);
        *times = from_here;
        found
    }

    /// The reader stops as soon as it can.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn nap() {
    std::thread::sleep(NAP);
}

/// The issuing thread's side: numbers of reads, and the way to the reader.
pub(super) struct Reads<'a> {
    pub disk: &'a Disk<'a>,
    pub staging: &'a Staging,
    /// None once nothing more will be read.
    jobs: Option<Sender<Job>>,
    next: u32,
    /// By row of passes and operation: the number of the read.
    by_row: Vec<Vec<u32>>,
}

impl<'a> Reads<'a> {
    pub fn new(
        (disk, staging): (&'a Disk<'a>, &'a Staging),
        jobs: Sender<Job>,
        (rows, ops): (usize, usize),
    ) -> Self {
        Self { disk, staging, jobs: Some(jobs), next: 0, by_row: vec![vec![0; ops]; rows] }
    }

    /// Asks for a read.
    pub fn issue(
        &mut self,
        (row, op): (usize, usize),
        (block, piece): (usize, usize),
        after: Vec<(Lane, u32)>,
    ) {
        let read = self.next;
        self.next += 1;
        self.by_row[row][op] = read;
        if let Some(jobs) = &self.jobs {
            // A reader that is gone has told why.
            let _ = jobs.send(Job { read, block, piece, after });
        }
    }

    /// The number of a read that was issued.
    pub fn number(&self, row: usize, op: usize) -> u32 {
        self.by_row[row][op]
    }

    /// Nothing more will be read.
    pub fn close(&mut self) {
        self.jobs = None;
    }
}
