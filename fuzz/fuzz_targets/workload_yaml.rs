//! Any text, as a workload: refused, or one that writes and reads back as itself.

#![no_main]

use libfuzzer_sys::fuzz_target;
use vramplan::workload::Workload;

fuzz_target!(|text: &str| {
    match Workload::from_yaml("fuzz.yaml", text) {
        Ok(workload) => {
            let written = workload.to_yaml().unwrap();
            assert_eq!(Workload::from_yaml("fuzz.yaml", &written).unwrap(), workload);
        }
        Err(error) => assert_eq!(error.exit_code(), 3),
    }
});
