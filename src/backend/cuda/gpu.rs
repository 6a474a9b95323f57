//! Turns a GPU's index into a context in which memory, streams and events are made, all of them owned.
//!
//! Every owner gives back what it holds when it is dropped, also after an error, and is counted on both ways:
//! [`Gpu::live`] is zero when nothing has leaked.

#![expect(unsafe_code, reason = "calls the driver; every call's demands stand beside it")]

use std::cell::Cell;
use std::ffi::{CStr, c_char, c_int};
use std::rc::Rc;

use cudarc::driver::sys::{CUcontext, CUdevice, CUdevice_attribute as Attribute};

use super::driver::{Driver, Failure, Status, unavailable};
use crate::error::{Error, Result};
use crate::units::Bytes;

/// What the driver's call gives, or how it failed.
pub(super) type Outcome<T> = std::result::Result<T, Failure>;

/// Part of the name of the driver that stands in for a GPU in tests.
const STAND_IN: &str = "stand-in";

/// A GPU with its primary context, current on the thread that opened it.
pub struct Gpu {
    pub(super) driver: &'static Driver,
    device: CUdevice,
    context: CUcontext,
    /// The device's name as its driver gives it.
    name: String,
    live: Cell<u64>,
    made: Cell<u64>,
}

impl std::fmt::Debug for Gpu {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gpu").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Gpu {
    /// Opens a GPU by its index. Fails with [`Error::Backend`] where there is no driver or no GPU, with
    /// [`Error::Usage`] where there are GPUs, but not this one. The driver that stands in for a GPU in tests is
    /// refused unless `stand_in` allows it.
    pub fn open(index: u32, stand_in: bool) -> Result<Rc<Self>> {
        let driver = Driver::get()?;
        let refuse = |failure: Failure| unavailable(failure.to_string());
        // SAFETY: no demands; may be called again.
        driver.check("cuInit", unsafe { (driver.device.init)(0) }).map_err(refuse)?;
        let count = int(driver, "cuDeviceGetCount", |place| {
            // SAFETY: a place for one integer.
            unsafe { (driver.device.count)(place) }
        });
        let count = count.map_err(refuse)?;
        if i64::from(index) >= i64::from(count) {
            let message = match count {
                0 => return Err(unavailable("the driver knows no GPU".to_owned())),
                1 => format!("--gpu {index}: this machine has one GPU, number 0"),
                _ => format!("--gpu {index}: this machine has {count} GPUs, 0 to {}", count - 1),
            };
            return Err(Error::usage(message));
        }
        let ordinal = c_int::try_from(index).unwrap_or(c_int::MAX);
        let device = int(driver, "cuDeviceGet", |place| {
            // SAFETY: a place for one device, which is an integer.
            unsafe { (driver.device.get)(place, ordinal) }
        });
        let device = device.map_err(refuse)?;
        let name = text(driver, "cuDeviceGetName", driver.device.name, device).map_err(refuse)?;
        if name.contains(STAND_IN) && !stand_in {
            let message = format!("the driver library found is a test's {name:?}, not a GPU's");
            return Err(unavailable(message));
        }
        let mut context: CUcontext = std::ptr::null_mut();
        // SAFETY: a place for one handle; released when `Gpu` is dropped.
        let status = unsafe { (driver.device.retain)(&raw mut context, device) };
        driver.check("cuDevicePrimaryCtxRetain", status)?;
        let gpu = Self { driver, device, context, name, live: Cell::new(0), made: Cell::new(0) };
        // SAFETY: the context is retained for as long as `gpu` lives.
        let status = unsafe { (driver.device.set_current)(gpu.context) };
        driver.check("cuCtxSetCurrent", status)?;
        Ok(Rc::new(gpu))
    }

    /// The device's name as its driver gives it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether this is the tests' stand-in.
    pub fn is_stand_in(&self) -> bool {
        self.name.contains(STAND_IN)
    }

    /// The newest version of CUDA that the driver supports, such as `12.8`.
    pub fn driver_version(&self) -> String {
        let version = int(self.driver, "cuDriverGetVersion", |place| {
            // SAFETY: a place for one integer.
            unsafe { (self.driver.device.version)(place) }
        });
        version.map_or_else(|_| "unknown".to_owned(), |v| format!("{}.{}", v / 1000, v % 1000 / 10))
    }

    /// All memory of the device.
    pub fn total_memory(&self) -> Result<Bytes> {
        let mut bytes = 0usize;
        // SAFETY: a place for one size.
        let status = unsafe { (self.driver.device.total)(&raw mut bytes, self.device) };
        self.driver.check("cuDeviceTotalMem", status)?;
        Ok(Bytes::new(bytes as u64))
    }

    /// Memory that is free now, whoever uses the rest; and all of it.
    pub fn memory_now(&self) -> Result<(Bytes, Bytes)> {
        let (mut free, mut total) = (0usize, 0usize);
        // SAFETY: places for two sizes; the context is current.
        let status = unsafe { (self.driver.memory.info)(&raw mut free, &raw mut total) };
        self.driver.check("cuMemGetInfo", status)?;
        Ok((Bytes::new(free as u64), Bytes::new(total as u64)))
    }

    /// An attribute of the device; 0 where the driver does not know it.
    pub(super) fn attribute(&self, which: Attribute) -> u64 {
        let value = int(self.driver, "cuDeviceGetAttribute", |place| {
            // SAFETY: a place for one integer, and an attribute of the driver's header.
            unsafe { (self.driver.device.attribute)(place, which, self.device) }
        });
        value.map_or(0, |value| u64::try_from(value).unwrap_or(0))
    }

    /// The device's place on the bus as the operating system writes it: `0000:01:00.0`.
    pub fn pci_id(&self) -> Option<String> {
        let id = text(self.driver, "cuDeviceGetPCIBusId", self.driver.device.pci_id, self.device);
        id.ok().map(|id| id.to_lowercase())
    }

    /// Owners that were made, and those of them not yet dropped.
    pub fn live(&self) -> (u64, u64) {
        (self.made.get(), self.live.get())
    }

    /// An owner is made; it keeps the context.
    pub(super) fn born(self: &Rc<Self>) -> Rc<Self> {
        self.live.set(self.live.get() + 1);
        self.made.set(self.made.get() + 1);
        Rc::clone(self)
    }

    /// An owner is dropped.
    pub(super) fn died(&self) {
        self.live.set(self.live.get().saturating_sub(1));
    }
}

impl Drop for Gpu {
    fn drop(&mut self) {
        // SAFETY: retained in `open`; everything made in the context held a reference to it and is gone.
        unsafe { (self.driver.device.release)(self.device) };
    }
}

fn int(
    driver: &Driver,
    call: &'static str,
    read: impl FnOnce(*mut c_int) -> Status,
) -> Outcome<c_int> {
    let mut value = 0;
    driver.check(call, read(&raw mut value))?;
    Ok(value)
}

type TextOf = unsafe extern "C" fn(*mut c_char, c_int, CUdevice) -> Status;

fn text(driver: &Driver, call: &'static str, of: TextOf, device: CUdevice) -> Outcome<String> {
    const LONGEST: usize = 256;
    let mut bytes = [0u8; LONGEST + 1];
    // SAFETY: room for so many characters; the one after them stays zero.
    let status = unsafe { of(bytes.as_mut_ptr().cast(), 256, device) };
    driver.check(call, status)?;
    let text = CStr::from_bytes_until_nul(&bytes).unwrap_or_default();
    Ok(text.to_string_lossy().into_owned())
}
