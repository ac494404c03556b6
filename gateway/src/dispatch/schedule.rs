//! Which delivery is attempted next, and when.
//!
//! Pure: the time is an argument, and nothing is sent. Owns the order within a key, the bounds of a route, and what waits for a route that is
//! gone. Must not know requests: a delivery is its number here.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use crate::deliveries::{Change, Fate, OrderKey, Pauses, Waiting};
use crate::fleet::Demand;
use hookgate_core::route::RouteId;

/// How far ahead a next attempt may be when the process starts: the longest pause, and the longest Retry-After that is believed. More is a
/// clock that was wrong.
pub(super) const FURTHEST_MS: u64 = 3_900_000;

/// What one burst may be ahead of `rate_per_s`, in microseconds: the timer is not more exact.
const RATE_SLACK_US: u64 = 100_000;

/// The pause of a route after an attempt that its handler did not answer. It doubles with each further one, up to [`LONGEST_COOLING_MS`].
const FIRST_COOLING_MS: u64 = 100;

/// The longest such pause: a handler that is back waits no longer for its first delivery.
const LONGEST_COOLING_MS: u64 = 5000;

/// What the configuration says of the deliveries of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Lane {
    /// Its index in the snapshot that says this.
    pub(super) route: RouteId,
    /// Deliveries that are with the handler at a time.
    pub(super) max_in_flight: usize,
    /// How many deliveries the servers of a fleet may store; `None` if they store none.
    pub(super) shared_entries: Option<u64>,
    /// Attempts that begin in a second.
    pub(super) rate_per_s: Option<u32>,
    /// The providers that the route admits.
    pub(super) providers: Vec<Arc<str>>,
}

/// Every delivery that waits.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    lanes: HashMap<Arc<str>, Lane>,
    queues: BTreeMap<Arc<str>, Queue>,
    routes: HashMap<i64, Arc<str>>,
    paused: Pauses,
}

/// The deliveries of one route.
#[derive(Debug, Default)]
struct Queue {
    rows: BTreeMap<i64, Row>,
    /// Those that are for the handler.
    main: Strand,
    /// Rows that are for the servers of a fleet.
    moves: Strand,
    /// Those that no route takes, by the end of their time.
    held: BTreeSet<(u64, i64)>,
    /// Of each key, its deliveries. The first of them is in `ready`, in `held` or in flight.
    keys: HashMap<OrderKey, BTreeSet<i64>>,
    /// The keys of which a delivery is in flight.
    busy: HashSet<OrderKey>,
    /// When the next attempt may begin by `rate_per_s`, in microseconds since 1970.
    next_us: u64,
}

/// Deliveries of a route that go to one place, and how that place is doing.
#[derive(Debug, Default)]
struct Strand {
    /// Those that may be attempted, by the time of that.
    ready: BTreeSet<(u64, i64)>,
    in_flight: usize,
    /// Pauses since the last answer. While there is one, one attempt is in flight at a time: a handler that is down is not asked for each of
    /// thousands.
    pauses: u32,
    /// When the pause ends, in milliseconds since 1970.
    cool_ms: u64,
}

impl Strand {
    /// Deliveries that may be in flight.
    fn most(&self, lane: &Lane) -> usize {
        if self.pauses > 0 { 1 } else { lane.max_in_flight }
    }

    fn reset(&mut self) {
        (self.pauses, self.cool_ms) = (0, 0);
    }
}

/// Where a delivery goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Handler,
    Servers,
}

impl Lane {
    /// Rows of a route whose deliveries a fleet stores go to its servers; what was pulled from there has a negative number.
    fn place(&self, number: i64) -> Place {
        if self.shared_entries.is_some() && number >= 0 { Place::Servers } else { Place::Handler }
    }
}

#[derive(Debug)]
struct Row {
    waiting: Waiting,
    /// Where it is in flight to.
    in_flight: Option<Place>,
}

impl Schedule {
    /// With what an earlier process stored. Every delivery is held until [`Schedule::adopt`] names its route.
    pub(super) fn new(waiting: Vec<Waiting>, paused: Pauses, now_ms: u64) -> Self {
        let mut schedule = Self { paused, ..Self::default() };
        for mut waiting in waiting {
            waiting.next_ms = waiting.next_ms.min(now_ms.saturating_add(FURTHEST_MS));
            schedule.add(waiting);
        }
        schedule
    }

    /// Replaces what the configuration says. Returns the routes that are gone or admit a provider no longer, with the number of deliveries that
    /// are held for that.
    pub(super) fn adopt(&mut self, lanes: HashMap<Arc<str>, Lane>) -> Vec<(Arc<str>, usize)> {
        self.lanes = lanes;
        let mut held = Vec::new();
        for (route, queue) in &mut self.queues {
            // The handler may be another one.
            queue.main.reset();
            queue.moves.reset();
            let lane = self.lanes.get(route);
            queue.refill(lane);
            // Those too that are in flight, or wait for another one: what is not taken is held later, and nothing tells of that.
            let admits = |row: &&Row| lane.is_some_and(|lane| lane.providers.contains(&row.waiting.provider));
            let strange = queue.rows.values().filter(|row| !admits(row)).count();
            if strange > 0 {
                held.push((Arc::clone(route), strange));
            }
        }
        held
    }

    /// What the thread that writes has stored, in the order of its transactions. One that an operator retries while it is in flight was retried
    /// before its outcome, which counts.
    pub(super) fn change(&mut self, change: Change) {
        match change {
            Change::Waits(waiting) => {
                if !self.is_in_flight(waiting.number) {
                    self.remove(waiting.number);
                    // An operator wants it to be attempted now. What was pulled comes again by itself.
                    if waiting.attempts > 0
                        && waiting.number >= 0
                        && let Some(queue) = self.queues.get_mut(&waiting.route)
                    {
                        queue.main.reset();
                    }
                    self.add(waiting);
                }
            }
            Change::Settled { number, fate } => self.settled(number, fate),
            // One that is in flight stays until its outcome, which changes no row then.
            Change::Gone { number } => {
                if !self.is_in_flight(number) {
                    self.remove(number);
                }
            }
            Change::Paused(route) => self.paused.pause(route),
            Change::Resumed(route) => self.paused.resume(&route),
        }
    }

    /// Takes what is due, with its route: an attempt of each begins now, and ends with [`Schedule::settled`].
    pub(super) fn due(&mut self, now_ms: u64) -> Vec<(RouteId, Waiting)> {
        let mut due = Vec::new();
        for (route, queue) in &mut self.queues {
            if self.paused.hold(route) {
                continue;
            }
            let Some(lane) = self.lanes.get(route) else { continue };
            for place in [Place::Servers, Place::Handler] {
                while let Some(waiting) = queue.begin(place, lane, now_ms) {
                    due.push((lane.route, waiting));
                }
            }
        }
        due
    }

    /// Takes those whose time has passed while no route took them. Each ends with [`Schedule::settled`].
    pub(super) fn expired(&mut self, now_ms: u64) -> Vec<Waiting> {
        let mut expired = Vec::new();
        for queue in self.queues.values_mut() {
            while let Some(&(until_ms, number)) = queue.held.first().filter(|(until_ms, _)| *until_ms < now_ms) {
                queue.held.remove(&(until_ms, number));
                expired.extend(queue.take(Place::Handler, number));
            }
        }
        expired
    }

    /// When [`Schedule::due`] or [`Schedule::expired`] has something next, if nothing changes, in milliseconds since 1970.
    pub(super) fn wake_at(&self) -> Option<u64> {
        let next = self.queues.iter().filter_map(|(route, queue)| {
            let held = queue.held.first().map(|(until_ms, _)| until_ms.saturating_add(1));
            let lane = self.lanes.get(route).filter(|_| !self.paused.hold(route));
            let by_rate = queue.next_us.saturating_sub(RATE_SLACK_US).div_ceil(1000);
            let ready = [&queue.main, &queue.moves].into_iter().filter_map(|strand| {
                let lane = lane?;
                let (next_ms, _) = strand.ready.first().filter(|_| strand.in_flight < strand.most(lane))?;
                Some((*next_ms).max(by_rate).max(strand.cool_ms))
            });
            held.into_iter().chain(ready).min()
        });
        next.min()
    }

    /// Whether the handler of a delivery answered its attempt. Call it before [`Schedule::settled`].
    pub(super) fn answered(&mut self, number: i64, answered: bool, now_ms: u64) {
        let queue = self.routes.get(&number).and_then(|route| self.queues.get_mut(route));
        let Some(queue) = queue else { return };
        let place = queue.rows.get(&number).and_then(|row| row.in_flight).unwrap_or(Place::Handler);
        let strand = queue.strand(place);
        if answered {
            strand.reset();
        } else if now_ms >= strand.cool_ms {
            let pause = FIRST_COOLING_MS << strand.pauses.min(16);
            strand.cool_ms = now_ms.saturating_add(pause.min(LONGEST_COOLING_MS));
            strand.pauses += 1;
        }
    }

    /// An attempt has this outcome, which is on the disk; `None` if the delivery is gone.
    pub(super) fn settled(&mut self, number: i64, fate: Option<Fate>) {
        let Some(queue) = self.routes.get(&number).and_then(|route| self.queues.get_mut(route)) else { return };
        let Some(row) = queue.rows.get_mut(&number) else { return };
        match fate {
            Some(Fate::Again { attempts, next_ms, .. }) => {
                (row.waiting.attempts, row.waiting.next_ms) = (attempts, next_ms);
                let key = row.waiting.key;
                queue.put_back(number);
                let lane = self.routes.get(&number).and_then(|route| self.lanes.get(route));
                // A dead letter that waits again may have come before it meanwhile.
                let first = key.and_then(|key| queue.keys.get(&key)?.first().copied()).unwrap_or(number);
                queue.place(first, lane);
            }
            Some(Fate::Taken | Fate::Dead { .. }) | None => self.remove(number),
        }
    }

    /// Attempts that have begun and not ended.
    pub(super) fn in_flight(&self) -> usize {
        self.queues.values().map(|queue| queue.main.in_flight + queue.moves.in_flight).sum()
    }

    /// Of each route whose deliveries a fleet stores: how many of those this host may hold now, and the providers that the route admits.
    pub(super) fn room(&self, now_ms: u64) -> impl Iterator<Item = (&Arc<str>, Demand)> {
        let shared = self.lanes.iter().filter_map(|(route, lane)| Some((route, lane, lane.shared_entries?)));
        shared.map(move |(route, lane, max_entries)| {
            let wanted = match self.queues.get(route) {
                _ if self.paused.hold(route) => 0,
                None => lane.max_in_flight,
                Some(queue) if queue.main.cool_ms > now_ms => 0,
                Some(queue) => queue.main.most(lane),
            };
            (route, Demand { wanted, providers: lane.providers.clone(), max_entries })
        })
    }

    /// The routes that are paused.
    pub(super) fn paused(&self) -> &Pauses {
        &self.paused
    }

    /// Of each route that has had a delivery: how long its oldest row waits, and whether it is paused. What was pulled from the servers of a fleet is
    /// no row, and counts there.
    pub(super) fn levels(&self, now_ms: u64) -> impl Iterator<Item = (&Arc<str>, u64, bool)> {
        self.queues.iter().map(move |(route, queue)| {
            let oldest = queue.rows.range(0..).next();
            let oldest = oldest.map_or(0, |(_, row)| now_ms.saturating_sub(row.waiting.received_ms));
            (route, oldest, self.paused.hold(route))
        })
    }

    fn is_in_flight(&self, number: i64) -> bool {
        let queue = self.routes.get(&number).and_then(|route| self.queues.get(route));
        queue.and_then(|queue| queue.rows.get(&number)).is_some_and(|row| row.in_flight.is_some())
    }

    fn add(&mut self, waiting: Waiting) {
        let (number, route) = (waiting.number, Arc::clone(&waiting.route));
        let lane = self.lanes.get(&route);
        let queue = self.queues.entry(Arc::clone(&route)).or_default();
        let before = waiting.key.map(|key| {
            let of_key = queue.keys.entry(key).or_default();
            let before = of_key.first().copied();
            of_key.insert(number);
            before
        });
        queue.rows.insert(number, Row { waiting, in_flight: None });
        self.routes.insert(number, route);
        // A dead letter that waits again may come before the first of its key, which then waits for it, unless it is in flight.
        if let Some(Some(first)) = before {
            if number > first {
                return;
            }
            queue.unplace(first);
        }
        queue.place(number, lane);
    }

    fn remove(&mut self, number: i64) {
        let Some(route) = self.routes.remove(&number) else { return };
        let lane = self.lanes.get(&route);
        let Some(queue) = self.queues.get_mut(&route) else { return };
        queue.unplace(number);
        queue.put_back(number);
        let Some(row) = queue.rows.remove(&number) else { return };
        let Some(key) = row.waiting.key else { return };
        let Some(of_key) = queue.keys.get_mut(&key) else { return };
        of_key.remove(&number);
        match of_key.first().copied() {
            Some(next) => queue.place(next, lane),
            None => drop(queue.keys.remove(&key)),
        }
    }
}

impl Queue {
    /// Places every delivery anew.
    fn refill(&mut self, lane: Option<&Lane>) {
        self.held = BTreeSet::new();
        (self.main.ready, self.moves.ready) = (BTreeSet::new(), BTreeSet::new());
        let numbers: Vec<i64> = self.rows.keys().copied().collect();
        numbers.into_iter().for_each(|number| self.place(number, lane));
    }

    /// Lets a delivery be attempted when its time comes, if it is the first of its key and none of the key is in flight.
    fn place(&mut self, number: i64, lane: Option<&Lane>) {
        let Some(row) = self.rows.get(&number).filter(|row| row.in_flight.is_none()) else { return };
        let Waiting { key, provider, next_ms, until_ms, .. } = &row.waiting;
        if let Some(key) = key {
            let first = self.keys.get(key).and_then(BTreeSet::first);
            if first != Some(&number) || self.busy.contains(key) {
                return;
            }
        }
        let (ready, held) = ((*next_ms, number), (*until_ms, number));
        match lane.filter(|lane| lane.providers.contains(provider)) {
            Some(lane) => self.strand(lane.place(number)).ready.insert(ready),
            None => self.held.insert(held),
        };
    }

    fn unplace(&mut self, number: i64) {
        if let Some(Row { waiting, .. }) = self.rows.get(&number) {
            self.main.ready.remove(&(waiting.next_ms, number));
            self.moves.ready.remove(&(waiting.next_ms, number));
            self.held.remove(&(waiting.until_ms, number));
        }
    }

    fn strand(&mut self, place: Place) -> &mut Strand {
        match place {
            Place::Handler => &mut self.main,
            Place::Servers => &mut self.moves,
        }
    }

    /// Takes the next delivery that may begin now.
    fn begin(&mut self, place: Place, lane: &Lane, now_ms: u64) -> Option<Waiting> {
        let now_us = now_ms.saturating_mul(1000);
        // More than the longest pause between two is a clock that was set back.
        self.next_us = self.next_us.min(now_us.saturating_add(1_000_000 + RATE_SLACK_US));
        let is_within_rate = lane.rate_per_s.is_none() || self.next_us <= now_us.saturating_add(RATE_SLACK_US);
        let strand = self.strand(place);
        strand.cool_ms = strand.cool_ms.min(now_ms.saturating_add(LONGEST_COOLING_MS));
        let may_begin = strand.in_flight < strand.most(lane)
            && strand.cool_ms <= now_ms
            && (is_within_rate || place == Place::Servers);
        let &(next_ms, number) = strand.ready.first().filter(|(next_ms, _)| may_begin && *next_ms <= now_ms)?;
        strand.ready.remove(&(next_ms, number));
        if let Some(rate) = lane.rate_per_s.filter(|_| place == Place::Handler) {
            self.next_us = self.next_us.max(now_us) + 1_000_000 / u64::from(rate.max(1));
        }
        self.take(place, number)
    }

    /// Counts a delivery as in flight.
    fn take(&mut self, place: Place, number: i64) -> Option<Waiting> {
        self.strand(place).in_flight += usize::from(self.rows.contains_key(&number));
        let row = self.rows.get_mut(&number)?;
        row.in_flight = Some(place);
        self.busy.extend(row.waiting.key);
        Some(row.waiting.clone())
    }

    /// Counts a delivery as in flight no longer.
    fn put_back(&mut self, number: i64) {
        let Some(row) = self.rows.get_mut(&number) else { return };
        if let Some(place) = row.in_flight.take() {
            if let Some(key) = row.waiting.key {
                self.busy.remove(&key);
            }
            let strand = self.strand(place);
            strand.in_flight = strand.in_flight.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests;
