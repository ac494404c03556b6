//! What one stage, and one provider, says of the subject.

use hookgate_core::reject::{Refusal, Reject};
use serde::Serialize;

use super::places::Place;
use super::remedy;

/// What a stage or a provider says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Verdict {
    /// It lets the subject pass.
    Passes,
    /// It refuses it.
    Refused,
    /// Not without something that only the daemon has, or had.
    Unknown,
    /// It does not concern the subject, as far as that is described.
    Skipped,
}

impl Verdict {
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Passes => "passes",
            Self::Refused => "refused",
            Self::Unknown => "unknown",
            Self::Skipped => "-",
        }
    }

    pub(super) fn is_passed(self) -> bool {
        matches!(self, Self::Passes | Self::Skipped)
    }
}

/// A verdict with its grounds.
#[derive(Debug, Serialize)]
pub(super) struct Said {
    pub(super) verdict: Verdict,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<&'static str>,
    pub(super) text: String,
    /// What decides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) place: Option<Place>,
    /// What would help.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) remedy: Option<String>,
}

/// What one stage says.
#[derive(Debug, Serialize)]
pub(super) struct Step {
    pub(super) stage: &'static str,
    #[serde(flatten)]
    pub(super) said: Said,
    /// At `identity`: what each provider of the server name says.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) providers: Vec<OfProvider>,
}

/// What one provider says of the chain.
#[derive(Debug, Serialize)]
pub(super) struct OfProvider {
    pub(super) name: String,
    /// Whether the route admits it; absent without a route.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) is_of_route: Option<bool>,
    #[serde(flatten)]
    pub(super) said: Said,
}

impl Said {
    pub(super) fn new(verdict: Verdict, text: impl Into<String>) -> Self {
        Self { verdict, reason: None, text: text.into(), place: None, remedy: None }
    }

    /// A refusal, with what the table of reasons says that can be done.
    pub(super) fn refused(refusal: &Refusal) -> Self {
        let reject = refusal.reject;
        // What is fetched is the daemon's: here it is never there.
        let is_of_daemon =
            matches!(reject, Reject::RangesUnavailable | Reject::KeysUnavailable | Reject::RevocationListUnavailable);
        let verdict = if is_of_daemon { Verdict::Unknown } else { Verdict::Refused };
        let text = match is_of_daemon {
            true => format!("{} The daemon fetches this; here it is unknown.", refusal.detail()),
            false => refusal.detail().to_owned(),
        };
        let remedy = Some(remedy::general(reject));
        Self { reason: Some(reject.row().reason), remedy, ..Self::new(verdict, text) }
    }
}

impl Step {
    pub(super) fn new(stage: &'static str, verdict: Verdict, text: impl Into<String>) -> Self {
        Self { stage, said: Said::new(verdict, text), providers: Vec::new() }
    }

    pub(super) fn refused(stage: &'static str, refusal: &Refusal, place: Option<Place>) -> Self {
        Self { stage, said: Said::refused(refusal), providers: Vec::new() }.at(place)
    }

    /// With what decides.
    pub(super) fn at(mut self, place: Option<Place>) -> Self {
        self.said.place = place;
        self
    }

    /// With what would help.
    pub(super) fn advising(mut self, remedy: Option<String>) -> Self {
        self.said.remedy = remedy;
        self
    }
}
