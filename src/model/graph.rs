//! Turns a component's blocks and extra edges into a dependency graph, and refuses cycles.
//!
//! The chain in order of execution is implied; `edges` add what does not follow it, such as a UNet's long skips.
//! The listed order must be one that the graph allows.

use std::collections::BTreeMap;

use petgraph::algo::toposort;
use petgraph::graph::{DiGraph, NodeIndex};

use super::manifest::{Component, Manifest};
use crate::error::Problem;

/// The dependency graph of a component: a node per block id, an edge from each block to what needs it.
///
/// Errors name the edge whose end does not exist, or a block on a cycle together with the edge that closes it.
pub fn build(
    component: &Component,
    manifest: &Manifest,
) -> Result<DiGraph<String, ()>, Vec<Problem>> {
    let mut graph = DiGraph::new();
    let mut nodes: BTreeMap<String, NodeIndex> = BTreeMap::new();
    let mut last = None;
    for block in component.blocks(manifest) {
        let id = block.local_id();
        let node = graph.add_node(id.clone());
        nodes.insert(id, node);
        if let Some(last) = last.replace(node) {
            graph.add_edge(last, node, ());
        }
    }
    let mut problems = Vec::new();
    for (n, edge) in component.edges.iter().enumerate() {
        let mut end = |field: &str, id: &str| {
            let node = nodes.get(id).copied();
            if node.is_none() {
                let place = format!("edges[{n}].{field}");
                let expected = format!("the id of a block of {}", component.name);
                problems.push(Problem::new(place, format!("{id:?}"), expected));
            }
            node
        };
        let ends = (end("from", &edge.from), end("to", &edge.to));
        let (Some(from), Some(to)) = ends else { continue };
        graph.add_edge(from, to, ());
        // The chain is a path through every block, so an edge closes a cycle exactly when it does not run forward.
        if from >= to {
            let found =
                format!("{} -> {}, a cycle through the order of execution", edge.from, edge.to);
            let expected = "an edge from an earlier block to a later one";
            problems.push(Problem::new(format!("edges[{n}]"), found, expected));
        }
    }
    if problems.is_empty() && toposort(&graph, None).is_err() {
        problems.push(Problem::new("edges", "a cycle", "a graph without cycles"));
    }
    if problems.is_empty() { Ok(graph) } else { Err(problems) }
}

/// The problems that [`build`] finds, placed inside the manifest.
pub(super) fn check(place: &str, component: &Component, manifest: &Manifest) -> Vec<Problem> {
    // A chain without extra edges has no cycle; most components are that.
    if component.edges.is_empty() {
        return Vec::new();
    }
    let problems = build(component, manifest).err().unwrap_or_default();
    let placed = |p: Problem| Problem { place: format!("{place}.{}", p.place), ..p };
    problems.into_iter().map(placed).collect()
}
