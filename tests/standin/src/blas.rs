//! The functions of cuBLASLt that vramplan loads: sizes and addresses are checked, nothing is multiplied.

use std::collections::BTreeMap;
use std::ffi::{c_int, c_void};
use std::sync::{Mutex, PoisonError};

use crate::kernels::Kernel;
use crate::state::{State, call};
use crate::stream::{self, Work};
use crate::{INVALID_VALUE, SUCCESS, Status, device, entry};

const NOT_SUPPORTED: Status = 15;

/// A matrix as it was described: element type, rows, columns, distance of columns.
#[derive(Debug, Clone, Copy)]
struct Layout {
    bytes: u64,
    rows: u64,
    columns: u64,
    distance: u64,
}

static LAYOUTS: Mutex<BTreeMap<u64, Layout>> = Mutex::new(BTreeMap::new());
static NEXT: Mutex<u64> = Mutex::new(0x100);

fn handle(kind: &'static str) -> *mut c_void {
    State::get().made(kind);
    let mut next = NEXT.lock().unwrap_or_else(PoisonError::into_inner);
    *next += 8;
    *next as *mut c_void
}

unsafe fn give(place: *mut *mut c_void, kind: &'static str) -> Status {
    // SAFETY: the caller hands a place for a handle.
    unsafe { place.write(handle(kind)) };
    SUCCESS
}

fn layout(of: *mut c_void) -> Option<Layout> {
    LAYOUTS.lock().unwrap_or_else(PoisonError::into_inner).get(&(of as u64)).copied()
}

fn element(kind: c_int) -> Option<u64> {
    Some(match kind {
        0 => 4,
        2 | 14 => 2,
        28 | 29 => 1,
        _ => return None,
    })
}

impl Layout {
    fn size(self) -> u64 {
        self.bytes * self.distance * self.columns
    }
}

/// The library's result of a search: 64 bytes of algorithm, workspace, state, waves, reserved.
#[repr(C)]
pub struct Heuristic {
    algorithm: [u64; 8],
    workspace: usize,
    state: c_int,
    waves: f32,
    reserved: [c_int; 4],
}

entry! {
    cublasLtCreate(place: *mut *mut c_void) { unsafe { give(place, "blas") } }
    cublasLtDestroy(_blas: *mut c_void) { State::get().freed("blas"); SUCCESS }
    cublasLtMatmulDescCreate(place: *mut *mut c_void, _compute: c_int, _scale: c_int) {
        unsafe { give(place, "product") }
    }
    cublasLtMatmulDescSetAttribute(_product: *mut c_void, attribute: c_int, _value: *const c_void, size: usize) {
        if attribute == 3 && size == 4 { SUCCESS } else { INVALID_VALUE }
    }
    cublasLtMatmulDescDestroy(_product: *mut c_void) { State::get().freed("product"); SUCCESS }
    cublasLtMatrixLayoutCreate(place: *mut *mut c_void, kind: c_int, rows: u64, columns: u64, distance: i64) {
        let (Some(bytes), Ok(distance)) = (element(kind), u64::try_from(distance)) else {
            return NOT_SUPPORTED;
        };
        if distance < rows {
            return INVALID_VALUE;
        }
        let handle = handle("layout");
        let layout = Layout { bytes, rows, columns, distance };
        LAYOUTS.lock().unwrap_or_else(PoisonError::into_inner).insert(handle as u64, layout);
        unsafe { place.write(handle) };
        SUCCESS
    }
    cublasLtMatrixLayoutDestroy(layout: *mut c_void) {
        State::get().freed("layout");
        LAYOUTS.lock().unwrap_or_else(PoisonError::into_inner).remove(&(layout as u64));
        SUCCESS
    }
    cublasLtMatmulPreferenceCreate(place: *mut *mut c_void) { unsafe { give(place, "preference") } }
    cublasLtMatmulPreferenceSetAttribute(
        _preference: *mut c_void, attribute: c_int, _value: *const c_void, size: usize
    ) {
        if matches!((attribute, size), (1, 8) | (5, 4)) { SUCCESS } else { INVALID_VALUE }
    }
    cublasLtMatmulPreferenceDestroy(_preference: *mut c_void) {
        State::get().freed("preference");
        SUCCESS
    }
    cublasLtMatmulAlgoGetHeuristic(
        _blas: *mut c_void, _product: *mut c_void, a: *mut c_void, b: *mut c_void, c: *mut c_void, d: *mut c_void,
        _preference: *mut c_void, _wanted: c_int, results: *mut Heuristic, found: *mut c_int
    ) {
        let (Some(a), Some(b), Some(c), Some(_)) = (layout(a), layout(b), layout(c), layout(d)) else {
            return INVALID_VALUE;
        };
        // The first factor is transposed: [k × m]ᵀ · [k × n] = [m × n].
        if a.rows != b.rows || a.columns != c.rows || b.columns != c.columns {
            return INVALID_VALUE;
        }
        let result = Heuristic {
            algorithm: [7; 8], workspace: 0, state: 0, waves: 1.0, reserved: [0; 4],
        };
        unsafe { results.write(result); found.write(1); }
        SUCCESS
    }
    cublasLtMatmul(
        _blas: *mut c_void, _product: *mut c_void, _alpha: *const c_void, a: *const c_void, la: *mut c_void,
        b: *const c_void, lb: *mut c_void, _beta: *const c_void, _c: *const c_void, _lc: *mut c_void,
        d: *mut c_void, ld: *mut c_void, algorithm: *const u64, _workspace: *mut c_void, _room: usize,
        stream: *mut c_void
    ) {
        let (Some(la), Some(lb), Some(ld)) = (layout(la), layout(lb), layout(ld)) else {
            return INVALID_VALUE;
        };
        // SAFETY: the caller hands the algorithm that the search gave.
        let chosen = unsafe { algorithm.read() } == 7;
        let stretches = [(a as u64, la.size()), (b as u64, lb.size()), (d as u64, ld.size())];
        let there = stretches.iter().all(|&(at, bytes)| device::is_device(at, bytes as usize));
        if !chosen || !there {
            return INVALID_VALUE;
        }
        let [first, second, result] = stretches;
        let flops = 2 * la.rows * la.columns * lb.columns;
        let kernel = Kernel::Gemm { reads: vec![first, second], writes: result, flops };
        stream::push(stream, Work::Kernel(kernel))
    }
}
