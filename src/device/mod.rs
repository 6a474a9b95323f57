//! Turns a device file into a [`DeviceSpec`]: what the hardware can do, and where each number came from.
//!
//! A spec knows no model and no decision. Rates and latencies give the two costs that planning needs: the time
//! of a copy of `x` bytes, `latency + ceil(x / rate)` (or a measured curve), and the time of so many operations.

pub mod builtin;
mod spec;

pub(crate) use spec::MAX_LATENCY;
pub use spec::{Compute, DEVICE_FORMAT, DeviceSpec, Host, Link, Memory, Pcie};
