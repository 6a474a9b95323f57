//! Turns `--graph auto` into a choice: a few passes through streams, as many through graphs, the faster way is kept.

use super::prepare::Made;
use super::read::Reader;
use super::{Choice, Cuda, graph, repeat};
use crate::backend::Recorder;
use crate::error::{Error, Result};
use crate::lane::OpKind;
use crate::profile::{Issued, Span, VramSample};
use crate::program::Phase;
use crate::units::Nanos;

/// How long a trial may take at most, by the plan's own times; where passes take longer, issuing them does not matter.
const LONGEST: Nanos = Nanos::new(10_000_000_000);

impl Cuda<'_> {
    /// How the passes of a phase are issued: how many to a launch, and why so.
    pub(super) fn choose(
        &self,
        made: &Made<'_>,
        n: usize,
        recorder: &dyn Recorder,
    ) -> Result<(Option<u32>, Issued)> {
        let because = |why: &str| Issued { why: why.to_owned(), ..Issued::default() };
        let forced = match self.options.graph {
            Choice::Off => return Ok((None, because("asked for"))),
            Choice::On => true,
            Choice::Auto => false,
        };
        let phase = &made.program.phases[n];
        let length = match graph::table(&self.gpu) {
            Err(error) if forced => return Err(error),
            Err(error) => Err(error.to_string()),
            Ok(_) => repeat::length(phase, &self.images[phase.of], self.options.sample),
        };
        match length {
            Ok(length) if forced => Ok((Some(length), because("asked for"))),
            Err(why) if forced => Err(Error::usage(format!("--graph on: {why}"))),
            Err(why) => Ok((None, because(&format!("no graph: {why}")))),
            Ok(length) => self.try_both(made, n, length, recorder),
        }
    }

    fn try_both(
        &self,
        made: &Made<'_>,
        n: usize,
        length: u32,
        recorder: &dyn Recorder,
    ) -> Result<(Option<u32>, Issued)> {
        let phase = &made.program.phases[n];
        let passes = phase.passes.min(2 + 2 * length);
        let uses = phase.schedule.ops.iter().filter(|op| op.kind == OpKind::Compute);
        let pass: u64 = uses.map(|op| op.duration.get()).sum();
        let time = Nanos::new(pass.saturating_mul(2 * u64::from(passes)));
        if time > LONGEST {
            let why = format!("graphs were not tried, which would take {}", time.human());
            return Ok((None, Issued { why, ..Issued::default() }));
        }
        let streams = self.trial(made, (n, passes, None), &mut Quiet(recorder))?;
        let graph = self.trial(made, (n, passes, Some(length)), &mut Quiet(recorder))?;
        let issued = Issued {
            why: "the faster of both, measured".to_owned(),
            streams: Some(streams),
            graph: Some(graph),
            ..Issued::default()
        };
        Ok(((graph < streams).then_some(length), issued))
    }

    /// The mean pass of a short run.
    fn trial(
        &self,
        made: &Made<'_>,
        (n, passes, repeat): (usize, u32, Option<u32>),
        recorder: &mut dyn Recorder,
    ) -> Result<Nanos> {
        let phase = Phase { passes, ..made.program.phases[n].clone() };
        self.execute(made, (n, &phase, repeat), self.settings(), |run| {
            let mut reader = Reader::new(run, &made.arenas[phase.of], 0, Nanos::ZERO);
            run.run(&mut reader, recorder)?;
            Ok(repeat::mean_between(&reader.passes))
        })
    }
}

/// Records nothing, and stops when the other would.
struct Quiet<'a>(&'a dyn Recorder);

impl Recorder for Quiet<'_> {
    fn span(&mut self, _: &Span) {}

    fn vram(&mut self, _: VramSample) {}

    fn interrupted(&self) -> bool {
        self.0.interrupted()
    }
}
