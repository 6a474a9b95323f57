//! Turns the plan of a component into a [`Schedule`]: the operations of one pass and what each waits for.
//!
//! A schedule is written once and holds for every pass. Operations stand in order of issue; an operation runs
//! after the one issued before it on its lane and after those it waits for. A wait names an operation of the
//! same pass or of an earlier one, so the whole run is the schedule repeated:
//!
//! ```text
//! issue order   copy 1   compute 0   copy 2   compute 1   …  compute n-1 │ copy 1   compute 0 …
//! h2d           ██ 1 ███████ 2 ████                                      waits: compute p(k) of this or the
//! compute       ████ 0 ████████ 1 ██                                            last pass, whose bytes it takes
//! ```
//!
//! The same structure is evaluated by [`super::timing`], lowered to CUDA waits, simulated, and checked. Whoever
//! changes what an operation waits for changes it here, for all of them.

mod reads;

use std::collections::BTreeMap;

use super::op::{Op, Wait, When};
use super::skips::Mask;
use super::spec::{ComponentPlan, Evict, HostMemory, HostSync, Piece, Residency, Stream};
use crate::device::{DeviceSpec, Link};
use crate::error::{Error, Problem, Result};
use crate::lane::{Lane, OpKind};
use crate::units::{Bytes, Nanos};

/// The operations of one pass, in order of issue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    /// The operations.
    pub ops: Vec<Op>,
    /// The uses that passes leave out. Their operations stay, and wait and are waited for as ever: what is proved of a
    /// schedule in which every block runs holds whichever are left out.
    pub mask: Mask,
}

impl Schedule {
    /// Builds the schedule of a component. Fails on references that name no use, on waits that could never end,
    /// and on copies from memory that the device spec has no rate for.
    pub fn of(component: &ComponentPlan, device: &DeviceSpec) -> Result<Self> {
        Self::of_generation(component, device, 0)
    }

    /// The same for a component that has been used so often before: what was kept is there already.
    pub fn of_generation(
        component: &ComponentPlan,
        device: &DeviceSpec,
        generation: u32,
    ) -> Result<Self> {
        let mut builder = Builder::new(component, device);
        builder.has_kept = generation > 0;
        builder.plan_slots();
        builder.plan_releases();
        builder.plan_syncs();
        builder.place_ops();
        builder.add_waits();
        if builder.problems.is_empty() {
            return Ok(Self { ops: builder.ops, mask: Mask::of_plan(component) });
        }
        let file = format!("plan of {}", component.name);
        Err(Error::Input { file, problems: builder.problems })
    }

    /// Bytes that one steady pass copies from the host to the device: where blocks take turns staying, the mean of
    /// their passes, rounded up.
    pub fn bytes_per_pass(&self) -> Bytes {
        let copied = |op: &Op| if op.kind == OpKind::Copy { op.bytes.get() } else { 0 };
        Bytes::new(self.mean_per_pass(copied))
    }

    /// The same of what is read from disk.
    pub fn read_per_pass(&self) -> Bytes {
        let read = |op: &Op| if op.kind == OpKind::Read { op.bytes.get() } else { 0 };
        Bytes::new(self.mean_per_pass(read))
    }

    /// Passes after which the steady schedule repeats.
    pub fn turns(&self) -> u32 {
        let turns =
            self.ops.iter().map(|op| if let When::Turn { of, .. } = op.when { of } else { 1 });
        turns.max().unwrap_or(1).max(1)
    }

    /// What the operations of a steady pass amount to together: the mean of all turns, rounded up.
    pub fn mean_per_pass(&self, amount: impl Fn(&Op) -> u64) -> u64 {
        let turns = u128::from(self.turns());
        let in_turns = |op: &Op| match op.when {
            When::First => 0,
            When::Every | When::ExceptLast => turns,
            When::Turn { .. } => 1,
        };
        let all: u128 = self.ops.iter().map(|op| u128::from(amount(op)) * in_turns(op)).sum();
        u64::try_from(all.div_ceil(turns)).unwrap_or(u64::MAX)
    }
}

/// A copy to be issued: which piece, in which passes.
#[derive(Debug, Clone, Copy)]
struct Fetch {
    block: usize,
    piece: usize,
    when: When,
    ahead: u32,
}

struct Builder<'a> {
    component: &'a ComponentPlan,
    device: &'a DeviceSpec,
    /// Whether pieces that are kept are there already.
    has_kept: bool,
    index: BTreeMap<&'a str, usize>,
    /// Fetches issued directly before each use, in the order of their issue.
    fetches: Vec<Vec<Fetch>>,
    /// What stays and comes from disk: issued before everything else.
    cold: Vec<Fetch>,
    ops: Vec<Op>,
    /// By lane: the last operation found, and how many operations have been looked at.
    last_on: [(Option<usize>, usize); Lane::ALL.len()],
    compute_of: Vec<usize>,
    /// Operations that make a piece present, for the compute of its block.
    arrivals: Vec<Vec<(usize, u32)>>,
    /// Reads from disk, in order of issue.
    reads: Vec<usize>,
    /// The operation that frees the last of what the end of a use frees, by use.
    release_of: Vec<usize>,
    /// Streamed pieces whose bytes stay until the end of each use, as block and piece.
    held: Vec<Vec<(usize, usize)>>,
    /// Synchronisations of the host by use, with their place: before it, on arrival, after it.
    syncs: Vec<Vec<(Place, &'a HostSync)>>,
    /// Write-backs that wait for the copy issued last, in the pass before.
    after_last_copy: Vec<usize>,
    problems: Vec<Problem>,
}

/// Where the host synchronises, relative to a use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Before,
    Arrival,
    After,
}

impl<'a> Builder<'a> {
    fn new(component: &'a ComponentPlan, device: &'a DeviceSpec) -> Self {
        let count = component.blocks.len();
        let names = component.blocks.iter().enumerate();
        let index: BTreeMap<&str, usize> =
            names.map(|(n, block)| (block.block.as_str(), n)).collect();
        Self {
            component,
            device,
            has_kept: false,
            index,
            fetches: vec![Vec::new(); count],
            cold: Vec::new(),
            ops: Vec::new(),
            last_on: [(None, 0); Lane::ALL.len()],
            compute_of: vec![0; count],
            arrivals: vec![Vec::new(); count],
            reads: Vec::new(),
            release_of: vec![0; count],
            held: vec![Vec::new(); count],
            syncs: vec![Vec::new(); count],
            after_last_copy: Vec::new(),
            problems: Vec::new(),
        }
    }

    fn pieces(&self) -> impl Iterator<Item = (usize, usize, &'a Piece)> + use<'a> {
        let component = self.component;
        component.blocks.iter().enumerate().flat_map(|(block, plan)| {
            plan.pieces.iter().enumerate().map(move |(piece, what)| (block, piece, what))
        })
    }

    fn problem(&mut self, block: usize, field: &str, found: String, expected: &str) {
        let place = format!("block {:?} {field}", self.component.blocks[block].block);
        self.problems.push(Problem::new(place, found, expected));
    }

    /// Decides before which use each copy is issued.
    fn plan_slots(&mut self) {
        for (block, piece, what) in self.pieces() {
            let Residency::Streamed(stream) = &what.residency else {
                if !(what.kept && self.has_kept) {
                    let fetches = match what.staged {
                        Some(_) => &mut self.cold,
                        None => &mut self.fetches[block],
                    };
                    fetches.push(Fetch { block, piece, when: When::First, ahead: 0 });
                }
                continue;
            };
            if !stream.loads.is_empty() {
                let of = self.component.turns.max(1);
                let turns = stream.loads.keys().map(|&turn| When::Turn { turn, of });
                let cold = (!stream.loads.contains_key(&0)).then_some(When::First);
                let fetch = |when| Fetch { block, piece, when, ahead: 0 };
                self.fetches[block].extend(cold.into_iter().chain(turns).map(fetch));
                continue;
            }
            let (at, back) = match &stream.issue_before {
                None => (block, 0),
                Some(target) => match self.index.get(target.block.as_str()) {
                    Some(&at) => (at, target.passes_back),
                    None => (block, 0),
                },
            };
            match back {
                0 if at <= block => {
                    self.fetches[at].push(Fetch { block, piece, when: When::Every, ahead: 0 });
                }
                1 if at >= block => {
                    self.fetches[block].push(Fetch { block, piece, when: When::First, ahead: 0 });
                    let fetch = Fetch { block, piece, when: When::ExceptLast, ahead: 1 };
                    self.fetches[at].push(fetch);
                }
                _ => {
                    let found = stream.issue_before.as_ref().map(ToString::to_string);
                    let found = found.unwrap_or_default();
                    let expected = "a use at most one round before its own";
                    self.problem(block, "issue_before", found, expected);
                }
            }
        }
    }

    /// Decides after which use each streamed piece's bytes are released.
    fn plan_releases(&mut self) {
        for (block, piece, what) in self.pieces() {
            let Residency::Streamed(stream) = &what.residency else { continue };
            let until = stream.held_until.as_deref().map(|until| self.index.get(until).copied());
            match until.unwrap_or(Some(block)) {
                Some(until) if until >= block => self.held[until].push((block, piece)),
                _ => {
                    let found = format!("{:?}", stream.held_until);
                    self.problem(block, "held_until", found, "its own use or a later one");
                }
            }
        }
    }

    fn plan_syncs(&mut self) {
        for sync in &self.component.host_syncs {
            let named = [
                (Place::Before, &sync.before),
                (Place::Arrival, &sync.arrival),
                (Place::After, &sync.after),
            ];
            for (place, target) in named {
                let target = target.as_ref().and_then(|target| self.index.get(target.as_str()));
                if let Some(&block) = target {
                    self.syncs[block].push((place, sync));
                }
            }
        }
    }

    /// Lays the operations out in order of issue.
    fn place_ops(&mut self) {
        for block in 0..self.component.blocks.len() {
            self.place_syncs(block, Place::Before);
            for fetch in std::mem::take(&mut self.cold) {
                self.place_fetch(fetch);
            }
            for fetch in std::mem::take(&mut self.fetches[block]) {
                self.place_fetch(fetch);
            }
            self.place_syncs(block, Place::Arrival);
            self.compute_of[block] = self.ops.len();
            self.release_of[block] = self.ops.len();
            self.ops.push(Op {
                duration: self.component.blocks[block].compute,
                on_link: self.component.blocks[block].on_link,
                ..Op::idle(OpKind::Compute, Lane::Compute, block)
            });
            self.place_releases(block);
            self.place_syncs(block, Place::After);
        }
    }

    /// What the end of a use frees: at once, or by a copy back to the host.
    fn place_releases(&mut self, use_of: usize) {
        let held = std::mem::take(&mut self.held[use_of]);
        for blocks in held.chunk_by(|a, b| a.0 == b.0) {
            let block = blocks[0].0;
            let (mut back, mut duration, mut exchange) = (Bytes::ZERO, Nanos::ZERO, false);
            for &(_, piece) in blocks {
                let what = &self.component.blocks[block].pieces[piece];
                let Residency::Streamed(stream) = &what.residency else { continue };
                if !stream.loads.is_empty() {
                    // Its last use before a load is the one in the turn before.
                    let turns = self.component.turns.max(1);
                    let freed = &mut self.ops[self.compute_of[use_of]].releases_in;
                    freed.resize(turns as usize, Bytes::ZERO);
                    for &load in stream.loads.keys() {
                        let last = &mut freed[((load % turns + turns - 1) % turns) as usize];
                        *last = last.saturating_add(what.bytes);
                    }
                    continue;
                }
                if stream.evict_after == Evict::Use || what.bytes.is_zero() {
                    let freed = &mut self.ops[self.compute_of[use_of]].releases;
                    *freed = freed.saturating_add(what.bytes);
                    continue;
                }
                exchange |= stream.evict_after == Evict::Exchange;
                back = back.saturating_add(what.bytes);
                // Back to pageable memory costs what coming from there does: both are staged by the host.
                let link = match stream.from {
                    HostMemory::Pageable => self.device.pageable.as_ref(),
                    HostMemory::Pinned | HostMemory::Disk => Some(&self.device.d2h),
                };
                let time = self.link(block, "pageable", link, what.bytes, stream.copies);
                duration = duration.saturating_add(time);
            }
            if back.is_zero() {
                continue;
            }
            let mut waits = vec![Wait { op: self.compute_of[use_of], passes_back: 0 }];
            match self.last_on(Lane::H2d).filter(|_| exchange) {
                Some(wait) => waits.push(wait),
                None if exchange => self.after_last_copy.push(self.ops.len()),
                None => {}
            }
            self.release_of[use_of] = self.ops.len();
            let write_back = Op::idle(OpKind::WriteBack, Lane::D2h, block);
            self.ops.push(Op { bytes: back, duration, waits, releases: back, ..write_back });
        }
    }

    fn place_fetch(&mut self, fetch: Fetch) {
        let Fetch { block, piece, when, ahead } = fetch;
        let what = &self.component.blocks[block].pieces[piece];
        if what.bytes.is_zero() {
            return;
        }
        let from = what.home();
        let copies = match &what.residency {
            Residency::Resident => 1,
            Residency::Streamed(stream) => stream.copies,
        };
        let lasts = match &what.residency {
            Residency::Resident => true,
            Residency::Streamed(stream) => !stream.loads.is_empty(),
        };
        let mut waits = Vec::new();
        if from == HostMemory::Disk {
            waits.push(Wait { op: self.ops.len(), passes_back: 0 });
            self.reads.push(self.ops.len());
            let duration = self.link(block, "disk", self.device.disk.as_ref(), what.bytes, copies);
            let read = Op::idle(OpKind::Read, Lane::Disk, block);
            let piece = Some(piece);
            self.ops.push(Op { piece, bytes: what.bytes, duration, when, ahead, lasts, ..read });
        }
        let link = match from {
            HostMemory::Pageable => self.device.pageable.as_ref(),
            HostMemory::Pinned | HostMemory::Disk => Some(&self.device.h2d),
        };
        let duration = self.link(block, "pageable", link, what.bytes, copies);
        self.arrivals[block].push((self.ops.len(), ahead));
        self.ops.push(Op {
            piece: Some(piece),
            bytes: what.bytes,
            duration,
            when,
            ahead,
            lasts,
            waits,
            acquires: what.bytes,
            ..Op::idle(OpKind::Copy, Lane::H2d, block)
        });
    }

    /// The time of so many equal copies over a link.
    fn link(
        &mut self,
        block: usize,
        name: &str,
        link: Option<&Link>,
        bytes: Bytes,
        copies: u32,
    ) -> Nanos {
        if link.is_none() {
            let expected = format!("a device spec with {name}: {{rate, latency}}");
            self.problem(block, "from", format!("a copy from {name} memory"), &expected);
        }
        let Some(link) = link else { return Nanos::ZERO };
        let copies = u64::from(copies.max(1)).min(bytes.get().max(1));
        let (each, more) = (bytes.get() / copies, bytes.get() % copies);
        let larger = link.time_for(Bytes::new(each + 1)).saturating_mul(more);
        larger.saturating_add(link.time_for(Bytes::new(each)).saturating_mul(copies - more))
    }

    fn place_syncs(&mut self, block: usize, place: Place) {
        let here = self.syncs[block].iter().filter(|(at, _)| *at == place);
        for sync in here.map(|&(_, sync)| sync).collect::<Vec<_>>() {
            let waits = sync.waits.iter().filter_map(|&lane| self.last_on(lane)).collect();
            let op = Op::idle(OpKind::HostSync, Lane::Host, block);
            self.ops.push(Op { duration: sync.cost, waits, ..op });
        }
    }

    /// The operation issued last on a lane, as far as this pass has been laid out.
    fn last_on(&mut self, lane: Lane) -> Option<Wait> {
        let (last, seen) = &mut self.last_on[lane.index()];
        let newer = (*seen..self.ops.len())
            .rev()
            .find(|&n| self.ops[n].lane == lane && self.ops[n].when != When::First);
        *last = newer.or(*last);
        *seen = self.ops.len();
        last.map(|op| Wait { op, passes_back: 0 })
    }

    /// Adds what each operation waits for, now that all have their index.
    fn add_waits(&mut self) {
        self.add_read_waits();
        for block in 0..self.component.blocks.len() {
            let arrivals = std::mem::take(&mut self.arrivals[block]);
            let waits = arrivals.iter().map(|&(op, ahead)| Wait { op, passes_back: ahead });
            let compute = self.compute_of[block];
            self.ops[compute].waits.extend(waits);
        }
        for op in 0..self.ops.len() {
            self.add_issue_wait(op);
        }
        if let Some(last) = self.last_on(Lane::H2d) {
            for op in std::mem::take(&mut self.after_last_copy) {
                self.ops[op].waits.push(Wait { op: last.op, passes_back: 1 });
            }
        }
        self.add_host_waits();
        for (n, op) in self.ops.iter().enumerate() {
            if op.waits.iter().any(|wait| wait.passes_back == 0 && wait.op >= n) {
                let place = format!("block {:?}", self.component.blocks[op.block].block);
                let found = "a wait for something issued later in the same pass";
                let expected = "waits for what was issued before; see issue_after";
                self.problems.push(Problem::new(place, found, expected));
            }
        }
    }

    /// A copy of a streamed piece waits for the use that frees its bytes.
    fn add_issue_wait(&mut self, op: usize) {
        let Op { kind: OpKind::Copy, block, piece: Some(piece), ahead, when, .. } = self.ops[op]
        else {
            return;
        };
        let what = &self.component.blocks[block].pieces[piece];
        let Residency::Streamed(Stream { issue_after, loads, .. }) = &what.residency else {
            return;
        };
        let after = match when {
            When::Turn { turn, .. } => loads.get(&turn).and_then(Option::as_ref),
            _ => issue_after.as_ref(),
        };
        let Some(after) = after else { return };
        let Some(&target) = self.index.get(after.block.as_str()) else { return };
        // Issued a pass ahead, "the previous pass" of the use is this one.
        let Some(passes_back) = after.passes_back.checked_sub(ahead) else {
            let found = after.to_string();
            let expected = "a use before issue_before";
            self.problem(block, "issue_after", found, expected);
            return;
        };
        self.ops[op].waits.push(Wait { op: self.release_of[target], passes_back });
    }

    /// Nothing is issued before the host's last synchronisation has ended.
    fn add_host_waits(&mut self) {
        let Some(last) = self.ops.iter().rposition(|op| op.lane == Lane::Host) else { return };
        let mut current = Wait { op: last, passes_back: 1 };
        for n in 0..self.ops.len() {
            if self.ops[n].lane == Lane::Host {
                current = Wait { op: n, passes_back: 0 };
            } else {
                self.ops[n].waits.push(current);
            }
        }
    }
}
