//! Turns the events of a pass that has ended into spans, VRAM samples and a pass time.
//!
//! All lanes have one timeline over all phases. A lane's times are read from the last mark that was recorded on it
//! before (see `clock`), so that passes of two phases which overlap in time do not disturb each other. A pass counts
//! from the end of the use before it, as its prediction does; where a phase waits for everything before it, from that.
//!
//! Times of different streams come from different marks, so what surely happened after something else may seem to
//! begin up to a rounding before its end. Such starts are moved to that end; by how much at most is part of the
//! stated error.

use std::collections::BTreeMap;
use std::time::Instant;

use super::clock;
use super::executor::{At, Run, STREAMS};
use super::part::{LANES, Used};
use crate::backend::{Recorder, cause, index};
use crate::error::Result;
use crate::lane::{Lane, OpKind};
use crate::profile::{Span, VramSample};
use crate::program::{Enter, Phase};
use crate::units::{Bytes, Nanos};

/// What times of a lane are counted from: the last thing that was recorded on it and read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum From {
    /// The start of the run.
    Origin,
    /// The start of a phase that waits for everything before it.
    Start(usize),
    /// The end of a pass, in one of the run's marks for the lane.
    Mark(usize),
    /// The end of a pass inside a launch.
    Inside(usize, u32),
    /// Where all streams met after a pass, around a launch.
    Bound(usize, u32),
}

/// What happens to bytes of the slab, in the order in which it counts at one instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Change {
    Released(u64),
    AllReleased,
    Acquired(u64),
}

/// Ends of a phase's operations: by row of passes and operation.
type Ends = Vec<Vec<Option<u64>>>;

/// Reads passes in order.
pub(super) struct Reader {
    /// By lane: what its times are counted from, and when that was.
    from: [From; LANES],
    base: [u64; LANES],
    /// By lane: the end of its last span.
    free: [u64; LANES],
    /// By phase, as long as a later one waits for something in it.
    ends: BTreeMap<usize, Ends>,
    /// When everything before the phase had ended.
    everything: u64,
    /// When the pass began that is read next.
    begun: u64,
    /// Changes of the bytes in use, and when.
    changes: Vec<(u64, Change)>,
    /// Rounding of the compute lane's marks, added up; the largest of anything else, and the largest correction.
    rounding: u64,
    worst: u64,
    /// By phase: the time of each pass.
    pub passes: Vec<Vec<Nanos>>,
    /// By phase: of its last pass, the digest of each block as the device saw it.
    pub digests: Vec<Vec<u64>>,
    /// Passes of which every byte was compared.
    pub verified: u32,
    /// Whether this is the tests' stand-in, whose device time is not the host's.
    stand_in: bool,
}

impl Reader {
    /// A reader for a run.
    pub fn new(stand_in: bool) -> Self {
        Self {
            from: [From::Origin; LANES],
            base: [0; LANES],
            free: [0; LANES],
            ends: BTreeMap::new(),
            everything: 0,
            begun: 0,
            changes: Vec::new(),
            rounding: 0,
            worst: 0,
            passes: Vec::new(),
            digests: Vec::new(),
            verified: 0,
            stand_in,
        }
    }

    /// How far times may be off.
    pub fn error(&self) -> Nanos {
        Nanos::new(self.rounding.saturating_add(self.worst))
    }

    /// Waits for a pass and reads it; gives its time.
    pub fn read(
        &mut self,
        run: &Run<'_>,
        (part, pass): (usize, u32),
        recorder: &mut dyn Recorder,
    ) -> Result<Nanos> {
        let with = &run.phases[part];
        let own = run.part(part);
        let repeat = own.repeat.as_ref();
        let bound = repeat.and_then(|repeat| repeat.bound_after(pass));
        match bound.or_else(|| repeat.and_then(|repeat| repeat.reached_with(pass))) {
            // What a graph records is there for certain once the launch has ended.
            Some(bound) => bound.synchronise()?,
            None => {
                for lane in STREAMS {
                    run.mark_of(part, pass, lane).map_or(Ok(()), |(_, end)| end.synchronise())?;
                }
            }
        }
        run.check_reads()?;
        if pass == 0 {
            self.enter(run, part)?;
        }
        if let Some(verifier) = with.verifier.filter(|_| run.verifies(part, pass)) {
            let row = own.digest_row(run.settings, pass);
            let digests = verifier.compare((with.phase, with.image, with.arena), (pass, row))?;
            // What a pass leaves out was seen in another.
            self.digests[part].resize(digests.len(), 0);
            for (known, seen) in self.digests[part].iter_mut().zip(digests) {
                *known = seen.unwrap_or(*known);
            }
            self.verified += 1;
        }
        if let Some(ends) = self.ends.get_mut(&part) {
            let row = pass as usize % ends.len().max(1);
            ends[row].fill(None);
        }
        for op in 0..with.phase.schedule.ops.len() {
            self.read_op(run, At { part, op, pass }, recorder)?;
        }
        self.rebase(run, part, pass)?;
        let end = self.base[Lane::Compute.index()];
        let time = Nanos::new(end.saturating_sub(self.begun));
        self.begun = end;
        self.passes[part].push(time);
        if pass + 1 == with.phase.passes && next_begins_afresh(run, part) {
            self.changes.push((self.end(), Change::AllReleased));
        }
        Ok(time)
    }

    /// Begins with a phase.
    fn enter(&mut self, run: &Run<'_>, part: usize) -> Result<()> {
        self.everything = self.free.into_iter().max().unwrap_or(0);
        self.passes.resize_with(part + 1, Vec::new);
        self.digests.resize_with(part + 1, Vec::new);
        self.ends.retain(|&before, _| run.exits[before].until >= part);
        let rows = run.part(part).events.len();
        let ops = run.phases[part].phase.schedule.ops.len();
        self.ends.insert(part, vec![vec![None; ops]; rows]);
        let compute = Lane::Compute.index();
        let from = run.event(Lane::Compute, self.from[compute]);
        if let (Some(from), Some(start)) = (from, &run.part(part).start) {
            let (time, rounding) = clock::between(from, start)?;
            self.base[compute] = self.base[compute].saturating_add(time);
            self.rounding = self.rounding.saturating_add(rounding);
            self.from[compute] = From::Start(part);
        }
        self.begun = self.base[compute];
        Ok(())
    }

    /// Moves every lane that the phase uses to the end of the pass.
    fn rebase(&mut self, run: &Run<'_>, part: usize, pass: u32) -> Result<()> {
        let own = run.part(part);
        let bound = own.repeat.as_ref().and_then(|repeat| repeat.bound_after(pass));
        for lane in STREAMS {
            let Some((mark, to)) = run.mark_of(part, pass, lane) else { continue };
            let n = lane.index();
            let Some(from) = run.event(lane, self.from[n]) else { continue };
            let (mut time, mut rounding) = clock::between(from, to)?;
            self.from[n] = mark;
            // Where all streams meet, the lanes of the phase go on from there.
            if let Some(bound) = bound.filter(|_| own.used[n] == Used::Always) {
                let (more, also) = clock::between(to, bound)?;
                (time, rounding) = (time + more, rounding + also);
                self.from[n] = From::Bound(part, pass);
            }
            self.base[n] = self.base[n].saturating_add(time);
            if lane == Lane::Compute {
                self.rounding = self.rounding.saturating_add(rounding);
            }
        }
        Ok(())
    }

    fn read_op(&mut self, run: &Run<'_>, at: At, recorder: &mut dyn Recorder) -> Result<()> {
        let phase = run.phases[at.part].phase;
        let op = &phase.schedule.ops[at.op];
        let timed = run.part(at.part).is_timed(run.settings, at.op, at.pass);
        if !op.when.includes(at.pass, phase.passes) || !timed {
            return Ok(());
        }
        let latest = self.latest(run, at);
        let times = match op.kind {
            OpKind::HostSync | OpKind::Read => self.host_times(run, at, latest),
            _ => self.device_times(run, at)?,
        };
        let Some((start, end)) = times else { return Ok(()) };
        let lane = op.lane.index();
        let everything = at.pass == 0 && phase.enters.get(at.op) == Some(&Enter::Everything);
        let after = latest.map_or(0, |(end, _)| end).max(self.free[lane]);
        let after = if everything { after.max(self.everything) } else { after };
        if STREAMS.contains(&op.lane) && start < after {
            self.worst = self.worst.max(after - start);
        }
        let start = start.max(after);
        let end = end.max(start);
        let waited_for = latest.filter(|&(at, _)| at > self.free[lane]);
        let waited_for = waited_for
            .map(|(_, of)| cause(run.phases[of.part].phase, index(of.part), of.op, of.pass));
        self.free[lane] = end;
        if let Some(ends) = self.ends.get_mut(&at.part) {
            let row = at.pass as usize % ends.len().max(1);
            ends[row][at.op] = Some(end);
        }
        recorder.span(&Span {
            lane: op.lane,
            op: op.kind,
            component: index(at.part),
            block: index(op.block),
            piece: op.piece.map(index),
            pass: at.pass + op.ahead,
            start: Nanos::new(start),
            end: Nanos::new(end),
            bytes: phase.schedule.bytes(op, at.pass),
            waited_for,
        });
        if run.settings.sample == 1 {
            self.change(start, Change::Acquired(op.acquires.get()));
            let left = left_after(run, at);
            let released = op.released(at.pass).saturating_add(left);
            self.change(end, Change::Released(released.get()));
        }
        Ok(())
    }

    fn change(&mut self, at: u64, change: Change) {
        if !matches!(change, Change::Acquired(0) | Change::Released(0)) {
            self.changes.push((at, change));
        }
    }

    fn device_times(&mut self, run: &Run<'_>, at: At) -> Result<Option<(u64, u64)>> {
        let lane = run.phases[at.part].phase.schedule.ops[at.op].lane;
        let pair = run.part(at.part).pair(at.op, at.pass);
        let from = run.event(lane, self.from[lane.index()]);
        let (Some(from), Some(start), Some(end)) = (from, &pair.start, &pair.end) else {
            return Ok(None);
        };
        let (start, _) = clock::between(from, start)?;
        let (end, rounding) = clock::between(from, end)?;
        self.worst = self.worst.max(rounding);
        let base = self.base[lane.index()];
        Ok(Some((base.saturating_add(start), base.saturating_add(end))))
    }

    /// When the host waited. The stand-in's host has no clock: there it waits for no longer than the device takes.
    fn host_times(&self, run: &Run<'_>, at: At, latest: Option<(u64, At)>) -> Option<(u64, u64)> {
        let own = run.part(at.part);
        let read = || run.disk.zip(run.number(at)).and_then(|(disk, (_, n))| disk.times(n));
        let (start, end) = own.host_times[own.row(at.pass)][at.op].or_else(read)?;
        if self.stand_in {
            let end = latest.map_or(0, |(end, _)| end);
            return Some((end, end));
        }
        let since = |at: Instant| {
            let passed = at.saturating_duration_since(run.host_origin).as_nanos();
            u64::try_from(passed).unwrap_or(u64::MAX)
        };
        Some((since(start), since(end)))
    }

    /// Of what an operation waited for on other lanes, what ended last, and when.
    fn latest(&self, run: &Run<'_>, at: At) -> Option<(u64, At)> {
        let phase = run.phases[at.part].phase;
        let op = &phase.schedule.ops[at.op];
        let own = op.waits.iter().filter_map(|wait| {
            let pass = at.pass.checked_sub(wait.passes_back)?;
            Some(At { op: wait.op, pass, ..at })
        });
        let entered = match phase.enters.get(at.op).filter(|_| at.pass == 0 && at.part > 0) {
            Some(&Enter::Op { stage, op, passes_back }) => {
                let pass = run.phases[stage].phase.passes.checked_sub(1 + passes_back);
                pass.map(|pass| At { part: stage, op, pass })
            }
            _ => None,
        };
        let known = own.chain(entered).filter_map(|of| {
            let lane = run.phases[of.part].phase.schedule.ops[of.op].lane;
            let ends = self.ends.get(&of.part).filter(|_| lane != op.lane)?;
            let end = ends[of.pass as usize % ends.len().max(1)][of.op]?;
            Some((end, of))
        });
        known.max_by_key(|&(end, of)| (end, std::cmp::Reverse(of.op)))
    }

    /// When everything that was read had ended.
    fn end(&self) -> u64 {
        self.free.into_iter().chain(self.base).max().unwrap_or(0)
    }

    /// Tells how much of the slab was in use when.
    pub fn finish(&mut self, recorder: &mut dyn Recorder) {
        let last = (self.end(), Change::AllReleased);
        if self.changes.last() != Some(&last) {
            self.changes.push(last);
        }
        self.changes.sort_unstable();
        let mut in_use = 0u64;
        for (at, change) in std::mem::take(&mut self.changes) {
            in_use = match change {
                Change::Released(bytes) => in_use.saturating_sub(bytes),
                Change::AllReleased => 0,
                Change::Acquired(bytes) => in_use.saturating_add(bytes),
            };
            recorder.vram(VramSample { at: Nanos::new(at), in_use: Bytes::new(in_use) });
        }
    }
}

/// Whether the phase after this one begins when all of this one has ended, or there is none.
fn next_begins_afresh(run: &Run<'_>, part: usize) -> bool {
    run.phases.get(part + 1).is_none_or(|next| next.phase.is_apart())
}

/// Resident bytes that are free once an operation has ended: those whose last use it was, where the next phase may take
/// them one by one.
fn left_after(run: &Run<'_>, at: At) -> Bytes {
    let Phase { passes, leaves, .. } = run.phases[at.part].phase;
    let last = at.pass + 1 == *passes && !next_begins_afresh(run, at.part);
    leaves.get(at.op).copied().filter(|_| last).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_released_at_an_instant_comes_before_what_is_acquired() {
        let mut reader = Reader::new(true);
        let changes = [
            (5, Change::Acquired(3)),
            (5, Change::AllReleased),
            (5, Change::Released(4)),
            (2, Change::Acquired(4)),
        ];
        changes.into_iter().for_each(|(at, change)| reader.change(at, change));
        let mut recording = crate::backend::Recording::default();
        reader.free[0] = 9;
        reader.finish(&mut recording);
        let seen: Vec<(u64, u64)> =
            recording.vram.iter().map(|sample| (sample.at.get(), sample.in_use.get())).collect();
        assert_eq!(seen, [(2, 4), (5, 3), (9, 0)]);
    }
}
