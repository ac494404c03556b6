//! The daemon under test: the real binary, as a child process, on free ports.
//!
//! Owns the process, its configuration file and its ports. Must use nothing but what an operator has: command line, file, log,
//! metrics, signals and /proc.

use std::ffi::OsString;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use rustix::process::{Pid, kill_process};

use crate::client::{Curl, OpenSsl};
use crate::configuration::{IO, LISTEN_PORT, METRICS_PORT};
use crate::metrics::Metrics;
use crate::pki::Pki;
use crate::process::{Capture, KilledOnDrop};
use crate::wait::wait_until;

/// What stands before the value of `accept_weaker` in the log.
const ADVICE: &str = "accept_weaker = ";

pub use rustix::process::Signal;

/// Names the I/O backend under test: `io_uring`, `io_uring_direct`, `epoll`, or nothing for `auto`.
pub const IO_VARIABLE: &str = "HOOKGATE_TEST_IO";

/// How long the daemon may take to become ready.
const START_LIMIT: Duration = Duration::from_secs(20);

/// After this long without a log line about readiness, a daemon that listens and tells nothing of that level counts as ready.
const SILENT_LIMIT: Duration = Duration::from_secs(3);

/// How long the last lines of a daemon that has ended may take through the pipe.
const LAST_WORDS_LIMIT: Duration = Duration::from_secs(1);

/// How often the state of the process, its log and its metrics are checked.
const POLL: Duration = Duration::from_millis(5);

/// Until a daemon that is not overloaded has written an event: three times the pause between two writes.
const WRITTEN: Duration = Duration::from_millis(60);

/// Attempts to start, each with other ports: another process may take a port between its choice and the daemon's bind.
const ATTEMPTS: usize = 5;

/// A shell script that moves standard input to descriptor 3 and, if `$SECOND` is set, standard output to descriptor 4, where
/// sd_listen_fds(3) expects sockets, and then executes the daemon, `$0`, in its own process: LISTEN_PID must be that process.
const HAND_OVER: &str = "exec 3<&0 </dev/null; if [ -n \"$SECOND\" ]; then exec 4<&1; fi; exec >/dev/null; \
     unset SECOND; export LISTEN_PID=$$; exec \"$0\" \"$@\"";

/// How the daemon is started.
#[derive(Clone, Debug)]
pub struct GatewayOptions {
    /// The binary: `env!("CARGO_BIN_EXE_hookgate")` in tests.
    pub binary: PathBuf,
    /// Added to its environment.
    pub environment: Vec<(OsString, OsString)>,
    /// Arguments after `run --config FILE`.
    pub arguments: Vec<OsString>,
    /// What replaces [`IO`] in the configuration.
    pub io: String,
    /// The port to accept on, if its socket exists already, as one that is handed over does; otherwise a free port is chosen.
    pub port: Option<u16>,
    /// Sockets to hand over, with their names: at most two.
    pub handed_over: Vec<(String, Arc<OwnedFd>)>,
}

impl GatewayOptions {
    /// `binary`, with the backend that [`IO_VARIABLE`] names.
    pub fn new(binary: impl Into<PathBuf>) -> Self {
        let io = std::env::var(IO_VARIABLE).unwrap_or_else(|_| "auto".to_owned());
        let (environment, arguments, handed_over) = (Vec::new(), Vec::new(), Vec::new());
        Self { binary: binary.into(), environment, arguments, io, port: None, handed_over }
    }
}

impl GatewayOptions {
    /// The command that starts the binary, by [`HAND_OVER`] if there are sockets to hand over. They are passed as standard input
    /// and output, so that no child of another test inherits them.
    fn command(&self) -> Result<Command> {
        let mut command = Command::new(&self.binary);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let Some((_, first)) = self.handed_over.first() else { return Ok(command) };
        ensure!(self.handed_over.len() <= 2, "at most two sockets can be handed over");
        let names: Vec<&str> = self.handed_over.iter().map(|(name, _)| name.as_str()).collect();
        let mut command = Command::new("sh");
        command.args(["-c", HAND_OVER]).arg(&self.binary);
        command.env("LISTEN_FDS", names.len().to_string()).env("LISTEN_FDNAMES", names.join(":"));
        command.stdin(first.try_clone()?).stdout(Stdio::null());
        if let Some((_, second)) = self.handed_over.get(1) {
            command.stdout(second.try_clone()?).env("SECOND", "1");
        }
        Ok(command)
    }
}

/// A running daemon; killed and reaped on drop.
#[derive(Debug)]
pub struct Gateway {
    child: KilledOnDrop,
    log: Capture,
    directory: tempfile::TempDir,
    port: ReservedPort,
    metrics_port: u16,
    io: String,
}

impl Gateway {
    /// Writes `configuration` to a file, its placeholders replaced, starts the daemon with that file, and waits until the daemon
    /// is ready.
    ///
    /// # Errors
    ///
    /// The daemon ends, or is not ready within 20 s; its log is in the message.
    pub fn start(configuration: &str, options: &GatewayOptions) -> Result<Self> {
        for attempt in 1.. {
            let mut gateway = Self::spawn(configuration, options)?;
            match gateway.wait_ready() {
                Ok(()) => return Ok(gateway),
                Err(_) if attempt < ATTEMPTS && gateway.log().to_lowercase().contains("address already in use") => {}
                Err(error) => {
                    return Err(error.context(format!("the daemon did not start; its log:\n{}", gateway.log())));
                }
            }
        }
        bail!("unreachable: the last attempt returns")
    }

    fn spawn(configuration: &str, options: &GatewayOptions) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("hookgate-").tempdir()?;
        let port = options.port.map_or_else(ReservedPort::new, |port| Ok(ReservedPort::held_elsewhere(port)))?;
        let metrics_port = free_port()?;
        let file = directory.path().join("hookgate.toml");
        fs::write(&file, fill_in(configuration, port.number, metrics_port, &options.io))?;
        let mut command = options.command()?;
        command.arg("run").arg("--config").arg(&file).args(&options.arguments);
        // Escape sequences of colours would split the texts that tests look for.
        command.env("NO_COLOR", "1").envs(options.environment.iter().cloned());
        command.stderr(Stdio::piped());
        let mut child =
            KilledOnDrop(command.spawn().with_context(|| format!("starting {}", options.binary.display()))?);
        let stderr = child.0.stderr.take().context("stderr was asked for as a pipe")?;
        let log = Capture::start(stderr);
        Ok(Self { child, log, directory, port, metrics_port, io: options.io.clone() })
    }

    fn wait_ready(&mut self) -> Result<()> {
        let start = Instant::now();
        loop {
            if self.says_ready() {
                return Ok(());
            }
            if let Some(status) = self.child.0.try_wait()? {
                self.log.wait_end(LAST_WORDS_LIMIT);
                bail!("it ended with {status}");
            }
            let waited = start.elapsed();
            // For a daemon whose level is above that of such a line. Not by a connection, which a daemon that is only slow counts and refuses.
            if waited > SILENT_LIMIT && !self.read_log().contains("INFO") && listens(self.port()) {
                return Ok(());
            }
            ensure!(waited < START_LIMIT, "it was not ready within {START_LIMIT:?}");
            thread::sleep(POLL);
        }
    }

    /// Whether a line of the log has the word `ready`.
    fn says_ready(&self) -> bool {
        self.log()
            .split(|character: char| !character.is_ascii_alphanumeric() && character != '_')
            .any(|word| word == "ready")
    }

    /// The port on 127.0.0.1 that it accepts on.
    pub fn port(&self) -> u16 {
        self.port.number
    }

    /// The address that it accepts on.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port()).into()
    }

    /// The address of its metrics endpoint.
    pub fn metrics_address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.metrics_port).into()
    }

    /// Its process id.
    pub fn process_id(&self) -> u32 {
        self.child.0.id()
    }

    /// The directory of its configuration file; removed on drop.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The configuration file.
    pub fn configuration_path(&self) -> PathBuf {
        self.directory.path().join("hookgate.toml")
    }

    /// Replaces the configuration file, with the same ports for the placeholders. The daemon reads it after SIGHUP.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub fn write_configuration(&self, configuration: &str) -> Result<()> {
        fs::write(self.configuration_path(), fill_in(configuration, self.port(), self.metrics_port, &self.io))?;
        Ok(())
    }

    /// Replaces the configuration file, as [`Gateway::write_configuration`], sends SIGHUP, and waits until the new configuration is
    /// in use.
    ///
    /// # Errors
    ///
    /// It is not within `limit`, or demands less than the one in use.
    pub fn reload(&self, configuration: &str, limit: Duration) -> Result<()> {
        self.reload_as(configuration, limit, false)
    }

    /// As [`Gateway::reload`]. If the configuration demands less than the one in use, permits that.
    ///
    /// # Errors
    ///
    /// It is not in use within `limit`.
    pub fn reload_permitting(&self, configuration: &str, limit: Duration) -> Result<()> {
        self.reload_as(configuration, limit, true)
    }

    fn reload_as(&self, configuration: &str, limit: Duration, permits: bool) -> Result<()> {
        let generation = "hookgate_config_generation";
        let before = self.metric(generation, &[])?;
        let advised = self.advices();
        self.write_configuration(configuration)?;
        self.signal(Signal::HUP)?;
        wait_until("the end of the reload", limit, || {
            self.advices() > advised || self.metric(generation, &[]).is_ok_and(|now| now > before)
        })?;
        if self.advices() > advised {
            ensure!(permits, "it demands less than the configuration in use:\n{}", self.log());
            let line = self.permission().context("the log names no accept_weaker")?;
            self.write_configuration(&format!("{line}\n{configuration}"))?;
            self.signal(Signal::HUP)?;
        }
        let now = self.wait_metric(generation, &[], before + 1.0, limit)?;
        ensure!(now == before + 1.0, "one reload led from generation {before} to {now}");
        Ok(())
    }

    /// How often the log advised to write `accept_weaker`.
    fn advices(&self) -> usize {
        self.log().matches(ADVICE).count()
    }

    /// The line that permits what the last refused reload would have demanded less, from the log.
    pub fn permission(&self) -> Option<String> {
        let log = self.log();
        let (_, rest) = log.rsplit_once(ADVICE)?;
        let (end, _) = rest.match_indices('\'').nth(1)?;
        Some(format!("{ADVICE}{}", &rest[..=end]))
    }

    /// curl, for requests for `host` to this daemon, trusting the server root.
    pub fn curl(&self, host: &str, pki: &Pki) -> Curl {
        Curl::new(host, self.port()).trusting(pki.server_root().path())
    }

    /// `s_client`, for connections to this daemon with this server name, trusting the server root.
    pub fn openssl(&self, server_name: &str, pki: &Pki) -> OpenSsl {
        OpenSsl::new(server_name, self.port()).trusting(pki.server_root().path())
    }

    /// Its standard error so far. Waits first for the events of the moment, which it writes within 20 ms.
    pub fn log(&self) -> String {
        thread::sleep(WRITTEN);
        self.read_log()
    }

    fn read_log(&self) -> String {
        self.log.inspect(|bytes| String::from_utf8_lossy(bytes).into_owned())
    }

    /// Waits until the log contains `text`. Returns at once if it does already.
    ///
    /// # Errors
    ///
    /// It does not within `limit`; the log is in the message.
    pub fn wait_log(&self, text: &str, limit: Duration) -> Result<()> {
        let deadline = Instant::now() + limit;
        while !self.read_log().contains(text) {
            ensure!(Instant::now() < deadline, "no {text:?} in the log within {limit:?}:\n{}", self.log());
            thread::sleep(POLL);
        }
        Ok(())
    }

    /// Scrapes its metrics.
    ///
    /// # Errors
    ///
    /// The endpoint does not answer with samples.
    pub fn metrics(&self) -> Result<Metrics> {
        Metrics::scrape(self.metrics_address())
    }

    /// A sum of a new scrape, as [`Metrics::sum`].
    ///
    /// # Errors
    ///
    /// The endpoint does not answer with samples.
    pub fn metric(&self, name: &str, labels: &[(&str, &str)]) -> Result<f64> {
        Ok(self.metrics()?.sum(name, labels))
    }

    /// Waits until the sum is at least `least`: the daemon counts a request after the client has the response.
    ///
    /// # Errors
    ///
    /// It is not within `limit`; the last sum is in the message.
    pub fn wait_metric(&self, name: &str, labels: &[(&str, &str)], least: f64, limit: Duration) -> Result<f64> {
        let deadline = Instant::now() + limit;
        loop {
            let sum = self.metric(name, labels)?;
            if sum >= least {
                return Ok(sum);
            }
            ensure!(Instant::now() < deadline, "{name} {labels:?} is {sum}, not {least}, after {limit:?}");
            thread::sleep(POLL);
        }
    }

    /// Sends a signal: `Signal::TERM`, `Signal::HUP`.
    ///
    /// # Errors
    ///
    /// The process has been reaped already.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill_process(Pid::from_child(&self.child.0), signal).with_context(|| format!("sending {signal:?}"))
    }

    /// Waits until it ends by itself.
    ///
    /// # Errors
    ///
    /// It does not within `limit`; the log is in the message.
    pub fn wait_exit(&mut self, limit: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.0.try_wait()? {
                self.log.wait_end(LAST_WORDS_LIMIT);
                return Ok(status);
            }
            ensure!(Instant::now() < deadline, "it did not end within {limit:?}; its log:\n{}", self.log());
            thread::sleep(POLL);
        }
    }

    /// The number of open file descriptors. Only root can read it: the daemon is not dumpable, which hides `/proc/PID/fd`.
    ///
    /// # Errors
    ///
    /// The daemon is not running, or this process is not root.
    pub fn fd_count(&self) -> Result<usize> {
        Ok(fs::read_dir(format!("/proc/{}/fd", self.process_id()))?.count())
    }

    /// The number of threads.
    ///
    /// # Errors
    ///
    /// It is not running.
    pub fn thread_count(&self) -> Result<usize> {
        Ok(fs::read_dir(format!("/proc/{}/task", self.process_id()))?.count())
    }

    /// Resident memory in bytes: VmRSS of proc_pid_status(5).
    ///
    /// # Errors
    ///
    /// It is not running.
    pub fn rss_bytes(&self) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process_id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS: it has ended")?;
        let kibibytes: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
        Ok(kibibytes * 1024)
    }
}

/// Whether a socket in the network namespace of this thread listens on the port.
fn listens(port: u16) -> bool {
    // proc_net(5): number, local address, remote address, state; 0A is LISTEN.
    let is_listener = |line: &str| {
        let mut columns = line.split_whitespace().skip(1);
        let is_here = columns.next().is_some_and(|local| local.ends_with(&format!(":{port:04X}")));
        is_here && columns.nth(1) == Some("0A")
    };
    let tables = ["tcp", "tcp6"].iter().map(|table| fs::read_to_string(format!("/proc/thread-self/net/{table}")));
    // Without IPv6 there is no second one.
    tables.flatten().any(|table| table.lines().any(is_listener))
}

fn fill_in(configuration: &str, port: u16, metrics_port: u16, io: &str) -> String {
    let text = configuration.replace(LISTEN_PORT, &port.to_string());
    text.replace(METRICS_PORT, &metrics_port.to_string()).replace(IO, io)
}

/// A port of 127.0.0.1, reserved until drop.
///
/// The workers of the daemon share its port (`SO_REUSEPORT`, socket(7)). Two daemons with the same port would therefore both
/// start, and each would get some of the other's connections. This socket is bound, so the kernel gives the port to no other, and
/// it does not listen, so it gets no connection.
#[derive(Debug)]
struct ReservedPort {
    number: u16,
    _socket: Option<OwnedFd>,
}

impl ReservedPort {
    fn new() -> Result<Self> {
        let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        sockopt::set_socket_reuseport(&socket, true)?;
        rustix::net::bind(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0))?;
        let number = SocketAddrV4::try_from(rustix::net::getsockname(&socket)?)?.port();
        Ok(Self { number, _socket: Some(socket) })
    }

    fn held_elsewhere(number: u16) -> Self {
        Self { number, _socket: None }
    }
}

/// A port of 127.0.0.1 that was free a moment ago. If another process takes it first, the server that is given it
/// fails to start.
///
/// # Errors
///
/// A system call fails.
pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

#[cfg(test)]
mod tests;
