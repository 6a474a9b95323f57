//! Turns a profile's header into the section that says where every number comes from and what it leaves out.

use super::markup::{escape, section};
use crate::figures::Origin;
use crate::report::view::View;

/// Origin, clock, formulas, limits.
pub(super) fn method(view: &View<'_>) -> String {
    let header = &view.profile.header;
    let facts = [
        ("model", header.model.clone()),
        ("device", header.device.clone()),
        ("rank", header.rank.clone().unwrap_or_default()),
        ("backend", header.backend.clone()),
        ("origin of times and bytes", header.origin.to_string()),
        ("clock", header.clock.clone()),
        ("plan digest", header.plan_digest.clone()),
        ("seed", header.seed.to_string()),
        ("recorded by vramplan", header.tool_version.clone()),
        ("spans, samples", format!("{}, {}", view.profile.spans.len(), view.profile.vram.len())),
        ("complete", if header.complete { "yes".into() } else { "no: cut short".into() }),
    ];
    let mut body = String::from("<dl class=\"facts\">");
    for (name, value) in facts.into_iter().filter(|(_, value)| !value.is_empty()) {
        body.push_str(&format!("<dt>{}</dt><dd>{}</dd>", escape(name), escape(&value)));
    }
    body.push_str("</dl>\n");
    body.push_str(match header.origin {
        Origin::Measured => {
            "<p>Times are measured on the device; a span covers what its clock brackets. Predictions and bounds \
             are estimated by the plan.</p>\n"
        }
        _ => {
            "<p>Times are simulated: they follow from the device spec's rates and latencies and from the \
             workload's compute times, and no hardware was involved. Predictions and bounds are estimated by the \
             plan.</p>\n"
        }
    });
    body.push_str(FORMULAS);
    section("method", "Method and limits", &body)
}

const FORMULAS: &str = "<ul>
<li>makespan = first start to last end over all lanes; a lane is busy for the union of its spans.</li>
<li>overlap = time when compute and H2D are both busy; exposed = H2D busy − overlap. \
    \u{201c}Hidden\u{201d} is overlap ÷ H2D busy.</li>
<li>stall = compute idle while its next use waits for an H2D copy; shares of it are of the makespan, shares \
    per block and cause are of the total stall.</li>
<li>cold start = stalls in the first pass of each component; steady = all later ones.</li>
<li>pass time = last compute end of a pass − last compute end of the one before; the steady pass is the lower \
    median of the passes after the first, its spread their quartiles.</li>
<li>runs differ = their steady passes are further apart than half the interquartile ranges of both together, and than \
    1 % of the first run's.</li>
<li>bound = the largest pass time known that no schedule beats that holds all of a unit (block, phase of a \
    block or leaf module, as the plan says) while it computes; with units that are not leaf modules, it also keeps \
    everything outside the block lists resident. Estimated by the plan.</li>
<li>error = time ÷ predicted time − 1. Predicted times of blocks and copies are those of the plan simulated without \
    jitter; both are medians of the passes after the first, and the mean absolute error (MAPE) is over all blocks, or all \
    copies, each counted once.</li>
<li>slack of a copy = when compute was free for the use it is for − the end of the use's last copy.</li>
<li>rate of a copy = bytes ÷ duration; sizes are classed by powers of two.</li>
<li>peak VRAM = reserve + slab: one allocation, made before the first pass; headroom = budget − peak. The \
    reserve is given, not observed.</li>
<li>cause of a stall = the first that holds: first pass; the copy waited for a compute to free its bytes; it \
    ran at less than three quarters of the rate of a copy of this run that is no larger; it takes longer than the use \
    before it computes; an earlier copy held the lane; lane and window were free or it waited for the host, so it was \
    issued late; unknown.</li>
<li>ms = 10⁻³ s; GB/s = 10⁹ bytes per second; MiB, GiB = 2²⁰, 2³⁰ bytes.</li>
</ul>
";
