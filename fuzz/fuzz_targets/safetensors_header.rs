//! Any file, as safetensors: refused, or a manifest whose bytes add up to the file's data.

#![no_main]

use libfuzzer_sys::fuzz_target;
use vramplan::scan::{self, Choices, MemoryFolder, Source, Summary};

fuzz_target!(|data: &[u8]| {
    let mut file = (data.len() as u64).to_le_bytes().to_vec();
    file.extend(data);
    // The bytes as the whole file, then as a header in front of data that is never read.
    for (bytes, size) in
        [(data.to_vec(), data.len() as u64), (file.clone(), file.len() as u64 + 64)]
    {
        let folder = MemoryFolder::new().with_sparse("f.safetensors", bytes, size);
        let source = Source { folder: &folder, folder_name: "f", file: Some("f.safetensors") };
        let Ok(checkpoint) = scan::read(&source) else { continue };
        let Ok(scanned) = checkpoint.manifest(&Choices::default()) else { continue };
        let summary = &Summary::of(&scanned).components[0];
        let inside: u64 = summary.lists.iter().flat_map(|list| &list.bytes).sum();
        assert_eq!(summary.root_bytes + inside, summary.total_bytes);
        assert!(summary.total_bytes <= size);
    }
});
