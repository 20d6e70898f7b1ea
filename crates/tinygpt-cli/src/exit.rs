//! How a binary ends: the one place where an error becomes a message and an exit code.
//!
//! 0 done, 1 anything unexpected, 2 usage or config, 3 bad or corrupt data, 4 I/O, 5 network,
//! 6 non-finite numbers, 7 locked, 8 another process of the run lost, 128 + the signal's number when stopped by one.

use std::io::{self, Write as _};
use std::panic::{self, AssertUnwindSafe};
use std::process::ExitCode;
use std::time::Duration;

use clap::error::{ContextKind, ContextValue, ErrorKind as Refusal};
use tinygpt_data::{DataError, is_in_library};
use tinygpt_fs::ErrorKind;
use tinygpt_model::{DeviceError, ModelError};
use tinygpt_train::ranks::{Failure, RanksError};
use tinygpt_train::{TrainError, chain};

use crate::args::{self, Invocation, NoRun};
use crate::hints;
use crate::options::{self, Layered, Options};
use crate::ranks::launched;
use crate::signals;
use crate::terminal::{self, Output, say, say_on_any_rank};
use crate::usage::UsageError;

pub(crate) const UNEXPECTED: u8 = 1;
const USAGE: u8 = 2;
const CORRUPT: u8 = 3;
const IO: u8 = 4;
const NETWORK: u8 = 5;
const NON_FINITE: u8 = 6;
const LOCKED: u8 = 7;
const RANKS: u8 = 8;

/// How the work of a binary ended, if it did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Everything is done.
    Done,
    /// Stopped by the signal of this number; everything is saved.
    Stopped(usize),
}

/// The `main` of a binary: parses its command line, does `work`, reports how it ended.
pub fn run<O: Options>(work: impl FnOnce(&Layered<O>) -> anyhow::Result<Ended>) -> ExitCode {
    panic::set_hook(Box::new(|panic| {
        // A library's panic on a damaged file becomes an error with its own message.
        if is_in_library() {
            return;
        }
        say_on_any_rank(&format!("error: a bug in TinyGPT {}: {panic}", env!("CARGO_PKG_VERSION")));
        say_on_any_rank(
            "hint: please report it with the command you typed; what was saved is still good",
        );
    }));
    signals::survive_file_limit();
    if let (true, Some(launched)) = (O::BINARY == "train", launched()) {
        terminal::set_rank(launched.rank);
    }
    let ended = panic::catch_unwind(AssertUnwindSafe(|| parse_and_run(work)));
    ExitCode::from(ended.unwrap_or(UNEXPECTED))
}

fn parse_and_run<O: Options>(work: impl FnOnce(&Layered<O>) -> anyhow::Result<Ended>) -> u8 {
    let result = match args::parse::<O, _>(std::env::args_os()) {
        Ok(Invocation::Run(layered)) => O::resume(layered).and_then(|layered| work(&layered)),
        Ok(Invocation::ShowConfig(layered)) => O::resume(layered).and_then(|layered| {
            Output::lock().print(&layered.show())?;
            Ok(Ended::Done)
        }),
        Err(NoRun::Usage(error)) => Err(error.into()),
        Err(NoRun::Clap(error)) if error.use_stderr() => {
            print_refusal::<O>(&error);
            return u8::try_from(error.exit_code()).unwrap_or(USAGE);
        }
        Err(NoRun::Clap(help)) => print_help(&help),
    };
    match result {
        Ok(ended) => code_of_end(ended),
        Err(error) if terminal::rank() > 0 => code_on_other_rank(&error),
        Err(error) => {
            report(&error, O::BINARY);
            code(&error)
        }
    }
}

/// How long a rank waits for the message of rank 0: the launcher ends all when one of them fails.
const LINGER: Duration = Duration::from_secs(3);

/// The exit code of a rank other than 0. Rank 0 reports the errors of all and ends with their code, so the
/// others end without one; they print only what it cannot know.
fn code_on_other_rank(error: &anyhow::Error) -> u8 {
    match error.chain().find_map(ranks_error) {
        Some(RanksError::Lost { lost, .. }) if !lost.ranks.contains(&0) => {
            std::thread::sleep(LINGER);
        }
        Some(RanksError::Lost { .. }) | None => {}
        Some(_) => return 0,
    }
    say_on_any_rank(&format!("error: {}", chain(&**error)));
    code(error)
}

/// The error of ranks that a cause is or contains.
fn ranks_error<'a>(cause: &'a (dyn std::error::Error + 'static)) -> Option<&'a RanksError> {
    match cause.downcast_ref::<TrainError>() {
        Some(TrainError::Ranks(error)) => Some(error),
        _ => cause.downcast_ref(),
    }
}

/// Prints help or the version. A closed pipe is not an error; any other failure to write is.
fn print_help(help: &clap::Error) -> anyhow::Result<Ended> {
    match help.print().and_then(|()| io::stdout().flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(anyhow::Error::from(error).context("cannot write to standard output"))
        }
        _ => Ok(Ended::Done),
    }
}

/// Prints why flags were refused, with a clearer message for a wrong number.
fn print_refusal<O: Options>(error: &clap::Error) {
    if let Some(error) = flag_of_another::<O>(error) {
        return report(&error.into(), O::BINARY);
    }
    if error.kind() == Refusal::DisplayHelpOnMissingArgumentOrSubcommand {
        // A closed terminal cannot show an error.
        let _ = error.print();
        return;
    }
    let plain = error.render().to_string();
    let plain = plain.replace("invalid digit found in string", "expected an integer");
    say(plain.trim_end());
}

/// The error for a flag of another binary.
fn flag_of_another<O: Options>(error: &clap::Error) -> Option<UsageError> {
    let Some(ContextValue::String(flag)) = error.get(ContextKind::InvalidArg) else { return None };
    let key = flag.strip_prefix("--")?.replace('-', "_");
    let owners = options::owners(&key);
    if error.kind() != Refusal::UnknownArgument || owners.is_empty() {
        return None;
    }
    let (binary, names) = (O::BINARY, options::quoted(&owners));
    let error = UsageError::new(format!("{flag} is an option of {names}, not of `{binary}`"));
    Some(if (binary, owners.as_slice()) == ("train", &["prepare"]) {
        error.hint("give it to `prepare`, which makes the tokens that `train` reads")
    } else {
        error.hint(format!("`{binary} --help` lists the options of `{binary}`"))
    })
}

/// The error of this rank, as the others get it.
pub(crate) fn failure(error: &anyhow::Error) -> Failure {
    let kind = error.chain().find_map(kind_of).unwrap_or(ErrorKind::Unexpected);
    Failure::new(chain(&**error), hint(error, "train"), kind)
}

/// Prints the whole chain of causes on one line, and the hint if there is one.
fn report(error: &anyhow::Error, binary: &str) {
    let mut message = format!("error: {}", chain(&**error));
    if let Some(hint) = hint(error, binary) {
        message.push_str(&format!("\nhint: {hint}"));
    }
    say(&message);
}

/// The hint of an error: the command's, else the one for an error of the system, else that of the
/// training or the data crate.
fn hint(error: &anyhow::Error, binary: &str) -> Option<String> {
    let usage = error.chain().find_map(|cause| cause.downcast_ref::<UsageError>()?.hint_text());
    let known = usage.or_else(|| hint_of_system(error)).map(str::to_owned);
    let training = || error.chain().find_map(|cause| cause.downcast_ref::<TrainError>()?.hint());
    let of_ranks = || error.chain().find_map(ranks_error)?.hint();
    let of_device = || error.chain().find_map(|cause| device_error(cause));
    let device = || Some(hints::of_device(of_device()?, binary));
    let training = || training().as_deref().map(hints::in_flags);
    known
        .or_else(device)
        .or_else(|| hint_of_data(error, binary))
        .or_else(training)
        .or_else(|| of_ranks().as_deref().map(hints::in_flags))
}

/// The error of a device, also inside that of a training run, which is transparent.
fn device_error<'a>(cause: &'a (dyn std::error::Error + 'static)) -> Option<&'a DeviceError> {
    match cause.downcast_ref::<TrainError>() {
        Some(TrainError::Device(error)) => Some(error),
        _ => cause.downcast_ref::<DeviceError>(),
    }
}

fn hint_of_data(error: &anyhow::Error, binary: &str) -> Option<String> {
    error.chain().find_map(|cause| match cause.downcast_ref::<TrainError>() {
        // Transparent: the chain contains only the error around it.
        Some(TrainError::Data(error)) => hints::of_data(error, binary),
        _ => hints::of_data(cause.downcast_ref::<DataError>()?, binary),
    })
}

/// The hint for an error of the system: a wrong path, a full disk, or missing permissions.
fn hint_of_system(error: &anyhow::Error) -> Option<&'static str> {
    let io_errors = error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>());
    io_errors.map(io::Error::kind).find_map(|kind| match kind {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Some(
            "free some space; everything saved before is intact, and `train` resumes from it with \
             --init-from resume",
        ),
        io::ErrorKind::FileTooLarge => Some(
            "raise the limit on file sizes, see `ulimit -f`; everything saved before is intact, \
             and \
             `train` resumes from it with --init-from resume",
        ),
        io::ErrorKind::NotFound => {
            Some("check its spelling; a relative path starts from the current directory")
        }
        io::ErrorKind::NotADirectory
        | io::ErrorKind::IsADirectory
        | io::ErrorKind::AlreadyExists => Some(
            "a file is where a directory is expected, or the other way round: name another \
                  path",
        ),
        io::ErrorKind::WouldBlock => Some(
            "the system allows no more threads: lower --threads, or raise `ulimit -u` or the pids \
             limit of the container",
        ),
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            Some("permission denied: change the permissions or choose another path")
        }
        _ => None,
    })
}

/// The exit code of work that did not fail.
pub(crate) fn code_of_end(ended: Ended) -> u8 {
    match ended {
        Ended::Done => 0,
        Ended::Stopped(signal) => u8::try_from(128 + signal).unwrap_or(UNEXPECTED),
    }
}

/// The exit code of an error: that of the first cause in its chain which has one.
pub(crate) fn code(error: &anyhow::Error) -> u8 {
    error.chain().find_map(code_of).unwrap_or(UNEXPECTED)
}

fn code_of(cause: &(dyn std::error::Error + 'static)) -> Option<u8> {
    Some(match kind_of(cause)? {
        ErrorKind::Usage => USAGE,
        ErrorKind::Corrupt => CORRUPT,
        ErrorKind::Io => IO,
        ErrorKind::Network => NETWORK,
        ErrorKind::NonFinite => NON_FINITE,
        ErrorKind::Locked => LOCKED,
        ErrorKind::Ranks => RANKS,
        ErrorKind::Unexpected => UNEXPECTED,
    })
}

fn kind_of(cause: &(dyn std::error::Error + 'static)) -> Option<ErrorKind> {
    let train = || cause.downcast_ref().map(TrainError::kind);
    let data = || cause.downcast_ref().map(DataError::kind);
    let ranks = || cause.downcast_ref().map(RanksError::kind);
    let model = || cause.downcast_ref().map(ModelError::kind);
    let usage =
        || (cause.is::<UsageError>() || cause.is::<DeviceError>()).then_some(ErrorKind::Usage);
    let io = || cause.is::<io::Error>().then_some(ErrorKind::Io);
    train().or_else(data).or_else(ranks).or_else(model).or_else(usage).or_else(io)
}
