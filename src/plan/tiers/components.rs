//! Turns components that share a host into their plans: what each keeps must be there for the next generation, and the
//! next component's ring may fill before the last one's is empty, so all of it adds up.
//!
//! Pinned memory goes first to the component with the most passes, which copies its bytes most often; it leaves what
//! the others need at least.

use std::cmp::Reverse;

use super::HostBudget;
use crate::error::{Error, Infeasible, Memory, Result};
use crate::plan::spec::ComponentPlan;
use crate::units::Bytes;

/// Plans every component, given their passes, by what plans one of them with so much of the host; infeasible where they
/// need more than there is when each takes its least.
pub fn plan_all(
    passes: &[u32],
    host: &HostBudget,
    plan: &dyn Fn(usize, HostBudget) -> Result<ComponentPlan>,
) -> Result<Vec<ComponentPlan>> {
    let mut order: Vec<usize> = (0..passes.len()).collect();
    order.sort_by_key(|&n| (Reverse(passes[n]), n));
    // By component: what those planned before it must leave. Nothing, until one finds too little.
    let mut least = vec![Bytes::ZERO; passes.len()];
    let mut tries = 2 * passes.len();
    let mut first = true;
    loop {
        let (refused, answer) = match planned(&order, host, &least, plan) {
            Ok(mut plans) => {
                plans.sort_by_key(|&(n, _)| n);
                return Ok(plans.into_iter().map(|(_, plan)| plan).collect());
            }
            Err((n, Error::Infeasible(answer))) if answer.memory == Memory::Host => (n, answer),
            Err((_, error)) => return Err(error),
        };
        if std::mem::take(&mut first) {
            for (n, least) in least.iter_mut().enumerate() {
                *least = least_of(n, plan)?;
            }
        } else {
            least[refused] = least[refused].saturating_add(answer.shortfall.max(Bytes::new(1)));
        }
        let all: Bytes = least.iter().copied().sum();
        tries = tries.saturating_sub(1);
        // Rings are locked.
        let available = host.bytes.min(host.lockable);
        if all > available || tries == 0 {
            let because = if passes.len() > 1 { "every component" } else { &answer.because };
            let needed = all.max(available.saturating_add(answer.shortfall));
            return Err(Error::Infeasible(Infeasible {
                needed,
                available,
                shortfall: needed.saturating_sub(available),
                smallest_budget: needed,
                because: because.to_owned(),
                ..answer
            }));
        }
    }
}

/// What a component needs of the host at least.
fn least_of(n: usize, plan: &dyn Fn(usize, HostBudget) -> Result<ComponentPlan>) -> Result<Bytes> {
    match plan(n, HostBudget { bytes: Bytes::ZERO, lockable: Bytes::ZERO }) {
        Ok(plan) => Ok(plan.host.map_or(Bytes::ZERO, |host| host.bytes())),
        Err(Error::Infeasible(answer)) if answer.memory == Memory::Host => Ok(answer.needed),
        Err(error) => Err(error),
    }
}

/// Each component's plan beside those before it and what those after it need at least; else who was refused.
fn planned(
    order: &[usize],
    host: &HostBudget,
    least: &[Bytes],
    plan: &dyn Fn(usize, HostBudget) -> Result<ComponentPlan>,
) -> std::result::Result<Vec<(usize, ComponentPlan)>, (usize, Error)> {
    let (mut used, mut locked) = (Bytes::ZERO, Bytes::ZERO);
    let mut plans = Vec::with_capacity(order.len());
    for (turn, &n) in order.iter().enumerate() {
        let left: Bytes = order[turn + 1..].iter().map(|&later| least[later]).sum();
        let own = HostBudget {
            bytes: host.bytes.saturating_sub(used.saturating_add(left)),
            lockable: host.lockable.saturating_sub(locked.saturating_add(left)),
        };
        let plan = plan(n, own).map_err(|error| (n, error))?;
        if let Some(own) = &plan.host {
            used = used.saturating_add(own.bytes());
            locked = locked.saturating_add(own.locked);
        }
        plans.push((n, plan));
    }
    Ok(plans)
}
