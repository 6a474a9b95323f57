//! The script that measures on a real GPU, with every command in it, against the stand-in.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::driver::{library, real};
use crate::models;

fn has(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success())
}

/// A tool of NVIDIA's that is not installed here.
fn shim(folder: &Path, name: &str, script: &str) {
    let path = folder.join(name);
    std::fs::write(&path, format!("#!/usr/bin/env bash\n{script}\n")).expect("written");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("executable");
}

/// What the table says, whatever was measured.
const LINES: &[&str] = &[
    "| conformance tests | pass | pass | yes |",
    "| commands of this script | none fails | 0 failed | yes |",
    "| probe: h2d of the largest copy | within 2 % of a plain loop | ",
    "| probe: h2d of the largest copy | within 2 % of nvbandwidth | ",
    "| compute-sanitizer | clean | memcheck clean; racecheck clean; initcheck clean;  | yes |",
    "| tiny-60: pass | within 5 % of predicted | ",
    "| tiny-60: host, an operation | < 4 us | ",
    "| tiny-60: host, a pass of 500 | < 2 ms | ",
    "| tiny-60: VRAM by the driver | <= what was allocated, to 2 MiB pages | ",
    "| tiny-60: cost of profiling | stated | ",
    "| tiny-60: --graph auto | the faster | ",
    "| tiny-60: with products | stated | ",
    "| tiny-60: every byte of every pass | right | 8 passes | yes |",
    "| tiny-60: sync | not faster than ours by more than 1 % | ",
    "| tiny-80: vllm-omni | not faster than ours by more than 1 % | ",
    "| tiny: digest | one for every policy and budget | xxh3:",
    "| pair-boundary-60: first pass of transformer_2 | within 5 % of predicted | ",
    "| pair-boundary-60: first pass of transformer#2 | within 5 % of predicted | ",
    "| pair-boundary-60: every byte, verify-graph | right | ",
    "| pair-boundary-80: digest | one, by streams and by graphs | xxh3:",
    "| disk-60: page-locked memory | what the plan says, to a page | ",
    "| disk-60: every byte of every pass | right | 8 passes | yes |",
    "no benchmark here",
];

/// What holds on computed times: what was predicted is what happens.
const HELD: &[&str] = &[
    "tiny-60: pass",
    "tiny-80: pass",
    "plain loop",
    "of nvbandwidth",
    "tiny: digest",
    "pair-boundary-60: first pass of transformer_2 |",
    "pair-boundary-60: first pass of transformer#2 |",
    "pair-boundary-80: first pass of transformer_2#2 |",
    "pair-boundary-60: digest",
    "disk-60: page-locked",
    "disk-80: page-locked",
];

#[test]
fn every_command_of_the_script_works() {
    if real() || !has("bash") || !has("python3") {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    let mut manifest = models::manifest().to_yaml().expect("yaml");
    manifest = manifest.replace("model: small", "model: tiny");
    std::fs::write(path("tiny.yaml"), manifest).expect("written");
    std::fs::write(path("workload.yaml"), models::WORKLOAD.trim_start()).expect("written");
    let pair = models::both().to_yaml().expect("yaml").replace("model: small", "model: pair");
    std::fs::write(path("pair.yaml"), pair).expect("written");
    let tools = path("tools");
    std::fs::create_dir(&tools).expect("made");
    // The sanitizer runs what stands after its own options.
    shim(&tools, "compute-sanitizer", "while [[ $1 == --* ]]; do shift 2; done; exec \"$@\"");
    shim(
        &tools,
        "nvbandwidth",
        "echo '{\"nvbandwidth\": {\"testcases\": [{\"name\": \"host_to_device_memcpy_ce\", \"sum\": 24.99}]}}'",
    );
    let tests = std::env::current_exe().expect("a path");
    let search = std::env::var("PATH").unwrap_or_default();
    let output = Command::new("bash")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/gpu/measure.sh"))
        .arg(path("out"))
        .env("PATH", format!("{}:{search}", tools.display()))
        .env("VRAMPLAN_STANDIN_LIBRARY", library())
        .env("VRAMPLAN_STANDIN", "vram=268435456")
        .env("VRAMPLAN_BIN", env!("CARGO_BIN_EXE_vramplan"))
        .env("VRAMPLAN_TESTS", format!("{} a_gpu_that_is_not_there", tests.display()))
        .env("VRAMPLAN_BENCH", "echo no benchmark here")
        .env("VRAMPLAN_MODELS", path("tiny.yaml"))
        .env("VRAMPLAN_WORKLOAD", path("workload.yaml"))
        .env("VRAMPLAN_PIPELINES", path("pair.yaml"))
        .env("VRAMPLAN_COMPONENTS", "transformer,transformer_2")
        .env("VRAMPLAN_CHECKPOINT_SIZE", "16 1048576")
        .env("VRAMPLAN_SHARES", "60 80")
        .env("VRAMPLAN_POLICIES", "sync,vllm-omni,sglang-strided")
        .env_remove("REQUIRE_GPU")
        .output()
        .expect("bash");
    let (table, log) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{table}\n{log}");
    assert!(!log.contains("FAILED"), "{table}\n{log}");
    for line in LINES {
        assert!(table.contains(line), "{line}\n{table}\n{log}");
    }
    let held = |what: &str| {
        let line = table.lines().find(|line| line.contains(what));
        assert!(line.is_some_and(|line| line.ends_with("| yes |")), "{what}\n{table}");
    };
    for what in HELD {
        held(what);
    }
    assert!(table.starts_with("vramplan stand-in (no GPU)"), "{table}");
    assert!(path("out/table.md").exists() && path("out/tiny-60/report/report.html").exists());
}
