//! One exchange: a question of the user and the answer of Pip, from a fact or a pattern.

use crate::tales::rng::StoryRng;

use super::check::{Domain, Rule, filled};
use super::kind::QuestionKind;
use super::phrases::{Phrases, Script, capital, fill, marks};
use super::tables::{COLORS, DAYS, FRIEND_COLUMNS, FRIENDS, MONTHS, OPPOSITES, SOUNDS};

/// The largest number in sums and in counting.
pub(super) const MAX_NUMBER: u32 = 10;

/// What an exchange was about: what a follow-up refers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Topic {
    Other,
    Fact(usize),
    Friend(usize),
    /// The result of a sum.
    Number(u32),
    Count(u32, u32),
    Day(usize),
    Month(usize),
    Opposite,
    Color,
    Sound,
    Joke(usize),
    Feeling,
}

/// A question, its answer, and when another answer is right.
#[derive(Debug, Clone)]
pub(super) struct Exchange {
    pub(super) kind: QuestionKind,
    pub(super) ask: String,
    pub(super) answer: String,
    /// The known right answers; an answer is right if it states the facts of one of them.
    pub(super) right: Vec<String>,
    pub(super) domain: Domain,
    pub(super) topic: Topic,
    /// The answer in one word, if there is one.
    pub(super) key: Option<String>,
}

impl Exchange {
    /// When an answer is right.
    pub(super) fn rule(&self) -> Rule {
        match self.kind {
            QuestionKind::Instruction => Rule::one_word(self.domain, &self.answer),
            _ => Rule::new(self.domain, &self.right),
        }
    }
}

/// Makes exchanges out of the script, by the choices of one conversation.
pub(super) struct Writer<'s> {
    pub(super) script: &'s Script,
    pub(super) rng: StoryRng,
}

impl<'s> Writer<'s> {
    /// One of `items`.
    pub(super) fn pick(&mut self, items: &[&'static str]) -> &'static str {
        self.rng.pick(items).copied().unwrap_or_default()
    }

    /// The usual answer, or one in four times another.
    fn spoken(&mut self, phrases: &Phrases) -> &'static str {
        match phrases.say.split_first() {
            Some((_, others)) if !others.is_empty() && self.rng.one_in(4) => self.pick(others),
            Some((usual, _)) => usual,
            None => "",
        }
    }

    /// A number in `from..=to`.
    pub(super) fn number(&mut self, from: u32, to: u32) -> u32 {
        from + self.rng.below((to + 1).saturating_sub(from))
    }

    /// An exchange of `kind` that needs no turn before it.
    pub(super) fn about(&mut self, kind: QuestionKind) -> Exchange {
        match kind {
            QuestionKind::Arithmetic => self.sum(),
            QuestionKind::Counting if !self.rng.one_in(5) => self.count(),
            QuestionKind::Opposite => self.opposite(false),
            QuestionKind::Color => self.color(false),
            QuestionKind::Sound => self.sound(false),
            QuestionKind::Calendar if !self.rng.one_in(6) => self.neighbor(),
            QuestionKind::World if self.rng.one_in(2) => self.any_friend(),
            QuestionKind::Joke => self.joke(),
            _ => self.any_fact(kind),
        }
    }

    fn any_fact(&mut self, kind: QuestionKind) -> Exchange {
        let facts = self.script.facts_of(kind);
        let fact = self.rng.pick(&facts).copied().unwrap_or_default();
        self.fact(fact, false)
    }

    /// The fact of this number, asked on its own or after a fact of its group.
    pub(super) fn fact(&mut self, fact: usize, follows: bool) -> Exchange {
        let script = self.script;
        let Some(phrases) = script.facts.get(fact) else { return self.sum() };
        let kind = phrases.kind.unwrap_or(QuestionKind::Character);
        let topic = match (kind, friend_in(phrases)) {
            (QuestionKind::Feeling, _) => Topic::Feeling,
            (QuestionKind::World, Some(friend)) if !self.rng.one_in(4) => Topic::Friend(friend),
            _ => Topic::Fact(fact),
        };
        let mut exchange = self.exchange(kind, phrases, follows, Domain::Facts, &[]);
        exchange.topic = topic;
        exchange.key = one_word(phrases);
        exchange
    }

    /// An exchange of a section whose markers stand for `values`.
    pub(super) fn exchange(
        &mut self,
        kind: QuestionKind,
        phrases: &Phrases,
        follows: bool,
        domain: Domain,
        values: &[(&str, &str)],
    ) -> Exchange {
        let asks = if follows && !phrases.and.is_empty() { &phrases.and } else { &phrases.ask };
        Exchange {
            kind: if follows { QuestionKind::FollowUp } else { kind },
            ask: fill(self.pick(asks), values),
            answer: fill(self.spoken(phrases), values),
            right: filled(phrases.right(), values),
            domain,
            topic: Topic::Other,
            key: None,
        }
    }

    fn sum(&mut self) -> Exchange {
        let first = self.number(1, 9);
        let second = self.number(1, (MAX_NUMBER - first).min(9));
        let total = first + second;
        if self.rng.one_in(2) {
            self.arithmetic("plus", first, second, total, false)
        } else {
            self.arithmetic("minus", total, second, first, false)
        }
    }

    pub(super) fn arithmetic(
        &mut self,
        pattern: &str,
        first: u32,
        second: u32,
        result: u32,
        follows: bool,
    ) -> Exchange {
        let (a, b, c) = (first.to_string(), second.to_string(), result.to_string());
        let values = [("a", a.as_str()), ("b", &b), ("c", &c)];
        let phrases = self.script.pattern(pattern);
        let mut exchange =
            self.exchange(QuestionKind::Arithmetic, phrases, follows, Domain::Numbers, &values);
        exchange.topic = Topic::Number(result);
        exchange.key = Some(c);
        exchange
    }

    /// "Count from 3 to 7.", or back, or "What comes after 3?"
    fn count(&mut self) -> Exchange {
        if self.rng.one_in(4) {
            let before = self.number(1, 11);
            return self.arithmetic_like("next number", before, before + 1);
        }
        let from = self.number(1, MAX_NUMBER - 1);
        let to = self.number(from + 1, (from + 5).min(MAX_NUMBER));
        if self.rng.one_in(4) {
            self.counted("count back", to, from, false)
        } else {
            self.counted("count", from, to, false)
        }
    }

    fn arithmetic_like(&mut self, pattern: &str, first: u32, result: u32) -> Exchange {
        let mut exchange = self.arithmetic(pattern, first, result, result, false);
        exchange.kind = QuestionKind::Counting;
        exchange.topic = Topic::Other;
        exchange
    }

    pub(super) fn counted(&mut self, pattern: &str, from: u32, to: u32, follows: bool) -> Exchange {
        let (a, b, list) = (from.to_string(), to.to_string(), numbers(from, to));
        let values = [("a", a.as_str()), ("b", &b), ("list", &list)];
        let phrases = self.script.pattern(pattern);
        let mut exchange =
            self.exchange(QuestionKind::Counting, phrases, follows, Domain::Numbers, &values);
        exchange.topic = Topic::Count(from, to);
        exchange
    }

    /// An exchange of a pattern about `a`, with the answer `b`.
    fn pair(
        &mut self,
        kind: QuestionKind,
        pattern: &str,
        follows: bool,
        domain: Domain,
        (a, b, key): (&str, &str, &str),
    ) -> Exchange {
        let phrases = self.script.pattern(pattern);
        let mut exchange = self.exchange(kind, phrases, follows, domain, &[("a", a), ("b", b)]);
        exchange.key = Some(key.to_owned());
        exchange
    }

    pub(super) fn opposite(&mut self, follows: bool) -> Exchange {
        let (one, other) = self.rng.pick(&OPPOSITES).copied().unwrap_or_default();
        let (a, b) = if self.rng.one_in(2) { (one, other) } else { (other, one) };
        let pair = (a, b, b);
        let exchange =
            self.pair(QuestionKind::Opposite, "opposite", follows, Domain::Opposites, pair);
        Exchange { topic: Topic::Opposite, ..exchange }
    }

    pub(super) fn color(&mut self, follows: bool) -> Exchange {
        let (thing, color) = self.rng.pick(&COLORS).copied().unwrap_or_default();
        let pair = (thing, color, color);
        let exchange = self.pair(QuestionKind::Color, "color", follows, Domain::Colors, pair);
        Exchange { topic: Topic::Color, ..exchange }
    }

    pub(super) fn sound(&mut self, follows: bool) -> Exchange {
        let (animal, sound) = self.rng.pick(&SOUNDS).copied().unwrap_or_default();
        if !follows && self.rng.one_in(3) {
            let name = animal.split(' ').next_back().unwrap_or_default();
            let pair = (animal, sound, name);
            return self.pair(QuestionKind::Sound, "who says", false, Domain::Sounds, pair);
        }
        let pair = (animal, sound, sound);
        let exchange = self.pair(QuestionKind::Sound, "sound", follows, Domain::Sounds, pair);
        Exchange { topic: Topic::Sound, ..exchange }
    }

    /// The day or month after or before another.
    fn neighbor(&mut self) -> Exchange {
        let is_day = self.rng.one_in(2);
        let (unit, all): (_, &[&str]) = if is_day { ("day", &DAYS) } else { ("month", &MONTHS) };
        let n = all.len();
        let at = self.rng.below(u32::try_from(n).unwrap_or(u32::MAX)) as usize;
        let is_after = !self.rng.one_in(3);
        let to = if is_after { (at + 1) % n } else { (at + n - 1) % n };
        let (a, b) = (name(all, at), name(all, to));
        let phrases = self.script.pattern(if is_after { "after" } else { "before" });
        let values = [("a", a), ("b", b), ("unit", unit)];
        let mut exchange =
            self.exchange(QuestionKind::Calendar, phrases, false, Domain::Calendar, &values);
        exchange.key = Some(b.to_owned());
        if is_after {
            exchange.topic = if is_day { Topic::Day(to) } else { Topic::Month(to) };
        }
        exchange
    }

    /// "And after that?": the day or month after `at`.
    pub(super) fn next_in(&mut self, all: &[&str], at: usize) -> Exchange {
        let (b, c) = (name(all, at), name(all, (at + 1) % all.len()));
        let phrases = self.script.pattern("next");
        self.exchange(
            QuestionKind::Calendar,
            phrases,
            true,
            Domain::Calendar,
            &[("b", b), ("c", c)],
        )
    }

    fn any_friend(&mut self) -> Exchange {
        let friend = self.rng.below(4) as usize;
        self.friend(friend, false)
    }

    /// Something about a friend, who is named or, in a follow-up, "she" or "he".
    pub(super) fn friend(&mut self, number: usize, follows: bool) -> Exchange {
        let (Some(friend), Some((pattern, _))) =
            (FRIENDS.get(number), self.rng.pick(&FRIEND_COLUMNS).copied())
        else {
            return self.sum();
        };
        let an_animal = match friend.cells.first() {
            Some(animal) if animal.starts_with('o') => format!("an {animal}"),
            animal => format!("a {}", animal.copied().unwrap_or_default()),
        };
        let names = [("name", friend.name), ("he", friend.he), ("his", friend.his)];
        let mut values = names.to_vec();
        values.push(("an_animal", &an_animal));
        let columns = FRIEND_COLUMNS.iter().zip(friend.cells);
        values.extend(columns.map(|(&(_, column), cell)| (column, cell)));
        let phrases = self.script.pattern(pattern);
        let exchange = self.exchange(QuestionKind::World, phrases, follows, Domain::Facts, &values);
        Exchange { topic: Topic::Friend(number), ..exchange }
    }

    /// A request for a joke; the answer is the first half of one.
    fn joke(&mut self) -> Exchange {
        let jokes = self.script.facts_of(QuestionKind::Joke);
        let joke = self.rng.pick(&jokes).copied().unwrap_or_default();
        let setups = jokes.iter().filter_map(|&joke| self.script.facts.get(joke));
        let right = filled(setups.flat_map(Phrases::right), &[]);
        let spoken = self
            .script
            .facts
            .get(joke)
            .map_or("", |joke| joke.say.first().copied().unwrap_or_default());
        let ask = self.pick(&self.script.pattern("joke").ask);
        Exchange {
            kind: QuestionKind::Joke,
            ask: ask.to_owned(),
            answer: fill(spoken, &[]),
            right,
            domain: Domain::Facts,
            topic: Topic::Joke(joke),
            key: None,
        }
    }
}

/// "3, 4, 5" or "5, 4, 3".
fn numbers(from: u32, to: u32) -> String {
    let up = (from..=to).map(|n| n.to_string());
    let down = (to..=from).rev().map(|n| n.to_string());
    let all: Vec<String> = if from <= to { up.collect() } else { down.collect() };
    all.join(", ")
}

fn name<'a>(all: &[&'a str], at: usize) -> &'a str {
    all.get(at).copied().unwrap_or_default()
}

/// The friend that a fact names, if it names one only.
fn friend_in(phrases: &Phrases) -> Option<usize> {
    let marked: Vec<&str> = marks(phrases.say.first()?).collect();
    let mut named = (0..FRIENDS.len()).filter(|&at| marked.contains(&FRIENDS[at].name));
    named.next().filter(|_| named.next().is_none())
}

/// The marked word of a fact that has only one.
fn one_word(phrases: &Phrases) -> Option<String> {
    let mut marked = marks(phrases.say.first()?);
    let word = marked.next().filter(|word| !word.contains(' '))?;
    marked.next().is_none().then(|| capital(word))
}
