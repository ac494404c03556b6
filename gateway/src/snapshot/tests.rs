//! Which changes of a configuration change the keys of tickets.

#![expect(clippy::unwrap_used, reason = "a failed set-up fails the test")]

use std::fs;
use std::path::Path;
use std::time::Duration;

use hookgate_core::identity::{ChainCache, TrustDigest};

use super::*;
use crate::config::tests::{parsed, write_server_certificate};

const TEXT: &str = r#"
[listen]
addresses = ["127.0.0.1:0"]

[[certificate]]
chain = "server.pem"
key = "server.key"

[[provider]]
name = "one"
preset = "pagerduty"
proof = "certificate"
on_failure = "respond"

[[provider]]
name = "two"
trust_anchors = ["root.pem"]
verify_depth = 2
identity = [{ subject_cn = "two" }]
proof = "certificate"

[[route]]
host = "hooks.example.com"
path = "/one"
providers = ["one"]
handler = "unix:/run/one.sock"

[[route]]
host = "hooks.example.com"
path = "/two"
providers = ["two"]
handler = "unix:/run/two.sock"

[tls]
key_exchange = ["X25519", "P-256"]

[tickets]
secrets = [{ file = "tickets.secret" }]
"#;

/// Writes what [`TEXT`] names.
fn write_files(directory: &Path) {
    write_server_certificate(directory, &["hooks.example.com", "b.example.com"]);
    for name in ["root", "other"] {
        let mut params = rcgen::CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, "Root");
        let root = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
        fs::write(directory.join(format!("{name}.pem")), root.pem()).unwrap();
    }
    fs::write(directory.join("tickets.secret"), "0123456789abcdef0123456789abcdef").unwrap();
}

/// The trust policy of `text`, with the files in `directory`.
fn trust(directory: &Path, text: &str) -> TrustDigest {
    let Config { providers, routes, tls, tickets, .. } = parsed(directory, text);
    let limits = ChainLimits { max_certificates: 8, max_bytes: 16 * 1024 };
    let cache = Arc::new(ChainCache::new(0, Duration::ZERO));
    let identity = Identity::new(1, providers.into(), cache, limits);
    Scopes::new(&routes).shared_keys(&tickets.unwrap(), &identity, &tls).trust
}

#[test]
fn tickets_are_of_one_trust_policy() {
    let directory = tempfile::tempdir().unwrap();
    write_files(directory.path());
    let of = |text: &str| trust(directory.path(), text);
    let before = of(TEXT);
    let renamed = TEXT.replace("name = \"two\"", "name = \"three\"").replace("[\"two\"]", "[\"three\"]");
    assert_ne!(of(&renamed), before);
    let changed = |from: &str, to: &str| {
        assert!(TEXT.contains(from), "{from}");
        of(&TEXT.replace(from, to))
    };
    for (from, to) in [
        ("on_failure = \"respond\"", "on_failure = \"abort\""),
        ("verify_depth = 2", "verify_depth = 3"),
        ("subject_cn = \"two\"", "subject_cn = \"three\""),
        ("subject_cn = \"two\"", "san_dns = \"two\""),
        ("root.pem", "other.pem"),
        ("[\"root.pem\"]", "[\"root.pem\", \"other.pem\"]"),
        ("verify_depth = 2", "extended_key_usage = \"ignore\"\nverify_depth = 2"),
        ("preset = \"pagerduty\"\n", "preset = \"pagerduty\"\nprofiles = [\"digicert-global-root-g2\"]\n"),
        ("hooks.example.com\"\npath = \"/two", "b.example.com\"\npath = \"/two"),
        ("host = \"hooks.example.com\"\npath = \"/two", "path = \"/two"),
        ("hooks.example.com\"\npath = \"/two", "*.example.com\"\npath = \"/two"),
        ("providers = [\"two\"]", "providers = [\"one\"]"),
        ("[tls]\n", "[tls]\npolicy = \"modern\"\n"),
        ("[\"X25519\", \"P-256\"]", "[\"P-256\", \"X25519\"]"),
        ("[\"X25519\", \"P-256\"]", "[\"X25519\"]"),
    ] {
        assert_ne!(changed(from, to), before, "{from} → {to}");
    }
    for (from, to) in [
        ("\n[tls]", "\n# a comment\n\n[tls]"),
        ("name = \"two\"\ntrust_anchors = [\"root.pem\"]\n", "trust_anchors = [\"root.pem\"]\nname = \"two\"\n"),
        ("root.pem", "../NAME/./root.pem"),
        ("verify_depth = 2", "refusal = \"retry\"\nverify_depth = 2"),
        ("verify_depth = 2", "source_ranges = [\"192.0.2.0/24\"]\nverify_depth = 2"),
        ("\n[tls]", "\n[limits]\nmax_presented_bytes = 4096\nmax_connections = 7\n[tls]"),
        ("/run/two.sock", "/run/other.sock"),
        // The server name is for both providers already.
        ("providers = [\"two\"]", "providers = [\"one\", \"two\"]"),
        ("path = \"/two\"", "path = \"/two/*\""),
        (
            "proof = \"certificate\"\non",
            "proof.signature = { form = \"pagerduty\", secrets = [{ file = \"tickets.secret\" }] }\non",
        ),
        (
            "[tls]",
            "[[route]]\nhost = \"hooks.example.com\"\npath = \"/more\"\nproviders = [\"two\"]\nhandler = \"unix:/m\"\n[tls]",
        ),
        ("[listen]", "reload = \"watch\"\n[listen]"),
    ] {
        let name = directory.path().file_name().unwrap().to_string_lossy();
        assert_eq!(changed(from, &to.replace("NAME", &name)), before, "{from} → {to}");
    }
}

#[test]
fn the_same_files_in_another_directory_are_the_same_policy() {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    write_files(one.path());
    for entry in fs::read_dir(one.path()).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), other.path().join(entry.file_name())).unwrap();
    }
    assert_eq!(trust(one.path(), TEXT), trust(other.path(), TEXT));
    // The key of the server and the secret are no policy.
    write_files(one.path());
    fs::copy(other.path().join("root.pem"), one.path().join("root.pem")).unwrap();
    assert_eq!(trust(one.path(), TEXT), trust(other.path(), TEXT));
    fs::copy(one.path().join("other.pem"), one.path().join("root.pem")).unwrap();
    assert_ne!(trust(one.path(), TEXT), trust(other.path(), TEXT));
}
