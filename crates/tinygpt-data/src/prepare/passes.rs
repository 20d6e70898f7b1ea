//! The two passes over the text: one makes the tokenizer, one writes the shards.

use std::path::Path;

use crate::encoding::Encoding;
use crate::error::DataError;
use crate::prepared::{MASK_VALUES, SplitMeta};
use crate::progress::{PrepareProgress, Stage};
use crate::shard::{Packed, ShardWriter};
use crate::source::{Documents as _, Piece, SourceStats};
use crate::tokenizer::{Dropped, Encoder, Tokenizer, TokenizerTrainer};

use super::chat::{self, ChatEncoding, EncodedChat};
use super::corpus::Corpus;
use super::divide::Boundary;
use super::reading::{BATCH_BYTES, Reading};
use super::split::{Split, SplitDocuments};
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

/// A batch of documents as a shard holds it, with its share of the counts.
struct Encoded<X> {
    ids: Packed,
    /// Which tokens are learned, of conversations.
    mask: Option<Packed>,
    n_tokens: u64,
    n_bytes: u64,
    n_characters: u64,
    watched: X,
}

/// A split that was written.
pub(super) struct EncodedSplit {
    pub(super) meta: SplitMeta,
    /// Counts of what was skipped or replaced in the text.
    pub(super) stats: SourceStats,
    /// The document that was cut between the splits, counted from 0, if one was.
    pub(super) cut_document: Option<u64>,
}

impl Passes<'_> {
    /// Makes a tokenizer from the training text.
    pub(super) fn make_tokenizer(
        &self,
        encoding: Encoding,
        vocab_size: usize,
    ) -> Result<Tokenizer, DataError> {
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
        let mut trainer = TokenizerTrainer::new(encoding, parses_special)?;
        // Merged in the order of the text, whichever thread counted.
        self.run(
            Stage::TrainTokenizer,
            Split::Train,
            || count,
            |part| {
                trainer.merge(&part);
                Ok(())
            },
        )?;
        self.report_dropped(trainer.dropped());
        trainer.train(vocab_size)
    }

    fn report_dropped(&self, dropped: Dropped) {
        if dropped != Dropped::default() {
            self.progress.notice(&format!(
                "too many different words: the rarest were dropped {} times, {} occurrences in \
                 all; merges were trained on the others",
                dropped.n_words, dropped.n_occurrences
            ));
        }
    }

    /// Writes the shards of the training split; returns what they hold, and the tokens in them.
    ///
    /// `is_new` says that the tokenizer was made from this text.
    pub(super) fn encode_train(
        &self,
        tokenizer: &Tokenizer,
        chat: Option<ChatEncoding<'_>>,
        is_new: bool,
        dir: &Path,
    ) -> Result<(EncodedSplit, Seen), DataError> {
        if let Some(reason) = tokenizer.slow_because() {
            self.progress.notice(&format!(
                "the `tokenizers` library encodes, which is many times slower: {reason}"
            ));
        }
        let is_known = is_new && tokenizer.encoding() == Encoding::Simple;
        let mut seen = if is_known { Seen::characters(tokenizer) } else { Seen::default() };
        let mark = |seen: &mut Seen, _: &Piece, ids: &[u32]| {
            if !is_known {
                seen.mark(ids);
            }
            Ok(())
        };
        let merge = |found: Seen| seen.merge(&found);
        let split = self.encode(Split::Train, (tokenizer, chat), dir, mark, merge)?;
        Ok((split, seen))
    }

    /// Writes the shards of the validation split; reports if many of its tokens were not
    /// `seen` in training.
    pub(super) fn encode_validation(
        &self,
        tokenizer: &Tokenizer,
        chat: Option<ChatEncoding<'_>>,
        dir: &Path,
        seen: &Seen,
    ) -> Result<EncodedSplit, DataError> {
        let mut unseen = Unseen::default();
        let count = |unseen: &mut Unseen, piece: &Piece, ids: &[u32]| {
            unseen.count(tokenizer, seen, piece, ids)
        };
        let merge = |found: Unseen| unseen.merge(found);
        let split = self.encode(Split::Val, (tokenizer, chat), dir, count, merge)?;
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
        Ok(split)
    }

    /// Writes the shards of a split; `watch` looks at each piece with its ids, and `take` gets
    /// what was found in a batch.
    fn encode<X: Default + Send>(
        &self,
        split: Split,
        (tokenizer, chat): (&Tokenizer, Option<ChatEncoding<'_>>),
        dir: &Path,
        watch: impl Fn(&mut X, &Piece, &[u32]) -> Result<(), DataError> + Sync,
        mut take: impl FnMut(X),
    ) -> Result<EncodedSplit, DataError> {
        let stage = match split {
            Split::Train => Stage::EncodeTrain,
            Split::Val => Stage::EncodeValidation,
        };
        let mut meta = SplitMeta::default();
        let sha256 = tokenizer.sha256_bytes();
        let mut writer = ShardWriter::new(dir, split.file_prefix(), tokenizer.vocab_size(), sha256);
        let mut masks =
            chat.map(|_| ShardWriter::new(dir, split.mask_prefix(), MASK_VALUES, sha256));
        let watch = &watch;
        let encode = || {
            let mut encoder = tokenizer.encoder().parsing_special(self.parses_special);
            let mut ids = Vec::new();
            move |batch: &[Piece]| match chat {
                Some(chat) => encode_chats(tokenizer, chat, batch, watch),
                None => encode(tokenizer, &mut encoder, batch, &mut ids, watch),
            }
        };
        let documents = self.run(stage, split, encode, |it| {
            meta.n_tokens += it.n_tokens;
            meta.n_bytes += it.n_bytes;
            meta.n_characters += it.n_characters;
            take(it.watched);
            if let (Some(masks), Some(mask)) = (&mut masks, &it.mask) {
                masks.write(mask)?;
            }
            writer.write(&it.ids)
        })?;
        meta.shards = writer.finish()?;
        if let Some(masks) = masks {
            meta.mask_shards = masks.finish()?;
        }
        if meta.n_tokens == 0 {
            return Err(DataError::usage(
                format!("the {} split has no text", split.file_prefix()),
                "give more text, or set `data_percentage` higher",
            ));
        }
        meta.n_documents = documents.n_documents();
        meta.bytes_per_token = meta.bytes_per_token();
        let (stats, cut_document) = (documents.stats(), documents.cut_document());
        Ok(EncodedSplit { meta, stats, cut_document })
    }

    /// Works on all documents of a split; returns them, read to their end.
    fn run<R: Send, W: FnMut(&[Piece]) -> Result<R, DataError>>(
        &self,
        stage: Stage,
        split: Split,
        worker: impl Fn() -> W + Sync,
        take: impl FnMut(R) -> Result<(), DataError>,
    ) -> Result<SplitDocuments<'_>, DataError> {
        let mut documents = self.corpus.open(split, self.boundary)?;
        let n_bytes = self.corpus.n_bytes(split);
        let batch_bytes = match stage {
            // Counts of a large batch are added up more quickly than those of many small ones.
            Stage::TrainTokenizer => COUNTED_BYTES,
            _ => BATCH_BYTES,
        };
        let reading = Reading { stage, n_bytes, batch_bytes, progress: self.progress };
        reading.run(&mut documents, worker, take)?;
        Ok(documents)
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
