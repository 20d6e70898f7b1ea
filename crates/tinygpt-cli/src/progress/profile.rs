//! The table of `train --profile`: where the time of a step goes, operation by operation.

use tinygpt_train::{Profile, ProfileEntry};

/// The table, the most expensive operation first.
pub(super) fn profile_lines(profile: &Profile) -> Vec<String> {
    let Profile { n_steps, seconds, threads, entries, peak_flops } = profile;
    if *n_steps == 0 {
        return vec!["profile: no steps".to_owned()];
    }
    let peak = peak_flops.map(|peak| peak * 1e-9 / *threads as f64);
    let mut lines = vec![
        format!(
            "profile of {n_steps} steps, {:.1} ms each on {threads} threads; thread time per step:",
            seconds * 1e3 / *n_steps as f64
        ),
        format!("  {:<28}{:>10}{:>8}{:>10}  ", "operation", "ms", "share", "GFLOP/s")
            + &peak.map_or(String::new(), |peak| format!("of {peak:.0} per thread")),
    ];
    let offered = seconds * *threads as f64;
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
            threads: 2,
            entries: vec![
                entry(ProfileOp::Gelu, 0.4, 0),
                entry(ProfileOp::Linear, 3.2, 160_000_000_000),
            ],
            peak_flops: Some(200e9),
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
}
