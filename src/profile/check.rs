//! Turns a profile that was just read into the list of everything in it that cannot be right.
//!
//! A report may then rely on: components with as many sizes as blocks, spans sorted by start then lane, indices in
//! range, ends not before starts, one span at a time per lane, samples in order of time and within the slab, names of
//! at most [`LONGEST`] bytes without control characters: every row of `spans.csv` repeats some of them.

use std::collections::BTreeSet;

use super::{PROFILE_FORMAT, Profile, Span, WaitedFor};
use crate::error::Problem;
use crate::lane::Lane;
use crate::units::{Bytes, Nanos};

/// Problems listed at most; a hostile file must not make a list larger than itself.
const MOST: usize = 1_000;

/// Bytes of a name at most.
const LONGEST: usize = 1_024;

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
    let named = [
        ("model", &header.model),
        ("plan_digest", &header.plan_digest),
        ("backend", &header.backend),
        ("device", &header.device),
        ("clock", &header.clock),
        ("tool_version", &header.tool_version),
    ];
    for (field, text) in named {
        name(&format!("header.{field}"), text, found);
    }
    if let Some(rank) = &header.rank {
        name("header.rank", rank, found);
    }
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
        name(&format!("{place}.name"), &component.name, found);
        if !names.insert(&component.name) {
            let again = format!("{:?} again", shortened(&component.name));
            found.push(Problem::new(format!("{place}.name"), again, "one component of each name"));
        }
        for (block, id) in component.blocks.iter().enumerate() {
            name(&format!("{place}.blocks[{block}]"), id, found);
        }
        if let Some(bound) = &component.bound {
            name(&format!("{place}.bound.binding"), &bound.binding, found);
        }
        if component.bytes.len() != component.blocks.len() {
            let sizes = format!("{} sizes", component.bytes.len());
            let blocks = format!("one for each of {} blocks", component.blocks.len());
            found.push(Problem::new(format!("{place}.bytes"), sizes, blocks));
        }
        if !component.on_link.is_empty() && component.on_link.len() != component.blocks.len() {
            let times = format!("{} times", component.on_link.len());
            let blocks = format!("one for each of {} blocks, or none", component.blocks.len());
            found.push(Problem::new(format!("{place}.on_link"), times, blocks));
        }
    }
}

/// Refuses a name that could bloat or garble what repeats it.
fn name(place: &str, text: &str, found: &mut Vec<Problem>) {
    if found.len() >= MOST {
        return;
    }
    let expected = format!("a name of at most {LONGEST} bytes without control characters");
    if text.len() > LONGEST {
        let what = format!("{} bytes that begin {:?}", text.len(), shortened(text));
        found.push(Problem::new(place, what, expected));
    } else if text.chars().any(char::is_control) {
        found.push(Problem::new(place, format!("{:?}", shortened(text)), expected));
    }
}

/// The first characters of a name, up to its first control character, that one included.
fn shortened(text: &str) -> String {
    const SHOWN: usize = 40;
    let control = text.chars().position(char::is_control).map_or(0, |at| at + 1);
    text.chars().skip(control.saturating_sub(SHOWN)).take(SHOWN).collect()
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
    fn names_that_bloat_or_garble_are_refused() {
        let mut profile = fixture::small();
        profile.header.model = "m".repeat(3_000);
        profile.header.device = format!("{}\u{1b}[2J card", "d".repeat(500));
        profile.header.components[0].name = "a\nb".into();
        profile.header.components[0].blocks[1] = "n".repeat(LONGEST);
        profile.header.components[0].blocks[2] = "n".repeat(LONGEST + 1);
        let list: Vec<String> = problems(&profile).iter().map(ToString::to_string).collect();
        expect_test::expect![[r#"
            header.model: found 3000 bytes that begin "mmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmm", expected a name of at most 1024 bytes without control characters
            header.device: found "ddddddddddddddddddddddddddddddddddddddd\u{1b}", expected a name of at most 1024 bytes without control characters
            header.components[0].name: found "a\nb", expected a name of at most 1024 bytes without control characters
            header.components[0].blocks[2]: found 1025 bytes that begin "nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn", expected a name of at most 1024 bytes without control characters
        "#]].assert_eq(&(list.join("\n") + "\n"));
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
