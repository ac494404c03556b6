//! Revocation lists that the daemon fetches: from URLs of the configuration, and from those that certificates name.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use hookgate_testkit::client::{OpenSsl, TlsVersion};
use hookgate_testkit::configuration::{HOST, IO, LISTEN_PORT, METRICS_PORT};
use hookgate_testkit::documents::PAGERDUTY;
use hookgate_testkit::gateway::Signal;
use hookgate_testkit::pki::{
    Authority, ClientIdentity, DAY, LeafIssuer, LeafOptions, Pki, RevocationListOptions, Sender, Serial, Subject,
};
use hookgate_testkit::wait::wait_until;

use crate::command::hookgate;
use crate::environment::{Environment, SOON, quoted};
use crate::publisher::{Answer, Publisher};
use crate::test_gateway::TestGateway;
use crate::tls_client::{TlsClient, TlsConnection, request};

const HOUR: Duration = Duration::from_secs(3600);

/// A list of this number, issued so many hours ago, that revokes these certificates.
fn document(authority: &Authority, number: u64, hours: u32, revoked: &[Serial]) -> Vec<u8> {
    let this_update = SystemTime::now() - hours * HOUR;
    let next_update = SystemTime::now() + 7 * DAY;
    let options =
        RevocationListOptions { revoked: revoked.to_vec(), filler_entries: 3, this_update, next_update, number };
    authority.revocation_list_der(&options).unwrap()
}

fn list(document: &[u8]) -> Answer {
    Answer::ok("Cache-Control: max-age=3600\r\n", document)
}

fn issuing(pki: &Pki) -> &Authority {
    &pki.sender(Sender::PagerDuty).intermediate
}

/// The configuration with these lines for PagerDuty, and these at its end. Each `timeout_ms` makes another source, which keeps its copy and
/// is fetched at once.
fn configuration(environment: &Environment, lines: &str, end: &str) -> String {
    let mut configuration = environment.configuration();
    configuration.proofs = vec![("pagerduty", format!("proof = \"certificate\"\ncrl_scope = \"end-entity\"\n{lines}"))];
    configuration.toml() + end
}

/// The line with the list of the issuing authority at `publisher`.
fn urls(publisher: &Publisher, timeout_ms: u32) -> String {
    format!(
        "crl_urls = [{}]\n",
        publisher.table("issuing.crl", &format!(", timeout_ms = {timeout_ms}, max_bytes = 4096"))
    )
}

const FROM_CERTIFICATES: &str = "crls = { from = \"certificates\", allow_private = true }\n";

fn identity(environment: &Environment, name: &str, options: &LeafOptions) -> ClientIdentity {
    environment.pki.sender(Sender::PagerDuty).leaf(name, options).unwrap()
}

/// The status of a request on a new connection, and the reason of a refusal.
fn ask(gateway: &TestGateway, identity: &ClientIdentity) -> (u16, Option<String>) {
    let outcome = gateway.curl().identity(identity).post(PAGERDUTY.path, b"{}").run().unwrap();
    let response = outcome.response();
    assert!(response.is_ok(), "{outcome:?}\n{}", gateway.daemon.log());
    let response = response.unwrap();
    (response.status, response.reason())
}

#[track_caller]
fn expect(gateway: &TestGateway, identity: &ClientIdentity, status: u16, reason: Option<&str>) {
    let seen = ask(gateway, identity);
    assert_eq!(seen, (status, reason.map(str::to_owned)), "{}", gateway.daemon.log());
}

fn fetches(gateway: &TestGateway, result: &str) -> f64 {
    gateway.daemon.metric("hookgate_fetches_total", &[("result", result)]).unwrap()
}

fn wait_fetches(gateway: &TestGateway, result: &str, least: f64) {
    gateway.daemon.wait_metric("hookgate_fetches_total", &[("result", result)], least, SOON).unwrap();
}

fn generation(gateway: &TestGateway) -> f64 {
    gateway.daemon.metric("hookgate_config_generation", &[]).unwrap()
}

/// A state directory, and the section that names it.
fn state(environment: &Environment) -> (PathBuf, String) {
    let kept = environment.state_directory();
    let section = format!("\n[state]\ndirectory = {}\n", quoted(&kept));
    (kept, section)
}

fn kept_files(directory: &Path, prefix: &str) -> Vec<PathBuf> {
    let files = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap());
    files.filter(|file| file.file_name().to_str().unwrap().starts_with(prefix)).map(|file| file.path()).collect()
}

/// Ends the daemon, and starts another one with the same configuration.
fn restart(mut gateway: TestGateway, toml: &str) -> TestGateway {
    gateway.daemon.signal(Signal::TERM).unwrap();
    gateway.daemon.wait_exit(SOON).unwrap();
    let TestGateway { daemon, environment, .. } = gateway;
    drop(daemon);
    TestGateway::in_environment(environment, |_| toml.to_owned()).unwrap()
}

/// A sender's connection, which stays open.
fn connect(gateway: &TestGateway, identity: &ClientIdentity) -> (TlsClient, TlsConnection) {
    let client = TlsClient::new(gateway.daemon.port(), &gateway.environment.pki, identity).unwrap();
    let mut connection = client.connect().unwrap();
    assert_eq!(connection.ask(request("POST", PAGERDUTY.path, b"{}")).unwrap().status, 200, "{}", gateway.daemon.log());
    (client, connection)
}

#[test]
fn a_list_that_revokes_more_takes_effect_for_kept_connections_and_sessions() {
    let environment = Environment::new().unwrap();
    let (revoked, good) =
        (identity(&environment, "r", &Default::default()), identity(&environment, "g", &Default::default()));
    let old = document(issuing(&environment.pki), 7, 30, &[]);
    let publisher = Publisher::start_plain(list(&old)).unwrap();
    let toml = |environment: &Environment, timeout_ms| configuration(environment, &urls(&publisher, timeout_ms), "");
    let gateway = TestGateway::in_environment(environment, |environment| toml(environment, 5000)).unwrap();
    // The first request waits for nothing: the list was there before the first connection.
    let (client, mut kept) = connect(&gateway, &revoked);
    let (_, mut other) = connect(&gateway, &good);
    let session = |identity: &ClientIdentity, version: TlsVersion| {
        (
            gateway.openssl().version(version).identity(identity),
            gateway.environment.path(&format!("{version:?}.session")),
        )
    };
    for version in [TlsVersion::Tls12, TlsVersion::Tls13] {
        let (openssl, file) = session(&revoked, version);
        let outcome = openssl.save_session(&file).post(HOST, PAGERDUTY.path, b"{}").run().unwrap();
        assert_eq!(outcome.response().unwrap().status, 200);
    }
    assert_eq!((publisher.requests(), generation(&gateway)), (1, 1.0));

    // The fetch fails at first, and is made again by itself.
    publisher.set(Answer::Close);
    gateway.reload(&toml(&gateway.environment, 5001)).unwrap();
    expect(&gateway, &revoked, 200, None);
    publisher.set(list(&document(issuing(&gateway.environment.pki), 8, 1, &[revoked.serial])));
    wait_until("the new list is in force", SOON, || generation(&gateway) == 3.0).unwrap();
    let response = kept.ask(request("POST", PAGERDUTY.path, b"{}")).unwrap();
    assert_eq!((response.status, response.reason().as_deref()), (403, Some("certificate_revoked")));
    for version in [TlsVersion::Tls12, TlsVersion::Tls13] {
        let (openssl, file) = session(&revoked, version);
        let outcome = openssl.resume_session(&file).post(HOST, PAGERDUTY.path, b"{}").run().unwrap();
        assert!(!outcome.reused(), "{version:?}: {}", outcome.text());
        assert_eq!(outcome.response().unwrap().reason().as_deref(), Some("certificate_revoked"));
    }
    let response = client.connect().unwrap().ask(request("POST", PAGERDUTY.path, b"{}")).unwrap();
    assert_eq!(response.reason().as_deref(), Some("certificate_revoked"));
    assert_eq!(other.ask(request("POST", PAGERDUTY.path, b"{}")).unwrap().status, 200);
    expect(&gateway, &good, 200, None);
    let log = gateway.daemon.log();
    assert!(log.contains("a revocation list revokes more than before"), "{log}");
    assert!(log.contains("4 entries of ") && log.contains("number 8, of "), "{log}");
}

#[test]
fn a_list_that_revokes_no_more_leaves_sessions_and_connections() {
    let environment = Environment::new().unwrap();
    let (good, other) =
        (identity(&environment, "a", &Default::default()), identity(&environment, "b", &Default::default()));
    let old = document(issuing(&environment.pki), 7, 30, &[other.serial]);
    let publisher = Publisher::start_plain(Answer::status("500 Internal Server Error", "")).unwrap();
    let toml = |environment: &Environment, timeout_ms| configuration(environment, &urls(&publisher, timeout_ms), "");
    let gateway = TestGateway::in_environment(environment, |environment| toml(environment, 5000)).unwrap();
    // What was not fetched yet is the receiver's fault, and passes by itself.
    expect(&gateway, &good, 503, Some("revocation_list_unavailable"));
    publisher.set(list(&old));
    wait_until("the list is in force", SOON, || ask(&gateway, &good).0 == 200).unwrap();
    expect(&gateway, &other, 403, Some("certificate_revoked"));
    assert_eq!(generation(&gateway), 1.0);
    let labels = [("provider", "pagerduty")];
    let ends = gateway.daemon.metric("hookgate_revocation_list_next_update_timestamp_seconds", &labels).unwrap();
    let expected = (SystemTime::now() + 7 * DAY).duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64();
    assert!((ends - expected).abs() < 60.0, "{ends}");

    publisher.set(Answer::Close);
    gateway.reload(&toml(&gateway.environment, 5001)).unwrap();
    let (_, mut kept) = connect(&gateway, &good);
    let openssl = || gateway.openssl().version(TlsVersion::Tls13).identity(&good);
    let session = gateway.environment.path("a.session");
    openssl().save_session(&session).post(HOST, PAGERDUTY.path, b"{}").run().unwrap();
    publisher.set(list(&document(issuing(&gateway.environment.pki), 8, 1, &[other.serial])));
    gateway.daemon.wait_log("number 8, of ", SOON).unwrap();
    assert_eq!(kept.ask(request("POST", PAGERDUTY.path, b"{}")).unwrap().status, 200);
    let outcome = openssl().resume_session(&session).post(HOST, PAGERDUTY.path, b"{}").run().unwrap();
    assert!(outcome.reused(), "{}", outcome.text());
    assert_eq!((outcome.response().unwrap().status, generation(&gateway)), (200, 2.0));
    expect(&gateway, &other, 403, Some("certificate_revoked"));
}

/// Their keys are those of the lists in use: on every host that has the same ones.
#[test]
fn a_list_that_revokes_more_ends_shared_tickets() {
    let environment = Environment::new().unwrap();
    let (good, other) =
        (identity(&environment, "a", &Default::default()), identity(&environment, "b", &Default::default()));
    environment.write("tickets.secret", "0123456789abcdef0123456789abcdef").unwrap();
    let publisher = Publisher::start_plain(list(&document(issuing(&environment.pki), 7, 30, &[]))).unwrap();
    let tickets = |environment: &Environment| {
        format!("\n[tickets]\nsecrets = [{{ file = {} }}]\n", quoted(&environment.path("tickets.secret")))
    };
    let toml = |environment: &Environment, timeout_ms| {
        configuration(environment, &urls(&publisher, timeout_ms), "") + &tickets(environment)
    };
    let gateway = TestGateway::in_environment(environment, |environment| toml(environment, 5000)).unwrap();
    let openssl = |version: TlsVersion| gateway.openssl().version(version).identity(&good);
    let session = |version: TlsVersion| gateway.environment.path(&format!("{version:?}.session"));
    let post = |openssl: OpenSsl| {
        let outcome = openssl.post(HOST, PAGERDUTY.path, b"{}").run().unwrap();
        assert_eq!(outcome.response().unwrap().status, 200, "{}", outcome.text());
        outcome.reused()
    };
    let versions = [TlsVersion::Tls12, TlsVersion::Tls13];
    let saved = || versions.map(|version| post(openssl(version).save_session(&session(version))));
    let resumed = || versions.map(|version| post(openssl(version).resume_session(&session(version))));
    saved();
    // A reload fetches at once, and is no change of trust.
    gateway.reload(&toml(&gateway.environment, 5001)).unwrap();
    assert_eq!(resumed(), [true, true]);
    publisher.set(Answer::Close);
    gateway.reload(&toml(&gateway.environment, 5002)).unwrap();
    publisher.set(list(&document(issuing(&gateway.environment.pki), 8, 1, &[other.serial])));
    wait_until("the new list is in force", SOON, || generation(&gateway) == 4.0).unwrap();
    assert_eq!(resumed(), [false, false], "the list revokes more");
    saved();
    publisher.set(Answer::Close);
    gateway.reload(&toml(&gateway.environment, 5003)).unwrap();
    publisher.set(list(&document(issuing(&gateway.environment.pki), 9, 1, &[other.serial])));
    gateway.daemon.wait_log("number 9, of ", SOON).unwrap();
    assert_eq!((resumed(), generation(&gateway)), ([false, false], 5.0), "another list");
    saved();
    assert_eq!(resumed(), [true, true]);
}

/// Each row is one answer of the publisher. A reload with another bound makes the daemon fetch at once.
#[test]
fn whatever_the_publisher_answers_the_list_in_use_stays() {
    let environment = Environment::new().unwrap();
    let good = identity(&environment, "a", &Default::default());
    let revoked = identity(&environment, "r", &Default::default());
    let pki = &environment.pki;
    let (authority, stranger) = (issuing(pki), &pki.sender(Sender::PagerDuty).impostor_intermediate);
    let current = document(authority, 7, 30, &[revoked.serial]);
    let newer = document(authority, 8, 1, &[]);
    let huge = [newer.as_slice(), &[0; 5000]].concat();
    let cut = |length: usize, sent: usize| {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n").into_bytes();
        Answer::Bytes([head.as_slice(), &newer[..sent]].concat(), Duration::ZERO)
    };
    let future = {
        let (this_update, next_update) = (SystemTime::now() + 5 * HOUR, SystemTime::now() + 7 * DAY);
        let options = RevocationListOptions { this_update, next_update, number: 9, ..Default::default() };
        authority.revocation_list_der(&options).unwrap()
    };
    let rows = [
        ("HTML", "document", "a page of HTML", list(b"<!doctype html><title>Sign in</title>")),
        ("too large", "too_large", "larger than 4096 bytes", list(&huge)),
        ("slow to begin", "timed_out", "no complete answer within", list(&newer).after(Duration::from_secs(3))),
        ("slow to end", "timed_out", "no complete answer within", Answer::Trickle),
        (
            "to another scheme",
            "redirect",
            "is not an http or https URL",
            Answer::status("302 Found", "Location: ftp://127.0.0.1/\r\n"),
        ),
        ("to nobody", "connect", "127.0.0.1:1", Answer::status("302 Found", "Location: http://127.0.0.1:1/\r\n")),
        ("an older list", "older", "(number 6), older than the one in use", list(&document(authority, 6, 20, &[]))),
        ("a list of yesterday", "older", "older than the one in use, of ", list(&document(authority, 8, 50, &[]))),
        ("a list from the future", "refused", "is in the future; check the clock", list(&future)),
        ("a wrong signer", "wrong_signer", "its signature is not by its issuer", list(&document(stranger, 9, 1, &[]))),
        ("a cut body", "http", "cannot be read", cut(newer.len(), 100)),
        ("a cut document", "document", "not a DER-encoded certificate revocation list", cut(100, 100)),
        ("another document", "document", "CERTIFICATE", list(authority.pem().as_bytes())),
        ("an error", "status", "status 500", Answer::status("500 Internal Server Error", "")),
        ("nothing there", "status", "status 404", Answer::status("404 Not Found", "")),
        ("an outage", "http", "HTTP: ", Answer::Close),
    ];
    let publisher = Publisher::start_plain(Answer::Unless("\"seven\"", list(&current).into())).unwrap();
    let toml = |environment: &Environment, timeout_ms| configuration(environment, &urls(&publisher, timeout_ms), "");
    let first = toml(&environment, 1000);
    let gateway = TestGateway::in_environment(environment, |_| first).unwrap();
    let check = |what: &str| {
        assert_eq!(ask(&gateway, &good).0, 200, "{what}: {}", gateway.daemon.log());
        assert_eq!(ask(&gateway, &revoked).1.as_deref(), Some("certificate_revoked"), "{what}");
    };
    check("before");
    for (row, (what, result, words, answer)) in (0..).zip(rows) {
        let before = fetches(&gateway, result);
        publisher.set(answer);
        gateway.reload(&toml(&gateway.environment, 1001 + row)).unwrap();
        wait_fetches(&gateway, result, before + 1.0);
        check(what);
        let log = gateway.daemon.log();
        assert!(log.contains(words) && log.contains("not fetched; the copy in use stays"), "{what}: {log}");
    }
    // The daemon tries again without a further reload.
    publisher.set(list(&newer));
    wait_until("the newer list is in force", SOON, || ask(&gateway, &revoked).0 == 200).unwrap();
}

#[test]
fn an_unchanged_list_is_not_sent_again() {
    let environment = Environment::new().unwrap();
    let good = identity(&environment, "a", &Default::default());
    let current = document(issuing(&environment.pki), 7, 30, &[]);
    let answer = Answer::ok("ETag: \"seven\"\r\n", &current);
    let publisher = Publisher::start_plain(Answer::Unless("\"seven\"", answer.into())).unwrap();
    let toml = |environment: &Environment, timeout_ms| configuration(environment, &urls(&publisher, timeout_ms), "");
    let gateway = TestGateway::in_environment(environment, |environment| toml(environment, 5000)).unwrap();
    expect(&gateway, &good, 200, None);
    gateway.reload(&toml(&gateway.environment, 5001)).unwrap();
    wait_fetches(&gateway, "not_modified", 1.0);
    expect(&gateway, &good, 200, None);
    assert_eq!((fetches(&gateway, "ok"), generation(&gateway)), (1.0, 2.0));
}

#[test]
fn a_restart_without_network_uses_the_kept_list_and_refuses_a_damaged_one() {
    let environment = Environment::new().unwrap();
    let good = identity(&environment, "a", &Default::default());
    let revoked = identity(&environment, "r", &Default::default());
    let publisher =
        Publisher::start_plain(list(&document(issuing(&environment.pki), 7, 30, &[revoked.serial]))).unwrap();
    let (directory, section) = state(&environment);
    let toml = configuration(&environment, &urls(&publisher, 1000), &section);
    let gateway = TestGateway::in_environment(environment, |_| toml.clone()).unwrap();
    expect(&gateway, &good, 200, None);
    wait_until("the copy is kept", SOON, || kept_files(&directory, "crl-").len() == 1).unwrap();

    publisher.set(Answer::Close);
    let gateway = restart(gateway, &toml);
    expect(&gateway, &good, 200, None);
    expect(&gateway, &revoked, 403, Some("certificate_revoked"));
    gateway.daemon.wait_log("using the kept copy", SOON).unwrap();
    let log = gateway.daemon.log();
    assert!(log.contains("entries of ") && log.contains("age_s="), "{log}");
    // An old list in the place of the new one, from whoever answers in the publisher's name.
    publisher.set(list(&document(issuing(&gateway.environment.pki), 6, 40, &[])));
    wait_fetches(&gateway, "older", 1.0);
    expect(&gateway, &revoked, 403, Some("certificate_revoked"));

    publisher.set(Answer::Close);
    let file = kept_files(&directory, "crl-").remove(0);
    let mut bytes = fs::read(&file).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&file, &bytes).unwrap();
    let gateway = restart(gateway, &toml);
    expect(&gateway, &good, 503, Some("revocation_list_unavailable"));
    let log = gateway.daemon.log();
    assert!(log.contains("the kept copy cannot be used") && log.contains("the file is damaged"), "{log}");

    // Without any copy.
    fs::remove_file(&file).unwrap();
    let gateway = restart(gateway, &toml);
    expect(&gateway, &good, 503, Some("revocation_list_unavailable"));
    publisher.set(list(&document(issuing(&gateway.environment.pki), 7, 30, &[])));
    wait_until("the list is in force", SOON, || ask(&gateway, &good).0 == 200).unwrap();
}

#[test]
fn an_expired_list_that_was_kept_refuses_as_an_expired_file_does() {
    let environment = Environment::new().unwrap();
    let good = identity(&environment, "a", &Default::default());
    let soon = SystemTime::now() + Duration::from_secs(4);
    let options = RevocationListOptions { this_update: soon - DAY, next_update: soon, ..Default::default() };
    let publisher =
        Publisher::start_plain(list(&issuing(&environment.pki).revocation_list_der(&options).unwrap())).unwrap();
    let (_, section) = state(&environment);
    let toml = configuration(&environment, &urls(&publisher, 1000), &section);
    let gateway = TestGateway::in_environment(environment, |_| toml.clone()).unwrap();
    expect(&gateway, &good, 200, None);
    publisher.set(Answer::Close);
    let expired = || ask(&gateway, &good) == (503, Some("revocation_list_expired".to_owned()));
    wait_until("the list has expired", SOON, expired).unwrap();
    let gateway = restart(gateway, &toml);
    expect(&gateway, &good, 503, Some("revocation_list_expired"));
}

#[test]
fn lists_are_fetched_from_the_urls_that_genuine_chains_name() {
    let environment = Environment::new().unwrap();
    let publisher = Publisher::start_plain(Answer::Close).unwrap();
    let trap = Publisher::start_plain(Answer::Close).unwrap();
    let named = |urls: &[String]| LeafOptions { list_urls: urls.to_vec(), ..LeafOptions::default() };
    let points = [publisher.url("issuing.crl")];
    let good = identity(&environment, "a", &named(&points));
    let revoked = identity(&environment, "r", &named(&points));
    let silent = identity(&environment, "s", &LeafOptions::default());
    let trapped = || named(&[trap.url("trap.crl")]);
    let strangers = [
        LeafOptions { issuer: LeafIssuer::Impostor, ..trapped() },
        LeafOptions { issuer: LeafIssuer::Stranger, ..trapped() },
        LeafOptions { issuer: LeafIssuer::Itself, ..trapped() },
        LeafOptions { issuer: LeafIssuer::SecondIntermediate, ..trapped() },
        LeafOptions {
            subject: Some(Subject::common_name("somebody.example")),
            dns_names: Some(Vec::new()),
            ..trapped()
        },
    ];
    let strangers: Vec<ClientIdentity> =
        (0..).zip(&strangers).map(|(at, options)| identity(&environment, &format!("x{at}"), options)).collect();
    let (directory, section) = state(&environment);
    let toml = configuration(&environment, FROM_CERTIFICATES, &section);
    let gateway = TestGateway::in_environment(environment, |_| toml.clone()).unwrap();
    for stranger in &strangers {
        assert_ne!(ask(&gateway, stranger).0, 200);
    }
    assert_eq!(publisher.requests(), 0);

    expect(&gateway, &good, 503, Some("revocation_list_unavailable"));
    wait_fetches(&gateway, "http", 1.0);
    publisher.set(list(&document(issuing(&gateway.environment.pki), 7, 30, &[revoked.serial])));
    wait_until("the list is in force", SOON, || ask(&gateway, &good).0 == 200).unwrap();
    expect(&gateway, &revoked, 403, Some("certificate_revoked"));
    // Another certificate of the same issuer is covered by the same list, whatever it names.
    expect(&gateway, &silent, 200, None);
    assert_eq!(generation(&gateway), 1.0);
    gateway.daemon.wait_log("a certificate names a revocation list", SOON).unwrap();
    assert_eq!(trap.requests(), 0, "a URL of a chain that is not genuine was fetched");
    let kept = || kept_files(&directory, "crl-").len() == 1 && kept_files(&directory, "learned-").len() == 1;
    wait_until("URL and list are kept", SOON, kept).unwrap();

    // The next process knows the URL and has the list, before the first chain and without network.
    publisher.set(Answer::Close);
    let gateway = restart(gateway, &toml);
    expect(&gateway, &good, 200, None);
    expect(&gateway, &revoked, 403, Some("certificate_revoked"));
    wait_fetches(&gateway, "http", 1.0);
}

#[test]
fn a_certificate_that_names_no_list_stays_unknown() {
    let environment = Environment::new().unwrap();
    let silent = identity(&environment, "s", &LeafOptions::default());
    let toml = configuration(&environment, "crls = \"from-certificates\"\n", "");
    let gateway = TestGateway::in_environment(environment, |_| toml).unwrap();
    expect(&gateway, &silent, 403, Some("revocation_unknown"));
}

/// A URL of a certificate, as one of the configuration, leads into no network of the operator.
#[test]
fn no_list_comes_from_a_private_address_unless_that_is_allowed() {
    let environment = Environment::new().unwrap();
    let publisher = Publisher::start_plain(Answer::Close).unwrap();
    let options = LeafOptions { list_urls: vec![publisher.url("a.crl")], ..LeafOptions::default() };
    let good = identity(&environment, "a", &options);
    let lines = format!("crls = \"from-certificates\"\ncrl_urls = [\"{}\"]\n", publisher.url("b.crl"));
    let toml = configuration(&environment, &lines, "");
    let gateway = TestGateway::in_environment(environment, |_| toml).unwrap();
    wait_fetches(&gateway, "not_public", 1.0);
    expect(&gateway, &good, 503, Some("revocation_list_unavailable"));
    let of_certificate = || {
        let source = publisher.url("a.crl");
        gateway.daemon.metric("hookgate_fetches_total", &[("source", &source), ("result", "not_public")]).unwrap() > 0.0
    };
    wait_until("the URL of the certificate is refused", SOON, of_certificate).unwrap();
    assert_eq!(publisher.requests(), 0);
}

#[test]
fn a_reload_without_the_urls_is_refused_as_weaker() {
    let environment = Environment::new().unwrap();
    let good = identity(&environment, "a", &Default::default());
    let publisher = Publisher::start_plain(list(&document(issuing(&environment.pki), 7, 30, &[]))).unwrap();
    let with = configuration(&environment, &urls(&publisher, 1000), "");
    let without = configuration(&environment, "", "");
    let gateway = TestGateway::in_environment(environment, |_| with).unwrap();
    gateway.daemon.write_configuration(&without).unwrap();
    gateway.daemon.signal(Signal::HUP).unwrap();
    gateway.daemon.wait_metric("hookgate_config_reloads_total", &[("result", "weaker")], 1.0, SOON).unwrap();
    gateway.daemon.wait_log("revocation is no longer checked (crls, crl_urls)", SOON).unwrap();
    expect(&gateway, &good, 200, None);
    // A file may take the place of the list, unless it is older.
    let file = |hours: u32| {
        let der = document(issuing(&gateway.environment.pki), 7, hours, &[]);
        let path = gateway.environment.write("issuing.crl", der).unwrap();
        configuration(&gateway.environment, &format!("crls = [{}]\n", quoted(&path)), "")
    };
    gateway.daemon.write_configuration(&file(100)).unwrap();
    gateway.daemon.signal(Signal::HUP).unwrap();
    gateway.daemon.wait_metric("hookgate_config_reloads_total", &[("result", "weaker")], 2.0, SOON).unwrap();
    gateway.daemon.wait_log("is older: of ", SOON).unwrap();
    gateway.reload(&file(1)).unwrap();
    expect(&gateway, &good, 200, None);
}

#[test]
fn fetch_says_which_list_came_and_who_signed_it() {
    let environment = Environment::new().unwrap();
    let (authority, root) = (issuing(&environment.pki), &environment.pki.sender(Sender::PagerDuty).root);
    let impostor = &environment.pki.sender(Sender::PagerDuty).impostor_root;
    let publisher = Publisher::start_plain(list(&document(authority, 7, 30, &[]))).unwrap();
    let of_root = Publisher::start(&environment.pki, list(&document(root, 4, 30, &[]))).unwrap();
    let lines = format!("crl_urls = [{}, {}]\n", publisher.table("i.crl", ""), of_root.table("r.crl", ""));
    let text = configuration(&environment, &lines, "");
    let text = text.replace(LISTEN_PORT, "18443").replace(METRICS_PORT, "19464").replace(IO, "auto");
    let file = environment.write("fetched.toml", text).unwrap();
    let fetch = || hookgate(&[OsStr::new("fetch"), OsStr::new("--config"), file.as_os_str()]);
    let finished = fetch();
    let output = finished.stdout_text();
    assert!(finished.status.unwrap().success(), "{}", finished.stderr_text());
    assert!(output.contains("/i.crl (pagerduty): 3 entries of ") && output.contains("number 7, of "), "{output}");
    assert!(output.contains("/r.crl (pagerduty): 3 entries of ") && output.contains("fresh for 3600 s"), "{output}");
    // The root is a trust anchor; who issued the end entities is not known before a chain shows it.
    let unknown = output.matches("is none of the authorities in trust_anchors").count();
    assert_eq!(unknown, 1, "{output}");
    of_root.set(list(&document(impostor, 5, 1, &[])));
    let finished = fetch();
    assert_eq!(finished.status.unwrap().code(), Some(1));
    assert!(
        finished
            .stderr_text()
            .contains("/r.crl (pagerduty): the document is not taken: its signature is not by its issuer")
    );
}

/// Whether the kept copy has the key that signed it.
fn has_kept_signer(directory: &Path) -> bool {
    let files = kept_files(directory, "crl-");
    files.len() == 1 && String::from_utf8_lossy(&fs::read(&files[0]).unwrap()).contains("\"signer\":\"")
}

/// Each row is a good list of an authority, and not of the one whose list the chains need.
#[test]
fn a_list_of_another_issuer_does_not_take_the_place_of_a_good_one() {
    let environment = Environment::new().unwrap();
    let good = identity(&environment, "a", &Default::default());
    let pki = &environment.pki;
    let of_root = list(&document(&pki.sender(Sender::PagerDuty).root, 900, 1, &[]));
    let of_stranger = list(&document(&pki.sender(Sender::Percolate).root, 900, 1, &[]));
    let of_issuer = list(&document(issuing(pki), 7, 30, &[]));
    let publisher = Publisher::start_plain(of_issuer.clone()).unwrap();
    let (directory, section) = state(&environment);
    let toml =
        |environment: &Environment, timeout_ms| configuration(environment, &urls(&publisher, timeout_ms), &section);
    let first = toml(&environment, 5000);
    let gateway = TestGateway::in_environment(environment, |_| first.clone()).unwrap();
    expect(&gateway, &good, 200, None);
    publisher.set(of_root.clone());
    gateway.reload(&toml(&gateway.environment, 5001)).unwrap();
    wait_fetches(&gateway, "refused", 1.0);
    expect(&gateway, &good, 200, None);
    let log = gateway.daemon.log();
    let url = publisher.url("issuing.crl");
    let line = log.lines().find(|line| line.contains("the copy in use stays")).unwrap();
    assert!(line.contains(&format!("provider=pagerduty source={url}")), "{line}");
    assert!(line.contains("it is a list of ") && line.contains("correct what the URL serves"), "{line}");
    publisher.set(of_stranger.clone());
    gateway.reload(&toml(&gateway.environment, 5002)).unwrap();
    wait_fetches(&gateway, "wrong_signer", 1.0);
    expect(&gateway, &good, 200, None);

    // The next process knows the key of the kept copy, although no chain has come yet.
    wait_until("the key is kept", SOON, || has_kept_signer(&directory)).unwrap();
    let mut gateway = gateway;
    for (answer, result) in [(of_stranger, "wrong_signer"), (of_root, "refused")] {
        publisher.set(answer);
        gateway = restart(gateway, &first);
        wait_fetches(&gateway, result, 1.0);
        expect(&gateway, &good, 200, None);
    }
    // `fetch` judges as the daemon does, by the kept copy.
    let text = first.replace(LISTEN_PORT, "18443").replace(METRICS_PORT, "19464").replace(IO, "auto");
    let file = gateway.environment.write("fetched.toml", text).unwrap();
    let finished = hookgate(&[OsStr::new("fetch"), OsStr::new("--config"), file.as_os_str()]);
    let (code, stderr) = (finished.status.unwrap().code(), finished.stderr_text());
    assert!(code == Some(1) && stderr.contains("(pagerduty): the document is not taken: it is a list of "), "{stderr}");
    assert!(stderr.contains("the kept copy stays in use"), "{stderr}");
    publisher.set(of_issuer);
    wait_fetches(&gateway, "unchanged", 1.0);
}

#[test]
fn a_wrong_list_that_came_first_is_named_and_gives_way() {
    let environment = Environment::new().unwrap();
    let good = identity(&environment, "a", &Default::default());
    let of_root = document(&environment.pki.sender(Sender::PagerDuty).root, 900, 1, &[]);
    let publisher = Publisher::start_plain(list(&of_root)).unwrap();
    let toml = |environment: &Environment, timeout_ms| configuration(environment, &urls(&publisher, timeout_ms), "");
    let gateway = TestGateway::in_environment(environment, |environment| toml(environment, 5000)).unwrap();
    let outcome = gateway.curl().identity(&good).post(PAGERDUTY.path, b"{}").run().unwrap();
    let response = outcome.response().unwrap();
    assert_eq!(response.reason().as_deref(), Some("revocation_unknown"), "{}", gateway.daemon.log());
    let body = String::from_utf8_lossy(&response.body).into_owned();
    assert!(body.contains("no URL of crl_urls serves a list of its issuer"), "{body}");
    assert!(!body.contains("127.0.0.1"), "no stranger learns a URL: {body}");
    gateway.daemon.wait_log("no URL of crl_urls serves the revocation list that a certificate needs", SOON).unwrap();
    let served = format!("served=\"{} serves that of ", publisher.url("issuing.crl"));
    assert!(gateway.daemon.log().contains(&served), "{}", gateway.daemon.log());
    publisher.set(list(&document(issuing(&gateway.environment.pki), 7, 30, &[])));
    gateway.reload(&toml(&gateway.environment, 5001)).unwrap();
    wait_until("the right list is in force", SOON, || ask(&gateway, &good).0 == 200).unwrap();
}

/// Plain HTTP may lead to plain HTTP, since the list is signed. TLS is never left.
#[test]
fn a_redirect_from_http_to_http_is_followed_and_one_from_https_to_http_is_not() {
    let environment = Environment::new().unwrap();
    let good = identity(&environment, "a", &Default::default());
    let there = Publisher::start_plain(list(&document(issuing(&environment.pki), 7, 30, &[]))).unwrap();
    let moved = Answer::status("302 Found", &format!("Location: {}\r\n", there.url("moved.crl")));
    let secure = Publisher::start(&environment.pki, moved.clone()).unwrap();
    let plain = Publisher::start_plain(moved).unwrap();
    let line = |publisher: &Publisher| format!("crl_urls = [{}]\n", publisher.table("issuing.crl", ""));
    let text = configuration(&environment, &line(&secure), "");
    let gateway = TestGateway::in_environment(environment, |_| text).unwrap();
    wait_fetches(&gateway, "redirect", 1.0);
    assert_eq!(there.requests(), 0);
    expect(&gateway, &good, 503, Some("revocation_list_unavailable"));
    let log = gateway.daemon.log();
    assert!(log.contains("not fetched; there is no copy to use provider=pagerduty source="), "{log}");
    gateway.reload(&configuration(&gateway.environment, &line(&plain), "")).unwrap();
    wait_until("the list behind the redirect", SOON, || ask(&gateway, &good).0 == 200).unwrap();
}

/// The publisher moves, and the last list at the old URL is over: a reload with the new URL is enough, and admits nobody whom the newest list that
/// was in use does not.
#[test]
fn a_list_that_is_over_gives_way_to_the_one_at_a_new_url() {
    let environment = Environment::new().unwrap();
    let (revoked, good) =
        (identity(&environment, "r", &Default::default()), identity(&environment, "g", &Default::default()));
    let revoking = [revoked.serial];
    let over = {
        let (this_update, next_update) = (SystemTime::now() - 40 * HOUR, SystemTime::now() - HOUR);
        let filler_entries = 3;
        let options =
            RevocationListOptions { revoked: revoking.to_vec(), filler_entries, this_update, next_update, number: 7 };
        issuing(&environment.pki).revocation_list_der(&options).unwrap()
    };
    let (old, new) =
        (Publisher::start_plain(list(&over)).unwrap(), Publisher::start_plain(Answer::status("503 Busy", "")).unwrap());
    let gateway =
        TestGateway::in_environment(environment, |environment| configuration(environment, &urls(&old, 5000), ""))
            .unwrap();
    expect(&gateway, &good, 503, Some("revocation_list_expired"));
    old.set(Answer::status("404 Not Found", ""));
    // A mirror that is behind: its list is not over, and does not know the revocation.
    new.set(list(&document(issuing(&gateway.environment.pki), 6, 50, &[])));
    gateway.reload(&configuration(&gateway.environment, &urls(&new, 5000), "")).unwrap();
    wait_fetches(&gateway, "older", 1.0);
    for identity in [&good, &revoked] {
        expect(&gateway, identity, 503, Some("revocation_list_unavailable"));
    }
    // It catches up, without another reload.
    new.set(list(&document(issuing(&gateway.environment.pki), 8, 1, &revoking)));
    wait_until("the new list", SOON, || ask(&gateway, &good).0 == 200).unwrap();
    expect(&gateway, &revoked, 403, Some("certificate_revoked"));
    assert_eq!(gateway.daemon.metric("hookgate_config_reloads_total", &[("result", "ok")]).unwrap(), 2.0);
}
