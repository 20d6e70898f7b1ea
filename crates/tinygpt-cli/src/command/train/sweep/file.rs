//! The file of `train --sweep`: a config file in which a key may have a list of values.

use std::path::Path;

use serde_json::{Map, Value};
use tinygpt_data::{Shown, excerpt_quoted};

use crate::options::{ConfigFile, Layered, TrainOptions, known_keys};
use crate::usage::UsageError;

/// The largest file, in bytes.
const MAX_BYTES: u64 = 1 << 20;
/// The most runs of one sweep.
const MAX_RUNS: usize = 1000;
/// Keys that the sweep sets itself.
const RESERVED: [&str; 6] = ["out_dir", "init_from", "overwrite", "json", "plan", "sweep"];

/// One run of a sweep: its values of the keys in the file.
pub(super) type Run = Map<String, Value>;

/// The runs of a sweep, in order.
#[derive(Debug)]
pub(super) struct Sweep {
    /// Keys with a list of values.
    pub(super) varied: Vec<String>,
    pub(super) runs: Vec<Run>,
}

impl Sweep {
    /// Reads a file: every combination of the values in its lists, the last list varies fastest.
    ///
    /// # Errors
    /// [`UsageError`] for a file that is not one JSON object of keys of `train`.
    pub(super) fn read(path: &Path) -> Result<Self, UsageError> {
        let wrong = |what: String| UsageError::new(format!("{} {what}", Shown(path)));
        let bytes = tinygpt_data::read_regular(path, MAX_BYTES).map_err(|error| {
            UsageError::new(format!("cannot read the sweep {}: {error}", Shown(path))).hint(
                "--sweep takes a JSON file: {\"learning_rate\": [1e-3, 2e-3], \"seed\": [1, 2]}",
            )
        })?;
        let keys: Map<String, Value> = serde_json::from_slice(&bytes).map_err(|error| {
            wrong(format!("is not one JSON object: {}", excerpt_quoted(&error.to_string())))
        })?;
        let known = known_keys::<TrainOptions>();
        let mut sweep = Self { varied: Vec::new(), runs: vec![Map::new()] };
        for (key, value) in keys {
            if RESERVED.contains(&key.as_str()) {
                return Err(wrong(format!("sets `{key}`, which the sweep sets itself")));
            }
            if !known.contains(&key) {
                let error = wrong(format!("has the unknown key `{}`", excerpt_quoted(&key)));
                return Err(error.hint("`train --help` lists every key with its meaning"));
            }
            let values = match value {
                Value::Array(values) if values.is_empty() => {
                    return Err(wrong(format!("has no value for `{key}`: its list is empty")));
                }
                Value::Array(values) => {
                    sweep.varied.push(key.clone());
                    values
                }
                one => vec![one],
            };
            sweep.multiply(&key, &values);
            if sweep.runs.len() > MAX_RUNS {
                return Err(wrong(format!("has more than {MAX_RUNS} runs")));
            }
        }
        Ok(sweep)
    }

    fn multiply(&mut self, key: &str, values: &[Value]) {
        let with = |run: &Run, value: &Value| {
            let mut run = run.clone();
            run.insert(key.to_owned(), value.clone());
            run
        };
        let runs = self.runs.iter();
        self.runs = runs.flat_map(|run| values.iter().map(move |value| with(run, value))).collect();
    }
}

/// The options of `run`, over those of the command line, in `out_dir`.
///
/// # Errors
/// [`UsageError`] for a value of the wrong type.
pub(super) fn options_of(
    layered: &Layered<TrainOptions>,
    run: &Run,
    out_dir: &Path,
) -> Result<Layered<TrainOptions>, UsageError> {
    let mut values = layered.given();
    values.extend(run.clone());
    values.remove("sweep");
    values.insert("out_dir".to_owned(), out_dir.to_string_lossy().into());
    values.insert("init_from".to_owned(), "auto".into());
    let flags: TrainOptions = serde_json::from_value(values.into())
        .map_err(|error| UsageError::new(format!("a value of the sweep: {error}")))?;
    Layered::new(&flags, None::<ConfigFile>)
}
