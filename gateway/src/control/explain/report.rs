//! The explanation as text and as JSON. Text of peers is printable here: a terminal obeys escape sequences.

use std::fmt::Write as _;

use serde::Serialize;

use super::places::Place;
use super::step::{OfProvider, Said, Step, Verdict};
use super::subject::Subject;
use crate::config::day_of;
use crate::control::inquiry::Record;
use crate::control::pending::advice::describe;

/// The explanation.
#[derive(Serialize)]
pub(super) struct Explanation<'s> {
    admitted: bool,
    /// The first reason that refuses.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    /// The lines that decide: of the first stage that refuses, and of its providers.
    change: Vec<Place>,
    #[serde(skip_serializing_if = "Option::is_none")]
    recorded: Option<&'s Record>,
    steps: Vec<Step>,
    #[serde(skip)]
    subject: &'s Subject,
}

impl<'s> Explanation<'s> {
    pub(super) fn new(subject: &'s Subject, steps: Vec<Step>, admitted: bool) -> Self {
        let first = steps.iter().find(|step| step.said.verdict == Verdict::Refused);
        let reason = first.and_then(|step| step.said.reason);
        let mut change: Vec<Place> = first.and_then(|step| step.said.place.clone()).into_iter().collect();
        let of_route = |of: &&OfProvider| of.said.verdict == Verdict::Refused && of.is_of_route != Some(false);
        let providers = first.into_iter().flat_map(|step| &step.providers).filter(of_route);
        for place in providers.filter_map(|of| of.said.place.clone()) {
            if !change.contains(&place) {
                change.push(place);
            }
        }
        Self { admitted, reason, change, recorded: subject.record.as_ref(), steps, subject }
    }

    fn text(&self) -> String {
        let mut text = String::new();
        if let Some(record) = self.recorded {
            line(&mut text, &format!("recorded   {}", summary(record)));
            line(&mut text, &format!("           {}", record.explanation));
        }
        for (index, certificate) in self.subject.chain.iter().enumerate() {
            let begin = if index == 0 { "chain" } else { "" };
            line(&mut text, &format!("{begin:<10} {} {}", index + 1, describe(certificate)));
        }
        for step in &self.steps {
            step_text(&mut text, step);
        }
        let unknown = self.steps.iter().find(|step| step.said.verdict == Verdict::Unknown);
        match (self.admitted, self.reason, unknown) {
            (true, _, _) => line(&mut text, "result     admitted by this configuration, as far as it is described"),
            (false, Some(reason), _) => line(&mut text, &format!("result     refused: {reason}")),
            (false, None, Some(step)) => line(&mut text, &format!("result     unknown at {}", step.stage)),
            (false, None, None) => line(&mut text, "result     refused"),
        }
        for place in &self.change {
            line(&mut text, &format!("decided by {place}"));
        }
        if self.reason.is_some() && self.change.is_empty() {
            line(&mut text, "decided by no line of the configuration");
        }
        text
    }
}

fn step_text(text: &mut String, step: &Step) {
    let said = &step.said;
    let reason = said.reason.map(|reason| format!("{reason}: ")).unwrap_or_default();
    line(text, &format!("{:<10} {}: {reason}{}", step.stage, said.verdict.label(), said.text));
    more(text, said, "           ");
    for OfProvider { name, is_of_route, said: of } in &step.providers {
        let reason = of.reason.map(|reason| format!("{reason}: ")).unwrap_or_default();
        let note = if *is_of_route == Some(true) { " (of this route)" } else { "" };
        let says = if of.text == said.text { "as above" } else { of.text.as_str() };
        line(text, &format!("           {name}{note}: {reason}{says}"));
        if said.verdict != Verdict::Passes && of.verdict != Verdict::Passes {
            more(text, of, "             ");
        }
    }
}

fn more(text: &mut String, said: &Said, indent: &str) {
    if let Some(place) = &said.place {
        line(text, &format!("{indent}at {place}"));
    }
    if let Some(remedy) = said.remedy.as_deref().filter(|remedy| !remedy.is_empty()) {
        line(text, &format!("{indent}to admit it: {remedy}"));
    }
}

/// Prints it.
pub(super) fn print(explanation: &Explanation<'_>, json: bool) {
    match json {
        // Strings and numbers always serialize.
        true => println!("{}", serde_json::to_string_pretty(explanation).unwrap_or_default()),
        false => print!("{}", explanation.text()),
    }
}

/// Prints the recent refusals, the newest first.
pub(super) fn list(records: &[Record], json: bool) {
    if json {
        println!("{}", serde_json::to_string_pretty(records).unwrap_or_default());
        return;
    }
    let mut text = String::new();
    if records.is_empty() {
        text.push_str("no refusal is kept\n");
    }
    for record in records {
        line(&mut text, &summary(record));
    }
    print!("{text}");
}

/// One refusal on one line.
fn summary(record: &Record) -> String {
    let clock = record.at % 86_400;
    let mut text = format!("{}T{:02}:{:02}:{:02}Z", day_of(record.at), clock / 3600, clock / 60 % 60, clock % 60);
    // Writing to a String cannot fail.
    let _ = write!(text, "  {} {}", record.what, record.reason);
    let fields = [
        ("peer", Some(record.peer.as_str())),
        ("proxy", record.proxy.as_deref()),
        ("host", record.server_name.as_deref()),
        ("route", record.route.as_deref()),
        ("method", record.method.as_deref()),
        ("path", record.path.as_deref()),
        ("request_id", record.request_id.as_deref()),
        ("sha256", record.fingerprint.as_deref()),
    ];
    for (name, value) in fields {
        if let Some(value) = value {
            let _ = write!(text, "  {name}={value}");
        }
    }
    if !record.providers.is_empty() {
        let _ = write!(text, "  provider={}", record.providers.join(","));
    }
    text
}

/// Adds a line, printable.
fn line(text: &mut String, added: &str) {
    text.extend(added.chars().map(|character| if character.is_control() { '?' } else { character }));
    text.push('\n');
}
