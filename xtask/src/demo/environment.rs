//! What the demo runs and sends: a gateway between throwaway senders and handlers, and one request after the other.
//!
//! Owns the requests and what is expected of each. The rotation, the table and the pre-filter have files of their own.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
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
use hookgate_testkit::token::{Issuer, dialogflow_claims};

use super::table::Row;
use super::{durable, rotation};

/// A cipher suite of PagerDuty's document, which speaks TLS 1.2 only.
const PAGERDUTY_SUITE: &str = "ECDHE-ECDSA-AES256-GCM-SHA384";

const SIGNATURE: &str = "X-PagerDuty-Signature";
const AUTHORIZATION: &str = "authorization";

/// The wrong certificates, in the order of the table, with the expected reason of each refusal.
const WRONG: [(Variant, &str, &str); 8] = [
    (Variant::Expired, "an expired certificate", "certificate_expired"),
    (Variant::Stranger, "a certificate of an unknown CA", "unknown_issuer"),
    (Variant::MissingIntermediate, "no intermediate certificate", "unknown_issuer"),
    (Variant::WrongSubject, "another customer's subject", "identity_mismatch"),
    (Variant::RightSubjectAsPrefix, "a subject that contains the right one", "identity_mismatch"),
    (Variant::TwoCommonNames, "a subject with two common names", "identity_mismatch"),
    (Variant::ServerAuthOnly, "a certificate not for clients", "extended_key_usage"),
    (Variant::TooDeep, "one intermediate too many", "path_too_long"),
];

/// A sender without a client certificate: the request that GitHub publishes to test a verification with, and its secret.
const FORGE: Document = Document {
    provider: "github",
    sender: Sender::Percolate,
    path: "/github",
    fields: &[
        ("X-GitHub-Delivery", "72d3162e-cc78-11e3-81ab-4c9367dc0958"),
        (FORGE_SIGNATURE, "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"),
    ],
    body: "Hello, World!",
};
const FORGE_SIGNATURE: &str = "X-Hub-Signature-256";
const FORGE_SECRET: &str = "It's a Secret to Everybody";

/// The Google Cloud project whose Dialogflow agent the demo sends as, and another project.
const PROJECT: &str = "123456789012";
const OTHER_PROJECT: &str = "210987654321";

/// The secret that the demo sends as a Dialogflow session parameter.
const SESSION_SECRET: &str = "throwaway-session-secret";

/// Everything that runs.
pub(super) struct Environment {
    pub(super) gateway: Gateway,
    pub(super) events: Handler,
    dialogflow: Handler,
    google: Issuer,
    revoked: ClientIdentity,
    pub(super) pki: Pki,
    /// The daemon's file.
    pub(super) binary: PathBuf,
    /// The configuration, with placeholders.
    pub(super) configuration: String,
    /// Holds keys, sockets and configuration; removed when dropped.
    directory: tempfile::TempDir,
}

/// What is expected of one request.
pub(super) enum Expected {
    /// It reaches the handler, as a request of this provider.
    Admitted(&'static str),
    /// It is refused with this status and reason.
    Refused(u16, &'static str),
    /// It does not reach the handler, and is answered with this status.
    Duplicate(u16),
}

/// One request.
pub(super) struct Request<'a> {
    document: Document,
    /// What distinguishes it, for the table.
    with: &'a str,
    identity: Option<&'a ClientIdentity>,
    /// Replaces the document's field of that name; an empty value removes it.
    field: Option<(&'a str, String)>,
    body: String,
}

impl<'a> Request<'a> {
    pub(super) fn new(document: Document, with: &'a str, identity: Option<&'a ClientIdentity>) -> Self {
        Self { document, with, identity, field: None, body: document.body.to_owned() }
    }

    pub(super) fn field(mut self, name: &'a str, value: impl Into<String>) -> Self {
        self.field = Some((name, value.into()));
        self
    }

    fn body(mut self, body: String) -> Self {
        self.body = body;
        self
    }
}

impl Environment {
    /// Makes the certificates, and starts the handlers and the gateway at `binary`.
    pub(super) fn start(binary: &Path) -> Result<Self> {
        println!("starting two handlers and a gateway with a throwaway PKI …");
        let directory = tempfile::Builder::new().prefix("hookgate-demo-").tempdir()?;
        let file = |name: &str| directory.path().join(name);
        let pki = Pki::new(directory.path())?;
        let certificate: ServerIdentity = pki.server("server", &[HOST], KeyKind::P256)?;
        let events = Handler::start(&file("events.sock"), Behaviour::Json)?;
        let dialogflow = Handler::start(&file("dialogflow.sock"), Behaviour::Json)?;
        let google = Issuer::new("google-1", KeyKind::Rsa2048)?;
        write_secret(&file("pagerduty.secret"), documents::PAGERDUTY_SECRET)?;
        write_secret(&file("session.secret"), SESSION_SECRET)?;
        fs::write(file("keys.json"), Issuer::key_set(&[&google])?)?;
        let sender = pki.sender(Sender::Percolate);
        let revoked = sender.variant(Variant::Revoked)?;
        let lists = sender.revoke(&[&revoked])?;
        let mut configuration = FourProviders::new(&pki, &certificate, events.path(), dialogflow.path());
        configuration.revocation_lists = vec![(Sender::Percolate, lists.to_vec())];
        configuration.proofs = proofs(directory.path());
        let keys = format!("\n[[key_source]]\nname = \"demo\"\nfile = \"{}\"\n", file("keys.json").display());
        let configuration = [
            configuration.toml(),
            keys,
            rotation::state(directory.path())?,
            forge(&directory, &events)?,
            durable::route(directory.path()),
        ]
        .concat();
        let gateway = Gateway::start(&configuration, &GatewayOptions::new(binary))?;
        let binary = binary.to_owned();
        Ok(Self { gateway, events, dialogflow, google, revoked, pki, binary, configuration, directory })
    }

    /// Sends every request, one after the other.
    pub(super) fn send_all(&self) -> Result<Vec<Row>> {
        let mut rows = Vec::new();
        self.send_documented(&mut rows)?;
        self.send_wrong_certificates(&mut rows)?;
        self.send_signatures(&mut rows)?;
        self.send_tokens(&mut rows)?;
        self.send_without_certificate(&mut rows)?;
        self.send_by_hookgate(&mut rows)?;
        self.send_durable(&mut rows)?;
        self.send_after_rotation(&mut rows)?;
        Ok(rows)
    }

    /// The requests that the providers document, with their old and new certificates.
    fn send_documented(&self, rows: &mut Vec<Row>) -> Result<()> {
        for document in documents::ALL {
            let identity = self.pki.sender(document.sender).variant(Variant::Good)?;
            let request = self.proven(Request::new(document, "its certificate", Some(&identity)))?;
            rows.push(self.row(&request, &Expected::Admitted(document.provider))?);
        }
        let newer = self.pki.sender(Sender::DialogflowNewer).variant(Variant::Good)?;
        for document in [documents::DIALOGFLOW_CX, documents::DIALOGFLOW_ES] {
            let request = Request::new(document, "its newer certificate (Google LLC)", Some(&newer));
            rows.push(self.row(&self.proven(request)?, &Expected::Admitted(document.provider))?);
        }
        Ok(())
    }

    fn send_wrong_certificates(&self, rows: &mut Vec<Row>) -> Result<()> {
        let document = documents::PAGERDUTY;
        let none = Request::new(document, "no certificate", None);
        rows.push(self.row(&none, &Expected::Refused(403, "no_certificate"))?);
        for (variant, what, reason) in WRONG {
            let identity = self.pki.sender(document.sender).variant(variant)?;
            // The signature speaks for the sender, so a chain that may be new is a delay and not a loss.
            let signed = Request::new(document, what, Some(&identity));
            let may_be_new = matches!(reason, "unknown_issuer" | "extended_key_usage" | "path_too_long");
            let status = if may_be_new { 503 } else { 403 };
            rows.push(self.row(&signed, &Expected::Refused(status, reason))?);
            if may_be_new {
                let with = format!("{what}, and no signature");
                let impostor = Request::new(document, &with, Some(&identity)).field(SIGNATURE, "");
                rows.push(self.row(&impostor, &Expected::Refused(403, reason))?);
            }
        }
        let revoked = Request::new(documents::PERCOLATE, "a revoked certificate", Some(&self.revoked));
        rows.push(self.row(&revoked, &Expected::Refused(403, "certificate_revoked"))?);
        let percolate = self.pki.sender(Sender::Percolate).variant(Variant::Good)?;
        let other = Request::new(document, "Percolate's certificate", Some(&percolate));
        rows.push(self.row(&other, &Expected::Refused(403, "provider_not_admitted"))?);
        Ok(())
    }

    fn send_signatures(&self, rows: &mut Vec<Row>) -> Result<()> {
        let document = documents::PAGERDUTY;
        let identity = self.pki.sender(document.sender).variant(Variant::Good)?;
        let request = |with| Request::new(document, with, Some(&identity));
        let unsigned = request("no signature").field(SIGNATURE, "");
        rows.push(self.row(&unsigned, &Expected::Refused(403, "signature_missing"))?);
        let tampered = request("a body that was changed").body(document.body.replacen("incident", "accident", 1));
        rows.push(self.row(&tampered, &Expected::Refused(403, "signature_mismatch"))?);
        rows.push(self.row(&request("the delivery of the first row, sent again"), &Expected::Duplicate(200))?);
        Ok(())
    }

    fn send_tokens(&self, rows: &mut Vec<Row>) -> Result<()> {
        let document = documents::DIALOGFLOW_CX;
        let identity = self.pki.sender(document.sender).variant(Variant::Good)?;
        let request = |with| Request::new(document, with, Some(&identity));
        let bearer = |claims: &str| Ok::<_, anyhow::Error>(format!("Bearer {}", self.google.sign(claims)?));
        let audience = audience(&document);
        for (with, value, reason) in [
            ("no token", String::new(), "token_missing"),
            ("an access token", "Bearer ya29.throwaway".to_owned(), "token_is_access_token"),
            (
                "a token for another audience",
                bearer(&dialogflow_claims("https://other.example/", PROJECT))?,
                "token_wrong_audience",
            ),
            ("a token of another project", bearer(&dialogflow_claims(&audience, OTHER_PROJECT))?, "token_wrong_email"),
        ] {
            let request = request(with).field(AUTHORIZATION, value);
            rows.push(self.row(&request, &Expected::Refused(401, reason))?);
        }
        for (with, value, expected) in [
            ("the right session parameter", SESSION_SECRET, Expected::Admitted(document.provider)),
            ("a wrong session parameter", "guessed", Expected::Refused(403, "session_parameter_mismatch")),
        ] {
            let parameter = format!("\"color\": \"red\",\n      \"webhook_token\": \"{value}\"");
            let body = document.body.replace("\"color\": \"red\"", &parameter);
            rows.push(self.row(&request(with).field(AUTHORIZATION, "").body(body), &expected)?);
        }
        Ok(())
    }

    /// A sender whose requests prove themselves, at the host of the others.
    fn send_without_certificate(&self, rows: &mut Vec<Row>) -> Result<()> {
        let request = |with| Request::new(FORGE, with, None);
        rows.push(self.row(&request("no certificate, its signature"), &Expected::Admitted(FORGE.provider))?);
        let forged =
            request("no certificate, another's signature").field(FORGE_SIGNATURE, format!("sha256={}", "0".repeat(64)));
        rows.push(self.row(&forged, &Expected::Refused(403, "signature_mismatch"))?);
        Ok(())
    }

    /// The request with a new token if its provider sends tokens. A signature is part of the document.
    fn proven<'a>(&self, request: Request<'a>) -> Result<Request<'a>> {
        match request.document.sender {
            Sender::PagerDuty | Sender::Percolate => Ok(request),
            Sender::Dialogflow | Sender::DialogflowNewer => {
                let claims = dialogflow_claims(&audience(&request.document), PROJECT);
                let token = self.google.sign(&claims)?;
                Ok(request.field(AUTHORIZATION, format!("Bearer {token}")))
            }
        }
    }

    fn handler(&self, document: &Document) -> &Handler {
        match document.sender {
            Sender::Dialogflow | Sender::DialogflowNewer => &self.dialogflow,
            Sender::PagerDuty | Sender::Percolate => &self.events,
        }
    }

    fn send(&self, request: &Request<'_>) -> Result<Response> {
        let document = &request.document;
        let mut curl = self.gateway.curl(HOST, &self.pki);
        if document.sender == Sender::PagerDuty {
            curl = curl.version(TlsVersion::Tls12).ciphers(PAGERDUTY_SUITE);
        }
        if let Some(identity) = request.identity {
            curl = curl.identity(identity);
        }
        curl = curl.post(document.path, request.body.as_bytes());
        let replaced = |name: &str| request.field.as_ref().is_some_and(|(field, _)| field.eq_ignore_ascii_case(name));
        for (name, value) in document.fields.iter().filter(|(name, _)| !replaced(name)) {
            curl = curl.field(name, value);
        }
        if let Some((name, value)) = request.field.as_ref().filter(|(_, value)| !value.is_empty()) {
            curl = curl.field(name, value);
        }
        curl.run()?.response().cloned()
    }

    pub(super) fn row(&self, request: &Request<'_>, expected: &Expected) -> Result<Row> {
        let handler = self.handler(&request.document);
        handler.forget();
        let response = self.send(request)?;
        let reason = response.reason().unwrap_or_default();
        let seen = handler.requests();
        let first = seen.first();
        let field = |name| first.and_then(|request| request.field(name)).unwrap_or_default();
        let (provider, proof) = (field("x-hookgate-provider"), field("x-hookgate-proof"));
        let intact = first.is_some_and(|seen| seen.body == request.body.as_bytes());
        let as_expected = match *expected {
            Expected::Admitted(name) => response.status == 200 && provider == name && intact && seen.len() == 1,
            Expected::Refused(status, expected_reason) => {
                response.status == status && reason == expected_reason && seen.is_empty()
            }
            Expected::Duplicate(status) => response.status == status && reason.is_empty() && seen.is_empty(),
        };
        Ok(Row {
            sent: format!("{}: {}", request.document.provider, request.with),
            answer: format!("{} {reason}", response.status).trim_end().to_owned(),
            handler_got: match first {
                Some(request) => format!("{} from {provider} ({proof})", request.target),
                None => "nothing".into(),
            },
            as_expected,
        })
    }

    /// A file of the demo.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Prints commands to try, and waits for Ctrl-C.
    pub(super) fn wait(&self) -> Result<()> {
        let identity = self.pki.sender(Sender::PagerDuty).variant(Variant::Good)?;
        let root = self.pki.server_root().path().display().to_string();
        let (port, chain, key) = (self.gateway.port(), identity.chain_path.display(), identity.key_path.display());
        let certificate = identity.certificate_path.display();
        let issuers = identity.issuers_path.as_deref().context("the intermediate certificate")?.display();
        let path = documents::PAGERDUTY.path;
        println!("the gateway runs as process {}. Commands to try:\n", self.gateway.process_id());
        let (binary, url) = (self.binary.display(), format!("https://{HOST}:{port}{path}"));
        let receiver = format!("{url} --as pagerduty --connect 127.0.0.1 --root {root}");
        println!("  {binary} probe {receiver}\n");
        let secret = self.file("pagerduty.secret");
        println!("  {binary} send {receiver} \\\n    --cert {chain} --key {key} --secret-file {}\n", secret.display());
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
        println!("\nStop with Ctrl-C.");
        loop {
            thread::sleep(Duration::from_secs(3600));
        }
    }
}

/// The sections of [`FORGE`].
fn forge(directory: &tempfile::TempDir, handler: &Handler) -> Result<String> {
    let (name, path) = (FORGE.provider, FORGE.path);
    let secret = directory.path().join("github.secret");
    write_secret(&secret, FORGE_SECRET)?;
    Ok(format!(
        "\n[[provider]]\nname = \"{name}\"\npreset = \"{name}\"\nsignature = {{ secrets = [{{ file = \"{}\" }}] }}\n\n\
         [[route]]\nhost = \"{HOST}\"\npath = \"{path}\"\nproviders = [\"{name}\"]\nhandler = \"unix:{}\"\n",
        secret.display(),
        handler.path().display()
    ))
}

/// Readable by its owner alone, which the gateway demands.
fn write_secret(path: &Path, secret: &str) -> Result<()> {
    fs::write(path, secret)?;
    Ok(fs::set_permissions(path, Permissions::from_mode(0o600))?)
}

/// The URL of the webhook, as configured at Dialogflow.
fn audience(document: &Document) -> String {
    format!("https://{HOST}{}", document.path)
}

/// The operator's part of the presets' proofs. Percolate documents no proof beside its certificate.
fn proofs(directory: &Path) -> Vec<(&'static str, String)> {
    let secret = |name: &str| format!("secrets = [{{ file = \"{}\" }}]", directory.join(name).display());
    let dialogflow = |document: Document| {
        let token = format!(
            "token = {{ key_source = \"demo\", project_number = \"{PROJECT}\", audiences = [\"{}\"] }}",
            audience(&document)
        );
        let parameter = format!("session_parameter = {{ name = \"webhook_token\", {} }}", secret("session.secret"));
        (document.provider, format!("{token}\n{parameter}"))
    };
    vec![
        (documents::PAGERDUTY.provider, format!("signature = {{ {} }}", secret("pagerduty.secret"))),
        dialogflow(documents::DIALOGFLOW_CX),
        dialogflow(documents::DIALOGFLOW_ES),
    ]
}
