//! Turns the best choice into one with more room in its window, where jitter would hurt and room costs nothing.
//!
//! When copies and compute take about the same time, every late copy is a stall and every long compute an idle link;
//! one more slot takes most of that away (theory, section 6: at balance a jitter of 10 % costs 5.6 % with two slots and
//! 0.9 % with three; more than 10 % off balance two lose at most 1.8 %).

use super::super::choice::{Choice, Evaluated};
use super::super::instance::Instance;
use super::super::margins::reaches;
use super::{Gaps, split, whole};
use crate::units::{Fraction, Nanos};

/// Copies and compute balance when they differ by less than this.
const BALANCE: Fraction = Fraction::from_ppm(100_000);

/// The same choice, or one whose window holds one largest streamed share more and whose pass is the same to within
/// a thousandth.
pub fn with_room(instance: &Instance, gaps: &Gaps, best: Evaluated) -> Evaluated {
    if !balances(instance, &best) {
        return best;
    }
    let share = |n: usize| best.choice.copies[n].iter().map(|run| run.bytes().get()).sum::<u64>();
    let largest = (0..instance.uses.len()).map(share).max().unwrap_or(0);
    let window = best.places.window.saturating_add(largest);
    let whole_blocks =
        (0..instance.uses.len()).all(|n| share(n) == 0 || share(n) == instance.uses[n].bytes.get());
    let roomier = match whole_blocks {
        true => whole::roomier(instance, gaps, window),
        false => split::roomier(instance, gaps, window),
    };
    let same = roomier.filter(|found| reaches(found.pass.ceil(), best.pass.ceil()));
    same.unwrap_or(best)
}

/// Whether the pass is bound neither by copies nor by compute clearly.
fn balances(instance: &Instance, found: &Evaluated) -> bool {
    let compute: Nanos = instance.uses.iter().map(|used| used.compute).sum();
    let copies = copy_time(instance, &found.choice);
    let (less, more) = (compute.min(copies), compute.max(copies));
    !copies.is_zero() && more.saturating_sub(less).get() < BALANCE.share_of(more.get())
}

fn copy_time(instance: &Instance, choice: &Choice) -> Nanos {
    choice.pieces(instance).iter().map(|piece| Nanos::new(piece.copy)).sum()
}
