//! What each sender sends: its documented request, published or computed by its description, and wrong ones.
//!
//! Owns the table and the senders' keys. A request with a time in it is computed, since the daemon has the real clock; the vectors that
//! senders publish with a time are in the tests of the configuration.

use data_encoding::{BASE64, BASE64URL_NOPAD, HEXLOWER, HEXUPPER};
use hookgate_testkit::documents::{DIALOGFLOW_CX, DIALOGFLOW_ES, Document, PAGERDUTY, PAGERDUTY_SECRET, PERCOLATE};
use hookgate_testkit::pki::{KeyKind, LeafIssuer, LeafOptions, Sender, Subject};
use hookgate_testkit::token::{GOOGLE_ISSUER, Issuer, dialogflow_claims};
use serde_json::json;
use std::path::{Path, PathBuf};

use super::Case;
use crate::environment::Environment;
use crate::proof::kinds::openssl_in;
use crate::proof::{hmac_hex, hmac_sha256, now};

/// The body of the requests of which the documentation shows only the form.
const BODY: &str = "{\"id\":\"evt_1\",\"n\":1}";

/// A secret of Standard Webhooks, and its bytes.
const WHSEC: (&str, &[u8]) =
    ("whsec_dGVzdHRlc3R0ZXN0dGVzdHRlc3R0ZXN0dGVzdHRlc3Q=", b"testtesttesttesttesttesttesttest");

/// Secrets as text, in the files that the pages name.
const SECRETS: [(&str, &str); 11] = [
    ("alertmanager.secret", "the password of Alertmanager"),
    ("docusign.secret", "ds-connect-key"),
    ("github.secret", "It's a Secret to Everybody"),
    ("gitlab.secret", "the secret token of the webhook"),
    ("linear.secret", "lin_wh_test"),
    ("meta-app.secret", "meta-app-secret"),
    ("pagerduty.secret", PAGERDUTY_SECRET),
    ("shopify.secret", "shpss_test"),
    ("slack.secret", "8f742231b10e8888abcd99yyyzzz85a5"),
    ("square.secret", "sq-key"),
    ("stripe.secret", "whsec_test"),
];
const ZOOM_SECRET: (&str, &str) = ("zoom.secret", "zoom-secret");

/// The number of the agent's project, and the account of the push subscription, as the pages have them.
const PROJECT: &str = "123456789012";
const PUSHER: &str = "pusher@my-project.iam.gserviceaccount.com";

/// The key, body and signature of Wise's examples (transferwise/digital-signatures-examples, verify-webhook-signature).
const WISE_KEY: &str = "-----BEGIN PUBLIC KEY-----
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAwpb91cEYuyJNQepZAVfP
ZIlPZfNUefH+n6w9SW3fykqKu938cR7WadQv87oF2VuT+fDt7kqeRziTmPSUhqPU
ys/V2Q1rlfJuXbE+Gga37t7zwd0egQ+KyOEHQOpcTwKmtZ81ieGHynAQzsn1We3j
wt760MsCPJ7GMT141ByQM+yW1Bx+4SG3IGjXWyqOWrcXsxAvIXkpUD/jK/L958Cg
nZEgz0BSEh0QxYLITnW1lLokSx/dTianWPFEhMC9BgijempgNXHNfcVirg1lPSyg
z7KqoKUN0oHqWLr2U1A+7kqrl6O2nx3CKs1bj1hToT1+p4kcMoHXA7kA+VBLUpEs
VwIDAQAB
-----END PUBLIC KEY-----
";
const WISE_BODY: &str = r#"{"data":{"resource":{"id":49983981,"profile_id":16055450,"account_id":14124090,"type":"transfer"},"current_state":"incoming_payment_waiting","previous_state":null,"occurred_at":"2021-08-23T10:12:50Z"},"subscription_id":"90aa8e14-4ef1-4a56-861c-f3c9cde097ea","event_type":"transfers#state-change","schema_version":"2.0.0","sent_at":"2021-08-23T10:12:50Z"}"#;
const WISE_SIGNATURE: &str = "wKcKCYXAzxNgiu7xmoDm943NUni7Rz33QN8JkEA9dWSGebgndonabgSj18Y4C08OrwVmueGsED2s00M7DtJVcYKOS1i3G4TMVx+mgM3aL9djMBkQtiYNBFUd6wrPI7ZUNHv/TrlKSjTMc+6JFvUvJ7owY3z85e3I4jLRLJowMFvO8kvCJ60+1pY9wDwZvtZ//WS93LrwGjk9Dvwzpmu0w+P4J75tETT5qC3Uv0y5G2yO8SEoO3yNP/tg/BOli02niHb53vEOUWUb9bly6thnfMoXoiV/osoGxgF20R58RlvkAmezyyl1Sv542TfS2DpiwVnmjjjkCyXeSUcKookYLQ==";

/// A request.
#[derive(Clone)]
pub(super) struct Sent {
    pub(super) method: &'static str,
    pub(super) target: String,
    pub(super) fields: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

impl Sent {
    /// A POST of JSON to the path of a provider's page.
    fn to(provider: &str, body: impl Into<Vec<u8>>) -> Self {
        let fields = vec![("Content-Type".to_owned(), "application/json".to_owned())];
        Self { method: "POST", target: format!("/{provider}"), fields, body: body.into() }
    }

    /// The request of a document, to the path of the page.
    fn of(document: &Document) -> Self {
        let field = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let fields = document.fields.iter().map(field).collect();
        Self { fields, ..Self::to(document.provider, document.body) }
    }

    /// With this field, in place of those of the same name.
    fn with(&self, name: &str, value: impl Into<String>) -> Self {
        let mut sent = self.without(name);
        sent.fields.push((name.to_owned(), value.into()));
        sent
    }

    fn without(&self, name: &str) -> Self {
        let mut sent = self.clone();
        sent.fields.retain(|(found, _)| !found.eq_ignore_ascii_case(name));
        sent
    }

    /// With a body of one more byte.
    fn altered(&self) -> Self {
        Self { body: [&*self.body, b" "].concat(), ..self.clone() }
    }
}

/// The client certificate of a sender, below the throwaway authorities of `sender`.
pub(super) struct Certificate {
    pub(super) sender: Sender,
    options: LeafOptions,
}

impl Certificate {
    /// That of the sender's document.
    fn of(sender: Sender) -> Self {
        Self { sender, options: LeafOptions::default() }
    }

    /// One with this common name, and no other.
    fn named(common_name: &str) -> Self {
        let subject = Some(Subject::common_name(common_name));
        let options = LeafOptions { subject, dns_names: Some(Vec::new()), ..LeafOptions::default() };
        Self { sender: Sender::PagerDuty, options }
    }

    fn issued_by(self, issuer: LeafIssuer) -> Self {
        Self { options: LeafOptions { issuer, ..self.options }, ..self }
    }

    pub(super) fn options(&self) -> (Sender, LeafOptions) {
        (self.sender, self.options.clone())
    }
}

/// The senders and their keys.
pub(super) struct Senders {
    directory: PathBuf,
    google: Issuer,
}

/// A signature in `header`, alone or behind a certificate. Another body and no signature are refused.
fn signed(provider: &'static str, header: &str, sent: Sent) -> Case {
    let (altered, unsigned) = (sent.altered(), sent.without(header));
    let case = Case::new(provider, "signature", sent);
    let case = case.refuses("another body", altered, 403, "signature_mismatch");
    case.refuses("no signature", unsigned, 403, "signature_missing")
}

/// The same with a time, which must not be old.
fn dated(provider: &'static str, header: &str, sent: &dyn Fn(u64) -> Sent) -> Case {
    signed(provider, header, sent(now())).refuses("an old one", sent(now() - 600), 403, "timestamp_outside_window")
}

/// Standard Webhooks, in fields whose names begin with `prefix`.
fn standard(provider: &'static str, prefix: &str) -> Case {
    let sent = |time: u64| {
        let id = format!("msg_{time}");
        let tag = hmac_sha256(WHSEC.1, format!("{id}.{time}.{BODY}").as_bytes());
        let sent = Sent::to(provider, BODY).with(&format!("{prefix}-id"), id);
        let sent = sent.with(&format!("{prefix}-timestamp"), time.to_string());
        // Two secrets during a rotation, the older one unknown here.
        sent.with(&format!("{prefix}-signature"), format!("v1,{} v1,{}", BASE64.encode(&[7; 32]), BASE64.encode(&tag)))
    };
    let id = format!("{prefix}-id");
    let case = dated(provider, &format!("{prefix}-signature"), &sent).remembers();
    case.refuses("another id", sent(now()).with(&id, "msg_2"), 403, "signature_mismatch")
}

impl Senders {
    /// Makes the keys, and writes every file that the pages name, but for authorities.
    pub(super) fn new(environment: &Environment) -> Self {
        let write = |name: &str, content: &str| environment.write(name, content).unwrap();
        for (name, secret) in SECRETS.into_iter().chain([ZOOM_SECRET]) {
            write(name, secret);
        }
        for name in ["gitlab.whsec", "sender.whsec", "svix.whsec"] {
            write(name, WHSEC.0);
        }
        write("wise-production.pem", WISE_KEY);
        let google = Issuer::new("google-1", KeyKind::Rsa2048).unwrap();
        write("google.json", &Issuer::key_set(&[&google]).unwrap());
        let senders = Self { directory: environment.path("."), google };
        senders.openssl("genpkey -algorithm ED25519 -out discord-private");
        let discord = senders.openssl("pkey -in discord-private -pubout -outform DER");
        write("discord.key", &HEXLOWER.encode(&discord[discord.len() - 32..]));
        senders.openssl("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out sendgrid-private");
        let sendgrid = senders.openssl("pkey -in sendgrid-private -pubout -outform DER");
        write("sendgrid.key", &BASE64.encode(&sendgrid));
        senders.openssl("genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out fireblocks-private");
        senders.openssl("pkey -in fireblocks-private -pubout -out fireblocks-legacy-key.pem");
        let modulus = senders.openssl("rsa -in fireblocks-private -noout -modulus");
        let modulus = modulus.strip_prefix(b"Modulus=").unwrap().trim_ascii();
        let modulus = BASE64URL_NOPAD.encode(&HEXUPPER.decode(modulus).unwrap());
        let key = json!({ "kty": "RSA", "kid": "fb-1", "use": "sig", "alg": "RS512", "n": modulus, "e": "AQAB" });
        write("fireblocks.json", &json!({ "keys": [key] }).to_string());
        senders
    }

    fn openssl(&self, arguments: &str) -> Vec<u8> {
        openssl_in(&self.directory, arguments)
    }

    /// What OpenSSL makes of `message` by these arguments.
    fn sign(&self, message: impl AsRef<[u8]>, arguments: &str) -> Vec<u8> {
        std::fs::write(Path::new(&self.directory).join("message"), message).unwrap();
        self.openssl(&format!("{arguments} message"))
    }

    /// All of them, in the order of the pages.
    pub(super) fn cases(&self) -> Vec<Case> {
        let mut cases = self.with_certificates();
        cases.extend(self.with_public_keys());
        cases.extend(by_secret());
        cases.extend(self.by_credential());
        cases
    }

    /// The certificate of Meta, whose anchor is at depth 3.
    pub(super) fn meta(&self) -> Certificate {
        Certificate::named("client.webhooks.fbclientcerts.com").issued_by(LeafIssuer::SecondIntermediate)
    }

    /// What Meta sends when the callback URL is saved, not signed.
    pub(super) fn challenges(&self) -> [Sent; 1] {
        let target = "/meta?hub.mode=subscribe&hub.challenge=1158201444&hub.verify_token=meatyhamhock".to_owned();
        [Sent { method: "GET", target, fields: Vec::new(), body: Vec::new() }]
    }

    fn with_certificates(&self) -> Vec<Case> {
        let hub = |provider, signature| Sent::to(provider, BODY).with("X-Hub-Signature-256", signature);
        let behind = |case: Case, certificate| Case { proof: "certificate, signature", ..case.certified(certificate) };
        let own = |name| Certificate::named(name).issued_by(LeafIssuer::Root);
        let cloudflare = hub("cloudflare-origin-pull", format!("sha256={}", hmac_hex(SECRETS[2].1, BODY.as_bytes())));
        let meta = hub("meta", "sha256=eabafb77676b0d77b864091e56aa8a225f8031a381544b9df52d7d59e66256c6".to_owned());
        let docusign =
            Sent::to("docusign", BODY).with("X-DocuSign-Signature-2", "rnVKZeG+Jj4f6n3RTPOZEWi5LLj1LkNJhoRsDmd/CN4=");
        // One field for each key of the account; the first is not of this receiver.
        let both = docusign.with("X-DocuSign-Signature-1", BASE64.encode(&[7; 32]));
        let slack =
            LeafOptions { dns_names: Some(vec!["platform-tls-client.slack.com".to_owned()]), ..LeafOptions::default() };
        let slack = LeafOptions { subject: Some(Subject::common_name("Slack")), ..slack };
        let pagerduty = Sent::of(&PAGERDUTY);
        vec![
            behind(signed("pagerduty", "X-PagerDuty-Signature", pagerduty), Certificate::of(Sender::PagerDuty))
                .retries()
                .remembers(),
            Case::new("percolate", "certificate", Sent::of(&PERCOLATE)).certified(Certificate::of(Sender::Percolate)),
            Case::new("own-ca", "certificate", Sent::to("own-ca", BODY)).certified(own("alertmanager")),
            behind(
                signed("cloudflare-origin-pull", "X-Hub-Signature-256", cloudflare),
                own("origin-pull.cloudflare.net"),
            ),
            behind(signed("meta", "X-Hub-Signature-256", meta), self.meta()),
            behind(
                signed("docusign", "X-DocuSign-Signature-2", docusign),
                Certificate::named("connect.docusign.example"),
            ),
            behind(Case::new("docusign", "", both), Certificate::named("connect.docusign.example")),
            behind(slack_case("slack-mtls"), Certificate { sender: Sender::PagerDuty, options: slack }),
            behind(standard("svix-mtls", "svix"), own("svix")),
            behind(signed("wise", "X-Signature-SHA256", wise("wise")), Certificate::named("wise.example")),
            behind(self.fireblocks("fireblocks"), own("fireblocks")).retries(),
            // A chain claims the first provider of its name, whose proof this request does not have.
            behind(self.fireblocks_legacy(), own("fireblocks")),
            self.dialogflow(&DIALOGFLOW_CX, Sender::Dialogflow),
            self.dialogflow(&DIALOGFLOW_CX, Sender::DialogflowNewer),
            self.dialogflow(&DIALOGFLOW_ES, Sender::DialogflowNewer),
        ]
    }

    /// A token of the agent's project, as the document shows the rest.
    fn dialogflow(&self, document: &Document, sender: Sender) -> Case {
        let bearer = |audience: &str, project| {
            format!("Bearer {}", self.google.sign(&dialogflow_claims(audience, project)).unwrap())
        };
        let url = format!("https://hooks.example.com/{}", document.provider);
        let sent = Sent::of(document);
        let with = |audience: &str, project| sent.with("Authorization", bearer(audience, project));
        Case::new(document.provider, "certificate, token", with(&url, PROJECT))
            .certified(Certificate::of(sender))
            .refuses("another project", with(&url, "1"), 401, "token_wrong_email")
            .refuses("another audience", with("https://hooks.example.com/", PROJECT), 401, "token_wrong_audience")
            .refuses(
                "an access token",
                sent.with("Authorization", "Bearer ya29.a0AfH6SM"),
                401,
                "token_is_access_token",
            )
            .refuses("no token", sent.without("Authorization"), 401, "token_missing")
    }

    /// A detached JSON Web Signature (RS512).
    fn fireblocks(&self, provider: &'static str) -> Case {
        let header = |kid: &str| BASE64URL_NOPAD.encode(json!({ "alg": "RS512", "kid": kid }).to_string().as_bytes());
        let sign = |kid: &str| {
            let header = header(kid);
            let signed = format!("{header}.{}", BASE64URL_NOPAD.encode(BODY.as_bytes()));
            let signature = self.sign(signed, "dgst -sha512 -sign fireblocks-private");
            Sent::to(provider, BODY)
                .with("Fireblocks-Webhook-Signature", format!("{header}..{}", BASE64URL_NOPAD.encode(&signature)))
        };
        let case = signed(provider, "Fireblocks-Webhook-Signature", sign("fb-1"));
        case.refuses("an unknown key", sign("fb-2"), 403, "signature_unknown_key")
    }

    /// RSA over the SHA-512 of the body.
    fn fireblocks_legacy(&self) -> Case {
        let signature = BASE64.encode(&self.sign(BODY, "dgst -sha512 -sign fireblocks-private"));
        let sent = Sent::to("fireblocks-legacy", BODY).with("Fireblocks-Signature", signature);
        signed("fireblocks-legacy", "Fireblocks-Signature", sent).retries()
    }

    fn with_public_keys(&self) -> Vec<Case> {
        let discord = |time: u64| {
            let signature = self.sign(format!("{time}{BODY}"), "pkeyutl -sign -rawin -inkey discord-private -in");
            Sent::to("discord", BODY)
                .with("X-Signature-Ed25519", HEXLOWER.encode(&signature))
                .with("X-Signature-Timestamp", time.to_string())
        };
        let mut discord = dated("discord", "X-Signature-Ed25519", &discord);
        discord.refused.iter_mut().for_each(|(_, _, (status, _))| *status = 401);
        let sendgrid = |time: u64| {
            let body = format!("{BODY}\r\n");
            let signature = self.sign(format!("{time}{body}"), "dgst -sha256 -sign sendgrid-private");
            Sent::to("sendgrid", body)
                .with("X-Twilio-Email-Event-Webhook-Signature", BASE64.encode(&signature))
                .with("X-Twilio-Email-Event-Webhook-Timestamp", time.to_string())
        };
        vec![
            discord,
            dated("sendgrid", "X-Twilio-Email-Event-Webhook-Signature", &sendgrid),
            self.fireblocks("fireblocks-without-certificate"),
            signed("wise-without-certificate", "X-Signature-SHA256", wise("wise-without-certificate")),
        ]
    }

    /// Those that prove the sender without the body.
    fn by_credential(&self) -> Vec<Case> {
        let basic = |password: &str| format!("Basic {}", BASE64.encode(format!("alertmanager:{password}").as_bytes()));
        let alertmanager =
            Sent::to("alertmanager", r#"{"version":"4","status":"firing","receiver":"hook","alerts":[]}"#);
        let gitlab = Sent::to("gitlab-secret", "{\"object_kind\":\"push\"}");
        let gitlab = gitlab.with("X-Gitlab-Event", "Push Hook").with("X-Gitlab-Token", SECRETS[3].1);
        let identified = gitlab.with("Idempotency-Key", "a5461c4d-9c7f-4af9-add6-cddebe3c426f");
        let pubsub = Sent::to(
            "pubsub-push",
            r#"{"message":{"data":"SGVsbG8=","messageId":"2070443601311540","publishTime":"2026-02-26T19:13:55.749Z"},"subscription":"projects/my-project/subscriptions/hook"}"#,
        );
        let bearer = |email: &str, audience: &str| {
            let claims = json!({
                "iss": GOOGLE_ISSUER, "aud": audience, "azp": "1", "sub": "1", "email": email, "email_verified": true,
                "iat": now(), "exp": now() + 3600,
            });
            pubsub.with("Authorization", format!("Bearer {}", self.google.sign(&claims.to_string()).unwrap()))
        };
        let url = "https://hooks.example.com/pubsub-push";
        vec![
            Case::new("alertmanager", "basic", alertmanager.with("Authorization", basic(SECRETS[0].1)))
                .refuses(
                    "another password",
                    alertmanager.with("Authorization", basic("guess")),
                    401,
                    "credentials_mismatch",
                )
                .refuses("no password", alertmanager, 401, "credentials_missing"),
            Case::new("gitlab-secret", "secret", identified.clone())
                .remembers()
                .refuses("another secret", identified.with("X-Gitlab-Token", "guess"), 403, "secret_mismatch")
                .refuses("no secret", identified.without("X-Gitlab-Token"), 403, "secret_missing")
                .refuses("no id", gitlab, 400, "delivery_id_missing"),
            Case::new("pubsub-push", "token", bearer(PUSHER, url))
                .remembers()
                .refuses(
                    "another account",
                    bearer("pusher@other.iam.gserviceaccount.com", url),
                    401,
                    "token_wrong_email",
                )
                .refuses("another audience", bearer(PUSHER, "https://other.example.com/"), 401, "token_wrong_audience")
                .refuses("no token", pubsub, 401, "token_missing"),
        ]
    }
}

/// Wise's own example.
fn wise(provider: &str) -> Sent {
    Sent::to(provider, WISE_BODY).with("X-Signature-SHA256", WISE_SIGNATURE)
}

fn slack_case(provider: &'static str) -> Case {
    let sent = |time: u64| {
        // A slash command.
        let body = "token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&command=%2Fweather&text=94070";
        let signature = format!("v0={}", hmac_hex(SECRETS[8].1, format!("v0:{time}:{body}").as_bytes()));
        Sent::to(provider, body)
            .with("Content-Type", "application/x-www-form-urlencoded")
            .with("X-Slack-Request-Timestamp", time.to_string())
            .with("X-Slack-Signature", signature)
    };
    dated(provider, "X-Slack-Signature", &sent)
}

/// Those that share a secret with the receiver.
fn by_secret() -> Vec<Case> {
    let to = |provider: &str, header: &str, value: &str| Sent::to(provider, BODY).with(header, value);
    // GitHub's documentation, "Validating webhook deliveries".
    let github = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
    let github = Sent { body: b"Hello, World!".to_vec(), ..to("github", "X-Hub-Signature-256", github) };
    let linear = "e5c3c91f7d857a6ea59a49bcada37a51ab68e6df9fa668a2e13c99f8c01f6242";
    let shopify = to("shopify", "X-Shopify-Hmac-SHA256", "4Gcvz0rF5U1HgwBOJx+1+9DcLaQ2UynlMme1JqWUJJk=");
    let shopify = shopify.with("X-Shopify-Webhook-Id", "b54557e4-bdd9-4b37-8a5f-bf7d70bcd043");
    let square_body = "{\"merchant_id\":\"M1\",\"event_id\":\"evt_1\",\"type\":\"payment.created\"}";
    let square = |url: &str| {
        let tag = hmac_sha256(SECRETS[9].1.as_bytes(), format!("{url}{square_body}").as_bytes());
        Sent::to("square", square_body).with("x-square-hmacsha256-signature", BASE64.encode(&tag))
    };
    let stripe = |time: u64| {
        let tag = hmac_hex(SECRETS[10].1, format!("{time}.{BODY}").as_bytes());
        to("stripe", "Stripe-Signature", &format!("t={time},v1={tag},v0={}", "6".repeat(64)))
    };
    let zoom = |time: u64| {
        let tag = hmac_hex(ZOOM_SECRET.1, format!("v0:{time}:{BODY}").as_bytes());
        to("zoom", "x-zm-signature", &format!("v0={tag}")).with("x-zm-request-timestamp", time.to_string())
    };
    vec![
        signed("github", "X-Hub-Signature-256", github),
        standard("gitlab", "webhook"),
        signed("linear", "Linear-Signature", to("linear", "Linear-Signature", linear)),
        signed("shopify", "X-Shopify-Hmac-SHA256", shopify).remembers(),
        slack_case("slack"),
        signed("square", "x-square-hmacsha256-signature", square("https://hooks.example.com/square"))
            .remembers()
            .refuses("another URL", square("https://hooks.example.com/"), 403, "signature_mismatch"),
        standard("standard-webhooks", "webhook"),
        dated("stripe", "Stripe-Signature", &stripe).remembers(),
        standard("svix", "svix"),
        dated("zoom", "x-zm-signature", &zoom),
    ]
}
