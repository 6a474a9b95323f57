//! Turns a workload into the line that says what was assumed: pixels, frames, tokens, passes.

use crate::plan::Request;

/// `assumes 720 x 1280 pixels, 81 frames, batch 1, text 512 tokens; 26 passes of transformer, 14 of transformer_2`.
pub fn line(request: &Request) -> String {
    let workload = &request.workload;
    let mut parts = Vec::new();
    if let (Some(height), Some(width)) = (workload.height, workload.width) {
        parts.push(format!("{height} x {width} pixels"));
    }
    parts.extend(workload.frames.map(|frames| format!("{frames} frames")));
    parts.push(format!("batch {}", workload.batch));
    parts
        .extend(workload.tokens.iter().map(|(stream, tokens)| format!("{stream} {tokens} tokens")));
    let main = request.manifest.main_component().map(|main| main.name.as_str());
    let passes = request.components.iter().map(|name| {
        let passes = workload.passes_of(name, Some(name.as_str()) == main);
        let noun = if passes == 1 { "pass" } else { "passes" };
        format!("{passes} {noun} of {name}")
    });
    let passes: Vec<String> = passes.collect();
    format!("assumes {}; {}", parts.join(", "), passes.join(", "))
}
