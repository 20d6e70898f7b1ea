//! The special tokens of a tokenizer: those that are never made from ordinary text, such as
//! `<|endoftext|>` or the borders of a turn in a conversation.

use aho_corasick::{AhoCorasick, MatchKind};
use serde_json::{Value, json};
use tokenizers::AddedToken;

use super::END_OF_TEXT;

/// The special tokens, and where a text has them: as in the `tokenizers` library the leftmost, and of several
/// there the longest.
pub(crate) struct SpecialTokens {
    names: Vec<(String, u32)>,
    finder: AhoCorasick,
    /// Why only the library can find them, if so.
    not_plain: Option<String>,
}

/// A part of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part<'t> {
    /// Text without the name of a special token.
    Text(&'t str),
    /// A special token, by its id.
    Special(u32),
}

impl SpecialTokens {
    /// Those of a tokenizer; the error says what is wrong with them.
    pub(super) fn of(inner: &tokenizers::Tokenizer) -> Result<Self, String> {
        let mut added: Vec<_> = inner.get_added_tokens_decoder().into_iter().collect();
        added.retain(|(_, token)| !token.content.is_empty());
        added.sort_by_key(|(id, _)| *id);
        let is_plain = |token: &AddedToken| {
            let is_anywhere = !token.lstrip && !token.rstrip && !token.single_word;
            is_anywhere && (token.special || token.content == END_OF_TEXT)
        };
        let not_plain = added
            .iter()
            .find(|(_, token)| !is_plain(token))
            .map(|(_, token)| format!("its token `{}` is not a plain special one", token.content));
        added.retain(|(_, token)| is_plain(token));
        let names: Vec<_> = added.into_iter().map(|(id, token)| (token.content, id)).collect();
        let finder = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .build(names.iter().map(|(name, _)| name))
            .map_err(|error| format!("too many special tokens ({error})"))?;
        Ok(Self { names, finder, not_plain })
    }

    /// The names and ids, by id.
    pub(crate) fn names(&self) -> &[(String, u32)] {
        &self.names
    }

    /// Why only the library can find them in a text, if so.
    pub(super) fn not_plain(&self) -> Option<&str> {
        self.not_plain.as_deref()
    }

    /// The parts of `text`, each with the byte where it ends.
    pub(crate) fn split<'t>(&self, text: &'t str) -> impl Iterator<Item = (Part<'t>, usize)> {
        let mut done = 0;
        let found = self.finder.find_iter(text).map(|it| (it.range(), self.names[it.pattern()].1));
        let end = (text.len()..text.len(), 0);
        found.chain([end]).flat_map(move |(range, id)| {
            let before = (Part::Text(&text[done..range.start]), range.start);
            let special = (!range.is_empty()).then_some((Part::Special(id), range.end));
            let is_text = done < range.start;
            done = range.end;
            is_text.then_some(before).into_iter().chain(special)
        })
    }

    /// Where a name starts in `text`, names inside of names included.
    pub(crate) fn starts<'a>(&'a self, text: &'a str) -> impl Iterator<Item = usize> + 'a {
        let is_start =
            |at: &usize| self.names.iter().any(|(name, _)| text[*at..].starts_with(name.as_str()));
        text.char_indices().map(|(at, _)| at).filter(is_start)
    }
}

/// The text of a `tokenizer.json` with these special tokens added behind all others; `None` if it has them
/// all, or is not such a file.
pub(super) fn with_tokens(json: &str, n_tokens: usize, names: &[&str]) -> Option<String> {
    let mut file: Value = serde_json::from_str(json).ok()?;
    let added = file["added_tokens"].as_array_mut()?;
    let is_there = |added: &[Value], name: &str| added.iter().any(|it| it["content"] == name);
    let missing: Vec<&str> = names.iter().copied().filter(|name| !is_there(added, name)).collect();
    for (name, id) in missing.iter().zip(n_tokens..) {
        added.push(token_json(name, id));
    }
    (!missing.is_empty()).then(|| format!("{file:#}\n"))
}

/// A special token in a `tokenizer.json`.
pub(super) fn token_json(name: &str, id: usize) -> Value {
    json!({
        "id": id,
        "content": name,
        "single_word": false,
        "lstrip": false,
        "rstrip": false,
        "normalized": false,
        "special": true,
    })
}

/// The JSON of [`END_OF_TEXT`] alone, with id 0: the special tokens of a new tokenizer.
pub(super) fn end_of_text_json() -> Value {
    json!([token_json(END_OF_TEXT, 0)])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::sync::LazyLock;

    use proptest::prelude::*;

    use crate::tokenizer::{CharSet, Tokenizer, WordCounts};

    const NAMES: [&str; 3] = ["<|im_start|>", "<|im_end|>", "<|im_end|>>"];

    /// One of each kind, with more special tokens than `<|endoftext|>`.
    static BOTH: LazyLock<[Tokenizer; 2]> = LazyLock::new(|| {
        let text = "user assistant the user says: hello, hello!\n";
        let (mut chars, mut words) = (CharSet::new(), WordCounts::new().unwrap());
        chars.add(text);
        words.count(text);
        let both = [Tokenizer::char_level(&chars), Tokenizer::train_bpe(words, 270)];
        both.map(|it| it.unwrap().with_special_tokens(&NAMES).unwrap())
    });

    fn any_text() -> impl Strategy<Value = String> {
        let part = prop::sample::select(vec![
            "<|im_start|>",
            "<|im_end|>",
            "<|im_end|>>",
            "<|endoftext|>",
            "<|im_",
            "|>",
            ">",
            "é",
            " ",
            "\n",
            "user",
            "hello",
            "<0x41>",
        ]);
        prop::collection::vec(part, 0..12).prop_map(|parts| parts.concat())
    }

    proptest! {
        #[test]
        fn ids_are_the_librarys_with_special_tokens_found_or_not(text in any_text()) {
            for tokenizer in BOTH.iter() {
                prop_assert_eq!(tokenizer.slow_because(), None);
                let library = tokenizer.inner.encode(text.as_str(), false).unwrap();
                prop_assert_eq!(&tokenizer.encode(&text).unwrap(), library.get_ids());
                let mut ids = Vec::new();
                let mut plain = tokenizer.encoder().parsing_special(false);
                plain.encode_into(&text, &mut ids).unwrap();
                let library = tokenizer.literal().encode(text.as_str(), false).unwrap();
                prop_assert_eq!(&ids, library.get_ids());
                let is_special = |id: &u32| tokenizer.special().names().iter().any(|it| it.1 == *id);
                prop_assert!(!ids.iter().any(is_special), "{:?}", text);
                prop_assert_eq!(tokenizer.decode(&ids).unwrap(), text.as_str());
            }
        }
    }

    #[test]
    fn new_special_tokens_follow_all_others_and_stand_for_no_text() {
        for tokenizer in BOTH.iter() {
            let n = tokenizer.vocab_size() as u32;
            let expected =
                [("<|endoftext|>", 0), (NAMES[0], n - 3), (NAMES[1], n - 2), (NAMES[2], n - 1)];
            let expected = expected.map(|(name, id)| (name.to_owned(), id));
            assert_eq!(tokenizer.special().names(), expected);
            let lengths = tokenizer.byte_lengths();
            assert_eq!((lengths[0], &lengths[n as usize - 3..]), (0, &[0; 3][..]));
            let again = Tokenizer::from_json(tokenizer.json().to_owned(), "x".as_ref()).unwrap();
            let same = again.with_special_tokens(&NAMES).unwrap();
            assert_eq!(same.sha256(), tokenizer.sha256(), "nothing to add");
        }
    }
}
