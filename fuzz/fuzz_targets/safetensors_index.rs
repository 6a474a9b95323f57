//! Any text, as a shard index: refused, or shards that stay inside their folder.

#![no_main]

use libfuzzer_sys::fuzz_target;
use vramplan::scan::read_index;

fuzz_target!(|data: &[u8]| {
    let Ok(index) = read_index("f", data) else { return };
    for shard in &index.shards {
        assert!(!shard.starts_with('/') && !shard.contains('\\'));
        assert!(shard.split('/').all(|part| part != ".." && !part.is_empty()));
    }
    assert!(index.placed.values().all(|&number| number < index.shards.len()));
});
