//! Adds to a schedule what its reads from disk wait for.

use std::collections::BTreeMap;

use super::{Builder, Op, Wait};
use crate::lane::OpKind;
use crate::plan::spec::Residency;
use crate::plan::tiers::Staging;

impl Builder<'_> {
    /// By piece that stays and comes from disk: the copy until which all must have ended before it is read. What a
    /// piece before it waited for holds for it, too, though that one may be kept, and not be read again.
    fn afters_of_what_stays(&self) -> BTreeMap<(usize, usize), Option<(usize, usize)>> {
        let mut until = None;
        let stays = self.pieces().filter(|(.., what)| what.residency == Residency::Resident);
        let staged = stays.filter_map(|(block, piece, what)| {
            Some(((block, piece), what.staged.as_ref()?.after.as_ref()))
        });
        let waits = staged.map(|(own, after)| {
            let target =
                after.and_then(|after| Some((*self.index.get(after.block.as_str())?, after.piece)));
            until = until.max(target);
            (own, until)
        });
        waits.collect()
    }

    /// A read waits for the copy that last took its place in the ring; one without a place there has one of its own.
    /// Every read for a pass comes after the copies of what stays: these have the ring to themselves.
    pub(super) fn add_read_waits(&mut self) {
        let is_cold = |op: &Op| {
            let staged = |piece: usize| {
                let what = &self.component.blocks[op.block].pieces[piece];
                what.residency == Residency::Resident && what.staged.is_some()
            };
            op.kind == OpKind::Copy && op.piece.is_some_and(staged)
        };
        let afters = if self.has_kept { self.afters_of_what_stays() } else { BTreeMap::new() };
        let cold = self.ops.iter().rposition(is_cold);
        let mut first = cold.map(|op| Wait { op, passes_back: 0 });
        for read in std::mem::take(&mut self.reads) {
            let Op { block, piece: Some(piece), ahead, .. } = self.ops[read] else { continue };
            let what = &self.component.blocks[block].pieces[piece];
            if what.residency != Residency::Resident {
                self.ops[read].waits.extend(first.take());
            } else if self.has_kept && what.staged.is_some() {
                let until = afters.get(&(block, piece)).copied().flatten();
                let before = |op: &Op| is_cold(op) && op.piece.map(|p| (op.block, p)) <= until;
                let last = self.ops.iter().rposition(before).filter(|_| until.is_some());
                self.ops[read].waits.extend(last.map(|op| Wait { op, passes_back: 0 }));
                continue;
            }
            let (target, back) = match &what.staged {
                Some(Staging { after: None, .. }) => continue,
                Some(Staging { after: Some(after), .. }) => {
                    let Some(&of) = self.index.get(after.block.as_str()) else { continue };
                    ((of, after.piece), after.passes_back)
                }
                None => ((block, piece), 1),
            };
            let copies = self.arrivals[target.0].iter().copied();
            let copies: Vec<(usize, u32)> =
                copies.filter(|&(op, _)| self.ops[op].piece == Some(target.1)).collect();
            for (op, of) in copies {
                // Issued a pass ahead, "the previous pass" of the copy is this one.
                let Some(passes_back) = (back + of).checked_sub(ahead) else {
                    let found = format!("{:?}", what.staged);
                    self.problem(block, "read_after", found, "a copy issued before the read");
                    continue;
                };
                self.ops[read].waits.push(Wait { op, passes_back });
            }
        }
    }
}
