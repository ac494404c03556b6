//! A request for a route with several handlers: which of them gets it, and which one after that.
//!
//! Owns the order of these steps, and what is told of a handler whose standing changes. Must not decide: the choice is in [`super::choice`], the
//! standing in [`super::health`], and whether a request may go elsewhere in [`super::attempt`].

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use hyper::Response;

use super::attempt::Unanswered;
use super::body::HandlerBody;
use super::choice::{Candidate, Choice, Passed, choose};
use super::health::{Change, Health, Standing, Try};
use super::outgoing::Outgoing;
use super::pool::{HandlerLimits, Pool};
use super::route_places::RoutePermit;
use super::{Answered, Upstream, no_handler};
use crate::cause::Cause;
use crate::metrics::MemberMeters;
use hookgate_core::reject::{Refusal, Reject};
use hookgate_core::route::{Handler, Handlers, MAXIMUM_HANDLERS};

/// The pools of a list, as one worker has them.
pub(super) struct Group {
    handlers: Handlers,
    members: Vec<Member>,
    /// Which is looked at first for the next request.
    turn: Cell<usize>,
}

struct Member {
    pool: Rc<Pool>,
    meters: MemberMeters,
}

impl Group {
    /// Of `handlers`, whose pools `pool` finds.
    pub(super) fn new(handlers: &Handlers, pool: impl Fn(&Handler) -> Rc<Pool>) -> Self {
        let member = |handler| Member { pool: pool(handler), meters: MemberMeters::new(handler.label()) };
        Self { handlers: handlers.clone(), members: handlers.iter().map(member).collect(), turn: Cell::new(0) }
    }

    /// Whether it is that of these handlers.
    pub(super) fn is_of(&self, handlers: &Handlers) -> bool {
        self.handlers.is_same(handlers)
    }

    /// How each of them is doing; what is behind the last is meaningless.
    fn candidates(&self, limits: HandlerLimits, now: &dyn Fn() -> u64) -> [Candidate; MAXIMUM_HANDLERS] {
        let mut candidates = [Candidate::NONE; MAXIMUM_HANDLERS];
        for ((entry, member), candidate) in self.handlers.entries().iter().zip(&self.members).zip(&mut candidates) {
            let limits = limits.at(entry);
            let level = member.pool.gate.level();
            *candidate = Candidate {
                standing: member.pool.gate.health.standing(now),
                backup: entry.backup,
                load: level.taken + level.waiting,
                has_place: level.taken < limits.in_flight,
                has_room: level.taken < limits.in_flight || level.waiting < limits.waiting,
            };
        }
        candidates
    }

    /// The handler of the next request, which others have `passed` on. With a try if it is ejected.
    fn choose(
        &self,
        passed: Passed,
        limits: HandlerLimits,
        now: &dyn Fn() -> u64,
    ) -> Option<(usize, Option<Trying<'_>>)> {
        let mut candidates = self.candidates(limits, now);
        let candidates = &mut candidates[..self.members.len()];
        let first = self.turn.get();
        self.turn.set((first + 1) % self.members.len());
        loop {
            match choose(candidates, passed, first)? {
                Choice::Ask(index) => return Some((index, None)),
                Choice::Try(index) => {
                    let health = &self.members[index].pool.gate.health;
                    if let Some(begun) = health.begin_try(now()) {
                        return Some((index, Some(Trying { health, begun })));
                    }
                    // Another worker's request tries it.
                    candidates[index].standing = Standing::Ejected;
                }
            }
        }
    }

    /// Whether a request that others have `passed` on could go to one in use besides the one with this index.
    fn has_other(&self, index: usize, passed: Passed) -> bool {
        let others = self.members.iter().enumerate().filter(|(other, _)| *other != index && !passed.has(*other));
        others.into_iter().any(|(_, member)| !member.pool.gate.health.is_ejected())
    }
}

/// A request that tries a handler. Without an outcome, the next request may.
struct Trying<'a> {
    health: &'a Health,
    begun: Try,
}

impl Drop for Trying<'_> {
    fn drop(&mut self) {
        self.health.end_try(&self.begun);
    }
}

impl Member {
    fn handler(&self) -> &Handler {
        self.pool.handler()
    }

    fn answered(&self) {
        if self.pool.gate.health.answered() == Some(Change::Back) {
            self.meters.ejected(false);
            tracing::info!(handler = %self.handler(), cause = Cause::Handler.label(), "ejected handler answers again");
        }
    }

    fn failed(&self, unanswered: &Unanswered, begun: Option<&Try>, now: u64) {
        let Some(failure) = unanswered.failure else { return };
        if let Some(Change::Ejected(pause)) = self.pool.gate.health.failed(failure, begun, now) {
            self.meters.ejected(true);
            tracing::warn!(
                handler = %self.handler(),
                reason = unanswered.refusal.reject.row().reason,
                detail = unanswered.refusal.detail(),
                next_try_ms = milliseconds(pause),
                cause = Cause::Handler.label(),
                "handler ejected: the others of its list get its requests, but for one at a time that tries it"
            );
        }
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Upstream {
    /// The pools of `handlers`.
    fn group(&self, handlers: &Handlers) -> Rc<Group> {
        let mut groups = self.groups.borrow_mut();
        if let Some(group) = groups.iter().find(|group| group.is_of(handlers)) {
            return Rc::clone(group);
        }
        let group = Rc::new(Group::new(handlers, |handler| self.pool(handler)));
        groups.push(Rc::clone(&group));
        group
    }

    /// As [`Upstream::forward`], to one of several handlers, and to another one if the first cannot have begun to act on the request.
    pub(super) async fn forward_to_one_of(
        &self,
        request: &Outgoing<'_>,
        handlers: &Handlers,
        mut of_route: Option<RoutePermit>,
        (limits, began): (HandlerLimits, Duration),
        answered: &mut Option<Answered>,
    ) -> Result<Response<HandlerBody>, Refusal> {
        let group = self.group(handlers);
        let now = || self.places.now();
        let (mut passed, mut refused, mut may_choose_anew) = (Passed::default(), None, true);
        // Each round but one passes a handler.
        loop {
            let Some((index, trying)) = group.choose(passed, limits, &now) else {
                return Err(refused.unwrap_or_else(no_handler));
            };
            let (member, limits) = (&group.members[index], limits.at(&handlers.entries()[index]));
            let permit = match member.pool.enter(limits, self.left(limits, began), &mut of_route).await {
                Ok(permit) => permit,
                Err(refusal) if refusal.reject == Reject::HandlerOverloaded => {
                    passed.pass(index);
                    refused = Some(refusal);
                    continue;
                }
                Err(refusal) => return Err(refusal),
            };
            // It may have been ejected while the request waited for its place.
            let is_ejected = trying.is_none() && member.pool.gate.health.is_ejected();
            if is_ejected && std::mem::replace(&mut may_choose_anew, false) && group.has_other(index, passed) {
                of_route = permit.into_route();
                continue;
            }
            member.meters.chosen();
            let waits = !group.has_other(index, passed);
            let mut unanswered = match self.ask(request, &member.pool, permit, (limits, began), waits, answered).await {
                Ok(response) => {
                    if let Some(answered) = answered {
                        answered.entry = index;
                    }
                    member.answered();
                    return Ok(response);
                }
                Err(unanswered) => unanswered,
            };
            member.failed(&unanswered, trying.as_ref().map(|trying| &trying.begun), now());
            passed.pass(index);
            if !unanswered.may_go_elsewhere || self.left(limits, began).is_zero() {
                return Err(unanswered.refusal);
            }
            member.meters.passed();
            of_route = unanswered.permit.take().and_then(|permit| permit.into_route());
            refused = Some(unanswered.refusal);
        }
    }
}
