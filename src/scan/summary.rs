//! Turns a scan into the figures that people and programs ask for.

use serde::Serialize;

use super::assemble::Scanned;
use crate::model::{Component, Manifest};
use crate::units::Bytes;

/// What a scan found, as `scan` answers it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// The model's name.
    pub model: String,
    /// The pipeline's class, where it is one.
    pub pipeline: Option<String>,
    /// The components in the order of the pipeline.
    pub components: Vec<ComponentSummary>,
    /// Guesses that were made.
    pub warnings: Vec<String>,
}

/// A component's figures; `root_bytes` and the lists' bytes add up to `total_bytes`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ComponentSummary {
    /// Its name.
    pub name: String,
    /// Its class, where known.
    pub class: Option<String>,
    /// Tensors, tied ones once.
    pub tensor_count: u64,
    /// All its bytes.
    pub total_bytes: u64,
    /// The bytes outside its lists.
    pub root_bytes: u64,
    /// Its block lists, by first block in order of execution.
    pub lists: Vec<ListSummary>,
    /// Tensors left out because they are another one.
    pub tied: Vec<String>,
}

/// A block list's figures.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ListSummary {
    /// Its path inside the component.
    pub path: String,
    /// Its blocks.
    pub count: u64,
    /// The bytes of each block, by index.
    pub bytes: Vec<u64>,
}

impl Summary {
    /// The figures of a scan.
    pub fn of(scanned: &Scanned) -> Self {
        let Scanned { manifest, tied, warnings } = scanned;
        let component = |component: &Component| ComponentSummary {
            tied: tied.get(&component.name).cloned().unwrap_or_default(),
            ..summarize(component, manifest)
        };
        Self {
            model: manifest.model.clone(),
            pipeline: manifest.pipeline.clone(),
            components: manifest.components.iter().map(component).collect(),
            warnings: warnings.clone(),
        }
    }

    /// A table of at most 80 columns, unless names are longer.
    pub fn table(&self) -> String {
        let pipeline = self.pipeline.as_ref().map(|class| format!(" ({class})"));
        let total = self.components.iter().map(|component| component.total_bytes).sum();
        let mut text = format!(
            "{}{}: {} in {} tensors\n",
            self.model,
            pipeline.unwrap_or_default(),
            exact(total),
            self.components.iter().map(|component| component.tensor_count).sum::<u64>()
        );
        for component in &self.components {
            text.push('\n');
            text.push_str(&component.table());
        }
        text
    }
}

fn summarize(component: &Component, manifest: &Manifest) -> ComponentSummary {
    let mut lists: Vec<ListSummary> = Vec::new();
    for block in component.blocks(manifest) {
        let bytes = block.bytes().get();
        match lists.iter_mut().find(|list| list.path == block.list) {
            Some(list) => {
                list.count += 1;
                list.bytes.push(bytes);
            }
            None => {
                let path = block.list.to_owned();
                lists.push(ListSummary { path, count: 1, bytes: vec![bytes] });
            }
        }
    }
    ComponentSummary {
        name: component.name.clone(),
        class: component.class.clone(),
        tensor_count: component.tensor_count(manifest),
        total_bytes: component.total_bytes(manifest).get(),
        root_bytes: component.root.bytes().get(),
        lists,
        tied: Vec::new(),
    }
}

impl ComponentSummary {
    fn table(&self) -> String {
        let class = self.class.as_ref().map(|class| format!(" {class}")).unwrap_or_default();
        let mut text = format!(
            "{}{class}\n  {:<35} {:>6} {:>12} {:>9} {:>11}\n",
            self.name, "", "blocks", "each", "size", "bytes"
        );
        let mut row = |name: &str, blocks: &str, each: &str, bytes: u64| {
            let size = Bytes::new(bytes).human();
            let line = format!("  {name:<33} {blocks:>6} {each:>12} {size:>10} {bytes:>12}");
            text.push_str(line.trim_end());
            text.push('\n');
        };
        row("root", "", "", self.root_bytes);
        for list in &self.lists {
            let most = list.bytes.iter().copied().max().unwrap_or(0);
            let equal = list.bytes.iter().all(|&bytes| bytes == most);
            let each = Bytes::new(most).human();
            let each = if equal { each } else { format!("<= {each}") };
            row(&list.path, &list.count.to_string(), &each, list.bytes.iter().sum());
        }
        row(&format!("total, {} tensors", self.tensor_count), "", "", self.total_bytes);
        text
    }
}

/// `22.2 GiB (23802816640 bytes)`.
fn exact(bytes: u64) -> String {
    format!("{} ({bytes} bytes)", Bytes::new(bytes).human())
}
