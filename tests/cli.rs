//! Stories through the built binary: what a user types, what comes back, with which exit code.

#![expect(clippy::expect_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use expect_test::{expect, expect_file};
use serde_json::Value;

const FLUX: [&str; 6] = ["flux1-dev", "--device", "rtx-4090", "--vram", "12GiB", "--passes=6"];

/// A folder of its own, and the binary run inside it.
struct Story {
    folder: tempfile::TempDir,
}

/// What one command did.
struct Outcome {
    code: i32,
    out: String,
    err: String,
}

impl Story {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a folder") }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("written");
    }

    fn run(&self, args: &[&str]) -> Outcome {
        let output = Command::new(env!("CARGO_BIN_EXE_vramplan"))
            .args(args)
            .current_dir(self.folder.path())
            .output()
            .expect("the binary starts");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
        Outcome {
            code: output.status.code().expect("an exit code"),
            out: text(output.stdout),
            err: text(output.stderr),
        }
    }

    /// The JSON answer of a command that must succeed.
    fn json(&self, args: &[&str]) -> Value {
        let outcome = self.run(&[args, &["--format", "json"]].concat());
        assert_eq!(outcome.code, 0, "{args:?}: {}", outcome.err);
        serde_json::from_str(&outcome.out).expect("one JSON object")
    }

    /// The message of a command that must fail with this code, and that nothing was left behind.
    fn fails(&self, code: i32, args: &[&str]) -> String {
        let before = self.files();
        let outcome = self.run(args);
        assert_eq!(outcome.code, code, "{args:?}: {}{}", outcome.out, outcome.err);
        assert_eq!(outcome.out, "", "answers of a failure go to stderr");
        assert_eq!(self.files(), before, "{args:?} left something behind");
        outcome.err
    }

    fn files(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.folder.path()).expect("the folder");
        let mut files: Vec<PathBuf> =
            entries.map(|entry| entry.expect("an entry").path()).collect();
        files.sort();
        files
    }
}

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

#[test]
fn from_a_model_to_a_report_every_figure_agrees() {
    let story = Story::new();
    let plan = story.json(&[&["plan"], &FLUX[..], &["-o", "plan.yaml"]].concat());
    let check = story.json(&["check", "plan.yaml"]);
    let run = story.json(&["run", "plan.yaml", "-o", "run.json.gz"]);
    let report = story.json(&["report", "run.json.gz", "-o", "report"]);

    let component = &plan["components"][0];
    assert_eq!(check["ok"], true);
    assert_eq!(check["peak_bytes"], plan["peak_bytes"]);
    assert_eq!(run["peak_bytes"], plan["peak_bytes"]);
    assert_eq!(run["makespan_ns"], component["makespan_ns"]);
    assert_eq!(run["stall_ns"], component["stall_ns"]);
    assert_eq!(run["components"][0]["pass_ns"][0], component["first_pass_ns"]);
    assert_eq!(run["components"][0]["pass_ns"][3], component["pass_ns"]);
    assert_eq!(run["makespan_ns"], report["makespan_ns"]);
    let number = |key: &str| run[key].as_u64().expect("a number");
    assert_eq!(number("overlap_ns") + number("exposed_ns"), number("h2d_busy_ns"));
    for file in ["report.html", "timeline.svg", "vram.png", "spans.csv", "trace.json.gz"] {
        assert!(story.path("report").join(file).exists(), "{file}");
    }
}

#[test]
fn a_report_says_what_was_predicted_of_every_block_and_copy() {
    let story = Story::new();
    story.json(&[&["plan"], &FLUX[..], &["-o", "plan.yaml"]].concat());
    let jitter = ["--jitter", "5%", "--seed", "1", "--passes", "3"];
    story.json(&[&["run", "plan.yaml", "-o", "run.json"], &jitter[..]].concat());
    let told = story.json(&["report", "run.json", "-o", "report"])["predicted"].clone();
    for side in ["computes", "copies"] {
        let side = &told[side];
        let error = |value: &Value| value.as_f64().expect("a share");
        let mean = error(&side["mean_absolute_error"]);
        assert!(mean > 0.0 && mean < 0.05, "{side}");
        let pairs = side["pairs"].as_array().expect("pairs");
        let largest = pairs.iter().map(|pair| error(&pair["error"])).fold(0.0, f64::max);
        assert!((largest - error(&side["largest"]["error"])).abs() < 1e-9 && largest <= 0.0501);
        assert_eq!((&side["unmatched"], pairs.len() > 50), (&0.into(), true));
    }
    let page = fs::read_to_string(story.path("report/report.html")).expect("a page");
    assert!(page.contains("id=\"predicted\"") && page.contains("class=\"ghost\""));
    // A profile that does not hold its plan is given it, and no other.
    let text = fs::read(story.path("run.json")).expect("the run");
    let mut old: Value = serde_json::from_slice(&text).expect("JSON");
    old["header"].as_object_mut().expect("a header").remove("plan").expect("the plan's text");
    fs::write(story.path("old.json"), old.to_string()).expect("written");
    assert!(story.json(&["report", "old.json", "-o", "old"])["predicted"].is_null());
    let given = story.json(&["report", "old.json", "--plan", "plan.yaml", "-o", "old"]);
    assert_eq!(given["predicted"], told);
    story.json(&[&["plan"], &FLUX[..4], &["14GiB", "-o", "other.yaml"]].concat());
    let other = story.run(&["report", "old.json", "--plan", "other.yaml", "-o", "none"]);
    assert_eq!(other.code, 3, "{}", other.err);
    assert!(other.err.contains("another plan than the profile's"), "{}", other.err);
    assert!(!story.path("none").exists());
}

#[test]
fn the_same_input_gives_the_same_bytes() {
    let story = Story::new();
    for folder in ["a", "b"] {
        let args = [&["study"], &FLUX[..], &["-o", folder]].concat();
        let outcome = story.run(&args);
        assert_eq!(outcome.code, 0, "{}", outcome.err);
    }
    let mut compared = 0;
    for entry in fs::read_dir(story.path("a")).expect("the study") {
        let name = entry.expect("an entry").file_name();
        let read = |folder: &str| fs::read(story.path(folder).join(&name)).expect("both have it");
        assert!(read("a") == read("b"), "{name:?} differs");
        compared += 1;
    }
    assert!(compared >= 12, "{compared} files");
}

#[test]
fn the_examples_are_what_the_commands_make() {
    let story = Story::new();
    let name = "flux1-dev-rtx-4090-12GiB";
    let flux = &FLUX[..5];
    story.json(&[&["plan"], flux, &["-o", "plan.yaml"]].concat());
    let plan = fs::read_to_string(story.path("plan.yaml")).expect("the plan");
    expect_file![repository(&format!("plans/examples/{name}.yaml"))].assert_eq(&plan);
    story.json(&["run", "plan.yaml", "-o", "run.json.gz"]);
    let run = fs::read(story.path("run.json.gz")).expect("the run");
    let kept = repository(&format!("profiles/runs/{name}.json.gz"));
    let updating = std::env::var_os("UPDATE_EXPECT").is_some();
    if updating {
        fs::write(&kept, &run).expect("written");
    }
    assert!(
        fs::read(&kept).expect("the kept run") == run,
        "profiles/runs is stale: UPDATE_EXPECT=1"
    );
}

/// The fenced block of the README that follows a marker line.
fn readme_block(language: &str, containing: &str) -> String {
    let readme = fs::read_to_string(repository("README.md")).expect("the README");
    let fence = format!("```{language}\n");
    let blocks = readme.split(&fence).skip(1).filter_map(|rest| rest.split_once("```"));
    let found = blocks.map(|(block, _)| block).find(|block| block.contains(containing));
    found.expect("the block").to_owned()
}

#[test]
fn the_readme_shows_what_its_command_prints() {
    let story = Story::new();
    let folder = "reports/flux1-dev-rtx-4090-12GiB";
    let outcome = story.run(&[&["study"], &FLUX[..5], &["-o", folder]].concat());
    assert_eq!(outcome.code, 0, "{}", outcome.err);
    let shown = readme_block("text", "flux1-dev on NVIDIA GeForce RTX 4090");
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        let readme = fs::read_to_string(repository("README.md")).expect("the README");
        fs::write(repository("README.md"), readme.replace(&shown, &outcome.out)).expect("written");
    } else {
        assert_eq!(shown, outcome.out, "README.md is stale: UPDATE_EXPECT=1");
    }
    assert!(outcome.out.lines().all(|line| line.chars().count() <= 80), "wider than 80 columns");

    let plan = fs::read_to_string(story.path(folder).join("plan.yaml")).expect("the plan");
    for line in readme_block("yaml", "issue_after").lines().filter(|line| !line.contains('…')) {
        assert!(plan.contains(line.trim()), "README shows {line:?}, the plan does not");
    }
    // The report in the repository is what the command makes.
    let updating = std::env::var_os("UPDATE_EXPECT").is_some();
    for entry in fs::read_dir(story.path(folder)).expect("the study") {
        let name = entry.expect("an entry").file_name();
        let made = fs::read(story.path(folder).join(&name)).expect("made");
        let kept = repository(folder).join(&name);
        if updating {
            fs::write(&kept, &made).expect("written");
        }
        let same = fs::read(&kept).expect("kept") == made;
        assert!(same, "{name:?} of reports/ is stale: UPDATE_EXPECT=1");
    }
}

#[test]
fn a_budget_too_small_is_an_answer() {
    let story = Story::new();
    let args = ["plan", "flux1-dev", "--device", "rtx-4090", "--vram", "3GiB", "-o", "plan.yaml"];
    expect![[r#"
        error: infeasible budget: transformer needs 770.5 MiB for weights, 416.0 MiB are left after the reserve; 354.5 MiB short
        hint: the smallest budget that works is --vram 3427MiB
    "#]]
    .assert_eq(&story.fails(4, &args));
    let outcome = story.run(&[&args[..], &["--format", "json"]].concat());
    assert_eq!(outcome.code, 4);
    let answer: Value = serde_json::from_str(&outcome.out).expect("an object");
    assert_eq!(answer["feasible"], false);
    let smallest = answer["smallest_budget_bytes"].as_u64().expect("a size");
    let vram = |bytes: u64| format!("{bytes}B");
    let plan =
        |bytes| story.run(&["plan", "flux1-dev", "--device=rtx-4090", "--vram", &vram(bytes)]);
    assert_eq!(plan(smallest).code, 0, "the smallest budget works");
    assert_eq!(plan(smallest - 1).code, 4, "nothing smaller does");

    for command in [
        &["compare", "flux1-dev", "--device=rtx-4090", "--vram=3GiB"],
        &["sweep", "flux1-dev", "--device=rtx-4090", "--vram=1GiB..3GiB/1GiB"],
        &["study", "flux1-dev", "--device=rtx-4090", "--vram=3GiB"],
    ] {
        let outcome = story.run(&[&command[..], &["--format", "json"]].concat());
        let answer: Value = serde_json::from_str(&outcome.out).expect("an object");
        assert_eq!((outcome.code, &answer["feasible"]), (4, &Value::Bool(false)), "{command:?}");
    }

    let below_reserve = ["plan", "flux1-dev", "--device", "rtx-4090", "--vram", "1GiB"];
    expect![[r#"
        error: infeasible budget: transformer needs 770.5 MiB for weights, 0 B are left after the reserve; 2.3 GiB short
        hint: the smallest budget that works is --vram 3427MiB
    "#]]
    .assert_eq(&story.fails(4, &below_reserve));
}

#[test]
fn unknown_names_list_what_exists_and_suggest_the_nearest() {
    let story = Story::new();
    let plan = |model: &str, device: &str, more: &[&str]| {
        story.fails(2, &[&["plan", model, "--device", device, "--vram", "12GiB"], more].concat())
    };
    expect![[r#"
        error: unknown model, and no such file: "flux1-def"; there are: flux1-dev, flux2-klein-4b, llama-3-8b, llama-3-8b-q4_k_m, qwen-image, wan2.2-t2v-a14b, z-image
        hint: did you mean "flux1-dev"?
    "#]]
    .assert_eq(&plan("flux1-def", "rtx-4090", &[]));
    assert!(plan("flux1-dev", "rtx4090", &[]).contains(r#"did you mean "rtx-4090"?"#));
    let component = plan("flux1-dev", "rtx-4090", &["--component", "transformers"]);
    assert!(component.contains(r#"did you mean "transformer"?"#), "{component}");
    let policy =
        ["compare", "flux1-dev", "--device", "rtx-4090", "--vram", "12GiB", "--policies", "led"];
    let message = story.fails(2, &policy);
    assert!(
        message.contains("there are: hybrid, hybrid-phase, hybrid-leaf, resident, sync"),
        "{message}"
    );
    let parameter = [&policy[..7], &["sglang-leading:q=3"]].concat();
    assert!(story.fails(2, &parameter).contains("there are: p, r"));
    let beyond = [&policy[..7], &["musubi-ring:n=58"]].concat();
    assert!(story.fails(2, &beyond).contains("at most 57"));
    let engine = [&policy[..6], &["--best-for", "sglan"]].concat();
    assert!(story.fails(2, &engine).contains(r#"did you mean "sglang"?"#));
}

#[test]
fn policies_are_compared_at_their_best_with_the_flags_that_set_them() {
    let story = Story::new();
    let compare = |more: &[&str]| story.json(&[&["compare"], &FLUX[..], more].concat());
    let all = compare(&[]);
    let rows = all["policies"].as_array().expect("a list");
    assert!(rows.len() >= 28, "{}", rows.len());
    for row in rows {
        let own = row["engine"].is_null();
        assert_eq!(row["fits"], row["pass_ns"].is_u64(), "{row}");
        assert!(own || row["default"]["pass_ns"].is_u64(), "{row}");
        let settable = !own && row["fits"] == true && row["engine_runs_model"] == true;
        assert_eq!(settable, row["engine_flags"].is_string(), "{row}");
        assert!(row["fits"] == true || row["smallest_budget_bytes"].as_u64() > Some(12 << 30));
        assert_eq!(row["fits"], row["gap"].is_number(), "{row}");
        assert!(
            row["pass_ns"]
                .as_u64()
                .is_none_or(|pass| pass >= row["bound_ns"].as_u64().expect("a bound"))
        );
    }
    let sglang = compare(&["--best-for", "sglang"]);
    assert_eq!(sglang["policies"].as_array().map(Vec::len), Some(3));
    let text = story.run(&[&["compare"], &FLUX[..], &["--best-for", "sglang"]].concat()).out;
    expect![[r#"
        sglang: sglang-strided at 799.3 ms per pass
          --dit-layerwise-offload --dit-offload-prefetch-size 1
          --dit-layerwise-resident-layers 8 --dit-layerwise-residency-policy
          strided

        flux1-dev on NVIDIA GeForce RTX 4090 with 12.0 GiB of VRAM
        assumes 1024 x 1024 pixels, batch 1, text 512 tokens; 6 passes of
        transformer
        times per pass, estimated; each policy at its best setting

          policy                      pass    to bound       H2D      peak      host    default  setting
          sglang-strided b        799.3 ms      +6.4 %  14.9 GiB  11.7 GiB  22.0 GiB    1.016 s  p=1:r=8
          sglang-leading b?       893.3 ms     +18.9 %  15.8 GiB  11.5 GiB  22.0 GiB    1.016 s  p=2:r=7
          sglang-layerwise b      968.9 ms     +29.0 %  22.0 GiB   9.4 GiB  22.0 GiB    1.016 s  p=4

          b: no schedule that holds a block while it computes is faster than 751.4 ms
          default: what the engine ships; *: does not fit this budget
          host: what streams, and what its engine keeps beside it, as its allocator locks it
          ?: inferred in part, `vramplan policies` says what

          sglang-strided        --dit-layerwise-offload --dit-offload-prefetch-size 1
                                --dit-layerwise-resident-layers 8 --dit-layerwise-residency-policy
                                strided
          sglang-leading        --dit-layerwise-offload --dit-offload-prefetch-size 2
                                --dit-layerwise-resident-layers 7 --dit-layerwise-residency-policy
                                leading
          sglang-layerwise      --dit-layerwise-offload --dit-offload-prefetch-size 4
    "#]]
    .assert_eq(&text);
    let given = compare(&["--policies", "sglang-leading:r=30"]);
    assert_eq!(given["policies"][0]["fits"], false);
    assert!(given["policies"][0]["reason"].as_str().is_some_and(|why| why.contains("smallest")));
}

#[test]
fn bad_files_are_refused_with_their_place() {
    let story = Story::new();
    let outcome = story.run(&[&["plan"], &FLUX[..], &["-o", "good.yaml"]].concat());
    assert_eq!(outcome.code, 0, "{}", outcome.err);
    let good = fs::read_to_string(story.path("good.yaml")).expect("the plan");

    story.write("unknown.yaml", &good.replacen("granularity:", "granulation:", 1));
    let message = story.fails(3, &["check", "unknown.yaml"]);
    assert!(
        message.contains("unknown.yaml: line 7 column") && message.contains("granulation"),
        "{message}"
    );

    story.write(
        "unsafe.yaml",
        &good.replacen(
            "issue_after: single_transformer_blocks.37@-1",
            "issue_after: single_transformer_blocks.36@-1",
            1,
        ),
    );
    let told = story.run(&["check", "unsafe.yaml", "--format", "json"]);
    let told: Value = serde_json::from_str(&told.out).expect("one JSON object");
    assert_eq!(told["ok"], false);
    assert!(told["problems"][0]["found"].is_string(), "{told}");
    let message = story.fails(3, &["check", "unsafe.yaml"]);
    assert!(message.contains("a wait for the last use of these bytes"), "{message}");
    story.fails(3, &["run", "unsafe.yaml", "-o", "run.json"]);

    story.write("bomb.yaml", "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n");
    story.fails(3, &["check", "bomb.yaml"]);
    story.fails(3, &["check", "missing.yaml"]);
    story.write("binary.yaml", "\u{0}\u{1}");
    story.fails(3, &["check", "binary.yaml"]);
    story.write("run.json", "{\"format\": \"vramplan/profile/1\"}");
    story.fails(3, &["report", "run.json"]);

    let manifest = "format: vramplan/manifest/1\nmodel: m\nkinds: {k: {bytes: 8}}\ncomponents:\n  \
                    - {name: c, root: {bytes: 0}, blocks: [{list: b, kind: k, count: 3}], \
                    edges: [{from: b.2, to: b.0}]}\n";
    story.write("cycle.yaml", manifest);
    let message = story.fails(3, &["plan", "cycle.yaml", "--device", "l4", "--vram", "4GiB"]);
    expect![[r#"
        error: cycle.yaml: components[0].edges[0]: found b.2 -> b.0, a cycle through the order of execution, expected an edge from an earlier block to a later one
    "#]]
    .assert_eq(&message);
}

/// A small plan with one text replaced by another must be refused, for a reason that contains `why`.
fn refused(story: &Story, good: &str, from: &str, to: &str, why: &str) {
    assert!(good.contains(from), "{from}");
    story.write("edited.yaml", &good.replacen(from, to, 1));
    let message = story.fails(3, &["check", "edited.yaml"]);
    assert!(message.starts_with("error: edited.yaml: ") && message.contains(why), "{message}");
    fs::remove_file(story.path("edited.yaml")).expect("removed");
}

#[test]
fn a_plan_that_says_what_cannot_be_is_refused() {
    let story = Story::new();
    let good = fs::read_to_string(repository("tests/data/two-phases.yaml")).expect("the plan");
    let cases = [
        ("passes: 2", "passes: 4294967295", "expected 1 to 1000000"),
        ("peak: 350", "peak: 1", "expected slab + reserve = 350"),
        ("slots: 2", "slots: 3", "equal slots of the window"),
        ("overlap: 0.0", "overlap: 1.5", "at most 1"),
        ("- name: transformer", "- name: text_encoder", "a second time"),
        ("bytes: 400\n", "bytes: 400\n        from: disk\n", "beside the short form"),
        ("blocks.1@-2", "blocks.1@-1000", "@-16"),
        (
            "issue_before: blocks.2@-1",
            "issue_before: blocks.2@-2",
            "found blocks.2@-2, expected a use",
        ),
        ("at: [600, 700]", "at: 900", "within the slab"),
    ];
    for (from, to, why) in cases {
        refused(&story, &good, from, to, why);
    }
    let places = (0..100).map(|n| (600 + n % 2 * 100).to_string()).collect::<Vec<_>>().join(", ");
    refused(&story, &good, "at: [600, 700]", &format!("at: [{places}]"), "at most 64");
}

#[test]
fn work_without_end_is_refused_at_once() {
    let story = Story::new();
    let outcome = story.run(&[&["plan"], &FLUX[..], &["-o", "plan.yaml"]].concat());
    assert_eq!(outcome.code, 0, "{}", outcome.err);
    let message = story.fails(2, &["run", "plan.yaml", "--passes", "1000000"]);
    assert!(message.contains("give fewer --passes"), "{message}");
    story.fails(2, &["run", "plan.yaml", "--passes", "10000000"]);
    story.write("w.yaml", "format: vramplan/workload/1\npasses: 4294967295\n");
    let args = ["plan", "flux1-dev", "--device=l4", "--vram=12GiB", "--workload", "w.yaml"];
    assert!(story.fails(3, &args).contains("expected 1 to 1000000"));
    story.write(
        "w.yaml",
        "format: vramplan/workload/1\npasses: {transfomer: 3}\nheight: 512\nwidth: 512\n",
    );
    assert!(story.fails(2, &args).contains(r#"did you mean "transformer"?"#));
    let centuries = "compute: {transformer.*: 18446744073709551615}\n";
    story.write("w.yaml", &format!("format: vramplan/workload/1\npasses: 3\n{centuries}"));
    assert!(story.fails(2, &args).contains("check the workload"));
    story.write("m.yaml", "format: vramplan/manifest/1\nmodel: m\nkinds: {k: {bytes: 8}}\ncomponents:\n  - {name: c, root: {bytes: 0}, blocks: [{list: \"b@-x\", kind: k, count: 9223372036854775808}]}\n");
    let message = story.fails(3, &["plan", "m.yaml", "--device=l4", "--vram=4GiB"]);
    assert!(
        message.contains("at most 200000") && message.contains("a path without @"),
        "{message}"
    );
}

#[test]
fn outputs_go_where_they_are_told() {
    let story = Story::new();
    let plan = |more: &[&str]| story.run(&[&["plan"], &FLUX[..], more].concat());
    let yaml = plan(&["-o", "-"]);
    assert!(yaml.code == 0 && yaml.out.starts_with("# Residency plan"), "{}", yaml.err);
    assert_eq!(plan(&["-o", "-", "--format", "json"]).code, 2);
    story.write("plan.yaml", &yaml.out);
    let run = story.run(&["run", "plan.yaml", "-o", "-"]);
    assert!(run.code == 0 && run.out.starts_with('{'), "{}", run.err);
    let above = story.run(&["plan", "flux1-dev", "--device=rtx-4090", "--vram=32GiB"]);
    assert!(above.code == 0 && above.err.contains("more than the 24.0 GiB"), "{}", above.err);
    let bare = story.fails(2, &["plan", "flux1-dev", "--device=rtx-4090", "--vram=12"]);
    assert!(bare.contains("did you mean 12GiB?"), "{bare}");
}

#[test]
fn sizes_on_the_command_line_are_read_strictly() {
    let story = Story::new();
    for vram in ["-1GiB", "12XiB", "1e3GiB", "99999999999GiB", "", "12 GiB GiB"] {
        let vram = format!("--vram={vram}");
        let message = story.fails(2, &["plan", "flux1-dev", "--device", "rtx-4090", &vram]);
        assert!(message.contains("12GiB") || message.contains("16GiB"), "{message}");
    }
    for range in ["6", "6GiB..4GiB/1GiB", "6GiB..8GiB/0", "0..1TiB/1"] {
        story.fails(2, &["sweep", "flux1-dev", "--device", "rtx-4090", "--vram", range]);
    }
    let share = ["plan", "flux1-dev", "--device", "rtx-4090", "--vram", "50%"];
    assert_eq!(story.json(&share)["budget_bytes"], 12u64 << 30);
}

#[test]
fn two_components_are_planned_as_phases() {
    let story = Story::new();
    let args = [
        "plan",
        "wan2.2-t2v-a14b",
        "--device",
        "rtx-4090",
        "--vram",
        "24GiB",
        "--passes",
        "6",
        "--component",
        "transformer",
        "--component",
        "transformer_2",
        "-o",
        "plan.yaml",
    ];
    let plan = story.json(&args);
    assert_eq!(plan["components"].as_array().map(Vec::len), Some(2));
    story.json(&["check", "plan.yaml"]);
    let run = story.json(&["run", "plan.yaml"]);
    let predicted: u64 = plan["components"]
        .as_array()
        .expect("two")
        .iter()
        .map(|component| component["makespan_ns"].as_u64().expect("a time"))
        .sum();
    assert_eq!(run["makespan_ns"].as_u64(), Some(predicted));
}

#[test]
fn a_pipeline_is_planned_checked_run_and_compared() {
    let story = Story::new();
    let wan = ["wan2.2-t2v-a14b", "--device", "rtx-4090", "--vram", "24GiB", "--passes=6"];
    let plan =
        story.json(&[&["plan"], &wan[..], &["--components", "all", "-o", "w.yaml"]].concat());
    let together = &plan["pipeline"];
    let names: Vec<&str> = together["components"]
        .as_array()
        .expect("components")
        .iter()
        .map(|component| component["name"].as_str().expect("a name"))
        .collect();
    assert_eq!(names, ["text_encoder", "transformer", "transformer_2", "vae"]);
    for boundary in together["boundaries"].as_array().expect("boundaries") {
        let cost = boundary["cost_ns"].as_u64().expect("a cost");
        assert!(cost <= boundary["demand_ns"].as_u64().expect("a demand"), "{boundary}");
    }
    assert!(plan["peak_bytes"].as_u64().expect("a peak") <= 24 << 30);
    assert_eq!(story.json(&["check", "w.yaml"])["ok"], true);
    let run = story.json(&["run", "w.yaml", "--jitter=0%", "-o", "w.json"]);
    assert_eq!(run["makespan_ns"], together["first_generation_ns"]);
    assert_eq!(story.run(&["report", "w.json", "-o", "report"]).code, 0);
    let peers = ["--components", "dit", "--policies", "hybrid,sglang-layerwise,fastvideo-first"];
    let compared = story.json(&[&["compare"], &wan[..], &peers].concat());
    let runs = compared["pipeline"]["runs"].as_array().expect("runs").clone();
    let total = |run: &Value| run["total_ns"].as_u64().expect("a time");
    assert_eq!(runs.len(), 4);
    assert!(runs.iter().all(|run| total(run) >= total(&runs[0])), "{runs:?}");
    // Another system's components stand in one file, too, each with a reserve of its own.
    let sglang = ["--components", "all", "--policy", "sglang-strided", "-o", "s.yaml"];
    story.json(&[&["plan"], &wan[..], &sglang].concat());
    assert_eq!(story.json(&["check", "s.yaml"])["ok"], true);
    // The same again costs no more; what is held to the end is copied once.
    let twice = ["--components", "all,vae=resident", "--generations=2"];
    let plan = story.json(&[&["plan"], &wan[..], &twice].concat());
    assert_eq!(plan["pipeline"]["components"][3]["held"], "resident");
    let time = |key: &str| plan["pipeline"][key].as_u64().expect("a time");
    assert!(time("generation_ns") <= time("first_generation_ns"));
}

#[test]
fn blocks_that_passes_leave_out_are_planned_run_and_reported() {
    let story = Story::new();
    let flux = ["plan", "flux1-dev", "--device", "rtx-4090", "--vram", "12GiB", "--passes=6"];
    let cached =
        "transformer.transformer_blocks.8-18,transformer.single_transformer_blocks.*@1-5/2";
    let kept = format!("{cached}:kept");
    let skipped = |skip: &str, file: &str| {
        let plan = story.json(&[&flux[..], &["--skip", skip, "-o", file]].concat());
        let component = plan["components"][0].clone();
        let run = story.json(&["run", file, "-o", &format!("{file}.json")]);
        assert_eq!(run["makespan_ns"], component["makespan_ns"], "predicted = simulated");
        assert_eq!(story.json(&["check", file])["ok"], true);
        component
    };
    let time = |value: &Value| value.as_u64().expect("a time");
    let (cancelled, kept) = (skipped(cached, "a.yaml"), skipped(&kept, "b.yaml"));
    let figures = &cancelled["skipped"];
    assert_eq!(figures["uses"], 3 * (11 + 38));
    assert_eq!(figures["cancelled_ns"], cancelled["makespan_ns"]);
    assert!(time(&figures["run_bound_ns"]) <= time(&figures["cancelled_ns"]));
    assert!(time(&figures["kept_ns"]) < time(&figures["whole_ns"]));
    assert_eq!(kept["skipped"]["kept_ns"], kept["makespan_ns"]);
    assert_eq!(kept["skipped"]["cancelled_bytes"], 0);
    let report = story.run(&["report", "a.yaml.json", "-o", "report"]);
    let said = report.out.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(said.contains("3 passes of transformer leave out 147 uses of blocks"), "{said}");
    // Fewer passes leave out fewer; all passes are what is compared with other runs.
    story.json(&["run", "a.yaml", "--passes", "3", "-o", "short.json"]);
    assert_eq!(story.run(&["report", "short.json", "-o", "short"]).code, 0);
    story.json(&[&flux[..], &["-o", "whole.yaml"]].concat());
    story.json(&["run", "whole.yaml", "-o", "whole.json"]);
    let held =
        |a: &str, b: &str| story.run(&["report", a, b, "-o", "two", "--fail-if-slower"]).code;
    assert_eq!(held("whole.json", "a.yaml.json"), 0);
    assert_eq!(held("a.yaml.json", "whole.json"), 7);
    assert_eq!(held("a.yaml.json", "short.json"), 2);
    let edited = fs::read_to_string(story.path("a.yaml")).expect("a plan");
    story.write("edited.yaml", &edited.replace("uses: 147", "uses: 148"));
    assert!(story.fails(3, &["check", "edited.yaml"]).contains("147 uses"));
    // The same from a workload file.
    let workload = "format: vramplan/workload/1\npasses: 6\nbatch: 1\ntokens: {text: 512}\n\
                    height: 1024\nwidth: 1024\n\
                    reserve: {context: 500MiB, activations: 1900MiB, workspace: 256MiB}\nskips:\n\
                    - {blocks: [transformer.transformer_blocks.8-18, \
                    transformer.single_transformer_blocks.*], passes: [1-5/2]}\n";
    story.write("w.yaml", workload);
    let same = story.json(&[&flux[..], &["--workload", "w.yaml"]].concat());
    assert_eq!(same["components"][0]["makespan_ns"], cancelled["makespan_ns"]);
    for (wrong, code, why) in [
        ("transformer.blocks.1@1", 3, "transformer.transformer_blocks.1"),
        ("transformer.transformer_blocks.18-19@1", 3, "which fits no block"),
        ("transformer.transformer_blocks.1@6", 3, "passes 0 to 5"),
        ("transformer.transformer_blocks.1@5-3", 2, "5-27/2"),
        ("transformer.transformer_blocks.1", 2, "BLOCKS@PASSES"),
        ("transformer.transformer_blocks.1@1:never", 2, "kept or cancelled"),
    ] {
        let outcome = story.run(&[&flux[..], &["--skip", wrong]].concat());
        assert_eq!(outcome.code, code, "{wrong}: {}", outcome.err);
        assert!(outcome.err.contains(why), "{wrong}: {}", outcome.err);
    }
    let compare = [&["compare"], &flux[1..], &["--skip", cached, "--policies=hybrid"]].concat();
    assert!(story.run(&compare).err.contains("a pass that runs every block"));
}

#[test]
fn components_that_cannot_be_held_so_are_refused() {
    let story = Story::new();
    let flux = ["plan", "flux1-dev", "--device", "rtx-4090", "--vram", "12GiB"];
    let refused = |components: &str, code: i32, why: &str| {
        let outcome = story.run(&[&flux[..], &["--components", components]].concat());
        assert_eq!(outcome.code, code, "{components}: {}", outcome.err);
        assert!(outcome.err.contains(why), "{components}: {}", outcome.err);
    };
    refused("transfromer", 2, "transformer");
    refused("vae=kept", 2, "resident");
    refused("vae,vae", 2, "twice");
    refused("transformer=phase", 4, "as a whole");
    let held = [&flux[..], &["--components=all,vae=resident", "--policy=sglang-strided"]].concat();
    assert!(story.fails(2, &held).contains("leave out =HOLD"));
    let llama =
        ["plan", "llama-3-8b", "--device=rtx-4090", "--vram=12GiB", "--components=encoders"];
    let message = story.fails(2, &llama);
    assert!(message.contains("there are: model, dit, all"), "{message}");
    refused("all,text_encoder_2=resident,transformer=resident", 4, "beside what is resident");
    // Leaves round up one by one.
    let leaves = ["--components=transformer,vae=resident", "--unit=leaf"];
    let outcome = story.run(&[&flux[..], &leaves].concat());
    assert_eq!(outcome.code, 0, "{}", outcome.err);
}

#[test]
fn schemas_and_completions_come_for_every_kind_and_shell() {
    let story = Story::new();
    for kind in ["manifest", "device", "workload", "plan", "profile"] {
        let schema = story.json(&["schema", kind]);
        assert!(schema["properties"]["format"].is_object(), "{kind}");
    }
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let outcome = story.run(&["completions", shell]);
        assert!(outcome.code == 0 && outcome.out.contains("vramplan"), "{shell}");
    }
}

#[test]
fn every_command_explains_itself_with_an_example() {
    let story = Story::new();
    let help = story.run(&["--help"]).out;
    let commands: Vec<&str> = help
        .split("Commands:")
        .nth(1)
        .expect("a list")
        .lines()
        .filter_map(|line| line.strip_prefix("  ")?.split_whitespace().next())
        .take_while(|word| !word.starts_with('-'))
        .filter(|word| *word != "help")
        .collect();
    assert!(commands.len() >= 15, "{commands:?}");
    for command in commands {
        let help = story.run(&[command, "--help"]).out;
        assert!(help.contains("Example:\n  vramplan"), "{command} has no example");
    }
}

const GRID: [&str; 10] = [
    "sweep",
    "flux1-dev",
    "flux2-klein-4b",
    "llama-3-8b",
    "qwen-image",
    "wan2.2-t2v-a14b",
    "z-image",
    "--device",
    "rtx-4090,rtx-3060,h100",
    "--weights=25%,50%,75%,90%",
];

#[test]
fn rows_and_tensors_that_the_model_does_not_have_are_refused() {
    let story = Story::new();
    story.json(&[&["plan"], &FLUX[..], &["-o", "plan.yaml"]].concat());
    assert_eq!(story.json(&["check", "plan.yaml"])["tensors_checked"], true);
    let plan = fs::read_to_string(story.path("plan.yaml")).expect("the plan");
    let start = plan.find("ff_context.net.2.weight[").expect("a cut tensor");
    let end = start + plan[start..].find(']').expect("its end");
    let cut = &plan[start..=end];
    for wrong in [
        "ff_context.net.2.weight[2152..999999999]",
        "ff_context.net.2.weight[0..1]",
        "no.such[0..5]",
        "[0..5]",
    ] {
        fs::write(story.path("wrong.yaml"), plan.replacen(cut, wrong, 1)).expect("written");
        let message = story.fails(3, &["check", "wrong.yaml"]);
        assert!(
            message.contains("transformer_blocks.0") || message.contains("blocks[1]"),
            "{message}"
        );
    }
    fs::write(story.path("other.yaml"), plan.replacen("manifest: xxh3:", "manifest: xxh3:0", 1))
        .expect("written");
    assert_eq!(story.json(&["check", "other.yaml"])["tensors_checked"], false);
}

#[test]
fn an_engine_is_not_told_what_to_set_for_a_model_it_does_not_run() {
    let story = Story::new();
    let llama = ["compare", "llama-3-8b", "--device", "rtx-3060", "--vram", "10GiB"];
    let text = story.run(&[&llama[..], &["--best-for", "sglang"]].concat()).out;
    assert!(text.contains("does not run such a model") && !text.contains("--dit"), "{text}");
    let rows =
        story.json(&[&llama[..], &["--policies", "sglang-strided,vllm-group,zero3"]].concat());
    let runs = |n: usize| rows["policies"][n]["engine_runs_model"].as_bool();
    assert_eq!([runs(0), runs(1), runs(2)], [Some(false), Some(true), Some(true)]);
    assert!(rows["policies"][0]["engine_flags"].is_null());
}

#[test]
fn our_own_simulated_trace_is_not_called_measured() {
    let story = Story::new();
    story.json(&[&["plan"], &FLUX[..], &["-o", "plan.yaml"]].concat());
    story.json(&["run", "plan.yaml", "-o", "run.json.gz"]);
    story.json(&["report", "run.json.gz", "-o", "report"]);
    let answer = story.json(&["trace", "report/trace.json.gz"]);
    assert_eq!(answer["origin"], "simulated");
    let text = story.run(&["trace", "report/trace.json.gz"]).out;
    assert!(text.contains("times simulated") && !text.contains("measured"), "{text}");
}

#[test]
#[ignore = "72 points, half a minute: cargo test --release --test cli -- --ignored"]
fn the_grid_in_reports_is_what_its_command_makes() {
    let story = Story::new();
    let answer =
        story.json(&[&GRID[..], &["-o", "grid/grid.csv", "--summary", "grid/grid.md"]].concat());
    // What the planner is asked to reach on this grid.
    assert!(
        answer["gap"]["block"]["most"].as_f64().is_some_and(|gap| gap <= 0.05),
        "{}",
        answer["gap"]
    );
    assert!(
        answer["gap"]["block"]["mean"].as_f64().is_some_and(|gap| gap <= 0.005),
        "{}",
        answer["gap"]
    );
    let readme = fs::read_to_string(repository("README.md")).expect("the README");
    let made = fs::read_to_string(story.path("grid/grid.md")).expect("the grid");
    for line in made.lines().filter(|line| line.starts_with("- our") || line.starts_with("- best"))
    {
        assert!(readme.contains(line), "README does not say {line:?}");
    }
    for name in ["grid.md", "grid.csv"] {
        let made = fs::read(story.path("grid").join(name)).expect("made");
        let kept = repository("reports/grid").join(name);
        if std::env::var_os("UPDATE_EXPECT").is_some() {
            fs::write(&kept, &made).expect("written");
        }
        assert!(fs::read(&kept).expect("kept") == made, "reports/grid/{name} is stale");
    }
}

#[test]
fn a_summary_has_every_policy_at_every_point() {
    let story = Story::new();
    let args = ["sweep", "flux2-klein-4b", "--device", "h100", "--weights", "50%,100%"];
    let more = ["--policies", "sync", "--summary", "grid.md", "-o", "grid.csv"];
    let answer = story.json(&[&args[..], &more].concat());
    let points = answer["points"].as_array().expect("points");
    assert_eq!(points.len(), 2);
    let names = |n: usize| -> Vec<&str> {
        let policies = points[n]["policies"].as_array().expect("policies");
        policies.iter().filter_map(|policy| policy["policy"].as_str()).collect()
    };
    assert_eq!(names(0), ["hybrid", "hybrid-phase", "hybrid-leaf", "sync"]);
    let gap = |n: usize| points[n]["policies"][0]["gap"].as_f64().expect("a gap");
    assert!(gap(0) < 0.02 && gap(1) == 0.0, "{} {}", gap(0), gap(1));
    let table = fs::read_to_string(story.path("grid.md")).expect("the table");
    let command = "vramplan sweep flux2-klein-4b --device h100 --weights 50%,100% --policies sync";
    assert!(table.contains(command), "{table}");
    let csv = fs::read_to_string(story.path("grid.csv")).expect("the figures");
    assert_eq!(csv.lines().count(), 1 + 2 * 4);
    assert!(
        csv.starts_with("model,device,width_px,height_px,ranks,shard,weights_share,vram_bytes,")
    );
    assert!(story.fails(2, &["sweep", "flux2-klein-4b", "--device", "h10"]).contains("h100"));
}

#[test]
fn a_list_is_counted_once_and_a_share_is_at_most_all() {
    let story = Story::new();
    let sweep = ["sweep", "flux2-klein-4b", "--policies=hybrid", "--device"];
    let twice = story.run(&[&sweep[..], &["h100,h100", "--vram=4GiB,5GiB,4GiB"]].concat());
    assert_eq!(twice.code, 0, "{}", twice.err);
    assert!(twice.err.contains("the device h100 is given more than once"), "{}", twice.err);
    let points = |args: &[&str]| {
        let answer = story.json(&[&sweep[..], args].concat());
        answer["points"].as_array().expect("points").len()
    };
    assert_eq!(points(&["h100,h100", "--vram=4GiB,5GiB,4GiB"]), 2);
    assert_eq!(points(&["h100", "--weights=50%,0.5"]), 1);
    assert_eq!(points(&["h100"]), 4, "shares of the weights where no budget is given");
    let wrong = story.fails(2, &[&sweep[..], &["h100", "--weights", "50"]].concat());
    assert!(wrong.contains("did you mean 50%?"), "{wrong}");
    story.fails(2, &[&sweep[..], &["h100", "--weights", "50%", "--vram", "4GiB"]].concat());
    story.fails(2, &[&sweep[..], &["h100", "--size", "1024"]].concat());
}

#[test]
fn a_sweep_in_which_nothing_fits_says_what_would() {
    let story = Story::new();
    let sweep =
        ["sweep", "flux1-dev", "qwen-image", "--device=rtx-4090,rtx-3060", "--vram=1GiB,2GiB"];
    let message = story.fails(4, &[&sweep[..], &["--policies=hybrid", "-o", "s.csv"]].concat());
    assert!(message.contains(" on rtx-4090: ") && message.contains("--vram"), "{message}");
    let one = ["sweep", "flux1-dev", "--device=h100", "--weights=0.1%", "--summary=s.md"];
    story.fails(4, &one);
}

#[test]
fn a_sweep_does_not_depend_on_the_number_of_cores() {
    let story = Story::new();
    let sweep = |threads: &str, file: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_vramplan"))
            .args(["sweep", "flux1-dev", "z-image", "--device", "rtx-4090,rtx-3060"])
            .args(["--vram", "4GiB..12GiB/1GiB", "--policies", "hybrid,sglang-strided,vllm-group"])
            .args(["--size", "1024x1024,512x768", "-o", file])
            .env("RAYON_NUM_THREADS", threads)
            .current_dir(story.folder.path())
            .output()
            .expect("the binary starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        (output.stdout, fs::read(story.path(file)).expect("the figures"))
    };
    let (one, four) = (sweep("1", "a.csv"), sweep("4", "b.csv"));
    assert!(one.1 == four.1, "the figures differ");
    let text = String::from_utf8(one.1).expect("text");
    // Model, device, size, budget: in the order of the lists.
    assert!(
        text.lines()
            .nth(1)
            .expect("a row")
            .starts_with("flux1-dev,rtx-4090,1024,1024,1,,,4294967296,hybrid,block,")
    );
    assert_eq!(text.lines().count(), 1 + 2 * 2 * 2 * 9 * 3);
    // What a sweep finds is what is compared at that budget.
    let at = [
        "compare",
        "flux1-dev",
        "--device=rtx-4090",
        "--vram=8GiB",
        "--policies=hybrid,sglang-strided,vllm-group",
    ];
    let compared = story.json(&at);
    for row in compared["policies"].as_array().expect("rows") {
        let name = row["policy"].as_str().expect("a name");
        let start = format!("flux1-dev,rtx-4090,1024,1024,1,,,{},{name},", 8u64 << 30);
        let line = text.lines().find(|line| line.starts_with(&start)).expect("the same point");
        let pass = row["pass_ns"].to_string();
        assert!(line.contains(&format!(",{pass},")), "{line} {pass}");
    }
}

#[test]
fn ranks_are_planned_checked_run_and_reported() {
    let story = Story::new();
    let four = ["--ranks", "4", "--shard", "tp"];
    let plan = ["plan", "flux1-dev", "--device", "h100", "--vram", "8GiB", "--passes", "6"];
    let answer = story.json(&[&plan[..], &four, &["-o", "plan.yaml"]].concat());
    assert_eq!(answer["rank"]["of"], 4);
    assert_eq!(answer["ranks"].as_array().map(Vec::len), Some(1));
    assert_eq!(answer["ranks"][0]["rank"]["numbers"], serde_json::json!([0, 1, 2, 3]));
    assert_eq!(answer["ranks"][0]["rank"]["link"], "nvlink");
    let text = story.run(&[&plan[..], &four].concat()).out;
    assert!(text.contains("ranks 0-3 of 4, tensor parallel over NVLink"), "{text}");
    assert_eq!(story.json(&["check", "plan.yaml"])["ok"], true);
    let run = story.json(&["run", "plan.yaml", "-o", "run.json.gz"]);
    assert_eq!(run["makespan_ns"], answer["components"][0]["makespan_ns"]);
    let report = story.run(&["report", "run.json.gz", "-o", "report"]);
    assert!(report.out.contains("ranks 0-3 of 4"), "{}", report.out);
    let page = fs::read_to_string(story.path("report/report.html")).expect("the page");
    assert!(page.contains("ranks 0-3 of 4, tensor parallel over NVLink"));
    let cuda = story.fails(2, &["run", "plan.yaml", "--backend", "cuda"]);
    assert!(cuda.contains("a rank among several"), "{cuda}");

    // Copies on the link of the collectives pause for them, and that is told and run.
    let pcie = story.run(&[&plan[..], &four, &["--link", "pcie"]].concat()).out;
    assert!(pcie.contains("over PCI Express") && pcie.contains("pause meanwhile"), "{pcie}");
    let over = ["--link", "pcie", "-o", "pcie.yaml"];
    let answer = story.json(&[&plan[..], &four, &over].concat());
    let file = fs::read_to_string(story.path("pcie.yaml")).expect("the plan");
    assert!(file.contains("on_link: "), "{file}");
    let run = story.json(&["run", "pcie.yaml", "-o", "pcie.json.gz"]);
    assert_eq!(run["makespan_ns"], answer["components"][0]["makespan_ns"]);
    let report = story.run(&["report", "pcie.json.gz", "-o", "pcie"]);
    assert!(report.out.contains("pause while collectives hold their link"), "{}", report.out);
    let page = fs::read_to_string(story.path("pcie/report.html")).expect("the page");
    assert!(page.contains("\"held\":[[1,") && page.contains("<rect class=\"held\" x="), "no marks");
    let longer = file.replacen("on_link: ", "on_link: 9", 1);
    fs::write(story.path("longer.yaml"), longer).expect("writes");
    let refused = story.fails(3, &["check", "longer.yaml"]);
    assert!(refused.contains("on_link") && refused.contains("a part of compute"), "{refused}");
    let compare = [
        "compare",
        "flux1-dev",
        "--device=rtx-4090",
        "--vram=8GiB",
        "--policies=hybrid,sglang-strided",
    ];
    let text = story.run(&[&compare[..], &["--ranks=2", "--shard=dp"]].concat()).out;
    assert!(text.contains("ranks 0-1 of 2, data parallel; copies at 20.0 GB/s"), "{text}");
}

#[test]
fn ranks_that_differ_have_a_plan_each() {
    let story = Story::new();
    let args = ["plan", "z-image", "--device", "a100-40gb", "--vram", "6GiB"];
    let three = ["--ranks", "7", "--shard", "hsdp"];
    let answer = story.json(&[&args[..], &three, &["-o", "plan.yaml"]].concat());
    let ranks = answer["ranks"].as_array().expect("ranks");
    assert!(ranks.len() > 1, "{} kinds of rank", ranks.len());
    let mut passes = Vec::new();
    for rank in ranks {
        let first = rank["rank"]["numbers"][0].as_u64().expect("a number");
        let file = format!("plan.rank{first}.yaml");
        assert_eq!(story.json(&["check", &file])["ok"], true, "{file}");
        passes.push(rank["components"][0]["pass_ns"].as_u64().expect("a time"));
    }
    assert_eq!(answer["lock_step_pass_ns"].as_u64(), passes.into_iter().max());
    let text = story.run(&[&args[..], &three].concat()).out;
    assert!(text.contains("ranks differ and are planned apart"), "{text}");
    assert!(story.fails(2, &[&args[..], &three, &["-o", "-"]].concat()).contains("-o -"));
}

#[test]
fn ranks_are_asked_for_in_full() {
    let story = Story::new();
    let plan = |more: &[&str]| {
        let args = ["plan", "flux1-dev", "--device", "rtx-4090", "--vram", "12GiB"];
        story.fails(2, &[&args, more].concat())
    };
    for (more, expected) in [
        (&["--ranks=4"][..], "--ranks 4 without --shard"),
        (&["--shard=tp"], "--shard tp without --ranks"),
        (&["--link=pcie"], "--link pcie without --ranks"),
        (&["--ranks=0", "--shard=tp"], "take --ranks 1"),
        (&["--ranks=5", "--shard=tp"], "the nearest that works is --ranks 4"),
        (&["--ranks=2", "--shard=tensor"], "there are: tp, sp, hsdp, dp"),
        (&["--ranks=2", "--shard=tp", "--link=nvlink"], "take --link pcie"),
        (&["--ranks=2", "--shard=tp", "--link=nvlnk"], "did you mean \"nvlink\"?"),
    ] {
        let message = plan(more);
        assert!(message.contains(expected), "{more:?}: {message}");
    }
    let sweep = ["sweep", "flux1-dev", "--device=h100", "--vram=8GiB", "--policies=hybrid"];
    let ranks = story.json(&[&sweep[..], &["--ranks=1,2,4", "--shard=tp"]].concat());
    let passes: Vec<u64> = ranks["points"]
        .as_array()
        .expect("points")
        .iter()
        .map(|point| point["policies"][0]["pass_ns"].as_u64().expect("a time"))
        .collect();
    assert!(passes[0] > passes[1] && passes[1] > passes[2], "{passes:?}");
}
