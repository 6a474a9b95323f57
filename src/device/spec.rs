//! Turns device text into a validated [`DeviceSpec`] and back.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{Problem, Result};
use crate::figures::Origin;
use crate::model::Dtype;
use crate::units::{Bytes, FlopRate, Fraction, Nanos, Rate};
use crate::yaml;

/// The longest fixed cost of a copy that is taken for a measurement.
pub(crate) const MAX_LATENCY: Nanos = Nanos::new(10_000_000_000);

/// The first line of every device file.
pub const DEVICE_FORMAT: &str = "vramplan/device/1";

/// What a GPU and its host can do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeviceSpec {
    /// Always `vramplan/device/1`.
    pub format: String,
    /// The device's name as its driver gives it.
    pub name: String,
    /// Where the numbers come from.
    pub origin: Origin,
    /// The document, or for measured specs date, driver, tool version and command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Memory of the device.
    pub vram: Bytes,
    /// The link to the host; rates below follow from it unless they are measured.
    #[serde(default, skip_serializing_if = "Option::is_none", serialize_with = "flow_option")]
    pub pcie: Option<Pcie>,
    /// Copies from pinned host memory to the device.
    #[serde(serialize_with = "yaml::flow_map")]
    pub h2d: Link,
    /// Copies from the device to pinned host memory.
    #[serde(serialize_with = "yaml::flow_map")]
    pub d2h: Link,
    /// Copies from pageable host memory to the device.
    #[serde(default, skip_serializing_if = "Option::is_none", serialize_with = "flow_option")]
    pub pageable: Option<Link>,
    /// Reads from storage into host memory.
    #[serde(default, skip_serializing_if = "Option::is_none", serialize_with = "flow_option")]
    pub disk: Option<Link>,
    /// The link to other devices of the same host where it is not the host's: NVLink, one way. A copy's latency is
    /// that of a whole collective.
    #[serde(default, skip_serializing_if = "Option::is_none", serialize_with = "flow_option")]
    pub peer: Option<Link>,
    /// The device's own memory.
    #[serde(serialize_with = "yaml::flow_map")]
    pub memory: Memory,
    /// Dense matrix throughput by element type.
    #[serde(serialize_with = "yaml::flow_map")]
    pub compute: Compute,
    /// Every offset in the slab is a multiple of this many bytes.
    #[serde(default = "default_alignment")]
    pub alignment: u64,
    /// Slowdown of compute while a copy runs: `c` becomes `c · (1 + contention)` for the overlapped part.
    #[serde(default)]
    pub contention: Fraction,
    /// Slowdown of copies while something computes, in the same way.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub copy_contention: Fraction,
    /// Largest deviation of simulated durations, either way, as a share; 0 for none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub jitter: Fraction,
    /// The host.
    #[serde(serialize_with = "yaml::flow_map")]
    pub host: Host,
}

fn flow_option<T: Serialize, S: serde::Serializer>(
    value: &Option<T>,
    serializer: S,
) -> std::result::Result<S::Ok, S::Error> {
    yaml::flow_map(value, serializer)
}

fn default_alignment() -> u64 {
    256
}

fn is_zero(share: &Fraction) -> bool {
    *share == Fraction::ZERO
}

/// A PCI Express link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Pcie {
    /// Generation, 3 to 6.
    pub generation: u32,
    /// Number of lanes.
    pub lanes: u32,
}

/// A path for copies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// Sustained rate of large copies.
    pub rate: Rate,
    /// Fixed cost of one copy.
    #[serde(default)]
    pub latency: Nanos,
    /// A measured curve, `[[size, time], …]` with rising sizes; beats rate and latency between its ends.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub points: Vec<(Bytes, Nanos)>,
}

/// Device memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Memory {
    /// Bytes per second between memory and compute units.
    pub rate: Rate,
}

/// Dense matrix throughput, without sparsity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Compute {
    /// Peak for bfloat16 and half inputs with single-precision sums.
    pub bf16: FlopRate,
    /// Peak for 8-bit float inputs; where absent such weights compute as bf16.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fp8: Option<FlopRate>,
    /// Peak for single precision; where absent half the bf16 peak.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fp32: Option<FlopRate>,
    /// Share of peak that dense transformer blocks reach.
    pub efficiency: Fraction,
}

/// The host's memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Host {
    /// Installed memory.
    pub memory: Bytes,
    /// Share of it that may be page-locked.
    pub pinned_limit: Fraction,
    /// Bytes per second that its memory gives to all devices together; where absent it is no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// Devices behind one link to the host, a switch of PCI Express say; where absent each has its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub devices_per_link: Option<u32>,
}

impl Link {
    /// The time of one copy of `size`: zero for nothing, else the curve or `latency + ceil(size / rate)`.
    pub fn time_for(&self, size: Bytes) -> Nanos {
        if size.is_zero() {
            return Nanos::ZERO;
        }
        self.on_curve(size).unwrap_or_else(|| self.latency.saturating_add(self.rate.time_for(size)))
    }

    /// The whole bytes that pass in `time` at its rate, without latency; saturating.
    pub fn bytes_in(&self, time: Nanos) -> Bytes {
        let bytes = u128::from(time.get()) * u128::from(self.rate.get()) / 1_000_000_000;
        Bytes::new(u64::try_from(bytes).unwrap_or(u64::MAX))
    }

    /// Linear interpolation between the two measured sizes around `size`, rounded up.
    fn on_curve(&self, size: Bytes) -> Option<Nanos> {
        let after = self.points.iter().position(|&(at, _)| at >= size)?;
        let (high_size, high_time) = self.points[after];
        if high_size == size {
            return Some(high_time);
        }
        let (low_size, low_time) = *self.points.get(after.checked_sub(1)?)?;
        let width = u128::from(high_size.get() - low_size.get());
        let rise = u128::from(high_time.get().saturating_sub(low_time.get()));
        let part = (u128::from(size.get() - low_size.get()) * rise).div_ceil(width);
        Some(low_time.saturating_add(Nanos::new(u64::try_from(part).unwrap_or(u64::MAX))))
    }
}

impl Compute {
    /// The rate that dense blocks of this element type reach: peak times efficiency.
    pub fn effective(&self, dtype: Dtype) -> FlopRate {
        let half = FlopRate::new(self.bf16.get() / 2);
        let peak = match dtype {
            Dtype::F32 | Dtype::F64 => self.fp32.unwrap_or(half),
            Dtype::F8E4M3 | Dtype::F8E5M2 => self.fp8.unwrap_or(self.bf16),
            // Integer and block-quantised weights are widened to 16 bits before the product.
            _ => self.bf16,
        };
        peak.scaled(self.efficiency)
    }
}

impl DeviceSpec {
    /// Whether copies and computes slow each other down.
    pub fn is_contended(&self) -> bool {
        self.contention > Fraction::ZERO || self.copy_contention > Fraction::ZERO
    }

    /// A device that moves one byte per nanosecond either way, without latency, contention or alignment: the
    /// arithmetic of examples and tests can then be done by hand.
    pub fn reference() -> Self {
        let link =
            Link { rate: Rate::new(1_000_000_000), latency: Nanos::ZERO, points: Vec::new() };
        Self {
            format: DEVICE_FORMAT.to_owned(),
            name: "reference".to_owned(),
            origin: Origin::Estimated,
            source: None,
            vram: Bytes::new(1 << 50),
            pcie: None,
            h2d: link.clone(),
            d2h: link.clone(),
            pageable: Some(link.clone()),
            disk: Some(link),
            peer: None,
            memory: Memory { rate: Rate::new(1_000_000_000_000) },
            compute: Compute {
                bf16: FlopRate::new(1_000_000_000_000),
                fp8: None,
                fp32: None,
                efficiency: Fraction::WHOLE,
            },
            alignment: 1,
            contention: Fraction::ZERO,
            copy_contention: Fraction::ZERO,
            jitter: Fraction::ZERO,
            host: Host {
                memory: Bytes::new(1 << 50),
                pinned_limit: Fraction::WHOLE,
                rate: None,
                devices_per_link: None,
            },
        }
    }

    /// Reads and validates a device spec. `file` is only for messages.
    pub fn from_yaml(file: &str, text: &str) -> Result<Self> {
        yaml::checked(file, text, Self::validate)
    }

    /// Writes the spec.
    pub fn to_yaml(&self) -> Result<String> {
        yaml::to_string(&[], self)
    }

    /// Everything that is wrong with the spec; empty when it is sound.
    pub fn validate(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut require = |holds: bool, place: &str, found: String, expected: &str| {
            if !holds {
                problems.push(Problem::new(place, found, expected));
            }
        };
        let format = format!("{:?}", self.format);
        require(self.format == DEVICE_FORMAT, "format", format, DEVICE_FORMAT);
        require(!self.vram.is_zero(), "vram", "0".into(), "more than 0");
        let links = [("h2d", Some(&self.h2d)), ("d2h", Some(&self.d2h))];
        let optional = [
            ("pageable", self.pageable.as_ref()),
            ("disk", self.disk.as_ref()),
            ("peer", self.peer.as_ref()),
        ];
        for (name, link) in links.into_iter().chain(optional) {
            let Some(link) = link else { continue };
            require(!link.rate.is_zero(), &format!("{name}.rate"), "0".into(), "more than 0");
            let latency = link.latency;
            let found = latency.to_string();
            let place = format!("{name}.latency");
            require(latency <= MAX_LATENCY, &place, found, "at most 10s");
            let rising = link.points.windows(2).all(|w| w[0].0 < w[1].0 && w[0].1 <= w[1].1);
            let place = format!("{name}.points");
            require(rising, &place, "points out of order".into(), "rising sizes and times");
        }
        require(!self.memory.rate.is_zero(), "memory.rate", "0".into(), "more than 0");
        require(!self.compute.bf16.is_zero(), "compute.bf16", "0".into(), "more than 0");
        for (name, peak) in [("fp8", self.compute.fp8), ("fp32", self.compute.fp32)] {
            let zero = peak.is_some_and(FlopRate::is_zero);
            require(!zero, &format!("compute.{name}"), "0".into(), "more than 0, or nothing");
        }
        let share = |value: Fraction| value > Fraction::ZERO && value <= Fraction::WHOLE;
        let efficiency = self.compute.efficiency;
        let found = efficiency.to_string();
        require(share(efficiency), "compute.efficiency", found, "a share above 0, at most 1");
        let pinned = self.host.pinned_limit;
        let found = pinned.to_string();
        require(pinned <= Fraction::WHOLE, "host.pinned_limit", found, "a share from 0 to 1");
        let zero = self.host.rate.is_some_and(Rate::is_zero);
        require(!zero, "host.rate", "0".into(), "more than 0, or nothing");
        let behind = self.host.devices_per_link;
        let found = behind.unwrap_or_default().to_string();
        require(behind != Some(0), "host.devices_per_link", found, "at least 1, or nothing");
        let jitter = self.jitter;
        let found = jitter.to_string();
        require(jitter < Fraction::WHOLE, "jitter", found, "a share below 1");
        let both = [("contention", self.contention), ("copy_contention", self.copy_contention)];
        for (name, slowdown) in both {
            let small = slowdown <= Fraction::from_ppm(10_000_000);
            require(small, name, slowdown.to_string(), "a slowdown from 0 to 10");
        }
        let power = self.alignment.is_power_of_two() && self.alignment <= 1 << 30;
        let found = self.alignment.to_string();
        require(power, "alignment", found, "a power of two, at most 2^30");
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(points: &[(u64, u64)]) -> Link {
        let points = points.iter().map(|&(s, t)| (Bytes::new(s), Nanos::new(t))).collect();
        Link { rate: Rate::new(1_000_000_000), latency: Nanos::new(10), points }
    }

    #[test]
    fn a_copy_costs_latency_and_bytes() {
        assert_eq!(link(&[]).time_for(Bytes::new(100)), Nanos::new(110));
        assert_eq!(link(&[]).time_for(Bytes::ZERO), Nanos::ZERO);
    }

    #[test]
    fn a_measured_curve_beats_the_rate_between_its_ends() {
        let curve = link(&[(100, 50), (200, 100)]);
        assert_eq!(curve.time_for(Bytes::new(100)), Nanos::new(50));
        assert_eq!(curve.time_for(Bytes::new(151)), Nanos::new(76));
        assert_eq!(curve.time_for(Bytes::new(50)), Nanos::new(60), "below the curve: rate");
        assert_eq!(curve.time_for(Bytes::new(300)), Nanos::new(310), "above the curve: rate");
    }
}
