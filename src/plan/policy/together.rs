//! Turns a policy's settings for several components into those that fit one host together.
//!
//! Components share the host's memory: what one of them takes, the others do not have. Our own planner divides it as a
//! pipeline does; of other systems the components with most passes choose first, and leave the least that the others
//! need.

use std::cmp::Reverse;

use super::search::{Explored, Setting};
use crate::error::Result;
use crate::plan::bound::Bounds;
use crate::plan::layout::ComponentInput;
use crate::plan::tiers::{HostBudget, plan_all};
use crate::plan::{ComponentPlan, Granularity};
use crate::units::Bytes;

impl Explored {
    /// The best settings of these components, each explored for itself, in their order; none where one has none that
    /// fits beside the others.
    pub fn best_together(
        explored: &[Self],
        inputs: &[ComponentInput],
        bounds: &[Bounds],
    ) -> Result<Option<Vec<Setting>>> {
        let all = || explored.iter().zip(inputs).zip(bounds);
        let host = inputs.first().and_then(|input| input.host).filter(|_| inputs.len() > 1);
        let Some(host) = host else {
            return all().map(|((explored, input), bounds)| explored.best(input, bounds)).collect();
        };
        if explored.first().is_some_and(Self::is_own) {
            let passes: Vec<u32> = inputs.iter().map(|input| input.passes).collect();
            let plan = |n: usize, own: HostBudget| -> Result<ComponentPlan> {
                let input = on(&inputs[n], own);
                input.at(explored[n].unit()).plan(Granularity::Tensor)
            };
            let plans = plan_all(&passes, &host, &plan)?;
            let settings = explored.iter().zip(plans).map(|(explored, plan)| explored.own(plan));
            return Ok(Some(settings.collect()));
        }
        let least: Option<Vec<Bytes>> =
            all().map(|((explored, input), _)| explored.least_host(input)).collect();
        let Some(mut least) = least else { return Ok(None) };
        let mut order: Vec<usize> = (0..inputs.len()).collect();
        order.sort_by_key(|&n| (Reverse(inputs[n].passes), n));
        let mut left = host;
        let mut settings: Vec<Option<Setting>> = vec![None; inputs.len()];
        for n in order {
            least[n] = Bytes::ZERO;
            let others: Bytes = least.iter().copied().sum();
            let own = HostBudget { bytes: left.bytes.saturating_sub(others), ..left };
            let found = explored[n].best(&on(&inputs[n], own), &bounds[n])?;
            let Some(found) = found.filter(|found| found.host.fits(&own)) else { return Ok(None) };
            left.bytes = left.bytes.saturating_sub(found.host.bytes());
            left.lockable = left.lockable.saturating_sub(found.host.locked);
            settings[n] = Some(found);
        }
        Ok(settings.into_iter().collect())
    }
}

fn on(input: &ComponentInput, host: HostBudget) -> ComponentInput {
    ComponentInput { host: Some(host), ..input.clone() }
}
