//! kill -9 under load: every 202 is stored or was delivered, and of each body, however often its sender sends it, there is one delivery.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use fastrand::Rng;
use hookgate_testkit::configuration::HOST;
use hookgate_testkit::gateway::{Gateway, Signal};
use hookgate_testkit::handler::{Behaviour, Handler};
use hookgate_testkit::http;
use hookgate_testkit::wait::wait_until;

use super::{DURABLE, LATER, PATH, ROUTE, Stored, configuration, is_whole, query, replay, with_id};
use crate::environment::SOON;

/// Senders at a time.
const SENDERS: usize = 4;

/// How often to kill the daemon; `HOOKGATE_TEST_KILLS` replaces it.
pub(super) fn rounds() -> u32 {
    let asked = std::env::var("HOOKGATE_TEST_KILLS").ok().and_then(|text| text.parse().ok());
    asked.unwrap_or(if is_whole() { 100 } else { 10 })
}

/// A daemon that is killed at random moments under load, and what its senders know.
pub(super) struct Crashes {
    /// The first field, so that it ends before its socket is removed.
    pub(super) handler: Handler,
    pub(super) stored: Stored,
    /// The bodies of deliveries that were answered with 202, by id.
    pub(super) accepted: BTreeMap<String, String>,
    /// The bodies of those that had no answer, or 503: they may be stored or not.
    unanswered: Vec<String>,
    /// The bodies of those that were sent again, and are copies of what is stored or was delivered.
    copies: BTreeSet<String>,
    pub(super) random: Rng,
    /// How the handler behaves in a round.
    pub(super) behaviour: fn(u32) -> Behaviour,
    round: u32,
}

/// A delivery whose id is its body.
fn delivery(body: &str) -> Vec<u8> {
    http::request("POST", PATH, HOST, &with_id(body), body.as_bytes())
}

impl Crashes {
    /// Of [`Stored::with_copies`], whose handler does not run yet.
    pub(super) fn of(stored: Stored) -> Self {
        Self {
            handler: stored.start_handler(behaviour(0)),
            stored,
            accepted: BTreeMap::new(),
            unanswered: Vec::new(),
            copies: BTreeSet::new(),
            // The same moments in each run, as far as the machine lets them be.
            random: Rng::with_seed(4711),
            behaviour,
            round: 0,
        }
    }

    /// Sends from all sides until some deliveries are accepted, and kills the daemon a moment later.
    pub(super) fn kill_under_load(&mut self) {
        self.round += 1;
        let (stored, round) = (&self.stored, self.round);
        self.handler.set_behaviour((self.behaviour)(round));
        let wanted = self.random.usize(1..30);
        let moment = Duration::from_micros(self.random.u64(0..30_000));
        let (accepted, unanswered) = (Mutex::new(BTreeMap::new()), Mutex::new(Vec::new()));
        let has_ended = AtomicBool::new(false);
        thread::scope(|scope| {
            for sender in 0..SENDERS {
                let (accepted, unanswered, has_ended) = (&accepted, &unanswered, &has_ended);
                scope.spawn(move || {
                    let Ok(mut connection) = stored.base.connect() else { return };
                    for number in 0.. {
                        let body = format!("{round}-{sender}-{number}");
                        let answer = connection.ask(delivery(&body));
                        if let Ok(response) = &answer {
                            assert!(matches!(response.status, 202 | 503), "{response:?}");
                        }
                        match &answer {
                            Ok(response) if response.status == 202 => {
                                let id = response.field("x-request-id").unwrap().to_owned();
                                accepted.lock().unwrap().insert(id, body);
                            }
                            Ok(_) | Err(_) => unanswered.lock().unwrap().push(body),
                        }
                        // The kill ends it.
                        if answer.is_err() || has_ended.load(Ordering::Relaxed) {
                            return;
                        }
                    }
                });
            }
            wait_until("some deliveries", LATER, || accepted.lock().unwrap().len() >= wanted).unwrap();
            thread::sleep(moment);
            stored.base.daemon.signal(Signal::KILL).unwrap();
            has_ended.store(true, Ordering::Relaxed);
        });
        self.accepted.append(&mut accepted.into_inner().unwrap());
        self.unanswered.append(&mut unanswered.into_inner().unwrap());
        self.stored.base.daemon.wait_exit(SOON).unwrap();
    }

    /// Which accepted deliveries are neither in the spool of `database` nor taken by the handler. Fails if the file is damaged, or a body is there
    /// twice.
    pub(super) fn gone(&self, database: &Path) -> Vec<String> {
        assert_eq!(query(database, "PRAGMA integrity_check"), ["ok"], "round {}", self.round);
        self.expect_one_row_each(database);
        let rows: BTreeSet<String> = query(database, "SELECT id FROM spool").into_iter().collect();
        let requests = self.handler.taken();
        let taken: BTreeSet<&str> =
            requests.iter().filter_map(|request| request.field("x-hookgate-delivery")).collect();
        let is_gone = |id: &&String| !rows.contains(*id) && !taken.contains(id.as_str());
        self.accepted.keys().filter(is_gone).cloned().collect()
    }

    fn expect_one_row_each(&self, database: &Path) {
        let twice = query(database, "SELECT CAST(body AS TEXT) FROM spool GROUP BY body HAVING count(*) > 1");
        assert!(twice.is_empty(), "round {}: {twice:?} are stored twice", self.round);
    }

    /// Starts the daemon again. Those that had no answer are sent again, and one that was accepted.
    pub(super) fn start_again(&mut self) {
        self.stored.start_again(&format!("{DURABLE}\n{}", replay(&self.stored.base.environment)));
        let log = self.stored.base.daemon.log();
        assert!(!log.contains("damaged"), "round {}: {log}", self.round);
        let known = self.random.choice(self.accepted.values()).unwrap().clone();
        let mut connection = self.stored.base.connect().unwrap();
        for body in self.unanswered.drain(..).chain([known.clone()]) {
            let response = connection.ask(delivery(&body)).unwrap();
            let expected: &[u16] = if body == known { &[208] } else { &[202, 208] };
            assert!(expected.contains(&response.status), "round {}, {body}: {response:?}", self.round);
            if response.status == 202 {
                let id = response.field("x-request-id").unwrap().to_owned();
                self.accepted.insert(id, body);
            } else {
                self.copies.insert(body);
            }
        }
        self.expect_one_row_each(&self.stored.database());
    }

    /// Fails unless the handler took every accepted delivery, got each body under one id, and the spool is empty in the end.
    pub(super) fn finish(&self) {
        self.handler.set_behaviour(Behaviour::Json);
        self.stored.commanded(&["retry", "--route", "orders"]);
        self.stored.wait_rows("waiting", 0);
        assert!(self.stored.query("SELECT id FROM spool").is_empty());
        let requests = self.handler.requests();
        let mut ids: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
        for request in &requests {
            ids.entry(request.text()).or_default().insert(request.field("x-hookgate-delivery").unwrap());
        }
        for (body, ids) in &ids {
            assert_eq!(ids.len(), 1, "{body} is more than one delivery: {ids:?}");
        }
        for (id, body) in &self.accepted {
            assert!(ids.get(body).is_some_and(|ids| ids.contains(id.as_str())), "{id} {body}");
        }
        for body in &self.copies {
            assert!(ids.contains_key(body), "{body} was answered as a copy, and there is no other");
        }
        assert!(self.accepted.len() >= usize::try_from(self.round).unwrap());
        println!(
            "{} failures, {} accepted deliveries, {} copies, {} requests at the handler",
            self.round,
            self.accepted.len(),
            self.copies.len(),
            self.handler.request_count()
        );
    }
}

/// Slow and failing now and then, so that the spool is never empty for long.
fn behaviour(round: u32) -> Behaviour {
    let slow = Behaviour::Delay(Duration::from_millis(u64::from(round % 4) * 5), Behaviour::Json.boxed());
    let some = (0..50).flat_map(|_| [slow.clone(), slow.clone(), Behaviour::status(503, "")]);
    Behaviour::sequence(some.chain([slow.clone()]))
}

#[test]
fn no_accepted_delivery_is_lost_by_a_kill() {
    let mut crashes = Crashes::of(Stored::with_copies());
    for round in 0..rounds() {
        crashes.kill_under_load();
        let gone = crashes.gone(&crashes.stored.database());
        assert!(gone.is_empty(), "round {round}: {gone:?} were answered 202 and are gone");
        crashes.start_again();
    }
    crashes.finish();
}

#[test]
fn an_orderly_end_finishes_the_attempts_in_flight() {
    let mut stored = Stored::new("");
    let handler = stored.start_handler(Behaviour::Delay(Duration::from_millis(800), Behaviour::Json.boxed()));
    stored.store("in flight");
    handler.wait_for(1, SOON).unwrap();
    stored.stop();
    assert!(stored.query("SELECT id FROM spool").is_empty(), "its outcome was written");
    assert_eq!(handler.request_count(), 1);
}

#[test]
fn a_restart_hands_a_filled_spool_over() {
    let mut stored = Stored::new("");
    let bodies: Vec<String> = (0..50).map(|number| format!("{number}:{}", "x".repeat(number * 500))).collect();
    for body in &bodies {
        stored.store(body);
    }
    stored.stop();
    stored.start_again(DURABLE);
    stored.base.daemon.wait_log("stored deliveries wait for their handlers", SOON).unwrap();
    let handler = stored.start_handler(Behaviour::Json);
    let requests = handler.wait_for(50, LATER).unwrap();
    let arrived: BTreeSet<String> = requests.iter().map(http::Request::text).collect();
    assert_eq!(arrived, bodies.into_iter().collect());
    stored.wait_rows("waiting", 0);
}

#[test]
fn a_dead_letter_is_attempted_after_a_restart_without_durable_routes() {
    let mut stored = Stored::new("");
    let handler = stored.start_handler(Behaviour::status(422, "never"));
    stored.store("{}");
    stored.wait_rows("dead", 1);
    stored.stop();
    stored.start_again("");
    handler.set_behaviour(Behaviour::Json);
    stored.commanded(&["retry", "--all-dead"]);
    wait_until("no row is left", LATER, || stored.query("SELECT id FROM spool").is_empty()).unwrap();
}

#[test]
fn a_process_that_began_before_another_one_ended_hands_over_what_that_one_stored() {
    let mut stored = Stored::new("");
    let environment = &stored.base.environment;
    let next = Gateway::start(&configuration(environment, &[(ROUTE, PATH, DURABLE)]), &stored.options).unwrap();
    next.wait_log("another process still hands the stored deliveries over", SOON).unwrap();
    let id = stored.store("late");
    stored.stop();
    let handler = stored.start_handler(Behaviour::Json);
    let requests = handler.wait_for(1, LATER).unwrap();
    assert_eq!(requests[0].field("x-hookgate-delivery"), Some(id.as_str()));
    stored.wait_rows("waiting", 0);
    next.wait_metric("hookgate_spool_deliveries", &[("state", "waiting")], 0.0, SOON).unwrap();
}
