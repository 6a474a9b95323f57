//! Text encoders of SGLang that stream their layers: one call each, bound by the link.

use vramplan::plan::{ComponentInput, Use};
use vramplan::units::{Bytes, Rate};

use super::cache_dit::solve;
use super::figures::*;
use super::model::{Case, case, compute, nanos, rate, run};
use super::report::{Row, Section, Verdict, off};

const ENCODERS: [&str; 2] = ["text_encoder", "text_encoder_2"];

/// The encoders with compute as published for resident weights.
fn fitted(figures: &Encoders) -> Case {
    let mut case = case(figures.model, figures.device);
    case.device.h2d.latency = nanos(0.0);
    for _ in 0..4 {
        let (efficiency, time) = (case.device.compute.efficiency, resident(&case));
        let share = efficiency.ppm() as f64 / 1e6 * time / figures.resident;
        case.device.compute.efficiency = format!("{:.6}", share).parse().expect("a share");
    }
    case
}

/// What a prompt without an image does not use: it comes with the whole encoder and is never streamed.
const VISION: &str = "model.visual";

fn inputs(case: &Case) -> Vec<ComponentInput> {
    let known = ENCODERS.iter().filter(|name| case.manifest.component(name).is_some());
    let used = |name: &&str| {
        let mut input = case.input(name);
        let (idle, used) =
            input.instance.uses.into_iter().partition(|used| used.block.starts_with(VISION));
        let idle: Vec<Use> = idle;
        input.root = input.root.saturating_add(idle.iter().map(|used| used.bytes).sum());
        input.instance.uses = used;
        input
    };
    known.map(used).collect()
}

fn resident(case: &Case) -> f64 {
    inputs(case).iter().map(compute).sum::<f64>() * 1e3
}

/// Milliseconds of one call whose layers stream; what lies outside them is there.
fn layerwise(case: &Case) -> f64 {
    let there = |mut input: ComponentInput| {
        input.root = Bytes::ZERO;
        input.root_parts.clear();
        run("sglang-layerwise:p=1", &input).seconds()
    };
    inputs(case).into_iter().map(there).sum::<f64>() * 1e3
}

/// Milliseconds of one call of encoders that come as a whole before they compute.
fn whole(case: &Case) -> f64 {
    inputs(case).iter().map(|input| run("sync", input).seconds()).sum::<f64>() * 1e3
}

fn at(case: &Case, rate: Rate) -> Case {
    let mut case = case.clone();
    case.device.h2d.rate = rate;
    case
}

/// A machine's link, fitted on one row.
struct Machine {
    case: Case,
    rate: f64,
}

impl Machine {
    fn of(figures: &Encoders) -> Self {
        let bare = fitted(figures);
        let link = solve(figures.layerwise, |gigabytes| layerwise(&at(&bare, rate(gigabytes))));
        Self { case: at(&bare, rate(link)), rate: link }
    }

    /// Other encoders on the same machine.
    fn with(&self, figures: &Encoders) -> Self {
        Self { case: at(&fitted(figures), rate(self.rate)), rate: self.rate }
    }

    fn rows(&self, figures: &Encoders, streamed: Verdict) -> [Row; 3] {
        let row = |what: &str, published: f64, simulated: f64, verdict| {
            let setting = format!("{}: {what}", figures.name);
            Row::new((setting, "ms", 1), (published, simulated), verdict, "")
        };
        let case = &self.case;
        [
            row("resident", figures.resident, resident(case), Verdict::Calibration),
            row("layers streamed", figures.layerwise, layerwise(case), streamed),
            row("the whole encoder fetched", figures.whole, whole(case), Verdict::Reproduced),
        ]
    }
}

pub fn section() -> Section {
    let (ada, hopper) = (Machine::of(&FLUX_4090), Machine::of(&FLUX_H100));
    let mut rows = Vec::new();
    rows.extend(ada.rows(&FLUX_4090, Verdict::Calibration));
    rows.extend(ada.with(&QWEN_4090).rows(&QWEN_4090, Verdict::Reproduced));
    rows.extend(hopper.rows(&FLUX_H100, Verdict::Calibration));
    let bare = fitted(&FLUX_H100);
    Section {
        title: "SGLang: text encoders",
        sources: vec![&SGLANG_25517],
        rows,
        text: vec![
            format!(
                "Fitted: the compute of each encoder on its resident row, and one link per machine on FLUX.1-dev's \
                 streamed row: {:.1} GB/s (RTX 4090) and {:.1} GB/s (H100). Streamed: `sglang-layerwise:p=1`, what \
                 lies outside the layers is there. Fetched: everything comes from pinned memory before it computes. \
                 The vision tower of Qwen-Image's encoder has nothing to do for a prompt of text: it is fetched with \
                 the whole and never streamed.",
                ada.rate, hopper.rate,
            ),
            format!(
                "**Without a fitted link**, at the 25 and 55 GB/s of the built-in specs, the streamed rows are {:+.1} % \
                 and {:+.1} %, the fetched ones {:+.1} % and {:+.1} %: these machines reach less than the links that \
                 the specs assume. `vramplan probe` measures it.",
                off(FLUX_4090.layerwise, layerwise(&fitted(&FLUX_4090))),
                off(FLUX_H100.layerwise, layerwise(&bare)),
                off(FLUX_4090.whole, whole(&fitted(&FLUX_4090))),
                off(FLUX_H100.whole, whole(&bare)),
            ),
        ],
    }
}
