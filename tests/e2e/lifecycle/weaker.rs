//! A reload that demands less than the configuration in force: refused, unless the file permits exactly that.

use std::ffi::OsStr;
use std::thread::sleep;
use std::time::Duration;

use crate::command::hookgate;
use crate::environment::{Environment, PATH, SOON};
use crate::problem::assert_problem;
use crate::test_gateway::TestGateway;
use crate::tls_client::request;
use hookgate_testkit::configuration::{IO, LISTEN_PORT, METRICS_PORT};
use hookgate_testkit::gateway::Signal;

/// Longer than the daemon waits for a change to settle: two checks, a second apart.
const SETTLED: Duration = Duration::from_millis(3200);

/// A proof below the last route, as the documentation writes it.
const PROOF: &str = "[[route.proof.all]]\n[route.proof.all.signature]\nform = \"hmac\"\nheader = \"x-sig\"\n\
                     secrets = [{ unsafe_value = \"a secret of the sender\" }]\n";

const LOSS: &str = "signature in x-sig is no longer demanded";

/// The configuration up to the proof of the last route.
fn cut(environment: &Environment) -> String {
    "reload = \"watch\"\n".to_owned() + &environment.toml("", "")
}

fn whole(environment: &Environment) -> String {
    cut(environment) + PROOF
}

/// The answer to a request without the proof.
#[track_caller]
fn expect_unsigned(gateway: &TestGateway, admitted: bool) {
    let response = gateway.connect().unwrap().ask(request("POST", PATH, b"{}")).unwrap();
    if admitted {
        assert_eq!(response.status, 200, "{}", gateway.daemon.log());
    } else {
        assert_problem(&response, 403, "signature_missing", "without the proof");
    }
}

#[test]
fn a_file_that_is_cut_before_the_proof_of_a_route_is_refused() {
    let gateway = TestGateway::with_toml(whole).unwrap();
    expect_unsigned(&gateway, false);
    gateway.daemon.write_configuration(&cut(&gateway.environment)).unwrap();
    gateway.daemon.wait_log(LOSS, SOON).unwrap();
    gateway.daemon.wait_log("the configuration in use stays as it was", SOON).unwrap();
    sleep(SETTLED);
    expect_unsigned(&gateway, false);
    let results = ["ok", "error", "weaker"].map(|result| gateway.reloads(result).unwrap());
    assert_eq!(results, [1.0, 0.0, 1.0], "it is tried once: {}", gateway.daemon.log());
    // The rest arrives.
    gateway.daemon.write_configuration(&(whole(&gateway.environment) + "# whole\n")).unwrap();
    gateway.daemon.wait_metric("hookgate_config_generation", &[], 2.0, SOON).unwrap();
    expect_unsigned(&gateway, false);
}

#[test]
fn a_section_that_comes_back_without_its_proof_is_refused() {
    let gateway = TestGateway::with_toml(whole).unwrap();
    let whole = whole(&gateway.environment);
    let start = whole.rfind("[[route]]").unwrap();
    gateway.reload(&whole[..start]).unwrap();
    let response = gateway.connect().unwrap().ask(request("POST", PATH, b"{}")).unwrap();
    assert_problem(&response, 404, "no_route", "without the route");
    gateway.daemon.write_configuration(&cut(&gateway.environment)).unwrap();
    gateway.daemon.wait_metric("hookgate_config_reloads_total", &[("result", "weaker")], 1.0, SOON).unwrap();
    gateway.reload(&whole).unwrap();
    expect_unsigned(&gateway, false);
}

#[test]
fn the_line_that_the_log_names_permits_the_change_once() {
    let signalled = |text: String| text.replace("reload = \"watch\"\n", "");
    let gateway = TestGateway::with_toml(|environment| signalled(whole(environment))).unwrap();
    let (whole, cut) = (signalled(whole(&gateway.environment)), signalled(cut(&gateway.environment)));
    let refuse = |text: &str, times: f64, reason: &str| {
        gateway.daemon.write_configuration(text).unwrap();
        gateway.daemon.signal(Signal::HUP).unwrap();
        let labels = [("result", "weaker")];
        gateway.daemon.wait_metric("hookgate_config_reloads_total", &labels, times, SOON).unwrap();
        gateway.daemon.wait_log(reason, SOON).unwrap();
    };
    refuse(&cut, 1.0, "if that is intended, write accept_weaker");
    expect_unsigned(&gateway, false);
    let line = gateway.daemon.permission().unwrap() + "\n";
    // It permits no other change.
    let more = line.clone()
        + &cut.replace("preset = \"pagerduty\"", "preset = \"pagerduty\"\nextended_key_usage = \"ignore\"");
    refuse(&more, 2.0, "extended_key_usage");
    gateway
        .daemon
        .wait_log("the accept_weaker of the file is that of another change and permits nothing here", SOON)
        .unwrap();
    gateway.daemon.write_configuration(&(line.clone() + &cut)).unwrap();
    gateway.daemon.signal(Signal::HUP).unwrap();
    gateway.daemon.wait_metric("hookgate_config_generation", &[], 2.0, SOON).unwrap();
    gateway.daemon.wait_log("as accept_weaker permits", SOON).unwrap();
    expect_unsigned(&gateway, true);
    // The line stays, the proof comes back, and the file is cut by accident.
    gateway.reload(&(line.clone() + &whole)).unwrap();
    gateway.daemon.wait_log("remove the line", SOON).unwrap();
    refuse(&(line + &cut), 3.0, "an earlier reload used");
    expect_unsigned(&gateway, false);
}

#[test]
fn check_against_the_file_in_force_shows_what_a_reload_would_change() {
    let environment = Environment::new().unwrap();
    let fill = |text: String| text.replace(LISTEN_PORT, "18443").replace(METRICS_PORT, "19464").replace(IO, "auto");
    let old = environment.write("old.toml", fill(whole(&environment))).unwrap();
    let check = |text: String| {
        let new = environment.write("new.toml", fill(text)).unwrap();
        let arguments = ["check", "--config"].map(OsStr::new);
        let finished =
            hookgate(&[&arguments[..], &[new.as_os_str(), OsStr::new("--against"), old.as_os_str()]].concat());
        (finished.status.and_then(|status| status.code()), finished.stdout_text(), finished.stderr_text())
    };
    let (code, stdout, stderr) = check(whole(&environment));
    assert_eq!((code, stdout.contains("nothing has changed")), (Some(0), true), "{stdout} {stderr}");
    let (code, stdout, stderr) = check(cut(&environment));
    assert_eq!((code, stdout.contains("route \"any\": proof")), (Some(1), true), "{stdout} {stderr}");
    assert!(stderr.contains(&format!("demands less: route \"any\", provider percolate: {LOSS}")), "{stderr}");
    let (_, rest) = stderr.split_once("accept_weaker = ").unwrap();
    let line = format!("accept_weaker = {}\n", &rest[..18]);
    let (code, stdout, stderr) = check(line.clone() + &whole(&environment));
    assert_eq!((code, stdout.contains("accept_weaker permits no change")), (Some(0), true), "{stdout} {stderr}");
    let other = "accept_weaker = '0123456789abcdef'\n".to_owned();
    let (code, _, stderr) = check(other + &cut(&environment));
    assert_eq!(
        (code, stderr.contains("is that of another change and permits nothing here")),
        (Some(1), true),
        "{stderr}"
    );
    let (code, stdout, stderr) = check(line + &cut(&environment));
    assert_eq!((code, stdout.contains("as accept_weaker permits")), (Some(0), true), "{stdout} {stderr}");
}

/// What a section demanded is gone with it, so no line can be named.
#[test]
fn a_section_that_is_gone_is_named_without_a_line() {
    let environment = Environment::new().unwrap();
    let fill = |more: &str| {
        let text = environment.toml("", "").replace(LISTEN_PORT, "18443").replace(METRICS_PORT, "19464");
        text.replace(IO, "auto") + more
    };
    let modern = "[tls]\npolicy = \"modern\"\n";
    let old = environment.write("old.toml", fill(modern)).unwrap();
    for (more, place) in [("", " (no section [tls]): demands less: tls: "), ("[tls]\n", ": demands less: tls: ")] {
        let new = environment.write("new.toml", fill(more)).unwrap();
        let arguments = [OsStr::new("check"), OsStr::new("--config"), new.as_os_str(), OsStr::new("--against")];
        let stderr = hookgate(&[&arguments[..], &[old.as_os_str()]].concat()).stderr_text();
        let line = fill(more).lines().count();
        let file = new.display();
        let file = if more.is_empty() { file.to_string() } else { format!("{file}:{line}") };
        assert!(stderr.contains(&format!("{file}{place}")), "{stderr}");
    }
}
