//! Turns spans and samples into no more marks than a picture has columns.
//!
//! ```text
//! spans    █|█|█|███████|█|█
//! columns  ──── ──── ──── ────        spans that start within one column become one slice with a count
//! slices   ▓3▓  ███████  ▓2▓
//! ```

use crate::lane::Lane;
use crate::profile::{Profile, Span, Stall, VramSample};
use crate::units::{Bytes, Nanos};

/// One mark on a lane: a span, or several that start within one column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slice {
    /// Start of the first span in it.
    pub start: Nanos,
    /// Last end of the spans in it.
    pub end: Nanos,
    /// Index in the profile of the one that lasts longest: what it is called and coloured by.
    pub span: usize,
    /// How many spans it stands for.
    pub count: u64,
    /// How long they ran, together.
    pub busy: Nanos,
    /// Where the next slice begins; its own end for the last.
    pub until: Nanos,
}

impl Slice {
    /// How much of `height` to fill: all of it for one span, the busy share of the time up to the next mark for
    /// several, which must not look busier than they are.
    pub fn fill(&self, height: u32) -> u32 {
        filled(height, self.count, self.busy, self.until.saturating_sub(self.start))
    }
}

/// A stall, or several that start within one column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StallSlice<'a> {
    /// The first of them.
    pub stall: &'a Stall,
    /// Their last end.
    pub end: Nanos,
    /// How many there are.
    pub count: u64,
    /// How long they lasted, together.
    pub busy: Nanos,
    /// Where the next slice begins; its own end for the last.
    pub until: Nanos,
}

impl StallSlice<'_> {
    /// As [`Slice::fill`].
    pub fn fill(&self, height: u32) -> u32 {
        filled(height, self.count, self.busy, self.until.saturating_sub(self.stall.needed_at))
    }
}

fn filled(height: u32, count: u64, busy: Nanos, of: Nanos) -> u32 {
    if count <= 1 || busy >= of {
        return height;
    }
    let part = u128::from(busy.get()) * u128::from(height) + u128::from(of.get()) / 2;
    let fill = part.checked_div(u128::from(of.get())).unwrap_or(0);
    u32::try_from(fill).unwrap_or(height).clamp(height.min(1), height)
}

/// A half-open range of time with its columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// From here.
    pub start: Nanos,
    /// To here, exclusive.
    pub end: Nanos,
}

impl Window {
    /// End minus start, at least 1 ns so that it can be divided by.
    pub fn length(&self) -> u64 {
        self.end.get().saturating_sub(self.start.get()).max(1)
    }

    /// The time of one of `columns`, at least 1 ns.
    pub fn column(&self, columns: u64) -> Nanos {
        Nanos::new((self.length() / columns.max(1)).max(1))
    }

    /// Where an instant lies on `width` units, clamped to the window.
    pub fn place(&self, at: Nanos, width: u32) -> u32 {
        let inside = at.max(self.start).min(self.end).get() - self.start.get();
        let place = u128::from(inside) * u128::from(width) / u128::from(self.length());
        u32::try_from(place).unwrap_or(width)
    }

    /// [`Window::place`] rounded up: where a mark ends that covers every column it touches. Marks that touch in
    /// time then touch on paper, however narrow they are.
    pub fn place_end(&self, at: Nanos, width: u32) -> u32 {
        let inside = at.max(self.start).min(self.end).get() - self.start.get();
        let place = (u128::from(inside) * u128::from(width)).div_ceil(u128::from(self.length()));
        u32::try_from(place).unwrap_or(width)
    }
}

/// Intervals in order of their starts; those that begin within the same column in one.
pub fn in_columns(
    intervals: impl IntoIterator<Item = (Nanos, Nanos)>,
    column: Nanos,
) -> Vec<(Nanos, Nanos)> {
    let mut merged: Vec<(Nanos, Nanos)> = Vec::new();
    for (start, end) in intervals {
        match merged.last_mut() {
            Some(last) if start < last.0.saturating_add(column) => last.1 = last.1.max(end),
            _ => merged.push((start, end)),
        }
    }
    merged
}

/// The slices of one lane that touch the window; spans that start less than `column` apart are merged.
pub fn slices(profile: &Profile, lane: Lane, window: Window, column: Nanos) -> Vec<Slice> {
    let touches = |span: &Span| span.start < window.end && span.end > window.start;
    let on_lane = |(_, span): &(usize, &Span)| span.lane == lane && touches(span);
    let mut merged: Vec<Slice> = Vec::new();
    for (index, span) in profile.spans.iter().enumerate().filter(on_lane) {
        match merged.last_mut() {
            Some(last) if span.start < last.start.saturating_add(column) => {
                last.end = last.end.max(span.end);
                last.count += 1;
                last.busy = last.busy.saturating_add(span.duration());
                if span.duration() > profile.spans[last.span].duration() {
                    last.span = index;
                }
            }
            _ => {
                let (start, end, busy) = (span.start, span.end, span.duration());
                merged.push(Slice { start, end, span: index, count: 1, busy, until: end });
            }
        }
    }
    for index in 1..merged.len() {
        merged[index - 1].until = merged[index].start;
    }
    for slice in &mut merged {
        slice.until = slice.until.max(slice.end.min(window.end));
    }
    merged
}

/// How many spans do not have a slice of their own.
pub fn merged_away(slices: &[Slice]) -> u64 {
    slices.iter().map(|slice| slice.count - 1).sum()
}

/// What a picture says of them, after its title; nothing where every span has its mark. `report.js` says the same.
pub fn merged_note(merged: u64) -> String {
    match merged {
        0 => String::new(),
        1 => "; 1 span merged into its neighbour".to_owned(),
        more => format!("; {more} spans merged into neighbours, marks as high as the lane is busy"),
    }
}

/// The stalls that touch the window, merged like spans.
pub fn stall_slices(stalls: &[Stall], window: Window, column: Nanos) -> Vec<StallSlice<'_>> {
    let mut merged: Vec<StallSlice<'_>> = Vec::new();
    for stall in stalls {
        let end = stall.needed_at.saturating_add(stall.late_by);
        if stall.needed_at >= window.end || end <= window.start {
            continue;
        }
        match merged.last_mut() {
            Some(last) if stall.needed_at < last.stall.needed_at.saturating_add(column) => {
                (last.end, last.count) = (last.end.max(end), last.count + 1);
                last.busy = last.busy.saturating_add(stall.late_by);
            }
            _ => merged.push(StallSlice { stall, end, count: 1, busy: stall.late_by, until: end }),
        }
    }
    for index in 1..merged.len() {
        merged[index - 1].until = merged[index].stall.needed_at.max(merged[index - 1].end);
    }
    for slice in &mut merged {
        slice.until = slice.until.max(slice.end);
    }
    merged
}

/// Steps of VRAM in use within the window, at most one per column: the highest use within each column.
pub fn envelope(samples: &[VramSample], window: Window, column: Nanos) -> Vec<(Nanos, Bytes)> {
    let first = samples.partition_point(|sample| sample.at <= window.start);
    let before = first.checked_sub(1).map_or(Bytes::ZERO, |index| samples[index].in_use);
    let inside = samples[first..].iter().take_while(|sample| sample.at < window.end);
    // Each step: its start, the highest use in its column, the use with which the column ends.
    let mut steps = vec![(window.start, before, before)];
    for sample in inside {
        match steps.last_mut() {
            Some(last) if sample.at < last.0.saturating_add(column) => {
                *last = (last.0, last.1.max(sample.in_use), sample.in_use);
            }
            _ => {
                let fell = steps.last().filter(|last| last.1 > last.2).map(|last| (last.0, last.2));
                if let Some((start, now)) = fell {
                    let at = start.saturating_add(column);
                    if at < sample.at {
                        steps.push((at, now, now));
                    }
                }
                steps.push((sample.at, sample.in_use, sample.in_use));
            }
        }
    }
    if let Some(&(start, high, now)) = steps.last().filter(|last| last.1 > last.2) {
        debug_assert!(high > now);
        let at = start.saturating_add(column);
        if at < window.end {
            steps.push((at, now, now));
        }
    }
    steps.into_iter().map(|(at, high, _)| (at, high)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::fixture;
    use proptest::prelude::*;

    fn whole(profile: &Profile) -> Window {
        let (start, end) = crate::profile::extent(profile);
        Window { start, end }
    }

    #[test]
    fn wide_spans_stay_as_they_are() {
        let profile = fixture::small();
        let slices = slices(&profile, Lane::Compute, whole(&profile), Nanos::new(1_000_000));
        assert_eq!((slices.len(), merged_away(&slices)), (9, 0));
    }

    #[test]
    fn spans_within_a_column_become_one_slice() {
        let profile = fixture::small();
        let slices = slices(&profile, Lane::Compute, whole(&profile), Nanos::new(130_000_000));
        let counts: Vec<u64> = slices.iter().map(|slice| slice.count).collect();
        assert_eq!(counts, [3, 3, 3]);
    }

    #[test]
    fn merged_spans_look_as_busy_as_they_are() {
        let mut profile = fixture::small();
        // Every compute loses half its time: the lane is half as busy.
        profile.spans.retain(|span| span.lane == Lane::Compute);
        for span in &mut profile.spans {
            span.end = Nanos::new((span.start.get() + span.end.get()) / 2);
        }
        let wide = slices(&profile, Lane::Compute, whole(&profile), Nanos::new(130_000_000));
        assert!(wide.iter().all(|slice| (40..=60).contains(&slice.fill(100))), "{wide:?}");
        let narrow = slices(&profile, Lane::Compute, whole(&profile), Nanos::new(1));
        assert!(narrow.iter().all(|slice| slice.fill(100) == 100));
    }

    proptest! {
        #[test]
        fn no_span_is_lost_and_slices_stand_a_column_apart(
            profile in fixture::any(), column in 1u64..60,
        ) {
            let window = whole(&profile);
            let slices = slices(&profile, Lane::Compute, window, Nanos::new(column));
            let spans = profile.spans.iter().filter(|span| span.lane == Lane::Compute).count();
            prop_assert_eq!(slices.len() as u64 + merged_away(&slices), spans as u64);
            let apart = |pair: &[Slice]| pair[1].start.get() - pair[0].start.get() >= column;
            prop_assert!(slices.windows(2).all(apart));
        }

        #[test]
        fn the_envelope_keeps_the_peak(profile in fixture::any(), column in 1u64..60) {
            let steps = envelope(&profile.vram, whole(&profile), Nanos::new(column));
            let end = whole(&profile).end;
            let inside = profile.vram.iter().filter(|sample| sample.at < end);
            let peak = inside.map(|sample| sample.in_use).max().unwrap_or_default();
            prop_assert_eq!(steps.iter().map(|step| step.1).max(), Some(peak));
            prop_assert!(steps.windows(2).all(|pair| pair[0].0 < pair[1].0));
        }

        #[test]
        fn a_narrow_column_changes_nothing(profile in fixture::any()) {
            let steps = envelope(&profile.vram, whole(&profile), Nanos::new(1));
            for (at, in_use) in steps {
                let holds = profile.vram.iter().rfind(|sample| sample.at <= at);
                prop_assert_eq!(in_use, holds.map_or(Bytes::ZERO, |sample| sample.in_use));
            }
        }
    }
}
