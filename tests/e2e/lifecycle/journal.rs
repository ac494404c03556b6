//! Events in the journal, with their fields. The socket of journald is a stub; all else is real.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use hookgate_testkit::gateway::Gateway;
use hookgate_testkit::mount::with_mount;
use hookgate_testkit::pki::{Sender, Variant};

use crate::environment::{BINARY, Environment, PATH, SOON};
use crate::test_gateway::TestGateway;

/// The fields of an entry in the native protocol of the journal: `NAME=value`, or a name, eight bytes of length and the value.
fn fields(mut entry: &[u8]) -> BTreeMap<String, String> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let mut fields = BTreeMap::new();
    while let Some(end) = entry.iter().position(|byte| *byte == b'\n') {
        let (line, rest) = (&entry[..end], &entry[end + 1..]);
        let (name, value) = match line.iter().position(|byte| *byte == b'=') {
            Some(equals) => {
                entry = rest;
                (text(&line[..equals]), text(&line[equals + 1..]))
            }
            None => {
                let (length, rest) = rest.split_first_chunk().unwrap();
                let (value, rest) = rest.split_at(u64::from_le_bytes(*length).try_into().unwrap());
                entry = &rest[1..];
                (text(line), text(value))
            }
        };
        fields.insert(name, value);
    }
    fields
}

#[test]
fn refusals_reach_the_journal_with_their_fields() {
    if !rustix::process::geteuid().is_root() {
        return; // only root can mount
    }
    let environment = Environment::new().unwrap();
    let directory = environment.path("journal");
    fs::create_dir(&directory).unwrap();
    let journal = UnixDatagram::bind(directory.join("socket")).unwrap();
    journal.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let scripts = environment.directory.path();
    let options = with_mount(BINARY, scripts, &directory, "/run/systemd/journal", true).unwrap();
    let daemon = Gateway::start(&environment.toml("", ""), &options).unwrap();
    let gateway = TestGateway::new(daemon, environment, Sender::Percolate).unwrap();

    let find = |name: &str, value: &str| {
        let deadline = Instant::now() + SOON;
        let mut buffer = vec![0; 64 * 1024];
        loop {
            if let Ok(length) = journal.recv(&mut buffer) {
                let fields = fields(&buffer[..length]);
                if fields.get(name).is_some_and(|found| found == value) {
                    return fields;
                }
            }
            assert!(Instant::now() < deadline, "no {name}={value}");
        }
    };
    let ready = find("HOOKGATE_EVENT", "ready");
    assert_eq!([&ready["PRIORITY"], &ready["SYSLOG_IDENTIFIER"], &ready["HOOKGATE_WORKERS"]], ["6", "hookgate", "1"]);
    assert_eq!(ready["HOOKGATE_CRYPTO"], if cfg!(feature = "aws-lc") { "aws-lc" } else { "ring" });

    let expired = gateway.environment.identity(Sender::Percolate, Variant::Expired).unwrap();
    let outcome = gateway.curl().identity(&expired).post(PATH, b"{}").run().unwrap();
    let request_id = outcome.response().unwrap().field("x-request-id").unwrap().to_owned();
    let refused = find("HOOKGATE_REASON", "certificate_expired");
    assert_eq!(refused["HOOKGATE_EVENT"], "request refused");
    assert_eq!(refused["HOOKGATE_PROVIDER"], "percolate");
    assert_eq!(refused["HOOKGATE_SERVER_NAME"], hookgate_testkit::configuration::HOST);
    assert_eq!(refused["HOOKGATE_REQUEST_ID"], request_id);
    assert_eq!(refused["PRIORITY"], "4");
    assert!(refused["HOOKGATE_PEER"].starts_with("127.0.0.1:"), "{refused:?}");
    assert!(refused["MESSAGE"].starts_with("request refused reason=certificate_expired "), "{refused:?}");

    let pagerduty = gateway.environment.identity(Sender::PagerDuty, Variant::Good).unwrap();
    assert_eq!(gateway.curl().identity(&pagerduty).post(PATH, b"{}").run().unwrap().status(), Some(403));
    let refused = find("HOOKGATE_REASON", "provider_not_admitted");
    assert_eq!([&refused["HOOKGATE_PROVIDER"], &refused["HOOKGATE_ROUTE"]], ["pagerduty", "any"]);
    assert_eq!(gateway.daemon.log(), "", "the daemon wrote to standard error");
}
