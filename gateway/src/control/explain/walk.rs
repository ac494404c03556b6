//! The walk of a subject through the stages, each asked what it would say.
//!
//! Owns the order, and what a stage that cannot be asked here is reported as. Must not decide: every verdict comes from the function that the
//! data plane calls for it.

use std::net::IpAddr;
use std::sync::Arc;

use hookgate_core::auth::{ReplayGuard, RequestView};
use hookgate_core::identity::{CertificateRequest, ChainRefusal, Claim, ProviderId, Scope};
use hookgate_core::reject::{Refusal, Reject, Stage};
use hookgate_core::route::RouteId;
use hookgate_filter::{Explanation, Mode, Policy};
use rustls_pki_types::UnixTime;

use super::places::{Place, Places};
use super::remedy::{self, Owner};
use super::step::{OfProvider, Step, Verdict};
use super::subject::Subject;
use crate::control::filter;
use crate::http::{check_direction, check_source, missed, requested_host};
use crate::snapshot::{Reception, Site, Snapshot};

/// The subject, and what it is asked against.
pub(super) struct Walk<'a> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) filter: &'a Policy,
    pub(super) places: &'a Places<'a>,
    pub(super) subject: &'a Subject,
    pub(super) now: UnixTime,
    /// By provider.
    pub(super) names: &'a [Arc<str>],
}

impl Walk<'_> {
    /// What every stage says, in the order of the way.
    pub(super) fn steps(&self) -> Vec<Step> {
        let of_record = self.of_record();
        let before = of_record.as_ref().is_some_and(|(stage, _)| *stage < Stage::Route);
        let is_of_auth = of_record.as_ref().is_some_and(|(stage, _)| *stage == Stage::Auth);
        let (before, after) = if before { (of_record, None) } else { (None, of_record) };
        let mut steps = vec![self.filter_step()];
        let (tls, site) = self.tls();
        steps.push(tls);
        let route = self.route();
        let route_id = route.as_ref().ok().and_then(|found| *found);
        let (identity, proven) = self.identity(site, route_id);
        steps.push(identity);
        steps.extend(before.map(|(_, step)| step));
        steps.push(self.route_step(route));
        let (admission, provider) = self.admission(route_id, &proven);
        steps.push(admission);
        if !is_of_auth {
            steps.push(self.auth(route_id, provider));
        }
        steps.extend(after.map(|(_, step)| step));
        if steps.iter().all(|step| step.verdict.is_passed()) {
            steps.extend(route_id.and_then(|route| self.stored(route)));
        }
        steps
    }

    /// What becomes of an admitted request to a durable route.
    fn stored(&self, route: RouteId) -> Option<Step> {
        let rule = self.snapshot.durable(route)?;
        let handler = self.snapshot.routes.route(route).handler.socket.display();
        let text = format!(
            "Stored, answered with {}, then handed to the handler at {handler} until it takes it, for {} s at most.",
            rule.status.as_u16(),
            rule.retry_for.as_secs()
        );
        let place = self.places.of_route(route.0, &["delivery"]);
        Some(Step { place, ..Step::new(Stage::Upstream.label(), Verdict::Passes, text) })
    }

    fn filter_step(&self) -> Step {
        let stage = "filter";
        let place = self.places.in_section("filter", &["mode"]);
        if self.filter.mode == Mode::Off {
            return Step { place, ..Step::new(stage, Verdict::Passes, "The filter is off: every packet passes.") };
        }
        let Some(address) = self.subject.from else {
            return Step { place, ..Step::new(stage, Verdict::Skipped, "No address is known (--from ADDRESS).") };
        };
        let (tables, numbers) = match filter::tables(self.filter) {
            Ok(tables) => tables,
            Err(error) => return Step { place, ..Step::new(stage, Verdict::Unknown, error.to_string()) },
        };
        let found = Explanation::new(address, &tables, &numbers);
        let set = found.range.as_ref().and_then(|(_, _, set)| self.names.iter().position(|name| **name == **set));
        let ranges = &["source_ranges", "source_range_files", "source_range_urls"];
        let place = set.and_then(|index| self.places.of_provider(index, None, ranges)).or(place);
        match (found.passes(), self.filter.mode) {
            (true, _) => Step { place, ..Step::new(stage, Verdict::Passes, found.to_string()) },
            (false, Mode::Monitor) => {
                let text = format!("{found}, if the mode were \"enforce\"; it is \"monitor\", so it passes");
                Step { place, ..Step::new(stage, Verdict::Passes, text) }
            }
            (false, _) => {
                let remedy = Some("add the address to the ranges of its provider, or to [filter] allow".to_owned());
                Step { place, remedy, ..Step::new(stage, Verdict::Refused, found.to_string()) }
            }
        }
    }

    fn tls(&self) -> (Step, Option<&Site>) {
        let stage = "tls";
        let name = self.subject.server_name.as_deref();
        let shown = name.map_or_else(|| "no server name".to_owned(), |name| format!("the server name {name}"));
        match self.snapshot.reception(name) {
            Reception::TurnAway => {
                let refusal = Refusal::new(Reject::UnknownServerName, format!("No route has {shown}."));
                (Step::refused(stage, &refusal, self.places.of_route(0, &["host"])), None)
            }
            Reception::Site(site) => {
                let asks = match site.certificate_request {
                    CertificateRequest::Required => "asks for a client certificate",
                    CertificateRequest::Optional => {
                        "asks for a client certificate, and takes some requests without one"
                    }
                    CertificateRequest::Never => "asks for no client certificate",
                };
                let text = format!("{shown} {asks}; its providers: {}", self.list(&site.scope.providers));
                (Step::new(stage, Verdict::Passes, text), Some(site))
            }
        }
    }

    /// What the site and each of its providers say of the chain, and whom it proves.
    fn identity(&self, site: Option<&Site>, route: Option<RouteId>) -> (Step, Vec<ProviderId>) {
        let stage = "identity";
        let Some(site) = site else {
            return (Step::new(stage, Verdict::Skipped, "There is no such site."), Vec::new());
        };
        let chain = &self.subject.chain;
        if chain.is_empty() {
            return (self.without_chain(site, route), Vec::new());
        }
        let providers: Vec<_> = site.scope.providers.iter().map(|id| self.of_provider(*id, route)).collect();
        let passes = providers.iter().zip(&site.scope.providers).filter(|(of, _)| of.verdict == Verdict::Passes);
        let proven: Vec<ProviderId> = passes.map(|(_, id)| *id).collect();
        let refused = self.snapshot.identity.refusal_of_presented(&site.scope, chain, self.now);
        let step = match refused {
            None => Step::new(stage, Verdict::Passes, format!("The certificate proves {}.", self.list(&proven))),
            Some(refused) => self.refused_chain(&refused.refusal, route),
        };
        (Step { providers, ..step }, proven)
    }

    fn without_chain(&self, site: &Site, route: Option<RouteId>) -> Step {
        let stage = "identity";
        if let Some(record) = &self.subject.record {
            let reject = Reject::of_reason(&record.reason);
            if reject.is_some_and(|reject| reject.stage() < Stage::Identity) {
                return Step::new(stage, Verdict::Skipped, "No certificate was judged.");
            }
            let had_one = record.fingerprint.is_some() || reject == Some(Reject::ChainTooLarge);
            if let Some(reject) = reject.filter(|reject| had_one && reject.stage() == Stage::Identity) {
                let refusal = Refusal::new(reject, record.explanation.as_str());
                return Step::refused(stage, &refusal, self.place_of_record(reject));
            }
            if had_one {
                return Step::new(
                    stage,
                    Verdict::Unknown,
                    "The chain is not kept any more; --chain FILE gives it again.",
                );
            }
        }
        if site.certificate_request.admits_without() {
            return Step::new(stage, Verdict::Passes, "There is no certificate; the request must prove who sent it.");
        }
        let refused = self.snapshot.identity.refusal_of_presented(&site.scope, &[], self.now);
        match refused {
            Some(refused) => {
                let refusal = refused.refusal.refusal;
                let of_route = route.and_then(|route| self.snapshot.routes.route(route).providers.first());
                let first = of_route.or(site.scope.providers.first()).map(|id| usize::from(id.0));
                let place = first.and_then(|index| self.places.of_provider(index, None, &["client_certificate"]));
                Step::refused(stage, &refusal, place)
            }
            None => Step::new(stage, Verdict::Passes, "There is no certificate."),
        }
    }

    /// The refusal of the site, or that of the route if it is about other providers.
    fn refused_chain(&self, refused: &ChainRefusal, route: Option<RouteId>) -> Step {
        let admitted = route.map(|route| &self.snapshot.routes.route(route).providers);
        let at_route = admitted.and_then(|ids| self.snapshot.identity.refusal_at_route(refused, ids, self.now));
        let told = at_route.as_ref().unwrap_or(refused);
        let at = told.provider.map(|id| (id, claimed_profile(told, id)));
        let place = self.place(told.refusal.reject, route, at);
        let step = Step::refused("identity", &told.refusal, place);
        // What helps against the chain stands with each provider.
        if told.refusal.reject == Reject::UnknownServerName { step } else { Step { remedy: None, ..step } }
    }

    fn of_provider(&self, id: ProviderId, route: Option<RouteId>) -> OfProvider {
        let chain = &self.subject.chain;
        let provider = self.snapshot.identity.provider(id);
        let name = provider.name.to_string();
        let is_of_route = route.map(|route| self.snapshot.routes.route(route).providers.contains(&id));
        // Each provider alone: its own scope, which no site has.
        let scope = Scope { id: u32::MAX - u32::from(id.0), providers: vec![id] };
        let refused = self.snapshot.identity.refusal_of_presented(&scope, chain, self.now);
        let Some(refused) = refused else {
            let text = if provider.profiles.is_empty() { "demands no certificate" } else { "is proven" };
            let verdict = if provider.profiles.is_empty() { Verdict::Skipped } else { Verdict::Passes };
            return OfProvider {
                name,
                is_of_route,
                verdict,
                reason: None,
                text: text.to_owned(),
                place: None,
                remedy: None,
            };
        };
        let refusal = &refused.refusal.refusal;
        if provider.profiles.is_empty() {
            let text = "demands no certificate: its requests prove it themselves".to_owned();
            return OfProvider {
                name,
                is_of_route,
                verdict: Verdict::Skipped,
                reason: None,
                text,
                place: None,
                remedy: None,
            };
        }
        let profile = claimed_profile(&refused.refusal, id);
        let preset = self.places.preset(usize::from(id.0));
        let place = self.place(refusal.reject, None, Some((id, profile)));
        let preset = preset.filter(|_| place.as_ref().is_some_and(|place| place.key == "preset"));
        let remedy = Some(remedy::of_certificate(refusal.reject, chain, provider, preset));
        let Step { verdict, reason, text, .. } = Step::refused("identity", refusal, None);
        OfProvider { name, is_of_route, verdict, reason, text, place, remedy }
    }

    /// The route of the request. `None` if no request is described.
    fn route(&self) -> Result<Option<RouteId>, Refusal> {
        let Some(head) = &self.subject.head else {
            let of_record = self.subject.record.as_ref().and_then(|record| record.route.as_deref());
            let routes = self.snapshot.routes.routes().iter();
            return Ok(of_record
                .and_then(|name| routes.map(|route| &*route.name).position(|it| it == name))
                .map(RouteId));
        };
        let server_name = self.subject.server_name.as_deref();
        let host = requested_host(head, server_name)?;
        check_direction(server_name, &host)?;
        let found = self.snapshot.routes.find(&host, head.uri.path(), &head.method);
        found.map(Some).map_err(|miss| missed(&miss, &host, &head.method))
    }

    fn route_step(&self, route: Result<Option<RouteId>, Refusal>) -> Step {
        let stage = "route";
        match route {
            Ok(Some(id)) => {
                let route = self.snapshot.routes.route(id);
                let text = format!("The route {} admits {}.", route.name, self.list(&route.providers));
                Step { place: self.places.of_route(id.0, &["path"]), ..Step::new(stage, Verdict::Passes, text) }
            }
            Ok(None) => Step::new(stage, Verdict::Skipped, "No request is described (--path PATH)."),
            Err(refusal) => {
                let place = self.nearest_route(refusal.reject);
                Step::refused(stage, &refusal, place)
            }
        }
    }

    /// A route of the host, as far as there is one: that with the path if the method is wrong.
    fn nearest_route(&self, reject: Reject) -> Option<Place> {
        let path = self.subject.head.as_ref().map_or("", |head| head.uri.path());
        let host = self.subject.server_name.as_deref();
        let routes = self.snapshot.routes.routes();
        let is_of_host = |host_of: &Option<Arc<str>>| host_of.is_none() || host_of.as_deref() == host;
        let by_path = routes.iter().position(|route| is_of_host(&route.host) && route.path.matches(path));
        let by_host = || routes.iter().position(|route| is_of_host(&route.host));
        let index = by_path.or_else(by_host).unwrap_or(0);
        let keys: &[&str] = if reject == Reject::MethodNotAllowed { &["methods"] } else { &["path", "host"] };
        self.places.of_route(index, keys)
    }

    /// Whether the route admits the sender from this address, and as which provider.
    fn admission(&self, route: Option<RouteId>, proven: &[ProviderId]) -> (Step, Option<ProviderId>) {
        let stage = "admission";
        let Some(id) = route else { return (Step::new(stage, Verdict::Skipped, "There is no route."), None) };
        let route = self.snapshot.routes.route(id);
        let chosen = self.snapshot.demands.choose(&route.providers, |provider| proven.contains(&provider));
        let Some((provider, _)) = chosen else {
            if proven.is_empty() {
                return (Step::new(stage, Verdict::Skipped, "No provider is proven."), None);
            }
            let detail = format!(
                "The certificate proves {}, but this route admits only {}.",
                self.list(proven),
                self.list(&route.providers)
            );
            let refusal = Refusal::new(Reject::ProviderNotAdmitted, detail);
            return (Step::refused(stage, &refusal, self.places.of_route(id.0, &["providers"])), None);
        };
        let index = usize::from(provider.0);
        let name = &self.names[index];
        let Some(address) = self.subject.from else {
            let text = format!("As {name}. No address is known (--from ADDRESS), so its ranges are not asked.");
            return (Step::new(stage, Verdict::Passes, text), Some(provider));
        };
        let place = self.place(Reject::SourceNotInRanges, None, Some((provider, None)));
        let step = match check_source(self.snapshot.sources.get(index), address, name) {
            Ok(()) => Step { place: None, ..Step::new(stage, Verdict::Passes, self.admitted_from(index, address)) },
            Err(refusal) => Step::refused(stage, &refusal, place),
        };
        (step, Some(provider))
    }

    fn admitted_from(&self, provider: usize, address: IpAddr) -> String {
        let name = &self.names[provider];
        let is_checked = self.snapshot.sources.get(provider).is_some_and(|sources| sources.misses(address));
        match is_checked {
            true => format!("As {name}; {address} is in none of its ranges, which is only counted."),
            false => format!("As {name}, from {address}."),
        }
    }

    /// What the proofs of the request are worth, as `provider`, or as the first provider of the route.
    fn auth(&self, route: Option<RouteId>, provider: Option<ProviderId>) -> Step {
        let stage = "auth";
        let first = || Some(*self.snapshot.routes.route(route?).providers.first()?);
        let (Some(route), Some(as_provider)) = (route, provider.or_else(first)) else {
            return Step::new(stage, Verdict::Skipped, "There is no route.");
        };
        let name = &self.names[usize::from(as_provider.0)];
        let condition = if provider.is_none() { format!(" if the sender were {name}") } else { String::new() };
        let Some(policy) = self.snapshot.demands.of(route, as_provider) else {
            return Step::new(stage, Verdict::Unknown, "This provider has no policy.");
        };
        let demanded = self.place_of_proof(route, as_provider);
        if !policy.demands_proof() && policy.duplicate_answer().is_none() {
            let text = format!("Nothing is demanded beside the certificate{condition}.");
            return Step { place: demanded, ..Step::new(stage, Verdict::Passes, text) };
        }
        let head = self.subject.head.as_ref().filter(|_| self.subject.is_whole);
        let Some(head) = head else {
            let recorded = self.subject.record.as_ref().and_then(|record| Reject::of_reason(&record.reason));
            let text = "A proof is demanded; the daemon keeps neither fields nor bodies (--header, --body).";
            let verdict = match recorded {
                // It got further.
                Some(reject) if reject.stage() == Stage::Upstream => Verdict::Passes,
                _ => Verdict::Unknown,
            };
            return Step { place: demanded, ..Step::new(stage, verdict, text) };
        };
        let view = RequestView {
            method: &head.method,
            path: head.uri.path_and_query().map_or("/", |target| target.as_str()),
            headers: &head.headers,
            body: &self.subject.body,
            received_at: self.now,
        };
        let guard = Arc::new(ReplayGuard::new(1));
        match policy.check(&view, &self.snapshot.keys.current(), &guard) {
            Ok(_) => Step {
                place: demanded,
                ..Step::new(stage, Verdict::Passes, format!("The request proves itself{condition}."))
            },
            Err(unproven) => {
                let place = self.place(unproven.refusal.reject, Some(route), Some((as_provider, None)));
                let step = Step::refused(stage, &unproven.refusal, place);
                let text = if condition.is_empty() { step.text } else { format!("Refused{condition}: {}", step.text) };
                Step { text, ..step }
            }
        }
    }

    /// What the daemon said at a stage that cannot be asked again without the request.
    fn of_record(&self) -> Option<(Stage, Step)> {
        let record = self.subject.record.as_ref()?;
        let reject = Reject::of_reason(&record.reason)?;
        let is_asked = match reject.stage() {
            Stage::Identity | Stage::Admission | Stage::Route => true,
            Stage::Auth => self.subject.is_whole,
            Stage::Tls => reject == Reject::UnknownServerName,
            Stage::Accept | Stage::Http | Stage::Upstream => false,
        };
        if is_asked {
            return None;
        }
        let refusal = Refusal::new(reject, record.explanation.as_str());
        let stage = reject.stage();
        Some((stage, Step::refused(stage.label(), &refusal, self.place_of_record(reject))))
    }

    /// The place of what decided about the recorded refusal.
    fn place_of_record(&self, reject: Reject) -> Option<Place> {
        let record = self.subject.record.as_ref()?;
        let routes = self.snapshot.routes.routes();
        let route = record.route.as_deref().and_then(|name| routes.iter().position(|route| *route.name == *name));
        let route = route.map(RouteId);
        let provider = record.providers.first().and_then(|name| self.names.iter().position(|it| **it == **name));
        let provider = provider.and_then(|index| Some(ProviderId(u16::try_from(index).ok()?)));
        let provider = provider.or_else(|| Some(*self.snapshot.routes.route(route?).providers.first()?));
        self.place(reject, route, provider.map(|id| (id, None)))
    }

    fn place_of_proof(&self, route: RouteId, provider: ProviderId) -> Option<Place> {
        let keys = &["proof", "signature", "token", "session_parameter", "secret", "basic", "replay"];
        if self.places.route_has(route.0, keys) {
            return self.places.of_route(route.0, keys);
        }
        self.places.of_provider(usize::from(provider.0), None, keys)
    }

    /// The place of what decides about a refusal for this reason.
    fn place(
        &self,
        reject: Reject,
        route: Option<RouteId>,
        provider: Option<(ProviderId, Option<u16>)>,
    ) -> Option<Place> {
        let of_provider = |keys: &[&str]| {
            let (id, profile) = provider?;
            let profiles = &self.snapshot.identity.provider(id).profiles;
            let profile = profile.and_then(|index| profiles.get(usize::from(index))).map(|profile| &*profile.name);
            self.places.of_provider(usize::from(id.0), profile, keys)
        };
        match remedy::owner(reject) {
            Owner::Section(section, keys) => self.places.in_section(section, keys),
            Owner::Provider(keys) => of_provider(keys),
            // A server name is that of no route.
            Owner::Route(keys) => self.places.of_route(route.map_or(0, |route| route.0), keys),
            Owner::Nothing => None,
            Owner::Proof(keys) => match route {
                Some(route) if self.places.route_has(route.0, keys) => self.places.of_route(route.0, keys),
                _ => of_provider(keys),
            },
        }
    }

    /// The names of these providers.
    fn list(&self, ids: &[ProviderId]) -> String {
        let names = ids.iter().filter_map(|id| self.names.get(usize::from(id.0)));
        let names: Vec<&str> = names.map(|name| &**name).collect();
        if names.is_empty() { "none".to_owned() } else { names.join(", ") }
    }
}

/// The index of the profile of this provider that the chain claims, if its refusal may be ignorance of this receiver.
fn claimed_profile(refused: &ChainRefusal, id: ProviderId) -> Option<u16> {
    let claims = refused.suspect.as_ref()?.claims();
    claims.iter().find(|claim| claim.provider() == id).map(Claim::profile)
}
