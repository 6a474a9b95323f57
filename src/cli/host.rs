//! Turns `--host` and `--disk` into a host budget and a disk, and what the system says of its memory into numbers.

use std::fs;
use std::path::{Path, PathBuf};

use super::Terminal;
use crate::device::{DeviceSpec, Link, MAX_LATENCY};
use crate::error::{Error, Result};
use crate::plan::HostBudget;
use crate::units::{Bytes, Nanos, Rate};

/// Host memory and disk.
#[derive(clap::Args, Clone, Default)]
pub struct HostArgs {
    /// Host memory for the weights: a size such as 32GiB, or auto for what this machine and its cgroup have left.
    #[arg(long, value_name = "SIZE")]
    pub host: Option<String>,
    /// Rate of reads from disk, and their latency: 3GB/s or 3GB/s,80us. Instead of the device spec's.
    #[arg(long, value_name = "RATE[,LATENCY]")]
    pub disk: Option<String>,
}

impl HostArgs {
    /// The budget, if the host is to be planned for; the device gets the disk. Says where a figure came from.
    pub fn apply(
        &self,
        device: &mut DeviceSpec,
        terminal: &mut Terminal,
    ) -> Result<Option<HostBudget>> {
        if let Some(text) = &self.disk {
            device.disk = Some(disk(text, device.disk.as_ref())?);
        }
        let bytes = match self.host.as_deref() {
            None if self.disk.is_none() => return Ok(None),
            None => device.host.memory,
            Some("auto") => {
                let (bytes, origin) = available()?;
                terminal.warn(&format!("--host auto is {}: {origin}", bytes.human()));
                bytes
            }
            Some(text) => size(text)?,
        };
        if bytes > device.host.memory {
            let (asked, there) = (bytes.human(), device.host.memory.human());
            let name = &device.name;
            terminal.warn(&format!("--host {asked} is more than the {there} of {name}'s host"));
        }
        Ok(Some(HostBudget::on(device, bytes)))
    }
}

fn size(text: &str) -> Result<Bytes> {
    let size: Bytes = text.parse().map_err(|error| {
        Error::usage(format!("--host: {error}, or auto for what this machine has left"))
    })?;
    let bare = text.trim().bytes().all(|byte| byte.is_ascii_digit());
    if bare && size < Bytes::new(1 << 20) {
        let message = format!("--host {text} would be {}", size.human());
        return Err(Error::Usage { message, hint: Some(format!("did you mean {text}GiB?")) });
    }
    Ok(size)
}

/// Below it a rate is a mistake: floppy disks were faster.
const SLOWEST_DISK: Rate = Rate::new(10_000);

/// Reads a rate, with a latency or with that of the device spec.
fn disk(text: &str, known: Option<&Link>) -> Result<Link> {
    let (rate, latency) = match text.split_once(',') {
        Some((rate, latency)) => (rate, Some(latency)),
        None => (text, None),
    };
    let bad = |error: &dyn std::fmt::Display| Error::usage(format!("--disk: {error}"));
    let rate: Rate = rate.trim().parse().map_err(|error| bad(&error))?;
    if rate < SLOWEST_DISK {
        // Most likely a number without its unit: bytes per second.
        return Err(Error::Usage {
            message: format!("--disk: found {}, slower than any disk", rate.human()),
            hint: Some("give the rate its unit, such as 3GB/s".into()),
        });
    }
    let latency = match latency {
        Some(latency) => latency.trim().parse::<Nanos>().map_err(|error| bad(&error))?,
        None => known.map_or(Nanos::ZERO, |disk| disk.latency),
    };
    if latency > MAX_LATENCY {
        let (found, most) = (latency.human(), MAX_LATENCY.human());
        return Err(bad(&format!("found a latency of {found}, expected at most {most}")));
    }
    Ok(Link { rate, latency, points: Vec::new() })
}

/// Left to the system: so much of what is there, and at least so much. What SGLang leaves (`HostPinBudget`).
const LEFT_SHARE: u64 = 20;
const LEFT_LEAST: u64 = 2 << 30;

/// What this machine has left for weights, and how that was found.
fn available() -> Result<(Bytes, String)> {
    let read = |path: &Path| fs::read_to_string(path).ok();
    let unknown = || Error::Usage {
        message: "--host auto: /proc/meminfo does not say what is available".into(),
        hint: Some("give a size, such as --host 32GiB".into()),
    };
    let meminfo = read(Path::new("/proc/meminfo")).ok_or_else(unknown)?;
    let free = field(&meminfo, "MemAvailable:").ok_or_else(unknown)?;
    let mut found = (free, format!("MemAvailable of /proc/meminfo, {}", Bytes::new(free).human()));
    if let Some(limit) = cgroup(&read) {
        let left = limit.bytes.saturating_sub(limit.used);
        if left < found.0 {
            let (most, used) = (Bytes::new(limit.bytes).human(), Bytes::new(limit.used).human());
            found = (left, format!("{} is {most}, {used} of it in use", limit.file.display()));
        }
    }
    let (bytes, origin) = found;
    let left = (bytes / LEFT_SHARE).max(LEFT_LEAST);
    let origin = format!("{origin}; {} are left to the system", Bytes::new(left).human());
    Ok((Bytes::new(bytes.saturating_sub(left)), origin))
}

/// A field of `/proc/meminfo`, which counts in KiB.
fn field(meminfo: &str, name: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// The limit of a cgroup.
#[derive(Debug, PartialEq, Eq)]
pub struct Limit {
    /// Bytes.
    pub bytes: u64,
    /// Of them in use, without file pages that can be dropped.
    used: u64,
    /// The file that says so.
    pub file: PathBuf,
}

/// The tightest memory limit of the cgroups that this process is in; none without a limit.
pub fn cgroup_limit() -> Option<Limit> {
    cgroup(&|path| fs::read_to_string(path).ok())
}

/// The same, where a file's text is what `read` gives: version 2 (`memory.max`) and version 1
/// (`memory.limit_in_bytes`), in the group itself and in every one above it.
fn cgroup(read: &dyn Fn(&Path) -> Option<String>) -> Option<Limit> {
    let groups = read(Path::new("/proc/self/cgroup"))?;
    let mut limits: Vec<Limit> = Vec::new();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next())
        else {
            continue;
        };
        let (root, limit, usage, dropped) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max", "memory.current", "inactive_file "),
            list if list.split(',').any(|name| name == "memory") => (
                "/sys/fs/cgroup/memory",
                "memory.limit_in_bytes",
                "memory.usage_in_bytes",
                "total_inactive_file ",
            ),
            _ => continue,
        };
        // Inside a container the path is often the host's; the limit is then at the root of what is mounted.
        let root = Path::new(root);
        let own = root.join(path.trim_start_matches('/'));
        for group in own.ancestors().take_while(|group| group.starts_with(root)) {
            let number = |name: &str| read(&group.join(name))?.trim().parse::<u64>().ok();
            let Some(bytes) = number(limit).filter(|&bytes| bytes < UNLIMITED) else { continue };
            let stat = read(&group.join("memory.stat")).unwrap_or_default();
            let file = stat.lines().find_map(|line| line.strip_prefix(dropped)?.parse().ok());
            let used = number(usage).unwrap_or(0).saturating_sub(file.unwrap_or(0));
            limits.push(Limit { bytes, used, file: group.join(limit) });
        }
    }
    limits.into_iter().min_by_key(|limit| limit.bytes.saturating_sub(limit.used))
}

/// What version 1 states for no limit is about 2^63, in pages.
const UNLIMITED: u64 = 1 << 62;

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn limit(files: &[(&str, &str)]) -> Option<(u64, u64, String)> {
        let files: BTreeMap<PathBuf, String> =
            files.iter().map(|(path, text)| (path.into(), (*text).to_owned())).collect();
        let found = cgroup(&|path| files.get(path).cloned())?;
        Some((found.bytes, found.used, found.file.display().to_string()))
    }

    #[test]
    fn the_tightest_group_above_counts() {
        let files = [
            ("/proc/self/cgroup", "0::/a/b\n"),
            ("/sys/fs/cgroup/a/b/memory.max", "max\n"),
            ("/sys/fs/cgroup/a/memory.max", "1000\n"),
            ("/sys/fs/cgroup/a/memory.current", "700\n"),
            ("/sys/fs/cgroup/a/memory.stat", "anon 500\ninactive_file 150\n"),
        ];
        assert_eq!(limit(&files), Some((1000, 550, "/sys/fs/cgroup/a/memory.max".into())));
    }

    #[test]
    fn version_one_is_read_and_its_largest_number_is_no_limit() {
        let cgroup = ("/proc/self/cgroup", "5:cpu:/\n4:memory:/x\n0::/\n");
        let at = "/sys/fs/cgroup/memory/x/memory.limit_in_bytes";
        assert_eq!(limit(&[cgroup, (at, "9223372036854771712\n")]), None);
        assert_eq!(limit(&[cgroup, (at, "4096\n")]), Some((4096, 0, at.into())));
    }

    #[test]
    fn a_container_sees_its_limit_at_the_root_of_what_is_mounted() {
        let files =
            [("/proc/self/cgroup", "0::/kubepods/pod1\n"), ("/sys/fs/cgroup/memory.max", "2048\n")];
        assert_eq!(limit(&files), Some((2048, 0, "/sys/fs/cgroup/memory.max".into())));
        assert_eq!(limit(&[]), None);
    }

    #[test]
    fn a_disk_has_a_rate_and_maybe_a_latency() {
        let known = Link { rate: Rate::new(1), latency: Nanos::new(7), points: Vec::new() };
        let read =
            |text| disk(text, Some(&known)).map(|link| (link.rate.get(), link.latency.get()));
        assert_eq!(read("3GB/s").expect("a rate"), (3_000_000_000, 7));
        assert_eq!(read("3GB/s, 80us").expect("both"), (3_000_000_000, 80_000));
        for text in ["fast", "0GB/s", "3", "3GB/s,11s", "3GB/s,soon", ""] {
            assert_eq!(read(text).expect_err("refused").exit_code(), 2, "{text}");
        }
    }
}
