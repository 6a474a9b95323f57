//! Turns a profile that was just read into the list of everything in it that cannot be right.
//!
//! A report may then rely on: components with as many sizes as blocks, spans sorted by start then lane, indices in
//! range, ends not before starts, one span at a time per lane, samples in order of time and within the slab.

use std::collections::BTreeSet;

use super::{PROFILE_FORMAT, Profile, Span, WaitedFor};
use crate::error::Problem;
use crate::lane::Lane;
use crate::units::{Bytes, Nanos};

/// Problems listed at most; a hostile file must not make a list larger than itself.
const MOST: usize = 1_000;

/// Everything that is wrong with a profile, in the order of the file; empty when it can be used.
pub(super) fn problems(profile: &Profile) -> Vec<Problem> {
    let mut found = Vec::new();
    header(profile, &mut found);
    spans(profile, &mut found);
    samples(profile, &mut found);
    found.truncate(MOST);
    found
}

fn header(profile: &Profile, found: &mut Vec<Problem>) {
    if profile.format != PROFILE_FORMAT {
        found.push(Problem::new("format", format!("{:?}", profile.format), PROFILE_FORMAT));
    }
    let header = &profile.header;
    if header.window > header.slab {
        found.push(Problem::new(
            "header.window",
            header.window.to_string(),
            format!("at most the slab's {} bytes", header.slab),
        ));
    }
    let mut names = BTreeSet::new();
    for (index, component) in header.components.iter().enumerate() {
        let place = format!("header.components[{index}]");
        if !names.insert(&component.name) {
            let name = format!("{:?} again", component.name);
            found.push(Problem::new(format!("{place}.name"), name, "one component of each name"));
        }
        if component.bytes.len() != component.blocks.len() {
            let sizes = format!("{} sizes", component.bytes.len());
            let blocks = format!("one for each of {} blocks", component.blocks.len());
            found.push(Problem::new(format!("{place}.bytes"), sizes, blocks));
        }
    }
}

fn spans(profile: &Profile, found: &mut Vec<Problem>) {
    let mut lane_end = [Nanos::ZERO; Lane::ALL.len()];
    let mut before = None;
    for (index, span) in profile.spans.iter().enumerate() {
        if found.len() >= MOST {
            return;
        }
        let place = format!("spans[{index}]");
        if span.end < span.start {
            let times = format!("end {} before start {}", span.end.get(), span.start.get());
            found.push(Problem::new(&place, times, "end at or after start"));
        }
        if before.is_some_and(|before| (span.start, span.lane) < before) {
            let start = format!("start {} on {}", span.start.get(), span.lane);
            found.push(Problem::new(&place, start, "spans sorted by start, then lane"));
        }
        before = Some((span.start, span.lane));
        let end = &mut lane_end[span.lane.index()];
        if span.start < *end && span.start < span.end {
            let start =
                format!("start {} while {} runs until {}", span.start.get(), span.lane, end.get());
            found.push(Problem::new(&place, start, "one span at a time on a lane"));
        }
        *end = (*end).max(span.end);
        indices(profile, span, &place, found);
    }
}

fn indices(profile: &Profile, span: &Span, place: &str, found: &mut Vec<Problem>) {
    let own = (span.component, span.block, span.pass);
    in_range(profile, own, place, found);
    if let Some(WaitedFor { component, block, pass, .. }) = span.waited_for {
        in_range(profile, (component, block, pass), &format!("{place}.waited_for"), found);
    }
}

fn in_range(profile: &Profile, at: (u32, u32, u32), place: &str, found: &mut Vec<Problem>) {
    let (component, block, pass) = at;
    let components = &profile.header.components;
    let mut refuse = |field: &str, value: u32, count: usize| {
        let expected = format!("an index below {count}");
        found.push(Problem::new(format!("{place}.{field}"), value.to_string(), expected));
    };
    let Some(header) = components.get(component as usize) else {
        return refuse("component", component, components.len());
    };
    if block as usize >= header.blocks.len() {
        refuse("block", block, header.blocks.len());
    }
    if pass >= header.passes {
        refuse("pass", pass, header.passes as usize);
    }
}

fn samples(profile: &Profile, found: &mut Vec<Problem>) {
    let mut before = Nanos::ZERO;
    for (index, sample) in profile.vram.iter().enumerate() {
        if found.len() >= MOST {
            return;
        }
        let place = format!("vram[{index}]");
        if sample.at < before {
            let at = format!("at {} after {}", sample.at.get(), before.get());
            found.push(Problem::new(&place, at, "samples in order of time"));
        }
        before = before.max(sample.at);
        if sample.in_use > profile.header.slab {
            let (used, slab): (Bytes, Bytes) = (sample.in_use, profile.header.slab);
            let expected = format!("at most the slab's {slab} bytes");
            found.push(Problem::new(format!("{place}.in_use"), used.to_string(), expected));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::fixture;
    use proptest::prelude::*;

    #[test]
    fn all_problems_of_a_file_are_found_at_once() {
        let mut profile = fixture::small();
        profile.format = "vramplan/profile/2".into();
        profile.header.components[0].bytes.pop();
        profile.header.window = Bytes::new(1 << 50);
        profile.spans[0].block = 9;
        profile.spans[1].end = Nanos::new(1);
        profile.spans.swap(4, 5);
        profile.spans[6].pass = 3;
        profile.vram[1].in_use = Bytes::new(1 << 50);
        let list: Vec<String> = problems(&profile).iter().map(ToString::to_string).collect();
        expect_test::expect_file!["../../tests/golden/profile/problems.txt"]
            .assert_eq(&(list.join("\n") + "\n"));
    }

    #[test]
    fn two_spans_at_a_time_on_a_lane_are_refused() {
        let mut profile = fixture::small();
        let again = profile.spans[0].clone();
        profile.spans.insert(0, again);
        let list = problems(&profile);
        assert_eq!((list.len(), list[0].place.as_str()), (1, "spans[1]"));
    }

    #[test]
    fn the_list_stays_bounded() {
        let mut profile = fixture::large();
        for span in &mut profile.spans {
            (span.component, span.waited_for) = (77, None);
        }
        assert_eq!(problems(&profile).len(), MOST);
    }

    proptest! {
        #[test]
        fn what_the_builder_makes_is_right(profile in fixture::any()) {
            prop_assert_eq!(problems(&profile), vec![]);
        }
    }
}
