//! The time that a run may take: `90s`, `30m`, `1.5h`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::key::{KeyValue, Kind};
use crate::report::as_typed;

/// A time in seconds, above 0. It is written in the largest unit in which it is at least 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Budget(f64);

/// Units with their seconds, the largest first.
const UNITS: [(char, f64); 4] = [('d', 86_400.0), ('h', 3_600.0), ('m', 60.0), ('s', 1.0)];

impl Budget {
    /// The time in seconds.
    pub fn seconds(self) -> f64 {
        self.0
    }
}

impl FromStr for Budget {
    /// The accepted values.
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parse = || {
            let unit = text.chars().next_back()?;
            let (_, seconds) = UNITS.into_iter().find(|(name, _)| *name == unit)?;
            let number: f64 = text[..text.len() - 1].parse().ok()?;
            let seconds = number * seconds;
            (seconds > 0.0 && seconds.is_finite()).then_some(Self(seconds))
        };
        parse().ok_or_else(|| "a time with its unit: 90s, 30m, 1.5h or 2d".to_owned())
    }
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = |(_, seconds): &(char, f64)| self.0 >= *seconds;
        let (unit, seconds) = UNITS.into_iter().find(fits).unwrap_or(('s', 1.0));
        write!(f, "{}{unit}", as_typed(self.0 / seconds))
    }
}

impl Serialize for Budget {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Budget {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl KeyValue for Budget {
    const KIND: Kind = Kind::Text;
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn times_have_a_unit_and_come_back() {
        for (text, seconds) in [("90s", 90.0), ("30m", 1800.0), ("1.5h", 5400.0), ("2d", 172_800.0)]
        {
            assert_eq!(text.parse::<Budget>().unwrap().seconds(), seconds, "{text}");
        }
        for (text, shown) in
            [("90s", "1.5m"), ("0.5s", "0.5s"), ("60m", "1h"), ("100s", "1.6666666666666667m")]
        {
            let budget: Budget = text.parse().unwrap();
            assert_eq!(budget.to_string(), shown);
            assert!((shown.parse::<Budget>().unwrap().seconds() - budget.seconds()).abs() < 1e-9);
        }
        for text in ["", "m", "30", "0m", "-1m", "infs", "nanm", "30 m", "30x", "1e400h", "3\u{e9}"]
        {
            assert!(text.parse::<Budget>().is_err(), "{text:?}");
        }
    }
}
