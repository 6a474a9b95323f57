//! Turns a manifest, a workload, a device and a budget into a residency [`Plan`]: what stays, what streams, when.
//!
//! ```text
//! Request ──▶ Instance ── planner ──▶ Choice ── placement, waits ──▶ Evaluated ── layout ──▶ ComponentPlan
//!                │           ▲  matching: how much of each block          ▲                          │
//!                └── bound ──┘                                            └── cycle: exact pass time ◀┘ Schedule
//! ```
//!
//! # The trade
//!
//! A block must be whole in VRAM while it computes; its bytes come over the link, one copy at a time, and take
//! the place of others. Three equal blocks, room for two, everything streamed, copy 3, compute 2. A copy may start
//! once the use that frees its bytes has ended:
//!
//! ```text
//! h2d      |000|111|222|000|111|222|        one copy after the other: 9 per pass, copy-bound
//! compute      |00 |11 |22 |00 |11 |22      each waits for its copy: 1 of 3 idle
//! window   |0000000|2222222|1111111|        allocation and release are both in copy order,
//!              |1111111|0000000|2222222     so a ring of bytes never fragments
//! ```
//!
//! Every byte that stays is a byte that is not copied; a byte of window only lets a copy begin earlier. So
//! *residency is worth everything, deep prefetch nothing*, and the best residency is a part of every block: while
//! a block computes, the missing part of the next arrives ([`bound`] says how fast that can be at best, `matching`
//! how much of each block that means).
//!
//! # A checked example
//!
//! Ten equal blocks of 100 bytes at 1 byte/ns, 20 ns of compute each, room for six of them: 400 bytes are missing,
//! and no schedule is faster than `10 · (400 + 20) / 9 = 466.7` ns.
//!
//! ```
//! use vramplan::plan::{BlockPart, Granularity, Instance, plan_instance};
//! use vramplan::units::Bytes;
//!
//! let mut instance = Instance::equal(10, 100, 20, 600);
//! // Whole blocks: one place and five residents, 5 · (100 + 20), or two places and four, 6 · 100.
//! let whole = plan_instance(&instance, Granularity::Block)?;
//! assert_eq!(whole.prediction.pass.get(), 600);
//! assert_eq!(whole.bound.granularity.get(), 500);
//!
//! // The same blocks as a matrix of twenty rows each: a part of every block stays, and the bound is reached.
//! for block in &mut instance.uses {
//!     block.parts = vec![BlockPart::rows("w", Bytes::new(100), Bytes::new(5))];
//! }
//! let split = plan_instance(&instance, Granularity::Tensor)?;
//! assert_eq!(split.bound.any_schedule.get(), 467);
//! assert!(split.prediction.pass.get() <= 470, "{}", split.prediction.pass);
//! # Ok::<(), vramplan::error::Error>(())
//! ```

pub mod bound;
mod choice;
mod collectives;
pub mod cycle;
pub mod execution;
mod fields;
mod instance;
mod layout;
mod make;
mod margins;
mod matching;
mod numbering;
mod op;
pub mod pipeline;
pub mod placement;
pub mod planner;
mod policy;
mod refs;
mod schedule;
mod skips;
mod slice;
mod spec;
mod stage;
mod tiers;
pub mod timing;
mod unit;
mod validate;

pub use choice::{Choice, Evaluated};
pub use execution::Beside;
pub use instance::{BlockPart, Instance, Run, Use};
pub use layout::{ComponentInput, lay_out, plan_instance};
pub use make::{Prepared, RankCosts, Request};
pub use margins::{Binding, Margins};
pub use numbering::Numbering;
pub use op::{Op, Wait, When};
pub use policy::{Explored, POLICIES, Parameter, Policy, Range, Serves, Setting, Shape, Spec};
pub use refs::{Entry, UseRef};
pub use schedule::Schedule;
pub use skips::Mask;
pub use slice::Slice;
pub use spec::{
    BlockPlan, Budget, ComponentPlan, Digests, Evict, Granularity, HostMemory, HostSync, Loads,
    PLAN_FORMAT, Part, Piece, Plan, ROOT, Residency, Slab, Stream, Window,
};
pub use stage::{Enter, Stage, stages};
pub use tiers::{Allocator, CopyRef, HostBudget, HostNeed, HostUse, Staging, plan_on_host};
pub use unit::{OWN, Unit};
