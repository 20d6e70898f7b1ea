//! Round numbers along an axis, and how they are labelled.

/// About `n` round numbers from `low` to `high`: multiples of 1, 2 or 5 times a power of ten.
pub(super) fn ticks(low: f64, high: f64, n: usize) -> Vec<f64> {
    let rough = (high - low) / n as f64;
    if !(rough.is_finite() && rough > 0.0) {
        return Vec::new();
    }
    let power = 10f64.powf(rough.log10().floor());
    let factor = [1.0, 2.0, 5.0, 10.0].into_iter().find(|factor| factor * power >= rough);
    let every = factor.unwrap_or(10.0) * power;
    // A quotient that should be an integer may be a little less or more.
    let (first, last) = ((low / every - 1e-9).ceil() as i64, (high / every + 1e-9).floor() as i64);
    (first..=last).map(|i| i as f64 * every).collect()
}

/// Powers of ten from `low` to `high`, at most about six of them; with their multiples by 2 and 5 if
/// there are few.
pub(super) fn log_ticks(low: f64, high: f64) -> Vec<f64> {
    let (first, last) = (low.log10().floor() as i32, high.log10().ceil() as i32);
    let every = usize::try_from(last - first).unwrap_or_default().div_ceil(6).max(1);
    let factors: &[f64] = if last - first <= 3 { &[1.0, 2.0, 5.0] } else { &[1.0] };
    let powers = (first..=last).step_by(every);
    let all = powers.flat_map(|power| factors.iter().map(move |factor| factor * 10f64.powi(power)));
    all.filter(|tick| (low..=high).contains(tick)).collect()
}

/// A tick as text: `0.25`, `2.5k`, `3M`, `1e-4`.
pub(super) fn label(tick: f64) -> String {
    let size = tick.abs();
    if size == 0.0 {
        return "0".to_owned();
    }
    if !(1e-3..1e13).contains(&size) {
        return short(&format!("{tick:.2e}"));
    }
    let units = [(1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")];
    let (unit, letter) = units.into_iter().find(|(unit, _)| size >= *unit).unwrap_or((1.0, ""));
    let digits = format!("{:.4}", tick / unit);
    format!("{}{letter}", digits.trim_end_matches('0').trim_end_matches('.'))
}

/// `2.50e-4` as `2.5e-4`.
fn short(text: &str) -> String {
    let (digits, power) = text.split_once('e').unwrap_or((text, "0"));
    format!("{}e{power}", digits.trim_end_matches('0').trim_end_matches('.'))
}

/// How many seconds a unit of a time axis has, and its name.
pub(super) fn seconds_unit(longest: f64) -> (f64, &'static str) {
    match longest {
        seconds if seconds >= 3.0 * 86400.0 => (86400.0, "days"),
        seconds if seconds >= 3.0 * 3600.0 => (3600.0, "hours"),
        seconds if seconds >= 180.0 => (60.0, "minutes"),
        _ => (1.0, "seconds"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(ticks: &[f64]) -> Vec<String> {
        ticks.iter().map(|tick| label(*tick)).collect()
    }

    #[test]
    fn ticks_are_round_and_short() {
        assert_eq!(labels(&ticks(1.47, 8.1, 5)), ["2", "4", "6", "8"]);
        assert_eq!(labels(&ticks(0.0, 1300.0, 6)), ["0", "500", "1k"]);
        assert_eq!(labels(&ticks(0.0, 5.3e6, 6)), ["0", "1M", "2M", "3M", "4M", "5M"]);
        assert_eq!(labels(&ticks(0.0, 1e-3, 5)), ["0", "2e-4", "4e-4", "6e-4", "8e-4", "0.001"]);
        assert_eq!(labels(&ticks(0.0, 0.3, 3)), ["0", "0.1", "0.2", "0.3"]);
        assert!(ticks(1.0, 1.0, 5).is_empty() && ticks(f64::MAX, f64::MIN, 5).is_empty());
    }

    #[test]
    fn powers_of_ten_are_few() {
        assert_eq!(labels(&log_ticks(0.3, 30.0)), ["0.5", "1", "2", "5", "10", "20"]);
        assert_eq!(labels(&log_ticks(0.01, 1e4)), ["0.01", "0.1", "1", "10", "100", "1k", "10k"]);
        assert!(log_ticks(1e-3, 1e30).len() <= 7);
    }
}
