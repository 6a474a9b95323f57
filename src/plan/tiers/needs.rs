//! Names what a policy's engine needs of the host for a plan.

use serde::Serialize;

use super::Allocator;
use crate::units::{Bytes, plain};

/// Host memory that an engine takes for a component's weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct HostNeed {
    /// Bytes it asks to be pinned.
    #[serde(rename = "pinned_bytes", serialize_with = "plain")]
    pub pinned: Bytes,
    /// Bytes that are locked for them.
    #[serde(rename = "locked_bytes", serialize_with = "plain")]
    pub locked: Bytes,
    /// Bytes in ordinary memory.
    #[serde(rename = "pageable_bytes", serialize_with = "plain")]
    pub pageable: Bytes,
    /// How it locks.
    pub allocator: Allocator,
    /// Whether it keeps a copy of what stays in VRAM, too.
    pub keeps_residents: bool,
}

impl HostNeed {
    /// All of it.
    pub fn bytes(&self) -> Bytes {
        self.locked.saturating_add(self.pageable)
    }

    /// Whether it fits so much host memory, of which so much may be locked.
    pub fn fits(&self, budget: &super::HostBudget) -> bool {
        self.bytes() <= budget.bytes && self.locked <= budget.lockable
    }
}
