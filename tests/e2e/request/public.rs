//! A route that hookgate answers itself, to every client.

use hookgate_testkit::configuration::HOST;
use hookgate_testkit::http;
use hookgate_testkit::pki::{KeyKind, Sender, Variant};

use crate::environment::{Environment, PATH, SOON};
use crate::problem::assert_problem;
use crate::test_gateway::TestGateway;
use crate::tls_client::{End, request};

/// The configuration of the tests with a public route at [`HOST`].
fn configuration(environment: &Environment, on_failure: &str) -> String {
    let toml = environment.toml("", "").replace("on_failure = \"respond\"", &format!("on_failure = \"{on_failure}\""));
    toml + &public(&format!("host = \"{HOST}\""))
}

fn public(lines: &str) -> String {
    format!("\n[[route]]\nname = \"up\"\npath = \"/healthz\"\nrespond = 200\n{lines}\n")
}

#[test]
fn anyone_gets_the_public_answer_and_nothing_else() {
    let gateway = TestGateway::with_toml(|environment| configuration(environment, "respond")).unwrap();
    let ask = |method: &str, target: &str| gateway.curl().request(method, target).run().unwrap();
    for method in ["GET", "HEAD"] {
        for target in ["/healthz", "/healthz?probe=1"] {
            let outcome = ask(method, target);
            let response = outcome.response().unwrap();
            assert_eq!((response.status, response.text().as_str()), (200, ""), "{method} {target}: {response:?}");
            let length = response.field("content-length");
            assert!(length == Some("0") || method == "HEAD" && length.is_none(), "{response:?}");
            assert_eq!(response.field("cache-control"), Some("no-store"));
            assert!(response.field("x-request-id").is_some() && response.field("server").is_none(), "{response:?}");
            assert_eq!(response.field("connection"), Some("close"), "a stranger has one request");
        }
    }
    // Of every other path and method, a peer without a certificate learns no more than without this route.
    for (method, target) in [
        ("POST", "/healthz"),
        ("DELETE", "/healthz"),
        ("GET", "/healthz/"),
        ("GET", "/healthz/x"),
        ("GET", "/HEALTHZ"),
        ("GET", "/nowhere"),
        ("GET", PATH),
        ("POST", "/percolate"),
    ] {
        let outcome = ask(method, target);
        assert_problem(outcome.response().unwrap(), 403, "no_certificate", &format!("{method} {target}"));
    }
    // A refused certificate changes nothing.
    let expired = gateway.environment.identity(Sender::Percolate, Variant::Expired).unwrap();
    let with = |method: &str, target: &str| gateway.curl().identity(&expired).request(method, target).run().unwrap();
    assert_eq!(with("GET", "/healthz").status(), Some(200));
    assert_problem(with("GET", PATH).response().unwrap(), 403, "certificate_expired", "a refused certificate");
    assert_eq!(gateway.handler().request_count(), 0);
    let labels = [("route", "up"), ("provider", ""), ("status", "200")];
    assert_eq!(gateway.daemon.wait_metric("hookgate_requests_total", &labels, 5.0, SOON).unwrap(), 5.0);
    assert_eq!(gateway.daemon.metric("hookgate_rejections_total", &[("route", "up")]).unwrap(), 0.0);
    assert_eq!(gateway.daemon.metric("hookgate_unadmitted_connections", &[]).unwrap_or_default(), 0.0);
    gateway.daemon.wait_log("request answered status=200 route=up", SOON).unwrap();
    let log = gateway.daemon.log();
    let answered = log.lines().filter(|line| line.contains("request answered") && line.contains("route=up"));
    assert!(answered.clone().count() >= 5 && answered.clone().all(|line| line.contains("cause=stranger")), "{log}");
    gateway.still_serves().unwrap();
}

#[test]
fn a_sender_keeps_its_connection_and_a_body_is_not_read() {
    let gateway = TestGateway::with_toml(|environment| configuration(environment, "respond")).unwrap();
    let mut connection = gateway.connect().unwrap();
    let get = http::request("GET", "/healthz", HOST, &[], b"");
    for _ in 0..2 {
        let response = connection.ask(&get).unwrap();
        assert_eq!((response.status, response.field("connection")), (200, None), "{response:?}");
        assert_eq!(connection.ask(request("POST", PATH, b"{}")).unwrap().status, 200);
    }
    let response = connection.ask(http::request("GET", "/healthz", HOST, &[], &[b'x'; 100_000])).unwrap();
    assert_eq!((response.status, response.field("connection")), (200, Some("close")), "{response:?}");
    assert_eq!(connection.end(SOON).unwrap(), (Vec::new(), End::Orderly));
    assert_eq!(gateway.handler().request_count(), 2);
}

#[test]
fn a_public_route_at_a_host_that_aborts_asks_and_goes_on() {
    let gateway = TestGateway::with_toml(|environment| configuration(environment, "abort")).unwrap();
    let get = |target: &str| gateway.curl().request("GET", target).run().unwrap();
    assert_eq!(get("/healthz").status(), Some(200));
    assert_problem(get(PATH).response().unwrap(), 403, "no_certificate", "another path");
    // A certificate that is refused ends the handshake, as everywhere.
    let expired = gateway.environment.identity(Sender::Percolate, Variant::Expired).unwrap();
    let outcome = gateway.openssl().identity(&expired).post(HOST, "/healthz", b"").run().unwrap();
    assert!(outcome.alert().is_some() && outcome.responses().is_empty(), "{}", outcome.text());
    gateway.still_serves().unwrap();
    // Without the route, so does an absent one.
    let without = configuration(&gateway.environment, "abort");
    gateway.reload(&without[..without.find("\n[[route]]\nname = \"up\"").unwrap()]).unwrap();
    let outcome = gateway.openssl().post(HOST, "/healthz", b"").run().unwrap();
    assert!(outcome.alert().is_some() && outcome.responses().is_empty(), "{}", outcome.text());
}

#[test]
fn a_checker_without_a_server_name_is_answered_at_every_host() {
    let gateway = TestGateway::with_toml(|environment| {
        environment.toml("", "").replace("on_failure = \"respond\"", "on_failure = \"abort\"") + &public("")
    });
    let gateway = gateway.unwrap();
    // curl sends no server name for an address.
    let curl = || gateway.daemon.curl("127.0.0.1", &gateway.environment.pki);
    assert_eq!(curl().request("GET", "/healthz").run().unwrap().status(), Some(200));
    let old =
        curl().argument("--http1.0").argument("--no-alpn").request("GET", "/healthz").field("Host", "").run().unwrap();
    assert_eq!(old.status(), Some(200), "a check in HTTP/1.0 without a host: {old:?}");
    let outcome = curl().request("GET", "/percolate").field("Host", HOST).run().unwrap();
    assert_problem(outcome.response().unwrap(), 403, "no_certificate", "another path without a server name");
    // A name that no route has but this one.
    let client = gateway.daemon.openssl("elsewhere.example.net", &gateway.environment.pki);
    let send = |target: &str| {
        let bytes = http::request("GET", target, "elsewhere.example.net", &[("Connection", "close")], b"");
        client.clone().send(&bytes).run().unwrap().response().unwrap()
    };
    assert_eq!(send("/healthz").status, 200);
    assert_problem(&send("/percolate"), 404, "no_route", "a host with the public route alone");
    assert_eq!(gateway.handler().request_count(), 0);
}

#[test]
fn a_host_with_a_public_route_alone_asks_for_no_certificate() {
    const HEALTH: &str = "health.example.com";
    let gateway = TestGateway::with_toml(|environment| {
        let server = environment.pki.server("health", &[HOST, HEALTH], KeyKind::P256).unwrap();
        let mut configuration = environment.configuration();
        configuration.certificates = vec![&server];
        configuration.on_failure = "abort";
        configuration.toml() + &public(&format!("host = \"{HEALTH}\""))
    });
    let gateway = gateway.unwrap();
    let client = gateway.daemon.openssl(HEALTH, &gateway.environment.pki);
    let bytes = http::request("GET", "/healthz", HEALTH, &[("Connection", "close")], b"");
    let outcome = client.send(&bytes).run().unwrap();
    assert_eq!(outcome.response().unwrap().status, 200);
    assert!(outcome.text().contains("No client certificate CA names sent"), "{}", outcome.text());
    // The other host is as it was.
    let outcome = gateway.openssl().post(HOST, "/healthz", b"").run().unwrap();
    assert!(outcome.alert().is_some() && outcome.responses().is_empty(), "{}", outcome.text());
}

#[test]
fn explain_and_check_know_a_public_route() {
    use std::ffi::OsStr;
    let gateway = TestGateway::with_toml(|environment| configuration(environment, "abort")).unwrap();
    let path = gateway.daemon.configuration_path();
    let run = |arguments: &[&str]| {
        let mut all: Vec<&OsStr> = arguments.iter().map(OsStr::new).collect();
        all.splice(1..1, [OsStr::new("--config"), path.as_os_str()]);
        crate::command::hookgate(&all)
    };
    let explained = run(&["explain", "--server-name", HOST, "--method", "GET", "--path", "/healthz"]);
    assert!(explained.success(), "{}", explained.stdout_text());
    assert!(explained.stdout_text().contains("The route up answers everyone with 200."), "{}", explained.stdout_text());
    let checked = run(&["check"]);
    let text = checked.stdout_text() + &checked.stderr_text();
    assert!(text.contains("respond: the hosts of this route ask for a certificate and go on without one"), "{text}");
}
