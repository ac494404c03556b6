//! Every preset, in every configuration of its page in docs/senders: what its sender documents reaches the handler, and what it would not
//! send is refused for the right reason.
//!
//! One daemon has all of them, so a run costs one start. [`page`] reads the pages, [`senders`] is the table of requests. A preset whose roots
//! are public has throwaway ones instead, by `trust_anchors`, as an operator would replace them.

mod page;
mod senders;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use hookgate_testkit::client::TlsVersion;
use hookgate_testkit::configuration::HOST;
use hookgate_testkit::http::{self, Response};
use hookgate_testkit::pki::{ClientIdentity, LeafIssuer, LeafOptions, Sender, Subject};

use self::page::Page;
use self::senders::{Certificate, Senders, Sent};
use crate::environment::Environment;
use crate::problem::assert_problem;
use crate::proof::assert_challenge;
use crate::test_gateway::TestGateway;
use crate::tls_client::TlsClient;

/// What a provider of a page takes, and what it refuses.
struct Case {
    /// Its name, which is that of its preset, or one of the page's own.
    provider: &'static str,
    certificate: Option<Certificate>,
    /// `X-Hookgate-Proof` at the handler.
    proof: &'static str,
    sent: Sent,
    /// What is wrong, the request, and the answer.
    refused: Vec<(&'static str, Sent, (u16, &'static str))>,
    /// Whether a copy is answered as taken, without the handler.
    remembers: bool,
    /// The status for a certificate of an authority that is not trusted, with the right proof.
    unknown_issuer_status: u16,
}

impl Case {
    fn new(provider: &'static str, proof: &'static str, sent: Sent) -> Self {
        let (certificate, refused, remembers) = (None, Vec::new(), false);
        Self { provider, certificate, proof, sent, refused, remembers, unknown_issuer_status: 403 }
    }

    fn refuses(mut self, what: &'static str, sent: Sent, status: u16, reason: &'static str) -> Self {
        self.refused.push((what, sent, (status, reason)));
        self
    }

    fn certified(self, certificate: Certificate) -> Self {
        Self { certificate: Some(certificate), ..self }
    }

    fn remembers(self) -> Self {
        Self { remembers: true, ..self }
    }

    /// With `refusal = "retry"`.
    fn retries(self) -> Self {
        Self { unknown_issuer_status: 503, ..self }
    }
}

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// The names of the files with this extension, without it.
fn names(directory: &str, extension: &str) -> BTreeSet<String> {
    let paths = fs::read_dir(repository(directory)).unwrap().map(|entry| entry.unwrap().path());
    let paths = paths.filter(|path| path.extension().is_some_and(|found| found == extension));
    paths.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect()
}

#[test]
fn every_preset_has_a_page_and_every_provider_of_a_page_has_a_case() {
    let pages = page::all();
    let presets: BTreeSet<String> = pages.iter().map(|page| page.preset.clone()).collect();
    assert_eq!(presets, names("gateway/presets", "toml"));
    let environment = Environment::new().unwrap();
    let cases = Senders::new(&environment).cases();
    let covered: BTreeSet<&str> = cases.iter().map(|case| case.provider).collect();
    let providers: BTreeSet<&str> = pages.iter().flat_map(Page::providers).collect();
    assert_eq!(covered, providers);
    for case in &cases {
        assert!(case.certificate.is_some() || !case.refused.is_empty(), "{}: nothing is refused", case.provider);
    }
}

#[test]
fn every_preset_takes_what_its_sender_sends_and_refuses_the_rest() {
    let environment = Environment::new().unwrap();
    let senders = Senders::new(&environment);
    let pages = page::all();
    let gateway =
        TestGateway::in_environment(environment, |environment| page::configuration(environment, &pages)).unwrap();
    for case in senders.cases() {
        check(&gateway, &case);
    }
    for sent in senders.challenges() {
        let identity = identity(&gateway.environment, "challenge", senders.meta().options());
        let answer = send(&gateway, Some(&identity), &sent);
        assert_eq!(answer.status, 200, "the challenge of meta: {}", answer.text());
        let seen = gateway.handler().requests().pop().unwrap();
        assert_eq!((seen.field("x-hookgate-proof"), &*seen.target), (Some("certificate"), &*sent.target));
    }
}

fn check(gateway: &TestGateway, case: &Case) {
    let Case { provider, certificate, proof, sent, .. } = case;
    let right = certificate.as_ref().map(|it| identity(&gateway.environment, provider, it.options()));
    for (what, wrong, (status, reason)) in &case.refused {
        expect_refused(gateway, &format!("{provider}: {what}"), right.as_ref(), wrong, (*status, reason));
    }
    if let Some(certificate) = certificate {
        let refused = |what: &str, options: LeafOptions, answer| {
            let wrong = identity(&gateway.environment, &format!("{provider}-{what}"), (certificate.sender, options));
            expect_refused(gateway, &format!("{provider}: {what}"), Some(&wrong), sent, answer);
        };
        let (_, options) = certificate.options();
        let stranger = LeafOptions { issuer: LeafIssuer::Stranger, ..options.clone() };
        refused("a foreign authority", stranger, (case.unknown_issuer_status, "unknown_issuer"));
        let subject = Some(Subject::common_name("somebody.example"));
        let other = LeafOptions { subject, dns_names: Some(Vec::new()), ..options };
        refused("another subject", other, (403, "identity_mismatch"));
        expect_refused(gateway, &format!("{provider}: no certificate"), None, sent, (403, "no_certificate"));
    }
    expect_admitted(gateway, case, right.as_ref());
    if case.remembers {
        let before = gateway.handler().request_count();
        let answer = send(gateway, right.as_ref(), sent);
        assert_eq!((answer.status, answer.text()), (200, String::new()), "{provider}: a copy");
        assert_eq!(gateway.handler().request_count(), before, "{provider}: a copy reached the handler");
    }
    assert!(proof.starts_with("certificate") == certificate.is_some(), "{provider}");
}

/// By curl. PagerDuty sends TLS 1.2.
fn expect_admitted(gateway: &TestGateway, case: &Case, identity: Option<&ClientIdentity>) {
    let Case { provider, sent, .. } = case;
    let curl = identity.into_iter().fold(gateway.curl(), |curl, identity| curl.identity(identity));
    let curl = if *provider == "pagerduty" { curl.version(TlsVersion::Tls12) } else { curl };
    let curl = curl.request(sent.method, &sent.target).body(&sent.body);
    let curl = sent.fields.iter().fold(curl, |curl, (name, value)| curl.field(name, value));
    let outcome = curl.run().unwrap();
    let text = outcome.response().unwrap().text();
    assert_eq!(outcome.status(), Some(200), "{provider}: {text}\n{}", gateway.daemon.log());
    let seen = gateway.handler().requests().pop().unwrap();
    assert_eq!(seen.field("x-hookgate-provider"), Some(*provider));
    assert_eq!(seen.field("x-hookgate-proof"), Some(case.proof), "{provider}");
    assert_eq!((&*seen.target, seen.body.as_slice()), (&*sent.target, sent.body.as_slice()), "{provider}");
}

fn expect_refused(
    gateway: &TestGateway,
    what: &str,
    identity: Option<&ClientIdentity>,
    sent: &Sent,
    (status, reason): (u16, &str),
) {
    let handled = gateway.environment.handled();
    let answer = send(gateway, identity, sent);
    assert_problem(&answer, status, reason, what);
    assert_challenge(&answer, reason, what);
    assert_eq!(gateway.environment.handled(), handled, "{what}: a handler saw it");
}

fn send(gateway: &TestGateway, identity: Option<&ClientIdentity>, sent: &Sent) -> Response {
    let (port, pki) = (gateway.daemon.port(), &gateway.environment.pki);
    let client = match identity {
        Some(identity) => TlsClient::new(port, pki, identity),
        None => TlsClient::without_certificate(port, pki),
    };
    let fields: Vec<(&str, &str)> = sent.fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let request = http::request(sent.method, &sent.target, HOST, &fields, &sent.body);
    client.unwrap().connect().unwrap().ask(request).unwrap()
}

/// A certificate in files with this name.
fn identity(environment: &Environment, file: &str, (sender, options): (Sender, LeafOptions)) -> ClientIdentity {
    environment.pki.sender(sender).leaf(&file.replace(' ', "-"), &options).unwrap()
}
