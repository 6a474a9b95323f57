//! Turns the PTX that is carried in the binary into kernels of a device.

#![expect(unsafe_code, reason = "launches kernels; what they demand stands beside each launch")]

use std::ffi::CString;
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::digest::CHUNK;
use super::gpu::{Gpu, Outcome};
use super::memory::{Device, DeviceMemory, PinnedMemory};
use super::module::{Function, Module};
use super::stream::{Priority, Stream};
use crate::error::{Error, Result};
use crate::units::Nanos;

/// The kernels' text; also what the interpreter of the tests runs.
pub const PTX: &str = include_str!("kernels.ptx");

/// Threads of a block.
const THREADS: u32 = 256;

/// Blocks of threads that read memory at full rate: enough for the largest GPU of today, eight on each of 160
/// multiprocessors.
const TOUCH_BLOCKS: u64 = 1_280;

/// Bytes that kernels may write to without consequence.
const SINK: u64 = 256;

/// How long a gate stays closed at most, so that no error of the host hangs the GPU.
const GATE_TIMEOUT: u64 = 5_000_000_000;

/// The kernels of one device.
pub(super) struct Kernels {
    module: Module,
    spin: Function,
    touch: Function,
    digest: Function,
    gate: Function,
    /// Where `touch` writes what it never does.
    sink: DeviceMemory,
}

impl Kernels {
    /// Compiles them for the device.
    pub fn new(gpu: &Rc<Gpu>) -> Result<Self> {
        let ptx = CString::new(PTX).map_err(|_| Error::Internal("PTX with a NUL".to_owned()))?;
        let module = Module::load(gpu, &ptx)?;
        let kernels = Self {
            spin: module.function(c"vramplan_spin")?,
            touch: module.function(c"vramplan_touch")?,
            digest: module.function(c"vramplan_digest")?,
            gate: module.function(c"vramplan_gate")?,
            sink: DeviceMemory::new(gpu, SINK)?,
            module,
        };
        kernels.warm_up(gpu)?;
        Ok(kernels)
    }

    /// Runs every kernel once: drivers load code at its first launch, which would wait behind a closed gate and count
    /// into the first pass.
    fn warm_up(&self, gpu: &Rc<Gpu>) -> Result<()> {
        let (stream, gate) = (Stream::new(gpu, Priority::Least)?, Gate::new(gpu)?);
        let sink = self.sink.start();
        stream.fill(sink, 0, usize::try_from(SINK).unwrap_or(0))?;
        gate.open();
        self.close(&stream, &gate)?;
        self.spin(&stream, Nanos::new(1))?;
        self.touch(&stream, sink, SINK)?;
        self.digest(&stream, (sink, SINK / 2), 0, sink.plus(SINK / 2))?;
        Ok(stream.synchronise()?)
    }

    /// Lasts so long.
    pub fn spin(&self, stream: &Stream, time: Nanos) -> Outcome<()> {
        // SAFETY: takes nanoseconds, touches no memory.
        unsafe { self.module.launch(self.spin, stream, (1, 1), [time.get()]) }
    }

    /// Reads every byte once.
    pub fn touch(&self, stream: &Stream, data: Device, bytes: u64) -> Outcome<()> {
        if bytes == 0 {
            return Ok(());
        }
        let wanted = bytes.div_ceil(16 * u64::from(THREADS)).clamp(1, TOUCH_BLOCKS);
        let blocks = u32::try_from(wanted).unwrap_or(1);
        let arguments = [data.0, bytes, self.sink.start().0];
        // SAFETY: reads the caller's stretch of owned device memory; the sink lives as long as the kernels.
        unsafe { self.module.launch(self.touch, stream, (blocks, THREADS), arguments) }
    }

    /// Adds the digests of the chunks of a stretch, which lies at `offset` of its image, to the numbers at `out`.
    pub fn digest(
        &self,
        stream: &Stream,
        (data, bytes): (Device, u64),
        offset: u64,
        out: Device,
    ) -> Outcome<()> {
        if bytes == 0 {
            return Ok(());
        }
        let blocks = u32::try_from(bytes.div_ceil(CHUNK)).unwrap_or(u32::MAX);
        let arguments = [data.0, bytes, offset, CHUNK, out.0];
        // SAFETY: reads the caller's stretch of owned device memory and adds to one number per chunk, which the
        // caller has room for.
        unsafe { self.module.launch(self.digest, stream, (blocks, THREADS), arguments) }
    }

    /// Holds the stream until the gate is opened.
    pub fn close(&self, stream: &Stream, gate: &Gate) -> Outcome<()> {
        let flag = gate.memory.device_address()?;
        // SAFETY: reads four bytes of mapped memory that the gate owns; whoever drops the gate has waited for the
        // stream.
        unsafe { self.module.launch(self.gate, stream, (1, 1), [flag.0, GATE_TIMEOUT]) }
    }
}

/// A flag in page-locked memory on which the device waits, so that what is queued behind starts all at once.
pub(super) struct Gate {
    memory: PinnedMemory,
}

impl Gate {
    /// A closed gate.
    pub fn new(gpu: &Rc<Gpu>) -> Outcome<Self> {
        let gate = Self { memory: PinnedMemory::new(gpu, 4, true, false)? };
        gate.set(0);
        Ok(gate)
    }

    /// Closes it for the next use.
    pub fn reset(&self) {
        self.set(0);
    }

    /// Lets everything behind it go.
    pub fn open(&self) {
        self.set(1);
    }

    fn set(&self, value: u32) {
        // SAFETY: the allocation is page-aligned, at least four bytes long, and lives; the device only reads.
        let flag = unsafe { AtomicU32::from_ptr(self.memory.address().cast()) };
        flag.store(value, Ordering::Release);
    }
}
