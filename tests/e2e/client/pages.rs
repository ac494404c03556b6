//! The commands of docs/probe.md and docs/send.md, run as they stand there.

use std::fs;
use std::path::Path;

use hookgate_testkit::gateway::{Gateway, GatewayOptions};
use hookgate_testkit::handler::{Behaviour, Handler};
use tempfile::TempDir;

use super::server_chain::{Leaf, Presented, ServerChain};
use super::{code, hookgate};
use crate::environment::BINARY;

fn page(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(name)).unwrap()
}

/// The commands of a page, in its order.
fn commands(page: &str) -> Vec<String> {
    let commands = page.lines().filter_map(|line| line.strip_prefix("    hookgate "));
    commands.map(str::to_owned).collect()
}

/// The receiver of docs/send.md, with the files that its configuration names.
struct Receiver {
    gateway: Gateway,
    _handler: Handler,
    directory: TempDir,
}

impl Receiver {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(code(&hookgate(directory.path(), &["send", "--as", "pagerduty"])), 0);
        ServerChain::new(directory.path(), Leaf::Good, Presented::Whole).unwrap();
        fs::write(directory.path().join("pagerduty.secret"), "a-secret-of-pagerduty").unwrap();
        let handler = Handler::start(&directory.path().join("hook.sock"), Behaviour::Json).unwrap();
        let page = page("send.md");
        let toml = page.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
        // Paths are relative to the file, which the test's daemon has elsewhere.
        let mut toml = toml.replace("127.0.0.1:8443\"]", "127.0.0.1:@LISTEN_PORT@\"]\nio = \"@IO@\"");
        for file in ["receiver.pem", "receiver.key", "hookgate-throwaway/", "pagerduty.secret", "/run/app/hook.sock"] {
            let name = file.rsplit_once("app/").map_or(file, |(_, name)| name);
            toml = toml.replace(file, &format!("{}/{name}", directory.path().display()));
        }
        toml += "\n[metrics]\nlisten = \"127.0.0.1:@METRICS_PORT@\"\n";
        let gateway = Gateway::start(&toml, &GatewayOptions::new(BINARY)).unwrap();
        Self { gateway, _handler: handler, directory }
    }

    /// Runs a command of a page, with the port of this receiver. Without `--connect` the name would have to resolve.
    fn run(&self, command: &str) -> i32 {
        let port = self.gateway.port().to_string();
        let mut words: Vec<String> = command.split_whitespace().map(|word| word.replace("8443", &port)).collect();
        if command.contains("https://") && !command.contains("--connect") {
            words.extend(["--connect".into(), format!("127.0.0.1:{port}")]);
        }
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let finished = hookgate(self.directory.path(), &words);
        assert!(!finished.stdout.is_empty(), "{command}: {}", finished.stderr_text());
        code(&finished)
    }
}

#[test]
fn the_commands_of_the_page_about_send_succeed() {
    let receiver = Receiver::new();
    let commands = commands(&page("send.md"));
    assert_eq!(commands.len(), 6, "{commands:?}");
    for command in commands {
        assert_eq!(receiver.run(&command), 0, "{command}");
    }
}

/// The receiver has a certificate of its own authority, which is a fault without `--root`; and it trusts a throwaway authority, which is
/// none of PagerDuty's.
#[test]
fn the_commands_of_the_page_about_probe_say_what_is_wrong() {
    let receiver = Receiver::new();
    let commands = commands(&page("probe.md"));
    assert_eq!(commands.len(), 5, "{commands:?}");
    for command in commands {
        // With a certificate that the receiver takes, nothing is wrong: only the probe's request has no signature.
        let expected = match () {
            () if command.contains("--client-cert") => 0,
            () if command.contains("--root") => 1,
            () => 2,
        };
        assert_eq!(receiver.run(&command), expected, "{command}");
    }
}
