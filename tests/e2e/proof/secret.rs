//! Secrets: their sources, their replacement, and that they appear nowhere.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use hookgate_testkit::documents::{DIALOGFLOW_CX, DIALOGFLOW_ES, Document, PAGERDUTY};
use hookgate_testkit::gateway::{GatewayOptions, Signal};

use super::issuer::{claims_with, dialogflow_token, issuer, key_file};
use super::{Fields, ProofConfiguration, ProofGateway, hmac_hex, post, route, secret_file};
use crate::command::run_check;
use crate::environment::{BINARY, Environment, SOON};

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

/// Collects all output of hookgate for good and bad requests, at every level of its log.
#[test]
fn secrets_and_tokens_appear_in_no_output() {
    let secrets = ["SECRET-of-the-signature", "SECRET-of-the-session", "SECRET-of-the-hmac", "SECRET-in-the-file"];
    let issuer = issuer("key-1");
    let write = |environment: &Environment| {
        let [signing, session, hmac, _] = secrets;
        let signing = secret_file(environment, "signing.secret", signing);
        let session = secret_file(environment, "session.secret", session);
        let hmac = secret_file(environment, "hmac.secret", hmac);
        let inline = "{ unsafe_value = \"SECRET-in-the-file\" }";
        let token = "{ form = \"dialogflow\", project_number = \"1\", audiences = [\"a\"] }";
        let pointer = "pointer = \"/p\"";
        let routes = [
            ("/session", format!("{{ session_parameter = {{ {pointer}, secrets = [{session}, {inline}] }} }}")),
            (
                "/hmac",
                format!("{{ session_parameter = {{ {pointer}, session_pointer = \"/s\", hmac_secrets = [{hmac}] }} }}"),
            ),
            ("/token", format!("{{ token = {token} }}")),
        ];
        let routes: String = routes
            .iter()
            .map(|(path, proof)| route(&environment.events, "pagerduty", path, &format!("proof = {proof}")))
            .collect();
        ProofConfiguration { sections: routes + &key_file(environment, "google", &[&issuer]), ..pagerduty(&signing) }
    };
    let mut options = GatewayOptions::new(BINARY);
    // All levels of hookgate itself. At "trace", the libraries below it log every byte on the wire.
    options.environment.push(("HOOKGATE_LOG".into(), "debug,hookgate=trace".into()));
    let gateway = ProofGateway::with_options(PAGERDUTY, &options, write).unwrap();
    let token = issuer.sign(&claims_with(&[])).unwrap();
    let bearer = format!("Bearer {token}");
    let signature = format!("v1={}", hmac_hex(secrets[0], BODY));
    let hmac = hmac_hex(secrets[2], b"name");
    let mut said = String::new();
    let mut connection = gateway.connect();
    let parameter = |value: &str| format!("{{\"s\":\"name\",\"p\":\"{value}\"}}").into_bytes();
    let near = |secret: &str| secret[..secret.len() - 1].to_owned();
    let bearer = [("Authorization", bearer.as_str())];
    let signature_field = [("X-PagerDuty-Signature", signature.as_str())];
    let rows: [(_, _, &Fields<'_>, _); 8] = [
        (PAGERDUTY.path, 200, &signature_field, BODY.to_vec()),
        (PAGERDUTY.path, 403, &signature_field, b"{}".to_vec()),
        ("/session", 200, &[], parameter(secrets[1])),
        ("/session", 200, &[], parameter(secrets[3])),
        ("/session", 403, &[], parameter(&near(secrets[1]))),
        ("/hmac", 200, &[], parameter(&hmac)),
        ("/hmac", 403, &[], parameter(&near(&hmac))),
        ("/token", 401, &bearer, Vec::new()),
    ];
    for (path, status, fields, body) in rows {
        let response = connection.ask(post(path, fields, &body)).unwrap();
        assert_eq!(response.status, status, "{path}: {}", response.text());
        if status != 200 {
            said += &response.text();
        }
    }
    let toml = write(&gateway.base.environment).toml(&gateway.base.environment, &PAGERDUTY);
    gateway.base.reload(&toml).unwrap();
    let good = run_check(&gateway.base.environment, &toml);
    assert!(good.success(), "{}", good.stderr_text());
    assert!(
        good.stderr_text().contains("everyone who can read this file can read the secret"),
        "{}",
        good.stderr_text()
    );
    let bad = run_check(&gateway.base.environment, &toml.replace("[[key_source]]", "unknown = 1\n[[key_source]]"));
    for finished in [good, bad] {
        said += &finished.stderr_text();
        said += &finished.stdout_text();
    }
    said += &format!("{:?}", gateway.base.daemon.metrics().unwrap());
    said += &gateway.base.daemon.log();
    assert!(said.contains("request refused") && said.contains("session_parameter_mismatch"), "{said}");
    let token_signature = token.rsplit('.').next().unwrap();
    let near = [near(secrets[1]), near(&hmac)];
    let sent = [token_signature, &near[0], &near[1], &signature["v1=".len()..]];
    for kept in secrets.into_iter().chain(sent) {
        assert!(!said.contains(kept), "{kept} is in:\n{said}");
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
