//! The tokens and the configuration that most tests of tokens need.
//!
//! Owns the good claims, which tests change one at a time. Must not sign: [`Issuer`] does.

use hookgate_testkit::documents::DIALOGFLOW_CX;
use hookgate_testkit::pki::KeyKind;
use hookgate_testkit::token::{GOOGLE_ISSUER, Issuer};
use serde_json::{Map, Value, json};

use super::now;
use crate::environment::{Environment, quoted};

/// The number of the Google Cloud project whose service agent is admitted.
pub(super) const PROJECT: &str = "123456789012";

/// The expected audience: the URL of the webhook.
pub(super) const AUDIENCE: &str = "https://hooks.example.com/shirts-agent-webhook";

/// The lines that complete the token proof of a Dialogflow preset.
pub(super) fn dialogflow_token() -> String {
    format!("token = {{ project_number = \"{PROJECT}\", audiences = [\"{AUDIENCE}\", \"https://old.example.com\"] }}")
}

/// An issuer with a key for ES256 with this `kid`.
pub(super) fn issuer(key_id: &str) -> Issuer {
    Issuer::new(key_id, KeyKind::P256).unwrap()
}

/// A `[[key_source]]` with this name: a file with the keys of `issuers`.
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

/// [`claims`] with these changed, or removed if the value is null.
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

/// The value of `Authorization` with a good token.
pub(super) fn good_bearer(issuer: &Issuer) -> String {
    bearer(issuer, &[])
}

/// The value of `Authorization` with a token of `issuer` with these claims changed.
pub(super) fn bearer(issuer: &Issuer, changes: &[(&str, Value)]) -> String {
    format!("Bearer {}", issuer.sign(&claims_with(changes)).unwrap())
}

/// A webhook of Dialogflow CX.
pub(super) const BODY: &[u8] = DIALOGFLOW_CX.body.as_bytes();
