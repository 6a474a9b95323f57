//! Turns a trace and its figures into one screen of text per device, at most 80 columns.

use super::{Foreign, verdict};
use crate::figures::Origin;
use crate::profile::trace::{CopyGroup, Figures, Hidden, Kind};
use crate::report::rates::gigabytes;
use crate::report::text::{shortened, wrap};
use crate::report::view::ms;
use crate::units::{Fraction, Nanos, Rate};

/// All devices, then what was left out.
pub(super) fn screen(foreign: &Foreign<'_>) -> String {
    let trace = foreign.trace;
    let rows = trace.rows().len();
    let head = format!(
        "{}: {}, {rows} GPU rows, times {}",
        foreign.file,
        trace.format.name(),
        match trace.origin {
            Origin::Measured => "measured by the profiler".to_owned(),
            other => other.to_string(),
        }
    );
    let mut out = wrap(&head, "");
    for (id, figures) in &foreign.devices {
        out.push('\n');
        out.push_str(&device(*id, figures));
    }
    out.push('\n');
    out.push_str(&left_out(foreign));
    out
}

fn device(id: i64, figures: &Figures) -> String {
    let name = figures.name.as_ref().map_or(String::new(), |name| format!(": {name}"));
    let mut out = wrap(&format!("GPU {id}{name}"), "");
    for line in verdict::verdict(figures) {
        out.push_str(&wrap(&line, "  "));
    }
    out.push_str(&format!(
        "\n  {:<30}{:>14} {:>12}{:>12}\n",
        "where the window went", "ms", "% of window", "rows"
    ));
    let count = |name: &str| figures.counts.get(name).copied();
    let nccl = (!figures.nccl_busy.is_zero()).then_some(("  of it NCCL", figures.nccl_busy, None));
    let busy = [
        ("kernels busy", figures.kernel_busy, count("kernel")),
        ("HtoD copies busy", figures.htod_busy, count("htod")),
        ("DtoH copies busy", figures.dtoh_busy, count("dtoh")),
        ("DtoD copies busy", figures.dtod_busy, count("dtod")),
        ("memsets busy", figures.memset_busy, count("memset")),
    ];
    let present = busy.into_iter().filter(|(_, time, count)| count.is_some() || !time.is_zero());
    for (index, (name, time, count)) in present.enumerate() {
        out.push_str(&line(figures, name, time, count));
        if let (0, Some((name, time, count))) = (index, nccl) {
            out.push_str(&line(figures, name, time, count));
        }
    }
    out.push_str(&line(figures, "anything busy", figures.busy, None));
    out.push_str(&line(figures, "idle", figures.idle, None));
    out.push_str(&line(figures, "window (busy + idle)", figures.window, None));
    if !figures.htod_busy.is_zero() {
        out.push_str(&hidden(figures));
    }
    if !figures.copies.is_empty() {
        out.push_str(&copies(figures));
    }
    if figures.same_stream_overlapping_neighbours > 0 {
        out.push_str(&wrap(
            &format!(
                "Rows that start before the row before them on their stream ends: {} (programmatic dependent launch, \
                 or noise of the profiler's clock).",
                figures.same_stream_overlapping_neighbours
            ),
            "  ",
        ));
    }
    out
}

fn line(figures: &Figures, name: &str, time: Nanos, rows: Option<u64>) -> String {
    let share = Fraction::of(time.get(), figures.window.get()).percent();
    let rows = rows.map(|rows| rows.to_string()).unwrap_or_default();
    let text = format!("  {name:<30}{:>14} {share:>12}{rows:>12}", ms(time));
    format!("{}\n", text.trim_end())
}

fn hidden(figures: &Figures) -> String {
    let mut out = format!("\n  {:<30}{:>14} {:>12}\n", "HtoD copy time", "ms", "% of HtoD");
    let parts = [
        ("hidden behind any kernel", figures.kernel_and_htod),
        ("  behind compute, not NCCL", figures.compute_and_htod),
        ("exposed", figures.htod_exposed),
    ];
    for (name, time) in parts {
        let share = Fraction::of(time.get(), figures.htod_busy.get()).percent();
        out.push_str(&format!("  {name:<30}{:>14} {share:>12}\n", ms(time)));
    }
    let of = |hidden: Hidden| figures.htod_copies.get(&hidden).copied().unwrap_or(0);
    let zero = match of(Hidden::ZeroDuration) {
        0 => String::new(),
        count => format!(", {count} of no length"),
    };
    out.push_str(&format!(
        "  copies: {} fully hidden, {} partly, {} not at all{zero}\n",
        of(Hidden::FullyHidden),
        of(Hidden::PartlyHidden),
        of(Hidden::Exposed)
    ));
    out
}

fn copies(figures: &Figures) -> String {
    let mut out = format!(
        "\n  {:<5}{:<9}{:<13}{:>7}{:>8}{:>11}{:>7}{:>8}{:>10}\n",
        "copy", "memory", "size", "count", "GB", "ms", "hidden", "GB/s", "from-to"
    );
    for group in &figures.copies {
        out.push_str(&copy(group));
    }
    out.push_str(
        "  GB/s: bytes over time of the copies; from-to: the slowest and the fastest one\n",
    );
    out
}

fn copy(group: &CopyGroup) -> String {
    let memory = match group.direction {
        Kind::Htod | Kind::Dtoh => group.memory.name(),
        _ => "",
    };
    let name = match group.direction {
        Kind::Htod => "HtoD",
        Kind::Dtoh => "DtoH",
        Kind::Dtod => "DtoD",
        Kind::Ptop => "PtoP",
        _ => "other",
    };
    let hidden = Fraction::of(group.hidden.get(), group.time.get());
    let hidden = format!("{} %", (hidden.ppm() + 5_000) / 10_000);
    let (rate, range) = match (group.rate.is_zero(), group.count) {
        (true, _) => ("n/a".to_owned(), String::new()),
        (_, 1) => (short(group.rate), String::new()),
        _ => (short(group.rate), format!("{}-{}", short(group.slowest), short(group.fastest))),
    };
    let line = format!(
        "  {name:<5}{memory:<9}{:<13}{:>7}{:>8}{:>11}{hidden:>7}{rate:>8}{range:>10}",
        group.size.name(),
        group.count,
        thousandths(group.bytes.get(), 1_000_000),
        ms(group.time),
    );
    format!("{}\n", line.trim_end())
}

/// Decimal gigabytes per second in at most four characters up to 9999, for narrow columns.
fn short(rate: Rate) -> String {
    match rate.get() {
        0..9_950_000_000 => gigabytes(rate),
        below @ ..99_950_000_000 => {
            let tenths = (below + 50_000_000) / 100_000_000;
            format!("{}.{}", tenths / 10, tenths % 10)
        }
        large => format!("{}", (large + 500_000_000) / 1_000_000_000),
    }
}

/// A value in units of a thousand times `unit`, with three decimals.
pub(super) fn thousandths(value: u64, unit: u64) -> String {
    let rounded = (value + unit / 2) / unit;
    format!("{}.{:03}", rounded / 1_000, rounded % 1_000)
}

fn left_out(foreign: &Foreign<'_>) -> String {
    let left_out = &foreign.trace.left_out;
    let others: u64 = left_out.other_events.values().sum();
    let mut out = String::new();
    let mut kinds: Vec<_> = left_out.other_events.iter().collect();
    kinds.sort_by_key(|(name, count)| (std::cmp::Reverse(**count), (*name).clone()));
    let most: Vec<String> = kinds
        .iter()
        .take(3)
        .map(|(name, count)| format!("{} {count}", shortened(name, 30)))
        .collect();
    if others > 0 {
        let text = format!("not counted, being no GPU work: {others} events ({})", most.join(", "));
        out.push_str(&wrap(&text, ""));
    }
    for warning in foreign.warnings() {
        out.push_str(&wrap(&format!("note: {warning}"), ""));
    }
    if out.is_empty() {
        out.push_str("nothing was left out\n");
    }
    out
}
