//! One chart as SVG: curves, ticks and their labels. Colours and fonts come from the style of the page.

use std::fmt::Write as _;

use super::escape::escape;
use super::progress::Axis;
use super::ticks::{label, log_ticks, seconds_unit, ticks};

/// The size in units of the drawing, which the page scales.
const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 58.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 40.0;

/// The most points of a line; the drawing has fewer columns.
const MAX_POINTS: usize = 800;

/// How values are placed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scale {
    Linear,
    /// Gradient norms of one run can differ by many orders of magnitude.
    Log,
}

/// One line of a chart.
#[derive(Debug)]
pub(super) struct Curve {
    /// Its number of the palette and its kind, as classes of the style.
    pub(super) class: String,
    /// In the order of x.
    pub(super) points: Vec<(f64, f64)>,
    /// A text for each point, which is then drawn as a dot.
    pub(super) titles: Option<Vec<String>>,
}

/// What a chart shows.
#[derive(Debug)]
pub(super) struct Chart<'a> {
    /// Read by screen readers.
    pub(super) summary: &'a str,
    /// The name of the values, with their unit.
    pub(super) values: &'a str,
    pub(super) scale: Scale,
    pub(super) axis: Axis,
    pub(super) curves: &'a [Curve],
}

/// Ranges of the values, and where they are in the drawing.
struct Frame {
    x: (f64, f64),
    y: (f64, f64),
    scale: Scale,
}

impl Frame {
    fn of(chart: &Chart<'_>) -> Option<Self> {
        let (mut x, mut y) = ((0.0, f64::MIN), (f64::MAX, f64::MIN));
        for &(at, value) in chart.curves.iter().flat_map(|curve| &curve.points) {
            if chart.scale == Scale::Log && value <= 0.0 {
                continue;
            }
            x.1 = at.max(x.1);
            y = (value.min(y.0), value.max(y.1));
        }
        if y.0 > y.1 {
            return None;
        }
        x.1 = x.1.max(f64::MIN_POSITIVE);
        match chart.scale {
            Scale::Linear => {
                let room = ((y.1 - y.0) * 0.05).max(y.1.abs() * 1e-6).max(1e-12);
                y = (y.0 - room, y.1 + room);
            }
            Scale::Log => y = (y.0 / 1.1, y.1 * 1.1),
        }
        Some(Self { x, y, scale: chart.scale })
    }

    fn x(&self, at: f64) -> f64 {
        LEFT + (WIDTH - LEFT - RIGHT) * (at - self.x.0) / (self.x.1 - self.x.0)
    }

    fn y(&self, value: f64) -> f64 {
        let (low, high, value) = match self.scale {
            Scale::Linear => (self.y.0, self.y.1, value),
            Scale::Log => (self.y.0.ln(), self.y.1.ln(), value.max(self.y.0).ln()),
        };
        TOP + (HEIGHT - TOP - BOTTOM) * (high - value) / (high - low)
    }
}

/// Draws a chart; empty if no curve has a point.
pub(super) fn draw(chart: &Chart<'_>) -> String {
    let Some(frame) = Frame::of(chart) else { return String::new() };
    let mut svg = format!(
        "<svg class=\"by-{}\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">\n",
        chart.axis.name(),
        escape(chart.summary)
    );
    draw_grid(&mut svg, chart, &frame);
    for curve in chart.curves {
        draw_curve(&mut svg, curve, &frame);
    }
    svg.push_str("</svg>\n");
    svg
}

// Writing to a String cannot fail.
fn draw_grid(svg: &mut String, chart: &Chart<'_>, frame: &Frame) {
    let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
    let values = match chart.scale {
        Scale::Linear => ticks(frame.y.0, frame.y.1, 5),
        Scale::Log => log_ticks(frame.y.0, frame.y.1),
    };
    for tick in &values {
        let y = frame.y(*tick);
        let _ = writeln!(
            svg,
            "<path class=\"grid\" d=\"M{LEFT} {y:.1}H{right}\"/><text class=\"end\" x=\"{}\" \
             y=\"{:.1}\">{}</text>",
            LEFT - 6.0,
            y + 4.0,
            label(*tick)
        );
    }
    let (divisor, unit) = match chart.axis {
        Axis::Seconds => seconds_unit(frame.x.1),
        Axis::Tokens => (1.0, "tokens"),
        Axis::Steps => (1.0, "steps"),
    };
    for tick in ticks(frame.x.0, frame.x.1 / divisor, 6) {
        let x = frame.x(tick * divisor);
        let _ = writeln!(
            svg,
            "<text class=\"middle\" x=\"{x:.1}\" y=\"{}\">{}</text>",
            bottom + 17.0,
            label(tick)
        );
    }
    let _ = writeln!(
        svg,
        "<path class=\"axis\" d=\"M{LEFT} {bottom}H{right}\"/><text class=\"end\" x=\"{right}\" \
         y=\"{}\">{unit}</text><text x=\"{}\" y=\"{}\">{}</text>",
        HEIGHT - 6.0,
        LEFT,
        HEIGHT - 6.0,
        escape(chart.values)
    );
}

fn draw_curve(svg: &mut String, curve: &Curve, frame: &Frame) {
    let points: Vec<String> = thinned(&curve.points)
        .into_iter()
        .map(|(x, y)| format!("{:.1} {:.1}", frame.x(x), frame.y(y)))
        .collect();
    if points.len() > 1 {
        let _ = writeln!(svg, "<path class=\"{}\" d=\"M{}\"/>", curve.class, points.join("L"));
    }
    let titles = curve.titles.iter().flatten();
    for ((x, y), title) in curve.points.iter().zip(titles) {
        let _ = writeln!(
            svg,
            "<circle class=\"{}\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\"><title>{}</title></circle>",
            curve.class,
            frame.x(*x),
            frame.y(*y),
            escape(title)
        );
    }
}

/// At most about [`MAX_POINTS`] of the points: of each interval the first, the last, the lowest and the
/// highest, so that no spike is lost.
fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let every = points.len().div_ceil(MAX_POINTS / 4).max(4);
    let mut kept = Vec::new();
    for chunk in points.chunks(every) {
        let by_value = |a: &usize, b: &usize| chunk[*a].1.total_cmp(&chunk[*b].1);
        let low = (0..chunk.len()).min_by(by_value).unwrap_or_default();
        let high = (0..chunk.len()).max_by(by_value).unwrap_or_default();
        let mut kept_here = if chunk.len() <= 4 {
            (0..chunk.len()).collect()
        } else {
            vec![0, low, high, chunk.len() - 1]
        };
        kept_here.sort_unstable();
        kept_here.dedup();
        kept.extend(kept_here.into_iter().map(|idx| chunk[idx]));
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spike_survives_thinning_and_few_points_are_all_kept() {
        let mut points: Vec<(f64, f64)> = (0..100_000).map(|i| (f64::from(i), 1.0)).collect();
        points[54_321].1 = 9.0;
        let kept = thinned(&points);
        assert!(kept.len() <= MAX_POINTS, "{}", kept.len());
        assert!(kept.contains(&(54_321.0, 9.0)) && kept.contains(&(99_999.0, 1.0)));
        assert!(kept.is_sorted_by(|a, b| a.0 < b.0));
        assert_eq!(thinned(&points[..700]), points[..700]);
    }

    #[test]
    fn a_chart_has_its_ticks_titles_and_no_coordinate_outside() {
        let points = vec![(0.0, 1e-3), (50.0, 1e30), (100.0, 2.0)];
        let titles = Some(vec!["a".to_owned(), "b & c".to_owned(), "d".to_owned()]);
        for (scale, axis) in [(Scale::Log, Axis::Steps), (Scale::Linear, Axis::Seconds)] {
            let (class, points, titles) = ("c0".to_owned(), points.clone(), titles.clone());
            let curves = [Curve { class, points, titles }];
            let svg = draw(&Chart { summary: "s", values: "v", scale, axis, curves: &curves });
            assert!(svg.contains("b &amp; c") && svg.contains(">0</text>"), "{svg}");
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        }
    }

    #[test]
    fn one_point_and_equal_values_can_be_drawn_and_without_points_there_is_no_chart() {
        for points in [vec![(0.0, 0.0)], vec![(0.0, 1.5), (1.0, 1.5)], vec![]] {
            for scale in [Scale::Linear, Scale::Log] {
                let (class, points) = ("c0".to_owned(), points.clone());
                let curves = [Curve { class, points, titles: None }];
                let chart =
                    Chart { summary: "s", values: "v", scale, axis: Axis::Steps, curves: &curves };
                assert!(!draw(&chart).contains("NaN"));
            }
        }
    }
}
