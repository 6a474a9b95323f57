//! Turns a shard index (`*.safetensors.index.json`) into its shards, refusing files outside their folder.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::folder::{self, Folder};
use super::json::{self, UniqueMap, Within};
use super::stored::{Problems, Stored, check_count, tensor_place};
use crate::error::Result;

/// What an index says: which shard holds which tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    /// The shards' names, sorted.
    pub shards: Vec<String>,
    /// The number of the shard that holds a tensor, by the tensor's name.
    pub placed: BTreeMap<String, usize>,
}

#[derive(Deserialize)]
#[serde(expecting = "an object with a weight_map")]
struct Fields {
    weight_map: UniqueMap<String>,
}

/// Reads an index. `file` is only for messages.
pub fn read_index(file: &str, bytes: &[u8]) -> Result<Index> {
    let fields: Fields = json::parse(file, Within::File, bytes)?;
    let UniqueMap(entries) = fields.weight_map;
    check_count(file, "weight_map", entries.len() as u64)?;
    let mut shards: BTreeMap<&str, usize> = BTreeMap::new();
    let mut problems = Problems::default();
    for (tensor, shard) in &entries {
        if shards.insert(shard, 0).is_none()
            && let Some(expected) = refusal(shard)
        {
            let found = format!("file {:?}", shard.chars().take(200).collect::<String>());
            problems.add(format!("weight_map {}", tensor_place(tensor)), found, expected);
        }
    }
    problems.finish(file)?;
    for (number, slot) in shards.values_mut().enumerate() {
        *slot = number;
    }
    let names = shards.keys().map(|&name| name.to_owned()).collect();
    let placed = entries.iter().map(|(tensor, shard)| (tensor.clone(), shards[shard.as_str()]));
    let placed = placed.collect();
    Ok(Index { shards: names, placed })
}

/// What a shard's name should be instead, where it may not stand in an index.
fn refusal(shard: &str) -> Option<&'static str> {
    let parts = || shard.split('/');
    let outside =
        shard.contains(['\\', ':', '\0']) || parts().any(|p| matches!(p, "" | "." | ".."));
    if outside {
        return Some("a file of the index's own folder, by a plain relative path");
    }
    (!shard.ends_with(".safetensors")).then_some("a .safetensors file")
}

/// Reads the shards of an index that stands in `inside`; the tensors' `file` counts the shards.
pub fn read_shards(
    source: &dyn Folder,
    inside: &str,
    index_path: &str,
    index: &Index,
) -> Result<Vec<Stored>> {
    let file = source.shown(index_path);
    let mut problems = Problems::default();
    let mut tensors = Vec::new();
    for (number, shard) in index.shards.iter().enumerate() {
        let path = folder::join(inside, shard);
        let opened = match source.open(&path) {
            Ok(opened) => opened,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let found = format!("file {shard:?}, which is not there");
                problems.add("weight_map", found, "a file of the index's own folder");
                continue;
            }
            Err(error) => return Err(folder::unreadable(source, &path, error)),
        };
        let stored = super::safetensors::read_header(&source.shown(&path), opened)?;
        tensors.extend(stored.into_iter().map(|tensor| Stored { file: number, ..tensor }));
        check_count(&file, "shards", tensors.len() as u64)?;
    }
    problems.finish(&file)?;
    let mut problems = Problems::default();
    check_placement(index, &tensors, &mut problems);
    problems.finish(&file)?;
    Ok(tensors)
}

/// Refuses tensors that the shards hold elsewhere than the index says, twice, or not at all.
fn check_placement(index: &Index, tensors: &[Stored], problems: &mut Problems) {
    let mut held: BTreeMap<&str, usize> = BTreeMap::new();
    for tensor in tensors {
        let name = tensor.spec.name();
        let shard = &index.shards[tensor.file];
        if let Some(other) = held.insert(name, tensor.file) {
            let found = format!("it in {:?} and in {shard:?}", index.shards[other]);
            problems.add(tensor_place(name), found, "one shard that holds it");
        } else if !index.placed.contains_key(name) {
            problems.add(tensor_place(name), format!("it in {shard:?}"), "a line in weight_map");
        }
    }
    for (name, &number) in &index.placed {
        let shard = &index.shards[number];
        match held.get(name.as_str()) {
            None => {
                problems.add(tensor_place(name), "no shard that holds it", format!("{shard:?}"))
            }
            Some(&other) if other != number => {
                let found = format!("it in {:?}", index.shards[other]);
                problems.add(tensor_place(name), found, format!("{shard:?}, as weight_map says"));
            }
            Some(_) => {}
        }
    }
}
