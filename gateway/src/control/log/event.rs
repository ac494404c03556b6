//! The form of a log event: a line of text, a JSON object in a line, or an entry of the journal.
//!
//! Owns quoting, escaping, bounds of values, the time, and the names of journal fields. Allocates nothing for an event once the buffers of
//! its thread have grown. Must not write anywhere.
//!
//! A line of text begins with time, level and message, and every field follows as `key=value` or `key="a value"` (logfmt). A value is
//! quoted unless it is a bare word, and then it is a string of JSON (RFC 8259, section 7), in which everything that is not printable is
//! escaped. So a value cannot end its field, add another one, begin a line, or move the cursor of a terminal.

use std::cell::RefCell;
use std::fmt::{self, Write as _};
use std::time::{SystemTime, UNIX_EPOCH};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tracing::field::{Field, Visit};
use tracing::{Event, Level};

use crate::config::LogFormat;

/// The origin of an entry, as `journalctl` shows it.
const IDENTIFIER: &str = "hookgate";

/// Most bytes of a value. Details are bounded far below. The journal takes an entry beyond the send buffer of its socket (208 KiB by
/// default) only as a file.
pub(super) const MAXIMUM_VALUE_BYTES: usize = 8 * 1024;

/// Most bytes of the message of a library. It may quote what a peer sent, such as a server name of 64 KiB.
pub(super) const MAXIMUM_LIBRARY_BYTES: usize = 512;

/// The name of every event of a library, and the value of its field `cause`.
const LIBRARY_EVENT: &str = "library message";
const LIBRARY: &str = "library";

/// What the targets of hookgate's own events begin with.
const OWN_TARGETS: &str = "hookgate";

/// Separates the fields of an entry on its way to the thread that sends it. No field contains it.
pub(super) const SEPARATOR: char = '\0';

/// What every JSON object has, so that no field of an event may have one of these names.
const OWN_NAMES: [&str; 3] = ["time", "level", "event"];

thread_local! {
    static BUFFERS: RefCell<Buffers> = RefCell::default();
}

/// Passes `event` in the form `format` to `write`: a whole line with its line break, or the fields of an entry between [`SEPARATOR`]s.
pub(super) fn formatted(format: LogFormat, event: &Event<'_>, write: impl FnOnce(&[u8])) {
    BUFFERS.with(|buffers| match buffers.try_borrow_mut() {
        Ok(mut buffers) => write(buffers.format(format, event)),
        // A value that logs while it is formatted.
        Err(_) => write(Buffers::default().format(format, event)),
    });
}

/// What the events of a thread are formatted in.
#[derive(Default)]
struct Buffers {
    message: String,
    /// The fields, in the form of a line.
    fields: String,
    /// The fields of a journal entry.
    entry: String,
    /// One value.
    value: String,
    whole: String,
    clock: Clock,
}

impl Buffers {
    fn format(&mut self, format: LogFormat, event: &Event<'_>) -> &[u8] {
        let Self { message, fields, entry, value, whole, clock } = self;
        [&mut *message, fields, entry, whole].into_iter().for_each(String::clear);
        let mut visitor = Fields { format, message, fields, entry, value, is_of_library: false };
        event.record(&mut visitor);
        // Its message may quote a peer, so it is a value, and not the name of the event.
        if visitor.is_of_library || !event.metadata().target().starts_with(OWN_TARGETS) {
            let text = std::mem::replace(&mut *visitor.message, LIBRARY_EVENT.to_owned());
            visitor.add("cause", LIBRARY);
            visitor.add("detail", beginning(&text, MAXIMUM_LIBRARY_BYTES));
        }
        let level = *event.metadata().level();
        match format {
            LogFormat::Text => {
                clock.push_now(whole);
                whole.push_str(if matches!(level, Level::INFO | Level::WARN) { "  " } else { " " });
                whole.push_str(level.as_str());
                whole.push(' ');
                push_message(message, whole);
                whole.push_str(fields);
                whole.push('\n');
            }
            LogFormat::Json => {
                whole.push_str("{\"time\":\"");
                clock.push_now(whole);
                whole.push_str("\",\"level\":\"");
                whole.push_str(level.as_str());
                whole.push_str("\",\"event\":");
                push_quoted(message, whole);
                whole.push_str(fields);
                whole.push_str("}\n");
            }
            LogFormat::Journal => {
                value.clear();
                push_message(message, value);
                value.push_str(fields);
                // `journalctl` shows nothing but MESSAGE by default.
                push_entry("MESSAGE", value, whole);
                push_entry("PRIORITY", priority(level), whole);
                push_entry("SYSLOG_IDENTIFIER", IDENTIFIER, whole);
                push_entry("HOOKGATE_EVENT", message, whole);
                whole.push_str(entry);
                // The last separator.
                whole.pop();
            }
        }
        whole.as_bytes()
    }
}

/// Takes the fields of an event in their order.
struct Fields<'b> {
    format: LogFormat,
    message: &'b mut String,
    fields: &'b mut String,
    entry: &'b mut String,
    value: &'b mut String,
    /// A library logged the event, through the `log` crate.
    is_of_library: bool,
}

impl Fields<'_> {
    /// Adds a value that is text.
    fn add_text(&mut self, field: &Field, value: &str) {
        match self.name_of(field) {
            Some(name) => self.add_value(name, value),
            None if field.name() == "message" => self.message.push_str(value),
            None => {}
        }
    }

    /// Adds a field that the event has not itself.
    fn add(&mut self, name: &'static str, value: &str) {
        self.begin(name);
        self.add_value(name, value);
    }

    /// The text after the name, which has begun.
    fn add_value(&mut self, name: &'static str, value: &str) {
        let value = beginning(value, MAXIMUM_VALUE_BYTES);
        match self.format {
            LogFormat::Json => push_quoted(value, self.fields),
            LogFormat::Text | LogFormat::Journal if is_bare_word(value) => self.fields.push_str(value),
            LogFormat::Text | LogFormat::Journal => push_quoted(value, self.fields),
        }
        if self.format == LogFormat::Journal {
            push_journal_name(name, self.entry);
            push_entry("", value, self.entry);
        }
    }

    /// Adds a value that is the same in every form: a number, or `true` or `false`.
    fn add_plain(&mut self, field: &Field, value: &str) {
        let Some(name) = self.name_of(field) else { return };
        self.fields.push_str(value);
        if self.format == LogFormat::Journal {
            push_journal_name(name, self.entry);
            push_entry("", value, self.entry);
        }
    }

    /// Begins the field in the line. `None` if it is none of the event's own.
    fn name_of(&mut self, field: &Field) -> Option<&'static str> {
        let name = field.name();
        if name == "message" {
            return None;
        }
        // The place in the source of a library that logged through the `log` crate.
        if name.starts_with("log.") {
            self.is_of_library = true;
            return None;
        }
        self.begin(name);
        Some(name)
    }

    /// Begins a field in the line.
    fn begin(&mut self, name: &'static str) {
        let (before, after) = if self.format == LogFormat::Json { (",\"", "\":") } else { (" ", "=") };
        self.fields.push_str(before);
        self.fields.push_str(name);
        if OWN_NAMES.contains(&name) {
            self.fields.push('_');
        }
        self.fields.push_str(after);
    }
}

impl Visit for Fields<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add_text(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add_plain(field, itoa::Buffer::new().format(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add_plain(field, itoa::Buffer::new().format(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add_plain(field, if value { "true" } else { "false" });
    }

    /// With three decimals: milliseconds have no more. A number beyond some thousand years of them is shown as text.
    fn record_f64(&mut self, field: &Field, value: f64) {
        let thousandths = (value * 1000.0).round();
        if !(0.0..1e17).contains(&thousandths) {
            return self.record_debug(field, &value);
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is within the range of u64")]
        let thousandths = thousandths as u64;
        let mut text = std::mem::take(self.value);
        text.clear();
        text.push_str(itoa::Buffer::new().format(thousandths / 1000));
        push_digits('.', thousandths % 1000, 3, &mut text);
        self.add_plain(field, &text);
        *self.value = text;
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let mut text = std::mem::take(self.value);
        text.clear();
        push(&mut text, format_args!("{value:?}"));
        self.add_text(field, &text);
        *self.value = text;
    }
}

/// The time of day in UTC, whose seconds are formatted once each.
#[derive(Default)]
struct Clock {
    second: u64,
    /// RFC 3339, without fractions and `Z`; empty before the first look.
    text: String,
}

impl Clock {
    /// Appends the time with microseconds.
    fn push_now(&mut self, text: &mut String) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        if self.second != now.as_secs() || self.text.is_empty() {
            self.second = now.as_secs();
            let time = i64::try_from(self.second).ok().and_then(|it| OffsetDateTime::from_unix_timestamp(it).ok());
            self.text = time.and_then(|time| time.format(&Rfc3339).ok()).unwrap_or_default();
            if self.text.ends_with('Z') {
                self.text.pop();
            }
        }
        text.push_str(&self.text);
        push_digits('.', now.subsec_micros().into(), 6, text);
        text.push('Z');
    }
}

/// Appends `before` and the last `count` digits of `number`, with zeros in front.
fn push_digits(before: char, number: u64, count: usize, text: &mut String) {
    const ZEROS: &str = "00000000";
    let mut buffer = itoa::Buffer::new();
    let digits = buffer.format(number);
    text.push(before);
    text.push_str(&ZEROS[..count.saturating_sub(digits.len())]);
    text.push_str(digits);
}

fn push(text: &mut String, arguments: fmt::Arguments<'_>) {
    // Writing to a String fails only if a Display does, and then the event has what came before.
    let _ = text.write_fmt(arguments);
}

/// Whether `value` needs no quotation marks: it is not empty, and has no space, no `=` and nothing that would be escaped.
fn is_bare_word(value: &str) -> bool {
    let is_bare = |letter: char| !matches!(letter, '=' | ' ' | '"' | '\\') && is_printable(letter);
    // Nearly every value is ASCII, and is looked at byte by byte.
    let is_bare_byte = |byte: &u8| matches!(byte, b'!'..=b'~') && !matches!(byte, b'=' | b'"' | b'\\');
    !value.is_empty() && (value.as_bytes().iter().all(is_bare_byte) || value.chars().all(is_bare))
}

/// Whether a terminal shows the character as it is, and as one.
fn is_printable(letter: char) -> bool {
    match letter {
        ' '..='~' => true,
        // As `Debug` of a string decides: no controls, no format characters, no spaces beyond ASCII, no combining marks.
        letter => letter.escape_debug().next() == Some(letter),
    }
}

/// Appends `value` as a string of JSON.
fn push_quoted(value: &str, text: &mut String) {
    let is_plain = |byte: &u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\');
    text.push('"');
    if value.as_bytes().iter().all(is_plain) {
        text.push_str(value);
    } else {
        push_escaping(value, text);
    }
    text.push('"');
}

/// Appends `value`, with `"` and `\` and everything escaped that is not printable.
fn push_escaping(value: &str, text: &mut String) {
    let mut plain = 0;
    for (at, letter) in value.char_indices() {
        if is_printable(letter) && !matches!(letter, '"' | '\\') {
            continue;
        }
        text.push_str(&value[plain..at]);
        plain = at + letter.len_utf8();
        match letter {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            letter => push_escaped(letter, text),
        }
    }
    text.push_str(&value[plain..]);
}

/// Appends an escape of JSON.
fn push_escaped(letter: char, text: &mut String) {
    match letter {
        '\n' => text.push_str("\\n"),
        '\r' => text.push_str("\\r"),
        '\t' => text.push_str("\\t"),
        letter => letter.encode_utf16(&mut [0; 2]).iter().for_each(|unit| push(text, format_args!("\\u{unit:04x}"))),
    }
}

/// Appends the message of an event of hookgate, with everything escaped that is not printable. Line breaks and tabs stay: the kernel's verifier
/// explains itself in many lines.
fn push_message(message: &str, text: &mut String) {
    if message.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return text.push_str(message);
    }
    for letter in message.chars() {
        match letter {
            '\n' | '\t' => text.push(letter),
            letter if is_printable(letter) => text.push(letter),
            letter => push_escaped(letter, text),
        }
    }
}

/// Appends a field of an entry.
fn push_entry(name: &str, value: &str, entry: &mut String) {
    entry.push_str(name);
    entry.push('=');
    let mut pieces = beginning(value, MAXIMUM_VALUE_BYTES).split(SEPARATOR);
    entry.push_str(pieces.next().unwrap_or_default());
    for piece in pieces {
        entry.push(char::REPLACEMENT_CHARACTER);
        entry.push_str(piece);
    }
    entry.push(SEPARATOR);
}

/// The first `maximum` bytes of `value`, or fewer, so that no character is split.
fn beginning(value: &str, maximum: usize) -> &str {
    let end = (0..=value.len().min(maximum)).rev().find(|&end| value.is_char_boundary(end));
    &value[..end.unwrap_or_default()]
}

/// The syslog severity of a level (syslog(3)).
fn priority(level: Level) -> &'static str {
    match level {
        Level::ERROR => "3",
        Level::WARN => "4",
        Level::INFO => "6",
        Level::DEBUG | Level::TRACE => "7",
    }
}

/// Appends the name of a field in the journal: capitals, digits and underscores, at most 64 characters (systemd.journal-fields(7)).
pub(super) fn push_journal_name(name: &str, entry: &mut String) {
    const PREFIX: &str = "HOOKGATE_";
    let letter = |letter: char| if letter.is_ascii_alphanumeric() { letter.to_ascii_uppercase() } else { '_' };
    entry.push_str(PREFIX);
    entry.extend(name.chars().map(letter).take(64 - PREFIX.len()));
}
