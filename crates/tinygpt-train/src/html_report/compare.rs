//! Whether two runs are the same: their numbers, without times, and their configurations.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::escape::exact;
use super::run::Run;
use crate::metrics::Line;

/// Keys that name a run or belong to one call of the program.
const NOT_COMPARED: [&str; 2] = ["out_dir", "overwrite"];

/// Compares the numbers of `run` with those of the first run, in a sentence.
pub(super) fn verdict(first: &Run, run: &Run) -> String {
    let with_samples = [first, run].iter().all(|run| run.samples().next().is_some());
    let (left, right) = (compared(first, with_samples), compared(run, with_samples));
    let n_equal = left.iter().zip(&right).take_while(|(left, right)| same(left, right)).count();
    let counts = counts(&left[..n_equal], with_samples);
    match (left.get(n_equal), right.get(n_equal)) {
        (None, None) => format!("Equal: {counts} are the same in every digit."),
        (Some(_), None) | (None, Some(_)) => {
            let shorter = if right.len() == n_equal { "this run" } else { "the first run" };
            format!("Equal as far as both go: {counts} are the same. Then {shorter} ends.")
        }
        (Some(left), Some(right)) => format!("Differs {}.", difference(left, right)),
    }
}

fn compared(run: &Run, with_samples: bool) -> Vec<&Line> {
    let is_compared = |line: &&Line| match line {
        Line::Step(_) | Line::Skip(_) | Line::Eval(_) => true,
        Line::Sample(_) => with_samples,
        Line::Horizon(_) | Line::Resume(_) => false,
    };
    run.lines.iter().filter(is_compared).collect()
}

/// Whether two lines are the same apart from times, which differ between any two runs.
fn same(left: &Line, right: &Line) -> bool {
    match (left, right) {
        (Line::Step(left), Line::Step(right)) => {
            (left.iter, left.loss, left.learning_rate, left.grad_norm)
                == (right.iter, right.loss, right.learning_rate, right.grad_norm)
        }
        _ => left == right,
    }
}

/// What is the same, with its numbers: `5 steps, 2 evaluations and 2 samples`.
fn counts(lines: &[&Line], with_samples: bool) -> String {
    let count = |is_kind: &dyn Fn(&&&Line) -> bool| lines.iter().filter(is_kind).count();
    let steps = count(&|line| matches!(line, Line::Step(_) | Line::Skip(_)));
    let evals = count(&|line| matches!(line, Line::Eval(_)));
    let samples = count(&|line| matches!(line, Line::Sample(_)));
    let counted = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
    let (steps, evals) = (counted(steps, "step"), counted(evals, "evaluation"));
    if with_samples {
        format!("{steps}, {evals} and {}", counted(samples, "sample"))
    } else {
        format!("{steps} and {evals}")
    }
}

/// Where two lines differ: `at step 3: loss 2.5 instead of 2.25`.
fn difference(first: &Line, this: &Line) -> String {
    let instead = |what: &str, first: String, this: String| {
        (first != this).then(|| format!("{what} {this} instead of {first}"))
    };
    match (first, this) {
        (Line::Step(first), Line::Step(this)) if first.iter == this.iter => {
            let values = [
                instead("loss", exact(first.loss), exact(this.loss)),
                instead("learning rate", exact(first.learning_rate), exact(this.learning_rate)),
                instead("gradient norm", exact(first.grad_norm), exact(this.grad_norm)),
            ];
            format!("at step {}: {}", this.iter, listed(values))
        }
        (Line::Eval(first), Line::Eval(this)) if first.iter == this.iter => {
            let values = [
                instead("validation loss", exact(first.val_loss), exact(this.val_loss)),
                instead("training loss", exact(first.train_loss), exact(this.train_loss)),
                instead(
                    "bits per byte",
                    exact(first.val_bits_per_byte),
                    exact(this.val_bits_per_byte),
                ),
            ];
            format!("at the evaluation after {} steps: {}", this.iter, listed(values))
        }
        (Line::Sample(_), Line::Sample(this)) => {
            format!("at the sample after {} steps", this.iter)
        }
        _ => format!("in its order: {} instead of {}", place(this), place(first)),
    }
}

fn listed(values: [Option<String>; 3]) -> String {
    values.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn place(line: &Line) -> String {
    match line {
        Line::Step(record) => format!("step {}", record.iter),
        Line::Skip(record) => format!("skipped step {}", record.iter),
        Line::Eval(record) => format!("an evaluation after {} steps", record.iter),
        Line::Sample(record) => format!("a sample after {} steps", record.iter),
        Line::Horizon(record) => format!("a new length after {} steps", record.iter),
        Line::Resume(record) => format!("a resume after {} steps", record.iter),
    }
}

/// The configuration in the newest checkpoint of a run; empty before the first one.
pub(super) fn configuration(run: &Run) -> Map<String, Value> {
    let config = run.newest.as_ref().map(|newest| serde_json::to_value(&newest.state.config));
    match config {
        Some(Ok(Value::Object(map))) => map,
        _ => Map::new(),
    }
}

/// The keys whose values differ between any of the runs that have a configuration, in their order.
pub(super) fn differing_keys(configurations: &[Map<String, Value>]) -> Vec<String> {
    let known: Vec<_> = configurations.iter().filter(|map| !map.is_empty()).collect();
    let mut seen = BTreeSet::new();
    let keys = known.iter().flat_map(|map| map.keys()).filter(|key| seen.insert(key.as_str()));
    let differs = |key: &&String| {
        let mut values = known.iter().map(|map| map.get(key.as_str()).unwrap_or(&Value::Null));
        let first = values.next();
        !NOT_COMPARED.contains(&key.as_str()) && values.any(|value| Some(value) != first)
    };
    keys.filter(differs).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::StepRecord;

    #[test]
    fn each_number_of_a_step_counts_and_no_time() {
        let step = StepRecord {
            iter: 3,
            loss: 2.5,
            learning_rate: 1e-3,
            grad_norm: 0.75,
            step_ms: 10.0,
            tokens_per_second: 100.0,
            mfu: Some(0.5),
        };
        let first = Line::Step(step.clone());
        let slower = StepRecord { step_ms: 20.0, tokens_per_second: 50.0, mfu: None, ..step };
        assert!(same(&first, &Line::Step(slower)));
        for (other, expected) in [
            (StepRecord { loss: 2.25, ..step }, "at step 3: loss 2.25 instead of 2.5"),
            (
                StepRecord { learning_rate: 0.5, ..step },
                "at step 3: learning rate 0.5 instead of 0.001",
            ),
            (StepRecord { grad_norm: 1.0, ..step }, "at step 3: gradient norm 1.0 instead of 0.75"),
            (StepRecord { iter: 4, ..step }, "in its order: step 4 instead of step 3"),
        ] {
            let other = Line::Step(other);
            assert!(!same(&first, &other), "{expected}");
            assert_eq!(difference(&first, &other), expected);
        }
    }
}
