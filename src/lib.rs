//! Plans, runs and profiles the offload of model weights that do not fit a GPU's memory.
//!
//! ```text
//! checkpoint ─scan─▶ Manifest ─┐
//! device spec (probed/built-in) ├─plan─▶ Plan ─lower─▶ Program ─run─▶ Profile ─report─▶ HTML, SVG, CSV, trace
//! workload (passes, tokens)  ───┘  (YAML)            (in memory)  (sim | CUDA)  (file)
//! ```

pub mod backend;
pub mod cli;
pub mod device;
pub mod digest;
pub mod error;
pub mod figures;
pub mod lane;
pub mod model;
pub mod plan;
pub mod profile;
pub mod program;
pub mod report;
pub mod scan;
pub mod suggest;
pub mod units;
pub mod workload;
pub mod yaml;
