//! Turns operations into driver calls in the program's order of issue, waits first.

#![expect(unsafe_code, reason = "starts copies; what they demand stands beside them")]

use super::clock;
use super::compute::Use;
use super::disk::Job;
use super::executor::{At, Run};
use super::graph;
use super::part::Pair;
use super::steps::{Action, offset};
use super::stream::{Event, Stream};
use super::verify::Verify;
use crate::error::{Error, Result};
use crate::lane::Lane;
use crate::program::Phase;

impl Run<'_> {
    /// Issues all operations of a pass, and keeps the time that took.
    pub fn issue(&mut self, part: usize, pass: u32) -> Result<()> {
        let start = clock::host_now();
        self.issue_ops(part, pass)?;
        self.issue[part].push(clock::since(start));
        Ok(())
    }

    /// Issues all operations of a pass that were not issued early.
    pub fn issue_ops(&mut self, part: usize, pass: u32) -> Result<()> {
        let with = &self.phases[part];
        let passes = with.phase.passes;
        let verifier = with.verifier.filter(|_| self.verifies(part, pass));
        let row = self.part(part).digest_row(self.settings, pass);
        if let (Some(verifier), Some(compute)) = (verifier, self.stream(Lane::Compute)) {
            verifier.begin(compute, row)?;
        }
        for (op, what) in with.phase.schedule.ops.iter().enumerate() {
            let early = pass == 0 && self.part(part).early[op];
            if what.when.includes(pass, passes) && !early {
                self.issue_op(At { part, op, pass })?;
            }
        }
        if let (Some(verifier), Some(compute)) = (verifier, self.stream(Lane::Compute)) {
            verifier.end(compute, row)?;
        }
        match self.capturing {
            false => self.end_pass(part, pass),
            true => self.stamp_ends(part, pass),
        }
    }

    /// Marks the end of a pass on its lanes; at the end of a phase streams tell the reads that wait for all of it.
    fn end_pass(&mut self, part: usize, pass: u32) -> Result<()> {
        if pass + 1 == self.phases[part].phase.passes && self.exits[part].all {
            self.tell_end(part)?;
        }
        self.mark(part, pass)
    }

    /// The same inside a graph.
    fn stamp_ends(&self, part: usize, pass: u32) -> Result<()> {
        let Some(repeat) = &self.part(part).repeat else { return Ok(()) };
        for (mark, lane) in repeat.mark(pass).iter().zip(Lane::ALL) {
            if let (Some(mark), Some(stream)) = (mark, self.stream(lane)) {
                self.stamp(stream, mark)?;
            }
        }
        Ok(())
    }

    /// Whether the bytes of a pass are compared.
    pub fn verifies(&self, part: usize, pass: u32) -> bool {
        match self.settings.verify {
            Verify::No => false,
            Verify::Last => pass + 1 == self.phases[part].phase.passes,
            Verify::Every => true,
        }
    }

    /// Records an event whose time will be read.
    fn stamp(&self, stream: &Stream, event: &Event) -> Result<()> {
        match self.capturing {
            true => {
                let gpu = self.phases.first().map(|with| graph::table(with.gpu));
                gpu.transpose()?.map_or(Ok(()), |table| Ok(stream.record_outside(table, event)?))
            }
            false => Ok(stream.record(event)?),
        }
    }

    /// Issues an operation; an error says which.
    pub fn issue_op(&mut self, at: At) -> Result<()> {
        self.put(at).map_err(|error| located(error, self.phases[at.part].phase, at))?;
        if !self.capturing {
            let lane = self.part(at.part).steps[at.op].lane;
            self.issued[lane.index()] += 1;
        }
        Ok(())
    }

    fn put(&mut self, at: At) -> Result<()> {
        let At { part, op, pass } = at;
        match self.part(part).steps[op].action {
            Action::HostSync => return self.host_sync(at),
            Action::Read(piece) => {
                self.ask_for(at, piece);
                return Ok(());
            }
            _ => {}
        }
        self.issue_waits(at)?;
        let with = &self.phases[part];
        let serves = pass + with.phase.schedule.ops[op].ahead;
        let own = self.part(part);
        let step = &own.steps[op];
        let Some(stream) = self.stream(step.lane) else { return Ok(()) };
        let places = &with.phase.places[step.block];
        // What a pass leaves out still waits and is waited for.
        let what = &with.phase.schedule.ops[op];
        let left_out = with.phase.schedule.is_left_out(what, pass);
        let verifier = with.verifier.filter(|_| self.verifies(part, pass) && !left_out);
        if let (Action::Compute, Some(verifier)) = (&step.action, verifier) {
            let what = (with.phase, with.image);
            let row = own.digest_row(self.settings, pass);
            verifier.digest(with.kernels, stream, what, (step.block, pass, row), with.slab)?;
        }
        let timed = own.is_timed(self.settings, op, pass);
        let Pair { start, end } = own.pair(op, pass);
        if let (Some(start), true) = (start, timed) {
            self.stamp(stream, start)?;
        }
        match &step.action {
            _ if left_out => {}
            Action::Copy(transfers) => {
                for copy in transfers {
                    let place = &places[copy.piece];
                    // What was read from disk lies where this pass has it in the ring.
                    let ring = self.disk.filter(|_| copy.from_ring);
                    let ring = ring.and_then(|disk| disk.address(with.phase, place, serves));
                    let host = ring.map_or(copy.host, |ring| ring.wrapping_add(copy.skipped()));
                    let to = with.slab.plus(offset(place, serves) + copy.offset);
                    // SAFETY: arena and rings outlive the run, which ends with a wait for all streams, and nothing
                    // writes them but returns of the same piece, and the reader once this copy has ended; the
                    // program's proof covers the slab and the rings, whose bounds were checked.
                    unsafe { stream.to_device(to, host, copy.bytes)? };
                }
            }
            Action::Return(transfers) => {
                for copy in transfers {
                    let place = &places[copy.piece];
                    let from = with.slab.plus(offset(place, serves) + copy.offset);
                    // SAFETY: as above; the bytes that return are those that came.
                    unsafe { stream.to_host(copy.host, from, copy.bytes)? };
                }
            }
            Action::Compute => {
                let time = with.phase.schedule.ops[op].duration;
                with.compute.issue(Use { with, stream, block: step.block, pass }, time)?;
            }
            Action::HostSync | Action::Read(_) => {}
        }
        if let (Some(end), true) = (end, timed || !self.capturing && step.awaited) {
            self.stamp(stream, end)?;
        }
        // Inside a graph an event is either waited for there or read outside.
        let fence = &own.events[own.row(pass)][op].end;
        if let (Some(fence), true) = (fence, self.capturing && step.awaited) {
            stream.record(fence)?;
        }
        self.tell_reader(at, stream)
    }

    /// Asks the reader for a piece.
    fn ask_for(&self, at: At, piece: usize) {
        let Some((disk, (_, number))) = self.disk.zip(self.number(at)) else { return };
        let with = &self.phases[at.part];
        let op = &with.phase.schedule.ops[at.op];
        let place = &with.phase.places[op.block][piece];
        if let Some((from, _)) = place.host_range(at.pass + op.ahead) {
            let (of, block, after) = (with.phase.of, op.block, self.counts_for(at));
            let left_out = with.phase.schedule.is_left_out(op, at.pass);
            disk.ask(Job { number, of, block, piece, at: from, left_out, after });
        }
    }

    /// After an operation that reads wait for, the stream tells the reader.
    fn tell_reader(&self, at: At, stream: &Stream) -> Result<()> {
        let counted = self.part(at.part).steps[at.op].counted && !self.capturing;
        match self.disk.filter(|_| counted).zip(self.number(at)) {
            Some((disk, (lane, number))) => disk.ended(stream, lane, number + 1),
            None => Ok(()),
        }
    }

    /// After a launch compute, which waits for all of it, tells the reader where reads wait for something of the phase.
    pub fn tell_launched(&self, part: usize) -> Result<()> {
        let counted = self.part(part).steps.iter().any(|step| step.counted);
        let Some(disk) = self.disk.filter(|_| counted) else { return Ok(()) };
        match self.stream(Lane::Compute) {
            Some(stream) => disk.ended(stream, Lane::Compute, self.issued[Lane::Compute.index()]),
            None => Ok(()),
        }
    }

    /// At the end of a phase every stream tells the reader that it has ended its part.
    fn tell_end(&self, part: usize) -> Result<()> {
        let Some((disk, before)) = self.disk.zip(self.before.get(part + 1)) else { return Ok(()) };
        for lane in super::executor::STREAMS {
            if let Some(stream) = self.stream(lane) {
                disk.ended(stream, lane, before[lane.index()])?;
            }
        }
        Ok(())
    }

    /// The host waits, as the policy says it does; what is issued later is ordered by that.
    fn host_sync(&mut self, at: At) -> Result<()> {
        let start = clock::host_now();
        for wait in 0..self.part(at.part).steps[at.op].waits.len() {
            let Some((target, lane, number)) = self.target(at, wait) else { continue };
            if let Some(event) = self.end_of(target) {
                event.synchronise()?;
            }
            for known in &mut self.known {
                known[lane.index()] = known[lane.index()].max(number + 1);
            }
        }
        self.synchronise_entry(at)?;
        let own = self.part_mut(at.part);
        let row = own.row(at.pass);
        own.host_times[row][at.op] = Some((start, clock::host_now()));
        Ok(())
    }
}

/// Says which operation could not be issued.
#[cold]
fn located(error: Error, phase: &Phase, at: At) -> Error {
    let op = &phase.schedule.ops[at.op];
    let block = &phase.blocks[op.block];
    let place = format!("{} of {}.{block}, pass {}", op.kind.name(), phase.component, at.pass);
    match error {
        Error::Run(message) => Error::Run(format!("{place}: {message}")),
        other => other,
    }
}
