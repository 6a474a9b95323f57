//! Turns a plan's pieces into byte ranges of each block's *image*: the block as one flat string of bytes, its tensors
//! one after another in the manifest's order.
//!
//! ```text
//! image    [ tensor a ][ tensor b ][ tensor c ]          the same for every plan of the model
//! pieces   resident: a, c   streamed: b                  each lies in one stretch of the slab and of host memory,
//! slab     … [ a ][ c ] …  [ b ] …                       so that it moves with one copy
//! ```
//!
//! Policies that bring in parts of a block as units of their own (leaf modules, phases) have uses named after the
//! block and the part. Their bytes are those of the block's image, so that a model has the same bytes under every
//! policy.
//!
//! Without a manifest a use is opaque: its pieces take its image in their order. Its bytes are then the same for
//! every plan of whole blocks, only no tensor is known by name. This is the one place that knows which bytes a piece is.

use std::ops::Range;

use crate::error::{Error, Problem, Result};
use crate::model::{Component, Dtype, Manifest, Phase, TensorSpec, phase_of};
pub use crate::plan::HostMemory;
use crate::plan::{
    BlockPlan, ComponentPlan, Evict, OWN, Part, Piece, Plan, ROOT, Residency, Slice, Unit,
};

/// The blocks of a component, by use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ComponentImage {
    /// The component's name.
    pub component: String,
    /// Its uses in order of execution.
    pub blocks: Vec<BlockImage>,
}

/// The bytes of one use, in the image of its block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockImage {
    /// The block whose image it is: its id without the component, or `root`.
    pub block: String,
    /// The use's size.
    pub bytes: u64,
    /// Its pieces, in the plan's order.
    pub pieces: Vec<PieceImage>,
    /// Its tensors; none where the manifest is not given, or does not say.
    pub tensors: Vec<TensorImage>,
}

/// Which bytes of the image a piece is, and how they travel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PieceImage {
    /// Ranges of the image, which lie one after another in the piece.
    pub ranges: Vec<Range<u64>>,
    /// The host memory that copies come from.
    pub memory: HostMemory,
    /// Equal copies it comes in; 1 for a single one.
    pub copies: u32,
    /// Whether it is copied back to the host when it is evicted.
    pub returns: bool,
}

impl PieceImage {
    /// Its size.
    pub fn bytes(&self) -> u64 {
        self.ranges.iter().map(|range| range.end - range.start).sum()
    }
}

/// A tensor in the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorImage {
    /// Its name inside the block.
    pub name: String,
    /// Its element type.
    pub dtype: Dtype,
    /// Its dimensions, outermost first.
    pub shape: Vec<u64>,
    /// Its bytes.
    pub range: Range<u64>,
    /// Tokens that multiply it in one use; 0 where that is not known.
    pub tokens: u64,
}

/// The images of all blocks of a plan. Fails where the plan's pieces are not those of the manifest.
pub fn images(plan: &Plan, manifest: Option<&Manifest>) -> Result<Vec<ComponentImage>> {
    let mut problems = Vec::new();
    let mut components = Vec::with_capacity(plan.components.len());
    for component in &plan.components {
        let found = manifest.map(|manifest| (manifest, manifest.component(&component.name)));
        let tensors = match found {
            Some((manifest, None)) => {
                let found = format!("no component {:?}", component.name);
                problems.push(Problem::new(&manifest.model, found, "the plan's components"));
                continue;
            }
            Some((manifest, Some(named))) => Some(tensors_of(manifest, named)),
            None => None,
        };
        components.push(image_of(component, tensors.as_deref(), &mut problems));
    }
    match problems.is_empty() {
        true => Ok(components),
        false => Err(Error::Input { file: "the plan against the model".to_owned(), problems }),
    }
}

/// A block of the manifest: its id, its tensors and the phases they are used in.
struct Home<'a> {
    id: String,
    tensors: &'a [TensorSpec],
    phases: &'a [Phase],
}

/// Every block, the root included.
fn tensors_of<'a>(manifest: &'a Manifest, component: &'a Component) -> Vec<Home<'a>> {
    let root = Home { id: ROOT.to_owned(), tensors: component.root.tensors(), phases: &[] };
    let blocks = component.blocks(manifest).into_iter().map(|block| Home {
        id: block.local_id(),
        tensors: block.kind.weights.tensors(),
        phases: &block.kind.phases,
    });
    std::iter::once(root).chain(blocks).collect()
}

fn image_of(
    component: &ComponentPlan,
    manifest: Option<&[Home]>,
    problems: &mut Vec<Problem>,
) -> ComponentImage {
    let mut blocks = Vec::with_capacity(component.blocks.len());
    for used in &component.blocks {
        let (mut home, mut tensors) = (used.block.clone(), Vec::new());
        match manifest.map(|blocks| home_of(used, component.unit, blocks)) {
            Some(Some((id, found))) => (home, tensors) = (id, found),
            Some(None) => {
                let place = format!("{}.{}", component.name, used.block);
                problems.push(Problem::new(place, "no such block in the model", "a block"));
                continue;
            }
            None => {}
        }
        let pieces = pieces_of(&component.name, used, &tensors, problems);
        blocks.push(BlockImage { block: home, bytes: used.bytes.get(), pieces, tensors });
    }
    ComponentImage { component: component.name.clone(), blocks }
}

/// The block that a use is, or is a part of, and the use's tensors in that block's image.
fn home_of(used: &BlockPlan, unit: Unit, blocks: &[Home]) -> Option<(String, Vec<TensorImage>)> {
    let below = |id: &str| used.block.strip_prefix(id)?.strip_prefix('.');
    let part_of = |home: &&Home| home.id == used.block || below(&home.id).is_some();
    // The longest id: of `a.1` and `a.10` only one is followed by a dot, but lists may be named like blocks.
    let home = blocks.iter().filter(part_of).max_by_key(|home| home.id.len());
    let home = home?;
    let id = &home.id;
    let mut tensors = laid_out(home.tensors);
    if let Some(part) = below(id) {
        tensors.retain(|tensor| in_part(&tensor.name, part, unit, home.phases));
    } else if bytes_of(&tensors) > used.bytes.get() {
        // A root in parts keeps its name for the first of them.
        let first = tensors.first().map(|tensor| module(&tensor.name).to_owned());
        tensors.retain(|tensor| Some(module(&tensor.name)) == first.as_deref());
    }
    Some((id.clone(), tensors))
}

fn bytes_of(tensors: &[TensorImage]) -> u64 {
    tensors.iter().map(|tensor| tensor.range.end - tensor.range.start).sum()
}

/// The module of a tensor; empty for the block's own.
fn module(tensor: &str) -> &str {
    tensor.rsplit_once('.').map_or("", |(module, _)| module)
}

/// Whether a tensor belongs to a part of its block: a leaf module, [`OWN`] for the block's own tensors, or a phase.
fn in_part(tensor: &str, part: &str, unit: Unit, phases: &[Phase]) -> bool {
    let number = part.strip_prefix("phase").filter(|_| unit == Unit::Phase);
    match number.and_then(|number| number.parse::<usize>().ok()) {
        Some(phase) => phase_of(phases, tensor) == phase,
        None => module(tensor) == if part == OWN { "" } else { part },
    }
}

/// Tensors one after another.
fn laid_out(specs: &[TensorSpec]) -> Vec<TensorImage> {
    let mut end = 0u64;
    let image = |spec: &TensorSpec| {
        let start = end;
        end = end.saturating_add(spec.bytes().unwrap_or_default().get());
        TensorImage {
            name: spec.name().to_owned(),
            dtype: spec.dtype(),
            shape: spec.shape().to_vec(),
            range: start..end,
            tokens: 0,
        }
    };
    specs.iter().map(image).collect()
}

fn pieces_of(
    component: &str,
    block: &BlockPlan,
    tensors: &[TensorImage],
    problems: &mut Vec<Problem>,
) -> Vec<PieceImage> {
    let place = format!("{component}.{}", block.block);
    let (mut next, mut named) = (0u64, Vec::new());
    let all: Vec<Range<u64>> = tensors.iter().map(|tensor| tensor.range.clone()).collect();
    let mut pieces = Vec::with_capacity(block.pieces.len());
    for piece in &block.pieces {
        let bytes = piece.bytes.get();
        let consecutive = next..next.saturating_add(bytes);
        next = consecutive.end;
        let ranges = match &piece.part {
            Part::Tensors(slices) if !tensors.is_empty() => {
                let ranges: Vec<Range<u64>> = slices
                    .iter()
                    .filter_map(|slice| {
                        let found = sliced(slice, tensors);
                        if found.is_none() {
                            let expected = "a tensor of the block, or rows of one: name[a..b]";
                            let found = format!("{:?}", slice.to_string());
                            problems.push(Problem::new(&place, found, expected));
                        }
                        found
                    })
                    .collect();
                named.extend(ranges.iter().cloned());
                ranges
            }
            // What no other piece names is known once all are read.
            Part::Rest if !tensors.is_empty() => Vec::new(),
            _ if !tensors.is_empty() => all.clone(),
            _ => vec![consecutive],
        };
        pieces.push(travelling(piece, ranges));
    }
    named.sort_by_key(|range| range.start);
    for (image, piece) in pieces.iter_mut().zip(&block.pieces) {
        if piece.part == Part::Rest && !tensors.is_empty() {
            image.ranges = all.iter().flat_map(|range| complement(&named, range)).collect();
        }
        image.ranges = merged(std::mem::take(&mut image.ranges));
        if image.bytes() != piece.bytes.get() {
            let found = format!("a piece of {} bytes", piece.bytes.get());
            let expected = format!("{}, what its tensors have in this model", image.bytes());
            problems.push(Problem::new(&place, found, expected));
        }
    }
    pieces
}

fn travelling(piece: &Piece, ranges: Vec<Range<u64>>) -> PieceImage {
    let memory = piece.home();
    match &piece.residency {
        Residency::Resident => PieceImage { ranges, memory, copies: 1, returns: false },
        Residency::Streamed(stream) => PieceImage {
            ranges,
            memory,
            copies: stream.copies.max(1),
            returns: stream.evict_after != Evict::Use,
        },
    }
}

/// The bytes of a tensor, or of some of its rows; none where it has no such rows.
fn sliced(slice: &Slice, tensors: &[TensorImage]) -> Option<Range<u64>> {
    let tensor = tensors.iter().find(|tensor| tensor.name == slice.tensor)?;
    let Some((from, to)) = slice.rows else { return Some(tensor.range.clone()) };
    let bytes = tensor.range.end - tensor.range.start;
    let all = *tensor.shape.first()?;
    if from >= to || to > all || !bytes.is_multiple_of(all) {
        return None;
    }
    let row = bytes / all;
    Some(tensor.range.start + from * row..tensor.range.start + to * row)
}

/// What sorted ranges leave of one.
fn complement(taken: &[Range<u64>], all: &Range<u64>) -> Vec<Range<u64>> {
    let mut left = Vec::new();
    let mut at = all.start;
    for range in taken.iter().filter(|range| range.start < all.end && range.end > all.start) {
        if range.start > at {
            left.push(at..range.start);
        }
        at = at.max(range.end);
    }
    if at < all.end {
        left.push(at..all.end);
    }
    left
}

/// Ranges that follow each other become one.
fn merged(ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
    let mut merged: Vec<Range<u64>> = Vec::with_capacity(ranges.len());
    for range in ranges.into_iter().filter(|range| !range.is_empty()) {
        match merged.last_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            _ => merged.push(range),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    #![expect(clippy::single_range_in_vec_init, reason = "a list of one range is what is meant")]
    use super::*;
    use crate::units::Bytes;

    fn tensors() -> Vec<TensorImage> {
        let spec = |name: &str, rows| TensorSpec(name.to_owned(), Dtype::Bf16, vec![rows, 4]);
        laid_out(&[spec("a", 2), spec("b", 3), spec("c", 5)])
    }

    fn block(parts: Vec<(Part, u64)>) -> BlockPlan {
        let piece = |(part, bytes): (Part, u64)| Piece::resident(part, Bytes::new(bytes), 0);
        BlockPlan {
            block: "blocks.0".into(),
            bytes: Bytes::new(80),
            compute: crate::units::Nanos::new(1),
            on_link: crate::units::Nanos::ZERO,
            pieces: parts.into_iter().map(piece).collect(),
        }
    }

    fn ranges(parts: Vec<(Part, u64)>, tensors: &[TensorImage]) -> Vec<Vec<Range<u64>>> {
        let mut problems = Vec::new();
        let pieces = pieces_of("c", &block(parts), tensors, &mut problems);
        assert_eq!(problems, vec![]);
        pieces.into_iter().map(|piece| piece.ranges).collect()
    }

    fn names(names: &[&str]) -> Part {
        Part::Tensors(names.iter().map(|name| name.parse().expect("a name")).collect())
    }

    #[test]
    fn named_tensors_and_the_rest_share_the_image() {
        let found = ranges(vec![(names(&["c", "a"]), 56), (Part::Rest, 24)], &tensors());
        assert_eq!(found, [vec![40..80, 0..16], vec![16..40]]);
        let found = ranges(vec![(names(&["a", "b"]), 40), (Part::Rest, 40)], &tensors());
        assert_eq!(found, [vec![0..40], vec![40..80]], "neighbours are one range");
    }

    #[test]
    fn rows_of_a_tensor_are_a_part() {
        let parts = vec![(names(&["b[1..3]", "c[0..1]"]), 24), (Part::Rest, 56)];
        assert_eq!(ranges(parts, &tensors()), [vec![24..48], vec![0..24, 48..80]]);
        let range = |text: &str| sliced(&text.parse().expect("a slice"), &tensors());
        assert_eq!(range("b[..]"), Some(16..40));
        assert_eq!(range("b"), Some(16..40));
        assert_eq!([range("b[0..4]"), range("d[0..1]")], [None, None]);
    }

    #[test]
    fn without_a_manifest_pieces_follow_each_other() {
        let found = ranges(vec![(names(&["c"]), 40), (Part::Rest, 40)], &[]);
        assert_eq!(found, [vec![0..40], vec![40..80]]);
    }

    #[test]
    fn a_piece_of_another_size_is_refused() {
        let mut problems = Vec::new();
        let parts = vec![(names(&["a"]), 17), (Part::Rest, 63)];
        pieces_of("c", &block(parts), &tensors(), &mut problems);
        let found: Vec<String> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].contains("a piece of 17 bytes, expected 16"), "{found:?}");
    }
}
