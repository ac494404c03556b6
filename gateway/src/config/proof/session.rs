//! `session_parameter`: where it stands in the body, and what it must be.
//!
//! Owns its keys. What they mean is `auth::session`'s.

use serde::Deserialize;
use toml::Spanned;

use super::secret::{self, RawSecret};
use super::signature::{RawEncoding, meaningless};
use super::token::{self, RawToken};
use crate::config::document;
use crate::config::error::{Problem, ProofProblem};
use crate::config::key_source::KeySources;
use crate::config::report::Report;
use hookgate_core::auth::pointer::PointerError;
use hookgate_core::auth::session::SessionParameterError;
use hookgate_core::auth::{JsonPointer, SessionParameter};

/// What stands in a pointer for the name of the parameter.
const NAME: &str = "{name}";

/// The line that completes what a preset says, for people.
pub(super) const COMPLETION: &str =
    "session_parameter = { name = \"webhook_token\", secrets = [{ file = \"session.secret\" }] }";

const WRITE_NAME: &str = "name = \"webhook_token\": what your server calls the parameter that it puts into the session";
const WRITE_POINTER: &str =
    "pointer = \"/sessionInfo/parameters/webhook_token\": where the parameter stands in the body";
const WRITE_SESSION_POINTER: &str = "session_pointer = \"/sessionInfo/session\": where the session's name stands";

/// `session_parameter` as it stands in the file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawSessionParameter {
    name: Option<Spanned<String>>,
    pointer: Option<Spanned<String>>,
    session_pointer: Option<Spanned<String>>,
    #[serde(default, deserialize_with = "document::tables")]
    secrets: Option<Spanned<Vec<Spanned<RawSecret>>>>,
    #[serde(default, deserialize_with = "document::tables")]
    hmac_secrets: Option<Spanned<Vec<Spanned<RawSecret>>>>,
    encoding: Option<Spanned<RawEncoding>>,
    #[serde(default, deserialize_with = "document::table")]
    token: Option<Spanned<RawToken>>,
}

impl RawSessionParameter {
    /// These fields, and where there are none those of a preset.
    pub(super) fn over(self, preset: &Self) -> Self {
        let preset = preset.clone();
        // What a preset says about sessions is there for the parameters that depend on them.
        let session_pointer = preset.session_pointer.filter(|_| self.secrets.is_none());
        Self {
            name: self.name.or(preset.name),
            pointer: self.pointer.or(preset.pointer),
            session_pointer: self.session_pointer.or(session_pointer),
            secrets: self.secrets.or(preset.secrets),
            hmac_secrets: self.hmac_secrets.or(preset.hmac_secrets),
            encoding: self.encoding.or(preset.encoding),
            token: self.token.or(preset.token),
        }
    }

    /// Where it stands, for people.
    pub(super) fn describe(&self) -> &str {
        self.pointer.as_ref().map_or("a place that you name", |pointer| pointer.get_ref())
    }
}

/// Parses a session parameter; what is wrong is reported.
pub(super) fn parse(
    raw: &Spanned<RawSessionParameter>,
    sources: &mut KeySources<'_>,
    report: &mut Report<'_>,
) -> Option<SessionParameter> {
    let fields = raw.get_ref();
    let pointer = place(raw, report);
    let session = fields.session_pointer.as_ref().map(|text| pointer_at(text, text.get_ref(), report));
    if let (Some(at), None) = (&fields.encoding, &fields.hmac_secrets) {
        meaningless([at.span()], "without hmac_secrets", report);
    }
    let result = match (&fields.secrets, &fields.hmac_secrets, &fields.token) {
        (Some(secrets), None, None) => {
            let session = fields.session_pointer.as_ref().map(Spanned::span);
            meaningless(session, "beside secrets, which are the same in every session", report);
            let secrets = secret::secrets(secrets, report);
            SessionParameter::secret(pointer?, secrets?)
        }
        (None, Some(secrets), None) => {
            if session.is_none() {
                report.missing(raw, "session_pointer", WRITE_SESSION_POINTER);
            }
            let secrets = secret::secrets(secrets, report);
            let encoding = fields.encoding.as_ref().map(|raw| (*raw.get_ref()).into()).unwrap_or_default();
            SessionParameter::hmac(pointer?, session??, &secrets?, encoding)
        }
        (None, None, Some(token)) => {
            let rule = token::parse(token, session.is_some(), sources, report);
            let session = session.map_or(Some(None), |session| session.map(Some))?;
            Ok(SessionParameter::token(pointer?, rule?, session))
        }
        _ => {
            let keys = ["hmac_secrets", "token"];
            report.missing_all(raw, "secrets", &keys, ProofProblem::Parameter.into());
            return None;
        }
    };
    result.map_err(|error: SessionParameterError| report.error(raw, ProofProblem::from(error).into())).ok()
}

/// Where the parameter stands, its name put in.
fn place(raw: &Spanned<RawSessionParameter>, report: &mut Report<'_>) -> Option<JsonPointer> {
    let fields = raw.get_ref();
    let Some(pointer) = &fields.pointer else {
        report.missing(raw, "pointer", WRITE_POINTER);
        return None;
    };
    match (&fields.name, pointer.get_ref().contains(NAME)) {
        (None, true) => {
            report.missing(raw, "name", WRITE_NAME);
            None
        }
        (None, false) => pointer_at(pointer, pointer.get_ref(), report),
        (Some(name), false) => {
            meaningless([name.span()], "without {name} in pointer", report);
            None
        }
        (Some(name), true) if name.get_ref().is_empty() => {
            report.error(name, Problem::Empty { write: WRITE_NAME });
            None
        }
        (Some(name), true) => {
            // RFC 6901, section 3: what a name may not hold as it is.
            let escaped = name.get_ref().replace('~', "~0").replace('/', "~1");
            pointer_at(pointer, &pointer.get_ref().replace(NAME, &escaped), report)
        }
    }
}

fn pointer_at(at: &Spanned<String>, text: &str, report: &mut Report<'_>) -> Option<JsonPointer> {
    parse_pointer(text).map_err(|problem| report.error(at, problem)).ok()
}

/// Parses a JSON pointer.
pub(super) fn parse_pointer(text: &str) -> Result<JsonPointer, Problem> {
    JsonPointer::parse(text).map_err(|error: PointerError| ProofProblem::from(error).into())
}
