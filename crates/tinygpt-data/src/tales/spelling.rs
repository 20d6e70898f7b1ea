//! The last pass over a story: "a" or "an" by the word that follows.
//!
//! Plots always write "a", because the next word is often drawn at random. Nothing else is
//! corrected here: capitals, spaces and full stops are the plots' own, and tests hold them to it.

use std::borrow::Cow;

/// Writes every article "a" as "an" where the next word starts with a vowel sound.
pub(super) fn fix_articles(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    let mut before = ' ';
    for (at, c) in text.char_indices() {
        out.push(c);
        let rest = text.get(at + c.len_utf8()..).unwrap_or_default();
        let is_article = matches!(c, 'a' | 'A') && !before.is_ascii_alphabetic() && before != '\'';
        if is_article && rest.strip_prefix(' ').is_some_and(starts_with_vowel_sound) {
            out.push('n');
        }
        before = c;
    }
    out
}

/// Writes every article "an" as "a", as templates have it before [`fix_articles`].
pub(super) fn without_n(text: &str) -> Cow<'_, str> {
    if !text.contains("n ") {
        return Cow::Borrowed(text);
    }
    let is_article = |word: &str| matches!(word.trim_start_matches('"'), "an " | "An ");
    let plain = |word: &str| match word.strip_suffix("n ").filter(|_| is_article(word)) {
        Some(article) => format!("{article} "),
        None => word.to_owned(),
    };
    text.split_inclusive(' ').map(plain).collect::<String>().into()
}

/// Whether `word` takes "an": by its first letter, with a few exceptions.
pub(super) fn starts_with_vowel_sound(word: &str) -> bool {
    const SILENT_H: [&str; 2] = ["hour", "honest"];
    const SPOKEN_YU_OR_WU: [&str; 4] = ["use", "uni", "one", "once"];
    let starts = |list: &[&str]| list.iter().any(|prefix| word.starts_with(prefix));
    if starts(&SILENT_H) {
        return true;
    }
    word.starts_with(['a', 'e', 'i', 'o', 'u', 'A', 'E', 'I', 'O', 'U'])
        && !starts(&SPOKEN_YU_OR_WU)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn articles_follow_the_sound() {
        let fixed =
            fix_articles("A owl saw a big egg, a hour and a unicorn. \"A apple!\" Anna sat.");
        assert_eq!(fixed, "An owl saw a big egg, an hour and a unicorn. \"An apple!\" Anna sat.");
    }

    #[test]
    fn only_whole_words_are_articles() {
        let text = "the sea under us, Mia and Anna's idea of tea";
        assert_eq!(fix_articles(text), text);
        assert_eq!(without_n(text), text);
    }

    #[test]
    fn articles_can_be_undone() {
        let fixed = "An owl saw an egg and a fan. \"An apple!\" cried Ann. An";
        assert_eq!(without_n(fixed), "A owl saw a egg and a fan. \"A apple!\" cried Ann. An");
        assert_eq!(fix_articles(&without_n(fixed)), fixed);
    }
}
