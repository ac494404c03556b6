//! Who takes part in the demo, and what they do.

use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use hookgate_testkit::client::TlsVersion;
use hookgate_testkit::configuration::{FourProviders, HOST};
use hookgate_testkit::documents::{self, Document};
use hookgate_testkit::gateway::{Gateway, GatewayOptions};
use hookgate_testkit::handler::{Behaviour, Handler};
use hookgate_testkit::http::Response;
use hookgate_testkit::pki::{ClientIdentity, KeyKind, Pki, Sender, ServerIdentity, Variant};

use super::table::Row;

/// A cipher suite of PagerDuty's document, which speaks TLS 1.2 only.
const PAGERDUTY_SUITE: &str = "ECDHE-ECDSA-AES256-GCM-SHA384";

/// The wrong certificates, in the order of the table, with what is expected of each.
const WRONG: [(Variant, &str, &str); 8] = [
    (Variant::Expired, "an expired certificate", "certificate_expired"),
    (Variant::Stranger, "a certificate of a foreign CA", "unknown_issuer"),
    (Variant::MissingIntermediate, "no intermediate certificate", "unknown_issuer"),
    (Variant::WrongSubject, "another customer's subject", "identity_mismatch"),
    (Variant::RightSubjectAsPrefix, "a subject that contains the right one", "identity_mismatch"),
    (Variant::TwoCommonNames, "a subject with two common names", "identity_mismatch"),
    (Variant::ServerAuthOnly, "a certificate not for clients", "extended_key_usage"),
    (Variant::TooDeep, "one intermediate too many", "path_too_long"),
];

/// Everything that runs.
pub(super) struct Cast {
    gateway: Gateway,
    events: Handler,
    dialogflow: Handler,
    revoked: ClientIdentity,
    pki: Pki,
    /// Holds keys, sockets and configuration; removed when dropped.
    _directory: tempfile::TempDir,
}

impl Cast {
    /// Makes the certificates and starts the handlers and the gateway, whose binary is at `binary`.
    pub(super) fn assemble(binary: &Path) -> Result<Self> {
        println!("making a throwaway PKI, two handlers and a gateway …");
        let directory = tempfile::Builder::new().prefix("hookgate-demo-").tempdir()?;
        let pki = Pki::new(directory.path())?;
        let certificate: ServerIdentity = pki.server("server", &[HOST], KeyKind::P256)?;
        let events = Handler::start(&directory.path().join("events.sock"), Behaviour::Json)?;
        let dialogflow = Handler::start(&directory.path().join("dialogflow.sock"), Behaviour::Json)?;
        let sender = pki.sender(Sender::Percolate);
        let revoked = sender.variant(Variant::Revoked)?;
        let lists = sender.revoke(&[&revoked])?;
        let mut configuration = FourProviders::new(&pki, &certificate, events.path(), dialogflow.path());
        configuration.revocation_lists = vec![(Sender::Percolate, lists.to_vec())];
        let gateway = Gateway::start(&configuration.toml(), &GatewayOptions::new(binary))?;
        Ok(Self { gateway, events, dialogflow, revoked, pki, _directory: directory })
    }

    /// Sends everything, one request after the other.
    pub(super) fn play(&self) -> Result<Vec<Row>> {
        let mut rows = Vec::new();
        for document in documents::ALL {
            let identity = self.pki.sender(document.sender).variant(Variant::Good)?;
            rows.push(self.admitted(&document, "its certificate", &identity)?);
        }
        let newer = self.pki.sender(Sender::DialogflowNewer).variant(Variant::Good)?;
        for document in [documents::DIALOGFLOW_CX, documents::DIALOGFLOW_ES] {
            rows.push(self.admitted(&document, "its newer certificate (Google LLC)", &newer)?);
        }
        let document = documents::PAGERDUTY;
        rows.push(self.refused(&document, "no certificate", None, "no_certificate")?);
        for (variant, what, reason) in WRONG {
            let identity = self.pki.sender(document.sender).variant(variant)?;
            rows.push(self.refused(&document, what, Some(&identity), reason)?);
        }
        rows.push(self.refused(
            &documents::PERCOLATE,
            "a revoked certificate",
            Some(&self.revoked),
            "certificate_revoked",
        )?);
        let percolate = self.pki.sender(Sender::Percolate).variant(Variant::Good)?;
        rows.push(self.refused(&document, "Percolate's certificate", Some(&percolate), "provider_not_admitted")?);
        Ok(rows)
    }

    fn handler(&self, document: &Document) -> &Handler {
        match document.sender {
            Sender::Dialogflow | Sender::DialogflowNewer => &self.dialogflow,
            Sender::PagerDuty | Sender::Percolate => &self.events,
        }
    }

    fn send(&self, document: &Document, identity: Option<&ClientIdentity>) -> Result<Response> {
        let mut curl = self.gateway.curl(HOST, &self.pki);
        if document.sender == Sender::PagerDuty {
            curl = curl.version(TlsVersion::Tls12).ciphers(PAGERDUTY_SUITE);
        }
        if let Some(identity) = identity {
            curl = curl.identity(identity);
        }
        curl = curl.post(document.path, document.body.as_bytes());
        for (name, value) in document.fields {
            curl = curl.field(name, value);
        }
        curl.run()?.response().cloned()
    }

    fn admitted(&self, document: &Document, with: &str, identity: &ClientIdentity) -> Result<Row> {
        let handler = self.handler(document);
        handler.forget();
        let response = self.send(document, Some(identity))?;
        let requests = handler.requests();
        let request = requests.first();
        let field = |name| request.and_then(|request| request.field(name)).unwrap_or_default();
        let proven = field("x-hookgate-provider");
        let intact = request.is_some_and(|request| request.body == document.body.as_bytes());
        Ok(Row {
            sent: format!("{}: {with}", document.provider),
            came_back: response.status.to_string(),
            handler_saw: match request {
                Some(request) => format!("{} {} from {proven}", request.method, request.target),
                None => "nothing".into(),
            },
            as_expected: response.status == 200 && proven == document.provider && intact && requests.len() == 1,
        })
    }

    fn refused(&self, document: &Document, with: &str, identity: Option<&ClientIdentity>, reason: &str) -> Result<Row> {
        self.handler(document).forget();
        let response = self.send(document, identity)?;
        let seen = self.handler(document).requests().len();
        let told = response.reason().unwrap_or_default();
        Ok(Row {
            sent: format!("{}: {with}", document.provider),
            came_back: format!("{} {told}", response.status),
            handler_saw: if seen == 0 { "nothing".into() } else { format!("{seen} requests") },
            as_expected: response.status == 403 && told == reason && seen == 0,
        })
    }

    /// Prints commands to try, and waits to be interrupted.
    pub(super) fn keep(&self) -> Result<()> {
        let identity = self.pki.sender(Sender::PagerDuty).variant(Variant::Good)?;
        let root = self.pki.server_root().path().display().to_string();
        let (port, chain, key) = (self.gateway.port(), identity.chain_path.display(), identity.key_path.display());
        let certificate = identity.certificate_path.display();
        let issuers = identity.issuers_path.as_deref().context("the intermediate certificate")?.display();
        let path = documents::PAGERDUTY.path;
        println!("running as process {}; try:\n", self.gateway.process_id());
        println!(
            "  curl -i --cacert {root} --resolve {HOST}:{port}:127.0.0.1 \\\n    --cert {chain} --key {key} \\\n    \
             -d '{{}}' https://{HOST}:{port}{path}\n"
        );
        println!(
            "  openssl s_client -connect 127.0.0.1:{port} -servername {HOST} -CAfile {root} \\\n    \
             -cert {certificate} -cert_chain {issuers} -key {key}\n"
        );
        println!("  curl -s http://{}/metrics | grep ^hookgate_", self.gateway.metrics_address());
        println!(
            "  kill -HUP {}    # reload {}",
            self.gateway.process_id(),
            self.gateway.configuration_path().display()
        );
        println!("\nCtrl-C ends it.");
        loop {
            thread::sleep(Duration::from_secs(3600));
        }
    }
}
