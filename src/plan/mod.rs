//! Turns a manifest, a workload, a device and a budget into a residency [`Plan`]: what stays, what streams, when.
//!
//! ```text
//! Instance ── planner: which blocks stream ──▶ Choice ── layout: offsets, slots, waits ──▶ ComponentPlan
//!    │                                                                                        │
//!    └── bound: what no schedule can beat                    timing: exact pass time ◀── Schedule::of
//! ```
//!
//! The mathematics in one picture. Three equal blocks, two slots, everything streamed, copy 3, compute 2. Copy
//! `k` may start once the use two streamed blocks before it has ended, because that use frees its slot:
//!
//! ```text
//! h2d      |000|111|222|000|111|222|        one copy after the other: 9 per pass, copy-bound
//! compute      |00 |11 |22 |00 |11 |22      each waits for its copy: 1 of 3 ns idle
//! slot A   |0000000|2222222|1111111|        allocation and release are both in copy order,
//! slot B       |1111111|0000000|2222222     so a ring of slots never fragments
//! ```
//!
//! Keeping one block resident leaves two copies, 6 per pass, equal to all compute: nothing waits any more. That
//! is the whole trade: *residency is worth everything, deep prefetch nothing*.
//!
//! ```
//! use vramplan::plan::{Instance, planner, plan_instance};
//! // Ten equal blocks of 100 bytes at 1 byte/ns, 20 ns of compute each, room for six.
//! let instance = Instance::equal(10, 100, 20, 600);
//! let plan = plan_instance(&instance).unwrap();
//! // One slot and five residents: 5 · (100 + 20) would be 600; two slots: 6 · 100 = 600, and the bound is 500.
//! assert_eq!(plan.prediction.pass.get(), 600);
//! assert_eq!(plan.bound.granularity.get(), 500);
//! ```

pub mod bound;
mod fields;
mod instance;
mod layout;
mod make;
pub mod planner;
mod policy;
mod schedule;
mod spec;
pub mod timing;
mod validate;

pub use instance::{BlockPart, Instance, Use};
pub use layout::{ComponentInput, lay_out, plan_instance, predict};
pub use make::{Prepared, Request};
pub use policy::{Explored, POLICIES, Parameter, Policy, Range, Setting, Shape, Spec, Unit};
pub use schedule::{Op, Schedule, Wait, When};
pub use spec::{
    BlockPlan, Budget, ComponentPlan, Digests, Evict, Granularity, HostMemory, HostSync,
    PLAN_FORMAT, Part, Piece, Plan, ROOT, Residency, Slab, Stream, UseRef, Window,
};
