//! The metrics endpoint: every metric with its labels, after traffic of every kind.

use std::collections::BTreeSet;
use std::net::TcpStream;

use hookgate::metrics::table::METRICS;
use hookgate_testkit::gateway::Signal;
use hookgate_testkit::handler::Behaviour;
use hookgate_testkit::http::{self, Response};
use hookgate_testkit::metrics::Metrics;
use hookgate_testkit::pki::{ExtendedKeyUsage, LeafOptions, Sender, Subject, Variant};
use hookgate_testkit::wait::wait_until;

use crate::environment::{PATH, SOON};
use crate::test_gateway::TestGateway;
use crate::tls_client::{TlsClient, request};

/// The response to a scrape.
fn scrape(gateway: &TestGateway) -> Response {
    let response = http::get(gateway.daemon.metrics_address(), "/metrics", SOON).unwrap();
    assert!(response.status == 200 && response.complete, "{response:?}");
    response
}

/// Sends one request of each kind, so that every metric has a value.
fn traffic(gateway: &TestGateway) {
    let mut connection = gateway.connect().unwrap();
    assert_eq!(connection.ask(request("PUT", PATH, b"{}")).unwrap().status, 200);
    assert_eq!(gateway.connect().unwrap().ask(request("POST", PATH, b"{}")).unwrap().status, 200, "resumed");
    assert_eq!(gateway.admitted_curl().post("/nowhere", b"{}").run().unwrap().status(), Some(404));
    assert_eq!(gateway.curl().post(PATH, b"{}").run().unwrap().status(), Some(403), "no certificate");
    let lenient = LeafOptions { extended_key_usage: ExtendedKeyUsage::Absent, ..LeafOptions::default() };
    let lenient = gateway.environment.pki.sender(Sender::Percolate).leaf("lenient", &lenient).unwrap();
    assert_eq!(gateway.curl().identity(&lenient).post(PATH, b"{}").run().unwrap().status(), Some(200));
    gateway.handler().set_behaviour(Behaviour::CloseBeforeAnswering);
    assert_eq!(gateway.admitted_curl().post(PATH, b"{}").run().unwrap().status(), Some(502));
    gateway.handler().set_behaviour(Behaviour::Json);
}

#[test]
fn every_metric_is_exported_with_its_type_and_labels() {
    let gateway = TestGateway::with_limits("").unwrap();
    traffic(&gateway);
    gateway.daemon.wait_metric("hookgate_chain_cache_entries", &[], 1.0, SOON).unwrap();
    let body = scrape(&gateway).text();
    let metrics = Metrics::parse(&body).unwrap();
    let family = |name: &str| {
        let bare = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix));
        bare.unwrap_or(name).to_owned()
    };
    let found: BTreeSet<_> = metrics.0.iter().map(|sample| family(&sample.name)).collect();
    let described: BTreeSet<_> = METRICS.iter().map(|metric| metric.name.to_owned()).collect();
    let unknown: Vec<_> = found.difference(&described).collect();
    assert!(unknown.is_empty(), "without a row in the table: {unknown:?}");
    for metric in METRICS {
        let (name, kind) = (metric.name, metric.kind.label());
        if !found.contains(name) {
            assert!(metric.meaning.contains("Absent "), "{name} is absent, and its row does not say when");
            continue;
        }
        assert!(body.contains(&format!("# TYPE {name} {kind}\n")), "{name} is no {kind}");
        assert!(body.contains(&format!("# HELP {name} {}\n", metric.help())), "{name} has another help");
        let mut labels = metric.labels.to_vec();
        labels.sort_unstable();
        for sample in metrics.0.iter().filter(|sample| family(&sample.name) == name) {
            let keys: Vec<_> = sample.labels.keys().map(String::as_str).filter(|key| *key != "le").collect();
            assert_eq!(keys, labels, "{sample:?}");
        }
    }
}

#[test]
fn requests_and_handshakes_are_counted_by_result() {
    let gateway = TestGateway::with_limits("").unwrap();
    traffic(&gateway);
    // The daemon counts a request after the client has the response, and all of it before its connection ends.
    gateway.daemon.wait_metric("hookgate_requests_total", &[], 6.0, SOON).unwrap();
    gateway.wait_no_connection().unwrap();
    let metrics = gateway.daemon.metrics().unwrap();
    let check = |name: &str, labels: &[(&str, &str)], expected: f64| {
        assert_eq!(metrics.sum(name, labels), expected, "{name} {labels:?}");
    };
    let requests = "hookgate_requests_total";
    check(requests, &[("route", "any"), ("provider", "percolate"), ("status", "200")], 3.0);
    check(requests, &[("route", "any"), ("provider", "percolate"), ("status", "502")], 1.0);
    check(requests, &[("route", ""), ("provider", ""), ("status", "404")], 1.0);
    check(requests, &[("route", "any"), ("provider", ""), ("status", "403")], 1.0);
    check(requests, &[], 6.0);
    check("hookgate_request_duration_seconds_count", &[], 6.0);
    let rejections = "hookgate_rejections_total";
    let named = |reason, blame, provider, route| {
        [("reason", reason), ("blame", blame), ("provider", provider), ("route", route)]
    };
    check(rejections, &named("no_route", "peer", "percolate", ""), 1.0);
    check(rejections, &named("no_certificate", "peer", "", "any"), 1.0);
    check(rejections, &named("handler_unavailable", "handler", "percolate", "any"), 1.0);
    check(rejections, &[], 3.0);
    check("hookgate_request_duration_seconds_count", &[("route", "any")], 5.0);
    check("hookgate_handler_duration_seconds_count", &[("route", "any")], 3.0);
    check("hookgate_request_body_bytes_total", &[("route", "any"), ("provider", "percolate")], 8.0);
    check("hookgate_request_body_bytes_total", &[], 8.0);
    let answered = metrics.sum("hookgate_response_body_bytes_total", &[("route", "any")]);
    assert!(answered > 3.0 * 2.0, "three answers of the handler, and a problem document: {answered}");
    check("hookgate_connections_total", &[], 6.0);
    check("hookgate_handshakes_total", &[("result", "ok")], 6.0);
    check("hookgate_handshakes_total", &[("result", "ok"), ("resumed", "true"), ("version", "1.3")], 1.0);
    check("hookgate_handshake_duration_seconds_count", &[], 6.0);
    let verifications = "hookgate_verifications_total";
    check(verifications, &[("provider", "percolate"), ("result", "ok"), ("reason", ""), ("cache", "miss")], 2.0);
    check(verifications, &[("provider", "percolate"), ("result", "ok"), ("reason", ""), ("cache", "hit")], 3.0);
    check(verifications, &[("result", "refused"), ("reason", "no_certificate")], 1.0);
    check("hookgate_lenient_admissions_total", &[("provider", "percolate"), ("rule", "client-auth")], 1.0);
    let library = if cfg!(feature = "aws-lc") { "aws-lc" } else { "ring" };
    check("hookgate_build_info", &[("version", env!("CARGO_PKG_VERSION")), ("crypto", library)], 1.0);
}

#[test]
fn every_reason_is_exported_before_its_first_refusal() {
    let gateway = TestGateway::with_limits("").unwrap();
    let metrics = gateway.daemon.metrics().unwrap();
    for (reason, blame) in [("certificate_expired", "peer"), ("handler_timeout", "handler"), ("internal", "gateway")] {
        assert!(metrics.has("hookgate_rejections_total", &[("reason", reason), ("blame", blame)]), "{reason}");
    }
    assert_eq!(metrics.sum("hookgate_rejections_total", &[]), 0.0);
}

#[test]
fn a_refused_certificate_counts_for_the_provider_that_it_claims() {
    let gateway = TestGateway::with_limits("").unwrap();
    let refused = |identity, reason| {
        assert_eq!(gateway.curl().identity(&identity).post(PATH, b"{}").run().unwrap().status(), Some(403));
        let labels = [("reason", reason), ("provider", "percolate"), ("route", "any")];
        gateway.daemon.wait_metric("hookgate_rejections_total", &labels, 1.0, SOON).unwrap();
    };
    refused(gateway.environment.identity(Sender::Percolate, Variant::Expired).unwrap(), "certificate_expired");
    let other = LeafOptions { subject: Some(Subject::common_name("Percolate Industries")), ..LeafOptions::default() };
    let other = gateway.environment.pki.sender(Sender::Percolate).leaf("other", &other).unwrap();
    refused(other, "identity_mismatch");
}

#[test]
fn gauges_of_open_connections_and_requests_return_to_zero() {
    let gateway = TestGateway::with_limits("").unwrap();
    gateway.handler().set_behaviour(Behaviour::Delay(std::time::Duration::from_millis(400), Behaviour::Json.boxed()));
    let mut connection = gateway.connect().unwrap();
    connection.send(request("POST", PATH, b"{}")).unwrap();
    gateway.handler().wait_for(1, SOON).unwrap();
    let gauges = ["hookgate_connections_active", "hookgate_handler_requests_in_flight"];
    for gauge in gauges {
        assert_eq!(gateway.daemon.metric(gauge, &[]).unwrap(), 1.0, "{gauge}");
    }
    connection.response().unwrap();
    drop(connection);
    for gauge in gauges {
        wait_until(gauge, SOON, || gateway.daemon.metric(gauge, &[]).unwrap() == 0.0).unwrap();
    }
}

#[test]
fn labels_hold_nothing_that_a_peer_invented() {
    let gateway = TestGateway::with_limits("").unwrap();
    for target in ["/made-up-1", "/made-up-2"] {
        gateway.admitted_curl().request("MADEUP", target).run().unwrap();
    }
    let impostor = gateway.environment.identity(Sender::PagerDuty, Variant::Good).unwrap();
    let client = TlsClient::new(gateway.daemon.port(), &gateway.environment.pki, &impostor).unwrap();
    assert_eq!(client.connect().unwrap().ask(request("POST", PATH, b"{}")).unwrap().status, 403);
    let response = scrape(&gateway);
    let text = format!("{:?}{}", response.fields, response.text()).to_lowercase();
    assert!(!text.contains("made") && !text.contains("webhooks.pagerduty"), "{text}");
}

#[test]
fn only_metrics_is_served_and_in_the_format_of_prometheus() {
    let gateway = TestGateway::with_limits("").unwrap();
    let response = scrape(&gateway);
    assert_eq!(response.field("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    for path in ["/", "/health", "/metrics/", "/debug/pprof/"] {
        assert_eq!(http::get(gateway.daemon.metrics_address(), path, SOON).unwrap().status, 404, "{path}");
    }
}

/// More clients than the endpoint has connections: they take few descriptors, and none from senders or scrapes.
#[test]
fn silent_clients_of_the_endpoint_keep_out_neither_senders_nor_scrapes() {
    let gateway = TestGateway::with_limits("").unwrap();
    let is_root = rustix::process::geteuid().is_root();
    let descriptors = || if is_root { gateway.daemon.fd_count().unwrap() } else { 0 };
    let before = descriptors();
    let silent: Vec<_> = (0..100).map(|_| TcpStream::connect(gateway.daemon.metrics_address()).unwrap()).collect();
    scrape(&gateway);
    gateway.still_serves().unwrap();
    scrape(&gateway);
    let few = || descriptors() <= before + 16 + 4;
    wait_until("16 connections of the endpoint, and a few to handlers", SOON, few).unwrap();
    drop(silent);
    gateway.daemon.reload(&gateway.environment.toml("", ""), SOON).unwrap();
}

#[test]
fn without_a_metrics_section_only_requests_are_served() {
    let gateway = TestGateway::with_toml(|environment| {
        let text = environment.toml("", "");
        let metrics = text.lines().position(|line| line == "[metrics]").unwrap();
        let lines: Vec<_> = text
            .lines()
            .enumerate()
            .filter(|(index, _)| *index != metrics && *index != metrics + 1)
            .map(|(_, line)| line)
            .collect();
        lines.join("\n")
    });
    let gateway = gateway.unwrap();
    assert!(TcpStream::connect(gateway.daemon.metrics_address()).is_err());
    gateway.still_serves().unwrap();
    gateway.daemon.signal(Signal::HUP).unwrap();
    gateway.daemon.wait_log("configuration reloaded", SOON).unwrap();
}
