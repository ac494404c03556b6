//! A real Prometheus that scrapes the real daemon: its format, the alerts, and every query of the dashboard.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use hookgate_testkit::handler::Behaviour;
use hookgate_testkit::http;
use hookgate_testkit::pki::{Sender, Variant};
use hookgate_testkit::process::KilledOnDrop;
use hookgate_testkit::wait::wait_until;
use serde_json::Value;

use crate::environment::{PATH, SOON};
use crate::test_gateway::TestGateway;
use crate::tls_client::request;

/// Longer than two scrapes and what a busy machine adds.
const LONG: Duration = Duration::from_secs(60);

fn monitoring(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../monitoring").join(name)
}

fn promtool(arguments: &[&str], input: Option<&[u8]>) -> (bool, String) {
    use std::io::Write as _;
    let mut command = Command::new("promtool");
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("promtool is installed: cargo xtask setup test");
    child.stdin.take().unwrap().write_all(input.unwrap_or_default()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

/// A running Prometheus. The process is the first field, so that it ends before its directory is removed.
struct Prometheus {
    _process: KilledOnDrop,
    port: u16,
    _directory: tempfile::TempDir,
}

impl Prometheus {
    /// One that scrapes `target` twice a second, with the rules.
    fn start(target: std::net::SocketAddr) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let configuration = format!(
            "global: {{ scrape_interval: 500ms, scrape_timeout: 500ms, evaluation_interval: 1s }}\nrule_files: [\"{}\"]\n\
             scrape_configs:\n  - job_name: hookgate\n    static_configs: [{{ targets: [\"{target}\"] }}]\n",
            monitoring("hookgate.rules.yml").display()
        );
        let file = directory.path().join("prometheus.yml");
        fs::write(&file, configuration).unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut command = Command::new("prometheus");
        command.arg(format!("--config.file={}", file.display()));
        command.arg(format!("--storage.tsdb.path={}", directory.path().join("data").display()));
        command.arg(format!("--web.listen-address=127.0.0.1:{port}"));
        let log = fs::File::create(directory.path().join("log")).unwrap();
        let child = command.stdout(Stdio::null()).stderr(log).spawn().expect("prometheus is installed");
        Self { _process: KilledOnDrop(child), port, _directory: directory }
    }

    /// The result of a query of its API; `None` before it answers.
    fn get(&self, path: &str) -> Option<Value> {
        let address = (std::net::Ipv4Addr::LOCALHOST, self.port).into();
        let response = http::get(address, path, Duration::from_secs(5)).ok()?;
        serde_json::from_str(&response.text()).ok()
    }

    /// The samples of `query`; an error of the query ends the test.
    fn query(&self, query: &str) -> Vec<Value> {
        let encoded: String = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let Some(answer) = self.get(&format!("/api/v1/query?query={encoded}")) else { return Vec::new() };
        assert_eq!(answer["status"], "success", "{query}: {answer}");
        answer["data"]["result"].as_array().cloned().unwrap_or_default()
    }
}

/// The queries of the dashboard with the titles of their panels.
fn queries() -> Vec<(String, String)> {
    let dashboard: Value =
        serde_json::from_str(&fs::read_to_string(monitoring("hookgate.dashboard.json")).unwrap()).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().filter(|panel| panel["type"] != "row").flat_map(|panel| {
        let title = panel["title"].as_str().unwrap().to_owned();
        let targets = panel["targets"].as_array().unwrap().clone();
        assert!(!targets.is_empty(), "{title} has no query");
        targets.into_iter().map(move |target| (title.clone(), target["expr"].as_str().unwrap().to_owned()))
    });
    targets.collect()
}

/// Everything that a query of the dashboard needs: admitted and refused requests, and a handler that failed and is well again.
fn traffic(gateway: &TestGateway) {
    let mut connection = gateway.connect().unwrap();
    assert_eq!(connection.ask(request("POST", PATH, b"{}")).unwrap().status, 200);
    let expired = gateway.environment.identity(Sender::Percolate, Variant::Expired).unwrap();
    assert_eq!(gateway.curl().identity(&expired).post(PATH, b"{}").run().unwrap().status(), Some(403));
    gateway.handler().set_behaviour(Behaviour::CloseBeforeAnswering);
    assert_eq!(connection.ask(request("POST", PATH, b"{}")).unwrap().status, 502);
    gateway.handler().set_behaviour(Behaviour::Json);
    assert_eq!(connection.ask(request("POST", PATH, b"{}")).unwrap().status, 200);
}

#[test]
fn every_query_of_the_dashboard_returns_data() {
    let gateway = TestGateway::with_limits("").unwrap();
    traffic(&gateway);
    let prometheus = Prometheus::start(gateway.daemon.metrics_address());
    let mut left: Vec<(String, String)> = queries();
    assert!(left.len() >= 30, "only {} queries", left.len());
    let deadline = Instant::now() + LONG;
    while !left.is_empty() {
        traffic(&gateway);
        left.retain(|(_, query)| {
            let query = query.replace("$__rate_interval", "1m").replace("$instance", ".*");
            // A quantile of no observation is no data.
            !prometheus.query(&query).iter().any(|sample| sample["value"][1] != "NaN")
        });
        assert!(Instant::now() < deadline, "without data: {left:#?}");
        std::thread::sleep(Duration::from_millis(250));
    }
    let up = prometheus.query("up{job=\"hookgate\"} == 1");
    assert_eq!(up.len(), 1, "{up:?}");
    // The rules were loaded, and each was evaluated without an error.
    wait_until("the first evaluation of every rule", LONG, || {
        let Some(answer) = prometheus.get("/api/v1/rules") else { return false };
        let rules = answer["data"]["groups"][0]["rules"].as_array().cloned().unwrap_or_default();
        rules.len() >= 20 && rules.iter().all(|rule| rule["health"] == "ok")
    })
    .unwrap();
}

/// Every example of the table is a query that Prometheus takes, and every metric in it exists.
#[test]
fn every_example_of_the_reference_is_a_query() {
    let gateway = TestGateway::with_limits("").unwrap();
    let prometheus = Prometheus::start(gateway.daemon.metrics_address());
    wait_until("the first scrape", LONG, || !prometheus.query("hookgate_build_info").is_empty()).unwrap();
    for metric in hookgate::metrics::table::METRICS {
        prometheus.query(metric.query);
    }
}

#[test]
fn promtool_finds_nothing_to_mend_in_a_scrape() {
    let gateway = TestGateway::with_limits("").unwrap();
    traffic(&gateway);
    let scraped = http::get(gateway.daemon.metrics_address(), "/metrics", SOON).unwrap();
    let (is_clean, text) = promtool(&["check", "metrics"], Some(&scraped.body));
    assert!(is_clean && text.trim().is_empty(), "{text}");
}

#[test]
fn the_alerts_fire_when_they_should_and_only_then() {
    let (is_well_formed, text) =
        promtool(&["check", "rules", monitoring("hookgate.rules.yml").to_str().unwrap()], None);
    assert!(is_well_formed, "{text}");
    let tests = monitoring("hookgate.rules.test.yml");
    let (holds, text) = promtool(&["test", "rules", tests.to_str().unwrap()], None);
    assert!(holds, "{text}");
}

#[test]
fn every_alert_is_tested_and_has_its_section() {
    let read = |path: PathBuf| fs::read_to_string(path).unwrap();
    let (rules, tests) = (read(monitoring("hookgate.rules.yml")), read(monitoring("hookgate.rules.test.yml")));
    let page = read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/alerts.md"));
    let alerts: Vec<&str> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(alerts.len() >= 20, "{alerts:?}");
    let sections: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    assert_eq!(sections, alerts, "docs/alerts.md has the sections of the alerts, in their order");
    for alert in alerts {
        let anchor = alert.to_lowercase();
        assert!(rules.contains(&format!("runbook: docs/alerts.md#{anchor}\n")), "{alert} has no runbook");
        let is_silent = tests.contains(&format!("{{ eval_time: 180m, alertname: {alert} }}"));
        let fires = tests.contains(&format!("alertname: {alert}\n        exp_alerts:\n          - exp_labels:"));
        assert!(is_silent && fires, "{alert} is not tested both ways");
        // The page shows the expression that is in force.
        let (_, rest) = rules.split_once(&format!("alert: {alert}\n        expr: |-\n          ")).unwrap();
        let expression = rest.lines().next().unwrap();
        assert!(page.contains(&format!("\n    {expression}\n")), "docs/alerts.md has another expression for {alert}");
    }
}
