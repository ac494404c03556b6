//! The admin side of the real daemon: over a Unix socket and over a loopback address, by curl.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use hookgate_testkit::gateway::{Gateway, GatewayOptions, Signal};
use hookgate_testkit::handler::Behaviour;
use hookgate_testkit::pki::{LeafOptions, Sender, Subject, Variant};
use hookgate_testkit::wait::wait_until;
use serde_json::Value;

use crate::environment::{BINARY, Environment, PATH, SOON, handler_socket};
use crate::test_gateway::TestGateway;
use crate::tls_client::request;

/// A daemon whose admin side is a socket in the directory of its environment.
fn start() -> TestGateway {
    TestGateway::with_toml(|environment| with_admin(environment, &environment.toml("", ""))).unwrap()
}

pub(crate) fn with_admin(environment: &Environment, toml: &str) -> String {
    format!("{toml}\n[admin]\nlisten = \"unix:{}\"\n", environment.path("admin.sock").display())
}

/// The status and the body of `path`, asked by curl with these arguments.
fn curl(arguments: &[&str], url: &str) -> (u16, String) {
    let output =
        Command::new("curl").args(["--silent", "--max-time", "10", "--include"]).args(arguments).arg(url).output();
    let text = String::from_utf8(output.unwrap().stdout).unwrap();
    let status = text.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    (status, text)
}

/// As [`curl`], over the socket.
pub(crate) fn ask(socket: &Path, path: &str) -> (u16, String) {
    curl(&["--unix-socket", socket.to_str().unwrap()], &format!("http://localhost{path}"))
}

/// The facts that the admin side on this socket tells.
pub(crate) fn json(socket: &Path) -> Value {
    let (status, text) = ask(socket, "/status.json");
    assert_eq!(status, 200, "{text}");
    serde_json::from_str(text.split_once("\r\n\r\n").unwrap().1).unwrap()
}

/// The health of the handler at the end of this path.
fn health(facts: &Value, socket: &str) -> String {
    let handlers = facts["handlers"].as_array().unwrap();
    let handler = handlers.iter().find(|handler| handler["socket"].as_str().unwrap().ends_with(socket)).unwrap();
    handler["health"].as_str().unwrap().to_owned()
}

#[test]
fn every_path_answers_over_the_socket() {
    let gateway = start();
    let socket = gateway.environment.path("admin.sock");
    for (path, part) in [
        ("/healthz", "live"),
        ("/readyz", "ready"),
        ("/metrics", "hookgate_config_generation 1"),
        ("/status", "<h1>hookgate</h1>"),
        ("/status.json", "\"phase\":\"serving\""),
    ] {
        let (status, text) = ask(&socket, path);
        assert!(status == 200 && text.contains(part), "{path}: {text}");
        assert!(text.contains("content-security-policy: default-src 'none'; style-src 'sha256-"), "{path}: {text}");
    }
    assert_eq!(ask(&socket, "/nothing").0, 404);
    let post = curl(&["--unix-socket", socket.to_str().unwrap(), "--request", "POST"], "http://localhost/status");
    assert_eq!(post.0, 405);
    // The metrics endpoint stays as it was.
    assert_eq!(gateway.daemon.metric("hookgate_config_generation", &[]).unwrap(), 1.0);
}

#[test]
fn handlers_are_up_or_down_by_their_last_request() {
    let gateway = start();
    let socket = gateway.environment.path("admin.sock");
    assert_eq!(health(&json(&socket), "events.sock"), "unused");
    let mut connection = gateway.connect().unwrap();
    assert_eq!(connection.ask(request("POST", PATH, b"{}")).unwrap().status, 200);
    assert_eq!(health(&json(&socket), "events.sock"), "up");
    gateway.handler().set_behaviour(Behaviour::CloseBeforeAnswering);
    assert_eq!(connection.ask(request("POST", PATH, b"{}")).unwrap().status, 502);
    let facts = json(&socket);
    assert_eq!(health(&facts, "events.sock"), "down");
    assert_eq!(health(&facts, "dialogflow.sock"), "unused", "another handler");
    let page = ask(&socket, "/status").1;
    assert!(page.contains("does not answer: The handler is unavailable"), "{page}");
    let label = gateway.handler().path().display().to_string();
    let up = || gateway.daemon.metric("hookgate_handler_up", &[("handler", &label)]).unwrap();
    wait_until("the metric of the handler", SOON, || {
        gateway.daemon.metrics().unwrap().has("hookgate_handler_up", &[("handler", &label)]) && up() == 0.0
    })
    .unwrap();
    gateway.handler().set_behaviour(Behaviour::Json);
    assert_eq!(connection.ask(request("POST", PATH, b"{}")).unwrap().status, 200);
    assert_eq!(health(&json(&socket), "events.sock"), "up");
    wait_until("the metric of the handler", SOON, || up() == 1.0).unwrap();
}

#[test]
fn a_handler_of_a_list_that_is_ejected_is_shown_with_its_next_try() {
    let gateway = TestGateway::with_toml(|environment| {
        let first = handler_socket(&environment.events);
        let list = format!(
            "[\"unix:{}\", {{ address = {}, backup = true }}]",
            environment.path("gone.sock").display(),
            handler_socket(&environment.dialogflow)
        );
        with_admin(environment, &environment.toml("", "").replace(&first, &list))
    })
    .unwrap();
    let socket = gateway.environment.path("admin.sock");
    assert_eq!(health(&json(&socket), "gone.sock"), "down", "it is not there, and no request has found that yet");
    for _ in 0..3 {
        assert_eq!(gateway.connect().unwrap().ask(request("POST", PATH, b"{}")).unwrap().status, 200);
    }
    let facts = json(&socket);
    assert_eq!((health(&facts, "gone.sock"), health(&facts, "dialogflow.sock")), ("ejected".into(), "up".into()));
    let handlers = facts["handlers"].as_array().unwrap();
    let gone = handlers.iter().find(|one| one["socket"].as_str().is_some_and(|path| path.ends_with("gone.sock")));
    assert!(gone.unwrap()["next_try"].as_u64().is_some_and(|seconds| seconds <= 5), "{facts}");
    let routes = facts["routes"].as_array().unwrap();
    let shown = routes.iter().filter_map(|route| route["handler"].as_str()).find(|text| text.contains("gone.sock"));
    assert!(shown.is_some_and(|text| text.ends_with("dialogflow.sock (backup)")), "{facts}");
    let page = ask(&socket, "/status").1;
    assert!(page.contains("failed, and others get its requests: the socket does not exist"), "{page}");
}

#[test]
fn requests_that_wait_for_a_place_are_counted() {
    let gateway = TestGateway::with_toml(|environment| {
        with_admin(environment, &environment.toml("handler_max_in_flight = 1", ""))
    })
    .unwrap();
    gateway.handler().set_behaviour(Behaviour::Delay(Duration::from_secs(2), Behaviour::Json.boxed()));
    let mut connections: Vec<_> = (0..3).map(|_| gateway.connect().unwrap()).collect();
    connections.iter_mut().for_each(|connection| connection.send(request("POST", PATH, b"{}")).unwrap());
    gateway.daemon.wait_metric("hookgate_handler_requests_waiting", &[], 2.0, SOON).unwrap();
    let facts = json(&gateway.environment.path("admin.sock"));
    assert_eq!(
        (&facts["handlers"][0]["in_flight"], &facts["handlers"][0]["waiting"]),
        (&1.into(), &2.into()),
        "{facts}"
    );
    for connection in &mut connections {
        assert_eq!(connection.response().unwrap().status, 200);
    }
    let none = || gateway.daemon.metric("hookgate_handler_requests_waiting", &[]).unwrap() == 0.0;
    wait_until("no request that waits", SOON, none).unwrap();
}

#[test]
fn a_load_that_was_refused_is_told_with_its_reasons() {
    let gateway = start();
    let socket = gateway.environment.path("admin.sock");
    assert_eq!(json(&socket)["configuration"]["result"], "ok");
    let metric = |name: &str| gateway.daemon.metric(name, &[]).unwrap();
    assert_eq!(metric("hookgate_config_last_reload_successful"), 1.0);
    let first = metric("hookgate_config_last_reload_timestamp_seconds");
    assert!(first > 1.7e9, "{first}");
    gateway.daemon.write_configuration("[listen]\nadresses = []\n").unwrap();
    gateway.daemon.signal(Signal::HUP).unwrap();
    gateway.daemon.wait_log("the configuration in use stays as it was", SOON).unwrap();
    let facts = json(&socket);
    assert_eq!(facts["configuration"]["result"], "error", "{facts}");
    assert_eq!(facts["configuration"]["generation"], 1);
    let reasons = facts["configuration"]["reasons"].to_string();
    assert!(reasons.contains("hookgate.toml:2: listen.adresses"), "{reasons}");
    assert_eq!(metric("hookgate_config_last_reload_successful"), 0.0);
    let page = ask(&socket, "/status").1;
    assert!(page.contains("is not in use (error)") && page.contains("listen.adresses"), "{page}");
    gateway.reload(&with_admin(&gateway.environment, &gateway.environment.toml("", ""))).unwrap();
    assert_eq!(json(&socket)["configuration"]["result"], "ok");
    assert_eq!(metric("hookgate_config_last_reload_successful"), 1.0);
}

#[test]
fn a_drain_is_not_ready_and_still_tells() {
    let mut gateway = start();
    let socket = gateway.environment.path("admin.sock");
    gateway.handler().set_behaviour(Behaviour::Delay(Duration::from_secs(3), Behaviour::Json.boxed()));
    let mut connection = gateway.connect().unwrap();
    connection.send(request("POST", PATH, b"{}")).unwrap();
    gateway.handler().wait_for(1, SOON).unwrap();
    gateway.daemon.signal(Signal::TERM).unwrap();
    wait_until("the drain", SOON, || ask(&socket, "/readyz").0 == 503).unwrap();
    assert!(ask(&socket, "/readyz").1.contains("draining"));
    assert_eq!(ask(&socket, "/healthz").0, 200);
    assert_eq!(json(&socket)["process"]["phase"], "draining");
    assert_eq!(connection.response().unwrap().status, 200, "the request in flight is finished");
    gateway.daemon.wait_exit(SOON).unwrap();
    assert!(socket.exists(), "the process may not remove it any more");
    let toml = with_admin(&gateway.environment, &gateway.environment.toml("", ""));
    let again = Gateway::start(&toml, &GatewayOptions::new(BINARY)).unwrap();
    assert_eq!(
        ask(&socket, "/readyz").0,
        200,
        "the next process takes the place of the socket; the log:\n{}",
        again.log()
    );
}

#[test]
fn over_tcp_a_page_of_another_name_learns_nothing() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let gateway = TestGateway::with_toml(|environment| {
        let toml = environment.toml("", "");
        let toml = toml.replace("[metrics]\nlisten = \"127.0.0.1:@METRICS_PORT@\"\n", "");
        format!("{toml}\n[admin]\nlisten = \"127.0.0.1:{port}\"\n")
    })
    .unwrap();
    let url = |path: &str| format!("http://127.0.0.1:{port}{path}");
    assert_eq!(curl(&[], &url("/status")).0, 200);
    assert_eq!(curl(&["--header", "Host: localhost:9465"], &url("/status")).0, 200, "through a tunnel");
    for path in ["/status", "/status.json", "/metrics", "/healthz"] {
        let (status, text) = curl(&["--header", "Host: attacker.example"], &url(path));
        assert!(status == 421 && !text.contains("pagerduty"), "{text}");
    }
    // Without [metrics], the admin side serves the metrics.
    assert!(curl(&[], &url("/metrics")).1.contains("hookgate_build_info"));
    assert!(std::net::TcpStream::connect(gateway.daemon.metrics_address()).is_err());
    gateway.still_serves().unwrap();
}

#[test]
fn an_address_that_other_hosts_reach_is_refused() {
    let environment = Environment::new().unwrap();
    let toml = environment.toml("", "") + "\n[admin]\nlisten = \"0.0.0.0:9465\"\n";
    let error = Gateway::start(&toml, &GatewayOptions::new(BINARY)).unwrap_err();
    let text = format!("{error:#}");
    assert!(text.contains("admin.listen: other hosts can reach 0.0.0.0:9465"), "{text}");
}

#[test]
fn dates_and_providers_are_those_of_the_configuration() {
    let gateway = start();
    let identity = gateway.environment.identity(Sender::Percolate, Variant::Good).unwrap();
    assert_eq!(gateway.curl().identity(&identity).post(PATH, b"{}").run().unwrap().status(), Some(200));
    let facts = json(&gateway.environment.path("admin.sock"));
    let names = |key: &str| {
        let all = facts[key].as_array().unwrap().iter();
        all.map(|row| row["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names("providers"), ["pagerduty", "dialogflow-cx", "dialogflow-es", "percolate"]);
    assert!(names("routes").contains(&"any".to_owned()), "{facts}");
    let of = |kind: &str| facts["dates"].as_array().unwrap().iter().filter(|date| date["kind"] == kind).count();
    assert_eq!((of("server certificate"), of("client certificate")), (1, 1), "{}", facts["dates"]);
    assert!(of("trust anchor") >= 4, "{}", facts["dates"]);
    let days: Vec<u64> =
        facts["dates"].as_array().unwrap().iter().map(|date| date["until"].as_u64().unwrap()).collect();
    assert!(days.is_sorted(), "the first to end first: {days:?}");
}

/// The status page of the real daemon in a headless Chromium, only if it is asked for: docs/development.md says how.
#[test]
fn the_status_page_holds_in_a_browser() {
    if std::env::var_os("HOOKGATE_TEST_BROWSER").is_none() {
        eprintln!("SKIPPED: set HOOKGATE_TEST_BROWSER=1 to look at the status page in Chromium");
        return;
    }
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let gateway = TestGateway::with_toml(|environment| {
        format!("{}\n[admin]\nlisten = \"127.0.0.1:{port}\"\n", environment.toml("", ""))
    })
    .unwrap();
    assert_eq!(gateway.connect().unwrap().ask(request("POST", PATH, b"{}")).unwrap().status, 200);
    let subject = Subject::common_name("<script>alert(1)</script>\"'><img src=x onerror=alert(2)>");
    let hostile = LeafOptions { subject: Some(subject), ..LeafOptions::default() };
    let hostile = gateway.environment.pki.sender(Sender::Percolate).leaf("hostile", &hostile).unwrap();
    assert_eq!(gateway.curl().identity(&hostile).post(PATH, b"{}").run().unwrap().status(), Some(403));
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/browser/status.mjs");
    let mut command = Command::new("node");
    command.arg(script).arg(format!("http://127.0.0.1:{port}/status"));
    // A directory for pictures, if they are wanted.
    command.args(std::env::var_os("HOOKGATE_TEST_PICTURES"));
    let output = command.output().expect("node is installed");
    let text = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&text));
}

#[test]
fn recent_refusals_are_shown_with_their_explanations() {
    let gateway = start();
    let socket = gateway.environment.path("admin.sock");
    assert!(json(&socket)["refusals"].as_array().unwrap().is_empty());
    let subject = Subject::common_name("<script>alert(1)</script>");
    let hostile = LeafOptions { subject: Some(subject), ..LeafOptions::default() };
    let hostile = gateway.environment.pki.sender(Sender::Percolate).leaf("hostile", &hostile).unwrap();
    assert_eq!(gateway.curl().identity(&hostile).post(PATH, b"{}").run().unwrap().status(), Some(403));
    assert_eq!(gateway.curl().post(PATH, b"{}").run().unwrap().status(), Some(403), "no certificate");
    let count = || json(&socket)["refusals"].as_array().unwrap().len();
    wait_until("two refusals", SOON, || count() == 2).unwrap();
    let facts = json(&socket);
    let reasons: Vec<&str> =
        facts["refusals"].as_array().unwrap().iter().map(|it| it["reason"].as_str().unwrap()).collect();
    assert_eq!(reasons, ["no_certificate", "identity_mismatch"], "the newest first");
    let refusal = &facts["refusals"][1];
    assert_eq!(
        (&refusal["what"], &refusal["status"], &refusal["path"]),
        (&"request".into(), &403.into(), &PATH.into())
    );
    assert!(refusal["subject"].as_str().unwrap().contains("script"), "{refusal}");
    assert!(!refusal["explanation"].as_str().unwrap().is_empty(), "{refusal}");
    let page = ask(&socket, "/status").1;
    assert!(page.contains("identity_mismatch") && page.contains("&lt;script"), "{page}");
    assert!(!page.contains("<script"), "{page}");
}

#[test]
fn filter_status_asks_the_admin_side_if_there_is_no_other_place() {
    let gateway = TestGateway::with_toml(|environment| {
        let toml = environment.toml("", "");
        with_admin(environment, &toml.replace("[metrics]\nlisten = \"127.0.0.1:@METRICS_PORT@\"\n", ""))
    })
    .unwrap();
    let mut command = Command::new(BINARY);
    command.args(["filter", "status", "--config"]).arg(gateway.daemon.configuration_path());
    let text = String::from_utf8(command.output().unwrap().stdout).unwrap();
    let socket = gateway.environment.path("admin.sock");
    assert!(text.contains(&format!("Running, according to /metrics at unix:{}:", socket.display())), "{text}");
    assert!(text.contains("hookgate_filter_unavailable 0"), "{text}");
}

/// More clients than the admin side has connections, all silent: they take few descriptors, and keep nobody out.
#[test]
fn silent_clients_of_the_socket_keep_nobody_out() {
    let gateway = start();
    let socket = gateway.environment.path("admin.sock");
    let silent: Vec<_> = (0..100).map(|_| std::os::unix::net::UnixStream::connect(&socket).unwrap()).collect();
    for path in ["/readyz", "/status", "/metrics"] {
        assert_eq!(ask(&socket, path).0, 200, "{path}");
    }
    let flood: Vec<_> = (0..8)
        .map(|_| {
            let socket = socket.clone();
            std::thread::spawn(move || {
                (0..10).map(|_| ask(&socket, "/status").0).filter(|status| *status == 200).count()
            })
        })
        .collect();
    assert_eq!(flood.into_iter().map(|thread| thread.join().unwrap()).sum::<usize>(), 80);
    drop(silent);
    gateway.still_serves().unwrap();
}
