//! Keeps what no compiler checks: the direction of dependencies, what must be absent below the command line, sizes.

#![expect(clippy::expect_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The rooms of the house and what each may import, its own room apart. `lib` and `main` wire them.
const ALLOWED: &[(&str, &[&str])] = &[
    ("units", &[]),
    ("lane", &[]),
    ("digest", &[]),
    ("error", &["units"]),
    ("figures", &["units"]),
    ("suggest", &["error"]),
    ("yaml", &["error"]),
    ("model", &["error", "units", "yaml"]),
    ("device", &["error", "figures", "model", "units", "yaml"]),
    ("scan", &["error", "model", "suggest", "units"]),
    ("workload", &["device", "error", "figures", "model", "suggest", "units", "yaml"]),
    ("shard", &["device", "error", "model", "suggest", "units", "workload"]),
    (
        "plan",
        &[
            "device", "digest", "error", "figures", "lane", "model", "shard", "suggest", "units",
            "workload", "yaml",
        ],
    ),
    ("program", &["device", "error", "lane", "model", "plan", "units"]),
    ("profile", &["error", "figures", "lane", "units"]),
    (
        "backend",
        &["device", "digest", "error", "figures", "lane", "model", "profile", "program", "units"],
    ),
    ("report", &["error", "figures", "lane", "profile", "units"]),
];

/// Every source file: its room, its path below `src`, its text.
fn sources() -> Vec<(String, PathBuf, String)> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut folders = vec![src.clone()];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("src is readable") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ext| ext == "rs") {
                let below = path.strip_prefix(&src).expect("below src").to_owned();
                let first = below.iter().next().expect("a part").to_string_lossy().into_owned();
                let room = first.trim_end_matches(".rs").to_owned();
                found.push((room, below, fs::read_to_string(&path).expect("text")));
            }
        }
    }
    found.sort();
    found
}

/// The lines that compile outside tests, numbered; comments and a trailing test module left out.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let end = text.find("#[cfg(test)]\nmod tests").unwrap_or(text.len());
    let lines = text[..end].lines().enumerate();
    lines.filter(|(_, line)| !line.trim_start().starts_with("//")).map(|(n, line)| (n + 1, line))
}

#[test]
fn dependencies_point_one_way() {
    let allowed: BTreeMap<&str, &[&str]> = ALLOWED.iter().copied().collect();
    let mut wrong = Vec::new();
    for (room, path, text) in sources() {
        if ["lib", "main", "cli"].contains(&room.as_str()) {
            continue;
        }
        let may = allowed
            .get(room.as_str())
            .unwrap_or_else(|| panic!("{room} has no place in the house"));
        for (n, line) in code(&text) {
            for part in line.split("crate::").skip(1) {
                let target: String =
                    part.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                if target != room && !may.contains(&target.as_str()) {
                    wrong.push(format!("{}:{n}: {room} imports {target}", path.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A text that may stand only below these paths, and why.
const ONLY: &[(&str, &[&str], &str)] = &[
    ("serde_yaml", &["yaml.rs"], "one module knows the YAML library"),
    ("cudarc", &["backend/cuda"], "one module knows the driver"),
    ("libloading", &["backend/cuda"], "one module knows the driver"),
    ("rusqlite", &["cli/trace.rs", "profile/trace/nsys.rs"], "one reader knows the database"),
    ("Connection::open", &["cli"], "files are opened by the command line only"),
    ("unsafe ", &["backend/cuda"], "everything else is safe Rust"),
    ("std::fs", &["cli"], "files are opened by the command line only"),
    ("File::open", &["cli"], "files are opened by the command line only"),
    ("println!", &[], "answers go through the terminal"),
    ("io::stdout()", &["cli/terminal.rs"], "answers go through the terminal"),
    ("io::stderr()", &["cli/terminal.rs"], "remarks go through the terminal"),
    ("Instant", &["backend/cuda"], "no result depends on a clock"),
    (
        "SystemTime",
        &["cli/probe.rs"],
        "no result depends on a clock; a measurement states its date",
    ),
    ("HashMap", &[], "no result depends on hash order"),
    ("HashSet", &[], "no result depends on hash order"),
];

#[test]
fn what_must_be_absent_is_absent() {
    let mut wrong = Vec::new();
    for (_, path, text) in sources() {
        for (n, line) in code(&text) {
            for (what, places, why) in ONLY {
                if line.contains(what) && !places.iter().any(|place| path.starts_with(place)) {
                    wrong.push(format!("{}:{n}: {what}: {why}", path.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn files_stay_readable() {
    let long = sources().into_iter().filter(|(_, _, text)| text.lines().count() > 500);
    let long: Vec<String> = long.map(|(_, path, _)| path.display().to_string()).collect();
    assert!(long.is_empty(), "more than 500 lines: {}", long.join(", "));
}

#[test]
fn modules_say_what_they_turn_into_what() {
    let silent = sources().into_iter().filter(|(_, _, text)| !text.starts_with("//! "));
    let silent: Vec<String> = silent.map(|(_, path, _)| path.display().to_string()).collect();
    assert!(silent.is_empty(), "no opening sentence: {}", silent.join(", "));
}

#[test]
fn dependencies_stay_few() {
    let lock = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.lock"))
        .expect("Cargo.lock");
    let count = lock.matches("[[package]]").count();
    // Everything, development and build included; each further crate is somebody's time to build and to trust.
    assert!(count <= 200, "{count} packages");
}
