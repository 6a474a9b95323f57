//! Turns a component's plan into the same plan at other offsets of the slab.
//!
//! What a component needs first should lie where the one before it is done first. Residents are used in order, and
//! so die in order; root and window are needed until the end. Three ways to lay a component out, of which the
//! pipeline's evaluation picks:
//!
//! ```text
//! RootFirst     [ root ][ r0 ][ r1 ] … [ rn ][ window ]       as a component alone
//! WindowFirst   [ window ][ root ][ r0 ][ r1 ] … [ rn ]
//! Turned        [ r(k) … rn ][ window ][ root ][ r0 ] … ]     WindowFirst, turned so that the window begins where
//!                                                             the residents of the component before begin
//! ```

use super::super::spec::{ComponentPlan, Piece, ROOT, Residency};
use crate::units::Bytes;

/// A part of the slab: from here, to there.
pub(super) type Region = (u64, u64);

/// An order of a component's bytes in its region.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    RootFirst,
    WindowFirst,
    Turned,
}

impl Order {
    pub const ALL: [Self; 3] = [Self::RootFirst, Self::WindowFirst, Self::Turned];
}

/// What is moved as one.
#[derive(Debug, Clone, Copy)]
enum Item {
    Window,
    /// A resident piece, by block and piece.
    Resident(usize, usize),
}

/// The plan with its bytes laid out in a region in this order. `turn` is where [`Order::Turned`] begins. The region
/// must hold them; with more than one offset per resident piece nothing is moved.
pub(super) fn arranged(
    plan: &ComponentPlan,
    order: Order,
    (from, to): Region,
    turn: u64,
    alignment: u64,
) -> ComponentPlan {
    let mut plan = plan.clone();
    let window = plan.slab.window.align_up(alignment).get();
    let items = items(&plan, order, window);
    let size = |item: &Item| match *item {
        Item::Window => window,
        Item::Resident(block, piece) => {
            plan.blocks[block].pieces[piece].bytes.align_up(alignment).get()
        }
    };
    // How many items lie behind the turn, up to the end of the region; the rest begins at its start.
    let mut behind = 0;
    let mut start = from;
    if order == Order::Turned {
        let mut room = to.saturating_sub(turn.clamp(from, to));
        while let Some(item) = items.get(behind).filter(|item| size(item) <= room) {
            room -= size(item);
            behind += 1;
        }
        start = to - items[..behind].iter().map(size).sum::<u64>();
        start -= start % alignment;
    }
    let all_behind = behind == items.len() || order != Order::Turned;
    let mut at = if all_behind && order == Order::Turned { turn.clamp(from, start) } else { start };
    at -= at % alignment;
    let mut highest = at;
    let mut places = Vec::with_capacity(items.len());
    for (n, item) in items.iter().enumerate() {
        if n == behind && !all_behind {
            at = from;
        }
        places.push(at);
        at += size(item);
        highest = highest.max(at);
    }
    let old_window = plan.slab.resident.get();
    for (item, at) in items.iter().zip(places) {
        match *item {
            Item::Window => move_window(&mut plan, old_window, at),
            Item::Resident(block, piece) => plan.blocks[block].pieces[piece].at = vec![at],
        }
    }
    plan.slab.bytes = Bytes::new(highest);
    plan
}

/// The items in order; the window only where there is one.
fn items(plan: &ComponentPlan, order: Order, window: u64) -> Vec<Item> {
    let mut residents = Vec::new();
    let mut root = Vec::new();
    for (b, block) in plan.blocks.iter().enumerate() {
        let stays = |piece: &&(usize, &Piece)| piece.1.residency == Residency::Resident;
        for (p, _) in block.pieces.iter().enumerate().filter(|piece| stays(&piece)) {
            let of = if block.block == ROOT { &mut root } else { &mut residents };
            of.push(Item::Resident(b, p));
        }
    }
    let window = (window > 0).then_some(Item::Window);
    match order {
        Order::RootFirst => root.into_iter().chain(residents).chain(window).collect(),
        Order::WindowFirst | Order::Turned => {
            window.into_iter().chain(root).chain(residents).collect()
        }
    }
}

fn move_window(plan: &mut ComponentPlan, from: u64, to: u64) {
    for piece in plan.blocks.iter_mut().flat_map(|block| &mut block.pieces) {
        if piece.residency != Residency::Resident {
            for at in &mut piece.at {
                *at = at.saturating_sub(from).saturating_add(to);
            }
        }
    }
}

/// Where the residents of a component begin that are used first: where the next may turn.
pub(super) fn first_resident(plan: &ComponentPlan) -> Option<u64> {
    let blocks = plan.blocks.iter().filter(|block| block.block != ROOT);
    let mut pieces = blocks.flat_map(|block| &block.pieces);
    let first = pieces.find(|piece| piece.residency == Residency::Resident)?;
    first.at.first().copied()
}
