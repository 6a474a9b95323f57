//! Turns what a user names (a model, a device, a budget, a workload) into the request that is planned.

use std::path::{Path, PathBuf};

use super::host::HostArgs;
use super::{Terminal, files};
use crate::device::{self, DeviceSpec};
use crate::error::{Error, Result};
use crate::model::{self, Component, Manifest};
use crate::plan::{Granularity, Request, Unit};
use crate::scan::Choices;
use crate::suggest;
use crate::units::Bytes;
use crate::workload::{self, Overrides, Reserve, Workload};

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
}

/// The workload and the components it is for.
#[derive(clap::Args, Clone, Default)]
pub struct Selection {
    /// A component to plan, in order of use; repeatable. The denoiser or language model by default.
    #[arg(long, value_name = "NAME")]
    pub component: Vec<String>,
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
    /// VRAM that is not for weights, all of it; by default an estimate that grows with the tokens.
    #[arg(long, value_name = "SIZE")]
    pub reserve: Option<Bytes>,
}

/// A request without its budget.
pub struct Prepared {
    request: Request,
}

impl Prepared {
    /// The request under this budget.
    pub fn under(&self, vram: Bytes) -> Request {
        Request { vram, ..self.request.clone() }
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
        let components = self.selection.components(&manifest)?;
        let workload = self.selection.workload(&manifest, &components)?;
        let components = components.into_iter().map(|component| component.name.clone()).collect();
        let vram = device.vram;
        let granularity = Granularity::Tensor;
        let unit = Unit::Block;
        let request =
            Request { manifest, components, workload, device, vram, granularity, unit, host };
        Ok(Prepared { request })
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

/// A budget above the card's memory is taken at its word, but not in silence.
fn warn_above(vram: Bytes, device: &DeviceSpec, terminal: &mut Terminal) {
    if vram > device.vram {
        let (asked, there) = (vram.human(), device.vram.human());
        terminal.warn(&format!("--vram {asked} is more than the {there} of {}", device.name));
    }
}

impl Selection {
    pub fn components<'a>(&self, manifest: &'a Manifest) -> Result<Vec<&'a Component>> {
        if self.component.is_empty() {
            let none = || Error::usage(format!("{} has no component", manifest.model));
            return Ok(vec![manifest.main_component().ok_or_else(none)?]);
        }
        let names = || manifest.components.iter().map(|c| c.name.clone()).collect::<Vec<_>>();
        let mut chosen: Vec<&Component> = Vec::new();
        for name in &self.component {
            let component = manifest.component(name).ok_or_else(|| {
                suggest::unknown(&format!("component of {}", manifest.model), name, &names())
            })?;
            if chosen.iter().any(|known| known.name == component.name) {
                return Err(Error::usage(format!("--component {name} is given twice")));
            }
            chosen.push(component);
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
        match components.first() {
            Some(component) => workload.with_overrides(&overrides, manifest, component),
            None => Ok(workload),
        }
    }
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
