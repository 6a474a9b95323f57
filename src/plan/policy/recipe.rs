//! Turns how a system offloads into data: a [`Recipe`] is all that one policy at one setting differs in.
//!
//! ```text
//! which units stay ─▶ when the host issues a copy ─▶ what the copy waits for ─▶ where its bytes lie ─▶ when they go
//!   Stays               Issue                          Gate                       Window               Evict, syncs
//! ```

use crate::lane::Lane;
use crate::plan::spec::{Evict, HostMemory};
use crate::plan::unit::Unit;
use crate::units::Nanos;

/// What a host synchronisation costs its thread. Estimated: peers are known to pay it, none states it.
pub(super) const HOST_SYNC: Nanos = Nanos::new(20_000);

/// What issuing one copy costs the host's thread. Estimated, as above.
pub(super) const ENQUEUE: Nanos = Nanos::new(5_000);

/// How block lists are joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lists {
    /// One chain through all of them.
    Chained,
    /// Each by itself, with its own residents, window and wrap-around.
    Each,
    /// Only the first streams; the others stay.
    First,
}

/// Which units stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stays {
    /// None.
    Nothing,
    /// All.
    Everything,
    /// The first so many.
    Leading(usize),
    /// All but so many, which are streamed at `round(k · n / streamed)` (SGLang's `strided`).
    Strided(usize),
    /// All but so many, which are streamed at `floor((2k + 1) · n / (2 · streamed))` (musubi's ring).
    Spread(usize),
    /// All but the last `streamed` of every `group` (vLLM).
    GroupHeads { group: usize, streamed: usize },
    /// All but the first and last so many (musubi's exchange of a few).
    Middle(usize),
    /// So many, as the heads of so many equal stretches (cache-dit).
    Spans { count: usize, bins: usize },
    /// Of each unit the last tensors, up to so many per cent of it (FlexGen).
    Share(u64),
    /// The largest so many (ComfyUI).
    Largest(usize),
    /// Those of fewer bytes than this (ZeRO's persistence threshold).
    Smaller(u64),
}

/// Before which use the host issues which copies. A unit that is not there at its own use is always loaded then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Issue {
    /// Nothing ahead.
    OnDemand,
    /// At every `p`-th unit those that are `p` to `2p − 1` further on, residents counted (SGLang's burst).
    Burst(usize),
    /// At every unit the next so many streamed ones.
    Next(usize),
    /// At the first of so many the whole group.
    Group(usize),
    /// At every unit those that follow, up to so many bytes (ZeRO's bucket).
    Bucket(u64),
    /// As soon as the place is free.
    WhenFree,
}

/// What a copy waits for besides the one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gate {
    /// All compute that was issued before it.
    Compute,
    /// The use that had the slot before, of so many slots used in turn.
    Slots(usize),
    /// All compute issued before so many streamed units ago (ComfyUI's stream rotation).
    Rotation(usize),
}

/// Where streamed bytes lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Window {
    /// Wherever they fit while they are live: what a caching allocator gives at best.
    Fitted,
    /// In so many equal buffers of the largest unit, used in turn.
    Buffers(usize),
    /// In one buffer per phase.
    PerPhase,
}

/// At which uses the host synchronises, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SyncAt {
    /// Before every streamed unit, before it issues copies there.
    BeforeStreamed,
    /// Once copies are issued, before the use at which they are.
    Arrival,
    /// After every streamed unit.
    AfterStreamed,
    /// After every unit.
    AfterEvery,
    /// After uses that release something.
    Release,
}

/// A synchronisation of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sync {
    pub(super) at: SyncAt,
    pub(super) waits: &'static [Lane],
}

/// A policy at a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Recipe {
    pub(super) unit: Unit,
    pub(super) lists: Lists,
    pub(super) stays: Stays,
    /// Whether what lies outside the lists comes in for every pass and goes back after it.
    pub(super) root_streams: bool,
    pub(super) issue: Issue,
    pub(super) gate: Gate,
    /// Whether copies for the next pass are issued in this one.
    pub(super) wraps: bool,
    pub(super) window: Window,
    pub(super) evict: Evict,
    /// The units of a group stay until its last has ended; 1 for no groups.
    pub(super) group: usize,
    /// One copy per tensor instead of one per unit.
    pub(super) per_tensor: bool,
    pub(super) from: HostMemory,
    pub(super) syncs: &'static [Sync],
}

impl Recipe {
    /// Everything stays.
    pub(super) const RESIDENT: Self = Self {
        unit: Unit::Block,
        lists: Lists::Chained,
        stays: Stays::Everything,
        root_streams: false,
        issue: Issue::OnDemand,
        gate: Gate::Compute,
        wraps: false,
        window: Window::Fitted,
        evict: Evict::Use,
        group: 1,
        per_tensor: false,
        from: HostMemory::Pinned,
        syncs: &[],
    };

    /// A sliding window: each unit is fetched while the one before it computes, round into the next pass.
    pub(super) const WINDOW: Self =
        Self { stays: Stays::Nothing, issue: Issue::Next(1), wraps: true, ..Self::RESIDENT };
}
