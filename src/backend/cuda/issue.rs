//! Turns operations into driver calls in the program's order of issue, waits first.

#![expect(unsafe_code, reason = "starts copies; what they demand stands beside them")]

use super::clock;
use super::compute::Use;
use super::executor::{Pair, Run};
use super::graph;
use super::steps::{Action, offset};
use super::stream::{Event, Stream};
use super::verify::Verify;
use crate::error::{Error, Result};
use crate::lane::Lane;
use crate::program::Phase;

impl Run<'_> {
    /// Issues all operations of a pass, and keeps the time that took.
    pub fn issue(&mut self, pass: u32) -> Result<()> {
        let start = clock::host_now();
        self.issue_ops(pass)?;
        self.issue.push(clock::since(start));
        Ok(())
    }

    /// Issues all operations of a pass.
    pub fn issue_ops(&mut self, pass: u32) -> Result<()> {
        let with = self.with;
        let passes = with.phase.passes;
        let verifier = with.verifier.filter(|_| self.verifies(pass));
        if let (Some(verifier), Some(compute)) = (verifier, self.stream(Lane::Compute)) {
            verifier.begin(compute, pass)?;
        }
        for (n, op) in with.phase.schedule.ops.iter().enumerate() {
            if op.when.includes(pass, passes) {
                self.issue_op(n, pass, pass + op.ahead)
                    .map_err(|error| located(error, with.phase, n, pass))?;
            }
        }
        if let (Some(verifier), Some(compute)) = (verifier, self.stream(Lane::Compute)) {
            verifier.end(compute, pass)?;
        }
        let (_, ends) = self.marks_of(pass);
        for (mark, lane) in ends.into_iter().zip(Lane::ALL) {
            if let (Some(mark), Some(stream)) = (mark, self.stream(lane)) {
                self.stamp(stream, mark)?;
            }
        }
        Ok(())
    }

    /// Whether the bytes of a pass are compared.
    pub fn verifies(&self, pass: u32) -> bool {
        match self.with.settings.verify {
            Verify::No => false,
            Verify::Last => pass + 1 == self.with.phase.passes,
            Verify::Every => true,
        }
    }

    /// Records an event whose time will be read.
    fn stamp(&self, stream: &Stream, event: &Event) -> Result<()> {
        match self.capturing {
            true => Ok(stream.record_outside(graph::table(self.with.gpu)?, event)?),
            false => Ok(stream.record(event)?),
        }
    }

    fn issue_op(&mut self, n: usize, pass: u32, serves: u32) -> Result<()> {
        match self.steps[n].action {
            Action::HostSync => return self.host_sync(n, pass),
            Action::Read(piece) => {
                self.issue_read(n, pass, piece);
                return Ok(());
            }
            _ => {}
        }
        self.issue_waits(n, pass)?;
        let with = self.with;
        let step = &self.steps[n];
        let Some(stream) = self.stream(step.lane) else { return Ok(()) };
        let slot = self.await_read(n, pass, stream)?;
        let places = &with.phase.places[step.block];
        let verifier = with.verifier.filter(|_| self.verifies(pass));
        if let (Action::Compute, Some(verifier)) = (&step.action, verifier) {
            let what = (with.phase, with.image);
            verifier.digest(with.kernels, stream, what, (step.block, pass), with.slab)?;
        }
        let timed = self.is_timed(n, pass);
        let Pair { start, end } = self.pair(n, pass);
        if let (Some(start), true) = (start, timed) {
            self.stamp(stream, start)?;
        }
        match &step.action {
            Action::Copy(transfers, _) => {
                for part in transfers {
                    let host = slot.map_or(part.host, |(_, slot)| {
                        slot.wrapping_add(usize::try_from(part.offset).unwrap_or(usize::MAX))
                    });
                    let to = with.slab.plus(offset(&places[part.piece], serves) + part.offset);
                    // SAFETY: arena and ring outlive the run, which ends with a wait for all streams, and nothing
                    // writes them but returns of the same piece, and the reader once this copy has ended; the
                    // program's proof covers the slab.
                    unsafe { stream.to_device(to, host, part.bytes)? };
                }
            }
            Action::Return(transfers) => {
                for part in transfers {
                    let from = with.slab.plus(offset(&places[part.piece], serves) + part.offset);
                    // SAFETY: as above; the bytes that return are those that came.
                    unsafe { stream.to_host(part.host, from, part.bytes)? };
                }
            }
            Action::Compute => {
                let time = with.phase.schedule.ops[n].duration;
                with.compute.issue(Use { with, stream, block: step.block, pass }, time)?;
            }
            Action::HostSync | Action::Read(_) => {}
        }
        if let (Some(end), true) = (end, timed || !self.capturing && step.awaited) {
            self.stamp(stream, end)?;
        }
        // Inside a graph an event is either waited for there or read outside.
        let fence = &self.events[self.row(pass)][n].end;
        if let (Some(fence), true) = (fence, self.capturing && step.awaited) {
            stream.record(fence)?;
        }
        self.tell_reader(n, pass, slot.map(|(read, _)| read), stream)
    }

    /// Asks the reader for a piece.
    fn issue_read(&mut self, n: usize, pass: u32, piece: usize) {
        let after = (0..self.steps[n].waits.len()).filter_map(|at| {
            let (op, _, number) = self.target(n, at, pass)?;
            Some((self.steps[op].lane, count(number)))
        });
        let after = after.collect();
        let (row, block) = (self.row(pass), self.steps[n].block);
        if let Some(reads) = &mut self.reads {
            reads.issue((row, n), (block, piece), after);
        }
    }

    /// A copy of what is read from disk waits until it is there; gives the read and where it is.
    fn await_read(&self, n: usize, pass: u32, stream: &Stream) -> Result<Option<(u32, *mut u8)>> {
        let (Action::Copy(_, Some(op)), Some(reads)) = (&self.steps[n].action, &self.reads) else {
            return Ok(None);
        };
        let read = reads.number(self.row(pass), *op);
        reads.staging.await_read(stream, read)?;
        Ok(Some((read, reads.staging.address(read))))
    }

    /// After an operation the stream tells the reader what it waits for.
    fn tell_reader(&self, n: usize, pass: u32, read: Option<u32>, stream: &Stream) -> Result<()> {
        let Some(reads) = &self.reads else { return Ok(()) };
        if let Some(read) = read {
            reads.staging.taken(stream, read)?;
        }
        let step = &self.steps[n];
        match self.numbering.number(n, step.lane, pass).filter(|_| step.counted) {
            Some(number) => reads.staging.ended(stream, step.lane, count(number)),
            None => Ok(()),
        }
    }

    /// The stream waits for what the operation waits for on other streams, unless it already has.
    fn issue_waits(&mut self, n: usize, pass: u32) -> Result<()> {
        let lane = self.steps[n].lane.index();
        for at in 0..self.steps[n].waits.len() {
            let Some((op, row, number)) = self.target(n, at, pass) else { continue };
            let other = self.steps[op].lane.index();
            if self.known[lane][other] > number {
                continue;
            }
            let event = &self.events[row][op].end;
            if let (Some(stream), Some(event)) = (self.stream(self.steps[n].lane), event) {
                stream.wait(event)?;
            }
            self.known[lane][other] = number + 1;
        }
        Ok(())
    }

    /// What a wait is for in this pass: the operation, its row, its number on its lane; none where it is void.
    fn target(&self, n: usize, at: usize, pass: u32) -> Option<(usize, usize, u64)> {
        let wait = self.steps[n].waits[at];
        let target = pass.checked_sub(wait.passes_back)?;
        let number = self.numbering.number(wait.op, self.steps[wait.op].lane, target)?;
        Some((wait.op, self.row(target), number))
    }

    /// The host waits, as the policy says it does; what is issued later is ordered by that.
    fn host_sync(&mut self, n: usize, pass: u32) -> Result<()> {
        let start = clock::host_now();
        for at in 0..self.steps[n].waits.len() {
            let Some((op, row, number)) = self.target(n, at, pass) else { continue };
            if let Some(event) = &self.events[row][op].end {
                event.synchronise()?;
            }
            let other = self.steps[op].lane.index();
            for known in &mut self.known {
                known[other] = known[other].max(number + 1);
            }
        }
        let row = self.row(pass);
        self.host_times[row][n] = Some((start, clock::host_now()));
        Ok(())
    }
}

/// Operations that have ended once this one has.
fn count(number: u64) -> u32 {
    u32::try_from(number + 1).unwrap_or(u32::MAX)
}

/// Says which operation could not be issued.
#[cold]
fn located(error: Error, phase: &Phase, n: usize, pass: u32) -> Error {
    let op = &phase.schedule.ops[n];
    let block = &phase.blocks[op.block];
    let place = format!("{} of {}.{block}, pass {pass}", op.kind.name(), phase.component);
    match error {
        Error::Run(message) => Error::Run(format!("{place}: {message}")),
        other => other,
    }
}
