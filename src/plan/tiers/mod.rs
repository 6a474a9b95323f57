//! Turns a host budget into a home for every byte that streams: pinned memory, pageable memory, or disk.
//!
//! What stays in VRAM needs no home on the host once it has been loaded. What streams does:
//!
//! ```text
//! disk ──read──▶ ring of pinned memory ──copy──▶ window of the slab ──▶ compute
//!                kept, pinned   ─────────copy──▶
//!                kept, pageable ─────────copy──▶ (at the rate of pageable memory)
//! ```
//!
//! The budget holds what is kept and the ring, as they are locked ([`Allocator`]). Bytes that fit neither the slab nor
//! the budget cross the disk in every pass, so the planner's problem repeats one tier down, and so does its answer: part
//! of every block comes from disk, as much as the bound's instants say ([`shares`]), and what is read goes through a
//! ring of bytes in which allocation and release are both in the order of the copies ([`stage`]). A read waits for
//! the copy that last took these bytes of the ring, a copy for its read; both are waits of the one schedule.
//!
//! Where the budget holds less than the whole model, what stays in VRAM is read through the same ring in the first
//! pass, before anything else. What is kept on the host is there before the first pass, as in every plan.
//!
//! ```
//! use vramplan::plan::{BlockPart, Granularity, HostBudget, HostMemory, Instance, Residency, plan_on_host};
//! use vramplan::units::{Bytes, Rate};
//!
//! // Ten blocks of 1 MB, 100 us of compute each; VRAM for five of them, host memory for two.
//! let mut instance = Instance::equal(10, 1_000_000, 100_000, 5_000_000);
//! for block in &mut instance.uses {
//!     block.parts = vec![BlockPart::rows("w", block.bytes, Bytes::new(1_000))];
//! }
//! if let Some(disk) = &mut instance.device.disk {
//!     disk.rate = Rate::new(500_000_000);
//! }
//! let host = HostBudget { bytes: Bytes::new(2_000_000), lockable: Bytes::new(2_000_000) };
//! let plan = plan_on_host(&instance, Granularity::Tensor, &host)?;
//! // At least 3 MB cross the disk in every pass, 6 ms at its rate; and no plan can do that in less.
//! assert!(plan.prediction.disk_per_pass >= Bytes::new(3_000_000));
//! assert_eq!(plan.bound.binding, "disk");
//! assert!(plan.prediction.pass >= plan.bound.any_schedule);
//! assert!(plan.bound.any_schedule.get() >= 6_000_000);
//! # Ok::<(), vramplan::error::Error>(())
//! ```

mod allocator;
mod components;
mod needs;
mod search;
mod shares;
mod stage;
mod validate;

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::bound::HostTier;
use crate::device::DeviceSpec;
use crate::units::Bytes;

pub use allocator::Allocator;
pub(super) use components::plan_all;
pub use needs::HostNeed;
pub use search::plan_on_host;
pub(super) use validate::{over_budget, problems};

/// Host memory that a plan may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostBudget {
    /// All of it: what is kept, and the ring.
    pub bytes: Bytes,
    /// The part of it that may be page-locked.
    pub lockable: Bytes,
}

impl HostBudget {
    /// So many bytes on a device's host, of which its share of the memory may be page-locked.
    pub fn on(device: &DeviceSpec, bytes: Bytes) -> Self {
        let host = &device.host;
        let memory = host.memory.max(bytes);
        let limit = Bytes::new(host.pinned_limit.share_of(memory.get()));
        Self { bytes, lockable: bytes.min(limit) }
    }

    /// The tier below it, for bounds; none where nothing is known of the disk.
    pub(super) fn tier<'a>(&self, device: &'a DeviceSpec) -> Option<HostTier<'a>> {
        device.disk.as_ref().map(|disk| HostTier { bytes: self.bytes, disk })
    }
}

/// The host memory of a component's plan: what it is given, and how it is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HostUse {
    /// Given.
    pub budget: Bytes,
    /// Kept in pinned memory.
    pub pinned: Bytes,
    /// Kept in pageable memory.
    pub pageable: Bytes,
    /// Read from disk in every pass.
    pub disk: Bytes,
    /// The ring of pinned memory that reads go through.
    pub ring: Bytes,
    /// What the allocator locks for the kept bytes and the ring.
    pub locked: Bytes,
    /// How it locks.
    pub allocator: Allocator,
}

impl HostUse {
    /// Host memory in use from the first pass to the last.
    pub fn bytes(&self) -> Bytes {
        self.locked.saturating_add(self.pageable)
    }
}

/// Where a piece that comes from disk lies in the ring, and what its read waits for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Staging {
    /// Offsets in the ring, one per pass, used in turn.
    pub at: Vec<u64>,
    /// The copy that must have ended before the read may start; none where the place is free anyway.
    pub after: Option<CopyRef>,
}

/// The copy of a piece in the same pass, or so many passes back: `blocks.3#1`, `blocks.3#1@-1`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyRef {
    /// The block's id without its component, or `root`.
    pub block: String,
    /// The piece's position among the block's pieces.
    pub piece: usize,
    /// 0 for the same pass, 1 for the previous one.
    pub passes_back: u32,
}

impl fmt::Display for CopyRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.block, self.piece)?;
        match self.passes_back {
            0 => Ok(()),
            back => write!(f, "@-{back}"),
        }
    }
}

impl FromStr for CopyRef {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || {
            format!("found {text:?}, expected a copy such as blocks.3#0 or blocks.3#0@-1 (to @-16)")
        };
        let (block, rest) = text.rsplit_once('#').ok_or_else(expected)?;
        let (piece, back) = match rest.split_once("@-") {
            Some((piece, back)) => {
                (piece, back.parse().ok().filter(|back| (1..=16).contains(back)))
            }
            None => (rest, Some(0)),
        };
        match (piece.parse(), back) {
            (Ok(piece), Some(passes_back)) => {
                Ok(Self { block: block.to_owned(), piece, passes_back })
            }
            _ => Err(expected()),
        }
    }
}

impl Serialize for CopyRef {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for CopyRef {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for CopyRef {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "CopyRef".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "the copy of a piece in the same pass (blocks.3#0) or in an earlier one (blocks.3#0@-1)",
            "type": "string",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_are_named_as_they_are_read() {
        for text in ["blocks.3#0", "a.b.12#7@-1", "odd#name.0#2@-16"] {
            let read: CopyRef = text.parse().expect("a copy");
            assert_eq!(read.to_string(), text);
        }
        for text in ["blocks.3", "blocks.3#x", "blocks.3#1@-0", "blocks.3#1@-17", "blocks.3#1@1"] {
            assert!(text.parse::<CopyRef>().is_err_and(|why| why.contains("blocks.3#0")), "{text}");
        }
    }

    #[test]
    fn a_share_of_the_larger_of_machine_and_budget_may_be_locked() {
        let mut device = DeviceSpec::reference();
        device.host.memory = Bytes::new(1_000);
        device.host.pinned_limit = crate::units::Fraction::from_ppm(500_000);
        let lockable = |bytes| HostBudget::on(&device, Bytes::new(bytes)).lockable.get();
        assert_eq!([lockable(100), lockable(800), lockable(2_000)], [100, 500, 1_000]);
    }
}
