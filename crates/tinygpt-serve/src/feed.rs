//! The events of a run that trains while it is served: kept for new readers, sent to all of them.
//!
//! The trainer adds an event and never waits for a reader. A reader has a place in the list and takes
//! what is after it, so a slow one costs no memory: it misses the steps that were thinned meanwhile.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::request::any_seed;

/// The most steps that are kept. Beyond that, only every second, fourth, eighth … of the older ones is.
const MAX_STEPS: usize = 4096;
/// The number of newest steps that are all kept.
const RECENT_STEPS: u64 = 1024;
/// The most evaluations and the most samples that are kept; the oldest are dropped.
const MAX_OTHERS: usize = 1024;
/// The bytes of events that are sent at once.
const CHUNK_BYTES: usize = 64 << 10;

/// The kind of an event: its name in the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeedEvent {
    /// A training step.
    Step,
    /// An evaluation.
    Eval,
    /// A text of an evaluation.
    Sample,
}

impl FeedEvent {
    fn name(self) -> &'static str {
        match self {
            Self::Step => "step",
            Self::Eval => "eval",
            Self::Sample => "sample",
        }
    }
}

/// The events of a run.
#[derive(Debug)]
pub struct Feed {
    /// Differs between two runs of the program, so that a reader notices a restart.
    id: String,
    state: Mutex<State>,
    /// The number of the next event.
    next: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    events: VecDeque<Entry>,
    next: u64,
    /// How many events of each kind are kept.
    counts: [usize; 3],
    /// How many steps there were.
    n_steps: u64,
    /// Of the older steps, every step with a multiple of this number is kept.
    stride: u64,
    /// The last event, after which there is nothing.
    end: Option<String>,
}

#[derive(Debug)]
struct Entry {
    number: u64,
    kind: FeedEvent,
    /// The number of a step among the steps.
    step: u64,
    data: Arc<str>,
}

impl Default for Feed {
    fn default() -> Self {
        let id = format!("{:x}", any_seed());
        Self { id, state: Mutex::default(), next: watch::Sender::new(0) }
    }
}

impl Feed {
    /// Adds an event; `data` is one line.
    pub fn push(&self, kind: FeedEvent, data: &str) {
        let next = {
            let mut state = self.lock();
            let (number, step) = (state.next, state.n_steps);
            state.events.push_back(Entry { number, kind, step, data: data.into() });
            state.next += 1;
            state.n_steps += u64::from(kind == FeedEvent::Step);
            state.counts[kind as usize] += 1;
            state.drop_some(kind);
            state.next
        };
        self.next.send_replace(next);
    }

    /// Adds the last event, `end`. Later calls change nothing.
    pub fn end(&self, data: &str) {
        self.lock().end.get_or_insert_with(|| data.to_owned());
        self.next.send_modify(|_| {});
    }

    /// Notified when there are more events.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.next.subscribe()
    }

    /// The place after the event with this id; the start if it is not one of this feed.
    pub(crate) fn place_after(&self, last_event_id: Option<&str>) -> u64 {
        let number = last_event_id.and_then(|id| id.strip_prefix(&self.id)?.strip_prefix('-'));
        number
            .and_then(|number| number.parse::<u64>().ok())
            .map_or(0, |number| number.saturating_add(1))
    }

    /// Events from `place` on as a stream has them, and the place after them. `None` at the end.
    pub(crate) fn chunk(&self, place: u64) -> Option<(String, u64)> {
        let state = self.lock();
        let (mut text, mut next) = (String::new(), place);
        let first = state.events.partition_point(|event| event.number < place);
        for Entry { number, kind, data, .. } in state.events.range(first..) {
            // Writing to a String cannot fail.
            let _ =
                write!(text, "id: {}-{number}\nevent: {}\ndata: {data}\n\n", self.id, kind.name());
            next = number + 1;
            if text.len() >= CHUNK_BYTES {
                return Some((text, next));
            }
        }
        match &state.end {
            Some(_) if place == u64::MAX => None,
            Some(end) => {
                let _ = write!(text, "event: end\ndata: {end}\n\n");
                Some((text, u64::MAX))
            }
            None => Some((text, next)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is consistent after each call above, even if a thread panicked.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Keeps the number of events of `kind` within its limit.
    fn drop_some(&mut self, kind: FeedEvent) {
        let count = self.counts[kind as usize];
        match kind {
            FeedEvent::Step if count > MAX_STEPS => self.thin_steps(),
            FeedEvent::Eval | FeedEvent::Sample if count > MAX_OTHERS => {
                if let Some(oldest) = self.events.iter().position(|event| event.kind == kind) {
                    self.events.remove(oldest);
                    self.counts[kind as usize] -= 1;
                }
            }
            _ => {}
        }
    }

    /// Drops older steps, evenly, until half of the limit is free.
    fn thin_steps(&mut self) {
        let recent = self.n_steps.saturating_sub(RECENT_STEPS);
        while self.counts[FeedEvent::Step as usize] > MAX_STEPS / 2 {
            let stride = self.stride.max(1);
            let mut n_kept = 0;
            self.events.retain(|event| {
                let is_step = event.kind == FeedEvent::Step;
                let is_kept = !is_step || event.step >= recent || event.step.is_multiple_of(stride);
                n_kept += usize::from(is_step && is_kept);
                is_kept
            });
            self.counts[FeedEvent::Step as usize] = n_kept;
            if n_kept > MAX_STEPS / 2 {
                self.stride = stride * 2;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    /// Everything from `place` on, and the place after it.
    fn rest(feed: &Feed, mut place: u64) -> (String, u64) {
        let mut text = String::new();
        loop {
            match feed.chunk(place) {
                Some((more, next)) if next != place => {
                    text.push_str(&more);
                    place = next;
                }
                _ => return (text, place),
            }
        }
    }

    #[test]
    fn a_reader_continues_after_its_last_event_and_starts_again_after_a_restart() {
        let feed = Feed::default();
        for i in 0..5 {
            feed.push(FeedEvent::Step, &format!("{{\"iter\":{i}}}"));
        }
        let (text, place) = rest(&feed, 0);
        assert_eq!(text.matches("event: step\ndata: {\"iter\":").count(), 5);
        let ids: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("id: ")).collect();
        assert_eq!(feed.place_after(Some(ids[2])), 3);
        assert_eq!(rest(&feed, 3).0.matches("event: ").count(), 2);
        for other in [None, Some(""), Some("x-2"), Some("-"), Some("18446744073709551615")] {
            assert_eq!(feed.place_after(other), 0, "{other:?}");
        }
        assert_eq!(feed.place_after(Some(&format!("{}-{}", feed.id, u64::MAX))), u64::MAX);
        feed.push(FeedEvent::Sample, "{}");
        assert!(rest(&feed, place).0.contains("event: sample\ndata: {}\n\n"));
        feed.end("\"done\"");
        feed.end("\"too late\"");
        let (text, place) = rest(&feed, 6);
        assert_eq!(text, "event: end\ndata: \"done\"\n\n");
        assert_eq!(feed.chunk(place), None);
    }

    #[test]
    fn a_long_run_keeps_its_shape_and_bounded_memory() {
        let feed = Feed::default();
        for i in 0..100_000 {
            feed.push(FeedEvent::Step, &i.to_string());
            if i % 50 == 0 {
                feed.push(FeedEvent::Eval, &i.to_string());
            }
        }
        let state = feed.lock();
        let of = |kind| -> Vec<usize> {
            let events = state.events.iter().filter(|event| event.kind == kind);
            events.map(|event| event.data.parse().unwrap()).collect()
        };
        let (steps, evals) = (of(FeedEvent::Step), of(FeedEvent::Eval));
        assert_eq!(state.counts, [steps.len(), evals.len(), 0]);
        assert!((MAX_STEPS / 4..=MAX_STEPS).contains(&steps.len()), "{}", steps.len());
        assert_eq!((steps[0], steps[steps.len() - 1]), (0, 99_999));
        assert!(steps.windows(2).all(|pair| pair[0] < pair[1] && pair[1] - pair[0] <= 128));
        assert_eq!((evals.len(), evals[evals.len() - 1]), (MAX_OTHERS, 99_950));
    }
}
