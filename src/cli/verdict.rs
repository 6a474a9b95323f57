//! Turns a plan into one screen for people: what fits, what to set, what it costs, the bound, the gap.

use std::fmt::Write as _;

use crate::error::Result;
use crate::figures::Origin;
use crate::plan::{
    Binding, BlockPlan, ComponentPlan, HostUse, Margins, Plan, Prepared, ROOT, Request, Residency,
    Unit,
};
use crate::units::{Bytes, Fraction, Nanos};

/// Columns that a line of an answer may take.
const WIDTH: usize = 79;

/// Columns of the label and its indent.
const LABEL: usize = 11;

/// A labelled line of the verdict.
type Line = (&'static str, String);

/// The verdict on a plan.
pub fn plan(plan: &Plan, request: &Request) -> Result<String> {
    let mut text = String::new();
    let given = plan.budget.vram.human();
    let prepared = request.prepare()?;
    let _ = writeln!(text, "{} on {} with {given} of VRAM", plan.model, plan.device.name);
    let _ = writeln!(text, "{}", origin(plan, &prepared));
    for part in wrapped(&super::assumed::line(request)) {
        let _ = writeln!(text, "{part}");
    }
    text.push('\n');
    if let Some(rank) = &plan.rank {
        write_line(&mut text, &("rank", super::ranks::line(rank)));
    }
    if let Some(together) = &plan.pipeline {
        text.push_str(&super::pipeline::table(plan, together));
        for component in plan.components.iter().filter(|one| !one.window.bytes.is_zero()) {
            let name = &component.name;
            write_line(&mut text, &("set", format!("{name}, of which some streams:")));
            for (_, line) in settings(component) {
                write_line(&mut text, &("", line));
            }
            if let Some(margins) = &component.margins {
                write_line(&mut text, &("", limit(margins)));
            }
        }
        for component in &plan.components {
            if let Some((label, line)) = super::skips::line(component) {
                let line = format!("{} by itself: {line}", component.name);
                write_line(&mut text, &(label, line));
            }
        }
        let total: Bytes = prepared.iter().map(|prepared| prepared.total).sum();
        for line in hosts(plan, total) {
            write_line(&mut text, &line);
        }
        write_line(&mut text, &("reserve", reserves(plan)));
        if let Some(line) = left_out(plan, request) {
            write_line(&mut text, &line);
        }
        return Ok(text);
    }
    for (component, prepared) in plan.components.iter().zip(&prepared) {
        for line in component_lines(plan, component, prepared) {
            write_line(&mut text, &line);
        }
    }
    let reserve = request.workload.reserve;
    let parts = [
        ("context", reserve.context),
        ("activations", reserve.activations),
        ("workspace", reserve.workspace),
        ("a block gathered from all ranks", reserve.gathered),
    ];
    let parts = parts.iter().filter(|(_, size)| !size.is_zero());
    let parts: Vec<String> = parts.map(|(name, size)| format!("{name} {}", size.human())).collect();
    let parts = if parts.is_empty() { "nothing".to_owned() } else { parts.join(", ") };
    write_line(
        &mut text,
        &("reserve", format!("{parts}; an estimate unless given with --reserve")),
    );
    if let Some(line) = left_out(plan, request) {
        write_line(&mut text, &line);
    }
    Ok(text)
}

/// What the host holds of several components.
fn hosts(plan: &Plan, total: Bytes) -> Vec<Line> {
    let uses = || plan.components.iter().filter_map(|component| component.host.as_ref());
    let all: Bytes = uses().map(HostUse::bytes).sum();
    let Some(budget) = plan.budget.host.filter(|_| uses().count() > 0) else {
        return vec![("host", host(plan, total))];
    };
    let mut lines = vec![("host", format!("{} of {}, of which", all.human(), budget.human()))];
    lines.extend(plan.components.iter().filter_map(|component| {
        let used = component.host.as_ref()?;
        let (all, homes) = (used.bytes().human(), homes(plan, used));
        Some(("", format!("{}: {all}: {homes}", component.name)))
    }));
    lines
}

/// VRAM that is not for weights, by component.
fn reserves(plan: &Plan) -> String {
    let each = plan.components.iter().map(|component| {
        format!("{} {}", component.name, component.reserve_of(&plan.budget).human())
    });
    let each: Vec<String> = each.collect();
    format!("{}; estimates unless given", each.join(", "))
}

/// Where the times come from.
fn origin(plan: &Plan, prepared: &[Prepared]) -> String {
    let uses = || prepared.iter().flat_map(|prepared| &prepared.costs.blocks);
    let given = uses().filter(|cost| cost.origin == Origin::Given).count();
    let compute = match (given, uses().count()) {
        (0, _) => "compute times are estimated".to_owned(),
        (given, all) if given == all => "compute times are given by the workload".to_owned(),
        (given, all) => {
            format!("compute times of {given} of {all} blocks are given, others estimated")
        }
    };
    format!("{compute}; device figures: {}", plan.device.origin)
}

/// Components that the plan says nothing about.
fn left_out(plan: &Plan, request: &Request) -> Option<Line> {
    let planned = |name: &String| plan.components.iter().any(|component| component.name == *name);
    let others = request.manifest.components.iter().map(|component| &component.name);
    let others: Vec<&str> = others.filter(|name| !planned(name)).map(String::as_str).collect();
    let text = format!(
        "{}: run before or after, and are not in these times; --components all plans them together",
        others.join(", ")
    );
    Some(("not in", text)).filter(|_| !others.is_empty())
}

fn component_lines(plan: &Plan, component: &ComponentPlan, prepared: &Prepared) -> Vec<Line> {
    let weights = plan.budget.weights.human();
    let total = prepared.total.human();
    let name = &component.name;
    let mut lines =
        vec![("fits", format!("{name}: {total} of weights, {weights} of VRAM for them"))];
    if component.window.bytes.is_zero() {
        lines.push(("set", "keep everything on the device; do not offload".to_owned()));
    } else {
        lines.extend(settings(component));
    }
    lines.extend(costs(plan, component));
    lines.extend(super::skips::line(component));
    let p = &component.prediction;
    let memory = format!(
        "slab {} (root and residents {}, window {}) + reserve {} = peak {}; headroom {}",
        component.slab.bytes.human(),
        component.slab.resident.human(),
        component.slab.window.human(),
        plan.budget.reserve.human(),
        p.peak.human(),
        plan.budget.vram.saturating_sub(p.peak).human(),
    );
    lines.push(("memory", memory));
    lines.push((
        "host",
        match &component.host {
            Some(used) => host_use(plan, used),
            None => host(plan, prepared.total),
        },
    ));
    lines
}

/// What to set: which blocks stay, how large the window is.
fn settings(component: &ComponentPlan) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut blocks: Vec<&BlockPlan> = component.blocks.iter().filter(|b| b.block != ROOT).collect();
    if component.unit != Unit::Block {
        // Thousands, under names of their own: the plan lists them.
        lines.push(("set", unit_settings(component.unit, &blocks)));
        blocks.clear();
    }
    let mut lists: Vec<(&str, Vec<&BlockPlan>)> = Vec::new();
    for block in blocks {
        let list = block.block.rsplit_once('.').map_or(block.block.as_str(), |(list, _)| list);
        match lists.iter_mut().find(|(known, _)| *known == list) {
            Some((_, members)) => members.push(block),
            None => lists.push((list, vec![block])),
        }
    }
    for (list, members) in lists {
        let label = if lines.is_empty() { "set" } else { "" };
        lines.push((label, list_settings(list, &members)));
    }
    let slots = match component.window.slots {
        0 => String::new(),
        slots => format!(" as {}", counted(u64::from(slots), "equal slot")),
    };
    let ahead = counted(u64::from(component.prefetch), "use");
    let window = component.window.bytes.human();
    lines.push(("", format!("window {window}{slots}; a copy may start up to {ahead} ahead")));
    lines.extend(turns(component));
    lines
}

/// How long blocks stay that take turns.
fn turns(component: &ComponentPlan) -> Option<Line> {
    let turns = u64::from(component.turns);
    let pieces = component.blocks.iter().flat_map(|block| &block.pieces);
    let loads = pieces.filter_map(|piece| match &piece.residency {
        Residency::Streamed(stream) if !stream.loads.is_empty() => Some(stream.loads.len() as u64),
        Residency::Streamed(_) | Residency::Resident => None,
    });
    let loads: Vec<u64> = loads.collect();
    let all: u64 = loads.iter().sum();
    let uses = turns * loads.len() as u64;
    let text = format!(
        "rotating: a block that takes turns stays for {} passes per copy on average; the plan repeats after {turns}. \
         Only an executor of plans can run it; a fixed set of residents is --granularity block",
        tenths(uses, all),
    );
    (!loads.is_empty()).then_some(("", text))
}

/// A quotient with one decimal.
fn tenths(a: u64, b: u64) -> String {
    let tenths = (10 * a + b / 2) / b.max(1);
    format!("{}.{}", tenths / 10, tenths % 10)
}

/// How many units stay and stream.
fn unit_settings(unit: Unit, units: &[&BlockPlan]) -> String {
    let count = |wanted: fn(&BlockPlan) -> bool| units.iter().filter(|unit| wanted(unit)).count();
    let stay = count(|unit| unit.is_resident());
    let part = count(|unit| !unit.is_resident() && unit.streamed_bytes() < unit.bytes);
    let whole = units.len() - stay - part;
    let nouns = match unit {
        Unit::Block => "blocks",
        Unit::Phase => "phases of blocks",
        Unit::Leaf => "leaf modules",
    };
    format!("of {} {nouns} {stay} stay, {part} stream in part, {whole} whole", units.len())
}

/// What stays and what streams of one block list.
fn list_settings(list: &str, members: &[&BlockPlan]) -> String {
    let index = |block: &BlockPlan| -> Option<u64> { block.block.rsplit_once('.')?.1.parse().ok() };
    let (mut stay, mut whole, mut part) = (Vec::new(), Vec::new(), Vec::new());
    let mut turning = Vec::new();
    for block in members {
        match block.streamed_bytes() {
            Bytes::ZERO => stay.push(block),
            _ if block.takes_turns() => turning.push(block),
            bytes if bytes == block.bytes => whole.push(block),
            _ => part.push(block),
        }
    }
    let indices = |blocks: &[&&BlockPlan]| {
        ranges(&blocks.iter().filter_map(|b| index(b)).collect::<Vec<_>>())
    };
    let mut parts = Vec::new();
    if !stay.is_empty() {
        parts.push(format!("{} stay ({})", stay.len(), indices(&stay)));
    }
    if !whole.is_empty() {
        parts.push(format!("{} stream whole ({})", whole.len(), indices(&whole)));
    }
    if !turning.is_empty() {
        parts.push(format!("{} take turns staying ({})", turning.len(), indices(&turning)));
    }
    if !part.is_empty() {
        let sizes = || part.iter().map(|block| block.streamed_bytes());
        let (low, high) = (sizes().min().unwrap_or_default(), sizes().max().unwrap_or_default());
        let range =
            if low == high { low.human() } else { format!("{} to {}", low.human(), high.human()) };
        let size = part.iter().map(|block| block.bytes).max().unwrap_or_default().human();
        parts.push(format!("{} stream in part ({range} of {size} each)", part.len()));
    }
    match parts.as_slice() {
        [only] => format!("{list}: all {only}"),
        _ => format!("{list}: {} of {}", parts.join(", "), members.len()),
    }
}

/// `0, 2-5, 9`, cut where it gets long.
fn ranges(indices: &[u64]) -> String {
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for &index in indices {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == index => *last = index,
            _ => runs.push((index, index)),
        }
    }
    const SHOWN: usize = 8;
    let run = |&(first, last): &(u64, u64)| {
        if first == last { first.to_string() } else { format!("{first}-{last}") }
    };
    let mut shown: Vec<String> = runs.iter().take(SHOWN).map(run).collect();
    if runs.len() > SHOWN {
        shown.push("…".to_owned());
    }
    shown.join(",")
}

fn costs(plan: &Plan, component: &ComponentPlan) -> Vec<Line> {
    let p = &component.prediction;
    let compute = component.bound.compute;
    let passes = counted(u64::from(component.passes), "pass");
    if component.window.bytes.is_zero() {
        let cold = p.first_pass.saturating_sub(p.pass).human();
        let cost = format!(
            "{} per pass; {} for {passes}, the cold start adds {cold} to the first",
            p.pass.human(),
            p.makespan.human()
        );
        return vec![("cost", cost)];
    }
    let cost = format!(
        "{} per pass, {} were everything resident ({}); first pass {}, {} for {passes}",
        p.pass.human(),
        compute.human(),
        slower(p.pass, compute),
        p.first_pass.human(),
        p.makespan.human(),
    );
    let copies = format!(
        "{} per pass at {}; over the run {} of H2D copy time is hidden under compute and compute \
         stalls {}",
        p.bytes_per_pass.human(),
        plan.device.h2d.rate.human(),
        p.overlap.percent(),
        p.stall.human(),
    );
    let bound = format!(
        "no schedule that holds {} while it computes takes less than {} per pass ({}-bound); \
         gap {}",
        component.unit.noun(),
        component.bound.any_schedule.human(),
        component.bound.binding,
        component.bound.gap.percent(),
    );
    let mut lines = vec![("cost", cost), ("copies", copies), ("bound", bound)];
    lines.extend(component.margins.as_ref().map(|margins| ("limit", limit(margins))));
    lines
}

/// What sets the pass time, and what would change it.
fn limit(margins: &Margins) -> String {
    let mut text = match margins.binding {
        Binding::Compute => "compute sets the pass".to_owned(),
        Binding::Copy => "the link's rate sets the pass".to_owned(),
        Binding::Latency => "the latency of copies sets the pass".to_owned(),
        Binding::Disk => "the disk sets the pass".to_owned(),
        Binding::Memory => "room in the window sets the pass: copies wait for it".to_owned(),
        Binding::Host => "the host's synchronisations set the pass".to_owned(),
    };
    if let Some(slack) = margins.slack {
        let _ = match slack.is_zero() {
            true => write!(text, "; some copies arrive when their use already waits"),
            false => write!(text, "; every copy arrives at least {} early", slack.human()),
        };
    }
    if let Some(free) = margins.zero_slowdown {
        let _ = write!(text, "; no slowdown from {} on", free.human());
    }
    if let Some(next) = margins.next_gib.filter(|next| !next.is_zero()) {
        let _ = write!(text, "; the next GiB takes {} off", next.human());
    }
    text
}

/// How the host's budget is used.
fn host_use(plan: &Plan, used: &HostUse) -> String {
    format!("{} of {}: {}", used.bytes().human(), used.budget.human(), homes(plan, used))
}

/// In which memory it is.
fn homes(plan: &Plan, used: &HostUse) -> String {
    let mut text = format!("{} pinned in {}", used.pinned.human(), used.allocator.noun());
    if !used.pageable.is_zero() {
        let _ = write!(text, ", {} pageable", used.pageable.human());
    }
    if !used.ring.is_zero() {
        let _ = write!(text, ", ring {}", used.ring.human());
    }
    if let Some(disk) = plan.device.disk.as_ref().filter(|_| !used.ring.is_zero()) {
        let _ = match used.disk.is_zero() {
            true => write!(text, "; the first pass is read from disk"),
            false => write!(text, "; {} per pass from disk", used.disk.human()),
        };
        let _ = write!(text, " at {}", disk.rate.human());
    }
    text
}

/// What the copies need of the host.
fn host(plan: &Plan, total: Bytes) -> String {
    let host = &plan.device.host;
    let limit = Bytes::new(host.pinned_limit.share_of(host.memory.get()));
    let fits = if total <= limit { "" } else { " - MORE than that: copies will be slower" };
    let (need, limit, memory) = (total.human(), limit.human(), host.memory.human());
    format!("{need} of weights in pinned memory; {limit} of {memory} may be pinned{fits}")
}

/// `1 slot`, `2 slots`, `3 passes`.
pub fn counted(count: u64, noun: &str) -> String {
    let plural = match noun {
        _ if count == 1 => "",
        noun if noun.ends_with('s') => "es",
        _ => "s",
    };
    format!("{count} {noun}{plural}")
}

/// How much longer one time is than another: `+12.3 %`, or `4.2 times` from three times on.
pub fn slower(time: Nanos, than: Nanos) -> String {
    let above = Fraction::of(time.saturating_sub(than).get(), than.get());
    if above >= Fraction::from_ppm(2_000_000) {
        let than = u128::from(than.get().max(1));
        let tenths = (u128::from(time.get()) * 10 + than / 2) / than;
        return format!("{}.{} times", tenths / 10, tenths % 10);
    }
    format!("+{}", above.percent())
}

/// Writes a labelled line, broken at blanks.
pub fn write_line(text: &mut String, (label, line): &Line) {
    for (n, part) in wrapped(line).into_iter().enumerate() {
        let label = if n == 0 { label } else { "" };
        let _ = writeln!(text, "  {label:<9}{part}");
    }
}

/// Units stay on the line of their number.
const UNITS: [&str; 9] = ["ns", "us", "ms", "s", "B", "KiB", "MiB", "GiB", "%"];

/// Breaks a line at blanks so that it fits beside its label.
pub fn wrapped(line: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    for word in line.split(' ') {
        let bare = word.trim_matches(|c: char| !c.is_alphanumeric() && c != '%');
        match words.last_mut() {
            Some(last) if UNITS.contains(&bare) || bare.ends_with("B/s") => {
                last.push(' ');
                last.push_str(word);
            }
            _ => words.push(word.to_owned()),
        }
    }
    let mut parts: Vec<String> = Vec::new();
    for word in words {
        match parts.last_mut() {
            Some(last) if last.chars().count() + 1 + word.chars().count() <= WIDTH - LABEL => {
                last.push(' ');
                last.push_str(&word);
            }
            _ => parts.push(word),
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_their_units() {
        let line = "a".repeat(60) + " first pass 1.036 s, 3 passes";
        assert!(
            wrapped(&line).iter().any(|part| part.contains("1.036 s,")),
            "{:?}",
            wrapped(&line)
        );
        assert!(wrapped(&line).iter().all(|part| part.chars().count() <= WIDTH - LABEL));
    }

    #[test]
    fn indices_read_as_ranges() {
        assert_eq!(ranges(&[0, 2, 3, 4, 7]), "0,2-4,7");
        let odd: Vec<u64> = (0..20).map(|n| 2 * n).collect();
        assert_eq!(ranges(&odd), "0,2,4,6,8,10,12,14,…");
    }

    #[test]
    fn counts_agree_with_their_nouns() {
        let all = [counted(1, "slot"), counted(2, "slot"), counted(1, "pass"), counted(3, "pass")];
        assert_eq!(all, ["1 slot", "2 slots", "1 pass", "3 passes"]);
    }
}
