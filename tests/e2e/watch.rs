//! `reload = "watch"`: files that change on disk are taken without a signal, when they have settled; and what a reload reports.

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

use crate::call::{Caller, request};
use crate::stand::{PATH, Stand, any_method_route, assert_problem};
use crate::world::{SOON, Scene};

/// Longer than a change that has settled is left alone: two looks, a second apart.
const SETTLED: Duration = Duration::from_millis(2200);

const WATCH: &str = "reload = \"watch\"\n";

/// PagerDuty is checked against `lists`.
fn configuration(scene: &Scene, limits: &str, lists: &[PathBuf]) -> String {
    let mut configuration = scene.configuration();
    configuration.limits = limits;
    configuration.revocation_lists = vec![(Sender::PagerDuty, lists.to_vec())];
    configuration.toml() + &any_method_route(scene, "")
}

fn watching(scene: &Scene) -> String {
    WATCH.to_owned() + &configuration(scene, "", &[])
}

/// A certificate for the host, as its issuer would renew it.
fn renewed(stand: &Stand) -> ServerIdentity {
    stand.world.scene.pki.server("renewed", &[HOST], KeyKind::P256).unwrap()
}

/// Whether this is the certificate that is served now.
fn is_served(stand: &Stand, der: &[u8]) -> bool {
    let outcome: OpenSslOutcome = stand.openssl().send(b"").run().unwrap();
    let served = outcome.server_certificates().into_iter().next().unwrap_or_default();
    let lines: String = served.lines().filter(|line| !line.contains("-----")).collect();
    lines == BASE64.encode(der)
}

fn wait_generation(stand: &Stand, generation: f64) {
    stand.world.gateway.wait_metric("hookgate_config_generation", &[], generation, SOON).unwrap();
}

fn reloads(stand: &Stand, result: &str) -> f64 {
    stand.world.gateway.metric("hookgate_config_reloads_total", &[("result", result)]).unwrap()
}

/// Puts `source` into the place of `target` at once, as certbot and careful operators do.
fn rename_into(source: &Path, target: &Path) {
    let beside = target.with_extension("new");
    fs::copy(source, &beside).unwrap();
    fs::rename(beside, target).unwrap();
}

#[test]
fn a_certificate_that_is_renamed_into_place_is_served_without_a_signal() {
    let stand = Stand::written(watching).unwrap();
    let mut kept = stand.call().unwrap();
    assert_eq!(kept.ask(request("POST", PATH, b"{}")).unwrap().status, 200);
    let renewed = renewed(&stand);
    let server = &stand.world.scene.server;
    rename_into(&renewed.chain_path, &server.chain_path);
    // Between the two renames certificate and key do not fit, and nobody minds.
    sleep(Duration::from_millis(300));
    rename_into(&renewed.key_path, &server.key_path);
    wait_generation(&stand, 2.0);
    assert!(is_served(&stand, &renewed.der) && !is_served(&stand, &server.der));
    assert_eq!(reloads(&stand, "error"), 0.0, "{}", stand.world.gateway.log());
    let log = stand.world.gateway.log();
    for path in [&server.chain_path, &server.key_path] {
        assert!(log.contains(&format!("changed on disk file={}", path.display())), "{log}");
    }
    assert!(log.contains(&format!("certificate {HOST}: serial ")), "{log}");
    assert_eq!(kept.ask(request("POST", PATH, b"{}")).unwrap().status, 200, "the open connection goes on");
}

#[test]
fn a_symbolic_link_that_is_turned_elsewhere_is_followed() {
    let place = |scene: &Scene, version: &str, server: &ServerIdentity| {
        let directory = scene.path(version);
        fs::create_dir(&directory).unwrap();
        fs::copy(&server.chain_path, directory.join("tls.crt")).unwrap();
        fs::copy(&server.key_path, directory.join("tls.key")).unwrap();
        symlink(&directory, scene.path("..data.new")).unwrap();
        fs::rename(scene.path("..data.new"), scene.path("..data")).unwrap();
    };
    // As Kubernetes mounts secrets: the files are links through a link, and that one is renamed.
    let stand = Stand::written(|scene| {
        place(scene, "..v1", &scene.server);
        for name in ["tls.crt", "tls.key"] {
            symlink(Path::new("..data").join(name), scene.path(name)).unwrap();
        }
        let text = watching(scene);
        let text =
            text.replace(&scene.server.chain_path.display().to_string(), &scene.path("tls.crt").display().to_string());
        text.replace(&scene.server.key_path.display().to_string(), &scene.path("tls.key").display().to_string())
    });
    let stand = stand.unwrap();
    let renewed = renewed(&stand);
    place(&stand.world.scene, "..v2", &renewed);
    wait_generation(&stand, 2.0);
    assert!(is_served(&stand, &renewed.der), "{}", stand.world.gateway.log());
    assert_eq!(reloads(&stand, "error"), 0.0);
}

#[test]
fn a_half_written_file_is_not_taken() {
    let stand = Stand::written(watching).unwrap();
    let renewed = renewed(&stand);
    let server = &stand.world.scene.server;
    let (chain, key) = (fs::read(&renewed.chain_path).unwrap(), fs::read(&renewed.key_path).unwrap());
    // A slow copy: every look finds another half of it.
    let start = Instant::now();
    let mut written = 0;
    while start.elapsed() < SETTLED {
        written = (written + 7).min(chain.len() / 2);
        fs::write(&server.chain_path, &chain[..written]).unwrap();
        sleep(Duration::from_millis(200));
    }
    assert_eq!((reloads(&stand, "ok"), reloads(&stand, "error")), (1.0, 0.0), "{}", stand.world.gateway.log());
    fs::write(&server.chain_path, &chain).unwrap();
    fs::write(&server.key_path, &key).unwrap();
    wait_generation(&stand, 2.0);
    assert!(is_served(&stand, &renewed.der));
    assert_eq!(reloads(&stand, "error"), 0.0, "{}", stand.world.gateway.log());
}

#[test]
fn what_is_broken_is_tried_once_and_taken_when_it_is_good() {
    let stand = Stand::written(watching).unwrap();
    let text = watching(&stand.world.scene);
    stand.world.gateway.write_configuration(&text.replace("preset = \"percolate\"", "preset = \"percolat\"")).unwrap();
    let failed = [("result", "error")];
    stand.world.gateway.wait_metric("hookgate_config_reloads_total", &failed, 1.0, SOON).unwrap();
    stand.world.gateway.wait_log("did you mean", SOON).unwrap();
    stand.world.gateway.wait_log("the configuration in use stays as it was", SOON).unwrap();
    sleep(SETTLED);
    assert_eq!(reloads(&stand, "error"), 1.0, "it is not tried again and again");
    assert_eq!(stand.call().unwrap().ask(request("POST", PATH, b"{}")).unwrap().status, 200);
    // Whether it watches is a setting like any other.
    stand.world.gateway.write_configuration(&text.replace(WATCH, "")).unwrap();
    wait_generation(&stand, 2.0);
    stand.world.gateway.wait_log("reload: \\\"watch\\\" → (not set)", SOON).unwrap();
}

#[test]
fn a_peer_that_a_new_list_revokes_is_refused_at_its_next_request() {
    let pagerduty = |scene: &Scene| {
        scene.pki.sender(Sender::PagerDuty).revocation_lists(&RevocationListOptions::default()).unwrap()
    };
    let stand = Stand::written(|scene| WATCH.to_owned() + &configuration(scene, "", &pagerduty(scene))).unwrap();
    let scene = &stand.world.scene;
    let identity = scene.identity(Sender::PagerDuty, Variant::Good).unwrap();
    let mut call = Caller::new(stand.world.gateway.port(), &scene.pki, &identity).unwrap().connect().unwrap();
    let mut ask = || call.ask(request("POST", "/pagerduty", b"{}")).unwrap();
    assert_eq!(ask().status, 200, "{}", stand.world.gateway.log());
    scene.pki.sender(Sender::PagerDuty).revoke(&[&identity]).unwrap();
    wait_generation(&stand, 2.0);
    assert_problem(&ask(), 403, "certificate_revoked", "the same connection");
}

#[test]
fn a_reload_reports_each_change_in_one_line() {
    let lists = |scene: &Scene, number: u64| -> Result<[PathBuf; 2]> {
        let options = RevocationListOptions { number, ..RevocationListOptions::default() };
        scene.pki.sender(Sender::PagerDuty).revocation_lists(&options)
    };
    let stand = Stand::written(|scene| {
        configuration(scene, "max_body_bytes = 1000000", &lists(scene, 41).unwrap()).replace("any/*", "old/*")
    });
    let stand = stand.unwrap();
    let scene = &stand.world.scene;
    let renewed = renewed(&stand);
    rename_into(&renewed.chain_path, &scene.server.chain_path);
    rename_into(&renewed.key_path, &scene.server.key_path);
    let text = configuration(scene, "max_body_bytes = 2000000", &lists(scene, 42).unwrap());
    stand.world.reload(&text.replace("name = \"any\"", "name = \"renamed\"")).unwrap();
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
        stand.world.gateway.wait_log(words, SOON).unwrap();
    }
    stand.world.gateway.signal(Signal::HUP).unwrap();
    stand.world.gateway.wait_log("nothing has changed", SOON).unwrap();
}
