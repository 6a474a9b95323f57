//! Names the default workloads that ship inside the binary, one per built-in model.

use super::Workload;
use crate::error::Result;

/// Model name and workload text, sorted by name.
pub const WORKLOADS: &[(&str, &str)] = &[
    ("flux1-dev", include_str!("../../plans/workloads/flux1-dev.yaml")),
    ("flux2-klein-4b", include_str!("../../plans/workloads/flux2-klein-4b.yaml")),
    ("llama-3-8b", include_str!("../../plans/workloads/llama-3-8b.yaml")),
    ("llama-3-8b-q4_k_m", include_str!("../../plans/workloads/llama-3-8b-q4_k_m.yaml")),
    ("qwen-image", include_str!("../../plans/workloads/qwen-image.yaml")),
    ("wan2.2-t2v-a14b", include_str!("../../plans/workloads/wan2.2-t2v-a14b.yaml")),
    ("z-image", include_str!("../../plans/workloads/z-image.yaml")),
];

/// The models that have a workload of their own, sorted.
pub fn names() -> impl Iterator<Item = &'static str> {
    WORKLOADS.iter().map(|&(name, _)| name)
}

/// The default workload of that built-in model.
pub fn load(model: &str) -> Option<Result<Workload>> {
    let &(name, text) = WORKLOADS.iter().find(|&&(known, _)| known == model)?;
    Some(Workload::from_yaml(&format!("default workload of {name}"), text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_file_of_the_folder_is_built_in_sorted_and_sound() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/plans/workloads");
        let files: BTreeSet<String> = std::fs::read_dir(folder)
            .expect(folder)
            .map(|entry| entry.expect(folder).file_name().to_string_lossy().into_owned())
            .collect();
        assert_eq!(files, names().map(|name| format!("{name}.yaml")).collect());
        assert!(names().is_sorted());
        for name in names() {
            assert!(load(name).expect("listed").is_ok(), "{name}");
        }
        assert!(load("no such model").is_none());
    }
}
