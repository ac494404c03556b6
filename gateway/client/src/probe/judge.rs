//! What is wrong with what was seen, for the sender in question.
//!
//! Pure. Owns the rules. Must not connect, and must not print.

use hookgate_core::identity::comparable_name;
use hookgate_core::reject::Reject;
use rustls::AlertDescription;

use super::{Look, Seen};
use crate::attempt::Attempt;
use crate::exchange::{Answer as HttpAnswer, ExchangeError};
use crate::finding::{Finding, Kind, Severity};
use crate::hello::Answer;
use crate::roots::shown_name;
use crate::sender::ServerRoots;
use crate::suite::{self, TlsVersion};
use crate::tls::alert_name;

/// The most names of authorities in a report.
const MAXIMUM_NAMES: usize = 4;

/// Every finding, the worst first.
pub(super) fn judge(look: &Look<'_>, seen: &Seen) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(error) = &seen.no_connection {
        return vec![Finding::new(Kind::NoConnection, error.to_string())];
    }
    if seen.as_sender == Some(Answer::NotTls) {
        return vec![Finding::new(Kind::NotTls, "the answer to a ClientHello is not TLS")];
    }
    handshake(look, seen, &mut findings);
    chain(look, seen, &mut findings);
    if look.sender.certificate.is_some() {
        certificate_request(look, seen, &mut findings);
    }
    answers(look, seen, &mut findings);
    time(look, seen, &mut findings);
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    findings
}

fn list(versions: &[TlsVersion]) -> String {
    versions.iter().map(|version| version.number()).collect::<Vec<_>>().join(" and ")
}

/// Whether the sender's versions and suites are among the receiver's.
fn handshake(look: &Look<'_>, seen: &Seen, findings: &mut Vec<Finding>) {
    let spoken: Vec<TlsVersion> =
        seen.versions.iter().filter(|(_, speaks)| *speaks).map(|(version, _)| *version).collect();
    let old: Vec<TlsVersion> = spoken.iter().copied().filter(|version| *version < TlsVersion::Tls12).collect();
    if !old.is_empty() {
        findings.push(Finding::new(Kind::OldTls, format!("the receiver still speaks TLS {}", list(&old))));
    }
    let answer = match seen.as_sender {
        Some(Answer::Selected(..)) | None => return,
        Some(Answer::Alert(alert)) => format!("alert {}", alert_name(alert)),
        Some(Answer::Closed | Answer::NotTls) => "a closed connection".to_owned(),
    };
    let wanted = look.versions();
    let (name, sent) = (&look.sender.name, list(&wanted));
    if spoken.is_empty() {
        let detail = match seen.as_sender {
            Some(Answer::Alert(AlertDescription::UnrecognisedName)) => {
                format!("the receiver does not serve the name {} (alert unrecognized_name)", look.target.host)
            }
            // The receiver has other versions, in none of which it agreed with the probe, such as with a group that the probe lacks.
            Some(Answer::Alert(AlertDescription::ProtocolVersion)) => {
                let detail = format!("{name} speaks TLS {sent}, and the receiver has no such version ({answer})");
                findings.push(Finding::new(Kind::TlsVersion, detail));
                return;
            }
            _ => format!("every ClientHello gets {answer}"),
        };
        findings.push(Finding::new(Kind::HandshakeFailed, detail));
    } else if spoken.iter().any(|version| wanted.contains(version)) {
        let detail = format!("the receiver takes none of {name}'s cipher suites in TLS {sent} ({answer})");
        findings.push(Finding::new(Kind::CipherSuite, detail));
    } else if seen.as_sender == Some(Answer::Alert(AlertDescription::HandshakeFailure)) {
        // It knows the sender's version, which it would refuse by protocol_version, and took no suite of those that there are.
        let detail = format!(
            "{name} speaks TLS {sent}, for which the receiver has none of the groups X25519, P-256, P-384 and P-521; in TLS {} it has one ({answer})",
            list(&spoken)
        );
        findings.push(Finding::new(Kind::KeyExchange, detail));
    } else {
        let detail = format!("{name} speaks TLS {sent}, and the receiver only TLS {} ({answer})", list(&spoken));
        findings.push(Finding::new(Kind::TlsVersion, detail));
    }
}

fn chain(look: &Look<'_>, seen: &Seen, findings: &mut Vec<Finding>) {
    if let Some(judged) = &seen.chain {
        let own_is_possible = look.sender.facts.server_roots == ServerRoots::Own;
        findings.extend(judged.findings.iter().cloned().map(|finding| match finding.kind {
            Kind::SelfSigned | Kind::UnknownRoot if own_is_possible => finding.with(Severity::Warning),
            _ => finding,
        }));
        return;
    }
    let usable = look.provider.cipher_suites.iter().any(|suite| seen.suites.contains(&suite.suite()));
    if !seen.suites.is_empty() && !usable {
        let names: Vec<String> = seen.suites.iter().map(|chosen| suite::name(*chosen)).collect();
        let detail =
            format!("of the sender's suites the receiver takes only {}, which this program lacks", names.join(", "));
        findings.push(Finding::new(Kind::NotSeen, detail));
        return;
    }
    // Without a chain, the handshake failed before it. If that has another finding, the reason is known.
    let is_known = findings.iter().any(|finding| finding.severity == Severity::Fault);
    if let Some(Err(error)) = seen.absent.as_ref().and_then(|attempt| attempt.outcome.as_ref())
        && !is_known
    {
        findings.push(Finding::new(Kind::HandshakeFailed, error.to_string()));
    }
}

fn certificate_request(look: &Look<'_>, seen: &Seen, findings: &mut Vec<Finding>) {
    if seen.chain.is_none() {
        return;
    }
    let Some(request) = &seen.request else {
        let detail = format!("the receiver does not ask for a client certificate, and {} has one", look.sender.name);
        findings.push(Finding::new(Kind::NoCertificateRequest, detail));
        return;
    };
    if request.authorities.is_empty() {
        let finding = Finding::new(Kind::NoCaNames, "the receiver names no authority whose certificates it accepts");
        let needed = look.sender.facts.needs_ca_names;
        findings.push(if needed { finding.with(Severity::Warning) } else { finding });
        return;
    }
    let named: Vec<Vec<u8>> = request.authorities.iter().map(|name| comparable_name(name)).collect();
    let anchors = look.sender.certificate.iter().flat_map(|shape| &shape.anchors);
    let mut wanted: Vec<Vec<u8>> = anchors.map(|anchor| anchor.comparable.clone()).collect();
    wanted.extend(look.own.iter().flat_map(|own| &own.cert).filter_map(|certificate| issuer(certificate)));
    if !wanted.is_empty() && !wanted.iter().any(|name| named.contains(name)) {
        let names = request.authorities.iter().take(MAXIMUM_NAMES).map(|name| shown_name(name));
        let count = request.authorities.len();
        let detail = format!(
            "the receiver names {count} {}, none of {}'s: {}",
            if count == 1 { "authority" } else { "authorities" },
            look.sender.name,
            names.collect::<Vec<_>>().join("; ")
        );
        findings.push(Finding::new(Kind::ForeignCaNames, detail));
    }
}

/// The issuer of a certificate, comparable.
fn issuer(certificate: &[u8]) -> Option<Vec<u8>> {
    use x509_parser::prelude::{FromDer as _, X509Certificate};
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    Some(comparable_name(parsed.issuer().as_raw()))
}

fn answered(attempt: Option<&Attempt>) -> Option<&HttpAnswer> {
    attempt?.outcome.as_ref()?.as_ref().ok()
}

fn succeeds(answer: &HttpAnswer) -> bool {
    (200..=299).contains(&answer.status)
}

/// What each certificate got.
fn answers(look: &Look<'_>, seen: &Seen, findings: &mut Vec<Finding>) {
    let has_certificate = look.sender.certificate.is_some();
    if let Some(answer) = answered(seen.absent.as_ref()).filter(|answer| succeeds(answer)) {
        let status = answer.status;
        if has_certificate {
            let detail = format!("a request without a client certificate is answered with status {status}");
            findings.push(Finding::new(Kind::AbsentAccepted, detail));
        } else if !look.sender.proofs.is_empty() {
            let detail = format!("a request without a signature, token or secret is answered with status {status}");
            findings.push(Finding::new(Kind::UnprovenAccepted, detail));
        }
    }
    if let Some(answer) = answered(seen.foreign.as_ref()).filter(|answer| succeeds(answer)) {
        let detail =
            format!("a certificate of an authority that nobody knows is answered with status {}", answer.status);
        findings.push(Finding::new(Kind::ForeignAccepted, detail));
    }
    own(seen, findings);
    if !has_certificate {
        without(seen, findings);
    }
    // What concerns the URL and the server, and not the certificate: of the request that got furthest.
    let Some(attempt) = furthest(seen) else { return };
    match &attempt.outcome {
        Some(Ok(answer)) => status(answer, findings),
        Some(Err(ExchangeError::NotHttp(error))) => {
            findings.push(Finding::new(Kind::NoAnswer, format!("the answer is not HTTP/1.1: {error}")));
        }
        Some(Err(error @ ExchangeError::Tls(_))) if attempt.handshake.is_some() && seen.request.is_none() => {
            findings.push(Finding::new(Kind::NoAnswer, error.to_string()));
        }
        _ => {}
    }
}

/// The user's certificate if there is one, else none.
fn furthest(seen: &Seen) -> Option<&Attempt> {
    seen.own.as_ref().or(seen.absent.as_ref())
}

fn own(seen: &Seen, findings: &mut Vec<Finding>) {
    let Some(outcome) = seen.own.as_ref().and_then(|attempt| attempt.outcome.as_ref()) else { return };
    match outcome {
        Err(error @ ExchangeError::Tls(_)) => {
            findings.push(Finding::new(Kind::OwnRefusedByAlert, format!("with your certificate: {error}")));
        }
        Ok(answer) if (400..=499).contains(&answer.status) && !matches!(answer.status, 404 | 410) => {
            let detail = format!("with your certificate: status {}, {}", answer.status, why(answer));
            let kind = if lacks_proof(answer) { Kind::OwnUnproven } else { Kind::OwnRefused };
            findings.push(Finding::new(kind, detail));
        }
        _ => {}
    }
}

/// The receiver's reason, or its words.
fn why(answer: &HttpAnswer) -> &str {
    answer.reason.as_deref().or(answer.words.as_deref()).unwrap_or("no reason given")
}

/// hookgate's reasons that say no more than that a request shows no proof, or that its body is none.
const LACKING: &[Reject] = &[
    Reject::TokenMissing,
    Reject::SessionParameterMissing,
    Reject::SignatureMissing,
    Reject::SecretMissing,
    Reject::CredentialsMissing,
    Reject::DeliveryIdMissing,
    Reject::BodyNotJson,
    Reject::KeysUnavailable,
];

fn lacks_proof(answer: &HttpAnswer) -> bool {
    LACKING.iter().any(|reject| answer.reason.as_deref() == Some(reject.row().reason))
}

/// What becomes of a sender that has no certificate. Most refusals are right, because the request has no proof; some are not.
fn without(seen: &Seen, findings: &mut Vec<Finding>) {
    let answer = answered(seen.absent.as_ref());
    let Some(answer) = answer.filter(|answer| (400..=499).contains(&answer.status)) else { return };
    if matches!(answer.status, 404 | 410) || lacks_proof(answer) {
        return;
    }
    let detail = format!("without a certificate: status {}, {}", answer.status, why(answer));
    match answer.reason.as_deref() {
        Some(reason) if reason == Reject::NoCertificate.row().reason => {
            findings.push(Finding::new(Kind::CertificateDemanded, detail));
        }
        Some(_) => findings.push(Finding::new(Kind::Refused, detail)),
        // As nginx says: "No required SSL certificate was sent".
        None if says_certificate(answer) => findings.push(Finding::new(Kind::CertificateDemanded, detail)),
        None => {}
    }
}

/// Whether a receiver that is not hookgate refuses with words about a certificate.
fn says_certificate(answer: &HttpAnswer) -> bool {
    let words = answer.words.as_deref().unwrap_or_default().to_ascii_lowercase();
    matches!(answer.status, 400 | 401 | 403 | 495 | 496) && words.contains("certificate")
}

fn status(answer: &HttpAnswer, findings: &mut Vec<Finding>) {
    let status = answer.status;
    match status {
        300..=399 => {
            let to = answer.location.as_deref().unwrap_or("nowhere");
            findings.push(Finding::new(Kind::Redirected, format!("status {status}, to {to}")));
        }
        404 | 410 => findings.push(Finding::new(Kind::NotFound, format!("the URL is answered with status {status}"))),
        // hookgate refuses some certificates with 503, and says why.
        500..=599 if answer.reason.is_none() => {
            findings.push(Finding::new(Kind::ServerError, format!("the URL is answered with status {status}")));
        }
        _ => {}
    }
}

/// The time to the first byte, of the request that got furthest.
fn time(look: &Look<'_>, seen: &Seen, findings: &mut Vec<Finding>) {
    let Some(attempt) = furthest(seen) else { return };
    let limit = look.limit().as_secs_f64();
    match &attempt.outcome {
        Some(Err(ExchangeError::TimedOut(_))) => {
            let who = match look.sender.facts.timeout {
                Some(_) => format!("{limit} s, which is how long {} waits", look.sender.name),
                None => format!("{limit} s"),
            };
            findings.push(Finding::new(Kind::Slow, format!("no first byte of an answer within {who}")));
        }
        Some(Ok(answer)) if look.sender.facts.timeout.is_some() && answer.first_byte.as_secs_f64() > limit / 2.0 => {
            let took = answer.first_byte.as_secs_f64();
            let detail = format!("the first byte came after {took:.1} s, and {} waits {limit} s", look.sender.name);
            findings.push(Finding::new(Kind::NearlySlow, detail));
        }
        _ => {}
    }
}

/// A suite that the receiver selected, to print.
pub(super) fn selected(answer: Option<Answer>) -> Option<(TlsVersion, String)> {
    match answer {
        Some(Answer::Selected(version, chosen)) => Some((version, suite::name(chosen))),
        _ => None,
    }
}
