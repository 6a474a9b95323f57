//! Turns a block's matrices, where they lie in the slab, into the products that one use of it takes.
//!
//! Every two-dimensional weight multiplies an activation of the workload's tokens, in the weight's own element type.
//! Attention, norms and the like are not computed: their operations are in the prediction (see `workload`), not here,
//! so a use takes less time than predicted where attention weighs much. Weights that cannot be multiplied as they are
//! stored (block-quantised, integers) are read once instead, which is what they cost at least.

use std::collections::BTreeMap;
use std::ops::Range;
use std::rc::Rc;

use super::blas::{Blas, Product, Shape, WORKSPACE, multiplies};
use super::compute::Use;
use super::gpu::Gpu;
use super::memory::DeviceMemory;
use super::steps::offset;
use super::stream::Stream;
use crate::error::Result;
use crate::program::Phase;
use crate::program::image::{BlockImage, ComponentImage, TensorImage};

/// The products of a component.
pub(super) struct Gemm {
    products: Vec<Product>,
    activations: DeviceMemory,
    result: DeviceMemory,
    /// By block.
    uses: Vec<Vec<Factor>>,
    /// Device memory that it takes, workspace included.
    pub bytes: u64,
    /// Operations of one pass.
    pub flops: u64,
}

/// A matrix, or rows of one, in a piece.
struct Factor {
    piece: usize,
    /// Its first byte in the piece.
    offset: u64,
    bytes: u64,
    /// Which product; none where it is only read.
    product: Option<usize>,
}

impl Gemm {
    /// Looks up how to multiply everything and allocates activations.
    pub fn new(
        gpu: &Rc<Gpu>,
        blas: &Rc<Blas>,
        phase: &Phase,
        image: &ComponentImage,
    ) -> Result<Self> {
        let mut products = Vec::new();
        let mut known: BTreeMap<Shape, Option<usize>> = BTreeMap::new();
        let mut uses = Vec::with_capacity(image.blocks.len());
        let (mut activations, mut result, mut flops) = (0, 0, 0u64);
        for (n, block) in image.blocks.iter().enumerate() {
            let mut factors = Vec::new();
            for found in matrices(phase, n, block) {
                let mut product = None;
                if let Some(shape) = found.shape {
                    let find = || {
                        let product = blas.product(shape)?;
                        products.push(product);
                        Some(products.len() - 1)
                    };
                    product = *known.entry(shape).or_insert_with(find);
                    if product.is_some() {
                        let (input, output) = shape.bytes();
                        (activations, result) = (input.max(activations), output.max(result));
                        flops = flops.saturating_add(shape.flops());
                    }
                }
                let Found { piece, offset, bytes, .. } = found;
                factors.push(Factor { piece, offset, bytes, product });
            }
            uses.push(factors);
        }
        let input = DeviceMemory::new(gpu, activations)?;
        let output = DeviceMemory::new(gpu, result)?;
        let bytes = activations + result + WORKSPACE;
        let stream = Stream::new(gpu, super::stream::Priority::Least)?;
        // 0x3C3C is about 0.01 as bf16: finite in every type, and not the zeros that save power.
        let all = usize::try_from(activations.max(1)).unwrap_or(usize::MAX);
        stream.fill(input.start(), 0x3C, all)?;
        stream.synchronise()?;
        Ok(Self { products, activations: input, result: output, uses, bytes, flops })
    }

    /// Issues the products of one use.
    pub fn issue(&self, of: Use<'_>) -> Result<()> {
        let Use { with, stream, block, pass } = of;
        for factor in &self.uses[block] {
            let place = &with.phase.places[block][factor.piece];
            let data = with.slab.plus(offset(place, pass) + factor.offset);
            match factor.product.and_then(|product| self.products.get(product)) {
                Some(product) => {
                    product.run(stream, data, self.activations.start(), self.result.start())?;
                }
                None => with.kernels.touch(stream, data, factor.bytes)?,
            }
        }
        Ok(())
    }
}

/// A matrix found in a piece.
struct Found {
    piece: usize,
    offset: u64,
    bytes: u64,
    shape: Option<Shape>,
}

/// The matrices of a block, cut where its pieces cut them.
fn matrices(phase: &Phase, block: usize, image: &BlockImage) -> Vec<Found> {
    let mut found = Vec::new();
    let of_use = |tensor: &&TensorImage| tensor.shape.len() == 2 && tensor.tokens > 0;
    for tensor in image.tensors.iter().filter(of_use) {
        for (piece, of) in image.pieces.iter().enumerate() {
            let mut before = 0;
            for range in &of.ranges {
                let start = range.start.max(tensor.range.start);
                let end = range.end.min(tensor.range.end);
                if start < end {
                    let offset = before + (start - range.start);
                    let at = phase.places[block][piece].at.iter().fold(offset, |all, at| all | at);
                    let alignment = 1u32 << at.trailing_zeros().min(8);
                    let shape = shape(tensor, start..end, alignment);
                    found.push(Found { piece, offset, bytes: end - start, shape });
                }
                before += range.end - range.start;
            }
        }
    }
    found
}

/// The product of a stretch of a matrix; none where it is no whole rows or cannot be multiplied.
fn shape(tensor: &TensorImage, stretch: Range<u64>, alignment: u32) -> Option<Shape> {
    let &[rows, inner] = tensor.shape.as_slice() else { return None };
    let row = (tensor.range.end - tensor.range.start).checked_div(rows)?;
    let whole = |at: u64| (at - tensor.range.start).is_multiple_of(row.max(1));
    if row == 0 || !whole(stretch.start) || !whole(stretch.end) || !multiplies(tensor.dtype) {
        return None;
    }
    let out = (stretch.end - stretch.start) / row;
    Some(Shape { dtype: tensor.dtype, out, inner, tokens: tensor.tokens, alignment })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Dtype;

    #[test]
    fn whole_rows_multiply_and_others_are_read() {
        let tensor = TensorImage {
            name: "w".into(),
            dtype: Dtype::Bf16,
            shape: vec![8, 16],
            range: 100..356,
            tokens: 5,
        };
        let found = shape(&tensor, 132..356, 4).expect("seven rows");
        assert_eq!((found.out, found.inner, found.tokens), (7, 16, 5));
        assert_eq!(found.bytes(), (160, 70));
        assert_eq!(found.flops(), 2 * 7 * 16 * 5);
        assert!(shape(&tensor, 130..356, 2).is_none());
        let packed = TensorImage { dtype: Dtype::U8, ..tensor };
        assert!(shape(&packed, 100..356, 4).is_none());
    }
}
