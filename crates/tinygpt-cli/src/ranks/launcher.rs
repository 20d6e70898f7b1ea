//! Which launcher has started this process, and as which of how many: from the environment variables.

/// A process among several that one launcher has started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Launched {
    /// The launcher.
    pub by: Launcher,
    /// The number of this process, from 0.
    pub rank: usize,
    /// How many there are.
    pub n_ranks: usize,
    /// How many of them are on this machine.
    pub n_local: usize,
}

/// A launcher whose variables are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Launcher {
    /// `mpirun` of Open MPI.
    OpenMpi,
    /// `mpiexec` of MPICH, Intel MPI and others.
    Mpich,
    /// `srun` of Slurm.
    Slurm,
    /// `torchrun` of PyTorch.
    Torchrun,
}

/// Each launcher with its variables for the rank, the number of ranks, and those on this machine. PyTorch's
/// is the last, since its variables are set in many containers.
const LAUNCHERS: [(Launcher, [&str; 3]); 4] = [
    (
        Launcher::OpenMpi,
        ["OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_SIZE"],
    ),
    (Launcher::Mpich, ["PMI_RANK", "PMI_SIZE", "MPI_LOCALNRANKS"]),
    // Not SLURM_NTASKS, which a batch script without `srun` has, too.
    (Launcher::Slurm, ["SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_STEP_TASKS_PER_NODE"]),
    (Launcher::Torchrun, ["RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"]),
];

impl Launcher {
    /// The command.
    pub fn name(self) -> &'static str {
        match self {
            Self::OpenMpi => "mpirun",
            Self::Mpich => "mpiexec",
            Self::Slurm => "srun",
            Self::Torchrun => "torchrun",
        }
    }
}

/// What the environment says; `None` for a process that is alone.
pub fn launched() -> Option<Launched> {
    launched_by(&|name| std::env::var(name).ok())
}

fn launched_by(variable: &dyn Fn(&str) -> Option<String>) -> Option<Launched> {
    // Slurm writes `4(x2)` for 4 on each of 2 machines.
    let number = |name: &str| {
        let value = variable(name)?;
        let digits = value.trim().split(|c: char| !c.is_ascii_digit()).next()?;
        digits.parse::<usize>().ok()
    };
    LAUNCHERS.into_iter().find_map(|(by, [rank, n_ranks, n_local])| {
        let (rank, n_ranks) = (number(rank)?, number(n_ranks)?);
        let n_local = number(n_local).unwrap_or(n_ranks).clamp(1, n_ranks.max(1));
        (n_ranks > 1).then_some(Launched { by, rank, n_ranks, n_local })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(variables: &[(&str, &str)]) -> Option<Launched> {
        launched_by(&|name| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn each_launcher_is_known_by_its_variables() {
        let launched = |by, rank, n_ranks, n_local| Some(Launched { by, rank, n_ranks, n_local });
        let open_mpi = [
            ("OMPI_COMM_WORLD_RANK", "1"),
            ("OMPI_COMM_WORLD_SIZE", "4"),
            ("OMPI_COMM_WORLD_LOCAL_SIZE", "2"),
        ];
        assert_eq!(of(&open_mpi), launched(Launcher::OpenMpi, 1, 4, 2));
        let mpich = [("PMI_RANK", "0"), ("PMI_SIZE", "2")];
        assert_eq!(of(&mpich), launched(Launcher::Mpich, 0, 2, 2));
        let slurm = [
            ("SLURM_PROCID", "5"),
            ("SLURM_STEP_NUM_TASKS", "8"),
            ("SLURM_STEP_TASKS_PER_NODE", "4(x2)"),
        ];
        assert_eq!(of(&slurm), launched(Launcher::Slurm, 5, 8, 4));
        let torchrun = [("RANK", "3"), ("WORLD_SIZE", "16"), ("LOCAL_WORLD_SIZE", "8")];
        assert_eq!(of(&torchrun), launched(Launcher::Torchrun, 3, 16, 8));
        let both = [mpich.as_slice(), &torchrun].concat();
        assert_eq!(of(&both), of(&mpich), "a container may have PyTorch's variables");
    }

    #[test]
    fn one_process_is_alone() {
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[("RANK", "0"), ("WORLD_SIZE", "1")]), None);
        let batch_script = [("SLURM_PROCID", "0"), ("SLURM_NTASKS", "4")];
        assert_eq!(of(&batch_script), None, "a script that has not called srun yet");
        assert_eq!(of(&[("PMI_RANK", "x"), ("PMI_SIZE", "2")]), None);
    }
}
