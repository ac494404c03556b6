//! `reload = "watch"`: when a change of the configured files is acted on.
//!
//! Owns the decision, which is pure: what the files look like and what time it is go in, and whether to reload comes out. The
//! control thread looks at them once a second.
//!
//! **Why looking, and not inotify.** A file may be replaced by a rename, written in place, reached through a symbolic link that is
//! turned elsewhere (certbot), or through a directory that is (`..data` of Kubernetes), and it may lie on NFS or an overlay, where
//! inotify(7) hears of little. stat(2) sees all of that, at some microseconds a file, and needs no watches that have to follow
//! what they watch.
//!
//! **Settling.** Certificate and key are two files, and a file that is being written is half a file. So a change is acted on when
//! two looks in a row find the same, and at the latest [`PATIENCE`] after it began. A file that is gone, as between the two steps
//! of a careless replacement, counts as changing. What was tried and failed is not tried again until something changes again.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::config::FileVersions;

/// From one look to the next. An operator who replaces a file waits for it at most thrice that long.
pub(super) const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// How long files may go on changing before what is there is tried. A copy over a slow network takes seconds, not more; and a file
/// that changes with every look would otherwise keep every other from being read.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// Follows the files of one configuration after another.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// The files as they were read last, whether that went well or not.
    read: FileVersions,
    /// Those of the configuration in use.
    in_use: FileVersions,
    unsettled: Option<Unsettled>,
}

/// A change that is not acted on yet.
#[derive(Debug)]
struct Unsettled {
    since: Instant,
    seen: FileVersions,
}

impl Watch {
    /// The files that are looked at.
    pub(super) fn files(&self) -> &FileVersions {
        &self.read
    }

    /// A configuration out of these files is in use from now on.
    pub(super) fn took(&mut self, files: FileVersions) {
        *self = Self { read: files.clone(), in_use: files, unsettled: None };
    }

    /// A configuration out of these files was refused. They are followed beside those of the configuration in use, since a change
    /// of either may be what it takes.
    pub(super) fn refused(&mut self, files: FileVersions) {
        let before = match self.unsettled.take() {
            Some(unsettled) => unsettled.seen,
            None => std::mem::take(&mut self.read),
        };
        self.read = files.with(before.only(&self.in_use));
    }

    /// The files that have changed since they were read, where it is time to read them again: `seen` is what they look like at `now`.
    /// Whoever is told so says by [`Watch::took`] or [`Watch::refused`] what came of it.
    pub(super) fn look(&mut self, seen: FileVersions, now: Instant) -> Option<Vec<PathBuf>> {
        if seen == self.read {
            self.unsettled = None;
            return None;
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

    /// The files `a`, `b` and so on, each in the version of that number; 0 stands for a file that is not there.
    fn files(versions: &[u64]) -> FileVersions {
        let version = |number: u64| (number > 0).then(|| FileVersion::some(number));
        ('a'..).zip(versions).map(|(name, number)| (PathBuf::from(name.to_string()), version(*number))).collect()
    }

    /// Looks at these versions, one look a second; says at which looks, from 0, it was time, and which files had changed. What
    /// came of it is decided by `good`.
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
        // There and back is no change.
        check(&[&[1, 2], &[3, 2], &[1, 2], &[3, 2], &[1, 2], &[1, 2]], &[]);
        check(&[&[1], &[2], &[2], &[3], &[3], &[3]], &[(2, "a"), (4, "a")]);
    }

    #[test]
    fn a_file_that_is_gone_for_a_moment_is_waited_for() {
        check(&[&[1, 2], &[0, 2], &[0, 2], &[0, 2], &[3, 2], &[3, 2], &[3, 2]], &[(5, "a")]);
        check(&[&[1, 2], &[0, 2], &[0, 2], &[1, 2], &[1, 2]], &[]);
        // One that was not there when it was read is no change as long as it is not.
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
        // It names a second file, which is not there yet, and no longer any other.
        let named = files(&[2, 0]);
        watch.refused(named);
        assert_eq!(watch.files(), &files(&[2, 0]));
        assert_eq!(watch.look(files(&[2, 0]), start + LOOK_INTERVAL * 2), None);
        assert_eq!(watch.look(files(&[2, 7]), start + LOOK_INTERVAL * 3), None);
        assert_eq!(watch.look(files(&[2, 7]), start + LOOK_INTERVAL * 4), Some(vec![PathBuf::from("b")]));
        watch.refused(FileVersions::default());
        assert_eq!(watch.files(), &files(&[2]), "what is in use is not lost sight of, and nothing else is kept");
    }
}
