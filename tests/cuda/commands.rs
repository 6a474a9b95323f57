//! Commands on the GPU beyond a plain run: policies compared, pieces from disk, graphs, and every fault at once.

use std::fs;

use serde_json::Value;

use crate::command::{RUN, Story, checkpoint, outcome};
use crate::models;

const COMPARE: [&str; 13] = [
    "compare",
    "model.yaml",
    "--device",
    "device.yaml",
    "--vram",
    "71MiB",
    "--workload",
    "workload.yaml",
    "--backend",
    "cuda",
    "--compute",
    "spin",
    "--policies",
];

/// A story with the device and the workload that the model is planned with.
fn story() -> Option<Story> {
    let story = Story::new()?;
    story.write("device.yaml", models::device().to_yaml().expect("yaml"));
    story.write("workload.yaml", models::WORKLOAD.trim_start());
    Some(story)
}

#[test]
fn policies_are_compared_by_what_they_took() {
    let Some(story) = story() else { return };
    let args = [
        &COMPARE[..],
        &["sync,sglang-strided,hybrid", "--passes", "4", "-o", "kept", "--format", "json"],
    ];
    let run = story.run(&args.concat());
    assert_eq!((run.code, run.err.as_str()), (0, ""), "{}", run.out);
    let answer: Value = serde_json::from_str(&run.out).expect("JSON");
    let measured = answer["measured"].as_array().expect("a list");
    let names: Vec<&str> = measured.iter().filter_map(|run| run["policy"].as_str()).collect();
    assert_eq!(names, ["ours", "sync", "sglang-strided"], "ours once");
    assert_eq!(answer["measured_origin"], "simulated");
    let digest = &measured[0]["digest"];
    assert!(digest.as_str().is_some_and(|digest| digest.starts_with("xxh3:")), "{digest}");
    for run in measured {
        assert_eq!(&run["digest"], digest);
        let number = |key: &str| run[key].as_u64().unwrap_or_else(|| panic!("{key}: {run}"));
        assert!(number("driver_peak_bytes").abs_diff(number("allocated_bytes")) < 1 << 20, "{run}");
        // Computed times: what was predicted, but for host waits, which cost the stand-in's host nothing.
        assert!(number("measured_pass_ns") <= number("predicted_pass_ns") + 1_000, "{run}");
        let name = run["policy"].as_str().expect("a name");
        let report = story.run(&["report", &format!("kept/{name}.json.gz"), "-o", "report"]);
        assert_eq!(report.code, 0, "{}", report.err);
    }
    assert_eq!(measured[0]["failed"], Value::Null);
    assert!(answer["policies"].as_array().is_some_and(|all| all.len() == 3));
    let table = fs::read_to_string(story.path("kept/compare.md")).expect("a table");
    assert!(
        table.contains("| sglang-strided |") && table.contains("| pass (simulated) |"),
        "{table}"
    );
    let page = fs::read_to_string(story.path("report/report.html")).expect("a page");
    assert!(page.contains("How it was measured") && page.contains("CUDA 12.8"));
    for kind in ["device memory", "host memory", "stream", "event", "context"] {
        assert_eq!(story.count(&format!("live:{kind}")), 0, "{kind}");
    }
}

#[test]
fn a_compared_table_is_for_people_too() {
    let Some(story) = story() else { return };
    let run = story.run(&[&COMPARE[..], &["sync", "--passes", "3"]].concat());
    assert_eq!((run.code, run.err.as_str()), (0, ""), "{}", run.out);
    for text in [
        "policy                 predicted  measured      off  VRAM used    digest",
        "  ours ",
        "  sync ",
        "every run computed on the same bytes: xxh3:",
    ] {
        assert!(run.out.contains(text), "{text}\n{}", run.out);
    }
    assert!(run.out.lines().all(|line| line.chars().count() <= 80), "{}", run.out);
    let ignored = story.run(&[
        "compare",
        "model.yaml",
        "--device",
        "device.yaml",
        "--vram",
        "71MiB",
        "--strict",
    ]);
    assert_eq!(
        (ignored.code, ignored.err.as_str()),
        (2, "error: --strict is for --backend cuda\n")
    );
}

#[test]
fn a_policy_that_fails_is_named_and_the_others_are_kept() {
    let Some(story) = story() else { return };
    let mut command =
        story.command(&[&COMPARE[..], &["sync", "--passes", "3", "-o", "kept"]].concat());
    // The second slab is refused: that of the second run.
    command.env("VRAMPLAN_STANDIN", "fault=cuMemAlloc_v2:6:2");
    let run = outcome(command);
    assert_eq!(run.code, 6, "{}\n{}", run.out, run.err);
    assert!(run.err.contains("sync, one of 2: "), "{}", run.err);
    assert!(run.out.contains("failed") && run.out.contains("  ours "), "{}", run.out);
    assert!(story.path("kept/ours.json.gz").exists());
    assert_eq!(story.count("live:device memory"), 0);
}

#[test]
fn graphs_are_launched_and_said() {
    let Some(story) = Story::new() else { return };
    let args =
        ["--passes", "40", "--compute", "spin", "--graph", "on", "--overhead", "-o", "run.json"];
    let run = story.run(&[&RUN[..], &args].concat());
    assert_eq!((run.code, run.err.as_str()), (0, ""), "{}", run.out);
    assert!(run.out.contains("issued         as graphs of "), "{}", run.out);
    assert!(story.count("calls:cuGraphLaunch") > 1);
    assert_eq!((story.count("live:graph"), story.count("live:graph exec")), (0, 0));
    let measured = &story.profile("run.json")["header"]["measured"];
    let cost = &measured["overhead"];
    let time = |key: &str| cost[key].as_u64().unwrap_or_else(|| panic!("{key}: {cost}"));
    // Times cost the stand-in nothing; runs of other lengths differ by where they begin and end.
    assert!(time("timed").abs_diff(time("untimed")) * 100 <= time("untimed"), "{cost}");
    assert_eq!(measured["graphs"][0]["why"], "asked for");
    assert_eq!(story.run(&["report", "run.json", "-o", "report"]).code, 0);
}

#[test]
fn pieces_from_disk_come_from_the_checkpoint() {
    let Some(story) = Story::new() else { return };
    story.write("device.yaml", models::device().to_yaml().expect("yaml"));
    story.write("tiny.safetensors", checkpoint(&models::manifest()));
    let plan = [
        "plan",
        "tiny.safetensors",
        "--device",
        "device.yaml",
        "--vram",
        "12MiB",
        "--reserve",
        "8MiB",
    ];
    let more = ["--tokens", "64", "--passes", "3", "-o", "tiny.yaml"];
    let made = story.run(&[&plan[..], &more].concat());
    assert_eq!(made.code, 0, "{}", made.err);
    let run = [
        "run",
        "tiny.yaml",
        "--backend",
        "cuda",
        "--compute",
        "spin",
        "--verify",
        "-o",
        "run.json",
    ];
    let whole = story.run(&[&run[..], &["--model", "tiny.safetensors"]].concat());
    assert_eq!(whole.code, 0, "{}", whole.err);
    let digest = story.profile("run.json")["header"]["measured"]["digest"].clone();
    let text = fs::read_to_string(story.path("tiny.yaml")).expect("a plan");
    let mut plan = vramplan::plan::Plan::from_yaml("tiny.yaml", &text).expect("a plan");
    models::onto_disk(&mut plan);
    story.write("tiny.yaml", plan.to_yaml().expect("yaml"));
    let refused = story.run(&run);
    assert_eq!(refused.code, 2, "{}", refused.err);
    assert!(refused.err.contains("name it with --model"), "{}", refused.err);
    assert_eq!(story.count("made:device memory"), 0, "refused before anything is allocated");
    let read = story.run(&[&run[..], &["--model", "tiny.safetensors"]].concat());
    assert_eq!(read.code, 0, "{}", read.err);
    let profile = story.profile("run.json");
    assert_eq!(profile["header"]["measured"]["digest"], digest);
    let spans = profile["spans"].as_array().expect("spans");
    assert!(spans.iter().any(|span| span["lane"] == "disk" && span["op"] == "read"));
    assert_eq!(story.count("live:host memory"), 0);
    // A file that ends before what is read from it.
    let whole = fs::read(story.path("tiny.safetensors")).expect("a checkpoint");
    story.write("tiny.safetensors", &whole[..whole.len() - 4_096]);
    let short = story.run(&[&run[..], &["--model", "tiny.safetensors"]].concat());
    assert_eq!(short.code, 3, "{}", short.err);
    for kind in ["context", "stream", "event", "device memory", "host memory"] {
        assert_eq!(story.count(&format!("live:{kind}")), 0, "{kind}");
    }
}

/// Symbol, call and status of a fault, or another setting; whether the run had begun by then.
const FAULTS: [(&str, bool); 9] = [
    // Allocation refused: by the driver at once, and the next one.
    ("fault=cuMemAlloc_v2:2:2", false),
    ("fault=cuMemAlloc_v2:3:2", false),
    // The limit of page-locked memory.
    ("pinned_limit=1048576", false),
    // Another process takes memory after the plan.
    ("taken=1056964608", false),
    // A copy that fails, and one after which nothing works any more.
    ("fault=cuMemcpyHtoDAsync_v2:60:1", true),
    ("fault=cuMemcpyHtoDAsync_v2:60:700", true),
    // The device goes: unavailable, then unknown.
    ("fault=cuLaunchKernel:60:46", true),
    ("fault=cuEventSynchronize:5:999", true),
    ("fault=cuStreamWaitEvent:40:719", true),
];

#[test]
fn every_fault_is_an_error_a_profile_and_no_leak() {
    let Some(story) = Story::new() else { return };
    for (fault, begun) in FAULTS {
        let _ = fs::remove_file(story.path("run.json"));
        let more = ["--compute", "spin", "--verify", "--graph", "off", "-o", "run.json"];
        let mut command = story.command(&[&RUN[..], &more, &["--write-combined", "off"]].concat());
        command.env("VRAMPLAN_STANDIN", fault);
        let run = outcome(command);
        assert_eq!(run.code, 6, "{fault}: {}", run.err);
        assert!(run.err.starts_with("error: run failed: "), "{fault}: {}", run.err);
        for kind in ["context", "stream", "event", "module", "device memory", "host memory"] {
            assert_eq!(story.count(&format!("live:{kind}")), 0, "{fault}: {kind}");
        }
        if begun {
            let profile = story.profile("run.json");
            assert_eq!(profile["header"]["complete"], false, "{fault}");
            assert_eq!(story.run(&["report", "run.json", "-o", "report"]).code, 0, "{fault}");
        }
    }
}

#[test]
fn a_checkpoint_with_other_tensors_is_not_what_was_planned() {
    let Some(story) = Story::new() else { return };
    story.write("device.yaml", models::device().to_yaml().expect("yaml"));
    story.write("tiny.safetensors", checkpoint(&models::manifest()));
    let plan = [
        "plan",
        "tiny.safetensors",
        "--device",
        "device.yaml",
        "--vram",
        "12MiB",
        "--reserve",
        "8MiB",
    ];
    let made = story.run(&[&plan[..], &["--tokens", "64", "-o", "tiny.yaml"]].concat());
    assert_eq!(made.code, 0, "{}", made.err);
    let yaml = models::manifest().to_yaml().expect("yaml").replace("[192, 64]", "[192, 65]");
    let changed = vramplan::model::Manifest::from_yaml("changed", &yaml).expect("a manifest");
    story.write("tiny.safetensors", checkpoint(&changed));
    let run = story.run(&["run", "tiny.yaml", "--backend", "cuda", "--model", "tiny.safetensors"]);
    assert_eq!(run.code, 3, "{}", run.err);
    assert!(run.err.contains("what was planned; plan again from this model"), "{}", run.err);
    assert_eq!(story.count("made:device memory"), 0);
}
