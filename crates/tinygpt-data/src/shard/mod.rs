//! Token shards: files of ids with a header.
//!
//! A split of a dataset is one or more shards, `train-00000.bin`, `train-00001.bin` and so on.
//! [`writer`] makes them, [`reader`] checks them, [`TokenDataset`] reads several as one.

mod file;
mod header;
mod info;
mod reader;
#[cfg(test)]
mod tests;
mod writer;

pub use info::ShardInfo;
pub(crate) use info::WrittenShards;
pub use reader::TokenDataset;
pub(crate) use writer::{Packed, SHARD_TOKENS, ShardWriter};
