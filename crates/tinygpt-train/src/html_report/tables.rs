//! The tables of the page: results, differences, evaluations, samples, checkpoints, configuration.

use serde_json::{Map, Value};

use super::charts::Measured;
use super::compare::{configuration, differing_keys, verdict};
use super::escape::{escape, exact, grouped};
use super::run::Run;
use crate::metrics::Line;

/// A table in a box that scrolls, whose first column has the names of the rows. `class` is `tall` for a
/// table that may have many rows, `words` for one of texts.
fn table((label, class): (&str, &str), head: &[String], rows: &[Vec<String>]) -> String {
    let mut html = format!(
        "<div class=\"scroll {class}\" tabindex=\"0\" role=\"region\" aria-label=\"{}\"><table>\n",
        escape(label)
    );
    if !head.is_empty() {
        let cells: Vec<String> =
            head.iter().map(|text| format!("<th scope=\"col\">{text}</th>")).collect();
        html += &format!("<thead><tr>{}</tr></thead>\n", cells.concat());
    }
    html += "<tbody>\n";
    for row in rows {
        let (name, cells) = row.split_first().map_or(("", &[][..]), |(name, cells)| (name, cells));
        let cells: Vec<String> = cells.iter().map(|text| format!("<td>{text}</td>")).collect();
        html += &format!("<tr><th scope=\"row\">{name}</th>{}</tr>\n", cells.concat());
    }
    html + "</tbody></table></div>\n"
}

/// The head of a table with a column for each run.
fn run_names(runs: &[Measured<'_>], corner: &str) -> Vec<String> {
    let names = runs.iter().enumerate().map(|(idx, (run, _))| marked_name(idx, run));
    std::iter::once(corner.to_owned()).chain(names).collect()
}

/// The name of a run with the colour of its curves.
fn marked_name(idx: usize, run: &Run) -> String {
    format!("<span class=\"mark c{}\"></span>{}", idx % 8, escape(&run.name))
}

/// The results of the runs next to each other.
pub(super) fn results(runs: &[Measured<'_>]) -> String {
    let row = |name: &str, of: &dyn Fn(&Measured<'_>) -> Option<String>| {
        let cells = runs.iter().map(|run| of(run).unwrap_or_else(|| "–".to_owned()));
        std::iter::once(name.to_owned()).chain(cells).collect::<Vec<String>>()
    };
    let newest = |run: &Run| run.newest.as_ref().map(|newest| newest.model.num_params() as u64);
    let planned = |run: &Run| run.newest.as_ref().map(|newest| newest.state.config.train.max_iters);
    let rows = [
        row("Lowest validation loss, nats per token", &|(run, _)| {
            run.best_eval().map(|eval| exact(eval.val_loss))
        }),
        row("– after steps", &|(run, _)| run.best_eval().map(|eval| grouped(eval.iter))),
        row("– in bits per byte", &|(run, _)| {
            run.best_eval().map(|eval| exact(eval.val_bits_per_byte))
        }),
        row("– as perplexity", &|(run, _)| run.best_eval().map(|eval| exact(eval.perplexity))),
        row("Last validation loss", &|(run, _)| {
            run.evals().last().map(|eval| exact(eval.val_loss))
        }),
        row("Last training loss, evaluated", &|(run, _)| {
            run.evals().last().map(|eval| exact(eval.train_loss))
        }),
        row("Loss of the last batch", &|(run, _)| run.steps().last().map(|step| exact(step.loss))),
        row("Steps made", &|(run, _)| Some(grouped(run.n_steps()))),
        row("Steps planned", &|(run, _)| planned(run).map(grouped)),
        row("Steps skipped", &|(run, _)| {
            let is_skip = |line: &&Line| matches!(line, Line::Skip(_));
            Some(run.lines.iter().filter(is_skip).count().to_string())
        }),
        row("Tokens", &|(run, progress)| progress.tokens(run.n_steps()).map(grouped)),
        row("Seconds in steps", &|(run, progress)| {
            Some(format!("{:.1}", progress.seconds(run.n_steps())))
        }),
        row("Tokens per second, mean", &|(run, progress)| {
            let tokens = progress.tokens(run.n_steps())? as f64;
            let seconds = progress.seconds(run.n_steps());
            (seconds > 0.0).then(|| grouped((tokens / seconds).round() as u64))
        }),
        row("Parameters", &|(run, _)| newest(run).map(grouped)),
    ];
    table(("Results", ""), &run_names(runs, "Result"), &rows)
}

/// Whether the other runs equal the first one, and the keys of their configurations that differ.
pub(super) fn differences(runs: &[Measured<'_>]) -> String {
    let Some(((first, _), others)) = runs.split_first() else { return String::new() };
    let mut html = format!(
        "<p>Compared with {}, without times:</p>\n<ul class=\"verdicts\">\n",
        marked_name(0, first)
    );
    for (idx, (run, _)) in others.iter().enumerate() {
        let verdict = verdict(first, run);
        html += &format!("<li>{}: {}</li>\n", marked_name(idx + 1, run), escape(&verdict));
    }
    html += "</ul>\n";
    let configurations: Vec<_> = runs.iter().map(|(run, _)| configuration(run)).collect();
    let mut rows: Vec<Vec<String>> = differing_keys(&configurations)
        .into_iter()
        .map(|key| {
            let of = |map: &Map<String, Value>| {
                if map.is_empty() { "–".to_owned() } else { value(map.get(&key)) }
            };
            std::iter::once(key.clone()).chain(configurations.iter().map(of)).collect()
        })
        .collect();
    rows.extend(facts(runs).into_iter().filter(|row| row[1..].iter().any(|cell| *cell != row[1])));
    if rows.is_empty() {
        return html + "<p>Configuration, data and machine are the same.</p>\n";
    }
    html + &table(("Differences in configuration", "words"), &run_names(runs, "Key"), &rows)
}

fn value(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => "none".to_owned(),
        Some(Value::String(text)) => escape(text),
        Some(other) => escape(&other.to_string()),
    }
}

/// Data and machine of each run.
fn facts(runs: &[Measured<'_>]) -> Vec<Vec<String>> {
    type Fact = fn(&super::run::Newest) -> String;
    let facts: [(&str, Fact); 6] = [
        ("Data fingerprint", |newest| newest.state.data_fingerprint.clone()),
        ("Tokenizer, SHA-256", |newest| newest.state.tokenizer_sha256.clone()),
        ("Device", |newest| newest.state.device.clone()),
        ("Instructions of the CPU", |newest| newest.state.instruction_set.clone()),
        ("Threads", |newest| newest.state.threads.to_string()),
        ("TinyGPT", |newest| newest.state.crate_version.clone()),
    ];
    let cell =
        |run: &Run, of: Fact| run.newest.as_ref().map_or("–".to_owned(), |it| escape(&of(it)));
    let row = |(name, of): (&str, Fact)| {
        std::iter::once(name.to_owned()).chain(runs.iter().map(|(run, _)| cell(run, of))).collect()
    };
    facts.into_iter().map(row).collect()
}

/// Data and machine of each run as a table.
pub(super) fn data_and_machine(runs: &[Measured<'_>]) -> String {
    table(("Data and machine", "words"), &run_names(runs, "Fact"), &facts(runs))
}

/// All evaluations of a run, newest first, as they stand in its metrics.
pub(super) fn evaluations((run, progress): Measured<'_>) -> String {
    let head =
        ["Steps", "Tokens", "Validation loss", "Training loss", "Bits per byte", "Perplexity"];
    let mut rows: Vec<Vec<String>> = run
        .evals()
        .map(|eval| {
            vec![
                grouped(eval.iter),
                progress.tokens(eval.iter).map_or("–".to_owned(), grouped),
                exact(eval.val_loss),
                exact(eval.train_loss),
                exact(eval.val_bits_per_byte),
                exact(eval.perplexity),
            ]
        })
        .collect();
    rows.reverse();
    let label = format!("Evaluations of {}", run.name);
    if rows.is_empty() {
        none("No evaluation yet.")
    } else {
        table((&label, "tall"), &head.map(str::to_owned), &rows)
    }
}

/// The samples of a run, newest first.
pub(super) fn samples(run: &Run) -> String {
    let mut samples: Vec<String> = run
        .samples()
        .map(|sample| {
            let text = escape(sample.text.trim());
            format!(
                "<p class=\"when\">After {} steps</p>\n<p class=\"sample\">{text}</p>\n",
                grouped(sample.iter)
            )
        })
        .collect();
    samples.reverse();
    if samples.is_empty() {
        return none("No samples: they are in the metrics if <code>sample_at_eval</code> is true.");
    }
    format!(
        "<div class=\"scroll tall\" tabindex=\"0\" role=\"region\" aria-label=\"Samples of {}\">\n{}</div>\n",
        escape(&run.name),
        samples.concat()
    )
}

/// The checkpoints that a run has kept.
pub(super) fn checkpoints(run: &Run) -> String {
    let best = run.newest.as_ref().and_then(|newest| newest.state.best).map(|best| best.step);
    let last = run.checkpoints.last().map(|checkpoint| checkpoint.step);
    let rows: Vec<Vec<String>> = run
        .checkpoints
        .iter()
        .map(|checkpoint| {
            let names = [(best, "best"), (last, "last")];
            let is_it = |(step, name): (Option<u64>, &'static str)| {
                (step == Some(checkpoint.step)).then_some(name)
            };
            let names: Vec<&str> = names.into_iter().filter_map(is_it).collect();
            let loss = run.evals().find(|eval| eval.iter == checkpoint.step);
            vec![
                grouped(checkpoint.step),
                names.join(", "),
                loss.map_or("–".to_owned(), |eval| exact(eval.val_loss)),
                grouped(checkpoint.bytes),
            ]
        })
        .collect();
    let head = ["Steps", "Name", "Validation loss", "Bytes"].map(str::to_owned);
    let label = format!("Checkpoints of {}", run.name);
    if rows.is_empty() { none("No checkpoint yet.") } else { table((&label, ""), &head, &rows) }
}

/// The whole configuration of a run.
pub(super) fn whole_configuration(run: &Run) -> String {
    let rows: Vec<Vec<String>> = configuration(run)
        .iter()
        .map(|(key, found)| vec![escape(key), value(Some(found))])
        .collect();
    let label = format!("Configuration of {}", run.name);
    if rows.is_empty() {
        none("It is in the first checkpoint, which is not saved yet.")
    } else {
        table((&label, "tall words"), &[], &rows)
    }
}

/// The settings that were changed when the run was resumed.
pub(super) fn changes(run: &Run) -> String {
    let mut html = String::new();
    for line in &run.lines {
        let Line::Resume(record) = line else { continue };
        for (key, [before, now]) in &record.changed {
            html += &format!(
                "<li>after {} steps: {} {} → {}</li>\n",
                grouped(record.iter),
                escape(key),
                value(Some(before)),
                value(Some(now))
            );
        }
    }
    if html.is_empty() {
        html
    } else {
        format!("<p>Changed when it was resumed:</p>\n<ul>\n{html}</ul>\n")
    }
}

fn none(text: &str) -> String {
    format!("<p>{text}</p>\n")
}
