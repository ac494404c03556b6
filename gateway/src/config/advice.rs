//! What is correct, but probably not meant: a path that a sender does not call, a name that no certificate has, revocation lists that
//! refuse every chain, a certificate that proves too little, a time-out that no sender waits for, a policy that shuts a sender out.
//!
//! Owns the reasons of these warnings. Must not change a section, and must not report an error.

use std::ops::Range;

use hookgate_client::suite::TlsVersion;
use toml::Spanned;

use super::crls::FetchedLists;
use super::limits::RawLimits;
use super::preset::{Found, Preset, Presets};
use super::profile::{RawIdentity, RawProfile};
use super::proof::Proofs;
use super::provider::RawProvider;
use super::report::Report;
use super::route::RawRoute;
use super::tls::{RawTls, TlsSection};
use super::warning::{ListFlaw, ListWarning, RouteWarning, WarningKind};
use hookgate_core::auth::Binding;
use hookgate_core::identity::revocation::{ListSigner, Provenance, RevocationList, RevocationScope};
use hookgate_core::identity::{Condition, OnFailure, Profile, Provider, ProviderId, printable_name};
use hookgate_core::route::{PathPattern, Route};

/// A name that differs from a documented one by so many characters or fewer is taken for a mistyped one.
const TYPING_ERRORS: usize = 2;

/// The methods that carry no webhook: a sender that tries a new address uses them without a proof.
const SAFE_METHODS: [&str; 3] = ["GET", "HEAD", "OPTIONS"];

/// A configuration, as written and as parsed.
pub(super) struct Parsed<'a> {
    pub(super) presets: &'a Presets,
    pub(super) raw_providers: &'a [Spanned<RawProvider>],
    pub(super) providers: &'a [Provider],
    pub(super) fetched_lists: &'a [Vec<FetchedLists>],
    pub(super) raw_routes: &'a [Spanned<RawRoute>],
    pub(super) routes: &'a [Route],
    pub(super) proofs: &'a Proofs,
    pub(super) raw_limits: Option<&'a RawLimits>,
    pub(super) raw_tls: Option<&'a RawTls>,
    pub(super) tls: &'a TlsSection,
}

/// Warns of what is probably not meant. Notes for `hookgate check` what follows from a default alone.
pub(super) fn advise(parsed: &Parsed<'_>, report: &mut Report<'_>) {
    // A section with an error is left out, and the others are no longer those of the file.
    let is_whole =
        parsed.providers.len() == parsed.raw_providers.len() && parsed.routes.len() == parsed.raw_routes.len();
    if !is_whole {
        return;
    }
    paths(parsed, report);
    for (index, raw) in parsed.raw_providers.iter().enumerate() {
        names(parsed, raw.get_ref(), report);
        lists(parsed, index, report);
    }
    shared_certificates(parsed, report);
    timeouts(parsed, report);
    public_routes(parsed, report);
    shared_handlers(parsed, report);
    handshakes(parsed, report);
}

impl Parsed<'_> {
    /// The preset of a provider, if it names one.
    fn preset(&self, raw: &RawProvider) -> Option<&Preset> {
        match self.presets.find(raw.preset.as_ref()?.get_ref()) {
            Found::Preset(preset) => Some(preset),
            Found::Unusable(_) | Found::Unknown => None,
        }
    }

    /// The routes that name the provider at `index`, each with its own policy, if it has one.
    fn routes_of(&self, index: usize) -> impl Iterator<Item = (&Route, &Spanned<RawRoute>, Option<Binding>)> {
        let own = self.proofs.routes.iter().map(|policy| policy.as_ref().map(|policy| policy.binding()));
        let routes = self.routes.iter().zip(self.raw_routes).zip(own);
        let names = move |route: &Route| route.providers.iter().any(|ProviderId(id)| usize::from(*id) == index);
        routes.filter(move |((route, _), _)| names(route)).map(|((route, raw), own)| (route, raw, own))
    }
}

fn paths(parsed: &Parsed<'_>, report: &mut Report<'_>) {
    for (route, raw) in parsed.routes.iter().zip(parsed.raw_routes) {
        let PathPattern::Exact(path) = &route.path else { continue };
        let is_slashed = path.len() > 1 && path.ends_with('/');
        // Without the slash, another route can take it.
        let is_taken = |other: &Route| other.host.covers(&route.host) && other.path.matches(path.trim_end_matches('/'));
        if is_slashed && !parsed.routes.iter().any(is_taken) {
            let at = raw.get_ref().path.as_ref().map_or_else(|| raw.span(), Spanned::span);
            report.warn_at(&at, WarningKind::SlashedPath { path: path.to_string() });
        }
    }
}

/// Warns of names in `identity` that no certificate of the sender has.
fn names(parsed: &Parsed<'_>, raw: &RawProvider, report: &mut Report<'_>) {
    let of_tables =
        raw.profile.iter().flat_map(|tables| tables.get_ref()).flat_map(|table| identities(table.get_ref()));
    let own = raw.identity.iter().flat_map(|entries| entries.get_ref());
    for entry in own.clone().chain(of_tables) {
        let Some(name) = &entry.get_ref().subject_cn else { continue };
        let is_documented = |preset: &Preset| documented(preset).any(|(_, known)| known == *name.get_ref());
        if name.get_ref().contains('*') && !parsed.presets.usable().any(is_documented) {
            report.warn(name, WarningKind::LiteralAsterisk { name: name.get_ref().clone() });
        }
    }
    let Some(preset) = parsed.preset(raw) else { return };
    for entry in own {
        let RawIdentity { subject_cn, san_dns, .. } = entry.get_ref();
        for name in [subject_cn, san_dns].into_iter().flatten() {
            let is_known = documented(preset).any(|(_, known)| known == *name.get_ref());
            let distance = |known: &str| strsim::osa_distance(known, name.get_ref());
            let near = documented(preset).find(|(_, known)| distance(known) <= TYPING_ERRORS);
            if let (false, Some((_, documented))) = (is_known, near) {
                let preset = preset.name().to_owned();
                report.warn(name, WarningKind::NearIdentity { documented, preset });
            }
        }
    }
}

fn identities(table: &RawProfile) -> impl Iterator<Item = &Spanned<RawIdentity>> {
    table.identity.iter().flat_map(|entries| entries.get_ref())
}

/// The names that a preset documents, with their conditions.
fn documented(preset: &Preset) -> impl Iterator<Item = (&Condition, String)> {
    let rules = preset.drafts().iter().filter_map(|draft| draft.fields.identity.as_ref()).flatten();
    rules.flat_map(|rule| rule.conditions()).filter_map(|condition| match condition {
        Condition::SubjectCn(name) => Some((condition, name.clone())),
        Condition::SanDns(pattern) => Some((condition, pattern.to_string())),
        _ => None,
    })
}

/// Warns of lists whose signature no path can verify, and of chains that are refused because a list is missing that nothing fetches.
fn lists(parsed: &Parsed<'_>, index: usize, report: &mut Report<'_>) {
    let (Some(raw), Some(provider)) = (parsed.raw_providers.get(index), parsed.providers.get(index)) else { return };
    let fetched = parsed.fetched_lists.get(index).into_iter().flatten();
    let mut found: Vec<(Range<usize>, ListWarning)> = Vec::new();
    for (profile, fetched) in provider.profiles.iter().zip(fetched) {
        let Some(revocation) = &profile.revocation else { continue };
        let at = crls_of(raw, profile);
        let mut flaws = useless_lists(profile, fetched, revocation.lists());
        if !fetched.any() {
            flaws.extend(missing_lists(profile, fetched, revocation.lists(), revocation.scope()));
        }
        // The keys of a provider count for each of its profiles: what is wrong with them is said once.
        for flaw in flaws {
            let name = profile.name.to_string();
            match found.iter_mut().find(|(place, warning)| *place == at && warning.flaw == flaw) {
                Some((_, warning)) => warning.profiles.push(name),
                None => found.push((at.clone(), ListWarning { profiles: vec![name], flaw })),
            }
        }
    }
    found.into_iter().for_each(|(at, warning)| report.warn_at(&at, warning.into()));
}

/// Where the lists of a profile are written.
fn crls_of(raw: &Spanned<RawProvider>, profile: &Profile) -> Range<usize> {
    let tables = raw.get_ref().profile.iter().flat_map(|tables| tables.get_ref());
    let named = |table: &&Spanned<RawProfile>| {
        table.get_ref().name.as_ref().is_some_and(|name| *name.get_ref() == *profile.name)
    };
    let of_table = || tables.clone().find(named).and_then(|table| table.get_ref().crls.as_ref());
    raw.get_ref().crls.as_ref().or_else(of_table).map_or_else(|| raw.span(), Spanned::span)
}

/// Lists that no key of their issuer has signed, as far as the issuer is known, or whose algorithm is not accepted.
fn useless_lists(profile: &Profile, fetched: &FetchedLists, lists: &[RevocationList]) -> Vec<ListFlaw> {
    let anchors = profile.trust_anchors.iter().map(ListSigner::of_anchor);
    let intermediates = fetched.intermediates.iter().filter_map(|der| ListSigner::of_certificate(der));
    let signers: Vec<ListSigner> = anchors.chain(intermediates).collect();
    let flaw = |list: &RevocationList| {
        let issuer = list.issuer();
        if !list.has_accepted_algorithm() {
            return Some(ListFlaw::Algorithm { issuer });
        }
        let is_foreign = list.provenance(&signers) == Provenance::Foreign;
        is_foreign.then_some(ListFlaw::Signature { issuer })
    };
    lists.iter().filter_map(flaw).collect()
}

fn missing_lists(
    profile: &Profile,
    fetched: &FetchedLists,
    lists: &[RevocationList],
    scope: RevocationScope,
) -> Vec<ListFlaw> {
    let mut missing = Vec::new();
    let has_list = |signer: &ListSigner| lists.iter().any(|list| signer.is_issuer_of(list));
    let depth = profile.verify_depth;
    let anchors: Vec<_> = profile.trust_anchors.iter().map(|anchor| (ListSigner::of_anchor(anchor), anchor)).collect();
    // At depth 1, every end entity is of an anchor, so its list is needed in any scope.
    let needs_of_anchors = scope == RevocationScope::Chain || depth <= 1;
    if needs_of_anchors {
        for (_, anchor) in anchors.iter().filter(|(signer, _)| !has_list(signer)) {
            let subject = printable_name(&anchor.subject).unwrap_or_default();
            missing.push(match depth {
                0 | 1 => ListFlaw::NoneOfOnlyIssuer { subject },
                _ => ListFlaw::NoneOfAnchor { subject },
            });
        }
    }
    for certificate in &fetched.intermediates {
        if ListSigner::of_certificate(certificate).is_some_and(|signer| !has_list(&signer)) {
            let subject = super::file::subject(certificate);
            missing.push(ListFlaw::NoneOfIntermediate { subject });
        }
    }
    let is_of_anchor = |list: &RevocationList| anchors.iter().any(|(signer, _)| signer.is_issuer_of(list));
    let names_intermediate = missing.iter().any(|flaw| matches!(flaw, ListFlaw::NoneOfIntermediate { .. }));
    if !names_intermediate && depth > 1 && lists.iter().all(is_of_anchor) {
        missing.push(ListFlaw::NoneOfAnyIntermediate { depth });
    }
    missing
}

/// Warns where a certificate that many share is all that is demanded. A route for safe methods alone is no way for a webhook.
fn shared_certificates(parsed: &Parsed<'_>, report: &mut Report<'_>) {
    for (index, (raw, policy)) in parsed.raw_providers.iter().zip(&parsed.proofs.providers).enumerate() {
        let Some(preset) = parsed.preset(raw.get_ref()) else { continue };
        let Some(shared_by) = preset.certificate_shared_by() else { continue };
        let (preset, shared_by) = (preset.name().to_owned(), shared_by.to_owned());
        let takes_webhooks =
            |route: &Route| route.methods.iter().any(|method| !SAFE_METHODS.contains(&method.as_str()));
        let mut places = Vec::new();
        let is_used = parsed.routes_of(index).any(|(route, _, own)| own.is_none() && takes_webhooks(route));
        if policy.binding() == Binding::None && is_used {
            let RawProvider { proof, preset, .. } = raw.get_ref();
            places.push(proof.as_ref().map(Spanned::span).or(preset.as_ref().map(Spanned::span)));
        }
        for (route, raw, own) in parsed.routes_of(index) {
            if own == Some(Binding::None) && takes_webhooks(route) {
                places.push(raw.get_ref().proof.as_ref().map(Spanned::span));
            }
        }
        for at in places.into_iter().flatten() {
            let kind = WarningKind::SharedCertificate { preset: preset.clone(), shared_by: shared_by.clone() };
            report.warn_at(&at, kind);
        }
    }
}

/// Warns of a time-out that is longer than that of the sender with the shortest one: of a route, and of `[limits]` for the others. The default
/// of hookgate is a note. The sender to a durable route does not wait for the handler.
fn timeouts(parsed: &Parsed<'_>, report: &mut Report<'_>) {
    let timed = parsed.raw_providers.iter().enumerate().filter_map(|(index, raw)| {
        let timeout = parsed.preset(raw.get_ref())?.answer_timeout()?;
        Some((index, timeout, raw.get_ref().name.as_ref()?.get_ref(), raw.get_ref().preset.as_ref()?))
    });
    let timed: Vec<_> = timed.collect();
    // The time-outs of sender and handler in milliseconds, the provider, and its preset.
    let mut of_others: Option<(u128, u128, &String, &Spanned<String>)> = None;
    for (route, raw) in parsed.routes.iter().zip(parsed.raw_routes) {
        let admits = |index: usize| route.providers.iter().any(|ProviderId(id)| usize::from(*id) == index);
        let first = timed.iter().filter(|(index, ..)| admits(*index)).min_by_key(|(_, timeout, ..)| *timeout);
        let Some((_, sender, provider, preset)) = first.filter(|_| !raw.get_ref().written_delivery().is_durable())
        else {
            continue;
        };
        let handler = route.limits.handler_timeout;
        if handler <= *sender {
            continue;
        }
        let (handler_ms, sender_ms) = (handler.as_millis(), sender.as_millis());
        match &raw.get_ref().handler_timeout_ms {
            Some(at) => {
                let provider = (*provider).clone();
                report.warn(at, WarningKind::SlowerThanSender { provider, handler_ms, sender_ms });
            }
            None if of_others.is_none_or(|(shortest, ..)| sender_ms < shortest) => {
                of_others = Some((sender_ms, handler_ms, provider, preset));
            }
            None => {}
        }
    }
    let Some((sender_ms, handler_ms, provider, preset)) = of_others else { return };
    match parsed.raw_limits.and_then(|limits| limits.handler_timeout_ms.as_ref()) {
        Some(at) => {
            report.warn(at, WarningKind::SlowerThanSender { provider: provider.clone(), handler_ms, sender_ms });
        }
        None => report.note_about(preset, WarningKind::DefaultSlowerThanSender { handler_ms, sender_ms }),
    }
}

/// Warns of routes whose handler gets their requests, without a prefix, under paths of another route, whose demands are not met then.
fn shared_handlers(parsed: &Parsed<'_>, report: &mut Report<'_>) {
    let own = |index: usize| parsed.proofs.routes.get(index).is_some_and(Option::is_some);
    let stripped = parsed.routes.iter().zip(parsed.raw_routes).enumerate();
    for (index, (route, raw)) in stripped.filter(|(_, (route, _))| route.strip_prefix.is_some()) {
        let paths = route.path_at_handler();
        let is_reached = |(at, other): &(usize, &Route)| {
            let is_same = *at == index || other.providers == route.providers && !own(*at) && !own(index);
            let shares_host = route.host.meets(&other.host);
            let shares_method = other.methods.iter().any(|method| route.methods.contains(method));
            !is_same
                && shares_host
                && shares_method
                && shares_a_handler(other, route)
                && paths.meets(&other.path_at_handler())
        };
        let (Some((_, other)), Some(at)) =
            (parsed.routes.iter().enumerate().find(is_reached), &raw.get_ref().strip_prefix)
        else {
            continue;
        };
        report.warn(at, RouteWarning::SharedHandler { name: other.name.to_string() }.into());
    }
}

/// Warns of routes that answer everyone, but at some host come after another route. Notes where they make peers without a certificate hear more.
fn public_routes(parsed: &Parsed<'_>, report: &mut Report<'_>) {
    let asks = |route: &Route| {
        let mut providers = route.providers.iter().filter_map(|ProviderId(id)| parsed.providers.get(usize::from(*id)));
        providers.any(|provider| provider.on_failure == OnFailure::Abort)
    };
    for (route, raw) in parsed.routes.iter().zip(parsed.raw_routes) {
        let (PathPattern::Exact(path), Some(respond)) = (&route.path, &raw.get_ref().respond) else { continue };
        let at = raw.get_ref().path.as_ref().map_or_else(|| raw.span(), Spanned::span);
        let comes_first = |other: &&Route| {
            let is_narrower = route.host.covers(&other.host) && other.host != route.host;
            is_narrower && other.path.matches(path) && other.methods.iter().any(|method| route.methods.contains(method))
        };
        if let Some(other) = parsed.routes.iter().find(comes_first) {
            let (path, host, name) = (path.to_string(), other.host.to_string(), other.name.to_string());
            report.warn_at(&at, RouteWarning::PublicRouteBehind { path, host, name }.into());
        }
        let shares_names = |other: &&Route| route.host.meets(&other.host);
        if parsed.routes.iter().filter(shares_names).any(asks) {
            report.note_about(respond, RouteWarning::PublicRouteAsks.into());
        }
    }
}

/// Warns of senders with which no handshake can succeed: `[tls]` has no version of TLS, or no cipher suite, that their presets document.
fn handshakes(parsed: &Parsed<'_>, report: &mut Report<'_>) {
    let policy_at = || parsed.raw_tls.and_then(RawTls::policy_at);
    let groups_at = || parsed.raw_tls.and_then(RawTls::key_exchange_at);
    let versions = parsed.tls.versions();
    for (index, raw) in parsed.raw_providers.iter().enumerate() {
        let (Some(preset), Some(name)) = (parsed.preset(raw.get_ref()), raw.get_ref().name.as_ref()) else { continue };
        if parsed.routes_of(index).next().is_none() {
            continue;
        }
        let (provider, sender) = (name.get_ref().clone(), preset.tls_versions());
        if !sender.is_empty() && !sender.iter().any(|version| versions.contains(version)) {
            let numbers = sender.iter().map(|version| version.number()).collect();
            // If the policy has a version of the sender, the groups rule it out.
            let in_policy = parsed.tls.policy_versions().any(|version| sender.contains(&version));
            let (at, key) = if in_policy { (groups_at(), "key_exchange") } else { (policy_at(), "policy") };
            report.warn_at(
                &at.unwrap_or(name.span()),
                WarningKind::SenderWithoutVersion { provider, versions: numbers, key },
            );
            continue;
        }
        let suites = preset.cipher_suites();
        if suites.is_empty() || parsed.tls.suites().any(|suite| suites.contains(&suite)) {
            continue;
        }
        if parsed.tls.policy.suites().any(|suite| suites.contains(&suite)) {
            // The policy has a suite of the sender. So the groups rule it out, which they do with TLS 1.2 alone.
            let versions = vec![TlsVersion::Tls12.number()];
            let warning = WarningKind::SenderWithoutVersion { provider, versions, key: "key_exchange" };
            report.warn_at(&groups_at().unwrap_or(name.span()), warning);
        } else {
            report.warn_at(&policy_at().unwrap_or(name.span()), WarningKind::SenderWithoutSuite { provider });
        }
    }
}

fn shares_a_handler(one: &Route, other: &Route) -> bool {
    one.handlers().zip(other.handlers()).is_some_and(|(one, other)| one.meets(other))
}
