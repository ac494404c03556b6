//! The state directory: the few files that hookgate keeps over a restart.
//!
//! Owns how they are named, bounded and replaced: each write is atomic, and a failed one leaves the old file. Must not know what a file
//! says: the room that writes it does. Calls block on the disk, so a worker must make none.

mod error;

use std::fs::{DirBuilder, File, Metadata};
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{AtFlags, Dir, Mode, OFlags, openat, renameat, unlinkat};
use rustix::io::Errno;
use rustix::process::{geteuid, getpid};

pub use self::error::StateError;
use crate::metrics::state as metrics;

/// The longest name: NAME_MAX (255) less room for the suffix of a temporary file.
const MAXIMUM_NAME: usize = 200;
/// The most files that [`StateDirectory::list`] returns. Each source of data has one, and a configuration has far fewer.
pub const MAXIMUM_LISTED: usize = 4096;
/// Stands in the names of temporary files only, before the number of the process.
const TEMPORARY: char = '~';

/// An open state directory. Clones share it.
///
/// It is opened before the process is confined. After that, Landlock permits changes within this directory alone.
#[derive(Clone, Debug)]
pub struct StateDirectory(Arc<Opened>);

#[derive(Debug)]
struct Opened {
    path: PathBuf,
    directory: OwnedFd,
    /// One write at a time: all writes of this process share the temporary names.
    writing: Mutex<()>,
}

impl StateDirectory {
    /// Opens the directory at `path`, and removes temporary files that a crash left there. A missing one is made if that above it is there.
    ///
    /// # Errors
    ///
    /// If it is no directory, cannot be made or read, belongs to another user, or gives other users any access.
    pub fn open(path: &Path) -> Result<Self, StateError> {
        // The opening says why it cannot be used, if this fails.
        if DirBuilder::new().mode(0o700).create(path).is_ok() {
            tracing::info!(directory = %path.display(), "the state directory was missing, and is made");
        }
        let opened = Self::open_to_read(path)?;
        opened.clean_up();
        Ok(opened)
    }

    /// Opens the directory at `path` of another process, and changes nothing there.
    ///
    /// # Errors
    ///
    /// As [`StateDirectory::open`].
    pub fn open_to_read(path: &Path) -> Result<Self, StateError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::open(path, flags, Mode::empty()).map_err(|source| {
            // Often that it belongs to another user is why.
            let metadata = std::fs::metadata(path).ok().filter(|metadata| metadata.is_dir());
            let found = metadata.and_then(|metadata| judge(path, &metadata, Some(geteuid().as_raw())).err());
            found.unwrap_or_else(|| StateError::Open { path: path.to_owned(), source })
        })?;
        let directory = File::from(directory);
        let metadata = directory.metadata().map_err(|error| StateError::Open {
            path: path.to_owned(),
            source: Errno::from_io_error(&error).unwrap_or(Errno::IO),
        })?;
        judge(path, &metadata, Some(geteuid().as_raw()))?;
        Ok(Self(Arc::new(Opened { path: path.to_owned(), directory: directory.into(), writing: Mutex::default() })))
    }

    /// Looks whether a process could open the directory at `path`, whatever its user is. Opens nothing.
    ///
    /// # Errors
    ///
    /// As [`StateDirectory::open`], but for its owner.
    pub fn look_at(path: &Path) -> Result<(), StateError> {
        let failed = |source| StateError::Open { path: path.to_owned(), source };
        let metadata =
            std::fs::metadata(path).map_err(|error| failed(Errno::from_io_error(&error).unwrap_or(Errno::IO)))?;
        if !metadata.is_dir() {
            return Err(failed(Errno::NOTDIR));
        }
        judge(path, &metadata, None)
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// The file of this name; `None` if there is none.
    ///
    /// # Errors
    ///
    /// If the name is invalid, the file has more than `max_bytes`, or it cannot be read.
    pub fn read(&self, name: &str, max_bytes: usize) -> Result<Option<Vec<u8>>, StateError> {
        check(name)?;
        let failed = |source| StateError::Read { path: self.0.path.join(name), source };
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file = match openat(&self.0.directory, name, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(Errno::NOENT) => return Ok(None),
            Err(source) => return Err(failed(source)),
        };
        let limit = u64::try_from(max_bytes).unwrap_or(u64::MAX);
        let mut bytes = Vec::new();
        file.take(limit.saturating_add(1))
            .read_to_end(&mut bytes)
            .map_err(|error| failed(Errno::from_io_error(&error).unwrap_or(Errno::IO)))?;
        if bytes.len() > max_bytes {
            return Err(StateError::TooLarge { path: self.0.path.join(name), limit: max_bytes });
        }
        Ok(Some(bytes))
    }

    /// Replaces the file of this name, or makes it, with mode 0600. When this returns, `bytes` survive a power failure. The outcome is
    /// counted.
    ///
    /// # Errors
    ///
    /// If the name is invalid, or the disk refuses. The old file stays then.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<(), StateError> {
        check(name)?;
        let _one = self.0.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let temporary = format!("{name}{TEMPORARY}{}", getpid().as_raw_nonzero());
        let written = self.replace(&temporary, name, bytes).map_err(|source| {
            // It may not exist, and nothing more can be done about it.
            let _ = unlinkat(&self.0.directory, temporary.as_str(), AtFlags::empty());
            StateError::Write { path: self.0.path.join(name), source }
        });
        metrics::written(written.as_ref().map_or_else(StateError::label, |()| "ok"));
        written
    }

    fn replace(&self, temporary: &str, name: &str, bytes: &[u8]) -> Result<(), Errno> {
        let directory = &self.0.directory;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let mut file = File::from(openat(directory, temporary, flags, Mode::RUSR | Mode::WUSR)?);
        file.write_all(bytes).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        rustix::fs::fsync(&file)?;
        renameat(directory, temporary, directory, name)?;
        rustix::fs::fsync(directory)
    }

    /// Removes the file of this name. No error if there is none.
    ///
    /// # Errors
    ///
    /// If the name is invalid, or the disk refuses.
    pub fn remove(&self, name: &str) -> Result<(), StateError> {
        check(name)?;
        match unlinkat(&self.0.directory, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(source) => Err(StateError::Remove { path: self.0.path.join(name), source }),
        }
    }

    /// The names that begin with `prefix`, in order; at most [`MAXIMUM_LISTED`]. Names that this type does not make are left out.
    ///
    /// # Errors
    ///
    /// If the directory cannot be read.
    pub fn list(&self, prefix: &str) -> Result<Vec<String>, StateError> {
        let mut names = self.names()?;
        names.retain(|name| name.starts_with(prefix) && check(name).is_ok());
        names.sort_unstable();
        names.truncate(MAXIMUM_LISTED);
        Ok(names)
    }

    /// Every name that is UTF-8, in no order; at most four times [`MAXIMUM_LISTED`].
    fn names(&self) -> Result<Vec<String>, StateError> {
        let failed = |source| StateError::Read { path: self.0.path.clone(), source };
        let entries = Dir::read_from(&self.0.directory).map_err(failed)?;
        let names = entries
            .take(4 * MAXIMUM_LISTED)
            .filter_map(|entry| entry.map(|entry| entry.file_name().to_str().ok().map(str::to_owned)).transpose());
        names.collect::<Result<_, _>>().map_err(failed)
    }

    /// Removes temporary files. One that another process writes at this moment makes its write fail, and the old file stays.
    fn clean_up(&self) {
        let left = self.names().unwrap_or_default();
        for name in left.iter().filter(|name| name.split_once(TEMPORARY).is_some_and(|(name, _)| check(name).is_ok())) {
            let _ = unlinkat(&self.0.directory, name.as_str(), AtFlags::empty());
        }
    }
}

impl AsFd for StateDirectory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.directory.as_fd()
    }
}

/// Whether the directory belongs to this user, if there is one to compare with, and to no other.
fn judge(path: &Path, metadata: &Metadata, user: Option<u32>) -> Result<(), StateError> {
    let owner = metadata.uid();
    if let Some(user) = user.filter(|user| *user != owner) {
        return Err(StateError::Owner { path: path.to_owned(), owner, user });
    }
    let mode = metadata.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(StateError::Mode { path: path.to_owned(), mode });
    }
    Ok(())
}

/// Logs once that there is no state directory, although `features` would use one. Does nothing without features.
pub fn warn_of_absence(features: &[&str]) {
    if !features.is_empty() {
        tracing::warn!(
            lost = features.join(", "),
            "there is no state directory, so this is not kept over a restart, and hookgate explain and hookgate deliveries reach no daemon; \
             set directory in [state], or StateDirectory=hookgate in the unit"
        );
    } else {
        tracing::info!(
            "there is no state directory, so hookgate explain and hookgate deliveries reach no daemon; set directory in [state], or \
             StateDirectory=hookgate in the unit"
        );
    }
}

/// A name is no path: it has no slash, and does not begin with a dot.
fn check(name: &str) -> Result<(), StateError> {
    let is_valid = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-');
    if name.is_empty() || name.len() > MAXIMUM_NAME || name.starts_with('.') || !name.bytes().all(is_valid) {
        return Err(StateError::Name { name: name.chars().take(MAXIMUM_NAME).collect() });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
