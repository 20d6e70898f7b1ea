//! Refuses a training run that does not fit into memory, before it allocates any.
//!
//! The estimate is from `tinygpt-model`. The limits are the memory of the machine (Linux and macOS),
//! and on Linux the control group of a container and `ulimit -v`. On other systems and on a GPU
//! nothing is refused here.

use std::path::{Path, PathBuf};

use indicatif::HumanBytes;
use tinygpt_model::memory::{MemoryEstimate, largest_batch_size, training_bytes};
use tinygpt_train::TrainConfig;

use crate::usage::UsageError;

/// Checks that training with `vocab_size` rows of the token table fits.
///
/// # Errors
/// [`UsageError`] with the estimate, the limit, and what to lower.
pub fn check_fits(config: &TrainConfig, vocab_size: usize) -> Result<(), UsageError> {
    match Limit::smallest() {
        Some(limit) => check_fits_in(config, vocab_size, &limit),
        None => Ok(()),
    }
}

fn check_fits_in(config: &TrainConfig, vocab_size: usize, limit: &Limit) -> Result<(), UsageError> {
    let model = config.model_config(config.vocab_size.unwrap_or(0).max(vocab_size));
    let threads = config.resolved_threads();
    let needed = |batch_size| training_bytes(&model, batch_size, model.block_size, threads);
    let estimate = needed(config.batch_size);
    if estimate.total() <= limit.bytes {
        return Ok(());
    }
    let fits = |batch_size| needed(batch_size).total() <= limit.bytes;
    let hint = hint(&estimate, largest_batch_size(config.batch_size, fits));
    let (total, limit_bytes) = (HumanBytes(estimate.total()), HumanBytes(limit.bytes));
    let source = limit.source;
    Err(UsageError::new(format!(
        "training needs about {total} of memory, but {source} {limit_bytes}"
    ))
    .hint(hint))
}

fn hint(estimate: &MemoryEstimate, batch_size: Option<usize>) -> String {
    match batch_size {
        Some(n) => format!(
            "lower `batch_size` to {n} (and raise `gradient_accumulation_steps`) or `block_size`"
        ),
        None if estimate.activations > estimate.total() / 2 => {
            "lower `batch_size`, `block_size`, `n_layer` or `n_embd`".to_owned()
        }
        None => "lower `n_layer`, `n_embd` or `vocab_size`".to_owned(),
    }
}

/// A limit on the memory of this process.
#[derive(Debug, PartialEq)]
struct Limit {
    bytes: u64,
    /// What sets it, with a verb.
    source: &'static str,
}

impl Limit {
    /// The smallest limit; `None` if the system provides none.
    fn smallest() -> Option<Self> {
        let limits = [
            installed().map(|bytes| Self { bytes, source: "this machine has" }),
            control_group()
                .map(|bytes| Self { bytes, source: "its control group or container has" }),
            address_space().map(|bytes| Self { bytes, source: "`ulimit -v` allows" }),
        ];
        limits.into_iter().flatten().min_by_key(|limit| limit.bytes)
    }
}

#[cfg(not(target_os = "macos"))]
fn installed() -> Option<u64> {
    total_of(&std::fs::read_to_string("/proc/meminfo").ok()?)
}

#[cfg(target_os = "macos")]
fn installed() -> Option<u64> {
    let output = std::process::Command::new("/usr/sbin/sysctl").args(["-n", "hw.memsize"]).output();
    String::from_utf8(output.ok()?.stdout).ok()?.trim().parse().ok()
}

/// `MemTotal` of Linux's `/proc/meminfo`.
fn total_of(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// The lowest limit of this process's control groups and those above them.
fn control_group() -> Option<u64> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let limit = |file: PathBuf| std::fs::read_to_string(file).ok()?.trim().parse::<u64>().ok();
    limit_files(&groups).into_iter().filter_map(limit).min()
}

/// The files with the limits of the groups in `/proc/self/cgroup`, for both versions of control groups.
/// A file without a limit contains `max`; inside a container, some files are missing.
fn limit_files(groups: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(group)) = (fields.next(), fields.next()) else { continue };
        let (root, name) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max"),
            _ if controllers.split(',').any(|controller| controller == "memory") => {
                ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => continue,
        };
        let group = Path::new(group.trim_start_matches('/'));
        files.extend(group.ancestors().map(|group| Path::new(root).join(group).join(name)));
    }
    files
}

/// The most memory that this process has had so far; `None` if the system does not count it.
pub fn peak_bytes() -> Option<u64> {
    peak_of(&std::fs::read_to_string("/proc/self/status").ok()?)
}

/// `VmHWM` of Linux's `/proc/self/status`.
fn peak_of(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

fn address_space() -> Option<u64> {
    address_space_of(&std::fs::read_to_string("/proc/self/limits").ok()?)
}

/// The soft limit in Linux's `/proc/self/limits`, `None` for `unlimited`.
fn address_space_of(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max address space"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_model_beyond_any_machine_is_refused_and_the_usual_one_is_not() {
        let usual = TrainConfig { batch_size: 4, ..TrainConfig::default() };
        assert!(check_fits(&usual, 322).is_ok());
        let huge = TrainConfig { n_embd: 6 << 40, ..usual };
        let is_known = cfg!(any(target_os = "linux", target_os = "macos"));
        assert_eq!(check_fits(&huge, 322).is_err(), is_known);
    }

    #[test]
    fn the_hint_is_a_batch_size_that_fits_if_there_is_one() {
        let config = TrainConfig { threads: Some(1), ..TrainConfig::default() };
        let refusal = |bytes| {
            let limit = Limit { bytes, source: "this machine has" };
            let error = check_fits_in(&config, 322, &limit).unwrap_err();
            format!("{error}\n{}", error.hint_text().unwrap_or_default())
        };
        let text = refusal(1 << 30);
        let batch_size = text.split("`batch_size` to ").nth(1).unwrap();
        let batch_size: usize = batch_size.split(' ').next().unwrap().parse().unwrap();
        let limit = Limit { bytes: 1 << 30, source: "" };
        let with = |batch_size| TrainConfig { batch_size, ..config.clone() };
        assert!(check_fits_in(&with(batch_size), 322, &limit).is_ok(), "{text}");
        assert!(check_fits_in(&with(batch_size + 1), 322, &limit).is_err(), "{text}");
        assert!(text.contains("this machine has 1.00 GiB"), "{text}");
        assert!(refusal(1 << 24).contains("`n_layer`"), "{}", refusal(1 << 24));
    }

    #[test]
    fn limits_are_read_as_linux_writes_them() {
        assert_eq!(total_of("MemTotal:       16384 kB\nMemFree: 1 kB\n"), Some(16 << 20));
        assert_eq!(total_of("Nothing"), None);
        assert_eq!(peak_of("VmPeak:\t  99 kB\nVmHWM:\t    2048 kB\n"), Some(2 << 20));
        let limits = "Limit         Soft Limit   Hard Limit   Units\n\
                      Max address space         1024       unlimited      bytes\n";
        assert_eq!(address_space_of(limits), Some(1024));
        assert_eq!(address_space_of(&limits.replace("1024 ", "unlimited ")), None);
        let files = |groups: &str| -> Vec<String> {
            limit_files(groups).iter().map(|file| file.display().to_string()).collect()
        };
        assert_eq!(
            files("0::/user.slice/run-1.scope\n"),
            [
                "/sys/fs/cgroup/user.slice/run-1.scope/memory.max",
                "/sys/fs/cgroup/user.slice/memory.max",
                "/sys/fs/cgroup/memory.max"
            ]
        );
        assert_eq!(
            files("9:cpu,cpuacct:/a\n4:hugetlb,memory:/docker/x\n1:name=systemd:/a\nnonsense"),
            [
                "/sys/fs/cgroup/memory/docker/x/memory.limit_in_bytes",
                "/sys/fs/cgroup/memory/docker/memory.limit_in_bytes",
                "/sys/fs/cgroup/memory/memory.limit_in_bytes"
            ]
        );
    }
}
