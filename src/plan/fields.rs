//! Turns a block's line in a plan file into its pieces and back: the short form and the form with pieces.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::refs::{Entry, UseRef};
use super::spec::{BlockPlan, Evict, HostMemory, Loads, Part, Piece, Residency, Stream};
use super::tiers::{CopyRef, Staging};
use crate::units::{Bytes, Nanos};

/// A value, or a list of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(super) enum OneOrMany<T> {
    One(T),
    Many(Vec<T>),
}

/// A block as its file fields: a single whole piece is written flat.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct BlockFields {
    block: String,
    bytes: Bytes,
    compute: Nanos,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    on_link: Option<Nanos>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    resident: Option<Part>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    streamed: Option<Part>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    at: Option<OneOrMany<u64>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    enters_after: Option<Entry>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    kept: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    issue_after: Option<UseRef>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    issue_before: Option<UseRef>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    evict_after: Option<Evict>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    held_until: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    copies: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    from: Option<HostMemory>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    host_at: Option<OneOrMany<u64>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    read_after: Option<CopyRef>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    slack: Option<Nanos>,
    #[serde(default, skip_serializing_if = "Loads::is_empty")]
    loads: Loads,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pieces: Option<Vec<PieceFields>>,
}

/// A piece as its file fields.
#[derive(Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct PieceFields {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    resident: Option<Part>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    streamed: Option<Part>,
    bytes: Bytes,
    at: Option<OneOrMany<u64>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    enters_after: Option<Entry>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    kept: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    issue_after: Option<UseRef>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    issue_before: Option<UseRef>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    evict_after: Option<Evict>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    held_until: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    copies: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    from: Option<HostMemory>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    host_at: Option<OneOrMany<u64>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    read_after: Option<CopyRef>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    slack: Option<Nanos>,
    #[serde(default, skip_serializing_if = "Loads::is_empty")]
    loads: Loads,
}

fn one_or_many(at: Vec<u64>) -> OneOrMany<u64> {
    match at.as_slice() {
        [one] => OneOrMany::One(*one),
        _ => OneOrMany::Many(at),
    }
}

/// The place in the ring.
fn staging(at: Option<OneOrMany<u64>>, after: Option<CopyRef>) -> Result<Option<Staging>, String> {
    match (at, after) {
        (Some(OneOrMany::One(at)), after) => Ok(Some(Staging { at: vec![at], after })),
        (Some(OneOrMany::Many(at)), after) => Ok(Some(Staging { at, after })),
        (None, None) => Ok(None),
        (None, Some(_)) => Err("found read_after without host_at".into()),
    }
}

impl TryFrom<PieceFields> for Piece {
    type Error = String;

    fn try_from(fields: PieceFields) -> Result<Self, String> {
        let at = match fields.at {
            Some(OneOrMany::One(at)) => vec![at],
            Some(OneOrMany::Many(at)) if !at.is_empty() => at,
            _ => return Err("found no offset, expected at: an offset or a list of them".into()),
        };
        let staged = staging(fields.host_at, fields.read_after)?;
        let staged_only = fields.from == Some(HostMemory::Disk) && staged.is_some();
        let (part, residency) = match (fields.resident, fields.streamed) {
            (Some(part), None) => {
                let streams = fields.issue_after.is_some() || fields.issue_before.is_some();
                let leaves = fields.evict_after.is_some() || fields.held_until.is_some();
                let predicted = fields.slack.is_some();
                if streams
                    || leaves
                    || predicted
                    || (fields.from.is_some() && !staged_only)
                    || fields.copies.is_some()
                    || !fields.loads.is_empty()
                {
                    return Err("found issue, evict, held, copies, from, slack or loads on a resident piece, \
                                expected them on streamed pieces only, or from: disk with host_at"
                        .into());
                }
                (part, Residency::Resident)
            }
            (None, Some(part)) => {
                let stream = Stream {
                    issue_after: fields.issue_after,
                    issue_before: fields.issue_before,
                    evict_after: fields.evict_after.unwrap_or_default(),
                    held_until: fields.held_until,
                    copies: fields.copies.filter(|&copies| copies > 1).unwrap_or(0),
                    from: fields.from.unwrap_or_default(),
                    slack: fields.slack,
                    loads: fields.loads,
                };
                (part, Residency::Streamed(stream))
            }
            _ => return Err("expected either resident or streamed, found both or neither".into()),
        };
        let kept = fields.kept.unwrap_or(false);
        if kept && residency != Residency::Resident {
            return Err(
                "found kept on a streamed piece, expected it on resident pieces only".into()
            );
        }
        let (bytes, enters_after) = (fields.bytes, fields.enters_after);
        let piece = Self { part, bytes, at, enters_after, kept, residency, staged };
        if piece.staged.is_some() && piece.home() != HostMemory::Disk {
            return Err("found host_at on a piece that is not from disk".into());
        }
        Ok(piece)
    }
}

impl From<Piece> for PieceFields {
    fn from(piece: Piece) -> Self {
        let Piece { part, bytes, at, enters_after, kept, residency, staged } = piece;
        let (host_at, read_after) = match staged {
            Some(staged) => (Some(one_or_many(staged.at)), staged.after),
            None => (None, None),
        };
        let from = host_at.as_ref().map(|_| HostMemory::Disk);
        let (at, kept) = (Some(one_or_many(at)), kept.then_some(true));
        let placed = Self { bytes, at, enters_after, kept, ..Self::default() };
        let fields = Self { from, host_at, read_after, ..placed };
        match residency {
            Residency::Resident => Self { resident: Some(part), ..fields },
            Residency::Streamed(stream) => Self {
                streamed: Some(part),
                issue_after: stream.issue_after,
                issue_before: stream.issue_before,
                evict_after: Some(stream.evict_after),
                held_until: stream.held_until,
                copies: (stream.copies > 1).then_some(stream.copies),
                from: (stream.from != HostMemory::Pinned).then_some(stream.from),
                slack: stream.slack,
                loads: stream.loads,
                ..fields
            },
        }
    }
}

impl TryFrom<BlockFields> for BlockPlan {
    type Error = String;

    fn try_from(fields: BlockFields) -> Result<Self, String> {
        let BlockFields { block, bytes, compute, resident, streamed, at, .. } = fields;
        let issued = fields.issue_after.is_some() || fields.issue_before.is_some();
        let flat = resident.is_some() || streamed.is_some() || at.is_some();
        let flat = flat || issued || fields.evict_after.is_some() || fields.from.is_some();
        let flat = flat
            || fields.held_until.is_some()
            || fields.copies.is_some()
            || fields.host_at.is_some()
            || fields.read_after.is_some()
            || fields.enters_after.is_some()
            || fields.kept.is_some()
            || fields.slack.is_some()
            || !fields.loads.is_empty();
        let pieces = match fields.pieces {
            Some(_) if flat => {
                return Err(format!("block {block:?}: found pieces beside the short form"));
            }
            Some(pieces) => pieces,
            None => vec![PieceFields {
                resident,
                streamed,
                bytes,
                at,
                enters_after: fields.enters_after,
                kept: fields.kept,
                issue_after: fields.issue_after,
                issue_before: fields.issue_before,
                evict_after: fields.evict_after,
                held_until: fields.held_until,
                copies: fields.copies,
                from: fields.from,
                host_at: fields.host_at,
                read_after: fields.read_after,
                slack: fields.slack,
                loads: fields.loads,
            }],
        };
        let pieces: Result<_, _> = pieces.into_iter().map(Piece::try_from).collect();
        let pieces = pieces.map_err(|problem| format!("block {block:?}: {problem}"))?;
        let on_link = fields.on_link.unwrap_or_default();
        Ok(Self { block, bytes, compute, on_link, pieces })
    }
}

impl From<BlockPlan> for BlockFields {
    fn from(plan: BlockPlan) -> Self {
        let BlockPlan { block, bytes, compute, on_link, pieces } = plan;
        let mut pieces: Vec<PieceFields> = pieces.into_iter().map(PieceFields::from).collect();
        let single = pieces.len() == 1 && pieces[0].bytes == bytes;
        let flat = if single { pieces.pop().unwrap_or_default() } else { PieceFields::default() };
        Self {
            block,
            bytes,
            compute,
            on_link: Some(on_link).filter(|time| !time.is_zero()),
            resident: flat.resident,
            streamed: flat.streamed,
            at: flat.at,
            enters_after: flat.enters_after,
            kept: flat.kept,
            issue_after: flat.issue_after,
            issue_before: flat.issue_before,
            evict_after: flat.evict_after,
            held_until: flat.held_until,
            copies: flat.copies,
            from: flat.from,
            host_at: flat.host_at,
            read_after: flat.read_after,
            slack: flat.slack,
            loads: flat.loads,
            pieces: (!single).then_some(pieces),
        }
    }
}
