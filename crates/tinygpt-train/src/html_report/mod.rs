//! `report.html`: one run, or several next to each other, as a page that needs no other file.
//!
//! Curves by steps, tokens and seconds; results; what differs between the runs; evaluations, samples,
//! checkpoints, configuration, data and machine. The page has no script and loads nothing: it can be
//! mailed, kept with a paper and printed. Its numbers are those of `metrics.jsonl`, in every digit;
//! sums and means of them are labelled. A run that is damaged is an error, and then nothing is written.

mod chart;
mod charts;
mod compare;
mod escape;
mod progress;
mod run;
mod tables;
mod ticks;

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use tinygpt_fs::write_file;

use self::charts::{Measured, charts};
use self::escape::escape;
use self::progress::{Axis, Progress};
use self::run::{Run, make_names_unique};
use self::tables::{
    changes, checkpoints, data_and_machine, differences, evaluations, results, samples,
    whole_configuration,
};
use crate::error::TrainError;

/// Name of the page.
pub const FILE_NAME: &str = "report.html";

const STYLE: &str = include_str!("style.css");

/// How every page starts, by which it is recognized.
const START: &str = "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
                     <meta name=\"generator\" content=\"TinyGPT report\">\n";

/// Writes the page of the runs in `dirs` to `path`.
///
/// # Errors
/// [`TrainError::NoRun`] if a directory is not that of a run, [`TrainError::BadMetrics`] and
/// [`TrainError::Corrupt`] if a part of it is damaged, [`TrainError::NotAReport`] if `path` is
/// something else than such a page, [`TrainError::Io`].
pub fn write(dirs: &[PathBuf], path: &Path) -> Result<(), TrainError> {
    let mut runs = dirs.iter().map(|dir| Run::read(dir)).collect::<Result<Vec<_>, _>>()?;
    if path.symlink_metadata().is_ok() && !is_report(path) {
        return Err(TrainError::NotAReport(path.to_path_buf()));
    }
    make_names_unique(&mut runs);
    Ok(write_file(path, page(&runs).as_bytes())?)
}

/// Whether a file is a page that [`write`] wrote.
fn is_report(path: &Path) -> bool {
    let is_file = path.symlink_metadata().is_ok_and(|metadata| metadata.is_file());
    let mut start = vec![0; START.len()];
    let mut read = || File::open(path).and_then(|mut file| file.read_exact(&mut start));
    is_file && read().is_ok() && start == START.as_bytes()
}

fn page(runs: &[Run]) -> String {
    let progress: Vec<Progress> = runs.iter().map(Progress::of).collect();
    let runs: Vec<Measured<'_>> = runs.iter().zip(&progress).collect();
    let title = match runs.as_slice() {
        [(run, _)] => format!("Training run {}", run.name),
        runs => format!("Comparison of {} training runs", runs.len()),
    };
    let title = escape(&title);
    let mut html = format!(
        "{START}<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src \
         'unsafe-inline'\">\n<title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n\
         <header><h1>{title}</h1></header>\n<main>\n"
    );
    html += &section("Results", &results(&runs));
    if runs.len() > 1 {
        html += &section("Differences", &differences(&runs));
    }
    html += &section(
        "Curves",
        &format!("{}<div class=\"charts\">\n{}</div>\n", switch(), charts(&runs)),
    );
    html += &per_run(&runs, "Samples", |(run, _)| samples(run));
    html += &per_run(&runs, "Evaluations", evaluations);
    html += &per_run(&runs, "Checkpoints", |(run, _)| checkpoints(run));
    html += &section("Data and machine", &data_and_machine(&runs));
    html += &per_run(&runs, "Configuration", |(run, _)| changes(run) + &whole_configuration(run));
    html += "</main>\n<footer><p>Numbers are those of <code>metrics.jsonl</code>. Seconds are those of \
             the steps, without evaluations and saves.</p></footer>\n</body>\n</html>\n";
    html
}

/// The choice of the axis of all charts.
fn switch() -> String {
    let option = |axis: Axis| {
        let (name, checked) = (axis.name(), if axis == Axis::Steps { " checked" } else { "" });
        format!(
            "<label><input type=\"radio\" name=\"axis\" id=\"axis-{name}\"{checked}> {name}</label>\n"
        )
    };
    let options: Vec<String> = Axis::ALL.into_iter().map(option).collect();
    format!("<fieldset class=\"switch\"><legend>Over</legend>\n{}</fieldset>\n", options.concat())
}

fn section(title: &str, content: &str) -> String {
    format!("<section>\n<h2>{title}</h2>\n{content}</section>\n")
}

/// A section with a part for each run.
fn per_run(runs: &[Measured<'_>], title: &str, part: impl Fn(Measured<'_>) -> String) -> String {
    if let [run] = runs {
        return section(title, &part(*run));
    }
    let parts = runs.iter().enumerate().map(|(idx, run)| {
        let name = escape(&run.0.name);
        format!(
            "<div>\n<h3><span class=\"mark c{}\"></span>{name}</h3>\n{}</div>\n",
            idx % 8,
            part(*run)
        )
    });
    section(title, &format!("<div class=\"columns\">\n{}</div>\n", parts.collect::<String>()))
}
