//! Turns a device spec into that of a rank: what the host gives all devices together, divided evenly.
//!
//! Ranks run in lock-step, so all of them copy at the same time. A rank's copies run at the least of its link, its
//! part of a link that several devices share, and its part of the host memory's rate:
//!
//! ```text
//! rate = min(link ÷ min(devices per link, ranks), host rate ÷ ranks)
//! ```
//!
//! Where the spec does not say, a device has a link of its own and the host's memory is no limit. Reads from disk, and
//! the memory that may be page-locked, are divided by the number of ranks: every rank's process has its own copy.

use crate::device::{DeviceSpec, Link};
use crate::units::{Bytes, Nanos, Rate};

/// The device as one of so many ranks has it.
pub fn shared(device: &DeviceSpec, ranks: u32) -> DeviceSpec {
    if ranks <= 1 {
        return device.clone();
    }
    let behind = u64::from(device.host.devices_per_link.unwrap_or(1).min(ranks)).max(1);
    let ranks = u64::from(ranks);
    let memory = device.host.rate.map(|rate| rate.get() / ranks);
    let limited = |link: &Link| {
        let own = link.rate.get() / behind;
        slowed_to(link, Rate::new(memory.map_or(own, |memory| memory.min(own)).max(1)))
    };
    let mut shared = device.clone();
    shared.h2d = limited(&device.h2d);
    shared.d2h = limited(&device.d2h);
    shared.pageable = device.pageable.as_ref().map(limited);
    let divided = |link: &Link| slowed_to(link, Rate::new((link.rate.get() / ranks).max(1)));
    shared.disk = device.disk.as_ref().map(divided);
    shared.host.memory = Bytes::new(device.host.memory.get() / ranks);
    shared.host.rate = device.host.rate.map(|rate| Rate::new((rate.get() / ranks).max(1)));
    shared
}

/// The same link at no more than this rate, a measured curve included.
fn slowed_to(link: &Link, rate: Rate) -> Link {
    if rate >= link.rate {
        return link.clone();
    }
    let floor = |size: Bytes| link.latency.saturating_add(rate.time_for(size));
    let points: Vec<(Bytes, Nanos)> =
        link.points.iter().map(|&(size, time)| (size, time.max(floor(size)))).collect();
    Link { rate, latency: link.latency, points }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(rate: Option<u64>, behind: Option<u32>) -> DeviceSpec {
        let mut spec = DeviceSpec::reference();
        spec.host.rate = rate.map(Rate::new);
        spec.host.devices_per_link = behind;
        spec
    }

    #[test]
    fn a_rank_gets_the_least_of_its_link_and_its_parts() {
        // The reference link moves 1 GB/s.
        for (rate, behind, ranks, expected) in [
            (None, None, 8, 1_000_000_000),
            (Some(3_000_000_000), None, 1, 1_000_000_000),
            (Some(3_000_000_000), None, 2, 1_000_000_000),
            (Some(3_000_000_000), None, 4, 750_000_000),
            (None, Some(2), 4, 500_000_000),
            (None, Some(4), 2, 500_000_000),
            (Some(3_000_000_000), Some(2), 8, 375_000_000),
        ] {
            let shared = shared(&spec(rate, behind), ranks);
            assert_eq!(shared.h2d.rate.get(), expected, "{rate:?} {behind:?} {ranks}");
            assert_eq!(shared.d2h.rate, shared.h2d.rate);
        }
    }

    #[test]
    fn one_rank_has_the_whole_host() {
        let spec = spec(Some(1), Some(8));
        assert_eq!(shared(&spec, 1), spec);
    }

    #[test]
    fn a_measured_curve_is_slowed_where_it_is_faster() {
        let mut spec = spec(Some(1_000_000_000), None);
        spec.h2d.points =
            vec![(Bytes::new(100), Nanos::new(150)), (Bytes::new(1_000), Nanos::new(1_000))];
        let times: Vec<u64> = shared(&spec, 2).h2d.points.iter().map(|(_, t)| t.get()).collect();
        assert_eq!(times, [200, 2_000]);
    }
}
