//! What every story of the default dataset must be: checked over all 21,000 of them.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::LazyLock;

use sha2::{Digest, Sha256};

use super::generator::{Pronoun, Story, generate};
use super::spelling::starts_with_vowel_sound;
use super::templates::Binding;
use super::*;

const SEED: u64 = 1337;

/// The default dataset's stories with what the generator knows about them, generated once.
static STORIES: LazyLock<Vec<Story>> = LazyLock::new(|| {
    let templates = Templates::open();
    let n = (DEFAULT_TRAIN_STORIES + DEFAULT_VALIDATION_STORIES) as u64;
    (0..n).filter_map(|index| generate(&templates, StoryRng::new(SEED, index))).collect()
});

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_ascii_alphabetic() && c != '\'').filter(|word| !word.is_empty())
}

/// Fails with the first few stories of the dataset in which `fault` finds something.
fn check(fault: impl Fn(&str) -> Option<String>) {
    let found: Vec<String> = STORIES
        .iter()
        .filter_map(|story| {
            Some(format!("{}: {}\n{}", story.title, fault(&story.text)?, story.text))
        })
        .collect();
    assert!(
        found.is_empty(),
        "{} stories, among them:\n{}",
        found.len(),
        found[..found.len().min(3)].join("\n\n")
    );
}

#[test]
fn the_bytes_are_the_same_everywhere() {
    let mut hasher = Sha256::new();
    let tales = Tales::new(SEED);
    for story in tales.train(500).chain(tales.validation(20)) {
        hasher.update(story.as_bytes());
        hasher.update([0]);
    }
    let digest: String = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(digest, "45bab03be96c2bf639ac5faaa2ebebea95888b0176738a82faa0816f699ada4e");
}

#[test]
fn no_two_stories_are_equal_and_none_is_in_both_splits() {
    let tales = Tales::new(SEED);
    let mut seen = HashSet::new();
    for story in tales.train(DEFAULT_TRAIN_STORIES) {
        assert!(seen.insert(story), "generated twice in the training split");
    }
    for story in tales.validation(DEFAULT_VALIDATION_STORIES) {
        assert!(seen.insert(story.clone()), "generated twice: {story}");
    }
    assert_eq!(seen.len(), DEFAULT_TRAIN_STORIES + DEFAULT_VALIDATION_STORIES);
}

#[test]
fn a_shorter_split_begins_a_longer_one_and_the_seed_matters() {
    let first = |seed, n| Tales::new(seed).train(n).next();
    assert_eq!(first(SEED, 1), first(SEED, 100));
    assert_ne!(first(SEED, 1), first(SEED + 1, 1));
}

#[test]
fn no_marker_is_left_and_only_plain_ascii_is_used() {
    check(|story| {
        let odd = |c: char| !(c.is_ascii_alphanumeric() || " \n.,!?\"'-".contains(c));
        story.chars().find(|&c| odd(c)).map(|c| format!("the character {c:?}"))
    });
}

#[test]
fn spaces_and_stops_are_where_they_belong() {
    const FAULTS: [&str; 13] =
        ["  ", " \n", "\n ", "\n\n", " .", " ,", " !", " ?", "..", ",,", ".,", ",.", "\"\""];
    check(|story| FAULTS.iter().find(|fault| story.contains(**fault)).map(|f| format!("{f:?}")));
    check(|story| (!story.ends_with(['.', '!', '?', '"'])).then(|| "no full stop".into()));
}

#[test]
fn quotes_close_in_their_paragraph_and_hold_whole_sentences() {
    check(|story| {
        for paragraph in story.split('\n') {
            let pieces: Vec<&str> = paragraph.split('"').collect();
            if pieces.len().is_multiple_of(2) {
                return Some("an open quote".into());
            }
            let spoken = pieces.iter().skip(1).step_by(2);
            if let Some(odd) = spoken.copied().find(|s| !s.ends_with(['.', '!', '?', ','])) {
                return Some(format!("a quote without a stop: {odd}"));
            }
        }
        None
    });
}

#[test]
fn sentences_start_with_a_capital_and_nothing_else_does() {
    let mut names: HashSet<&str> =
        ["I", "Mom", "Dad", "Grandma", "Grandpa", "Meow"].into_iter().collect();
    names.extend(["Monday", "Tuesday", "Wednesday", "Friday", "Saturday", "Sunday"]);
    let templates = Templates::open();
    for table in ["child-she", "child-he", "animal-she", "animal-he"] {
        names.extend(templates.table(table).unwrap().rows.iter().map(|row| row[0]));
    }
    for binding in templates.plots.iter().flat_map(|plot| &plot.bindings) {
        if let Binding::Choice { names: roles, options } = binding
            && roles.iter().any(|role| ["hero", "name"].contains(role))
        {
            names.extend(options.iter().map(|option| option[0]));
        }
    }
    check(|story| {
        let mut before = "";
        for token in story.split(' ').flat_map(|text| text.split_inclusive('\n')) {
            // "Why?" asked Mia. "Why?" Mia asked. "I knew," said Ben, "that you came."
            let free = before.ends_with("!\"")
                || before.ends_with("?\"")
                || before.ends_with(',') && token.starts_with('"');
            let word = words(token).next().unwrap_or_default();
            let starts = before.is_empty()
                || before.ends_with(['.', '!', '?', '\n'])
                || before.ends_with(".\"")
                || token.starts_with('"');
            let capital = word.starts_with(|c: char| c.is_ascii_uppercase());
            if !free && starts != capital && !names.contains(word) {
                return Some(format!("the capital of {token:?}"));
            }
            before = token;
        }
        None
    });
}

#[test]
fn a_and_an_follow_the_next_word() {
    check(|story| {
        let mut article = "";
        for word in words(story) {
            let fits = match article {
                "a" | "A" => !starts_with_vowel_sound(word),
                "an" | "An" => starts_with_vowel_sound(word),
                _ => true,
            };
            if !fits {
                return Some(format!("{article} {word}"));
            }
            article = word;
        }
        None
    });
}

#[test]
fn no_word_occurs_twice_in_a_row() {
    check(|story| {
        let all: Vec<&str> = story.split_whitespace().collect();
        let twice = all
            .windows(2)
            .find(|pair| pair[0].eq_ignore_ascii_case(words(pair[1]).next().unwrap_or_default()));
        twice.map(|pair| pair.join(" "))
    });
}

#[test]
fn stories_are_short_and_in_paragraphs() {
    check(|story| {
        let n = story.split_whitespace().count();
        (!(60..=180).contains(&n)).then(|| format!("{n} words"))
    });
    let one = STORIES.iter().filter(|story| !story.text.contains('\n')).count();
    assert!((2_000..6_000).contains(&one), "{one} stories of one paragraph");
    check(|story| (story.lines().count() > 5).then(|| "too many paragraphs".into()));
}

#[test]
fn pronouns_fit_the_cast() {
    const HE: [&str; 4] = ["he", "him", "his", "himself"];
    const SHE: [&str; 4] = ["she", "her", "hers", "herself"];
    for story in STORIES.iter() {
        let used: HashSet<String> = words(&story.text).map(str::to_ascii_lowercase).collect();
        for (pronoun, forms) in [(Pronoun::He, HE), (Pronoun::She, SHE)] {
            let stray = forms.iter().find(|form| used.contains(**form));
            let known = story.pronouns.contains(&pronoun);
            assert!(known || stray.is_none(), "{}: who is {stray:?}?\n{}", story.title, story.text);
        }
    }
}

#[test]
fn the_language_is_rich_and_no_word_is_a_stranger() {
    let mut count: BTreeMap<String, usize> = BTreeMap::new();
    for word in STORIES.iter().flat_map(|story| words(&story.text)) {
        *count.entry(word.to_ascii_lowercase()).or_default() += 1;
    }
    assert!((1_000..1_700).contains(&count.len()), "{} different words", count.len());
    let rare: Vec<_> = count.iter().filter(|(_, n)| **n < 20).collect();
    assert!(rare.is_empty(), "words a model cannot learn: {rare:?}");
}

#[test]
fn every_plot_is_used_about_equally_often() {
    let mut count: BTreeMap<&str, usize> = BTreeMap::new();
    for story in STORIES.iter() {
        *count.entry(story.title).or_default() += 1;
    }
    assert!(count.len() >= 40, "{} plots", count.len());
    assert_eq!(
        count.len(),
        Templates::open().plots.len(),
        "two plots of one title, or one never used"
    );
    let fair = STORIES.len() / count.len();
    assert!(count.values().all(|n| (fair / 2..fair * 2).contains(n)), "{count:?}");
}

#[test]
fn the_readme_says_how_many_templates_there_are() {
    let readme = std::fs::read_to_string("../../data/tiny_tales/README.md").unwrap();
    let readme = readme.split_whitespace().collect::<Vec<_>>().join(" ");
    let expected = format!("{} story templates", Templates::open().plots.len());
    assert!(readme.contains(&expected), "expected `{expected}`");
}

#[test]
fn plots_are_complete_and_leave_he_and_she_to_the_cast() {
    let templates = Templates::open();
    let titles: BTreeSet<&str> = templates.plots.iter().map(|plot| plot.title).collect();
    assert_eq!(titles.len(), templates.plots.len());
    for plot in &templates.plots {
        assert!(plot.beats.len() >= 4, "{} has too few beats", plot.title);
        assert!(plot.beats.iter().any(|beat| beat.starts_paragraph), "{}", plot.title);
        for beat in &plot.beats {
            assert!(beat.variants.len() >= 2, "{} has a beat with one variant", plot.title);
            let outside = beat.variants.join(" ").replace(['{', '}'], "\u{1}");
            let plain: String = outside.split('\u{1}').step_by(2).collect::<Vec<_>>().join(" ");
            let fixed = ["he", "him", "his", "she", "her"];
            let stray = words(&plain).find(|w| fixed.contains(&w.to_ascii_lowercase().as_str()));
            assert_eq!(stray, None, "{} names a pronoun itself", plot.title);
        }
    }
}

#[test]
fn every_word_table_is_used_and_lists_no_row_twice() {
    let templates = Templates::open();
    let everything =
        format!("{}{}", super::templates::WORDS, super::templates::PLOTS.concat()).to_lowercase();
    for table in &templates.tables {
        let distinct: BTreeSet<&str> = table.rows.iter().map(|row| row[0]).collect();
        assert_eq!(distinct.len(), table.rows.len(), "a row twice in [{}]", table.name);
        let asked = [format!("{{{}}}", table.name), format!(": named {}", table.name)];
        let also = [format!(": {}", table.name), format!(" or {}", table.name)];
        let is_name_list = table.name.ends_with("-she") || table.name.ends_with("-he");
        let used = asked.iter().chain(&also).any(|marker| everything.contains(marker.as_str()));
        assert!(used || is_name_list, "nobody asks for [{}]", table.name);
    }
}
