//! Turns PTX into code on the device, and arguments into launches of it.

#![expect(unsafe_code, reason = "calls the driver; every call's demands stand beside it")]

use std::ffi::CStr;
use std::rc::Rc;

use cudarc::driver::sys::{CUfunction, CUmodule};

use super::gpu::{Gpu, Outcome};
use super::stream::Stream;

/// Code on the device.
pub(super) struct Module {
    gpu: Rc<Gpu>,
    handle: CUmodule,
}

/// A kernel of a module.
#[derive(Clone, Copy)]
pub(super) struct Function(CUfunction);

impl Module {
    /// Compiles PTX for this device.
    pub fn load(gpu: &Rc<Gpu>, ptx: &CStr) -> Outcome<Self> {
        let mut handle: CUmodule = std::ptr::null_mut();
        // SAFETY: PTX text that ends with a NUL.
        let status = unsafe { (gpu.driver.kernel.load)(&raw mut handle, ptx.as_ptr().cast()) };
        gpu.driver.check("cuModuleLoadData", status)?;
        Ok(Self { gpu: gpu.born(), handle })
    }

    /// A kernel by its name.
    pub fn function(&self, name: &CStr) -> Outcome<Function> {
        let mut function: CUfunction = std::ptr::null_mut();
        let kernel = &self.gpu.driver.kernel;
        // SAFETY: a place for one handle, and a C string.
        let status = unsafe { (kernel.function)(&raw mut function, self.handle, name.as_ptr()) };
        self.gpu.driver.check("cuModuleGetFunction", status)?;
        Ok(Function(function))
    }

    /// Launches a kernel of this module.
    ///
    /// # Safety
    ///
    /// The arguments must be what the kernel takes, all of them 64 bits wide, and the memory they point to must
    /// be allocated until it has ended and used by nothing that this stream and events do not order.
    pub unsafe fn launch<const N: usize>(
        &self,
        function: Function,
        stream: &Stream,
        (blocks, threads): (u32, u32),
        mut arguments: [u64; N],
    ) -> Outcome<()> {
        let mut pointers = arguments.each_mut().map(|argument| (&raw mut *argument).cast());
        let kernel = &self.gpu.driver.kernel;
        // SAFETY: the caller's promise; the driver copies the arguments before it returns.
        let status = unsafe {
            (kernel.launch)(
                function.0,
                blocks,
                1,
                1,
                threads,
                1,
                1,
                0,
                stream.handle(),
                pointers.as_mut_ptr(),
                std::ptr::null_mut(),
            )
        };
        self.gpu.driver.check("cuLaunchKernel", status)
    }
}

impl Drop for Module {
    fn drop(&mut self) {
        // SAFETY: loaded once, unloaded once, after the streams that use it were synchronised.
        unsafe { (self.gpu.driver.kernel.unload)(self.handle) };
        self.gpu.died();
    }
}
