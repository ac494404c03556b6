//! Combinations of proofs, and what demands them: provider, preset, route.

use hookgate_testkit::documents::{DIALOGFLOW_CX, PAGERDUTY, PAGERDUTY_SECRET, PERCOLATE};
use hookgate_testkit::pki::{Sender, Variant};
use hookgate_testkit::token::Issuer;
use serde_json::json;

use super::issuer::{AUDIENCE, BODY, PROJECT, bearer, dialogflow_token, good_bearer, issuer, key_file};
use super::{ProofConfiguration, ProofGateway, hmac_hex, post, route, secret_file};
use crate::environment::Environment;
use crate::tls_client::TlsClient;

const PARAMETER: &str = "parameter-secret";
const SIGNING: &str = "signing-secret";

/// The three kinds of proof as TOML tables: a token, the parameter `p` at the top of the body, a signature in `x-signature`.
fn tables(environment: &Environment) -> [String; 3] {
    let parameter = secret_file(environment, "parameter.secret", PARAMETER);
    let signing = secret_file(environment, "signing.secret", SIGNING);
    [
        format!(
            "{{ token = {{ form = \"dialogflow\", project_number = \"{PROJECT}\", audiences = [\"{AUDIENCE}\"] }} }}"
        ),
        format!("{{ session_parameter = {{ pointer = \"/p\", secrets = [{parameter}] }} }}"),
        format!("{{ signature = {{ form = \"hmac\", header = \"x-signature\", secrets = [{signing}] }} }}"),
    ]
}

/// The daemon with the proof that `combine` makes from the three tables.
fn start(issuer: &Issuer, combine: impl Fn(&[String; 3]) -> String) -> ProofGateway {
    let write = |environment: &Environment| ProofConfiguration {
        provider: format!("proof = {}", combine(&tables(environment))),
        sections: key_file(environment, "google", &[issuer]),
        ..ProofConfiguration::default()
    };
    ProofGateway::new(DIALOGFLOW_CX, write).unwrap()
}

/// What a request has of one kind of proof.
#[derive(Clone, Copy, PartialEq)]
enum Shown {
    Good,
    Wrong,
    Not,
}

use Shown::{Good, Not, Wrong};

/// Sends a request with token, parameter and signature as `shown` says, and expects this proof, or this refusal.
fn check(gateway: &ProofGateway, issuer: &Issuer, shown: [Shown; 3], expected: Result<&str, (u16, &str)>) {
    let [token, parameter, signature] = shown;
    let body = match parameter {
        Good => format!("{{\"p\":\"{PARAMETER}\"}}"),
        Wrong => "{\"p\":\"wrong\"}".to_owned(),
        Not => "{}".to_owned(),
    };
    let token = match token {
        Good => Some(good_bearer(issuer)),
        Wrong => Some(bearer(issuer, &[("aud", json!("wrong"))])),
        Not => None,
    };
    let signature = match signature {
        Good => Some(hmac_hex(SIGNING, body.as_bytes())),
        Wrong => Some("0".repeat(64)),
        Not => None,
    };
    let fields = [("authorization", &token), ("x-signature", &signature)];
    let fields: Vec<_> = fields.iter().filter_map(|(name, value)| Some((*name, value.as_deref()?))).collect();
    let what = format!("{fields:?} {body}");
    match expected {
        Ok(proof) => {
            let request = gateway.expect_admitted(&what, &fields, body.as_bytes());
            assert_eq!(request.field("x-hookgate-proof"), Some(proof), "{what}");
            let proven = proof.contains("token");
            assert_eq!(request.field("x-hookgate-token-email").is_some(), proven, "{what}");
        }
        Err(refusal) => {
            gateway.expect_refused(&what, refusal, &fields, body.as_bytes());
        }
    }
}

const TOKEN_MISSING: (u16, &str) = (401, "token_missing");
const WRONG_AUDIENCE: (u16, &str) = (401, "token_wrong_audience");
const PARAMETER_MISSING: (u16, &str) = (403, "session_parameter_missing");
const PARAMETER_MISMATCH: (u16, &str) = (403, "session_parameter_mismatch");
const SIGNATURE_MISSING: (u16, &str) = (403, "signature_missing");
const SIGNATURE_MISMATCH: (u16, &str) = (403, "signature_mismatch");

#[test]
fn all_demands_every_proof() {
    let issuer = issuer("key-1");
    let gateway =
        start(&issuer, |[token, parameter, signature]| format!("{{ all = [{token}, {parameter}, {signature}] }}"));
    let rows = [
        ([Good, Good, Good], Ok("certificate, token, session-parameter, signature")),
        ([Not, Good, Good], Err(TOKEN_MISSING)),
        ([Wrong, Good, Good], Err(WRONG_AUDIENCE)),
        ([Good, Not, Good], Err(PARAMETER_MISSING)),
        ([Good, Wrong, Good], Err(PARAMETER_MISMATCH)),
        ([Good, Good, Not], Err(SIGNATURE_MISSING)),
        ([Good, Good, Wrong], Err(SIGNATURE_MISMATCH)),
        ([Not, Not, Not], Err(TOKEN_MISSING)),
    ];
    for (shown, expected) in rows {
        check(&gateway, &issuer, shown, expected);
    }
}

/// The reason of a wrong proof takes precedence over that of a missing one.
#[test]
fn any_accepts_the_first_good_proof() {
    let issuer = issuer("key-1");
    let gateway =
        start(&issuer, |[token, parameter, signature]| format!("{{ any = [{token}, {parameter}, {signature}] }}"));
    let rows = [
        ([Good, Not, Not], Ok("certificate, token")),
        ([Not, Good, Not], Ok("certificate, session-parameter")),
        ([Not, Not, Good], Ok("certificate, signature")),
        ([Wrong, Wrong, Good], Ok("certificate, signature")),
        ([Wrong, Good, Wrong], Ok("certificate, session-parameter")),
        ([Good, Wrong, Wrong], Ok("certificate, token")),
        ([Not, Not, Not], Err(TOKEN_MISSING)),
        ([Not, Wrong, Not], Err(PARAMETER_MISMATCH)),
        ([Not, Not, Wrong], Err(SIGNATURE_MISMATCH)),
        ([Wrong, Not, Not], Err(WRONG_AUDIENCE)),
        ([Wrong, Wrong, Wrong], Err(WRONG_AUDIENCE)),
    ];
    for (shown, expected) in rows {
        check(&gateway, &issuer, shown, expected);
    }
}

#[test]
fn groups_can_be_nested_once() {
    let issuer = issuer("key-1");
    let gateway = start(&issuer, |[token, parameter, signature]| {
        format!("{{ all = [{signature}, {{ any = [{token}, {parameter}] }}] }}")
    });
    let rows = [
        ([Good, Not, Good], Ok("certificate, token, signature")),
        ([Not, Good, Good], Ok("certificate, session-parameter, signature")),
        ([Wrong, Good, Good], Ok("certificate, session-parameter, signature")),
        ([Good, Good, Not], Err(SIGNATURE_MISSING)),
        ([Not, Not, Good], Err(TOKEN_MISSING)),
        ([Wrong, Not, Good], Err(WRONG_AUDIENCE)),
    ];
    for (shown, expected) in rows {
        check(&gateway, &issuer, shown, expected);
    }
    let gateway = start(&issuer, |[token, parameter, signature]| {
        format!("{{ any = [{signature}, {{ all = [{token}, {parameter}] }}] }}")
    });
    let rows = [
        ([Not, Not, Good], Ok("certificate, signature")),
        ([Good, Good, Not], Ok("certificate, token, session-parameter")),
        ([Good, Not, Not], Err(SIGNATURE_MISSING)),
        ([Good, Wrong, Not], Err(PARAMETER_MISMATCH)),
        ([Not, Good, Not], Err(SIGNATURE_MISSING)),
    ];
    for (shown, expected) in rows {
        check(&gateway, &issuer, shown, expected);
    }
}

/// The preset of Dialogflow accepts either proof. One that the operator did not configure is not accepted.
#[test]
fn a_preset_accepts_the_proofs_that_the_operator_configured() {
    let issuer = issuer("key-1");
    let body = DIALOGFLOW_CX.body.replace("\"color\": \"red\"", &format!("\"webhook_token\": \"{PARAMETER}\""));
    let token = good_bearer(&issuer);
    let by_token = [("Authorization", token.as_str())];
    let write = |environment: &Environment, lines: String| ProofConfiguration {
        provider: lines,
        sections: key_file(environment, "google", &[&issuer]),
        ..ProofConfiguration::default()
    };
    let parameter = |environment: &Environment| {
        let secret = secret_file(environment, "parameter.secret", PARAMETER);
        format!("session_parameter = {{ name = \"webhook_token\", secrets = [{secret}] }}\n")
    };
    let gateway = ProofGateway::new(DIALOGFLOW_CX, |environment| {
        write(environment, dialogflow_token() + "\n" + &parameter(environment))
    })
    .unwrap();
    gateway.expect_admitted("both, by token", &by_token, BODY);
    gateway.expect_admitted("both, by parameter", &[], body.as_bytes());
    gateway.expect_refused("both, by neither", TOKEN_MISSING, &[], BODY);
    gateway.reload(&write(&gateway.base.environment, dialogflow_token()));
    gateway.expect_admitted("token alone", &by_token, BODY);
    gateway.expect_refused("token alone, by parameter", TOKEN_MISSING, &[], body.as_bytes());
    let lines = parameter(&gateway.base.environment);
    gateway.reload_permitting(&ProofConfiguration::of_provider(lines));
    gateway.expect_refused("parameter alone, by token", PARAMETER_MISSING, &by_token, BODY);
    gateway.expect_admitted("parameter alone", &[], body.as_bytes());
}

#[test]
fn the_certificate_alone_suffices_if_configured() {
    let gateway = ProofGateway::new(PAGERDUTY, |_| ProofConfiguration::of_provider("proof = \"certificate\"")).unwrap();
    for (what, fields) in [("unsigned", &[] as &[_]), ("wrongly signed", &[("X-PagerDuty-Signature", "v1=00")])] {
        let request = gateway.expect_admitted(what, fields, b"{}");
        assert_eq!(request.field("x-hookgate-proof"), Some("certificate"), "{what}");
    }
    // Without the signature, which covers the id, the preset's rule about duplicates does not apply.
    gateway.expect_admitted("the document", PAGERDUTY.fields, PAGERDUTY.body.as_bytes());
    gateway.expect_admitted("the document again", PAGERDUTY.fields, PAGERDUTY.body.as_bytes());
}

/// Proofs are demanded in addition to the certificate, never instead of it.
#[test]
fn no_proof_replaces_a_certificate() {
    let write = |environment: &Environment| {
        let secret = secret_file(environment, "webhook.secret", PAGERDUTY_SECRET);
        ProofConfiguration::of_provider(format!("signature = {{ secrets = [{secret}] }}"))
    };
    let gateway = ProofGateway::new(PAGERDUTY, write).unwrap();
    let environment = &gateway.base.environment;
    for (sender, variant, reason) in [
        (Sender::PagerDuty, Variant::Expired, "certificate_expired"),
        (Sender::PagerDuty, Variant::WrongSubject, "identity_mismatch"),
        (Sender::Percolate, Variant::Good, "provider_not_admitted"),
    ] {
        let identity = environment.identity(sender, variant).unwrap();
        let client = TlsClient::new(gateway.base.daemon.port(), &environment.pki, &identity).unwrap();
        let request = post(PAGERDUTY.path, PAGERDUTY.fields, PAGERDUTY.body.as_bytes());
        let response = client.connect().unwrap().ask(request).unwrap();
        assert_eq!((response.status, response.reason().as_deref()), (403, Some(reason)), "{}", response.text());
    }
    assert_eq!(environment.handled(), 0);
    gateway.expect_admitted("with its certificate", PAGERDUTY.fields, PAGERDUTY.body.as_bytes());
}

/// The proof of a route replaces that of the provider, by more, less, or another. Other routes keep that of the provider.
#[test]
fn the_proof_of_a_route_replaces_that_of_its_providers() {
    let write = |environment: &Environment| {
        let [_, parameter, signature] = tables(environment);
        let routes = [
            route(&environment.events, "percolate", "/open", "proof = \"certificate\""),
            route(&environment.events, "percolate", "/other", &format!("proof = {parameter}")),
            route(&environment.events, "percolate", "/same", ""),
        ];
        ProofConfiguration {
            sections: routes.concat(),
            ..ProofConfiguration::of_provider(format!("proof = {signature}"))
        }
    };
    let gateway = ProofGateway::new(PERCOLATE, write).unwrap();
    let body = format!("{{\"p\":\"{PARAMETER}\"}}");
    let signature = hmac_hex(SIGNING, body.as_bytes());
    let signed = [("X-Signature", signature.as_str())];
    let proof_at = |path: &str, fields: &super::Fields<'_>, body: &str| {
        let request = gateway.expect_admitted_at(path, path, fields, body.as_bytes());
        request.field("x-hookgate-proof").unwrap().to_owned()
    };
    assert_eq!(proof_at("/open", &[], "{}"), "certificate");
    assert_eq!(proof_at("/open", &signed, &body), "certificate", "a proof that is not demanded was checked");
    assert_eq!(proof_at("/other", &[], &body), "certificate, session-parameter");
    for path in ["/same", PERCOLATE.path] {
        assert_eq!(proof_at(path, &signed, &body), "certificate, signature");
        gateway.expect_refused_at(path, path, SIGNATURE_MISSING, &[], body.as_bytes());
    }
    gateway.expect_refused_at("/other", "the provider's proof", PARAMETER_MISSING, &signed, b"{}");
}
