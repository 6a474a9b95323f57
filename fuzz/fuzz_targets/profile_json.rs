//! Any bytes are a sound profile that can be summed up, or an error with exit code 3.

#![no_main]

use libfuzzer_sys::fuzz_target;
use vramplan::profile;

fuzz_target!(|bytes: &[u8]| {
    match profile::read("fuzz.json", bytes) {
        Ok(profile) => {
            let summary = profile::summary(&profile);
            assert_eq!(summary.overlap.saturating_add(summary.exposed), summary.h2d_busy);
        }
        Err(error) => assert_eq!(error.exit_code(), 3),
    }
});
