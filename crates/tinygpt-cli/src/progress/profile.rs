//! The table of `train --profile`: where the time of a step goes, operation by operation.

use tinygpt_train::{KernelTime, Operations, Profile, ProfileEntry};

/// The table, the most expensive operation first.
pub(super) fn profile_lines(profile: &Profile) -> Vec<String> {
    if profile.n_steps == 0 {
        return vec!["profile: no steps".to_owned()];
    }
    match &profile.operations {
        Operations::Cpu { threads, entries, peak_flops } => {
            lines_of_cpu(profile, *threads, entries, *peak_flops)
        }
        Operations::Cuda { kernels, bytes_per_second, flops_per_second } => {
            lines_of_gpu(profile, kernels, (*bytes_per_second, *flops_per_second))
        }
    }
}

fn lines_of_gpu(
    profile: &Profile,
    kernels: &[KernelTime],
    (bytes_per_second, flops_per_second): (f64, f64),
) -> Vec<String> {
    let n_steps = profile.n_steps as f64;
    let mut lines = vec![
        format!(
            "profile of {n_steps} steps, {:.2} ms each, every kernel launched by itself; GPU time per step:",
            profile.seconds * 1e3 / n_steps
        ),
        format!(
            "  {:<36}{:>8}{:>10}{:>8}{:>8} of {:<5.0}{:>8} of {:<5.0}",
            "kernel",
            "launches",
            "ms",
            "share",
            "GB/s",
            bytes_per_second * 1e-9,
            "TFLOP/s",
            flops_per_second * 1e-12
        ),
    ];
    let rate = |work: u64, seconds: f64, ceiling: f64, unit: f64| {
        let speed = work as f64 / seconds.max(1e-12);
        let percent = 100.0 * speed / ceiling.max(1e-12);
        if work == 0 { String::new() } else { format!("{:>8.1} {percent:>6.0}%", speed * unit) }
    };
    let mut sorted: Vec<&KernelTime> = kernels.iter().collect();
    sorted.sort_by(|a, b| b.seconds.total_cmp(&a.seconds).then_with(|| a.name.cmp(&b.name)));
    for KernelTime { name, launches, seconds, work } in sorted {
        let line = format!(
            "  {name:<36}{:>8.1}{:>10.3}{:>7.1}%{:>16}{:>16}",
            *launches as f64 / n_steps,
            seconds * 1e3 / n_steps,
            100.0 * seconds / profile.seconds,
            rate(work.bytes, *seconds, bytes_per_second, 1e-9),
            rate(work.flops, *seconds, flops_per_second, 1e-12),
        );
        lines.push(line.trim_end().to_owned());
    }
    let rest =
        (profile.seconds - kernels.iter().map(|kernel| kernel.seconds).sum::<f64>()).max(0.0);
    lines.push(format!(
        "  {:<36}{:>18.3}{:>7.1}%",
        "copies, waiting, batches",
        rest * 1e3 / n_steps,
        100.0 * rest / profile.seconds
    ));
    lines
}

fn lines_of_cpu(
    profile: &Profile,
    threads: usize,
    entries: &[ProfileEntry],
    peak_flops: Option<f64>,
) -> Vec<String> {
    let Profile { n_steps, seconds, .. } = profile;
    let peak = peak_flops.map(|peak| peak * 1e-9 / threads as f64);
    let mut lines = vec![
        format!(
            "profile of {n_steps} steps, {:.1} ms each on {threads} threads; thread time per step:",
            seconds * 1e3 / *n_steps as f64
        ),
        format!("  {:<28}{:>10}{:>8}{:>10}  ", "operation", "ms", "share", "GFLOP/s")
            + &peak.map_or(String::new(), |peak| format!("of {peak:.0} per thread")),
    ];
    let offered = seconds * threads as f64;
    let line = |name: &str, seconds: f64, rate: String| {
        let ms = seconds * 1e3 / *n_steps as f64;
        let line = format!("  {name:<28}{ms:>10.2}{:>7.1}%{rate}", 100.0 * seconds / offered);
        line.trim_end().to_owned()
    };
    let mut sorted: Vec<&ProfileEntry> = entries.iter().collect();
    sorted.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
    for entry in sorted {
        let speed = entry.flops as f64 * 1e-9 / entry.seconds.max(1e-12);
        let share = peak.map_or(String::new(), |peak| format!("{:>7.0}%", 100.0 * speed / peak));
        let rate = if entry.flops > 0 { format!("{speed:>10.1}{share}") } else { String::new() };
        lines.push(line(entry.op.name(), entry.seconds, rate));
    }
    let counted: f64 = entries.iter().map(|entry| entry.seconds).sum();
    lines.push(line("batches, waiting, other", (offered - counted).max(0.0), String::new()));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use tinygpt_train::ProfileOp;

    #[test]
    fn shares_add_up_to_all_thread_time() {
        let entry = |op, seconds, flops| ProfileEntry { op, calls: 4, seconds, flops };
        let profile = Profile {
            n_steps: 4,
            seconds: 2.0,
            operations: Operations::Cpu {
                threads: 2,
                entries: vec![
                    entry(ProfileOp::Gelu, 0.4, 0),
                    entry(ProfileOp::Linear, 3.2, 160_000_000_000),
                ],
                peak_flops: Some(200e9),
            },
        };
        assert_eq!(
            profile_lines(&profile),
            [
                "profile of 4 steps, 500.0 ms each on 2 threads; thread time per step:",
                "  operation                           ms   share   GFLOP/s  of 100 per thread",
                "  linear x W                      800.00   80.0%      50.0     50%",
                "  bias + GELU                     100.00   10.0%",
                "  batches, waiting, other         100.00   10.0%",
            ]
        );
    }

    #[test]
    fn kernels_have_rates_next_to_the_ceilings_of_the_gpu() {
        let kernel = |name: &str, seconds, bytes, flops| KernelTime {
            name: name.to_owned(),
            launches: 12,
            seconds,
            work: tinygpt_train::Work { bytes, flops },
        };
        let profile = Profile {
            n_steps: 2,
            seconds: 0.02,
            operations: Operations::Cuda {
                kernels: vec![
                    kernel("norm_backward", 0.004, 8_000_000_000, 0),
                    kernel("product NT 64 x 64 x 64", 0.01, 4_000_000_000, 2_000_000_000_000),
                ],
                bytes_per_second: 3e12,
                flops_per_second: 8e14,
            },
        };
        assert_eq!(
            profile_lines(&profile),
            [
                "profile of 2 steps, 10.00 ms each, every kernel launched by itself; GPU time per step:",
                "  kernel                              launches        ms   share    GB/s of 3000  TFLOP/s of 800  ",
                "  product NT 64 x 64 x 64                  6.0     5.000   50.0%   400.0     13%   200.0     25%",
                "  norm_backward                            6.0     2.000   20.0%  2000.0     67%",
                "  copies, waiting, batches                         3.000   30.0%",
            ]
        );
    }
}
