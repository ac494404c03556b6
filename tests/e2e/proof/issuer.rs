//! Tokens and their configuration, as most tests of them need them.
//!
//! Signs by [`Issuer`]; owns the claims that are changed one at a time.

use hookgate_testkit::documents::DIALOGFLOW_CX;
use hookgate_testkit::pki::KeyKind;
use hookgate_testkit::token::{GOOGLE_ISSUER, Issuer};
use serde_json::{Map, Value, json};

use super::now;
use crate::environment::{Environment, quoted};

/// The number of the Google Cloud project whose agent may call.
pub(super) const PROJECT: &str = "123456789012";

/// The audience that is expected: the URL of the webhook.
pub(super) const AUDIENCE: &str = "https://hooks.example.com/shirts-agent-webhook";

/// What completes the proof of a Dialogflow preset.
pub(super) fn dialogflow_token() -> String {
    format!("token = {{ project_number = \"{PROJECT}\", audiences = [\"{AUDIENCE}\", \"https://old.example.com\"] }}")
}

/// A key for ES256 that its key set calls `key_id`.
pub(super) fn issuer(key_id: &str) -> Issuer {
    Issuer::new(key_id, KeyKind::P256).unwrap()
}

/// A source of keys called `name`, which is a file with the keys of `issuers`.
pub(super) fn key_file(environment: &Environment, name: &str, issuers: &[&Issuer]) -> String {
    let path = environment.write(&format!("{name}.json"), Issuer::key_set(issuers).unwrap()).unwrap();
    format!("[[key_source]]\nname = \"{name}\"\nfile = {}\n", quoted(&path))
}

/// The claims of Google's token for the Dialogflow service agent of [`PROJECT`].
pub(super) fn claims() -> Map<String, Value> {
    let claims = json!({
        "iss": GOOGLE_ISSUER,
        "aud": AUDIENCE,
        "sub": "109876543210987654321",
        "email": format!("service-{PROJECT}@gcp-sa-dialogflow.iam.gserviceaccount.com"),
        "email_verified": true,
        "iat": now(),
        "exp": now() + 3600,
    });
    claims.as_object().unwrap().clone()
}

/// [`claims`] with some replaced, or left out where the value is null.
pub(super) fn claims_with(changes: &[(&str, Value)]) -> String {
    let mut claims = claims();
    for (name, value) in changes {
        if value.is_null() {
            claims.remove(*name);
        } else {
            claims.insert((*name).to_owned(), value.clone());
        }
    }
    Value::Object(claims).to_string()
}

/// The value of `Authorization` with a token that is good in every respect.
pub(super) fn good_bearer(issuer: &Issuer) -> String {
    bearer(issuer, &[])
}

/// The value of `Authorization` with a token of `issuer` with these claims changed.
pub(super) fn bearer(issuer: &Issuer, changes: &[(&str, Value)]) -> String {
    format!("Bearer {}", issuer.sign(&claims_with(changes)).unwrap())
}

/// A webhook of Dialogflow CX.
pub(super) const BODY: &[u8] = DIALOGFLOW_CX.body.as_bytes();
