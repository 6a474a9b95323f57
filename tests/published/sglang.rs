//! SGLang's table of prefetch sizes and resident layers: two parameters fitted on two of its rows, the others predicted.

use super::figures::*;
use super::model::{Case, case, compute, gib, gigabytes, nanos, plan, rate, run};
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
    steps: u32,
}

impl Fit {
    /// With p = 1 every block costs its copy; of r resident blocks each costs its compute instead. From there both are
    /// moved until the simulator gives the two published times, cold start included.
    fn new(steps: u32) -> Self {
        let copy = seconds(&QWEN_P1) / BLOCKS;
        let mut fit = Self { copy, compute: (seconds(&QWEN_R30) - 30.0 * copy) / 30.0, steps };
        for _ in 0..8 {
            fit.copy += (seconds(&QWEN_P1) - simulated(&fit.case(), QWEN_P1.policy)) / BLOCKS;
            fit.compute += (seconds(&QWEN_R30) - simulated(&fit.case(), QWEN_R30.policy)) / 30.0;
        }
        fit
    }

    fn case(&self) -> Case {
        let steps = self.steps;
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

fn time(case: &Case, row: &Denoise, verdict: Verdict, why: &str) -> Row {
    let setting = format!("time of all steps, `{}`", row.policy);
    Row::new((setting, "s", 2), (seconds(row), simulated(case, row.policy)), verdict, why)
}

/// VRAM of a row above that of another: published, and simulated.
fn above(case: &Case, row: &Denoise, other: &Denoise) -> (f64, f64) {
    (peak(row) - peak(other), slab(case, row.policy) - slab(case, other.policy))
}

fn memory(case: &Case, (row, other): (&Denoise, &Denoise), verdict: Verdict, why: &str) -> Row {
    let setting = format!("VRAM, `{}` above `{}`", row.policy, other.policy);
    Row::new((setting, "GiB", 2), above(case, row, other), verdict, why)
}

fn out_of_memory(case: &Case, row: &Denoise) -> Row {
    let more = slab(case, row.policy) - slab(case, QWEN_P1.policy);
    let (card, needed) = (gib(case.device.vram), peak(&QWEN_P1) + more);
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

/// Why the time of the run on a GPU of 80 GB is not compared.
fn whole_run() -> String {
    let once = simulated(&case("qwen-image", "h100").passes(STEPS), QWEN_P1.policy);
    let mut both = case("qwen-image", "h100").passes(2 * STEPS);
    let twice = simulated(&both, QWEN_P1.policy);
    // The share of the datasheet's peak that two passes of every step would need without offload.
    (both.workload.height, both.workload.width) = (Some(1024), Some(1024));
    both.device.compute.efficiency = "1".parse().expect("a share");
    let share = compute(&both.input("transformer")) / QWEN_80GB[0].1;
    assert!(share < 1.0, "{share}");
    format!(
        "Neither the GPU nor its link is named, and the time contains the text encoder and the decoder. An H100, which \
         the log's memory suggests, would stream {STEPS} passes in {once:.0} s and, with guidance, twice as many in \
         {twice:.0} s. The {} s of the run without offload allow both: two passes of every step would take {:.0} % of \
         the datasheet's peak at 1024 x 1024. Which ran is not stated, and to choose the one that fits would prove \
         nothing.",
        QWEN_80GB[0].1,
        share * 100.0,
    )
}

fn elsewhere() -> [Row; 2] {
    let streamed = case("qwen-image", "h100").input("transformer");
    let saved = gib(streamed.whole()) - gib(plan("sglang-layerwise:p=1", &streamed).slab.bytes);
    let [(without, _), (with, seconds)] = QWEN_80GB;
    let setting = format!("#16150: VRAM saved ({without} → {with} GiB), `sglang-layerwise:p=1`");
    [
        Row::new((setting, "GiB", 2), (without - with, saved), Verdict::Reproduced, ""),
        Row::unknown(
            "#16150: time of the whole run, with offload",
            format!("{seconds:.2} s"),
            "–".to_owned(),
            whole_run(),
        ),
    ]
}

pub fn section() -> Section {
    let fit = Fit::new(STEPS);
    let case = fit.case();
    let (follows, reproduced) = (Verdict::Follows, Verdict::Reproduced);
    let mut rows = vec![
        time(&case, &QWEN_P1, Verdict::Calibration, ""),
        time(&case, &QWEN_P16, follows, "Any schedule that waits for its copies takes 60 x."),
        time(&case, &QWEN_R30, Verdict::Calibration, ""),
        time(
            &case,
            &QWEN_R34,
            follows,
            "Four more of sixty blocks on the line through the two fitted points.",
        ),
        memory(&case, (&QWEN_P16, &QWEN_P1), reproduced, ""),
        memory(
            &case,
            (&QWEN_R30, &QWEN_P1),
            follows,
            "The same 30 blocks as in the row above: a window of p ahead holds 2 p blocks, so p=16 holds 32 where p=1 \
             holds 2. That both were published as 24.47 is worth something; a second prediction it is not.",
        ),
        memory(&case, (&QWEN_R34, &QWEN_R30), Verdict::Missed, &four_more(&case)),
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

/// Why the four blocks between r=30 and r=34 are counted by themselves.
fn four_more(case: &Case) -> String {
    let (published, simulated) = above(case, &QWEN_R34, &QWEN_P1);
    format!(
        "Four blocks are four times what was published; why is not known. Measured from p=1 the difference would be \
         {:+.1} %, but 30 of those 34 blocks are in the row above, too.",
        off(published, simulated),
    )
}

/// What speaks for GiB, and what GB of 10⁹ bytes would change.
fn unit(case: &Case) -> String {
    let [(without, _), (with, _)] = QWEN_80GB;
    let [free, free_with] = QWEN_80GB_FREE;
    let card = without + free;
    assert!((card - with - free_with).abs() < 0.01 && (card * 1024.0 - 81_559.0).abs() < 5.0);
    let decimal = |row: &Denoise| {
        let (published, simulated) = above(case, row, &QWEN_P1);
        off(published * 1e9 / (1u64 << 30) as f64, simulated)
    };
    assert!(decimal(&QWEN_P16).abs() <= TOLERANCE && decimal(&QWEN_R34).abs() > TOLERANCE);
    format!(
        "**The unit.** The tables say GB; here they are taken as GiB. #16150 logs the peak and what remains: \
         {without:.2} + {free:.2} = {card:.2}, and again {with:.2} + {free_with:.2}. That is the 81559 MiB which a driver reports \
         for an H100 of 80 GB, in GiB; in GB it would be 85.5. SGLang's scheduler divides the allocator's peak by 1024³ \
         before it logs it. Were those decimal, p=16 above p=1 would be off by {:+.1} %, r=34 above p=1 by \
         {:+.1} %.",
        decimal(&QWEN_P16),
        decimal(&QWEN_R34),
    )
}

/// Rate in GB/s at which one block is copied when the run walks over all of them so often.
fn implied(fit: &Fit, case: &Case, passes: f64) -> f64 {
    let block = case.input("transformer").instance.uses.last().expect("a block").bytes;
    gigabytes(block) / (fit.copy / passes)
}

fn text(fit: &Fit, fitted: &Case) -> Vec<String> {
    let few = Fit::new(FEW_STEPS).case();
    let in_few = |row: &Denoise| {
        let time = simulated(&few, row.policy);
        let off = off(seconds(row), time);
        assert!(off.abs() <= TOLERANCE, "{}: {off}", row.policy);
        format!("{time:.1} s ({off:+.1} %)")
    };
    let bare = case("qwen-image", "rtx-5090").passes(STEPS);
    let steps = f64::from(STEPS);
    let (once, twice) = (implied(fit, fitted, steps), implied(fit, fitted, 2.0 * steps));
    // 16 lanes of 32 GT/s in 128b/130b code.
    let wire = 16.0 * 32.0 / 8.0 * 128.0 / 130.0;
    assert!(once < wire && twice > wire);
    vec![
        format!(
            "Fitted: copy x = {:.4} s and compute c = {:.4} s of a block over all steps, x on the row p=1 and c on \
             r=30, both through the simulator, cold start included. The number of steps is not stated; simulated are \
             {STEPS}, of which one pays for the cold start. Fitted and simulated with {FEW_STEPS}: p=16 {}, r=34 {}. \
             Is the fit possible? In {STEPS} passes it is {:.1} ms for a block of {:.0} MB, {once:.0} GB/s, which \
             PCIe 5.0 x16 carries. Were guidance two passes of every step, it would be {twice:.0} GB/s, more than \
             the {wire:.0} GB/s of its wires: so the run had at most {:.0} passes.",
            fit.copy,
            fit.compute,
            in_few(&QWEN_P16),
            in_few(&QWEN_R34),
            fit.copy / steps * 1e3,
            once * fit.copy / steps * 1e3,
            (steps * wire / once).floor(),
        ),
        unit(fitted),
        format!(
            "**Without any fit** there is no prediction of times: it needs resolution and steps, which are not stated. \
             For {STEPS} steps at 1328 x 1328, the model card's, the datasheet of the RTX 5090 and an assumed \
             efficiency give {:.1} s for p=1 and {:.1} s for r=30, bound by compute: probably another, larger run than \
             the published one. VRAM needs no fit.",
            simulated(&bare, QWEN_P1.policy),
            simulated(&bare, QWEN_R30.policy),
        ),
        format!(
            "The same fit says that 30 residents *spread* over the model (`sglang-strided:p=1:r=30`) would take {:.1} s \
             in the VRAM of r=30: simulated; no measurement of it is published.",
            simulated(fitted, "sglang-strided:p=1:r=30"),
        ),
    ]
}
