//! Stories of `trace` through the built binary: foreign traces in, figures out; our own export read back.

#![expect(clippy::expect_used, reason = "a test that cannot go on has failed")]

mod generate;
mod offload;

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Output};

use generate::{Generated, ROWS_PER_STEP};
use serde_json::Value;

fn run(folder: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vramplan"));
    command.args(args).current_dir(folder).output().expect("the binary starts")
}

fn json(folder: &Path, args: &[&str]) -> Value {
    let output = run(folder, &[args, &["--format", "json"]].concat());
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("one JSON object")
}

fn generated(steps: u64) -> Vec<u8> {
    let mut text = Vec::new();
    Generated::new(steps).read_to_end(&mut text).expect("text");
    text
}

#[test]
fn a_generated_trace_has_the_figures_it_was_made_with() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("t.json"), generated(50)).expect("written");
    let answer = json(folder.path(), &["trace", "t.json"]);
    let device = &answer["devices"]["0"];
    // Eight kernels of 90 us and a copy of 100 us a step, of which the last kernel hides the first half.
    assert_eq!(device["kernel_busy_ns"], 50 * 8 * 90_000);
    assert_eq!(device["htod_busy_ns"], 50 * 100_000);
    assert_eq!(device["kernel_and_htod_ns"], 50 * 50_000);
    assert_eq!(device["window_ns"], 49 * 1_000_000 + 840_000);
    assert_eq!(device["counts"]["kernel"], 50 * 8);
    assert_eq!(answer["rows"], 50 * ROWS_PER_STEP);
    assert_eq!(answer["complete"], true);
}

#[test]
fn the_answer_is_a_screen_and_a_folder() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("t.json"), generated(20)).expect("written");
    let output = run(folder.path(), &["trace", "t.json", "-o", "out"]);
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    expect_test::expect_file!["../golden/trace/generated.txt"].assert_eq(&text);
    let out = folder.path().join("out");
    let page = fs::read_to_string(out.join("report.html")).expect("a page");
    assert!(page.contains("GPU 0: A generated GPU") && page.matches("<script").count() == 2);
    let mut files: Vec<String> = fs::read_dir(&out)
        .expect("the folder")
        .map(|file| file.expect("a file").file_name().to_string_lossy().into_owned())
        .collect();
    files.sort();
    let wanted = "figures.csv rates.csv rates.png rates.svg report.html spans.csv summary.json summary.md timeline.png timeline.svg";
    assert_eq!(files.join(" "), wanted);
    let rates = fs::read_to_string(out.join("rates.csv")).expect("rates");
    // 2.5 MB in 100 us, every one of them.
    let row = format!("HtoD pinned,2097152,20,50000000,2000000{}", ",25000000000".repeat(5));
    assert_eq!(rates.lines().nth(1), Some(row.as_str()));
    let figures = fs::read_to_string(out.join("figures.csv")).expect("figures");
    assert!(figures.contains("\n0,kernel_and_htod,1000000\n"), "{figures}");
    let rows = fs::read_to_string(out.join("spans.csv")).expect("rows");
    assert_eq!(rows.lines().count() as u64, 20 * ROWS_PER_STEP + 1);
    let summary = fs::read(out.join("summary.json")).expect("a summary");
    let summary: Value = serde_json::from_slice(&summary).expect("JSON");
    assert_eq!(summary["devices"], json(folder.path(), &["trace", "t.json"])["devices"]);
}

#[test]
fn a_cut_trace_is_answered_and_exits_with_3() {
    let folder = tempfile::tempdir().expect("a folder");
    let text = generated(20);
    fs::write(folder.path().join("t.json"), &text[..text.len() / 2]).expect("written");
    let output = run(folder.path(), &["trace", "t.json", "--format", "json"]);
    assert_eq!(output.status.code(), Some(3));
    let answer: Value = serde_json::from_slice(&output.stdout).expect("an answer all the same");
    assert_eq!(answer["complete"], false);
    let rows = answer["rows"].as_u64().expect("rows");
    assert!(rows > 5 * ROWS_PER_STEP && rows < 15 * ROWS_PER_STEP, "{rows}");
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(message.contains("error: t.json: the file: found it ends after"), "{message}");
}

#[test]
fn what_is_no_trace_is_refused_and_nothing_is_written() {
    let folder = tempfile::tempdir().expect("a folder");
    let cases: [(&str, &[u8], &str); 5] = [
        ("x.nsys-rep", b"\x01\x02\x03", "nsys export --type sqlite"),
        ("empty.json", b"", "an empty file"),
        ("text.json", b"hello", "a file that begins \"hello\""),
        ("deep.json", &[b'['; 5_000], "nested more deeply than any profiler writes"),
        ("x.sqlite", b"SQLite format 3\0 and then nothing", "the database"),
    ];
    for (name, bytes, why) in cases {
        fs::write(folder.path().join(name), bytes).expect("written");
        let output = run(folder.path(), &["trace", name, "-o", "out"]);
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(3), "{message}");
        assert!(message.contains(why), "{name}: {message}");
        assert!(!folder.path().join("out").exists());
    }
}

#[test]
fn a_database_is_read_without_being_changed() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("t.sqlite");
    let database = rusqlite::Connection::open(&path).expect("a database");
    let tables = "CREATE TABLE CUPTI_ACTIVITY_KIND_MEMCPY (start, end, deviceId, streamId, copyKind, srcKind, bytes);
        INSERT INTO CUPTI_ACTIVITY_KIND_MEMCPY VALUES (155357525002, 155357526002, 1, 7, 1, 0, 25000);";
    database.execute_batch(tables).expect("tables");
    drop(database);
    let before = fs::read(&path).expect("the file");
    let answer = json(folder.path(), &["trace", "t.sqlite"]);
    assert_eq!(answer["devices"]["1"]["htod_exposed_ns"], 1_000);
    assert_eq!(answer["devices"]["1"]["copies"][0]["memory"], "pageable");
    assert_eq!(fs::read(&path).expect("the file"), before);
    assert_eq!(fs::read_dir(folder.path()).expect("the folder").count(), 1);
}

#[test]
fn our_own_export_read_back_gives_our_own_figures() {
    let folder = tempfile::tempdir().expect("a folder");
    let plan = [
        "plan",
        "flux1-dev",
        "--device",
        "rtx-4090",
        "--vram",
        "12GiB",
        "--passes",
        "4",
        "-o",
        "plan.yaml",
    ];
    json(folder.path(), &plan);
    json(folder.path(), &["run", "plan.yaml", "-o", "run.json"]);
    let ours = json(folder.path(), &["report", "run.json", "-o", "report"]);
    let back = json(folder.path(), &["trace", "report/trace.json.gz"]);
    let device = &back["devices"]["0"];
    let pairs = [
        ("makespan_ns", "window_ns"),
        ("compute_busy_ns", "kernel_busy_ns"),
        ("h2d_busy_ns", "htod_busy_ns"),
        ("overlap_ns", "kernel_and_htod_ns"),
        ("exposed_ns", "htod_exposed_ns"),
    ];
    for (own, read) in pairs {
        assert_eq!(ours[own], device[read], "{own}");
    }
    assert!(ours["overlap_ns"].as_u64() > Some(0) && ours["exposed_ns"].as_u64() > Some(0));
    assert_eq!(back["left_out"]["rows"], serde_json::json!({}));
}

/// A model of which the generated trace shows one pass: its eight kernels a step stand fifty times.
const MODEL: &str = "format: vramplan/manifest/1\nmodel: generated\nkinds:\n  block: {bytes: 200000000}\ncomponents:\n  \
    - name: model\n    root: {bytes: 0}\n    blocks:\n      - {list: blocks, kind: block, count: 50}\n";

#[test]
fn a_trace_becomes_a_workload_and_a_device_and_then_a_plan() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("t.json"), generated(50)).expect("written");
    fs::write(folder.path().join("model.yaml"), MODEL).expect("written");
    let derive =
        ["trace", "t.json", "--workload", "model.yaml", "-o", "w.yaml", "--device-out", "d.yaml"];
    // Nothing in the trace says what this GPU can compute.
    let output = run(folder.path(), &derive);
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{message}");
    assert!(message.contains("A generated GPU") && message.contains("--device D"), "{message}");
    assert!(!folder.path().join("w.yaml").exists(), "nothing is written half");
    let derived = json(folder.path(), &[&derive[..], &["--device", "rtx-4090"]].concat());
    assert_eq!(derived["workload"]["found"], "repeating_kernels");
    assert_eq!(derived["workload"]["blocks_per_pass_ns"], 50 * 8 * 90_000);
    assert_eq!(derived["link"]["h2d"]["rate"], 25_000_000_000u64);
    let device = fs::read_to_string(folder.path().join("d.yaml")).expect("a device");
    assert!(device.contains("name: A generated GPU\norigin: measured"), "{device}");
    assert!(
        device.contains("everything else from NVIDIA GeForce RTX 4090, not measured"),
        "{device}"
    );
    let plan =
        ["plan", "model.yaml", "--device", "d.yaml", "--vram", "4GiB", "--workload", "w.yaml"];
    let plan = json(folder.path(), &plan);
    // 720 us of kernels a block, 200 MB at 25 GB/s: the link binds.
    let pass = plan["components"][0]["pass_ns"].as_u64().expect("a time");
    assert!(pass > 50 * 720_000, "{pass}");
}

#[test]
fn an_engine_that_streams_its_weights_is_planned_again_from_its_copies() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("t.json"), offload::offload(4)).expect("written");
    let layer: u64 = offload::COPIES.iter().sum();
    let model = format!(
        "format: vramplan/manifest/1\nmodel: streamed\nkinds:\n  layer: {{bytes: {layer}}}\ncomponents:\n  \
         - name: model\n    root: {{bytes: {}}}\n    blocks:\n      - {{list: layers, kind: layer, count: {}}}\n",
        offload::HEAD,
        offload::LAYERS
    );
    fs::write(folder.path().join("model.yaml"), model).expect("written");
    let derive =
        ["trace", "t.json", "--workload", "model.yaml", "-o", "w.yaml", "--device-out", "d.yaml"];
    let derived = json(folder.path(), &derive);
    let workload = &derived["workload"];
    assert_eq!((&workload["found"], &workload["passes"]), (&"repeating_copies".into(), &4.into()));
    let kernels: u64 = offload::KERNELS.iter().map(|us| us * 1_000).sum();
    assert_eq!(workload["blocks_per_pass_ns"], offload::LAYERS * kernels);
    let text = fs::read_to_string(folder.path().join("w.yaml")).expect("a workload");
    assert!(
        text.contains("found by copies that repeat") && text.contains("layers.11: 1.09ms"),
        "{text}"
    );
    // 772 MB a layer over 25 GB/s is far more than 1.09 ms of kernels: the same GPU with room for half of the layers.
    let plan =
        ["plan", "model.yaml", "--device", "d.yaml", "--vram", "8GiB", "--workload", "w.yaml"];
    let plan = json(folder.path(), &plan);
    let pass = plan["components"][0]["pass_ns"].as_u64().expect("a time");
    let streamed = offload::LAYERS * (layer / 25 + kernels);
    assert!(pass > offload::LAYERS * kernels && pass < streamed, "{pass} of {streamed}");
}

#[test]
fn a_trace_without_the_models_blocks_says_what_it_lacks() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("t.json"), generated(50)).expect("written");
    let args = ["trace", "t.json", "--workload", "flux1-dev", "-o", "w.yaml"];
    let output = run(folder.path(), &args);
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(3), "{message}");
    assert!(message.contains("ranges name 0 of 57 blocks"), "{message}");
    assert!(
        message.contains("no sequence of kernels repeats 19 times, as transformer_blocks does"),
        "{message}"
    );
    assert!(!folder.path().join("w.yaml").exists());
}

#[test]
fn a_slower_run_fails_where_that_is_asked_for() {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, vram) in [("fast", "20GiB"), ("slow", "7GiB")] {
        let (plan, profile) = (format!("{name}.yaml"), format!("{name}.json"));
        json(
            folder.path(),
            &[
                "plan",
                "flux1-dev",
                "--device",
                "rtx-4090",
                "--vram",
                vram,
                "--passes",
                "4",
                "-o",
                &plan,
            ],
        );
        json(folder.path(), &["run", &plan, "-o", &profile]);
    }
    let report = |profiles: &[&str]| {
        run(folder.path(), &[&["report"], profiles, &["--fail-if-slower"]].concat())
    };
    let slower = report(&["fast.json", "slow.json"]);
    let message = String::from_utf8_lossy(&slower.stderr).into_owned();
    assert_eq!(slower.status.code(), Some(7), "{message}");
    assert!(message.contains("error: slower: Run 2, transformer: steady pass"), "{message}");
    assert_eq!(report(&["slow.json", "fast.json"]).status.code(), Some(0));
    assert_eq!(report(&["slow.json", "slow.json"]).status.code(), Some(0));
    assert_eq!(report(&["slow.json"]).status.code(), Some(2));
    let page = fs::read_to_string(folder.path().join("report/report.html")).expect("a page");
    assert!(page.contains("no difference beyond noise and the tolerance of 1 %"));
    assert!(page.contains("Median time per use of each block"));
}

#[test]
fn the_page_of_sixty_blocks_and_thirty_passes_stays_small() {
    let folder = tempfile::tempdir().expect("a folder");
    json(
        folder.path(),
        &[
            "plan",
            "qwen-image",
            "--device",
            "rtx-4090",
            "--vram",
            "16GiB",
            "--passes",
            "30",
            "-o",
            "plan.yaml",
        ],
    );
    json(folder.path(), &["run", "plan.yaml", "-o", "run.json.gz"]);
    json(folder.path(), &["report", "run.json.gz", "-o", "report"]);
    let size = fs::metadata(folder.path().join("report/report.html")).expect("a page").len();
    assert!(size < 2_000_000, "{size}");
}
