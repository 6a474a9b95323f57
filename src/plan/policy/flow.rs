//! Turns a recipe into the flow of its copies: before which use each is issued, which use it waits for, and until
//! which use its bytes stay.
//!
//! Positions count uses from the start of the pass that the copy serves; negative ones lie in the pass before.
//!
//! ```text
//! use        … n−2   n−1 │  0     1     2     3        burst of 1: the copy for use 2 is issued before use 1,
//! position   …  −2    −1 │  0     1     2     3        waits for use 0, and its bytes stay until use 2
//! ```

use super::recipe::{Gate, Issue, Recipe};
use super::stays;
use crate::plan::unit::Piece;

/// Passes that the hooks are walked for: what they do repeats from the second on in every known system.
const PASSES: usize = 6;

/// How one streamed unit comes and goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Arc {
    /// The unit.
    pub(super) unit: usize,
    /// Its ring.
    pub(super) ring: usize,
    /// The position before which its copy is issued.
    pub(super) issue: i64,
    /// The position whose use must have ended.
    pub(super) gate: i64,
    /// The position until whose end its bytes stay.
    pub(super) until: usize,
}

/// Which units stream, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Flow {
    pub(super) rings: Vec<Vec<usize>>,
    /// Streamed units in order of execution.
    pub(super) arcs: Vec<Arc>,
}

impl Flow {
    pub(super) fn of(recipe: &Recipe, units: &[Piece]) -> Self {
        let rings = stays::rings(recipe, units);
        let streams = stays::streams(recipe, units, &rings);
        let walk = Walk { recipe, units, rings: &rings, streams: &streams };
        let mut arcs = walk.issued();
        for arc in &mut arcs {
            walk.hold(arc);
        }
        for ring in 0..rings.len() {
            walk.gate(ring, &mut arcs);
        }
        Self { rings, arcs }
    }
}

struct Walk<'a> {
    recipe: &'a Recipe,
    units: &'a [Piece],
    rings: &'a [Vec<usize>],
    streams: &'a [bool],
}

impl Walk<'_> {
    /// Runs the hooks of the host for a few passes and notes where the copies of the last one were issued.
    fn issued(&self) -> Vec<Arc> {
        let count = self.units.len();
        let mut place = vec![None; count];
        for (ring, members) in self.rings.iter().enumerate() {
            members.iter().enumerate().for_each(|(k, &n)| place[n] = Some((ring, k)));
        }
        let mut live = vec![false; count];
        let mut issued = vec![0i64; count];
        let mut arcs = Vec::new();
        for pass in 0..PASSES {
            for n in 0..count {
                let now = signed(pass * count + n);
                if self.streams[n] && !live[n] {
                    (live[n], issued[n]) = (true, now);
                }
                if let Some((ring, k)) = place[n] {
                    for target in self.targets(ring, k) {
                        if self.streams[target] && !live[target] {
                            (live[target], issued[target]) = (true, now);
                        }
                    }
                }
                if self.streams[n] {
                    live[n] = false;
                    if pass + 1 == PASSES {
                        let issue = issued[n] - signed(pass * count);
                        let ring = place[n].map_or(usize::MAX, |(ring, _)| ring);
                        arcs.push(Arc { unit: n, ring, issue, gate: issue - 1, until: n });
                    }
                }
            }
        }
        arcs
    }

    /// What the host asks for at the `k`-th unit of a ring.
    fn targets(&self, ring: usize, k: usize) -> Vec<usize> {
        let members = &self.rings[ring];
        let count = members.len();
        let end = if self.recipe.wraps { k + count } else { count };
        let member = |at: usize| members[at % count];
        match self.recipe.issue {
            Issue::OnDemand | Issue::WhenFree => Vec::new(),
            Issue::Burst(p) if k.is_multiple_of(p) => {
                let ahead = (k + p).min(end)..(k + 2 * p).min(end);
                // The head of a pass that was not fetched in the one before comes at once.
                let head = 0..if k == 0 { p.min(count) } else { 0 };
                head.chain(ahead).map(member).collect()
            }
            Issue::Burst(_) => Vec::new(),
            Issue::Next(p) => {
                let streamed = (k + 1..end).map(member).filter(|&n| self.streams[n]);
                streamed.take(p).collect()
            }
            Issue::Group(g) if self.in_list(members, k).is_multiple_of(g) => {
                let list = self.units[members[k]].list;
                let group = (k..(k + g).min(count)).map(member);
                group.filter(|&n| self.units[n].list == list).collect()
            }
            Issue::Group(_) => Vec::new(),
            Issue::Bucket(bytes) => {
                let streamed = (k + 1..end).map(member).filter(|&n| self.streams[n]);
                let mut sum = 0u64;
                let fits = |&n: &usize| {
                    sum = sum.saturating_add(self.units[n].bytes.get());
                    sum <= bytes
                };
                streamed.take_while(fits).collect()
            }
        }
    }

    /// The position of a ring's member within its list.
    fn in_list(&self, members: &[usize], k: usize) -> usize {
        let list = self.units[members[k]].list;
        members[..k].iter().filter(|&&n| self.units[n].list == list).count()
    }

    /// The root of a pass stays until its end; a block of a group until the group's.
    fn hold(&self, arc: &mut Arc) {
        if self.units[arc.unit].is_root() && self.recipe.root_streams {
            arc.until = self.units.len() - 1;
        } else if self.recipe.group > 1 && arc.ring < self.rings.len() {
            let members = &self.rings[arc.ring];
            let Ok(k) = members.binary_search(&arc.unit) else { return };
            let within = self.in_list(members, k) % self.recipe.group;
            let last = members[k..].iter().take(self.recipe.group - within);
            let list = self.units[arc.unit].list;
            let last = last.copied().rfind(|&n| self.units[n].list == list);
            arc.until = last.unwrap_or(arc.unit);
        }
    }

    /// What the copies of a ring wait for; they start no earlier than they are issued.
    fn gate(&self, ring: usize, arcs: &mut [Arc]) {
        let count = signed(self.units.len());
        let own: Vec<usize> = (0..arcs.len()).filter(|&n| arcs[n].ring == ring).collect();
        let streamed = own.len();
        // The unit that streams so many before the `rank`-th, as a position relative to the pass of that.
        let before = |rank: usize, back: usize| {
            let back = back.min(streamed);
            match rank.checked_sub(back) {
                Some(earlier) => signed(arcs[own[earlier]].unit),
                None => signed(arcs[own[rank + streamed - back]].unit) - count,
            }
        };
        let gates: Vec<i64> = (0..streamed)
            .map(|rank| match self.recipe.gate {
                Gate::Compute => arcs[own[rank]].issue - 1,
                Gate::Slots(slots) => before(rank, slots.max(1)),
                Gate::Rotation(streams) if streams > 1 => before(rank, streams - 1) - 1,
                Gate::Rotation(_) => signed(arcs[own[rank]].unit) - 1,
            })
            .collect();
        for (&n, gate) in own.iter().zip(gates) {
            let arc = &mut arcs[n];
            let released = signed(arc.until) - count;
            let earliest = if self.recipe.wraps { released } else { released.max(-1) };
            arc.gate = gate.max(earliest).min(signed(arc.unit) - 1);
            let asked = match self.recipe.issue {
                Issue::WhenFree => arc.gate + 1,
                _ => arc.issue,
            };
            arc.issue = asked.max(arc.gate + 1).min(signed(arc.unit));
        }
    }
}

pub(super) fn signed(value: usize) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
