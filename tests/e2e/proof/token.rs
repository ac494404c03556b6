//! Bearer tokens: which are admitted, and the reason for every wrong one.

use data_encoding::{BASE64, BASE64URL_NOPAD};
use hookgate_testkit::documents::{DIALOGFLOW_CX, DIALOGFLOW_ES, Document};
use hookgate_testkit::http::Request;
use hookgate_testkit::pki::KeyKind;
use hookgate_testkit::token::{GOOGLE_ISSUER, Issuer, dialogflow_claims};
use serde_json::{Value, json};

use super::issuer::{AUDIENCE, BODY, PROJECT, bearer, claims_with, dialogflow_token, good_bearer, issuer, key_file};
use super::{ProofConfiguration, ProofGateway, hmac_sha256, now};

/// The daemon that demands a token, signed by one of `issuers`, of the provider of `document`.
fn start(document: Document, issuers: &[&Issuer]) -> ProofGateway {
    let write = |environment: &_| ProofConfiguration {
        provider: dialogflow_token(),
        sections: key_file(environment, "google", issuers),
        ..ProofConfiguration::default()
    };
    ProofGateway::new(document, write).unwrap()
}

fn assert_field(request: &Request, name: &str, expected: &[&str]) {
    let values: Vec<_> = request.fields.all(name).collect();
    assert_eq!(values, expected, "{name}");
}

#[test]
fn a_token_of_the_service_agent_is_admitted_and_its_claims_reach_the_handler() {
    let email = format!("service-{PROJECT}@gcp-sa-dialogflow.iam.gserviceaccount.com");
    for document in [DIALOGFLOW_CX, DIALOGFLOW_ES] {
        for kind in [KeyKind::P256, KeyKind::Rsa2048] {
            let issuer = Issuer::new("key-1", kind).unwrap();
            let gateway = start(document, &[&issuer]);
            let token = issuer.sign(&dialogflow_claims(AUDIENCE, PROJECT)).unwrap();
            let authorization = format!("Bearer {token}");
            let fields = [
                ("Authorization", authorization.as_str()),
                ("X-Hookgate-Proof", "forged"),
                ("X-Hookgate-Token-Email", "forged"),
                ("x_hookgate_token_email", "forged"),
                ("X-Hookgate_Token-Subject", "forged"),
                ("X-Hookgate-Token-Audience", "forged"),
                ("X-Hookgate-Token-Issuer", "forged"),
            ];
            let what = format!("{} {}", document.provider, issuer.algorithm());
            let request = gateway.expect_admitted(&what, &fields, document.body.as_bytes());
            assert_field(&request, "x-hookgate-proof", &["certificate, token"]);
            assert_field(&request, "x-hookgate-token-email", &[&email]);
            assert_field(&request, "x-hookgate-token-issuer", &[GOOGLE_ISSUER]);
            assert_field(&request, "x-hookgate-token-audience", &[AUDIENCE]);
            assert_field(&request, "x-hookgate-token-subject", &["109876543210987654321"]);
            assert!(!request.fields.0.iter().any(|(_, value)| value == "forged"), "{:?}", request.fields);
            assert_eq!(request.text(), document.body);
        }
    }
}

#[test]
fn unusual_valid_tokens_are_admitted() {
    let issuer = issuer("key-1");
    let gateway = start(DIALOGFLOW_CX, &[&issuer]);
    let check =
        |what: &str, authorization: String| gateway.expect_admitted(what, &[("authorization", &authorization)], BODY);
    let token = issuer.sign(&claims_with(&[])).unwrap();
    check("the scheme in lower case (RFC 9110, section 11.1)", format!("bearer {token}"));
    check("further spaces", format!("BEARER   {token}  "));
    let request = check("another of the audiences", bearer(&issuer, &[("aud", json!("https://old.example.com"))]));
    assert_field(&request, "x-hookgate-token-audience", &["https://old.example.com"]);
    let request = check("a list of audiences", bearer(&issuer, &[("aud", json!(["https://a.example", AUDIENCE]))]));
    assert_field(&request, "x-hookgate-token-audience", &[AUDIENCE]);
    let request = check("no subject", bearer(&issuer, &[("sub", Value::Null)]));
    assert_field(&request, "x-hookgate-token-subject", &[]);
    let request = check("a subject that no field can carry", bearer(&issuer, &[("sub", json!("a\r\nX-Evil: 1"))]));
    assert_field(&request, "x-hookgate-token-subject", &[]);
    assert_field(&request, "x-evil", &[]);
    check("claims that nobody asked for", bearer(&issuer, &[("azp", json!("x")), ("nonce", json!([1, {}]))]));
    check("no iat", bearer(&issuer, &[("iat", Value::Null)]));
}

#[test]
fn every_wrong_claim_has_its_reason() {
    let issuer = issuer("key-1");
    let gateway = start(DIALOGFLOW_CX, &[&issuer]);
    let check = |what: &str, reason: &str, changes: &[(&str, Value)]| {
        gateway.expect_refused(what, (401, reason), &[("Authorization", &bearer(&issuer, changes))], BODY)
    };
    let response = check("another audience", "token_wrong_audience", &[("aud", json!("https://evil.example"))]);
    assert!(response.text().contains("https://evil.example"), "{}", response.text());
    check("a longer audience", "token_wrong_audience", &[("aud", json!(format!("{AUDIENCE}/")))]);
    check("an audience in upper case", "token_wrong_audience", &[("aud", json!(AUDIENCE.to_uppercase()))]);
    check("a list without ours", "token_wrong_audience", &[("aud", json!(["https://a.example", "b"]))]);
    check("an empty list", "token_wrong_audience", &[("aud", json!([]))]);
    check("no audience", "token_wrong_audience", &[("aud", Value::Null)]);

    let other = "service-999999999999@gcp-sa-dialogflow.iam.gserviceaccount.com";
    let response = check("another project", "token_wrong_email", &[("email", json!(other))]);
    assert!(response.text().contains(other), "{}", response.text());
    check("another service", "token_wrong_email", &[("email", json!(format!("service-{PROJECT}@evil.example")))]);
    check("no email", "token_wrong_email", &[("email", Value::Null)]);
    check("an unverified email", "token_wrong_email", &[("email_verified", json!(false))]);
    check("nothing said of its verification", "token_wrong_email", &[("email_verified", Value::Null)]);

    check("another issuer", "token_wrong_issuer", &[("iss", json!("https://issuer.example"))]);
    check("the issuer without scheme", "token_wrong_issuer", &[("iss", json!("accounts.google.com"))]);
    check("no issuer", "token_wrong_issuer", &[("iss", Value::Null)]);

    check("no end", "token_malformed", &[("exp", Value::Null)]);
    check("an end in words", "token_malformed", &[("exp", json!("tomorrow"))]);
    check("an end before 1970", "token_malformed", &[("exp", json!(-1))]);
    check("an audience that is a number", "token_malformed", &[("aud", json!(7))]);
    check("a verification in words", "token_malformed", &[("email_verified", json!("true"))]);
    gateway.base.still_serves().unwrap();
}

/// The clock of the daemon lags by up to a sweep and advances during a test, so the times are a few seconds beyond the limits. The
/// unit tests of the rule check the limits to the second.
#[test]
fn clocks_may_differ_by_no_more_than_the_leeway() {
    let issuer = issuer("key-1");
    // 60 s are the default. The second value shows that the setting has an effect.
    for leeway in [60, 10] {
        let write = |environment: &_| ProofConfiguration {
            provider: dialogflow_token().replace(" }", &format!(", leeway_s = {leeway} }}")),
            sections: key_file(environment, "google", &[&issuer]),
            ..ProofConfiguration::default()
        };
        let gateway = ProofGateway::new(DIALOGFLOW_CX, write).unwrap();
        let admitted = |what: &str, changes: &[(&str, Value)]| {
            gateway.expect_admitted(what, &[("Authorization", &bearer(&issuer, changes))], BODY);
        };
        let refused = |what: &str, reason: &str, changes: &[(&str, Value)]| {
            gateway.expect_refused(what, (401, reason), &[("Authorization", &bearer(&issuer, changes))], BODY);
        };
        refused("ended an hour ago", "token_expired", &[("exp", json!(now() - 3600))]);
        refused("ended just before the leeway", "token_expired", &[("exp", json!(now() - leeway - 3))]);
        admitted("ended within the leeway", &[("exp", json!(now() - leeway + 8))]);
        for claim in ["nbf", "iat"] {
            refused("begins in an hour", "token_not_yet_valid", &[(claim, json!(now() + 3600))]);
            refused("begins after the leeway", "token_not_yet_valid", &[(claim, json!(now() + leeway + 8))]);
            admitted("begins within the leeway", &[(claim, json!(now() + leeway - 3))]);
            admitted("begins in the past", &[(claim, json!(now() - 86_400))]);
        }
        admitted("a fraction of a second", &[("iat", json!(now() as f64 - 0.5))]);
    }
}

#[test]
fn a_signature_with_another_key_is_refused() {
    let (ours, foreign) = (issuer("key-1"), issuer("key-1"));
    let rsa = Issuer::new("key-1", KeyKind::Rsa2048).unwrap();
    let gateway = start(DIALOGFLOW_CX, &[&ours]);
    let check = |what: &str, reason: &str, token: &str| {
        gateway.expect_refused(what, (401, reason), &[("Authorization", &format!("Bearer {token}"))], BODY);
    };
    let claims = claims_with(&[]);
    check("another key of the same name", "token_bad_signature", &foreign.sign(&claims).unwrap());
    check("a key of another kind and the same name", "token_bad_signature", &rsa.sign(&claims).unwrap());
    check("a key that is not in the key set", "token_unknown_key", &issuer("key-2").sign(&claims).unwrap());
    let under = |header: &str| ours.sign_under(header, &claims).unwrap();
    check("another algorithm in the header", "token_bad_signature", &under("{\"alg\":\"RS256\",\"kid\":\"key-1\"}"));
    check(
        "extensions that must be understood",
        "token_malformed",
        &under("{\"alg\":\"ES256\",\"kid\":\"key-1\",\"crit\":[\"b64\"],\"b64\":false}"),
    );
    check("two algorithms", "token_malformed", &under("{\"alg\":\"none\",\"alg\":\"ES256\",\"kid\":\"key-1\"}"));
    check(
        "the type of an access token",
        "token_is_access_token",
        &under("{\"alg\":\"ES256\",\"kid\":\"key-1\",\"typ\":\"at+jwt\"}"),
    );

    let good = ours.sign(&claims).unwrap();
    let parts: Vec<&str> = good.split('.').collect();
    let other_claims = BASE64URL_NOPAD.encode(claims_with(&[("sub", json!("somebody else"))]).as_bytes());
    check("other claims", "token_bad_signature", &format!("{}.{other_claims}.{}", parts[0], parts[2]));
    check("no signature", "token_bad_signature", &format!("{}.{}.", parts[0], parts[1]));
    // Not the last character: some of its bits are unused.
    for place in [good.len() - 3, good.len() - 40, parts[0].len() + 20] {
        let mut altered = good.clone().into_bytes();
        altered[place] = if altered[place] == b'A' { b'B' } else { b'A' };
        check("one character altered", "token_bad_signature", &String::from_utf8(altered).unwrap());
    }
    gateway.expect_admitted("the good one, after all", &[("Authorization", &format!("Bearer {good}"))], BODY);
}

/// `alg` confusion (RFC 8725, section 2.1): the token must not select how it is verified.
#[test]
fn an_algorithm_that_needs_no_private_key_is_refused() {
    let ours = issuer("key-1");
    let gateway = start(DIALOGFLOW_CX, &[&ours]);
    let check = |what: &str, reason: &str, token: &str| {
        gateway.expect_refused(what, (401, reason), &[("Authorization", &format!("Bearer {token}"))], BODY);
    };
    let encode = |text: &str| BASE64URL_NOPAD.encode(text.as_bytes());
    let claims = encode(&claims_with(&[]));
    for alg in ["none", "None", "NONE", ""] {
        let header = encode(&format!("{{\"alg\":\"{alg}\",\"kid\":\"key-1\"}}"));
        check("no signature by its own account", "token_bad_signature", &format!("{header}.{claims}."));
        check("no kid either", "token_bad_signature", &format!("{}.{claims}.", encode("{\"alg\":\"none\"}")));
    }
    let key_set = Issuer::key_set(&[&ours]).unwrap();
    let parsed: Value = serde_json::from_str(&key_set).unwrap();
    let coordinate = |name: &str| BASE64URL_NOPAD.decode(parsed["keys"][0][name].as_str().unwrap().as_bytes()).unwrap();
    let point = [&[4], coordinate("x").as_slice(), coordinate("y").as_slice()].concat();
    // SubjectPublicKeyInfo of a P-256 key up to the point (RFC 5480, section 2).
    let spki_head = data_encoding::HEXLOWER.decode(b"3059301306072a8648ce3d020106082a8648ce3d030107034200").unwrap();
    let spki = [spki_head, point.clone()].concat();
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", BASE64.encode(&spki));
    for public in [key_set.as_bytes(), &point, &spki, pem.as_bytes(), b""] {
        let signed = format!("{}.{claims}", encode("{\"alg\":\"HS256\",\"kid\":\"key-1\",\"typ\":\"JWT\"}"));
        let signature = BASE64URL_NOPAD.encode(&hmac_sha256(public, signed.as_bytes()));
        check("HMAC with the public key", "token_bad_signature", &format!("{signed}.{signature}"));
    }
}

#[test]
fn a_missing_or_malformed_token_has_its_reason() {
    let ours = issuer("key-1");
    let gateway = start(DIALOGFLOW_CX, &[&ours]);
    let good = good_bearer(&ours);
    let check = |what: &str, reason: &str, values: &[&str]| {
        let fields: Vec<_> = values.iter().map(|value| ("Authorization", *value)).collect();
        gateway.expect_refused(what, (401, reason), &fields, BODY);
    };
    check("no field", "token_missing", &[]);
    check("an empty field", "token_missing", &[""]);
    check("the scheme alone", "token_missing", &["Bearer"]);
    check("the scheme and spaces", "token_missing", &["Bearer   "]);
    check("another scheme", "token_missing", &["Basic dXNlcjpwYXNzd29yZA=="]);
    check("another scheme with a good token", "token_missing", &[&good.replace("Bearer", "Token")]);
    check("a good token without the scheme", "token_missing", &[good.strip_prefix("Bearer ").unwrap()]);
    check("the same token twice", "token_malformed", &[&good, &good]);
    check("a wrong token, then a good one", "token_malformed", &["Bearer a.b.c", &good]);
    check("Google's access token", "token_is_access_token", &["Bearer ya29.a0AfH6SMBxThrowaway-access_token"]);
    check("the document's own placeholder", "token_malformed", &["Bearer ey.throwaway.token"]);
    check("words", "token_malformed", &["Bearer open sesame"]);
    check("one part", "token_malformed", &["Bearer abc"]);
    check("five parts, as encrypted tokens have", "token_malformed", &["Bearer a.b.c.d.e"]);
    check("empty parts", "token_malformed", &["Bearer .."]);
    check("not base64url", "token_malformed", &[&good.replacen('.', "+.", 1)]);
    check("padding", "token_malformed", &[&format!("{good}==")]);
    check("two in one field", "token_malformed", &[&format!("{good}, {good}")]);
    check("a token of nine thousand bytes", "token_malformed", &[&format!("Bearer {}", "a".repeat(9000))]);
    gateway.expect_admitted("a good one", &[("Authorization", &good)], BODY);
}

/// Tokens of another issuer than Google, admitted by subject.
#[test]
fn any_issuer_can_be_configured() {
    let ours = issuer("key-1");
    let write = |environment: &_| ProofConfiguration {
        provider: "[provider.proof.token]\nissuers = [\"https://login.example.com\"]\naudiences = [\"hooks\"]\n\
                   subjects = [\"sender-1\", \"sender-2\"]\nkey_source = \"login\"\n"
            .to_owned(),
        sections: key_file(environment, "login", &[&ours]),
        ..ProofConfiguration::default()
    };
    let gateway = ProofGateway::new(DIALOGFLOW_CX, write).unwrap();
    let token = |subject: Value| {
        let email = ("email", Value::Null);
        let changes = [("iss", json!("https://login.example.com")), ("aud", json!("hooks")), ("sub", subject), email];
        bearer(&ours, &changes)
    };
    for subject in ["sender-1", "sender-2"] {
        let request = gateway.expect_admitted(subject, &[("Authorization", &token(json!(subject)))], BODY);
        assert_field(&request, "x-hookgate-token-subject", &[subject]);
        assert_field(&request, "x-hookgate-token-email", &[]);
    }
    for subject in [json!("sender-3"), json!(""), Value::Null] {
        gateway.expect_refused("another", (401, "token_wrong_subject"), &[("Authorization", &token(subject))], BODY);
    }
    gateway.expect_refused("Google's", (401, "token_wrong_issuer"), &[("Authorization", &good_bearer(&ours))], BODY);
}
