//! SIGHUP: a whole new configuration, or the old one and the reason why.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, sleep};
use std::time::Duration;

use hookgate_testkit::gateway::Signal;
use hookgate_testkit::handler::{Behaviour, Handler};

use crate::call::request;
use crate::stand::{PATH, Stand, assert_problem, configuration};
use crate::world::SOON;

fn generation(stand: &Stand) -> f64 {
    stand.world.gateway.metric("hookgate_config_generation", &[]).unwrap()
}

fn reloads(stand: &Stand, result: &str) -> f64 {
    stand.world.gateway.metric("hookgate_config_reloads_total", &[("result", result)]).unwrap()
}

#[test]
fn a_reload_takes_effect_also_on_open_connections() {
    let stand = Stand::limited("").unwrap();
    let mut call = stand.call().unwrap();
    assert_eq!(call.ask(request("POST", "/more/hook", b"{}")).unwrap().status, 404);
    let mut call = stand.call().unwrap();
    assert_eq!(call.ask(request("POST", PATH, b"0123456789")).unwrap().status, 200);
    let text = configuration(&stand.world.scene, "max_body_bytes = 5", "");
    stand.world.reload(&text.replace("/any/*", "/more/*")).unwrap();
    assert_eq!(call.ask(request("POST", "/more/hook", b"{}")).unwrap().status, 200);
    assert_problem(&call.ask(request("POST", "/more/hook", b"0123456789")).unwrap(), 413, "body_too_large", "new");
    let response = stand.call().unwrap().ask(request("POST", PATH, b"{}")).unwrap();
    assert_problem(&response, 404, "no_route", "the old route");
    assert_eq!((generation(&stand), reloads(&stand, "ok")), (2.0, 2.0));
}

#[test]
fn a_reload_moves_requests_to_another_handler_and_closes_the_old_connections() {
    let stand = Stand::limited("").unwrap();
    let mut call = stand.call().unwrap();
    assert_eq!(call.ask(request("POST", PATH, b"{}")).unwrap().status, 200);
    let other = Handler::start(&stand.world.scene.path("other.sock"), Behaviour::Json).unwrap();
    let (old, new) = (stand.handler().path().display().to_string(), other.path().display().to_string());
    stand.world.reload(&configuration(&stand.world.scene, "", "").replace(&old, &new)).unwrap();
    assert_eq!(call.ask(request("POST", PATH, b"{}")).unwrap().status, 200);
    assert_eq!((stand.handler().request_count(), other.request_count()), (1, 1));
    let deadline = std::time::Instant::now() + SOON;
    while stand.handler().open_connections() > 0 {
        assert!(std::time::Instant::now() < deadline, "the old handler's connection stays");
        sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_bad_configuration_is_not_loaded_and_says_why() {
    let stand = Stand::limited("").unwrap();
    let good = configuration(&stand.world.scene, "", "");
    let bad = good.replace("path = \"/any/*\"", "path = \"any\"") + "[limit]\n";
    let line_of = |text: &str| bad.lines().position(|line| line.starts_with(text)).unwrap() + 1;
    let check = |text: &str, errors: f64, reasons: &[String]| {
        stand.world.gateway.write_configuration(text).unwrap();
        stand.world.gateway.signal(Signal::HUP).unwrap();
        let labels = [("result", "error")];
        stand.world.gateway.wait_metric("hookgate_config_reloads_total", &labels, errors, SOON).unwrap();
        for reason in reasons {
            stand.world.gateway.wait_log(reason, SOON).unwrap();
        }
        stand.world.gateway.wait_log("the configuration in use stays as it was", SOON).unwrap();
        assert_eq!(generation(&stand), 1.0);
        assert_eq!(stand.call().unwrap().ask(request("POST", PATH, b"{}")).unwrap().status, 200);
    };
    let places = ["path = \"any\"", "[limit]"].map(|text| format!("hookgate.toml:{}", line_of(text)));
    check(&bad, 1.0, &places);
    check("this is not TOML", 2.0, &["hookgate.toml:1".to_owned()]);
    let absent = good.replace("server.key", "absent.key");
    check(&absent, 3.0, &["absent.key".to_owned()]);
    stand.world.reload(&good).unwrap();
    assert_eq!((reloads(&stand, "ok"), reloads(&stand, "error")), (2.0, 3.0));
}

#[test]
fn a_change_that_takes_a_restart_is_named() {
    let stand = Stand::limited("").unwrap();
    let text = configuration(&stand.world.scene, "", "").replace("workers = 1", "workers = 2");
    stand.world.reload(&text).unwrap();
    stand.world.gateway.wait_log("[listen] has changed; restart hookgate to apply the change", SOON).unwrap();
    stand.world.still_serves().unwrap();
}

#[test]
fn a_storm_of_reloads_under_load_loses_nothing() {
    let stand = Stand::limited("").unwrap();
    stand.behave(Behaviour::Delay(Duration::from_millis(5), Behaviour::Json.boxed()));
    let over = AtomicBool::new(false);
    let texts = ["", "max_body_bytes = 100000"].map(|limits| configuration(&stand.world.scene, limits, ""));
    let answered: u64 = thread::scope(|scope| {
        let steady = |_| {
            scope.spawn(|| {
                let mut call = stand.call().unwrap();
                (0..)
                    .take_while(|_| !over.load(Ordering::Relaxed))
                    .map(|_| assert_eq!(call.ask(request("POST", PATH, b"{}")).unwrap().status, 200))
                    .count() as u64
            })
        };
        let fresh = |_| {
            scope.spawn(|| {
                (0..)
                    .take_while(|_| !over.load(Ordering::Relaxed))
                    .map(|_| assert_eq!(stand.call().unwrap().ask(request("POST", PATH, b"{}")).unwrap().status, 200))
                    .count() as u64
            })
        };
        let clients: Vec<_> = (0..2).map(steady).chain((0..2).map(fresh)).collect();
        for index in 0..60 {
            stand.world.gateway.write_configuration(&texts[index % 2]).unwrap();
            stand.world.gateway.signal(Signal::HUP).unwrap();
            sleep(Duration::from_millis(20));
        }
        over.store(true, Ordering::Relaxed);
        clients.into_iter().map(|client| client.join().unwrap()).sum()
    });
    assert!(answered > 50, "{answered} requests are no load");
    assert_eq!(stand.handler().request_count(), answered);
    assert!(generation(&stand) > 10.0, "{} generations are no storm", generation(&stand));
    // A file that is half written when it is read is a bad configuration, and the one before stays: no request is lost.
    assert_eq!(stand.world.gateway.metric("hookgate_rejections_total", &[]).unwrap(), 0.0);
}
