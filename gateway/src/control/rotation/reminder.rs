//! When a deadline is worth a line in the log. Pure: `now` is passed in.

use std::collections::HashMap;

use super::notice::{Deadline, Notice, Subject};

/// Seconds of a day.
pub(super) const DAY: u64 = 24 * 60 * 60;

/// How long before the end a line is due at once, whenever the last one was.
const THRESHOLDS: [u64; 6] = [30 * DAY, 14 * DAY, 7 * DAY, 3 * DAY, DAY, 0];

/// What was told, and when.
#[derive(Debug, Default)]
pub(super) struct Reminder {
    told: HashMap<Subject, Told>,
}

#[derive(Debug)]
struct Told {
    at: u64,
    /// The end that was told of: what was renewed is another matter.
    until: u64,
    /// How many of the thresholds had been passed.
    stage: usize,
}

impl Reminder {
    /// Those of `deadlines` that are to be told at `now`: for the first time, when a threshold has been passed, and each day. What
    /// was told about any that is not among them is forgotten, and so there is never more here than they are.
    pub(super) fn due<'d>(&mut self, deadlines: impl Iterator<Item = &'d Deadline>, now: u64) -> Vec<Notice> {
        let mut told = HashMap::new();
        let mut notices = Vec::new();
        for deadline in deadlines.filter(|deadline| now.saturating_add(deadline.notice) >= deadline.until) {
            let Deadline { subject, until, .. } = deadline;
            let stage = THRESHOLDS.iter().filter(|threshold| now.saturating_add(**threshold) >= *until).count();
            let before = self.told.get(subject).filter(|before| before.until == *until);
            let at = match before {
                Some(before) if before.stage >= stage && now < before.at.saturating_add(DAY) => before.at,
                _ => {
                    notices.push(Notice { subject: subject.clone(), until: *until, now });
                    now
                }
            };
            told.insert(subject.clone(), Told { at, until: *until, stage });
        }
        self.told = told;
        notices
    }

    /// Forgets what was told about the subjects that `which` says: they are told anew.
    pub(super) fn forget(&mut self, which: impl Fn(&Subject) -> bool) {
        self.told.retain(|subject, _| !which(subject));
    }
}
