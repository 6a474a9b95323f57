//! Turns a run of a rank into the intervals in which collectives held the host's link, and copies paused.

use super::{Intervals, Profile, Span};
use crate::lane::Lane;
use crate::units::Nanos;

/// Those intervals: as long as planned, at the end of each compute.
pub fn held(profile: &Profile) -> Intervals {
    if profile.header.components.iter().all(|component| component.on_link.is_empty()) {
        return Intervals::default();
    }
    let computes = profile.spans.iter().filter(|span| span.lane == Lane::Compute);
    Intervals::union(computes.filter_map(|span| {
        let component = profile.header.components.get(span.component as usize)?;
        let on_link = *component.on_link.get(span.block as usize)?;
        Some((span.end.saturating_sub(on_link).max(span.start), span.end))
    }))
}

/// How long a copy ran, without its pauses.
pub(crate) fn moving(copy: &Span, held: &Intervals) -> Nanos {
    copy.duration().saturating_sub(held.covered(copy.start, copy.end))
}
