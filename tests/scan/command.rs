//! The `scan` command as users call it.

use std::fs;
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;
use vramplan::model::Manifest;

use super::common::{Gguf, bf16, safetensors};

fn model() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut entries = vec![bf16("x_embedder.weight", &[4])];
    for n in 0..11 {
        entries.push(bf16(format!("transformer_blocks.{n}.attn.to_q.weight"), &[4, n + 1]));
    }
    fs::write(folder.path().join("config.json"), r#"{"_class_name": "FluxTransformer2DModel"}"#)
        .unwrap();
    fs::write(folder.path().join("model.safetensors"), safetensors(&entries)).unwrap();
    folder
}

fn vramplan(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_vramplan")).args(arguments).output().unwrap()
}

fn scan(folder: &TempDir, arguments: &[&str]) -> Output {
    vramplan(&[&["scan", folder.path().to_str().unwrap()], arguments].concat())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn json_has_the_promised_keys_and_sums() {
    let output = scan(&model(), &["--format", "json", "--name", "tiny"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answer["model"], "tiny");
    let component = &answer["components"][0];
    let list = &component["lists"][0];
    assert_eq!(
        (&list["path"], &list["count"]),
        (&Value::from("transformer_blocks"), &Value::from(11))
    );
    let bytes: Vec<u64> =
        list["bytes"].as_array().unwrap().iter().map(|b| b.as_u64().unwrap()).collect();
    assert_eq!(bytes, (1..12).map(|n| 8 * n).collect::<Vec<u64>>(), "by index: 2 before 10");
    let sum = component["root_bytes"].as_u64().unwrap() + bytes.iter().sum::<u64>();
    assert_eq!(component["total_bytes"], sum);
    assert_eq!(component["tensor_count"], 12);
    assert_eq!(component["class"], "FluxTransformer2DModel");
}

#[test]
fn the_manifest_is_the_same_every_time_and_wherever_it_goes() {
    let folder = model();
    let file = folder.path().join("out/manifest.yaml");
    let output = scan(&folder, &["-o", file.to_str().unwrap(), "--name", "tiny"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let written = fs::read(&file).unwrap();
    assert_eq!(scan(&folder, &["-o", "-", "--name", "tiny"]).stdout, written);
    let manifest = Manifest::from_yaml("m", &text(&written)).unwrap();
    assert_eq!(manifest.components[0].blocks(&manifest).len(), 11);
    assert!(text(&output.stdout).contains("manifest: "));
    assert_eq!(scan(&folder, &["-o", "-", "--format", "json"]).status.code(), Some(2));
}

#[test]
fn the_table_fits_a_terminal() {
    let table = text(&scan(&model(), &[]).stdout);
    assert!(table.lines().count() > 4);
    assert!(table.lines().all(|line| line.len() <= 80), "{table}");
}

#[test]
fn unknown_lists_are_usage_errors_with_a_suggestion() {
    for option in ["--order", "--lists"] {
        let output = scan(&model(), &[option, "transformer_block"]);
        assert_eq!(output.status.code(), Some(2));
        let message = text(&output.stderr);
        assert!(message.contains("there are: transformer_blocks"), "{message}");
        assert!(message.contains("did you mean \"transformer_blocks\"?"), "{message}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn bad_files_end_with_exit_code_3_and_write_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    fs::write(path("cut.safetensors"), &safetensors(&[bf16("a", &[9])])[..40]).unwrap();
    fs::write(path("cut.gguf"), &Gguf::sound().bytes()[..40]).unwrap();
    fs::write(path("long.safetensors"), (1u64 << 63).to_le_bytes()).unwrap();
    for name in ["cut.safetensors", "cut.gguf", "long.safetensors", "missing.gguf"] {
        let output = vramplan(&["scan", &path(name), "-o", &path("out.yaml")]);
        assert_eq!(output.status.code(), Some(3), "{name}");
        assert!(text(&output.stderr).contains(name), "{}", text(&output.stderr));
        assert!(!folder.path().join("out.yaml").exists());
    }
}

#[cfg(unix)]
#[test]
fn a_pipe_in_place_of_a_file_is_refused_and_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("model.safetensors");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let output = vramplan(&["scan", pipe.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(3), "{}", text(&output.stderr));
}
