//! What an authority issued: whether it is what was asked for, and what senders accept.
//!
//! Owns that judgement, which is stricter than that of files: what comes unasked takes the place of a certificate that works. Asks no authority,
//! and reads no file: `control::acme` brings what came.

use std::path::Path;

use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use webpki::{EndEntityCert, KeyUsage};
use x509_parser::prelude::X509Certificate;

use super::acme::AcmeOrder;
use super::certificate::{MANY_CHAIN_BYTES, ServerCertificate, covers, dns_names, lacks_issuer, mismatch};
use super::error::IssuedProblem;
use super::file;
use crate::crypto;
use hookgate_client::roots::Roots;
use hookgate_core::identity::printable_name;
use hookgate_core::signatures::CERTIFICATE_SIGNATURES;

/// The most certificates of a chain. mbedTLS takes eight between the end entity and the root (MBEDTLS_X509_MAX_INTERMEDIATE_CA); public
/// authorities send up to four in all.
const MAXIMUM_CERTIFICATES: usize = 10;

/// The certificates of a chain in PEM.
///
/// # Errors
///
/// If there are none, or one is malformed.
pub fn chain_of_pem(text: &str) -> Result<Vec<CertificateDer<'static>>, IssuedProblem> {
    let unreadable = |why: String| IssuedProblem::Unreadable { why };
    let path = Path::new("the answer");
    let chain = file::certificates(text.as_bytes(), path, &[]).map_err(|problem| unreadable(problem.to_string()))?;
    parse(&chain)?;
    Ok(chain)
}

fn parse<'c>(chain: &'c [CertificateDer<'_>]) -> Result<Vec<X509Certificate<'c>>, IssuedProblem> {
    let unreadable = |why: String| IssuedProblem::Unreadable { why };
    let parsed = chain.iter().enumerate().map(|(index, der)| file::parse(der, index, Path::new("the chain")));
    let parsed = parsed.collect::<Result<Vec<_>, _>>().map_err(|problem| unreadable(problem.to_string()))?;
    if parsed.is_empty() { Err(unreadable("it is empty".to_owned())) } else { Ok(parsed) }
}

impl AcmeOrder {
    /// The certificate of `chain` and its key, for those of this order's names that it has. `path` is where it is kept, for messages.
    ///
    /// # Errors
    ///
    /// If the chain is malformed, the key is another's, or the certificate has none of the names.
    pub fn certificate(
        &self,
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        path: &Path,
    ) -> Result<ServerCertificate, IssuedProblem> {
        let signing_key =
            crypto::signing_key(&key).map_err(|error| IssuedProblem::UnusableKey { why: error.to_string() })?;
        let parsed = parse(&chain)?;
        if mismatch(&parsed, &*signing_key).is_some() {
            return Err(IssuedProblem::OtherKey);
        }
        let written = parsed.first().map(dns_names).unwrap_or_default();
        let is_there = |domain: &&String| written.iter().any(|name| covers(name, domain));
        let names: Vec<String> = self.domains.iter().filter(is_there).cloned().collect();
        if names.is_empty() {
            return Err(IssuedProblem::OtherNames);
        }
        Ok(ServerCertificate { chain, key, names, chain_path: path.to_owned() })
    }

    /// Whether senders accept it at `now`, for every name of this order.
    ///
    /// # Errors
    ///
    /// Why they do not.
    pub fn judge(&self, certificate: &ServerCertificate, now: UnixTime) -> Result<(), IssuedProblem> {
        let lacking: Vec<String> =
            self.domains.iter().filter(|domain| !certificate.names.contains(domain)).cloned().collect();
        if !lacking.is_empty() {
            return Err(IssuedProblem::LacksNames { names: lacking });
        }
        bounded(&certificate.chain)?;
        let parsed = parse(&certificate.chain)?;
        let now_seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        for certificate in &parsed {
            let validity = certificate.validity();
            if now_seconds < validity.not_before.timestamp() {
                return Err(IssuedProblem::NotYetValid { not_before: file::day(validity.not_before) });
            }
            if now_seconds > validity.not_after.timestamp() {
                return Err(IssuedProblem::Expired { not_after: file::day(validity.not_after) });
            }
        }
        if lacks_issuer(&parsed) {
            let issuer = parsed.first().and_then(|end_entity| printable_name(end_entity.issuer().as_raw()));
            return Err(IssuedProblem::LacksIssuer { issuer: issuer.unwrap_or_default() });
        }
        let is_out_of_order = |pair: &[X509Certificate<'_>]| match pair {
            [certificate, issuer] => certificate.issuer() != issuer.subject(),
            _ => false,
        };
        if let Some(index) = parsed.windows(2).position(is_out_of_order) {
            return Err(IssuedProblem::OutOfOrder { position: index + 2 });
        }
        if self.is_public { is_public(&certificate.chain, now) } else { Ok(()) }
    }
}

/// Whether the libraries of senders read a chain of this length. They end the handshake at another, however valid it is.
fn bounded(chain: &[CertificateDer<'_>]) -> Result<(), IssuedProblem> {
    let bytes: usize = chain.iter().map(|certificate| certificate.len()).sum();
    if chain.len() > MAXIMUM_CERTIFICATES || bytes > MANY_CHAIN_BYTES {
        return Err(IssuedProblem::TooLong {
            certificates: chain.len(),
            maximum_certificates: MAXIMUM_CERTIFICATES,
            bytes,
            maximum_bytes: MANY_CHAIN_BYTES,
        });
    }
    let mut positions = (1..).zip(chain);
    match positions.find(|(position, certificate)| chain.iter().take(position - 1).any(|before| before == *certificate))
    {
        Some((position, _)) => Err(IssuedProblem::Repeated { position }),
        None => Ok(()),
    }
}

/// Whether a root of Mozilla's list vouches for the chain.
fn is_public(chain: &[CertificateDer<'_>], now: UnixTime) -> Result<(), IssuedProblem> {
    let failed = |error: webpki::Error| IssuedProblem::NotPublic { why: error.to_string() };
    let Some((end_entity, intermediates)) = chain.split_first() else { return Ok(()) };
    let end_entity = EndEntityCert::try_from(end_entity).map_err(failed)?;
    let roots = Roots::mozilla();
    let usage = KeyUsage::server_auth();
    end_entity
        .verify_for_usage(CERTIFICATE_SIGNATURES, roots.anchors(), intermediates, now, usage, None, None)
        .map(drop)
        .map_err(failed)
}

impl ServerCertificate {
    /// From when until when the end entity is valid, in seconds since 1970.
    #[must_use]
    pub fn validity(&self) -> Option<(u64, u64)> {
        let parsed = parse(self.chain.get(..1)?).ok()?;
        let validity = parsed.first()?.validity();
        let seconds = |time: x509_parser::time::ASN1Time| u64::try_from(time.timestamp()).unwrap_or(0);
        Some((seconds(validity.not_before), seconds(validity.not_after)))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_chain_that_senders_do_not_read_is_refused() {
        let of =
            |sizes: &[usize]| -> Vec<_> { sizes.iter().map(|size| CertificateDer::from(vec![0; *size])).collect() };
        assert_eq!(bounded(&of(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10])), Ok(()));
        let many = bounded(&of(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]));
        assert!(matches!(many, Err(IssuedProblem::TooLong { certificates: 11, .. })), "{many:?}");
        assert_eq!(bounded(&of(&[60_000, 5000])), Ok(()));
        let large = bounded(&of(&[60_000, 5001]));
        assert!(matches!(large, Err(IssuedProblem::TooLong { bytes: 65_001, .. })), "{large:?}");
        assert_eq!(bounded(&of(&[1, 2, 3, 2])), Err(IssuedProblem::Repeated { position: 4 }));
    }

    #[test]
    fn a_chain_of_a_public_authority_is_public_while_it_is_valid_and_whole() {
        // The chain of letsencrypt.org, valid from 2026-07-06 to 2026-10-04. Its anchor is ISRG Root X2.
        let chain = chain_of_pem(include_str!("tests/public_chain.pem")).expect("the chain is well-formed");
        let at = |seconds| UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        let (in_august, in_november) = (at(1_785_542_400), at(1_793_491_200));
        assert_eq!(is_public(&chain, in_august), Ok(()));
        assert!(matches!(is_public(&chain, in_november), Err(IssuedProblem::NotPublic { .. })), "it has ended");
        assert!(matches!(is_public(&chain[..1], in_august), Err(IssuedProblem::NotPublic { .. })), "a gap");
        let out_of_order = [&chain[..1], &chain[2..], &chain[1..2]].concat();
        assert_eq!(is_public(&out_of_order, in_august), Ok(()), "the order is another question");
    }
}
