//! Plans, runs and profiles the offload of model weights that do not fit a GPU's memory.
//!
//! Engines stream transformer blocks over PCIe while earlier blocks compute, and leave their users to guess how many
//! blocks stay, how many slots there are, how far ahead to fetch. vramplan replaces the guess by a plan: a file that
//! says what stays and what streams, with its predicted time and a bound that no schedule of blocks can beat.
//!
//! # The map
//!
//! ```text
//! checkpoint ─scan─▶ Manifest ─┐
//! device spec (probed/built-in) ├─plan─▶ Plan ─lower─▶ Program ─run─▶ Profile ─report─▶ HTML, SVG, CSV, trace
//! workload (passes, tokens)  ───┘  (YAML)            (in memory)  (sim | CUDA)  (file)
//! ```
//!
//! | room | turns | into | start reading at |
//! |---|---|---|---|
//! | [`scan`] | checkpoint headers | [`model::Manifest`] | [`scan::read`] |
//! | [`model`] | a manifest file | components, blocks, tensors | [`model::Manifest`] |
//! | [`device`] | a device file | what the hardware can do | [`device::DeviceSpec`] |
//! | [`workload`] | tokens and passes | compute time per use | [`workload::costs`] |
//! | [`shard`] | all of these and a number of ranks | each rank's own | [`shard::Shard::divide`] |
//! | [`plan`] | all of these and a budget | [`plan::Plan`] | [`plan::Request`] |
//! | [`program`] | a plan | operations with explicit waits, proved safe | [`program::lower`], [`program::check`] |
//! | [`backend`] | a program | spans on lanes | [`backend::sim::Sim`] |
//! | [`profile`] | spans, foreign traces | figures, stalls and their causes | [`profile::Profile`], [`profile::trace`] |
//! | [`report`] | profiles | pages, plots, traces | [`report::render`] |
//! | [`cli`] | arguments | calls, answers, files | `vramplan --help` |
//!
//! Below them lie [`units`] (exact integers with units), [`error`] (one error, its exit codes), [`lane`] and
//! [`figures`] (the words that plans and profiles share), [`yaml`], [`digest`] and [`suggest`].
//!
//! # What is absent, on purpose
//!
//! * Nothing below [`cli`] opens a user's file or prints; `scan` takes readers, reports are values.
//! * Only `backend::cuda` names the driver and uses `unsafe`. The planner does not know the simulator.
//! * No result depends on a clock, on hash order or on thread timing; times and bytes are integers until printed.
//! * A report needs neither model, plan nor GPU: the profile says everything.
//!
//! # From a model to a profile
//!
//! ```
//! use vramplan::{backend, device, model, plan::{Granularity, Request, Unit}, program, workload};
//!
//! let manifest = model::builtin::load("flux1-dev").unwrap()?;
//! let request = Request {
//!     components: vec![manifest.main_component().unwrap().name.clone()],
//!     workload: workload::for_model(&manifest)?,
//!     device: device::builtin::load("rtx-4090").unwrap()?,
//!     vram: "12GiB".parse().unwrap(),
//!     granularity: Granularity::Tensor,
//!     unit: Unit::Block,
//!     host: None,
//!     holds: Default::default(),
//!     generations: 1,
//!     rank: None,
//!     manifest,
//! };
//! let plan = request.plan()?;
//! let program = program::lower(&plan)?;
//! assert!(program::check::check(&program).is_ok());
//!
//! let mut counts = backend::Discard::default();
//! backend::Backend::run(&backend::sim::Sim::default(), &program, &mut counts)?;
//! assert_eq!(counts.makespan, plan.components[0].prediction.makespan); // predicted = simulated, to the nanosecond
//! # Ok::<(), vramplan::error::Error>(())
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
pub mod shard;
pub mod suggest;
pub mod units;
pub mod workload;
pub mod yaml;
