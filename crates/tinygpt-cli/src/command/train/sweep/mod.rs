//! `train --sweep FILE`: one run after the other for every combination of values, and a table.
//!
//! Each run is a process of its own, so that a run that fails leaves the others alone, and memory
//! starts at zero. A run that is done is not repeated: it prints its results again.

mod file;
mod table;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};
use serde_json::{Map, Value};
use tinygpt_train::StopFlag;

use self::file::{Run, Sweep, options_of};
use self::table::{comparison, tsv};
use crate::exit::{self, Ended};
use crate::options::{Layered, Origin, TrainOptions};
use crate::signals::Signals;
use crate::terminal::{Output, say};
use crate::usage::UsageError;

/// The directory of the runs, unless `--out-dir` names another.
const OUT: &str = "out";

/// A run with its results.
#[derive(Debug)]
struct Done {
    name: String,
    values: Run,
    results: Map<String, Value>,
}

/// Makes the runs of the sweep in `path`.
///
/// # Errors
/// A file or a run that cannot be used, all before the first run; then only a table that cannot be
/// written.
pub(super) fn sweep(layered: &Layered<TrainOptions>, path: &Path) -> Result<Ended> {
    let sweep = Sweep::read(path)?;
    let root = match layered.origin("out_dir") {
        Origin::Flag => layered.options.get::<PathBuf>("out_dir").unwrap_or_default(),
        _ => PathBuf::from(OUT),
    };
    let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let mut runs = Vec::new();
    for (index, values) in sweep.runs.iter().enumerate() {
        let name = format!("{name}-{}", index + 1);
        let options = options_of(layered, values, &root.join(&name))?;
        options.resolve().with_context(|| format!("run {} of the sweep", index + 1))?;
        check_same(&root.join(&name), values)?;
        runs.push((name, values, options));
    }
    let stop = StopFlag::new();
    let signals = Signals::install(&stop).context("cannot listen for signals")?;
    signals.ask_first();
    let table = root.join(format!("{name}-results.tsv"));
    let (mut done, n_runs) = (Vec::new(), runs.len());
    for (index, (name, values, options)) in runs.into_iter().enumerate() {
        let varied =
            sweep.varied.iter().map(|key| format!(" {key} {}", values[key])).collect::<String>();
        say(&format!("run {} of {n_runs}: {name}{varied}", index + 1));
        let (results, code) = run(&options)?;
        if let Some(signal) = stop.signal() {
            say("stopped; the same command continues the sweep");
            return Ok(Ended::Stopped(signal));
        }
        if results.is_empty() {
            say(&format!("note: {name} ended with exit code {code} and printed no results"));
        }
        done.push(Done { name, values: values.clone(), results });
        std::fs::create_dir_all(&root)?;
        tinygpt_fs::write_file(&table, tsv(&sweep.varied, &done).as_bytes())?;
    }
    Output::lock().print(&comparison(&sweep.varied, &done))?;
    say(&format!("results: {}", table.display()));
    Ok(Ended::Done)
}

/// Refuses to continue a run in `dir` that was made with other values.
fn check_same(dir: &Path, values: &Run) -> Result<()> {
    let Some(recorded) = tinygpt_train::recorded(dir)? else { return Ok(()) };
    let recorded = serde_json::to_value(recorded.config)?;
    let is_other = |(key, value): &(&String, &Value)| match (recorded.get(key.as_str()), value) {
        (None, _) => false,
        (Some(theirs), ours) => {
            theirs.as_f64().is_none() && theirs != *ours || theirs.as_f64() != ours.as_f64()
        }
    };
    let Some((key, value)) = values.iter().find(is_other) else { return Ok(()) };
    let error = UsageError::new(format!(
        "{} holds a run with `{key}` {}, and this run of the sweep has {value}",
        dir.display(),
        recorded[key.as_str()]
    ));
    Err(error.hint("rename the file of the sweep, or choose another --out-dir").into())
}

/// Runs `train` with these options; its line of results and its exit code.
fn run(options: &Layered<TrainOptions>) -> Result<(Map<String, Value>, i32)> {
    let file = tempfile::Builder::new().prefix("tinygpt-sweep-").suffix(".json").tempfile()?;
    serde_json::to_writer(&file, &options.given())?;
    let program = std::env::current_exe().context("cannot find the program itself")?;
    let mut command = Command::new(program);
    command.arg("--config-file").arg(file.path()).args(["--json", "--init-from", "auto"]);
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let output = output.context("cannot start a run of the sweep")?;
    let results = serde_json::from_slice(&output.stdout).unwrap_or_default();
    Ok((results, output.status.code().unwrap_or(i32::from(exit::UNEXPECTED))))
}
