//! The access log: one event for each request and for each handshake that was refused, with the documented fields, in every format.

mod events;
mod selection;

use std::collections::BTreeSet;
use std::io::Write as _;
use std::time::Duration;

use hookgate_testkit::client::raw;
use hookgate_testkit::configuration::HOST;
use hookgate_testkit::gateway::{Gateway, GatewayOptions};
use hookgate_testkit::handler::Behaviour;
use hookgate_testkit::pki::{LeafOptions, Sender, Subject, SubjectAttribute, Variant};
use serde_json::Value;

use self::events::{Event, Schema, complete_lines, line_of_text, objects, wait_for};
use crate::environment::{BINARY, Environment, PATH, SOON};
use crate::proxy_protocol::{TRUSTED, through_proxy};
use crate::test_gateway::TestGateway;
use crate::tls_client::{TlsClient, request};

/// The daemon with these lines in `[log]`, and `[limits]`.
fn start(log: &str, limits: &str) -> TestGateway {
    TestGateway::with_toml(|environment| with_log(environment, log, limits)).unwrap()
}

/// A configuration with these lines in `[log]`, and `[limits]`, and a proxy.
fn with_log(environment: &Environment, log: &str, limits: &str) -> String {
    let listen = format!("workers = 1\n{TRUSTED}");
    let mut configuration = environment.configuration();
    configuration.listen = &listen;
    configuration.limits = limits;
    format!("{}{}\n[log]\n{log}\n", configuration.toml(), environment.any_method_route(""))
}

/// The one event of the request with this id.
fn event_of(gateway: &TestGateway, request_id: &str) -> Event {
    wait_for(&gateway.daemon, 1, |event| event.text("request_id") == request_id).remove(0)
}

#[test]
fn an_answered_request_has_one_event_with_every_field() {
    let gateway = start("format = \"json\"", "");
    gateway
        .handler()
        .set_behaviour(Behaviour::Delay(Duration::from_millis(30), Behaviour::status(201, "done!").boxed()));
    let mut connection = gateway.connect().unwrap();
    let response = connection.ask(request("PUT", &format!("{PATH}?token=hunter2"), b"{\"a\":1}")).unwrap();
    let event = event_of(&gateway, response.field("x-request-id").unwrap());
    let expected = [
        ("event", "request answered"),
        ("level", "INFO"),
        ("provider", "percolate"),
        ("profile", "digicert-assured-id"),
        ("proof", "certificate"),
        ("route", "any"),
        ("method", "PUT"),
        ("path", PATH),
        ("server_name", HOST),
        ("tls_version", "1.3"),
        ("http_version", "1.1"),
    ];
    for (name, value) in expected {
        assert_eq!(event.text(name), value, "{name}: {event:?}");
    }
    assert!(event.text("subject").contains("CN=Percolate Industries\\, Inc."), "{event:?}");
    assert!(event.text("tls_suite").starts_with("TLS_"), "{event:?}");
    assert!(event.text("peer").starts_with("127.0.0.1:"), "{event:?}");
    assert_eq!(event.0["resumed"], false);
    let number = |name: &str| event.number(name).unwrap_or_else(|| unreachable!("{name}: {event:?}"));
    assert_eq!([number("status"), number("bytes_in"), number("bytes_out"), number("worker")], [201.0, 7.0, 5.0, 0.0]);
    assert!(number("handler_ms") >= 30.0 && number("duration_ms") >= number("to_handler_ms") + number("handler_ms"));
    for absent in ["reason", "detail", "cause", "sample"] {
        assert!(!event.has(absent), "{absent}: {event:?}");
    }
    // The next one of the connection, and one of a resumed session, have their own.
    let second = connection.ask(request("PUT", PATH, b"")).unwrap();
    assert_eq!(event_of(&gateway, second.field("x-request-id").unwrap()).number("bytes_in"), Some(0.0));
    let resumed = gateway.connect().unwrap().ask(request("PUT", PATH, b"")).unwrap();
    assert_eq!(event_of(&gateway, resumed.field("x-request-id").unwrap()).0["resumed"], true);
}

#[test]
fn a_refusal_says_who_where_and_why_in_one_event() {
    let gateway = start("format = \"json\"", "");
    let schema = Schema::read();
    let check = |event: &Event, expected: &[(&str, &str)]| {
        schema.check(event);
        for (name, value) in expected {
            assert_eq!(event.text(name), *value, "{name}: {event:?}");
        }
        assert!(!event.text("detail").is_empty() && event.has("request_id"), "{event:?}");
    };
    let mut connection = gateway.connect().unwrap();
    let response = connection.ask(request("POST", "/pager-duty/7?q=1", b"{}")).unwrap();
    let event = event_of(&gateway, response.field("x-request-id").unwrap());
    let expected = [("reason", "no_route"), ("path", "/pager-duty/7"), ("provider", "percolate"), ("cause", "sender")];
    check(&event, &expected);
    assert!(!event.has("route") && !event.has("handler_ms"), "{event:?}");

    let expired = gateway.environment.identity(Sender::Percolate, Variant::Expired).unwrap();
    let expired = TlsClient::new(gateway.daemon.port(), &gateway.environment.pki, &expired).unwrap();
    let response = expired.connect().unwrap().ask(request("POST", PATH, b"{}")).unwrap();
    let event = event_of(&gateway, response.field("x-request-id").unwrap());
    let expected =
        [("reason", "certificate_expired"), ("path", PATH), ("provider", "percolate"), ("cause", "stranger")];
    check(&event, &expected);
    assert!(!event.has("subject") && !event.has("proof"), "it is not admitted: {event:?}");

    gateway.handler().set_behaviour(Behaviour::CloseBeforeAnswering);
    let response = gateway.connect().unwrap().ask(request("POST", PATH, b"{}")).unwrap();
    let event = event_of(&gateway, response.field("x-request-id").unwrap());
    check(
        &event,
        &[("reason", "handler_unavailable"), ("route", "any"), ("cause", "handler"), ("proof", "certificate")],
    );
    assert!(event.has("handler_ms") && event.number("status") == Some(502.0), "{event:?}");
}

#[test]
fn a_request_that_its_peer_leaves_has_one_event_too() {
    let gateway = start("format = \"json\"", "");
    gateway.handler().set_behaviour(Behaviour::Delay(Duration::from_millis(300), Behaviour::Json.boxed()));
    let mut connection = gateway.connect().unwrap();
    connection.send(request("POST", PATH, b"{}")).unwrap();
    gateway.handler().wait_for(1, SOON).unwrap();
    connection.reset().unwrap();
    let event = wait_for(&gateway.daemon, 1, Event::is_of_access).remove(0);
    assert_eq!((event.text("event"), event.number("status")), ("request abandoned", Some(200.0)), "{event:?}");
    assert_eq!((event.text("route"), event.text("cause")), ("any", "sender"), "{event:?}");

    gateway.handler().set_behaviour(Behaviour::BreakOff { declared: 100, sent: 5 });
    let mut connection = gateway.connect().unwrap();
    connection.send(request("POST", PATH, b"{}")).unwrap();
    connection.end(SOON).unwrap();
    let event = wait_for(&gateway.daemon, 2, Event::is_of_access).remove(1);
    assert_eq!((event.text("event"), event.text("reason")), ("answer cut", "handler_unavailable"), "{event:?}");
    assert_eq!((event.number("status"), event.number("bytes_out")), (Some(200.0), Some(5.0)), "{event:?}");
}

#[test]
fn a_handshake_that_is_refused_has_one_event() {
    let gateway = start("format = \"json\"\nlevel = \"debug\"", "");
    let schema = Schema::read();
    let of_handshakes = |event: &Event| event.text("event").starts_with("handshake ");
    let mut stream = raw::connect(gateway.daemon.port()).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let event = wait_for(&gateway.daemon, 1, of_handshakes).remove(0);
    schema.check(&event);
    assert_eq!((event.text("event"), event.text("reason")), ("handshake refused", "plain_http"));
    assert!(event.number("duration_ms").is_some() && event.text("cause") == "stranger", "{event:?}");
    // A certificate that is refused, without a request to be answered.
    let expired = gateway.environment.identity(Sender::Percolate, Variant::Expired).unwrap();
    let expired = TlsClient::new(gateway.daemon.port(), &gateway.environment.pki, &expired).unwrap();
    drop(expired.connect().unwrap());
    let event = wait_for(&gateway.daemon, 2, of_handshakes).remove(1);
    schema.check(&event);
    assert_eq!((event.text("event"), event.text("reason")), ("handshake refused", "certificate_expired"));
    assert_eq!((event.text("provider"), event.text("tls_version")), ("percolate", "1.3"));
    // Without a certificate it looks like a health check.
    let without = TlsClient::without_certificate(gateway.daemon.port(), &gateway.environment.pki).unwrap();
    drop(without.connect().unwrap());
    let event = wait_for(&gateway.daemon, 3, of_handshakes).remove(2);
    schema.check(&event);
    assert_eq!((event.text("event"), event.text("level")), ("handshake ended", "DEBUG"), "{event:?}");
    // With a request there is the event of the request alone.
    assert_eq!(expired.connect().unwrap().ask(request("POST", PATH, b"{}")).unwrap().status, 403);
    drop(gateway.connect().unwrap());
    gateway.wait_no_connection().unwrap();
    wait_for(&gateway.daemon, 3, of_handshakes);
}

/// Traffic of every kind, hostile values included.
fn traffic(gateway: &TestGateway) {
    let ask = |bytes: &[u8]| gateway.connect().unwrap().ask(bytes).unwrap();
    let hostile = "\" x=1 level=ERROR\nINFO request answered\u{1b}[31m\u{7f}é\u{202e}";
    for target in
        [PATH, "/any/%0aINFO%20request%20answered", "/any/\"x=1\"", "/any/a=b", "/any/'", "/any/{}", "/nowhere"]
    {
        ask(&request("POST", target, b"{}"));
    }
    // Bytes beyond ASCII: those of UTF-8, and others.
    ask(&request("POST", "/any/é\u{202e}\u{9b}", b"{}"));
    ask(&[&b"POST /any/\xff\xfe HTTP/1.1\r\nHost: hooks.example.com\r\nContent-Length: 0\r\n\r\n"[..]].concat());
    for bytes in
        [&b"POST /any/\x1b[2J HTTP/1.1\r\nHost: a\r\n\r\n"[..], b"\x00\xff\"=\n\r\n\r\n", b"{} / HTTP/1.1\r\n\r\n"]
    {
        ask(bytes);
    }
    ask(&request("MADE-UP|~!#$%&'*+", &format!("/any/{}", "x".repeat(3000)), b"{}"));
    ask(&request(&"M".repeat(200), "/any/m", b"{}"));
    let mut options = LeafOptions { subject: Some(Subject::common_name(hostile)), ..LeafOptions::default() };
    let pki = &gateway.environment.pki;
    let stranger = pki.sender(Sender::Percolate).leaf("hostile", &options).unwrap();
    let name = [(SubjectAttribute::Organization, hostile), (SubjectAttribute::CommonName, "webhooks.pagerduty.com")];
    options.subject = Some(Subject::new(&name));
    let sender = pki.sender(Sender::PagerDuty).leaf("hostile-sender", &options).unwrap();
    for (identity, path) in [(&stranger, PATH), (&sender, PATH), (&sender, "/pagerduty")] {
        let client = TlsClient::new(gateway.daemon.port(), pki, identity).unwrap();
        client.connect().unwrap().ask(request("POST", path, b"{}")).unwrap();
    }
    for name in ["hooks..xample.com", "hooks.exämple.co", "hooks.example:443", "\u{1b}[2Jks.example.co"] {
        let mut hello = raw::client_hello(|port| hookgate_testkit::client::OpenSsl::new(HOST, port)).unwrap();
        let place = hello.windows(HOST.len()).position(|window| window == HOST.as_bytes()).unwrap();
        hello[place..place + HOST.len()].copy_from_slice(&name.as_bytes()[..HOST.len()]);
        let mut stream = raw::connect(gateway.daemon.port()).unwrap();
        stream.write_all(&hello).unwrap();
        raw::read_to_end(&mut stream, SOON).unwrap();
    }
    for header in ["PROXY TCP6 ::1 ::1 1 2\r\n", "PROXY UNKNOWN \u{1b}[31m\"x=1\"\r\n"] {
        through_proxy(gateway, header.as_bytes()).ask(request("POST", PATH, b"{}")).unwrap();
    }
    gateway.handler().set_behaviour(Behaviour::BreakOff { declared: 100, sent: 5 });
    let mut connection = gateway.connect().unwrap();
    connection.send(request("POST", PATH, b"{}")).unwrap();
    connection.end(SOON).unwrap();
    gateway.handler().set_behaviour(Behaviour::Json);
    gateway.wait_no_connection().unwrap();
    gateway.still_serves().unwrap();
}

#[test]
fn every_event_fits_the_documented_schema_whatever_peers_send() {
    let gateway = start("format = \"json\"\nlevel = \"info,hookgate=debug\"", "");
    let schema = Schema::read();
    traffic(&gateway);
    gateway.reload(&with_log(&gateway.environment, "format = \"json\"\naccess_sample = 2", "")).unwrap();
    (0..2).for_each(|_| gateway.still_serves().unwrap());
    gateway.daemon.wait_log("\"sample\":2", SOON).unwrap();
    let events = objects(&complete_lines(&gateway.daemon));
    for event in events.iter().filter(|event| event.is_of_access()) {
        schema.check(event);
    }
    for event in &events {
        assert!(!event.text("event").is_empty() && event.text("time").ends_with('Z'), "{event:?}");
        assert!(["ERROR", "WARN", "INFO", "DEBUG"].contains(&event.text("level")), "{event:?}");
    }
    let seen: BTreeSet<&str> =
        events.iter().filter(|it| it.is_of_access()).flat_map(|it| it.0.keys()).map(String::as_str).collect();
    let unseen: Vec<&str> = schema.names().filter(|name| !seen.contains(name)).collect();
    assert_eq!(unseen, Vec::<&str>::new(), "documented, and in no event");
    let path = |wanted: &str| events.iter().any(|event| event.text("path") == wanted);
    assert!(path("/any/%0aINFO%20request%20answered") && path("/any/\"x=1\"") && path("/any/é\u{202e}\u{9b}"));
    let longest = |name: &str| events.iter().map(|event| event.text(name).len()).max();
    assert_eq!((longest("path"), longest("method")), (Some(512), Some(32)));
    let requests = |event: &Event| event.has("request_id");
    let ids: Vec<&str> = events.iter().filter(|it| requests(it)).map(|it| it.text("request_id")).collect();
    assert_eq!(ids.len(), ids.iter().collect::<BTreeSet<_>>().len(), "a request has one event");
}

#[test]
fn text_is_read_back_as_logfmt_whatever_peers_send() {
    let gateway = start("format = \"text\"\nlevel = \"info,hookgate=debug\"", "");
    let schema = Schema::read();
    traffic(&gateway);
    gateway.daemon.wait_log("path=/percolate ", SOON).unwrap();
    let log = complete_lines(&gateway.daemon);
    assert!(log.chars().all(|letter| letter == '\n' || !letter.is_control() && letter != '\u{202e}'), "{log:?}");
    let events: Vec<Event> = log.lines().map(line_of_text).collect();
    for mut event in events.iter().filter(|event| event.is_of_access()).cloned() {
        // Everything is text in logfmt.
        for value in event.0.values_mut() {
            let text = value.as_str().unwrap();
            if let Ok(plain @ (Value::Number(_) | Value::Bool(_))) = serde_json::from_str(text) {
                *value = plain;
            }
        }
        for name in ["tls_version", "http_version", "request_id", "path", "method"] {
            event.0.entry(name.to_owned()).and_modify(|value| *value = value.to_string().into());
        }
        schema.check(&event);
    }
    assert!(events.iter().any(|event| event.text("path") == "/any/é\u{202e}\u{9b}"), "{log}");
    assert!(events.iter().any(|event| event.text("subject").contains("CN=webhooks.pagerduty.com")), "{log}");
}

/// Requests on several connections at once, so that lines of several workers meet.
#[test]
fn lines_of_several_workers_stay_whole() {
    let gateway = TestGateway::with_toml(|environment| {
        with_log(environment, "format = \"json\"\naccess_per_s = 100000", "").replace("workers = 1", "workers = 3")
    });
    let gateway = gateway.unwrap();
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                let mut connection = gateway.connect().unwrap();
                for _ in 0..50 {
                    assert_eq!(connection.ask(request("POST", PATH, b"{}")).unwrap().status, 200);
                }
            });
        }
    });
    let events = wait_for(&gateway.daemon, 300, |event| event.text("event") == "request answered");
    let workers: BTreeSet<u64> = events.iter().filter_map(|event| event.0["worker"].as_u64()).collect();
    assert!(workers.iter().all(|worker| *worker < 3) && workers.len() > 1, "{workers:?}");
}

/// The daemon's options with these arguments after `run`, and this variable.
fn options(arguments: &[&str], variable: Option<&str>) -> GatewayOptions {
    let mut options = GatewayOptions::new(BINARY);
    options.arguments = arguments.iter().map(Into::into).collect();
    options.environment.extend(variable.map(|value| ("HOOKGATE_LOG".into(), value.into())));
    options
}

#[test]
fn the_command_line_decides_about_the_level_then_the_environment_then_the_file() {
    let environment = Environment::new().unwrap();
    let shows_debug = |arguments: &[&str], variable: Option<&str>, level: &str| {
        let toml = with_log(&environment, level, "");
        let gateway = Gateway::start(&toml, &options(arguments, variable)).unwrap();
        drop(raw::connect(gateway.port()).unwrap());
        // Logged at DEBUG, before the next line at INFO is.
        gateway.reload(&toml, SOON).unwrap();
        gateway.wait_log("configuration reloaded", SOON).unwrap();
        gateway.log().contains("handshake ended")
    };
    assert!(!shows_debug(&[], None, ""), "the default is info");
    assert!(shows_debug(&[], None, "level = \"debug\""));
    assert!(!shows_debug(&[], Some("info"), "level = \"debug\""));
    assert!(shows_debug(&[], Some("hookgate::access=debug"), "level = \"error\""));
    assert!(!shows_debug(&["--log", "info"], Some("debug"), "level = \"debug\""));
    assert!(shows_debug(&["--log", "debug"], Some("info"), "level = \"info\""));
    assert!(!shows_debug(&[], Some(""), ""), "an empty variable is none");
}

#[test]
fn a_wrong_level_is_an_error_that_names_the_levels() {
    let environment = Environment::new().unwrap();
    let fails = |arguments: &[&str], variable: Option<&str>, level: &str, place: &str| {
        let toml = with_log(&environment, level, "");
        let error = format!("{:#}", Gateway::start(&toml, &options(arguments, variable)).unwrap_err());
        let expected = format!("{place}: \"verbose\" is no level; write off, error, warn, info, debug or trace");
        assert!(error.contains(&expected) && error.contains("it ended with exit status: 1"), "{error}");
    };
    fails(&["--log", "verbose"], None, "", "--log");
    fails(&["--log=verbose"], Some("info"), "", "--log");
    fails(&[], Some("verbose"), "", "HOOKGATE_LOG");
    fails(&[], None, "level = \"verbose\"", "log.level");
    fails(&[], Some("info"), "level = \"verbose\"", "log.level");
}
