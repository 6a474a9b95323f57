//! What a study knows beyond the recorded run: other policies, other budgets, the plan's text.

use crate::figures::Origin;
use crate::profile::Profile;
use crate::units::{Bytes, Nanos};

/// Optional sections of a report. The default has none of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Extras {
    /// Sentences that come before the report's own verdict.
    pub verdict: Vec<String>,
    /// Policies under the same budget, in the order to be shown.
    pub policies: Vec<PolicyRow>,
    /// Steady pass time against VRAM, one row per policy and budget, in any order.
    pub sweep: Vec<SweepRow>,
    /// The policy whose run is reported; emphasised in tables and charts.
    pub chosen: Option<String>,
    /// What engines pay where one component follows another; the first row is what arrives too late for an idle link to hide.
    pub boundaries: Vec<BoundaryRow>,
    /// The pass time that no schedule can beat under the reported run's budget.
    pub bound: Option<Nanos>,
    /// The same at each budget of the sweep, by increasing VRAM.
    pub bounds: Vec<BoundPoint>,
    /// Where the times of `policies` and `sweep` come from; estimated where not given.
    pub origin: Option<Origin>,
    /// The plan file's text.
    pub plan_yaml: Option<String>,
    /// The run that the main run's plan predicts; what it took is compared with it block by block.
    pub planned: Option<Profile>,
}

/// One policy at its setting under the reported budget.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyRow {
    /// Its name.
    pub policy: String,
    /// Its setting, as `key=value` pairs.
    pub parameters: String,
    /// Steady pass time.
    pub pass: Nanos,
    /// Peak VRAM, reserve included.
    pub peak: Bytes,
    /// H2D bytes of a steady pass.
    pub bytes_per_pass: Bytes,
    /// Whether the peak is within the budget.
    pub fits: bool,
}

/// What one engine pays where one component follows another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BoundaryRow {
    /// Its policy.
    pub policy: String,
    /// One generation from an empty slab; absent where none ran.
    pub total: Option<Nanos>,
    /// By boundary: its name and its cost.
    pub costs: Vec<(String, Nanos)>,
}

/// One policy at one budget.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SweepRow {
    /// Its name.
    pub policy: String,
    /// The budget.
    pub vram: Bytes,
    /// Steady pass time; absent where the policy does not fit.
    pub pass: Option<Nanos>,
}

/// What no schedule can beat at one budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BoundPoint {
    /// The budget.
    pub vram: Bytes,
    /// The pass time.
    pub pass: Nanos,
}
