//! `train` as one of several processes, which a launcher has started.

mod launcher;
#[cfg(feature = "mpi")]
mod mpi;
#[cfg(feature = "mpi")]
mod records;

#[cfg(feature = "mpi")]
use std::hash::{DefaultHasher, Hasher as _};
#[cfg(feature = "mpi")]
use std::time::Duration;

use anyhow::Result;
#[cfg(feature = "mpi")]
use anyhow::{Context as _, anyhow};
#[cfg(feature = "mpi")]
use serde_json::Map;
#[cfg(feature = "mpi")]
use tinygpt_train::ranks::Failure;
use tinygpt_train::ranks::Ranks;
#[cfg(feature = "mpi")]
use tinygpt_train::{ErrorKind, chain};
use tinygpt_train::{StopFlag, TrainConfig, physical_cores};

pub use self::launcher::{Launched, Launcher, launched};
use crate::options::ProgramConfig;
use crate::usage::UsageError;

/// The other processes, if a launcher has started several.
///
/// # Errors
/// [`UsageError`] if this build cannot join them: each would train alone, and write into one directory.
pub fn join(stop: &StopFlag) -> Result<Ranks> {
    let Some(launched) = launched() else { return Ok(Ranks::alone()) };
    if launched.by == Launcher::Torchrun {
        let error = refusal(&launched, "which connects processes by NCCL, and this build by MPI");
        return Err(error.hint("start it with mpirun, see docs/scale.md").into());
    }
    connect(&launched, stop)
}

/// Fits the defaults of a run to several processes, and refuses what only one can do.
///
/// # Errors
/// [`UsageError`] that names the option.
pub fn prepare(ranks: &Ranks, config: &mut TrainConfig, program: &ProgramConfig) -> Result<()> {
    if ranks.is_alone() {
        return Ok(());
    }
    let asked = [
        ("--budget", config.budget.is_some()),
        ("--verify-resume", program.verify_resume.is_some()),
        ("--plan", program.plan),
        ("--find-lr", program.find_lr.is_some()),
        ("--sweep", program.sweep.is_some()),
        ("--report", program.report.is_some()),
    ];
    if let Some((flag, _)) = asked.into_iter().find(|(_, is_asked)| *is_asked) {
        let error = UsageError::new(format!(
            "{flag} works in one process, and {} were started",
            ranks.n_ranks()
        ));
        return Err(error
            .hint(format!("leave {flag} out, or start it without the launcher"))
            .into());
    }
    // A process that is bound to some of the cores has only these.
    let n_local = launched().map_or(1, |launched| launched.n_local);
    let share = (num_cores() / n_local).max(1);
    config.threads.get_or_insert(physical_cores().min(share));
    Ok(())
}

/// The physical cores of this machine, also if this process is bound to some of them.
fn num_cores() -> usize {
    num_cpus::get_physical()
}

fn refusal(launched: &Launched, why: &str) -> UsageError {
    let Launched { by, n_ranks, .. } = launched;
    UsageError::new(format!("this is one of {n_ranks} processes of {}, {why}", by.name()))
}

#[cfg(not(feature = "mpi"))]
fn connect(launched: &Launched, _stop: &StopFlag) -> Result<Ranks> {
    let error = refusal(launched, "and this build trains alone");
    Err(error
        .hint(
            "build it with MPI, which needs `mpicc`: cargo build --features mpi; \
             or start it without the launcher",
        )
        .into())
}

#[cfg(feature = "mpi")]
fn connect(launched: &Launched, stop: &StopFlag) -> Result<Ranks> {
    use tinygpt_train::ranks::Collective as _;

    let mpi = mpi::Mpi::init(stop, grace(launched)).map_err(|text| anyhow!("MPI: {text}"))?;
    if mpi.n_ranks() != launched.n_ranks {
        let found = format!("but MPI has connected {}", mpi.n_ranks());
        return Err(refusal(launched, &found)
            .hint(
                "use the launcher of the MPI that it was built with (`mpirun --version`, `mpicc -show`), \
                 or `srun --mpi=pmix`",
            )
            .into());
    }
    let mut ranks = Ranks::new(Box::new(mpi));
    let failure = |error: &anyhow::Error| Failure::new(chain(&**error), None, ErrorKind::Io);
    let hash = ranks.agree(hash_of_program(), failure)?;
    ranks.check_same(&Map::from_iter([("program".to_owned(), hash.into())]))?;
    Ok(ranks)
}

/// A fingerprint of the running program.
#[cfg(feature = "mpi")]
fn hash_of_program() -> Result<String> {
    let path = std::env::current_exe().context("cannot find this program")?;
    let bytes = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut hasher = DefaultHasher::new();
    hasher.write(&bytes);
    Ok(format!("{:016x}", hasher.finish()))
}

/// Open MPI kills a process one second after it has asked it to end, unless another time was set. The
/// rest of the time is for a message.
#[cfg(feature = "mpi")]
fn grace(launched: &Launched) -> Option<Duration> {
    let given = std::env::var("OMPI_MCA_odls_base_sigkill_timeout").ok();
    let seconds = given.and_then(|given| given.trim().parse().ok()).unwrap_or(1.0);
    let is_killed = launched.by == Launcher::OpenMpi;
    is_killed.then(|| Duration::try_from_secs_f64(0.7 * seconds).unwrap_or(Duration::MAX))
}
