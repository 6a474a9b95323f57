//! The kernels that the stand-in knows, by name. Their PTX is only looked at for that name.

use std::collections::BTreeMap;
use std::ffi::{CStr, c_void};
use std::sync::Mutex;

use crate::state::State;
use crate::{INVALID_VALUE, SUCCESS, Status, device, stream};

/// A kernel with its arguments.
#[derive(Debug, Clone)]
pub enum Kernel {
    /// Lasts so many nanoseconds.
    Spin { nanos: u64 },
    /// Reads bytes.
    Touch { data: u64, bytes: u64 },
    /// Adds up digests of chunks.
    Digest { data: u64, bytes: u64, offset: u64, chunk: u64, out: u64 },
    /// Waits until the host writes something else than zero.
    Gate { flag: u64, timeout: u64 },
    /// A matrix product.
    Gemm { reads: Vec<(u64, u64)>, writes: (u64, u64), flops: u64 },
}

const NAMES: [(&CStr, usize); 4] =
    [(c"vramplan_spin", 1), (c"vramplan_touch", 3), (c"vramplan_digest", 5), (c"vramplan_gate", 2)];

static MODULES: Mutex<BTreeMap<u64, String>> = Mutex::new(BTreeMap::new());

pub fn load(text: &CStr) -> *mut c_void {
    let mut modules = MODULES.lock().expect("modules");
    let handle = modules.keys().next_back().map_or(0x1000, |last| last + 8);
    modules.insert(handle, text.to_string_lossy().into_owned());
    handle as *mut c_void
}

pub fn unload(module: *mut c_void) -> Status {
    match MODULES.lock().expect("modules").remove(&(module as u64)) {
        Some(_) => SUCCESS,
        None => INVALID_VALUE,
    }
}

/// The function's handle is its position in `NAMES`, from 1.
pub fn find(module: *mut c_void, name: &CStr) -> Option<*mut c_void> {
    let modules = MODULES.lock().expect("modules");
    let text = modules.get(&(module as u64))?;
    let entry = format!(".entry {}(", name.to_str().ok()?);
    let known = NAMES.iter().position(|(known, _)| *known == name)?;
    text.contains(&entry).then_some((known + 1) as *mut c_void)
}

/// # Safety
///
/// `parameters` points to as many pointers to 64-bit values as the kernel takes.
pub unsafe fn read(function: *mut c_void, parameters: *mut *mut c_void) -> Option<Kernel> {
    let index = (function as usize).checked_sub(1)?;
    let (_, count) = NAMES.get(index)?;
    // SAFETY: the caller's promise.
    let value = |n: usize| unsafe { (*parameters.add(n)).cast::<u64>().read_unaligned() };
    let values: Vec<u64> = (0..*count).map(value).collect();
    Some(match (index, &values[..]) {
        (0, &[nanos]) => Kernel::Spin { nanos },
        (1, &[data, bytes, _sink]) => Kernel::Touch { data, bytes },
        (2, &[data, bytes, offset, chunk, out]) => {
            Kernel::Digest { data, bytes, offset, chunk, out }
        }
        (3, &[flag, timeout]) => Kernel::Gate { flag, timeout },
        _ => return None,
    })
}

/// SplitMix64's finaliser.
fn key(position: u64) -> u64 {
    let mut z = position.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    (z ^ (z >> 31)) | 1
}

impl Kernel {
    #[expect(clippy::disallowed_methods, reason = "a gate that nobody opens must end")]
    /// Runs it at this instant; gives how long it takes, or none for an illegal address.
    pub fn run(&self, now: u64) -> Option<u64> {
        match self {
            Self::Spin { nanos } => Some(*nanos),
            Self::Touch { data, bytes } => {
                let data = slice(*data, *bytes)?;
                // One byte of each line says that the memory is there.
                if State::get().setting("real_copies") > 0 {
                    std::hint::black_box(data.iter().step_by(64).fold(0u8, |sum, byte| sum ^ byte));
                }
                Some(device::memory_time(data.len()))
            }
            Self::Digest { data, bytes, offset, chunk, out } => {
                let data = slice(*data, *bytes)?;
                for (n, part) in data.chunks(*chunk as usize).enumerate() {
                    let start = offset + n as u64 * chunk;
                    let (mut sum, mut at, mut left) = (0u64, start, part);
                    while !left.is_empty() {
                        // Up to the end of the image's word.
                        let count = (4 - at as usize % 4).min(left.len());
                        let (word, after) = left.split_at(count);
                        let value =
                            word.iter().rev().fold(0u64, |sum, &byte| sum << 8 | u64::from(byte));
                        sum = sum.wrapping_add((value << (8 * (at % 4))).wrapping_mul(key(at / 4)));
                        (left, at) = (after, at + count as u64);
                    }
                    let place = out + 8 * n as u64;
                    device::is_device(place, 8).then_some(())?;
                    // SAFETY: eight bytes of device memory, aligned; only this stream's kernels write there.
                    unsafe {
                        let place = place as *mut u64;
                        place.write(place.read().wrapping_add(sum));
                    }
                }
                // The tests compare times with the simulator, which knows no verification.
                Some(0)
            }
            Self::Gate { flag, timeout } => {
                let start = std::time::Instant::now();
                let limit = std::time::Duration::from_nanos(*timeout);
                // SAFETY: four bytes of pinned memory that the host writes atomically.
                let flag = unsafe { &*(*flag as *const std::sync::atomic::AtomicU32) };
                while flag.load(std::sync::atomic::Ordering::Acquire) == 0
                    && start.elapsed() < limit
                {
                    std::thread::yield_now();
                }
                Some(stream::host_now().saturating_sub(now))
            }
            Self::Gemm { reads, writes, flops } => {
                for (data, bytes) in reads.iter().chain([writes]) {
                    device::is_device(*data, *bytes as usize).then_some(())?;
                }
                Some(device::flop_time(*flops))
            }
        }
    }
}

fn slice(data: u64, bytes: u64) -> Option<&'static [u8]> {
    if !device::is_device(data, bytes as usize) {
        State::get().break_context(crate::ILLEGAL_ADDRESS);
        return None;
    }
    // SAFETY: it lies inside one allocation. Another stream may write there while it is read: that is the error
    // that the digest is to find, on bytes that are valid whatever they are.
    Some(unsafe { std::slice::from_raw_parts(data as *const u8, bytes as usize) })
}
