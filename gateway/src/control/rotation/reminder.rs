//! Decides when a deadline is due for a line in the log. Pure: `now` is passed in. Must not log.

use std::collections::HashMap;

use super::notice::{Deadline, Notice, Subject};

/// One day in seconds.
pub(super) const DAY: u64 = 24 * 60 * 60;

/// How many seconds before the end a line is due, even if the last one was less than a day ago.
const THRESHOLDS: [u64; 6] = [30 * DAY, 14 * DAY, 7 * DAY, 3 * DAY, DAY, 0];

/// The last line about each subject.
#[derive(Debug, Default)]
pub(super) struct Reminder {
    logged: HashMap<Subject, Logged>,
}

/// The last line about one subject.
#[derive(Debug)]
struct Logged {
    at: u64,
    /// The end that it announced. A renewed subject has another one.
    until: u64,
    /// How many of the thresholds had passed.
    stage: usize,
}

impl Reminder {
    /// The lines about `deadlines` that are due at `now`: the first one, one for each threshold that has passed, and one a day.
    /// Forgets every subject that is not in `deadlines`, so the memory is bounded by their number.
    pub(super) fn due<'d>(&mut self, deadlines: impl Iterator<Item = &'d Deadline>, now: u64) -> Vec<Notice> {
        let mut logged = HashMap::new();
        let mut notices = Vec::new();
        for deadline in deadlines.filter(|deadline| now.saturating_add(deadline.notice) >= deadline.until) {
            let Deadline { subject, until, .. } = deadline;
            let stage = THRESHOLDS.iter().filter(|threshold| now.saturating_add(**threshold) >= *until).count();
            let before = self.logged.get(subject).filter(|before| before.until == *until);
            let at = match before {
                Some(before) if before.stage >= stage && now < before.at.saturating_add(DAY) => before.at,
                _ => {
                    notices.push(Notice { subject: subject.clone(), until: *until, now });
                    now
                }
            };
            logged.insert(subject.clone(), Logged { at, until: *until, stage });
        }
        self.logged = logged;
        notices
    }

    /// Forgets the lines about the subjects that `which` selects, so that they are due again.
    pub(super) fn forget(&mut self, which: impl Fn(&Subject) -> bool) {
        self.logged.retain(|subject, _| !which(subject));
    }
}
