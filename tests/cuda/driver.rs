//! Opens the stand-in, once, before anything asks for a driver; and one test at a time.

#![allow(dead_code, reason = "tests and benchmark use a part each")]

use std::ffi::{CString, c_char};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use vramplan::backend::cuda::Gpu;

type Set = unsafe extern "C" fn(*const c_char, u64) -> i32;
type Get = unsafe extern "C" fn(*const c_char) -> u64;
type Fault = unsafe extern "C" fn(*const c_char, u64, i32);
type Reset = unsafe extern "C" fn();

/// The stand-in's controls.
pub struct StandIn {
    set: Set,
    get: Get,
    fault: Fault,
    reset: Reset,
}

/// Whether the tests are to run on a real GPU.
pub fn real() -> bool {
    std::env::var_os("REQUIRE_GPU").is_some_and(|value| value == "1")
}

/// Where cargo put the stand-in: beside this test.
pub fn library() -> PathBuf {
    let folder = std::env::current_exe().expect("a path").parent().expect("a folder").to_owned();
    let names = folder.read_dir().expect("a folder").flatten().map(|entry| entry.path());
    let ours = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        name.starts_with("libvramplan_standin") && name.ends_with(".so")
    };
    let mut found: Vec<PathBuf> = names.filter(ours).collect();
    // Other builds may have left theirs; the newest is this build's.
    found.sort_by_key(|path| path.metadata().and_then(|data| data.modified()).ok());
    found.pop().expect("cargo builds the stand-in beside the tests")
}

fn open() -> &'static StandIn {
    static STAND_IN: OnceLock<StandIn> = OnceLock::new();
    STAND_IN.get_or_init(|| {
        // SAFETY: our own library, whose controls have these types; it stays open to the end.
        unsafe {
            let library = libloading::Library::new(library()).expect("the stand-in opens");
            let controls = StandIn {
                set: *library.get::<Set>(b"standin_set\0").expect("set"),
                get: *library.get::<Get>(b"standin_get\0").expect("get"),
                fault: *library.get::<Fault>(b"standin_fault\0").expect("fault"),
                reset: *library.get::<Reset>(b"standin_reset\0").expect("reset"),
            };
            // From now on whoever asks for libcuda.so by name gets it: that is its SONAME.
            std::mem::forget(library);
            controls
        }
    })
}

/// Kernels that the stand-in has run to their end, for who asks from another thread.
pub fn kernels_run() -> u64 {
    // SAFETY: a C string.
    unsafe { (open().get)(c"made:kernel run".as_ptr()) }
}

/// The driver for one test; others wait.
pub struct Session {
    _turn: MutexGuard<'static, ()>,
    stand_in: Option<&'static StandIn>,
}

/// A session on whatever driver these tests run on, without faults.
pub fn session() -> Session {
    static TURN: Mutex<()> = Mutex::new(());
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let stand_in = (!real()).then(open);
    let session = Session { _turn: turn, stand_in };
    if session.is_stand_in() {
        session.reset();
    }
    session
}

/// A session that needs the stand-in; none on a real GPU.
pub fn stand_in_session() -> Option<Session> {
    Some(session()).filter(|session| session.stand_in.is_some())
}

impl Session {
    /// The GPU.
    pub fn gpu(&self) -> Rc<Gpu> {
        Gpu::open(0, true).expect("a GPU")
    }

    /// Whether times are computed.
    pub fn is_stand_in(&self) -> bool {
        self.stand_in.is_some()
    }

    fn stand_in(&self) -> &'static StandIn {
        self.stand_in.expect("the stand-in")
    }

    /// Forgets faults, counts and settings.
    pub fn reset(&self) {
        // SAFETY: no demands.
        unsafe { (self.stand_in().reset)() };
    }

    pub fn set(&self, key: &str, value: u64) {
        let name = CString::new(key).expect("text");
        // SAFETY: a C string.
        assert_eq!(unsafe { (self.stand_in().set)(name.as_ptr(), value) }, 0, "{key}");
    }

    pub fn get(&self, key: &str) -> u64 {
        let name = CString::new(key).expect("text");
        // SAFETY: a C string.
        unsafe { (self.stand_in().get)(name.as_ptr()) }
    }

    pub fn fault(&self, symbol: &str, nth: u64, status: i32) {
        let name = CString::new(symbol).expect("text");
        // SAFETY: a C string.
        unsafe { (self.stand_in().fault)(name.as_ptr(), nth, status) };
    }

    /// Nothing that was made is left.
    pub fn assert_no_leaks(&self) {
        if self.stand_in.is_none() {
            return;
        }
        for kind in ["context", "stream", "event", "module", "device memory", "host memory"] {
            assert_eq!(self.get(&format!("live:{kind}")), 0, "{kind}");
        }
    }
}
