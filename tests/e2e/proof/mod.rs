//! Proofs beside the certificate: tokens and their keys, session parameters, signatures, replay, and their combination.
//!
//! Owns [`ProofGateway`], which the tests of all proofs share.

mod combination;
mod http2;
mod issuer;
mod kept;
mod keys;
mod kinds;
mod no_certificate;
mod preset;
mod replay;
mod secret;
mod session_parameter;
mod signature;
mod token;

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use data_encoding::HEXLOWER;
use hookgate_testkit::configuration::HOST;
use hookgate_testkit::documents::Document;
use hookgate_testkit::gateway::{Gateway, GatewayOptions};
use hookgate_testkit::handler::Handler;
use hookgate_testkit::http::{self, Request, Response};
use hookgate_testkit::pki::Sender;
use ring::hmac;

use crate::environment::{BINARY, Environment, handler_socket, quoted};
use crate::problem::assert_problem;
use crate::test_gateway::TestGateway;
use crate::tls_client::TlsConnection;

/// Header fields of one request.
type Fields<'a> = [(&'a str, &'a str)];

/// The parts of a configuration that concern proofs.
#[derive(Default)]
struct ProofConfiguration {
    /// Lines of the provider that replace `proof = "certificate"`.
    provider: String,
    /// Lines for `[listen]`. If empty, there is one worker.
    listen: String,
    /// Lines for `[limits]`.
    limits: String,
    /// Sections at the end of the file, such as `[[key_source]]` and `[[route]]`.
    sections: String,
}

impl ProofConfiguration {
    /// These lines of the provider alone.
    fn of_provider(provider: impl Into<String>) -> Self {
        Self { provider: provider.into(), ..Self::default() }
    }

    fn toml(&self, environment: &Environment, document: &Document) -> String {
        let mut configuration = environment.configuration();
        configuration.proofs = vec![(document.provider, self.provider.clone())];
        if !self.listen.is_empty() {
            configuration.listen = &self.listen;
        }
        configuration.limits = &self.limits;
        configuration.toml() + "\n" + &self.sections
    }
}

/// A running daemon that demands proofs of one provider, and a client with a good certificate of that provider.
struct ProofGateway {
    base: TestGateway,
    document: Document,
}

impl ProofGateway {
    /// The daemon with the configuration that `write` makes for the provider of `document`.
    fn new(document: Document, write: impl FnOnce(&Environment) -> ProofConfiguration) -> Result<Self> {
        Self::with_options(document, &GatewayOptions::new(BINARY), write)
    }

    /// As [`ProofGateway::new`], started with `options`.
    fn with_options(
        document: Document,
        options: &GatewayOptions,
        write: impl FnOnce(&Environment) -> ProofConfiguration,
    ) -> Result<Self> {
        let environment = Environment::new()?;
        let daemon = Gateway::start(&write(&environment).toml(&environment, &document), options)?;
        Ok(Self { base: TestGateway::new(daemon, environment, document.sender)?, document })
    }

    /// Replaces the configuration, and waits until the new one is in use.
    fn reload(&self, configuration: &ProofConfiguration) {
        self.base.reload(&configuration.toml(&self.base.environment, &self.document)).unwrap();
    }

    /// As [`ProofGateway::reload`], also for a configuration that demands less than the one in use.
    fn reload_permitting(&self, configuration: &ProofConfiguration) {
        self.base.reload_permitting(&configuration.toml(&self.base.environment, &self.document)).unwrap();
    }

    /// The handler of the provider.
    fn handler(&self) -> &Handler {
        match self.document.sender {
            Sender::Dialogflow | Sender::DialogflowNewer => &self.base.environment.dialogflow,
            Sender::PagerDuty | Sender::Percolate => &self.base.environment.events,
        }
    }

    fn connect(&self) -> TlsConnection {
        self.base.connect().unwrap()
    }

    /// Sends a request for the path of the document on a new connection.
    fn send(&self, fields: &Fields<'_>, body: &[u8]) -> Response {
        self.connect().ask(post(self.document.path, fields, body)).unwrap()
    }

    /// Sends a request, expects a response of the handler, and returns what the handler saw.
    fn expect_admitted(&self, what: &str, fields: &Fields<'_>, body: &[u8]) -> Request {
        self.expect_admitted_at(self.document.path, what, fields, body)
    }

    /// As [`ProofGateway::expect_admitted`], to another path.
    fn expect_admitted_at(&self, path: &str, what: &str, fields: &Fields<'_>, body: &[u8]) -> Request {
        let before = self.handler().request_count();
        let response = self.connect().ask(post(path, fields, body)).unwrap();
        assert_eq!(response.status, 200, "{what}: {}", response.text());
        assert_eq!(self.handler().request_count(), before + 1, "{what}: the handler did not see the request");
        self.handler().requests().pop().unwrap()
    }

    /// Sends a request, and expects a refusal with this status and reason, which is counted once and reaches no handler.
    fn expect_refused(&self, what: &str, (status, reason): (u16, &str), fields: &Fields<'_>, body: &[u8]) -> Response {
        self.expect_refused_at(self.document.path, what, (status, reason), fields, body)
    }

    /// As [`ProofGateway::expect_refused`], to another path.
    fn expect_refused_at(
        &self,
        path: &str,
        what: &str,
        (status, reason): (u16, &str),
        fields: &Fields<'_>,
        body: &[u8],
    ) -> Response {
        let (handled, counted) = (self.base.environment.handled(), self.base.rejections(reason).unwrap());
        let response = self.connect().ask(post(path, fields, body)).unwrap();
        assert_problem(&response, status, reason, what);
        assert_challenge(&response, reason, what);
        assert_eq!(self.base.wait_rejections(reason, counted + 1.0).unwrap(), counted + 1.0, "{what}");
        assert_eq!(self.base.environment.handled(), handled, "{what}: a handler saw it");
        response
    }
}

/// Fails unless there is a challenge with 401 alone, with an error code only if a token was sent (RFC 6750, section 3), and a
/// Retry-After with 429 and 503 alone (RFC 9110, section 10.2.3).
fn assert_challenge(response: &Response, reason: &str, what: &str) {
    let challenge = response.field("www-authenticate");
    assert_eq!(challenge.is_some(), response.status == 401, "{what}: {challenge:?}");
    if reason.starts_with("credentials_") {
        assert_eq!(challenge, Some("Basic realm=\"hookgate\", charset=\"UTF-8\""), "{what}");
    } else if reason.starts_with("signature_") || reason == "timestamp_outside_window" {
        // With `refusal_status = 401`.
        assert!(challenge.is_none_or(|challenge| challenge == "Signature realm=\"hookgate\""), "{what}: {challenge:?}");
    } else if let Some(challenge) = challenge {
        assert!(challenge.starts_with("Bearer "), "{what}: {challenge}");
        let sent = reason != "token_missing";
        assert_eq!(challenge.contains("error=\"invalid_token\""), sent, "{what}: {challenge}");
    }
    let retry = response.field("retry-after").is_some_and(|seconds| seconds.parse::<u32>().is_ok());
    assert_eq!(retry, [429, 503].contains(&response.status), "{what}: {:?}", response.fields);
}

/// A POST as bytes, with these fields after Host and Content-Length.
fn post(path: &str, fields: &Fields<'_>, body: &[u8]) -> Vec<u8> {
    http::request("POST", path, HOST, fields, body)
}

/// A `[[route]]` for `path` that admits `provider` to `handler`, with these lines.
fn route(handler: &Handler, provider: &str, path: &str, lines: &str) -> String {
    let handler = handler_socket(handler);
    format!(
        "[[route]]\nhost = \"{HOST}\"\npath = \"{path}\"\nproviders = [\"{provider}\"]\nhandler = {handler}\n{lines}\n\n"
    )
}

/// Seconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// HMAC-SHA-256.
fn hmac_sha256(secret: &[u8], message: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message).as_ref().to_vec()
}

/// HMAC-SHA-256 in hexadecimal.
pub(crate) fn hmac_hex(secret: &str, message: &[u8]) -> String {
    HEXLOWER.encode(&hmac_sha256(secret.as_bytes(), message))
}

/// Writes a secret to a file. Returns an entry of `secrets` for it.
fn secret_file(environment: &Environment, name: &str, secret: &str) -> String {
    let path = environment.write(name, format!("{secret}\n")).unwrap();
    format!("{{ file = {} }}", quoted(&path))
}
