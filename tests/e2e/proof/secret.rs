//! Secrets: their sources, their replacement, and that they appear nowhere.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use data_encoding::BASE64;
use hookgate_testkit::documents::{DIALOGFLOW_CX, DIALOGFLOW_ES, Document, PAGERDUTY};
use hookgate_testkit::gateway::{Gateway, GatewayOptions, Signal};
use hookgate_testkit::token::Issuer;

use super::issuer::{claims_with, dialogflow_token, issuer, key_file};
use super::{ProofConfiguration, ProofGateway, hmac_hex, post, route, secret_file};
use crate::command::run_check;
use crate::environment::{BINARY, Environment, SOON};
use crate::journal_stub::JournalStub;
use crate::test_gateway::TestGateway;

const BODY: &[u8] = PAGERDUTY.body.as_bytes();

fn signed(gateway: &ProofGateway, secret: &str) -> u16 {
    let signature = format!("v1={}", hmac_hex(secret, BODY));
    gateway.send(&[("X-PagerDuty-Signature", &signature)], BODY).status
}

fn pagerduty(secrets: &str) -> ProofConfiguration {
    ProofConfiguration::of_provider(format!("signature = {{ secrets = [{secrets}] }}\nreplay = \"none\""))
}

#[test]
fn a_secret_is_replaced_by_a_reload() {
    let configuration =
        |environment: &Environment, secret: &str| pagerduty(&secret_file(environment, "webhook.secret", secret));
    let gateway = ProofGateway::new(PAGERDUTY, |environment| configuration(environment, "first")).unwrap();
    assert_eq!((signed(&gateway, "first"), signed(&gateway, "second")), (200, 403));
    gateway.base.environment.write("webhook.secret", "second").unwrap();
    assert_eq!((signed(&gateway, "first"), signed(&gateway, "second")), (200, 403), "before the reload");
    let mut connection = gateway.connect();
    gateway.reload(&configuration(&gateway.base.environment, "second"));
    assert_eq!((signed(&gateway, "first"), signed(&gateway, "second")), (403, 200), "afterwards");
    let old = format!("v1={}", hmac_hex("first", BODY));
    let response = connection.ask(post(PAGERDUTY.path, &[("X-PagerDuty-Signature", &old)], BODY)).unwrap();
    assert_eq!(response.reason().as_deref(), Some("signature_mismatch"), "on an older connection");
}

#[test]
fn a_rotation_accepts_both_secrets_in_between() {
    let gateway =
        ProofGateway::new(PAGERDUTY, |environment| pagerduty(&secret_file(environment, "old.secret", "old"))).unwrap();
    let (old, new) = {
        let environment = &gateway.base.environment;
        (secret_file(environment, "old.secret", "old"), secret_file(environment, "new.secret", "new"))
    };
    gateway.reload(&pagerduty(&format!("{old}, {new}")));
    assert_eq!((signed(&gateway, "old"), signed(&gateway, "new")), (200, 200));
    gateway.reload(&pagerduty(&new));
    assert_eq!((signed(&gateway, "old"), signed(&gateway, "new")), (403, 200));
}

#[test]
fn a_secret_that_cannot_be_read_changes_nothing() {
    let gateway =
        ProofGateway::new(PAGERDUTY, |environment| pagerduty(&secret_file(environment, "webhook.secret", "first")))
            .unwrap();
    let path = gateway.base.environment.path("webhook.secret");
    let breakages: [(&str, &dyn Fn()); 3] = [
        ("empty", &|| fs::write(&path, "\n").unwrap()),
        ("too long", &|| fs::write(&path, "x".repeat(5000)).unwrap()),
        ("gone", &|| fs::remove_file(&path).unwrap()),
    ];
    for (count, (what, breakage)) in breakages.into_iter().enumerate() {
        breakage();
        gateway.base.daemon.signal(Signal::HUP).unwrap();
        let labels = [("result", "error")];
        let errors = count as f64 + 1.0;
        gateway.base.daemon.wait_metric("hookgate_config_reloads_total", &labels, errors, SOON).unwrap();
        assert_eq!(signed(&gateway, "first"), 200, "{what}");
    }
    gateway.base.daemon.wait_log("webhook.secret", SOON).unwrap();
}

/// As LoadCredential= of systemd.exec(5) provides it.
#[test]
fn a_secret_may_be_a_credential_of_the_service_manager() {
    let credentials = tempfile::tempdir().unwrap();
    fs::write(credentials.path().join("pagerduty"), "of the manager\n").unwrap();
    let mut options = GatewayOptions::new(BINARY);
    options.environment.push(("CREDENTIALS_DIRECTORY".into(), credentials.path().into()));
    let gateway =
        ProofGateway::with_options(PAGERDUTY, &options, |_| pagerduty("{ credential = \"pagerduty\" }")).unwrap();
    assert_eq!((signed(&gateway, "of the manager"), signed(&gateway, "pagerduty")), (200, 403));
    let finished = run_check(
        &gateway.base.environment,
        &pagerduty("{ credential = \"pagerduty\" }").toml(&gateway.base.environment, &PAGERDUTY),
    );
    let stderr = finished.stderr_text();
    assert!(stderr.contains("$CREDENTIALS_DIRECTORY is not set"), "{stderr}");
}

/// The secrets of every kind of proof.
struct Secrets {
    signature: String,
    session: String,
    inline: String,
    hmac: String,
    field: String,
    password: String,
}

impl Secrets {
    fn new() -> Self {
        let secret = |of: &str| format!("SECRET-of-the-{of}");
        Self {
            signature: secret("signature"),
            session: secret("session"),
            inline: secret("file"),
            hmac: secret("hmac"),
            field: secret("field"),
            password: secret("password"),
        }
    }

    /// A configuration with a route for each kind of proof.
    fn configuration(&self, environment: &Environment, issuer: &Issuer) -> ProofConfiguration {
        let file = |name: &str, secret: &str| secret_file(environment, &format!("{name}.secret"), secret);
        let pointer = "pointer = \"/p\"";
        let (session, inline) = (file("session", &self.session), format!("{{ unsafe_value = \"{}\" }}", self.inline));
        let (hmac, field, password) =
            (file("hmac", &self.hmac), file("field", &self.field), file("password", &self.password));
        let routes = [
            ("/session", format!("session_parameter = {{ {pointer}, secrets = [{session}, {inline}] }}")),
            (
                "/hmac",
                format!("session_parameter = {{ {pointer}, session_pointer = \"/s\", hmac_secrets = [{hmac}] }}"),
            ),
            ("/token", "token = { form = \"dialogflow\", project_number = \"1\", audiences = [\"a\"] }".to_owned()),
            ("/field", format!("secret = {{ header = \"x-shared\", secrets = [{field}] }}")),
            ("/basic", format!("basic = {{ users = [{{ name = \"one\", secrets = [{password}] }}] }}")),
        ];
        let route = |(path, proof): &(&str, String)| {
            route(&environment.events, "pagerduty", path, &format!("proof = {{ {proof} }}"))
        };
        let routes: String = routes.iter().map(route).collect();
        let sections = routes + &key_file(environment, "google", &[issuer]);
        ProofConfiguration { sections, ..pagerduty(&file("signing", &self.signature)) }
    }

    /// Sends good and bad requests of each kind, with a query that is a secret too. Returns what the problem documents said, and what must
    /// be in no output.
    fn exercise(&self, gateway: &ProofGateway, issuer: &Issuer) -> (String, Vec<String>) {
        let near = |secret: &str| secret[..secret.len() - 1].to_owned();
        let parameter = |value: &str| format!("{{\"s\":\"name\",\"p\":\"{value}\"}}").into_bytes();
        let basic = |password: &str| format!("Basic {}", BASE64.encode(format!("one:{password}").as_bytes()));
        let token = issuer.sign(&claims_with(&[])).unwrap();
        let (signature, hmac) = (format!("v1={}", hmac_hex(&self.signature, BODY)), hmac_hex(&self.hmac, b"name"));
        let (bearer, good, bad) = (format!("Bearer {token}"), basic(&self.password), basic(&near(&self.password)));
        let (near_field, near_session, near_hmac) = (near(&self.field), near(&self.session), near(&hmac));
        let rows: [(_, _, (_, &str), _); 13] = [
            (PAGERDUTY.path, 200, ("X-PagerDuty-Signature", &signature), BODY.to_vec()),
            (PAGERDUTY.path, 403, ("X-PagerDuty-Signature", &signature), b"{}".to_vec()),
            ("/session", 200, ("X-A", "a"), parameter(&self.session)),
            ("/session", 200, ("X-A", "a"), parameter(&self.inline)),
            ("/session", 403, ("X-A", "a"), parameter(&near_session)),
            ("/hmac", 200, ("X-A", "a"), parameter(&hmac)),
            ("/hmac", 403, ("X-A", "a"), parameter(&near_hmac)),
            ("/token", 401, ("Authorization", &bearer), Vec::new()),
            ("/field", 200, ("X-Shared", &self.field), Vec::new()),
            ("/field", 403, ("X-Shared", &near_field), Vec::new()),
            ("/basic", 200, ("Authorization", &good), Vec::new()),
            ("/basic", 401, ("Authorization", &bad), Vec::new()),
            ("/nowhere", 404, ("Cookie", "session=SECRET-of-the-cookie"), Vec::new()),
        ];
        let mut said = String::new();
        for (path, status, field, body) in rows {
            let fields = [field, ("Cookie", "session=SECRET-of-the-cookie")];
            let target = format!("{path}?key=SECRET-of-the-query");
            let response = gateway.connect().ask(post(&target, &fields, &body)).unwrap();
            assert_eq!(response.status, status, "{path}: {}", response.text());
            if status != 200 {
                said += &response.text();
            }
        }
        let token_signature = token.rsplit('.').next().unwrap().to_owned();
        let credentials = |basic: &str| basic["Basic ".len()..].to_owned();
        let sent = [
            token_signature,
            near_field,
            near_session,
            near_hmac,
            near(&self.password),
            credentials(&good),
            credentials(&bad),
            signature["v1=".len()..].to_owned(),
            "SECRET".to_owned(),
        ];
        (said, sent.to_vec())
    }
}

/// Collects all output of hookgate for good and bad requests, at every level of its log and in every format. Only root can mount the journal.
#[test]
fn secrets_and_tokens_appear_in_no_output() {
    for format in ["text", "json", "journal"] {
        if format == "journal" && !rustix::process::geteuid().is_root() {
            continue;
        }
        let (secrets, issuer, environment) = (Secrets::new(), issuer("key-1"), Environment::new().unwrap());
        let (journal, mut options) = match format {
            "journal" => {
                let (journal, options) = JournalStub::start(&environment);
                (Some(journal), options)
            }
            _ => (None, GatewayOptions::new(BINARY)),
        };
        // All levels of hookgate itself. At "trace", the libraries below it log every byte on the wire.
        options.environment.push(("HOOKGATE_LOG".into(), "debug,hookgate=trace".into()));
        let configuration = secrets.configuration(&environment, &issuer);
        let toml = format!("{}\n[log]\nformat = \"{format}\"\n", configuration.toml(&environment, &PAGERDUTY));
        let daemon = Gateway::start(&toml, &options).unwrap();
        let base = TestGateway::new(daemon, environment, PAGERDUTY.sender).unwrap();
        let gateway = ProofGateway { base, document: PAGERDUTY };
        let (mut said, kept) = secrets.exercise(&gateway, &issuer);
        gateway.base.reload(&toml).unwrap();
        let good = run_check(&gateway.base.environment, &toml);
        assert!(good.success(), "{}", good.stderr_text());
        let warning = "everyone who can read this file can read the secret";
        assert!(good.stderr_text().contains(warning), "{}", good.stderr_text());
        let bad = run_check(&gateway.base.environment, &toml.replace("[[key_source]]", "unknown = 1\n[[key_source]]"));
        for finished in [good, bad] {
            said += &finished.stderr_text();
            said += &finished.stdout_text();
        }
        said += &format!("{:?}", gateway.base.daemon.metrics().unwrap());
        gateway.base.wait_no_connection().unwrap();
        let log = match &journal {
            Some(journal) => {
                journal.find("HOOKGATE_EVENT", "configuration reloaded");
                journal.text()
            }
            None => {
                gateway.base.daemon.wait_log("configuration reloaded", SOON).unwrap();
                gateway.base.daemon.log()
            }
        };
        // What must be there, so that this is the whole log.
        for part in ["request refused", "request answered", "credentials_mismatch", "/session", "/nowhere"] {
            assert!(log.contains(part), "{format}: no {part} in {log}");
        }
        said += &log;
        for kept in &kept {
            assert!(!said.contains(kept.as_str()), "{format}: {kept} is in:\n{said}");
        }
    }
}

/// Errors near a secret are reported without it.
#[test]
fn an_error_near_a_secret_does_not_repeat_it() {
    let environment = Environment::new().unwrap();
    let secret = "SECRET-in-the-file";
    for (secrets, told) in [
        (format!("{{ unsafe_value = \"{secret}\", unknown = 1 }}"), "unknown"),
        (format!("{{ value = \"{secret}\" }}"), "value"),
        (format!("\"{secret}\""), "secrets"),
        (format!("{{ unsafe_value = [\"{secret}\"] }}"), "unsafe_value"),
        (format!("{{ unsafe_value = \"{secret} }}"), "not valid TOML"),
        (format!("{{ unsafe_value = \"{secret}\\q\" }}"), "not valid TOML"),
        (format!("{{ unsafe_value = \"{secret}{}\" }}", "x".repeat(5000)), "more than 4096"),
        (format!("{{ file = \"a\", unsafe_value = \"{secret}\" }}"), "one place"),
    ] {
        let configuration = pagerduty(&secrets).toml(&environment, &PAGERDUTY);
        let line = configuration.lines().position(|line| line.contains(secret)).unwrap() + 1;
        let finished = run_check(&environment, &configuration);
        let said = finished.stderr_text() + &finished.stdout_text();
        assert_eq!(finished.status.unwrap().code(), Some(1), "{said}");
        assert!(!said.contains(secret), "{secrets}: {said}");
        // An unterminated string is an error in the line after it.
        let there = (line..=line + 1).any(|line| said.contains(&format!("checked.toml:{line}:")));
        assert!(there && said.contains(told), "{told} in line {line}: {said}");
    }
}

#[test]
fn check_reports_what_a_preset_still_needs() {
    let environment = Environment::new().unwrap();
    let said = |document: Document, lines: &str| {
        let finished = run_check(&environment, &ProofConfiguration::of_provider(lines).toml(&environment, &document));
        assert_eq!(finished.status.unwrap().code(), Some(1), "{lines}: {}", finished.stdout_text());
        finished.stderr_text()
    };
    let rows: [(Document, &str, &[&str]); 8] = [
        (PAGERDUTY, "", &["\"pagerduty\"", "signature = { secrets = [{ file =", "proof = \"certificate\""]),
        (PAGERDUTY, "signature = {}", &["secrets"]),
        (PAGERDUTY, "signature = { secrets = [] }", &["secrets"]),
        (PAGERDUTY, "signature = { secrets = [{ file = \"absent.secret\" }] }", &["absent.secret"]),
        (
            DIALOGFLOW_CX,
            "",
            &[
                "\"dialogflow-cx\"",
                "project_number = ",
                "audiences = ",
                "session_parameter = ",
                "proof = \"certificate\"",
            ],
        ),
        (DIALOGFLOW_CX, "token = { project_number = \"1\" }", &["audiences", "the URL of the webhook"]),
        (DIALOGFLOW_ES, "token = { audiences = [\"a\"] }", &["project_number", "not the id"]),
        (DIALOGFLOW_ES, "session_parameter = { name = \"a\" }", &["secrets", "hmac_secrets", "token"]),
    ];
    for (document, lines, words) in rows {
        let stderr = said(document, lines);
        for word in words {
            assert!(stderr.contains(word), "{lines:?}: {word:?} is not in {stderr}");
        }
        assert!(stderr.contains("checked.toml:"), "{stderr}");
    }
    let finished = run_check(
        &environment,
        &ProofConfiguration::of_provider(dialogflow_token()).toml(&environment, &DIALOGFLOW_CX),
    );
    assert!(finished.success(), "{}", finished.stderr_text());
}

#[test]
fn check_warns_of_a_secret_that_every_user_can_read() {
    let environment = Environment::new().unwrap();
    let configuration = pagerduty(&secret_file(&environment, "webhook.secret", "a"));
    let path = environment.path("webhook.secret");
    for (mode, warned) in [(0o644, true), (0o604, true), (0o640, false), (0o600, false)] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let finished = run_check(&environment, &configuration.toml(&environment, &PAGERDUTY));
        assert!(finished.success(), "{}", finished.stderr_text());
        let warning = format!("{} is readable by every user", path.display());
        assert_eq!(finished.stderr_text().contains(&warning), warned, "{mode:o}: {}", finished.stderr_text());
    }
}
