//! What one thread reads of a quantised model's weights, as 8-bit numbers of its own: its rows of every
//! matrix, rounded block by block from its first input on, and its share of the vocabulary.

use std::ops::Range;

use tinygpt_kernels::quantized::ByteMatrix;

use crate::params::ModelParts;

/// The matrices of one block.
#[derive(Debug)]
pub(super) struct BlockBytes {
    pub(super) c_attn: ByteMatrix,
    pub(super) attn_c_proj: ByteMatrix,
    pub(super) c_fc: ByteMatrix,
    pub(super) mlp_c_proj: ByteMatrix,
}

/// All that one thread reads in a step.
#[derive(Debug)]
pub(super) struct Bytes {
    pub(super) blocks: Vec<BlockBytes>,
    /// Its share of the vocabulary.
    pub(super) table: ByteMatrix,
}

/// Which rows of the matrices a thread reads.
pub(super) struct Share {
    pub(super) inputs: Range<usize>,
    /// Channels of its heads.
    pub(super) channels: Range<usize>,
    pub(super) hidden: Range<usize>,
    pub(super) vocab: Range<usize>,
}

impl Bytes {
    /// Rounds a thread's share of a model of width `c`.
    pub(super) fn of(weights: &ModelParts<&[f32]>, c: usize, share: &Share) -> Self {
        let rows = |w: &[f32], rows: &Range<usize>, m: usize| {
            ByteMatrix::from_matrix(&w[rows.start * m..rows.end * m], m)
        };
        let blocks = weights.blocks.iter().map(|block| BlockBytes {
            c_attn: rows(block.c_attn.weight, &share.inputs, 3 * c),
            attn_c_proj: rows(block.attn_c_proj.weight, &share.channels, c),
            c_fc: rows(block.c_fc.weight, &share.inputs, 4 * c),
            mlp_c_proj: rows(block.mlp_c_proj.weight, &share.hidden, c),
        });
        let table = &weights.wte[share.vocab.start * c..share.vocab.end * c];
        Self { blocks: blocks.collect(), table: ByteMatrix::from_table(table, c) }
    }
}
