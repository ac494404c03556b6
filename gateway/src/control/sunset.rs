//! The end of clientAuth in certificates of public authorities: the date, and what it changes for a provider.
//!
//! Owns the words of `hookgate check` about it. Must not decide about a chain: `extended_key_usage` does.

use hookgate_core::identity::{ClientCertificate, ExtendedKeyUsage, Profile, Provider};

/// 2027-03-01T00:00:00Z in seconds since 1970: from this day on, DigiCert issues no certificate with clientAuth from its public TLS
/// authorities (announced on knowledge.digicert.com). Others stop within the same months.
pub(super) const SUNSET: u64 = 1_803_859_200;

/// The day, as it is shown.
const DAY: &str = "2027-03-01";

/// The name of the authority in the subjects of its roots.
const AUTHORITY: &[u8] = b"DigiCert";

/// What that day changes for `provider`, in one line.
pub(crate) fn outlook(provider: &Provider) -> String {
    let name = &provider.name;
    if provider.client_certificate != ClientCertificate::Required {
        return format!("{name}: {DAY} changes nothing, since its requests need no certificate");
    }
    let affected: Vec<&Profile> = provider.profiles.iter().filter(|profile| is_of_authority(profile)).collect();
    let strict: Vec<&str> = affected
        .iter()
        .filter(|profile| profile.extended_key_usage != ExtendedKeyUsage::Ignore)
        .map(|profile| &*profile.name)
        .collect();
    match (affected.is_empty(), strict.is_empty()) {
        (true, _) => format!("{name}: {DAY} changes nothing that is known, since no trust anchor is DigiCert's"),
        (_, true) => format!(
            "{name}: {DAY} changes nothing, since extended_key_usage = \"ignore\" admits certificates without clientAuth"
        ),
        _ => format!(
            "{name}: from {DAY} on, DigiCert's public TLS authorities issue no clientAuth; certificates that they issue then are refused \
             with extended_key_usage (profiles: {}); ask the sender what it will present, or write extended_key_usage = \"ignore\"",
            strict.join(", ")
        ),
    }
}

fn is_of_authority(profile: &Profile) -> bool {
    let named = |subject: &[u8]| subject.windows(AUTHORITY.len()).any(|part| part == AUTHORITY);
    profile.trust_anchors.iter().any(|anchor| named(&anchor.subject))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed set-up fails the test")]

    use hookgate_core::identity::{Condition, IdentityRule, OnFailure, RefusalAnswer, TrustAnchors};
    use rustls_pki_types::TrustAnchor;

    use super::*;

    #[test]
    fn the_outlook_names_the_profiles_that_the_day_changes() {
        let profile = |name: &str, subject: &'static str, extended_key_usage| Profile {
            name: name.into(),
            trust_anchors: TrustAnchors::unrestricted([TrustAnchor {
                subject: subject.as_bytes().into(),
                subject_public_key_info: Vec::new().into(),
                name_constraints: None,
            }]),
            overlap_ends: None,
            verify_depth: 2,
            identity: vec![IdentityRule::new(vec![Condition::subject_cn("a").unwrap()]).unwrap()],
            extended_key_usage,
            revocation: None,
        };
        let check = |profiles: Vec<Profile>, expected: &str| {
            let refusal = RefusalAnswer::Deny;
            let provider = Provider {
                name: "sender".into(),
                profiles,
                on_failure: OnFailure::Respond,
                refusal,
                client_certificate: Default::default(),
            };
            assert!(outlook(&provider).contains(expected), "{}", outlook(&provider));
        };
        use ExtendedKeyUsage::{ClientAuth, ClientAuthExplicit, Ignore};
        let other = || profile("other", "Own Root", ClientAuth);
        check(vec![other()], "no trust anchor is DigiCert's");
        check(
            vec![other(), profile("old", "DigiCert Global Root G2", Ignore)],
            "changes nothing, since extended_key_usage",
        );
        let both =
            vec![profile("a", "DigiCert A", ClientAuth), other(), profile("b", "DigiCert B", ClientAuthExplicit)];
        check(both, "(profiles: a, b)");
        let none = ClientCertificate::None { static_secret_suffices: false };
        let signed = Provider {
            name: "sender".into(),
            profiles: Vec::new(),
            on_failure: OnFailure::Respond,
            refusal: RefusalAnswer::Deny,
            client_certificate: none,
        };
        assert!(outlook(&signed).ends_with("need no certificate"), "{}", outlook(&signed));
        assert_eq!(crate::config::day_of(SUNSET).to_string(), DAY);
    }
}
