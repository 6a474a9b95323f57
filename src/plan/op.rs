//! Turns a plan into operations: what each does and waits for, and the passes that it is part of.

use crate::lane::{Lane, OpKind};
use crate::units::{Bytes, Nanos};

/// The passes of which an operation is part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// Every pass.
    Every,
    /// The first pass only: loads of what stays, and the cold start of what is fetched a pass ahead.
    First,
    /// Every pass but the last: fetches for the pass that follows.
    ExceptLast,
    /// One pass of every so many: loads of what takes turns staying.
    Turn {
        /// Which of them, from 0.
        turn: u32,
        /// How many; the same for all operations of a schedule.
        of: u32,
    },
}

impl When {
    /// Whether the operation is part of pass `pass` of `passes`.
    pub fn includes(self, pass: u32, passes: u32) -> bool {
        match self {
            Self::Every => true,
            Self::First => pass == 0,
            Self::ExceptLast => pass + 1 < passes,
            Self::Turn { turn, of } => pass % of.max(1) == turn,
        }
    }

    /// Whether the operation is part of a steady pass of this turn.
    pub fn in_turn(self, turn: u32) -> bool {
        match self {
            Self::Every | Self::ExceptLast => true,
            Self::First => false,
            Self::Turn { turn: own, .. } => own == turn,
        }
    }
}

/// A dependency: operation `op` of this pass, or of `passes_back` passes before.
///
/// It counts only where that operation exists: waits into passes before the first, or for an operation that is
/// not part of the pass it names, are void.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wait {
    /// Index into [`Schedule::ops`](super::schedule::Schedule::ops).
    pub op: usize,
    /// 0 for the same pass.
    pub passes_back: u32,
}

/// One operation of a pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Op {
    /// What it does.
    pub kind: OpKind,
    /// Where it runs.
    pub lane: Lane,
    /// The use it belongs to: index into the component's blocks.
    pub block: usize,
    /// The piece it moves: index into the block's pieces.
    pub piece: Option<usize>,
    /// Bytes moved.
    pub bytes: Bytes,
    /// How long it takes undisturbed.
    pub duration: Nanos,
    /// The last part of that, during which its collectives hold the host's link, and copies pause.
    pub on_link: Nanos,
    /// In which passes.
    pub when: When,
    /// 1 when it is issued in the pass before the one it serves, else 0.
    pub ahead: u32,
    /// Whether what it brings is used in later passes, too: never left out with a use.
    pub lasts: bool,
    /// What it waits for besides the operation before it on its lane.
    pub waits: Vec<Wait>,
    /// Slab bytes that are in use from its start on.
    pub acquires: Bytes,
    /// Slab bytes that are free from its end on.
    pub releases: Bytes,
    /// By turn: slab bytes that are free from its end on besides, where something takes turns staying.
    pub releases_in: Vec<Bytes>,
}

impl Op {
    /// Slab bytes that are free from its end on in that pass.
    pub fn released(&self, pass: u32) -> Bytes {
        let turns = self.releases_in.len().max(1);
        let besides = self.releases_in.get(pass as usize % turns).copied().unwrap_or_default();
        self.releases.saturating_add(besides)
    }

    /// An operation of a use that takes no time, moves nothing and waits for nothing.
    pub(super) fn idle(kind: OpKind, lane: Lane, block: usize) -> Self {
        Self {
            kind,
            lane,
            block,
            piece: None,
            bytes: Bytes::ZERO,
            duration: Nanos::ZERO,
            on_link: Nanos::ZERO,
            when: When::Every,
            ahead: 0,
            lasts: false,
            waits: Vec::new(),
            acquires: Bytes::ZERO,
            releases: Bytes::ZERO,
            releases_in: Vec::new(),
        }
    }
}
