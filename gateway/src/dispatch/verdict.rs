//! What an attempt means for its delivery, and when the next one follows.
//!
//! Pure: the answer, the time and a random number are arguments.

use std::time::{Duration, SystemTime};

use hyper::StatusCode;
use hyper::header::{HeaderMap, RETRY_AFTER};

use crate::deliveries::{Fate, Waiting};

/// The pause after the first failure, before jitter. It doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause, before jitter: a handler that is back gets its oldest deliveries after half of it on average.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// The shortest pause after jitter.
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
/// The longest Retry-After that is believed.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(3600);

/// What an answer, or its absence, says about a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The handler has it.
    Taken,
    /// The handler may take it later, and not before this has passed.
    Later(Duration),
    /// The handler will never take it.
    Never,
}

/// Judges the head of an answer at `now`.
pub(super) fn judge(status: StatusCode, fields: &HeaderMap, now: SystemTime) -> Verdict {
    match status.as_u16() {
        200..300 => Verdict::Taken,
        408 | 425 | 429 | 500.. => Verdict::Later(retry_after(fields, now)),
        _ => Verdict::Never,
    }
}

/// RFC 9110, section 10.2.3: seconds or a date. What is neither counts as none.
fn retry_after(fields: &HeaderMap, now: SystemTime) -> Duration {
    let text = fields.get(RETRY_AFTER).and_then(|value| value.to_str().ok()).map(str::trim).unwrap_or_default();
    let asked = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let date = httpdate::parse_http_date(text).ok();
            date.and_then(|date| date.duration_since(now).ok()).unwrap_or_default()
        }
    };
    asked.min(LONGEST_RETRY_AFTER)
}

/// What becomes of a delivery after an attempt that failed in a way that may pass. `chance` is a random number from 0 to 1.
pub(super) fn after_failure(
    waiting: &Waiting,
    not_before: Duration,
    outcome: String,
    now_ms: u64,
    chance: f64,
) -> Fate {
    let attempts = waiting.attempts.saturating_add(1);
    let next_ms = now_ms.saturating_add(milliseconds(pause(attempts, chance).max(not_before)));
    if next_ms > waiting.until_ms {
        return Fate::Dead { attempts, outcome: format!("{outcome} retry_for_s has passed.") };
    }
    Fate::Again { attempts, next_ms, outcome }
}

/// Exponential, with full jitter.
fn pause(attempts: u32, chance: f64) -> Duration {
    let doubled = FIRST_PAUSE.saturating_mul(1 << attempts.saturating_sub(1).min(16));
    doubled.min(LONGEST_PAUSE).mul_f64(chance.clamp(0.0, 1.0)).max(SHORTEST_PAUSE)
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn fields(retry_after: &str) -> HeaderMap {
        let mut fields = HeaderMap::new();
        if !retry_after.is_empty() {
            fields.insert(RETRY_AFTER, retry_after.parse().unwrap());
        }
        fields
    }

    #[test]
    fn an_answer_is_taken_tried_again_or_final() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        let later = |seconds| Verdict::Later(Duration::from_secs(seconds));
        let check = |status: u16, field: &str, expected: Verdict| {
            assert_eq!(judge(StatusCode::from_u16(status).unwrap(), &fields(field), now), expected, "{status} {field}");
        };
        for status in [200, 201, 202, 204, 299] {
            check(status, "", Verdict::Taken);
        }
        for status in [408, 425, 429, 500, 502, 503, 504, 599] {
            check(status, "", later(0));
            check(status, "7", later(7));
        }
        for status in [301, 303, 400, 401, 403, 404, 409, 410, 413, 422] {
            check(status, "7", Verdict::Never);
        }
        check(503, "Sun, 06 Nov 1994 08:49:47 GMT", later(10));
        check(503, "Sun, 06 Nov 1994 08:49:00 GMT", later(0));
        check(503, "soon", later(0));
        check(503, "-1", later(0));
        check(503, "99999999", later(3600));
    }

    #[test]
    fn pauses_double_up_to_a_bound_and_keep_to_retry_after() {
        let waiting = |attempts| Waiting {
            number: 1,
            id: "a".into(),
            route: "a".into(),
            provider: "p".into(),
            key: None,
            received_ms: 0,
            until_ms: 1_000_000,
            attempts,
            next_ms: 0,
        };
        let next = |attempts, not_before: u64, chance| match after_failure(
            &waiting(attempts),
            Duration::from_secs(not_before),
            "no.".into(),
            1000,
            chance,
        ) {
            Fate::Again { attempts: after, next_ms, .. } => {
                assert_eq!(after, attempts + 1);
                next_ms - 1000
            }
            other => unreachable!("{other:?}"),
        };
        for (attempts, longest) in [(0, 1000), (1, 2000), (2, 4000), (8, 256_000), (9, 300_000), (4000, 300_000)] {
            assert_eq!(next(attempts, 0, 1.0), longest);
            assert_eq!(next(attempts, 0, 0.5), longest / 2);
            assert_eq!(next(attempts, 0, 0.0), 100);
        }
        assert_eq!(next(0, 60, 1.0), 60_000);
        assert_eq!(next(9, 60, 1.0), 300_000);
        let dead = after_failure(&waiting(4), Duration::from_secs(1000), "no.".into(), 1000, 1.0);
        assert_eq!(dead, Fate::Dead { attempts: 5, outcome: "no. retry_for_s has passed.".into() });
    }
}
