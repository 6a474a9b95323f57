//! Turns the plans of several ranks into one answer and a file for each kind of rank.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::compare::pass_of;
use super::{Terminal, files, verdict};
use crate::error::{Error, Result};
use crate::plan::{Plan, Request};
use crate::shard::{Interconnect, RankOf};

/// What the verdict on a rank's plan says of it; nothing for one device by itself.
pub fn line(rank: &RankOf) -> String {
    let mut text =
        format!("{}; copies at {} per rank while all copy", rank.named(), rank.h2d.human());
    if !rank.replicated.is_zero() {
        text.push_str(&format!("; {} of the weights on every rank", rank.replicated.human()));
    }
    match rank.link {
        Some(Interconnect::Nvlink) => {
            let time = rank.collectives.human();
            text.push_str(&format!("; collectives take {time} of a pass, as part of compute"));
        }
        Some(Interconnect::Pcie) => {
            let time = rank.collectives.human();
            text.push_str(&format!(
                "; collectives take {time} of a pass, as part of compute, and hold the host's link, where copies \
                 pause meanwhile"
            ));
        }
        None => {}
    }
    text + " (estimated)"
}

/// Where ranks differ: how long the slowest takes, for which all wait.
pub fn slowest<'a>(plans: impl Iterator<Item = &'a Plan>) -> String {
    let passes: Vec<_> = plans.map(pass_of).collect();
    match (passes.len(), passes.iter().max()) {
        (2.., Some(slowest)) => format!(
            "ranks differ and are planned apart; in lock-step all take at least {} per pass\n",
            slowest.human()
        ),
        _ => String::new(),
    }
}

/// Writes each plan to its file and adds where to the text; false where a plan went to standard output instead.
pub fn deliver(
    output: Option<&Path>,
    planned: &[(Plan, Request)],
    text: &mut String,
    terminal: &mut Terminal,
) -> Result<bool> {
    let Some(path) = output else {
        text.push_str("\nadd -o plan.yaml to write the plan\n");
        return Ok(true);
    };
    if let [(plan, _)] = planned {
        let written = terminal.deliver(path, plan.to_yaml()?.as_bytes())?;
        text.push_str(&format!("\nplan written to {}\n", path.display()));
        return Ok(written);
    }
    if path.as_os_str() == "-" {
        return Err(Error::Usage {
            message: format!("-o -: there are {} plans, one for each kind of rank", planned.len()),
            hint: Some("give a file name; each plan gets its ranks appended".to_owned()),
        });
    }
    // All of them before the first is written.
    let texts: Result<Vec<(PathBuf, String)>> =
        planned.iter().map(|(plan, _)| Ok((file_of(path, plan), plan.to_yaml()?))).collect();
    for (path, yaml) in texts? {
        files::write_file(&path, yaml.as_bytes())?;
        text.push_str(&format!("plan written to {}\n", path.display()));
    }
    Ok(true)
}

/// `plan.yaml` as `plan.rank0.yaml`, by the first rank it is for.
fn file_of(path: &Path, plan: &Plan) -> PathBuf {
    let first = plan.rank.as_ref().and_then(|rank| rank.numbers.first()).copied().unwrap_or(0);
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let name = match path.extension() {
        Some(extension) => format!("{stem}.rank{first}.{}", extension.to_string_lossy()),
        None => format!("{stem}.rank{first}"),
    };
    path.with_file_name(name)
}

/// The JSON answer: that of the first rank, and beside it each rank's own.
pub fn answer(planned: &[(Plan, Request)]) -> Result<Value> {
    let answers: Result<Vec<Value>> =
        planned.iter().map(|(plan, request)| super::plan::answer(plan, request)).collect();
    let answers = answers?;
    let mut answer = answers.first().cloned().unwrap_or_default();
    let sharded = planned.iter().any(|(plan, _)| plan.rank.is_some());
    if let (true, Some(answer)) = (sharded, answer.as_object_mut()) {
        let slowest = planned.iter().map(|(plan, _)| pass_of(plan)).max().unwrap_or_default();
        answer.insert("lock_step_pass_ns".to_owned(), json!(slowest.get()));
        answer.insert("ranks".to_owned(), Value::Array(answers));
    }
    Ok(answer)
}

/// A heading's addition for answers on a rank: `, ranks 0-3 of 4, tensor parallel over NVLink`.
pub fn heading(request: &Request) -> String {
    request.rank.as_ref().map_or(String::new(), |rank| {
        let mut text = String::new();
        for part in verdict::wrapped(&format!("for {}", line(&rank.of))) {
            text.push_str(&part);
            text.push('\n');
        }
        text
    })
}
