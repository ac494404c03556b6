//! Events as the journal and standard error get them.

#![expect(clippy::unwrap_used, reason = "a failed set-up fails the test")]

use std::sync::{Arc, Mutex};

use tracing_subscriber::Registry;

use super::event::{MAXIMUM_FIELD_BYTES, MAXIMUM_LIBRARY_BYTES, journal_name};
use super::*;

/// A writer that keeps what it is given, one string per call.
#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<String>>>);

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().push(String::from_utf8(bytes.to_vec()).unwrap());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What `layer` writes when `log` logs one event.
fn written<L: Layer<Registry> + Send + Sync>(layer: impl FnOnce(NonBlocking) -> L, log: impl FnOnce()) -> String {
    let written = Written::default();
    let (queue, guard) = NonBlockingBuilder::default().finish(written.clone());
    tracing::subscriber::with_default(tracing_subscriber::registry().with(layer(queue)), log);
    drop(guard); // writes what is in the queue
    let mut events = written.0.lock().unwrap();
    assert_eq!(events.len(), 1);
    events.remove(0)
}

/// The fields of the entry that `log` makes.
fn entry(log: impl FnOnce()) -> Vec<(String, String)> {
    let field = |field: &str| field.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned())).unwrap();
    written(|queue| JournalLayer { queue }, log).split(SEPARATOR).map(field).collect()
}

/// The line that `log` makes, without the time and the level.
fn line(log: impl FnOnce()) -> String {
    let line = written(text_layer, log);
    let (time, line) = line.strip_suffix('\n').unwrap().split_once("  INFO ").unwrap();
    assert!(time.ends_with('Z'), "{time}");
    line.to_owned()
}

#[test]
fn the_message_comes_first_and_is_not_quoted() {
    let server_name: Option<&str> = None;
    let line = line(|| {
        tracing::info!(reason = "no_route", status = 404, peer = %"192.0.2.1:9", server_name, resumed = true, "a \"b\"\u{1b}[31m");
    });
    assert_eq!(line, "a \"b\"\\u{1b}[31m reason=no_route status=404 peer=192.0.2.1:9 resumed=true");
}

#[test]
fn a_value_is_quoted_unless_it_is_a_bare_word() {
    let check = |value: &str, expected: &str| {
        let expected = format!("event value={expected} next=1");
        assert_eq!(line(|| tracing::info!(value, next = 1, "event")), expected);
        assert_eq!(line(|| tracing::info!(%value, next = 1, "event")), expected, "by Display");
    };
    for bare in ["no_route", "[2001:db8::1]:443", "/etc/hookgate/server.pem", "0.1.0", "100%", "Zürich", "it's", "-"] {
        check(bare, bare);
    }
    check("", "\"\"");
    check("two words", "\"two words\"");
    check(" ", "\" \"");
    check("CN=a", "\"CN=a\"");
    check("subject \"CN=a\"", r#""subject \"CN=a\"""#);
    check("\"", r#""\"""#);
    check(r"a\b", r#""a\\b""#);
    check("a\nINFO b", r#""a\nINFO b""#);
    check("a\t\r\0b", r#""a\t\r\0b""#);
    check("\u{1b}[31m", r#""\u{1b}[31m""#);
    check("a\u{9b}b", r#""a\u{9b}b""#);
    check("no\u{a0}break", r#""no\u{a0}break""#);
    check("\u{202e}right to left", r#""\u{202e}right to left""#);
    check("1 → 2", "\"1 → 2\"");
}

#[test]
fn what_is_shown_by_debug_is_quoted_too() {
    let error = io::Error::other("a b");
    let line = line(|| tracing::info!(?error, list = ?[1], "event"));
    assert_eq!(line, r#"event error="Custom { kind: Other, error: \"a b\" }" list=[1]"#);
}

#[test]
fn every_field_of_an_event_is_a_field_of_its_entry() {
    let server_name: Option<&str> = None;
    let fields = entry(|| {
        tracing::warn!(reason = "no_route", status = 404, peer = %"192.0.2.1:9", server_name, detail = %"a\nb", "request refused");
    });
    let expected = [
        ("MESSAGE", "request refused reason=no_route status=404 peer=192.0.2.1:9 detail=\"a\\nb\""),
        ("PRIORITY", "4"),
        ("SYSLOG_IDENTIFIER", "hookgate"),
        ("HOOKGATE_EVENT", "request refused"),
        ("HOOKGATE_REASON", "no_route"),
        ("HOOKGATE_STATUS", "404"),
        ("HOOKGATE_PEER", "192.0.2.1:9"),
        ("HOOKGATE_DETAIL", "a\nb"),
    ];
    assert_eq!(fields, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
}

#[test]
fn a_value_ends_no_field_and_stays_within_its_bound() {
    let fields = entry(|| tracing::info!(peer = "a\0PRIORITY=0", long = "ä".repeat(MAXIMUM_FIELD_BYTES), "m"));
    let value = |name: &str| fields.iter().find(|(found, _)| found == name).unwrap().1.clone();
    assert_eq!(value("HOOKGATE_PEER"), "a\u{fffd}PRIORITY=0");
    assert_eq!(value("HOOKGATE_LONG").len(), MAXIMUM_FIELD_BYTES);
    assert_eq!(fields.iter().filter(|(name, _)| name == "PRIORITY").count(), 1);
}

#[test]
fn names_are_ones_that_the_journal_takes() {
    let check = |name: &str, expected: &str| assert_eq!(journal_name(name), expected);
    check("request_id", "HOOKGATE_REQUEST_ID");
    check("next_s", "HOOKGATE_NEXT_S");
    check("log.target", "HOOKGATE_LOG_TARGET");
    assert_eq!(journal_name(&"x".repeat(99)).len(), 64);
}

#[test]
fn the_message_of_a_library_is_bounded() {
    let name = "a".repeat(64 * 1024);
    let expected = format!("Illegal SNI hostname received {name}")[..MAXIMUM_LIBRARY_BYTES].to_owned();
    // As `tracing-log` passes on what a library says.
    let log = || tracing::info!(target: "log", { log.target = "rustls::msgs" }, "Illegal SNI hostname received {name}");
    assert_eq!(line(log), expected);
    let fields = entry(log);
    let value = |name: &str| fields.iter().find(|(found, _)| found == name).unwrap().1.clone();
    assert_eq!([value("MESSAGE"), value("HOOKGATE_EVENT")], [expected.clone(), expected]);
}

#[test]
fn suppressed_events_are_reported_once_per_second() {
    let written = Written::default();
    let (queue, guard) = NonBlockingBuilder::default().finish(written.clone());
    let limiter = Limiter::new();
    let counter = queue.error_counter();
    let mut losses =
        Losses { counter, limiter: Arc::clone(&limiter), lost: 0, suppressed: [0; Class::ALL.len()], reported: None };
    let began = Instant::now();
    let at = |ms| began + Duration::from_millis(ms);
    tracing::subscriber::with_default(
        tracing_subscriber::registry().with(limiter.layer()).with(text_layer(queue)),
        || {
            let flood = |count| (0..count).for_each(|_| tracing::warn!(cause = "stranger", "handshake refused"));
            losses.attend(at(0));
            flood(5000);
            losses.attend(at(250));
            flood(5000);
            losses.attend(at(500));
            losses.attend(at(1249));
            losses.attend(at(1250));
            losses.attend(at(9000));
        },
    );
    drop(guard); // writes what is in the queue
    let events = written.0.lock().unwrap();
    let reports: Vec<_> = events.iter().filter(|event| event.contains("log events suppressed")).collect();
    assert_eq!(reports.len(), 2, "{reports:?}");
    assert!(reports.iter().all(|report| report.contains("WARN") && report.contains(" stranger=")), "{reports:?}");
    assert!(!reports[0].contains("sender="), "{reports:?}");
}
