//! Whether the sections of a configuration fit each other: providers and routes, certificates and the hosts of routes.
//!
//! Owns what is reported about missing sections, and the warnings about sections that do not fit. Must not change a section.

use std::collections::BTreeSet;

use toml::Spanned;

use super::certificate::{RawCertificate, ServerCertificate, covers};
use super::provider::RawProvider;
use super::report::Report;
use super::route::RawRoute;
use super::warning::WarningKind;
use hookgate_core::identity::{self, Provider, ProviderId};
use hookgate_core::route::Route;

/// The required sections, in the order of the counts of [`expect_sections`], and what to write.
const SECTIONS: [(&str, &str); 3] = [
    ("certificate", "a [[certificate]] section with chain and key"),
    ("provider", "a [[provider]] section with name and preset, or trust_anchors and identity"),
    ("route", "a [[route]] section with path, providers and handler"),
];

/// Reports each missing section if another one is there. If there is none, as after the installation of hookgate, warns that no
/// peer is admitted.
pub(super) fn expect_sections(counts: [usize; 3], report: &mut Report<'_>) {
    if counts.iter().all(|count| *count == 0) {
        report.warn_about_document(WarningKind::NoPeerAdmitted);
        return;
    }
    for ((section, write), _) in SECTIONS.iter().zip(counts).filter(|(_, count)| *count == 0) {
        report.missing_section(section, write);
    }
}

/// Warns of providers that no route names.
pub(super) fn providers(
    providers: &[Provider],
    raw: &[Spanned<RawProvider>],
    routes: &[Route],
    report: &mut Report<'_>,
) {
    for ((provider, raw), id) in providers.iter().zip(raw).zip(0..) {
        if !routes.iter().any(|route| route.providers.contains(&ProviderId(id))) {
            report.warn(raw, WarningKind::UnusedProvider { provider: provider.name.to_string() });
        }
    }
}

/// Warns of certificates whose names are the host of no route.
pub(super) fn certificates(
    certificates: &[ServerCertificate],
    raw: &[Spanned<RawCertificate>],
    routes: &[Route],
    report: &mut Report<'_>,
) {
    if routes.iter().any(|route| route.host.is_none()) {
        return;
    }
    for (certificate, raw) in certificates.iter().zip(raw) {
        let used = routes.iter().filter_map(|route| route.host.as_deref()).any(|host| is_for(certificate, host));
        // There is a warning of its own about a certificate without names.
        if !used && !certificate.names.is_empty() {
            report.warn(raw, WarningKind::NamesWithoutRoute { names: certificate.names.join(", ") });
        }
    }
}

/// Warns of hosts for which the CertificateRequest lists no names of authorities, because they are too many. A host has the providers
/// of its own routes and of those without a host; a client without a server name has all.
pub(super) fn authority_names(
    providers: &[Provider],
    routes: &[Route],
    raw: &[Spanned<RawRoute>],
    report: &mut Report<'_>,
) {
    let fits = |routes: &mut dyn Iterator<Item = &Route>| {
        let ids: BTreeSet<ProviderId> = routes.flat_map(|route| route.providers.iter().copied()).collect();
        let named = ids.iter().filter_map(|id| providers.get(usize::from(id.0)));
        identity::authority_names(named).is_some()
    };
    if fits(&mut routes.iter()) {
        return;
    }
    report.warn_about_document(WarningKind::ManyAuthorityNames { host: None });
    let mut warned: Vec<&str> = Vec::new();
    for (route, raw) in routes.iter().zip(raw) {
        let Some(host) = route.host.as_deref() else { continue };
        let serves = |other: &&Route| other.host.as_deref().is_none_or(|other| other == host);
        if !warned.contains(&host) && !fits(&mut routes.iter().filter(serves)) {
            warned.push(host);
            report.warn(raw, WarningKind::ManyAuthorityNames { host: Some(host.to_owned()) });
        }
    }
}

/// Warns of hosts of routes that no certificate is for.
pub(super) fn hosts(
    routes: &[Route],
    raw: &[Spanned<RawRoute>],
    certificates: &[ServerCertificate],
    report: &mut Report<'_>,
) {
    let mut warned: Vec<&str> = Vec::new();
    for (route, raw) in routes.iter().zip(raw) {
        let Some(host) = route.host.as_deref() else { continue };
        if !warned.contains(&host) && !certificates.iter().any(|certificate| is_for(certificate, host)) {
            warned.push(host);
            let at = raw.get_ref().host_at().unwrap_or(raw.span());
            report.warn_at(&at, WarningKind::HostWithoutCertificate { host: host.to_owned() });
        }
    }
}

fn is_for(certificate: &ServerCertificate, host: &str) -> bool {
    certificate.names.iter().any(|name| covers(name, host))
}
