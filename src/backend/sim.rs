//! Turns a program into spans by executing it event by event: integer nanoseconds, no threads, no clock.
//!
//! How operations follow one another, and how lanes slow each other down, is [`execution`]'s. The simulator adds
//! **jitter**: every duration is scaled by a factor within `1 ± jitter`, drawn from the seed, the lane and the
//! operation's number, so the same seed gives the same run whatever else changes.

use super::{Backend, Recorder, cause, index};
use crate::device::DeviceSpec;
use crate::error::{Error, Result};
use crate::lane::Lane;
use crate::profile::{Span, VramSample};
use crate::program::execution::{self, Beside, Ended, Halt, Observer, Repeated, Which};
use crate::program::{Phase, Program};
use crate::units::{Bytes, Fraction, Nanos};

/// The simulator.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sim {
    /// How lanes slow each other down.
    pub beside: Beside,
    /// Largest deviation of durations, either way.
    pub jitter: Fraction,
    /// Seed of the jitter.
    pub seed: u64,
}

impl Sim {
    /// A simulator of that device: its contention and its jitter.
    pub fn on(device: &DeviceSpec) -> Self {
        Self { beside: Beside::on(device), jitter: device.jitter, seed: 0 }
    }
}

impl Backend for Sim {
    fn name(&self) -> &'static str {
        "sim"
    }

    fn run(&self, program: &Program, recorder: &mut dyn Recorder) -> Result<()> {
        let phases = program.phases.as_slice();
        let stages: Vec<Repeated> = phases.iter().map(Repeated::from).collect();
        let mut told = Told { sim: self, phases, recorder, in_use: 0 };
        execution::execute(&stages, self.beside, &mut told).map_err(|halt| {
            Error::Run(match halt {
                Halt::Interrupted(stage) => {
                    let component = phases.get(stage).map_or("", |phase| &phase.component);
                    format!("interrupted in {component}")
                }
                Halt::TooLong => "the run lasts longer than 2^64 ns".to_owned(),
                Halt::Stuck(waiting) => stuck(phases, &waiting),
            })
        })
    }
}

impl<'a> From<&'a Phase> for Repeated<'a> {
    fn from(phase: &'a Phase) -> Self {
        Self { schedule: &phase.schedule, passes: phase.passes, enters: &phase.enters }
    }
}

/// Tells a recorder what happens, as it names it.
struct Told<'a> {
    sim: &'a Sim,
    phases: &'a [Phase],
    recorder: &'a mut dyn Recorder,
    in_use: u64,
}

impl Observer for Told<'_> {
    fn pace(&self, lane: Lane, stage: usize, number: u64) -> Fraction {
        let jitter = self.sim.jitter.ppm();
        if jitter == 0 {
            return Fraction::WHOLE;
        }
        let key = mix(self.sim.seed ^ mix((stage as u64) << 8 | lane.index() as u64));
        let draw = mix(key ^ number) % (2 * jitter + 1);
        let whole = Fraction::WHOLE.ppm();
        Fraction::from_ppm((whole + draw).saturating_sub(jitter))
    }

    fn started(&mut self, which: Which, at: u64) {
        let acquires = self.phases[which.stage].schedule.ops[which.op].acquires;
        if !acquires.is_zero() {
            self.in_use = self.in_use.saturating_add(acquires.get());
            self.sample(at);
        }
    }

    fn ended(&mut self, done: &Ended) {
        let Which { stage, op, pass } = done.which;
        let phase = &self.phases[stage];
        let op = &phase.schedule.ops[op];
        let cause = |waited: Which| {
            cause(&self.phases[waited.stage], index(waited.stage), waited.op, waited.pass)
        };
        self.recorder.span(&Span {
            lane: done.lane,
            op: op.kind,
            component: index(stage),
            block: index(op.block),
            piece: op.piece.map(index),
            pass: pass + op.ahead,
            start: Nanos::new(done.start),
            end: Nanos::new(done.end),
            bytes: phase.schedule.bytes(op, pass),
            waited_for: done.waited_for.map(cause),
        });
        let released = op.released(pass).saturating_add(self.leaves(done.which));
        if !released.is_zero() {
            self.in_use = self.in_use.saturating_sub(released.get());
            self.sample(done.end);
        }
    }

    /// At the end of a phase after which the next begins afresh, all its bytes are released.
    fn over(&mut self, stage: usize, at: u64) {
        if self.phases.get(stage + 1).is_none_or(Phase::is_apart) {
            self.in_use = 0;
            self.sample(at);
        }
    }

    fn interrupted(&self) -> bool {
        self.recorder.interrupted()
    }
}

impl Told<'_> {
    /// Resident bytes that are free once this operation has ended: those whose last use it was, where the next phase
    /// may take them one by one.
    fn leaves(&self, done: Which) -> Bytes {
        let phase = &self.phases[done.stage];
        let next = self.phases.get(done.stage + 1).filter(|next| !next.is_apart());
        let last = done.pass + 1 == phase.passes && next.is_some();
        let bytes = phase.leaves.get(done.op).filter(|_| last);
        bytes.copied().unwrap_or_default()
    }

    fn sample(&mut self, at: u64) {
        let in_use = Bytes::new(self.in_use);
        self.recorder.vram(VramSample { at: Nanos::new(at), in_use });
    }
}

/// Who waits for what, for a run that cannot go on.
fn stuck(phases: &[Phase], waiting: &[(Lane, Which)]) -> String {
    let waiting = waiting.iter().map(|&(lane, Which { stage, op, pass })| {
        let phase = &phases[stage];
        let block = phase.blocks.get(phase.schedule.ops[op].block);
        let block = block.map_or("?", String::as_str);
        format!("{lane} at {}.{block} of pass {pass}", phase.component)
    });
    let waiting: Vec<String> = waiting.collect();
    format!("the run is stuck: {}", waiting.join(", "))
}

/// Scrambles a number so that neighbours differ in every bit (SplitMix64's finaliser, Steele et al. 2014).
fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
