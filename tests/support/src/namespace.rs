//! Network namespaces for what must not touch the host's own network.

use std::fs::File;
use std::os::fd::AsFd as _;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use anyhow::{Context, Result, ensure};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// A network namespace with nothing in it but a loopback interface. It ends with it.
#[derive(Debug)]
pub struct Namespace(String);

impl Namespace {
    /// Makes one whose name has the id of this process, and a number of its own.
    ///
    /// # Errors
    ///
    /// Without root, or without ip(8).
    pub fn new(purpose: &str) -> Result<Self> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let namespace = Self(format!("hookgate-{purpose}-{}-{number}", std::process::id()));
        ip(&["netns", "add", &namespace.0])?;
        ip(&["-n", &namespace.0, "link", "set", "lo", "up"])?;
        Ok(namespace)
    }

    /// Its name, for ip(8).
    pub fn name(&self) -> &str {
        &self.0
    }

    /// Runs `work` on a thread within; what that starts, and the sockets that it makes, are within too.
    ///
    /// # Errors
    ///
    /// Those of `work`; its panics are resumed here.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let file = File::open(format!("/run/netns/{}", self.0)).context("opening the network namespace")?;
        let inside = move || {
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))?;
            work()
        };
        thread::scope(|scope| scope.spawn(inside).join()).unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if let Err(error) = ip(&["netns", "delete", &self.0]) {
            eprintln!("{error:#}");
        }
    }
}

/// Runs ip(8), and returns what it says.
///
/// # Errors
///
/// It fails; why, it says itself.
pub fn ip(arguments: &[&str]) -> Result<String> {
    let output = Command::new("ip").args(arguments).output().context("running ip, of iproute2")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "ip {}: {}", arguments.join(" "), said.trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
