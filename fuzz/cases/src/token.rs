//! Target `token`: the value of an `Authorization` field.

use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use hookgate_core::auth::{
    Clause, KeySet, KeySets, KeySourceId, Proof, ProofPolicy, PublishedKeys, ReplayGuard, RequestView,
    TokenExpectations, TokenRule,
};
use http::Method;
use http::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use rustls_pki_types::UnixTime;

/// A time at which the committed tokens are valid: that of the tests of tokens.
pub(crate) const NOW: UnixTime = UnixTime::since_unix_epoch(Duration::from_secs(hookgate_core::auth::testing::NOW));

/// Tokens that the issuer signed, one a line; the first is good.
const TOKENS: &str = include_str!("../tokens.txt");

/// The keys of the issuer.
const KEYS: &[u8] = include_bytes!("../keys.json");

/// The first two parts of every token that the issuer signed.
static SIGNED: LazyLock<BTreeSet<&[u8]>> =
    LazyLock::new(|| TOKENS.lines().filter_map(|line| signed(line.as_bytes())).collect());

static CASE: LazyLock<Case> = LazyLock::new(|| {
    let audiences = vec!["https://hooks.example/dialogflow".to_owned()];
    let expectations = TokenExpectations::dialogflow("4711", audiences).expect("digits are a project number");
    let rule = TokenRule::new(KeySourceId(0), &expectations).expect("the expectations are complete");
    Case { policy: policy(rule), keys: sets(KeySet::parse(KEYS).expect("the committed keys are a key set")) }
});

struct Case {
    policy: ProofPolicy,
    keys: KeySets,
}

/// Checks the field. Only a token that the issuer signed may pass, whatever stands around it.
pub fn judge(input: &[u8]) {
    let Ok(value) = HeaderValue::from_bytes(input) else { return };
    let admitted = check(&CASE.policy, &CASE.keys, value);
    if admitted {
        let token = input.rsplit(|byte| byte.is_ascii_whitespace()).find(|part| !part.is_empty()).unwrap_or_default();
        assert!(signed(token).is_some_and(|signed| SIGNED.contains(signed)), "a token that nobody signed passed");
    }
}

/// Whether a good token passes with these keys.
pub(crate) fn passes_with(set: KeySet) -> bool {
    let token = TOKENS.lines().next().unwrap_or_default();
    let value = HeaderValue::try_from(format!("Bearer {token}")).expect("a token is visible ASCII");
    check(&CASE.policy, &sets(set), value)
}

fn policy(rule: TokenRule) -> ProofPolicy {
    ProofPolicy::all(vec![Clause::One(Proof::Token(rule))]).expect("one clause makes a policy")
}

fn sets(set: KeySet) -> KeySets {
    KeySets::empty(1).with(
        KeySourceId(0),
        PublishedKeys { set: Arc::new(set), usable_until: UnixTime::since_unix_epoch(Duration::MAX) },
    )
}

fn check(policy: &ProofPolicy, keys: &KeySets, value: HeaderValue) -> bool {
    let mut headers = HeaderMap::new();
    headers.insert(AUTHORIZATION, value);
    let view = RequestView { method: &Method::POST, path: "/", headers: &headers, body: b"{}", received_at: NOW };
    match policy.check(&view, keys, &Arc::new(ReplayGuard::new(1))) {
        Ok(_) => true,
        Err(unproven) => {
            assert!([401, 403, 503].contains(&unproven.refusal.reject.row().status), "{}", unproven.refusal);
            assert!(unproven.refusal.detail().len() <= 1024, "{}", unproven.refusal);
            false
        }
    }
}

/// The signed part of a token.
fn signed(token: &[u8]) -> Option<&[u8]> {
    let last = token.iter().rposition(|byte| *byte == b'.')?;
    Some(&token[..last])
}
