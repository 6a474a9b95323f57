//! Turns block lists into their order of execution: as chosen, as the class's rule says, or as the names run.

use std::collections::BTreeSet;

use super::classes::{Rule, Turn};
use super::lists::BlockList;
use crate::model::Edge;

/// A block by the number of its list and its index.
pub type Place = (usize, usize);

/// The lists in order of execution and what the user should know about it. Indices of one list always ascend.
pub fn sequence(
    component: &str,
    class: Option<&str>,
    rule: Option<&Rule>,
    lists: &[BlockList],
    chosen: &[String],
) -> (Vec<Place>, Vec<String>) {
    let mut warnings = Vec::new();
    let mut places = Vec::new();
    let mut left: BTreeSet<usize> = (0..lists.len()).collect();
    let find = |path: &str| lists.iter().position(|list| list.path == path);
    let chosen: Vec<usize> =
        chosen.iter().filter_map(|name| find(local(component, name))).collect();
    if !chosen.is_empty() {
        for list in chosen {
            if left.remove(&list) {
                places.extend(all(lists, list));
            }
        }
    } else if let Some(rule) = rule {
        for turn in rule.order {
            match turn {
                Turn::List(path, _) => {
                    let list = find(path).filter(|list| left.remove(list));
                    places.extend(list.into_iter().flat_map(|list| all(lists, list)));
                }
                Turn::Alternate(paths) => {
                    let found = paths.iter().filter_map(|path| find(path));
                    let found: Vec<usize> = found.filter(|list| left.remove(list)).collect();
                    places.extend(alternate(lists, &found));
                }
            }
        }
    } else if !left.is_empty() {
        let what = class.map_or_else(
            || "no class is known".to_owned(),
            |class| format!("the order of execution of class {class} is not known"),
        );
        let names = names(lists, &left);
        warnings.push(format!("{component}: {what}; its lists run as named: {names} (--order)"));
        places.extend(left.iter().flat_map(|&list| all(lists, list)));
        left.clear();
    }
    if !left.is_empty() {
        let names = names(lists, &left);
        warnings.push(format!("{component}: nothing says when {names} runs; put last (--order)"));
        places.extend(left.iter().flat_map(|&list| all(lists, list)));
    }
    (places, warnings)
}

/// A list's name inside its component: `transformer.blocks` and `blocks` both mean `blocks`.
pub fn local<'a>(component: &str, name: &'a str) -> &'a str {
    let rest = name.strip_prefix(component).and_then(|rest| rest.strip_prefix('.'));
    rest.unwrap_or(name)
}

fn names(lists: &[BlockList], numbers: &BTreeSet<usize>) -> String {
    let paths: Vec<&str> = numbers.iter().map(|&list| lists[list].path.as_str()).collect();
    paths.join(", ")
}

fn all(lists: &[BlockList], list: usize) -> impl Iterator<Item = Place> {
    (0..lists[list].blocks.len()).map(move |index| (list, index))
}

fn alternate(lists: &[BlockList], found: &[usize]) -> Vec<Place> {
    let longest = found.iter().map(|&list| lists[list].blocks.len()).max().unwrap_or(0);
    let mut places = Vec::new();
    for index in 0..longest {
        let there = found.iter().filter(|&&list| index < lists[list].blocks.len());
        places.extend(there.map(|&list| (list, index)));
    }
    places
}

/// The long skips of a UNet of `n` stages.
///
/// ```text
/// down_blocks.0  down_blocks.1  …  down_blocks.n-1   mid   up_blocks.0  up_blocks.1  …  up_blocks.n-1
///      │              └────── resnets' outputs ──────────────── n-2-1 … n-1-1 ─┘              │
///      └──────────────────────────────────────────────────────────────────────────────────────┘
/// ```
///
/// An up block takes back the outputs of the down block opposite (`n-1-i`) and, one more, what the down block
/// before that one handed on (`n-2-i`): `layers_per_block + 1` of them, counted from the end.
pub fn long_skips(lists: &[BlockList]) -> Vec<Edge> {
    let count =
        |path: &str| lists.iter().find(|list| list.path == path).map_or(0, |l| l.blocks.len());
    let (down, up) = (count("down_blocks"), count("up_blocks"));
    if down != up {
        return Vec::new();
    }
    let mut edges = Vec::new();
    for from in 0..down {
        for to in [(down - 1).checked_sub(from + 1), Some(down - 1 - from)].into_iter().flatten() {
            let edge = |list: &str, index: usize| format!("{list}.{index}");
            edges.push(Edge { from: edge("down_blocks", from), to: edge("up_blocks", to) });
        }
    }
    edges
}
