//! Routes for the names below a domain: which names, which providers, and that a connection stays with one name.

use hookgate_testkit::configuration::HOST;
use hookgate_testkit::http;
use hookgate_testkit::pki::{ClientIdentity, KeyKind, Sender, Variant};

use crate::environment::{Environment, handler_socket};
use crate::problem::assert_problem;
use crate::test_gateway::TestGateway;

/// Percolate at every name below `tenants.example.com`, and PagerDuty at one of them beside it.
pub(crate) fn configuration(environment: &Environment) -> String {
    let server = environment.pki.server("tenants", &[HOST, "*.tenants.example.com"], KeyKind::P256).unwrap();
    let handler = handler_socket(&environment.events);
    let route = |host: &str, path: &str, provider: &str| {
        format!(
            "[[route]]\nname = \"{provider} at {host}{path}\"\nhost = \"{host}\"\npath = \"{path}\"\nproviders = [\"{provider}\"]\nhandler = {handler}\n"
        )
    };
    let mut configuration = environment.configuration();
    configuration.certificates = vec![&server];
    [
        configuration.toml(),
        route("*.tenants.example.com", "/all", "percolate"),
        route("vip.tenants.example.com", "/own", "pagerduty"),
        route("vip.tenants.example.com", "/shared/*", "percolate"),
        route("*.tenants.example.com", "/shared/a", "percolate"),
    ]
    .concat()
}

struct Wildcard {
    gateway: TestGateway,
    pagerduty: ClientIdentity,
}

impl Wildcard {
    fn start() -> Self {
        let gateway = TestGateway::with_toml(configuration).unwrap();
        let pagerduty = gateway.environment.identity(Sender::PagerDuty, Variant::Good).unwrap();
        Self { gateway, pagerduty }
    }

    /// A request of this sender to a host. The answer must be this status, with this reason if it is a refusal.
    fn check(&self, identity: &ClientIdentity, host: &str, path: &str, (status, reason): (u16, &str)) {
        let Self { gateway, .. } = self;
        let curl = gateway.daemon.curl(host, &gateway.environment.pki).identity(identity);
        let outcome = curl.post(path, b"{}").run().unwrap();
        assert_eq!(outcome.status(), Some(status), "{host}{path}: {outcome:?}");
        if !reason.is_empty() {
            assert_problem(outcome.response().unwrap(), status, reason, &format!("{host}{path}"));
        }
    }
}

#[test]
fn a_wildcard_serves_every_name_of_one_label_more() {
    let wildcard = Wildcard::start();
    let percolate = &wildcard.gateway.identity;
    for host in ["a.tenants.example.com", "b-1.tenants.example.com", "vip.tenants.example.com", "A.Tenants.Example.com"]
    {
        wildcard.check(percolate, host, "/all", (200, ""));
        let host_field = wildcard.gateway.handler().requests().pop().unwrap();
        assert!(host_field.field("x-forwarded-host").unwrap().eq_ignore_ascii_case(host), "{host_field:?}");
    }
    wildcard.check(percolate, HOST, "/all", (404, "no_route"));
    // The name of its own comes first, and keeps what it shares.
    wildcard.check(percolate, "vip.tenants.example.com", "/shared/a", (200, ""));
    wildcard.check(percolate, "a.tenants.example.com", "/shared/b", (404, "no_route"));
    wildcard
        .gateway
        .daemon
        .wait_log("route=\"percolate at vip.tenants.example.com/shared/*\"", crate::environment::SOON)
        .unwrap();
    for host in ["b.a.tenants.example.com", "tenants.example.com"] {
        let gateway = &wildcard.gateway;
        let client = gateway.daemon.openssl(host, &gateway.environment.pki).identity(percolate);
        let outcome = client.post(host, "/all", b"{}").run().unwrap();
        assert_problem(&outcome.response().unwrap(), 421, "unknown_server_name", host);
    }
}

#[test]
fn a_certificate_counts_at_the_names_of_its_routes_alone() {
    let wildcard = Wildcard::start();
    let (percolate, pagerduty) = (&wildcard.gateway.identity, &wildcard.pagerduty);
    wildcard.check(pagerduty, "vip.tenants.example.com", "/own", (200, ""));
    wildcard.check(pagerduty, "vip.tenants.example.com", "/all", (403, "provider_not_admitted"));
    wildcard.check(percolate, "vip.tenants.example.com", "/own", (403, "provider_not_admitted"));
    // No route of these names admits it, so no handshake for them proves it.
    for path in ["/own", "/all", "/shared/a"] {
        wildcard.check(pagerduty, "a.tenants.example.com", path, (403, "unknown_issuer"));
    }
    assert_eq!(wildcard.gateway.handler().request_count(), 1);
}

#[test]
fn another_name_of_the_same_wildcard_is_misdirected() {
    let wildcard = Wildcard::start();
    let gateway = &wildcard.gateway;
    let client = |name: &str, host: &str, path: &str, identity: &ClientIdentity| {
        let client = gateway.daemon.openssl(name, &gateway.environment.pki).identity(identity);
        client
            .send(&http::request("POST", path, host, &[("Connection", "close")], b"{}"))
            .run()
            .unwrap()
            .response()
            .unwrap()
    };
    let percolate = &gateway.identity;
    let response = client("a.tenants.example.com", "a.tenants.example.com", "/all", percolate);
    assert_eq!(response.status, 200);
    for host in ["b.tenants.example.com", "vip.tenants.example.com", HOST, "tenants.example.com"] {
        let response = client("a.tenants.example.com", host, "/all", percolate);
        assert_problem(&response, 421, "misdirected", host);
    }
    // A session of one name is verified again for another one.
    let response = client("vip.tenants.example.com", "a.tenants.example.com", "/own", &wildcard.pagerduty);
    assert_problem(&response, 421, "misdirected", "the scope of the other name");
    assert_eq!(gateway.handler().request_count(), 1);
}
