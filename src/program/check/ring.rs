//! Proves the ring of pinned host memory safe: what is read into it is copied out before its place is taken again.

use super::{Clock, Event, Walk};
use crate::plan::Op;

/// A stretch of the ring that belongs to one piece.
#[derive(Debug, Clone)]
pub(super) struct Staged {
    end: u64,
    block: usize,
    piece: usize,
    /// The pass that uses it.
    pass: u32,
    reader: Event,
    /// The copy that takes it to the device; none before it is issued.
    copied: Option<Event>,
}

impl Walk<'_> {
    /// A read: everything that it overwrites has surely been copied.
    pub(super) fn enter_ring(&mut self, op: &Op, event: Event, start: &Clock) {
        let phase = &self.program.phases[event.phase];
        let piece = op.piece.unwrap_or(0);
        let read = format!("read of {}", self.name(event.phase, op.block, event.pass));
        let Some((from, to)) = phase.places[op.block][piece].host_range(event.pass) else {
            self.problem(read, "no place in the ring".into(), "one, where a piece is from disk");
            return;
        };
        let read = format!("{read} into bytes {from}..{to}");
        let (of, end) = (phase.of, phase.ring.get());
        if to > end {
            let found = format!("an end past the ring of {end} bytes");
            self.problem(read, found, "a place inside the ring");
            return;
        }
        let begin = self.rings.range((of, 0)..(of, from)).next_back();
        let begin = begin.filter(|(_, staged)| staged.end > from).map_or(from, |(&(_, at), _)| at);
        let taken: Vec<u64> =
            self.rings.range((of, begin)..(of, to)).map(|(&(_, at), _)| at).collect();
        for at in taken {
            let Some(old) = self.rings.remove(&(of, at)) else { continue };
            if !old.copied.is_some_and(|copy| copy.before(start)) {
                let owner = self.name(old.reader.phase, old.block, old.pass);
                let found = format!("a start that does not wait for the copy of {owner}");
                let expected = "a wait for the copy that takes these bytes to the device";
                self.problem(read.clone(), found, expected);
            }
        }
        let (block, pass) = (op.block, event.pass);
        let staged = Staged { end: to, block, piece, pass, reader: event, copied: None };
        self.rings.insert((of, from), staged);
    }

    /// A copy of what comes from disk: it was read for this use, surely before.
    pub(super) fn leave_ring(&mut self, op: &Op, event: Event, start: &Clock) {
        let piece = op.piece.unwrap_or(0);
        let phase = &self.program.phases[event.phase];
        let Some((from, to)) = phase.places[op.block][piece].host_range(event.pass) else {
            return;
        };
        let staged = self.rings.get_mut(&(phase.of, from)).filter(|staged| {
            // What another generation read for the same use is not what this one reads.
            let own = (staged.reader.phase, staged.block, staged.piece, staged.pass);
            staged.end == to && own == (event.phase, op.block, piece, event.pass)
        });
        let found = match staged {
            Some(staged) => {
                staged.copied = Some(event);
                if staged.reader.before(start) {
                    return;
                }
                format!("a start that does not wait for the read into {from}..{to}")
            }
            None => format!("other bytes, or none, in {from}..{to} of the ring"),
        };
        let copy = format!("copy of {}", self.name(event.phase, op.block, event.pass));
        self.problem(copy, found, "what was read for it, before it starts");
    }
}
