//! Which events are bounded, and by how much.

#![expect(clippy::unwrap_used, reason = "a failed set-up fails the test")]

use std::sync::Mutex;

use tracing_subscriber::layer::SubscriberExt as _;

use super::*;

/// A layer that notes the class of every event.
#[derive(Clone, Default)]
struct Classes(Arc<Mutex<Vec<Option<Class>>>>);

impl<S: Subscriber> Layer<S> for Classes {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        self.0.lock().unwrap().push(Class::of(event));
    }
}

/// The class of the one event that `log` logs.
fn class(log: impl FnOnce()) -> Option<Class> {
    let classes = Classes::default();
    tracing::subscriber::with_default(tracing_subscriber::registry().with(classes.clone()), log);
    let mut classes = classes.0.lock().unwrap();
    assert_eq!(classes.len(), 1);
    classes.remove(0)
}

/// A layer that counts the events that reach it.
#[derive(Clone, Default)]
struct Written(Arc<AtomicU64>);

impl<S: Subscriber> Layer<S> for Written {
    fn on_event(&self, _: &Event<'_>, _: Context<'_, S>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn events_of_operators_belong_to_no_class() {
    assert_eq!(class(|| tracing::info!("in control::log::limiter::tests")), None);
    assert_eq!(class(|| tracing::debug!("in control::log::limiter::tests")), None);
    assert_eq!(class(|| tracing::error!(target: "hookgate::control::reload", "configuration not reloaded")), None);
    assert_eq!(class(|| tracing::warn!(target: "hookgate::worker", "drain_timeout_ms passed")), None);
}

#[test]
fn the_cause_decides_if_it_is_known() {
    for cause in Cause::ALL {
        let expected = Some(Class::Caused(cause));
        assert_eq!(class(|| tracing::info!(cause = cause.label(), "even in control")), expected);
        assert_eq!(class(|| tracing::warn!(target: "hookgate::http", cause = cause.label(), "m")), expected);
    }
}

#[test]
fn what_no_list_knows_is_bounded() {
    let stranger = Some(Class::Caused(Cause::Stranger));
    assert_eq!(class(|| tracing::warn!(target: "hookgate::worker::connection", "m")), stranger);
    assert_eq!(class(|| tracing::warn!(target: "hookgate::controller", "m")), stranger);
    assert_eq!(class(|| tracing::warn!(target: "hookgate_io::socket", "m")), stranger);
    assert_eq!(class(|| tracing::warn!(target: "hookgate::http", cause = "invented", "m")), stranger);
    assert_eq!(class(|| tracing::warn!(target: "rustls::msgs", "m")), Some(Class::Library));
    // The target of everything that comes from the `log` crate.
    assert_eq!(class(|| tracing::error!(target: "log", "m")), Some(Class::Library));
}

#[test]
fn answered_requests_have_a_limit_of_their_own_that_can_be_set() {
    assert_eq!(class(|| tracing::info!(target: ANSWERED, "m")), Some(Class::Answered));
    assert_eq!(class(|| tracing::info!(target: "hookgate::access", "m")), Some(Class::Caused(Cause::Stranger)));
    let limiter = Limiter::new();
    let admitted = |now_ms| {
        let budget = &limiter.budgets[Class::Answered.index()];
        (0..1_100_000).filter(|_| budget.admits(now_ms)).count()
    };
    assert_eq!(admitted(0), 100);
    limiter.admit_answered(7);
    assert_eq!(admitted(2000), 7);
    limiter.admit_answered(1_000_000);
    assert_eq!(admitted(4000), 1_000_000);
}

#[test]
fn verbose_events_have_a_limit_of_their_own() {
    for cause in Cause::ALL {
        assert_eq!(class(|| tracing::debug!(cause = cause.label(), "m")), Some(Class::Debug));
    }
    assert_eq!(class(|| tracing::debug!(target: "hookgate::http", "m")), Some(Class::Debug));
    assert_eq!(class(|| tracing::trace!(target: "log", "m")), Some(Class::Debug));
}

#[test]
fn a_budget_admits_its_limit_in_each_second_and_counts_the_others() {
    let budget = Budget::new(3);
    let at = |now_ms: u64| (0..5).filter(|_| budget.admits(now_ms)).count();
    assert_eq!(at(0), 3, "the first millisecond of the process");
    assert_eq!(at(999), 0);
    assert_eq!(at(1000), 3);
    assert_eq!(at(1000), 0);
    // A thread that has read the clock earlier.
    assert_eq!(at(990), 0);
    assert_eq!(at(5500), 3, "no more after a pause");
    assert_eq!(at(6499), 0);
    assert_eq!(at(6500), 3);
    assert_eq!(budget.suppressed.load(Ordering::Relaxed), 8 * 5 - 4 * 3);
}

#[test]
fn a_budget_holds_over_threads() {
    let budget = Budget::new(1000);
    let admitted = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let count = (0..2000).filter(|_| budget.admits(7)).count();
                admitted.fetch_add(count as u64, Ordering::Relaxed);
            });
        }
    });
    assert_eq!(admitted.load(Ordering::Relaxed), 1000);
    assert_eq!(budget.suppressed.load(Ordering::Relaxed), 7000);
}

#[test]
fn a_flood_of_one_class_suppresses_no_event_of_another() {
    let (limiter, written) = (Limiter::new(), Written::default());
    let count = || written.0.load(Ordering::Relaxed);
    tracing::subscriber::with_default(
        tracing_subscriber::registry().with(limiter.layer()).with(written.clone()),
        || {
            for class in Class::ALL {
                let flood = || match class {
                    Class::Caused(cause) => tracing::warn!(cause = cause.label(), "m"),
                    Class::Answered => tracing::info!(target: ANSWERED, "m"),
                    Class::Library => tracing::warn!(target: "log", "m"),
                    Class::Debug => tracing::debug!(target: "log", "m"),
                };
                let (before, began) = (count(), Instant::now());
                (0..5000).for_each(|_| flood());
                let seconds = began.elapsed().as_secs() + 1;
                let limit = u64::from(class.per_second());
                let logged = count() - before;
                assert!(logged >= limit && logged <= limit * (seconds + 1), "{class:?}: {logged} in {seconds} s");
                assert_eq!(limiter.suppressed(class), 5000 - logged, "{class:?}");
            }
            let before = count();
            (0..5000).for_each(|_| tracing::info!("configuration reloaded"));
            assert_eq!(count() - before, 5000, "events of operators");
        },
    );
}
