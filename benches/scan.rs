//! How long a scan takes: the 64 GiB Wan2.2 pipeline, from sparse files with the real headers' tensors.
//!
//! Goal: the whole process under 60 ms and 64 MiB. `cargo bench --bench scan`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a benchmark that cannot start must stop")]
#![allow(clippy::cast_possible_truncation, reason = "the writers of the tests")]

#[path = "../tests/common/mod.rs"]
mod common;

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use common::{Entry, index, safetensors_header};
use divan::{Bencher, black_box};
use tempfile::TempDir;
use vramplan::model::{Component, Manifest, TensorSpec, builtin};
use vramplan::scan::{self, Choices, MemoryFolder, Source};

/// Bytes per shard, as Hugging Face cuts them.
const SHARD: u64 = 10_000_000_000;

fn main() {
    divan::main();
}

fn wan() -> Manifest {
    builtin::load("wan2.2-t2v-a14b").unwrap().unwrap()
}

/// Every tensor of a component by its full name.
fn entries(component: &Component, manifest: &Manifest) -> Vec<Entry> {
    let entry = |name: String, tensor: &TensorSpec| {
        let dtype = match tensor.dtype().name() {
            "bf16" => "BF16",
            other => panic!("{other} is new to this benchmark"),
        };
        (name, dtype, tensor.shape().to_vec(), tensor.bytes().unwrap().get())
    };
    let root = component.root.tensors().iter().map(|t| entry(t.name().to_owned(), t));
    let mut entries: Vec<Entry> = root.collect();
    for block in component.blocks(manifest) {
        let id = block.local_id();
        let tensors = block.kind.weights.tensors();
        entries.extend(tensors.iter().map(|t| entry(format!("{id}.{}", t.name()), t)));
    }
    entries.sort();
    entries
}

/// The pipeline's files: path, bytes that are there, size.
fn files() -> Vec<(String, Vec<u8>, u64)> {
    let manifest = wan();
    let mut files = Vec::new();
    let mut lines = vec!["\"_class_name\":\"WanPipeline\"".to_owned()];
    for component in &manifest.components {
        let (name, class) = (&component.name, component.class.as_deref().unwrap());
        lines.push(format!("{name:?}:[\"diffusers\",{class:?}]"));
        let config = format!("{{\"_class_name\":{class:?}}}").into_bytes();
        let size = config.len() as u64;
        files.push((format!("{name}/config.json"), config, size));
        let entries = entries(component, &manifest);
        let mut shards: Vec<Vec<Entry>> = vec![Vec::new()];
        let mut filled = 0;
        for entry in entries {
            if filled + entry.3 > SHARD {
                shards.push(Vec::new());
                filled = 0;
            }
            filled += entry.3;
            shards.last_mut().unwrap().push(entry);
        }
        let shard_name =
            |n: usize| format!("model-{:05}-of-{:05}.safetensors", n + 1, shards.len());
        let names: Vec<String> = (0..shards.len()).map(shard_name).collect();
        let placed: Vec<(&str, &str)> = shards
            .iter()
            .zip(&names)
            .flat_map(|(shard, file)| shard.iter().map(|e| (e.0.as_str(), file.as_str())))
            .collect();
        let text = index(&placed).into_bytes();
        let size = text.len() as u64;
        files.push((format!("{name}/model.safetensors.index.json"), text, size));
        for (shard, file) in shards.iter().zip(&names) {
            let (header, size) = safetensors_header(shard);
            files.push((format!("{name}/{file}"), header, size));
        }
    }
    let text = format!("{{{}}}", lines.join(",")).into_bytes();
    let size = text.len() as u64;
    files.push(("model_index.json".to_owned(), text, size));
    files
}

fn on_disk() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (path, bytes, size) in files() {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap_or(Path::new("."))).unwrap();
        let mut file = File::create(path).unwrap();
        file.write_all(&bytes).unwrap();
        file.set_len(size).unwrap();
    }
    folder
}

fn in_memory() -> MemoryFolder {
    let add = |folder: MemoryFolder, (path, bytes, size): (String, Vec<u8>, u64)| {
        folder.with_sparse(&path, bytes, size)
    };
    files().into_iter().fold(MemoryFolder::new(), add)
}

/// The program from start to exit, manifest written.
#[divan::bench]
fn process(bencher: Bencher) {
    let folder = on_disk();
    let output = folder.path().join("manifest.yaml");
    bencher.bench_local(|| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vramplan"));
        let command = command.arg("scan").arg(folder.path()).arg("-o").arg(&output);
        assert!(command.stdout(Stdio::null()).status().unwrap().success());
    });
}

/// Headers to checkpoint, no disk.
#[divan::bench]
fn read(bencher: Bencher) {
    let folder = in_memory();
    let source = Source { folder: &folder, folder_name: "wan", file: None };
    bencher.bench_local(|| scan::read(black_box(&source)).unwrap());
}

/// Checkpoint to manifest, and its text.
#[divan::bench]
fn manifest(bencher: Bencher) {
    let folder = in_memory();
    let source = Source { folder: &folder, folder_name: "wan", file: None };
    let checkpoint = scan::read(&source).unwrap();
    bencher.bench_local(|| {
        let scanned = black_box(&checkpoint).manifest(&Choices::default()).unwrap();
        scanned.manifest.to_yaml().unwrap()
    });
}
