//! Turns a block's tensors into its phases: what computes at a stretch, self-attention first, feed-forward last.
//!
//! A runtime that brings in and releases phases instead of blocks needs less memory at once (LightX2V does). A
//! manifest states the phases of a kind; scanning a checkpoint states them where tensor names tell.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::TensorSpec;
use crate::error::Problem;

/// A phase of a block, in order of execution.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Phase {
    /// Its name, `feed_forward` say; no dots.
    pub name: String,
    /// Paths of the tensors that it uses: `ff` stands for `ff.net.2.weight` and all others below it. What no
    /// phase names belongs to the first.
    pub tensors: Vec<String>,
}

/// Words that begin the names of modules, by phase. Self-attention comes first and takes what is left.
const KNOWN: [(&str, &[&str]); 3] = [
    (
        "attention",
        &[
            "attn",
            "attn1",
            "self_attn",
            "attention",
            "self_attention",
            "attn_q",
            "attn_k",
            "attn_v",
            "attn_qkv",
            "attn_output",
        ],
    ),
    ("cross_attention", &["attn2", "cross_attn", "cross_attention"]),
    (
        "feed_forward",
        &[
            "ff",
            "ff_context",
            "ffn",
            "mlp",
            "feed_forward",
            "img_mlp",
            "txt_mlp",
            "proj_mlp",
            "proj_out",
            "ffn_gate",
            "ffn_up",
            "ffn_down",
        ],
    ),
];

/// The phases that the names of a block's tensors tell; none where it has not at least two of them.
///
/// A later phase must be used by the block itself: a module deeper inside may be one of several.
pub fn told_by(tensors: &[TensorSpec]) -> Vec<Phase> {
    let modules: BTreeSet<&str> =
        tensors.iter().filter_map(|t| t.name().split_once('.')).map(|(first, _)| first).collect();
    let phases = KNOWN.iter().map(|(name, words)| {
        let named = modules.iter().filter(|module| words.contains(module));
        Phase { name: (*name).to_owned(), tensors: named.map(|&m| m.to_owned()).collect() }
    });
    let phases: Vec<Phase> = phases.filter(|phase| !phase.tensors.is_empty()).collect();
    let begins = phases.first().is_some_and(|first| first.name == KNOWN[0].0);
    if begins && phases.len() > 1 { phases } else { Vec::new() }
}

/// The phase that uses a tensor, by position. The longest path that leads to it decides.
pub fn phase_of(phases: &[Phase], tensor: &str) -> usize {
    let paths = phases.iter().enumerate().flat_map(|(n, phase)| {
        let leading = phase.tensors.iter().filter(|path| leads(path, tensor));
        leading.map(move |path| (path.len(), n))
    });
    paths.max_by_key(|&(length, _)| length).map_or(0, |(_, n)| n)
}

/// Whether a path is a tensor's name, or that of something it lies in.
fn leads(path: &str, tensor: &str) -> bool {
    tensor.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// What is wrong with the phases of a kind that has these tensors.
pub(super) fn check(
    place: &str,
    phases: &[Phase],
    tensors: &[TensorSpec],
    problems: &mut Vec<Problem>,
) {
    let (mut names, mut paths) = (BTreeSet::new(), BTreeSet::new());
    for (n, phase) in phases.iter().enumerate() {
        let place = format!("{place}.phases[{n}]");
        let own = names.insert(phase.name.as_str());
        if !own || phase.name.is_empty() || phase.name.contains(['.', '@']) {
            let found = format!("name {:?}", phase.name);
            problems.push(Problem::new(&place, found, "a name of its own, without . and @"));
        }
        for path in &phase.tensors {
            let used = !path.is_empty() && tensors.iter().any(|t| leads(path, t.name()));
            if !used {
                let expected = "the path of at least one tensor of the block";
                problems.push(Problem::new(&place, format!("{path:?}"), expected));
            }
            if !paths.insert(path.as_str()) {
                let found = format!("{path:?} a second time");
                problems.push(Problem::new(&place, found, "every path in one phase"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Dtype;

    fn tensors(names: &[&str]) -> Vec<TensorSpec> {
        names.iter().map(|&name| TensorSpec(name.into(), Dtype::Bf16, vec![4, 4])).collect()
    }

    #[test]
    fn names_tell_the_phases() {
        let wan =
            tensors(&["attn1.to_q.weight", "attn2.to_q.weight", "ffn.net.2.weight", "norm2.bias"]);
        let phases = told_by(&wan);
        let names: Vec<&str> = phases.iter().map(|phase| phase.name.as_str()).collect();
        assert_eq!(names, ["attention", "cross_attention", "feed_forward"]);
        let of: Vec<usize> = wan.iter().map(|t| phase_of(&phases, t.name())).collect();
        assert_eq!(of, [0, 1, 2, 0]);
        assert_eq!(told_by(&tensors(&["mlp.fc1.weight", "norm.weight"])), []);
        assert_eq!(
            told_by(&tensors(&["attentions.0.attn1.to_q.weight", "resnets.0.conv1.weight"])),
            []
        );
    }

    #[test]
    fn the_longest_path_decides() {
        let phase =
            |name: &str, path: &str| Phase { name: name.into(), tensors: vec![path.into()] };
        let phases = [phase("a", "x"), phase("b", "x.late")];
        assert_eq!(phase_of(&phases, "x.late.weight"), 1);
        assert_eq!(phase_of(&phases, "x.later.weight"), 0);
        assert_eq!(phase_of(&phases, "y"), 0);
    }

    #[test]
    fn phases_that_say_nothing_are_refused() {
        let phase =
            |name: &str, path: &str| Phase { name: name.into(), tensors: vec![path.into()] };
        let mut problems = Vec::new();
        let phases = [phase("a", "attn"), phase("a", "attn"), phase("b.c", "at")];
        check("kinds.k", &phases, &tensors(&["attn.w"]), &mut problems);
        assert_eq!(problems.len(), 4, "{problems:?}");
    }
}
