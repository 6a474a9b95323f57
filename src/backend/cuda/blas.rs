//! Turns the cuBLASLt library, where there is one, into matrix products of a few shapes.
//!
//! It is looked for by its newest name first and opened here, since cudarc knows no name above that of CUDA 12. The
//! numbers below are those of `cublasLt.h` and `library_types.h`, which have not changed since CUDA 11.

#![expect(unsafe_code, reason = "calls cuBLASLt; what each call demands stands beside it")]

use std::ffi::{c_int, c_void};
use std::rc::Rc;

use super::gpu::Gpu;
use super::memory::{Device, DeviceMemory};
use super::stream::Stream;
use crate::error::{Error, Result};
use crate::model::Dtype;

/// What a function of the library returns; 0 is success.
type Status = c_int;

/// An object of the library.
type Handle = *mut c_void;

const LIBRARIES: [&str; 4] =
    ["libcublasLt.so.13", "libcublasLt.so.12", "libcublasLt.so.11", "libcublasLt.so"];

/// `CUBLAS_COMPUTE_32F`, `CUDA_R_32F`.
const COMPUTE_F32: c_int = 68;
const R_32F: c_int = 0;

/// `CUBLASLT_MATMUL_DESC_TRANSA`, `CUBLAS_OP_T`.
const TRANSPOSE_A: c_int = 3;
const TRANSPOSED: c_int = 1;

/// `CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES`, `…_MIN_ALIGNMENT_A_BYTES`.
const MAX_WORKSPACE: c_int = 1;
const ALIGNMENT_A: c_int = 5;

/// Scratch memory for the library: NVIDIA recommends 32 MiB on Hopper, less suffices elsewhere.
pub(super) const WORKSPACE: u64 = 32 << 20;

/// `cublasLtMatmulHeuristicResult_t`: an algorithm of eight opaque words, and what is known about it.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Heuristic {
    algorithm: [u64; 8],
    workspace: usize,
    state: c_int,
    waves: f32,
    reserved: [c_int; 4],
}

/// Declares the library's functions and looks them up.
macro_rules! functions {
    ($($field:ident: $symbol:literal($($argument:ty),*);)*) => {
        struct Functions { $($field: unsafe extern "C" fn($($argument),*) -> Status,)* }

        impl Functions {
            fn load(library: &libloading::Library) -> std::result::Result<Self, &'static str> {
                $(
                    // SAFETY: the type is the one that the library's header declares for this symbol.
                    let $field = *unsafe {
                        library.get::<unsafe extern "C" fn($($argument),*) -> Status>(
                            concat!($symbol, "\0").as_bytes(),
                        )
                    }
                    .map_err(|_| $symbol)?;
                )*
                Ok(Self { $($field,)* })
            }
        }
    };
}

functions! {
    create: "cublasLtCreate"(*mut Handle);
    destroy: "cublasLtDestroy"(Handle);
    create_product: "cublasLtMatmulDescCreate"(*mut Handle, c_int, c_int);
    set_product: "cublasLtMatmulDescSetAttribute"(Handle, c_int, *const c_void, usize);
    destroy_product: "cublasLtMatmulDescDestroy"(Handle);
    create_layout: "cublasLtMatrixLayoutCreate"(*mut Handle, c_int, u64, u64, i64);
    destroy_layout: "cublasLtMatrixLayoutDestroy"(Handle);
    create_preference: "cublasLtMatmulPreferenceCreate"(*mut Handle);
    set_preference: "cublasLtMatmulPreferenceSetAttribute"(Handle, c_int, *const c_void, usize);
    destroy_preference: "cublasLtMatmulPreferenceDestroy"(Handle);
    choose: "cublasLtMatmulAlgoGetHeuristic"(
        Handle, Handle, Handle, Handle, Handle, Handle, Handle, c_int, *mut Heuristic, *mut c_int
    );
    multiply: "cublasLtMatmul"(
        Handle, Handle, *const c_void, *const c_void, Handle, *const c_void, Handle, *const c_void,
        *const c_void, Handle, *mut c_void, Handle, *const [u64; 8], *mut c_void, usize, Handle
    );
}

/// The library, opened for one device.
pub(super) struct Blas {
    handle: Handle,
    functions: Functions,
    workspace: DeviceMemory,
    /// The name it was found under.
    pub name: &'static str,
    /// Keeps the code loaded for as long as `functions` are called; dropped last.
    _library: libloading::Library,
}

impl Blas {
    /// Opens the library; one sentence on what is missing otherwise.
    pub fn open(gpu: &Rc<Gpu>) -> Result<std::result::Result<Self, String>> {
        let mut reasons = Vec::new();
        for name in LIBRARIES {
            // SAFETY: opening runs the library's own initialisers, as linking it would.
            let library = match unsafe { libloading::Library::new(name) } {
                Ok(library) => library,
                Err(_) => continue,
            };
            let functions = match Functions::load(&library) {
                Ok(functions) => functions,
                Err(symbol) => {
                    reasons.push(format!("{name} lacks {symbol}"));
                    continue;
                }
            };
            let mut handle: Handle = std::ptr::null_mut();
            // SAFETY: a place for one handle; the device's context is current.
            match unsafe { (functions.create)(&raw mut handle) } {
                0 => {}
                status => {
                    reasons.push(format!("{name} cannot start (status {status})"));
                    continue;
                }
            }
            // From here on dropping destroys the handle.
            let workspace = DeviceMemory::new(gpu, WORKSPACE)?;
            return Ok(Ok(Self { handle, functions, workspace, name, _library: library }));
        }
        if reasons.is_empty() {
            reasons.push(format!("none of {} was found", LIBRARIES.join(", ")));
        }
        Ok(Err(reasons.join("; ")))
    }

    /// Prepares `out × inner` weights times `inner × tokens` activations. None where the library has no way.
    pub fn product(self: &Rc<Self>, shape: Shape) -> Option<Product> {
        let types = types(shape.dtype)?;
        let blas = Rc::clone(self);
        let mut product = Product { blas, shape, objects: Objects::default() };
        self.build(&mut product.objects, shape, types)?;
        Some(product)
    }

    fn build(&self, objects: &mut Objects, shape: Shape, types: Types) -> Option<()> {
        let Shape { out, inner, tokens, .. } = shape;
        let functions = &self.functions;
        let made = |status: Status| (status == 0).then_some(());
        let size = |value: u64| i64::try_from(value).ok();
        // SAFETY: places for handles, which `Objects` destroys; attributes of the sizes that the header states.
        unsafe {
            made((functions.create_product)(&raw mut objects.product, COMPUTE_F32, R_32F))?;
            let transposed = TRANSPOSED;
            let value = (&raw const transposed).cast();
            made((functions.set_product)(objects.product, TRANSPOSE_A, value, size_of::<c_int>()))?;
            // Row-major [out, inner] is column-major inner × out, hence transposed.
            let layout = &raw mut objects.weights;
            made((functions.create_layout)(layout, types.weights, inner, out, size(inner)?))?;
            let layout = &raw mut objects.activations;
            made((functions.create_layout)(
                layout,
                types.activations,
                inner,
                tokens,
                size(inner)?,
            ))?;
            let layout = &raw mut objects.result;
            made((functions.create_layout)(layout, types.result, out, tokens, size(out)?))?;
            let mut preference: Handle = std::ptr::null_mut();
            made((functions.create_preference)(&raw mut preference))?;
            let room = WORKSPACE;
            let value = (&raw const room).cast();
            let set =
                (functions.set_preference)(preference, MAX_WORKSPACE, value, size_of::<u64>());
            let value = (&raw const shape.alignment).cast();
            let aligned =
                (functions.set_preference)(preference, ALIGNMENT_A, value, size_of::<u32>());
            let mut found = 0;
            let status = (functions.choose)(
                self.handle,
                objects.product,
                objects.weights,
                objects.activations,
                objects.result,
                objects.result,
                preference,
                1,
                &raw mut objects.chosen,
                &raw mut found,
            );
            (functions.destroy_preference)(preference);
            made(set)?;
            made(aligned)?;
            made(status)?;
            (found == 1 && objects.chosen.state == 0).then_some(())
        }
    }
}

impl Drop for Blas {
    fn drop(&mut self) {
        // SAFETY: made in `open`, destroyed once; every product holds a reference and is gone.
        unsafe { (self.functions.destroy)(self.handle) };
    }
}

/// A product's sizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Shape {
    /// The weights' element type.
    pub dtype: Dtype,
    /// Rows of the weights.
    pub out: u64,
    /// Columns of the weights.
    pub inner: u64,
    /// Columns of the activations.
    pub tokens: u64,
    /// Of the weights' address, at most 256.
    pub alignment: u32,
}

impl Shape {
    /// Bytes that the activations and the result take.
    pub fn bytes(self) -> (u64, u64) {
        let of = |dtype: Dtype, count: u64| dtype.bytes_for(count).unwrap_or(0);
        let result = if is_f8(self.dtype) { Dtype::Bf16 } else { self.dtype };
        (of(self.dtype, self.inner * self.tokens), of(result, self.out * self.tokens))
    }

    /// Operations, a multiply-add counted as two.
    pub fn flops(self) -> u64 {
        self.out.saturating_mul(self.inner).saturating_mul(self.tokens).saturating_mul(2)
    }
}

fn is_f8(dtype: Dtype) -> bool {
    matches!(dtype, Dtype::F8E4M3 | Dtype::F8E5M2)
}

/// Element types as the library numbers them.
#[derive(Clone, Copy)]
struct Types {
    weights: c_int,
    activations: c_int,
    result: c_int,
}

/// Types of a product with such weights; none where they would have to be converted first.
fn types(dtype: Dtype) -> Option<Types> {
    let all = |number| Types { weights: number, activations: number, result: number };
    Some(match dtype {
        Dtype::F32 => all(0),
        Dtype::F16 => all(2),
        Dtype::Bf16 => all(14),
        // Products of 8-bit floats need one E4M3 side, and give 16 bits.
        Dtype::F8E4M3 => Types { weights: 28, activations: 28, result: 14 },
        Dtype::F8E5M2 => Types { weights: 29, activations: 28, result: 14 },
        _ => return None,
    })
}

/// Whether products with such weights exist at all.
pub(super) fn multiplies(dtype: Dtype) -> bool {
    types(dtype).is_some()
}

/// What describes a product to the library; null until made.
struct Objects {
    product: Handle,
    weights: Handle,
    activations: Handle,
    result: Handle,
    chosen: Heuristic,
}

impl Default for Objects {
    fn default() -> Self {
        let none = std::ptr::null_mut();
        let chosen = Heuristic::default();
        Self { product: none, weights: none, activations: none, result: none, chosen }
    }
}

/// A product that is ready to run.
pub(super) struct Product {
    blas: Rc<Blas>,
    shape: Shape,
    objects: Objects,
}

impl Product {
    /// Multiplies on a stream. The three stretches must have the shape's sizes.
    pub fn run(
        &self,
        stream: &Stream,
        weights: Device,
        activations: Device,
        result: Device,
    ) -> Result<()> {
        let (one, zero) = (1.0f32, 0.0f32);
        let of = |device: Device| device.0 as *mut c_void;
        let Objects { product, weights: a, activations: b, result: c, chosen } = &self.objects;
        // SAFETY: all objects were made together; the stretches lie in owned memory, hold what the shape says, and
        // are ordered with everything else by the stream.
        let status = unsafe {
            (self.blas.functions.multiply)(
                self.blas.handle,
                *product,
                (&raw const one).cast(),
                of(weights),
                *a,
                of(activations),
                *b,
                (&raw const zero).cast(),
                of(result),
                *c,
                of(result),
                *c,
                &raw const chosen.algorithm,
                of(self.blas.workspace.start()),
                usize::try_from(WORKSPACE).unwrap_or(0),
                stream.handle().cast(),
            )
        };
        match status {
            0 => Ok(()),
            status => {
                Err(Error::Run(format!("cublasLtMatmul: status {status} for {:?}", self.shape)))
            }
        }
    }
}

impl Drop for Product {
    fn drop(&mut self) {
        let functions = &self.blas.functions;
        let layouts = [self.objects.weights, self.objects.activations, self.objects.result];
        for layout in layouts.into_iter().filter(|layout| !layout.is_null()) {
            // SAFETY: made in `build`, destroyed once.
            unsafe { (functions.destroy_layout)(layout) };
        }
        if !self.objects.product.is_null() {
            // SAFETY: made in `build`, destroyed once.
            unsafe { (functions.destroy_product)(self.objects.product) };
        }
    }
}
