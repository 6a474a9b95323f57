//! Turns "these blocks, in these passes" into the uses of a component that are left out, and refuses what names none.
//!
//! Step caching reuses the result of a pass before, control branches end before the last pass, guidance leaves layers
//! out in some: in such passes a block is neither computed nor, where that is known early enough, copied.
//!
//! ```yaml
//! skips:
//! - {blocks: [transformer.transformer_blocks.8-18, transformer.single_transformer_blocks.*], passes: [5-27/2]}
//! - {blocks: [controlnet.*], passes: [12-27], copies: kept}
//! ```

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Workload;
use super::family::matches;
use super::given::nearest;
use crate::error::{Error, Problem, Result};
use crate::figures::PassRange;
use crate::model::{Component, Manifest};
use crate::yaml;

/// Blocks that one range of a name may stand for.
const MOST_IN_RANGE: u64 = 1 << 16;

/// Blocks that some passes leave out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Skip {
    /// Ids, also with a range of numbers at their end (`blocks.8-18`). In a workload with their component, and patterns
    /// with `*`, too; in a plan without.
    #[serde(serialize_with = "yaml::flow_seq")]
    pub blocks: Vec<String>,
    /// Passes, counted from 0: `4`, `5-27`, or `5-27/2` for every second one.
    #[serde(serialize_with = "yaml::flow_seq")]
    pub passes: Vec<PassRange>,
    /// What becomes of the copies of their weights.
    #[serde(default)]
    pub copies: Copies,
}

/// What becomes of the copies for a use that is left out.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Copies {
    /// They are not issued: the engine knows before it would issue them.
    #[default]
    Cancelled,
    /// They are made all the same: whether the block computes is known when its turn comes.
    Kept,
}

impl fmt::Display for Copies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cancelled => "cancelled",
            Self::Kept => "kept",
        })
    }
}

/// `BLOCKS@PASSES[:kept]`, each a list with commas: what a command line says of blocks that passes leave out.
impl FromStr for Skip {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let Some((blocks, passes)) = text.rsplit_once('@') else {
            return Err(format!(
                "found {text:?}, expected BLOCKS@PASSES such as blocks.8-18@5-27/2"
            ));
        };
        let (passes, copies) = match passes.split_once(':') {
            None | Some((_, "cancelled")) => {
                (passes.trim_end_matches(":cancelled"), Copies::Cancelled)
            }
            Some((passes, "kept")) => (passes, Copies::Kept),
            Some((_, other)) => {
                return Err(format!(
                    "found {other:?}, expected kept or cancelled after the passes"
                ));
            }
        };
        let passes: std::result::Result<_, String> = passes.split(',').map(str::parse).collect();
        let blocks = blocks.split(',').map(str::to_owned).collect();
        Ok(Self { blocks, passes: passes?, copies })
    }
}

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let passes: Vec<String> = self.passes.iter().map(ToString::to_string).collect();
        write!(f, "{}@{}", self.blocks.join(","), passes.join(","))?;
        if self.copies == Copies::Kept { f.write_str(":kept") } else { Ok(()) }
    }
}

/// The ids that a name with a range at its end stands for; the name itself where it has none.
pub fn in_range(name: &str) -> Vec<String> {
    let range = name.rsplit_once('.').and_then(|(list, range)| {
        let (first, last) = range.split_once('-')?;
        let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
        (first <= last && last - first < MOST_IN_RANGE).then_some((list, first, last))
    });
    match range {
        Some((list, first, last)) => (first..=last).map(|n| format!("{list}.{n}")).collect(),
        None => vec![name.to_owned()],
    }
}

/// The same names with neighbours of a list written as a range.
fn with_ranges(ids: &[String]) -> Vec<String> {
    let mut runs: Vec<(&str, u64, u64)> = Vec::new();
    let mut names = Vec::new();
    for id in ids {
        let numbered = id.rsplit_once('.').and_then(|(list, n)| Some((list, n.parse().ok()?)));
        match (numbered, runs.last_mut()) {
            (Some((list, n)), Some(run)) if run.0 == list && run.2 + 1 == n => run.2 = n,
            (Some((list, n)), _) => runs.push((list, n, n)),
            (None, _) => names.push(id.clone()),
        }
    }
    let run = |(list, first, last): (&str, u64, u64)| match first == last {
        true => format!("{list}.{first}"),
        false => format!("{list}.{first}-{last}"),
    };
    runs.into_iter().map(run).chain(names).collect()
}

impl Workload {
    /// What the passes over a component leave out, its blocks by their ids inside it; the passes are those of the
    /// workload. `is_main` says whether it is the component that dominates.
    ///
    /// # Errors
    ///
    /// Names that fit no block of the model, passes that the component does not have, and uses that are left out twice
    /// with different words for their copies.
    pub fn skips_of(&self, manifest: &Manifest, component: &Component) -> Result<Vec<Skip>> {
        if self.skips.is_empty() {
            return Ok(Vec::new());
        }
        let is_main = manifest.main_component().is_some_and(|main| main.name == component.name);
        let passes = self.passes_of(&component.name, is_main);
        let mut problems = self.unknown_blocks(manifest);
        let mut skips: Vec<Skip> = Vec::new();
        for (n, skip) in self.skips.iter().enumerate() {
            let names: Vec<String> = skip.blocks.iter().flat_map(|name| in_range(name)).collect();
            let left_out = |id: &String| {
                let full = format!("{}.{id}", component.name);
                names.iter().any(|name| matches(name, &full))
            };
            let blocks = component.blocks(manifest);
            let ids = blocks.iter().map(|block| block.local_id());
            let ids: Vec<String> = ids.filter(left_out).collect();
            if ids.is_empty() {
                continue;
            }
            for range in skip.passes.iter().filter(|range| range.last >= passes) {
                let found = format!("{range}, of {}", component.name);
                let expected = format!("passes 0 to {}", passes.saturating_sub(1));
                problems.push(Problem::new(format!("skips[{n}].passes"), found, expected));
            }
            skips.push(Skip { blocks: with_ranges(&ids), ..skip.clone() });
        }
        problems.extend(contradictions(&skips));
        if problems.is_empty() {
            return Ok(skips);
        }
        Err(Error::Input { file: "workload".to_owned(), problems })
    }

    /// Skips that name no block of these components.
    pub fn skips_beside(&self, manifest: &Manifest, components: &[&Component]) -> Vec<&Skip> {
        let ids = components.iter().flat_map(|component| {
            let blocks = component.blocks(manifest);
            let ids = blocks.iter().map(|block| format!("{}.{}", component.name, block.local_id()));
            ids.collect::<Vec<String>>()
        });
        let ids: Vec<String> = ids.collect();
        let fits = |name: &String| {
            let names = in_range(name);
            names.iter().any(|name| ids.iter().any(|id| matches(name, id)))
        };
        self.skips.iter().filter(|skip| !skip.blocks.iter().any(fits)).collect()
    }

    fn unknown_blocks(&self, manifest: &Manifest) -> Vec<Problem> {
        let of = |component: &Component| {
            let blocks = component.blocks(manifest);
            let ids = blocks.iter().map(|block| format!("{}.{}", component.name, block.local_id()));
            ids.collect::<Vec<String>>()
        };
        let ids: std::collections::BTreeSet<String> =
            manifest.components.iter().flat_map(of).collect();
        let fits = |name: &String| ids.iter().any(|id| matches(name, id));
        let named = self.skips.iter().enumerate().flat_map(|(n, skip)| {
            skip.blocks.iter().map(move |name| (n, name)).collect::<Vec<_>>()
        });
        let strange = named.filter(|(_, name)| !in_range(name).iter().all(fits));
        let problem = |(n, name): (usize, &String)| {
            let found = format!("{name:?}, which fits no block");
            let expected = format!("block ids such as {}", nearest(name, &ids));
            Problem::new(format!("skips[{n}].blocks"), found, expected)
        };
        strange.map(problem).collect()
    }
}

/// Uses that are left out twice, with their copies cancelled and kept.
pub fn contradictions(skips: &[Skip]) -> Vec<Problem> {
    let mut problems = Vec::new();
    let blocks = |skip: &Skip| -> std::collections::BTreeSet<String> {
        skip.blocks.iter().flat_map(|name| in_range(name)).collect()
    };
    for (n, one) in skips.iter().enumerate() {
        for other in skips[..n].iter().filter(|other| other.copies != one.copies) {
            let both = blocks(one).intersection(&blocks(other)).next().cloned();
            let meet = one.passes.iter().any(|a| other.passes.iter().any(|b| a.meets(*b)));
            if let Some(block) = both.filter(|_| meet) {
                let found = format!("copies of {block} both cancelled and kept in the same pass");
                problems.push(Problem::new(format!("skips[{n}]"), found, "one of them"));
            }
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_says_the_same_as_a_file() {
        let flag: Skip = "c.l.8-18,c.m.*@0,5-27/2:kept".parse().expect("sound");
        assert_eq!(flag.blocks, ["c.l.8-18", "c.m.*"]);
        assert_eq!(flag.copies, Copies::Kept);
        assert_eq!(flag.to_string(), "c.l.8-18,c.m.*@0,5-27/2:kept");
        let text = "{blocks: [c.l.8-18, c.m.*], passes: [0, 5-27/2], copies: kept}";
        assert_eq!(yaml::from_str::<Skip>("w", text).expect("sound"), flag);
        assert_eq!("c@3:cancelled".parse::<Skip>().expect("sound").passes[0].first, 3);
        for wrong in ["c.l.8", "c@", "c@1:maybe", "c@1:"] {
            assert!(wrong.parse::<Skip>().is_err(), "{wrong:?}");
        }
    }

    fn model() -> Manifest {
        let text = "{format: vramplan/manifest/1, model: m, kinds: {b: {bytes: 1}}, components: \
                    [{name: c, root: {bytes: 0}, blocks: [{list: l, kind: b, count: 12}]}, \
                     {name: d, root: {bytes: 0}, blocks: [{list: l, kind: b, count: 2}]}]}";
        Manifest::from_yaml("m", text).expect("a sound manifest")
    }

    fn skips(of: &str, skips: &str) -> Result<Vec<Skip>> {
        let text = format!(
            "{{format: vramplan/workload/1, passes: {{c: 9, d: 2}}, reserve: {{context: 0}}, skips: [{skips}]}}"
        );
        let manifest = model();
        let workload = Workload::from_yaml("w", &text).expect("a sound workload");
        workload.skips_of(&manifest, manifest.component(of).expect("named"))
    }

    #[test]
    fn names_become_the_blocks_of_one_component() {
        let both = "{blocks: [c.l.3-5, c.l.1*, d.*], passes: [1]}";
        assert_eq!(skips("c", both).expect("sound")[0].blocks, ["l.1", "l.3-5", "l.10-11"]);
        assert_eq!(skips("d", both).expect("sound")[0].blocks, ["l.0-1"]);
        assert_eq!(skips("d", "{blocks: [c.l.0], passes: [1]}").expect("sound"), []);
    }

    #[test]
    fn what_names_nothing_is_refused() {
        for (wrong, expected) in [
            ("{blocks: [c.l.9-12], passes: [1]}", "fits no block"),
            ("{blocks: [l.1], passes: [1]}", "fits no block"),
            ("{blocks: [c.l.1], passes: [3-9]}", "passes 0 to 8"),
            (
                "{blocks: [c.*], passes: [1-3]}, {blocks: [c.l.2], passes: [3], copies: kept}",
                "both",
            ),
        ] {
            let error = skips("c", wrong).expect_err(wrong).to_string();
            assert!(error.contains(expected), "{error}");
        }
        // Not the same pass, not the same block.
        let apart =
            "{blocks: [c.*], passes: [1-5/2]}, {blocks: [c.*], passes: [2-6/2], copies: kept}";
        assert!(skips("c", apart).is_ok());
    }
}
