//! Turns a plan into one screen for people: what fits, what to set, what it costs, the bound, the gap.

use std::fmt::Write as _;

use crate::error::Result;
use crate::plan::{BlockPlan, ComponentPlan, Plan, ROOT, Request};
use crate::units::{Bytes, Fraction, Nanos};

/// Columns that a line of an answer may take.
const WIDTH: usize = 78;

/// The verdict on a plan.
pub fn plan(plan: &Plan, request: &Request) -> Result<String> {
    let mut text = String::new();
    let given = plan.budget.vram.human();
    let _ = writeln!(text, "{} on {} with {given} of VRAM", plan.model, plan.device.name);
    let origin = plan.device.origin;
    let _ = writeln!(text, "times are estimated, from {origin} figures of the device\n");
    for (component, prepared) in plan.components.iter().zip(request.prepare()?) {
        let total = prepared.total;
        for (label, line) in
            lines(plan, component, total, &prepared.input.instance.device.h2d.rate.human())
        {
            for (n, part) in wrapped(&line).into_iter().enumerate() {
                let label = if n == 0 { label } else { "" };
                let _ = writeln!(text, "  {label:<9}{part}");
            }
        }
    }
    Ok(text)
}

fn lines(
    plan: &Plan,
    component: &ComponentPlan,
    total: Bytes,
    link: &str,
) -> Vec<(&'static str, String)> {
    let blocks: Vec<&BlockPlan> = component.blocks.iter().filter(|b| b.block != ROOT).collect();
    let streamed = blocks.iter().filter(|block| !block.is_resident()).count();
    let weights = plan.budget.weights.human();
    let name = &component.name;
    let p = &component.prediction;
    let peak = format!(
        "slab {} + reserve {} = peak {}; headroom {}",
        component.slab.bytes.human(),
        plan.budget.reserve.human(),
        p.peak.human(),
        plan.budget.vram.saturating_sub(p.peak).human(),
    );
    if streamed == 0 {
        let fits =
            format!("{name}: {} of weights fit in {weights}; nothing streams", total.human());
        let cost = format!(
            "{} per pass; {} for {} passes, {} of it loading before the first",
            p.pass.human(),
            p.makespan.human(),
            component.passes,
            p.first_pass.saturating_sub(p.pass).human(),
        );
        let set = "keep everything on the device; do not offload".to_owned();
        return vec![("fits", fits), ("set", set), ("cost", cost), ("memory", peak)];
    }
    let fits = format!("{name}: {} of weights, {weights} for them", total.human());
    let slot = component.window.bytes.get() / u64::from(component.window.slots.max(1));
    let set = format!(
        "{} of {} blocks resident, {}; window of {} slots of {}, prefetch {}",
        blocks.len() - streamed,
        blocks.len(),
        where_streamed(&blocks),
        component.window.slots,
        Bytes::new(slot).human(),
        component.prefetch,
    );
    let compute = component.bound.compute;
    let cost = format!(
        "{} per pass, {} all resident ({}); first pass {}, {} for {} passes",
        p.pass.human(),
        compute.human(),
        slower(p.pass, compute),
        p.first_pass.human(),
        p.makespan.human(),
        component.passes,
    );
    let copies = format!(
        "{} per pass at {link}; {} of all H2D copy time hidden under compute; compute stalls {} of {}",
        p.bytes_per_pass.human(),
        p.overlap.percent(),
        p.stall.human(),
        p.makespan.human(),
    );
    let bound = format!(
        "no schedule takes less than {} per pass, no whole-block plan less than {}; gap {} to any \
         schedule, {}-bound",
        component.bound.any_schedule.human(),
        component.bound.granularity.human(),
        component.bound.gap.percent(),
        component.bound.binding,
    );
    vec![
        ("fits", fits),
        ("set", set),
        ("cost", cost),
        ("copies", copies),
        ("bound", bound),
        ("memory", peak),
    ]
}

/// `+12.3 %` of a time over another.
pub fn slower(time: Nanos, than: Nanos) -> String {
    let above = time.saturating_sub(than);
    format!("+{}", Fraction::of(above.get(), than.get()).percent())
}

/// How many blocks of each list stream, in order of execution.
fn where_streamed(blocks: &[&BlockPlan]) -> String {
    let mut lists: Vec<(&str, usize, usize)> = Vec::new();
    for block in blocks {
        let list = block.block.rsplit_once('.').map_or(block.block.as_str(), |(list, _)| list);
        let streams = usize::from(!block.is_resident());
        match lists.iter_mut().find(|(known, ..)| *known == list) {
            Some((_, streamed, all)) => (*streamed, *all) = (*streamed + streams, *all + 1),
            None => lists.push((list, streams, 1)),
        }
    }
    let parts = lists.into_iter().filter(|(_, streamed, _)| *streamed > 0);
    let parts: Vec<String> =
        parts.map(|(list, streamed, all)| format!("{streamed} of {all} {list}")).collect();
    format!("stream {} evenly spaced", parts.join(" and "))
}

/// Breaks a line at blanks so that it fits beside its label.
pub fn wrapped(line: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    for word in line.split(' ') {
        let last = parts.len() - 1;
        if !parts[last].is_empty()
            && parts[last].chars().count() + 1 + word.chars().count() > WIDTH - 11
        {
            parts.push(word.to_owned());
        } else {
            if !parts[last].is_empty() {
                parts[last].push(' ');
            }
            parts[last].push_str(word);
        }
    }
    parts
}
