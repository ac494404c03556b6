//! Whether the sections of a configuration fit each other: providers and routes, certificates and the hosts of routes.
//!
//! Owns what is reported about missing sections, and the warnings about sections that do not fit. Must not change a section.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use toml::Spanned;

use super::certificate::{Certificate, RawCertificate, covers};
use super::error::{AcmeProblem, HandlerProblem};
use super::filter::FilterSection;
use super::fleet::{Fallback, Fleet, FleetSpool};
use super::provider::RawProvider;
use super::report::Report;
use super::route::RawRoute;
use super::state::State;
use super::warning::{RouteWarning, WarningKind};
use hookgate_core::identity::{self, Provider, ProviderId};
use hookgate_core::route::{Handlers, HostPattern, Route};
use hookgate_filter::Mode;

/// The required sections, in the order of the counts of [`expect_sections`], and what to write.
const SECTIONS: [(&str, &str); 3] = [
    ("certificate", "a [[certificate]] section with chain and key, or with acme"),
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

/// Reports handlers whose port is one where hookgate itself listens: a request would come back, again and again.
pub(super) fn handlers(
    routes: &[Route],
    raw: &[Spanned<RawRoute>],
    own: &[(&'static str, SocketAddr)],
    report: &mut Report<'_>,
) {
    let meets = |port: SocketAddr, own: SocketAddr| {
        let is_within = own.ip().is_unspecified() && own.is_ipv4() == port.is_ipv4();
        port.port() == own.port() && (own.ip() == port.ip() || is_within)
    };
    for (route, raw) in routes.iter().zip(raw) {
        for handler in route.handlers().into_iter().flat_map(Handlers::iter) {
            let Some(port) = handler.port() else { continue };
            if let Some((key, _)) = own.iter().find(|(_, own)| meets(port, *own)) {
                let at = raw.get_ref().handler_at().unwrap_or(raw.span());
                report.error_at(&at, HandlerProblem::Loop { handler: handler.to_string(), key }.into());
            }
        }
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

/// Warns of `durable.max_bytes` if the servers of a fleet store the deliveries, and no disk does.
pub(super) fn bytes_of_disk(raw: &[Spanned<RawRoute>], fleet: Option<&Fleet>, report: &mut Report<'_>) {
    let is_used = |fleet: &Fleet| fleet.spool == FleetSpool::Disk || fleet.fallback == Fallback::Disk;
    if fleet.is_none_or(is_used) {
        return;
    }
    for at in raw.iter().filter_map(|raw| raw.get_ref().written_delivery().max_bytes()) {
        report.warn(at, WarningKind::UnusedBytes);
    }
}

/// Warns of certificates whose names are the host of no route.
pub(super) fn certificates(
    certificates: &[Certificate],
    raw: &[Spanned<RawCertificate>],
    routes: &[Route],
    report: &mut Report<'_>,
) {
    if routes.iter().any(|route| route.host == HostPattern::Every) {
        return;
    }
    for (certificate, raw) in certificates.iter().zip(raw) {
        let used = routes.iter().any(|route| certificate.names().iter().any(|name| meets(name, &route.host)));
        // There is a warning of its own about a certificate without names.
        if !used && !certificate.names().is_empty() {
            report.warn(raw, WarningKind::NamesWithoutRoute { names: certificate.names().join(", ") });
        }
    }
}

/// Reports that what authorities issue has no place, and warns of a filter that keeps them out. `names_directory`: the file names the
/// directory of `state`.
pub(super) fn acme(
    certificates: &[Certificate],
    raw: &[Spanned<RawCertificate>],
    (state, names_directory): (&State, bool),
    filter: &FilterSection,
    report: &mut Report<'_>,
) {
    let keeps_out = filter.policy.mode == Mode::Enforce && certificates.iter().any(|one| one.of_acme().is_some());
    for raw in raw.iter().filter_map(|raw| raw.get_ref().acme()) {
        if state.directory.is_none() || !names_directory {
            report.error(raw, AcmeProblem::NoDirectory.into());
        }
        if keeps_out {
            report.warn(raw, WarningKind::AuthorityKeptOut);
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
    let mut warned: Vec<&HostPattern> = Vec::new();
    for (route, raw) in routes.iter().zip(raw) {
        let host = &route.host;
        let Some(text) = host.as_str() else { continue };
        let serves = |other: &&Route| other.host.covers(host);
        if !warned.contains(&host) && !fits(&mut routes.iter().filter(serves)) {
            warned.push(host);
            report.warn(raw, WarningKind::ManyAuthorityNames { host: Some(text.to_owned()) });
        }
    }
}

/// Warns of hosts of routes that no certificate is for, or of whose names only some have one.
pub(super) fn hosts(
    routes: &[Route],
    raw: &[Spanned<RawRoute>],
    certificates: &[Certificate],
    report: &mut Report<'_>,
) {
    let mut warned: Vec<&HostPattern> = Vec::new();
    let names = || certificates.iter().flat_map(|certificate| certificate.names()).map(String::as_str);
    for (route, raw) in routes.iter().zip(raw) {
        let Some(text) = route.host.as_str() else { continue };
        if warned.contains(&&route.host) || names().any(|name| is_for(name, &route.host)) {
            continue;
        }
        warned.push(&route.host);
        let (host, some) = (text.to_owned(), names().filter(|name| meets(name, &route.host)));
        let names: BTreeSet<&str> = some.collect();
        let kind = match names.is_empty() {
            true => WarningKind::HostWithoutCertificate { host },
            false => {
                let names = names.into_iter().collect::<Vec<_>>().join(", ");
                RouteWarning::WildcardInPart { host, names }.into()
            }
        };
        report.warn_at(&raw.get_ref().host_at().unwrap_or(raw.span()), kind);
    }
}

/// Whether a certificate with this name is one for every host of the pattern.
fn is_for(name: &str, host: &HostPattern) -> bool {
    match host {
        HostPattern::Exact(host) => covers(name, host),
        HostPattern::Wildcard(text) => *name == **text,
        HostPattern::Every => false,
    }
}

/// Whether a certificate with this name is one for some host of the pattern.
fn meets(name: &str, host: &HostPattern) -> bool {
    is_for(name, host) || !name.starts_with('*') && host.matches(name)
}
