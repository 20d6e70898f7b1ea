//! Ctrl-C and its kin: while a run trains, the first signal asks it to stop and the second ends it
//! at once; before and after that there is nothing to save, and the first ends it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts;
use signal_hook::flag;
use tinygpt_train::StopFlag;

/// Signals that ask a run to stop.
#[cfg(unix)]
const STOPPERS: [i32; 3] = [consts::SIGINT, consts::SIGTERM, consts::SIGHUP];
/// Signals that ask a run to stop; a closed terminal has none here.
#[cfg(not(unix))]
const STOPPERS: [i32; 2] = [consts::SIGINT, consts::SIGTERM];

/// Lets a write that exceeds the limit of a file's size (`ulimit -f`) fail with an error, which can
/// be told and handled; without this the system ends the process there and then. Writing to a pipe
/// that nobody reads is an error already: the standard library sees to it.
pub fn survive_file_limit() {
    // Should the system refuse, the limit does what it always does.
    #[cfg(unix)]
    let _ = flag::register(consts::SIGXFSZ, Arc::new(AtomicBool::new(false)));
}

/// What the next signal does: exit with 128 + its number, or raise a flag first.
#[derive(Debug)]
pub struct Signals {
    ends_at_once: Arc<AtomicBool>,
}

impl Signals {
    /// Takes the signals over. Each ends the process at once, and raises `stop` where it does not.
    ///
    /// # Errors
    /// If the system refuses to install a handler.
    pub fn install(stop: &StopFlag) -> std::io::Result<Self> {
        let ends_at_once = Arc::new(AtomicBool::new(true));
        for signal in STOPPERS {
            // Actions run in the order of their registration: the shutdown looks at the flag
            // before this signal raises it.
            flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&ends_at_once))?;
            flag::register(signal, Arc::clone(&ends_at_once))?;
            flag::register_usize(signal, stop.cell(), usize::try_from(signal).unwrap_or(1))?;
        }
        Ok(Self { ends_at_once })
    }

    /// Lets the next signal only raise the flag: there is something to finish and to save.
    pub fn ask_first(&self) {
        self.ends_at_once.store(false, Ordering::SeqCst);
    }

    /// Lets the next signal end the process.
    pub fn end_at_once(&self) {
        self.ends_at_once.store(true, Ordering::SeqCst);
    }
}
