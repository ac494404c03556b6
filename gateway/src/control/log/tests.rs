//! Events as the journal and standard error get them.

#![expect(clippy::unwrap_used, reason = "a failed set-up fails the test")]

use std::io::Write;
use std::sync::{Arc, Mutex};

use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tracing_subscriber::layer::SubscriberExt as _;

use super::event::{MAXIMUM_LIBRARY_BYTES, MAXIMUM_VALUE_BYTES, SEPARATOR, push_journal_name};
use super::output::Output;
use super::queue::Batch;
use super::*;

/// Keeps every event that it is given.
#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<String>>>);

impl Output for Written {
    fn write(&mut self, batch: &Batch) {
        let text = |event: &[u8]| String::from_utf8(event.to_vec()).unwrap();
        self.0.lock().unwrap().extend(batch.pieces(0).map(|(_, event)| text(event)));
    }
}

/// What is written in this form when `log` logs, one string an event.
fn all_written(format: LogFormat, limiter: &Arc<Limiter>, log: impl FnOnce(&Queue)) -> Vec<String> {
    let written = Written::default();
    let (queue, guard) = Queue::start(written.clone()).unwrap();
    let layer = EventLayer { format, queue: queue.clone() };
    let registry = tracing_subscriber::registry().with(limiter.layer()).with(layer);
    tracing::subscriber::with_default(registry, || log(&queue));
    drop(guard); // writes what is in the queue
    std::mem::take(&mut *written.0.lock().unwrap())
}

/// What is written in this form when `log` logs one event.
fn written(format: LogFormat, log: impl FnOnce()) -> String {
    let mut events = all_written(format, &Limiter::new(), |_| log());
    assert_eq!(events.len(), 1, "{events:?}");
    events.remove(0)
}

/// The fields of the entry that `log` makes.
fn entry(log: impl FnOnce()) -> Vec<(String, String)> {
    let field = |field: &str| field.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned())).unwrap();
    written(LogFormat::Journal, log).split(SEPARATOR).map(field).collect()
}

/// The object that `log` makes.
fn object(log: impl FnOnce()) -> Value {
    let line = written(LogFormat::Json, log);
    assert_eq!(line.matches('\n').count(), 1, "{line}");
    serde_json::from_str(line.strip_suffix('\n').unwrap()).unwrap_or_else(|error| unreachable!("{error}: {line}"))
}

/// The line that `log` makes, without the time and the level.
fn line(log: impl FnOnce()) -> String {
    let line = written(LogFormat::Text, log);
    let (time, line) = line.strip_suffix('\n').unwrap().split_once("  INFO ").unwrap();
    assert!(time.ends_with('Z') && time.len() == "2026-11-30T03:22:54.123456Z".len(), "{time}");
    line.to_owned()
}

#[test]
fn the_message_comes_first_and_is_not_quoted() {
    let server_name: Option<&str> = None;
    let line = line(|| {
        tracing::info!(reason = "no_route", status = 404, peer = %"192.0.2.1:9", server_name, resumed = true, "a \"b\"\u{1b}[31m");
    });
    assert_eq!(line, "a \"b\"\\u001b[31m reason=no_route status=404 peer=192.0.2.1:9 resumed=true");
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
    check("a\t\r\0b", r#""a\t\r\u0000b""#);
    check("\u{1b}[31m", r#""\u001b[31m""#);
    check("a\u{7f}b", r#""a\u007fb""#);
    check("a\u{9b}b", r#""a\u009bb""#);
    check("no\u{a0}break", r#""no\u00a0break""#);
    check("\u{202e}right to left", r#""\u202eright to left""#);
    check("\u{e0001}tag", r#""\udb40\udc01tag""#);
    check("1 → 2", "\"1 → 2\"");
}

/// Whatever a value is, a reader of logfmt, of JSON and of the journal gets it back.
#[test]
fn a_value_is_read_back_as_it_was_in_every_form() {
    let hostile = [
        "",
        " ",
        "a",
        "a b",
        "a=b",
        "\"",
        "\\",
        "\\\"",
        "\n",
        "\r\n",
        "a\nINFO request refused reason=no_route",
        "\t",
        "\0",
        "\u{1b}[2J\u{1b}[31m",
        "\u{7f}",
        "\u{85}",
        "\u{9b}1m",
        "\u{2028}",
        "\u{202e}",
        "\u{feff}",
        "\u{fffd}",
        "\u{10ffff}",
        "ä",
        "日本",
        "🦀",
        "e\u{301}",
        "{\"a\":1}",
        "' OR 1",
        "key=\"value\" key2=2",
        "\u{e0001}",
        "%00",
        "\\u0041",
    ];
    for value in hostile {
        let log = || tracing::info!(value, next = 1, "event");
        let object = object(log);
        assert_eq!((object["value"].as_str(), object["next"].as_i64()), (Some(value), Some(1)), "{value:?}");
        let line = line(log);
        let written = line.strip_prefix("event value=").unwrap().strip_suffix(" next=1").unwrap();
        let read = if written.starts_with('"') { serde_json::from_str(written).unwrap() } else { written.to_owned() };
        assert_eq!(read, value, "{line}");
        let is_shown = |letter: char| !letter.is_control() && !['\u{202e}', '\u{2028}', '\u{e0001}'].contains(&letter);
        assert!(line.chars().all(is_shown), "{line:?}");
        let entry = entry(log);
        let found = entry.iter().find(|(name, _)| name == "HOOKGATE_VALUE").unwrap();
        assert_eq!(found.1, value.replace('\0', "\u{fffd}"));
        assert_eq!(entry.iter().filter(|(name, _)| name == "HOOKGATE_NEXT").count(), 1);
    }
}

#[test]
fn values_have_the_types_of_json() {
    let absent: Option<u64> = None;
    let log = || {
        tracing::warn!(
            text = "a", shown = %"1", number = 7_u16, below = -7, time = "mine", ratio = 0.12349, whole = 12.0, none = f64::NAN,
            yes = true, absent, "event {}", 1
        );
    };
    let object = object(log);
    let time = object["time"].as_str().unwrap();
    assert!(OffsetDateTime::parse(time, &Rfc3339).is_ok(), "{time}");
    let expected = serde_json::json!({
        "time": time, "level": "WARN", "event": "event 1", "text": "a", "shown": "1", "number": 7, "below": -7, "time_": "mine",
        "ratio": 0.123, "whole": 12.0, "none": "NaN", "yes": true,
    });
    assert_eq!(object, expected);
    let line = written(LogFormat::Text, log);
    let fields = "text=a shown=1 number=7 below=-7 time_=mine ratio=0.123 whole=12.000 none=NaN yes=true\n";
    assert!(line.ends_with(&format!("  WARN event 1 {fields}")), "{line}");
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
fn a_value_stays_within_its_bound_in_every_form() {
    let long = "ä".repeat(MAXIMUM_VALUE_BYTES);
    let log = || tracing::info!(peer = "a\0PRIORITY=0", long = &*long, "m");
    let expected = &long[..MAXIMUM_VALUE_BYTES];
    let fields = entry(log);
    let value = |name: &str| fields.iter().find(|(found, _)| found == name).unwrap().1.clone();
    assert_eq!(value("HOOKGATE_PEER"), "a\u{fffd}PRIORITY=0");
    assert_eq!(value("HOOKGATE_LONG"), expected);
    assert_eq!(fields.iter().filter(|(name, _)| name == "PRIORITY").count(), 1);
    assert_eq!(object(log)["long"], expected);
    assert!(line(log).ends_with(&format!(" long={expected}")));
}

#[test]
fn a_value_that_logs_disturbs_nothing() {
    struct Talking;
    impl std::fmt::Display for Talking {
        fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            tracing::info!(inner = 1, "within");
            formatter.write_str("said")
        }
    }
    let log = |_: &Queue| tracing::info!(before = 1, value = %Talking, after = 2, "outer");
    let events = all_written(LogFormat::Text, &Limiter::new(), log);
    assert!(events.iter().any(|event| event.ends_with(" INFO outer before=1 value=said after=2\n")), "{events:?}");
}

#[test]
fn names_are_ones_that_the_journal_takes() {
    let journal_name = |name: &str| {
        let mut text = String::new();
        push_journal_name(name, &mut text);
        text
    };
    let check = |name: &str, expected: &str| assert_eq!(journal_name(name), expected);
    check("request_id", "HOOKGATE_REQUEST_ID");
    check("next_s", "HOOKGATE_NEXT_S");
    check("log.target", "HOOKGATE_LOG_TARGET");
    assert_eq!(journal_name(&"x".repeat(99)).len(), 64);
}

#[test]
fn the_message_of_a_library_is_a_bounded_value() {
    let name = format!("a\" reason=no_route\nb{}", "a".repeat(64 * 1024));
    let expected = format!("Illegal SNI hostname received {name}")[..MAXIMUM_LIBRARY_BYTES].to_owned();
    // As `tracing-log` passes on what a library says.
    let log = || tracing::info!(target: "log", { log.target = "rustls::msgs" }, "Illegal SNI hostname received {name}");
    let json = object(log);
    assert_eq!([&json["event"], &json["cause"], &json["detail"]], ["library message", "library", &*expected]);
    let escaped = expected.replace('"', "\\\"").replace('\n', "\\n");
    let whole = format!("library message cause=library detail=\"{escaped}\"");
    assert_eq!(line(log), whole);
    let fields = entry(log);
    let value = |name: &str| fields.iter().find(|(found, _)| found == name).unwrap().1.clone();
    assert_eq!([value("MESSAGE"), value("HOOKGATE_EVENT")], [whole, "library message".to_owned()]);
    assert_eq!([value("HOOKGATE_CAUSE"), value("HOOKGATE_DETAIL")], ["library".to_owned(), expected]);
    // One that uses `tracing` itself.
    let line = line(|| tracing::info!(target: "h2::codec", frame = 7, "peer said x"));
    assert_eq!(line, "library message frame=7 cause=library detail=\"peer said x\"");
}

fn losses(queue: &Queue, limiter: &Arc<Limiter>, failures: &Failures) -> Losses {
    let (queue, limiter, failures) = (queue.clone(), Arc::clone(limiter), failures.clone());
    Losses { queue, failures, limiter, lost: 0, suppressed: [0; Class::ALL.len()], reported: None }
}

#[test]
fn suppressed_events_are_reported_once_per_second() {
    let limiter = Limiter::new();
    let began = Instant::now();
    let at = |ms| began + Duration::from_millis(ms);
    let events = all_written(LogFormat::Text, &limiter, |queue| {
        let mut losses = losses(queue, &limiter, &Failures::default());
        let flood = |count| (0..count).for_each(|_| tracing::warn!(cause = "stranger", "handshake refused"));
        losses.attend(at(0));
        flood(5000);
        losses.attend(at(250));
        flood(5000);
        losses.attend(at(500));
        losses.attend(at(1249));
        losses.attend(at(1250));
        losses.attend(at(9000));
    });
    let reports: Vec<_> = events.iter().filter(|event| event.contains("log events suppressed")).collect();
    assert_eq!(reports.len(), 2, "{reports:?}");
    assert!(reports.iter().all(|report| report.contains("WARN") && report.contains(" stranger=")), "{reports:?}");
    assert!(!reports[0].contains("sender="), "{reports:?}");
}

/// A disk that is full, until it is not.
#[derive(Clone, Default)]
struct Disk(Arc<Mutex<(bool, Vec<usize>)>>);

impl Write for Disk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let (is_full, writes) = &mut *self.0.lock().unwrap();
        if *is_full {
            return Err(io::ErrorKind::StorageFull.into());
        }
        writes.push(bytes.len());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A batch of `count` events.
fn batch(count: usize, event: &str) -> Batch {
    let mut batch = Batch::default();
    (0..count).for_each(|_| batch.push(event.as_bytes()));
    batch
}

#[test]
fn what_cannot_be_written_is_counted_and_said_once_there_is_room() {
    let (disk, failures) = (Disk::default(), Failures::default());
    let mut lines = Lines::new(disk.clone(), failures.clone());
    lines.write(&batch(2, "first\n"));
    assert_eq!(disk.0.lock().unwrap().1, [12], "one system call for what waits");
    disk.0.lock().unwrap().0 = true;
    lines.write(&batch(3, "lost\n"));
    disk.0.lock().unwrap().0 = false;
    lines.write(&batch(1, "third\n"));
    assert_eq!(disk.0.lock().unwrap().1, [12, 6]);
    assert_eq!(failures.count(), 3);
    let log = |queue: &Queue| losses(queue, &Limiter::new(), &failures).attend(Instant::now());
    let report = all_written(LogFormat::Text, &Limiter::new(), log).remove(0);
    assert!(report.contains("log events lost: they could not be written count=3 error="), "{report}");
    assert_eq!(failures.take(), None);
}

#[test]
fn many_lines_are_written_in_bounded_pieces() {
    let disk = Disk::default();
    Lines::new(disk.clone(), Failures::default()).write(&batch(1000, &"x".repeat(500)));
    let writes = disk.0.lock().unwrap().1.clone();
    assert_eq!(writes.iter().sum::<usize>(), 500_000);
    assert!(writes.len() < 10 && writes.iter().all(|write| *write <= 64 * 1024), "{writes:?}");
}

/// The message of each event of the source: the text of the last literal within the macro.
fn messages(source: &str) -> Vec<&str> {
    let mut messages = Vec::new();
    for part in source.split("tracing::").skip(1) {
        let Some((level, rest)) = part.split_once("!(") else { continue };
        if !["error", "warn", "info", "debug", "trace"].contains(&level) {
            continue;
        }
        let (mut depth, mut quoted, mut last) = (1, None, "");
        let mut escaped = false;
        for (at, byte) in rest.bytes().enumerate() {
            match (byte, quoted) {
                _ if escaped => escaped = false,
                (b'\\', Some(_)) => escaped = true,
                (b'"', Some(start)) => (last, quoted) = (&rest[start..at], None),
                (b'"', None) => quoted = Some(at + 1),
                (b'(', None) => depth += 1,
                (b')', None) => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                break;
            }
        }
        messages.push(last);
    }
    messages
}

/// What varies is a field, so that an event can be counted by its name, and read by its fields.
#[test]
fn no_event_has_data_in_its_name() {
    let mut directories = vec![std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    let (mut seen, mut wrong) = (0, Vec::new());
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("log/tests.rs") {
                let source = std::fs::read_to_string(&path).unwrap();
                let all = messages(&source);
                seen += all.len();
                let named = all.into_iter().filter(|message| message.contains('{') || message.is_empty());
                wrong.extend(named.map(|message| format!("{}: {message}", path.display())));
            }
        }
    }
    assert!(seen > 40 && wrong.is_empty(), "{seen} events; with data in their names: {wrong:#?}");
    assert_eq!(messages("tracing::warn!(%a, \"x {b}\"); tracing::info!(c = f(\"d\"), \"e\");"), ["x {b}", "e"]);
}
