//! `session_parameter`: the place of the parameter in the body, and its expected value.
//!
//! Owns its keys. Must not judge bodies: `auth::session_parameter` does.

use serde::Deserialize;
use toml::Spanned;

use super::secret::{self, RawSecret};
use super::signature::{RawEncoding, report_no_effect};
use super::token::{self, RawToken};
use crate::config::document;
use crate::config::error::{Problem, ProofProblem};
use crate::config::key_source::KeySources;
use crate::config::report::Report;
use hookgate_client::sender::Proof as SenderProof;
use hookgate_core::auth::json_pointer::JsonPointerError;
use hookgate_core::auth::session_parameter::SessionParameterError;
use hookgate_core::auth::{JsonPointer, SessionParameter};

/// The placeholder in a pointer for the name of the parameter.
const NAME: &str = "{name}";

/// The line that completes a preset's proof, for a message.
pub(super) const COMPLETION: &str =
    "session_parameter = { name = \"webhook_token\", secrets = [{ file = \"session.secret\" }] }";

const WRITE_NAME: &str = "name = \"webhook_token\": the name of the parameter that your server puts into the session";
const WRITE_POINTER: &str =
    "pointer = \"/sessionInfo/parameters/webhook_token\": the place of the parameter in the body";
const WRITE_SESSION_POINTER: &str =
    "session_pointer = \"/sessionInfo/session\": the place of the session's name in the body";

/// `session_parameter`, as written in the file.
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
    /// These fields; a field that is absent is taken from `preset`.
    pub(super) fn over(self, preset: &Self) -> Self {
        let preset = preset.clone();
        // Only an HMAC or a token depends on the session; `secrets` do not.
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

    /// How the sender shows it.
    pub(super) fn sender_proof(&self) -> SenderProof {
        match &self.pointer {
            Some(pointer) => SenderProof::SessionParameter(pointer.get_ref().clone()),
            None => SenderProof::Unsupported("the preset leaves the place of the session parameter open"),
        }
    }

    /// The place of the parameter, for `hookgate providers`.
    pub(super) fn describe(&self) -> &str {
        self.pointer.as_ref().map_or("a place that you name", |pointer| pointer.get_ref())
    }
}

/// Parses a session parameter; reports errors.
pub(super) fn parse(
    raw: &Spanned<RawSessionParameter>,
    sources: &mut KeySources<'_>,
    report: &mut Report<'_>,
) -> Option<SessionParameter> {
    let fields = raw.get_ref();
    let pointer = place(raw, report);
    let session = fields.session_pointer.as_ref().map(|text| pointer_at(text, text.get_ref(), report));
    if let (Some(at), None) = (&fields.encoding, &fields.hmac_secrets) {
        report_no_effect([at.span()], "without hmac_secrets", report);
    }
    let result = match (&fields.secrets, &fields.hmac_secrets, &fields.token) {
        (Some(secrets), None, None) => {
            let session = fields.session_pointer.as_ref().map(Spanned::span);
            report_no_effect(session, "with secrets, which are the same in every session", report);
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
            report.missing_one_of(raw, "secrets", &keys, ProofProblem::Parameter.into());
            return None;
        }
    };
    result.map_err(|error: SessionParameterError| report.error(raw, ProofProblem::from(error).into())).ok()
}

/// Reports what is wrong with the part of a preset, to which the operator adds.
pub(super) fn check_preset(raw: &Spanned<RawSessionParameter>, report: &mut Report<'_>) {
    let RawSessionParameter { pointer, session_pointer, .. } = raw.get_ref();
    for pointer in [pointer, session_pointer].into_iter().flatten() {
        pointer_at(pointer, &pointer.get_ref().replace(NAME, "any"), report);
    }
}

/// The pointer to the parameter, with its name in place of `{name}`.
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
            report_no_effect([name.span()], "without {name} in pointer", report);
            None
        }
        (Some(name), true) if name.get_ref().is_empty() => {
            report.error(name, Problem::Empty { write: WRITE_NAME });
            None
        }
        (Some(name), true) => {
            // RFC 6901, section 3: "~" and "/" in a name are escaped.
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
    JsonPointer::parse(text).map_err(|error: JsonPointerError| ProofProblem::from(error).into())
}
