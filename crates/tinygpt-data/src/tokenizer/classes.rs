//! The four classes of characters of GPT-2's pre-tokenizer, as a table.
//!
//! The classes are those of the regex engine behind `tokenizers`, read from the same tables, so
//! that both follow the same version of Unicode. Splitting is `splitter.rs`.

use std::sync::LazyLock;

use regex_syntax::Parser;
use regex_syntax::hir::{Class, HirKind};

use crate::error::DataError;

/// What a character is to the pre-tokeniser.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum CharClass {
    /// Any other character, `[^\s\p{L}\p{N}]`.
    Other = 0,
    /// `\p{L}`.
    Letter = 1,
    /// `\p{N}`.
    Number = 2,
    /// `\s`, Unicode's `White_Space`.
    Space = 3,
}

/// How many code points share an entry of the first table.
const PAGE: usize = 256;

/// A class for each code point: equal pages are kept once, which leaves some 30 KiB.
pub(super) struct CharClasses {
    page_of: Vec<u8>,
    pages: Vec<[CharClass; PAGE]>,
}

static CLASSES: LazyLock<Result<CharClasses, String>> = LazyLock::new(CharClasses::read);

impl CharClasses {
    /// The tables, made on first use.
    pub(super) fn get() -> Result<&'static Self, DataError> {
        CLASSES.as_ref().map_err(|message| DataError::Tokenizer {
            action: "read the classes of characters",
            message: message.clone(),
        })
    }

    fn read() -> Result<Self, String> {
        let mut classes = vec![CharClass::Other; char::MAX as usize + 1];
        for (pattern, class) in [
            (r"\p{L}", CharClass::Letter),
            (r"\p{N}", CharClass::Number),
            (r"\s", CharClass::Space),
        ] {
            for (first, last) in ranges(pattern)? {
                classes[first as usize..=last as usize].fill(class);
            }
        }
        let mut pages: Vec<[CharClass; PAGE]> = Vec::new();
        let mut page_of = Vec::with_capacity(classes.len() / PAGE);
        for page in classes.as_chunks::<PAGE>().0 {
            let known = pages.iter().position(|other| other == page);
            page_of.push(u8::try_from(known.unwrap_or(pages.len())).map_err(|e| e.to_string())?);
            if known.is_none() {
                pages.push(*page);
            }
        }
        Ok(Self { page_of, pages })
    }

    /// The class of a character.
    pub(super) fn of(&self, c: char) -> CharClass {
        let code_point = c as usize;
        self.pages[usize::from(self.page_of[code_point / PAGE])][code_point % PAGE]
    }
}

/// The characters that a class of the regex engine matches.
fn ranges(pattern: &str) -> Result<Vec<(char, char)>, String> {
    let parsed = Parser::new().parse(pattern).map_err(|error| error.to_string())?;
    match parsed.kind() {
        HirKind::Class(Class::Unicode(class)) => {
            Ok(class.ranges().iter().map(|range| (range.start(), range.end())).collect())
        }
        _ => Err(format!("{pattern} is not a class of characters")),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use tokenizers::{
        OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer,
        pre_tokenizers::byte_level::ByteLevel,
    };

    /// Between `a`, `1` and `!` a character joins the one of its own class. Asked are those below
    /// U+3100, around each change of class, and some others; all if `TINYGPT_FULL` is set.
    #[test]
    fn characters_have_the_classes_that_the_library_sees() {
        let classes = CharClasses::get().unwrap();
        let all: Vec<char> = ('\0'..=char::MAX).collect();
        let is_full = std::env::var_os("TINYGPT_FULL").is_some();
        let asked: Vec<char> = (1..all.len() - 1)
            .filter(|&at| {
                let class = classes.of(all[at]);
                let differs = |other: usize| classes.of(all[other]) != class;
                is_full || at < 0x3100 || at % 16 == 1 || differs(at - 1) || differs(at + 1)
            })
            .map(|at| all[at])
            .collect();
        for some in asked.chunks(1024) {
            let text: String = some.iter().flat_map(|&c| ['a', c, '1', c, '!', c, 'a']).collect();
            let mut words = PreTokenizedString::from(text.as_str());
            ByteLevel::new(false, true, true).pre_tokenize(&mut words).unwrap();
            let splits = words.get_splits(OffsetReferential::Original, OffsetType::Byte);
            let starts: Vec<usize> = splits.into_iter().map(|(_, (start, _), _)| start).collect();
            let mut at = 0;
            for &c in some {
                let joins = [1, 2, 3].map(|n| {
                    let place = at + n + (n - 1) * c.len_utf8();
                    starts.binary_search(&place).is_err()
                });
                let expected = match classes.of(c) {
                    CharClass::Letter => [true, false, false],
                    CharClass::Number => [false, true, false],
                    CharClass::Other => [false, false, true],
                    CharClass::Space => [false, false, false],
                };
                assert_eq!(joins, expected, "{c:?}");
                at += 4 + 3 * c.len_utf8();
            }
        }
    }
}
