//! What a sender can do wrong: one closed enum, one table with the answer that each deserves.
//!
//! Owns the words, and which answers are the expected ones. Must not send anything: `send` does.

use hookgate_core::reject::Reject;
use rustls::AlertDescription;

use crate::exchange::ExchangeError;
use crate::pki::Flaw;
use crate::tls::{TlsFailure, alert_name};

/// Where a wrong webhook is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// In the connection.
    Connection,
    /// In the client certificate.
    Certificate,
    /// In the proof of the request.
    Proof,
    /// In the request.
    Request,
}

impl Part {
    /// In the list of `--wrong list`.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Connection => "connection",
            Self::Certificate => "client certificate",
            Self::Proof => "proof of the request",
            Self::Request => "request",
        }
    }
}

macro_rules! wrongs {
    ($($(#[$doc:meta])* $name:ident => $id:literal, $part:ident, [$($reject:ident),*], $what:literal;)+) => {
        /// A way to be wrong. The doc of each says what is sent.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Wrong { $($(#[$doc])* $name,)+ }

        impl Wrong {
            /// Every way, in the order of the parts.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            fn row(self) -> (&'static str, Part, &'static [Reject], &'static str) {
                match self { $(Self::$name => ($id, Part::$part, &[$(Reject::$reject),*], $what),)+ }
            }
        }
    };
}

wrongs! {
    /// HTTP without TLS.
    PlainHttp => "plain-http", Connection, [PlainHttp], "HTTP without TLS";
    /// A ClientHello that offers TLS 1.1 at most.
    OldTls => "old-tls", Connection, [TlsVersion, HandshakeFailed], "TLS 1.1 at most";
    /// No certificate, though the sender has one.
    NoCertificate => "no-certificate", Certificate, [NoCertificate], "no client certificate";
    /// A certificate past its last day.
    Expired => "expired", Certificate, [CertificateExpired], "a certificate that expired two days ago";
    /// A certificate before its first day.
    NotYetValid => "not-yet-valid", Certificate, [CertificateNotYetValid], "a certificate that is valid from tomorrow";
    /// A certificate of an authority that the receiver does not know.
    ForeignIssuer => "foreign-issuer", Certificate, [UnknownIssuer], "a certificate of an unknown authority";
    /// A certificate of an authority with the right names and another key.
    Impostor => "impostor", Certificate, [UnknownIssuer, BadSignature], "a certificate of an authority with the right names and another key";
    /// A certificate that signed itself.
    SelfSigned => "self-signed", Certificate, [UnknownIssuer, BadSignature, PathConstraint], "a certificate that signed itself";
    /// A certificate of the right authority for another name.
    WrongName => "wrong-name", Certificate, [IdentityMismatch], "a certificate of the right authority for another name";
    /// A certificate for a name that contains the right one.
    NameAsPart => "name-as-part", Certificate, [IdentityMismatch], "a certificate for a name that begins with the right one";
    /// A certificate for servers.
    ServerAuth => "server-auth", Certificate, [ExtendedKeyUsage], "a certificate for TLS servers only (extended key usage)";
    /// The end entity alone.
    MissingIntermediate => "missing-intermediate", Certificate, [UnknownIssuer], "the certificate without its intermediate";
    /// A path that is longer than the profile allows.
    TooDeep => "too-deep", Certificate, [PathTooLong], "one intermediate too many";
    /// No signature, token or secret.
    NoProof => "no-proof", Proof,
        [SignatureMissing, TokenMissing, SecretMissing, CredentialsMissing, SessionParameterMissing],
        "no signature, token or secret";
    /// A signature, token or secret with one character changed.
    BadProof => "bad-proof", Proof,
        [SignatureMismatch, SignatureMalformed, TokenBadSignature, TokenMalformed, SecretMismatch, CredentialsMismatch, SessionParameterMismatch],
        "a signature, token or secret with one character changed";
    /// A body that was changed after it was signed.
    ChangedBody => "changed-body", Proof, [SignatureMismatch], "a body that was changed after it was signed";
    /// A signed time that is too old.
    StaleTimestamp => "stale-timestamp", Proof, [TimestampOutsideWindow], "a signed time that lies too far back";
    /// A signed time in the future.
    FutureTimestamp => "future-timestamp", Proof, [TimestampOutsideWindow], "a signed time that lies in the future";
    /// The same delivery twice; the second answer counts.
    Duplicate => "duplicate", Request, [DuplicateDelivery], "the same delivery twice: the second must not reach the handler";
    /// No delivery id.
    NoDeliveryId => "no-delivery-id", Request, [DeliveryIdMissing], "no delivery id";
    /// A path that no route has.
    BadPath => "bad-path", Request, [NoRoute], "a path that the receiver does not have";
    /// A method that no webhook has.
    BadMethod => "bad-method", Request, [MethodNotAllowed], "the method DELETE";
    /// `Host` is not the server name of the connection.
    WrongHost => "wrong-host", Request, [Misdirected, NoRoute], "another Host than the server name of the connection";
    /// A body that is too long.
    TooLarge => "too-large", Request, [BodyTooLarge], "a body of --body-bytes";
    /// A head that is too long.
    HeadTooLarge => "head-too-large", Request, [HeadTooLarge], "a header field of 64 KiB";
}

/// What came of a webhook.
pub type Outcome<'a> = Result<(u16, Option<&'a str>), &'a ExchangeError>;

impl Wrong {
    /// The word for `--wrong`.
    #[must_use]
    pub fn id(self) -> &'static str {
        self.row().0
    }

    /// Where it is wrong.
    #[must_use]
    pub fn part(self) -> Part {
        self.row().1
    }

    /// The reasons of hookgate that are right for it.
    #[must_use]
    pub fn reasons(self) -> &'static [Reject] {
        self.row().2
    }

    /// What is sent, in a few words.
    #[must_use]
    pub fn what(self) -> &'static str {
        self.row().3
    }

    /// The way with this word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|wrong| wrong.id() == word)
    }

    /// The flaw of the certificate, if it is wrong there.
    #[must_use]
    pub fn flaw(self) -> Flaw {
        match self {
            Self::Expired => Flaw::Expired,
            Self::NotYetValid => Flaw::NotYetValid,
            Self::ForeignIssuer => Flaw::ForeignIssuer,
            Self::Impostor => Flaw::Impostor,
            Self::SelfSigned => Flaw::SelfSigned,
            Self::WrongName => Flaw::WrongName,
            Self::NameAsPart => Flaw::NameAsPart,
            Self::ServerAuth => Flaw::ServerAuth,
            Self::MissingIntermediate => Flaw::MissingIntermediate,
            Self::TooDeep => Flaw::TooDeep,
            _ => Flaw::None,
        }
    }

    /// The reasons that are right for it if no certificate is presented (`is_anonymous`): at a host where other senders have one, such a sender
    /// does not learn which paths and methods there are.
    fn reasons_for(self, is_anonymous: bool) -> impl Iterator<Item = Reject> {
        let hidden = is_anonymous && matches!(self, Self::BadPath | Self::BadMethod);
        self.reasons().iter().copied().chain(hidden.then_some(Reject::NoCertificate))
    }

    /// What answer is expected, in a few words; `is_anonymous` if no certificate is presented.
    #[must_use]
    pub fn expectation(self, is_anonymous: bool) -> String {
        let reasons = self.reasons_for(is_anonymous).map(|reject| reject.row().reason).collect::<Vec<_>>().join(" or ");
        match self {
            Self::Duplicate => format!("a status 2xx, or 409 {reasons}"),
            Self::PlainHttp => format!("a status 4xx ({reasons}), or a closed connection"),
            _ if self.is_refused_below_http() => format!("a TLS alert, or a status 4xx or 503 ({reasons})"),
            _ => format!("a status 4xx ({reasons})"),
        }
    }

    /// Whether a receiver may refuse it by ending the connection.
    fn is_refused_below_http(self) -> bool {
        matches!(self.part(), Part::Connection | Part::Certificate)
    }

    /// Whether `outcome` is the right one; `is_anonymous` if no certificate is presented. A receiver that names hookgate's reasons must name a
    /// right one; of any other a refusal suffices.
    #[must_use]
    pub fn is_expected(self, outcome: Outcome<'_>, is_anonymous: bool) -> bool {
        match outcome {
            Ok((_, Some(reason))) => self.reasons_for(is_anonymous).any(|reject| reject.row().reason == reason),
            Ok((status, None)) => match self {
                Self::Duplicate => matches!(status, 200..=299 | 409),
                _ => (400..=599).contains(&status) && !matches!(status, 500 | 502 | 504),
            },
            Err(ExchangeError::Tls(TlsFailure::Alert(alert))) => {
                self.is_refused_below_http() && !is_own_failure(*alert)
            }
            Err(ExchangeError::Tls(TlsFailure::Closed)) => self.is_refused_below_http(),
            // The answer to plain HTTP may be TLS.
            Err(ExchangeError::NotHttp(_)) => self == Self::PlainHttp,
            Err(_) => false,
        }
    }

    /// Whether `outcome` is a refusal without a reason of hookgate. One of hookgate has one, so behind hookgate the handler has answered. Not of
    /// plain HTTP: that has no way to a handler, and hookgate says in plain text what is wrong.
    #[must_use]
    pub fn is_unexplained(self, outcome: Outcome<'_>) -> bool {
        self != Self::PlainHttp && matches!(outcome, Ok((400..=599, None)))
    }
}

/// An alert with which a server says that it failed itself.
fn is_own_failure(alert: AlertDescription) -> bool {
    matches!(alert, AlertDescription::InternalError)
}

/// An outcome in a few words: `403 unknown_issuer`, `TLS alert unknown_ca`.
#[must_use]
pub fn describe(outcome: Outcome<'_>) -> String {
    match outcome {
        Ok((status, Some(reason))) => format!("{status} {reason}"),
        Ok((status, None)) => status.to_string(),
        Err(ExchangeError::Tls(TlsFailure::Alert(alert))) => format!("TLS alert {}", alert_name(*alert)),
        Err(error) => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::time::Duration;

    use super::*;

    #[test]
    fn ids_differ_and_each_has_a_reason() {
        let ids: HashSet<&str> = Wrong::ALL.iter().map(|wrong| wrong.id()).collect();
        assert_eq!(ids.len(), Wrong::ALL.len());
        for wrong in Wrong::ALL {
            assert!(!wrong.reasons().is_empty());
            assert_eq!(Wrong::parse(wrong.id()), Some(*wrong));
        }
    }

    #[test]
    fn the_page_has_every_way_with_a_reason() {
        let page = include_str!("../../../docs/send.md");
        for wrong in Wrong::ALL {
            let start = format!("| `{}` | ", wrong.id());
            let row = page.lines().find(|line| line.starts_with(&start)).unwrap_or_default();
            // Rows with many reasons name the first, and leave the others out.
            let count = if row.contains('…') { 1 } else { usize::MAX };
            for reject in wrong.reasons().iter().take(count) {
                let reason = format!("`{}`", reject.row().reason);
                assert!(row.contains(&reason), "{start} {reason}: {row}");
            }
        }
    }

    #[test]
    fn success_is_never_expected_but_for_a_duplicate() {
        for wrong in Wrong::ALL {
            for is_anonymous in [false, true] {
                let is_expected = |outcome| wrong.is_expected(outcome, is_anonymous);
                assert_eq!(is_expected(Ok((200, None))), *wrong == Wrong::Duplicate, "{wrong:?}");
                assert!(!is_expected(Ok((403, Some("internal")))), "{wrong:?}");
                assert!(!is_expected(Ok((502, None))), "{wrong:?}");
                assert!(!is_expected(Err(&ExchangeError::TimedOut(Duration::ZERO))), "{wrong:?}");
                for reject in wrong.reasons() {
                    assert!(is_expected(Ok((reject.row().status, Some(reject.row().reason)))), "{wrong:?}");
                }
            }
        }
    }

    #[test]
    fn a_refusal_without_a_reason_may_be_of_the_handler() {
        for status in [404, 405, 501] {
            assert!(Wrong::BadMethod.is_expected(Ok((status, None)), false));
            assert!(Wrong::BadMethod.is_unexplained(Ok((status, None))));
        }
        assert!(!Wrong::BadMethod.is_unexplained(Ok((405, Some("method_not_allowed")))));
        assert!(!Wrong::Duplicate.is_unexplained(Ok((202, None))));
    }

    #[test]
    fn a_sender_without_a_certificate_need_not_learn_which_routes_there_are() {
        let hidden = Ok((403, Some("no_certificate")));
        for wrong in Wrong::ALL {
            let is_about_route = matches!(wrong, Wrong::BadPath | Wrong::BadMethod);
            assert_eq!(wrong.is_expected(hidden, true), is_about_route || *wrong == Wrong::NoCertificate, "{wrong:?}");
            assert_eq!(wrong.is_expected(hidden, false), *wrong == Wrong::NoCertificate, "{wrong:?}");
        }
        assert_eq!(Wrong::BadPath.expectation(true), "a status 4xx (no_route or no_certificate)");
        assert_eq!(Wrong::BadPath.expectation(false), "a status 4xx (no_route)");
    }

    #[test]
    fn an_alert_is_right_for_a_certificate_and_not_for_a_signature() {
        let alert = ExchangeError::Tls(TlsFailure::Alert(AlertDescription::UnknownCA));
        assert!(Wrong::ForeignIssuer.is_expected(Err(&alert), false));
        assert!(!Wrong::BadProof.is_expected(Err(&alert), false));
        let internal = ExchangeError::Tls(TlsFailure::Alert(AlertDescription::InternalError));
        assert!(!Wrong::ForeignIssuer.is_expected(Err(&internal), false));
        assert_eq!(describe(Err(&alert)), "TLS alert unknown_ca");
    }
}
