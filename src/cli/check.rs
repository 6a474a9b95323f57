//! The `check` command: an independent verification of a plan file.

use std::path::PathBuf;

use serde_json::json;

use super::{Format, Terminal, files};
use crate::digest::digest;
use crate::error::{Error, Problem, Result};
use crate::model;
use crate::plan::Plan;
use crate::program::{self, Program};

/// Verify a plan file without trusting its planner or its times.
///
/// Lowers the plan to its program and proves, from order alone: every use happens after its copy; every copy
/// into bytes happens after the last use of what was there; no live bytes lie outside the slab; slab and reserve
/// fit the budget. Exits with 3 and the list of what may go wrong otherwise.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  vramplan check plan.yaml")]
pub struct Args {
    /// The plan file.
    plan: PathBuf,
    /// The model whose tensors the plan names: a built-in one, a manifest or a checkpoint. A built-in model that
    /// the plan was made from need not be given.
    #[arg(long)]
    model: Option<String>,
}

pub fn run(args: &Args, terminal: &mut Terminal) -> Result<()> {
    let outcome = checked(args, terminal);
    if let (Err(Error::Input { problems, .. }), Format::Json) = (&outcome, terminal.format()) {
        // What may go wrong is an answer, for programs too: JSON on stdout besides the error.
        terminal.answer(&json!({ "ok": false, "problems": problems }), "")?;
    }
    outcome
}

fn checked(args: &Args, terminal: &mut Terminal) -> Result<()> {
    let file = args.plan.display().to_string();
    let plan = Plan::from_yaml(&file, &files::read_text(&args.plan)?)?;
    let (program, proof) = verified(&file, &plan)?;
    let tensors = tensors(args, &plan, terminal)?;
    let peak = plan.peak();
    let reserve = peak.saturating_sub(program.slab);
    let answer = json!({
        "ok": true,
        "tensors_checked": tensors,
        "operations": proof.operations,
        "passes": proof.passes,
        "slab_bytes": program.slab.get(),
        "peak_bytes": peak.get(),
        "budget_bytes": plan.budget.vram.get(),
    });
    let text = format!(
        "{file} is safe: {} operations of {} passes checked by order alone\n\
         every use follows its copy, no bytes are reused before their last use has ended\n\
         {}\n\
         slab {} + reserve {} = peak {} of {}\n",
        proof.operations,
        proof.passes,
        match tensors {
            true => "every piece has the tensors and rows that it names, as the model has them",
            false => "tensors and rows are not checked: give --model",
        },
        program.slab.human(),
        reserve.human(),
        peak.human(),
        plan.budget.vram.human(),
    );
    terminal.answer(&answer, &text)
}

/// Whether the plan's pieces were held against the tensors of its model. Fails where they are not those.
fn tensors(args: &Args, plan: &Plan, terminal: &mut Terminal) -> Result<bool> {
    let manifest = match &args.model {
        Some(model) => Some(super::inputs::load_model(model, terminal)?),
        None => model::builtin::load(&plan.model).transpose()?,
    };
    let Some(manifest) = manifest else { return Ok(false) };
    let same = digest(&manifest.to_yaml()?) == plan.digests.manifest;
    if args.model.is_none() && !same {
        return Ok(false);
    }
    program::image::images(plan, Some(&manifest))?;
    Ok(true)
}

/// The program of a plan, proved safe. `file` is only for messages.
pub fn verified(file: &str, plan: &Plan) -> Result<(Program, program::check::Proof)> {
    let program = program::lower(plan).map_err(|error| match error {
        Error::Input { file: inner, problems } => {
            let place = |p: Problem| Problem { place: format!("{inner}: {}", p.place), ..p };
            let problems = problems.into_iter().map(place).collect();
            Error::Input { file: file.to_owned(), problems }
        }
        other => other,
    })?;
    match program::check::check(&program) {
        Ok(proof) => Ok((program, proof)),
        Err(problems) => Err(Error::Input { file: file.to_owned(), problems }),
    }
}
