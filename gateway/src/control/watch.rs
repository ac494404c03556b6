//! `reload = "watch"`: decides when a change of the configured files causes a reload.
//!
//! Owns the decision, which is pure: the versions of the files and the time go in, and the files to reload for come out. Must not touch
//! files: the control thread polls them once a second ([`FileVersions::look`]).
//!
//! **Why polling instead of inotify.** A file can be replaced by a rename, written in place, or reached through a symbolic link or
//! directory that is replaced (certbot; `..data` of Kubernetes). It can be on NFS or an overlay, where inotify(7) misses most changes.
//! stat(2) sees all of this, takes some microseconds per file, and needs no watches that have to follow the files.
//!
//! **Settling.** Certificate and key are two files, and a file can be half written. So a change causes a reload when two polls in a row
//! find the same versions, at the latest [`PATIENCE`] after the change began. A missing file, as between the two steps of a
//! replacement, counts as still changing. After a failed reload, the next one waits for a further change, unless it failed for a reason of the
//! host: then it is tried again with exponential backoff.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::config::FileVersions;

/// Interval between two polls. A replaced file takes effect after at most three intervals.
pub(super) const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Longest wait for files to settle; then a reload tries what is there. A copy over a slow network takes seconds. Without this bound, a
/// file that changes between all polls would prevent every reload.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// Wait before a reload that failed for a reason of the host is tried again. A peak of connections can be over by then.
const FIRST_RETRY: Duration = Duration::from_secs(2);

/// Longest wait between two such attempts.
const LAST_RETRY: Duration = Duration::from_secs(60);

/// The state of the watched files.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// The files as they were read last, by a successful load or a failed one.
    read: FileVersions,
    /// The files of the configuration in use.
    in_use: FileVersions,
    unsettled: Option<Unsettled>,
    retry: Option<Retry>,
}

/// A reload that failed for a reason of the host, and is tried again though no file changes.
#[derive(Clone, Copy, Debug)]
struct Retry {
    at: Instant,
    delay: Duration,
}

/// A change that has not caused a reload yet.
#[derive(Debug)]
struct Unsettled {
    since: Instant,
    seen: FileVersions,
}

impl Watch {
    /// The files to poll.
    pub(super) fn files(&self) -> &FileVersions {
        &self.read
    }

    /// Notes that a configuration from these files is in use from now on.
    pub(super) fn took(&mut self, files: FileVersions) {
        *self = Self { read: files.clone(), in_use: files, unsettled: None, retry: None };
    }

    /// Notes that the reload that was just refused failed at `now` for a reason of the host, such as a lack of file descriptors. It is tried
    /// again after [`FIRST_RETRY`], then after twice the time before, at most [`LAST_RETRY`].
    pub(super) fn retry(&mut self, now: Instant) {
        let delay = self.retry.map_or(FIRST_RETRY, |before| (before.delay * 2).min(LAST_RETRY));
        self.retry = Some(Retry { at: now + delay, delay });
    }

    /// Notes that the reload that was just refused need not be tried again before a file changes.
    pub(super) fn give_up(&mut self) {
        self.retry = None;
    }

    /// Notes that a configuration from these files was refused. They are watched in addition to those of the configuration in use,
    /// because a change of either can repair it.
    pub(super) fn refused(&mut self, files: FileVersions) {
        let before = match self.unsettled.take() {
            Some(unsettled) => unsettled.seen,
            None => std::mem::take(&mut self.read),
        };
        self.read = files.with(before.only(&self.in_use));
    }

    /// Takes the versions `seen` at `now`. If a reload is due, returns the files that have changed since they were read; none if it is tried
    /// again. The caller reports the outcome of the reload by [`Watch::took`] or [`Watch::refused`].
    pub(super) fn look(&mut self, seen: FileVersions, now: Instant) -> Option<Vec<PathBuf>> {
        if seen == self.read {
            self.unsettled = None;
            return self.retry.filter(|retry| now >= retry.at).map(|_| Vec::new());
        }
        let before = self.unsettled.take();
        let since = before.as_ref().map_or(now, |before| before.since);
        let alike = before.is_some_and(|before| before.seen == seen);
        let all_there = self.read.changes(&seen).all(|(_, there)| there);
        let due = (alike && all_there) || now.duration_since(since) >= PATIENCE;
        let changed = due.then(|| self.read.changes(&seen).map(|(path, _)| path.to_owned()).collect());
        self.unsettled = Some(Unsettled { since, seen });
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::FileVersion;

    /// The files `a`, `b` and so on, each with this version number; 0 stands for a missing file.
    fn files(versions: &[u64]) -> FileVersions {
        let version = |number: u64| (number > 0).then(|| FileVersion::some(number));
        ('a'..).zip(versions).map(|(name, number)| (PathBuf::from(name.to_string()), version(*number))).collect()
    }

    /// Polls these versions, once a second. Returns at which polls, from 0, a reload was due, and which files had changed. `good` is
    /// the outcome of each reload.
    fn looks(watch: &mut Watch, sequence: &[&[u64]], good: bool) -> Vec<(usize, String)> {
        let start = Instant::now();
        let mut acted = Vec::new();
        for (index, versions) in sequence.iter().enumerate() {
            let seen = files(versions);
            let now = start + LOOK_INTERVAL * u32::try_from(index).unwrap_or(u32::MAX);
            let Some(changed) = watch.look(seen.clone(), now) else { continue };
            acted.push((index, changed.iter().map(|path| path.display().to_string()).collect()));
            if good { watch.took(seen) } else { watch.refused(seen) }
        }
        acted
    }

    #[track_caller]
    fn check(sequence: &[&[u64]], expected: &[(usize, &str)]) {
        for good in [true, false] {
            let mut watch = Watch::default();
            watch.took(files(sequence[0]));
            let expected: Vec<_> = expected.iter().map(|(index, paths)| (*index, (*paths).to_owned())).collect();
            assert_eq!(looks(&mut watch, sequence, good), expected, "{sequence:?}, good: {good}");
        }
    }

    #[test]
    fn a_change_is_acted_on_once_when_two_looks_agree() {
        check(&[&[1, 2], &[1, 2], &[1, 2]], &[]);
        check(&[&[1, 2], &[3, 2], &[3, 2], &[3, 2], &[3, 2]], &[(2, "a")]);
        check(&[&[1, 2], &[3, 2], &[4, 2], &[4, 5], &[4, 5], &[4, 5]], &[(4, "ab")]);
        // A change that is undone before it settles is no change.
        check(&[&[1, 2], &[3, 2], &[1, 2], &[3, 2], &[1, 2], &[1, 2]], &[]);
        check(&[&[1], &[2], &[2], &[3], &[3], &[3]], &[(2, "a"), (4, "a")]);
    }

    #[test]
    fn a_reload_that_fails_for_a_reason_of_the_host_is_tried_again_with_backoff() {
        let mut watch = Watch::default();
        watch.took(files(&[1]));
        let start = Instant::now();
        let mut attempts = Vec::new();
        for second in 0..400 {
            let now = start + LOOK_INTERVAL * second;
            // A change at 1 s, which settles at 2 s; descriptors are free again at 250 s.
            let seen = files(&[if second == 0 { 1 } else { 2 }]);
            if watch.look(seen.clone(), now).is_none() {
                continue;
            }
            attempts.push(second);
            if second >= 250 {
                watch.took(seen);
            } else {
                watch.refused(seen);
                watch.retry(now);
            }
        }
        assert_eq!(attempts, [2, 4, 8, 16, 32, 64, 124, 184, 244, 304]);
        // An error of the file ends the attempts.
        watch.refused(files(&[3]));
        watch.retry(start);
        watch.refused(files(&[3]));
        watch.give_up();
        assert_eq!(watch.look(files(&[3]), start + LAST_RETRY * 9), None);
    }

    #[test]
    fn a_file_that_is_gone_for_a_moment_is_waited_for() {
        check(&[&[1, 2], &[0, 2], &[0, 2], &[0, 2], &[3, 2], &[3, 2], &[3, 2]], &[(5, "a")]);
        check(&[&[1, 2], &[0, 2], &[0, 2], &[1, 2], &[1, 2]], &[]);
        // A file that was missing when it was read is no change while it is missing.
        check(&[&[0, 1], &[0, 1], &[0, 2], &[0, 2], &[3, 2], &[3, 2], &[3, 2]], &[(3, "b"), (5, "a")]);
    }

    #[test]
    fn steady_change_is_acted_on_after_half_a_minute() {
        let numbers: Vec<[u64; 1]> = (1..=70).map(|number| [number]).collect();
        let sequence: Vec<&[u64]> = numbers.iter().map(<[u64; 1]>::as_slice).collect();
        check(&sequence, &[(31, "a"), (62, "a")]);
        let gone: Vec<&[u64]> = std::iter::once([1].as_slice()).chain([[0].as_slice(); 80]).collect();
        check(&gone, &[(31, "a")]);
    }

    #[test]
    fn a_refused_configuration_is_followed_beside_the_one_in_use() {
        let start = Instant::now();
        let mut watch = Watch::default();
        watch.took(files(&[1]));
        assert_eq!(watch.look(files(&[2]), start), None);
        assert_eq!(watch.look(files(&[2]), start + LOOK_INTERVAL), Some(vec![PathBuf::from("a")]));
        // The refused configuration names a second file, which is missing.
        let named = files(&[2, 0]);
        watch.refused(named);
        assert_eq!(watch.files(), &files(&[2, 0]));
        assert_eq!(watch.look(files(&[2, 0]), start + LOOK_INTERVAL * 2), None);
        assert_eq!(watch.look(files(&[2, 7]), start + LOOK_INTERVAL * 3), None);
        assert_eq!(watch.look(files(&[2, 7]), start + LOOK_INTERVAL * 4), Some(vec![PathBuf::from("b")]));
        watch.refused(FileVersions::default());
        assert_eq!(watch.files(), &files(&[2]), "the files in use are still watched, and no others");
    }
}
