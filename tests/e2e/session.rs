//! Full, cached and resumed handshakes, and their sessions when trust changes or certificates expire.

use std::path::PathBuf;
use std::thread;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use hookgate_testkit::client::{OpenSsl, OpenSslConnection, OpenSslOutcome, TlsVersion};
use hookgate_testkit::configuration::HOST;
use hookgate_testkit::documents::PAGERDUTY;
use hookgate_testkit::pki::{ClientIdentity, LeafOptions, Sender, Validity, Variant};

use crate::alert::{ACCESS_DENIED, CERTIFICATE_EXPIRED, CERTIFICATE_REVOKED, UNKNOWN_CA};
use crate::environment::{Environment, SOON, quoted};
use crate::refusal::MODES;
use crate::test_gateway::TestGateway;

/// A client that keeps a session and its connections.
struct ReturningClient<'a> {
    gateway: &'a TestGateway,
    identity: &'a ClientIdentity,
    version: TlsVersion,
    /// Whether it takes session tickets. Without them, TLS 1.2 resumes by the id of a session.
    tickets: bool,
}

/// Each way to resume a session.
const WAYS: [(TlsVersion, bool); 3] =
    [(TlsVersion::Tls12, true), (TlsVersion::Tls12, false), (TlsVersion::Tls13, true)];

impl ReturningClient<'_> {
    fn openssl(&self) -> OpenSsl {
        let openssl = self.gateway.openssl().version(self.version).identity(self.identity);
        if self.tickets { openssl } else { openssl.argument("-no_ticket") }
    }

    /// Sends one request on a new connection.
    fn post(&self, openssl: OpenSsl) -> OpenSslOutcome {
        openssl.post(HOST, PAGERDUTY.path, PAGERDUTY.body.as_bytes()).run().unwrap()
    }

    fn session(&self) -> PathBuf {
        self.gateway.environment.path(&format!("{:?}-{}.session", self.version, self.tickets))
    }

    /// Connects with a full handshake, is admitted, and saves the session.
    fn save_session(&self) {
        let outcome = self.post(self.openssl().save_session(&self.session()));
        assert!(!outcome.reused(), "{}", outcome.text());
        self.expect_status(&outcome, 200);
    }

    /// Sends one request on a connection that offers the saved session.
    fn resume(&self) -> OpenSslOutcome {
        self.post(self.openssl().resume_session(&self.session()))
    }

    fn expect_status(&self, outcome: &OpenSslOutcome, status: u16) {
        let seen = outcome.response().map(|response| response.status);
        assert_eq!(seen, Some(status), "{:?}: {}{}", self.version, outcome.stderr, outcome.text());
    }

    /// Opens a connection, sends a request, which is admitted, and keeps the connection open.
    fn keep_open(&self) -> OpenSslConnection {
        let mut connection = self.openssl().keep_open().unwrap();
        assert_eq!(self.ask(&mut connection, 1).unwrap(), (200, None));
        connection
    }

    /// Sends the `count`th request on an open connection. Returns status and reason of the response.
    fn ask(&self, connection: &mut OpenSslConnection, count: usize) -> Result<(u16, Option<String>)> {
        connection.post(HOST, PAGERDUTY.path, PAGERDUTY.body.as_bytes())?;
        let responses = connection.responses(count, SOON)?;
        let last = responses.last().context("at least one response was waited for")?;
        Ok((last.status, last.reason()))
    }
}

fn verifications(gateway: &TestGateway, cache: &str) -> f64 {
    gateway.daemon.metric("hookgate_verifications_total", &[("cache", cache), ("result", "ok")]).unwrap()
}

#[test]
fn fresh_cached_and_resumed_sessions_are_admitted() {
    let gateway = TestGateway::start().unwrap();
    for (version, tickets) in WAYS {
        // A new chain each time, which is not in the cache.
        let identity = gateway.environment.identity(Sender::PagerDuty, Variant::Good).unwrap();
        let client = ReturningClient { gateway: &gateway, identity: &identity, version, tickets };
        let (hits, misses) = (verifications(&gateway, "hit"), verifications(&gateway, "miss"));
        client.save_session();
        assert_eq!((verifications(&gateway, "hit"), verifications(&gateway, "miss")), (hits, misses + 1.0), "fresh");
        client.save_session();
        assert_eq!(
            (verifications(&gateway, "hit"), verifications(&gateway, "miss")),
            (hits + 1.0, misses + 1.0),
            "cached"
        );
        let label = if version == TlsVersion::Tls12 { "1.2" } else { "1.3" };
        let labels = [("version", label), ("result", "ok"), ("resumed", "true")];
        let resumed = gateway.daemon.metric("hookgate_handshakes_total", &labels).unwrap();
        let outcome = client.resume();
        assert!(outcome.reused(), "{version:?}, tickets {tickets}: {}", outcome.text());
        client.expect_status(&outcome, 200);
        assert_eq!(gateway.daemon.metric("hookgate_handshakes_total", &labels).unwrap(), resumed + 1.0);
        let seen = gateway.environment.events.requests();
        assert_eq!(seen.len(), 3, "{version:?}");
        let certificates: Vec<_> = seen.iter().map(|request| request.field("client-cert")).collect();
        assert!(certificates[0].is_some_and(|field| field.starts_with(':')), "{certificates:?}");
        assert!(certificates.iter().all(|field| *field == certificates[0]), "{certificates:?}");
        gateway.environment.events.forget();
    }
}

#[test]
fn no_session_is_resumed_across_a_reload() {
    let gateway = TestGateway::start().unwrap();
    let identity = gateway.environment.identity(Sender::PagerDuty, Variant::Good).unwrap();
    let clients =
        WAYS.map(|(version, tickets)| ReturningClient { gateway: &gateway, identity: &identity, version, tickets });
    clients.iter().for_each(ReturningClient::save_session);
    gateway.reload(&gateway.environment.configuration().toml()).unwrap();
    for client in &clients {
        let outcome = client.resume();
        assert!(!outcome.reused(), "{:?} was resumed: {}", client.version, outcome.text());
        client.expect_status(&outcome, 200);
    }
}

#[test]
fn a_connection_outlives_a_reload_that_changes_nothing() {
    let gateway = TestGateway::start().unwrap();
    let identity = gateway.environment.identity(Sender::PagerDuty, Variant::Good).unwrap();
    for (version, tickets) in WAYS {
        let client = ReturningClient { gateway: &gateway, identity: &identity, version, tickets };
        let mut connection = client.keep_open();
        gateway.reload(&gateway.environment.configuration().toml()).unwrap();
        assert_eq!(client.ask(&mut connection, 2).unwrap(), (200, None));
    }
}

/// A change of trust that invalidates PagerDuty's good certificate.
struct Change {
    /// The new configuration.
    configuration: fn(&Environment, &ClientIdentity, String) -> Result<String>,
    reason: &'static str,
    alert: u8,
}

const REVOKED: Change = Change {
    configuration: |environment, identity, text| {
        let lists = environment.pki.sender(Sender::PagerDuty).revoke(&[identity])?;
        let lists = lists.each_ref().map(|path| quoted(path)).join(", ");
        in_pagerduty(&text, "preset = \"pagerduty\"", &format!("preset = \"pagerduty\"\ncrls = [{lists}]"))
    },
    reason: "certificate_revoked",
    alert: CERTIFICATE_REVOKED,
};

const RENAMED: Change = Change {
    configuration: |_, _, text| {
        let identity = "preset = \"pagerduty\"\nidentity = [{ subject_cn = \"elsewhere.pagerduty.com\" }]";
        in_pagerduty(&text, "preset = \"pagerduty\"", identity)
    },
    reason: "identity_mismatch",
    alert: ACCESS_DENIED,
};

const ANCHOR_REPLACED: Change = Change {
    configuration: |environment, _, text| {
        let old = quoted(environment.pki.sender(Sender::PagerDuty).root.path());
        in_pagerduty(&text, &old, &quoted(environment.pki.sender(Sender::DialogflowNewer).root.path()))
    },
    reason: "unknown_issuer",
    alert: UNKNOWN_CA,
};

/// `text` with its first `old` replaced by `new`.
fn in_pagerduty(text: &str, old: &str, new: &str) -> Result<String> {
    let (before, after) = text.split_once(old).with_context(|| format!("no {old} in {text}"))?;
    Ok(format!("{before}{new}{after}"))
}

/// Fails unless a client that was admitted before `change` is refused after it, on its open connection and when it offers its
/// session, in both modes and versions.
fn check_change(change: &Change) {
    for on_failure in MODES {
        let gateway = TestGateway::configured(|configuration| configuration.on_failure = on_failure).unwrap();
        let identity = gateway.environment.identity(Sender::PagerDuty, Variant::Good).unwrap();
        let clients =
            WAYS.map(|(version, tickets)| ReturningClient { gateway: &gateway, identity: &identity, version, tickets });
        clients.iter().for_each(ReturningClient::save_session);
        let mut connections = clients.each_ref().map(ReturningClient::keep_open);
        let mut configuration = gateway.environment.configuration();
        configuration.on_failure = on_failure;
        gateway
            .reload(&(change.configuration)(&gateway.environment, &identity, configuration.toml()).unwrap())
            .unwrap();
        let handled = gateway.environment.handled();
        for (client, connection) in clients.iter().zip(&mut connections) {
            let seen = client.ask(connection, 2).unwrap();
            assert_eq!(seen, (403, Some(change.reason.to_owned())), "kept alive, {:?}", client.version);
            let outcome = client.resume();
            let context = format!("{on_failure}, {:?}: {}{}", client.version, outcome.stderr, outcome.text());
            assert!(!outcome.reused(), "{context}");
            if on_failure == "abort" {
                assert_eq!((outcome.alert(), outcome.response()), (Some(change.alert), None), "{context}");
            } else {
                client.expect_status(&outcome, 403);
                assert_eq!(outcome.response().unwrap().reason().as_deref(), Some(change.reason), "{context}");
            }
        }
        assert_eq!(gateway.environment.handled(), handled, "a handler saw a request of a refused peer");
        gateway.wait_rejections(change.reason, 4.0).unwrap();
    }
}

#[test]
fn a_certificate_revoked_by_a_reload_is_refused_when_kept_alive_or_resumed() {
    check_change(&REVOKED);
}

#[test]
fn an_identity_changed_by_a_reload_is_refused_when_kept_alive_or_resumed() {
    check_change(&RENAMED);
}

#[test]
fn an_anchor_replaced_by_a_reload_is_refused_when_kept_alive_or_resumed() {
    check_change(&ANCHOR_REPLACED);
}

/// The validity of the certificate that expires: enough for all requests before that, also on a busy machine.
const SHORT_LIFE: Duration = Duration::from_secs(4);

/// How long after notAfter the certificate is surely expired: notAfter is the last valid second, and the workers' clock is coarse.
const PAST: Duration = Duration::from_millis(1500);

/// Fails unless a certificate is refused after it expired, although its chain is cached, its sessions can be resumed and its
/// connections are open, without a reload.
fn check_expiry(on_failure: &'static str) {
    let gateway = TestGateway::configured(|configuration| configuration.on_failure = on_failure).unwrap();
    let until = SystemTime::now() + SHORT_LIFE;
    let validity = Validity::Between(SystemTime::now() - Duration::from_secs(3600), until);
    let options = LeafOptions { validity, ..LeafOptions::default() };
    let identity = gateway.environment.pki.sender(Sender::PagerDuty).leaf("short", &options).unwrap();
    let clients =
        WAYS.map(|(version, tickets)| ReturningClient { gateway: &gateway, identity: &identity, version, tickets });
    clients.iter().for_each(ReturningClient::save_session);
    let mut connections = clients.each_ref().map(ReturningClient::keep_open);
    let hits = verifications(&gateway, "hit");
    assert!(hits > 0.0, "the chain was never found in the cache");
    thread::sleep(until.duration_since(SystemTime::now()).unwrap_or_default() + PAST);
    let handled = gateway.environment.handled();
    for (client, connection) in clients.iter().zip(&mut connections) {
        let expired = (403, Some("certificate_expired".to_owned()));
        assert_eq!(client.ask(connection, 2).unwrap(), expired, "kept alive, {:?}", client.version);
        let resumed = client.resume();
        // The session is good, so the refusal is a problem document in both modes.
        assert!(resumed.reused(), "{:?}: {}", client.version, resumed.text());
        client.expect_status(&resumed, 403);
        assert_eq!(resumed.response().unwrap().reason().as_deref(), Some("certificate_expired"));
        let cached = client.post(client.openssl());
        if on_failure == "abort" {
            assert_eq!((cached.alert(), cached.response()), (Some(CERTIFICATE_EXPIRED), None), "{}", cached.stderr);
        } else {
            client.expect_status(&cached, 403);
        }
    }
    assert_eq!(gateway.environment.handled(), handled, "a handler saw a request of a peer with an expired certificate");
    gateway.wait_rejections("certificate_expired", 6.0).unwrap();
    assert_eq!(gateway.daemon.metric("hookgate_config_generation", &[]).unwrap(), 1.0);
    assert_eq!(verifications(&gateway, "hit"), hits, "an expired chain was found in the cache");
}

#[test]
fn a_certificate_that_expires_is_refused_when_cached_kept_alive_or_resumed() {
    check_expiry("respond");
}

#[test]
fn a_certificate_that_expires_is_refused_when_cached_kept_alive_or_resumed_if_handshakes_abort() {
    check_expiry("abort");
}

/// The ticket acknowledges the client's last flight. Without that, a client with Nagle's algorithm holds its request back for 40 ms.
#[test]
fn a_ticket_is_sent_before_a_request() {
    let gateway = TestGateway::start().unwrap();
    let stream = gateway.client.connect_tcp().unwrap();
    let _connection = gateway.client.handshake(stream.try_clone().unwrap()).unwrap();
    // Long before the time of the first request is over, when it would be sent with the answer.
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    assert_eq!(stream.peek(&mut [0; 1]).unwrap(), 1);
}
