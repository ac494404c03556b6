//! What of a change needs a restart.

#![expect(clippy::unwrap_used, reason = "a failed set-up fails the test")]

use std::fs;
use std::path::PathBuf;

use tempfile::TempDir;

use super::*;
use crate::config::tests::{parsed, write_server_certificate};

const TEXT: &str = r#"
[listen]
addresses = ["127.0.0.1:18443"]

[[certificate]]
chain = "server.pem"
key = "server.key"

[[provider]]
name = "one"
preset = "pagerduty"
proof = "certificate"
replay = { id_header = "x-id", window_s = 600 }

[[route]]
name = "first"
path = "/first"
providers = ["one"]
handler = "http://127.0.0.1:18092"

[[route]]
name = "second"
path = "/second"
providers = ["one"]
handler = "unix:/run/second.sock"
"#;

const STATE: &str = "[state]\ndirectory = \"state\"\n";
const DURABLE: &str = "handler = \"unix:/run/second.sock\"\ndelivery = \"durable\"";
const FILTER: &str = "[filter]\nmode = \"monitor\"\ninterfaces = [\"eth0\"]\n";
const RATE: &str = "syn_ipv4_address = { per_second = 7 }\n";
const FLEET: &str = "[fleet]\nnats = [\"nats://127.0.0.1:4222\"]\n";

struct Files(TempDir);

impl Files {
    /// Writes what [`TEXT`] names.
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        write_server_certificate(directory.path(), &["hooks.example.com"]);
        Self(directory)
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("hookgate.toml")
    }

    fn config(&self, text: &str) -> Config {
        parsed(self.0.path(), text)
    }

    /// Expects these lines, without the file, of a change from `old` to `new`. A reload is refused after one with `!`.
    #[track_caller]
    fn check(&self, old: &str, new: &str, kernel_enforces_ports: bool, expected: &[&str]) {
        fs::write(self.path(), new).unwrap();
        let config = self.config(new);
        let sections = Sections::of(&self.path(), &config.routes);
        let obstacles = Demands::of(&config).obstacles_if(&self.config(old), kernel_enforces_ports);
        let line = |obstacle: &Obstacle| {
            let place = obstacle.place(&sections);
            let line = place.rsplit_once(':').map_or("", |(_, line)| line);
            format!("{}{line}: {obstacle}", if obstacle.is_refused { "!" } else { "" })
        };
        let lines: Vec<String> = obstacles.iter().map(line).collect();
        assert_eq!(lines.len(), expected.len(), "{lines:#?}");
        for (line, expected) in lines.iter().zip(expected) {
            assert!(line.starts_with(expected), "{expected}\n{lines:#?}");
        }
    }
}

#[test]
fn a_handler_at_another_port_needs_one_where_the_kernel_enforces_ports() {
    let files = Files::new();
    let moved = TEXT.replace("18092", "18093");
    let line = "15: needs a restart: the handler http://127.0.0.1:18093 is at a port that no handler had before; where Landlock holds";
    files.check(TEXT, &moved, true, &[&format!("!{line}")]);
    files.check(TEXT, &moved, false, &[line]);
    let list = TEXT.replace(
        "\"http://127.0.0.1:18092\"",
        "[\"http://127.0.0.1:18092\", \"http://127.0.0.2:18092\", \"http://127.0.0.1:18093\", \"unix:/run/first.sock\"]",
    );
    files.check(TEXT, &list, true, &[&format!("!{line}")]);
    // The ports of before are free.
    files.check(&list, TEXT, true, &[]);
    files.check(&list, &moved, true, &[]);
    files.check(TEXT, &TEXT.replace("unix:/run/second.sock", "http://[::1]:18092"), true, &[]);
    files.check(TEXT, &TEXT.replace("http://127.0.0.1:18092", "unix:/run/first.sock"), true, &[]);
}

#[test]
fn a_first_durable_route_needs_one_without_a_database() {
    let files = Files::new();
    let durable = TEXT.replace("handler = \"unix:/run/second.sock\"", DURABLE) + STATE;
    let line =
        "!21: needs a restart: route \"second\" is durable, and a process that was started without a state directory";
    files.check(TEXT, &durable, false, &[line]);
    files.check(&(TEXT.to_owned() + STATE + "deliveries = \"memory\"\n"), &durable, false, &[line]);
    files.check(&(TEXT.to_owned() + STATE), &durable, false, &[]);
    files.check(&durable, TEXT, false, &[]);
}

#[test]
fn a_rule_that_remembers_longer_than_the_hosts_needs_one() {
    let files = Files::new();
    let fleet = |keep: &str| TEXT.to_owned() + FLEET + keep;
    let longer = fleet("keep_s = 800\n").replace("window_s = 600", "window_s = 800");
    let line = "!26: needs a restart: a replay rule has window_s = 800, and the hosts were started with keep_s = 700";
    files.check(&fleet("keep_s = 700\n"), &longer, false, &[line]);
    files.check(&fleet("keep_s = 800\n"), &longer, false, &[]);
    files.check(TEXT, &longer, false, &[]);
}

#[test]
fn what_is_fixed_while_the_filter_runs_needs_one() {
    let files = Files::new();
    let filter = |lines: &str| TEXT.to_owned() + FILTER + lines;
    let on = filter("");
    files.check(TEXT, &on, false, &["26: needs a restart: a reload does not start the filter"]);
    files.check(&on, TEXT, false, &[]);
    files.check(&on, &on.replace("eth0", "eth1").replace("monitor", "off"), false, &[]);
    files.check(
        &on,
        &on.replace("monitor", "enforce").replace("preset", "source_ranges = [\"192.0.2.0/24\"]\npreset"),
        false,
        &[],
    );
    for (lines, what) in [
        ("attach = \"generic\"\n", "attach"),
        ("pin = true\n", "pin"),
        ("max_ranges_ipv4 = 77777\n", "limits"),
        (RATE, "the presence of SYN limits"),
    ] {
        let line = format!("!26: needs a restart: `{what}` cannot change while the filter is attached");
        files.check(&on, &filter(lines), false, &[&line]);
    }
    files.check(&on, &on.replace("eth0", "eth1"), false, &["!26: needs a restart: `interfaces` cannot change"]);
    files.check(&filter(RATE), &filter(&RATE.replace('7', "8")), false, &[]);
    files.check(&filter(RATE), &on, false, &[]);
}

/// Those that the list of changes marks.
#[test]
fn settings_that_a_reload_keeps_are_no_obstacle() {
    let files = Files::new();
    let more = "[metrics]\nlisten = \"127.0.0.1:19464\"\n[log]\nformat = \"text\"\n";
    let other = TEXT.replace("18443", "18444") + more + STATE + FLEET;
    files.check(TEXT, &other, true, &[]);
    let lines: Vec<String> =
        crate::config::inventory::difference(&files.config(TEXT).inventory, &files.config(&other).inventory)
            .iter()
            .map(ToString::to_string)
            .collect();
    assert!(lines.len() == 5 && lines.iter().all(|line| line.ends_with(" (needs a restart)")), "{lines:#?}");
}
