//! The control socket: a question of `hookgate explain` about the recent refusals, and the answer, one of each for a connection.
//!
//! Owns the socket, the form of questions and answers, and their bounds. The socket is in the state directory, which only root and the user of
//! hookgate can enter. Must not change anything: it tells what [`Recent`] keeps.
//!
//! A question is one line: `recent`, or `refused` and a request id or the SHA-256 of a certificate. The answer is a JSON array of [`Record`]s,
//! and the end of the stream. Connections are served one after the other, each for at most [`LIMIT`].

mod record;

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener as StdListener, UnixStream as StdStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{UnixListener, UnixStream};
use tokio::time::{sleep, timeout};

pub(super) use self::record::Record;
use crate::recent::Recent;

/// The name of the socket in the state directory.
pub(super) const NAME: &str = "control.sock";

/// The longest question: a word, and a fingerprint with colons.
const QUESTION_BYTES: usize = 256;

/// From the accept to the end of the answer. Whoever asks is on this host.
const LIMIT: Duration = Duration::from_secs(2);

/// Pause after an accept that failed for lack of descriptors or memory.
const PAUSE: Duration = Duration::from_millis(500);

/// The bound socket.
pub(super) struct Inquiry {
    listener: UnixListener,
    recent: Arc<Recent>,
}

impl Inquiry {
    /// Binds the socket in this directory, in place of one that an earlier process left. Call it inside the runtime of the control thread, before
    /// the process is confined.
    ///
    /// # Errors
    ///
    /// If it cannot be bound: the path may be too long for a socket (unix(7)), or another process answers there.
    pub(super) fn bind(directory: &Path, recent: Arc<Recent>) -> io::Result<Self> {
        let path = directory.join(NAME);
        if fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.file_type().is_socket()) {
            if StdStream::connect(&path).is_ok() {
                return Err(io::Error::new(io::ErrorKind::AddrInUse, "another process answers there"));
            }
            fs::remove_file(&path)?;
        }
        let listener = StdListener::bind(&path)?;
        // The directory is for its owner alone, and the unit allows no chmod(2).
        drop(fs::set_permissions(&path, Permissions::from_mode(0o600)));
        listener.set_nonblocking(true)?;
        Ok(Self { listener: UnixListener::from_std(listener)?, recent })
    }

    /// Serves for as long as it is polled.
    pub(super) async fn serve(self) {
        loop {
            match self.listener.accept().await {
                // Whoever asks too slowly, or leaves, gets no answer.
                Ok((stream, _)) => drop(timeout(LIMIT, answer(&stream, &self.recent)).await),
                Err(error) => {
                    tracing::debug!(%error, "the control socket cannot accept a connection; it tries again");
                    sleep(PAUSE).await;
                }
            }
        }
    }
}

async fn answer(stream: &UnixStream, recent: &Recent) -> io::Result<()> {
    let question = read_line(stream).await?;
    let mut bytes = answer_to(&question, recent);
    while !bytes.is_empty() {
        stream.writable().await?;
        match stream.try_write(&bytes) {
            Ok(written) => drop(bytes.drain(..written)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The first line, or what came before the end of the stream.
async fn read_line(stream: &UnixStream) -> io::Result<String> {
    let mut bytes = [0; QUESTION_BYTES];
    let mut length = 0;
    while length < bytes.len() && !bytes[..length].contains(&b'\n') {
        stream.readable().await?;
        match stream.try_read(&mut bytes[length..]) {
            Ok(0) => break,
            Ok(read) => length += read,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    let text = String::from_utf8_lossy(&bytes[..length]).into_owned();
    Ok(text.lines().next().unwrap_or_default().trim().to_owned())
}

/// The answer to a question; an empty array if it is none.
fn answer_to(question: &str, recent: &Recent) -> Vec<u8> {
    let records: Vec<Record> = match question.split_once(' ') {
        None if question == "recent" => recent.all().iter().map(|refused| Record::without_chain(refused)).collect(),
        Some(("refused", wanted)) => recent.find(wanted).iter().map(|refused| Record::new(refused)).collect(),
        _ => Vec::new(),
    };
    // Strings and numbers always serialize.
    serde_json::to_vec(&records).unwrap_or_default()
}

#[cfg(test)]
mod tests;
