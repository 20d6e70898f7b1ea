//! Text to token ids and back, for both encodings, around one `tokenizer.json`.
//!
//! The file is what Python's `tokenizers` and `transformers` read too, and gives the same ids
//! there. A [`Tokenizer`] accepts two kinds of file: the character level one that [`char_level`]
//! makes, and byte-level BPE as in GPT-2. For other kinds it is unknown how many bytes a token stands
//! for. Loading one of these two kinds checks that it restores every text unchanged
//! ([`lossless`]); one that does not is rejected.

mod bpe;
mod bytes;
mod cache;
mod char_level;
mod chat;
mod classes;
mod config;
mod counts;
mod encoder;
mod gpt2_files;
mod limits;
mod lossless;
mod merges;
mod pieces;
mod prompt;
mod save;
mod special;
mod splitter;
mod stop;
mod stream;
#[cfg(test)]
mod tests;
mod train;
mod trainer;
mod vocabulary;
mod word;

use std::path::Path;
use std::sync::OnceLock;

use serde_json::Value;
use sha2::{Digest, Sha256};

pub(crate) use bpe::check_vocab_size as check_bpe_vocab_size;
pub(crate) use char_level::{CharSet, CharTable};
pub(crate) use counts::{Dropped, WordCounts};
pub use prompt::PromptNote;
use special::{Part, SpecialTokens};
pub use stop::{StopStream, StreamedText};
pub use stream::StreamDecoder;
pub(crate) use train::TokenizerTrainer;
pub use vocabulary::{TokenKind, Vocabulary};

use cache::WordCache;
use encoder::BpeEncoder;

use crate::catch_panic;
use crate::chat::ChatTemplate;
use crate::encoding::Encoding;
use crate::error::DataError;
use crate::regular::{FileError, read_regular_text};

/// The token between documents. In any text it is one token, as in GPT-2.
pub const END_OF_TEXT: &str = "<|endoftext|>";

/// The file that holds a tokenizer.
pub const FILE_NAME: &str = "tokenizer.json";

/// The sets of files that are a tokenizer, the first of a repository to be taken first.
pub const FILE_SETS: [&[&str]; 3] = [&[FILE_NAME], &gpt2_files::PAIRS[0], &gpt2_files::PAIRS[1]];

/// Files next to those of a tokenizer that may hold its chat template.
pub const OPTIONAL_FILES: [&str; 2] = [CONFIG_FILE_NAME, config::TEMPLATE_FILE_NAME];

/// The file from which `transformers` knows how to load [`FILE_NAME`].
pub const CONFIG_FILE_NAME: &str = "tokenizer_config.json";

/// The largest `tokenizer.json` that is read, in bytes. GPT-2's has 2 MiB, Llama 3's 9.
const MAX_FILE_BYTES: u64 = 64 << 20;

/// A tokenizer, with the exact bytes of the file it came from.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    /// The same, with special tokens in a text being text.
    literal: OnceLock<Box<tokenizers::Tokenizer>>,
    json: String,
    sha256: [u8; 32],
    sha256_hex: String,
    encoding: Encoding,
    /// The fast encoder of the character level.
    char_table: Option<CharTable>,
    /// The fast encoder of byte pairs, or why there is none.
    bpe: Result<BpeEncoder, String>,
    /// The bytes of each token, by id.
    token_bytes: Vec<Box<[u8]>>,
    special: SpecialTokens,
    eot_id: u32,
    chat_template: Option<ChatTemplate>,
}

impl Tokenizer {
    /// Reads `dir/tokenizer.json`.
    ///
    /// # Errors
    /// As [`Self::from_file`].
    pub fn from_dir(dir: impl AsRef<Path>) -> Result<Self, DataError> {
        Self::from_file(dir.as_ref().join(FILE_NAME))
    }

    /// Reads what `path` names: a `tokenizer.json`, GPT-2's `vocab.json` or `merges.txt` with the
    /// other next to it, or a folder with either.
    ///
    /// # Errors
    /// As [`Self::from_file`]; [`DataError::Usage`] if a folder has no tokenizer.
    pub fn from_path(path: impl AsRef<Path>) -> Result<Self, DataError> {
        let path = path.as_ref();
        let whole = path.join(FILE_NAME);
        if path.is_dir() && whole.is_file() {
            return Self::from_file(whole);
        }
        match gpt2_files::find(path) {
            Some(pair) => Self::from_json(gpt2_files::to_json(&pair)?, &pair[0])?
                .with_template_next_to(&pair[0]),
            None if path.is_dir() => Err(gpt2_files::none_in(path)),
            None => Self::from_file(path),
        }
    }

    /// Reads a `tokenizer.json`, and the chat template next to it if there is one.
    ///
    /// # Errors
    /// [`DataError::Io`] if it cannot be read, [`DataError::Corrupt`] if it is not a tokenizer of
    /// one of the two kinds with an `<|endoftext|>` token.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, DataError> {
        let path = path.as_ref();
        Self::from_json(read_file(path)?, path)?.with_template_next_to(path)
    }

    /// Builds a tokenizer from the text of a `tokenizer.json`; `path` is for messages.
    pub(crate) fn from_json(json: String, path: &Path) -> Result<Self, DataError> {
        let corrupt = |what: String| DataError::corrupt(path, what, KINDS);
        let value: Value = serde_json::from_str(&json)
            .map_err(|error| corrupt(format!("not a tokenizer.json ({error})")))?;
        limits::check_counts(&value).map_err(&corrupt)?;
        let mut inner = catch_panic::guard(|| tokenizers::Tokenizer::from_bytes(&json))
            .ok_or_else(|| corrupt("not a tokenizer.json (its reader gave up)".to_owned()))?
            .map_err(|error| corrupt(format!("not a tokenizer.json ({error})")))?;
        // They are for batches in other programs: here each text is encoded completely, without padding.
        inner.with_padding(None);
        inner
            .with_truncation(None)
            .map_err(|error| corrupt(format!("not a tokenizer.json ({error})")))?;
        let (token_bytes, char_table) = bytes::of_tokens(&inner, &value).map_err(&corrupt)?;
        limits::check_growth(&value).map_err(&corrupt)?;
        let eot_id = inner
            .token_to_id(END_OF_TEXT)
            .ok_or_else(|| corrupt(format!("no `{END_OF_TEXT}` token, which ends documents")))?;
        let sha256: [u8; 32] = Sha256::digest(json.as_bytes()).into();
        let sha256_hex = hex(&sha256);
        let encoding = if char_table.is_some() { Encoding::Simple } else { Encoding::Bpe };
        let special = SpecialTokens::of(&inner).map_err(&corrupt)?;
        let bpe = match special.not_plain() {
            None => BpeEncoder::of(&inner, &value, &token_bytes),
            Some(what) if char_table.is_some() => return Err(corrupt(what.to_owned())),
            Some(what) => Err(what.to_owned()),
        };
        let literal = OnceLock::new();
        let made = Self {
            inner,
            literal,
            json,
            sha256,
            sha256_hex,
            encoding,
            char_table,
            bpe,
            token_bytes,
            special,
            eot_id,
            chat_template: None,
        };
        let lost = lossless::first_lost(&made)
            .map_err(|error| corrupt(format!("cannot encode every text ({error})")))?;
        match lost {
            Some(lost) => Err(corrupt(lost.describe())),
            None => Ok(made),
        }
    }

    /// The character level over `chars` (sorted, distinct).
    pub(crate) fn char_level(chars: &CharSet) -> Result<Self, DataError> {
        Self::from_json(char_level::tokenizer_json(chars), Path::new(FILE_NAME))
    }

    /// The same with these special tokens, behind all others where it has to add them.
    ///
    /// # Errors
    /// As [`Self::from_file`].
    pub fn with_special_tokens(self, names: &[&str]) -> Result<Self, DataError> {
        match special::with_tokens(&self.json, self.vocab_size(), names) {
            Some(json) => Ok(Self {
                chat_template: self.chat_template,
                ..Self::from_json(json, Path::new(FILE_NAME))?
            }),
            None => Ok(self),
        }
    }

    /// The same for conversations: with its chat template, or else with ChatML and the special tokens of that.
    ///
    /// # Errors
    /// As [`Self::from_file`].
    pub fn for_chat(self) -> Result<Self, DataError> {
        match &self.chat_template {
            Some(_) => Ok(self),
            None => {
                let made = self.with_special_tokens(&ChatTemplate::CHATML_TOKENS)?;
                let (chatml, end) = (ChatTemplate::chatml(), || Some(END_OF_TEXT.to_owned()));
                Ok(made.with_chat_template(ChatTemplate::new(chatml.source(), end(), end())))
            }
        }
    }

    /// Its special tokens.
    pub(crate) fn special(&self) -> &SpecialTokens {
        &self.special
    }

    /// Trains byte-level BPE on counted words.
    pub(crate) fn train_bpe(words: WordCounts, vocab_size: usize) -> Result<Self, DataError> {
        Self::from_json(bpe::train(words, vocab_size)?, Path::new(FILE_NAME))
    }

    /// The token ids of `text`. A special token in it, such as `<|endoftext|>`, is one token.
    ///
    /// # Errors
    /// [`DataError::Corrupt`] if the tokenizer cannot encode this text.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, DataError> {
        let mut ids = Vec::new();
        self.encoder().encode_into(text, &mut ids)?;
        Ok(ids)
    }

    /// An encoder of many texts, for one thread: it caches words.
    pub fn encoder(&self) -> Encoder<'_> {
        let cache = self.bpe.as_ref().ok().map(BpeEncoder::take_cache);
        Encoder { tokenizer: self, cache, parses_special: true }
    }

    /// The library's tokenizer that encodes special tokens in a text as text.
    fn literal(&self) -> &tokenizers::Tokenizer {
        self.literal.get_or_init(|| {
            let mut literal = self.inner.clone();
            literal.set_encode_special_tokens(true);
            Box::new(literal)
        })
    }

    /// Why the library has to encode, which is much slower than [`Encoder`].
    pub fn slow_because(&self) -> Option<&str> {
        match (&self.char_table, &self.bpe) {
            (None, Err(reason)) => Some(reason),
            _ => None,
        }
    }

    /// The text of `ids`; bytes that are not UTF-8 become U+FFFD.
    ///
    /// # Errors
    /// [`DataError::Usage`] for an id outside the vocabulary.
    pub fn decode(&self, ids: &[u32]) -> Result<String, DataError> {
        let mut bytes = Vec::with_capacity(ids.len() * 4);
        for &id in ids {
            bytes.extend_from_slice(self.bytes_of(id)?);
        }
        Ok(String::from_utf8(bytes)
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
    }

    /// The text of `ids` without special tokens, as people read a conversation.
    ///
    /// # Errors
    /// As [`Self::decode`].
    pub fn decode_text(&self, ids: &[u32]) -> Result<String, DataError> {
        let is_text = |id: &u32| !self.special.names().iter().any(|(_, special)| special == id);
        self.decode(&ids.iter().copied().filter(is_text).collect::<Vec<_>>())
    }

    /// The number of ids: one more than the largest.
    pub fn vocab_size(&self) -> usize {
        self.token_bytes.len()
    }

    /// The id of `<|endoftext|>`.
    pub fn eot_id(&self) -> u32 {
        self.eot_id
    }

    /// The template that turns a conversation into tokens, of a model that was trained on some.
    pub fn chat_template(&self) -> Option<&ChatTemplate> {
        self.chat_template.as_ref()
    }

    /// The same tokenizer with a chat template.
    #[must_use]
    pub fn with_chat_template(mut self, template: ChatTemplate) -> Self {
        self.chat_template = Some(template);
        self
    }

    /// The text of `tokenizer.json`.
    pub fn json(&self) -> &str {
        &self.json
    }

    /// SHA-256 of `tokenizer.json`, in hexadecimal.
    pub fn sha256(&self) -> &str {
        &self.sha256_hex
    }

    /// The same as bytes.
    pub(crate) fn sha256_bytes(&self) -> [u8; 32] {
        self.sha256
    }

    /// Whether this is a character level tokenizer or byte-pair encoding.
    pub fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// How many bytes of text each token stands for, by id; special tokens stand for none.
    ///
    /// The measure behind bits per byte, which compares models over different tokenizers.
    pub fn byte_lengths(&self) -> Vec<u32> {
        let mut lengths: Vec<u32> = self
            .token_bytes
            .iter()
            .map(|bytes| u32::try_from(bytes.len()).unwrap_or(u32::MAX))
            .collect();
        let special = self.special.names().iter().map(|(_, id)| *id);
        for id in special.chain([self.eot_id]) {
            if let Some(length) = lengths.get_mut(id as usize) {
                *length = 0;
            }
        }
        lengths
    }

    /// The bytes that token `id` stands for; they need not be whole characters.
    ///
    /// # Errors
    /// [`DataError::Usage`] for an id outside the vocabulary.
    pub fn bytes_of(&self, id: u32) -> Result<&[u8], DataError> {
        let bytes = usize::try_from(id).ok().and_then(|id| self.token_bytes.get(id));
        bytes.map(AsRef::as_ref).ok_or_else(|| {
            DataError::usage(
                format!("token id {id} is outside the vocabulary of {}", self.vocab_size()),
                "use the tokenizer that the model was trained with",
            )
        })
    }
}

/// Encodes texts one after the other; [`Tokenizer::encoder`] makes one.
pub struct Encoder<'a> {
    tokenizer: &'a Tokenizer,
    cache: Option<WordCache>,
    parses_special: bool,
}

impl Encoder<'_> {
    /// The same encoder that takes special tokens in a text for these tokens, as it does unless
    /// disabled, or for ordinary text.
    #[must_use]
    pub fn parsing_special(mut self, parses_special: bool) -> Self {
        self.parses_special = parses_special;
        self
    }

    /// Appends the token ids of `text`. A special token in it is one token, unless
    /// [`Self::parsing_special`] is disabled.
    ///
    /// # Errors
    /// [`DataError::Corrupt`] if the tokenizer cannot encode this text.
    pub fn encode_into(&mut self, text: &str, ids: &mut Vec<u32>) -> Result<(), DataError> {
        let Tokenizer { char_table, bpe, special, inner, .. } = self.tokenizer;
        let cache = &mut self.cache;
        let mut encode = |text: &str, ids: &mut Vec<u32>| match (char_table, bpe, &mut *cache) {
            (Some(table), ..) => table.encode(text, ids),
            (None, Ok(bpe), Some(cache)) => bpe.encode(cache, text, ids),
            _ => {}
        };
        match special {
            _ if self.tokenizer.slow_because().is_some() => {
                let library = if self.parses_special { inner } else { self.tokenizer.literal() };
                ids.extend_from_slice(encode_with(library, text)?.get_ids());
            }
            special if self.parses_special => {
                for (part, _) in special.split(text) {
                    match part {
                        Part::Text(text) => encode(text, ids),
                        Part::Special(id) => ids.push(id),
                    }
                }
            }
            _ => encode(text, ids),
        }
        Ok(())
    }
}

/// Encodes with the library, which may panic over a text even if it could read the tokenizer.
fn encode_with(
    library: &tokenizers::Tokenizer,
    text: &str,
) -> Result<tokenizers::Encoding, DataError> {
    let failed = |why: &str| {
        let what = format!("cannot encode the text {}: {why}", lossless::quoted(text));
        DataError::corrupt(Path::new(FILE_NAME), what, "use another tokenizer, or change the text")
    };
    catch_panic::guard(|| library.encode_fast(text, false))
        .ok_or_else(|| failed("the `tokenizers` library panics"))?
        .map_err(|error| failed(&error.to_string()))
}

impl Drop for Encoder<'_> {
    fn drop(&mut self) {
        if let (Ok(bpe), Some(cache)) = (&self.tokenizer.bpe, self.cache.take()) {
            bpe.give_back(cache);
        }
    }
}

impl std::fmt::Debug for Encoder<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Encoder").field("tokenizer", self.tokenizer).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokenizer")
            .field("encoding", &self.encoding)
            .field("vocab_size", &self.vocab_size())
            .field("sha256", &self.sha256_hex)
            .finish_non_exhaustive()
    }
}

/// The hint for a tokenizer that is rejected.
const KINDS: &str = "give a byte-level BPE tokenizer (GPT-2 and its like) with an `<|endoftext|>` \
                     token, or one of a prepared dataset";

/// Reads a file that no tokenizer makes larger than [`MAX_FILE_BYTES`].
fn read_file(path: &Path) -> Result<String, DataError> {
    read_regular_text(path, MAX_FILE_BYTES).map_err(FileError::at(path, KINDS))
}

/// Bytes as lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
