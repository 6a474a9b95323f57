//! Stories of host memory through the built binary: budgets, tiers, refusals, and what other engines take.

#![expect(clippy::expect_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

const FLUX: [&str; 6] = ["flux1-dev", "--device", "rtx-4090", "--vram", "12GiB", "--passes=6"];

/// Runs the binary in a folder; gives its exit code, standard output and standard error.
fn run(folder: &Path, args: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_vramplan"))
        .args(args)
        .current_dir(folder)
        .output()
        .expect("the binary starts");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    (output.status.code().expect("an exit code"), text(output.stdout), text(output.stderr))
}

fn json(folder: &Path, args: &[&str]) -> Value {
    let (code, out, err) = run(folder, &[args, &["--format", "json"]].concat());
    assert_eq!(code, 0, "{args:?}: {err}");
    serde_json::from_str(&out).expect("one JSON object")
}

fn number(value: &Value) -> u64 {
    value.as_u64().expect("a number")
}

#[test]
fn a_plan_over_three_tiers_is_checked_run_and_shown() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    let tiers = ["--host", "8GiB", "--disk", "3GB/s,80us", "-o", "plan.yaml"];
    let plan = json(folder, &[&["plan"], &FLUX[..], &tiers].concat());
    let component = &plan["components"][0];
    let host = &component["host"];
    let of = |key: &str| number(&host[key]);
    assert_eq!(of("budget_bytes"), 8 << 30);
    assert!(of("locked_bytes") + of("pageable_bytes") <= 8 << 30);
    assert!(of("locked_bytes") >= of("pinned_bytes") + of("ring_bytes"));
    assert_eq!(of("locked_bytes") % 4_096, 0);
    assert_eq!(component["disk_bytes_per_pass"], host["disk_bytes"]);
    assert!(number(&component["disk_bound_ns"]) > 0);
    // What the disk brings takes that long.
    assert!(number(&component["pass_ns"]) >= of("disk_bytes") / 3);
    assert!(number(&component["pass_ns"]) >= number(&component["any_schedule_bound_ns"]));

    assert_eq!(json(folder, &["check", "plan.yaml"])["ok"], true);
    let ran = json(folder, &["run", "plan.yaml", "-o", "run.json.gz"]);
    assert_eq!(ran["makespan_ns"], component["makespan_ns"]);
    assert_eq!(ran["components"][0]["pass_ns"][4], component["pass_ns"]);
    json(folder, &["report", "run.json.gz", "-o", "report"]);
    let svg = fs::read_to_string(folder.join("report/timeline.svg")).expect("a timeline");
    assert!(svg.contains("disk"), "the timeline has no lane for reads");
    let spans = fs::read_to_string(folder.join("report/spans.csv")).expect("spans");
    assert!(spans.contains("disk,read"), "no spans of reads");

    // A place in the ring that is another's: refused, with the block's name.
    let text = fs::read_to_string(folder.join("plan.yaml")).expect("a plan");
    let line = text.lines().filter(|line| line.contains("read_after")).nth(40).expect("many reads");
    let from = line.find("host_at: ").expect("a place") + "host_at: ".len();
    let end = from
        + line[from..].find(|c: char| !c.is_ascii_digit() && !"[], ".contains(c)).expect("an end");
    let other = if line[from..end].trim_end_matches([',', ' ']) == "0" { "256, " } else { "0, " };
    let moved = text.replace(line, &format!("{}{other}{}", &line[..from], &line[end..]));
    assert_ne!(moved, text);
    fs::write(folder.join("moved.yaml"), moved).expect("written");
    let (code, _, err) = run(folder, &["check", "moved.yaml"]);
    assert_ne!(code, 0, "{line}");
    assert!(err.contains("ring") || err.contains("read"), "{err}");
}

#[test]
fn text_says_what_the_host_holds() {
    let folder = tempfile::tempdir().expect("a folder");
    let tiers = ["--host", "8GiB", "--disk", "3GB/s,80us"];
    let (code, out, err) = run(folder.path(), &[&["plan"], &FLUX[..], &tiers].concat());
    assert_eq!(code, 0, "{err}");
    let flat = out.split_whitespace().collect::<Vec<_>>().join(" ");
    for part in [
        "of 8.0 GiB: ",
        " pinned in 4 KiB pages",
        ", ring ",
        " per pass from disk at 3.0 GB/s",
        "(disk-bound)",
    ] {
        assert!(flat.contains(part), "{part:?} in {out}");
    }
}

#[test]
fn a_host_too_small_and_a_disk_unknown_say_what_to_give() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    let args = [&["plan"], &FLUX[..], &["--host", "100KiB", "--disk", "3GB/s", "--format", "json"]]
        .concat();
    let (code, out, err) = run(folder, &args);
    assert_eq!(code, 4, "{err}");
    let answer: Value = serde_json::from_str(&out).expect("one JSON object");
    assert_eq!(answer["memory"], "host");
    let smallest = number(&answer["smallest_budget_bytes"]);
    assert!(smallest > 100 << 10 && err.contains("--host "), "{err}");
    // What is said to work, works.
    let smallest = format!("{}MiB", smallest.div_ceil(1 << 20));
    json(folder, &[&["plan"], &FLUX[..], &["--host", &smallest, "--disk", "3GB/s"]].concat());

    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("profiles/devices/rtx-4090.yaml");
    let spec = fs::read_to_string(repository).expect("a device");
    let without: Vec<&str> = spec.lines().filter(|line| !line.starts_with("disk:")).collect();
    fs::write(folder.join("device.yaml"), without.join("\n")).expect("written");
    let args =
        ["plan", "flux1-dev", "--device", "device.yaml", "--vram", "12GiB", "--host", "8GiB"];
    let (code, _, err) = run(folder, &args);
    assert_eq!(code, 2);
    assert!(err.contains("give --disk RATE"), "{err}");
    for (args, says) in [(["--host", "32"], "32GiB"), (["--disk", "fast"], "--disk")] {
        let (code, _, err) = run(folder, &[&["plan"], &FLUX[..], &args].concat());
        assert_eq!(code, 2);
        assert!(err.contains(says), "{err}");
    }
}

#[test]
fn this_machine_is_asked_and_said_to_be() {
    let folder = tempfile::tempdir().expect("a folder");
    let (code, _, err) = run(
        folder.path(),
        &[&["plan"], &FLUX[..], &["--host", "auto", "--disk", "3GB/s"]].concat(),
    );
    // A machine with very little left is an answer, too.
    assert!(code == 0 || code == 4, "{err}");
    assert!(err.contains("--host auto is ") && err.contains("left to the system"), "{err}");
}

#[test]
fn engines_take_what_their_allocator_locks() {
    let folder = tempfile::tempdir().expect("a folder");
    let policies = "hybrid,sglang-strided,vllm-omni,diffusers-stream,kijai";
    let all = json(folder.path(), &[&["compare"], &FLUX[..], &["--policies", policies]].concat());
    let rows = |answer: &Value| answer["policies"].as_array().expect("rows").clone();
    let of = |row: &Value, key: &str| number(&row["host"][key]);
    for row in rows(&all) {
        let (pinned, locked, pageable) =
            (of(&row, "pinned_bytes"), of(&row, "locked_bytes"), of(&row, "pageable_bytes"));
        assert!(locked >= pinned && pinned + pageable > 0, "{row}");
        match row["policy"].as_str().expect("a name") {
            "kijai" => assert!(pinned == 0 && pageable > 0),
            "vllm-omni" | "diffusers-stream" => {
                assert!(locked > pinned + pinned / 8, "powers of two: {row}")
            }
            _ => assert!(locked < pinned + pinned / 100, "pages: {row}"),
        }
    }
    // Under a budget that only some fit, the others say what they take.
    let some = json(
        folder.path(),
        &[&["compare"], &FLUX[..], &["--policies", policies, "--host", "20GiB"]].concat(),
    );
    for row in rows(&some) {
        match row["policy"].as_str().expect("a name") {
            "hybrid" => assert_eq!(row["fits"], true),
            "vllm-omni" | "diffusers-stream" => {
                assert_eq!(row["fits"], false);
                let reason = row["reason"].as_str().expect("a reason");
                assert!(reason.contains("host"), "{reason}");
                assert!(number(&row["least_host_bytes"]) > 20 << 30);
            }
            _ => {}
        }
    }
}

#[test]
fn components_share_a_host() {
    let folder = tempfile::tempdir().expect("a folder");
    let args = [
        "plan",
        "flux1-dev",
        "--device",
        "rtx-4090",
        "--vram",
        "9GiB",
        "--host",
        "10GiB",
        "--disk",
        "3GB/s",
    ];
    let more = ["--component", "text_encoder_2", "--component", "transformer", "-o", "plan.yaml"];
    let plan = json(folder.path(), &[&args[..], &more].concat());
    let components = plan["components"].as_array().expect("components");
    let of = |n: usize, key: &str| number(&components[n]["host"][key]);
    let used = |n: usize| of(n, "locked_bytes") + of(n, "pageable_bytes");
    assert!(used(0) + used(1) <= 10 << 30, "{plan}");
    assert!(of(1, "pinned_bytes") > 5 << 30, "the transformer has the most passes");
    assert_eq!(json(folder.path(), &["check", "plan.yaml"])["ok"], true);
}

#[test]
fn components_that_share_a_host_are_planned_together() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    let args = ["plan", "flux1-dev", "--device", "rtx-4090", "--vram", "9GiB", "--passes=4"];
    let host = ["--host", "10GiB", "--disk", "3GB/s"];
    let all = ["--components", "text_encoder_2,transformer", "--generations", "2"];
    let plan = json(folder, &[&args[..], &host, &all, &["-o", "plan.yaml"]].concat());
    let hosts = plan["components"].as_array().expect("components").iter().map(|one| &one["host"]);
    let taken = hosts.map(|host| number(&host["locked_bytes"]) + number(&host["pageable_bytes"]));
    assert!(taken.sum::<u64>() <= 10 << 30);
    assert_eq!(json(folder, &["check", "plan.yaml"])["ok"], true);
    let ran = json(folder, &["run", "plan.yaml", "-o", "run.json.gz"]);
    assert_eq!(ran["makespan_ns"], plan["pipeline"]["makespan_ns"]);
    // What a component needs of the disk comes while the one before it computes.
    let (code, out, err) = run(folder, &[&args[..], &host, &all].concat());
    assert_eq!(code, 0, "{err}");
    let words = out.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains(" of 10.0 GiB, of which text_encoder_2: "), "{out}");
    assert!(words.contains(" transformer: "), "{out}");
    let compare = ["compare", "flux1-dev", "--device", "rtx-4090", "--vram", "9GiB"];
    let compare = [&compare[..], &host, &all[..2], &["--policies", "hybrid"]].concat();
    let (code, out, err) = run(folder, &compare);
    assert_eq!(code, 0, "{err}");
    assert!(!out.contains("together"), "{out}");
}

#[test]
fn a_small_host_leaves_every_component_its_least() {
    let folder = tempfile::tempdir().expect("a folder");
    let flux = ["plan", "flux1-dev", "--device", "rtx-4090", "--vram", "9GiB", "--passes=3"];
    let all = ["--disk", "3GB/s", "--components", "all", "--host"];
    let plan = |host: &str| run(folder.path(), &[&flux[..], &all, &[host]].concat());
    let (code, _, err) = plan("8MiB");
    assert_eq!(code, 4, "{err}");
    let hint = err.split("--host ").nth(1).expect("a hint").trim().to_owned();
    for host in [hint.as_str(), "2GiB", "4GiB", "10GiB", "13GiB"] {
        let (code, _, err) = plan(host);
        assert_eq!(code, 0, "{host}: {err}");
    }
}

#[test]
fn what_cannot_be_planned_beside_a_host_budget_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let beside = [
        (&["--granularity", "rotating"][..], "rotating granularity"),
        (&["--ranks", "2", "--shard", "dp"], "several ranks"),
    ];
    for (flags, named) in beside {
        let args = [&["plan"], &FLUX[..], &["--host", "8GiB"], flags].concat();
        let (code, _, err) = run(folder.path(), &args);
        assert_eq!(code, 2, "{flags:?}: {err}");
        assert!(err.contains(named) && err.contains("--host"), "{flags:?}: {err}");
        let without = [&["plan"], &FLUX[..], flags].concat();
        let (code, _, err) = run(folder.path(), &without);
        assert_eq!(code, 0, "{flags:?} alone: {err}");
    }
}
