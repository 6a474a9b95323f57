//! Turns block ids into short labels that tell block lists apart: `transformer_blocks.7` is `tb7`, the root `root`.
//!
//! A label is the initials of its list (`tb`) and the block's index; a list whose initials are taken gets a number. Every list
//! has a shade by its order of use, so that marks too narrow for a label still show where one list ends.

use std::collections::{BTreeMap, BTreeSet};

use crate::profile::ComponentHeader;

/// Shades of a lane's colour that lists take in turn.
const SHADES: usize = 3;

/// The lists of one component.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Lists {
    /// In order of first use.
    pub lists: Vec<List>,
    /// The list of each block, and the block's index in it.
    of_block: Vec<(usize, String)>,
}

/// One block list, or a block that is in none, such as the root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct List {
    /// Its name.
    pub name: String,
    /// Its initials.
    pub short: String,
    /// Blocks of it.
    pub count: u64,
    /// Its shade: one of three in turn, and a fourth for what is in no list.
    pub shade: usize,
}

impl Lists {
    /// Names the lists of a component.
    pub(super) fn of(component: &ComponentHeader) -> Self {
        let mut found: BTreeMap<&str, usize> = BTreeMap::new();
        let mut taken = BTreeSet::new();
        let mut lists: Vec<List> = Vec::new();
        let mut of_block = Vec::with_capacity(component.blocks.len());
        for id in &component.blocks {
            let (name, index) = match id.rsplit_once('.') {
                Some((list, index)) if index.bytes().all(|c| c.is_ascii_digit()) => (list, index),
                _ => (id.as_str(), ""),
            };
            let list = *found.entry(name).or_insert_with(|| {
                let initials = if index.is_empty() { shortened(name) } else { initials(name) };
                let number = lists.len() + 1;
                let short = match taken.insert(initials.clone()) {
                    true => initials,
                    false => format!("{initials}{number}."),
                };
                let shade = if index.is_empty() {
                    SHADES
                } else {
                    let before = lists.iter().filter(|list| list.shade < SHADES).count();
                    before % SHADES
                };
                lists.push(List { name: name.to_owned(), short, count: 0, shade });
                lists.len() - 1
            });
            lists[list].count += 1;
            of_block.push((list, index.to_owned()));
        }
        Self { lists, of_block }
    }

    /// The label of a block, and a shorter one that is only its index, for marks where that alone fits.
    pub(super) fn label(&self, block: u32) -> (String, &str) {
        let Some((list, index)) = self.of_block.get(block as usize) else {
            return ("?".to_owned(), "");
        };
        (format!("{}{index}", self.lists[*list].short), index)
    }

    /// The shade of a block's list.
    pub(super) fn shade(&self, block: u32) -> usize {
        self.of_block.get(block as usize).map_or(0, |(list, _)| self.lists[*list].shade)
    }
}

/// `stb` of `single_transformer_blocks`; of a single word two letters, for `l0` reads as ten.
fn initials(name: &str) -> String {
    let words: Vec<&str> =
        name.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).collect();
    let letters: String = match words.as_slice() {
        [] => "?".to_owned(),
        [word] => word.chars().take(2).collect(),
        words => words.iter().filter_map(|word| word.chars().next()).take(4).collect(),
    };
    letters.to_lowercase()
}

/// A short name as it is, of a long one the initials.
fn shortened(name: &str) -> String {
    if name.len() <= 6 { name.to_owned() } else { initials(name) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::fixture;

    #[test]
    fn lists_are_told_apart() {
        let mut component = fixture::small().header.components.remove(0);
        let ids = [
            "root",
            "transformer_blocks.0",
            "transformer_blocks.1",
            "single_transformer_blocks.0",
            "text_blocks.12",
            "layers.0",
            "7",
        ];
        component.blocks = ids.map(str::to_owned).to_vec();
        let lists = Lists::of(&component);
        let labels: Vec<String> = (0..7).map(|block| lists.label(block).0).collect();
        assert_eq!(labels, ["root", "tb0", "tb1", "stb0", "tb4.12", "la0", "7"]);
        assert_eq!((lists.lists[1].count, lists.label(4).1), (2, "12"));
        assert_eq!([0, 1, 2, 3].map(|block| lists.shade(block)), [3, 0, 0, 1]);
        assert_eq!(lists.label(99).0, "?");
    }
}
