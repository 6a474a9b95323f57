//! Turns what a plan says of the host into the list of what is wrong with it: sums, offsets, names, no timing.

use std::collections::BTreeMap;

use super::stage::used_of;
use super::{CopyRef, HostUse};
use crate::error::Problem;
use crate::plan::spec::{ComponentPlan, HostMemory, Piece, Plan};
use crate::units::Bytes;

/// Places that a piece may take turns in, as in the slab.
const MAX_PLACES: usize = 64;

/// Everything that is wrong with a component's host memory.
pub fn problems(place: &str, component: &ComponentPlan, alignment: u64) -> Vec<Problem> {
    let mut problems = Vec::new();
    if let Some(host) = &component.host {
        let real = used_of(component, alignment.max(1), host.budget, host.ring);
        check_sums(&format!("{place}.host"), host, &real, &mut problems);
    }
    let ring = component.host.map(|host| host.ring);
    let counts: BTreeMap<&str, usize> =
        component.blocks.iter().map(|b| (b.block.as_str(), b.pieces.len())).collect();
    for (n, block) in component.blocks.iter().enumerate() {
        for (k, piece) in block.pieces.iter().enumerate() {
            let place = format!("{place}.blocks[{n}].pieces[{k}]");
            check_piece(&place, piece, ring, alignment, &counts, &mut problems);
        }
    }
    problems
}

/// A plan whose components together take more of the host than there is.
pub fn over_budget(plan: &Plan) -> Option<Problem> {
    let budget = plan.budget.host?;
    let used = plan.components.iter().filter_map(|component| component.host.as_ref());
    let all: Bytes = used.map(HostUse::bytes).sum();
    let found = format!("components that take {all}");
    (all > budget).then(|| Problem::new("budget.host", found, format!("at most {budget}")))
}

fn check_sums(place: &str, host: &HostUse, real: &HostUse, problems: &mut Vec<Problem>) {
    let sums = [
        ("pinned", host.pinned, real.pinned),
        ("pageable", host.pageable, real.pageable),
        ("disk", host.disk, real.disk),
        ("locked", host.locked, real.locked),
    ];
    for (field, stated, real) in sums {
        if stated != real {
            let expected = format!("{real}, what its pieces come to");
            problems.push(Problem::new(format!("{place}.{field}"), stated.to_string(), expected));
        }
    }
    if host.bytes() > host.budget {
        let found = format!("{} locked and {} pageable", host.locked, host.pageable);
        let expected = format!("at most the budget of {}", host.budget);
        problems.push(Problem::new(place, found, expected));
    }
    if host.allocator != real.allocator {
        let found = format!("{:?}", host.allocator);
        let expected = format!("{:?}: what we lock with", real.allocator);
        problems.push(Problem::new(format!("{place}.allocator"), found, expected));
    }
}

fn check_piece(
    place: &str,
    piece: &Piece,
    ring: Option<Bytes>,
    alignment: u64,
    counts: &BTreeMap<&str, usize>,
    problems: &mut Vec<Problem>,
) {
    let staged = match (&piece.staged, ring) {
        (None, Some(_)) if piece.home() == HostMemory::Disk && !piece.bytes.is_zero() => {
            problems.push(Problem::new(place, "from: disk", "host_at, a place in the ring"));
            return;
        }
        (None, _) => return,
        (Some(_), None) => {
            let expected = "host: {budget, ring, …} of the component beside it";
            problems.push(Problem::new(
                format!("{place}.host_at"),
                "a place in the ring",
                expected,
            ));
            return;
        }
        (Some(staged), Some(_)) => staged,
    };
    let ring = ring.unwrap_or_default();
    if staged.at.is_empty() || staged.at.len() > MAX_PLACES {
        let found = format!("{} offsets", staged.at.len());
        let expected = format!("one, or at most {MAX_PLACES} used in turn");
        problems.push(Problem::new(format!("{place}.host_at"), found, expected));
    }
    for &at in &staged.at {
        let end = at.checked_add(piece.bytes.get());
        if end.is_none_or(|end| end > ring.get()) || !at.is_multiple_of(alignment.max(1)) {
            let found = format!("{} bytes at {at}", piece.bytes.get());
            let ring = ring.get();
            let expected =
                format!("a multiple of {alignment}, and an end within the ring of {ring}");
            problems.push(Problem::new(format!("{place}.host_at"), found, expected));
        }
    }
    let after = staged.after.as_ref();
    let unknown = |copy: &&CopyRef| {
        counts.get(copy.block.as_str()).is_none_or(|&pieces| copy.piece >= pieces)
    };
    if let Some(copy) = after.filter(unknown) {
        let expected = "a piece of a block of this component";
        problems.push(Problem::new(format!("{place}.read_after"), copy.to_string(), expected));
    }
}
