//! The daemon under test: the real binary, as a child process, on free ports.
//!
//! Knows of it what an operator knows: command line, file, log, metrics, signals and /proc.

use std::ffi::OsString;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
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

pub use rustix::process::Signal;

/// Names the I/O backend under test: `io_uring`, `io_uring_direct`, `epoll`, or nothing for `auto`.
pub const IO_VARIABLE: &str = "HOOKGATE_TEST_IO";

/// How long the daemon may take until it accepts.
const START_LIMIT: Duration = Duration::from_secs(20);

/// After which a daemon that says nothing is tried by connecting to it.
const SILENT_LIMIT: Duration = Duration::from_secs(3);

/// How long the last words of a daemon that ended may take through the pipe.
const LAST_WORDS_LIMIT: Duration = Duration::from_secs(1);

/// How often another process is asked for what it does not tell by itself.
const POLL: Duration = Duration::from_millis(5);

/// Attempts with other ports where somebody took one between choosing and binding it.
const ATTEMPTS: usize = 5;

/// Becomes the daemon, `$0`, after it has moved standard input, and standard output where there is `$SECOND`, to the places where
/// sockets are handed over (sd_listen_fds(3)): LISTEN_PID must be the process's own.
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
    /// The port to accept on, where somebody holds it already, as who hands sockets over does; else a free one.
    pub port: Option<u16>,
    /// Sockets handed over, with their names: at most two.
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
    /// The binary with its standard input and output, behind [`HAND_OVER`] where sockets are handed over. They travel as standard
    /// input and output, so that no child of a test that runs meanwhile inherits them.
    fn command(&self) -> Result<Command> {
        let mut command = Command::new(&self.binary);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let Some((_, first)) = self.handed_over.first() else { return Ok(command) };
        ensure!(self.handed_over.len() <= 2, "no way to hand over more than two sockets");
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

/// A running daemon; killed and reaped when dropped.
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
    /// Writes `configuration`, with its placeholders replaced, to a file, starts the daemon with it, and returns when the
    /// daemon says that it is ready.
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
        // Colours would stand between the words that tests look for.
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
            // A plain connect disturbs the counters, so it is only for a daemon that does not say when it is ready.
            if waited > SILENT_LIMIT && TcpStream::connect(self.address()).is_ok() {
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

    /// Where it accepts.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port()).into()
    }

    /// Where its metrics are.
    pub fn metrics_address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.metrics_port).into()
    }

    /// Its process id.
    pub fn process_id(&self) -> u32 {
        self.child.0.id()
    }

    /// The directory that holds its configuration file, and that is removed with it.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The configuration file.
    pub fn configuration_path(&self) -> PathBuf {
        self.directory.path().join("hookgate.toml")
    }

    /// Replaces the configuration file, with the same ports in the place of the placeholders; send SIGHUP afterwards.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub fn write_configuration(&self, configuration: &str) -> Result<()> {
        fs::write(self.configuration_path(), fill_in(configuration, self.port(), self.metrics_port, &self.io))?;
        Ok(())
    }

    /// curl, to send requests for `host` here, trusting our server root.
    pub fn curl(&self, host: &str, pki: &Pki) -> Curl {
        Curl::new(host, self.port()).trusting(pki.server_root().path())
    }

    /// `s_client`, to connect here with this server name, trusting our server root.
    pub fn openssl(&self, server_name: &str, pki: &Pki) -> OpenSsl {
        OpenSsl::new(server_name, self.port()).trusting(pki.server_root().path())
    }

    /// Everything that it wrote to stderr so far.
    pub fn log(&self) -> String {
        self.log.inspect(|bytes| String::from_utf8_lossy(bytes).into_owned())
    }

    /// Waits until the log holds `text`, which may be there already.
    ///
    /// # Errors
    ///
    /// It does not within `limit`; the log is in the message.
    pub fn wait_log(&self, text: &str, limit: Duration) -> Result<()> {
        let deadline = Instant::now() + limit;
        while !self.log().contains(text) {
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

    /// Scrapes, and sums as [`Metrics::sum`].
    ///
    /// # Errors
    ///
    /// The endpoint does not answer with samples.
    pub fn metric(&self, name: &str, labels: &[(&str, &str)]) -> Result<f64> {
        Ok(self.metrics()?.sum(name, labels))
    }

    /// Waits until the sum is at least `least`: metrics are written after the answer that a client sees.
    ///
    /// # Errors
    ///
    /// It is not within `limit`; the last sum is named.
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
    /// It has been reaped already.
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

    /// Open file descriptors. Only root may ask the daemon, which hides its memory and with it the rest of `/proc/PID`.
    ///
    /// # Errors
    ///
    /// It is not running, or not for us to see.
    pub fn fd_count(&self) -> Result<usize> {
        Ok(fs::read_dir(format!("/proc/{}/fd", self.process_id()))?.count())
    }

    /// Threads.
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

fn fill_in(configuration: &str, port: u16, metrics_port: u16, io: &str) -> String {
    let text = configuration.replace(LISTEN_PORT, &port.to_string());
    text.replace(METRICS_PORT, &metrics_port.to_string()).replace(IO, io)
}

/// A port of 127.0.0.1 that nobody else is given while this lives.
///
/// The daemon shares its port among its workers (`SO_REUSEPORT`, socket(7)), so two daemons that were given the same port
/// would not fail to start: each would get some of the other's connections. The socket here is bound, which keeps the kernel
/// from giving the port away, and does not listen, so it gets none.
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

/// A port of 127.0.0.1 that was free a moment ago; the daemon does not share it, so its start fails where somebody was faster.
fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

#[cfg(test)]
mod tests;
