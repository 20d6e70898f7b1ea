//! The special tokens of a tokenizer: their names, and where a text has them.
//!
//! Text of documents and messages is never searched for them, except by [`super::Encoder`] for
//! `<|endoftext|>`: only a chat template may write one.

use super::{END_OF_TEXT, Tokenizer};

/// The special tokens, the longest name first.
#[derive(Debug)]
pub(crate) struct SpecialTokens(Vec<(Box<str>, u32)>);

/// A part of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part<'a> {
    /// Text without the name of a special token.
    Text(&'a str),
    /// The name of a special token.
    Special(u32),
}

impl SpecialTokens {
    pub(super) fn of(inner: &tokenizers::Tokenizer) -> Self {
        let added = inner.get_added_tokens_decoder().into_iter();
        let mut all: Vec<(Box<str>, u32)> = added
            .filter(|(_, token)| token.special || token.content == END_OF_TEXT)
            .filter(|(_, token)| !token.content.is_empty())
            .map(|(id, token)| (token.content.into_boxed_str(), id))
            .collect();
        all.sort_by_key(|(name, id)| (std::cmp::Reverse(name.len()), *id));
        Self(all)
    }

    /// The names and ids.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, u32)> {
        self.0.iter().map(|(name, id)| (&**name, *id))
    }

    /// The special token whose name `text` starts with, the longest one.
    fn at_start(&self, text: &str) -> Option<(&str, u32)> {
        self.iter().find(|(name, _)| text.starts_with(*name))
    }

    /// Where a name starts in `text`, names inside of names included.
    pub(crate) fn starts<'a>(&'a self, text: &'a str) -> impl Iterator<Item = usize> + 'a {
        let firsts: Vec<char> = self.iter().filter_map(|(name, _)| name.chars().next()).collect();
        text.char_indices()
            .filter(move |(_, c)| firsts.contains(c))
            .map(|(at, _)| at)
            .filter(|&at| self.at_start(&text[at..]).is_some())
    }

    /// The parts of `text`, each with the byte where it ends. Of names that overlap, the first counts.
    pub(crate) fn split<'a>(&self, text: &'a str) -> Vec<(Part<'a>, usize)> {
        let mut parts = Vec::new();
        let mut done = 0;
        for at in self.starts(text) {
            let Some((name, id)) = self.at_start(&text[at..]).filter(|_| at >= done) else {
                continue;
            };
            if at > done {
                parts.push((Part::Text(&text[done..at]), at));
            }
            done = at + name.len();
            parts.push((Part::Special(id), done));
        }
        if done < text.len() {
            parts.push((Part::Text(&text[done..]), text.len()));
        }
        parts
    }
}

impl Tokenizer {
    /// The special tokens.
    pub(crate) fn special(&self) -> &SpecialTokens {
        &self.special
    }
}
