//! A tokenizer from texts that are in memory. `prepare` does the same with texts that stream by.

use rayon::prelude::*;

use super::{CharSet, Tokenizer, WordCounts, check_bpe_vocab_size};
use crate::encoding::Encoding;
use crate::error::DataError;

/// How much text one thread counts before its counts are put to the others, in bytes.
const GROUP_BYTES: usize = 4 << 20;

impl Tokenizer {
    /// Makes a tokenizer from whole documents, on the threads of the current rayon pool.
    ///
    /// `vocab_size` is the most tokens that byte pairs may have; the character level ignores it.
    ///
    /// ```
    /// use tinygpt_data::{Encoding, Tokenizer};
    /// let tokenizer = Tokenizer::train(Encoding::Bpe, &["an owl", "two owls"], 300)?;
    /// assert_eq!(tokenizer.decode(&tokenizer.encode("owl")?)?, "owl");
    /// # Ok::<(), tinygpt_data::DataError>(())
    /// ```
    ///
    /// # Errors
    /// [`DataError::Usage`] for a vocabulary smaller than the bytes.
    pub fn train(
        encoding: Encoding,
        documents: &[&str],
        vocab_size: usize,
    ) -> Result<Self, DataError> {
        let groups = groups_of(documents);
        match encoding {
            Encoding::Simple => {
                let mut all = CharSet::new();
                groups.iter().flat_map(|group| group.iter()).for_each(|text| all.add(text));
                Self::char_level(&all)
            }
            Encoding::Bpe => {
                check_bpe_vocab_size(vocab_size)?;
                let count = |group: &&[&str]| -> Result<WordCounts, DataError> {
                    let mut words = WordCounts::new()?;
                    group.iter().for_each(|text| words.count(text));
                    Ok(words)
                };
                let mut all = WordCounts::new()?;
                // As many groups at a time as keep all threads busy, put together in order.
                for some in groups.chunks(2 * rayon::current_num_threads()) {
                    for words in some.par_iter().map(count).collect::<Result<Vec<_>, _>>()? {
                        all.merge(&words);
                        all.trim();
                    }
                }
                Self::train_bpe(all, vocab_size)
            }
        }
    }
}

/// Cuts documents into groups of at least [`GROUP_BYTES`]; where depends on the texts alone.
fn groups_of<'a, 'b>(mut documents: &'a [&'b str]) -> Vec<&'a [&'b str]> {
    let mut groups = Vec::new();
    while !documents.is_empty() {
        let mut n_bytes = 0;
        let is_full = |text: &&str| {
            n_bytes += text.len();
            n_bytes >= GROUP_BYTES
        };
        let n = documents.iter().position(is_full).map_or(documents.len(), |at| at + 1);
        let (group, rest) = documents.split_at(n);
        groups.push(group);
        documents = rest;
    }
    groups
}
