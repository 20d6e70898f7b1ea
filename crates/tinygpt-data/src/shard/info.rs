//! What is recorded about shards, next to them.

use serde::{Deserialize, Serialize};

/// What `meta.json` says about a shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShardInfo {
    /// The file's name, in the directory of `meta.json`.
    pub file: String,
    /// The number of tokens in it.
    pub n_tokens: u64,
    /// SHA-256 of its ids, in hexadecimal.
    pub sha256: String,
}

/// What a writer has written so far, so that another run can continue after it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WrittenShards {
    /// The complete shards.
    pub(crate) complete: Vec<ShardInfo>,
    /// The last shard, if it has room, with the checksum of the ids in it so far.
    pub(crate) open: Option<ShardInfo>,
}

impl WrittenShards {
    /// All of them, in order.
    pub(crate) fn all(&self) -> impl Iterator<Item = &ShardInfo> {
        self.complete.iter().chain(&self.open)
    }
}
