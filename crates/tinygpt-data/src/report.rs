//! What is in a prepared dataset: counts, lengths, duplicates and tokens, from its shards alone.
//!
//! Nothing is prepared again, and the text is not needed. This file counts; the binaries
//! format the report.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use crate::error::DataError;
use crate::prepared::Prepared;
use crate::shard::TokenDataset;

/// How many tokens are read from the shards at once.
const CHUNK_TOKENS: usize = 1 << 16;

/// How many of the most frequent tokens are listed.
const N_FREQUENT: usize = 20;

/// What is in a prepared dataset.
#[derive(Debug, Clone, PartialEq)]
pub struct DatasetReport {
    /// The training split.
    pub train: SplitReport,
    /// The validation split.
    pub val: SplitReport,
    /// The fraction of validation documents that are also training documents, token for token.
    pub val_in_train: f64,
    /// How many tokens of the vocabulary the training split uses.
    pub n_used_tokens: usize,
    /// The most frequent tokens of the training split.
    pub frequent: Vec<FrequentToken>,
}

/// What is in one split.
#[derive(Debug, Clone, PartialEq)]
pub struct SplitReport {
    /// The number of documents.
    pub n_documents: u64,
    /// The number of tokens, `<|endoftext|>` included.
    pub n_tokens: u64,
    /// Bytes of text per token.
    pub bytes_per_token: f64,
    /// The share of the tokens that are only a part of a character.
    pub fallback_rate: f64,
    /// The fraction of documents that equal an earlier one, token for token.
    pub duplicate_share: f64,
    /// The lengths of the documents.
    pub lengths: Lengths,
}

/// The lengths of documents, in tokens without `<|endoftext|>`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Lengths {
    /// How many documents have each length, in buckets: `counts[i]` counts lengths from
    /// `Lengths::start(i)` up to the next start.
    pub counts: Vec<u64>,
    /// The shortest.
    pub min: u64,
    /// The median.
    pub median: u64,
    /// The longest.
    pub max: u64,
    /// The mean.
    pub mean: f64,
}

impl Lengths {
    /// The first length of bucket `idx`: 0, 1, 2, 3, 4, 6, 8, 12, 16, … two to an octave.
    pub fn start(idx: usize) -> u64 {
        match idx {
            0 | 1 => idx as u64,
            _ if idx.is_multiple_of(2) => 1 << (idx / 2),
            _ => 3 << (idx / 2 - 1),
        }
    }

    /// The bucket of a length.
    fn bucket(length: u64) -> usize {
        if length < 2 {
            return usize::from(length == 1);
        }
        let octave = length.ilog2() as usize;
        2 * octave + usize::from(length >= 3 << (octave - 1))
    }

    fn of(lengths: &mut [u64]) -> Self {
        let mut counts = vec![0; lengths.iter().map(|&l| Self::bucket(l) + 1).max().unwrap_or(0)];
        for &length in &*lengths {
            counts[Self::bucket(length)] += 1;
        }
        let middle = lengths.len().saturating_sub(1) / 2;
        let median = (!lengths.is_empty()).then(|| *lengths.select_nth_unstable(middle).1);
        Self {
            min: lengths.iter().copied().min().unwrap_or(0),
            max: lengths.iter().copied().max().unwrap_or(0),
            median: median.unwrap_or(0),
            mean: lengths.iter().sum::<u64>() as f64 / lengths.len().max(1) as f64,
            counts,
        }
    }
}

/// A token that occurs often.
#[derive(Debug, Clone, PartialEq)]
pub struct FrequentToken {
    /// Its text, quoted, with what cannot be printed escaped.
    pub text: String,
    /// Its share of all tokens.
    pub share: f64,
}

impl DatasetReport {
    /// Reads the shards of a preparation once.
    ///
    /// # Errors
    /// [`DataError`] as reading a [`TokenDataset`] gives it.
    pub fn of(prepared: &Prepared) -> Result<Self, DataError> {
        let train = Counted::of(prepared, &prepared.train)?;
        let val = Counted::of(prepared, &prepared.val)?;
        let n_leaked = val.stories.iter().filter(|s| train.stories.binary_search(s).is_ok());
        let val_in_train = share(n_leaked.count() as u64, val.stories.len() as u64);
        let mut order: Vec<usize> = (0..train.token_counts.len()).collect();
        order.sort_by_key(|&id| (std::cmp::Reverse(train.token_counts[id]), id));
        let n_tokens = prepared.meta.train.n_tokens;
        let frequent = order.iter().take(N_FREQUENT).filter(|&&id| train.token_counts[id] > 0);
        let frequent = frequent.map(|&id| FrequentToken {
            text: prepared.tokenizer.token_text(u32::try_from(id).unwrap_or(u32::MAX)),
            share: share(train.token_counts[id], n_tokens),
        });
        Ok(Self {
            val_in_train,
            n_used_tokens: train.token_counts.iter().filter(|&&count| count > 0).count(),
            frequent: frequent.collect(),
            train: train.report(prepared, prepared.meta.train.bytes_per_token()),
            val: val.report(prepared, prepared.meta.val.bytes_per_token()),
        })
    }
}

/// The counts of one split.
struct Counted {
    /// How often each token occurs.
    token_counts: Vec<u64>,
    lengths: Vec<u64>,
    /// A 64-bit hash of each document, sorted: among ten million documents, two different ones are taken
    /// for equal with a chance of 3 in a million.
    stories: Vec<u64>,
}

impl Counted {
    fn of(prepared: &Prepared, stream: &TokenDataset) -> Result<Self, DataError> {
        let eot_id = prepared.tokenizer.eot_id();
        let mut token_counts = vec![0; prepared.tokenizer.vocab_size()];
        let (mut lengths, mut stories) = (Vec::new(), Vec::new());
        let (mut hash, mut length) = (DefaultHasher::new(), 0);
        let mut chunk = vec![0; CHUNK_TOKENS];
        let mut start = 0;
        while start < stream.len() {
            let n = CHUNK_TOKENS.min(stream.len() - start);
            let chunk = &mut chunk[..n];
            stream.read(start, chunk)?;
            start += n;
            for &id in &*chunk {
                token_counts[id as usize] += 1;
                if id == eot_id {
                    lengths.push(std::mem::take(&mut length));
                    stories.push(std::mem::take(&mut hash).finish());
                } else {
                    id.hash(&mut hash);
                    length += 1;
                }
            }
        }
        // A text cut by position ends without `<|endoftext|>`.
        if length > 0 {
            lengths.push(length);
            stories.push(hash.finish());
        }
        stories.sort_unstable();
        Ok(Self { token_counts, lengths, stories })
    }

    fn report(mut self, prepared: &Prepared, bytes_per_token: f64) -> SplitReport {
        let n_tokens = self.token_counts.iter().sum();
        let is_fallback =
            |id: usize| prepared.tokenizer.is_fallback(u32::try_from(id).unwrap_or(u32::MAX));
        let n_fallback = self
            .token_counts
            .iter()
            .enumerate()
            .filter(|&(id, &count)| count > 0 && is_fallback(id));
        let n_repeated = self.stories.windows(2).filter(|pair| pair[0] == pair[1]).count() as u64;
        SplitReport {
            n_documents: self.lengths.len() as u64,
            n_tokens,
            bytes_per_token,
            fallback_rate: share(n_fallback.map(|(_, &count)| count).sum(), n_tokens),
            duplicate_share: share(n_repeated, self.lengths.len() as u64),
            lengths: Lengths::of(&mut self.lengths),
        }
    }
}

fn share(part: u64, whole: u64) -> f64 {
    part as f64 / whole.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_two_to_an_octave_and_miss_nothing() {
        let starts: Vec<u64> = (0..10).map(Lengths::start).collect();
        assert_eq!(starts, [0, 1, 2, 3, 4, 6, 8, 12, 16, 24]);
        for length in 0..5000 {
            let idx = Lengths::bucket(length);
            assert!(Lengths::start(idx) <= length && length < Lengths::start(idx + 1), "{length}");
        }
    }

    #[test]
    fn lengths_are_summed_up() {
        let lengths = Lengths::of(&mut [5, 4, 0, 9, 4]);
        assert_eq!(lengths.counts, [1, 0, 0, 0, 3, 0, 1]);
        assert_eq!((lengths.min, lengths.median, lengths.max), (0, 4, 9));
        assert!((lengths.mean - 4.4).abs() < 1e-12);
        assert!(Lengths::of(&mut []).counts.is_empty());
    }
}
