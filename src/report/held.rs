//! Turns the intervals in which collectives held the host's link into no more marks than a picture has columns.

use super::slices::in_columns;
use crate::lane::Lane;
use crate::profile::{self, Profile};
use crate::units::Nanos;

/// Whether collectives ever held it.
pub(super) fn is_held(profile: &Profile) -> bool {
    let mut on_link = profile.header.components.iter().flat_map(|component| &component.on_link);
    on_link.any(|time| !time.is_zero())
}

/// The intervals in which a lane's copies paused, in order; none for lanes that do not copy over the link.
pub(super) fn held(profile: &Profile, lane: Lane, column: Nanos) -> Vec<(Nanos, Nanos)> {
    match lane {
        Lane::H2d | Lane::D2h => in_columns(profile::held(profile).iter(), column),
        Lane::Compute | Lane::Disk | Lane::Host => Vec::new(),
    }
}
