//! `cargo xtask setup`: the programs and libraries that a command needs beside Rust.
//!
//! Owns the list, with the package names and the commands that need each. As root on a system with apt-get, a command installs what it needs
//! and nothing else; otherwise it prints what to install, and stops. Must not upgrade a package.

mod apt;
#[cfg(test)]
mod tests;
pub(crate) mod trixie;

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Result, bail, ensure};
use clap::ValueEnum;

use crate::command::{self, cargo_path, is_installed};

pub(crate) use apt::install as apt_install;

/// A command of xtask that needs more than Rust.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Task {
    Bench,
    Check,
    Count,
    Demo,
    Dist,
    Flood,
    Image,
    Kubernetes,
    Test,
    Units,
}

use Task::{Bench, Check, Count, Demo, Dist, Flood, Image, Kubernetes, Test, Units};

/// One thing that is needed.
struct Need {
    /// What it is, and its purpose.
    what: &'static str,
    /// The commands that run it, or build with it.
    tasks: &'static [Task],
    /// The commands that do so as root only.
    root_tasks: &'static [Task],
    is_there: fn() -> bool,
    debian: &'static [&'static str],
    fedora: &'static str,
    arch: &'static str,
}

/// The commands that compile the daemon.
const BUILDING: &[Task] = &[Bench, Check, Count, Demo, Dist, Flood, Image, Test];

const NEEDS: &[Need] = &[
    Need {
        what: "a C compiler (compiles ring, and links)",
        tasks: BUILDING,
        root_tasks: &[],
        is_there: || is_installed("cc"),
        debian: &["gcc", "libc6-dev"],
        fedora: "gcc",
        arch: "gcc",
    },
    Need {
        what: "pkg-config (finds libsystemd)",
        tasks: BUILDING,
        root_tasks: &[],
        is_there: || is_installed("pkg-config"),
        debian: &["pkg-config"],
        fedora: "pkgconf-pkg-config",
        arch: "pkgconf",
    },
    Need {
        what: "libsystemd's headers (the daemon talks to its service manager)",
        tasks: BUILDING,
        root_tasks: &[],
        is_there: || succeeds(Command::new("pkg-config").args(["--exists", "libsystemd"])),
        debian: &["libsystemd-dev"],
        fedora: "systemd-devel",
        arch: "systemd-libs",
    },
    Need {
        what: "openssl (makes RSA keys, and is a client in tests)",
        tasks: &[Check, Demo, Test],
        root_tasks: &[],
        is_there: || is_installed("openssl"),
        debian: &["openssl"],
        fedora: "openssl",
        arch: "openssl",
    },
    Need {
        what: "curl (a client in tests and demo)",
        tasks: &[Check, Demo, Test],
        root_tasks: &[],
        is_there: || is_installed("curl"),
        debian: &["curl"],
        fedora: "curl",
        arch: "curl",
    },
    Need {
        what: "nginx (a receiver that hookgate probe looks at in tests)",
        tasks: &[Test],
        root_tasks: &[],
        is_there: || is_installed("nginx"),
        debian: &["nginx-light"],
        fedora: "nginx",
        arch: "nginx",
    },
    Need {
        what: "prometheus and promtool (scrape the gateway, and test alerts and dashboard)",
        tasks: &[Test],
        root_tasks: &[],
        is_there: || is_installed("prometheus") && is_installed("promtool"),
        debian: &["prometheus"],
        fedora: "golang-github-prometheus",
        arch: "prometheus",
    },
    Need {
        what: "gunicorn (runs a handler of the documentation in tests)",
        tasks: &[Test],
        root_tasks: &[],
        is_there: || is_installed("gunicorn"),
        debian: &["gunicorn"],
        fedora: "python3-gunicorn",
        arch: "gunicorn",
    },
    Need {
        what: "uvicorn (runs another)",
        tasks: &[Test],
        root_tasks: &[],
        is_there: || is_installed("uvicorn"),
        debian: &["uvicorn"],
        fedora: "python3-uvicorn",
        arch: "uvicorn",
    },
    Need {
        what: "ip (makes the network namespaces in which the filter runs)",
        tasks: &[],
        root_tasks: &[Demo, Flood, Test],
        is_there: || is_installed("ip"),
        debian: &["iproute2"],
        fedora: "iproute",
        arch: "iproute2",
    },
    Need {
        what: "valgrind (counts the instructions of the micro-benchmarks)",
        tasks: &[Count, Test],
        root_tasks: &[],
        is_there: || is_installed("valgrind"),
        debian: &["valgrind"],
        fedora: "valgrind",
        arch: "valgrind",
    },
    Need {
        what: "systemd-analyze (checks the units)",
        tasks: &[Test, Units],
        root_tasks: &[],
        is_there: || is_installed("systemd-analyze"),
        debian: &["systemd"],
        fedora: "systemd",
        arch: "systemd",
    },
    Need {
        what: "python3 with venv (runs the validator of the manifests for Kubernetes)",
        tasks: &[Kubernetes, Test],
        root_tasks: &[],
        is_there: || succeeds(Command::new("python3").args(["-c", "import ensurepip, venv"])),
        debian: &["python3-venv"],
        fedora: "python3",
        arch: "python",
    },
    Need {
        what: "dpkg-deb (builds the package)",
        tasks: &[Dist],
        root_tasks: &[Test],
        is_there: || is_installed("dpkg-deb"),
        debian: &["dpkg"],
        fedora: "dpkg",
        arch: "dpkg",
    },
    Need {
        what: "systemd-nspawn (boots the container in which the service is tested)",
        tasks: &[],
        root_tasks: &[Test],
        is_there: || is_installed("systemd-nspawn"),
        debian: &["systemd-container"],
        fedora: "systemd-container",
        arch: "systemd",
    },
    Need {
        what: "mmdebstrap (makes the root file system of that container, and of the image)",
        tasks: &[Image],
        root_tasks: &[Test],
        is_there: || is_installed("mmdebstrap"),
        debian: &["mmdebstrap"],
        fedora: "mmdebstrap",
        arch: "mmdebstrap",
    },
    Need {
        what: "sqlite3 (reads the stored deliveries beside the daemon, as documented)",
        tasks: &[Test],
        root_tasks: &[],
        is_there: || is_installed("sqlite3"),
        debian: &["sqlite3"],
        fedora: "sqlite",
        arch: "sqlite",
    },
    Need {
        what: "script (a terminal, on which a test runs hookgate deliveries)",
        tasks: &[Test],
        root_tasks: &[],
        is_there: || is_installed("script"),
        debian: &["bsdutils"],
        fedora: "util-linux-script",
        arch: "util-linux",
    },
    Need {
        what: "nats-server (hosts share the memory of deliveries over it)",
        tasks: &[Test],
        root_tasks: &[],
        is_there: || is_installed("nats-server"),
        debian: &["nats-server"],
        fedora: "nats-server",
        arch: "nats-server",
    },
    Need {
        what: "pebble and pebble-challtestsrv (an authority that certificates are asked of, and its name server)",
        tasks: &[Test],
        root_tasks: &[],
        is_there: || is_installed("pebble") && is_installed("pebble-challtestsrv"),
        debian: &["pebble"],
        fedora: "pebble",
        arch: "pebble",
    },
    Need {
        what: "crun (runs the container image)",
        tasks: &[],
        root_tasks: &[Test],
        is_there: || is_installed("crun"),
        debian: &["crun"],
        fedora: "crun",
        arch: "crun",
    },
    Need {
        what: "skopeo (reads the file of the container image)",
        tasks: &[],
        root_tasks: &[Test],
        is_there: || is_installed("skopeo"),
        debian: &["skopeo"],
        fedora: "skopeo",
        arch: "skopeo",
    },
    Need {
        what: "nft (the filter is compared with nftables under a flood)",
        tasks: &[],
        root_tasks: &[Flood, Test],
        is_there: || is_installed("nft"),
        debian: &["nftables"],
        fedora: "nftables",
        arch: "nftables",
    },
    Need {
        what: "ethtool (sets up the interface that receives the flood)",
        tasks: &[],
        root_tasks: &[Flood, Test],
        is_there: || is_installed("ethtool"),
        debian: &["ethtool"],
        fedora: "ethtool",
        arch: "ethtool",
    },
];

/// Installs what commands need.
#[derive(Debug, clap::Args)]
pub(crate) struct Setup {
    /// Only what these commands need; without any, what all commands need
    #[arg(value_enum, value_name = "COMMAND")]
    tasks: Vec<Task>,
    /// Unpack servers of Debian 13 with OpenSSL 3.5 into target/trixie, for `cargo xtask bench`
    #[arg(long)]
    trixie: bool,
}

/// What `cargo xtask bench` compares with, of Debian 13.
const TRIXIE_SERVERS: [&str; 2] = ["nginx", "haproxy"];

impl Setup {
    /// Installs what is missing, or prints what to install.
    ///
    /// # Errors
    ///
    /// Something is missing and cannot be installed.
    pub(crate) fn run(&self) -> Result<()> {
        let tasks = if self.tasks.is_empty() { Task::value_variants() } else { &self.tasks };
        install(tasks)?;
        if self.trixie {
            trixie::install(&TRIXIE_SERVERS)?;
        }
        println!("Everything that is needed is installed.");
        Ok(())
    }
}

/// Installs what `tasks` need and this machine lacks. Takes a few milliseconds if nothing is missing.
///
/// # Errors
///
/// Something is missing, and this process is not root or there is no apt-get; or apt-get fails.
pub(crate) fn install(tasks: &[Task]) -> Result<()> {
    if uses_components(tasks) && !has_components() {
        ensure!(is_installed("rustup"), COMPONENTS_MISSING);
        command::run(Command::new("rustup").args(["component", "add", "rustfmt", "clippy"]))?;
    }
    if tasks.contains(&Test) {
        install_newest_clients()?;
    }
    let missing = missing(tasks);
    if missing.is_empty() {
        return Ok(());
    }
    for need in &missing {
        eprintln!("missing: {}", need.what);
    }
    if !(is_root() && is_installed("apt-get")) {
        bail!(advice(&missing));
    }
    let packages: Vec<&str> = missing.iter().flat_map(|need| need.debian.iter().copied()).collect();
    apt_install(&packages)?;
    let missing = self::missing(tasks);
    ensure!(missing.is_empty(), "still missing after the installation. {}", advice(&missing));
    Ok(())
}

/// Clients with the hybrid group of ML-KEM, unpacked beside what is installed.
fn install_newest_clients() -> Result<()> {
    if !is_installed("apt-get") {
        return Ok(());
    }
    trixie::install(newest_clients(is_recent_openssl()))
}

/// What tests need of Debian 13: Caddy, whose Go is recent enough there, and OpenSSL 3.5, unless it is installed.
fn newest_clients(has_recent_openssl: bool) -> &'static [&'static str] {
    if has_recent_openssl { &["caddy"] } else { &["openssl", "caddy"] }
}

/// Whether the installed OpenSSL is 3.5 or newer.
fn is_recent_openssl() -> bool {
    let output = Command::new("openssl").arg("version").output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    has_hybrid(&text)
}

/// Whether `openssl version` tells of 3.5 or newer.
fn has_hybrid(version: &str) -> bool {
    let number = version.split_whitespace().nth(1).unwrap_or_default();
    let mut parts = number.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0)) >= (3, 5)
}

/// Fails if this machine lacks something that `task` needs. Installs nothing.
///
/// # Errors
///
/// Names what is missing, and how to install it.
pub(crate) fn require(task: Task) -> Result<()> {
    ensure!(!uses_components(&[task]) || has_components(), COMPONENTS_MISSING);
    let missing = missing(&[task]);
    for need in &missing {
        eprintln!("missing: {}", need.what);
    }
    ensure!(missing.is_empty(), advice(&missing));
    Ok(())
}

/// What `tasks` need. An ordinary user needs nothing that root does not need.
fn needs(tasks: &[Task], is_root: bool) -> impl Iterator<Item = &'static Need> {
    let any = |of: &[Task]| of.iter().any(|task| tasks.contains(task));
    NEEDS.iter().filter(move |need| any(need.tasks) || (is_root && any(need.root_tasks)))
}

fn missing(tasks: &[Task]) -> Vec<&'static Need> {
    needs(tasks, is_root()).filter(|need| !(need.is_there)()).collect()
}

const COMPONENTS_MISSING: &str = "rustfmt or clippy is missing: run `rustup component add rustfmt clippy`, or install both the \
                                  way this machine's Rust was installed";

fn uses_components(tasks: &[Task]) -> bool {
    tasks.iter().any(|task| [Check, Test].contains(task))
}

/// rustup's minimal profile has neither rustfmt nor clippy. Both are installed beside the Cargo of their toolchain.
fn has_components() -> bool {
    let cargo = cargo_path();
    let directory = cargo.parent().unwrap_or(Path::new(""));
    let is_there = |program: &str| directory.join(program).is_file() || is_installed(program);
    is_there("cargo-fmt") && is_there("cargo-clippy")
}

fn advice(missing: &[&Need]) -> String {
    let debian = missing.iter().flat_map(|need| need.debian.iter().copied()).collect::<Vec<_>>().join(" ");
    let fedora = missing.iter().map(|need| need.fedora).collect::<Vec<_>>().join(" ");
    let arch = missing.iter().map(|need| need.arch).collect::<Vec<_>>().join(" ");
    format!(
        "Install what is missing, then run this again:\n  \
         Debian, Ubuntu: sudo apt-get install --no-upgrade --no-install-recommends {debian}\n  \
         Fedora:         sudo dnf install {fedora}\n  \
         Arch Linux:     sudo pacman -S --needed {arch}"
    )
}

fn succeeds(command: &mut Command) -> bool {
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// Whether this process may install packages, load the filter and make network namespaces: its effective user id is 0, the second
/// number of `Uid:` (proc_pid_status(5)).
pub(crate) fn is_root() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    line.and_then(|ids| ids.split_whitespace().nth(1)) == Some("0")
}
