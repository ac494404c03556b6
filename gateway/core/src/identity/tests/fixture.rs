//! Certificates and revocation lists, encoded by hand, since no builder makes malformed and unusual ones: two common names,
//! multi-valued names, duplicate extensions.

use std::str::FromStr as _;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{KeyPair, PKCS_ECDSA_P384_SHA384, PublicKeyData as _, SigningKey as _};
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use webpki::anchor_from_trusted_cert;
use x509_parser::asn1_rs::Oid;
use x509_parser::time::ASN1Time;

use crate::identity::PeerChain;
use crate::identity::{
    ChainCache, ChainLimits, ChainRefusal, Condition, ConfiguredAnchor, ExtendedKeyUsage, Identity, IdentityRule,
    OnFailure, Profile, Provider, ProviderId, RefusalAnswer, RevocationList, Scope, TrustAnchors, VerifiedChain,
};

/// 2026-11-18T13:46:40Z
pub(super) const NOW: u64 = 1_795_009_600;
pub(super) const DAY: u64 = 86_400;

pub(super) const CLIENT_AUTH: &str = "1.3.6.1.5.5.7.3.2";
pub(super) const SERVER_AUTH: &str = "1.3.6.1.5.5.7.3.1";
pub(super) const ANY_USAGE: &str = "2.5.29.37.0";

pub(super) const UTF8_STRING: u8 = 0x0c;
pub(super) const PRINTABLE_STRING: u8 = 0x13;

const SEQUENCE: u8 = 0x30;
/// ecdsa-with-SHA256, 1.2.840.10045.4.3.2
const ECDSA_SHA256: &[u8] = &[0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
/// ecdsa-with-SHA384, 1.2.840.10045.4.3.3
const ECDSA_SHA384: &[u8] = &[0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x03];
/// sha1WithRSAEncryption, 1.2.840.113549.1.1.5
pub(super) const RSA_SHA1: &[u8] =
    &[0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x05, 0x05, 0x00];

/// ecdsa-with-SHA512, 1.2.840.10045.4.3.4
pub(super) const ECDSA_SHA512: &[u8] = &[0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x04];

pub(super) fn at(seconds: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(seconds))
}

/// One DER element.
pub(super) fn tlv(tag: u8, contents: &[&[u8]]) -> Vec<u8> {
    let contents = contents.concat();
    let mut output = vec![tag];
    match contents.len() {
        short @ ..0x80 => output.push(u8::try_from(short).unwrap()),
        long => {
            let length = long.to_be_bytes();
            let length = &length[length.iter().position(|byte| *byte != 0).unwrap()..];
            output.push(0x80 | u8::try_from(length.len()).unwrap());
            output.extend_from_slice(length);
        }
    }
    output.extend(contents);
    output
}

pub(super) fn oid(dotted: &str) -> Vec<u8> {
    tlv(0x06, &[Oid::from_str(dotted).unwrap().as_bytes()])
}

/// A `Name` of relative distinguished names of (type, string tag, bytes).
pub(super) fn name(relative: &[&[(&str, u8, &[u8])]]) -> Vec<u8> {
    let sets: Vec<Vec<u8>> = relative
        .iter()
        .map(|attributes| {
            let pairs: Vec<Vec<u8>> = attributes
                .iter()
                .map(|(kind, tag, value)| tlv(SEQUENCE, &[&oid(kind), &tlv(*tag, &[value])]))
                .collect();
            tlv(0x31, &[&pairs.concat()])
        })
        .collect();
    tlv(SEQUENCE, &[&sets.concat()])
}

pub(super) fn common_name(text: &str) -> Vec<u8> {
    name(&[&[("2.5.4.3", UTF8_STRING, text.as_bytes())]])
}

fn time(seconds: u64) -> Vec<u8> {
    let time = ASN1Time::from_timestamp(i64::try_from(seconds).unwrap()).unwrap().to_datetime();
    let (year, month, day) = (time.year(), u8::from(time.month()), time.day());
    let text = format!("{year:04}{month:02}{day:02}{:02}{:02}{:02}Z", time.hour(), time.minute(), time.second());
    // RFC 5280, section 4.1.2.5: UTCTime through 2049.
    if year < 2050 { tlv(0x17, &[&text.as_bytes()[2..]]) } else { tlv(0x18, &[text.as_bytes()]) }
}

pub(super) fn extension(id: &str, critical: bool, value: &[u8]) -> Vec<u8> {
    let critical: &[u8] = if critical { &[0x01, 0x01, 0xff] } else { &[] };
    tlv(SEQUENCE, &[&oid(id), critical, &tlv(0x04, &[value])])
}

pub(super) fn authority_extension(path_length: Option<u8>) -> Vec<u8> {
    let length = path_length.map(|length| tlv(0x02, &[&[length]])).unwrap_or_default();
    extension("2.5.29.19", true, &tlv(SEQUENCE, &[&[0x01, 0x01, 0xff], &length]))
}

pub(super) fn extended_key_usage(purposes: &[&str]) -> Vec<u8> {
    let purposes: Vec<Vec<u8>> = purposes.iter().map(|purpose| oid(purpose)).collect();
    extension("2.5.29.37", false, &tlv(SEQUENCE, &[&purposes.concat()]))
}

/// The key usage extension with these bits, of which digitalSignature is 0, keyCertSign 5, and cRLSign 6.
pub(super) fn key_usage(bits: &[u8]) -> Vec<u8> {
    let flags = bits.iter().fold(0_u8, |flags, bit| flags | 0x80 >> bit);
    let unused = u8::try_from(flags.trailing_zeros().min(7)).unwrap();
    extension("2.5.29.15", true, &[0x03, 0x02, unused, flags])
}

/// The key usage extension with keyCertSign only: without cRLSign, the authority may not sign revocation lists.
pub(super) fn certificates_only_extension() -> Vec<u8> {
    extension("2.5.29.15", true, &[0x03, 0x02, 0x02, 0x04])
}

pub(super) fn dns(name: &str) -> Vec<u8> {
    tlv(0x82, &[name.as_bytes()])
}

pub(super) fn uri(text: &str) -> Vec<u8> {
    tlv(0x86, &[text.as_bytes()])
}

pub(super) fn alternative_names(names: &[Vec<u8>]) -> Vec<u8> {
    extension("2.5.29.17", false, &tlv(SEQUENCE, &[&names.concat()]))
}

/// The name constraints extension that permits only DNS names below `domain`.
pub(super) fn permitted_domain(domain: &str) -> Vec<u8> {
    let permitted = tlv(0xa0, &[&tlv(SEQUENCE, &[&dns(domain)])]);
    extension("2.5.29.30", true, &tlv(SEQUENCE, &[&permitted]))
}

/// The subject key identifier extension.
pub(super) fn subject_key(identifier: &[u8]) -> Vec<u8> {
    extension("2.5.29.14", false, &tlv(0x04, &[identifier]))
}

/// The authority key identifier extension.
pub(super) fn authority_key(identifier: &[u8]) -> Vec<u8> {
    extension("2.5.29.35", false, &tlv(SEQUENCE, &[&tlv(0x80, &[identifier])]))
}

/// The fields of a certificate to make.
#[derive(Clone)]
pub(super) struct Template {
    pub(super) subject: Vec<u8>,
    pub(super) serial: Vec<u8>,
    pub(super) not_before: u64,
    pub(super) not_after: u64,
    pub(super) extensions: Vec<Vec<u8>>,
    /// The algorithm that the certificate names; `None` for the one by which it is signed.
    pub(super) algorithm: Option<&'static [u8]>,
    /// The SubjectPublicKeyInfo, if it is not that of the key.
    pub(super) public_key: Option<Vec<u8>>,
    pub(super) version: u8,
}

impl Template {
    pub(super) fn new(subject: Vec<u8>) -> Self {
        Self {
            subject,
            serial: vec![0x0a, 0x1b],
            not_before: NOW - DAY,
            not_after: NOW + 30 * DAY,
            extensions: Vec::new(),
            algorithm: None,
            public_key: None,
            version: 2,
        }
    }

    /// An end entity with this common name, for client authentication.
    pub(super) fn client(common: &str) -> Self {
        Self::new(common_name(common)).with(extended_key_usage(&[CLIENT_AUTH]))
    }

    pub(super) fn with(mut self, extension: Vec<u8>) -> Self {
        self.extensions.push(extension);
        self
    }

    pub(super) fn between(self, not_before: u64, not_after: u64) -> Self {
        Self { not_before, not_after, ..self }
    }

    pub(super) fn serial(self, serial: &[u8]) -> Self {
        Self { serial: serial.to_vec(), ..self }
    }

    fn encode(&self, key: &KeyPair, issuer: &[u8], issuer_key: &KeyPair) -> CertificateDer<'static> {
        let algorithm = self.algorithm.unwrap_or_else(|| algorithm_of(issuer_key));
        let public_key = self.public_key.clone().unwrap_or_else(|| key.subject_public_key_info());
        let extensions = match self.extensions.as_slice() {
            [] => Vec::new(),
            some => tlv(0xa3, &[&tlv(SEQUENCE, &[&some.concat()])]),
        };
        let to_be_signed = tlv(
            SEQUENCE,
            &[
                &tlv(0xa0, &[&tlv(0x02, &[&[self.version]])]),
                &tlv(0x02, &[&self.serial]),
                algorithm,
                issuer,
                &tlv(SEQUENCE, &[&time(self.not_before), &time(self.not_after)]),
                &self.subject,
                &public_key,
                &extensions,
            ],
        );
        signed(&to_be_signed, algorithm, issuer_key).into()
    }
}

/// The algorithm by which this key signs.
fn algorithm_of(key: &KeyPair) -> &'static [u8] {
    if key.algorithm() == &PKCS_ECDSA_P384_SHA384 { ECDSA_SHA384 } else { ECDSA_SHA256 }
}

fn signed(to_be_signed: &[u8], algorithm: &[u8], key: &KeyPair) -> Vec<u8> {
    let signature = key.sign(to_be_signed).unwrap();
    tlv(SEQUENCE, &[to_be_signed, algorithm, &tlv(0x03, &[&[0], &signature])])
}

/// An authority: root or intermediate.
pub(super) struct Authority {
    pub(super) subject: Vec<u8>,
    key: KeyPair,
    pub(super) certificate: CertificateDer<'static>,
}

impl Authority {
    pub(super) fn root(common: &str) -> Self {
        Self::root_by(common_name(common), KeyPair::generate().unwrap())
    }

    /// A root with this whole `Name`.
    pub(super) fn root_named(subject: Vec<u8>) -> Self {
        Self::root_by(subject, KeyPair::generate().unwrap())
    }

    /// A root with a key on P-384, with which a check costs most. `subject` is a whole `Name`.
    pub(super) fn p384_root(subject: Vec<u8>) -> Self {
        Self::root_by(subject, KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap())
    }

    /// A root with this pathLenConstraint.
    pub(super) fn limited_root(common: &str, path_length: u8) -> Self {
        Self::root_of(common_name(common), KeyPair::generate().unwrap(), Some(path_length))
    }

    fn root_by(subject: Vec<u8>, key: KeyPair) -> Self {
        Self::root_of(subject, key, None)
    }

    fn root_of(subject: Vec<u8>, key: KeyPair, path_length: Option<u8>) -> Self {
        let template = Template::new(subject).with(authority_extension(path_length));
        let certificate = template.encode(&key, &template.subject, &key);
        Self { subject: template.subject, key, certificate }
    }

    pub(super) fn intermediate(&self, common: &str) -> Self {
        self.intermediate_by(Template::new(common_name(common)).with(authority_extension(None)))
    }

    /// The same key under another name.
    pub(super) fn renamed(&self, subject: Vec<u8>) -> Self {
        let template = Template::new(subject).with(authority_extension(None));
        let key = KeyPair::from_der_and_sign_algo(&self.key.serialize_der().try_into().unwrap(), self.key.algorithm());
        let key = key.unwrap();
        let certificate = template.encode(&key, &template.subject, &key);
        Self { subject: template.subject, key, certificate }
    }

    pub(super) fn intermediate_by(&self, template: Template) -> Self {
        let key = KeyPair::generate().unwrap();
        let certificate = template.encode(&key, &self.subject, &self.key);
        Self { subject: template.subject, key, certificate }
    }

    /// A certificate for this authority (same name and key), signed by another.
    pub(super) fn cross_signed_by(&self, other: &Self) -> CertificateDer<'static> {
        Template::new(self.subject.clone()).with(authority_extension(None)).encode(
            &self.key,
            &other.subject,
            &other.key,
        )
    }

    /// A certificate for its key by this template, in the name of `issuer` and signed by the key of `signer`.
    pub(super) fn certified_by(&self, template: &Template, issuer: &[u8], signer: &Self) -> CertificateDer<'static> {
        template.encode(&self.key, issuer, &signer.key)
    }

    /// The identifier of its key by RFC 5280, section 4.2.1.2, method 1.
    pub(super) fn key_identifier(&self) -> Vec<u8> {
        ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, self.key.der_bytes()).as_ref().to_vec()
    }

    pub(super) fn issue(&self, template: &Template) -> CertificateDer<'static> {
        template.encode(&KeyPair::generate().unwrap(), &self.subject, &self.key)
    }

    pub(super) fn anchor(&self) -> TrustAnchor<'static> {
        anchor_from_trusted_cert(&self.certificate).unwrap().to_owned()
    }

    /// A revocation list with these serial numbers.
    pub(super) fn revocation_list(&self, serials: &[&[u8]], this_update: u64, next_update: u64) -> RevocationList {
        let der = self.revocation_list_der(serials, this_update, Some(next_update));
        RevocationList::from_der(&der).unwrap()
    }

    pub(super) fn revocation_list_der(&self, serials: &[&[u8]], this_update: u64, next_update: Option<u64>) -> Vec<u8> {
        self.revocation_list_with(&[], serials, this_update, next_update)
    }

    /// A list that also has these extensions.
    pub(super) fn revocation_list_with(
        &self,
        extensions: &[Vec<u8>],
        serials: &[&[u8]],
        this_update: u64,
        next_update: Option<u64>,
    ) -> Vec<u8> {
        let number = extension("2.5.29.20", false, &[0x02, 0x01, 0x01]);
        self.revocation_list_numbered(&number, extensions, serials, this_update, next_update)
    }

    /// A list with this extension as its number.
    pub(super) fn revocation_list_numbered(
        &self,
        number: &[u8],
        extensions: &[Vec<u8>],
        serials: &[&[u8]],
        this_update: u64,
        next_update: Option<u64>,
    ) -> Vec<u8> {
        let entries: Vec<Vec<u8>> =
            serials.iter().map(|serial| tlv(SEQUENCE, &[&tlv(0x02, &[serial]), &time(this_update)])).collect();
        let entries = if entries.is_empty() { Vec::new() } else { tlv(SEQUENCE, &[&entries.concat()]) };
        let to_be_signed = tlv(
            SEQUENCE,
            &[
                &[0x02, 0x01, 0x01],
                algorithm_of(&self.key),
                &self.subject,
                &time(this_update),
                &next_update.map(time).unwrap_or_default(),
                &entries,
                &tlv(0xa0, &[&tlv(SEQUENCE, &[number, &extensions.concat()])]),
            ],
        );
        signed(&to_be_signed, algorithm_of(&self.key), &self.key)
    }
}

pub(super) fn rule(conditions: Vec<Condition>) -> IdentityRule {
    IdentityRule::new(conditions).unwrap()
}

pub(super) fn by_common_name(common: &str) -> Vec<IdentityRule> {
    vec![rule(vec![Condition::subject_cn(common).unwrap()])]
}

/// Trust anchors without restriction.
pub(super) fn unrestricted(anchors: impl IntoIterator<Item = TrustAnchor<'static>>) -> TrustAnchors {
    TrustAnchors::unrestricted(anchors)
}

/// The one anchor of this certificate.
pub(super) fn anchored_by(certificate: &CertificateDer<'_>) -> TrustAnchors {
    [ConfiguredAnchor::of(certificate, NOW + 30 * DAY).unwrap()].into_iter().collect()
}

/// A profile that trusts this authority, with a `verify_depth` of 9, and expects this common name.
pub(super) fn profile(authority: &Authority, common: &str) -> Profile {
    Profile {
        name: "default".into(),
        trust_anchors: anchored_by(&authority.certificate),
        overlap_ends: None,
        verify_depth: 9,
        identity: by_common_name(common),
        extended_key_usage: ExtendedKeyUsage::ClientAuth,
        revocation: None,
    }
}

pub(super) fn provider(name: &str, profiles: Vec<Profile>) -> Provider {
    Provider {
        name: name.into(),
        profiles,
        on_failure: OnFailure::Respond,
        refusal: RefusalAnswer::Deny,
        client_certificate: Default::default(),
    }
}

pub(super) const LIMITS: ChainLimits = ChainLimits { max_certificates: 8, max_bytes: 32 * 1024 };

/// A policy of these providers without a cache, and the scope of all of them.
pub(super) fn policy(providers: Vec<Provider>) -> (Identity, Scope) {
    cached_policy(1, providers, &Arc::new(ChainCache::new(0, Duration::ZERO)))
}

pub(super) fn cached_policy(generation: u64, providers: Vec<Provider>, cache: &Arc<ChainCache>) -> (Identity, Scope) {
    let ids = (0..).take(providers.len()).map(ProviderId).collect();
    let identity = Identity::new(generation, providers.into(), Arc::clone(cache), LIMITS);
    (identity, Scope { id: 0, providers: ids })
}

/// The result of a policy with one provider and one profile, at [`NOW`].
pub(super) fn verify(profile: Profile, chain: &[CertificateDer<'_>]) -> Result<Arc<VerifiedChain>, ChainRefusal> {
    let (identity, scope) = policy(vec![provider("sender", vec![profile])]);
    identity.verify(&scope, PeerChain::unsafe_assumed(chain), at(NOW)).result
}
