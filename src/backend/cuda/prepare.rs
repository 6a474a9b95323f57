//! Turns a program into everything that a run needs and makes once: slab, arenas, compute, digests.

use std::rc::Rc;

use super::arena::{Arena, Making};
use super::blas::Blas;
use super::compute::{Compute, Use};
use super::disk::Staging;
use super::executor::Prepared;
use super::gemm::Gemm;
use super::gpu::Gpu;
use super::kernels::Kernels;
use super::memory::DeviceMemory;
use super::stream::{Priority, Stream};
use super::verify::{Verifier, Verify};
use super::{Choice, Cuda, Work, clock, driver, locked, repeat};
use crate::error::{Error, Result};
use crate::program::image::ComponentImage;
use crate::program::{Phase, Program};
use crate::units::Bytes;

/// What was made before the first pass. Dropped in this order: what uses memory before the memory.
pub(super) struct Made<'p> {
    pub program: &'p Program,
    pub compute: Vec<Compute>,
    verifiers: Vec<Option<Verifier>>,
    pub arenas: Vec<Arena>,
    /// The rings that pieces from disk come through.
    pub staging: Option<Staging>,
    kernels: Kernels,
    slab: DeviceMemory,
}

impl Made<'_> {
    pub fn prepared<'r>(
        &'r self,
        gpu: &'r Rc<Gpu>,
        (n, phase, image): (usize, &'r Phase, &'r ComponentImage),
    ) -> Prepared<'r> {
        Prepared {
            gpu,
            kernels: &self.kernels,
            phase,
            image,
            arena: &self.arenas[phase.of],
            slab: self.slab.start(),
            compute: &self.compute[n],
            verifier: self.verifiers[n].as_ref(),
            repeat: None,
        }
    }

    /// Forgets what lies in the slab: bytes of an earlier run there would pass for copies that came.
    pub fn wipe(&self, gpu: &Rc<Gpu>) -> Result<()> {
        wipe(gpu, &self.slab, self.program.slab)
    }
}

/// Fills the slab with what is no weight.
fn wipe(gpu: &Rc<Gpu>, slab: &DeviceMemory, bytes: Bytes) -> Result<()> {
    let stream = Stream::new(gpu, Priority::Least)?;
    let bytes = usize::try_from(bytes.get().max(1)).unwrap_or(usize::MAX);
    stream.fill(slab.start(), 0xFF, bytes)?;
    Ok(stream.synchronise()?)
}

impl Cuda<'_> {
    /// Everything that is allocated before the first pass.
    pub(super) fn prepare<'p>(&self, program: &'p Program) -> Result<Made<'p>> {
        let kernels = Kernels::new(&self.gpu)?;
        let before = self.in_use()?;
        let slab = self.slab(program)?;
        let start = clock::host_now();
        let (write_combined, host_memory) = self.kind_of_memory(program, &slab)?;
        let digests = self.options.verify != Verify::No;
        let making = Making { digests, write_combined };
        let arena = |image| Arena::new(&self.gpu, image, self.weights, making);
        let arenas = self.images.iter().map(arena).collect::<Result<Vec<_>>>()?;
        let staging = Staging::new(&self.gpu, program)?;
        let fill = clock::since(start);
        let (verifiers, digest_bytes) = self.verifiers(program)?;
        let (compute, why) = self.compute(program)?;
        let extra = digest_bytes + compute.iter().map(Compute::bytes).sum::<u64>();
        self.check_reserve(Bytes::new(extra))?;
        let mut measured = self.measured.borrow_mut();
        measured.driver = self.gpu.driver_version();
        measured.compute = why;
        measured.sample = self.options.sample;
        measured.fill = fill;
        measured.host_memory = host_memory;
        let rings = staging.iter().map(Staging::locked);
        measured.locked = arenas.iter().map(|arena| arena.locked).chain(rings).sum();
        measured.allocated = program.slab.saturating_add(Bytes::new(extra));
        measured.driver_before = before;
        measured.driver_peak = self.in_use()?;
        drop(measured);
        Ok(Made { program, kernels, slab, arenas, staging, verifiers, compute })
    }

    /// Whether page-locked memory is write-combined, and what the profile says about it.
    fn kind_of_memory(&self, program: &Program, slab: &DeviceMemory) -> Result<(bool, String)> {
        let blocks = self.images.iter().flat_map(|image| &image.blocks);
        let pieces = blocks.flat_map(|block| &block.pieces);
        let largest = pieces.map(|piece| piece.bytes()).max().unwrap_or_default();
        let largest = largest.min(program.slab.get());
        locked::choose(&self.gpu, self.options.write_combined, slab, largest)
    }

    /// Room for digests, where they are wanted, and its bytes on the device.
    fn verifiers(&self, program: &Program) -> Result<(Vec<Option<Verifier>>, u64)> {
        let mut verifiers = Vec::with_capacity(self.images.len());
        let mut bytes = 0;
        for (phase, image) in self.phases(program) {
            if self.options.verify == Verify::No {
                verifiers.push(None);
                continue;
            }
            // Two launches of a graph may be in flight.
            let graphs = self.options.graph != Choice::Off;
            let length = repeat::length(phase, image, self.options.sample).ok();
            let launched = length.filter(|_| graphs).map_or(0, |length| 2 * length);
            let rows = self.settings().in_flight.saturating_add(launched);
            bytes += Verifier::device_bytes(image, rows);
            verifiers.push(Some(Verifier::new(&self.gpu, image, rows)?));
        }
        Ok((verifiers, bytes))
    }

    /// The one allocation for weights, filled with what is no weight.
    fn slab(&self, program: &Program) -> Result<DeviceMemory> {
        let slab = DeviceMemory::new(&self.gpu, program.slab.get()).map_err(|failure| {
            let now = self.gpu.memory_now();
            let free = now.map_or_else(|_| "?".to_owned(), |(free, _)| free.human());
            let what = if failure.is_out_of_memory() { "does not fit" } else { "was refused" };
            let slab = program.slab.human();
            Error::Run(format!("the slab of {slab} {what}, {free} are free now: {failure}"))
        })?;
        wipe(&self.gpu, &slab, program.slab)?;
        Ok(slab)
    }

    /// What stands for compute, per phase, and what the profile says about it.
    fn compute(&self, program: &Program) -> Result<(Vec<Compute>, String)> {
        let all = |make: fn() -> Compute| program.phases.iter().map(|_| make()).collect();
        let spin = |why: &str| (all(|| Compute::Spin), format!("spin{why}"));
        match self.options.work {
            Work::Spin => return Ok(spin("")),
            Work::Touch => return Ok((all(|| Compute::Touch), "touch".to_owned())),
            Work::Best | Work::Gemm => {}
        }
        let forced = self.options.work == Work::Gemm;
        let tensors = |image: &ComponentImage| {
            let mut tensors = image.blocks.iter().flat_map(|block| &block.tensors);
            tensors.any(|tensor| tensor.tokens > 0)
        };
        let missing = match self.images.iter().all(tensors) {
            false => "the plan names no tensors; give --model".to_owned(),
            true => match Blas::open(&self.gpu)? {
                Ok(blas) => return self.products(program, blas),
                Err(missing) => format!("no cuBLASLt: {missing}"),
            },
        };
        match forced {
            true => Err(driver::unavailable(format!("--compute gemm: {missing}"))),
            false => Ok(spin(&format!(" ({missing})"))),
        }
    }

    fn products(&self, program: &Program, blas: Blas) -> Result<(Vec<Compute>, String)> {
        let name = blas.name;
        let blas = Rc::new(blas);
        let mut computes = Vec::new();
        let mut flops = 0u64;
        for (phase, image) in self.phases(program) {
            let gemm = Gemm::new(&self.gpu, &blas, phase, image)?;
            flops = flops.saturating_add(gemm.flops);
            computes.push(Compute::Gemm(Box::new(gemm)));
        }
        Ok((computes, format!("gemm ({name}, {flops} operations per pass)")))
    }

    /// Uses every block once where nothing counts: libraries load their code at its first launch.
    pub(super) fn warm_up(&self, made: &Made<'_>) -> Result<()> {
        let stream = Stream::new(&self.gpu, Priority::Least)?;
        for (n, phase) in made.program.phases.iter().enumerate() {
            let prepared = made.prepared(&self.gpu, (n, phase, &self.images[phase.of]));
            if let Compute::Gemm(gemm) = &made.compute[n] {
                for block in 0..phase.blocks.len() {
                    gemm.issue(Use { with: &prepared, stream: &stream, block, pass: 0 })?;
                }
            }
        }
        Ok(stream.synchronise()?)
    }
}
