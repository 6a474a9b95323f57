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

/// How the passes of a phase are issued: how many to a launch, and why so.
type Chosen = (Option<u32>, Issued);

impl Cuda<'_> {
    /// How the passes of each phase are issued. Found out before the first pass of all; later uses of a component
    /// follow its first. Where graphs are asked for, components that cannot have one go without, unless none can.
    pub(super) fn choose(&self, made: &Made<'_>, recorder: &dyn Recorder) -> Result<Vec<Chosen>> {
        let phases = &made.program.phases;
        let mut chosen: Vec<Chosen> = Vec::with_capacity(phases.len());
        let (mut refused, mut tried) = (None, false);
        for (n, phase) in phases.iter().enumerate() {
            let before = phases[..n].iter().position(|before| before.of == phase.of);
            let choice = match before.map(|before| chosen[before].clone()) {
                Some(same) => same,
                None => {
                    let (choice, why) = self.choose_for(made, n, recorder)?;
                    refused = refused.or(why);
                    tried |= choice.1.streams.is_some();
                    choice
                }
            };
            chosen.push(choice);
        }
        if tried {
            made.wipe(&self.gpu)?;
        }
        match refused.filter(|_| chosen.iter().all(|(length, _)| length.is_none())) {
            Some(why) => Err(Error::usage(format!("--graph on: {why}"))),
            None => Ok(chosen),
        }
    }

    /// The choice for one phase; and why it can have no graph, where one was asked for.
    fn choose_for(
        &self,
        made: &Made<'_>,
        n: usize,
        recorder: &dyn Recorder,
    ) -> Result<(Chosen, Option<String>)> {
        let because = |why: &str| Issued { why: why.to_owned(), ..Issued::default() };
        let forced = match self.options.graph {
            Choice::Off => return Ok(((None, because("asked for")), None)),
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
            Ok(length) if forced => Ok(((Some(length), because("asked for")), None)),
            Ok(length) => Ok((self.try_both(made, n, length, recorder)?, None)),
            Err(why) => {
                let issued = because(&format!("no graph: {why}"));
                Ok(((None, issued), Some(why).filter(|_| forced)))
            }
        }
    }

    fn try_both(
        &self,
        made: &Made<'_>,
        n: usize,
        length: u32,
        recorder: &dyn Recorder,
    ) -> Result<Chosen> {
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
        let phases = [(n, &phase, repeat)];
        self.execute(made, &phases, self.settings(), |run| {
            let mut reader = Reader::new(self.gpu.is_stand_in());
            run.run(&mut reader, recorder)?;
            Ok(repeat::mean_between(reader.passes.first().map_or(&[], Vec::as_slice)))
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
