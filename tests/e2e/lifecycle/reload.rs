//! SIGHUP: a complete new configuration, or the old one and the reasons.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use hookgate_testkit::gateway::Signal;
use hookgate_testkit::handler::{Behaviour, Handler};

use crate::environment::{PATH, SOON};
use crate::problem::assert_problem;
use crate::test_gateway::TestGateway;
use crate::tls_client::{TlsConnection, request};

fn generation(gateway: &TestGateway) -> f64 {
    gateway.daemon.metric("hookgate_config_generation", &[]).unwrap()
}

#[test]
fn a_reload_takes_effect_on_open_connections_too() {
    let gateway = TestGateway::with_limits("").unwrap();
    let mut connection = gateway.connect().unwrap();
    assert_eq!(connection.ask(request("POST", "/more/hook", b"{}")).unwrap().status, 404);
    let mut connection = gateway.connect().unwrap();
    assert_eq!(connection.ask(request("POST", PATH, b"0123456789")).unwrap().status, 200);
    let text = gateway.environment.toml("max_body_bytes = 5", "");
    gateway.reload(&text.replace("/any/*", "/more/*")).unwrap();
    assert_eq!(connection.ask(request("POST", "/more/hook", b"{}")).unwrap().status, 200);
    assert_problem(
        &connection.ask(request("POST", "/more/hook", b"0123456789")).unwrap(),
        413,
        "body_too_large",
        "new",
    );
    let response = gateway.connect().unwrap().ask(request("POST", PATH, b"{}")).unwrap();
    assert_problem(&response, 404, "no_route", "the old route");
    assert_eq!((generation(&gateway), gateway.reloads("ok").unwrap()), (2.0, 2.0));
}

#[test]
fn a_reload_moves_requests_to_another_handler_and_closes_the_old_connections() {
    let gateway = TestGateway::with_limits("").unwrap();
    let mut connection = gateway.connect().unwrap();
    assert_eq!(connection.ask(request("POST", PATH, b"{}")).unwrap().status, 200);
    let other = Handler::start(&gateway.environment.path("other.sock"), Behaviour::Json).unwrap();
    let (old, new) = (gateway.handler().path().display().to_string(), other.path().display().to_string());
    gateway.reload(&gateway.environment.toml("", "").replace(&old, &new)).unwrap();
    assert_eq!(connection.ask(request("POST", PATH, b"{}")).unwrap().status, 200);
    assert_eq!((gateway.handler().request_count(), other.request_count()), (1, 1));
    gateway.handler().wait_no_connection(SOON).unwrap();
}

#[test]
fn a_bad_configuration_is_not_loaded_and_its_errors_are_logged() {
    let gateway = TestGateway::with_limits("").unwrap();
    let good = gateway.environment.toml("", "");
    let bad = good.replace("path = \"/any/*\"", "path = \"any\"") + "[limit]\n";
    let line_of = |text: &str| bad.lines().position(|line| line.starts_with(text)).unwrap() + 1;
    let check = |text: &str, errors: f64, reasons: &[String]| {
        gateway.daemon.write_configuration(text).unwrap();
        gateway.daemon.signal(Signal::HUP).unwrap();
        let labels = [("result", "error")];
        gateway.daemon.wait_metric("hookgate_config_reloads_total", &labels, errors, SOON).unwrap();
        for reason in reasons {
            gateway.daemon.wait_log(reason, SOON).unwrap();
        }
        gateway.daemon.wait_log("the configuration in use stays as it was", SOON).unwrap();
        assert_eq!(generation(&gateway), 1.0);
        assert_eq!(gateway.connect().unwrap().ask(request("POST", PATH, b"{}")).unwrap().status, 200);
    };
    let places = ["path = \"any\"", "[limit]"].map(|text| format!("hookgate.toml:{}", line_of(text)));
    check(&bad, 1.0, &places);
    check("this is not TOML", 2.0, &["hookgate.toml:1".to_owned()]);
    let absent = good.replace("server.key", "absent.key");
    check(&absent, 3.0, &["absent.key".to_owned()]);
    gateway.reload(&good).unwrap();
    assert_eq!((gateway.reloads("ok").unwrap(), gateway.reloads("error").unwrap()), (2.0, 3.0));
}

#[test]
fn a_change_that_needs_a_restart_is_logged() {
    let gateway = TestGateway::with_limits("").unwrap();
    let text = gateway.environment.toml("", "").replace("workers = 1", "workers = 2");
    gateway.reload(&text).unwrap();
    gateway.daemon.wait_log("[listen] has changed; restart hookgate to apply the change", SOON).unwrap();
    gateway.still_serves().unwrap();
}

#[test]
fn many_reloads_under_load_lose_no_request() {
    let gateway = TestGateway::with_limits("").unwrap();
    gateway.handler().set_behaviour(Behaviour::Delay(Duration::from_millis(5), Behaviour::Json.boxed()));
    let (over, answered) = (AtomicBool::new(false), AtomicU64::new(0));
    let texts = ["", "max_body_bytes = 100000"].map(|limits| gateway.environment.toml(limits, ""));
    let ask = |connection: &mut TlsConnection| {
        assert_eq!(connection.ask(request("POST", PATH, b"{}")).unwrap().status, 200);
        answered.fetch_add(1, Ordering::Relaxed);
    };
    let steady = || {
        let mut connection = gateway.connect().unwrap();
        while !over.load(Ordering::Relaxed) {
            ask(&mut connection);
        }
    };
    let fresh = || {
        while !over.load(Ordering::Relaxed) {
            ask(&mut gateway.connect().unwrap());
        }
    };
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(steady);
            scope.spawn(fresh);
        }
        let deadline = Instant::now() + 6 * SOON;
        // On a busy machine, 60 reloads take effect together and meet few requests.
        let is_enough = || answered.load(Ordering::Relaxed) > 50 && generation(&gateway) > 10.0;
        for index in 0.. {
            gateway.daemon.write_configuration(&texts[index % 2]).unwrap();
            gateway.daemon.signal(Signal::HUP).unwrap();
            sleep(Duration::from_millis(20));
            if index >= 60 && (is_enough() || Instant::now() > deadline) {
                break;
            }
        }
        over.store(true, Ordering::Relaxed);
    });
    let answered = answered.into_inner();
    assert!(answered > 50, "{answered} requests are too few to be a load");
    assert_eq!(gateway.handler().request_count(), answered);
    assert!(generation(&gateway) > 10.0, "{} generations are too few", generation(&gateway));
    // A file that is half written when the daemon reads it is a bad configuration: the one in use stays, and no request is lost.
    assert_eq!(gateway.daemon.metric("hookgate_rejections_total", &[]).unwrap(), 0.0);
}
