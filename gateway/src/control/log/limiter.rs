//! The bound on log events that peers can cause, per second and over all threads.
//!
//! Owns the classes of events, their limits, and the counts of what was suppressed. An event about an answered request has a class of its
//! own. Any other belongs to a class by its field `cause` ([`Cause`]), else by the module that logged it. Events that no peer can cause (start, reload, rotation, the watchdog) belong to no
//! class, and are never suppressed. Must not know what an event says.
//!
//! Every module counts as one that a peer can make log, unless [`OPERATORS`] lists it: a line that someone adds to the data plane, or
//! to a library, is bounded from the start.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Instant;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use crate::access::ANSWERED;
use crate::cause::Cause;
use crate::config::DEFAULT_ACCESS_PER_SECOND;

/// Modules whose events no peer can cause, with everything below them. The way of a connection is below `worker`, and an exception.
const OPERATORS: [&str; 2] = ["hookgate::control", "hookgate::worker"];

/// Modules below [`OPERATORS`] whose events peers can cause.
const PEERS: [&str; 1] = ["hookgate::worker::connection"];

/// The first letters of the targets of hookgate's own events.
const OWN: &str = "hookgate";

/// The field that names the [`Cause`].
const CAUSE: &str = "cause";

/// Whose limit an event counts against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// Events of the level INFO and above, by their cause.
    Caused(Cause),
    /// Requests that were answered.
    Answered,
    /// Events of libraries (rustls, hyper), of the level INFO and above.
    Library,
    /// Events of the levels DEBUG and TRACE, of the data plane and of libraries.
    Debug,
}

impl Class {
    /// Every class, in the order of [`Self::index`].
    pub(super) const ALL: [Self; 7] = [
        Self::Caused(Cause::Stranger),
        Self::Caused(Cause::Sender),
        Self::Caused(Cause::Handler),
        Self::Caused(Cause::Gateway),
        Self::Answered,
        Self::Library,
        Self::Debug,
    ];

    fn index(self) -> usize {
        match self {
            Self::Caused(cause) => cause as usize,
            Self::Answered => Cause::ALL.len(),
            Self::Library => Cause::ALL.len() + 1,
            Self::Debug => Cause::ALL.len() + 2,
        }
    }

    /// The value of the metric label.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Caused(cause) => cause.label(),
            Self::Answered => "answered",
            Self::Library => "library",
            Self::Debug => "debug",
        }
    }

    /// Most events per second, over all threads. That of answered requests is configured; this is its default.
    ///
    /// - 50 refusals are more than a person reads, and enough to show every kind of a mixture. Strangers, senders and handlers have
    ///   50 each, so that none hides the others: at some 300 bytes a line, that is 1.3 GB a day if all of a class's limit is used.
    /// - A fault of the host repeats, each line like the last: 10 show it.
    /// - A library says again what a refusal says, without the peer: 5.
    /// - DEBUG is switched on to see everything, for a while. 1000 lines a second still leave the queue (8192) seconds to be written.
    pub(super) fn per_second(self) -> u32 {
        match self {
            Self::Caused(Cause::Stranger | Cause::Sender | Cause::Handler) => 50,
            Self::Caused(Cause::Gateway) => 10,
            Self::Answered => DEFAULT_ACCESS_PER_SECOND,
            Self::Library => 5,
            Self::Debug => 1000,
        }
    }

    /// The class of an event; `None` if no peer can cause it.
    fn of(event: &Event<'_>) -> Option<Self> {
        let metadata = event.metadata();
        let target = metadata.target();
        if target == ANSWERED {
            return Some(Self::Answered);
        }
        let cause = stated_cause(event);
        let is_of_operators = OPERATORS.iter().any(|module| is_within(target, module))
            && !PEERS.iter().any(|module| is_within(target, module));
        if cause.is_none() && is_of_operators {
            return None;
        }
        // The order of levels in `tracing`: the more verbose, the greater.
        if *metadata.level() > Level::INFO {
            return Some(Self::Debug);
        }
        let is_own = target.starts_with(OWN);
        Some(cause.map_or(if is_own { Self::Caused(Cause::Stranger) } else { Self::Library }, Self::Caused))
    }
}

/// Whether `target` is the module, or one below it.
fn is_within(target: &str, module: &str) -> bool {
    target.strip_prefix(module).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// The value of the field `cause`.
fn stated_cause(event: &Event<'_>) -> Option<Cause> {
    struct Found(Option<Cause>);
    impl Visit for Found {
        fn record_str(&mut self, field: &Field, value: &str) {
            if field.name() == CAUSE {
                self.0 = Cause::ALL.into_iter().find(|cause| cause.label() == value);
            }
        }

        fn record_debug(&mut self, _: &Field, _: &dyn fmt::Debug) {}
    }
    // Only events that have the field pay for a look at the values.
    event.metadata().fields().field(CAUSE)?;
    let mut found = Found(None);
    event.record(&mut found);
    found.0
}

/// A window of one second, which begins with the first event after the window before it, and the number of its events.
#[derive(Debug)]
struct Budget {
    per_second: AtomicU32,
    /// When the window began, in milliseconds, and in the lowest [`COUNT_BITS`] bits how many events it has.
    window: AtomicU64,
    /// Events that were suppressed, since the start.
    suppressed: AtomicU64,
}

/// Bits of the number of events of a window: enough for every limit. 44 bits of milliseconds are left: some 550 years.
const COUNT_BITS: u32 = 20;

/// The length of a window in milliseconds.
const WINDOW_MS: u64 = 1000;

impl Budget {
    fn new(per_second: u32) -> Self {
        Self { per_second: AtomicU32::new(per_second), window: AtomicU64::new(0), suppressed: AtomicU64::new(0) }
    }

    /// Whether one more event may be logged now. If not, it is counted.
    fn admits(&self, now_ms: u64) -> bool {
        let limit = u64::from(self.per_second.load(Ordering::Relaxed));
        let one_more = |window: u64| {
            let (began, count) = (window >> COUNT_BITS, window & ((1 << COUNT_BITS) - 1));
            match now_ms.saturating_sub(began) >= WINDOW_MS || count == 0 {
                true => Some(now_ms << COUNT_BITS | 1),
                false => (count < limit).then_some(window + 1),
            }
        };
        let admitted = self.window.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).is_ok();
        if !admitted {
            self.suppressed.fetch_add(1, Ordering::Relaxed);
        }
        admitted
    }
}

/// The budgets of all classes. Shared by the layer that asks them, and by the control thread, which reports what was suppressed.
#[derive(Debug)]
pub(super) struct Limiter {
    began: Instant,
    budgets: [Budget; Class::ALL.len()],
}

impl Limiter {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { began: Instant::now(), budgets: Class::ALL.map(|class| Budget::new(class.per_second())) })
    }

    /// The layer that suppresses events beyond the limits. It judges only events that the filter admits, so it belongs above the
    /// filter and below whatever writes.
    pub(super) fn layer(self: &Arc<Self>) -> LimiterLayer {
        LimiterLayer(Arc::clone(self))
    }

    /// Sets how many answered requests of a second have an event, at most 2^20 - 1.
    pub(super) fn admit_answered(&self, per_second: u32) {
        self.budgets[Class::Answered.index()].per_second.store(per_second, Ordering::Relaxed);
    }

    /// Events of this class that were suppressed since the start.
    pub(super) fn suppressed(&self, class: Class) -> u64 {
        self.budgets[class.index()].suppressed.load(Ordering::Relaxed)
    }

    fn admits(&self, event: &Event<'_>) -> bool {
        let Some(class) = Class::of(event) else { return true };
        let now_ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.budgets[class.index()].admits(now_ms)
    }
}

/// See [`Limiter::layer`].
pub(super) struct LimiterLayer(Arc<Limiter>);

impl<S: Subscriber> Layer<S> for LimiterLayer {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        self.0.admits(event)
    }
}

#[cfg(test)]
mod tests;
