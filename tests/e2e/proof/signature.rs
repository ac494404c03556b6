//! Signatures over the body, in every form in the documentation of senders, with their published examples.

use data_encoding::{BASE64, HEXLOWER};
use hookgate_testkit::documents::{PAGERDUTY, PAGERDUTY_SECRET, PERCOLATE};
use ring::signature::{Ed25519KeyPair, KeyPair as _};

use super::{Fields, ProofConfiguration, ProofGateway, hmac_hex, hmac_sha256, now, post, route, secret_file};
use crate::environment::Environment;

const SIGNATURE: &str = "X-PagerDuty-Signature";
const NEW_SECRET: &str = "the-secret-that-replaces-it";
const BODY: &[u8] = PAGERDUTY.body.as_bytes();

/// Example of PagerDuty's documentation: two signatures, both with other secrets.
const DOCUMENTED: &str = "v1=f03de6f61df6e454f3620c4d6aca17ad072d3f8bbb2760eac3b95ad391b5e8073,\
                          v1=130dcacb53a94d983a37cf2acba98e805a1c37185309ba56fdcccbcf00d6dd8b";

/// PagerDuty's preset with both secrets, without the replay rule, since these tests repeat a delivery.
fn pagerduty(environment: &Environment) -> ProofConfiguration {
    let secrets =
        [secret_file(environment, "old.secret", PAGERDUTY_SECRET), secret_file(environment, "new.secret", NEW_SECRET)];
    ProofConfiguration::of_provider(format!("signature = {{ secrets = [{}] }}\nreplay = \"none\"", secrets.join(", ")))
}

fn v1(secret: &str, body: &[u8]) -> String {
    format!("v1={}", hmac_hex(secret, body))
}

#[test]
fn pagerdutys_documented_form_is_admitted() {
    let gateway = ProofGateway::new(PAGERDUTY, pagerduty).unwrap();
    let request = gateway.expect_admitted("the document", PAGERDUTY.fields, BODY);
    assert_eq!(request.field("x-hookgate-proof"), Some("certificate, signature"));
    assert_eq!(request.text(), PAGERDUTY.body);
    let (old, new) = (v1(PAGERDUTY_SECRET, BODY), v1(NEW_SECRET, BODY));
    for value in [
        old.clone(),
        new.clone(),
        format!("{old},{new}"),
        format!("{DOCUMENTED},{old}"),
        format!("{new},{DOCUMENTED}"),
        format!("{DOCUMENTED}, {new}"),
        format!("v2=future,{old}"),
        format!(",,{old},"),
        format!("v1={}", hmac_hex(PAGERDUTY_SECRET, BODY).to_uppercase()),
    ] {
        gateway.expect_admitted(&value, &[(SIGNATURE, &value)], BODY);
    }
    gateway.expect_admitted("an empty body", &[(SIGNATURE, &v1(NEW_SECRET, b""))], b"");
    let bytes: Vec<u8> = (0..=255).collect();
    gateway.expect_admitted("bytes that are no text", &[(SIGNATURE, &v1(NEW_SECRET, &bytes))], &bytes);
    let large = vec![b'x'; 1_000_000];
    gateway.expect_admitted("a large body", &[(SIGNATURE, &v1(NEW_SECRET, &large))], &large);
}

#[test]
fn a_signature_that_does_not_match_is_refused() {
    let gateway = ProofGateway::new(PAGERDUTY, pagerduty).unwrap();
    let good = v1(PAGERDUTY_SECRET, BODY);
    let check = |reason: &str, values: &[&str]| {
        let fields: Vec<_> = values.iter().map(|value| (SIGNATURE, *value)).collect();
        gateway.expect_refused(&format!("{values:?}"), (403, reason), &fields, BODY);
    };
    check("signature_missing", &[]);
    check("signature_mismatch", &[DOCUMENTED]);
    check("signature_mismatch", &[&v1("another secret", BODY)]);
    check("signature_mismatch", &[&v1(PAGERDUTY_SECRET, b"another body")]);
    check("signature_mismatch", &[&v1(&format!("{PAGERDUTY_SECRET}\n"), BODY)]);
    check("signature_mismatch", &[&format!("v1={}", "0".repeat(64))]);
    check("signature_malformed", &[""]);
    check("signature_malformed", &[","]);
    check("signature_malformed", &["v1="]);
    check("signature_malformed", &[&good[..good.len() - 2]]);
    check("signature_malformed", &[&good[..good.len() - 1]]);
    check("signature_malformed", &[&format!("{good}00")]);
    check("signature_malformed", &[&good.replace("v1=", "v1=0x")]);
    check("signature_malformed", &[&good.replace("v1=", "")]);
    check("signature_malformed", &[&good.replace("v1=", "v2=")]);
    check("signature_malformed", &[&good.replace("v1=", "V1=")]);
    check("signature_malformed", &[&good.replace("v1=", "sha256=")]);
    check("signature_malformed", &[&format!("\"{good}\"")]);
    check("signature_malformed", &["v1=this is no hexadecimal, and it is sixty-four bytes long, nearly"]);
    check("signature_malformed", &[&format!("v1={}", BASE64.encode(&hmac_sha256(PAGERDUTY_SECRET.as_bytes(), BODY)))]);
    // Two fields are ambiguous.
    check("signature_malformed", &[&good, &good]);
    check("signature_malformed", &[DOCUMENTED, &good]);
    let many = [vec!["v1=00"; 16], vec![good.as_str()]].concat().join(",");
    check("signature_malformed", &[&many]);
    gateway.base.still_serves().unwrap();
}

#[test]
fn a_body_is_refused_whichever_byte_of_it_is_altered() {
    let gateway = ProofGateway::new(PAGERDUTY, pagerduty).unwrap();
    let signature = v1(PAGERDUTY_SECRET, BODY);
    let fields = [(SIGNATURE, signature.as_str())];
    let mut connection = gateway.connect();
    let mut check = |what: String, body: &[u8]| {
        let response = connection.ask(post(PAGERDUTY.path, &fields, body)).unwrap();
        assert_eq!(response.reason().as_deref(), Some("signature_mismatch"), "{what}: {}", response.text());
    };
    for place in 0..BODY.len() {
        let mut altered = BODY.to_vec();
        altered[place] ^= 1 << (place % 8);
        check(format!("byte {place}"), &altered);
    }
    for length in [0, 1, BODY.len() / 2, BODY.len() - 1] {
        check(format!("{length} bytes"), &BODY[..length]);
    }
    for more in [b"\n" as &[u8], b" ", b"\0", b"}"] {
        check(format!("{more:?} behind"), &[BODY, more].concat());
        check(format!("{more:?} before"), &[more, BODY].concat());
    }
    assert_eq!(connection.ask(post(PAGERDUTY.path, &fields, BODY)).unwrap().status, 200);
    assert_eq!(gateway.handler().request_count(), 1, "a request other than the last reached the handler");
    assert_eq!(gateway.base.rejections("signature_mismatch").unwrap(), (BODY.len() + 12) as f64);
}

/// The framing of the body is not signed.
#[test]
fn a_signed_body_may_come_in_chunks() {
    let gateway = ProofGateway::new(PAGERDUTY, pagerduty).unwrap();
    let head = format!(
        "POST {} HTTP/1.1\r\nHost: hooks.example.com\r\nTransfer-Encoding: chunked\r\n{SIGNATURE}: {}\r\n\r\n",
        PAGERDUTY.path,
        v1(NEW_SECRET, b"{\"a\": 1}")
    );
    let mut connection = gateway.connect();
    let response = connection.ask(format!("{head}3\r\n{{\"a\r\n5\r\n\": 1}}\r\n0\r\n\r\n")).unwrap();
    assert_eq!(response.status, 200, "{}", response.text());
    let response = connection.ask(format!("{head}3\r\n{{\"a\r\n5\r\n\": 2}}\r\n0\r\n\r\n")).unwrap();
    assert_eq!(response.reason().as_deref(), Some("signature_mismatch"), "{}", response.text());
}

/// The daemon with a route for Percolate's certificate at `/relay` that demands `signature`.
fn relay(signature: &str, secrets: &str) -> ProofGateway {
    let write = |environment: &Environment| {
        let secrets: Vec<_> = secrets
            .split(' ')
            .enumerate()
            .map(|(index, secret)| secret_file(environment, &format!("{index}.secret"), secret))
            .collect();
        let lines = format!("[route.proof.signature]\nsecrets = [{}]\n{signature}", secrets.join(", "));
        let sections = route(&environment.events, "percolate", "/relay", &lines);
        ProofConfiguration { provider: "proof = \"certificate\"".to_owned(), sections, ..ProofConfiguration::default() }
    };
    ProofGateway::new(PERCOLATE, write).unwrap()
}

fn relay_admitted(gateway: &ProofGateway, what: &str, fields: &Fields<'_>, body: &[u8]) {
    let request = gateway.expect_admitted_at("/relay", what, fields, body);
    assert_eq!(request.field("x-hookgate-proof"), Some("certificate, signature"), "{what}");
}

fn relay_refused(gateway: &ProofGateway, what: &str, reason: &str, fields: &Fields<'_>, body: &[u8]) {
    gateway.expect_refused_at("/relay", what, (403, reason), fields, body);
}

/// The example of the specification and its libraries (standard-webhooks, "Verifying webhook authenticity").
const STANDARD_SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const STANDARD_ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
const STANDARD_BODY: &[u8] = b"{\"test\": 2432232314}";

fn standard_fields<'a>(id: &'a str, timestamp: &'a str, signature: &'a str) -> [(&'a str, &'a str); 3] {
    [("webhook-id", id), ("webhook-timestamp", timestamp), ("webhook-signature", signature)]
}

fn standard(secret: &str, id: &str, timestamp: u64, body: &[u8]) -> String {
    let key = BASE64.decode(secret.strip_prefix("whsec_").unwrap().as_bytes()).unwrap();
    let signed = [format!("{id}.{timestamp}.").as_bytes(), body].concat();
    format!("v1,{}", BASE64.encode(&hmac_sha256(&key, &signed)))
}

#[test]
fn standard_webhooks_are_admitted_within_their_time() {
    // The published vector proves the signing of these tests. Its timestamp is long past.
    let published = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
    assert_eq!(standard(STANDARD_SECRET, STANDARD_ID, 1_614_265_330, STANDARD_BODY), published);
    let gateway = relay("form = \"standard-webhooks\"", STANDARD_SECRET);
    let fields = standard_fields(STANDARD_ID, "1614265330", published);
    relay_refused(&gateway, "the published one", "timestamp_outside_window", &fields, STANDARD_BODY);

    let at = |timestamp: u64| {
        let signature = standard(STANDARD_SECRET, STANDARD_ID, timestamp, STANDARD_BODY);
        (timestamp.to_string(), signature)
    };
    for timestamp in [now(), now() - 285, now() + 295] {
        let (timestamp, signature) = at(timestamp);
        let fields = standard_fields(STANDARD_ID, &timestamp, &signature);
        relay_admitted(&gateway, &timestamp, &fields, STANDARD_BODY);
    }
    for timestamp in [now() - 303, now() + 320, 0, 999_999_999_999] {
        let (timestamp, signature) = at(timestamp);
        let fields = standard_fields(STANDARD_ID, &timestamp, &signature);
        relay_refused(&gateway, &timestamp, "timestamp_outside_window", &fields, STANDARD_BODY);
    }
}

#[test]
fn standard_webhooks_that_do_not_match_are_refused() {
    let gateway = relay("form = \"standard-webhooks\"\ntolerance_s = 60", STANDARD_SECRET);
    let seconds = now();
    let timestamp = seconds.to_string();
    let good = standard(STANDARD_SECRET, STANDARD_ID, seconds, STANDARD_BODY);
    let send = |what: &str, reason: Option<&str>, id: &str, timestamp: &str, signature: &str| {
        let fields = standard_fields(id, timestamp, signature);
        match reason {
            Some(reason) => relay_refused(&gateway, what, reason, &fields, STANDARD_BODY),
            None => relay_admitted(&gateway, what, &fields, STANDARD_BODY),
        }
    };
    let mismatch = Some("signature_mismatch");
    let malformed = Some("signature_malformed");
    let zeros = format!("v1,{}", BASE64.encode(&[0; 32]));
    send("good", None, STANDARD_ID, &timestamp, &good);
    send("several, the last good", None, STANDARD_ID, &timestamp, &format!("{zeros} v1a,AAAA {good}"));
    send("another id", mismatch, "msg_other", &timestamp, &good);
    send("another timestamp", mismatch, STANDARD_ID, &(seconds + 1).to_string(), &good);
    send("zeros", mismatch, STANDARD_ID, &timestamp, &zeros);
    send("another version alone", malformed, STANDARD_ID, &timestamp, &good.replace("v1,", "v2,"));
    send("ed25519 where no such key is", malformed, STANDARD_ID, &timestamp, &good.replace("v1,", "v1a,"));
    send("without version", malformed, STANDARD_ID, &timestamp, &good.replace("v1,", ""));
    send("a cut one", malformed, STANDARD_ID, &timestamp, &good[..good.len() - 4]);
    send("commas for spaces", malformed, STANDARD_ID, &timestamp, &format!("{good},{good}"));
    for wrong in ["", "now", "-1", "+1614265330", "1614265330.5", "0x6037c7f2", "2021-02-25T15:02:10Z", "1234567890123"]
    {
        send(wrong, malformed, STANDARD_ID, wrong, &good);
    }
    // Otherwise the id "a.1" with one timestamp would sign the same message as "a" with another.
    let dotted = standard(STANDARD_SECRET, "msg.1", seconds, STANDARD_BODY);
    send("an id with the separator", malformed, "msg.1", &timestamp, &dotted);
    let all = standard_fields(STANDARD_ID, &timestamp, &good);
    for index in 0..3 {
        let without: Vec<_> = all.iter().copied().filter(|(name, _)| *name != all[index].0).collect();
        relay_refused(&gateway, all[index].0, "signature_missing", &without, STANDARD_BODY);
        let twice = [&all[..], &all[index..=index]].concat();
        relay_refused(&gateway, all[index].0, "signature_malformed", &twice, STANDARD_BODY);
    }
    relay_refused(&gateway, "another body", "signature_mismatch", &all, b"{\"test\": 2432232315}");
}

#[test]
fn standard_webhooks_may_be_signed_with_ed25519() {
    let key = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
    let public = format!("whpk_{}", BASE64.encode(key.public_key().as_ref()));
    let gateway = relay("form = \"standard-webhooks\"", &format!("{public} {STANDARD_SECRET}"));
    let timestamp = now().to_string();
    let signed = |id: &str| {
        let signed = [format!("{id}.{timestamp}.").as_bytes(), STANDARD_BODY].concat();
        format!("v1a,{}", BASE64.encode(key.sign(&signed).as_ref()))
    };
    let both = standard(STANDARD_SECRET, STANDARD_ID, timestamp.parse().unwrap(), STANDARD_BODY);
    let fields = |signature| standard_fields(STANDARD_ID, &timestamp, signature);
    let good = signed(STANDARD_ID);
    relay_admitted(&gateway, "ed25519", &fields(&good), STANDARD_BODY);
    relay_admitted(&gateway, "HMAC beside it", &fields(&both), STANDARD_BODY);
    relay_refused(&gateway, "another body", "signature_mismatch", &fields(&good), b"{}");
    let mut altered = good.clone().into_bytes();
    altered[10] = if altered[10] == b'A' { b'B' } else { b'A' };
    for wrong in [signed("msg_other"), String::from_utf8(altered).unwrap()] {
        relay_refused(
            &gateway,
            "another",
            "signature_mismatch",
            &standard_fields(STANDARD_ID, &timestamp, &wrong),
            STANDARD_BODY,
        );
    }
}

/// The example of GitHub's documentation ("Validating webhook deliveries"). Meta's form is the same.
#[test]
fn the_form_of_github_and_meta_can_be_configured() {
    let (secret, body) = ("It's a Secret to Everybody", b"Hello, World!");
    let published = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
    let write = |environment: &Environment| {
        let secret = secret_file(environment, "github.secret", secret);
        let lines = format!(
            "[route.proof.signature]\nform = \"hmac\"\nheader = \"X-Hub-Signature-256\"\nprefix = \"sha256=\"\nsecrets = [{secret}]"
        );
        let sections = route(&environment.events, "percolate", "/relay", &lines);
        ProofConfiguration { provider: "proof = \"certificate\"".to_owned(), sections, ..ProofConfiguration::default() }
    };
    let gateway = ProofGateway::new(PERCOLATE, write).unwrap();
    let name = "X-Hub-Signature-256";
    relay_admitted(&gateway, "published", &[(name, published)], body);
    relay_admitted(&gateway, "beside SHA-1", &[("X-Hub-Signature", "sha1=00"), (name, published)], body);
    relay_refused(&gateway, "another body", "signature_mismatch", &[(name, published)], b"Hello, World?");
    relay_refused(&gateway, "SHA-1 alone", "signature_missing", &[("X-Hub-Signature", "sha1=00")], body);
    let sha1 = published.replace("sha256=", "sha1=");
    relay_refused(&gateway, "another prefix", "signature_malformed", &[(name, &sha1)], body);
    // Without a separator, the whole field is one value.
    relay_refused(&gateway, "two", "signature_malformed", &[(name, &format!("{published},{published}"))], body);
}

/// The example of Slack's documentation ("Verifying requests from Slack").
#[test]
fn the_form_of_slack_can_be_configured() {
    let secret = "8f742231b10e8888abcd99yyyzzz85a5";
    let body: &[u8] = b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V\
        &channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=\
        &response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN\
        &trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c";
    let signed =
        |timestamp: &str| format!("v0={}", hmac_hex(secret, &[format!("v0:{timestamp}:").as_bytes(), body].concat()));
    let published = "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503";
    assert_eq!(signed("1531420618"), published);
    let form = "form = \"hmac\"\nheader = \"x-slack-signature\"\nprefix = \"v0=\"\nmessage = \"v0:{timestamp}:{body}\"\n\
                timestamp_header = \"x-slack-request-timestamp\"";
    let gateway = relay(form, secret);
    let fresh = now().to_string();
    let check = |reason: Option<&str>, timestamp: &str, signature: &str| {
        let fields = [("X-Slack-Request-Timestamp", timestamp), ("X-Slack-Signature", signature)];
        match reason {
            None => relay_admitted(&gateway, timestamp, &fields, body),
            Some(reason) => relay_refused(&gateway, timestamp, reason, &fields, body),
        }
    };
    check(None, &fresh, &signed(&fresh));
    check(Some("timestamp_outside_window"), "1531420618", published);
    check(Some("signature_mismatch"), &fresh, published);
    check(Some("signature_malformed"), "today", &signed("today"));
    relay_refused(&gateway, "no time", "signature_missing", &[("X-Slack-Signature", published)], body);
}

/// Stripe's form ("Verify webhook signatures manually"): timestamp and signatures are in one field.
#[test]
fn the_form_of_stripe_can_be_configured() {
    let secret = "whsec_stripe_endpoint_secret";
    let form = "form = \"hmac\"\nheader = \"stripe-signature\"\nseparator = \",\"\nprefix = \"v1=\"\n\
                message = \"{timestamp}.{body}\"\ntimestamp_prefix = \"t=\"";
    let gateway = relay(form, secret);
    let body = b"{\"id\": \"evt_1\"}";
    let signed = |timestamp: u64| hmac_hex(secret, &[format!("{timestamp}.").as_bytes(), body].concat());
    let fresh = now();
    let tag = signed(fresh);
    let zeros = "0".repeat(64);
    let check = |reason: Option<&str>, value: &str| match reason {
        None => relay_admitted(&gateway, value, &[("Stripe-Signature", value)], body),
        Some(reason) => relay_refused(&gateway, value, reason, &[("Stripe-Signature", value)], body),
    };
    check(None, &format!("t={fresh},v1={tag}"));
    check(None, &format!("v1={tag},t={fresh}"));
    check(None, &format!("t={fresh},v1={zeros},v1={tag},v0={zeros}"));
    check(Some("signature_mismatch"), &format!("t={},v1={tag}", fresh - 1));
    check(Some("signature_mismatch"), &format!("t={fresh},v1={zeros}"));
    check(Some("signature_missing"), &format!("v1={tag}"));
    check(Some("signature_malformed"), &format!("t={fresh},t={},v1={tag}", fresh - 1));
    check(Some("signature_malformed"), &format!("t={fresh},v0={tag}"));
    check(Some("signature_malformed"), &format!("t={fresh}"));
    check(Some("timestamp_outside_window"), &format!("t={},v1={}", fresh - 303, signed(fresh - 303)));
}

/// Method, path and id in the message, SHA-512, base64: everything that the general form can express.
#[test]
fn the_general_form_can_cover_method_path_and_id() {
    let form = "form = \"hmac\"\nheader = \"x-signature\"\nencoding = \"base64\"\nhash = \"sha512\"\n\
                message = \"{method} {path} {id} {body}\"\nid_header = \"x-id\"";
    let gateway = relay(form, "a-secret");
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA512, b"a-secret");
    let tag = |message: &str| BASE64.encode(ring::hmac::sign(&key, message.as_bytes()).as_ref());
    let good = tag("POST /relay 7 {}");
    relay_admitted(&gateway, "good", &[("x-id", "7"), ("x-signature", &good)], b"{}");
    relay_refused(&gateway, "another id", "signature_mismatch", &[("x-id", "8"), ("x-signature", &good)], b"{}");
    let other = tag("POST /percolate 7 {}");
    relay_refused(&gateway, "another path", "signature_mismatch", &[("x-id", "7"), ("x-signature", &other)], b"{}");
    let other = tag("PUT /relay 7 {}");
    relay_refused(&gateway, "another method", "signature_mismatch", &[("x-id", "7"), ("x-signature", &other)], b"{}");
    let query = gateway.connect().ask(post("/relay?a=b", &[("x-id", "7"), ("x-signature", &good)], b"{}")).unwrap();
    assert_eq!(query.reason().as_deref(), Some("signature_mismatch"), "the query is part of the path");
    let hex = HEXLOWER.encode(&BASE64.decode(good.as_bytes()).unwrap());
    relay_refused(&gateway, "in hexadecimal", "signature_malformed", &[("x-id", "7"), ("x-signature", &hex)], b"{}");
}
