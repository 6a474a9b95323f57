//! Any text is a sound plan, or an error with exit code 3; a sound plan is lowered and checked in bounded time.

#![no_main]

use libfuzzer_sys::fuzz_target;
use vramplan::plan::Plan;
use vramplan::program::{check, lower};

fuzz_target!(|text: &str| {
    match Plan::from_yaml("fuzz.yaml", text) {
        Ok(plan) => {
            if let Ok(program) = lower(&plan) {
                let _ = check::check(&program);
            }
        }
        Err(error) => assert_eq!(error.exit_code(), 3),
    }
});
