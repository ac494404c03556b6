//! The handler, tested with curl.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::process::Command;

use super::*;
use crate::process;

/// curl's exit code and what it prints: body, then status.
fn curl(handler: &Handler, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new("curl");
    command.args(["--silent", "--max-time", "1", "--write-out", " %{http_code}", "--unix-socket"]).arg(handler.path());
    command.args(arguments);
    let finished = process::run(command, &[], Duration::from_secs(5)).unwrap();
    (finished.status.and_then(|status| status.code()), finished.stdout_text())
}

#[test]
fn every_behaviour_is_what_curl_sees() {
    fn check(behaviour: Behaviour, exit_code: i32, printed: &str) {
        let directory = tempfile::tempdir().unwrap();
        let what = format!("{behaviour:?}");
        let handler = Handler::start(&directory.path().join("handler.sock"), behaviour).unwrap();
        let seen = curl(&handler, &["http://handler/hook"]);
        assert_eq!(seen, (Some(exit_code), printed.to_owned()), "{what}");
        assert_eq!(handler.request_count(), 1, "{what}");
    }
    check(Behaviour::status(202, "taken"), 0, "taken 202");
    check(Behaviour::Delay(Duration::from_millis(20), Behaviour::status(200, "late").boxed()), 0, "late 200");
    let pieces = vec![b"one".to_vec(), b"two".to_vec()];
    check(Behaviour::Chunked { pieces, pause: Duration::from_millis(5) }, 0, "onetwo 200");
    check(Behaviour::status(204, ""), 0, " 204");
    check(Behaviour::Huge(3), 0, "xxx 200");
    check(Behaviour::raw("HTTP/1.1 202 Yes\r\nContent-Length: 3\r\n\r\nraw"), 0, "raw 202");
    check(Behaviour::Informational(Behaviour::status(200, "ok").boxed()), 0, "ok 200");
    check(Behaviour::ThenClose(Behaviour::status(200, "ok").boxed()), 0, "ok 200");
    check(Behaviour::sequence([Behaviour::status(500, "a"), Behaviour::status(200, "b")]), 0, "a 500");
    // curl(1), EXIT CODES: 18 partial file, 28 timed out, 52 empty reply, 56 receive failure, 1 not HTTP.
    check(Behaviour::BreakOff { declared: 9, sent: 2 }, 18, "xx 200");
    check(Behaviour::BreakOffChunked, 18, "hello 200");
    check(Behaviour::CloseBeforeAnswering, 52, " 000");
    check(Behaviour::Malformed, 1, " 000");
    check(Behaviour::NeverAnswer, 28, " 000");
}

#[test]
fn requests_are_recorded_in_full_and_connections_counted() {
    let directory = tempfile::tempdir().unwrap();
    let handler = Handler::start(&directory.path().join("handler.sock"), Behaviour::Json).unwrap();
    curl(&handler, &["-H", "X-One: 1", "-H", "x-one: 2", "-d", "body", "http://h/a?b", "http://h/c"]);
    curl(&handler, &["-H", "Transfer-Encoding: chunked", "-d", "chunked body", "http://h/d"]);
    curl(&handler, &["--head", "http://h/e"]);
    let requests = handler.wait_for(4, Duration::from_secs(1)).unwrap();
    let seen: Vec<_> =
        requests.iter().map(|one| (one.method.as_str(), one.target.as_str(), one.text(), one.connection)).collect();
    let expected = [
        ("POST", "/a?b", "body", 1),
        ("POST", "/c", "body", 1),
        ("POST", "/d", "chunked body", 2),
        ("HEAD", "/e", "", 3),
    ];
    assert_eq!(seen, expected.map(|(method, target, body, connection)| (method, target, body.to_owned(), connection)));
    assert_eq!(requests[0].fields.all("X-ONE").collect::<Vec<_>>(), ["1", "2"]);
    assert_eq!(handler.connection_count(), 3);
    handler.wait_for(5, Duration::from_millis(10)).unwrap_err();
}

#[test]
fn a_dropped_handler_leaves_no_socket_and_no_open_connection() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("handler.sock");
    let handler = Handler::start(&path, Behaviour::NeverAnswer).unwrap();
    let mut idle = UnixStream::connect(&path).unwrap();
    idle.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    handler.wait_for(1, Duration::from_secs(1)).unwrap();
    drop(handler);
    assert!(!path.exists());
    assert!(Request::read(&mut BufReader::new(idle), 0).unwrap().is_none());
}
