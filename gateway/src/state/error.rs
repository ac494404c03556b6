//! Why the state directory cannot be used, as a closed list with messages.
//!
//! Owns these messages. Must not decide: `state` does.

use std::path::PathBuf;

use rustix::io::Errno;

/// A problem of the state directory. The message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// It cannot be opened.
    #[error("cannot open the state directory {}: {}; create it with mode 0700, owned by the user of hookgate", .path.display(), reason(*.source))]
    Open {
        /// The directory.
        path: PathBuf,
        /// The kernel's error.
        source: Errno,
    },
    /// It belongs to another user, who could replace its files.
    #[error("the state directory {} belongs to user {owner}, and hookgate runs as user {user}; change the owner (chown)", .path.display())]
    Owner {
        /// The directory.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// The user of this process.
        user: u32,
    },
    /// Other users can read or change it.
    #[error("the state directory {} has mode {mode:04o}, which gives other users access; change it to 0700 (chmod)", .path.display())]
    Mode {
        /// The directory.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// Not a name of a file in the directory.
    #[error("\"{}\" is no name of a state file; write 1 to 200 of a-z 0-9 . -, without a dot in front", .name.escape_default())]
    Name {
        /// The name.
        name: String,
    },
    /// A file cannot be read.
    #[error("cannot read {}: {}", .path.display(), reason(*.source))]
    Read {
        /// The file.
        path: PathBuf,
        /// The kernel's error.
        source: Errno,
    },
    /// A file is larger than its reader allows.
    #[error("{} has more than {limit} bytes, so it is not a file of hookgate; remove it", .path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The bound.
        limit: usize,
    },
    /// A file cannot be written. The old one stays.
    #[error("cannot write {}: {}; the old file stays", .path.display(), reason(*.source))]
    Write {
        /// The file.
        path: PathBuf,
        /// The kernel's error.
        source: Errno,
    },
    /// A file cannot be removed.
    #[error("cannot remove {}: {}", .path.display(), reason(*.source))]
    Remove {
        /// The file.
        path: PathBuf,
        /// The kernel's error.
        source: Errno,
    },
}

impl StateError {
    /// Whether there is no such directory.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Open { source: Errno::NOENT, .. })
    }

    /// A label for metrics, of a closed set.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Write { source: Errno::NOSPC | Errno::DQUOT, .. } => "disk_full",
            Self::Write { source: Errno::ROFS, .. } => "read_only",
            Self::Write { source: Errno::ACCESS | Errno::PERM, .. } => "not_permitted",
            _ => "failed",
        }
    }
}

/// What the kernel's error means here.
fn reason(error: Errno) -> String {
    match error {
        Errno::NOSPC => "no space is left on the disk".to_owned(),
        Errno::DQUOT => "the quota of the disk is used up".to_owned(),
        Errno::ROFS => "the file system is read-only".to_owned(),
        Errno::ACCESS | Errno::PERM => "permission denied".to_owned(),
        Errno::NOENT => "it does not exist".to_owned(),
        Errno::NOTDIR => "it is not a directory".to_owned(),
        other => other.to_string(),
    }
}
