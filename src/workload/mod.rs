//! Turns a workload file, or a model's defaults and a few flags, into compute time per use of every block.
//!
//! ```text
//! Workload (passes, batch, tokens | height × width × frames, reserve, given times)
//!    │ resolve(component class)                      tokens per stream: image 4096, text 512
//!    ▼
//! Costs: FLOPs per use = Σ 2·out·in·tokens(weight) + Σ 4·q·k·width(attention)
//!        time per use  = max(FLOPs ÷ (peak × efficiency), bytes ÷ memory rate)      … unless given or measured
//! ```

mod activations;
pub mod builtin;
mod cost;
mod defaults;
mod family;
mod flops;
mod given;
mod spec;
mod tokens;

pub use activations::{FIXED as FIXED_ACTIVATIONS, activations_estimate};
pub use cost::{ComponentCosts, UseCost, costs};
pub use defaults::{Overrides, default_for};
pub use spec::{Passes, Reserve, WORKLOAD_FORMAT, Workload};
