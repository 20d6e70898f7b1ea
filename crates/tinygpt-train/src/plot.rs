//! `loss.svg`: the loss curves of a run, drawn from its `metrics.jsonl`.
//!
//! The training loss of every step is faint and its running mean is a line; evaluations are
//! marked on separate lines. The loss axis is linear, from the data's lowest to its highest value:
//! a loss in nats is a logarithm already, so equal distances are equal gains in likelihood. The
//! drawing contains no font: viewers use their own sans-serif.

use std::ops::Range;
use std::path::Path;

use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use tinygpt_fs::write_file;

use crate::error::TrainError;
use crate::metrics::{self, Line};

/// Name of the drawing in `out_dir`.
pub const FILE_NAME: &str = "loss.svg";

const SIZE: (u32, u32) = (960, 540);
const TRAIN_COLOR: RGBColor = RGBColor(31, 105, 164);
const TRAIN_EVAL_COLOR: RGBColor = RGBColor(84, 130, 53);
const VAL_COLOR: RGBColor = RGBColor(192, 80, 20);
const GRID_COLOR: RGBColor = RGBColor(225, 225, 225);

/// The points of the drawing; x is the number of steps, y nats per token.
#[derive(Debug, Default, PartialEq)]
struct Curves {
    raw: Vec<(f64, f64)>,
    smooth: Vec<(f64, f64)>,
    train_eval: Vec<(f64, f64)>,
    val_eval: Vec<(f64, f64)>,
}

/// Draws `out_dir/loss.svg` from `out_dir/metrics.jsonl`; nothing if there is no step in it yet.
///
/// # Errors
/// [`TrainError::Io`] if the metrics cannot be read, [`TrainError::Plot`] if the drawing cannot be
/// made or written.
pub fn draw(out_dir: &Path) -> Result<(), TrainError> {
    let curves = Curves::from_lines(&metrics::read(&out_dir.join(metrics::FILE_NAME))?);
    if curves.raw.is_empty() {
        return Ok(());
    }
    let path = out_dir.join(FILE_NAME);
    let mut svg = String::new();
    curves.draw(&mut svg).map_err(|reason| TrainError::Plot { path: path.clone(), reason })?;
    Ok(write_file(&path, svg.as_bytes())?)
}

impl Curves {
    fn from_lines(lines: &[Line]) -> Self {
        let mut curves = Self::default();
        for line in lines {
            match line {
                Line::Step(record) => {
                    curves.raw.push((record.iter as f64, f64::from(record.loss)));
                }
                Line::Eval(record) => {
                    curves.train_eval.push((record.iter as f64, f64::from(record.train_loss)));
                    curves.val_eval.push((record.iter as f64, f64::from(record.val_loss)));
                }
                Line::Skip(_) | Line::Sample(_) | Line::Horizon(_) | Line::Resume(_) => {}
            }
        }
        curves.smooth = running_mean(&curves.raw);
        curves
    }

    fn draw(&self, svg: &mut String) -> Result<(), String> {
        let root = SVGBackend::with_string(svg, SIZE).into_drawing_area();
        root.fill(&WHITE).map_err(|error| error.to_string())?;
        let (x, y) = self.ranges();
        let chart = ChartBuilder::on(&root)
            .margin(18)
            .x_label_area_size(48)
            .y_label_area_size(68)
            .build_cartesian_2d(x, y)
            .map_err(|error| error.to_string())?;
        self.draw_on(chart).map_err(|error| error.to_string())?;
        root.present().map_err(|error| error.to_string())
    }

    fn draw_on<'a, DB: DrawingBackend + 'a>(
        &self,
        mut chart: ChartContext<'a, DB, Cartesian2d<RangedCoordf64, RangedCoordf64>>,
    ) -> Result<(), DrawingAreaErrorKind<DB::ErrorType>> {
        chart
            .configure_mesh()
            .x_desc("steps")
            .y_desc("loss (nats per token)")
            .bold_line_style(GRID_COLOR)
            .light_line_style(TRANSPARENT)
            .label_style(("sans-serif", 15))
            .axis_desc_style(("sans-serif", 17))
            .x_label_formatter(&|x| format!("{x:.0}"))
            .y_label_formatter(&|y| format!("{y:.2}"))
            .y_labels(8)
            .draw()?;
        let faint = TRAIN_COLOR.mix(0.22).stroke_width(1);
        chart.draw_series(LineSeries::new(self.raw.iter().copied(), faint))?;
        for (points, color, marked, name) in [
            (&self.smooth, TRAIN_COLOR, false, "training batches, running mean"),
            (&self.train_eval, TRAIN_EVAL_COLOR, true, "training split, evaluated"),
            (&self.val_eval, VAL_COLOR, true, "validation split, evaluated"),
        ] {
            let style = color.stroke_width(2);
            chart
                .draw_series(LineSeries::new(points.iter().copied(), style))?
                .label(name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 22, y)], style));
            if marked {
                let dot = |point: &(f64, f64)| Circle::new(*point, 3, color.filled());
                chart.draw_series(points.iter().map(dot))?;
            }
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperRight)
            .background_style(WHITE.mix(0.85))
            .border_style(GRID_COLOR)
            .label_font(("sans-serif", 15))
            .draw()
    }

    /// Axis ranges that hold every point, with a little room above and below.
    fn ranges(&self) -> (Range<f64>, Range<f64>) {
        let all = || [&self.raw, &self.train_eval, &self.val_eval].into_iter().flatten();
        let last = all().map(|(x, _)| *x).fold(1.0, f64::max);
        let low = all().map(|(_, y)| *y).fold(f64::INFINITY, f64::min);
        let high = all().map(|(_, y)| *y).fold(f64::NEG_INFINITY, f64::max);
        let room = ((high - low) * 0.05).max(1e-3);
        (0.0..last, low - room..high + room)
    }
}

/// The mean over a window around each point, a fiftieth of the run wide, shorter at both ends.
pub(crate) fn running_mean(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let half = points.len() / 100;
    let mut sums = Vec::with_capacity(points.len() + 1);
    sums.push(0.0);
    for (_, y) in points {
        sums.push(sums[sums.len() - 1] + y);
    }
    let mean_at = |(i, (x, _)): (usize, &(f64, f64))| {
        let reach = half.min(i).min(points.len() - 1 - i);
        let (from, to) = (i - reach, i + reach + 1);
        (*x, (sums[to] - sums[from]) / (to - from) as f64)
    };
    points.iter().enumerate().map(mean_at).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::report::{EvalRecord, StepRecord};

    fn lines(n: u64) -> Vec<Line> {
        let loss = |iter: u64| 1.6 + 2.6 * (-(iter as f32) / 150.0).exp();
        let noise = |iter: u64| ((iter * 7919) % 101) as f32 / 500.0 - 0.1;
        let step = |iter| {
            Line::Step(StepRecord {
                iter,
                loss: loss(iter) + noise(iter),
                learning_rate: 1e-3,
                grad_norm: 1.0,
                step_ms: 1.0,
                tokens_per_second: 1.0,
                mfu: None,
            })
        };
        let eval = |iter| {
            Line::Eval(EvalRecord {
                iter,
                train_loss: loss(iter),
                val_loss: loss(iter) + 0.08,
                val_bits_per_byte: 0.0,
                perplexity: 0.0,
            })
        };
        (0..n).map(step).chain((0..=n).step_by(100).map(eval)).collect()
    }

    #[test]
    fn axes_are_named_with_units_and_every_curve_has_its_name() {
        let mut svg = String::new();
        Curves::from_lines(&lines(1000)).draw(&mut svg).unwrap();
        for text in ["steps", "nats per token", "validation split", "running mean"] {
            assert!(svg.contains(text), "{text} is missing");
        }
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
    }

    #[test]
    fn the_running_mean_keeps_a_line_a_line() {
        let line: Vec<(f64, f64)> = (0..500).map(|i| (f64::from(i), 2.0 * f64::from(i))).collect();
        for ((_, expected), (_, got)) in line.iter().zip(running_mean(&line)) {
            assert!((expected - got).abs() < 1e-6);
        }
        assert_eq!(running_mean(&[(0.0, 3.0)]), [(0.0, 3.0)]);
    }

    #[test]
    fn one_update_and_equal_losses_can_be_drawn() {
        for n in [1, 2] {
            let raw = vec![(0.0, 1.5); n];
            let curves = Curves { smooth: running_mean(&raw), raw, ..Curves::default() };
            curves.draw(&mut String::new()).unwrap();
        }
    }
}
