//! Turns this machine's GPU into a device spec: what copies, memory and products really reach here.
//!
//! The method is nvbandwidth's: everything that is measured is queued behind a kernel that waits for the host, so that
//! the host's time to issue is not part of it; a warm-up, then several samples, of which the median counts and the
//! spread is stated. Copies of one size run back to back, as they do on a copy lane; their times over all sizes are
//! fitted as `latency + bytes ÷ rate`.

mod bench;
mod curve;
mod numa;
mod spec;

use std::rc::Rc;

use cudarc::driver::sys::CUdevice_attribute as Attribute;

use self::bench::{Bench, Direction};
use super::blas::Blas;
use super::gpu::Gpu;
use crate::error::{Error, Result};
use crate::model::Dtype;
use crate::units::{Bytes, FlopRate, Fraction, Nanos, Rate};

pub use curve::{Curve, Point};
pub use numa::{Node, NodeRate};
pub use spec::{Host, estimated_peak};

/// How much is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Effort {
    /// Sizes of copies.
    sizes: &'static [u64],
    /// Samples of each, after a warm-up.
    samples: u32,
}

impl Effort {
    /// Under ten seconds.
    pub const QUICK: Self =
        Self { sizes: &[4 << 10, 64 << 10, 1 << 20, 16 << 20, 128 << 20], samples: 3 };

    /// Under a minute.
    pub const FULL: Self = Self {
        sizes: &[
            4 << 10,
            16 << 10,
            64 << 10,
            256 << 10,
            1 << 20,
            4 << 20,
            16 << 20,
            64 << 20,
            256 << 20,
            1 << 30,
        ],
        samples: 7,
    };
}

/// A measured value: the median of its samples, and how far they lie apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// The median.
    pub time: Nanos,
    /// Largest minus smallest, as a share of the median.
    pub spread: Fraction,
}

impl Sample {
    fn of(mut times: Vec<Nanos>) -> Self {
        times.sort_unstable();
        let median = super::median(times.clone());
        let range = match (times.first(), times.last()) {
            (Some(least), Some(most)) => most.saturating_sub(*least),
            _ => Nanos::ZERO,
        };
        Self { time: median, spread: Fraction::of(range.get(), median.get().max(1)) }
    }
}

/// The rate of so many bytes in that time.
pub fn rate(bytes: u64, time: Nanos) -> Rate {
    Rate::new(per_second(bytes, time))
}

fn per_second(count: u64, time: Nanos) -> u64 {
    let exact = u128::from(count) * 1_000_000_000 / u128::from(time.get().max(1));
    u64::try_from(exact).unwrap_or(u64::MAX)
}

/// A matrix product that was measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProductRate {
    /// Element type of the weights.
    pub dtype: Dtype,
    /// Rows and columns of the weights, columns of the activations.
    pub size: (u64, u64, u64),
    /// Operations per second.
    pub rate: FlopRate,
    /// How far the samples lie apart.
    pub spread: Fraction,
}

/// Everything that was found out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Findings {
    /// The device's name.
    pub name: String,
    /// Whether it is the tests' stand-in, and nothing here was measured.
    pub stand_in: bool,
    /// The newest version of CUDA that the driver supports.
    pub driver: String,
    /// All memory, and what is free of it.
    pub memory: (Bytes, Bytes),
    /// Where it is on the bus.
    pub pci_id: Option<String>,
    /// Copy engines that the driver states.
    pub engines: u64,
    /// Pinned host memory to the device, the device to pinned, pageable to the device.
    pub h2d: Curve,
    /// See `h2d`.
    pub d2h: Curve,
    /// See `h2d`.
    pub pageable: Curve,
    /// The largest copy from write-combined memory, against `h2d`.
    pub write_combined: Rate,
    /// The largest copies of both directions at once.
    pub both: (Rate, Rate),
    /// Two streams of copies to the device at once, together.
    pub two_streams: Rate,
    /// Copies from each NUMA node's memory, where the host has several.
    pub nodes: Vec<NodeRate>,
    /// Reads of device memory by a kernel.
    pub read: Rate,
    /// Slowdown of compute while a copy runs.
    pub compute_slowdown: Fraction,
    /// Slowdown of copies to the device while compute runs.
    pub copy_slowdown: Fraction,
    /// What stood for compute in these two.
    pub compute: &'static str,
    /// Products, largest first; none where cuBLASLt is missing.
    pub products: Vec<ProductRate>,
    /// Which cuBLASLt was used, or why none.
    pub blas: std::result::Result<String, String>,
    /// Capability, multiprocessors and clock, for an estimate where products cannot be measured.
    pub cores: Cores,
}

/// What the driver says about the device's cores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cores {
    /// Compute capability, major and minor.
    pub capability: (u64, u64),
    /// Multiprocessors.
    pub count: u64,
    /// Their clock, kHz.
    pub clock: u64,
}

/// Measures a GPU. Memory that others use is left to them: buffers take a quarter of what is free, at most a gibibyte.
/// `nodes` are the host's NUMA nodes.
pub fn probe(gpu: &Rc<Gpu>, effort: Effort, nodes: &[Node]) -> Result<Findings> {
    let bench = Bench::new(gpu, effort)?;
    let h2d = bench.curve(Direction::ToDevice)?;
    let d2h = bench.curve(Direction::ToHost)?;
    let pageable = bench.pageable()?;
    let (both, two_streams) = (bench.both()?, bench.two_streams()?);
    let read = bench.read()?;
    let blas = Blas::open(gpu)?;
    let (products, blas) = match blas {
        Ok(blas) => {
            let name = blas.name.to_owned();
            let blas = Rc::new(blas);
            (bench.products(&blas)?, Ok((name, blas)))
        }
        Err(missing) => (Vec::new(), Err(missing)),
    };
    let with = blas.as_ref().ok().map(|(_, blas)| blas);
    let (compute_slowdown, copy_slowdown, compute) = bench.contention(with)?;
    let attribute = |which| gpu.attribute(which);
    Ok(Findings {
        name: gpu.name().to_owned(),
        stand_in: gpu.is_stand_in(),
        driver: gpu.driver_version(),
        memory: (gpu.total_memory()?, bench.free),
        pci_id: gpu.pci_id(),
        engines: attribute(Attribute::CU_DEVICE_ATTRIBUTE_ASYNC_ENGINE_COUNT),
        write_combined: bench.write_combined()?,
        nodes: bench.nodes(nodes)?,
        h2d,
        d2h,
        pageable,
        both,
        two_streams,
        read,
        compute_slowdown,
        copy_slowdown,
        compute,
        products,
        blas: blas.map(|(name, _)| name),
        cores: Cores {
            capability: (
                attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR),
                attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR),
            ),
            count: attribute(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT),
            clock: attribute(Attribute::CU_DEVICE_ATTRIBUTE_CLOCK_RATE),
        },
    })
}

impl Findings {
    /// Refuses a measurement that cannot be right.
    pub fn check(&self) -> Result<()> {
        if self.h2d.rate.is_zero() || self.d2h.rate.is_zero() {
            return Err(Error::Run("copies took no time; the driver's events are broken".into()));
        }
        Ok(())
    }
}
