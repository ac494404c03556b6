//! Start-up: what makes it fail, reported at once and completely, and start-up without io_uring.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use hookgate_testkit::configuration::{HOST, IO, LISTEN_PORT, METRICS_PORT};
use hookgate_testkit::gateway::{Gateway, GatewayOptions};
use hookgate_testkit::pki::{Sender, Variant};
use hookgate_testkit::process::{Finished, run};

use crate::environment::{BINARY, Environment, PATH, SOON};

/// Starts the daemon with this configuration, and expects that it ends.
fn fails(environment: &Environment, text: &str) -> Finished {
    let file = environment.write("failing.toml", text).unwrap();
    let mut command = Command::new(BINARY);
    command.args(["run", "--config"]).arg(file).env("NO_COLOR", "1");
    let finished = run(command, &[], SOON).unwrap();
    assert!(!finished.timed_out, "the daemon runs: {}", finished.stderr_text());
    finished
}

#[test]
fn a_bad_configuration_fails_the_start_with_every_error() {
    let environment = Environment::new().unwrap();
    let text = environment.toml("max_connections = 0", "unknown = 1").replace("percolate\"]", "percolat\"]");
    let finished = fails(&environment, &text);
    assert_eq!(finished.status.unwrap().code(), Some(1));
    let stderr = finished.stderr_text();
    for wrong in ["max_connections = 0", "unknown = 1", "providers = [\"percolat\"]"] {
        let line = text.lines().position(|line| line.starts_with(wrong)).unwrap() + 1;
        assert!(stderr.contains(&format!("failing.toml:{line}")), "{wrong} in line {line}: {stderr}");
    }
    assert!(stderr.contains("did you mean \"percolate\"?"), "{stderr}");
}

#[test]
fn a_missing_configuration_fails_the_start() {
    let finished = {
        let mut command = Command::new(BINARY);
        command.args(["run", "--config", "/nonexistent/hookgate.toml"]);
        run(command, &[], SOON).unwrap()
    };
    assert_eq!(finished.status.unwrap().code(), Some(1));
    assert!(finished.stderr_text().contains("/nonexistent/hookgate.toml"), "{}", finished.stderr_text());
}

#[test]
fn a_port_in_use_fails_the_start() {
    let environment = Environment::new().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let taken = taken.local_addr().unwrap().port().to_string();
    let check = |listen: &str, metrics: &str, key: &str| {
        let text = environment.toml("", "").replace(LISTEN_PORT, listen).replace(METRICS_PORT, metrics);
        let finished = fails(&environment, &text.replace(IO, "epoll"));
        assert_eq!(finished.status.unwrap().code(), Some(1));
        let stderr = finished.stderr_text();
        assert!(stderr.contains(&format!("127.0.0.1:{taken}")) && stderr.contains(key), "{stderr}");
        assert!(stderr.to_lowercase().contains("in use") && !stderr.contains(" ready "), "{stderr}");
    };
    check(&taken, &free, "listen.addresses");
    check(&free, &taken, "metrics.listen");
}

/// Starts the daemon under a seccomp filter that fails io_uring_setup(2) with `errno`, as container engines do. Perl is in every
/// Debian base system and can make system calls: prctl(2), PR_SET_NO_NEW_PRIVS and PR_SET_SECCOMP.
fn without_io_uring(environment: &Environment, errno: u32, io: &str) -> GatewayOptions {
    let prctl = if cfg!(target_arch = "x86_64") { 157 } else { 167 };
    let script = format!(
        "#!/usr/bin/perl\n\
         my $filter = pack('SCCL' x 4, 0x20, 0, 0, 0, 0x15, 0, 1, 425, 6, 0, 0, {}, 6, 0, 0, 0x7fff0000);\n\
         my $program = pack('S x![P] P', 4, $filter);\n\
         die 'no_new_privs' if syscall({prctl}, 38, 1, 0, 0, 0) != 0;\n\
         die 'seccomp' if syscall({prctl}, 22, 2, $program, 0, 0) != 0;\n\
         exec '{BINARY}', @ARGV;\n",
        0x0005_0000 | errno
    );
    let mut options = GatewayOptions::new(environment.write("without-io-uring", script).unwrap());
    fs::set_permissions(&options.binary, fs::Permissions::from_mode(0o700)).unwrap();
    options.io = io.to_owned();
    options
}

/// The evidence that `refusal = "retry"` collects is among it.
#[test]
fn without_a_state_directory_one_line_says_what_a_restart_forgets() {
    let environment = Environment::new().unwrap();
    let text = environment.toml("", "");
    for (refusal, count) in [("retry", 1), ("deny", 0)] {
        let text = text.replace("preset = \"pagerduty\"", &format!("preset = \"pagerduty\"\nrefusal = \"{refusal}\""));
        let gateway = Gateway::start(&text, &GatewayOptions::new(BINARY)).unwrap();
        let log = gateway.log();
        let lines: Vec<&str> = log.lines().filter(|line| line.contains("there is no state directory")).collect();
        assert!(lines.len() <= 1, "{log}");
        let told = lines.iter().filter(|line| line.contains("the refused chains with evidence (refusal = 'retry')"));
        assert_eq!(told.count(), count, "{refusal}: {log}");
    }
}

#[test]
fn without_io_uring_auto_falls_back_to_epoll_with_one_warning() {
    let environment = Environment::new().unwrap();
    // EPERM, as from kernel.io_uring_disabled and Docker's profile, and ENOSYS, as from others.
    for errno in [1, 38] {
        let options = without_io_uring(&environment, errno, "auto");
        let gateway = Gateway::start(&environment.toml("", ""), &options).unwrap();
        let warnings = gateway.log().lines().filter(|line| line.contains("WARN") && line.contains("io_uring")).count();
        assert_eq!(warnings, 1, "{}", gateway.log());
        assert!(gateway.log().contains("seccomp"), "{}", gateway.log());
        assert_eq!(gateway.metric("hookgate_io_fallback", &[]).unwrap(), 1.0);
        assert_eq!(gateway.metric("hookgate_io_backend_info", &[("backend", "epoll")]).unwrap(), 1.0);
        let identity = environment.identity(Sender::Percolate, Variant::Good).unwrap();
        let outcome = gateway.curl(HOST, &environment.pki).identity(&identity).post(PATH, b"{}").run().unwrap();
        assert_eq!(outcome.status(), Some(200), "{outcome:?}");
    }
}

#[test]
fn without_io_uring_a_configuration_that_demands_it_fails_the_start() {
    let environment = Environment::new().unwrap();
    for io in ["io_uring", "io_uring_direct"] {
        let options = without_io_uring(&environment, 1, io);
        let error = Gateway::start(&environment.toml("", ""), &options).unwrap_err();
        let text = format!("{error:#}");
        assert!(text.contains("exit status: 1"), "{text}");
        assert!(
            text.contains(&format!("listen.io is \\\"{io}\\\"")) && text.contains("io_uring_setup(2) failed"),
            "{text}"
        );
    }
}

#[test]
fn the_configured_backend_is_in_use() {
    let environment = Environment::new().unwrap();
    for io in ["io_uring", "io_uring_direct", "epoll"] {
        let options = GatewayOptions { io: io.to_owned(), ..GatewayOptions::new(BINARY) };
        let gateway = Gateway::start(&environment.toml("", ""), &options).unwrap();
        assert_eq!(gateway.metric("hookgate_io_backend_info", &[("backend", io)]).unwrap(), 1.0);
        assert_eq!(gateway.metric("hookgate_io_fallback", &[]).unwrap(), 0.0);
    }
}
