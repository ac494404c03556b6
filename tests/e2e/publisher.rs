//! A real publisher of lists and keys, over TLS or without, one thread per connection, with right and wrong responses.
//!
//! Owns its port and its threads, which end on drop. Must not judge its clients.

use std::io::{self, BufReader, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use hookgate_testkit::http::Request;
use hookgate_testkit::pki::Pki;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::acceptor::{Acceptor, server_config};
use crate::environment::{SOON, quoted};

/// How the server answers.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// These bytes, after this pause.
    Bytes(Vec<u8>, Duration),
    /// A head with a Content-Length, and then a byte every 50 ms until the client gives up.
    Trickle,
    /// 304 to a client that has this ETag, and otherwise this answer.
    Unless(&'static str, Box<Answer>),
    /// A close without a handshake.
    Close,
}

impl Answer {
    /// 200 with this key set, fresh for an hour.
    pub(crate) fn keys(document: &str) -> Self {
        Self::ok("Cache-Control: public, max-age=3600\r\n", document.as_bytes())
    }

    /// 200 with these field lines, each with its CRLF, and this body.
    pub(crate) fn ok(fields: &str, body: &[u8]) -> Self {
        let length = body.len();
        let head =
            format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n{fields}\r\n");
        Self::Bytes([head.as_bytes(), body].concat(), Duration::ZERO)
    }

    /// Another status, without a body.
    pub(crate) fn status(line: &str, fields: &str) -> Self {
        Self::Bytes(format!("HTTP/1.1 {line}\r\nContent-Length: 0\r\n{fields}\r\n").into_bytes(), Duration::ZERO)
    }

    /// The same answer after a pause.
    pub(crate) fn after(self, pause: Duration) -> Self {
        match self {
            Self::Bytes(bytes, _) => Self::Bytes(bytes, pause),
            other => other,
        }
    }
}

struct Shared {
    /// `None` for a server without TLS.
    config: Option<Arc<ServerConfig>>,
    answer: Mutex<Answer>,
    requests: AtomicU64,
}

/// A running server; stops on drop.
pub(crate) struct Publisher {
    root: Option<String>,
    shared: Arc<Shared>,
    acceptor: Acceptor,
}

impl Publisher {
    /// Starts a server on a free port of 127.0.0.1, with a certificate for that address below the server root of `pki`.
    pub(crate) fn start(pki: &Pki, answer: Answer) -> Result<Self> {
        let config = server_config(pki, "key-server", "keys.example.com")?;
        Self::serve(Some(config), Some(quoted(pki.server_root().path())), answer)
    }

    /// Starts a server without TLS on a free port of 127.0.0.1.
    pub(crate) fn start_plain(answer: Answer) -> Result<Self> {
        Self::serve(None, None, answer)
    }

    fn serve(config: Option<Arc<ServerConfig>>, root: Option<String>, answer: Answer) -> Result<Self> {
        let shared = Arc::new(Shared { config, answer: Mutex::new(answer), requests: AtomicU64::new(0) });
        let of_acceptor = Arc::clone(&shared);
        let acceptor = Acceptor::start(move |stream, stopping| answer_to(stream, &of_acceptor, stopping))?;
        Ok(Self { root, shared, acceptor })
    }

    /// Changes the answer for all further requests.
    pub(crate) fn set(&self, answer: Answer) {
        *self.shared.answer.lock().unwrap_or_else(PoisonError::into_inner) = answer;
    }

    /// The number of requests so far, answered or not.
    pub(crate) fn requests(&self) -> u64 {
        self.shared.requests.load(Ordering::SeqCst)
    }

    /// The URL of `path` at this server.
    pub(crate) fn url(&self, path: &str) -> String {
        let scheme = if self.root.is_some() { "https" } else { "http" };
        format!("{scheme}://{}/{path}", self.acceptor.address())
    }

    /// The table of `path` at this server, as a list of ranges or of revocations is named, with these keys added.
    pub(crate) fn table(&self, path: &str, keys: &str) -> String {
        let root = self.root.as_ref().map(|root| format!(", ca_file = {root}")).unwrap_or_default();
        format!("{{ url = \"{}\", allow_private = true{root}{keys} }}", self.url(path))
    }

    /// The line `source_range_urls` of a provider for this server.
    pub(crate) fn list(&self) -> String {
        format!("source_range_urls = [{}]\n", self.table("ranges", ""))
    }

    /// The `[[key_source]]` with this name for this server, with these lines.
    pub(crate) fn source(&self, name: &str, lines: &str) -> String {
        let (url, root) = (self.url("keys"), self.root.as_deref().unwrap_or_default());
        format!("[[key_source]]\nname = \"{name}\"\nurl = \"{url}\"\nca_file = {root}\nallow_private = true\n{lines}\n")
    }
}

fn answer_to(stream: TcpStream, shared: &Shared, stopping: &AtomicBool) -> Result<()> {
    let answer = shared.answer.lock().unwrap_or_else(PoisonError::into_inner).clone();
    stream.set_read_timeout(Some(SOON))?;
    stream.set_write_timeout(Some(SOON))?;
    if matches!(answer, Answer::Close) {
        shared.requests.fetch_add(1, Ordering::SeqCst);
        return Ok(());
    }
    let mut socket = stream.try_clone()?;
    match &shared.config {
        Some(config) => {
            let connection = ServerConnection::new(Arc::clone(config))?;
            let mut stream = answer_one(StreamOwned::new(connection, stream), answer, shared, stopping)?;
            stream.conn.send_close_notify();
            stream.flush()?;
        }
        None => drop(answer_one(stream, answer, shared, stopping)?),
    }
    socket.shutdown(Shutdown::Write)?;
    // Reads until the client closes: a close with unread bytes would reset the connection.
    io::copy(&mut socket, &mut io::sink())?;
    Ok(())
}

/// Reads one request, and answers it.
fn answer_one<S: io::Read + Write>(stream: S, answer: Answer, shared: &Shared, stopping: &AtomicBool) -> Result<S> {
    let mut stream = BufReader::new(stream);
    let request = Request::read(&mut stream, 1)?.context("the client closed without a request")?;
    shared.requests.fetch_add(1, Ordering::SeqCst);
    let mut stream = stream.into_inner();
    let answer = match answer {
        Answer::Unless(etag, _) if request.field("if-none-match") == Some(etag) => {
            Answer::status("304 Not Modified", "Cache-Control: max-age=3600\r\n")
        }
        Answer::Unless(_, answer) => *answer,
        other => other,
    };
    match answer {
        Answer::Bytes(bytes, pause) => {
            thread::sleep(pause);
            stream.write_all(&bytes)?;
            stream.flush()?;
        }
        Answer::Trickle => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")?;
            while !stopping.load(Ordering::SeqCst) {
                stream.write_all(b" ")?;
                stream.flush()?;
                thread::sleep(Duration::from_millis(50));
            }
        }
        Answer::Close | Answer::Unless(..) => {}
    }
    Ok(stream)
}
