//! Turns a component whose ranks exchange over the host's link into ones that need not know it, and the best of their
//! plans into its own.
//!
//! The planner's search knows how long a copy takes before it knows what runs beside it. So it plans for links that are
//! slower throughout, and every plan is then executed as it is, with its copies pausing for collectives:
//!
//! ```text
//! undisturbed            copies as fast as they ever are: right where the link is mostly idle
//! as a pass leaves it    slower by the share of the pass that collectives take: right where copies set the pass
//! as one use leaves it   slower by the largest share of any use: every copy in time wherever it may lie
//! ```

use super::layout::ComponentInput;
use super::spec::{ComponentPlan, Granularity};
use crate::device::{DeviceSpec, Link};
use crate::error::Result;
use crate::units::{Fraction, Nanos, Rate};

impl ComponentInput {
    /// The best of the plans for slower links.
    pub(super) fn plan_around_collectives(
        &self,
        granularity: Granularity,
    ) -> Result<ComponentPlan> {
        let mut best = self.planned_for(Fraction::ZERO, granularity)?;
        if best.window.bytes.is_zero() {
            return Ok(best);
        }
        let of_pass = Fraction::of(self.instance.on_link().get(), best.prediction.pass.get());
        for share in [of_pass, self.largest_share()] {
            let other = self.planned_for(share, granularity)?;
            if self.key(&other) < self.key(&best) {
                best = other;
            }
        }
        Ok(best)
    }

    /// The plan for a link that collectives leave so much less of, with what it really takes.
    fn planned_for(&self, share: Fraction, granularity: Granularity) -> Result<ComponentPlan> {
        let mut free = self.clone();
        free.instance.uses.iter_mut().for_each(|used| used.on_link = Nanos::ZERO);
        slow_down(&mut free.instance.device, share);
        let mut plan = free.plan(granularity)?;
        for block in &mut plan.blocks {
            let own = self.instance.uses.iter().find(|used| used.block == block.block);
            block.on_link = own.map_or(Nanos::ZERO, |used| used.on_link);
        }
        plan.foresee(&self.instance.device, self.reserve)?;
        let bounds = self.bounds_at(granularity);
        plan.bound = bounds.against(plan.prediction.pass);
        Ok(plan)
    }

    /// The largest share of a use's time that its collectives take. A use without compute of its own counts with the
    /// one after it, around the pass.
    fn largest_share(&self) -> Fraction {
        let uses = &self.instance.uses;
        let (mut largest, mut on_link, mut all) = (Fraction::ZERO, 0u64, 0u64);
        for used in uses.iter().chain(uses) {
            on_link = on_link.saturating_add(used.on_link.get());
            all = all.saturating_add(used.compute.get());
            if used.compute > used.on_link {
                largest = largest.max(Fraction::of(on_link, all));
                (on_link, all) = (0, 0);
            }
        }
        largest
    }
}

/// Leaves copies what collectives do not take of the link; a thousandth at least.
fn slow_down(device: &mut DeviceSpec, share: Fraction) {
    let whole = Fraction::WHOLE.ppm();
    let left = whole.saturating_sub(share.ppm()).max(whole / 1_000);
    let longer = |time: Nanos| {
        let time = (u128::from(time.get()) * u128::from(whole)).div_ceil(u128::from(left));
        Nanos::new(u64::try_from(time).unwrap_or(u64::MAX))
    };
    let slower = |link: &Link| Link {
        rate: Rate::new(Fraction::from_ppm(left).share_of(link.rate.get()).max(1)),
        latency: longer(link.latency),
        points: link.points.iter().map(|&(size, time)| (size, longer(time))).collect(),
    };
    device.h2d = slower(&device.h2d);
    device.d2h = slower(&device.d2h);
    device.pageable = device.pageable.as_ref().map(slower);
}
