//! What a client over HTTP/1.1 sends, and the one request that needs no client of its own: GET without TLS.
//!
//! Owns the bytes of well-formed requests. Tests of malformed ones write those themselves.

use std::io::{BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result};

use super::Response;

/// A request as bytes: Host, Content-Length, `fields` in this order, `body`.
pub fn request(method: &str, target: &str, host: &str, fields: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut head = format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {}\r\n", body.len());
    for (name, value) in fields {
        head += &format!("{name}: {value}\r\n");
    }
    head += "\r\n";
    [head.as_bytes(), body].concat()
}

/// GET of `http://address` + `target`, on a connection of its own.
///
/// # Errors
///
/// No connection, no progress for `limit`, or no response.
pub fn get(address: SocketAddr, target: &str, limit: Duration) -> Result<Response> {
    let mut stream = TcpStream::connect_timeout(&address, limit).with_context(|| format!("connecting to {address}"))?;
    stream.set_read_timeout(Some(limit))?;
    stream.write_all(&request("GET", target, &address.to_string(), &[("Connection", "close")], b""))?;
    let response = Response::read(&mut BufReader::new(stream))?;
    response.with_context(|| format!("{address} closed the connection without a response"))
}
