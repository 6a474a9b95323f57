//! Checks operations, workloads and activations against known counts of real models.
//!
//! `data/flops.json` holds, for one pass of a component, the operations of one block of each list, how many blocks
//! the list has, and the operations outside the lists: counted over the dense products and attentions that the
//! reference implementations run. The tensors are those of the built-in manifests, made from the real checkpoints.

#![expect(clippy::expect_used, reason = "a test that cannot read its data has failed")]

use std::collections::BTreeMap;

use serde::Deserialize;
use vramplan::device;
use vramplan::model::{self, Component, Manifest};
use vramplan::workload::{Overrides, Workload, activations_estimate, builtin, costs, default_for};

#[derive(Deserialize)]
struct Known {
    name: String,
    model: String,
    component: String,
    workload: BTreeMap<String, u64>,
    lists: BTreeMap<String, (u64, u64)>,
    root: u64,
}

fn data(file: &str) -> String {
    let path = format!("{}/tests/data/{file}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).expect(&path)
}

fn known() -> Vec<Known> {
    serde_json::from_str(&data("flops.json")).expect("flops.json")
}

fn shapes(model: &str) -> Manifest {
    model::builtin::load(model).expect(model).expect(model)
}

fn workload_of(model: &str) -> Workload {
    builtin::load(model).expect(model).expect(model)
}

/// The flags that say what a known case counts.
fn flags(case: &Known) -> Overrides {
    let get = |name: &str| case.workload.get(name).copied();
    let sized = get("height").is_some();
    Overrides {
        height: get("height"),
        width: get("width"),
        frames: get("frames"),
        text_tokens: get("text_tokens"),
        tokens: get("tokens").filter(|_| !sized),
        batch: get("batch"),
        ..Overrides::default()
    }
}

/// Operations of one block of each list with the list's length, and of the root.
fn counted(
    manifest: &Manifest,
    component: &Component,
    workload: &Workload,
) -> (BTreeMap<String, (u64, u64)>, u64) {
    let device = device::builtin::load("rtx-4090").expect("listed").expect("sound");
    let costs = costs(manifest, component, workload, &device).expect("sound");
    assert_eq!(costs.warnings, Vec::<String>::new());
    let blocks = component.blocks(manifest);
    assert_eq!(costs.blocks.len(), blocks.len());
    let mut lists: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for (block, cost) in blocks.iter().zip(&costs.blocks) {
        let entry = lists.entry(block.list.to_owned()).or_insert((cost.flops, 0));
        assert_eq!(entry.0, cost.flops, "{}", block.local_id());
        entry.1 += 1;
    }
    (lists, costs.root.flops)
}

fn check(case: &Known, manifest: &Manifest) {
    let component = manifest.component(&case.component).expect(&case.name);
    let workload = workload_of(&case.model).with_overrides(&flags(case), manifest, component);
    let (mut lists, mut root) = counted(manifest, component, &workload.expect(&case.name));
    // A manifest may list what this file counts outside the lists, such as an embedder of two layers.
    lists.retain(|list, &mut (flops, count)| {
        let named = case.lists.contains_key(list);
        root += if named { 0 } else { flops * count };
        named
    });
    assert_eq!((lists, root), (case.lists.clone(), case.root), "{}", case.name);
}

#[test]
fn operations_are_exactly_the_known_counts() {
    for case in known() {
        check(&case, &shapes(&case.model));
    }
}

#[test]
fn the_names_of_gguf_count_the_same() {
    let manifest = shapes("llama-3-8b-q4_k_m");
    let case = known().into_iter().find(|case| case.name == "llama-3-8b-2048").expect("listed");
    let main = manifest.main_component().expect("a component");
    let workload = workload_of("llama-3-8b-q4_k_m");
    let workload = workload.with_overrides(&flags(&case), &manifest, main).expect("sound");
    let (lists, root) = counted(&manifest, main, &workload);
    assert_eq!(lists["blk"], case.lists["model.layers"]);
    assert_eq!(root, case.root);
}

#[test]
fn default_workloads_reserve_what_the_formula_says() {
    const MIB: u64 = 1 << 20;
    for case in known() {
        let manifest = shapes(&case.model);
        let main = manifest.main_component().expect("a component");
        let workload = workload_of(&case.model);
        let estimate = activations_estimate(&manifest, main, &workload).expect("sound").get();
        let reserved = workload.reserve.activations.get();
        // FLUX.1-dev's is the generous figure of the format's own example.
        let most = if case.model == "flux1-dev" { 2 * estimate } else { estimate + MIB };
        assert!((estimate..most).contains(&reserved), "{}: {estimate} {reserved}", case.model);
    }
}

#[test]
fn a_video_of_720_lines_leaves_a_24_gib_card_8_gib_for_weights() {
    let device = device::builtin::load("rtx-4090").expect("listed").expect("sound");
    let reserve = workload_of("wan2.2-t2v-a14b").reserve.total();
    assert!(device.vram.saturating_sub(reserve).get() >= 8 << 30, "{reserve}");
}

#[test]
fn models_without_a_workload_get_one_by_class() {
    for case in known() {
        let manifest = shapes(&case.model);
        let main = manifest.main_component().expect("a component");
        let (lists, _) = counted(&manifest, main, &default_for(&manifest));
        assert!(lists.values().all(|&(flops, _)| flops > 0), "{}", case.model);
    }
}
