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
use crate::program::{Numbering, Phase, Program};
use crate::units::{Bytes, Fraction, Nanos};
use lanes::{Lanes, Running};

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
        let mut now = 0;
        for (component, phase) in program.phases.iter().enumerate() {
            let component = u32::try_from(component).unwrap_or(u32::MAX);
            now = Simulation::new(self, phase, component, now).run(recorder)?;
        }
        Ok(())
    }
}

struct Simulation<'a> {
    sim: &'a Sim,
    phase: &'a Phase,
    component: u32,
    numbering: Numbering,
    lanes: Lanes,
    now: u64,
    in_use: u64,
}

impl<'a> Simulation<'a> {
    fn new(sim: &'a Sim, phase: &'a Phase, component: u32, now: u64) -> Self {
        Self {
            sim,
            phase,
            component,
            numbering: Numbering::new(&phase.schedule, phase.passes),
            lanes: Lanes::new(now),
            now,
            in_use: 0,
        }
    }

    /// Runs the phase; gives the instant at which all of it has ended.
    fn run(mut self, recorder: &mut dyn Recorder) -> Result<u64> {
        for lane in Lane::ALL {
            self.lanes.settle(lane, &self.numbering, self.phase.passes);
        }
        loop {
            if recorder.interrupted() {
                let component = &self.phase.component;
                return Err(Error::Run(format!("interrupted in {component}")));
            }
            self.start_what_can(recorder);
            if !self.advance(recorder)? {
                break;
            }
        }
        match self.lanes.waiting() {
            None => {
                // The phase is over: its bytes are released.
                let sample = VramSample { at: Nanos::new(self.now), in_use: Bytes::ZERO };
                recorder.vram(sample);
                Ok(self.now)
            }
            Some(_) => Err(Error::Run(self.stuck())),
        }
    }

    /// Starts, lane by lane, every next operation that has nothing left to wait for.
    fn start_what_can(&mut self, recorder: &mut dyn Recorder) {
        for lane in Lane::ALL {
            let Some((op_index, pass)) = self.lanes.next(lane) else { continue };
            let op = &self.phase.schedule.ops[op_index];
            let mut waited_for = None;
            let mut ready = true;
            for wait in op.waits.iter().filter(|wait| wait.passes_back <= pass) {
                let target = &self.phase.schedule.ops[wait.op];
                let target_pass = pass - wait.passes_back;
                let number = self.numbering.number(wait.op, target.lane, target_pass);
                let Some(number) = number else { continue };
                if !self.lanes.has_ended(target.lane, number) {
                    ready = false;
                    break;
                }
                if waited_for.is_none() && self.lanes.ended_now(target.lane, number, self.now) {
                    waited_for = Some((wait.op, target_pass));
                }
            }
            if !ready {
                continue;
            }
            // Where the lane itself became free only now, the lane is what it waited for.
            let waited_for = waited_for.filter(|_| self.lanes.free_since(lane) < self.now);
            let waited_for =
                waited_for.map(|(op, pass)| cause(self.phase, self.component, op, pass));
            let number = self.numbering.number(op_index, lane, pass).unwrap_or(0);
            let duration = self.jittered(op.duration.get(), lane, number);
            let running = Running::new(op_index, pass, self.now, duration, waited_for);
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
            let op = &self.phase.schedule.ops[done.op];
            recorder.span(&Span {
                lane,
                op: op.kind,
                component: self.component,
                block: index(op.block),
                piece: op.piece.map(index),
                pass: done.pass + op.ahead,
                start: Nanos::new(done.start),
                end: Nanos::new(self.now),
                bytes: op.bytes,
                waited_for: done.waited_for,
            });
            if !op.releases.is_zero() {
                self.in_use = self.in_use.saturating_sub(op.releases.get());
                self.sample(recorder);
            }
            self.lanes.settle(lane, &self.numbering, self.phase.passes);
        }
        Ok(true)
    }

    fn sample(&self, recorder: &mut dyn Recorder) {
        let in_use = Bytes::new(self.in_use);
        recorder.vram(VramSample { at: Nanos::new(self.now), in_use });
    }

    /// The duration times a factor within `1 ± jitter`.
    fn jittered(&self, duration: u64, lane: Lane, number: u64) -> u64 {
        let jitter = self.sim.jitter.ppm();
        if jitter == 0 {
            return duration;
        }
        let component = u64::from(self.component);
        let key = mix(self.sim.seed ^ mix(component << 8 | lane.index() as u64));
        let draw = mix(key ^ number) % (2 * jitter + 1);
        let whole = Fraction::WHOLE.ppm();
        Fraction::from_ppm((whole + draw).saturating_sub(jitter)).share_of(duration)
    }

    /// Who waits for what, for a run that cannot go on.
    fn stuck(&self) -> String {
        let waiting = Lane::ALL.into_iter().filter_map(|lane| {
            let (op, pass) = self.lanes.next(lane)?;
            let block = self.phase.blocks.get(self.phase.schedule.ops[op].block);
            Some(format!("{lane} at {} of pass {pass}", block.map_or("?", String::as_str)))
        });
        let waiting: Vec<String> = waiting.collect();
        format!("{} is stuck: {}", self.phase.component, waiting.join(", "))
    }
}

/// Scrambles a number so that neighbours differ in every bit (SplitMix64's finaliser, Steele et al. 2014).
fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
