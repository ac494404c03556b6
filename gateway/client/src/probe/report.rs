//! What `hookgate probe` prints: for a person, or as JSON.
//!
//! Owns the words and the schema. Must not judge.

use std::fmt::Write as _;

use serde::Serialize;

use super::{Look, Report, judge};
use crate::attempt::{Attempt, Handshake};
use crate::chain::{Root, View};
use crate::exchange::{Answer, ExchangeError};
use crate::finding::Severity;
use crate::roots::shown_name;
use crate::sender::{Sender, ServerRoots};
use crate::suite;
use crate::tls::{TlsFailure, alert_name};

/// The version of the JSON document. Raised if a member changes its meaning or goes.
const SCHEMA: u32 = 1;
/// The most names of authorities that are printed.
const MAXIMUM_NAMES: usize = 6;

#[derive(Serialize)]
struct Document<'a> {
    schema: u32,
    url: &'a str,
    r#as: &'a str,
    worst: Option<Severity>,
    findings: Vec<FoundDocument<'a>>,
    tls_versions: Vec<&'static str>,
    selected: Option<SelectedDocument>,
    cipher_suites: Vec<String>,
    certificates: &'a [View],
    root: Option<&'a Root>,
    client_certificate: RequestDocument,
    answers: AnswersDocument<'a>,
}

#[derive(Serialize)]
struct FoundDocument<'a> {
    id: &'static str,
    severity: Severity,
    detail: &'a str,
    consequence: String,
    mend: &'static str,
}

#[derive(Serialize)]
struct SelectedDocument {
    tls_version: &'static str,
    cipher_suite: String,
}

#[derive(Serialize)]
struct RequestDocument {
    asked: bool,
    authorities: Vec<String>,
}

#[derive(Serialize)]
struct AnswersDocument<'a> {
    absent: Option<AttemptDocument<'a>>,
    foreign: Option<AttemptDocument<'a>>,
    own: Option<AttemptDocument<'a>>,
}

#[derive(Serialize)]
struct AttemptDocument<'a> {
    handshake: Option<&'a Handshake>,
    answer: Option<&'a Answer>,
    failure: Option<String>,
}

fn attempt_document(attempt: &Attempt) -> AttemptDocument<'_> {
    AttemptDocument {
        handshake: attempt.handshake.as_ref(),
        answer: attempt.outcome.as_ref().and_then(|outcome| outcome.as_ref().ok()),
        failure: attempt.outcome.as_ref().and_then(|outcome| outcome.as_ref().err().map(ToString::to_string)),
    }
}

impl Report {
    /// As JSON, on one line.
    #[must_use]
    pub fn json(&self, look: &Look<'_>) -> String {
        let seen = &self.seen;
        let selected = judge::selected(seen.as_sender);
        let authorities = seen.request.iter().flat_map(|request| &request.authorities);
        let document = Document {
            schema: SCHEMA,
            url: &look.target.url,
            r#as: &look.sender.name,
            worst: self.worst(),
            findings: self
                .findings
                .iter()
                .map(|finding| FoundDocument {
                    id: finding.kind.id(),
                    severity: finding.severity,
                    detail: &finding.detail,
                    consequence: finding.kind.consequence(look.sender),
                    mend: finding.kind.mend(),
                })
                .collect(),
            tls_versions: seen
                .versions
                .iter()
                .filter(|(_, speaks)| *speaks)
                .map(|(version, _)| version.number())
                .collect(),
            selected: selected
                .map(|(version, suite)| SelectedDocument { tls_version: version.number(), cipher_suite: suite }),
            cipher_suites: seen.suites.iter().map(|chosen| suite::name(*chosen)).collect(),
            certificates: seen.chain.as_ref().map_or(&[], |chain| chain.certificates.as_slice()),
            root: seen.chain.as_ref().and_then(|chain| chain.root.as_ref()),
            client_certificate: RequestDocument {
                asked: seen.request.is_some(),
                authorities: authorities.map(|name| shown_name(name)).collect(),
            },
            answers: AnswersDocument {
                absent: seen.absent.as_ref().map(attempt_document),
                foreign: seen.foreign.as_ref().map(attempt_document),
                own: seen.own.as_ref().map(attempt_document),
            },
        };
        // Strings, numbers and lists always serialize.
        serde_json::to_string(&document).unwrap_or_default()
    }

    /// For a person.
    #[must_use]
    pub fn text(&self, look: &Look<'_>) -> String {
        let mut text = String::new();
        let sender = look.sender;
        line(&mut text, "receiver", &look.target.url);
        line(&mut text, "as", &format!("{} ({})", sender.name, sender.title));
        if self.seen.no_connection.is_none() {
            self.handshake(&mut text);
            self.chain(&mut text, sender);
            self.certificates(&mut text, sender);
        }
        self.findings(&mut text, sender);
        text
    }

    fn handshake(&self, text: &mut String) {
        let seen = &self.seen;
        let versions: Vec<&str> =
            seen.versions.iter().filter(|(_, speaks)| *speaks).map(|(version, _)| version.number()).collect();
        line(text, "TLS", &if versions.is_empty() { "none".to_owned() } else { versions.join(", ") });
        if let Some((version, suite)) = judge::selected(seen.as_sender) {
            line(text, "selected", &format!("TLS {}, {suite}", version.number()));
        }
        if !seen.suites.is_empty() {
            let names: Vec<String> = seen.suites.iter().map(|chosen| suite::name(*chosen)).collect();
            line(text, "suites", &format!("{} of the sender's: {}", names.len(), names.join(", ")));
        }
    }

    fn chain(&self, text: &mut String, sender: &Sender) {
        let Some(chain) = &self.seen.chain else { return };
        for (index, view) in chain.certificates.iter().enumerate() {
            let name = if index == 0 { "chain" } else { "" };
            let names = if view.names.is_empty() { String::new() } else { format!(", for {}", view.names.join(", ")) };
            let value = format!("{}. {}{names}, until {}", index + 1, view.subject, view.not_after);
            line(text, name, &value);
        }
        let trusts = match sender.facts.server_roots {
            ServerRoots::Mozilla => "in Mozilla's list, which the sender trusts",
            ServerRoots::Own | ServerRoots::Undocumented => "in Mozilla's list",
        };
        let root = match &chain.root {
            Some(root) if root.is_public => format!("{} ({trusts})", root.name),
            Some(root) => format!("{} (by --root alone)", root.name),
            None => "none".to_owned(),
        };
        line(text, "root", &root);
    }

    fn certificates(&self, text: &mut String, sender: &Sender) {
        let seen = &self.seen;
        let asked = match &seen.request {
            None => "not asked for".to_owned(),
            Some(request) if request.authorities.is_empty() => "asked for, of any authority".to_owned(),
            Some(request) => {
                let names = request.authorities.iter().take(MAXIMUM_NAMES).map(|name| shown_name(name));
                let names = names.collect::<Vec<_>>().join("; ");
                format!("asked for, of {} authorities: {names}", request.authorities.len())
            }
        };
        line(text, "client certificate", &asked);
        for (name, attempt) in [("  without", &seen.absent), ("  a foreign one", &seen.foreign), ("  yours", &seen.own)]
        {
            let Some(outcome) = attempt.as_ref().and_then(|attempt| attempt.outcome.as_ref()) else { continue };
            line(text, name, &outcome_text(outcome, sender));
        }
    }

    fn findings(&self, text: &mut String, sender: &Sender) {
        for finding in &self.findings {
            let _ = write!(text, "\n{} {}: {}\n", finding.severity, finding.kind.id(), finding.detail);
            let _ = writeln!(text, "  then: {}", finding.kind.consequence(sender));
            let _ = writeln!(text, "  mend: {}", finding.kind.mend());
        }
        let count = |severity| self.findings.iter().filter(|finding| finding.severity == severity).count();
        let (faults, warnings) = (count(Severity::Fault), count(Severity::Warning));
        let counted = |number: usize, what: &str| format!("{number} {what}{}", if number == 1 { "" } else { "s" });
        let _ = write!(text, "\n{}, {}. ", counted(faults, "fault"), counted(warnings, "warning"));
        let documentation = &sender.documentation;
        let _ = match (faults, warnings) {
            (0, 0) => writeln!(text, "Nothing here keeps {}'s webhooks from arriving.", sender.name),
            _ => writeln!(text, "What {} documents: {documentation}", sender.name),
        };
    }
}

fn line(text: &mut String, name: &str, value: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{name:<20}{value}");
}

/// What a request got, and what the sender does about such an answer to a webhook.
fn outcome_text(outcome: &Result<Answer, ExchangeError>, sender: &Sender) -> String {
    let after = &sender.facts.after;
    let (what, reaction) = match outcome {
        Ok(answer) => {
            let words = answer.reason.as_deref().map(|reason| format!(" {reason}")).unwrap_or_default();
            let milliseconds = answer.first_byte.as_secs_f64() * 1000.0;
            let reaction = match answer.status {
                200..=299 => None,
                429 | 500..=599 => after.failed.as_deref(),
                _ => after.refused.as_deref(),
            };
            (format!("status {}{words}, first byte after {milliseconds:.1} ms", answer.status), reaction)
        }
        Err(ExchangeError::Tls(TlsFailure::Alert(alert))) => {
            (format!("TLS alert {}", alert_name(*alert)), after.handshake.as_deref())
        }
        Err(error @ ExchangeError::Tls(_)) => (error.to_string(), after.handshake.as_deref()),
        Err(error) => (error.to_string(), after.failed.as_deref()),
    };
    match reaction {
        Some(reaction) => format!("{what}; to that, {} {reaction}", sender.name),
        None => what,
    }
}
