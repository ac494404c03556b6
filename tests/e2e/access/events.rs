//! Events of the daemon's log, read back from JSON and from text, and the schema that docs/logging.md promises.
//!
//! Owns the readers. Must not start a daemon.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use hookgate_testkit::gateway::Gateway;
use hookgate_testkit::wait::wait_until;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;

use crate::environment::SOON;

/// What every object has.
const OWN: [&str; 3] = ["time", "level", "event"];

/// The fields of one event, `time`, `level` and `event` included.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Event(pub(super) BTreeMap<String, Value>);

impl Event {
    /// The value of a field as text; empty if it is absent.
    pub(super) fn text(&self, name: &str) -> &str {
        self.0.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    /// The value of a field as a number.
    pub(super) fn number(&self, name: &str) -> Option<f64> {
        self.0.get(name).and_then(Value::as_f64)
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Whether the event is about a request or a handshake.
    pub(super) fn is_of_access(&self) -> bool {
        let named = ["request answered", "request refused", "request abandoned", "answer cut"];
        named.contains(&self.text("event"))
            || ["handshake ", "connection refused"].iter().any(|start| self.text("event").starts_with(start))
    }
}

impl<'de> Deserialize<'de> for Event {
    /// Fails if a key stands twice, which serde_json's own map would hide.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Unique;
        impl<'de> Visitor<'de> for Unique {
            type Value = Event;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Event, A::Error> {
                let mut fields = BTreeMap::new();
                while let Some((name, value)) = map.next_entry::<String, Value>()? {
                    assert!(fields.insert(name.clone(), value).is_none(), "{name} stands twice");
                }
                Ok(Event(fields))
            }
        }
        deserializer.deserialize_map(Unique)
    }
}

/// Every line of the log as JSON.
pub(super) fn objects(log: &str) -> Vec<Event> {
    let read = |line: &str| serde_json::from_str(line).unwrap_or_else(|error| unreachable!("{error}: {line}"));
    log.lines().map(read).collect()
}

/// The events that `wanted` selects, as soon as there are `count` of them.
pub(super) fn wait_for(gateway: &Gateway, count: usize, wanted: impl Fn(&Event) -> bool) -> Vec<Event> {
    let found = || -> Vec<Event> { objects(&complete_lines(gateway)).into_iter().filter(|it| wanted(it)).collect() };
    let came = wait_until("the events", SOON, || found().len() >= count);
    let found = found();
    assert!(came.is_ok() && found.len() == count, "{} of {count} events: {found:#?}\n{}", found.len(), gateway.log());
    found
}

/// The log without a line that is not whole yet.
pub(super) fn complete_lines(gateway: &Gateway) -> String {
    let mut log = gateway.log();
    log.truncate(log.rfind('\n').map_or(0, |end| end + 1));
    log
}

/// A line of text: time, level, words of the event, and fields in logfmt. Numbers and booleans are text in it.
pub(super) fn line_of_text(line: &str) -> Event {
    let (time, rest) = line.split_once(' ').unwrap();
    let (level, mut rest) = rest.trim_start().split_once(' ').unwrap();
    let mut fields: BTreeMap<String, Value> = BTreeMap::new();
    let mut words: Vec<&str> = Vec::new();
    while !rest.is_empty() {
        let end = rest.find([' ', '=']).unwrap_or(rest.len());
        let (key, after) = rest.split_at(end);
        let Some(value) = after.strip_prefix('=') else {
            words.push(key);
            rest = after.trim_start_matches(' ');
            continue;
        };
        let mut values = serde_json::Deserializer::from_str(value).into_iter::<String>();
        let (text, length) = if value.starts_with('"') {
            let text = values.next().unwrap().unwrap_or_else(|error| unreachable!("{error}: {line}"));
            (text, values.byte_offset())
        } else {
            let end = value.find(' ').unwrap_or(value.len());
            (value[..end].to_owned(), end)
        };
        assert!(fields.insert(key.to_owned(), Value::String(text)).is_none(), "{key} stands twice: {line}");
        rest = value[length..].strip_prefix(' ').unwrap_or(&value[length..]);
    }
    let own = [("time", time.to_owned()), ("level", level.to_owned()), ("event", words.join(" "))];
    fields.extend(own.map(|(name, value)| (name.to_owned(), Value::String(value))));
    Event(fields)
}

/// docs/logging.md: the types of fields, and the levels of events.
pub(super) struct Schema {
    fields: BTreeMap<String, char>,
    levels: BTreeMap<String, String>,
}

impl Schema {
    pub(super) fn read() -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/logging.md");
        let page = std::fs::read_to_string(path).unwrap();
        let section =
            page.split("## Requests and handshakes").nth(1).unwrap().split("What other servers").next().unwrap();
        let rows = section.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` | "));
        let (mut fields, mut levels) = (BTreeMap::new(), BTreeMap::new());
        for (name, rest) in rows {
            let second = rest.split(" | ").next().unwrap();
            match second {
                "S" | "N" | "B" => drop(fields.insert(name.to_owned(), second.chars().next().unwrap())),
                level => drop(levels.insert(name.to_owned(), level.to_owned())),
            }
        }
        assert!(fields.len() == 26 && levels.len() == 7, "{fields:?} {levels:?}");
        Self { fields, levels }
    }

    /// The names of all fields.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.fields.keys().map(String::as_str)
    }

    /// Fails unless the event of a request or handshake has the documented level, and only documented fields of the documented types.
    pub(super) fn check(&self, event: &Event) {
        assert_eq!(self.levels.get(event.text("event")).map(String::as_str), Some(event.text("level")), "{event:?}");
        for (name, value) in &event.0 {
            let is_own = OWN.contains(&name.as_str());
            let kind =
                if is_own { 'S' } else { *self.fields.get(name).unwrap_or_else(|| unreachable!("{name}: {event:?}")) };
            let fits = match kind {
                'S' => value.as_str().is_some_and(|text| !text.is_empty()),
                'N' => value.as_f64().is_some_and(|number| number >= 0.0),
                _ => value.is_boolean(),
            };
            assert!(fits, "{name} is no {kind}: {event:?}");
        }
    }
}
