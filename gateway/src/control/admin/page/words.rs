//! Times and numbers as the page writes them.

use time::OffsetDateTime;

pub(super) use crate::control::status::counted;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// The date and time of a second since 1970.
pub(super) fn moment(seconds: u64) -> String {
    let then = i64::try_from(seconds).ok().and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok());
    let Some(then) = then else { return "beyond all years".to_owned() };
    let (date, clock) = (then.date(), then.time());
    let (month, day) = (u8::from(date.month()), date.day());
    let (hour, minute, second) = (clock.hour(), clock.minute(), clock.second());
    format!("{:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC", date.year())
}

/// The date alone.
pub(super) fn day(seconds: u64) -> String {
    moment(seconds).split(' ').next().unwrap_or_default().to_owned()
}

/// How long ago something was.
pub(super) fn ago(now: u64, then: u64) -> String {
    format!("{} ago", age(now.saturating_sub(then)))
}

/// So many seconds.
pub(super) fn age(seconds: u64) -> String {
    match seconds {
        passed if passed < 2 * MINUTE => format!("{passed} s"),
        passed if passed < 2 * HOUR => format!("{} min", passed / MINUTE),
        passed if passed < 2 * DAY => format!("{} h", passed / HOUR),
        passed => format!("{} days", passed / DAY),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_in_utc_and_as_what_has_passed() {
        assert_eq!(moment(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(moment(1_796_030_527), "2026-11-30 09:22:07 UTC");
        assert_eq!(day(1_796_030_527), "2026-11-30");
        assert_eq!(moment(u64::MAX), "beyond all years");
        let check = |passed: u64, expected: &str| assert_eq!(ago(DAY * 100, DAY * 100 - passed), expected);
        check(0, "0 s ago");
        check(119, "119 s ago");
        check(120, "2 min ago");
        check(2 * HOUR, "2 h ago");
        check(3 * DAY - 1, "2 days ago");
        assert_eq!(ago(5, 9), "0 s ago", "a clock that was set back");
        assert_eq!((counted(1, "route").as_str(), counted(2, "route").as_str()), ("1 route", "2 routes"));
    }
}
