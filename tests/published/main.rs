//! Turns figures that other engines published into `reports/published.md`: each beside what the simulator says.
//!
//! `figures` holds all that was published and compared; everything else is computed here. A row that is claimed as
//! reproduced fails this test when it is further off than 10 %, and one that is not claimed fails it when it comes within.

#![expect(clippy::expect_used, reason = "a test that cannot go on has failed")]

mod boundary;
mod cache_dit;
mod encoders;
mod figures;
mod hopper;
mod model;
mod report;
mod sglang;
mod vllm_omni;

use expect_test::expect_file;

const OPENING: &str = "\
What engines published of their own offload, and what vramplan's policies and simulator say of the same runs. A \
*published* figure was typed in from the source named above its table; a *simulated* one was computed from the headers \
of the real checkpoint, a device spec and a policy; a *fitted* parameter was chosen so that one published figure comes \
out, which is then a calibration point and counts for nothing; so does a figure on which the reading of an unclear \
setting was *decided*. A pair is *reproduced* when the simulated figure is within 10 % of the published one. It only \
*follows* when, given what was fitted or the rows above, hardly anything else could have come out: these are within \
10 % too, but no evidence of their own. *Within rounding* is further off in per cent, but no more than a figure in \
whole units tells. No parameter is fitted on more than one figure, none on a figure that counts; where a claim hangs \
on a choice, its section says what the other choice gives. GB are 10⁹ bytes, GiB 2³⁰. This file is written, and its \
claims are checked, by `UPDATE_EXPECT=1 cargo test --test published`.

A row is here when its figures stand in the stored copy of its source, its model is built in, its device is built in or \
has the link of one that is, and a policy does what the engine did; what of the same tables does not meet this is listed \
at the end. The sources were found with a search by likeness, not by going through every thread: there will be more.";

#[test]
fn published_pairs_are_reproduced_or_said_not_to_be() {
    let pageable = cache_dit::Pageable::new();
    let sections = [
        vllm_omni::section(),
        sglang::section(),
        hopper::section(),
        boundary::section(&pageable),
        cache_dit::section(&pageable),
        encoders::section(),
    ];
    let text = report::markdown(OPENING, &sections, figures::LEFT_OUT);
    expect_file!["../../reports/published.md"].assert_eq(&text);
}
