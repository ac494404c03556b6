//! Requests without a route: 404, 405, 421.

use hookgate_testkit::client::TlsVersion;
use hookgate_testkit::configuration::HOST;

use crate::alert::UNRECOGNIZED_NAME;
use crate::environment::PATH;
use crate::problem::assert_problem;
use crate::test_gateway::TestGateway;

#[test]
fn an_unknown_path_is_not_found() {
    let gateway = TestGateway::with_limits("").unwrap();
    for target in ["/", "/percolate/", "/percolate/more", "/PERCOLATE", "/any", "/%70ercolate", "//percolate"] {
        let outcome = gateway.admitted_curl().argument("--path-as-is").post(target, b"{}").run().unwrap();
        assert_problem(outcome.response().unwrap(), 404, "no_route", target);
    }
    assert_eq!(gateway.handler().request_count(), 0);
    assert_eq!(gateway.wait_rejections("no_route", 7.0).unwrap(), 7.0);
}

/// The handler of a prefix must not be taken to a path that another route guards.
#[test]
fn a_path_in_a_spelling_of_another_route_is_malformed() {
    let gateway = TestGateway::with_toml(|environment| {
        let socket = environment.events.path().display().to_string();
        let route = format!("[[route]]\nhost = \"{HOST}\"\npath = \"/any/guarded\"\nproviders = [\"pagerduty\"]");
        format!("{}\n{route}\nhandler = \"unix:{socket}\"\n", environment.toml("", ""))
    });
    let gateway = gateway.unwrap();
    let ask = |target: &str| gateway.admitted_curl().argument("--path-as-is").post(target, b"{}").run().unwrap();
    let outcome = ask("/any/guarded");
    assert_problem(outcome.response().unwrap(), 403, "provider_not_admitted", "as configured");
    for target in
        ["/any/%67uarded", "/any//guarded", "/any/guarded;a=b", "/any/;a/guarded", "/any/guarded%3f", "/any/%2fguarded"]
    {
        let outcome = ask(target);
        let response = outcome.response().unwrap();
        assert_problem(response, 400, "malformed_request", target);
        assert!(response.text().contains("belongs to another route"), "{target}: {response:?}");
    }
    assert_eq!(gateway.handler().request_count(), 0);
    for target in ["/any/guarded/", "/any/a%2fb", "/any/a//b;c", "/any/100%25", "/any/caf%C3%A9"] {
        assert_eq!(ask(target).status(), Some(200), "{target}");
        assert_eq!(gateway.handler().requests().last().unwrap().target, target, "the path is handed over as sent");
    }
}

#[test]
fn a_query_does_not_change_the_route_and_reaches_the_handler() {
    let gateway = TestGateway::with_limits("").unwrap();
    let outcome = gateway.admitted_curl().post("/percolate?a=/b&c=%2e%2e", b"{}").run().unwrap();
    assert_eq!(outcome.status(), Some(200), "{outcome:?}");
    assert_eq!(gateway.handler().requests()[0].target, "/percolate?a=/b&c=%2e%2e");
}

#[test]
fn a_refused_method_is_answered_with_the_allowed_ones() {
    let gateway = TestGateway::with_limits("").unwrap();
    let check = |method: &str, target: &str, allow: &str| {
        let outcome = gateway.admitted_curl().request(method, target).run().unwrap();
        let response = outcome.response().unwrap();
        assert_problem(response, 405, "method_not_allowed", method);
        assert_eq!(response.field("allow"), Some(allow), "{method} {target}");
    };
    check("GET", "/percolate", "POST");
    check("PUT", "/pagerduty", "POST");
    check("post", "/percolate", "POST");
    check("PATCH", PATH, "GET, HEAD, POST, PUT, DELETE");
    check("OPTIONS", PATH, "GET, HEAD, POST, PUT, DELETE");
    check("BREW", PATH, "GET, HEAD, POST, PUT, DELETE");
    assert_eq!(gateway.handler().request_count(), 0);
}

#[test]
fn a_route_for_get_takes_head_and_answers_without_a_body() {
    let gateway = TestGateway::with_toml(|environment| {
        environment
            .toml("", "")
            .replace("methods = [\"GET\", \"HEAD\", \"POST\", \"PUT\", \"DELETE\"]", "methods = [\"GET\", \"POST\"]")
    });
    let gateway = gateway.unwrap();
    let outcome = gateway.admitted_curl().request("GET", PATH).run().unwrap();
    assert_eq!(outcome.status(), Some(200));
    let outcome = gateway.admitted_curl().request("HEAD", PATH).run().unwrap();
    let response = outcome.response().unwrap();
    assert_eq!((response.status, response.text().as_str()), (200, ""), "{response:?}");
    let methods: Vec<_> = gateway.handler().requests().into_iter().map(|request| request.method).collect();
    assert_eq!(methods, ["GET", "HEAD"]);
    let outcome = gateway.admitted_curl().request("PUT", PATH).run().unwrap();
    let response = outcome.response().unwrap();
    assert_problem(response, 405, "method_not_allowed", "PUT");
    assert_eq!(response.field("allow"), Some("GET, HEAD, POST"));
    // It is as guarded as GET.
    assert_eq!(gateway.curl().request("HEAD", PATH).run().unwrap().status(), Some(403));
    assert_eq!(gateway.handler().request_count(), 2);
}

#[test]
fn a_problem_in_response_to_head_has_no_body() {
    let gateway = TestGateway::with_limits("").unwrap();
    let head = format!("HEAD /nowhere HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
    let mut connection = gateway.connect().unwrap();
    connection.send(head).unwrap();
    let answer = connection.read_until("\r\n\r\n", crate::environment::SOON).unwrap();
    assert!(answer.starts_with("HTTP/1.1 404 ") && answer.contains("application/problem+json"), "{answer}");
    let (rest, end) = connection.end(crate::environment::SOON).unwrap();
    assert_eq!((rest.len(), end), (0, crate::tls_client::End::Orderly));
}

#[test]
fn another_host_than_the_server_name_is_misdirected() {
    let gateway = TestGateway::with_limits("").unwrap();
    let misdirected = |line: &str, host: &str| {
        let response = gateway.exchange(format!("POST {line}\r\n{host}Content-Length: 0\r\n\r\n")).unwrap();
        assert_problem(&response, 421, "misdirected", host);
    };
    misdirected("/percolate HTTP/1.1", "Host: other.example.com\r\n");
    misdirected("/percolate HTTP/1.1", "Host: hooks.example.com.evil.example\r\n");
    misdirected("/percolate HTTP/1.1", "Host:\r\n");
    misdirected("/percolate HTTP/1.0", "");
    misdirected("https://other.example.com/percolate HTTP/1.1", "Host: hooks.example.com\r\n");
    assert_eq!(gateway.handler().request_count(), 0);
}

#[test]
fn the_host_is_compared_without_case_port_and_last_dot() {
    let gateway = TestGateway::with_limits("").unwrap();
    for host in ["Hooks.Example.COM", "hooks.example.com:443", "hooks.example.com:8443", "hooks.example.com."] {
        let request = format!("POST {PATH} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(gateway.exchange(request).unwrap().status, 200, "{host}");
    }
}

#[test]
fn an_unknown_server_name_is_answered_or_refused_in_the_handshake() {
    let check = |on_failure: &str, answer: Option<(u16, &str)>, alert: Option<u8>| {
        let gateway = TestGateway::with_toml(|environment| {
            environment.toml("", "").replace("on_failure = \"respond\"", &format!("on_failure = \"{on_failure}\""))
        });
        let gateway = gateway.unwrap();
        for version in TlsVersion::ALL {
            let client = gateway.daemon.openssl("unknown.example.com", &gateway.environment.pki);
            let client = client.version(version).identity(&gateway.identity).post("unknown.example.com", PATH, b"{}");
            let outcome = client.run().unwrap();
            assert_eq!(outcome.alert(), alert, "{version:?}: {}", outcome.stderr);
            match answer {
                Some((status, reason)) => assert_problem(&outcome.response().unwrap(), status, reason, on_failure),
                None => assert!(!outcome.connected() && outcome.responses().is_empty(), "{}", outcome.text()),
            }
        }
        assert_eq!(gateway.wait_rejections("unknown_server_name", 2.0).unwrap(), 2.0);
        gateway.still_serves().unwrap();
    };
    check("respond", Some((421, "unknown_server_name")), None);
    check("abort", None, Some(UNRECOGNIZED_NAME));
}
