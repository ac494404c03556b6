//! The `upstream` stage: handlers that answer, and handlers that fail.

mod answer;
mod death;
mod early;
mod failure;
mod framing;
mod list;
mod load;
mod places;
mod pool;
mod port;
mod slow_reader;

use std::io::{self, BufReader, Read, Write};
use std::thread;

use hookgate_testkit::http::Request;

/// Answers every request on the connections that `accept` brings, until it fails.
fn answer_all<S>(mut accept: impl FnMut() -> io::Result<S> + Send + 'static)
where
    S: Send + 'static,
    for<'s> &'s S: Read + Write,
{
    thread::spawn(move || {
        while let Ok(stream) = accept() {
            thread::spawn(move || {
                let mut reader = BufReader::new(&stream);
                while let Ok(Some(_)) = Request::read(&mut reader, 1) {
                    let _ = (&stream).write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
                }
            });
        }
    });
}
