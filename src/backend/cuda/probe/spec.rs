//! Turns what a probe found, and what the operating system says about the host, into a device spec.

use super::{Cores, Findings, NodeRate};
use crate::device::{Compute, DEVICE_FORMAT, DeviceSpec, Host as HostSpec, Memory, Pcie};
use crate::figures::Origin;
use crate::model::Dtype;
use crate::units::{Bytes, FlopRate, Fraction};

/// What only the command line can find out about the machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Host {
    /// Installed memory; zero where it is not known.
    pub memory: Bytes,
    /// The GPU's link as it runs now.
    pub pcie: Option<Pcie>,
    /// The NUMA node that the GPU hangs on.
    pub numa: Option<String>,
    /// Today, as `2026-11-21`.
    pub date: String,
    /// A built-in spec of a device of the same name, for what was not measured.
    pub built_in: Option<DeviceSpec>,
}

impl Findings {
    /// The spec, and whether its compute rates were measured.
    pub fn spec(&self, host: &Host) -> (DeviceSpec, bool) {
        let best = |dtype: Dtype| {
            let rates = self.products.iter().filter(|product| product.dtype == dtype);
            rates.map(|product| product.rate).max()
        };
        let measured = best(Dtype::Bf16);
        let built_in = host.built_in.as_ref().map(|spec| spec.compute.clone());
        let compute = match measured {
            Some(bf16) => Compute {
                bf16,
                fp8: best(Dtype::F8E4M3),
                fp32: built_in.as_ref().and_then(|compute| compute.fp32),
                efficiency: self.efficiency(bf16),
            },
            None => built_in.unwrap_or(Compute {
                bf16: estimated_peak(self.cores),
                fp8: None,
                fp32: None,
                efficiency: Fraction::from_ppm(600_000),
            }),
        };
        let spec = DeviceSpec {
            format: DEVICE_FORMAT.to_owned(),
            name: self.name.clone(),
            origin: if self.stand_in { Origin::Simulated } else { Origin::Measured },
            source: Some(self.source(host, measured.is_some())),
            vram: self.memory.0,
            pcie: host.pcie.clone(),
            h2d: self.h2d.link(),
            d2h: self.d2h.link(),
            pageable: Some(self.pageable.link()),
            disk: host.built_in.as_ref().and_then(|spec| spec.disk.clone()),
            peer: host.built_in.as_ref().and_then(|spec| spec.peer.clone()),
            memory: Memory { rate: self.read },
            compute,
            alignment: 256,
            contention: self.compute_slowdown,
            copy_contention: self.copy_slowdown,
            jitter: Fraction::ZERO,
            host: HostSpec {
                memory: if host.memory.is_zero() { Bytes::new(64 << 30) } else { host.memory },
                pinned_limit: Fraction::from_ppm(500_000),
                rate: host.built_in.as_ref().and_then(|spec| spec.host.rate),
                devices_per_link: None,
            },
        };
        (spec, measured.is_some())
    }

    /// The nodes whose memory is not the best to copy from, and by how much a copy from there takes longer.
    pub fn slower_nodes(&self) -> Vec<(u32, Fraction)> {
        let best = self.nodes.iter().map(|node| node.h2d).max().unwrap_or_default();
        let slower = self.nodes.iter().filter(|node| node.h2d < best);
        let more = |node: &NodeRate| best.get().saturating_sub(node.h2d.get());
        slower.map(|node| (node.node, Fraction::of(more(node), node.h2d.get().max(1)))).collect()
    }

    /// The share of the best rate that a block's own product reaches.
    fn efficiency(&self, best: FlopRate) -> Fraction {
        let of_block = self.products.iter().find(|product| {
            product.dtype == Dtype::Bf16 && product.size.0 == 3_072 && product.size.1 == 3_072
        });
        let share = of_block
            .map_or(Fraction::WHOLE, |product| Fraction::of(product.rate.get(), best.get().max(1)));
        share.clamp(Fraction::from_ppm(1), Fraction::WHOLE)
    }

    fn source(&self, host: &Host, products: bool) -> String {
        let compute = match (products, &host.built_in) {
            (true, _) => "products by cuBLASLt".to_owned(),
            (false, Some(_)) => "compute from the built-in spec of this device".to_owned(),
            (false, None) => "compute estimated from cores and clock".to_owned(),
        };
        let mut numa =
            host.numa.as_ref().map_or(String::new(), |node| format!(", NUMA node {node}"));
        for (node, slower) in self.slower_nodes() {
            numa.push_str(&format!(", h2d from node {node} {} slower", slower.percent()));
        }
        format!(
            "vramplan {} probe on {}, CUDA driver {}{numa}; worst spread of samples: h2d {}, d2h {}, pageable {}; \
             worst residual of the fit: {}, {}, {}; {compute}; disk, peer, host.rate, pinned_limit not measured",
            env!("CARGO_PKG_VERSION"),
            host.date,
            self.driver,
            self.h2d.spread().percent(),
            self.d2h.spread().percent(),
            self.pageable.spread().percent(),
            self.h2d.residual.percent(),
            self.d2h.residual.percent(),
            self.pageable.residual.percent(),
        )
    }
}

/// The dense bf16 peak with 32-bit sums, from operations per clock and multiprocessor.
///
/// From NVIDIA's architecture whitepapers, datasheet peak ÷ (multiprocessors · boost clock): V100 and T4 1,024, A100
/// 2,048, GeForce of Ampere, Ada and Blackwell 512, H100 4,096, B200 8,192. Professional cards of capability 8.6 and 8.9
/// reach twice the GeForce's.
pub fn estimated_peak(cores: Cores) -> FlopRate {
    let per_clock = match cores.capability {
        (8, 0) => 2_048,
        (8 | 12, _) => 512,
        (9, _) => 4_096,
        (10 | 11, _) => 8_192,
        _ => 1_024,
    };
    let clock = cores.clock.max(1).saturating_mul(1_000);
    FlopRate::new(clock.saturating_mul(cores.count.max(1)).saturating_mul(per_clock))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn estimated_peaks_are_near_the_datasheets() {
        // RTX 4090: 128 multiprocessors at 2.52 GHz, 165 TFLOP/s; A100: 108 at 1.41 GHz, 312.
        for (capability, count, clock, tera) in
            [((8, 9), 128, 2_520_000, 165), ((8, 0), 108, 1_410_000, 312)]
        {
            let peak = estimated_peak(Cores { capability, count, clock }).get();
            assert!((peak / 1_000_000_000_000).abs_diff(tera) <= 1, "{peak}");
        }
    }
}
