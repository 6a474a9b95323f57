//! Turns a program into spans by discrete-event simulation: integer nanoseconds, no threads, no clock.
//!
//! The model: each lane runs one operation at a time, in order of issue. An operation starts at the first instant
//! at which its lane is free and everything it waits for has ended. It lasts as long as the schedule says, unless
//!
//! * **contention**: while a copy runs, compute proceeds at `1 / (1 + contention)` of its speed;
//! * **jitter**: every duration is scaled by a factor within `1 ± jitter`, drawn from the seed, the lane and the
//!   operation's number, so the same seed gives the same run whatever else changes.
//!
//! Events are taken in order of time, then of lane ([`Lane::ALL`]); completions come before starts. State is a
//! handful of counters per lane, so memory does not depend on the number of passes.

mod lanes;

use super::{Backend, Recorder, cause, index};
use crate::error::{Error, Result};
use crate::lane::Lane;
use crate::profile::{Span, VramSample};
use crate::program::{Enter, Phase, Program};
use crate::units::{Bytes, Fraction, Nanos};
use lanes::{Lanes, Next, Part, Running};

/// The simulator.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sim {
    /// Slowdown of compute while a copy runs.
    pub contention: Fraction,
    /// Largest deviation of durations, either way.
    pub jitter: Fraction,
    /// Seed of the jitter.
    pub seed: u64,
}

impl Backend for Sim {
    fn name(&self) -> &'static str {
        "sim"
    }

    fn run(&self, program: &Program, recorder: &mut dyn Recorder) -> Result<()> {
        Simulation::new(self, program).run(recorder)
    }
}

struct Simulation<'a> {
    sim: &'a Sim,
    phases: &'a [Phase],
    parts: Vec<Part>,
    lanes: Lanes,
    now: u64,
    in_use: u64,
    /// Phases of which everything has ended.
    over: usize,
}

impl<'a> Simulation<'a> {
    fn new(sim: &'a Sim, program: &'a Program) -> Self {
        let phases = program.phases.as_slice();
        let parts = Part::all(phases);
        Self { sim, phases, parts, lanes: Lanes::new(), now: 0, in_use: 0, over: 0 }
    }

    /// Runs all phases.
    fn run(mut self, recorder: &mut dyn Recorder) -> Result<()> {
        for lane in Lane::ALL {
            self.lanes.settle(lane, &self.parts);
        }
        loop {
            if recorder.interrupted() {
                let component = self.phases.get(self.over).map_or("", |phase| &phase.component);
                return Err(Error::Run(format!("interrupted in {component}")));
            }
            self.start_what_can(recorder);
            if !self.advance(recorder)? {
                break;
            }
            self.end_phases(recorder);
        }
        if self.lanes.waiting().is_some() { Err(Error::Run(self.stuck())) } else { Ok(()) }
    }

    /// At the end of a phase after which the next begins afresh, all its bytes are released.
    fn end_phases(&mut self, recorder: &mut dyn Recorder) {
        while self.over < self.phases.len() {
            let next = self.parts.get(self.over + 1);
            let ended = match next {
                Some(next) => self.lanes.have_ended(&next.before),
                None => self.lanes.waiting().is_none() && !self.lanes.runs(),
            };
            if !ended {
                return;
            }
            self.over += 1;
            if self.phases.get(self.over).is_none_or(Phase::is_apart) {
                self.in_use = 0;
                self.sample(recorder);
            }
        }
    }

    /// Whether an operation of a phase's first pass has nothing left to wait for among the phases before, and the
    /// one whose end it waited for.
    fn may_enter(&self, next: Next) -> (bool, Option<(usize, usize, u32)>) {
        let phase = &self.phases[next.phase];
        match phase.enters.get(next.op).filter(|_| next.pass == 0) {
            Some(Enter::Everything) => {
                (self.lanes.have_ended(&self.parts[next.phase].before), None)
            }
            Some(&Enter::Op { stage, op, passes_back }) => {
                let pass = self.parts[stage].passes.checked_sub(1 + passes_back);
                let target = pass.and_then(|pass| Some((pass, self.number(stage, op, pass)?)));
                let Some((pass, (lane, number))) = target else { return (true, None) };
                let now = self.lanes.ended_now(lane, number, self.now);
                (self.lanes.has_ended(lane, number), now.then_some((stage, op, pass)))
            }
            Some(Enter::Nothing) | None => (true, None),
        }
    }

    /// An operation's lane, and its number there over the whole run; none where it is not part of that pass.
    fn number(&self, phase: usize, op: usize, pass: u32) -> Option<(Lane, u64)> {
        let lane = self.phases[phase].schedule.ops[op].lane;
        let part = &self.parts[phase];
        Some((lane, part.before[lane.index()] + part.numbering.number(op, lane, pass)?))
    }

    /// Starts, lane by lane, every next operation that has nothing left to wait for.
    fn start_what_can(&mut self, recorder: &mut dyn Recorder) {
        for lane in Lane::ALL {
            let Some(next) = self.lanes.next(lane) else { continue };
            let Next { phase, op: op_index, pass } = next;
            let op = &self.phases[phase].schedule.ops[op_index];
            let (mut ready, mut waited_for) = self.may_enter(next);
            for wait in op.waits.iter().filter(|wait| wait.passes_back <= pass) {
                let target_pass = pass - wait.passes_back;
                let Some((on, number)) = self.number(phase, wait.op, target_pass) else {
                    continue;
                };
                if !self.lanes.has_ended(on, number) {
                    ready = false;
                    break;
                }
                if waited_for.is_none() && self.lanes.ended_now(on, number, self.now) {
                    waited_for = Some((phase, wait.op, target_pass));
                }
            }
            if !ready {
                continue;
            }
            // Where the lane itself became free only now, the lane is what it waited for.
            let waited_for = waited_for.filter(|_| self.lanes.free_since(lane) < self.now);
            let waited_for = waited_for
                .map(|(phase, op, pass)| cause(&self.phases[phase], index(phase), op, pass));
            let duration = self.phases[phase].schedule.duration(op, pass);
            let duration = self.jittered(duration.get(), lane, next);
            let running = Running::new(next, self.now, duration, waited_for);
            self.lanes.start(lane, running, self.sim.contention);
            if !op.acquires.is_zero() {
                self.in_use = self.in_use.saturating_add(op.acquires.get());
                self.sample(recorder);
            }
        }
    }

    /// Moves time to the next end and completes what ends then; false when nothing runs.
    fn advance(&mut self, recorder: &mut dyn Recorder) -> Result<bool> {
        let Some(next) = self.lanes.next_end(self.now) else { return Ok(false) };
        let next = u64::try_from(next).ok().filter(|&next| next < u64::MAX);
        let next = next.ok_or_else(|| Error::Run("the run lasts longer than 2^64 ns".into()))?;
        self.lanes.progress(next - self.now);
        self.now = next;
        for lane in Lane::ALL {
            let Some(done) = self.lanes.complete(lane, self.now) else { continue };
            let phase = &self.phases[done.phase];
            let op = &phase.schedule.ops[done.op];
            recorder.span(&Span {
                lane,
                op: op.kind,
                component: index(done.phase),
                block: index(op.block),
                piece: op.piece.map(index),
                pass: done.pass + op.ahead,
                start: Nanos::new(done.start),
                end: Nanos::new(self.now),
                bytes: phase.schedule.bytes(op, done.pass),
                waited_for: done.waited_for,
            });
            let released = op.released(done.pass).saturating_add(self.leaves(&done));
            if !released.is_zero() {
                self.in_use = self.in_use.saturating_sub(released.get());
                self.sample(recorder);
            }
            self.lanes.settle(lane, &self.parts);
        }
        Ok(true)
    }

    /// Resident bytes that are free once this operation has ended: those whose last use it was, where the next phase
    /// may take them one by one.
    fn leaves(&self, done: &Running) -> Bytes {
        let phase = &self.phases[done.phase];
        let next = self.phases.get(done.phase + 1).filter(|next| !next.is_apart());
        let last = done.pass + 1 == phase.passes && next.is_some();
        let bytes = phase.leaves.get(done.op).filter(|_| last);
        bytes.copied().unwrap_or_default()
    }

    fn sample(&self, recorder: &mut dyn Recorder) {
        let in_use = Bytes::new(self.in_use);
        recorder.vram(VramSample { at: Nanos::new(self.now), in_use });
    }

    /// The duration times a factor within `1 ± jitter`.
    fn jittered(&self, duration: u64, lane: Lane, next: Next) -> u64 {
        let jitter = self.sim.jitter.ppm();
        if jitter == 0 {
            return duration;
        }
        let numbering = &self.parts[next.phase].numbering;
        let number = numbering.number(next.op, lane, next.pass).unwrap_or(0);
        let key = mix(self.sim.seed ^ mix((next.phase as u64) << 8 | lane.index() as u64));
        let draw = mix(key ^ number) % (2 * jitter + 1);
        let whole = Fraction::WHOLE.ppm();
        Fraction::from_ppm((whole + draw).saturating_sub(jitter)).share_of(duration)
    }

    /// Who waits for what, for a run that cannot go on.
    fn stuck(&self) -> String {
        let waiting = Lane::ALL.into_iter().filter_map(|lane| {
            let Next { phase, op, pass } = self.lanes.next(lane)?;
            let phase = &self.phases[phase];
            let block = phase.blocks.get(phase.schedule.ops[op].block);
            let block = block.map_or("?", String::as_str);
            Some(format!("{lane} at {}.{block} of pass {pass}", phase.component))
        });
        let waiting: Vec<String> = waiting.collect();
        format!("the run is stuck: {}", waiting.join(", "))
    }
}

/// Scrambles a number so that neighbours differ in every bit (SplitMix64's finaliser, Steele et al. 2014).
fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
