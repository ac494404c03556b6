//! Session parameters: values that the operator's server puts into the session of a conversation, in the bodies of Dialogflow CX
//! and ES.

use std::process::Command;

use data_encoding::{BASE64, BASE64URL_NOPAD};
use hookgate_testkit::documents::{DIALOGFLOW_CX, DIALOGFLOW_ES, Document};
use hookgate_testkit::http::Request;
use hookgate_testkit::process;
use serde_json::{Value, json};

use super::issuer::{bearer, claims_with, issuer, key_file};
use super::{ProofConfiguration, ProofGateway, hmac_hex, hmac_sha256, now, secret_file};
use crate::environment::SOON;

const SECRET: &str = "session-secret-of-our-own";

/// The names of the sessions in the two documents.
const CX_SESSION: &str = "projects/PROJECT_ID/locations/REGION/agents/AGENT_ID/sessions/session-test-001";
const ES_SESSION: &str = "projects/PROJECT-ID/agent/sessions/58ab33f3-b57a-aae9-fb23-8306242d4871";

/// `document` with `inserted` before the only occurrence of `place`.
fn insert(document: &Document, place: &str, inserted: &str) -> String {
    assert_eq!(document.body.matches(place).count(), 1, "{place}");
    document.body.replace(place, &format!("{inserted}{place}"))
}

/// The body of CX with this JSON value as the session parameter `webhook_token`.
fn cx(value: &str) -> String {
    insert(&DIALOGFLOW_CX, "\"color\": \"red\"", &format!("\"webhook_token\": {value}, "))
}

/// The body of ES with this JSON value as a parameter of a context.
fn es_context(value: &str) -> String {
    insert(&DIALOGFLOW_ES, "\"no-input\": 0.0", &format!("\"webhook_token\": {value}, "))
}

/// The body of ES with this JSON value in the payload of the request that detected the intent.
fn es_payload(value: &str) -> String {
    let payload = format!("\"payload\": {{ \"webhook_token\": {value} }}");
    assert_eq!(DIALOGFLOW_ES.body.matches("\"payload\": {}").count(), 1);
    DIALOGFLOW_ES.body.replace("\"payload\": {}", &payload)
}

fn quote(text: &str) -> String {
    Value::from(text).to_string()
}

fn by_secret(environment: &crate::environment::Environment) -> ProofConfiguration {
    let secret = secret_file(environment, "session.secret", SECRET);
    ProofConfiguration::of_provider(format!("session_parameter = {{ name = \"webhook_token\", secrets = [{secret}] }}"))
}

fn assert_proof(request: &Request) {
    assert_eq!(request.fields.all("x-hookgate-proof").collect::<Vec<_>>(), ["certificate, session-parameter"]);
    assert_eq!(request.field("x-hookgate-token-email"), None, "no bearer token is configured");
}

#[test]
fn a_secret_is_found_in_the_bodies_of_cx_and_es() {
    for (document, places) in
        [(DIALOGFLOW_CX, &[cx as fn(&str) -> String] as &[_]), (DIALOGFLOW_ES, &[es_context, es_payload])]
    {
        let gateway = ProofGateway::new(document, by_secret).unwrap();
        for place in places {
            let body = place(&quote(SECRET));
            let request = gateway.expect_admitted(document.provider, document.fields, body.as_bytes());
            assert_proof(&request);
            assert_eq!(request.text(), body);
            gateway.expect_admitted("with escapes", &[], place("\"session-secret\\u002dof-our-own\"").as_bytes());
            let refused = |what: &str, status: u16, reason: &str, value: &str| {
                gateway.expect_refused(what, (status, reason), &[], place(value).as_bytes());
            };
            for wrong in
                ["session-secret-of-our-ow", "session-secret-of-our-own ", "Session-secret-of-our-own", "", "*"]
            {
                refused(wrong, 403, "session_parameter_mismatch", &quote(wrong));
            }
            for wrong in ["null", "true", "0", "{}", "[\"session-secret-of-our-own\"]"] {
                refused(wrong, 403, "session_parameter_mismatch", wrong);
            }
            // Two members of the name are ambiguous.
            let twice = format!("{}, \"webhook_token\": {}", quote("wrong"), quote(SECRET));
            refused("a second member of the name", 400, "body_not_json", &twice);
        }
        gateway.expect_refused(
            "no parameter",
            (403, "session_parameter_missing"),
            document.fields,
            document.body.as_bytes(),
        );
        let elsewhere = format!("{{\"webhook_token\": {}}}", quote(SECRET));
        gateway.expect_refused("elsewhere", (403, "session_parameter_missing"), &[], elsewhere.as_bytes());
    }
}

#[test]
fn a_body_that_cannot_be_parsed_proves_nothing() {
    let gateway = ProofGateway::new(DIALOGFLOW_CX, by_secret).unwrap();
    let good = cx(&quote(SECRET));
    let good = good.trim_end().as_bytes();
    let refused = |what: &str, fields: &super::Fields<'_>, body: &[u8]| {
        gateway.expect_refused(what, (400, "body_not_json"), fields, body);
    };
    let secret_ends = good.windows(SECRET.len()).position(|window| window == SECRET.as_bytes()).unwrap() + SECRET.len();
    for length in [0, 1, secret_ends, secret_ends + 1, good.len() / 2, good.len() - 2, good.len() - 1] {
        refused(&format!("{length} bytes of {}", good.len()), &[], &good[..length]);
    }
    refused("something after the end", &[], &[good, b"}"].concat());
    refused("a second document", &[], &[good, good].concat());
    refused("a byte-order mark", &[], &[b"\xEF\xBB\xBF", good].concat());
    refused("another form", &[], b"webhook_token=session-secret-of-our-own");
    refused("very deep", &[], "[".repeat(100_000).as_bytes());
    let compressed = process::run(Command::new("gzip"), good, SOON).unwrap().stdout;
    assert!(compressed.starts_with(&[0x1F, 0x8B]), "the output of gzip is not gzip");
    refused("gzip", &[("Content-Encoding", "gzip")], &compressed);
    refused("gzip that does not say so", &[], &compressed);
    refused("gzip by its own account", &[("Content-Encoding", "gzip")], good);
    refused("two codings", &[("Content-Encoding", "identity"), ("Content-Encoding", "br")], good);
    gateway.expect_admitted("no coding, said", &[("Content-Encoding", "identity")], good);
    gateway.expect_admitted("white space around", &[], &[b"\r\n ", good, b"\n\t"].concat());
}

#[test]
fn an_hmac_of_the_session_name_is_valid_in_that_session_only() {
    type Encode = fn(&[u8]) -> String;
    let encodings: [(&str, Encode); 3] = [
        ("hex", |tag| data_encoding::HEXLOWER.encode(tag)),
        ("base64", |tag| BASE64.encode(tag)),
        ("base64url", |tag| BASE64URL_NOPAD.encode(tag)),
    ];
    for (document, session, place) in
        [(DIALOGFLOW_CX, CX_SESSION, cx as fn(&str) -> String), (DIALOGFLOW_ES, ES_SESSION, es_context)]
    {
        for (name, encode) in encodings {
            let write = |environment: &_| {
                let secrets =
                    [secret_file(environment, "old.secret", "of old"), secret_file(environment, "new.secret", SECRET)];
                let secrets = secrets.join(", ");
                ProofConfiguration::of_provider(format!(
                    "session_parameter = {{ name = \"webhook_token\", hmac_secrets = [{secrets}], encoding = \"{name}\" }}"
                ))
            };
            let gateway = ProofGateway::new(document, write).unwrap();
            let tag = |secret: &str, message: &str| quote(&encode(&hmac_sha256(secret.as_bytes(), message.as_bytes())));
            for secret in [SECRET, "of old"] {
                assert_proof(&gateway.expect_admitted(name, &[], place(&tag(secret, session)).as_bytes()));
            }
            let refused = |what: &str, value: &str| {
                gateway.expect_refused(what, (403, "session_parameter_mismatch"), &[], place(value).as_bytes());
            };
            refused("another session's", &tag(SECRET, &session.replace('1', "2")));
            refused("with another secret", &tag("of nobody", session));
            refused("the secret itself", &quote(SECRET));
            refused("the session's name", &quote(session));
            refused("nothing", "\"\"");
            let moved = place(&tag(SECRET, session)).replace(session, "projects/evil/sessions/1");
            gateway.expect_refused("moved", (403, "session_parameter_mismatch"), &[], moved.as_bytes());
            let nameless = place(&tag(SECRET, session)).replace("\"session\"", "\"sessions\"");
            gateway.expect_refused("no session", (403, "session_parameter_missing"), &[], nameless.as_bytes());
        }
    }
}

#[test]
fn a_cut_or_extended_hmac_is_refused() {
    let write = |environment: &_| {
        let secret = secret_file(environment, "session.secret", SECRET);
        ProofConfiguration::of_provider(format!(
            "session_parameter = {{ name = \"webhook_token\", hmac_secrets = [{secret}] }}"
        ))
    };
    let gateway = ProofGateway::new(DIALOGFLOW_CX, write).unwrap();
    let tag = hmac_hex(SECRET, CX_SESSION.as_bytes());
    gateway.expect_admitted("whole, in upper case", &[], cx(&quote(&tag.to_uppercase())).as_bytes());
    for length in [0, 1, 2, 32, 62, 63] {
        let body = cx(&quote(&tag[..length]));
        gateway.expect_refused("cut", (403, "session_parameter_mismatch"), &[], body.as_bytes());
    }
    for longer in [format!("{tag}00"), format!("{tag}{}", "0".repeat(64)), "0".repeat(100_000)] {
        gateway.expect_refused("longer", (403, "session_parameter_mismatch"), &[], cx(&quote(&longer)).as_bytes());
    }
}

#[test]
fn a_token_of_the_operators_issuer_is_valid_in_its_session_only() {
    let (ours, foreign) = (issuer("login-1"), issuer("login-1"));
    for (document, session, place) in
        [(DIALOGFLOW_CX, CX_SESSION, cx as fn(&str) -> String), (DIALOGFLOW_ES, ES_SESSION, es_payload)]
    {
        let write = |environment: &_| {
            ProofConfiguration {
            provider: "[provider.session_parameter]\nname = \"webhook_token\"\n\
                       token = { issuers = [\"https://login.example.com\"], audiences = [\"webhook\"], key_source = \"login\" }\n"
                .to_owned(),
            sections: key_file(environment, "login", &[&ours]),
            ..ProofConfiguration::default()
        }
        };
        let gateway = ProofGateway::new(document, write).unwrap();
        let claims = |changes: &[(&str, Value)]| {
            let own = [
                ("iss", json!("https://login.example.com")),
                ("aud", json!("webhook")),
                ("sub", json!(session)),
                ("email", Value::Null),
            ];
            claims_with(&[own.as_slice(), changes].concat())
        };
        let good = ours.sign(&claims(&[])).unwrap();
        assert_proof(&gateway.expect_admitted("our token", &[], place(&quote(&good)).as_bytes()));
        let refused = |what: &str, token: &str, said: &str| {
            let body = place(&quote(token));
            let response = gateway.expect_refused(what, (403, "session_parameter_mismatch"), &[], body.as_bytes());
            assert!(response.text().contains(said), "{what}: {said:?} is not in {}", response.text());
        };
        let signed = |changes: &[(&str, Value)]| ours.sign(&claims(changes)).unwrap();
        refused("another session", &signed(&[("sub", json!("projects/evil/sessions/1"))]), "another session");
        refused("no session", &signed(&[("sub", Value::Null)]), "another session");
        refused("expired", &signed(&[("exp", json!(now() - 100))]), "token_expired");
        refused("another audience", &signed(&[("aud", json!("other"))]), "token_wrong_audience");
        refused("another issuer", &signed(&[("iss", json!("https://evil.example"))]), "token_wrong_issuer");
        refused("a foreign key", &foreign.sign(&claims(&[])).unwrap(), "token_bad_signature");
        refused("an unknown key", &issuer("login-2").sign(&claims(&[])).unwrap(), "token_unknown_key");
        refused("no token", "open sesame", "token_malformed");
        // The token counts in the body only.
        for authorization in [format!("Bearer {good}"), bearer(&ours, &[])] {
            let fields = [("Authorization", authorization.as_str())];
            gateway.expect_refused(
                "in the header",
                (403, "session_parameter_missing"),
                &fields,
                document.body.as_bytes(),
            );
        }
    }
}

/// A pointer into any other body. The secret may be any of several values.
#[test]
fn a_pointer_can_select_any_value() {
    let write = |environment: &_| {
        let secret = secret_file(environment, "session.secret", SECRET);
        let pointer = "/contexts/*/para~1meters/to~0ken";
        ProofConfiguration::of_provider(format!(
            "proof = {{ session_parameter = {{ pointer = \"{pointer}\", secrets = [{secret}] }} }}"
        ))
    };
    let gateway = ProofGateway::new(DIALOGFLOW_CX, write).unwrap();
    let context = |value: &str| format!("{{\"para/meters\": {{\"to~ken\": {value}}}}}");
    let body = |values: &[&str]| {
        let contexts: Vec<_> = values.iter().map(|value| context(value)).collect();
        format!("{{\"contexts\": [{}]}}", contexts.join(", "))
    };
    let good = quote(SECRET);
    for values in [&[good.as_str()] as &[_], &["1", "\"x\"", &good], &[&good, "{}"]] {
        gateway.expect_admitted("among others", &[], body(values).as_bytes());
    }
    gateway.expect_refused(
        "wrong ones",
        (403, "session_parameter_mismatch"),
        &[],
        body(&["\"x\"", "\"y\""]).as_bytes(),
    );
    gateway.expect_refused("none", (403, "session_parameter_missing"), &[], body(&[]).as_bytes());
    let plain = format!("{{\"contexts\": {}}}", context(&good));
    gateway.expect_refused("no array", (403, "session_parameter_missing"), &[], plain.as_bytes());
}
