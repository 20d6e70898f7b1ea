//! The curve of a learning-rate range test as SVG: the loss over the rate, which has a logarithmic
//! axis. The drawing contains no font, as `loss.svg`.

use std::path::Path;

use plotters::prelude::*;
use tinygpt_fs::write_file;

use crate::error::TrainError;
use crate::trainer::RatePoint;

const SIZE: (u32, u32) = (960, 540);
const COLOR: RGBColor = RGBColor(31, 105, 164);
const SUGGESTION_COLOR: RGBColor = RGBColor(192, 80, 20);
const GRID_COLOR: RGBColor = RGBColor(225, 225, 225);

/// Draws `points` into `path`, and a vertical line at the suggested rate.
///
/// # Errors
/// [`TrainError::Plot`] if the drawing cannot be made, [`TrainError::Io`] if it cannot be written.
pub fn draw_rates(
    path: &Path,
    points: &[RatePoint],
    suggested: Option<f64>,
) -> Result<(), TrainError> {
    let mut svg = String::new();
    draw(&mut svg, points, suggested)
        .map_err(|reason| TrainError::Plot { path: path.to_path_buf(), reason })?;
    Ok(write_file(path, svg.as_bytes())?)
}

fn draw(svg: &mut String, points: &[RatePoint], suggested: Option<f64>) -> Result<(), String> {
    let rates = || points.iter().map(|point| point.learning_rate);
    let (first, last) = (rates().fold(f64::INFINITY, f64::min), rates().fold(0.0, f64::max));
    if points.len() < 2 || first >= last {
        return Err("has fewer than two points".to_owned());
    }
    let losses = || points.iter().map(|point| point.smoothed);
    let low = losses().fold(f64::INFINITY, f64::min);
    let high = losses().fold(f64::NEG_INFINITY, f64::max);
    let room = ((high - low) * 0.05).max(1e-3);
    let root = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    let text = |error: DrawingAreaErrorKind<_>| error.to_string();
    root.fill(&WHITE).map_err(text)?;
    let mut chart = ChartBuilder::on(&root)
        .margin(18)
        .x_label_area_size(48)
        .y_label_area_size(68)
        .build_cartesian_2d((first..last).log_scale(), low - room..high + room)
        .map_err(text)?;
    chart
        .configure_mesh()
        .x_desc("learning rate")
        .y_desc("loss (nats per token), smoothed")
        .bold_line_style(GRID_COLOR)
        .light_line_style(TRANSPARENT)
        .label_style(("sans-serif", 15))
        .axis_desc_style(("sans-serif", 17))
        .x_label_formatter(&|rate| format!("{rate:.0e}"))
        .y_label_formatter(&|loss| format!("{loss:.2}"))
        .draw()
        .map_err(text)?;
    let curve = points.iter().map(|point| (point.learning_rate, point.smoothed));
    chart.draw_series(LineSeries::new(curve, COLOR.stroke_width(2))).map_err(text)?;
    if let Some(rate) = suggested {
        let line = [(rate, low - room), (rate, high + room)];
        let style = SUGGESTION_COLOR.stroke_width(2);
        chart.draw_series(LineSeries::new(line, style)).map_err(text)?;
    }
    root.present().map_err(text)
}
