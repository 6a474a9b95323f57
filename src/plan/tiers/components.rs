//! Turns components that share a host into their plans: what each keeps must be there for the next generation, and the
//! next component's ring may fill before the last one's is empty, so all of it adds up.
//!
//! Pinned memory goes first to the component with the most passes, which copies its bytes most often; it leaves what
//! the others need at least.

use std::cmp::Reverse;

use super::HostBudget;
use crate::error::{Error, Memory, Result};
use crate::plan::spec::ComponentPlan;
use crate::units::Bytes;

/// Plans every component, given their passes, by what plans one of them with so much of the host; infeasible where one
/// of them is with what the others have to leave.
pub fn plan_all(
    passes: &[u32],
    host: &HostBudget,
    plan: &dyn Fn(usize, HostBudget) -> Result<ComponentPlan>,
) -> Result<Vec<ComponentPlan>> {
    let mut order: Vec<usize> = (0..passes.len()).collect();
    order.sort_by_key(|&n| (Reverse(passes[n]), n));
    // What those planned first must leave, learnt from those planned later.
    let (mut left, mut tries) = (Bytes::ZERO, passes.len().saturating_sub(1));
    loop {
        match planned(&order, host, left, plan) {
            Err(Error::Infeasible(answer)) if answer.memory == Memory::Host && tries > 0 => {
                tries -= 1;
                left = left.saturating_add(answer.needed);
            }
            Err(error) => return Err(error),
            Ok(mut plans) => {
                plans.sort_by_key(|&(n, _)| n);
                return Ok(plans.into_iter().map(|(_, plan)| plan).collect());
            }
        }
    }
}

fn planned(
    order: &[usize],
    host: &HostBudget,
    left: Bytes,
    plan: &dyn Fn(usize, HostBudget) -> Result<ComponentPlan>,
) -> Result<Vec<(usize, ComponentPlan)>> {
    let (mut used, mut locked) = (Bytes::ZERO, Bytes::ZERO);
    let mut plans = Vec::with_capacity(order.len());
    for (turn, &n) in order.iter().enumerate() {
        let left = if turn + 1 < order.len() { left } else { Bytes::ZERO };
        let own = HostBudget {
            bytes: host.bytes.saturating_sub(used.saturating_add(left)),
            lockable: host.lockable.saturating_sub(locked.saturating_add(left)),
        };
        let plan = plan(n, own)?;
        if let Some(own) = &plan.host {
            used = used.saturating_add(own.bytes());
            locked = locked.saturating_add(own.locked);
        }
        plans.push((n, plan));
    }
    Ok(plans)
}
