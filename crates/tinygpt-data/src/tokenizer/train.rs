//! Training a tokenizer: from texts in memory here; `prepare` streams them through the same trainer.

use rayon::prelude::*;

use super::{CharSet, Dropped, Tokenizer, WordCounts, check_bpe_vocab_size};
use crate::encoding::Encoding;
use crate::error::DataError;

/// How much text a thread counts before the counts are merged, in bytes.
const GROUP_BYTES: usize = 4 << 20;

impl Tokenizer {
    /// Trains a tokenizer on whole documents, on the threads of the current rayon pool.
    ///
    /// `vocab_size` limits byte pairs; the character level ignores it.
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
        if encoding == Encoding::Bpe {
            check_bpe_vocab_size(vocab_size)?;
        }
        let count = |group: &&[&str]| -> Result<TokenizerTrainer, DataError> {
            let mut part = TokenizerTrainer::new(encoding, true)?;
            group.iter().for_each(|text| part.count(text));
            Ok(part)
        };
        let mut trainer = TokenizerTrainer::new(encoding, true)?;
        // As many groups at a time as keep all threads busy, merged in order.
        for some in groups_of(documents).chunks(2 * rayon::current_num_threads()) {
            for part in some.par_iter().map(count).collect::<Result<Vec<_>, _>>()? {
                trainer.merge(&part);
            }
        }
        trainer.train(vocab_size)
    }
}

/// Counts what a tokenizer is made from. Parts of a text can be counted by several threads and merged
/// in order; the result does not depend on the number of threads.
pub(crate) enum TokenizerTrainer {
    /// The distinct characters, for the character level.
    Characters(CharSet),
    /// The words and their counts, for byte-pair encoding.
    Words(WordCounts),
}

impl TokenizerTrainer {
    /// Nothing counted yet. With `parses_special`, special tokens in a text are not part of a word.
    pub(crate) fn new(encoding: Encoding, parses_special: bool) -> Result<Self, DataError> {
        Ok(match encoding {
            Encoding::Simple => Self::Characters(CharSet::new()),
            Encoding::Bpe => Self::Words(WordCounts::new()?.parsing_special(parses_special)),
        })
    }

    /// Counts a document or a piece of one.
    pub(crate) fn count(&mut self, text: &str) {
        match self {
            Self::Characters(chars) => chars.add(text),
            Self::Words(words) => words.count(text),
        }
    }

    /// Adds the counts of the next part, which are for the same encoding, and drops the rarest words if
    /// there are too many.
    pub(crate) fn merge(&mut self, part: &Self) {
        match (self, part) {
            (Self::Characters(chars), Self::Characters(part)) => chars.merge(part),
            (Self::Words(words), Self::Words(part)) => {
                words.merge(part);
                words.trim();
            }
            _ => {}
        }
    }

    /// The words that were dropped.
    pub(crate) fn dropped(&self) -> Dropped {
        match self {
            Self::Characters(_) => Dropped::default(),
            Self::Words(words) => words.dropped(),
        }
    }

    /// Makes the tokenizer. `vocab_size` limits byte pairs; the character level ignores it.
    pub(crate) fn train(self, vocab_size: usize) -> Result<Tokenizer, DataError> {
        match self {
            Self::Characters(chars) => Tokenizer::char_level(&chars),
            Self::Words(words) => Tokenizer::train_bpe(words, vocab_size),
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
