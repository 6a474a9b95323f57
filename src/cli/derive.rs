//! Turns a foreign trace into the files that a plan is made from: a workload with measured times, a fitted device spec.

use std::path::Path;

use serde::Serialize;

use super::{Terminal, inputs};
use crate::device::{self, DeviceSpec, Link};
use crate::error::{Error, Problem, Result};
use crate::figures::Origin;
use crate::model::{Component, Manifest};
use crate::profile::trace::blocks::{BlockTimes, Found, ListShape, block_times};
use crate::profile::trace::{Fit, Kind, Memory, Trace, fit};
use crate::units::{Fraction, Nanos, Rate, plain};
use crate::workload::{self, Passes, Workload};

/// What was derived, for programs.
#[derive(Debug, Default, Serialize)]
pub struct Derived {
    /// The device of the trace.
    pub device: i64,
    /// The workload, where one was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workload: Option<Measured>,
    /// The device spec, where one was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link: Option<Links>,
}

/// Where block times come from.
#[derive(Debug, Serialize)]
pub struct Measured {
    model: String,
    component: String,
    found: Found,
    blocks: u64,
    passes: u64,
    #[serde(rename = "kernel_ns", serialize_with = "plain")]
    kernels: Nanos,
    #[serde(rename = "kernel_in_blocks_ns", serialize_with = "plain")]
    inside: Nanos,
    #[serde(rename = "blocks_per_pass_ns", serialize_with = "plain")]
    per_pass: Nanos,
}

/// What the copies say; absent where there are none to say it.
#[derive(Debug, Serialize)]
pub struct Links {
    base: String,
    h2d: Option<Fit>,
    d2h: Option<Fit>,
    pageable: Option<Fit>,
    dtod: Option<Fit>,
}

/// The GPU that is meant: the one named, or the only one.
pub fn device_of(name: &str, trace: &Trace, wanted: Option<i64>) -> Result<i64> {
    let used = trace.used_devices();
    let list: Vec<String> = used.iter().map(i64::to_string).collect();
    match (wanted, used.as_slice()) {
        (Some(device), _) if used.contains(&device) => Ok(device),
        (None, [only]) => Ok(*only),
        (Some(device), _) => {
            let message =
                format!("{name} has no rows of GPU {device}; it has GPU {}", list.join(", "));
            Err(Error::usage(message))
        }
        (None, _) => Err(Error::Usage {
            message: format!("{name} has rows of several GPUs: {}", list.join(", ")),
            hint: Some("choose one with --gpu N".into()),
        }),
    }
}

/// A workload with the measured time of every block; what the trace does not say comes from the model's default.
pub fn workload(
    name: &str,
    trace: &Trace,
    device: i64,
    manifest: &Manifest,
    component: Option<&str>,
) -> Result<(String, Measured)> {
    let component = match component {
        Some(name) => manifest.component(name),
        None => manifest.main_component(),
    };
    let missing = || Error::usage(format!("{} has no such component", manifest.model));
    let component = component.ok_or_else(missing)?;
    let lists = shapes(manifest, component);
    if lists.is_empty() {
        return Err(Error::usage(format!("{} has no block lists to be found", component.name)));
    }
    let found = block_times(trace, device, &lists).map_err(|why| {
        let expected = format!("the blocks of {}: record with with_modules=True and with_stack=True, or name blocks with record_function or NVTX", manifest.model);
        Error::input(name, Problem::new("its ranges and kernels", why, expected))
    })?;
    let mut workload = workload::for_model(manifest)?;
    fill(&mut workload, component, &lists, &found);
    let problems = workload.validate();
    if !problems.is_empty() {
        return Err(Error::Input { file: name.to_owned(), problems });
    }
    let per_pass = found.blocks.values().map(|block| block.median).sum();
    let measured = Measured {
        model: manifest.model.clone(),
        component: component.name.clone(),
        found: found.found,
        blocks: found.blocks.len() as u64,
        passes: found.passes(),
        kernels: found.kernels,
        inside: found.inside,
        per_pass,
    };
    let text = format!("{}{}", comment(name, trace.origin, &measured), workload.to_yaml()?);
    Ok((text, measured))
}

fn comment(name: &str, origin: Origin, measured: &Measured) -> String {
    let how = measured.found.by();
    format!(
        "# Times of blocks: {origin}, from {}, found by {how}; medians of {} uses each, without gaps.\n\
         # {} of kernel time lies outside the blocks: the root's time is estimated, and so is the reserve.\n",
        printable(name),
        measured.passes,
        Fraction::of(
            measured.kernels.saturating_sub(measured.inside).get(),
            measured.kernels.get()
        )
        .percent()
    )
}

/// A name that cannot end a comment.
fn printable(name: &str) -> String {
    name.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

fn shapes(manifest: &Manifest, component: &Component) -> Vec<ListShape> {
    let mut lists: Vec<ListShape> = Vec::new();
    for segment in &component.blocks {
        let kind = manifest.kinds.get(&segment.kind);
        let bytes = kind.map(|kind| kind.weights.bytes().get());
        match lists.iter_mut().find(|list| list.list == segment.list) {
            Some(list) => {
                list.count += segment.count;
                list.bytes = list.bytes.filter(|known| Some(*known) == bytes);
            }
            None => {
                let class = kind.and_then(|kind| kind.class.clone());
                let list = segment.list.clone();
                lists.push(ListShape { list, class, count: segment.count, bytes });
            }
        }
    }
    lists
}

fn fill(workload: &mut Workload, component: &Component, lists: &[ListShape], found: &BlockTimes) {
    for (&(list, block), time) in &found.blocks {
        let Some(list) = lists.get(list) else { continue };
        let id = format!("{}.{}.{block}", component.name, list.list);
        workload.compute.insert(id, time.median);
    }
    let passes = u32::try_from(found.passes()).unwrap_or(u32::MAX).clamp(1, 1_000_000);
    match &mut workload.passes {
        Passes::Main(main) => *main = passes,
        Passes::ByComponent(by_name) => {
            by_name.insert(component.name.clone(), passes);
        }
    }
}

/// A device spec with the links that the copies show; the rest from a base, by default the built-in of the same name.
pub fn device_spec(
    name: &str,
    trace: &Trace,
    device: i64,
    base: Option<&str>,
) -> Result<(String, Links)> {
    let info = trace.devices.get(&device).cloned().unwrap_or_default();
    let mut spec = match base {
        Some(base) => inputs::load_device(base)?,
        None => same_name(info.name.as_deref())?,
    };
    let links = Links {
        base: spec.name.clone(),
        h2d: fit(trace, device, Kind::Htod, Some(Memory::Pinned))
            .or_else(|| fit(trace, device, Kind::Htod, Some(Memory::Unknown))),
        d2h: fit(trace, device, Kind::Dtoh, Some(Memory::Pinned)),
        pageable: fit(trace, device, Kind::Htod, Some(Memory::Pageable)),
        dtod: fit(trace, device, Kind::Dtod, None),
    };
    if links.h2d.is_none() && links.pageable.is_none() {
        let found = "no copy from host to device of 1 MiB or more with its size";
        let problem =
            Problem::new("its copies", found, "copies large enough to show the link's rate");
        return Err(Error::input(name, problem));
    }
    spec.source = Some(source(name, &links));
    spec.origin = trace.origin;
    (spec.name, spec.pcie) = (info.name.unwrap_or(spec.name), None);
    spec.vram = info.memory.unwrap_or(spec.vram);
    set(&mut spec.h2d, links.h2d);
    set(&mut spec.d2h, links.d2h);
    if let Some(fit) = links.pageable {
        let mut link = spec.pageable.unwrap_or_else(|| spec.h2d.clone());
        set(&mut link, Some(fit));
        spec.pageable = Some(link);
    }
    if let Some(fit) = links.dtod {
        // A copy within the device reads and writes every byte.
        spec.memory.rate = Rate::new(fit.rate.get().saturating_mul(2));
    }
    Ok((spec.to_yaml()?, links))
}

fn set(link: &mut Link, fit: Option<Fit>) {
    if let Some(fit) = fit {
        link.rate = fit.rate;
        link.latency = fit.latency.unwrap_or(link.latency);
        link.points.clear();
    }
}

fn source(name: &str, links: &Links) -> String {
    let of = |what: &str, fit: &Option<Fit>| {
        fit.as_ref().map(|fit| format!("{what} from {} copies", fit.large + fit.small))
    };
    let parts = [
        ("h2d", &links.h2d),
        ("d2h", &links.d2h),
        ("pageable", &links.pageable),
        ("memory", &links.dtod),
    ];
    let fitted: Vec<String> = parts.iter().filter_map(|(what, fit)| of(what, fit)).collect();
    format!(
        "{}: {}; everything else from {}, not measured",
        printable(name),
        fitted.join(", "),
        links.base
    )
}

fn same_name(name: Option<&str>) -> Result<DeviceSpec> {
    let known: Vec<DeviceSpec> =
        device::builtin::names().filter_map(device::builtin::load).collect::<Result<_>>()?;
    let found = known.into_iter().find(|spec| Some(spec.name.as_str()) == name);
    found.ok_or_else(|| Error::Usage {
        message: format!(
            "the trace says nothing of compute and memory, and its GPU ({}) is no built-in device",
            name.unwrap_or("without a name")
        ),
        hint: Some(
            "name the device to take them from with --device D; `vramplan devices` lists them"
                .into(),
        ),
    })
}

impl Derived {
    /// The text for people.
    pub fn text(&self) -> String {
        let mut out = String::new();
        if let Some(one) = &self.workload {
            let how = one.found.by();
            out.push_str(&format!(
                "{}: {} blocks of {} found by {how}\n  {} passes, {} of kernels per pass in blocks (measured)\n  {} of kernel time lies outside the blocks\n",
                one.model, one.blocks, one.component, one.passes, one.per_pass.human(),
                Fraction::of(one.kernels.saturating_sub(one.inside).get(), one.kernels.get()).percent()
            ));
        }
        if let Some(links) = &self.link {
            let parts = [
                ("HtoD pinned", &links.h2d),
                ("DtoH pinned", &links.d2h),
                ("HtoD pageable", &links.pageable),
                ("DtoD", &links.dtod),
            ];
            for (name, fit) in parts {
                let text = match fit {
                    None => format!("not enough copies; as {}", links.base),
                    Some(fit) => format!(
                        "{} + {} per copy, median error {}, {} copies",
                        fit.rate.human(),
                        fit.latency.map_or("?".into(), Nanos::human),
                        fit.error.percent(),
                        fit.large + fit.small
                    ),
                };
                out.push_str(&format!("  {name:<14}{text}\n"));
            }
        }
        out
    }
}

/// Where a written file is, and how to go on.
pub fn next_step(workload: Option<&Path>, device: Option<&Path>, model: Option<&str>) -> String {
    let mut out = String::new();
    for file in [workload, device].into_iter().flatten() {
        out.push_str(&format!("written: {}\n", file.display()));
    }
    if let Some(model) = model {
        let device = device.map_or("D".into(), |path| path.display().to_string());
        let workload = workload.map_or("FILE".into(), |path| path.display().to_string());
        out.push_str(&format!(
            "next: vramplan plan {model} --device {device} --vram SIZE --workload {workload}\n"
        ));
    }
    out
}

/// Reads a model for its block lists.
pub fn model(name: &str, terminal: &mut Terminal) -> Result<Manifest> {
    inputs::load_model(name, terminal)
}
