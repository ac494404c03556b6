//! The bytes of requests, and GET over plain TCP.
//!
//! Owns what a well-formed request looks like. Must not build malformed ones: the tests of those write their bytes themselves.

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

/// GETs `target` from `address` on a new connection.
///
/// # Errors
///
/// The connection fails, nothing arrives for `limit`, or there is no valid response.
pub fn get(address: SocketAddr, target: &str, limit: Duration) -> Result<Response> {
    ask(address, &request("GET", target, &address.to_string(), &[("Connection", "close")], b""), limit)
}

/// Sends the bytes of a request to `address` on a new connection.
///
/// # Errors
///
/// The connection fails, nothing arrives for `limit`, or there is no valid response.
pub fn ask(address: SocketAddr, request: &[u8], limit: Duration) -> Result<Response> {
    let mut stream = TcpStream::connect_timeout(&address, limit).with_context(|| format!("connecting to {address}"))?;
    stream.set_read_timeout(Some(limit))?;
    stream.write_all(request)?;
    let response = Response::read(&mut BufReader::new(stream))?;
    response.with_context(|| format!("{address} closed the connection without a response"))
}
