//! Any bytes are a trace whose figures hold together, or an error with exit code 3.

#![no_main]

use libfuzzer_sys::fuzz_target;
use vramplan::profile::trace::{Keep, figures, read_chrome};

fuzz_target!(|bytes: &[u8]| {
    match read_chrome("fuzz.json", bytes, Keep { annotations: true }) {
        Ok(trace) => {
            for one in figures(&trace).values() {
                assert_eq!(one.busy.saturating_add(one.idle), one.window);
                let parts = one.partition.values().copied().sum::<vramplan::units::Nanos>();
                assert_eq!(parts, one.window);
            }
        }
        Err(error) => assert_eq!(error.exit_code(), 3),
    }
});
