//! Turns several components in order of use into one plan: who stays, where each lies, what each boundary costs.
//!
//! A pipeline's components share one slab, one after the other. Planned apart, each would begin with an empty slab
//! once the one before has ended, and compute would stand still until its first blocks have come. Planned together,
//! every piece waits only for the last use of the bytes that it takes:
//!
//! ```text
//! slab     high noise, last pass               low noise, first pass
//!   ▲      [ r3 used last        ]             [ … arrives last      ]
//!   │      [ r2                  ]   ──▶       [ r1'                 ]
//!   │      [ r1                  ]             [ r0' root' window'   ]   arrives while r2, r3 are still in use
//!   │      [ r0 used first, free ]             [ … arrives last      ]
//! ```
//!
//! Each component is planned as it would be alone, under the budget less its own reserve and less what is kept for
//! others, with its share of the host's memory where that is given; then `arrange` tries its orders of the slab, `entries` states the waits, and the whole is evaluated
//! exactly by [`timing`]. Nothing is ever waited for that a component planned apart would not wait
//! for, so the pipeline is never slower than its components planned apart.
//!
//! Whoever is kept costs the others memory and saves its own copies in every later generation; with more than one
//! generation, components are kept greedily while that shortens the whole.

mod arrange;
mod entries;

use std::fmt;
use std::str::FromStr;

use super::execution::{Beside, Repeated};
use super::layout::ComponentInput;
use super::spec::{ComponentPlan, Granularity, HostMemory, Piece, Residency};
use super::stage::stages;
use super::tiers::{self, HostBudget, HostUse};
use super::timing;
use super::unit::Unit;
use crate::error::{Error, Infeasible, Memory, Result};
use crate::figures::{Boundary, Together};
use crate::units::{Bytes, Fraction, Nanos};
use arrange::{Order, Region, arranged, first_resident};

/// Components for which every combination of orders is tried; of longer pipelines each takes the best in its turn.
const MOST_COMBINED: usize = 5;

/// Generations after which one more takes as long as the one before.
const SETTLED: u32 = 3;

/// How a component is held.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Hold {
    /// As the planner finds best.
    #[default]
    Auto,
    /// Whole, from its first use to the end of the run; nothing else takes its bytes.
    Resident,
    /// Whole, while it is in use.
    Phase,
    /// What does not fit streams: parts of blocks.
    Stream,
    /// What does not fit streams: whole blocks.
    Block,
}

impl Hold {
    /// All of them, by name.
    pub const ALL: [(&'static str, Self); 5] = [
        ("auto", Self::Auto),
        ("resident", Self::Resident),
        ("phase", Self::Phase),
        ("stream", Self::Stream),
        ("block", Self::Block),
    ];
}

impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = Self::ALL.iter().find(|(_, hold)| hold == self);
        f.write_str(named.map_or("auto", |(name, _)| name))
    }
}

impl FromStr for Hold {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let named = Self::ALL.iter().find(|(name, _)| *name == text);
        named.map(|&(_, hold)| hold).ok_or_else(|| {
            let names: Vec<&str> = Self::ALL.iter().map(|(name, _)| *name).collect();
            format!("found {text:?}, expected one of {}", names.join(", "))
        })
    }
}

/// A component of a pipeline.
#[derive(Debug, Clone)]
pub struct Member {
    /// What the planner takes; its budget is set anew.
    pub input: ComponentInput,
    /// How it is to be held.
    pub hold: Hold,
}

/// A pipeline to be planned.
#[derive(Debug, Clone)]
pub struct Pipeline {
    /// Components in order of use.
    pub members: Vec<Member>,
    /// VRAM given, reserve included.
    pub vram: Bytes,
    /// How often they are used in turn.
    pub generations: u32,
    /// The finest unit that may be resident in part, where the hold leaves that open.
    pub granularity: Granularity,
    /// What is brought in, used and released as one.
    pub unit: Unit,
    /// Host memory for the weights of all of them; none for as much as they take.
    pub host: Option<HostBudget>,
}

/// Where a component is planned.
#[derive(Debug, Clone, Copy)]
struct Room {
    /// Whether it stays to the end of the run.
    kept: bool,
    /// Bytes of the slab that it may use.
    bytes: Bytes,
    /// Bytes beside them that others keep.
    beside: Bytes,
}

/// Components with their figures together.
#[derive(Debug, Clone)]
pub struct Planned {
    /// By member.
    pub components: Vec<ComponentPlan>,
    /// What they take together.
    pub together: Together,
}

impl Pipeline {
    /// The plan that is found best. Infeasible where a component cannot be held as asked.
    pub fn plan(&self) -> Result<Planned> {
        if self.granularity == Granularity::Rotating {
            let message = "blocks take turns staying in a component that is planned alone";
            let hint = Some("give --granularity tensor or block for several".to_owned());
            return Err(Error::Usage { message: message.to_owned(), hint });
        }
        let asked: Vec<bool> = self.members.iter().map(|m| m.hold == Hold::Resident).collect();
        let mut best = self.with_kept(&asked)?;
        if self.generations < 2 {
            return Ok(best);
        }
        let mut kept = asked;
        loop {
            let mut found = None;
            for n in 0..kept.len() {
                if kept[n] || self.members[n].hold != Hold::Auto {
                    continue;
                }
                let mut more = kept.clone();
                more[n] = true;
                let Ok(other) = self.with_kept(&more) else { continue };
                if other.together.makespan < best.together.makespan {
                    (best, found) = (other, Some(more));
                }
            }
            match found {
                Some(more) => kept = more,
                None => return Ok(best),
            }
        }
    }

    /// The best plan in which these components are kept, and no others on purpose.
    fn with_kept(&self, kept: &[bool]) -> Result<Planned> {
        let size = |n: usize| self.members[n].input.at(self.unit).whole().get();
        let base: u64 = (0..kept.len()).filter(|&n| kept[n]).map(size).sum();
        let mut rooms = Vec::with_capacity(kept.len());
        for (n, &kept) in kept.iter().enumerate() {
            let end = self.end_of(n);
            // As much as it would have alone, so that it is planned as it would be.
            let all = self.vram.saturating_sub(self.members[n].input.reserve).get();
            let room = if kept { size(n) } else { all.saturating_sub(base) };
            if end < base || (kept && room > end) {
                return Err(self.refused(n, base.max(room), end));
            }
            rooms.push(Room { kept, bytes: Bytes::new(room), beside: Bytes::new(base) });
        }
        let mut at = 0;
        let mut plans = Vec::with_capacity(kept.len());
        let mut regions: Vec<Option<Region>> = Vec::with_capacity(kept.len());
        for (n, plan) in self.each_alone(&rooms)?.into_iter().enumerate() {
            if kept[n] {
                let region = (at, at + size(n));
                at = region.1;
                plans.push(arranged(&plan, Order::RootFirst, region, 0, self.alignment()));
                regions.push(None);
            } else {
                plans.push(plan);
                regions.push(Some((base, self.end_of(n))));
            }
        }
        self.arranged(&plans, &regions)
    }

    /// Each component's plan in its room, as it would be alone; they share the host where its memory is given.
    fn each_alone(&self, rooms: &[Room]) -> Result<Vec<ComponentPlan>> {
        let Some(host) = &self.host else {
            let members = self.members.iter().zip(rooms);
            return members.map(|(member, room)| self.planned(member, *room, None)).collect();
        };
        let passes: Vec<u32> = self.members.iter().map(|member| member.input.passes).collect();
        tiers::plan_all(&passes, host, &|n, own| {
            self.planned(&self.members[n], rooms[n], Some(own))
        })
    }

    /// The end of the slab that a component may use.
    fn end_of(&self, n: usize) -> u64 {
        let end = self.vram.saturating_sub(self.members[n].input.reserve).get();
        end - end % self.alignment()
    }

    fn alignment(&self) -> u64 {
        self.members.first().map_or(1, |member| member.input.instance.device.alignment)
    }

    fn refused(&self, n: usize, needed: u64, available: u64) -> Error {
        let (needed, available) = (Bytes::new(needed), Bytes::new(available));
        let input = &self.members[n].input;
        let kept: Vec<&str> = self
            .members
            .iter()
            .filter(|member| member.hold == Hold::Resident)
            .map(|member| member.input.name.as_str())
            .collect();
        let because = match kept.is_empty() {
            true => input.name.clone(),
            false => format!("{} beside what is resident ({})", input.name, kept.join(", ")),
        };
        Error::Infeasible(Infeasible { because, ..input.infeasible(needed, available) })
    }

    fn granularity_of(&self, member: &Member) -> Granularity {
        match member.hold {
            Hold::Block => Granularity::Block,
            Hold::Stream => Granularity::Tensor,
            Hold::Auto | Hold::Resident | Hold::Phase => self.granularity,
        }
    }

    /// The same with what binds each component, and what more memory would buy it.
    pub fn plan_with_margins(&self) -> Result<Planned> {
        let mut planned = self.plan()?;
        for (member, plan) in self.members.iter().zip(&mut planned.components) {
            // What more VRAM buys is told as if the host held everything in pinned memory.
            let all_pinned = |host: &HostUse| host.ring.is_zero() && host.pageable.is_zero();
            if !plan.host.as_ref().is_none_or(all_pinned) {
                continue;
            }
            let room = self.vram.saturating_sub(member.input.reserve);
            let input = ComponentInput { host: None, ..member.input.within(room) };
            *plan = input.at(self.unit).with_margins(plan.clone(), self.granularity_of(member))?;
        }
        Ok(planned)
    }

    /// A component's plan in so much room and of the host, as it would be alone.
    fn planned(
        &self,
        member: &Member,
        Room { kept, bytes: room, beside }: Room,
        host: Option<HostBudget>,
    ) -> Result<ComponentPlan> {
        let within = ComponentInput { host, ..member.input.within(room) };
        let input = within.at(self.unit);
        let whole = kept || member.hold == Hold::Phase;
        if whole && input.whole() > room {
            let needed = input.whole().saturating_add(if kept { Bytes::ZERO } else { beside });
            let available = if kept { room } else { room.saturating_add(beside) };
            let because = format!("{} as a whole", input.name);
            let refused = input.infeasible(needed, available);
            return Err(Error::Infeasible(Infeasible { because, ..refused }));
        }
        let plan = input.plan(self.granularity_of(member)).map_err(|error| match error {
            Error::Infeasible(answer) if answer.memory == Memory::Host => Error::Infeasible(answer),
            Error::Infeasible(answer) if !beside.is_zero() => Error::Infeasible(Infeasible {
                needed: answer.needed.saturating_add(beside),
                available: answer.available.saturating_add(beside),
                smallest_budget: answer.smallest_budget.saturating_add(beside),
                ..answer
            }),
            other => other,
        })?;
        Ok(ComponentPlan { reserve: Some(input.reserve), ..plan })
    }

    /// The best arrangement of these plans, with entries and figures.
    fn arranged(&self, plans: &[ComponentPlan], regions: &[Option<Region>]) -> Result<Planned> {
        let movable: Vec<usize> = (0..plans.len()).filter(|&n| regions[n].is_some()).collect();
        let mut orders = vec![Order::RootFirst; plans.len()];
        let mut best = self.in_orders(plans, regions, &orders)?;
        if movable.len() <= MOST_COMBINED {
            let count = Order::ALL.len().pow(u32::try_from(movable.len()).unwrap_or(0));
            for mut code in 1..count {
                for &n in &movable {
                    orders[n] = Order::ALL[code % Order::ALL.len()];
                    code /= Order::ALL.len();
                }
                self.take_better(plans, regions, &orders, &mut best)?;
            }
            return Ok(best);
        }
        for &n in &movable {
            let mut own = orders[n];
            for order in Order::ALL {
                orders[n] = order;
                if self.take_better(plans, regions, &orders, &mut best)? {
                    own = order;
                }
            }
            orders[n] = own;
        }
        Ok(best)
    }

    fn take_better(
        &self,
        plans: &[ComponentPlan],
        regions: &[Option<Region>],
        orders: &[Order],
        best: &mut Planned,
    ) -> Result<bool> {
        let other = match self.in_orders(plans, regions, orders) {
            Err(Error::Infeasible(_)) => return Ok(false),
            other => other?,
        };
        let key = |planned: &Planned| {
            let together = &planned.together;
            (together.makespan, together.generation)
        };
        let better = key(&other) < key(best);
        if better {
            *best = other;
        }
        Ok(better)
    }

    /// The plans in these orders of the slab, with entries and figures.
    fn in_orders(
        &self,
        plans: &[ComponentPlan],
        regions: &[Option<Region>],
        orders: &[Order],
    ) -> Result<Planned> {
        let mut turn = 0;
        let mut placed = Vec::with_capacity(plans.len());
        for ((plan, region), &order) in plans.iter().zip(regions).zip(orders) {
            let mut plan = match region {
                Some(region) => arranged(plan, order, *region, turn, self.alignment()),
                None => plan.clone(),
            };
            if region.is_some() {
                turn = first_resident(&plan).unwrap_or(turn);
            }
            let reserve = plan.reserve.unwrap_or_default();
            plan.prediction.peak = plan.slab.bytes.saturating_add(reserve);
            placed.push(plan);
        }
        // Where what others keep leaves no place that it can be moved to.
        let over = (0..placed.len()).find(|&n| placed[n].slab.bytes.get() > self.end_of(n));
        if let Some(n) = over {
            return Err(self.refused(n, placed[n].slab.bytes.get(), self.end_of(n)));
        }
        let slab = placed.iter().map(|plan| plan.slab.bytes.get()).max().unwrap_or(0);
        let lent: Vec<Option<Region>> = (0..placed.len())
            .map(|n| {
                // Exactly what the program lends: from the end of the budget less the reserve.
                let own = self.vram.saturating_sub(self.members[n].input.reserve).get();
                (own < slab).then_some((own, slab))
            })
            .collect();
        entries::write_entries(&mut placed, &lent);
        self.foreseen(placed)
    }

    /// The figures of placed plans.
    fn foreseen(&self, mut components: Vec<ComponentPlan>) -> Result<Planned> {
        let device = match self.members.first() {
            Some(member) => member.input.instance.device.clone(),
            None => return Err(Error::usage("a pipeline without components")),
        };
        let together = together(&mut components, self.generations, &device)?;
        Ok(Planned { components, together })
    }
}

/// Computes what components take together, and writes their own figures as they are among the others.
pub fn together(
    components: &mut [ComponentPlan],
    generations: u32,
    device: &crate::device::DeviceSpec,
) -> Result<Together> {
    let count = components.len();
    let stages = stages(components, generations.max(SETTLED), device)?;
    let stages: Vec<Repeated> = stages.iter().map(Repeated::from).collect();
    let beside = Beside::on(device);
    let settled = timing::executed(&stages, beside)?;
    // What is copied ahead for a generation that is not run must not slow down one that is.
    let wanted = usize::try_from(generations.max(1)).unwrap_or(usize::MAX).saturating_mul(count);
    let times = match stages.iter().any(|stage| beside.changes(stage.schedule)) {
        true => timing::executed(&stages[..wanted], beside)?,
        false => settled[..wanted].to_vec(),
    };
    let span = |stages: &[timing::Unrolled]| stages.iter().map(|one| one.makespan).sum::<Nanos>();
    let (first, later) = (span(&times[..count]), span(&settled[2 * count..3 * count]));
    let makespan = span(&times);
    for (component, own) in components.iter_mut().zip(&times) {
        component.prediction.first_pass = own.first_pass;
        component.prediction.makespan = own.makespan;
        component.prediction.stall = own.stall;
        component.prediction.overlap = Fraction::of(own.overlap.get(), own.copy_busy.get());
    }
    let boundaries = components.windows(2).zip(times.windows(2));
    let boundaries = boundaries.map(|(pair, times)| boundary(pair, times, device)).collect();
    Ok(Together { first, generation: later, makespan, boundaries })
}

/// What the second of two components pays for coming after the first.
fn boundary(
    pair: &[ComponentPlan],
    times: &[timing::Unrolled],
    device: &crate::device::DeviceSpec,
) -> Boundary {
    let (from, to) = (&pair[0], &pair[1]);
    let compute = |plan: &ComponentPlan| -> Nanos { plan.blocks.iter().map(|b| b.compute).sum() };
    let once = to.passes == 1;
    let usual = if once { compute(to) } else { to.prediction.pass };
    let pieces = to.blocks.iter().flat_map(|block| &block.pieces);
    let arrives = pieces.filter(|piece| {
        (once || piece.residency == Residency::Resident) && piece.enters_after.is_some()
            || piece.enters_after.is_none()
    });
    let bytes: Bytes = arrives.map(|piece| piece.bytes).sum();
    // The time that the link is idle in the last pass before, neither copying nor held by collectives.
    let held: Nanos = from.blocks.iter().map(|block| block.on_link).sum();
    let idle = match from.passes {
        1 => times[0].makespan.saturating_sub(times[0].copy_busy),
        _ => {
            let copies = device.h2d.time_for(from.prediction.bytes_per_pass);
            from.prediction.pass.saturating_sub(copies)
        }
    };
    let idle = idle.saturating_sub(held);
    // What comes from disk, if the disk is idle in the last pass before but for that pass' own.
    let on_disk = |plan: &ComponentPlan, once: bool| -> Bytes {
        let pieces = plan.blocks.iter().flat_map(|block| &block.pieces);
        let read = pieces.filter(|piece| piece.home() == HostMemory::Disk);
        let stays = |piece: &&Piece| once || piece.residency == Residency::Resident;
        read.filter(stays).map(|piece| piece.bytes).sum()
    };
    let read = device.disk.as_ref().map_or(Nanos::ZERO, |disk| {
        let own = disk.time_for(from.prediction.disk_per_pass);
        let idle =
            if from.passes == 1 { Nanos::ZERO } else { from.prediction.pass.saturating_sub(own) };
        disk.time_for(on_disk(to, once)).saturating_sub(idle)
    });
    Boundary {
        from: from.name.clone(),
        to: to.name.clone(),
        cost: times[1].first_pass.saturating_sub(usual),
        demand: device.h2d.time_for(bytes).saturating_sub(idle).max(read),
        bytes,
    }
}
