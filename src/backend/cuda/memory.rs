//! Turns sizes into owned memory: plain allocations on the device, page-locked ones on the host.

#![expect(unsafe_code, reason = "calls the driver; every call's demands stand beside it")]

use std::ffi::c_void;
use std::rc::Rc;

use cudarc::driver::sys::CUdeviceptr;

use super::gpu::{Gpu, Outcome};

/// An address in the device's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Device(pub CUdeviceptr);

impl Device {
    /// So many bytes further on.
    pub fn plus(self, bytes: u64) -> Self {
        Self(self.0 + bytes)
    }
}

/// A plain allocation of device memory.
pub(super) struct DeviceMemory {
    gpu: Rc<Gpu>,
    address: CUdeviceptr,
}

impl DeviceMemory {
    /// Allocates at once, not from a pool, so that the driver's count and ours agree.
    pub fn new(gpu: &Rc<Gpu>, bytes: u64) -> Outcome<Self> {
        let mut address: CUdeviceptr = 0;
        let size = usize::try_from(bytes.max(1)).unwrap_or(usize::MAX);
        // SAFETY: a place for one address.
        let status = unsafe { (gpu.driver.memory.alloc)(&raw mut address, size) };
        gpu.driver.check("cuMemAlloc", status)?;
        Ok(Self { gpu: gpu.born(), address })
    }

    /// Its first byte.
    pub fn start(&self) -> Device {
        Device(self.address)
    }
}

impl Drop for DeviceMemory {
    fn drop(&mut self) {
        // SAFETY: allocated in `new`, freed once; the driver waits for work that uses it.
        unsafe { (self.gpu.driver.memory.free)(self.address) };
        self.gpu.died();
    }
}

/// An allocation of page-locked host memory.
pub(super) struct PinnedMemory {
    gpu: Rc<Gpu>,
    address: *mut u8,
    bytes: usize,
}

impl PinnedMemory {
    /// Allocates. The driver maps pages that the operating system has filled, so the bytes are some bytes; which
    /// ones is not known. `mapped` makes it readable by kernels, `write_combined` faster to
    /// copy from on some machines and very slow to read.
    pub fn new(gpu: &Rc<Gpu>, bytes: u64, mapped: bool, write_combined: bool) -> Outcome<Self> {
        const MAPPED: u32 = 2;
        const WRITE_COMBINED: u32 = 4;
        let mut address: *mut c_void = std::ptr::null_mut();
        let size = usize::try_from(bytes.max(1)).unwrap_or(usize::MAX);
        let flags =
            if mapped { MAPPED } else { 0 } | if write_combined { WRITE_COMBINED } else { 0 };
        // SAFETY: a place for one address.
        let status = unsafe { (gpu.driver.memory.alloc_host)(&raw mut address, size, flags) };
        gpu.driver.check("cuMemHostAlloc", status)?;
        Ok(Self { gpu: gpu.born(), address: address.cast(), bytes: size })
    }

    /// Its first byte.
    pub fn address(&self) -> *mut u8 {
        self.address
    }

    /// Where kernels find it.
    pub fn device_address(&self) -> Outcome<Device> {
        let mut address: CUdeviceptr = 0;
        let memory = &self.gpu.driver.memory;
        // SAFETY: a place for one address, and the start of a mapped allocation.
        let status = unsafe { (memory.device_address)(&raw mut address, self.address.cast(), 0) };
        self.gpu.driver.check("cuMemHostGetDevicePointer", status)?;
        Ok(Device(address))
    }

    /// All of it, while no copy uses it: the caller has waited for every stream.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: owned, see `new`, and exclusively borrowed.
        unsafe { std::slice::from_raw_parts_mut(self.address, self.bytes) }
    }

    /// All of it, for reading.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: owned, see `new`. Copies into it are waited for before anyone looks.
        unsafe { std::slice::from_raw_parts(self.address, self.bytes) }
    }
}

impl Drop for PinnedMemory {
    fn drop(&mut self) {
        // SAFETY: allocated in `new`, freed once; the driver waits for work that uses it.
        unsafe { (self.gpu.driver.memory.free_host)(self.address.cast()) };
        self.gpu.died();
    }
}
