//! Turns what a user names (a model, a device, a budget, a workload) into the request that is planned.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::host::HostArgs;
use super::{Terminal, files};
use crate::device::{self, DeviceSpec};
use crate::error::{Error, Result};
use crate::model::{self, Component, Manifest};
use crate::plan::pipeline::Hold;
use crate::plan::{Granularity, Request, Unit};
use crate::scan::Choices;
use crate::shard::{self, Shard, Whole};
use crate::suggest;
use crate::units::Bytes;
use crate::workload::{self, Overrides, Reserve, Role, Skip, Workload};

/// What most commands take: a model, a device, a budget, and changes to the model's default workload.
#[derive(clap::Args, Clone)]
pub struct RequestArgs {
    /// A built-in model (see `vramplan models`), a manifest file, or a checkpoint.
    pub model: String,
    /// A built-in device (see `vramplan devices`) or a device file.
    #[arg(long)]
    pub device: String,
    #[command(flatten)]
    pub host: HostArgs,
    #[command(flatten)]
    pub selection: Selection,
    #[command(flatten)]
    pub ranks: RankArgs,
}

/// Several devices of a kind in one host.
#[derive(clap::Args, Clone, Default)]
pub struct RankArgs {
    /// Devices of this kind in one host, each a rank; all answers are then per rank.
    #[arg(long, value_name = "K")]
    pub ranks: Option<u32>,
    /// How the ranks divide the work: tp (tensor parallel), sp (sequence parallel), hsdp (sharded, gathered block by
    /// block) or dp (each its own samples; they share the host).
    #[arg(long, value_name = "KIND")]
    pub shard: Option<String>,
    /// What ranks exchange over, nvlink or pcie; NVLink by default where the device spec has a peer link.
    #[arg(long, value_name = "LINK")]
    pub link: Option<String>,
}

impl RankArgs {
    /// The shard asked for, if any.
    pub fn shard(&self) -> Result<Option<Shard>> {
        let (Some(ranks), Some(kind)) = (self.ranks, &self.shard) else {
            return self.incomplete().map_or(Ok(None), Err);
        };
        shard::check_ranks(ranks)?;
        let kind = kind.parse()?;
        let link = self.link.as_deref().map(str::parse).transpose()?;
        Ok(Some(Shard { ranks, kind, link }))
    }

    /// What is missing beside what is given.
    fn incomplete(&self) -> Option<Error> {
        let given = |message: &str, hint: &str| {
            Some(Error::Usage { message: message.to_owned(), hint: Some(hint.to_owned()) })
        };
        match (self.ranks, &self.shard, &self.link) {
            (Some(ranks), None, _) => given(
                &format!("--ranks {ranks} without --shard: how do the ranks divide the work?"),
                "add --shard tp, sp, hsdp or dp",
            ),
            (None, Some(kind), _) => given(
                &format!("--shard {kind} without --ranks: among how many?"),
                "add --ranks 2, say",
            ),
            (None, None, Some(link)) => given(
                &format!("--link {link} without --ranks: one device exchanges nothing"),
                "add --ranks and --shard",
            ),
            _ => None,
        }
    }
}

/// The workload and the components it is for.
#[derive(clap::Args, Clone, Default)]
pub struct Selection {
    /// Components to plan together, in their order of use: names, or all, dit, encoders, decoders; each with =auto,
    /// =resident, =phase, =stream or =block for how it is held. The denoiser or language model by default.
    #[arg(long, alias = "component", value_name = "NAME[=HOLD],…", value_delimiter = ',')]
    pub components: Vec<String>,
    /// How often the components are used in turn.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub generations: u32,
    /// A workload file instead of the model's default.
    #[arg(long, value_name = "FILE")]
    pub workload: Option<PathBuf>,
    /// Denoising steps or decoded tokens.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub passes: Option<u32>,
    /// Pixels.
    #[arg(long, value_name = "PIXELS")]
    pub height: Option<u64>,
    /// Pixels.
    #[arg(long, value_name = "PIXELS")]
    pub width: Option<u64>,
    /// Frames of a video.
    #[arg(long, value_name = "N")]
    pub frames: Option<u64>,
    /// Tokens of the prompt.
    #[arg(long, value_name = "N")]
    pub text_tokens: Option<u64>,
    /// Tokens of the main stream, instead of what height, width and frames give.
    #[arg(long, value_name = "N")]
    pub tokens: Option<u64>,
    /// Samples computed at once.
    #[arg(long, value_name = "N")]
    pub batch: Option<u64>,
    /// Blocks that passes leave out: ids with ranges or *, then passes from 0, and :kept where their copies are made all
    /// the same (transformer.transformer_blocks.8-18@5-27/2). Added to those of the workload.
    #[arg(long, value_name = "BLOCKS@PASSES")]
    pub skip: Vec<Skip>,
    /// VRAM that is not for weights, all of it; by default an estimate that grows with the tokens.
    #[arg(long, value_name = "SIZE")]
    pub reserve: Option<Bytes>,
}

/// A request without its budget.
pub struct Prepared {
    request: Request,
    /// Of several ranks, those that are unlike the first.
    others: Vec<Request>,
}

impl Prepared {
    /// The request under this budget; of several ranks the first, which never has less to hold or compute than others.
    pub fn under(&self, vram: Bytes) -> Request {
        Request { vram, ..self.request.clone() }
    }

    /// The requests of the ranks that are unlike the first, under this budget.
    pub fn others_under(&self, vram: Bytes) -> Vec<Request> {
        self.others.iter().map(|other| Request { vram, ..other.clone() }).collect()
    }

    /// The device.
    pub fn device(&self) -> &DeviceSpec {
        &self.request.device
    }
}

impl RequestArgs {
    /// Loads everything but the budget; remarks go to the terminal.
    pub fn load(&self, terminal: &mut Terminal) -> Result<Prepared> {
        let manifest = load_model(&self.model, terminal)?;
        let mut device = load_device(&self.device)?;
        let host = self.host.apply(&mut device, terminal)?;
        let chosen = self.selection.chosen(&manifest)?;
        let components: Vec<&Component> = chosen.iter().map(|(component, _)| *component).collect();
        let workload = self.selection.workload(&manifest, &components)?;
        for skip in workload.skips_beside(&manifest, &components) {
            terminal.warn(&format!("{skip}: of a component that is not planned"));
        }
        let order: Vec<&str> =
            workload.ordered(&manifest)?.iter().map(|one| one.name.as_str()).collect();
        let place = |name: &String| order.iter().position(|one| one == name);
        let mut components: Vec<String> =
            components.into_iter().map(|component| component.name.clone()).collect();
        components.sort_by_key(place);
        let held = chosen.iter().filter_map(|(one, hold)| Some((one.name.clone(), (*hold)?)));
        let holds = held.collect();
        let request = Request {
            vram: device.vram,
            granularity: Granularity::Tensor,
            unit: Unit::Block,
            rank: None,
            host,
            holds,
            generations: self.selection.generations,
            manifest,
            components,
            workload,
            device,
        };
        match self.ranks.shard()? {
            Some(shard) => divided(&request, shard, self.selection.reserve.is_some()),
            None => Ok(Prepared { request, others: Vec::new() }),
        }
    }

    /// Loads everything under one budget; `vram` as typed.
    pub fn load_under(&self, vram: &str, terminal: &mut Terminal) -> Result<(Prepared, Request)> {
        let prepared = self.load(terminal)?;
        let vram = budget(vram, prepared.device())?;
        warn_above(vram, prepared.device(), terminal);
        let request = prepared.under(vram);
        Ok((prepared, request))
    }
}

/// The requests of the ranks that a shard makes of one.
pub fn divided(request: &Request, shard: Shard, reserve_given: bool) -> Result<Prepared> {
    let whole = Whole {
        manifest: &request.manifest,
        components: &request.components,
        workload: &request.workload,
        device: &request.device,
        reserve_given,
    };
    let ranks = shard.divide(&whole)?;
    let mut requests = ranks.into_iter().map(|rank| request.of_rank(rank));
    let first = requests.next().unwrap_or_else(|| request.clone());
    Ok(Prepared { request: first, others: requests.collect() })
}

/// The request in which every pass runs every block: what policies and budgets are compared in.
pub fn of_whole_passes(mut request: Request, terminal: &mut Terminal) -> Request {
    warn_skips(&request.workload, terminal);
    request.workload.skips.clear();
    request
}

fn warn_skips(workload: &Workload, terminal: &mut Terminal) {
    if !workload.skips.is_empty() {
        let warning = "blocks that passes leave out: what is compared is a pass that runs every block; \
                       `vramplan plan` has whole runs";
        terminal.warn(warning);
    }
}

/// A budget above the card's memory is taken at its word, but not in silence.
fn warn_above(vram: Bytes, device: &DeviceSpec, terminal: &mut Terminal) {
    if vram > device.vram {
        let (asked, there) = (vram.human(), device.vram.human());
        terminal.warn(&format!("--vram {asked} is more than the {there} of {}", device.name));
    }
}

impl Selection {
    /// The flags that ask for the same.
    pub fn flags(&self) -> Vec<String> {
        let mut flags: Vec<String> =
            self.components.iter().map(|name| format!("--components {name}")).collect();
        flags.extend(self.workload.iter().map(|path| format!("--workload {}", path.display())));
        let number = |flag: &str, value: Option<u64>| Some(format!("--{flag} {}", value?));
        flags.extend(number("passes", self.passes.map(u64::from)));
        flags.extend(number("height", self.height));
        flags.extend(number("width", self.width));
        flags.extend(number("frames", self.frames));
        flags.extend(number("text-tokens", self.text_tokens));
        flags.extend(number("tokens", self.tokens));
        flags.extend(number("batch", self.batch));
        flags.extend(self.skip.iter().map(|skip| format!("--skip '{skip}'")));
        flags.extend(self.reserve.map(|size| format!("--reserve {size}")));
        flags
    }

    pub fn components<'a>(&self, manifest: &'a Manifest) -> Result<Vec<&'a Component>> {
        Ok(self.chosen(manifest)?.into_iter().map(|(component, _)| component).collect())
    }

    /// The components chosen by name or group, with the holds that are given.
    fn chosen<'a>(&self, manifest: &'a Manifest) -> Result<Vec<(&'a Component, Option<Hold>)>> {
        if self.components.is_empty() {
            let none = || Error::usage(format!("{} has no component", manifest.model));
            return Ok(vec![(manifest.main_component().ok_or_else(none)?, None)]);
        }
        let mut chosen: Vec<(&Component, Option<Hold>)> = Vec::new();
        let mut by_group = BTreeSet::new();
        for item in &self.components {
            let (name, hold) = match item.split_once('=') {
                None => (item.as_str(), None),
                Some((name, hold)) => {
                    let refused = |error| Error::usage(format!("--components {item}: {error}"));
                    (name, Some(hold.parse::<Hold>().map_err(refused)?))
                }
            };
            let members = group(manifest, name)?;
            for component in &members {
                let known = chosen.iter_mut().find(|(one, _)| one.name == component.name);
                match known {
                    // A name says more than a group that it is in, wherever that stands.
                    Some(known) if members.len() == 1 && by_group.contains(&component.name) => {
                        known.1 = hold.or(known.1);
                    }
                    Some(_) if members.len() > 1 => {}
                    Some(_) => {
                        let twice = format!("--components: {} is given twice", component.name);
                        return Err(Error::usage(twice));
                    }
                    None => chosen.push((component, hold)),
                }
                if members.len() > 1 {
                    by_group.insert(component.name.clone());
                }
            }
        }
        Ok(chosen)
    }

    pub fn workload(&self, manifest: &Manifest, components: &[&Component]) -> Result<Workload> {
        let workload = match &self.workload {
            Some(path) => {
                Workload::from_yaml(&path.display().to_string(), &files::read_text(path)?)?
            }
            None => workload::for_model(manifest)?,
        };
        let reserve = self.reserve.map(|activations| Reserve { activations, ..Reserve::default() });
        let overrides = Overrides {
            passes: self.passes,
            height: self.height,
            width: self.width,
            frames: self.frames,
            text_tokens: self.text_tokens,
            tokens: self.tokens,
            batch: self.batch,
            reserve,
        };
        let mut workload = match components.first() {
            Some(component) => workload.with_overrides(&overrides, manifest, component)?,
            None => workload,
        };
        workload.skips.extend(self.skip.iter().cloned());
        Ok(workload)
    }
}

/// The components that a name or the name of a group stands for.
fn group<'a>(manifest: &'a Manifest, name: &str) -> Result<Vec<&'a Component>> {
    if let Some(component) = manifest.component(name) {
        return Ok(vec![component]);
    }
    let all = manifest.components.iter();
    let members: Vec<&Component> = match Role::ALL.into_iter().find(|role| role.group() == name) {
        Some(role) => all.filter(|component| Role::of(manifest, component) == role).collect(),
        None if name == "all" => all.collect(),
        None => Vec::new(),
    };
    if !members.is_empty() {
        return Ok(members);
    }
    let has = |role: &Role| manifest.components.iter().any(|one| Role::of(manifest, one) == *role);
    let groups = Role::ALL.into_iter().filter(has).map(|role| role.group().to_owned());
    let names = manifest.components.iter().map(|component| component.name.clone());
    let known: Vec<String> = names.chain(groups).chain(["all".to_owned()]).collect();
    Err(suggest::unknown(&format!("component of {}", manifest.model), name, &known))
}

/// Whether a model's name is the path of a checkpoint: neither built in nor a manifest.
pub fn is_checkpoint(name: &str) -> bool {
    let path = Path::new(name);
    let is_yaml = path.extension().is_some_and(|ext| ext == "yaml" || ext == "yml");
    model::builtin::load(name).is_none() && !is_yaml
}

/// A built-in model, a manifest file, or a checkpoint.
pub fn load_model(name: &str, terminal: &mut Terminal) -> Result<Manifest> {
    if let Some(manifest) = model::builtin::load(name) {
        return manifest;
    }
    let path = Path::new(name);
    if !is_checkpoint(name) {
        return Manifest::from_yaml(name, &files::read_text(path)?);
    }
    if path.exists() || name.contains(std::path::MAIN_SEPARATOR) {
        let scanned = super::scan::scan_path(path, &Choices::default())?;
        for warning in &scanned.warnings {
            terminal.warn(warning);
        }
        return Ok(scanned.manifest);
    }
    let known: Vec<String> = model::builtin::names().map(str::to_owned).collect();
    Err(suggest::unknown("model, and no such file:", name, &known))
}

/// A built-in device or a device file.
pub fn load_device(name: &str) -> Result<DeviceSpec> {
    if let Some(device) = device::builtin::load(name) {
        return device;
    }
    let path = Path::new(name);
    let is_yaml = path.extension().is_some_and(|ext| ext == "yaml" || ext == "yml");
    if is_yaml || path.exists() {
        return DeviceSpec::from_yaml(name, &files::read_text(path)?);
    }
    let known: Vec<String> = device::builtin::names().map(str::to_owned).collect();
    Err(suggest::unknown("device, and no such file:", name, &known))
}

/// Reads a budget: a size, or a share of the card such as `90%`.
pub fn budget(text: &str, device: &DeviceSpec) -> Result<Bytes> {
    if let Some(share) = text.strip_suffix('%') {
        let share: crate::units::Fraction =
            format!("{share}%").parse().map_err(|e| Error::usage(format!("--vram: {e}")))?;
        return Ok(Bytes::new(share.share_of(device.vram.get())));
    }
    let size: Bytes = text.parse().map_err(|error| {
        Error::usage(format!("--vram: {error}, or a share of the card such as 90%"))
    })?;
    let bare = text.trim().bytes().all(|byte| byte.is_ascii_digit());
    if bare && size < Bytes::new(1 << 20) {
        let message = format!("--vram {text} would be {}", size.human());
        return Err(Error::Usage { message, hint: Some(format!("did you mean {text}GiB?")) });
    }
    Ok(size)
}
