//! Why there is no certificate: the step that failed, and one sentence.
//!
//! Owns the steps, and the bound of what an authority says in the log. Must not decide what follows: `task` does.

use std::error::Error as _;
use std::fmt;

use instant_acme::{Error, Problem};

/// The most characters of a server's words in a line of the log.
const MAXIMUM_CHARACTERS: usize = 400;

/// A step on the way to a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The directory of the authority is read.
    Directory,
    /// An account is made, or changed.
    Account,
    /// A certificate is asked for.
    Order,
    /// The authority verifies the names.
    Challenge,
    /// The key is sent, and the certificate fetched.
    Finalize,
    /// What came is judged and put in use.
    Certificate,
    /// It is kept in the state directory.
    State,
}

impl Step {
    /// The value of the label `result`.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Directory => "directory",
            Self::Account => "account",
            Self::Order => "order",
            Self::Challenge => "challenge",
            Self::Finalize => "finalize",
            Self::Certificate => "certificate",
            Self::State => "state",
        }
    }

    /// Whether the authority has no work with an attempt that ends at this step.
    pub(super) fn is_free(self) -> bool {
        matches!(self, Self::Directory | Self::State)
    }
}

/// An attempt that failed.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) step: Step,
    text: String,
}

impl Failure {
    pub(super) fn new(step: Step, why: impl fmt::Display) -> Self {
        Self { step, text: brief(&why.to_string()) }
    }

    /// An error of the client at this step.
    pub(super) fn of(step: Step) -> impl Fn(Error) -> Self {
        move |error| match error {
            Error::Api(problem) => Self::new(step, of_problem(&problem)),
            Error::Timeout(_) => Self::new(step, "the authority did not come to a result in time"),
            // The error of the transport says it all.
            Error::Other(other) => Self::new(step, other),
            error => match error.source() {
                Some(source) => Self::new(step, format!("the answer cannot be understood: {source}")),
                None => Self::new(step, format!("the answer cannot be understood: {error}")),
            },
        }
    }

    /// The value of the label `result` of an attempt that ended with this failure, or without one.
    pub(super) fn result(failure: Option<&Self>) -> &'static str {
        failure.map_or("ok", |failure| failure.step.label())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

/// What a problem document says (RFC 8555, section 6.7).
pub(super) fn of_problem(problem: &Problem) -> String {
    let kind = problem.r#type.as_deref().unwrap_or("about:blank");
    let kind = kind.strip_prefix("urn:ietf:params:acme:error:").unwrap_or(kind);
    let details = problem.subproblems.iter().map(|sub| sub.to_string());
    let details: Vec<String> = problem.detail.iter().cloned().chain(details).collect();
    format!("{kind}: {}", details.join("; "))
}

/// Bounded, and on one line.
fn brief(text: &str) -> String {
    let mut characters = text.chars().map(|character| if character.is_control() { ' ' } else { character });
    let mut brief: String = characters.by_ref().take(MAXIMUM_CHARACTERS).collect();
    if characters.next().is_some() {
        brief.push('…');
    }
    brief
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_a_server_are_bounded_and_on_one_line() {
        assert_eq!(brief("a\nb\u{7f}c"), "a b c");
        assert_eq!(brief(&"ü".repeat(1000)).chars().count(), MAXIMUM_CHARACTERS + 1);
    }
}
