//! Any text, as a manifest: refused, or one that writes and reads back as itself.

#![no_main]

use libfuzzer_sys::fuzz_target;
use vramplan::model::Manifest;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(manifest) = Manifest::from_yaml("f", text) else { return };
    let written = manifest.to_yaml().unwrap();
    assert_eq!(Manifest::from_yaml("f", &written).unwrap(), manifest);
});
