//! A refusal that is explained after the configuration was changed, and what is advised to be written.

use std::fs::{self, File};
use std::time::{Duration, SystemTime};

use hookgate_testkit::documents::PAGERDUTY;
use hookgate_testkit::pki::{LeafOptions, RevocationListOptions, Sender, Subject, Variant};

use super::{configuration, explain, of_percolate, refused, start};
use crate::environment::quoted;
use crate::test_gateway::TestGateway;

/// Writes the file, as an editor does some seconds after the refusal.
fn edit(gateway: &TestGateway, text: &str) {
    let path = gateway.daemon.configuration_path();
    fs::write(&path, text).unwrap();
    let later = SystemTime::now() + Duration::from_secs(5);
    File::options().write(true).open(&path).unwrap().set_modified(later).unwrap();
}

/// The daemon keeps no fields, but what is no longer demanded cannot refuse.
#[test]
fn a_proof_that_is_no_longer_demanded_refuses_nothing() {
    let gateway = start();
    let identity = gateway.environment.identity(Sender::PagerDuty, Variant::Good).unwrap();
    let id = refused(&gateway, Some(&identity), "/signed", 403, "signature_missing");
    let running = fs::read_to_string(gateway.daemon.configuration_path()).unwrap();
    let written = running.lines().find(|line| line.starts_with("signature = ")).unwrap();
    let (code, text) = explain(&gateway, &[&id]);
    assert!(code == Some(1) && text.contains("\nauth       refused: signature_missing: "), "{text}");
    // Another secret may be right or wrong for that request: this is not known.
    edit(&gateway, &format!("{running}# changed\n"));
    let (code, text) = explain(&gateway, &[&id]);
    assert!(code == Some(1) && text.contains("result     unknown at auth\n"), "{text}");
    assert!(text.contains("The daemon said so before this file was changed") && !text.contains("decided by"), "{text}");
    edit(&gateway, &running.replace(written, "proof = \"certificate\"\nreplay = \"none\""));
    let (code, text) = explain(&gateway, &[&id]);
    assert!(code == Some(0) && text.contains("result     admitted by this configuration"), "{text}");
    assert!(text.contains("\nauth       passes: Nothing is demanded"), "{text}");
}

#[test]
fn a_limit_that_was_raised_is_told_beside_what_the_daemon_said() {
    let gateway =
        TestGateway::with_toml(|environment| configuration(environment) + "[limits]\nmax_body_bytes = 1024\n");
    let gateway = gateway.unwrap();
    let identity = gateway.environment.identity(Sender::Percolate, Variant::Good).unwrap();
    let outcome = gateway.curl().identity(&identity).post("/mine", &[b'x'; 2000]).run().unwrap();
    let id = outcome.response().unwrap().field("x-request-id").unwrap().to_owned();
    let (_, text) = explain(&gateway, &[&id]);
    assert!(text.contains("result     refused: body_too_large\n"), "{text}");
    assert!(text.contains("(max_body_bytes is now 1024)"), "{text}");
    let running = fs::read_to_string(gateway.daemon.configuration_path()).unwrap();
    edit(&gateway, &running.replace("max_body_bytes = 1024", "max_body_bytes = 4096"));
    let (code, text) = explain(&gateway, &[&id]);
    assert!(code == Some(1) && text.contains("result     unknown at http\n"), "{text}");
    assert!(text.contains("; max_body_bytes is now 4096.") && !text.contains("decided by"), "{text}");
}

/// No `crl_scope` leaves the end entity out.
#[test]
fn a_list_that_the_end_entity_lacks_is_not_remedied_by_the_scope() {
    for helps in [false, true] {
        let gateway = TestGateway::with_toml(|environment| {
            let sender = environment.pki.sender(Sender::PagerDuty);
            let [of_intermediate, of_root] = sender.revocation_lists(&RevocationListOptions::default()).unwrap();
            let list = if helps { of_intermediate } else { of_root };
            let mut configuration = environment.configuration();
            configuration.revocation_lists = vec![(Sender::PagerDuty, vec![list])];
            let state = quoted(&environment.state_directory());
            format!("{}\n[state]\ndirectory = {state}\n", configuration.toml())
        });
        let gateway = gateway.unwrap();
        let identity = gateway.environment.identity(Sender::PagerDuty, Variant::Good).unwrap();
        let id = refused(&gateway, Some(&identity), PAGERDUTY.path, 403, "revocation_unknown");
        let (_, text) = explain(&gateway, &[&id]);
        let advises_scope = text.contains("An intermediate needs none with crl_scope");
        assert_eq!(advises_scope, helps, "{text}");
        assert_eq!(text.contains("no crl_scope leaves the end entity out"), !helps, "{text}");
    }
}

/// Keys beside `preset` replace what it says, and genuine senders would be refused.
#[test]
fn beside_a_preset_another_profile_is_advised() {
    let gateway = start();
    let options = LeafOptions { subject: Some(Subject::common_name("other.example")), ..LeafOptions::default() };
    let other = gateway.environment.pki.sender(Sender::PagerDuty).leaf("other", &options).unwrap();
    let id = refused(&gateway, Some(&other), "/signed", 403, "identity_mismatch");
    let (_, text) = explain(&gateway, &[&id]);
    assert!(text.contains("add a [[provider.profile]], with name, trust_anchors and identity, beside those"), "{text}");
    assert!(
        text.contains("with identity = [{ subject_cn = \"other.example\" }]: the key beside preset = replaces"),
        "{text}"
    );
    assert!(!text.contains("write identity = "), "{text}");
    let usage = gateway.environment.identity(Sender::PagerDuty, Variant::ServerAuthOnly).unwrap();
    let id = refused(&gateway, Some(&usage), "/signed", 403, "extended_key_usage");
    let (_, text) = explain(&gateway, &[&id]);
    assert!(text.contains("beside those of the preset") && text.contains("counts for every profile"), "{text}");
    // What cannot match is not advised.
    let hostile = of_percolate(&gateway, "a\u{1b}[2Jb");
    let id = refused(&gateway, Some(&hostile), "/mine", 403, "identity_mismatch");
    let (_, text) = explain(&gateway, &[&id]);
    assert!(text.contains("add { subject = '") && text.contains("CN=a\\1B[2Jb"), "{text}");
}

/// A list needs no configuration but the place of the socket.
#[test]
fn the_list_needs_no_configuration_without_errors() {
    let gateway = start();
    let id = refused(&gateway, None, "/mine", 403, "no_certificate");
    let running = fs::read_to_string(gateway.daemon.configuration_path()).unwrap();
    edit(&gateway, &running.replace("workers = 1", "workers = \"many\""));
    let (code, text) = explain(&gateway, &[]);
    assert!(
        code == Some(0) && text.contains(&id) && text.contains("has an error (hookgate check says which)"),
        "{text}"
    );
    let (code, text) = explain(&gateway, &[&id]);
    assert!(code == Some(2) && text.contains("listen.workers"), "{text}");
}

/// The host decides about the route, and nothing says which one is meant.
#[test]
fn a_request_to_one_of_two_hosts_needs_its_name() {
    let gateway = start();
    let running = fs::read_to_string(gateway.daemon.configuration_path()).unwrap();
    edit(&gateway, &running.replacen("host = \"hooks.example.com\"", "host = \"other.example.com\"", 1));
    let identity = gateway.environment.identity(Sender::Percolate, Variant::Good).unwrap();
    let chain = identity.chain_path.display().to_string();
    let (code, text) = explain(&gateway, &["--chain", &chain, "--path", "/mine"]);
    let asks = "write --server-name NAME: the routes have the hosts hooks.example.com, other.example.com";
    assert!(code == Some(2) && text.contains(asks), "{text}");
    let (code, text) = explain(&gateway, &["--chain", &chain, "--path", "/mine", "--server-name", "hooks.example.com"]);
    assert!(code == Some(0), "{text}");
    edit(&gateway, &running.replace("host = \"hooks.example.com\"\n", ""));
    let (code, text) = explain(&gateway, &["--chain", &chain, "--path", "/mine"]);
    assert!(code == Some(0) && !text.contains("malformed_request"), "{text}");
}
