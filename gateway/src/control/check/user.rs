//! Whether a user has access to what the configuration names.
//!
//! Owns the way to find out: a thread becomes that user, with all groups, and opens every file and connects to every handler. Nothing
//! computes permissions: modes, access lists and security modules decide as they do for the service. Needs root, unless the user is the one
//! that runs this.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use anyhow::{Context as _, Result, bail, ensure};
use rustix::fs::{Access, AtFlags, CWD, accessat};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use rustix::process::{Gid, Uid, geteuid};
use rustix::thread::{capabilities, set_thread_groups, set_thread_res_gid, set_thread_res_uid};

use super::Finding;
use super::host::is_made_by_service;
use crate::config::NamedPlaces;
use crate::state::{StateDirectory, StateError};
use hookgate_core::route::HandlerAddress;

/// A user of this host, with the groups of a login.
pub(super) struct User {
    name: String,
    group: String,
    uid: Uid,
    gid: Gid,
    groups: Vec<Gid>,
}

/// What a user may not do.
pub(super) struct Findings {
    /// Files without which hookgate does not start.
    pub(super) errors: Vec<Finding>,
    /// Sockets that requests need.
    pub(super) warnings: Vec<Finding>,
}

/// What was denied.
enum Denied {
    /// As below, of what belongs to the user itself: its mode denies its owner.
    Own(PathBuf, Missing),
    /// A directory on the way may not be entered.
    Enter(PathBuf),
    /// The file may not be read.
    Read(PathBuf),
    /// The socket may not be connected to.
    Connect(PathBuf),
    /// Nobody accepts connections.
    NoListener(PathBuf),
    /// The state directory does not serve this user.
    State(StateError),
    /// Files may not be made in the state directory.
    Keep(PathBuf),
    /// Something else failed.
    Other(PathBuf, io::Error),
}

/// What the mode of a file does not give its owner.
#[derive(Clone, Copy)]
enum Missing {
    Read,
    Write,
    Enter,
}

impl Missing {
    /// The letter of chmod(1), and the verb.
    fn words(self) -> (char, &'static str) {
        match self {
            Self::Read => ('r', "read"),
            Self::Write => ('w', "write to"),
            Self::Enter => ('x', "enter"),
        }
    }
}

impl User {
    /// The user with this name or number, by id(1): it asks every source of users that this host has.
    ///
    /// # Errors
    ///
    /// If there is no such user.
    pub(super) fn find(name: &str) -> Result<Self> {
        let uid = id("-u", name)?;
        let groups = id("-G", name)?;
        let number =
            |text: &str| text.parse::<u32>().with_context(|| format!("`id` printed {text:?} instead of a number"));
        let groups = groups.split_whitespace().map(number).collect::<Result<Vec<_>>>()?;
        Ok(Self {
            name: name.to_owned(),
            group: id("-gn", name)?,
            uid: Uid::from_raw(number(&uid)?),
            gid: Gid::from_raw(number(&id("-g", name)?)?),
            groups: groups.into_iter().map(Gid::from_raw).collect(),
        })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn is_root(&self) -> bool {
        self.uid.is_root()
    }

    /// Opens each file and connects to each handler as this user.
    ///
    /// # Errors
    ///
    /// If this process cannot become the user.
    pub(super) fn look_at(&self, places: &NamedPlaces) -> Result<Findings> {
        // What leads to a file is known before, in case the user may not see it.
        let files: Vec<Vec<PathBuf>> = places.files.iter().map(|(_, path)| ways(path)).collect();
        // Every user may connect to a port.
        let handlers: Vec<_> =
            places.handlers.iter().filter_map(|(at, handler)| Some((at.clone(), path_of(handler)?))).collect();
        let sockets: Vec<Vec<PathBuf>> = handlers.iter().map(|(_, path)| ways(path)).collect();
        let state = places.state.as_ref().map(|(_, path)| ways(path));
        let (files, sockets, state) = self.become_and(|| {
            let end = |ways: &[PathBuf], look: fn(&Path) -> Option<Denied>| {
                ways.iter().find_map(|path| enter(path)).or_else(|| look(ways.last()?))
            };
            let files: Vec<_> = files.iter().map(|ways| end(ways, read)).collect();
            let sockets: Vec<_> = sockets.iter().map(|ways| end(ways, reach)).collect();
            let state = state.and_then(|ways| end(&ways, keep));
            (files, sockets, state)
        })?;
        let findings = |places: &[(crate::config::Location, PathBuf)], denied: Vec<Option<Denied>>| -> Vec<Finding> {
            let all = places.iter().zip(denied);
            let finding = |((location, _), denied): (&(crate::config::Location, _), Option<Denied>)| {
                Some(Finding { location: location.clone(), text: self.message(denied?) })
            };
            all.filter_map(finding).collect()
        };
        let (mut errors, warnings) = (findings(&places.files, files), findings(&handlers, sockets));
        // The service gives its directory to its user when it starts.
        let of_state = places.state.as_ref().zip(state).filter(|((_, path), _)| !is_made_by_service(path));
        let of_state = of_state.map(|((location, _), denied)| (location.clone(), self.message(denied)));
        errors.extend(of_state.map(|(location, text)| Finding { location, text }));
        Ok(Findings { errors, warnings })
    }

    /// Runs `work` on a thread with the credentials of this user. Credentials belong to a thread (credentials(7)), so this process keeps its
    /// own.
    fn become_and<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        if geteuid() == self.uid && !self.is_root() {
            return Ok(work());
        }
        ensure!(geteuid().is_root(), "only root can look as another user; run this with sudo");
        let as_user = || -> Result<T> {
            set_thread_groups(&self.groups).context("cannot take the user's groups")?;
            set_thread_res_gid(self.gid, self.gid, self.gid).context("cannot take the user's group")?;
            set_thread_res_uid(self.uid, self.uid, self.uid).context("cannot become the user")?;
            let kept = capabilities(None).context("cannot read the capabilities")?.effective;
            ensure!(self.is_root() || kept.is_empty(), "the kernel left root's rights to the user");
            Ok(work())
        };
        thread::scope(|scope| {
            let joined = thread::Builder::new().spawn_scoped(scope, as_user).context("cannot start a thread")?.join();
            joined.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// The same, but for what belongs to this user: the kernel asks for the bits of the owner then, and no group helps.
    fn of_owner(&self, denied: Denied) -> Denied {
        let (path, missing) = match &denied {
            Denied::Enter(path) => (path, Missing::Enter),
            Denied::Read(path) => (path, Missing::Read),
            Denied::Connect(path) => (path, Missing::Write),
            _ => return denied,
        };
        let is_own = fs::metadata(path).is_ok_and(|metadata| metadata.uid() == self.uid.as_raw());
        if is_own { Denied::Own(path.clone(), missing) } else { denied }
    }

    fn message(&self, denied: Denied) -> String {
        let Self { name, group, .. } = self;
        match self.of_owner(denied) {
            Denied::Own(path, missing) => {
                let (letter, verb) = missing.words();
                format!(
                    "user {name} owns {0} and may not {verb} it ({1}); `chmod u+{letter} {0}`",
                    path.display(),
                    owner(&path)
                )
            }
            Denied::Enter(path) => format!(
                "user {name} may not enter the directory {} ({}); let a group of that user enter it: `chgrp {group} {0}`, then \
                 `chmod g+x {0}`",
                path.display(),
                owner(&path)
            ),
            Denied::Read(path) => format!(
                "user {name} may not read {} ({}); let a group of that user read it: `chgrp {group} {0}`, then `chmod g+r {0}`",
                path.display(),
                owner(&path)
            ),
            Denied::Connect(path) => format!(
                "user {name} may not connect to the socket {} ({}), which needs write permission; make the handler create it for a group \
                 of that user (SocketGroup=, SocketMode=0660), such as {group}",
                path.display(),
                owner(&path)
            ),
            Denied::NoListener(path) => {
                format!("no program listens on the socket {}; start the handler", path.display())
            }
            Denied::State(StateError::Owner { path, owner, .. }) => format!(
                "the state directory {0} belongs to user {owner}, and hookgate runs as user {name}; change the owner: `chown -R {name}:{group} {0}`",
                path.display()
            ),
            Denied::State(error) => error.to_string(),
            Denied::Keep(path) => format!(
                "user {name} may not write to the state directory {} ({}); change its mode: `chmod 0700 {0}`",
                path.display(),
                owner(&path)
            ),
            Denied::Other(path, error) => format!("user {name} cannot use {}: {error}", path.display()),
        }
    }
}

/// One answer of id(1).
fn id(what: &str, user: &str) -> Result<String> {
    let output = Command::new("id").args([what, "--", user]).env("LC_ALL", "C").output().context("cannot run id(1)")?;
    if !output.status.success() {
        bail!("there is no such user on this host");
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn path_of(handler: &HandlerAddress) -> Option<PathBuf> {
    match handler {
        HandlerAddress::Unix(path) => Some(path.clone()),
        HandlerAddress::Tcp(_) => None,
    }
}

/// The path as it is written, and the one that symbolic links lead to.
fn ways(path: &Path) -> Vec<PathBuf> {
    let resolved = fs::canonicalize(path).ok().filter(|resolved| resolved != path);
    std::iter::once(path.to_owned()).chain(resolved).collect()
}

/// The first directory on the way to `path` that this thread may not enter.
fn enter(path: &Path) -> Option<Denied> {
    let mut directories: Vec<&Path> = path.ancestors().skip(1).filter(|path| !path.as_os_str().is_empty()).collect();
    directories.reverse();
    let denied =
        |directory: &&&Path| accessat(CWD, **directory, Access::EXEC_OK, AtFlags::EACCESS) == Err(Errno::ACCESS);
    directories.iter().find(denied).map(|directory| Denied::Enter((*directory).to_owned()))
}

/// Opens a file or a directory of files. What does not exist is told by the parser.
fn read(path: &Path) -> Option<Denied> {
    let opened = match path.is_dir() {
        true => fs::read_dir(path).map(drop),
        false => File::open(path).map(drop),
    };
    match opened {
        Ok(()) => None,
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Some(Denied::Read(path.to_owned())),
        Err(error) => Some(Denied::Other(path.to_owned(), error)),
    }
}

/// Opens the state directory as a start does, and looks whether files may be made there. What is wrong for every user is told
/// elsewhere.
fn keep(path: &Path) -> Option<Denied> {
    match StateDirectory::open_to_read(path) {
        Err(StateError::Mode { .. }) => None,
        Err(error) if error.is_absent() => None,
        Err(error) => Some(Denied::State(error)),
        Ok(_) => match accessat(CWD, path, Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS) {
            Ok(()) => None,
            Err(Errno::ACCESS) => Some(Denied::Keep(path.to_owned())),
            Err(error) => Some(Denied::Other(path.to_owned(), error.into())),
        },
    }
}

/// Connects to a socket, and closes the connection. A full queue is no denial.
fn reach(path: &Path) -> Option<Denied> {
    let connected = || -> rustix::io::Result<()> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        connect(&socket, &SocketAddrUnix::new(path)?)
    };
    match connected() {
        // What is absent or no socket is told for every user.
        Ok(()) | Err(Errno::AGAIN | Errno::NOENT) => None,
        Err(Errno::ACCESS | Errno::PERM) => Some(Denied::Connect(path.to_owned())),
        Err(Errno::CONNREFUSED) if is_socket(path) => Some(Denied::NoListener(path.to_owned())),
        Err(Errno::CONNREFUSED) => None,
        Err(error) => Some(Denied::Other(path.to_owned(), error.into())),
    }
}

fn is_socket(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt as _;
    fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket())
}

/// Mode and owner, as `ls -n` shows them.
fn owner(path: &Path) -> String {
    match fs::metadata(path) {
        Ok(metadata) => {
            format!("mode {:04o}, user {}, group {}", metadata.mode() & 0o7777, metadata.uid(), metadata.gid())
        }
        Err(error) => error.to_string(),
    }
}
