//! `reload = "watch"`: the daemon loads files that changed on disk, after they have settled. Also what a reload reports.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Result;
use data_encoding::BASE64;
use hookgate_testkit::client::OpenSslOutcome;
use hookgate_testkit::configuration::HOST;
use hookgate_testkit::gateway::Signal;
use hookgate_testkit::pki::{KeyKind, RevocationListOptions, Sender, ServerIdentity, Variant};
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};

use crate::environment::{Environment, PATH, SOON, quoted};
use crate::problem::assert_problem;
use crate::test_gateway::TestGateway;
use crate::tls_client::{TlsClient, request};

/// Longer than the daemon waits for a change to settle: two checks, a second apart.
const SETTLED: Duration = Duration::from_millis(2200);

const WATCH: &str = "reload = \"watch\"\n";

/// The configuration with these revocation lists for PagerDuty, and the route for [`PATH`].
fn configuration(environment: &Environment, limits: &str, lists: &[PathBuf]) -> String {
    let mut configuration = environment.configuration();
    configuration.limits = limits;
    configuration.revocation_lists = vec![(Sender::PagerDuty, lists.to_vec())];
    configuration.toml() + &environment.any_method_route("")
}

fn watching(environment: &Environment) -> String {
    WATCH.to_owned() + &configuration(environment, "", &[])
}

/// A renewed server certificate.
fn renewed(gateway: &TestGateway) -> ServerIdentity {
    gateway.environment.pki.server("renewed", &[HOST], KeyKind::P256).unwrap()
}

/// Whether the daemon presents this certificate.
fn is_served(gateway: &TestGateway, der: &[u8]) -> bool {
    let outcome: OpenSslOutcome = gateway.admitted_openssl().send(b"").run().unwrap();
    let served = outcome.server_certificates().into_iter().next().unwrap_or_default();
    let lines: String = served.lines().filter(|line| !line.contains("-----")).collect();
    lines == BASE64.encode(der)
}

fn wait_generation(gateway: &TestGateway, generation: f64) {
    gateway.daemon.wait_metric("hookgate_config_generation", &[], generation, SOON).unwrap();
}

/// Replaces `target` with a copy of `source` atomically, as certbot does.
fn rename_into(source: &Path, target: &Path) {
    let beside = target.with_extension("new");
    fs::copy(source, &beside).unwrap();
    fs::rename(beside, target).unwrap();
}

#[test]
fn a_certificate_that_is_renamed_into_place_is_served_without_a_signal() {
    let gateway = TestGateway::with_toml(watching).unwrap();
    let mut kept = gateway.connect().unwrap();
    assert_eq!(kept.ask(request("POST", PATH, b"{}")).unwrap().status, 200);
    let renewed = renewed(&gateway);
    let server = &gateway.environment.server;
    rename_into(&renewed.chain_path, &server.chain_path);
    // Between the two renames certificate and key do not match, which is no error.
    sleep(Duration::from_millis(300));
    rename_into(&renewed.key_path, &server.key_path);
    wait_generation(&gateway, 2.0);
    assert!(is_served(&gateway, &renewed.der) && !is_served(&gateway, &server.der));
    assert_eq!(gateway.reloads("error").unwrap(), 0.0, "{}", gateway.daemon.log());
    let log = gateway.daemon.log();
    for path in [&server.chain_path, &server.key_path] {
        assert!(log.contains(&format!("changed on disk file={}", path.display())), "{log}");
    }
    assert!(log.contains(&format!("certificate {HOST}: serial ")), "{log}");
    assert_eq!(kept.ask(request("POST", PATH, b"{}")).unwrap().status, 200, "on the open connection");
}

#[test]
fn a_symbolic_link_with_a_new_target_is_followed() {
    let place = |environment: &Environment, version: &str, server: &ServerIdentity| {
        let directory = environment.path(version);
        fs::create_dir(&directory).unwrap();
        fs::copy(&server.chain_path, directory.join("tls.crt")).unwrap();
        fs::copy(&server.key_path, directory.join("tls.key")).unwrap();
        symlink(&directory, environment.path("..data.new")).unwrap();
        fs::rename(environment.path("..data.new"), environment.path("..data")).unwrap();
    };
    // As Kubernetes mounts secrets: the files are links through a second link, which is renamed.
    let gateway = TestGateway::with_toml(|environment| {
        place(environment, "..v1", &environment.server);
        for name in ["tls.crt", "tls.key"] {
            symlink(Path::new("..data").join(name), environment.path(name)).unwrap();
        }
        let text = watching(environment);
        let text = text.replace(
            &environment.server.chain_path.display().to_string(),
            &environment.path("tls.crt").display().to_string(),
        );
        text.replace(
            &environment.server.key_path.display().to_string(),
            &environment.path("tls.key").display().to_string(),
        )
    });
    let gateway = gateway.unwrap();
    let renewed = renewed(&gateway);
    place(&gateway.environment, "..v2", &renewed);
    wait_generation(&gateway, 2.0);
    assert!(is_served(&gateway, &renewed.der), "{}", gateway.daemon.log());
    assert_eq!(gateway.reloads("error").unwrap(), 0.0);
}

#[test]
fn a_half_written_file_is_not_loaded() {
    let gateway = TestGateway::with_toml(watching).unwrap();
    let renewed = renewed(&gateway);
    let server = &gateway.environment.server;
    let (chain, key) = (fs::read(&renewed.chain_path).unwrap(), fs::read(&renewed.key_path).unwrap());
    // A slow copy: every check finds another part of it.
    let start = Instant::now();
    let mut written = 0;
    while start.elapsed() < SETTLED {
        written = (written + 7).min(chain.len() / 2);
        fs::write(&server.chain_path, &chain[..written]).unwrap();
        sleep(Duration::from_millis(200));
    }
    assert_eq!(
        (gateway.reloads("ok").unwrap(), gateway.reloads("error").unwrap()),
        (1.0, 0.0),
        "{}",
        gateway.daemon.log()
    );
    fs::write(&server.chain_path, &chain).unwrap();
    fs::write(&server.key_path, &key).unwrap();
    wait_generation(&gateway, 2.0);
    assert!(is_served(&gateway, &renewed.der));
    assert_eq!(gateway.reloads("error").unwrap(), 0.0, "{}", gateway.daemon.log());
}

#[test]
fn a_broken_file_is_tried_once_and_loaded_when_it_is_valid() {
    let gateway = TestGateway::with_toml(watching).unwrap();
    let text = watching(&gateway.environment);
    gateway.daemon.write_configuration(&text.replace("preset = \"percolate\"", "preset = \"percolat\"")).unwrap();
    let failed = [("result", "error")];
    gateway.daemon.wait_metric("hookgate_config_reloads_total", &failed, 1.0, SOON).unwrap();
    gateway.daemon.wait_log("did you mean", SOON).unwrap();
    gateway.daemon.wait_log("the configuration in use stays as it was", SOON).unwrap();
    sleep(SETTLED);
    assert_eq!(gateway.reloads("error").unwrap(), 1.0, "the broken file was tried again");
    assert_eq!(gateway.connect().unwrap().ask(request("POST", PATH, b"{}")).unwrap().status, 200);
    // A reload can switch watching off.
    gateway.daemon.write_configuration(&text.replace(WATCH, "")).unwrap();
    wait_generation(&gateway, 2.0);
    gateway.daemon.wait_log("reload: \\\"watch\\\" → (not set)", SOON).unwrap();
}

#[test]
fn presets_in_files_are_watched_and_a_bad_one_changes_nothing() {
    let preset = |depth: u8| {
        format!(
            "schema = 1\nversion = 2027-01-31\ntitle = \"Ours\"\ndocumentation = \"https://ours.example/\"\n\
             [[profile]]\nname = \"ours\"\nverify_depth = {depth}\nidentity = [{{ subject_cn = \"Percolate Industries, Inc.\" }}]\n"
        )
    };
    let gateway = TestGateway::with_toml(|environment| {
        fs::create_dir(environment.path("presets")).unwrap();
        environment.write("presets/percolate.toml", preset(2)).unwrap();
        let directory = quoted(&environment.path("presets"));
        format!("{}\n[presets]\ndirectories = [{directory}]\n", watching(environment))
    })
    .unwrap();
    let directory = gateway.environment.path("presets");
    let is_admitted = || gateway.connect().unwrap().ask(request("POST", PATH, b"{}")).unwrap().status == 200;
    assert!(is_admitted());
    // Half written, then of a newer schema.
    let error = |count: f64, words: &str| {
        gateway.daemon.wait_metric("hookgate_config_reloads_total", &[("result", "error")], count, SOON).unwrap();
        gateway.daemon.wait_log(words, SOON).unwrap();
        assert!(is_admitted());
    };
    fs::write(directory.join("percolate.toml"), &preset(2)[..90]).unwrap();
    error(1.0, "presets/percolate.toml:5: not valid TOML");
    fs::write(directory.join("percolate.toml"), preset(2).replace("schema = 1", "schema = 2")).unwrap();
    error(2.0, "presets/percolate.toml:1: schema: schema 2 is newer than this hookgate");
    // One that demands less.
    fs::write(directory.join("percolate.toml"), preset(3)).unwrap();
    gateway.daemon.wait_metric("hookgate_config_reloads_total", &[("result", "weaker")], 1.0, SOON).unwrap();
    gateway.daemon.wait_log("verify_depth", SOON).unwrap();
    // A good one, and a file that is added to the directory.
    fs::write(directory.join("percolate.toml"), preset(1)).unwrap();
    wait_generation(&gateway, 2.0);
    gateway.daemon.wait_log("provider percolate: content of the preset", SOON).unwrap();
    fs::write(directory.join("another.toml"), preset(1)).unwrap();
    wait_generation(&gateway, 3.0);
}

#[test]
fn a_reload_that_finds_no_free_descriptor_is_tried_again_without_a_change() {
    let gateway = TestGateway::with_toml(watching).unwrap();
    let renewed = renewed(&gateway);
    let process = Pid::from_raw(i32::try_from(gateway.daemon.process_id()).unwrap());
    // Fewer than are open, so that the daemon can open no file.
    let maximum = getrlimit(Resource::Nofile).maximum;
    let before = prlimit(process, Resource::Nofile, Rlimit { current: Some(3), maximum }).unwrap();
    rename_into(&renewed.chain_path, &gateway.environment.server.chain_path);
    rename_into(&renewed.key_path, &gateway.environment.server.key_path);
    gateway.daemon.wait_log("Too many open files", SOON).unwrap();
    prlimit(process, Resource::Nofile, before).unwrap();
    gateway.daemon.wait_log("trying again to reload", SOON).unwrap();
    wait_generation(&gateway, 2.0);
    assert!(is_served(&gateway, &renewed.der), "{}", gateway.daemon.log());
}

#[test]
fn a_peer_that_a_new_list_revokes_is_refused_at_its_next_request() {
    let pagerduty = |environment: &Environment| {
        environment.pki.sender(Sender::PagerDuty).revocation_lists(&RevocationListOptions::default()).unwrap()
    };
    let gateway = TestGateway::with_toml(|environment| {
        WATCH.to_owned() + &configuration(environment, "", &pagerduty(environment))
    })
    .unwrap();
    let environment = &gateway.environment;
    let identity = environment.identity(Sender::PagerDuty, Variant::Good).unwrap();
    let mut connection = TlsClient::new(gateway.daemon.port(), &environment.pki, &identity).unwrap().connect().unwrap();
    let mut ask = || connection.ask(request("POST", "/pagerduty", b"{}")).unwrap();
    assert_eq!(ask().status, 200, "{}", gateway.daemon.log());
    environment.pki.sender(Sender::PagerDuty).revoke(&[&identity]).unwrap();
    wait_generation(&gateway, 2.0);
    assert_problem(&ask(), 403, "certificate_revoked", "the same connection");
}

#[test]
fn a_reload_reports_each_change_in_one_line() {
    let lists = |environment: &Environment, number: u64| -> Result<[PathBuf; 2]> {
        let options = RevocationListOptions { number, ..RevocationListOptions::default() };
        environment.pki.sender(Sender::PagerDuty).revocation_lists(&options)
    };
    let gateway = TestGateway::with_toml(|environment| {
        configuration(environment, "max_body_bytes = 1000000", &lists(environment, 41).unwrap())
            .replace("any/*", "old/*")
    });
    let gateway = gateway.unwrap();
    let environment = &gateway.environment;
    let renewed = renewed(&gateway);
    rename_into(&renewed.chain_path, &environment.server.chain_path);
    rename_into(&renewed.key_path, &environment.server.key_path);
    let text = configuration(environment, "max_body_bytes = 2000000", &lists(environment, 42).unwrap());
    gateway.reload(&text.replace("name = \"any\"", "name = \"renamed\"")).unwrap();
    let expected = [
        format!("changed change=\"certificate {HOST}: serial "),
        "changed change=\"limits.max_body_bytes: 1000000 → 2000000\"".to_owned(),
        "changed change=\"provider pagerduty: revocation list of CN=".to_owned(),
        ": number 41, next update ".to_owned(),
        " → number 42, next update ".to_owned(),
        r#"changed change="route \"any\" removed""#.to_owned(),
        r#"changed change="route \"renamed\" added""#.to_owned(),
    ];
    for words in &expected {
        gateway.daemon.wait_log(words, SOON).unwrap();
    }
    gateway.daemon.signal(Signal::HUP).unwrap();
    gateway.daemon.wait_log("nothing has changed", SOON).unwrap();
}
