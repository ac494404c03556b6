//! Where a connection of HTTP/2 stands as a whole. Its streams have stages of their own.
//!
//! Owns the transitions and the timer of each. Pure: the loop of the connection says what there is.

use hookgate_core::limits::Limits;
use hookgate_io::sweep::Timer;

use super::super::stage::{LINGER_TIMEOUT, draining};

/// What the loop sees when everything that is ready was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sight {
    /// A request has begun, now or earlier.
    pub(super) has_begun: bool,
    /// Streams whose requests are being answered.
    pub(super) open: usize,
    /// The head of a request has begun and is not complete.
    pub(super) in_head: bool,
    /// The kernel takes nothing more of what is to be sent.
    pub(super) blocked: bool,
    /// The peer was told to go away.
    pub(super) leaving: bool,
}

/// Where a connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// No request has come yet.
    First,
    /// A head has begun. Nothing else can come before it is complete (RFC 9113, section 4.3).
    Head,
    /// Requests are being answered, each within its own time.
    Busy,
    /// The peer takes nothing of what is to be sent: then h2 reads nothing either.
    Stalled,
    /// Every request was answered.
    Idle,
    /// As `Idle`, and the peer was told to go away.
    Leaving,
}

impl Phase {
    /// The timer of the first phase. It ends both directions, as most do here: h2 does not read while it cannot write.
    pub(super) fn first_timer(limits: &Limits) -> Timer {
        Timer::closing(limits.request_head_timeout)
    }

    /// The next phase, and its timer if it is another one.
    ///
    /// Between requests nothing that is no request wins time: neither pings, nor what they are answered with.
    pub(super) fn next(self, sight: Sight, limits: &Limits) -> (Self, Option<Timer>) {
        let (next, timer) = match sight {
            Sight { leaving: true, open: 0, .. } => (Self::Leaving, Timer::closing(LINGER_TIMEOUT)),
            // What is no answer, such as that to a ping, may wait for the kernel too.
            Sight { blocked: true, open: 0, in_head: false, .. } if self == Self::Idle => {
                (Self::Idle, Timer::idle(limits.idle_timeout))
            }
            Sight { blocked: true, has_begun: true, .. } => (Self::Stalled, draining(limits)),
            Sight { in_head: true, .. } => (Self::Head, Timer::closing(limits.request_head_timeout)),
            Sight { open: 1.., .. } => (Self::Busy, Timer::unbounded()),
            Sight { has_begun: false, .. } => (Self::First, Self::first_timer(limits)),
            _ => (Self::Idle, Timer::idle(limits.idle_timeout)),
        };
        // A head that is the first has the time of the first, which runs, and no second one if it was refused.
        let goes_on = next == self || !sight.has_begun && next != Self::Leaving;
        (next, if goes_on { None } else { Some(timer) })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_phase_follows_from_what_there_is_and_has_one_timer() {
        let limits = Limits {
            request_head_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(60),
            ..Limits::default()
        };
        let none = Sight::default();
        let nothing = Sight { has_begun: true, ..none };
        let open = Sight { open: 2, ..nothing };
        let head = Sight { in_head: true, ..nothing };
        let leaving = Sight { leaving: true, ..nothing };
        let reading = Timer::closing(Duration::from_secs(10));
        let idle = Timer::idle(Duration::from_secs(60));
        let check = |phase: Phase, sight, expected| assert_eq!(phase.next(sight, &limits), expected, "{phase:?}");
        check(Phase::First, none, (Phase::First, None));
        check(Phase::First, Sight { blocked: true, ..none }, (Phase::First, None));
        check(Phase::First, Sight { in_head: true, ..none }, (Phase::Head, None));
        check(Phase::Head, none, (Phase::First, None));
        check(Phase::First, nothing, (Phase::Idle, Some(idle)));
        check(Phase::First, open, (Phase::Busy, Some(Timer::unbounded())));
        check(Phase::Busy, open, (Phase::Busy, None));
        check(Phase::Busy, nothing, (Phase::Idle, Some(idle)));
        check(Phase::Idle, nothing, (Phase::Idle, None));
        let blocked = Sight { blocked: true, ..nothing };
        check(Phase::Idle, blocked, (Phase::Idle, None));
        check(Phase::Busy, blocked, (Phase::Stalled, Some(draining(&limits))));
        check(Phase::Leaving, Sight { blocked: true, ..leaving }, (Phase::Leaving, None));
        check(Phase::Idle, head, (Phase::Head, Some(reading)));
        check(Phase::Head, head, (Phase::Head, None));
        check(Phase::Busy, Sight { in_head: true, ..open }, (Phase::Head, Some(reading)));
        check(Phase::Busy, Sight { blocked: true, ..open }, (Phase::Stalled, Some(draining(&limits))));
        check(Phase::Stalled, open, (Phase::Busy, Some(Timer::unbounded())));
        check(Phase::Busy, leaving, (Phase::Leaving, Some(Timer::closing(LINGER_TIMEOUT))));
        check(Phase::Leaving, leaving, (Phase::Leaving, None));
        check(Phase::Busy, Sight { leaving: true, ..open }, (Phase::Busy, None));
    }
}
