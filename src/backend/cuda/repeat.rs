//! Turns the passes between the first and the last into graphs of several passes, launched in turn.
//!
//! ```text
//! streams   pass 0 ┆                                                      ┆ what is left, last pass
//! graphs           ┆ A: passes 1 … K ┆ B: K+1 … 2K ┆ A: 2K+1 … 3K ┆ …    ┆
//! ```
//!
//! A graph is what the same code would have put into the streams, captured once: the same copies, kernels and waits.
//! Offsets in the slab and the passes that are timed repeat every few passes; a graph holds a multiple of that. The
//! bars are barriers: a graph begins when everything before it has ended, so no copy overlaps the end of a launch.
//! That is what graphs cost, host time to issue is what they save; which is more is measured. The boundary between two
//! phases is no such bar: the last pass of one and the first of the next are issued by streams and overlap.
//!
//! Times come from nodes that record events inside the graph. There are two graphs with events of their own, so that
//! the host reads one launch while the other runs.

use super::clock;
use super::executor::{Run, STREAMS};
use super::graph::{Capture, Graph};
use super::part::{ByLane, Pair, Part, Used};
use super::stream::Event;
use crate::error::{Error, Result};
use crate::lane::{Lane, OpKind};
use crate::program::Phase;
use crate::program::image::{ComponentImage, HostMemory};
use crate::units::Nanos;

/// The first pass of the first launch: pass 0 also loads what stays.
const FIRST: u32 = 1;

/// Passes that a launch holds at least where the run is long enough: barriers become rarer.
const WANTED: u64 = 4;

/// Operations of a graph at most; its nodes lie in host and device memory.
const MOST_OPERATIONS: u64 = 100_000;

/// Passes that one launch holds, or why no graph can be made of this phase.
pub(super) fn length(
    phase: &Phase,
    image: &ComponentImage,
    sample: u32,
) -> std::result::Result<u32, String> {
    let ops = &phase.schedule.ops;
    if ops.iter().any(|op| op.kind == OpKind::HostSync) {
        return Err("the policy holds the host inside a pass".to_owned());
    }
    if ops.iter().any(|op| op.kind == OpKind::Read) {
        return Err("pieces are read from disk".to_owned());
    }
    if !phase.schedule.mask.is_empty() {
        return Err("passes leave blocks out".to_owned());
    }
    let mut pieces = image.blocks.iter().flat_map(|block| &block.pieces);
    if pieces.any(|piece| piece.memory == HostMemory::Pageable) {
        return Err("copies from ordinary memory hold the host".to_owned());
    }
    let places = phase.places.iter().flatten();
    let repeats = places.map(|place| place.at.len().max(1) as u64);
    let period = repeats.chain([sample.max(1), phase.schedule.turns()].map(u64::from)).fold(1, lcm);
    let middle = u64::from(phase.passes.saturating_sub(2));
    if period > middle {
        return Err(format!(
            "passes repeat only every {period}, {middle} lie between the first and the last"
        ));
    }
    let wanted = period.saturating_mul(WANTED.div_ceil(period));
    let length = if wanted <= middle { wanted } else { period };
    if length.saturating_mul(ops.len() as u64) > MOST_OPERATIONS {
        return Err(format!("{length} passes of {} operations are too many nodes", ops.len()));
    }
    u32::try_from(length).map_err(|_| "too many passes".to_owned())
}

fn lcm(a: u64, b: u64) -> u64 {
    let (mut x, mut y) = (a, b);
    while y > 0 {
        (x, y) = (y, x % y);
    }
    (a / x.max(1)).saturating_mul(b)
}

/// The launches of a phase.
pub(super) struct Repeat {
    /// Passes of one launch.
    length: u32,
    /// Launches that the run has room for.
    launches: u32,
    /// Launches that were issued.
    issued: u32,
    /// Two, used in turn; none before they are captured.
    graphs: Vec<Graph>,
    /// By row of passes and operation: the events of timed operations.
    pairs: Vec<Vec<Pair>>,
    /// By row of passes and lane: the end of the pass.
    marks: Vec<ByLane>,
    /// Before and after each launch, in turn.
    bounds: [Event; 3],
    /// Where a capture begins, and where each lane of it ends.
    fork: Event,
    joins: ByLane,
}

impl Repeat {
    /// Makes the events of launches of so many passes.
    pub fn new(run: &mut Run<'_>, (n, part): (usize, &Part), length: u32) -> Result<Self> {
        let passes = run.phases[n].phase.passes;
        let settings = run.settings;
        let pool = &mut run.pool;
        let rows = 2 * length as usize;
        let timed = |op: usize, row: usize| {
            let pass = FIRST + u32::try_from(row).unwrap_or(u32::MAX);
            part.is_timed(settings, op, pass)
        };
        let mut pairs = Vec::with_capacity(rows);
        let mut marks = Vec::with_capacity(rows);
        for row in 0..rows {
            let events = part.steps.iter().enumerate();
            let events = events.map(|(op, step)| pool.pair(step.lane, timed(op, row), false));
            pairs.push(events.collect::<std::result::Result<Vec<_>, _>>()?);
            marks.push(pool.by_lane(part.used, true)?);
        }
        Ok(Self {
            length,
            launches: passes.saturating_sub(2) / length.max(1),
            issued: 0,
            graphs: Vec::new(),
            pairs,
            marks,
            bounds: [pool.take(true)?, pool.take(true)?, pool.take(true)?],
            fork: pool.take(false)?,
            joins: pool.by_lane(part.used, false)?,
        })
    }

    /// Its events, for others to use; the graphs that record them are gone.
    pub fn into_events(self) -> Vec<Event> {
        drop(self.graphs);
        let pairs = self.pairs.into_iter().flatten();
        let pairs = pairs.flat_map(|Pair { start, end }| [start, end]).flatten();
        let marks = self.marks.into_iter().chain([self.joins]).flatten().flatten();
        pairs.chain(marks).chain(self.bounds).chain([self.fork]).collect()
    }

    /// Whether a pass is part of a launch.
    pub fn includes(&self, pass: u32) -> bool {
        (FIRST..self.end()).contains(&pass)
    }

    /// The pass after the last launch.
    fn end(&self) -> u32 {
        FIRST + self.launches * self.length
    }

    /// Which of the passes that both graphs hold a pass is; none where no launch holds it.
    pub fn row_of(&self, pass: u32) -> Option<u32> {
        self.includes(pass).then(|| (pass - FIRST) % (2 * self.length).max(1))
    }

    fn row(&self, pass: u32) -> usize {
        (pass - FIRST) as usize % self.pairs.len().max(1)
    }

    /// The event before a launch.
    fn bound(&self, launch: u32) -> &Event {
        &self.bounds[launch as usize % self.bounds.len()]
    }

    /// What was recorded between this pass and the next: around a launch all streams meet.
    pub fn bound_after(&self, pass: u32) -> Option<&Event> {
        let next = pass + 1 - FIRST;
        let (launch, at) = (next / self.length, next % self.length);
        // Before the first launch the mark is its own, after the last one the last's.
        let recorded = launch < self.issued || launch == self.issued && launch > 0;
        (at == 0 && launch <= self.launches && recorded).then(|| self.bound(launch))
    }

    /// What is recorded outside of the graph once this pass, which a launch holds, has ended for certain.
    pub fn reached_with(&self, pass: u32) -> Option<&Event> {
        self.includes(pass).then(|| self.bound((pass - FIRST) / self.length + 1))
    }

    /// The events of an operation in a pass that a launch holds.
    pub fn pair(&self, n: usize, pass: u32) -> Option<&Pair> {
        self.includes(pass).then(|| &self.pairs[self.row(pass)][n])
    }

    /// The end of a pass that a launch holds.
    pub fn mark(&self, pass: u32) -> &ByLane {
        &self.marks[self.row(pass)]
    }

    /// Whether a pass begins a launch.
    pub fn begins(&self, pass: u32) -> bool {
        self.includes(pass) && (pass - FIRST).is_multiple_of(self.length)
    }

    /// Whether the streams go on alone with this pass.
    fn resumes(&self, pass: u32) -> bool {
        self.issued > 0 && pass == self.end()
    }
}

impl Run<'_> {
    /// Captures both graphs of a part; nothing runs.
    pub fn capture_all(&mut self, part: usize) -> Result<()> {
        let Some(length) = self.part(part).repeat.as_ref().map(|repeat| repeat.length) else {
            return Ok(());
        };
        for start in [FIRST, FIRST + length] {
            let graph = self.capture(part, start, length)?;
            if let Some(compute) = self.stream(Lane::Compute) {
                graph.upload(compute)?;
            }
            if let Some(repeat) = &mut self.part_mut(part).repeat {
                repeat.graphs.push(graph);
            }
        }
        Ok(())
    }

    fn capture(&mut self, part: usize, start: u32, length: u32) -> Result<Graph> {
        let known = self.known;
        self.know_all_before(part, start);
        let Some(compute) = self.stream(Lane::Compute) else {
            return Err(Error::Internal("no compute stream".to_owned()));
        };
        let capture = Capture::begin(self.phases[part].gpu, compute)?;
        self.capturing = true;
        let issued = self.captured(part, start, length);
        self.capturing = false;
        self.known = known;
        issued?;
        capture.end()
    }

    fn captured(&mut self, part: usize, start: u32, length: u32) -> Result<()> {
        self.fork(part)?;
        for pass in start..start + length {
            self.issue_ops(part, pass)?;
        }
        let (Some(repeat), Some(compute)) = (&self.part(part).repeat, self.stream(Lane::Compute))
        else {
            return Ok(());
        };
        for lane in STREAMS.into_iter().filter(|lane| *lane != Lane::Compute) {
            if let (Some(stream), Some(join)) = (self.stream(lane), &repeat.joins[lane.index()]) {
                stream.record(join)?;
                compute.wait(join)?;
            }
        }
        Ok(())
    }

    /// The other streams join the capture, where they run something.
    fn fork(&self, part: usize) -> Result<()> {
        let (Some(repeat), Some(compute)) = (&self.part(part).repeat, self.stream(Lane::Compute))
        else {
            return Ok(());
        };
        compute.record(&repeat.fork)?;
        for lane in STREAMS.into_iter().filter(|lane| *lane != Lane::Compute) {
            if let (Some(stream), Some(_)) = (self.stream(lane), &repeat.joins[lane.index()]) {
                stream.wait(&repeat.fork)?;
            }
        }
        Ok(())
    }

    /// Every lane is taken to have waited for everything of the passes before.
    fn know_all_before(&mut self, part: usize, pass: u32) {
        let numbering = &self.part(part).numbering;
        let of = |lane, pass| numbering.on_lane(lane, pass).len() as u64;
        let before = &self.before[part];
        let counts = Lane::ALL
            .map(|lane| before[lane.index()] + (0..pass).map(|pass| of(lane, pass)).sum::<u64>());
        self.known = [counts; Lane::ALL.len()];
    }

    /// Issues a launch; gives its passes.
    #[expect(unsafe_code, reason = "launches the copies that were captured")]
    pub fn launch(&mut self, part: usize, pass: u32) -> Result<u32> {
        let start = clock::host_now();
        let own = self.part(part);
        let (Some(repeat), Some(compute)) = (&own.repeat, self.stream(Lane::Compute)) else {
            return Err(Error::Internal("a launch without a graph".to_owned()));
        };
        let (length, launch) = (repeat.length, repeat.issued);
        if launch == 0 {
            for lane in STREAMS {
                if let Some((_, end)) = self.mark_of(part, pass - 1, lane) {
                    compute.wait(end)?;
                }
            }
            compute.record(repeat.bound(0))?;
        }
        let graph = &repeat.graphs[launch as usize % repeat.graphs.len().max(1)];
        // SAFETY: arena, slab and what compute needs outlive the run, which ends with a wait for all streams; all
        // work before and after is ordered by the compute stream, and what other streams run at the same time is not
        // of this phase, but entering the next: the program's proof covers both.
        unsafe { graph.launch(compute)? };
        let on = |lane, pass| own.numbering.on_lane(lane, pass).len() as u64;
        let ops = Lane::ALL.map(|lane| (pass..pass + length).map(|p| on(lane, p)).sum::<u64>());
        for (issued, ops) in self.issued.iter_mut().zip(ops) {
            *issued += ops;
        }
        self.tell_launched(part)?;
        let own = self.part(part);
        if let (Some(repeat), Some(compute)) = (&own.repeat, self.stream(Lane::Compute)) {
            compute.record(repeat.bound(launch + 1))?;
        }
        let each = clock::since(start).get() / u64::from(length.max(1));
        self.issue[part].extend((0..length).map(|_| Nanos::new(each)));
        self.launched[part] = (length, launch + 1);
        if let Some(repeat) = &mut self.part_mut(part).repeat {
            repeat.issued += 1;
        }
        Ok(length)
    }

    /// After the last launch all streams that it used go on from its end.
    pub fn resume(&mut self, part: usize, pass: u32) -> Result<()> {
        let own = self.part(part);
        let Some(repeat) = own.repeat.as_ref().filter(|repeat| repeat.resumes(pass)) else {
            return Ok(());
        };
        let used = own.used.map(|used| used == Used::Always);
        let bound = repeat.bound(repeat.issued);
        for lane in STREAMS.into_iter().filter(|lane| used[lane.index()]) {
            if let Some(stream) = self.stream(lane) {
                stream.wait(bound)?;
            }
        }
        for lane in STREAMS {
            for other in STREAMS {
                if used[lane.index()] && used[other.index()] {
                    self.known[lane.index()][other.index()] = self.issued[other.index()];
                }
            }
        }
        Ok(())
    }
}

/// The mean time of the passes between the first and the last: the barriers of launches count.
pub(super) fn mean_between(passes: &[Nanos]) -> Nanos {
    let between = passes.get(1..passes.len().saturating_sub(1)).unwrap_or_default();
    let sum: u64 = between.iter().map(|time| time.get()).sum();
    Nanos::new(sum / (between.len() as u64).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periods_meet() {
        assert_eq!([lcm(4, 6), lcm(1, 7), lcm(3, 0)], [12, 7, 0]);
    }

    #[test]
    fn the_first_and_the_last_pass_do_not_count() {
        let passes: Vec<Nanos> = [90, 10, 12, 14, 70].map(Nanos::new).to_vec();
        assert_eq!(mean_between(&passes), Nanos::new(12));
        assert_eq!(mean_between(&passes[..1]), Nanos::ZERO);
    }
}
