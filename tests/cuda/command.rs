//! The commands, as a user types them, in processes of their own.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use expect_test::expect;
use serde_json::Value;
use vramplan::model::Manifest;

use crate::driver::{library, real};
use crate::models;

/// A folder with a plan, and the binary run inside it.
pub struct Story {
    folder: tempfile::TempDir,
    driver: Option<PathBuf>,
}

pub struct Outcome {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Story {
    /// With the stand-in as the driver; none on a real GPU, where the other tests say enough.
    pub fn new() -> Option<Self> {
        if real() {
            return None;
        }
        let story = Self { folder: tempfile::tempdir().expect("a folder"), driver: None };
        let libraries = story.path("lib");
        fs::create_dir(&libraries).expect("made");
        for name in ["libcuda.so", "libcublasLt.so.12"] {
            std::os::unix::fs::symlink(library(), libraries.join(name)).expect("a link");
        }
        story.write("plan.yaml", models::plan(50).to_yaml().expect("yaml"));
        story.write("model.yaml", models::manifest().to_yaml().expect("yaml"));
        Some(Self { driver: Some(libraries), ..story })
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, contents: impl AsRef<[u8]>) {
        fs::write(self.path(name), contents).expect("written");
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vramplan"));
        command.args(args).current_dir(self.folder.path()).env("VRAMPLAN_ALLOW_STANDIN", "1");
        if let Some(driver) = &self.driver {
            command.env("LD_LIBRARY_PATH", driver);
        }
        command.env("VRAMPLAN_STANDIN_LOG", self.path("log"));
        command
    }

    pub fn run(&self, args: &[&str]) -> Outcome {
        outcome(self.command(args))
    }

    /// What the stand-in counted in the last command.
    pub fn count(&self, key: &str) -> u64 {
        let log = fs::read_to_string(self.path("log")).expect("a log");
        let line = log.lines().find_map(|line| line.strip_prefix(&format!("{key} ")));
        line.map_or(0, |value| value.parse().expect("a number"))
    }

    pub fn profile(&self, name: &str) -> Value {
        serde_json::from_slice(&fs::read(self.path(name)).expect("a profile")).expect("JSON")
    }
}

pub fn outcome(mut command: Command) -> Outcome {
    let output = command.output().expect("the binary starts");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    Outcome {
        code: output.status.code().expect("an exit code"),
        out: text(output.stdout),
        err: text(output.stderr),
    }
}

pub const RUN: [&str; 4] = ["run", "plan.yaml", "--backend", "cuda"];

#[test]
fn a_run_verifies_multiplies_and_leaves_nothing_behind() {
    let Some(story) = Story::new() else { return };
    let args =
        ["--model", "model.yaml", "--tokens", "64", "--verify", "--overhead", "-o", "run.json"];
    let run = story.run(&[&RUN[..], &args].concat());
    assert_eq!((run.code, run.err.as_str()), (0, ""), "{}", run.out);
    let header = &story.profile("run.json")["header"];
    assert_eq!(header["complete"], true);
    // Never taken for a measurement.
    assert_eq!(
        (&header["device"], &header["origin"]),
        (&"vramplan stand-in (no GPU)".into(), &"simulated".into())
    );
    let measured = &header["measured"];
    let compute = measured["compute"].as_str().expect("text");
    assert!(compute.starts_with("gemm (libcublasLt.so.12, "), "{compute}");
    assert!(compute.ends_with(&format!(", {} operations per pass)", flops())), "{compute}");
    assert_eq!(measured["weights"], "pattern of seed 0");
    assert_eq!(measured["verified_passes"], 5);
    assert!(measured["digest"].as_str().is_some_and(|digest| digest.starts_with("xxh3:")));
    assert!(measured["overhead"]["untimed"].as_u64().is_some());
    for kind in [
        "context",
        "stream",
        "event",
        "module",
        "device memory",
        "host memory",
        "blas",
        "product",
        "layout",
    ] {
        assert!(story.count(&format!("made:{kind}")) > 0, "{kind}");
        assert_eq!(story.count(&format!("live:{kind}")), 0, "{kind}");
    }
    // What the driver counted at most is what we say we allocated, its context, and the kernels' sink.
    let allocated = measured["allocated"].as_u64().expect("bytes");
    let peak = story.count("vram_peak");
    assert!(peak.abs_diff(allocated + (1 << 20)) < 4_096, "{peak} {allocated}");
    for text in ["gemm (libcublasLt", "every byte of 5 passes", "page-locked"] {
        assert!(run.out.contains(text), "{text}: {}", run.out);
    }
    let report = story.run(&["report", "run.json", "-o", "report"]);
    assert_eq!(report.code, 0, "{}", report.err);
}

/// Operations of one pass of the model with 64 image tokens: every matrix once.
fn flops() -> u64 {
    let double = 192 * 192 + 768 * 192 + 192 * 768;
    let single = 960 * 192 + 192 * 960;
    // Blocks of the first list see the picture, those of the second the 512 tokens of text as well.
    2 * (64 * (5 * double + 192 * 64) + (64 + 512) * 7 * single)
}

#[test]
fn without_the_library_compute_spins_and_says_so() {
    let Some(story) = Story::new() else { return };
    fs::remove_file(story.path("lib/libcublasLt.so.12")).expect("removed");
    let args = ["--model", "model.yaml", "--tokens", "64", "-o", "run.json"];
    let run = story.run(&[&RUN[..], &args].concat());
    assert_eq!(run.code, 0, "{}", run.err);
    let compute = story.profile("run.json")["header"]["measured"]["compute"].clone();
    assert!(
        compute.as_str().expect("text").starts_with("spin (no cuBLASLt: none of "),
        "{compute}"
    );
    let forced = story.run(&[&RUN[..], &args, &["--compute", "gemm"]].concat());
    assert_eq!(forced.code, 5, "{}", forced.err);
}

#[test]
fn no_driver_is_one_sentence() {
    let Some(mut story) = Story::new() else { return };
    // SAFETY: opens the system's own driver, if there is one, and calls nothing.
    if unsafe { libloading::Library::new("libcuda.so.1") }.is_ok() {
        return;
    }
    story.driver = None;
    let run = story.run(&RUN);
    assert_eq!(run.code, 5);
    expect![[r#"
        error: the cuda backend is not available: no CUDA driver library (libcuda.so.1) was found; install NVIDIA's driver, or use --backend sim
    "#]].assert_eq(&run.err);
    assert_eq!(story.run(&["probe"]).code, 5);
    // A library that is no driver.
    let libraries = story.path("other");
    fs::create_dir(&libraries).expect("made");
    let mathematics = ["/lib/x86_64-linux-gnu/libm.so.6", "/lib64/libm.so.6", "/usr/lib/libm.so.6"];
    let Some(library) = mathematics.into_iter().find(|path| fs::exists(path).unwrap_or(false))
    else {
        return;
    };
    std::os::unix::fs::symlink(library, libraries.join("libcuda.so")).expect("a link");
    story.driver = Some(libraries);
    let run = story.run(&RUN);
    assert_eq!(run.code, 5);
    assert!(run.err.contains("lacks cuInit, cuDriverGetVersion, "), "{}", run.err);
}

#[test]
fn the_stand_in_is_refused_outside_tests() {
    let Some(story) = Story::new() else { return };
    for args in [&RUN[..], &["probe", "--quick"]] {
        let mut command = story.command(args);
        command.env_remove("VRAMPLAN_ALLOW_STANDIN");
        let run = outcome(command);
        assert_eq!(run.code, 5);
        assert!(
            run.err.contains("a test's \"vramplan stand-in (no GPU)\", not a GPU's"),
            "{}",
            run.err
        );
    }
}

#[test]
fn what_does_not_fit_the_machine_is_said() {
    let Some(story) = Story::new() else { return };
    let wrong = story.run(&[&RUN[..], &["--gpu", "7"]].concat());
    assert_eq!(
        (wrong.code, wrong.err.as_str()),
        (2, "error: --gpu 7: this machine has one GPU, number 0\n")
    );
    let mut plan = models::plan(50);
    plan.device.name = "NVIDIA GeForce RTX 4090".into();
    story.write("other.yaml", plan.to_yaml().expect("yaml"));
    let args = ["run", "other.yaml", "--backend", "cuda"];
    let warned = story.run(&args);
    assert_eq!(warned.code, 0, "{}", warned.err);
    expect![[r#"
        warning: the plan was made for "NVIDIA GeForce RTX 4090", this is "vramplan stand-in (no GPU)"; predicted times are those of the former
    "#]].assert_eq(&warned.err);
    let strict = story.run(&[&args[..], &["--strict"]].concat());
    assert_eq!(strict.code, 2);
    assert!(strict.err.contains("hint: plan with this GPU's spec"), "{}", strict.err);

    let other = fs::read_to_string(story.path("model.yaml"))
        .expect("text")
        .replace("[192, 64]", "[192, 65]");
    story.write("changed.yaml", other);
    let changed = story.run(&[&RUN[..], &["--model", "changed.yaml"]].concat());
    assert_eq!(changed.code, 3);
    assert!(
        changed.err.contains("what was planned; plan again from this model"),
        "{}",
        changed.err
    );

    let mut command = story.command(&RUN);
    command.env("VRAMPLAN_STANDIN", "vram=16777216");
    let small = outcome(command);
    assert_eq!(small.code, 6);
    assert!(small.err.contains("the plan's budget is 69.1 MiB"), "{}", small.err);
    assert_eq!(story.count("made:device memory"), 0, "refused before anything is allocated");
    for option in ["--verify", "--strict", "--overhead"] {
        let ignored = story.run(&["run", "plan.yaml", option]);
        assert_eq!(ignored.code, 2);
        assert_eq!(ignored.err, format!("error: {option} is for --backend cuda\n"));
    }
}

#[test]
fn a_fault_leaves_a_profile_marked_incomplete() {
    let Some(story) = Story::new() else { return };
    let mut command = story.command(&[&RUN[..], &["-o", "run.json"]].concat());
    command.env("VRAMPLAN_STANDIN", "fault=cuEventRecord:150:719");
    let run = outcome(command);
    assert_eq!(run.code, 6);
    assert!(run.err.contains("cuEventRecord: CUDA_ERROR_LAUNCH_FAILED"), "{}", run.err);
    let profile = story.profile("run.json");
    assert_eq!(profile["header"]["complete"], false);
    assert_eq!(story.count("live:device memory"), 0);
    assert_eq!(story.run(&["report", "run.json", "-o", "report"]).code, 0);
}

/// Waits until a process catches SIGINT, at most a minute.
fn until_watched(process: u32) {
    for _ in 0..600 {
        let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
        let caught = caught.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
        if caught.is_some_and(|mask| mask & 2 != 0) {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
}

#[test]
fn ctrl_c_stops_at_a_pass_and_keeps_the_profile() {
    let Some(story) = Story::new() else { return };
    story.write("device.yaml", models::device().to_yaml().expect("yaml"));
    story.write("tiny.safetensors", checkpoint(&models::manifest()));
    let plan = ["plan", "tiny.safetensors", "--device", "device.yaml", "--vram", "12MiB"];
    let made = story.run(&[&plan[..], &["--reserve", "8MiB", "-o", "disk.yaml"]].concat());
    assert_eq!(made.code, 0, "{}", made.err);
    let text = fs::read_to_string(story.path("disk.yaml")).expect("a plan");
    let mut plan = vramplan::plan::Plan::from_yaml("disk.yaml", &text).expect("a plan");
    models::onto_disk(&mut plan);
    story.write("disk.yaml", plan.to_yaml().expect("yaml"));
    for (file, model) in [("plan.yaml", &[][..]), ("disk.yaml", &["--model", "tiny.safetensors"])] {
        let more = ["--passes", "2000", "--compute", "spin", "--graph", "off", "-o", "run.json"];
        let mut command =
            story.command(&[&["run", file, "--backend", "cuda"][..], &more, model].concat());
        // Every operation takes some real time, so that the run is still there when the signal comes.
        command.env("VRAMPLAN_STANDIN", "real_delay_us=200");
        let child = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().expect("started");
        until_watched(child.id());
        std::thread::sleep(std::time::Duration::from_millis(700));
        let signal = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
        assert!(signal.expect("kill").success());
        let output = child.wait_with_output().expect("an end");
        let err = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(6), "{file}: {err}");
        assert!(err.contains("interrupted after ") && err.contains(" of 2000 passes"), "{err}");
        let profile = story.profile("run.json");
        assert_eq!(profile["header"]["complete"], false);
        assert!(!profile["spans"].as_array().expect("spans").is_empty());
        for kind in ["context", "stream", "event", "device memory", "host memory"] {
            assert_eq!(story.count(&format!("live:{kind}")), 0, "{file}: {kind}");
        }
    }
}

#[test]
fn a_probe_finds_the_stand_ins_rates_again() {
    let Some(story) = Story::new() else { return };
    let mut command = story.command(&["probe", "--quick", "-o", "gpu.yaml", "--format", "json"]);
    command.env("VRAMPLAN_STANDIN", "vram=4294967296,real_copies=0");
    let probe = outcome(command);
    assert_eq!(probe.code, 0, "{}", probe.err);
    let found: Value = serde_json::from_str(&probe.out).expect("JSON");
    let near = |value: &Value, expected: u64, what: &str| {
        let value = value.as_u64().unwrap_or_else(|| panic!("{what}: {value}"));
        assert!(value.abs_diff(expected) * 200 <= expected, "{what}: {value}, expected {expected}");
    };
    near(&found["h2d"]["bytes_per_s"], 25_000_000_000, "h2d");
    near(&found["h2d"]["latency_ns"], 10_000, "h2d latency");
    near(&found["d2h"]["bytes_per_s"], 24_000_000_000, "d2h");
    near(&found["pageable"]["bytes_per_s"], 6_000_000_000, "pageable");
    near(&found["memory_bytes_per_s"], 800_000_000_000, "memory");
    let products = found["products"].as_array().expect("a list");
    assert!(products.len() >= 6, "{products:?}");
    near(&products[0]["flop_per_s"], 100_000_000_000_000, "products");
    let spec = fs::read_to_string(story.path("gpu.yaml")).expect("a spec");
    for text in [
        "origin: simulated",
        "CUDA driver 12.8",
        "name: vramplan stand-in (no GPU)",
        "worst spread",
    ] {
        assert!(spec.contains(text), "{text}: {spec}");
    }
    assert_eq!(story.count("live:host memory"), 0);
    let plan = story.run(&["plan", "sdxl", "--device", "gpu.yaml", "--vram", "6GiB"]);
    assert!(matches!(plan.code, 0 | 2), "the spec is read: {}", plan.err);
    assert!(!plan.err.contains("gpu.yaml:"), "{}", plan.err);
}

/// A model as a safetensors file, its bytes running through all values.
pub fn checkpoint(manifest: &Manifest) -> Vec<u8> {
    let component = &manifest.components[0];
    let blocks = component.blocks(manifest).into_iter();
    let blocks = blocks
        .map(|block| (format!("{}.", block.local_id()), block.kind.weights.tensors().to_vec()));
    let root = (String::new(), component.root.tensors().to_vec());
    let (mut entries, mut end) = (Vec::new(), 0);
    for (prefix, tensors) in std::iter::once(root).chain(blocks) {
        for tensor in tensors {
            let start = end;
            end += tensor.bytes().expect("a size").get();
            let (name, dtype) = (tensor.name(), tensor.dtype().name().to_uppercase());
            let shape = tensor.shape();
            entries.push(format!("\"{prefix}{name}\":{{\"dtype\":\"{dtype}\",\"shape\":{shape:?},\"data_offsets\":[{start},{end}]}}"));
        }
    }
    let json = format!("{{{}}}", entries.join(","));
    let mut file = (json.len() as u64).to_le_bytes().to_vec();
    file.extend(json.as_bytes());
    file.extend((0..end).map(|n| (n.wrapping_mul(0x9E37_79B9) >> 13) as u8));
    file
}

#[test]
fn a_checkpoints_bytes_reach_the_device() {
    let Some(story) = Story::new() else { return };
    let device = models::device().to_yaml().expect("yaml");
    story.write("device.yaml", device);
    let file = checkpoint(&models::manifest());
    story.write("tiny.safetensors", &file);
    let plan = [
        "plan",
        "tiny.safetensors",
        "--device",
        "device.yaml",
        "--vram",
        "12MiB",
        "--reserve",
        "8MiB",
        "--tokens",
        "64",
        "--passes",
        "3",
    ];
    let made = story.run(&[&plan[..], &["-o", "tiny.yaml"]].concat());
    assert_eq!(made.code, 0, "{}", made.err);
    let run = |weights: &[&str]| {
        let args = [
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
        let run = story.run(&[&args[..], &["--model", "tiny.safetensors"], weights].concat());
        (run.code, run.err)
    };
    assert_eq!(run(&[]).0, 0, "{:?}", run(&[]));
    let digest = |name: &str| story.profile(name)["header"]["measured"].clone();
    let first = digest("run.json");
    assert_eq!(first["weights"], "checkpoint tiny.safetensors");
    assert_eq!(run(&["--weights", "pattern"]).0, 0);
    assert_ne!(digest("run.json")["digest"], first["digest"]);
    // One byte of the file is one other digest.
    let mut changed = file.clone();
    let last = changed.len() - 1;
    changed[last] ^= 1;
    story.write("tiny.safetensors", &changed);
    assert_eq!(run(&[]).0, 0);
    assert_ne!(digest("run.json")["digest"], first["digest"]);
    // Cut short between plan and run.
    story.write("tiny.safetensors", &file[..file.len() - 100]);
    let (code, err) = run(&[]);
    assert_eq!(code, 3, "{err}");
}
