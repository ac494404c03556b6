//! The control socket: a question of `hookgate explain` about the recent refusals, or of `hookgate deliveries` about stored deliveries, and the
//! answer, one of each for a connection.
//!
//! Owns the socket, the form of questions and answers, and their bounds. The socket is in the state directory, which only root and the user of
//! hookgate can enter. Must not change anything itself: it tells what [`Recent`] keeps, and passes a [`Command`] to where deliveries are [`Stored`].
//!
//! A question is one line: `recent`, or `refused` and a request id or the SHA-256 of a certificate; the answer is a JSON array of [`Record`]s.
//! Or `deliveries` and a [`Command`] as JSON; the answer is an [`Answer`] as JSON. Then the stream ends. At most [`AT_ONCE`] connections
//! are served at once, each for at most [`LIMIT`], or [`STORED_LIMIT`] if it is about deliveries; others wait in the queue of the socket.

mod client;
mod record;
mod stored;

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener as StdListener, UnixStream as StdStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

pub(super) use self::client::ControlSocket;
pub(super) use self::record::Record;
pub(super) use self::stored::Stored;
use crate::deliveries::{Answer, Command};
use crate::recent::Recent;

/// The name of the socket in the state directory.
pub(super) const NAME: &str = "control.sock";

/// The word before a [`Command`].
pub(super) const DELIVERIES: &str = "deliveries";

/// The longest question: a command with the names of a route and a provider.
const QUESTION_BYTES: usize = 1024;

/// From the accept to the end of a question, and from there to the end of an answer that needs no disk. The program that asks runs on this host.
const LIMIT: Duration = Duration::from_secs(2);

/// From the question to the end of an answer about deliveries: the disk may be slow, and a body long.
const STORED_LIMIT: Duration = Duration::from_secs(20);

/// Connections that are served at once: more than operators and their scripts make, so that a few that say nothing keep no other waiting. An answer
/// about deliveries can have half a gibibyte, so not many more.
const AT_ONCE: usize = 8;

/// Pause after an accept that failed for lack of descriptors or memory.
const PAUSE: Duration = Duration::from_millis(500);

/// The bound socket.
pub(super) struct Inquiry {
    listener: UnixListener,
    answers: Arc<Answers>,
}

/// What is asked for.
struct Answers {
    recent: Arc<Recent>,
    stored: Stored,
}

impl Inquiry {
    /// Binds the socket in this directory, in place of one that an earlier process left. Call it inside the runtime of the control thread, before
    /// the process is confined.
    ///
    /// # Errors
    ///
    /// If it cannot be bound: the path may be too long for a socket (unix(7)), or another process answers there.
    pub(super) fn bind(directory: &Path, recent: Arc<Recent>, stored: Stored) -> io::Result<Self> {
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
        Ok(Self { listener: UnixListener::from_std(listener)?, answers: Arc::new(Answers { recent, stored }) })
    }

    /// Serves for as long as it is polled.
    pub(super) async fn serve(self) {
        let mut served = JoinSet::new();
        loop {
            while served.len() >= AT_ONCE {
                served.join_next().await;
            }
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let answers = Arc::clone(&self.answers);
                    served.spawn(async move { answers.serve(&stream).await });
                }
                Err(error) => {
                    tracing::debug!(%error, "the control socket cannot accept a connection; it tries again");
                    sleep(PAUSE).await;
                }
            }
            while served.try_join_next().is_some() {}
        }
    }
}

impl Answers {
    /// Serves one connection. A program that asks too slowly, or leaves, gets no answer.
    async fn serve(&self, stream: &UnixStream) {
        if let Ok(Ok(question)) = timeout(LIMIT, read_line(stream)).await {
            self.answer(stream, &question).await;
        }
    }

    /// Answers within the limit. A program that leaves, or reads too slowly, gets no answer, or a part of it.
    async fn answer(&self, stream: &UnixStream, question: &str) {
        let _ = match question.strip_prefix(DELIVERIES) {
            Some(command) => {
                let answered = async {
                    let answer = self.stored(command).await;
                    write(stream, serde_json::to_vec(&answer).unwrap_or_default()).await
                };
                timeout(STORED_LIMIT, answered).await
            }
            None => timeout(LIMIT, write(stream, answer_to(question, &self.recent))).await,
        };
    }

    /// The answer to a command about stored deliveries.
    async fn stored(&self, command: &str) -> Answer {
        match serde_json::from_str::<Command>(command) {
            Ok(command) => self.stored.ask(command).await,
            Err(error) => Answer::Error(format!("this daemon does not know the command, or it is too long: {error}")),
        }
    }
}

/// Writes an answer.
async fn write(stream: &UnixStream, bytes: Vec<u8>) -> io::Result<()> {
    let mut rest = bytes.as_slice();
    while !rest.is_empty() {
        stream.writable().await?;
        match stream.try_write(rest) {
            Ok(written) => rest = rest.get(written..).unwrap_or_default(),
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
