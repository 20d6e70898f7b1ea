//! The part of the training text that byte-pair encoding is learned from: all of it, or of a large
//! text a seeded sample of bounded size.

use crate::error::DataError;
use crate::prepared::BpeSample;
use crate::source::{Documents, Piece, SourceStats};

use super::subset::Subset;

/// The most text that byte-pair encoding is learned from, in bytes. A vocabulary of 30,000 tokens
/// hardly changes with more.
pub(super) const SAMPLE_BYTES: u64 = 2 << 30;

/// The percentage of the documents of a large text that is drawn.
const DRAWN_PERCENTAGE: f64 = 50.0;

/// Draws documents, each with the same chance, until there is enough text.
///
/// Of a text whose files have no more bytes than the sample may have, all documents are drawn.
pub(super) struct Sample {
    draw: Option<Subset>,
    max_bytes: u64,
    drawn: BpeSample,
    document_idx: u64,
    at_document_start: bool,
    is_drawn: bool,
    is_full: bool,
}

impl Sample {
    /// No documents yet; the files of the text have `n_file_bytes`, if it has files.
    pub(super) fn new(
        max_bytes: u64,
        n_file_bytes: Option<u64>,
        seed: u64,
    ) -> Result<Self, DataError> {
        let is_large = n_file_bytes.is_some_and(|n_bytes| n_bytes > max_bytes);
        let draw = || Subset::for_purpose("bpe sample", DRAWN_PERCENTAGE, seed);
        Ok(Self {
            draw: is_large.then(draw).transpose()?,
            max_bytes,
            drawn: BpeSample { n_documents: 0, n_bytes: 0 },
            document_idx: 0,
            at_document_start: true,
            is_drawn: true,
            is_full: false,
        })
    }

    /// The documents of `text` that are drawn.
    pub(super) fn of<'a>(&'a mut self, text: &'a mut dyn Documents) -> Sampled<'a> {
        Sampled { sample: self, text }
    }

    /// Whether there is more text, but enough was drawn.
    pub(super) fn is_full(&self) -> bool {
        self.is_full
    }

    /// What was drawn; `None` if that is the whole text.
    pub(super) fn drawn(self) -> Option<BpeSample> {
        (self.is_full || self.draw.is_some()).then_some(self.drawn)
    }

    fn takes(&mut self, piece: &Piece) -> bool {
        if self.at_document_start {
            let idx = self.document_idx;
            self.is_drawn = self.draw.as_mut().is_none_or(|draw| draw.keep(idx));
            self.drawn.n_documents += u64::from(self.is_drawn);
        }
        self.at_document_start = piece.ends_document;
        self.document_idx += u64::from(piece.ends_document);
        self.drawn.n_bytes += if self.is_drawn { piece.text.len() as u64 } else { 0 };
        self.is_drawn
    }
}

/// The drawn documents of a text.
pub(super) struct Sampled<'a> {
    sample: &'a mut Sample,
    text: &'a mut dyn Documents,
}

impl Documents for Sampled<'_> {
    fn next_piece(&mut self) -> Result<Option<Piece>, DataError> {
        while let Some(piece) = self.text.next_piece()? {
            if self.sample.drawn.n_bytes >= self.sample.max_bytes {
                self.sample.is_full = true;
                return Ok(None);
            }
            if self.sample.takes(&piece) {
                return Ok(Some(piece));
            }
        }
        Ok(None)
    }

    fn stats(&self) -> SourceStats {
        self.text.stats()
    }

    fn n_bytes_read(&self) -> u64 {
        self.text.n_bytes_read()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    /// Documents of two pieces of ten bytes each.
    struct Twenties(u64);

    impl Documents for Twenties {
        fn next_piece(&mut self) -> Result<Option<Piece>, DataError> {
            let left = self.0;
            self.0 = left.saturating_sub(1);
            let piece = || Piece { text: format!("{left:010}"), ends_document: left % 2 == 1 };
            Ok((left > 0).then(piece))
        }

        fn stats(&self) -> SourceStats {
            SourceStats::default()
        }

        fn n_bytes_read(&self) -> u64 {
            0
        }
    }

    fn sampled(n_documents: u64, n_file_bytes: u64, seed: u64) -> (Vec<String>, Sample) {
        let mut sample = Sample::new(1000, Some(n_file_bytes), seed).unwrap();
        let mut texts = Vec::new();
        // Two files, as one text.
        for n in [n_documents / 3, n_documents - n_documents / 3] {
            let mut text = Twenties(2 * n);
            let mut drawn = sample.of(&mut text);
            while let Some(piece) = drawn.next_piece().unwrap() {
                texts.push(piece.text);
            }
        }
        (texts, sample)
    }

    #[test]
    fn a_text_within_the_bound_is_taken_as_a_whole() {
        let (texts, sample) = sampled(50, 1000, 1);
        assert_eq!((texts.len(), sample.is_full(), sample.drawn()), (100, false, None));
    }

    #[test]
    fn of_a_large_text_a_seeded_half_is_drawn_up_to_the_bound() {
        let (texts, sample) = sampled(1000, 20_000, 1);
        assert!(sample.is_full());
        assert_eq!(sample.drawn(), Some(BpeSample { n_documents: 50, n_bytes: 1000 }));
        assert!(texts.chunks(2).all(|it| it[0].parse::<u64>().unwrap() % 2 == 0), "whole ones");
        assert_eq!(sampled(1000, 20_000, 1).0, texts);
        assert_ne!(sampled(1000, 20_000, 2).0, texts);
        // If the files are compressed, only the text shows that it is large.
        let (texts, sample) = sampled(1000, 999, 1);
        assert_eq!((texts.len(), sample.is_full()), (100, true));
        assert_eq!(sample.drawn(), Some(BpeSample { n_documents: 50, n_bytes: 1000 }));
        let (texts, sample) = sampled(60, 1200, 1);
        assert!((40..80).contains(&texts.len()), "{}", texts.len());
        assert_eq!(sample.drawn().unwrap().n_bytes, 10 * texts.len() as u64);
    }
}
