//! The stage `identity` of the walk: what the chain proves, or what becomes of a sender without one.
//!
//! Owns what is said of it. Must not decide: a chain is judged by `identity`, and a sender without an admitted one by
//! [`Uncertified`] and the demands of the route, as the data plane does.

use hookgate_core::identity::{ChainRefusal, Claim, ProviderId, Scope};
use hookgate_core::reject::{Refusal, Reject, Stage};
use hookgate_core::route::RouteId;

use super::remedy;
use super::step::{OfProvider, Said, Step, Verdict};
use super::walk::{Routed, Unrouted, Walk};
use crate::http::Uncertified;
use crate::snapshot::Site;

/// The stage.
const STAGE: &str = "identity";

impl Walk<'_> {
    /// What the site and each of its providers say of the chain, and whom it proves.
    pub(super) fn identity(&self, site: Option<&Site>, route: &Routed) -> (Step, Vec<ProviderId>) {
        let Some(site) = site else {
            return (Step::new(STAGE, Verdict::Skipped, "There is no such site."), Vec::new());
        };
        let (chain, found) = (&self.subject.chain, route.as_ref().ok().copied().flatten());
        if let Some(step) = self.without_kept_chain() {
            return (step, Vec::new());
        }
        let all = if chain.is_empty() { &[][..] } else { &site.scope.providers };
        let providers: Vec<_> = all.iter().map(|id| self.of_provider(*id, found)).collect();
        let passes = providers.iter().zip(all).filter(|(of, _)| of.said.verdict == Verdict::Passes);
        let proven: Vec<ProviderId> = passes.map(|(_, id)| *id).collect();
        let step = match self.snapshot.identity.refusal_of_presented(&site.scope, chain, self.now) {
            None => self.proven_chain(site, found, &proven),
            Some(refused) => match Uncertified::new(refused.refusal, site.certificate_request) {
                Err(refused) => {
                    let step = self.refused_chain(&refused, found);
                    match route {
                        Err(unrouted) if unrouted.is_of_table && chain.is_empty() => {
                            self.absent_at_no_route(step, unrouted)
                        }
                        _ => step,
                    }
                }
                Ok(sender) => self.uncertified(sender, site, route),
            },
        };
        (Step { providers, ..step }, proven)
    }

    /// What can be said of a recorded refusal without its chain; `None` if there is a chain, or was none.
    fn without_kept_chain(&self) -> Option<Step> {
        let record = self.subject.record.as_ref().filter(|_| self.subject.chain.is_empty())?;
        let reject = Reject::of_reason(&record.reason);
        if reject.is_some_and(|reject| reject.stage() < Stage::Identity) {
            return Some(Step::new(STAGE, Verdict::Skipped, "No certificate was judged."));
        }
        let had_one = record.fingerprint.is_some() || reject == Some(Reject::ChainTooLarge);
        if let Some(reject) = reject.filter(|reject| had_one && reject.stage() == Stage::Identity) {
            let refusal = Refusal::new(reject, record.explanation.as_str());
            return Some(Step::refused(STAGE, &refusal, self.place_of_record(&refusal)));
        }
        let text = "The chain is not kept any more; --chain FILE gives it again.";
        had_one.then(|| Step::new(STAGE, Verdict::Unknown, text))
    }

    /// A chain that proves a provider of the site. It can be refused at a route whose providers it only claims to be.
    fn proven_chain(&self, site: &Site, route: Option<RouteId>, proven: &[ProviderId]) -> Step {
        let refused = route.filter(|id| !self.is_public(Some(*id))).and_then(|id| {
            let admitted = &self.snapshot.routes.route(id).providers;
            let chosen = self.snapshot.demands.choose(admitted, |provider| proven.contains(&provider));
            let identity = &self.snapshot.identity;
            let refused = || identity.refusal_of_presented_as(&site.scope, &self.subject.chain, admitted, self.now);
            if chosen.is_none() { refused() } else { None }
        });
        match refused {
            Some(refused) => self.refused_chain(&refused, route),
            None => Step::new(STAGE, Verdict::Passes, format!("The certificate proves {}.", self.list(proven))),
        }
    }

    /// A sender whose certificate is absent or refused, at a server name that takes some requests without one.
    fn uncertified(&self, sender: Uncertified, site: &Site, route: &Routed) -> Step {
        let has_chain = !self.subject.chain.is_empty();
        let what = if has_chain { "The certificate does not count." } else { "There is no certificate." };
        match route {
            Ok(Some(id)) if self.is_public(Some(*id)) => Step::new(STAGE, Verdict::Passes, what),
            Ok(Some(id)) => match self.snapshot.demands.choose(&self.snapshot.routes.route(*id).providers, |_| false) {
                Some((provider, _)) => {
                    let text = format!("{what} The request must prove that {} sent it.", self.list(&[provider]));
                    Step::new(STAGE, Verdict::Passes, text)
                }
                None => self.refused_chain(&sender.into_refusal(), Some(*id)),
            },
            Err(unrouted) if unrouted.is_of_table => match sender.hidden() {
                Some(_) if has_chain => self.refused_chain(&sender.into_refusal(), None),
                Some(hidden) => self.absent_at_no_route(Step::refused(STAGE, &hidden, None), unrouted),
                None => Step::new(STAGE, Verdict::Passes, what),
            },
            // Whether the chain itself proves anything is in question then.
            Ok(None) if has_chain && sender.hidden().is_some() => self.refused_chain(&sender.into_refusal(), None),
            Ok(None) => {
                let none: Vec<ProviderId> =
                    site.scope.providers.iter().copied().filter(|id| self.needs_none(*id)).collect();
                let text = format!("{what} The request must prove that it comes from one of: {}.", self.list(&none));
                Step::new(STAGE, Verdict::Passes, text)
            }
            Err(_) => Step::new(STAGE, Verdict::Passes, what),
        }
    }

    /// The refusal of a sender without a certificate whose request has no route: what is wrong is the URL, or the route that it is meant for.
    fn absent_at_no_route(&self, step: Step, unrouted: &Unrouted) -> Step {
        let reject = unrouted.refusal.reject;
        let text = format!(
            "{} With a certificate of a provider, the answer would be {}: a sender without one does not learn which routes exist.",
            step.said.text,
            reject.row().reason
        );
        let step = step.at(self.nearest_route(reject)).advising(Some(remedy::general(reject)));
        Step { said: Said { text, ..step.said }, ..step }
    }

    /// Whether the provider demands no certificate.
    fn needs_none(&self, id: ProviderId) -> bool {
        self.snapshot.demands.choose(&[id], |_| false).is_some()
    }

    /// The refusal of the site, or that of the route if it is about other providers.
    fn refused_chain(&self, refused: &ChainRefusal, route: Option<RouteId>) -> Step {
        let admitted = route.map(|route| &self.snapshot.routes.route(route).providers);
        let at_route = admitted.and_then(|ids| self.snapshot.identity.refusal_at_route(refused, ids, self.now));
        let told = at_route.as_ref().unwrap_or(refused);
        let is_absent = told.refusal.reject == Reject::NoCertificate;
        let at = told.provider.map(|id| (id, claimed_profile(told, id)));
        let step = Step::refused(STAGE, &told.refusal, self.place(&told.refusal, route, at));
        // What helps against a chain stands with each provider.
        if is_absent { step } else { step.advising(None) }
    }

    fn of_provider(&self, id: ProviderId, route: Option<RouteId>) -> OfProvider {
        let chain = &self.subject.chain;
        let provider = self.snapshot.identity.provider(id);
        let name = provider.name.to_string();
        let is_of_route = route.map(|route| self.snapshot.routes.route(route).providers.contains(&id));
        let said = |said| OfProvider { name, is_of_route, said };
        if provider.profiles.is_empty() {
            return said(Said::new(Verdict::Skipped, "demands no certificate: its requests prove it themselves"));
        }
        // Each provider alone: its own scope, which no site has.
        let scope = Scope { id: u32::MAX - u32::from(id.0), providers: vec![id] };
        let Some(refused) = self.snapshot.identity.refusal_of_presented(&scope, chain, self.now) else {
            return said(Said::new(Verdict::Passes, "is proven"));
        };
        let refusal = &refused.refusal.refusal;
        let profile = claimed_profile(&refused.refusal, id);
        let preset = self.places.preset(usize::from(id.0));
        let place = self.place(refusal, None, Some((id, profile)));
        let preset = preset.filter(|_| place.as_ref().is_some_and(|place| place.key == "preset"));
        let remedy = Some(remedy::of_certificate(refusal, chain, provider, preset));
        said(Said { place, remedy, ..Said::refused(refusal) })
    }
}

/// The index of the profile of this provider that the chain claims, if its refusal may be ignorance of this receiver.
fn claimed_profile(refused: &ChainRefusal, id: ProviderId) -> Option<u16> {
    let claims = refused.suspect.as_ref()?.claims();
    claims.iter().find(|claim| claim.provider() == id).map(Claim::profile)
}
