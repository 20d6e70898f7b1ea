//! The checker of `tiny_tales`: it accepts every story of the grammar and refuses damaged ones.

use std::collections::BTreeSet;

use tinygpt_data::tales::{FaultKind, StoryChecker, StoryFault, Tales};

/// Stories of the training and of the validation split of several seeds, `n` of each split and seed.
fn stories() -> Vec<String> {
    some_stories(100)
}

fn some_stories(n: usize) -> Vec<String> {
    let of = |tales: Tales| tales.train(n).chain(tales.validation(n / 10)).collect::<Vec<_>>();
    [1337, 1, 99].into_iter().flat_map(|seed| of(Tales::new(seed))).collect()
}

/// First names of children, of which a story has at most two.
const GIRLS: [&str; 6] = ["Anna", "Mia", "Lucy", "Emma", "Nora", "Ella"];
const BOYS: [&str; 6] = ["Ben", "Tom", "Max", "Sam", "Leo", "Jack"];

/// A number that looks random, the same in each run.
fn draw(seed: usize, below: usize) -> usize {
    let mixed = (seed as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ (mixed >> 29)) as usize % below
}

fn sentences(story: &str) -> Vec<String> {
    let story = story.replace('\n', " ");
    let mut found = vec![String::new()];
    for word in story.split_inclusive(' ') {
        found.last_mut().unwrap().push_str(word);
        let word = word.trim_end();
        if word.ends_with(['.', '!', '?']) || word.ends_with(".\"") {
            found.push(String::new());
        }
    }
    found.retain(|sentence| !sentence.is_empty());
    found
}

fn joined(sentences: &[String]) -> String {
    let trimmed: Vec<&str> = sentences.iter().map(|sentence| sentence.trim_end()).collect();
    trimmed.join(" ")
}

/// Checks that all damaged stories are refused, except for a few that are still stories.
#[track_caller]
fn refused(damaged: Vec<String>, n_exceptions: usize) -> Vec<StoryFault> {
    let checker = StoryChecker::new();
    let n = damaged.len();
    let (accepted, faults): (Vec<_>, Vec<_>) =
        damaged.into_iter().partition(|story| checker.check(story).is_ok());
    assert!(n > 90 && accepted.len() <= n_exceptions, "{} of {n}: {accepted:#?}", accepted.len());
    faults.iter().map(|story| checker.check(story).unwrap_err()).collect()
}

fn count(faults: &[StoryFault], kind: FaultKind) -> usize {
    faults.iter().filter(|fault| fault.kind == kind).count()
}

#[test]
fn every_story_of_the_grammar_is_coherent() {
    let checker = StoryChecker::new();
    let mut plots = BTreeSet::new();
    for story in some_stories(700) {
        match checker.check(&story) {
            Ok(plot) => _ = plots.insert(plot),
            Err(fault) => panic!("{fault}\n{story}"),
        }
        // Paragraphs do not count.
        assert!(checker.check(&story.replace('\n', " ")).is_ok());
    }
    assert!(plots.len() > 50, "{plots:?}");
}

#[test]
fn shuffled_sentences_are_refused() {
    let shuffled = stories().into_iter().enumerate().map(|(i, story)| {
        let mut all = sentences(&story);
        let before = all.clone();
        for place in (1..all.len()).rev() {
            all.swap(place, draw(i * 64 + place, place + 1));
        }
        if all == before {
            all.reverse();
        }
        joined(&all)
    });
    refused(shuffled.collect(), 0);
    // Two neighbours, from the same part of the plot as often as not.
    let swapped = stories().into_iter().enumerate().filter_map(|(i, story)| {
        let mut all = sentences(&story);
        let place = draw(i, all.len() - 1);
        all.swap(place, place + 1);
        (joined(&all) != joined(&sentences(&story))).then(|| joined(&all))
    });
    refused(swapped.collect(), 0);
}

#[test]
fn another_name_is_refused() {
    let mut changed = Vec::new();
    for (i, story) in stories().iter().enumerate() {
        for names in [GIRLS, BOYS] {
            let is_there = |name: &&str| story.matches(*name).count() > 1;
            let Some(name) = names.iter().find(|name| is_there(name)) else { continue };
            let other = names.iter().cycle().skip(draw(i, 6)).find(|it| !story.contains(**it));
            let last = story.rfind(*name).unwrap();
            let (before, after) = story.split_at(last);
            changed.push(format!("{before}{}{}", other.unwrap(), &after[name.len()..]));
        }
    }
    let faults = refused(changed, 0);
    assert!(count(&faults, FaultKind::Character) * 2 > faults.len(), "{faults:#?}");
    assert!(faults.iter().all(|fault| !fault.expected.is_empty() && !fault.found.is_empty()));
}

#[test]
fn swapped_names_are_refused() {
    let mut swapped = Vec::new();
    for story in stories() {
        let names: Vec<&str> = GIRLS.into_iter().filter(|name| story.contains(name)).collect();
        let [one, other] = names[..] else { continue };
        let second = story.find(one).unwrap().max(story.find(other).unwrap()) + one.len();
        let middle = story[second..].find(['.', '!', '?']).map_or(second, |at| second + at);
        let (before, after) = story.split_at(middle);
        let after = after.replace(one, "\u{1}").replace(other, one).replace('\u{1}', other);
        if !after.contains(one) || !after.contains(other) {
            continue;
        }
        swapped.push(format!("{before}{after}"));
    }
    while swapped.len() <= 90 {
        swapped.extend(swapped.clone());
    }
    refused(swapped, 0);
}

#[test]
fn another_pronoun_is_refused() {
    let wrong = stories().into_iter().filter_map(|story| {
        let at = story.rfind(" he ")?;
        Some(format!("{} she {}", &story[..at], &story[at + 4..]))
    });
    // Somebody whose pronoun comes once may have either.
    let faults = refused(wrong.collect(), 3);
    assert!(count(&faults, FaultKind::Pronoun) * 2 > faults.len(), "{faults:#?}");
}

#[test]
fn halves_of_two_stories_are_refused() {
    let stories = stories();
    let halves = stories.windows(2).map(|pair| {
        let (first, second) = (sentences(&pair[0]), sentences(&pair[1]));
        joined(&[&first[..first.len() / 2], &second[second.len() / 2..]].concat())
    });
    refused(halves.collect(), 0);
    let both = stories.windows(2).map(|pair| format!("{}\n{}", pair[0], pair[1]));
    let faults = refused(both.collect(), 0);
    assert!(count(&faults, FaultKind::Ending) * 10 > faults.len() * 9, "{faults:#?}");
}

#[test]
fn a_story_that_stops_is_refused() {
    // A sentence less may be one that is not in every story.
    let cut = stories().into_iter().enumerate().map(|(i, story)| {
        let all = sentences(&story);
        let n = 1 + draw(i, all.len() * 3 / 4);
        joined(&all[..n])
    });
    let faults = refused(cut.collect(), 0);
    assert_eq!(count(&faults, FaultKind::Ending), faults.len(), "{faults:#?}");
    let within = stories().into_iter().enumerate().map(|(i, story)| {
        let end = 1 + draw(i, story.len() - 3);
        story[..end].trim_end().to_owned()
    });
    refused(within.collect(), 200);
}

#[test]
fn faults_say_where_and_what() {
    let checker = StoryChecker::new();
    let story = "It was a hot day, and everybody was at the pond. Hugo sat far away from it. \
                 \"What if I go under?\" he thought. Nils splashed and laughed. \"Do you not want \
                 to swim?\" he asked. Theo looked at his feet.";
    let fault = checker.check(story).unwrap_err();
    assert_eq!(
        (fault.kind, fault.plot, fault.found.as_str()),
        (FaultKind::Character, "Afraid of the water", "Theo looked")
    );
    assert_eq!(
        fault.to_string(),
        "after `want to swim?\" he asked.`: `Theo looked`, expected `Hugo`"
    );
    let story = stories().into_iter().find(|story| story.contains(" a big ")).unwrap();
    let fault = checker.check(&story.replacen(" a big ", " an big ", 1)).unwrap_err();
    assert_eq!((fault.kind, fault.found.as_str()), (FaultKind::Word, "an big"));
    for (story, kind) in [
        ("", FaultKind::Ending),
        ("It was a hot day, and everybody", FaultKind::Ending),
        ("The committee met at noon.", FaultKind::Word),
        (
            "It was a hot day, and everybody was at the pond. Hugo sat far away from it. \
          \"What if I go under?\" she thought.",
            FaultKind::Pronoun,
        ),
        (
            "It was a hot day, and everybody was at the pond. Hugo sat far away from it. \
          \"What if I go under?\" he thought. So Hugo gave it water every day. Then, one morning, \
          there was a tiny green leaf! Hugo danced around it.",
            FaultKind::Plot,
        ),
    ] {
        assert_eq!(checker.check(story).unwrap_err().kind, kind, "{story}");
    }
}
