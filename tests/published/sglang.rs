//! SGLang's table of prefetch sizes and resident layers: two parameters fitted on two of its rows, the others predicted.

use super::figures::*;
use super::model::{Case, case, gib, nanos, plan, rate, run};
use super::report::{Row, Section, TOLERANCE, Verdict, off};

const BLOCKS: f64 = 60.0;

/// Steps of the simulated run. Those of the published one are not stated; times are fitted over all steps, so the number
/// only decides what the cold start weighs.
const STEPS: u32 = 50;

/// Fewer steps, to show what the number is worth.
const FEW_STEPS: u32 = 20;

/// Copy and compute of a block, in seconds per run.
struct Fit {
    copy: f64,
    compute: f64,
}

impl Fit {
    /// With p = 1 every block costs its copy; of r resident blocks each costs its compute instead.
    fn new() -> Self {
        let copy = seconds(&QWEN_P1) / BLOCKS;
        Self { copy, compute: (seconds(&QWEN_R30) - 30.0 * copy) / 30.0 }
    }

    fn case(&self, steps: u32) -> Case {
        let mut case = case("qwen-image", "rtx-5090").passes(steps);
        let block = case.input("transformer").instance.uses.last().expect("a block").bytes;
        let steps = f64::from(steps);
        case.device.h2d.rate = rate(block.get() as f64 / 1e9 / (self.copy / steps));
        case.device.h2d.latency = nanos(0.0);
        case.compute("transformer.transformer_blocks.*", nanos(self.compute / steps))
    }
}

fn seconds(row: &Denoise) -> f64 {
    row.peak_and_seconds.expect("it ran").1
}

fn peak(row: &Denoise) -> f64 {
    row.peak_and_seconds.expect("it ran").0
}

fn simulated(case: &Case, policy: &str) -> f64 {
    run(policy, &case.input("transformer")).seconds()
}

fn slab(case: &Case, policy: &str) -> f64 {
    gib(plan(policy, &case.input("transformer")).slab.bytes)
}

fn time(case: &Case, row: &Denoise, verdict: Verdict) -> Row {
    let setting = format!("time of all steps, `{}`", row.policy);
    Row::new((setting, "s", 2), (seconds(row), simulated(case, row.policy)), verdict, "")
}

/// Simulated VRAM above that of the first row.
fn more(case: &Case, row: &Denoise) -> f64 {
    slab(case, row.policy) - slab(case, QWEN_P1.policy)
}

fn memory(case: &Case, row: &Denoise, why: &str) -> Row {
    let setting = format!("VRAM above that of p=1, `{}`", row.policy);
    let figures = (peak(row) - peak(&QWEN_P1), more(case, row));
    Row::new((setting, "GiB", 2), figures, Verdict::Reproduced, why)
}

fn out_of_memory(case: &Case, row: &Denoise) -> Row {
    let (card, needed) = (gib(case.device.vram), peak(&QWEN_P1) + more(case, row));
    assert!(row.peak_and_seconds.is_none() && needed < card, "{}: {needed}", row.policy);
    Row {
        setting: format!("peak VRAM, `{}`", row.policy),
        published: "out of memory".to_owned(),
        simulated: format!("{needed:.1} of {card:.1} GiB"),
        difference: None,
        verdict: Verdict::Missed,
        why: "The published peak of p=1 and the simulated blocks above it fit the card. What is not in the table comes \
              on top: the CUDA context, what the allocator keeps unused, what other components hold at step 0. A plan's \
              reserve stands for these; here it would have to be more than 2.5 GiB."
            .to_owned(),
    }
}

fn elsewhere() -> [Row; 2] {
    let streamed = case("qwen-image", "h100").input("transformer");
    let saved = gib(streamed.whole()) - gib(plan("sglang-layerwise:p=1", &streamed).slab.bytes);
    let [(without, _), (with, seconds)] = QWEN_80GB;
    let setting = format!("#16150: VRAM saved ({without} → {with} GiB), `sglang-layerwise:p=1`");
    [
        Row::new((setting, "GiB", 2), (without - with, saved), Verdict::Reproduced, ""),
        Row {
            setting: "#16150: time of the whole run, with offload".to_owned(),
            published: format!("{seconds:.2} s"),
            simulated: "–".to_owned(),
            difference: None,
            verdict: Verdict::NotModelled,
            why: "Neither the GPU nor its link is named, and the time contains the text encoder and the decoder; one \
                  parameter for the link would be fitted on this one row."
                .to_owned(),
        },
    ]
}

pub fn section() -> Section {
    let fit = Fit::new();
    let case = fit.case(STEPS);
    let mut rows = vec![
        time(&case, &QWEN_P1, Verdict::Calibration),
        time(&case, &QWEN_P16, Verdict::Reproduced),
        time(&case, &QWEN_R30, Verdict::Calibration),
        time(&case, &QWEN_R34, Verdict::Reproduced),
        memory(&case, &QWEN_P16, ""),
        memory(&case, &QWEN_R30, ""),
        memory(
            &case,
            &QWEN_R34,
            "Within 10 %, but not right: four blocks more than r=30 are 2.5 GiB more by their bytes, and 0.6 GiB were \
             published. Why is not known.",
        ),
        out_of_memory(&case, &QWEN_P20),
        out_of_memory(&case, &QWEN_R38),
    ];
    rows.extend(elsewhere());
    Section {
        title: "SGLang: Qwen-Image, prefetch and resident layers",
        sources: vec![&SGLANG_31538, &SGLANG_16150],
        rows,
        text: text(&fit, &case),
    }
}

fn text(fit: &Fit, fitted: &Case) -> Vec<String> {
    let few = fit.case(FEW_STEPS);
    let in_few = |row: &Denoise| {
        let time = simulated(&few, row.policy);
        let off = off(seconds(row), time);
        assert!(off.abs() <= TOLERANCE, "{}: {off}", row.policy);
        format!("{time:.1} s ({off:+.1} %)")
    };
    let bare = case("qwen-image", "rtx-5090").passes(STEPS);
    vec![
        format!(
            "Fitted: copy x = {:.4} s and compute c = {:.4} s of a block over all steps, x on the row p=1 (60 x) and c \
             on r=30 (30 c + 30 x). Everything else is simulated with them on the real manifest, cold start included. \
             The number of steps is not stated; simulated are {STEPS}, of which one pays for the cold start. With \
             {FEW_STEPS} it weighs more: p=16 {}, r=34 {}.",
            fit.copy,
            fit.compute,
            in_few(&QWEN_P16),
            in_few(&QWEN_R34),
        ),
        format!(
            "**Without any fit** there is no prediction of times: it needs resolution and steps, which are not stated. \
             For {STEPS} steps at 1328 x 1328, the model card's, the datasheet of the RTX 5090 gives {:.1} s for p=1 \
             and {:.1} s for r=30, bound by compute: another, larger run than the published one. VRAM needs no fit.",
            simulated(&bare, QWEN_P1.policy),
            simulated(&bare, QWEN_R30.policy),
        ),
        format!(
            "The same fit says that 30 residents *spread* over the model (`sglang-strided:p=1:r=30`) would take {:.1} s \
             in the VRAM of r=30: simulated; no measurement of it is published.",
            simulated(fitted, "sglang-strided:p=1:r=30"),
        ),
        "The pull request also has a table for FLUX.1-dev; the stored copy of the thread ends before its figures, so \
         they are not listed."
            .to_owned(),
    ]
}
