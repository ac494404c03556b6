//! A request for a route with several handlers: which of them gets it, and which one after that.
//!
//! Owns the order of these steps, the wait if none has a place, and what is told of a handler whose standing changes. Must not decide: the choice
//! is in [`super::choice`], the standing in [`super::health`], and whether a request may go elsewhere in [`super::attempt`].

use std::cell::Cell;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use hyper::Response;

use super::attempt::Unanswered;
use super::body::HandlerBody;
use super::choice::{Candidate, Choice, Members, choose, waits_for};
use super::health::{Change, Health, Standing, Try};
use super::line::Line;
use super::outgoing::Outgoing;
use super::place::{Places, Waiting};
use super::pool::{HandlerLimits, Permit, Pool, late};
use super::route_places::RoutePermit;
use super::{Answered, Upstream, no_handler};
use crate::cause::Cause;
use crate::metrics::MemberMeters;
use hookgate_core::reject::Refusal;
use hookgate_core::route::{Handler, Handlers, MAXIMUM_HANDLERS};
use hookgate_io::timer::timeout;

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

    /// Takes a place for a request that others have `passed` on, or says where it can wait. One that waits already counts at `home`. `None` if all have
    /// passed it on.
    fn find(
        &self,
        (passed, home): (Members, Option<usize>),
        limits: HandlerLimits,
        now: &dyn Fn() -> u64,
        of_route: &mut Option<RoutePermit>,
    ) -> Option<Found<'_>> {
        let mut candidates = self.candidates(limits, now);
        let candidates = &mut candidates[..self.members.len()];
        let first = home.unwrap_or_else(|| self.turn.replace((self.turn.get() + 1) % self.members.len()));
        if let Some(home) = home {
            candidates[home].has_room = true;
        }
        loop {
            match choose(candidates, passed, first)? {
                Choice::Ask(index) => {
                    let place =
                        self.enter(index, limits, of_route).map(|permit| Entered { index, permit, trying: None });
                    let none = || Found::NoPlace { index, waits_for: waits_for(candidates, passed, index) };
                    return Some(place.map_or_else(none, Found::Place));
                }
                Choice::Try(index) => {
                    let health = &self.members[index].pool.gate.health;
                    let trying = health.begin_try(now()).map(|begun| Trying { health, begun });
                    if trying.is_some()
                        && let Some(permit) = self.enter(index, limits, of_route)
                    {
                        return Some(Found::Place(Entered { index, permit, trying }));
                    }
                    // Another request tries it, or has taken its last place.
                    candidates[index].standing = Standing::Ejected;
                }
            }
        }
    }

    /// A place at the handler with this index, if one is free.
    fn enter(&self, index: usize, limits: HandlerLimits, of_route: &mut Option<RoutePermit>) -> Option<Permit> {
        let pool = &self.members[index].pool;
        pool.gate.try_enter(self.limits_at(index, limits).in_flight).then(|| pool.permit(of_route))
    }

    /// Counts a request that waits at the handler with this index; `None` if as many wait there as may.
    fn count(&self, index: usize, limits: HandlerLimits) -> Option<Waiting<'_>> {
        let pool = &self.members[index].pool;
        pool.gate.wait(limits.waiting, &pool.meters.waiting)
    }

    /// The bounds at the handler with this index.
    fn limits_at(&self, index: usize, limits: HandlerLimits) -> HandlerLimits {
        limits.at(&self.handlers.entries()[index])
    }

    /// Whether a request that others have `passed` on could go to one in use besides the one with this index.
    fn has_other(&self, index: usize, passed: Members) -> bool {
        let others = self.members.iter().enumerate().filter(|(other, _)| *other != index && !passed.has(*other));
        others.into_iter().any(|(_, member)| !member.pool.gate.health.is_ejected())
    }
}

/// What a request finds.
enum Found<'a> {
    Place(Entered<'a>),
    /// The handler with this index has none, nor has any other that may take the request: all it `waits_for`.
    NoPlace {
        index: usize,
        waits_for: Members,
    },
}

/// A request with a place at the handler with this index; with a try if that is ejected.
struct Entered<'a> {
    index: usize,
    permit: Permit,
    trying: Option<Trying<'a>>,
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

    fn answered(&self, places: &Places) {
        if self.pool.gate.health.answered() == Some(Change::Back) {
            places.standing_changed();
            self.meters.ejected(false);
            tracing::info!(handler = %self.handler(), cause = Cause::Handler.label(), "ejected handler answers again");
        }
    }

    fn failed(&self, unanswered: &Unanswered, begun: Option<&Try>, places: &Places) {
        let Some(failure) = unanswered.failure else { return };
        if let Some(Change::Ejected(pause)) = self.pool.gate.health.failed(failure, begun, places.now()) {
            places.standing_changed();
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
        let (mut passed, mut refused) = (Members::default(), None);
        // Each round but one passes a handler.
        loop {
            let entered =
                self.enter_one_of(&group, (&mut passed, &mut refused), (limits, began), &mut of_route).await?;
            let Entered { index, permit, trying } = entered;
            let (member, limits) = (&group.members[index], group.limits_at(index, limits));
            member.meters.chosen();
            let waits = !group.has_other(index, passed);
            let mut unanswered = match self.ask(request, &member.pool, permit, (limits, began), waits, answered).await {
                Ok(response) => {
                    if let Some(answered) = answered {
                        answered.entry = index;
                    }
                    member.answered(&self.places);
                    return Ok(response);
                }
                Err(unanswered) => unanswered,
            };
            member.failed(&unanswered, trying.as_ref().map(|trying| &trying.begun), &self.places);
            passed.add(index);
            if !unanswered.may_go_elsewhere || self.left(limits, began).is_zero() {
                return Err(unanswered.refusal);
            }
            member.meters.passed();
            of_route = unanswered.permit.take().and_then(|permit| permit.into_route());
            refused = Some(unanswered.refusal);
        }
    }

    /// Takes a place at one that has not `passed` the request on, and waits for it. One where as many wait as may passes it on too, as `refused` says.
    async fn enter_one_of<'a>(
        &self,
        group: &'a Group,
        (passed, refused): (&mut Members, &mut Option<Refusal>),
        times: (HandlerLimits, Duration),
        of_route: &mut Option<RoutePermit>,
    ) -> Result<Entered<'a>, Refusal> {
        let (limits, now) = (times.0, || self.places.now());
        loop {
            match group.find((*passed, None), limits, &now, of_route) {
                None => return Err(refused.take().unwrap_or_else(no_handler)),
                Some(Found::Place(entered)) => return Ok(entered),
                Some(Found::NoPlace { index, .. }) => {
                    if let Some(counted) = group.count(index, limits) {
                        return self.wait_in(Line::new(index, counted), group, *passed, times, of_route).await;
                    }
                    passed.add(index);
                    *refused = Some(group.members[index].pool.full(group.limits_at(index, limits)));
                }
            }
        }
    }

    /// Waits in `line` for the first place of any handler that may take the request. A handler that is ejected meanwhile, or is back, changes which may.
    async fn wait_in<'a>(
        &self,
        mut line: Line<'a>,
        group: &'a Group,
        passed: Members,
        (limits, began): (HandlerLimits, Duration),
        of_route: &mut Option<RoutePermit>,
    ) -> Result<Entered<'a>, Refusal> {
        let now = || self.places.now();
        loop {
            // Before the look at the handlers, so that no change is missed.
            let changed = pin!(self.places.next_change());
            match group.find((passed, Some(line.home())), limits, &now, of_route) {
                None => return Err(no_handler()),
                Some(Found::Place(entered)) => return Ok(entered),
                Some(Found::NoPlace { index, waits_for }) => {
                    // If as many wait there as may, it goes on to count where it did.
                    if !waits_for.has(line.home())
                        && let Some(counted) = group.count(index, limits)
                    {
                        line.count_at(index, counted);
                    }
                    line.stand_at(waits_for, |index| {
                        (&group.members[index].pool.gate, group.limits_at(index, limits).in_flight)
                    });
                }
            }
            match timeout(self.left(limits, began), line.first(changed)).await {
                Ok(Some(index)) => {
                    let permit = group.members[index].pool.permit(of_route);
                    return Ok(Entered { index, permit, trying: None });
                }
                Ok(None) => {}
                Err(_) => return Err(late(&group.handlers, limits)),
            }
        }
    }
}

#[cfg(test)]
mod tests;
