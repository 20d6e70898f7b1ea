//! The validation loss that a run can be expected to reach, from runs that were measured.
//!
//! `scaling.json` is written by `bench/scaling.py`; docs/scaling.md has its runs and how far the
//! expectation is from runs that are not in it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The datasets by name.
const TABLE: &str = include_str!("scaling.json");
/// How far outside of the measured runs the spline is used, as a factor: it says nothing far from them.
const REACH: f64 = 1.25;

/// The measured runs of a dataset, and the thin-plate spline through their losses (Duchon 1977).
#[derive(Debug, Deserialize)]
struct Scaling {
    /// The coefficients of 1, n and d, where n is ln(weights in millions) and d ln(training tokens in
    /// millions).
    plane: [f64; 3],
    /// Root mean square of the error for a run that was not in the table.
    error: f64,
    encoding_type: String,
    vocab_size: usize,
    bits_per_byte_per_nat: f64,
    runs: Vec<Measured>,
}

#[derive(Debug, Deserialize)]
struct Measured {
    n_params: u64,
    tokens: u64,
    /// Factor of r² ln r, where r is the distance from this run.
    weight: f64,
    #[cfg_attr(not(test), expect(dead_code, reason = "the spline is tested against it"))]
    val_loss: f64,
}

impl Scaling {
    fn loss(&self, n_params: u64, tokens: u64) -> f64 {
        let logs =
            |n_params: u64, tokens: u64| ((n_params as f64 / 1e6).ln(), (tokens as f64 / 1e6).ln());
        let (n, d) = logs(n_params, tokens);
        let bent = |run: &Measured| {
            let (n_of_run, d_of_run) = logs(run.n_params, run.tokens);
            let squared = (n - n_of_run).powi(2) + (d - d_of_run).powi(2);
            if squared > 0.0 { run.weight * 0.5 * squared * squared.ln() } else { 0.0 }
        };
        let [at_one, of_n, of_d] = self.plane;
        self.runs.iter().map(bent).sum::<f64>() + at_one + of_n * n + of_d * d
    }
}

/// An expected loss.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Expected {
    /// In nats per token.
    pub(super) val_loss: f64,
    /// Its standard error.
    pub(super) error: f64,
    pub(super) val_bpb: f64,
}

/// The loss of a model with `n_params` weights trained on `tokens` tokens of a dataset.
///
/// # Errors
/// Why the loss is not known, in words.
pub(super) fn expected_loss(
    dataset: &str,
    encoding: &str,
    vocab_size: usize,
    run: (u64, u64),
) -> Result<Expected, String> {
    in_table(TABLE, dataset, encoding, vocab_size, run)
}

fn in_table(
    table: &str,
    dataset: &str,
    encoding: &str,
    vocab_size: usize,
    (n_params, tokens): (u64, u64),
) -> Result<Expected, String> {
    let mut table: BTreeMap<String, Scaling> =
        serde_json::from_str(table).map_err(|error| error.to_string())?;
    if table.is_empty() {
        return Err("no run was measured yet".to_owned());
    }
    let known = table.keys().cloned().collect::<Vec<_>>().join(" and ");
    let scaling = table.remove(dataset).ok_or_else(|| format!("measured for {known} only"))?;
    if (scaling.encoding_type.as_str(), scaling.vocab_size) != (encoding, vocab_size) {
        return Err(format!(
            "measured for {} with {} tokens in the vocabulary",
            scaling.encoding_type, scaling.vocab_size
        ));
    }
    let within = |value: u64, of: &dyn Fn(&Measured) -> u64| {
        let values = || scaling.runs.iter().map(of);
        let (least, most) = (values().min().unwrap_or(0), values().max().unwrap_or(0));
        (least as f64 / REACH..=most as f64 * REACH).contains(&(value as f64))
    };
    if !within(n_params, &|run| run.n_params) || !within(tokens, &|run| run.tokens) {
        return Err("outside of the measured sizes and lengths".to_owned());
    }
    let val_loss = scaling.loss(n_params, tokens);
    let val_bpb = val_loss * scaling.bits_per_byte_per_nat;
    Ok(Expected { val_loss, error: scaling.error, val_bpb })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    const TWO: &str = r#"{"tales": {
        "plane": [1.5, -0.25, -0.5], "error": 0.02,
        "encoding_type": "bpe", "vocab_size": 3072, "bits_per_byte_per_nat": 0.5, "runs": [
            {"n_params": 100000, "tokens": 500000, "val_loss": 1.7, "weight": 0.2},
            {"n_params": 400000, "tokens": 2000000, "val_loss": 1.05, "weight": -0.1}]}}"#;

    #[test]
    fn the_spline_goes_through_every_run_of_the_table() {
        let table: BTreeMap<String, Scaling> = serde_json::from_str(TABLE).unwrap();
        for (name, scaling) in &table {
            assert!(scaling.error < 0.2 && scaling.runs.len() >= 12, "{name}");
            for run in &scaling.runs {
                let of = (run.n_params, run.tokens);
                let encoding = &scaling.encoding_type;
                let expected = expected_loss(name, encoding, scaling.vocab_size, of).unwrap();
                assert!((expected.val_loss - run.val_loss).abs() < 1e-3, "{name} {run:?}");
            }
        }
    }

    #[test]
    fn what_was_not_measured_has_no_expectation() {
        let expected = in_table(TWO, "tales", "bpe", 3072, (100_000, 2_000_000)).unwrap();
        // Evaluated elsewhere.
        assert!((expected.val_loss - 1.7918456488307413).abs() < 1e-9, "{expected:?}");
        assert_eq!((expected.val_bpb, expected.error), (expected.val_loss / 2.0, 0.02));
        let of = |dataset, encoding, vocab_size, run| {
            in_table(TWO, dataset, encoding, vocab_size, run).unwrap_err()
        };
        assert!(of("mine", "bpe", 3072, (100_000, 1_000_000)).contains("tales only"));
        assert!(of("tales", "simple", 90, (100_000, 1_000_000)).contains("bpe with 3072"));
        for run in [(1_000, 1_000_000), (100_000, 1_000), (100_000, 1 << 40)] {
            assert!(of("tales", "bpe", 3072, run).contains("outside"), "{run:?}");
        }
        assert!(in_table("{}", "tales", "bpe", 9, (1, 1)).unwrap_err().contains("no run"));
    }
}
