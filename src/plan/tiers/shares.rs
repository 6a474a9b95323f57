//! Turns a choice of what streams into homes: which of its bytes are pinned, which pageable, which come from disk.
//!
//! Each block's streamed tail is laid out as `[pinned | pageable | disk]`. How much of every block comes from disk is the
//! planner's own question one tier down, and has the same answer (`plan::matching`): what the disk brings between
//! the ends of two uses takes the place of what was used last. What is from disk is cut into chunks, so that the ring
//! need not hold a whole block and a copy can begin before all of it is read.

use crate::plan::choice::{Choice, Evaluated};
use crate::plan::instance::{Instance, Run, Use};
use crate::plan::matching;
use crate::plan::spec::HostMemory;
use crate::units::Bytes;

/// How often the share of a tier is corrected by what rounding left over.
const CORRECTIONS: usize = 12;

/// Room on the host for streamed bytes, and how finely they may be divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Room {
    /// Bytes that can be pinned.
    pub pinned: u64,
    /// Bytes that can be kept, pinned or not.
    pub kept: u64,
    /// The largest chunk from disk.
    pub chunk: u64,
    /// Less than this of a block is not worth a read of its own.
    pub least: u64,
    /// Whether blocks are whole in one home.
    pub whole: bool,
}

/// A choice whose copies each come from one home.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Homes {
    /// The choice.
    pub choice: Choice,
    /// By use and copy.
    pub from: Vec<Vec<HostMemory>>,
}

impl Homes {
    /// The largest copy that comes from disk, aligned.
    pub fn largest_read(&self, alignment: u64) -> u64 {
        let copies = self.choice.copies.iter().flatten().zip(self.from.iter().flatten());
        let reads = copies.filter(|(_, from)| **from == HostMemory::Disk);
        reads.map(|(run, _)| run.bytes().align_up(alignment).get()).max().unwrap_or(0)
    }
}

/// Gives every streamed byte a home. `gaps[n]` is the time from the end of use `n` to that of the next.
pub(super) fn homes(instance: &Instance, found: &Evaluated, gaps: &[u64], room: Room) -> Homes {
    let tails: Vec<(u64, u64)> = found
        .choice
        .copies
        .iter()
        .zip(&instance.uses)
        .map(|(runs, used)| {
            (runs.first().map_or(used.bytes.get(), |run| run.from), used.bytes.get())
        })
        .collect();
    let disk = cuts(instance, &tails, gaps, room.kept, room);
    let kept: Vec<(u64, u64)> = tails.iter().zip(&disk).map(|(tail, &cut)| (tail.0, cut)).collect();
    let pageable = cuts(instance, &kept, gaps, room.pinned, room);
    let mut homes = Homes { choice: found.choice.clone(), from: Vec::new() };
    for (n, used) in instance.uses.iter().enumerate() {
        let runs = std::mem::take(&mut homes.choice.copies[n]);
        let mut from = Vec::with_capacity(runs.len());
        for run in runs {
            for (part, home) in parted(run, pageable[n], disk[n]) {
                let chunks = match home {
                    HostMemory::Disk if !room.whole => chunks(used, part, room.chunk),
                    _ => vec![part],
                };
                from.extend(chunks.iter().map(|_| home));
                homes.choice.copies[n].extend(chunks);
            }
        }
        homes.from.push(from);
    }
    homes
}

/// The parts of a run on both sides of two cuts, with their homes; empty ones left out.
fn parted(run: Run, pageable: u64, disk: u64) -> impl Iterator<Item = (Run, HostMemory)> {
    let edge = |cut: u64| cut.clamp(run.from, run.to);
    let parts = [
        (Run { to: edge(pageable), ..run }, HostMemory::Pinned),
        (Run { from: edge(pageable), to: edge(disk) }, HostMemory::Pageable),
        (Run { from: edge(disk), ..run }, HostMemory::Disk),
    ];
    parts.into_iter().filter(|(part, _)| part.from < part.to)
}

/// Where the end of each region begins that goes to the next tier, so that no more than `stays` bytes do not.
fn cuts(
    instance: &Instance,
    regions: &[(u64, u64)],
    gaps: &[u64],
    stays: u64,
    room: Room,
) -> Vec<u64> {
    let alignment = instance.device.alignment;
    let aligned = |from: u64, to: u64| Bytes::new(to - from).align_up(alignment).get();
    let sizes: Vec<u64> = regions.iter().map(|&(from, to)| to - from).collect();
    let all: u64 = regions.iter().map(|&(from, to)| aligned(from, to)).sum();
    let mut total = all.saturating_sub(stays);
    if total == 0 {
        return regions.iter().map(|&(_, to)| to).collect();
    }
    for _ in 0..CORRECTIONS {
        let wanted = matching::shares(&sizes, gaps, total.min(sizes.iter().sum()));
        let cuts = rounded(&instance.uses, regions, &wanted, room);
        let kept: u64 =
            regions.iter().zip(&cuts).map(|(&(from, _), &cut)| aligned(from, cut)).sum();
        if kept <= stays {
            return cuts;
        }
        total = total.saturating_add((kept - stays).max(room.least));
    }
    regions.iter().map(|&(from, _)| from).collect()
}

/// Shares rounded to places where blocks may be cut; what is missing or too much is handed on to the next.
fn rounded(uses: &[Use], regions: &[(u64, u64)], wanted: &[u64], room: Room) -> Vec<u64> {
    let mut error = 0i128;
    let mut cuts = Vec::with_capacity(regions.len());
    for ((used, &(from, to)), &wanted) in uses.iter().zip(regions).zip(wanted) {
        let size = to - from;
        let target = (i128::from(wanted) + error).clamp(0, i128::from(size));
        let target = u64::try_from(target).unwrap_or(0);
        let cut = match room.whole {
            true if target >= size - target => from,
            true => to,
            false if target < room.least.min(size) => to,
            false => used.cut_near(to - target).clamp(from, to),
        };
        error += i128::from(wanted) - i128::from(to - cut);
        let most = i128::from(used.bytes.get());
        error = error.clamp(-most, most);
        cuts.push(cut);
    }
    cuts
}

/// Cuts a run into about equal chunks, none above `most` bytes where the block can be cut that finely.
pub(super) fn chunks(used: &Use, run: Run, most: u64) -> Vec<Run> {
    let most = most.max(1);
    let mut chunks = Vec::new();
    let mut from = run.from;
    while from < run.to {
        let left = (run.to - from).div_ceil(most);
        let near = used.cut_near(from + (run.to - from).div_ceil(left));
        let to =
            if near > from && near - from <= most { near } else { used.cut_before(from + most) };
        let to = if left == 1 { run.to } else { to };
        // Where nothing may be cut within reach, the chunk goes on to the next place that may.
        let to = if to > from { to } else { used.cut_after(from + most) };
        let to = to.min(run.to);
        chunks.push(Run { from, to });
        from = to;
    }
    chunks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::BlockPart;

    fn used(bytes: u64, row: u64) -> Use {
        let mut instance = Instance::equal(1, bytes, 1, bytes);
        instance.uses[0].parts = vec![BlockPart::rows("w", Bytes::new(bytes), Bytes::new(row))];
        instance.uses.remove(0)
    }

    #[test]
    fn chunks_are_even_whole_rows_and_no_larger_than_asked() {
        let run = Run { from: 10, to: 110 };
        let of =
            |used: &Use, most| chunks(used, run, most).iter().map(|c| c.to).collect::<Vec<_>>();
        assert_eq!(of(&used(110, 1), 40), [44, 77, 110]);
        assert_eq!(of(&used(110, 10), 40), [40, 70, 110]);
        assert_eq!(of(&used(110, 1), 1_000), [110]);
        // Rows larger than a chunk stay whole.
        assert_eq!(of(&used(110, 55), 20), [55, 110]);
    }

    #[test]
    fn what_does_not_fit_comes_from_disk_in_part_of_every_block() {
        let mut instance = Instance::equal(4, 40, 10, 100);
        for used in &mut instance.uses {
            used.parts = vec![BlockPart::rows("w", used.bytes, Bytes::new(1))];
        }
        let choice = Choice::whole(&instance, &[true; 4]).expect("fits");
        let found = choice.evaluate(&instance).expect("fits");
        let room = Room { pinned: 60, kept: 100, chunk: 10, least: 1, whole: false };
        let homes = homes(&instance, &found, &[10; 4], room);
        let of = |home| -> u64 {
            let copies = homes.choice.copies.iter().flatten().zip(homes.from.iter().flatten());
            copies.filter(|(_, from)| **from == home).map(|(run, _)| run.bytes().get()).sum()
        };
        assert_eq!(of(HostMemory::Disk), 60);
        assert_eq!(of(HostMemory::Pageable), 40);
        assert_eq!(of(HostMemory::Pinned), 60);
        assert!(homes.largest_read(1) <= 10);
        assert!(homes.from.iter().all(|from| from.contains(&HostMemory::Disk)));
    }
}
