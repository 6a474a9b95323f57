//! Turns buffers, streams and a gate into samples of copies, reads and products.

use std::rc::Rc;

use super::super::blas::{Blas, Shape};
use super::super::clock;
use super::super::gpu::{Gpu, Outcome};
use super::super::kernels::{Gate, Kernels};
use super::super::memory::{Device, DeviceMemory, PinnedMemory};
use super::super::stream::{Event, Priority, Stream};
use super::{Curve, Effort, Point, ProductRate, Sample, per_second, rate};
use crate::error::Result;
use crate::model::Dtype;
use crate::units::{Bytes, FlopRate, Fraction, Nanos, Rate};

/// Which way a copy goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    ToDevice,
    ToHost,
}

/// Buffers, streams and events. Dropped in this order: streams are waited for before.
pub(super) struct Bench<'a> {
    pub gpu: &'a Rc<Gpu>,
    effort: Effort,
    pub free: Bytes,
    largest: u64,
    streams: [Stream; 2],
    events: [Event; 4],
    gate: Gate,
    kernels: Kernels,
    device: [DeviceMemory; 2],
    pinned: [PinnedMemory; 2],
}

/// Copies queued behind a gate at a time; fewer of the largest.
const BATCH: u64 = 16;
const BATCH_BYTES: u64 = 2 << 30;

impl<'a> Bench<'a> {
    pub fn new(gpu: &'a Rc<Gpu>, effort: Effort) -> Result<Self> {
        let (free, _) = gpu.memory_now()?;
        let most = effort.sizes.iter().copied().max().unwrap_or(1 << 20);
        let largest = most.min(free.get() / 4).max(4 << 10);
        let kernels = Kernels::new(gpu)?;
        let pinned = || PinnedMemory::new(gpu, largest, false, false);
        Ok(Self {
            gpu,
            effort,
            free,
            largest,
            streams: [Stream::new(gpu, Priority::Greatest)?, Stream::new(gpu, Priority::Greatest)?],
            events: [
                Event::new(gpu, true)?,
                Event::new(gpu, true)?,
                Event::new(gpu, true)?,
                Event::new(gpu, true)?,
            ],
            gate: Gate::new(gpu)?,
            kernels,
            device: [DeviceMemory::new(gpu, largest)?, DeviceMemory::new(gpu, largest)?],
            pinned: [pinned()?, pinned()?],
        })
    }

    /// Bytes of each buffer.
    pub fn largest(&self) -> u64 {
        self.largest
    }

    /// Where copies to the device go.
    pub fn target(&self) -> Device {
        self.device[0].start()
    }

    fn sizes(&self) -> impl Iterator<Item = u64> + use<'_> {
        let sizes = self.effort.sizes.iter().copied();
        sizes.filter(|&size| size <= self.largest)
    }

    /// One copy between the n-th buffers.
    #[expect(unsafe_code, reason = "copies between buffers that this struct owns")]
    fn copy(&self, n: usize, direction: Direction, bytes: u64, stream: &Stream) -> Outcome<()> {
        let length = usize::try_from(bytes).unwrap_or(usize::MAX);
        let (host, device) = (self.pinned[n].address(), self.device[n].start());
        // SAFETY: both buffers hold `largest` bytes, are used by this stream only, and every measurement ends with
        // a wait for all streams.
        unsafe {
            match direction {
                Direction::ToDevice => stream.to_device(device, host, length),
                Direction::ToHost => stream.to_host(host, device, length),
            }
        }
    }

    /// Measures what `issue` queues on the first stream, so many times over.
    pub fn measure(&self, count: u64, issue: &dyn Fn(&Stream) -> Result<()>) -> Result<Sample> {
        // Code is loaded at its first launch, which must not wait behind the gate.
        issue(&self.streams[0])?;
        self.streams[0].synchronise()?;
        let times = self.gated(&|streams| {
            let [stream, _] = streams;
            stream.record(&self.events[0])?;
            for _ in 0..count {
                issue(stream)?;
            }
            Ok(stream.record(&self.events[1])?)
        })?;
        let each = times.into_iter().map(|(first, _)| Nanos::new(first / count.max(1)));
        Ok(Sample::of(each.collect()))
    }

    /// Runs samples behind the gate; gives the times between the first two events, and between the others.
    fn gated(&self, issue: &dyn Fn(&[Stream; 2]) -> Result<()>) -> Result<Vec<(u64, u64)>> {
        let mut times = Vec::new();
        for n in 0..=self.effort.samples {
            self.gate.reset();
            let [first, second] = &self.streams;
            self.kernels.close(first, &self.gate)?;
            first.record(&self.events[3])?;
            second.wait(&self.events[3])?;
            let issued = issue(&self.streams);
            self.gate.open();
            let ended = [first.synchronise(), second.synchronise()];
            issued?;
            ended.into_iter().collect::<Outcome<()>>()?;
            let (one, _) = clock::between(&self.events[0], &self.events[1])?;
            let (two, _) = clock::between(&self.events[3], &self.events[2]).unwrap_or((0, 0));
            // The first is the warm-up.
            if n > 0 {
                times.push((one, two));
            }
        }
        Ok(times)
    }

    pub fn batch(&self, bytes: u64) -> u64 {
        (BATCH_BYTES / bytes.max(1)).clamp(2, BATCH)
    }

    pub fn curve(&self, direction: Direction) -> Result<Curve> {
        let mut points = Vec::new();
        for size in self.sizes() {
            let one = |stream: &Stream| Ok(self.copy(0, direction, size, stream)?);
            points.push(Point::of(size, self.measure(self.batch(size), &one)?));
        }
        Ok(Curve::fit(points))
    }

    /// Copies from ordinary memory hold the host, so they are timed by its clock, one by one.
    #[expect(unsafe_code, reason = "copies between buffers that are waited for before they go")]
    pub fn pageable(&self) -> Result<Curve> {
        let length = usize::try_from(self.largest.min(256 << 20)).unwrap_or(0);
        let host = vec![1u8; length];
        let stream = &self.streams[0];
        let mut points = Vec::new();
        for size in self.sizes().filter(|&size| size <= length as u64) {
            let bytes = usize::try_from(size).unwrap_or(0);
            let mut times = Vec::new();
            for n in 0..=self.effort.samples {
                stream.record(&self.events[0])?;
                // SAFETY: `host` holds at least so many bytes and lives beyond the wait below.
                unsafe { stream.to_device(self.device[0].start(), host.as_ptr(), bytes)? };
                stream.record(&self.events[1])?;
                stream.synchronise()?;
                let (time, _) = clock::between(&self.events[0], &self.events[1])?;
                if n > 0 {
                    times.push(Nanos::new(time));
                }
            }
            points.push(Point::of(size, Sample::of(times)));
        }
        Ok(Curve::fit(points))
    }

    #[expect(unsafe_code, reason = "copies between buffers that are waited for before they go")]
    pub fn write_combined(&self) -> Result<Rate> {
        let bytes = self.largest.min(256 << 20);
        let length = usize::try_from(bytes).unwrap_or(0);
        let host = PinnedMemory::new(self.gpu, bytes, false, true)?;
        let one = |stream: &Stream| {
            // SAFETY: both ends hold so many bytes; `measure` waits for the stream.
            unsafe { stream.to_device(self.device[0].start(), host.address(), length)? };
            Ok(())
        };
        Ok(rate(bytes, self.measure(self.batch(bytes), &one)?.time))
    }

    /// Rates to the device and to the host while both run.
    pub fn both(&self) -> Result<(Rate, Rate)> {
        let bytes = self.largest.min(256 << 20);
        let count = self.batch(bytes);
        let times = self.gated(&|[up, down]| {
            up.record(&self.events[0])?;
            for _ in 0..count {
                self.copy(0, Direction::ToDevice, bytes, up)?;
                self.copy(1, Direction::ToHost, bytes, down)?;
            }
            up.record(&self.events[1])?;
            Ok(down.record(&self.events[2])?)
        })?;
        let up = Sample::of(times.iter().map(|&(up, _)| Nanos::new(up)).collect());
        let down = Sample::of(times.iter().map(|&(_, down)| Nanos::new(down)).collect());
        Ok((rate(bytes * count, up.time), rate(bytes * count, down.time)))
    }

    pub fn two_streams(&self) -> Result<Rate> {
        let bytes = self.largest.min(64 << 20);
        let count = self.batch(bytes);
        let times = self.gated(&|[one, other]| {
            one.record(&self.events[0])?;
            for _ in 0..count {
                self.copy(0, Direction::ToDevice, bytes, one)?;
                self.copy(1, Direction::ToDevice, bytes, other)?;
            }
            other.record(&self.events[2])?;
            one.wait(&self.events[2])?;
            Ok(one.record(&self.events[1])?)
        })?;
        let time = Sample::of(times.iter().map(|&(all, _)| Nanos::new(all)).collect());
        Ok(rate(2 * bytes * count, time.time))
    }

    /// A kernel that reads every byte of a large buffer.
    pub fn read(&self) -> Result<Rate> {
        let data = self.device[0].start();
        let one = |stream: &Stream| Ok(self.kernels.touch(stream, data, self.largest)?);
        Ok(rate(self.largest, self.measure(4, &one)?.time))
    }

    pub fn products(&self, blas: &Rc<Blas>) -> Result<Vec<ProductRate>> {
        let mut found = Vec::new();
        for dtype in [Dtype::Bf16, Dtype::F16, Dtype::F8E4M3] {
            for (out, inner, tokens) in SIZES {
                let shape = Shape { dtype, out, inner, tokens, alignment: 256 };
                let Some(product) = blas.product(shape) else { continue };
                let weights = dtype.bytes_for(out * inner).unwrap_or(0);
                let (activations, result) = shape.bytes();
                if weights + activations > self.largest || result > self.largest {
                    continue;
                }
                let a = self.device[0].start();
                let (b, c) = (a.plus(weights.next_multiple_of(256)), self.device[1].start());
                if weights.next_multiple_of(256) + activations > self.largest {
                    continue;
                }
                let one = |stream: &Stream| product.run(stream, a, b, c);
                let sample = self.measure(8, &one)?;
                found.push(ProductRate {
                    dtype,
                    size: (out, inner, tokens),
                    rate: FlopRate::new(per_second(shape.flops(), sample.time)),
                    spread: sample.spread,
                });
            }
        }
        Ok(found)
    }

    /// How much compute and copies slow each other down, each long enough to cover the other.
    pub fn contention(
        &self,
        blas: Option<&Rc<Blas>>,
    ) -> Result<(Fraction, Fraction, &'static str)> {
        let (out, inner, tokens) = SIZES[1];
        let shape = Shape { dtype: Dtype::Bf16, out, inner, tokens, alignment: 256 };
        let (activations, result) = shape.bytes();
        let weights = Dtype::Bf16.bytes_for(out * inner).unwrap_or(u64::MAX);
        // Copies go to the first buffers, products use the second: the halves of it.
        let half = (self.largest / 2) & !255;
        let fits = weights.saturating_add(activations) <= half && result <= half;
        let product = blas.filter(|_| fits).and_then(|blas| blas.product(shape));
        let data = self.device[1].start();
        let compute = |stream: &Stream| -> Result<()> {
            match &product {
                Some(product) => {
                    let b = data.plus(weights.next_multiple_of(256));
                    product.run(stream, data, b, data.plus(half))
                }
                None => Ok(self.kernels.touch(stream, data, self.largest)?),
            }
        };
        let bytes = self.largest.min(64 << 20);
        let alone = self.measure(BATCH, &compute)?.time;
        let copy = |stream: &Stream| Ok(self.copy(0, Direction::ToDevice, bytes, stream)?);
        let copied = self.measure(BATCH, &copy)?.time;
        // Compute for as long as eight copies take, with twice as many copies beside it; then the other way round.
        let enough =
            |long: Nanos, short: Nanos| (8 * long.get() / short.get().max(1)).clamp(1, 512);
        let computes = enough(copied, alone);
        let beside = self.beside(computes, &compute, 16, &copy)?;
        let compute_slowdown = slowdown(beside / computes.max(1), alone);
        let copies = 8;
        let beside = self.beside(copies, &copy, 2 * computes + 2, &compute)?;
        let copy_slowdown = slowdown(beside / copies, copied);
        let what = if product.is_some() { "products" } else { "reads of device memory" };
        Ok((compute_slowdown, copy_slowdown, what))
    }

    /// The time of `count` operations while others run on the other stream.
    fn beside(
        &self,
        count: u64,
        issue: &dyn Fn(&Stream) -> Result<()>,
        others: u64,
        other: &dyn Fn(&Stream) -> Result<()>,
    ) -> Result<u64> {
        let times = self.gated(&|[one, beside]| {
            for _ in 0..others {
                other(beside)?;
            }
            one.record(&self.events[0])?;
            for _ in 0..count {
                issue(one)?;
            }
            Ok(one.record(&self.events[1])?)
        })?;
        let times = times.into_iter().map(|(time, _)| Nanos::new(time)).collect();
        Ok(Sample::of(times).time.get())
    }
}

/// Sizes of products: one that reaches the peak, and those of a diffusion transformer's blocks.
const SIZES: [(u64, u64, u64); 3] =
    [(8_192, 8_192, 8_192), (3_072, 3_072, 4_096), (12_288, 3_072, 4_096)];

/// How much longer than alone; zero where it was not.
fn slowdown(beside: u64, alone: Nanos) -> Fraction {
    Fraction::of(beside.saturating_sub(alone.get()), alone.get().max(1))
}
