//! Every handler of docs/handlers.md gets a webhook from the real daemon, with the configuration of that page, over a socket that it is passed as by
//! systemd.
//!
//! Handlers in Go and Node are skipped, with a line that says so, if the machine lacks these; those in Python and Rust are not.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use hookgate_testkit::configuration::{HOST, IO, LISTEN_PORT, METRICS_PORT};
use hookgate_testkit::gateway::{Gateway, GatewayOptions};
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

/// Runs the handler, and sends it a webhook of GitHub through the daemon.
fn check(files: &Files, command: &[String]) {
    let socket = files.path("orders.sock");
    drop(fs::remove_file(&socket));
    let listener = UnixListener::bind(&socket).unwrap();
    let mut handler = Command::new("sh");
    handler
        .args(["-c", PASS])
        .args(command)
        .stdin(OwnedFd::from(listener))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut handler = KilledOnDrop(handler.spawn().unwrap());
    let output = Capture::start(handler.0.stdout.take().unwrap());
    let errors = Capture::start(handler.0.stderr.take().unwrap());
    let text = |capture: &Capture| capture.inspect(|bytes| String::from_utf8_lossy(bytes).into_owned());

    let gateway = Gateway::start(&configuration(files), &GatewayOptions::new(BINARY)).unwrap();
    // Two, on one connection: a handler that closes or keeps it is right, one that counts the body wrongly is not.
    let mut send = Command::new(BINARY);
    send.args(["send", &format!("https://{HOST}/orders"), "--as", "github", "--count", "2", "--keep-alive"]);
    send.arg("--connect").arg(gateway.address().to_string()).arg("--root").arg(files.pki.server_root().path());
    send.arg("--secret-file").arg(files.path("github.secret"));
    let sent = run(send, b"", START_LIMIT).unwrap();
    let said = || format!("{}{}\n{}\n{}", sent.stdout_text(), sent.stderr_text(), text(&output), text(&errors));
    assert!(sent.success() && sent.stdout_text().contains("202"), "{command:?}: {}", said());
    let printed =
        || text(&output).lines().filter(|line| line.starts_with("github ") && line.ends_with(" bytes")).count();
    wait_until("the lines of the handler", START_LIMIT, || printed() == 2)
        .unwrap_or_else(|error| panic!("{error}: {}", said()));
}

/// The configuration of the page, with ports and socket of the test.
fn configuration(files: &Files) -> String {
    let block = blocks(PAGE, "toml").into_iter().next().unwrap();
    let path = |name: &str| format!("\"{}\"", files.path(name).display());
    let listen = format!("[\"127.0.0.1:{LISTEN_PORT}\"]\nio = \"{IO}\"\nworkers = 1");
    let mut text = block.replace("[\"0.0.0.0:443\"]", &listen);
    for name in ["fullchain.pem", "privkey.pem", "github.secret"] {
        text = text.replace(&format!("\"{name}\""), &path(name));
    }
    let socket = format!("\"unix:{}\"", files.path("orders.sock").display());
    text = text.replace("\"unix:/run/hookgate-handlers/orders.sock\"", &socket);
    assert!(text.contains(&socket) && text.contains(&listen), "{text}");
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

/// What the handler tells of the scheme and the address of a request, in front of the handler of the page.
fn told(files: &Files, module: &str, wrapper: &str, command: &mut [String]) -> String {
    fs::write(files.path("told.py"), wrapper).unwrap();
    let application = command.iter_mut().find(|argument| argument.starts_with(module)).unwrap();
    "told:application".clone_into(application);
    check(files, command);
    fs::read_to_string(files.path("told.txt")).unwrap()
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
    let wrapper = TELL_WSGI.replace("@FILE@", &files.path("told.txt").display().to_string());
    let command = exec_start(&files, "gunicorn");
    for extra in [None, Some("--forwarded-allow-ips=192.0.2.1")] {
        let mut command = command.clone();
        command.splice(1..1, extra.map(str::to_owned));
        let said = told(&files, "orders_wsgi", &wrapper, &mut command);
        assert_eq!(said.trim(), "https '' 127.0.0.1", "{extra:?}");
    }
}

#[test]
fn uvicorn_believes_the_scheme_and_the_address_if_it_is_told_to() {
    let files = Files::new();
    extract(&files, "python", "orders_asgi.py");
    let wrapper = TELL_ASGI.replace("@FILE@", &files.path("told.txt").display().to_string());
    let mut command = exec_start(&files, "uvicorn");
    assert_eq!(told(&files, "orders_asgi", &wrapper, &mut command.clone()).trim(), "https 127.0.0.1");
    let at = command.iter().position(|argument| argument == "--forwarded-allow-ips").unwrap();
    command.drain(at..=at + 1);
    assert_eq!(told(&files, "orders_asgi", &wrapper, &mut command).trim(), "http None");
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
