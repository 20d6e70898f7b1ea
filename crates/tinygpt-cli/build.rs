//! With the feature `mpi`: compiles `src/ranks/shim.c` with the installed MPI. Otherwise nothing.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    #[cfg(feature = "mpi")]
    mpi::build();
}

#[cfg(feature = "mpi")]
mod mpi {
    use std::process::Command;

    pub(super) fn build() {
        println!("cargo::rerun-if-changed=src/ranks/shim.c");
        println!("cargo::rerun-if-env-changed=MPICC");
        let mpicc = std::env::var("MPICC").unwrap_or_else(|_| "mpicc".to_owned());
        let shown = Command::new(&mpicc).arg("-show").output();
        let flags = match shown {
            Ok(output) if output.status.success() => {
                String::from_utf8_lossy(&output.stdout).into_owned()
            }
            Ok(output) => fail(&mpicc, &String::from_utf8_lossy(&output.stderr)),
            Err(error) => fail(&mpicc, &error.to_string()),
        };
        cc::Build::new().compiler(&mpicc).file("src/ranks/shim.c").compile("tinygpt_mpi");
        // The flags with which `mpicc` links, in both notations of Open MPI and MPICH.
        for flag in flags.split_whitespace().skip(1) {
            if let Some(dir) = flag.strip_prefix("-L") {
                println!("cargo::rustc-link-search=native={dir}");
            } else if let Some(library) = flag.strip_prefix("-l") {
                println!("cargo::rustc-link-lib={library}");
            } else if flag.starts_with("-Wl,") {
                println!("cargo::rustc-link-arg={flag}");
            }
        }
    }

    fn fail(mpicc: &str, why: &str) -> ! {
        panic!(
            "the feature `mpi` needs the compiler of an MPI, and `{mpicc} -show` failed: {}; install one \
             (Debian: libopenmpi-dev), or name it with the variable MPICC",
            why.trim()
        )
    }
}
