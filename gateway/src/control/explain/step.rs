//! What one stage, and one provider, says of the subject.

use hookgate_core::reject::{Refusal, Reject};
use serde::Serialize;

use super::places::Place;
use super::remedy;

/// What a stage says.
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

/// What one stage says.
#[derive(Debug, Serialize)]
pub(super) struct Step {
    pub(super) stage: &'static str,
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
    pub(super) verdict: Verdict,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<&'static str>,
    pub(super) text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) place: Option<Place>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) remedy: Option<String>,
}

impl Step {
    pub(super) fn new(stage: &'static str, verdict: Verdict, text: impl Into<String>) -> Self {
        let (reason, place, remedy) = (None, None, None);
        Self { stage, verdict, reason, text: text.into(), place, remedy, providers: Vec::new() }
    }

    pub(super) fn refused(stage: &'static str, refusal: &Refusal, place: Option<Place>) -> Self {
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
        Self { reason: Some(reject.row().reason), place, remedy, ..Self::new(stage, verdict, text) }
    }
}
