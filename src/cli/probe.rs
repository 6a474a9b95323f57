//! The `probe` command: this machine's GPU in, device spec out.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::json;

use super::{Terminal, cuda};
use crate::backend::cuda::Gpu;
use crate::backend::cuda::probe::{self, Curve, Effort, Findings, Host, Node};
use crate::device::{self, DeviceSpec, Pcie};
use crate::error::Result;
use crate::units::Bytes;

/// Measure this machine's GPU into a device spec.
///
/// Copies of 4 KiB to 1 GiB, pinned and pageable, both ways and at once; matrix products where cuBLASLt is found;
/// memory; how much compute and copies slow each other down. Buffers take at most a quarter of the free memory.
/// Stop other work on the GPU first.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  vramplan probe --gpu 0 -o my-gpu.yaml")]
pub struct Args {
    /// The GPU's index.
    #[arg(long, value_name = "N", default_value_t = 0)]
    gpu: u32,
    /// Fewer sizes and samples: under ten seconds instead of under a minute.
    #[arg(long)]
    quick: bool,
    /// Where to write the device spec.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub fn run(args: &Args, terminal: &mut Terminal) -> Result<()> {
    let gpu = Gpu::open(args.gpu, cuda::stand_in_allowed())?;
    let effort = if args.quick { Effort::QUICK } else { Effort::FULL };
    let findings = probe::probe(&gpu, effort, &nodes())?;
    findings.check()?;
    let host = host(&findings)?;
    let (spec, products) = findings.spec(&host);
    let yaml = spec.to_yaml()?;
    let mut written = None;
    if let Some(path) = &args.output {
        if !terminal.deliver(path, yaml.as_bytes())? {
            return Ok(());
        }
        written = Some(path.display().to_string());
    }
    if !products && let Err(missing) = &findings.blas {
        terminal.warn(&format!("products were not measured, no cuBLASLt: {missing}"));
    }
    let mut text = table(&findings, &spec, &host);
    if let Some(file) = &written {
        let _ = writeln!(text, "\ndevice spec: {file}");
    }
    terminal.answer(&answer(&findings, &spec, written.as_deref()), &text)
}

/// The host's NUMA nodes that have processors; Linux alone says.
fn nodes() -> Vec<Node> {
    let folder = fs::read_dir("/sys/devices/system/node").into_iter().flatten().flatten();
    let mut nodes: Vec<Node> = folder
        .filter_map(|entry| {
            let name = entry.file_name();
            let number = name.to_str()?.strip_prefix("node")?.parse().ok()?;
            let processors = listed(&fs::read_to_string(entry.path().join("cpulist")).ok()?);
            (!processors.is_empty()).then_some(Node { number, processors })
        })
        .collect();
    nodes.sort_by_key(|node| node.number);
    nodes
}

/// The kernel's list of processors: `0-3,8-11`.
fn listed(text: &str) -> Vec<usize> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let range = first.parse().ok().zip(last.parse().ok());
        let range = range.map(|(first, last): (usize, usize)| first..=last.min(first + 4_095));
        range.into_iter().flatten()
    };
    text.trim().split(',').filter(|part| !part.is_empty()).flat_map(range).collect()
}

fn host(findings: &Findings) -> Result<Host> {
    let attribute = |name: &str| {
        let id = findings.pci_id.as_ref()?;
        let text = fs::read_to_string(format!("/sys/bus/pci/devices/{id}/{name}")).ok()?;
        Some(text.trim().to_owned())
    };
    let pcie = attribute("current_link_speed").zip(attribute("current_link_width"));
    let built_in = device::builtin::names()
        .filter_map(|name| device::builtin::load(name)?.ok())
        .find(|spec| spec.name == findings.name);
    Ok(Host {
        memory: memory(),
        pcie: pcie.and_then(|(speed, width)| link(&speed, &width)),
        numa: attribute("numa_node").filter(|node| !node.starts_with('-')),
        date: today(),
        built_in,
    })
}

/// What this machine has, or what its cgroup lets a process have of it.
fn memory() -> Bytes {
    let installed = fs::read_to_string("/proc/meminfo").ok().and_then(|text| installed(&text));
    let limit = super::host::cgroup_limit().map(|limit| Bytes::new(limit.bytes));
    installed.into_iter().chain(limit).min().unwrap_or_default()
}

/// The memory that `/proc/meminfo` states.
fn installed(text: &str) -> Option<Bytes> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(Bytes::new(kib.checked_mul(1024)?))
}

/// A link by what the kernel says: `16.0 GT/s PCIe`, `16`. Links that idle run slower; probe last.
fn link(speed: &str, width: &str) -> Option<Pcie> {
    let generation = match speed.split('.').next()?.split(' ').next()? {
        "8" => 3,
        "16" => 4,
        "32" => 5,
        "64" => 6,
        _ => return None,
    };
    Some(Pcie { generation, lanes: width.parse().ok()? })
}

/// Today in UTC.
#[expect(clippy::disallowed_methods, reason = "a measurement states its date")]
fn today() -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    date(seconds / 86_400)
}

/// The date of a day since 1970-01-01, by Howard Hinnant's `civil_from_days`.
fn date(day: u64) -> String {
    let shifted = day + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

fn table(findings: &Findings, spec: &DeviceSpec, host: &Host) -> String {
    let mut text =
        format!("{}, {} VRAM, CUDA driver {}", findings.name, spec.vram.human(), findings.driver);
    if let Some(pcie) = &host.pcie {
        let _ = write!(text, ", PCIe {}.0 x{}", pcie.generation, pcie.lanes);
    }
    if let Some(node) = &host.numa {
        let _ = write!(text, ", NUMA node {node}");
    }
    let _ = writeln!(
        text,
        "\n\n{:<14}{:>12}{:>12}{:>10}{:>10}",
        "measured", "rate", "latency", "residual", "spread"
    );
    let curves = [
        ("h2d pinned", &findings.h2d),
        ("d2h pinned", &findings.d2h),
        ("h2d pageable", &findings.pageable),
    ];
    for (name, curve) in curves {
        let (rate, latency) = (curve.rate.human(), curve.latency.human());
        let (residual, spread) = (curve.residual.percent(), curve.spread().percent());
        let _ = writeln!(text, "{name:<14}{rate:>12}{latency:>12}{residual:>10}{spread:>10}");
    }
    let (up, down) = findings.both;
    let _ = writeln!(text, "both at once  {:>12} h2d, {} d2h", up.human(), down.human());
    let engines = findings.engines;
    let _ = writeln!(
        text,
        "two streams   {:>12} h2d together; {engines} copy engines",
        findings.two_streams.human()
    );
    let _ = writeln!(text, "write-combined{:>12} h2d", findings.write_combined.human());
    for node in &findings.nodes {
        let (number, rate) = (node.node, node.h2d.human());
        let slower = findings.slower_nodes().into_iter().find(|(slower, _)| *slower == number);
        let slower = slower.map_or(String::new(), |(_, by)| format!(", {} slower", by.percent()));
        let _ = writeln!(text, "NUMA node {number:<4}{rate:>12} h2d from its memory{slower}");
    }
    let _ = writeln!(text, "device memory {:>12} read", findings.read.human());
    for product in &findings.products {
        let (out, inner, tokens) = product.size;
        let (dtype, rate, spread) =
            (product.dtype.name(), product.rate.human(), product.spread.percent());
        let _ = writeln!(text, "{dtype:<14}{rate:>16} {out} x {inner} x {tokens}, spread {spread}");
    }
    let _ = writeln!(
        text,
        "contention    compute {} slower beside copies, copies {} slower beside compute ({})",
        findings.compute_slowdown.percent(),
        findings.copy_slowdown.percent(),
        findings.compute,
    );
    text
}

fn answer(findings: &Findings, spec: &DeviceSpec, file: Option<&str>) -> serde_json::Value {
    let curve = |curve: &Curve| {
        let point = |point: &probe::Point| {
            json!({ "bytes": point.bytes, "ns": point.time.get(), "spread": point.spread,
                    "bytes_per_s": point.rate().get() })
        };
        json!({
            "bytes_per_s": curve.rate.get(), "latency_ns": curve.latency.get(), "residual": curve.residual,
            "points": curve.points.iter().map(point).collect::<Vec<_>>(),
        })
    };
    let product = |p: &probe::ProductRate| {
        json!({ "dtype": p.dtype.name(), "size": [p.size.0, p.size.1, p.size.2], "flop_per_s": p.rate.get(),
                "spread": p.spread })
    };
    json!({
        "name": findings.name, "driver": findings.driver, "source": spec.source, "device_file": file,
        "vram_bytes": findings.memory.0.get(), "free_bytes": findings.memory.1.get(),
        "copy_engines": findings.engines,
        "h2d": curve(&findings.h2d), "d2h": curve(&findings.d2h), "pageable": curve(&findings.pageable),
        "both_h2d_bytes_per_s": findings.both.0.get(), "both_d2h_bytes_per_s": findings.both.1.get(),
        "two_streams_bytes_per_s": findings.two_streams.get(),
        "write_combined_bytes_per_s": findings.write_combined.get(),
        "nodes": findings.nodes.iter()
            .map(|node| json!({ "node": node.node, "h2d_bytes_per_s": node.h2d.get() }))
            .collect::<Vec<_>>(),
        "memory_bytes_per_s": findings.read.get(),
        "compute_slowdown": findings.compute_slowdown, "copy_slowdown": findings.copy_slowdown,
        "products": findings.products.iter().map(product).collect::<Vec<_>>(),
        "cublaslt": findings.blas.as_ref().ok(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_become_dates() {
        let days = [
            (0, "1970-01-01"),
            (11_016, "2000-02-29"),
            (11_017, "2000-03-01"),
            (20_778, "2026-11-21"),
        ];
        for (day, expected) in days {
            assert_eq!(date(day), expected);
        }
    }

    #[test]
    fn lists_of_processors_are_understood() {
        assert_eq!(listed("0-2,8,10-11\n"), [0, 1, 2, 8, 10, 11]);
        assert_eq!(listed("\n"), Vec::<usize>::new(), "a node of memory alone");
    }

    #[test]
    fn the_kernels_words_are_understood() {
        assert_eq!(link("16.0 GT/s PCIe", "8"), Some(Pcie { generation: 4, lanes: 8 }));
        assert_eq!(link("2.5 GT/s PCIe", "16"), None);
        assert_eq!(link("Unknown", "16"), None);
        let text = "MemFree: 1 kB\nMemTotal:       24567890 kB\n";
        assert_eq!(installed(text), Some(Bytes::new(24_567_890 * 1024)));
    }
}
