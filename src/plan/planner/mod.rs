//! Turns an [`Instance`] into the choice of what stays: whole blocks, evenly spread, exactly evaluated.
//!
//! If everything fits, everything stays. Otherwise some blocks stream through one, two or three equal slots, in
//! order of use, and the others stay. Streamed blocks are spread evenly, so that every copy has compute to hide
//! behind; blocks of different size are spread by size class, since which class streams decides both how much
//! is copied and how large a slot must be.
//!
//! ```text
//! ten blocks, four streamed        ·  █  ·  █  ·  ·  █  ·  █  ·      copy 1 hides under compute 9, 0; copy 3 under 1, 2 …
//! ```
//!
//! Each candidate is built as a real plan and its pass time computed exactly ([`super::timing`]); the best is
//! the one with the shortest pass, then the fewest bytes streamed, then the smallest slab. One slot is tried
//! too: it is the smallest budget that works, and beats two where copies are far longer than compute.

use std::collections::BTreeMap;

use super::cycle::Ratio;
use super::instance::Instance;
use super::schedule::Schedule;
use super::timing;
use crate::error::Result;
use crate::units::Bytes;

/// More candidates than this are not enumerated class by class.
const MAX_CANDIDATES: u64 = 4_096;

/// Which uses stream, through how many slots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// By use: whether its block streams. Uses without bytes never do.
    pub streams: Vec<bool>,
    /// Equal slots in the window; 0 when nothing streams.
    pub slots: u32,
}

impl Choice {
    /// Everything stays.
    pub fn all_resident(instance: &Instance) -> Self {
        Self { streams: vec![false; instance.uses.len()], slots: 0 }
    }

    /// The bytes of one slot: the largest streamed block, aligned.
    pub fn slot_bytes(&self, instance: &Instance) -> Bytes {
        let streamed = (0..self.streams.len()).filter(|&n| self.streams[n]);
        streamed.map(|n| instance.aligned(n)).max().unwrap_or_default()
    }

    /// Slab bytes besides the root: residents and window.
    pub fn slab_bytes(&self, instance: &Instance) -> Bytes {
        let resident = (0..self.streams.len()).filter(|&n| !self.streams[n]);
        let resident: Bytes = resident.map(|n| instance.aligned(n)).sum();
        let window = self.slot_bytes(instance).saturating_mul(u64::from(self.slots));
        resident.saturating_add(window)
    }

    /// Bytes copied in one steady pass.
    pub fn streamed_bytes(&self, instance: &Instance) -> Bytes {
        let streamed = self.streams.iter().zip(&instance.uses).filter(|(streams, _)| **streams);
        streamed.map(|(_, u)| u.bytes).sum()
    }
}

/// The best choice found. `schedule` builds the operations of a choice; the planner knows no other cost.
pub fn choose(
    instance: &Instance,
    schedule: &dyn Fn(&Choice) -> Result<Schedule>,
) -> Result<Option<Choice>> {
    let everything = Choice::all_resident(instance);
    if everything.slab_bytes(instance) <= instance.budget {
        return Ok(Some(everything));
    }
    let mut best: Option<(Ratio, Bytes, Bytes, Choice)> = None;
    for choice in candidates(instance) {
        let pass = timing::steady_pass(&schedule(&choice)?);
        let key = (pass, choice.streamed_bytes(instance), choice.slab_bytes(instance));
        let better = best.as_ref().is_none_or(|(a, b, c, _)| key < (*a, *b, *c));
        if better {
            best = Some((key.0, key.1, key.2, choice));
        }
    }
    Ok(best.map(|(.., choice)| choice))
}

/// Uses with bytes, by aligned size.
fn size_classes(instance: &Instance) -> Vec<Vec<usize>> {
    let mut classes: BTreeMap<Bytes, Vec<usize>> = BTreeMap::new();
    for n in blocks_of(instance) {
        classes.entry(instance.aligned(n)).or_default().push(n);
    }
    classes.into_values().collect()
}

/// Every split worth evaluating: for each number of slots, streamed counts per class of which none can be lowered.
fn candidates(instance: &Instance) -> Vec<Choice> {
    let mut classes = size_classes(instance);
    let splits = classes.iter().fold(1u64, |n, class| n.saturating_mul(class.len() as u64 + 1));
    if classes.len() > 3 || splits > MAX_CANDIDATES {
        let mut all: Vec<usize> = classes.into_iter().flatten().collect();
        all.sort_unstable();
        classes = vec![all];
    }
    let mut choices = Vec::new();
    for slots in 1..=3 {
        let mut counts = vec![0; classes.len()];
        add_splits(instance, &classes, slots, &mut counts, 0, &mut choices);
    }
    choices
}

/// Walks the counts of all classes but the last; of the last class as few stream as fit.
fn add_splits(
    instance: &Instance,
    classes: &[Vec<usize>],
    slots: u32,
    counts: &mut Vec<usize>,
    class: usize,
    choices: &mut Vec<Choice>,
) {
    let last = class + 1 == classes.len();
    for count in 0..=classes[class].len() {
        counts[class] = count;
        if !last {
            add_splits(instance, classes, slots, counts, class + 1, choices);
            continue;
        }
        let choice = spread(instance, classes, counts, slots);
        let streamed = choice.streams.iter().filter(|&&streams| streams).count();
        // More slots than streamed blocks only hold what could stay.
        if streamed >= slots as usize && choice.slab_bytes(instance) <= instance.budget {
            choices.push(choice);
            break;
        }
    }
    counts[class] = 0;
}

/// Streams so many blocks of each class, evenly spread over the class.
fn spread(instance: &Instance, classes: &[Vec<usize>], counts: &[usize], slots: u32) -> Choice {
    let mut streams = vec![false; instance.uses.len()];
    for (class, &count) in classes.iter().zip(counts) {
        for n in evenly(class, count) {
            streams[n] = true;
        }
    }
    Choice { streams, slots }
}

/// So many of these uses, evenly spaced: the middle of each of `count` equal stretches.
pub fn evenly(uses: &[usize], count: usize) -> impl Iterator<Item = usize> {
    (0..count).map(move |n| uses[(2 * n + 1) * uses.len() / (2 * count)])
}

/// Uses that have bytes, in order.
pub fn blocks_of(instance: &Instance) -> Vec<usize> {
    (0..instance.uses.len()).filter(|&n| !instance.uses[n].bytes.is_zero()).collect()
}
