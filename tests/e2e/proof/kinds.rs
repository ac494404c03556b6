//! One test for each kind of proof that real tools make: curl with credentials, and signatures by OpenSSL's keys.

use std::path::{Path, PathBuf};
use std::process::Command;

use data_encoding::{BASE64, BASE64URL_NOPAD, HEXLOWER};
use hookgate_testkit::documents::PERCOLATE;

use super::issuer::{issuer, key_file};
use super::{Fields, ProofConfiguration, ProofGateway, hmac_sha256, now, secret_file};
use crate::environment::{Environment, quoted};

const BODY: &[u8] = b"{\"id\":\"evt_1\",\"n\":1}";

/// Runs openssl in the directory of the environment. Returns what it prints.
fn openssl(environment: &Environment, arguments: &str) -> Vec<u8> {
    openssl_in(environment.directory.path(), arguments)
}

/// The same in another directory.
pub(super) fn openssl_in(directory: &Path, arguments: &str) -> Vec<u8> {
    let mut command = Command::new("openssl");
    let finished = command.args(arguments.split(' ')).current_dir(directory).output().unwrap();
    assert!(finished.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&finished.stderr));
    finished.stdout
}

/// Makes a private key `NAME.key` and its public key `NAME.pem`. Returns an entry of `keys`.
fn key(environment: &Environment, name: &str, options: &str) -> String {
    openssl(environment, &format!("genpkey {options} -out {name}.key"));
    openssl(environment, &format!("pkey -in {name}.key -pubout -out {name}.pem"));
    format!("{{ file = {} }}", quoted(&environment.path(&format!("{name}.pem"))))
}

fn message(environment: &Environment, message: &[u8]) -> PathBuf {
    environment.write("message", message).unwrap()
}

/// Admitted with these fields, with `X-Hookgate-Proof` as given. Refused with another body, and without the fields.
fn check(gateway: &ProofGateway, proof: &str, reasons: (&str, &str), fields: &Fields<'_>) {
    let request = gateway.expect_admitted(proof, fields, BODY);
    assert_eq!(request.field("x-hookgate-proof"), Some(proof));
    assert_eq!(request.text().as_bytes(), BODY);
    gateway.expect_refused("another body", (403, reasons.0), fields, b"{\"id\":\"evt_1\",\"n\":2}");
    gateway.expect_refused("no fields", (403, reasons.1), &[], BODY);
}

const SIGNED: (&str, &str) = ("signature_mismatch", "signature_missing");

#[test]
fn a_secret_in_a_field_is_admitted_and_does_not_bind_the_body() {
    let write = |environment: &Environment| {
        let secrets = [
            secret_file(environment, "old.secret", "the-old-gitlab-token"),
            secret_file(environment, "new.secret", "the-new-gitlab-token"),
        ];
        let secrets = secrets.join(", ");
        ProofConfiguration::of_provider(format!(
            "proof.secret = {{ header = \"x-gitlab-token\", secrets = [{secrets}] }}"
        ))
    };
    let gateway = ProofGateway::new(PERCOLATE, write).unwrap();
    for (secret, body) in [("the-old-gitlab-token", BODY), ("the-new-gitlab-token", b"{}")] {
        let curl = gateway.base.admitted_curl().argument("--header").argument(format!("X-Gitlab-Token: {secret}"));
        let outcome = curl.post(PERCOLATE.path, body).run().unwrap();
        assert_eq!(outcome.status(), Some(200), "{}", outcome.stderr);
        let seen = gateway.handler().requests().pop().unwrap();
        assert_eq!(seen.field("x-hookgate-proof"), Some("certificate, secret"));
    }
    gateway.expect_refused("another", (403, "secret_mismatch"), &[("X-Gitlab-Token", "the-old-gitlab-toke")], BODY);
    gateway.expect_refused("none", (403, "secret_missing"), &[], BODY);
    let log = gateway.base.daemon.log();
    assert!(!log.contains("the-old-gitlab-toke"), "{log}");
}

#[test]
fn curl_authenticates_with_a_user_name_and_a_password() {
    let write = |environment: &Environment| {
        let one = secret_file(environment, "one.secret", "pass:word");
        let two = secret_file(environment, "two.secret", "p\u{e4}ssword");
        ProofConfiguration::of_provider(format!(
            "proof.basic = {{ users = [{{ name = \"one\", secrets = [{one}] }}, {{ name = \"two\", secrets = [{two}] }}] }}"
        ))
    };
    let gateway = ProofGateway::new(PERCOLATE, write).unwrap();
    for (user, status) in [
        ("one:pass:word", 200),
        ("two:p\u{e4}ssword", 200),
        ("two:pass:word", 401),
        ("one:", 401),
        ("three:pass:word", 401),
    ] {
        let curl = gateway.base.admitted_curl().argument("--user").argument(user);
        let outcome = curl.post(PERCOLATE.path, BODY).run().unwrap();
        assert_eq!(outcome.status(), Some(status), "{user}: {}", outcome.stderr);
    }
    let seen = gateway.handler().requests().pop().unwrap();
    assert_eq!(seen.field("x-hookgate-proof"), Some("certificate, basic"));
    gateway.expect_refused("none", (401, "credentials_missing"), &[], BODY);
    gateway.expect_refused("wrong", (401, "credentials_mismatch"), &[("Authorization", "Basic b25lOg==")], BODY);
    gateway.expect_refused("a token", (401, "credentials_missing"), &[("Authorization", "Bearer b25lOg==")], BODY);
}

/// Every algorithm over the raw body, by keys and signatures of OpenSSL.
#[test]
fn signatures_of_openssl_keys_are_admitted() {
    let rsa = "-algorithm RSA -pkeyopt rsa_keygen_bits:2048";
    let p256 = "-algorithm EC -pkeyopt ec_paramgen_curve:P-256";
    let pss = "-sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:digest";
    for (algorithm, options, sign) in [
        ("rsa-pkcs1-sha256", rsa, "dgst -sha256 -sign sender.key message".to_owned()),
        ("rsa-pkcs1-sha512", rsa, "dgst -sha512 -sign sender.key message".to_owned()),
        ("rsa-pss-sha256", rsa, format!("dgst -sha256 {pss} -sign sender.key message")),
        ("rsa-pss-sha384", rsa, format!("dgst -sha384 {pss} -sign sender.key message")),
        ("ecdsa-p256-sha256", p256, "dgst -sha256 -sign sender.key message".to_owned()),
        ("ed25519", "-algorithm ED25519", "pkeyutl -sign -rawin -inkey sender.key -in message".to_owned()),
    ] {
        let write = |environment: &Environment| {
            let key = key(environment, "sender", options);
            ProofConfiguration::of_provider(format!(
                "proof.signature = {{ form = \"public-key\", algorithm = \"{algorithm}\", keys = [{key}], \
                 header = \"x-signature\", encoding = \"base64\" }}"
            ))
        };
        let gateway = ProofGateway::new(PERCOLATE, write).unwrap();
        message(&gateway.base.environment, BODY);
        let signature = BASE64.encode(&openssl(&gateway.base.environment, &sign));
        check(&gateway, "certificate, signature", SIGNED, &[("X-Signature", &signature)]);
    }
}

/// The form of Discord: Ed25519 over a timestamp and the body, directly one after the other.
#[test]
fn a_timestamp_directly_before_the_body_is_signed_and_remembered() {
    let write = |environment: &Environment| {
        let key = key(environment, "discord", "-algorithm ED25519");
        ProofConfiguration::of_provider(format!(
            "proof.signature = {{ form = \"public-key\", algorithm = \"ed25519\", keys = [{key}], \
             header = \"x-signature-ed25519\", message = \"{{timestamp:10}}{{body}}\", \
             timestamp_header = \"x-signature-timestamp\" }}\n\
             replay = {{ by_signature = true, window_s = 600 }}"
        ))
    };
    let gateway = ProofGateway::new(PERCOLATE, write).unwrap();
    let time = now().to_string();
    message(&gateway.base.environment, &[time.as_bytes(), BODY].concat());
    let signature = openssl(&gateway.base.environment, "pkeyutl -sign -rawin -inkey discord.key -in message");
    let signature = HEXLOWER.encode(&signature);
    let fields = [("X-Signature-Ed25519", &*signature), ("X-Signature-Timestamp", &*time)];
    check(&gateway, "certificate, signature", SIGNED, &fields);
    // The last digit of the timestamp, as the first of the body.
    let (short, digit) = time.split_at(9);
    let fields = [("X-Signature-Ed25519", &*signature), ("X-Signature-Timestamp", short)];
    let moved = [digit.as_bytes(), BODY].concat();
    gateway.expect_refused("a moved digit", (403, "signature_malformed"), &fields, &moved);
    let before = gateway.handler().request_count();
    let fields = [("X-Signature-Ed25519", &*signature), ("X-Signature-Timestamp", &*time)];
    assert_eq!(gateway.send(&fields, BODY).status, 200, "a copy is answered as taken");
    assert_eq!(gateway.handler().request_count(), before, "a copy reached the handler");
}

/// The form of Square.
#[test]
fn an_hmac_over_the_configured_url_is_admitted() {
    let url = "https://example.com/hook?a=1";
    let write = |environment: &Environment| {
        let secret = secret_file(environment, "square.secret", "the-square-signature-key");
        ProofConfiguration::of_provider(format!(
            "proof.signature = {{ form = \"hmac\", header = \"x-square-hmacsha256-signature\", encoding = \"base64\", \
             message = \"{{url}}{{body}}\", url = \"{url}\", secrets = [{secret}] }}"
        ))
    };
    let gateway = ProofGateway::new(PERCOLATE, write).unwrap();
    let sign = |url: &str| BASE64.encode(&hmac_sha256(b"the-square-signature-key", &[url.as_bytes(), BODY].concat()));
    check(&gateway, "certificate, signature", SIGNED, &[("x-square-hmacsha256-signature", &sign(url))]);
    let other = sign("https://example.com/hook");
    gateway.expect_refused("another URL", (403, SIGNED.0), &[("x-square-hmacsha256-signature", &other)], BODY);
}

/// Detached signatures by a key of a PEM file, with both forms of the payload, and by one of a set that names it.
#[test]
fn a_detached_json_web_signature_is_admitted() {
    let published = issuer("key-1");
    let write = |environment: &Environment| {
        let key = key(environment, "sender", "-algorithm ED25519");
        ProofConfiguration {
            provider: format!(
                "proof.any = [{{ signature = {{ form = \"detached-jws\", header = \"x-jws-signature\", keys = [{key}] }} }}, \
                 {{ signature = {{ form = \"detached-jws\", header = \"x-set-signature\", key_source = \"sender\" }} }}]"
            ),
            sections: key_file(environment, "sender", &[&published]),
            ..ProofConfiguration::default()
        }
    };
    let gateway = ProofGateway::new(PERCOLATE, write).unwrap();
    let encoded = BASE64URL_NOPAD.encode(BODY);
    for (header, payload) in
        [(r#"{"alg":"EdDSA"}"#, encoded.as_bytes()), (r#"{"alg":"EdDSA","b64":false,"crit":["b64"]}"#, BODY)]
    {
        let header = BASE64URL_NOPAD.encode(header.as_bytes());
        message(&gateway.base.environment, &[header.as_bytes(), b".", payload].concat());
        let signature = openssl(&gateway.base.environment, "pkeyutl -sign -rawin -inkey sender.key -in message");
        let value = format!("{header}..{}", BASE64URL_NOPAD.encode(&signature));
        check(&gateway, "certificate, signature", SIGNED, &[("X-JWS-Signature", &value)]);
    }
    let token = published.sign(std::str::from_utf8(BODY).unwrap()).unwrap();
    let (header, rest) = token.split_once('.').unwrap();
    let (_, signature) = rest.split_once('.').unwrap();
    let value = format!("{header}..{signature}");
    check(&gateway, "certificate, signature", SIGNED, &[("X-Set-Signature", &value)]);
    let whole = [("X-Set-Signature", &*token)];
    gateway.expect_refused("with its payload", (403, "signature_malformed"), &whole, BODY);
    let unknown =
        issuer("key-2").sign(std::str::from_utf8(BODY).unwrap()).unwrap().replace(&format!(".{encoded}."), "..");
    gateway.expect_refused("another key", (403, "signature_unknown_key"), &[("X-Set-Signature", &unknown)], BODY);
}
