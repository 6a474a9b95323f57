//! What it costs when Wan2.2 changes experts: whole transformers swapped through ordinary memory, or streamed.

use vramplan::plan::ComponentInput;

use super::cache_dit::{Pageable, solve};
use super::figures::*;
use super::model::{
    Case, case, compute, gigabytes, nanos, rate, run, seconds, swap, with_pageable,
};
use super::report::{Row, Section, Verdict, off};

/// Guidance walks the blocks twice in every step of SGLang's run.
const PASSES_IN_STEP: f64 = 2.0;

/// The mean of the steps that are neither the first nor at the boundary, in seconds.
fn steady(steps: &[f64]) -> f64 {
    let usual = steps.iter().enumerate().filter(|(n, _)| *n != 0 && *n != WAN_BOUNDARY);
    let (count, sum) = usual.fold((0.0, 0.0), |(count, sum), (_, time)| (count + 1.0, sum + time));
    sum / count / 1e3
}

/// One of eight ranks: all weights, its share of the tokens. Compute as in SGLang's usual step with weights in VRAM;
/// what lies outside the blocks computes within that time.
fn rank() -> Case {
    let case = case("wan2.2-t2v-a14b", "h100").passes(14);
    let blocks =
        case.manifest.component("transformer").expect("known").blocks(&case.manifest).len();
    let block = nanos(steady(&WAN_SWAPPED) / PASSES_IN_STEP / blocks as f64);
    case.compute("transformer.blocks.*", block).compute("transformer.root", nanos(0.0))
}

/// What the change costs a policy that streams: its first pass, less a usual one.
struct Streamed {
    pass: f64,
    cold: f64,
}

impl Streamed {
    fn of(policy: &str, input: &ComponentInput) -> Self {
        let run = run(policy, input);
        Self { pass: run.pass, cold: seconds(run.first_pass) - run.pass }
    }
}

/// What the change costs when whole experts are swapped, at a rate in GB/s. The expert that goes is as large as the one
/// that comes.
fn swapped(case: &Case, gigabytes_per_second: f64) -> f64 {
    let device = with_pageable(&case.device, rate(gigabytes_per_second));
    swap(&Case { device, ..case.clone() }.input("transformer"))
}

/// The published cost of the change in SGLang's run of swapped experts.
fn sglang_cost() -> f64 {
    WAN_SWAPPED[WAN_BOUNDARY] / 1e3 - steady(&WAN_SWAPPED)
}

fn sglang_rows(expert: &ComponentInput, swap: f64) -> Vec<Row> {
    let row = |what: &str, digits, figures, verdict, why| {
        Row::new((format!("SGLang, 8 ranks: {what}"), "s", digits), figures, verdict, why)
    };
    let usual = PASSES_IN_STEP * compute(expert) / f64::from(expert.passes);
    let Streamed { pass, cold } = Streamed::of("sglang-layerwise:p=1", expert);
    let step = PASSES_IN_STEP * pass;
    let [before, after] = WAN_STAGE;
    let two = "Two swaps: the thread says that both experts are copied in step 1, too. Compilation and set-up in step 1 \
               are in both runs.";
    let claimed = Verdict::Reproduced;
    vec![
        row(
            "cost of the change, swapped (step 19 less a usual one)",
            2,
            (sglang_cost(), swap),
            claimed,
            "",
        ),
        row(
            &format!("what streaming saves of the whole stage ({before:.2} → {after:.2} s)"),
            2,
            (before - after, 2.0 * (swap - cold)),
            claimed,
            two,
        ),
        row("a usual step, swapped", 3, (steady(&WAN_SWAPPED), usual), Verdict::Calibration, ""),
        row("a usual step, streamed", 3, (steady(&WAN_STREAMED), step), claimed, ""),
        row(
            "the step at the change, streamed",
            3,
            (WAN_STREAMED[WAN_BOUNDARY] / 1e3, step + cold),
            claimed,
            "",
        ),
    ]
}

fn fastvideo_rows(expert: &ComponentInput, swap: f64) -> Vec<Row> {
    let row = |what: &str, digits, figures, verdict, why| {
        Row::new((format!("FastVideo, 4 ranks: {what}"), "s", digits), figures, verdict, why)
    };
    let cold = Streamed::of("fastvideo-first", expert).cold;
    let [before, after] = FASTVIDEO_WHOLE;
    vec![
        row(
            "cost of the change, swapped",
            1,
            (FASTVIDEO_BOUNDARY[0], swap),
            Verdict::Reproduced,
            "",
        ),
        row(
            "cost of the change, streamed",
            2,
            (FASTVIDEO_BOUNDARY[1], cold),
            Verdict::Missed,
            "A cold start fetches the root and one block before compute begins; everything else hides behind compute. \
             SGLang's runs of the same scheme show no cost at all. Where FastVideo's 2 s come from (releasing buffers, \
             the allocator, a synchronisation of ranks) is not published.",
        ),
        row(
            &format!("what streaming saves from end to end ({before} → {after} s)"),
            2,
            (before - after, swap - cold),
            Verdict::Missed,
            "The change of experts explains most of it. What the first step paid for its weights is not published.",
        ),
    ]
}

/// Every figure that depends on the rate between ordinary memory and VRAM, with the rate fitted on each in turn.
fn sensitivity(case: &Case, pageable: &Pageable) -> String {
    let published =
        [FLUX_SEQUENTIAL.seconds, FLUX_MODEL.seconds, sglang_cost(), FASTVIDEO_BOUNDARY[0]];
    let implied = |seconds: f64| solve(seconds, |rate| swapped(case, rate));
    let fits = [
        ("diffusers' sequential offload (used above)", pageable.fitted()),
        ("diffusers' model offload", pageable.on_model_offload()),
        ("SGLang's change of experts", implied(published[2])),
        ("FastVideo's change of experts", implied(published[3])),
    ];
    let mut table = format!(
        "| one rate, fitted on | GB/s | sequential, {:.0} s | model offload, {:.0} s | SGLang, {:.2} s | FastVideo, \
         ≈{:.0} s |\n|---|---:|---:|---:|---:|---:|",
        published[0], published[1], published[2], published[3],
    );
    for (name, rate) in fits {
        let [sequential, model] = pageable.times(rate);
        let swap = swapped(case, rate);
        table.push_str(&format!("\n| {name} | {rate:.2} |"));
        for (simulated, published) in [sequential, model, swap, swap].into_iter().zip(published) {
            table.push_str(&format!(" {simulated:.1} s ({:+.1} %) |", off(published, simulated)));
        }
    }
    table
}

fn text(case: &Case, pageable: &Pageable, before: f64) -> Vec<String> {
    let expert = case.input("transformer");
    let both = 2.0 * gigabytes(expert.whole());
    let [seconds, cold] = FASTVIDEO_BOUNDARY;
    let first = before + before / 2.0;
    vec![
        format!(
            "A swap copies the expert that goes back to ordinary memory and fetches the other: {both:.1} GB, every rank \
             its own. Nothing of it is fitted here: the rate of {:.2} GB/s is the one fitted on diffusers' sequential \
             offload in the next section, measured by others on another machine. FastVideo's 25 s by themselves are \
             {:.2} GB/s on each of four ranks, a tenth of what PCIe 4.0 x16 carries from pinned memory. Compute of a \
             block is fitted on SGLang's usual step with weights in VRAM; copies hide behind it at the 55 GB/s of the \
             H100's datasheet link. FastVideo's compute is not published; SGLang's stands in for it, which only \
             matters to rows that are not claimed.",
            pageable.fitted(),
            both / seconds,
        ),
        format!(
            "**How much hangs on the choice of the rate.** Published times beside those simulated with a rate that is \
             fitted on each of the four runs in turn. They come from three machines and agree within an eighth: this \
             looks like a property of PyTorch's blocking `.to()` with ordinary memory rather than of a link. The row of \
             FastVideo, given as \"~25s\", is within 10 % with the rate used here and just beyond with two others.\n\n{}",
            sensitivity(case, pageable),
        ),
        format!(
            "**What was tried.** The rate of the built-in H100 spec (10 GB/s with ordinary memory, an estimate) gives a \
             swap of {:.1} s: too fast for this path by a factor of four. FastVideo from end to end: the swap alone is \
             {before:.1} s (published 33.52); with a first fetch of one expert in step 1, half a swap, {first:.1} s; less \
             the published 2 s at each of the two cold starts, {:.1} s. The published figure lies between the first two.",
            swap(&expert),
            first - 2.0 * cold,
        ),
    ]
}

pub fn section(pageable: &Pageable) -> Section {
    let case = rank();
    let expert = case.input("transformer");
    let before = swapped(&case, pageable.fitted());
    let mut rows = fastvideo_rows(&expert, before);
    rows.extend(sglang_rows(&expert, before));
    Section {
        title: "FastVideo and SGLang: Wan2.2's change of experts",
        sources: vec![&FASTVIDEO_966, &SGLANG_15511],
        rows,
        text: text(&case, pageable, before),
    }
}
