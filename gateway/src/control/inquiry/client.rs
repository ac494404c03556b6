//! The asking side of the control socket.
//!
//! Owns the connection and its bounds. Must not know what is asked.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;

use super::NAME;
use crate::config::{Config, FileVersions, NamedPlaces};
use crate::control::trust::SERVICE_DIRECTORY;

/// Where a daemon answers.
pub(in crate::control) struct ControlSocket {
    path: PathBuf,
    /// The configuration names the state directory. Otherwise it is the service's.
    is_named: bool,
}

impl ControlSocket {
    /// That of a daemon with this configuration.
    pub(in crate::control) fn of(config: &Config) -> Self {
        Self::in_directory(config.state.directory.clone())
    }

    /// That of a daemon with the configuration in this file, which has an error: only the state directory is read. Says so on standard error.
    pub(in crate::control) fn of_erroneous(file: &Path) -> Self {
        let socket = Self::in_directory(NamedPlaces::of(file, &FileVersions::default()).state.map(|(_, path)| path));
        eprintln!(
            "note: {} has an error (hookgate check says which), so this asks at {}",
            file.display(),
            socket.path.display()
        );
        socket
    }

    fn in_directory(directory: Option<PathBuf>) -> Self {
        let is_named = directory.is_some();
        Self { path: directory.unwrap_or_else(|| PathBuf::from(SERVICE_DIRECTORY)).join(NAME), is_named }
    }

    /// Whether a daemon answers there, as far as this process may know.
    pub(in crate::control) fn may_be_bound(&self) -> bool {
        let is_absent = |error: io::Error| matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused);
        !UnixStream::connect(&self.path).is_err_and(is_absent)
    }

    /// Asks, and returns the first `most` bytes of the answer. Each system call takes at most `patience`.
    ///
    /// # Errors
    ///
    /// No daemon answers, or not in time.
    pub(in crate::control) fn ask(&self, question: &str, most: u64, patience: Duration) -> anyhow::Result<Vec<u8>> {
        match self.exchange(question, most, patience) {
            // What the time-outs of a socket end with.
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => anyhow::bail!(
                "the daemon at {} is busy: it gave no answer within {} s; try again",
                self.path.display(),
                patience.as_secs()
            ),
            answer => answer.with_context(|| self.absence()),
        }
    }

    fn exchange(&self, question: &str, most: u64, patience: Duration) -> io::Result<Vec<u8>> {
        let mut stream = UnixStream::connect(&self.path)?;
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(patience))?;
        stream.write_all(question.as_bytes())?;
        stream.write_all(b"\n")?;
        let mut answer = Vec::new();
        stream.take(most).read_to_end(&mut answer)?;
        Ok(answer)
    }

    /// What an answer of another hookgate is told as.
    pub(in crate::control) fn other_version(&self) -> String {
        format!("{} gave an answer of another version", self.path.display())
    }

    /// Why no daemon may answer, and what to do, in a sentence without a full stop.
    fn absence(&self) -> String {
        let shown = self.path.display();
        match self.is_named {
            true => format!(
                "no daemon answers at {shown}: hookgate run binds it in the state directory, and root and its user can ask; start hookgate, or \
                 ask as one of them"
            ),
            false => format!(
                "no daemon answers at {shown}: the configuration names no state directory, so this is the service's; if hookgate runs by hand, \
                 write [state] directory = \"/path/of/a/directory\" (mode 0700, of its user), and start it again"
            ),
        }
    }
}
