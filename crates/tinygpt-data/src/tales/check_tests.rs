//! The checker accepts every story of the grammar and refuses damaged ones.
//!
//! A damaged story can be one that the grammar writes, too: without its last sentence, if that is in
//! some stories only. `oracle.rs` decides. The checker has to agree with it on every text.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};

use rayon::prelude::*;

use super::check::{FaultKind, StoryChecker, StoryFault};
use super::oracle::can_be_written;
use super::templates::Templates;
use super::*;

/// Stories of both splits of three seeds.
fn stories() -> Vec<String> {
    let of = |tales: Tales| tales.train(120).chain(tales.validation(10)).collect::<Vec<_>>();
    [1337, 1, 99].into_iter().flat_map(|seed| of(Tales::new(seed))).collect()
}

/// A number that looks random, the same in each run.
fn draw(seed: usize, below: usize) -> usize {
    let mixed = (seed as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ (mixed >> 29)) as usize % below
}

fn sentences(story: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut start = 0;
    for (at, _) in story.match_indices([' ', '\n']) {
        let sentence = &story[start..at];
        if sentence.ends_with(['.', '!', '?']) || sentence.ends_with(".\"") {
            found.push(sentence);
            start = at + 1;
        }
    }
    found.push(&story[start..]);
    found
}

/// The words of `story` that are in `list`, by their places.
fn places(story: &str, list: &[&'static str]) -> Vec<(usize, &'static str)> {
    let is_letter = |c: char| c.is_ascii_alphabetic();
    let known = |word: &str| list.iter().copied().find(|it| *it == word);
    let starts =
        story.char_indices().filter(|(at, c)| is_letter(*c) && !story[..*at].ends_with(is_letter));
    let word = |at: usize| story[at..].split(|c| !is_letter(c)).next().unwrap();
    starts.filter_map(|(at, _)| Some((at, known(word(at))?))).collect()
}

/// `story` with the word `old` at byte `at` replaced.
fn with_word(story: &str, (at, old): (usize, &str), new: &str) -> String {
    format!("{}{new}{}", &story[..at], &story[at + old.len()..])
}

/// Checks that the checker refuses all of `damaged` but those that the grammar writes, of which there are
/// `n_legal`. Returns the faults.
#[track_caller]
fn refused(damaged: &[String], n_legal: usize) -> Vec<StoryFault> {
    let (checker, templates) = (StoryChecker::new(), Templates::open());
    let (accepted, faults): (Vec<_>, Vec<_>) = damaged
        .par_iter()
        .map(|story| (story, checker.check(story)))
        .partition_map(|(story, checked)| match checked {
            Ok(_) => rayon::iter::Either::Left(story),
            Err(fault) => rayon::iter::Either::Right((story, fault)),
        });
    let wrong = accepted.par_iter().find_any(|story| !can_be_written(&templates, story));
    assert_eq!(wrong, None, "accepted, but the grammar cannot write it");
    let some = faults.par_iter().step_by(90);
    let wrong = some.find_any(|(story, _)| can_be_written(&templates, story));
    assert_eq!(wrong, None, "refused, but the grammar writes it");
    assert_eq!(
        accepted.len(),
        n_legal,
        "stories of the grammar, of {}: {:#?}",
        damaged.len(),
        &accepted[..accepted.len().min(3)]
    );
    faults.into_iter().map(|(_, fault)| fault).collect()
}

fn count(faults: &[StoryFault], kind: FaultKind) -> usize {
    faults.iter().filter(|fault| fault.kind == kind).count()
}

#[test]
fn every_story_of_the_grammar_is_coherent() {
    let checker = StoryChecker::new();
    let of = |tales: Tales| tales.train(2_000).chain(tales.validation(50)).collect::<Vec<_>>();
    let stories: Vec<String> =
        [1337, 2, 77].into_iter().flat_map(|seed| of(Tales::new(seed))).collect();
    let check = |story: &String| match checker.check(story) {
        Ok(plot) => plot,
        Err(fault) => panic!("{fault}\n{story}"),
    };
    let plots: BTreeSet<&str> = stories.par_iter().map(check).collect();
    let all: BTreeSet<&str> = Templates::open().plots.iter().map(|plot| plot.title).collect();
    assert_eq!(plots, all);
    // Paragraphs do not count.
    assert!(stories[..50].iter().all(|it| checker.check(&it.replace('\n', " ")).is_ok()));
}

#[test]
fn the_oracle_writes_stories_and_nothing_else() {
    let templates = Templates::open();
    let stories: Vec<String> = Tales::new(5).train(40).collect();
    let unwritten = stories.par_iter().find_any(|story| !can_be_written(&templates, story));
    assert_eq!(unwritten, None);
    for text in ["", "The end.", &stories[0][1..], &stories[0][..stories[0].len() - 1]] {
        assert!(!can_be_written(&templates, text), "{text}");
    }
}

#[test]
fn shuffled_sentences_are_refused() {
    let stories = stories();
    let shuffled = stories.iter().enumerate().map(|(i, story)| {
        let mut all = sentences(story);
        for place in (1..all.len()).rev() {
            all.swap(place, draw(i * 64 + place, place + 1));
        }
        all.join(" ")
    });
    refused(&shuffled.collect::<Vec<_>>(), 0);
    // Two neighbours, from the same part of the plot as often as not.
    let swapped = stories.iter().enumerate().filter_map(|(i, story)| {
        let mut all = sentences(story);
        let place = draw(i, all.len() - 1);
        all.swap(place, place + 1);
        (all != sentences(story)).then(|| all.join(" "))
    });
    refused(&swapped.collect::<Vec<_>>(), 0);
}

#[test]
fn sentences_of_another_story_are_refused() {
    let stories = stories();
    let swapped = stories.windows(2).enumerate().flat_map(|(i, pair)| {
        let (mut first, mut second) = (sentences(&pair[0]), sentences(&pair[1]));
        let (here, there) = (draw(i, first.len()), draw(i + 7, second.len()));
        std::mem::swap(&mut first[here], &mut second[there]);
        [first.join(" "), second.join(" ")]
    });
    refused(&swapped.collect::<Vec<_>>(), 0);
    let halves = stories.windows(2).map(|pair| {
        let (first, second) = (sentences(&pair[0]), sentences(&pair[1]));
        [&first[..first.len() / 2], &second[second.len() / 2..]].concat().join(" ")
    });
    refused(&halves.collect::<Vec<_>>(), 0);
    let both = stories.windows(2).map(|pair| format!("{}\n{}", pair[0], pair[1]));
    let faults = refused(&both.collect::<Vec<_>>(), 0);
    assert!(count(&faults, FaultKind::Ending) * 10 > faults.len() * 9, "{faults:#?}");
}

#[test]
fn sentences_of_another_story_of_the_plot_are_refused() {
    let checker = StoryChecker::new();
    let mut by_plot = BTreeMap::<_, Vec<String>>::new();
    for story in Tales::new(4).train(800) {
        by_plot.entry(checker.check(&story).unwrap()).or_default().push(story);
    }
    let swapped = by_plot.values().flat_map(|of_plot| of_plot.windows(2)).enumerate();
    let swapped = swapped.map(|(i, pair)| {
        let (mut first, second) = (sentences(&pair[0]), sentences(&pair[1]));
        let here = draw(i, first.len());
        first[here] = second[here.min(second.len() - 1)];
        first.join(" ")
    });
    // A sentence without names can fit as well as the one it replaces.
    refused(&swapped.collect::<Vec<_>>(), 53);
}

/// First names of girls and of boys.
fn names() -> [Vec<&'static str>; 2] {
    [true, false].map(|is_she| Templates::open().names("child", is_she).collect())
}

#[test]
fn another_name_is_refused() {
    let mut changed = Vec::new();
    for (i, story) in stories().iter().enumerate() {
        for names in names() {
            let there = places(story, &names);
            let Some(&(_, name)) = there.first() else { continue };
            let there: Vec<_> = there.into_iter().filter(|(_, it)| *it == name).collect();
            let mut others = names.iter().cycle().skip(draw(i, names.len()));
            let other = others.find(|it| !story.contains(**it)).unwrap();
            changed.push(with_word(story, there[draw(i, there.len())], other));
        }
    }
    // In a few plots, somebody has a name and is not named again.
    let faults = refused(&changed, 5);
    assert!(count(&faults, FaultKind::Character) * 2 > faults.len(), "{faults:#?}");
    assert!(faults.iter().all(|fault| !fault.expected.is_empty() && !fault.found.is_empty()));
}

#[test]
fn swapped_names_are_refused() {
    let mut swapped = Vec::new();
    let names = names().concat();
    for story in Tales::new(8).train(600) {
        let there = places(&story, &names);
        let Some(&(_, one)) = there.first() else { continue };
        let Some(&(second, other)) = there.iter().find(|(_, it)| *it != one) else { continue };
        // From here on, each has the name of the other.
        let (before, after) = story.split_at(second + other.len());
        let after = after.replace(one, "\u{1}").replace(other, one).replace('\u{1}', other);
        swapped.push(format!("{before}{after}"));
    }
    // In one, the second child is not named again.
    refused(&swapped, 1);
}

#[test]
fn two_characters_with_one_name_are_refused() {
    let names = names().concat();
    let tales = Tales::new(8);
    let renamed = tales.train(600).filter_map(|story| {
        let there = places(&story, &names);
        let (_, one) = there.first()?;
        let (_, other) = there.iter().find(|(_, it)| it != one)?;
        Some(story.replace(other, one))
    });
    refused(&renamed.collect::<Vec<_>>(), 0);
}

#[test]
fn another_pronoun_is_refused() {
    const FORMS: [(&str, &str); 10] = [
        ("he", "she"),
        ("him", "her"),
        ("his", "her"),
        ("himself", "herself"),
        ("she", "he"),
        ("her", "his"),
        ("herself", "himself"),
        ("it", "he"),
        ("its", "her"),
        ("He", "She"),
    ];
    let words = FORMS.map(|(word, _)| word);
    let wrong = stories().into_iter().enumerate().filter_map(|(i, story)| {
        let there = places(&story, &words);
        let place = *there.get(draw(i, there.len().max(1)))?;
        let (_, other) = FORMS.iter().find(|(word, _)| *word == place.1)?;
        Some(with_word(&story, place, other))
    });
    let faults = refused(&wrong.collect::<Vec<_>>(), 0);
    assert!(count(&faults, FaultKind::Pronoun) * 2 > faults.len(), "{faults:#?}");
}

#[test]
fn a_story_that_stops_is_refused() {
    let stories = stories();
    let without_last = stories.iter().map(|story| {
        let all = sentences(story);
        all[..all.len() - 1].join(" ")
    });
    // Some stories have a sentence after their end, such as "The end.", and are whole without it.
    let faults = refused(&without_last.collect::<Vec<_>>(), 88);
    assert_eq!(count(&faults, FaultKind::Ending), faults.len(), "{faults:#?}");
    let cut = stories.iter().enumerate().map(|(i, story)| {
        let all = sentences(story);
        all[..draw(i, all.len() - 1)].join(" ")
    });
    let faults = refused(&cut.collect::<Vec<_>>(), 0);
    assert_eq!(count(&faults, FaultKind::Ending), faults.len(), "{faults:#?}");
    let within = stories
        .iter()
        .enumerate()
        .map(|(i, story)| story[..1 + draw(i, story.len() - 2)].to_owned());
    // One is cut before such a sentence.
    refused(&within.collect::<Vec<_>>(), 1);
}

#[test]
fn faults_say_where_and_what() {
    let checker = StoryChecker::new();
    let story = "It was a hot day, and everybody was at the pond. Max sat far away from it. \
                 \"What if I go under?\" he thought. Tom splashed and laughed. \"Do you not want \
                 to swim?\" he asked. Leo looked at his feet.";
    let fault = checker.check(story).unwrap_err();
    assert_eq!(
        (fault.kind, fault.plot, fault.found.as_str()),
        (FaultKind::Character, "Afraid of the water", "Leo looked")
    );
    assert_eq!(
        fault.to_string(),
        "after `want to swim?\" he asked.`: `Leo looked`, expected `Max`"
    );
    let story = stories().into_iter().find(|story| story.contains(" a big ")).unwrap();
    let fault = checker.check(&story.replacen(" a big ", " an big ", 1)).unwrap_err();
    assert_eq!((fault.kind, fault.found.as_str()), (FaultKind::Word, "an big"));
    for (story, kind) in [
        ("", FaultKind::Ending),
        ("It was a hot day, and everybody", FaultKind::Ending),
        ("The committee met at noon.", FaultKind::Word),
        (
            "It was a hot day, and everybody was at the pond. Max sat far away from it. \
          \"What if I go under?\" she thought.",
            FaultKind::Pronoun,
        ),
        (
            "It was a hot day, and everybody was at the pond. Max sat far away from it. \
          \"What if I go under?\" he thought. So Max gave it water every day. Then, one morning, \
          there was a tiny green leaf! Max danced around it.",
            FaultKind::Plot,
        ),
    ] {
        assert_eq!(checker.check(story).unwrap_err().kind, kind, "{story}");
    }
}
