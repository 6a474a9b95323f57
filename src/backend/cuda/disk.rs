//! Turns reads from disk into rings of page-locked memory that the copies come from, one per component.
//!
//! ```text
//! host    issue read 7 ─▶ job ─▶ reader: wait for what the read waits for, read into its place, disk = 8
//! h2d     … wait until disk ≥ 8 ─▶ copy 5 from there ─▶ h2d = 6 ─▶ a read that takes its place waits for that
//! ```
//!
//! Size and offsets of a ring are the plan's ([`Phase::ring`], `Place::host_at`), and so is what a read waits for: the
//! copy that last took its place. One thread reads, in the program's order: it is the disk lane.
//!
//! The host thread that issues never waits for a read: by lane, a number in mapped memory says how many of its
//! operations have ended. The reader writes that of the disk, which streams wait for; streams write theirs where a
//! read waits for them. Numbers only rise, over all phases, so nobody misses one. A failed or abandoned run sets the
//! disk's as high as it goes: the streams run out and the error is told.

#![expect(unsafe_code, reason = "hands stretches of owned memory to one reader")]

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::arena::{PAGE, Stretch, Weights};
use super::clock;
use super::driver::unavailable;
use super::gpu::Gpu;
use super::memory::{Device, PinnedMemory};
use super::part::LANES;
use super::stream::Stream;
use crate::error::{Error, Result};
use crate::lane::{Lane, OpKind};
use crate::program::image::{ComponentImage, HostMemory, PieceImage};
use crate::program::{Phase, Place, Program};
use crate::units::Bytes;

/// Numbers are compared as signed differences.
const HIGHEST: u32 = i32::MAX as u32;

/// How long the reader sleeps between looks at a number.
const NAP: Duration = Duration::from_micros(20);

/// Refuses what cannot be read, before anything is allocated.
pub(super) fn check(gpu: &Gpu, phase: &Phase, image: &ComponentImage) -> Result<()> {
    if !phase.schedule.ops.iter().any(|op| op.kind == OpKind::Read) {
        return Ok(());
    }
    let missing = |missing| format!("the plan reads from disk for each use, and {missing}");
    gpu.driver.value().map_err(|reason| unavailable(missing(reason)))?;
    let component = &phase.component;
    if image.blocks.iter().flat_map(|block| &block.pieces).any(unreadable) {
        return Err(Error::usage(format!("{component}: pieces from disk are never copied back")));
    }
    let pieces = image.blocks.iter().zip(&phase.places);
    let mut pieces = pieces.flat_map(|(block, places)| block.pieces.iter().zip(places));
    let outside = |(piece, place): (&PieceImage, &Place)| {
        let end = place.host_at.iter().max().map(|at| at.saturating_add(piece.bytes()));
        piece.memory == HostMemory::Disk && end.is_none_or(|end| end > phase.ring.get())
    };
    match pieces.any(outside) {
        true => Err(Error::usage(format!(
            "{component}: a piece from disk lies outside of its ring of {}",
            phase.ring.human()
        ))),
        false => Ok(()),
    }
}

/// A piece from disk whose bytes would have to go back there.
fn unreadable(piece: &PieceImage) -> bool {
    piece.memory == HostMemory::Disk && piece.returns
}

/// The rings of all components and the numbers; made before the first pass.
pub(super) struct Staging {
    /// By component: its ring and its bytes.
    rings: Vec<Option<(PinnedMemory, u64)>>,
    numbers: PinnedMemory,
    seen_by_device: Device,
}

impl Staging {
    /// The rings that a program says; none where nothing is read from disk.
    pub fn new(gpu: &Rc<Gpu>, program: &Program) -> Result<Option<Self>> {
        let count = program.phases.iter().map(|phase| phase.of + 1).max().unwrap_or(0);
        let mut sizes = vec![0; count];
        for phase in &program.phases {
            if phase.schedule.ops.iter().any(|op| op.kind == OpKind::Read) {
                sizes[phase.of] = phase.ring.get().max(sizes[phase.of]);
            }
        }
        if sizes.iter().all(|&size| size == 0) {
            return Ok(None);
        }
        let mut rings = Vec::with_capacity(count);
        for bytes in sizes.into_iter().map(|size| size.next_multiple_of(PAGE)) {
            let ring = (bytes > 0).then(|| PinnedMemory::new(gpu, bytes, false, false));
            let ring = ring.transpose().map_err(|failure| {
                let asked = Bytes::new(bytes).human();
                Error::Run(format!(
                    "{asked} of page-locked memory for reads from disk were refused: {failure}"
                ))
            })?;
            rings.push(ring.map(|ring| (ring, bytes)));
        }
        let mut numbers = PinnedMemory::new(gpu, 4 * LANES as u64, true, false)?;
        numbers.bytes_mut().fill(0);
        let seen_by_device = numbers.device_address()?;
        Ok(Some(Self { rings, numbers, seen_by_device }))
    }

    /// Page-locked memory that the rings take.
    pub fn locked(&self) -> Bytes {
        self.rings.iter().flatten().map(|(_, bytes)| Bytes::new(*bytes)).sum()
    }

    fn number(&self, lane: usize) -> &AtomicU32 {
        // SAFETY: aligned, inside an allocation that lives as long as `self`; the device writes whole numbers.
        unsafe { AtomicU32::from_ptr(self.numbers.address().cast::<u32>().wrapping_add(lane)) }
    }
}

/// One read that was issued.
pub(super) struct Job {
    /// Its number on the disk lane.
    pub number: u64,
    /// What is read: component, block, piece.
    pub of: usize,
    pub block: usize,
    pub piece: usize,
    /// Where to in the component's ring.
    pub at: u64,
    /// Whether its use is left out: nothing is read, in its turn.
    pub left_out: bool,
    /// By lane, how many of its operations must have ended.
    pub after: Vec<(Lane, u64)>,
}

/// What the issuing thread and the reader share in one run.
pub(super) struct Disk<'a> {
    images: &'a [ComponentImage],
    weights: &'a dyn Weights,
    /// By lane: operations that have ended.
    numbers: [&'a AtomicU32; LANES],
    seen_by_device: Device,
    rings: Rings,
    jobs: Mutex<VecDeque<Job>>,
    asked: Condvar,
    stop: AtomicBool,
    failed: Mutex<Option<Error>>,
    has_failed: AtomicBool,
    /// By number of the read: its start and end, until they are taken.
    times: Mutex<BTreeMap<u64, (Instant, Instant)>>,
}

/// The rings, for the reader: the first byte and the size of each.
struct Rings(Vec<Option<(*mut u8, u64)>>);

// SAFETY: addresses of page-locked memory that outlives the reader. A stretch is written by the reader alone, after the
// copies from it that the program has it wait for, and read by the device alone, after the reader's number says so.
unsafe impl Send for Rings {}
// SAFETY: as above; only the one reader writes through it.
unsafe impl Sync for Rings {}

impl Rings {
    /// So many bytes of a ring; none where it has not got them.
    fn at(&self, of: usize, at: u64, bytes: u64) -> Option<*mut u8> {
        let (start, size) = (*self.0.get(of)?)?;
        let end = at.checked_add(bytes)?;
        (end <= size).then_some(start.wrapping_add(usize::try_from(at).ok()?))
    }
}

impl<'a> Disk<'a> {
    /// All numbers are zero again.
    pub fn new(
        staging: &'a Staging,
        images: &'a [ComponentImage],
        weights: &'a dyn Weights,
    ) -> Self {
        let numbers: [&AtomicU32; LANES] = std::array::from_fn(|lane| staging.number(lane));
        for number in numbers {
            number.store(0, Ordering::Release);
        }
        let rings = staging.rings.iter();
        let rings = rings.map(|ring| ring.as_ref().map(|(memory, size)| (memory.address(), *size)));
        Self {
            images,
            weights,
            numbers,
            seen_by_device: staging.seen_by_device,
            rings: Rings(rings.collect()),
            jobs: Mutex::default(),
            asked: Condvar::new(),
            stop: AtomicBool::new(false),
            failed: Mutex::new(None),
            has_failed: AtomicBool::new(false),
            times: Mutex::new(BTreeMap::new()),
        }
    }

    /// Where a piece from disk lies in its ring in a pass.
    pub fn address(&self, phase: &Phase, place: &Place, pass: u32) -> Option<*mut u8> {
        let (from, to) = place.host_range(pass)?;
        self.rings.at(phase.of, from, to - from)
    }

    fn device(&self, lane: Lane) -> Device {
        self.seen_by_device.plus(4 * lane.index() as u64)
    }

    /// The stream goes on when the n-th read has ended.
    pub fn await_read(&self, stream: &Stream, number: u64) -> Result<()> {
        stream.wait_value(self.device(Lane::Disk), counted(number + 1))
    }

    /// The stream says how many operations of its lane have ended.
    pub fn ended(&self, stream: &Stream, lane: Lane, count: u64) -> Result<()> {
        stream.write_value(self.device(lane), counted(count))
    }

    /// Lets every stream go on, whatever it waits for.
    pub fn abandon(&self) {
        self.numbers[Lane::Disk.index()].store(HIGHEST, Ordering::Release);
    }

    /// Asks for a read.
    pub fn ask(&self, job: Job) {
        lock(&self.jobs).push_back(job);
        self.asked.notify_one();
    }

    /// Reads what is asked for, in order, until it is stopped. Runs on a thread of its own.
    pub fn serve(&self) {
        while let Some(job) = self.next_job() {
            if !self.until(&job) || self.has_failed.load(Ordering::Acquire) {
                continue;
            }
            let start = clock::host_now();
            if let Err(error) = self.read(&job) {
                lock(&self.failed).get_or_insert(error);
                self.has_failed.store(true, Ordering::Release);
                self.abandon();
                continue;
            }
            lock(&self.times).insert(job.number, (start, clock::host_now()));
            // Whoever abandoned the run has set it as high as it goes.
            let (before, after) = (counted(job.number), counted(job.number + 1));
            let ended = self.numbers[Lane::Disk.index()];
            let _ = ended.compare_exchange(before, after, Ordering::AcqRel, Ordering::Acquire);
        }
    }

    /// Waits for a job; none once it is stopped.
    fn next_job(&self) -> Option<Job> {
        let mut jobs = lock(&self.jobs);
        loop {
            if self.stop.load(Ordering::Acquire) {
                return None;
            }
            match jobs.pop_front() {
                Some(job) => return Some(job),
                None => jobs = self.asked.wait(jobs).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    /// Waits until a job may begin; false where the run is over.
    fn until(&self, job: &Job) -> bool {
        for &(lane, least) in &job.after {
            while self.numbers[lane.index()].load(Ordering::Acquire) < counted(least) {
                if self.stop.load(Ordering::Acquire) {
                    return false;
                }
                nap();
            }
        }
        !self.stop.load(Ordering::Acquire)
    }

    fn read(&self, job: &Job) -> Result<()> {
        if job.left_out {
            return Ok(());
        }
        let image = &self.images[job.of];
        let block = &image.blocks[job.block];
        let piece = &block.pieces[job.piece];
        let Some(start) = self.rings.at(job.of, job.at, piece.bytes()) else {
            return Err(Error::Internal("a read outside of its ring".to_owned()));
        };
        let mut into = {
            let length = usize::try_from(piece.bytes()).unwrap_or(0);
            // SAFETY: inside one ring, which was just compared; no copy reads it and nobody else writes it until this
            // read has ended, by the program's proof.
            unsafe { std::slice::from_raw_parts_mut(start, length) }
        };
        for range in &piece.ranges {
            let length = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
            let (now, rest) = into.split_at_mut(length.min(into.len()));
            into = rest;
            let component = &image.component;
            self.weights.read(Stretch { component, block, offset: range.start }, now)?;
        }
        Ok(())
    }

    /// The first read that failed.
    pub fn failure(&self) -> Option<Error> {
        lock(&self.failed).take()
    }

    /// When a read ran; those before it are forgotten.
    pub fn times(&self, number: u64) -> Option<(Instant, Instant)> {
        let mut times = lock(&self.times);
        let mut from_here = times.split_off(&number);
        let found = from_here.remove(&number);
        *times = from_here;
        found
    }

    /// The reader stops as soon as it can.
    pub fn stop(&self) {
        let jobs = lock(&self.jobs);
        self.stop.store(true, Ordering::Release);
        drop(jobs);
        self.asked.notify_one();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Operations that have ended, as the device writes it.
fn counted(operations: u64) -> u32 {
    u32::try_from(operations).unwrap_or(u32::MAX)
}

fn nap() {
    std::thread::sleep(NAP);
}
