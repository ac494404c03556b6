//! Network namespaces for what must not touch the host's own network.

use std::fs::File;
use std::os::fd::AsFd as _;
use std::process::Command;
use std::thread;

use anyhow::{Context, Result, anyhow, ensure};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// A network namespace with nothing in it but a loopback interface. It ends with it.
pub(crate) struct Namespace(String);

impl Namespace {
    /// Makes one whose name ends in the id of this process.
    ///
    /// # Errors
    ///
    /// Without root, or without ip(8).
    pub(crate) fn new(purpose: &str) -> Result<Self> {
        let namespace = Self(format!("hookgate-{purpose}-{}", std::process::id()));
        ip(&["netns", "add", &namespace.0])?;
        ip(&["-n", &namespace.0, "link", "set", "lo", "up"])?;
        Ok(namespace)
    }

    /// Its name, for ip(8).
    pub(crate) fn name(&self) -> &str {
        &self.0
    }

    /// Runs `work` on a thread within; what that starts, and the sockets that it makes, are within too.
    ///
    /// # Errors
    ///
    /// Those of `work`.
    pub(crate) fn run<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let file = File::open(format!("/run/netns/{}", self.0)).context("opening the network namespace")?;
        let inside = move || {
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))?;
            work()
        };
        thread::scope(|scope| scope.spawn(inside).join()).map_err(|_| anyhow!("the namespace's thread panicked"))?
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if let Err(error) = ip(&["netns", "delete", &self.0]) {
            eprintln!("{error:#}");
        }
    }
}

/// Runs ip(8).
///
/// # Errors
///
/// It fails, and has said why.
pub(crate) fn ip(arguments: &[&str]) -> Result<()> {
    let status = Command::new("ip").args(arguments).status().context("running ip, of iproute2")?;
    ensure!(status.success(), "ip {} failed", arguments.join(" "));
    Ok(())
}
