//! Turns a profile into the JSON that the page's script draws from. Every number the script shows is in it.
//!
//! ```text
//! {"lanes": ["compute", …], "components": [{"name", "blocks", "labels": [[label, index, shade], …]}],
//!  "spans": [[lane, start, duration, count, busy, component, block, pass, bytes, wait lane or -1, needed at or -1], …],
//!  "planned": [[lane, start, duration], …], "held": [[lane, start, duration], …],
//!  "stalls": [[number of lanes, start, duration, count, busy, component, block, pass, cause], …], "causes": [name, …],
//!  "vram": [[start, bytes in use], …], "passes": [[name, start, end], …],
//!  "boundaries": [[name, at, start, end], …],
//!  "start", "end", "shown": [start, end], "budget", "reserve", "slab", "merged", "origin"}
//! ```
//!
//! Times in ns, sizes in bytes. A compute is needed when compute was free for it: what its copies' slack is held against.
//! The planned passes lie where the run's own do. A run with more than [`MOST`] spans comes in wider columns; `merged` says how many
//! spans have no mark of their own.

use std::collections::BTreeMap;

use serde_json::json;

use crate::lane::Lane;
use crate::profile::{Cause, ComponentHeader, Span, arrivals};
use crate::report::held;
use crate::report::lists::Lists;
use crate::report::predicted::ghosts;
use crate::report::slices::{Slice, Window, envelope, merged_away, slices, stall_slices};
use crate::report::view::View;
use crate::units::Nanos;

/// Spans, and as many samples, that the page holds at most.
const MOST: usize = 16_000;

/// Passes that can be chosen by name.
const MOST_PASSES: usize = 2_000;

/// The data as one line of JSON.
pub(super) fn data(view: &View<'_>, planned: Option<&View<'_>>) -> String {
    let header = &view.profile.header;
    let (spans, column) = bounded(view);
    let steps = vram(view, column);
    let merged: u64 = spans.iter().map(|(_, of_lane)| merged_away(of_lane)).sum();
    let components = header.components.iter();
    let shown = view.steady_window().1;
    let passes = view
        .passes
        .iter()
        .take(MOST_PASSES)
        .map(|one| json!([view.pass_name(one), one.window.start.get(), one.window.end.get()]));
    let crossings = super::boundaries::shown(view).into_iter().map(|one| {
        let Window { start, end } = one.window;
        json!([one.name(view), one.at.get(), start.get(), end.get()])
    });
    let needed: BTreeMap<_, _> = arrivals(view.profile)
        .into_iter()
        .map(|one| (use_of(one.consumer), one.needed_at))
        .collect();
    let rows = spans
        .iter()
        .flat_map(|(lane, of_lane)| of_lane.iter().map(|slice| row(view, *lane, slice, &needed)));
    // When the planned run was busy on the lanes that this one has.
    let as_planned =
        |planned: &View<'_>| strips(view, |lane, column| ghosts(view, planned, lane, column));
    json!({
        "lanes": spans.iter().map(|(lane, _)| lane.name()).collect::<Vec<_>>(),
        "components": components
            .map(|one| json!({"name": one.name, "blocks": one.blocks, "labels": labels(one)}))
            .collect::<Vec<_>>(),
        "spans": rows.collect::<Vec<_>>(),
        "planned": planned.map(as_planned).unwrap_or_default(),
        "held": strips(view, |lane, column| held::held(view.profile, lane, column)),
        "stalls": stalls(view, column),
        "causes": Cause::ALL.iter().map(|cause| cause.name()).collect::<Vec<_>>(),
        "vram": steps,
        "passes": passes.collect::<Vec<_>>(),
        "boundaries": crossings.collect::<Vec<_>>(),
        "start": view.whole.start.get(),
        "end": view.whole.end.get(),
        "shown": [shown.start.get(), shown.end.get()],
        "budget": header.budget.get(),
        "reserve": header.reserve.get(),
        "slab": header.slab.get(),
        "merged": merged,
        "origin": header.origin,
    })
    .to_string()
}

/// The slices of every lane that ran, in columns wide enough for [`MOST`] of them, and that width.
fn bounded(view: &View<'_>) -> (Vec<(Lane, Vec<Slice>)>, Nanos) {
    let mut column = Nanos::new(1);
    loop {
        let of_lane = |lane: Lane| (lane, slices(view.profile, lane, view.whole, column));
        let lanes: Vec<_> = view.summary.lanes.iter().map(|one| of_lane(one.lane)).collect();
        if lanes.iter().map(|(_, slices)| slices.len()).sum::<usize>() <= MOST {
            return (lanes, column);
        }
        // The first width that can help is that of MOST columns over the whole run.
        column = column.saturating_mul(2).max(view.whole.column(MOST as u64));
    }
}

/// Intervals of every lane, in columns wide enough for [`MOST`] of them together: lane, start, duration.
fn strips(
    view: &View<'_>,
    intervals: impl Fn(Lane, Nanos) -> Vec<(Nanos, Nanos)>,
) -> Vec<[u64; 3]> {
    let mut column = Nanos::new(1);
    loop {
        let lanes = (0u64..).zip(&view.summary.lanes);
        let rows = lanes.flat_map(|(number, one)| {
            let of_lane = intervals(one.lane, column).into_iter();
            of_lane.map(move |(start, end)| [number, start.get(), end.saturating_sub(start).get()])
        });
        let rows: Vec<_> = rows.collect();
        if rows.len() <= MOST {
            return rows;
        }
        column = column.saturating_mul(2).max(view.whole.column(MOST as u64));
    }
}

/// What is written on the marks of each block, and their shade.
fn labels(component: &ComponentHeader) -> Vec<(String, String, usize)> {
    let lists = Lists::of(component);
    let blocks = (0u32..).take(component.blocks.len());
    blocks
        .map(|block| {
            let (label, index) = lists.label(block);
            (label, index.to_owned(), lists.shade(block))
        })
        .collect()
}

/// Which use a span belongs to: component, block, pass.
type Use = (u32, u32, u32);

fn use_of(span: &Span) -> Use {
    (span.component, span.block, span.pass)
}

fn row(
    view: &View<'_>,
    lane: Lane,
    slice: &Slice,
    needed: &BTreeMap<Use, Nanos>,
) -> serde_json::Value {
    let span = &view.profile.spans[slice.span];
    let on = view.summary.lanes.iter().position(|one| one.lane == lane);
    let wait = span.waited_for.map_or(-1, |cause| i64::try_from(cause.lane.index()).unwrap_or(-1));
    let duration = slice.end.saturating_sub(slice.start).get();
    let needed = needed.get(&use_of(span)).filter(|_| lane == Lane::Compute && slice.count == 1);
    json!([
        on,
        slice.start.get(),
        duration,
        slice.count,
        slice.busy.get(),
        span.component,
        span.block,
        span.pass,
        span.bytes.get(),
        wait,
        needed.map_or(-1, |at| i64::try_from(at.get()).unwrap_or(-1))
    ])
}

fn stalls(view: &View<'_>, column: Nanos) -> Vec<serde_json::Value> {
    let cause = |wanted: Cause| Cause::ALL.iter().position(|cause| *cause == wanted);
    let merged = stall_slices(&view.stalls, view.whole, column).into_iter();
    let lane = view.summary.lanes.len();
    merged
        .map(|slice| {
            let (one, busy) = (slice.stall, slice.busy.get());
            let at = (one.needed_at.get(), slice.end.saturating_sub(one.needed_at).get());
            let cause = cause(one.cause);
            json!([lane, at.0, at.1, slice.count, busy, one.component, one.block, one.pass, cause])
        })
        .collect()
}

fn vram(view: &View<'_>, mut column: Nanos) -> Vec<[u64; 2]> {
    loop {
        let steps = envelope(&view.profile.vram, view.whole, column);
        if steps.len() <= MOST {
            return steps.into_iter().map(|(at, in_use)| [at.get(), in_use.get()]).collect();
        }
        column = column.saturating_mul(2).max(view.whole.column(MOST as u64));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::fixture;

    #[test]
    fn long_runs_are_merged_and_counted() {
        let mut profile = fixture::large();
        let copies = profile.spans.clone();
        let length = profile.spans.last().expect("spans").end.get();
        for round in 1..8u64 {
            profile.spans.extend(copies.iter().cloned().map(|mut span| {
                span.start = Nanos::new(span.start.get() + round * length);
                span.end = Nanos::new(span.end.get() + round * length);
                span
            }));
        }
        let view = View::of(&profile);
        let value: serde_json::Value = serde_json::from_str(&data(&view, None)).expect("json");
        let rows = value["spans"].as_array().expect("spans");
        assert!(rows.len() <= MOST);
        let counted: u64 = rows.iter().map(|row| row[3].as_u64().expect("a count")).sum();
        assert_eq!(counted, profile.spans.len() as u64);
        assert_eq!(value["merged"].as_u64(), Some(counted - rows.len() as u64));
        assert!(value["merged"].as_u64() > Some(0));
    }
}
