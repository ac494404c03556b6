//! Where a connection stands between two requests: one state, and the timer of each.
//!
//! Owns the transitions. Pure: no socket, no clock; the shell in [`super::exchange`] holds the current stage, tells it what
//! happened, and sets the timer that a transition returns.

use std::time::Duration;

use hookgate_core::limits::Limits;
use hookgate_io::sweep::Timer;

/// How long a peer may be silent that has not ended its stream after the last answer, before the connection is reset: as nginx'
/// lingering_timeout.
pub(super) const LINGER_TIMEOUT: Duration = Duration::from_secs(5);

/// What a peer must take of an answer, on average over `response_timeout_ms`, in bytes per second: the rate of a modem of 1990. Together
/// with the length of the answer it bounds how long a peer can hold memory, and a handler.
const LEAST_RATE: u32 = 256;

/// What a peer must take of an answer in `response_timeout_ms`, in bytes.
pub(super) fn least_taken(limits: &Limits) -> u32 {
    let least = limits.response_timeout.as_millis().saturating_mul(u128::from(LEAST_RATE)) / 1000;
    u32::try_from(least).unwrap_or(u32::MAX).max(1)
}

/// The timer of a peer that takes an answer slowly.
pub(super) fn draining(limits: &Limits) -> Timer {
    Timer::draining(limits.response_timeout, least_taken(limits))
}

/// Where the current exchange stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// The handshake is complete; no byte of the first request has arrived.
    First,
    /// A request was answered; no byte of the next one has arrived.
    Idle,
    /// A part of a head has arrived, its first byte at `began` by the coarse clock.
    Head { began: Duration },
    /// The head is complete. The rest of the request is due.
    Body,
    /// The request is complete, or is answered without its body (`unread`): nothing is due from the peer.
    Handling { unread: bool },
    /// As `Handling`, and the peer takes nothing of the answer.
    Stalled { unread: bool },
    /// hyper has the whole answer; the kernel does not (`stalled`: and the peer takes nothing).
    Flushing { unread: bool, stalled: bool },
    /// An answer that ends the connection was flushed; the peer may still be sending the body that was not read.
    Answered,
    /// hyper wants to answer bytes that are no request (`in_head`: a part of a head had arrived). Its answer is held back.
    NoRequest { in_head: bool },
}

/// A transition: the next stage, and the timer to set, if it changes.
type Step = (Stage, Option<Timer>);

impl Stage {
    /// The timer of the first stage.
    pub(super) fn first_timer(limits: &Limits) -> Timer {
        Timer::reading(limits.request_head_timeout)
    }

    /// The timer for the last answer of a connection, and for the peer's end of stream after it.
    pub(super) fn last_timer() -> Timer {
        Timer::closing(LINGER_TIMEOUT)
    }

    /// Bytes of a request arrived at `now`. The sweep may have shut the receiving direction down just before (`overdue`): then
    /// these are the last bytes, and a new timer would hide why.
    pub(super) fn received(self, now: Duration, overdue: bool, limits: &Limits) -> Step {
        let head = Self::Head { began: now };
        match self {
            Self::First if overdue => (head, None),
            Self::First | Self::Idle => (head, Some(Timer::reading(limits.request_head_timeout))),
            _ => (self, None),
        }
    }

    /// A head is complete at `now`. Its body, if any, is due within what remains of the time for the request; that of a pipelined
    /// request, whose head arrived with the request before, from now on.
    pub(super) fn head_complete(self, now: Duration, limits: &Limits) -> Step {
        let spent = match self {
            Self::Head { began } => now.saturating_sub(began),
            _ => Duration::ZERO,
        };
        (Self::Body, Some(Timer::reading(limits.request_timeout.saturating_sub(spent))))
    }

    /// The body is complete.
    pub(super) fn request_complete(self) -> Step {
        (Self::Handling { unread: false }, Some(Timer::unbounded()))
    }

    /// The request is answered without its body.
    pub(super) fn leave_body_unread(self) -> Step {
        (Self::Handling { unread: true }, Some(Timer::unbounded()))
    }

    /// hyper has the whole answer.
    pub(super) fn answer_complete(self) -> Step {
        let stage = match self {
            Self::Handling { unread } => Self::Flushing { unread, stalled: false },
            Self::Stalled { unread } => Self::Flushing { unread, stalled: true },
            // The peer went away before its request was complete.
            _ => Self::Flushing { unread: false, stalled: false },
        };
        (stage, None)
    }

    /// The kernel has taken everything that was written: the peer keeps up.
    pub(super) fn flushed(self, limits: &Limits) -> Step {
        match self {
            Self::Flushing { unread: false, .. } => (Self::Idle, Some(Timer::idle(limits.idle_timeout))),
            Self::Flushing { unread: true, .. } => (Self::Answered, Some(Timer::idle(limits.idle_timeout))),
            Self::Stalled { unread } => (Self::Handling { unread }, Some(Timer::unbounded())),
            _ => (self, None),
        }
    }

    /// The kernel has no room: the peer has until the deadline to take a part of what waits, and then again.
    ///
    /// While the body of a request is due, its own deadline holds: what waits to be sent then is a session ticket or a
    /// `100 Continue`, and must not win the peer time.
    pub(super) fn blocked(self, limits: &Limits) -> Step {
        let timer = Some(draining(limits));
        match self {
            Self::Handling { unread } => (Self::Stalled { unread }, timer),
            Self::Flushing { unread, stalled: false } => (Self::Flushing { unread, stalled: true }, timer),
            _ => (self, None),
        }
    }

    /// hyper writes. The next stage, if what it writes is no answer to a request and has to be held back.
    pub(super) fn holding_back(self) -> Option<Self> {
        match self {
            Self::First | Self::Idle => Some(Self::NoRequest { in_head: false }),
            Self::Head { .. } => Some(Self::NoRequest { in_head: true }),
            Self::NoRequest { .. } | Self::Answered => Some(self),
            Self::Body | Self::Handling { .. } | Self::Stalled { .. } | Self::Flushing { .. } => None,
        }
    }

    /// Whether a part of a request has arrived that was never answered.
    pub(super) fn is_in_head(self) -> bool {
        matches!(self, Self::Head { .. } | Self::NoRequest { in_head: true })
    }

    /// Whether hyper wanted to answer bytes that are no request.
    pub(super) fn is_no_request(self) -> bool {
        matches!(self, Self::NoRequest { .. })
    }

    /// Whether the peer takes nothing of an answer, or little.
    pub(super) fn is_stalled(self) -> bool {
        matches!(self, Self::Stalled { .. } | Self::Flushing { stalled: true, .. })
    }

    /// Whether the peer may still be sending a request that was answered already.
    pub(super) fn is_unread(self) -> bool {
        match self {
            Self::Answered => true,
            Self::Handling { unread } | Self::Stalled { unread } | Self::Flushing { unread, .. } => unread,
            Self::First | Self::Idle | Self::Head { .. } | Self::Body | Self::NoRequest { .. } => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(100);

    fn later(seconds: u64) -> Duration {
        NOW + Duration::from_secs(seconds)
    }

    /// Distinct, so that a timer tells which limit it is.
    fn limits() -> Limits {
        Limits {
            request_head_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(30),
            response_timeout: Duration::from_secs(31),
            idle_timeout: Duration::from_secs(60),
            ..Limits::default()
        }
    }

    const HEAD: Option<Timer> = Some(Timer::reading(Duration::from_secs(10)));
    const IDLE: Option<Timer> = Some(Timer::idle(Duration::from_secs(60)));
    const RESPONSE: Option<Timer> = Some(Timer::draining(Duration::from_secs(31), 31 * LEAST_RATE));
    const UNBOUNDED: Option<Timer> = Some(Timer::unbounded());

    fn body(seconds: u64) -> Option<Timer> {
        Some(Timer::reading(Duration::from_secs(seconds)))
    }

    #[test]
    fn a_request_goes_from_its_first_byte_to_the_next_request() {
        let limits = limits();
        let (stage, timer) = Stage::First.received(NOW, false, &limits);
        assert_eq!((stage, timer), (Stage::Head { began: NOW }, HEAD));
        assert_eq!(stage.received(later(1), false, &limits), (stage, None), "one timer for the whole head");
        let (stage, timer) = stage.head_complete(later(4), &limits);
        assert_eq!((stage, timer), (Stage::Body, body(26)), "the head's time is part of the request's");
        assert_eq!(stage.received(later(5), false, &limits), (stage, None), "one timer for the whole body");
        let (stage, timer) = stage.request_complete();
        assert_eq!((stage, timer), (Stage::Handling { unread: false }, UNBOUNDED));
        assert_eq!(stage.received(later(5), false, &limits), (stage, None), "a pipelined request waits");
        let (stage, timer) = stage.answer_complete();
        assert_eq!((stage, timer), (Stage::Flushing { unread: false, stalled: false }, None));
        let (stage, timer) = stage.flushed(&limits);
        assert_eq!((stage, timer), (Stage::Idle, IDLE));
        assert_eq!(stage.flushed(&limits), (stage, None), "a flush of nothing wins no time");
        assert_eq!(stage.received(later(9), false, &limits), (Stage::Head { began: later(9) }, HEAD));
        assert_eq!(stage.received(later(9), true, &limits), (Stage::Head { began: later(9) }, HEAD));
    }

    #[test]
    fn a_head_that_took_all_the_time_leaves_none_for_the_body() {
        let (stage, _) = Stage::Idle.received(NOW, false, &limits());
        assert_eq!(stage.head_complete(later(31), &limits()), (Stage::Body, body(0)));
    }

    #[test]
    fn a_pipelined_request_has_its_own_time() {
        for stage in [Stage::Idle, Stage::Flushing { unread: false, stalled: false }] {
            assert_eq!(stage.head_complete(NOW, &limits()), (Stage::Body, body(30)), "{stage:?}");
        }
    }

    #[test]
    fn the_last_bytes_before_the_sweep_do_not_hide_that_the_head_was_late() {
        let (stage, timer) = Stage::First.received(NOW, true, &limits());
        assert!(stage.is_in_head());
        assert_eq!(timer, None);
    }

    #[test]
    fn a_peer_that_takes_nothing_has_one_deadline_until_it_takes_something() {
        let limits = limits();
        let (stage, timer) = Stage::Handling { unread: false }.blocked(&limits);
        assert_eq!((stage, timer), (Stage::Stalled { unread: false }, RESPONSE));
        assert_eq!(stage.blocked(&limits), (stage, None), "a second try wins no time");
        assert_eq!(stage.flushed(&limits), (Stage::Handling { unread: false }, UNBOUNDED));
        let (stage, _) = stage.answer_complete();
        assert_eq!(stage, Stage::Flushing { unread: false, stalled: true });
        assert_eq!(stage.blocked(&limits), (stage, None), "nor does the end of the answer");
        let (stage, timer) = Stage::Flushing { unread: false, stalled: false }.blocked(&limits);
        assert_eq!((stage, timer), (Stage::Flushing { unread: false, stalled: true }, RESPONSE));
        assert_eq!(stage.flushed(&limits), (Stage::Idle, IDLE));
    }

    #[test]
    fn what_waits_to_be_sent_wins_no_time_for_a_request_that_is_due() {
        for stage in [Stage::First, Stage::Head { began: NOW }, Stage::Body, Stage::Idle] {
            assert_eq!(stage.blocked(&limits()), (stage, None));
            assert_eq!(stage.flushed(&limits()), (stage, None));
        }
    }

    #[test]
    fn an_unread_body_is_remembered_to_the_end() {
        let limits = limits();
        let (stage, timer) = Stage::Body.leave_body_unread();
        assert_eq!((stage, timer), (Stage::Handling { unread: true }, UNBOUNDED));
        let (stalled, _) = stage.blocked(&limits);
        for stage in [stage, stalled] {
            let (stage, _) = stage.answer_complete();
            assert!(stage.is_unread(), "{stage:?}");
            let (stage, timer) = stage.flushed(&limits);
            assert_eq!((stage, timer), (Stage::Answered, IDLE));
            assert!(stage.is_unread());
            assert_eq!(stage.received(NOW, false, &limits), (stage, None), "no other request follows");
        }
    }

    #[test]
    fn what_hyper_writes_without_a_request_is_held_back() {
        let check = |stage: Stage, expected| assert_eq!(stage.holding_back(), expected, "{stage:?}");
        check(Stage::First, Some(Stage::NoRequest { in_head: false }));
        check(Stage::Idle, Some(Stage::NoRequest { in_head: false }));
        check(Stage::Head { began: NOW }, Some(Stage::NoRequest { in_head: true }));
        check(Stage::NoRequest { in_head: true }, Some(Stage::NoRequest { in_head: true }));
        check(Stage::Answered, Some(Stage::Answered));
        for stage in [Stage::Body, Stage::Handling { unread: false }, Stage::Stalled { unread: true }] {
            check(stage, None);
        }
        assert!(Stage::NoRequest { in_head: true }.is_in_head() && Stage::NoRequest { in_head: false }.is_no_request());
    }
}
