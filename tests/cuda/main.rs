//! The CUDA backend against the driver that stands in for a GPU: the same programs as the simulator, every byte
//! checked, every fault injected.
//!
//! With `REQUIRE_GPU=1` the same bodies run on the machine's real GPU, and a missing one is a failure; what needs the
//! stand-in's computed clock or its faults is then left out.

#![cfg(target_os = "linux")]
#![expect(clippy::expect_used, reason = "a test that cannot go on has failed")]
#![expect(unsafe_code, reason = "the stand-in is a C library")]
#![expect(clippy::panic, clippy::cast_possible_truncation, reason = "small numbers, loud failures")]

mod boundaries;
mod command;
mod commands;
mod conformance;
mod disk;
mod driver;
mod faults;
mod graphs;
mod machine;
mod models;
mod ptx;
mod script;

// The library is opened by its path; naming the crate makes cargo build it.
use vramplan_standin as _;
