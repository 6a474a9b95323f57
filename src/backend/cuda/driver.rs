//! Turns the driver library into a table of functions, and its status numbers into errors: the only place where
//! driver functions are named.
//!
//! cudarc finds and opens the library and gives the types of its arguments. Its own functions are not called:
//! they panic when a symbol is missing, and turn a status that is newer than the binding into an invalid enum.
//! Here all symbols are looked up once, a missing one is an error that names it, and a status is a number.

#![expect(unsafe_code, reason = "looks functions up in the driver library; calls nothing")]

use std::ffi::{CStr, c_char, c_int, c_uchar, c_uint, c_ulonglong, c_void};
use std::fmt;
use std::sync::OnceLock;

use cudarc::driver::sys::{
    self, CUcontext, CUdevice, CUdevice_attribute, CUdeviceptr, CUevent, CUfunction, CUgraph,
    CUgraphExec, CUmodule, CUstream,
};

use crate::error::{Error, Result};

/// What a driver function returns; 0 is success.
pub(super) type Status = c_int;

/// Declares the table: one field per function, its symbol, its arguments.
macro_rules! table {
    ($($field:ident: $symbol:literal($($argument:ty),*);)*) => {
        /// The driver's functions.
        pub(in crate::backend::cuda) struct Table {
            $(pub $field: unsafe extern "C" fn($($argument),*) -> Status,)*
        }

        impl Table {
            /// Looks all symbols up; the names of those that are missing otherwise.
            pub fn load() -> std::result::Result<Self, Vec<&'static str>> {
                // SAFETY: the library was found to be there, so this does not panic; opening it a second time
                // runs no initialiser again.
                let library = unsafe { sys::culib() };
                let mut missing = Vec::new();
                $(
                    // SAFETY: the type is the one that the driver's header declares for this symbol.
                    let $field = unsafe {
                        library.get::<unsafe extern "C" fn($($argument),*) -> Status>(
                            concat!($symbol, "\0").as_bytes(),
                        )
                    };
                    if $field.is_err() {
                        missing.push($symbol);
                    }
                )*
                match ($($field,)*) {
                    ($(Ok($field),)*) => Ok(Self { $($field: *$field,)* }),
                    _ => Err(missing),
                }
            }
        }
    };
}

/// Splits the table: a tuple of all functions would be too long for one pattern.
macro_rules! tables {
    ($($name:ident { $($body:tt)* })*) => { $(pub(super) mod $name { use super::*; table! { $($body)* } })* };
}

tables! {
    device {
        init: "cuInit"(c_uint);
        version: "cuDriverGetVersion"(*mut c_int);
        count: "cuDeviceGetCount"(*mut c_int);
        get: "cuDeviceGet"(*mut CUdevice, c_int);
        name: "cuDeviceGetName"(*mut c_char, c_int, CUdevice);
        total: "cuDeviceTotalMem_v2"(*mut usize, CUdevice);
        attribute: "cuDeviceGetAttribute"(*mut c_int, CUdevice_attribute, CUdevice);
        pci_id: "cuDeviceGetPCIBusId"(*mut c_char, c_int, CUdevice);
        retain: "cuDevicePrimaryCtxRetain"(*mut CUcontext, CUdevice);
        release: "cuDevicePrimaryCtxRelease_v2"(CUdevice);
        set_current: "cuCtxSetCurrent"(CUcontext);
        error_name: "cuGetErrorName"(Status, *mut *const c_char);
        error_text: "cuGetErrorString"(Status, *mut *const c_char);
    }
    memory {
        info: "cuMemGetInfo_v2"(*mut usize, *mut usize);
        alloc: "cuMemAlloc_v2"(*mut CUdeviceptr, usize);
        free: "cuMemFree_v2"(CUdeviceptr);
        alloc_host: "cuMemHostAlloc"(*mut *mut c_void, usize, c_uint);
        free_host: "cuMemFreeHost"(*mut c_void);
        device_address: "cuMemHostGetDevicePointer_v2"(*mut CUdeviceptr, *mut c_void, c_uint);
        to_device: "cuMemcpyHtoDAsync_v2"(CUdeviceptr, *const c_void, usize, CUstream);
        to_host: "cuMemcpyDtoHAsync_v2"(*mut c_void, CUdeviceptr, usize, CUstream);
        fill: "cuMemsetD8Async"(CUdeviceptr, c_uchar, usize, CUstream);
    }
    stream {
        priorities: "cuCtxGetStreamPriorityRange"(*mut c_int, *mut c_int);
        create: "cuStreamCreateWithPriority"(*mut CUstream, c_uint, c_int);
        destroy: "cuStreamDestroy_v2"(CUstream);
        synchronise: "cuStreamSynchronize"(CUstream);
        wait: "cuStreamWaitEvent"(CUstream, CUevent, c_uint);
        create_event: "cuEventCreate"(*mut CUevent, c_uint);
        destroy_event: "cuEventDestroy_v2"(CUevent);
        record: "cuEventRecord"(CUevent, CUstream);
        await_event: "cuEventSynchronize"(CUevent);
        elapsed: "cuEventElapsedTime"(*mut f32, CUevent, CUevent);
    }
    kernel {
        load: "cuModuleLoadData"(*mut CUmodule, *const c_void);
        unload: "cuModuleUnload"(CUmodule);
        function: "cuModuleGetFunction"(*mut CUfunction, CUmodule, *const c_char);
        launch: "cuLaunchKernel"(
            CUfunction, c_uint, c_uint, c_uint, c_uint, c_uint, c_uint, c_uint, CUstream,
            *mut *mut c_void, *mut *mut c_void
        );
    }
    graph {
        begin: "cuStreamBeginCapture_v2"(CUstream, c_uint);
        end: "cuStreamEndCapture"(CUstream, *mut CUgraph);
        instantiate: "cuGraphInstantiateWithFlags"(*mut CUgraphExec, CUgraph, c_ulonglong);
        upload: "cuGraphUpload"(CUgraphExec, CUstream);
        launch: "cuGraphLaunch"(CUgraphExec, CUstream);
        destroy: "cuGraphDestroy"(CUgraph);
        destroy_exec: "cuGraphExecDestroy"(CUgraphExec);
        record: "cuEventRecordWithFlags"(CUevent, CUstream, c_uint);
    }
    value {
        wait: "cuStreamWaitValue32_v2"(CUstream, CUdeviceptr, u32, c_uint);
        write: "cuStreamWriteValue32_v2"(CUstream, CUdeviceptr, u32, c_uint);
    }
}

/// The driver: its functions by what they are about.
pub(super) struct Driver {
    pub device: device::Table,
    pub memory: memory::Table,
    pub stream: stream::Table,
    pub kernel: kernel::Table,
    /// Work captured and launched as one; drivers before 470 lack parts of it.
    graph: std::result::Result<graph::Table, String>,
    /// Streams that wait for a number in memory; drivers before 515 lack it.
    value: std::result::Result<value::Table, String>,
}

impl Driver {
    /// The driver of this machine, or one sentence on what is missing.
    pub fn get() -> Result<&'static Self> {
        static DRIVER: OnceLock<std::result::Result<Driver, String>> = OnceLock::new();
        DRIVER.get_or_init(Self::load).as_ref().map_err(|message| unavailable(message.clone()))
    }

    fn load() -> std::result::Result<Self, String> {
        // SAFETY: loading runs only the driver's own initialisers, as starting any CUDA program does.
        if !unsafe { sys::is_culib_present() } {
            return Err(
                "no CUDA driver library (libcuda.so.1) was found; install NVIDIA's driver, \
                        or use --backend sim"
                    .to_owned(),
            );
        }
        let too_old = |missing: Vec<&str>| {
            format!(
                "the CUDA driver library lacks {}; vramplan needs NVIDIA's driver 450 or newer",
                missing.join(", ")
            )
        };
        Ok(Self {
            device: device::Table::load().map_err(too_old)?,
            memory: memory::Table::load().map_err(too_old)?,
            stream: stream::Table::load().map_err(too_old)?,
            kernel: kernel::Table::load().map_err(too_old)?,
            graph: graph::Table::load().map_err(|missing| lacks(&missing)),
            value: value::Table::load().map_err(|missing| lacks(&missing)),
        })
    }

    /// What graphs need, or what of it is missing.
    pub fn graph(&self) -> std::result::Result<&graph::Table, &str> {
        self.graph.as_ref().map_err(String::as_str)
    }

    /// What waits for numbers in memory need, or what of it is missing.
    pub fn value(&self) -> std::result::Result<&value::Table, &str> {
        self.value.as_ref().map_err(String::as_str)
    }

    /// Turns a status into an error that says which call failed and what the driver says about it.
    pub fn check(&self, call: &'static str, status: Status) -> std::result::Result<(), Failure> {
        if status == 0 { Ok(()) } else { Err(self.failure(call, status)) }
    }

    #[cold]
    fn failure(&self, call: &'static str, status: Status) -> Failure {
        let text = |of: unsafe extern "C" fn(Status, *mut *const c_char) -> Status| {
            let mut text = std::ptr::null();
            // SAFETY: the driver writes one pointer; for statuses it does not know it says so and writes null.
            let known = unsafe { of(status, &raw mut text) } == 0 && !text.is_null();
            // SAFETY: the driver's texts are C strings that live as long as the library.
            known.then(|| unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned())
        };
        let name = text(self.device.error_name).unwrap_or_else(|| format!("status {status}"));
        let text = text(self.device.error_text).unwrap_or_default();
        Failure { call, status, name, text }
    }
}

fn lacks(missing: &[&str]) -> String {
    format!("the CUDA driver library lacks {}", missing.join(", "))
}

/// The backend cannot be used here.
pub(super) fn unavailable(message: String) -> Error {
    Error::Backend { what: "the cuda backend", message }
}

/// A call of the driver that failed.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    /// What was called.
    pub call: &'static str,
    /// What it returned.
    pub status: Status,
    name: String,
    text: String,
}

/// `CUDA_ERROR_OUT_OF_MEMORY`.
const OUT_OF_MEMORY: Status = 2;

impl Failure {
    /// Whether memory was refused.
    pub fn is_out_of_memory(&self) -> bool {
        self.status == OUT_OF_MEMORY
    }

    /// Whether every later call in this process will fail the same way: errors of kernels (700 to 719), a device
    /// that has gone (46, 802, 999).
    pub fn is_sticky(&self) -> bool {
        (700..720).contains(&self.status) || [46, 802, 999].contains(&self.status)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.call, self.name)?;
        if !self.text.is_empty() {
            write!(f, " ({})", self.text)?;
        }
        if self.is_sticky() {
            f.write_str("; the GPU's context is lost, start vramplan again")?;
        }
        Ok(())
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        Self::Run(failure.to_string())
    }
}
