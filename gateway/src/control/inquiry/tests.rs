//! The control socket, with clients that ask and clients that do not.

#![expect(clippy::unwrap_used, reason = "a failed set-up fails the test")]

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream as Client;

use hookgate_core::identity::SharedChain;
use hookgate_core::reject::{Refusal, Reject};
use rustls_pki_types::{CertificateDer, UnixTime};

use super::*;
use crate::recent::{Note, What};

fn recent() -> Arc<Recent> {
    let recent = Recent::default();
    let peer = "192.0.2.1:4711".parse().unwrap();
    recent.note(Reject::UnknownIssuer, std::net::IpAddr::from([192, 0, 2, 1]), || {
        let refusal = Refusal::new(Reject::UnknownIssuer, "Why.");
        let note = Note::new(What::Request, &refusal, UnixTime::since_unix_epoch(Duration::from_secs(7)), peer);
        let chain = Some(SharedChain::new(&[CertificateDer::from(vec![0x30, 0])]));
        Note { chain, ..note.of_request(Some("abc"), "POST", Some("/a")) }
    });
    Arc::new(recent)
}

fn ask(path: &Path, question: &str) -> Vec<Record> {
    let mut client = Client::connect(path).unwrap();
    client.write_all(question.as_bytes()).unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).unwrap();
    serde_json::from_slice(&answer).unwrap()
}

#[test]
fn a_question_has_an_answer_and_a_silent_client_keeps_nobody_waiting_for_long() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(NAME);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        drop(Inquiry::bind(directory.path(), recent(), Stored::default()).unwrap());
        // In place of the socket that is left.
        let inquiry = Inquiry::bind(directory.path(), recent(), Stored::default()).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        tokio::spawn(inquiry.serve());
        let asked = tokio::task::spawn_blocking(move || {
            // As many as are served at once but for one, and none of them keeps this one waiting.
            let _silent: Vec<Client> = (1..AT_ONCE).map(|_| Client::connect(&path).unwrap()).collect();
            let begun = std::time::Instant::now();
            let all = ask(&path, "recent\n");
            assert!(begun.elapsed() < LIMIT / 2, "{:?}", begun.elapsed());
            // One more, and it is answered when one of them is given up.
            let _last = Client::connect(&path).unwrap();
            (all, ask(&path, "refused ABC\n"), ask(&path, "refused abd\n"), ask(&path, &"x".repeat(QUESTION_BYTES)))
        });
        let (all, found, other, nonsense) = asked.await.unwrap();
        assert_eq!(all.len(), 1);
        assert_eq!((&*all[0].reason, &*all[0].what, all[0].certificates.len()), ("unknown_issuer", "request", 0));
        assert_eq!(found[0].chain(), [CertificateDer::from(vec![0x30, 0])]);
        assert_eq!(Record { certificates: Vec::new(), ..found[0].clone() }, all[0]);
        assert!(other.is_empty() && nonsense.is_empty());
    });
}

/// A daemon that accepts, and says nothing.
#[test]
fn a_daemon_that_does_not_answer_in_time_is_called_busy() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("broken.toml");
    fs::write(&file, format!("[state]\ndirectory = \"{}\"\n[listen]\nports = 1\n", directory.path().display()))
        .unwrap();
    let socket = ControlSocket::of_erroneous(&file);
    let ask = || socket.ask("recent", 10, Duration::from_secs(1)).unwrap_err();
    assert!(format!("{:#}", ask()).starts_with("no daemon answers at "), "{:#}", ask());
    let _silent = StdListener::bind(directory.path().join(NAME)).unwrap();
    let error = format!("{:#}", ask());
    assert!(error.contains("control.sock is busy: it gave no answer within 1 s; try again"), "{error}");
}
