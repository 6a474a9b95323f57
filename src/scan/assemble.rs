//! Turns a checkpoint and the user's choices into a manifest, equal blocks stated once.

use std::collections::{BTreeMap, BTreeSet};

use super::classes::{self, Rule};
use super::lists::{self, Cut, Wanted};
use super::order::{self, Place};
use super::stored::{Checkpoint, FoundComponent};
use super::ties;
use crate::error::{Error, Result};
use crate::model::{
    Component, Dtype, Kind, MANIFEST_FORMAT, Manifest, Segment, TensorSpec, Weights, phases_told_by,
};

/// What the user decides instead of us. The default decides nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Choices {
    /// Block lists in order of execution, by path or by `component.path`; others follow.
    pub order: Vec<String>,
    /// The paths that are block lists, and no others, in every component that has one of them.
    pub lists: Vec<String>,
    /// The model's name.
    pub name: Option<String>,
}

/// A name among the [`Choices`] that nothing of the checkpoint has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownName {
    /// What it should be: a block list.
    pub what: &'static str,
    /// The name asked for.
    pub name: String,
    /// The names that exist, sorted.
    pub known: Vec<String>,
}

/// A manifest and what the user should know about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scanned {
    /// The manifest.
    pub manifest: Manifest,
    /// Tensors left out because they are another one, by component.
    pub tied: BTreeMap<String, Vec<String>>,
    /// Guesses that were made.
    pub warnings: Vec<String>,
}

/// A component cut up, before its blocks have kinds.
struct Draft<'a> {
    found: &'a FoundComponent,
    rule: Option<&'static Rule>,
    cut: Cut,
    places: Vec<Place>,
    tied: Vec<&'a str>,
    warnings: Vec<String>,
}

impl Checkpoint {
    /// The first chosen name that does not exist. [`manifest`](Self::manifest) refuses it too; this tells more.
    pub fn unknown_name(&self, choices: &Choices) -> Option<UnknownName> {
        if choices.order.is_empty() && choices.lists.is_empty() {
            return None;
        }
        let mut known = BTreeSet::new();
        for component in &self.components {
            let names = component.tensors.iter().map(|tensor| tensor.spec.name());
            known.extend(
                lists::possible(names).into_iter().map(|p| (&component.name, p.to_owned())),
            );
        }
        let missing = |names: &[String], known: &BTreeSet<(&String, String)>| {
            let exists = |name: &String| {
                known.iter().any(|(component, path)| order::local(component, name) == path)
            };
            let name = names.iter().find(|name| !exists(name))?.clone();
            let paths: BTreeSet<&String> = known.iter().map(|(_, path)| path).collect();
            let known = paths.into_iter().cloned().collect();
            Some(UnknownName { what: "block list", name, known })
        };
        if let Some(unknown) = missing(&choices.lists, &known) {
            return Some(unknown);
        }
        let mut known = BTreeSet::new();
        for component in &self.components {
            let cut = Draft::new(component, choices).cut;
            known.extend(cut.lists.into_iter().map(|list| (&component.name, list.path)));
        }
        missing(&choices.order, &known).or_else(|| missing(&choices.lists, &known))
    }

    /// Cuts the components into blocks, orders them and states equal blocks once.
    pub fn manifest(&self, choices: &Choices) -> Result<Scanned> {
        if let Some(UnknownName { what, name, known }) = self.unknown_name(choices) {
            let known = known.join(", ");
            return Err(Error::usage(format!("no {what} {name:?} in {}: {known}", self.path)));
        }
        let drafts: Vec<Draft> =
            self.components.iter().map(|found| Draft::new(found, choices)).collect();
        let kinds = Kinds::of(&drafts);
        let components = drafts.iter().enumerate().map(|(n, draft)| draft.component(n, &kinds));
        let manifest = Manifest {
            format: MANIFEST_FORMAT.to_owned(),
            model: choices.name.clone().unwrap_or_else(|| self.name.clone()),
            pipeline: self.pipeline.clone(),
            components: components.collect(),
            kinds: kinds.into_map(&drafts),
        };
        let problems = manifest.validate();
        if let (Some(problem), false) = (problems.first(), choices.order.is_empty()) {
            return Err(Error::usage(format!("the order chosen does not fit: {problem}")));
        }
        if !problems.is_empty() {
            return Err(Error::Input { file: self.path.clone(), problems });
        }
        let mut warnings = self.warnings.clone();
        let mut tied = BTreeMap::new();
        for draft in drafts {
            warnings.extend(draft.warnings);
            let names = draft.tied.into_iter().map(str::to_owned).collect();
            tied.insert(draft.found.name.clone(), names);
        }
        Ok(Scanned { manifest, tied, warnings })
    }
}

impl<'a> Draft<'a> {
    fn new(found: &'a FoundComponent, choices: &Choices) -> Self {
        let class = found.class.as_deref();
        let rule = class.and_then(|class| classes::rule(class, found.gguf));
        let (tensors, tied) = ties::drop_tied(found, rule);
        let names: BTreeSet<&str> =
            lists::possible(tensors.iter().map(|tensor| tensor.spec.name()));
        let asked = choices.lists.iter().map(|name| order::local(&found.name, name));
        let asked: BTreeSet<&str> = asked.filter(|path| names.contains(path)).collect();
        let by_class: BTreeSet<&str> = rule.into_iter().flat_map(Rule::paths).collect();
        let wanted = match asked.is_empty() {
            true => Wanted::Detected(&by_class),
            false => Wanted::Only(&asked),
        };
        let (cut, gaps) = lists::cut(&tensors, wanted);
        let (places, mut warnings) =
            order::sequence(&found.name, class, rule, &cut.lists, &choices.order);
        warnings.extend(gaps.into_iter().map(|path| {
            format!("{}: blocks of {path} are missing; it counts as root", found.name)
        }));
        Self { found, rule, cut, places, tied, warnings }
    }

    fn component(&self, number: usize, kinds: &Kinds) -> Component {
        let mut blocks: Vec<Segment> = Vec::new();
        for &place in &self.places {
            let list = &self.cut.lists[place.0].path;
            let kind = &kinds.names[kinds.by_place[&(number, place)]];
            match blocks.last_mut().filter(|last| last.list == *list && last.kind == *kind) {
                Some(last) => last.count += 1,
                None => {
                    blocks.push(Segment { list: list.clone(), kind: kind.clone(), count: 1 });
                }
            }
        }
        let skips = self.rule.is_some_and(|rule| rule.long_skips);
        Component {
            name: self.found.name.clone(),
            class: self.found.class.clone(),
            root: Weights::Tensors(self.cut.root.clone()),
            blocks,
            edges: if skips { order::long_skips(&self.cut.lists) } else { Vec::new() },
        }
    }
}

/// What makes two blocks equal.
type Shape<'a> = Vec<(&'a str, Dtype, &'a [u64])>;

/// A list of a component, by their numbers.
type Home = (usize, usize);

/// Kinds of block, numbered by first appearance.
struct Kinds {
    /// The names, by number.
    names: Vec<String>,
    /// Where the first block of each kind is.
    first: Vec<(usize, Place)>,
    /// The kind of every block: component, then place.
    by_place: BTreeMap<(usize, Place), usize>,
}

impl Kinds {
    fn of(drafts: &[Draft]) -> Self {
        let mut numbers: BTreeMap<Shape, usize> = BTreeMap::new();
        let mut first = Vec::new();
        let mut by_place = BTreeMap::new();
        let mut homes: Vec<BTreeMap<Home, usize>> = Vec::new();
        for (component, draft) in drafts.iter().enumerate() {
            for &place in &draft.places {
                let tensors = &draft.cut.lists[place.0].blocks[place.1];
                let kind = *numbers.entry(shape(tensors)).or_insert_with(|| {
                    first.push((component, place));
                    homes.push(BTreeMap::new());
                    first.len() - 1
                });
                by_place.insert((component, place), kind);
                *homes[kind].entry((component, place.0)).or_default() += 1;
            }
        }
        // A kind is named after the list that has most of its blocks, the first of several.
        let most = |counts: &BTreeMap<Home, usize>| {
            let best = counts.iter().rev().max_by_key(|&(_, count)| count);
            best.map_or((0, 0), |(&home, _)| home)
        };
        let homes: Vec<Home> = homes.iter().map(most).collect();
        Self { names: kind_names(drafts, &homes), first, by_place }
    }

    fn into_map(self, drafts: &[Draft]) -> BTreeMap<String, Kind> {
        let kind = |(name, (component, place)): (String, (usize, Place))| {
            let draft = &drafts[component];
            let list = &draft.cut.lists[place.0];
            let class = draft.rule.and_then(|rule| rule.block_class(&list.path));
            let tensors = list.blocks[place.1].clone();
            let phases = phases_told_by(&tensors);
            let weights = Weights::Tensors(tensors);
            (name, Kind { class: class.map(str::to_owned), weights, phases })
        };
        self.names.into_iter().zip(self.first).map(kind).collect()
    }
}

fn shape(tensors: &[TensorSpec]) -> Shape<'_> {
    tensors.iter().map(|tensor| (tensor.name(), tensor.dtype(), tensor.shape())).collect()
}

/// Names kinds after their lists: the path's last part where no other list claims it, else the path, else the
/// component and the path; `.a`, `.b` … where a list has several.
fn kind_names(drafts: &[Draft], homes: &[Home]) -> Vec<String> {
    let path = |&(component, list): &Home| drafts[component].cut.lists[list].path.as_str();
    let spellings = |home: &Home| {
        let path = path(home);
        let last = path.rsplit('.').next().unwrap_or(path).to_owned();
        [last, path.to_owned(), format!("{}.{path}", drafts[home.0].found.name)]
    };
    let distinct: BTreeSet<&Home> = homes.iter().collect();
    let mut claims: BTreeMap<String, BTreeSet<&Home>> = BTreeMap::new();
    for &home in &distinct {
        for spelling in spellings(home) {
            claims.entry(spelling).or_default().insert(home);
        }
    }
    let base = |home: &Home| {
        let [last, path, full] = spellings(home);
        let free = [last, path].into_iter().find(|name| claims[name].len() == 1);
        free.unwrap_or(full)
    };
    let mut counts: BTreeMap<Home, usize> = BTreeMap::new();
    let named = homes.iter().map(|home| {
        let count = counts.entry(*home).or_default();
        *count += 1;
        (base(home), *count)
    });
    let named: Vec<(String, usize)> = named.collect();
    let several = |home: &Home| counts.get(home).is_some_and(|&count| count > 1);
    let names = named.into_iter().zip(homes).map(|((base, number), home)| match several(home) {
        true => format!("{base}.{}", letters(number)),
        false => base,
    });
    unique(names.collect())
}

/// a, b, … z, aa, ab …
fn letters(mut number: usize) -> String {
    let mut text = Vec::new();
    while number > 0 {
        let digit = u8::try_from((number - 1) % 26).unwrap_or(0);
        text.push(char::from(b'a' + digit));
        number = (number - 1) / 26;
    }
    text.into_iter().rev().collect()
}

/// A path may look like another's name with a letter; then a number tells them apart.
fn unique(names: Vec<String>) -> Vec<String> {
    let mut taken = BTreeSet::new();
    let mut result = Vec::with_capacity(names.len());
    for name in names {
        let spellings = (2u64..).map(|n| format!("{name}.{n}"));
        let free = std::iter::once(name.clone()).chain(spellings).find(|n| !taken.contains(n));
        let free = free.unwrap_or(name);
        taken.insert(free.clone());
        result.push(free);
    }
    result
}
