//! `[admin]`: where the admin side listens.
//!
//! Owns that no other host can reach it: it is a Unix socket or a loopback address. Binds nothing: `control` does.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Deserialize;
use toml::Spanned;

use super::error::Problem;
use super::listen::{Listen, Metrics, parse_address};
use super::report::Report;

/// The longest path of a Unix socket on Linux (unix(7)).
const MAXIMUM_SOCKET_BYTES: usize = 107;

const WRITE_LISTEN: &str =
    "listen = \"unix:/run/hookgate/admin.sock\", or a loopback address such as \"127.0.0.1:9465\"";

/// `[admin]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    /// Where it listens.
    pub listen: AdminAddress,
}

/// Where the admin side listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdminAddress {
    /// The socket at this absolute path.
    Unix(PathBuf),
    /// A loopback address.
    Loopback(SocketAddr),
}

impl fmt::Display for AdminAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(formatter, "unix:{}", path.display()),
            Self::Loopback(address) => address.fmt(formatter),
        }
    }
}

/// `[admin]` as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawAdmin {
    listen: Option<Spanned<String>>,
}

/// Parses `[admin]`. Its address must not be in `[listen]` or `[metrics]`.
pub(super) fn admin(
    raw: Option<Spanned<RawAdmin>>,
    listen: Option<&Listen>,
    metrics: Option<&Metrics>,
    report: &mut Report<'_>,
) -> Option<Admin> {
    let raw = raw?;
    let Some(text) = raw.get_ref().listen.as_ref() else {
        report.missing(&raw, "listen", WRITE_LISTEN);
        return None;
    };
    if let Some(path) = text.get_ref().strip_prefix("unix:") {
        if let Some(reason) = fault(path) {
            report.error(text, Problem::AdminSocket { text: text.get_ref().clone(), reason });
            return None;
        }
        return Some(Admin { listen: AdminAddress::Unix(PathBuf::from(path)) });
    }
    let address = parse_address(text, report)?;
    if !address.ip().is_loopback() {
        report.error(text, Problem::NotLoopback { address });
        return None;
    }
    let is_chosen = address.port() != 0;
    if is_chosen && listen.is_some_and(|listen| listen.addresses.contains(&address)) {
        report.error(text, Problem::TakenByAdmin { address, section: "listen" });
        return None;
    }
    if is_chosen && metrics.is_some_and(|metrics| metrics.listen == address) {
        report.error(text, Problem::TakenByAdmin { address, section: "metrics" });
        return None;
    }
    Some(Admin { listen: AdminAddress::Loopback(address) })
}

/// What is wrong with the path of a socket.
fn fault(path: &str) -> Option<&'static str> {
    match path {
        _ if !path.starts_with('/') => Some("the path of the socket is not absolute"),
        _ if path.len() > MAXIMUM_SOCKET_BYTES => {
            Some("the path of the socket is longer than 107 bytes, the limit of Linux")
        }
        _ if path.ends_with('/') || path.contains('\0') => {
            Some("the path of the socket ends with \"/\" or holds a zero byte")
        }
        _ => None,
    }
}
