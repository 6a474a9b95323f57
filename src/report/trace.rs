//! Turns a profile into a Chrome trace in the dialect of the PyTorch profiler, so that Perfetto, HTA and
//! TensorBoard read it.
//!
//! | profile | trace |
//! |---|---|
//! | device | process 0, `GPU 0: <device> (simulated)` |
//! | lane compute, h2d, d2h | thread 1, 2, 3 of it; `args.stream` is the thread |
//! | lane disk, host | process 1, thread 1, 2, without a stream, so that no tool counts them as GPU work |
//! | stall | process 0, thread 4, category `stall`, without a stream |
//! | compute, copy | X of category `kernel`, `gpu_memcpy`, named `Memcpy HtoD (Pinned -> Device)` with bytes and rate |
//! | VRAM sample, budget | counters `vram` and `vram_budget` in MiB |
//! | lane of the planned run | process 2, category `plan`, without a stream: never counted as GPU work |
//! | pass | X of category `user_annotation` in process 1, thread 3 (not `ProfilerStep`, whose last one HTA drops) |
//! | whole run | X of category `cpu_op` in process 1, thread 4: TensorBoard takes the time of its steps from such rows |
//!
//! Times are microseconds with three decimals, exact to the nanosecond. One event per line; rows of one thread
//! never overlap, for Perfetto drops a row that does.

use serde_json::{Value, json};

use super::view::View;
use crate::error::Result;
use crate::lane::Lane;
use crate::profile::{Profile, Span, io_gzip};
use crate::units::{Bytes, Nanos};

const PLANNED: u32 = 2;
const GPU: u32 = 0;
const HOST: u32 = 1;
const STALLS: u32 = 4;
const PASSES: u32 = 3;
const RUN: u32 = 4;

/// The trace, compressed.
pub(super) fn trace_gz(profile: &Profile, planned: Option<&Profile>) -> Result<Vec<u8>> {
    io_gzip(trace_with(profile, planned).as_bytes())
}

/// The trace as JSON text.
pub fn trace(profile: &Profile) -> String {
    trace_with(profile, None)
}

/// [`trace`], with the lanes of a simulation of the same plan in a process of their own.
pub fn trace_with(profile: &Profile, planned: Option<&Profile>) -> String {
    let header = &profile.header;
    let view = View::of(profile);
    let properties = json!({"id": 0, "name": header.device, "totalGlobalMem": header.budget.get()});
    let mut out = format!(
        "{{\n\"schemaVersion\": 1,\n\"deviceProperties\": [{properties}],\n\
         \"distributedInfo\": {{\"backend\": \"none\", \"rank\": 0, \"world_size\": 1}},\n\
         \"displayTimeUnit\": \"ms\",\n\"baseTimeNanoseconds\": 0,\n\"vramplan\": {},\n\"traceEvents\": [\n",
        json!({
            "model": header.model, "plan_digest": header.plan_digest, "backend": header.backend,
            "origin": header.origin, "clock": header.clock, "complete": header.complete,
        })
    );
    let mut events = names(profile);
    // What a pass leaves out did not run: no reader of traces is to count it.
    let ran = |span: &&Span| {
        let header = profile.header.components.get(span.component as usize);
        span.start < span.end || !header.is_some_and(|header| header.leaves_out(span.pass))
    };
    for (correlation, span) in (1u64..).zip(profile.spans.iter().filter(ran)) {
        events.push(span_event(profile, span, correlation));
    }
    let (at, time, args) = ((HOST, RUN), (view.whole.start, view.whole.end), json!({}));
    events.push(Complete { at, category: "cpu_op", name: "run", time, args }.line());
    events.extend(stall_events(&view));
    events.extend(pass_events(&view));
    events.extend(counters(&view));
    events.extend(planned.map(planned_events).unwrap_or_default());
    out.push_str(&events.join(",\n"));
    out.push_str("\n]}\n");
    out
}

/// Microseconds with three decimals: JSON numbers that hold every nanosecond.
fn us(time: Nanos) -> String {
    format!("{}.{:03}", time.get() / 1_000, time.get() % 1_000)
}

/// A complete event. Numbers of time go in as text, which no float has touched.
struct Complete<'a> {
    at: (u32, u32),
    category: &'a str,
    name: &'a str,
    time: (Nanos, Nanos),
    args: Value,
}

impl Complete<'_> {
    fn line(&self) -> String {
        let (pid, tid) = self.at;
        let duration = self.time.1.saturating_sub(self.time.0);
        format!(
            "{{\"ph\": \"X\", \"cat\": {}, \"name\": {}, \"pid\": {pid}, \"tid\": {tid}, \"ts\": {}, \"dur\": {}, \"args\": {}}}",
            json!(self.category),
            json!(self.name),
            us(self.time.0),
            us(duration),
            self.args
        )
    }
}

/// Process and thread of a lane.
fn place(lane: Lane) -> (u32, u32) {
    match lane {
        Lane::Compute => (GPU, 1),
        Lane::H2d => (GPU, 2),
        Lane::D2h => (GPU, 3),
        Lane::Disk => (HOST, 1),
        Lane::Host => (HOST, 2),
    }
}

fn names(profile: &Profile) -> Vec<String> {
    let header = &profile.header;
    let gpu = format!("GPU 0: {} ({})", header.device, header.origin);
    let meta = |kind: &str, pid: u32, tid: u32, args: Value| {
        json!({"ph": "M", "name": kind, "pid": pid, "tid": tid, "ts": 0, "args": args}).to_string()
    };
    let mut out = vec![
        meta("process_name", GPU, 0, json!({"name": gpu})),
        meta("process_sort_index", GPU, 0, json!({"sort_index": 0})),
        meta("process_name", HOST, 0, json!({"name": format!("host ({})", header.origin)})),
        meta("process_sort_index", HOST, 0, json!({"sort_index": 1})),
    ];
    let lanes = Lane::ALL.into_iter().map(|lane| (place(lane), lane.name()));
    let others = [((GPU, STALLS), "stalls"), ((HOST, PASSES), "passes"), ((HOST, RUN), "run")];
    for ((pid, tid), name) in lanes.chain(others) {
        out.push(meta("thread_name", pid, tid, json!({"name": name})));
        out.push(meta("thread_sort_index", pid, tid, json!({"sort_index": tid})));
    }
    out
}

fn span_event(profile: &Profile, span: &Span, correlation: u64) -> String {
    let block = profile.block_id(span.component, span.block);
    let at = place(span.lane);
    let mut args = json!({"block": block, "pass": span.pass});
    if let Some(piece) = span.piece {
        args["piece"] = json!(piece);
    }
    if let Some(cause) = span.waited_for {
        let id = profile.block_id(cause.component, cause.block);
        args["waited for"] = json!(format!("{} {id} pass {}", cause.lane, cause.pass));
    }
    if at.0 == GPU {
        args["device"] = json!(0);
        args["context"] = json!(1);
        args["stream"] = json!(at.1);
        args["correlation"] = json!(correlation);
        args["External id"] = json!(correlation);
    }
    if !span.bytes.is_zero() {
        args["bytes"] = json!(span.bytes.get());
        args["memory bandwidth (GB/s)"] = decimal_gigabytes(span);
    }
    let (category, name) = match span.lane {
        Lane::Compute => ("kernel", block.as_str()),
        Lane::H2d => ("gpu_memcpy", "Memcpy HtoD (Pinned -> Device)"),
        Lane::D2h => ("gpu_memcpy", "Memcpy DtoH (Device -> Pinned)"),
        Lane::Disk => ("cpu_op", "read"),
        Lane::Host => ("cpu_op", "wait"),
    };
    let safe = if span.lane == Lane::Compute { kernel_name(name) } else { name.to_owned() };
    Complete { at, category, name: &safe, time: (span.start, span.end), args }.line()
}

/// The lanes of the GPU as they were planned. Tools count what has a stream or a category of GPU work; these have
/// neither.
fn planned_events(planned: &Profile) -> Vec<String> {
    let meta = |kind: &str, tid: u32, args: Value| {
        json!({"ph": "M", "name": kind, "pid": PLANNED, "tid": tid, "ts": 0, "args": args})
            .to_string()
    };
    let name = format!("GPU 0 planned ({})", planned.header.origin);
    let mut out = vec![
        meta("process_name", 0, json!({"name": name})),
        meta("process_sort_index", 0, json!({"sort_index": 2})),
    ];
    let lanes = [Lane::Compute, Lane::H2d, Lane::D2h];
    for lane in lanes {
        let (_, tid) = place(lane);
        out.push(meta("thread_name", tid, json!({"name": format!("{} planned", lane.name())})));
    }
    for span in planned.spans.iter().filter(|span| lanes.contains(&span.lane)) {
        let (_, tid) = place(span.lane);
        let name = format!("planned {}", planned.block_id(span.component, span.block));
        let args = json!({"pass": span.pass, "planned bytes": span.bytes.get()});
        let (at, time) = ((PLANNED, tid), (span.start, span.end));
        out.push(Complete { at, category: "plan", name: &name, time, args }.line());
    }
    out
}

/// Tools tell kernels from copies and synchronisation by their names; no block may look like one of those.
fn kernel_name(block: &str) -> String {
    let taken = ["memcpy", "memset", "nccl", "dma", "sync"];
    let lower = block.to_lowercase();
    match taken.iter().any(|word| lower.contains(word)) {
        true => format!("block {}", lower.replace("sync", "s.ync")),
        false => block.to_owned(),
    }
}

/// Bytes per nanosecond, which is decimal gigabytes per second, with three decimals.
fn decimal_gigabytes(span: &Span) -> Value {
    let time = span.duration().get().max(1);
    let thousandths = u128::from(span.bytes.get()) * 1_000 / u128::from(time);
    let text = format!("{}.{:03}", thousandths / 1_000, thousandths % 1_000);
    serde_json::from_str(&text).unwrap_or(Value::Null)
}

fn stall_events<'a>(view: &'a View<'a>) -> impl Iterator<Item = String> + 'a {
    view.stalls.iter().map(|stall| {
        let block = view.profile.block_id(stall.component, stall.block);
        let args = json!({
            "block": block, "pass": stall.pass, "cause": stall.cause.name(),
            "late by (us)": us(stall.late_by), "bytes": stall.bytes.get(),
        });
        let time = (stall.needed_at, stall.needed_at.saturating_add(stall.late_by));
        Complete {
            at: (GPU, STALLS),
            category: "stall",
            name: &format!("stall: {block}"),
            time,
            args,
        }
        .line()
    })
}

fn pass_events<'a>(view: &'a View<'a>) -> impl Iterator<Item = String> + 'a {
    view.passes.iter().map(|one| {
        let name = view.pass_name(one);
        let (at, time) = ((HOST, PASSES), (one.window.start, one.window.end));
        Complete { at, category: "user_annotation", name: &name, time, args: json!({}) }.line()
    })
}

/// VRAM in use and the budget, with a closing sample each so that the last level has a length.
fn counters(view: &View<'_>) -> Vec<String> {
    let header = &view.profile.header;
    let counter = |name: &str, key: &str, at: Nanos, size: Bytes| {
        let thousandths = (u128::from(size.get()) * 1_000) >> 20;
        format!(
            "{{\"ph\": \"C\", \"name\": \"{name}\", \"pid\": {GPU}, \"tid\": 0, \"ts\": {}, \"args\": {{\"{key}\": {}.{:03}}}}}",
            us(at),
            thousandths / 1_000,
            thousandths % 1_000
        )
    };
    let (start, end) = (view.whole.start, view.whole.end);
    let mut out: Vec<String> =
        [start, end].map(|at| counter("vram_budget", "MiB", at, header.budget)).into();
    let used = |in_use: Bytes| header.reserve.saturating_add(in_use);
    for sample in &view.profile.vram {
        out.push(counter("vram", "in use MiB", sample.at, used(sample.in_use)));
    }
    if let Some(last) = view.profile.vram.last().filter(|last| last.at < end) {
        out.push(counter("vram", "in use MiB", end, used(last.in_use)));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::fixture;
    use std::collections::BTreeMap;

    #[test]
    fn the_small_run_as_a_trace() {
        expect_test::expect_file!["../../tests/golden/report/small.trace.json"]
            .assert_eq(&trace(&fixture::small()));
    }

    fn events(profile: &Profile) -> Vec<Value> {
        let value: Value = serde_json::from_str(&trace(profile)).expect("json");
        value["traceEvents"].as_array().expect("events").clone()
    }

    #[test]
    fn rows_of_one_thread_never_overlap_and_every_row_has_a_category() {
        for profile in [fixture::small(), fixture::large()] {
            let mut ends: BTreeMap<(u64, u64), Vec<(f64, f64)>> = BTreeMap::new();
            for event in events(&profile).iter().filter(|event| event["ph"] == "X") {
                assert!(event["cat"].is_string(), "{event}");
                let number = |key: &str| event[key].as_f64().expect("a number");
                let at = (event["pid"].as_u64().expect("pid"), event["tid"].as_u64().expect("tid"));
                ends.entry(at).or_default().push((number("ts"), number("ts") + number("dur")));
            }
            for rows in ends.values_mut() {
                rows.sort_by(|a, b| a.0.total_cmp(&b.0));
                // Adding in floats may be off by less than a nanosecond.
                assert!(rows.windows(2).all(|pair| pair[0].1 <= pair[1].0 + 0.0005));
            }
        }
    }

    #[test]
    fn only_gpu_work_has_a_stream() {
        for event in events(&fixture::small()) {
            let is_gpu = ["kernel", "gpu_memcpy"].contains(&event["cat"].as_str().unwrap_or(""));
            assert_eq!(event["args"]["stream"].is_u64(), is_gpu, "{event}");
        }
    }

    #[test]
    fn planned_lanes_are_drawn_but_are_no_gpu_work() {
        use crate::profile::trace::{Keep, figures, read_chrome};
        let (small, large) = (fixture::small(), fixture::large());
        let text = trace_with(&small, Some(&large));
        let planned = text.lines().filter(|line| line.contains("\"cat\": \"plan\"")).count();
        assert_eq!(planned, large.spans.len());
        let read = |text: &str| {
            read_chrome("x.json", text.as_bytes(), Keep::default()).map(|trace| figures(&trace))
        };
        assert_eq!(read(&text).expect("figures"), read(&trace(&small)).expect("figures"));
    }

    #[test]
    fn the_rank_stands_on_a_line_that_a_regular_expression_finds() {
        let trace = trace(&fixture::small());
        let line = trace.lines().find(|line| line.contains("distributedInfo")).expect("a line");
        assert!(line.contains("\"rank\": 0"));
    }

    #[test]
    fn no_block_passes_for_a_copy() {
        assert_eq!(kernel_name("transformer.blocks.1"), "transformer.blocks.1");
        assert_eq!(kernel_name("nccl.AllReduceKernel"), "block nccl.allreducekernel");
        assert!(!kernel_name("x.Sync").contains("Sync"));
    }
}
