//! The asking side of the control socket.
//!
//! Owns the connection and its bounds. Must not know what is asked.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::NAME;
use crate::config::Config;
use crate::control::trust::SERVICE_DIRECTORY;

/// The path of the socket of a daemon with this configuration.
pub(in crate::control) fn path(config: &Config) -> PathBuf {
    config.state.directory.clone().unwrap_or_else(|| PathBuf::from(SERVICE_DIRECTORY)).join(NAME)
}

/// Why no daemon may answer at `path`, and what to do, in a sentence without a full stop.
pub(in crate::control) fn absence(config: &Config, path: &Path) -> String {
    let shown = path.display();
    match config.state.directory {
        Some(_) => format!(
            "no daemon answers at {shown}: hookgate run binds it in the state directory, and root and its user can ask; start hookgate, or ask \
             as one of them"
        ),
        None => format!(
            "no daemon answers at {shown}: the configuration names no state directory, so this is the service's; if hookgate runs by hand, \
             write [state] directory = \"/path/of/a/directory\" (mode 0700, of its user), and start it again"
        ),
    }
}

/// Asks, and returns the first `most` bytes of the answer. Each system call takes at most `patience`.
///
/// # Errors
///
/// No daemon answers.
pub(in crate::control) fn ask(path: &Path, question: &str, most: u64, patience: Duration) -> io::Result<Vec<u8>> {
    let mut stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    stream.write_all(question.as_bytes())?;
    stream.write_all(b"\n")?;
    let mut answer = Vec::new();
    stream.take(most).read_to_end(&mut answer)?;
    Ok(answer)
}
