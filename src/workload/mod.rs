//! Turns a workload file, or a model's defaults and a few flags, into compute time per use of every block.
//!
//! ```text
//! Manifest ─for_model─▶ Workload (passes, batch, tokens | height × width × frames, reserve, given times)
//!                          │ with_overrides(flags)
//!                          │ class ─▶ family: what each weight sees      tokens per stream: image 4096, text 512
//!                          ▼ costs(component, device)
//! FLOPs per use = Σ 2·out·in·tokens(weight) + Σ 4·queries·keys·width(attention)
//! time per use  = max(FLOPs ÷ (peak × efficiency), bytes ÷ memory rate)         … unless given by the workload
//! ```
//!
//! Operations are exact for the families in the table; times are estimates from the device spec.

mod activations;
pub mod builtin;
mod cost;
mod defaults;
mod family;
mod flops;
mod given;
mod roles;
mod seen;
mod skips;
mod spec;
mod tokens;

pub use activations::{
    FIXED as FIXED_ACTIVATIONS, activations_estimate, scaled as scaled_activations,
};
pub use cost::{ComponentCosts, UseCost, costs, costs_of_share};
pub use defaults::{Overrides, default_for, for_model};
pub use family::{decodes, matches};
pub use roles::Role;
pub use seen::{Exchanged, Seen};
pub use skips::{Copies, Skip, contradictions, in_range};
pub use spec::{MAX_PASSES, Passes, Reserve, WORKLOAD_FORMAT, Workload};
pub use tokens::Share;
