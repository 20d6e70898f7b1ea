//! Token shards: files of ids with a header.
//!
//! A split of a dataset is one or more shards, `train-00000.bin`, `train-00001.bin` and so on.
//! [`writer`] makes them, [`reader`] checks them, [`TokenDataset`] reads several as one.

mod file;
mod header;
mod reader;
#[cfg(test)]
mod tests;
mod writer;

pub use reader::TokenDataset;
pub use writer::ShardInfo;
pub(crate) use writer::{Packed, SHARD_TOKENS, ShardWriter, WrittenShards};
