//! The places of each handler, and of each route with a bound of its own: how many requests have one and how many wait, over all workers.
//!
//! Owns the counts, and the queue for a place. Must not know connections: each worker has its own.

use std::collections::HashMap;
use std::future::pending;
use std::hash::Hash;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use metrics::Gauge;
use tokio::sync::futures::Notified;
use tokio::sync::{Notify, Semaphore, SemaphorePermit};

use super::contact::{Contact, LastContact};
use super::health::Health;
use hookgate_core::route::Handler;
use hookgate_io::timer::timeout;

/// The places of every handler and route. All workers share one.
pub struct Places {
    handlers: Gates<Handler>,
    /// By name.
    routes: Gates<Arc<str>>,
    /// Where the clock of [`Health`] begins.
    origin: Instant,
    /// Wakes requests that wait at several gates when a handler is ejected, or is back: seldom, so there is one for all lists.
    changed: Notify,
}

impl Default for Places {
    fn default() -> Self {
        let (handlers, routes) = (Gates::default(), Gates::default());
        Self { handlers, routes, origin: Instant::now(), changed: Notify::new() }
    }
}

/// Gates, each as long as a worker has a use for it.
type Gates<K> = Mutex<HashMap<K, Weak<Gate>>>;

/// The gate of `key`.
fn gate_of<K: Clone + Eq + Hash>(gates: &Gates<K>, key: &K) -> Arc<Gate> {
    let mut gates = lock(gates);
    if let Some(gate) = gates.get(key).and_then(Weak::upgrade) {
        return gate;
    }
    // Those that no worker has a use for any more.
    gates.retain(|_, gate| gate.strong_count() > 0);
    let gate = Arc::new(Gate::new());
    gates.insert(key.clone(), Arc::downgrade(&gate));
    gate
}

impl Places {
    /// The gate of `handler`. A worker asks once for each pool.
    pub(super) fn gate(&self, handler: &Handler) -> Arc<Gate> {
        gate_of(&self.handlers, handler)
    }

    /// The gate of the route with this name. A worker asks once for each route.
    pub(super) fn gate_of_route(&self, name: &Arc<str>) -> Arc<Gate> {
        gate_of(&self.routes, name)
    }

    /// How `handler` is doing; `None` if it has got no request yet.
    pub fn state(&self, handler: &Handler) -> Option<HandlerState> {
        let gate = lock(&self.handlers).get(handler).and_then(Weak::upgrade)?;
        let Level { taken, waiting } = gate.level();
        let ejected = gate
            .health
            .next_try()
            .map(|(at, is_tried)| Ejected { next_try: Duration::from_millis(at.saturating_sub(self.now())), is_tried });
        Some(HandlerState { in_flight: taken, waiting, last: gate.contact.last(), ejected })
    }

    /// The time of [`Health`], in milliseconds.
    pub(super) fn now(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Tells requests that wait at several gates that a handler was ejected, or is back.
    pub(super) fn standing_changed(&self) {
        self.changed.notify_waiters();
    }

    /// Ends with the first [`Places::standing_changed`] after this call. A caller that looks at the standings after it misses no change.
    pub(super) fn next_change(&self) -> Notified<'_> {
        self.changed.notified()
    }
}

/// How a handler is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HandlerState {
    /// Requests with it now.
    pub in_flight: usize,
    /// Requests that wait for a place.
    pub waiting: usize,
    /// How its last request ended; `None` if none has.
    pub last: Option<LastContact>,
    /// Whether the others of its list get its requests.
    pub ejected: Option<Ejected>,
}

/// A handler that failed, and gets no request but one at a time that tries it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ejected {
    /// How long it is until a request tries it.
    pub next_try: Duration,
    /// Whether a request tries it now.
    pub is_tried: bool,
}

/// How many requests have a place, and wait for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Level {
    pub(super) taken: usize,
    pub(super) waiting: usize,
}

/// Why a request gets no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoPlace {
    /// As many wait as may.
    Full,
    /// None was free in time.
    Late,
}

/// The places of one handler or route.
pub(super) struct Gate {
    /// Whose turn it is: in the order of their arrival, whichever worker they are on.
    places: Semaphore,
    /// Places that exist: the current bound.
    allowed: AtomicUsize,
    /// Held by the one that changes `allowed`.
    changing: Mutex<()>,
    waiting: AtomicUsize,
    /// How the last request ended; of a handler.
    pub(super) contact: Contact,
    /// Whether requests go to it; of a handler in a list.
    pub(super) health: Health,
}

impl Gate {
    fn new() -> Self {
        Self {
            places: Semaphore::new(0),
            allowed: AtomicUsize::new(0),
            changing: Mutex::default(),
            waiting: AtomicUsize::new(0),
            contact: Contact::default(),
            health: Health::default(),
        }
    }

    /// Takes one of `most` places, and waits for it as one of at most `most_waiting`, for at most `limit`. `gauge` counts those that wait.
    /// [`Gate::leave`] gives the place back.
    pub(super) async fn enter(
        &self,
        most: usize,
        most_waiting: usize,
        limit: Duration,
        gauge: &Gauge,
    ) -> Result<(), NoPlace> {
        if self.try_enter(most) {
            return Ok(());
        }
        let _waiting = self.wait(most_waiting, gauge).ok_or(NoPlace::Full)?;
        timeout(limit, self.place(most)).await.map_err(|_| NoPlace::Late)
    }

    /// Takes one of `most` places, if one is free and no request waits for it. [`Gate::leave`] gives it back.
    pub(super) fn try_enter(&self, most: usize) -> bool {
        self.allow(most);
        self.places.try_acquire().map(SemaphorePermit::forget).is_ok()
    }

    /// Counts one more that waits, in `gauge` too; `None` if `most` do already.
    pub(super) fn wait<'a>(&'a self, most: usize, gauge: &'a Gauge) -> Option<Waiting<'a>> {
        Waiting::new(&self.waiting, most, gauge)
    }

    /// Takes one of `most` places, and waits for it without a bound: the caller counts and limits the wait. Dropped before it is ready, it takes
    /// none; after that, [`Gate::leave`] gives the place back.
    pub(super) async fn place(&self, most: usize) {
        self.allow(most);
        match self.places.acquire().await {
            Ok(place) => place.forget(),
            // The semaphore is never closed.
            Err(_) => pending().await,
        }
    }

    /// Its requests now.
    pub(super) fn level(&self) -> Level {
        let taken = self.allowed.load(Ordering::Relaxed).saturating_sub(self.places.available_permits());
        Level { taken, waiting: self.waiting.load(Ordering::Relaxed) }
    }

    /// Gives back a place. The first that waits gets it.
    pub(super) fn leave(&self) {
        self.places.add_permits(1);
    }

    /// Adopts the bound of the current snapshot: a reload may have changed it.
    fn allow(&self, most: usize) {
        if self.allowed.load(Ordering::Relaxed) == most {
            return;
        }
        let _turn = lock(&self.changing);
        let allowed = self.allowed.load(Ordering::Relaxed);
        if most > allowed {
            self.places.add_permits(most - allowed);
            self.allowed.store(most, Ordering::Relaxed);
        } else {
            // Only free places can be removed; the others follow with later requests.
            self.allowed.store(allowed - self.places.forget_permits(allowed - most), Ordering::Relaxed);
        }
    }
}

/// Counts one that waits, for as long as it lives.
pub(super) struct Waiting<'a>(&'a AtomicUsize, &'a Gauge);

impl<'a> Waiting<'a> {
    /// `None` if `most` wait already.
    fn new(count: &'a AtomicUsize, most: usize, gauge: &'a Gauge) -> Option<Self> {
        let increment = |waiting| (waiting < most).then_some(waiting + 1);
        count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, increment).ok()?;
        gauge.increment(1.0);
        Some(Self(count, gauge))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
        self.1.decrement(1.0);
    }
}

/// No code panics while it holds one of these locks, and each is left consistent after every step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed set-up fails the test")]

    use std::thread;

    use hookgate_io::{Backend, block_on};
    use tokio::task::{JoinHandle, spawn_local, yield_now};

    use super::*;

    const NOW: Duration = Duration::ZERO;
    const LONG: Duration = Duration::from_secs(20);

    fn handler(name: &str) -> Handler {
        Handler::unix(name)
    }

    fn enter(gate: &Arc<Gate>, most: usize, limit: Duration) -> Result<(), NoPlace> {
        let gate = Arc::clone(gate);
        block_on(Backend::Epoll, async move { gate.enter(most, 1, limit, &Gauge::noop()).await }).unwrap()
    }

    #[test]
    fn workers_share_the_places_of_a_handler_and_handlers_do_not() {
        let places = Places::default();
        let (one, again, other) = (places.gate(&handler("a")), places.gate(&handler("a")), places.gate(&handler("b")));
        assert_eq!(enter(&one, 2, NOW), Ok(()));
        assert_eq!(enter(&again, 2, NOW), Ok(()));
        assert_eq!(enter(&one, 2, NOW), Err(NoPlace::Late));
        assert_eq!(enter(&other, 2, NOW), Ok(()));
        again.leave();
        assert_eq!(enter(&one, 2, NOW), Ok(()));
    }

    #[test]
    fn workers_share_the_places_of_a_route_by_its_name() {
        let places = Places::default();
        let name = |name: &str| Arc::<str>::from(name);
        let (one, again) = (places.gate_of_route(&name("a")), places.gate_of_route(&name("a")));
        assert_eq!(enter(&one, 1, NOW), Ok(()));
        assert_eq!(enter(&again, 1, NOW), Err(NoPlace::Late));
        assert_eq!(enter(&places.gate_of_route(&name("b")), 1, NOW), Ok(()));
        assert_eq!(enter(&places.gate(&handler("a")), 1, NOW), Ok(()), "a handler has places of its own");
        drop((one, again));
        assert_eq!(enter(&places.gate_of_route(&name("a")), 1, NOW), Ok(()), "nobody has a use for the old count");
    }

    #[test]
    fn the_state_of_a_handler_is_known_from_its_first_request_on() {
        let places = Places::default();
        assert_eq!(places.state(&handler("a")), None);
        let gate = places.gate(&handler("a"));
        assert_eq!(
            places.state(&handler("a")),
            Some(HandlerState { in_flight: 0, waiting: 0, last: None, ejected: None })
        );
        assert_eq!(enter(&gate, 3, NOW), Ok(()));
        assert_eq!(enter(&gate, 3, NOW), Ok(()));
        gate.contact.answered(7);
        let last = Some(LastContact { at: 7, failure: None, answered: Some(7) });
        assert_eq!(places.state(&handler("a")), Some(HandlerState { in_flight: 2, waiting: 0, last, ejected: None }));
        assert_eq!(places.state(&handler("b")), None);
    }

    #[test]
    fn a_reload_changes_the_number_of_places() {
        let gate = Places::default().gate(&handler("a"));
        assert_eq!(enter(&gate, 2, NOW), Ok(()));
        assert_eq!(enter(&gate, 2, NOW), Ok(()));
        assert_eq!(enter(&gate, 3, NOW), Ok(()));
        assert_eq!(enter(&gate, 1, NOW), Err(NoPlace::Late));
        for _ in 0..2 {
            gate.leave();
            assert_eq!(enter(&gate, 1, NOW), Err(NoPlace::Late), "two of three are still with the handler");
        }
        gate.leave();
        assert_eq!(enter(&gate, 1, NOW), Ok(()));
    }

    #[test]
    fn a_place_wakes_the_first_that_waits_on_any_worker() {
        let gate = Places::default().gate(&handler("a"));
        assert_eq!(enter(&gate, 1, NOW), Ok(()));
        let elsewhere = {
            let gate = Arc::clone(&gate);
            thread::spawn(move || enter(&gate, 1, LONG))
        };
        while gate.waiting.load(Ordering::Relaxed) == 0 {
            thread::yield_now();
        }
        assert_eq!(enter(&gate, 1, LONG), Err(NoPlace::Full), "one waits already");
        gate.leave();
        assert_eq!(elsewhere.join().unwrap(), Ok(()));
        assert_eq!(gate.waiting.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn places_are_given_in_the_order_of_arrival() {
        let gate = Places::default().gate(&handler("a"));
        let order = block_on(Backend::Epoll, async {
            gate.enter(1, 9, NOW, &Gauge::noop()).await.unwrap();
            let order = Arc::new(Mutex::new(Vec::new()));
            let waiting = (0..5).map(|index| {
                let (gate, order) = (Arc::clone(&gate), Arc::clone(&order));
                spawn_local(async move {
                    gate.enter(1, 9, LONG, &Gauge::noop()).await.unwrap();
                    lock(&order).push(index);
                    gate.leave();
                })
            });
            let waiting: Vec<JoinHandle<()>> = waiting.collect();
            yield_now().await;
            gate.leave();
            for task in waiting {
                task.await.unwrap();
            }
            lock(&order).clone()
        });
        assert_eq!(order.unwrap(), [0, 1, 2, 3, 4]);
    }
}
