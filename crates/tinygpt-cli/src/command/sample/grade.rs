//! `sample --grade tiny_tales`: which share of the samples are coherent stories.

use std::collections::BTreeMap;

use anyhow::Result;
use serde_json::{Map, Value, json};
use tinygpt_data::tales::{FaultKind, StoryChecker};
use tinygpt_model::SamplingParams;

use super::super::story::SampleWriter;
use crate::exit::Ended;
use crate::options::SampleSettings;
use crate::terminal::{Output, grouped};

/// The samples with one kind of fault, and the first of them.
struct Faulty {
    n_samples: u64,
    first: u64,
    message: String,
}

/// Generates the samples, checks each as a story of `tiny_tales`, and prints the share of coherent ones.
///
/// # Errors
/// A model that cannot be computed with, an output that cannot be written.
pub(super) fn grade(
    (writer, params): (&SampleWriter<'_>, &SamplingParams),
    settings: &SampleSettings,
    out: &mut Output,
) -> Result<Ended> {
    let checker = StoryChecker::new();
    let n_samples = settings.num_samples;
    let (mut n_coherent, mut faults) = (0, BTreeMap::new());
    writer.for_each_sample(params, n_samples, &mut |sample| {
        let (kind, message) = match checker.check(&sample.text) {
            Ok(_) if sample.is_ended => {
                n_coherent += 1;
                return;
            }
            Ok(plot) => (FaultKind::Ending, format!("{plot}: stopped by max_new_tokens")),
            Err(fault) => (fault.kind, format!("{}: {fault}", fault.plot)),
        };
        let new = || Faulty { n_samples: 0, first: u64::MAX, message: String::new() };
        let faulty: &mut Faulty = faults.entry(kind).or_insert_with(new);
        faulty.n_samples += 1;
        if sample.index < faulty.first {
            (faulty.first, faulty.message) = (sample.index, message);
        }
    })?;
    let (share, error) = share_with_error(n_coherent, n_samples);
    if settings.json {
        let count = |kind: &FaultKind| faults.get(kind).map_or(0, |faulty| faulty.n_samples);
        let counts = FaultKind::ALL.iter().map(|it| (it.as_str().to_owned(), count(it).into()));
        let object = json!({
            "grade": Value::from("tiny_tales"),
            "seed": params.seed,
            "n_samples": n_samples,
            "n_coherent": n_coherent,
            "coherent": share,
            "standard_error": error,
            "faults": counts.collect::<Map<String, Value>>(),
        });
        out.print(&format!("{object}\n"))?;
        return Ok(Ended::Done);
    }
    let (coherent, all) = (grouped(n_coherent), grouped(n_samples));
    let mut text = format!(
        "coherent: {coherent} of {all} samples, {:.1}% ± {:.1}%\n",
        100.0 * share,
        100.0 * error
    );
    for (kind, Faulty { n_samples, first, message }) in &faults {
        let (kind, n) = (kind.as_str(), grouped(*n_samples));
        text.push_str(&format!("{kind:9} {n:>6}  sample {first}: {message}\n"));
    }
    out.print(&text)?;
    Ok(Ended::Done)
}

/// The share of `n` in `all`, and its standard error.
pub(super) fn share_with_error(n: u64, all: u64) -> (f64, f64) {
    let share = n as f64 / all.max(1) as f64;
    (share, (share * (1.0 - share) / all.max(1) as f64).sqrt())
}
