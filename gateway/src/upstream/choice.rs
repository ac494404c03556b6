//! Which handler of a list gets a request.
//!
//! Pure: how each of them is doing is an argument. Must not take a place, nor begin to try an ejected handler: [`super::several`] does.

use super::health::Standing;
use hookgate_core::route::MAXIMUM_HANDLERS;

/// A handler of a list, as a request finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) standing: Standing,
    pub(super) backup: bool,
    /// Requests with it, and requests that wait for it.
    pub(super) load: usize,
    /// Whether a request gets a place there at once.
    pub(super) has_place: bool,
    /// Whether a request gets a place there, or may wait for one.
    pub(super) has_room: bool,
}

impl Candidate {
    /// No handler.
    pub(super) const NONE: Self =
        Self { standing: Standing::Ejected, backup: true, load: 0, has_place: false, has_room: false };
}

/// Some handlers of a list: a bit for each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Members(u32);

impl Members {
    /// The one with this index is among them.
    pub(super) fn add(&mut self, index: usize) {
        self.0 |= 1 << index;
    }

    /// Whether it is.
    pub(super) fn has(self, index: usize) -> bool {
        self.0 & 1 << index != 0
    }

    /// The index of each.
    pub(super) fn indices(self) -> impl Iterator<Item = usize> {
        (0..MAXIMUM_HANDLERS).filter(move |index| self.has(*index))
    }
}

/// What a request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Choice {
    /// It goes to this one.
    Ask(usize),
    /// It tries this one, which is ejected.
    Try(usize),
}

/// The choice among `all`, of which `first` is looked at first: among equals, the first that is looked at gets the request. `None` if all of them
/// have `passed` the request on.
///
/// In this order: an ejected handler that is due to be tried; those in use, the one with the fewest requests, but one with a free place before one
/// where the request waits. The same among backups, if none of the others can be asked. Then, as if none were ejected, the rest.
pub(super) fn choose(all: &[Candidate], passed: Members, first: usize) -> Option<Choice> {
    let indices = || (0..all.len()).map(|offset| (first + offset) % all.len()).filter(|index| !passed.has(*index));
    let least = |fits: &dyn Fn(&Candidate) -> bool| {
        indices().filter(|index| fits(&all[*index])).min_by_key(|index| (!all[*index].has_place, all[*index].load))
    };
    for backup in [false, true] {
        let is_due = |index: &usize| {
            let one = &all[*index];
            one.backup == backup && one.standing == Standing::Due && one.has_place
        };
        if let Some(index) = indices().find(is_due) {
            return Some(Choice::Try(index));
        }
        let in_use = |one: &Candidate| one.backup == backup && one.standing == Standing::InUse && one.has_room;
        if let Some(index) = least(&in_use) {
            return Some(Choice::Ask(index));
        }
    }
    // One that is in use and full says so. Of the ejected, backups come last.
    let rest = [least(&|one| one.standing == Standing::InUse), least(&|one| !one.backup), least(&|_| true)];
    rest.into_iter().flatten().next().map(Choice::Ask)
}

/// The handlers for whose first place a request waits, if the one that [`choose`] named has none: that one, and all that `choose` would name before
/// it if they had a place. So not a backup unless the named one is, and not an ejected one unless the named one is.
pub(super) fn waits_for(all: &[Candidate], passed: Members, named: usize) -> Members {
    let mut members = Members::default();
    let last = &all[named];
    let fits = |one: &Candidate| {
        one.backup <= last.backup && (one.standing == Standing::InUse || last.standing != Standing::InUse)
    };
    for index in (0..all.len()).filter(|index| !passed.has(*index) && fits(&all[*index])) {
        members.add(index);
    }
    members
}

#[cfg(test)]
mod tests {
    use super::*;
    use Standing::{Due, Ejected, InUse};

    fn one(standing: Standing, load: usize) -> Candidate {
        Candidate { standing, backup: false, load, has_place: true, has_room: true }
    }

    fn backup(standing: Standing, load: usize) -> Candidate {
        Candidate { backup: true, ..one(standing, load) }
    }

    fn waiting(load: usize) -> Candidate {
        Candidate { has_place: false, ..one(InUse, load) }
    }

    fn full(load: usize) -> Candidate {
        Candidate { has_room: false, ..waiting(load) }
    }

    fn check(all: &[Candidate], expected: &[Choice]) {
        let mut passed = Members::default();
        for choice in expected {
            assert_eq!(choose(all, passed, 0), Some(*choice), "{all:?} {passed:?}");
            let (Ask(index) | Try(index)) = choice;
            passed.add(*index);
        }
        assert_eq!(choose(all, passed, 0), None, "{all:?}");
    }

    use Choice::{Ask, Try};

    #[test]
    fn the_fewest_requests_decide_and_a_free_place_before() {
        check(&[one(InUse, 3), one(InUse, 1), one(InUse, 2)], &[Ask(1), Ask(2), Ask(0)]);
        check(&[waiting(1), one(InUse, 9)], &[Ask(1), Ask(0)]);
        check(&[waiting(2), full(1), waiting(1)], &[Ask(2), Ask(0), Ask(1)]);
    }

    #[test]
    fn equals_take_turns() {
        let all = [one(InUse, 0), one(InUse, 0), one(InUse, 0)];
        let chosen: Vec<_> = (0..6).map(|first| choose(&all, Members::default(), first)).collect();
        assert_eq!(chosen, [Ask(0), Ask(1), Ask(2), Ask(0), Ask(1), Ask(2)].map(Some));
    }

    #[test]
    fn an_ejected_handler_is_tried_when_it_is_due_and_asked_only_if_all_are_ejected() {
        check(&[one(Ejected, 0), one(InUse, 9)], &[Ask(1), Ask(0)]);
        check(&[one(InUse, 0), one(Due, 0)], &[Try(1), Ask(0)]);
        check(&[one(Ejected, 2), one(Ejected, 1)], &[Ask(1), Ask(0)]);
        // One whose places are all taken by requests that hang is not tried with another.
        check(&[one(InUse, 0), Candidate { has_place: false, ..one(Due, 1) }], &[Ask(0), Ask(1)]);
    }

    #[test]
    fn a_backup_is_asked_when_no_other_can_be() {
        check(&[backup(InUse, 0), one(InUse, 9)], &[Ask(1), Ask(0)]);
        check(&[one(Ejected, 0), backup(InUse, 5), one(Ejected, 0)], &[Ask(1), Ask(0), Ask(2)]);
        check(&[full(3), backup(InUse, 0)], &[Ask(1), Ask(0)]);
        check(&[full(3), backup(Ejected, 0)], &[Ask(0), Ask(1)]);
        check(&[one(Ejected, 1), backup(Due, 0)], &[Try(1), Ask(0)]);
        check(&[backup(Ejected, 0), one(Ejected, 1)], &[Ask(1), Ask(0)]);
    }

    #[test]
    fn a_request_waits_for_each_that_may_take_it() {
        let check = |all: &[Candidate], passed: &[usize], expected: &[usize]| {
            let mut members = Members::default();
            passed.iter().for_each(|index| members.add(*index));
            let waits = choose(all, members, 0).map(|(Ask(named) | Try(named))| waits_for(all, members, named));
            let waits = waits.map(|waits| waits.indices().collect::<Vec<_>>());
            assert_eq!(waits.as_deref(), Some(expected), "{all:?}");
        };
        let full_backup = || Candidate { backup: true, ..waiting(1) };
        check(&[waiting(3), waiting(2)], &[], &[0, 1]);
        check(&[waiting(3), waiting(2), waiting(1)], &[2], &[0, 1]);
        check(&[waiting(3), one(Ejected, 0), full(9)], &[], &[0, 2]);
        check(&[waiting(3), backup(InUse, 0)], &[], &[0]);
        // It may wait for the backup, and still goes to one that is none.
        check(&[full(3), full_backup()], &[], &[0, 1]);
        check(&[one(Ejected, 0), full_backup()], &[], &[1]);
        // As if none were ejected, and backups come last.
        check(&[one(Ejected, 2), one(Ejected, 1), backup(Ejected, 0)], &[], &[0, 1]);
        check(&[one(Ejected, 2), one(Ejected, 1), backup(Ejected, 0)], &[0, 1], &[2]);
    }
}
