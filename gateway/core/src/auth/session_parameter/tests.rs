//! Tests of session parameters, in bodies from the providers' documentation.

#![expect(clippy::unwrap_used, reason = "tests")]

use data_encoding::{BASE64, HEXLOWER};
use serde_json::{Value, json};

use super::*;
use crate::auth::testing::{ISSUER, NOW, Request, SOURCE, dialogflow, dialogflow_claims, published, reason, secret};
use crate::auth::token::TokenExpectations;

const CX_SESSION: &str = "projects/PROJECT_ID/locations/REGION/agents/AGENT_ID/sessions/session-test-001";
const ES_SESSION: &str = "projects/PROJECT-ID/agent/sessions/58ab33f3-b57a-aae9-fb23-8306242d4871";

/// The request of Dialogflow CX from its documentation of mutual TLS, with a parameter `key` added.
fn cx(value: &Value) -> Value {
    json!({
        "detectIntentResponseId": "a7951ce2-2f00-4af5-a508-4c2cb45698b0",
        "intentInfo": { "parameters": { "key": { "originalValue": "red", "resolvedValue": "red" } }, "confidence": 0.9978873 },
        "sessionInfo": { "session": CX_SESSION, "parameters": { "color": "red", "size": "large", "key": value } },
        "fulfillmentInfo": { "tag": "confirm" },
        "text": "I want to buy a large red shirt",
        "languageCode": "en"
    })
}

/// The request of Dialogflow ES from its documentation, with `key` in the contexts of these names.
fn es(contexts: &[(&str, Value)]) -> Value {
    let context = |(name, value): &(&str, Value)| json!({ "name": format!("{ES_SESSION}/contexts/{name}"), "parameters": { "no-input": 0.0, "key": value } });
    json!({
        "responseId": "96c0029a-149d-4f5d-b225-0b0bb0f0c8d9-afbcf665",
        "queryResult": { "queryText": "Hi", "outputContexts": contexts.iter().map(context).collect::<Vec<_>>() },
        "originalDetectIntentRequest": { "source": "DIALOGFLOW_CONSOLE", "payload": { "key": "open sesame" } },
        "session": ES_SESSION
    })
}

fn pointer(text: &str) -> JsonPointer {
    JsonPointer::parse(text).unwrap()
}

fn at_cx() -> JsonPointer {
    pointer("/sessionInfo/parameters/key")
}

fn known() -> SessionParameter {
    SessionParameter::secret(at_cx(), vec![secret("open sesame"), secret("old sesame")]).unwrap()
}

fn outcome(rule: &SessionParameter, request: &Request) -> &'static str {
    reason(rule.check(&request.view(), &ISSUER.sets()))
}

#[track_caller]
fn check(rule: &SessionParameter, body: &Value, expected: &str) {
    assert_eq!(outcome(rule, &Request::new(&[], body.to_string())), expected, "{body}");
}

#[test]
fn a_secret_in_the_session_of_dialogflow_cx() {
    check(&known(), &cx(&json!("open sesame")), "ok");
    check(&known(), &cx(&json!("old sesame")), "ok");
    for wrong in [json!("open sesame "), json!("open"), json!(""), json!("Open sesame")] {
        check(&known(), &cx(&wrong), "session_parameter_mismatch");
    }
    for other in [json!(1), json!(null), json!({ "open sesame": 1 }), json!(["open sesame"]), json!(true)] {
        check(&known(), &cx(&other), "session_parameter_mismatch");
    }
    check(&known(), &json!({ "sessionInfo": { "session": CX_SESSION } }), "session_parameter_missing");
    check(&known(), &json!({ "parameters": { "key": "open sesame" } }), "session_parameter_missing");
    check(&known(), &json!("open sesame"), "session_parameter_missing");
}

#[test]
fn a_secret_in_the_contexts_of_dialogflow_es() {
    let anywhere = pointer("/queryResult/outputContexts/*/parameters/key");
    let rule = SessionParameter::secret(anywhere, vec![secret("open sesame")]).unwrap();
    check(&rule, &es(&[("auth", json!("open sesame"))]), "ok");
    check(
        &rule,
        &es(&[("__system_counters__", json!(0.0)), ("old", json!("stale")), ("auth", json!("open sesame"))]),
        "ok",
    );
    check(&rule, &es(&[("old", json!("stale"))]), "session_parameter_mismatch");
    check(&rule, &es(&[]), "session_parameter_missing");
    let payload = pointer("/originalDetectIntentRequest/payload/key");
    let rule = SessionParameter::secret(payload, vec![secret("open sesame")]).unwrap();
    check(&rule, &es(&[]), "ok");
}

#[test]
fn an_hmac_is_valid_in_its_own_session_only() {
    let tag = |session: &str| {
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"s3cret");
        hmac::sign(&key, session.as_bytes())
    };
    for (encoding, write) in [
        (Encoding::Hex, &(|tag: &[u8]| HEXLOWER.encode(tag)) as &dyn Fn(&[u8]) -> String),
        (Encoding::Base64, &|tag: &[u8]| BASE64.encode(tag)),
    ] {
        let session = pointer("/sessionInfo/session");
        let rule = SessionParameter::hmac(at_cx(), session, &[secret("new"), secret("s3cret")], encoding).unwrap();
        check(&rule, &cx(&json!(write(tag(CX_SESSION).as_ref()))), "ok");
        check(&rule, &cx(&json!(write(tag(ES_SESSION).as_ref()))), "session_parameter_mismatch");
        check(&rule, &cx(&json!(write(&tag(CX_SESSION).as_ref()[..31]))), "session_parameter_mismatch");
        check(&rule, &cx(&json!("")), "session_parameter_mismatch");
        check(&rule, &cx(&json!("x".repeat(10_000))), "session_parameter_mismatch");
        let mut nameless = cx(&json!(write(tag(CX_SESSION).as_ref())));
        nameless["sessionInfo"]["session"] = json!(7);
        check(&rule, &nameless, "session_parameter_missing");
    }
}

#[test]
fn a_token_may_be_bound_to_its_session() {
    let expectations = TokenExpectations {
        issuers: vec!["https://login.example".to_owned()],
        audiences: vec!["dialogflow".to_owned()],
        emails: Vec::new(),
        subjects: Vec::new(),
        unsafe_any_subject: true,
        leeway_seconds: 0,
    };
    let rule = || TokenRule::new(SOURCE, &expectations).unwrap();
    let token = |subject: &str| {
        json!(
            ISSUER
                .token(&json!({ "iss": "https://login.example", "aud": "dialogflow", "sub": subject, "exp": NOW + 1 }))
        )
    };
    let free = SessionParameter::token(at_cx(), rule(), None);
    check(&free, &cx(&token("anyone")), "ok");
    check(&free, &cx(&json!(ISSUER.token(&dialogflow_claims()))), "session_parameter_mismatch");
    check(&free, &cx(&json!("x.y.z")), "session_parameter_mismatch");
    let bound = SessionParameter::token(at_cx(), rule(), Some(pointer("/sessionInfo/session")));
    check(&bound, &cx(&token(CX_SESSION)), "ok");
    check(&bound, &cx(&token(ES_SESSION)), "session_parameter_mismatch");
}

#[test]
fn a_token_can_pass_later_if_its_keys_are_missing() {
    let rule = SessionParameter::token(at_cx(), dialogflow(), None);
    let request = Request::new(&[], cx(&json!(ISSUER.token(&dialogflow_claims()))).to_string());
    assert_eq!(reason(rule.check(&request.view(), &KeySets::empty(1))), "keys_unavailable");
    let rotated = published(&ISSUER.jwks().replace("\"rsa\"", "\"next\""), u64::MAX);
    let unproven = rule.check(&request.view(), &rotated).unwrap_err();
    assert_eq!(unproven.refusal.reject, Reject::SessionParameterMismatch);
    assert_eq!(unproven.wants_keys, Some(SOURCE));
}

#[test]
fn a_body_that_is_not_json_is_refused() {
    let body = cx(&json!("open sesame")).to_string();
    for end in 0..body.len() {
        assert_eq!(outcome(&known(), &Request::new(&[], &body[..end])), "body_not_json", "{end} bytes");
    }
    let twice = body.replace("\"key\":\"open sesame\"", "\"key\":\"open sesame\",\"key\":\"other\"");
    assert_ne!(twice, body);
    assert_eq!(outcome(&known(), &Request::new(&[], twice)), "body_not_json");
    for (encoding, expected) in [("gzip", "body_not_json"), ("identity, gzip", "body_not_json"), ("Identity", "ok")] {
        let request = Request::new(&[("content-encoding", encoding)], body.clone());
        assert_eq!(outcome(&known(), &request), expected, "{encoding}");
    }
}

#[test]
fn refusals_do_not_quote_the_parameter() {
    let request = Request::new(&[], cx(&json!("almost open sesame")).to_string());
    let unproven = known().check(&request.view(), &KeySets::default()).unwrap_err();
    assert!(!unproven.refusal.detail().contains("sesame"), "{}", unproven.refusal);
}

#[test]
fn a_secret_that_is_configured_twice_is_one() {
    let rule = SessionParameter::secret(at_cx(), vec![secret("a"), secret("a"), secret("b")]).unwrap();
    for (value, expected) in [("a", "ok"), ("b", "ok"), ("c", "session_parameter_mismatch")] {
        check(&rule, &cx(&json!(value)), expected);
    }
}

#[test]
fn a_rule_needs_secrets() {
    let error = SessionParameter::secret(at_cx(), Vec::new()).unwrap_err();
    assert_eq!(error, SessionParameterError::Secrets { count: 0 });
    let many: Vec<_> = (0..9).map(|_| secret("a")).collect();
    let error = SessionParameter::hmac(at_cx(), pointer("/session"), &many, Encoding::Hex).unwrap_err();
    assert_eq!(error, SessionParameterError::Secrets { count: 9 });
}
