//! Turns the intervals in which collectives held the host's link into no more marks than a picture has columns.

use crate::lane::Lane;
use crate::profile::{self, Profile};
use crate::units::Nanos;

/// Whether collectives ever held it.
pub(super) fn is_held(profile: &Profile) -> bool {
    let mut on_link = profile.header.components.iter().flat_map(|component| &component.on_link);
    on_link.any(|time| !time.is_zero())
}

/// The intervals in order; those that begin within the same column in one.
pub(super) fn held(profile: &Profile, column: Nanos) -> Vec<(Nanos, Nanos)> {
    let mut merged: Vec<(Nanos, Nanos)> = Vec::new();
    for (start, end) in profile::held(profile).iter() {
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
