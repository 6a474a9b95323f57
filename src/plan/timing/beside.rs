//! Turns stages whose lanes slow each other down into their times: executed event by event, since how long an
//! operation takes depends on what runs beside it.

use super::{Ends, Ratio, Totals, Unrolled};
use crate::error::{Error, Result};
use crate::lane::{Lane, OpKind};
use crate::plan::execution::{self, Beside, Ended, Halt, Observer, Repeated, Which};
use crate::plan::schedule::Schedule;
use crate::plan::skips::Mask;
use crate::units::Nanos;

/// Passes, per turn, after which a run counts as steady, and over which a steady pass is the mean.
const STEADY_PASSES: u32 = 8;

/// What stages take, one after the other.
pub(super) fn unroll(stages: &[Repeated], beside: Beside) -> Result<Vec<Unrolled>> {
    let mut times = Times::new(stages);
    execution::execute(stages, beside, &mut times).map_err(|halt| failed(&halt))?;
    Ok(times.finish())
}

/// The mean of passes that are repeated, and by lane how long it is busy in one.
pub(super) fn steady(
    schedule: &Schedule,
    beside: Beside,
) -> Result<(Ratio, [Nanos; Lane::ALL.len()])> {
    let schedule = Schedule { mask: Mask::default(), ..schedule.clone() };
    let counted = STEADY_PASSES.saturating_mul(schedule.turns());
    let mut passes = Passes {
        schedule: &schedule,
        counted: counted..2 * counted,
        ends: (0, 0),
        busy: [0; Lane::ALL.len()],
        held: Vec::new(),
    };
    // The last pass is none that is repeated: nothing is fetched in it for another.
    let stage = Repeated { schedule: &schedule, passes: 2 * counted + 1, enters: &[] };
    execution::execute(&[stage], beside, &mut passes).map_err(|halt| failed(&halt))?;
    let count = u64::from(counted);
    let busy = passes.busy.map(|busy| Nanos::new(busy.div_ceil(count)));
    let all = passes.ends.1.saturating_sub(passes.ends.0);
    Ok((Ratio::per_pass(u128::from(all)).over(u128::from(count)), busy))
}

fn failed(halt: &Halt) -> Error {
    match halt {
        Halt::TooLong => Error::usage("a run that lasts longer than 2^64 ns".to_owned()),
        Halt::Interrupted(_) | Halt::Stuck(_) => {
            Error::Internal("a schedule that comes to no end".to_owned())
        }
    }
}

/// How long an operation held the link, at its end.
fn held(schedule: &Schedule, which: Which, start: u64, end: u64) -> u64 {
    let op = &schedule.ops[which.op];
    if schedule.is_left_out(op, which.pass) { 0 } else { op.on_link.get().min(end - start) }
}

/// Collects the ends of passes, and how long each lane is busy in them.
struct Passes<'a> {
    schedule: &'a Schedule,
    /// The passes that count.
    counted: std::ops::Range<u32>,
    /// The end of the last compute before them, and of the last in them.
    ends: (u64, u64),
    busy: [u64; Lane::ALL.len()],
    /// When the link was held.
    held: Vec<(u64, u64)>,
}

impl Passes<'_> {
    /// How long a copy paused. None ends while the link is held, so what held it up has ended.
    fn paused(&self, copy: &Ended) -> u64 {
        let recent = self.held.iter().rev().take_while(|held| held.1 > copy.start);
        recent.map(|held| held.1.min(copy.end).saturating_sub(held.0.max(copy.start))).sum()
    }
}

impl Observer for Passes<'_> {
    fn ended(&mut self, done: &Ended) {
        let pass = done.which.pass;
        let held = held(self.schedule, done.which, done.start, done.end);
        if held > 0 {
            self.held.push((done.end - held, done.end));
        }
        if self.schedule.ops[done.which.op].kind == OpKind::Compute {
            if pass < self.counted.start {
                self.ends.0 = done.end;
            }
            if pass < self.counted.end {
                self.ends.1 = done.end;
            }
        }
        if self.counted.contains(&pass) {
            let paused = match done.lane {
                Lane::H2d | Lane::D2h => self.paused(done),
                Lane::Compute | Lane::Disk | Lane::Host => 0,
            };
            self.busy[done.lane.index()] += done.end - done.start - paused;
        }
    }
}

/// Collects the times of stages as the recurrence does.
struct Times<'a> {
    stages: &'a [Repeated<'a>],
    /// By stage.
    ends: Vec<Ends>,
    slack: Vec<Vec<Option<Nanos>>>,
    /// End of the last compute of the first pass, and of the last compute.
    computed: Vec<(u64, u64)>,
    /// End of the last operation of any kind.
    last: Vec<u64>,
    lane_end: [u64; Lane::ALL.len()],
    totals: Totals,
}

impl<'a> Times<'a> {
    fn new(stages: &'a [Repeated<'a>]) -> Self {
        let mut totals = Totals::default();
        stages.iter().for_each(|_| totals.next_stage());
        Self {
            stages,
            ends: stages.iter().map(|stage| Ends::new(stage.schedule, stage.passes)).collect(),
            slack: stages.iter().map(|stage| vec![None; stage.schedule.ops.len()]).collect(),
            computed: vec![(0, 0); stages.len()],
            last: vec![0; stages.len()],
            lane_end: [0; Lane::ALL.len()],
            totals,
        }
    }

    /// When everything before a stage has ended.
    fn before(&self, stage: usize) -> u64 {
        self.last[..stage].iter().copied().max().unwrap_or(0)
    }

    fn finish(self) -> Vec<Unrolled> {
        let mut done = Vec::with_capacity(self.stages.len());
        let mut computed = 0;
        for (n, stage) in self.stages.iter().enumerate() {
            let start = if stage.is_apart() { self.before(n) } else { computed };
            let (first, last) = self.computed[n];
            computed = start.max(last);
            done.push(Unrolled {
                first_pass: Nanos::new(first.saturating_sub(start)),
                makespan: Nanos::new(computed - start),
                slack: self.slack[n].clone(),
                ..Unrolled::default()
            });
        }
        let left = self.before(self.stages.len()).saturating_sub(computed);
        self.totals.write(&mut done, left);
        done
    }
}

impl Observer for Times<'_> {
    fn started(&mut self, Which { stage, op, pass }: Which, at: u64) {
        let Repeated { schedule, passes, .. } = self.stages[stage];
        let op = &schedule.ops[op];
        let counts = op.kind == OpKind::Compute && (pass > 0 || passes == 1);
        if !counts || schedule.is_left_out(op, pass) {
            return;
        }
        for wait in op.waits.iter().filter(|wait| wait.passes_back <= pass) {
            if let Some(end) = self.ends[stage].of(wait.op, pass - wait.passes_back) {
                let before = Nanos::new(at.saturating_sub(end));
                let known = self.slack[stage][wait.op].get_or_insert(before);
                *known = before.min(*known);
            }
        }
    }

    fn ended(&mut self, done: &Ended) {
        let &Ended { which, lane, start, end, waited_for } = done;
        let stage = &self.stages[which.stage];
        // Operations of other stages have other numbers.
        let by_copy = |waited: Which| {
            waited.stage == which.stage && stage.schedule.ops[waited.op].kind == OpKind::Copy
        };
        let stalled = match waited_for.is_some_and(by_copy) {
            true => {
                let apart = if stage.is_apart() { self.before(which.stage) } else { 0 };
                start - self.lane_end[lane.index()].max(apart)
            }
            false => 0,
        };
        let held = held(stage.schedule, which, start, end);
        self.totals.add(which.stage, lane, (start, end, held), stalled);
        self.lane_end[lane.index()] = end;
        self.last[which.stage] = end;
        self.ends[which.stage].set(which.op, which.pass, end);
        if lane == Lane::Compute {
            let computed = &mut self.computed[which.stage];
            if which.pass == 0 {
                computed.0 = end;
            }
            computed.1 = end;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::stage::stages;
    use crate::plan::timing::{steady_pass, unroll_stages};
    use crate::plan::{ComponentInput, ComponentPlan, Granularity, Instance};
    use crate::units::{Bytes, Fraction};

    /// Plans of equal and unequal blocks, bound by copies and by compute, of one pass and of several.
    fn plans() -> Vec<ComponentPlan> {
        let mut plans = Vec::new();
        for (count, compute, budget, passes) in
            [(5, 60, 300, 1), (5, 60, 300, 7), (9, 140, 420, 20), (12, 20, 900, 9), (4, 30, 200, 2)]
        {
            let mut instance = Instance::equal(count, 100, compute, budget);
            for (n, used) in instance.uses.iter_mut().enumerate().filter(|(n, _)| n % 3 == 1) {
                used.bytes = Bytes::new(60 + 7 * n as u64);
            }
            for granularity in [Granularity::Block, Granularity::Rotating] {
                let input = ComponentInput { passes, ..ComponentInput::alone(&instance) };
                plans.push(input.plan(granularity).expect("fits"));
            }
        }
        plans
    }

    #[test]
    fn where_nothing_slows_anything_down_the_recurrence_tells_the_same() {
        let device = Instance::equal(1, 1, 1, 1).device;
        for plan in plans() {
            let stages = stages(&vec![plan.clone(); 3], 1, &device).expect("sound");
            let stages: Vec<Repeated> = stages.iter().map(Repeated::from).collect();
            let told = unroll_stages(&stages);
            assert_eq!(unroll(&stages, Beside::default()).expect("ends"), told, "{plan:#?}");
            let (pass, busy) = steady(stages[0].schedule, Beside::default()).expect("ends");
            // Eight passes of a schedule that settles in fewer, to the rounding of the mean.
            let ratio = steady_pass(stages[0].schedule).ceil();
            assert!(pass.ceil().get().abs_diff(ratio.get()) <= 1, "{pass:?} {ratio}");
            let known = super::super::steady(stages[0].schedule, Beside::default()).expect("ends");
            assert_eq!(busy, known.busy);
        }
    }

    #[test]
    fn what_slows_down_takes_longer_and_never_less_than_alone() {
        let device = Instance::equal(1, 1, 1, 1).device;
        let half = Fraction::from_ppm(500_000);
        for plan in plans() {
            let stages = stages(&[plan], 1, &device).expect("sound");
            let stages: Vec<Repeated> = stages.iter().map(Repeated::from).collect();
            let alone = unroll_stages(&stages)[0].makespan;
            let slower = Beside { contention: half, copy_contention: half };
            let slower = unroll(&stages, slower).expect("ends")[0].makespan;
            assert!(alone < slower && slower.get() * 2 <= alone.get() * 3, "{alone} {slower}");
        }
    }
}
