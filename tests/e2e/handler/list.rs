//! Several handlers of a route: which one gets a request, when one is ejected and tried again, and what its sender hears.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hookgate_testkit::handler::{Behaviour, Handler};
use hookgate_testkit::wait::wait_until;
use socket2::{Domain, SockAddr, Socket, Type};

use crate::environment::{Environment, PATH, SOON, handler_socket};
use crate::problem::assert_problem;
use crate::test_gateway::TestGateway;
use crate::tls_client::{TlsConnection, request};

/// A daemon whose first handler is [`TestGateway::handler`], and others beside it.
struct List {
    /// Before what has their directory.
    others: Vec<Handler>,
    gateway: TestGateway,
}

/// The text of a list.
fn list(entries: &[String]) -> String {
    format!("[{}]", entries.join(", "))
}

fn entry(handler: &Handler, rest: &str) -> String {
    format!("{{ address = {}{rest} }}", handler_socket(handler))
}

fn configuration(environment: &Environment, limits: &str, entries: &[String]) -> String {
    let toml = environment.toml(limits, "").replace("workers = 1", "workers = 3");
    toml.replace(&handler_socket(&environment.events), &list(entries))
}

impl List {
    /// With so many handlers beside the first, the last of which has `rest` in its entry.
    fn new(others: usize, limits: &str, rest: &str) -> Self {
        let environment = Environment::new().unwrap();
        let start = |index| Handler::start(&environment.path(&format!("other{index}.sock")), Behaviour::Json).unwrap();
        let others: Vec<Handler> = (0..others).map(start).collect();
        let mut entries: Vec<String> = vec![handler_socket(&environment.events)];
        entries.extend(others.iter().map(handler_socket));
        if let (Some(last), Some(handler)) = (entries.last_mut(), others.last()) {
            *last = entry(handler, rest);
        }
        let toml = configuration(&environment, limits, &entries);
        Self { others, gateway: TestGateway::in_environment(environment, |_| toml).unwrap() }
    }

    fn first(&self) -> &Handler {
        self.gateway.handler()
    }

    /// Ends the first handler, and its socket. Returns what starts it again.
    fn stop_first(&mut self) -> impl Fn(&mut Self) + use<> {
        let path = self.first().path().to_owned();
        let stand_in = Handler::start(&self.gateway.environment.path("stand-in.sock"), Behaviour::Json).unwrap();
        drop(std::mem::replace(&mut self.gateway.environment.events, stand_in));
        move |list| list.gateway.environment.events = Handler::start(&path, Behaviour::Json).unwrap()
    }

    fn connect(&self) -> TlsConnection {
        self.gateway.connect().unwrap()
    }

    /// The status of a request on a connection of its own.
    fn status(&self, body: &[u8]) -> u16 {
        self.connect().ask(request("POST", PATH, body)).unwrap().status
    }

    fn metric(&self, name: &str, handler: &Handler) -> f64 {
        let label = handler.path().display().to_string();
        self.gateway.daemon.metric(name, &[("handler", &label)]).unwrap()
    }

    fn logged(&self, text: &str) -> usize {
        self.gateway.daemon.log().matches(text).count()
    }

    /// Sends until the first handler is ejected.
    fn eject_first(&self) {
        let is_ejected = || {
            self.status(b"eject");
            self.metric("hookgate_handler_ejected", self.first()) == 1.0
        };
        wait_until("the ejection", SOON, is_ejected).unwrap();
    }
}

const EJECTED: &str = "handler ejected";
const BACK: &str = "ejected handler answers again";

fn delay(milliseconds: u64) -> Behaviour {
    Behaviour::Delay(Duration::from_millis(milliseconds), Behaviour::Json.boxed())
}

#[test]
fn each_request_goes_to_the_handler_with_the_fewest_on_all_workers_together() {
    let list = List::new(2, "", "");
    for handler in list.others.iter().chain([list.first()]) {
        handler.set_behaviour(Behaviour::NeverAnswer);
    }
    // One after the other, so that each sees those before it.
    let mut connections = Vec::new();
    for index in 1..=18 {
        let mut connection = list.connect();
        connection.send(request("POST", PATH, b"{}")).unwrap();
        connections.push(connection);
        let arrived = || list.others.iter().chain([list.first()]).map(Handler::request_count).sum::<u64>() == index;
        wait_until("the request", SOON, arrived).unwrap();
    }
    let counts: Vec<_> = list.others.iter().chain([list.first()]).map(Handler::request_count).collect();
    assert_eq!(counts, [6, 6, 6]);
    assert_eq!(list.metric("hookgate_handler_chosen_total", list.first()), 6.0);
}

#[test]
fn a_handler_that_takes_fewer_requests_gets_no_more_while_another_has_room() {
    let list = List::new(1, "", ", max_in_flight = 2");
    for handler in [&list.others[0], list.first()] {
        handler.set_behaviour(Behaviour::NeverAnswer);
    }
    let mut connections: Vec<_> = (0..12).map(|_| list.connect()).collect();
    for connection in &mut connections {
        connection.send(request("POST", PATH, b"{}")).unwrap();
    }
    let all = || list.others[0].request_count() + list.first().request_count() == 12;
    wait_until("all requests", SOON, all).unwrap();
    assert_eq!(list.others[0].request_count(), 2);
}

#[test]
fn a_request_that_waits_gets_the_first_place_of_any_handler() {
    let list = List::new(1, "handler_max_in_flight = 2\nhandler_timeout_ms = 3000", "");
    list.first().set_behaviour(Behaviour::NeverAnswer);
    list.others[0].set_behaviour(delay(50));
    let mut connections: Vec<_> = (0..14).map(|_| list.connect()).collect();
    for connection in &mut connections {
        connection.send(request("POST", PATH, b"{}")).unwrap();
    }
    // The first handler takes two and hangs. None waits behind these while the other one answers.
    list.others[0].wait_for(12, Duration::from_millis(2500)).unwrap();
    let mut statuses: Vec<_> = connections.iter_mut().map(|one| one.response().unwrap().status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [[200; 12].as_slice(), &[504; 2]].concat());
    assert_eq!((list.first().request_count(), list.others[0].request_count()), (2, 12));
    for handler in [list.first(), &list.others[0]] {
        assert_eq!(list.metric("hookgate_handler_requests_waiting", handler), 0.0);
        assert_eq!(list.metric("hookgate_handler_requests_in_flight", handler), 0.0);
    }
}

#[test]
fn a_handler_that_is_gone_costs_no_request_and_gets_them_again_when_it_is_back() {
    let mut list = List::new(1, "", "");
    assert_eq!(list.status(b"{}"), 200);
    let start_again = list.stop_first();
    for index in 0..20 {
        assert_eq!(list.status(b"{}"), 200, "request {index}");
    }
    let gone = list.gateway.environment.path("events.sock");
    assert!(!gone.exists(), "{}", gone.display());
    start_again(&mut list);
    let is_back = || {
        assert_eq!(list.status(b"{}"), 200);
        list.first().request_count() >= 3
    };
    wait_until("requests to the handler that is back", SOON, is_back).unwrap();
    assert_eq!(list.metric("hookgate_handler_ejected", list.first()), 0.0);
    assert!(list.metric("hookgate_handler_passed_total", list.first()) >= 1.0);
    list.gateway.daemon.wait_log(BACK, SOON).unwrap();
    assert_eq!((list.logged(EJECTED), list.logged(BACK)), (1, 1), "{}", list.gateway.daemon.log());
    assert_eq!(list.gateway.daemon.metric("hookgate_rejections_total", &[]).unwrap(), 0.0);
}

#[test]
fn a_request_that_a_handler_may_have_acted_on_goes_to_no_other() {
    let list = List::new(1, "", "");
    list.first().set_behaviour(Behaviour::CloseBeforeAnswering);
    for method in ["POST", "GET"] {
        for index in 0..6 {
            let body = format!("{method}{index}");
            let response = list.connect().ask(request(method, PATH, body.as_bytes())).unwrap();
            let seen = |handler: &Handler| handler.requests().iter().filter(|seen| seen.text() == body).count();
            assert_eq!((seen(list.first()) + seen(&list.others[0])), 1, "{body}");
            match seen(list.first()) {
                0 => assert_eq!(response.status, 200, "{body}"),
                _ => assert_problem(&response, 502, "handler_unavailable", &body),
            }
        }
    }
    assert_eq!(list.metric("hookgate_handler_passed_total", list.first()), 0.0);
}

#[test]
fn a_handler_that_does_not_answer_is_ejected_and_tried_by_one_request_at_a_time() {
    let list = List::new(1, "handler_timeout_ms = 400", "");
    list.first().set_behaviour(Behaviour::NeverAnswer);
    list.eject_first();
    let failed = list.first().request_count();
    assert_eq!(failed, 3, "three in a row");
    // Until a request tries it, and after that as long again.
    let mut late = 0;
    let tried = || {
        late += usize::from(list.status(b"{}") == 504);
        list.first().request_count() > failed
    };
    wait_until("a try", SOON, tried).unwrap();
    let mut connections: Vec<_> = (0..24).map(|_| list.connect()).collect();
    for connection in &mut connections {
        connection.send(request("POST", PATH, b"{}")).unwrap();
    }
    let statuses: Vec<_> = connections.iter_mut().map(|one| one.response().unwrap().status).collect();
    let tries = list.first().request_count() - failed;
    assert!(tries <= 2, "{tries} requests tried the handler");
    late += statuses.iter().filter(|status| **status == 504).count();
    assert_eq!(late as u64, tries, "{statuses:?}");
    assert_eq!(list.logged(EJECTED), 1, "told once");
    list.first().set_behaviour(Behaviour::Json);
    wait_until("an answer", SOON, || {
        list.status(b"{}");
        list.metric("hookgate_handler_ejected", list.first()) == 0.0
    })
    .unwrap();
    let failures = list.metric("hookgate_handler_failures_total", list.first());
    assert_eq!(failures, (failed + tries) as f64, "each failure counts");
}

#[test]
fn a_backup_is_asked_while_no_other_can_be() {
    let mut list = List::new(1, "", ", backup = true");
    for _ in 0..10 {
        assert_eq!(list.status(b"{}"), 200);
    }
    assert_eq!((list.first().request_count(), list.others[0].request_count()), (10, 0));
    let start_again = list.stop_first();
    for _ in 0..10 {
        assert_eq!(list.status(b"{}"), 200);
    }
    assert_eq!(list.others[0].request_count(), 10);
    start_again(&mut list);
    wait_until("the first handler", SOON, || {
        assert_eq!(list.status(b"{}"), 200);
        list.metric("hookgate_handler_ejected", list.first()) == 0.0
    })
    .unwrap();
    let before = list.others[0].request_count();
    for _ in 0..10 {
        assert_eq!(list.status(b"{}"), 200);
    }
    assert_eq!(list.others[0].request_count(), before);
}

#[test]
fn if_all_are_ejected_each_is_asked_and_one_that_starts_is_found_at_once() {
    let mut list = List::new(1, "", "");
    let start_again = list.stop_first();
    let other = list.others.pop().unwrap();
    let path = other.path().to_owned();
    drop(other);
    for _ in 0..5 {
        let response = list.connect().ask(request("POST", PATH, b"{}")).unwrap();
        assert_problem(&response, 502, "handler_unavailable", "all are gone");
    }
    assert_eq!(list.logged(EJECTED), 2);
    for _ in 0..3 {
        let again = Handler::start(&path, Behaviour::Json).unwrap();
        assert_eq!(list.status(b"{}"), 200, "at once");
        drop(again);
        assert_eq!(list.status(b"{}"), 502);
    }
    start_again(&mut list);
    assert_eq!(list.status(b"{}"), 200);
}

#[test]
fn a_reload_keeps_how_handlers_are_doing() {
    let list = List::new(1, "handler_timeout_ms = 400", "");
    list.first().set_behaviour(Behaviour::NeverAnswer);
    list.eject_first();
    let third = Handler::start(&list.gateway.environment.path("third.sock"), Behaviour::Json).unwrap();
    let entries = [list.first(), &list.others[0], &third].map(handler_socket);
    let toml = configuration(&list.gateway.environment, "handler_timeout_ms = 400", &entries);
    list.gateway.reload(&toml).unwrap();
    let before = list.first().request_count();
    for _ in 0..30 {
        list.status(b"{}");
    }
    let asked = list.first().request_count() - before;
    assert!(asked <= 1, "{asked} requests to an ejected handler: a try and no more");
    assert_eq!(list.metric("hookgate_handler_ejected", list.first()), 1.0);
    assert!(third.request_count() > 0);
    assert_eq!(list.logged(EJECTED), 1);
}

#[test]
fn reloads_that_change_the_list_under_load_lose_no_request() {
    let list = List::new(2, "", "");
    let all = [list.first(), &list.others[0], &list.others[1]];
    for handler in all {
        handler.set_behaviour(delay(3));
    }
    let sockets = all.map(handler_socket);
    let texts = [&sockets[..2], &sockets[1..], &sockets[..1], &sockets[..]]
        .map(|entries| configuration(&list.gateway.environment, "", entries));
    let over = AtomicBool::new(false);
    let answered: u64 = thread::scope(|scope| {
        let client = |index: usize| {
            let (list, over) = (&list, &over);
            scope.spawn(move || {
                let mut connection = list.connect();
                let mut count = 0;
                while !over.load(Ordering::Relaxed) {
                    if index.is_multiple_of(2) {
                        connection = list.connect();
                    }
                    assert_eq!(connection.ask(request("POST", PATH, b"{}")).unwrap().status, 200);
                    count += 1;
                }
                count
            })
        };
        let clients: Vec<_> = (0..4).map(client).collect();
        for index in 0..24 {
            list.gateway.reload(&texts[index % 4]).unwrap();
        }
        over.store(true, Ordering::Relaxed);
        clients.into_iter().map(|client| client.join().unwrap()).sum()
    });
    assert!(answered > 50, "{answered} requests are too few to be a load");
    assert_eq!(all.map(Handler::request_count).iter().sum::<u64>(), answered);
    assert!(all.iter().all(|handler| handler.request_count() > 0));
    assert_eq!(list.gateway.daemon.metric("hookgate_rejections_total", &[]).unwrap(), 0.0);
}

/// Its accept queue is full. The kernel says so at once, and each request would wait for nothing.
#[test]
fn a_handler_that_accepts_nothing_costs_no_request_and_is_ejected() {
    let environment = Environment::new().unwrap();
    let path = environment.path("full.sock");
    let full = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
    full.bind(&SockAddr::unix(&path).unwrap()).unwrap();
    full.listen(0).unwrap();
    let mut in_line = Vec::new();
    loop {
        let one = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None).unwrap();
        match one.connect(&SockAddr::unix(&path).unwrap()) {
            Ok(()) => in_line.push(one),
            Err(_) => break,
        }
    }
    let entries = [format!("\"unix:{}\"", path.display()), handler_socket(&environment.events)];
    let toml = configuration(&environment, "", &entries);
    let gateway = TestGateway::in_environment(environment, |_| toml).unwrap();
    let label = path.display().to_string();
    wait_until("the ejection", SOON, || {
        assert_eq!(gateway.connect().unwrap().ask(request("POST", PATH, b"{}")).unwrap().status, 200);
        gateway.daemon.metric("hookgate_handler_ejected", &[("handler", &label)]).unwrap() == 1.0
    })
    .unwrap();
    let failures = || gateway.daemon.metric("hookgate_handler_failures_total", &[("handler", &label)]).unwrap();
    assert_eq!(failures(), 3.0);
    // Tries have growing pauses: 1 s, 2 s, 4 s.
    let until = Instant::now() + Duration::from_secs(2);
    while Instant::now() < until {
        assert_eq!(gateway.connect().unwrap().ask(request("POST", PATH, b"{}")).unwrap().status, 200);
    }
    assert!(failures() <= 8.0, "{} requests found that it accepts nothing", failures());
}
