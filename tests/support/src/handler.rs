//! A real HTTP/1.1 handler on a Unix socket, one thread per connection. Records requests, and answers as configured.
//!
//! Owns the socket file, which it makes on start and removes on drop. Must not judge what it receives: tests do.

use std::collections::{HashMap, VecDeque};
use std::fs;
use std::io::{BufReader, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::http::Request;

/// Most requests kept; older ones are dropped, but counted. Enough for every test, and a bound for a long demo.
const MAX_RECORDED: usize = 65_536;

/// How long dropping a handler waits for its connection threads.
const STOP_LIMIT: Duration = Duration::from_secs(2);

/// How a handler answers a request.
#[derive(Clone, Debug)]
pub enum Behaviour {
    /// 200 with a JSON body that holds method, target and the length of the request's body.
    Json,
    /// This status, these fields, this body. The response to HEAD has the Content-Length, and no body; 204 and 304 have neither.
    Fixed {
        /// Status code.
        status: u16,
        /// Fields beside Content-Length.
        fields: Vec<(String, String)>,
        /// The body.
        body: Vec<u8>,
    },
    /// Wait, then behave.
    Delay(Duration, Box<Self>),
    /// 200 with a chunked body: these pieces, with a pause before each.
    Chunked {
        /// The pieces; an empty one is skipped.
        pieces: Vec<Vec<u8>>,
        /// The pause before each piece.
        pause: Duration,
    },
    /// 200 with a Content-Length, and a body of this many bytes `x`.
    Huge(usize),
    /// 200 with a Content-Length of `declared`, `sent` bytes of body, then a close.
    BreakOff {
        /// Content-Length.
        declared: usize,
        /// Bytes sent before closing.
        sent: usize,
    },
    /// 200 with one chunk, then a close without the last chunk.
    BreakOffChunked,
    /// Half of a response head, then a close.
    BreakOffHead,
    /// Bytes that are not HTTP, then a close.
    Malformed,
    /// Exactly these bytes, and the connection stays open.
    Raw(Vec<u8>),
    /// Read the request, and close without a response.
    CloseBeforeAnswering,
    /// Read the request, and neither respond nor close.
    NeverAnswer,
    /// Interim responses (100 and 103), then behave.
    Informational(Box<Self>),
    /// Behave, with `Connection: close`, and close.
    ThenClose(Box<Self>),
    /// Behave, then close without `Connection: close`: the pooled connection becomes stale.
    ThenCloseSilently(Box<Self>),
    /// Behave for the first request of a connection. When the second arrives, close without a byte of a response: the connection
    /// proves stale only after the request was written.
    OncePerConnection(Box<Self>),
    /// One behaviour per request, in order, over all connections. The last one is for all further requests.
    Sequence(VecDeque<Self>),
}

impl Behaviour {
    /// [`Behaviour::Fixed`] without further fields.
    pub fn status(status: u16, body: &str) -> Self {
        Self::Fixed { status, fields: Vec::new(), body: body.as_bytes().to_vec() }
    }

    /// [`Behaviour::Raw`] of a text.
    pub fn raw(text: &str) -> Self {
        Self::Raw(text.as_bytes().to_vec())
    }

    /// A boxed copy, for the behaviours that wrap another: `Behaviour::ThenClose(Behaviour::Json.boxed())`.
    pub fn boxed(self) -> Box<Self> {
        Box::new(self)
    }

    /// [`Behaviour::Sequence`] of `behaviours`.
    pub fn sequence(behaviours: impl IntoIterator<Item = Self>) -> Self {
        Self::Sequence(behaviours.into_iter().collect())
    }

    /// Whether it answers with 200.
    fn takes(&self) -> bool {
        match self {
            Self::Json => true,
            Self::Fixed { status, .. } => *status == 200,
            Self::Delay(_, then) => then.takes(),
            _ => false,
        }
    }
}

/// What happens to the connection after a response.
#[derive(Clone, Copy, PartialEq, Eq)]
enum After {
    KeepAlive,
    Close,
}

#[derive(Debug)]
struct State {
    behaviour: Behaviour,
    requests: VecDeque<Request>,
    /// Those that were answered with 200.
    taken: VecDeque<Request>,
    request_count: u64,
    connection_count: u64,
    /// Open connections, to be shut down on drop.
    open: HashMap<u64, UnixStream>,
    stopping: bool,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `done` returns true. Returns whether it did within `limit`.
    fn wait_until(&self, limit: Duration, mut done: impl FnMut(&State) -> bool) -> bool {
        let (_state, waited) = self
            .changed
            .wait_timeout_while(self.lock(), limit, |state| !done(state))
            .unwrap_or_else(PoisonError::into_inner);
        !waited.timed_out()
    }

    /// Sleeps for `pause`, or until the handler stops.
    fn pause(&self, pause: Duration) {
        self.wait_until(pause, |state| state.stopping);
    }
}

/// A running handler. On drop it stops, and removes its socket.
#[derive(Debug)]
pub struct Handler {
    path: PathBuf,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

impl Handler {
    /// Starts a handler on `path`; replaces a socket that is there.
    ///
    /// # Errors
    ///
    /// The socket cannot be bound: `sun_path` takes 107 bytes (unix(7)).
    pub fn start(path: &Path, behaviour: Behaviour) -> Result<Self> {
        drop(fs::remove_file(path));
        let listener = UnixListener::bind(path).with_context(|| format!("binding {}", path.display()))?;
        let state = State {
            behaviour,
            requests: VecDeque::new(),
            taken: VecDeque::new(),
            request_count: 0,
            connection_count: 0,
            open: HashMap::new(),
            stopping: false,
        };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
        let of_acceptor = Arc::clone(&shared);
        let acceptor = thread::Builder::new().name("handler".into()).spawn(move || accept(&listener, &of_acceptor))?;
        Ok(Self { path: path.to_owned(), shared, acceptor: Some(acceptor) })
    }

    /// The socket.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The kept requests, in the order in which they were complete.
    pub fn requests(&self) -> Vec<Request> {
        self.shared.lock().requests.iter().cloned().collect()
    }

    /// Those of the last requests that were answered with 200 by a plain behaviour, or one after a delay, in the order of the answers. A peer
    /// that was gone got no answer.
    pub fn taken(&self) -> Vec<Request> {
        self.shared.lock().taken.iter().cloned().collect()
    }

    /// The number of complete requests so far.
    pub fn request_count(&self) -> u64 {
        self.shared.lock().request_count
    }

    /// The number of connections accepted so far.
    pub fn connection_count(&self) -> u64 {
        self.shared.lock().connection_count
    }

    /// The number of connections open now.
    pub fn open_connections(&self) -> usize {
        self.shared.lock().open.len()
    }

    /// Drops the kept requests. The counters keep their values.
    pub fn forget(&self) {
        let mut state = self.shared.lock();
        state.requests.clear();
        state.taken.clear();
    }

    /// Waits until `count` requests have been read, and returns the kept ones.
    ///
    /// # Errors
    ///
    /// Fewer arrive within `limit`.
    pub fn wait_for(&self, count: u64, limit: Duration) -> Result<Vec<Request>> {
        let came = self.shared.wait_until(limit, |state| state.request_count >= count);
        ensure!(came, "{} of {count} requests within {limit:?}", self.request_count());
        Ok(self.requests())
    }

    /// Waits until no connection is open.
    ///
    /// # Errors
    ///
    /// One is open after `limit`.
    pub fn wait_no_connection(&self, limit: Duration) -> Result<()> {
        let closed = self.shared.wait_until(limit, |state| state.open.is_empty());
        ensure!(closed, "{} connections are open after {limit:?}", self.open_connections());
        Ok(())
    }

    /// Changes the behaviour for all further requests.
    pub fn set_behaviour(&self, behaviour: Behaviour) {
        self.shared.lock().behaviour = behaviour;
    }

    /// Closes every open connection, idle or not, as a handler that restarts does.
    pub fn close_connections(&self) {
        for stream in self.shared.lock().open.values() {
            // Fails only if the peer has closed first.
            drop(stream.shutdown(Shutdown::Both));
        }
    }
}

impl Drop for Handler {
    fn drop(&mut self) {
        self.shared.lock().stopping = true;
        self.shared.changed.notify_all();
        // Wakes the acceptor, which then sees `stopping`.
        drop(UnixStream::connect(&self.path));
        if let Some(acceptor) = self.acceptor.take() {
            drop(acceptor.join());
        }
        self.close_connections();
        self.shared.wait_until(STOP_LIMIT, |state| state.open.is_empty());
        drop(fs::remove_file(&self.path));
    }
}

fn accept(listener: &UnixListener, shared: &Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept() {
        let mut state = shared.lock();
        if state.stopping {
            return;
        }
        let Ok(copy) = stream.try_clone() else { continue };
        state.connection_count += 1;
        let connection = state.connection_count;
        state.open.insert(connection, copy);
        drop(state);
        let shared = Arc::clone(shared);
        thread::spawn(move || {
            // The test sees the effect of an error on the daemon.
            drop(serve(&stream, connection, &shared));
            drop(stream.shutdown(Shutdown::Both));
            shared.lock().open.remove(&connection);
            shared.changed.notify_all();
        });
    }
}

fn serve(stream: &UnixStream, connection: u64, shared: &Shared) -> Result<()> {
    let mut reader = BufReader::new(stream);
    let mut served = 0_u64;
    while let Some(request) = Request::read(&mut reader, connection)? {
        served += 1;
        let behaviour = {
            let mut state = shared.lock();
            state.request_count += 1;
            if state.requests.len() == MAX_RECORDED {
                state.requests.pop_front();
            }
            state.requests.push_back(request.clone());
            next(&mut state.behaviour)
        };
        shared.changed.notify_all();
        let mut exchange = Exchange { stream, shared, request: &request, served, announce_close: false };
        let after = exchange.answer(&behaviour)?;
        if behaviour.takes() {
            let mut state = shared.lock();
            if state.taken.len() == MAX_RECORDED {
                state.taken.pop_front();
            }
            state.taken.push_back(request);
        }
        if after == After::Close {
            break;
        }
    }
    Ok(())
}

/// The behaviour for the next request. Removes it from a sequence.
fn next(behaviour: &mut Behaviour) -> Behaviour {
    match behaviour {
        Behaviour::Sequence(rest) if rest.len() > 1 => rest.pop_front().unwrap_or(Behaviour::Json),
        Behaviour::Sequence(rest) => rest.front().cloned().unwrap_or(Behaviour::Json),
        other => other.clone(),
    }
}

/// One request and its response.
struct Exchange<'a> {
    stream: &'a UnixStream,
    shared: &'a Shared,
    request: &'a Request,
    /// The number of requests on this connection so far, this one included.
    served: u64,
    announce_close: bool,
}

impl Exchange<'_> {
    fn answer(&mut self, behaviour: &Behaviour) -> Result<After> {
        match behaviour {
            Behaviour::Json => self.send(200, &[("Content-Type".into(), "application/json".into())], &self.echo()),
            Behaviour::Fixed { status, fields, body } => self.send(*status, fields, body),
            Behaviour::Delay(pause, then) => {
                self.shared.pause(*pause);
                self.answer(then)
            }
            Behaviour::Chunked { pieces, pause } => self.send_chunked(pieces, *pause),
            Behaviour::Huge(length) => self.send(200, &[], &vec![b'x'; *length]),
            Behaviour::BreakOff { declared, sent } => {
                self.write(format!("HTTP/1.1 200 OK\r\nContent-Length: {declared}\r\n\r\n").as_bytes())?;
                self.write(&vec![b'x'; *sent])?;
                Ok(After::Close)
            }
            Behaviour::BreakOffChunked => {
                self.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")?;
                Ok(After::Close)
            }
            Behaviour::BreakOffHead => {
                self.write(b"HTTP/1.1 200 OK\r\nContent-Len")?;
                Ok(After::Close)
            }
            Behaviour::Malformed => {
                self.write(b"this is not HTTP\r\n\r\n")?;
                Ok(After::Close)
            }
            Behaviour::Raw(bytes) => {
                self.write(bytes)?;
                Ok(After::KeepAlive)
            }
            Behaviour::CloseBeforeAnswering => Ok(After::Close),
            Behaviour::NeverAnswer => {
                self.shared.wait_until(Duration::from_secs(3600), |state| state.stopping);
                Ok(After::Close)
            }
            Behaviour::Informational(then) => {
                self.write(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n")?;
                self.answer(then)
            }
            Behaviour::ThenClose(then) => {
                self.announce_close = true;
                self.answer(then)?;
                Ok(After::Close)
            }
            Behaviour::ThenCloseSilently(then) => {
                self.answer(then)?;
                Ok(After::Close)
            }
            Behaviour::OncePerConnection(then) if self.served == 1 => self.answer(then),
            Behaviour::OncePerConnection(_) => Ok(After::Close),
            Behaviour::Sequence(behaviours) => behaviours.front().map_or(Ok(After::Close), |first| self.answer(first)),
        }
    }

    fn echo(&self) -> Vec<u8> {
        let quote = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
        let (method, target) = (quote(&self.request.method), quote(&self.request.target));
        let length = self.request.body.len();
        format!("{{\"method\":\"{method}\",\"target\":\"{target}\",\"body_bytes\":{length}}}\n").into_bytes()
    }

    fn write(&self, bytes: &[u8]) -> Result<()> {
        let mut stream = self.stream;
        Ok(stream.write_all(bytes)?)
    }

    fn head(&self, status: u16, fields: &[(String, String)]) -> String {
        let mut head = format!("HTTP/1.1 {status} {}\r\n", phrase(status));
        for (name, value) in fields {
            head += &format!("{name}: {value}\r\n");
        }
        if self.announce_close {
            head += "Connection: close\r\n";
        }
        head
    }

    fn send(&self, status: u16, fields: &[(String, String)], body: &[u8]) -> Result<After> {
        let mut bytes = self.head(status, fields);
        let bodiless = matches!(status, 204 | 304);
        if !bodiless {
            bytes += &format!("Content-Length: {}\r\n", body.len());
        }
        bytes += "\r\n";
        let mut bytes = bytes.into_bytes();
        if !bodiless && self.request.method != "HEAD" {
            bytes.extend_from_slice(body);
        }
        self.write(&bytes)?;
        Ok(After::KeepAlive)
    }

    fn send_chunked(&self, pieces: &[Vec<u8>], pause: Duration) -> Result<After> {
        self.write((self.head(200, &[]) + "Transfer-Encoding: chunked\r\n\r\n").as_bytes())?;
        for piece in pieces.iter().filter(|piece| !piece.is_empty()) {
            self.shared.pause(pause);
            let mut chunk = format!("{:x}\r\n", piece.len()).into_bytes();
            chunk.extend_from_slice(piece);
            chunk.extend_from_slice(b"\r\n");
            self.write(&chunk)?;
        }
        self.write(b"0\r\n\r\n")?;
        Ok(After::KeepAlive)
    }
}

fn phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        304 => "Not Modified",
        500 => "Internal Server Error",
        _ => "Status",
    }
}

#[cfg(test)]
mod tests;
