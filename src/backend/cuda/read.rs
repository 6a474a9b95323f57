//! Turns the events of a pass that has ended into spans, VRAM samples and a pass time.
//!
//! Times of different streams come from different marks, so what surely happened after something else may seem to
//! begin up to a rounding before its end. Such starts are moved to that end; by how much at most is part of the
//! stated error.

use super::arena::Arena;
use super::clock;
use super::executor::{Run, STREAMS};
use super::stream::Event;
use crate::backend::{Recorder, cause, index};
use crate::error::Result;
use crate::lane::{Lane, OpKind};
use crate::profile::{Span, VramSample};
use crate::units::{Bytes, Nanos};

/// Reads passes in order.
pub(super) struct Reader<'a> {
    arena: &'a Arena,
    component: u32,
    next: u32,
    /// By lane: the time of the mark before the next pass.
    base: [u64; Lane::ALL.len()],
    /// By lane: the end of its last span.
    free: [u64; Lane::ALL.len()],
    /// By row of passes and operation: its end.
    ends: Vec<Vec<Option<u64>>>,
    /// Bytes of the slab taken or given back, by time; what is given back at an instant comes first.
    changes: Vec<(u64, bool, u64)>,
    /// Rounding, added up, and the largest correction.
    pub error: Nanos,
    /// When the phase began.
    start: u64,
    /// The end of each pass, for its time.
    pub passes: Vec<Nanos>,
    /// Of the last pass, the digest of each block as the device saw it.
    pub digests: Vec<u64>,
    /// Passes of which every byte was compared.
    pub verified: u32,
    /// Whether this is the tests' stand-in, whose device time is not the host's.
    stand_in: bool,
}

impl<'a> Reader<'a> {
    /// A reader for a phase that begins at this instant of the run.
    pub fn new(run: &Run<'_>, arena: &'a Arena, component: u32, start: Nanos) -> Self {
        let at = start.get();
        Self {
            arena,
            component,
            next: 0,
            base: [at; Lane::ALL.len()],
            free: [at; Lane::ALL.len()],
            ends: vec![vec![None; run.with.phase.schedule.ops.len()]; run.events.len()],
            changes: Vec::new(),
            error: Nanos::ZERO,
            start: at,
            passes: Vec::new(),
            digests: Vec::new(),
            verified: 0,
            stand_in: run.with.gpu.is_stand_in(),
        }
    }

    /// The pass that is read next.
    pub fn next_pass(&self) -> u32 {
        self.next
    }

    /// Waits for a pass and reads it; gives its time.
    pub fn read(&mut self, run: &Run<'_>, pass: u32, recorder: &mut dyn Recorder) -> Result<Nanos> {
        self.next = pass + 1;
        let (_, ends) = run.marks_of(pass);
        // What a graph records is there for certain once the launch has ended.
        match run.reached_with(pass) {
            Some(bound) => bound.synchronise()?,
            None => ends.into_iter().flatten().try_for_each(Event::synchronise)?,
        }
        run.check_reads()?;
        if let Some(verifier) = run.with.verifier.filter(|_| run.verifies(pass)) {
            let (phase, image) = (run.with.phase, run.with.image);
            self.digests = verifier.compare(phase, image, self.arena, pass)?;
            self.verified += 1;
        }
        if pass == 0 {
            self.read_origins(run)?;
        }
        let row = run.row(pass);
        self.ends[row].fill(None);
        for n in 0..run.with.phase.schedule.ops.len() {
            self.read_op(run, n, pass, recorder)?;
        }
        self.rebase(run, pass)?;
        let end = self.base[Lane::Compute.index()];
        let before: u64 = self.passes.iter().map(|time| time.get()).sum();
        let time = Nanos::new(end.saturating_sub(self.start).saturating_sub(before));
        self.passes.push(time);
        Ok(time)
    }

    /// Where the other streams stood when the first pass began, from the compute stream's origin.
    fn read_origins(&mut self, run: &Run<'_>) -> Result<()> {
        let (marks, _) = run.marks_of(0);
        let Some(origin) = marks[Lane::Compute.index()] else { return Ok(()) };
        for lane in STREAMS.into_iter().filter(|lane| *lane != Lane::Compute) {
            if let Some(mark) = marks[lane.index()] {
                self.base[lane.index()] += clock::between(origin, mark)?.0;
            }
        }
        Ok(())
    }

    /// Moves every lane's mark to the end of the pass.
    fn rebase(&mut self, run: &Run<'_>, pass: u32) -> Result<()> {
        let (from, to) = run.marks_of(pass);
        for lane in STREAMS {
            if let (Some(from), Some(to)) = (from[lane.index()], to[lane.index()]) {
                let (mut time, mut rounding) = clock::between(from, to)?;
                // Where all streams meet, all lanes go on from there.
                if let Some(bound) = run.bound_after(pass) {
                    let (more, also) = clock::between(to, bound)?;
                    (time, rounding) = (time + more, rounding + also);
                }
                self.base[lane.index()] += time;
                if lane == Lane::Compute {
                    self.error = self.error.saturating_add(Nanos::new(rounding));
                }
            }
        }
        Ok(())
    }

    fn read_op(
        &mut self,
        run: &Run<'_>,
        n: usize,
        pass: u32,
        recorder: &mut dyn Recorder,
    ) -> Result<()> {
        let op = &run.with.phase.schedule.ops[n];
        if !op.when.includes(pass, run.with.phase.passes) || !run.is_timed(n, pass) {
            return Ok(());
        }
        let times = match op.kind {
            OpKind::HostSync | OpKind::Read => self.host_times(run, n, pass),
            _ => self.device_times(run, n, pass)?,
        };
        let Some((start, end)) = times else { return Ok(()) };
        let lane = op.lane.index();
        let latest = self.latest(run, n, pass);
        let after = latest.map_or(0, |(end, _, _)| end).max(self.free[lane]);
        if lane_of_device(op.lane) && start < after {
            self.error = self.error.max(Nanos::new(after - start));
        }
        let start = start.max(after);
        let end = end.max(start);
        let waited_for = latest.filter(|&(at, _, _)| at > self.free[lane]);
        let waited_for =
            waited_for.map(|(_, op, pass)| cause(run.with.phase, self.component, op, pass));
        self.free[lane] = end;
        self.ends[run.row(pass)][n] = Some(end);
        recorder.span(&Span {
            lane: op.lane,
            op: op.kind,
            component: self.component,
            block: index(op.block),
            piece: op.piece.map(index),
            pass: pass + op.ahead,
            start: Nanos::new(start),
            end: Nanos::new(end),
            bytes: op.bytes,
            waited_for,
        });
        if run.with.settings.sample == 1 {
            self.changes.push((start, true, op.acquires.get()));
            self.changes.push((end, false, op.released(pass).get()));
        }
        Ok(())
    }

    fn device_times(&self, run: &Run<'_>, n: usize, pass: u32) -> Result<Option<(u64, u64)>> {
        let lane = run.with.phase.schedule.ops[n].lane.index();
        let (marks, _) = run.marks_of(pass);
        let pair = run.pair(n, pass);
        let (Some(mark), Some(start), Some(end)) = (marks[lane], &pair.start, &pair.end) else {
            return Ok(None);
        };
        let (from, _) = clock::between(mark, start)?;
        let (to, _) = clock::between(mark, end)?;
        Ok(Some((self.base[lane] + from, self.base[lane] + to)))
    }

    /// When the host waited. The stand-in's host has no clock: there it waits for no longer than the device takes.
    fn host_times(&self, run: &Run<'_>, n: usize, pass: u32) -> Option<(u64, u64)> {
        let row = run.row(pass);
        let reads = || run.reads.as_ref().and_then(|reads| reads.disk.times(reads.number(row, n)));
        let (start, end) = run.host_times[row][n].or_else(reads)?;
        if self.stand_in {
            let end = self.latest(run, n, pass).map_or(0, |(end, _, _)| end);
            return Some((end, end));
        }
        let since = |at: std::time::Instant| {
            let passed = at.saturating_duration_since(run.host_origin).as_nanos();
            self.start.saturating_add(u64::try_from(passed).unwrap_or(u64::MAX))
        };
        Some((since(start), since(end)))
    }

    /// Of what an operation waited for, what ended last: its end, the operation, its pass.
    fn latest(&self, run: &Run<'_>, n: usize, pass: u32) -> Option<(u64, usize, u32)> {
        let ops = &run.with.phase.schedule.ops;
        let known = ops[n].waits.iter().filter_map(|wait| {
            let target = pass.checked_sub(wait.passes_back)?;
            if ops[wait.op].lane == ops[n].lane {
                return None;
            }
            let end = self.ends[run.row(target)][wait.op]?;
            Some((end, wait.op, target))
        });
        known.max_by_key(|&(end, op, _)| (end, std::cmp::Reverse(op)))
    }

    /// Tells how much of the slab was in use when; gives the end of the phase.
    pub fn finish(mut self, recorder: &mut dyn Recorder) -> Nanos {
        let end = self.free.into_iter().chain(self.base).max().unwrap_or(self.start);
        self.changes.sort_unstable();
        let mut in_use = 0u64;
        for (at, taken, bytes) in self.changes.into_iter().filter(|&(_, _, bytes)| bytes > 0) {
            in_use = if taken { in_use + bytes } else { in_use.saturating_sub(bytes) };
            recorder.vram(VramSample { at: Nanos::new(at), in_use: Bytes::new(in_use) });
        }
        recorder.vram(VramSample { at: Nanos::new(end), in_use: Bytes::ZERO });
        Nanos::new(end)
    }
}

fn lane_of_device(lane: Lane) -> bool {
    STREAMS.contains(&lane)
}
