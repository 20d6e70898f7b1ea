//! `sample --novelty`: how varied samples are, and how much of them is training text.

use std::collections::HashSet;
use std::path::Path;

use anyhow::Result;
use serde_json::{Value, json};
use tinygpt_data::{Meta, Run, Tokenizer, excerpt, longest_runs};
use tinygpt_model::SamplingParams;
use tinygpt_train::checkpoint;

use super::super::story::{SampleWriter, Sampled};
use crate::exit::Ended;
use crate::options::SampleSettings;
use crate::terminal::{Output, grouped, say};

/// The longest n-grams of which distinct ones are counted.
const MAX_N: usize = 4;

/// The longest run of a sample in the training split.
struct Found {
    run: Run,
    /// The file of the shard in which it starts, and the token of that file.
    shard: String,
    offset: u64,
}

/// What is known about the samples.
struct Novelty {
    samples: Vec<Sampled>,
    /// Of each sample, and the number of training tokens, if they still exist.
    found: Option<(Vec<Found>, u64)>,
}

/// Generates `n_samples` and prints how varied they are and how much of them is in the training split of
/// the checkpoint `dir`.
///
/// # Errors
/// A model that cannot be computed with, shards that cannot be read, an output that cannot be written.
pub(super) fn novelty(
    n_samples: u64,
    (writer, params): (&SampleWriter<'_>, &SamplingParams),
    (dir, tokenizer): (&Path, &Tokenizer),
    (settings, out): (&SampleSettings, &mut Output),
) -> Result<Ended> {
    let mut samples = Vec::new();
    writer.for_each_sample(params, n_samples, &mut |sample| samples.push(sample))?;
    samples.sort_by_key(|sample| sample.index);
    let found = find_runs(&samples, dir, tokenizer)?;
    if found.is_none() {
        say("note: the training data of this model was not found: it cannot be searched");
    }
    let novelty = Novelty { samples, found };
    let text = if settings.json { novelty.lines() } else { novelty.text(tokenizer)? };
    out.print(&text)?;
    Ok(Ended::Done)
}

/// The longest run of each sample in the training split, if that still exists.
fn find_runs(
    samples: &[Sampled],
    dir: &Path,
    tokenizer: &Tokenizer,
) -> Result<Option<(Vec<Found>, u64)>> {
    let Some(state) = checkpoint::state_of(dir)? else { return Ok(None) };
    let config = &state.config;
    let meta = Meta::find(&config.data_dir, &config.dataset_name, &state.data_fingerprint);
    let Some(meta) = meta else { return Ok(None) };
    let stream = meta.open_train(&config.data_dir)?;
    let ids: Vec<Vec<u32>> = samples.iter().map(|sample| sample.ids.clone()).collect();
    let runs = longest_runs(&stream, &ids, tokenizer.vocab_size())?;
    let found = runs.into_iter().map(|run| {
        let mut offset = run.position as u64;
        let mut shards = meta.train.shards.iter();
        let shard = shards.find(|shard| {
            let is_here = offset < shard.n_tokens;
            offset -= if is_here { 0 } else { shard.n_tokens };
            is_here
        });
        Found { run, shard: shard.map_or(String::new(), |shard| shard.file.clone()), offset }
    });
    Ok(Some((found.collect(), meta.train.n_tokens)))
}

/// The distinct n-grams of all `samples` for each of their n-grams (Li et al. 2016).
fn distinct(samples: &[Sampled], n: usize) -> f64 {
    let grams = || samples.iter().flat_map(|sample| sample.ids.windows(n));
    share(grams().collect::<HashSet<_>>().len(), grams().count())
}

/// The n-grams of a sample that it has had before (seq-rep-n of Welleck et al. 2020), and all of them.
fn repeated(sample: &Sampled, n: usize) -> (usize, usize) {
    let all = sample.ids.windows(n).count();
    (all - sample.ids.windows(n).collect::<HashSet<_>>().len(), all)
}

fn share(n: usize, all: usize) -> f64 {
    n as f64 / all.max(1) as f64
}

impl Novelty {
    fn n_tokens(&self) -> usize {
        self.samples.iter().map(|sample| sample.ids.len()).sum()
    }

    fn n_ended(&self) -> usize {
        self.samples.iter().filter(|sample| sample.is_ended).count()
    }

    /// The share of repeated n-grams, on average over the samples.
    fn repetition(&self) -> f64 {
        let shares = self.samples.iter().map(|sample| {
            let (repeated, all) = repeated(sample, MAX_N);
            share(repeated, all)
        });
        shares.sum::<f64>() / self.samples.len().max(1) as f64
    }

    /// The lengths of the longest runs, in order.
    fn run_lengths(&self) -> Vec<usize> {
        let found = self.found.iter().flat_map(|(found, _)| found);
        let mut lengths: Vec<usize> = found.map(|found| found.run.len).collect();
        lengths.sort_unstable();
        lengths
    }

    /// A line of JSON for each sample, and one for all.
    fn lines(&self) -> String {
        let mut lines = String::new();
        for (place, sample) in self.samples.iter().enumerate() {
            let (repeated, all) = repeated(sample, MAX_N);
            let mut object = json!({
                "index": sample.index,
                "n_tokens": sample.ids.len(),
                "finish_reason": if sample.is_ended { "stop" } else { "length" },
                "repetition": share(repeated, all),
            });
            if let Some((found, _)) = &self.found {
                let Found { run, shard, offset } = &found[place];
                object["longest_run"] = json!({
                    "n_tokens": run.len,
                    "start": run.start,
                    "shard": shard,
                    "offset": offset,
                });
            }
            lines.push_str(&format!("{object}\n"));
        }
        let lengths = self.run_lengths();
        let known = |value: Value| if lengths.is_empty() { Value::Null } else { value };
        let all = json!({
            "n_samples": self.samples.len(),
            "n_tokens": self.n_tokens(),
            "n_ended": self.n_ended(),
            "distinct": (1..=MAX_N).map(|n| distinct(&self.samples, n)).collect::<Vec<_>>(),
            "repetition": self.repetition(),
            "n_train_tokens": self.found.as_ref().map(|(_, n_tokens)| n_tokens),
            "longest_run_mean": known(share(lengths.iter().sum(), lengths.len()).into()),
            "longest_run_max": known(lengths.last().copied().unwrap_or_default().into()),
        });
        lines + &format!("{all}\n")
    }

    fn text(&self, tokenizer: &Tokenizer) -> Result<String> {
        let count = |n: usize| grouped(n as u64);
        let (n, n_tokens, n_ended) = (self.samples.len(), self.n_tokens(), self.n_ended());
        let mut text = format!("samples     {}, {} tokens\n", count(n), count(n_tokens));
        let n_long = count(n - n_ended);
        text += &format!("endings     {} by the model, {n_long} by length\n", count(n_ended));
        for n in 1..=MAX_N {
            text += &format!("distinct-{n}  {:.4}\n", distinct(&self.samples, n));
        }
        let repetition = 100.0 * self.repetition();
        text += &format!("repetition  {repetition:.2}% of {MAX_N}-grams\n");
        let Some((found, n_train)) = &self.found else { return Ok(text) };
        let lengths = self.run_lengths();
        text += &format!(
            "longest run in {} training tokens: median {}, mean {:.1}, longest {}\n",
            grouped(*n_train),
            lengths[lengths.len() / 2],
            share(lengths.iter().sum(), lengths.len()),
            lengths[lengths.len() - 1],
        );
        for (sample, Found { run, shard, offset }) in self.samples.iter().zip(found) {
            let ids = &sample.ids[run.start..run.start + run.len];
            text += &format!(
                "sample {}: {} of {} tokens, {shard} token {}: {}\n",
                sample.index,
                count(run.len),
                count(sample.ids.len()),
                grouped(*offset),
                format_args!("{:?}", excerpt(&tokenizer.decode(ids)?))
            );
        }
        Ok(text)
    }
}
