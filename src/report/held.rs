//! Turns a run of a rank into the intervals in which collectives held the host's link, and copies paused.

use crate::lane::Lane;
use crate::profile::Profile;
use crate::units::Nanos;

/// Whether any use of the run exchanges over the link.
pub(super) fn is_held(profile: &Profile) -> bool {
    profile.header.components.iter().any(|component| !component.on_link.is_empty())
}

/// The intervals in order, as long as planned at the end of each compute; those that begin within the same column in one.
pub(super) fn held(profile: &Profile, column: Nanos) -> Vec<(Nanos, Nanos)> {
    let computes = profile.spans.iter().filter(|span| span.lane == Lane::Compute);
    let intervals = computes.filter_map(|span| {
        let component = profile.header.components.get(span.component as usize)?;
        let on_link = *component.on_link.get(span.block as usize)?;
        let start = span.end.saturating_sub(on_link).max(span.start);
        (start < span.end).then_some((start, span.end))
    });
    let mut merged: Vec<(Nanos, Nanos)> = Vec::new();
    for (start, end) in intervals {
        match merged.last_mut() {
            Some(last) if start < last.0.saturating_add(column) => last.1 = last.1.max(end),
            _ => merged.push((start, end)),
        }
    }
    merged
}

/// Whether a lane's copies pause meanwhile.
pub(super) fn pauses(lane: Lane) -> bool {
    matches!(lane, Lane::H2d | Lane::D2h)
}
