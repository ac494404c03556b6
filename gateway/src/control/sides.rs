//! What the control side serves: the metrics endpoint of `[metrics]`, and the admin side of `[admin]`.
//!
//! Owns which of them listens where. Must not know what they answer.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::admin::observer::Observer;
use super::admin::phase::Health;
use super::admin::{AdminPages, Hosts};
use super::endpoint::{Bound, Endpoint};
use super::exposition::{Exposition, MetricsPage};
use super::sockets::bind_hint;
use crate::config::{Admin, AdminAddress, Location, Metrics, NamedPlaces};
use crate::metrics::retirement::Retirement;

/// Why a side cannot be served.
#[derive(Debug, thiserror::Error)]
pub(super) enum SidesError {
    /// `metrics.listen` cannot be bound.
    #[error("cannot serve metrics on {address} (metrics.listen): {error}{hint}", hint = bind_hint(error))]
    Metrics {
        /// The address.
        address: SocketAddr,
        /// The kernel's error.
        error: io::Error,
    },
    /// `admin.listen` is an address that cannot be bound.
    #[error("cannot serve the admin side on {listen} (admin.listen): {error}{hint}", hint = bind_hint(error))]
    AdminAddress {
        /// The address.
        listen: AdminAddress,
        /// The kernel's error.
        error: io::Error,
    },
    /// `admin.listen` is a socket that cannot be bound.
    #[error(
        "cannot serve the admin side on {listen} (admin.listen): {error}; {hint}",
        hint = socket_hint(error, directory)
    )]
    AdminSocket {
        /// The socket.
        listen: AdminAddress,
        /// Its directory.
        directory: PathBuf,
        /// The kernel's error.
        error: io::Error,
    },
    /// There is no recorder of metrics.
    #[error("cannot record metrics: {0:#}")]
    Exposition(anyhow::Error),
}

/// What to do about a socket that cannot be bound in `directory`. One that a process left behind is replaced.
fn socket_hint(error: &io::Error, directory: &Path) -> String {
    let shown = directory.display();
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "another process listens there (`ss -lxp` shows which), or the file is no socket: stop the process, remove \
                                     the file, or write another path"
                .to_owned()
        }
        io::ErrorKind::NotFound => format!("the directory {shown} must exist: make it, or write another path"),
        _ => format!("this user must be able to write to the directory {shown}"),
    }
}

impl SidesError {
    /// The location of the section that failed, if it is one.
    pub(super) fn location(&self, places: NamedPlaces) -> Option<Location> {
        match self {
            Self::Metrics { .. } => places.metrics.map(|(location, _)| location),
            Self::AdminAddress { .. } | Self::AdminSocket { .. } => places.admin.map(|(location, _)| location),
            Self::Exposition(_) => None,
        }
    }
}

/// Binds what is configured, and starts to serve it. Installs the recorder of metrics if anything is. Call it inside the runtime of the control
/// thread.
///
/// # Errors
///
/// If an address or a socket cannot be bound.
pub(super) fn start(
    metrics: Option<&Metrics>,
    admin: Option<&Admin>,
    retirement: &Arc<Mutex<Retirement>>,
) -> Result<Observer, SidesError> {
    let health = Arc::<Health>::default();
    if metrics.is_none() && admin.is_none() {
        return Ok(Observer::new(health, None, None));
    }
    // Both are bound before the recorder is there, so that nothing is half started.
    let metrics = metrics.map(bind_metrics).transpose()?;
    let admin = admin.map(|section| Ok::<_, SidesError>((bind_admin(section)?, hosts(section)))).transpose()?;
    let exposition = Exposition::install(retirement).map_err(SidesError::Exposition)?;
    if let Some(bound) = metrics {
        tokio::spawn(Endpoint::new(bound, "metrics", MetricsPage(Arc::clone(&exposition))).serve());
    }
    let questions = admin.map(|(bound, hosts)| {
        let (pages, questions) = AdminPages::new(hosts, Arc::clone(&exposition), Arc::clone(&health));
        tokio::spawn(Endpoint::new(bound, "admin", pages).serve());
        questions
    });
    Ok(Observer::new(health, questions, Some(exposition)))
}

fn bind_metrics(section: &Metrics) -> Result<Bound, SidesError> {
    let address = section.listen;
    Bound::tcp(address).map_err(|error| SidesError::Metrics { address, error })
}

fn bind_admin(section: &Admin) -> Result<Bound, SidesError> {
    let listen = section.listen.clone();
    match &section.listen {
        AdminAddress::Loopback(address) => {
            Bound::tcp(*address).map_err(|error| SidesError::AdminAddress { listen, error })
        }
        AdminAddress::Unix(path) => Bound::unix(path).map_err(|error| {
            let directory = path.parent().unwrap_or(path).to_owned();
            SidesError::AdminSocket { listen, directory, error }
        }),
    }
}

fn hosts(section: &Admin) -> Hosts {
    match section.listen {
        AdminAddress::Loopback(_) => Hosts::Loopback,
        AdminAddress::Unix(_) => Hosts::Any,
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed set-up fails the test")]

    use std::net::TcpListener;

    use super::*;

    #[test]
    fn what_is_in_use_is_an_error_that_names_the_key() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _guard = runtime.enter();
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let check = |metrics: Option<&Metrics>, admin: Option<AdminAddress>, part: &str| {
            let admin = admin.map(|listen| Admin { listen });
            let error = start(metrics, admin.as_ref(), &Arc::default()).err().unwrap();
            assert!(error.to_string().contains(part), "{error}");
        };
        check(Some(&Metrics { listen: address }), None, "(metrics.listen)");
        check(None, Some(AdminAddress::Loopback(address)), "(admin.listen)");
        let absent = AdminAddress::Unix("/nonexistent/admin.sock".into());
        check(None, Some(absent), "the directory /nonexistent must exist");
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("admin.sock");
        let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        check(None, Some(AdminAddress::Unix(path)), "another process listens there (`ss -lxp` shows which)");
    }
}
