//! The form of a log event: its line of text, and its entry in the journal.
//!
//! Owns quoting, escaping and the names of journal fields. Must not write anywhere.
//!
//! A line begins with the message, and every field follows as `key=value` or `key="a value"` (logfmt). A value is quoted unless it
//! is a bare word; within quotation marks, `"`, `\` and control characters are escaped as in Rust. So a value cannot end its field,
//! add another one, or begin a line.

use std::fmt::{self, Write as _};

use tracing::Level;
use tracing::field::{Field, Visit};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::Writer;

/// The origin of an entry, as `journalctl` shows it.
const IDENTIFIER: &str = "hookgate";

/// Most bytes of a journal field. Details are bounded far below. The journal takes an entry beyond the send buffer of its socket
/// (208 KiB by default) only as a file.
pub(super) const MAXIMUM_FIELD_BYTES: usize = 8 * 1024;

/// Most bytes of the message of a library. It may quote what a peer sent, such as a server name of 64 KiB.
pub(super) const MAXIMUM_LIBRARY_BYTES: usize = 512;

/// Separates the fields of an entry on its way to the thread that sends it. No field contains it.
pub(super) const SEPARATOR: char = '\0';

/// Formats the fields of an event, message included, for a line of text.
pub(super) struct TextFields;

impl<'writer> FormatFields<'writer> for TextFields {
    fn format_fields<R: RecordFields>(&self, mut writer: Writer<'writer>, recorded: R) -> fmt::Result {
        let mut fields = EventFields::default();
        recorded.record(&mut fields);
        writer.write_str(&fields.line())
    }
}

/// The fields of one event.
#[derive(Default)]
pub(super) struct EventFields {
    message: String,
    /// Name and value of every other field, in the order of the event.
    others: Vec<(&'static str, String)>,
    /// A library logged the event, through the `log` crate.
    is_of_library: bool,
}

impl EventFields {
    /// The message and the fields in one line.
    fn line(&self) -> String {
        let message = self.message();
        let mut line = String::with_capacity(message.len());
        escape_controls(message, &mut line);
        for (name, value) in &self.others {
            let space = if line.is_empty() { "" } else { " " };
            // Writing to a String cannot fail.
            let _ = match is_bare_word(value) {
                true => write!(line, "{space}{name}={value}"),
                false => write!(line, "{space}{name}={value:?}"),
            };
        }
        line
    }

    /// The event as an entry of the journal. `MESSAGE` is the line, because `journalctl` shows nothing else by default;
    /// `HOOKGATE_EVENT` is the message alone.
    pub(super) fn journal_entry(&self, level: Level) -> String {
        let mut entry = String::new();
        let mut add = |name: &str, value: &str| {
            let separator = if entry.is_empty() { "" } else { "\0" };
            let _ = write!(
                entry,
                "{separator}{name}={}",
                bounded(value, MAXIMUM_FIELD_BYTES).replace(SEPARATOR, "\u{fffd}")
            );
        };
        add("MESSAGE", &self.line());
        add("PRIORITY", priority(level));
        add("SYSLOG_IDENTIFIER", IDENTIFIER);
        add("HOOKGATE_EVENT", self.message());
        for (name, value) in &self.others {
            add(&journal_name(name), value);
        }
        entry
    }

    fn message(&self) -> &str {
        let maximum = if self.is_of_library { MAXIMUM_LIBRARY_BYTES } else { usize::MAX };
        bounded(&self.message, maximum)
    }

    fn add(&mut self, field: &Field, value: String) {
        match field.name() {
            "message" => self.message = value,
            // The place in the source of a library that logged through the `log` crate.
            name if name.starts_with("log.") => self.is_of_library = true,
            name => self.others.push((name, value)),
        }
    }
}

impl Visit for EventFields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, format!("{value:?}"));
    }
}

/// Whether `value` needs no quotation marks: it is not empty, and has no space, no `=` and nothing that would be escaped.
fn is_bare_word(value: &str) -> bool {
    !value.is_empty() && !value.contains([' ', '=']) && format!("{value:?}").len() == value.len() + "\"\"".len()
}

/// Appends `message` to `line`, with control characters escaped except for line breaks and tabs: the kernel's verifier explains
/// itself in many lines.
fn escape_controls(message: &str, line: &mut String) {
    for character in message.chars() {
        match character {
            '\n' | '\t' => line.push(character),
            control if control.is_control() => line.extend(control.escape_default()),
            other => line.push(other),
        }
    }
}

/// The first `maximum` bytes of `value`, or fewer, so that no character is split.
fn bounded(value: &str, maximum: usize) -> &str {
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

/// The name of a field in the journal: capitals, digits and underscores, at most 64 characters (systemd.journal-fields(7)).
pub(super) fn journal_name(name: &str) -> String {
    let letter = |letter: char| if letter.is_ascii_alphanumeric() { letter.to_ascii_uppercase() } else { '_' };
    let mut journal_name = String::from("HOOKGATE_");
    journal_name.extend(name.chars().map(letter).take(64 - journal_name.len()));
    journal_name
}
