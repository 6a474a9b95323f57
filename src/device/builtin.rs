//! Names the device specs that ship inside the binary; each names its datasheet.

use super::{DeviceSpec, Pcie};
use crate::error::Result;
use crate::units::Rate;

/// Name and text of every built-in device spec, sorted by name.
pub const DEVICES: &[(&str, &str)] = &[
    ("a10", include_str!("../../profiles/devices/a10.yaml")),
    ("a100-40gb", include_str!("../../profiles/devices/a100-40gb.yaml")),
    ("a100-80gb", include_str!("../../profiles/devices/a100-80gb.yaml")),
    ("b200", include_str!("../../profiles/devices/b200.yaml")),
    ("h100", include_str!("../../profiles/devices/h100.yaml")),
    ("h200", include_str!("../../profiles/devices/h200.yaml")),
    ("l4", include_str!("../../profiles/devices/l4.yaml")),
    ("l40s", include_str!("../../profiles/devices/l40s.yaml")),
    ("rtx-3060", include_str!("../../profiles/devices/rtx-3060.yaml")),
    ("rtx-3090", include_str!("../../profiles/devices/rtx-3090.yaml")),
    ("rtx-4060-ti-16gb", include_str!("../../profiles/devices/rtx-4060-ti-16gb.yaml")),
    ("rtx-4080", include_str!("../../profiles/devices/rtx-4080.yaml")),
    ("rtx-4090", include_str!("../../profiles/devices/rtx-4090.yaml")),
    ("rtx-5080", include_str!("../../profiles/devices/rtx-5080.yaml")),
    ("rtx-5090", include_str!("../../profiles/devices/rtx-5090.yaml")),
];

/// The names, sorted.
pub fn names() -> impl Iterator<Item = &'static str> {
    DEVICES.iter().map(|&(name, _)| name)
}

/// The built-in spec of that name.
pub fn load(name: &str) -> Option<Result<DeviceSpec>> {
    let &(name, text) = DEVICES.iter().find(|&&(known, _)| known == name)?;
    Some(DeviceSpec::from_yaml(name, text))
}

impl Pcie {
    /// What large pinned copies sustain one way over this link, in bytes per second; `None` for a generation
    /// without a figure.
    ///
    /// Sixteen lanes carry 12.5 GB/s in generation 3 (nvbandwidth's README shows 12.36), 25 GB/s in generation 4
    /// (twice that, as the signalling rate doubles) and 55 GB/s in generation 5 (NVIDIA's article on nvbandwidth
    /// shows 55.63): 79 to 87 % of the 15.75, 31.5 and 63 GB/s on the wire. Fewer lanes carry their share.
    pub fn sustained(&self) -> Option<Rate> {
        let sixteen: u64 = match self.generation {
            3 => 12_500_000_000,
            4 => 25_000_000_000,
            5 => 55_000_000_000,
            _ => return None,
        };
        (1..=16).contains(&self.lanes).then(|| Rate::new(sixteen / 16 * u64::from(self.lanes)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::Origin;
    use std::collections::BTreeSet;

    fn all() -> Vec<(&'static str, DeviceSpec)> {
        names().map(|name| (name, load(name).expect("listed").expect(name))).collect()
    }

    #[test]
    fn names_are_sorted_and_unique() {
        let sorted: Vec<_> = names().collect::<BTreeSet<_>>().into_iter().collect();
        assert_eq!(names().collect::<Vec<_>>(), sorted);
        assert!(load("rtx-1").is_none());
    }

    #[test]
    fn every_file_of_the_folder_is_built_in() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/profiles/devices");
        let files: BTreeSet<String> = std::fs::read_dir(folder)
            .expect(folder)
            .map(|entry| entry.expect(folder).file_name().to_string_lossy().into_owned())
            .collect();
        assert_eq!(files, names().map(|name| format!("{name}.yaml")).collect());
    }

    #[test]
    fn every_spec_names_its_datasheet_and_follows_the_link_rule() {
        for (name, spec) in all() {
            assert_eq!(spec.origin, Origin::Datasheet, "{name}");
            assert!(spec.source.is_some_and(|source| source.contains("NVIDIA")), "{name}");
            let link = spec.pcie.expect(name);
            assert_eq!(Some(spec.h2d.rate), link.sustained(), "{name}");
            assert_eq!(spec.d2h.rate, spec.h2d.rate, "{name}");
            let (pageable, disk) = (spec.pageable.expect(name), spec.disk.expect(name));
            assert!(pageable.rate < spec.h2d.rate && disk.rate < spec.h2d.rate, "{name}");
            assert!(spec.memory.rate > spec.h2d.rate, "{name}");
        }
    }

    #[test]
    fn what_ranks_share_is_between_their_links_and_their_memory() {
        for (name, spec) in all() {
            let host = spec.host.rate.expect(name);
            assert!(host < spec.memory.rate && spec.d2h.rate < host, "{name}");
            // NVLink is on the boards of data centres; a switch of them is faster than any host.
            if let Some(peer) = spec.peer {
                assert!(peer.rate > spec.h2d.rate && peer.rate < spec.memory.rate, "{name}");
                assert!(name.starts_with(['a', 'b', 'h']), "{name}");
            }
        }
    }

    #[test]
    fn peaks_are_dense_and_in_step_across_element_types() {
        for (name, spec) in all() {
            let compute = spec.compute;
            let fp32 = compute.fp32.expect(name).get();
            // Tensor cores do 16-bit products with 32-bit sums at 2 to 30 times the vector rate, 8-bit ones at
            // twice that; a sparse figure taken for a dense one breaks the second relation.
            let times = compute.bf16.get() / (fp32 * 99 / 100);
            assert!((2..=30).contains(&times), "{name}: {times}");
            if let Some(fp8) = compute.fp8 {
                let ratio = fp8.get() * 100 / compute.bf16.get();
                assert!((195..=205).contains(&ratio), "{name}: {ratio}");
            }
        }
    }

    #[test]
    fn a_link_of_fewer_lanes_carries_its_share() {
        let rate = |generation, lanes| Pcie { generation, lanes }.sustained().map(Rate::get);
        assert_eq!(rate(4, 16), Some(25_000_000_000));
        assert_eq!(rate(4, 8), rate(3, 16));
        assert_eq!((rate(2, 16), rate(4, 0), rate(4, 32)), (None, None, None));
    }
}
