//! The presets and the built-in roots.

use std::collections::BTreeSet;

use data_encoding::HEXUPPER;

use super::*;
use crate::config::anchor;
use crate::config::preset::{self, Found, Preset, Presets};

/// The SHA-256 fingerprints of the certificates in `presets/roots/`, as `openssl x509 -fingerprint -sha256` prints them and
/// their owners publish them.
const FINGERPRINTS: [(&str, &[&str]); 15] = [
    (
        "DigiCert_Assured_ID_Root_CA",
        &["3E:90:99:B5:01:5E:8F:48:6C:00:BC:EA:9D:11:1E:E7:21:FA:BA:35:5A:89:BC:F1:DF:69:56:1E:3D:C6:32:5C"],
    ),
    (
        "DigiCert_Assured_ID_Root_G2",
        &["7D:05:EB:B6:82:33:9F:8C:94:51:EE:09:4E:EB:FE:FA:79:53:A1:14:ED:B2:F4:49:49:45:2F:AB:7D:2F:C1:85"],
    ),
    (
        "DigiCert_Assured_ID_Root_G3",
        &["7E:37:CB:8B:4C:47:09:0C:AB:36:55:1B:A6:F4:5D:B8:40:68:0F:BA:16:6A:95:2D:B1:00:71:7F:43:05:3F:C2"],
    ),
    (
        "DigiCert_Global_Root_CA",
        &["43:48:A0:E9:44:4C:78:CB:26:5E:05:8D:5E:89:44:B4:D8:4F:96:62:BD:26:DB:25:7F:89:34:A4:43:C7:01:61"],
    ),
    (
        "DigiCert_Global_Root_G2",
        &["CB:3C:CB:B7:60:31:E5:E0:13:8F:8D:D3:9A:23:F9:DE:47:FF:C3:5E:43:C1:14:4C:EA:27:D4:6A:5A:B1:CB:5F"],
    ),
    (
        "DigiCert_Global_Root_G3",
        &["31:AD:66:48:F8:10:41:38:C7:38:F3:9E:A4:32:01:33:39:3E:3A:18:CC:02:29:6E:F9:7C:2A:C9:EF:67:31:D0"],
    ),
    (
        "DigiCert_TLS_ECC_P384_Root_G5",
        &["01:8E:13:F0:77:25:32:CF:80:9B:D1:B1:72:81:86:72:83:FC:48:C6:E1:3B:E9:C6:98:12:85:4A:49:0C:1B:05"],
    ),
    (
        "DigiCert_TLS_RSA4096_Root_G5",
        &["37:1A:00:DC:05:33:B3:72:1A:7E:EB:40:E8:41:9E:70:79:9D:2B:0A:0F:2C:1D:80:69:31:65:F7:CE:C4:AD:75"],
    ),
    (
        "DigiCert_Trusted_Root_G4",
        &["55:2F:7B:DC:F1:A7:AF:9E:6C:E6:72:01:7F:4F:12:AB:F7:72:40:C7:8E:76:1A:C2:03:D1:D9:D2:0A:C8:99:88"],
    ),
    (
        "GTS_Root_R1",
        &["D9:47:43:2A:BD:E7:B7:FA:90:FC:2E:6B:59:10:1B:12:80:E0:E1:C7:E4:E4:0F:A3:C6:88:7F:FF:57:A7:F4:CF"],
    ),
    (
        "GTS_Root_R2",
        &["8D:25:CD:97:22:9D:BF:70:35:6B:DA:4E:B3:CC:73:40:31:E2:4C:F0:0F:AF:CF:D3:2D:C7:6E:B5:84:1C:7E:A8"],
    ),
    (
        "GTS_Root_R3",
        &["34:D8:A7:3E:E2:08:D9:BC:DB:0D:95:65:20:93:4B:4E:40:E6:94:82:59:6E:8B:6F:73:C8:42:6B:01:0A:6F:48"],
    ),
    (
        "GTS_Root_R4",
        &["34:9D:FA:40:58:C5:E2:63:12:3B:39:8A:E7:95:57:3C:4E:13:13:C8:3F:E6:8F:93:55:6C:D5:E8:03:1B:3C:7D"],
    ),
    (
        "Percolate-Webhook-CA-Chain",
        &[
            "A5:42:BC:A0:9C:5E:45:79:C6:19:77:4A:E5:90:82:BC:E0:F8:6D:26:1C:5A:7A:5A:0F:62:17:C1:02:79:EA:7C",
            "3E:90:99:B5:01:5E:8F:48:6C:00:BC:EA:9D:11:1E:E7:21:FA:BA:35:5A:89:BC:F1:DF:69:56:1E:3D:C6:32:5C",
        ],
    ),
    (
        "SSL.com_Root_Certification_Authority_RSA",
        &["85:66:6A:56:2E:E0:BE:5C:E9:25:C1:D8:89:0A:6F:76:A8:7E:C1:6D:4D:7D:5F:29:EA:74:19:CF:20:12:3B:69"],
    ),
];

/// The preset that is compiled in under this name.
fn find<'p>(presets: &'p Presets, name: &str) -> &'p Preset {
    match presets.find(name) {
        Found::Preset(preset) => preset,
        other => panic!("{name}: {other:?}"),
    }
}

#[test]
fn roots_are_the_ones_that_their_owners_publish() {
    let pinned: Vec<&str> = FINGERPRINTS.iter().map(|(name, _)| *name).collect();
    let compiled: Vec<&str> = anchor::ROOTS.iter().map(|(name, _)| *name).collect();
    assert_eq!(compiled, pinned);
    for ((name, pem), (_, expected)) in anchor::ROOTS.iter().zip(FINGERPRINTS) {
        let anchors = anchor::parse(pem.as_bytes(), Path::new(name)).unwrap();
        let fingerprints: Vec<String> = anchors.iter().map(|anchor| HEXUPPER.encode(&anchor.fingerprint)).collect();
        let expected: Vec<String> = expected.iter().map(|text| text.replace(':', "")).collect();
        assert_eq!(fingerprints, expected, "{name}");
    }
}

#[test]
fn every_root_file_is_compiled_in() {
    let files = fs::read_dir(presets_directory().join("roots")).unwrap();
    let files: BTreeSet<String> = files.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    let files: BTreeSet<String> = files.into_iter().filter(|name| name != "README.md").collect();
    let compiled: BTreeSet<String> = anchor::ROOTS.iter().map(|(name, _)| format!("{name}.pem")).collect();
    assert_eq!(files, compiled);
}

#[test]
fn every_preset_file_is_compiled_in() {
    let files = fs::read_dir(presets_directory()).unwrap().map(|entry| entry.unwrap().path());
    let files = files.filter(|path| path.extension().is_some_and(|extension| extension == "toml"));
    let files: BTreeSet<String> = files.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
    let compiled: BTreeSet<String> = Presets::compiled_in().names().map(str::to_owned).collect();
    assert_eq!(files, compiled);
}

#[test]
fn every_profile_of_every_preset_is_whole() {
    for preset in Presets::compiled_in().usable() {
        assert!(!preset.title().is_empty() && preset.documentation().starts_with("https://"), "{}", preset.name());
        assert!(!preset.notes().is_empty() && preset.profile_names().count() > 0, "{}", preset.name());
        for draft in preset.drafts().iter().filter(|_| preset.has_certificate()) {
            let place = format!("{} {}", preset.name(), draft.name);
            assert!(draft.fields.trust_anchors.as_ref().is_none_or(|anchors| !anchors.is_empty()), "{place}");
            assert!(draft.fields.identity.as_ref().is_none_or(|rules| !rules.is_empty()), "{place}");
            assert!(draft.fields.verify_depth.is_some(), "{place}");
        }
    }
}

/// The old and the new profile of a preset each have their own anchors and identity.
#[test]
fn presets_say_what_the_providers_document() {
    let presets = Presets::compiled_in();
    let check = |name: &str, profiles: &[(&str, u8, &[&str], &[&str])]| {
        let preset = find(&presets, name);
        assert_eq!(preset.drafts().len(), profiles.len(), "{name}");
        for (draft, (profile, depth, anchors, identity)) in preset.drafts().iter().zip(profiles) {
            assert_eq!((draft.name.as_ref(), draft.fields.verify_depth), (*profile, Some(*depth)), "{name}");
            let found = draft.fields.trust_anchors.iter().flatten();
            let found = found.filter_map(|anchor| anchor.subject.strip_prefix("CN=")?.split(',').next());
            let found: BTreeSet<&str> = found.collect();
            assert_eq!(found, anchors.iter().copied().collect(), "{name} {profile}");
            let found: Vec<String> = draft.fields.identity.iter().flatten().map(ToString::to_string).collect();
            assert_eq!(found, *identity, "{name} {profile}");
        }
    };
    let (us, eu) = ("subject CN \"webhooks.pagerduty.com\"", "subject CN \"webhooks.eu.pagerduty.com\"");
    check(
        "pagerduty",
        &[
            ("digicert-global-root-ca", 2, &["DigiCert Global Root CA"], &[us]),
            ("digicert-global-root-g2", 2, &["DigiCert Global Root G2"], &[us, eu]),
        ],
    );
    let roots: &[&str] = &["GTS Root R1", "GTS Root R2", "GTS Root R3", "GTS Root R4"];
    let dialogflow: &[&str] = &["DNS name \"*.dialogflow.com\"", "subject CN \"*.dialogflow.com\""];
    for name in ["dialogflow-cx", "dialogflow-es"] {
        let newer: &[&str] = &["subject CN \"Google LLC\""];
        let ssl_com: &[&str] = &["SSL.com Root Certification Authority RSA"];
        check(name, &[("google-trust-services", 2, roots, dialogflow), ("ssl-com", 2, ssl_com, newer)]);
    }
    let subject =
        r#"subject "CN=Percolate Industries\, Inc.,O=Percolate Industries\, Inc.,L=New York,ST=New York,C=US""#;
    check("percolate", &[("digicert-assured-id", 2, &["DigiCert Assured ID Root CA"], &[subject])]);
    let meta = "subject CN \"client.webhooks.fbclientcerts.com\"";
    check("meta", &[("meta-outbound-api-ca", 3, &[], &[meta])]);
    let digicert: &[&str] = &[
        "DigiCert Assured ID Root CA",
        "DigiCert Assured ID Root G2",
        "DigiCert Assured ID Root G3",
        "DigiCert Global Root CA",
        "DigiCert Global Root G2",
        "DigiCert Global Root G3",
        "DigiCert TLS ECC P384 Root G5",
        "DigiCert TLS RSA4096 Root G5",
        "DigiCert Trusted Root G4",
    ];
    let slack = ["DNS name \"platform-tls-client.slack.com\"", "subject CN \"platform-tls-client.slack.com\""];
    check("slack-mtls", &[("digicert", 3, digicert, &slack)]);
    for (name, profile, depth) in [
        ("cloudflare-origin-pull", "global", 2),
        ("docusign", "docusign", 3),
        ("fireblocks", "your-authority", 2),
        ("own-ca", "your-authority", 1),
        ("svix-mtls", "your-authority", 2),
        ("wise", "wise", 3),
    ] {
        check(name, &[(profile, depth, &[], &[])]);
    }
}

/// The bundle in Percolate's documentation has the same anchor as the preset.
#[test]
fn percolates_bundle_has_one_anchor() {
    let fixture = Fixture::new();
    let anchors = |lines: &str| {
        let config = fixture.good(&minimal().replace("preset = \"pagerduty\"", lines));
        let subjects = config.providers[0].profiles[0].trust_anchors.iter().map(|anchor| anchor.subject.to_vec());
        subjects.collect::<Vec<_>>()
    };
    let bundle = "trust_anchors = [\"builtin:Percolate-Webhook-CA-Chain\"]\nidentity = [{ subject_cn = \"x\" }]";
    assert_eq!(anchors(bundle), anchors("preset = \"percolate\""));
}

#[test]
fn descriptions_show_all_that_a_profile_demands() {
    let presets = Presets::compiled_in();
    assert!(matches!(presets.find("nobody"), Found::Unknown));
    assert_eq!(preset::list(&presets).lines().count(), presets.names().count());
    let text = preset::describe(find(&presets, "dialogflow-es"));
    for words in [
        "https://cloud.google.com/dialogflow/es/docs/fulfillment-mtls",
        "profile google-trust-services (until 2026-12-01)",
        "profile ssl-com\n",
        "CN=GTS Root R1,O=Google Trust Services LLC,C=US\n",
        "SHA-256 85666a562ee0be5ce925c1d8890a6f76a87ec16d4d7d5f29ea7419cf20123b69, valid until 2041-02-12",
        "verify depth        2",
        "extended key usage  client-auth",
        "subject CN \"Google LLC\"",
        "[[provider.profile]]",
    ] {
        assert!(text.contains(words), "{words}\n{text}");
    }
}

/// A preset, and the operator's part of its proof: the lines beside `preset`, and the same as edits of its TOML.
struct Completed {
    preset: &'static str,
    lines: &'static str,
    edits: &'static [(&'static str, &'static str)],
}

const COMPLETED: [Completed; 26] = [
    Completed {
        preset: "pagerduty",
        lines: SIGNATURE_LINES,
        edits: &[("form = \"pagerduty\"", "form = \"pagerduty\", secrets = [{ file = \"webhook.secret\" }]")],
    },
    Completed { preset: "dialogflow-cx", lines: DIALOGFLOW_LINES, edits: DIALOGFLOW },
    Completed { preset: "dialogflow-es", lines: DIALOGFLOW_LINES, edits: DIALOGFLOW },
    Completed { preset: "percolate", lines: "", edits: &[] },
    Completed {
        preset: "meta",
        lines: "trust_anchors = [\"ca.pem\"]\nsignature.secrets = [{ file = \"webhook.secret\" }]\n",
        edits: &[HMAC, ("[[provider]]\n", "[[provider]]\ntrust_anchors = [\"ca.pem\"]\n")],
    },
    Completed { preset: "slack-mtls", lines: SIGNATURE_LINES, edits: &[HMAC] },
    Completed {
        preset: "docusign",
        lines: "trust_anchors = [\"ca.pem\"]\nidentity = [{ subject_cn = \"a\" }]\nsignature.secrets = [{ file = \"webhook.secret\" }]\n",
        edits: &[HMAC, OWN],
    },
    Completed {
        preset: "fireblocks",
        lines: "trust_anchors = [\"ca.pem\"]\nidentity = [{ subject_cn = \"a\" }]\nsignature.key_source = \"google\"\n",
        edits: &[OWN, ("form = \"detached-jws\"", "form = \"detached-jws\", key_source = \"google\"")],
    },
    Completed {
        preset: "wise",
        lines: "trust_anchors = [\"ca.pem\"]\nidentity = [{ subject_cn = \"a\" }]\nsignature.keys = [{ file = \"rsa.pem\" }]\n",
        edits: &[OWN, ("form = \"public-key\"", "form = \"public-key\", keys = [{ file = \"rsa.pem\" }]")],
    },
    Completed { preset: "cloudflare-origin-pull", lines: OWN_LINES, edits: &[OWN] },
    Completed {
        preset: "svix-mtls",
        lines: "trust_anchors = [\"ca.pem\"]\nidentity = [{ subject_cn = \"a\" }]\nsignature.secrets = [{ unsafe_value = \"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\" }]\n",
        edits: &[OWN, STANDARD],
    },
    Completed { preset: "svix", lines: STANDARD_LINES, edits: &[STANDARD] },
    Completed { preset: "own-ca", lines: OWN_LINES, edits: &[OWN] },
    Completed { preset: "github", lines: SIGNATURE_LINES, edits: &[HMAC] },
    Completed { preset: "stripe", lines: SIGNATURE_LINES, edits: &[HMAC] },
    Completed { preset: "slack", lines: SIGNATURE_LINES, edits: &[HMAC] },
    Completed { preset: "shopify", lines: SIGNATURE_LINES, edits: &[HMAC] },
    Completed { preset: "zoom", lines: SIGNATURE_LINES, edits: &[HMAC] },
    Completed { preset: "linear", lines: SIGNATURE_LINES, edits: &[HMAC] },
    Completed {
        preset: "gitlab",
        lines: STANDARD_LINES,
        edits: &[STANDARD, ("    { secret = { header = \"x-gitlab-token\" } },\n", "")],
    },
    Completed { preset: "standard-webhooks", lines: STANDARD_LINES, edits: &[STANDARD] },
    Completed {
        preset: "pubsub-push",
        lines: "token = { emails = [\"a@a.example\"], audiences = [\"https://a/\"] }\n",
        edits: &[("form = \"oidc\"", "form = \"oidc\", emails = [\"a@a.example\"], audiences = [\"https://a/\"]")],
    },
    Completed {
        preset: "square",
        lines: "signature = { url = \"https://a/\", secrets = [{ file = \"webhook.secret\" }] }\n",
        edits: &[(
            "form = \"hmac\"",
            "form = \"hmac\", url = \"https://a/\", secrets = [{ file = \"webhook.secret\" }]",
        )],
    },
    Completed {
        preset: "discord",
        lines: "signature.keys = [{ file = \"ed25519.key\" }]\n",
        edits: &[("form = \"public-key\"", "form = \"public-key\", keys = [{ file = \"ed25519.key\" }]")],
    },
    Completed {
        preset: "sendgrid",
        lines: "signature.keys = [{ file = \"p256.key\" }]\n",
        edits: &[("form = \"public-key\"", "form = \"public-key\", keys = [{ file = \"p256.key\" }]")],
    },
    Completed {
        preset: "alertmanager",
        lines: "basic.users = [{ name = \"a\", secrets = [{ file = \"webhook.secret\" }] }]\nunsafe_static_secret_suffices = true\n",
        edits: &[
            ("basic = {}", "basic.users = [{ name = \"a\", secrets = [{ file = \"webhook.secret\" }] }]"),
            (
                "client_certificate = \"none\"\n",
                "client_certificate = \"none\"\nunsafe_static_secret_suffices = true\n",
            ),
        ],
    },
];

const SIGNATURE_LINES: &str = "signature.secrets = [{ file = \"webhook.secret\" }]\n";

const STANDARD_LINES: &str = "signature.secrets = [{ unsafe_value = \"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\" }]\n";

const STANDARD: (&str, &str) = (
    "form = \"standard-webhooks\"",
    "form = \"standard-webhooks\", secrets = [{ unsafe_value = \"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\" }]",
);

const HMAC: (&str, &str) = ("form = \"hmac\"", "form = \"hmac\", secrets = [{ file = \"webhook.secret\" }]");

const OWN_LINES: &str = "trust_anchors = [\"ca.pem\"]\nidentity = [{ subject_cn = \"a\" }]\n";

const OWN: (&str, &str) =
    ("[[provider]]\n", "[[provider]]\ntrust_anchors = [\"ca.pem\"]\nidentity = [{ subject_cn = \"a\" }]\n");

const DIALOGFLOW_LINES: &str = "token = { project_number = \"4711\", audiences = [\"https://a/\"] }\n\
                                session_parameter = { name = \"x\", hmac_secrets = [{ file = \"webhook.secret\" }] }\n";

const DIALOGFLOW: &[(&str, &str)] = &[
    ("form = \"dialogflow\"", "form = \"dialogflow\", project_number = \"4711\", audiences = [\"https://a/\"]"),
    ("{ pointer", "{ name = \"x\", hmac_secrets = [{ file = \"webhook.secret\" }], pointer"),
];

/// The directory of the preset in [`fixture`].
const PRESETS: &str = "[presets]\ndirectories = [\"presets\"]\n";

/// A fixture with the files that [`COMPLETED`] names.
fn fixture() -> Fixture {
    let fixture = Fixture::new();
    fixture.write("ed25519.key", senders::DISCORD_KEY);
    fixture.write("p256.key", &senders::p256().0);
    fixture.write("rsa.pem", senders::WISE_SANDBOX_KEY);
    // The preset that knows its root knows that of the tests instead.
    let root = anchor::parse(&fs::read(fixture.path("ca.pem")).unwrap(), Path::new("ca.pem")).unwrap();
    let text = include_str!("../../../presets/cloudflare-origin-pull.toml");
    let (before, rest) = text.split_once("sha256 = [\"").unwrap();
    let (_, after) = rest.split_once('"').unwrap();
    fs::create_dir(fixture.path("presets")).unwrap();
    let known = HEXUPPER.encode(&root[0].fingerprint);
    fixture.write("presets/cloudflare-origin-pull.toml", &format!("{before}sha256 = [\"{known}\"{after}"));
    fixture
}

#[test]
fn the_toml_of_a_preset_defines_the_same_provider() {
    let fixture = fixture();
    let presets = Presets::compiled_in();
    let names: Vec<&str> = presets.names().collect();
    assert_eq!(names.len(), COMPLETED.len(), "{names:?}");
    for Completed { preset: name, lines, edits } in COMPLETED {
        let whole = |section: &str| {
            let route = ROUTE.replace("[\"pagerduty\"]", &format!("[\"{name}\"]"));
            [PRESETS, LISTEN, CERTIFICATE, section, &route].concat()
        };
        let toml = find(&presets, name).toml();
        if !edits.is_empty() {
            let errors = fixture.errors(&whole(&toml));
            let incomplete = |error: &String| error.contains(": provider[0]") && error.contains("write ");
            assert!(errors.iter().all(incomplete), "a preset's TOML must not pass without its proof\n{errors:#?}");
        }
        let edited = edits.iter().fold(toml, |toml, (from, to)| toml.replace(from, to));
        let by_name = fixture.good(&whole(&format!("[[provider]]\nname = \"{name}\"\npreset = \"{name}\"\n{lines}")));
        let by_toml = fixture.good(&whole(&edited));
        assert_eq!(format!("{:?}", by_toml.providers), format!("{:?}", by_name.providers), "{name}");
        assert_eq!(format!("{:?}", by_toml.proofs), format!("{:?}", by_name.proofs), "{name}");
    }
}

/// What DigiCert's end of clientAuth changes, as `hookgate check` says it for each preset.
#[test]
fn the_end_of_client_auth_is_said_for_each_preset() {
    let fixture = fixture();
    for Completed { preset: name, lines, .. } in COMPLETED {
        let route = ROUTE.replace("[\"pagerduty\"]", &format!("[\"{name}\"]"));
        let section = format!("[[provider]]\nname = \"{name}\"\npreset = \"{name}\"\n{lines}");
        let config = fixture.good(&[PRESETS, LISTEN, CERTIFICATE, &section, &route].concat());
        let expected = match name {
            "pagerduty" => "(profiles: digicert-global-root-ca, digicert-global-root-g2)",
            "percolate" => "(profiles: digicert-assured-id)",
            "slack-mtls" => "(profiles: digicert)",
            "dialogflow-cx"
            | "dialogflow-es"
            | "meta"
            | "docusign"
            | "fireblocks"
            | "wise"
            | "cloudflare-origin-pull"
            | "svix-mtls"
            | "own-ca" => "nothing that is known, since no trust anchor is DigiCert's",
            _ => "nothing, since its requests need no certificate",
        };
        let outlook = crate::control::sunset::outlook(&config.providers[0]);
        assert!(outlook.contains(expected), "{outlook}");
    }
}

#[test]
fn descriptions_say_what_is_to_be_added() {
    let presets = Presets::compiled_in();
    let words = |name: &str, all: &[&str]| {
        let text = preset::describe(find(&presets, name));
        for words in all {
            assert!(text.contains(words), "{words}\n{text}");
        }
    };
    let without = "proof = \"certificate\"";
    words(
        "pagerduty",
        &[
            "X-PagerDuty-Signature",
            "the field x-webhook-id, remembered for 172800 s",
            "signature = { secrets = [{",
            without,
        ],
    );
    let token = "service agent of your project";
    let add = "token = { project_number = \"…\", audiences = [\"https://hooks.example.com/agent\"] }, or session_parameter = {";
    words("dialogflow-cx", &[token, "/sessionInfo/parameters/{name}", add, without]);
    words("dialogflow-es", &[token, "/originalDetectIntentRequest/payload/{name}", add, "[provider.proof]"]);
    assert!(!preset::describe(find(&presets, "percolate")).contains("proof"));
    let page = "https://docs.wise.com/guides/developer/webhooks/event-handling";
    words("wise", &[&format!("keys = [{{ file = \"wise-production.pem\" }}] }} (the key stands on {page})"), without]);
    words("fireblocks", &["a detached JWS, in fireblocks-webhook-signature", "signature = { key_source = \"…\" } or"]);
    words("svix", &["that of Standard Webhooks, in svix-signature", "the field svix-id"]);
    words("gitlab", &["secret              in x-gitlab-token", "}] }, or secret = { secrets"]);
    words("square", &["signature = { url = \"https://hooks.example.com/hook\", secrets"]);
    words("discord", &["signature = { keys = [{ file = \"sender.pem\" }] }"]);
    words("pubsub-push", &["emails = [\"…\"]"]);
    for preset in presets.usable().filter(|preset| !preset.has_certificate()) {
        assert!(!preset::describe(preset).contains(without), "{}: nothing else proves the sender", preset.name());
    }
}

/// What the list of presets says of certificates is what their providers demand.
#[test]
fn the_list_says_whether_the_sender_has_a_certificate() {
    let presets = Presets::compiled_in();
    let json: serde_json::Value = serde_json::from_str(&preset::list_as_json(&presets)).unwrap();
    let text = preset::list(&presets);
    for (preset, (line, object)) in presets.usable().zip(text.lines().zip(json.as_array().unwrap())) {
        let (word, value) =
            if preset.has_certificate() { ("certificate", "required") } else { ("no certificate", "none") };
        let start = format!("{:<22} {}  {word:<14}  ", preset.name(), preset.version());
        assert!(line.starts_with(&start), "{line}");
        assert_eq!((&object["name"], &object["client_certificate"]), (&preset.name().into(), &value.into()));
    }
}

/// The secret of GitLab is an alternative that the operator chooses: it takes a line of its own, and ids that its requests have.
#[test]
fn a_static_alternative_of_a_preset_is_chosen_on_purpose() {
    let fixture = Fixture::new();
    let errors = |lines: &str| {
        let route = ROUTE.replace("[\"pagerduty\"]", "[\"gitlab\"]");
        let provider = format!("[[provider]]\nname = \"gitlab\"\npreset = \"gitlab\"\n{lines}");
        let parsed = fixture.parse(&[LISTEN, CERTIFICATE, &provider, &route].concat());
        parsed.map(|(config, _)| config.proofs).err().map(|errors| errors.to_string()).unwrap_or_default()
    };
    let secret = "secret.secrets = [{ file = \"webhook.secret\" }]\n";
    let suffices = "unsafe_static_secret_suffices = true\n";
    let replay = "replay = { id_header = \"idempotency-key\" }\n";
    let words = "(identified by the field webhook-id, remembered for 86400 s), and what completes it here is static: write replay";
    let found = errors(secret);
    assert!(found.contains(words) && found.contains("unsafe_static_secret_suffices"), "{found}");
    let found = errors(&[secret, suffices].concat());
    assert!(found.contains(words) && !found.contains("unsafe_"), "{found}");
    let found = errors(&[secret, replay].concat());
    assert!(!found.contains(words) && found.contains("unsafe_static_secret_suffices"), "{found}");
    assert_eq!(errors(&[secret, suffices, replay].concat()), "");
    assert_eq!(errors(&[secret, suffices, "replay = \"none\"\n"].concat()), "");
    // Beside the signature, it is still the weakest way to satisfy the proof.
    let both = [STANDARD_LINES, secret].concat();
    assert!(errors(&both).contains(words), "{}", errors(&both));
    assert_eq!(errors(STANDARD_LINES), "");
    let found = errors("");
    let words = "senders of the preset \"gitlab\" have no certificate, so each request must prove its sender: write signature = {";
    assert!(found.contains(words) && !found.contains("proof = \"certificate\""), "{found}");
}
