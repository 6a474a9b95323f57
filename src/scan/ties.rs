//! Turns tensors that share their bytes into one each: tied by the class, or by their place in the file.

use std::collections::{BTreeMap, BTreeSet};

use super::classes::{Rule, TIED_EMBEDDINGS};
use super::natural;
use super::stored::{FoundComponent, Stored};

/// The tensors of a component without those that are another one, and the names left out, in natural order.
pub fn drop_tied<'a>(
    component: &'a FoundComponent,
    rule: Option<&Rule>,
) -> (Vec<&'a Stored>, Vec<&'a str>) {
    let mut dropped = tied_by_name(component, rule);
    let mut order: Vec<&Stored> =
        component.tensors.iter().filter(|tensor| !dropped.contains(tensor.spec.name())).collect();
    order.sort_by(|a, b| natural::compare(a.spec.name(), b.spec.name()));
    let mut places = BTreeSet::new();
    let mut kept = Vec::with_capacity(order.len());
    for tensor in order {
        let place = (tensor.file, tensor.range.start, tensor.range.end);
        if tensor.range.is_empty() || places.insert(place) {
            kept.push(tensor);
        } else {
            dropped.insert(tensor.spec.name());
        }
    }
    let mut dropped: Vec<&str> = dropped.into_iter().collect();
    dropped.sort_by(|a, b| natural::compare(a, b));
    (kept, dropped)
}

fn tied_by_name<'a>(component: &'a FoundComponent, rule: Option<&Rule>) -> BTreeSet<&'a str> {
    let by_name: BTreeMap<&str, &Stored> =
        component.tensors.iter().map(|tensor| (tensor.spec.name(), tensor)).collect();
    let by_class = rule.map_or(&[][..], |rule| rule.tied);
    let embeddings = if component.tied_embeddings { TIED_EMBEDDINGS } else { &[] };
    let mut dropped = BTreeSet::new();
    for (name, kept) in by_class.iter().chain(embeddings) {
        let (Some(tensor), Some(kept)) = (by_name.get(name), by_name.get(kept)) else { continue };
        let alike = |t: &Stored| (t.spec.dtype(), t.spec.shape().to_vec());
        if alike(tensor) == alike(kept) {
            dropped.insert(tensor.spec.name());
        }
    }
    dropped
}
