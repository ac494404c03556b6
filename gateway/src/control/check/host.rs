//! Whether this host has what the configuration names: sockets of handlers, addresses, ports that may be bound and are free, a journal.
//!
//! Owns what is said about them. Connects to nothing but the control socket, and binds none of the ports: a running hookgate and its handlers must
//! not notice.

use std::fs;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{Access, AtFlags, CWD, accessat};
use rustix::process::geteuid;
use rustix::thread::{CapabilitySet, capabilities};

use super::Finding;
use crate::config::{Config, Location, NamedPlaces};
use crate::control::inquiry::ControlSocket;
use crate::control::log::{JOURNAL_SOCKET, has_journal};
use crate::control::sockets::sharing::is_listened_on;
use crate::control::trust::SERVICE_DIRECTORY;
use crate::state::{StateDirectory, StateError};
use hookgate_core::route::{HandlerAddress, Route};

/// The first port that every user may bind, in this network namespace (ip(7)).
const FIRST_PORT: &str = "/proc/sys/net/ipv4/ip_unprivileged_port_start";
/// Its default.
const DEFAULT_FIRST_PORT: u16 = 1024;

/// The service of the package, which gives the right to its user.
const SERVICE: &str = "hookgate.service";
/// The unit whose sockets the service manager binds.
const SOCKET_UNIT: &str = "hookgate.socket";

/// Warns of each handler that requests cannot reach as this host is now.
pub(super) fn handlers(handlers: &[(Location, HandlerAddress)], config: &Config) -> Vec<Finding> {
    let finding = |(location, address): &(Location, HandlerAddress)| {
        let until_then = without_handler(address, config);
        let text = match address {
            HandlerAddress::Unix(path) => socket(path, until_then),
            HandlerAddress::Tcp(address) => port(*address, until_then),
        };
        Some(Finding { location: location.clone(), text: text? })
    };
    handlers.iter().filter_map(finding).collect()
}

/// What becomes of requests to the routes with the handler at `address` while nothing listens there.
fn without_handler(address: &HandlerAddress, config: &Config) -> &'static str {
    let routes = config
        .routes
        .iter()
        .zip(&config.durable)
        .filter(|(route, _)| route.handlers().is_some_and(|all| all.iter().any(|one| one.address() == address)));
    let has_others = |(route, _): &(&Route, _)| route.handlers().is_some_and(|all| all.only().is_none());
    let (in_lists, routes): (Vec<_>, Vec<_>) = routes.partition(has_others);
    if !in_lists.is_empty() {
        return match routes.is_empty() {
            true => "requests go to the others of its list",
            false => {
                "requests to a route with this handler alone are answered with status 502 (202 if it is durable), and those of a list go to its \
                 others"
            }
        };
    }
    let routes = routes.into_iter();
    let (durable, direct): (Vec<_>, Vec<_>) = routes.partition(|(_, durable)| durable.is_some());
    match (durable.is_empty(), direct.is_empty()) {
        (true, _) => "requests are answered with status 502",
        (false, true) => "deliveries are stored, answered with status 202, and wait for the handler",
        (false, false) => {
            "requests are answered with status 502, and those to durable routes with 202: they are stored, and wait"
        }
    }
}

/// What is wrong with the port of a handler, if anything.
fn port(address: SocketAddr, until_then: &str) -> Option<String> {
    let is_absent = !is_listened_on(address);
    is_absent.then(|| format!("no process listens on {address}, so {until_then}; start the handler, or write its port"))
}

/// What is wrong with the socket of a handler, if anything. `until_then` is what becomes of requests without it.
fn socket(path: &Path, until_then: &str) -> Option<String> {
    let shown = path.display();
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let directory = path.parent().unwrap_or(Path::new("/"));
            let what = match directory.is_dir() {
                true => "start the handler, or write the path of its socket",
                false => "its directory does not exist either; make it, or write the path of the handler's socket",
            };
            return Some(format!("there is no socket {shown}, so {until_then}; {what}"));
        }
        Err(error) => {
            return Some(format!(
                "{shown} cannot be looked at: {error}; run this as root with --user, the user of hookgate"
            ));
        }
    };
    let kind = metadata.file_type();
    if !kind.is_socket() {
        let found = match kind {
            kind if kind.is_dir() => "a directory",
            kind if kind.is_file() => "a regular file",
            _ => "no socket",
        };
        return Some(format!(
            "{shown} is {found}, and a handler listens on a Unix stream socket; write the path of that"
        ));
    }
    accessat(CWD, path, Access::WRITE_OK, AtFlags::EACCESS).is_err().then(|| {
        format!(
            "user {} may not write to the socket {shown}, which connecting needs; give a group of the user of hookgate write permission \
             (chmod g+w), or run this as root with --user, the user of hookgate",
            geteuid().as_raw()
        )
    })
}

/// What is wrong with the state directory, whatever the user of hookgate is.
///
/// # Errors
///
/// What makes a start fail. If the service makes the directory, it also sets it right, so that is a warning.
pub(super) fn state(place: Option<&(Location, PathBuf)>) -> Result<Option<Finding>, Finding> {
    let Some((location, path)) = place else { return Ok(None) };
    let Err(error) = StateDirectory::look_at(path) else { return Ok(None) };
    let finding = |text| Finding { location: location.clone(), text };
    match error {
        error if error.is_absent() && path == Path::new(SERVICE_DIRECTORY) => {
            let text = format!(
                "there is no directory {SERVICE_DIRECTORY} yet: {SERVICE} makes it when it starts (StateDirectory=hookgate); to start hookgate \
                 without that, create it with mode 0700, owned by the user of hookgate"
            );
            Ok(Some(finding(text)))
        }
        // A start makes it.
        error if error.is_absent() && path.parent().is_some_and(Path::is_dir) => Ok(None),
        error @ StateError::Mode { .. } if is_made_by_service(path) => {
            Ok(Some(finding(format!("{error}; {SERVICE} does that when it starts (StateDirectoryMode=0700)"))))
        }
        error => Err(finding(error.to_string())),
    }
}

/// Whether the installed service makes this directory, and gives it to its user.
pub(super) fn is_made_by_service(path: &Path) -> bool {
    path == Path::new(SERVICE_DIRECTORY)
        && unit(SERVICE, "StateDirectory").lines().any(|line| line == "StateDirectory=hookgate")
}

/// The user that binds the ports.
pub(super) struct PortUser {
    /// For messages.
    name: String,
    may_bind: bool,
}

impl PortUser {
    /// The one that runs this.
    pub(super) fn current() -> Self {
        let effective = capabilities(None).map(|sets| sets.effective).unwrap_or(CapabilitySet::empty());
        let may_bind = effective.contains(CapabilitySet::NET_BIND_SERVICE);
        Self { name: format!("user {}", geteuid().as_raw()), may_bind }
    }

    /// Another one, who has no capability unless the service manager gives it.
    pub(super) fn other(name: &str, is_root: bool) -> Self {
        Self { name: format!("user {name}"), may_bind: is_root || service_gives_the_right(name) }
    }
}

/// Warns of ports that the user may not bind. None of those on which something listens already: a running hookgate had the right, or the
/// service manager did.
pub(super) fn ports(places: &NamedPlaces, user: &PortUser) -> Vec<Finding> {
    if user.may_bind || std::env::var_os("LISTEN_FDS").is_some() {
        return Vec::new();
    }
    let first = first_port();
    let all = places.listen.iter().chain(&places.metrics);
    let low = all.filter(|(_, address)| (1..first).contains(&address.port()));
    let mut low: Vec<&(Location, SocketAddr)> = low.filter(|(_, address)| !is_listened_on(*address)).collect();
    if low.is_empty() || socket_unit_binds() {
        return Vec::new();
    }
    let finding = |(location, address): &(Location, SocketAddr)| Finding {
        location: location.clone(),
        text: format!(
            "{} may not bind port {}: ports below {first} need CAP_NET_BIND_SERVICE; start hookgate by {SERVICE} or {SOCKET_UNIT}, write a \
             higher port, or lower net.ipv4.ip_unprivileged_port_start",
            user.name,
            address.port()
        ),
    };
    low.drain(..).map(finding).collect()
}

/// Notes ports on which something listens, unless a hookgate with this state directory runs: then it does, as a rule. A note, since a hookgate
/// without a state directory cannot be told from another process.
pub(super) fn taken_ports(places: &NamedPlaces, running: &ControlSocket) -> Vec<Finding> {
    let all = addresses(places).into_iter().filter(|(_, address)| is_listened_on(*address));
    let taken: Vec<(Location, SocketAddr)> = all.collect();
    if taken.is_empty() || running.may_be_bound() || std::env::var_os("LISTEN_FDS").is_some() || socket_unit_binds() {
        return Vec::new();
    }
    let text = |port: u16| {
        format!(
            "port {port} is taken, and the start fails while it is, unless hookgate itself has it: `ss -ltnp 'sport = :{port}'` shows by which \
             process"
        )
    };
    taken.into_iter().map(|(location, address)| Finding { location, text: text(address.port()) }).collect()
}

/// Warns of addresses to listen on that this host has not.
pub(super) fn foreign_addresses(places: &NamedPlaces) -> Vec<Finding> {
    // A datagram socket on a free port takes no connection.
    let is_foreign = |address: SocketAddr| {
        UdpSocket::bind((address.ip(), 0)).is_err_and(|error| error.kind() == io::ErrorKind::AddrNotAvailable)
    };
    let foreign = addresses(places).into_iter().filter(|(_, address)| is_foreign(*address));
    let finding = |(location, address): (Location, SocketAddr)| Finding {
        location,
        text: format!(
            "{} is no address of this host now, so the start fails; `ip address` shows which it has; write 0.0.0.0 or [::] for all",
            address.ip()
        ),
    };
    foreign.map(finding).collect()
}

/// Every address with a port that a start binds.
fn addresses(places: &NamedPlaces) -> Vec<(Location, SocketAddr)> {
    let admin = places.admin.iter().filter_map(|(location, address)| Some((location.clone(), (*address)?)));
    places.listen.iter().chain(&places.metrics).cloned().chain(admin).collect()
}

/// Warns of `format = "journal"` on a host without one.
pub(super) fn journal(places: &NamedPlaces) -> Option<Finding> {
    let location = places.journal.as_ref().filter(|_| !has_journal())?.clone();
    let text = format!(
        "there is no journal at {JOURNAL_SOCKET}, so the start fails; write format = \"text\" or \"json\", or remove the line"
    );
    Some(Finding { location, text })
}

/// The first port that needs no right. Without the file, the kernel has no such setting.
fn first_port() -> u16 {
    let text = fs::read_to_string(FIRST_PORT).ok();
    text.and_then(|text| text.trim().parse().ok()).unwrap_or(DEFAULT_FIRST_PORT)
}

/// Whether the installed service runs as this user, and has the capability.
fn service_gives_the_right(user: &str) -> bool {
    let shown = unit(SERVICE, "User,AmbientCapabilities");
    let has = |line: &str| shown.lines().any(|shown| shown == line);
    let capabilities = shown.lines().find_map(|line| line.strip_prefix("AmbientCapabilities=")).unwrap_or_default();
    has(&format!("User={user}")) && capabilities.split_whitespace().any(|name| name == "cap_net_bind_service")
}

/// Whether the service manager binds the ports for hookgate.
fn socket_unit_binds() -> bool {
    let shown = unit(SOCKET_UNIT, "ActiveState,UnitFileState");
    shown.lines().any(|line| line == "ActiveState=active" || line == "UnitFileState=enabled")
}

/// Properties of a unit, one a line; empty without systemd.
fn unit(name: &str, properties: &str) -> String {
    let shown = Command::new("systemctl").args(["show", name, "--property", properties]).output();
    shown.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
}
