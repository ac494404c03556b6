//! Network namespaces, for tests that must not touch the network of the host.
//!
//! Owns their names and their removal.

use std::fs::File;
use std::os::fd::AsFd as _;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use anyhow::{Context, Result, ensure};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// A network namespace with a loopback interface and nothing else; removed on drop.
#[derive(Debug)]
pub struct Namespace(String);

impl Namespace {
    /// Adds a namespace. The id of this process and a number make its name unique.
    ///
    /// # Errors
    ///
    /// This process is not root, or ip(8) is missing.
    pub fn new(purpose: &str) -> Result<Self> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let namespace = Self(format!("hookgate-{purpose}-{}-{number}", std::process::id()));
        ip(&["netns", "add", &namespace.0])?;
        ip(&["-n", &namespace.0, "link", "set", "lo", "up"])?;
        Ok(namespace)
    }

    /// The name, for ip(8).
    pub fn name(&self) -> &str {
        &self.0
    }

    /// Runs `work` on a thread in the namespace. The processes that it starts and the sockets that it opens are in it too.
    ///
    /// # Errors
    ///
    /// Those of `work`. A panic of `work` is resumed here.
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

/// Runs ip(8), and returns its standard output.
///
/// # Errors
///
/// It fails; its standard error is in the message.
pub fn ip(arguments: &[&str]) -> Result<String> {
    let output = Command::new("ip").args(arguments).output().context("running ip, of iproute2")?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "ip {}: {}", arguments.join(" "), stderr.trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
