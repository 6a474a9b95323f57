//! Turns the ends of passes into marks: the events that the host waits for, and that times are counted from.
//!
//! A lane has a mark at the end of every pass of a phase in which it runs something after the first pass, and one where
//! it runs something in the first alone. So a mark never stands behind operations of a later phase that were issued
//! early: the end of a pass is never later than the pass.

use super::executor::{Run, STREAMS};
use super::part::Used;
use super::read::From;
use super::stream::Event;
use crate::error::Result;
use crate::lane::Lane;

impl Run<'_> {
    /// The event that is recorded last on a lane so far, if any was.
    pub fn last_mark(&self, lane: Lane) -> Option<&Event> {
        let marks = &self.marks[lane.index()];
        let next = self.next_mark[lane.index()];
        next.checked_sub(1).and_then(|last| marks.get(last % marks.len().max(1)))
    }

    /// Records the end of a pass on every lane that it, or a pass after it, runs something on.
    pub fn mark(&mut self, part: usize, pass: u32) -> Result<()> {
        for lane in STREAMS {
            let marked = match self.part(part).used[lane.index()] {
                Used::Always => true,
                // Where all of it was issued early, so was this.
                Used::First => pass == 0 && self.part(part).marks[0][lane.index()].is_none(),
                Used::Never => false,
            };
            if marked {
                self.mark_lane(part, pass, lane)?;
            }
        }
        Ok(())
    }

    /// Records the end of a pass on one lane: what is issued to it next is not of this pass.
    fn mark_lane(&mut self, part: usize, pass: u32, lane: Lane) -> Result<()> {
        let slot = self.next_mark[lane.index()] % self.marks[lane.index()].len().max(1);
        if let Some(stream) = self.stream(lane) {
            stream.record(&self.marks[lane.index()][slot])?;
            self.next_mark[lane.index()] += 1;
            let own = self.part_mut(part);
            let row = own.row(pass);
            own.marks[row][lane.index()] = Some(slot);
        }
        Ok(())
    }

    /// Marks the end of a lane's only pass in a part, once all of it has been issued early: operations of other parts
    /// may follow at once.
    pub fn mark_early(&mut self, part: usize, lane: Lane) -> Result<()> {
        let own = self.part(part);
        let total = own.numbering.total(lane) + self.before[part][lane.index()];
        match own.used[lane.index()] {
            Used::First if self.issued[lane.index()] == total => self.mark_lane(part, 0, lane),
            _ => Ok(()),
        }
    }

    /// By lane: the event at the end of a pass that was issued by streams, and where the reader finds it again.
    pub fn mark_of(&self, part: usize, pass: u32, lane: Lane) -> Option<(From, &Event)> {
        let own = self.part(part);
        match own.used[lane.index()] {
            Used::Never => return None,
            Used::First if pass > 0 => return None,
            _ => {}
        }
        if let Some(repeat) = own.repeat.as_ref().filter(|repeat| repeat.includes(pass)) {
            let event = repeat.mark(pass)[lane.index()].as_ref()?;
            return Some((From::Inside(part, pass), event));
        }
        let slot = own.marks[own.row(pass)][lane.index()]?;
        Some((From::Mark(slot), self.marks[lane.index()].get(slot)?))
    }

    /// What the reader counts the times of a lane from.
    pub fn event(&self, lane: Lane, from: From) -> Option<&Event> {
        match from {
            From::Origin => Some(&self.origin),
            From::Mark(slot) => self.marks[lane.index()].get(slot),
            From::Start(part) => self.part(part).start.as_ref(),
            From::Inside(part, pass) => {
                let repeat = self.part(part).repeat.as_ref()?;
                repeat.mark(pass)[lane.index()].as_ref()
            }
            From::Bound(part, pass) => self.part(part).repeat.as_ref()?.bound_after(pass),
        }
    }
}
