//! Ctrl-C and other signals that end a process.
//!
//! While a run trains, the first signal asks it to stop and a later one ends it at once. Before and
//! after training there is nothing to save, and the first signal ends the process.
//!
//! Schedulers, `timeout` and closing terminals send a signal to the process and then to its group,
//! or two kinds of signal in a row. Signals within about a second of the first therefore count as
//! the same request.
//!
//! A handler only stores the number of the signal. A thread reads it 50 times a second and does what
//! needs a lock, a clock and the terminal. This works the same on all systems.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use signal_hook::consts;
use signal_hook::{flag, low_level};
use tinygpt_train::StopFlag;

/// Signals that ask a run to stop.
#[cfg(unix)]
const STOPPERS: [i32; 3] = [consts::SIGINT, consts::SIGTERM, consts::SIGHUP];
/// Signals that ask a run to stop; a closed terminal sends none on this system.
#[cfg(not(unix))]
const STOPPERS: [i32; 2] = [consts::SIGINT, consts::SIGTERM];

/// Signals within this time are repeats: a second, and a quarter for a busy machine.
const REPEATS: Duration = Duration::from_millis(1250);

/// How often the thread checks for a signal.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Turns a write beyond the file size limit (`ulimit -f`) into an error; otherwise the system ends the
/// process. Writing to a closed pipe is already an error: the standard library ignores that signal.
pub fn survive_file_limit() {
    // If the system refuses, the limit ends the process as usual.
    #[cfg(unix)]
    let _ = flag::register(consts::SIGXFSZ, Arc::new(AtomicBool::new(false)));
}

/// Prints messages about signals. Called on a separate thread.
pub trait Answer: Send {
    /// The first signal asked the run to stop.
    fn asked(&self, signal: usize);
    /// A later signal ends the process now.
    fn ended(&self);
}

/// Prints nothing.
#[derive(Debug)]
struct NoAnswer;

impl Answer for NoAnswer {
    fn asked(&self, _signal: usize) {}
    fn ended(&self) {}
}

/// What the next signal does: end the process with 128 + its number, or raise a flag first.
#[derive(Debug)]
pub struct Signals {
    state: Arc<Mutex<State>>,
}

impl Signals {
    /// Installs handlers. Each signal ends the process at once, until [`Self::ask_first`]. A signal
    /// that was ignored when the process started (`nohup`) stays ignored.
    ///
    /// # Errors
    /// If the system refuses to install a handler or to start a thread.
    pub fn install(stop: &StopFlag) -> std::io::Result<Self> {
        let latest = Arc::new(AtomicUsize::new(0));
        let ignored = ignored();
        for signal in STOPPERS {
            if ignored & (1 << (signal - 1)) == 0 {
                let number = usize::try_from(signal).unwrap_or_default();
                flag::register_usize(signal, Arc::clone(&latest), number)?;
            }
        }
        let state = Arc::new(Mutex::new(State::default()));
        let (shared, stop) = (Arc::clone(&state), stop.clone());
        std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
            loop {
                let signal = latest.swap(0, Ordering::SeqCst);
                if signal != 0 {
                    arrived(signal, Instant::now(), &shared, &stop);
                }
                std::thread::sleep(LOOK_EVERY);
            }
        })?;
        Ok(Self { state })
    }

    /// The next signal only raises the stop flag.
    pub fn ask_first(&self) {
        self.ask_first_and(NoAnswer);
    }

    /// The same, with messages for the user.
    pub fn ask_first_and(&self, answer: impl Answer + 'static) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        *state = State { next: Next::Asks, last: None, answer: Box::new(answer) };
    }

    /// The next signal ends the process.
    pub fn end_at_once(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.next = Next::Ends;
        state.answer = Box::new(NoAnswer);
    }
}

/// What the next signal does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// It ends the process.
    Ends,
    /// It raises the flag.
    Asks,
}

struct State {
    next: Next,
    /// Time of the last signal that was not a repeat.
    last: Option<Instant>,
    answer: Box<dyn Answer>,
}

impl Default for State {
    fn default() -> Self {
        Self { next: Next::Ends, last: None, answer: Box::new(NoAnswer) }
    }
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").field("next", &self.next).field("last", &self.last).finish()
    }
}

impl State {
    /// What a signal at `now` does; `None` if it is a repeat.
    fn take(&mut self, now: Instant) -> Option<Next> {
        if self.last.is_some_and(|last| now.duration_since(last) < REPEATS) {
            return None;
        }
        self.last = Some(now);
        Some(std::mem::replace(&mut self.next, Next::Ends))
    }
}

fn arrived(signal: usize, now: Instant, state: &Mutex<State>, stop: &StopFlag) {
    let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
    match state.take(now) {
        None => {}
        Some(Next::Asks) => {
            stop.raise(signal);
            state.answer.asked(signal);
        }
        Some(Next::Ends) => {
            state.answer.ended();
            low_level::exit(128 + i32::try_from(signal).unwrap_or_default());
        }
    }
}

/// The signals that this process ignores, a bit for each, if the system provides them.
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeats_within_a_second_are_one_and_a_later_signal_ends() {
        let begin = Instant::now();
        let at = |ms: u64| begin + Duration::from_millis(ms);
        for (times, expected) in [
            (vec![0, 0, 1, 400, 1000], vec![(0, Next::Asks)]),
            (vec![0, 1500], vec![(0, Next::Asks), (1500, Next::Ends)]),
            // The window is that of the first, and does not grow with each repeat.
            (vec![0, 900, 1800], vec![(0, Next::Asks), (1800, Next::Ends)]),
        ] {
            let mut state = State { next: Next::Asks, ..State::default() };
            let done: Vec<_> =
                times.iter().filter_map(|&ms| Some((ms, state.take(at(ms))?))).collect();
            assert_eq!(done, expected, "{times:?}");
        }
        assert_eq!(State::default().take(begin), Some(Next::Ends), "nothing to save");
    }
}
