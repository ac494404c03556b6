//! Secrets: where they come from, how they are replaced, and that they show nowhere.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use std::process::Command;

use hookgate_testkit::configuration::{IO, LISTEN_PORT, METRICS_PORT};
use hookgate_testkit::documents::{DIALOGFLOW_CX, DIALOGFLOW_ES, Document, PAGERDUTY};
use hookgate_testkit::gateway::{GatewayOptions, Signal};
use hookgate_testkit::process::{Finished, run};

use super::issuer::{claims_with, dialogflow_token, issuer, key_file};
use super::{Demand, Fields, Gate, hmac_hex, post, route, secret_file};
use crate::world::{BINARY, SOON, Scene};

const BODY: &[u8] = PAGERDUTY.body.as_bytes();

fn signed(gate: &Gate, secret: &str) -> u16 {
    let signature = format!("v1={}", hmac_hex(secret, BODY));
    gate.send(&[("X-PagerDuty-Signature", &signature)], BODY).status
}

fn pagerduty(secrets: &str) -> Demand {
    Demand::of(format!("signature = {{ secrets = [{secrets}] }}\nreplay = \"none\""))
}

/// `hookgate check` of `configuration`.
fn check(scene: &Scene, configuration: &str) -> Finished {
    let text = configuration.replace(LISTEN_PORT, "8443").replace(METRICS_PORT, "9464").replace(IO, "auto");
    let file = scene.write("checked.toml", text).unwrap();
    let mut command = Command::new(BINARY);
    command.args(["check", "--config"]).arg(file).env("NO_COLOR", "1").env_remove("CREDENTIALS_DIRECTORY");
    run(command, &[], SOON).unwrap()
}

#[test]
fn a_secret_is_replaced_by_a_reload() {
    let demand = |scene: &Scene, secret: &str| pagerduty(&secret_file(scene, "webhook.secret", secret));
    let gate = Gate::new(PAGERDUTY, |scene| demand(scene, "first")).unwrap();
    assert_eq!((signed(&gate, "first"), signed(&gate, "second")), (200, 403));
    gate.world.scene.write("webhook.secret", "second").unwrap();
    assert_eq!((signed(&gate, "first"), signed(&gate, "second")), (200, 403), "before the reload");
    let mut call = gate.call();
    gate.reload(&demand(&gate.world.scene, "second"));
    assert_eq!((signed(&gate, "first"), signed(&gate, "second")), (403, 200), "afterwards");
    let old = format!("v1={}", hmac_hex("first", BODY));
    let response = call.ask(post(PAGERDUTY.path, &[("X-PagerDuty-Signature", &old)], BODY)).unwrap();
    assert_eq!(response.reason().as_deref(), Some("signature_mismatch"), "on a connection from before");
}

#[test]
fn a_rotation_has_both_for_a_while() {
    let gate = Gate::new(PAGERDUTY, |scene| pagerduty(&secret_file(scene, "old.secret", "old"))).unwrap();
    let (old, new) = {
        let scene = &gate.world.scene;
        (secret_file(scene, "old.secret", "old"), secret_file(scene, "new.secret", "new"))
    };
    gate.reload(&pagerduty(&format!("{old}, {new}")));
    assert_eq!((signed(&gate, "old"), signed(&gate, "new")), (200, 200));
    gate.reload(&pagerduty(&new));
    assert_eq!((signed(&gate, "old"), signed(&gate, "new")), (403, 200));
}

#[test]
fn a_secret_that_cannot_be_read_changes_nothing() {
    let gate = Gate::new(PAGERDUTY, |scene| pagerduty(&secret_file(scene, "webhook.secret", "first"))).unwrap();
    let path = gate.world.scene.path("webhook.secret");
    let breakages: [(&str, &dyn Fn()); 3] = [
        ("empty", &|| fs::write(&path, "\n").unwrap()),
        ("too long", &|| fs::write(&path, "x".repeat(5000)).unwrap()),
        ("gone", &|| fs::remove_file(&path).unwrap()),
    ];
    for (count, (what, breakage)) in breakages.into_iter().enumerate() {
        breakage();
        gate.world.gateway.signal(Signal::HUP).unwrap();
        let labels = [("result", "error")];
        let errors = count as f64 + 1.0;
        gate.world.gateway.wait_metric("hookgate_config_reloads_total", &labels, errors, SOON).unwrap();
        assert_eq!(signed(&gate, "first"), 200, "{what}");
    }
    gate.world.gateway.wait_log("webhook.secret", SOON).unwrap();
}

/// As systemd hands them over: systemd.exec(5), LoadCredential=.
#[test]
fn a_secret_may_be_a_credential_of_the_service_manager() {
    let credentials = tempfile::tempdir().unwrap();
    fs::write(credentials.path().join("pagerduty"), "of the manager\n").unwrap();
    let mut options = GatewayOptions::new(BINARY);
    options.environment.push(("CREDENTIALS_DIRECTORY".into(), credentials.path().into()));
    let gate = Gate::with_options(PAGERDUTY, &options, |_| pagerduty("{ credential = \"pagerduty\" }")).unwrap();
    assert_eq!((signed(&gate, "of the manager"), signed(&gate, "pagerduty")), (200, 403));
    let finished =
        check(&gate.world.scene, &pagerduty("{ credential = \"pagerduty\" }").toml(&gate.world.scene, &PAGERDUTY));
    let stderr = finished.stderr_text();
    assert!(stderr.contains("$CREDENTIALS_DIRECTORY is not set"), "{stderr}");
}

/// Everything that hookgate says while it is asked rightly and wrongly, at every level of its log.
#[test]
fn secrets_and_tokens_show_nowhere() {
    let secrets = ["SECRET-of-the-signature", "SECRET-of-the-session", "SECRET-of-the-hmac", "SECRET-in-the-file"];
    let issuer = issuer("key-1");
    let write = |scene: &Scene| {
        let [signing, session, hmac, _] = secrets;
        let signing = secret_file(scene, "signing.secret", signing);
        let session = secret_file(scene, "session.secret", session);
        let hmac = secret_file(scene, "hmac.secret", hmac);
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
            .map(|(path, proof)| route(&scene.events, "pagerduty", path, &format!("proof = {proof}")))
            .collect();
        Demand { sections: routes + &key_file(scene, "google", &[&issuer]), ..pagerduty(&signing) }
    };
    let mut options = GatewayOptions::new(BINARY);
    // hookgate's own words at every level; those of the libraries below it hold every byte on the wire at "trace".
    options.environment.push(("HOOKGATE_LOG".into(), "debug,hookgate=trace".into()));
    let gate = Gate::with_options(PAGERDUTY, &options, write).unwrap();
    let token = issuer.sign(&claims_with(&[])).unwrap();
    let bearer = format!("Bearer {token}");
    let signature = format!("v1={}", hmac_hex(secrets[0], BODY));
    let hmac = hmac_hex(secrets[2], b"name");
    let mut said = String::new();
    let mut call = gate.call();
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
        let response = call.ask(post(path, fields, &body)).unwrap();
        assert_eq!(response.status, status, "{path}: {}", response.text());
        if status != 200 {
            said += &response.text();
        }
    }
    let toml = write(&gate.world.scene).toml(&gate.world.scene, &PAGERDUTY);
    gate.world.reload(&toml).unwrap();
    let good = check(&gate.world.scene, &toml);
    assert!(good.success(), "{}", good.stderr_text());
    assert!(
        good.stderr_text().contains("everyone who can read this file can read the secret"),
        "{}",
        good.stderr_text()
    );
    let bad = check(&gate.world.scene, &toml.replace("[[key_source]]", "unknown = 1\n[[key_source]]"));
    for finished in [good, bad] {
        said += &finished.stderr_text();
        said += &finished.stdout_text();
    }
    said += &format!("{:?}", gate.world.gateway.metrics().unwrap());
    said += &gate.world.gateway.log();
    assert!(said.contains("request refused") && said.contains("session_parameter_mismatch"), "{said}");
    let token_signature = token.rsplit('.').next().unwrap();
    let near = [near(secrets[1]), near(&hmac)];
    let sent = [token_signature, &near[0], &near[1], &signature["v1=".len()..]];
    for kept in secrets.into_iter().chain(sent) {
        assert!(!said.contains(kept), "{kept} shows in:\n{said}");
    }
}

/// Mistakes beside a secret are told without it.
#[test]
fn an_error_beside_a_secret_does_not_repeat_it() {
    let scene = Scene::set().unwrap();
    let secret = "SECRET-in-the-file";
    for (secrets, told) in [
        (format!("{{ unsafe_value = \"{secret}\", unknown = 1 }}"), "unknown"),
        (format!("{{ value = \"{secret}\" }}"), "value"),
        (format!("\"{secret}\""), "secrets"),
        (format!("{{ unsafe_value = [\"{secret}\"] }}"), "unsafe_value"),
        (format!("{{ unsafe_value = \"{secret} }}"), "not TOML"),
        (format!("{{ unsafe_value = \"{secret}\\q\" }}"), "not TOML"),
        (format!("{{ unsafe_value = \"{secret}{}\" }}", "x".repeat(5000)), "more than 4096"),
        (format!("{{ file = \"a\", unsafe_value = \"{secret}\" }}"), "one place"),
    ] {
        let configuration = pagerduty(&secrets).toml(&scene, &PAGERDUTY);
        let line = configuration.lines().position(|line| line.contains(secret)).unwrap() + 1;
        let finished = check(&scene, &configuration);
        let said = finished.stderr_text() + &finished.stdout_text();
        assert_eq!(finished.status.unwrap().code(), Some(1), "{said}");
        assert!(!said.contains(secret), "{secrets}: {said}");
        // A string without its end is only missed in the line after it.
        let there = (line..=line + 1).any(|line| said.contains(&format!("checked.toml:{line}:")));
        assert!(there && said.contains(told), "{told} in line {line}: {said}");
    }
}

#[test]
fn check_says_what_a_preset_still_needs() {
    let scene = Scene::set().unwrap();
    let said = |document: Document, lines: &str| {
        let finished = check(&scene, &Demand::of(lines).toml(&scene, &document));
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
    let finished = check(&scene, &Demand::of(dialogflow_token()).toml(&scene, &DIALOGFLOW_CX));
    assert!(finished.success(), "{}", finished.stderr_text());
}

#[test]
fn check_warns_of_a_secret_that_everybody_can_read() {
    let scene = Scene::set().unwrap();
    let demand = pagerduty(&secret_file(&scene, "webhook.secret", "a"));
    let path = scene.path("webhook.secret");
    for (mode, warned) in [(0o644, true), (0o604, true), (0o640, false), (0o600, false)] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let finished = check(&scene, &demand.toml(&scene, &PAGERDUTY));
        assert!(finished.success(), "{}", finished.stderr_text());
        let warning = format!("{} is readable by every user", path.display());
        assert_eq!(finished.stderr_text().contains(&warning), warned, "{mode:o}: {}", finished.stderr_text());
    }
}
