//! Turns the given times of a workload file into the time of a block, and refuses keys that fit no block.
//!
//! A key is a block's id or a pattern with `*`. An exact id beats every pattern, a longer pattern a shorter one, and of
//! equally long ones the later in the alphabet. `<component>.root` names what lies outside the block lists; no pattern
//! reaches it, since a time meant for every block is not one for the root.

use std::collections::{BTreeMap, BTreeSet};

use super::Workload;
use super::family::matches;
use crate::error::{Error, Problem, Result};
use crate::model::{Component, Manifest};
use crate::units::Nanos;

/// What follows a component's name in the id of its root.
const ROOT: &str = ".root";

/// Ids named in the message about a key that fits none.
const NEAREST: usize = 3;

/// The given times of a workload, checked against a manifest.
#[derive(Debug)]
pub(super) struct Given<'a> {
    exact: BTreeMap<&'a str, Nanos>,
    /// Best first.
    patterns: Vec<(&'a str, Nanos)>,
}

impl<'a> Given<'a> {
    /// Splits ids from patterns and checks that each fits something.
    pub fn new(workload: &'a Workload, manifest: &Manifest) -> Result<Self> {
        let (mut exact, mut patterns) = (BTreeMap::new(), Vec::new());
        for (key, &time) in &workload.compute {
            if key.contains('*') {
                patterns.push((key.as_str(), time));
            } else {
                exact.insert(key.as_str(), time);
            }
        }
        patterns.sort_by(|a, b| (b.0.len(), b.0).cmp(&(a.0.len(), a.0)));
        let given = Self { exact, patterns };
        if workload.compute.is_empty() {
            return Ok(given);
        }
        let problems = given.misfits(&all_ids(manifest));
        if problems.is_empty() {
            return Ok(given);
        }
        Err(Error::Input { file: "workload".to_owned(), problems })
    }

    /// The time given for the root of a component.
    pub fn root_time(&self, component: &Component) -> Option<Nanos> {
        self.exact.get(root_id(component).as_str()).copied()
    }

    /// The time given for the full id of a block.
    pub fn time(&self, id: &str) -> Option<Nanos> {
        let exact = self.exact.get(id).copied();
        exact.or_else(|| {
            self.patterns.iter().find(|(pattern, _)| matches(pattern, id)).map(|&(_, time)| time)
        })
    }

    fn misfits(&self, ids: &BTreeSet<String>) -> Vec<Problem> {
        let strange = self.exact.keys().filter(|&&key| !ids.contains(key));
        let unmatched = self.patterns.iter().map(|(pattern, _)| pattern);
        let fits = |pattern: &str| ids.iter().any(|id| !id.ends_with(ROOT) && matches(pattern, id));
        let unmatched = unmatched.filter(|pattern| !fits(pattern));
        strange
            .chain(unmatched)
            .map(|&key| {
                let found = format!("{key:?}, which fits no block");
                Problem::new("compute", found, format!("a block id such as {}", nearest(key, ids)))
            })
            .collect()
    }
}

/// The id of what lies outside the lists of a component.
fn root_id(component: &Component) -> String {
    format!("{}{ROOT}", component.name)
}

fn all_ids(manifest: &Manifest) -> BTreeSet<String> {
    let mut ids = BTreeSet::new();
    for component in &manifest.components {
        ids.insert(root_id(component));
        for block in component.blocks(manifest) {
            ids.insert(format!("{}.{}", component.name, block.local_id()));
        }
    }
    ids
}

/// The ids most like a key, for messages.
pub(super) fn nearest(key: &str, ids: &BTreeSet<String>) -> String {
    let mut ranked: Vec<_> = ids.iter().map(|id| (strsim::levenshtein(key, id), id)).collect();
    ranked.sort();
    let names: Vec<&str> = ranked.iter().take(NEAREST).map(|(_, id)| id.as_str()).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        let text = "{format: vramplan/manifest/1, model: m, kinds: {b: {bytes: 1}}, components: \
                    [{name: c, root: {bytes: 0}, blocks: [{list: l, kind: b, count: 12}]}]}";
        Manifest::from_yaml("m", text).expect("a sound manifest")
    }

    fn workload(compute: &str) -> Workload {
        let text = format!(
            "{{format: vramplan/workload/1, passes: 1, reserve: {{context: 0}}, compute: {{{compute}}}}}"
        );
        Workload::from_yaml("w", &text).expect("a sound workload")
    }

    #[test]
    fn an_exact_id_beats_a_pattern_and_a_longer_pattern_a_shorter() {
        let workload = workload("c.*: 1, c.l.*: 2, c.l.1*: 3, c.l.11: 4");
        let given = Given::new(&workload, &manifest()).expect("sound keys");
        let times = ["c.k.0", "c.l.0", "c.l.1", "c.l.10", "c.l.11", "d.l.0"];
        let times: Vec<_> = times.iter().map(|id| given.time(id).map(Nanos::get)).collect();
        assert_eq!(times, [Some(1), Some(2), Some(3), Some(3), Some(4), None]);
    }

    #[test]
    fn only_its_own_key_reaches_the_root() {
        let manifest = manifest();
        let of = |workload: &Workload| {
            let given = Given::new(workload, &manifest).expect("sound keys");
            given.root_time(&manifest.components[0]).map(Nanos::get)
        };
        assert_eq!(of(&workload("c.*: 1")), None);
        assert_eq!(of(&workload("c.*: 1, c.root: 2")), Some(2));
        assert!(Given::new(&workload("c.r*: 1"), &manifest).is_err());
    }

    #[test]
    fn keys_that_fit_nothing_are_refused_together() {
        let workload = workload("c.l.13: 1, c.k.*: 2, c.l.1: 3");
        let error = Given::new(&workload, &manifest()).expect_err("two strange keys");
        let Error::Input { problems, .. } = error else { panic!("{error}") };
        assert_eq!(problems.len(), 2);
        assert_eq!(problems[0].found, "\"c.l.13\", which fits no block");
        assert_eq!(problems[0].expected, "a block id such as c.l.1, c.l.10, c.l.11");
    }
}
