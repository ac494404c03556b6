//! kill -9 under load: every 202 is stored or was delivered, and no delivery is stored twice.

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

use super::{DURABLE, LATER, PATH, ROUTE, Stored, configuration, query};
use crate::environment::SOON;

/// How often the daemon is killed; `HOOKGATE_TEST_KILLS` replaces it.
const ROUNDS: u32 = 10;

/// Senders at a time.
const SENDERS: usize = 4;

/// How often to kill the daemon.
pub(super) fn rounds() -> u32 {
    std::env::var("HOOKGATE_TEST_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(ROUNDS)
}

/// A daemon that is killed at random moments under load, and what it has answered with 202.
pub(super) struct Crashes {
    /// The first field, so that it ends before its socket is removed.
    pub(super) handler: Handler,
    pub(super) stored: Stored,
    /// The bodies of accepted deliveries, by id.
    pub(super) accepted: BTreeMap<String, String>,
    pub(super) random: Rng,
    /// How the handler behaves in a round.
    pub(super) behaviour: fn(u32) -> Behaviour,
    round: u32,
}

impl Crashes {
    /// Of `stored`, whose handler does not run yet.
    pub(super) fn of(stored: Stored) -> Self {
        let handler = stored.start_handler(behaviour(0));
        // The same moments in each run, as far as the machine lets them be.
        Self { stored, handler, accepted: BTreeMap::new(), random: Rng::with_seed(4711), behaviour, round: 0 }
    }

    /// Sends from all sides until some deliveries are accepted, and kills the daemon a moment later.
    pub(super) fn kill_under_load(&mut self) {
        self.round += 1;
        let (stored, round) = (&self.stored, self.round);
        self.handler.set_behaviour((self.behaviour)(round));
        let wanted = self.random.usize(1..30);
        let moment = Duration::from_micros(self.random.u64(0..30_000));
        let accepted = Mutex::new(BTreeMap::new());
        let has_ended = AtomicBool::new(false);
        thread::scope(|scope| {
            for sender in 0..SENDERS {
                let (accepted, has_ended) = (&accepted, &has_ended);
                scope.spawn(move || {
                    let Ok(mut connection) = stored.base.connect() else { return };
                    for number in 0.. {
                        let body = format!("{round}-{sender}-{number}");
                        // The kill ends it.
                        let answer = connection.ask(http::request("POST", PATH, HOST, &[], body.as_bytes()));
                        let Ok(response) = answer else { return };
                        if response.status == 202 {
                            let id = response.field("x-request-id").unwrap().to_owned();
                            accepted.lock().unwrap().insert(id, body);
                        } else {
                            assert_eq!(response.status, 503, "{response:?}");
                        }
                        if has_ended.load(Ordering::Relaxed) {
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
        self.stored.base.daemon.wait_exit(SOON).unwrap();
    }

    /// Which accepted deliveries are neither in the spool of `database` nor taken by the handler. Fails if one is there twice, or if the file is damaged.
    pub(super) fn gone(&self, database: &Path) -> Vec<String> {
        assert_eq!(query(database, "PRAGMA integrity_check"), ["ok"], "round {}", self.round);
        let rows = query(database, "SELECT id FROM spool");
        let unique: BTreeSet<&String> = rows.iter().collect();
        assert_eq!(unique.len(), rows.len(), "round {}: a delivery is stored twice", self.round);
        let requests = self.handler.taken();
        let taken: BTreeSet<&str> =
            requests.iter().filter_map(|request| request.field("x-hookgate-delivery")).collect();
        let is_gone = |id: &&String| !unique.contains(id) && !taken.contains(id.as_str());
        self.accepted.keys().filter(is_gone).cloned().collect()
    }

    /// Starts the daemon again.
    pub(super) fn start_again(&mut self) {
        self.stored.start_again(DURABLE);
        let log = self.stored.base.daemon.log();
        assert!(!log.contains("damaged"), "round {}: {log}", self.round);
    }

    /// Fails unless the handler took every accepted delivery, and the spool is empty in the end.
    pub(super) fn finish(&self) {
        self.handler.set_behaviour(Behaviour::Json);
        self.stored.commanded(&["retry", "--route", "orders"]);
        self.stored.wait_rows("waiting", 0);
        assert!(self.stored.query("SELECT id FROM spool").is_empty());
        let requests = self.handler.taken();
        let taken: BTreeMap<&str, String> =
            requests.iter().map(|request| (request.field("x-hookgate-delivery").unwrap(), request.text())).collect();
        for (id, body) in &self.accepted {
            assert_eq!(taken.get(id.as_str()), Some(body), "{id}");
        }
        assert!(self.accepted.len() >= usize::try_from(self.round).unwrap());
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
    let mut crashes = Crashes::of(Stored::new(""));
    for round in 0..rounds() {
        crashes.kill_under_load();
        let gone = crashes.gone(&crashes.stored.database());
        assert!(gone.is_empty(), "round {round}: {gone:?} were answered 202 and are gone");
        crashes.start_again();
    }
    crashes.finish();
    println!("{} kills, {} accepted deliveries", rounds(), crashes.accepted.len());
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
