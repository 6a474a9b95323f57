//! The stand-in's memory and what it claims to be.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::state::State;
use crate::{INVALID_VALUE, OUT_OF_MEMORY, SUCCESS, Status};

/// Allocations by address.
type Blocks = Mutex<BTreeMap<u64, usize>>;

static DEVICE: Blocks = Mutex::new(BTreeMap::new());
static HOST: Blocks = Mutex::new(BTreeMap::new());

/// How copies come from page-locked memory that is not the usual kind.
static PATHS: Mutex<BTreeMap<u64, &'static str>> = Mutex::new(BTreeMap::new());

unsafe extern "C" {
    /// The C library's: the processor that this thread runs on.
    fn sched_getcpu() -> i32;
}

/// What the context itself takes, as on a real device.
const CONTEXT: u64 = 1 << 20;

fn lock(blocks: &'static Blocks) -> MutexGuard<'static, BTreeMap<u64, usize>> {
    blocks.lock().unwrap_or_else(PoisonError::into_inner)
}

fn layout(bytes: usize) -> Option<Layout> {
    Layout::from_size_align(bytes.max(1), 4096).ok()
}

fn new_block(blocks: &'static Blocks, bytes: usize) -> Result<u64, Status> {
    let layout = layout(bytes).ok_or(INVALID_VALUE)?;
    // SAFETY: the layout is not empty.
    let address = unsafe { alloc_zeroed(layout) } as u64;
    if address == 0 {
        return Err(OUT_OF_MEMORY);
    }
    lock(blocks).insert(address, bytes);
    Ok(address)
}

fn free_block(blocks: &'static Blocks, address: u64) -> Status {
    let Some(bytes) = lock(blocks).remove(&address) else { return INVALID_VALUE };
    let Some(layout) = layout(bytes) else { return INVALID_VALUE };
    // SAFETY: it came from `new_block` with this layout and was just taken off the list.
    unsafe { dealloc(address as *mut u8, layout) };
    SUCCESS
}

fn in_use() -> u64 {
    lock(&DEVICE).values().map(|&bytes| bytes as u64).sum::<u64>() + CONTEXT
}

pub fn allocate(bytes: usize) -> Result<u64, Status> {
    let (free, _) = memory_info();
    if bytes == 0 {
        return Err(INVALID_VALUE);
    }
    if bytes > free {
        return Err(OUT_OF_MEMORY);
    }
    let address = new_block(&DEVICE, bytes)?;
    State::get().made("device memory");
    State::get().vram_in_use(in_use());
    Ok(address)
}

pub fn free(address: u64) -> Status {
    State::get().freed("device memory");
    free_block(&DEVICE, address)
}

pub fn allocate_host(bytes: usize, write_combined: bool) -> Result<u64, Status> {
    let locked: u64 = lock(&HOST).values().map(|&bytes| bytes as u64).sum();
    if locked.saturating_add(bytes as u64) > State::get().setting("pinned_limit") {
        return Err(OUT_OF_MEMORY);
    }
    let address = new_block(&HOST, bytes)?;
    // Memory lies where the thread runs that touches it first.
    // SAFETY: no demands.
    let processor = unsafe { sched_getcpu() };
    let far = u64::try_from(processor) == Ok(State::get().setting("far_processor"));
    let path = if write_combined { "combined" } else { "far" };
    if write_combined || far {
        PATHS.lock().unwrap_or_else(PoisonError::into_inner).insert(address, path);
    }
    State::get().made("host memory");
    State::get().pinned_in_use(locked + bytes as u64);
    Ok(address)
}

/// How a copy comes from there.
pub fn path_from(address: u64, bytes: usize) -> &'static str {
    if !is_pinned(address, bytes) {
        return "pageable";
    }
    let start = lock(&HOST).range(..=address).next_back().map_or(0, |(&start, _)| start);
    PATHS.lock().unwrap_or_else(PoisonError::into_inner).get(&start).copied().unwrap_or("h2d")
}

pub fn free_host(address: u64) -> Status {
    State::get().freed("host memory");
    PATHS.lock().unwrap_or_else(PoisonError::into_inner).remove(&address);
    free_block(&HOST, address)
}

/// Free and all memory.
pub fn memory_info() -> (usize, usize) {
    let (vram, taken) = (State::get().setting("vram"), State::get().setting("taken"));
    let free = vram.saturating_sub(taken).saturating_sub(in_use());
    (free as usize, vram as usize)
}

fn within(blocks: &'static Blocks, address: u64, bytes: usize) -> bool {
    let blocks = lock(blocks);
    let Some((&start, &size)) = blocks.range(..=address).next_back() else { return false };
    address + bytes as u64 <= start + size as u64
}

pub fn is_device(address: u64, bytes: usize) -> bool {
    within(&DEVICE, address, bytes)
}

pub fn is_pinned(address: u64, bytes: usize) -> bool {
    within(&HOST, address, bytes)
}

fn time(bytes: u64, rate: u64) -> u64 {
    (u128::from(bytes) * 1_000_000_000).div_ceil(u128::from(rate.max(1))) as u64
}

/// Latency and rate of a copy.
pub fn copy_time(path: &str, bytes: usize) -> u64 {
    if bytes == 0 {
        return 0;
    }
    let state = State::get();
    state.setting(&format!("{path}_latency"))
        + time(bytes as u64, state.setting(&format!("{path}_rate")))
}

pub fn memory_time(bytes: usize) -> u64 {
    time(bytes as u64, State::get().setting("memory_rate"))
}

pub fn flop_time(flops: u64) -> u64 {
    time(flops, State::get().setting("flops"))
}

/// What the driver's header calls these attributes.
pub fn attribute(attribute: i32) -> i32 {
    match attribute {
        // CLOCK_RATE in kHz, MULTIPROCESSOR_COUNT
        13 => 1_000_000,
        16 => 4,
        // PCI_BUS_ID, PCI_DEVICE_ID, PCI_DOMAIN_ID
        33 => 0xff,
        34 => 0x1f,
        50 => 0xffff,
        // MEMORY_CLOCK_RATE in kHz, GLOBAL_MEMORY_BUS_WIDTH in bits
        36 => 1_000_000,
        37 => 256,
        // ASYNC_ENGINE_COUNT
        40 => 2,
        // COMPUTE_CAPABILITY_MAJOR, MINOR
        75 => 9,
        76 => 0,
        _ => 0,
    }
}
