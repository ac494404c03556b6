//! What an operator adds to the proof of a preset, one value at a time, for `hookgate init`.
//!
//! Owns which values a clause lacks, and how each is asked for. Must not ask, and must not judge an answer: the parsers do.

use super::{Kind, PresetProofs, RawClause};

/// A value that only the operator knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addition {
    /// Its name, such as `signature.secrets`: a key of `[[provider]]`, or of a `[[key_source]]`.
    pub key: &'static str,
    /// What it is, as the end of a question.
    pub what: String,
    /// How it is written.
    pub form: AdditionForm,
}

/// How a value that the operator adds is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdditionForm {
    /// A file that the operator brings, with the ending of its usual name.
    File(FileKind),
    /// A text, with its usual value.
    Text(Option<Usual>),
    /// `true`, which the operator writes on purpose.
    Consent,
}

/// Which file, and its usual name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// A secret: the name of the provider and `.secret`.
    Secret,
    /// A public key: this name; without one, the name of the provider and `.pem`.
    PublicKey(Option<String>),
    /// Trust anchors: this name; without one, the name of the provider and `-ca.pem`.
    TrustAnchors(Option<String>),
}

/// What a value usually is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usual {
    /// The URL of the webhook.
    WebhookUrl,
    /// The name of the provider.
    ProviderName,
    /// This text.
    Text(&'static str),
}

impl Addition {
    /// A text that has no usual value.
    pub(in crate::config) fn text(key: &'static str, what: &str) -> Self {
        Self { key, what: what.to_owned(), form: AdditionForm::Text(None) }
    }

    /// A text with a usual value.
    pub(super) fn usually(key: &'static str, what: &str, usual: Usual) -> Self {
        Self { key, what: what.to_owned(), form: AdditionForm::Text(Some(usual)) }
    }

    /// A file with a secret.
    pub(super) fn secret(key: &'static str, what: &str) -> Self {
        Self { key, what: what.to_owned(), form: AdditionForm::File(FileKind::Secret) }
    }

    /// Another file.
    pub(in crate::config) fn file(key: &'static str, what: String, kind: FileKind) -> Self {
        Self { key, what, form: AdditionForm::File(kind) }
    }
}

impl Kind {
    /// As it is written on the command line.
    fn text(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::SessionParameter => "session-parameter",
            Self::Signature => "signature",
            Self::Secret => "secret",
            Self::Basic => "basic",
        }
    }

    /// Whether it is the same in every request.
    fn is_static(self) -> bool {
        matches!(self, Self::SessionParameter | Self::Secret | Self::Basic)
    }
}

impl PresetProofs {
    /// The kinds among which the operator chooses; one, or none, leaves no choice.
    pub(in crate::config) fn alternatives(&self) -> Vec<&'static str> {
        let Some(clause) = &self.proof else { return Vec::new() };
        let mut kinds: Vec<&str> = clause.kinds_in_order().map(Kind::text).collect();
        kinds.dedup();
        if clause.any.is_none() { Vec::new() } else { kinds }
    }

    /// What completes the proof, with the alternative called `chosen`, or the first one. `has_certificate` says whether a certificate proves
    /// the sender too.
    pub(in crate::config) fn additions(&self, chosen: Option<&str>, has_certificate: bool) -> Vec<Addition> {
        let Some(clause) = &self.proof else { return Vec::new() };
        let is_chosen =
            |part: &&RawClause| chosen.is_none_or(|name| part.kinds_in_order().any(|kind| kind.text() == name));
        let part = match &clause.any {
            Some(_) => clause.parts().find(is_chosen),
            None => Some(clause),
        };
        let Some(part) = part else { return Vec::new() };
        let mut additions = part.additions(self.key_file.as_ref());
        let is_static = part.kinds_in_order().all(Kind::is_static);
        if is_static && !has_certificate {
            let what = "a copy of one request would permit any other, because the credential is the same in every request; is \
                        that sufficient here"
                .to_owned();
            additions.push(Addition { key: "unsafe_static_secret_suffices", what, form: AdditionForm::Consent });
        }
        if is_static && self.replay.is_some() {
            additions
                .push(Addition::text("replay.id_header", "the header field with the id of a delivery, to find copies"));
        }
        additions
    }
}

impl RawClause {
    /// The kinds of its proofs, in the order of the preset.
    fn kinds_in_order(&self) -> impl Iterator<Item = Kind> {
        self.kinds().into_iter()
    }

    /// What it lacks. `key_file` is the file with the public key of the sender, and the page that shows it.
    fn additions(&self, key_file: Option<&(String, String)>) -> Vec<Addition> {
        let mut additions: Vec<Addition> = self.parts().flat_map(|part| part.additions(key_file)).collect();
        additions.extend(self.token.iter().flat_map(|token| token.get_ref().additions()));
        if self.session_parameter.is_some() {
            let what = "the name of the parameter that your server puts into the session";
            additions.push(Addition::usually("session_parameter.name", what, Usual::Text("webhook_token")));
            additions.push(Addition::secret("session_parameter.secrets", "a file with the value of the parameter"));
        }
        additions.extend(self.signature.iter().flat_map(|signature| signature.get_ref().additions(key_file)));
        if self.secret.is_some() {
            additions.push(Addition::secret("secret.secrets", "a file with the secret that the sender shows"));
        }
        if self.basic.is_some() {
            additions.push(Addition::usually("basic.name", "the user name of the sender", Usual::ProviderName));
            additions.push(Addition::secret("basic.secrets", "a file with the password of the sender"));
        }
        additions
    }
}
