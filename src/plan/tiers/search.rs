//! Turns a component, a VRAM budget and a host budget into the best plan over all tiers, by exact evaluation.
//!
//! Candidates are the planner's choices of what streams, each with rings of several sizes and with pageable memory
//! used or not. A candidate's busiest lane is a floor for its pass; those that could still win are laid out and
//! evaluated on their whole schedule, reads included. The best has the shortest pass, then the fewest bytes from disk,
//! then the fewest copied, then the smallest ring.

use super::allocator::PAGE;
use super::shares::{self, Homes, Room};
use super::stage;
use super::{Allocator, HostBudget};
use crate::device::Link;
use crate::error::{Error, Infeasible, Memory, Result};
use crate::plan::choice::Evaluated;
use crate::plan::instance::{BlockPart, Instance};
use crate::plan::layout::{self, ComponentInput};
use crate::plan::planner::{self, FEW_PASSES, Gaps};
use crate::plan::schedule::Schedule;
use crate::plan::spec::{ComponentPlan, Granularity, HostMemory};
use crate::plan::timing;
use crate::units::{Bytes, Nanos};

/// Sizes of the ring that are tried, each twice the one before.
const RINGS: u32 = 12;

/// A ring is not so small that the model would take more chunks than this.
const MOST_CHUNKS: u64 = 2_048;

/// A ring holds about so many chunks; one that cannot holds fewer.
const CHUNKS: u64 = 4;

/// A read takes at least so many times its latency (theory, section 4: pieces of at least 10 · latency · rate).
const LEAST_READ: u64 = 10;

/// Choices times rings times uses that are divided among the tiers.
const MOST_WORK: usize = 1_000_000;

/// What candidates are compared by.
type Key = (Nanos, Bytes, Bytes, Bytes);

/// Plans an instance alone on a host: no root, no reserve, 20 passes. For examples and tests.
pub fn plan_on_host(
    instance: &Instance,
    granularity: Granularity,
    host: &HostBudget,
) -> Result<ComponentPlan> {
    ComponentInput { host: Some(*host), ..ComponentInput::alone(instance) }.plan(granularity)
}

impl ComponentInput {
    /// The plan that is found best on a host that holds so much. Infeasible where VRAM is too small for one block or the
    /// host for one chunk; fails where the disk is needed and the device spec says nothing of it.
    pub(in crate::plan) fn plan_on(
        &self,
        granularity: Granularity,
        host: &HostBudget,
    ) -> Result<ComponentPlan> {
        if let Some(plan) = self.plan_all_pinned(granularity, host)? {
            return Ok(plan);
        }
        let Some(disk) = &self.instance.device.disk else {
            return Err(self.needs_disk(host));
        };
        let mut candidates = planner::candidates(&self.instance, granularity);
        if candidates.is_empty() {
            return Err(Error::Infeasible(self.infeasible(self.smallest(), self.weights())));
        }
        candidates.sort_by_key(Evaluated::key);
        candidates.dedup();
        let search = Search::new(self, granularity, host, disk);
        let best = search.best(&candidates)?;
        let mut plan = best.ok_or_else(|| Error::Infeasible(search.infeasible()))?;
        plan.foresee(&self.instance.device, self.reserve)?;
        plan.bound = self.bounds().against(plan.prediction.pass);
        Ok(plan)
    }

    /// The plan where the host can pin the whole component.
    fn plan_all_pinned(
        &self,
        granularity: Granularity,
        host: &HostBudget,
    ) -> Result<Option<ComponentPlan>> {
        let all: Bytes = (0..self.instance.uses.len()).map(|n| self.instance.aligned(n)).sum();
        let alignment = self.instance.device.alignment;
        let all = all.saturating_add(self.root.align_up(alignment));
        let limit = host.bytes.min(host.lockable);
        if Allocator::Pages.locked(all) > limit {
            return Ok(None);
        }
        let mut plan = self.plan_in_vram(granularity)?;
        let used = stage::used_of(&plan, alignment, host.bytes, Bytes::ZERO);
        plan.host = Some(used);
        Ok(Some(plan).filter(|_| used.locked <= limit))
    }

    fn needs_disk(&self, host: &HostBudget) -> Error {
        let blocks: Bytes = self.instance.uses.iter().map(|used| used.bytes).sum();
        let all = blocks.saturating_add(self.root);
        let (lockable, given) = (host.lockable.human(), host.bytes.human());
        Error::Usage {
            message: format!(
                "{} has {} of weights, and the host holds {given} of which {lockable} may be \
                 locked: the rest comes from disk, at a rate that is not known",
                self.name,
                all.human()
            ),
            hint: Some(
                "give --disk RATE, such as 3GB/s, or disk: {rate, latency} in the device spec"
                    .into(),
            ),
        }
    }
}

struct Search<'a> {
    input: &'a ComponentInput,
    host: &'a HostBudget,
    disk: &'a Link,
    /// By use: the time from its end to that of the next, in the bound's best chain of windows over all tiers.
    gaps: Vec<u64>,
    /// Whether blocks are whole in one home.
    whole: bool,
    /// The smallest ring that any part of the component fits.
    need: u64,
}

/// A candidate with its homes.
struct Candidate<'a> {
    found: &'a Evaluated,
    homes: Homes,
    ring: u64,
    /// The time of its busiest lane over the passes compared, the bytes from disk and those that stream: it takes no
    /// less.
    least: (Nanos, Bytes, Bytes),
}

impl<'a> Search<'a> {
    fn new(
        input: &'a ComponentInput,
        granularity: Granularity,
        host: &'a HostBudget,
        disk: &'a Link,
    ) -> Self {
        let instance = &input.instance;
        let gaps = Gaps::on(instance, host.tier(&instance.device)).gaps;
        let whole = granularity == Granularity::Block;
        let alignment = instance.device.alignment.max(1);
        let of = |bytes: Bytes, parts: &[BlockPart]| finest(bytes, parts, alignment);
        let uses = instance.uses.iter().map(|used| match whole {
            true => used.bytes.align_up(alignment).get(),
            false => of(used.bytes, &used.parts),
        });
        let need = uses.max().unwrap_or(0).max(of(input.root, &input.root_parts));
        let blocks: Bytes = instance.uses.iter().map(|used| used.bytes).sum();
        let all = blocks.saturating_add(input.root).get();
        let need = need.max((all / MOST_CHUNKS).next_multiple_of(alignment));
        Self { input, host, disk, gaps, whole, need }
    }

    fn alignment(&self) -> u64 {
        self.input.instance.device.alignment.max(1)
    }

    /// What may be locked.
    fn lockable(&self) -> Bytes {
        self.host.lockable.min(self.host.bytes)
    }

    /// The largest block, or the root.
    fn largest(&self) -> u64 {
        let blocks = &self.input.instance;
        let largest = (0..blocks.uses.len()).map(|n| blocks.aligned(n)).max().unwrap_or_default();
        largest.max(self.input.root.align_up(self.alignment())).get()
    }

    fn infeasible(&self) -> Infeasible {
        let available = self.lockable();
        let locked = |ring: u64| Allocator::Pages.locked(Bytes::new(ring));
        // How small a ring can be depends on where blocks can be cut; one that holds the largest surely works.
        let needed = locked(self.largest().max(self.need));
        Infeasible {
            needed,
            available,
            shortfall: needed.saturating_sub(available),
            smallest_budget: needed,
            because: format!("the ring that {} is read through", self.input.name),
            memory: Memory::Host,
        }
    }

    /// Sizes of the ring, from the smallest.
    fn rings(&self) -> Vec<u64> {
        let latency = self.disk.latency.saturating_mul(LEAST_READ);
        let worth = self.disk.bytes_in(latency).get();
        let fits = |ring: &u64| Allocator::Pages.locked(Bytes::new(*ring)) <= self.lockable();
        // From the first on that holds chunks worth a read, if the host has room for it.
        let first = (0..=CHUNKS).rev().map(|chunks| self.need.max(worth.saturating_mul(chunks)));
        let first = first.map(|ring| ring.next_multiple_of(self.alignment())).find(fits);
        let doubled = |first: u64| (0..RINGS).map(move |n| first.saturating_mul(1 << n));
        let mut rings: Vec<u64> = first.into_iter().flat_map(doubled).take_while(fits).collect();
        // One that holds the largest block works however little can be cut.
        rings.extend(Some(self.largest()).filter(fits).filter(|ring| !rings.contains(ring)));
        rings.sort_unstable();
        rings
    }

    /// The room that a ring leaves; with pageable memory only where it adds any.
    fn room(&self, ring: u64, pageable: bool, cut: bool) -> Option<Room> {
        let locked = Allocator::Pages.locked(Bytes::new(ring));
        let left = |limit: Bytes| limit.saturating_sub(locked).get() / PAGE * PAGE;
        let pinned = left(self.lockable());
        // A page more may be locked for what is pinned than is pinned.
        let kept = if pageable { left(self.host.bytes) } else { pinned };
        if pageable && (kept <= pinned || self.input.instance.device.pageable.is_none()) {
            return None;
        }
        let alignment = self.alignment();
        let chunk = (1..=CHUNKS).rev().map(|count| ring / count).find(|&chunk| chunk >= self.need);
        let chunk = chunk.filter(|_| cut).unwrap_or(ring);
        let chunk = (chunk / alignment * alignment).max(1);
        let latency = self.disk.latency.saturating_mul(2);
        let least = self.disk.bytes_in(latency).get().max(1);
        Some(Room { pinned, kept, chunk, least, whole: self.whole })
    }

    /// Every candidate with every ring, those with the lowest floor first.
    fn candidates<'c>(&self, found: &[&'c Evaluated]) -> Vec<Candidate<'c>> {
        let largest = self.largest();
        let mut candidates = Vec::new();
        // Chunks are aligned one by one: where VRAM is just as large as the largest block, there may be no room for more
        // than one of it.
        let cuts = |ring: u64| [true, false].into_iter().filter(move |cut| *cut || ring == largest);
        let ways = |ring: u64| {
            cuts(ring).flat_map(move |cut| [false, true].map(|pageable| (ring, pageable, cut)))
        };
        for (ring, pageable, cut) in self.rings().into_iter().flat_map(ways) {
            let Some(room) = self.room(ring, pageable, cut) else { continue };
            for &found in found {
                let homes = shares::homes(&self.input.instance, found, &self.gaps, room);
                if homes.largest_read(self.alignment()) <= ring {
                    let least = self.least(&homes);
                    candidates.push(Candidate { found, homes, ring, least });
                }
            }
        }
        candidates.sort_by_key(|candidate| (candidate.least, candidate.ring));
        candidates
    }

    /// The choices that are tried with every ring: all, or where blocks are many the fastest and the smallest.
    fn tried<'c>(&self, found: &'c [Evaluated]) -> Vec<&'c Evaluated> {
        let uses = self.input.instance.uses.len().max(1);
        let most = (MOST_WORK / uses / (2 * self.rings().len().max(1))).max(2);
        let mut tried: Vec<&Evaluated> = found.iter().collect();
        if tried.len() > most {
            tried.sort_by_key(|found| found.key());
            let mut smallest = tried.split_off(most / 2);
            smallest.sort_by_key(|found| (found.streamed, found.key()));
            tried.extend(smallest.into_iter().take(most - most / 2));
        }
        tried
    }

    /// What a candidate takes at least: the time of its busiest lane, bytes from disk and bytes copied.
    fn least(&self, homes: &Homes) -> (Nanos, Bytes, Bytes) {
        let device = &self.input.instance.device;
        let compute: Nanos = self.input.instance.uses.iter().map(|used| used.compute).sum();
        let (mut copies, mut reads) = (Nanos::ZERO, Nanos::ZERO);
        let (mut streamed, mut from_disk) = (Bytes::ZERO, Bytes::ZERO);
        for (run, &from) in homes.choice.copies.iter().flatten().zip(homes.from.iter().flatten()) {
            let link = match from {
                HostMemory::Pageable => device.pageable.as_ref().unwrap_or(&device.h2d),
                HostMemory::Pinned | HostMemory::Disk => &device.h2d,
            };
            copies = copies.saturating_add(link.time_for(run.bytes()));
            streamed = streamed.saturating_add(run.bytes());
            if from == HostMemory::Disk {
                from_disk = from_disk.saturating_add(run.bytes());
                reads = reads.saturating_add(self.disk.time_for(run.bytes()));
            }
        }
        let floor = compute.max(copies).max(reads);
        (floor.saturating_mul(u64::from(self.passes())), from_disk, streamed)
    }

    fn best(&self, found: &[Evaluated]) -> Result<Option<ComponentPlan>> {
        let mut best: Option<(Key, usize)> = None;
        let candidates = self.candidates(&self.tried(found));
        for (n, candidate) in candidates.iter().enumerate() {
            let known = best.as_ref().map(|(key, _)| key.0);
            let (time, disk, streamed) = candidate.least;
            if best.as_ref().is_some_and(|(known, _)| (time, disk, streamed, Bytes::ZERO) >= *known)
            {
                break;
            }
            let Some(key) = self.evaluated(candidate, known)? else { continue };
            if best.as_ref().is_none_or(|(known, _)| key < *known) {
                best = Some((key, n));
            }
        }
        let best = best.and_then(|(_, n)| candidates.get(n));
        Ok(best.and_then(|candidate| self.laid_out(candidate, &self.placed(candidate)?)))
    }

    fn placed(&self, candidate: &Candidate) -> Option<Evaluated> {
        candidate.homes.choice.clone().evaluate(&self.input.instance)
    }

    /// The plan of a candidate, if it fits the host.
    fn laid_out(&self, candidate: &Candidate, placed: &Evaluated) -> Option<ComponentPlan> {
        let Candidate { found, homes, ring, .. } = candidate;
        let policy = if found.streamed.is_zero() { "resident" } else { "hybrid" };
        let plan = layout::lay_out(self.input, policy, placed);
        let plan = stage::stage(self.input, plan, homes, self.host, *ring)?;
        let fits = plan
            .host
            .is_some_and(|used| used.bytes() <= self.host.bytes && used.locked <= self.lockable());
        fits.then_some(plan)
    }

    /// Passes whose time is compared: all of a few, else one steady one.
    fn passes(&self) -> u32 {
        if self.input.passes > FEW_PASSES { 1 } else { self.input.passes }
    }

    /// Lays a candidate out and computes its time; none where it does not fit, or takes longer than the best known.
    fn evaluated(&self, candidate: &Candidate, known: Option<Nanos>) -> Result<Option<Key>> {
        let Some(placed) = self.placed(candidate) else { return Ok(None) };
        // Without the disk it is no slower.
        let least = placed.pass.ceil().saturating_mul(u64::from(self.passes()));
        if known.is_some_and(|known| least > known) {
            return Ok(None);
        }
        let Some(plan) = self.laid_out(candidate, &placed) else { return Ok(None) };
        let disk = plan.host.map_or(Bytes::ZERO, |used| used.disk);
        let schedule = Schedule::of(&plan, &self.input.instance.device)?;
        let time = match self.input.passes {
            passes if passes > FEW_PASSES => timing::steady_pass(&schedule).ceil(),
            passes => timing::unroll(&schedule, passes).makespan,
        };
        let ring = Bytes::new(candidate.ring);
        Ok(Some((time, disk, schedule.bytes_per_pass(), ring)))
    }
}

/// The largest chunk that may be needed where a block is cut as finely as it can be, at aligned places.
fn finest(bytes: Bytes, parts: &[BlockPart], alignment: u64) -> u64 {
    let all = bytes.align_up(alignment).get();
    if parts.iter().map(|part| part.bytes).sum::<Bytes>() != bytes {
        return all;
    }
    let step = |part: &BlockPart| {
        let row = part.row.get().max(1);
        let aligned =
            row.saturating_mul(alignment >> row.trailing_zeros().min(alignment.trailing_zeros()));
        aligned.min(part.bytes.get())
    };
    let step = parts.iter().map(step).max().unwrap_or(0).saturating_add(alignment);
    all.min(step.saturating_mul(2).next_multiple_of(alignment))
}
