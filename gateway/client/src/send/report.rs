//! What `hookgate send` prints: for a person, or as JSON.
//!
//! Owns the words and the schema. Must not send.

use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;

use super::{Delivered, Job, Summary, view};
use crate::attempt::Handshake;
use crate::chain::Root;
use crate::exchange::{Answer, ExchangeError};
use crate::wrong::{self, Part, Wrong};

/// The version of the JSON document. Raised if a member changes its meaning or goes.
const SCHEMA: u32 = 1;

/// What the caller knows beside the job, to print.
#[derive(Clone, Debug, Default)]
pub struct Context {
    /// The certificate that is presented: `CN=…, of …`.
    pub presents: String,
    /// What the receiver must trust, and other advice, a line each.
    pub advice: Vec<String>,
}

/// The result of a run.
#[derive(Debug)]
pub enum Sent {
    /// Of one webhook.
    One(Box<Delivered>),
    /// Of many.
    Many(Summary),
}

#[derive(Serialize)]
struct Document<'a> {
    schema: u32,
    url: &'a str,
    r#as: &'a str,
    wrong: Option<&'static str>,
    expected: String,
    as_expected: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    handshake: Option<&'a Handshake>,
    #[serde(skip_serializing_if = "Option::is_none")]
    server_root: Option<&'a Root>,
    #[serde(skip_serializing_if = "Option::is_none")]
    answer: Option<&'a Answer>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    load: Option<&'a Summary>,
}

fn expectation(job: &Job<'_>) -> String {
    job.plan.wrong.map_or_else(|| "a status 2xx".to_owned(), |wrong| wrong.expectation(job.is_anonymous()))
}

impl Sent {
    /// Whether every answer to `job` was the expected one.
    #[must_use]
    pub fn is_expected(&self, job: &Job<'_>) -> bool {
        match self {
            Self::One(delivered) => delivered.is_expected(job),
            Self::Many(summary) => summary.as_expected == summary.count,
        }
    }

    /// Whether a refusal names no reason of hookgate, so that a handler behind hookgate may have written it.
    fn may_be_of_the_handler(&self, job: &Job<'_>) -> bool {
        match self {
            Self::One(delivered) => job.plan.wrong.is_some_and(|wrong| wrong.is_unexplained(view(&delivered.outcome))),
            Self::Many(_) => false,
        }
    }

    /// As JSON, on one line.
    #[must_use]
    pub fn json(&self, job: &Job<'_>) -> String {
        let wrong = job.plan.wrong;
        let one = match self {
            Self::One(delivered) => Some(delivered.as_ref()),
            Self::Many(_) => None,
        };
        let document = Document {
            schema: SCHEMA,
            url: &job.plan.target.url,
            r#as: &job.plan.sender.name,
            wrong: wrong.map(Wrong::id),
            expected: expectation(job),
            as_expected: self.is_expected(job),
            handshake: one.and_then(|delivered| delivered.handshake.as_ref()),
            server_root: one.and_then(|delivered| delivered.server.as_ref()?.root.as_ref()),
            answer: one.and_then(|delivered| delivered.outcome.as_ref().ok()),
            failure: one.and_then(|delivered| Some(failure(delivered.outcome.as_ref().err()?))),
            load: match self {
                Self::Many(summary) => Some(summary),
                Self::One(_) => None,
            },
        };
        // Strings, numbers and lists always serialize.
        serde_json::to_string(&document).unwrap_or_default()
    }

    /// For a person.
    #[must_use]
    pub fn text(&self, job: &Job<'_>, context: &Context) -> String {
        let mut text = String::new();
        let (plan, sender) = (&job.plan, job.plan.sender);
        let mut line = |name: &str, value: &str| {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{name:<10} {value}");
        };
        line("to", &plan.target.url);
        line("as", &format!("{} ({})", sender.name, sender.title));
        line("presents", &context.presents);
        for advice in &context.advice {
            line("", advice);
        }
        line("proof", plan.proof.map_or("none", |(proof, _)| proof.kind()));
        if let Some(wrong) = plan.wrong {
            line("wrong", wrong.what());
        }
        match self {
            Self::One(delivered) => one(&mut line, delivered, sender.facts.timeout),
            Self::Many(summary) => many(&mut line, summary),
        }
        let verdict = match (self.is_expected(job), self.may_be_of_the_handler(job)) {
            (false, _) => "NO",
            (true, false) => "yes",
            (true, true) => {
                "yes; if the receiver is hookgate, its handler answered, since hookgate itself names a reason in each refusal"
            }
        };
        line("expected", &format!("{}: {verdict}", expectation(job)));
        text
    }
}

fn milliseconds(duration: Duration) -> String {
    format!("{:.1} ms", duration.as_secs_f64() * 1000.0)
}

fn failure(error: &ExchangeError) -> String {
    wrong::describe(Err(error))
}

fn one(line: &mut impl FnMut(&str, &str), delivered: &Delivered, timeout: Option<Duration>) {
    if let Some(handshake) = &delivered.handshake {
        let value = format!(
            "TLS {}, {}, connected in {}, handshake {}",
            handshake.tls_version,
            handshake.cipher_suite,
            milliseconds(handshake.connected),
            milliseconds(handshake.handshake)
        );
        line("handshake", &value);
    }
    if let Some(server) = &delivered.server {
        let subject = server.certificates.first().map_or("no certificate", |view| view.subject.as_str());
        let under = match &server.root {
            Some(root) if root.is_public => format!("under {} (Mozilla's list)", root.name),
            Some(root) => format!("under {} (--root)", root.name),
            None => "not trusted (--insecure)".to_owned(),
        };
        line("server", &format!("{subject}, {under}"));
    }
    if let Some(first) = &delivered.first {
        line("first", &wrong::describe(view(first)));
    }
    let mut value = wrong::describe(view(&delivered.outcome));
    if let Ok(answer) = &delivered.outcome {
        let _ = write!(value, ", first byte after {}", milliseconds(answer.first_byte));
        if let Some(timeout) = timeout {
            let _ = write!(value, " (the sender waits {} s)", timeout.as_secs_f64());
        }
    }
    line("answer", &value);
    let answer = delivered.outcome.as_ref().ok();
    if let Some(words) = answer.and_then(|answer| answer.words.as_deref()) {
        line("", words);
    }
    if let Some(id) = answer.and_then(|answer| answer.request_id.as_deref()) {
        line("", &format!("at the receiver, hookgate explain {id} says which line of its configuration decides"));
    }
}

fn many(line: &mut impl FnMut(&str, &str), summary: &Summary) {
    let rate = f64::from(summary.count) / summary.seconds.max(0.001);
    line("sent", &format!("{} webhooks in {:.1} s, {rate:.1} per second", summary.count, summary.seconds));
    for (outcome, count) in &summary.outcomes {
        line("", &format!("{count:>7}  {outcome}"));
    }
    line("latency", "       p50        p90        p99        max");
    for (name, found) in [("whole", summary.whole_ms), ("first byte", summary.first_byte_ms)] {
        let value = format!("{:>7.1} ms {:>7.1} ms {:>7.1} ms {:>7.1} ms", found.p50, found.p90, found.p99, found.max);
        line(name, &value);
    }
}

/// The list of `--wrong list`.
#[must_use]
pub fn list() -> String {
    let mut text = String::new();
    for part in [Part::Connection, Part::Certificate, Part::Proof, Part::Request] {
        let _ = writeln!(text, "{}", part.title());
        for wrong in Wrong::ALL.iter().filter(|wrong| wrong.part() == part) {
            let _ = writeln!(text, "  {:<22}{}", wrong.id(), wrong.what());
            let _ = writeln!(text, "  {:<22}  expected: {}", "", wrong.expectation(false));
        }
    }
    text
}
