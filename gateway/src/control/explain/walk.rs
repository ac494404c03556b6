//! The walk of a subject through the stages, each asked what it would say.
//!
//! Owns the order, and every stage but `identity` (`certificate`), and what a stage that cannot be asked here is reported as. Must not decide: every verdict comes from the function that the
//! data plane calls for it.

use std::net::IpAddr;
use std::sync::Arc;

use hookgate_core::auth::{ReplayGuard, RequestView};
use hookgate_core::identity::{CertificateRequest, ProviderId};
use hookgate_core::limits::Limits;
use hookgate_core::reject::{Refusal, Reject, Stage};
use hookgate_core::route::{RouteId, RouteLimits};
use hookgate_filter::{Explanation, Mode, Policy};
use rustls_pki_types::UnixTime;

use super::nearest::{Missed, nearest};
use super::places::{Place, Places};
use super::remedy::{self, Owner};
use super::step::{Step, Verdict};
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
    pub(super) limits: Limits,
    /// Whether the file was written after the daemon refused the subject.
    pub(super) is_changed: bool,
    /// By provider.
    pub(super) names: &'a [Arc<str>],
}

/// The route of the request, if one is described.
pub(super) type Routed = Result<Option<RouteId>, Unrouted>;

/// Why a request has no route.
#[derive(Debug)]
pub(super) struct Unrouted {
    pub(super) refusal: Refusal,
    /// The table of routes has none, which not every sender is told. Otherwise the request itself is at fault.
    pub(super) is_of_table: bool,
}

impl Walk<'_> {
    /// What every stage says, in the order of the way.
    pub(super) fn steps(&self) -> Vec<Step> {
        let (tls, site) = self.tls();
        let route = if site.is_some() { self.route() } else { Ok(None) };
        let route_id = route.as_ref().ok().and_then(|found| *found);
        let (identity, proven) = self.identity(site, &route);
        let (admission, provider) = self.admission(route_id, &proven);
        let of_record = self.of_record(route_id, provider);
        let before = of_record.as_ref().is_some_and(|(stage, _)| *stage < Stage::Route);
        let is_of_auth = of_record.as_ref().is_some_and(|(stage, _)| *stage == Stage::Auth);
        let (before, after) = if before { (of_record, None) } else { (None, of_record) };
        let mut steps = vec![self.filter_step(), tls, identity];
        steps.extend(before.map(|(_, step)| step));
        steps.push(match site {
            Some(_) => self.route_step(route),
            None => Step::new("route", Verdict::Skipped, "No route has this server name."),
        });
        steps.push(admission);
        if !is_of_auth {
            steps.push(self.auth(route_id, provider));
        }
        steps.extend(after.map(|(_, step)| step));
        if let Some(route) = route_id {
            self.correct_misplaced(route, &proven, &mut steps);
        }
        if steps.iter().all(|step| step.said.verdict.is_passed()) {
            steps.extend(route_id.and_then(|route| self.stored(route)));
        }
        steps
    }

    /// A request with the certificate of another provider lacks the proof of this one because the route admits the wrong provider, or
    /// because the URL is that of another route.
    fn correct_misplaced(&self, route: RouteId, proven: &[ProviderId], steps: &mut [Step]) {
        let admitted = &self.snapshot.routes.route(route).providers;
        if proven.is_empty() || proven.iter().any(|id| admitted.contains(id)) {
            return;
        }
        let is_of_proof = |step: &&mut Step| {
            let reject = step.said.reason.and_then(Reject::of_reason);
            step.stage == Stage::Auth.label()
                && reject.is_some_and(|reject| matches!(remedy::owner(reject), Owner::Proof(_)))
        };
        for step in steps.iter_mut().filter(is_of_proof) {
            step.said.place = self.places.of_route(route.0, &["providers"]);
            step.said.remedy = Some(format!(
                "the certificate proves {}, which this route does not admit: correct providers of the route, or the URL of the webhook",
                self.list(proven)
            ));
        }
    }

    /// What becomes of an admitted request to a durable route.
    fn stored(&self, route: RouteId) -> Option<Step> {
        let rule = self.snapshot.durable(route)?;
        let handlers = self.snapshot.routes.route(route).handlers()?;
        let text = format!(
            "Stored, answered with {}, then handed to the handler at {handlers} until it takes it, for {} s at most.",
            rule.status.as_u16(),
            rule.retry_for.as_secs()
        );
        let place = self.places.of_route(route.0, &["delivery"]);
        Some(Step::new(Stage::Upstream.label(), Verdict::Passes, text).at(place))
    }

    fn filter_step(&self) -> Step {
        let stage = "filter";
        // Without the section, no line says that it is off.
        let place = self.places.in_section("filter", &["mode"]).filter(|place| place.line.is_some());
        if self.filter.mode == Mode::Off {
            return Step::new(stage, Verdict::Passes, "The filter is off: every packet passes.").at(place);
        }
        let Some(address) = self.subject.packets_from else {
            return Step::new(stage, Verdict::Skipped, "No address is known (--from ADDRESS).").at(place);
        };
        let (tables, numbers) = match filter::tables(self.filter) {
            Ok(tables) => tables,
            Err(error) => return Step::new(stage, Verdict::Unknown, error.to_string()).at(place),
        };
        let found = Explanation::new(address, &tables, &numbers);
        let set = found.range.as_ref().and_then(|(_, _, set)| self.names.iter().position(|name| **name == **set));
        let ranges = &["source_ranges", "source_range_files", "source_range_urls"];
        let place = set.and_then(|index| self.places.of_provider(index, None, ranges)).or(place);
        match (found.passes(), self.filter.mode) {
            (true, _) => Step::new(stage, Verdict::Passes, found.to_string()).at(place),
            (false, Mode::Monitor) => {
                let text = format!("{found}, if the mode were \"enforce\"; it is \"monitor\", so it passes");
                Step::new(stage, Verdict::Passes, text).at(place)
            }
            (false, _) => {
                let remedy = Some("add the address to the ranges of its provider, or to [filter] allow".to_owned());
                Step::new(stage, Verdict::Refused, found.to_string()).at(place).advising(remedy)
            }
        }
    }

    fn tls(&self) -> (Step, Option<&Site>) {
        let stage = "tls";
        let name = self.subject.server_name.as_deref();
        let shown = name.map_or_else(|| "no server name".to_owned(), |name| format!("the server name {name}"));
        match self.snapshot.reception(name) {
            Reception::Site(site) if site.serves_anyone() => {
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
            // Either way of saying that no route has the name: by an alert, or by the answer to each request.
            Reception::TurnAway | Reception::Site(_) => {
                let text = match name {
                    Some(name) => format!("No route has the server name {name}."),
                    None => "Every route has a host, and no server name is known (--server-name NAME).".to_owned(),
                };
                let refusal = Refusal::new(Reject::UnknownServerName, text);
                (Step::refused(stage, &refusal, self.nearest_route(Reject::UnknownServerName)), None)
            }
        }
    }

    /// The route of the request. `None` if no request is described.
    fn route(&self) -> Routed {
        let Some(head) = &self.subject.head else {
            let of_record = self.subject.record.as_ref().and_then(|record| record.route.as_deref());
            let routes = self.snapshot.routes.routes().iter();
            return Ok(of_record
                .and_then(|name| routes.map(|route| &*route.name).position(|it| it == name))
                .map(RouteId));
        };
        let server_name = self.subject.server_name.as_deref();
        let of_request = |refusal| Unrouted { refusal, is_of_table: false };
        let host = requested_host(head, server_name).map_err(of_request)?;
        check_direction(server_name, &host).map_err(of_request)?;
        let found = self.snapshot.routes.find(&host, head.uri.path(), &head.method);
        let missed = |miss| Unrouted { refusal: missed(&miss, &host, &head.method), is_of_table: true };
        found.map(Some).map_err(missed)
    }

    fn route_step(&self, route: Routed) -> Step {
        let stage = "route";
        match route {
            Ok(Some(id)) => {
                let route = self.snapshot.routes.route(id);
                if let Some(status) = route.public_status() {
                    let text = format!("The route {} answers everyone with {}.", route.name, status.as_u16());
                    return Step::new(stage, Verdict::Passes, text).at(self.places.of_route(id.0, &["respond"]));
                }
                let mut text = format!("The route {} admits {}.", route.name, self.list(&route.providers));
                let target = self.subject.head.as_ref().and_then(|head| head.uri.path_and_query());
                if let (Some(prefix), Some(target)) = (&route.strip_prefix, target) {
                    // The query may hold a secret.
                    text.push_str(&format!(" Its handler gets the path {}.", prefix.strip(target).path()));
                }
                Step::new(stage, Verdict::Passes, text).at(self.places.of_route(id.0, &["path"]))
            }
            Ok(None) => Step::new(stage, Verdict::Skipped, "No request is described (--path PATH)."),
            Err(Unrouted { refusal, is_of_table }) => {
                let place = if is_of_table { self.nearest_route(refusal.reject) } else { None };
                Step::refused(stage, &refusal, place)
            }
        }
    }

    /// The line of the route that is most like the request, if one is, which an operator would change.
    pub(super) fn nearest_route(&self, reject: Reject) -> Option<Place> {
        let head = self.subject.head.as_ref();
        let request = Missed {
            host: self.subject.server_name.as_deref(),
            path: head.map_or("", |head| head.uri.path()),
            method: head.map(|head| &head.method),
        };
        let (index, keys) = nearest(self.snapshot.routes.routes(), request, reject)?;
        self.places.of_route(index, keys)
    }

    /// Whether the route admits the sender from this address, and as which provider.
    fn admission(&self, route: Option<RouteId>, proven: &[ProviderId]) -> (Step, Option<ProviderId>) {
        let stage = "admission";
        let Some(id) = route else { return (Step::new(stage, Verdict::Skipped, "There is no route."), None) };
        if self.is_public(Some(id)) {
            return (Step::new(stage, Verdict::Passes, "The route demands nothing of the sender."), None);
        }
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
        let step = match check_source(self.snapshot.sources.get(index), address, name) {
            Ok(()) => Step::new(stage, Verdict::Passes, self.admitted_from(index, address)),
            Err(refusal) => Step::refused(stage, &refusal, self.place(&refusal, None, Some((provider, None)))),
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
        if self.is_public(route) {
            return Step::new(stage, Verdict::Passes, "Nothing is demanded.");
        }
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
            return Step::new(stage, Verdict::Passes, text).at(demanded);
        }
        let head = self.subject.head.as_ref().filter(|_| self.subject.is_whole);
        let Some(head) = head else {
            let recorded = self.subject.record.as_ref().and_then(|record| Reject::of_reason(&record.reason));
            let (verdict, text) = match recorded {
                Some(Reject::BufferLimit) => {
                    (Verdict::Unknown, "The daemon had no room for the body, so no proof was judged.")
                }
                Some(reject) if reject.stage() == Stage::Upstream => {
                    (Verdict::Passes, "The request proved itself to the daemon; what refused it came after that.")
                }
                _ => (
                    Verdict::Unknown,
                    "A proof is demanded; the daemon keeps neither fields nor bodies (--header, --body).",
                ),
            };
            return Step::new(stage, verdict, text).at(demanded);
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
            Ok(_) => Step::new(stage, Verdict::Passes, format!("The request proves itself{condition}.")).at(demanded),
            Err(unproven) => {
                let place = self.place(&unproven.refusal, Some(route), Some((as_provider, None)));
                let mut step = Step::refused(stage, &unproven.refusal, place);
                if !condition.is_empty() {
                    step.said.text = format!("Refused{condition}: {}", step.said.text);
                }
                step
            }
        }
    }

    /// What the daemon said at a stage that cannot be asked again without the request. `None` if it is asked, or if what it refused for is no
    /// longer demanded of `provider` on `route`.
    fn of_record(&self, route: Option<RouteId>, provider: Option<ProviderId>) -> Option<(Stage, Step)> {
        let record = self.subject.record.as_ref()?;
        let reject = Reject::of_reason(&record.reason)?;
        let is_asked = match reject.stage() {
            Stage::Identity | Stage::Admission | Stage::Route => true,
            Stage::Auth => self.subject.is_whole || !self.demands(reject, route, provider),
            Stage::Tls => reject == Reject::UnknownServerName,
            Stage::Accept | Stage::Proxy | Stage::Http | Stage::Upstream => false,
        };
        if is_asked {
            return None;
        }
        let refusal = Refusal::new(reject, record.explanation.as_str());
        let stage = reject.stage();
        let mut step = Step::refused(stage.label(), &refusal, self.place_of_record(&refusal));
        let now = match remedy::owner(reject) {
            Owner::Section(_, keys) => remedy::now(keys, &self.limits),
            Owner::Bound(keys) => {
                let of_route = route.map(|route| self.snapshot.routes.route(route).limits);
                let RouteLimits { handler_timeout, max_body_bytes, .. } =
                    of_route.unwrap_or_else(|| RouteLimits::of(&self.limits));
                remedy::now(keys, &Limits { handler_timeout, max_body_bytes, ..self.limits })
            }
            _ => String::new(),
        };
        let remedy = step.said.remedy.as_mut().filter(|_| !now.is_empty());
        remedy.into_iter().for_each(|remedy| *remedy = format!("{remedy} ({now})"));
        if self.is_changed {
            let now = if now.is_empty() { String::new() } else { format!("; {now}") };
            step.said.verdict = Verdict::Unknown;
            step.said.text = format!(
                "{} The daemon said so before this file was changed, and keeps nothing by which this can be judged again{now}.",
                record.explanation
            );
        }
        Some((stage, step))
    }

    /// Whether a request to `route`, as `provider` or its first one, can still be refused for this reason of the stage `auth`.
    fn demands(&self, reject: Reject, route: Option<RouteId>, provider: Option<ProviderId>) -> bool {
        let Some(route) = route else { return true };
        let provider = provider.or_else(|| self.snapshot.routes.route(route).providers.first().copied());
        let policy = provider.and_then(|provider| self.snapshot.demands.of(route, provider));
        policy.is_none_or(|policy| policy.can_refuse_for(reject))
    }

    /// The place of what decided about the recorded refusal.
    pub(super) fn place_of_record(&self, refusal: &Refusal) -> Option<Place> {
        let record = self.subject.record.as_ref()?;
        let routes = self.snapshot.routes.routes();
        let route = record.route.as_deref().and_then(|name| routes.iter().position(|route| *route.name == *name));
        let route = route.map(RouteId);
        let provider = record.providers.first().and_then(|name| self.names.iter().position(|it| **it == **name));
        let provider = provider.and_then(|index| Some(ProviderId(u16::try_from(index).ok()?)));
        let provider = provider.or_else(|| Some(*self.snapshot.routes.route(route?).providers.first()?));
        self.place(refusal, route, provider.map(|id| (id, None)))
    }

    fn place_of_proof(&self, route: RouteId, provider: ProviderId) -> Option<Place> {
        let keys = &["proof", "signature", "token", "session_parameter", "secret", "basic", "replay"];
        if self.places.route_has(route.0, keys) {
            return self.places.of_route(route.0, keys);
        }
        self.places.of_provider(usize::from(provider.0), None, keys)
    }

    /// The place of what decides about a refusal.
    pub(super) fn place(
        &self,
        refusal: &Refusal,
        route: Option<RouteId>,
        provider: Option<(ProviderId, Option<u16>)>,
    ) -> Option<Place> {
        let of_provider = |keys: &[&str]| {
            let (id, profile) = provider?;
            let profiles = &self.snapshot.identity.provider(id).profiles;
            let profile = profile.and_then(|index| profiles.get(usize::from(index))).map(|profile| &*profile.name);
            self.places.of_provider(usize::from(id.0), profile, keys)
        };
        let place = match remedy::owner(refusal.reject) {
            Owner::Section(section, keys) => {
                // The sentence names the keys that it is about, if not all of them.
                let named: Vec<&str> = keys.iter().copied().filter(|key| refusal.detail().contains(key)).collect();
                self.places.in_section(section, if named.is_empty() { keys } else { &named })
            }
            Owner::Provider(keys) => of_provider(keys),
            Owner::Route(keys) => self.places.of_route(route?.0, keys),
            Owner::Bound(keys) => match route {
                Some(route) if self.places.route_has(route.0, keys) => self.places.of_route(route.0, keys),
                _ => self.places.in_section("limits", keys),
            },
            Owner::Nearest => self.nearest_route(refusal.reject),
            Owner::Nothing => None,
            Owner::Proof(keys) => match route {
                Some(route) if self.places.route_has(route.0, keys) => self.places.of_route(route.0, keys),
                _ => of_provider(keys),
            },
        }?;
        let is_of_window = refusal.reject == Reject::TimestampOutsideWindow && place.note.is_none();
        Some(if is_of_window { Place { note: Some("tolerance_s in it".to_owned()), ..place } } else { place })
    }

    /// Whether the route answers everyone.
    pub(super) fn is_public(&self, route: Option<RouteId>) -> bool {
        route.is_some_and(|id| self.snapshot.routes.route(id).public_status().is_some())
    }

    /// The names of these providers.
    pub(super) fn list(&self, ids: &[ProviderId]) -> String {
        let names = ids.iter().filter_map(|id| self.names.get(usize::from(id.0)));
        let names: Vec<&str> = names.map(|name| &**name).collect();
        if names.is_empty() { "none".to_owned() } else { names.join(", ") }
    }
}
