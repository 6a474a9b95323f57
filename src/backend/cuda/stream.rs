//! Turns queued work into order: streams, and the events that they wait for and that carry times.

#![expect(unsafe_code, reason = "calls the driver; every call's demands stand beside it")]

use std::rc::Rc;

use cudarc::driver::sys::{CUevent, CUstream};

use super::driver::{Driver, unavailable};
use super::gpu::{Gpu, Outcome};
use super::memory::Device;
use crate::error::Result;

/// A stream of the device: what is put into it happens in that order.
pub(super) struct Stream {
    gpu: Rc<Gpu>,
    handle: CUstream,
}

/// How urgent a stream's work is, against that of other streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Priority {
    Least,
    Greatest,
}

impl Stream {
    /// A stream that does not wait for the default stream.
    pub fn new(gpu: &Rc<Gpu>, priority: Priority) -> Outcome<Self> {
        const NON_BLOCKING: u32 = 1;
        let driver = gpu.driver;
        let (mut least, mut greatest) = (0, 0);
        // SAFETY: places for two integers.
        let status = unsafe { (driver.stream.priorities)(&raw mut least, &raw mut greatest) };
        driver.check("cuCtxGetStreamPriorityRange", status)?;
        let level = if priority == Priority::Greatest { greatest } else { least };
        let mut handle: CUstream = std::ptr::null_mut();
        // SAFETY: a place for one handle.
        let status = unsafe { (driver.stream.create)(&raw mut handle, NON_BLOCKING, level) };
        driver.check("cuStreamCreateWithPriority", status)?;
        Ok(Self { gpu: gpu.born(), handle })
    }

    /// Waits until everything in it has ended.
    pub fn synchronise(&self) -> Outcome<()> {
        // SAFETY: the stream lives.
        let status = unsafe { (self.gpu.driver.stream.synchronise)(self.handle) };
        self.gpu.driver.check("cuStreamSynchronize", status)
    }

    /// What follows in this stream waits for the event as it was recorded last.
    pub fn wait(&self, event: &Event) -> Outcome<()> {
        // SAFETY: stream and event live.
        let status = unsafe { (self.gpu.driver.stream.wait)(self.handle, event.handle, 0) };
        self.gpu.driver.check("cuStreamWaitEvent", status)
    }

    /// Marks this point of the stream.
    pub fn record(&self, event: &Event) -> Outcome<()> {
        // SAFETY: stream and event live.
        let status = unsafe { (self.gpu.driver.stream.record)(event.handle, self.handle) };
        self.gpu.driver.check("cuEventRecord", status)
    }

    /// Copies to the device.
    ///
    /// # Safety
    ///
    /// Until the copy has ended, `from` must stay allocated and unwritten, and nothing may use `to` that this
    /// stream and events do not order.
    pub unsafe fn to_device(&self, to: Device, from: *const u8, bytes: usize) -> Outcome<()> {
        let memory = &self.gpu.driver.memory;
        // SAFETY: the caller's promise.
        let status = unsafe { (memory.to_device)(to.0, from.cast(), bytes, self.handle) };
        self.gpu.driver.check("cuMemcpyHtoDAsync", status)
    }

    /// Copies to the host.
    ///
    /// # Safety
    ///
    /// As for [`Stream::to_device`], with the ends exchanged.
    pub unsafe fn to_host(&self, to: *mut u8, from: Device, bytes: usize) -> Outcome<()> {
        let memory = &self.gpu.driver.memory;
        // SAFETY: the caller's promise.
        let status = unsafe { (memory.to_host)(to.cast(), from.0, bytes, self.handle) };
        self.gpu.driver.check("cuMemcpyDtoHAsync", status)
    }

    /// What follows waits until the number at an address of mapped memory is this large.
    pub fn wait_value(&self, at: Device, least: u32) -> Result<()> {
        const AT_LEAST: u32 = 0;
        let table = self.gpu.driver.value().map_err(|missing| unavailable(missing.to_owned()))?;
        // SAFETY: the stream lives; four bytes of mapped memory that outlives what is queued.
        let status = unsafe { (table.wait)(self.handle, at.0, least, AT_LEAST) };
        Ok(self.gpu.driver.check("cuStreamWaitValue32", status)?)
    }

    /// Writes a number to an address of mapped memory once everything before has ended.
    pub fn write_value(&self, at: Device, value: u32) -> Result<()> {
        let table = self.gpu.driver.value().map_err(|missing| unavailable(missing.to_owned()))?;
        // SAFETY: as above.
        let status = unsafe { (table.write)(self.handle, at.0, value, 0) };
        Ok(self.gpu.driver.check("cuStreamWriteValue32", status)?)
    }

    /// Writes one byte everywhere.
    pub fn fill(&self, to: Device, value: u8, bytes: usize) -> Outcome<()> {
        // SAFETY: the driver refuses addresses that are not allocated.
        let status = unsafe { (self.gpu.driver.memory.fill)(to.0, value, bytes, self.handle) };
        self.gpu.driver.check("cuMemsetD8Async", status)
    }

    pub fn handle(&self) -> CUstream {
        self.handle
    }

    pub fn driver(&self) -> &'static Driver {
        self.gpu.driver
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // SAFETY: made in `new`, destroyed once; the driver lets what is queued run out.
        unsafe { (self.gpu.driver.stream.destroy)(self.handle) };
        self.gpu.died();
    }
}

/// A point of a stream that others wait for, and that may carry a time.
pub(super) struct Event {
    gpu: Rc<Gpu>,
    handle: CUevent,
    /// Whether it carries times.
    pub timing: bool,
}

impl Event {
    /// An event; without a time it costs the device less.
    pub fn new(gpu: &Rc<Gpu>, timing: bool) -> Outcome<Self> {
        const DISABLE_TIMING: u32 = 2;
        let mut handle: CUevent = std::ptr::null_mut();
        let flags = if timing { 0 } else { DISABLE_TIMING };
        // SAFETY: a place for one handle.
        let status = unsafe { (gpu.driver.stream.create_event)(&raw mut handle, flags) };
        gpu.driver.check("cuEventCreate", status)?;
        Ok(Self { gpu: gpu.born(), handle, timing })
    }

    /// Holds the host until the event as it was recorded last is reached.
    pub fn synchronise(&self) -> Outcome<()> {
        // SAFETY: the event lives.
        let status = unsafe { (self.gpu.driver.stream.await_event)(self.handle) };
        self.gpu.driver.check("cuEventSynchronize", status)
    }

    /// Milliseconds from this event to a later one; both must have been reached.
    pub fn elapsed_ms(&self, end: &Self) -> Outcome<f32> {
        let mut milliseconds = 0.0;
        // SAFETY: a place for one float, and two live events.
        let status = unsafe {
            (self.gpu.driver.stream.elapsed)(&raw mut milliseconds, self.handle, end.handle)
        };
        self.gpu.driver.check("cuEventElapsedTime", status)?;
        Ok(milliseconds)
    }

    pub fn handle(&self) -> CUevent {
        self.handle
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: made in `new`, destroyed once; waits that were issued keep what they need.
        unsafe { (self.gpu.driver.stream.destroy_event)(self.handle) };
        self.gpu.died();
    }
}
