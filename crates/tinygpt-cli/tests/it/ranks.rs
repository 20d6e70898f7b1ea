//! A build without MPI under a launcher: several processes would write into one directory.
#![cfg(not(feature = "mpi"))]

use crate::program::{SMALL, command, run_command, snapshot, trained};

#[test]
fn one_of_several_processes_is_refused_before_it_writes() {
    let dir = trained();
    let before = snapshot(dir.path());
    for (variables, launcher) in [
        ([("OMPI_COMM_WORLD_RANK", "0"), ("OMPI_COMM_WORLD_SIZE", "2")], "mpirun"),
        ([("PMI_RANK", "0"), ("PMI_SIZE", "2")], "mpiexec"),
        ([("SLURM_PROCID", "0"), ("SLURM_STEP_NUM_TASKS", "2")], "srun"),
        ([("RANK", "0"), ("WORLD_SIZE", "2")], "torchrun"),
    ] {
        let flags = [SMALL, "--overwrite true"].join(" ");
        let mut train = command("train", dir.path());
        let ran = run_command(train.args(flags.split_whitespace()).envs(variables));
        assert_eq!(ran.code, 2, "{}", ran.stderr);
        let expected = format!("this is one of 2 processes of {launcher}");
        assert!(ran.stderr.contains(&expected) && ran.stderr.contains("mpi"), "{}", ran.stderr);
        assert!(snapshot(dir.path()) == before, "{launcher}");
    }
    let flags = [SMALL, "--overwrite true"].join(" ");
    let mut other = command("train", dir.path());
    other.envs([("OMPI_COMM_WORLD_RANK", "1"), ("OMPI_COMM_WORLD_SIZE", "2")]);
    let ran = run_command(other.args(flags.split_whitespace()));
    assert_eq!((ran.code, ran.stderr.lines().count()), (2, 1), "{}", ran.stderr);
    assert!(ran.stderr.starts_with("rank 1: error: "), "{}", ran.stderr);
}
