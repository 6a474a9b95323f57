//! Encoders and a decoder of SGLang that stream their layers: one call each, bound by the link or by launches.

use vramplan::plan::{ComponentInput, Use};
use vramplan::units::{Bytes, Rate};

use super::cache_dit::solve;
use super::figures::*;
use super::model::{Case, case, compute, nanos, rate, run};
use super::report::{Row, Section, TOLERANCE, Verdict, off};

/// Components of a model that are called once each.
#[derive(Clone)]
struct Called {
    case: Case,
    components: &'static [&'static str],
}

/// What a prompt without an image does not use: it comes with the whole encoder and is never streamed.
const VISION: &str = "model.visual";

impl Called {
    /// With compute as published for resident weights.
    fn fitted(figures: &Stage) -> Self {
        let case = case(figures.model, figures.device);
        let mut called = Self { case, components: figures.components };
        called.case.device.h2d.latency = nanos(0.0);
        for _ in 0..4 {
            let efficiency = called.case.device.compute.efficiency.ppm() as f64 / 1e6;
            let share = efficiency * called.resident() / figures.resident;
            called.case.device.compute.efficiency = format!("{share:.6}").parse().expect("a share");
        }
        called
    }

    fn inputs(&self) -> Vec<ComponentInput> {
        let used = |name: &&str| {
            let mut input = self.case.input(name);
            let (idle, used) =
                input.instance.uses.into_iter().partition(|used| used.block.starts_with(VISION));
            let idle: Vec<Use> = idle;
            input.root = input.root.saturating_add(idle.iter().map(|used| used.bytes).sum());
            input.instance.uses = used;
            input
        };
        self.components.iter().map(used).collect()
    }

    fn resident(&self) -> f64 {
        self.inputs().iter().map(compute).sum::<f64>() * 1e3
    }

    /// Milliseconds of one call whose layers stream; what lies outside them is there.
    fn layerwise(&self) -> f64 {
        let there = |mut input: ComponentInput| {
            input.root = Bytes::ZERO;
            input.root_parts.clear();
            run("sglang-layerwise:p=1", &input).seconds()
        };
        self.inputs().into_iter().map(there).sum::<f64>() * 1e3
    }

    /// Milliseconds of one call of what comes as a whole before it computes.
    fn whole(&self) -> f64 {
        self.inputs().iter().map(|input| run("sync", input).seconds()).sum::<f64>() * 1e3
    }

    fn at(&self, rate: Rate) -> Self {
        let mut called = self.clone();
        called.case.device.h2d.rate = rate;
        called
    }
}

/// A machine's link in GB/s, fitted on one row.
fn link(figures: &Stage) -> f64 {
    let bare = Called::fitted(figures);
    solve(figures.layerwise, |gigabytes| bare.at(rate(gigabytes)).layerwise())
}

/// The three rows of a stage on a machine with this link, with what is claimed of the last two, and why.
fn rows(figures: &Stage, link: f64, claims: [(Verdict, &str); 2]) -> [Row; 3] {
    let row = |what: &str, published: f64, simulated: f64, (verdict, why): (Verdict, &str)| {
        let setting = format!("{}: {what}", figures.name);
        Row::new((setting, "ms", 1), (published, simulated), verdict, why)
    };
    let called = Called::fitted(figures).at(rate(link));
    let [streamed, whole] = claims;
    [
        row("resident", figures.resident, called.resident(), (Verdict::Calibration, "")),
        row("layers streamed", figures.layerwise, called.layerwise(), streamed),
        row("the whole fetched", figures.whole, called.whole(), whole),
    ]
}

/// What fetching the whole adds to the resident call: of that alone a row says something.
fn added(figures: &Stage, link: f64) -> String {
    let called = Called::fitted(figures).at(rate(link));
    let published = figures.whole - figures.resident;
    let simulated = called.whole() - called.resident();
    let difference = off(published, simulated);
    assert!(difference < -TOLERANCE);
    format!(
        "Most of it is the fitted compute. Fetching adds {published:.1} ms published and {simulated:.1} ms simulated \
         ({difference:+.0} %); what else `cpu_offload` does is not published."
    )
}

pub fn section() -> Section {
    let (ada, hopper) = (link(&FLUX_4090), link(&FLUX_H100));
    let point = (Verdict::Calibration, "");
    let sum = (
        Verdict::Follows,
        "The two fitted rows and the bytes outside the layers: compute and copies add up.",
    );
    let launches = (
        Verdict::Missed,
        "Many small tensors, and layers that compute for less than a millisecond: what each launch and each copy costs \
         the host is not published, and is not simulated (the latency of copies is taken as nothing).",
    );
    let small = added(&CLIP_4090, ada);
    let small = (Verdict::Follows, small.as_str());
    let hidden = (Verdict::Follows, "Compute is fitted, and the copies hide.");
    let decoder = added(&VAE_H100, hopper);
    let decoder = (Verdict::Missed, decoder.as_str());
    let reproduced = (Verdict::Reproduced, "");
    let mut all = Vec::new();
    all.extend(rows(&FLUX_4090, ada, [point, sum]));
    all.extend(rows(&QWEN_4090, ada, [reproduced, reproduced]));
    all.extend(rows(&CLIP_4090, ada, [launches, small]));
    all.extend(rows(&FLUX_H100, hopper, [point, sum]));
    all.extend(rows(&CLIP_H100, hopper, [launches, launches]));
    all.extend(rows(&VAE_H100, hopper, [hidden, decoder]));
    Section {
        title: "SGLang: encoders and decoder",
        sources: vec![&SGLANG_25517],
        rows: all,
        text: text(ada, hopper),
    }
}

fn text(ada: f64, hopper: f64) -> Vec<String> {
    let (flux, bare) = (Called::fitted(&FLUX_4090), Called::fitted(&FLUX_H100));
    vec![
        format!(
            "Fitted: the compute of each stage on its resident row, and one link per machine on FLUX.1-dev's streamed \
             row: {ada:.1} GB/s (RTX 4090) and {hopper:.1} GB/s (H100). Streamed: `sglang-layerwise:p=1`, what lies \
             outside the layers is there. Fetched: everything comes from pinned memory before it computes. The vision \
             tower of Qwen-Image's encoder has nothing to do for a prompt of text: it is fetched with the whole and \
             never streamed.",
        ),
        format!(
            "**Without a fitted link**, at the 25 and 55 GB/s of the built-in specs, FLUX.1-dev's streamed rows are \
             {:+.1} % and {:+.1} %, the fetched ones {:+.1} % and {:+.1} %: these machines reach less than the links \
             that the specs assume. `vramplan probe` measures it.",
            off(FLUX_4090.layerwise, flux.layerwise()),
            off(FLUX_H100.layerwise, bare.layerwise()),
            off(FLUX_4090.whole, flux.whole()),
            off(FLUX_H100.whole, bare.whole()),
        ),
    ]
}
