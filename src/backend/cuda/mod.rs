//! Tells whether this machine could run programs on a real GPU; running them comes in a later version.

use crate::error::Error;

/// Why programs cannot run on CUDA here, found without ever calling into a missing library.
///
/// cudarc panics when the driver library or a symbol of it is missing, so its presence is asked for first.
pub fn unavailable() -> Error {
    #[expect(unsafe_code, reason = "loads the driver library and looks a symbol up; calls nothing")]
    // SAFETY: loading runs only the driver's own initialisers, as starting any CUDA program does.
    let present = unsafe { cudarc::driver::sys::is_culib_present() };
    let message = if present {
        "the CUDA driver is here, but this version of vramplan does not run plans on it yet; \
         use --backend sim"
    } else {
        "no CUDA driver library on this machine (and this version of vramplan does not run plans \
         on it yet); use --backend sim"
    };
    Error::Backend { what: "the cuda backend", message: message.to_owned() }
}
