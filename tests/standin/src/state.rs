//! Settings, faults and counts of the stand-in, all of one process.

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use crate::{INVALID_VALUE, NOT_INITIALIZED, SUCCESS, Status};

/// Settings and what they are at first: bytes, bytes per second, nanoseconds.
const SETTINGS: &[(&str, u64)] = &[
    ("vram", 1 << 30),
    // Memory that another process takes, from now on.
    ("taken", 0),
    ("pinned_limit", u64::MAX),
    ("h2d_rate", 25_000_000_000),
    ("h2d_latency", 10_000),
    ("d2h_rate", 24_000_000_000),
    ("d2h_latency", 11_000),
    // From write-combined memory, and from memory of `far_processor`.
    ("combined_rate", 25_000_000_000),
    ("combined_latency", 10_000),
    ("far_rate", 18_000_000_000),
    ("far_latency", 10_000),
    ("far_processor", u64::MAX),
    // Every call takes the host so many nanoseconds.
    ("call_time", 0),
    ("pageable_rate", 6_000_000_000),
    ("pageable_latency", 30_000),
    ("memory_rate", 800_000_000_000),
    ("flops", 100_000_000_000_000),
    // The copy to the device from now whose last byte arrives wrong; 0 for none.
    ("flip", 0),
    // Whether copies move bytes; without, only their time passes.
    ("real_copies", 1),
    // Every operation of a stream waits so many microseconds of real time, so that what is not ordered by
    // events is likely to go wrong.
    ("real_delay_us", 0),
    // The same for copies alone, and for kernels alone.
    ("copy_delay_us", 0),
    ("kernel_delay_us", 0),
];

#[derive(Debug, Clone)]
struct Fault {
    symbol: String,
    left: u64,
    status: Status,
}

#[derive(Debug, Default)]
struct Inner {
    initialised: bool,
    settings: BTreeMap<String, u64>,
    faults: Vec<Fault>,
    sticky: Status,
    calls: BTreeMap<&'static str, u64>,
    made: BTreeMap<&'static str, u64>,
    freed: BTreeMap<&'static str, u64>,
    vram_peak: u64,
    pinned_peak: u64,
}

/// The stand-in's state.
pub struct State(Mutex<Inner>);

impl State {
    /// The one state; at first use the environment's settings are read.
    pub fn get() -> &'static Self {
        static STATE: OnceLock<State> = OnceLock::new();
        STATE.get_or_init(|| {
            let state = Self(Mutex::default());
            state.reset();
            state.read_environment();
            state
        })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn reset(&self) {
        let settings = SETTINGS.iter().map(|&(key, value)| (key.to_owned(), value)).collect();
        *self.lock() = Inner { settings, ..Inner::default() };
    }

    fn read_environment(&self) {
        let Ok(text) = std::env::var("VRAMPLAN_STANDIN") else { return };
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let (key, value) = part.split_once('=').expect("VRAMPLAN_STANDIN: key=value");
            if key == "fault" {
                let parts: Vec<&str> = value.split(':').collect();
                let [symbol, nth, status] = parts[..] else { panic!("fault=SYMBOL:NTH:STATUS") };
                self.add_fault(symbol, nth.parse().expect("n"), status.parse().expect("status"));
            } else {
                assert_eq!(self.set(key, value.parse().expect("a number")), SUCCESS, "{key}");
            }
        }
    }

    pub fn initialised(&self) {
        self.lock().initialised = true;
    }

    pub fn setting(&self, key: &str) -> u64 {
        self.lock().settings.get(key).copied().unwrap_or(0)
    }

    pub fn set(&self, key: &str, value: u64) -> Status {
        match self.lock().settings.get_mut(key) {
            Some(setting) => {
                *setting = value;
                SUCCESS
            }
            None => INVALID_VALUE,
        }
    }

    pub fn add_fault(&self, symbol: &str, nth: u64, status: Status) {
        self.lock().faults.push(Fault { symbol: symbol.to_owned(), left: nth, status });
    }

    pub fn read(&self, key: &str) -> u64 {
        let inner = self.lock();
        let of = |map: &BTreeMap<&'static str, u64>, key: &str| map.get(key).copied().unwrap_or(0);
        match key.split_once(':') {
            Some(("calls", symbol)) => of(&inner.calls, symbol),
            Some(("made", kind)) => of(&inner.made, kind),
            Some(("live", kind)) => of(&inner.made, kind) - of(&inner.freed, kind),
            _ if key == "vram_peak" => inner.vram_peak,
            _ if key == "pinned_peak" => inner.pinned_peak,
            _ if key == "host_time" => crate::stream::host_now(),
            _ => inner.settings.get(key).copied().unwrap_or(0),
        }
    }

    pub fn made(&self, kind: &'static str) {
        *self.lock().made.entry(kind).or_default() += 1;
    }

    pub fn freed(&self, kind: &'static str) {
        *self.lock().freed.entry(kind).or_default() += 1;
    }

    pub fn vram_in_use(&self, bytes: u64) {
        let mut inner = self.lock();
        inner.vram_peak = inner.vram_peak.max(bytes);
    }

    pub fn pinned_in_use(&self, bytes: u64) {
        let mut inner = self.lock();
        inner.pinned_peak = inner.pinned_peak.max(bytes);
    }

    /// Whether this copy is the one that arrives wrong.
    pub fn flip_due(&self) -> bool {
        let mut inner = self.lock();
        match inner.settings.get_mut("flip") {
            Some(left) if *left > 0 => {
                *left -= 1;
                *left == 0
            }
            _ => false,
        }
    }

    /// Breaks the context: every later call fails the same way.
    pub fn break_context(&self, status: Status) {
        let mut inner = self.lock();
        if inner.sticky == SUCCESS {
            inner.sticky = status;
        }
    }

    fn enter(&self, symbol: &'static str) -> Status {
        let mut inner = self.lock();
        *inner.calls.entry(symbol).or_default() += 1;
        let harmless = ["cuInit", "cuGetErrorName", "cuGetErrorString", "cuDriverGetVersion"];
        if !inner.initialised && !harmless.contains(&symbol) {
            return NOT_INITIALIZED;
        }
        let mut due = SUCCESS;
        for fault in inner.faults.iter_mut().filter(|fault| fault.symbol == symbol) {
            fault.left = fault.left.saturating_sub(1);
            if fault.left == 0 {
                due = fault.status;
            }
        }
        inner.faults.retain(|fault| fault.left > 0);
        // Errors of kernels and lost devices stay for the life of the context.
        if (700..720).contains(&due) || due == 999 {
            inner.sticky = due;
        }
        match inner.sticky {
            SUCCESS => due,
            sticky if !harmless.contains(&symbol) => sticky,
            _ => due,
        }
    }

    /// Writes all counts to the file that `VRAMPLAN_STANDIN_LOG` names, one `key value` per line.
    pub fn report(&self) {
        let Ok(path) = std::env::var("VRAMPLAN_STANDIN_LOG") else { return };
        let inner = self.lock();
        let mut text =
            format!("vram_peak {}\npinned_peak {}\n", inner.vram_peak, inner.pinned_peak);
        for (symbol, count) in &inner.calls {
            text += &format!("calls:{symbol} {count}\n");
        }
        for (kind, made) in &inner.made {
            let freed = inner.freed.get(kind).copied().unwrap_or(0);
            text += &format!("made:{kind} {made}\nlive:{kind} {}\n", made - freed);
        }
        let _ = std::fs::write(path, text);
    }
}

/// Runs an entry point, unless a fault is due or the context is broken.
///
/// What is freed is freed even then, as a driver does at the latest when the process ends.
pub fn call(symbol: &'static str, body: impl FnOnce() -> Status) -> Status {
    let status = State::get().enter(symbol);
    crate::stream::host_spends(State::get().setting("call_time"));
    let frees = ["Free", "Destroy", "Unload", "Release"].iter().any(|word| symbol.contains(word));
    match status {
        SUCCESS => body(),
        status if symbol == "cuStreamEndCapture" => {
            crate::graph::give_up();
            status
        }
        status if frees => {
            body();
            status
        }
        status => status,
    }
}

pub fn error_name(status: Status) -> &'static CStr {
    match status {
        0 => c"CUDA_SUCCESS",
        1 => c"CUDA_ERROR_INVALID_VALUE",
        2 => c"CUDA_ERROR_OUT_OF_MEMORY",
        3 => c"CUDA_ERROR_NOT_INITIALIZED",
        34 => c"CUDA_ERROR_STUB_LIBRARY",
        46 => c"CUDA_ERROR_DEVICE_UNAVAILABLE",
        100 => c"CUDA_ERROR_NO_DEVICE",
        101 => c"CUDA_ERROR_INVALID_DEVICE",
        400 => c"CUDA_ERROR_INVALID_HANDLE",
        500 => c"CUDA_ERROR_NOT_FOUND",
        600 => c"CUDA_ERROR_NOT_READY",
        700 => c"CUDA_ERROR_ILLEGAL_ADDRESS",
        904 => c"CUDA_ERROR_STREAM_CAPTURE_UNJOINED",
        905 => c"CUDA_ERROR_STREAM_CAPTURE_ISOLATION",
        719 => c"CUDA_ERROR_LAUNCH_FAILED",
        999 => c"CUDA_ERROR_UNKNOWN",
        _ => c"CUDA_ERROR_OF_THE_STAND_IN",
    }
}

pub fn error_text(status: Status) -> &'static CStr {
    match status {
        2 => c"out of memory",
        100 => c"no CUDA-capable device is detected",
        101 => c"invalid device ordinal",
        700 => c"an illegal memory access was encountered",
        719 => c"unspecified launch failure",
        999 => c"unknown error",
        _ => c"what the stand-in was told to say",
    }
}
