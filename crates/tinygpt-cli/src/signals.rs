//! Ctrl-C and its kin: the first signal asks the run to stop, the second ends it at once.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts;
use signal_hook::flag;
use tinygpt_train::StopFlag;

/// Signals that ask a run to stop.
#[cfg(unix)]
const STOPPERS: [i32; 3] = [consts::SIGINT, consts::SIGTERM, consts::SIGHUP];
/// Signals that ask a run to stop; a closed terminal has none here.
#[cfg(not(unix))]
const STOPPERS: [i32; 2] = [consts::SIGINT, consts::SIGTERM];

/// Raises `stop` at the first of these signals; the second exits at once with 128 + its number.
///
/// # Errors
/// If the system refuses to install a handler.
pub fn install(stop: &StopFlag) -> std::io::Result<()> {
    let asked_before = Arc::new(AtomicBool::new(false));
    for signal in STOPPERS {
        // Actions run in the order of their registration: the shutdown looks at the flag before
        // this signal raises it.
        flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&asked_before))?;
        flag::register(signal, Arc::clone(&asked_before))?;
        flag::register_usize(signal, stop.cell(), usize::try_from(signal).unwrap_or(1))?;
    }
    Ok(())
}
