//! Denoisers of which every layer streams on H100, H200 and H800: links of the datasheet, nothing fitted on a copy.

use vramplan::plan::ComponentInput;

use super::cache_dit::solve;
use super::figures::*;
use super::model::{Case, case, compute, gigabytes, nanos, rate, run};
use super::report::{Row, Section, TOLERANCE, Verdict, off};

/// Guidance walks the blocks twice in every step.
const PASSES_IN_STEP: u32 = 2;

/// Wan2.2's two experts at a size, with passes of each.
fn experts(device: &str, (width, height, frames): (u64, u64, u64), passes: [u32; 2]) -> Wan {
    let mut case = case("wan2.2-t2v-a14b", device);
    let workload = &mut case.workload;
    (workload.width, workload.height, workload.frames) = (Some(width), Some(height), Some(frames));
    Wan { case, passes }
}

struct Wan {
    case: Case,
    passes: [u32; 2],
}

impl Wan {
    fn inputs(&self) -> Vec<ComponentInput> {
        let names = ["transformer", "transformer_2"].into_iter().zip(self.passes);
        names.map(|(name, passes)| ComponentInput { passes, ..self.case.input(name) }).collect()
    }

    fn resident(&self) -> f64 {
        self.inputs().iter().map(compute).sum()
    }

    /// Both experts, each from a cold start.
    fn streamed(&self, policy: &str) -> f64 {
        self.inputs().iter().map(|input| run(policy, input).seconds()).sum()
    }
}

/// Four steps on one H200. With shift 12 their noise levels are 1, 0.97, 0.92 and 0.8: three above the boundary 0.875.
fn h200_at() -> Wan {
    experts("h200", (832, 480, 17), [3 * PASSES_IN_STEP, WAN_H200_STEPS * PASSES_IN_STEP - 6])
}

/// The same with compute of the blocks fitted on the time of resident weights.
fn h200() -> Wan {
    let mut wan = h200_at();
    let expert = wan.case.input("transformer");
    let blocks = expert.instance.uses.iter().filter(|used| !used.bytes.is_zero());
    let uses = f64::from(WAN_H200_STEPS * PASSES_IN_STEP) * blocks.count() as f64;
    let block = nanos(WAN_H200[0] / uses);
    for expert in ["transformer", "transformer_2"] {
        wan.case = wan.case.compute(&format!("{expert}.blocks.*"), block);
        wan.case = wan.case.compute(&format!("{expert}.root"), nanos(0.0));
    }
    wan
}

/// The time of a run in which every layer streams, from what keeping some of them saved.
fn all_streamed(saved: &Saved) -> f64 {
    saved.seconds / (saved.percent / 100.0)
}

fn kept_case(saved: &Saved) -> Case {
    let mut case = case(saved.model, "h100").passes(KEPT_STEPS);
    (case.workload.height, case.workload.width) = (Some(1024), Some(1024));
    case
}

fn kept(saved: &Saved, verdict: Verdict, why: &str) -> Row {
    let input = kept_case(saved).input("transformer");
    let Saved { model, percent, seconds } = saved;
    let setting =
        format!("H100, {model}: every layer streamed (of which {seconds} s are {percent} %)");
    let figures = (all_streamed(saved), run("sglang-layerwise:p=1", &input).seconds());
    Row::new((setting, "s", 1), figures, verdict, why)
}

/// GB/s at which the streamed blocks alone would take the published time.
fn implied(saved: &Saved) -> f64 {
    let input = kept_case(saved).input("transformer");
    let blocks = input.instance.uses.iter().map(|used| used.bytes).sum();
    gigabytes(blocks) * f64::from(KEPT_STEPS) / all_streamed(saved)
}

/// What would have to be so for the H200 row to come out: a slower link, in GB/s.
fn slower_link(wan: &Wan) -> f64 {
    solve(WAN_H200[1], |gigabytes| {
        let mut slow = Wan { case: wan.case.clone(), passes: wan.passes };
        slow.case.device.h2d.rate = rate(gigabytes);
        slow.streamed("sglang-layerwise:p=1")
    })
}

pub fn section() -> Section {
    let wan = h200();
    let [resident, streamed] = WAN_H200;
    // Of Wan's numbers of frames the one below 48: it leaves less compute to hide behind.
    let h800 = experts("h100", (832, 480, 45), [26 * PASSES_IN_STEP, 14 * PASSES_IN_STEP]);
    let alone = h800.resident();
    let cost = 1.0 + WAN_H800_COST / 100.0;
    let with_offload = h800.streamed("vllm-omni") / alone;
    let mut half = Wan { case: h800.case.clone(), passes: h800.passes };
    half.case.device.h2d.rate = rate(27.5);
    assert!(half.streamed("vllm-omni") / alone < 1.01);
    Section {
        title: "SGLang and vLLM-Omni: every layer streamed on H100, H200, H800",
        sources: vec![&SGLANG_19546, &SGLANG_21248, &VLLM_OMNI_6456],
        rows: vec![
            kept(
                &KEPT_FLUX,
                Verdict::Reproduced,
                "The command is not given; 50 steps at 1024 x 1024 are SGLang's defaults for the model.",
            ),
            kept(&KEPT_Z_IMAGE, Verdict::Reproduced, ""),
            kept(
                &KEPT_QWEN,
                Verdict::Decided,
                "SGLang's defaults are 50 steps with a guidance of 4, which in two passes of a step would take twice as \
                 long. One pass was decided on this figure; in 50 steps the times of #31538 leave no room for two \
                 either, while that of #16150 would fit two.",
            ),
            Row::new(
                ("H200, wan2.2-t2v-a14b, 4 steps: resident", "s", 2),
                (resident, wan.resident()),
                Verdict::Calibration,
                "",
            ),
            Row::new(
                ("H200, wan2.2-t2v-a14b, 4 steps: every layer streamed", "s", 2),
                (streamed, wan.streamed("sglang-layerwise:p=1")),
                Verdict::Missed,
                "Compute of a block and its copy are about equal here, so what is simulated hardly costs; see below.",
            ),
            Row::new(
                ("H800, wan2.2-t2v-a14b: time with offload by time without (\"~0.3 %\")", "", 3),
                (cost, with_offload),
                Verdict::Follows,
                "Compute by the datasheet hides every copy; any run of which that is true gives 1.",
            ),
        ],
        text: text(&wan, alone),
    }
}

fn text(wan: &Wan, h800: f64) -> Vec<String> {
    let estimated = h200_at();
    let left = WAN_H200[0] - estimated.resident();
    let likelier = left + estimated.streamed("sglang-layerwise:p=1");
    assert!(left > 0.0 && off(WAN_H200[1], likelier) < -TOLERANCE);
    vec![
        format!(
            "Simulated: `sglang-layerwise:p=1` or `vllm-omni` on the built-in H100 and H200, 55 GB/s from pinned \
             memory; an H800 has the H100's compute and link, and 48 frames are taken as 45, the \
             next number below that Wan makes. No link is fitted. #19546 publishes differences and \
             per cents, of which the time with every layer streamed follows, as exact as they are rounded; as \"warm \
             time\" it contains more than the denoiser. By their blocks alone the three come to {:.0}, {:.0} and {:.0} \
             GB/s: one link, as far as such figures can tell. Its other figures depend on how many layers stayed, which \
             is not published.",
            implied(&KEPT_FLUX),
            implied(&KEPT_Z_IMAGE),
            implied(&KEPT_QWEN),
        ),
        format!(
            "**The H200, what was tried.** Compute is fitted as if all {} s were denoising, the most it can be. If some \
             of it was text encoder and decoder, less is left behind which copies can hide, and streaming costs more: \
             the published cost would come out at the same link when {:.1} s lie outside the denoisers. The estimate of \
             the built-in spec leaves {left:.1} s, with which it would be {likelier:.1} s ({:+.0} %): not enough. Or \
             the link gave {:.0} GB/s, or copies slow computes down, which the spec leaves out. On the H800 the estimated compute is {h800:.0} s, which hides copies at half the link, too.",
            WAN_H200[0],
            outside(wan),
            off(WAN_H200[1], likelier),
            slower_link(wan),
        ),
    ]
}

/// Seconds outside the denoisers with which the published time comes out: compute that is less by them hides nothing of
/// the copies, once it is shorter than they are.
fn outside(wan: &Wan) -> f64 {
    let mut idle = Wan { case: wan.case.clone(), passes: wan.passes };
    for expert in ["transformer", "transformer_2"] {
        idle.case = idle.case.compute(&format!("{expert}.blocks.*"), nanos(0.0));
    }
    let outside = WAN_H200[1] - idle.streamed("sglang-layerwise:p=1");
    assert!(outside > 0.0 && outside < WAN_H200[0]);
    outside
}
