//! Our encoder against the `tokenizers` library, on texts made to find differences.
//!
//! 50,000 texts from one seed: characters of every category of Unicode, contractions in all cases,
//! runs of white space of every kind, control characters, special tokens whole and in parts, and
//! all of that mixed. Each must have the ids of the library and be restored unchanged.

use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use regex_syntax::Parser;
use regex_syntax::hir::{Class, HirKind};
use tinygpt_data::{END_OF_TEXT, Tokenizer};
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::normalizers::Lowercase;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, TokenizerImpl};

use crate::real_files::gpt2;

const N_TEXTS: u64 = 50_000;

/// Separators are one entry: two of their three categories have one character each.
const CATEGORIES: [&str; 27] = [
    "Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Mc", "Me", "Nd", "Nl", "No", "Pc", "Pd", "Ps", "Pe", "Pi",
    "Pf", "Po", "Sm", "Sc", "Sk", "So", "Z", "Cc", "Cf", "Co", "Cn",
];

const WORDS: [&str; 24] = [
    "once",
    "upon",
    "a",
    "time",
    " there",
    " was",
    " an",
    " owl",
    " who",
    " The",
    " sea",
    "42",
    " 3",
    "1999",
    "!",
    " ...",
    "?!",
    " --",
    "don",
    "we",
    " it",
    "été",
    " Ωμέγα",
    "日本語",
];

const CONTRACTIONS: [&str; 20] = [
    "'s", "'t", "'re", "'ve", "'m", "'ll", "'d", "'S", "'T", "'RE", "'Ve", "'M", "'lL", "'D", "’s",
    "'", "''", "'r", "'l", "'v",
];

const SPACES: [&str; 14] = [
    " ", "  ", "\n", "\r\n", "\t", "\u{b}", "\u{c}", "\u{a0}", "\u{85}", "\u{2028}", "\u{2029}",
    "\u{3000}", "\u{1680}", "\u{200b}",
];

const SPECIAL: [&str; 8] = [
    END_OF_TEXT,
    "<|endoftext|><|endoftext|>",
    "<|endoftext",
    "|>",
    "<|",
    "<|EndOfText|>",
    "Ġ",
    "<0x41>",
];

/// Makes texts, each a function of its number alone.
struct Texts {
    /// The characters of each category, as ranges.
    categories: Vec<Vec<(char, char)>>,
}

impl Texts {
    fn new() -> Self {
        let ranges = |category: &&str| {
            let parsed = Parser::new().parse(&format!(r"\p{{{category}}}")).unwrap();
            let HirKind::Class(Class::Unicode(class)) = parsed.kind() else { panic!("{category}") };
            class.ranges().iter().map(|range| (range.start(), range.end())).collect()
        };
        Self { categories: CATEGORIES.iter().map(ranges).collect() }
    }

    fn text(&self, number: u64) -> String {
        let mut rng = ChaCha8Rng::seed_from_u64(number);
        let n_parts = if number.is_multiple_of(100) { 400 } else { rng.random_range(0..24) };
        (0..n_parts).map(|_| self.part(&mut rng)).collect()
    }

    fn part(&self, rng: &mut ChaCha8Rng) -> String {
        let pick = |from: &[&str], rng: &mut ChaCha8Rng| (*from.choose(rng).unwrap()).to_owned();
        match rng.random_range(0..12) {
            0..=3 => pick(&WORDS, rng),
            4 | 5 => pick(&CONTRACTIONS, rng),
            6 => pick(&SPACES, rng),
            7 => (0..rng.random_range(1..9)).map(|_| pick(&SPACES, rng)).collect(),
            8 => pick(&SPECIAL, rng),
            9 => {
                let part = pick(&[WORDS, ["x"; 24]].concat(), rng);
                part.repeat(rng.random_range(1..90))
            }
            _ => {
                let ranges = self.categories.choose(rng).unwrap();
                (0..rng.random_range(1..6))
                    .map(|_| {
                        let &(first, last) = ranges.choose(rng).unwrap();
                        rng.random_range(first..=last)
                    })
                    .collect()
            }
        }
    }
}

/// GPT-2's pipeline around `model`, made by the library.
fn gpt2_like(model: BPE) -> tokenizers::Tokenizer {
    let byte_level = ByteLevel::new(false, true, true);
    let mut tokenizer = tokenizers::Tokenizer::new(model);
    tokenizer.with_pre_tokenizer(Some(byte_level)).with_decoder(Some(byte_level));
    tokenizer.add_special_tokens([AddedToken::from(END_OF_TEXT, true)]).unwrap();
    tokenizer
}

/// Merges of such texts, so that strange characters have merges too.
fn trained(texts: &Texts) -> tokenizers::Tokenizer {
    let mut trainer = BpeTrainer::builder()
        .vocab_size(3_000)
        .min_frequency(2)
        .show_progress(false)
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .build();
    let mut tokenizer: TokenizerImpl<BPE, Lowercase, ByteLevel, ByteLevel, ByteLevel> =
        TokenizerImpl::new(BPE::default());
    tokenizer.with_pre_tokenizer(Some(ByteLevel::new(false, true, true)));
    tokenizer.train(&mut trainer, (N_TEXTS..N_TEXTS + 3_000).map(|n| texts.text(n))).unwrap();
    gpt2_like(tokenizer.get_model().clone())
}

fn check(library: &tokenizers::Tokenizer, ours: &Tokenizer, numbers: std::ops::Range<u64>) {
    let texts = Texts::new();
    numbers.into_par_iter().for_each(|number| {
        let text = texts.text(number);
        let expected = library.encode_fast(text.as_str(), false).unwrap();
        let ids = ours.encode(&text).unwrap();
        assert_eq!(ids, expected.get_ids(), "text {number}: {text:?}");
        assert_eq!(ours.decode(&ids).unwrap(), text, "text {number}");
    });
}

#[test]
fn ids_are_the_librarys_on_50_000_texts() {
    let library = trained(&Texts::new());
    let dir = tempfile::tempdir().unwrap();
    library.save(dir.path().join("tokenizer.json"), false).unwrap();
    let ours = Tokenizer::from_dir(dir.path()).unwrap();
    assert_eq!(ours.slow_because(), None);
    assert!(ours.vocab_size() > 2_900);
    check(&library, &ours, 0..N_TEXTS);
}

#[test]
fn ids_are_the_librarys_with_gpt2s_vocabulary() {
    let Some(ours) = gpt2() else { return };
    let dir = tempfile::tempdir().unwrap();
    ours.save(dir.path()).unwrap();
    let library = tokenizers::Tokenizer::from_file(dir.path().join("tokenizer.json")).unwrap();
    check(&library, &ours, 0..N_TEXTS);
}

#[test]
fn what_is_not_gpt2s_pipeline_is_left_to_the_library() {
    let texts = Texts::new();
    let plain = trained(&texts);
    let mut unsplit = plain.clone();
    unsplit.with_pre_tokenizer(Some(ByteLevel::new(false, true, false)));
    let mut more_tokens = plain.clone();
    more_tokens.add_special_tokens([AddedToken::from("owl", true).single_word(true)]).unwrap();
    for (library, reason) in [(unsplit, "pre-tokenizer"), (more_tokens, "not a plain special one")]
    {
        let dir = tempfile::tempdir().unwrap();
        library.save(dir.path().join("tokenizer.json"), false).unwrap();
        let ours = Tokenizer::from_dir(dir.path()).unwrap();
        assert!(ours.slow_because().is_some_and(|why| why.contains(reason)), "{reason}");
        for number in 0..50 {
            let text = texts.text(number);
            let expected = library.encode(text.as_str(), false).unwrap();
            assert_eq!(ours.encode(&text).unwrap(), expected.get_ids(), "{reason}: {text:?}");
        }
    }
}

#[test]
fn what_adds_or_takes_spaces_is_refused() {
    let plain = trained(&Texts::new());
    let mut with_prefix = plain.clone();
    with_prefix.with_pre_tokenizer(Some(ByteLevel::new(true, true, true)));
    let mut stripping = plain.clone();
    stripping.add_special_tokens([AddedToken::from(END_OF_TEXT, true).lstrip(true)]).unwrap();
    for library in [with_prefix, stripping] {
        let dir = tempfile::tempdir().unwrap();
        library.save(dir.path().join("tokenizer.json"), false).unwrap();
        let message = Tokenizer::from_dir(dir.path()).unwrap_err().to_string();
        assert!(message.contains("loses text: "), "{message}");
    }
}
