//! Presets and trust anchors that are not what the preset knows: a start fails, and a reload keeps what is in force.

use std::fs;
use std::path::Path;

use hookgate_testkit::gateway::Signal;
use hookgate_testkit::pki::Sender;
use hookgate_testkit::process::run;

use crate::command::run_check;
use crate::environment::{Environment, PATH, SOON, quoted};
use crate::test_gateway::TestGateway;

const PAGE: &str = "https://sender.example/ca";

/// SHA-256 of a certificate, as OpenSSL prints it, without colons.
pub(crate) fn fingerprint(certificate: &Path) -> String {
    let mut command = std::process::Command::new("openssl");
    command.args(["x509", "-noout", "-fingerprint", "-sha256", "-in"]).arg(certificate);
    let printed = run(command, &[], SOON).unwrap().stdout_text();
    printed.trim().rsplit('=').next().unwrap().replace(':', "")
}

/// A preset that knows this root of Percolate, and leaves it to the operator.
fn preset(known: &str) -> String {
    format!(
        "schema = 1\nversion = 2026-11-29\ntitle = \"Sender\"\ndocumentation = \"{PAGE}\"\n\
         [[download]]\nfile = \"sender-ca.pem\"\npage = \"{PAGE}\"\nsha256 = [\"{known}\"]\n\
         [[profile]]\nname = \"one\"\nverify_depth = 2\n\
         identity = [{{ subject = \"/C=US/ST=New York/L=New York/O=Percolate Industries, Inc./CN=Percolate Industries, Inc.\" }}]\n"
    )
}

/// A configuration that uses this preset, with the downloaded file beside it.
fn write(environment: &Environment) -> String {
    fs::create_dir(environment.path("presets")).unwrap();
    let root = environment.pki.sender(Sender::Percolate).root.path();
    fs::copy(root, environment.path("ca.pem")).unwrap();
    environment.write("presets/sender.toml", preset(&fingerprint(root))).unwrap();
    let anchors = format!("trust_anchors = [{}]", quoted(root));
    let text = environment.toml("", "").replace("preset = \"percolate\"", "preset = \"sender\"");
    let text = text.replace(&anchors, &format!("trust_anchors = [{}]", quoted(&environment.path("ca.pem"))));
    format!("{text}\n[presets]\ndirectories = [{}]\n", quoted(&environment.path("presets")))
}

#[test]
fn a_root_with_another_fingerprint_and_a_half_written_preset_change_nothing() {
    let gateway = TestGateway::with_toml(write).unwrap();
    let environment = &gateway.environment;
    let serves = || gateway.admitted_curl().post(PATH, b"{}").run().unwrap().status();
    assert_eq!(serves(), Some(200));
    let refused = |failures: f64, words: &[&str]| {
        gateway.daemon.signal(Signal::HUP).unwrap();
        let result = [("result", "error")];
        gateway.daemon.wait_metric("hookgate_config_reloads_total", &result, failures, SOON).unwrap();
        let log = gateway.daemon.log();
        let line = log.lines().rfind(|line| line.contains(words[0])).unwrap_or(&log);
        assert!(words.iter().all(|words| line.contains(words)), "{line}");
        assert_eq!((serves(), gateway.reloads("ok").unwrap()), (Some(200), 1.0));
    };
    // Another root, as if the download was changed on its way.
    let (known, other) =
        [Sender::Percolate, Sender::PagerDuty].map(|sender| environment.pki.sender(sender).root.path()).into();
    fs::copy(other, environment.path("ca.pem")).unwrap();
    let words = [&*fingerprint(other), &*fingerprint(known), "ca.pem: ", "Download sender-ca.pem from ", PAGE];
    refused(1.0, &words);
    // So it is at a start, which fails.
    let text = fs::read_to_string(gateway.daemon.configuration_path()).unwrap();
    let finished = run_check(environment, &text);
    let stderr = finished.stderr_text();
    assert!(!finished.success() && words.iter().all(|words| stderr.contains(words)), "{stderr}");
    fs::copy(known, environment.path("ca.pem")).unwrap();
    // A preset that is cut in its last line, and one that is cut before its identities.
    let whole = preset(&fingerprint(known));
    environment.write("presets/sender.toml", &whole[..whole.len() - 1]).unwrap();
    refused(2.0, &["sender.toml", "the last line has no end"]);
    let before = whole.find("identity").unwrap();
    environment.write("presets/sender.toml", &whole[..before]).unwrap();
    refused(3.0, &["provider[3].identity", "missing"]);
    environment.write("presets/sender.toml", &whole).unwrap();
    gateway.daemon.signal(Signal::HUP).unwrap();
    gateway.daemon.wait_metric("hookgate_config_generation", &[], 2.0, SOON).unwrap();
    assert_eq!(serves(), Some(200));
}
