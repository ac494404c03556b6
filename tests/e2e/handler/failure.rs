//! Handlers that cannot be reached, answer badly, late, or not at all: 502, 503, 504.

use std::fs;
use std::io::{BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use hookgate_testkit::gateway::{Gateway, GatewayOptions};
use hookgate_testkit::handler::Behaviour;
use hookgate_testkit::http::{Request, Response};
use hookgate_testkit::pki::{Sender, Variant};

use crate::call::request;
use crate::stand::{PATH, Stand, assert_problem, configuration};
use crate::world::{BINARY, SOON, Scene};

/// The configuration with the socket `name` in the place of the handler's.
fn with_socket(scene: &Scene, name: &str) -> String {
    let (old, new) = (scene.events.path().display().to_string(), scene.path(name).display().to_string());
    configuration(scene, "handler_timeout_ms = 400", "").replace(&old, &new)
}

/// Posts to a handler that behaves like this, and expects a problem document.
fn check(stand: &Stand, behaviour: Behaviour, status: u16, reason: &str) {
    let context = format!("{behaviour:?}");
    stand.behave(behaviour);
    let outcome = stand.curl().post(PATH, b"{}").run().unwrap();
    assert_problem(outcome.response().unwrap(), status, reason, &context);
}

fn detail(response: &Response) -> String {
    let text = response.text();
    text.split_once("\"detail\":\"").unwrap().1.split_once("\",\"").unwrap().0.to_owned()
}

#[test]
fn an_absent_socket_is_unavailable() {
    let stand = Stand::written(|scene| with_socket(scene, "absent.sock")).unwrap();
    let outcome = stand.curl().post(PATH, b"{}").run().unwrap();
    let response = outcome.response().unwrap();
    assert_problem(response, 502, "handler_unavailable", "an absent socket");
    assert!(detail(response).contains("absent.sock") && detail(response).contains("does not exist"), "{response:?}");
}

#[test]
fn a_socket_on_which_nobody_listens_is_unavailable_until_somebody_does() {
    let stand = Stand::written(|scene| {
        drop(UnixListener::bind(scene.path("left.sock")).unwrap());
        with_socket(scene, "left.sock")
    });
    let stand = stand.unwrap();
    let outcome = stand.curl().post(PATH, b"{}").run().unwrap();
    let response = outcome.response().unwrap();
    assert_problem(response, 502, "handler_unavailable", "a socket that was left behind");
    assert!(detail(response).contains("nobody listens"), "{response:?}");
    let path = stand.world.scene.path("left.sock");
    let _handler = hookgate_testkit::handler::Handler::start(&path, Behaviour::Json).unwrap();
    assert_eq!(stand.curl().post(PATH, b"{}").run().unwrap().status(), Some(200));
}

/// root may write everywhere, so the daemon is started without that capability (capabilities(7), CAP_DAC_OVERRIDE).
#[test]
fn a_socket_that_may_not_be_written_to_is_unavailable() {
    let scene = Scene::set().unwrap();
    fs::set_permissions(scene.events.path(), fs::Permissions::from_mode(0o000)).unwrap();
    let mut options = GatewayOptions::new(BINARY);
    if rustix::process::geteuid().is_root() {
        let script = format!("#!/bin/sh\nexec setpriv --bounding-set=-dac_override {BINARY} \"$@\"\n");
        options.binary = scene.write("unprivileged", script).unwrap();
        fs::set_permissions(&options.binary, fs::Permissions::from_mode(0o700)).unwrap();
    }
    let gateway = Gateway::start(&configuration(&scene, "", ""), &options).unwrap();
    let identity = scene.identity(Sender::Percolate, Variant::Good).unwrap();
    let curl = gateway.curl(hookgate_testkit::configuration::HOST, &scene.pki).identity(&identity);
    let outcome = curl.post(PATH, b"{}").run().unwrap();
    let response = outcome.response().unwrap();
    assert_problem(response, 502, "handler_unavailable", "a socket without permission");
    assert!(detail(response).contains("may not write to the socket"), "{response:?}");
}

/// Without accepting, a listener takes one connection more than its backlog (listen(2)).
#[test]
fn a_handler_that_does_not_accept_is_overloaded() {
    let path_of = |scene: &Scene| scene.path("full.sock");
    let stand = Stand::written(|scene| with_socket(scene, "full.sock")).unwrap();
    let address = socket2::SockAddr::unix(path_of(&stand.world.scene)).unwrap();
    let listener = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
    listener.bind(&address).unwrap();
    listener.listen(0).unwrap();
    let _filler = UnixStream::connect(path_of(&stand.world.scene)).unwrap();
    let start = Instant::now();
    let outcome = stand.curl().post(PATH, b"{}").run().unwrap();
    let response = outcome.response().unwrap();
    assert_problem(response, 503, "handler_overloaded", "a full accept queue");
    assert_eq!(response.field("retry-after"), Some("5"));
    assert!(start.elapsed() >= Duration::from_millis(400), "it waited for room");
}

#[test]
fn an_answer_that_is_not_http_is_malformed() {
    let stand = Stand::limited("").unwrap();
    check(&stand, Behaviour::Malformed, 502, "handler_malformed");
    check(&stand, Behaviour::status(101, ""), 502, "handler_malformed");
    let field = |name: String, length: usize| (name, "x".repeat(length));
    let fixed = |fields| Behaviour::Fixed { status: 200, fields, body: b"{}".to_vec() };
    check(&stand, fixed(vec![field("X-Long".into(), 400_000)]), 502, "handler_malformed");
    let many = (0..300).map(|index| field(format!("X-{index}"), 1)).collect();
    check(&stand, fixed(many), 502, "handler_malformed");
    assert_eq!(stand.world.wait_rejections("handler_malformed", 4.0).unwrap(), 4.0);
}

#[test]
fn a_handlers_own_error_is_passed_on_as_it_is() {
    let stand = Stand::limited("").unwrap();
    stand.behave(Behaviour::status(503, "later"));
    let outcome = stand.curl().post(PATH, b"{}").run().unwrap();
    let response = outcome.response().unwrap();
    assert_eq!((response.status, response.text().as_str(), response.reason()), (503, "later", None));
    assert_eq!(response.field("retry-after"), None);
    assert_eq!(stand.world.gateway.metric("hookgate_rejections_total", &[]).unwrap(), 0.0);
}

#[test]
fn a_handler_that_closes_before_its_answer_is_unavailable_and_not_asked_twice() {
    let stand = Stand::limited("").unwrap();
    for (index, behaviour) in [Behaviour::CloseBeforeAnswering, Behaviour::BreakOffHead].into_iter().enumerate() {
        check(&stand, behaviour, 502, "handler_unavailable");
        assert_eq!(stand.handler().request_count(), index as u64 + 1);
    }
    // Not for a method that could be repeated either: this was no stale connection.
    stand.behave(Behaviour::CloseBeforeAnswering);
    let outcome = stand.curl().request("GET", PATH).run().unwrap();
    assert_problem(outcome.response().unwrap(), 502, "handler_unavailable", "GET");
    assert_eq!(stand.handler().request_count(), 3);
    assert_eq!(stand.world.gateway.metric("hookgate_handler_retries_total", &[]).unwrap(), 0.0);
}

#[test]
fn a_late_handler_times_out_and_its_connection_is_closed() {
    let stand = Stand::limited("handler_timeout_ms = 400").unwrap();
    stand.behave(Behaviour::NeverAnswer);
    let mut call = stand.call().unwrap();
    let start = Instant::now();
    let response = call.ask(request("PUT", PATH, b"{}")).unwrap();
    assert_problem(&response, 504, "handler_timeout", "a late handler");
    let elapsed = start.elapsed();
    assert!(elapsed >= Duration::from_millis(400) && elapsed < Duration::from_secs(3), "{elapsed:?}");
    assert_eq!((stand.handler().request_count(), stand.handler().connection_count()), (1, 1), "it was not asked twice");
    assert_eq!(stand.world.wait_rejections("handler_timeout", 1.0).unwrap(), 1.0);
    stand.behave(Behaviour::Json);
    assert_eq!(call.ask(request("PUT", PATH, b"{}")).unwrap().status, 200);
    assert_eq!(stand.handler().connection_count(), 2, "the late connection was not used again");
}

#[test]
fn beyond_its_bounds_a_handler_is_overloaded() {
    let stand = Stand::limited("handler_max_in_flight = 1\nhandler_max_waiting = 0").unwrap();
    stand.behave(Behaviour::Delay(Duration::from_millis(500), Behaviour::Json.boxed()));
    let mut first = stand.call().unwrap();
    first.send(request("POST", PATH, b"{}")).unwrap();
    stand.handler().wait_for(1, SOON).unwrap();
    let response = stand.call().unwrap().ask(request("POST", PATH, b"{}")).unwrap();
    assert_problem(&response, 503, "handler_overloaded", "a second request");
    assert_eq!(response.field("retry-after"), Some("5"));
    assert_eq!(first.response().unwrap().status, 200);
    assert_eq!(stand.handler().request_count(), 1);
    stand.world.still_serves().unwrap();
}

#[test]
fn a_request_within_the_bound_waits_for_its_turn() {
    let stand = Stand::limited("handler_max_in_flight = 1\nhandler_max_waiting = 1").unwrap();
    stand.behave(Behaviour::Delay(Duration::from_millis(500), Behaviour::Json.boxed()));
    let mut calls: Vec<_> = (0..3).map(|_| stand.call().unwrap()).collect();
    calls[0].send(request("POST", PATH, b"{}")).unwrap();
    stand.handler().wait_for(1, SOON).unwrap();
    calls[1].send(request("POST", PATH, b"{}")).unwrap();
    thread::sleep(Duration::from_millis(150));
    let response = calls[2].ask(request("POST", PATH, b"{}")).unwrap();
    assert_problem(&response, 503, "handler_overloaded", "a third request");
    assert_eq!(stand.handler().request_count(), 1, "the second one waits");
    assert_eq!(calls[0].response().unwrap().status, 200);
    assert_eq!(calls[1].response().unwrap().status, 200);
    assert_eq!(stand.handler().connection_count(), 1);
}

#[test]
fn waiting_for_a_turn_counts_as_waiting_for_the_handler() {
    let stand = Stand::limited("handler_max_in_flight = 1\nhandler_timeout_ms = 600").unwrap();
    // Bytes all the time, so that the first request is never late.
    let pieces = vec![b"x".to_vec(); 8];
    stand.behave(Behaviour::Chunked { pieces, pause: Duration::from_millis(200) });
    let mut first = stand.call().unwrap();
    first.send(request("POST", PATH, b"{}")).unwrap();
    stand.handler().wait_for(1, SOON).unwrap();
    let response = stand.call().unwrap().ask(request("POST", PATH, b"{}")).unwrap();
    assert_problem(&response, 504, "handler_timeout", "a request that waited");
    let first = first.response().unwrap();
    assert!(first.complete && first.body == b"xxxxxxxx", "{first:?}");
}

/// What a handler writes beyond its answer must not become the answer to somebody else's request.
#[test]
fn bytes_after_an_answer_never_answer_the_next_request() {
    let stand = Stand::written(|scene| with_socket(scene, "chatty.sock")).unwrap();
    let path = stand.world.scene.path("chatty.sock");
    chatty_handler(&path);
    let mut call = stand.call().unwrap();
    for _ in 0..5 {
        let response = call.ask(request("POST", PATH, b"{}")).unwrap();
        assert!(response.status == 502 || response.text() == "mine", "{response:?}");
    }
}

/// Answers every request, each on whatever connection, with one response too many.
fn chatty_handler(path: &Path) {
    let listener = UnixListener::bind(path).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || {
                let mut reader = BufReader::new(&stream);
                while let Ok(Some(_)) = Request::read(&mut reader, 1) {
                    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nmine\
                                   HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nothers";
                    if (&stream).write_all(answer).is_err() {
                        break;
                    }
                }
            });
        }
    });
}
