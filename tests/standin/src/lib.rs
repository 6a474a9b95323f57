//! A stand-in for the CUDA driver library, for tests on machines without a GPU: the entry points that vramplan
//! loads, on the CPU. It is no GPU and says so: its device is called [`NAME`].
//!
//! * **Memory is real.** Device memory is host memory with a capacity; every access is checked against what is
//!   allocated, and one outside breaks the context as an illegal address does.
//! * **Streams are threads**, each with a queue, so work that no event orders really runs in any order.
//! * **Time is computed**, not measured: a stream's clock advances by what an operation would take (latency and
//!   rate of a copy, the nanoseconds of a spin), a wait moves it up to the event's. The same calls in the same
//!   order give the same times on any machine, so a run can be compared with the simulator to the nanosecond.
//! * **Faults are injected** by symbol, call and code, through `standin_fault` or the environment variable
//!   `VRAMPLAN_STANDIN` (`h2d_rate=25000000000,fault=cuMemAlloc_v2:1:2`).
//!
//! Kernels are known by name; their PTX is only looked at for the name. A second library, cuBLASLt, is exported
//! beside it in [`blas`], for tests that link its name to this file.

#![allow(
    non_snake_case,
    clippy::missing_safety_doc,
    clippy::not_unsafe_ptr_arg_deref,
    reason = "names and signatures are the driver's"
)]

pub mod blas;
mod device;
mod graph;
mod kernels;
mod state;
mod stream;

use std::ffi::{CStr, c_char, c_int, c_uchar, c_uint, c_void};

use state::{State, call};
use stream::{Event, Stream, Work};

/// What the device is called, so that nobody takes it for a GPU.
pub const NAME: &CStr = c"vramplan stand-in (no GPU)";

/// A driver status: 0, or what went wrong.
pub type Status = c_int;

pub const SUCCESS: Status = 0;
pub const INVALID_VALUE: Status = 1;
pub const OUT_OF_MEMORY: Status = 2;
pub const NOT_INITIALIZED: Status = 3;
pub const INVALID_DEVICE: Status = 101;
pub const INVALID_HANDLE: Status = 400;
pub const NOT_FOUND: Status = 500;
pub const NOT_READY: Status = 600;
pub const ILLEGAL_ADDRESS: Status = 700;

/// Exports entry points; each is counted, and fails where a fault is due.
macro_rules! entry {
    ($($name:ident($($arg:ident: $type:ty),*) $body:block)*) => { $(
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name($($arg: $type),*) -> Status {
            call(stringify!($name), || $body)
        }
    )* };
}
pub(crate) use entry;

unsafe fn put<T>(place: *mut T, value: T) -> Status {
    if place.is_null() {
        return INVALID_VALUE;
    }
    // SAFETY: the caller hands a place for one value, as the driver demands.
    unsafe { place.write(value) };
    SUCCESS
}

unsafe fn put_text(place: *mut c_char, length: c_int, text: &CStr) -> Status {
    let bytes = text.to_bytes_with_nul();
    if place.is_null() || usize::try_from(length).is_ok_and(|room| room < bytes.len()) {
        return INVALID_VALUE;
    }
    // SAFETY: the caller hands `length` bytes, which was just compared.
    unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), place.cast(), bytes.len()) };
    SUCCESS
}

entry! {
    cuInit(_flags: c_uint) {
        State::get().initialised();
        SUCCESS
    }
    cuDriverGetVersion(version: *mut c_int) { unsafe { put(version, 12_080) } }
    cuDeviceGetCount(count: *mut c_int) { unsafe { put(count, 1) } }
    cuDeviceGet(device: *mut c_int, ordinal: c_int) {
        if ordinal == 0 { unsafe { put(device, 0) } } else { INVALID_DEVICE }
    }
    cuDeviceGetName(name: *mut c_char, length: c_int, _device: c_int) {
        unsafe { put_text(name, length, NAME) }
    }
    cuDeviceTotalMem_v2(bytes: *mut usize, _device: c_int) {
        unsafe { put(bytes, State::get().setting("vram") as usize) }
    }
    cuDeviceGetAttribute(value: *mut c_int, attribute: c_int, _device: c_int) {
        unsafe { put(value, device::attribute(attribute)) }
    }
    cuDeviceGetPCIBusId(id: *mut c_char, length: c_int, _device: c_int) {
        unsafe { put_text(id, length, c"ffff:ff:1f.7") }
    }
    cuDevicePrimaryCtxRetain(context: *mut *mut c_void, _device: c_int) {
        State::get().made("context");
        unsafe { put(context, std::ptr::dangling_mut::<u64>().cast()) }
    }
    cuDevicePrimaryCtxRelease_v2(_device: c_int) {
        State::get().freed("context");
        State::get().report();
        SUCCESS
    }
    cuCtxSetCurrent(_context: *mut c_void) { SUCCESS }
    cuCtxGetStreamPriorityRange(least: *mut c_int, greatest: *mut c_int) {
        unsafe { put(least, 0); put(greatest, -5) }
    }
    cuCtxSynchronize() { stream::synchronise_all() }
    cuMemGetInfo_v2(free: *mut usize, total: *mut usize) {
        let (left, all) = device::memory_info();
        unsafe { put(free, left); put(total, all) }
    }
    cuMemAlloc_v2(place: *mut u64, bytes: usize) {
        match device::allocate(bytes) {
            Ok(address) => unsafe { put(place, address) },
            Err(status) => status,
        }
    }
    cuMemFree_v2(address: u64) {
        stream::synchronise_all();
        device::free(address)
    }
    cuMemHostAlloc(place: *mut *mut c_void, bytes: usize, flags: c_uint) {
        match device::allocate_host(bytes, flags & 4 != 0) {
            Ok(address) => unsafe { put(place, address as *mut c_void) },
            Err(status) => status,
        }
    }
    cuMemFreeHost(address: *mut c_void) {
        stream::synchronise_all();
        device::free_host(address as u64)
    }
    cuMemHostGetDevicePointer_v2(place: *mut u64, address: *mut c_void, _flags: c_uint) {
        unsafe { put(place, address as u64) }
    }
    cuMemcpyHtoDAsync_v2(to: u64, from: *const c_void, bytes: usize, stream: *mut c_void) {
        if !device::is_device(to, bytes) {
            return INVALID_VALUE;
        }
        let pinned = device::is_pinned(from as u64, bytes);
        let time = device::copy_time(device::path_from(from as u64, bytes), bytes);
        // The copies of a graph are counted when it is launched.
        let flip = !graph::captures(stream) && State::get().flip_due();
        let work = Work::Copy { to, from: from as u64, bytes, time, flip };
        match pinned {
            true => stream::push(stream, work),
            false => stream::push_and_wait(stream, work),
        }
    }
    cuMemcpyDtoHAsync_v2(to: *mut c_void, from: u64, bytes: usize, stream: *mut c_void) {
        if !device::is_device(from, bytes) {
            return INVALID_VALUE;
        }
        let pinned = device::is_pinned(to as u64, bytes);
        let time = device::copy_time(if pinned { "d2h" } else { "pageable" }, bytes);
        let work = Work::Copy { to: to as u64, from, bytes, time, flip: false };
        match pinned {
            true => stream::push(stream, work),
            false => stream::push_and_wait(stream, work),
        }
    }
    cuMemsetD8Async(to: u64, value: c_uchar, bytes: usize, stream: *mut c_void) {
        if !device::is_device(to, bytes) {
            return INVALID_VALUE;
        }
        stream::push(stream, Work::Fill { to, value, bytes })
    }
    cuStreamCreateWithPriority(place: *mut *mut c_void, _flags: c_uint, _priority: c_int) {
        State::get().made("stream");
        unsafe { put(place, Stream::create()) }
    }
    cuStreamDestroy_v2(stream: *mut c_void) {
        State::get().freed("stream");
        Stream::destroy(stream)
    }
    cuStreamSynchronize(stream: *mut c_void) { stream::synchronise(stream) }
    cuStreamWaitEvent(stream: *mut c_void, event: *mut c_void, _flags: c_uint) {
        if let Some(status) = graph::wait(stream, event) {
            return status;
        }
        match Event::of(event) {
            Some(event) => {
                let ticket = event.last();
                stream::push(stream, Work::Wait { event, ticket })
            }
            None => INVALID_HANDLE,
        }
    }
    cuEventCreate(place: *mut *mut c_void, flags: c_uint) {
        State::get().made("event");
        unsafe { put(place, Event::create(flags & 2 == 0)) }
    }
    cuEventDestroy_v2(event: *mut c_void) {
        State::get().freed("event");
        Event::destroy(event)
    }
    cuEventRecord(event: *mut c_void, stream: *mut c_void) {
        if let Some(status) = graph::record(event, stream) {
            return status;
        }
        match Event::of(event) {
            Some(event) => {
                let ticket = event.issue();
                stream::push(stream, Work::Record { event, ticket })
            }
            None => INVALID_HANDLE,
        }
    }
    cuEventRecordWithFlags(event: *mut c_void, stream: *mut c_void, flags: c_uint) {
        match Event::of(event) {
            Some(event) if flags == 1 => graph::record_outside(event, stream),
            Some(_) => INVALID_VALUE,
            None => INVALID_HANDLE,
        }
    }
    cuStreamBeginCapture_v2(stream: *mut c_void, _mode: c_uint) { graph::begin(stream) }
    cuStreamEndCapture(stream: *mut c_void, place: *mut *mut c_void) {
        match graph::end(stream) {
            Ok(graph) => unsafe { put(place, graph) },
            Err(status) => status,
        }
    }
    cuGraphInstantiateWithFlags(place: *mut *mut c_void, graph: *mut c_void, _flags: u64) {
        match graph::instantiate(graph) {
            Ok(exec) => unsafe { put(place, exec) },
            Err(status) => status,
        }
    }
    cuGraphUpload(exec: *mut c_void, _stream: *mut c_void) {
        if graph::exists(exec) { SUCCESS } else { INVALID_HANDLE }
    }
    cuGraphLaunch(exec: *mut c_void, stream: *mut c_void) { graph::launch(exec, stream) }
    cuGraphDestroy(graph: *mut c_void) { graph::destroy(graph) }
    cuGraphExecDestroy(exec: *mut c_void) { graph::destroy_exec(exec) }
    cuStreamWaitValue32_v2(stream: *mut c_void, at: u64, least: u32, _flags: c_uint) {
        if !device::is_pinned(at, 4) || graph::captures(stream) {
            return INVALID_VALUE;
        }
        stream::push(stream, Work::AwaitNumber { at, least })
    }
    cuStreamWriteValue32_v2(stream: *mut c_void, at: u64, value: u32, _flags: c_uint) {
        if !device::is_pinned(at, 4) || graph::captures(stream) {
            return INVALID_VALUE;
        }
        stream::push(stream, Work::WriteNumber { at, value })
    }
    cuEventSynchronize(event: *mut c_void) {
        if graph::holds(event) {
            return graph::CAPTURED_EVENT;
        }
        match Event::of(event) {
            Some(event) => event.synchronise(),
            None => INVALID_HANDLE,
        }
    }
    cuEventElapsedTime(place: *mut f32, start: *mut c_void, end: *mut c_void) {
        match (Event::of(start), Event::of(end)) {
            (Some(start), Some(end)) => match Event::elapsed(&start, &end) {
                Ok(milliseconds) => unsafe { put(place, milliseconds) },
                Err(status) => status,
            },
            _ => INVALID_HANDLE,
        }
    }
    cuModuleLoadData(place: *mut *mut c_void, image: *const c_void) {
        State::get().made("module");
        // SAFETY: PTX is text with a NUL at its end.
        let text = unsafe { CStr::from_ptr(image.cast()) };
        unsafe { put(place, kernels::load(text)) }
    }
    cuModuleUnload(module: *mut c_void) {
        State::get().freed("module");
        kernels::unload(module)
    }
    cuModuleGetFunction(place: *mut *mut c_void, module: *mut c_void, name: *const c_char) {
        // SAFETY: the driver takes a name with a NUL at its end.
        let name = unsafe { CStr::from_ptr(name) };
        match kernels::find(module, name) {
            Some(function) => unsafe { put(place, function) },
            None => NOT_FOUND,
        }
    }
    cuLaunchKernel(
        function: *mut c_void, gx: c_uint, _gy: c_uint, _gz: c_uint, bx: c_uint, _by: c_uint, _bz: c_uint,
        _shared: c_uint, stream: *mut c_void, parameters: *mut *mut c_void, _extra: *mut *mut c_void
    ) {
        if gx == 0 || bx == 0 || bx > 1024 {
            return INVALID_VALUE;
        }
        // SAFETY: as many parameters are there as the kernel declares; ours are all 64 bits wide.
        match unsafe { kernels::read(function, parameters) } {
            Some(kernel) => stream::push(stream, Work::Kernel(kernel)),
            None => INVALID_HANDLE,
        }
    }
    cuGetErrorName(status: Status, place: *mut *const c_char) {
        unsafe { put(place, state::error_name(status).as_ptr()) }
    }
    cuGetErrorString(status: Status, place: *mut *const c_char) {
        unsafe { put(place, state::error_text(status).as_ptr()) }
    }
}

/// Changes a setting; see [`state`] for their names. Fails on an unknown one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn standin_set(key: *const c_char, value: u64) -> Status {
    // SAFETY: tests hand a C string.
    let key = unsafe { CStr::from_ptr(key) }.to_string_lossy().into_owned();
    State::get().set(&key, value)
}

/// Reads a setting, or a count: `calls:SYMBOL`, `live:KIND`, `made:KIND`, `vram_peak`, `pinned_peak`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn standin_get(key: *const c_char) -> u64 {
    // SAFETY: tests hand a C string.
    let key = unsafe { CStr::from_ptr(key) }.to_string_lossy().into_owned();
    State::get().read(&key)
}

/// Lets the n-th call from now of an entry point fail with a status.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn standin_fault(symbol: *const c_char, nth: u64, status: Status) {
    // SAFETY: tests hand a C string.
    let symbol = unsafe { CStr::from_ptr(symbol) }.to_string_lossy().into_owned();
    State::get().add_fault(&symbol, nth, status);
}

/// Forgets faults, counts, a broken context and all settings.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn standin_reset() {
    State::get().reset();
}
