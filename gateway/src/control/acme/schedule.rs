//! When a certificate is asked for: at two thirds of the lifetime that it has left when it comes or when its authority says, and after a
//! failure ever later.
//!
//! Owns these numbers. Pure: the time and the luck of a draw are arguments. Must not ask: `task` does.

use std::time::Duration;

use crate::control::published::doubled;

/// After the first failure at which an authority was asked for something. Let's Encrypt allows five failed verifications of a name in an hour.
const FIRST: Duration = Duration::from_secs(60);
/// The longest wait after such a failure. A certificate of 90 days then has 120 attempts left, and one of 6 days 8.
const LAST: Duration = Duration::from_secs(6 * 3600);

/// The same after a failure that cost an authority nothing: its directory was away, or the state directory took no file.
const FIRST_FREE: Duration = Duration::from_secs(5);
const LAST_FREE: Duration = Duration::from_secs(600);

/// For so long no advice renews a certificate, or for a twentieth of its lifetime if that is shorter, in seconds: six hours.
const SETTLED: u64 = 6 * 3600;

/// The shortest wait between two attempts, whatever a reload or the lifetime of a certificate asks for.
pub(super) const SHORTEST_PAUSE: Duration = Duration::from_secs(1);

/// A certificate with less left than this when it comes causes a pause, in seconds: an exchange with an authority takes some of it.
const BRIEF: u64 = 60;

/// A time of issue that is further ahead than this is of a clock that was wrong, in seconds. Less is a clock that was adjusted.
const ADJUSTMENT: u64 = 3600;

/// From when until when a certificate is valid, in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lifetime {
    pub(super) from: u64,
    pub(super) until: u64,
}

impl Lifetime {
    /// What was left of it when the certificate came, at `obtained`. An authority may backdate a certificate or cap its end, and the clock of
    /// this host may be ahead: by the whole lifetime it would be due at once, and so would the next one.
    pub(super) fn left_at(self, obtained: u64, now: u64) -> Self {
        if obtained > now.saturating_add(ADJUSTMENT) { self } else { Self { from: self.from.max(obtained), ..self } }
    }

    /// Whether two thirds of it are over at `now`.
    pub(super) fn is_late(self, now: u64) -> bool {
        self.renewal(0.0) <= now
    }

    /// Whether a certificate that comes at `now` must be replaced so soon, because of its authority or of the clock of this host, that the next
    /// order has to wait ([`pause`]).
    pub(super) fn is_hurried(self, now: u64) -> bool {
        self.is_late(now) || self.until.saturating_sub(now) < BRIEF
    }

    fn seconds(self) -> u64 {
        self.until.saturating_sub(self.from)
    }

    /// When to renew it without advice: at two thirds, and by `luck` (0 to 1) up to a twentieth of the lifetime earlier, so that hosts that got
    /// their certificates together do not ask together.
    pub(super) fn renewal(self, luck: f64) -> u64 {
        let lifetime = self.seconds();
        (self.from + lifetime / 3 * 2).saturating_sub(part(lifetime / 20, luck))
    }

    /// When to renew it within the window that its authority advises (RFC 9773, section 4.2), by `luck`. Whatever the advice, the last sixth of
    /// the lifetime is for attempts that fail, and in the first [`SETTLED`] there is none: an authority that always advises to renew at once
    /// would be asked without end.
    pub(super) fn renewal_in(self, (start, end): (u64, u64), luck: f64) -> u64 {
        let advised = start.saturating_add(part(end.saturating_sub(start), luck));
        let earliest = self.from + SETTLED.min(self.seconds() / 20);
        advised.min(self.until.saturating_sub(self.seconds() / 6)).max(earliest)
    }
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "seconds of years"
)]
fn part(seconds: u64, luck: f64) -> u64 {
    (seconds as f64 * luck.clamp(0.0, 1.0)) as u64
}

/// The wait after a certificate before the next order, whatever its lifetime: `hurried` in a row had to be replaced soon
/// ([`Lifetime::is_hurried`]). A certificate of some minutes is none of them, so it is renewed in time.
pub(super) fn pause(hurried: u32, luck: f64) -> Duration {
    doubled(hurried, (SHORTEST_PAUSE, LAST), luck).max(SHORTEST_PAUSE)
}

/// The wait after `failures` in a row, from 1. `is_free`: the last one cost an authority nothing.
pub(super) fn backoff(failures: u32, is_free: bool, luck: f64) -> Duration {
    doubled(failures, if is_free { (FIRST_FREE, LAST_FREE) } else { (FIRST, LAST) }, luck)
}

/// What is left of a back-off at `now` that ends at `next`: no more than the longest, since the clock may have been set back.
pub(super) fn left(next: u64, now: u64) -> Duration {
    Duration::from_secs(next.saturating_sub(now)).min(LAST)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 86_400;

    #[test]
    fn a_certificate_is_renewed_at_two_thirds_or_a_little_before() {
        for (days, latest, earliest) in [(90, 60 * DAY, 60 * DAY - 90 * DAY / 20), (6, 4 * DAY, 4 * DAY - 6 * DAY / 20)]
        {
            let lifetime = Lifetime { from: 1000 * DAY, until: (1000 + days) * DAY };
            assert_eq!(lifetime.renewal(0.0), 1000 * DAY + latest);
            assert_eq!(lifetime.renewal(1.0), 1000 * DAY + earliest);
        }
        let backwards = Lifetime { from: 10, until: 5 };
        assert_eq!(backwards.renewal(1.0), 10);
    }

    #[test]
    fn a_certificate_that_comes_late_in_its_lifetime_is_renewed_at_two_thirds_of_what_is_left() {
        let lifetime = Lifetime { from: 1000 * DAY, until: 1090 * DAY };
        let obtained = 1080 * DAY;
        assert!(lifetime.is_late(obtained) && lifetime.is_hurried(obtained));
        let left = lifetime.left_at(obtained, obtained);
        for luck in [0.0, 1.0] {
            assert!((1086 * DAY..1087 * DAY).contains(&left.renewal(luck)));
            assert_eq!(left.renewal_in((0, 1), luck), obtained + 6 * 3600, "no advice is followed at once");
        }
        // One that was issued the moment before is not affected, nor one of some minutes.
        let fresh = Lifetime { from: obtained - 3600, until: obtained + 90 * DAY };
        assert!(!fresh.is_late(obtained) && !fresh.is_hurried(obtained));
        let short = Lifetime { from: obtained, until: obtained + 300 };
        assert!(!short.is_hurried(obtained));
        assert_eq!(short.left_at(obtained, obtained + 10).renewal(0.0), obtained + 200);
        // Whatever the file says: a time before the lifetime, after it, or of a clock that was ahead.
        assert_eq!(lifetime.left_at(0, obtained), lifetime);
        assert_eq!(lifetime.left_at(1090 * DAY, 1091 * DAY).renewal(1.0), 1090 * DAY);
        assert_eq!(lifetime.left_at(1080 * DAY, 1001 * DAY), lifetime);
        assert_eq!(lifetime.left_at(u64::MAX, 1001 * DAY), lifetime);
        assert_eq!(lifetime.left_at(obtained + 10, obtained).from, obtained + 10, "a clock that was adjusted");
    }

    #[test]
    fn orders_that_each_certificate_asks_for_at_once_have_pauses() {
        let (from, until) = (1000 * DAY, 1000 * DAY + 30);
        assert!(Lifetime { from, until }.is_hurried(from), "there is less than a minute");
        assert!(Lifetime { from, until }.is_hurried(until + 1));
        let seconds = |hurried| [0.0, 1.0].map(|luck| pause(hurried, luck).as_secs());
        assert_eq!((seconds(0), seconds(1), seconds(2), seconds(7)), ([1, 1], [1, 1], [1, 2], [32, 64]));
        assert_eq!(seconds(u32::MAX), [3 * 3600, 6 * 3600]);
    }

    #[test]
    fn advice_is_followed_within_the_lifetime() {
        let lifetime = Lifetime { from: 0, until: 90 * DAY };
        assert_eq!(lifetime.renewal_in((10 * DAY, 12 * DAY), 0.5), 11 * DAY);
        assert_eq!(lifetime.renewal_in((0, 1), 0.0), 6 * 3600, "not at once, again and again");
        let last = 75 * DAY;
        for window in [(80 * DAY, 85 * DAY), (u64::MAX, 0), (u64::MAX, u64::MAX), (0, u64::MAX)] {
            assert!(lifetime.renewal_in(window, 1.0) <= last, "{window:?}");
        }
    }

    #[test]
    fn failures_wait_ever_longer_up_to_a_bound() {
        let seconds = |failures, is_free| [0.0, 1.0].map(|luck| backoff(failures, is_free, luck).as_secs());
        assert_eq!(seconds(1, false), [30, 60]);
        assert_eq!(seconds(2, false), [60, 120]);
        assert_eq!(seconds(30, false), [3 * 3600, 6 * 3600]);
        assert_eq!(seconds(1, true), [2, 5]);
        assert_eq!(seconds(u32::MAX, true), [300, 600]);
        assert_eq!([left(5, 3), left(3, 5), left(u64::MAX, 0)].map(|left| left.as_secs()), [2, 0, 6 * 3600]);
    }
}
