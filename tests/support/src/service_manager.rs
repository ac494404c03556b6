//! The service manager's side of the notification protocol (sd_notify(3)): a datagram socket that keeps the daemon's messages,
//! and the descriptors that it stores, as systemd's file descriptor store does.
//!
//! Owns the socket. Must not manage the daemon: tests start and end it. `tests/system` shows that systemd behaves like this.

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

/// How often waiting methods check what has arrived, and the reader checks whether it should end.
const POLL: Duration = Duration::from_millis(5);

/// Largest message, as in systemd (NOTIFY_BUFFER_MAX, 4096 bytes).
const MESSAGE_BYTES: usize = 4096;

/// Most descriptors of one message: SCM_MAX_FD of unix(7).
const MESSAGE_DESCRIPTORS: usize = 253;

/// One message.
#[derive(Clone, Debug)]
pub struct Message {
    /// When it arrived.
    pub at: Instant,
    /// The lines, each `NAME=value`.
    pub text: String,
}

impl Message {
    /// The value of `name`.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
    }
}

/// Descriptors with their names, in the order of their arrival.
type Stored = Vec<(String, Arc<OwnedFd>)>;

#[derive(Debug, Default)]
struct Received {
    messages: Vec<Message>,
    stored: Stored,
}

/// A listening service manager.
#[derive(Debug)]
pub struct ServiceManager {
    path: PathBuf,
    received: Arc<Mutex<Received>>,
    over: Arc<AtomicBool>,
    reader: Option<JoinHandle<()>>,
}

impl ServiceManager {
    /// Binds a socket at `path`, the value for `NOTIFY_SOCKET`.
    ///
    /// # Errors
    ///
    /// The socket cannot be bound.
    pub fn listen(path: &Path) -> Result<Self> {
        let socket = UnixDatagram::bind(path)?;
        socket.set_read_timeout(Some(POLL))?;
        let (received, over) = (Arc::new(Mutex::new(Received::default())), Arc::new(AtomicBool::new(false)));
        let (sink, end) = (Arc::clone(&received), Arc::clone(&over));
        let reader = thread::spawn(move || {
            while !end.load(Ordering::Relaxed) {
                receive(&socket, &sink);
            }
        });
        Ok(Self { path: path.to_owned(), received, over, reader: Some(reader) })
    }

    /// The path of the socket.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Every message so far.
    pub fn messages(&self) -> Vec<Message> {
        self.received.lock().unwrap_or_else(PoisonError::into_inner).messages.clone()
    }

    /// The descriptors in the store.
    pub fn stored(&self) -> Vec<(String, Arc<OwnedFd>)> {
        self.received.lock().unwrap_or_else(PoisonError::into_inner).stored.clone()
    }

    /// When the messages with this line arrived.
    pub fn times(&self, line: &str) -> Vec<Instant> {
        let has_line = |message: &&Message| message.text.lines().any(|other| other == line);
        self.messages().iter().filter(has_line).map(|message| message.at).collect()
    }

    /// Waits for a message for which `is_match` returns true; ignores the first `seen` messages.
    ///
    /// # Errors
    ///
    /// None arrives within `limit`; all messages are in the error.
    pub fn wait_for(&self, seen: usize, limit: Duration, is_match: impl Fn(&Message) -> bool) -> Result<Message> {
        let deadline = Instant::now() + limit;
        loop {
            let messages = self.messages();
            if let Some(found) = messages.iter().skip(seen).find(|message| is_match(message)) {
                return Ok(found.clone());
            }
            ensure!(Instant::now() < deadline, "no such message within {limit:?}, but {messages:?}");
            thread::sleep(POLL);
        }
    }

    /// Waits until the store holds `count` descriptors.
    ///
    /// # Errors
    ///
    /// It does not hold them within `limit`.
    pub fn wait_stored(&self, count: usize, limit: Duration) -> Result<Vec<(String, Arc<OwnedFd>)>> {
        let deadline = Instant::now() + limit;
        while self.stored().len() != count {
            if Instant::now() >= deadline {
                bail!("the store holds {:?}, not {count} descriptors", self.stored());
            }
            thread::sleep(POLL);
        }
        Ok(self.stored())
    }
}

impl Drop for ServiceManager {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        drop(self.reader.take().map(JoinHandle::join));
    }
}

/// Receives one message, if one arrives before the socket's time-out.
fn receive(socket: &UnixDatagram, sink: &Mutex<Received>) {
    let mut text = [0; MESSAGE_BYTES];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MESSAGE_DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let datagram = recvmsg(socket, &mut [IoSliceMut::new(&mut text)], &mut control, RecvFlags::CMSG_CLOEXEC);
    let Ok(datagram) = datagram else { return };
    let text = String::from_utf8_lossy(&text[..datagram.bytes]).into_owned();
    let message = Message { at: Instant::now(), text };
    let name = message.value("FDNAME").unwrap_or("stored").to_owned();
    let mut received = sink.lock().unwrap_or_else(PoisonError::into_inner);
    for ancillary in control.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = ancillary
            && message.value("FDSTORE") == Some("1")
        {
            received.stored.extend(descriptors.map(|descriptor| (name.clone(), Arc::new(descriptor))));
        }
    }
    if message.value("FDSTOREREMOVE") == Some("1") {
        received.stored.retain(|(stored, _)| *stored != name);
    }
    received.messages.push(message);
}
