//! The pre-filter at work: another gateway in a network namespace, an allowed client, and one from outside the allowed ranges.
//!
//! Needs root, for the namespace and for XDP. Without root, the demo says that it skips these rows. Nothing outside the namespace is
//! filtered.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use hookgate_testkit::configuration::{FourProviders, HOST};
use hookgate_testkit::documents::PERCOLATE;
use hookgate_testkit::gateway::{Gateway, GatewayOptions};
use hookgate_testkit::handler::{Behaviour, Handler};
use hookgate_testkit::namespace::Namespace;
use hookgate_testkit::pki::{KeyKind, Pki, Sender, Variant};

use super::table::Row;
use crate::setup;

/// An address of the loopback interface that is in no range.
const OUTSIDE: &str = "127.0.0.66";

/// The exit code of curl after a time-out.
const CURL_TIMED_OUT: i32 = 28;

/// Sends as both clients, if this process is root.
pub(super) fn send_all(binary: &Path) -> Result<Vec<Row>> {
    if !setup::is_root() {
        println!("skipped: the pre-filter, which needs root for XDP and for a network namespace");
        return Ok(Vec::new());
    }
    Namespace::new("demo")?.run(|| rows(binary))
}

fn rows(binary: &Path) -> Result<Vec<Row>> {
    let directory = tempfile::Builder::new().prefix("hookgate-demo-").tempdir()?;
    let pki = Pki::new(directory.path())?;
    let certificate = pki.server("server", &[HOST], KeyKind::P256)?;
    let handler = Handler::start(&directory.path().join("events.sock"), Behaviour::Json)?;
    let mut configuration = FourProviders::new(&pki, &certificate, handler.path(), handler.path());
    let lines = "proof = \"certificate\"\nsource_ranges = [\"127.0.0.0/28\"]".to_owned();
    let names = ["pagerduty", "dialogflow-cx", "dialogflow-es", PERCOLATE.provider];
    configuration.proofs = names.map(|name| (name, lines.clone())).to_vec();
    let filter = "\n[filter]\nmode = \"enforce\"\ninterfaces = [\"lo\"]\n";
    let gateway = Gateway::start(&(configuration.toml() + filter), &GatewayOptions::new(binary))?;

    let identity = pki.sender(Sender::Percolate).variant(Variant::Good)?;
    let curl = gateway.curl(HOST, &pki).identity(&identity).post(PERCOLATE.path, PERCOLATE.body.as_bytes());
    let status = curl.run()?.status();
    let seen = handler.requests();
    let target = seen.first().map_or("nothing".to_owned(), |request| format!("{} from percolate", request.target));
    let allowed = Row {
        sent: "percolate: its certificate, from its ranges, with the pre-filter".to_owned(),
        answer: status.map_or("nothing".to_owned(), |status| status.to_string()),
        handler_got: target,
        as_expected: status == Some(200) && seen.len() == 1,
    };

    let outsider = Command::new("curl")
        .args(["--silent", "--max-time", "1", "--interface", OUTSIDE])
        .arg(format!("http://{}/", gateway.address()))
        .status()
        .context("running curl")?;
    let dropped = gateway.metric("hookgate_filter_packets_total", &[("verdict", "drop")]).unwrap_or(0.0);
    let is_silent = outsider.code() == Some(CURL_TIMED_OUT);
    let dropped_row = Row {
        sent: "a connection from an address in no range, with the pre-filter".to_owned(),
        answer: if is_silent { "no packet at all" } else { "an answer, or a reset" }.to_owned(),
        handler_got: "nothing".to_owned(),
        as_expected: is_silent && dropped >= 1.0 && handler.request_count() == 1,
    };
    Ok(vec![allowed, dropped_row])
}
