//! Every handler of docs/handlers.md gets a webhook from the real daemon, with the configuration of that page, over a socket that it is passed as by
//! systemd.
//!
//! Handlers in Go and Node are skipped, with a line that says so, if the machine lacks these; those in Python and Rust are not.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use hookgate_testkit::configuration::{HOST, IO, LISTEN_PORT, METRICS_PORT};
use hookgate_testkit::gateway::{Gateway, GatewayOptions, free_port};
use hookgate_testkit::process::{Capture, KilledOnDrop, run};
use hookgate_testkit::wait::wait_until;

use crate::BINARY;
use crate::page::{Files, blocks};

const PAGE: &str = "docs/handlers.md";

/// For a program to start, on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(30);

/// Moves standard input to descriptor 3, where sd_listen_fds(3) expects a socket, and becomes the handler.
const PASS: &str = "exec 3<&0 </dev/null; export LISTEN_FDS=1 LISTEN_PID=$$; exec \"$0\" \"$@\"";

/// Writes the block of the page that begins with a comment with this file name, and returns the block.
fn extract(files: &Files, language: &str, name: &str) -> String {
    let block = blocks(PAGE, language).into_iter().find(|block| block.lines().next().unwrap().ends_with(name));
    let block = block.unwrap_or_else(|| panic!("{PAGE} has no {name}"));
    fs::write(files.path(name), &block).unwrap();
    block
}

/// The arguments of the line `ExecStart=` of the page that has `part`, with the directory of the test in the place of the installed one.
fn exec_start(files: &Files, part: &str) -> Vec<String> {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(PAGE)).unwrap();
    let mut lines = text.lines().filter_map(|line| line.trim_start().strip_prefix("ExecStart="));
    let line = lines.rfind(|line| line.contains(part)).unwrap_or_else(|| panic!("no ExecStart= with {part}"));
    let line = line.replace("/usr/local/lib/orders", &files.directory.path().display().to_string());
    line.split(' ').map(str::to_owned).collect()
}

/// Where a handler listens.
#[derive(Clone, Copy)]
enum Place {
    /// At the socket of the page, which it is passed.
    Socket,
    /// At this port of 127.0.0.1, which it binds.
    Port(u16),
}

/// A handler, and the daemon with the configuration of the page before it.
struct Running<'f> {
    gateway: Gateway,
    files: &'f Files,
    output: Capture,
    errors: Capture,
    _handler: KilledOnDrop,
}

impl<'f> Running<'f> {
    fn start(files: &'f Files, command: &[String], place: Place) -> Self {
        let mut handler = match place {
            Place::Socket => {
                let socket = files.path("orders.sock");
                drop(fs::remove_file(&socket));
                let mut shell = Command::new("sh");
                shell.args(["-c", PASS]).args(command).stdin(OwnedFd::from(UnixListener::bind(&socket).unwrap()));
                shell
            }
            Place::Port(_) => {
                let mut program = Command::new(&command[0]);
                program.args(&command[1..]).stdin(Stdio::null());
                program
            }
        };
        let mut handler = KilledOnDrop(handler.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
        let output = Capture::start(handler.0.stdout.take().unwrap());
        let errors = Capture::start(handler.0.stderr.take().unwrap());
        if let Place::Port(port) = place {
            wait_until("the handler", START_LIMIT, || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok())
                .unwrap_or_else(|error| panic!("{error}: {}", said(&errors)));
        }
        let gateway = Gateway::start(&configuration(files, place), &GatewayOptions::new(BINARY)).unwrap();
        Self { gateway, files, output, errors, _handler: handler }
    }

    /// Sends so many webhooks of GitHub over one connection to this address of the daemon.
    fn send(&self, count: usize, address: IpAddr) {
        let Self { gateway, files, output, errors, .. } = self;
        let mut send = Command::new(BINARY);
        send.args(["send", &format!("https://{HOST}/orders"), "--as", "github", "--keep-alive"]);
        send.args(["--count", &count.to_string(), "--connect", &SocketAddr::new(address, gateway.port()).to_string()]);
        send.arg("--root").arg(files.pki.server_root().path()).arg("--secret-file").arg(files.path("github.secret"));
        let sent = run(send, b"", START_LIMIT).unwrap();
        let all = || format!("{}{}\n{}\n{}", sent.stdout_text(), sent.stderr_text(), said(output), said(errors));
        assert!(sent.success() && sent.stdout_text().contains("202"), "{}", all());
    }

    /// Waits until the handler has printed a line for each of so many webhooks.
    fn wait_lines(&self, count: usize) {
        let is_line = |line: &&str| line.starts_with("github ") && line.ends_with(" bytes");
        let printed = || said(&self.output).lines().filter(is_line).count();
        wait_until("the lines of the handler", START_LIMIT, || printed() == count)
            .unwrap_or_else(|error| panic!("{error}: {}\n{}", said(&self.output), said(&self.errors)));
    }
}

fn said(capture: &Capture) -> String {
    capture.inspect(|bytes| String::from_utf8_lossy(bytes).into_owned())
}

/// Runs the handler, and sends it webhooks of GitHub through the daemon.
fn check(files: &Files, command: &[String]) {
    let running = Running::start(files, command, Place::Socket);
    // Two, on one connection: a handler that closes or keeps it is right, one that counts the body wrongly is not.
    running.send(2, Ipv4Addr::LOCALHOST.into());
    running.wait_lines(2);
}

/// The configuration of the page, with ports and handler of the test.
fn configuration(files: &Files, place: Place) -> String {
    let block = blocks(PAGE, "toml").into_iter().next().unwrap();
    let path = |name: &str| format!("\"{}\"", files.path(name).display());
    let listen = format!("[\"127.0.0.1:{LISTEN_PORT}\", \"[::1]:{LISTEN_PORT}\"]\nio = \"{IO}\"\nworkers = 1");
    let mut text = block.replace("[\"0.0.0.0:443\"]", &listen);
    for name in ["fullchain.pem", "privkey.pem", "github.secret"] {
        text = text.replace(&format!("\"{name}\""), &path(name));
    }
    let handler = match place {
        Place::Socket => format!("\"unix:{}\"", files.path("orders.sock").display()),
        Place::Port(port) => format!("\"http://127.0.0.1:{port}\""),
    };
    text = text.replace("\"unix:/run/hookgate-handlers/orders.sock\"", &handler);
    assert!(text.contains(&handler) && text.contains(&listen), "{text}");
    format!("{text}\n[metrics]\nlisten = \"127.0.0.1:{METRICS_PORT}\"\n")
}

/// Whether the program is there. If not, says that the test is skipped.
fn has(program: &str) -> bool {
    let found = Command::new("sh").args(["-c", "command -v \"$0\"", program]).stdout(Stdio::null()).status().unwrap();
    if !found.success() {
        eprintln!("SKIPPED: {program} is not installed");
    }
    found.success()
}

#[test]
fn a_handler_of_the_standard_library_of_python_gets_webhooks() {
    let files = Files::new();
    extract(&files, "python", "orders.py");
    check(&files, &exec_start(&files, "python3"));
}

#[test]
fn a_handler_under_gunicorn_gets_webhooks() {
    let files = Files::new();
    extract(&files, "python", "orders_wsgi.py");
    let mut command = exec_start(&files, "gunicorn");
    check(&files, &command);
    // The worker that keeps connections, of which the page tells.
    command.splice(1..1, ["--worker-class".to_owned(), "gthread".to_owned()]);
    check(&files, &command);
}

#[test]
fn a_handler_under_uvicorn_gets_webhooks() {
    let files = Files::new();
    extract(&files, "python", "orders_asgi.py");
    check(&files, &exec_start(&files, "uvicorn"));
}

/// What the handler tells of the scheme and the address of a request of `::1`, in front of the handler of the page.
fn told(files: &Files, module: &str, wrapper: &str, command: &[String], place: Place) -> String {
    let wrapper = wrapper.replace("@FILE@", &files.path("told.txt").display().to_string());
    fs::write(files.path("told.py"), wrapper).unwrap();
    let mut command = command.to_owned();
    let application = command.iter_mut().find(|argument| argument.starts_with(module)).unwrap();
    "told:application".clone_into(application);
    let running = Running::start(files, &command, place);
    running.send(2, Ipv6Addr::LOCALHOST.into());
    running.wait_lines(2);
    fs::read_to_string(files.path("told.txt")).unwrap().trim().to_owned()
}

/// A line of its own file, since the page says nothing of it.
const TELL_WSGI: &str = "from orders_wsgi import application as inner
def application(environ, start_response):
    with open('@FILE@', 'w') as file:
        print(environ['wsgi.url_scheme'], repr(environ.get('REMOTE_ADDR')), environ['HTTP_X_FORWARDED_FOR'], file=file)
    return inner(environ, start_response)
";
const TELL_ASGI: &str = "from orders_asgi import application as inner
async def application(scope, receive, send):
    if scope['type'] == 'http':
        with open('@FILE@', 'w') as file:
            print(scope['scheme'], (scope.get('client') or [None])[0], file=file)
    await inner(scope, receive, send)
";

#[test]
fn gunicorn_believes_the_scheme_and_leaves_the_address_to_the_application() {
    let files = Files::new();
    extract(&files, "python", "orders_wsgi.py");
    let command = exec_start(&files, "gunicorn");
    let told = |options: &[&str], place: Place| {
        let mut command = command.clone();
        command.splice(1..1, options.iter().map(|option| (*option).to_owned()));
        told(&files, "orders_wsgi", TELL_WSGI, &command, place)
    };
    for options in [&[][..], &["--forwarded-allow-ips=192.0.2.1"]] {
        assert_eq!(told(options, Place::Socket), "https '' ::1", "{options:?}");
    }
    for (option, expected) in
        [(None, "https '127.0.0.1' ::1"), (Some("--forwarded-allow-ips=192.0.2.1"), "http '127.0.0.1' ::1")]
    {
        // The worker of a gunicorn that was killed keeps its port for a while.
        let port = free_port().unwrap();
        let bind = format!("--bind=127.0.0.1:{port}");
        let options: Vec<&str> = option.into_iter().chain([bind.as_str()]).collect();
        assert_eq!(told(&options, Place::Port(port)), expected);
    }
}

#[test]
fn uvicorn_believes_the_scheme_and_the_address_if_it_is_told_to() {
    let files = Files::new();
    extract(&files, "python", "orders_asgi.py");
    let believing = exec_start(&files, "uvicorn");
    // The command line with other words in the place of these two.
    let with = |command: &[String], option: &str, words: &[&str]| {
        let mut command = command.to_owned();
        let at = command.iter().position(|argument| argument == option).unwrap();
        command.splice(at..=at + 1, words.iter().map(|word| (*word).to_owned()));
        command
    };
    let told = |command: &[String], place: Place| told(&files, "orders_asgi", TELL_ASGI, command, place);
    let allow = "--forwarded-allow-ips";
    let by_default = with(&believing, allow, &[]);
    assert_eq!(told(&believing, Place::Socket), "https ::1");
    assert_eq!(told(&by_default, Place::Socket), "http None");
    let port = free_port().unwrap();
    let number = port.to_string();
    let bind = ["--host", "127.0.0.1", "--port", &number];
    assert_eq!(told(&with(&by_default, "--fd", &bind), Place::Port(port)), "https ::1");
    let others = with(&believing, allow, &[allow, "192.0.2.1"]);
    assert_eq!(told(&with(&others, "--fd", &bind), Place::Port(port)), "http 127.0.0.1");
}

/// Pauses below and above the time for which hookgate keeps an unused connection (1.5 s) and the 2 s of gunicorn, which uvicorn exceeds.
const PAUSES_MS: [u64; 4] = [1400, 1600, 1900, 2100];

/// Sends a webhook, and one after each of [`PAUSES_MS`]: none gets into a connection that its handler is about to close.
fn check_pauses(files: &Files, command: &[String]) {
    let running = Running::start(files, command, Place::Socket);
    let made = || running.gateway.metric("hookgate_handler_connections_total", &[]).unwrap();
    running.send(1, Ipv4Addr::LOCALHOST.into());
    for pause in PAUSES_MS {
        let before = made();
        sleep(Duration::from_millis(pause));
        running.send(1, Ipv4Addr::LOCALHOST.into());
        // Just above 1.5 s, it may still be there.
        assert!(pause < 1900 || made() > before, "a connection was used again after {pause} ms");
    }
    running.wait_lines(1 + PAUSES_MS.len());
}

#[test]
fn no_webhook_is_lost_to_a_connection_that_gunicorn_closes() {
    let files = Files::new();
    extract(&files, "python", "orders_wsgi.py");
    let mut command = exec_start(&files, "gunicorn");
    command.splice(1..1, ["--worker-class".to_owned(), "gthread".to_owned()]);
    check_pauses(&files, &command);
}

#[test]
fn no_webhook_is_lost_to_a_connection_that_uvicorn_closes() {
    let files = Files::new();
    extract(&files, "python", "orders_asgi.py");
    check_pauses(&files, &exec_start(&files, "uvicorn"));
}

#[test]
fn a_handler_in_node_gets_webhooks() {
    if has("node") {
        let files = Files::new();
        extract(&files, "javascript", "orders.mjs");
        let mut command = exec_start(&files, "orders.mjs");
        "node".clone_into(&mut command[0]);
        check(&files, &command);
    }
}

#[test]
fn a_handler_in_go_gets_webhooks() {
    if has("go") {
        let files = Files::new();
        extract(&files, "go", "orders.go");
        let mut build = Command::new("go");
        build.args(["build", "-o", "orders", "orders.go"]).current_dir(files.directory.path());
        build.env("GOCACHE", files.path("go-cache")).env("GOFLAGS", "-mod=mod");
        let built = run(build, b"", START_LIMIT * 4).unwrap();
        assert!(built.success(), "{}", built.stderr_text());
        check(&files, &[files.path("orders").display().to_string()]);
    }
}

#[test]
fn a_handler_in_rust_gets_webhooks() {
    let files = Files::new();
    extract(&files, "rust", "orders.rs");
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let mut build = Command::new(rustc);
    build.args(["-O", "--edition", "2024", "orders.rs"]).current_dir(files.directory.path());
    let built = run(build, b"", START_LIMIT).unwrap();
    assert!(built.success(), "{}", built.stderr_text());
    check(&files, &[files.path("orders").display().to_string()]);
}
