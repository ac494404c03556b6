//! Tests of static credentials: places, rotation, encodings, what a refusal says, and rules that admit too much.

#![expect(clippy::unwrap_used, reason = "tests")]

use data_encoding::BASE64;

use super::*;
use crate::auth::testing::{Request, reason, secret};

fn secrets(texts: &[&str]) -> Vec<Secret> {
    texts.iter().map(|text| secret(text)).collect()
}

#[test]
fn one_of_several_secrets_in_a_field_suffices() {
    let rule = FieldSecret::new("X-Gitlab-Token", "", &secrets(&["the-new-one", "the old one"])).unwrap();
    for (values, expected) in [
        (&["the-new-one"][..], "ok"),
        (&["the old one"], "ok"),
        (&["the-new-on"], "secret_mismatch"),
        (&["the-new-one1"], "secret_mismatch"),
        (&["The-new-one"], "secret_mismatch"),
        (&[""], "secret_mismatch"),
        (&["the-new-one", "the-new-one"], "secret_mismatch"),
        (&[], "secret_missing"),
    ] {
        let fields: Vec<_> = values.iter().map(|value| ("x-gitlab-token", *value)).collect();
        assert_eq!(reason(rule.check(&Request::new(&fields, "{}").view())), expected, "{values:?}");
    }
}

#[test]
fn a_secret_that_is_configured_twice_is_one() {
    let rule = FieldSecret::new("x-token", "", &secrets(&["a", "a", "b"])).unwrap();
    for (value, expected) in [("a", "ok"), ("b", "ok"), ("c", "secret_mismatch")] {
        assert_eq!(reason(rule.check(&Request::new(&[("x-token", value)], "").view())), expected, "{value}");
    }
}

#[test]
fn a_prefix_stands_before_the_secret() {
    let rule = FieldSecret::new("authorization", "Bearer ", &secrets(&["s3cret"])).unwrap();
    for (value, expected) in
        [("Bearer s3cret", "ok"), ("s3cret", "secret_mismatch"), ("bearer s3cret", "secret_mismatch")]
    {
        assert_eq!(reason(rule.check(&Request::new(&[("authorization", value)], "").view())), expected, "{value}");
    }
}

/// The credentials of RFC 7617, section 2, and those of its section 2.1 in UTF-8.
#[test]
fn the_credentials_of_rfc_7617_pass() {
    let users = [("Aladdin".to_owned(), secrets(&["open sesame"])), ("test".to_owned(), secrets(&["123\u{a3}"]))];
    let rule = BasicCredentials::new(&users).unwrap();
    for (value, expected) in [
        ("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==", "ok"),
        ("basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==", "ok"),
        ("BASIC   QWxhZGRpbjpvcGVuIHNlc2FtZQ", "ok"),
        ("Basic dGVzdDoxMjPCow==", "ok"),
        ("Basic QWxhZGRpbjpvcGVuIHNlc2FtZ!==", "credentials_mismatch"),
        ("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=", "credentials_mismatch"),
        ("Basic ", "credentials_missing"),
        ("Basic", "credentials_missing"),
        ("Bearer QWxhZGRpbjpvcGVuIHNlc2FtZQ==", "credentials_missing"),
        ("Basic:QWxhZGRpbjpvcGVuIHNlc2FtZQ==", "credentials_missing"),
    ] {
        let request = Request::new(&[("authorization", value.trim_end())], "");
        assert_eq!(reason(rule.check(&request.view())), expected, "{value}");
    }
    assert_eq!(reason(rule.check(&Request::new(&[], "").view())), "credentials_missing");
    let twice = [("authorization", "Basic dGVzdDoxMjPCow=="); 2];
    assert_eq!(reason(rule.check(&Request::new(&twice, "").view())), "credentials_mismatch");
}

#[test]
fn a_name_goes_with_its_own_passwords_only() {
    let long = "p".repeat(1000);
    let users = [("one".to_owned(), secrets(&["a", "b:c"])), ("two".to_owned(), secrets(&["d", &long]))];
    let rule = BasicCredentials::new(&users).unwrap();
    for (credentials, expected) in [
        ("one:a".to_owned(), "ok"),
        ("one:b:c".to_owned(), "ok"),
        ("two:d".to_owned(), "ok"),
        (format!("two:{long}"), "ok"),
        (format!("two:{long}p"), "credentials_mismatch"),
        ("one:d".to_owned(), "credentials_mismatch"),
        ("two:a".to_owned(), "credentials_mismatch"),
        ("one:b".to_owned(), "credentials_mismatch"),
        ("one:".to_owned(), "credentials_mismatch"),
        (":a".to_owned(), "credentials_mismatch"),
        ("onea".to_owned(), "credentials_mismatch"),
        ("one:a\n".to_owned(), "credentials_mismatch"),
    ] {
        let value = format!("Basic {}", BASE64.encode(credentials.as_bytes()));
        let request = Request::new(&[("authorization", &value)], "");
        assert_eq!(reason(rule.check(&request.view())), expected, "{credentials}");
    }
}

#[test]
fn rules_that_cannot_hold_are_refused() {
    let user = |name: &str| (name.to_owned(), secrets(&["a"]));
    let basic = |users: &[(String, Vec<Secret>)]| BasicCredentials::new(users).unwrap_err();
    assert_eq!(basic(&[]), CredentialRuleError::Users { count: 0 });
    let many: Vec<_> = (0..17).map(|index| user(&index.to_string())).collect();
    assert_eq!(basic(&many), CredentialRuleError::Users { count: 17 });
    assert_eq!(basic(&[user("a"), user("a")]), CredentialRuleError::RepeatedUser { name: "a".to_owned() });
    for name in ["", "a:b", "a\nb", &"x".repeat(257)] {
        assert_eq!(basic(&[user(name)]), CredentialRuleError::UserName { name: name.to_owned() });
    }
    assert_eq!(basic(&[("a".to_owned(), Vec::new())]), CredentialRuleError::Secrets { count: 0 });
    for count in [0, 9] {
        let error = FieldSecret::new("x-a", "", &secrets(&vec!["a"; count])).unwrap_err();
        assert_eq!(error, CredentialRuleError::Secrets { count });
    }
    let name = "x a".to_owned();
    assert_eq!(FieldSecret::new(&name, "", &secrets(&["a"])).unwrap_err(), CredentialRuleError::HeaderName { name });
}

#[test]
fn secrets_are_not_printed() {
    let rule = FieldSecret::new("x-a", "", &secrets(&["hunter2"])).unwrap();
    assert!(format!("{rule:?}").contains("REDACTED"), "{rule:?}");
}
