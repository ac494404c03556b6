//! A list of ranges that the daemon fetches from its publisher, a real HTTPS server, and that decides in the kernel who gets in.
//!
//! Owns the publisher: openssl(1), in the namespace of the server. Must not test what a fetch can meet: `tests/e2e/published.rs` does.

use std::fs;
use std::io::ErrorKind;
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use hookgate_testkit::pki::{KeyKind, Pki};
use hookgate_testkit::process::KilledOnDrop;
use hookgate_testkit::wait::wait_until;

use crate::daemon::{Environment, PATIENCE, SILENCE};
use crate::is_root;
use crate::namespaces::{ALLOWED, FOREIGN, Network};

/// Where the publisher listens.
const ADDRESS: &str = "127.0.0.1:8443";

/// The name of the list, and of the file with the answer.
const LIST: &str = "ranges";

/// A running server.
struct Publisher {
    _process: KilledOnDrop,
    answer: PathBuf,
}

impl Publisher {
    fn start(network: &Network, pki: &Pki, ranges: &[&str]) -> Self {
        let identity = pki.server("publisher", &["ranges.example.com"], KeyKind::P256).unwrap();
        let directory = pki.directory().join("published");
        fs::create_dir(&directory).unwrap();
        let mut command = Command::new("openssl");
        command.args(["s_server", "-quiet", "-HTTP", "-accept", ADDRESS]);
        command.arg("-cert").arg(&identity.chain_path).arg("-cert_chain").arg(&identity.chain_path);
        command.arg("-key").arg(&identity.key_path).current_dir(&directory);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let process = network.on_server(|| command.spawn()).unwrap();
        let publisher = Self { _process: KilledOnDrop(process), answer: directory.join(LIST) };
        publisher.publish(ranges);
        wait_until("the publisher", PATIENCE, || network.on_server(|| TcpStream::connect(ADDRESS).is_ok())).unwrap();
        publisher
    }

    /// Changes the list. In one step, since the daemon may be fetching it.
    fn publish(&self, ranges: &[&str]) {
        let body = ranges.join("\n");
        let length = body.len();
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nCache-Control: max-age=3600\r\n\r\n");
        let next = self.answer.with_extension("next");
        fs::write(&next, head + &body).unwrap();
        fs::rename(&next, &self.answer).unwrap();
    }
}

/// A configuration in which the list alone says who is Percolate. Each other `timeout` makes the daemon fetch it anew.
fn configuration(environment: &Environment, timeout: u32, filter: &str) -> String {
    let root = environment.pki.server_root().path().display();
    let list = format!(
        "source_range_urls = [{{ url = \"https://{ADDRESS}/{LIST}\", ca_file = \"{root}\", allow_private = true, timeout_ms = {timeout} }}]"
    );
    let filter = format!("mode = \"enforce\"\nlargest_shrink_percent = 20\n{filter}");
    let text = environment.configuration("\"203.0.113.0/24\"", &filter);
    let (before, percolate) = text.split_once("name = \"percolate\"").unwrap();
    let percolate = percolate.replacen("source_ranges = [\"203.0.113.0/24\"]", &list, 1);
    format!("{before}name = \"percolate\"{percolate}")
}

#[test]
fn a_fetched_list_decides_in_the_kernel_whose_packets_pass() {
    if !is_root() {
        return;
    }
    let environment = Environment::new();
    let publisher = Publisher::start(&environment.network, &environment.pki, &ALLOWED);
    let gateway = environment.start(&configuration(&environment, 10_000, ""));
    let expect = |passing: &[&str], silent: &[&str]| {
        for source in passing {
            assert_eq!(environment.post(source, PATIENCE).status(), Some(200), "{source}: {}", gateway.log());
        }
        for source in silent {
            assert_eq!(environment.connect(source, SILENCE), ErrorKind::TimedOut, "{source}: not even a RST");
        }
    };
    let fetched = |result: &str, least: f64| {
        let labels = [("source", "https://127.0.0.1:8443/ranges"), ("result", result)];
        environment.wait_metric(&gateway, "hookgate_fetches_total", &labels, least);
    };
    // The list was there before the first packet.
    expect(&ALLOWED, &FOREIGN);

    // The publisher adds a range.
    publisher.publish(&[ALLOWED, FOREIGN].concat());
    environment.reload(&gateway, &configuration(&environment, 10_001, ""));
    fetched("ok", 2.0);
    expect(&[ALLOWED, FOREIGN].concat(), &[]);

    // It loses more than may be lost at once: the list in force stays, in the kernel too.
    publisher.publish(&FOREIGN);
    environment.reload(&gateway, &configuration(&environment, 10_002, ""));
    fetched("refused", 1.0);
    expect(&[ALLOWED, FOREIGN].concat(), &[]);

    // Until the operator says that it is meant.
    environment.reload(&gateway, &configuration(&environment, 10_002, "force_shrink = true"));
    fetched("ok", 3.0);
    expect(&FOREIGN, &ALLOWED);

    // A publisher that is gone takes nothing away, and gives nothing back.
    drop(publisher);
    environment.reload(&gateway, &configuration(&environment, 10_003, ""));
    fetched("connect", 1.0);
    expect(&FOREIGN, &ALLOWED);
    assert_eq!(environment.handler.request_count(), 14);
}
