//! Turns a recipe into the plan of a component: the one builder that all policies share.

use super::flow::{Arc, Flow};
use super::place::{self, Live, Placed};
use super::recipe::{ENQUEUE, Gate, HOST_SYNC, Recipe, Stays, Sync, SyncAt, Window};
use super::stays;
use crate::figures::{Bound, Prediction};
use crate::lane::Lane;
use crate::plan::layout::ComponentInput;
use crate::plan::refs::UseRef;
use crate::plan::slice::Slice;
use crate::plan::spec::{
    BlockPlan, ComponentPlan, HostMemory, HostSync, Part, Piece, Residency, Slab, Stream,
    Window as PlanWindow,
};
use crate::plan::unit::Piece as Unit;
use crate::units::{Bytes, Nanos};

/// The plan that a recipe makes of the component's units; prediction and bound are left zero.
pub(super) fn build(
    input: &ComponentInput,
    units: &[Unit],
    name: &str,
    recipe: &Recipe,
) -> ComponentPlan {
    let flow = Flow::of(recipe, units);
    Builder::new(input, recipe, units, &flow).plan(name)
}

struct Builder<'a> {
    input: &'a ComponentInput,
    recipe: &'a Recipe,
    units: &'a [Unit],
    flow: &'a Flow,
    /// By unit: which of its tensors stay, where some do and some do not.
    parts: Vec<Option<Vec<bool>>>,
    from: HostMemory,
}

impl<'a> Builder<'a> {
    fn new(
        input: &'a ComponentInput,
        recipe: &'a Recipe,
        units: &'a [Unit],
        flow: &'a Flow,
    ) -> Self {
        let mut parts = vec![None; units.len()];
        if let Stays::Share(share) = recipe.stays {
            for arc in &flow.arcs {
                parts[arc.unit] = Some(stays::share_of(&units[arc.unit], share));
            }
        }
        // Without a rate for pageable memory its copies are taken at that of pinned memory: never slower.
        let known = input.instance.device.pageable.is_some();
        let from = if known { recipe.from } else { HostMemory::Pinned };
        Self { input, recipe, units, flow, parts, from }
    }

    fn aligned(&self, bytes: Bytes) -> Bytes {
        bytes.align_up(self.input.instance.device.alignment)
    }

    /// The bytes and tensors of a unit that stay (or that do not).
    fn part(&self, unit: usize, staying: bool) -> (Bytes, u32, Part) {
        let Some(stays) = &self.parts[unit] else {
            return (self.units[unit].bytes, self.units[unit].copies(), Part::All);
        };
        let tensors = &self.units[unit].tensors;
        if tensors.is_empty() || stays.iter().all(|&s| s == stays[0]) {
            let is_whole = stays.first() == Some(&staying);
            let bytes = if is_whole { self.units[unit].bytes } else { Bytes::ZERO };
            return (bytes, self.units[unit].copies(), Part::All);
        }
        let chosen = || tensors.iter().zip(stays).filter(|(_, s)| **s == staying).map(|(t, _)| t);
        let names = chosen().map(|tensor| Slice::whole(&tensor.name)).collect();
        let copies = u32::try_from(chosen().count()).unwrap_or(u32::MAX);
        (chosen().map(|tensor| tensor.bytes).sum(), copies, Part::Tensors(names))
    }

    fn plan(&self, name: &str) -> ComponentPlan {
        let mut arc_of: Vec<Option<usize>> = vec![None; self.units.len()];
        let arcs = self.flow.arcs.iter().copied();
        let streamed: Vec<Arc> =
            arcs.filter(|arc| !self.part(arc.unit, false).0.is_zero()).collect();
        streamed.iter().enumerate().for_each(|(n, arc)| arc_of[arc.unit] = Some(n));
        let placed = self.place(&streamed);
        let mut resident = 0u64;
        let mut offsets = vec![0u64; self.units.len()];
        for (n, unit) in self.units.iter().enumerate() {
            let bytes = match (arc_of[n], &self.parts[n]) {
                (None, _) => unit.bytes,
                (Some(_), Some(_)) => self.part(n, true).0,
                (Some(_), None) => Bytes::ZERO,
            };
            offsets[n] = resident;
            resident = resident.saturating_add(self.aligned(bytes).get());
        }
        let blocks = (0..self.units.len()).map(|n| {
            let arc = arc_of[n].map(|arc| (&streamed[arc], &placed.at[arc]));
            self.block(n, arc, offsets[n], resident)
        });
        let blocks: Vec<BlockPlan> = blocks.collect();
        let window = Bytes::new(placed.bytes);
        let resident = Bytes::new(resident);
        let bytes = resident.saturating_add(window);
        ComponentPlan {
            name: self.input.name.clone(),
            policy: name.to_owned(),
            unit: self.recipe.unit,
            reserve: None,
            passes: self.input.passes,
            turns: 1,
            skips: self.input.skips.clone(),
            window: PlanWindow { bytes: window, slots: self.slots(&streamed, placed.bytes) },
            prefetch: prefetch(&streamed),
            slab: Slab { bytes, resident, window },
            prediction: Prediction::default(),
            skipped: None,
            margins: None,
            host: None,
            bound: Bound::default(),
            host_syncs: self.syncs(&streamed),
            blocks,
        }
    }

    /// Offsets from the start of the window.
    fn place(&self, streamed: &[Arc]) -> Placed {
        let live = |arc: &Arc| Live::of(arc, self.aligned(self.part(arc.unit, false).0).get());
        let lives: Vec<Live> = streamed.iter().map(live).collect();
        let rings = (0..self.flow.rings.len())
            .map(|ring| (0..lives.len()).filter(|&n| streamed[n].ring == ring).collect());
        let groups: Vec<(Vec<usize>, usize)> = match self.recipe.window {
            Window::Fitted => return place::fitted(&lives, super::flow::signed(self.units.len())),
            Window::Buffers(count) => rings.map(|ring| (ring, count)).collect(),
            Window::PerPhase => {
                rings.flat_map(|ring: Vec<usize>| self.phases(streamed, &ring)).collect()
            }
        };
        let mut all = Placed { bytes: 0, at: vec![Vec::new(); lives.len()] };
        for (group, count) in groups {
            let own: Vec<Live> = group.iter().map(|&n| lives[n]).collect();
            let placed = place::buffers(&own, count);
            for (&n, at) in group.iter().zip(placed.at) {
                all.at[n] = at.into_iter().map(|at| at + all.bytes).collect();
            }
            all.bytes = all.bytes.saturating_add(placed.bytes);
        }
        all
    }

    /// The units of a ring by phase, and the buffers of each: one, or two where a phase follows itself, as in blocks
    /// that cannot be split.
    fn phases(&self, streamed: &[Arc], ring: &[usize]) -> Vec<(Vec<usize>, usize)> {
        let phase = |n: usize| self.units[streamed[n].unit].phase;
        let follows = ring.iter().zip(ring.iter().cycle().skip(1));
        let again: Vec<usize> =
            follows.filter(|(a, b)| phase(**a) == phase(**b)).map(|(&n, _)| phase(n)).collect();
        let of = |wanted: usize| {
            let own = ring.iter().copied().filter(|&n| phase(n) == wanted).collect();
            (own, if again.contains(&wanted) { 2 } else { 1 })
        };
        let phases = self.units.iter().map(|unit| unit.phase + 1).max().unwrap_or(0);
        (0..phases).map(of).collect()
    }

    /// Equal slots, where streamed units are equal.
    fn slots(&self, streamed: &[Arc], window: u64) -> u32 {
        let size = |arc: &Arc| self.aligned(self.part(arc.unit, false).0).get();
        let Some(first) = streamed.first().map(size).filter(|&size| size > 0) else { return 0 };
        let equal = streamed.iter().all(|arc| size(arc) == first) && window.is_multiple_of(first);
        if equal { u32::try_from(window / first).unwrap_or(0) } else { 0 }
    }

    fn block(
        &self,
        n: usize,
        arc: Option<(&Arc, &Vec<u64>)>,
        resident_at: u64,
        window_at: u64,
    ) -> BlockPlan {
        let unit = &self.units[n];
        let staying = |part, bytes| Piece::resident(part, bytes, resident_at);
        let mut pieces = Vec::new();
        match arc {
            None => pieces.push(staying(Part::All, unit.bytes)),
            Some((arc, at)) => {
                let (kept, _, part) = self.part(n, true);
                if self.parts[n].is_some() && !kept.is_zero() {
                    pieces.push(staying(part, kept));
                }
                let (bytes, copies, part) = self.part(n, false);
                let at = at.iter().map(|at| at + window_at).collect();
                let residency = Residency::Streamed(self.stream(arc, copies));
                pieces.push(Piece::new(part, bytes, at, residency));
            }
        }
        let Unit { bytes, compute, on_link, .. } = *unit;
        BlockPlan { block: unit.name.clone(), bytes, compute, on_link, pieces }
    }

    fn stream(&self, arc: &Arc, copies: u32) -> Stream {
        let unit = &self.units[arc.unit];
        let root = unit.is_root() && self.recipe.root_streams;
        let own = super::flow::signed(arc.unit);
        Stream {
            issue_after: Some(self.position(arc.gate)),
            issue_before: (arc.issue != own).then(|| self.position(arc.issue)),
            evict_after: if root { crate::plan::Evict::WriteBack } else { self.recipe.evict },
            held_until: (arc.until != arc.unit).then(|| self.units[arc.until].name.clone()),
            copies: if self.recipe.per_tensor && copies > 1 { copies } else { 0 },
            slack: None,
            loads: crate::plan::Loads::new(),
            // What lies outside the lists moves without a stream, from ordinary memory.
            from: match self.from {
                HostMemory::Pinned if root && self.input.instance.device.pageable.is_some() => {
                    HostMemory::Pageable
                }
                from => from,
            },
        }
    }

    /// The use at a position, which is at most one pass back.
    fn position(&self, at: i64) -> UseRef {
        let count = super::flow::signed(self.units.len());
        let unit = usize::try_from(at.rem_euclid(count)).unwrap_or(0);
        let passes_back = u32::try_from(-at.div_euclid(count)).unwrap_or(0);
        UseRef { block: self.units[unit].name.clone(), passes_back }
    }

    /// The host's synchronisations in order of execution.
    fn syncs(&self, streamed: &[Arc]) -> Vec<HostSync> {
        let count = self.units.len();
        let (mut streams, mut issues) = (vec![false; count], vec![0u64; count]);
        let mut releases = vec![false; count];
        for arc in streamed {
            streams[arc.unit] = true;
            releases[arc.until] = true;
            let copies = if self.recipe.per_tensor { self.part(arc.unit, false).1 } else { 1 };
            let at = usize::try_from(arc.issue.rem_euclid(super::flow::signed(count)));
            issues[at.unwrap_or(0)] += u64::from(copies);
        }
        let mut syncs = Vec::new();
        for (n, unit) in self.units.iter().enumerate() {
            let id = || Some(unit.name.clone());
            let at_root = unit.is_root() && self.recipe.root_streams && streams[n];
            if at_root {
                let cost = cost_of(issues[n]);
                let waits = vec![Lane::H2d];
                syncs.push(HostSync { before: None, arrival: id(), after: None, waits, cost });
            }
            let mut charged = at_root;
            for rule in self.recipe.syncs.iter().filter(|_| !at_root) {
                let (before, arrival, after) = match rule.at {
                    SyncAt::BeforeStreamed if streams[n] => (id(), None, None),
                    SyncAt::Arrival if issues[n] > 0 => (None, id(), None),
                    SyncAt::AfterStreamed if streams[n] => (None, None, id()),
                    SyncAt::Release if releases[n] => (None, None, id()),
                    SyncAt::AfterEvery if !unit.is_root() => (None, None, id()),
                    _ => continue,
                };
                let cost = cost_of(if charged { 0 } else { issues[n] });
                charged = true;
                let waits = rule.waits.to_vec();
                syncs.push(HostSync { before, arrival, after, waits, cost });
            }
            let root_back = streamed.first().is_some_and(|arc| {
                self.recipe.root_streams && self.units[arc.unit].is_root() && arc.until == n
            });
            if root_back {
                let waits = vec![Lane::Compute, Lane::D2h];
                let cost = HOST_SYNC;
                syncs.push(HostSync { before: None, arrival: None, after: id(), waits, cost });
            }
        }
        syncs
    }
}

/// What a synchronisation costs the host together with the copies it issues there.
fn cost_of(copies: u64) -> Nanos {
    HOST_SYNC.saturating_add(ENQUEUE.saturating_mul(copies))
}

/// The most uses that lie between the one that a copy waits for and its own.
fn prefetch(streamed: &[Arc]) -> u32 {
    let ahead = streamed.iter().map(|arc| super::flow::signed(arc.unit) - arc.gate - 1);
    u32::try_from(ahead.max().unwrap_or(0)).unwrap_or(u32::MAX)
}

impl Sync {
    pub(super) const fn new(at: SyncAt, waits: &'static [Lane]) -> Self {
        Self { at, waits }
    }
}

impl Gate {
    /// A window of so many slots, at least one.
    pub(super) fn slots(count: u64) -> Self {
        Self::Slots(usize::try_from(count).unwrap_or(usize::MAX).max(1))
    }
}
