//! The daemon under a service manager that is part of the test: what the tests of sockets, restarts, reloads and watchdog share.
//!
//! Owns the set-up. Must not judge: tests do.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use anyhow::Result;
use hookgate_testkit::gateway::{Gateway, GatewayOptions, Signal};
use hookgate_testkit::pki::{Sender, Variant};
use hookgate_testkit::process::thread_id;
use hookgate_testkit::service_manager::ServiceManager;
use nix::sys::ptrace;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use socket2::{Domain, Socket, Type};

use crate::environment::{BINARY, Environment, SOON};
use crate::tls_client::TlsClient;

/// Sockets with their names.
pub(super) type Sockets = Vec<(String, Arc<OwnedFd>)>;

/// An [`Environment`] with a service manager.
pub(super) struct ManagedEnvironment {
    pub(super) service_manager: ServiceManager,
    pub(super) environment: Environment,
}

impl ManagedEnvironment {
    pub(super) fn new() -> Result<Self> {
        let environment = Environment::new()?;
        Ok(Self { service_manager: ServiceManager::listen(&environment.path("notify.sock"))?, environment })
    }

    /// The configuration with this many workers.
    pub(super) fn configuration(&self, workers: usize) -> String {
        self.environment.toml("", "").replace("workers = 1", &format!("workers = {workers}"))
    }

    /// The options with which the service manager starts the daemon.
    pub(super) fn options(&self) -> GatewayOptions {
        let mut options = GatewayOptions::new(BINARY);
        options.environment.push(("NOTIFY_SOCKET".into(), self.service_manager.path().into()));
        options
    }

    /// The daemon with this many workers, and with these sockets, all on `port`.
    pub(super) fn start_with(&self, workers: usize, port: u16, sockets: Sockets) -> Result<Gateway> {
        let options = GatewayOptions { port: Some(port), handed_over: sockets, ..self.options() };
        Gateway::start(&self.configuration(workers), &options)
    }

    /// A client for `port` that the daemon admits.
    pub(super) fn client(&self, port: u16) -> Result<TlsClient> {
        TlsClient::new(port, &self.environment.pki, &self.environment.identity(Sender::Percolate, Variant::Good)?)
    }
}

/// A stopped thread of the daemon. The thread of the test that stopped it must resume it.
pub(super) struct HungThread(Pid);

impl HungThread {
    /// Stops the thread with this name.
    pub(super) fn stop(gateway: &Gateway, name: &str) -> Result<Self> {
        let thread = Pid::from_raw(thread_id(gateway.process_id(), name)?);
        ptrace::seize(thread, ptrace::Options::empty())?;
        ptrace::interrupt(thread)?;
        waitpid(thread, Some(WaitPidFlag::__WALL))?;
        Ok(Self(thread))
    }

    /// Resumes it.
    pub(super) fn resume(self) -> Result<()> {
        Ok(ptrace::detach(self.0, None)?)
    }
}

/// Ends the daemon as the service manager does, and waits until it has ended.
pub(super) fn end(gateway: &mut Gateway) {
    gateway.signal(Signal::TERM).unwrap();
    let status = gateway.wait_exit(SOON).unwrap();
    assert_eq!(status.code(), Some(0), "{}", gateway.log());
}

/// The sockets of a .socket unit with `ReusePort=yes` and `count` equal lines: all on one port of 127.0.0.1.
pub(super) fn unit_sockets(count: usize) -> Result<(u16, Sockets)> {
    let mut port = 0;
    let mut sockets = Vec::new();
    for _ in 0..count {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.set_reuse_port(true)?;
        socket.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], port)).into())?;
        socket.listen(128)?;
        port = socket.local_addr()?.as_socket().map_or(0, |address| address.port());
        sockets.push(("hookgate".to_owned(), Arc::new(OwnedFd::from(socket))));
    }
    Ok((port, sockets))
}
