//! A handler process that is killed under load, while another one of the list lives: what the senders hear, and what the handlers got.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use hookgate_testkit::process::KilledOnDrop;
use hookgate_testkit::wait::wait_until;

use crate::environment::{Environment, PATH, SOON, handler_socket};
use crate::test_gateway::TestGateway;
use crate::tls_client::request;

/// Writes each body to a file before it answers: then it has begun to act on the request.
const HANDLER: &str = r#"
import os, socketserver, sys, time
from http.server import BaseHTTPRequestHandler

begun = os.open(sys.argv[2], os.O_WRONLY | os.O_APPEND | os.O_CREAT)

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        os.write(begun, body + b"\n")
        time.sleep(0.005)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def address_string(self):
        return "-"

    def log_message(self, *arguments):
        pass

class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    request_queue_size = 128

if os.path.exists(sys.argv[1]):
    os.unlink(sys.argv[1])
Server(sys.argv[1], Handler).serve_forever()
"#;

const SENDERS: usize = 10;
const DEATHS: usize = 3;
/// Of each sender, so that all of them send 200 requests a second or more.
const PAUSE: Duration = Duration::from_millis(25);

/// Starts a handler process.
fn start(socket: &Path, begun: &Path) -> KilledOnDrop {
    let arguments = [Path::new("-c"), Path::new(HANDLER), socket, begun];
    KilledOnDrop(Command::new("python3").args(arguments).spawn().unwrap())
}

fn lines(path: &Path) -> Vec<String> {
    fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect()
}

/// A request that the killed process had may be lost with it, and no other one is. None gets to a handler twice.
#[test]
fn a_handler_that_is_killed_under_load_loses_what_it_had_and_nothing_else() {
    let environment = Environment::new().unwrap();
    let [first, second] = ["first", "second"].map(|name| environment.path(&format!("{name}.sock")));
    let [first_begun, second_begun] = ["first", "second"].map(|name| environment.path(&format!("{name}.begun")));
    let list = format!("[\"unix:{}\", \"unix:{}\"]", first.display(), second.display());
    let toml = environment.toml("", "").replace(&handler_socket(&environment.events), &list);
    let gateway = TestGateway::in_environment(environment, |_| toml).unwrap();
    let mut process = start(&first, &first_begun);
    let _second = start(&second, &second_begun);
    wait_until("the handlers", SOON, || first.exists() && second.exists()).unwrap();
    let (over, began) = (AtomicBool::new(false), Instant::now());
    let answers: HashMap<String, u16> = scope(|scope| {
        let sender = |sender: usize| {
            let (gateway, over) = (&gateway, &over);
            scope.spawn(move || {
                let mut connection = gateway.connect().unwrap();
                let mut answers = Vec::new();
                while !over.load(Ordering::Relaxed) {
                    let body = format!("{sender}-{}", answers.len());
                    let answer = connection.ask(request("POST", PATH, body.as_bytes())).unwrap();
                    answers.push((body, answer.status));
                    sleep(PAUSE);
                }
                answers
            })
        };
        let senders: Vec<_> = (0..SENDERS).map(sender).collect();
        for _ in 0..DEATHS {
            let before = lines(&first_begun).len();
            let busy = wait_until("requests", SOON, || lines(&first_begun).len() > before + 20);
            drop(process);
            sleep(Duration::from_millis(200));
            process = start(&first, &first_begun);
            // So that the senders end, too.
            over.fetch_or(busy.is_err(), Ordering::Relaxed);
            busy.unwrap();
        }
        over.store(true, Ordering::Relaxed);
        senders.into_iter().flat_map(|sender| sender.join().unwrap()).collect()
    });
    let rate = answers.len() as f64 / began.elapsed().as_secs_f64();
    check(&answers, [&first_begun, &second_begun].map(|path: &PathBuf| lines(path)), rate);
}

fn check(answers: &HashMap<String, u16>, begun: [Vec<String>; 2], rate: f64) {
    let [first, second] = &begun;
    let times = |body: &String| first.iter().chain(second).filter(|seen| *seen == body).count();
    let lost: Vec<_> = answers.iter().filter(|(_, status)| **status != 200).map(|(body, _)| body).collect();
    let unbegun = lost.iter().filter(|body| times(body) == 0).count();
    println!(
        "{rate:.0} requests/s, {DEATHS} deaths: of {} requests, {} got 502, of which the handler had begun {}",
        answers.len(),
        lost.len(),
        lost.len() - unbegun
    );
    assert!(answers.values().all(|status| [200, 502].contains(status)), "{answers:?}");
    // Of each sender at most the one that was in flight. One that the handler had in its receive buffer and did not read is among them: the kernel
    // does not tell how much of it was read.
    assert!(lost.len() <= SENDERS * DEATHS, "{lost:?}");
    for (body, status) in answers {
        let expected = if *status == 200 { 1..=1 } else { 0..=1 };
        assert!(expected.contains(&times(body)), "{body} was begun {} times, and answered with {status}", times(body));
    }
}
