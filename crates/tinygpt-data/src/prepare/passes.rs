//! The two passes over a text: one makes the tokenizer, one writes the shards.

use crate::encoding::Encoding;
use crate::error::DataError;
use crate::prepared::MASK_VALUES;
use crate::progress::{PrepareProgress, Stage};
use crate::shard::Packed;
use crate::source::{Documents, Piece, SourceStats};
use crate::tokenizer::{Dropped, Encoder, Tokenizer, TokenizerTrainer};

use super::chat::{self, ChatEncoding, EncodedChat};
use super::corpus::Corpus;
use super::divide::Boundary;
use super::reading::{BATCH_BYTES, Reading};
use super::sample::Sample;
use super::split::Split;
use super::split_writer::{Encoded, SplitWriter};
use super::unseen::{Seen, Unseen};

/// How much text is counted at once, in bytes.
const COUNTED_BYTES: usize = 4 << 20;

/// What both passes need.
pub(super) struct Passes<'a> {
    pub(super) corpus: &'a Corpus,
    pub(super) boundary: Boundary,
    /// Whether special tokens that a text spells out become tokens.
    pub(super) parses_special: bool,
    pub(super) progress: &'a dyn PrepareProgress,
}

/// What is known of a text when it was read.
pub(super) struct ReadText {
    /// Counts of what was skipped or replaced in the text.
    pub(super) stats: SourceStats,
    /// The document that was cut between the splits, counted from 0, if one was.
    pub(super) cut_document: Option<u64>,
    /// The number of the next document, if more text follows.
    pub(super) next_idx: u64,
}

impl Passes<'_> {
    /// Counts what a tokenizer is made from, in the part of the training text that `sample` draws;
    /// returns the number of the next document.
    pub(super) fn count_words(
        &self,
        trainer: &mut TokenizerTrainer,
        encoding: Encoding,
        sample: &mut Sample,
    ) -> Result<u64, DataError> {
        let parses_special = self.parses_special;
        let is_chat = self.corpus.is_chat;
        let count = move |batch: &[Piece]| {
            let mut part = TokenizerTrainer::new(encoding, parses_special)?;
            for piece in batch {
                match is_chat {
                    true => chat::count(&mut part, piece)?,
                    false => part.count(&piece.text),
                }
            }
            Ok(part)
        };
        let mut documents = self.corpus.open(Split::Train, self.boundary)?;
        // Merged in the order of the text, whichever thread counted.
        self.run(
            Stage::TrainTokenizer,
            Split::Train,
            &mut sample.of(&mut documents),
            || count,
            |part| {
                trainer.merge(&part);
                Ok(())
            },
        )?;
        Ok(documents.next_idx())
    }

    /// Writes the shards of the training split; returns which tokens are in them.
    ///
    /// `is_new` says that the tokenizer was made from this text.
    pub(super) fn encode_train(
        &self,
        tokenizer: &Tokenizer,
        chat: Option<ChatEncoding<'_>>,
        is_new: bool,
        writer: &mut SplitWriter,
    ) -> Result<(ReadText, Seen), DataError> {
        let is_known = is_new && tokenizer.encoding() == Encoding::Simple;
        let mut seen = if is_known { Seen::characters(tokenizer) } else { Seen::default() };
        let mark = |seen: &mut Seen, _: &Piece, ids: &[u32]| {
            if !is_known {
                seen.mark(ids);
            }
            Ok(())
        };
        let merge = |found: Seen| seen.merge(&found);
        let read = self.encode(Split::Train, (tokenizer, chat), writer, mark, merge)?;
        Ok((read, seen))
    }

    /// Writes the shards of the validation split; reports if many of its tokens were not
    /// `seen` in training.
    pub(super) fn encode_validation(
        &self,
        tokenizer: &Tokenizer,
        chat: Option<ChatEncoding<'_>>,
        seen: &Seen,
        writer: &mut SplitWriter,
    ) -> Result<ReadText, DataError> {
        let mut unseen = Unseen::default();
        let count = |unseen: &mut Unseen, piece: &Piece, ids: &[u32]| {
            unseen.count(tokenizer, seen, piece, ids)
        };
        let merge = |found: Unseen| unseen.merge(found);
        let read = self.encode(Split::Val, (tokenizer, chat), writer, count, merge)?;
        let is_end_of_many = matches!(
            self.boundary,
            Boundary::Document { .. } | Boundary::Character { is_only_document: false, .. }
        );
        let advice = if is_end_of_many {
            "; set `val_split` to `random` to choose validation documents from all of the text"
        } else {
            ""
        };
        if let Some(note) = unseen.note(tokenizer.encoding(), advice) {
            self.progress.notice(&note);
        }
        Ok(read)
    }

    /// Encodes a split; `watch` looks at each piece with its ids, and `take` gets what was found in
    /// a batch.
    pub(super) fn encode<X: Default + Send>(
        &self,
        split: Split,
        (tokenizer, chat): (&Tokenizer, Option<ChatEncoding<'_>>),
        writer: &mut SplitWriter,
        watch: impl Fn(&mut X, &Piece, &[u32]) -> Result<(), DataError> + Sync,
        mut take: impl FnMut(X),
    ) -> Result<ReadText, DataError> {
        let stage = match split {
            Split::Train => Stage::EncodeTrain,
            Split::Val => Stage::EncodeValidation,
        };
        let watch = &watch;
        let encode = || {
            let mut encoder = tokenizer.encoder().parsing_special(self.parses_special);
            let mut ids = Vec::new();
            move |batch: &[Piece]| match chat {
                Some(chat) => encode_chats(tokenizer, chat, batch, watch),
                None => encode(tokenizer, &mut encoder, batch, &mut ids, watch),
            }
        };
        let mut documents = self.corpus.open(split, self.boundary)?;
        self.run(stage, split, &mut documents, encode, |batch| {
            writer.write(&batch)?;
            take(batch.watched);
            Ok(())
        })?;
        writer.add_documents(documents.n_documents());
        Ok(ReadText {
            stats: documents.stats(),
            cut_document: documents.cut_document(),
            next_idx: documents.next_idx(),
        })
    }

    /// Works on all of `documents`.
    fn run<R: Send, W: FnMut(&[Piece]) -> Result<R, DataError>>(
        &self,
        stage: Stage,
        split: Split,
        documents: &mut dyn Documents,
        worker: impl Fn() -> W + Sync,
        take: impl FnMut(R) -> Result<(), DataError>,
    ) -> Result<(), DataError> {
        let n_bytes = self.corpus.n_bytes(split);
        let batch_bytes = match stage {
            // Counts of a large batch are added up more quickly than those of many small ones.
            Stage::TrainTokenizer => COUNTED_BYTES,
            _ => BATCH_BYTES,
        };
        let reading = Reading { stage, n_bytes, batch_bytes, progress: self.progress };
        reading.run(documents, worker, take)
    }
}

/// Reports what a learned tokenizer leaves out.
pub(super) fn report_dropped(dropped: Dropped, progress: &dyn PrepareProgress) {
    if dropped != Dropped::default() {
        progress.notice(&format!(
            "too many different words: the rarest were dropped {} times, {} occurrences in \
             all; merges were trained on the others",
            dropped.n_words, dropped.n_occurrences
        ));
    }
}

/// Reports a tokenizer that encodes slowly, and why.
pub(super) fn report_slow(tokenizer: &Tokenizer, progress: &dyn PrepareProgress) {
    if let Some(reason) = tokenizer.slow_because() {
        progress.notice(&format!(
            "the `tokenizers` library encodes, which is many times slower: {reason}"
        ));
    }
}

/// The ids of some documents, each with its end; `ids` is room to work in.
fn encode<X: Default>(
    tokenizer: &Tokenizer,
    encoder: &mut Encoder<'_>,
    batch: &[Piece],
    ids: &mut Vec<u32>,
    watch: impl Fn(&mut X, &Piece, &[u32]) -> Result<(), DataError>,
) -> Result<Encoded<X>, DataError> {
    let (mut n_bytes, mut n_characters) = (0, 0);
    let mut watched = X::default();
    ids.clear();
    for piece in batch {
        let start = ids.len();
        encoder.encode_into(&piece.text, ids)?;
        watch(&mut watched, piece, &ids[start..])?;
        if piece.ends_document {
            ids.push(tokenizer.eot_id());
        }
        n_bytes += piece.text.len() as u64;
        n_characters += piece.text.chars().count() as u64;
    }
    let n_tokens = ids.len() as u64;
    let ids = Packed::of(ids, tokenizer.vocab_size())?;
    Ok(Encoded { ids, mask: None, n_tokens, n_bytes, n_characters, watched })
}

/// The same of some conversations, with their masks.
fn encode_chats<X: Default>(
    tokenizer: &Tokenizer,
    chat: ChatEncoding<'_>,
    batch: &[Piece],
    watch: impl Fn(&mut X, &Piece, &[u32]) -> Result<(), DataError>,
) -> Result<Encoded<X>, DataError> {
    let (mut n_bytes, mut n_characters) = (0, 0);
    let mut watched = X::default();
    let (mut ids, mut mask) = (Vec::new(), Vec::new());
    for piece in batch {
        let EncodedChat { text, ids: some, mask: learned } = chat.encode(tokenizer, piece)?;
        watch(&mut watched, &text, &some)?;
        ids.extend(some);
        ids.push(tokenizer.eot_id());
        mask.extend(learned.into_iter().map(u32::from));
        // An answer ends with a token of its own.
        mask.push(u32::from(!chat.mask_prompt));
        n_bytes += text.text.len() as u64;
        n_characters += text.text.chars().count() as u64;
    }
    let n_tokens = ids.len() as u64;
    let mask = Some(Packed::of(&mask, MASK_VALUES)?);
    let ids = Packed::of(&ids, tokenizer.vocab_size())?;
    Ok(Encoded { ids, mask, n_tokens, n_bytes, n_characters, watched })
}
