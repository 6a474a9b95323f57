//! Turns what an operation waits for, in its phase and in those before it, into waits of streams, of the host and of
//! the reader from disk.

use super::executor::{AHEAD, At, Run, STREAMS};
use super::stream::Event;
use crate::error::Result;
use crate::lane::Lane;
use crate::program::Enter;

/// Lanes whose operations may be issued before the pass that they are of: nothing on the host waits for them.
const EARLY: [Lane; 2] = [Lane::H2d, Lane::Disk];

impl Run<'_> {
    /// What an operation waits for on other lanes in its own phase: the operation, its lane, its number there.
    fn targets(&self, at: At) -> impl Iterator<Item = (At, Lane, u64)> {
        let count = self.part(at.part).steps[at.op].waits.len();
        (0..count).filter_map(move |wait| self.target(at, wait))
    }

    /// The n-th of them; none where it is void in this pass.
    pub fn target(&self, at: At, wait: usize) -> Option<(At, Lane, u64)> {
        let wait = self.part(at.part).steps[at.op].waits[wait];
        let pass = at.pass.checked_sub(wait.passes_back)?;
        let target = At { op: wait.op, pass, ..at };
        let (lane, number) = self.number(target)?;
        Some((target, lane, number))
    }

    /// What an operation of the first pass waits for in the phases before.
    fn entry(&self, at: At) -> Enter {
        let enters = &self.phases[at.part].phase.enters;
        let enter = enters.get(at.op).copied().filter(|_| at.pass == 0 && at.part > 0);
        enter.unwrap_or(Enter::Nothing)
    }

    /// The operation that an entry names; none where it never was, or where the host has seen it end.
    fn entered(&self, enter: Enter) -> Option<(At, Lane, u64)> {
        let Enter::Op { stage, op, passes_back } = enter else { return None };
        if self.is_over(stage) {
            return None;
        }
        let pass = self.phases[stage].phase.passes.checked_sub(1 + passes_back)?;
        let target = At { part: stage, op, pass };
        let (lane, number) = self.number(target)?;
        Some((target, lane, number))
    }

    /// The event that says that an operation has ended. Of one inside a launch that is the end of the launch.
    pub fn end_of(&self, target: At) -> Option<&Event> {
        let own = self.part(target.part);
        let repeat = own.repeat.as_ref().filter(|_| !self.capturing);
        match repeat.and_then(|repeat| repeat.reached_with(target.pass)) {
            Some(bound) => Some(bound),
            None => own.events[own.row(target.pass)][target.op].end.as_ref(),
        }
    }

    /// The stream of an operation waits for what that waits for on other lanes, unless it already has.
    pub fn issue_waits(&mut self, at: At) -> Result<()> {
        let lane = self.part(at.part).steps[at.op].lane;
        for wait in 0..self.part(at.part).steps[at.op].waits.len() {
            if let Some(target) = self.target(at, wait) {
                self.await_op(lane, target)?;
            }
        }
        match self.entry(at) {
            Enter::Nothing => Ok(()),
            Enter::Everything => self.await_everything(at.part, lane),
            enter @ Enter::Op { .. } => {
                self.entered(enter).map_or(Ok(()), |target| self.await_op(lane, target))
            }
        }
    }

    fn await_op(&mut self, lane: Lane, (target, other, number): (At, Lane, u64)) -> Result<()> {
        if other == lane || self.known[lane.index()][other.index()] > number {
            return Ok(());
        }
        if let Some(stream) = self.stream(lane) {
            match (other, self.disk) {
                (Lane::Disk, Some(disk)) => disk.await_read(stream, number)?,
                _ => self.end_of(target).map_or(Ok(()), |event| stream.wait(event))?,
            }
        }
        self.known[lane.index()][other.index()] = number + 1;
        Ok(())
    }

    /// The stream of a lane waits for all phases before this one. What was read from disk has been copied by then.
    pub fn await_everything(&mut self, part: usize, lane: Lane) -> Result<()> {
        for other in STREAMS.into_iter().filter(|other| *other != lane) {
            let before = self.before[part][other.index()];
            if self.known[lane.index()][other.index()] >= before {
                continue;
            }
            if let (Some(stream), Some(mark)) = (self.stream(lane), self.last_mark(other)) {
                stream.wait(mark)?;
            }
            self.known[lane.index()][other.index()] = before;
        }
        Ok(())
    }

    /// The host waits for what its first pass waits for in the phases before.
    pub fn synchronise_entry(&self, at: At) -> Result<()> {
        match self.entry(at) {
            Enter::Nothing => {}
            Enter::Everything => {
                for lane in STREAMS {
                    self.last_mark(lane).map_or(Ok(()), Event::synchronise)?;
                }
            }
            enter @ Enter::Op { .. } => {
                let event = self.entered(enter).and_then(|(target, ..)| self.end_of(target));
                event.map_or(Ok(()), Event::synchronise)?;
            }
        }
        Ok(())
    }

    /// By lane: how many of its operations must have ended before a read.
    pub fn counts_for(&self, at: At) -> Vec<(Lane, u64)> {
        let own = self.targets(at);
        let entry = self.entry(at);
        let before = |lane: Lane| (lane, self.before[at.part][lane.index()]);
        let all = (entry == Enter::Everything).then(|| STREAMS.map(before)).into_iter().flatten();
        let one = self.entered(entry).into_iter();
        own.chain(one).map(|(_, lane, number)| (lane, number + 1)).chain(all).collect()
    }

    /// Issues copies and reads of the first passes of the next phases, as far as nothing before them on their lane is
    /// left to issue and everything that they wait for has been issued. They run as soon as that has ended, however
    /// few passes the host issues ahead.
    pub fn run_ahead(&mut self, part: usize) -> Result<()> {
        let mut held = Lane::ALL.map(|lane| !EARLY.contains(&lane));
        for next in part + 1..(part + 1 + AHEAD).min(self.phases.len()) {
            let phase = self.phases[next].phase;
            if !self.part(next).may_be_early {
                return Ok(());
            }
            for (op, what) in phase.schedule.ops.iter().enumerate() {
                let lane = what.lane.index();
                let done = held[lane] || self.part(next).early[op];
                if done || !what.when.includes(0, phase.passes) {
                    continue;
                }
                let at = At { part: next, op, pass: 0 };
                if !self.may_issue(at) {
                    held[lane] = true;
                    if held.iter().all(|held| *held) {
                        return Ok(());
                    }
                    continue;
                }
                self.issue_op(at)?;
                self.part_mut(next).early[op] = true;
                self.mark_early(next, what.lane)?;
            }
        }
        Ok(())
    }

    /// Whether an operation is the next of its lane, and what it waits for has been issued.
    fn may_issue(&self, at: At) -> bool {
        let is_issued = |&(_, lane, number): &(At, Lane, u64)| self.issued[lane.index()] > number;
        let next = self.number(at).is_some_and(|(lane, n)| self.issued[lane.index()] == n);
        let entry = self.entry(at);
        let entered = match entry {
            Enter::Nothing => true,
            Enter::Everything => {
                STREAMS.iter().all(|l| self.issued[l.index()] >= self.before[at.part][l.index()])
            }
            Enter::Op { .. } => self.entered(entry).as_ref().is_none_or(is_issued),
        };
        next && entered && self.targets(at).all(|target| is_issued(&target))
    }
}
