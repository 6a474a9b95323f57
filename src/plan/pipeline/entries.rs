//! Turns the places of all components into what the first copy of each piece waits for.
//!
//! A piece takes the bytes of whatever lay there before, in order of use back to the component itself a generation
//! ago. Uses are computed one after the other, so the last use of any of it stands for all the others.

use super::super::refs::{Entry, UseRef};
use super::super::spec::{ComponentPlan, Piece, ROOT, Residency};

/// Passes back that an entry names at most; an earlier use is named as this one, which is later and so as safe.
const FURTHEST: u32 = 1;

/// Bytes of a component, and their last use: how many passes before its last, and which.
struct Held {
    from: u64,
    to: u64,
    passes_back: u32,
    block: usize,
}

/// Everything that lies somewhere while a component is in use.
fn held(plan: &ComponentPlan, lent: Option<(u64, u64)>) -> Vec<Held> {
    let last = plan.blocks.len().saturating_sub(1);
    let index = |id: &str| plan.blocks.iter().position(|block| block.block == id);
    let mut all = Vec::new();
    for (b, block) in plan.blocks.iter().enumerate() {
        for piece in block.pieces.iter().filter(|piece| !piece.bytes.is_zero()) {
            let range = |at: u64| (at, at.saturating_add(piece.bytes.get()));
            match &piece.residency {
                Residency::Resident => {
                    let (from, to) = range(piece.at.first().copied().unwrap_or(0));
                    let block = if block.block == ROOT { last } else { b };
                    all.push(Held { from, to, passes_back: 0, block });
                }
                Residency::Streamed(stream) => {
                    let until = stream.held_until.as_deref().and_then(index).unwrap_or(b);
                    let turns = u32::try_from(piece.at.len()).unwrap_or(u32::MAX).max(1);
                    for (turn, &at) in piece.at.iter().enumerate() {
                        let turn = u32::try_from(turn).unwrap_or(0);
                        let passes_back = (plan.passes - 1 + turns - turn) % turns;
                        if passes_back < plan.passes {
                            let (from, to) = range(at);
                            all.push(Held { from, to, passes_back, block: until });
                        }
                    }
                }
            }
        }
    }
    let lent = lent.filter(|(from, to)| from < to);
    all.extend(lent.map(|(from, to)| Held { from, to, passes_back: 0, block: last }));
    all.sort_by_key(|held| held.from);
    all
}

/// What lies in any of these bytes last.
fn last_of<'a>(held: &'a [Held], piece: &Piece) -> Option<&'a Held> {
    let mut found: Option<&Held> = None;
    for &at in &piece.at {
        let (from, to) = (at, at.saturating_add(piece.bytes.get()));
        let before = held.partition_point(|held| held.from < to);
        let overlapping = held[..before].iter().filter(|held| held.to > from);
        let key = |held: &Held| (std::cmp::Reverse(held.passes_back), held.block);
        found = found.into_iter().chain(overlapping).max_by_key(|held| key(held));
    }
    found
}

/// Writes what every piece waits for, and whether it is kept. `lent` are the bytes that each component's activations
/// take of the slab.
pub(super) fn write_entries(plans: &mut [ComponentPlan], lent: &[Option<(u64, u64)>]) {
    let held: Vec<Vec<Held>> =
        plans.iter().zip(lent).map(|(plan, &lent)| held(plan, lent)).collect();
    let count = plans.len();
    let names: Vec<(String, Vec<String>)> = plans
        .iter()
        .map(|plan| {
            let blocks = plan.blocks.iter().map(|block| block.block.clone());
            (plan.name.clone(), blocks.collect())
        })
        .collect();
    for (own, plan) in plans.iter_mut().enumerate() {
        for piece in plan.blocks.iter_mut().flat_map(|block| &mut block.pieces) {
            let before = (1..count).map(|back| (own + count - back) % count);
            let taken = before.clone().find_map(|n| Some((n, last_of(&held[n], piece)?)));
            piece.kept = taken.is_none() && piece.residency == Residency::Resident;
            // Itself, a generation ago.
            let taken = taken.or_else(|| {
                let own = last_of(&held[own], piece).map(|held| (own, held));
                own.filter(|_| !piece.kept)
            });
            piece.enters_after = Some(match taken {
                None => Entry::Start,
                Some((n, held)) => Entry::Use {
                    component: names[n].0.clone(),
                    of: UseRef {
                        block: names[n].1[held.block].clone(),
                        passes_back: held.passes_back.min(FURTHEST),
                    },
                },
            });
        }
    }
}
