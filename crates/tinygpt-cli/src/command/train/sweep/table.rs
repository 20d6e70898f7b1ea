//! The results of a sweep: a line for each run, and a comparison that averages over seeds.

use std::collections::BTreeMap;

use serde_json::Value;

use super::Done;

/// Columns of results after those of the values.
const RESULTS: [&str; 8] =
    ["best_val_loss", "best_step", "val_loss", "val_bpb", "steps", "tokens", "seconds", "outcome"];

/// The table, one run a line.
pub(super) fn tsv(varied: &[String], done: &[Done]) -> String {
    let columns = varied.iter().map(String::as_str).chain(RESULTS);
    let mut text = format!("run\t{}\n", columns.collect::<Vec<_>>().join("\t"));
    for Done { name, values, results } in done {
        let of = |values: &serde_json::Map<String, Value>, key: &str| {
            values.get(key).map_or(String::new(), cell)
        };
        let cells = varied.iter().map(|key| of(values, key));
        let cells: Vec<String> = cells.chain(RESULTS.map(|key| of(results, key))).collect();
        text += &format!("{name}\t{}\n", cells.join("\t"));
    }
    text
}

/// A value without quotes, tabs and line ends.
fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.replace(['\t', '\n', '\r'], " "),
        other => other.to_string(),
    }
}

/// The best losses, the lowest first; runs that differ in their seed only are one line.
pub(super) fn comparison(varied: &[String], done: &[Done]) -> String {
    let mut groups: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for Done { values, results, .. } in done {
        let keys = varied.iter().filter(|key| *key != "seed");
        let values = keys.map(|key| format!("{key} {}", cell(&values[key])));
        let label = values.collect::<Vec<_>>().join("  ");
        let losses = groups.entry(label).or_default();
        losses.extend(results.get("best_val_loss").and_then(Value::as_f64));
    }
    let mut rows: Vec<(f64, String)> = Vec::new();
    for (label, losses) in groups {
        let n = losses.len() as f64;
        let mean = losses.iter().sum::<f64>() / n;
        let row = match losses.len() {
            0 => (f64::INFINITY, format!("no result        {label}")),
            1 => (mean, format!("{mean:.4}           {label}")),
            _ => {
                let squares = losses.iter().map(|loss| (loss - mean).powi(2)).sum::<f64>();
                let deviation = (squares / (n - 1.0)).sqrt();
                (mean, format!("{mean:.4} ± {deviation:.4}  {label} ({n} seeds)"))
            }
        };
        rows.push(row);
    }
    rows.sort_by(|a, b| a.0.total_cmp(&b.0));
    let lines = rows.into_iter().map(|(_, line)| line.trim_end().to_owned() + "\n");
    "best validation loss, nats per token\n".to_owned() + &lines.collect::<String>()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn done(rate: f64, seed: u64, loss: Option<f64>) -> Done {
        let map = |value: Value| value.as_object().cloned().unwrap();
        Done {
            name: format!("lr-{seed}"),
            values: map(serde_json::json!({ "learning_rate": rate, "seed": seed })),
            results: map(serde_json::json!({ "best_val_loss": loss, "outcome": "finished" })),
        }
    }

    #[test]
    fn seeds_are_averaged_and_the_lowest_loss_is_first() {
        let varied = ["learning_rate", "seed"].map(str::to_owned);
        let done = [
            done(0.1, 1, Some(2.0)),
            done(0.1, 2, Some(3.0)),
            done(0.2, 1, Some(1.5)),
            done(0.3, 1, None),
        ];
        let expected = "best validation loss, nats per token\n\
                        1.5000           learning_rate 0.2\n\
                        2.5000 ± 0.7071  learning_rate 0.1 (2 seeds)\n\
                        no result        learning_rate 0.3\n";
        assert_eq!(comparison(&varied, &done), expected);
        let table = tsv(&varied, &done);
        assert!(table.starts_with("run\tlearning_rate\tseed\tbest_val_loss\t"), "{table}");
        assert!(table.contains("\nlr-2\t0.1\t2\t3.0\t\t\t\t\t\t\tfinished\n"), "{table}");
    }
}
