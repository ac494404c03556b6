//! Target `json`: the body of a request in which a pointer finds a secret.
//!
//! Input: a line with a pointer, then the body.

use std::sync::Arc;

use hookgate_core::auth::{
    Clause, JsonPointer, KeySets, Proof, ProofPolicy, ReplayGuard, RequestView, Secret, SessionParameter,
};
use hookgate_core::reject::Reject;
use http::{HeaderMap, Method};
use serde::de::IgnoredAny;
use serde_json::Value;

use crate::policy::NOW;

const SECRET: &str = "hunter2";

/// Looks for the secret. It may be found only where a parser that builds the whole body finds it too.
pub fn judge(input: &[u8]) {
    let end = input.iter().position(|byte| *byte == b'\n').unwrap_or(input.len());
    let (line, body) = (&input[..end], input.get(end + 1..).unwrap_or_default());
    let Ok(text) = std::str::from_utf8(line) else { return };
    let Ok(pointer) = JsonPointer::parse(text) else { return };
    assert_eq!(pointer.to_string(), text);
    let secret = Secret::new(SECRET.as_bytes().to_vec()).expect("seven bytes are a secret");
    let parameter = SessionParameter::secret(pointer, vec![secret]).expect("one secret makes a rule");
    let policy = ProofPolicy::all(vec![Clause::One(Proof::SessionParameter(parameter))]).expect("one clause");
    let headers = HeaderMap::new();
    let view = RequestView { method: &Method::POST, path: "/", headers: &headers, body, received_at: NOW };
    let checked = policy.check(&view, &KeySets::empty(0), &Arc::new(ReplayGuard::new(1)));
    let is_well_formed = serde_json::from_slice::<IgnoredAny>(body).is_ok();
    match checked {
        Ok(_) => {
            assert!(is_well_formed, "{text} was found in a body that is not JSON");
            // A number beyond a double is well-formed, but has no value.
            if let Ok(value) = serde_json::from_slice::<Value>(body) {
                let tokens: Vec<String> = text[1..].split('/').map(unescape).collect();
                assert!(strings(&value, &tokens).contains(&SECRET), "{text} in {value}");
            }
        }
        Err(unproven) if !is_well_formed => assert_eq!(unproven.refusal.reject, Reject::BodyNotJson),
        Err(_) => {}
    }
}

fn unescape(token: &str) -> String {
    token.replace("~1", "/").replace("~0", "~")
}

/// The strings at a pointer; in an array, `*` is every element.
fn strings<'v>(value: &'v Value, tokens: &[String]) -> Vec<&'v str> {
    let Some((token, rest)) = tokens.split_first() else { return value.as_str().into_iter().collect() };
    match value {
        Value::Object(members) => members.get(token).map(|value| strings(value, rest)).unwrap_or_default(),
        Value::Array(elements) if token == "*" => elements.iter().flat_map(|element| strings(element, rest)).collect(),
        Value::Array(elements) => {
            let is_index = token == "0" || !token.starts_with('0') && token.bytes().all(|byte| byte.is_ascii_digit());
            let element = token.parse().ok().filter(|_| is_index).and_then(|index: usize| elements.get(index));
            element.map(|value| strings(value, rest)).unwrap_or_default()
        }
        _ => Vec::new(),
    }
}
