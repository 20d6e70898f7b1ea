//! The tiles of the attention kernels for tensor cores.

/// How products are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Products {
    Bf16,
    Tf32,
    /// Fused multiply-adds in f32.
    Exact,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pass {
    Forward,
    Keys,
    Queries,
}

/// The tiles of a kernel for tensor cores, as `kernels/attention.cuh` and `attention_backward.cuh` name them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tiles {
    /// Strips of 16 rows that a warp owns.
    pub(crate) row_tiles: usize,
    /// Rows of the tiles that a block walks along.
    pub(crate) columns: usize,
    /// Own operands that stay in shared memory.
    pub(crate) resident: usize,
    /// Blocks that are to run on a multiprocessor at the same time, which bounds the registers.
    pub(crate) min_blocks: usize,
}

/// Warps of a block, as in the kernels.
pub(crate) const WARPS: usize = 4;

impl Tiles {
    /// Chosen by what the compiler makes of them: as many rows a warp as leave no register spilled, since
    /// each fragment of a tile then feeds more products.
    pub(crate) fn new(products: Products, pass: Pass, head_dim: usize, is_roomy: bool) -> Self {
        let is_small = head_dim <= 64;
        let (row_tiles, columns, resident, min_blocks) = match (products, pass) {
            (Products::Bf16, Pass::Forward) => (if is_small { 2 } else { 1 }, 64, 0, 2),
            (Products::Bf16, Pass::Keys) if is_small && is_roomy => (2, 64, 1, 2),
            (Products::Bf16, Pass::Keys) if is_small => (2, 32, 2, 2),
            (Products::Bf16, Pass::Keys) => (1, 32, 1, 2),
            (Products::Bf16, Pass::Queries) if is_small => (2, 64, 0, 2),
            (Products::Bf16, Pass::Queries) => (1, if is_roomy { 64 } else { 32 }, 0, 2),
            (_, Pass::Forward) => (1, 32, 0, if is_small { 3 } else { 2 }),
            (_, Pass::Keys) if is_small => (1, 32, 1, 2),
            (_, Pass::Queries) if is_small => (1, 32, 0, 2),
            (_, Pass::Keys | Pass::Queries) => (1, 16, 2, 2),
        };
        Self { row_tiles, columns, resident, min_blocks }
    }

    pub(crate) fn rows(&self) -> usize {
        16 * self.row_tiles * WARPS
    }

    /// Dynamic shared memory, without what a kernel adds.
    pub(crate) fn shared_bytes(&self, row_bytes: usize) -> usize {
        (self.resident * self.rows() + 4 * self.columns) * row_bytes
    }

    pub(crate) fn defines(&self) -> [(&'static str, u32); 4] {
        [
            ("ROW_TILES", self.row_tiles as u32),
            ("COLUMNS", self.columns as u32),
            ("RESIDENT", self.resident as u32),
            ("MIN_BLOCKS", self.min_blocks as u32),
        ]
    }
}
