//! Turns blocks that passes leave out into a sentence: what that saves, and what their copies make of it.

use super::verdict::as_predicted;
use super::view::View;
use crate::figures::Skipped;
use crate::profile::{ComponentHeader, ComponentSummary};
use crate::units::Nanos;

impl View<'_> {
    /// A sentence for every component of which passes leave blocks out.
    pub(super) fn skips(&self) -> Vec<String> {
        let named = self.summary.components.iter().zip(&self.profile.header.components);
        let skipping = |(component, header): (&ComponentSummary, &ComponentHeader)| {
            let skipped = header.skipped.as_ref()?;
            Some(self.skip(component, header, skipped))
        };
        named.filter_map(skipping).collect()
    }

    fn skip(
        &self,
        component: &ComponentSummary,
        header: &ComponentHeader,
        skipped: &Skipped,
    ) -> String {
        let all: Nanos = component.passes.iter().copied().sum();
        let ran = component.passes.len();
        let whole = header.prediction.as_ref().filter(|_| ran == header.passes as usize);
        let predicted = whole.map_or(String::new(), |one| as_predicted(all, one.makespan));
        let mut text = format!(
            "{} passes of {} leave out {} uses of blocks, {} of compute (estimated); its {ran} passes take {} ({}){}",
            (0..header.passes).filter(|&pass| header.leaves_out(pass)).count(),
            component.name,
            skipped.uses,
            skipped.compute.human(),
            all.human(),
            self.summary.origin,
            predicted,
        );
        text += &format!(
            ". Of all {} passes {} is predicted if every block ran",
            header.passes,
            skipped.whole.human()
        );
        if skipped.cancelled < skipped.kept {
            text += &format!(
                ", {} with the copies for these uses cancelled, {} with them made all the same",
                skipped.cancelled.human(),
                skipped.kept.human()
            );
        }
        let least = header.bound.as_ref().map(|bound| bound.run).filter(|run| !run.is_zero());
        if let Some(least) = least {
            text += &format!("; no schedule takes less than {} (estimated)", least.human());
        }
        text + "."
    }
}
