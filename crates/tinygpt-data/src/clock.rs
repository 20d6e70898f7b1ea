//! Date and time in the formats of `meta.json` and HTTP.

use std::time::SystemTime;

/// The seconds since 1970.
pub(crate) fn unix_time() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Now, in UTC, as `2026-11-22T17:56:22Z`.
pub(crate) fn now() -> String {
    rfc3339(unix_time())
}

/// Now, in UTC, in the format of C's `strftime`; directives that are not known here stay as they are.
pub(crate) fn strftime_now(format: &str) -> String {
    strftime(format, unix_time())
}

/// The names of the months.
pub(crate) const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// The first is the day of 1970-01-01.
const WEEKDAYS: [&str; 7] =
    ["Thursday", "Friday", "Saturday", "Sunday", "Monday", "Tuesday", "Wednesday"];

fn strftime(format: &str, seconds: u64) -> String {
    let (days, time) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    let month_name = MONTHS[(month as usize - 1) % 12];
    let weekday = WEEKDAYS[days as usize % 7];
    let mut out = String::new();
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        let directive = if c == '%' { chars.next() } else { None };
        match directive {
            None => out.push(c),
            Some('Y') => out.push_str(&format!("{year:04}")),
            Some('y') => out.push_str(&format!("{:02}", year % 100)),
            Some('m') => out.push_str(&format!("{month:02}")),
            Some('d') => out.push_str(&format!("{day:02}")),
            Some('B') => out.push_str(month_name),
            Some('b') => out.push_str(&month_name[..3]),
            Some('A') => out.push_str(weekday),
            Some('a') => out.push_str(&weekday[..3]),
            Some('H') => out.push_str(&format!("{:02}", time / 3600)),
            Some('M') => out.push_str(&format!("{:02}", time / 60 % 60)),
            Some('S') => out.push_str(&format!("{:02}", time % 60)),
            Some('%') => out.push('%'),
            Some(other) => out.extend(['%', other]),
        }
    }
    out
}

fn rfc3339(seconds: u64) -> String {
    let (days, time) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    let (hours, minutes, seconds) = (time / 3600, time / 60 % 60, time % 60);
    format!("{year:04}-{month:02}-{day:02}T{hours:02}:{minutes:02}:{seconds:02}Z")
}

/// Year, month and day of a day counted from 1970-01-01.
///
/// Hinnant, "chrono-compatible low-level date algorithms": years begin in March, so that the leap
/// day is a year's last, and 400 years are one cycle.
fn civil(days: u64) -> (u64, u64, u64) {
    let day = days + 719_468;
    let (cycle, day) = (day / 146_097, day % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let from_march = (5 * day + 2) / 153;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (cycle * 400 + year + u64::from(month <= 2), month, day - (153 * from_march + 2) / 5 + 1)
}

/// The seconds from 1970 to a date of HTTP's preferred form, `Sun, 06 Nov 1994 08:49:37 GMT`
/// (RFC 9110 §5.6.7).
pub(crate) fn http_date(text: &str) -> Option<u64> {
    let (_, date) = text.trim().split_once(", ")?;
    let [day, month, year, time, "GMT"] = date.split(' ').collect::<Vec<_>>()[..] else {
        return None;
    };
    let month = MONTHS.iter().position(|name| name[..3] == *month)? as u64 + 1;
    let (day, year): (u64, u64) = (day.parse().ok()?, year.parse().ok()?);
    let [hours, minutes, seconds] = time.split(':').collect::<Vec<_>>()[..] else { return None };
    let number = |text: &str| text.parse::<u64>().ok().filter(|&number| number <= 60);
    let time = number(hours)? * 3600 + number(minutes)? * 60 + number(seconds)?;
    // A guess within a year of the date, then the exact day.
    let guess = year.checked_sub(1970).filter(|&years| years < 10_000)? * 365;
    let days = (guess..guess + 3_000).find(|&days| civil(days) == (year, month, day))?;
    Some(days * 86_400 + time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_795_370_182, "2026-11-22T17:56:22Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(rfc3339(seconds), expected);
        }
    }

    #[test]
    fn http_dates_are_read_and_nonsense_is_not() {
        assert_eq!(http_date("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
        assert_eq!(http_date("Sun, 22 Nov 2026 17:56:22 GMT"), Some(1_795_370_182));
        for bad in ["", "120", "Sunday", "Sun, 31 Feb 2026 00:00:00 GMT", "Sun, 06 Nov 1994 8 GMT"]
        {
            assert_eq!(http_date(bad), None, "{bad}");
        }
        assert_eq!(http_date("Sun, 06 Nov 99999 08:49:37 GMT"), None);
        assert_eq!(http_date("Sun, 06 Nov 1994 08:99:37 GMT"), None);
    }
}
