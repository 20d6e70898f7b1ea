//! The charts of the page: which curves of which runs, over each axis.

use super::chart::{Chart, Curve, Scale, draw};
use super::escape::exact;
use super::progress::{Axis, Progress};
use super::run::Run;
use crate::plot::running_mean;
use crate::report::{EvalRecord, StepRecord};

/// A run and how far it is at each step.
pub(super) type Measured<'a> = (&'a Run, &'a Progress);

/// A number of a step, as a chart of its own.
struct StepChart {
    title: &'static str,
    values: &'static str,
    scale: Scale,
    of: fn(&StepRecord) -> f64,
    /// Whether the mean over neighbours is drawn instead of each value.
    is_smoothed: bool,
}

const STEP_CHARTS: [StepChart; 3] = [
    StepChart {
        title: "Learning rate",
        values: "learning rate",
        scale: Scale::Linear,
        of: |record| record.learning_rate,
        is_smoothed: false,
    },
    StepChart {
        title: "Gradient norm",
        values: "norm before clipping",
        scale: Scale::Log,
        of: |record| f64::from(record.grad_norm),
        is_smoothed: false,
    },
    StepChart {
        title: "Speed",
        values: "tokens per second, running mean",
        scale: Scale::Linear,
        of: |record| record.tokens_per_second,
        is_smoothed: true,
    },
];

/// All charts as HTML.
pub(super) fn charts(runs: &[Measured<'_>]) -> String {
    let explanation = if runs.len() == 1 {
        "Faint: each training batch. Line: its running mean. Dots: evaluations on the validation \
         split (filled) and on the training split (hollow)."
    } else {
        "Thin: running mean of the training batches. Dots: evaluations on the validation split."
    };
    let mut html = figure("Loss", explanation, |axis| {
        let curves: Vec<Curve> = runs
            .iter()
            .enumerate()
            .flat_map(|(idx, run)| loss(idx, *run, axis, runs.len()))
            .collect();
        let summary = summary("Loss", runs, axis);
        let values = "nats per token";
        draw(&Chart { summary: &summary, values, scale: Scale::Linear, axis, curves: &curves })
    });
    for of_step in &STEP_CHARTS {
        html += &figure(of_step.title, "", |axis| {
            let curves: Vec<Curve> = runs
                .iter()
                .enumerate()
                .map(|(idx, run)| step_curve(idx, *run, axis, of_step))
                .collect();
            let summary = summary(of_step.title, runs, axis);
            let StepChart { values, scale, .. } = *of_step;
            draw(&Chart { summary: &summary, values, scale, axis, curves: &curves })
        });
    }
    html
}

fn summary(title: &str, runs: &[Measured<'_>], axis: Axis) -> String {
    let names: Vec<&str> = runs.iter().map(|(run, _)| run.name.as_str()).collect();
    format!("{title} of {} over {}", names.join(", "), axis.name())
}

/// A chart over each of the axes, of which the page shows one.
fn figure(title: &str, explanation: &str, draw: impl Fn(Axis) -> String) -> String {
    let drawings: Vec<String> = Axis::ALL.into_iter().map(draw).collect();
    if drawings[0].is_empty() {
        return String::new();
    }
    let mut html = format!("<figure>\n<figcaption><h3>{title}</h3>");
    if !explanation.is_empty() {
        html += &format!("<p>{explanation}</p>");
    }
    html += "</figcaption>\n";
    html += &drawings.concat();
    if drawings[1].is_empty() {
        html += "<p class=\"by-tokens\">Tokens are known once a checkpoint is saved.</p>\n";
    }
    html + "</figure>\n"
}

/// The class of a curve: the colour of its run, and what it is.
fn class(idx: usize, kind: &str) -> String {
    format!("c{} {kind}", idx % 8)
}

fn loss(idx: usize, run: Measured<'_>, axis: Axis, n_runs: usize) -> Vec<Curve> {
    let raw = step_points(run, axis, |record| f64::from(record.loss));
    let mean = Curve { class: class(idx, "thin"), points: running_mean(&raw), titles: None };
    let val = evaluated(run, axis, class(idx, "dots"), ("validation", |record| record.val_loss));
    let train =
        evaluated(run, axis, class(idx, "hollow"), ("training", |record| record.train_loss));
    let raw = Curve { class: class(idx, "faint"), points: raw, titles: None };
    if n_runs == 1 { vec![raw, mean, train, val] } else { vec![mean, val] }
}

fn step_curve(idx: usize, run: Measured<'_>, axis: Axis, of_step: &StepChart) -> Curve {
    let points = step_points(run, axis, of_step.of);
    let points = if of_step.is_smoothed { running_mean(&points) } else { points };
    Curve { class: class(idx, "thin"), points, titles: None }
}

fn step_points(
    (run, progress): Measured<'_>,
    axis: Axis,
    of: impl Fn(&StepRecord) -> f64,
) -> Vec<(f64, f64)> {
    run.steps().filter_map(|record| Some((progress.at(record.iter, axis)?, of(record)))).collect()
}

fn evaluated(
    (run, progress): Measured<'_>,
    axis: Axis,
    class: String,
    (split, of): (&str, fn(&EvalRecord) -> f32),
) -> Curve {
    let mut titles = Vec::new();
    let mut point = |record: &EvalRecord| {
        let x = progress.at(record.iter, axis)?;
        let loss = of(record);
        titles.push(format!(
            "{}: {split} loss {} after {} steps",
            run.name,
            exact(loss),
            record.iter
        ));
        Some((x, f64::from(loss)))
    };
    let points = run.evals().filter_map(&mut point).collect();
    Curve { class, points, titles: Some(titles) }
}
