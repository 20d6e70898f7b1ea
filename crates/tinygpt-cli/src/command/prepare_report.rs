//! What `prepare --report` and `prepare --dry-run` print.

use indicatif::HumanBytes;
use tinygpt_data::{DatasetReport, DryRun, Estimate, Existing, Lengths, SplitReport};

use super::source_report::left_out_text;
use crate::terminal::{grouped, spoken};

/// The longest bar of the histogram, in characters.
const BAR_WIDTH: u64 = 40;

/// Counts, lengths, duplicates and tokens of a prepared dataset.
pub(super) fn report_text(report: &DatasetReport) -> String {
    let mut text = String::new();
    for (name, split) in [("train", &report.train), ("validation", &report.val)] {
        text.push_str(&split_text(name, split));
    }
    text.push_str(&format!(
        "\n  {:.2}% of the validation documents are training documents too\n",
        report.val_in_train * 100.0
    ));
    text.push_str("\nlengths of the training documents, in tokens\n");
    text.push_str(&histogram(&report.train.lengths));
    text.push_str(&format!(
        "\nmost frequent of the {} tokens in use\n",
        grouped(report.n_used_tokens as u64)
    ));
    for token in &report.frequent {
        text.push_str(&format!("  {:>6.2}%  {}\n", token.share * 100.0, token.text));
    }
    text
}

fn split_text(name: &str, split: &SplitReport) -> String {
    let Lengths { min, median, max, mean, .. } = &split.lengths;
    let percent = |share: f64| format!("{:.2}%", share * 100.0);
    let rows = [
        ("documents", grouped(split.n_documents)),
        ("tokens", grouped(split.n_tokens)),
        ("bytes per token", format!("{:.2}", split.bytes_per_token)),
        ("byte fallback", format!("{} of the tokens", percent(split.fallback_rate))),
        ("duplicates", format!("{} of the documents", percent(split.duplicate_share))),
        (
            "document length",
            format!(
                "{} to {} tokens, mean {mean:.1}, median {}",
                grouped(*min),
                grouped(*max),
                grouped(*median)
            ),
        ),
    ];
    let rows = rows.map(|(label, value)| format!("  {label:<16} {value}\n"));
    format!("\n{name}\n{}", rows.concat())
}

/// A bar for each bucket, the longest [`BAR_WIDTH`] wide; a bucket with any document has a mark.
fn histogram(lengths: &Lengths) -> String {
    let most = lengths.counts.iter().copied().max().unwrap_or(0).max(1);
    let first = lengths.counts.iter().position(|&count| count > 0).unwrap_or(0);
    let bar = |idx: usize, count: u64| {
        let width = (count * BAR_WIDTH).div_ceil(most) as usize;
        let (from, to) = (Lengths::start(idx), Lengths::start(idx + 1) - 1);
        let range =
            if from == to { grouped(from) } else { format!("{}-{}", grouped(from), grouped(to)) };
        format!("  {range:>16} {:<40} {}\n", "#".repeat(width), grouped(count))
    };
    let shown = lengths.counts.iter().enumerate().skip(first);
    shown.map(|(idx, &count)| bar(idx, count)).collect()
}

/// What would be read and written, and how long that would take.
pub(super) fn dry_run_text(dry_run: &DryRun) -> String {
    let mut text =
        format!("{}, encoding {}: nothing is written\n", dry_run.dataset, dry_run.encoding);
    if dry_run.files.is_empty() {
        text.push_str("  read        built-in stories, no files\n");
    }
    for file in &dry_run.files {
        let action = if file.is_remote { "download" } else { "read" };
        let validates = if file.validates { ", to validate on" } else { "" };
        let n_bytes = HumanBytes(file.n_bytes);
        text.push_str(&format!("  {action:<11} {} ({n_bytes}{validates})\n", file.name));
    }
    text.push_str(&left_out_text(&dry_run.left_out));
    if dry_run.n_download_bytes > 0 {
        let n_bytes = HumanBytes(dry_run.n_download_bytes);
        text.push_str(&format!("  total       {n_bytes} to download\n"));
    }
    text.push_str(&format!("  write       {}\n", dry_run.dir.display()));
    text.push_str(&match &dry_run.existing {
        Existing::Nothing => String::new(),
        Existing::Same => "  exists      the same preparation, which would be kept\n".to_owned(),
        Existing::Other(differences) => format!(
            "  exists      another preparation ({}), replaced only with --force\n",
            differences.join(", ")
        ),
        Existing::Damaged(why) => {
            format!("  exists      a preparation that cannot be used ({why})\n")
        }
    });
    match &dry_run.estimate {
        Some(estimate) => text.push_str(&estimate_text(estimate)),
        None => text.push_str("  expect      counts and time are known after the download\n"),
    }
    text
}

fn estimate_text(estimate: &Estimate) -> String {
    format!(
        "  expect      about {} documents, {} of text, {} tokens\n  \
           shards      about {}\n  \
           time        about {} on this machine (measured on the first {})\n",
        grouped(estimate.n_documents),
        HumanBytes(estimate.n_text_bytes),
        grouped(estimate.n_tokens),
        HumanBytes(estimate.n_shard_bytes),
        spoken(estimate.time.as_secs_f64()),
        HumanBytes(estimate.n_sample_bytes)
    )
}
