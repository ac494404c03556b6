//! Whether a sender accepts the chain that a receiver presents: complete, in order, under a root, in date, for this host, for servers.
//!
//! Pure: the chain, the roots and the time are arguments. Owns the judgement and the words about it. Must not connect.

use std::net::IpAddr;

use hookgate_core::identity::comparable_name;
use hookgate_core::signatures::CERTIFICATE_SIGNATURES;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use time::OffsetDateTime;
use webpki::{EndEntityCert, KeyUsage};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::finding::{Finding, Kind, Severity};
use crate::roots::{Roots, anchor_name, shown_name};

/// The days before an expiry with a warning. ACME clients renew 30 days ahead, so a nearer date means that none did.
const EXPIRY_NOTICE_DAYS: i64 = 30;
/// The most certificates of a chain that are looked at. Public ones have four.
const MAXIMUM_CERTIFICATES: usize = 32;
/// The most names of a certificate in a report.
const MAXIMUM_NAMES: usize = 8;

/// A chain, and what is wrong with it.
#[derive(Clone, Debug, Default)]
pub struct Judged {
    /// The certificates, as presented.
    pub certificates: Vec<View>,
    /// The root at the end of the path, if there is a path.
    pub root: Option<Root>,
    /// What is wrong.
    pub findings: Vec<Finding>,
}

/// A certificate, to print.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct View {
    /// The subject.
    pub subject: String,
    /// The issuer.
    pub issuer: String,
    /// The first day, in UTC.
    pub not_before: String,
    /// The last day, in UTC.
    pub not_after: String,
    /// The names in the subject alternative name; at most eight.
    pub names: Vec<String>,
}

/// The root at the end of a path.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Root {
    /// Its name.
    pub name: String,
    /// Whether it is in Mozilla's list; otherwise the user named it.
    pub is_public: bool,
}

/// Judges `chain` for `server_name` at the time `now`. `strict` senders verify only a chain in order.
#[must_use]
pub fn judge(
    chain: &[CertificateDer<'static>],
    server_name: &ServerName<'_>,
    roots: &Roots,
    strict: bool,
    now: UnixTime,
) -> Judged {
    let mut judged = Judged::default();
    let chain = &chain[..chain.len().min(MAXIMUM_CERTIFICATES)];
    let mut parsed = Vec::new();
    for (index, certificate) in chain.iter().enumerate() {
        match X509Certificate::from_der(certificate) {
            Ok((_, certificate)) => parsed.push(certificate),
            Err(_) => {
                let detail = format!("certificate {} of the chain cannot be parsed", index + 1);
                judged.findings.push(Finding::new(Kind::ChainMalformed, detail));
                return judged;
            }
        }
    }
    judged.certificates = parsed.iter().map(view).collect();
    let Some(leaf) = parsed.first() else {
        judged.findings.push(Finding::new(Kind::ChainMalformed, "the chain is empty"));
        return judged;
    };
    let Ok(end_entity) = EndEntityCert::try_from(&chain[0]) else {
        judged.findings.push(Finding::new(Kind::ChainMalformed, "the certificate of the host cannot be parsed"));
        return judged;
    };
    dates(&parsed, now, &mut judged.findings);
    name(&end_entity, leaf, server_name, &mut judged.findings);
    usage(leaf, &mut judged.findings);
    path(&end_entity, chain, &parsed, roots, strict, now, &mut judged);
    judged
}

fn seconds(time: UnixTime) -> i64 {
    i64::try_from(time.as_secs()).unwrap_or(i64::MAX)
}

fn day(timestamp: i64) -> String {
    OffsetDateTime::from_unix_timestamp(timestamp)
        .map_or_else(|_| "an impossible date".to_owned(), |time| time.date().to_string())
}

fn subject(certificate: &X509Certificate<'_>) -> String {
    shown_name(certificate.subject().as_raw())
}

fn view(certificate: &X509Certificate<'_>) -> View {
    View {
        subject: subject(certificate),
        issuer: shown_name(certificate.issuer().as_raw()),
        not_before: day(certificate.validity().not_before.timestamp()),
        not_after: day(certificate.validity().not_after.timestamp()),
        names: names(certificate),
    }
}

/// The names of a certificate, in printable ASCII.
fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(names)) = certificate.subject_alternative_name() else { return Vec::new() };
    let text = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some(name.escape_default().to_string()),
        GeneralName::IPAddress(bytes) => address(bytes).map(|address| address.to_string()),
        _ => None,
    };
    names.value.general_names.iter().filter_map(text).take(MAXIMUM_NAMES).collect()
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        _ => None,
    }
}

fn dates(parsed: &[X509Certificate<'_>], now: UnixTime, findings: &mut Vec<Finding>) {
    for (index, certificate) in parsed.iter().enumerate() {
        let (from, until) =
            (certificate.validity().not_before.timestamp(), certificate.validity().not_after.timestamp());
        let what = format!("certificate {} ({})", index + 1, subject(certificate));
        if seconds(now) > until {
            findings.push(Finding::new(Kind::Expired, format!("{what} expired on {}", day(until))));
        } else if seconds(now) < from {
            findings.push(Finding::new(Kind::NotYetValid, format!("{what} is valid from {}", day(from))));
        } else if index == 0 && (until - seconds(now)) / 86_400 < EXPIRY_NOTICE_DAYS {
            let days = (until - seconds(now)) / 86_400;
            let unit = if days == 1 { "day" } else { "days" };
            findings
                .push(Finding::new(Kind::ExpiresSoon, format!("{what} expires on {}, in {days} {unit}", day(until))));
        }
    }
}

fn name(
    end_entity: &EndEntityCert<'_>,
    leaf: &X509Certificate<'_>,
    server_name: &ServerName<'_>,
    findings: &mut Vec<Finding>,
) {
    if end_entity.verify_is_valid_for_subject_name(server_name).is_ok() {
        return;
    }
    let names = names(leaf);
    let found = match names.is_empty() {
        true => "it has no name in its subject alternative name, and the common name does not count".to_owned(),
        false => format!("it is for {}", names.join(", ")),
    };
    let detail = format!("the certificate is not for {}: {found}", server_name.to_str());
    findings.push(Finding::new(Kind::WrongName, detail));
}

/// The key usage of the end entity. Its extended key usage, and those above, are part of the path.
fn usage(leaf: &X509Certificate<'_>, findings: &mut Vec<Finding>) {
    if let Ok(Some(usage)) = leaf.key_usage()
        && !usage.value.digital_signature()
    {
        let detail =
            "the key usage of the certificate lacks digitalSignature, which every suite with forward secrecy needs";
        findings.push(Finding::new(Kind::KeyUsage, detail));
    }
}

/// Whether and where a path ends, and whether the chain is the path.
fn path(
    end_entity: &EndEntityCert<'_>,
    chain: &[CertificateDer<'static>],
    parsed: &[X509Certificate<'_>],
    roots: &Roots,
    strict: bool,
    now: UnixTime,
    judged: &mut Judged,
) {
    let at = common_time(parsed, now);
    let (usage, others) = (KeyUsage::server_auth(), &chain[1..]);
    match end_entity.verify_for_usage(CERTIFICATE_SIGNATURES, roots.anchors(), others, at, usage, None, None) {
        Ok(path) => {
            let anchor = path.anchor();
            let on_path: Vec<CertificateDer<'_>> = std::iter::once(chain[0].clone())
                .chain(path.intermediate_certificates().map(|cert| cert.der()))
                .collect();
            let root = Root { name: anchor_name(anchor), is_public: !roots.is_own(anchor) };
            order(chain, parsed, &on_path, strict, &mut judged.findings);
            judged.root = Some(root);
        }
        // A certificate that signed itself is its own root, if the user says so.
        Err(_) if roots.names(&chain[0]) => {
            judged.root = Some(Root { name: subject(&parsed[0]), is_public: false });
            adjacency(parsed, strict, &mut judged.findings);
        }
        Err(error) => {
            judged.findings.extend(no_path(&error, parsed, roots, &judged.findings));
            adjacency(parsed, strict, &mut judged.findings);
        }
    }
}

/// A time at which all certificates are valid, if there is one: what is wrong beside the dates is found too.
fn common_time(parsed: &[X509Certificate<'_>], now: UnixTime) -> UnixTime {
    let from = parsed.iter().map(|certificate| certificate.validity().not_before.timestamp()).max().unwrap_or(0);
    let until = parsed.iter().map(|certificate| certificate.validity().not_after.timestamp()).min().unwrap_or(i64::MAX);
    if from > until {
        return now;
    }
    let at = u64::try_from(seconds(now).clamp(from, until)).unwrap_or(0);
    UnixTime::since_unix_epoch(std::time::Duration::from_secs(at))
}

/// What it means that webpki finds no path.
fn no_path(error: &webpki::Error, parsed: &[X509Certificate<'_>], roots: &Roots, found: &[Finding]) -> Option<Finding> {
    use webpki::Error as E;
    let leaf = &parsed[0];
    if is_self_issued(leaf) {
        return Some(Finding::new(Kind::SelfSigned, format!("the certificate {} signed itself", subject(leaf))));
    }
    match error {
        E::UnknownIssuer => Some(unknown_issuer(parsed, roots)),
        E::CertExpired { .. } | E::CertNotValidYet { .. } | E::InvalidCertValidity => {
            let is_known = found.iter().any(|finding| matches!(finding.kind, Kind::Expired | Kind::NotYetValid));
            (!is_known).then(|| Finding::new(Kind::Expired, format!("no path is valid at any time: {error}")))
        }
        E::RequiredEkuNotFoundContext(_) | E::EmptyEkuExtension => {
            let detail = "an extended key usage on the path does not allow TLS servers (serverAuth)";
            Some(Finding::new(Kind::KeyUsage, detail))
        }
        E::InvalidSignatureForPublicKey
        | E::SignatureAlgorithmMismatch
        | E::UnsupportedSignatureAlgorithmContext(_)
        | E::UnsupportedSignatureAlgorithmForPublicKeyContext(_) => {
            Some(Finding::new(Kind::ChainSignature, format!("a signature on the path is not accepted: {error}")))
        }
        other => Some(Finding::new(Kind::PathConstraint, format!("the path breaks a rule of RFC 5280: {other}"))),
    }
}

/// Incomplete, or under a root that is not trusted.
fn unknown_issuer(parsed: &[X509Certificate<'_>], roots: &Roots) -> Finding {
    let leaf = &parsed[0];
    // The highest certificate that is reached from the end entity by names.
    let mut top = leaf;
    let mut length = 1;
    while let Some(issuer) = parsed.iter().find(|issuer| issued(issuer, top)).filter(|issuer| !is_self_issued(issuer))
        && length < parsed.len()
    {
        top = issuer;
        length += 1;
    }
    let issuer = shown_name(top.issuer().as_raw());
    let has_root = parsed.iter().any(|certificate| is_self_issued(certificate) && issued(certificate, top));
    if !has_root && length == 1 {
        let detail = format!("the issuer of the certificate, {issuer}, is neither sent nor a root");
        return Finding::new(Kind::ChainIncomplete, detail);
    }
    if roots.has_name(top.issuer().as_raw()) {
        let detail = format!("the chain ends at a root with the name of a trusted one, {issuer}, and another key");
        return Finding::new(Kind::UnknownRoot, detail);
    }
    Finding::new(Kind::UnknownRoot, format!("the chain ends at {issuer}, which is not in Mozilla's list of roots"))
}

fn is_self_issued(certificate: &X509Certificate<'_>) -> bool {
    issued(certificate, certificate)
}

fn issued(issuer: &X509Certificate<'_>, certificate: &X509Certificate<'_>) -> bool {
    comparable_name(issuer.subject().as_raw()) == comparable_name(certificate.issuer().as_raw())
}

fn out_of_order(strict: bool, detail: String) -> Finding {
    let finding = Finding::new(Kind::ChainOutOfOrder, detail);
    if strict { finding.with(Severity::Fault) } else { finding }
}

/// Whether the chain is the path, and what else it has.
fn order(
    chain: &[CertificateDer<'static>],
    parsed: &[X509Certificate<'_>],
    on_path: &[CertificateDer<'_>],
    strict: bool,
    findings: &mut Vec<Finding>,
) {
    if !on_path.iter().zip(chain).all(|(wanted, found)| wanted == found) {
        adjacency(parsed, strict, findings);
        return;
    }
    for (index, certificate) in parsed.iter().enumerate().skip(on_path.len()) {
        let what = format!("certificate {} ({})", index + 1, subject(certificate));
        let is_root = is_self_issued(certificate);
        let follows = issued(certificate, &parsed[index - 1]);
        findings.push(match (is_root, follows) {
            (true, true) => Finding::new(Kind::ChainHasRoot, format!("{what} is a root")),
            (_, true) => Finding::new(Kind::ChainExtra, format!("{what} is not needed")).with(Severity::Note),
            (_, false) => out_of_order(strict, format!("{what} did not issue the one before it")),
        });
    }
}

/// The first certificate that did not issue the one before it.
fn adjacency(parsed: &[X509Certificate<'_>], strict: bool, findings: &mut Vec<Finding>) {
    let wrong = parsed.windows(2).position(|pair| !issued(&pair[1], &pair[0]));
    if let Some(index) = wrong {
        let (one, other) = (&parsed[index], &parsed[index + 1]);
        let detail = format!(
            "certificate {} ({}) did not issue the one before it, which is from {}",
            index + 2,
            subject(other),
            shown_name(one.issuer().as_raw())
        );
        findings.push(out_of_order(strict, detail));
    }
}

#[cfg(test)]
mod tests;
