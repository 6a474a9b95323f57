//! The commands that show what is built in: models, devices, policies, schemas, completions.

use std::fmt::Write as _;

use clap::{CommandFactory, ValueEnum};
use serde_json::{Value, json};

use super::Terminal;
use crate::error::{Error, Result};
use crate::plan::{POLICIES, Parameter};
use crate::{device, model, plan, profile, workload};

/// List the built-in models.
///
/// Each was made by `vramplan scan` from the headers of the published checkpoint.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  vramplan models")]
pub struct ModelsArgs {}

/// List the built-in devices and where their figures come from.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  vramplan devices")]
pub struct DevicesArgs {}

/// List the policies that can be compared, and their parameters.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  vramplan policies")]
pub struct PoliciesArgs {}

/// Print the JSON Schema of a file format.
///
/// Editors check YAML against it while you type.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  vramplan schema plan > plan.schema.json")]
pub struct SchemaArgs {
    /// The kind of file.
    #[arg(value_enum)]
    kind: Kind,
}

#[derive(Clone, Copy, ValueEnum)]
enum Kind {
    /// What a model is.
    Manifest,
    /// What the hardware can do.
    Device,
    /// What is computed.
    Workload,
    /// What stays and what streams.
    Plan,
    /// What happened in a run.
    Profile,
}

/// Print a completion script for a shell.
#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  vramplan completions bash > ~/.local/share/bash-completion/completions/vramplan"
)]
pub struct CompletionsArgs {
    /// The shell.
    #[arg(value_enum)]
    shell: clap_complete::Shell,
}

pub fn models(_: &ModelsArgs, terminal: &mut Terminal) -> Result<()> {
    let mut text = String::new();
    let mut list = Vec::new();
    for name in model::builtin::names() {
        let Some(manifest) = model::builtin::load(name).transpose()? else { continue };
        let main = manifest.main_component().map(|main| main.name.clone());
        let _ = writeln!(text, "{name}");
        let mut components = Vec::new();
        for component in &manifest.components {
            let bytes = component.total_bytes(&manifest);
            let blocks = component.blocks(&manifest).len();
            let class = component.class.as_deref().unwrap_or("-");
            let mark = if Some(&component.name) == main.as_ref() { '*' } else { ' ' };
            let size = bytes.human();
            let _ = writeln!(
                text,
                "{mark} {:<16}{size:>10}{blocks:>5} blocks  {class}",
                component.name
            );
            components.push(json!({
                "name": component.name, "class": component.class, "total_bytes": bytes.get(), "blocks": blocks,
            }));
        }
        list.push(json!({ "name": name, "main_component": main, "components": components }));
    }
    text.push_str("\n* planned unless --components names others\n");
    terminal.answer(&json!({ "models": list }), &text)
}

pub fn devices(_: &DevicesArgs, terminal: &mut Terminal) -> Result<()> {
    let mut text =
        format!("{:<18}{:>9}{:>12}{:>13}{:>16}\n", "device", "VRAM", "H2D", "memory", "bf16 dense");
    let mut list = Vec::new();
    for name in device::builtin::names() {
        let Some(spec) = device::builtin::load(name).transpose()? else { continue };
        let _ = writeln!(
            text,
            "{name:<18}{:>9}{:>12}{:>13}{:>16}",
            spec.vram.human(),
            spec.h2d.rate.human(),
            spec.memory.rate.human(),
            spec.compute.bf16.human(),
        );
        list.push(json!({
            "id": name, "name": spec.name, "origin": spec.origin, "source": spec.source,
            "vram_bytes": spec.vram.get(), "h2d_bytes_per_s": spec.h2d.rate.get(),
            "memory_bytes_per_s": spec.memory.rate.get(), "bf16_flop_per_s": spec.compute.bf16.get(),
            "efficiency": spec.compute.efficiency,
        }));
    }
    text.push_str("\nfrom datasheets; H2D follows from the PCIe link. Sources: --format json\n");
    terminal.answer(&json!({ "devices": list }), &text)
}

pub fn policies(_: &PoliciesArgs, terminal: &mut Terminal) -> Result<()> {
    let mut text = String::new();
    for spec in POLICIES {
        let keys: Vec<String> = spec.parameters.iter().map(|p| format!(":{}=…", p.key)).collect();
        let _ = writeln!(text, "{}{}", spec.name, keys.concat());
        for line in super::verdict::wrapped(spec.meaning) {
            let _ = writeln!(text, "  {line}");
        }
        for parameter in spec.parameters {
            let _ = writeln!(text, "  {:<7}{}", parameter.key, parameter.meaning);
        }
    }
    text.push_str(
        "\na bare name is its best setting that fits, name:default what its engine ships\n",
    );
    let parameter = |p: &Parameter| json!({ "key": p.key, "meaning": p.meaning });
    let list: Vec<Value> = POLICIES
        .iter()
        .map(|spec| {
            let parameters: Vec<Value> = spec.parameters.iter().map(parameter).collect();
            let engine = Some(spec.engine).filter(|engine| !engine.is_empty());
            json!({
                "policy": spec.name, "engine": engine, "meaning": spec.meaning, "parameters": parameters,
            })
        })
        .collect();
    terminal.answer(&json!({ "policies": list }), &text)
}

pub fn schema(args: &SchemaArgs, terminal: &mut Terminal) -> Result<()> {
    let schema = match args.kind {
        Kind::Manifest => schemars::schema_for!(model::Manifest),
        Kind::Device => schemars::schema_for!(device::DeviceSpec),
        Kind::Workload => schemars::schema_for!(workload::Workload),
        Kind::Plan => schemars::schema_for!(plan::Plan),
        Kind::Profile => schemars::schema_for!(profile::Profile),
    };
    let text = serde_json::to_string_pretty(&schema)
        .map_err(|error| Error::Internal(format!("cannot write a schema: {error}")))?;
    terminal.answer(&schema, &(text + "\n"))
}

pub fn completions(args: &CompletionsArgs, terminal: &mut Terminal) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut super::Cli::command(), "vramplan", &mut script);
    terminal.raw(&script)
}
