//! Any text, as a device spec: refused, or one that writes and reads back as itself.

#![no_main]

use libfuzzer_sys::fuzz_target;
use vramplan::device::DeviceSpec;

fuzz_target!(|text: &str| {
    match DeviceSpec::from_yaml("fuzz.yaml", text) {
        Ok(device) => {
            let written = device.to_yaml().unwrap();
            assert_eq!(DeviceSpec::from_yaml("fuzz.yaml", &written).unwrap(), device);
        }
        Err(error) => assert_eq!(error.exit_code(), 3),
    }
});
