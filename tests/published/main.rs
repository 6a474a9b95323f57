//! Turns figures that other engines published into `reports/published.md`: each beside what the simulator says.
//!
//! `figures` holds all that was published; everything else is computed here. A row that is claimed as reproduced fails
//! this test when it is further off than 10 %, and one that is not claimed fails it when it comes within.

#![expect(clippy::expect_used, reason = "a test that cannot go on has failed")]

mod boundary;
mod cache_dit;
mod encoders;
mod figures;
mod model;
mod report;
mod sglang;
mod vllm_omni;

use expect_test::expect_file;

const OPENING: &str = "\
What engines published of their own offload, and what vramplan's policies and simulator say of the same runs. A \
*published* figure was typed in from the source named above its table; a *simulated* one was computed from the headers \
of the real checkpoint, a device spec and a policy; a *fitted* parameter was chosen so that one published figure comes \
out, which is then a calibration point and counts for nothing. A pair is reproduced when the simulated figure is \
within 10 % of the published one. No parameter is fitted on more than one figure, none on a figure that counts; where a claim hangs on a \
choice, its section says what the other choice gives. GB are \
10⁹ bytes, GiB 2³⁰. This file is written, and its claims are checked, by `UPDATE_EXPECT=1 cargo test --test published`.";

#[test]
fn published_pairs_are_reproduced_or_said_not_to_be() {
    let pageable = cache_dit::Pageable::new();
    let sections = [
        vllm_omni::section(),
        sglang::section(),
        boundary::section(&pageable),
        cache_dit::section(&pageable),
        encoders::section(),
    ];
    let text = report::markdown(OPENING, &sections);
    expect_file!["../../reports/published.md"].assert_eq(&text);
}
